"""Reports: one self-contained HTML page, readable with no network and without a script."""

from bestiary.report.comparison import write_report

__all__ = ["write_report"]
