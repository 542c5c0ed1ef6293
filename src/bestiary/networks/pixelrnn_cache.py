"""PixelRNN, computed in the order in which an image is drawn, each activation once.

What the row above gives to the gates of a row is one matrix product for each row and layer. What the row
itself gives is a small one for each pixel, and within a pixel for each channel: only the maps of that
channel's group. The LSTM from the right goes over a row when the row is complete. Weights are packed once;
buffers and the views into them are made once too.

Shapes: B batch, C channels, W width, V = W + blank columns, K levels, h maps of a layer, M conditioning maps.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from bestiary.networks.diagonal_lstm import DiagonalBiLSTM
from bestiary.networks.lstm_layer import LSTMLayer
from bestiary.networks.masked import group_spans
from bestiary.networks.masked_cache import ConvolutionCache, DrawnRow, PointwiseCache, by_group, packed
from bestiary.networks.pixelrnn_stack import PixelRNNStack


class PixelRNNCache:
    """What `stack` computes for a batch that is being drawn: rows from the top, columns from the left.

    For every sub-pixel in raster order: `logits`, then `put`. Without gradients; later changes of the weights
    are not seen.

    Arguments:
        stack: the network.
        batch: B, images drawn together.
        width: W.
        condition: (B, d) or None.
        maps: (B, M, H, W) or None.
    """

    def __init__(
        self,
        stack: PixelRNNStack,
        batch: int,
        width: int,
        condition: Tensor | None = None,
        maps: Tensor | None = None,
    ) -> None:
        new_zeros, channels = stack.output.weight.new_zeros, stack.image_channels
        columns = width + stack.blank
        self._row, self._width, self._columns, self._channels = -1, width, columns, channels
        self._maps = None
        if maps is not None:
            self._maps = F.pad(maps, (0, stack.blank)).permute(2, 3, 0, 1)  # (H, V, B, M)
        self._first = ConvolutionCache(stack.first, batch, columns, channels)
        self._drawn = DrawnRow(self._first.row[:, self._first.margin :][:, :width])
        self._seen = new_zeros(batch, len(stack.layers), stack.layers[0].channels)
        self._layers = [
            (_DiagonalCache if isinstance(layer, DiagonalBiLSTM) else _RowCache)(
                layer, columns, channels, condition, seen
            )
            for layer, seen in zip(stack.layers, self._seen.unbind(1), strict=True)
        ]
        self._features = new_zeros(batch, stack.hidden.in_channels)  # for the head
        head = [by_group(self._features, channels)] * columns
        self._inputs = [*(layer.inputs for layer in self._layers), head]
        self._expand = [packed(layer.masked_weight[:, :, 0, 0].t(), channels) for layer in stack.expand]
        self._skip = None if stack.skip is None else PointwiseCache(stack.skip, batch, channels)
        self._hidden = PointwiseCache(stack.hidden, batch, channels)
        self._output = PointwiseCache(stack.output, batch, channels)

    def logits(self, row: int, column: int, channel: int) -> Tensor:
        """Logits (B, K) of one sub-pixel given all that were put; the next call may overwrite them."""
        if row != self._row:
            self._start_row(row)
        self._compute(column, channel)
        features = self._inputs[-1][column][channel]
        if self._skip is not None:
            features.add_(self._skip.compute(self._seen.flatten(1), channel))
        features.relu_()
        self._hidden.compute(self._features, channel).relu_()
        return self._output.compute(self._hidden.maps, channel)

    def put(self, row: int, column: int, channel: int, values: Tensor) -> None:
        """Set the sub-pixel that was drawn to `values` in [0, 1], shape (B,)."""
        self._drawn.put(column, channel, values)

    def select(self, indices: Tensor) -> None:
        """Go on with other images: image b becomes what image indices[b] was, int64 (B,).

        Conditions stay where they are: an image's is that of image indices[b] too.
        """
        if self._maps is not None:
            self._maps = self._maps[:, :, indices]
        self._first.select(indices)
        for maps in (self._seen, self._features, self._hidden.maps):
            maps.copy_(maps[indices])
        for layer in self._layers:
            layer.select(indices)

    def _start_row(self, row: int) -> None:
        if self._row >= 0:
            for column in range(self._width, self._columns):
                for channel in range(self._channels):
                    self._compute(column, channel)
            for layer in self._layers:
                layer.finish_row(None if self._maps is None else self._maps[self._row])
        self._row = row
        self._first.start_row()
        for layer in self._layers:
            layer.start_row(None if self._maps is None else self._maps[row])

    def _compute(self, column: int, group: int) -> None:
        """One group of maps at one pixel, up to what the head gets."""
        self._first.compute(column, group, out=self._inputs[0][column][group])
        for index, layer in enumerate(self._layers):
            seen = layer.compute(column, group)
            given, handed_on = (self._inputs[i][column][group] for i in (index, index + 1))
            torch.addmm(given, seen, self._expand[index][group], out=handed_on)


class _LayerCache(ABC):
    """One layer: the row of its input and states that is being drawn, and what came from the row above.

    Gates of the same group are made neighbours: [o, f, i, g of group 0, o, f, i, g of group 1, …]. As
    tanh(g) = 2σ(2g) − 1, the weights of g are doubled and one σ serves all gates. Maps of later groups at
    the current pixel are stale, and meet weights that the mask has set to zero.

    Attributes:
        inputs: views of the layer's input, for each column and group, (B, maps of the group).
    """

    inputs: list[list[Tensor]]

    def __init__(
        self,
        layer: LSTMLayer,
        columns: int,
        channels: int,
        condition: Tensor | None,
        seen: Tensor,  # (B, h), where the layer's maps go
    ) -> None:
        h, batch = layer.channels, len(seen)
        twice = seen.new_tensor([1.0] * 3 * h + [2.0] * h)
        self._across = (layer.input_weight().transpose(1, 2) * twice).contiguous()  # (D, window·2h, 4h)
        self._states = (layer.state_to_state.transpose(1, 2) * twice).contiguous()  # (D, S·h, 4h)
        self._biases = layer.biases(batch, condition).transpose(1, 2) * twice  # (D, B, 4h)
        projection = layer.map_weight()
        self._projection = None if projection is None else projection.transpose(1, 2) * twice  # (D, M, 4h)
        self._initial = [value[:, None].expand(-1, batch, -1) for value in (layer.hidden, layer.memory)]
        self._seen, self._seen_groups = seen, by_group(seen, channels)

        spans = group_spans(h, channels)
        self._blocks = [
            [gate * h + place for gate in range(4) for place in range(s.start, s.stop)] for s in spans
        ]
        self._order = [index for block in self._blocks for index in block]
        self._context = seen.new_zeros(columns, batch, 4 * h)
        sizes = [len(block) for block in self._blocks]
        self._contexts = [column.split(sizes, dim=1) for column in self._context]
        activations = [seen.new_empty(batch, size) for size in sizes]
        self._activations = [(whole, whole.chunk(4, dim=1)) for whole in activations]
        self._squashed = [seen.new_empty(batch, size // 4) for size in sizes]

    def start_row(self, maps: Tensor | None) -> None:
        """Compute what a row gets from the row above and from conditioning maps (V, B, M)."""
        self._context.copy_(self._fixed(0, maps)[..., self._order])
        above, weight = self._from_above()
        self._context.flatten(0, 1).addmm_(above.flatten(0, 1), weight)

    @abstractmethod
    def finish_row(self, maps: Tensor | None) -> None:
        """Do what can be done only when all of a row is there."""

    @abstractmethod
    def compute(self, column: int, group: int) -> Tensor:
        """One group of the layer's maps at one pixel; all of them, (B, h)."""

    @abstractmethod
    def select(self, indices: Tensor) -> None:
        """Reorder what is kept of each image, but for the layer's maps."""

    @abstractmethod
    def _from_above(self) -> tuple[Tensor, Tensor]:
        """States of the row above that each column gets, (V, B, n), and their weights (n, 4h)."""

    def _fixed(self, direction: int, maps: Tensor | None) -> Tensor:
        """What does not depend on the image: (B, 4h), or (V, B, 4h) with maps (V, B, M)."""
        bias = self._biases[direction]
        if maps is None or self._projection is None:
            return bias
        return bias + maps @ self._projection[direction]

    def _update(self, column: int, group: int, window: Tensor, weight: Tensor, c: Tensor, h: Tensor) -> None:
        """One group of h from a window of the row and the cell before, which becomes the new one."""
        whole, parts = self._activations[group]
        torch.addmm(self._contexts[column][group], window, weight, out=whole)
        _cell(whole, parts, c, h, self._squashed[group])


