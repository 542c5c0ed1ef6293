"""A game whose generator stays as it is: what a discriminator, or a critic, learns of two known laws."""

import torch

from bestiary.data.specs import PointSpec
from bestiary.data.splits import Batch, EndlessSplit
from bestiary.models.adversarial.gan import GAN
from bestiary.randomness import forked_randomness
from bestiary.training.budget import parse_budget
from bestiary.training.loop import Training
from bestiary.training.runtime import choose_runtime


class FixedLaw(GAN):
    """A GAN whose samples are `law(z)`, and whose only move is the discriminator's."""

    law = None

    def generate(self, z, condition=None):
        return self.law(z)

    def moves(self, clock):
        return super().moves(clock)[:1]


def discriminator(real, fake, *, dim, rounds, seed, **settings):
    """A trained one, of laws that are functions of standard normal codes (B, dim)."""

    def draw(n, generator):
        return Batch(real(torch.randn(n, dim, generator=generator)))

    with forked_randomness(seed):
        model = FixedLaw(PointSpec(dim), prior="normal", latent_dim=dim, **settings)
    model.law = fake
    training = Training(
        model,
        EndlessSplit(draw),
        budget=parse_budget(f"{rounds} rounds"),
        seed=seed,
        runtime=choose_runtime(model, device="cpu", precision="float32"),
    )
    training.run()
    return model
