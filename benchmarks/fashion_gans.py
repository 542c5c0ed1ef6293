"""FID of every game on Fashion-MNIST beside Table 2 of "Are GANs Created Equal?", on the original network.

    OMP_NUM_THREADS=1 python benchmarks/fashion_gans.py --pilot ns-gan      # once: settings, on validation
    OMP_NUM_THREADS=1 python benchmarks/fashion_gans.py ns-gan --runs runs/fashion-gans
    python benchmarks/fashion_gans.py --table

The protocol of Lucic et al. (2018, arXiv 1711.10337): its InfoGAN networks at full width, batch 64, 15,625
updates of the discriminator (the table says which rows have 5,000), the FID of 10,000 samples to the 10,000
test images. Settings lie inside its narrow ranges: learning rate 1e-4 to 1e-3, β₁ = .5, one update of D to
one of G, batch norm in D or not (never with a gradient penalty), clipping at .01 to 1, λ from .1 to 10, γ
from .6 to .9; WGAN has Adam, as in the study. The paper takes the best of 50 draws by test FID and gives mean
and deviation of 50 repetitions; here `--pilot` tries the few settings of a row for 1,000 updates each, scores
5,000 samples against validation images on EfficientNet-Lite0, and the row takes the best, for one seed: test
images are looked at once a row. Costs are those of each model's paper, where the study's code has its own
of LSGAN, DRAGAN, WGAN-GP and BEGAN (`departures=lucic`). The VAE has batch norm in its decoder, as theirs, or
in both networks. Features are kept below `--runs`, a thousand images at a time, so that a scoring that was
killed goes on too. One JSON file a row, with a grid of samples.
"""

import argparse
import hashlib
import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from game_rows import about, check_names, number, print_table, scored, trained, write

import bestiary
from bestiary.data.splits import ArraySplit
from bestiary.metrics import embedding, frechet_distance
from bestiary.metrics.embeddings import cached_features
from bestiary.runs.pictures import image_grid

NETWORK, PART = "inception-2015-12-05", 1000
PILOT_NETWORK, PILOT_BUDGET, PILOT_N = "efficientnet-lite0", "1000 discriminator updates", 5000
FULL, SHORT = "15625 discriminator updates", "5000 discriminator updates"

_GAN = {
    "network": "infogan",
    "channels": 64,
    "optimizer": "adam",
    "beta1": 0.5,
    "beta2": 0.999,
    "batch_size": 64,
    "discriminator_updates": 1,
}
_VAE = {
    "network": "infogan",
    "channels": 64,
    "latent_dim": 64,
    "likelihood": "bernoulli",
    "optimizer": "adam",
    "beta1": 0.5,
    "batch_size": 64,
}


@dataclass(frozen=True)
class Row:
    """A model, its fixed settings, those that the pilot chooses from, budget, and the published FID.

    Attributes:
        tried: of the pilot; the first is taken where there was none.
    """

    model: str
    budget: str
    published: str
    tried: tuple
    settings: dict


def _with(name, *tried):
    return tuple({"learning_rate": rate, name: value} for rate, value in tried)


_BATCH_NORM = _with("batch_norm", (2e-4, True), (1e-3, True), (2e-4, False))
_CLIP = _with("clip", (2e-4, 0.05), (1e-3, 0.05), (2e-4, 0.01), (1e-3, 0.1))
_PENALTY = _with("penalty_weight", (2e-4, 1.0), (2e-4, 10.0), (1e-3, 1.0))

ROWS = {
    "ns-gan": Row("ns-gan", FULL, "26.5 ± 1.6", _BATCH_NORM, _GAN),
    "wgan": Row("wgan", FULL, "21.5 ± 1.6", _CLIP, _GAN),
    "dragan": Row("dragan", FULL, "27.7 ± 1.2", _PENALTY, {**_GAN, "batch_norm": False}),
    "vae": Row("vae", FULL.replace("discriminator", "model"), "58.7 ± 1.2",
               _with("batch_norm", (1e-3, "decoder"), (3e-4, "decoder"), (1e-3, "both")), _VAE),
    "wgan-gp": Row("wgan-gp", SHORT, "24.5 ± 2.1", _PENALTY, {**_GAN, "batch_norm": False}),
    "began": Row("began", SHORT, "22.9 ± 0.9",
                 _with("diversity_ratio", (2e-4, 0.75), (1e-3, 0.75), (2e-4, 0.9)),
                 {**_GAN, "balance_rate": 1e-3}),
    "lsgan": Row("lsgan", SHORT, "30.7 ± 2.2", _BATCH_NORM, _GAN),
    "minimax-gan": Row("minimax-gan", SHORT, "29.6 ± 1.6", _BATCH_NORM, _GAN),
    "ml-gan": Row("ml-gan", SHORT, "", _BATCH_NORM, _GAN),
}  # fmt: skip


def features(images, network, folder):
    """Of images (n, C, H, W), a thousand at a time, so that what was computed is never lost."""
    parts = []
    for part in images.split(PART):
        digest = hashlib.sha256(part.contiguous().numpy().tobytes()).hexdigest()
        split = ArraySplit(part, levels=None)
        parts.append(cached_features(network, split, n=len(part), fingerprint=digest, part="", cache=folder))
    return torch.cat(parts)


