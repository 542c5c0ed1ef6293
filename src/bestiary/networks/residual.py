"""Residual encoders and decoders of images whose sides can be halved a few times.

Blocks are pre-activated (He et al., 2016, arXiv 1603.05027) and have no batch norm: the last convolution of
each starts at zero, so that every block starts as the identity (Zhang et al., 2019, arXiv 1901.09321).
"""

from torch import Tensor, nn

from bestiary.data.specs import ImageSpec
from bestiary.errors import DataError
from bestiary.networks.layers import Flatten, Unflatten

_SMALLEST_SIDE = 4


class Block(nn.Module):
    """x + conv(act(conv(act(x)))), 3 × 3, shape (B, C, H, W) as it is."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        self.activation = nn.ELU()

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        residual: Tensor = self.second(self.activation(self.first(self.activation(x))))
        return x + residual


def encoder(spec: ImageSpec, *, channels: int, outputs: int) -> nn.Sequential:
    """Image (B, C, H, W) → raw output (B, outputs); maps double wherever sides are halved.

    Raises:
        DataError: the sides cannot be halved once.
    """
    halvings = _halvings(spec)
    layers: list[nn.Module] = [nn.Conv2d(spec.channels, channels, 3, padding=1)]
    for step in range(halvings):
        wide = channels * 2**step
        layers += [Block(wide), nn.ELU(), nn.Conv2d(wide, 2 * wide, 4, stride=2, padding=1)]
    features = channels * 2**halvings * (spec.height >> halvings) * (spec.width >> halvings)
    layers += [Block(channels * 2**halvings), nn.ELU(), Flatten(), nn.Linear(features, outputs)]
    return nn.Sequential(*layers)


def decoder(spec: ImageSpec, *, latent_dim: int, channels: int, outputs: int) -> nn.Sequential:
    """Code (B, latent_dim) → raw image (B, outputs, H, W), the encoder turned round.

    Raises:
        DataError: the sides cannot be halved once.
    """
    halvings = _halvings(spec)
    height, width = spec.height >> halvings, spec.width >> halvings
    wide = channels * 2**halvings
    layers: list[nn.Module] = [
        nn.Linear(latent_dim, wide * height * width),
        Unflatten(wide, height, width),
        Block(wide),
    ]
    for _ in range(halvings):
        layers += [nn.ELU(), nn.ConvTranspose2d(wide, wide // 2, 4, stride=2, padding=1), Block(wide // 2)]
        wide //= 2
    layers += [nn.ELU(), nn.Conv2d(wide, outputs, 3, padding=1)]
    return nn.Sequential(*layers)


def _halvings(spec: ImageSpec) -> int:
    """How often both sides can be halved without falling under four pixels."""
    found, height, width = 0, spec.height, spec.width
    while height % 2 == 0 and width % 2 == 0 and min(height, width) // 2 >= _SMALLEST_SIDE:
        found, height, width = found + 1, height // 2, width // 2
    if found == 0:
        raise DataError(
            f"image size: found {spec.height}x{spec.width}, the residual networks want even sides of at least"
            " 8 pixels: choose another size for the folder, or network=mlp"
        )
    return found
