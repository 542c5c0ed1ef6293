"""PixelCNN++'s network, computed in the order in which an image is drawn, each activation once.

Stream u of a row is computed when the row above it is complete, for the whole row; stream ul pixel by pixel.
What reaches ul from above (the upper half of its kernels, and u) is computed for the whole row too, so that
a pixel needs the left half alone. At half the resolution there is a new row for every second row, and a new
pixel for every second pixel of these; between them, the layers that double the image read what is there.

Source: *Fast Generation for Convolutional Autoregressive Models* (Ramachandran et al., 2017, arXiv
1704.06001). Shapes: B batch, C channels, W width, F filters, L levels. Rows pass between layers as
(B, W, maps), pixels as (B, maps); convolutions of them are matrix products.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from bestiary.data.specs import ImageSpec
from bestiary.distributions.logistic_mixture import DiscretizedLogisticMixture
from bestiary.networks.pixelcnn_pp import PixelCNNPlusPlusNetwork, Stage
from bestiary.networks.shifted import GatedResnet, ShiftedConv2d


class PixelCNNPlusPlusCache:
    """What `network` and the mixture compute for a batch that is being drawn.

    For every sub-pixel in raster order: `logits`, then `put`. Without gradients; later changes of the weights
    are not seen.

    Arguments:
        network: in evaluation mode.
        batch: B, images drawn together.
        spec: of the images.
        condition: (B, d) or None.
    """

    def __init__(
        self,
        network: PixelCNNPlusPlusNetwork,
        batch: int,
        spec: ImageSpec,
        condition: Tensor | None = None,
    ) -> None:
        buffers = self._buffers = _Buffers(batch, network.output.bias.detach())
        filters = network.output.direction.shape[1]
        self._spec = spec
        self._stages = [
            _StageCache(stage, buffers, spec.width >> i, filters, condition)
            for i, stage in enumerate(network.stages)
        ]
        self._pixel = buffers.keep(spec.channels)  # the pixel that is being drawn, on [0, 1]
        self._image = buffers.keep(spec.width, spec.channels + 1)  # its row, on [−1, 1], and ones
        self._image[..., -1] = 1
        self._above = _RowConv(network.entrance.above, buffers, spec.width)
        row_above, self._row_above_bias = _frozen(network.entrance.row_above)
        self._row_above = row_above[:, :, 0].permute(0, 2, 1).flatten(1)  # (F, 3·(C + 1))
        left, self._left_bias = _frozen(network.entrance.left)
        self._left_top, self._left = left[:, :, 0, 0], left[:, :, 1, 0].t().contiguous()
        self._context = buffers.keep(spec.width, filters)  # what the first layer of ul gets from above
        self._entered = buffers.scratch(filters)
        weight, self._output_bias = _frozen(network.output)
        self._output = weight[:, :, 0, 0].t().contiguous()
        self._raw = buffers.keep(len(self._output_bias))
        self._law: DiscretizedLogisticMixture | None = None

    def logits(self, row: int, column: int, channel: int) -> Tensor:
        """Log masses (B, L) of one sub-pixel given all that were put."""
        if channel == 0:
            if column == 0:
                self._start_row(row)
            torch.addmm(self._output_bias, F.elu(self._compute(row, column)), self._output, out=self._raw)
            self._law = None
        if self._law is None:
            self._law = DiscretizedLogisticMixture.from_raw(
                self._raw, channels=self._spec.channels, levels=self._spec.levels
            )
        return self._law.level_log_masses(channel, self._pixel)

    def put(self, row: int, column: int, channel: int, values: Tensor) -> None:
        """Set the sub-pixel that was drawn to `values` in [0, 1], shape (B,)."""
        self._pixel[:, channel] = values
        self._image[:, column, channel] = 2 * values - 1

    def select(self, indices: Tensor) -> None:
        """Go on with other images: image b becomes what image indices[b] was, int64 (B,)."""
        self._buffers.select(indices)
        self._law = None

    def _start_row(self, row: int) -> None:
        """Compute u of the next row at every resolution that has one, and what ul gets from above."""
        u = self._enter_row(row)
        shortcuts: list[Tensor] = []
        for depth, stage in enumerate(self._stages):
            u = stage.row_down(u, shortcuts)
            if stage.lowest:
                shortcuts.pop()  # the last block of all has no counterpart
                break
            stage.u_halve.push(u)
            if (row >> depth) % 2:
                break
            u = stage.u_halve()
            stage.ul_halve.start_row()
        for i in range(depth, -1, -1):
            stage = self._stages[i]
            if not stage.lowest:
                u = stage.double_row(self._stages[i + 1].u, (row >> i) % 2)
            u = stage.row_up(u, shortcuts)

    def _enter_row(self, row: int) -> Tensor:
        """The first layer: u of the next row, and what ul gets there from the row above."""
        self._context.zero_()
        entered = torch.zeros_like(self._context)
        if row:
            self._above.push(self._image)
            entered = self._above()
            windows = _windows(F.pad(self._image, (0, 0, 1, 1)), 3)
            self._context.copy_(F.linear(windows, self._row_above, self._row_above_bias))
            self._context[:, 1:] += F.linear(self._image[:, :-1], self._left_top)
        self._context[:, 1:] += self._left_bias
        return entered

    def _compute(self, row: int, column: int) -> Tensor:
        """ul of one pixel, (B, F), and of lower resolutions where they have a new pixel."""
        ul = self._context[:, column]
        if column:
            ul = torch.addmm(ul, self._image[:, column - 1], self._left, out=self._entered)
        for depth, stage in enumerate(self._stages):
            i, j = row >> depth, column >> depth
            ul = stage.pixel_down(ul, j)
            if stage.lowest:
                break
            stage.ul_halve.here[j].copy_(ul)
            if i % 2 or j % 2:
                break
            ul = stage.ul_halve.compute(j // 2)
        for k in range(depth, -1, -1):
            stage, i, j = self._stages[k], row >> k, column >> k
            if not stage.lowest:
                ul = stage.double_pixel(self._stages[k + 1].ul[:, j // 2], i % 2, j % 2)
            ul = stage.pixel_up(ul, j)
        return ul


class _Buffers:
    """Everything that is remembered of a batch, so that its images can be exchanged."""

    def __init__(self, batch: int, like: Tensor) -> None:
        self._batch, self._like = batch, like
        self._kept: list[Tensor] = []

    def scratch(self, *shape: int) -> Tensor:
        """Zeros (B, *shape) that are used up before images can be exchanged."""
        return self._like.new_zeros(self._batch, *shape)

    def keep(self, *shape: int) -> Tensor:
        """Zeros (B, *shape) that `select` reorders."""
        self._kept.append(self.scratch(*shape))
        return self._kept[-1]

    def select(self, indices: Tensor) -> None:
        """Reorder all that is kept."""
        for kept in self._kept:
            kept.copy_(kept[indices])


class _StageCache:
    """One resolution. Its u and ul are the rows at the end of the way up, (B, W, F)."""

    def __init__(
        self, stage: Stage, buffers: _Buffers, width: int, filters: int, condition: Tensor | None
    ) -> None:
        self.lowest = stage.lowest
        self._u_down, self._u_up = (
            [_RowResnet(block, buffers, width, condition) for block in blocks]
            for blocks in (stage.u_down, stage.u_up)
        )
        self._ul_down, self._ul_up = (
            [_PixelResnet(block, buffers, width, condition) for block in blocks]
            for blocks in (stage.ul_down, stage.ul_up)
        )
        self.u, self.ul = buffers.keep(width, filters), buffers.keep(width, filters)
        # What comes into a block is its counterpart's shortcut.
        inputs = [block.first.here for block in self._ul_down]
        if not stage.lowest:
            self.u_halve = _RowConv(stage.u_halve, buffers, width)
            self.ul_halve = _PixelConv(stage.ul_halve, buffers, width)
            self._u_double, self._u_double_bias = _frozen(stage.u_double)
            weight, self._ul_double_bias = _frozen(stage.ul_double)
            self._ul_double = weight.permute(2, 3, 1, 0).contiguous()
            self._doubled = buffers.scratch(filters)
            self._last = buffers.scratch(2 * filters)
            inputs.append([self._last] * width)
        self._shortcuts = list(zip(*reversed(inputs), strict=True))  # by column

    def row_down(self, u: Tensor, shortcuts: list[Tensor]) -> Tensor:
        """u after the blocks on the way down; adds what the way up wants to `shortcuts`."""
        activated = _concat_elu(u)
        shortcuts.append(activated)
        for of_u, of_ul in zip(self._u_down, self._ul_down, strict=True):
            u = of_u(u, activated)
            activated = _concat_elu(u)
            of_ul.start_row(activated)
            shortcuts.append(activated)
        return u

    def row_up(self, u: Tensor, shortcuts: list[Tensor]) -> Tensor:
        """u after the blocks on the way up, which take their shortcuts."""
        activated = _concat_elu(u)
        for of_u, of_ul in zip(self._u_up, self._ul_up, strict=True):
            u = of_u(u, activated, shortcuts.pop())
            activated = _concat_elu(u)
            of_ul.start_row(activated)
        return self.u.copy_(u)

    def pixel_down(self, ul: Tensor, column: int) -> Tensor:
        """ul after the blocks on the way down, (B, F)."""
        for block in self._ul_down:
            ul = block(ul, column)
        if not self.lowest:
            _write_concat_elu(ul, self._last)
        return ul

    def pixel_up(self, ul: Tensor, column: int) -> Tensor:
        """ul after the blocks on the way up, (B, F)."""
        for block, shortcut in zip(self._ul_up, self._shortcuts[column], strict=True):
            ul = block(ul, column, shortcut)
        return self.ul[:, column].copy_(ul)

    def double_row(self, u: Tensor, phase: int) -> Tensor:
        """The even (phase 0) or odd row that a row of half the resolution becomes."""
        left, middle, right = self._u_double[:, :, phase].unbind(2)
        row = u.new_empty(u.shape[0], u.shape[1], 2, u.shape[2])
        row[:, :, 0] = F.linear(u, middle, self._u_double_bias)
        row[:, :, 1] = F.linear(u, right, self._u_double_bias)
        row[:, :-1, 1] += F.linear(u[:, 1:], left)
        return row.flatten(1, 2)

    def double_pixel(self, ul: Tensor, row: int, column: int) -> Tensor:
        """One of the two by two pixels that a pixel of half the resolution becomes."""
        return torch.addmm(self._ul_double_bias, ul, self._ul_double[row, column], out=self._doubled)


class _RowConv:
    """A down-shifted convolution of the newest two rows."""

    def __init__(self, layer: ShiftedConv2d, buffers: _Buffers, width: int) -> None:
        weight, self._bias = _frozen(layer)
        self._weight = weight.permute(0, 2, 3, 1).flatten(1)  # (outputs, 6·inputs)
        self._rows = buffers.keep(2, width + 2, weight.shape[1])  # a column of zeros on each side
        self._windows = _windows(self._rows, 3, layer.stride).transpose(1, 2)  # (B, W / stride, 2, 3·inputs)

    def push(self, row: Tensor) -> None:
        """The next row, (B, W, inputs)."""
        self._rows[:, 0] = self._rows[:, 1]
        self._rows[:, 1, 1:-1] = row

    def __call__(self) -> Tensor:
        """The convolution's newest row, (B, W / stride, outputs)."""
        return F.linear(self._windows.flatten(2), self._weight, self._bias)


