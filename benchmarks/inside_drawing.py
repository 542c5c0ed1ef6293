"""The figures of docs/autoregressive.md, from what inside.py found."""

import numpy as np
from figure_style import (
    BLUE,
    GREEN,
    ORANGE,
    PINK,
    SKY,
    TRUE,
    WIDTH,
    bare,
    curve,
    panels,
    percent,
    say,
    ticks,
    two,
)
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bestiary.report.figures import INK, MUTED

COST = "viridis"
FAINTEST = -4  # log₁₀ of the strongest
GREY = {"cmap": "gray", "interpolation": "none"}


def picture(figure, left, top, side, pixels, title="", **about):
    """An image with its left and upper edges at so many inches."""
    height = figure.get_figheight()
    axes = figure.add_axes((left / WIDTH, 1 - (top + side) / height, side / WIDTH, side / height))
    axes.imshow(np.array(pixels, dtype=float), **about)
    axes.set_title(title, fontsize=8, color=INK, pad=4)
    bare(axes)
    return axes


def colour_bar(figure, box, norm, cmap, label):
    """A vertical bar; `box` in inches from the left and the top: (left, top, width, height)."""
    height = figure.get_figheight()
    left, top, wide, tall = box
    axes = figure.add_axes((left / WIDTH, 1 - (top + tall) / height, wide / WIDTH, tall / height))
    bar = figure.colorbar(ScalarMappable(norm, cmap), cax=axes)
    bar.outline.set_visible(False)
    axes.set_title(label, fontsize=8, color=MUTED, loc="left", pad=6)
    return bar


def maps(found):
    found = found["maps"]
    height, side = 2.85, 1.12
    figure = Figure(figsize=(WIDTH, height))
    entries = {**found["images"], "mean of all": found["mean"]}
    most = np.quantile([one["bits"] for one in found["images"].values()], 0.99)
    norm = Normalize(0, float(most))
    for column, (name, one) in enumerate(entries.items()):
        left = 0.72 + 1.18 * column
        picture(figure, left, 0.3, side, one["image"], name.lower(), vmin=0, vmax=255, **GREY)
        picture(figure, left, 1.5, side, one["bits"], norm=norm, cmap=COST, interpolation="none")
        words = f"{one['bits_per_dim']:.2f}"
        figure.text((left + side / 2) / WIDTH, 0.1 / height, words, ha="center", va="center")
    for top, words in ((0.86, "image"), (2.06, "cost"), (2.75, "bits/dim")):
        figure.text(0.62 / WIDTH, 1 - top / height, words, ha="right", va="center", color=MUTED)
    colour_bar(figure, (6.66, 1.5, 0.09, side), norm, COST, "bits")
    return figure


def drift(found):
    found = found["drift"]
    figure, left, right = two(
        "what a pixel costs, by row", "own less true, of all that was drawn", height=2.9
    )
    rows = np.arange(len(found["true"])) + 1
    for given, colour in (("0", BLUE), ("12", ORANGE), ("20", GREEN)):
        own = found["own"][given]
        left.plot(rows[int(given) :], own[int(given) :], color=colour)
    left.plot(rows, found["true"], **(TRUE | {"zorder": 5}))
    say(left, 0.99, 0.29, "true images", size=7.5, ha="right")
    words = (("own: from the start", BLUE), ("after 12 true rows", ORANGE), ("after 20", GREEN))
    for line, (name, colour) in enumerate(words):
        say(left, 0.99, 0.2 - 0.075 * line, name, colour, size=7.5, ha="right")
    left.set(xlabel="row", ylabel="bits a pixel", ylim=(0, None), xlim=(1, 28))
    ticks(left.xaxis, (1, 7, 14, 21, 28))
    curve(right, found["excess"], BLUE)
    right.axhline(0, **TRUE)
    right.annotate(
        "a perfect model: 0", (24, 0), (0, 3), textcoords="offset points", ha="right", fontsize=7.5
    )
    right.set(xlabel="true rows before the model goes on", ylabel="bits/dim")
    ticks(right.xaxis, (0, 8, 16, 24))
    return figure


def bits(found):
    found, height = found["bits"], 3.2
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.add_axes((0.72 / WIDTH, 0.46 / height, 6.2 / WIDTH, 1.62 / height))
    for name, colour in (("each pixel alone", ORANGE), ("model", BLUE)):
        curve(axes, dict(enumerate(found[name])), colour)
    axes.axhline(1, **TRUE)
    axes.text(2.55, found["each pixel alone"][2] + 0.1, "each pixel by itself", color=ORANGE, ha="right")
    axes.text(3.3, found["model"][3] - 0.1, "gated-pixelcnn", color=BLUE, ha="left")
    axes.text(-0.38, 1.035, "a coin", fontsize=7.5)
    axes.set(xlim=(-0.5, 7.5), ylim=(0, 1.15), ylabel="bits", xlabel="value of the bit")
    ticks(axes.xaxis, range(8), lambda bit: f"{2 ** (7 - round(bit))}")
    for place, plane in enumerate(found["planes"]):
        left = 0.72 + 6.2 * (place + 0.5) / 8 - 0.35
        picture(figure, left, 0.3, 0.7, plane, vmin=0, vmax=1, **GREY)
    figure.text(0.72 / WIDTH, 1 - 0.16 / height, "the eight bits of one image", fontsize=8.5)
    return figure


