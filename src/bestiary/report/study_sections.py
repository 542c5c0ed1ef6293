"""The parts of a study's report that hold its numbers."""

import math
from collections.abc import Mapping, Sequence

from bestiary.metrics.results import Score
from bestiary.report.figures import key, look
from bestiary.report.page import figure, paragraph, section, table, text
from bestiary.report.study_drawing import BUDGETS, identifier, telling
from bestiary.study.analysis.effects import Agreement, Spread
from bestiary.study.analysis.findings import (
    Analysis,
    ArmSummary,
    direction,
    interval,
    number,
    p_value,
    part,
    share,
    title,
)
from bestiary.study.analysis.verdict import amount
from bestiary.study.results import show

_ARROWS = {"lower": "&nbsp;↓", "higher": "&nbsp;↑", "neither": ""}


def table_section(analysis: Analysis) -> str:
    """Every arm with its draws, its best, its re-trained winner and what it spent."""
    results, k = analysis.results, analysis.ks[-1] if analysis.ks else 0
    names = analysis.main
    header = [
        "Arm",
        "Draws<small>with a score</small>",
        f"Best draw<small>{_short(analysis, results.score)}</small>",
    ]
    if k:
        header.append(f"Median best<small>of {k} draw{'s' if k > 1 else ''}</small>")
    header.append("Default<small>draw 0</small>")
    header += [f"{_short(analysis, name)}<small>re-trained</small>" for name in names]
    header.append("Spent on draws")
    rows = []
    for arm in ordered(analysis):
        lost = "<br>".join(f"{n} {text(status)}" for status, n in arm.lost.items())
        row = [
            _arm(analysis, arm),
            f"{arm.finished} of {len(arm.trials)}" + (f"<small>{lost}</small>" if lost else ""),
        ]
        row.append(
            "–"
            if arm.best is None
            else f"{number(arm.best.score or 0.0)}<small>draw {arm.best.number}</small>"
        )
        if k:
            row.append(_median(analysis, arm, k))
        default = next((t.score for t in arm.trials if t.number == 0 and t.status == "finished"), None)
        row.append("–" if default is None else number(default))
        row += [_retrained(analysis, arm, name) for name in names]
        row.append(f"{text(amount(arm.spent[analysis.unit], analysis.unit))}{_seconds(analysis, arm)}")
        rows.append(row)
    notes = ["↓ lower is better, ↑ higher is better, ± one standard deviation over seeds."]
    if k:
        notes.append(f"Median best: with its {analysis.level:.0%} band below it.")
    notes.append(
        "Letters in brackets: arms that share one are not told apart in that column. <b>Bold</b>: told apart"
        " from, and better than, every other arm in the column."
    )
    notes += [f"{text(arm.name)}: {text(reason)}." for arm in analysis.arms for reason in _reasons(arm)]
    listed = "".join(f"<li>{note}</li>" for note in notes)
    return section("table", "The table", table("All arms", header, rows), f'<ul class="notes">{listed}</ul>')


def ordered(analysis: Analysis) -> list[ArmSummary]:
    """The arms in the order of their draws, or by their best where that is not known."""
    if analysis.ks:
        return [analysis.arm(name) for name in analysis.draws[analysis.ks[-1]].names]
    sign = -1 if analysis.results.maximise else 1
    return sorted(analysis.arms, key=lambda arm: sign * (arm.best.score or 0.0) if arm.best else float("inf"))


def curves_section(analysis: Analysis, drawn: Mapping[str, str]) -> str:
    """Best of k against draws and against compute, and every arm with its band."""
    words = (
        "How good is the best of k draws, in the median over all ways to take k of the draws that were made?"
        f" Bold: as far as the {analysis.level:.0%} band of that median is defined. Thin: beyond, where so"
        " few draws allow no statement about others like them. The second figure has the same against what k"
        " draws cost on average."
    )
    if not analysis.independent:
        words += " The draws are not independent, so there is no band at all."
    pair = "".join(f"<figure>{drawn[name]}</figure>" for name in BUDGETS)
    names = key([(look(i), arm.name) for i, arm in enumerate(analysis.arms)], inline=True, marked=True)
    more = (
        "Each arm alone. Shaded: the band, exact whatever the law of the scores. Dashed: the expected best,"
        " without bias; it starts where k draws cannot all be failures. Dotted: the limits of the plain"
        " bootstrap of the minimum, to compare with: at the right end they hold the true median only half of"
        " the time, whatever rate they state."
    )
    panels = [figure(drawn[f"bands-{arm.name}"], f"<b>{text(arm.name)}</b>") for arm in analysis.arms]
    return section(
        "curves", "Best of k draws", paragraph(words), f'<div class="beside">{pair}</div>', names,
        paragraph(more), _panels(panels),
    )  # fmt: skip


