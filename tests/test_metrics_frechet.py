"""The Fréchet distance: closed forms, singular covariances, streaming, its error bar, and its oracle."""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from bestiary.errors import DataError, OptionError
from bestiary.metrics import FeatureStatistics, frechet_distance


def normal(n, d, seed=0, scale=1.0, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(n, d, generator=generator, dtype=torch.float64) + shift


def with_moments(n, mean, root, seed=0):
    """Features whose sample mean and covariance rootᵀ root are exactly the given ones."""
    z = normal(n, len(mean), seed)
    z = z - z.mean(dim=0)
    white = z @ torch.linalg.inv(torch.linalg.cholesky(z.T @ z / (n - 1))).T
    return white @ root + mean


def by_definition(x, y):
    """‖μ₁ − μ₂‖² + Tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½) through the symmetric root of Σ₁, in NumPy."""
    x, y = x.numpy(), y.numpy()
    a, b = np.cov(x.T), np.cov(y.T)
    values, vectors = np.linalg.eigh(a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ b @ root).clip(1e-12 * np.trace(a @ b), None))
    floor = np.sqrt(1e-12 * np.trace(a @ b))
    trace = np.trace(a) + np.trace(b) - 2 * cross[cross > floor].sum()
    return ((x.mean(0) - y.mean(0)) ** 2).sum() + trace


def test_closed_form_of_commuting_gaussians():
    mean = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    a = torch.tensor([1.0, 4.0, 0.25], dtype=torch.float64)
    b = torch.tensor([9.0, 1.0, 1e-12], dtype=torch.float64)
    rotation = torch.linalg.qr(normal(3, 3, seed=5)).Q
    real = with_moments(50, torch.zeros(3, dtype=torch.float64), a.sqrt().diag() @ rotation)
    fake = with_moments(70, mean @ rotation, b.sqrt().diag() @ rotation, seed=1)
    expected = 1 + 4 + 0.25 + (1 - 3) ** 2 + (2 - 1) ** 2 + (0.5 - 1e-6) ** 2
    score = frechet_distance(real=real, fake=fake)
    assert score.value == pytest.approx(expected, rel=1e-9)
    assert (score.n_real, score.n_fake) == (50, 70)
    assert score.protocol == "frechet[features, n_real=50, n_fake=70]"


@pytest.mark.parametrize(("n", "m"), [(300, 300), (300, 20), (20, 300), (25, 20)])
def test_equals_the_definition_with_more_and_with_fewer_examples_than_dimensions(n, m):
    real, fake = normal(n, 40), normal(m, 40, seed=1, scale=1.3, shift=0.2)
    assert frechet_distance(real=real, fake=fake).value == pytest.approx(by_definition(real, fake), rel=1e-9)


def test_equals_the_matrix_square_root():
    real, fake = normal(500, 30), normal(400, 30, seed=1, scale=0.7, shift=0.1)
    a, b = real.T.cov().numpy(), fake.T.cov().numpy()
    shift = (real.mean(0) - fake.mean(0)).square().sum().item()
    expected = shift + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert frechet_distance(real=real, fake=fake).value == pytest.approx(expected, rel=1e-10)


def test_equals_an_independent_library():
    fid = pytest.importorskip("torchmetrics.image.fid")
    real, fake = normal(500, 30), normal(400, 30, seed=1, scale=0.7, shift=0.1)
    expected = fid._compute_fid(real.mean(0), real.T.cov(), fake.mean(0), fake.T.cov()).item()
    assert frechet_distance(real=real, fake=fake).value == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.3, 1.2)])
def test_extrapolation_takes_the_bias_of_finite_samples_away(shift, scale):
    truth = 8 * (shift**2 + (scale - 1) ** 2)
    plain, extrapolated = [], []
    for i in range(60):
        pair = {"real": normal(200, 8, 2 * i), "fake": normal(150, 8, 2 * i + 1, scale, shift)}
        plain.append(frechet_distance(**pair).value)
        extrapolated.append(frechet_distance(**pair, extrapolate=True))
    values = torch.tensor([s.value for s in extrapolated])
    deviation, of_mean = values.std().item(), values.std().item() / math.sqrt(60)
    assert sum(plain) / 60 - truth > 5 * of_mean
    assert abs(values.mean().item() - truth) < 3 * of_mean
    errors = torch.tensor([s.error for s in extrapolated])
    assert errors.square().mean().sqrt().item() == pytest.approx(deviation, rel=0.3)


