"""`bestiary train`."""

import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bestiary.catalogue import entry
from bestiary.cli.options import (
    Budget,
    Compiled,
    DataName,
    DataSettings,
    Device,
    Json,
    PrecisionName,
    PresetName,
    ScoresWhileTraining,
    complete_model,
    whole_number,
)
from bestiary.cli.output import duration, print_json, say
from bestiary.errors import OptionError, RunError

if TYPE_CHECKING:
    from bestiary.cli.plan import Plan
    from bestiary.cli.recipe import Recipe
    from bestiary.runs import Run


def train(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="A model of `bestiary models`; not needed with --config or --resume.",
            autocompletion=complete_model,
        ),
    ] = None,
    data: DataName = None,
    data_set: DataSettings = None,
    budget: Budget = None,
    preset: PresetName = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="An option of the model, as in --set learning_rate=1e-4; repeatable.",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A run's config.yaml, or one written by hand; what you type wins."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="The run folder, by default runs/MODEL-001.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(parser=whole_number(0), metavar="N", help="Of everything that is random.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out, bit by bit as if never stopped.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what would be trained, as a file for --config; write nothing."),
    ] = False,
    device: Device = "auto",
    precision: PrecisionName = None,
    compiled: Compiled = None,
    accumulate: Annotated[
        int | None,
        typer.Option(
            parser=whole_number(1), metavar="N", help="Compute each batch in N parts, to save memory."
        ),
    ] = None,
    scores: ScoresWhileTraining = None,
    as_json: Json = False,
) -> None:
    """Train a model into a run folder, whose path is printed.

    Ctrl-C saves, and the command that goes on is printed. A training that diverged or was stopped ends
    with exit code 1, so that a script does not take it for a finished one.

    `torchrun --nproc-per-node N --no-python bestiary train …` trains on N devices, each with its share of
    every batch.
    """
    from bestiary.cli.recipe import Recipe
    from bestiary.config import parse_assignments

    typed = Recipe(
        model=model,
        preset=preset,
        settings=parse_assignments(assignments or []),
        data=data,
        data_options=parse_assignments(data_set or [], "--data-set"),
        budget=budget,
        seed=seed,
        precision=precision,
        compiled=compiled,
        accumulate=accumulate,
    )
    recipe = _recipe(typed, config, out, resume)
    if recipe.model is None:
        raise OptionError("MODEL: found nothing, wanted a name (`bestiary models` lists them) or --config")
    name = entry(recipe.model).name  # before torch is imported, which takes seconds

    from bestiary.cli.job import make_job
    from bestiary.cli.plan import plan
    from bestiary.cli.progress import Reporter
    from bestiary.models.base import Sampler
    from bestiary.runs import train as train_model
    from bestiary.runs.evaluation import score_while_training
    from bestiary.runs.folder import next_folder
    from bestiary.runs.training import check_free

    job = make_job(name, recipe, device=device)
    first = job.runtime.ranks.first
    folder = first(lambda: out or next_folder(name))
    if dry_run:
        _print_plan(plan(job, folder), as_json)
        return
    score = score_while_training(job.data, scores, device=device) if scores else None
    if not resume:
        first(lambda: check_free(folder))
    elif not (folder / "config.yaml").exists():
        say(f"{folder}: nothing to go on with yet")
    for note in () if resume else job.notes:
        say(note)
    with Reporter() as reporter:
        run = train_model(
            job.model,
            job.data,
            budget=job.budget,
            out=folder,
            seed=job.seed,
            resume=resume,
            device=device,
            precision=job.runtime.precision,
            compile="on" if job.runtime.compiled else "off",
            accumulate=job.accumulate,
            observers=reporter.watch(name),
            score=score,
        )
    again = ("" if device == "auto" else f" --device {device}") + (
        f" --scores {','.join(scores)}" if scores else ""
    )
    _tell(run, again, as_json, draws=isinstance(job.model, Sampler))


def _recipe(typed: "Recipe", config: Path | None, out: Path | None, resume: bool) -> "Recipe":
    from bestiary.cli.recipe import read_recipe
    from bestiary.config import options

    if resume and out is None:
        raise OptionError("--resume: found no --out, wanted the run folder to go on with")
    own = out / "config.yaml" if out is not None and resume else None
    if config is None and own is not None and own.exists():
        stored = read_recipe(own)
        # Whatever is typed must say the same again; the run itself refuses what does not.
        return (replace(stored, settings=None) if typed.preset else stored).under(typed)
    if config is None and resume and typed.model is None:
        raise RunError(f"--out: {out} is no run folder to go on with, wanted one that `bestiary train` made")
    if config is None:
        return typed
    stored = read_recipe(config)
    name = typed.model or stored.model
    if typed.preset and stored.settings and name and set(options(entry(name).load())) <= set(stored.settings):
        raise OptionError(
            f"--preset: found {typed.preset!r}, but {config} sets every option of {name}:"
            " leave --preset out, or take the settings out of the file"
        )
    return stored.under(typed)


def _print_plan(planned: "Plan", as_json: bool) -> None:
    if as_json:
        print_json(asdict(planned))
        return
    import yaml

    for line in planned.lines():
        print(f"# {line}")
    print(yaml.safe_dump(planned.config, sort_keys=False, allow_unicode=True), end="")


def _tell(run: "Run", again: str, as_json: bool, *, draws: bool) -> None:
    state, folder = run.state, shlex.quote(str(run.folder))
    clock = state["clock"]
    spent = f"{clock['examples']:,} examples in {duration(clock['seconds'])}"
    if state["status"] == "finished":
        say(f"finished: {spent}")
        if draws:
            say(f"next: bestiary sample {folder}")
        say(f"{'     ' if draws else 'next:'} bestiary evaluate {folder}")
    elif state["status"] == "stopped":
        say(f"stopped by {state['reason']} after {spent} ({clock['progress']:.0%} of the budget), and saved")
        say(f"go on with: bestiary train --resume --out {folder}{again}")
    else:
        say(f"diverged: {state['reason']}")
        say("try a smaller --set learning_rate=…, or another --seed")
    if as_json:
        print_json({"run": str(run.folder), **state})
    else:
        print(run.folder)
    if state["status"] != "finished":
        raise typer.Exit(1)
