"""From a study's rows to what its report says: every arm's best of k, and who is told apart from whom."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from bestiary.errors import RunError
from bestiary.metrics.results import Score
from bestiary.study.analysis.effects import (
    Agreement,
    Spread,
    compare_means,
    rank_agreement,
    seed_share,
    sensitivity,
    spread,
)
from bestiary.study.analysis.findings import (
    Analysis,
    ArmSummary,
    Duel,
    Lead,
    Match,
    Order,
    direction,
    interval,
    number,
)
from bestiary.study.analysis.rungs import at_rungs
from bestiary.study.analysis.statistics import (
    LEVEL,
    BestOfK,
    Floats,
    best_of_k,
    bootstrap_of_minimum,
    compare_best,
    holm,
)
from bestiary.study.analysis.trials import UNITS, Retrained, StudyResults, Trial
from bestiary.study.results import show


def analyse(results: StudyResults, level: float = LEVEL) -> Analysis:
    """Everything that follows from a study's rows.

    Bands, comparisons of draws and effects of hyper-parameters need independent draws: those of a guided
    search, or of one that gave up hopeless trials, are not, and get none.

    Raises:
        RunError: no arm has a draw yet.
    """
    names = [name for name in results.arms if results.of(name)]
    if not names:
        raise RunError(f"{results.name}: found no draw yet, wanted one at least: let the study run first")
    sign = -1.0 if results.maximise else 1.0
    losses = {name: np.array([_loss(trial, sign) for trial in results.of(name)]) for name in names}
    independent = results.search == "random" and all(trial.status != "halted" for trial in results.trials)
    arms = tuple(_arm(results, name, losses[name], sign, level, independent) for name in names)
    ks = tuple(sorted({1, max(1, min(arm.curve.defined for arm in arms))})) if independent else ()
    arms = _corrected(arms)
    duels = _duels(losses, ks, level)
    scores = tuple(dict.fromkeys(name for arm in arms for name in arm.retrained))
    matches = tuple(m for name in scores for m in _matches(results, arms, name, level))
    unit = next((u for u in ("flops", "seconds", "updates") if all(a.spent.get(u) for a in arms)), "examples")
    most = min(len(arm.trials) for arm in arms)
    by_draw = [({arm.name: k for arm in arms}, float(k)) for k in range(1, most + 1)]
    other = [
        name for name in dict.fromkeys(n for t in results.trials for n in t.scores) if name != results.score
    ]
    return Analysis(
        results=results,
        level=level,
        independent=independent,
        arms=arms,
        ks=ks,
        duels=duels,
        draws={k: _draw_order(arms, [d for d in duels if d.k == k], k, level) for k in ks},
        unit=unit,
        leads=_leads(arms, by_draw, sign),
        compute_leads=_leads(arms, _affordable(arms, unit), sign),
        scores=scores,
        matches=matches,
        winners={name: _winner_order(results, arms, matches, name, level) for name in scores},
        seeds={name: seed_share([a.retrained[name].values for a in arms if name in a.retrained], level)
               for name in scores},
        elsewhere=_transfer(arms),
        agreement={name: _over_draws(results, name) for name in other},
        between={pair: _over_arms(results, arms, *pair) for pair in combinations(scores, 2)},
        rungs=at_rungs(results, unit),
    )  # fmt: skip


def _loss(trial: Trial, sign: float) -> float:
    """The selection score as something to minimise; what did not finish is worse than everything."""
    if trial.status != "finished" or trial.score is None or not math.isfinite(trial.score):
        return math.inf
    return sign * trial.score


def _arm(
    results: StudyResults, name: str, losses: Floats, sign: float, level: float, independent: bool
) -> ArmSummary:
    trials = results.of(name)
    curve, (mean, low, high) = best_of_k(losses, level), bootstrap_of_minimum(losses, level)
    if not independent:
        undefined = np.full(len(losses), np.nan)
        curve = replace(curve, lower=undefined, upper=undefined)
    if sign < 0:
        curve = BestOfK(-curve.expected, -curve.median, -curve.upper, -curve.lower)
        mean, low, high = -mean, -high, -low
    lost = [
        "without a score" if trial.status == "finished" else trial.status
        for trial, loss in zip(trials, losses, strict=True)
        if not math.isfinite(loss)
    ]
    settings = {
        option: [trial.settings.get(option) for trial in trials] for option in results.spaces.get(name, {})
    }
    again = [row for row in results.elsewhere if row.arm == name]
    places = dict.fromkeys(row.data for row in again)
    units = [unit for unit in UNITS if all(unit in trial.spent for trial in trials)]
    return ArmSummary(
        name=name,
        trials=trials,
        finished=len(trials) - len(lost),
        lost={status: lost.count(status) for status in dict.fromkeys(lost)},
        best=results.best(name),
        spent={unit: sum(t.spent[unit] for t in trials) for unit in units},
        curve=curve,
        bootstrap=(mean, low, high),
        retrained=_spreads([row for row in results.retrained if row.arm == name]),
        elsewhere={data: _spreads([row for row in again if row.data == data]) for data in places},
        effects=sensitivity(settings, losses, level=level) if independent else {},
    )  # fmt: skip


def _corrected(arms: Sequence[ArmSummary]) -> tuple[ArmSummary, ...]:
    """The arms with the p-values of their effects corrected for all effects of the study."""
    p = iter(holm([effect.p for arm in arms for effect in arm.effects.values()]))
    return tuple(
        replace(arm, effects={name: replace(effect, p=next(p)) for name, effect in arm.effects.items()})
        for arm in arms
    )


def _spreads(rows: Sequence[Retrained]) -> dict[str, Spread]:
    names = dict.fromkeys(name for row in rows for name in row.scores)
    found = {}
    for name in names:
        values = [r.scores[name]["value"] for r in rows if r.status == "finished" and name in r.scores]
        known = [float(value) for value in values if value is not None and math.isfinite(value)]
        found[name] = spread(known, len(rows) - len(known))
    return found


def _duels(losses: Mapping[str, Floats], ks: Sequence[int], level: float) -> tuple[Duel, ...]:
    found = [
        (a, b, k, compare_best(losses[a], losses[b], k, level=level))
        for k in ks
        for a, b in combinations(losses, 2)
    ]
    corrected = holm([pair.p for *_, pair in found])
    return tuple(Duel(a, b, k, pair, p) for (a, b, k, pair), p in zip(found, corrected, strict=True))


def _draw_order(arms: Sequence[ArmSummary], duels: Sequence[Duel], k: int, level: float) -> Order:
    """By the mean chance to beat another arm."""
    chance = {arm.name: 0.0 for arm in arms}
    wins = set()
    for duel in duels:
        chance[duel.a] += duel.pair.chance
        chance[duel.b] += 1 - duel.pair.chance
        if duel.p <= 1 - level and duel.pair.chance != 0.5:
            wins.add((duel.a, duel.b) if duel.pair.chance > 0.5 else (duel.b, duel.a))
    shown = {}
    for arm in arms:
        low, median, high = (values[k - 1] for values in (arm.curve.lower, arm.curve.median, arm.curve.upper))
        band = "" if np.isnan(low) else f", {interval(low, high)}"
        shown[arm.name] = f"{number(median)}{band}" if np.isfinite(median) else "no score"
    return Order(tuple(sorted(chance, key=lambda name: -chance[name])), shown, frozenset(wins))


def _matches(results: StudyResults, arms: Sequence[ArmSummary], name: str, level: float) -> list[Match]:
    better = direction(results, name)
    known = [arm for arm in arms if name in arm.retrained]
    if better == "neither":
        return []
    sign = -1.0 if better == "higher" else 1.0
    found = []
    for a, b in combinations(known, 2):
        one, two = a.retrained[name], b.retrained[name]
        losses, others = ([*(sign * v for v in s.values), *[math.inf] * s.failed] for s in (one, two))
        chance, difference = compare_best(losses, others, level=level), compare_means(one, two, level)
        found.append(Match(a.name, b.name, name, chance, difference, None))
    tested = [match for match in found if match.difference]
    corrected = dict(
        zip(map(id, tested), holm([m.difference.p for m in tested if m.difference]), strict=True)
    )
    return [replace(match, p=corrected.get(id(match))) for match in found]


def _winner_order(
    results: StudyResults, arms: Sequence[ArmSummary], matches: Sequence[Match], name: str, level: float
) -> Order:
    sign = -1.0 if direction(results, name) == "higher" else 1.0
    found = {
        arm.name: arm.retrained[name] for arm in arms if name in arm.retrained and arm.retrained[name].values
    }
    wins = set()
    for match in matches:
        if match.score == name and match.difference and match.p is not None and match.p <= 1 - level:
            better = sign * match.difference.value < 0
            wins.add((match.a, match.b) if better else (match.b, match.a))
    shown = {arm: show(Score(s.mean, s.sd, 0, 0, "")) for arm, s in found.items()}
    return Order(tuple(sorted(found, key=lambda arm: sign * found[arm].mean)), shown, frozenset(wins))


def _affordable(arms: Sequence[ArmSummary], unit: str) -> list[tuple[dict[str, int], float]]:
    """How many draws of each arm a budget pays for, at every budget where that changes.

    From the one that pays for a draw of every arm to the one that pays for all draws of some arm.
    """
    least, most = max(arm.cost(unit) for arm in arms), min(len(arm.trials) * arm.cost(unit) for arm in arms)
    budgets = sorted({k * arm.cost(unit) for arm in arms for k in range(1, len(arm.trials) + 1)})
    return [
        ({arm.name: int(budget / arm.cost(unit) + 1e-9) for arm in arms}, budget)
        for budget in budgets
        if least <= budget <= most * (1 + 1e-9)
    ]


def _leads(
    arms: Sequence[ArmSummary], budgets: Sequence[tuple[Mapping[str, int], float]], sign: float
) -> tuple[Lead, ...]:
    leads: list[Lead] = []
    for draws, budget in budgets:
        found = {arm.name: sign * arm.curve.median[draws[arm.name] - 1] for arm in arms if draws[arm.name]}
        best = min(found.values())
        ahead = tuple(name for name, value in found.items() if value == best and math.isfinite(best))
        if leads and leads[-1].arms == ahead:
            leads[-1] = replace(leads[-1], end=budget)
        else:
            leads.append(Lead(budget, budget, ahead))
    return tuple(leads)


def _transfer(arms: Sequence[ArmSummary]) -> dict[str, dict[str, Agreement | None]]:
    found: dict[str, dict[str, Agreement | None]] = {}
    for data in dict.fromkeys(data for arm in arms for data in arm.elsewhere):
        names = dict.fromkeys(name for arm in arms for name in arm.elsewhere.get(data, {}))
        for name in names:
            both = [arm for arm in arms if name in arm.retrained and name in arm.elsewhere.get(data, {})]
            pairs = [(arm.retrained[name].mean, arm.elsewhere[data][name].mean) for arm in both]
            found.setdefault(data, {})[name] = _agreement(pairs)
    return found


def _over_draws(results: StudyResults, name: str) -> Agreement | None:
    """Of the selection score with another one, both turned so that smaller is better."""
    sign = _sign(results, results.score) * _sign(results, name)
    known = [t for t in results.trials if t.status == "finished" and t.score is not None and name in t.scores]
    return _agreement([(float(t.score or 0), sign * _value(t, name)) for t in known])


def _over_arms(results: StudyResults, arms: Sequence[ArmSummary], a: str, b: str) -> Agreement | None:
    sign = _sign(results, a) * _sign(results, b)
    known = [arm.retrained for arm in arms if a in arm.retrained and b in arm.retrained]
    return _agreement([(found[a].mean, sign * found[b].mean) for found in known])


def _sign(results: StudyResults, name: str) -> float:
    return -1.0 if direction(results, name) == "higher" else 1.0


def _value(trial: Trial, name: str) -> float:
    value = trial.scores[name]["value"]
    return math.nan if value is None else float(value)


def _agreement(pairs: Sequence[tuple[float, float]]) -> Agreement | None:
    known = [pair for pair in pairs if all(map(math.isfinite, pair))]
    return rank_agreement(*zip(*known, strict=True)) if known else None
