"""MNIST and Fashion-MNIST: four IDX files, checked by the SHA-256 of their uncompressed content.

A file is looked for in the folder that the person names, in the installed package, in the cache folder,
and at the original address, in this order.
"""

import gzip
import hashlib
import http.client
import urllib.request
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bestiary.data.cache import cache_folder, locked, written_aside
from bestiary.data.datasets import DATASETS
from bestiary.data.images import Conditioning, labelled_images
from bestiary.data.part import Only
from bestiary.data.splits import Binarise, Data
from bestiary.errors import DataError

TIMEOUT = 10.0  # seconds without a byte before an address is given up
_WITHIN = (".", "data", "package/data", "raw", "MNIST/raw", "FashionMNIST/raw")


@dataclass(frozen=True)
class IdxFile:
    """One IDX file of bytes: its name, the shape of its array, the SHA-256 of its uncompressed content."""

    name: str
    shape: tuple[int, ...]
    sha256: str

    @property
    def header(self) -> bytes:
        """Its first bytes: type unsigned byte (8), number of dimensions, and each as a big-endian int."""
        return bytes([0, 0, 8, len(self.shape)]) + np.array(self.shape, dtype=">u4").tobytes()

    @property
    def size(self) -> int:
        """Bytes of its uncompressed content."""
        return len(self.header) + int(np.prod(self.shape))


Files = tuple[IdxFile, IdxFile, IdxFile, IdxFile]


@dataclass(frozen=True)
class IdxSet:
    """A data set of four IDX files, and where they may be.

    Attributes:
        name: of the data set.
        files: training images and labels, test images and labels.
        classes: names of the classes.
        installed: folders where a package puts the files.
        addresses: folders from which the compressed files may be downloaded.
        held_out: the last so many training images are the validation split.
    """

    name: str
    files: Files
    classes: tuple[str, ...]
    installed: tuple[str, ...]
    addresses: tuple[str, ...]
    held_out: int = 10_000


def _files(train_images: str, train_labels: str, test_images: str, test_labels: str) -> Files:
    return (
        IdxFile("train-images-idx3-ubyte", (60_000, 28, 28), train_images),
        IdxFile("train-labels-idx1-ubyte", (60_000,), train_labels),
        IdxFile("t10k-images-idx3-ubyte", (10_000, 28, 28), test_images),
        IdxFile("t10k-labels-idx1-ubyte", (10_000,), test_labels),
    )


MNIST = IdxSet(
    name="mnist",
    files=_files(
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
    classes=tuple("0123456789"),
    installed=(),
    addresses=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "http://yann.lecun.com/exdb/mnist/",
    ),
)

