"""`bestiary data`."""

from typing import Annotated, Any

import typer

from bestiary.cli.options import Json, complete_data
from bestiary.cli.output import print_fields, print_heading, print_json, print_table
from bestiary.data.datasets import DATASETS, DataSet

_PARTS = ("train", "validation", "test")


def data(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME|FOLDER]",
            help="A data set, or a folder of images.",
            autocompletion=complete_data,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the data sets, or show one: shape, sizes, licence, origin, how to get it, options.

    A folder of images is opened: how many there are, and which files are left out.
    """
    if name is None:
        _list(as_json)
        return
    row, treatment = find(name)
