"""Kernel distance, Inception Score and class coverage."""

import math

import pytest
import torch

from bestiary.errors import DataError, OptionError
from bestiary.metrics import class_coverage, inception_score, kernel_distance


def normal(n, d, seed=0, scale=1.0, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(n, d, generator=generator, dtype=torch.float64) + shift


def test_kernel_distance_by_hand():
    # d = 1, k(x, y) = (xy + 1)³: k(0,·) = 1, k(1,1) = 8, k(1,2) = 27, k(2,2) = 125
    real, fake = torch.tensor([[0.0], [1.0]]), torch.tensor([[1.0], [2.0]])
    expected = 1 + 27 - 2 * (1 + 1 + 8 + 27) / 4
    score = kernel_distance(real=real, fake=fake)
    assert score.value == pytest.approx(expected)
    assert score.protocol == "kernel[features, subsets=100x2, n=2]"


def test_kernel_distance_equals_an_independent_library():
    kid = pytest.importorskip("torchmetrics.image.kid")
    real, fake = normal(150, 20), normal(150, 20, seed=1, scale=1.2, shift=0.1)
    score = kernel_distance(real=real, fake=fake, subsets=1)
    assert score.value == pytest.approx(kid.poly_mmd(real, fake).item(), rel=1e-9)


def test_kernel_distance_has_the_expectation_of_its_closed_form():
    # For unit vectors ±a against ±b with aᵀb = c: k is even in the signs after averaging,
    # E (± t/d + 1)³ = 1 + 3 (t/d)², so MMD² = 2·3/d² − 2·3 c²/d².
    signs = normal(4000, 1).sign()
    a, b = torch.zeros(4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    a[0], b[0], b[1] = 2.0, 1.2, 1.6  # length 2, so that t = 4 and c = 2.4 take the place of 1 and c
    score = kernel_distance(real=signs[:2000] * a, fake=signs[2000:] * b, subsets=50, subset_size=500)
    expected = 2 * 3 / 16 * (16 - 2.4**2)
    assert abs(score.value - expected) < 3 * score.error
    assert score.error < 0.1 * expected


def test_kernel_distance_is_unbiased_symmetric_seeded_and_monotone():
    real, fake = normal(400, 8), normal(400, 8, seed=1)
    null = kernel_distance(real=real, fake=fake, subsets=20, subset_size=200)
    assert abs(null.value) < 3 * null.error
    other = kernel_distance(
        real=real, fake=fake, subsets=20, subset_size=200, generator=torch.Generator().manual_seed(1)
    )
    assert other.value != null.value
    assert null == kernel_distance(real=real, fake=fake, subsets=20, subset_size=200)
    there = kernel_distance(real=real, fake=fake + 0.3, subsets=1)
    back = kernel_distance(real=fake + 0.3, fake=real, subsets=1)
    assert there.value == pytest.approx(back.value, rel=1e-9)
    noise = normal(400, 8, seed=2)
    values = [kernel_distance(real=real, fake=fake + s * noise, subsets=1).value for s in (0.0, 0.5, 1.0)]
    assert values == sorted(values)


def test_one_subset_of_many_tells_nothing_of_the_others():
    score = kernel_distance(real=normal(300, 4, 0), fake=normal(300, 4, 1), subsets=1, subset_size=50)
    assert score.error is None


def test_a_class_is_found_by_its_share_of_what_there_is():
    """Perfect samples of a hundred classes, a hundredth each, have a hundred classes."""
    perfect = torch.eye(100).repeat(50, 1)
    found = class_coverage(probabilities=perfect)
    assert (found.value, found.protocol) == (100, "classes[classifier, share≥0.002, n=5000]")
    assert class_coverage(probabilities=torch.eye(10).repeat(9, 1)).protocol.startswith(
        "classes[classifier, share≥0.02, "
    )
    with pytest.raises(OptionError, match="minimum_share: found nan, wanted a number from 0 to 1"):
        class_coverage(probabilities=perfect, minimum_share=math.nan)


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.3, 1.1)])
@pytest.mark.parametrize(("n_fake", "subsets", "subset_size"), [(150, 1, 1000), (80, 1, 1000), (150, 8, 40)])
def test_the_kernel_distance_error_bar_covers_at_its_stated_rate(shift, scale, n_fake, subsets, subset_size):
    scores = [
        kernel_distance(
            real=normal(150, 6, 2 * i),
            fake=normal(n_fake, 6, 2 * i + 1, scale, shift),
            subsets=subsets,
            subset_size=subset_size,
            generator=torch.Generator().manual_seed(i),
        )
        for i in range(200)
    ]
    values = torch.tensor([s.value for s in scores])
    errors = torch.tensor([s.error for s in scores])
    assert errors.square().mean().sqrt().item() == pytest.approx(values.std().item(), rel=0.3)
    assert 0.58 < ((values - values.mean()).abs() < errors).double().mean().item() < 0.85
    assert (scores[0].n_real, scores[0].n_fake) == (150, n_fake)