def rungs_section(analysis: Analysis) -> str:
    """Every arm's best draw at parts of the budget, and what halving would have come to."""
    rungs = analysis.rungs
    if rungs is None:
        return ""
    words = (
        f"{title(analysis.results.score)} of each arm's best draw after a part of its budget; all went on."
        " Then what successive halving of the same draws would have chosen, by how much that is behind the"
        f" best, and the share of the arm's {analysis.unit} that it would have spent."
    )
    firsts = [rungs.ahead(rung, analysis.results.maximise) for rung in range(len(rungs.shares))]
    rows = []
    for arm in ordered(analysis):
        best, halved = rungs.best[arm.name], rungs.halved[arm.name]
        cells = [number(value) if math.isfinite(value) else "–" for value in best]
        cells = [f"<b>{c}</b>" if firsts[i] == arm.name else c for i, c in enumerate(cells)]
        cells += ["–" if halved.score is None else number(halved.score)]
        cells += ["–" if halved.behind is None else share(halved.behind), share(halved.cost)]
        rows.append([_arm(analysis, arm), *cells])
    header = [
        "Arm",
        *(f"{text(part(each))}<small>of the budget</small>" for each in rungs.shares),
        "Halving<small>would choose</small>",
        "Behind",
        f"{text(analysis.unit)}<small>of all draws'</small>",
    ]
    label = "Best draws at parts of the budget, and successive halving"
    return section("rungs", "At parts of the budget", paragraph(words), table(label, header, rows))


def draws_section(analysis: Analysis, drawn: Mapping[str, str]) -> str:
    """Every draw, and who beats whom."""
    results = analysis.results
    better = direction(results, results.score)
    words = f"{title(results.score)} of every draw, {better} is better ({results.selection})."
    parts = [f"<figure>{drawn['draws']}</figure>"] if "draws" in drawn else []
    for k in analysis.ks if len(analysis.arms) > 1 else ():
        parts += [
            f"<h3>{'A single draw' if k == 1 else f'The best of {k} draws'}</h3>",
            _chances(analysis, k),
        ]
    if parts and analysis.duels:
        parts.append(paragraph(
            "The chance that the arm of the row beats the arm of the column, ties counted half, with its"
            f" {analysis.level:.0%} interval. Bold: told apart, by the permutation test with Holm's"
            " correction for all these comparisons. The interval makes no assumption and is wide: a pair may"
            " be told apart though it holds one half."
        ))  # fmt: skip
    return section("draws", "Every draw", paragraph(words), *parts)


def winners_section(analysis: Analysis, drawn: Mapping[str, str]) -> str:
    """The re-trained winners, seed by seed."""
    names = [name for name in analysis.scores if f"winners-{name}" in drawn]
    if not names:
        return ""
    seeds = max(len(f.values) + f.failed for arm in analysis.arms for f in arm.retrained.values())
    words = (
        f"Each arm's chosen setting, trained anew with {seeds} seed{'s' if seeds > 1 else ''} and scored on"
        " the test split, which no choice has seen. A dot is a seed; bars reach one standard deviation to"
        " each side of the mean."
    )
    panels = []
    for name in names:
        found = analysis.seeds.get(name)
        said = ""
        if found:
            around = f"{share(found.low)} to {share(found.high)}"
            said = f"<br><small>{text(f'the seed: {share(found.value)} of the variance ({around})')}</small>"
        panels.append(figure(drawn[f"winners-{name}"], f"<b>{_short(analysis, name)}</b>{said}"))
    matches = [_differences(analysis, name) for name in analysis.main]
    if any(matches):
        matches.append(paragraph(
            "Difference of the means, row less column, and half of Welch's interval for it; bold: told apart,"
            " after Holm's correction for each score. It takes scores over seeds to be normal."
        ))  # fmt: skip
    return section("winners", "The winners, trained anew", paragraph(words), _panels(panels), *matches)


