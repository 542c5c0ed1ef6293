"""`load_data`: from a name and options to a data set."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from bestiary.config import resolve
from bestiary.data.datasets import DATASETS, DataSet, find
from bestiary.data.specs import spec_to_dict
from bestiary.data.splits import Data
from bestiary.errors import OptionError


def load_data(name: str | os.PathLike[str], /, **options: Any) -> Data:
    """Load a data set by name, or a folder of images by its path.

    Arguments:
        name: a name of `bestiary data`, with or without its treatment ("mnist", "mnist-dynamic"), or the
            path of a folder: what has a slash in it or is a folder, and is no name.
        options: settings of the loader; `bestiary data NAME` lists them.

    `load_data(data.source, **data.options)` gives the same data again, with the same fingerprint.

    Raises:
        OptionError: a name or an option that does not exist, or a value that is not valid.
        DataError: data that are missing or damaged, with every way to get them.

    Example:
        >>> load_data("digits-dynamic", condition="classes").spec
        ImageSpec(channels=1, height=8, width=8, levels=2, condition=Classes(n=10))
    """
    if not isinstance(name, str | os.PathLike) or not os.fspath(name).strip():
        raise OptionError(f"data: found {name!r}, wanted a name of `bestiary data`, or the path of a folder")
    options = {key: os.fspath(v) if isinstance(v, os.PathLike) else v for key, v in options.items()}
    source, implied = _find(os.fspath(name))
    for key, value in implied.items():
        if options.setdefault(key, value) != value:
            raise OptionError(
                f"{key}: found {options[key]!r}, but the name {os.fspath(name)!r} says {value!r}"
            )
    loader = loader_of(source)
    settings = resolve(loader, options, owner=source.name)
    if settings.get("only") is None:
        # Absent where nothing is left out, as in run folders that are older than the option.
        settings.pop("only", None)
    if settings.get("path"):
        settings["path"] = str(Path(settings["path"]).expanduser().absolute())
    data: Data = loader(**settings)
    binarise = settings.get("binarise", "none")
    return replace(
        data,
        name=data.name if binarise == "none" else f"{data.name}-{binarise}",
        source=source.name,
        options=settings,
        fingerprint=_fingerprint(source, data, settings),
    )


def loader_of(source: DataSet) -> Callable[..., Data]:
    """The function that loads a data set; its keyword-only arguments are the options."""
    module, _, function = source.loader.partition(":")
    loader: Callable[..., Data] = getattr(import_module(module), function)
    return loader


def _find(name: str) -> tuple[DataSet, dict[str, str]]:
    named = any(name in row.names for row in DATASETS.values())
    if not named and ("/" in name or os.sep in name or Path(name).is_dir()):
        return DATASETS["folder"], {"path": name}
    source, treatment = find(name)
    return source, {"binarise": treatment} if treatment else {}


def _fingerprint(source: DataSet, data: Data, settings: dict[str, Any]) -> str:
    # Where the files lie determines nothing; what they hold is in the loader's own fingerprint.
    determining = {key: value for key, value in settings.items() if key != "path"}
    text = json.dumps([source.name, data.fingerprint, spec_to_dict(data.spec), determining], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
