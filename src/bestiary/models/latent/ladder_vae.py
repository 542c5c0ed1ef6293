"""The ladder VAE: a hierarchy of codes whose posteriors share the generative way down."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam

from bestiary.config import Ge, Gt, Search
from bestiary.data.specs import Spec
from bestiary.distributions.gaussian import gaussian_log_prob
from bestiary.distributions.observation import ObservationName, Treatment, at_least_float32, observation
from bestiary.errors import OptionError
from bestiary.models.base import Player
from bestiary.models.inputs import check_codes, check_values, condition_dim
from bestiary.models.latent.base import Epochs, Terms, VariationalModel
from bestiary.models.noise import Draws, Noise

_SMALLEST = 1e-9  # σ²: softplus underflows
_ROWS = 512  # codes that are decoded at once


class Rung(nn.Module):
    """Two fully connected layers with batch norm and leaky rectifiers, and a normal on top of them.

    (B, inputs) → features (B, hidden), μ = Linear(d) and log σ of σ² = Softplus(Linear(d)) (B, latent_dim).
    """

    def __init__(self, inputs: int, hidden: int, latent_dim: int) -> None:
        super().__init__()
        self.features = features(inputs, hidden)
        self.mean = nn.Linear(hidden, latent_dim)
        self.variance = nn.Linear(hidden, latent_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See the class."""
        d = self.features(x)
        variance = F.softplus(at_least_float32(self.variance(d))) + _SMALLEST
        return d, at_least_float32(self.mean(d)), 0.5 * variance.log()


