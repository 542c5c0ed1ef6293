"""Cartoon faces in colour, whose eleven factors are known, composed once into a memory-mapped array."""

import hashlib
import json
import logging
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import one_hot

from bestiary.config import Ge
from bestiary.data.cache import cache_folder, locked, written_aside
from bestiary.data.face_parts import (
    CLOTHES_COLOURS,
    HAIR_COLOURS,
    NAMES,
    SIDE,
    SIZES,
    SKINS,
    VALUES,
    VERSIONS,
    WINDOW,
    compose,
    layers,
)
from bestiary.data.factors import Factors, Levels, Values
from bestiary.data.specs import Classes, ImageSpec, Vector
from bestiary.data.splits import ArraySplit, Batch, Data
from bestiary.errors import DataError

Condition = Literal["none", "attributes", "hair", "hair_colour", "skin", "beard", "glasses", "clothes_colour"]

HELD_OUT = 2_000
# What each number of the condition "attributes" says.
ATTRIBUTES = (
    "glasses",
    "beard",
    *(f"{name}={value}" for name in ("hair_colour", "skin", "clothes_colour") for value in VALUES[name]),
)

_FORMAT = 1  # of the cache and of drawing; another number makes every old cache void
_SEED = 0x6661636573  # a namespace of its own
_log = logging.getLogger("bestiary.data")


def faces(
    *,
    size: Literal[64, 32] = 64,
    condition: Condition = "none",
    examples: Annotated[int, Ge(1)] = 20_000,
    seed: Annotated[int, Ge(0)] = 0,
) -> Data:
    """Cartoon faces, RGB, 256 levels: 20,000 / 2,000 / 2,000, composed once into a memory-mapped cache.

    Eleven factors are drawn independently: hair (38 values), hair_colour (10, also of the beard), skin (7),
    eyes (12), eyebrows (14), mouth (13), nose (3), beard (8), glasses (9), clothes (9) and clothes_colour
    (14), uniformly but for beard and glasses, which half of the faces do not have. No combination is in the
    data twice. Validation and test are the same faces however many train.

    The factors that can be a condition can be read off every image: every head has hair of the colour that
    is named, glasses are in front of all else, and skin and clothes show. Of the others, eyes are behind the
    glass of sunglasses and eyebrows under fringes. The closest pairs are platinum and grey hair, light grey
    and white clothes, and, in few pixels, moustaches in the skin's colour.

    Needs `pip install --no-deps python-avatars==1.4.1 resvg-py==0.5.0`.

    Arguments:
        size: height and width; 32 takes the mean of 2×2 pixels, rounded.
        condition: the name of a factor gives models its value as a class, and the split its labels;
            "attributes" gives a vector of 33 numbers that are 0 or 1: glasses, beard, and one for each hair
            colour, skin and clothes' colour (`bestiary.data.faces.ATTRIBUTES` names them).
        examples: number of training faces.
        seed: of which faces are made.

    Raises:
        DataError: a package that is missing or of another version, or a cache folder that cannot be written.
    """
    everything = _drawn_values(2 * HELD_OUT + examples, seed)
    images = _cached(everything, size)
    rows = np.split(np.arange(len(everything)), [HELD_OUT, 2 * HELD_OUT])
    held_out, last, train = (_split(images, everything, part, condition) for part in rows)
    values = [torch.from_numpy(everything[part]) for part in rows]

    def paint(chosen: Values) -> Levels:
        return _reduced(compose(chosen), size)

    given: Classes | Vector | None = None
    if condition == "attributes":
        given = Vector(len(ATTRIBUTES))
    elif condition != "none":
        given = Classes(len(VALUES[condition]))
    return Data(
        "faces",
        ImageSpec(3, size, size, condition=given),
        train,
        held_out,
        last,
        classes=VALUES.get(condition),
        fingerprint=_key(everything, size),
        factors=Factors(NAMES, SIZES, values[2], values[0], values[1], 256, paint),
    )