def test_the_inception_score_error_bar_covers_at_its_stated_rate():
    logits = [2 * normal(400, 10, seed) for seed in range(200)]
    scores = [inception_score(probabilities=x.softmax(dim=1)) for x in logits]
    values = torch.tensor([s.value for s in scores])
    errors = torch.tensor([s.error for s in scores])
    # ten parts: Student's t of nine degrees is within one standard error in 65.7 %
    assert 0.56 < ((values - values.mean()).abs() < errors).double().mean().item() < 0.76


def test_kernel_distance_mistakes():
    with pytest.raises(OptionError, match="subsets: found 0 of 1000"):
        kernel_distance(real=normal(5, 2), fake=normal(5, 2), subsets=0)
    with pytest.raises(DataError, match="real: found 1 examples, wanted at least 2"):
        kernel_distance(real=normal(1, 2), fake=normal(5, 2))


def test_inception_score_of_known_distributions():
    sure = torch.eye(5, dtype=torch.float64).repeat(20, 1)
    assert inception_score(probabilities=sure, splits=4).value == pytest.approx(5.0, rel=1e-12)
    assert inception_score(probabilities=sure, splits=4).error == pytest.approx(0.0, abs=1e-12)
    unsure = torch.full((100, 5), 0.2)
    assert inception_score(probabilities=unsure, splits=1).value == pytest.approx(1.0, rel=1e-6)
    assert inception_score(probabilities=unsure, splits=1).error is None
    # two kinds of answers, (p, 1−p) and (1−p, p): log score = log 2 − H(p)
    mixed = torch.tensor([[0.9, 0.1], [0.1, 0.9]], dtype=torch.float64).repeat(50, 1)
    entropy = -0.9 * math.log(0.9) - 0.1 * math.log(0.1)
    score = inception_score(probabilities=mixed, splits=2)
    assert score.value == pytest.approx(math.exp(math.log(2) - entropy), rel=1e-12)
    assert (score.n_real, score.n_fake, score.protocol) == (
        0,
        100,
        "inception-score[classifier, splits=2, n=100]",
    )


def test_inception_score_averages_divergences_and_not_their_exponentials():
    p = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [0.5, 0.5]], dtype=torch.float64)
    # KL to the marginal (½, ½) is log 2 twice and 0 twice
    assert inception_score(probabilities=p, splits=1).value == pytest.approx(math.sqrt(2), rel=1e-12)


def test_inception_score_splits_are_consecutive_and_each_has_its_own_marginal():
    p = torch.cat([torch.eye(2, dtype=torch.float64)[[0] * 10], torch.eye(2, dtype=torch.float64)[[1] * 10]])
    assert inception_score(probabilities=p, splits=1).value == pytest.approx(2.0)
    assert inception_score(probabilities=p, splits=2).value == pytest.approx(1.0)


def test_class_coverage_counts_shares_and_confidence():
    p = torch.zeros(100, 4, dtype=torch.float64)
    labels = torch.tensor([0] * 60 + [1] * 38 + [2] * 2)
    p[:] = 0.1
    p[torch.arange(100), labels] = 0.7
    found = class_coverage(probabilities=p)
    assert (found.value, found.classes, found.error) == (3.0, 4, None)
    assert found.shares == (0.6, 0.38, 0.02, 0.0)
    assert found.confidence == pytest.approx(0.7)
    assert class_coverage(probabilities=p, minimum_share=0.03).value == 2.0
    assert found.protocol == "classes[classifier, share≥0.02, n=100]"


def test_what_is_no_probability_is_refused():
    with pytest.raises(DataError, match="sum to 1"):
        inception_score(probabilities=normal(20, 3))
    with pytest.raises(DataError, match="sum to 1"):
        class_coverage(probabilities=torch.ones(20, 3))
    with pytest.raises(OptionError, match="splits: found 10 of 15 samples, wanted 1 to 7"):
        inception_score(probabilities=torch.full((15, 2), 0.5))
