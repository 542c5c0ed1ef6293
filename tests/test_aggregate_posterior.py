"""The mismatch of prior and aggregate posterior, against known answers."""

import math

import pytest
import torch

from bestiary import catalogue, tasks
from bestiary.data.specs import Classes, ImageSpec, PointSpec
from bestiary.data.splits import ArraySplit, Data
from bestiary.distributions.gaussian import gaussian_kl
from bestiary.errors import BestiaryError, DataError, OptionError
from bestiary.tasks import AggregatePosterior, aggregate_posterior, elbo_surgery, prior_holes

GAIN, SIGMA = 1.5, 0.3


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def split(x):
    return ArraySplit(x, levels=None)


def quantiles(n):
    """n points of R whose law is the standard normal as nearly as that of n points can be."""
    middle = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    return torch.special.ndtri(middle).float()[:, None]


def linear(gain=GAIN, sigma=SIGMA, **settings):
    """A VAE with q(z|x) = N(gain·x, sigma²) in every dimension."""
    dim = settings.pop("dim", 1)
    vae = catalogue.create("vae", spec=PointSpec(dim), hidden=[], latent_dim=dim, **settings)
    with torch.no_grad():
        weight = torch.zeros(2 * dim, dim)
        weight[:dim] = gain * torch.eye(dim)
        vae.encoder[1].weight.copy_(weight)
        vae.encoder[1].bias.copy_(torch.cat([torch.zeros(dim), torch.full((dim,), math.log(sigma))]))
    return vae


def within(score, exact):
    assert abs(score.value - exact) < 4 * score.error + 1e-3, (score, exact)


def test_all_three_terms_of_a_linear_gaussian_model_are_known():
    # x ~ N(0, 1) makes q(z) = N(0, a² + s²) and I(x; z) = ½ log(1 + a²/s²)
    found = elbo_surgery(linear(), split(quantiles(3000)), draws=4000, generator=generator())
    variance = GAIN**2 + SIGMA**2
    within(found.mismatch, 0.5 * (variance - 1 - math.log(variance)))
    within(found.mutual_information, 0.5 * math.log(1 + (GAIN / SIGMA) ** 2))
    within(found.divergence, 0.5 * (variance - 1) - math.log(SIGMA))
    total = found.mutual_information.value + found.mismatch.value
    assert found.divergence.value == pytest.approx(total, abs=1e-6)
    assert found.mismatch.error < 0.05
    assert found.mismatch.n_real == 3000


def test_a_posterior_that_ignores_its_example_tells_nothing_and_all_is_mismatch():
    vae = linear(gain=0.0, sigma=0.5)
    with torch.no_grad():
        vae.encoder[1].bias[0] = 2.0
    found = elbo_surgery(vae, split(quantiles(50)), draws=1000, generator=generator())
    assert found.mutual_information.value == pytest.approx(0, abs=1e-5)
    within(found.mismatch, float(gaussian_kl(torch.tensor([[2.0]]), torch.tensor([[math.log(0.5)]]))))


def test_codes_that_tell_all_examples_apart_have_log_n_of_information():
    vae, examples = linear(gain=100.0, sigma=0.1), split(torch.arange(8.0)[:, None] / 4 - 1)
    found = elbo_surgery(vae, examples, draws=500, generator=generator())
    assert found.mutual_information.value == pytest.approx(math.log(8), abs=1e-5)
    assert found.most_information == math.log(8)
    kl = vae.posterior(examples[:].x).kl().mean().item()
    within(found.mismatch, kl - math.log(8))


