"""Which files of a folder are images, by their names alone."""

import hashlib
import os
import stat
from collections import deque
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
    """List a folder and all below it, without what is hidden; links are followed.

    Every folder is visited once, and links to folders last, so that circles end and an image keeps the
    place in which it really lies.

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
    visited: set[tuple[int, int]] = set()
    pending = deque([("", str(root))])
    while pending:
        prefix, folder = pending.popleft()
        try:
            entries = _entries(folder, visited)
        except OSError as error:
            unreadable.append((prefix or ".", f"cannot be opened: {error.strerror}"))
            continue
        for entry in entries:
            name = prefix + entry.name
            try:
                if entry.is_dir():
                    (pending.append if entry.is_symlink() else pending.appendleft)((f"{name}/", entry.path))
                elif not name.lower().endswith(EXTENSIONS):
                    others += 1
                elif stat.S_ISREG((status := entry.stat()).st_mode):
                    files.append((name, status.st_size, status.st_mtime_ns))
                else:  # opening a pipe would wait for ever
                    unreadable.append((name, "is no regular file"))
            except OSError as error:
                unreadable.append((name, f"cannot be opened: {error.strerror}"))
    if not files:
        reason = "".join(f"; {name!r} {why}" for name, why in unreadable[:1])
        raise DataError(
            f"path: found no images in {path!r} (and {others:,} other files{reason}), "
            f"wanted a folder with {', '.join(EXTENSIONS)} files"
        )
    files.sort()
    digest = hashlib.sha256("\n".join(map(repr, files)).encode()).hexdigest()
    return Listing(root, tuple(f[0] for f in files), digest, tuple(sorted(unreadable)), others)


def _entries(folder: str, visited: set[tuple[int, int]]) -> list[os.DirEntry[str]]:
    """What lies in a folder, by name; nothing, if the folder was visited before."""
    status = Path(folder).stat()
    if (status.st_dev, status.st_ino) in visited:
        return []
    visited.add((status.st_dev, status.st_ino))
    with os.scandir(folder) as entries:
        return sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
