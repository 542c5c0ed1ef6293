"""Samples as one file to look at: a grid of images, a scatter of points, or sequences as lines of text."""

from math import ceil, sqrt
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from bestiary.data.specs import ImageSpec, SequenceSpec, Spec

_BACKGROUND = 255
_SMALLEST_SIDE = 56


def image_grid(x: Tensor, *, columns: int | None = None) -> Image.Image:
    """Images (n, C, H, W) in [0, 1] side by side, small ones enlarged without smoothing."""
    levels = (x.detach().cpu().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    n, height, width, channels = levels.shape
    columns = columns or ceil(sqrt(n))
    rows = ceil(n / columns)
    scale = max(1, ceil(_SMALLEST_SIDE / max(height, width)))
    levels = levels.repeat(scale, 1).repeat(scale, 2)
    height, width, gap = height * scale, width * scale, 2
    canvas = np.full(
        (rows * (height + gap) + gap, columns * (width + gap) + gap, channels), _BACKGROUND, dtype=np.uint8
    )
    for index, image in enumerate(levels):
        top = gap + (index // columns) * (height + gap)
        left = gap + (index % columns) * (width + gap)
        canvas[top : top + height, left : left + width] = image
    return Image.fromarray(canvas[:, :, 0] if channels == 1 else canvas[:, :, :3])


def picture_suffix(spec: Spec) -> str:
    """How the name of a file ends that `save_picture` writes: ".txt" for sequences, ".png" for all else."""
    return ".txt" if isinstance(spec, SequenceSpec) else ".png"


def save_picture(x: Tensor, spec: Spec, path: Path) -> None:
    """Write samples as a PNG: a grid for images, a scatter of the first two coordinates for points.

    Sequences are written as text, a line each.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(spec, SequenceSpec):
        path.write_text("".join(f"{line}\n" for line in spec.texts(x)), encoding="utf-8")
        return
    if isinstance(spec, ImageSpec):
        image_grid(x).save(path)
        return
    from matplotlib.figure import Figure  # slow to import, and images do not need it

    figure = Figure(figsize=(4, 4), layout="constrained")
    axes = figure.subplots()
    points = x.detach().cpu().numpy()
    axes.scatter(points[:, 0], points[:, 1] if points.shape[1] > 1 else np.zeros(len(points)), s=4)
    axes.set_aspect("equal")
    figure.savefig(path, dpi=120)