FASHION_MNIST = IdxSet(
    name="fashion-mnist",
    files=_files(
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
    classes=(
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
        "Ankle boot",
    ),
    installed=("/usr/share/datasets/fashion-mnist",),
    addresses=("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
)  # fmt: skip


def mnist(
    *,
    path: str | None = None,
    binarise: Binarise = "none",
    condition: Conditioning = "none",
    only: Only = None,
) -> Data:
    """MNIST, 28×28, 256 levels: 50,000 / 10,000 / 10,000; validation is the last 10,000 of train.

    Arguments:
        path: folder with the four IDX files, plain or `.gz`; none looks where they usually are.
        binarise: "fixed" draws each pixel from Bernoulli(k/255) once and for all, "dynamic" afresh each
            time an example is drawn for training; both make the spec binary. The fixed draw is our own:
            the file of Larochelle and Murray (2011) is another draw of the same law.
        condition: "classes" gives models the label.
        only: a class or several, by name or number, of which all three splits then consist, numbered anew
            from 0; none for all.
    """
    return _load(MNIST, path, binarise, condition, only)


def fashion_mnist(
    *,
    path: str | None = None,
    binarise: Binarise = "none",
    condition: Conditioning = "none",
    only: Only = None,
) -> Data:
    """Fashion-MNIST, 28×28, 256 levels: 50,000 / 10,000 / 10,000; validation is the last 10,000 of train.

    References: Fashion-MNIST (Xiao et al., 2017), arXiv:1708.07747.

    Arguments:
        path: folder with the four IDX files, plain or `.gz`; none looks where they usually are.
        binarise: "fixed" draws each pixel from Bernoulli(k/255) once and for all, "dynamic" afresh each
            time an example is drawn for training; both make the spec binary.
        condition: "classes" gives models the label.
        only: a class or several, by name or number, of which all three splits then consist, numbered anew
            from 0; none for all.
    """
    return _load(FASHION_MNIST, path, binarise, condition, only)


def _load(wanted: IdxSet, path: str | None, binarise: Binarise, condition: Conditioning, only: Only) -> Data:
    folder = _folder(wanted, path)
    if folder is None:
        folder = cache_folder() / wanted.name
        _download(wanted, folder)
    images, labels, test_images, test_labels = (read_idx(_beside(folder, f), f) for f in wanted.files)
    images, test_images = images[:, None], test_images[:, None]
    cut = len(images) - wanted.held_out
    parts = [(images[:cut], labels[:cut]), (images[cut:], labels[cut:]), (test_images, test_labels)]
    return labelled_images(
        wanted.name,
        parts,
        levels=256,
        classes=wanted.classes,
        binarise=binarise,
        condition=condition,
        only=only,
    )


def read_idx(path: Path, wanted: IdxFile) -> NDArray[np.uint8]:
    """The array of one IDX file, plain or `.gz`.

    Raises:
        DataError: it cannot be read, is cut short, or holds something else.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(wanted.size + 1)  # never more than is wanted, whatever it unpacks to
        return _checked(content, wanted)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise DataError(
            f"{path}: {error}, wanted the {wanted.size:,} bytes of {wanted.name}: delete it and get it anew"
        ) from error


def _checked(content: bytes, wanted: IdxFile) -> NDArray[np.uint8]:
    if len(content) > wanted.size:
        raise ValueError(f"found more than {wanted.size:,} bytes")
    if len(content) < wanted.size:
        raise ValueError(f"found {len(content):,} bytes")
    found = hashlib.sha256(content).hexdigest()
    if found != wanted.sha256:
        raise ValueError(f"found another content (SHA-256 {found[:12]}…, not {wanted.sha256[:12]}…)")
    return np.frombuffer(content, np.uint8, offset=len(wanted.header)).reshape(wanted.shape)


def _folder(wanted: IdxSet, path: str | None) -> Path | None:
    """The first folder that has all four files."""
    if path is not None:
        found = _within(Path(path), wanted.files)
        if found is None:
            raise DataError(
                f"path: found no {_missing(Path(path), wanted.files)} in {path!r}, "
                f"wanted the folder with the four IDX files of {wanted.name}, plain or .gz"
            )
        return found
    for place in (*map(Path, wanted.installed), cache_folder() / wanted.name):
        if found := _within(place, wanted.files):
            return found
    return None


def _within(folder: Path, files: Sequence[IdxFile]) -> Path | None:
    return next((folder / sub for sub in _WITHIN if not _missing(folder / sub, files)), None)


def _missing(folder: Path, files: Sequence[IdxFile]) -> str:
    return next((f.name for f in files if not _beside(folder, f).is_file()), "")


def _beside(folder: Path, file: IdxFile) -> Path:
    packed = folder / f"{file.name}.gz"
    return packed if packed.is_file() else folder / file.name


def _download(wanted: IdxSet, folder: Path) -> None:
    for file in wanted.files:
        target = folder / f"{file.name}.gz"
        with locked(target):
            if not target.is_file():
                packed = _fetch(wanted, file)
                with written_aside(target) as aside:
                    aside.write_bytes(packed)


def _fetch(wanted: IdxSet, file: IdxFile) -> bytes:
    reasons = []
    for address in wanted.addresses:
        url = f"{address}{file.name}.gz"
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
                packed: bytes = response.read(file.size + 1024)
            _checked(zlib.decompressobj(31).decompress(packed, file.size + 1), file)
        except (OSError, http.client.HTTPException, zlib.error, ValueError) as error:
            reasons.append(f"{address}: {getattr(error, 'reason', error)}")
        else:
            return packed
    ways = "; ".join(DATASETS[wanted.name].ways)
    raise DataError(
        f"{wanted.name}: not found in {cache_folder()} and not downloaded ({'; '.join(reasons)}); "
        f"wanted one of: {ways}"
    )
