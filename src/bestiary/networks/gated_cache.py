"""Gated PixelCNN's two stacks, computed in the order in which an image is drawn, each activation once.

The vertical stack of a row is computed when the row above it is complete, for the whole row; a layer keeps
the last rows of its input. The horizontal stack is computed pixel by pixel, and within a pixel channel by
channel: only the maps of that channel's group. Everything is a matrix product with weights that are packed
once. Buffers and the views into them are made once too: a pixel is so little work that making a view of
it costs as much as the arithmetic.

The gate is computed by one sigmoid: tanh(f) ⊙ σ(g) = −(σ(g) − 2 σ(2f) ⊙ σ(g)), where tanh would cost three
times as much as σ. The factor 2 and the sign are parts of the weights before and after it.

Source: *Fast Generation for Convolutional Autoregressive Models* (Ramachandran et al., 2017, arXiv
1704.06001). Shapes: B batch, C channels, W width, p maps, K levels; k rows and n columns of a vertical
kernel, m = k columns of a horizontal one.
"""

import torch
from torch import Tensor

from bestiary.networks.gated_stack import GatedLayer, GatedStack
from bestiary.networks.masked import group_spans
from bestiary.networks.masked_cache import DrawnRow, PointwiseCache, bias_of


class GatedStackCache:
    """What `stack` computes for a batch that is being drawn: rows from the top, columns from the left.

    For every sub-pixel in raster order: `logits`, then `put`. Without gradients; later changes of the weights
    are not seen.

    Arguments:
        stack: the network.
        batch: B, images drawn together.
        width: W.
        condition: (B, d) or None.
    """

    def __init__(self, stack: GatedStack, batch: int, width: int, condition: Tensor | None = None) -> None:
        new_zeros, channels = stack.output.weight.new_zeros, stack.image_channels
        across = [
            new_zeros(batch, layer.reach - 1 + width, layer.horizontal.in_channels) for layer in stack.layers
        ]
        gated = new_zeros(batch, len(stack.layers), stack.layers[0].channels)
        self._layers = [
            _LayerCache(layer, channels, condition, across[i : i + 2], gated[:, i])
            for i, layer in enumerate(stack.layers)
        ]
        self._row = -1
        self._image = across[0][:, -width:].transpose(0, 1)  # (W, B, C), the row that is being drawn
        self._drawn = DrawnRow(across[0][:, -width:])
        self._across = across
        self._gated = gated.flatten(1)  # (B, layers·p), times −1
        self._skip = PointwiseCache(stack.skip, batch, channels, factor=-1)
        self._hidden = PointwiseCache(stack.hidden, batch, channels)
        self._output = PointwiseCache(stack.output, batch, channels)

    def logits(self, row: int, column: int, channel: int) -> Tensor:
        """Logits (B, K) of one sub-pixel given all that were put; the next call may overwrite them."""
        if row != self._row:
            self._start_row()
            self._row = row
        for layer in self._layers:
            layer.compute(column, channel)
        self._skip.compute(self._gated, channel).relu_()
        self._hidden.compute(self._skip.maps, channel).relu_()
        return self._output.compute(self._hidden.maps, channel)

    def put(self, row: int, column: int, channel: int, values: Tensor) -> None:
        """Set the sub-pixel that was drawn to `values` in [0, 1], shape (B,)."""
        self._drawn.put(column, channel, values)

    def select(self, indices: Tensor) -> None:
        """Go on with other images: image b becomes what image indices[b] was, int64 (B,)."""
        for maps in (*self._across, self._gated, self._skip.maps, self._hidden.maps):
            maps.copy_(maps[indices])
        for layer in self._layers:
            layer.select(indices)

    def _start_row(self) -> None:
        """Compute the vertical stack of the next row; the row above it, if any, is complete."""
        above = self._layers[0].start_row(self._image)
        for layer in self._layers[1:]:
            f, g = above.sigmoid_().chunk(2, dim=2)
            above = layer.start_row(torch.addcmul(g, f, g, value=-2))


