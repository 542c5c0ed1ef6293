"""Images to work on: a run's own test split, or whatever lies in a folder or an array."""

from pathlib import Path

import torch
from torch import Tensor

from bestiary.data.sources import Features, open_source
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
    resized = Path(path).is_dir() and spec.height == spec.width
    source = open_source(path, "data", limit=n, size=spec.width if resized else None, seed=seed)
    if isinstance(source, Features):
        raise DataError(f"data: found features in {path!r}, wanted images")
    x = torch.cat(list(source.batches(n)))
    if x.shape[2:] != spec.shape[1:]:
        found, wanted = (f"{shape[-1]}×{shape[-2]}" for shape in (x.shape, spec.shape))
        raise DataError(
            f"data: found images of {found} in {path!r}, wanted {wanted}, the size of the model's"
        )
    if x.shape[1] != spec.channels:
        x = _grey(x) if spec.channels == 1 else x.expand(-1, spec.channels, -1, -1)
    return (x.clamp(0, 1) * (spec.levels - 1)).round() / (spec.levels - 1)


def _grey(x: Tensor) -> Tensor:
    return (x * x.new_tensor(_LUMA)[:, None, None]).sum(dim=1, keepdim=True)
