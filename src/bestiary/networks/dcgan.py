"""The all-convolutional networks of DCGAN (Radford et al., 2016, arXiv 1511.06434), for images of any size.

Sides are halved by strided 4 × 4 convolutions (doubled by transposed ones) down to about four pixels, while
the maps double: at 64 × 64 with `channels=64` the discriminator has 64–128–256–512 maps, the generator the
same turned round. Batch norm is everywhere but on the generator's output and the discriminator's input;
ReLU in the generator, leaky ReLU of 0.2 in the discriminator. Weights are N(0, 0.02²), batch norm's scales
N(1, 0.02²). The paper's own width is `channels=128`; 64 is that of the usual ports.

Departures: 4 × 4 kernels as in the Torch code of the paper's authors (their Theano code has 5 × 5), which
cover every pixel equally often at a stride of two. The generator ends before a sigmoid instead of a tanh,
which is the same function on the range [0, 1]. Biases that batch norm would cancel are left out.
"""

from itertools import pairwise
from math import prod

from torch import nn

from bestiary.data.specs import ImageSpec
from bestiary.networks.layers import Flatten, Unflatten
from bestiary.networks.pyramid import Centred, halvings, sizes

_DEVIATION = 0.02
_LEAK = 0.2


def generator(
    spec: ImageSpec,
    *,
    latent_dim: int,
    channels: int = 64,
    batch_norm: bool = True,
    batch_norm_decay: float = 0.9,
    outputs: int | None = None,
) -> nn.Sequential:
    """z of shape (B, latent_dim) → raw image (B, outputs, H, W), before the sigmoid.

    With the paper's 64 × 64 × 3, a 100-dimensional z and `channels=64` it has 3,576,707 parameters.

    Raises:
        DataError: a side has fewer than seven pixels.
    """
    times = halvings(spec)
    smallest, *larger = reversed(sizes(spec, times))
    maps = [channels * 2**k for k in reversed(range(times))]
    layers: list[nn.Module] = [
        nn.Linear(latent_dim, maps[0] * prod(smallest), bias=not batch_norm),
        Unflatten(maps[0], *smallest),
    ]
    for (inputs, wide), size in zip(pairwise([*maps, outputs or spec.channels]), larger, strict=True):
        if batch_norm:
            layers.append(nn.BatchNorm2d(inputs, momentum=1 - batch_norm_decay))
        odd = (size[0] % 2, size[1] % 2)
        layers += [
            nn.ReLU(),
            nn.ConvTranspose2d(
                inputs, wide, 4, stride=2, padding=_padding(size), output_padding=odd,
                bias=not batch_norm or size == larger[-1],
            ),
        ]  # fmt: skip
    return _initialised(nn.Sequential(*layers))


def discriminator(
    spec: ImageSpec,
    *,
    channels: int = 64,
    batch_norm: bool = True,
    batch_norm_decay: float = 0.9,
    outputs: int = 1,
) -> nn.Sequential:
    """Image (B, C, H, W) in [0, 1] → raw output (B, outputs); the last module is the linear one.

    With the paper's 64 × 64 × 3 and `channels=64` it has 2,765,633 parameters.

    Raises:
        DataError: a side has fewer than seven pixels.
    """
    times = halvings(spec)
    *larger, smallest = sizes(spec, times)
    maps = [channels * 2**k for k in range(times)]
    layers: list[nn.Module] = [Centred()]
    for (inputs, wide), size in zip(pairwise([spec.channels, *maps]), larger, strict=True):
        normed = batch_norm and size != larger[0]
        layers.append(nn.Conv2d(inputs, wide, 4, stride=2, padding=_padding(size), bias=not normed))
        if normed:
            layers.append(nn.BatchNorm2d(wide, momentum=1 - batch_norm_decay))
        layers.append(nn.LeakyReLU(_LEAK))
    layers += [Flatten(), nn.Linear(maps[-1] * prod(smallest), outputs)]
    return _initialised(nn.Sequential(*layers))


def _padding(size: tuple[int, int]) -> tuple[int, int]:
    """Of a 4 × 4 convolution from `size`, so that odd sides are rounded up; the transposed one to it, too."""
    return 1 + size[0] % 2, 1 + size[1] % 2


def _initialised(network: nn.Sequential) -> nn.Sequential:
    for module in network:
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(module.weight, std=_DEVIATION)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, mean=1, std=_DEVIATION)
    return network
