"""Shifted convolutions and gated residual blocks: what PixelCNN++ is made of.

A convolution whose kernel reaches only upwards (and sideways), or only upwards and to the left, is causal
without a mask; the image is padded on the sides where the kernel reaches out. Weights are normalised and
their scales set from the first batch. Shapes: B batch, F filters, H height, W width.

Source: *PixelCNN++* (Salimans et al., 2017, arXiv 1701.05517), details from the authors' code; weight norm of
*Weight Normalization* (Salimans & Kingma, 2016, arXiv 1602.07868).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SMALLEST_VARIANCE = 1e-8  # in the data-dependent initialisation, as published


def concat_elu(x: Tensor) -> Tensor:
    """ELU of x and of −x side by side: (B, F, H, W) to (B, 2F, H, W)."""
    return F.elu(torch.cat([x, -x], dim=1))


class ShiftedConv2d(nn.Module):
    """A convolution with normalised weights w = g·v/‖v‖ that pads as a shift wants it.

    Input (B, inputs, H, W), output (B, outputs, H/stride, W/stride).

    Arguments:
        inputs: maps that come in.
        outputs: maps that go out.
        kernel_size: height and width.
        padding: zeros on the left, right, top and bottom.
        stride: 1 or 2.
        scale: standard deviation of the outputs after `standardise`.
        weight_norm: else the weight is a plain parameter, initialised as by Glorot & Bengio (2010).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel_size: tuple[int, int] = (1, 1),
        *,
        padding: tuple[int, int, int, int] = (0, 0, 0, 0),
        stride: int = 1,
        scale: float = 1.0,
        weight_norm: bool = True,
    ) -> None:
        super().__init__()
        self.padding, self.stride, self.scale = padding, stride, scale
        self.direction = nn.Parameter(torch.empty(outputs, inputs, *kernel_size))
        self.gain = nn.Parameter(torch.full((outputs,), scale)) if weight_norm else None
        self.bias = nn.Parameter(torch.zeros(outputs))
        if weight_norm:
            nn.init.normal_(self.direction, std=0.05)
            # Without a first batch, which replaces these, the first pixel would meet zeros alone.
            nn.init.normal_(self.bias, std=0.05)
        else:
            nn.init.xavier_uniform_(self.direction)

    @property
    def weight(self) -> Tensor:
        """g·v/‖v‖, with a norm for each output, shape (outputs, inputs, height, width)."""
        if self.gain is None:
            return self.direction
        norm = torch.linalg.vector_norm(self.direction, dim=(1, 2, 3), keepdim=True)
        normalised: Tensor = self.direction * (self.gain.view(-1, 1, 1, 1) / norm)
        return normalised

    def forward(self, x: Tensor) -> Tensor:
        """The convolution of x."""
        return self.convolve(x, self.weight, self.bias)

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The convolution of x by a weight of this layer's shape."""
        padded = F.pad(x, self.padding) if any(self.padding) else x
        return F.conv2d(padded, weight, bias, self.stride)

    @torch.no_grad()
    def standardise(self, x: Tensor) -> None:
        """Set g and b so that every output map has mean 0 and deviation `scale` on this input."""
        if self.gain is None:
            return
        self.gain.fill_(1)
        outputs = self.convolve(x, self.weight, None)
        variance, mean = torch.var_mean(outputs, dim=(0, 2, 3), correction=0)
        # A map that is the same everywhere, as at a resolution of one pixel, has no deviation to set: the
        # published scale / √(variance + 1e-8) would make every later change of it 10,000 times as large.
        spread = torch.where(variance > SMALLEST_VARIANCE, (variance + SMALLEST_VARIANCE).sqrt(), 1.0)
        self.gain.copy_(self.scale / spread)
        self.bias.copy_(-mean * self.gain)


class ShiftedUpsampling2d(ShiftedConv2d):
    """The transposed convolution of stride 2 that undoes a shifted one: (B, F, H, W) to (B, F, 2H, 2W)."""

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The transposed convolution of x by a weight of this layer's shape."""
        cut = (0, (weight.shape[3] - 1) // 2)  # columns that the kernel reaches beyond the left side
        return F.conv_transpose2d(x, weight.transpose(0, 1), bias, 2, cut, cut)


def down_shifted(kernel_size: tuple[int, int] = (2, 3)) -> tuple[int, int, int, int]:
    """Padding for a kernel that reaches upwards, and to both sides."""
    side = (kernel_size[1] - 1) // 2
    return (side, side, kernel_size[0] - 1, 0)


def down_right_shifted(kernel_size: tuple[int, int] = (2, 2)) -> tuple[int, int, int, int]:
    """Padding for a kernel that reaches upwards and to the left."""
    return (kernel_size[1] - 1, 0, kernel_size[0] - 1, 0)


class GatedResnet(nn.Module):
    """x + a·σ(b), where (a, b) are two convolutions of x with concat_elu between them.

    Inputs that several blocks share are handed in after `concat_elu`, so that it is computed once.

    Arguments:
        filters: F.
        kernel_size: of both convolutions.
        padding: of both convolutions, which makes them causal.
        shortcut: maps of another stream or block that are added through a 1 × 1 convolution, 0 for none.
        condition_dim: length of the conditioning vector, 0 for none.
        dropout: probability of a map's pixel to be dropped between the convolutions.
        weight_norm: see `ShiftedConv2d`.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: tuple[int, int],
        padding: tuple[int, int, int, int],
        *,
        shortcut: int = 0,
        condition_dim: int = 0,
        dropout: float = 0.0,
        weight_norm: bool = True,
    ) -> None:
        super().__init__()
        self.first = ShiftedConv2d(
            2 * filters, filters, kernel_size, padding=padding, weight_norm=weight_norm
        )
        self.link = ShiftedConv2d(2 * shortcut, filters, weight_norm=weight_norm) if shortcut else None
        self.dropout = nn.Dropout(dropout)
        self.second = ShiftedConv2d(
            2 * filters, 2 * filters, kernel_size, padding=padding, scale=0.1, weight_norm=weight_norm
        )
        self.condition = nn.Linear(condition_dim, 2 * filters, bias=False) if condition_dim else None
        if self.condition is not None:
            nn.init.normal_(self.condition.weight, std=0.05)

    def forward(
        self, x: Tensor, activated: Tensor, shortcut: Tensor | None, condition: Tensor | None
    ) -> Tensor:
        """The next x, (B, F, H, W).

        Arguments:
            x: (B, F, H, W).
            activated: concat_elu(x), (B, 2F, H, W).
            shortcut: concat_elu of what is added, (B, 2·shortcut, H, W).
            condition: (B, d).
        """
        hidden = self.first(activated)
        if self.link is not None:
            hidden = hidden + self.link(shortcut)
        gates = self.second(self.dropout(concat_elu(hidden)))
        if self.condition is not None:
            gates = gates + self.condition(condition)[:, :, None, None]
        a, b = gates.chunk(2, dim=1)
        gated: Tensor = x + a * torch.sigmoid(b)
        return gated
