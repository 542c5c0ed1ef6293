"""Stacked MNIST: how many of its 1,000 modes a game finds at a reduced training, beside the published.

    OMP_NUM_THREADS=1 python benchmarks/stacked_modes.py quarter-unrolled-5 --runs runs/stacked
    python benchmarks/stacked_modes.py --table

Networks of Metz et al. (2017, arXiv 1611.02163), whose discriminator has a quarter or a half of the
generator's maps, with the settings of its repetition by Lin et al. (PacGAN, 2018, arXiv 1712.04086): codes
of 256 normal numbers, Adam of 1e-4 for G and 2e-4 for D, β = (.5, .99), batch 128; 10,000 updates of the
generator where the papers have 500,000. `dcgan…` rows: DCGAN's networks at half of their usual width, codes
of 100 uniform numbers, Adam of 2e-4 (β₁ = .5), 64 packs a batch, 10,000 updates of the generator where the
paper's code makes 200,000 (two for each of the discriminator), and three stages, as 28 pixels allow, where it
has four. Unlike that code, samples are made with moving averages of batch norm. All in float32. 25,600
samples (26,000 for the `dcgan…` rows, as published), sorted into modes by the classifier of single digits;
`real` is what as many real stacks score. One JSON file a row and seed.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from game_rows import about, check_names, mean_and_error, print_table, scored, trained, write

import bestiary
from bestiary.data import singles_of
from bestiary.metrics import channel_probabilities, embedding, stacked_mode_coverage

_METZ = {
    "prior": "normal",
    "latent_dim": 256,
    "batch_norm_decay": 0.9,
    "learning_rate": 2e-4,
    "generator_learning_rate": 1e-4,
    "beta1": 0.5,
    "beta2": 0.99,
    "batch_size": 128,
}
_DCGAN = {
    "network": "dcgan",
    "channels": 32,
    "prior": "uniform",
    "latent_dim": 100,
    "batch_norm_decay": 0.9,
    "learning_rate": 2e-4,
    "beta1": 0.5,
    "batch_size": 64,
}


@dataclass(frozen=True)
class Row:
    """A model, its settings and budget, how many samples are scored, and the published modes and KL."""

    model: str
    settings: dict
    published: str = ""
    samples: int = 25_600
    budget: str = "10000 generator updates"


_METZ_TABLE = {
    ("quarter", 0): "30.6 ± 20.7 / 5.99",
    ("quarter", 1): "65.4 ± 34.8 / 5.91",
    ("quarter", 5): "236.4 ± 63.3 / 4.67",
    ("quarter", 10): "327.2 ± 74.7 / 4.66",
    ("half", 0): "628.0 ± 140.9 / 2.58",
    ("half", 1): "523.6 / 2.44",
    ("half", 5): "732.0 / 1.66",
    ("half", 10): "817.4 ± 37.9 / 1.43",
}


def _rows():
    rows = {}
    for size in ("quarter", "half"):
        own = {**_METZ, "network": f"metz-{size}"}
        rows[f"{size}-ns-gan"] = Row("ns-gan", own)
        for steps in (0, 1, 5, 10):
            settings = {**own, "game": "minimax", "unrolling_steps": steps}
            rows[f"{size}-unrolled-{steps}"] = Row("unrolled-gan", settings, _METZ_TABLE[size, steps])
        # a critic has no batch norm, and Gulrajani et al. five steps with β₂ = .9
        critic = {**own, "batch_norm": False, "beta2": 0.9, "discriminator_updates": 5}
        rows[f"{size}-wgan-gp"] = Row("wgan-gp", critic)
        rows[f"{size}-packing-2"] = Row("ns-gan", {**own, "packing": 2, "batch_size": 256})
    rows["dcgan"] = Row("ns-gan", _DCGAN, "78.9 ± 6.5 / 4.50", 26_000)
    rows["dcgan-packing-2"] = Row("ns-gan", {**_DCGAN, "packing": 2, "batch_size": 128}, "1000 / .06", 26_000)
    critic = {**_DCGAN, "batch_norm": False, "beta2": 0.9, "discriminator_updates": 5}
    rows["dcgan-wgan-gp"] = Row("wgan-gp", critic, "959 / .73", 26_000)
    return rows


ROWS = _rows()


def coverage(batches, data):
    """Modes and divergence of stacks, and the classifier's protocol."""
    classifier = embedding("classifier", data=singles_of(data))
    found = stacked_mode_coverage(
        probabilities=channel_probabilities(batches, classifier), embedding=classifier.protocol
    )
    return {
        "modes": int(found.value),
        "modes_error": round(found.error, 2),
        "reverse_kl": scored(found.reverse_kl),
        "samples": found.n_fake,
        "protocol": found.protocol,
    }


@torch.no_grad()
def drawn(model, n, seed):
    """n samples, a batch at a time."""
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, n, 500):
        yield model.sample(min(500, n - start), generator=generator)


def run_row(name, seed, options):
    """Train a row, or go on with it, count its modes, and write its JSON file."""
    path, data = options.out / f"{name}-{seed}.json", bestiary.load_data("stacked-mnist")
    if path.exists():
        return
    if name == "real":
        found = coverage((batch.x for batch in data.test.batches(500, limit=25_600)), data)
        write(path, {"row": name, "result": found})
    else:
        row = ROWS[name]
        run = trained(row, data, options.runs / f"{name}-{seed}", seed=seed, precision="float32")
        found = {"modes": 0, "reverse_kl": None, "samples": 0}
        if run.status != "diverged":
            found = coverage(drawn(bestiary.load(run.folder), row.samples, seed), data)
        write(path, {"row": name, **about(row, run, seed), "published": row.published, "result": found})
    print(name, seed, json.dumps(found), flush=True)


def table(folder):
    """Markdown of every result there is."""
    rows = []
    for name in ["real", *ROWS]:
        seeds = [json.loads(path.read_text()) for path in sorted(folder.glob(f"{name}-[0-9].json"))]
        if seeds:
            found = [kept["result"] for kept in seeds]
            minutes = sum(kept.get("seconds", 0) for kept in seeds) / len(seeds) / 60
            rows.append(
                [
                    f"`{name}`",
                    seeds[0].get("budget", ""),
                    len(seeds),
                    mean_and_error([one["modes"] for one in found]),
                    mean_and_error([one["reverse_kl"]["value"] for one in found if one["reverse_kl"]], 3),
                    f"{minutes:.0f}",
                    seeds[0].get("published", ""),
                ]
            )
    columns = ["row", "budget", "seeds", "modes of 1,000", "KL(model‖data)", "minutes"]
    print_table([*columns, "published: modes / KL"], rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("rows", nargs="*", help=f"real, {', '.join(ROWS)}")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--runs", type=Path, default=Path("runs/stacked-modes"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/stacked-modes"))
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if options.table or not options.rows:
        table(options.out)
        return
    check_names(parser, options.rows, ["real", *ROWS])
    for name in options.rows:
        for seed in options.seeds:
            run_row(name, seed, options)


if __name__ == "__main__":
    main()
