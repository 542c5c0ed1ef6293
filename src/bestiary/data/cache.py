"""The cache folder: what was downloaded or decoded once."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from bestiary.errors import DataError


def cache_folder() -> Path:
    """`$BESTIARY_CACHE`, or `~/.cache/bestiary`; it need not exist."""
    return Path(os.environ.get("BESTIARY_CACHE") or "~/.cache/bestiary").expanduser().absolute()


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """Only one process at a time makes `target`; the others wait, and then find it made.

    Raises:
        DataError: the cache folder cannot be written.
    """
    with _told(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(target.with_name(f".{target.name}.lock"))
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def written_aside(target: Path) -> Iterator[Path]:
    """A path to write to; the file is synced and takes the name `target` when the block ends well.

    Use it under `locked`: what a killed process left is overwritten by the next.

    Raises:
        DataError: the cache folder cannot be written, or is full.
    """
    aside = target.with_name(f".{target.name}.part")
    with _told(target):
        try:
            yield aside
            with aside.open("rb") as file:
                os.fsync(file.fileno())
            aside.replace(target)
        finally:
            aside.unlink(missing_ok=True)


@contextmanager
def _told(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"BESTIARY_CACHE: cannot write {str(target.parent)!r} ({error.strerror or error}), "
            "wanted a folder that can be written and has room"
        ) from error
