"""Fully connected networks."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod
from typing import Literal

from torch import Tensor, nn

ActivationName = Literal["tanh", "relu", "leaky_relu", "elu", "gated"]

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.2),
    "elu": nn.ELU,
}


class GatedLinear(nn.Module):
    """(W₁x + b₁) ⊙ σ(W₂x + b₂), shape (B, inputs) → (B, outputs).

    References: *Language Modeling with Gated Convolutional Networks* (Dauphin et al., 2017), arXiv
    1612.08083; the dense form is that of *VAE with a VampPrior* (Tomczak & Welling, 2018).
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.value, self.gate = _linear(inputs, outputs), _linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        gated: Tensor = self.value(x) * self.gate(x).sigmoid()
        return gated


def mlp(
    inputs: int,
    hidden: Sequence[int],
    outputs: int | Sequence[int],
    *,
    activation: ActivationName = "relu",
    glorot: bool = True,
) -> nn.Sequential:
    """Examples of any shape with `inputs` numbers → (B, *outputs), through layers of `hidden` units.

    Weights are Glorot-uniform, biases zero (Glorot & Bengio, 2010), so that depth does not shrink them; or,
    without `glorot`, both are torch's own, uniform within 1/√inputs of a layer, and do shrink.
    """
    shape = (outputs,) if isinstance(outputs, int) else tuple(outputs)
    sizes = [inputs, *hidden]
    linear = _linear if glorot else nn.Linear
    layers: list[nn.Module] = [nn.Flatten()]
    for fan_in, fan_out in pairwise(sizes):
        if activation == "gated":
            layers.append(GatedLinear(fan_in, fan_out))
        else:
            layers += [linear(fan_in, fan_out), _ACTIVATIONS[activation]()]
    layers.append(linear(sizes[-1], prod(shape)))
    if len(shape) > 1:
        layers.append(nn.Unflatten(1, shape))
    return nn.Sequential(*layers)


def _linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
