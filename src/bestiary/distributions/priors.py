"""Priors p(z) of codes: the standard normal, and learned ones that can meet the aggregate posterior.

References: *VAE with a VampPrior* (Tomczak & Welling, 2018), arXiv 1705.07120, whose Table 1 compares the
first three. Shapes: z (…, Z); log-densities are nats, (…).
"""

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bestiary.distributions.flows import NSF
from bestiary.distributions.gaussian import gaussian_log_prob, gaussian_log_prob_pairs
from bestiary.distributions.posteriors import Posterior
from bestiary.randomness import choose, normal_like

PriorName = Literal["standard", "mixture", "vampprior", "flow"]


class Prior(nn.Module):
    """One law of codes."""

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z), (…)."""

    @abstractmethod
    def draw(self, n: int, generator: torch.Generator | None) -> Tensor:
        """z ~ p(z), (n, Z)."""


class StandardNormal(Prior):
    """N(0, I)."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self._latent_dim = latent_dim
        self._device = nn.Buffer(torch.empty(0), persistent=False)  # knows device and type, and nothing else

    def log_prob(self, z: Tensor) -> Tensor:
        """See `Prior.log_prob`."""
        return gaussian_log_prob(z)

    def draw(self, n: int, generator: torch.Generator | None) -> Tensor:
        """See `Prior.draw`."""
        return normal_like(self._device.new_empty(n, self._latent_dim), generator)


class NormalMixture(Prior):
    """Σ_k π_k N(μ_k, σ_k²), everything learned; starts as narrow normals spread over the standard one."""

    def __init__(self, latent_dim: int, components: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(components))
        self.mean = nn.Parameter(torch.randn(components, latent_dim))
        self.log_sigma = nn.Parameter(torch.full((components, latent_dim), math.log(0.5)))

    def log_prob(self, z: Tensor) -> Tensor:
        """See `Prior.log_prob`."""
        of_each = gaussian_log_prob_pairs(z.flatten(0, -2), self.mean, self.log_sigma)  # (K, …)
        mixed: Tensor = (
            (of_each + F.log_softmax(self.logits, 0)[:, None]).logsumexp(0).unflatten(0, z.shape[:-1])
        )
        return mixed

    def draw(self, n: int, generator: torch.Generator | None) -> Tensor:
        """See `Prior.draw`."""
        chosen = choose(self.logits.softmax(0), n, generator)
        mean = self.mean[chosen]
        return mean + self.log_sigma[chosen].exp() * normal_like(mean, generator)


class VampPrior(Prior):
    """1/K Σ_k q(z|u_k): the posteriors of K learned pseudo-examples u_k.

    References: Tomczak & Welling 2018, eq. 9; as in the authors' code, pseudo-images are kept in [0, 1] by
    a hard clip, which has a gradient inside only.

    Arguments:
        posterior: q(z|·) of the model, of examples of shape (K, \\*shape).
        shape: of one example.
        components: K.
        bounded: whether examples lie in [0, 1], as images do.
    """

    def __init__(
        self,
        posterior: Callable[[Tensor], Posterior],
        *,
        latent_dim: int,
        shape: tuple[int, ...],
        components: int,
        bounded: bool,
    ) -> None:
        super().__init__()
        self._posterior, self._bounded, self._latent_dim = posterior, bounded, latent_dim
        start = 0.5 + 0.01 * torch.randn(components, *shape) if bounded else torch.randn(components, *shape)
        self.pseudo_examples = nn.Parameter(start)

    def examples(self) -> Tensor:
        """u_1 … u_K, (K, *shape)."""
        return self.pseudo_examples.clamp(0, 1) if self._bounded else self.pseudo_examples

    def log_prob(self, z: Tensor) -> Tensor:
        """See `Prior.log_prob`."""
        of_each = self._posterior(self.examples()).log_prob(z.flatten(0, -2)[None])  # (K, …)
        mixed: Tensor = (of_each.logsumexp(0) - math.log(len(of_each))).unflatten(0, z.shape[:-1])
        return mixed

    def draw(self, n: int, generator: torch.Generator | None) -> Tensor:
        """See `Prior.draw`."""
        chosen = choose(self.pseudo_examples.new_ones(len(self.pseudo_examples)), n, generator)
        like = self.pseudo_examples.new_empty(n, 1, self._latent_dim)
        return self._posterior(self.examples()[chosen]).draw(normal_like(like, generator))[0][:, 0]


class FlowPrior(Prior):
    """A neural spline flow (Durkan et al., 2019, arXiv 1906.04032) over the standard normal, by zuko."""

    def __init__(self, latent_dim: int, *, steps: int = 3, hidden: int = 64) -> None:
        super().__init__()
        self._latent_dim = latent_dim
        self.flow = NSF(latent_dim, transforms=steps, hidden_features=(hidden, hidden))

    def log_prob(self, z: Tensor) -> Tensor:
        """See `Prior.log_prob`."""
        found: Tensor = self.flow().log_prob(z)
        return found

    def draw(self, n: int, generator: torch.Generator | None) -> Tensor:
        """See `Prior.draw`; as many passes through each network as there are dimensions."""
        like = next(self.flow.parameters()).new_empty(n, self._latent_dim)
        z: Tensor = self.flow().transform.inv(normal_like(like, generator))
        return z
