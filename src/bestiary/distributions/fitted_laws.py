"""Laws of codes that are fitted once the codes are there. Shapes as in `priors`."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bestiary.distributions.gaussian import gaussian_log_prob
from bestiary.distributions.priors import Prior
from bestiary.randomness import choose, normal_like

_SMALLEST = 1e-6  # deviation that is no rounding error, beside the largest


class Standardised(Prior):
    """The law of centre + spread ⊙ u: u ~ a law that is fitted to standardised codes.

    Arguments:
        law: of u.
        latent_dim: Z.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, law: Prior, latent_dim: int) -> None:
        super().__init__()
        self.law = law
        self.centre = nn.Buffer(torch.zeros(latent_dim))
        self.spread = nn.Buffer(torch.ones(latent_dim))

    def standardise(self, codes: Tensor) -> Tensor:
        """Take centre and spread from codes (n, Z), and return them standardised."""
        spread, centre = torch.std_mean(codes, dim=0)
        spread = torch.where(spread > _SMALLEST * spread.max(), spread, 1)  # a number that never changes
        self.centre.copy_(centre)
        self.spread.copy_(spread)
        return (codes - centre) / spread

    def log_prob(self, z: Tensor) -> Tensor:
        """See `Prior.log_prob`."""
        return self.law.log_prob((z - self.centre) / self.spread) - self.spread.log().sum()

    def draw(self, n: int, generator: torch.Generator | None) -> Tensor:
        """See `Prior.draw`."""
        return self.centre + self.spread * self.law.draw(n, generator)


class FullNormalMixture(Prior):
    """Σ_k π_k N(μ_k, L_k L_kᵀ), N(0, I) until it is filled; its numbers are buffers.

    Arguments:
        latent_dim: Z.
        components: K.
    """

    weights: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(self, latent_dim: int, components: int) -> None:
        super().__init__()
        self.weights = nn.Buffer(torch.full((components,), 1 / components))
        self.mean = nn.Buffer(torch.zeros(components, latent_dim))
        self.scale = nn.Buffer(torch.eye(latent_dim).repeat(components, 1, 1))

    def fill(self, weights: Tensor, mean: Tensor, covariance: Tensor) -> None:
        """Take π (K,), μ (K, Z) and Σ (K, Z, Z)."""
        self.weights.copy_(weights)
        self.mean.copy_(mean)
        self.scale.copy_(torch.linalg.cholesky(covariance))

    def log_prob(self, z: Tensor) -> Tensor:
        """See `Prior.log_prob`."""
        centred = z.reshape(-1, z.shape[-1]) - self.mean[:, None]  # (K, n, Z)
        noise = torch.linalg.solve_triangular(self.scale, centred.mT, upper=False).mT
        log_volume = self.scale.diagonal(dim1=1, dim2=2).log().sum(1)
        of_each = gaussian_log_prob(noise) - log_volume[:, None] + self.weights.log()[:, None]
        return of_each.logsumexp(0).view(z.shape[:-1])

    def draw(self, n: int, generator: torch.Generator | None) -> Tensor:
        """See `Prior.draw`."""
        chosen = choose(self.weights, n, generator)
        noise = normal_like(self.mean.new_empty(n, self.mean.shape[1]), generator)
        counts = F.one_hot(chosen, len(self.weights)).bool()
        z = torch.empty_like(noise)
        for mean, scale, own in zip(self.mean, self.scale, counts.T, strict=True):
            z[own] = mean + noise[own] @ scale.mT
        return z
