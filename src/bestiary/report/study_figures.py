"""The figures of a study, in the look of every report's figures: see `bestiary.report.figures`."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import style as mpl_style
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from bestiary.report.figures import INK, MUTED, PAPER, STYLE, Curve, Look, axes_inside, inline, shorten
from bestiary.study.analysis.findings import ArmSummary

# From which ratio of the largest to the smallest value an axis is logarithmic; sooner where curves fall.
_LOG_FROM, _CURVES_LOG_FROM = 6.0, 2.5
_FAINT = 0.9  # line width of what has no band


@dataclass(frozen=True)
class Strip:
    """One row of dots: an arm's values, how many more gave none, and mean and deviation where asked for."""

    name: str
    look: Look
    values: tuple[float, ...]
    failed: int = 0
    summary: tuple[float, float] | None = None


def plain(svg: str) -> str:
    """A figure of a page as a file of its own, with the light page's colours and no variable in it."""
    return re.sub(r"var\(--\w+, (#\w+)\)", r"\1", svg)


def limits(arms: Sequence[ArmSummary]) -> tuple[float, float]:
    """What the axis of best-of-k figures has to hold: all medians, and all bands with two ends."""
    values = np.concatenate(
        [v for a in arms for v in (a.curve.median, a.curve.lower, a.curve.upper, a.curve.expected)]
    )
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)


def overview_figure(
    name: str,
    rows: Sequence[tuple[Look, Curve, Curve, int]],
    across: str,
    up: str,
    label: str,
    *,
    log: bool = False,
    names: Sequence[str] = (),
) -> str:
    """The median best of every arm: bold as far as it has a band, thin beyond.

    Arguments:
        name: makes the identifiers in the figure unique on the page.
        rows: an arm's look, budgets, medians, and how many of these have a band.
        across, up: names of the axes, in the package's words.
        label: plain-text description of the figure.
        log: whether budgets are on a logarithmic axis.
        names: of the arms, for a key inside the figure.
    """
    with mpl_style.context(["default", STYLE]):
        room = 1.7 if names else 0.12
        figure, axes = axes_inside(5.2 + room, 3.7, left=0.62, right=room, top=0.1, bottom=0.45)
        for style, x, y, defined in rows:
            axes.plot(x, y, color=style.colour, linestyle=style.line["linestyle"], linewidth=_FAINT)
            axes.plot(x[:defined], y[:defined], **style.line, linewidth=2.2)
            axes.plot(x[:1], y[:1], color=style.colour, marker=style.marker, markersize=4.5)
        finite = np.concatenate([y[np.isfinite(y)] for _, _, y, _ in rows])
        _scale(axes, "y", finite, log_from=_CURVES_LOG_FROM)
        if log:
            _scale(axes, "x", np.concatenate([x for _, x, _, _ in rows]), log_from=1.0)
        else:
            axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.set(xlabel=across, ylabel=up)
        for i, (style, *_) in zip(range(len(names)), rows, strict=False):
            at = 1 - (i + 0.5) / max(len(names), 12)
            axes.plot([1.03, 1.1], [at, at], **style.line, transform=axes.transAxes, clip_on=False)
            axes.text(1.12, at, f"@{i}@", transform=axes.transAxes, va="center")
        return inline(figure, name, label, [shorten(arm) for arm in names])


