"""The common look of the figures of docs/numbers.md, that of the package's reports."""

import re
from importlib import resources

from matplotlib import style as mpl_style
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator, PercentFormatter

from bestiary.report.figures import COLOURS, INK, STYLE, inline

BLUE, ORANGE, GREEN, PINK, AMBER, SKY = COLOURS
MARKERS = dict(zip(COLOURS, "osDv^P", strict=True))
WIDTH = 7.2  # inches, what the page's column holds
TRUE = {"color": INK, "linewidth": 1.1, "linestyle": (0, (2, 1.5)), "zorder": 1}
_LONG = re.compile(r"\d+\.\d{3,}")  # hundredths of a point are enough
_FONTS = "system-ui, -apple-system, 'Segoe UI', 'Noto Sans', 'Liberation Sans', Arial, sans-serif"


def standalone(function, found, label):
    """The SVG of a figure; its colours follow the reader's system, or the page around it."""
    with mpl_style.context(["default", STYLE]):
        svg = inline(function(found), function.__name__, label)
    svg = re.sub(r"<[^>]*>", lambda tag: _LONG.sub(lambda m: f"{float(m[0]):.2f}", tag[0]), svg)
    sheet = (resources.files("bestiary.report") / "style.css").read_text()
    used = set(re.findall(r"var\((--[\w-]+)", svg))
    blocks = re.findall(r":root \{(.*?)\}", sheet, re.DOTALL)
    colours = (re.findall(r"(--[\w-]+): ([^;]+);", block) for block in blocks)
    light, dark = ("".join(f"{k}:{v};" for k, v in pairs if k in used) for pairs in colours)
    rules = f"svg{{{light}}}text{{font-family:{_FONTS}!important}}"
    rules += f"@media(prefers-color-scheme:dark){{svg{{{dark}}}}}"
    return re.sub(r"(<svg[^>]*>)", lambda m: f"{m[1]}\n<style>{rules}</style>", svg, count=1)


def panels(height, lefts, widths, *, top=0.32, bottom=0.44):
    """A figure and axes side by side, all in inches."""
    figure = Figure(figsize=(WIDTH, height))
    tall = (height - top - bottom) / height
    places = zip(lefts, widths, strict=True)
    return figure, [figure.add_axes((x / WIDTH, bottom / height, w / WIDTH, tall)) for x, w in places]


def two(left, right, *, height=2.5, names=(0, 0)):
    """Two axes with titles; `names` makes room, in inches, for names on the left of each."""
    lefts = (0.72 + names[0], 4.3 + names[1])
    figure, axes = panels(height, lefts, (2.65 - names[0], 2.65 - names[1]))
    for each, words in zip(axes, (left, right), strict=True):
        each.set_title(words, loc="left", fontsize=8.5, color=INK, pad=8)
    return figure, *axes


def say(axes, x, y, words, colour=INK, *, size=8, ha="left", va="center"):
    """Words at a place in fractions of the axes."""
    axes.text(x, y, words, transform=axes.transAxes, color=colour, fontsize=size, ha=ha, va=va)


def curve(axes, points, colour, *, line="-"):
    """Points {x: y or [y, error]} with bars of two standard errors."""
    pairs = [value if isinstance(value, list) else [value, None] for value in points.values()]
    errors = [2 * (error or 0) for _, error in pairs]
    look = {"color": colour, "marker": MARKERS[colour], "markersize": 3.6, "linestyle": line}
    look |= {"elinewidth": 1.2, "capsize": 2, "clip_on": False}
    x, y = [float(x) for x in points], [value for value, _ in pairs]
    axes.errorbar(x, y, yerr=errors if any(errors) else None, **look)


def rows(axes, entries, *, floor=None):
    """One value a row, of (name, value, error, colour), with bars of two standard errors."""
    for y, (name, value, error, colour) in enumerate(entries):
        about = {"color": colour, "marker": MARKERS[colour], "markersize": 4.5, "capsize": 2.5}
        axes.errorbar(value, y, xerr=2 * (error or 0), elinewidth=1.3, **about)
        axes.text(-0.03, y, name, transform=axes.get_yaxis_transform(), ha="right", va="center", fontsize=8)
    if floor is not None:
        axes.axvline(floor, **TRUE)
    axes.set(ylim=(len(entries) - 0.5, -0.5), yticks=[])
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.12)
    axes.xaxis.set_major_locator(MaxNLocator(4))


def ticks(axis, values, words="{:,g}"):
    """Ticks at these values and nowhere else; `words` formats a value, or is a function that does."""
    write = words.format if isinstance(words, str) else words
    axis.set_major_locator(FixedLocator(values))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: write(value).replace("-", "−")))


def log_ticks(axes, values, label):
    axes.set_xscale("log")
    axes.set_xlabel(label)
    ticks(axes.xaxis, values)


def percent(*many):
    for axis in many:
        axis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))


def bare(axes):
    """Nothing but what is drawn."""
    axes.set_axis_off()


def series(stored, case):
    """{n: value} of keys "case n"."""
    return {key.rsplit(" ", 1)[1]: value for key, value in stored.items() if key.rsplit(" ", 1)[0] == case}
