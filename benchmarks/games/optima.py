"""Discriminators and critics of known laws, beside the optimum that theory says they should reach.

    OMP_NUM_THREADS=1 python benchmarks/games/optima.py

Data N(0, 1) against a model N(2, 1), and a model that equals the data: two layers of 64 units, 3,000 steps of
Adam 1e-3 on batches of 1,024. In the plane, the data are a ring of eight Gaussians of σ .3 and the model is
one Gaussian of σ 1.5. What is trained is evaluated at evenly spaced quantiles of both laws, and its optimum
found by quadrature. About two minutes on one core.

For cross-entropy the optimum is V = 2 JSD − log 4 at D = p/(p + q) (Goodfellow et al., 2014, §4.1); for least
squares with targets 0 and 1 it is the same D, at a cost of ½ ∫ pq/(p + q). A critic with the gradient penalty
does not find W₁: between laws on a line, with r the law of the interpolates, its best slope is
1 + |ΔF|/(2λr), since the penalty is soft, and its estimate W₁ + 1/(2λ) ∫ ΔF²/r.
"""

import numpy as np
import torch
from experiment import command_line, plain
from figure_style import BLUE, TRUE, WIDTH, bare, panels, say, ticks
from fixed_law import discriminator
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from scipy import stats
from scipy.special import ndtri

from bestiary.data import ring_centres
from bestiary.report.figures import INK, MUTED

SHIFT = 2.0
RING, WIDE = 0.3, 1.5  # σ of the eight Gaussians, and of the one, in the plane
PENALTY = 10.0
SETTINGS = {"hidden": [64, 64], "batch_size": 1024, "learning_rate": 1e-3, "beta1": 0.9}
ROUNDS = 3000
PLACES = np.linspace(-4, 6, 201)
SIDE = np.linspace(-3.2, 3.2, 65)


def real(z):
    return z


def shifted(z):
    return z + SHIFT


def on_ring(z):
    """z (B, 2) on the ring: which of the eight it is comes from the first normal number's quantile."""
    u = 8 * torch.special.ndtr(z[:, :1].double())
    mode = u.floor().clamp(0, 7)
    within = torch.special.ndtri((u - mode).clamp(1e-9, 1 - 1e-9)).float()
    return ring_centres()[mode.long().squeeze(1)] + RING * torch.cat([within, z[:, 1:]], dim=1)


def wide(z):
    return WIDE * z


def quantiles(n, dim):
    """Evenly spaced quantiles of a normal law, (nᵈ, d)."""
    line = torch.from_numpy(ndtri((np.arange(n) + 0.5) / n)).float()
    return line[:, None] if dim == 1 else torch.cartesian_prod(line, line)


def value(model, data, fake, dim):
    """The discriminator's cost at quantiles of both laws."""
    z = quantiles(20_001 if dim == 1 else 400, dim)
    with model.evaluation():
        outputs = [model.discriminate(law(z)).double() for law in (data, fake)]
        return float(model.game.discriminator_cost(real=outputs[0], fake=outputs[1]))


def outputs_at(model, x):
    with model.evaluation():
        return model.discriminate(torch.as_tensor(x, dtype=torch.float32)).squeeze(1)


def densities(dim):
    """Both laws on a grid, and the volume of its cells."""
    if dim == 1:
        x = np.linspace(-12, 14, 26_001)
        return stats.norm.pdf(x), stats.norm.pdf(x, SHIFT), x[1] - x[0]
    x = np.linspace(-9, 9, 1801)
    p, q = plane_densities(x)
    return p, q, (x[1] - x[0]) ** 2


def plane_densities(x):
    """Of the ring and of the wide Gaussian, at x × x."""
    gauss = stats.norm.pdf
    p = np.mean([np.outer(gauss(x, b, RING), gauss(x, a, RING)) for a, b in ring_centres().numpy()], axis=0)
    return p, np.outer(gauss(x, 0, WIDE), gauss(x, 0, WIDE))


def optimum(game, p, q, cell):
    """V, or least squares' cost."""
    both = p + q
    if game == "least_squares":
        return 0.5 * float((p * q / np.maximum(both, 1e-300)).sum() * cell)
    terms = [law * np.log(np.maximum(law, 1e-300) / np.maximum(both, 1e-300)) for law in (p, q)]
    return float(sum(terms).sum() * cell)


def penalised_optimum():
    """The critic of the gradient penalty's optimum at PLACES, its estimate, and W₁."""
    x = np.linspace(-12, 14, 26_001)
    step = x[1] - x[0]
    u = (np.arange(400) + 0.5) / 400
    r = np.mean([stats.norm.pdf(x, SHIFT * (1 - t), np.hypot(t, 1 - t)) for t in u], axis=0)
    lag = stats.norm.cdf(x) - stats.norm.cdf(x, SHIFT)
    slope = -(1 + lag / (2 * PENALTY * np.maximum(r, 1e-300)))
    critic = np.interp(PLACES, x, np.cumsum(slope) * step)
    w1 = float(lag.sum() * step)
    return critic, w1 + float((lag**2 / np.maximum(r, 1e-300)).sum() * step) / (2 * PENALTY), w1


