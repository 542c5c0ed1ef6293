"""Approximate posteriors q(z|x): what an encoder's raw output says about the code of an example.

A head is made once for a model and turns raw outputs (B, `outputs`) into a `Posterior`. Draws are made of
noise that the caller brings, so that they can be differentiated, repeated and shared out. Shapes: B
examples, P particles, Z latent dimensions; log-densities are nats.
"""

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn

from bestiary.distributions.flows import MaskedAutoregressiveTransform
from bestiary.distributions.gaussian import gaussian_kl, gaussian_log_prob, gaussian_log_prob_pairs
from bestiary.distributions.observation import at_least_float32

PosteriorName = Literal["diagonal", "full", "flow"]

_SMALLEST, _LARGEST = -10.0, 5.0  # log σ


class Posterior(ABC):
    """q(z|x) of B examples.

    Attributes:
        mean: E[z|x], (B, Z).
    """

    mean: Tensor

    @abstractmethod
    def draw(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """z (B, P, Z) made of standard normal noise (B, P, Z), and log q(z|x), (B, P)."""

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """log q(z|x) of given codes (B, P, Z) or (1, P, Z), (B, P)."""

    def kl(self) -> Tensor | None:
        """KL(q(z|x) ‖ N(0, I)) of each example, (B,), where there is a closed form; else None."""
        return None


class DiagonalNormal(Posterior):
    """N(μ, σ²) with independent dimensions.

    Arguments:
        mean: μ, (B, Z).
        log_sigma: log σ, (B, Z).
    """

    def __init__(self, mean: Tensor, log_sigma: Tensor) -> None:
        self.mean, self.log_sigma = mean, log_sigma

    def draw(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """z = μ + σ ⊙ ε; Kingma & Welling 2014 (arXiv 1312.6114), eq. 10."""
        z = self.mean[:, None] + self.log_sigma.exp()[:, None] * noise
        return z, gaussian_log_prob(noise) - self.log_sigma.sum(1, keepdim=True)

    def log_prob(self, z: Tensor) -> Tensor:
        """See `Posterior.log_prob`."""
        if len(z) == 1:
            return gaussian_log_prob_pairs(z[0], self.mean, self.log_sigma)
        return gaussian_log_prob(z, self.mean[:, None], self.log_sigma[:, None])

    def kl(self) -> Tensor:
        """Kingma & Welling 2014, appendix B."""
        return gaussian_kl(self.mean, self.log_sigma)

    def kl_to(self, other: "DiagonalNormal") -> Tensor:
        """KL(N(μ, σ²) ‖ N(μ', σ'²)) of each example, (B,): that of both, scaled, to the standard normal."""
        mean = (self.mean - other.mean) * (-other.log_sigma).exp()
        return gaussian_kl(mean, self.log_sigma - other.log_sigma)


class FullNormal(Posterior):
    """N(μ, LLᵀ) with a lower triangular L.

    Arguments:
        mean: μ, (B, Z).
        scale: L, (B, Z, Z), with positive diagonal.
    """

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        self.mean, self.scale = mean, scale

    @property
    def _log_volume(self) -> Tensor:
        return self.scale.diagonal(dim1=1, dim2=2).log().sum(1)

    def draw(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """z = μ + Lε."""
        z = self.mean[:, None] + noise @ self.scale.mT
        return z, gaussian_log_prob(noise) - self._log_volume[:, None]

    def log_prob(self, z: Tensor) -> Tensor:
        """See `Posterior.log_prob`."""
        centred = (z - self.mean[:, None]).mT
        noise = torch.linalg.solve_triangular(self.scale, centred, upper=False).mT
        return gaussian_log_prob(noise) - self._log_volume[:, None]

    def kl(self) -> Tensor:
        """½ (‖L‖² + ‖μ‖² − Z) − log det L."""
        squares = self.scale.square().sum((1, 2)) + self.mean.square().sum(1)
        return 0.5 * (squares - self.mean.shape[1]) - self._log_volume


class Flowed(Posterior):
    """The law of t_T ∘ … ∘ t_1 (z₀) with z₀ ~ N(μ, σ²): density by the change of variables.

    `mean` is where the flow takes μ, since its own mean has no closed form.

    Arguments:
        base: of z₀.
        flow: t_1 … t_T.
        context: what the encoder tells the flow, (B, H).
    """

    def __init__(self, base: DiagonalNormal, flow: "Flow", context: Tensor) -> None:
        self._base, self._flow, self._context = base, flow, context
        self.mean = flow(base.mean[:, None], context)[0][:, 0]

    def draw(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """See `Posterior.draw`."""
        start, log_q = self._base.draw(noise)
        z, log_volume = self._flow(start, self._context)
        return z, log_q - log_volume

    def log_prob(self, z: Tensor) -> Tensor:
        """See `Posterior.log_prob`; as many passes through each network as there are dimensions."""
        start, log_volume = self._flow.inverse(z.expand(len(self._context), -1, -1), self._context)
        return self._base.log_prob(start) + log_volume


class Flow(nn.Module):
    """Autoregressive affine maps with their orders turned about, quick from noise to codes.

    References: *Improved Variational Inference with Inverse Autoregressive Flow* (Kingma et al., 2016),
    arXiv 1606.04934; the maps are zuko's.

    Arguments:
        latent_dim: Z.
        context: numbers that the encoder tells each map.
        steps: T.
        hidden: units of the two layers of each map's network.
    """

    def __init__(self, latent_dim: int, *, context: int, steps: int, hidden: int) -> None:
        super().__init__()
        order = torch.arange(latent_dim)
        self.steps = nn.ModuleList(
            MaskedAutoregressiveTransform(
                latent_dim,
                context,
                order=order if step % 2 == 0 else order.flip(0),
                hidden_features=(hidden, hidden),
            )
            for step in range(steps)
        )

    def forward(self, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Codes (B, P, Z) and contexts (B, H) → codes (B, P, Z) and log |det| of the map, (B, P)."""
        total = z.new_zeros(z.shape[:-1])
        for step in self.steps:
            z, log_volume = step(context[:, None]).call_and_ladj(z)
            total = total + log_volume
        return z, total

    def inverse(self, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """The way back, and log |det| of the way back."""
        total = z.new_zeros(z.shape[:-1])
        for step in reversed(list(self.steps)):
            z, log_volume = step(context[:, None]).inv.call_and_ladj(z)
            total = total + log_volume
        return z, total


class PosteriorHead(nn.Module):
    """Raw outputs of an encoder → `Posterior`.

    Arguments:
        name: "diagonal", "full" or "flow".
        latent_dim: Z.
        steps, hidden: of the flow.

    Attributes:
        outputs: raw numbers that it wants for an example.
    """

    def __init__(self, name: PosteriorName, latent_dim: int, *, steps: int = 2, hidden: int = 64) -> None:
        super().__init__()
        self.name, self.latent_dim = name, latent_dim
        below = latent_dim * (latent_dim - 1) // 2
        extra = {"diagonal": 0, "full": below, "flow": hidden}[name]
        self.outputs = 2 * latent_dim + extra
        if name == "full":
            rows, columns = torch.tril_indices(latent_dim, latent_dim, -1)
            self.register_buffer("_below", rows * latent_dim + columns, persistent=False)
        if name == "flow":
            self.flow = Flow(latent_dim, context=hidden, steps=steps, hidden=hidden)

    def forward(self, raw: Tensor) -> Posterior:
        """q(z|x) of raw outputs (B, `outputs`)."""
        raw = at_least_float32(raw)
        mean, log_sigma, extra = raw.split(
            [self.latent_dim, self.latent_dim, self.outputs - 2 * self.latent_dim], dim=1
        )
        base = DiagonalNormal(mean, log_sigma.clamp(_SMALLEST, _LARGEST))
        if self.name == "flow":
            return Flowed(base, self.flow, extra)
        if self.name == "full":
            flat = torch.zeros(len(raw), self.latent_dim**2, dtype=raw.dtype, device=raw.device)
            below = flat.index_copy(1, self.get_buffer("_below"), extra)
            scale = below.unflatten(1, (self.latent_dim, self.latent_dim))
            return FullNormal(mean, scale + torch.diag_embed(base.log_sigma.exp()))
        return base
