"""`check_model` finds what it promises to find: models with one fault each."""

import numpy as np
import pytest
import torch

from bestiary.data.specs import ImageSpec
from bestiary.models.adversarial.gan import GAN
from bestiary.models.autoregressive.pixelcnn import PixelCNN
from bestiary.models.base import Move
from bestiary.models.latent.vae import VAE
from bestiary.testing import check_model

SPEC = ImageSpec(1, 8, 8, levels=4)


class Meddles(GAN):
    """The discriminator's move changes the generator."""

    def moves(self, clock):
        discriminator, generator = super().moves(clock)
        return [Move("discriminator", discriminator.cost, after=self.spoil), generator]

    def spoil(self):
        next(self.generator.parameters()).mul_(0.5)


class Seeds(VAE):
    """Sampling seeds torch for everybody."""

    def sample(self, n, *, condition=None, generator=None):
        torch.manual_seed(0)
        return super().sample(n, condition=condition, generator=generator)


class Guesses(VAE):
    """The bound is not that of the generator it is given."""

    def elbo(self, x, *, condition=None, generator=None):
        return super().elbo(x, condition=condition, generator=generator) + float(np.random.rand())


class KeepsGraphs(PixelCNN):
    """Likelihoods that cannot be thrown away."""

    def log_prob(self, x, *, condition=None):
        return self._log_prob(x, condition)


class Louder(VAE):
    """Samples are no images."""

    def sample(self, n, *, condition=None, generator=None):
        return 3 * super().sample(n, condition=condition, generator=generator)


class Idle(VAE):
    """Has weights that no cost reaches."""

    def __init__(self, spec, **settings):
        super().__init__(spec, **settings)
        self.unused = torch.nn.Linear(2, 2)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Meddles, "a move of the discriminator changes generator.* which is not its own"),
        (Seeds, "using the model touches torch's global random state"),
        (Guesses, r"elbo\(x\) differs for equal generators"),
        (KeepsGraphs, r"log_prob\(x\) keeps a graph for gradients"),
        (Louder, r"sample\(5\) leaves \[0, 1\]"),
        (Idle, "the model's cost gives no gradient to unused"),
    ],
    ids=lambda each: each.__name__ if isinstance(each, type) else "",
)
def test_a_fault_is_found_and_named(kind, message):
    with pytest.raises(AssertionError, match=f"{kind.__name__}: {message}"):
        check_model(kind, SPEC)
