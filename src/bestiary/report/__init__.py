"""Reports: one self-contained HTML page, readable with no network and without a script."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bestiary.study.analysis.trials import StudyResults
    from bestiary.study.results import Comparison

__all__ = ["write_report", "write_study_report"]


def write_report(comparison: "Comparison", folder: Path) -> Path:
    """Write `report.html` into an existing folder and return its path; equal input gives equal bytes."""
    from bestiary.report.comparison import render  # loads matplotlib, which only a report needs

    path = folder / "report.html"
    path.write_text(render(comparison), encoding="utf-8", newline="\n")
    return path


def write_study_report(results: "StudyResults", folder: Path) -> Path:
    """Write a study's report into its folder: report.html, tables/ (CSV, JSON, LaTeX) and figures/ (SVG).

    Equal results give equal bytes. Pictures of samples are taken from the winners' run folders, if there are
    any.

    Returns:
        The path of report.html.

    Raises:
        RunError: the study has no draw yet.
    """
    from bestiary.report.study_page import write  # loads matplotlib, which only a report needs

    return write(results, folder)
