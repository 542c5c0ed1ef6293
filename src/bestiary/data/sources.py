"""Images or features that lie in files, read a batch at a time: nothing is trained on them, only judged."""

import os
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bestiary.data.decode import UnreadableError, decode
from bestiary.data.scan import scan
from bestiary.errors import DataError

# Names of the array in an .npz that holds several: what `bestiary sample` and others write.
_NAMES = ("samples", "images", "features", "arr_0")
_CHUNK = 4096

Array = NDArray[Any]


@dataclass(frozen=True)
class Features:
    """Features that somebody else has computed.

    Attributes:
        path: the file.
        values: float32 or float64, shape (n, d), in memory.
        total: how many the file has.
    """

    path: str
    values: Array
    total: int

    def __len__(self) -> int:
        return len(self.values)


class ImageSource(ABC):
    """Images in files.

    Attributes:
        path: of the folder or file.
        total: how many there are; `len` is how many of them are read.
        left_out: file that could not be read → why, once `batches` has met it.
        files: that of each image of a folder that `batches` has given, from the folder on.
    """

    path: str
    total: int
    left_out: dict[str, str]
    files: list[str]

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def batches(self, size: int) -> Iterator[Tensor]:
        """The images, float in [0, 1], at most `size` at a time, (B, C, H, W) with C = 1 or 3.

        Grey images have one channel, but three in a batch with coloured ones.

        Raises:
            DataError: images of several sizes, or none that can be read.
        """


def open_source(
    path: str | os.PathLike[str],
    name: str,
    *,
    limit: int | None = None,
    size: int | None = None,
    seed: int = 0,
) -> ImageSource | Features:
    """Open a folder of images, or an .npy or .npz of images or features.

    An array is taken for images if it has four dimensions (channels first or last) or three (grey), and
    for features if it has two. Images are uint8 levels 0 to 255 or floats in [0, 1].

    Arguments:
        path: a folder with all below it, or a file.
        name: of the argument, for messages ("real").
        limit: read at most so many, a random part; None for all.
        size: bring the images of a folder to squares of this side (Lanczos); None keeps their own.
        seed: of the random part.

    Raises:
        DataError: nothing there, an unknown kind of file, a damaged one, one that holds Python objects, an
            empty array, or one of another shape or type or with values that are out of range.
    """
    place = Path(path)
    if place.is_dir() and os.fspath(path).strip():
        return _Folder(str(path), name, limit, size, seed)
    if place.suffix.lower() not in (".npy", ".npz"):
        found = "a file" if os.fspath(path).strip() and place.exists() else "nothing"
        raise DataError(
            f"{name}: found {found} at {str(path)!r}, wanted a folder of images, or an .npy or .npz file"
        )
    array = _loaded(place, name)
    if array.ndim not in (2, 3, 4):
        raise _other_shape(array, name, str(path))
    if not array.size:
        raise DataError(f"{name}: found no values in {str(path)!r}, whose shape is {array.shape}")
    chosen = _part(len(array), limit, seed)
    if array.ndim == 2:
        _check_numbers(array, name, str(path))
        values = array if chosen is None else array[chosen]
        return Features(str(path), values.astype(np.result_type(array, np.float32)), len(array))
    return _Stored(str(path), name, array, chosen, size)


class _Folder(ImageSource):
    def __init__(self, path: str, name: str, limit: int | None, size: int | None, seed: int) -> None:
        try:
            listing = scan(path)
        except DataError as error:
            raise DataError(str(error).replace("path:", f"{name}:", 1)) from None
        self.path, self._name, self._size = path, name, size
        self._root, self.total = listing.root, len(listing.files)
        self.left_out = dict(listing.unreadable)
        self.files = []
        chosen = _part(self.total, limit, seed)
        self._chosen = listing.files if chosen is None else [listing.files[i] for i in chosen]

    def __len__(self) -> int:
        return len(self._chosen)

    def batches(self, size: int) -> Iterator[Tensor]:
        """See `ImageSource.batches`; files are decoded in the background, a few batches ahead."""
        self.files = []
        first: tuple[str, Array] | None = None
        workers = min(4, os.cpu_count() or 1)
        waiting: deque[Future[list[tuple[str, Array | str]]]] = deque()
        parts = (self._chosen[start : start + size] for start in range(0, len(self._chosen), size))
        with ThreadPoolExecutor(workers) as pool:
            try:
                for part in parts:
                    waiting.append(pool.submit(self._decoded, part))
                    if len(waiting) <= workers:
                        continue
                    first, images = self._readable(waiting.popleft().result(), first)
                    yield from images
                while waiting:
                    first, images = self._readable(waiting.popleft().result(), first)
                    yield from images
            finally:
                for future in waiting:
                    future.cancel()
        if first is None:
            file, reason = min(self.left_out.items())
            raise DataError(
                f"{self._name}: none of the {len(self._chosen):,} image files in {self.path!r} can be read, "
                f"the first is {file!r}: it {reason}"
            )

    def _decoded(self, files: Sequence[str]) -> list[tuple[str, Array | str]]:
        results: list[tuple[str, Array | str]] = []
        for file in files:
            try:
                image = decode(self._root / file, channels="auto", size=self._size, fit="resize")
                results.append((file, image))
            except UnreadableError as error:
                results.append((file, str(error)))
        return results

    def _readable(
        self, results: list[tuple[str, Array | str]], first: tuple[str, Array] | None
    ) -> tuple[tuple[str, Array] | None, list[Tensor]]:
        images = []
        for file, image in results:
            if isinstance(image, str):
                self.left_out[file] = image
                continue
            first = first or (file, image)
            if image.shape[1:] != first[1].shape[1:]:
                raise DataError(
                    f"{self._name}: found images of {_size(first[1])} ({first[0]!r}) and {_size(image)} "
                    f"({file!r}), wanted one size: give the side of a square with size"
                )
            images.append(image)
            self.files.append(file)
        if not images:
            return first, []
        channels = max(len(image) for image in images)
        levels = np.stack([np.broadcast_to(image, (channels, *image.shape[1:])) for image in images])
        return first, [torch.from_numpy(levels.astype(np.float32) / 255)]


