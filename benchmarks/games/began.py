"""BEGAN's balance: whether the controller holds E L(G(z)) at γ E L(x), what k does, and whether M falls.

    OMP_NUM_THREADS=1 python benchmarks/games/began.py
    OMP_NUM_THREADS=1 python benchmarks/games/began.py --gammas .3 .5 .7 --rates .1 --rounds 4000 --coverage

BEGAN (Berthelot et al., 2017, arXiv 1703.10717) on Fashion-MNIST with the networks of Lucic et al. (2018) at
half width, batches of 64. The ratio is that of the two means over the last quarter of the rounds, which
should be γ within 5 % while k is neither 0 nor 1. The paper's λ_k = .001 is for far longer trainings: a
larger one shows the balance in a short one. `--coverage` compares 2,000 samples with as many validation
images, of which a larger share should have a sample nearby the larger γ is. Interrupted, the same command
goes on; what is done is not done again. A round takes a quarter of a second on one core.
"""

import itertools
import sys
from pathlib import Path

import numpy as np
from experiment import command_line, plain
from figure_style import BLUE, GREEN, ORANGE, TRUE, WIDTH, panels

import bestiary
from bestiary.report.figures import INK
from bestiary.runs.json_lines import read_lines

SETTINGS = {"channels": 32, "batch_size": 64}
COLOURS = (BLUE, ORANGE, GREEN)
TERMS = {
    "k": "discriminator/k",
    "convergence": "generator/convergence",
    "data": "discriminator/copying_data",
    "samples": "generator/loss",
}


def measure(options, found, keep):
    data = bestiary.load_data("fashion-mnist")
    for gamma, rate in itertools.product(options.gammas, options.rates):
        name = f"γ={gamma:g} λ={rate:g} rounds={options.rounds} seed={options.seed}"
        if name in found:
            continue
        folder = options.runs / f"{gamma:g}-{rate:g}-{options.rounds}-{options.seed}"
        balance = {"diversity_ratio": gamma, "balance_rate": rate}
        model = bestiary.create("began", spec=data.spec, seed=options.seed, **balance, **SETTINGS)
        run = bestiary.train(
            model, data, budget=f"{options.rounds} rounds", out=folder, seed=options.seed, resume=True,
            device="cpu", precision="float32", pictures=5,
        )  # fmt: skip
        if run.status != "finished":
            sys.exit(f"{folder}: {run.status}, wanted a finished run: the same command goes on")
        lines = read_lines(folder / "log.jsonl")
        curves = {"rounds": [line["rounds"] for line in lines]}
        curves |= {term: plain([line[key] for line in lines], 5) for term, key in TERMS.items()}
        last = np.array(curves["rounds"]) > 0.75 * options.rounds
        m = np.array(curves["convergence"])
        of_samples, of_data = (float(np.mean(np.array(curves[t])[last])) for t in ("samples", "data"))
        k = np.array(curves["k"])
        found[name] = {
            "ratio": round(of_samples / of_data, 4),
            "met": bool(abs(of_samples / of_data / gamma - 1) < 0.05),
            "k_last_quarter": [round(float(f(k[last])), 4) for f in (np.min, np.max)],
            "convergence": [round(float(m[part].mean()), 5) for part in (~last, last)],
            "seconds": round(lines[-1]["seconds"]),
            "curves": curves,
        }
        if options.coverage:
            scores = bestiary.evaluate(run, data, metrics=["manifold"], n=2000, split="validation")
            found[name]["coverage"] = {
                s.protocol: [round(s.value, 4), s.error] for s in (scores["coverage"],)
            }
        keep()


def began(found):
    """The ratio of the two losses, k, and M against rounds."""
    figure, axes = panels(2.7, (0.5, 2.95, 5.4), (1.9, 1.9, 1.7), bottom=0.68)
    titles = ("E L(G(z)) / E L(x)", "k", "M")
    runs = [(name.split(), one) for name, one in found.items() if name != "about"]
    latest = runs[-1][0][1:]  # controller's rate, rounds and seed of what was run last
    runs = [(names, one) for names, one in runs if names[1:] == latest]
    for line, ((names, one), colour) in enumerate(zip(runs, COLOURS, strict=False)):
        rounds = np.array(one["curves"]["rounds"])
        ratio = np.array(one["curves"]["samples"]) / np.array(one["curves"]["data"])
        for each, values in zip(axes, (ratio, one["curves"]["k"], one["curves"]["convergence"]), strict=True):
            each.plot(rounds[1:], values[1:], color=colour, linewidth=1.2)
        axes[0].axhline(float(names[0][2:]), **TRUE)
        words = f"{names[0]}, {names[1]}".replace("=", " = ")
        figure.text((0.5 + 2.0 * line) / WIDTH, 0.1 / 2.7, f"— {words}", color=colour, fontsize=8)
    for each, title in zip(axes, titles, strict=True):
        each.set_title(title, loc="left", fontsize=8.5, color=INK, pad=8)
        each.set(xlabel="rounds", xlim=(0, None), ylim=(0, None))
    return figure


FIGURES = {began: "BEGAN's ratio of losses, its control variable and its measure of convergence over time"}
ARGUMENTS = [
    ("--gammas", {"type": float, "nargs": "+", "default": [0.5]}),
    ("--rates", {"type": float, "nargs": "+", "default": [0.001], "help": "λ_k"}),
    ("--rounds", {"type": int, "default": 1500}),
    ("--coverage", {"action": "store_true"}),
    ("--runs", {"type": Path, "default": Path("runs/began")}),
]

if __name__ == "__main__":
    command_line(__file__, __doc__, measure, FIGURES, arguments=ARGUMENTS)
