"""`bestiary study run` and `bestiary study show`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from bestiary.cli.commands.study_report import study_report
from bestiary.cli.options import Device, Json, one_of, whole_number
from bestiary.cli.output import duration, print_json, print_table, say, shown
from bestiary.errors import OptionError

if TYPE_CHECKING:
    from bestiary.cli.study_plan import ArmPlan
    from bestiary.study.analysis.trials import StudyResults
    from bestiary.study.execution.watching import StudyProgress
    from bestiary.study.plan.design import Study

study = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Equal-budget search over many models: run one, look on, write its report.",
)


@study.command()
def run(
    source: Annotated[
        str,
        typer.Argument(metavar="STUDY", help="A YAML file, or a preset: lucic-wide, lucic-narrow."),
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Of the study, by default studies/NAME-001.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            parser=whole_number(1),
            metavar="N",
            help="Trials at a time, by default one a core, or one on an accelerator.",
        ),
    ] = None,
    engine: Annotated[
        Literal["local", "ray", "inline"],
        typer.Option(
            parser=one_of("local", "ray", "inline"),
            metavar="local|ray|inline",
            help="Processes of this machine, tasks of a Ray cluster, or this process alone.",
        ),
    ] = "local",
    memory: Annotated[
        float | None,
        typer.Option(
            metavar="GIB", help="What a worker needs, where it is more than the first ones were seen to need."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the study in --out, whatever has killed it.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what the study would cost; write nothing.")
    ] = False,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Search the settings of several models under one equal budget, and judge the winners on unseen data.

    Ctrl-C saves; the same command with --resume goes on, also after this process, its workers or the machine
    were killed. `bestiary study show FOLDER` looks on from elsewhere.
    """
    if memory is not None and not 0 < memory < float("inf"):
        raise OptionError(f"--memory: found {memory}, wanted GiB above zero")
    if resume and out is None:
        raise OptionError("--resume: found no --out, wanted the folder of the study to go on with")

    from bestiary.runs.folder import next_folder
    from bestiary.study import read_study, run_study
    from bestiary.study.execution.running import worker_count

    design = read_study(source)
    count = worker_count(workers, engine, device)
    if dry_run:
        from bestiary.cli.study_plan import plan_study

        _tell_plan(design, plan_study(design, workers=count, device=device), count, as_json)
        return
    folder = out or next_folder(design.name, Path("studies"))
    say(f"{folder}: {len(design.arms)} arms, {design.draws} draws each, {design.budget} a trial")
    results = run_study(
        design,
        out=folder,
        workers=count,
        engine=engine,
        resume=resume,
        device=device,
        memory=None if memory is None else memory * 2**30,
        say=say,
    )
    _tell(results, folder, as_json)


@study.command()
def show(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Of the study.")],
    as_json: Json = False,
) -> None:
    """How far is a study? What each arm has done, spent and found, and how long it will take."""
    from bestiary.study.execution.watching import progress

    found = progress(folder)
    if as_json:
        print_json(asdict(found))
        return
    _tell_progress(found)


study.command("report")(study_report)


def _tell(results: "StudyResults", folder: Path, as_json: bool) -> None:
    winners = {arm: results.best(arm) for arm in results.arms}
    if as_json:
        print_json(
            {
                "study": str(folder),
                "winners": {
                    arm: None if best is None else {"trial": best.number, "score": best.score}
                    for arm, best in winners.items()
                },
            }
        )
        return
    rows = []
    for arm, best in winners.items():
        drawn = {} if best is None else {name: best.settings[name] for name in results.spaces[arm]}
        words = ", ".join(f"{name}={shown(value)}" for name, value in drawn.items())
        score = "–" if best is None else f"{best.score:.4g}"
        failed = sum(t.status in ("diverged", "failed") for t in results.of(arm))
        rows.append([arm, score, "" if best is None else str(best.number), str(failed), words])
    print_table(["arm", "best", "trial", "failed", "setting"], rows, right=["best", "trial", "failed"])
    say(f"next: bestiary study report {folder}")


def _tell_progress(found: "StudyProgress") -> None:
    rows = [
        [
            arm.name,
            f"{arm.done}/{arm.draws}",
            str(arm.running),
            str(arm.failed),
            str(arm.halted),
            "–" if arm.best is None else f"{arm.best:.4g}",
            f"{arm.spent:.2f}/{arm.planned:.4g}",
            f"{arm.retrained}/{arm.retraining}",
        ]
        for arm in found.arms
    ]
    names = ["arm", "done", "running", "failed", "halted", f"best {found.score}", "budgets", "re-trained"]
    print_table(names, rows, right=names[1:])
    left = "" if found.seconds_left is None else f": about {duration(found.seconds_left)} left"
    print(f"{found.name} on {found.data}, {found.budget} a trial, {found.workers} workers{left}")


def _tell_plan(design: "Study", arms: "list[ArmPlan]", workers: int, as_json: bool) -> None:
    total = sum(arm.total_seconds for arm in arms) / workers
    if as_json:
        print_json({"arms": [asdict(arm) for arm in arms], "workers": workers, "seconds": total})
        return
    rows: list[list[Any]] = [
        [
            arm.name,
            str(arm.draws),
            f"{arm.budgets:.4g}",
            str(arm.retraining),
            f"{arm.parameters:,}",
            "–" if arm.flops is None else f"{arm.flops:.2g}",
            "–" if arm.seconds is None else duration(arm.seconds),
            duration(arm.scoring_seconds),
            duration(arm.total_seconds),
            arm.budget,
        ]
        for arm in arms
    ]
    names = ["arm", "draws", "budgets", "re-trained", "weights", "flops", "trial", "scoring", "all", "budget"]
    print_table(names, rows, right=names[1:-1])
    on = f"{design.name} on {design.data.name}, {workers} workers"
    print(f"{on}: about {duration(total)}; draws at other settings cost more or less")
