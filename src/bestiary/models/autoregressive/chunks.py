"""Scoring, drawing and completing any number of examples, some at a time, for images and for sequences.

A cache is asked for by `new(batch, condition)`. Shapes: B examples, P particles.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from bestiary.errors import OptionError
from bestiary.models.autoregressive.completion import Completion, resample
from bestiary.models.autoregressive.drawing import Cache, Progress, draw
from bestiary.networks.orders import Order

NewCache = Callable[[int, Tensor | None], Cache]


def split_pairs(x: Tensor, condition: Tensor | None, size: int) -> list[tuple[Tensor, Tensor | None]]:
    """Examples (B, …) and their conditions, at most `size` at a time."""
    parts = x.split(size)
    conditions = [None] * len(parts) if condition is None else list(condition.split(size))
    return list(zip(parts, conditions, strict=True))


def draw_in_chunks(
    new: NewCache,
    order: Order,
    uniform: Tensor,
    condition: Tensor | None,
    *,
    size: int,
    temperature: float,
    progress: Progress | None,
) -> Tensor:
    """Draws from uniform numbers (B, C, H, W), see `draw`; progress is told the share of all that is done.

    Raises:
        OptionError: a temperature that is not positive.
    """
    if not temperature > 0:
        raise OptionError(f"temperature: found {temperature}, wanted a number > 0")
    if not len(uniform):  # caches are made for some images
        return uniform
    pairs = split_pairs(uniform, condition, size)
    drawn: list[Tensor] = []
    for numbers, chosen in pairs:
        told = _share(progress, len(drawn), len(pairs)) if progress else None
        drawn.append(draw(new(len(numbers), chosen), order, numbers, temperature=temperature, progress=told))
    return torch.cat(drawn)


def complete_in_chunks(
    new: NewCache,
    order: Order,
    x: Tensor,
    observed: Tensor,
    condition: Tensor | None,
    *,
    n: int,
    particles: int,
    size: int,
    levels: int,
    uniform: Callable[[int], Tensor],
    generator: torch.Generator | None,
    retained: bool = False,
) -> Completion:
    """n completions of each image (B, C, H, W) by P particles each, see `resample`.

    `uniform(count)` gives uniform numbers (count, C, H, W).
    """
    rows = torch.arange(len(x), device=x.device).repeat(n)  # completion by completion
    parts = []
    for some in rows.split(max(1, size // particles)):
        chosen = None if condition is None else condition[some].repeat_interleave(particles, 0)
        count = len(some) * particles
        parts.append(
            resample(
                new(count, chosen),
                order,
                x[some],
                observed[some],
                uniform(count),
                levels=levels,
                generator=generator,
                retained=retained,
            )
        )
    return Completion.joined(parts, n)


def _share(progress: Progress, done: int, chunks: int) -> Progress:
    return lambda share: progress((done + share) / chunks)
