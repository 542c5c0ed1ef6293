"""Laws on the sphere against mpmath, quadrature and their own samples."""

import math

import mpmath
import numpy as np
import pytest
import torch
from scipy.stats import chi2, ks_2samp, kstest
from torch.distributions import kl_divergence

from bestiary.distributions import HypersphericalUniform, VonMisesFisher
from bestiary.distributions.bessel_ratio import log_area, sphere_integrals
from bestiary.errors import OptionError

DIMS = (2, 3, 6, 11, 26, 41, 101)
KAPPAS = (1e-3, 0.1, 1.0, 10.0, 100.0, 1e4, 1e5)


def north(dim, dtype=torch.float64):
    return torch.eye(dim, dtype=dtype)[0]


def tilted(dim, dtype=torch.float64):
    """A mean direction with a negative first coordinate."""
    direction = torch.linspace(-1, 2, dim, dtype=dtype)
    return direction / direction.norm()


def law(dim, kappa, loc=None):
    """A law in float64."""
    return VonMisesFisher(north(dim) if loc is None else loc, torch.tensor(kappa, dtype=torch.float64))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def by_mpmath(dim, kappa):
    """A, 1 − A, κ − Φ, κA − Φ and A′ by Bessel functions of 60 digits."""
    with mpmath.workdps(60):
        kappa, order = mpmath.mpf(kappa), mpmath.mpf(dim) / 2 - 1
        value = mpmath.besseli(order, kappa)
        length = mpmath.besseli(order + 1, kappa) / value
        phi = mpmath.log(mpmath.gamma(order + 1) * (2 / kappa) ** order * value)
        variance = 1 - length**2 - (dim - 1) / kappa * length
        return [float(v) for v in (length, 1 - length, kappa - phi, kappa * length - phi, variance)]


@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 3e-10), (torch.float32, 3e-5)])
@pytest.mark.parametrize("dim", DIMS)
def test_all_integrals_are_those_of_60_digits(dim, dtype, error):
    kappas = torch.tensor(KAPPAS, dtype=dtype)
    found = torch.stack(sphere_integrals(dim, kappas), dim=1).double()
    expected = torch.tensor([by_mpmath(dim, kappa) for kappa in kappas.tolist()], dtype=torch.float64)
    # κ − Φ is part of a sum: only for it does an absolute error count
    slack = torch.tensor([0, 0, error, 0, 0], dtype=torch.float64)
    assert ((found - expected).abs() <= error * expected.abs() + slack).all()


@pytest.mark.parametrize("dim", [2, 3, 41])
def test_kappa_zero_is_the_uniform_law(dim):
    kappa = torch.zeros((), dtype=torch.float64, requires_grad=True)
    at_zero = VonMisesFisher(north(dim), kappa)
    uniform = HypersphericalUniform(dim, dtype=torch.float64)
    x = uniform.sample((20,), generator=generator())
    torch.testing.assert_close(at_zero.log_prob(x), uniform.log_prob(x))
    assert float(kl_divergence(at_zero, uniform).detach()) == 0
    (slope,) = torch.autograd.grad(at_zero.mean_resultant_length, kappa)
    assert float(slope) == pytest.approx(1 / dim)
    (slope,) = torch.autograd.grad(at_zero.rsample((50,), generator=generator()).sum(), kappa)
    assert slope.isfinite()


