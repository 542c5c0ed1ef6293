"""PixelRNN's network: a masked convolution, residual blocks of two-dimensional LSTMs, a head of two 1 × 1.

Shapes: B batch, C channels, H height, W width, K levels, h maps of a layer, M maps that condition it.

Source: *Pixel Recurrent Neural Networks* (van den Oord et al., 2016, arXiv 1601.06759), section 3, table 1.
"""

from collections.abc import Sequence
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bestiary.networks.diagonal_lstm import DiagonalBiLSTM
from bestiary.networks.lstm_layer import LSTMLayer
from bestiary.networks.masked import MaskedConv2d, channel_groups
from bestiary.networks.masked_stack import square_convolution
from bestiary.networks.row_lstm import RowLSTM

FIRST_KERNEL_SIZE = 7

Recurrence = Literal["row", "diagonal"]

_LAYERS: dict[Recurrence, type[LSTMLayer]] = {"row": RowLSTM, "diagonal": DiagonalBiLSTM}


class PixelRNNStack(nn.Module):
    """The whole network, from images to logits.

    A block: 2h maps, an LSTM with h maps, a 1 × 1 convolution up to 2h, added to its input (figure 5).

    Attributes:
        blank: columns of nothing that are added to the right of the image, see `DiagonalBiLSTM`.

    Arguments:
        image_channels: C.
        levels: K, values of a sub-pixel.
        recurrence: "row" or "diagonal".
        layers: number of LSTM layers.
        channels: h.
        head_channels: maps between the two 1 × 1 convolutions of the head.
        skip: whether every layer has a learned 1 × 1 to the head beside the way through the next blocks.
        condition_dim: length of the conditioning vector, 0 for none.
        map_channels: M, 0 for none.
    """

    def __init__(
        self,
        image_channels: int,
        levels: int,
        *,
        recurrence: Recurrence,
        layers: int,
        channels: int,
        head_channels: int,
        skip: bool = True,
        condition_dim: int = 0,
        map_channels: int = 0,
    ) -> None:
        super().__init__()
        self.image_channels = image_channels
        self.levels = levels
        pixel, inner, outer, hidden, outputs = (
            channel_groups(maps, image_channels)
            for maps in (image_channels, channels, 2 * channels, head_channels, image_channels * levels)
        )
        self.first = square_convolution(pixel, outer, FIRST_KERNEL_SIZE, "A")
        stacked = nn.ModuleList(
            _LAYERS[recurrence](
                channels,
                image_channels=image_channels,
                condition_dim=condition_dim,
                map_channels=map_channels,
            )
            for _ in range(layers)
        )
        self.layers = cast("Sequence[LSTMLayer]", stacked)
        self.blank = self.layers[0].blank
        # Without a bias: whatever reads the sum has one of its own.
        expanding = nn.ModuleList(MaskedConv2d(inner, outer, kind="B", bias=False) for _ in range(layers))
        self.expand = cast("Sequence[MaskedConv2d]", expanding)
        # One convolution of all layers' maps side by side is the sum of a skip from every layer.
        self.skip = MaskedConv2d(inner.repeat(layers), outer, kind="B") if skip else None
        self.hidden = MaskedConv2d(outer, hidden, kind="B")
        self.output = MaskedConv2d(hidden, outputs, kind="B")

    def forward(self, x: Tensor, condition: Tensor | None = None, maps: Tensor | None = None) -> Tensor:
        """Logits (B, K, C, H, W) of images x in [0, 1], (B, C, H, W).

        Arguments:
            x: the images.
            condition: vectors (B, d), which bias the gates of all layers.
            maps: (B, M, H, W), which do so pixel by pixel, through an unmasked 1 × 1 convolution.
        """
        batch, _, height, width = x.shape
        reach = FIRST_KERNEL_SIZE // 2
        features = self.first(F.pad(2 * x - 1, (reach, reach + self.blank, reach, 0)))
        features = features.permute(1, 2, 3, 0).contiguous()  # (2h, H, W, B)
        if maps is not None:
            maps = F.pad(maps, (0, self.blank)).permute(1, 2, 3, 0).contiguous()
        seen = []
        for layer, expand in zip(self.layers, self.expand, strict=True):
            seen.append(layer(features, condition, maps))
            features = features + _pointwise(expand, seen[-1])
        if self.skip is not None:
            features = features + _pointwise(self.skip, torch.cat(seen))
        hidden = _pointwise(self.hidden, torch.relu(features[:, :, :width])).relu_().flatten(1)
        # The levels come last, as a softmax wants them in memory.
        weight, bias = self.output.masked_weight[:, :, 0, 0], self.output.bias
        outputs = F.linear(hidden.t(), weight, bias)  # (H·W·B, C·K)
        shape = (height, width, batch, self.image_channels, self.levels)
        return outputs.view(shape).permute(2, 4, 3, 0, 1)


def _pointwise(layer: MaskedConv2d, maps: Tensor) -> Tensor:
    """A masked 1 × 1 convolution where maps come first: (inputs, …) to (maps, …)."""
    weight = layer.masked_weight[:, :, 0, 0]
    columns = maps.flatten(1)
    product = weight @ columns if layer.bias is None else torch.addmm(layer.bias[:, None], weight, columns)
    return product.view(-1, *maps.shape[1:])
