"""Modes and high-quality share of every game on the ring and the grid, beside the published tables.

    OMP_NUM_THREADS=1 python benchmarks/gaussian_modes.py ring ns-gan wgan-gp --seeds 0 1 2 3 4
    python benchmarks/gaussian_modes.py --table

Three protocols. GAMES: networks of 2 × 128 units, batch 256, 20,000 updates of the generator, on the ring
of radius 2 and σ .02 and on the grid of σ .05; the same settings for all games but for what makes each of
them, found by pilot runs of a few thousand rounds with other seeds. PACGAN (Lin et al., 2018, arXiv
1712.04086): the paper's networks, ring of radius 1 and σ .01, 100,000 points, 1,000 batches of 100 packs an
epoch, 400 epochs; `--epochs` takes fewer, and the row's name says so. UNROLLING (Metz et al., 2017, arXiv
1611.02163): on the ring, networks of 2 × 128, codes of 256, with and without the gradient through the inner
steps.

2,500 samples; one is of quality within 3σ of the nearest mode, and a mode is found by one sample of quality
(VEEGAN, 2017, arXiv 1705.07761). They are scored at each quarter of the training, since modes come and go.
One JSON file for each data set, row and seed. A training that diverged counts as no modes.
"""

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from game_rows import about, check_names, mean_and_error, number, print_table, trained, write

import bestiary
from bestiary.data import grid_centres, ring_centres
from bestiary.metrics import mode_coverage

SAMPLES = 2500
QUARTERS = (0.25, 0.5, 0.75, 1.0)

GAMES = {
    "prior": "normal",
    "latent_dim": 2,
    "hidden": [128, 128],
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "beta1": 0.5,
    "batch_size": 256,
}
# a code of two numbers would copy every point of the plane, sample or not; BEGAN's law of codes is uniform
_BEGAN = {**{key: value for key, value in GAMES.items() if key != "prior"}, "latent_dim": 1}
# RMSProp as Arjovsky et al.; networks as small as these want more than their learning rate and clipping
_WGAN = {
    **{key: value for key, value in GAMES.items() if key != "beta1"},
    "optimizer": "rmsprop",
    "learning_rate": 5e-4,
    "clip": 0.1,
    "discriminator_updates": 5,
}
# λ of the toys of Gulrajani et al.'s code: with 10 neither critic can be as steep as modes this narrow ask
_DRAGAN = {**GAMES, "penalty_weight": 0.1}
_WGAN_GP = {**GAMES, "beta2": 0.9, "penalty_weight": 0.1, "discriminator_updates": 5}
PACGAN = {
    "network": "maxout",
    "prior": "normal",
    "latent_dim": 2,
    "optimizer": "adam",
    "learning_rate": 1e-4,
    "beta1": 0.8,
}
UNROLLING = {
    "game": "minimax",
    "prior": "normal",
    "latent_dim": 256,
    "hidden": [128, 128],
    "learning_rate": 1e-4,
    "generator_learning_rate": 1e-3,
    "beta1": 0.5,
    "batch_size": 512,
}


@dataclass(frozen=True)
class Row:
    """A model, its settings and budget, how wide the data's modes are, and what is published.

    Attributes:
        ring: options of the data set; the grid has but one form.
        published: modes, high-quality share in % and KL(model‖data), by data set.
        shown: at which shares of the budget the table shows it.
    """

    model: str
    settings: dict
    published: dict
    budget: str = "20000 generator updates"
    ring: tuple = (2.0, 0.02)
    only: tuple = ("ring", "grid")
    shown: tuple = (1.0,)


_GAN = {
    "ring": "VEEGAN's table: 1 / 99.3; PacGAN's: 6.3 ± .5 / 98.2 / .45",
    "grid": "VEEGAN's table: 3.3 / .5; PacGAN's: 17.3 ± .8 / 94.8 / .70",
}
_UNROLLED = {"ring": "VEEGAN's table: 7.6 / 35.6", "grid": "VEEGAN's table: 23.6 / 16"}
_PACKING = {
    1: {"ring": "6.3 ± .5 / 98.2 / .45", "grid": "17.3 ± .8 / 94.8 / .70"},
    2: {"ring": "7.9 ± .1 / 95.6 / .07", "grid": "23.8 ± .7"},
    3: {"ring": "7.8", "grid": "24.6 ± .4"},
    4: {"ring": "7.8", "grid": "24.8 ± .2 / 93.6 / .04"},
}


def _games():
    rows = {
        "minimax-gan": Row("minimax-gan", GAMES, {}),
        "ns-gan": Row("ns-gan", GAMES, _GAN),
        "ml-gan": Row("ml-gan", GAMES, {}),
        "lsgan": Row("lsgan", GAMES, {}),
        "wgan": Row("wgan", _WGAN, {}),
        "wgan-gp": Row("wgan-gp", _WGAN_GP, {}),
        "dragan": Row("dragan", _DRAGAN, {}),
        "began": Row("began", _BEGAN, {}),
        "unrolled-gan": Row("unrolled-gan", {**GAMES, "unrolling_steps": 5}, _UNROLLED),
    }
    for packing in (2, 3, 4):
        # a multiple of the packing that is nearest to the others' batch
        size = 256 if packing != 3 else 255
        settings = {**GAMES, "packing": packing, "batch_size": size}
        published = {name: f"PacGAN's table: {found}" for name, found in _PACKING[packing].items()}
        rows[f"packing-{packing}"] = Row("ns-gan", settings, published)
    return rows


