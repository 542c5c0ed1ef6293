"""Two players, one game: the adversarial models that differ in a cost, a penalty or a projection."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

import torch
from torch import Tensor

from bestiary.config import Ge, Gt, Le, Lt, Search
from bestiary.data.specs import Spec
from bestiary.data.splits import Batch
from bestiary.distributions.observation import at_least_float32
from bestiary.errors import OptionError
from bestiary.models.adversarial.base import AdversarialModel, Departures, PriorName
from bestiary.models.base import Clock, Move, Player, Step
from bestiary.models.inputs import condition_dim
from bestiary.models.optimizers import GameOptimizerName, named_optimizer
from bestiary.networks.adversaries import (
    AdversaryName,
    ConditioningName,
    Discriminator,
    default_network,
    generator,
)
from bestiary.objectives import penalties
from bestiary.objectives.games import GAMES, GameName

PenaltyName = Literal["none", "gradient", "dragan"]


class GAN(AdversarialModel):
    r"""A generator G(z) and a discriminator D(x) that play a game, by default the non-saturating one.

    .. math::
        J_D = -E_x \log D(x) - E_z \log(1 - D(G(z))), \qquad J_G = -E_z \log D(G(z))

    Shapes and units: x (B, \*spec.shape), images in [0, 1]; z (B, Z); D's raw output (B,), a logit, or a
    critic's value. Cross-entropies are in nats.

    References:
        *Generative Adversarial Networks* (Goodfellow et al., 2014), arXiv 1406.2661: minimax and
        non-saturating.
        *On Distinguishability Criteria for Estimating Generative Models* (Goodfellow, 2014), arXiv
        1412.6515: maximum likelihood.
        *Least Squares Generative Adversarial Networks* (Mao et al., 2017), arXiv 1611.04076.
        *Wasserstein GAN* (Arjovsky et al., 2017), arXiv 1701.07875: Algorithm 1.
        *Improved Training of Wasserstein GANs* (Gulrajani et al., 2017), arXiv 1704.00028: Algorithm 1.
        *On Convergence and Stability of GANs* (Kodali et al., 2017), arXiv 1705.07215: DRAGAN.
        *Are GANs Created Equal?* (Lucic et al., 2018), arXiv 1711.10337: networks, prior, batch size and
        default settings, with batch norm's details from the authors' code.
        *Improved Techniques for Training GANs* (Salimans et al., 2016), arXiv 1606.03498: minibatch
        discrimination, feature matching, one-sided label smoothing.
        *PacGAN* (Lin et al., 2018), arXiv 1712.04086. *Spectral Normalization for Generative Adversarial
        Networks* (Miyato et al., 2018), arXiv 1802.05957. *cGANs with Projection Discriminator* (Miyato &
        Koyama, 2018), arXiv 1802.05637.

    Departures: none in the games. The networks are by default those of Lucic et al., who compared the games
    on equal terms, since each paper's own serve no comparison. Lucic et al.'s code squares the sigmoid of D
    in LSGAN and penalises the slope of the sigmoid in DRAGAN; here as in the papers it is the raw output. It
    also takes √(‖g‖² + .0001) for a slope. Wasserstein clips after every step, as the paper; its code trains
    the critic longer at first. Slopes are by images on [0, 1]: papers whose images are on [−1, 1], as the
    networks dcgan and resnet see them, have half of ours, and their λ is half of the one that means the same.

    Arguments:
        spec: of images or points, with conditions or without.
        game: which costs; each is defined in `bestiary.objectives.games`.
        penalty: on slopes of D that are not 1: "gradient" between data and samples (WGAN-GP), "dragan"
            around the data.
        penalty_weight: λ of a penalty; None for the papers' 10.
        clip: every weight of D is kept within ± this after each of its steps.
        network: "infogan", "dcgan" or "resnet" (images), "mlp" (anything), the small
            networks of two protocols, "maxout" (PacGAN's points) and "metz-quarter" or "metz-half"
            (stacked MNIST, by the size of D), or "auto": infogan for images, mlp for points.
        prior: of z, "uniform" on [−1, 1] or "normal".
        latent_dim: Z.
        channels: width of the convolutional networks; the infogan paper's 64 has 64–128 channels and 1,024
            units.
        hidden: units of the mlp networks.
        batch_norm: batch norm in the discriminator.
        batch_norm_decay: of batch norm's moving averages, which samples are drawn with.
        conditioning: of D, where the data have conditions; G is shown them beside z.
        packing: number of examples that D judges together, a divisor of half the batch size or less.
        minibatch_discrimination: number of kernels by which D compares the examples of a batch, 0 for none;
            the paper's is 100.
        feature_matching: G brings the means of D's last hidden layer together, in place of its own cost.
        spectral_norm: of the linear and convolutional layers of D; its paper has no batch norm beside it.
        departures: "lucic" for those of Lucic et al.'s code named above, to repeat their study.
        label_smoothing: how far below 1 the target of real examples is, for games of cross-entropy.
        optimizer: of both players.
        learning_rate, beta1, beta2: of both players; RMSProp has no betas.
        generator_learning_rate: of the generator, where it is another.
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
        penalty: PenaltyName = "none",
        penalty_weight: Annotated[Annotated[float, Gt(0)] | None, Search(0.1, 100, log=True)] = None,
        clip: Annotated[Annotated[float, Gt(0)] | None, Search(1e-3, 1, log=True)] = None,
        network: Literal["auto"] | AdversaryName = "auto",
        prior: PriorName = "uniform",
        latent_dim: Annotated[int, Ge(1)] = 64,
        channels: Annotated[int, Ge(1)] = 64,
        hidden: Sequence[Annotated[int, Ge(1)]] = (128, 128),
        batch_norm: bool = True,
        batch_norm_decay: Annotated[float, Ge(0), Lt(1)] = 0.999,
        conditioning: ConditioningName = "concatenation",
        packing: Annotated[int, Ge(1)] = 1,
        minibatch_discrimination: Annotated[int, Ge(0)] = 0,
        feature_matching: bool = False,
        spectral_norm: bool = False,
        label_smoothing: Annotated[float, Ge(0), Lt(0.5)] = 0.0,
        departures: Departures = "none",
        optimizer: GameOptimizerName = "adam",
        learning_rate: Annotated[float, Gt(0), Search(1e-5, 1e-2, log=True)] = 5e-5,
        generator_learning_rate: Annotated[float, Gt(0)] | None = None,
        beta1: Annotated[float, Ge(0), Lt(1), Search(0, 1)] = 0.0,
        beta2: Annotated[float, Gt(0), Lt(1)] = 0.999,
        discriminator_updates: Annotated[int, Ge(1), Le(1000)] = 1,
        batch_size: Annotated[int, Ge(2)] = 64,
        ema_half_life: Annotated[float, Gt(0)] | None = None,
    ) -> None:
        super().__init__(spec, prior=prior, latent_dim=latent_dim, batch_size=batch_size)
        kind = default_network(spec) if network == "auto" else network
        self.game = GAMES[game]
        _check_effect(spec, game, penalty, penalty_weight, departures, conditioning)
        if label_smoothing and game in ("least_squares", "wasserstein"):
            raise OptionError(
                f"label_smoothing: found {label_smoothing} for game={game}, which has no labels to smooth:"
                " wanted 0, or a game of cross-entropy"
            )
        if batch_size % packing or batch_size < 2 * packing:
            raise OptionError(
                f"packing: found {packing}, wanted a divisor of the batch size {batch_size} that leaves two"
                " packs or more"
            )
        # DRAGAN's noise has the deviation of a whole batch
        self.batch_coupled = (
            packing > 1 or minibatch_discrimination > 0 or feature_matching or penalty == "dragan"
        )
        self.penalty, self.penalty_weight, self.clip = penalty, penalty_weight or 10.0, clip
        self.packing = packing
        self.feature_matching, self.label_smoothing = feature_matching, label_smoothing
        self._as_lucic = departures == "lucic"
        self.discriminator_updates = discriminator_updates
        self._optimizers = {
            "discriminator": named_optimizer(optimizer, learning_rate, betas=(beta1, beta2)),
            "generator": named_optimizer(
                optimizer, generator_learning_rate or learning_rate, betas=(beta1, beta2)
            ),
        }
        self._ema = ema_half_life
        self.generator = generator(
            kind,
            spec,
            latent_dim=latent_dim,
            channels=channels,
            hidden=hidden,
            batch_norm_decay=batch_norm_decay,
            condition_dim=condition_dim(spec),
        )
        self.discriminator = Discriminator(
            kind,
            spec,
            channels=channels,
            hidden=hidden,
            batch_norm=batch_norm,
            batch_norm_decay=batch_norm_decay,
            condition_dim=condition_dim(spec),
            conditioning=conditioning,
            packing=packing,
            kernels=minibatch_discrimination,
            spectral=spectral_norm,
        )

    @classmethod
    def tiny(cls, spec: Spec) -> Self:
        """A few thousand weights."""
        settings: dict[str, Any] = {"latent_dim": 4, "channels": 4, "hidden": (16,), "batch_size": 8}
        return cls(spec, **settings)

    def initialise(self, batch: Batch) -> None:
        """Minibatch discrimination's scales and biases, from what D in training makes of the first batch.

        By batch norm's averages, which have seen nothing yet, features would be a hundred times smaller.
        """
        kernels, vectors = self.discriminator.kernels, self.vectors(batch.condition, len(batch))
        if kernels is None:
            return
        averages = {name: buffer.clone() for name, buffer in self.discriminator.named_buffers()}
        self.discriminator.train()
        kernels.initialise(self.discriminator.features(batch.x, vectors))
        self.discriminator.eval()
        for name, buffer in self.discriminator.named_buffers():
            buffer.copy_(averages[name])

    def players(self) -> Mapping[str, Player]:
        """Discriminator and generator, each with its optimiser."""
        return {
            "discriminator": Player(list(self.discriminator.parameters()), self._optimizers["discriminator"]),
            "generator": Player(
                list(self.generator.parameters()), self._optimizers["generator"], ema=self._ema
            ),
        }

    def moves(self, clock: Clock) -> Sequence[Move]:
        """Goodfellow et al. 2014, Algorithm 1; Arjovsky et al. 2017, Algorithm 1, with its clipping.

        The generator sees the last real batch where it needs conditions, or features of real examples.
        """
        shown = self.feature_matching or self.spec.condition is not None
        return [
            Move(
                "discriminator",
                self.discriminator_cost,
                times=self.discriminator_updates,
                after=None if self.clip is None else self.clip_weights,
            ),
            Move("generator", self.generator_cost, batch="same" if shown else "none"),
        ]

    def discriminator_cost(self, step: Step) -> dict[str, Tensor]:
        """J_D; real and generated examples pass as batches of their own, so batch norm sees each law."""
        condition = self.vectors(step.condition, step.size)
        with torch.no_grad():
            fake = self.generate(self.codes(step), condition)
        real_output = self.discriminate(step.x, condition)
        fake_output = self.discriminate(fake, condition)
        cost = self.game.discriminator_cost(real=real_output, fake=fake_output)
        terms = {
            "loss": cost,
            "divergence": self.game.divergence(cost),
            "real_output": real_output.mean(),
            "fake_output": fake_output.mean(),
        }
        if self.label_smoothing:  # −(1 − s) log D(x) − s log(1 − D(x)), since the two differ by the logit
            terms["loss"] = cost + self.label_smoothing * real_output.mean()
        if self.penalty != "none":
            slope = self.slope(step, fake, condition)
            terms["loss"] = cost + self.penalty_weight * penalties.unit_slope_penalty(slope)
            terms["slope"] = slope.mean()
        return terms

    def slope(self, step: Step, fake: Tensor, condition: Tensor | None) -> Tensor:
        """‖∇D(x̂)‖ of each pack of m examples, shape (B/m,), where the penalty looks at it."""
        u = step.uniform(*(1 for _ in self.spec.shape))
        u = u[:: self.packing].repeat_interleave(self.packing, 0)  # one for all that are judged together
        if self.penalty == "gradient":
            x = penalties.between(step.x, fake, u)
        else:
            x = penalties.around(step.x, step.uniform(*self.spec.shape), u)
        x = x.detach().requires_grad_()
        output = self.discriminate(x, condition)
        if not self._as_lucic:
            return penalties.slopes(output, x)
        judged = output.sigmoid() if self.penalty == "dragan" else output
        return (penalties.slopes(judged, x).square() + 1e-4).sqrt()

    def generator_cost(self, step: Step) -> dict[str, Tensor]:
        """J_G, or the squared distance between mean features of data and of samples."""
        condition = self.vectors(step.condition, step.size)
        fake = self.generate(self.codes(step), condition)
        if self.feature_matching:
            seen = self.discriminator.features(fake, condition).mean(0)
            wanted = self.discriminator.features(step.x, condition).mean(0).detach()
            return {"loss": at_least_float32(seen - wanted).square().sum()}
        return {"loss": self.game.generator_cost(fake=self.discriminate(fake, condition))}

    def clip_weights(self) -> None:
        """Every parameter of D within [−c, c], batch norm's too."""
        assert self.clip is not None
        for parameter in self.discriminator.parameters():
            parameter.clamp_(-self.clip, self.clip)

    def discriminate(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """D's raw output, shape (B/m, 1), for conditions (B, d)."""
        output = at_least_float32(self.discriminator(x, condition))
        return output.sigmoid() if self._as_lucic and self.game is GAMES["least_squares"] else output

    def score(self, x: Tensor, *, condition: Tensor | None = None) -> Tensor:
        """See `Critic.score`. A discriminator of packs sees each example with those that follow it."""
        vectors = self.vectors(condition, len(x))
        with self.evaluation():
            if self.packing > 1:
                rows = torch.arange(len(x), device=x.device)[:, None]
                rows = ((rows + torch.arange(self.packing, device=x.device)) % len(x)).flatten()
                x, vectors = x[rows], None if vectors is None else vectors[rows]
            return self.discriminate(x, vectors).squeeze(1)


def _check_effect(
    spec: Spec,
    game: GameName,
    penalty: PenaltyName,
    penalty_weight: float | None,
    departures: Departures,
    conditioning: ConditioningName,
) -> None:
    """Refuse options that would do nothing.

    Raises:
        OptionError: one of them.
    """
    if penalty == "none" and penalty_weight is not None:
        raise OptionError(
            f"penalty_weight: found {penalty_weight:g} without a penalty: leave it out, or choose"
            " penalty=gradient or dragan"
        )
    if departures == "lucic" and penalty == "none" and game != "least_squares":
        raise OptionError(
            f"departures: found 'lucic' for game={game} without a penalty, which that code plays as its"
            " paper: leave it out"
        )
    if conditioning == "projection" and spec.condition is None:
        raise OptionError(
            "conditioning: found 'projection' for data without conditions: leave it out, or load data with"
            " conditions"
        )
