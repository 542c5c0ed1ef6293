"""Sprites: binary images of one shape each, whose five factors are all that there is to know about them.

Positions are whole pixels apart, so that all 737,280 images are windows onto 720 drawings, one for each
shape, scale and angle: an image is copied out of memory, never computed.
"""

import hashlib
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor

from bestiary.data.factors import Factors, Levels, Values, as_images
from bestiary.data.specs import ImageSpec
from bestiary.data.splits import Batch, Data, Split

SHAPES = ("square", "ellipse", "heart")
NAMES = ("shape", "scale", "angle", "x", "y")
SIZES = (3, 6, 40, 32, 32)
SCALES = np.linspace(0.5, 1, SIZES[1])
ANGLES = 2 * np.pi / SIZES[2] * np.arange(SIZES[2])  # radians
TURNS = np.array([10, 20, 40])  # steps of the angle after which each shape looks as before
SIDE = 64
HELD_OUT = 12_000  # for validation and for test, a third of each shape

HALF_SIDE = 11.2  # pixels at scale 1, as the next two
SEMI_AXES = (15.6, 7.8)
HEART_UNIT = 12.1
HEART_CENTROID = 0.29349  # of the curve in its own unit, above its origin
_REACH = 16  # pixels: no shape reaches further from its middle
_SEED = 0x73707269  # a namespace of its own


def sprites(*, size: Literal[64, 32] = 64) -> Data:
    """A white square, ellipse or heart on black: every combination of five factors once, 737,280 images.

    The factors are those of dSprites, in its order: shape (square, ellipse, heart), scale (6 values from 0.5
    to 1), angle (40 values), x (32 values, to the right) and y (32 values, down). A shape turns about its
    centroid, counterclockwise by 9 degrees a step, and moves by one pixel a step; it is wholly inside the
    image. A pixel is white if its centre is inside the shape. `labels` are the shapes.

    A square looks the same after a quarter of a turn and an ellipse after half of one, pixel for pixel: of
    their 40 angles 10 and 20 can be told apart, and no representation can know the angle better. Scores of
    the factor "angle" are bounded by that. Images that are the same lie in the same split: training has
    713,280, validation and test 12,000 each, 4,000 of each shape, always the same ones.

    References: *dSprites: Disentanglement testing Sprites dataset* (Matthey et al., 2017),
    https://github.com/deepmind/dsprites-dataset.

    Departures: the shapes' sizes and outlines are our own, and so are the splits, as dSprites has none. Its
    40 angles span [0, 2π] with both ends, which are one angle twice; here they span [0, 2π).

    Arguments:
        size: height and width; 32 takes the mean of 2×2 pixels, which has 5 levels.
    """
    levels = 2 if size == SIDE else 5

    def paint(values: Values) -> Levels:
        images: Levels = _images()[tuple(values.T)][:, None]
        if size == SIDE:
            return images
        rows: Levels = images[:, :, ::2] + images[:, :, 1::2]
        reduced: Levels = rows[..., ::2] + rows[..., 1::2]
        return reduced

    parts = _parts()
    train, validation, test = (torch.from_numpy(part) for part in parts)
    factors = Factors(NAMES, SIZES, train, validation, test, levels, paint)
    content = hashlib.sha256(_drawings().tobytes())
    for part in parts:
        content.update(part.astype(np.uint8).tobytes())
    return Data(
        "sprites",
        ImageSpec(1, size, size, levels=levels),
        SpriteSplit(train, factors),
        SpriteSplit(validation, factors),
        SpriteSplit(test, factors),
        classes=SHAPES,
        fingerprint=content.hexdigest(),
        factors=factors,
    )


class SpriteSplit(Split):
    """Sprites with given values of the factors, int64, shape (N, 5); `labels` are the shapes."""

    def __init__(self, values: Tensor, factors: Factors) -> None:
        self.labels = values[:, 0].clone()
        self._values, self._factors = values, factors

    @property
    def endless(self) -> bool:
        """False: there are as many examples as rows of values."""
        return False

    def __len__(self) -> int:
        return len(self._values)

    def take(self, indices: Tensor, *, generator: torch.Generator | None = None) -> Batch:
        """See `Split.take`."""
        values = self._values.numpy()[indices.numpy()]
        return Batch(as_images(self._factors.paint(values), self._factors.levels))


@cache
def _parts() -> list[Values]:
    """Values of train, validation and test, (N, 5) each."""
    values: Values = np.indices(SIZES, dtype=np.int64).reshape(len(SIZES), -1).T.copy()
    alike = values.copy()
    alike[:, 2] %= TURNS[values[:, 0]]
    numbers = np.random.default_rng(_SEED)
    chance = numbers.random(len(values))[np.ravel_multi_index(tuple(alike.T), SIZES)]
    # A row for each shape, images that are the same side by side: 4, 2 or 1, which divide what is held out.
    order = np.lexsort((chance, values[:, 0])).reshape(len(SHAPES), -1)
    cut = HELD_OUT // len(SHAPES)
    held_out, last, train = np.split(order, [cut, 2 * cut], axis=1)
    mixed = numbers.random(len(values))
    parts = (part.ravel() for part in (train, held_out, last))
    return [values[part[np.argsort(mixed[part], kind="stable")]] for part in parts]


@cache
def _images() -> NDArray[np.uint8]:
    """Every image, (3, 6, 40, 32, 32, 64, 64), as a view of the drawings on canvases of their own."""
    steps = SIZES[4]
    canvases = np.zeros((*SIZES[:3], SIDE + steps - 1, SIDE + steps - 1), dtype=np.uint8)
    middle = slice(steps - 1, steps + 2 * _REACH)
    canvases[..., middle, middle] = _drawings()
    windows: NDArray[Any] = sliding_window_view(canvases, (SIDE, SIDE), axis=(3, 4))
    # A shape is the further right, the further left its window begins.
    return windows[..., ::-1, ::-1, :, :].swapaxes(3, 4)


def _drawings() -> NDArray[np.bool_]:
    """Which pixels are inside, (3, 6, 40, 33, 33): shape, scale, angle, row and column about the middle."""
    x = np.arange(-_REACH, _REACH + 1.0)
    y = -x[:, None]
    drawings = np.empty((*SIZES[:3], len(x), len(x)), dtype=np.bool_)
    for shape, turn in enumerate(TURNS):
        angle = ANGLES[np.arange(SIZES[2]) % turn, None, None]
        scale = SCALES[:, None, None, None]
        u = (x * np.cos(angle) + y * np.sin(angle)) / scale  # (6, 40, 33, 33), in the shape's own frame
        v = (y * np.cos(angle) - x * np.sin(angle)) / scale
        drawings[shape] = _outside(shape, u, v) <= 0
    return drawings


def _outside(shape: int, u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
    """A function of the plane that is negative inside a shape of scale 1 at angle 0, u to the right, v up.

    The heart is (u² + v² − 1)³ = u² v³ in a unit of its own, with its centroid at the origin.
    """
    if SHAPES[shape] == "square":
        return np.maximum(np.abs(u), np.abs(v)) / HALF_SIDE - 1
    if SHAPES[shape] == "ellipse":
        return (u / SEMI_AXES[0]) ** 2 + (v / SEMI_AXES[1]) ** 2 - 1
    u, v = u / HEART_UNIT, v / HEART_UNIT + HEART_CENTROID
    return (u**2 + v**2 - 1) ** 3 - u**2 * v**3
