"""What an analysis of a study finds: values only, made by `bestiary.study.analysis.analysis`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from bestiary.scores import SCORES
from bestiary.study.analysis.effects import Agreement, Difference, Effect, Share, Spread
from bestiary.study.analysis.rungs import Rungs
from bestiary.study.analysis.statistics import BestOfK, Floats, Pair, letters
from bestiary.study.analysis.trials import StudyResults, Trial

Better = Literal["lower", "higher", "neither"]


@dataclass(frozen=True, eq=False)
class ArmSummary:
    """One arm's draws and what follows from them; scores are as they were measured, whatever is better.

    Attributes:
        name: in the study.
        trials: its draws.
        finished: how many of them have a score.
        lost: status to the number of draws without one.
        best: the draw that selection chooses, or None.
        spent: unit to the sum over its draws, of `UNITS`; only those that all draws have.
        curve: the best of k of its draws.
        bootstrap: mean, lower and upper limit of the plain bootstrap of the minimum.
        retrained: score to its values over seeds on the study's data.
        elsewhere: data to score to its values over seeds there.
        effects: hyper-parameter to what it does to the selection score, `p` corrected for all of the study's;
            empty for too few draws.
    """

    name: str
    trials: tuple[Trial, ...]
    finished: int
    lost: Mapping[str, int]
    best: Trial | None
    spent: Mapping[str, float]
    curve: BestOfK
    bootstrap: tuple[Floats, Floats, Floats]
    retrained: Mapping[str, Spread]
    elsewhere: Mapping[str, Mapping[str, Spread]]
    effects: Mapping[str, Effect]

    def cost(self, unit: str) -> float:
        """What one draw cost on average."""
        return self.spent[unit] / len(self.trials)


@dataclass(frozen=True)
class Duel:
    """Two arms by the best of k draws; `p` is corrected for all duels of the study."""

    a: str
    b: str
    k: int
    pair: Pair
    p: float


@dataclass(frozen=True)
class Match:
    """Two arms' re-trained winners by one score.

    Attributes:
        chance: that a seed of `a` beats a seed of `b`, without an assumption.
        difference: of the means, with the assumption of normal scores; None where a seed failed.
        p: of the difference, corrected for all matches by that score.
    """

    a: str
    b: str
    score: str
    chance: Pair
    difference: Difference | None
    p: float | None


@dataclass(frozen=True)
class Order:
    """Arms from good to bad by one measure, and which of them are told apart.

    Attributes:
        names: arms that have the measure, the best first.
        shown: arm to its value as text.
        wins: (better, worse) for every two that are told apart.
    """

    names: tuple[str, ...]
    shown: Mapping[str, str]
    wins: frozenset[tuple[str, str]]

    @property
    def contenders(self) -> tuple[str, ...]:
        """The first, and those not told apart from it."""
        first, *others = self.names
        return (first, *(name for name in others if not self.apart(first, name)))

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The order, cut wherever every arm before the cut beats every arm after it."""
        groups: list[list[str]] = []
        for i, name in enumerate(self.names):
            if all((a, b) in self.wins for a in self.names[:i] for b in self.names[i:]):
                groups.append([name])
            else:
                groups[-1].append(name)
        return tuple(map(tuple, groups))

    @property
    def letters(self) -> dict[str, str]:
        """Arms that share a letter are not told apart."""
        return letters(self.names, sorted(self.wins))

    def apart(self, a: str, b: str) -> bool:
        """Whether two arms are told apart."""
        return (a, b) in self.wins or (b, a) in self.wins


@dataclass(frozen=True)
class Lead:
    """Which arm is ahead over a stretch of the budget, by the median best; several where they are equal."""

    start: float
    end: float
    arms: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Analysis:
    """Everything that the report of a study is made from.

    Attributes:
        results: the rows.
        level: of all intervals, and 1 less the rate of false claims.
        independent: whether the draws are, so that there are bands and comparisons of draws.
        arms: in the study's order.
        ks: the numbers of draws at which arms are compared: 1, and the largest with a band in every arm;
            none where the draws are not independent.
        duels: of every two arms, at each of `ks`.
        draws: k of `ks` to the arms' order by the best of k draws.
        unit: in which compute is counted.
        leads: which arm is ahead by the number of draws, and by compute.
        scores: names of the report's scores, those of the re-trained winners.
        matches: of every two winners, by each of `scores`.
        winners: score to the order of the winners.
        seeds: score to the share of the seed in the variance between winners.
        elsewhere: data to score to the agreement of the arms' order there with that on the study's data.
        agreement: other score to its agreement with the selection score over all draws that have both.
        between: two of `scores` to the agreement of the winners' orders.
        rungs: who is ahead at parts of the budget, if all trials were scored there.
    """

    results: StudyResults
    level: float
    independent: bool
    arms: tuple[ArmSummary, ...]
    ks: tuple[int, ...]
    duels: tuple[Duel, ...]
    draws: Mapping[int, Order]
    unit: str
    leads: tuple[Lead, ...]
    compute_leads: tuple[Lead, ...]
    scores: tuple[str, ...]
    matches: tuple[Match, ...]
    winners: Mapping[str, Order]
    seeds: Mapping[str, Share | None]
    elsewhere: Mapping[str, Mapping[str, Agreement | None]]
    agreement: Mapping[str, Agreement | None]
    between: Mapping[tuple[str, str], Agreement | None]
    rungs: Rungs | None

    @property
    def main(self) -> tuple[str, ...]:
        """Those of `scores` that the verdict rests on: the main ones that rank, or all where none is."""
        known = [name for name in self.scores if name in SCORES and SCORES[name].main and SCORES[name].ranked]
        ranked = [name for name in self.scores if direction(self.results, name) != "neither"]
        return tuple(name for name in known if SCORES[name].beside not in known) or tuple(ranked)

    def arm(self, name: str) -> ArmSummary:
        """The arm of that name."""
        return next(arm for arm in self.arms if arm.name == name)


def direction(results: StudyResults, name: str) -> Better:
    """Which values of a score are better."""
    if name == results.score:
        return "higher" if results.maximise else "lower"
    return SCORES[name].better if name in SCORES else "neither"


def title(name: str) -> str:
    """A score's name for a heading."""
    return SCORES[name].title if name in SCORES else name


def number(value: float) -> str:
    """A number to three digits, or to the whole number."""
    if not math.isfinite(value):
        return "none"
    shown = f"{value:#.3g}".rstrip(".") if abs(value) < 1000 else f"{value:,.0f}"
    return shown.replace("-", "−", 1) if value < 0 else shown


def interval(low: float, high: float) -> str:
    """An interval in words; an end that failures leave open is said to be so."""
    if math.isinf(high):
        return f"{number(low)} or more" if math.isfinite(low) else "nothing but failures"
    return f"{number(low)} to {number(high)}" if math.isfinite(low) else f"{number(high)} or less"


def part(share: float) -> str:
    """A share of a budget as a fraction: "1/9"."""
    return "all" if share == 1 else str(Fraction(share).limit_denominator(10_000))


def p_value(p: float) -> str:
    """A p-value as "p = 0.02", never rounded to nothing."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def share(value: float) -> str:
    """A share in per cent, never rounded to nothing."""
    return f"{value:.0%}" if value == 0 or value >= 0.005 else "< 1%"
