"""The verdict of a study in sentences that never say more than its numbers."""

from collections.abc import Mapping, Sequence
from itertools import combinations

from bestiary.scores import SCORES
from bestiary.study.analysis.effects import Agreement
from bestiary.study.analysis.findings import (
    Analysis,
    Lead,
    Order,
    direction,
    p_value,
    part,
    share,
    title,
)
from bestiary.study.analysis.rungs import Rungs
from bestiary.study.verdict import Finding, listed

_NAMED = 4


def study_verdict(analysis: Analysis) -> tuple[Finding, ...]:
    """What can be said about a study, the most important first."""
    findings = [_overall(analysis), *_unfinished(analysis), *_winners(analysis), *_draws(analysis)]
    findings.append(_budget(analysis))
    findings += [*_seeds(analysis), *_elsewhere(analysis), *_agreement(analysis), _effects(analysis)]
    return (*findings, *_lost(analysis), _limits(analysis))


def amount(value: float, unit: str) -> str:
    """An amount of a unit of compute as people say it."""
    if unit == "flops":
        power = min(7, max(0, len(f"{value:.0f}") - 1) // 3)
        return f"{value / 1000**power:.3g} {'kMGTPEZ'[power - 1] if power else ''}FLOP"
    if unit == "seconds":
        return (
            f"{value / 3600:.3g} h"
            if value >= 3600
            else f"{value / 60:.3g} min"
            if value >= 60
            else f"{value:.3g} s"
        )
    return f"{value:,.0f} {unit}"


def _measures(analysis: Analysis) -> dict[str, Order]:
    """Everything that the arms are put in order by."""
    found = {f"re-trained {title(name)}": analysis.winners[name] for name in analysis.main}
    found |= {_of_draws(k): order for k, order in analysis.draws.items()}
    return {name: order for name, order in found.items() if len(order.names) > 1}


def _of_draws(k: int) -> str:
    return "a single draw" if k == 1 else f"the best of {k} draws"


def _overall(analysis: Analysis) -> Finding:
    measures, results = _measures(analysis), analysis.results
    if not measures:
        why = "There is only one arm." if len(analysis.arms) == 1 else "No two arms have a measure in common."
        return Finding("Nothing can be put in order", why)
    fronts: dict[tuple[str, ...], list[str]] = {}
    for name, order in measures.items():
        fronts.setdefault(order.contenders, []).append(name)
    where = f"on {results.data}, at {results.budget} a draw and {results.draws} draws an arm"
    if len(fronts) == 1 and len(front := next(iter(fronts))) == 1:
        return Finding(
            f"{front[0]} is best by every measure", f"Told apart from every other arm with a score, {where}."
        )
    if all(not order.wins for order in measures.values()):
        text = f"By {listed(list(measures))}, no two arms are told apart {where}."
        return Finding("No arm is told apart from another", text)
    parts = [
        f"{_front(arms, len(measures[names[0]].names))} by {listed(names)}" for arms, names in fronts.items()
    ]
    return Finding("No arm is best by every measure", f"In front, {where}: {'; '.join(parts)}.")


def _front(arms: Sequence[str], of: int) -> str:
    if len(arms) == 1:
        return arms[0]
    if len(arms) <= _NAMED:
        return f"{listed(arms)}, not told apart,"
    return f"{arms[0]} and {'all' if len(arms) == of else len(arms) - 1} others, not told apart from it,"


def _unfinished(analysis: Analysis) -> list[Finding]:
    results = analysis.results
    made = {name: len(results.of(name)) for name in results.arms}
    short = [f"{name} has {n} of {results.draws} draws" for name, n in made.items() if n < results.draws]
    if not short:
        return []
    text = f"{'; '.join(short)}. All that follows is of the draws that were made."
    return [Finding("The study is not finished", text)]


def _winners(analysis: Analysis) -> list[Finding]:
    findings = []
    for name in analysis.main:
        better, order = direction(analysis.results, name), analysis.winners[name]
        if not order.names:
            continue
        spreads = {arm: analysis.arm(arm).retrained[name] for arm in order.names}
        seeds = sorted({len(s.values) + s.failed for s in spreads.values()})
        over = " or ".join(map(str, seeds)) + (" seed" if seeds == [1] else " seeds")
        text = f"Mean ± deviation over {over}: {_in_order(order)}."
        failed = [
            f"{arm} in {s.failed} of {s.failed + len(s.values)}" for arm, s in spreads.items() if s.failed
        ]
        if failed:
            text += f" No score: {listed(failed)}; no difference to an arm with a failed seed is claimed."
        if seeds == [1]:
            text += " One seed has no spread, so no difference is claimed."
        findings.append(Finding(f"{title(name)} of the re-trained winners, {better} is better", text))
    return findings


def _draws(analysis: Analysis) -> list[Finding]:
    findings = []
    for k, order in analysis.draws.items():
        band = f", and its {analysis.level:.0%} band" if k <= _reach(analysis) else ""
        text = f"By the chance to beat the others (in brackets the median{band}): {_in_order(order)}."
        if len(order.names) > 1:
            first, second = order.names[:2]
            duel = next(d for d in analysis.duels if d.k == k and {d.a, d.b} == {first, second})
            pair = duel.pair if duel.a == first else duel.pair.turned()
            chance = f"{pair.chance:.2f} ({pair.low:.2f} to {pair.high:.2f})"
            text += f" {first} beats {second} with probability {chance}."
        topic = _of_draws(k)
        findings.append(Finding(f"{topic[0].upper()}{topic[1:]}, by {title(analysis.results.score)}", text))
    return findings


def _in_order(order: Order) -> str:
    if len(order.names) > _NAMED:
        return _around_the_first(order)
    return "; then ".join(_group(group, order) for group in order.groups)


def _around_the_first(order: Order) -> str:
    """Of many arms only what holds beside the first one; their table has letters for the others."""
    first, *same = order.contenders
    behind = [arm for arm in order.names if arm != first and arm not in same]
    text = f"{first} ({order.shown[first]}) is first"
    text += f", not told apart from {listed(_valued(same, order))}" if same else ""
    text += f"; told apart from it: {listed(_valued(behind, order))}" if behind else ""
    pairs, apart = len(order.names) * (len(order.names) - 1) // 2, len(order.wins)
    return f"{text}. Of all {pairs} pairs {apart or 'none'} {'are' if apart > 1 else 'is'} told apart"


def _valued(arms: Sequence[str], order: Order) -> list[str]:
    return [f"{arm} ({order.shown[arm]})" for arm in arms]


def _group(group: Sequence[str], order: Order) -> str:
    named = listed([f"{arm} ({order.shown[arm]})" for arm in group])
    if len(group) == 1:
        return named
    pairs = [(a, b) if (a, b) in order.wins else (b, a) for a, b in combinations(group, 2)]
    apart = [f"{a} before {b}" for a, b in pairs if (a, b) in order.wins]
    if not apart:
        return f"{named}, not told apart"
    if len(apart) > _NAMED:
        return f"{named}, where {len(apart)} of the {len(pairs)} pairs are told apart"
    return f"{named}, where only {listed(apart)} {'are' if len(apart) > 1 else 'is'} told apart"


def _budget(analysis: Analysis) -> Finding:
    topic = "Does the order depend on the budget?"
    if len(analysis.arms) == 1:
        return Finding(topic, "That cannot be asked of one arm.")
    leads, by_compute = analysis.leads, analysis.compute_leads
    most = round(leads[-1].end)
    if len(leads) == 1:
        text = f"Not the lead, within these draws: by the median best of k, {_ahead(leads[0])} to k = {most}."
    else:
        stretches = _stretches([f"{_ahead(lead)} {_draws_of(lead)}" for lead in leads])
        text = f"The lead does, within these draws: by the median best of k, {stretches}."
    bought = [f"{_ahead(lead)} from {amount(lead.start, analysis.unit)}" for lead in by_compute]
    if bought:
        text += f" By compute, from what pays for a draw of every arm: {_stretches(bought)}."
    if analysis.rungs:
        text += f" {_on_the_way(analysis, analysis.rungs)}"
    if len(analysis.ks) > 1:
        last = analysis.ks[-1]
        turned = [
            f"{a} before {b}"
            for a, b in sorted(analysis.draws[1].wins)
            if (b, a) in analysis.draws[last].wins
        ]
        if turned:
            text += (
                f" Told apart one way at k = 1 and the other way at k = {last}: {listed(turned)} at first."
            )
        else:
            text += f" No pair is told apart one way at k = 1 and the other way at k = {last}."
    reach = _reach(analysis)
    if not reach:
        text += " There is no band, and a lead is of these draws only."
    elif reach < most:
        text += f" Beyond k = {reach} there are too few draws for a band, and a lead is of these only."
    return Finding(topic, text)


def _on_the_way(analysis: Analysis, rungs: Rungs) -> str:
    heads = [rungs.ahead(rung, analysis.results.maximise) or "no arm" for rung in range(len(rungs.shares))]
    *before, last = heads
    said = [f"after {part(share)} {head}'s" for share, head in zip(rungs.shares, before, strict=False)]
    text = f"Of all draws, in shares of a budget, the best is {', '.join(said)}, and at the end {last}'s."
    taus = [
        f"{found.tau:.2f} after {part(share)}"
        for share, found in zip(rungs.shares, rungs.agreement, strict=False)
        if found
    ]
    if taus:
        text += f" Kendall's τ of the arms' order by their best draws with that at the end: {listed(taus)}."
    return text


def _reach(analysis: Analysis) -> int:
    """The largest k at which every arm has a band."""
    return min(arm.curve.defined for arm in analysis.arms)


def _stretches(said: Sequence[str]) -> str:
    if len(said) <= _NAMED:
        return "; ".join(said)
    return f"{said[0]}, then {len(said) - 2} changes, and {said[-1]}"


def _ahead(lead: Lead) -> str:
    if not lead.arms:
        return "no arm has a score"
    return f"{lead.arms[0]} leads" if len(lead.arms) == 1 else f"{listed(lead.arms)} are level"


def _draws_of(lead: Lead) -> str:
    return (
        f"at k = {lead.start:.0f}"
        if lead.start == lead.end
        else f"for k = {lead.start:.0f} to {lead.end:.0f}"
    )


def _seeds(analysis: Analysis) -> list[Finding]:
    parts = [
        f"in {title(name)} {share(found.value)} ({share(found.low)} to {share(found.high)})"
        for name in analysis.main
        if (found := analysis.seeds[name])
    ]
    if not parts:
        return []
    text = f"Its share of the variance between re-trained runs, the rest being the arm's: {listed(parts)}."
    return [Finding("How much is the luck of the seed?", text)]


def _elsewhere(analysis: Analysis) -> list[Finding]:
    findings = []
    for data, agreements in analysis.elsewhere.items():
        text = _agreements({title(name): agreement for name, agreement in agreements.items()}, "arms")
        findings.append(
            Finding(
                f"The same settings on {data}, without tuning",
                f"Kendall's τ of the arms' orders there and on {analysis.results.data} (1: equal): {text}.",
            )
        )
    return findings


def _agreement(analysis: Analysis) -> list[Finding]:
    results, main = analysis.results, analysis.main
    others = {
        title(name): found
        for name, found in analysis.agreement.items()
        if found and direction(results, name) != "neither" and (name not in SCORES or SCORES[name].main)
    }
    pairs = {
        f"{title(a)} with {title(b)}": found
        for (a, b), found in analysis.between.items()
        if a in main and b in main and found
    }
    parts = []
    if others:
        parts.append(f"Over the draws, {title(results.score)} with {_agreements(others, 'draws')}.")
    if pairs:
        parts.append(f"Over the re-trained winners, {_agreements(pairs, 'arms')}.")
    return [Finding("Do the scores agree?", " ".join(parts))] if parts else []


def _agreements(found: Mapping[str, Agreement | None], of: str) -> str:
    def words(name: str, agreement: Agreement | None) -> str:
        if agreement is None:
            return f"{name}: too few {of} to say"
        told = "" if agreement.p <= 0.05 else ", no more than chance gives"
        return f"{name}: τ = {agreement.tau:.2f} ({p_value(agreement.p)}, {agreement.n} {of}){told}"

    return "; ".join(words(name, agreement) for name, agreement in found.items())


def _effects(analysis: Analysis) -> Finding:
    topic = "Which hyper-parameters matter?"
    if not analysis.independent:
        return Finding(topic, "That cannot be tested: the draws are not independent.")
    tested = [arm for arm in analysis.arms if arm.effects]
    if not tested:
        return Finding(topic, "Too few draws, or too few settings that vary, to say.")
    found: dict[str, list[str]] = {}
    for arm in tested:
        for name, effect in arm.effects.items():
            if effect.p <= 1 - analysis.level:
                found.setdefault(name, []).append(arm.name)
    if not found:
        return Finding(
            topic,
            "No effect beyond chance in any arm, which with so few draws is not the same as no effect.",
        )
    parts = [
        f"{name} in {listed(arms)}" for name, arms in sorted(found.items(), key=lambda item: -len(item[1]))
    ]
    return Finding(topic, f"Beyond chance, one arm at a time: {'; '.join(parts)}.")


def _lost(analysis: Analysis) -> list[Finding]:
    parts = []
    for arm in (arm for arm in analysis.arms if arm.lost):
        kinds = list(arm.lost) if len(arm.lost) == 1 else [f"{n} {status}" for status, n in arm.lost.items()]
        parts.append(f"{arm.name} {len(arm.trials) - arm.finished} of {len(arm.trials)} ({listed(kinds)})")
    if not parts:
        return []
    text = f"{listed(parts)}. They count as the worst, and against the arm's budget."
    return [Finding("Draws without a score", text)]


def _limits(analysis: Analysis) -> Finding:
    rate, results = 1 - analysis.level, analysis.results
    sentences = []
    if analysis.duels:
        sentences.append(
            "Two arms are told apart by their draws by a rule that, were all arms equal, would separate any"
            f" two in at most {rate:.0%} of studies (permutation test, Holm's correction for"
            f" {len(analysis.duels)} comparison{'s' if len(analysis.duels) > 1 else ''})."
        )
    elif not analysis.independent:
        sentences.append(
            "The draws are not independent (a guided search, or hopeless ones were given up): no band and no"
            " comparison of draws is valid, and none is made."
        )
    if any(match.difference for match in analysis.matches):
        sentences.append(
            "Winners are told apart by Welch's t-test, corrected in the same way for each score, which takes"
            " scores over seeds to be normal: a few seeds cannot show whether they are."
        )
    sentences.append(
        f"An arm is a model with its search space and its networks, at {results.budget} a draw: with another"
        " space or budget the order may be another. Draws are scored on the validation split, by which the"
        " winners were chosen; only what is re-trained is free of that choice."
    )
    return Finding("What these numbers leave out", " ".join(sentences))
