"""`bestiary data`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from bestiary.cli.meanings import meanings
from bestiary.cli.opening import open_data
from bestiary.cli.options import Json, complete_data
from bestiary.cli.output import print_fields, print_heading, print_json, print_table, shown
from bestiary.data.datasets import DATASETS, DataSet, find

_PARTS = ("train", "validation", "test")


def data(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME|FOLDER",
            help="A data set, or a folder of images.",
            autocompletion=complete_data,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the data sets, or show one: shape, sizes, licence, options.

    A folder of images is opened: how many there are, and which files are left out.
    """
    known = {known for row in DATASETS.values() for known in row.names}
    if name is None:
        _list(as_json)
    elif name not in known and ("/" in name or Path(name).is_dir()):
        _opened(name, as_json)
    else:
        _one(*find(name), as_json)


def _list(as_json: bool) -> None:
    rows = list(DATASETS.values())
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    print_table(
        ["data", "one example", *_PARTS, "licence", "what it is"],
        [
            [row.name, _shape(row.shape), *map(_size, _sizes(row)), row.licence, row.description]
            for row in rows
        ],
        right=_PARTS,
    )


def _one(row: DataSet, treatment: str | None, as_json: bool) -> None:
    from bestiary.config import options
    from bestiary.data.load import loader_of

    loader = loader_of(row)
    texts, implied = meanings(loader), {"binarise": treatment} if treatment else {}
    loader_options: list[dict[str, Any]] = [
        {
            "name": name,
            "required": option.required,
            "default": None if option.required else implied.get(name, option.default),
            "valid": option.describe(),
            "meaning": texts.get(name, ""),
        }
        for name, option in options(loader).items()
    ]
    if as_json:
        print_json({**asdict(row), "options": loader_options})
        return
    sizes = ", ".join(f"{_size(n)} {part}" for part, n in zip(_PARTS, _sizes(row), strict=True))
    print_fields(
        {
            "data": f"{row.name}: {row.description}",
            "names": ", ".join(row.names) if row.binarised else "",
            "one example": _shape(row.shape),
            "sizes": sizes,
            "licence": row.licence,
            "origin": row.origin,
            "got by": "; or ".join(row.ways),
        }
    )
    print_heading("Options (--data-set option=value)")
    print_table(
        ["option", "default", "valid", "meaning"],
        [
            [o["name"], "required" if o["required"] else shown(o["default"]), o["valid"], o["meaning"]]
            for o in loader_options
        ],
    )


def _opened(folder: str, as_json: bool) -> None:
    loaded = open_data(folder, {})

    from bestiary.runs.folder import describe

    sizes = {part: len(getattr(loaded, part)) for part in _PARTS}
    if as_json:
        about = {"name": loaded.name, "shape": loaded.spec.shape, "sizes": sizes, "classes": loaded.classes}
        print_json({**about, "fingerprint": loaded.fingerprint, "notes": loaded.notes})
        return
    print_fields(
        {
            "data": loaded.name,
            "examples": describe(loaded.spec),
            "sizes": ", ".join(f"{n:,} {part}" for part, n in sizes.items()),
            "classes": ", ".join(loaded.classes or ()),
        }
    )


def _sizes(row: DataSet) -> list[str | int]:
    # Files decide the sizes of data without a shape; what has one and no size never ends.
    return [("any" if row.shape is None else "endless") if n is None else n for n in row.sizes]


def _size(n: str | int) -> str:
    return f"{n:,}" if isinstance(n, int) else str(n)


def _shape(shape: tuple[int, ...] | None) -> str:
    return "any" if shape is None else "x".join(map(str, shape))
