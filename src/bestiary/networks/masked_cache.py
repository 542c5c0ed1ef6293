"""PixelCNN's masked convolutions, computed in the order in which an image is drawn, each activation once.

What the rows above give to a row is one matrix product for each row and layer; what the row itself gives is
a small one for each pixel, and within a pixel for each channel: only the maps of that channel's group.
Weights are packed once. Buffers and the views into them are made once too: a pixel is so little work that
making a view of it costs as much as the arithmetic.

Source: *Fast Generation for Convolutional Autoregressive Models* (Ramachandran et al., 2017, arXiv
1704.06001). Shapes: B batch, C channels, W width, K levels; k rows and n columns of a kernel; h inner maps of
a block, 2h between blocks.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bestiary.networks.masked import MaskedConv2d, group_spans
from bestiary.networks.masked_stack import MaskedBlock, MaskedStack


class MaskedStackCache:
    """What `stack` computes for a batch that is being drawn: rows from the top, columns from the left.

    For every sub-pixel in raster order: `logits`, then `put`. Without gradients; later changes of the weights
    are not seen.

    Arguments:
        stack: the network.
        batch: B, images drawn together.
        width: W.
        condition: (B, d) or None.
    """

    def __init__(self, stack: MaskedStack, batch: int, width: int, condition: Tensor | None = None) -> None:
        new_zeros, channels = stack.output.weight.new_zeros, stack.image_channels
        self._row = -1
        self._maps = new_zeros(batch, stack.hidden.in_channels)  # between blocks; each adds to them
        inner = new_zeros(batch, len(stack.blocks), stack.blocks[0].expand.in_channels)
        self._inner = F.pad(inner, (0, 1), value=1.0)  # (B, blocks, h + 1), see `_BlockCache`
        self._first = ConvolutionCache(stack.first, batch, width, channels)
        self._drawn = DrawnRow(self._first.row[:, self._first.margin :][:, :width])
        self._blocks = [
            _BlockCache(block, self._maps, inner, width, channels, condition)
            for block, inner in zip(stack.blocks, self._inner.unbind(1), strict=True)
        ]
        self._features = torch.zeros_like(self._maps)  # for the head
        whole = (self._maps, self._features)
        self._groups = list(zip(*(by_group(maps, channels) for maps in whole), strict=True))
        self._skip = None if stack.skip is None else PointwiseCache(stack.skip, batch, channels)
        self._hidden = PointwiseCache(stack.hidden, batch, channels)
        self._output = PointwiseCache(stack.output, batch, channels)

    def logits(self, row: int, column: int, channel: int) -> Tensor:
        """Logits (B, K) of one sub-pixel given all that were put; the next call may overwrite them."""
        if row != self._row:
            for convolution in (self._first, *(block.square for block in self._blocks)):
                convolution.start_row()
            self._row = row
        maps, features = self._groups[channel]
        self._first.compute(column, channel, out=maps)
        for block in self._blocks:
            block.compute(column, channel)
        if self._skip is not None:
            maps += self._skip.compute(self._inner[..., :-1].flatten(1), channel)
        torch.clamp_min(maps, 0, out=features)
        self._hidden.compute(self._features, channel).relu_()
        return self._output.compute(self._hidden.maps, channel)

    def put(self, row: int, column: int, channel: int, values: Tensor) -> None:
        """Set the sub-pixel that was drawn to `values` in [0, 1], shape (B,)."""
        self._drawn.put(column, channel, values)

    def select(self, indices: Tensor) -> None:
        """Go on with other images: image b becomes what image indices[b] was, int64 (B,)."""
        for maps in (self._inner, self._features, self._hidden.maps):
            maps.copy_(maps[indices])
        self._first.select(indices)
        for block in self._blocks:
            block.select(indices)


class ConvolutionCache:
    """A masked convolution of k rows and n columns: the row that is being drawn, and what is above it.

    Maps of later groups at the current pixel are stale, and meet weights that the mask has set to zero.

    Attributes:
        row: its input, (B, W + 2·margin, inputs), zeros in the margins.
    """

    def __init__(
        self, layer: MaskedConv2d, batch: int, width: int, channels: int, bias: Tensor | None = None
    ) -> None:
        new_zeros = layer.weight.new_zeros
        outputs, inputs, rows, columns = layer.weight.shape
        self.margin = margin = columns // 2
        self.row = new_zeros(batch, width + 2 * margin, inputs)
        self._bias = bias_of(layer) if bias is None else bias_of(layer) + bias  # (outputs,) or (B, outputs)
        weight = layer.masked_weight.permute(2, 3, 1, 0)  # (k, n, inputs, outputs)
        self._above = weight[:-1].reshape(-1, outputs)
        self._across = packed(weight[-1, : margin + 1].reshape(-1, outputs), channels)
        # The n columns of every earlier row, around every pixel of a row.
        self._windows = new_zeros(width, batch, rows - 1, columns * inputs)
        self._newest = self.row.flatten(1).unfold(1, columns * inputs, inputs).transpose(0, 1)
        self._context = new_zeros(width, batch, outputs)  # what the row gets from above
        self._contexts = [by_group(column, channels) for column in self._context]
        row, reach = self.row.flatten(1), (margin + 1) * inputs
        self._pixels = [row[:, j * inputs : j * inputs + reach] for j in range(width)]

    def start_row(self) -> None:
        """Move on to the next row; `row`, if there was one, is complete."""
        self._windows[:, :, :-1] = self._windows[:, :, 1:].clone()
        self._windows[:, :, -1] = self._newest
        windows = self._windows.flatten(2).flatten(0, 1)
        self._context.copy_(self._bias).flatten(0, 1).addmm_(windows, self._above)

    def compute(self, column: int, group: int, out: Tensor) -> Tensor:
        """One group of maps at one pixel, (B, maps of the group)."""
        return torch.addmm(self._contexts[column][group], self._pixels[column], self._across[group], out=out)

    def select(self, indices: Tensor) -> None:
        """Reorder what is kept of each image."""
        self.row.copy_(self.row[indices])
        self._windows.copy_(self._windows[:, indices])
        self._context.copy_(self._context[:, indices])


class _BlockCache:
    """One residual block: what it adds to `maps` (B, 2h) at one pixel, one group at a time.

    Inputs of its 1 × 1 convolutions end with a map that is always 1, whose weights are the biases: adding
    these by `addmm` would cost as much as an operation of its own.
    """

    def __init__(
        self,
        block: MaskedBlock,
        maps: Tensor,
        inner: Tensor,  # (B, h + 1), where the inner maps go, and a 1
        width: int,
        channels: int,
        condition: Tensor | None,
    ) -> None:
        bias = block.condition_bias(condition)
        self.square = ConvolutionCache(block.square, len(maps), width, channels, bias)
        self._rectified, self._inner = F.pad(torch.zeros_like(maps), (0, 1), value=1.0), inner
        views = (maps, self._rectified[:, :-1], inner[:, :-1])
        self._groups = list(
            zip(
                *(by_group(view, channels) for view in views),
                *(packed(_with_bias(layer), channels) for layer in (block.reduce, block.expand)),
                strict=True,
            )
        )
        pixels = self.square.row[:, self.square.margin :][:, :width]
        self._reduced = [by_group(pixel, channels) for pixel in pixels.unbind(1)]

    def compute(self, column: int, group: int) -> None:
        """Add to one group of `maps`."""
        maps, rectified, inner, reduce, expand = self._groups[group]
        torch.clamp_min(maps, 0, out=rectified)
        torch.mm(self._rectified, reduce, out=self._reduced[column][group]).relu_()
        self.square.compute(column, group, out=inner).relu_()
        maps.addmm_(self._inner, expand)

    def select(self, indices: Tensor) -> None:
        """Reorder what is kept of each image, but for the inner maps."""
        self._rectified.copy_(self._rectified[indices])
        self.square.select(indices)


class DrawnRow:
    """The row of an image that is being drawn, (B, W, C), from −1 to 1: where a new value goes."""

    def __init__(self, row: Tensor) -> None:
        self._views = [column.unbind(1) for column in row.unbind(1)]
        self._minus_one = row.new_tensor(-1.0)

    def put(self, column: int, channel: int, values: Tensor) -> None:
        """Set one sub-pixel to `values` in [0, 1], shape (B,)."""
        torch.add(self._minus_one, values, alpha=2, out=self._views[column][channel])


class PointwiseCache:
    """A masked 1 × 1 convolution at one pixel, (B, inputs) to (B, maps), one group of maps at a time.

    The inputs of `compute` are those of the layer divided by `factor`.
    """

    def __init__(self, layer: MaskedConv2d, batch: int, channels: int, *, factor: float = 1.0) -> None:
        weight = factor * layer.masked_weight[:, :, 0, 0].t()
        self.maps = weight.new_zeros(batch, layer.out_channels)
        self._views, self._biases = by_group(self.maps, channels), by_group(bias_of(layer), channels)
        self._weights = packed(weight, channels)

    def compute(self, inputs: Tensor, group: int) -> Tensor:
        """Fill the maps of one group from all inputs, and return them, (B, maps of the group)."""
        return torch.addmm(self._biases[group], inputs, self._weights[group], out=self._views[group])


def by_group(maps: Tensor, channels: int) -> list[Tensor]:
    """Views of each channel's group of maps, which are the last dimension."""
    return [maps[..., span] for span in group_spans(maps.shape[-1], channels)]


def packed(weight: Tensor, channels: int) -> list[Tensor]:
    """The columns of each channel's group of outputs, from a weight (inputs, outputs)."""
    return [group.contiguous() for group in by_group(weight, channels)]


def _with_bias(layer: MaskedConv2d) -> Tensor:
    """The weight of a 1 × 1 convolution, (inputs + 1, outputs), the bias in its last row."""
    return torch.cat([layer.masked_weight[:, :, 0, 0].t(), bias_of(layer)[None]])


def bias_of(layer: nn.Conv2d) -> Tensor:
    """The bias of a convolution, zeros where it has none."""
    return layer.weight.new_zeros(layer.out_channels) if layer.bias is None else layer.bias