class _RowCache(_LayerCache):
    """Row LSTM: the row above is in the buffers of states and cells, and overwritten from the left."""

    def __init__(
        self, layer: LSTMLayer, columns: int, channels: int, condition: Tensor | None, seen: Tensor
    ) -> None:
        super().__init__(layer, columns, channels, condition, seen)
        h, batch = layer.channels, len(seen)
        self._line = seen.new_zeros(batch, (columns + layer.window - 1) * 2 * h)
        pixels = self._line.unflatten(1, (-1, 2 * h))[:, layer.window - 1 :]
        self.inputs = [by_group(pixel, channels) for pixel in pixels.unbind(1)]
        self._windows = [self._line[:, j * 2 * h : (j + layer.window) * 2 * h] for j in range(columns)]
        self._own = [self._across[0][:, block].contiguous() for block in self._blocks]
        self._above = self._states[0][:, self._order]
        hidden, memory = self._initial
        self._h = hidden.expand(columns + 2, -1, -1).clone()  # one outside the image at either end
        self._c = memory.expand(columns, -1, -1).clone()
        self._rows = [[by_group(column, channels) for column in maps] for maps in (self._h[1:-1], self._c)]

    def finish_row(self, maps: Tensor | None) -> None:
        pass

    def compute(self, column: int, group: int) -> Tensor:
        h, c = (row[column][group] for row in self._rows)
        self._update(column, group, self._windows[column], self._own[group], c, h)
        self._seen_groups[group].copy_(h)
        return self._seen

    def select(self, indices: Tensor) -> None:
        self._line.copy_(self._line[indices])
        for maps in (self._h, self._c, self._context):
            maps.copy_(maps[:, indices])

    def _from_above(self) -> tuple[Tensor, Tensor]:
        return torch.cat([self._h[:-2], self._h[1:-1], self._h[2:]], dim=2), self._above