def effects_section(analysis: Analysis, drawn: Mapping[str, str]) -> str:
    """What every hyper-parameter does."""
    arms = [arm for arm in analysis.arms if arm.effects]
    if not arms:
        return ""
    options = list(dict.fromkeys(option for arm in arms for option in arm.effects))
    rows = [[text(option), *(_effect(analysis, arm, option) for arm in arms)] for option in options]
    words = (
        "Rank correlation of each hyper-parameter with the selection score, and its interval; below, the"
        " share of the ranks' variance that lies between low, middle and high values (or between the"
        " choices), less what chance gives, and the p-value, corrected for all in the table. Bold: beyond"
        " chance. One at a time: what two do together is not seen. Draws without a score are in the table,"
        " not in the figures."
    )
    good = "lower" if direction(analysis.results, analysis.results.score) == "lower" else "higher"
    words += f" A positive correlation means: larger values are worse ({good} scores are better)."
    panels = [
        figure(drawn[name], f"<b>{text(arm.name)}</b>, {text(option)}")
        for _, arm, option in telling(analysis)
        if (name := f"effect-{arm.name}-{option}") in drawn
    ]
    header = ["Option", *(text(arm.name) for arm in arms)]
    return section(
        "sensitivity", "What the hyper-parameters do", paragraph(words),
        table("Effect of every hyper-parameter", header, rows), _panels(panels),
    )  # fmt: skip


def agreement_section(analysis: Analysis, drawn: Mapping[str, str]) -> str:
    """Whether the scores say the same of the draws, and of the winners."""
    score, panels = title(analysis.results.score), []
    for other, found in analysis.agreement.items():
        if (name := f"agreement-{other}") in drawn:
            panels.append(
                figure(drawn[name], f"<b>{text(title(other))}</b> against {text(score)}{_tau(found)}")
            )
    rows = [
        [f"{text(title(a))}, {text(title(b))}", *_tau_cells(found)]
        for (a, b), found in analysis.between.items()
        if found
    ]
    if not panels and not rows:
        return ""
    names = key([(look(i), arm.name) for i, arm in enumerate(analysis.arms)], inline=True, marked=True)
    words = (
        "Kendall's rank correlation τ, signed so that 1 is complete agreement on what is better, and how"
        " often chance alone gives one as far from 0."
    )
    header = ["Scores of the re-trained winners", "τ", "p", "arms"]
    listed = table("Agreement of the scores over the winners", header, rows) if rows else ""
    return section(
        "agreement",
        "Do the scores agree?",
        paragraph(words),
        names if panels else "",
        _panels(panels),
        listed,
    )


def elsewhere_section(analysis: Analysis, drawn: Mapping[str, str]) -> str:
    """The same settings on other data."""
    if not analysis.elsewhere:
        return ""
    data, panels = analysis.results.data, []
    for place, names in analysis.elsewhere.items():
        for score, found in names.items():
            if (name := identifier(f"elsewhere-{place}-{score}")) in drawn:
                where = f"on {text(place)} (up) against {text(data)} (right)"
                caption = f"<b>{_short(analysis, score)}</b> {where}{_tau(found)}"
                panels.append(figure(drawn[name], caption))
    words = f"The settings chosen on {data}, trained on other data without tuning. A point is an arm's mean."
    known = [(i, arm) for i, arm in enumerate(analysis.arms) if arm.elsewhere]
    names_key = key([(look(i), arm.name) for i, arm in known], inline=True, marked=True)
    columns = [(place, score) for place, names in analysis.elsewhere.items() for score in names]
    rows = [
        [text(arm.name), *(_spread(arm.elsewhere.get(place, {}).get(score)) for place, score in columns)]
        for _, arm in known
    ]
    header = ["Arm", *(f"{_short(analysis, score)}<small>{text(place)}</small>" for place, score in columns)]
    return section(
        "elsewhere", "The same settings on other data", paragraph(words), names_key, _panels(panels),
        table("The chosen settings on other data", header, rows),
    )  # fmt: skip


def _spread(found: Spread | None) -> str:
    if found is None or not found.values:
        return "–"
    value, _, error = show(Score(found.mean, found.sd, 0, 0, "")).partition(" ± ")
    small = [f"± {error}"] * bool(error) + [f"{found.failed} failed"] * bool(found.failed)
    return value + (f"<small>{'<br>'.join(small)}</small>" if small else "")


def _arm(analysis: Analysis, arm: ArmSummary) -> str:
    model = analysis.results.models.get(arm.name, arm.name)
    return text(arm.name) + (f"<small>{text(model)}</small>" if model != arm.name else "")


def _short(analysis: Analysis, name: str) -> str:
    return f"{text(title(name))}{_ARROWS[direction(analysis.results, name)]}"


