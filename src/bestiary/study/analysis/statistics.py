r"""What n draws of a score say of the best of k draws, and of two arms: no assumption about the scores' laws.

A score is smaller where it is better. A draw that gave none (diverged, failed, halted) is +inf: worse than
every other, equal to its like. The law of an arm is what a draw of its settings, and of everything random in
its training, scores; s_(1) <= … <= s_(n) are the n draws in order.

All statements take the draws as independent, which random search gives. The first draw of a study is the
default setting, which is not random: what is said then holds of the mean of the draws' n laws, and the bands
are too wide rather than too narrow (*On the Distribution of the Number of Successes in Independent Trials*,
Hoeffding, 1956).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from bestiary.errors import OptionError

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

LEVEL = 0.95
# Divisions of two arms' draws into two: all where there are no more than this, or else so many at random.
_ALL, _RANDOM = 20_000, 9_999
_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class BestOfK:
    """The best of k = 1, …, n draws, each an array of shape (n,); NaN where something is not defined.

    Attributes:
        expected: its expectation, see `expected_best`.
        median: its median, see `median_best`.
        lower, upper: the band of the median, see `median_band`.
    """

    expected: Floats
    median: Floats
    lower: Floats
    upper: Floats

    @property
    def defined(self) -> int:
        """The largest k that has a band, 0 where none has."""
        return int((~np.isnan(self.lower)).sum())


def best_of_k(scores: ArrayLike, level: float = LEVEL) -> BestOfK:
    """Everything that is said of the best of k draws, for k = 1, …, n."""
    return BestOfK(expected_best(scores), median_best(scores), *median_band(scores, level))


def expected_best(scores: ArrayLike) -> Floats:
    r"""The unbiased estimate of the expected best of k draws, for k = 1, …, n; shape (n,).

    $\hat E_k = \sum_{i=1}^{n} s_{(i)} \binom{n-i}{k-1} \big/ \binom{n}{k}$

    is the mean of the best over all ways to take k of the n draws without replacement. Drawing with
    replacement instead, as usual, is biased upwards. Where a draw can fail, the expectation itself is
    infinite, and so is the estimate up to k = the number of failures; beyond, it is the mean over the draws
    that were made, and no more.

    References: *Show Your Work* (Dodge et al., 2019), arXiv:1909.03004, with replacement; *Showing Your Work
    Doesn't Always Work* (Tang et al., 2020), arXiv:2004.13705, on its bias; *Expected Validation Performance
    and Estimation of a Random Variable's Maximum* (Dodge et al., 2021), arXiv:2110.00613, this one.
    """
    ordered = _ordered(scores)
    survival = _survival(len(ordered))
    return _mean(ordered, survival[:, :-1] - survival[:, 1:])


def median_best(scores: ArrayLike) -> Floats:
    """The median of the best over all ways to take k of the n draws, for k = 1, …, n; shape (n,).

    It estimates the median best of k draws, the quantile q_k = 1 - 2^(-1/k) of the arm's law; of two middle
    values it is the mean.
    """
    ordered = _ordered(scores)
    below = 1 - _survival(len(ordered))[:, 1:]  # the share of the ways whose best is among the first i
    low = (below < 0.5 - _ROUNDING).sum(axis=1)
    high = (below <= 0.5 + _ROUNDING).sum(axis=1)
    middle: Floats = (ordered[low] + ordered[high]) / 2
    return middle


def median_band(scores: ArrayLike, level: float = LEVEL) -> tuple[Floats, Floats]:
    r"""Exact, distribution-free limits of the median best of k draws, for k = 1, …, n; each of shape (n,).

    The best of k draws exceeds x with probability (1 - F(x))^k, so that its median is the quantile
    q_k = 1 - 2^(-1/k) of the law F. Of n draws, B ~ Binomial(n, q_k) lie below it; with the largest l and the
    smallest u such that P(B < l) and P(B >= u) are at most (1 - level) / 2, the interval from s_(l) to s_(u)
    holds it with probability `level` at least, whatever F is. There is such an l only up to about
    k = n / log2(2 / (1 - level)), a fifth of the draws at 95 %: beyond, no interval has that coverage, and
    both limits are NaN. An upper limit of +inf says that failures may be as frequent as that.

    References: *Nonparametric Statistical Inference* (Gibbons and Chakraborti, 2011), §5.2, the interval;
    *Show Your Work with Confidence* (Lourie et al., 2024), arXiv:2311.09480, bands of tuning curves.
    """
    ordered = _ordered(scores)
    n = len(ordered)
    if not 0 < level < 1:
        raise OptionError(f"level: found {level:g}, wanted a probability between 0 and 1, as 0.95")
    q = 1 - 2 ** (-1 / np.arange(1, n + 1))
    low = stats.binom.ppf((1 - level) / 2, n, q).astype(int)
    high = stats.binom.ppf((1 + level) / 2, n, q).astype(int) + 1
    known = (low >= 1) & (high <= n)
    lower = np.where(known, ordered[np.maximum(low, 1) - 1], np.nan)
    upper = np.where(known, ordered[np.minimum(high, n) - 1], np.nan)
    return lower, upper


def bootstrap_of_minimum(scores: ArrayLike, level: float = LEVEL) -> tuple[Floats, Floats, Floats]:
    """The plain bootstrap of the minimum, to compare with: mean, lower and upper limit, each of shape (n,).

    What *Are GANs Created Equal?* (Lucic et al., 2018), arXiv:1711.10337, draws: take k of the n draws with
    replacement, keep the best, repeat; here in the limit of infinitely many repetitions, which has a closed
    form: P(best > s_(i)) = (1 - i/n)^k. The limits are the quantiles of that law. Nothing in it can be better
    than the best of the n draws, so that at k = n it lies above the true median best half of the time,
    whatever the stated level.
    """
    ordered = _ordered(scores)
    n = len(ordered)
    beyond = (1 - np.arange(n + 1) / n) ** np.arange(1, n + 1)[:, None]
    tail = (1 - level) / 2
    lower, upper = (
        ordered[(1 - beyond[:, 1:] < p - _ROUNDING).sum(axis=1).clip(max=n - 1)] for p in (tail, 1 - tail)
    )
    return _mean(ordered, beyond[:, :-1] - beyond[:, 1:]), lower, upper


@dataclass(frozen=True)
class Pair:
    """Whether one arm's best of k draws is better than another's.

    Attributes:
        chance: estimate of P(best of k of the one < best of k of the other), ties counted half.
        low, high: an interval for it.
        p: how often two arms with the same law would be at least as far apart.
    """

    chance: float
    low: float
    high: float
    p: float

    def turned(self) -> "Pair":
        """The same with the two arms exchanged."""
        return Pair(1 - self.chance, 1 - self.high, 1 - self.low, self.p)


def compare_best(a: ArrayLike, b: ArrayLike, k: int = 1, *, level: float = LEVEL, seed: int = 0) -> Pair:
    r"""Whether the best of k draws of one arm beats the best of k draws of another.

    The chance is estimated without bias by its mean over all ways to take k of either's draws (for k = 1 the
    statistic of Mann and Whitney, 1947). Its interval is that of Clopper and Pearson (1934) for as many
    independent pairs as the draws give, m = ⌊min(n_a, n_b) / k⌋, and so too wide: the mean over all pairings
    varies less than the share among m of them (*Probability Inequalities for Sums of Bounded Random
    Variables*, Hoeffding, 1963, §5). p is of the permutation test whose null hypothesis is that both laws are
    the same, exact in small samples and with ties: over all divisions of the n_a + n_b draws into two, or
    over 9,999 random ones, counted with the one that was found.

    Arguments:
        a, b: scores, shapes (n_a,) and (n_b,).
        k: number of draws that the best is taken of, at most n_a and n_b.
        level: of the interval.
        seed: of the random divisions.

    Raises:
        OptionError: k is more than the draws of an arm; a score is not a number.
    """
    first, second = _ordered(a), _ordered(b)
    most = min(len(first), len(second))
    if not 1 <= k <= most:
        raise OptionError(f"k: found {k}, wanted a number from 1 to {most}, the draws")
    _, group = np.unique(np.concatenate([first, second]), return_inverse=True)
    size = np.bincount(group)
    count = np.bincount(group[: len(first)], minlength=len(size))
    chance = float(_chance(count, size - count, k))
    null = _chances_by_chance(len(first), len(second), k, tuple(size.tolist()), seed)
    p = float(np.mean(np.abs(null - 0.5) >= abs(chance - 0.5) - _ROUNDING))
    return Pair(chance, *_proportion(chance, most // k, level), p)


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected for their number: below α, at most a share α of families holds a false one.

    Reference: *A Simple Sequentially Rejective Multiple Test Procedure* (Holm, 1979).
    """
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    corrected = np.empty_like(values)
    corrected[order] = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)).clip(max=1)
    return [float(value) for value in corrected]


