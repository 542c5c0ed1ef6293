"""The network of locally masked convolutions, computed in the order of drawing, each activation once.

Every convolution keeps its input at all pixels drawn so far. What a pixel sees of its neighbours is one
gather of at most eight of them and one matrix product, made when the pixel is begun; what it sees of itself
follows channel by channel, for the maps of that channel's group alone. Images may be drawn in orders of their
own, and begun with pixels that are known, whose activations all come from one pass of the network.

Shapes: B batch, C channels, H height, W width, L = H·W, p maps, K levels; the rows of a kept input are those
    of
`bestiary.networks.locally_masked`, L·B, and one of zeros.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from bestiary.networks.locally_masked import (
    DILATIONS,
    DilatedLayer,
    LocallyMaskedConv2d,
    LocallyMaskedStack,
    concat_elu,
    seen_neighbours,
)
from bestiary.networks.masked import MaskedConv2d, group_spans


class LocallyMaskedCache:
    """What `stack` computes for a batch that is being drawn.

    For every pixel in its turn and every channel of it: `logits`, then `put`; or, where images have orders of
    their own, `logits_at` and `put_at`, whose `turn` counts the pixels from 0. Without gradients; later
    changes of the weights are not seen.

    Arguments:
        stack: the network.
        batch: B, images drawn together.
        ranks: when each pixel is drawn, (H, W, 1), or for each image by itself, (H, W, B).
        condition: (B, d) or None.
    """

    def __init__(
        self, stack: LocallyMaskedStack, batch: int, ranks: Tensor, condition: Tensor | None = None
    ) -> None:
        channels, maps = stack.image_channels, len(stack.first.out_groups)
        self._stack, self._condition, self._ranks = stack, condition, ranks
        self._turns: list[list[int]] = ranks[..., 0].tolist()
        self._turn = -1

        every = ranks.expand(-1, -1, batch)
        pixels = every.flatten(0, 1).argsort(dim=0)  # (L, B), those of a turn beside each other
        self._rows = pixels * batch + torch.arange(batch, device=ranks.device)
        self._gathers = {dilation: _Gathers(every, pixels, dilation) for dilation in DILATIONS}

        added = {layer.output: layer.condition_bias(condition) for layer in stack.blocks()}
        self._convolutions = {
            layer: _ConvolutionCache(layer, self._rows.numel(), batch, added.get(layer))
            for layer in stack.convolutions()
        }
        self._convolutions[stack.first].here[:, -1] = 1  # the map of ones
        self._features = stack.output.weight.new_zeros(len(stack.layers) + 1, batch, maps)
        self._skips = {layer: _Pointwise(layer.skip, channels) for layer in stack.blocks() if layer.skip}
        self._output = _Pointwise(stack.output, channels)

    def begin(self, x: Tensor) -> Tensor:
        """Take pixels of images x (B, C, H, W) in [0, 1] as drawn; of the others, values do not matter.

        Any number of an image's pixels, the first ones in its order. Go on at any turn at which an image has
        its first other pixel, or earlier.

        Returns:
            the network's logits (B, K, C, H, W), which are those of the given pixels and of the first others.
        """
        hooks = [
            layer.register_forward_pre_hook(cache.keep_all) for layer, cache in self._convolutions.items()
        ]
        try:
            logits: Tensor = self._stack(x, self._ranks, self._condition)
        finally:
            for hook in hooks:
                hook.remove()
        return logits

    def logits(self, row: int, column: int, channel: int) -> Tensor:
        """Logits (B, K) of one sub-pixel given all that were put, where all images have one order."""
        return self.logits_at(self._turns[row][column], channel)

    def put(self, row: int, column: int, channel: int, values: Tensor) -> None:
        """Set that sub-pixel to `values` in [0, 1], shape (B,)."""
        self.put_at(channel, values)

    def logits_at(self, turn: int, channel: int) -> Tensor:
        """Logits (B, K) of a channel of each image's pixel of that turn, given all earlier ones."""
        if turn != self._turn:
            self._start(turn)
        self._compute(channel)
        return self._output.compute(F.elu(self._features[-1]), channel)

    def put_at(self, channel: int, values: Tensor) -> None:
        """Set the sub-pixel whose logits were asked for last to `values` in [0, 1], shape (B,)."""
        self._convolutions[self._stack.first].here[:, channel] = 2 * values - 1

    def select(self, indices: Tensor) -> None:
        """Go on with other images, where all have one order: image b becomes what image indices[b] was."""
        for cache in self._convolutions.values():
            cache.select(indices)
        self._features.copy_(self._features[:, indices])

    def _start(self, turn: int) -> None:
        """Keep the pixel that is complete, if any, and look at what the next one sees of the others."""
        gathers = {dilation: gather.at(turn) for dilation, gather in self._gathers.items()}
        for layer, cache in self._convolutions.items():
            if self._turn >= 0:
                cache.keep(self._rows[self._turn])
            cache.look(*gathers[layer.dilation])
        self._turn = turn

    def _compute(self, group: int) -> None:
        """The features of one group at the pixel."""
        stack, span = self._stack, self._stack.spans[group]
        size = (span.stop - span.start,)
        self._features[0][:, span] = F.layer_norm(self._convolutions[stack.first].compute(group), size)
        for i, (layer, skip) in enumerate(zip(stack.layers, stack.skips, strict=True)):
            before = self._features[i][:, span]
            first = self._convolutions[layer.input]
            if isinstance(layer, DilatedLayer):
                first.here[:, span] = before
                self._features[i + 1][:, span] = F.layer_norm(first.compute(group), size)
                continue
            first.set_elu(span, before)
            y = F.layer_norm(first.compute(group), size)
            if skip is not None:
                y += self._skips[layer].compute(concat_elu(self._features[skip]), group)
            second = self._convolutions[layer.output]
            second.set_elu(span, y)
            a, b = second.compute(group).chunk(2, dim=1)
            self._features[i + 1][:, span] = before + F.layer_norm(a, size) * torch.sigmoid(b)


