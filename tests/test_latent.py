"""Observation models, bounds, the VAE and probabilistic PCA against exact values and scikit-learn."""

import math

import numpy as np
import pytest
import torch
from scipy.special import expit
from sklearn.decomposition import PCA

from bestiary.catalogue import create
from bestiary.data.specs import ImageSpec, PointSpec
from bestiary.data.splits import ArraySplit
from bestiary.distributions.gaussian import gaussian_kl, gaussian_log_prob
from bestiary.distributions.observation import Bernoulli, DiscretisedLogistic, Gaussian, observation
from bestiary.errors import OptionError
from bestiary.objectives.bounds import importance_weighted_bound

LEVELS = 256


def all_levels(levels=LEVELS):
    return torch.arange(levels, dtype=torch.float64)[:, None] / (levels - 1)


@pytest.mark.parametrize("levels", [2, 4, 17, 256])
def test_discretised_logistic_sums_to_one_at_every_scale(levels):
    logistic = DiscretisedLogistic(levels)
    for log_scale in (-7.6, -5.0, -2.0, 0.0, 3.0):
        for location in (-20.0, -1.0, 0.3, 4.0, 20.0):
            raw = torch.tensor([[location, log_scale]]).expand(levels, 2)
            exact = logistic.log_prob(raw.double(), all_levels(levels)).exp().sum()
            assert float(exact) == pytest.approx(1, abs=1e-9), (log_scale, location)
            # at the smallest scale, float32 knows (x − μ)/s to 1e-4 only
            single = logistic.log_prob(raw, all_levels(levels).float()).double().exp().sum()
            assert float(single) == pytest.approx(1, abs=1e-4), (log_scale, location)


def test_discretised_logistic_equals_differences_of_the_cdf():
    generator = torch.Generator().manual_seed(0)
    raw = torch.stack([torch.randn(500, generator=generator), -5 * torch.rand(500, generator=generator)], 1)
    k = torch.randint(0, LEVELS, (500,), generator=generator)
    found = DiscretisedLogistic(LEVELS).log_prob(raw, (k.float() / 255)[:, None]).numpy()
    mu, s = expit(raw[:, 0].double().numpy()), np.exp(raw[:, 1].double().numpy())
    upper = np.where(k == 255, 1.0, expit(((k.numpy() + 0.5) / 255 - mu) / s))
    lower = np.where(k == 0, 0.0, expit(((k.numpy() - 0.5) / 255 - mu) / s))
    mass = upper - lower
    likely = mass > 1e-5
    assert likely.sum() > 200
    np.testing.assert_allclose(found[likely], np.log(mass[likely]), atol=1e-4)


def test_discretised_logistic_is_finite_with_finite_gradients_everywhere():
    raw = torch.tensor(
        [[m, s] for m in (-50.0, 0.0, 50.0) for s in (-100.0, -7.0, 0.0, 100.0)], requires_grad=True
    )
    for value in (0.0, 0.5, 1.0):
        log_prob = DiscretisedLogistic(LEVELS).log_prob(raw, torch.full((len(raw), 1), value))
        assert log_prob.isfinite().all()
        (gradient,) = torch.autograd.grad(log_prob.sum(), raw)
        assert gradient.isfinite().all()


@pytest.mark.parametrize("kind", [DiscretisedLogistic(4), Bernoulli(2)])
def test_draws_follow_the_masses(kind):
    levels = 4 if isinstance(kind, DiscretisedLogistic) else 2
    raw = torch.tensor([[0.4, -1.5][: kind.outputs]])
    n = 40_000
    draws = kind.draw(raw.expand(n, -1), torch.Generator().manual_seed(1))
    masses = kind.log_prob(raw.expand(levels, -1), all_levels(levels).float()).exp()
    counts = torch.bincount((draws[:, 0] * (levels - 1)).round().long(), minlength=levels)
    expected = masses * n
    chi2 = float(((counts - expected).square() / expected).sum())
    assert chi2 < 16.3  # 0.999 quantile at 3 degrees of freedom


@pytest.mark.parametrize("levels", [2, 4, 256])
def test_a_gaussian_shows_images_on_the_scale_of_the_data(levels):
    """Its law is that of (k + ½)/L: where the mean is the middle of level k, what is shown is x = k/(L−1)."""
    k = torch.arange(levels, dtype=torch.float64)
    raw = torch.logit((k + 0.5) / levels)[:, None]
    gaussian = Gaussian(levels, sigma=1e-4)
    x = k[:, None] / (levels - 1)
    torch.testing.assert_close(gaussian.mean(raw), x)
    assert (gaussian.draw(raw, torch.Generator().manual_seed(0)) - x).abs().max() < 1e-3
    dense = gaussian.log_prob(raw, x) + math.log(levels) + 0.5 * math.log(2 * math.pi)
    expected = -math.log(1e-4) - 0.5 / (12 * levels**2 * 1e-8)  # the deviation asked for, however small
    assert dense.tolist() == pytest.approx([expected] * levels)


