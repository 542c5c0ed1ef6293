"""A study's numbers as tables: each as CSV, JSON and LaTeX."""

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bestiary.study.analysis.findings import Analysis, direction
from bestiary.study.analysis.trials import UNITS

Cell = str | int | float | bool | None

_LATEX = str.maketrans({
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "→": r"$\to$",
    "∞": r"$\infty$", "\n": " ",
})  # fmt: skip


@dataclass(frozen=True)
class Table:
    """Rows of plain values under a header; None where there is none."""

    name: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def tables(analysis: Analysis) -> tuple[Table, ...]:
    """Every table of a study's report; those without a row are left out."""
    made = (_arms(analysis), _draws(analysis), _best_of_k(analysis), _pairs(analysis), _winners(analysis),
            _matches(analysis), _effects(analysis), _agreement(analysis), _rungs(analysis))  # fmt: skip
    return tuple(table for table in made if table.rows)


def write_table(table: Table, folder: Path) -> None:
    """Write NAME.csv, NAME.json and NAME.tex into an existing folder."""
    rows = [[_plain(cell) for cell in row] for row in table.rows]
    with (folder / f"{table.name}.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([table.header, *rows])
    content = {"caption": table.caption, "rows": [dict(zip(table.header, row, strict=True)) for row in rows]}
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / f"{table.name}.json").write_text(text + "\n", encoding="utf-8")
    (folder / f"{table.name}.tex").write_text(latex(table), encoding="utf-8")


