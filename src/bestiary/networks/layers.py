"""Layers of networks for images that are faster than PyTorch's and compute the same."""

import torch.nn.functional as F
from torch import Tensor, nn


class Flatten(nn.Module):
    """Maps (B, C, H, W) → features (B, H·W·C), channels last, as maps lie in memory while a model trains.

    `nn.Flatten` puts channels first: maps are copied on the way there, and on the way back their gradient
    lies in another order than they do, with which leaky ReLU and convolutions take twice as long.
    """

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return x.movedim(1, -1).flatten(1)


class Unflatten(nn.Module):
    """Features (B, H·W·C), channels last → maps (B, C, H, W): `Flatten` turned round."""

    def __init__(self, channels: int, height: int, width: int) -> None:
        super().__init__()
        self.shape = (height, width, channels)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        maps: Tensor = x.unflatten(1, self.shape)
        return maps.movedim(-1, 1)


class FoldedConvTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution as one matrix product, whose patches are then added up where they overlap.

    For a single output map it takes half as long as PyTorch's on a CPU; from three on it is slower.
    Groups, dilation and `output_size` are not for it.
    """

    padding: tuple[int, ...]

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """See the class."""
        pixels = input.movedim(1, -1).flatten(1, 2)  # (B, H·W, inputs)
        patches = (pixels @ self.weight.flatten(1)).transpose(1, 2)  # (B, outputs·k·k, H·W)
        size = tuple(map(self._side, range(2), input.shape[2:]))
        image = F.fold(patches, size, self.kernel_size, padding=self.padding, stride=self.stride)
        return image if self.bias is None else image + self.bias.view(-1, 1, 1)

    def _side(self, axis: int, side: int) -> int:
        inside = self.kernel_size[axis] - 2 * self.padding[axis] + self.output_padding[axis]
        return (side - 1) * self.stride[axis] + inside
