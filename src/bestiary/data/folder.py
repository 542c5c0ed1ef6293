"""Any folder of images as a data set."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from bestiary.config import Ge, Gt, Le, Lt
from bestiary.data.decode import Fit
from bestiary.data.decoded import decoded
from bestiary.data.images import Conditioning
from bestiary.data.part import Only, restricted
from bestiary.data.scan import scan
from bestiary.data.specs import Classes, ImageSpec
from bestiary.data.splits import ArraySplit, Data
from bestiary.errors import DataError, OptionError

_SPLIT_NAMES = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}


def folder(
    *,
    path: str,
    size: Annotated[int, Ge(1), Le(4096)] | None = None,
    fit: Fit = "resize",
    channels: Literal["auto", 1, 3] = "auto",
    condition: Conditioning = "none",
    only: Only = None,
    validation: Annotated[float, Gt(0), Lt(1)] = 0.1,
    test: Annotated[float, Gt(0), Lt(1)] = 0.1,
    seed: Annotated[int, Ge(0)] = 0,
) -> Data:
    """The images of a folder and all below it, 256 levels, decoded once into a memory-mapped cache.

    Files that cannot be read are left out and named in the data's notes. Images with the same pixels
    lie in the same split.

    Arguments:
        path: the folder. Where every image lies in one of at least two sub-folders, these are the classes.
        size: height and width of the square that images are brought to; none wants them all of one size.
        fit: "resize" stretches an image to the square, "crop" cuts the largest square from its middle.
        channels: 1 is grey, 3 is RGB, "auto" is 1 if every file is of a grey kind and 3 otherwise.
        condition: "classes" gives models the label.
        only: a class or several, by name or number, of which all three splits then consist, numbered anew
            from 0; none for all.
        validation: share of the images in the validation split.
        test: share of the images in the test split.
        seed: of the split; whole number ≥ 0.

    Raises:
        OptionError: shares that leave nothing to train on.
        DataError: no folder, no image that can be read, images of several sizes without `size`, fewer
            distinct images than splits, or classes wanted where there are none.
    """
    if validation + test >= 1:
        raise OptionError(f"validation, test: found {validation} and {test}, wanted a sum < 1")
    listing = scan(path)
    images = decoded(listing, size=size, fit=fit, channels=channels)
    classes, note = _classes(images.files)
    labels = None
    if classes is not None:
        number = {name: k for k, name in enumerate(classes)}
        labels = np.array([number[name.partition("/")[0]] for name in images.files], dtype=np.int64)
    elif condition == "classes":
        raise DataError(
            f"condition: found 'classes', but {path!r} has no sub-folders as classes, wanted 'none'"
        )
    _, depth, height, width = images.images.shape
    train, held_out, last = (
        ArraySplit(
            images.images,
            levels=256,
            rows=rows,
            labels=None if labels is None else torch.from_numpy(labels[rows]),
            conditional=condition == "classes",
        )
        for rows in split_rows(images.twins, validation, test, seed)
    )
    given = Classes(len(classes)) if classes is not None and condition == "classes" else None
    content = json.dumps([images.digest, classes, None if labels is None else labels.tolist()])
    notes = [*images.notes, *note]
    if listing.others:
        notes.append(f"ignored {listing.others:,} files that are no images by their names")
    data = Data(
        f"folder:{Path(path).resolve().name}",
        ImageSpec(depth, height, width, condition=given),
        train,
        held_out,
        last,
        classes=classes,
        fingerprint=hashlib.sha256(content.encode()).hexdigest(),
        notes=tuple(notes),
    )
    return restricted(data, only)


def split_rows(
    twins: NDArray[np.int64], validation: float, test: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The rows of train, validation and test, each in random order; twins stay together.

    Without twins the sizes are the rounded shares, at least one each. With twins, groups of them go, the
    largest first, to where most room is left.

    Arguments:
        twins: for each row the first row with the same content, shape (N,).
        validation: share of the rows in the validation split.
        test: share of the rows in the test split.
        seed: of the order.

    Raises:
        DataError: fewer distinct rows than splits.
    """
    total = len(twins)
    _, group, counts = np.unique(twins, return_inverse=True, return_counts=True)
    if len(counts) < 3:
        raise DataError(
            f"path: found {len(counts)} different images among {total:,}, "
            "wanted at least 3: one for each of train, validation and test"
        )
    chance = np.random.default_rng(seed).random(len(counts))
    largest_first = np.lexsort((chance, -counts))
    room = [0, round(total * validation), round(total * test)]
    room[0] = total - sum(room)
    part = np.zeros(len(counts), dtype=np.int64)
    for g in largest_first:
        part[g] = room.index(max(room))
        room[part[g]] -= counts[g]
    for k in range(3):
        if not (part == k).any():
            donor = np.bincount(part).argmax()
            part[largest_first[part[largest_first] == donor][-1]] = k
    rows = np.argsort(chance[group], kind="stable")
    train, held_out, last = (rows[part[group[rows]] == k] for k in range(3))
    return train, held_out, last


def _classes(files: tuple[str, ...]) -> tuple[tuple[str, ...] | None, list[str]]:
    """Names of the classes, if the sub-folders are classes, and what is worth knowing about it."""
    if not all("/" in name for name in files):
        return None, []
    classes = tuple(sorted({name.partition("/")[0] for name in files}))
    if len(classes) < 2:
        return None, []
    if {name.lower() for name in classes} <= _SPLIT_NAMES:
        return None, [f"the sub-folders {', '.join(classes)} are no classes: all images are split anew"]
    return classes, []
