"""What the discriminator's estimate and the critic's say of two laws that hardly overlap.

    OMP_NUM_THREADS=1 python benchmarks/games/distances.py

Two parallel lines of length 1 at a distance θ, as in Wasserstein GAN (Arjovsky et al., 2017, arXiv
1701.07875, Figure 1), but with a normal width of σ = .05. Beside what two layers of 64 units learn in 1,000
steps stand the Jensen–Shannon divergence, by quadrature, W₁ = θ, and the optimum of the penalised critic
across the lines (see optima.py). The slope is what a generator is told: |d J_G / d θ| with the discriminator
as it is. Two minutes on one core.

Across one dimension alone a critic can get stuck at about −W₁: the penalty asks for a slope of 1 in either
direction, and between those two lies the slope 0, which costs more than being wrong loses.
"""

from functools import partial

import numpy as np
import torch
from experiment import command_line
from figure_style import BLUE, GREEN, ORANGE, TRUE, two
from fixed_law import discriminator
from scipy import stats
from scipy.special import ndtri

from bestiary.objectives import games

SIGMA = 0.05
PENALTY = 10.0
DISTANCES = (0.0, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 1.5, 2.0)
SETTINGS = {"hidden": [64, 64], "batch_size": 512, "learning_rate": 1e-3, "beta1": 0.9}
WORDS = {"minimax": "minimax", "non_saturating": "non-saturating", "wasserstein": "Wasserstein"}
LOOKS = {"minimax": (ORANGE, "s"), "non_saturating": (GREEN, "D"), "wasserstein": (BLUE, "o")}


def line(z, theta=0.0):
    """z (B, d) standard normal → places (B, d) about a vertical line at θ, or on one across it."""
    return torch.cat([theta + SIGMA * z[:, :1], torch.special.ndtr(z[:, 1:])], dim=1)


def jensen_shannon(theta):
    """Nats."""
    x = np.linspace(-10 * SIGMA, theta + 10 * SIGMA, 20_001)
    p, q = stats.norm.pdf(x, 0, SIGMA), stats.norm.pdf(x, theta, SIGMA)
    both = np.maximum((p + q) / 2, 1e-300)
    terms = [law * np.log(np.maximum(law, 1e-300) / both) for law in (p, q)]
    return float(sum(terms).sum() * (x[1] - x[0]) / 2)


def penalised(theta):
    """W₁ + 1/(2λ) ∫ ΔF²/r, the estimate of the best critic under the penalty."""
    x = np.linspace(-10 * SIGMA, theta + 10 * SIGMA, 4001)
    u = (np.arange(400) + 0.5) / 400
    r = np.mean([stats.norm.pdf(x, theta * (1 - t), SIGMA * np.hypot(t, 1 - t)) for t in u], axis=0)
    lag = stats.norm.cdf(x, 0, SIGMA) - stats.norm.cdf(x, theta, SIGMA)
    return theta + float((lag**2 / np.maximum(r, 1e-300)).sum() * (x[1] - x[0])) / (2 * PENALTY)


def trained(game, theta, options, dim=2):
    more = {"penalty": "gradient", "penalty_weight": PENALTY} if game == "wasserstein" else {}
    fake = partial(line, theta=theta)
    return discriminator(
        line, fake, dim=dim, rounds=options.rounds, seed=options.seed, game=game, **SETTINGS, **more
    )


def measure(options, found, keep):
    quantiles = torch.from_numpy(ndtri((np.arange(300) + 0.5) / 300)).float()
    z = torch.cartesian_prod(quantiles, quantiles)
    found.clear()
    for theta in DISTANCES:
        one = found[str(theta)] = {
            "jensen_shannon": {"exact": round(jensen_shannon(theta), 5)},
            "wasserstein": {"exact": theta, "exact_penalised": round(penalised(theta), 5)},
            "slope": {},
        }
        for game, kind in (("minimax", "jensen_shannon"), ("wasserstein", "wasserstein")):
            model = trained(game, theta, options).requires_grad_(False)
            where = torch.tensor(theta, requires_grad=True)
            fake = model.discriminate(line(z, where))
            one[kind]["found"] = estimate(model, z, fake.detach())
            for name in ("minimax", "non_saturating") if game == "minimax" else ("wasserstein",):
                told = games.GAMES[name].generator_cost(fake=fake)
                (slope,) = torch.autograd.grad(told, where, retain_graph=True)
                one["slope"][name] = float(f"{float(slope):.3g}")
        print(theta, one, flush=True)
    model = trained("wasserstein", DISTANCES[-1], options, dim=1).requires_grad_(False)
    z = quantiles[:, None]
    found["one dimension"] = {
        "theta": DISTANCES[-1],
        "found": estimate(model, z, model.discriminate(line(z, DISTANCES[-1]))),
    }
    print(found["one dimension"])
    keep(whole=True)


def estimate(model, z, fake):
    cost = model.game.discriminator_cost(real=model.discriminate(line(z)), fake=fake)
    return round(float(model.game.divergence(cost)), 5)


def distances(found):
    """Both estimates against the distance, and what a generator is told."""
    titles = ("estimate of how far apart the laws are", "what a generator is told, |dJ/dθ|")
    figure, left, right = two(*titles, height=2.7)
    theta, found = DISTANCES, [found[str(theta)] for theta in DISTANCES]
    fine = np.linspace(0, 2, 161)
    left.plot(fine, [jensen_shannon(t) for t in fine], **TRUE)
    left.plot(fine, fine, **TRUE)
    left.plot(fine[::10], [penalised(t) for t in fine[::10]], color=BLUE, linewidth=0.8)
    small = {"fontsize": 7.5, "annotation_clip": False}
    for kind, game in (("jensen_shannon", "minimax"), ("wasserstein", "wasserstein")):
        colour, marker = LOOKS[game]
        estimates = [one[kind]["found"] for one in found]
        left.plot(theta, estimates, marker, color=colour, markersize=4, clip_on=False)
    left.annotate("critic, and what its\npenalty allows it", (1.05, 1.55), ha="right", color=BLUE, **small)
    left.annotate("W₁ = θ", (1.45, 1.36), ha="left", va="top", **small)
    left.annotate(
        "discriminator, and\nJensen–Shannon", (2, 0.56), ha="right", va="top", color=ORANGE, **small
    )
    left.set(xlabel="θ", xlim=(0, 2), ylim=(0, None))
    for name, (colour, marker) in LOOKS.items():
        slopes = [abs(one["slope"][name]) for one in found][1:]
        right.plot(theta[1:], slopes, color=colour, marker=marker, markersize=3.6, clip_on=False)
        above = 12 if name == "non_saturating" else 6
        place = {"xytext": (0, above), "textcoords": "offset points", "ha": "right", "color": colour}
        right.annotate(WORDS[name], (2, slopes[-1]), **place, **small)
    right.set(xlabel="θ", yscale="log", xlim=(0, 2))
    return figure


FIGURES = {distances: "Estimates of the distance of two laws, and their slopes, against the true distance"}
ARGUMENTS = [("--rounds", {"type": int, "default": 1000})]

if __name__ == "__main__":
    command_line(__file__, __doc__, measure, FIGURES, arguments=ARGUMENTS)
