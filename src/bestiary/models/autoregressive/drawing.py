"""Drawing an image pixel by pixel, each activation computed once.

Shapes: B batch, C channels, H height, W width, K levels.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from bestiary.networks.orders import Order

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


def inverse_cdf(logits: Tensor, uniform: Tensor, temperature: float = 1.0) -> Tensor:
    """The smallest level whose cumulative probability exceeds a uniform number.

    Arguments:
        logits: shape (B, K).
        uniform: numbers in [0, 1), shape (B,).
        temperature: logits are divided by it.

    Returns:
        levels, int64, shape (B,).
    """
    levels = _InverseCDF(logits)(logits.detach(), uniform[:, None].to(logits.dtype), temperature)
    return levels.clamp_max_(logits.shape[1] - 1)


class _InverseCDF:
    """`inverse_cdf` without new memory or views: at one pixel every operation counts, however small."""

    def __init__(self, logits: Tensor) -> None:
        self._cumulative = torch.empty_like(logits, memory_format=torch.contiguous_format)
        self._total = self._cumulative[:, -1:]  # 1 up to rounding only
        self._threshold = torch.empty_like(self._total)
        self._found = torch.empty_like(self._total, dtype=torch.int64)
        self._levels = self._found[:, 0]

    def __call__(self, logits: Tensor, uniform: Tensor, temperature: float) -> Tensor:
        """Levels (B,) for numbers (B, 1), overwritten by the next call; K where logits are not finite."""
        if temperature != 1:
            logits = logits / temperature
        torch.softmax(logits, dim=1, out=self._cumulative)
        torch.cumsum(self._cumulative, dim=1, out=self._cumulative)
        torch.mul(self._total, uniform, out=self._threshold)
        torch.searchsorted(self._cumulative, self._threshold, right=True, out=self._found)
        return self._levels


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
    channels, width = uniform.shape[1], uniform.shape[3]
    noise = uniform.permute(2, 3, 1, 0).flatten(0, 2)[..., None].contiguous()  # (H·W·C, B, 1)
    drawn: list[Tensor] = []
    choose: _InverseCDF | None = None
    with torch.inference_mode():  # a sixth less time for one image than under no_grad
        for count, (row, column) in enumerate(order, 1):
            for channel in range(channels):
                logits = cache.logits(row, column, channel)
                if choose is None:
                    choose, top = _InverseCDF(logits), logits.shape[1] - 1
                    values = torch.arange(top + 2).clamp_(max=top).to(logits) / top  # level K is K − 1
                    numbers = noise.to(logits.dtype).unbind()
                place = (row * width + column) * channels + channel
                drawn.append(values.take(choose(logits, numbers[place], temperature)))
                cache.put(row, column, channel, drawn[-1])
            if progress is not None:
                progress(count / len(order))
    return in_place(torch.stack(drawn).unflatten(0, (-1, channels)), order, uniform.shape)


def in_place(values: Tensor, order: Order, shape: torch.Size) -> Tensor:
    """Images (B, C, H, W) from values (H·W, C, B) in the order of drawing."""
    batch, channels, height, width = shape
    images = torch.empty_like(values)
    rows, columns = torch.tensor(order, device=values.device).unbind(1)
    images[rows * width + columns] = values
    return images.permute(2, 1, 0).reshape(batch, channels, height, width)
