"""All figures of a study by name: the page shows them, and each is a file beside it."""

import re
from collections.abc import Mapping

import numpy as np

from bestiary.report.figures import look
from bestiary.report.study_figures import (
    Strip,
    band_figure,
    limits,
    overview_figure,
    scatter_figure,
    strip_figure,
)
from bestiary.study.analysis.findings import Analysis, ArmSummary, number, title

BUDGETS = ("best-of-k", "best-of-k-by-compute")
_EFFECTS = 12


def draw(analysis: Analysis) -> dict[str, str]:
    """Name to SVG, in the order of the page."""
    drawn = {name: overview(analysis, name) for name in BUDGETS}
    ends = limits(analysis.arms)
    for i, arm in enumerate(analysis.arms):
        name = f"bands-{arm.name}"
        drawn[name] = band_figure(identifier(name), arm, look(i), ends, _band_label(arm))
    score = title(analysis.results.score)
    rows = [
        Strip(arm.name, look(i), _finite(arm), len(arm.trials) - arm.finished)
        for i, arm in enumerate(analysis.arms)
    ]
    if any(row.values for row in rows):
        drawn["draws"] = strip_figure("draws", rows, f"{score} of every draw: {_ranges(rows)}", width=7.2)
    for name in analysis.scores:
        rows = [
            Strip(arm.name, look(i), found.values, found.failed, (found.mean, found.sd))
            for i, arm in enumerate(analysis.arms)
            if (found := arm.retrained.get(name))
        ]
        if any(row.values for row in rows):
            key = f"winners-{name}"
            drawn[key] = strip_figure(identifier(key), rows, f"{title(name)} of every seed: {_ranges(rows)}")
    return drawn | _effects(analysis) | _agreements(analysis) | _elsewhere(analysis)


def overview(analysis: Analysis, name: str, *, with_key: bool = False) -> str:
    """The best of k of all arms by draws or by compute; with a key for a file of its own."""
    by_compute = name == BUDGETS[1]
    rows = []
    size, unit = _scaled(analysis)
    for i, arm in enumerate(analysis.arms):
        k = np.arange(1.0, len(arm.trials) + 1)
        rows.append(
            (
                look(i),
                k * arm.cost(analysis.unit) / size if by_compute else k,
                arm.curve.median,
                arm.curve.defined,
            )
        )
    across = f"spent on draws, {unit}" if by_compute else "draws"
    ends = [f"{a.name} {number(a.curve.median[0])} to {number(a.curve.median[-1])}" for a in analysis.arms]
    label = f"Median best against {across}, from the first draw to the last: {', '.join(ends)}"
    names = [arm.name for arm in analysis.arms] if with_key else ()
    up = "median best" + ("" if analysis.results.maximise else ", lower is better")
    return overview_figure(identifier(name), rows, across, up, label, log=by_compute, names=names)


def _scaled(analysis: Analysis) -> tuple[float, str]:
    """The unit of compute in which the cheapest arm's draws are at least 1, and its name."""
    least = min(len(arm.trials) * arm.cost(analysis.unit) for arm in analysis.arms)
    sizes = {
        "flops": [
            (1000.0**i, f"{prefix}FLOP") for i, prefix in enumerate(("", "k", "M", "G", "T", "P", "E"))
        ],
        "seconds": [(1.0, "seconds"), (60.0, "minutes"), (3600.0, "hours")],
    }.get(analysis.unit, [(1.0, analysis.unit)])
    return next(((size, name) for size, name in reversed(sizes) if least >= size), sizes[0])


def identifier(name: str) -> str:
    """A name as the start of identifiers in a figure."""
    return re.sub(r"[^\w-]", "-", name)


def telling(analysis: Analysis) -> list[tuple[int, ArmSummary, str]]:
    """(index, arm, option) of the numbers among hyper-parameters with an effect, the clearest first."""
    found = [
        (effect.p, i, arm, option)
        for i, arm in enumerate(analysis.arms)
        for option, effect in arm.effects.items()
        if effect.p <= 1 - analysis.level and effect.trend is not None
    ]
    return [
        (i, arm, option) for _, i, arm, option in sorted(found, key=lambda f: (f[0], f[1], f[3]))[:_EFFECTS]
    ]


def _finite(arm: ArmSummary) -> tuple[float, ...]:
    known = [t.score for t in arm.trials if t.status == "finished" and t.score is not None]
    return tuple(score for score in known if np.isfinite(score))


def _ranges(rows: list[Strip]) -> str:
    return ", ".join(f"{r.name} {number(min(r.values))} to {number(max(r.values))}" for r in rows if r.values)


def _band_label(arm: ArmSummary) -> str:
    curve, n = arm.curve, arm.curve.defined
    words = (
        f"{arm.name}: median best of one draw {number(curve.median[0])}, of all {number(curve.median[-1])}"
    )
    if n:
        words += (
            f"; band of the best of {n} from {number(curve.lower[n - 1])} to {number(curve.upper[n - 1])}"
        )
    return words


def _effects(analysis: Analysis) -> dict[str, str]:
    drawn = {}
    for i, arm, option in telling(analysis):
        points = [
            (float(t.settings[option]), t.score)
            for t in arm.trials
            if t.status == "finished" and t.score is not None and np.isfinite(t.score)
        ]
        if points:
            name = f"effect-{arm.name}-{option}"
            log = bool(_space(analysis, arm.name, option).get("log"))
            label = f"{title(analysis.results.score)} of {arm.name} against {option}, {len(points)} draws"
            drawn[name] = scatter_figure(identifier(name), [(look(i), points)], label, log)
    return drawn


def _space(analysis: Analysis, arm: str, option: str) -> Mapping[str, object]:
    found = analysis.results.spaces[arm][option]
    return found if isinstance(found, Mapping) else {}


def _agreements(analysis: Analysis) -> dict[str, str]:
    """Of the selection score with each other one, over the draws."""
    drawn = {}
    for other in analysis.agreement:
        groups = []
        for i, arm in enumerate(analysis.arms):
            pairs = [
                (t.score, t.scores[other]["value"])
                for t in arm.trials
                if t.status == "finished" and other in t.scores
            ]
            points = [
                (x, y) for x, y in pairs if x is not None and y is not None and np.isfinite([x, y]).all()
            ]
            groups += [(look(i), points)] if points else []
        if groups:
            name, count = f"agreement-{other}", sum(len(points) for _, points in groups)
            label = f"{title(other)} against {title(analysis.results.score)}, {count} draws"
            drawn[name] = scatter_figure(identifier(name), groups, label)
    return drawn


def _elsewhere(analysis: Analysis) -> dict[str, str]:
    drawn = {}
    for data, names in analysis.elsewhere.items():
        for score in names:
            groups = [
                (look(i), [(arm.retrained[score].mean, arm.elsewhere[data][score].mean)])
                for i, arm in enumerate(analysis.arms)
                if score in arm.retrained and score in arm.elsewhere.get(data, {})
            ]
            groups = [group for group in groups if np.isfinite(group[1]).all()]
            if groups:
                name = f"elsewhere-{data}-{score}"
                label = f"{title(score)} on {data} against {analysis.results.data}, {len(groups)} arms"
                drawn[identifier(name)] = scatter_figure(identifier(name), groups, label)
    return drawn