def test_gaussian_on_images_is_the_expected_dequantised_bound():
    gaussian, raw = Gaussian(LEVELS), torch.tensor([[0.2, -1.0]])
    x = torch.tensor([[100 / 255]])
    u = torch.rand(400_000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mu, sigma = torch.sigmoid(raw[0, 0]).double(), raw[0, 1].double().exp()
    draws = torch.distributions.Normal(mu, sigma).log_prob((100 + u) / 256) - math.log(256)
    assert float(gaussian.log_prob(raw, x)) == pytest.approx(float(draws.mean()), abs=1e-5)


def test_treatments_are_named_and_the_default_has_a_meaning():
    grey, binary = ImageSpec(1, 8, 8), ImageSpec(1, 8, 8, levels=2)
    assert observation("auto", grey).treatment == "mass"
    assert isinstance(observation("auto", grey), DiscretisedLogistic)
    assert observation("auto", binary).treatment == "mass"
    assert observation("bernoulli", grey).treatment == "grey Bernoulli"
    assert observation("gaussian", grey).treatment == "dequantised"
    assert observation("auto", PointSpec(2)).treatment == "density"
    with pytest.raises(OptionError, match="likelihood: found 'bernoulli', but the data are points"):
        observation("bernoulli", PointSpec(2))


def test_gaussian_kl_matches_monte_carlo():
    generator = torch.Generator().manual_seed(0)
    mu, log_sigma = torch.tensor([[0.5, -1.0, 2.0]]).double(), torch.tensor([[-0.5, 0.2, -2.0]]).double()
    z = mu + log_sigma.exp() * torch.randn(200_000, 3, generator=generator, dtype=torch.float64)
    differences = gaussian_log_prob(z, mu, log_sigma) - gaussian_log_prob(z)
    error = float(differences.std()) / math.sqrt(len(z))
    assert float(gaussian_kl(mu, log_sigma)) == pytest.approx(float(differences.mean()), abs=4 * error)


class TestLinearGaussian:
    """z ~ N(0, I), x = Wz + b + σε: log p(x) and the posterior are known."""

    W = torch.tensor([[1.0, 0.5], [0.2, -1.0], [0.3, 0.7]]).double()
    b, sigma = torch.tensor([0.1, -0.2, 0.3]).double(), 0.4

    def exact(self, x):
        covariance = self.W @ self.W.T + self.sigma**2 * torch.eye(3, dtype=torch.float64)
        return torch.distributions.MultivariateNormal(self.b, covariance).log_prob(x)

    def posterior(self, x):
        precision = torch.eye(2, dtype=torch.float64) + self.W.T @ self.W / self.sigma**2
        return (x - self.b) @ self.W @ torch.linalg.inv(precision).T / self.sigma**2, torch.linalg.inv(
            precision
        )

    def model(self):
        """A VAE with this very decoder, and the best factorised encoder."""
        vae = create("vae", spec=PointSpec(3), hidden=[], latent_dim=2).double()
        decoder, encoder = vae.decoder[1], vae.encoder[1]
        _, covariance = self.posterior(torch.zeros(1, 3).double())
        with torch.no_grad():
            decoder.weight.copy_(torch.cat([self.W, torch.zeros(3, 2)]))
            decoder.bias.copy_(torch.cat([self.b, torch.full((3,), math.log(self.sigma))]))
            gain = covariance @ self.W.T / self.sigma**2
            encoder.weight.copy_(torch.cat([gain, torch.zeros(2, 3)]))
            # the best factorised q has the inverse diagonal of the posterior precision as its variance
            variance = 1 / torch.linalg.inv(covariance).diagonal()
            encoder.bias.copy_(torch.cat([-gain @ self.b, 0.5 * variance.log()]))
        return vae

    def test_bounds_lie_below_the_exact_value_and_rise_to_it(self):
        x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0)).double()
        vae, exact = self.model(), self.exact(x).mean()
        generator = torch.Generator().manual_seed(1)
        elbo = torch.stack([vae.elbo(x, generator=generator) for _ in range(50)]).mean()
        bounds = [
            float(vae.log_prob_bound(x, particles=p, generator=generator).double().mean())
            for p in (1, 10, 1000)
        ]
        assert float(elbo) == pytest.approx(bounds[0], abs=0.1)
        assert float(elbo) < exact - 1e-3
        assert bounds[0] < bounds[1] < bounds[2] <= float(exact) + 1e-3
        assert bounds[2] == pytest.approx(float(exact), abs=5e-3)

    def test_elbo_is_the_exact_value_less_the_divergence_to_the_posterior(self):
        x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)).double()
        vae = self.model()
        with torch.no_grad():
            q = vae.posterior(x)
        mean, covariance = self.posterior(x)
        q = torch.distributions.MultivariateNormal(
            q.mean.double(), torch.diag_embed((2 * q.log_sigma).exp().double())
        )
        p = torch.distributions.MultivariateNormal(mean, covariance.expand(50, 2, 2))
        divergence = torch.distributions.kl_divergence(q, p).mean()
        generator = torch.Generator().manual_seed(1)
        elbo = torch.stack([vae.elbo(x, generator=generator) for _ in range(4000)]).mean()
        assert float(elbo) == pytest.approx(float(self.exact(x).mean() - divergence), abs=5e-3)


