"""The residual networks of WGAN-GP (Gulrajani et al., 2017, arXiv 1704.00028, appendix), for any size.

They are the paper's for CIFAR-10: with 32 × 32 × 3, `channels=128` and a 128-dimensional z the generator has
1,204,099 parameters, the critic 1,053,825. A block is a shortcut plus [norm], ReLU, 3 × 3 convolution,
[norm], ReLU, 3 × 3 convolution. The generator's three blocks upsample (nearest neighbour) before the first
convolution; the critic's first two mean-pool after the second, two more leave the size alone; then ReLU, the
mean over pixels and a linear layer. The critic's first block has neither norm nor ReLU before the image.
Weights are uniform: He's in the 3 × 3 convolutions of blocks, Glorot's elsewhere, with the fans of the
authors' code.

For other sizes the number of blocks that change the size follows the image: as many as `dcgan` has in the
generator, and one fewer in the critic, but at least one. Departures: 1 × 1 shortcuts are computed at the
smaller of their two sizes, which is the same function for a quarter of the work; biases that batch norm would
cancel are left out; the generator ends before a sigmoid instead of a tanh, which is the same function on the
range [0, 1]. The authors draw samples with the statistics of the batch, this project with moving averages.
"""

from collections.abc import Sequence
from math import prod, sqrt

from torch import Tensor, nn

from bestiary.data.specs import ImageSpec
from bestiary.networks.pyramid import Centred, halvings, sizes

_HE = sqrt(2)


class TwoPaths(nn.Module):
    """shortcut(x) + residual(x), shape (B, C, H, W) → whatever shape both paths agree on."""

    def __init__(self, shortcut: nn.Module, residual: nn.Module) -> None:
        super().__init__()
        self.shortcut, self.residual = shortcut, residual

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        both: Tensor = self.shortcut(x) + self.residual(x)
        return both


def generator(
    spec: ImageSpec,
    *,
    latent_dim: int,
    channels: int = 128,
    batch_norm: bool = True,
    batch_norm_decay: float = 0.9,
    outputs: int | None = None,
) -> nn.Sequential:
    """z of shape (B, latent_dim) → raw image (B, outputs, H, W), before the sigmoid.

    Raises:
        DataError: a side has fewer than seven pixels.
    """
    smallest, *larger = reversed(sizes(spec, halvings(spec)))
    momentum = 1 - batch_norm_decay if batch_norm else None
    return nn.Sequential(
        _linear(latent_dim, channels * prod(smallest)),
        nn.Unflatten(1, (channels, *smallest)),
        *[_up(channels, size, momentum) for size in larger],
        *_norm(channels, momentum),
        nn.ReLU(),
        _convolution(channels, outputs or spec.channels, 3),
    )


def discriminator(
    spec: ImageSpec,
    *,
    channels: int = 128,
    batch_norm: bool = False,
    batch_norm_decay: float = 0.9,
    outputs: int = 1,
) -> nn.Sequential:
    """Image (B, C, H, W) in [0, 1] → raw output (B, outputs); the last module is the linear one.

    Without batch norm, as by default, it is the paper's critic, whose penalty is per example.

    Raises:
        DataError: a side has fewer than seven pixels.
    """
    momentum = 1 - batch_norm_decay if batch_norm else None
    return nn.Sequential(
        Centred(),
        _first(spec.channels, channels),
        *[_down(channels, momentum) for _ in range(halvings(spec) - 2)],
        *[TwoPaths(nn.Identity(), nn.Sequential(*_path(channels, momentum))) for _ in range(2)],
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        _linear(channels, outputs),
    )


def _up(channels: int, size: tuple[int, int], momentum: float | None) -> TwoPaths:
    shortcut = nn.Sequential(_convolution(channels, channels, 1), nn.Upsample(size))
    return TwoPaths(shortcut, nn.Sequential(*_path(channels, momentum, before=[nn.Upsample(size)])))


def _down(channels: int, momentum: float | None) -> TwoPaths:
    shortcut = nn.Sequential(_mean_pool(), _convolution(channels, channels, 1))
    return TwoPaths(shortcut, nn.Sequential(*_path(channels, momentum), _mean_pool()))


def _first(inputs: int, channels: int) -> TwoPaths:
    residual = nn.Sequential(
        _convolution(inputs, channels, 3, gain=_HE),
        nn.ReLU(),
        _convolution(channels, channels, 3, gain=_HE),
        _mean_pool(),
    )
    return TwoPaths(nn.Sequential(_mean_pool(), _convolution(inputs, channels, 1)), residual)


def _path(channels: int, momentum: float | None, before: Sequence[nn.Module] = ()) -> list[nn.Module]:
    """The residual path, with what comes right before its first convolution."""
    return [
        *_norm(channels, momentum),
        nn.ReLU(),
        *before,
        _convolution(channels, channels, 3, gain=_HE, bias=momentum is None),
        *_norm(channels, momentum),
        nn.ReLU(),
        _convolution(channels, channels, 3, gain=_HE),
    ]


def _norm(channels: int, momentum: float | None) -> list[nn.Module]:
    return [] if momentum is None else [nn.BatchNorm2d(channels, momentum=momentum)]


def _mean_pool() -> nn.AvgPool2d:
    return nn.AvgPool2d(2, ceil_mode=True)  # an odd side is rounded up: its last means are over fewer pixels


def _convolution(inputs: int, outputs: int, kernel: int, *, gain: float = 1, bias: bool = True) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=bias)
    nn.init.xavier_uniform_(layer.weight, gain)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
