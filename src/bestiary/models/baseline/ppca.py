"""Probabilistic principal component analysis: the model that every other must beat."""

import math
from typing import Annotated, Self

import torch
from torch import Tensor

from bestiary.config import Ge
from bestiary.data.specs import Spec
from bestiary.data.splits import Data, Split, split_to_fit
from bestiary.errors import DataError, OptionError
from bestiary.models.base import Encoder
from bestiary.models.baseline.dequantised import ClosedFormDensity

_CHUNK = 4096


class PPCA(ClosedFormDensity, Encoder):
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
        super().__init__(spec, name="ppca")
        if latent_dim >= spec.dimensions:
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

    def fit(self, data: Split | Data, *, generator: torch.Generator | None = None) -> None:
        """Solve for μ, W and σ² (eqs. 7 and 8).

        Raises:
            DataError: fewer than two examples, or examples that do not vary.
        """
        data = split_to_fit(data)
        if len(data) < 2:
            raise DataError(f"data: found {len(data)} training examples, ppca wants at least 2")
        count, total = 0, torch.zeros_like(self.mean)
        square = torch.zeros(len(total), len(total), dtype=torch.float64, device=total.device)
        for batch in data.batches(_CHUNK):
            x = self._continuous(batch.x.to(total.device))
            count, total = count + len(x), total + x.sum(0)
            square += x.T @ x
        mean = total / count
        covariance = square / count - torch.outer(mean, mean) + self.dither * torch.eye(len(mean)).to(mean)
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

    def _log_density(self, y: Tensor, *, spread: float) -> Tensor:
        # E over independent errors of variance `spread` adds ½·spread·tr C⁻¹; in the eigenbasis C is diagonal
        centred = y - self.mean
        scores = centred @ self.components
        rest = (centred.square().sum(1) - scores.square().sum(1)).clamp_min(0)
        others = len(self.mean) - self.latent_dim
        squared = (scores.square() / self.eigenvalues).sum(1) + rest / self.noise
        trace = (1 / self.eigenvalues).sum() + others / self.noise
        log_determinant = self.eigenvalues.log().sum() + others * self.noise.log()
        return -0.5 * (squared + spread * trace + log_determinant + len(self.mean) * math.log(2 * math.pi))
