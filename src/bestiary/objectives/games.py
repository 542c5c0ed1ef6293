"""Adversarial games: what the discriminator and the generator minimise, as functions of raw outputs.

Raw outputs are logits D̃ with D = σ(D̃), or a critic's values f, any shape; a cost is the mean over the
batch. Costs are minimised, without the ½ of Goodfellow et al. on the discriminator's: at equal laws the
minimax cost is +log 4, the negative of the paper's V = −log 4.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Game:
    """Two costs: `discriminator_cost(real=, fake=)` and `generator_cost(fake=)`, scalars to minimise.

    Attributes:
        name: what options call it.
        equilibrium: the discriminator's lowest cost where data and model have one law.
        scale: of `divergence`, in units of that cost.
        zero_sum: whether the generator's cost is the negative of the discriminator's, but for what does not
            depend on the generator.
    """

    name: str
    discriminator_cost: Callable[..., Tensor]
    generator_cost: Callable[..., Tensor]
    equilibrium: float
    scale: float = 1.0
    zero_sum: bool = False

    def divergence(self, discriminator_cost: Tensor) -> Tensor:
        """What a discriminator at its best says of how far model and data are apart, 0 where equal.

        The Jensen–Shannon divergence in nats for cross-entropy, ⅛ ∫ (p − q)²/(p + q) for least squares, the
        critic's difference of means for Wasserstein. A worse discriminator says less; a critic whose slope is
        held by a penalty alone, and not at 1, may say more.
        """
        return self.scale * (self.equilibrium - discriminator_cost)


def _cross_entropy(*, real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(-real).mean() + F.softplus(fake).mean()  # −E log D(x) − E log(1 − D(G(z)))


def _saturating(*, fake: Tensor) -> Tensor:
    return -F.softplus(fake).mean()  # E log(1 − D(G(z)))


def _non_saturating(*, fake: Tensor) -> Tensor:
    return F.softplus(-fake).mean()  # −E log D(G(z))


def _maximum_likelihood(*, fake: Tensor) -> Tensor:
    return -0.5 * fake.exp().mean()  # −½ E[D/(1 − D)]: D/(1 − D) is the exponential of the logit


def _least_squares_discriminator(*, real: Tensor, fake: Tensor) -> Tensor:
    return 0.5 * (real - 1).square().mean() + 0.5 * fake.square().mean()  # b = 1, a = 0


def _least_squares_generator(*, fake: Tensor) -> Tensor:
    return 0.5 * (fake - 1).square().mean()  # c = 1


def _critic(*, real: Tensor, fake: Tensor) -> Tensor:
    return fake.mean() - real.mean()  # −(E f(x) − E f(G(z)))


def _critic_generator(*, fake: Tensor) -> Tensor:
    return -fake.mean()


minimax = Game("minimax", _cross_entropy, _saturating, math.log(4), 0.5, zero_sum=True)
"""Goodfellow et al. 2014 (arXiv 1406.2661), eq. 1: the saturating game."""

non_saturating = Game("non_saturating", _cross_entropy, _non_saturating, math.log(4), 0.5)
"""Goodfellow et al. 2014, §3: the generator maximises log D(G(z)) instead."""

maximum_likelihood = Game("maximum_likelihood", _cross_entropy, _maximum_likelihood, math.log(4), 0.5)
"""Goodfellow 2014, "On distinguishability criteria" (arXiv 1412.6515): at the optimal discriminator the
generator's expected gradient is half that of KL(data‖model)."""

least_squares = Game("least_squares", _least_squares_discriminator, _least_squares_generator, 0.25)
"""Mao et al. 2017 (arXiv 1611.04076), eq. 9: (a, b, c) = (0, 1, 1)."""

wasserstein = Game("wasserstein", _critic, _critic_generator, 0.0, zero_sum=True)
"""Arjovsky et al. 2017 (arXiv 1701.07875), eq. 2; the critic must be kept Lipschitz by other means."""

GameName = Literal["minimax", "non_saturating", "maximum_likelihood", "least_squares", "wasserstein"]

GAMES: dict[str, Game] = {
    game.name: game for game in (minimax, non_saturating, maximum_likelihood, least_squares, wasserstein)
}
