"""The figures of prior_mismatch.py."""

import numpy as np
from figure_style import BLUE, GREEN, ORANGE, PINK, WIDTH, bare, percent, rows, two
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
    edge = max(found[arm]["plane"]["edge"] for arm in PANELS)
    for column, (arm, title) in enumerate(PANELS.items()):
        left = 0.06 + 1.43 * column
        axes = figure.add_axes((left / WIDTH, 0.3 / height, side / WIDTH, side / height))
        one = found[arm]["plane"]
        line = np.linspace(-one["edge"], one["edge"], len(one["log_prior"]))
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
        words = f"KL {value:.2f} ± {error:.2f}".replace("-", "−")
        figure.text((left + side / 2) / WIDTH, 0.14 / height, words, ha="center", va="center", color=MUTED)
    return figure


def scores(found):
    """With ten numbers: the mismatch, and the precision of samples from empty and from full regions."""
    found = found["10"]
    figure, left, right = two("KL(q(z) ‖ p(z)), nats", "precision of samples", height=2.7, names=(1.0, 0))
    rows(left, [(arm, *one["mismatch"], BLUE) for arm, one in found.items()])
    for kind, colour, shift in (("full", GREEN, -0.12), ("empty", ORANGE, 0.12)):
        for y, one in enumerate(found.values()):
            value, error = one[kind]["precision"]
            about = {"color": colour, "marker": "o", "markersize": 4, "capsize": 2, "elinewidth": 1.2}
            right.errorbar(value, y + shift, xerr=2 * (error or 0), **about)
    right.set(ylim=left.get_ylim(), yticks=[])
    percent(right.xaxis)
    for left_edge, words, colour in ((4.3, "codes are many", GREEN), (5.7, "codes are few", ORANGE)):
        figure.text(left_edge / WIDTH, 0.04, f"● where {words}", color=colour, fontsize=7.5, va="center")
    return figure


# What a reader who does not see the figure is told.
FIGURES = {
    codes: "Codes of images in the plane by class, the prior's contours, and its emptiest draws, by prior",
    scores: "KL of aggregate posterior and prior, and precision of samples from empty and full regions",
}
