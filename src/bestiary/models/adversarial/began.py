"""Boundary equilibrium: the discriminator is an autoencoder, and a controller keeps the two players level."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

import torch
from torch import Tensor

from bestiary.config import Ge, Gt, Le, Lt, Search
from bestiary.data.specs import ImageSpec, Spec
from bestiary.distributions.observation import at_least_float32
from bestiary.models.adversarial.base import AdversarialModel, Departures
from bestiary.models.base import Clock, Move, Player, Step
from bestiary.models.inputs import condition_dim
from bestiary.models.optimizers import GameOptimizerName, named_optimizer
from bestiary.networks.adversaries import AdversaryName, autoencoder, default_network, generator


class BEGAN(AdversarialModel):
    r"""A generator against an autoencoder AE that copies data well and samples badly.

    .. math::
        J_D = L(x) - k_t L(G(z_D)), \qquad J_G = L(G(z_G)), \qquad L(v) = |v - AE(v)|

        k_{t+1} = [k_t + \lambda_k (\gamma L(x) - L(G(z_G)))]_0^1, \qquad
        M = L(x) + |\gamma L(x) - L(G(z_G))|

    The controller holds E L(G(z)) at γ E L(x): a smaller γ asks more of each image and less of their
    diversity. M falls as the model converges. Shapes and units: x (B, \*spec.shape), images in [0, 1]; z
    (B, Z) uniform on [−1, 1]; L is the mean over an example's numbers, as in the repetitions that are in use.
    With the paper's λ_k = .001 it takes tens of thousands of rounds until k is felt; 0.1 does so within a
    thousand.

    References:
        *BEGAN: Boundary Equilibrium Generative Adversarial Networks* (Berthelot et al., 2017), arXiv
        1703.10717: §3.3–3.5. *Are GANs Created Equal?* (Lucic et al., 2018), arXiv 1711.10337: networks.

    Departures: the networks of Lucic et al., so that they compare with the other games', whose autoencoder is
    smaller than their discriminator (1,073,601 parameters at 28 × 28); of other networks the autoencoder has
    the discriminator as its encoder and the generator as its decoder. Where data have conditions, generator,
    encoder and decoder are shown them, of which the paper has none; the learning rate is constant, where the
    paper halves it when M stalls. Lucic et al.'s code does not keep k within [0, 1], and moves it after every
    step of the discriminator too, by both losses anew; here as in the paper it is, and moves once a round.

    Arguments:
        spec: of images or points, with conditions or without.
        diversity_ratio: γ.
        balance_rate: λ_k.
        network: "infogan", "dcgan" or "resnet" (images), "mlp" (anything), the small
            networks of two protocols, "maxout" (PacGAN's points) and "metz-quarter" or "metz-half"
            (stacked MNIST, by the size of D), or "auto": infogan for images, mlp for points.
        latent_dim: Z, and the length of the autoencoder's codes.
        channels: width of the convolutional networks.
        hidden: units of the mlp networks.
        batch_norm: batch norm in the autoencoder.
        batch_norm_decay: of batch norm's moving averages, which samples are drawn with.
        optimizer: of both players.
        learning_rate, beta1, beta2: of both players; RMSProp has no betas.
        discriminator_updates: of the autoencoder in each round, to one of the generator.
        departures: "lucic" for those of Lucic et al.'s code named above, to repeat their study.
        batch_size: examples per update.
        ema_half_life: of an average of the generator's weights, in examples; none by default.

    Example:
        >>> model = BEGAN(ImageSpec(1, 28, 28), channels=8)
        >>> model.score(model.sample(4)).shape
        torch.Size([4])
    """

    batch_coupled = True  # the controller wants the mean of a whole batch

    def __init__(
        self,
        spec: Spec,
        *,
        diversity_ratio: Annotated[float, Gt(0), Le(1), Search(0, 1)] = 0.5,
        balance_rate: Annotated[float, Gt(0), Search(1e-4, 1e-2, log=True)] = 1e-3,
        network: Literal["auto"] | AdversaryName = "auto",
        latent_dim: Annotated[int, Ge(1)] = 64,
        channels: Annotated[int, Ge(1)] = 64,
        hidden: Sequence[Annotated[int, Ge(1)]] = (128, 128),
        batch_norm: bool = False,
        batch_norm_decay: Annotated[float, Ge(0), Lt(1)] = 0.999,
        optimizer: GameOptimizerName = "adam",
        learning_rate: Annotated[float, Gt(0), Search(1e-5, 1e-2, log=True)] = 1e-4,
        beta1: Annotated[float, Ge(0), Lt(1), Search(0, 1)] = 0.5,
        beta2: Annotated[float, Gt(0), Lt(1)] = 0.999,
        discriminator_updates: Annotated[int, Ge(1), Le(1000)] = 1,
        departures: Departures = "none",
        batch_size: Annotated[int, Ge(2)] = 64,
        ema_half_life: Annotated[float, Gt(0)] | None = None,
    ) -> None:
        super().__init__(spec, prior="uniform", latent_dim=latent_dim, batch_size=batch_size)
        kind = default_network(spec) if network == "auto" else network
        self.diversity_ratio, self.balance_rate = diversity_ratio, balance_rate
        self.discriminator_updates = discriminator_updates
        self._optimizer = named_optimizer(optimizer, learning_rate, betas=(beta1, beta2))
        self._ema = ema_half_life
        self._as_lucic = departures == "lucic"
        widths: dict[str, Any] = {
            "channels": channels,
            "hidden": hidden,
            "batch_norm_decay": batch_norm_decay,
            "condition_dim": condition_dim(spec),
        }
        self.generator = generator(kind, spec, latent_dim=latent_dim, **widths)
        self.encoder, self.decoder = autoencoder(
            kind, spec, code_dim=latent_dim, batch_norm=batch_norm, **widths
        )
        self.k: Tensor
        self.register_buffer("k", torch.zeros(()))
        self._real = self._fake = torch.zeros(())
        self._discriminator_steps = 0

    @classmethod
    def tiny(cls, spec: Spec) -> Self:
        """A few thousand weights."""
        settings: dict[str, Any] = {"latent_dim": 4, "channels": 4, "hidden": (16,), "batch_size": 8}
        return cls(spec, **settings)

    def players(self) -> Mapping[str, Player]:
        """Autoencoder and generator, each with its optimiser."""
        autoencoder = [*self.encoder.parameters(), *self.decoder.parameters()]
        return {
            "discriminator": Player(autoencoder, self._optimizer),
            "generator": Player(list(self.generator.parameters()), self._optimizer, ema=self._ema),
        }

    def moves(self, clock: Clock) -> Sequence[Move]:
        """Berthelot et al. 2017, §3.4; the controller moves when both losses are known.

        The generator sees the last real batch where it needs conditions.
        """
        shown: Literal["same", "none"] = "none" if self.spec.condition is None else "same"
        self._discriminator_steps = 0
        return [
            Move(
                "discriminator",
                self.discriminator_cost,
                times=self.discriminator_updates,
                after=self.balance_anew if self._as_lucic else None,
            ),
            Move("generator", self.generator_cost, batch=shown, after=self.balance),
        ]

    def discriminator_cost(self, step: Step) -> dict[str, Tensor]:
        """J_D."""
        condition = self.vectors(step.condition, step.size)
        with torch.no_grad():
            fake = self.generate(self.codes(step), condition)
        real_loss = self.copying_loss(step.x, condition).mean()
        fake_loss = self.copying_loss(fake, condition).mean()
        self._real = real_loss.detach()
        self._judged = (step.x, fake, condition)
        return {
            "loss": real_loss - self.k * fake_loss,
            "copying_data": real_loss,
            "copying_samples": fake_loss,
            "k": self.k,
        }

    def generator_cost(self, step: Step) -> dict[str, Tensor]:
        """J_G."""
        condition = self.vectors(step.condition, step.size)
        loss = self.copying_loss(self.generate(self.codes(step), condition), condition).mean()
        self._fake = loss.detach()
        return {"loss": loss, "convergence": self._real + self._surplus().abs()}

    def balance(self) -> None:
        """Move k, in the proportion λ_k, by what the samples' loss lacks to γ times the data's."""
        self.k.add_(self.balance_rate * self._surplus())
        if not self._as_lucic:
            self.k.clamp_(0, 1)

    def balance_anew(self) -> None:
        """Move k by the losses of the examples that the discriminator has just learned from.

        In Lucic et al.'s code the last step of a round moves k after the generator's, which `balance` does.
        """
        self._discriminator_steps += 1
        if self._discriminator_steps % self.discriminator_updates:
            x, fake, condition = self._judged
            self._real = self.copying_loss(x, condition).mean()
            self._fake = self.copying_loss(fake, condition).mean()
            self.balance()

    def _surplus(self) -> Tensor:
        return self.diversity_ratio * self._real - self._fake

    def copying_loss(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """L(x) of each example, the mean absolute error of its copy, shape (B,)."""
        raw = at_least_float32(self.decoder(self.encoder(x, condition), condition))
        copy = torch.sigmoid(raw) if isinstance(self.spec, ImageSpec) else raw
        return (x - copy).abs().flatten(1).mean(1)

    def score(self, x: Tensor, *, condition: Tensor | None = None) -> Tensor:
        """−L(x), shape (B,): see `Critic.score`."""
        with self.evaluation():
            return -self.copying_loss(x, self.vectors(condition, len(x)))