class _Stored(ImageSource):
    def __init__(
        self, path: str, name: str, array: Array, chosen: NDArray[np.int64] | None, size: int | None
    ) -> None:
        self.path, self.total, self.left_out, self.files = path, len(array), {}, []
        self._array, self._chosen = _channels_first(array, name, path), chosen
        if size is not None and self._array.shape[2:] != (size, size):
            raise DataError(
                f"size: found {size}, but the images in {path!r} are {_size(self._array)}, "
                "and only those of folders are resized"
            )
        _check_levels(self._array, name, path)

    def __len__(self) -> int:
        return len(self._array if self._chosen is None else self._chosen)

    def batches(self, size: int) -> Iterator[Tensor]:
        """See `ImageSource.batches`."""
        for start in range(0, len(self), size):
            rows = slice(start, start + size)
            images = self._array[rows if self._chosen is None else self._chosen[rows]]
            scale = 255 if images.dtype == np.uint8 else 1
            yield torch.from_numpy(images.astype(np.float32) / scale)


def _part(total: int, limit: int | None, seed: int) -> NDArray[np.int64] | None:
    """Which to read, in their order: neighbours in a file or folder are often alike."""
    if limit is None or total <= limit:
        return None
    return np.sort(np.random.default_rng(seed).permutation(total)[:limit])


def _loaded(path: Path, name: str) -> Array:
    try:
        # Nothing pickled is read: a file of objects raises ValueError.
        if path.suffix.lower() == ".npy":
            stored: Array = np.lib.format.open_memmap(path, mode="r")
            return stored
        with zipfile.ZipFile(path):  # or numpy would leave a damaged file open
            pass
        with np.load(path, allow_pickle=False) as loaded:
            known = [key for key in _NAMES if key in loaded.files]
            if len(loaded.files) != 1 and not known:
                raise DataError(
                    f"{name}: found the arrays {', '.join(loaded.files) or '(none)'} in {str(path)!r}, "
                    f"wanted one, or one of them named {', '.join(_NAMES)}"
                )
            array: Array = loaded[known[0] if known else loaded.files[0]]
            if not isinstance(array, np.ndarray):
                raise ValueError("it is no array of numbers")
            return array
    except FileNotFoundError:
        raise DataError(f"{name}: found nothing at {str(path)!r}") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = " ".join(str(error).split())
        if any(word in reason for word in ("pickle", "Python objects", "magic")):
            reason = "it is no array of numbers (Python objects are not read: they could run code)"
        raise DataError(f"{name}: cannot read {str(path)!r}: {reason[:200]}") from error


def _channels_first(array: Array, name: str, path: str) -> Array:
    """A view of images as (N, C, H, W)."""
    if array.ndim == 3:
        return array[:, None]
    if array.ndim == 4 and array.shape[1] in (1, 3):
        return array
    if array.ndim == 4 and array.shape[3] in (1, 3):
        return np.moveaxis(array, 3, 1)
    raise _other_shape(array, name, path)


def _other_shape(array: Array, name: str, path: str) -> DataError:
    return DataError(
        f"{name}: found shape {array.shape} in {path!r}, wanted images (n, h, w), (n, h, w, c) or "
        "(n, c, h, w) with c = 1 or 3, or features (n, d)"
    )


def _check_numbers(array: Array, name: str, path: str) -> None:
    if not (np.issubdtype(array.dtype, np.floating) or np.issubdtype(array.dtype, np.integer)):
        raise DataError(f"{name}: found {array.dtype} in {path!r}, wanted numbers")
    for start in range(0, len(array), _CHUNK):
        if not np.isfinite(array[start : start + _CHUNK]).all():
            raise DataError(f"{name}: found NaN or infinite features in {path!r}, wanted finite numbers")


def _check_levels(images: Array, name: str, path: str) -> None:
    floats = np.issubdtype(images.dtype, np.floating)
    if images.dtype != np.uint8 and not floats:
        raise DataError(
            f"{name}: found {images.dtype} images in {path!r}, wanted uint8 levels 0 to 255 or floats "
            "in [0, 1]"
        )
    parts = [images[start : start + _CHUNK] for start in range(0, len(images), _CHUNK)]
    low, high = float(np.min([p.min() for p in parts])), float(np.max([p.max() for p in parts]))
    if not np.isfinite([low, high]).all():
        raise DataError(f"{name}: found NaN or infinite values in {path!r}, wanted floats in [0, 1]")
    if floats and not (low >= -1e-4 and high <= 1 + 1e-4):
        remedy = "divide them by 255" if low >= 0 and high > 2 else "rescale them, as in (x + 1) / 2"
        raise DataError(
            f"{name}: found values from {low:g} to {high:g} in {path!r}, wanted floats in [0, 1]: {remedy}"
        )
    if not floats and high <= 1:
        raise DataError(
            f"{name}: found no level above {high:g} in {path!r}, wanted uint8 levels 0 to 255: "
            "multiply binary images by 255"
        )


def _size(images: Array) -> str:
    return f"{images.shape[-1]}×{images.shape[-2]}"
