"""Optimisers by name, for models whose paper leaves the choice or whose reproductions made another."""

from collections.abc import Callable
from functools import partial
from typing import Literal

from torch.optim import Adam, Optimizer, RMSprop

from bestiary.models.soap import SOAP

OptimizerName = Literal["rmsprop", "adam", "soap"]
GameOptimizerName = Literal["rmsprop", "adam"]


def named_optimizer(
    name: OptimizerName, learning_rate: float, *, betas: tuple[float, float] = (0.9, 0.999)
) -> Callable[..., Optimizer]:
    """What makes the optimiser of a `Player`, with its usual constants; only Adam has the betas."""
    if name == "rmsprop":
        return partial(RMSprop, lr=learning_rate)
    if name == "soap":
        return partial(SOAP, lr=learning_rate)
    return partial(Adam, lr=learning_rate, betas=betas, fused=True)
