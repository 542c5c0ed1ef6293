"""Loading data for a command."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bestiary.cli.output import say
from bestiary.data.datasets import DATASETS

if TYPE_CHECKING:
    from bestiary.data import Data


def open_data(name: str, options: Mapping[str, Any]) -> "Data":
    """Load a data set or a folder, and say what the person should know about it."""
    from bestiary.data import load_data

    data = load_data(name, **options)
    for note in data.notes:
        say(f"{data.name}: {note}")
    return data


def is_files(name: str) -> bool:
    """Whether a name of data is a folder or an array of images, and of no data set."""
    named = any(name in row.names for row in DATASETS.values())
    return not named and (Path(name).is_dir() or Path(name).suffix in (".npy", ".npz"))
