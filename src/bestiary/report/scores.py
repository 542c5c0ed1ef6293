"""The parts of a report that hold its numbers: the table, the charts and what each number means."""

import math
from collections.abc import Mapping

from bestiary.metrics.results import Score
from bestiary.report.figures import look, score_figure
from bestiary.report.page import count, duration, figure, paragraph, section, table, text
from bestiary.study.results import REAL, SCORES, Comparison, Entry, is_bound, show
from bestiary.study.verdict import THRESHOLD, rank

_ARROWS = {"lower": "↓", "higher": "↑"}
_PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z")


def table_section(comparison: Comparison) -> str:
    """Every model with what it spent and what it scored, and real data against real data below."""
    names = _columns(comparison)
    best = {name: rank(comparison, name).best for name in names if SCORES[name].ranked}
    reasons = dict.fromkeys(entry.missing(name) for entry in comparison.entries for name in names)
    marks = {reason: _mark(i) for i, reason in enumerate(filter(None, reasons))}
    header = ["Model", "Parameters", "Examples seen", "Training", "Sampling<small>per 1,000</small>"]
    header += [f"{text(SCORES[name].title)}&nbsp;{_ARROWS[SCORES[name].better]}" for name in names]
    rows = []
    for entry in comparison.entries:
        row = [_model(entry), count(entry.parameters), _examples(entry), _training(entry)]
        row.append("–" if entry.sampling_seconds is None else duration(entry.sampling_seconds))
        for name in names:
            mark = marks.get(entry.missing(name), "")
            row.append(_cell(name, entry.scores, best.get(name) == entry.model, mark))
        rows.append(row)
    floor = [f"{REAL}<small>other real data</small>", "", "", "", ""]
    floor += [_cell(name, comparison.floors) for name in names]
    notes = [f"<sup>{mark}</sup> {text(reason)}." for reason, mark in marks.items()]
    notes += [
        f"{text(e.model)} {text(e.status)}{f': {text(e.reason)}' if e.reason else ''}. It is not ranked."
        for e in comparison.entries
        if e.status != "finished"
    ]
    listed = "".join(f"<li>{note}</li>" for note in [_legend(comparison, any(best.values())), *notes])
    return section(
        "table",
        "The table",
        table("Scores and costs of all models", header, rows, floor if comparison.floors else ()),
        f'<ul class="notes">{listed}</ul>',
    )


def charts_section(comparison: Comparison) -> str:
    """One small chart a score, the models below one another."""
    panels = []
    for name in _columns(comparison):
        info, floor = SCORES[name], _known(comparison.floors, name)
        rows = [(e.model, look(i), _known(e.scores, name)) for i, e in enumerate(comparison.entries)]
        values = [f"{model} {show(score)}" for model, _, score in rows if score]
        if not values:
            continue
        label = f"{info.title}: {', '.join(values)}" + (f"; {REAL} {show(floor)}" if floor else "")
        hollow = {model for model, _, score in rows if score and is_bound(name, score)}
        drawn = score_figure(f"score-{name}", rows, hollow, floor, label)
        direction = f"{_ARROWS[info.better]} {info.better} is better"
        panels.append(figure(drawn, f"<b>{text(info.title)}</b> <small>{direction}</small>"))
    if not panels:
        return ""
    words = "Bars reach two standard errors to each side"
    words += "; the dashed line is real data against real data." if comparison.floors else "."
    if _any_bound(comparison):
        words += " A hollow mark is a bound: the true value may lie further left."
    return section(
        "scores", "The scores at a glance", paragraph(words), f'<div class="panels">{"".join(panels)}</div>'
    )