def band_figure(name: str, arm: ArmSummary, style: Look, ends: tuple[float, float], label: str) -> str:
    """One arm's best of k draws: median and band, expectation, and the plain bootstrap of the minimum."""
    curve, k = arm.curve, np.arange(1, len(arm.trials) + 1)
    with mpl_style.context(["default", STYLE]):
        figure, axes = axes_inside(3.5, 2.3, left=0.55, right=0.1, top=0.08, bottom=0.42)
        low, high = _scale(axes, "y", np.array(ends), log_from=_CURVES_LOG_FROM)
        for side in arm.bootstrap[1:]:
            axes.plot(
                k, np.clip(side, None, high * 2 + 1), color=MUTED, linewidth=0.8, linestyle=(0, (1, 1.5))
            )
        n = curve.defined
        if n:
            edges = np.arange(0.5, n + 1) if n == 1 else k[:n]
            lower, upper = (np.resize(side[:n], len(edges)) for side in (curve.lower, curve.upper))
            reach = np.where(np.isfinite(upper), upper, high)
            axes.fill_between(edges, lower, reach, color=style.colour, alpha=0.22, linewidth=0)
        axes.plot(k, np.where(np.isfinite(curve.expected), curve.expected, np.nan), color=INK, linewidth=1.1,
                  linestyle=(0, (4, 2)))  # fmt: skip
        axes.plot(k, curve.median, color=style.colour, linewidth=_FAINT)
        axes.plot(k[:n], curve.median[:n], color=style.colour, linewidth=2.2)
        dots = slice(0, max(n, 1))
        axes.plot(k[dots], curve.median[dots], color=style.colour, marker=style.marker, markersize=3.5, ls="")
        axes.set_ylim(low, high)
        axes.set_xlim(0.5, len(k) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set_xlabel("draws")
        return inline(figure, name, label)


def strip_figure(name: str, rows: Sequence[Strip], label: str, width: float = 3.5) -> str:
    """Rows of dots, one arm below the other, and bars of one deviation to each side of the mean."""
    with mpl_style.context(["default", STYLE]):
        room = 0.62 if any(row.failed for row in rows) else 0.16
        height = 0.42 + 0.27 * len(rows)
        figure, axes = axes_inside(width, height, left=1.22, right=room, top=0.06, bottom=0.36)
        beside = axes.get_yaxis_transform()
        for y, row in enumerate(rows):
            axes.text(-0.03, y, f"@{y}@", transform=beside, ha="right", va="center")
            offsets = 0.16 * np.cos(np.pi * np.arange(len(row.values)))  # so that fewer dots hide each other
            axes.plot(row.values, y + offsets, linestyle="", marker=row.look.marker, markersize=4.5,
                      color=row.look.colour, alpha=0.75, markeredgewidth=0)  # fmt: skip
            if row.summary and math.isfinite(row.summary[0]):
                error = row.summary[1] if math.isfinite(row.summary[1]) else None
                axes.errorbar(
                    row.summary[0], y, xerr=error, color=INK, fmt="|", ms=7, capsize=2, elinewidth=0.9
                )
            if row.failed:
                words = f"{row.failed} failed"
                axes.text(1.02, y, words, transform=beside, color=MUTED, va="center", fontsize=7.5)
        ends = [
            end for mean, sd in (row.summary for row in rows if row.summary) for end in (mean - sd, mean + sd)
        ]
        _scale(axes, "x", np.array([*(value for row in rows for value in row.values), *ends]))
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        return inline(figure, name, label, [shorten(row.name) for row in rows])


def scatter_figure(
    name: str, groups: Sequence[tuple[Look, Sequence[tuple[float, float]]]], label: str, log_x: bool = False
) -> str:
    """Points of several arms; `log_x` puts the horizontal axis on a logarithmic scale. Axes bear no names."""
    with mpl_style.context(["default", STYLE]):
        figure, axes = axes_inside(3.5, 2.6, left=0.6, right=0.12, top=0.1, bottom=0.36)
        points = np.array([point for _, group in groups for point in group])
        for style, group in groups:
            x, y = zip(*group, strict=True)
            axes.plot(x, y, linestyle="", marker=style.marker, color=style.colour, markersize=4.5, alpha=0.8,
                      markeredgecolor=PAPER, markeredgewidth=0.4)  # fmt: skip
        _scale(axes, "x", points[:, 0], log_from=1.0 if log_x else _LOG_FROM)
        _scale(axes, "y", points[:, 1])
        return inline(figure, name, label)


def _scale(axes: Axes, which: str, values: Curve, log_from: float = _LOG_FROM) -> tuple[float, float]:
    """Logarithmic where the values span more than a factor; with a margin. Its limits."""
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    axis: Axis = axes.yaxis if which == "y" else axes.xaxis
    set_limits = axes.set_ylim if which == "y" else axes.set_xlim
    if low > 0 and high > log_from * low:
        (axes.set_yscale if which == "y" else axes.set_xscale)("log")
        margin = (high / low) ** 0.06
        low, high = low / margin, high * margin
        subs = (1, 2, 3, 5, 7) if high < 10 * low else (1, 2, 5) if high < 200 * low else (1,)
        axis.set_major_locator(LogLocator(subs=subs))
        axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axis.set_minor_locator(NullLocator())
    else:
        margin = 0.06 * (high - low) or abs(high) or 1.0
        low, high = low - margin, high + margin
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    set_limits(low, high)
    return low, high
