"""Convex polygons, white outside and black inside: images whose manifold is known."""

import math
from itertools import product
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from bestiary.config import Ge, Le
from bestiary.data.specs import ImageSpec
from bestiary.data.splits import ArraySplit, Data

SIDE = 28
SUBPIXELS = 8  # points of a pixel, in each direction, that are looked at
LEVELS = SUBPIXELS**2 + 1
RADIUS = 0.75 * SIDE / 2  # pixels, of the circle that the corners lie on
MARGIN = math.radians(10)  # kept free at the near end of each corner's part of the circle
TRAIN, TEST, HELD_OUT = 60_000, 10_000, 10_000
_CHUNK = 100

Floats = NDArray[np.float64]


def triangles(*, vertices: Annotated[int, Ge(3), Le(18)] = 3, faithful: bool = True) -> Data:
    """Convex polygons of the published study, 65 levels: 60,000 / 10,000 / 10,000, always the same.

    Each corner lies in its own part of a circle; the mean of the corners is in the middle of the image. The
    numbers are drawn as in the published code with its default seed, so that with three corners these are
    its 80,000 images, bit for bit: the first 60,000 for training, the next for the test and the last, its
    hold-out, for validation.

    References: *Are GANs Created Equal? A Large-Scale Study* (Lucic et al., 2018), arXiv:1711.10337.

    Arguments:
        vertices: corners of each polygon.
        faithful: rotate by 0 to 6.28 degrees, as the published code does, which takes an angle in radians
            for one in degrees; false rotates by 0 to 360 degrees, with all else equal.
    """
    n = TRAIN + TEST + HELD_OUT
    numbers = np.random.RandomState(0)  # the generator of the published code
    u = numbers.random_sample((n, vertices + 1))
    images = draw(corners(u[numbers.permutation(n)], faithful=faithful))
    parts = np.split(images, [TRAIN, TRAIN + TEST])
    train, test, held_out = (ArraySplit(part, levels=LEVELS) for part in parts)
    return Data("triangles", ImageSpec(1, SIDE, SIDE, levels=LEVELS), train, held_out, test)


def corners(u: Floats, *, faithful: bool) -> Floats:
    """Corners of polygons, (row, column) in pixels, in counterclockwise order.

    Arguments:
        u: uniform on [0, 1), shape (N, V + 1): where each of V corners lies in its part of the circle, and
            the rotation.
        faithful: as in `triangles`.

    Returns:
        Shape (N, V, 2).
    """
    part = 2 * math.pi / (u.shape[1] - 1)
    angle = part * np.arange(u.shape[1] - 1) + MARGIN + u[:, :-1] * (part - MARGIN)
    turn = u[:, -1:] * math.radians(2 * math.pi if faithful else 360)
    angle -= turn  # the published code multiplies row vectors, which turns the other way round
    x = RADIUS * np.stack([np.cos(angle), np.sin(angle)], axis=2)
    centred: Floats = x + SIDE / 2 - x.mean(axis=1, keepdims=True)
    return centred


def draw(polygons: Floats) -> NDArray[np.uint8]:
    """Levels k = 0 (inside) … 64 (outside) of convex polygons: the share of a pixel's 8×8 points outside.

    Pixel r looks at the points r − 3/8, …, r + 4/8, as the published code does.

    Arguments:
        polygons: corners (row, column) in pixels, shape (N, V, 2).

    Returns:
        Shape (N, 1, 28, 28).
    """
    images = np.empty((len(polygons), 1, SIDE, SIDE), dtype=np.uint8)
    first_point = 1 - SUBPIXELS // 2
    lines = first_point + np.arange(SIDE * SUBPIXELS)
    pixels = (first_point + SUBPIXELS * np.arange(SIDE + 1)).astype(np.int16)
    for start in range(0, len(polygons), _CHUNK):
        x, y = SUBPIXELS * polygons[start : start + _CHUNK].T[..., None]  # (V, N, 1)
        next_x, next_y = np.roll(x, -1, axis=0), np.roll(y, -1, axis=0)
        slope = (next_y - y) / np.where(next_x == x, 1, next_x - x)
        at = y + (lines - x) * slope  # (V, N, lines)
        crossed = (x > lines) != (next_x > lines)
        # Of each line the points from `low` to before `high` are inside: a polygon is convex.
        low = np.ceil(np.where(crossed, at, np.inf).min(axis=0))
        high = np.floor(np.where(crossed, at, -np.inf).max(axis=0)) + 1
        low, high = (np.where(low < high, end, 0).astype(np.int16) for end in (low, high))
        low, high = (end.reshape(-1, SIDE, SUBPIXELS, 1) for end in (low, high))
        before = np.minimum(np.maximum(pixels, low), high).sum(axis=2, dtype=np.int16)
        images[start : start + _CHUNK, 0] = LEVELS - 1 - np.diff(before, axis=2)
    return images


def area_range(vertices: int) -> tuple[float, float]:
    """The smallest and the largest area of these polygons, in pixels.

    The area ½ R² Σ sin(φᵢ₊₁ − φᵢ) has its minimum over each single angle at an end of that angle's range,
    so the smallest is found among the ends; the largest is the regular polygon's.
    """
    u = np.zeros((2**vertices, vertices + 1))
    u[:, :-1] = list(product((0.0, 1.0), repeat=vertices))
    x, y = np.moveaxis(corners(u, faithful=True), 2, 0)
    areas = (x * np.roll(y, -1, axis=1) - y * np.roll(x, -1, axis=1)).sum(axis=1) / 2
    return float(areas.min()), vertices / 2 * RADIUS**2 * math.sin(2 * math.pi / vertices)
