"""Two players, one game: the adversarial models that differ only in their costs."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Literal, Self

import torch
from torch import Tensor, nn
from torch.optim import Adam

from bestiary.config import Ge, Gt, Le, Lt, Search
from bestiary.data.specs import ImageSpec, PointSpec, Spec
from bestiary.distributions.observation import at_least_float32
from bestiary.errors import DataError
from bestiary.models.base import Clock, Critic, Model, Move, Player, Sampler, Step
from bestiary.networks import infogan
from bestiary.networks.mlp import mlp
from bestiary.objectives.games import GAMES, GameName


class GAN(Model, Sampler, Critic):
    r"""A generator G(z) and a discriminator D(x) that play a game, by default the non-saturating one.

    .. math::
        J_D = -E_x \log D(x) - E_z \log(1 - D(G(z))), \qquad J_G = -E_z \log D(G(z))

    Shapes and units: x (B, \*spec.shape), images in [0, 1]; z (B, Z) uniform on [−1, 1]; D's raw output
    (B,), a logit. The costs are in nats.

    References:
        *Generative Adversarial Networks* (Goodfellow et al., 2014), arXiv 1406.2661: the games.
        *Are GANs Created Equal?* (Lucic et al., 2018), arXiv 1711.10337: networks, prior, batch size and
        default settings, with batch norm's details from the authors' code.

    Departures: none in the game. The networks are those of the second paper, since the first one's
    maxout networks and momentum schedule serve no comparison today.

    Arguments:
        spec: images whose sides are divisible by 4, or points.
        game: which costs; each is defined in `bestiary.objectives.games`.
        network: "infogan" (images), "mlp" (anything), or "auto": infogan for images, mlp for points.
        latent_dim: Z.
        channels: width of the infogan networks; the paper's 64 has 64–128 channels and 1,024 units.
        hidden: units of the mlp networks.
        batch_norm: batch norm in the infogan discriminator.
        batch_norm_decay: of batch norm's moving averages, which samples are drawn with.
        learning_rate, beta1, beta2: Adam, for both players.
        discriminator_updates: of the discriminator in each round, to one of the generator.
        batch_size: examples per update.
        ema_half_life: of an average of the generator's weights, in examples; none by default.

    Example:
        >>> model = GAN(ImageSpec(1, 28, 28), channels=8)
        >>> model.sample(4).shape
        torch.Size([4, 1, 28, 28])
    """

    def __init__(
        self,
        spec: Spec,
        *,
        game: GameName = "non_saturating",
        network: Literal["auto", "infogan", "mlp"] = "auto",
        latent_dim: Annotated[int, Ge(1)] = 64,
        channels: Annotated[int, Ge(1)] = 64,
        hidden: Sequence[Annotated[int, Ge(1)]] = (128, 128),
        batch_norm: bool = True,
        batch_norm_decay: Annotated[float, Ge(0), Lt(1)] = 0.999,
        learning_rate: Annotated[float, Gt(0), Search(1e-5, 1e-2, log=True)] = 5e-5,
        beta1: Annotated[float, Ge(0), Lt(1), Search(0, 1)] = 0.0,
        beta2: Annotated[float, Gt(0), Lt(1)] = 0.999,
        discriminator_updates: Annotated[int, Ge(1), Le(1000)] = 1,
        batch_size: Annotated[int, Ge(2)] = 64,
        ema_half_life: Annotated[float, Gt(0)] | None = None,
    ) -> None:
        super().__init__(spec, batch_size=batch_size)
        self.game = GAMES[game]
        self.latent_dim = latent_dim
        self.discriminator_updates = discriminator_updates
        self._optimizer = partial(Adam, lr=learning_rate, betas=(beta1, beta2), fused=True)
        self._ema = ema_half_life
        self.generator: nn.Module
        self.discriminator: nn.Module
        if network == "infogan" or (network == "auto" and isinstance(spec, ImageSpec)):
            if not isinstance(spec, ImageSpec):
                raise DataError(
                    f"network: infogan is for images, found {type(spec).__name__}, use network=mlp"
                )
            self.generator = infogan.generator(
                spec, latent_dim=latent_dim, channels=channels, batch_norm_decay=batch_norm_decay
            )
            self.discriminator = infogan.discriminator(
                spec, channels=channels, batch_norm=batch_norm, batch_norm_decay=batch_norm_decay
            )
        elif isinstance(spec, ImageSpec | PointSpec):
            self.generator = mlp(latent_dim, hidden, spec.shape)
            self.discriminator = mlp(spec.dimensions, hidden, 1)
        else:
            raise DataError(f"spec: a GAN wants images or points, found {type(spec).__name__}")

    @classmethod
    def tiny(cls, spec: Spec) -> Self:
        """A few thousand weights."""
        return cls(spec, latent_dim=4, channels=4, hidden=(16,), batch_size=8)

    def players(self) -> Mapping[str, Player]:
        """Discriminator and generator, each with its Adam."""
        return {
            "discriminator": Player(list(self.discriminator.parameters()), self._optimizer),
            "generator": Player(list(self.generator.parameters()), self._optimizer, ema=self._ema),
        }

    def moves(self, clock: Clock) -> Sequence[Move]:
        """Goodfellow et al. 2014, Algorithm 1."""
        return [
            Move("discriminator", self.discriminator_cost, times=self.discriminator_updates),
            Move("generator", self.generator_cost, batch="none"),
        ]

    def discriminator_cost(self, step: Step) -> dict[str, Tensor]:
        """J_D; real and generated examples pass as batches of their own, so batch norm sees each law."""
        with torch.no_grad():
            fake = self.generate(self.prior(step))
        real_logits, fake_logits = self.discriminate(step.x), self.discriminate(fake)
        return {
            "loss": self.game.discriminator_cost(real=real_logits, fake=fake_logits),
            "real_logit": real_logits.mean(),
            "fake_logit": fake_logits.mean(),
        }

    def generator_cost(self, step: Step) -> dict[str, Tensor]:
        """J_G."""
        fake_logits = self.discriminate(self.generate(self.prior(step)))
        return {"loss": self.game.generator_cost(fake=fake_logits)}

    def prior(self, step: Step) -> Tensor:
        """z uniform on [−1, 1], shape (B, Z)."""
        return 2 * step.uniform(self.latent_dim) - 1

    def generate(self, z: Tensor) -> Tensor:
        """G(z), shape (B, *spec.shape)."""
        raw = at_least_float32(self.generator(z))
        return torch.sigmoid(raw) if isinstance(self.spec, ImageSpec) else raw

    def discriminate(self, x: Tensor) -> Tensor:
        """D's raw output, shape (B, 1)."""
        return at_least_float32(self.discriminator(x))

    def sample(
        self, n: int, *, condition: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """See `Sampler.sample`."""
        z = 2 * self.uniform(n, self.latent_dim, generator=generator) - 1
        with self.evaluation():
            return torch.cat([self.generate(part) for part in z.split(512)])

    def score(self, x: Tensor, *, condition: Tensor | None = None) -> Tensor:
        """See `Critic.score`."""
        with self.evaluation():
            return self.discriminate(x).squeeze(1)
