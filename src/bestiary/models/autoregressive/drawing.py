"""Drawing an image pixel by pixel, each activation computed once.

Shapes: B batch, C channels, H height, W width, K levels.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

Order = Sequence[tuple[int, int]]
"""The (row, column) of every pixel, in the order of drawing; the channels of a pixel come in their order."""

Progress = Callable[[float], None]
"""Is told the share that is done, from 0 to 1."""


class Cache(Protocol):
    """The logits of a batch of images that are being drawn.

    For every pixel in the order of drawing, and every channel of it: `logits`, then `put`. Without
    gradients; later changes of the model's weights are not seen.
    """

    def logits(self, row: int, column: int, channel: int) -> Tensor:
        """Logits (B, K) of one sub-pixel, given all that were put before it; the next call may overwrite."""

    def put(self, row: int, column: int, channel: int, values: Tensor) -> None:
        """Set that sub-pixel to `values` in [0, 1], shape (B,)."""

    def select(self, indices: Tensor) -> None:
        """Go on with other images: image b becomes what image indices[b] was, int64 (B,).

        Conditions stay where they are: an image's is that of image indices[b] too.
        """


def raster(height: int, width: int) -> Order:
    """Row by row from the top, each from the left."""
    return [(row, column) for row in range(height) for column in range(width)]


def inverse_cdf(logits: Tensor, uniform: Tensor, temperature: float = 1.0) -> Tensor:
    """The smallest level whose cumulative probability exceeds a uniform number.

    Arguments:
        logits: shape (B, K).
        uniform: numbers in [0, 1), shape (B,).
        temperature: logits are divided by it.

    Returns:
        levels, int64, shape (B,).
    """
    if temperature != 1:
        logits = logits / temperature
    cumulative = torch.softmax(logits, dim=1).cumsum(dim=1)
    threshold = uniform.to(logits.dtype) * cumulative[:, -1]  # the sum is 1 up to rounding only
    levels = torch.searchsorted(cumulative, threshold[:, None], right=True)[:, 0]
    return levels.clamp_(max=logits.shape[1] - 1)


def draw(
    cache: Cache, order: Order, uniform: Tensor, *, temperature: float = 1.0, progress: Progress | None = None
) -> Tensor:
    """Images in [0, 1], each sub-pixel the inverse distribution function of its logits at a uniform number.

    Arguments:
        cache: an empty one, for B images.
        order: of the pixels.
        uniform: numbers in [0, 1), shape (B, C, H, W).
        temperature: logits are divided by it.
        progress: told after each pixel.
    """
    noise = uniform.permute(2, 3, 1, 0).contiguous()  # (H, W, C, B)
    values: list[list[Tensor]] = []
    for count, (row, column) in enumerate(order, 1):
        values.append([])
        for channel, numbers in enumerate(noise[row, column]):
            logits = cache.logits(row, column, channel)
            levels = inverse_cdf(logits, numbers, temperature)
            values[-1].append(levels.to(logits.dtype) / (logits.shape[1] - 1))
            cache.put(row, column, channel, values[-1][-1])
        if progress is not None:
            progress(count / len(order))
    return in_place(torch.stack([torch.stack(pixel) for pixel in values]), order, uniform.shape)


def in_place(values: Tensor, order: Order, shape: torch.Size) -> Tensor:
    """Images (B, C, H, W) from values (H·W, C, B) in the order of drawing."""
    batch, channels, height, width = shape
    images = torch.empty_like(values)
    rows, columns = torch.tensor(order, device=values.device).unbind(1)
    images[rows * width + columns] = values
    return images.permute(2, 1, 0).reshape(batch, channels, height, width)
