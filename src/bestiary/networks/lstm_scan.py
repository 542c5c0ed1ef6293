"""LSTMs that sweep over an image, whole rows or whole diagonals at a time, in every direction at once.

A step holds pixels that do not depend on each other; the states that they come from were all computed one
step earlier. One matrix product per step gives the gates of all its pixels, images and directions. The
recurrence is written out with its gradient: it works in buffers that are made once, in which maps come
first, then pixels in the order of the sweep, then the images of the batch, so that every product and every
element-wise operation of a step runs over few long stretches of memory.

Shapes: B batch, H height, W width, P = H·W pixels, D directions, I input maps, h maps of a state, S states
that each state comes from, Q states of a sweep, those outside the image, where it begins, included.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
_tanh_backward = torch.ops.aten.tanh_backward.grad_input

Position = tuple[int, int]
"""Row and column, from 0; those outside the image are where a sweep begins."""


@dataclass(frozen=True, eq=False)
class Sweep:
    """The order in which an LSTM goes over an image.

    Within a step, states have neighbouring places, and so have the first sources of all its pixels, …

    Attributes:
        sizes: pixels of each step.
        pixels: for each direction, which pixel of the image, read row by row, comes when, int64 (D, P).
        places: of the pixels' states among all Q, as they come, int64 (P,).
        raster: for each direction, places of the pixels' states, row by row, int64 (D, P).
        sources: places of the states that a pixel's state comes from, int64 (S, P).
        memory: which of the sources hands on its memory cell.
        outside: places of the states outside the image, int64.
    """

    sizes: tuple[int, ...]
    pixels: Tensor
    places: Tensor
    raster: Tensor
    sources: Tensor
    memory: int
    outside: Tensor

    @property
    def states(self) -> int:
        """Q."""
        return len(self.places) + len(self.outside)


@lru_cache
def row_sweep(height: int, width: int) -> Sweep:
    """From the top row to the bottom; a state comes from the three nearest of the row above."""
    grid = [(row, column) for row in range(-1, height) for column in range(-1, width + 1)]
    above = [(-1, -1), (-1, 0), (-1, 1)]
    return _sweep(height, width, grid, lambda row, _: row, above, memory=1, mirrored=False)


@lru_cache
def diagonal_sweep(height: int, width: int) -> Sweep:
    """From the top left corner and, as a second direction, from the top right one, diagonal by diagonal.

    Only pixels of the image are computed, H·W in each direction, where skewed maps have H·(H + W − 1). A
    state comes from the one before it in its row, which hands on the memory, and from the one above.
    """
    grid = [(row, column) for row in range(-1, height) for column in range(-1, width)]
    grid.sort(key=lambda position: (sum(position), position[0]))
    before = [(0, -1), (-1, 0)]
    return _sweep(height, width, grid, lambda row, column: row + column, before, memory=0, mirrored=True)


def _sweep(
    height: int,
    width: int,
    grid: Sequence[Position],
    step: Callable[[int, int], int],
    sources: Sequence[Position],
    *,
    memory: int,
    mirrored: bool,
) -> Sweep:
    place = {position: count for count, position in enumerate(grid)}
    inside = [(i, j) for i, j in grid if 0 <= i < height and 0 <= j < width]
    pixels = [[i * width + j for i, j in inside]]
    if mirrored:
        pixels.append([i * width + width - 1 - j for i, j in inside])
    order, places = torch.tensor(pixels), torch.tensor([place[position] for position in inside])
    return Sweep(
        sizes=tuple(Counter(step(*position) for position in inside).values()),
        pixels=order,
        places=places,
        raster=places[order.argsort()],
        sources=torch.tensor([[place[i + a, j + b] for i, j in inside] for a, b in sources]),
        memory=memory,
        outside=torch.tensor([place[position] for position in grid if position not in set(inside)]),
    )


def lstm_scan(
    x: Tensor, weight: Tensor, bias: Tensor, hidden: Tensor, memory: Tensor, sweep: Sweep
) -> Tensor:
    """The states of an LSTM at every pixel, in every direction of the sweep.

    [o, f, i, g] = W [x; h of each source] + b;  c = σ(f) ⊙ c_source + σ(i) ⊙ tanh(g);  h = σ(o) ⊙ tanh(c).

    Differentiable once, in all tensors; the gradient of a repeated call is the same to the bit.

    Arguments:
        x: inputs, shape (I, P, B), pixels row by row.
        weight: shape (D, 4h, I + S·h).
        bias: of every image, shape (D, 4h, B).
        hidden: h outside the image, shape (D, h).
        memory: c outside the image, shape (D, h).
        sweep: the order of the pixels.

    Returns:
        shape (D, h, P, B), pixels row by row.

    Source: *Pixel Recurrent Neural Networks* (van den Oord et al., 2016, arXiv 1601.06759), equation 3.
    """
    states: Tensor = _Scan.apply(x, weight, bias, hidden, memory, sweep)  # type: ignore[no-untyped-call]
    return states


class _Scan(torch.autograd.Function):
    """`lstm_scan`, with its gradient written out."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, hidden: Tensor, memory: Tensor, sweep: Sweep
    ) -> Tensor:
        (inputs, pixels, batch), (directions, maps) = x.shape, hidden.shape
        cut = _Cut(sweep, batch)
        h, c = (value[:, :, None].repeat(1, 1, sweep.states * batch) for value in (hidden, memory))
        gates = x.new_empty(directions, 4, maps, pixels * batch)
        squashed = torch.empty_like(gates[:, 0])  # tanh(c)
        # tanh(g) = 2σ(2g) − 1: all four gates in one go, and torch's σ is the faster function by far.
        scaled, bias = (torch.cat([t[:, : 3 * maps], 2 * t[:, 3 * maps :]], dim=1) for t in (weight, bias))
        biases, products = cut.by_width(bias.repeat(1, 1, max(sweep.sizes))), cut.products(weight, inputs)
        for order, gate, tanh, h_own, h_sources, c_own, c_before in zip(
            cut.pixels(x.device),
            cut.packed(gates),
            cut.packed(squashed),
            cut.own(h),
            cut.sources(h),
            cut.own(c),
            cut.sources(c),
            strict=True,
        ):
            width = tanh.shape[2]
            product = products[width].gather(x, order, h_sources)
            torch.baddbmm(biases[width], scaled, product, out=gate.flatten(1, 2)).sigmoid_()
            o, f, i, g = gate.unbind(1)
            g.mul_(2).sub_(1)
            torch.mul(f, c_before[sweep.memory], out=c_own).addcmul_(i, g)
            torch.mul(c_own, 2, out=tanh).sigmoid_().mul_(2).sub_(1)
            torch.mul(o, tanh, out=h_own)
        ctx.sweep = sweep
        ctx.save_for_backward(x, weight, h, c, gates, squashed)
        return _at_pixels(h, sweep, batch)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return *_gradient(gradient, *ctx.saved_tensors, sweep=ctx.sweep), None


