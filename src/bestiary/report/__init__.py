"""Reports: one self-contained HTML page, readable with no network and without a script."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bestiary.study.results import Comparison

__all__ = ["write_report"]


def write_report(comparison: "Comparison", folder: Path) -> Path:
    """Write `report.html` into an existing folder and return its path; equal input gives equal bytes."""
    from bestiary.report.comparison import render  # loads matplotlib, which only a report needs

    path = folder / "report.html"
    path.write_text(render(comparison), encoding="utf-8", newline="\n")
    return path