def letters(names: Sequence[str], apart: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Letters to each name: two names share one exactly where they are not apart.

    Every letter is a largest set of names no two of which are apart; the first letter holds the first name.

    Reference: *An Algorithm for a Letter-Based Representation of All-Pairwise Comparisons* (Piepho, 2004).
    """
    columns = [set(names)]
    for a, b in apart:
        split = [column for column in columns if {a, b} <= column]
        for column in split:
            columns.remove(column)
            columns += [part for part in (column - {a}, column - {b}) if part not in columns]
        columns = [column for column in columns if not any(column < other for other in columns)]
    columns.sort(key=lambda column: sorted(map(names.index, column)))
    return {name: "".join(_letter(i) for i, column in enumerate(columns) if name in column) for name in names}


def _letter(i: int) -> str:
    return chr(ord("a") + i) if i < 26 else f"({i + 1})"


def _ordered(scores: ArrayLike) -> Floats:
    ordered = np.sort(np.asarray(scores, dtype=np.float64))
    if ordered.ndim != 1 or not len(ordered) or np.isnan(ordered).any():
        raise OptionError(
            f"scores: found shape {ordered.shape} with {int(np.isnan(ordered).sum())} that are not numbers,"
            " wanted a row of numbers, +inf for a draw without a score"
        )
    return ordered


@lru_cache(maxsize=64)
def _survival(n: int) -> Floats:
    """P(none of the first i is among k of n), i = 0, …, n: shape (n, n + 1), a row for each k = 1, …, n."""
    k = np.arange(1, n + 1)[:, None]
    survival: Floats = stats.hypergeom.pmf(0, n, np.arange(n + 1), k)
    survival.setflags(write=False)
    return survival


def _mean(ordered: Floats, weights: Floats) -> Floats:
    """Weighted sums, in which an infinite score with a weight of zero does not count."""
    finite = np.isfinite(ordered)
    mean: Floats = weights[:, finite] @ ordered[finite]
    return np.where((weights[:, ~finite] > _ROUNDING).any(axis=1), np.inf, mean)


def _chance(count_a: Counts, count_b: Counts, k: int) -> Floats:
    """P(best of k of a < that of b) + half the ties; counts (..., G) of each distinct score, in order."""
    beyond_a, beyond_b = (_survival(int(c.sum(axis=-1).flat[0]))[k - 1] for c in (count_a, count_b))
    a, b = (
        beyond[np.concatenate([np.zeros_like(count[..., :1]), count.cumsum(axis=-1)], axis=-1)]
        for beyond, count in ((beyond_a, count_a), (beyond_b, count_b))
    )
    chance: Floats = ((a[..., :-1] - a[..., 1:]) * (b[..., :-1] + b[..., 1:])).sum(axis=-1) / 2
    return chance


@lru_cache(maxsize=256)
def _chances_by_chance(n_a: int, n_b: int, k: int, sizes: tuple[int, ...], seed: int) -> Floats:
    """The chance under divisions of the pooled draws, whose distinct scores occur `sizes` times each.

    It depends on the draws only through their ties, and so is made once for all pairs of arms without.
    """
    n = n_a + n_b
    every = math.comb(n, n_a) <= _ALL
    if every:
        chosen = np.array(list(combinations(range(n), n_a)))
    else:
        chosen = np.argsort(np.random.default_rng(seed).random((_RANDOM, n)), axis=1)[:, :n_a]
    first = np.zeros((len(chosen), n), dtype=np.int64)
    np.put_along_axis(first, chosen, 1, axis=1)
    size = np.array(sizes)
    count = np.add.reduceat(first, np.cumsum(size) - size, axis=1)
    # Beside random divisions stands the one that was found, which is as far apart as itself.
    return np.concatenate([_chance(count, size - count, k), [] if every else [np.inf]])


def _proportion(share: float, n: int, level: float) -> tuple[float, float]:
    """The interval of Clopper and Pearson for a probability; n · share need not be a whole number."""
    tail, hits = (1 - level) / 2, share * n
    low = stats.beta.ppf(tail, hits, n - hits + 1) if hits > _ROUNDING else 0.0
    high = stats.beta.ppf(1 - tail, hits + 1, n - hits) if hits < n - _ROUNDING else 1.0
    return float(low), float(high)
