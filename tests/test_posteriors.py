"""Posteriors and priors of codes against torch.distributions, Monte Carlo and quadrature."""

import math
import subprocess
import sys

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from bestiary.catalogue import create
from bestiary.data.specs import PointSpec
from bestiary.distributions.gaussian import gaussian_log_prob, gaussian_log_prob_pairs
from bestiary.distributions.posteriors import DiagonalNormal, PosteriorHead
from bestiary.distributions.priors import FlowPrior, NormalMixture, StandardNormal, VampPrior

Z = 3


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def posterior(name, rows=4, latent_dim=Z):
    torch.manual_seed(3)
    head = PosteriorHead(name, latent_dim).double()
    return head(torch.randn(rows, head.outputs, generator=generator(1), dtype=torch.float64))


@pytest.fixture(autouse=True)
def _own_randomness():
    with torch.random.fork_rng():
        yield


@pytest.mark.parametrize("name", ["diagonal", "full", "flow"])
def test_a_draw_has_the_log_density_that_log_prob_gives_it(name):
    q = posterior(name)
    noise = torch.randn(4, 7, Z, generator=generator(), dtype=torch.float64)
    z, log_q = q.draw(noise)
    assert z.shape == (4, 7, Z)
    assert log_q.shape == (4, 7)
    torch.testing.assert_close(q.log_prob(z), log_q, atol=1e-8, rtol=0)


@pytest.mark.parametrize("name", ["diagonal", "full", "flow"])
def test_densities_integrate_to_one(name):
    q = posterior(name, rows=3, latent_dim=2)
    side = torch.linspace(-12, 12, 481, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)[None]
    mass = q.log_prob(grid).exp().sum(1) * float(side[1] - side[0]) ** 2
    torch.testing.assert_close(mass, torch.ones(3, dtype=torch.float64), atol=2e-3, rtol=0)


def test_the_full_covariance_is_the_one_of_torch():
    q = posterior("full")
    oracle = MultivariateNormal(q.mean, scale_tril=q.scale)
    z = torch.randn(1, 5, Z, generator=generator(), dtype=torch.float64)
    torch.testing.assert_close(q.log_prob(z), oracle.log_prob(z[0][:, None]).T)
    standard = MultivariateNormal(torch.zeros(Z).double(), torch.eye(Z).double())
    torch.testing.assert_close(q.kl(), kl_divergence(oracle, standard))
    assert (q.scale - q.scale.diagonal(dim1=1, dim2=2).diag_embed()).abs().max() > 0.1


@pytest.mark.parametrize("name", ["diagonal", "full"])
def test_closed_form_divergences_are_the_means_of_the_sampled_ones(name):
    q = posterior(name)
    z, log_q = q.draw(torch.randn(4, 100_000, Z, generator=generator(), dtype=torch.float64))
    sampled = log_q - gaussian_log_prob(z)
    error = sampled.std(1) / math.sqrt(sampled.shape[1])
    assert ((sampled.mean(1) - q.kl()).abs() < 4 * error).all()


def test_divergence_of_two_normals_is_the_one_of_torch():
    q, p = posterior("diagonal"), DiagonalNormal(torch.ones(4, Z).double(), torch.full((4, Z), -0.3).double())
    oracles = [torch.distributions.Normal(law.mean, law.log_sigma.exp()) for law in (q, p)]
    torch.testing.assert_close(q.kl_to(p), kl_divergence(*oracles).sum(1))


def vampprior():
    vae = create("vae", spec=PointSpec(5), prior="vampprior", components=6, latent_dim=2, hidden=[8], seed=1)
    vae.double()
    with torch.no_grad():
        vae.encoder[-1].weight.mul_(0.3)
    return vae.prior


PRIORS = {
    "standard": lambda: StandardNormal(2),
    "mixture": lambda: NormalMixture(2, 5),
    "vampprior": vampprior,
    "flow": lambda: FlowPrior(2),
}


@pytest.mark.parametrize("name", PRIORS)
def test_priors_integrate_to_one_and_draw_what_they_say(name):
    torch.manual_seed(2)
    prior = PRIORS[name]().double()
    with torch.no_grad():
        side = torch.linspace(-9, 9, 361, dtype=torch.float64)
        grid = torch.cartesian_prod(side, side)
        masses = prior.log_prob(grid).exp() * float(side[1] - side[0]) ** 2
        assert float(masses.sum()) == pytest.approx(1, abs=5e-3)
        drawn = prior.draw(20_000, generator())
        mean = (masses[:, None] * grid).sum(0)
        second = (masses[:, None] * grid.square()).sum(0)
        for found, wanted in ((drawn, mean), (drawn.square(), second)):
            error = found.std(0) / math.sqrt(len(found))
            assert ((found.mean(0) - wanted).abs() < 4 * error + 2e-3).all()
        assert prior.log_prob(grid.view(361, 361, 2)).shape == (361, 361)


def test_the_vampprior_is_the_mean_of_the_posteriors_of_its_pseudo_examples():
    prior = vampprior()
    assert isinstance(prior, VampPrior)
    z = torch.randn(4, 2, generator=generator(), dtype=torch.float64)
    with torch.no_grad():
        each = torch.stack([prior._posterior(u[None]).log_prob(z[None])[0].exp() for u in prior.examples()])
        torch.testing.assert_close(prior.log_prob(z), each.mean(0).log())


def test_pairs_of_codes_and_laws_are_those_of_torch_however_sharp_the_laws_are():
    mu = 5 * torch.randn(6, Z, generator=generator(2))
    log_sigma = torch.linspace(-9, 1, 6 * Z).view(6, Z)
    z = torch.cat([mu + 2 * log_sigma.exp(), 30 * torch.randn(4, Z, generator=generator(4))]).requires_grad_()
    wanted = Normal(mu.double()[:, None], log_sigma.double().exp()[:, None]).log_prob(z.double()).sum(2)
    (slope,) = torch.autograd.grad(wanted.logsumexp(0).sum(), z)
    with torch.autocast("cpu", torch.bfloat16):  # as in training
        found = gaussian_log_prob_pairs(z, mu, log_sigma)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)
    (own,) = torch.autograd.grad(found.logsumexp(0).sum(), z)
    torch.testing.assert_close(own, slope, rtol=1e-4, atol=1e-4)


def test_importing_flows_leaves_the_checks_of_other_distributions_on():
    command = (
        "import torch, bestiary.distributions.priors\n"
        "try:\n    torch.distributions.Normal(0.0, -1.0)\n"
        "except ValueError:\n    print('checked')"
    )
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "checked"