def test_extrapolation_is_seeded_named_and_needs_examples():
    real, fake = normal(41, 3), normal(30, 3, seed=1)

    def score(seed):
        generator = torch.Generator().manual_seed(seed)
        return frechet_distance(real=real, fake=fake, extrapolate=True, generator=generator)

    assert score(1) == score(1)
    assert score(1).value != score(2).value
    assert score(1).protocol == "frechet-extrapolated[features, n_real=41, n_fake=30]"
    with pytest.raises(DataError, match="fake: found 3 examples, wanted at least 4"):
        frechet_distance(real=real, fake=fake[:3], extrapolate=True)
    with pytest.raises(OptionError, match="extrapolate: found statistics, wanted features"):
        frechet_distance(real=FeatureStatistics().update(real), fake=fake, extrapolate=True)


def test_dead_and_duplicated_features_are_exact():
    real, fake = normal(200, 12), normal(200, 12, seed=1, scale=1.5)
    live = frechet_distance(real=real, fake=fake)
    dead = torch.zeros(200, 4, dtype=torch.float64)
    padded = frechet_distance(real=torch.cat([real, dead], 1), fake=torch.cat([fake, dead], 1))
    assert padded.value == pytest.approx(live.value, rel=1e-9)
    assert padded.error == pytest.approx(live.error, rel=1e-6)
    doubled = frechet_distance(real=torch.cat([real, real], 1), fake=torch.cat([fake, fake], 1))
    assert doubled.value == pytest.approx(2 * live.value, rel=1e-9)
    constant = frechet_distance(real=dead, fake=dead + 1)
    assert constant.value == pytest.approx(4.0)
    assert frechet_distance(real=dead, fake=fake[:, :4]).value == pytest.approx(
        (fake[:, :4].mean(0).square().sum() + fake[:, :4].var(dim=0).sum()).item()
    )


@pytest.mark.parametrize("n", [30, 400])
def test_small_eigenvalues_are_not_lost(n):
    real = normal(n, 100) * torch.logspace(0, -9, 100, dtype=torch.float64)
    trace = real.var(dim=0).sum().item()
    assert abs(frechet_distance(real=real, fake=real).value) < 1e-12 * trace


def test_symmetric_and_monotone_in_noise():
    real, noise = normal(400, 20), normal(400, 20, seed=1)
    values = [frechet_distance(real=real, fake=real + s * noise).value for s in (0.0, 0.1, 0.3, 1.0)]
    assert values == sorted(values)
    assert abs(values[0]) < 1e-12
    other = real + noise
    there, back = frechet_distance(real=real, fake=other), frechet_distance(real=other, fake=real)
    thinned = frechet_distance(real=real, fake=other[:300])
    assert (thinned.n_real, thinned.n_fake) == (400, 300)
    assert there.value == pytest.approx(back.value, rel=1e-12)
    assert there.error == pytest.approx(back.error, rel=1e-9)


def test_float32_features_are_computed_in_float64():
    real, fake = normal(300, 10, shift=1000.0).float(), normal(300, 10, seed=1, shift=1000.0).float()
    expected = frechet_distance(real=real.double(), fake=fake.double()).value
    assert frechet_distance(real=real, fake=fake.numpy()).value == pytest.approx(expected, rel=1e-12)


