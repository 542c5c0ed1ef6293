"""Gradient penalty against clipping: what the critic's surface, its slopes and its weights look like.

    OMP_NUM_THREADS=1 python benchmarks/games/slopes.py
    OMP_NUM_THREADS=1 python benchmarks/games/slopes.py --data ring --games wgan-gp --rounds 500

The toys of Improved Training of Wasserstein GANs (Gulrajani et al., 2017, arXiv 1704.00028, Figures 1 and 2)
as its code has them: eight and 25 Gaussians and a Swiss roll, all divided to deviations of about one, three
layers of ReLU on both sides, two normal codes, batches of 256, five critic updates a round, λ = .1, Adam 1e-4
with β = (.5, .9); clipping at .01 with RMSProp 5e-5, as in Wasserstein GAN. Reduced: 128 units where the code
has 512, and 5,000 rounds. Slopes are taken between data and samples, where the penalty wants 1. What is done
is not done again. On one core a training with the penalty takes five minutes, with clipping two.
"""

import math

import numpy as np
import torch
from experiment import command_line, plain, seeded
from figure_style import BLUE, ORANGE, WIDTH, bare
from matplotlib.figure import Figure
from sklearn.datasets import make_swiss_roll
from torch import nn

import bestiary
from bestiary.data import grid_centres, ring_centres
from bestiary.data.specs import PointSpec
from bestiary.data.splits import Batch, EndlessSplit
from bestiary.metrics import mode_coverage
from bestiary.objectives import penalties
from bestiary.report.figures import INK, MUTED
from bestiary.training.budget import parse_budget
from bestiary.training.loop import Training
from bestiary.training.runtime import choose_runtime

RING, GRID, ROLL = 2 / math.sqrt(2), 2 / 2.828, 7.5
CENTRES = {  # and deviations
    "ring": (ring_centres(radius=RING), 0.02 / math.sqrt(2)),
    "grid": (grid_centres(5, GRID), 0.05 / 2.828),
}
EDGES = {"ring": 2.0, "grid": 2.0, "roll": 2.2}
TITLES = {"ring": "8 Gaussians", "grid": "25 Gaussians", "roll": "Swiss roll"}
NETWORKS = {
    "network": "mlp",
    "hidden": [128, 128, 128],
    "prior": "normal",
    "latent_dim": 2,
    "batch_size": 256,
}
SETTINGS = {
    "wgan": NETWORKS,
    "wgan-gp": {**NETWORKS, "penalty_weight": 0.1, "learning_rate": 1e-4, "beta1": 0.5, "beta2": 0.9},
}
WORDS = {"wgan": ("weights clipped", ORANGE), "wgan-gp": ("gradient penalty", BLUE)}
CELLS = 41
SHOWN = 300  # points in a panel


def source(name):
    """Training points."""
    if name == "ring":
        return bestiary.load_data("ring", radius=RING, sigma=CENTRES["ring"][1]).train
    if name == "grid":
        return bestiary.load_data("grid", spacing=GRID, sigma=CENTRES["grid"][1]).train

    def draw(n, generator):
        seed = int(torch.randint(2**31 - 1, (), generator=generator))
        points, _ = make_swiss_roll(n, noise=0.25, random_state=seed)
        return Batch(torch.from_numpy(points[:, [0, 2]] / ROLL).float())

    return EndlessSplit(draw)


