"""`bestiary compare`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bestiary.catalogue import entry
from bestiary.cli.opening import open_data
from bestiary.cli.options import (
    DEFAULT_BUDGET,
    DEFAULT_DATA,
    Budget,
    Count,
    DataName,
    DataSettings,
    Device,
    EmbeddingName,
    Json,
    Metrics,
    PrecisionName,
    PresetName,
    Seed,
    Split,
    complete_models,
    names,
)
from bestiary.cli.output import duration, print_heading, print_json, print_table
from bestiary.errors import OptionError
from bestiary.scores import DEFAULT_EMBEDDING, SCORES

if TYPE_CHECKING:
    from bestiary.study.results import Comparison


def compare(
    models: Annotated[
        Any,
        typer.Option(parser=names, metavar="A,B,…", help="Which models.", autocompletion=complete_models),
    ],
    data: DataName = DEFAULT_DATA,
    data_set: DataSettings = None,
    budget: Budget = DEFAULT_BUDGET,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Of the report and the runs, by default comparisons/DATA-001."),
    ] = None,
    preset: PresetName = "laptop",
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="MODEL.KEY=VALUE",
            help="An option of one model, as in --set vae.latent_dim=8; repeatable.",
        ),
    ] = None,
    n: Count = 10_000,
    split: Split = "test",
    metrics: Metrics = None,
    embedding: EmbeddingName = None,
    seed: Seed = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep what is trained in --out, and go on with the rest.")
    ] = False,
    device: Device = "auto",
    precision: PrecisionName = "auto",
    as_json: Json = False,
) -> None:
    """Which one is best? Train and score models under one equal budget.

    All are scored on the same data; the budget is each model's. The report is one file, readable
    without a network; the table is beside it as JSON and CSV.
    """
    from bestiary.config import parse_assignments

    chosen = [entry(name).name for name in models]
    settings = _by_model(parse_assignments(assignments or []))
    if resume and out is None:
        raise OptionError("--resume: found no --out, wanted the folder of the comparison to go on with")
    loaded = open_data(data or DEFAULT_DATA, parse_assignments(data_set or [], "--data-set"))

    from bestiary.cli.progress import Reporter
    from bestiary.runs.folder import next_folder
    from bestiary.study import compare as compare_models

    folder = out or next_folder(loaded.name.replace(":", "-"), Path("comparisons"))
    with Reporter() as reporter:
        comparison = compare_models(
            loaded,
            chosen,
            budget=budget or DEFAULT_BUDGET,
            out=folder,
            seed=seed,
            n=n,
            split=split,
            preset=preset or "laptop",
            settings=settings,
            metrics=metrics,
            embedding=embedding or DEFAULT_EMBEDDING,
            device=device,
            precision=precision or "auto",
            resume=resume,
            watch=reporter.watch,
            say=reporter.say,
        )
    _tell(comparison, folder, as_json)


def _by_model(assignments: dict[str, Any]) -> dict[str, dict[str, Any]]:
    settings: dict[str, dict[str, Any]] = {}
    for name, value in assignments.items():
        model, dot, key = name.partition(".")
        if not dot:
            raise OptionError(f"--set: found {name!r}, wanted model.key=value, as in --set vae.{name}=…")
        settings.setdefault(entry(model).name, {})[key] = value
    return settings


def _tell(comparison: "Comparison", folder: Path, as_json: bool) -> None:
    from bestiary.study.results import REAL, is_bound, show
    from bestiary.study.verdict import verdict

    report, findings = folder / "report.html", verdict(comparison)
    if as_json:
        header, *rows = comparison.rows()
        print_json(
            {
                "report": str(report),
                "verdict": {finding.topic: finding.text for finding in findings},
                "table": [dict(zip(map(str, header), row, strict=True)) for row in rows],
            }
        )
        return
    shown = comparison.main_names  # the report has the others
    scores = [name for name in shown if SCORES[name].beside not in shown]

    def cells(found: Any) -> list[str]:
        return [
            f"{'≤ ' if is_bound(name, found[name]) else ''}{show(found[name])}" if name in found else "–"
            for name in scores
        ]

    table: list[list[str]] = [
        [e.model, e.status, f"{e.parameters:,}", f"{e.examples:,}", duration(e.seconds), *cells(e.scores)]
        for e in comparison.entries
    ]
    print_table(
        ["model", "status", "parameters", "examples", "trained", *scores],
        [*table, *([[REAL, "", "", "", "", *cells(comparison.floors)]] if comparison.floors else [])],
        right=["parameters", "examples", "trained", *scores],
    )
    for finding in findings:
        print_heading(finding.topic)
        print(finding.text)
    print_heading("Report")
    print(report)
