"""Modes that hop on the ring, and a generator that looks ahead: `unrolled-gan` with k = 0 and k = 10.

    OMP_NUM_THREADS=1 python benchmarks/games/unrolling.py
    OMP_NUM_THREADS=1 python benchmarks/games/unrolling.py --steps 10 --seeds 1 2 3 4 --rounds 6000

The toy of Unrolled Generative Adversarial Networks (Metz et al., 2017, arXiv 1611.02163, appendix A) with the
settings of a reproduction that tells k = 0 and k = 10 apart: radius 2, σ .02, 256 normal codes, two layers of
128 units on both sides, Adam 1e-4 (discriminator) and 1e-3 (generator) with β₁ = .5, batches of 512. Every
500 rounds modes, and the share of samples within 3σ of one, of 2,500 samples. Interrupted, the same command
goes on; what is done is not done again. Minutes on one core: about 1 for k = 0 and 8 for k = 10.
"""

import sys
from pathlib import Path

from experiment import command_line, plain, seeded
from figure_style import BLUE, ORANGE, WIDTH, bare
from matplotlib.figure import Figure

import bestiary
from bestiary.data import ring_centres
from bestiary.metrics import mode_coverage
from bestiary.report.figures import INK, MUTED

SIGMA = 0.02
SETTINGS = {
    "prior": "normal",
    "latent_dim": 256,
    "hidden": [128, 128],
    "learning_rate": 1e-4,
    "generator_learning_rate": 1e-3,
    "beta1": 0.5,
    "batch_size": 512,
}
EVERY = 500  # rounds
SHOWN = 300  # samples in a panel
SAMPLES = 2500


def training(k, seed, options, found, keep):
    """One training, with its samples looked at every few rounds."""
    data = bestiary.load_data("ring", sigma=SIGMA)
    model = bestiary.create("unrolled-gan", spec=data.spec, seed=seed, unrolling_steps=k, **SETTINGS)
    one = found.setdefault(f"k={k} seed={seed} rounds={options.rounds}", {"checks": {}})
    folder = options.runs / f"{k}-{seed}-{options.rounds}"
    for rounds in range(0, options.rounds + 1, EVERY):
        if str(rounds) in one["checks"]:
            continue
        if rounds:
            run = bestiary.train(
                model, data, budget=f"{options.rounds} rounds", out=folder, seed=seed, resume=True,
                device="cpu", precision="float32", until=rounds / options.rounds,
            )  # fmt: skip
            if run.state["clock"]["rounds"] < rounds:
                sys.exit(f"{folder}: {run.status}, wanted {rounds} rounds: the same command goes on")
        x = model.sample(SAMPLES, generator=seeded(0))
        coverage = mode_coverage(fake=x, centres=ring_centres(), sigma=SIGMA)
        one["checks"][str(rounds)] = {
            "modes": int(coverage.value),
            "quality": round(coverage.quality.value, 4),
            "counts": list(coverage.counts),
            "samples": plain(x[:SHOWN], 2),
        }
        print(k, seed, rounds, coverage.value, coverage.quality.value, flush=True)
        keep()


def measure(options, found, keep):
    for seed in options.seeds:
        for k in options.steps:
            training(k, seed, options, found, keep)


def unrolling(found):
    """A film strip: rows are k, columns are rounds."""
    runs = {}
    for name, one in found.items():
        if name != "about":
            runs.setdefault(name.split()[0], one["checks"])  # the first seed of each
    side, left, top = 0.86, 0.72, 0.36
    height = top + 1.26 * len(runs) + 0.12
    figure = Figure(figsize=(WIDTH, height), dpi=200)
    centres = ring_centres()
    times = sorted({int(t) for checks in runs.values() for t in checks})[:7]
    for line, ((name, checks), colour) in enumerate(zip(runs.items(), (ORANGE, BLUE), strict=False)):
        above = top + 1.26 * line
        figure.text(
            0.62 / WIDTH, 1 - (above + side / 2) / height, name.replace("=", " = "), ha="right", color=colour
        )
        for column, rounds in enumerate(times):
            x = left + 0.92 * column
            axes = figure.add_axes((x / WIDTH, 1 - (above + side) / height, side / WIDTH, side / height))
            axes.scatter(*centres.T, s=14, facecolors="none", edgecolors=MUTED, linewidths=0.6)
            one = checks.get(str(rounds))
            if one:
                points = {"s": 1.5, "color": colour, "linewidths": 0, "rasterized": True}
                axes.scatter(*zip(*one["samples"], strict=True), **points)
                words = f"{one['modes']} of 8, {100 * one['quality']:.0f} %"
                axes.text(0, -3.3, words, ha="center", va="center", fontsize=7, color=MUTED)
            axes.set(xlim=(-2.9, 2.9), ylim=(-2.9, 2.9))
            bare(axes)
            if not line:
                axes.set_title("round 0" if not rounds else f"{rounds:,}", fontsize=8, color=INK, pad=4)
    return figure


FIGURES = {
    unrolling: "Samples of unrolled-gan over time on a ring of eight Gaussians, for k = 0 and k = 10",
}
ARGUMENTS = [
    ("--steps", {"type": int, "nargs": "+", "default": [0, 10], "help": "k"}),
    ("--seeds", {"type": int, "nargs": "+", "default": [0]}),
    ("--rounds", {"type": int, "default": 3000, "help": "a multiple of 500"}),
    ("--runs", {"type": Path, "default": Path("runs/unrolling")}),
]

if __name__ == "__main__":
    command_line(__file__, __doc__, measure, FIGURES, arguments=ARGUMENTS)
