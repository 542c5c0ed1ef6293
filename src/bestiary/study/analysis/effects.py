"""What a score depends on: the seed, each hyper-parameter, another score, other data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from bestiary.study.analysis.statistics import LEVEL, Floats

# With fewer draws than this, no effect but the very largest can be told from chance.
ENOUGH_DRAWS = 8
_PERMUTATIONS = 9_999
_BINS = 3
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Spread:
    """A score over seeds.

    Attributes:
        values: the finite ones.
        failed: seeds without a score.
        mean: of the values, NaN where there is none.
        sd: their standard deviation (divisor n - 1), NaN for fewer than two.
    """

    values: tuple[float, ...]
    failed: int
    mean: float
    sd: float


def spread(values: Sequence[float], failed: int = 0) -> Spread:
    """Mean and standard deviation over seeds; what failed is counted, not averaged."""
    mean = float(np.mean(values)) if values else np.nan
    return Spread(tuple(values), failed, mean, float(np.std(values, ddof=1)) if len(values) > 1 else np.nan)


@dataclass(frozen=True)
class Difference:
    """A difference of two means with its confidence interval and p-value."""

    value: float
    low: float
    high: float
    p: float


def compare_means(a: Spread, b: Spread, level: float = LEVEL) -> Difference | None:
    """Welch's t-test of two means over seeds, for scores with a normal law over seeds.

    That is an assumption, which three seeds cannot check; a permutation test, which needs none, has no
    p-value below 0.1 with three seeds a side. None where a side has failed seeds or fewer than two, or where
    no score varies.

    Reference: *The Generalization of "Student's" Problem when Several Different Population Variances are
    Involved* (Welch, 1947).
    """
    if a.failed or b.failed or not (a.sd >= 0 and b.sd >= 0 and a.sd + b.sd > 0):
        return None
    found = stats.ttest_ind(a.values, b.values, equal_var=False)
    low, high = found.confidence_interval(level)
    return Difference(a.mean - b.mean, float(low), float(high), float(found.pvalue))


@dataclass(frozen=True)
class Share:
    """A share of a variance with its interval."""

    value: float
    low: float
    high: float


def seed_share(groups: Sequence[Sequence[float]], level: float = LEVEL) -> Share | None:
    r"""The share of the variance between re-trained winners that is the seed's: $σ_w^2 / (σ_w^2 + σ_b^2)$.

    σ_w is the deviation over the seeds of one arm, σ_b that of the arms' means, of a one-way model with
    random effects; the share is one less the intra-class correlation. Its interval is exact for normal scores
    and equally many seeds. 0: seeds do not matter beside the arm; 1: the arms differ no more than seeds do.
    None for fewer than two groups of two values, or where nothing varies within them.

    Reference: *Variance Components* (Searle, Casella and McCulloch, 1992), §3.6.
    """
    several = [np.asarray(group, dtype=np.float64) for group in groups if len(group) > 1]
    if len(several) < 2:
        return None
    sizes = np.array([len(group) for group in several])
    total, arms = sizes.sum(), len(several)
    means = np.array([group.mean() for group in several])
    grand = np.concatenate(several).mean()
    between = float((sizes * (means - grand) ** 2).sum() / (arms - 1))
    within = float(sum(((g - g.mean()) ** 2).sum() for g in several) / (total - arms))
    if within == 0:
        return None
    each = (total - (sizes**2).sum() / total) / (arms - 1)  # seeds an arm, their number where it is the same

    def share(ratio: float) -> float:  # of the mean squares
        return float(np.clip(each / (ratio + each - 1), 0, 1)) if ratio + each > 1 else 1.0

    law = stats.f(arms - 1, total - arms)
    ratio = between / within
    low, high = (ratio / law.ppf(p) for p in ((1 + level) / 2, (1 - level) / 2))
    return Share(share(ratio), share(high), share(low))


@dataclass(frozen=True)
class Effect:
    """What one hyper-parameter does to an arm's score.

    Attributes:
        trend: Spearman's rank correlation of value and score, positive where larger values are worse; None
            for a hyper-parameter that is not a number.
        low, high: its interval, or None.
        explained: share of the variance of the scores' ranks that differs between the thirds of the values
            (or between the values, where they are three or not numbers), less what chance gives.
        p: how often chance alone gives a trend or a share as large.
        draws: how many it rests on.
    """

    trend: float | None
    low: float | None
    high: float | None
    explained: float
    p: float
    draws: int


def sensitivity(
    settings: Mapping[str, Sequence[Any]], scores: ArrayLike, *, level: float = LEVEL, seed: int = 0
) -> dict[str, Effect]:
    """The effect of each hyper-parameter on the score of an arm, from its draws.

    Everything is of ranks, and so does not mind outliers, failures (all equal, the worst) or logarithms. The
    trend sees what rises or falls, the share between thirds also an optimum in the middle. Both are tested by
    permuting the scores; of the two p-values the smaller counts, doubled. One at a time: an effect that
    depends on another hyper-parameter is seen only as far as it remains on average. The interval of the trend
    is that of Bonett and Wright (*Sample Size Requirements for Estimating Pearson, Kendall and Spearman
    Correlations*, 2000).

    Arguments:
        settings: name to its value in each of the n draws; those with one value only are left out.
        scores: shape (n,), smaller is better, +inf where there is none.
        level: of the interval.
        seed: of the permutations.

    Returns:
        Nothing for fewer than `ENOUGH_DRAWS` draws, or where all scores are equal.
    """
    ranks = stats.rankdata(np.asarray(scores, dtype=np.float64))
    n = len(ranks)
    if n < ENOUGH_DRAWS or np.ptp(ranks) == 0:
        return {}
    found = (ranks - ranks.mean()) / ranks.std()
    shuffled = np.random.default_rng(seed).permuted(np.tile(found, (_PERMUTATIONS, 1)), axis=1)
    y = np.concatenate([found[None], shuffled])  # (1 + permutations, n), the draws themselves first
    effects = {}
    for name, values in settings.items():
        levels = sorted(set(values)) if _numeric(values) else sorted({str(value) for value in values})
        if len(levels) < 2:
            continue
        trend = low = high = None
        if _numeric(values):
            x = stats.rankdata(values)
            groups = x if len(levels) <= _BINS else np.ceil(_BINS * x / n)
            rho = y @ (x - x.mean()) / (n * x.std())
            trend = float(rho[0])
            low, high = _interval(trend, n, level)
        else:
            groups = np.array([levels.index(str(value)) for value in values])
        members = groups[:, None] == np.unique(groups)  # (n, groups)
        share = ((y @ members) ** 2 / members.sum(axis=0)).sum(axis=1) / n
        p = _as_large(share)
        if trend is not None:
            p = min(1.0, 2 * min(p, _as_large(np.abs(rho))))
        kinds = members.shape[1]
        explained = max(0.0, 1 - (1 - float(share[0])) * (n - 1) / (n - kinds)) if n > kinds else 0.0
        effects[name] = Effect(trend, low, high, explained, p, n)
    return effects


@dataclass(frozen=True)
class Agreement:
    """Kendall's τ of two orders, how often chance alone gives one as far from 0, and of how many things."""

    tau: float
    p: float
    n: int


def rank_agreement(a: ArrayLike, b: ArrayLike) -> Agreement | None:
    """Kendall's rank correlation τ_b of two rows of numbers: 1 for the same order, -1 for the opposite one.

    p is exact without ties. None for fewer than three, or where one of the rows is constant.

    Reference: *A New Measure of Rank Correlation* (Kendall, 1938).
    """
    x, y = (np.asarray(values, dtype=np.float64) for values in (a, b))
    if len(x) < 3 or len(set(x.tolist())) < 2 or len(set(y.tolist())) < 2:
        return None
    found = stats.kendalltau(stats.rankdata(x), stats.rankdata(y))
    return Agreement(float(found.statistic), float(found.pvalue), len(x))


def _numeric(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _interval(rho: float, n: int, level: float) -> tuple[float, float]:
    error = stats.norm.ppf((1 + level) / 2) * np.sqrt((1 + rho**2 / 2) / (n - 3))
    middle = np.arctanh(np.clip(rho, -1 + _ROUNDING, 1 - _ROUNDING))
    return float(np.tanh(middle - error)), float(np.tanh(middle + error))


def _as_large(values: Floats) -> float:
    """The share of all values that is as large as the first."""
    return float(np.mean(values >= values[0] - _ROUNDING))
