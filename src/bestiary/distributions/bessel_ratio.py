"""Integrals of e^{κ cos θ} over the sphere, which are Bessel functions and ratios of them.

On the unit sphere of R^m let ν = m/2 − 1 and Φ(κ) = log E e^{κ x₁} of uniform points x, so that

    Φ = log Γ(ν+1) (2/κ)^ν I_ν(κ),    Φ′ = A = I_{ν+1}(κ) / I_ν(κ),    Φ″ = A′ = 1 − A² − (m−1) A/κ.

These textbook forms overflow or cancel. Here every order below `_START` is reached from one at or above it,
downwards, the direction in which errors shrink; and from there up Debye's expansion holds for all κ alike.
All of it is written in sums without cancellation, so that float32 does at κ = 1e5 what it does at κ = 1.

References: *NIST Digital Library of Mathematical Functions*, §10.29 (recurrence) and §10.41(ii) (Debye's
expansion, here of the ratio and through the differential equation of the ratio).
"""

import math
from functools import cache
from typing import Any, NamedTuple

import torch
from numpy.polynomial import Polynomial
from torch import Tensor
from torch.autograd.function import once_differentiable

_START, _TERMS = 10, 10  # together they keep all of `SphereIntegrals` within 1e-9 of the truth


class SphereIntegrals(NamedTuple):
    """What there is to know about the von Mises–Fisher law of one concentration κ; all of κ's shape.

    Attributes:
        length: A(κ), the mean of cos θ, where θ is the angle to the mean direction.
        shortfall: 1 − A(κ).
        excess: κ − Φ(κ), the log-density at θ = 0 relative to the uniform one, nats.
        divergence: κ A(κ) − Φ(κ), the KL to the uniform law, nats.
        variance: A′(κ), the variance of cos θ.
    """

    length: Tensor
    shortfall: Tensor
    excess: Tensor
    divergence: Tensor
    variance: Tensor


def log_area(dim: int) -> float:
    """log of 2π^{m/2}/Γ(m/2), the area of the unit sphere of R^m."""
    return math.log(2) + dim / 2 * math.log(math.pi) - math.lgamma(dim / 2)


def with_slope(value: Tensor, kappa: Tensor, slope: Tensor) -> Tensor:
    """`value`, as a function of κ with the derivative `slope`; it can be differentiated once."""
    found: Tensor = _WithSlope.apply(value, kappa, slope)  # type: ignore[no-untyped-call]
    return found


class _WithSlope(torch.autograd.Function):
    """See `with_slope`."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, kappa: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(slope)
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, None]:
        (slope,) = ctx.saved_tensors
        return None, gradient * slope, None


@torch.no_grad()
def sphere_integrals(dim: int, kappa: Tensor) -> SphereIntegrals:
    """A, 1 − A, κ − Φ, κA − Φ and A′ of κ ≥ 0 on the unit sphere of R^m, m ≥ 2; numbers without a graph.

    Debye's expansion at the order ν′ = ν + steps, and the recurrences from there down to ν. With h = κA,
    t = κ(1 − A) and n = 2(order + 1), one order follows from the next by

        Φ ← Φ + log(1 + h/n),   t ← κ (n − t)/(n + h),   A′ ← (n − κ²A′)/(n + h)²,   h ← κ²/(n + h).
    """
    order = dim / 2 - 1
    steps = max(0, math.ceil(_START - order))
    top = order + steps
    square = kappa.square()
    z = kappa / top
    w = (1 + z.square()).sqrt()
    p = 1 / w
    rise = z.square() / (1 + w)  # w − 1
    series, slope, integral = _series(top, p)
    h = square / top * (1 / (1 + w) + p * series)
    t = kappa * ((1 + 1 / (w + z)) / (1 + w) - z * p * series)
    variance = p.square() / top * (1 / (1 + p) + p * series - (z * p).square() * slope)
    # Φ − ν′(w − 1): what Φ and κ − Φ have in common
    common = rise * p * integral - top * (rise / 2).log1p() - rise.log1p() / 2
    for step in reversed(range(steps)):
        n = 2 * (order + step + 1)
        below = n + h
        common = common + (h / n).log1p()
        t = kappa * (n - t) / below
        variance = (n - square * variance) / below.square()
        h = square / below
    excess = top * (1 - 1 / (z + w)) - common
    divergence = torch.where(kappa < dim, h - top * rise - common, excess - t)
    # A = h/κ is 0/0 at κ = 0, where A = κ A′ is as good; 1 − A is t/κ where it is small
    length = torch.where(kappa < 1e-6, kappa * variance, h / kappa.clamp(min=1e-6))
    shortfall = torch.where(kappa < 1, 1 - length, t / kappa.clamp(min=1))
    return SphereIntegrals(length, shortfall, excess, divergence, variance)


def _series(top: float, p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """P(p) = Σ_k P_k(p) ν^−k, P′(p), and ∫_p^1 ν (P(q) − P_1(q)/ν)/q² dq / (1 − p), of p in (0, 1]."""
    coefficients = torch.tensor(_coefficients(top), dtype=p.dtype, device=p.device)  # (3, powers)
    powers = p[..., None] ** torch.arange(coefficients.shape[1], device=p.device)
    series, slope, integral = (powers[..., None, :] * coefficients).sum(-1).unbind(-1)
    return series, slope, integral


@cache
def _coefficients(top: float) -> list[list[float]]:
    """Of the three polynomials in p of `_series`, lowest power first, all of one length."""
    total = sum((term / top**k for k, term in enumerate(_debye(), start=1)), Polynomial([0.0]))
    integral = (top * Polynomial((total - _debye()[0] / top).coef[2:])).integ()
    shared = (integral(1) - integral) // Polynomial([1.0, -1.0])
    length = len(total.coef)
    return [
        [*polynomial.coef.tolist(), *[0.0] * (length - len(polynomial.coef))]
        for polynomial in (total, total.deriv(), shared)
    ]


@cache
def _debye() -> list[Polynomial]:
    r"""P_1, …, P_K of A = z/(1+w) + z p Σ_k P_k(p) ν^−k, where z = κ/ν, w = √(1+z²) and p = 1/w.

    I′_ν/I_ν = A + ν/κ = (w/z) Y, and Bessel's equation says Y² = 1 − (1−p²)(pY − p²Y′)/ν; so that with
    Y = 1 + (1−p²) Σ_k P_k ν^−k each P_k follows from those before it.
    """
    p, inside = Polynomial([0.0, 1.0]), Polynomial([1.0, 0.0, -1.0])
    terms = [-p / 2]
    while len(terms) < _TERMS:
        last = inside * terms[-1]
        products = sum((a * b for a, b in zip(terms, reversed(terms), strict=True)), Polynomial([0.0]))
        terms.append((p**2 * last.deriv() - p * last - inside * products) / 2)
    return terms