@pytest.mark.parametrize("dim", [2, 3, 11, 41])
def test_gradients_of_everything_that_is_known_exactly(dim):
    kappa = torch.tensor([0.1, 2.0, 30.0, 900.0], dtype=torch.float64, requires_grad=True)
    x = tilted(dim)

    def everything(kappa):
        law = VonMisesFisher(north(dim), kappa)
        kl = kl_divergence(law, HypersphericalUniform(dim))
        return kl, law.entropy(), law.log_prob(x), law.mean_resultant_length, law.mean

    assert torch.autograd.gradcheck(everything, (kappa,), eps=1e-4, atol=1e-7, rtol=1e-5)

    def density(loc):
        return VonMisesFisher(loc / loc.norm(dim=-1, keepdim=True), kappa.detach()).log_prob(x)

    loc = torch.randn(4, dim, generator=generator(), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(density, (loc,))


@pytest.mark.parametrize("kappa", [0.1, 3.0, 200.0])
def test_the_density_integrates_to_one_and_its_logarithm_to_the_entropy(kappa):
    turn = torch.arange(4000, dtype=torch.float64) * 2 * math.pi / 4000
    circle = torch.stack([turn.cos(), turn.sin()], dim=-1)
    log_prob = law(2, kappa, tilted(2)).log_prob(circle)
    assert float(log_prob.exp().mean()) * 2 * math.pi == pytest.approx(1, abs=1e-10)
    entropy = -float((log_prob.exp() * log_prob).mean()) * 2 * math.pi
    assert float(law(2, kappa).entropy()) == pytest.approx(entropy, abs=1e-8)
    # the sphere by Archimedes: height and longitude have the flat area element
    height, weights = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(200))
    radius = (1 - height**2).sqrt()
    around = turn[::20]
    sphere = torch.stack(
        [height[:, None] + 0 * around, radius[:, None] * around.cos(), radius[:, None] * around.sin()], dim=-1
    )
    log_prob = law(3, kappa, tilted(3)).log_prob(sphere)
    total = (log_prob.exp().mean(1) * weights).sum() * 2 * math.pi
    assert float(total) == pytest.approx(1, abs=1e-8)


@pytest.mark.parametrize("kappa", [0.1, 1.0, 10.0, 100.0, 1e4])
@pytest.mark.parametrize("dim", [2, 3, 6, 11, 41])
def test_samples_have_the_exact_mean_and_no_other_direction(dim, kappa):
    n, loc = 100_000, tilted(dim, torch.float32)
    x = VonMisesFisher(loc, torch.tensor(kappa)).sample((n,), generator=generator())
    assert (x.norm(dim=-1) - 1).abs().max() < 1e-5
    x = x.double()
    fall = (x - loc).square().sum(-1) / 2  # 1 − cos θ, which float32 still knows at κ = 1e4
    exact = sphere_integrals(dim, torch.tensor(kappa, dtype=torch.float64))
    assert (fall.mean() - exact.shortfall).abs() < 4 * (exact.variance / n).sqrt()
    assert float(fall.var() / exact.variance) == pytest.approx(1, abs=0.05)
    # Rayleigh: (m−1) n |mean of the directions around μ|² is χ² of m − 1 degrees
    tangent = x - (x @ loc.double())[:, None] * loc.double()
    directions = tangent / tangent.norm(dim=-1, keepdim=True)
    rayleigh = (dim - 1) * n * float(directions.mean(0).square().sum())
    assert 1e-3 < chi2.sf(rayleigh, dim - 1) <= 1
    second = (dim - 1) * directions.T @ directions / n
    flat = torch.eye(dim, dtype=torch.float64) - torch.outer(loc, loc)
    assert (second - flat).abs().max() < 0.03 + 1e-6 * kappa


@pytest.mark.parametrize("kappa", [0.1, 2.0, 50.0, 5000.0])
def test_three_dimensions_are_the_closed_form(kappa):
    n = 50_000
    u = torch.rand(n, generator=generator(1), dtype=torch.float64)
    closed = -(u + (1 - u) * math.exp(-2 * kappa)).log() / kappa  # 1 − cos θ
    x = law(3, kappa).expand((n,)).sample(generator=generator())
    drawn = (x - north(3)).square().sum(-1) / 2
    assert ks_2samp(closed.numpy(), drawn.numpy()).pvalue > 0.01


def test_the_circle_is_scipys_von_mises():
    x = law(2, 1.7, tilted(2)).sample((20_000,), generator=generator())
    centre = math.atan2(*tilted(2).flip(0).tolist())
    angles = (torch.atan2(x[:, 1], x[:, 0]) - centre + math.pi) % (2 * math.pi) - math.pi
    assert kstest(angles.numpy(), "vonmises", args=(1.7,)).pvalue > 0.01


@pytest.mark.parametrize(("dim", "kappa"), [(2, 0.5), (3, 5.0), (11, 40.0), (41, 100.0), (101, 1e4)])
def test_kl_and_entropy_are_the_means_over_samples(dim, kappa):
    p, uniform = law(dim, kappa, tilted(dim)), HypersphericalUniform(dim)
    log_prob = p.log_prob(p.sample((40_000,), generator=generator()))
    error = 4 * float(log_prob.std()) / 200
    assert float(kl_divergence(p, uniform)) == pytest.approx(
        float(log_prob.mean()) + log_area(dim), abs=error
    )
    assert float(p.entropy()) == pytest.approx(-float(log_prob.mean()), abs=error)


