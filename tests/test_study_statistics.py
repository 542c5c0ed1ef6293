"""The statistics of a study against enumeration, other libraries and known laws."""

import math
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bestiary.errors import OptionError
from bestiary.study.analysis.effects import compare_means, rank_agreement, seed_share, sensitivity, spread
from bestiary.study.analysis.statistics import (
    best_of_k,
    bootstrap_of_minimum,
    compare_best,
    expected_best,
    holm,
    letters,
    median_band,
    median_best,
)

INF = math.inf
draws = st.lists(st.integers(0, 9).map(float) | st.just(INF), min_size=1, max_size=7)


def bests(scores, k):
    return [min(chosen) for chosen in combinations(scores, k)]


@given(draws)
def test_expectation_and_median_are_those_over_all_choices_of_k_draws(scores):
    expected, median = expected_best(scores), median_best(scores)
    for k in range(1, len(scores) + 1):
        best = np.array(bests(scores, k))
        assert expected[k - 1] == pytest.approx(best.mean())
        middle = np.sort(best)[[(len(best) - 1) // 2, len(best) // 2]]
        assert median[k - 1] == pytest.approx(middle.mean())


def test_the_estimate_of_the_expected_best_is_unbiased_and_the_bootstrap_is_not():
    # A law on {0, 1, 5}: all 3^4 samples of 4 draws, each with its probability.
    values, p, n = (0.0, 1.0, 5.0), (0.2, 0.5, 0.3), 4
    samples = list(product(range(3), repeat=n))
    weights = np.array([math.prod(p[i] for i in sample) for sample in samples])
    scores = [[values[i] for i in sample] for sample in samples]
    truth = [sum(math.prod(p[i] for i in s) * min(values[i] for i in s) for s in product(range(3), repeat=k))
             for k in range(1, n + 1)]  # fmt: skip
    assert weights @ [expected_best(s) for s in scores] == pytest.approx(truth)
    bootstrap = weights @ [bootstrap_of_minimum(s)[0] for s in scores]
    assert bootstrap[0] == pytest.approx(truth[0])
    assert np.all(bootstrap[1:] > np.array(truth[1:]) + 0.05)


def test_where_draws_fail_the_expected_best_is_infinite_until_a_choice_must_hold_a_score():
    assert expected_best([3.0, INF, 1.0, INF]).tolist() == [INF, INF, 2.0 - 0.5, 1.0]
    assert median_best([3.0, INF, 1.0, INF]).tolist() == [INF, (1.0 + 3.0) / 2, 1.0, 1.0]
    assert expected_best([INF, INF]).tolist() == [INF, INF]


@pytest.mark.parametrize(("n", "defined"), [(3, 0), (8, 1), (40, 7), (100, 18)])
def test_the_band_has_exactly_the_coverage_that_ranks_can_have(n, defined):
    ranks = np.arange(1.0, n + 1)
    lower, upper = median_band(ranks)
    assert best_of_k(ranks).defined == defined
    assert np.isnan(lower[defined:]).all()
    assert np.isnan(upper[defined:]).all()
    for k in range(1, n + 1):
        law = stats.binom(n, 1 - 2 ** (-1 / k))  # of the number of draws below the true median best
        if k > defined:
            assert law.cdf(0) > 0.025 or law.sf(n - 1) > 0.025  # not even the extreme draws would do
            continue
        low, high = lower[k - 1], upper[k - 1]
        assert law.cdf(low - 1) <= 0.025 < law.cdf(low)
        assert law.sf(high - 1) <= 0.025 < law.sf(high - 2)
        assert low <= median_best(ranks)[k - 1] <= high


def test_bands_hold_the_truth_and_the_bootstrap_of_all_draws_only_half_of_the_time():
    generator, n = np.random.default_rng(0), 40
    truth = stats.norm.ppf(1 - 2 ** (-1 / np.arange(1, n + 1)))
    inside, bootstrap = [], []
    for scores in generator.normal(size=(600, n)):
        lower, upper = median_band(scores)
        inside.append((lower[:7] <= truth[:7]) & (truth[:7] <= upper[:7]))
        _, low, high = bootstrap_of_minimum(scores)
        bootstrap.append((low <= truth) & (truth <= high))
    assert np.mean(inside, axis=0).min() > 0.95 - 2 * math.sqrt(0.95 * 0.05 / 600)
    assert np.mean(bootstrap, axis=0)[-1] == pytest.approx(0.5, abs=0.06)


def test_the_upper_end_of_the_band_is_open_where_failures_are_frequent():
    scores = [1.0, 2.0, 3.0, 4.0, 5.0, INF, INF, INF]
    lower, upper = median_band(scores)
    assert (lower[0], upper[0]) == (1.0, INF)
    lower, upper = median_band([INF] * 8)
    assert (lower[0], upper[0]) == (INF, INF)
    assert best_of_k([INF] * 8).defined == 1


def test_the_bootstrap_is_the_limit_of_drawing_with_replacement():
    generator = np.random.default_rng(0)
    scores = generator.normal(size=12)
    mean, low, high = bootstrap_of_minimum(scores, level=0.8)
    for k in (1, 4, 12):
        best = generator.choice(scores, (40_000, k)).min(axis=1)
        assert mean[k - 1] == pytest.approx(best.mean(), abs=0.03)
        assert (low[k - 1], high[k - 1]) == tuple(np.quantile(best, [0.1, 0.9], method="inverted_cdf"))


@given(draws, draws)
def test_the_chance_is_the_share_of_all_choices_with_ties_at_half(a, b):
    for k in {1, min(len(a), len(b))}:
        wins = [(x < y) + (x == y) / 2 for x in bests(a, k) for y in bests(b, k)]
        found = compare_best(a, b, k)
        assert found.chance == pytest.approx(np.mean(wins))
        assert found.low <= found.chance + 1e-12
        assert found.chance <= found.high + 1e-12
        back = compare_best(b, a, k)
        assert (back.chance, back.p) == pytest.approx((1 - found.chance, found.p))
        assert (back.low, back.high) == pytest.approx((found.turned().low, found.turned().high))


def test_a_single_draw_is_the_test_of_mann_and_whitney():
    a, b = np.random.default_rng(0).normal(size=(2, 8))
    found = compare_best(a, b - 0.5)
    u, p = stats.mannwhitneyu(a, b - 0.5, method="exact")
    assert found.chance == pytest.approx(1 - u / 64)
    assert found.p == pytest.approx(p)


@pytest.mark.parametrize("k", [1, 3])
def test_ties_are_tested_as_exactly_as_by_scipy(k):
    a, b = np.array([1.0, 2.0, 2.0, INF, 1.0]), np.array([2.0, 5.0, INF, INF, 6.0])

    def away(x, y):
        return abs(compare_best(x, y, k).chance - 0.5)

    expected = stats.permutation_test((a, b), away, alternative="greater", n_resamples=np.inf)
    assert compare_best(a, b, k).p == pytest.approx(expected.pvalue)


def test_complete_separation():
    a, b = np.arange(8.0), np.arange(8.0) + 10
    found = compare_best(a, b)
    assert (found.chance, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(stats.binomtest(8, 8).proportion_ci(method="exact").low)
    assert found.p == pytest.approx(2 / math.comb(16, 8))
    # The best of 8 of 8 draws is one pair, which says next to nothing.
    assert compare_best(a, b, 8).low == pytest.approx(0.025)
    assert compare_best(a, b, 8).p == 1.0


@pytest.mark.parametrize(("n", "k"), [(8, 1), (40, 7)])
def test_equal_arms_are_told_apart_no_more_often_than_stated(n, k):
    generator, studies = np.random.default_rng(1), 400
    p = [compare_best(*generator.normal(size=(2, n)), k).p for _ in range(studies)]
    assert np.mean(np.array(p) <= 0.05) < 0.05 + 2 * math.sqrt(0.05 * 0.95 / studies)
    assert np.mean(np.array(p) <= 0.05) > 0.01


def test_random_divisions_are_those_of_the_seed():
    a, b = np.random.default_rng(0).normal(size=(2, 20))
    assert compare_best(a, b, seed=3) == compare_best(a, b, seed=3)
    assert compare_best(a, b, seed=3).p == pytest.approx(compare_best(a, b, seed=4).p, abs=0.03)
    assert compare_best(a, b + 9).p == pytest.approx(1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: expected_best([1.0, math.nan]), "found shape .2,. with 1 that are not numbers"),
        (lambda: expected_best([]), "wanted a row of numbers"),
        (lambda: median_band([1.0, 2.0], level=95), "level: found 95, wanted a probability"),
        (lambda: compare_best([1.0, 2.0], [1.0], k=2), "k: found 2, wanted a number from 1 to 1"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(OptionError, match=message):
        call()


def test_holm():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.sets(st.tuples(st.integers(0, 5), st.integers(0, 5)).filter(lambda pair: pair[0] < pair[1])))
def test_two_arms_share_a_letter_exactly_where_they_are_not_apart(apart):
    names = list("uvwxyz")
    found = letters(names, [(names[a], names[b]) for a, b in apart])
    for a, b in combinations(range(6), 2):
        assert bool(set(found[names[a]]) & set(found[names[b]])) is ((a, b) not in apart)
    assert found["u"].startswith("a")
    every = set("".join(found.values()))
    holders = {letter: {name for name in names if letter in found[name]} for letter in every}
    assert not any(holders[a] < holders[b] for a in every for b in every)  # no letter is superfluous


def test_spread_counts_what_failed_and_does_not_average_it():
    found = spread([1.0, 3.0], failed=1)
    assert (found.mean, found.sd, found.failed) == (2.0, pytest.approx(math.sqrt(2)), 1)
    assert math.isnan(spread([]).mean)
    assert math.isnan(spread([1.0]).sd)


def test_means_are_compared_as_by_welch():
    a, b = (1.0, 2.0, 4.0), (5.0, 9.0, 7.0, 8.0)
    found = compare_means(spread(a), spread(b))
    assert found is not None
    assert found.value == pytest.approx(np.mean(a) - np.mean(b))
    assert found.p == pytest.approx(stats.ttest_ind(a, b, equal_var=False).pvalue)
    assert found.low < found.value < found.high < 0
    for one, two in ((spread([1.0]), spread(b)), (spread(a, failed=1), spread(b)), (spread([1.0, 1.0]),) * 2):
        assert compare_means(one, two) is None


def test_the_seeds_share_of_the_variance():
    # Mean squares by hand: between 16, within 2, so 2 / (16/2 + 2 - 1).
    found = seed_share([[1.0, 3.0], [5.0, 7.0]])
    assert found is not None
    assert found.value == pytest.approx(2 / 9)
    assert found.low < found.value < found.high <= 1.0
    assert seed_share([[1.0, 2.0]]) is None
    assert seed_share([[1.0, 1.0], [2.0, 2.0]]) is None
    equal = seed_share([[1.0, 3.0], [3.0, 1.0]])
    assert equal is not None
    assert equal.value == 1.0


def test_the_interval_of_the_seeds_share_covers():
    generator, truth = np.random.default_rng(0), 1 / (1 + 4)
    found = [
        seed_share(generator.normal(size=(9, 1)) * 2 + generator.normal(size=(9, 3))) for _ in range(300)
    ]
    assert np.mean([f.low <= truth <= f.high for f in found]) == pytest.approx(0.95, abs=0.03)


def test_sensitivity_sees_a_trend_an_optimum_and_a_choice_and_nothing_else():
    generator, n = np.random.default_rng(0), 150
    rate, beta, width, norm = generator.random((4, n))
    norm = norm < 0.5
    scores = 6 * rate + 12 * np.abs(beta - 0.5) + 3 * norm + generator.normal(size=n) / 2
    scores[:3] = INF
    settings = {"rate": 10**rate, "beta": beta, "norm": norm.tolist(), "width": width, "fixed": [3] * n}
    found = sensitivity(settings, scores)
    assert list(found) == ["rate", "beta", "norm", "width"]
    assert found["rate"].trend > 0.3
    assert found["rate"].low < found["rate"].trend < found["rate"].high
    assert abs(found["beta"].trend) < 0.3  # the optimum lies in the middle: no trend, and yet
    assert found["beta"].explained > 0.1
    assert found["norm"].trend is None
    assert all(found[name].p < 0.02 for name in ("rate", "beta", "norm"))
    assert found["width"].p > 0.05
    assert found["width"].explained < 0.1


def test_sensitivity_does_not_mind_the_scale():
    generator = np.random.default_rng(0)
    x, y = generator.random((2, 20))
    assert sensitivity({"x": x}, y) == sensitivity({"x": np.exp(9 * x)}, np.exp(y))


def test_sensitivity_says_nothing_of_few_or_equal_draws():
    assert sensitivity({"x": range(7)}, range(7)) == {}
    assert sensitivity({"x": range(9)}, [INF] * 9) == {}
    perfect = sensitivity({"x": range(8)}, range(8))["x"]
    assert perfect.trend == pytest.approx(1.0)
    assert perfect.p < 0.01


def test_sensitivity_to_nothing_is_found_no_more_often_than_stated():
    generator = np.random.default_rng(2)
    p = [sensitivity({"x": generator.random(12)}, generator.random(12))["x"].p for _ in range(120)]
    assert np.mean(np.array(p) <= 0.05) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 120)


def test_rank_agreement_is_kendalls_with_its_exact_p():
    same = rank_agreement([1.0, 2.0, 3.0, 9.0], [10.0, 11.0, 12.0, 13.0])
    assert same is not None
    assert (same.tau, same.p, same.n) == (pytest.approx(1.0), pytest.approx(2 / 24), 4)
    opposite = rank_agreement([1.0, 2.0, 3.0], [3.0, 2.0, INF])
    assert opposite is not None
    assert opposite.tau == pytest.approx(1 / 3)
    assert rank_agreement([1.0, 2.0], [1.0, 2.0]) is None
    assert rank_agreement([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None
