"""Precision and recall of distributions: a known curve, its direction, its oracle, its error bar."""

import math

import numpy as np
import pytest
import torch
from sklearn.cluster import MiniBatchKMeans

from bestiary.errors import DataError
from bestiary.metrics import precision_recall_curve


def clusters(shares, n=400, d=3, seed=0):
    """n points in well separated balls, with these shares of them."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.cat([torch.full((round(n * p),), k) for k, p in enumerate(shares)])
    centres = 100 * torch.eye(max(d, len(shares)), dtype=torch.float64)[: len(shares)]
    noise = 0.1 * torch.randn(len(labels), centres.shape[1], generator=generator, dtype=torch.float64)
    return centres[labels] + noise


def f_beta(precision, recall, b):
    return max((1 + b * b) * p * r / (b * b * p + r) for p, r in zip(precision, recall, strict=True) if p + r)


def test_a_known_curve():
    p, q = (0.25, 0.5, 0.25, 0.0), (0.5, 0.25, 0.0, 0.25)
    curve = precision_recall_curve(real=clusters(p), fake=clusters(q, seed=1), clusters=4, angles=101)
    slopes = np.tan(np.linspace(1e-10, math.pi / 2 - 1e-10, 101))
    alpha = [sum(min(s * a, b) for a, b in zip(p, q, strict=True)) for s in slopes]
    beta = [a / s for a, s in zip(alpha, slopes, strict=True)]
    np.testing.assert_allclose(curve.precision, alpha, atol=1e-12)
    np.testing.assert_allclose(curve.recall, beta, atol=1e-12)
    for b in (1 / 8, 1, 8):
        assert curve.f_beta(b) == pytest.approx(f_beta(alpha, beta, b), rel=1e-12)
    # the ends of the curve are the shares inside the other's support
    assert curve.precision[-1] == pytest.approx(0.75)
    assert curve.recall[0] == pytest.approx(0.75)


def test_dropped_modes_cost_recall_and_not_precision():
    real, fake = clusters([0.1] * 10), clusters([0.2] * 5, d=10, seed=1)
    curve = precision_recall_curve(real=real, fake=fake, clusters=10)
    assert curve.f_beta(1 / 8) > 0.95
    assert curve.f_beta(8) < 0.55
    assert curve.precision.max() == pytest.approx(1.0)
    assert curve.recall.max() == pytest.approx(0.5, abs=0.01)
    # exchanging real and fake exchanges the two
    back = precision_recall_curve(real=fake, fake=real, clusters=10)
    assert back.f_beta(8) > 0.95
    assert back.f_beta(1 / 8) < 0.55


def test_equal_sets_score_one_and_disjoint_sets_zero():
    real = clusters([0.25] * 4)
    same = precision_recall_curve(real=real, fake=real, clusters=8, runs=3)
    assert same.f_beta(8) == pytest.approx(1.0)
    assert same.f_beta(1 / 8) == pytest.approx(1.0)
    apart = precision_recall_curve(real=real, fake=real + 1e4, clusters=8, runs=3)
    assert apart.f_beta(8) == 0.0
    assert apart.score(8).error == 0.0


def test_equals_the_published_procedure():
    generator = torch.Generator().manual_seed(3)
    real = torch.randn(300, 5, generator=generator, dtype=torch.float64)
    fake = 0.8 * torch.randn(300, 5, generator=generator, dtype=torch.float64) + 0.3
    ours = precision_recall_curve(
        real=real, fake=fake, runs=2, angles=51, generator=torch.Generator().manual_seed(4)
    )
    seeds = torch.randint(2**31 - 1, (2,), generator=torch.Generator().manual_seed(4)).tolist()
    slopes = np.tan(np.linspace(1e-10, math.pi / 2 - 1e-10, 51))
    curves = []
    for seed in seeds:
        kmeans = MiniBatchKMeans(n_clusters=20, n_init=10, random_state=seed)
        labels = kmeans.fit(np.concatenate([real.numpy(), fake.numpy()])).labels_
        p, q = (np.bincount(part, minlength=20) / 300 for part in (labels[:300], labels[300:]))
        precision = np.minimum(p * slopes[:, None], q).sum(axis=1)
        curves.append((precision, precision / slopes))
    precision, recall = np.mean(curves, axis=0)
    np.testing.assert_allclose(ours.precision, precision, atol=1e-12)
    np.testing.assert_allclose(ours.recall, recall, atol=1e-12)


def test_unequal_sets_are_thinned_and_the_generator_decides_how():
    real, fake = clusters([0.3, 0.7], n=600), clusters([0.5, 0.5], n=200, seed=1)

    def score(seed):
        generator = torch.Generator().manual_seed(seed)
        return precision_recall_curve(real=real, fake=fake, clusters=2, runs=2, generator=generator).score(8)

    one = score(1)
    assert one == score(1)
    assert one.value != score(2).value
    assert (one.n_real, one.n_fake) == (200, 200)
    assert one.protocol == "prd F8[features, clusters=2, runs=2, n=200]"


def test_monotone_in_noise_and_in_dropped_classes_beyond_64_dimensions():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(500) % 10
    centres = torch.randn(10, 100, generator=generator)
    draw = lambda: centres[labels] + 0.1 * torch.randn(500, 100, generator=generator)  # noqa: E731
    real, fake = draw(), draw()
    kept = [fake[labels < k] for k in (10, 7, 4)]
    recalls = [precision_recall_curve(real=real, fake=f, runs=3).f_beta(8) for f in kept]
    assert recalls == sorted(recalls, reverse=True)
    assert recalls[0] > 0.9
    assert recalls[2] < 0.6
    noisy = [fake + s * torch.randn(500, 100, generator=generator) for s in (0.0, 0.3, 2.0)]
    precisions = [precision_recall_curve(real=real, fake=f, runs=3).f_beta(1 / 8) for f in noisy]
    assert precisions == sorted(precisions, reverse=True)


@pytest.mark.parametrize(("shares", "longest"), [([0.2, 0.3, 0.5], 1.25), ([0.5, 0.3, 0.2], 1.6)])
def test_the_error_bar_has_the_right_length(shares, longest):
    generator = torch.Generator().manual_seed(0)
    of_real, of_fake = clusters([0.5, 0.3, 0.2]), clusters(shares)
    scores = []
    for _ in range(60):
        real = of_real[torch.randint(400, (200,), generator=generator)]
        fake = of_fake[torch.randint(400, (200,), generator=generator)]
        curve = precision_recall_curve(
            real=real, fake=fake, clusters=3, angles=51, runs=1, generator=generator
        )
        scores.append(curve.score(8))
    deviation = torch.tensor([s.value for s in scores]).std().item()
    length = torch.tensor([s.error for s in scores]).square().mean().sqrt().item() / deviation
    assert 0.75 < length < longest


def test_fewer_examples_than_clusters_are_refused():
    with pytest.raises(DataError, match="real: found 10 examples, wanted at least 20"):
        precision_recall_curve(real=torch.rand(10, 3), fake=torch.rand(30, 3))
