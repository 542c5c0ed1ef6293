"""PixelCNN++'s network: two causal streams through a U of several resolutions.

Stream u of a pixel sees all rows above it; stream ul sees these and the pixel's own row to the left, and u
through 1 × 1 links. The way down halves the image between blocks of gated residual layers, the way up
doubles it again; a layer on the way up has a shortcut from its counterpart on the way down. (The authors
say it the other way round: their pass up is the one that halves.)

Source: *PixelCNN++* (Salimans et al., 2017, arXiv 1701.05517), section 2.3 to 2.5 and figure 2, details from
the authors' code. Shapes: B batch, C channels, F filters, R resolutions.
"""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bestiary.networks.shifted import (
    GatedResnet,
    ShiftedConv2d,
    ShiftedUpsampling2d,
    concat_elu,
    down_right_shifted,
    down_shifted,
)

U_KERNEL, UL_KERNEL = (2, 3), (2, 2)


class Entrance(nn.Module):
    """The first layer: convolutions of the image, moved so that no pixel sees itself.

    Arguments:
        channels: C.
        filters: F.
        weight_norm: see `ShiftedConv2d`.
    """

    def __init__(self, channels: int, filters: int, *, weight_norm: bool) -> None:
        super().__init__()

        def conv(kernel_size: tuple[int, int], padding: tuple[int, int, int, int]) -> ShiftedConv2d:
            return ShiftedConv2d(channels + 1, filters, kernel_size, padding=padding, weight_norm=weight_norm)

        self.above = conv((2, 3), down_shifted((2, 3)))
        self.row_above = conv((1, 3), down_shifted((1, 3)))
        self.left = conv((2, 1), down_right_shifted((2, 1)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Streams u and ul, (B, F, H, W) each, of images on [−1, 1], (B, C, H, W)."""
        # A channel of ones tells the image from the zeros around it.
        x = torch.cat([x, torch.ones_like(x[:, :1])], dim=1).to(memory_format=torch.channels_last)
        down, right = (0, 0, 1, -1), (1, -1, 0, 0)
        return F.pad(self.above(x), down), F.pad(self.row_above(x), down) + F.pad(self.left(x), right)


class Stage(nn.Module):
    """All that happens at one resolution, in both streams, on both ways.

    Arguments:
        filters: F.
        resnets: gated residual blocks on the way down.
        lowest: whether this is the lowest resolution: the way up has one block less, and no layer leads
            further down.
        condition_dim: length of the conditioning vector, 0 for none.
        dropout: see `GatedResnet`.
        weight_norm: see `ShiftedConv2d`.
    """

    def __init__(
        self,
        filters: int,
        resnets: int,
        *,
        lowest: bool,
        condition_dim: int,
        dropout: float,
        weight_norm: bool,
    ) -> None:
        super().__init__()

        def blocks(count: int, kernel_size: tuple[int, int], shortcut: int) -> Sequence[GatedResnet]:
            padding = (
                down_shifted(kernel_size) if kernel_size == U_KERNEL else down_right_shifted(kernel_size)
            )
            made = nn.ModuleList(
                GatedResnet(
                    filters,
                    kernel_size,
                    padding,
                    shortcut=shortcut,
                    condition_dim=condition_dim,
                    dropout=dropout,
                    weight_norm=weight_norm,
                )
                for _ in range(count)
            )
            return cast("Sequence[GatedResnet]", made)

        back = resnets if lowest else resnets + 1
        self.u_down, self.ul_down = blocks(resnets, U_KERNEL, 0), blocks(resnets, UL_KERNEL, filters)
        self.u_up, self.ul_up = blocks(back, U_KERNEL, filters), blocks(back, UL_KERNEL, 2 * filters)
        self.lowest = lowest
        if lowest:
            return
        u_padding, ul_padding = down_shifted(U_KERNEL), down_right_shifted(UL_KERNEL)

        def conv(kernel_size: tuple[int, int], padding: tuple[int, int, int, int]) -> ShiftedConv2d:
            return ShiftedConv2d(
                filters, filters, kernel_size, padding=padding, stride=2, weight_norm=weight_norm
            )

        def upsampling(kernel_size: tuple[int, int], padding: tuple[int, int, int, int]) -> ShiftedConv2d:
            return ShiftedUpsampling2d(
                filters, filters, kernel_size, padding=padding, weight_norm=weight_norm
            )

        self.u_halve, self.ul_halve = conv(U_KERNEL, u_padding), conv(UL_KERNEL, ul_padding)
        self.u_double, self.ul_double = upsampling(U_KERNEL, u_padding), upsampling(UL_KERNEL, ul_padding)


class PixelCNNPlusPlusNetwork(nn.Module):
    """Images to the parameters of a mixture at every pixel, each from earlier pixels alone.

    Arguments:
        channels: C.
        outputs: numbers per pixel.
        filters: F.
        resnets: gated residual blocks in a row.
        resolutions: R; the image is halved R − 1 times.
        condition_dim: length of the conditioning vector, 0 for none.
        dropout: see `GatedResnet`.
        weight_norm: see `ShiftedConv2d`.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        *,
        filters: int,
        resnets: int,
        resolutions: int,
        condition_dim: int = 0,
        dropout: float = 0.0,
        weight_norm: bool = True,
    ) -> None:
        super().__init__()
        self.entrance = Entrance(channels, filters, weight_norm=weight_norm)
        stages = nn.ModuleList(
            Stage(
                filters,
                resnets,
                lowest=r == resolutions - 1,
                condition_dim=condition_dim,
                dropout=dropout,
                weight_norm=weight_norm,
            )
            for r in range(resolutions)
        )
        self.stages = cast("Sequence[Stage]", stages)
        self.output = ShiftedConv2d(filters, outputs, weight_norm=weight_norm)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Numbers (B, outputs, H, W) for images x on [−1, 1], (B, C, H, W), and conditions (B, d)."""
        u, ul = self.entrance(x)
        shortcuts: list[tuple[Tensor, Tensor]] = []
        for stage in self.stages:
            au, aul = concat_elu(u), concat_elu(ul)
            shortcuts.append((au, aul))
            for of_u, of_ul in zip(stage.u_down, stage.ul_down, strict=True):
                u = of_u(u, au, None, condition)
                au = concat_elu(u)
                ul = of_ul(ul, aul, au, condition)
                aul = concat_elu(ul)
                shortcuts.append((au, aul))
            if not stage.lowest:
                u, ul = stage.u_halve(u), stage.ul_halve(ul)
        shortcuts.pop()  # the last block of all has no counterpart, the way up begins with it
        for stage in reversed(self.stages):
            if not stage.lowest:
                u, ul = stage.u_double(u), stage.ul_double(ul)
                au, aul = concat_elu(u), concat_elu(ul)
            for of_u, of_ul in zip(stage.u_up, stage.ul_up, strict=True):
                u_shortcut, ul_shortcut = shortcuts.pop()
                u = of_u(u, au, u_shortcut, condition)
                au = concat_elu(u)
                ul = of_ul(ul, aul, torch.cat([au, ul_shortcut], dim=1), condition)
                aul = concat_elu(ul)
        numbers: Tensor = self.output(F.elu(ul))
        return numbers

    @torch.no_grad()
    def initialise(self, x: Tensor, condition: Tensor | None = None) -> None:
        """Set the scale and bias of every convolution from a batch, one layer after the other."""
        hooks = [
            layer.register_forward_pre_hook(lambda module, inputs: module.standardise(*inputs))
            for layer in self.modules()
            if isinstance(layer, ShiftedConv2d)
        ]
        try:
            self(x, condition)
        finally:
            for hook in hooks:
                hook.remove()
