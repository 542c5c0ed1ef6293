"""Likelihood estimators on decoders whose likelihood is known."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import expit
from sklearn.neighbors import KernelDensity
from torch.distributions import MultivariateNormal, kl_divergence

from bestiary.catalogue import create
from bestiary.data.specs import ImageSpec, PointSpec
from bestiary.distributions.gaussian import gaussian_kl, gaussian_log_prob
from bestiary.errors import DataError, OptionError
from bestiary.metrics import (
    LatentPrior,
    active_units,
    annealed_log_likelihood,
    bidirectional_bound,
    parzen_window,
    standard_normal,
)
from bestiary.metrics.annealed import sigmoid_schedule
from bestiary.metrics.parzen import PARZEN_NOTICE
from bestiary.objectives.bounds import importance_weighted_bound


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


class Linear:
    """z ~ N(0, I), x = Wz + b + σε: everything about it is known."""

    def __init__(self, latent_dim, dim, sigma):
        self.W = normal(dim, latent_dim) / math.sqrt(latent_dim)
        self.b, self.sigma = normal(dim, seed=1), sigma
        self.marginal = MultivariateNormal(self.b, self.W @ self.W.T + sigma**2 * torch.eye(dim).double())
        self.covariance = torch.linalg.inv(
            torch.eye(latent_dim, dtype=torch.float64) + self.W.T @ self.W / sigma**2
        )

    def log_likelihood(self, z, x):
        return gaussian_log_prob(x, z @ self.W.T + self.b, math.log(self.sigma))

    def simulate(self, z, generator):
        noise = torch.randn(len(z), len(self.b), generator=generator, dtype=torch.float64)
        return z @ self.W.T + self.b + self.sigma * noise

    def examples(self, n, seed=0):
        return self.simulate(normal(n, self.W.shape[1], seed=seed), seeded(seed + 1))

    def posterior(self, x):
        mean = (x - self.b) @ self.W @ self.covariance / self.sigma**2
        return MultivariateNormal(mean, self.covariance.expand(len(x), *self.covariance.shape))


def estimate(linear, x, **settings):
    prior = standard_normal(linear.W.shape[1])
    return annealed_log_likelihood(
        x, log_likelihood=linear.log_likelihood, prior=prior, treatment="density", **settings
    )


def gap(linear, n, **settings):
    return bidirectional_bound(
        n,
        simulate=linear.simulate,
        log_likelihood=linear.log_likelihood,
        prior=standard_normal(linear.W.shape[1]),
        treatment="density",
        **settings,
    )


def agrees(estimates, exact, within):
    """Whether the mean of estimates is the exact one, as far as can be known, and that is well enough."""
    off = estimates - exact
    error = float(off.std()) / math.sqrt(len(off))
    return abs(float(off.mean())) < min(within, 4 * error)


def test_the_schedule_is_the_published_one():
    betas = sigmoid_schedule(10)
    assert (float(betas[0]), float(betas[-1]), len(betas)) == (0.0, 1.0, 11)
    by_hand = (expit(4 * (2 * 3 / 10 - 1)) - expit(-4)) / (expit(4) - expit(-4))
    assert float(betas[3]) == pytest.approx(by_hand, rel=1e-12)
    assert (betas.diff() > 0).all()


def test_annealing_equals_the_exact_likelihood_of_a_linear_decoder():
    linear = Linear(4, 12, 0.5)
    x = linear.examples(64)
    found, exact = estimate(linear, x, temperatures=150), linear.marginal.log_prob(x)
    assert agrees(found.per_example, exact, within=0.05)
    assert (found.per_example - exact).abs().max() < 1
    assert found.value == pytest.approx(float(found.per_example.mean()))
    assert found.error == pytest.approx(float(exact.std()) / 8, rel=0.05)
    assert 0.55 < found.acceptance < 0.8
    assert 10 < found.effective_chains <= 16
    assert found.protocol == (
        "annealed-likelihood[density, 150 temperatures, 16 chains, HMC 10 leapfrog, n=64]"
    )


def test_annealing_equals_an_integral_where_the_posterior_is_no_gaussian():
    weights = torch.tensor([3.0, -2.0, 1.0, 4.0], dtype=torch.float64)
    x = torch.tensor([[1, 0, 1, 1], [1, 1, 0, 0], [0, 0, 0, 1]], dtype=torch.float64)

    def log_likelihood(z, x):
        return (x * (z * weights) - torch.nn.functional.softplus(z * weights)).sum(dim=1)

    def integral(row):
        def density(z):
            chance = expit(z * weights.numpy())
            return np.where(row == 1, chance, 1 - chance).prod() * math.exp(-z * z / 2)

        return math.log(quad(density, -10, 10)[0] / math.sqrt(2 * math.pi))

    settings = {"treatment": "log mass of 2 levels", "temperatures": 40, "chains": 400}
    found = annealed_log_likelihood(x, log_likelihood=log_likelihood, prior=standard_normal(1), **settings)
    exact = torch.tensor([integral(row) for row in x.numpy()])
    ratio = (found.log_weights - exact).exp()
    error = ratio.std(dim=0) / math.sqrt(400)
    assert error.max() < 0.05
    assert ((ratio.mean(dim=0) - 1).abs() < 4 * error).all()


def test_the_weights_are_unbiased_at_few_temperatures():
    # E w = p(x) holds at any number of temperatures, only if the moves leave each p_t alone
    linear = Linear(2, 5, 0.7)
    x = linear.examples(3)
    weights = estimate(linear, x, temperatures=8, chains=1000).log_weights
    ratio = (weights - linear.marginal.log_prob(x)).exp()
    assert ratio.std(dim=0).min() > 0.2  # or there would be nothing to see
    assert ((ratio.mean(dim=0) - 1).abs() < 4 * ratio.std(dim=0) / math.sqrt(1000)).all()


def test_both_sides_hold_the_exact_value_between_them_and_close_in_on_it():
    linear = Linear(3, 8, 0.6)
    gaps = []
    for temperatures in (3, 100):
        found = gap(linear, 40, temperatures=temperatures, generator=seeded(3))
        generator = seeded(3)  # what it simulates is drawn first
        exact = linear.marginal.log_prob(linear.simulate(standard_normal(3).draw(40, generator), generator))
        for side in (exact - found.lower, found.upper - exact):
            assert side.mean() > -2 * side.std() / math.sqrt(40)
        assert found.value == pytest.approx(float((found.upper - found.lower).mean()))
        gaps.append(found)
    assert gaps[0].value > 4 * gaps[0].error
    assert gaps[1].value < 0.1 < 1 < gaps[0].value
    assert gaps[1].protocol.startswith("bidirectional-gap[density, 100 temperatures")


def test_more_temperatures_lose_less():
    linear = Linear(4, 12, 0.4)
    x = linear.examples(30)
    values = [estimate(linear, x, temperatures=t).value for t in (2, 10, 50)]
    exact = float(linear.marginal.log_prob(x).mean())
    assert values[0] + 1 < values[1] < values[2] < exact + 0.1


def test_another_prior_is_another_likelihood():
    linear = Linear(2, 6, 0.5)
    wide = LatentPrior(
        draw=lambda n, generator: 2 + 3 * standard_normal(2).draw(n, generator),
        log_prob=lambda z: gaussian_log_prob(z, 2.0, math.log(3)),
    )
    x = linear.examples(40)
    found = annealed_log_likelihood(
        x, log_likelihood=linear.log_likelihood, prior=wide, treatment="density", temperatures=120
    )
    covariance = 9 * linear.W @ linear.W.T + linear.sigma**2 * torch.eye(6).double()
    exact = MultivariateNormal(linear.b + 2 * linear.W.sum(dim=1), covariance).log_prob(x)
    assert agrees(found.per_example, exact, within=0.1)


def test_the_same_seed_gives_the_same_bits_in_chunks_too():
    linear = Linear(2, 5, 0.5)
    x = linear.examples(5)
    first, again = (estimate(linear, x, temperatures=4, leapfrog=2, generator=seeded(1)) for _ in range(2))
    assert torch.equal(first.log_weights, again.log_weights)
    other = estimate(linear, x, temperatures=4, leapfrog=2, generator=seeded(2))
    assert not torch.equal(first.log_weights, other.log_weights)
    parts = estimate(linear, x, temperatures=4, leapfrog=2, chunk=3, generator=seeded(1))
    assert parts.log_weights.shape == first.log_weights.shape == (16, 5)
    assert parts.value == pytest.approx(first.value, abs=3)


def test_a_vae_is_three_lines_and_gets_no_gradients():
    vae = create("vae", spec=ImageSpec(1, 8, 8, levels=2), hidden=[20], latent_dim=3)
    x = torch.rand(4, 1, 8, 8, generator=seeded()).round()

    def log_likelihood(z, x):
        return vae.observation.log_prob(vae.decoder(z.float()), x)

    with torch.no_grad():  # as evaluation runs
        found = annealed_log_likelihood(
            x,
            log_likelihood=log_likelihood,
            prior=standard_normal(3),
            treatment="log mass of 2 levels",
            temperatures=40,
        )
    assert found.log_weights.dtype == torch.float64
    assert not found.log_weights.requires_grad
    assert all(p.grad is None for p in vae.parameters())
    bound = vae.log_prob_bound(x, particles=1000, generator=seeded()).double()
    torch.testing.assert_close(found.per_example, bound, atol=0.2, rtol=0)


def test_annealing_mistakes():
    linear = Linear(2, 5, 0.5)
    x = linear.examples(3)
    with pytest.raises(OptionError, match="temperatures: found 1, wanted at least 2"):
        estimate(linear, x, temperatures=1)
    with pytest.raises(OptionError, match="chains: found 0, wanted at least 1"):
        gap(linear, 3, chains=0)
    with pytest.raises(DataError, match="x: found no examples"):
        estimate(linear, x[:0])
    settings = {"prior": standard_normal(2), "treatment": "density"}
    with pytest.raises(DataError, match=r"log_likelihood: found shape \(48, 1\), wanted \(48,\)"):
        annealed_log_likelihood(x, log_likelihood=lambda z, x: z[:, :1] * x[:, :1], **settings)
    with pytest.raises(DataError, match="log_likelihood: found NaN or infinite nats"):
        annealed_log_likelihood(x, log_likelihood=lambda z, x: z.sum(1) * math.nan, **settings)


class TestBounds:
    """The bounds that every latent model shares, where the posterior is known."""

    linear = Linear(3, 8, 0.5)
    x = linear.examples(40)
    exact = linear.marginal.log_prob(x)

    def log_joint(self, z):
        return gaussian_log_prob(z) + self.linear.log_likelihood(z, self.x)

    def test_the_exact_posterior_gives_weights_without_variance(self):
        q = self.linear.posterior(self.x)
        z = q.loc + normal(7, 40, 3) @ torch.linalg.cholesky(self.linear.covariance).T
        weights = self.log_joint(z) - q.log_prob(z)
        assert weights.std(dim=0).max() < 1e-10
        torch.testing.assert_close(importance_weighted_bound(weights), self.exact)

    def test_the_bound_from_the_prior_rises_with_particles_and_stays_below(self):
        z = normal(20_000, 40, 3)
        weights = self.log_joint(z) - gaussian_log_prob(z)
        bounds = [
            float(importance_weighted_bound(weights.view(-1, p, 40).transpose(0, 1)).mean())
            for p in (1, 10, 100, 1000, 10_000)
        ]
        assert bounds == sorted(bounds)
        assert bounds[0] + 10 < bounds[-1] < float(self.exact.mean()) + 0.01

    def test_the_elbo_is_the_exact_value_less_the_divergence_to_the_posterior(self):
        mu = self.linear.posterior(self.x).loc + 0.1 * normal(40, 3, seed=5)
        log_sigma = -1.5 + 0.2 * normal(40, 3, seed=6)
        # these 2Z points have the mean and covariance of N(0, I): exact, as log p(x|z) is quadratic in z
        points = math.sqrt(3) * torch.cat([torch.eye(3), -torch.eye(3)]).double()[:, None]
        vae = create("vae", spec=PointSpec(8), hidden=[], latent_dim=3).double()
        decoder = vae.decoder[1]
        with torch.no_grad():
            decoder.weight.copy_(torch.cat([self.linear.W, torch.zeros(8, 3)]))
            decoder.bias.copy_(torch.cat([self.linear.b, torch.full((8,), math.log(self.linear.sigma))]))
            z = (mu + log_sigma.exp() * points).flatten(0, 1)
            log_prob = vae.observation.log_prob(vae.decoder(z), self.x.repeat(6, 1))
        elbo = log_prob.view(6, 40).mean(dim=0) - gaussian_kl(mu, log_sigma)
        q = MultivariateNormal(mu, torch.diag_embed((2 * log_sigma).exp()))
        wanted = self.exact - kl_divergence(q, self.linear.posterior(self.x))
        torch.testing.assert_close(elbo, wanted, atol=1e-4, rtol=0)


def test_active_units_are_those_whose_means_vary():
    means = normal(5000, 4) * torch.tensor([1.0, 0.12, 0.08, 0.0]).double() + 3
    found = active_units(means=means)
    assert (found.value, found.error, found.n_real) == (2.0, None, 5000)
    np.testing.assert_allclose(found.variances, means.numpy().var(axis=0, ddof=1), rtol=1e-12)
    assert active_units(means=means, threshold=0.5).value == 1
    assert found.protocol == "active-units[variance>0.01, of 4, n=5000]"
    with pytest.raises(OptionError, match="threshold: found -1, wanted a number ≥ 0"):
        active_units(means=means, threshold=-1)


def test_parzen_window_equals_an_independent_library():
    real, fake, validation = normal(70, 6), normal(90, 6, seed=1) + 0.3, normal(50, 6, seed=2)
    with pytest.warns(UserWarning, match="by hundreds of nats") as told:
        found = parzen_window(real=real, fake=fake, validation=validation, chunk=32)
    assert str(told[0].message) == PARZEN_NOTICE
    assert told[0].filename == __file__
    sigmas = np.logspace(-1, 0, 10)
    oracles = [KernelDensity(bandwidth=s).fit(fake.numpy()) for s in sigmas]
    best = int(np.argmax([o.score(validation.numpy()) for o in oracles]))
    log_density = oracles[best].score_samples(real.numpy())
    assert found.sigma == sigmas[best]
    assert found.value == pytest.approx(log_density.mean(), rel=1e-9)
    assert found.error == pytest.approx(log_density.std(ddof=1) / math.sqrt(70), rel=1e-9)
    assert (found.n_real, found.n_fake) == (70, 90)
    with pytest.warns(UserWarning, match="Theis"):
        swapped = parzen_window(real=fake, fake=real, validation=validation)
    assert swapped.value != pytest.approx(found.value, rel=1e-3)


@pytest.mark.filterwarnings("ignore:a Parzen window")
def test_parzen_window_chooses_sigma_on_validation_data_alone():
    real, fake = normal(200, 3), normal(200, 3, seed=1)
    near = parzen_window(real=real, fake=fake, validation=fake + 1e-3)
    far = parzen_window(real=real, fake=fake, validation=2 * real)
    assert (near.sigma, far.sigma) == (0.1, 1.0)
    assert parzen_window(real=real, fake=fake, validation=real, sigmas=[0.4]).sigma == 0.4
    with pytest.raises(OptionError, match="sigmas: found"):
        parzen_window(real=real, fake=fake, validation=real, sigmas=[0.0])
    with pytest.raises(DataError, match="fake: found 3 features an example, wanted 2 as in real"):
        parzen_window(real=real, fake=fake, validation=real[:, :2])
