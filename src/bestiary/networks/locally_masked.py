"""Convolutions with a mask for each location: an image may be drawn in any order of its pixels.

An order is given by `ranks`, int64 of shape (H, W, M): when each pixel is drawn, for all images of a batch
alike (M = 1) or for each of them (M = B). A pixel sees those of its 3 × 3 neighbours that are drawn before
it. Maps lie location by location, (N, B/M, p) with N = H·W·M, so that what one tap of the kernel sees of all
images is a set of rows: a matrix product of the open rows for each tap does half the work of one of patches
with zeros.

Source: *Locally Masked Convolution for Autoregressive Models* (Jain, Abbeel & Pathak, 2020, arXiv
    2006.12486).
Shapes: B batch, C channels, H height, W width, p maps, K levels, d numbers of a condition.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bestiary.networks.masked import MaskedConv2d, MaskKind, causal_mask, channel_groups, group_spans

TAPS = tuple((row, column) for row in (-1, 0, 1) for column in (-1, 0, 1) if (row, column) != (0, 0))
"""Where the eight neighbours of a pixel are."""

DILATIONS = (1, 2)


class Neighbours(NamedTuple):
    """Which neighbours are seen, as pairs of rows of the maps (N, ·, ·), for each of the eight `TAPS`.

    Attributes:
        targets: the rows that see a neighbour, int64.
        sources: the neighbours they see.
    """

    targets: tuple[Tensor, ...]
    sources: tuple[Tensor, ...]


def seen_neighbours(ranks: Tensor, dilation: int) -> tuple[Tensor, Tensor]:
    """Which neighbours are drawn before a pixel, and which rows they are.

    Returns:
        bool and int64 of shape (8, H, W, M); the rows of those that are not seen mean nothing.
    """
    height, width, orders = ranks.shape
    padded = F.pad(ranks, (0, 0, dilation, dilation, dilation, dilation), value=height * width)
    corners = [(dilation * (1 + r), dilation * (1 + c)) for r, c in TAPS]
    earlier = [padded[top : top + height, left : left + width] < ranks for top, left in corners]
    rows = torch.arange(ranks.numel(), device=ranks.device).view(ranks.shape)
    steps = [dilation * (r * width + c) * orders for r, c in TAPS]
    return torch.stack(earlier), torch.stack([rows + step for step in steps])


def neighbours(ranks: Tensor, dilation: int) -> Neighbours:
    """What a locally masked convolution needs to know of an order, (H, W, M)."""
    seen, rows = seen_neighbours(ranks, dilation)
    targets = [tap.flatten().nonzero()[:, 0] for tap in seen]
    sources = [tap.flatten()[target] for tap, target in zip(rows, targets, strict=True)]
    return Neighbours(tuple(targets), tuple(sources))


class _SeenNeighbours(torch.autograd.Function):
    """Σ over taps of weight × seen neighbour; what was gathered is gathered again for the gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, near: Neighbours) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.near = near
        y = x.new_zeros(*x.shape[:2], weight.shape[2])
        for tap, (target, source) in enumerate(zip(*near, strict=True)):
            y.index_add_(0, target, x.index_select(0, source) @ weight[tap])
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors
        grad, grad_weight = gradients[0], []
        grad_x = grad.new_zeros(x.shape)
        for tap, (target, source) in enumerate(zip(*ctx.near, strict=True)):
            some = grad.index_select(0, target)
            grad_x.index_add_(0, source, some @ weight[tap].t())
            seen = x.index_select(0, source)
            grad_weight.append(seen.reshape(-1, x.shape[2]).t() @ some.reshape(-1, grad.shape[2]))
        return grad_x, torch.stack(grad_weight), None