def definitions_section(comparison: Comparison) -> str:
    """What each number means and how it was measured here."""
    items = []
    owners = [*((e.model, e.scores) for e in comparison.entries), (REAL, comparison.floors)]
    for name in comparison.score_names:
        info = SCORES[name]
        unit = f"{info.unit}, " if info.unit else ""
        protocols: dict[str, list[str]] = {}
        for owner, scores in owners:
            if name in scores:
                protocols.setdefault(_protocol(scores[name]), []).append(owner)
        several = len(protocols) > 1
        measured = "<br>".join(
            text(f"{', '.join(models)}: {protocol}" if several else protocol)
            for protocol, models in protocols.items()
        )
        items.append(
            f'<div><h3>{text(info.title)}</h3><p class="kind">{unit}{info.better} is better</p>'
            f'<p>{text(info.meaning)}</p><p class="protocol">{measured}</p></div>'
        )
    words = (
        "± is one standard error over the finite number of examples. Two scores a and b are called"
        f" distinguishable where |a − b| &gt; {THRESHOLD:g} √(e<sub>a</sub>² + e<sub>b</sub>²), the two"
        " errors taken as independent. Training time is spent in updates; scoring and drawing are not in it."
    )
    listed = f'<div class="definitions">{"".join(items)}</div>' if items else ""
    return section("definitions", "How each number is defined", f"<p>{words}</p>", listed)


def _columns(comparison: Comparison) -> list[str]:
    """The scores with a column of their own, the others standing below one of these."""
    names = comparison.score_names
    return [name for name in names if SCORES[name].beside not in names]


def _mark(index: int) -> str:
    return chr(ord("a") + index) if index < 26 else str(index + 1)


def _known(scores: Mapping[str, Score], name: str) -> Score | None:
    score = scores.get(name)
    return score if score is not None and math.isfinite(score.value) else None


def _any_bound(comparison: Comparison) -> bool:
    return any(is_bound(name, score) for entry in comparison.entries for name, score in entry.scores.items())


def _legend(comparison: Comparison, any_best: bool) -> str:
    words = "↓ lower is better, ↑ higher is better, ± one standard error."
    if any_best:
        words += " <b>Bold</b>: the best number of its column, distinguishable from every other in it."
    elif len(comparison.entries) > 1:
        words += " Nothing is bold: no best number is distinguishable from every other in its column."
    bounds: dict[str, list[str]] = {}
    for entry in comparison.entries:
        for name in _columns(comparison):
            score = _known(entry.scores, name)
            if score and is_bound(name, score):
                bounds.setdefault(score.protocol, []).append(entry.model)
    if bounds:
        kinds = "; ".join(f"{', '.join(models)}: {protocol}" for protocol, models in bounds.items())
        words += f" ≤ marks a bound, the true value may be lower ({text(kinds)})."
    return words


def _model(entry: Entry) -> str:
    tag = f' <span class="tag">{text(entry.status)}</span>' if entry.status != "finished" else ""
    return f"{text(entry.model)}{tag}<small>{text(entry.family)}</small>"


def _examples(entry: Entry) -> str:
    steps = [f"{text(player)} {count(n)}" for player, n in entry.updates.items()]
    if len(set(entry.updates.values())) == 1:
        steps = [f"{count(next(iter(entry.updates.values())))} updates"]
    return count(entry.examples) + (f"<small>{'<br>'.join(steps)}</small>" if steps else "")


def _training(entry: Entry) -> str:
    if entry.flops is None or not math.isfinite(entry.flops) or entry.flops < 1:
        return duration(entry.seconds)
    power = min(len(_PREFIXES) - 1, math.floor(math.log10(entry.flops)) // 3)
    return f"{duration(entry.seconds)}<small>{entry.flops / 1000**power:.3g} {_PREFIXES[power]}FLOP</small>"


def _cell(name: str, scores: Mapping[str, Score], best: bool = False, mark: str = "") -> str:
    score = _known(scores, name)
    if score is None:
        return f"–<sup>{mark}</sup>" if mark else "–"
    value, _, error = show(score).partition(" ± ")
    value = f"≤ {value}" if is_bound(name, score) else value
    small = [f"± {error}"] if error else []
    for other, info in SCORES.items():
        beside = _known(scores, other) if info.beside == name else None
        if beside:
            words = info.unit if info.unit != SCORES[name].unit else "ELBO"
            small.append(
                f"{'≤ ' if is_bound(other, beside) else ''}{show(beside).partition(' ± ')[0]} {words}"
            )
    return (f"<b>{value}</b>" if best else value) + (f"<small>{'<br>'.join(small)}</small>" if small else "")


def _protocol(score: Score) -> str:
    sizes = f"{count(score.n_real)} real" + (f", {count(score.n_fake)} generated" if score.n_fake else "")
    return f"{score.protocol} ({sizes})"
