"""The von Mises–Fisher law: a normal law's cousin on a sphere."""

import math
from collections.abc import Callable
from functools import cache
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution, constraints, register_kl
from torch.distributions.utils import lazy_property
from torch.nn import functional as F

from bestiary.distributions.bessel_ratio import SphereIntegrals, log_area, sphere_integrals, with_slope
from bestiary.distributions.hyperspherical_uniform import HypersphericalUniform, Shape, unit_vector
from bestiary.errors import OptionError
from bestiary.randomness import normal_like

_NODES = 32  # of the quadrature that an angle's derivative takes


class VonMisesFisher(Distribution):
    r"""Points on the unit sphere S^{m−1} of R^m about a mean direction μ, with concentration κ.

    .. math::
        p(x) = \frac{κ^{m/2−1}}{(2π)^{m/2} I_{m/2−1}(κ)} e^{κ μ^\top x}, \qquad
        E[x] = A(κ) μ, \quad A = \frac{I_{m/2}(κ)}{I_{m/2−1}(κ)}, \qquad
        KL(p \| \mathrm{uniform}) = κ A(κ) + \log \frac{2 π^{m/2}}{Γ(m/2)} p(μ) − κ

    κ = 0 is the uniform law; the circle is m = 2, where it is called von Mises. Values are unit vectors
    (..., m); `log_prob`, `entropy` and the registered KL to `HypersphericalUniform` are in nats, shape (...).
    Nothing leaves the tensors' device or type; values and gradients hold for κ from 0 to 1e5 and more, in
    float32 too.

    `rsample` draws the angle θ to μ by the rejection of Ulrich and Wood, in the form

        tan²(θ/2) = y = b χ²_{m−1}/χ²_{m−1},    b = (m−1)/(2κ + √(4κ² + (m−1)²)),
        accepted if (m−1)(τ − 1 − log τ) ≤ Exp(1),    τ = (1+b)(b+y)/(2b(1+y)),

    which has no difference of near numbers for large κ, and turns (cos θ, v sin θ), v uniform, to μ by a
    reflection. The gradient by κ is that of the angle's distribution function, ∂θ/∂κ = −(∂F/∂κ)/f(θ), by
    quadrature: exact, whichever proposal was accepted.

    References:
        *Hyperspherical Variational Auto-Encoders* (Davidson et al., 2018), arXiv 1804.00891, Algorithm 1, 2.
        *Simulation of the von Mises Fisher distribution* (Wood, 1994), Commun. Stat. Simul. Comput. 23(1).
        *Implicit Reparameterization Gradients* (Figurnov et al., 2018), arXiv 1805.08498.

    Departures from the paper: its gradient goes through the accepted proposal, and leaves the dependence of
    acceptance on κ to a correction term, which its published code drops (on the circle at κ = 1, that loses
    44 % of the slope of E cos θ); this gradient needs none. Instead of to μ, which is 0/0 at μ = e₁, the
    reflection takes e₁ to the farther of ±μ.

    Arguments:
        loc: μ, unit vectors (..., m), m ≥ 2.
        concentration: κ ≥ 0, (...) or (..., 1).

    Raises:
        OptionError: m is less than 2.
        ValueError: vectors that have not length one, or a negative κ, where arguments are validated.

    Example:
        >>> law = VonMisesFisher(torch.tensor([0.0, 0.0, 1.0]), torch.tensor(10.0))
        >>> law.mean_resultant_length
        tensor(0.9000)
    """

    arg_constraints = {"loc": unit_vector, "concentration": constraints.nonnegative}  # noqa: RUF012
    support = unit_vector
    has_rsample = True

    def __init__(
        self, loc: Tensor, concentration: Tensor | float, *, validate_args: bool | None = None
    ) -> None:
        concentration = torch.as_tensor(concentration, dtype=loc.dtype, device=loc.device)
        if loc.ndim == 0 or loc.shape[-1] < 2:
            raise OptionError(f"loc: found shape {tuple(loc.shape)}, wanted (..., m) with m ≥ 2")
        if concentration.ndim == loc.ndim and concentration.shape[-1] == 1:
            concentration = concentration[..., 0]
        batch_shape = torch.broadcast_shapes(loc.shape[:-1], concentration.shape)
        self.loc = loc.expand(*batch_shape, -1)
        self.concentration = concentration.expand(batch_shape)
        super().__init__(batch_shape, loc.shape[-1:], validate_args=validate_args)

    @property
    def dim(self) -> int:
        """m."""
        return int(self.event_shape[0])

    @lazy_property
    def _integrals(self) -> SphereIntegrals:
        return sphere_integrals(self.dim, self.concentration.detach())

    @property
    def mean_resultant_length(self) -> Tensor:
        """A(κ) = E[μᵀx], the length of the mean, shape (...)."""
        return with_slope(self._integrals.length, self.concentration, self._integrals.variance)

    @property
    def mean(self) -> Tensor:
        """A(κ) μ, inside the sphere, shape (..., m)."""
        return self.mean_resultant_length[..., None] * self.loc

    def expand(self, batch_shape: Shape, _instance: object = None) -> Self:
        """The same law with a batch shape that this one's broadcasts to."""
        kind = type(self)
        loc, concentration = self.loc.expand(*batch_shape, -1), self.concentration.expand(batch_shape)
        return kind(loc, concentration, validate_args=self._validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(x), nats, shape (...)."""
        if self._validate_args:
            self._validate_sample(value)
        height = with_slope(self._integrals.excess, self.concentration, self._integrals.shortfall)
        # κ(1 − μᵀx), which a large κ would make a difference of near numbers
        fall = self.concentration * (value - self.loc).square().sum(-1) / 2
        return height - fall - log_area(self.dim)

    def entropy(self) -> Tensor:
        """Log area of the sphere less the KL to the uniform law, nats, shape (...)."""
        return log_area(self.dim) - self._divergence

    @property
    def _divergence(self) -> Tensor:
        slope = self.concentration.detach() * self._integrals.variance
        return with_slope(self._integrals.divergence, self.concentration, slope)

    def rsample(
        self,
        sample_shape: Shape = (),
        *,
        generator: torch.Generator | None = None,
        noise: Callable[[int], Tensor] | None = None,
    ) -> Tensor:
        """Points ``(*sample_shape, ..., m)``, differentiable by both parameters.

        Arguments:
            sample_shape: of independent draws.
            generator: of the randomness.
            noise: brings it instead: `noise(k)` is k new standard normal numbers for every point, in rows
                (points, k). It is asked again until all points are accepted. `Step.normal` is one.
        """
        shape = self._extended_shape(torch.Size(sample_shape))
        kappa = self.concentration.detach().expand(shape[:-1]).flatten()

        def draw(points: Tensor, numbers: int) -> Tensor:
            if noise is not None:
                return noise(numbers).to(kappa)[points]
            return normal_like(kappa.new_empty(len(points), numbers), generator)

        with torch.no_grad():
            every = torch.arange(len(kappa), device=kappa.device)
            around = F.normalize(draw(every, self.dim - 1), dim=-1).view(*shape[:-1], -1)
            angle = _angles(kappa, self.dim, draw).view(shape[:-1])
        if self.concentration.requires_grad and torch.is_grad_enabled():
            slope = _angle_slope(angle, self.concentration.detach(), self.dim, self._integrals.shortfall)
            angle = with_slope(angle, self.concentration.expand(shape[:-1]), slope)
        angle = angle[..., None]
        return _turn(torch.cat([angle.cos(), angle.sin() * around], dim=-1), self.loc)

    def sample(
        self,
        sample_shape: Shape = (),
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """See `rsample`; without gradients."""
        with torch.no_grad():
            return self.rsample(sample_shape, generator=generator)


def _kl_to_uniform(p: VonMisesFisher, q: HypersphericalUniform) -> Tensor:
    if p.dim != q.dim:
        raise OptionError(f"dim: found {q.dim}, wanted {p.dim}, the dimension around the other law's sphere")
    divergence: Tensor = p._divergence
    return divergence.expand(torch.broadcast_shapes(p.batch_shape, q.batch_shape))


register_kl(VonMisesFisher, HypersphericalUniform)(_kl_to_uniform)


def _angles(kappa: Tensor, dim: int, draw: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Angles θ of the law's points to its mean direction, one for every κ (N,)."""
    degrees = dim - 1
    b = degrees / (2 * kappa + (4 * kappa.square() + degrees**2).sqrt())
    angles = torch.empty_like(kappa)
    pending = torch.arange(len(kappa), device=kappa.device)
    while len(pending):
        numbers = draw(pending, 2 * degrees + 2).square()
        above, below, exponential = (part.sum(-1) for part in numbers.split([degrees, degrees, 2], dim=-1))
        slope = b[pending]
        y = slope * above / below
        tau = (1 + slope) * (slope + y) / (2 * slope * (1 + y))
        # written so that a κ of nan is accepted at once, as nan
        accepted = ~(degrees * (tau - 1 - tau.log()) > exponential / 2)
        angles[pending[accepted]] = 2 * y[accepted].sqrt().atan()
        pending = pending[~accepted]
    return angles


def _angle_slope(angle: Tensor, kappa: Tensor, dim: int, shortfall: Tensor) -> Tensor:
    """∂θ/∂κ at a fixed quantile of the law of θ, whose density is f(θ) ∝ sin^{m−2} θ e^{κ cos θ}.

    −(∂F/∂κ)/f = ∫ (cos s − A) f(s)/f(θ) ds, from θ to π, or with the other sign from 0 to θ; of the two it
    is the one on which f falls away from θ, but for a little at first, cut where e^−36 of it is left.
    """
    power = dim - 2
    kappa, shortfall = kappa[..., None], shortfall[..., None]
    angle = angle[..., None]
    early = (power + 1) * angle.cos() >= kappa * angle.sin().square()
    reach = 12 / (kappa + power).sqrt()
    step = torch.where(early, -torch.minimum(reach, angle), torch.minimum(reach, math.pi - angle))
    nodes, weights = (torch.as_tensor(v, dtype=angle.dtype, device=angle.device) for v in _quadrature())
    s = angle + step * nodes  # (..., nodes)
    smallest = torch.finfo(angle.dtype).tiny
    log_sines = s.sin().clamp(min=smallest).log() - angle.sin().clamp(min=smallest).log()
    cosines = -2 * ((s + angle) / 2).sin() * (step * nodes / 2).sin()  # cos s − cos θ
    ratio = (power * log_sines + kappa * cosines).exp()
    centred = shortfall - 2 * (s / 2).sin().square()  # cos s − A
    return (step * weights * centred * ratio).sum(-1)


@cache
def _quadrature() -> tuple[np.ndarray, np.ndarray]:
    """Gauss and Legendre's nodes and weights on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return (nodes + 1) / 2, weights / 2


def _turn(x: Tensor, loc: Tensor) -> Tensor:
    """Points x (..., m), turned by the reflection that takes e₁ to −μ, then by −1, or for μ₁ < 0 to μ."""
    first = loc[..., :1]
    sign = torch.where(first < 0, -1.0, 1.0).to(x)
    normal = torch.cat([first + sign, loc[..., 1:]], dim=-1)  # of squared length 2 + 2|μ₁|
    return sign * (normal * (normal * x).sum(-1, keepdim=True) / (1 + first.abs()) - x)
