"""What the labelled image sets share: the same three splits under every treatment."""

import hashlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from bestiary.data.part import Only, restricted
from bestiary.data.specs import Classes, ImageSpec
from bestiary.data.splits import ArraySplit, Binarise, Data

Conditioning = Literal["none", "classes"]
Images = NDArray[np.uint8]
Labels = NDArray[np.integer]


def labelled_images(
    name: str,
    parts: Sequence[tuple[Images, Labels]],
    *,
    levels: int,
    classes: tuple[str, ...],
    binarise: Binarise,
    condition: Conditioning,
    only: Only = None,
) -> Data:
    """A data set of (images, labels) for train, validation and test.

    Arguments:
        name: of the data set, without its treatment.
        parts: images of shape (N, C, H, W), levels 0 … levels−1, and labels of shape (N,), three times.
        levels: L of the images.
        classes: names of the classes.
        binarise: "none", "fixed" or "dynamic".
        condition: whether batches carry the label.
        only: classes that the data consist of; None for all.
    """
    content = hashlib.sha256()
    for images, labels in parts:
        content.update(np.ascontiguousarray(images).data)
        content.update(labels.astype(np.uint8).tobytes())
    splits = [
        ArraySplit(
            images,
            levels=levels,
            labels=torch.from_numpy(labels.astype(np.int64)),
            conditional=condition == "classes",
            binarise=binarise,
            seed=number,
        )
        for number, (images, labels) in enumerate(parts)
    ]
    channels, height, width = parts[0][0].shape[1:]
    spec = ImageSpec(
        channels,
        height,
        width,
        levels=levels if binarise == "none" else 2,
        condition=Classes(len(classes)) if condition == "classes" else None,
    )
    train, validation, test = splits
    data = Data(name, spec, train, validation, test, classes=classes, fingerprint=content.hexdigest())
    return restricted(data, only)
