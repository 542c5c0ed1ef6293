"""The small networks of the stacked-MNIST study of unrolled GANs (Metz et al., 2017, arXiv 1611.02163).

The generator maps z to 64 maps of 4 × 4, then to 32–16–8 maps of 7, 14 and 28 pixels by transposed 3 × 3
convolutions of stride two, then to the image; the discriminator turns it round with a quarter or a half of
the maps: 2–4–8 or 4–8–16, so small that it loses to the generator unless the game is unrolled. Batch norm
is everywhere but on the generator's output; ReLU in the generator, leaky ReLU of 0.3 in the discriminator.

For 3 × 28 × 28 the generator has 286,795 parameters, the discriminator 571 (quarter) or 1,861 (half).
Initial values and batch norm's details are those of the repetition by Lin et al. (PacGAN, 2018, arXiv
1712.04086): weights N(0, 0.02²), cut off at two deviations in convolutions. Departures: biases that batch
norm would cancel are left out; the generator ends before a sigmoid instead of a tanh, which is the same
function on the range [0, 1]. Other sizes are halved three times as well, rounded up.
"""

from itertools import pairwise
from math import prod
from typing import Literal

from torch import nn

from bestiary.data.specs import ImageSpec
from bestiary.networks.layers import Flatten
from bestiary.networks.pyramid import Centred, sizes

DiscriminatorSize = Literal["quarter", "half"]

_SHARE = {"quarter": 4, "half": 2}
_MAPS = (8, 16, 32)
_SEED_MAPS = 64
_DEVIATION = 0.02
_LEAK = 0.3


def generator(
    spec: ImageSpec,
    *,
    latent_dim: int = 256,
    batch_norm: bool = True,
    batch_norm_decay: float = 0.9,
    outputs: int | None = None,
) -> nn.Sequential:
    """z of shape (B, latent_dim) → raw image (B, outputs, H, W), before the sigmoid."""
    smallest, *larger = reversed(sizes(spec, len(_MAPS)))
    momentum = 1 - batch_norm_decay if batch_norm else None
    layers: list[nn.Module] = [
        nn.Linear(latent_dim, _SEED_MAPS * prod(smallest), bias=not batch_norm),
        nn.Unflatten(1, (_SEED_MAPS, *smallest)),
        *_norm(_SEED_MAPS, momentum),
        nn.ReLU(),
    ]
    for (inputs, maps), (height, width) in zip(pairwise([_SEED_MAPS, *_MAPS[::-1]]), larger, strict=True):
        even = (1 - height % 2, 1 - width % 2)
        up = nn.ConvTranspose2d(
            inputs, maps, 3, stride=2, padding=1, output_padding=even, bias=not batch_norm
        )
        layers += [up, *_norm(maps, momentum), nn.ReLU()]
    layers.append(nn.Conv2d(_MAPS[0], outputs or spec.channels, 3, padding=1))
    return _initialised(nn.Sequential(*layers))


def discriminator(
    spec: ImageSpec,
    *,
    size: DiscriminatorSize = "quarter",
    batch_norm: bool = True,
    batch_norm_decay: float = 0.9,
    outputs: int = 1,
) -> nn.Sequential:
    """Image (B, C, H, W) in [0, 1] → raw output (B, outputs); the last module is the linear one.

    `size` is the share of the generator's maps that it has.
    """
    momentum = 1 - batch_norm_decay if batch_norm else None
    all_maps = [maps // _SHARE[size] for maps in _MAPS]
    layers: list[nn.Module] = [Centred()]
    for inputs, maps in pairwise([spec.channels, *all_maps]):
        down = nn.Conv2d(inputs, maps, 3, stride=2, padding=1, bias=not batch_norm)
        layers += [down, *_norm(maps, momentum), nn.LeakyReLU(_LEAK)]
    smallest = sizes(spec, len(_MAPS))[-1]
    layers += [Flatten(), nn.Linear(all_maps[-1] * prod(smallest), outputs)]
    return _initialised(nn.Sequential(*layers))


def _norm(maps: int, momentum: float | None) -> list[nn.Module]:
    return [] if momentum is None else [nn.BatchNorm2d(maps, momentum=momentum)]


def _initialised(network: nn.Sequential) -> nn.Sequential:
    for module in network:
        if isinstance(module, nn.Conv2d):
            nn.init.trunc_normal_(module.weight, std=_DEVIATION, a=-2 * _DEVIATION, b=2 * _DEVIATION)
        elif isinstance(module, nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(module.weight, std=_DEVIATION)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    return network
