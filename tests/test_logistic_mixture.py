"""The discretised logistic mixture: exact masses, finite everywhere, samples with the masses of log_prob."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, logistic

from bestiary.distributions import logistic_mixture
from bestiary.distributions.logistic_mixture import DiscretizedLogisticMixture, raw_outputs


def law(channels=1, mixtures=3, *, batch=200, levels=256, dtype=torch.float32, seed=0, **options):
    """Random mixtures, log-scales from −7 to 3."""
    g = torch.Generator().manual_seed(seed)
    pairs = channels * (channels - 1) // 2
    return DiscretizedLogisticMixture(
        torch.randn(batch, mixtures, generator=g).to(dtype),
        (2 * torch.rand(batch, channels, mixtures, generator=g) - 1).to(dtype),
        (10 * torch.rand(batch, channels, mixtures, generator=g) - 7).to(dtype),
        torch.randn(batch, pairs, mixtures, generator=g).tanh().to(dtype),
        levels=levels,
        **options,
    )


def by_scipy(law, value):
    """log P of values, float64, from logistic distribution functions."""
    levels, top = np.rint(value.double().numpy() * (law.levels - 1)), law.levels - 1
    x = 2 * levels / top - 1
    logits, means, scales, coefficients = (
        t.double().numpy() for t in (law.logits, law.means, law.log_scales, law.coefficients)
    )
    weights = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    for c in range(law.channels):
        mean = means[:, c] + sum(coefficients[:, c * (c - 1) // 2 + d] * x[:, d, None] for d in range(c))
        below, above = (
            logistic.cdf((x[:, c, None] + side / top - mean) / np.exp(scales[:, c])) for side in (-1, 1)
        )
        below[levels[:, c] == 0], above[levels[:, c] == top] = 0, 1
        weights = weights * (above - below)
    with np.errstate(divide="ignore"):
        return torch.from_numpy(np.log(weights.sum(-1)))


def p_value(counts, expected):
    """Of Pearson's chi-squared test; what is expected less than five times is one group."""
    rare = expected < 5
    counts, expected = (
        np.append(v[~rare], v[rare].sum()) if expected[rare].sum() else v for v in (counts, expected)
    )
    return chisquare(counts, expected * counts.sum() / expected.sum()).pvalue


@pytest.mark.parametrize("mixtures", range(1, 11))
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_log_prob_is_that_of_scipys_distribution_function(channels, mixtures):
    mixture = law(channels, mixtures, seed=mixtures)
    value = mixture.sample(generator=torch.Generator().manual_seed(0))
    value[:40] = torch.randint(256, (40, channels), generator=torch.Generator().manual_seed(1)) / 255
    expected, found = by_scipy(mixture, value), mixture.log_prob(value).double()
    likely = expected > channels * math.log(1e-5)
    assert likely.sum() > 150
    assert (found - expected)[likely].abs().max() < 1e-4


@pytest.mark.parametrize("levels", [2, 3, 17, 256])
@pytest.mark.parametrize("channels", [1, 3])
def test_masses_of_a_channel_sum_to_one_and_make_up_log_prob(channels, levels):
    for mixtures in (1, 4, 10):
        mixture = law(channels, mixtures, levels=levels)
        value = mixture.sample(generator=torch.Generator().manual_seed(0))
        total = torch.zeros(200)
        for c in range(channels):
            masses = mixture.level_log_masses(c, value)
            assert masses.shape == (200, levels)
            assert (masses.exp().sum(-1) - 1).abs().max() < 1e-5
            total += masses.gather(-1, (value[:, c, None] * (levels - 1)).round().long())[:, 0]
        torch.testing.assert_close(mixture.log_prob(value), total, rtol=0, atol=1e-4)


def test_masses_of_all_colours_sum_to_one():
    mixture = law(3, 4, levels=6, batch=5, dtype=torch.float64)
    values = torch.cartesian_prod(*[torch.arange(6, dtype=torch.float64) / 5] * 3)
    total = mixture.log_prob(values[:, None]).logsumexp(0)
    torch.testing.assert_close(total, torch.zeros_like(total))