@pytest.mark.parametrize(("dim", "kappa"), [(2, 0.7), (2, 300.0), (3, 4.0), (6, 1.0), (11, 60.0), (41, 1e4)])
def test_gradients_of_samples_match_finite_differences_of_exact_expectations(dim, kappa):
    """E μᵀx = A and E (μᵀx)² = A² + A′ have known slopes: the means of the gradients through samples."""
    n = 40_000
    concentration = torch.full((n,), kappa, dtype=torch.float64, requires_grad=True)
    x = VonMisesFisher(tilted(dim), concentration).rsample(generator=generator())
    cosine = x @ tilted(dim)
    step = 1e-4 * kappa

    def expectations(kappa):
        at = sphere_integrals(dim, torch.tensor(kappa, dtype=torch.float64))
        return at.length, at.length.square() + at.variance

    above, below = expectations(kappa + step), expectations(kappa - step)
    for power in (1, 2):
        (slopes,) = torch.autograd.grad((cosine**power).sum(), concentration, retain_graph=True)
        exact = (above[power - 1] - below[power - 1]) / (2 * step)
        assert (slopes.mean() - exact).abs() < 4 * slopes.std() / math.sqrt(n) + 1e-6 * exact.abs()


def test_gradients_of_the_angle_match_the_closed_form_of_three_dimensions():
    """There the quantile of 1 − cos θ is −log(u + (1−u) e^{−2κ})/κ."""
    kappa = torch.logspace(-1, 4, 500, dtype=torch.float64, requires_grad=True)
    x = VonMisesFisher(north(3), kappa).rsample(generator=generator())
    (found,) = torch.autograd.grad(x[:, 0].sum(), kappa)
    fall = (1 - x[:, 0]).detach()
    u = (torch.expm1(-kappa * fall) - torch.expm1(-2 * kappa)) / -torch.expm1(-2 * kappa)
    (expected,) = torch.autograd.grad(
        ((u.detach() + (1 - u.detach()) * (-2 * kappa).exp()).log() / kappa).sum(), kappa
    )
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("dim", [2, 3, 11])
def test_the_gradient_by_the_mean_direction_is_that_of_the_expectation(dim):
    """E cᵀx = A cᵀμ, so that the gradient by an unnormalised direction is known."""
    raw = (2 * tilted(dim)).requires_grad_()
    c = torch.linspace(1, -0.5, dim, dtype=torch.float64)
    n = 100_000
    rows = raw.expand(n, dim).clone()
    rows.retain_grad()
    kappa = torch.tensor(3.0, dtype=torch.float64)
    x = VonMisesFisher(rows / rows.norm(dim=-1, keepdim=True), kappa).rsample(generator=generator())
    (x @ c).sum().backward()
    exact = float(sphere_integrals(dim, kappa).length) * (c - tilted(dim) * (tilted(dim) @ c)) / 2
    error = rows.grad.std(0) / math.sqrt(n)
    assert ((rows.grad.mean(0) - exact).abs() < 4.5 * error + 1e-9).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dim", [2, 3, 11, 41, 100])
def test_nothing_is_nan_for_any_concentration(dim, dtype):
    kappa = torch.tensor([0, 1e-6, 0.1, 1, 1e2, 1e4, 1e5], dtype=dtype)[:, None].requires_grad_()
    raw = torch.randn(7, dim, generator=generator(), dtype=dtype, requires_grad=True)
    p = VonMisesFisher(raw / raw.norm(dim=-1, keepdim=True), kappa)
    x = p.rsample((500,), generator=generator())
    assert x.shape == (500, 7, dim)
    assert x.isfinite().all()
    for value in (x.sin(), p.log_prob(x), p.log_prob(-p.loc), kl_divergence(p, HypersphericalUniform(dim))):
        assert value.isfinite().all()
        gradients = torch.autograd.grad(value.sum() + 0 * raw.sum(), (raw, kappa), retain_graph=True)
        assert all(g.isfinite().all() for g in gradients)


def test_a_concentration_of_nan_ends_in_nan_and_not_in_a_loop():
    p = VonMisesFisher(north(3), torch.tensor([1.0, math.nan, math.inf]), validate_args=False)
    x = p.rsample(generator=generator())
    assert x[0].isfinite().all()
    assert x[1].isnan().all()
    assert torch.equal(x[2], north(3))