def measure(options, found, keep):
    cases = {
        "V": ("minimax", real, shifted, 1, 0.01),
        "V, equal laws": ("minimax", real, real, 1, 0.005),
        "V, in the plane": ("minimax", on_ring, wide, 2, 0.01),
        "least squares": ("least_squares", real, shifted, 1, 0.003),
        "least squares, equal laws": ("least_squares", real, real, 1, 0.003),
        "Wasserstein, penalised": ("wasserstein", real, shifted, 1, 0.05),
    }
    for name, (game, data, fake, dim, margin) in cases.items():
        more = {"penalty": "gradient", "penalty_weight": PENALTY} if game == "wasserstein" else {}
        model = discriminator(
            data, fake, dim=dim, rounds=options.rounds, seed=options.seed, game=game, **SETTINGS, **more
        )
        cost = value(model, data, fake, dim)
        one = {"found": cost if game == "least_squares" else -cost}
        if game == "wasserstein":
            one["exact"], one["W1"] = penalised_optimum()[1:]
        else:
            p, q, cell = densities(dim)
            one["exact"] = optimum(game, p, p if fake is real else q, cell)
        one |= {"margin": margin, "met": abs(one["found"] - one["exact"]) < margin}
        one = {key: v if isinstance(v, bool) else round(v, 5) for key, v in one.items()}
        print(name, one, flush=True)
        if dim == 2:
            x, y = np.meshgrid(SIDE, SIDE)
            field = outputs_at(model, np.stack([x, y], axis=2).reshape(-1, 2)).sigmoid()
            one["outputs"] = plain(field.view(x.shape), 3)
        elif fake is not real:
            one["outputs"] = plain(outputs_at(model, PLACES[:, None]), 3)
        found[name] = one
    keep(whole=True)


def optima(found):
    """What was learned beside the optimum, in one dimension."""
    figure, axes = panels(2.55, (0.5, 2.95, 5.4), (1.9, 1.9, 1.7))
    p, q = stats.norm.pdf(PLACES), stats.norm.pdf(PLACES, SHIFT)
    best = p / (p + q)
    critic = penalised_optimum()[0]
    middle = len(PLACES) // 2
    cases = (
        ("V", best, "cross-entropy: D(x)"),
        ("least squares", best, "least squares: raw output"),
        ("Wasserstein, penalised", critic - critic[middle], "gradient penalty: f(x)"),
    )
    for each, (name, exact, title) in zip(axes, cases, strict=True):
        one = found[name]
        outputs = np.array(one["outputs"])
        if name == "V":
            outputs = 1 / (1 + np.exp(-outputs))
        elif name.startswith("W"):
            outputs = outputs - outputs[middle]
        top = max(exact.max(), outputs.max())
        bottom = min(0, exact.min(), outputs.min())
        for law in (p, q):
            heights = bottom + law / p.max() * 0.3 * (top - bottom)
            each.fill_between(PLACES, bottom, heights, color=MUTED, alpha=0.16, linewidth=0)
        each.plot(PLACES, outputs, color=BLUE)
        each.plot(PLACES, exact, **(TRUE | {"zorder": 5}))
        each.set_title(title, loc="left", fontsize=8.5, color=INK, pad=8)
        each.set(xlabel="x", xlim=(-4, 6))
        ticks(each.xaxis, (-4, -2, 0, 2, 4, 6))
        words = {"V": "V", "least squares": "cost"}.get(name, "estimate")
        say(each, 0.98, 0.93, f"{words} {one['found']:.4f}".replace("-", "−"), BLUE, ha="right")
        say(each, 0.98, 0.83, f"exact {one['exact']:.4f}".replace("-", "−"), ha="right")
    return figure


def plane(found):
    """D of the ring against the wide Gaussian: learned, and exact."""
    p, q = plane_densities(SIDE)
    one, side, height = found["V, in the plane"], 2.1, 2.75
    figure = Figure(figsize=(WIDTH, height), dpi=200)
    learned = np.array(one["outputs"])
    for column, (title, field) in enumerate((("D, learned", learned), ("D = p/(p + q)", p / (p + q)))):
        left = 0.9 + 2.3 * column
        box = (left / WIDTH, 0.28 / height, side / WIDTH, side / height)
        axes = figure.add_axes(box)
        axes.imshow(field, origin="lower", extent=(-3.2, 3.2, -3.2, 3.2), vmin=0, vmax=1, cmap="viridis")
        axes.set_title(title, fontsize=8.5, color=INK, pad=4)
        bare(axes)
    words = (f"V {one['found']:.4f}", f"exact {one['exact']:.4f}")
    for column, text in enumerate(words):
        x = (0.9 + 2.3 * column + side / 2) / WIDTH
        figure.text(x, 0.12 / height, text.replace("-", "−"), ha="center", va="center", color=MUTED)
    bar = figure.colorbar(
        ScalarMappable(Normalize(0, 1), "viridis"),
        cax=figure.add_axes((5.6 / WIDTH, 0.28 / height, 0.1 / WIDTH, side / height)),
    )
    bar.outline.set_visible(False)
    ticks(bar.ax.yaxis, (0, 0.5, 1))
    return figure


FIGURES = {
    optima: "What discriminators and a critic of two Gaussians learned, beside the exact optimum",
    plane: "A discriminator of two laws in the plane, learned and exact",
}
ARGUMENTS = [("--rounds", {"type": int, "default": ROUNDS})]

if __name__ == "__main__":
    command_line(__file__, __doc__, measure, FIGURES, arguments=ARGUMENTS)
