"""Figures as SVG inside the page: they follow its fonts and its light or dark colours, and print well.

Words that a user has chosen never reach matplotlib, which would read `$` as mathematics and measure
scripts that it has no font for: a figure is drawn with placeholders, and the names are put in afterwards.
"""

import io
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import style as mpl_style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from bestiary.metrics.results import Score
from bestiary.report.page import text

Curve = NDArray[np.float64]

INK, MUTED, LINE, PAPER = "#1d1f24", "#5a6170", "#d8dbe2", "#ffffff"
# Okabe and Ito's colours for all kinds of colour vision, without black (the real data) and yellow
# (unreadable on white); names are those of the style sheet, which has a second set for dark pages.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_VARIABLES = {
    INK: "ink",
    MUTED: "muted",
    LINE: "line",
    PAPER: "paper",
    **{c: f"c{i}" for i, c in enumerate(COLOURS, 1)},
}
_DASHES = ((), (5, 2), (1.2, 1.6), (6, 2, 1.2, 2))
_MARKERS = ("o", "s", "^", "D")
# The same in a swatch of 34 × 10.
_SHAPES = {
    "o": "M12 5a5 5 0 1 0 10 0a5 5 0 1 0-10 0z",
    "s": "M12.5.5h9v9h-9z",
    "^": "M17 0l5.5 10h-11z",
    "D": "M17 0l5 5l-5 5l-5-5z",
}

# Matplotlib's settings for every figure of a report.
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "bestiary",
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "lines.linewidth": 1.6,
}  # fmt: skip


@dataclass(frozen=True)
class Look:
    """How one model is drawn everywhere: told apart by line and marker too, not by colour alone."""

    colour: str
    dashes: tuple[float, ...]
    marker: str

    @property
    def line(self) -> dict[str, Any]:
        """Keyword arguments for matplotlib's `plot`."""
        return {"color": self.colour, "linestyle": (0, self.dashes) if self.dashes else "-"}


REAL_LOOK = Look(INK, (2, 1.5), "|")


def look(index: int) -> Look:
    """The look of the model at `index`; 24 differ."""
    turn = (index + index // len(COLOURS)) % len(_DASHES)
    return Look(COLOURS[index % len(COLOURS)], _DASHES[turn], _MARKERS[turn])


def swatch(style: Look, marked: bool = False) -> str:
    """A piece of the line, with its marker where figures show it, for a key in HTML."""
    dashes = f' stroke-dasharray="{" ".join(f"{2 * d:g}" for d in style.dashes)}"' if style.dashes else ""
    line = f'<path d="M0 5H34" stroke="{_variable(style.colour)}" stroke-width="3"{dashes}/>'
    marker = f'<path d="{_SHAPES[style.marker]}" fill="{_variable(style.colour)}"/>' if marked else ""
    return f'<svg width="34" height="10" viewBox="0 0 34 10" aria-hidden="true">{line}{marker}</svg>'


def key(items: Sequence[tuple[Look, str]], inline: bool = False, marked: bool = False) -> str:
    """A key to looks, as an HTML list of plain-text names."""
    entries = "".join(f"<li>{swatch(style, marked)}<span>{text(name)}</span></li>" for style, name in items)
    return f'<ul class="key{" inline" if inline else ""}">{entries}</ul>'


def score_figure(
    name: str,
    rows: Sequence[tuple[str, Look, Score | None]],
    hollow: Collection[str],
    floor: Score | None,
    label: str,
) -> str:
    """One score of several models, one below the other, with bars of two standard errors.

    Arguments:
        name: makes the identifiers in the figure unique on the page.
        rows: model, its look, and its score or None; one score at least is there.
        hollow: models whose score is only a bound.
        floor: the score of real data, drawn as a dashed line.
        label: plain-text description of the figure.
    """
    with mpl_style.context(["default", STYLE]):
        height = 0.42 + 0.27 * len(rows)
        figure, axes = axes_inside(3.5, height, left=1.22, right=0.16, top=0.06, bottom=0.36)
        scores = [score for *_, score in rows if score] + ([floor] if floor else [])
        _value_axis(axes, [score.value for score in scores])
        if floor:
            axes.axvline(floor.value, color=INK, linewidth=1.1, linestyle=(0, REAL_LOOK.dashes), zorder=1)
        for y, (model, style, score) in enumerate(rows):
            left = axes.get_yaxis_transform()
            axes.text(-0.03, y, f"@{y}@", transform=left, ha="right", va="center")
            if score is None:
                axes.text(0.02, y, "none", transform=left, color=MUTED, va="center", backgroundcolor=PAPER)
                continue
            error = 2 * score.error if score.error is not None and math.isfinite(score.error) else None
            axes.errorbar(
                score.value, y, xerr=error, color=style.colour, marker=style.marker, markersize=5.5,
                markerfacecolor=PAPER if model in hollow else style.colour, capsize=2.5, elinewidth=1.4,
            )  # fmt: skip
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        return inline(figure, name, label, [shorten(model) for model, *_ in rows])


def _value_axis(axes: Axes, values: Sequence[float]) -> None:
    """Logarithmic where the values span more than a factor of 6."""
    low, high = min(values), max(values)
    if low > 0 and high > 6 * low:
        axes.set_xscale("log")
        axes.set_xlim(low / (high / low) ** 0.08, high * (high / low) ** 0.08)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 200 * low else (1,)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.margins(x=0.08)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))


