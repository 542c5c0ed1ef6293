"""LPIPS: a distance of two images that agrees with what people see, version 0.1, with its weights."""

from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bestiary.errors import unknown_name
from bestiary.metrics.embeddings.trunks import ALEX, VGG, Trunk, alexnet, trunk_values, vgg16
from bestiary.metrics.embeddings.weights import filled

LpipsNetwork = Literal["alex", "vgg"]
_NETWORKS = {"alex": (alexnet, ALEX, "AlexNet_0"), "vgg": (vgg16, VGG, "VGG16_0")}


class Lpips(nn.Module):
    """Two batches of colour images (B, 3, H, W) in [0, 1] to their distances (B,).

        d(x, y) = Σ_l 1/(H_l W_l) Σ_hw w_lᵀ (x̂_lhw − ŷ_lhw)²

    with the activations of stage l divided by their norm over the channels, x̂ = x / (‖x‖ + 10⁻¹⁰).

    References: *The Unreasonable Effectiveness of Deep Features as a Perceptual Metric* (Zhang et al.,
    2018), arXiv 1801.03924.

    Arguments:
        trunk: gives the activations.
        weights: w_l ≥ 0 of each stage, shape (C_l,).
    """

    def __init__(self, trunk: Trunk, weights: list[Tensor]) -> None:
        super().__init__()
        self.trunk = trunk
        self.weights = nn.ParameterList(weights)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """See the class."""
        distances = [
            (weight[:, None, None] * (_unit_norm(a) - _unit_norm(b)).square()).sum(dim=1).mean(dim=(1, 2))
            for weight, a, b in zip(self.weights, self.trunk(x), self.trunk(y), strict=True)
        ]
        return torch.stack(distances).sum(dim=0)


@cache
def lpips_network(name: LpipsNetwork) -> Lpips:
    """LPIPS on "alex" (faster, and nearest to people's judgement) or "vgg"; loaded once.

    Raises:
        OptionError: another name.
        DataError: the package with the weights is not installed, or its file is damaged.
    """
    if name not in _NETWORKS:
        raise unknown_name("network", name, _NETWORKS)
    make, file, key = _NETWORKS[name]
    arrays: dict[str, Any] = file.arrays()
    trunk = filled(make, trunk_values(arrays[key]))
    heads = [arrays[f"NetLinLayer_{i}"]["Conv_0"]["kernel"] for i in range(len(trunk.stages))]
    weights = [torch.tensor(head).flatten() for head in heads]
    return Lpips(trunk, weights)


def _unit_norm(x: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return x / (norm + 1e-10)
