"""Densities in closed form, and what they say of images of L levels: dequantised bounds."""

import math
from abc import abstractmethod

import torch
from torch import Tensor

from bestiary.config import check_count
from bestiary.data.specs import ImageSpec, Spec
from bestiary.distributions.observation import Treatment, from_continuous
from bestiary.models.base import ClosedForm, LikelihoodBound, Sampler
from bestiary.models.inputs import check_values, continuous_spec
from bestiary.objectives.bounds import importance_weighted_bound

_CHUNK = 4096  # examples at a time


class ClosedFormDensity(ClosedForm, Sampler, LikelihoodBound):
    """A density p(y) of flattened examples y (B, D), float64: points as they are, images as y = (k + u)/L.

    u ~ U[0, 1) is independent for every sub-pixel, so that y of a known image is its middle (k + ½)/L plus
    errors of variance 1/(12L²), the `dither`. A subclass gives `_log_density` and makes its samples public
    by `_public`.
    """

    def __init__(self, spec: Spec, *, name: str) -> None:
        super().__init__(spec, batch_size=_CHUNK)
        continuous_spec(spec, name)
        self.levels = spec.levels if isinstance(spec, ImageSpec) else None
        self.dither = 0.0 if self.levels is None else 1 / (12 * self.levels**2)

    @property
    def treatment(self) -> Treatment:
        """Density for points, dequantised for images."""
        return "density" if self.levels is None else "dequantised"

    def log_density(self, x: Tensor) -> Tensor:
        """log p of points x on [0, 1]^D or R^D themselves, nats, shape (B, \\*spec.shape) → (B,)."""
        return self._log_density(x.flatten(1).double(), spread=0.0).to(x.dtype)

    def elbo(
        self, x: Tensor, *, condition: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """The dequantised bound, its expectation over u in closed form; for points the exact log-density."""
        check_values(self.spec, x)
        return (self._log_density(self._continuous(x), spread=self.dither) - self._log_volume()).to(x.dtype)

    def log_prob_bound(
        self,
        x: Tensor,
        *,
        particles: int,
        condition: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """log 1/P Σ_p p((k + u_p)/L) − D·log L: importance-weighted dequantisation (Ho et al., 2019)."""
        check_values(self.spec, x)
        check_count("particles", particles, least=1)
        if self.levels is None:
            return self.elbo(x)
        middle = self._continuous(x)
        log_weights = []
        for _ in range(particles):
            u = self.uniform(*middle.shape, generator=generator).double()
            log_weights.append(self._log_density(middle + (u - 0.5) / self.levels, spread=0.0))
        return (importance_weighted_bound(torch.stack(log_weights)) - self._log_volume()).to(x.dtype)

    @abstractmethod
    def _log_density(self, y: Tensor, *, spread: float) -> Tensor:
        """A lower bound on E log p(y + e), e independent errors of variance `spread`; exact where that is 0.

        Shapes: y (B, D), float64; the result (B,).
        """

    def _continuous(self, x: Tensor) -> Tensor:
        """Examples x as y (B, D), float64: images as the middles of their levels."""
        x = x.flatten(1).double()
        return x if self.levels is None else (x * (self.levels - 1) + 0.5) / self.levels

    def _public(self, y: Tensor) -> Tensor:
        """Values y (n, D) as examples (n, \\*spec.shape); images are clipped to [0, 1]."""
        if self.levels is not None:
            y = from_continuous(y, self.levels)
        return y.reshape(-1, *self.spec.shape).float()

    def _log_volume(self) -> float:
        return 0.0 if self.levels is None else self.spec.dimensions * math.log(self.levels)