def features(inputs: int, hidden: int) -> nn.Sequential:
    """The two layers of a rung."""
    return nn.Sequential(
        nn.Linear(inputs, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.LeakyReLU(0.1),
        nn.Linear(hidden, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.LeakyReLU(0.1),
    )


class LadderVAE(VariationalModel):
    r"""p(z_L) Π p(z_i|z_{i+1}) p(x|z_1), with a posterior that goes down the same ladder:

    .. math::
        d_i = MLP(d_{i-1}), \quad \hat{\mu}_i = Linear(d_i), \quad \hat{\sigma}_i^2 = Softplus(Linear(d_i)),
        \quad \mu_{p,i}, \sigma_{p,i}^2 = \text{the same of } MLP(z_{i+1}),

    .. math::
        \sigma_{q,i}^{-2} = \hat{\sigma}_i^{-2} + \sigma_{p,i}^{-2}, \quad
        \mu_{q,i} = \sigma_{q,i}^2 (\hat{\mu}_i \hat{\sigma}_i^{-2} + \mu_{p,i} \sigma_{p,i}^{-2}),

    with d_0 = x, and q(z_L|x) = N(μ̂_L, σ̂_L²). The weight of the divergence rises from 0 to 1 while it warms
    up, without which the upper codes are switched off before they are of use.

    `encode` gives the posterior mean of the top, z_L; `decode` draws the mean of everything below it. Shapes:
    x (B, \*spec.shape), z_i (B, Z_i), bounds in nats (B,).

    References:
        *Ladder Variational Autoencoders* (Sønderby et al., 2016), arXiv 1602.02282: eq. 13-19, five
        layers of 64-32-16-8-4 codes over mlps of 512-256-128-64-32 units with leaky rectifiers, batch norm,
        warm-up over 200 epochs, minibatches of 256.

    Departures: none is known; the learning rate of 1e-3 is the paper's, the authors' example has 2e-4.

    Arguments:
        spec: images or points.
        latent_dims: Z_1 … Z_L, from the bottom up.
        hidden: units of both layers of each rung's mlp, from the bottom up.
        likelihood: p(x|z_1); "auto" is bernoulli for binary images, discretised_logistic for grey and
            colour images, gaussian for points.
        warmup: epochs over which the weight of the divergence rises from 0 to 1.
        draw_noise: whether `sample` draws from p(x|z_1); otherwise it shows the mean of it, as papers do.
        learning_rate: Adam's.
        batch_size: examples per update.

    Raises:
        OptionError: different numbers of latent_dims and hidden.

    Example:
        >>> model = LadderVAE(ImageSpec(1, 28, 28, levels=2))
        >>> model.encode(torch.rand(3, 1, 28, 28).round()).shape
        torch.Size([3, 4])
    """

    def __init__(
        self,
        spec: Spec,
        *,
        latent_dims: Sequence[Annotated[int, Ge(1)]] = (64, 32, 16, 8, 4),
        hidden: Sequence[Annotated[int, Ge(1)]] = (512, 256, 128, 64, 32),
        likelihood: Literal["auto"] | ObservationName = "auto",
        warmup: Epochs = 200.0,
        draw_noise: bool = False,
        learning_rate: Annotated[float, Gt(0), Search(1e-5, 1e-2, log=True)] = 1e-3,
        batch_size: Annotated[int, Ge(2)] = 256,
    ) -> None:
        super().__init__(spec, warmup=warmup, batch_size=batch_size)
        if len(latent_dims) != len(hidden) or not hidden:
            raise OptionError(
                f"hidden: found {list(hidden)} for latent_dims={list(latent_dims)}, wanted one number of"
                " units for each layer of codes"
            )
        self.draw_noise = draw_noise
        self.observation = observation(likelihood, spec)
        self.latent_dims = tuple(latent_dims)
        c = condition_dim(spec)
        below = [spec.dimensions + c, *hidden]
        self.up = nn.ModuleList(map(Rung, below, hidden, latent_dims))
        above = [z + c for z in latent_dims]
        self.down = nn.ModuleList(map(Rung, above[1:], hidden, latent_dims))  # p(z_i|z_{i+1}), i = 1 … L−1
        self.decoder = nn.Sequential(
            features(above[0], hidden[0]),
            nn.Linear(hidden[0], self.observation.outputs * spec.dimensions),
            nn.Unflatten(1, (self.observation.outputs * spec.shape[0], *spec.shape[1:])),
        )
        self._optimizer = partial(Adam, lr=learning_rate, fused=True)

    @classmethod
    def tiny(cls, spec: Spec) -> Self:
        """Two layers of codes."""
        settings: dict[str, Any] = {"latent_dims": (3, 2), "hidden": (16, 8), "warmup": 0.0}
        return cls(spec, batch_size=8, **settings)

    @property
    def treatment(self) -> Treatment:
        """That of p(x|z_1)."""
        return self.observation.treatment

    def players(self) -> Mapping[str, Player]:
        """One player: both ways climb the same bound."""
        return {"model": Player(list(self.parameters()), self._optimizer)}

    def terms(
        self, x: Tensor, noise: Noise, *, particles: int, condition: Tensor | None, sampled: bool
    ) -> Terms:
        """See `VariationalModel.terms`; the divergence is that of the draws (the paper's too)."""
        evidence = [
            tuple(t.repeat_interleave(particles, 0) for t in rung) for rung in self._climb(x, condition)
        ]
        if condition is not None:
            condition = condition.repeat_interleave(particles, 0)
        top_mean, top_log_sigma = evidence[-1]
        draws = noise.normal(particles, sum(self.latent_dims)).flatten(0, 1).to(top_mean)
        *lower, epsilon = draws.split(self.latent_dims, dim=1)
        z = top_mean + top_log_sigma.exp() * epsilon
        divergence = gaussian_log_prob(z, top_mean, top_log_sigma) - gaussian_log_prob(z)
        for (mean, log_sigma), rung, epsilon in zip(
            reversed(evidence[:-1]), reversed(self.down), reversed(lower), strict=True
        ):
            _, prior_mean, prior_log_sigma = rung(_with(z, condition))
            mean, log_sigma = merge(mean, log_sigma, prior_mean, prior_log_sigma)
            z = mean + log_sigma.exp() * epsilon
            divergence = divergence + (
                gaussian_log_prob(z, mean, log_sigma) - gaussian_log_prob(z, prior_mean, prior_log_sigma)
            )
        reconstruction = self.observation.log_prob(
            self.decoder(_with(z, condition)), x.repeat_interleave(particles, 0)
        )
        rows = (-1, particles)
        return Terms(reconstruction.unflatten(0, rows), divergence.unflatten(0, rows))

    def sample(
        self, n: int, *, condition: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """See `Sampler.sample`."""
        with self.evaluation():
            context, draws = self.context(condition, n), Draws(self, n, generator)
            *lower, z = draws.normal(sum(self.latent_dims)).split(self.latent_dims, dim=1)
            raw = self._descend(z, context, lower)
            return self.observation.draw(raw, generator) if self.draw_noise else self.observation.mean(raw)

    def encode(self, x: Tensor, *, condition: Tensor | None = None) -> Tensor:
        """See `Encoder.encode`: the posterior mean of the top layer."""
        check_values(self.spec, x)
        with self.evaluation():
            return self._climb(x, self.context(condition, len(x)))[-1][0]

    def decode(self, z: Tensor, *, condition: Tensor | None = None) -> Tensor:
        """See `Encoder.decode`: the top's codes (B, Z_L), and the mean of every layer below."""
        check_codes(z, self.latent_dims[-1])
        with self.evaluation():
            context = self.context(condition, len(z))
            parts = [None] * len(z) if context is None else context.split(_ROWS)
            return torch.cat(
                [
                    self.observation.mean(self._descend(rows, part, None))
                    for rows, part in zip(z.split(_ROWS), parts, strict=False)
                ]
            )

    def _climb(self, x: Tensor, condition: Tensor | None) -> list[tuple[Tensor, Tensor]]:
        """μ̂_i and log σ̂_i of every layer, from the bottom up."""
        d, evidence = _with(x.flatten(1), condition), []
        for rung in self.up:
            d, mean, log_sigma = rung(d)
            evidence.append((mean, log_sigma))
        return evidence

    def _descend(self, z: Tensor, condition: Tensor | None, noise: Sequence[Tensor] | None) -> Tensor:
        """Raw output for codes of the top; the layers below are drawn, or their means without noise."""
        for layer in reversed(range(len(self.down))):
            _, mean, log_sigma = self.down[layer](_with(z, condition))
            z = mean if noise is None else mean + log_sigma.exp() * noise[layer]
        raw: Tensor = self.decoder(_with(z, condition))
        return raw


def merge(
    mean: Tensor, log_sigma: Tensor, prior_mean: Tensor, prior_log_sigma: Tensor
) -> tuple[Tensor, Tensor]:
    """μ and log σ of two normals weighted by their precisions; Sønderby et al. 2016, eq. 17-18."""
    precision, prior_precision = (-2 * log_sigma).exp(), (-2 * prior_log_sigma).exp()
    total = precision + prior_precision
    return (mean * precision + prior_mean * prior_precision) / total, -0.5 * total.log()


def _with(x: Tensor, condition: Tensor | None) -> Tensor:
    return x if condition is None else torch.cat([x, condition], dim=1)
