"""The figures of prior_mismatch.py."""

import numpy as np
from figure_style import BLUE, PINK, WIDTH, bare, rows, two
from matplotlib import colormaps
from matplotlib.figure import Figure

from bestiary.report.figures import INK, MUTED

SHOWN = 1500  # codes of examples in a panel
PANELS = {
    "standard": "standard prior",
    "standard, then mixture": "mixture fitted after",
    "mixture": "mixture, learned",
    "vampprior": "VampPrior",
    "flow": "flow",
}
CLASSES = colormaps["tab10"]


def codes(found):
    """Codes of test images in the plane, by class, and the prior around them."""
    found, side, height = found["2"], 1.36, 1.95
    figure = Figure(figsize=(WIDTH, height), dpi=200)
    for column, (arm, title) in enumerate(PANELS.items()):
        left = 0.06 + 1.43 * column
        axes = figure.add_axes((left / WIDTH, 0.3 / height, side / WIDTH, side / height))
        one = found[arm]["plane"]
        edge = one["edge"]  # of each its own: learned priors are four times as wide as others
        line = np.linspace(-edge, edge, len(one["log_prior"]))
        z, empty = np.array(one["codes"]), np.array(one["empty"])
        axes.scatter(*z.T, c=one["labels"], cmap=CLASSES, s=1.2, linewidths=0, rasterized=True)
        axes.contour(
            line, line, one["log_prior"], levels=one["levels"], colors=INK, linewidths=0.7, linestyles="solid"
        )
        axes.scatter(*empty.T, marker="x", s=9, color=PINK, linewidths=0.8)
        axes.set(xlim=(-edge, edge), ylim=(-edge, edge))
        axes.set_title(title, fontsize=8, color=INK, pad=4)
        bare(axes)
        value, error = found[arm]["mismatch"]
        words = f"±{edge:.0f}, KL {value:.2f} ± {error:.2f}"
        figure.text((left + side / 2) / WIDTH, 0.14 / height, words, ha="center", va="center", color=MUTED)
    return figure


def scores(found):
    """With ten numbers: the mismatch, and how far samples are from test images."""
    found = found["10"]
    titles = ("KL(q(z) ‖ p(z)), nats", "Fréchet distance of samples")
    figure, left, right = two(*titles, height=2.5, names=(1.0, 0))
    rows(left, [(arm, *one["mismatch"], BLUE) for arm, one in found.items()])
    rows(right, [("", *one["scores"]["frechet"], BLUE) for one in found.values()])
    return figure


# What a reader who does not see the figure is told.
FIGURES = {
    codes: "Codes of images in the plane by class, the prior's contours, and its emptiest draws, by prior",
    scores: "KL of aggregate posterior and prior, and Fréchet distance of samples, by prior",
}
