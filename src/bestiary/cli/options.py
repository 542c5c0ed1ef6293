"""Options that several commands share: how each is read, and completed in the shell without torch."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from bestiary.catalogue import ALIASES, CATALOGUE, Preset
from bestiary.data.datasets import DATASETS
from bestiary.errors import nearest
from bestiary.scores import EMBEDDINGS, FEATURE_METRICS, FID_NAMES, METRICS

DEFAULT_DATA = "digits"
DEFAULT_BUDGET = "5 minutes"

Precision = Literal["auto", "float32", "bfloat16"]  # as in training.runtime, which imports torch


def whole_number(low: int) -> Callable[[str | int], int]:
    """Reads a whole number ≥ low that 63 bits can hold."""

    def parse(value: str | int) -> int:  # typer passes the default through it too
        text = str(value)
        if not text.isascii() or not text.lstrip("-").isdigit() or not low <= int(text) < 2**63:
            most = " and below 2**63" if len(text) > 18 else ""
            raise ValueError(f"found {text!r}, wanted a whole number ≥ {low}{most}")
        return int(text)

    return parse


def one_of(*choices: str) -> Callable[[str], Any]:
    """Reads one of a few words."""

    def parse(text: str) -> str:
        if text not in choices:
            close = nearest(text, choices)
            wanted = f"did you mean {close!r}?" if close else f"wanted one of {', '.join(choices)}"
            raise ValueError(f"found {text!r}, {wanted}")
        return text

    return parse


def names(text: str) -> list[str]:
    """Reads words between commas."""
    found = [name.strip() for name in text.split(",") if name.strip()]
    if not found:
        raise ValueError(f"found {text!r}, wanted names between commas")
    return found


def complete_model(incomplete: str) -> list[tuple[str, str]]:
    """Models whose name or alias begins like this, with their summaries."""
    known = {**CATALOGUE, **{alias: CATALOGUE[name] for alias, name in ALIASES.items()}}
    return [(name, entry.summary) for name, entry in known.items() if name.startswith(incomplete)]


def complete_models(incomplete: str) -> list[tuple[str, str]]:
    """The same for the last of several names between commas."""
    before, comma, last = incomplete.rpartition(",")
    return [(f"{before}{comma}{name}", summary) for name, summary in complete_model(last)]


def complete_data(incomplete: str) -> list[tuple[str, str]]:
    """Data sets whose name begins like this, with their descriptions."""
    return [
        (name, row.description)
        for row in DATASETS.values()
        for name in row.names
        if name.startswith(incomplete)
    ]


def complete_run(incomplete: str) -> list[str]:
    """Run folders below runs/ whose path begins like this."""
    folders = (str(config.parent) for config in sorted(Path("runs").glob("*/config.yaml")))
    return [folder for folder in folders if folder.startswith(incomplete)]


def _choice(*choices: str) -> dict[str, Any]:
    return {
        "parser": one_of(*choices),
        "metavar": "|".join(choices),
        "autocompletion": lambda incomplete: [c for c in choices if c.startswith(incomplete)],
    }


def _several(*choices: str) -> dict[str, Any]:
    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [f"{before}{comma}{choice}" for choice in choices if choice.startswith(last)]

    return {"parser": names, "metavar": "A,B,…", "autocompletion": complete}


_BY_DEFAULT = [name for name, metric in METRICS.items() if metric.default]

RunFolder = Annotated[str, typer.Argument(metavar="RUN", help="A run folder.", autocompletion=complete_run)]
DataName = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="NAME|FOLDER",
        help="A data set of `bestiary data`, or a folder of images.",
        autocompletion=complete_data,
    ),
]
DataSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--data-set", metavar="KEY=VALUE", help="An option of the data, as in --data-set size=64; repeatable."
    ),
]
Budget = Annotated[
    str | None,
    typer.Option(
        metavar="AMOUNT",
        help="When training stops: '2 epochs', '500k examples', '10 minutes', '300 rounds', '2e15 flops',"
        " '15625 discriminator updates'.",
    ),
]
PresetName = Annotated[
    Preset | None,
    typer.Option(**_choice("paper", "laptop"), help="The model's settings, over which --set goes."),
]
Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda|mps", help="Where to compute.")]
PrecisionName = Annotated[
    Precision | None,
    typer.Option(
        **_choice("auto", "float32", "bfloat16"), help="auto is bfloat16 where hardware and model allow it."
    ),
]
Compiled = Annotated[
    bool | None,
    typer.Option(
        "--compile/--no-compile",
        help="Whether to use torch.compile, by default where it pays.",
    ),
]
Seed = Annotated[int, typer.Option(parser=whole_number(0), metavar="N", help="Of everything that is random.")]
Count = Annotated[
    int, typer.Option("-n", parser=whole_number(2), metavar="N", help="Real examples and samples, at most.")
]
Split = Annotated[
    Literal["validation", "test"],
    typer.Option(
        **_choice("validation", "test"),
        help="validation while you still choose between models, test once for the report.",
    ),
]
Metrics = Annotated[
    Any,
    typer.Option(
        **_several(*METRICS),
        help=f"Which scores, by default {', '.join(_BY_DEFAULT)}, as far as they suit the data;"
        f" only when they are named {', '.join(name for name in METRICS if name not in _BY_DEFAULT)}.",
    ),
]
FeatureMetrics = Annotated[
    Any,
    typer.Option(
        **_several(*FEATURE_METRICS, *FID_NAMES.values()),
        help=f"Which scores, by default {', '.join(FEATURE_METRICS)};"
        f" only when they are named {', '.join(FID_NAMES.values())}.",
    ),
]
ScoresWhileTraining = Annotated[
    Any,
    typer.Option(
        "--scores", **_several(*METRICS), help="Scores to take five times on the way, on validation."
    ),
]
EmbeddingName = Annotated[
    str | None,
    typer.Option(
        "--embedding",
        metavar="NAME",
        help=f"The network that turns images into features: {', '.join(EMBEDDINGS)}.",
        autocompletion=lambda incomplete: [name for name in EMBEDDINGS if name.startswith(incomplete)],
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