def attributes(values: Tensor) -> Tensor:
    """The vectors that `condition="attributes"` gives faces with the given factors.

    Arguments:
        values: of the eleven factors, int64, shape (n, 11).

    Returns:
        Float, 0 or 1, shape (n, 33), in the order of `ATTRIBUTES`.
    """
    column = dict(zip(NAMES, values.T, strict=True))
    yes_or_no = [(column[name] > 0)[:, None] for name in ("glasses", "beard")]
    colours = [one_hot(column[name], len(VALUES[name])) for name in ("hair_colour", "skin", "clothes_colour")]
    return torch.cat([*yes_or_no, *colours], dim=1).float()


class _AttributeSplit(ArraySplit):
    """Images whose condition is a vector, float (N, d)."""

    def __init__(self, images: Levels, vectors: Tensor, *, rows: NDArray[np.int64]) -> None:
        super().__init__(images, levels=256, rows=rows)
        self._vectors = vectors

    def take(self, indices: Tensor, *, generator: torch.Generator | None = None) -> Batch:
        """See `Split.take`."""
        return Batch(super().take(indices, generator=generator).x, self._vectors[indices])


def _split(images: Levels, values: Values, rows: NDArray[np.int64], condition: Condition) -> ArraySplit:
    own = torch.from_numpy(values[rows])
    if condition == "attributes":
        return _AttributeSplit(images, attributes(own), rows=rows)
    labels = None if condition == "none" else own[:, NAMES.index(condition)].clone()
    return ArraySplit(images, levels=256, rows=rows, labels=labels, conditional=labels is not None)


def _drawn_values(n: int, seed: int) -> Values:
    """Values of n faces, no two alike, (n, 11); of more faces the first ones are the same."""
    numbers = np.random.default_rng([_SEED, seed])
    u = numbers.random((n + n // 10 + 100, len(NAMES)))  # a tenth to spare: one in ten thousand is a repeat
    values = (u * SIZES).astype(np.int64)
    for name in ("beard", "glasses"):
        k, size = NAMES.index(name), len(VALUES[name])
        values[:, k] = np.where(u[:, k] < 0.5, 0, 1 + (2 * u[:, k] - 1) * (size - 1))
    _, first = np.unique(np.ravel_multi_index(tuple(values.T), SIZES), return_index=True)
    distinct: Values = values[np.sort(first)[:n]]
    return distinct


def _key(values: Values, size: int) -> str:
    """SHA-256 of everything that determines the images."""
    what = [_FORMAT, VERSIONS, WINDOW, VALUES, HAIR_COLOURS, SKINS, CLOTHES_COLOURS, size]
    return hashlib.sha256(json.dumps(what).encode() + values.tobytes()).hexdigest()


def _cached(values: Values, size: int) -> Levels:
    """The images of all faces, memory-mapped, (N, 3, size, size)."""
    shape = (len(values), 3, size, size)
    array = cache_folder() / "faces" / f"{_key(values, size)[:32]}.npy"
    found = _mapped(array, shape)
    if found is not None:
        return found
    with locked(array):
        if _mapped(array, shape) is None:
            layers()  # which may have to refuse, before anything is said or written
            _log.info("composing %s faces once, into %s", f"{len(values):,}", array)
            with written_aside(array) as aside, aside.open("wb") as file:
                npy.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
                for start in range(0, len(values), 1024):
                    file.write(_reduced(compose(values[start : start + 1024]), size).tobytes())
    made = _mapped(array, shape)
    if made is None:
        raise DataError(f"faces: {str(array)!r} was changed while it was made, wanted a cache left alone")
    return made


def _mapped(array: Path, shape: tuple[int, ...]) -> Levels | None:
    try:
        images: Levels = np.load(array, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    return images if images.shape == shape and images.dtype == np.uint8 else None


def _reduced(images: Levels, size: int) -> Levels:
    if size == SIDE:
        return images
    rows = images[:, :, ::2].astype(np.uint16) + images[:, :, 1::2]
    return ((rows[..., ::2] + rows[..., 1::2] + 2) // 4).astype(np.uint8)