def _pacgan(packing, epochs):
    # the paper's batch is of 100 packs, and its epoch 1,000 batches however many points are packed
    settings = {**PACGAN, "packing": packing, "batch_size": 100 * packing}
    return Row("ns-gan", settings, _PACKING[packing], f"{1000 * epochs} rounds", ring=(1.0, 0.01))


def _unrolling(steps, published, **more):
    return Row(
        "unrolled-gan",
        {**UNROLLING, "unrolling_steps": steps, **more},
        {"ring": published},
        "3000 rounds",
        only=("ring",),
        shown=(1.0,),
    )


def all_rows(epochs=400):
    """Every row by its name, with those of PacGAN's protocol at so many epochs."""
    suffix = "" if epochs == 400 else f"-{epochs}-epochs"
    return {
        **_games(),
        **{f"pacgan-{packing}{suffix}": _pacgan(packing, epochs) for packing in (1, 2, 3, 4)},
        "unrolling-0": _unrolling(0, "the paper's figure: one mode, another one each time"),
        "unrolling-10": _unrolling(10, "the paper's figure: all 8"),
        "unrolling-10-first-order": _unrolling(10, "", first_order=True),
    }


def source(name, row):
    """Data of a row, the centres of their modes and their σ."""
    endless = row.settings.get("network") != "maxout"
    size = None if endless else 100_000
    if name == "grid":
        return bestiary.load_data("grid", size=size), grid_centres(), 0.05
    radius, sigma = row.ring
    data = bestiary.load_data("ring", radius=radius, sigma=sigma, size=size)
    return data, ring_centres(radius=radius), sigma


@torch.no_grad()
def coverage(model, centres, sigma, seed):
    """What 2,500 samples cover."""
    samples = model.sample(SAMPLES, generator=torch.Generator().manual_seed(seed))
    found = mode_coverage(fake=samples, centres=centres, sigma=sigma)
    return {
        "modes": int(found.value),
        "quality": number(found.quality.value),
        "reverse_kl": number(found.reverse_kl.value),
    }


def run_row(name, key, row, seed, options):
    """Train a row up to each quarter, or go on with it, and write what it covers by then."""
    path = options.out / f"{name}-{key}-{seed}.json"
    kept = json.loads(path.read_text()) if path.exists() else {"data": name, "row": key, "scores": {}}
    data, centres, sigma = source(name, row)
    for share in QUARTERS:
        if str(share) in kept["scores"]:
            continue
        run = trained(
            row, data, options.runs / f"{name}-{key}-{seed}", seed=seed, precision="float32", until=share
        )
        if share < 1 and run.status == "finished":  # trained on before it was scored: this quarter is gone
            continue
        if run.status == "diverged":
            found = {"modes": 0, "quality": 0.0, "reverse_kl": None}
        else:
            found = coverage(bestiary.load(run.folder), centres, sigma, seed)
        kept["scores"][str(share)] = found
        kept |= about(row, run, seed)
        write(path, kept)
        print(name, key, seed, share, found, flush=True)


def table(folder):
    """Markdown of every finished seed there is, protocol by protocol."""
    groups = {}
    for path in sorted(folder.glob("*.json")):
        kept = json.loads(path.read_text())
        if "1.0" in kept["scores"]:
            groups.setdefault((kept["data"], kept["row"], kept["budget"]), []).append(kept)
    rows = []
    for (name, key, budget), seeds in groups.items():
        full = key.split("-epochs")[0].rsplit("-", 1)[0] if key.endswith("-epochs") else key
        row = all_rows()[full]
        for share in row.shown:
            scores = [kept["scores"][str(share)] for kept in seeds]
            kl = [score["reverse_kl"] for score in scores if score["reverse_kl"] is not None]
            rows.append(
                [
                    name,
                    f"`{key}`",
                    budget if share == 1 else f"{share:g} of {budget}",
                    len(seeds),
                    mean_and_error([score["modes"] for score in scores]),
                    mean_and_error([100 * score["quality"] for score in scores]),
                    mean_and_error(kl, 2),
                    sum(kept["status"] == "diverged" for kept in seeds),
                    f"{sum(kept['seconds'] for kept in seeds) / len(seeds) / 60:.0f}",
                    row.published.get(name, ""),
                ]
            )
    columns = ["data", "row", "budget", "seeds", "modes", "high quality, %", "KL(model‖data)", "diverged"]
    print_table([*columns, "minutes", "published: modes / % / KL"], rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", nargs="?", choices=["ring", "grid"])
    parser.add_argument("rows", nargs="*", help="names of rows; without any the data's are listed")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--epochs", type=int, default=400, help="of the rows of PacGAN's protocol")
    parser.add_argument("--budget", help="another budget than the row's, to try it; use another --out too")
    parser.add_argument("--runs", type=Path, default=Path("runs/gaussian-modes"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/gaussian-modes"))
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if options.table or not options.data:
        table(options.out)
        return
    rows = {key: row for key, row in all_rows(options.epochs).items() if options.data in row.only}
    if not options.rows:
        print("\n".join(rows))
    check_names(parser, options.rows, rows)
    for key in options.rows:
        row = replace(rows[key], budget=options.budget) if options.budget else rows[key]
        for seed in options.seeds:
            run_row(options.data, key, row, seed, options)


if __name__ == "__main__":
    main()
