"""Mixtures of Gaussians: densities against scikit-learn's, bounds for images, moments of samples, k-means."""

import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture as Reference

import bestiary
from bestiary.data.specs import ImageSpec, PointSpec
from bestiary.data.splits import ArraySplit
from bestiary.errors import DataError, OptionError
from bestiary.models.baseline.gaussian_mixture import GaussianMixture
from bestiary.testing import check_model
from bestiary.testing.check_model import random_data

COVARIANCES = ("diagonal", "full", "spherical")
IMAGES = ImageSpec(1, 3, 3, levels=4)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def points(n=600, dim=3, seed=0):
    """Three clouds of different shapes."""
    x = torch.randn(n, dim, generator=generator(seed))
    which = torch.arange(n) % 3
    x = x * torch.tensor([0.3, 1.0, 0.6])[which, None]
    x[:, 0] += 0.8 * x[:, 1] + 4 * which
    return ArraySplit(x, levels=None)


def fitted(covariance, split, spec, components=3):
    model = GaussianMixture(spec, components=components, covariance=covariance)
    model.fit(split, generator=generator())
    return model


def reference(model):
    """Scikit-learn's mixture of the same parameters."""
    scales = model.scales.numpy()
    kind = {"diagonal": "diag"}.get(model.covariance, model.covariance)
    found = Reference(len(scales), covariance_type=kind)
    found.weights_, found.means_ = model.weights.numpy(), model.means.numpy()
    if model.covariance == "full":
        found.precisions_cholesky_ = np.linalg.inv(scales).transpose(0, 2, 1)
    else:
        found.precisions_cholesky_ = 1 / (scales[:, 0] if model.covariance == "spherical" else scales)
    return found


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_density_equals_an_independent_library(covariance):
    split = points()
    model = fitted(covariance, split, PointSpec(3))
    x = split[:].x.double()
    expected = reference(model).score_samples(x.numpy())
    assert model.elbo(x).numpy() == pytest.approx(expected, abs=1e-8)
    assert torch.equal(model.log_density(x), model.elbo(x))
    assert torch.equal(model.log_prob_bound(x, particles=3), model.elbo(x))
    assert (model.treatment, model.elbo(x.float()).dtype) == ("density", torch.float32)
    images = fitted(covariance, random_data(IMAGES).train, IMAGES, components=2)
    y = torch.rand(20, *IMAGES.shape, generator=generator(), dtype=torch.float64)
    expected = reference(images).score_samples(y.flatten(1).numpy())
    assert images.log_density(y).numpy() == pytest.approx(expected, abs=1e-8)


def test_fit_finds_the_law_of_the_data():
    data = bestiary.load_data("ring", size=8000)
    model = fitted("spherical", data.train, data.spec, components=8)
    n = len(data.train)
    assert model.weights.tolist() == pytest.approx([1 / 8] * 8, abs=4 * math.sqrt(1 / 8 * 7 / 8 / n))
    assert model.scales.flatten().tolist() == pytest.approx([0.02] * 8, rel=4 / math.sqrt(4 * n / 8))
    negentropy = -math.log(8) - math.log(2 * math.pi * 0.02**2) - 1
    assert model.elbo(data.test[:].x).mean().item() == pytest.approx(negentropy, abs=0.05)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_samples_have_the_moments_of_the_mixture(covariance):
    model = fitted(covariance, points(), PointSpec(3))
    x = model.sample(40_000, generator=generator(1)).double()
    roots = model.scales if covariance == "full" else torch.diag_embed(model.scales.expand(3, 3))
    mean = model.weights @ model.means
    within = torch.einsum("k,kij,klj->il", model.weights, roots, roots)
    apart = model.means - mean
    covariances = within + torch.einsum("k,ki,kj->ij", model.weights, apart, apart)
    error = covariances.diag().sqrt() / math.sqrt(len(x))
    assert ((x.mean(dim=0) - mean).abs() < 4 * error).all()
    assert torch.allclose(x.T.cov(), covariances, rtol=0.03, atol=0.03)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_bounds_of_images(covariance):
    data = random_data(IMAGES)
    model = fitted(covariance, data.train, IMAGES)  # of components that overlap
    x = data.test[:10].x.double()
    one = torch.stack([model.log_prob_bound(x, particles=1, generator=generator(s)) for s in range(300)])
    error = one.std(dim=0) / math.sqrt(len(one))
    assert (model.elbo(x) < one.mean(dim=0) + 4 * error).all()  # below the expectation over u
    many = model.log_prob_bound(x, particles=2000, generator=generator())
    assert (one.mean(dim=0) < many + 4 * error).all()
    assert model.treatment == "dequantised"


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_bound_is_tight_where_components_are_apart(covariance):
    dark_or_light = torch.randint(0, 4, (90, 1, 3, 3), generator=generator())
    dark_or_light[::3] += 12
    split = ArraySplit(dark_or_light.to(torch.uint8), levels=16)
    model = fitted(covariance, split, ImageSpec(1, 3, 3, levels=16), components=2)
    assert sorted(model.weights.tolist()) == pytest.approx([1 / 3, 2 / 3])
    x = split[:10].x.double()
    one = torch.stack([model.log_prob_bound(x, particles=1, generator=generator(s)) for s in range(500)])
    error = one.std(dim=0) / math.sqrt(len(one))
    assert ((model.elbo(x) - one.mean(dim=0)).abs() < 4 * error).all()


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_one_component_has_its_expectation_exactly(covariance):
    data = random_data(IMAGES)
    model = fitted(covariance, data.train, IMAGES, components=1)
    middle = (data.train[:].x.flatten(1).double() * 3 + 0.5) / 4
    spread = middle.T.cov(correction=0) + torch.eye(9) / (12 * 16)
    if covariance != "full":
        spread = spread.diag().diag() if covariance == "diagonal" else (spread.trace() / 9).expand(9).diag()
    x = data.test[:20].x
    offset = (x.flatten(1).double() * 3 + 0.5) / 4 - middle.mean(dim=0)
    precision = torch.linalg.inv(spread)
    exact = -0.5 * (
        torch.einsum("bi,ij,bj->b", offset, precision, offset)
        + precision.trace() / (12 * 16)
        + torch.logdet(2 * math.pi * spread)
    )
    assert model.elbo(x.double()).numpy() == pytest.approx((exact - 9 * math.log(4)).numpy(), rel=1e-8)