def test_level_masses_in_parts_are_the_same(monkeypatch):
    mixture = law(3, 4)
    value = mixture.sample()
    whole = mixture.level_log_masses(2, value)
    monkeypatch.setattr(logistic_mixture, "CHUNK", 7 * 4 * 256)
    torch.testing.assert_close(mixture.level_log_masses(2, value), whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("faithful", [False, True])
@pytest.mark.parametrize("log_scale", [-7.0, -3.0, 0.0, 3.0])
@pytest.mark.parametrize("mean", [0.0, 1.0, -30.0, 1e4])
def test_log_prob_and_gradients_are_finite_at_edges_and_in_far_tails(log_scale, mean, faithful):
    parameters = [torch.zeros(1, 2), torch.full((1, 1, 2), mean), torch.full((1, 1, 2), log_scale)]
    for parameter in parameters:
        parameter.requires_grad_()
    mixture = DiscretizedLogisticMixture(*parameters, faithful=faithful)
    values = torch.arange(256)[:, None] / 255
    found = mixture.log_prob(values)
    gradients = torch.autograd.grad(found.sum(), parameters, retain_graph=True)
    assert found.isfinite().all()
    assert all(g.isfinite().all() for g in gradients)
    if not faithful:
        masses = mixture.level_log_masses(0, values[:1])
        assert masses.isfinite().all()
        torch.testing.assert_close(masses[0], found, rtol=1e-5, atol=1e-3)
        assert all(g.isfinite().all() for g in torch.autograd.grad(masses.sum(), parameters))


def test_the_gradient_still_says_where_to_go_in_the_far_tail():
    """In the tail log P falls by 1/s for each step of the mean, on both sides."""
    for dtype in (torch.float32, torch.float64):
        mean = torch.tensor([-3.0, 3.0], dtype=dtype, requires_grad=True)
        zeros = torch.zeros(2, 1, dtype=dtype)
        mixture = DiscretizedLogisticMixture(zeros, mean[:, None, None], zeros[:, :, None] - 7)
        mixture.log_prob(torch.full((2, 1), 128 / 255, dtype=dtype)).sum().backward()
        expected = torch.tensor([1, -1]).to(dtype) * math.exp(7)
        torch.testing.assert_close(mean.grad, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("log_scale", [-200.0, 200.0])
def test_raw_outputs_of_any_size_are_finite(log_scale):
    raw = torch.tensor([[0.0, 0.3, log_scale]], requires_grad=True)
    mixture = DiscretizedLogisticMixture.from_raw(raw, channels=1)
    masses = torch.cat(
        [mixture.level_log_masses(0, torch.zeros(1, 1))[0], mixture.log_prob(torch.ones(1, 1))]
    )
    assert masses.isfinite().all()
    (gradient,) = torch.autograd.grad(masses.sum(), raw)
    assert gradient.isfinite().all()


def test_raw_outputs_are_the_papers():
    assert [raw_outputs(c, 10) for c in (1, 2, 3)] == [30, 60, 100]
    raw = torch.randn(4, 100, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16) * 5
    mixture = DiscretizedLogisticMixture.from_raw(raw, channels=3)
    assert mixture.log_scales.min() == -7
    assert mixture.log_scales.dtype == torch.float32  # whatever precision the network computes in
    torch.testing.assert_close(mixture.coefficients, raw[:, -30:].float().tanh().view(4, 3, 10))
    assert mixture.batch_shape == (4,)
    assert mixture.event_shape == (3,)


def test_the_uniform_law_is_eight_bits():
    """Logistics at both ends, of equal scale, make no uniform law; one level each does."""
    levels = torch.arange(256) / 255
    zeros = torch.zeros(1, 256)
    mixture = DiscretizedLogisticMixture(zeros, (2 * levels - 1)[None, None], zeros[None] - 20)
    bits = -mixture.log_prob(levels[:, None]) / math.log(2)
    torch.testing.assert_close(bits, torch.full((256,), 8.0), rtol=0, atol=1e-5)


def test_faithful_is_the_published_approximation():
    exact = law(1, 1, batch=4000, seed=3)
    published = law(1, 1, batch=4000, seed=3, faithful=True)
    value = torch.randint(256, (4000, 1), generator=torch.Generator().manual_seed(0)) / 255
    a, b = exact.log_prob(value), published.log_prob(value)
    log_scale, mean = exact.log_scales[:, 0, 0], exact.means[:, 0, 0]
    z = (2 * value[:, 0] - 1 - mean) / log_scale.exp()
    density = -z - log_scale - 2 * torch.nn.functional.softplus(-z) - math.log(127.5)
    edge = (value[:, 0] == 0) | (value[:, 0] == 1)
    rare = (a < math.log(0.9e-5)) & ~edge
    common = (a > math.log(1.1e-5)) | edge
    assert rare.sum() > 500
    torch.testing.assert_close(b[rare], density[rare])
    torch.testing.assert_close(b[common], a[common], rtol=0, atol=2e-2)  # rounding of the difference, at 1e-5
    assert (a - b)[rare].abs().max() > 0.1  # what is wrong with it where scales are small


@pytest.mark.parametrize("mixtures", [1, 5])
def test_samples_have_the_masses_that_log_prob_states(mixtures):
    n = 100_000
    mixture = law(1, mixtures, batch=1, seed=2)
    drawn = mixture.sample((n,), generator=torch.Generator().manual_seed(0))
    assert drawn.shape == (n, 1, 1)
    counts = torch.bincount((drawn * 255).round().long().flatten(), minlength=256).numpy()
    masses = mixture.log_prob((torch.arange(256) / 255)[:, None, None]).double().exp()
    assert p_value(counts, n * masses[:, 0].numpy()) > 0.01


def test_colours_are_drawn_with_their_dependence():
    """All 4³ colours of a mixture, by chi-squared; without coefficients the same draws would fail."""
    n = 100_000
    mixture = law(3, 3, levels=4, batch=1, seed=1, dtype=torch.float64)
    drawn = mixture.sample((n,), generator=torch.Generator().manual_seed(0))[:, 0]
    index = ((drawn * 3).round().long() * torch.tensor([16, 4, 1])).sum(-1)
    counts = torch.bincount(index, minlength=64).numpy()
    colours = torch.cartesian_prod(*[torch.arange(4, dtype=torch.float64) / 3] * 3)

    independent = DiscretizedLogisticMixture(
        mixture.logits, mixture.means, mixture.log_scales, 0 * mixture.coefficients, levels=4
    )
    of = [n * law.log_prob(colours[:, None]).exp()[:, 0].numpy() for law in (mixture, independent)]
    assert p_value(counts, of[0]) > 0.01
    assert p_value(counts, of[1]) < 1e-6


def test_samples_depend_on_the_generator_alone():
    mixture = law(3)
    draws = [mixture.sample((2,), generator=torch.Generator().manual_seed(s)) for s in (0, 0, 1)]
    assert draws[0].shape == (2, 200, 3)
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert torch.equal((draws[0] * 255).round() / 255, draws[0])


def test_it_checks_its_arguments_as_torch_does():
    with pytest.raises(ValueError, match="means"):
        DiscretizedLogisticMixture(torch.zeros(1, 1), torch.full((1, 1, 1), math.nan), torch.zeros(1, 1, 1))
    with pytest.raises(ValueError, match="support"):
        law().log_prob(torch.full((200, 1), 1.5))