class LocallyMaskedConv2d(nn.Module):
    """A 3 × 3 convolution of what has been drawn before each location, and of the location itself.

    Input (N, B/M, in), output (N, B/M, out); `kernel` holds weight and bias as those of any convolution.

    Arguments:
        in_groups: group of each input map, see `bestiary.networks.masked`.
        out_groups: group of each output map.
        kind: what a map sees at its own location: "A" earlier groups only, "B" its own group too.
        dilation: distance of the neighbours.
    """

    mask: Tensor

    def __init__(self, in_groups: Tensor, out_groups: Tensor, *, kind: MaskKind, dilation: int = 1) -> None:
        super().__init__()
        self.kernel = nn.Conv2d(len(in_groups), len(out_groups), 3)
        self.out_groups, self.dilation = out_groups, dilation
        mask = causal_mask(in_groups, out_groups, (1, 1), kind, (0, 0))
        self.register_buffer("mask", mask[:, :, 0, 0], persistent=False)

    @property
    def bias(self) -> Tensor:
        """Of each output map, (out,)."""
        return cast("Tensor", self.kernel.bias)

    @property
    def centre(self) -> Tensor:
        """The masked weight of the location itself, (out, in)."""
        return self.kernel.weight[:, :, 1, 1] * self.mask

    @property
    def around(self) -> Tensor:
        """The weights of the eight neighbours, in the order of `TAPS`, (8, in, out)."""
        taps = self.kernel.weight.flatten(2).permute(2, 1, 0)
        return torch.cat([taps[:4], taps[5:]])

    def forward(self, x: Tensor, near: Neighbours) -> Tensor:
        """The convolution of maps of which `near` is seen."""
        y = F.linear(x, self.centre, self.bias)
        # Under autocast a function of our own is given what a matrix product would be given.
        x, around = x.to(y.dtype), self.around.to(y.dtype)
        seen: Tensor = _SeenNeighbours.apply(x, around, near)  # type: ignore[no-untyped-call]
        return y + seen


def concat_elu(x: Tensor) -> Tensor:
    """elu of x and of −x, one beside the other."""
    return F.elu(torch.cat([x, -x], dim=-1))


def positional_norm(x: Tensor, spans: Sequence[slice]) -> Tensor:
    """Maps of a location with mean 0 and variance 1 over each span of them, so that no group sees another."""
    parts = [F.layer_norm(x[..., span], (span.stop - span.start,)) for span in spans]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


def pointwise(layer: MaskedConv2d, x: Tensor) -> Tensor:
    """A masked 1 × 1 convolution of maps in the last dimension."""
    return F.linear(x, layer.masked_weight[:, :, 0, 0], layer.bias)


class GatedBlock(nn.Module):
    """x + norm(a) ⊙ σ(b), where a and b come from x by two locally masked convolutions.

    Arguments:
        channels: p, maps that come in and go out.
        image_channels: C, the number of groups of maps.
        skips: whether maps of an earlier layer come in too, by a 1 × 1 convolution.
        condition_dim: d, 0 for none.
    """

    dilation = 1

    def __init__(self, channels: int, *, image_channels: int, skips: bool, condition_dim: int) -> None:
        super().__init__()
        groups = channel_groups(channels, image_channels)
        self.spans = group_spans(channels, image_channels)
        self.input = LocallyMaskedConv2d(groups.repeat(2), groups, kind="B")
        self.skip = MaskedConv2d(groups.repeat(2), groups, kind="B") if skips else None
        self.output = LocallyMaskedConv2d(groups.repeat(2), groups.repeat(2), kind="B")
        self.condition = nn.Linear(condition_dim, 2 * channels, bias=False) if condition_dim else None

    def condition_bias(self, condition: Tensor | None) -> Tensor | None:
        """Vᵀh, what a condition h (B, d) adds to a and b, (B, 2p)."""
        if self.condition is None or condition is None:
            return None
        bias: Tensor = self.condition(condition)
        return bias

    def forward(
        self, x: Tensor, skipped: Tensor | None, condition: Tensor | None, near: Neighbours
    ) -> Tensor:
        """Maps (N, B/M, p) from maps of that shape."""
        y = positional_norm(self.input(concat_elu(x), near), self.spans)
        if self.skip is not None and skipped is not None:
            y = y + pointwise(self.skip, concat_elu(skipped))
        y = self.output(concat_elu(y), near)
        bias = self.condition_bias(condition)
        if bias is not None:
            y = (y.view(-1, *bias.shape) + bias).view(y.shape)
        a, b = y.chunk(2, dim=-1)
        return x + positional_norm(a, self.spans) * torch.sigmoid(b)