class _Gathers:
    """For every turn, the taps that any image sees, and the rows of what each of them sees there."""

    def __init__(self, ranks: Tensor, pixels: Tensor, dilation: int) -> None:
        seen, rows = seen_neighbours(ranks, dilation)
        rows = torch.where(seen, rows, ranks.numel()).flatten(1, 2)  # (8, L, B)
        self._rows = rows.gather(1, pixels.expand_as(rows)).permute(1, 2, 0)  # (L, B, 8), in turn
        seen_by_any = (self._rows < ranks.numel()).any(dim=1).tolist()
        self._taps = [[tap for tap, seen in enumerate(turn) if seen] for turn in seen_by_any]

    def at(self, turn: int) -> tuple[Tensor, list[int]]:
        """Rows, tap by tap for each image, (B·n,), and the n taps."""
        taps = self._taps[turn]
        return self._rows[turn][:, taps].flatten(), taps


class _ConvolutionCache:
    """The input of one locally masked convolution at all pixels, and what it is computing at one of them.

    Maps that belong to the same group are made neighbours in its output. Maps of later groups at the pixel
    are stale, and meet weights that the mask has set to zero.
    """

    def __init__(self, layer: LocallyMaskedConv2d, rows: int, batch: int, added: Tensor | None) -> None:
        groups, bias = layer.out_groups, layer.bias if added is None else layer.bias + added
        columns = [torch.nonzero(groups == group)[:, 0].tolist() for group in range(int(groups.max()) + 1)]
        order = [column for block in columns for column in block]
        self._bias = bias[..., order]
        self._around = layer.around[..., order]  # (8, in, out)
        self._centre = [layer.centre[block].t().contiguous() for block in columns]
        self._sizes = [len(block) for block in columns]
        self._kept = bias.new_zeros(rows + 1, self._around.shape[1])
        self.here = bias.new_zeros(batch, self._around.shape[1])
        self._taps: list[int] = []
        self._weight = self._around[:0].flatten(0, 1)
        self._context = self._bias.expand(batch, -1).split(self._sizes, dim=1)

    def keep_all(self, layer: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Keep the input of all pixels; a hook of the convolution."""
        self._kept[:-1] = inputs[0].flatten(0, 1)

    def keep(self, rows: Tensor) -> None:
        """Keep the input at the pixel, which is complete."""
        self._kept.index_copy_(0, rows, self.here)

    def look(self, rows: Tensor, taps: list[int]) -> None:
        """Compute what the next pixel's output gets from its neighbours."""
        if taps != self._taps:
            self._taps, self._weight = taps, self._around[taps].flatten(0, 1)
        seen = self._kept.index_select(0, rows).view(len(self.here), -1)
        self._context = torch.addmm(self._bias, seen, self._weight).split(self._sizes, dim=1)

    def compute(self, group: int) -> Tensor:
        """The output of one group at the pixel."""
        return torch.addmm(self._context[group], self.here, self._centre[group])

    def set_elu(self, span: slice, values: Tensor) -> None:
        """Set the input of one group at the pixel to both halves of `concat_elu`."""
        half = self.here.shape[1] // 2
        self.here[:, span] = F.elu(values)
        self.here[:, half + span.start : half + span.stop] = F.elu(-values)

    def select(self, indices: Tensor) -> None:
        """Reorder the images."""
        batch = len(self.here)
        kept = self._kept[:-1].view(-1, batch, self._kept.shape[1])
        kept.copy_(kept[:, indices])
        self.here.copy_(self.here[indices])
        self._context = tuple(part[indices] for part in self._context)


class _Pointwise:
    """A masked 1 × 1 convolution at one pixel, one group of maps at a time."""

    def __init__(self, layer: MaskedConv2d, channels: int) -> None:
        spans = group_spans(layer.out_channels, channels)
        self._weights = [layer.masked_weight[span, :, 0, 0] for span in spans]
        self._biases = [None if layer.bias is None else layer.bias[span] for span in spans]

    def compute(self, inputs: Tensor, group: int) -> Tensor:
        """The maps of one group from all inputs, (B, maps of the group)."""
        return F.linear(inputs, self._weights[group], self._biases[group])