def learning_figure(name: str, seconds: Curve, terms: Mapping[str, Curve], style: Look, label: str) -> str:
    """A model's own costs against the seconds of its training, one line a term."""
    with mpl_style.context(["default", STYLE]):
        figure, axes = axes_inside(3.5, 2.1, left=0.55, right=0.1, top=0.08, bottom=0.42)
        for (_, values), drawn in zip(terms.items(), term_looks(style, len(terms)), strict=True):
            axes.plot(*thin(seconds, values), **drawn.line)
        axes.set_xlabel("seconds")
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlim(left=0)
        limits = visible(list(terms.values()))
        if limits:
            axes.set_ylim(*limits)
        return inline(figure, name, label)


def term_looks(style: Look, n: int) -> list[Look]:
    """Looks for the terms of one model: its own colour, then ink, told apart by their lines."""
    return [Look(style.colour if i == 0 else INK, _DASHES[i % len(_DASHES)], "o") for i in range(n)]


def curve_figure(name: str, curves: Sequence[tuple[Look, Curve, Curve]], label: str) -> str:
    """Precision against recall, both in [0, 1], one line a model."""
    with mpl_style.context(["default", STYLE]):
        figure, axes = axes_inside(4.2, 4.2, left=0.55, right=0.1, top=0.1, bottom=0.45)
        for style, precision, recall in curves:
            axes.plot(recall, precision, **style.line, clip_on=False)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="recall", ylabel="precision", aspect="equal")
        return inline(figure, name, label)


def thin(x: Curve, y: Curve, most: int = 160) -> tuple[Curve, Curve]:
    """At most `most` points: means of equally many neighbours; values that are not finite are left out."""
    finite = np.isfinite(x) & np.isfinite(y)
    x, y = x[finite], y[finite]
    if len(x) <= most:
        return x, y
    groups = np.array_split(np.arange(len(x)), most)
    return np.array([x[g].mean() for g in groups]), np.array([y[g].mean() for g in groups])


def visible(curves: Sequence[Curve]) -> tuple[float, float] | None:
    """Limits that let the first tenth of a training leave the figure where it would flatten the rest."""
    later = np.concatenate([curve[len(curve) // 10 :] for curve in curves])
    every, later = (values[np.isfinite(values)] for values in (np.concatenate(curves), later))
    if not len(later) or not 0 < 3 * np.ptp(later) < np.ptp(every):
        return None
    margin = 0.15 * float(np.ptp(later))
    return float(later.min()) - margin, float(later.max()) + 3 * margin


def shorten(name: str, most: int = 18) -> str:
    """A name that fits beside a figure."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def inline(figure: Figure, name: str, label: str, names: Sequence[str] = ()) -> str:
    """A figure as an `<svg>` for the page.

    Arguments:
        figure: drawn in the style of this module, without any user's words.
        name: prefix of its identifiers, so that several figures on a page do not clash.
        label: plain-text description.
        names: plain text for the placeholders `@0@`, `@1@`, …
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<defs>\s*</defs>", "", svg).replace("xlink:href", "href")
    used = sorted(set(re.findall(r'(?<=href="#)[^"]+|(?<=url\(#)[^)]+', svg)))
    short = {identifier: f"{name}-{i}" for i, identifier in enumerate(used)}
    svg = re.sub(r' id="([^"]+)"', lambda m: f' id="{short[m[1]]}"' if m[1] in short else "", svg)
    svg = re.sub(r'(href="#|url\(#)([^")]+)', lambda m: m[1] + short[m[2]], svg)
    svg = re.sub("|".join(_VARIABLES), lambda m: _variable(m[0]), svg)
    svg = re.sub(r"@(\d+)@", lambda m: text(names[int(m[1])]), svg)
    width, height = (round(96 * inches) for inches in figure.get_size_inches())
    box = f'viewBox="0 0 {0.75 * width:g} {0.75 * height:g}"'
    start = f'<svg class="figure" role="img" aria-label="{text(label)}" xmlns="http://www.w3.org/2000/svg"'
    svg = re.sub(r"<svg[^>]*>", lambda _: f'{start} width="{width}" height="{height}" {box}>', svg, count=1)
    return re.sub(r"\n\s*", "\n", svg).strip() + "\n"


def _variable(colour: str) -> str:
    return f"var(--{_VARIABLES[colour]}, {colour})"


def axes_inside(
    width: float, height: float, *, left: float, right: float, top: float, bottom: float
) -> tuple[Figure, Axes]:
    """A figure and its axes, with margins in inches, so that panels of any height line up."""
    figure = Figure(figsize=(width, height))
    box = (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
    return figure, figure.add_axes(box)
