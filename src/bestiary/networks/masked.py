"""Masked convolutions: what a pixel and a colour channel may see of an image drawn in raster order.

The pixels of an image come row by row from the top left; within a pixel its C channels come in order
(R, then G, then B). Feature maps are divided into C groups, one for each channel: a map of group c may
depend on all earlier pixels and on channels of its own pixel as the mask's kind says.
"""

import itertools
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MaskKind = Literal["A", "B"]


def channel_groups(maps: int, channels: int) -> Tensor:
    """The group of each of `maps` feature maps, int64, shape (maps,): `channels` contiguous blocks.

    Blocks are as equal as they can be; image channels themselves are `channel_groups(C, C)`.
    """
    return torch.arange(maps) * channels // maps


def group_spans(maps: int, channels: int) -> list[slice]:
    """Where each group of `channel_groups(maps, channels)` lies."""
    bounds = [-(-group * maps // channels) for group in range(channels + 1)]
    return [slice(low, high) for low, high in itertools.pairwise(bounds)]


def causal_mask(
    in_groups: Tensor,
    out_groups: Tensor,
    kernel_size: tuple[int, int],
    kind: MaskKind,
    centre: tuple[int, int],
) -> Tensor:
    """Which weights of a convolution may differ from zero, bool, shape (out, in, *kernel_size).

    Taps before the centre in raster order are open, taps after it closed. At the centre, kind "A" opens
    the way from strictly earlier groups (the first layer, whose input is the image), kind "B" also from
    the same group (all later layers).

    Source: van den Oord et al., 2016, arXiv 1601.06759, section 3.4.
    """
    mask = torch.zeros(len(out_groups), len(in_groups), *kernel_size, dtype=torch.bool)
    row, column = centre
    mask[:, :, :row] = True
    mask[:, :, row, :column] = True
    inward, outward = in_groups[None, :], out_groups[:, None]
    mask[:, :, row, column] = inward < outward if kind == "A" else inward <= outward
    return mask


class MaskedConv2d(nn.Conv2d):
    """A convolution whose weight is multiplied by `causal_mask`; it does not pad.

    Input (B, in, H, W), output (B, out, H − height + 1, W − width + 1).

    Arguments:
        in_groups: group of each input map, shape (in,).
        out_groups: group of each output map, shape (out,).
        kernel_size: height and width.
        kind: "A" or "B".
        centre: row and column of the tap that meets the pixel itself.
        bias: whether a bias is added.
    """

    mask: Tensor

    def __init__(
        self,
        in_groups: Tensor,
        out_groups: Tensor,
        *,
        kind: MaskKind,
        kernel_size: tuple[int, int] = (1, 1),
        centre: tuple[int, int] = (0, 0),
        bias: bool = True,
    ) -> None:
        super().__init__(len(in_groups), len(out_groups), kernel_size, bias=bias)
        mask = causal_mask(in_groups, out_groups, kernel_size, kind, centre)
        self.register_buffer("mask", mask, persistent=False)

    @property
    def masked_weight(self) -> Tensor:
        """The weight with zeros where the mask is closed, shape (out, in, height, width)."""
        return self.weight * self.mask

    def forward(self, input: Tensor) -> Tensor:
        """The masked convolution of `input`."""
        return F.conv2d(input, self.masked_weight, self.bias)
