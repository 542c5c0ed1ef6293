"""Observation models p(x|z): what a decoder's raw output says about an example.

Each class turns raw outputs of shape (B, outputs·C, H, W), or (B, outputs·D) for points, into a
distribution over x of shape (B, C, H, W) or (B, D), factorised over dimensions. Log-likelihoods are nats
per example, shape (B,).
"""

import math
from abc import ABC, abstractmethod
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from bestiary.data.specs import ImageSpec, PointSpec, Spec
from bestiary.errors import OptionError
from bestiary.randomness import normal_like, uniform_like

ObservationName = Literal["bernoulli", "discretised_logistic", "gaussian"]
Treatment = Literal["mass", "dequantised", "density", "grey Bernoulli"]

# Smallest log-scale: as in PixelCNN++ (Salimans et al., 2017), whose pixels are on [−1, 1] instead.
_SMALLEST_LOG_SCALE = -7.0 - math.log(2)


def at_least_float32(x: Tensor) -> Tensor:
    """Undo bfloat16 autocast, in which logarithms of small numbers are lost; float64 stays."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def from_continuous(y: Tensor, levels: int) -> Tensor:
    """Images in [0, 1] from dequantised ones: y = (k + ½)/L is x = k/(L−1)."""
    return ((y * levels - 0.5) / (levels - 1)).clamp(0, 1)


class Observation(ABC):
    """One family of p(x|z).

    Attributes:
        outputs: raw numbers that it wants for every dimension of x.
        treatment: what its likelihood is a likelihood of (see `models.base`).
    """

    outputs: int
    treatment: Treatment

    def log_prob(self, raw: Tensor, x: Tensor, *, where: Tensor | None = None) -> Tensor:
        """log p(x|z), nats, shape (B,); with `where`, a bool tensor that broadcasts to x, of these alone."""
        of_each = self.log_probs(raw, x)
        return (of_each if where is None else of_each * where).flatten(1).sum(1)

    @abstractmethod
    def log_probs(self, raw: Tensor, x: Tensor) -> Tensor:
        """log p(x_i|z) of every dimension i, nats, the shape of x."""

    @abstractmethod
    def mean(self, raw: Tensor) -> Tensor:
        """E[x|z], the shape of x; images in [0, 1]."""

    @abstractmethod
    def draw(self, raw: Tensor, generator: torch.Generator | None) -> Tensor:
        """x ~ p(x|z)."""


class Bernoulli(Observation):
    """p(x=1) = σ(raw): a likelihood of binary images; on grey levels a formula without meaning."""

    outputs = 1

    def __init__(self, levels: int) -> None:
        self.treatment = "mass" if levels == 2 else "grey Bernoulli"

    def log_probs(self, raw: Tensor, x: Tensor) -> Tensor:
        """x·log σ(raw) + (1−x)·log(1 − σ(raw))."""
        return -F.binary_cross_entropy_with_logits(at_least_float32(raw), x, reduction="none")

    def mean(self, raw: Tensor) -> Tensor:
        """σ(raw)."""
        return raw.sigmoid()

    def draw(self, raw: Tensor, generator: torch.Generator | None) -> Tensor:
        """Binary pixels."""
        probability = self.mean(raw)
        return (uniform_like(probability, generator) < probability).to(probability)


class DiscretisedLogistic(Observation):
    """The mass that a logistic density with mean μ and scale s puts on each of L levels.

    P(k) = σ((x + δ/2 − μ)/s) − σ((x − δ/2 − μ)/s) with x = k/(L−1) and δ = 1/(L−1); the first and the
    last level take the tails, so that the masses sum to one (Salimans et al., 2017, arXiv 1701.05517,
    eq. 2, for one component).
    """

    outputs = 2
    treatment = "mass"

    def __init__(self, levels: int) -> None:
        self._levels = levels
        self._delta = 1 / (levels - 1)

    def _parameters(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        location, log_scale = at_least_float32(raw).chunk(2, dim=1)
        return location.sigmoid(), log_scale.clamp(_SMALLEST_LOG_SCALE, 5.0)

    def log_probs(self, raw: Tensor, x: Tensor) -> Tensor:
        """Exact at any scale: σ(b) − σ(a) = σ(b)·σ(−a)·(1 − e^{a−b}), whose logarithm never cancels."""
        mu, log_scale = self._parameters(raw)
        inverse = (-log_scale).exp()
        upper = (x + self._delta / 2 - mu) * inverse
        lower = (x - self._delta / 2 - mu) * inverse
        log_upper = F.logsigmoid(upper)  # log σ(b): all there is for level 0
        log_lower = F.logsigmoid(-lower)  # log(1 − σ(a)): all there is for level L−1
        width = torch.log(-torch.expm1(-self._delta * inverse))  # log(1 − e^{a−b})
        first, last = x < self._delta / 2, x > 1 - self._delta / 2
        inside = log_upper + log_lower + width
        return torch.where(first, log_upper, torch.where(last, log_lower, inside))

    def mean(self, raw: Tensor) -> Tensor:
        """μ, the mean of the undiscretised logistic."""
        return self._parameters(raw)[0]

    def draw(self, raw: Tensor, generator: torch.Generator | None) -> Tensor:
        """A logistic draw, rounded to the nearest level and clipped: exactly the masses of `log_prob`."""
        mu, log_scale = self._parameters(raw)
        u = uniform_like(mu, generator).clamp(1e-7, 1 - 1e-7)
        x = mu + log_scale.exp() * torch.logit(u)
        return (x.clamp(0, 1) * (self._levels - 1)).round() / (self._levels - 1)


class Gaussian(Observation):
    """N(y; μ, σ²), σ of the decoder too or a constant: of points y = x, of images y = (k + u)/L.

    Images are their levels k = x·(L−1) made continuous by uniform u in [0, 1), so that the likelihood is a
    dequantised bound; what is shown of them is turned back, x = (yL − ½)/(L−1).
    """

    def __init__(self, levels: int | None, sigma: float | None = None) -> None:
        self._levels = levels
        self.outputs = 2 if sigma is None else 1
        self._log_sigma = None if sigma is None else math.log(sigma)
        self.treatment = "density" if levels is None else "dequantised"

    def _parameters(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        mu, *rest = at_least_float32(raw).chunk(self.outputs, dim=1)
        if self._log_sigma is None:
            log_sigma = rest[0].clamp(-6.0, 5.0)
        else:
            log_sigma = torch.full_like(mu, self._log_sigma)
        return (mu if self._levels is None else mu.sigmoid()), log_sigma

    def log_probs(self, raw: Tensor, x: Tensor) -> Tensor:
        """log N(x; μ, σ²); for images E_u log p((k+u)/L) − D·log L, whose expectation is exact."""
        mu, log_sigma = self._parameters(raw)
        precision = (-2 * log_sigma).exp()
        if self._levels is None:
            squares, offset = (x - mu).square(), 0.0
        else:
            middle = (x * (self._levels - 1) + 0.5) / self._levels
            squares = (middle - mu).square() + 1 / (12 * self._levels**2)
            offset = math.log(self._levels)
        return -0.5 * squares * precision - log_sigma - 0.5 * math.log(2 * math.pi) - offset

    def mean(self, raw: Tensor) -> Tensor:
        """μ, as an example."""
        return self._shown(self._parameters(raw)[0])

    def draw(self, raw: Tensor, generator: torch.Generator | None) -> Tensor:
        """μ + σε, as an example."""
        mu, log_sigma = self._parameters(raw)
        return self._shown(mu + log_sigma.exp() * normal_like(mu, generator))

    def _shown(self, y: Tensor) -> Tensor:
        return y if self._levels is None else from_continuous(y, self._levels)


def observation(
    name: Literal["auto", "bernoulli", "discretised_logistic", "gaussian"],
    spec: Spec,
    *,
    sigma: float | None = None,
) -> Observation:
    """The observation model for some data; "auto" takes the one whose likelihood has a meaning there.

    Arguments:
        name: of the family.
        spec: of the data.
        sigma: deviation of a gaussian, or None for one that is an output.

    Raises:
        OptionError: a likelihood of images for points, or of any numbers for sequences; a deviation for
            another family than gaussian.
    """
    if isinstance(spec, PointSpec):
        if name not in ("auto", "gaussian"):
            raise OptionError(f"likelihood: found {name!r}, but the data are points, wanted 'gaussian'")
        return Gaussian(None, sigma)
    if not isinstance(spec, ImageSpec):
        raise OptionError(f"likelihood: found data of {type(spec).__name__}, wanted images or points")
    if name == "auto":
        name = "bernoulli" if spec.levels == 2 else "discretised_logistic"
    if sigma is not None and name != "gaussian":
        raise OptionError(
            f"sigma: found {sigma} for likelihood={name}, wanted it with likelihood=gaussian only"
        )
    if name == "bernoulli":
        return Bernoulli(spec.levels)
    return (
        DiscretisedLogistic(spec.levels) if name == "discretised_logistic" else Gaussian(spec.levels, sigma)
    )