def test_masses_of_all_tiny_images_sum_to_less_than_one():
    spec = ImageSpec(1, 2, 2, levels=2)
    images = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4))).view(-1, 1, 2, 2)
    split = ArraySplit(images[[0, 3, 3, 5, 12, 15, 15, 15]].to(torch.uint8), levels=2)
    model = fitted("full", split, spec, components=2)
    assert 0.3 < model.elbo(images.double()).exp().sum() < 1
    assert 0.3 < model.log_prob_bound(images.double(), particles=500, generator=generator()).exp().sum() < 1


def test_no_component_collapses_onto_an_image():
    data = random_data(IMAGES, n=12)
    model = fitted("diagonal", data.train, IMAGES, components=12)
    assert model.scales.square().min().item() == pytest.approx(1 / (12 * 16))
    assert model.elbo(data.test[:].x).isfinite().all()


def test_many_spherical_components_are_k_means():
    centres = 6 * torch.tensor(list(itertools.product([0.0, 1.0], repeat=4)))
    x = centres.repeat(20, 1) + 0.3 * torch.randn(320, 4, generator=generator())
    model = fitted("spherical", ArraySplit(x, levels=None), PointSpec(4), components=16)
    clusters = KMeans(16, n_init=20, random_state=0).fit(x.double().numpy())
    found, wanted = model.means, torch.from_numpy(clusters.cluster_centers_)
    nearest = torch.cdist(wanted, found).min(dim=1)
    assert nearest.indices.unique().numel() == 16
    assert nearest.values.max() < 1e-5
    assert clusters.inertia_ / x.numel() == pytest.approx(
        (model.weights @ model.scales.square()).item(), rel=1e-4
    )


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_save_and_load(covariance, tmp_path):
    data = random_data(IMAGES)
    model = bestiary.create("gaussian-mixture", spec=IMAGES, components=3, covariance=covariance)
    bestiary.train(model, data, budget="1 rounds", out=tmp_path / "run", seed=0)
    loaded = bestiary.load(tmp_path / "run")
    assert loaded.settings == model.settings
    assert torch.equal(loaded.elbo(data.test[:].x), model.elbo(data.test[:].x))
    assert torch.equal(loaded.sample(3, generator=generator()), model.sample(3, generator=generator()))


def test_points_are_held_to_the_contract():
    check_model(GaussianMixture, PointSpec(3))


def test_parameters_are_counted():
    count = {
        c: GaussianMixture(PointSpec(3), components=4, covariance=c).parameter_count for c in COVARIANCES
    }
    assert count == {"diagonal": 3 + 4 * 6, "full": 3 + 4 * 9, "spherical": 3 + 4 * 4}


def test_fit_is_on_so_many_examples():
    split = points()
    model = GaussianMixture(PointSpec(3), components=1, examples=50)
    model.fit(split, generator=generator())
    chosen = torch.randperm(600, generator=generator())[:50]
    assert torch.allclose(model.means[0], split[chosen].x.double().mean(dim=0))


def test_mistakes_in_one_line():
    split = points(n=20)
    with pytest.raises(
        DataError, match="found 20 training examples, wanted at least 21 to fit 21 components"
    ):
        fitted("full", split, PointSpec(3), components=21)
    still = ArraySplit(torch.ones(9, 2), levels=None)
    with pytest.raises(DataError, match="found points that are all the same"):
        fitted("full", still, PointSpec(2), components=1)
    with pytest.raises(
        OptionError, match="unknown covariance of GaussianMixture 'tied': wanted one of: diagonal, full"
    ):
        GaussianMixture(PointSpec(2), covariance="tied")
    model = GaussianMixture(PointSpec(3), components=3, iterations=1)
    with pytest.warns(UserWarning, match="had not converged after 1 iterations; iterations= allows more"):
        model.fit(points(), generator=generator())
