"""What is printed: results to standard output, everything else to standard error."""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

# rich, and pydantic behind `bestiary.config`, are imported where they are used: the help and the lists
# answer before either has been read from the disk.
_UNBROKEN = 10_000


def say(line: str) -> None:
    """A line of progress, a note or a mistake."""
    print(line, file=sys.stderr, flush=True)


def print_json(content: Any) -> None:
    """The result as JSON; numbers that are not finite become null."""
    from bestiary.config import plain

    print(json.dumps(_finite(plain(content)), indent=1, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """The result as a table: fitted to a terminal, one line a row elsewhere.

    Arguments:
        columns: the headings.
        rows: a text for each column.
        right: headings of the columns that are aligned to the right.
    """
    from rich.table import Table

    console = _console()
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def print_fields(fields: Mapping[str, str]) -> None:
    """Names and texts, one a line, in two columns; what has no text is left out."""
    from rich.table import Table

    console = _console()
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in fields.items():
        if text:
            table.add_row(name, text)
    console.print(table)


def print_heading(text: str) -> None:
    """A blank line and a heading between two parts of a result."""
    console = _console()
    console.print()
    console.print(text, style="bold")


def duration(seconds: float) -> str:
    """A time in the two largest units: "45 s", "7 min 20 s", "2 h 5 min"."""
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
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "none"}[value]
    if isinstance(value, float):
        return f"{value:g}"
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _console() -> "Console":
    from rich.console import Console

    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = _UNBROKEN
    return console


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