def latex(table: Table) -> str:
    """The table for a paper, with the rules of the package booktabs; numbers to four digits."""
    numeric = [
        all(isinstance(row[i], int | float | None) for row in table.rows) for i in range(len(table.header))
    ]
    lines = [
        r"\begin{table}",
        rf"\caption{{{table.caption.translate(_LATEX)}}}",
        rf"\begin{{tabular}}{{{''.join('r' if right else 'l' for right in numeric)}}}",
        r"\toprule",
        *(" & ".join(cells) + r" \\" for cells in [[name.translate(_LATEX) for name in table.header]]),
        r"\midrule",
        *(" & ".join(map(_latex, row)) + r" \\" for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _arms(analysis: Analysis) -> Table:
    results = analysis.results
    header = ["arm", "model", "draws", "finished", *_statuses(analysis)]
    header += [f"best_{results.score}"]
    for k in analysis.ks:
        header += [f"median_best_of_{k}", f"lower_{k}", f"upper_{k}", f"letters_{k}"]
    for name in analysis.scores:
        header += [f"{name}_mean", f"{name}_sd", f"{name}_seeds", f"{name}_failed", f"{name}_letters"]
    header += [f"total_{unit}" for unit in UNITS]
    rows = []
    for arm in analysis.arms:
        row: list[Cell] = [arm.name, results.models.get(arm.name, arm.name), len(arm.trials), arm.finished]
        row += [arm.lost.get(status, 0) for status in _statuses(analysis)]
        row.append(arm.best.score if arm.best else None)
        for k in analysis.ks:
            curve = arm.curve
            row += [float(values[k - 1]) for values in (curve.median, curve.lower, curve.upper)]
            row.append(analysis.draws[k].letters[arm.name])
        for name in analysis.scores:
            found, order = arm.retrained.get(name), analysis.winners[name]
            row += [found.mean, found.sd, len(found.values), found.failed] if found else [None] * 4
            row.append(order.letters.get(arm.name) if direction(results, name) != "neither" else None)
        row += [arm.spent.get(unit) for unit in UNITS]
        rows.append(tuple(row))
    caption = (
        f"{results.draws} draws an arm at {results.budget} each, on {results.data}; best by"
        f" {results.selection}; winners re-trained: mean and deviation over seeds. Arms that share a letter"
        " are not told apart."
    )
    return Table("arms", caption, tuple(header), tuple(rows))


def _statuses(analysis: Analysis) -> list[str]:
    return sorted({status for arm in analysis.arms for status in arm.lost})


def _draws(analysis: Analysis) -> Table:
    results = analysis.results
    options = sorted({option for space in results.spaces.values() for option in space})
    scores = list(dict.fromkeys(name for trial in results.trials for name in trial.scores))
    about = ("arm", "number", "status", "reason", "seed", f"selection_{results.score}")
    header = (*about, *options, *scores, *UNITS)
    rows = []
    for arm in analysis.arms:
        own = results.spaces.get(arm.name, {})
        for t in arm.trials:
            row: list[Cell] = [t.arm, t.number, t.status, t.reason, t.seed, t.score]
            row += [_shown(t.settings.get(option)) if option in own else None for option in options]
            row += [t.scores[name]["value"] if name in t.scores else None for name in scores]
            rows.append((*row, *(t.spent.get(unit) for unit in UNITS)))
    return Table("draws", f"Every draw of {results.name}.", header, tuple(rows))


def _best_of_k(analysis: Analysis) -> Table:
    header = ("arm", "k", "compute", "unit", "expected", "median", "lower", "upper",
              "bootstrap_mean", "bootstrap_lower", "bootstrap_upper")  # fmt: skip
    rows: list[tuple[Cell, ...]] = []
    for arm in analysis.arms:
        curve, cost = arm.curve, arm.cost(analysis.unit)
        columns = (curve.expected, curve.median, curve.lower, curve.upper, *arm.bootstrap)
        for k in range(1, len(arm.trials) + 1):
            rows.append((arm.name, k, k * cost, analysis.unit, *(float(column[k - 1]) for column in columns)))
    caption = (
        "The best of k draws: unbiased expectation, median and its exact"
        f" {analysis.level:.0%} band where there is one; the plain bootstrap of the minimum to compare with."
    )
    return Table("best-of-k", caption, header, tuple(rows))


def _pairs(analysis: Analysis) -> Table:
    rows = tuple(
        (d.a, d.b, d.k, d.pair.chance, d.pair.low, d.pair.high, d.pair.p, d.p, d.p <= 1 - analysis.level)
        for d in analysis.duels
    )
    caption = (
        "The chance that the best of k draws of arm a beats that of arm b, with an interval, the p-value of"
        " the permutation test, and the same corrected by Holm."
    )
    return Table(
        "pairs", caption, ("a", "b", "k", "chance", "low", "high", "p", "p_corrected", "apart"), rows
    )


def _winners(analysis: Analysis) -> Table:
    rows = []
    for kind, found in (("retrained", analysis.results.retrained), ("elsewhere", analysis.results.elsewhere)):
        for row in found:
            for name in row.scores or [""]:
                value = row.scores[name]["value"] if name else None
                rows.append((kind, row.arm, row.data, row.seed, row.status, row.reason, name, value))
    header = ("kind", "arm", "data", "seed", "status", "reason", "score", "value")
    return Table(
        "winners", "The chosen settings, trained anew and scored on the test split.", header, tuple(rows)
    )


def _matches(analysis: Analysis) -> Table:
    rows = []
    for m in analysis.matches:
        d = m.difference
        welch: tuple[Cell, ...] = (d.value, d.low, d.high, d.p, m.p) if d else (None,) * 5
        rows.append((m.score, m.a, m.b, *welch, m.chance.chance, m.chance.low, m.chance.high))
    header = ("score", "a", "b", "difference", "low", "high", "p", "p_corrected",
              "chance", "chance_low", "chance_high")  # fmt: skip
    caption = (
        "Re-trained winners: difference of the means of a and b with Welch's interval and p-value, corrected"
        " by Holm; the chance that a seed of a beats one of b, without an assumption."
    )
    return Table("matches", caption, header, tuple(rows))


def _effects(analysis: Analysis) -> Table:
    rows = tuple(
        (arm.name, name, e.draws, e.trend, e.low, e.high, e.explained, e.p)
        for arm in analysis.arms
        for name, e in arm.effects.items()
    )
    caption = (
        "What each hyper-parameter does to the selection score: rank correlation with its interval, share of"
        " the ranks' variance between thirds of its values, and the p-value, corrected by Holm."
    )
    header = ("arm", "option", "draws", "trend", "low", "high", "explained", "p_corrected")
    return Table("sensitivity", caption, header, rows)


def _agreement(analysis: Analysis) -> Table:
    results = analysis.results
    found = [(f"draws: {results.score}, {name}", a) for name, a in analysis.agreement.items()]
    found += [(f"winners: {one}, {two}", a) for (one, two), a in analysis.between.items()]
    found += [
        (f"{results.data}, {data}: {name}", a)
        for data, agreements in analysis.elsewhere.items()
        for name, a in agreements.items()
    ]
    rows = tuple((what, a.tau, a.p, a.n) for what, a in found if a)
    return Table("agreement", "Kendall's rank correlations.", ("between", "tau", "p", "n"), rows)


def _rungs(analysis: Analysis) -> Table:
    rows: list[tuple[Cell, ...]] = []
    header: tuple[str, ...] = ()
    if (found := analysis.rungs) is not None:
        header = ("arm", *(f"best_at_{share:.3g}" for share in found.shares), "halving", "behind", "cost")
        for arm, best in found.best.items():
            halved = found.halved[arm]
            rows.append((arm, *best, halved.score, halved.behind, halved.cost))
    caption = (
        "The best draw of each arm at shares of the budget; what successive halving would have chosen, by"
        " which share it is behind the best, and the share of the compute that it would have spent."
    )
    return Table("rungs", caption, header, tuple(rows))


def _shown(value: object) -> Cell:
    if isinstance(value, str | int | float) or value is None:
        return value
    return ", ".join(map(str, value)) if isinstance(value, Sequence) else str(value)


def _plain(cell: Cell) -> Cell:
    return None if isinstance(cell, float) and not math.isfinite(cell) else cell


def _latex(cell: Cell) -> str:
    if cell is None or (isinstance(cell, float) and not math.isfinite(cell)):
        return "--"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell).translate(_LATEX)
