"""Which files of a folder are images, by their names alone."""

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from bestiary.data.decode import EXTENSIONS
from bestiary.errors import DataError


@dataclass(frozen=True)
class Listing:
    """What lies in a folder.

    Attributes:
        root: the folder.
        files: paths of the image files from `root` on, sorted.
        digest: SHA-256 over their paths, sizes and times of last change.
        unreadable: files and folders that cannot be looked at, with the reason.
        others: number of files that are no images by their extension.
    """

    root: Path
    files: tuple[str, ...]
    digest: str
    unreadable: tuple[tuple[str, str], ...]
    others: int


def scan(path: str) -> Listing:
    """List a folder and all below it; links are followed, and every folder is visited once.

    Raises:
        DataError: no such folder, or no image in it.
    """
    root = Path(path)
    if not root.is_dir():
        found = "a file" if root.exists() else "nothing"
        raise DataError(f"path: found {found} at {path!r}, wanted a folder of images")
    files: list[tuple[str, int, int]] = []
    unreadable: list[tuple[str, str]] = []
    others = 0
    for folder, name in _walk(root, unreadable):
        if Path(name).suffix.lower() not in EXTENSIONS:
            others += 1
            continue
        full = Path(folder, name)
        relative = full.relative_to(root).as_posix()
        try:
            status = full.stat()
        except OSError as error:
            unreadable.append((relative, f"cannot be opened: {error.strerror}"))
            continue
        if stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            files.append((relative, status.st_size, status.st_mtime_ns))
        else:
            unreadable.append((relative, "is no regular file"))
    if not files:
        reason = "".join(f"; {name!r} {why}" for name, why in unreadable[:1])
        raise DataError(
            f"path: found no images in {path!r} (and {others:,} other files{reason}), "
            f"wanted a folder with {', '.join(sorted(EXTENSIONS))} files"
        )
    files.sort()
    digest = hashlib.sha256("\n".join(map(repr, files)).encode()).hexdigest()
    return Listing(root, tuple(f[0] for f in files), digest, tuple(sorted(unreadable)), others)


def _walk(root: Path, unreadable: list[tuple[str, str]]) -> list[tuple[str, str]]:
    def refused(error: OSError) -> None:
        name = os.path.relpath(error.filename, root)
        unreadable.append((name, f"cannot be opened: {error.strerror}"))

    found: list[tuple[str, str]] = []
    visited = {_identity(root)}
    for folder, below, names in os.walk(root, followlinks=True, onerror=refused):
        # Real folders before links to them, so that an image keeps the class of the folder it lies in.
        below.sort(key=lambda name: (Path(folder, name).is_symlink(), name))
        entered = []
        for name in below:
            identity = _identity(Path(folder, name))
            if not name.startswith(".") and identity not in visited:
                visited.add(identity)
                entered.append(name)
        below[:] = entered
        found.extend((folder, name) for name in names if not name.startswith("."))
    return found


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino
