"""`bestiary models`."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bestiary.catalogue import CATALOGUE, CatalogueEntry, Preset, create, entry
from bestiary.cli.meanings import meanings
from bestiary.cli.options import Json, complete_model
from bestiary.cli.output import print_fields, print_heading, print_json, print_table, shown
from bestiary.errors import DataError

if TYPE_CHECKING:
    from bestiary.models.base import Model

_PRESETS: tuple[Preset, ...] = ("paper", "laptop")


def models(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="A model or its alias.", autocompletion=complete_model),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the models, or show one: paper, players, moves, options."""
    if name is not None:
        _one(entry(name), as_json)
    elif as_json:
        print_json([_row(e) for e in CATALOGUE.values()])
    else:
        print_table(
            ["model", "family", "year", "what it is", "also"],
            [[e.name, e.family, str(e.year), e.summary, ", ".join(e.aliases)] for e in CATALOGUE.values()],
        )


def _row(found: CatalogueEntry) -> dict[str, Any]:
    return {
        key: getattr(found, key) for key in ("name", "family", "summary", "paper", "arxiv", "year", "aliases")
    }


def _one(found: CatalogueEntry, as_json: bool) -> None:
    from bestiary.data.specs import ImageSpec, SequenceSpec
    from bestiary.models.base import capabilities
    from bestiary.runs.folder import describe

    try:
        model = _unfilled(found, ImageSpec(1, 28, 28))
    except DataError:
        model = _unfilled(found, SequenceSpec(21, 27))
    players, moves, options = _players(model), _moves(model), _options(found)
    if as_json:
        about = {"capabilities": capabilities(model), "players": players, "moves": moves, "options": options}
        print_json({**_row(found), **about})
        return
    print_fields(
        {
            "model": f"{found.name}: {found.summary}",
            "paper": f"{found.paper}, {found.arxiv}",
            "family": found.family,
            "also": ", ".join(found.aliases),
            "can": ", ".join(capabilities(model)),
            "parameters": f"{model.parameter_count:,} with the paper's settings, for {describe(model.spec)}",
        }
    )
    if players:
        print_heading("Players")
        print_table(
            ["player", "parameters", "optimiser"],
            [[p["name"], f"{p['parameters']:,}", p["optimizer"]] for p in players],
            right=["parameters"],
        )
        print_heading("Moves of one round")
        print_table(
            ["player", "cost", "times", "every", "data"],
            [[m["player"], m["cost"], str(m["times"]), str(m["every"]), m["batch"]] for m in moves],
        )
    print_heading("Options (--set option=value)")
    print_table(
        ["option", *_PRESETS, "valid", "searched", "meaning"],
        [
            [
                o["name"],
                *(shown(o[preset]) for preset in _PRESETS),
                o["valid"],
                _range(o["search"]),
                o["meaning"],
            ]
            for o in options
        ],
    )


def _unfilled(found: CatalogueEntry, spec: Any) -> "Model":
    import torch

    # Nothing is computed here: on the meta device the largest model costs neither memory nor time.
    with torch.device("meta"):
        return create(found.name, spec=spec)


def _players(model: "Model") -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "parameters": sum(p.numel() for p in player.parameters),
            "optimizer": _call(player.optimizer),
            "ema": player.ema,
        }
        for name, player in model.players().items()
    ]


def _call(function: Any) -> str:
    """A function with its bound arguments, as one would write the call."""
    if isinstance(function, partial):
        arguments = ", ".join(f"{key}={value}" for key, value in function.keywords.items() if key != "fused")
        return f"{function.func.__name__}({arguments})"
    return str(getattr(function, "__name__", function))


def _moves(model: "Model") -> list[dict[str, Any]]:
    from bestiary.models.base import Clock

    return [
        {
            "player": move.player,
            "cost": _call(move.cost),
            "times": move.times,
            "every": move.every,
            "batch": move.batch,
        }
        for move in model.moves(Clock())
    ]


def _options(found: CatalogueEntry) -> list[dict[str, Any]]:
    from bestiary.config import options, resolve

    kind = found.load()
    presets = {p: resolve(kind, found.settings(p), owner=found.name) for p in _PRESETS}
    texts = meanings(kind)
    return [
        {
            "name": name,
            **{preset: settings[name] for preset, settings in presets.items()},
            "valid": option.describe(),
            # what is switched off in a model is no part of its search space
            "search": None
            if option.search is None or presets["paper"][name] is None
            else vars(option.search),
            "meaning": texts.get(name, ""),
        }
        for name, option in options(kind).items()
    ]


def _range(search: Mapping[str, Any] | None) -> str:
    if search is None:
        return ""
    return f"{search['low']:g} … {search['high']:g}" + (" (log)" if search["log"] else "")
