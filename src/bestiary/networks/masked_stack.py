"""The masked convolutions of PixelCNN: a first layer, residual blocks, and a head of two 1 × 1.

`MaskedStack` computes all pixels at once, for training; `MaskedStackCache` computes the same numbers in the
order in which an image is drawn, each of them once. Shapes: h inner maps of a block, 2h between blocks, K
levels. Rows of a kernel that no mask opens are left out: 3 × 3 is 2 × 3 here, and 7 × 7 is 4 × 7.

Source: *Pixel Recurrent Neural Networks* (van den Oord et al., 2016, arXiv 1601.06759), sections 3.3 to 3.5,
figure 5 and table 1.
"""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bestiary.networks.masked import MaskedConv2d, MaskKind, channel_groups


def square_convolution(in_groups: Tensor, out_groups: Tensor, size: int, kind: MaskKind) -> MaskedConv2d:
    """The n × n masked convolution of odd size n, without the rows below its centre; see `pad_square`."""
    reach = size // 2
    return MaskedConv2d(
        in_groups, out_groups, kind=kind, kernel_size=(reach + 1, size), centre=(reach, reach)
    )


def pad_square(maps: Tensor, size: int) -> Tensor:
    """Maps (B, maps, H, W) with the zeros that keep their size under `square_convolution`."""
    reach = size // 2
    return F.pad(maps, (reach, reach, reach, 0))


class MaskedBlock(nn.Module):
    """x + (1 × 1 to 2h) ∘ ReLU ∘ (3 × 3 to h, + Vᵀc) ∘ ReLU ∘ (1 × 1 to h) ∘ ReLU of x, all with mask B.

    Arguments:
        channels: h.
        image_channels: C, the number of groups of maps.
        condition_dim: length of the conditioning vector c, 0 for none.
    """

    def __init__(self, channels: int, *, image_channels: int, condition_dim: int) -> None:
        super().__init__()
        inner, outer = (channel_groups(maps, image_channels) for maps in (channels, 2 * channels))
        self.reduce = MaskedConv2d(outer, inner, kind="B")
        self.square = square_convolution(inner, inner, 3, "B")
        self.expand = MaskedConv2d(inner, outer, kind="B")
        self.condition = nn.Linear(condition_dim, channels, bias=False) if condition_dim else None

    def condition_bias(self, condition: Tensor | None) -> Tensor | None:
        """Vᵀc, (B, h), from conditions c (B, d); None without any."""
        if self.condition is None or condition is None:
            return None
        bias: Tensor = self.condition(condition)
        return bias

    def forward(self, maps: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        """The next block's maps (B, 2h, H, W), and the inner maps (B, h, H, W) that a skip starts from."""
        inner = self.square(pad_square(torch.relu(self.reduce(torch.relu(maps))), 3))
        bias = self.condition_bias(condition)
        if bias is not None:
            inner = inner + bias[:, :, None, None]
        inner = torch.relu(inner)
        return maps + self.expand(inner), inner


class MaskedStack(nn.Module):
    """The whole network, from images to logits.

    Arguments:
        image_channels: C.
        levels: K, values of a sub-pixel.
        blocks: number of residual blocks.
        channels: h, inner maps of a block.
        first_kernel_size: n of the first layer, odd.
        head_channels: maps between the two 1 × 1 convolutions of the head.
        skip: whether every block has a learned 1 × 1 to the head beside the way through the next blocks.
        condition_dim: length of the conditioning vector, 0 for none.
    """

    def __init__(
        self,
        image_channels: int,
        levels: int,
        *,
        blocks: int,
        channels: int,
        first_kernel_size: int,
        head_channels: int,
        skip: bool = False,
        condition_dim: int = 0,
    ) -> None:
        super().__init__()
        self.image_channels = image_channels
        self.levels = levels
        self.first_kernel_size = first_kernel_size
        pixel, inner, outer, hidden, outputs = (
            channel_groups(maps, image_channels)
            for maps in (image_channels, channels, 2 * channels, head_channels, image_channels * levels)
        )
        self.first = square_convolution(pixel, outer, first_kernel_size, "A")
        stacked = nn.ModuleList(
            MaskedBlock(channels, image_channels=image_channels, condition_dim=condition_dim)
            for _ in range(blocks)
        )
        self.blocks = cast("Sequence[MaskedBlock]", stacked)
        # One convolution of all blocks' maps side by side is the sum of a skip from every block.
        self.skip = MaskedConv2d(inner.repeat(blocks), outer, kind="B") if skip else None
        self.hidden = MaskedConv2d(outer, hidden, kind="B")
        self.output = MaskedConv2d(hidden, outputs, kind="B")

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Logits (B, K, C, H, W) of images x in [0, 1], (B, C, H, W), and conditions (B, d)."""
        image = (2 * x - 1).to(memory_format=torch.channels_last)
        maps = self.first(pad_square(image, self.first_kernel_size))
        inner = []
        for block in self.blocks:
            maps, features = block(maps, condition)
            inner.append(features)
        if self.skip is not None:
            maps = maps + self.skip(torch.cat(inner, dim=1))
        outputs: Tensor = self.output(torch.relu(self.hidden(torch.relu(maps))))  # (B, C·K, H, W)
        return outputs.view(len(x), self.image_channels, self.levels, *x.shape[2:]).transpose(1, 2)
