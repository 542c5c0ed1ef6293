"""Image grids as PNG inside the page, one pixel of data one pixel of file; the browser enlarges them."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bestiary.report.page import text

Pixels = NDArray[np.uint8]

# Width that fits a phone of 390 px with its margins, and three times into a desktop column.
WIDTH = 346
# Smallest side at which one image is shown, in CSS pixels.
_SIDE = 48


def columns(width: int) -> int:
    """How many images of `width` pixels stand in a row."""
    scale = _scale(width)
    return max(1, (WIDTH + scale) // ((width + 1) * scale))


def grid(images: Pixels, label: str) -> str:
    """An `<img>` of uint8 images, shape (n, C, H, W), in rows with a transparent pixel between them.

    `label` is the plain-text alternative. One channel is grey; of more than three the first three are shown.
    """
    return _tiles(_rgba(images), label, row_gap=1)


def pair_grid(pairs: Pixels, label: str) -> str:
    """An `<img>` of uint8 pairs, shape (n, 2, C, H, W): the first above, the second right below it."""
    above, below = _rgba(pairs[:, 0]), _rgba(pairs[:, 1])
    return _tiles(np.concatenate([above, below], axis=1), label, row_gap=5)


def _scale(width: int) -> int:
    """A whole number, so that all pixels of the data are shown equally large."""
    return max(1, -(-_SIDE // width))


def _rgba(images: Pixels) -> Pixels:
    colours = images[:, :3] if images.shape[1] >= 3 else np.repeat(images[:, :1], 3, axis=1)
    opaque = np.full_like(colours[:, :1], 255)
    return np.ascontiguousarray(np.concatenate([colours, opaque], axis=1).transpose(0, 2, 3, 1))


def _tiles(images: Pixels, label: str, row_gap: int) -> str:
    n, h, w, _ = images.shape
    scale, across = _scale(w), min(columns(w), n)
    down = -(-n // across)
    canvas = np.zeros((down * (h + row_gap) - row_gap, across * (w + 1) - 1, 4), dtype=np.uint8)
    for i, image in enumerate(images):
        y, x = (i // across) * (h + row_gap), (i % across) * (w + 1)
        canvas[y : y + h, x : x + w] = image
    picture = Image.fromarray(canvas)
    if (canvas[..., 0] == canvas[..., 1]).all() and (canvas[..., 1] == canvas[..., 2]).all():
        picture = picture.convert("LA")
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    size = f'width="{canvas.shape[1] * scale}" height="{canvas.shape[0] * scale}"'
    return f'<img class="pixels" alt="{text(label)}" {size} src="data:image/png;base64,{data}">'
