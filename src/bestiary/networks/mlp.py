"""Fully connected networks."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod

from torch import nn


def mlp(
    inputs: int,
    hidden: Sequence[int],
    outputs: int | Sequence[int],
    *,
    activation: Callable[[], nn.Module] = nn.ReLU,
) -> nn.Sequential:
    """Examples of any shape with `inputs` numbers → (B, *outputs), through layers of `hidden` units.

    Weights are Glorot-uniform, biases zero (Glorot & Bengio, 2010), so that depth does not shrink them.
    """
    shape = (outputs,) if isinstance(outputs, int) else tuple(outputs)
    sizes = [inputs, *hidden, prod(shape)]
    layers: list[nn.Module] = [nn.Flatten()]
    for index, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        linear = nn.Linear(fan_in, fan_out)
        nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(linear.bias)
        layers.append(linear)
        if index < len(hidden):
            layers.append(activation())
    if len(shape) > 1:
        layers.append(nn.Unflatten(1, shape))
    return nn.Sequential(*layers)
