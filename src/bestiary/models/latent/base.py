"""What all variational models share: one bound, read as a cost, as an ELBO and with many particles."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from bestiary.config import Ge, check_count
from bestiary.data.specs import Spec
from bestiary.distributions.observation import Observation, Treatment
from bestiary.models.base import (
    Clock,
    Encoder,
    LatentLikelihood,
    LikelihoodBound,
    Model,
    Move,
    Sampler,
    Step,
)
from bestiary.models.inputs import check_codes, check_examples, condition_vectors, on_levels
from bestiary.models.noise import Draws, Noise
from bestiary.objectives.bounds import importance_weighted_bound

KLName = Literal["auto", "analytic", "sampled"]
Epochs = Annotated[float, Ge(0)]

_ROWS = 4096  # codes that are weighed at once
_SHOWN = 512  # codes that are decoded at once for pictures


@dataclass(frozen=True)
class Terms:
    """The two terms of the bound, nats.

    Attributes:
        reconstruction: log p(x|z_p), (B, P).
        divergence: log q(z_p|x) − log p(z_p), (B, P); or KL(q(z|x) ‖ p(z)) in closed form, (B, 1).
    """

    reconstruction: Tensor
    divergence: Tensor

    @property
    def log_weights(self) -> Tensor:
        """log p(x, z_p) − log q(z_p|x), (B, P)."""
        return self.reconstruction - self.divergence


class VariationalModel(Model, Sampler, LikelihoodBound, Encoder):
    """A decoder and an encoder that climb one bound together.

    Arguments:
        spec: what one example is.
        warmup: epochs over which the divergence's weight rises from 0 to 1.
        batch_size: examples per update.
    """

    def __init__(self, spec: Spec, *, warmup: float, batch_size: int) -> None:
        super().__init__(spec, batch_size=batch_size)
        self._warmup = warmup

    @abstractmethod
    def terms(
        self, x: Tensor, noise: Noise, *, particles: int, condition: Tensor | None, sampled: bool
    ) -> Terms:
        """The terms of the bound for P codes of each example.

        Arguments:
            x: (B, *spec.shape).
            noise: for B examples.
            particles: P.
            condition: vectors (B, d), or None.
            sampled: whether the divergence must be that of the draws, also where there is a closed form.
        """

    @property
    def code_variance(self) -> float:
        """Variance of each number that `encode` gives, were its codes spread as widely as the prior's."""
        return 1.0

    def moves(self, clock: Clock) -> Sequence[Move]:
        """Kingma & Welling 2014, Algorithm 1."""
        return [Move("model", self.cost)]

    def cost(self, step: Step) -> Mapping[str, Tensor]:
        """The negative bound, with the divergence weighted by the warm-up."""
        terms = self.terms(
            step.x, step, particles=1, condition=self.context(step.condition, len(step.x)), sampled=False
        )
        reconstruction, kl = terms.reconstruction.mean(), terms.divergence.mean()
        loss = self.penalty(kl, step.clock) - reconstruction
        return {"loss": loss, "reconstruction": reconstruction, "kl": kl}

    def penalty(self, kl: Tensor, clock: Clock) -> Tensor:
        """What the mean divergence costs at this time of training."""
        return self.warmth(clock) * kl

    def warmth(self, clock: Clock) -> float:
        """Weight of the divergence: the share of the warm-up that is over, 1 after it."""
        return min(1.0, clock.epochs / self._warmup) if self._warmup else 1.0

    def context(self, condition: Tensor | None, n: int) -> Tensor | None:
        """Conditions as vectors (n, d), checked; None without any."""
        return condition_vectors(self.spec, condition, n, next(self.parameters()).dtype)

    def elbo(
        self, x: Tensor, *, condition: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """See `LikelihoodBound.elbo`; one code an example, the KL in closed form where there is one.

        Images are rounded to the nearest of their levels.
        """
        x = on_levels(self.spec, x)
        with self.evaluation():
            context, noise = self.context(condition, len(x)), Draws(self, len(x), generator)
            return self.terms(x, noise, particles=1, condition=context, sampled=False).log_weights[:, 0]

    def log_prob_bound(
        self,
        x: Tensor,
        *,
        particles: int,
        condition: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """See `LikelihoodBound.log_prob_bound`."""
        x = on_levels(self.spec, x)
        check_count("particles", particles, least=1)
        with self.evaluation():
            context, noise = self.context(condition, len(x)), Draws(self, len(x), generator)
            at_once = max(1, _ROWS // max(1, len(x)))
            log_weights = [
                self.terms(
                    x, noise, particles=min(at_once, particles - done), condition=context, sampled=True
                ).log_weights
                for done in range(0, particles, at_once)
            ]
            return importance_weighted_bound(torch.cat(log_weights, dim=1).mT)


class DecoderModel(VariationalModel, LatentLikelihood):
    """One layer of codes and one decoder.

    Attributes:
        latent_dim: Z.
        decoder: codes (B, Z) and condition vectors → raw outputs.
        observation: what these say of x.
        draw_noise: whether `sample` draws from p(x|z); otherwise it shows the mean of it.
    """

    decoder: nn.Module
    observation: Observation
    draw_noise: bool

    @property
    def treatment(self) -> Treatment:
        """That of p(x|z)."""
        return self.observation.treatment

    def raw(self, z: Tensor, condition: Tensor | None) -> Tensor:
        """The decoder's raw outputs for codes (B, Z) and condition vectors (B, d)."""
        raw: Tensor = self.decoder(z, condition)
        return raw

    def log_likelihood(self, z: Tensor, x: Tensor, *, condition: Tensor | None = None) -> Tensor:
        """See `LatentLikelihood.log_likelihood`."""
        check_examples(self.spec, x)
        check_codes(z, self.latent_dim, len(x))
        return self.observation.log_prob(self.raw(z, self.context(condition, len(x))), x)

    def log_likelihoods(
        self, z: Tensor, x: Tensor, condition: Tensor | None, *, where: Tensor | None = None
    ) -> Tensor:
        """log p(x|z_p) of codes (B, P, Z), (B, P); of the dimensions `where` alone (see `Observation`)."""
        particles = z.shape[1]
        if particles > 1:
            x = x.repeat_interleave(particles, 0)
            condition = None if condition is None else condition.repeat_interleave(particles, 0)
            where = None if where is None else where.repeat_interleave(particles, 0)
        raw = self.raw(z.flatten(0, 1), condition)
        return self.observation.log_prob(raw, x, where=where).view(-1, particles)

    def sample(
        self, n: int, *, condition: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """See `Sampler.sample`."""
        check_count("n", n)
        z = self.draw_codes(n, condition=condition, generator=generator)
        if not self.draw_noise:
            return self.decode(z, condition=condition)
        with self.evaluation():
            return torch.cat([self.observation.draw(raw, generator) for raw in self._decoded(z, condition)])

    def decode(self, z: Tensor, *, condition: Tensor | None = None) -> Tensor:
        """See `Encoder.decode`."""
        check_codes(z, self.latent_dim)
        with self.evaluation():
            return torch.cat([self.observation.mean(raw) for raw in self._decoded(z, condition)])

    def _decoded(self, z: Tensor, condition: Tensor | None) -> list[Tensor]:
        context, codes = self.context(condition, len(z)), z.split(_SHOWN)
        parts = [None] * len(codes) if context is None else context.split(_SHOWN)
        return [self.raw(rows, part) for rows, part in zip(codes, parts, strict=True)]
