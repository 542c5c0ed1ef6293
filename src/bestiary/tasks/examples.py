"""Images to work on: a run's own test split, or whatever lies in a folder or an array."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from bestiary.data.sources import Features, ImageSource, open_source
from bestiary.data.specs import ImageSpec
from bestiary.errors import DataError

_LUMA = (0.299, 0.587, 0.114)  # ITU-R 601


def read_images(path: str, spec: ImageSpec, n: int, *, seed: int = 0) -> Tensor:
    """At most `n` images of a folder, .npy or .npz as a model of `spec` takes them, (B, C, H, W) in [0, 1].

    The images of a folder are resized to the model's where these are square. Colour becomes grey for a model
    of grey images, and grey colour for the others. Values are those of the nearest level.

    Arguments:
        path: of the folder or file.
        spec: of the model.
        n: read at most so many, a random part.
        seed: of the random part.

    Raises:
        DataError: nothing that can be read, features in place of images, or images of another size.
    """
    source = open_images(path, spec, limit=n, seed=seed)
    return torch.cat(list(image_batches(source, spec, n)))


def open_images(path: str, spec: ImageSpec, *, limit: int | None = None, seed: int = 0) -> ImageSource:
    """The images of a folder, .npy or .npz, of a folder resized to those of `spec` where these are square.

    Arguments:
        path: of the folder or file.
        spec: of the model.
        limit: read at most so many, a random part; None for all.
        seed: of the random part.

    Raises:
        DataError: nothing that can be read, or features in place of images.
    """
    resized = Path(path).is_dir() and spec.height == spec.width
    source = open_source(path, "data", limit=limit, size=spec.width if resized else None, seed=seed)
    if isinstance(source, Features):
        raise DataError(f"data: found features in {path!r}, wanted images")
    return source


def image_batches(source: ImageSource, spec: ImageSpec, size: int) -> Iterator[Tensor]:
    """Images as a model of `spec` takes them, at most `size` at a time (see `read_images`).

    Raises:
        DataError: images of another size, or of several, or none that can be read.
    """
    for x in source.batches(size):
        if x.shape[2:] != spec.shape[1:]:
            found, wanted = (f"{shape[-1]}×{shape[-2]}" for shape in (x.shape, spec.shape))
            raise DataError(
                f"data: found images of {found} in {source.path!r}, wanted {wanted}, the size of the model's"
            )
        if x.shape[1] != spec.channels:
            x = _grey(x) if spec.channels == 1 else x.expand(-1, spec.channels, -1, -1)
        yield (x.clamp(0, 1) * (spec.levels - 1)).round() / (spec.levels - 1)


def _grey(x: Tensor) -> Tensor:
    return (x * x.new_tensor(_LUMA)[:, None, None]).sum(dim=1, keepdim=True)
