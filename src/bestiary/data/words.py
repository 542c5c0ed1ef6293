"""English words, letter by letter: a real corpus of sequences that is small enough for a laptop."""

import hashlib
import string
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bestiary.data.datasets import DATASETS
from bestiary.data.specs import SequenceSpec
from bestiary.data.splits import ArraySplit, Data
from bestiary.errors import DataError

INSTALLED = Path("/usr/share/dict/american-english")
LONGEST = 20  # letters; the list has four longer words
SYMBOLS = "\n" + string.ascii_lowercase  # 0 is the end, and the padding after it
HELD_OUT = 0.1  # share of the words, for validation and for test


def words(*, path: str | None = None) -> Data:
    """Lower-case words of at most 20 letters a to z, without names, contractions and possessives.

    A word is its letters, 1 to 26, then an end symbol, 0, up to the length of 21: the end is a symbol that
    has to be predicted too, and what follows it is padding, which is also 0. `spec.texts(x)` writes sequences
    as words again. No word is twice in the list; every tenth is for validation, every tenth for test, by one
    fixed random order.

    Arguments:
        path: text file with a word a line; none takes the one that the Debian package `wamerican` installs.

    Raises:
        DataError: no such file, or one with fewer than 10 such words.
    """
    file = INSTALLED if path is None else Path(path)
    known = sorted(_read(file))
    if len(known) < 1 / HELD_OUT:
        raise DataError(
            f"path: found {len(known)} words in {str(file)!r}, wanted at least 10 of at most {LONGEST}"
            " letters a to z, one a line"
        )
    symbols = _encoded(known)
    symbols = symbols[np.argsort(np.random.default_rng(0).random(len(symbols)), kind="stable")]
    n = int(HELD_OUT * len(symbols))
    splits = (symbols[: -2 * n], symbols[-2 * n : -n], symbols[-n:])
    train, validation, test = (ArraySplit(part, levels=None) for part in splits)
    spec = SequenceSpec(LONGEST + 1, len(SYMBOLS), symbols=SYMBOLS)
    fingerprint = hashlib.sha256(b"\n".join(known)).hexdigest()
    return Data("words", spec, train, validation, test, fingerprint=fingerprint)


def _read(file: Path) -> set[bytes]:
    try:
        lines = file.read_bytes().split()
    except OSError as error:
        ways = " or ".join(DATASETS["words"].ways)
        raise DataError(f"words: cannot read {str(file)!r} ({error.strerror}), wanted {ways}") from error
    letters = set(SYMBOLS[1:].encode())
    return {line for line in lines if len(line) <= LONGEST and letters.issuperset(line)}


def _encoded(known: list[bytes]) -> NDArray[np.int64]:
    """Words as symbols 0 … 26, (N, 21)."""
    padded = np.array(known, dtype=f"S{LONGEST + 1}").view(np.uint8).reshape(len(known), -1)
    return np.maximum(padded.astype(np.int64) - (ord("a") - 1), 0)
