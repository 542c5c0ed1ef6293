"""A folder of images, decoded once into a memory-mapped array in the cache folder.

`KEY.npy` holds the levels, `KEY.index` what is known about them: a line with the SHA-256 of the next,
and a line of JSON. KEY stands for the folder and how it is decoded; the index names the listing it was
made from, so that a changed folder replaces its old cache. The array is written before its index, whose
record of the array's size and time of writing is how a partial or changed array is noticed.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from bestiary.data.cache import cache_folder, locked, written_aside
from bestiary.data.decode import Fit, UnreadableError, decode, look, quiet
from bestiary.data.scan import Listing
from bestiary.errors import DataError

_FORMAT = 1  # of the cache and of decoding; another number makes every old cache void
_NOTES = 20
_log = logging.getLogger("bestiary.data")


@dataclass(frozen=True)
class Decoded:
    """The images of a folder.

    Attributes:
        images: memory-mapped uint8 levels, shape (N, C, H, W).
        files: the file of each, from the folder on, sorted.
        twins: for each image the first one with the same pixels, shape (N,): itself, if it is unique.
        digest: SHA-256 of all pixels.
        notes: one line for each file that was left out, at most 21 lines.
    """

    images: NDArray[np.uint8]
    files: tuple[str, ...]
    twins: NDArray[np.int64]
    digest: str
    notes: tuple[str, ...]


def decoded(listing: Listing, *, size: int | None, fit: Fit, channels: Literal["auto", 1, 3]) -> Decoded:
    """The images of a folder from the cache, or decoded into it.

    Raises:
        DataError: no file can be read, images differ in size and `size` is None, or the cache folder
            cannot be written.
    """
    how = [_FORMAT, str(listing.root.resolve()), size, fit, channels]
    key = hashlib.sha256(json.dumps(how).encode()).hexdigest()[:32]
    array = cache_folder() / "folders" / f"{key}.npy"
    if found := _cached(array, listing):
        return found
    with locked(array):
        if not _cached(array, listing):
            _build(array, listing, size, fit, channels)
    made = _cached(array, listing)
    if made is None:
        raise DataError(f"path: the folder {str(listing.root)!r} changed while it was read, try again")
    return made


def _cached(array: Path, listing: Listing) -> Decoded | None:
    try:
        sha256, line = array.with_suffix(".index").read_bytes().split(b"\n")
        if hashlib.sha256(line).hexdigest() != sha256.decode():
            return None
        index = json.loads(line)
        if index["listing"] != listing.digest or index["array"] != _state(array):
            return None
        images = np.load(array, mmap_mode="r")
    except (OSError, ValueError):
        return None
    twins = np.array(index["twins"], dtype=np.int64)
    return Decoded(images, tuple(index["files"]), twins, index["digest"], tuple(index["notes"]))


def _state(array: Path) -> list[int]:
    status = array.stat()
    return [status.st_size, status.st_mtime_ns]


def _build(
    array: Path, listing: Listing, size: int | None, fit: Fit, channels: Literal["auto", 1, 3]
) -> None:
    _log.info("decoding %s images of %s once, into %s", f"{len(listing.files):,}", listing.root, array)
    left_out = list(listing.unreadable)
    with quiet():
        grey = _looked(listing, left_out)
        if not grey:
            raise _none_readable(listing, left_out)
        depth = (1 if all(grey.values()) else 3) if channels == "auto" else channels
        with written_aside(array) as aside, aside.open("wb") as file:
            index = _write(file, listing, list(grey), left_out, depth, size, fit)
    index["array"] = _state(array)
    line = json.dumps(index).encode()
    with written_aside(array.with_suffix(".index")) as aside:
        aside.write_bytes(hashlib.sha256(line).hexdigest().encode() + b"\n" + line)


def _looked(listing: Listing, left_out: list[tuple[str, str]]) -> dict[str, bool]:
    grey = {}
    for name in listing.files:
        try:
            grey[name] = look(listing.root / name)
        except UnreadableError as error:
            left_out.append((name, str(error)))
    return grey


def _write(
    file: BinaryIO,
    listing: Listing,
    names: Sequence[str],
    left_out: list[tuple[str, str]],
    channels: Literal[1, 3],
    size: int | None,
    fit: Fit,
) -> dict[str, Any]:
    """Decode into an .npy file, one image at a time, and return its index."""

    def attempt(name: str) -> NDArray[np.uint8] | str:
        try:
            return decode(listing.root / name, channels=channels, size=size, fit=fit)
        except UnreadableError as error:
            return str(error)

    files: list[str] = []
    twins: list[int] = []
    first: dict[bytes, int] = {}
    content = hashlib.sha256()
    shape: tuple[int, ...] = ()
    told = time.monotonic()
    for done, (name, image) in enumerate(_threaded(attempt, names)):
        if time.monotonic() - told > 10:
            told = time.monotonic()
            _log.info("decoded %s of %s images", f"{done:,}", f"{len(names):,}")
        if isinstance(image, str):
            left_out.append((name, image))
            continue
        if not shape:
            shape = image.shape
            _header(file, (0, *shape))
        elif image.shape != shape:
            raise _other_size(files[0], shape, name, image.shape)
        file.write(image.tobytes())
        pixels = hashlib.sha256(image.tobytes()).digest()
        content.update(pixels)
        twins.append(first.setdefault(pixels, len(files)))
        files.append(name)
    if not files:
        raise _none_readable(listing, left_out)
    file.seek(0)
    _header(file, (len(files), *shape))
    return {
        "listing": listing.digest,
        "files": files,
        "twins": twins,
        "digest": content.hexdigest(),
        "notes": _notes(left_out),
    }


def _threaded(
    attempt: Callable[[str], NDArray[np.uint8] | str], names: Sequence[str]
) -> Iterator[tuple[str, NDArray[np.uint8] | str]]:
    workers = min(4, os.cpu_count() or 1)  # each may hold a very large image
    piece = 8 * workers
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(names), piece):
            some = names[start : start + piece]
            yield from zip(some, pool.map(attempt, some), strict=True)


def _header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    # numpy pads the header so that it can be written again in place with another first dimension.
    npy.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


def _notes(left_out: Sequence[tuple[str, str]]) -> list[str]:
    lines = [f"left out {name!r}: it {reason}" for name, reason in sorted(left_out)]
    more = len(lines) - _NOTES
    return lines[:_NOTES] + ([f"left out {more:,} more files that cannot be read"] if more > 0 else [])


def _none_readable(listing: Listing, left_out: Sequence[tuple[str, str]]) -> DataError:
    name, reason = sorted(left_out)[0]
    return DataError(
        f"path: none of the {len(left_out):,} image files in {str(listing.root)!r} can be read, "
        f"the first is {name!r}: it {reason}"
    )


def _other_size(first: str, shape: tuple[int, ...], name: str, other: tuple[int, ...]) -> DataError:
    return DataError(
        f"size: found images of {shape[2]}×{shape[1]} ({first!r}) and {other[2]}×{other[1]} ({name!r}), "
        "wanted one size: give the side of a square, as in size=64, and fit=resize or fit=crop"
    )
