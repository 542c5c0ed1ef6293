"""Minimax against maximin: what becomes of a game when the generator answers the discriminator, not it him.

    OMP_NUM_THREADS=1 python benchmarks/games/order.py

A game of tables, in which both players can be solved: data p on 48 places in four heaps, a discriminator D
with a number for each place, a generator that is any law q there, V(D, q) = Σ p log D + Σ q log(1 − D). Where
the discriminator answers, D = p/(p + q), and q follows the slope of the largest V: all four heaps. Where the
generator answers, its best reply is found by inner steps until it stands still: all of its mass on one place,
where D is highest, and it hops from place to place (NIPS 2016 Tutorial: Generative Adversarial Networks,
Goodfellow, 2017, arXiv 1701.00160, on mode collapse). Both orders lead to V = −log 4; only one leads to a
model of the data. Seconds.
"""

import math

import numpy as np
import torch
from experiment import command_line, plain, seeded
from figure_style import BLUE, ORANGE, TRUE, WIDTH, bare
from matplotlib.figure import Figure
from torch.nn import functional as F

from bestiary.objectives import games
from bestiary.report.figures import INK, MUTED

PLACES, HEAPS = 48, 4
STEPS = 400
EVERY = 4  # steps, that are kept
ORDERS = {"discriminator": "the discriminator answers", "generator": "the generator answers"}


def heaps():
    """p, shape (PLACES,): four of different weight."""
    x = torch.arange(PLACES, dtype=torch.float64)
    centres = (torch.arange(HEAPS) + 0.5) * PLACES / HEAPS - 0.5
    weights = torch.tensor([0.2, 0.3, 0.3, 0.2], dtype=torch.float64)
    p = (weights[:, None] * torch.exp(-((x - centres[:, None]) ** 2) / (2 * 1.5**2))).sum(0)
    return p / p.sum()


def value(p, q, logits):
    """V(D, q)."""
    return -(p * F.softplus(-logits)).sum() - (q * F.softplus(logits)).sum()


def best_reply(logits):
    """q of the generator's own cost, by mirror descent in steps that grow, until q stands still."""
    each = torch.stack([games.minimax.generator_cost(fake=one) for one in logits])
    log_q, rate = torch.full_like(logits, -math.log(PLACES)), 1.0
    while log_q.max() < math.log1p(-1e-9):
        log_q, rate = (log_q - rate * each).log_softmax(0), 2 * rate
    return log_q.exp()


def discriminator_answers(p, generator):
    """Laws q and values over time."""
    logits = torch.randn(PLACES, dtype=torch.float64, generator=generator)
    for _ in range(STEPS):
        q = logits.softmax(0)
        best = p.log() - q.log()
        yield q, value(p, q, best)
        slope = -F.softplus(best)  # ∂V/∂q where D is at its best
        logits = logits - 0.5 * (slope - (q * slope).sum())


def generator_answers(p, generator):
    """The same."""
    logits = torch.randn(PLACES, dtype=torch.float64, generator=generator)
    for step in range(STEPS):
        q = best_reply(logits)
        yield q, value(p, q, logits)
        slope = p * torch.sigmoid(-logits) - q * torch.sigmoid(logits)  # ∂V/∂D̃
        logits = logits + 8 / (1 + step / 10) * slope


def measure(options, found, keep):
    p = heaps()
    found |= {"p": plain(p), "perplexity_of_p": perplexity(p)}
    for name, play in (("discriminator", discriminator_answers), ("generator", generator_answers)):
        laws, values = zip(*play(p, seeded(options.seed)), strict=True)
        mean, last = torch.stack(laws).mean(0), laws[-1]
        about = {
            "value_at_the_end": round(float(values[-1]), 4),
            "perplexity_at_the_end": perplexity(last),
            "distance_at_the_end": round(float((last - p).abs().sum() / 2), 4),
            "distance_of_the_mean_over_time": round(float((mean - p).abs().sum() / 2), 4),
        }
        print(name, about)
        found[name] = {
            "laws": plain(torch.stack(laws)[::EVERY], 3),
            "values": plain(torch.stack(values)[::EVERY]),
            **about,
        }
    keep(whole=True)


def perplexity(law):
    """How many places the mass is on."""
    return round(float(torch.special.entr(law).sum().exp()), 2)


def order(found):
    """Laws over time, and the value."""
    height = 3.3
    figure = Figure(figsize=(WIDTH, height), dpi=200)
    for column, (name, words) in enumerate(ORDERS.items()):
        left, colour = 0.62 + 3.4 * column, (BLUE, ORANGE)[column]
        wide = 2.55 / WIDTH
        axes = figure.add_axes((left / WIDTH, 1.6 / height, wide, 1.35 / height))
        laws = np.array(found[name]["laws"]).T
        axes.imshow(
            laws / laws.max(0), aspect="auto", origin="lower", cmap=("Blues", "Oranges")[column],
            extent=(0, STEPS, 0, PLACES), interpolation="none", vmin=0,
        )  # fmt: skip
        axes.set_title(words, loc="left", fontsize=8.5, color=INK, pad=6)
        axes.set(yticks=[], xticks=[], ylabel="" if column else "q, by place")
        axes.grid(visible=False)
        side = figure.add_axes(((left + 2.6) / WIDTH, 1.6 / height, 0.3 / WIDTH, 1.35 / height))
        side.fill_betweenx(np.arange(PLACES) + 0.5, 0, found["p"], color=MUTED, linewidth=0, alpha=0.5)
        side.set(ylim=(0, PLACES))
        side.set_title("data", fontsize=7.5, color=MUTED, pad=6)
        bare(side)
        axes = figure.add_axes((left / WIDTH, 0.48 / height, wide, 0.95 / height))
        axes.plot(np.arange(len(found[name]["values"])) * EVERY, found[name]["values"], color=colour)
        axes.axhline(-math.log(4), **TRUE)
        axes.set(xlim=(0, STEPS), ylim=(-2.3, -1), xlabel=f"steps of the {OTHER[name]}")
        if not column:
            axes.set_ylabel("V")
            axes.annotate("−log 4", (STEPS - 4, -math.log(4) - 0.05), ha="right", va="top", fontsize=7.5)
    return figure


FIGURES = {order: "A game played in both orders: the law of the generator and the value over time"}
OTHER = {"discriminator": "generator", "generator": "discriminator"}

if __name__ == "__main__":
    command_line(__file__, __doc__, measure, FIGURES)