def _median(analysis: Analysis, arm: ArmSummary, k: int) -> str:
    curve, order = arm.curve, analysis.draws[k]
    low, median, high = (values[k - 1] for values in (curve.lower, curve.median, curve.upper))
    value = number(median) if math.isfinite(median) else "no score"
    value = f"<b>{value}</b>" if order.contenders == (arm.name,) and len(order.names) > 1 else value
    band = f"{interval(low, high)} " if curve.defined >= k else ""
    return f"{value}<small>{band}({text(order.letters[arm.name])})</small>"


def _retrained(analysis: Analysis, arm: ArmSummary, name: str) -> str:
    found, order = arm.retrained.get(name), analysis.winners[name]
    if found is None or not found.values:
        return f"–<small>{found.failed} failed</small>" if found else "–"
    value, _, error = order.shown[arm.name].partition(" ± ")
    best = order.contenders == (arm.name,) and len(order.names) > 1
    letter = f" ({text(order.letters[arm.name])})" if direction(analysis.results, name) != "neither" else ""
    small = (f"± {error}" if error else "one seed") + letter
    small += f"<br>{found.failed} failed" if found.failed else ""
    return f"{f'<b>{value}</b>' if best else value}<small>{small}</small>"


def _seconds(analysis: Analysis, arm: ArmSummary) -> str:
    if analysis.unit == "seconds" or "seconds" not in arm.spent:
        return ""
    return f"<small>{text(amount(arm.spent['seconds'], 'seconds'))}</small>"


def _reasons(arm: ArmSummary) -> list[str]:
    counted: dict[str, int] = {}
    for trial in arm.trials:
        if trial.status != "finished" and trial.reason:
            words = f"{trial.status}, {trial.reason}"
            counted[words] = counted.get(words, 0) + 1
    return [f"{n} draw{'s' if n > 1 else ''} {words}" for words, n in counted.items()]


def _chances(analysis: Analysis, k: int) -> str:
    names = analysis.draws[k].names
    duels = {(d.a, d.b): d for d in analysis.duels if d.k == k}
    rows = []
    for a in names:
        row = [text(a)]
        for b in names:
            if a == b:
                row.append("")
                continue
            duel = duels.get((a, b)) or duels[b, a]
            pair = duel.pair if duel.a == a else duel.pair.turned()
            shown = f"{pair.chance:.2f}"
            shown = f"<b>{shown}</b>" if duel.p <= 1 - analysis.level else shown
            row.append(f"{shown}<small>{pair.low:.2f} to {pair.high:.2f}</small>")
        rows.append(row)
    return table(f"The chance of one arm to beat another, best of {k}", ["beats", *map(text, names)], rows)


def _differences(analysis: Analysis, name: str) -> str:
    order = analysis.winners[name]
    found = {(m.a, m.b): m.difference for m in analysis.matches if m.score == name and m.difference}
    if not found:
        return ""
    rows = []
    for a in order.names:
        row = [text(a)]
        for b in order.names:
            difference = found.get((a, b)) or found.get((b, a))
            if difference is None:
                row.append("" if a == b else "–")
                continue
            value = difference.value if (a, b) in found else -difference.value
            half = (difference.high - difference.low) / 2  # Welch's interval is symmetric
            value_shown, _, error = show(Score(value, half, 0, 0, "")).partition(" ± ")
            value_shown = f"<b>{value_shown}</b>" if order.apart(a, b) else value_shown
            row.append(f"{value_shown}<small>± {error}</small>")
        rows.append(row)
    heading = f"<h3>{_short(analysis, name)}</h3>"
    return heading + table(
        f"Differences of the winners' {title(name)}", ["less", *map(text, order.names)], rows
    )


def _effect(analysis: Analysis, arm: ArmSummary, option: str) -> str:
    effect = arm.effects.get(option)
    if effect is None:
        return "–"
    small = f"{effect.explained:.0%}, {text(p_value(effect.p))}"
    if effect.trend is None or effect.low is None or effect.high is None:
        value = "choice"
    else:
        value, small = f"{effect.trend:+.2f}", f"{effect.low:+.2f} to {effect.high:+.2f}<br>{small}"
    return f"{f'<b>{value}</b>' if effect.p <= 1 - analysis.level else value}<small>{small}</small>"


def _tau(found: Agreement | None) -> str:
    if found is None:
        return ""
    return f"<br><small>τ = {found.tau:.2f}, {text(p_value(found.p))}, n = {found.n}</small>"


def _tau_cells(found: Agreement) -> list[str]:
    return [f"{found.tau:.2f}", text(p_value(found.p)), str(found.n)]


def _panels(panels: Sequence[str]) -> str:
    return f'<div class="panels">{"".join(panels)}</div>' if panels else ""
