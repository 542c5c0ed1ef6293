"""Writing files so that a reader sees the old one or the new one, never half of one."""

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bestiary.errors import RunError


def write_text(path: Path, text: str) -> None:
    """Replace a file at once: written aside, synced, renamed."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with aside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def forget_asides(folder: Path) -> None:
    """Clear up after a process that was killed while it wrote in a folder that nobody writes now.

    What it had not finished is removed; a folder that it had moved away for a new one comes back.
    """
    for path in list(folder.iterdir()) if folder.exists() else ():
        if path.is_file() and re.fullmatch(r"\..+\.\d+", path.name):
            path.unlink()
        elif path.is_dir() and re.fullmatch(r"\.\d+\.\d+", path.name):
            shutil.rmtree(path)
        elif path.is_dir() and (found := re.fullmatch(r"\.(\d+)\.old", path.name)):
            whole = path.with_name(found[1])
            if whole.exists():
                shutil.rmtree(path)
            else:
                path.rename(whole)


def write_json(path: Path, content: Any) -> None:
    """Replace a JSON file at once; nan and infinities are refused, as in the standard."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


@contextmanager
def written_aside(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its place when the block ends well."""
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        yield aside
        for path in (*aside.iterdir(), aside):
            _sync(path)
        if folder.exists():
            old = folder.with_name(f".{folder.name}.old")
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
            aside.rename(folder)
            shutil.rmtree(old, ignore_errors=True)
        else:
            aside.rename(folder)
        _sync(folder.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def told_in_one_line(what: str) -> Iterator[None]:
    """Turn the operating system's refusal to write into one line for the person.

    Raises:
        RunError: no space, no permission, a read-only file system, a file in the way.
    """
    remedies = {
        errno.ENOSPC: "no space left on the disk: free some and go on with --resume",
        errno.EDQUOT: "the disk quota is used up: free some and go on with --resume",
        errno.EACCES: "permission denied: choose another folder with --out",
        errno.EPERM: "permission denied: choose another folder with --out",
        errno.EROFS: "the file system is read-only: choose another folder with --out",
        errno.ENOTDIR: "a file is in the way: choose another folder with --out",
        errno.EEXIST: "a file is in the way: choose another folder with --out",
    }
    try:
        yield
    except OSError as error:
        remedy = remedies.get(error.errno or 0, str(error))
        raise RunError(f"{what}: cannot write {error.filename or ''}: {remedy}".replace(" :", ":")) from error
