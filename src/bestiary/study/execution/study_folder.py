"""A study's folder: what study it was started with, and whether that is the one asked for now."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from bestiary.errors import OptionError, RunError
from bestiary.runs.training import is_empty
from bestiary.study.plan.design import Study
from bestiary.study.plan.schema import make_study
from bestiary.study.plan.study_file import read_study
from bestiary.training.files import write_text
from bestiary.yaml_file import read_mapping

STUDY = "study.yaml"


def read_design(folder: Path) -> Study:
    """The study that a folder was started with.

    Raises:
        RunError: the folder holds no study.
    """
    if not (folder / STUDY).exists():
        raise RunError(f"{folder}: holds no study, wanted a folder that `bestiary study run` has written")
    _stored(folder)
    return read_study(folder / STUDY)


def is_started(folder: Path, design: Study) -> bool:
    """Whether the folder holds this study already.

    Raises:
        RunError: it holds another one.
    """
    if not (folder / STUDY).exists():
        if not is_empty(folder):
            raise RunError(f"out: {folder} is not empty and holds no study: choose another --out")
        return False
    stored: Any = _stored(folder)
    with suppress(OptionError):  # of your own class; what is younger than the study had its default
        stored = yaml.safe_load(_text(make_study(stored)))
    difference = _first_difference(stored, yaml.safe_load(_text(design)))
    if difference is not None:
        name, old, new = difference
        raise RunError(
            f"{name}: found {new!r}, but the study in {folder} was started with {old!r}: resume it unchanged,"
            " or start a new one in another --out"
        )
    return True


def _stored(folder: Path) -> dict[str, Any]:
    try:
        return read_mapping(folder / STUDY, "study", wanted="a study", example="budget: 2 epochs")
    except OptionError as error:
        raise RunError(f"{error}: put {STUDY} back, or start anew in another --out") from error


def keep_design(folder: Path, design: Study) -> None:
    """Write the study that a folder is started with, once."""
    if not (folder / STUDY).exists():
        write_text(folder / STUDY, _text(design))


def _text(design: Study) -> str:
    return yaml.safe_dump(design.to_plain(), sort_keys=False, allow_unicode=True)


def _first_difference(old: Any, new: Any, name: str = "study") -> tuple[str, Any, Any] | None:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *new]:
            found = _first_difference(old.get(key), new.get(key), f"{name}.{key}")
            if found is not None:
                return found
        return None
    return None if old == new else (name, old, new)