def training(name, game, options):
    points = source(name)
    model = bestiary.create(game, spec=PointSpec(2), seed=options.seed, **SETTINGS[game])
    runtime = choose_runtime(model, device="cpu", precision="float32")
    budget = parse_budget(f"{options.rounds} rounds")
    estimates = []

    def look(one):
        if one.clock.rounds % max(1, options.rounds // 100) == 0:
            estimates.append(one.take_terms()["discriminator/divergence"])

    Training(model, points, budget=budget, seed=options.seed, runtime=runtime).run([look])
    return model, points, estimates


def about(name, model, points):
    """What is kept of a trained game."""
    fake = model.sample(2500, generator=seeded(0))
    real = points.take(torch.arange(2500), generator=seeded(1)).x
    x = penalties.between(real, fake, torch.rand(2500, 1, generator=seeded(2))).requires_grad_()
    slope = penalties.slopes(model.discriminate(x), x).detach()
    found = {"slope": plain(slope.mean()), "slope_deviation": plain(slope.std())}
    if name in CENTRES:
        centres, sigma = CENTRES[name]
        coverage = mode_coverage(fake=fake, centres=centres, sigma=sigma)
        found |= {"modes": int(coverage.value), "quality": round(coverage.quality.value, 4)}
    weights = torch.cat([m.weight.detach().flatten() for m in linear(model)])
    edge = float(weights.abs().quantile(0.995))
    counts, edges = np.histogram(weights, bins=61, range=(-edge, edge))
    line = torch.linspace(-EDGES[name], EDGES[name], CELLS)
    with torch.no_grad():
        surface = model.discriminate(torch.cartesian_prod(line, line)).view(CELLS, CELLS).T
    return found | {
        "slope_by_layer": by_layer(model, real),
        "weights_at_the_edge": round(float((weights.abs() > 0.999 * weights.abs().max()).float().mean()), 4),
        "histogram": {"counts": counts.tolist(), "edges": [float(f"{e:.4g}") for e in edges]},
        "surface": plain((surface - surface.mean()) / surface.std(), 2),
        "samples": plain(fake[:SHOWN], 2),
        "real": plain(real[:SHOWN], 2),
    }


def linear(model):
    return [m for m in model.discriminator.modules() if isinstance(m, nn.Linear)]


def by_layer(model, x):
    """Mean norm of f's gradient for the output of each linear layer, the first first."""
    kept = []
    hooks = [m.register_forward_hook(lambda _m, _in, out: kept.append(out)) for m in linear(model)]
    output = model.discriminate(x)
    gradients = torch.autograd.grad(output.sum(), kept)
    for hook in hooks:
        hook.remove()
    return [float(f"{float(g.norm(dim=1).mean()):.3g}") for g in gradients]


def measure(options, found, keep):
    for name in options.data:
        for game in options.games:
            key = f"{name} {game} rounds={options.rounds} seed={options.seed}"
            if key in found:
                continue
            model, points, estimates = training(name, game, options)
            found[key] = about(name, model, points) | {"estimates": plain(estimates)}
            shown = ("slope", "slope_deviation", "modes", "quality", "slope_by_layer", "weights_at_the_edge")
            print(key, {k: found[key][k] for k in shown if k in found[key]}, flush=True)
            keep()


def slopes(found):
    """Surfaces of critics with data and samples, and their weights."""
    side, height = 1.62, 4.1
    figure = Figure(figsize=(WIDTH, height), dpi=200)
    for line, (game, (words, colour)) in enumerate(WORDS.items()):
        above = 0.36 + 1.9 * line
        y = 1 - (above + side) / height
        figure.text(0.1 / WIDTH, y + side / height / 2, words, rotation=90, va="center", color=colour)
        for column, name in enumerate(TITLES):
            ones = [one for key, one in found.items() if key.startswith(f"{name} {game} ")]
            if not ones:
                continue
            one = ones[-1]  # what was run last
            axes = figure.add_axes(((0.32 + 1.68 * column) / WIDTH, y, side / WIDTH, side / height))
            grid = np.linspace(-EDGES[name], EDGES[name], CELLS)
            axes.contour(
                grid, grid, one["surface"], levels=14, colors=MUTED, linewidths=0.5, linestyles="solid"
            )
            axes.scatter(*zip(*one["real"], strict=True), s=1, color=INK, linewidths=0)
            points = {"s": 1.6, "color": colour, "linewidths": 0, "rasterized": True}
            axes.scatter(*zip(*one["samples"], strict=True), **points)
            axes.set(xlim=(-EDGES[name], EDGES[name]), ylim=(-EDGES[name], EDGES[name]))
            bare(axes)
            if not line:
                axes.set_title(TITLES[name], fontsize=8.5, color=INK, pad=4)
            words = f"slope {one['slope']:.2g}"
            words += f", {one['modes']} of {len(CENTRES[name][0])} modes" if name in CENTRES else ""
            axes.text(0, -EDGES[name] * 1.1, words, ha="center", va="center", fontsize=7.5, color=MUTED)
            if column == 2:
                axes = figure.add_axes((5.6 / WIDTH, y + 0.22 / height, 1.45 / WIDTH, (side - 0.3) / height))
                counts, edges = one["histogram"]["counts"], one["histogram"]["edges"]
                axes.stairs(counts, edges, fill=True, color=colour)
                axes.set(yticks=[])
                axes.spines["left"].set_visible(False)
                axes.locator_params(axis="x", nbins=4)
                if not line:
                    axes.set_title("its weights", fontsize=8.5, color=INK, pad=4)
    return figure


FIGURES = {slopes: "Surfaces of clipped and of penalised critics on three toys, and their weights"}
ARGUMENTS = [
    ("--data", {"nargs": "+", "default": list(TITLES), "choices": list(TITLES)}),
    ("--games", {"nargs": "+", "default": list(WORDS), "choices": list(WORDS)}),
    ("--rounds", {"type": int, "default": 5000, "help": "updates of the generator"}),
]

if __name__ == "__main__":
    command_line(__file__, __doc__, measure, FIGURES, arguments=ARGUMENTS)