def _gradient(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    h: Tensor,
    c: Tensor,
    gates: Tensor,
    squashed: Tensor,
    *,
    sweep: Sweep,
) -> tuple[Tensor, ...]:
    """Back through the sweep: gradients of x, weight, bias, hidden, memory from that of the states."""
    inputs, batch, (directions, maps) = len(x), x.shape[2], gradient.shape[:2]
    cut, transposed = _Cut(sweep, batch), weight.transpose(1, 2).contiguous()
    products, d_products = cut.products(weight, inputs), cut.products(weight, inputs)
    d_x, d_weight, d_h, d_c = (torch.zeros_like(tensor) for tensor in (x, weight, h, c))
    for states, places, given in zip(d_h, sweep.raster.to(h.device), gradient, strict=True):
        states.unflatten(1, (-1, batch)).index_add_(1, places, given)
    d_biases = weight.new_zeros(directions, 4 * maps, max(sweep.sizes) * batch)
    d_bias_parts, scratch = cut.by_width(d_biases), cut.by_width(torch.empty_like(d_biases))
    steps = zip(
        cut.pixels(x.device),
        cut.packed(gates),
        cut.packed(squashed),
        cut.sources(h),
        cut.sources(c),
        cut.own(d_h),
        cut.sources(d_h),
        cut.own(d_c),
        cut.sources(d_c),
        strict=True,
    )
    for order, gate, tanh, h_sources, c_sources, dh, dh_sources, dc, dc_sources in reversed(list(steps)):
        width = tanh.shape[2]
        d_rows, product, d_product = scratch[width], products[width], d_products[width]
        d_gate = d_rows.unflatten(1, (4, maps))
        (o, f, i, g), (d_o, d_f, d_i, d_g) = gate.unbind(1), d_gate.unbind(1)
        torch.mul(dh, o, out=d_o)
        dc.add_(_tanh_backward(d_o, tanh, grad_input=d_o))
        torch.mul(dh, tanh, out=d_o)
        torch.mul(dc, c_sources[sweep.memory], out=d_f)
        torch.mul(dc, g, out=d_i)
        torch.mul(dc, i, out=d_g)
        torch.mul(dc, f, out=dc_sources[sweep.memory])
        sigmoids = d_gate[:, :3]
        _sigmoid_backward(sigmoids, gate[:, :3], grad_input=sigmoids)
        _tanh_backward(d_g, g, grad_input=d_g)
        # Added up step by step, while all of it is in the cache: twice as fast as one product at the end.
        right = product.gather(x, order, h_sources).transpose(1, 2)
        torch.baddbmm(d_weight, d_rows, right, out=d_weight)
        d_bias_parts[width].add_(d_rows)
        torch.bmm(transposed, d_rows, out=d_product.whole)
        d_product.scatter(d_x, order, dh_sources)
    d_bias = d_biases.view(directions, 4 * maps, -1, batch).sum(2)
    outside = sweep.outside.to(h.device)
    d_hidden, d_memory = (d.unflatten(2, (-1, batch))[:, :, outside].sum((2, 3)) for d in (d_h, d_c))
    return d_x, d_weight, d_bias, d_hidden, d_memory