class _LayerCache:
    """One gated layer: the last k rows of its vertical input and the whole row of its horizontal input.

    Maps that belong to the same group are made neighbours: [f of group 0, g of group 0, f of group 1, …].
    Maps of later groups at the current pixel are stale, and meet weights that the mask has set to zero.
    """

    def __init__(
        self,
        layer: GatedLayer,
        channels: int,
        condition: Tensor | None,
        across: list[Tensor],  # horizontal input, (B, m − 1 + W, inputs), and that of the next layer, if any
        gated: Tensor,  # (B, p), where the gated maps go, times −1
    ) -> None:
        batch, padded, inputs = across[0].shape
        width, p, k = padded - layer.reach + 1, layer.channels, layer.reach
        n = layer.vertical.kernel_size[1]
        spans = group_spans(p, channels)
        blocks = [[*range(s.start, s.stop), *range(p + s.start, p + s.stop)] for s in spans]
        order = [index for block in blocks for index in block]

        twice = across[0].new_tensor([2.0] * p + [1.0] * p)  # [2f, g]
        biases = [bias_of(layer.vertical), bias_of(layer.horizontal)]
        projected = layer.condition_biases(condition)
        if projected is not None:
            biases = [bias + vector for bias, vector in zip(biases, projected, strict=True)]
        self._above_bias, self._across_bias = (bias * twice for bias in biases)
        self._across_bias = self._across_bias[..., order]
        vertical = layer.vertical.weight.permute(3, 2, 1, 0).reshape(n, k * inputs, 2 * p)
        self._vertical = vertical * (twice if layer.first else -twice)
        self._link = (layer.link.weight[..., 0, 0].t() * twice / twice[:, None])[:, order].contiguous()
        horizontal = layer.horizontal.masked_weight[:, :, 0].permute(2, 1, 0).reshape(k * inputs, 2 * p)
        self._horizontal = [(horizontal * twice)[:, block].contiguous() for block in blocks]

        self._rows = across[0].new_zeros(width + n - 1, batch, k, inputs)
        self._newest = self._rows[n // 2 : n // 2 + width, :, -1]
        self._taps = [self._rows[tap : tap + width].flatten(2).flatten(0, 1) for tap in range(n)]
        self._above = across[0].new_zeros(width, batch, 2 * p)
        self._context = torch.zeros_like(self._above)  # what the row's horizontal stack gets from above

        # Views for every column (and group), in the order of `compute`.
        row = across[0].flatten(1)
        self._windows = [row[:, j * inputs : (j + k) * inputs] for j in range(width)]  # (B, m·inputs)
        sizes = [len(block) for block in blocks]
        self._contexts = [column.split(sizes, dim=1) for column in self._context]
        activations = [row.new_empty(batch, size) for size in sizes]
        self._activations = [(whole, *whole.chunk(2, dim=1)) for whole in activations]
        self._gated, self._gated_groups = gated, [gated[:, span] for span in spans]
        self._residual: list[Tensor] = []
        if layer.residual is not None:
            residual = layer.residual.masked_weight[:, :, 0, 0].t()
            self._residual = [-residual[:, span].contiguous() for span in spans]
            carried = torch.zeros_like(across[1]) if layer.first else across[0]
            self._carried, self._handed_on = (
                [[maps[:, j - width, span] for span in spans] for j in range(width)]
                for maps in (carried, across[1])
            )

    def start_row(self, row: Tensor) -> Tensor:
        """From the newest row of the vertical input, (W, B, inputs), [2f, g] before the gate, (W, B, 2p)."""
        self._rows[:, :, :-1] = self._rows[:, :, 1:].clone()
        self._newest.copy_(row)
        above = self._above.copy_(self._above_bias).flatten(0, 1)
        for maps, weight in zip(self._taps, self._vertical, strict=True):
            above.addmm_(maps, weight)
        self._context.copy_(self._across_bias).flatten(0, 1).addmm_(above, self._link)
        return self._above

    def select(self, indices: Tensor) -> None:
        """Reorder what is kept of each image, but for the horizontal input and the gated maps."""
        self._rows.copy_(self._rows[:, indices])
        self._context.copy_(self._context[:, indices])

    def compute(self, column: int, group: int) -> None:
        """The gated maps of one group at one pixel, and the horizontal input of the next layer there."""
        whole, f, g = self._activations[group]
        torch.addmm(self._contexts[column][group], self._windows[column], self._horizontal[group], out=whole)
        whole.sigmoid_()
        torch.addcmul(g, f, g, value=-2, out=self._gated_groups[group])
        if self._residual:
            torch.addmm(
                self._carried[column][group],
                self._gated,
                self._residual[group],
                out=self._handed_on[column][group],
            )
