"""Loading data for a command."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bestiary.cli.output import say

if TYPE_CHECKING:
    from bestiary.data import Data


def open_data(name: str, options: Mapping[str, Any]) -> "Data":
    """Load a data set or a folder, and say what the person should know about it."""
    from bestiary.data import load_data

    data = load_data(name, **options)
    for note in data.notes:
        say(f"{data.name}: {note}")
    return data