def test_the_mean_directions_where_the_reflection_turns_over():
    for first in (1.0, -1.0, 0.0, -0.0):
        loc = torch.tensor([first, math.sqrt(1 - first**2), 0.0], dtype=torch.float64, requires_grad=True)
        x = VonMisesFisher(loc, torch.tensor(1e8, dtype=torch.float64)).rsample(generator=generator())
        torch.testing.assert_close(x, loc, atol=1e-3, rtol=0)
        assert torch.autograd.grad(x.sum(), loc)[0].isfinite().all()


def test_noise_from_outside_replaces_the_generator():
    """Whoever brings it is asked for all rows each time, so that shares of a batch can be drawn apart."""
    loc, kappa = tilted(4).expand(6, 4), torch.linspace(1, 30, 6, dtype=torch.float64)

    def share(rows):
        own = generator(3)
        return lambda k: torch.randn(6, k, generator=own)[rows]

    whole = VonMisesFisher(loc, kappa).rsample(noise=share(slice(0, 6)))
    halves = [
        VonMisesFisher(loc[rows], kappa[rows]).rsample(noise=share(rows))
        for rows in (slice(0, 3), slice(3, 6))
    ]
    assert torch.equal(whole, torch.cat(halves))


def test_the_generator_decides_and_the_global_state_is_left_alone():
    p, before = law(5, 2.0), torch.random.get_rng_state()
    first, again = (p.sample((9,), generator=generator(1)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, p.sample((9,), generator=generator(2)))
    assert torch.equal(before, torch.random.get_rng_state())


def test_shapes():
    loc = tilted(4).expand(5, 3, 4)
    for kappa in (torch.ones(3), torch.ones(5, 1, 1), torch.ones(5, 3), torch.ones(5, 3, 1), torch.ones(())):
        p = VonMisesFisher(loc, kappa)
        assert (p.batch_shape, p.event_shape, p.mean.shape) == ((5, 3), (4,), (5, 3, 4))
        x = p.sample((2,))
        assert p.log_prob(x).shape == (2, 5, 3)
        assert p.entropy().shape == (5, 3)
    wide = VonMisesFisher(tilted(4), torch.ones(1)).expand((7, 2))
    assert wide.rsample().shape == (7, 2, 4)
    assert kl_divergence(wide, HypersphericalUniform(4)).shape == (7, 2)
    uniform = HypersphericalUniform(4).expand((7, 2))
    assert uniform.sample((3,)).shape == (3, 7, 2, 4)
    assert uniform.log_prob(uniform.sample()).shape == uniform.entropy().shape == (7, 2)
    assert uniform.mean.shape == (7, 2, 4)
    assert VonMisesFisher(loc, 2.0).concentration.shape == (5, 3)


def test_the_uniform_law():
    areas = {2: 2 * math.pi, 3: 4 * math.pi, 4: 2 * math.pi**2}
    for dim, area in areas.items():
        uniform = HypersphericalUniform(dim, dtype=torch.float64)
        x = uniform.sample((50_000,), generator=generator())
        assert float(uniform.log_prob(x)[0]) == pytest.approx(-math.log(area))
        assert float(uniform.entropy()) == pytest.approx(math.log(area))
        assert chi2.sf(dim * len(x) * float(x.mean(0).square().sum()), dim) > 1e-3
        torch.testing.assert_close(dim * x.T @ x / len(x), torch.eye(dim, dtype=x.dtype), atol=0.03, rtol=0)


def test_mistakes_are_named():
    with pytest.raises(OptionError, match="dim: found 1, wanted a whole number ≥ 2"):
        HypersphericalUniform(1)
    with pytest.raises(OptionError, match=r"loc: found shape \(3, 1\), wanted \(\.\.\., m\) with m ≥ 2"):
        VonMisesFisher(torch.ones(3, 1), torch.ones(3))
    with pytest.raises(OptionError, match="dim: found 4, wanted 3"):
        kl_divergence(law(3, 1.0), HypersphericalUniform(4))
    with pytest.raises(ValueError, match="UnitVector"):
        VonMisesFisher(torch.ones(3), torch.tensor(1.0))
    with pytest.raises(ValueError, match="concentration"):
        VonMisesFisher(north(3), torch.tensor(-1.0))
    with pytest.raises(ValueError, match="UnitVector"):
        law(3, 1.0).log_prob(torch.ones(3, dtype=torch.float64))