def probe(found):
    found = found["probe"]
    height = 3.4
    figure, (left, right) = panels(height, (0.72, 4.3), (2.65, 2.65), bottom=0.86)
    left.set_title(f"{found['train']:,} labels", loc="left", fontsize=8.5, color=INK, pad=8)
    right.set_title("100 labels", loc="left", fontsize=8.5, color=INK, pad=8)
    layers = [str(i) for i in range(1, found["layers"] + 1)]
    features = found["features"]
    codes = next(name for name in features if name.startswith("VAE"))
    looks = {
        "quarters": (GREEN, "a layer, averaged over quarters"),
        "whole": (BLUE, "over the whole image"),
        "untrained": (PINK, "the same, untrained"),
    }
    flat = {"pixels": (INK, "pixels"), "PCA codes, 64": (ORANGE, "PCA codes"), codes: (SKY, "VAE codes")}
    for axes, kind in ((left, "all"), (right, "100")):
        for name, (colour, _) in looks.items():
            curve(axes, {layer: features[f"{name} {layer}"][kind] for layer in layers}, colour)
        for name, (colour, _) in flat.items():
            axes.axhline(features[name][kind][0], color=colour, linewidth=1.1, linestyle=(0, (2, 1.5)))
        axes.set(xlabel="layer of gated-pixelcnn", xlim=(0.8, len(layers) + 0.2))
        ticks(axes.xaxis, range(1, len(layers) + 1))
        percent(axes.yaxis)
    limits = [limit for axes in (left, right) for limit in axes.get_ylim()]
    for axes in (left, right):
        axes.set_ylim(min(limits), max(limits))
    left.set_ylabel("accuracy of a linear probe")
    for line, (key, sign) in enumerate(((looks, "●"), (flat, "- -"))):
        for column, (name, (colour, words)) in enumerate(key.items()):
            numbers = features[name if name in features else f"{name} 1"]["dimensions"]
            place = ((0.3, 3.05, 5.25)[column] / WIDTH, (0.36 - 0.2 * line) / height)
            figure.text(*place, f"{sign} {words}: {numbers} numbers", color=colour, va="center", fontsize=7.5)
    return figure


def seen(found):
    found, height, side = found["seen"], 4.0, 1.62
    figure = Figure(figsize=(WIDTH, height))
    titles = {
        "deep": "as deep as the paper, untrained",
        "start": "laptop, untrained",
        "trained": "laptop, trained",
    }
    norm = Normalize(FAINTEST, 0)
    for line, (name, kinds) in enumerate(found.items()):
        top = 0.32 + 1.76 * line
        for column, (kind, title) in enumerate(titles.items()):
            one, left = kinds[kind], 0.85 + 1.88 * column
            strength = np.array([[np.nan if v is None else v for v in row] for row in one["map"]])
            about = {"norm": norm, "cmap": COST, "interpolation": "none"}
            axes = picture(figure, left, top, side, strength, "" if line else title, **about)
            blind = np.ma.masked_equal(np.array(one["blind"]), 0)
            axes.imshow(blind, cmap=ListedColormap([PINK]), interpolation="none")
            axes.add_patch(Rectangle((13.5, 13.5), 1, 1, color=INK))
            axes.add_patch(Rectangle((-0.5, -0.5), 28, 28, fill=False, edgecolor=MUTED, linewidth=0.7))
            words = f"{one['seen']} of {one['earlier']} seen"
            axes.text(13.5, 21, words, ha="center", va="center", fontsize=8, color=MUTED)
        figure.text(0.78 / WIDTH, 1 - (top + side / 2) / height, name, ha="right", va="center", rotation=90)
    bar = colour_bar(figure, (6.5, 0.32, 0.09, side), norm, COST, "strength")
    ticks(bar.ax.yaxis, range(FAINTEST, 1), lambda power: f"{10.0**power:g}")
    for left, colour, words in (
        (0.85, INK, "the pixel that is predicted"),
        (2.73, PINK, "drawn earlier, but not seen"),
    ):
        figure.text(left / WIDTH, 0.12 / height, "■", color=colour, va="center")
        figure.text((left + 0.16) / WIDTH, 0.12 / height, words, va="center", fontsize=8)
    return figure


# What a reader who does not see the figure is told.
FIGURES = {
    maps: "Four images and what each of their pixels costs, and the means of all",
    drift: "What pixels cost by row, of true images and of the model's own, and the difference",
    bits: "The eight bits of an image, and what each costs",
    probe: "Accuracy of a linear probe by layer, beside pixels and codes",
    seen: "Receptive fields of pixelcnn and gated-pixelcnn, untrained and trained",
}