def test_importance_weighted_bound_of_one_and_of_constant_weights():
    weights = torch.tensor([[-1.0, -2.0]])
    assert torch.equal(importance_weighted_bound(weights), weights[0])
    torch.testing.assert_close(importance_weighted_bound(weights.expand(7, 2)), weights[0])


@pytest.fixture(scope="module")
def digits():
    generator = np.random.default_rng(0)
    basis = generator.normal(size=(3, 16))
    x = generator.normal(size=(2000, 3)) * [3, 2, 1] @ basis + 0.3 * generator.normal(size=(2000, 16))
    return x.astype(np.float32)


def test_ppca_equals_scikit_learn(digits):
    model = create("ppca", spec=PointSpec(16), latent_dim=3)
    model.fit(ArraySplit(torch.from_numpy(digits), levels=None))
    oracle = PCA(3, svd_solver="full").fit(digits.astype(np.float64))
    # scikit-learn divides the covariance by n − 1, the maximum of the likelihood by n
    assert float(model.noise) * 2000 / 1999 == pytest.approx(oracle.noise_variance_, rel=1e-6)
    ours = model.log_density(torch.from_numpy(digits[:50])).numpy()
    np.testing.assert_allclose(ours, oracle.score_samples(digits[:50].astype(np.float64)), rtol=2e-3)
    scores = oracle.transform(digits[:50].astype(np.float64))
    shrunk = scores * np.sqrt(np.maximum(oracle.explained_variance_ - oracle.noise_variance_, 0))
    ours = model.encode(torch.from_numpy(digits[:50])).numpy()
    np.testing.assert_allclose(
        np.abs(ours), np.abs(shrunk / oracle.explained_variance_), rtol=2e-3, atol=2e-3
    )


def test_ppca_samples_have_the_fitted_covariance(digits):
    model = create("ppca", spec=PointSpec(16), latent_dim=3)
    model.fit(ArraySplit(torch.from_numpy(digits), levels=None))
    sample = model.sample(50_000, generator=torch.Generator().manual_seed(0)).double()
    scales = model.components * (model.eigenvalues - model.noise).sqrt()
    covariance = scales @ scales.T + model.noise * torch.eye(16)
    torch.testing.assert_close(torch.cov(sample.T), covariance, atol=0.4, rtol=0.03)
    assert torch.cov(sample.T).trace() == pytest.approx(float(covariance.trace()), rel=0.02)


def test_ppca_on_images_is_a_bound_that_tightens_and_dequantises_right():
    spec = ImageSpec(1, 4, 4, levels=8)
    generator = torch.Generator().manual_seed(0)
    k = torch.randint(0, 8, (500, 1, 4, 4), generator=generator).to(torch.uint8)
    model = create("ppca", spec=spec, latent_dim=2)
    model.fit(ArraySplit(k, levels=8))
    x = k[:100].float() / 7
    elbo = model.elbo(x)
    corner = k[:100].double().flatten(1)
    u = torch.rand(2000, 100, 16, generator=generator, dtype=torch.float64)
    by_hand = model.log_density(((corner + u) / 8).flatten(0, 1)).view(2000, 100).mean(0) - 16 * math.log(8)
    torch.testing.assert_close(elbo.double(), by_hand, atol=0.05, rtol=0)
    bound = model.log_prob_bound(x, particles=50, generator=generator)
    assert float(bound.mean()) > float(elbo.mean())
    # uniform noise images cost log2(8) = 3 bits a pixel, and no density can do better on fresh ones
    assert float(-elbo.mean()) / 16 / math.log(2) > 2.9


def test_ppca_refuses_what_cannot_be():
    with pytest.raises(OptionError, match="latent_dim: found 16, wanted at most 15"):
        create("ppca", spec=PointSpec(16), latent_dim=16)
