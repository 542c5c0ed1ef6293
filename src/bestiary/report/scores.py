"""The parts of a report that hold its numbers: the table, the charts and what each number means."""

import math
from collections.abc import Mapping, Sequence

from bestiary.metrics.results import Score
from bestiary.report.figures import look, score_figure
from bestiary.report.page import count, duration, figure, paragraph, section, table, text
from bestiary.scores import SCORES
from bestiary.study.results import REAL, Comparison, Entry, is_bound, show
from bestiary.study.verdict import THRESHOLD, rank

_ARROWS = {"lower": "↓", "higher": "↑", "neither": ""}
_PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z")


def table_section(comparison: Comparison) -> str:
    """Every model with what it spent and its main scores, and real data against real data below."""
    names = _columns(comparison)
    best, marks = _best(comparison, names), _marks(comparison, names)
    header = ["Model", "Parameters", "Examples seen", "Training", "Sampling<small>per 1,000</small>"]
    header += [_heading(name) for name in names]
    rows = []
    for entry in comparison.entries:
        row = [_model(entry), count(entry.parameters), _examples(entry), _training(entry)]
        row.append("–" if entry.sampling_seconds is None else duration(entry.sampling_seconds))
        row += [_entry_cell(entry, name, best, marks) for name in names]
        rows.append(row)
    floor = [f"{REAL}<small>other real data</small>", "", "", "", ""]
    floor += [_cell(name, comparison.floors) for name in names]
    notes = [_legend(comparison, any(best.values())), *_explained(marks)]
    notes += [
        f"{text(e.model)} {text(e.status)}{f': {text(e.reason)}' if e.reason else ''}. It is not ranked."
        for e in comparison.entries
        if e.status != "finished"
    ]
    notes += [
        f"The training of {text(e.model)} warned of {text(w)}."
        for e in comparison.entries
        for w in e.warnings
    ]
    if comparison.notes:
        notes += ["What to know before believing the numbers:", *(f"{text(n)}." for n in comparison.notes)]
    return section(
        "table",
        "The table",
        table("Scores and costs of all models", header, rows, floor if comparison.floors else ()),
        _listed(notes),
    )


def others_section(comparison: Comparison) -> str:
    """The scores that are not main ones, one below the other, with a column for each model."""
    names = comparison.other_names
    if not names:
        return ""
    best, marks = _best(comparison, names), _marks(comparison, names)
    header = ["Score", *(_model(entry) for entry in comparison.entries)]
    header += [REAL] if comparison.floors else []
    rows = [
        [
            f"{_heading(name)}<small>{text(SCORES[name].unit)}</small>"
            if SCORES[name].unit
            else _heading(name),
            *(_entry_cell(entry, name, best, marks) for entry in comparison.entries),
            *([_cell(name, comparison.floors)] if comparison.floors else []),
        ]
        for name in names
    ]
    words = (
        "The verdict does not rest on these: they say in other ways what the main scores say, or describe"
        " the models."
    )
    return section(
        "others",
        "Other scores",
        paragraph(words),
        table("Other scores of all models", header, rows),
        _listed(_explained(marks)),
    )


def charts_section(comparison: Comparison) -> str:
    """One small chart a main score, the models below one another."""
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
        direction = f"{_ARROWS[info.better]} {_direction(name)}"
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
            f'<div><h3>{text(info.title)}</h3><p class="kind">{unit}{_direction(name)}</p>'
            f'<p>{text(info.meaning)}</p><p class="protocol">{measured}</p></div>'
        )
    words = (
        "± is one standard error over the finite number of examples. Two scores a and b are called"
        f" distinguishable where |a − b| &gt; {THRESHOLD:g} √(e<sub>a</sub>² + e<sub>b</sub>²), the two"
        " errors taken as independent; for likelihoods, which are of the same examples, the standard error"
        " of the mean of their differences is taken. Training time is spent in updates; scoring and drawing"
        " are not in it."
    )
    listed = f'<div class="definitions">{"".join(items)}</div>' if items else ""
    return section("definitions", "How each number is defined", f"<p>{words}</p>", listed)


def _columns(comparison: Comparison) -> list[str]:
    """The main scores with a column of their own, the others standing below one of these."""
    return [name for name in comparison.main_names if SCORES[name].beside not in comparison.score_names]


def _heading(name: str) -> str:
    return f"{text(SCORES[name].title)}&nbsp;{_ARROWS[SCORES[name].better]}".removesuffix("&nbsp;")


def _direction(name: str) -> str:
    better = SCORES[name].better
    return f"{better} is better" if better != "neither" else "neither high nor low is better"


def _best(comparison: Comparison, names: Sequence[str]) -> dict[str, str | None]:
    """The model that is distinguishably best by each score that puts models in order."""
    return {name: rank(comparison, name).best for name in names if SCORES[name].ranked}


def _marks(comparison: Comparison, names: Sequence[str]) -> dict[str, str]:
    """Why scores are missing, to the letter that stands in their place."""
    reasons = dict.fromkeys(entry.missing(name) for entry in comparison.entries for name in names)
    return {
        reason: chr(ord("a") + i) if i < 26 else str(i + 1) for i, reason in enumerate(filter(None, reasons))
    }


def _explained(marks: Mapping[str, str]) -> list[str]:
    return [f"<sup>{mark}</sup> {text(reason)}." for reason, mark in marks.items()]


def _listed(notes: Sequence[str]) -> str:
    items = "".join(f"<li>{note}</li>" for note in notes)
    return f'<ul class="notes">{items}</ul>' if items else ""


def _entry_cell(entry: Entry, name: str, best: Mapping[str, str | None], marks: Mapping[str, str]) -> str:
    return _cell(name, entry.scores, best.get(name) == entry.model, marks.get(entry.missing(name), ""))


def _known(scores: Mapping[str, Score], name: str) -> Score | None:
    score = scores.get(name)
    return score if score is not None and math.isfinite(score.value) else None


def _any_bound(comparison: Comparison) -> bool:
    names = comparison.main_names
    return any(
        is_bound(name, e.scores[name]) for e in comparison.entries for name in names if name in e.scores
    )


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
    work = f"{entry.flops / 1000**power:.3g} {_PREFIXES[power]}FLOP"
    if entry.arithmetic == "bfloat16":
        work += "<br>in bfloat16"
    return f"{duration(entry.seconds)}<small>{work}</small>"


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
