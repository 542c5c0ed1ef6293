"""Optimisers by name, for models whose paper leaves the choice or whose reproductions made another."""

from collections.abc import Callable
from functools import partial
from typing import Literal

from torch.optim import Adam, AdamW, Optimizer, RMSprop

from bestiary.errors import OptionError
from bestiary.models.soap import SOAP

OptimizerName = Literal["rmsprop", "adam", "soap"]
GameOptimizerName = Literal["rmsprop", "adam"]
VAEOptimizerName = Literal["adagrad", "adam", "soap"]


def named_optimizer(
    name: OptimizerName,
    learning_rate: float,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    weight_decay: float = 0.0,
) -> Callable[..., Optimizer]:
    """What makes the optimiser of a `Player`, with its usual constants; only Adam has the betas.

    An update takes the learning rate times `weight_decay` of each weight away, apart from its step (decoupled
    weight decay, Loshchilov & Hutter, 2019, arXiv 1711.05101).

    Raises:
        OptionError: weight decay for RMSProp, whose own is another thing.
    """
    if name == "rmsprop":
        if weight_decay:
            raise OptionError(
                f"weight_decay: found {weight_decay} for rmsprop, wanted optimizer=adam or soap"
            )
        return partial(RMSprop, lr=learning_rate)
    if name == "soap":
        return partial(SOAP, lr=learning_rate, weight_decay=weight_decay)
    if weight_decay:
        return partial(AdamW, lr=learning_rate, betas=betas, weight_decay=weight_decay, fused=True)
    return partial(Adam, lr=learning_rate, betas=betas, fused=True)
