"""What is printed: results to standard output, everything else to standard error."""

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from bestiary.config import finite

_GAP = 2
_NARROW = 24
_INDENT = 4


def leads() -> bool:
    """Whether this process is alone, or the first of those that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


def say(line: str) -> None:
    """A line of progress, a note or a mistake; of several ranks the first one tells it."""
    if leads():
        print(line, file=sys.stderr, flush=True)


def print_json(content: Any) -> None:
    """The result as JSON; numbers that are not finite become null."""
    print(json.dumps(finite(content), indent=1, ensure_ascii=False, default=str))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """The result as a table; on a terminal the last column is wrapped into the width that is left.

    Arguments:
        columns: the headings.
        rows: a text for each column.
        right: headings of the columns that are aligned to the right.
    """
    cells = [list(columns), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)][:-1]
    room = _width() - sum(widths) - _GAP * len(widths)
    for row in cells:
        padded = [
            text.rjust(width) if name in right else text.ljust(width)
            for name, text, width in zip(columns, row, widths, strict=False)
        ]
        start = (" " * _GAP).join([*padded, ""])
        if room >= _NARROW or len(row[-1]) <= room:
            last = row[-1].rjust(max(len(r[-1]) for r in cells)) if columns[-1] in right else row[-1]
            _print_wrapped(start, last, len(start))
        else:
            print(start.rstrip())
            _print_wrapped(" " * _INDENT, row[-1], _INDENT)


def print_fields(fields: Mapping[str, str]) -> None:
    """Names and texts, one a line, in two columns; what has no text is left out."""
    width = max(map(len, fields)) + _GAP
    for name, text in fields.items():
        if text:
            _print_wrapped(name.ljust(width), text, width)


def print_heading(text: str) -> None:
    """A blank line and a heading between two parts of a result."""
    print(f"\n{text}")


def duration(seconds: float) -> str:
    """A time in its two largest units: "45 s", "7 min 20 s", "2 h 5 min"."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def shown(value: Any) -> str:
    """A setting as one would type it."""
    if value is None or isinstance(value, bool):
        return {True: "true", False: "false", None: "none"}[value]
    if isinstance(value, float):
        return f"{value:g}"
    return f"[{','.join(map(shown, value))}]" if isinstance(value, list | tuple) else str(value)


def _width() -> int:
    # Elsewhere than on a terminal a row is a line, for whatever reads it.
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 100_000


def _print_wrapped(start: str, text: str, indent: int) -> None:
    width = max(_width(), indent + _NARROW)
    lines = textwrap.wrap(text, width - indent, break_on_hyphens=False) or [""]
    for line in lines:
        print((start + line).rstrip())
        start = " " * indent