@pytest.mark.parametrize("posterior", ["diagonal", "full", "flow"])
def test_the_density_is_the_mixture_whatever_the_parts_it_is_computed_in(posterior, monkeypatch):
    vae = catalogue.create("vae", spec=PointSpec(2), hidden=[4], latent_dim=2, posterior=posterior, seed=1)
    x, z = torch.randn(23, 2, generator=generator()), torch.randn(11, 2, generator=generator(1))
    with torch.no_grad():
        naive = torch.stack([vae.posterior(row[None]).log_prob(z[None])[0] for row in x])
    wanted = (naive.double().logsumexp(0) - math.log(23)).float()
    torch.testing.assert_close(AggregatePosterior(vae, split(x)).log_prob(z).float(), wanted)
    monkeypatch.setattr(aggregate_posterior, "_EXAMPLES", 5)
    monkeypatch.setattr(aggregate_posterior, "_NUMBERS", 30)
    torch.testing.assert_close(AggregatePosterior(vae, split(x)).log_prob(z).float(), wanted)


def test_draws_have_the_moments_of_the_mixture():
    aggregate = AggregatePosterior(linear(), split(quantiles(500)))
    z, log_q = aggregate.draw(20_000, generator())
    assert float(z.mean()) == pytest.approx(0, abs=0.05)
    assert float(z.var()) == pytest.approx(GAIN**2 + SIGMA**2, rel=0.05)
    # the entropy of a normal law
    assert float(log_q.mean()) == pytest.approx(
        -0.5 - 0.5 * math.log(2 * math.pi) - math.log(SIGMA), abs=0.03
    )


def test_the_emptiest_codes_of_the_prior_lie_between_the_examples():
    vae = linear(gain=1.0, sigma=0.2)
    examples = split(torch.tensor([[-1.5], [1.5]]))
    found = prior_holes(vae, examples, n=10, candidates=1000, generator=generator())
    assert found.empty.z.abs().max() < 0.2
    # log p − log q = ½ (z ∓ 1.5)²/0.04 − ½ z² + … is least at ±1.5/(1 − 0.04)
    assert (found.full.z.abs() - 1.5 / 0.96).abs().max() < 0.15
    # far out the aggregate posterior is emptier still, but there the prior is not dense
    assert found.empty.log_ratio[0] < found.log_ratio.max()
    assert found.full.log_ratio[0] == found.log_ratio.min()
    assert (found.empty.log_ratio.diff() <= 0).all()
    assert (found.full.log_ratio.diff() >= 0).all()
    torch.testing.assert_close(found.empty.x, vae.decode(found.empty.z))


def test_a_fitted_prior_takes_the_mismatch_away_and_leaves_the_information(tmp_path):
    vae, x = linear(gain=0.6), quantiles(800)
    data = Data("line", PointSpec(1), split(x), split(x), split(x), fingerprint="0", source="line")
    fitted = tasks.fit_prior(vae, data, density="gaussian", out=tmp_path / "run")
    before = elbo_surgery(vae, data.train, draws=3000, generator=generator())
    after = elbo_surgery(fitted, data.train, draws=3000, generator=generator())
    assert before.mismatch.value > 0.1
    assert after.mismatch.value == pytest.approx(0, abs=4 * after.mismatch.error + 5e-3)
    assert after.mutual_information == before.mutual_information
    holes = prior_holes(fitted, data.train, n=3, candidates=100, generator=generator())
    assert holes.log_ratio.abs().max() < 1.5


def test_mistakes_are_told_in_one_line():
    vae, examples = linear(), split(quantiles(10))
    with pytest.raises(BestiaryError, match="model: found Autoencoder, wanted vae or one of its kin"):
        elbo_surgery(catalogue.create("autoencoder", spec=PointSpec(1), hidden=[]), examples)
    with pytest.raises(OptionError, match="draws: found 1, wanted at least 2"):
        elbo_surgery(vae, examples, draws=1)
    with pytest.raises(OptionError, match="n: found 6 of 10 candidates"):
        prior_holes(vae, examples, n=6, candidates=10)
    labelled = catalogue.create("vae", spec=ImageSpec(1, 8, 8, condition=Classes(2)))
    with pytest.raises(BestiaryError, match="model: found one with conditions"):
        elbo_surgery(labelled, examples)
    from bestiary.data import load_data

    plane = catalogue.create("vae", spec=PointSpec(2), hidden=[])
    with pytest.raises(DataError, match="examples: found an endless source"):
        prior_holes(plane, load_data("ring").train)