class DilatedLayer(nn.Module):
    """A locally masked convolution with wider spaced taps, normalised; stands for PixelCNN++'s strides."""

    dilation = 2

    def __init__(self, channels: int, *, image_channels: int) -> None:
        super().__init__()
        groups = channel_groups(channels, image_channels)
        self.spans = group_spans(channels, image_channels)
        self.input = LocallyMaskedConv2d(groups, groups, kind="B", dilation=self.dilation)

    def forward(
        self, x: Tensor, skipped: Tensor | None, condition: Tensor | None, near: Neighbours
    ) -> Tensor:
        """Maps (N, B/M, p) from maps of that shape; neither skips nor conditions come in here."""
        return positional_norm(self.input(x, near), self.spans)


class LocallyMaskedStack(nn.Module):
    """The whole network: an hourglass of gated blocks in which dilation takes the place of strides.

    Three stages of blocks go up and three come down, a dilated layer between stages; each block that comes
    down takes in the maps of the layer that lies opposite.

    Arguments:
        image_channels: C.
        levels: K, values of a sub-pixel.
        blocks: gated blocks of a stage; the last two have one more.
        channels: p.
        condition_dim: d, 0 for none.
    """

    def __init__(
        self, image_channels: int, levels: int, *, blocks: int, channels: int, condition_dim: int = 0
    ) -> None:
        super().__init__()
        self.image_channels = image_channels
        self.levels = levels
        groups = channel_groups(channels, image_channels)
        self.spans = group_spans(channels, image_channels)
        # A map of ones says which neighbours are seen; in the last group it never meets its own location.
        image = [channel_groups(image_channels, image_channels), torch.tensor([image_channels - 1])]
        self.first = LocallyMaskedConv2d(torch.cat(image), groups, kind="A")
        block = partial(GatedBlock, channels, image_channels=image_channels, condition_dim=condition_dim)
        layers: list[GatedBlock | DilatedLayer] = []
        self.skips: list[int | None] = []  # for each layer: from which features, 0 being those of `first`
        opposite = [0]
        for stage in range(6):
            down = stage >= 3
            for _ in range(blocks + (stage >= 4)):
                layers.append(block(skips=down))
                self.skips.append(opposite.pop() if down else None)
                if not down:
                    opposite.append(len(layers))
            if stage == 2:
                opposite.pop()  # the end of the way up is where the way down begins
            elif stage < 5:
                layers.append(DilatedLayer(channels, image_channels=image_channels))
                self.skips.append(None)
                if not down:
                    opposite.append(len(layers))
        self.layers = cast("Sequence[GatedBlock | DilatedLayer]", nn.ModuleList(layers))
        outputs = channel_groups(image_channels * levels, image_channels)
        self.output = MaskedConv2d(groups, outputs, kind="B")

    def convolutions(self) -> list[LocallyMaskedConv2d]:
        """All locally masked convolutions, in the order in which they are computed."""
        return [module for module in self.modules() if isinstance(module, LocallyMaskedConv2d)]

    def blocks(self) -> list[GatedBlock]:
        """All gated blocks."""
        return [layer for layer in self.layers if isinstance(layer, GatedBlock)]

    def image_maps(self, x: Tensor) -> Tensor:
        """The network's input from images (B, C, H, W) in [0, 1], (H·W, B, C + 1)."""
        maps = (2 * x - 1).permute(2, 3, 0, 1).flatten(0, 1)
        return torch.cat([maps, torch.ones_like(maps[..., :1])], dim=-1)

    def forward(self, x: Tensor, ranks: Tensor, condition: Tensor | None = None) -> Tensor:
        """Logits (B, K, C, H, W) of images x (B, C, H, W) in [0, 1] and conditions (B, d).

        Arguments:
            x: the images.
            ranks: when each pixel is drawn, (H, W, 1), or for each image by itself, (H, W, B).
            condition: or None.
        """
        batch, orders = len(x), ranks.shape[2]
        near = {dilation: neighbours(ranks, dilation) for dilation in DILATIONS}
        maps = self.image_maps(x).reshape(-1, batch // orders, self.image_channels + 1)
        features = [positional_norm(self.first(maps, near[1]), self.spans)]
        for layer, skip in zip(self.layers, self.skips, strict=True):
            skipped = None if skip is None else features[skip]
            features.append(layer(features[-1], skipped, condition, near[layer.dilation]))
        outputs = pointwise(self.output, F.elu(features[-1]))  # (N, B/M, C·K)
        height, width = x.shape[2:]
        return outputs.view(height, width, batch, self.image_channels, self.levels).permute(2, 4, 3, 0, 1)
