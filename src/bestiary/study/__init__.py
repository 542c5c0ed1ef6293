"""Studies: models under one equal budget, and the verdict.

Importing the package imports no torch: names are looked up when they are first used, which also lets the
processes of a study start without what only its driver needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bestiary.study.comparison import compare
    from bestiary.study.execution.running import run_study
    from bestiary.study.plan.study_file import presets, read_study

_HOMES = {
    "compare": "comparison",
    "presets": "plan.study_file",
    "read_study": "plan.study_file",
    "run_study": "execution.running",
}

__all__ = ["compare", "presets", "read_study", "run_study"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"bestiary.study.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'bestiary.study' has no attribute {name!r}")
