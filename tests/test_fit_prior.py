"""Densities on the codes of any encoder: exact fits, runs of their own, and what is refused."""

import copy

import numpy as np
import pytest
import torch
import yaml
from sklearn.mixture import GaussianMixture
from torch.nn import functional as F

import bestiary
from bestiary import catalogue, tasks
from bestiary.config import options
from bestiary.data.specs import Classes, ImageSpec, PointSpec
from bestiary.data.splits import ArraySplit, Data
from bestiary.distributions.fitted_laws import FullNormalMixture
from bestiary.errors import BestiaryError, OptionError, RunError
from bestiary.models.base import Encoder, Sampler, capabilities
from bestiary.models.latent.autoencoder import Autoencoder
from bestiary.models.latent.fitted_prior import FittedFlow, FittedMixture
from bestiary.testing import check_model
from bestiary.testing.check_model import random_data

IMAGES = ImageSpec(1, 8, 8, levels=4)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def points(x):
    part = ArraySplit(x, levels=None)
    return Data("points", PointSpec(x.shape[1]), part, part, part, fingerprint="0", source="points")


def two_clusters(n=600):
    x = torch.randn(n, 2, generator=generator()) * torch.tensor([0.1, 0.5])
    x[: n // 3] += torch.tensor([4.0, 4.0])
    x[n // 3 :] += torch.tensor([-2.0, 0.0])
    return x[torch.randperm(n, generator=generator(1))]


def identity(scale=1.0):
    """An autoencoder whose codes are the points themselves, times a number."""
    model = catalogue.create("autoencoder", spec=PointSpec(2), hidden=[], latent_dim=2)
    with torch.no_grad():
        for layers, gain in ((model.encoder, scale), (model.decoder, 1 / scale)):
            layers[1].weight.copy_(gain * torch.eye(2))
            layers[1].bias.zero_()
    return model


def test_a_full_mixture_has_the_density_of_sklearns_and_draws_from_it():
    x = two_clusters().double()
    em = GaussianMixture(3, random_state=0).fit(x.numpy())
    law = FullNormalMixture(2, 3).double()
    law.fill(*map(torch.from_numpy, (em.weights_, em.means_, em.covariances_)))
    torch.testing.assert_close(law.log_prob(x), torch.from_numpy(em.score_samples(x.numpy())))
    torch.testing.assert_close(law.log_prob(x.view(30, 20, 2)).flatten(), law.log_prob(x))
    z = law.draw(20_000, generator())
    deviation = x.std(dim=0) / 20_000**0.5
    assert ((z.mean(0) - torch.from_numpy(em.weights_ @ em.means_)).abs() < 4 * deviation).all()
    # the mean of −log p over its own draws is its entropy, and every other law costs more
    assert -law.log_prob(z).mean() == pytest.approx(-em.score(em.sample(20_000)[0]), abs=0.05)


def test_a_gaussian_is_the_mean_and_covariance_of_the_codes(tmp_path):
    x = two_clusters()
    fitted = tasks.fit_prior(identity(50.0), points(x), density="gaussian", out=tmp_path / "run")
    z = fitted.encode(x)
    exact = torch.distributions.MultivariateNormal(z.mean(0), torch.cov(z.T, correction=0))
    torch.testing.assert_close(fitted.prior.log_prob(z), exact.log_prob(z), atol=2e-3, rtol=0)
    assert capabilities(fitted) == ("Sampler", "Encoder", "ClosedForm")


def test_a_mixture_samples_both_clusters_and_nothing_between(tmp_path):
    x, model = two_clusters(), identity()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fitted = tasks.fit_prior(model, points(x), components=2, out=tmp_path / "run")
    samples = fitted.sample(2000, generator=generator())
    near = torch.cdist(samples, torch.tensor([[4.0, 4.0], [-2.0, 0.0]])).min(1)
    assert near.values.max() < 2.5
    assert near.indices.float().mean() == pytest.approx(2 / 3, abs=0.05)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert fitted.encoder is not model


def test_a_flow_learns_what_a_gaussian_cannot(tmp_path):
    angle = 2 * np.pi * torch.rand(2000, generator=generator())
    x = torch.stack([angle.cos(), angle.sin()], 1) + 0.1 * torch.randn(2000, 2, generator=generator(1))
    flow = FittedFlow(identity(3.0), latent_dim=2, steps=2, hidden=16, learning_rate=1e-2)
    bestiary.train(flow, points(x), budget="100 rounds", out=tmp_path / "flow")
    z = flow.encode(x)
    gaussian = torch.distributions.MultivariateNormal(z.mean(0), torch.cov(z.T))
    with torch.no_grad():
        assert (flow.prior.log_prob(z) - gaussian.log_prob(z)).mean() > 0.3
    inside = [(part.norm(dim=1) < 0.5).sum() for part in (gaussian.sample((500,)) / 3, flow.sample(500))]
    assert inside[1] < inside[0] / 2


def test_codes_of_a_vae_are_draws_of_its_posterior_or_its_means(tmp_path):
    x = two_clusters()
    vae = catalogue.create("vae", spec=PointSpec(2), hidden=[], latent_dim=2)
    with torch.no_grad():
        vae.encoder[1].weight.copy_(torch.cat([torch.eye(2), torch.zeros(2, 2)]))
        vae.encoder[1].bias.copy_(torch.tensor([0.0, 0.0, 0.7, -0.7]))
    about = {"density": "gaussian", "seed": 3}
    found = {
        codes: tasks.fit_prior(vae, points(x), codes=codes, out=tmp_path / codes, **about)
        for codes in ("draws", "means")
    }
    variances = {
        codes: one.prior.law.scale[0].square().sum(1) * one.prior.spread**2 for codes, one in found.items()
    }
    torch.testing.assert_close(variances["means"], x.var(0), rtol=5e-3, atol=0)
    added = variances["draws"] - variances["means"]
    torch.testing.assert_close(added, torch.tensor([0.7, -0.7]).mul(2).exp(), rtol=0.25, atol=0.2)


@pytest.mark.parametrize("density", ["mixture", "flow"])
def test_a_fitted_prior_is_a_run_that_is_opened_sampled_and_scored(tmp_path, density):
    data = random_data(IMAGES)
    trained = bestiary.train(Autoencoder.tiny(IMAGES), data, budget="3 rounds", out=tmp_path / "autoencoder")
    fitted = tasks.fit_prior(
        trained.folder, data, density=density, components=2, budget="3 rounds", out=tmp_path / "fitted"
    )
    opened = bestiary.load(tmp_path / "fitted")
    assert type(opened) is (FittedMixture if density == "mixture" else FittedFlow)
    assert torch.equal(opened.sample(9, generator=generator()), fitted.sample(9, generator=generator()))
    x = data.test[:9].x
    assert torch.equal(opened.reconstruct(x), trained.model.reconstruct(x))
    described = yaml.safe_load((tmp_path / "fitted" / "config.yaml").read_text())["model"]
    assert described["name"] == f"fitted-{density}"
    assert described["encoder"] == {"name": "autoencoder", "settings": trained.model.settings}
    scores = bestiary.evaluate(tmp_path / "fitted", data, metrics=["frechet"], embedding="pixels", n=20)
    assert scores["frechet"].n_fake == 20
    for out, resume in (("same", False), ("fitted", True)):
        about = {"density": density, "components": 2, "budget": "3 rounds", "resume": resume}
        again = tasks.fit_prior(trained, data, out=tmp_path / out, **about)
        assert torch.equal(again.sample(9, generator=generator()), fitted.sample(9, generator=generator()))
    refitted = tasks.fit_prior(opened, data, density="gaussian", out=tmp_path / "again")
    assert type(refitted.encoder) is Autoencoder


def test_resuming_a_flow_is_bit_equal(tmp_path):
    data, encoder = random_data(IMAGES), Autoencoder.tiny(IMAGES)
    whole, halves, again = (FittedFlow(copy.deepcopy(encoder), latent_dim=2, hidden=8) for _ in range(3))
    halves.load_state_dict(whole.state_dict())
    bestiary.train(whole, data, budget="4 rounds", out=tmp_path / "whole")

    def stop(training):
        if training.clock.rounds == 2:
            raise KeyboardInterrupt

    about = {"budget": "4 rounds", "out": tmp_path / "halves"}
    with pytest.raises(KeyboardInterrupt):
        bestiary.train(halves, data, observers=[stop], checkpoint_seconds=0, **about)
    bestiary.train(again, data, resume=True, **about)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_a_fitted_mixture_keeps_the_promises_of_a_model():
    check_model(FittedMixture, ImageSpec(1, 8, 8, levels=4, condition=Classes(3)))


@pytest.mark.parametrize("name", ["ppca", "spherical-vae", "ladder-vae", "conditional-vae"])
def test_any_encoder_gets_a_sampler(tmp_path, name):
    small = {"hidden": [8], "latent_dim": 2, "glimpse_dim": 4} if name == "conditional-vae" else None
    kind = catalogue.entry(name).load()
    model = catalogue.create(name, spec=IMAGES, **small) if small else kind.tiny(IMAGES)
    fitted = tasks.fit_prior(model, random_data(IMAGES), density="gaussian", out=tmp_path / "run")
    opened = bestiary.load(tmp_path / "run")
    samples = opened.sample(6, generator=generator())
    assert samples.shape == (6, *IMAGES.shape)
    assert torch.equal(samples, fitted.sample(6, generator=generator()))


def test_codes_on_a_sphere_are_fitted_around_it_and_decoded_by_their_direction(tmp_path):
    model = catalogue.entry("spherical-vae").load().tiny(IMAGES)
    data = random_data(IMAGES)
    fitted = tasks.fit_prior(model, data, density="gaussian", out=tmp_path / "run")
    z = fitted.codes(data.train[:20].x, None, _Noise(20))
    torch.testing.assert_close(z.norm(dim=1), torch.ones(20))
    assert not torch.allclose(z, fitted.encode(data.train[:20].x), atol=1e-2)
    codes = fitted.prior.draw(20, generator())
    torch.testing.assert_close(fitted.decode(codes), fitted.decode(F.normalize(codes, dim=1)))


class _Noise:
    def __init__(self, n):
        self._n, self._generator = n, generator()

    def normal(self, *shape):
        return torch.randn(self._n, *shape, generator=self._generator)


def test_a_model_of_ones_own_is_opened_with_its_class(tmp_path):
    class Mine(Autoencoder):
        pass

    data = random_data(IMAGES)
    tasks.fit_prior(Mine.tiny(IMAGES), data, density="gaussian", out=tmp_path / "run")
    assert isinstance(bestiary.load(tmp_path / "run", model=Mine).encoder, Mine)
    with pytest.raises(OptionError, match="pass the class as model="):
        bestiary.load(tmp_path / "run")


def test_numbers_that_never_change_do_not_break_a_fit(tmp_path):
    x = two_clusters()
    x[:, 1] = 3.0
    fitted = tasks.fit_prior(identity(), points(x), components=2, out=tmp_path / "run")
    samples = fitted.sample(100, generator=generator())
    torch.testing.assert_close(samples[:, 1], torch.full((100,), 3.0), atol=0.02, rtol=0)


def test_mistakes_are_told_in_one_line(tmp_path):
    data = random_data(IMAGES)
    with pytest.raises(BestiaryError, match="model: found GAN, wanted one that has codes"):
        tasks.fit_prior(catalogue.entry("ns-gan").load().tiny(IMAGES), data, out=tmp_path / "run")
    with pytest.raises(OptionError, match="unknown density 'mixtur': did you mean 'mixture'"):
        tasks.fit_prior(identity(), data, density="mixtur", out=tmp_path / "run")
    with pytest.raises(BestiaryError, match="model: was made for points of R"):
        tasks.fit_prior(identity(), data, out=tmp_path / "run")
    with pytest.raises(BestiaryError, match="wanted at least 100"):
        tasks.fit_prior(Autoencoder.tiny(IMAGES), data, components=100, out=tmp_path / "run")
    with pytest.raises(RunError, match="found no folder"):
        tasks.fit_prior(tmp_path / "nowhere", data)
    endless = bestiary.load_data("ring")
    with pytest.raises(OptionError, match="wants a fixed set"):
        tasks.fit_prior(identity(), endless, out=tmp_path / "endless")
    assert issubclass(FittedMixture, Sampler)
    assert issubclass(FittedMixture, Encoder)
    assert set(options(FittedMixture)) == {"latent_dim", "components", "codes", "batch_size"}
