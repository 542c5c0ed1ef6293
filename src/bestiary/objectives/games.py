"""Adversarial games: what the discriminator and the generator minimise, as functions of raw outputs.

Raw outputs are logits D̃ with D = σ(D̃), or a critic's values f, any shape; a cost is the mean over the
batch. Costs are minimised, without the ½ of Goodfellow et al. on the discriminator's: at equal laws the
minimax cost is +log 4, the negative of the paper's V = −log 4.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Game:
    """Two costs: `discriminator_cost(real=, fake=)` and `generator_cost(fake=)`, scalars to minimise."""

    name: str
    discriminator_cost: Callable[..., Tensor]
    generator_cost: Callable[..., Tensor]


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


minimax = Game("minimax", _cross_entropy, _saturating)
"""Goodfellow et al. 2014 (arXiv 1406.2661), eq. 1: the saturating game."""

non_saturating = Game("non_saturating", _cross_entropy, _non_saturating)
"""Goodfellow et al. 2014, §3: the generator maximises log D(G(z)) instead."""

maximum_likelihood = Game("maximum_likelihood", _cross_entropy, _maximum_likelihood)
"""Goodfellow 2014, "On distinguishability criteria" (arXiv 1412.6515): at the optimal discriminator the
generator's expected gradient is half that of KL(data‖model)."""

least_squares = Game("least_squares", _least_squares_discriminator, _least_squares_generator)
"""Mao et al. 2017 (arXiv 1611.04076), eq. 9: (a, b, c) = (0, 1, 1)."""

wasserstein = Game("wasserstein", _critic, _critic_generator)
"""Arjovsky et al. 2017 (arXiv 1701.07875), eq. 2; the critic must be kept Lipschitz by other means."""

GameName = Literal["minimax", "non_saturating", "maximum_likelihood", "least_squares", "wasserstein"]

GAMES: dict[str, Game] = {
    game.name: game for game in (minimax, non_saturating, maximum_likelihood, least_squares, wasserstein)
}