class _RowResnet:
    """A gated residual block of u, row by row."""

    def __init__(self, block: GatedResnet, buffers: _Buffers, width: int, condition: Tensor | None) -> None:
        self._first, self._second = (_RowConv(c, buffers, width) for c in (block.first, block.second))
        self._link = None if block.link is None else _frozen(block.link)
        self._projected = _projected(block, condition)

    def __call__(self, u: Tensor, activated: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """The next row, (B, W, F); arguments as of `GatedResnet`."""
        self._first.push(activated)
        hidden = self._first()
        if shortcut is not None and self._link is not None:
            weight, bias = self._link
            hidden += F.linear(shortcut, weight[:, :, 0, 0], bias)
        self._second.push(_concat_elu(hidden))
        a, b = (self._second() + self._projected).chunk(2, dim=2)
        return u + a * torch.sigmoid(b)


class _PixelConv:
    """A down-right-shifted convolution of 2 × 2, pixel by pixel.

    Attributes:
        here: where its input goes, (B, maps) for every column. What is there until then is the row above.
    """

    def __init__(self, layer: ShiftedConv2d, buffers: _Buffers, width: int) -> None:
        weight, self._bias = _frozen(layer)
        outputs, inputs = weight.shape[:2]
        self._top, below = weight.permute(0, 2, 3, 1).flatten(2).unbind(1)  # (outputs, 2·inputs)
        self._weight = below.t().contiguous()
        row = buffers.keep(width + 1, inputs)  # after a column of zeros
        self.here = [row[:, j + 1] for j in range(width)]
        self._windows = _windows(row, 2, layer.stride)  # (B, W / stride, 2·inputs)
        self._window = self._windows.unbind(1)
        self._context = buffers.keep(width // layer.stride, outputs)  # what comes from above, and the bias
        self._contexts = self._context.unbind(1)
        self._computed = buffers.scratch(outputs)

    def start_row(self, added: Tensor | None = None) -> None:
        """Look at the row above, which is complete; `added` goes to the output, (B, W, outputs)."""
        self._context.copy_(F.linear(self._windows, self._top, self._bias))
        if added is not None:
            self._context.add_(added)

    def compute(self, column: int) -> Tensor:
        """The output at one pixel, (B, maps); the next one overwrites it."""
        return torch.addmm(self._contexts[column], self._window[column], self._weight, out=self._computed)


class _PixelResnet:
    """A gated residual block of ul, pixel by pixel."""

    def __init__(self, block: GatedResnet, buffers: _Buffers, width: int, condition: Tensor | None) -> None:
        self.first, self._second = (_PixelConv(c, buffers, width) for c in (block.first, block.second))
        assert block.link is not None  # ul always has one
        link, self._link_bias = _frozen(block.link)
        maps = block.first.direction.shape[1]
        self._link_of_u = link[:, :maps, 0, 0]
        self._link_of_shortcut = link[:, maps:, 0, 0].t().contiguous()
        self._projected = _projected(block, condition)
        self._next = buffers.scratch(maps // 2)

    def start_row(self, activated: Tensor) -> None:
        """Look at the row above, and at concat_elu(u) of the row, (B, W, 2F)."""
        self.first.start_row(F.linear(activated, self._link_of_u, self._link_bias))
        self._second.start_row(self._projected)

    def __call__(self, ul: Tensor, column: int, shortcut: Tensor | None = None) -> Tensor:
        """The next ul, (B, F); `shortcut` is concat_elu of the counterpart's, (B, 2F)."""
        _write_concat_elu(ul, self.first.here[column])
        hidden = self.first.compute(column)
        if shortcut is not None:
            hidden.addmm_(shortcut, self._link_of_shortcut)
        _write_concat_elu(hidden, self._second.here[column])
        a, b = self._second.compute(column).chunk(2, dim=1)
        return torch.addcmul(ul, a, b.sigmoid_(), out=self._next)


def _windows(rows: Tensor, columns: int, stride: int = 1) -> Tensor:
    """A view of what each place of a kernel sees of rows (..., W, maps): (..., places, columns·maps)."""
    *shape, width, maps = rows.shape
    *strides, step, _ = rows.stride()
    places = (width - columns) // stride + 1
    return rows.as_strided((*shape, places, columns * maps), (*strides, stride * step, 1))


def _frozen(layer: ShiftedConv2d) -> tuple[Tensor, Tensor]:
    return layer.weight.detach(), layer.bias.detach()


def _projected(block: GatedResnet, condition: Tensor | None) -> Tensor:
    """What a condition adds to the gates, (B, 1, 2F); zero without one."""
    if block.condition is None:
        return block.second.bias.new_zeros(1, 1, 1)
    projected: Tensor = block.condition(condition)
    return projected.detach()[:, None]


def _concat_elu(row: Tensor) -> Tensor:
    """concat_elu of a row: (B, W, F) to (B, W, 2F)."""
    return F.elu_(torch.cat([row, -row], dim=2))


def _write_concat_elu(x: Tensor, out: Tensor) -> None:
    """concat_elu of a pixel, (B, F), into `out`, (B, 2F)."""
    low, high = out.chunk(2, dim=1)
    low.copy_(x)
    torch.neg(x, out=high)
    F.elu_(out)
