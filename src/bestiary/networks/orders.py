"""In which order the pixels of an image are drawn: every pixel once, as (row, column).

An order has a name. `raster` goes row by row; `reverse` is raster from the end; `snake` (the S-curve) turns
at the end of each row; `spiral` starts in the middle; `hilbert` stays near to where it was; `random-7` is
shuffled by seed 7, `random` by 0. Letters after a hyphen turn the image, in this order: `t` transposes it,
`r` turns it upside down, `c` mirrors it, so that `snake-tc` starts at the top right and goes down first.
`snake-all` stands for the eight of them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from bestiary.errors import OptionError, unknown_name

Order = Sequence[tuple[int, int]]
"""The (row, column) of every pixel, in the order of drawing; the channels of a pixel come in their order."""

SYMMETRIES = ("", "r", "c", "rc", "t", "tr", "tc", "trc")


def raster(height: int, width: int) -> Order:
    """Row by row from the top, each from the left."""
    return [(row, column) for row in range(height) for column in range(width)]


def reverse(height: int, width: int) -> Order:
    """Row by row from the bottom, each from the right."""
    return list(reversed(raster(height, width)))


def snake(height: int, width: int) -> Order:
    """Row by row from the top, in turn from left and right; each pixel touches the one before."""
    return [(row, width - 1 - k if row % 2 else k) for row in range(height) for k in range(width)]


def spiral(height: int, width: int) -> Order:
    """From the middle outwards, counter-clockwise, to the top left; each pixel touches the one before."""
    top, left, bottom, right = 0, 0, height, width
    inwards: list[tuple[int, int]] = []
    while top < bottom and left < right:
        inwards += [(top, column) for column in range(left, right)]
        inwards += [(row, right - 1) for row in range(top + 1, bottom)]
        if bottom - top > 1 and right - left > 1:
            inwards += [(bottom - 1, column) for column in range(right - 2, left - 1, -1)]
            inwards += [(row, left) for row in range(bottom - 2, top, -1)]
        top, left, bottom, right = top + 1, left + 1, bottom - 1, right - 1
    return inwards[::-1]


def hilbert(height: int, width: int) -> Order:
    """Hilbert's curve, for rectangles of any size: what is near in the image is near in the order.

    Each pixel touches the one before it by a side, but for at most one step across a corner, where the longer
    side is odd and the shorter even.

    Source: the *generalized Hilbert curve* of Červený (2018), after Hilbert (1891).
    """
    along, across = ((1j, width), (1, height)) if width >= height else ((1, height), (1j, width))
    return [(int(place.real), int(place.imag)) for place in _hilbert(0, *along, *across)]


def shuffled(height: int, width: int, seed: int = 0) -> Order:
    """A random permutation of the pixels."""
    places = np.random.default_rng(seed).permutation(height * width)
    return [(int(place) // width, int(place) % width) for place in places]


ORDERS: Mapping[str, Callable[[int, int], Order]] = {
    "raster": raster,
    "reverse": reverse,
    "snake": snake,
    "spiral": spiral,
    "hilbert": hilbert,
    "random": shuffled,
}


def named_orders(name: str, height: int, width: int) -> list[Order]:
    """The order of a name, or the eight of a name that ends in `-all`; see the top of this module.

    Raises:
        OptionError: no such order.
    """
    base, _, suffix = name.partition("-")
    if base == "random" and suffix.isdigit():
        return [shuffled(height, width, int(suffix))]
    if base in ORDERS and base != "random" and suffix == "all":
        return [_turned(ORDERS[base], letters, height, width) for letters in SYMMETRIES]
    if base in ORDERS and suffix in (SYMMETRIES if base != "random" else ("",)):
        return [_turned(ORDERS[base], suffix, height, width)]
    raise unknown_name("order", name, [*ORDERS, *(f"{base}-all" for base in ORDERS if base != "random")])


def an_order(order: str | Order, height: int, width: int) -> Order:
    """One order, by its name or pixel by pixel.

    Raises:
        OptionError: no such order, eight orders, or a sequence that is not every pixel once.
    """
    if not isinstance(order, str):
        if sorted(order) != raster(height, width):
            raise OptionError(
                f"order: found {len(order)} places, wanted each (row, column) of {height} × {width} once"
            )
        return order
    found = named_orders(order, height, width)
    if len(found) > 1:
        raise OptionError(
            f"order: found {order!r}, which are {len(found)} orders, wanted one, as {order[:-4]!r}"
        )
    return found[0]


def ranks(order: Order, height: int, width: int) -> Tensor:
    """When each pixel is drawn, from 0, int64, shape (H, W)."""
    rows, columns = torch.tensor(order).unbind(1)
    found = torch.empty(height, width, dtype=torch.int64)
    found[rows, columns] = torch.arange(height * width)
    return found


def observed_first(ranks: Tensor, observed: Tensor) -> Tensor:
    """The order in which the observed pixels come first, and otherwise each its place.

    Arguments:
        ranks: when each pixel is drawn, int64, (H, W, M).
        observed: bool, (H, W, M).
    """
    places = (ranks + ~observed * observed.shape[0] * observed.shape[1]).flatten(0, 1)
    return places.argsort(dim=0).argsort(dim=0).view(ranks.shape)


def _turned(base: Callable[[int, int], Order], letters: str, height: int, width: int) -> Order:
    order = base(width, height) if "t" in letters else base(height, width)
    if "t" in letters:
        order = [(column, row) for row, column in order]
    if "r" in letters:
        order = [(height - 1 - row, column) for row, column in order]
    if "c" in letters:
        order = [(row, width - 1 - column) for row, column in order]
    return order


def _hilbert(corner: complex, along: complex, length: int, across: complex, width: int) -> Iterator[complex]:
    """The places of a rectangle, from its corner to the other end of the side that goes `along`."""
    if width == 1 or length == 1:
        step = along if width == 1 else across
        yield from (corner + k * step for k in range(length * width))
    elif 2 * length > 3 * width:  # cut a long one into two
        half = _even_half(length)
        yield from _hilbert(corner, along, half, across, width)
        yield from _hilbert(corner + half * along, along, length - half, across, width)
    else:  # up, along, and down again
        half, left = _even_half(width), length // 2
        end = corner + (length - 1) * along + (half - 1) * across
        yield from _hilbert(corner, across, half, along, left)
        yield from _hilbert(corner + half * across, along, length, across, width - half)
        yield from _hilbert(end, -across, half, -along, length - left)


def _even_half(n: int) -> int:
    half = n // 2
    return half + 1 if half % 2 and n > 2 else half
