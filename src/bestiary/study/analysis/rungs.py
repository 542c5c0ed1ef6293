"""Who is ahead at which part of the budget, and what successive halving would have found and saved."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from bestiary.study.analysis.effects import Agreement, rank_agreement
from bestiary.study.analysis.trials import StudyResults, Trial, promoted


@dataclass(frozen=True)
class Halved:
    """Successive halving of an arm's draws, replayed: all of them went on.

    Attributes:
        score: of the trial that it would have chosen; None where none has a score.
        best: of the trial that the whole search chose.
        cost: share of the arm's compute that it would have spent.
    """

    score: float | None
    best: float | None
    cost: float

    @property
    def behind(self) -> float | None:
        """By which share of its value the best score would have been missed."""
        if self.score is None or not self.best:
            return None
        return abs(self.score - self.best) / abs(self.best)


@dataclass(frozen=True)
class Rungs:
    """Arms at the rungs of a study in which nothing was given up.

    Attributes:
        shares: of the budget, at each rung; the last one is 1.
        best: arm to its best score at each rung, of all its draws; NaN where none has a score.
        agreement: of the arms' order at each rung but the last with that at the last.
        halved: arm to what halving would have come to.
    """

    shares: tuple[float, ...]
    best: Mapping[str, tuple[float, ...]]
    agreement: tuple[Agreement | None, ...]
    halved: Mapping[str, Halved]

    def ahead(self, rung: int, maximise: bool) -> str | None:
        """The arm with the best score at a rung."""
        sign = -1 if maximise else 1
        known = {arm: sign * scores[rung] for arm, scores in self.best.items() if math.isfinite(scores[rung])}
        return min(known, key=known.__getitem__, default=None)


def at_rungs(results: StudyResults, unit: str) -> Rungs | None:
    """The rungs of a study, compute in `unit`; None where trials have none, or were given up at one."""
    count = max((len(trial.rungs) for trial in results.trials), default=0)
    complete = all(len(t.rungs) == count and t.status != "halted" for t in results.trials)
    if count < 2 or not complete:
        return None
    shares = tuple(rung["share"] for rung in results.trials[0].rungs)
    arms = [name for name in results.arms if results.of(name)]
    best = {
        arm: tuple(_best(results.of(arm), rung, results.maximise) for rung in range(count)) for arm in arms
    }
    known = [arm for arm in arms if all(map(math.isfinite, best[arm]))]
    last = [best[arm][-1] for arm in known]
    agreement = tuple(rank_agreement([best[arm][r] for arm in known], last) for r in range(count - 1))
    return Rungs(shares, best, agreement, {arm: _halved(results, arm, shares, unit) for arm in arms})


def _best(trials: tuple[Trial, ...], rung: int, maximise: bool) -> float:
    scores = [score for t in trials if (score := t.rungs[rung]["score"]) is not None]
    return (max if maximise else min)(scores, default=math.nan)


def _halved(results: StudyResults, arm: str, shares: tuple[float, ...], unit: str) -> Halved:
    """As `State.rungs` decides: of n trials the best ⌈n/η^r⌉ enter rung r."""
    trials = {trial.number: trial for trial in results.of(arm)}
    factor, members = round(shares[1] / shares[0]), list(trials)
    spent = dict.fromkeys(trials, 0.0)
    for rung in range(len(shares)):
        if rung:
            before = {number: trials[number].rungs[rung - 1]["score"] for number in members}
            members = promoted(before, -(-len(trials) // factor**rung), results.maximise)
        spent |= {number: trials[number].rungs[rung]["spent"][unit] for number in members}
    left = [score for n in members if (score := trials[n].rungs[-1]["score"]) is not None]
    chosen, best = (max if results.maximise else min)(left, default=None), results.best(arm)
    return Halved(
        chosen,
        best.score if best else None,
        sum(spent.values()) / sum(t.spent[unit] for t in trials.values()),
    )
