"""Probabilistic principal component analysis: the model that every other must beat."""

import math
from typing import Annotated, Self

import torch
from torch import Tensor

from bestiary.config import Ge
from bestiary.data.specs import ImageSpec, PointSpec, Spec
from bestiary.data.splits import Split
from bestiary.distributions.observation import Treatment
from bestiary.errors import DataError, OptionError
from bestiary.models.base import ClosedForm, Encoder, LikelihoodBound, Sampler
from bestiary.objectives.bounds import importance_weighted_bound

_CHUNK = 4096


class PPCA(ClosedForm, Sampler, LikelihoodBound, Encoder):
    r"""x = W z + μ + σ ε with z ~ N(0, I) and ε ~ N(0, I), fitted by maximum likelihood in closed form:

    .. math::
        W = U (\Lambda - \sigma^2 I)^{1/2}, \qquad \sigma^2 = \frac{1}{D - Z} \sum_{j > Z} \lambda_j

    with the Z largest eigenvalues Λ and eigenvectors U of the data's covariance.

    Shapes and units: x (B, \*spec.shape), images in [0, 1]; z (B, Z); log-likelihoods in nats, (B,).
    An image of L levels is read as (k + u)/L, u ~ U[0, 1): its likelihood is a dequantised bound, whose
    expectation over u is exact here, in the fit too.

    References:
        *Probabilistic Principal Component Analysis* (Tipping & Bishop, 1999), eqs. 3–8.

    Departures: samples of images are clipped to [0, 1].

    Arguments:
        spec: images or points.
        latent_dim: Z, fewer than the dimensions of the data.

    Example:
        >>> model = PPCA(PointSpec(3), latent_dim=1)
        >>> model.sample(5).shape
        torch.Size([5, 3])
    """

    mean: Tensor
    components: Tensor
    eigenvalues: Tensor
    noise: Tensor

    def __init__(self, spec: Spec, *, latent_dim: Annotated[int, Ge(1)] = 32) -> None:
        super().__init__(spec, batch_size=_CHUNK)
        if not isinstance(spec, ImageSpec | PointSpec):
            raise DataError(f"spec: ppca wants images or points, found {type(spec).__name__}")
        if latent_dim >= spec.dimensions:
            most = spec.dimensions
            most = spec.dimensions - 1
            raise OptionError(f"latent_dim: found {latent_dim}, wanted at most {most} for these data")
        self.latent_dim = latent_dim
        # float64: the covariance of images is nearly singular
        self.register_buffer("mean", torch.zeros(spec.dimensions, dtype=torch.float64))
        self.register_buffer("components", torch.eye(spec.dimensions, latent_dim, dtype=torch.float64))
        self.register_buffer("eigenvalues", torch.ones(latent_dim, dtype=torch.float64))
        self.register_buffer("noise", torch.ones((), dtype=torch.float64))

    @classmethod
    def tiny(cls, spec: Spec) -> Self:
        """One component."""
        return cls(spec, latent_dim=1)

    @property
    def parameter_count(self) -> int:
        """Entries of μ, W and σ²."""
        return self.mean.numel() + self.components.numel() + 1

    @property
    def treatment(self) -> Treatment:
        """Density for points, dequantised for images."""
        return "density" if isinstance(self.spec, PointSpec) else "dequantised"

    def fit(self, data: Split, *, generator: torch.Generator | None = None) -> None:
        """Solve for μ, W and σ² (eqs. 7 and 8).

        Raises:
            DataError: fewer than two examples, or examples that do not vary.
        """
        if len(data) < 2:
            raise DataError(f"data: found {len(data)} training examples, ppca wants at least 2")
        count, total = 0, torch.zeros_like(self.mean)
        square = torch.zeros(len(total), len(total), dtype=torch.float64, device=total.device)
        for batch in data.batches(_CHUNK):
            x = self._continuous(batch.x.to(total.device))
            count, total = count + len(x), total + x.sum(0)
            square += x.T @ x
        mean = total / count
        covariance = square / count - torch.outer(mean, mean) + self._dither() * torch.eye(len(mean)).to(mean)
        values, vectors = torch.linalg.eigh(covariance)
        values, vectors = values.flip(0), vectors.flip(1)
        noise = values[self.latent_dim :].mean()
        if not noise > 0:
            raise DataError(
                "data: the examples lie in fewer dimensions than ppca's latent_dim, wanted a smaller one"
            )
        self.mean.copy_(mean)
        self.components.copy_(vectors[:, : self.latent_dim])
        self.eigenvalues.copy_(values[: self.latent_dim])
        self.noise.copy_(noise)

    def log_density(self, x: Tensor) -> Tensor:
        """log N(x; μ, WWᵀ + σ²I) of points x on [0, 1]^D or R^D, nats, shape (B, \\*spec.shape) → (B,)."""
        return self._log_density(x.flatten(1).double(), spread=0.0).to(x.dtype)

    def elbo(
        self, x: Tensor, *, condition: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """The dequantised bound, its expectation over u exact; for points the exact log-density."""
        bound = self._log_density(self._continuous(x), spread=self._dither()) - self._log_volume()
        return bound.to(x.dtype)

    def log_prob_bound(
        self,
        x: Tensor,
        *,
        particles: int,
        condition: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """log 1/P Σ_p p((k + u_p)/L) − D·log L: importance-weighted dequantisation (Ho et al., 2019)."""
        if self.treatment == "density":
            return self.elbo(x)
        levels = image_levels(self.spec)
        corner = (x.flatten(1).double() * (levels - 1)).round()
        log_weights = []
        for _ in range(particles):
            u = self.uniform(*corner.shape, generator=generator).double()
            log_weights.append(self._log_density((corner + u) / levels, spread=0.0) - self._log_volume())
        return importance_weighted_bound(torch.stack(log_weights)).to(x.dtype)

    def sample(
        self, n: int, *, condition: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """See `Sampler.sample`."""
        z = self.normal(n, self.latent_dim, generator=generator).double()
        noise = self.normal(n, len(self.mean), generator=generator).double()
        return self._public(self._project(z) + self.noise.sqrt() * noise)

    def encode(self, x: Tensor, *, condition: Tensor | None = None) -> Tensor:
        """E[z|x] = (WᵀW + σ²I)⁻¹ Wᵀ(x − μ), shape (B, Z)."""
        scores = (self._continuous(x) - self.mean) @ self.components
        return (scores * self._scales() / self.eigenvalues).to(x.dtype)

    def decode(self, z: Tensor, *, condition: Tensor | None = None) -> Tensor:
        """W z + μ, shape (B, *spec.shape)."""
        return self._public(self._project(z.double()))

    def _scales(self) -> Tensor:
        return (self.eigenvalues - self.noise).clamp_min(0).sqrt()

    def _project(self, z: Tensor) -> Tensor:
        return self.mean + (z * self._scales()) @ self.components.T

    def _log_density(self, x: Tensor, *, spread: float) -> Tensor:
        # E over independent errors of variance `spread` adds ½·spread·tr C⁻¹; in the eigenbasis C is diagonal
        centred = x - self.mean
        scores = centred @ self.components
        rest = (centred.square().sum(1) - scores.square().sum(1)).clamp_min(0)
        others = len(self.mean) - self.latent_dim
        squared = (scores.square() / self.eigenvalues).sum(1) + rest / self.noise
        trace = (1 / self.eigenvalues).sum() + others / self.noise
        log_determinant = self.eigenvalues.log().sum() + others * self.noise.log()
        return -0.5 * (squared + spread * trace + log_determinant + len(self.mean) * math.log(2 * math.pi))

    def _continuous(self, x: Tensor) -> Tensor:
        if isinstance(self.spec, PointSpec):
            return x.flatten(1).double()
        levels = image_levels(self.spec)
        return (x.flatten(1).double() * (levels - 1) + 0.5) / levels

    def _public(self, x: Tensor) -> Tensor:
        if isinstance(self.spec, PointSpec):
            return x.float()
        levels = image_levels(self.spec)
        image = ((x * levels - 0.5) / (levels - 1)).clamp(0, 1)
        return image.reshape(-1, *self.spec.shape).float()

    def _dither(self) -> float:
        return 0.0 if isinstance(self.spec, PointSpec) else 1 / (12 * image_levels(self.spec) ** 2)

    def _log_volume(self) -> float:
        if isinstance(self.spec, PointSpec):
            return 0.0
        return self.spec.dimensions * math.log(image_levels(self.spec))


def image_levels(spec: Spec) -> int:
    """L of an image spec."""
    assert isinstance(spec, ImageSpec)
    return spec.levels
