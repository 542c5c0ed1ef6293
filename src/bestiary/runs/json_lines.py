"""Files of JSON lines, which grow a line at a time while a run is trained."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bestiary.config import finite


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines; a last line that was cut off while being written is left out."""
    lines: list[dict[str, Any]] = []
    if path.exists():
        for text in path.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(text))
            except ValueError:
                break
    return lines


def append_line(path: Path, line: Mapping[str, Any]) -> None:
    """Add one object to a file of JSON lines; numbers that are not finite, which JSON has not, are null."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(finite(line), allow_nan=False) + "\n")
