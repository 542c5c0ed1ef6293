"""What all adversarial models share: a generator of codes from a simple law, and samples of it."""

from typing import Annotated, Literal

import torch
from torch import Tensor

from bestiary.config import Ge
from bestiary.data.specs import ImageSpec, Spec
from bestiary.distributions.observation import at_least_float32
from bestiary.models.base import Critic, Model, Sampler
from bestiary.models.inputs import condition_vectors
from bestiary.models.noise import Draws, Noise
from bestiary.networks.coders import Conditioned

PriorName = Literal["uniform", "normal"]
Departures = Literal["none", "lucic"]
"""From the papers: none, or those of the code of "Are GANs Created Equal?" (Lucic et al., 2018)."""

_AT_ONCE = 512  # samples that are drawn at once


class AdversarialModel(Model, Sampler, Critic):
    """A generator G(z), and something that tells its samples from data.

    Arguments:
        spec: of images or points, with conditions or without.
        prior: of z, "uniform" on [−1, 1] or "normal".
        latent_dim: Z.
        batch_size: examples per update.
    """

    generator: Conditioned

    def __init__(
        self, spec: Spec, *, prior: PriorName, latent_dim: Annotated[int, Ge(1)], batch_size: int
    ) -> None:
        super().__init__(spec, batch_size=batch_size)
        self.prior: PriorName = prior
        self.latent_dim = latent_dim

    def codes(self, noise: Noise) -> Tensor:
        """z ~ p(z), shape (B, Z)."""
        if self.prior == "normal":
            return noise.normal(self.latent_dim)
        return 2 * noise.uniform(self.latent_dim) - 1

    def generate(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """G(z), shape (B, *spec.shape), for condition vectors (B, d) where there are any."""
        raw = at_least_float32(self.generator(z, condition))
        return torch.sigmoid(raw) if isinstance(self.spec, ImageSpec) else raw

    def vectors(self, condition: Tensor | None, n: int) -> Tensor | None:
        """Conditions of n examples as vectors (n, d), or None for a spec without."""
        return condition_vectors(self.spec, condition, n)

    def sample(
        self, n: int, *, condition: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """See `Sampler.sample`."""
        z, vectors = self.codes(Draws(self, n, generator)), self.vectors(condition, n)
        with self.evaluation():
            return torch.cat(
                [
                    self.generate(z[rows], None if vectors is None else vectors[rows])
                    for rows in torch.arange(n, device=z.device).split(_AT_ONCE)
                ]
            )
