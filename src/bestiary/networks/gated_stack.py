"""The two stacks of gated masked convolutions of Gated PixelCNN, whole or one pixel at a time.

The vertical stack sees all rows above, the horizontal stack the row so far and, through a 1 × 1 link,
the vertical stack: together every earlier pixel, without the blind spot of one masked stack. `GatedStack`
computes all pixels at once, for training; `GatedStackCache` computes the same numbers in the order in
which an image is drawn, each of them once. Shapes: p maps, K levels, m columns of a horizontal kernel.

Source: *Conditional Image Generation with PixelCNN Decoders* (van den Oord et al., 2016, arXiv 1606.05328),
section 2 and figure 2; the caches after *Fast Generation for Convolutional Autoregressive Models*
(Ramachandran et al., 2017, arXiv 1704.06001).
"""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bestiary.networks.masked import MaskedConv2d, channel_groups


def gate(activations: Tensor, dim: int = 1) -> Tensor:
    """tanh(f) ⊙ σ(g), where f and g are the two halves along `dim` (eq. 2)."""
    f, g = activations.chunk(2, dim)
    return torch.tanh(f) * torch.sigmoid(g)


class GatedLayer(nn.Module):
    """One layer of both stacks (figure 2), up to the gate of the horizontal one.

    Arguments:
        inputs: maps that come in: C in the first layer, p in the others.
        channels: p, maps of each stack.
        kernel_size: n, odd; the vertical kernel is ⌈n/2⌉ × n, the horizontal one 1 × ⌈n/2⌉.
        image_channels: C, the number of groups of maps in the horizontal stack.
        condition_dim: length of the conditioning vector, 0 for none.
        first: whether the input is the image itself: mask A, and the vertical stack moves one row down.
        last: whether no layer follows, so that nothing is handed on in the horizontal stack.
    """

    def __init__(
        self,
        inputs: int,
        channels: int,
        kernel_size: int,
        *,
        image_channels: int,
        condition_dim: int,
        first: bool,
        last: bool,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.reach = (kernel_size + 1) // 2  # rows of the vertical kernel, columns of the horizontal one
        self.first = first
        groups = channel_groups(channels, image_channels)
        self.vertical = nn.Conv2d(
            inputs, 2 * channels, (self.reach, kernel_size), padding=(0, kernel_size // 2)
        )
        self.horizontal = MaskedConv2d(
            channel_groups(inputs, image_channels),
            groups.repeat(2),
            kind="A" if first else "B",
            kernel_size=(1, self.reach),
            centre=(0, self.reach - 1),
        )
        self.link = nn.Conv2d(2 * channels, 2 * channels, 1, bias=False)
        self.condition = nn.Linear(condition_dim, 4 * channels, bias=False) if condition_dim else None
        self.residual = None if last else MaskedConv2d(groups, groups, kind="B", bias=False)

    def condition_biases(self, condition: Tensor | None) -> tuple[Tensor, Tensor] | None:
        """Vᵀh for the vertical and the horizontal stack, (B, 2p) each, from conditions h (B, d) (eq. 4)."""
        if self.condition is None or condition is None:
            return None
        above, across = self.condition(condition).chunk(2, dim=1)
        return above, across

    def forward(self, above: Tensor, across: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        """Vertical pre-activation (B, 2p, H, W) and gated horizontal maps (B, p, H, W)."""
        down = 1 if self.first else 0
        rows = self.vertical(F.pad(above, (0, 0, self.reach - 1 + down, -down)))
        row = self.horizontal(F.pad(across, (self.reach - 1, 0)))
        biases = self.condition_biases(condition)
        if biases is not None:
            rows, row = rows + biases[0][:, :, None, None], row + biases[1][:, :, None, None]
        return rows, gate(row + self.link(rows))


class GatedStack(nn.Module):
    """The whole network: the first layer's mask A, the gated layers, the skips and a head of two 1 × 1.

    Arguments:
        image_channels: C.
        levels: K, values of a sub-pixel.
        layers: number of gated layers, the first one included.
        channels: p, maps of each stack.
        first_kernel_size: n of the first layer, odd.
        kernel_size: n of the layers after it, odd.
        head_channels: maps between the two 1 × 1 convolutions of the head.
        condition_dim: length of the conditioning vector, 0 for none.
    """

    def __init__(
        self,
        image_channels: int,
        levels: int,
        *,
        layers: int,
        channels: int,
        first_kernel_size: int,
        kernel_size: int,
        head_channels: int,
        condition_dim: int = 0,
    ) -> None:
        super().__init__()
        self.image_channels = image_channels
        self.levels = levels
        stacked = nn.ModuleList(
            GatedLayer(
                channels if i else image_channels,
                channels,
                kernel_size if i else first_kernel_size,
                image_channels=image_channels,
                condition_dim=condition_dim,
                first=i == 0,
                last=i == layers - 1,
            )
            for i in range(layers)
        )
        self.layers = cast("Sequence[GatedLayer]", stacked)
        groups, hidden = (channel_groups(maps, image_channels) for maps in (channels, head_channels))
        outputs = channel_groups(image_channels * levels, image_channels)
        # One convolution of all layers' maps side by side is the sum of a skip from every layer.
        self.skip = MaskedConv2d(groups.repeat(layers), groups, kind="B")
        self.hidden = MaskedConv2d(groups, hidden, kind="B")
        self.output = MaskedConv2d(hidden, outputs, kind="B")

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Logits (B, K, C, H, W) of images x in [0, 1], (B, C, H, W), and conditions (B, d)."""
        above = across = (2 * x - 1).to(memory_format=torch.channels_last)
        gated = []
        for layer in self.layers:
            rows, features = layer(above, across, condition)
            gated.append(features)
            if layer.residual is not None:
                handed_on = layer.residual(features)
                across = handed_on if layer.first else across + handed_on
                above = gate(rows)
        features = torch.relu(self.skip(torch.cat(gated, dim=1)))
        outputs: Tensor = self.output(torch.relu(self.hidden(features)))  # (B, C·K, H, W)
        return outputs.view(len(x), self.image_channels, self.levels, *x.shape[2:]).transpose(1, 2)