class _Product(NamedTuple):
    """The right side [x; h of each source] of a step's product, and its parts.

    Attributes:
        whole: (D, I + S·h, n·B) for n pixels.
        inputs: for each direction, (I, n, B).
        sources: for each source, (D, h, n·B).
    """

    whole: Tensor
    inputs: Sequence[Tensor]
    sources: Sequence[Tensor]

    def gather(self, x: Tensor, order: Sequence[Tensor], sources: Sequence[Tensor]) -> Tensor:
        """Fill the parts with pixels of x, (I, P, B), for each direction, and with states; the whole."""
        for part, pixels in zip(self.inputs, order, strict=True):
            torch.index_select(x, 1, pixels, out=part)
        for part, source in zip(self.sources, sources, strict=True):
            part.copy_(source)
        return self.whole

    def scatter(self, x: Tensor, order: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
        """Add the parts to where `gather` took them from."""
        for part, pixels in zip(self.inputs, order, strict=True):
            x.index_add_(1, pixels, part)
        for part, source in zip(self.sources, sources, strict=True):
            source.add_(part)


def _at_pixels(h: Tensor, sweep: Sweep, batch: int) -> Tensor:
    """The states of all pixels row by row, (D, h, P, B), among all states (D, h, Q·B)."""
    states = h.unflatten(2, (-1, batch))
    pairs = zip(states, sweep.raster.to(h.device), strict=True)
    return torch.stack([state.index_select(1, places) for state, places in pairs])


class _Cut:
    """Cuts buffers of many columns into what each step works on.

    A view that is cut out alone takes as long to make as a step's arithmetic on a thousand numbers, so
    the views of all steps are made together.
    """

    def __init__(self, sweep: Sweep, batch: int) -> None:
        self._batch, self._sizes, self._pixels = batch, sweep.sizes, sweep.pixels
        self._widths = [size * batch for size in sweep.sizes]
        first = torch.tensor([0, *sweep.sizes[:-1]]).cumsum(0)
        self._own = sweep.places[first].tolist()
        self._sources = sweep.sources[:, first].tolist()

    def packed(self, buffer: Tensor) -> Sequence[Tensor]:
        """Of a buffer of P·B columns, the columns of each step."""
        parts: Sequence[Tensor] = buffer.split(self._widths, dim=-1)
        return parts

    def own(self, buffer: Tensor) -> Sequence[Tensor]:
        """Of a buffer of Q·B columns, the states of each step."""
        return self._from(self._own, buffer)

    def sources(self, buffer: Tensor) -> list[tuple[Tensor, ...]]:
        """Of a buffer of Q·B columns, the states that those of each step come from, source by source."""
        return list(zip(*(self._from(places, buffer) for places in self._sources), strict=True))

    def pixels(self, device: torch.device) -> list[tuple[Tensor, ...]]:
        """Which pixels of the image belong to each step, direction by direction."""
        orders = self._pixels.to(device)
        return list(zip(*(order.split(self._sizes) for order in orders), strict=True))

    def products(self, weight: Tensor, inputs: int) -> dict[int, _Product]:
        """The right side of a product with `weight`, empty, for every number of columns that a step has."""
        found = {}
        for width in set(self._widths):
            whole = weight.new_empty(len(weight), weight.shape[2], width)
            columns = whole[:, :inputs].unflatten(2, (-1, self._batch))
            found[width] = _Product(whole, columns.unbind(), whole[:, inputs:].chunk(len(self._sources), 1))
        return found

    def by_width(self, buffer: Tensor) -> dict[int, Tensor]:
        """The first columns of a buffer, for every number of columns that a step has."""
        return {width: buffer[..., :width] for width in set(self._widths)}

    def _from(self, places: Sequence[int], buffer: Tensor) -> Sequence[Tensor]:
        sizes, end = [], 0
        for place, width in zip(places, self._widths, strict=True):
            sizes += [place * self._batch - end, width]
            end = place * self._batch + width
        parts: Sequence[Tensor] = buffer.split([*sizes, buffer.shape[-1] - end], dim=-1)
        return parts[1::2]