@torch.no_grad()
def distance(model, data, split, network, n, folder):
    """Fréchet distance of n samples to the first n images of a split, and the samples."""
    generator = torch.Generator().manual_seed(0)
    samples = torch.cat([model.sample(500, generator=generator) for _ in range(n // 500)])
    real = features(getattr(data, split)[:n].x, network, folder)
    fake = features(samples, network, folder)
    return frechet_distance(real=real, fake=fake, embedding=network.protocol), samples


def pilot(name, data, options):
    """Try the settings of a row on the validation split, a few that are not in its file yet."""
    row, path = ROWS[name], options.out / "pilot" / f"{name}.json"
    kept = json.loads(path.read_text()) if path.exists() else {"row": name, "tried": []}
    network, folder = embedding(PILOT_NETWORK), options.runs / "features"
    for i, chosen in enumerate(row.tried):
        if i < len(kept["tried"]):
            continue
        # moving averages of the paper's decay would still know their start after so few updates
        budget = options.pilot_budget.replace(
            "discriminator", "model" if row.model == "vae" else "discriminator"
        )
        trial = replace(row, budget=budget, settings={**row.settings, "batch_norm_decay": 0.99, **chosen})
        run = trained(
            trial, data, options.runs / "pilot" / f"{name}-{i}", seed=100, precision=options.precision
        )
        found, protocol = None, ""
        if run.status != "diverged":
            score, _ = distance(bestiary.load(run.folder), data, "validation", network, PILOT_N, folder)
            found, protocol = scored(score, 3), score.protocol
        kept["tried"].append(
            {"chosen": chosen, "frechet": found, "protocol": protocol, **about(trial, run, 100)}
        )
        write(path, kept)
        print(name, chosen, found, flush=True)


def chosen_settings(name, folder):
    """The best of a row's pilot, or the first where there was none, and which of the two."""
    path = folder / "pilot" / f"{name}.json"
    tried = json.loads(path.read_text())["tried"] if path.exists() else []
    if 0 < len(tried) < len(ROWS[name].tried):
        sys.exit(
            f"{path}: {len(tried)} of {len(ROWS[name].tried)} settings tried: finish --pilot {name} first"
        )
    finished = [trial for trial in tried if trial["frechet"]]
    if not finished:
        return ROWS[name].tried[0], "no pilot: the first of those to try"
    best = min(finished, key=lambda trial: trial["frechet"]["value"])
    return best["chosen"], f"best of {len(tried)} by pilot of {best['budget']}"


def run_row(name, data, options):
    """Train a row, or go on with it, score it on the test split, and write its JSON file and picture."""
    path = options.out / f"{name}-{options.seed}.json"
    if path.exists():
        return
    chosen, how = chosen_settings(name, options.out)
    row = ROWS[name]
    budget = options.budget or row.budget
    row = replace(row, budget=budget, settings={**row.settings, **chosen})
    run = trained(
        row, data, options.runs / f"{name}-{options.seed}", seed=options.seed, precision=options.precision
    )
    kept = {**about(row, run, options.seed), "chosen": how, "published": row.published}
    begin = time.monotonic()
    if run.status != "diverged":
        score, samples = distance(
            bestiary.load(run.folder), data, "test", embedding(NETWORK), options.n, options.runs / "features"
        )
        kept |= {"fid": number(score.value, 2), "error": number(score.error, 2), "protocol": score.protocol}
        options.out.mkdir(parents=True, exist_ok=True)
        image_grid(samples[:64]).save(options.out / f"{name}-{options.seed}.png")
    write(path, {**kept, "evaluation_seconds": round(time.monotonic() - begin)})
    print(name, {key: kept.get(key) for key in ("fid", "error", "seconds")}, flush=True)


def floor(data, options):
    """What as many real training images score against the test images."""
    path = options.out / "real.json"
    if not path.exists():
        network = embedding(NETWORK)
        real, other = (
            features(part[: options.n].x, network, options.runs / "features")
            for part in (data.test, data.train)
        )
        score = frechet_distance(real=real, fake=other, embedding=network.protocol)
        write(
            path, {"fid": number(score.value, 2), "error": number(score.error, 2), "protocol": score.protocol}
        )
    print("real", path.read_text(), flush=True)


def table(folder):
    """Markdown of every result there is."""
    rows = []
    real = folder / "real.json"
    if real.exists():
        kept = json.loads(real.read_text())
        rows.append(["training images", "", "", "", f"{kept['fid']:.1f} ± {kept['error']:.1f}", "", ""])
    for name, row in ROWS.items():
        for path in sorted(folder.glob(f"{name}-[0-9].json")):
            kept = json.loads(path.read_text())
            fid = f"{kept['fid']:.1f} ± {kept['error']:.1f}" if "fid" in kept else kept["reason"]
            own = ", ".join(f"{key} {kept['settings'][key]}" for key in row.tried[0])
            minutes = f"{kept['seconds'] / 60:.0f}"
            precision = kept["hardware"]["precision"]
            rows.append([f"`{name}`", kept["budget"], precision, own, fid, minutes, row.published])
    print_table(
        ["model", "budget", "precision", "settings", "FID", "minutes", "published, best of 50 draws"], rows
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("rows", nargs="*", help=f"real, {', '.join(ROWS)}")
    parser.add_argument("--pilot", action="store_true", help="try settings on the validation split")
    parser.add_argument("--pilot-budget", default=PILOT_BUDGET, help="of each setting that is tried")
    parser.add_argument("--budget", help="another than the row's, as '5000 discriminator updates'")
    parser.add_argument("--n", type=int, default=10_000, help="samples and images, a multiple of 500")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--precision", default="auto", help="of training: float32, bfloat16, or what is faster"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/fashion-gans"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/fashion-gans"))
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if options.table or not options.rows:
        table(options.out)
        return
    check_names(parser, options.rows, ["real", *ROWS])
    data = bestiary.load_data("fashion-mnist")
    for name in options.rows:
        if name == "real":
            floor(data, options)
        elif options.pilot:
            pilot(name, data, options)
        else:
            run_row(name, data, options)


if __name__ == "__main__":
    main()