def test_streamed_statistics_give_the_same():
    real, fake = normal(300, 10, shift=100.0), normal(500, 10, seed=1, scale=2.0)
    streamed = FeatureStatistics()
    for part in fake.split([1, 99, 250, 150]):
        streamed.update(part)
    merged = (
        FeatureStatistics()
        .update(real[:7])
        .merge(FeatureStatistics())
        .merge(FeatureStatistics().update(real[7:]))
    )
    torch.testing.assert_close(streamed.covariance, fake.T.cov(), rtol=1e-12, atol=1e-12)
    whole, parts = frechet_distance(real=real, fake=fake), frechet_distance(real=merged, fake=streamed)
    assert parts.value == pytest.approx(whole.value, rel=1e-12)
    assert parts.error is None
    assert (parts.n_real, parts.n_fake) == (300, 500)


@pytest.mark.parametrize(("scale", "shift"), [(1.3, 0.0), (1.0, 0.4)])
def test_the_error_bar_covers_at_its_stated_rate(scale, shift):
    scores = [
        frechet_distance(real=normal(200, 6, seed=2 * i), fake=normal(200, 6, 2 * i + 1, scale, shift))
        for i in range(200)
    ]
    values = torch.tensor([s.value for s in scores])
    errors = torch.tensor([s.error for s in scores])
    covered = ((values - values.mean()).abs() < errors).double().mean().item()
    # 68.3 % for a normal law; binomial deviation over 200 is 3.3 %
    assert 0.58 < covered < 0.80
    assert errors.mean() == pytest.approx(values.std().item(), rel=0.25)


def test_the_error_bar_agrees_with_a_delete_block_jackknife():
    real, fake = normal(400, 15), normal(400, 15, seed=1, scale=1.2, shift=0.1)
    variance = 0.0
    for which in ("real", "fake"):
        sets = {"real": real, "fake": fake}
        left_out = []
        for block in range(20):
            keep = torch.arange(400) % 20 != block
            left_out.append(frechet_distance(**(sets | {which: sets[which][keep]})).value)
        left_out = torch.tensor(left_out, dtype=torch.float64)
        variance += 19 / 20 * (left_out - left_out.mean()).square().sum().item()
    # a jackknife of 20 blocks has itself a relative error of 1/√(2·19) for each set
    assert frechet_distance(real=real, fake=fake).error == pytest.approx(math.sqrt(variance), rel=0.35)


@pytest.mark.parametrize(
    ("real", "fake", "message"),
    [
        (normal(5, 3), normal(5, 4), "fake: found 4 features an example, wanted 3 as in real"),
        (normal(1, 3), normal(5, 3), "real: found 1 examples, wanted at least 2"),
        (normal(5, 3), normal(5, 3) * math.nan, "fake: found NaN or infinite"),
        (normal(5, 3), normal(5, 3) * 1e200, r"fake: found features above 1e\+100"),
        (None, normal(5, 3), "real: found NoneType, wanted an array of numbers"),
        (normal(5, 3), "words", "fake: found 'words', wanted an array of numbers"),
        (normal(5, 3), normal(5, 3)[0], r"fake: found shape \(3,\), wanted \(n, d\)"),
        (normal(5, 3), FeatureStatistics(), "found 0 examples, wanted at least 2"),
    ],
)
def test_mistakes_are_told_in_one_line(real, fake, message):
    with pytest.raises(DataError, match=message):
        frechet_distance(real=real, fake=fake)


def test_arguments_are_keyword_only():
    with pytest.raises(TypeError):
        frechet_distance(normal(5, 2), normal(5, 2))


def test_statistics_refuse_another_width():
    with pytest.raises(DataError, match="found 4 an example, wanted 3 as before"):
        FeatureStatistics().update(normal(5, 3)).update(normal(5, 4))


def test_the_error_does_not_depend_on_the_order_of_classes():
    """Rows that come class by class in turn: a stride through them would see one class alone."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(10_000) % 10
    centres = 2 * torch.randn(10, 8, generator=generator)
    fake = centres[labels] + 0.3 * torch.randn(10_000, 8, generator=generator)
    real = 1.2 * torch.randn(10_000, 8, generator=generator)
    shuffled = fake[torch.randperm(10_000, generator=generator)]
    errors = [frechet_distance(real=real, fake=each).error for each in (fake, shuffled)]
    assert errors[0] == pytest.approx(errors[1], rel=0.15)
