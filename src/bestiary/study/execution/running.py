"""The driver: asks for draws, has them trained, tells what came of them; it can be killed at any instant."""

import platform
import shlex
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

from bestiary.data import load_data
from bestiary.data.splits import Data
from bestiary.errors import OptionError, RunError, StoppedError, unknown_name
from bestiary.runs.evaluation import Evaluator
from bestiary.runs.findings import SplitName
from bestiary.runs.folder import locked
from bestiary.runs.training import prepare
from bestiary.scores import SCORES
from bestiary.study.analysis.trials import StudyResults
from bestiary.study.comparison import hardware
from bestiary.study.execution.driver import Driver
from bestiary.study.execution.engines import Engine, EngineName, InlineEngine, LocalEngine, cores, threads_for
from bestiary.study.execution.journal import Journal
from bestiary.study.execution.outcome import results_of
from bestiary.study.execution.study_folder import is_started, keep_design
from bestiary.study.execution.work import MachineError, budget_for, build
from bestiary.study.plan.design import Study
from bestiary.study.plan.study_file import read_study
from bestiary.training.budget import parse_budget
from bestiary.training.files import told_in_one_line
from bestiary.training.runtime import choose_device

LOG = "workers.log"
# Enough to find out whether data can be scored at all.
_EXAMPLES_TRIED = 64


def run_study(
    study: Study | str | Path | Mapping[str, Any],
    *,
    out: str | Path,
    workers: int | None = None,
    engine: EngineName = "local",
    resume: bool = False,
    device: str = "auto",
    memory: float | None = None,
    checkpoint_seconds: float = 60.0,
    say: Callable[[str], None] = lambda _: None,
    command: str | None = None,
) -> StudyResults:
    """Search the settings of several models under one equal budget, and judge the winners on unseen data.

    Every arm gets the same number of draws, each the same budget, counted by the run's own clock; trials that
    diverge or fail are rows, and count. The winner of each arm, by the selection score on the validation
    split, is trained anew over seeds and scored on the test split. With random search the results are a
    function of the study alone, whatever the engine (same kind of machine, same number of threads).

    `out` gets `study.yaml`, the journal, a run folder for each trial and `results.json`. Killing workers,
    this process or the machine loses nothing but work since the last checkpoints: with `resume` the same call
    goes on. In a script, call it under `if __name__ == "__main__":`, since workers are started anew.

    Arguments:
        study: a YAML file, the name of a preset, its fields as a mapping, or what `read_study` returned.
        out: a folder that is new or empty, or holds this study unfinished and `resume` is true.
        workers: pieces of work at a time; by default a core each, or one on an accelerator.
        engine: "local" processes, "ray" tasks, or "inline" in this process.
        resume: go on with the study in `out`.
        device: see `train`.
        memory: bytes that a worker needs; by default what the first ones were seen to need.
        checkpoint_seconds: see `train`.
        say: told in a line what has happened.
        command: what the results name as the way to repeat it; by default this process's command line.

    Raises:
        OptionError: a field, model, setting, score or budget that cannot be.
        DataError: data that are missing, or that cannot be scored so.
        RunError: the folder is in use, cannot be written, or holds another study.
        StoppedError: Ctrl-C; what is done is kept.
    """
    design = study if isinstance(study, Study) else read_study(study)
    if engine not in get_args(EngineName):
        raise unknown_name("engine", engine, get_args(EngineName))
    workers = worker_count(workers, engine, device)
    folder = Path(out)
    prepare(folder, resume)
    with locked(folder):
        began = is_started(folder, design)
        data = load_data(design.data.name, **design.data.options)
        if not began:
            say("checking arms and scores")
            check(design, data)
        with told_in_one_line(str(folder)):
            keep_design(folder, design)  # before the journal, which alone would be no study
        with told_in_one_line(str(folder)), Journal(folder, design) as journal:
            threads = threads_for(workers)
            begin = {
                "data": data.name,
                "fingerprint": data.fingerprint,
                "versions": _versions(),
                "hardware": hardware(),
                "command": command or shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
                "workers": workers,
                "threads": threads,
            }
            del data
            _begin(journal, begin)
            driver = Driver(folder, journal, device, checkpoint_seconds, say)
            stopped = False
            try:
                with _engine(engine, workers, threads, folder, memory) as running:
                    driver.drive(running)
            except KeyboardInterrupt:
                stopped = True
            except MachineError as error:
                raise RunError(f"{folder}: {error}; what is done is kept: --resume goes on") from error
            results = results_of(journal.state, journal.events)
            results.save(folder)
    if stopped:
        raise StoppedError(f"{folder}: stopped; what is done is kept: the same command with --resume goes on")
    return results


def worker_count(asked: int | None, engine: EngineName, device: str) -> int:
    """How many pieces of work are done at a time: by default one a core, or one on an accelerator.

    Raises:
        OptionError: none, or a device that this machine does not have.
    """
    if asked is not None and asked < 1:
        raise OptionError(f"workers: found {asked}, wanted a whole number ≥ 1")
    if engine == "inline" or (asked is None and choose_device(device).type != "cpu"):
        return 1
    return asked or cores()


def check(study: Study, data: Data) -> None:
    """Find out before anything is trained what could never be trained or scored.

    Raises:
        OptionError, DataError: a setting, budget, data set or embedding that cannot be.
    """
    budget = parse_budget(study.budget)
    metric = SCORES[study.selection.score].metric
    for source in (study.data, *study.elsewhere):
        here = data if source == study.data else load_data(source.name, **source.options)
        for arm in study.arms:
            model = build(arm.model, arm.settings, 0, here)
            players = list(model.players())
            budget_for(budget, players).check(
                endless=here.train.endless, players=players or [budget.player or ""]
            )
        chosen, report = study.selection, study.report
        asked: list[tuple[SplitName, tuple[str, ...] | None, str]] = [
            ("test", report.metrics, report.embedding)
        ]
        if source == study.data:
            asked.append(("validation", (metric,), chosen.embedding))
        for split, metrics, embedding in asked:
            floor = Evaluator(here, n=_EXAMPLES_TRIED, split=split, embedding=embedding).floor(metrics)
            lacking = floor.unavailable.get(metric) if split == "validation" else None
            if lacking:
                raise OptionError(f"selection: found {chosen.score!r}, which {here.name} has not: {lacking}")


def _engine(name: EngineName, workers: int, threads: int, folder: Path, memory: float | None) -> Engine:
    if name == "inline":
        return InlineEngine()
    if name == "local":
        return LocalEngine(workers, threads=threads, log=folder / LOG, need=memory)
    from bestiary.study.execution.ray_engine import RayEngine

    return RayEngine(workers, threads=threads)


def _begin(journal: Journal, begin: Mapping[str, Any]) -> None:
    before = journal.state.begin.get("fingerprint", begin["fingerprint"])
    if before != begin["fingerprint"]:
        raise RunError(
            "data: no longer what they were when the study began: put them back, or start a new one"
        )
    journal.write("begin", **begin)


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("bestiary", "torch", "numpy", "optuna")} | {
        "python": platform.python_version()
    }