class _DiagonalCache(_LayerCache):
    """Diagonal BiLSTM: the line holds [h before the row, x of pixel 0, h of pixel 0, x of pixel 1, …].

    So the state before a pixel and the pixel's input lie side by side and are one factor of a product.
    """

    def __init__(
        self, layer: LSTMLayer, columns: int, channels: int, condition: Tensor | None, seen: Tensor
    ) -> None:
        super().__init__(layer, columns, channels, condition, seen)
        h, batch = layer.channels, len(seen)
        hidden, memory = self._initial
        self._line = seen.new_zeros(batch, h + columns * 3 * h)
        self._line[:, :h] = hidden[0]
        self._pixels = self._line[:, h:].unflatten(1, (columns, 3 * h))  # x, then h
        self.inputs = [by_group(pixel[:, : 2 * h], channels) for pixel in self._pixels.unbind(1)]
        self._windows = [self._line[:, j * 3 * h : (j + 1) * 3 * h] for j in range(columns)]
        before, above = self._states[0].chunk(2)
        own = torch.cat([before, self._across[0]])
        self._own = [own[:, block].contiguous() for block in self._blocks]
        self._above = above[:, self._order]
        self._left = [by_group(pixel[:, 2 * h :], channels) for pixel in self._pixels.unbind(1)]
        self._pixels[:, :, 2 * h :] = hidden[0][:, None]  # above the first row
        self._c = memory[0].clone()
        self._cells = by_group(self._c, channels)
        self._right = hidden[1].expand(columns, -1, -1).clone()  # states from the right, of the row above
        self._moved = torch.zeros_like(self._right)  # the same moved down: nothing in the first row
        self._moved_groups = [by_group(column, channels) for column in self._moved]

    def start_row(self, maps: Tensor | None) -> None:
        super().start_row(maps)
        self._c.copy_(self._initial[1][0])

    def finish_row(self, maps: Tensor | None) -> None:
        """The LSTM from the right, over the row that is complete."""
        h = self._c.shape[1]
        before, above = self._states[1].chunk(2)
        inputs = torch.cat([self._pixels[:, :, : 2 * h].transpose(0, 1), self._right], dim=2)
        context = inputs @ torch.cat([self._across[1], above]) + self._fixed(1, maps)
        hidden, c = self._initial[0][1], self._initial[1][1].clone()
        squashed = torch.empty_like(c)
        for gates, state in zip(reversed(context.unbind()), reversed(self._right.unbind()), strict=True):
            gates.addmm_(hidden, before)
            _cell(gates, gates.chunk(4, dim=1), c, state, squashed)
            hidden = state
        self._moved.copy_(self._right)

    def compute(self, column: int, group: int) -> Tensor:
        h, c = self._left[column][group], self._cells[group]
        self._update(column, group, self._windows[column], self._own[group], c, h)
        torch.add(h, self._moved_groups[column][group], out=self._seen_groups[group])
        return self._seen

    def select(self, indices: Tensor) -> None:
        for maps in (self._line, self._c):
            maps.copy_(maps[indices])
        for maps in (self._right, self._moved, self._context):
            maps.copy_(maps[:, indices])

    def _from_above(self) -> tuple[Tensor, Tensor]:
        return self._pixels[:, :, -self._c.shape[1] :].transpose(0, 1), self._above


def _cell(gates: Tensor, parts: Sequence[Tensor], c: Tensor, h: Tensor, squashed: Tensor) -> None:
    """c ← σ(f) ⊙ c + σ(i) ⊙ (2σ(g) − 1) and h = σ(o) ⊙ tanh(c), where o, f, i, g are parts of `gates`."""
    gates.sigmoid_()
    o, f, i, g = parts
    torch.mul(f, c, out=c).addcmul_(i, g, value=2).sub_(i)
    torch.mul(o, torch.tanh(c, out=squashed), out=h)
