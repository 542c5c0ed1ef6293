"""One piece of a study's work, done in whatever process an engine chose: train a run, score it, leave a row.

    trials/ns-gan/003/    a run folder, and result.json: status, scores, what was spent

Whatever kills the process, doing the same piece again goes on from the run's last checkpoint; a piece that
has its result already is not done twice.
"""

import json
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from bestiary import catalogue
from bestiary.config import resolve
from bestiary.data import load_data
from bestiary.data.splits import Data
from bestiary.errors import RunError
from bestiary.models.base import Clock, Model
from bestiary.randomness import forked_randomness
from bestiary.runs.evaluation import Evaluator
from bestiary.runs.findings import SplitName
from bestiary.runs.folder import Run, load, locked
from bestiary.runs.training import prepare, train
from bestiary.study.execution.memory import peak_bytes
from bestiary.study.plan.design import Source
from bestiary.training.budget import TOTAL, Budget, parse_budget
from bestiary.training.checkpoint import forget_optimizers
from bestiary.training.files import write_json
from bestiary.training.runtime import Precision

RESULT = "result.json"
# How long a process whose driver was killed may take to notice, and to let go of its run.
_LOCK_SECONDS = 60.0


class MachineError(Exception):
    """The machine refuses, not the model: a full disk, a folder in use. Nothing is held against the trial."""


class InterruptedWorkError(Exception):
    """Asked to stop by a signal; what was trained is saved."""


@dataclass(frozen=True)
class Job:
    """A run to train and to score.

    Attributes:
        key: "trials/ns-gan/003": its folder in the study's.
        study: the study's folder.
        model: of the catalogue, or your own class.
        settings: every option of the constructor.
        seed: of weights, batches and moves.
        data: by name.
        budget: of the whole run; "discriminator" is also a lone player.
        until: share of the budget to stop and score at.
        split, metrics, n, embedding, score_seed: see `Evaluator`; metrics None for the default ones.
        device, precision, checkpoint_seconds: see `train`.
    """

    key: str
    study: str
    model: str | type[Model]
    settings: Mapping[str, Any]
    seed: int
    data: Source
    budget: str
    until: float
    split: SplitName
    metrics: tuple[str, ...] | None
    n: int
    embedding: str
    score_seed: int
    device: str
    precision: Precision
    checkpoint_seconds: float

    @property
    def folder(self) -> Path:
        """Of the run."""
        return Path(self.study) / self.key


def perform(job: Job) -> dict[str, Any]:
    """Train and score a run, or go on with it, and write its result.json; what that holds.

    An exception is a result too: its status is "failed", and the traceback goes to standard error.

    Raises:
        MachineError: the folder cannot be written.
        InterruptedWorkError: a signal asked to stop.
    """
    done = read_result(job.folder, job.until)
    if done is not None:
        return done
    start, began = time.perf_counter() - _seconds_before(job.folder), now()
    scores: dict[str, Any] = {}
    lacking: dict[str, str] = {}
    try:
        run = _train(job)
        status, reason = run.status, str(run.state["reason"])
        if status == "stopped" and run.state["clock"]["progress"] < job.until:
            raise InterruptedWorkError(reason)
        if status != "diverged":
            scores, lacking = _score(job, run)
    except (InterruptedWorkError, MachineError):
        raise
    except Exception as error:
        if isinstance(error, OSError) or isinstance(error.__cause__, OSError):
            raise MachineError(" ".join(str(error).split())) from error
        traceback.print_exc(file=sys.stderr)
        status, reason = "failed", failure(error)
    result = {
        **spent_by(job.folder, job.budget),
        "status": status,
        "reason": reason,
        "until": job.until,
        "scores": scores,
        "unavailable": lacking,
        "started": began,
        "ended": now(),
        "wall_seconds": time.perf_counter() - start,
        "peak_bytes": peak_bytes(),
    }
    write_json(job.folder / RESULT, result)
    if status != "stopped":  # whatever is stopped at a rung may go on
        forget_optimizers(job.folder / "checkpoints")
    return result


def read_result(folder: Path, until: float) -> dict[str, Any] | None:
    """What result.json holds if the run has come as far as `until`, or will come no further; else None."""
    try:
        result: dict[str, Any] = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return result if result["status"] != "stopped" or result["until"] >= until else None


def _seconds_before(folder: Path) -> float:
    """What the rungs before have taken."""
    result = read_result(folder, 0.0)
    return 0.0 if result is None else float(result["wall_seconds"])


def spent_by(folder: Path, budget: str) -> dict[str, Any]:
    """{"spent": …, "progress": share of the budget, "rounds": …}, as far as the run's own files know."""
    run = Run(folder)
    clock = Clock(**run.state["clock"])
    for line in run.log()[-1:]:  # more recent than the state where the process was killed
        if line["examples"] > clock.examples:
            updates = {k.partition("/")[2]: v for k, v in line.items() if k.startswith("updates/")}
            clock = Clock(
                line["examples"], line["rounds"], updates, line["seconds"], line["flops"], clock.epoch_size
            )
    amount = budget_for(parse_budget(budget), tuple(clock.updates))
    steps = Budget(1, "updates", amount.player)
    spent = {
        "examples": float(clock.examples),
        "updates": float(steps.reading(clock)),
        "seconds": clock.seconds,
        "flops": clock.flops,
    }
    progress = clock.progress or min(amount.spent(clock), 1.0)
    return {"spent": spent, "progress": progress, "rounds": clock.rounds}


def budget_for(budget: Budget, players: tuple[str, ...] | list[str]) -> Budget:
    """The budget as a model with these players spends it.

    Updates of the discriminator are those of a critic where the model calls it so, and those of the lone
    player of a model that has only one: its updates too see a batch of real examples each.
    """
    if budget.player in (None, TOTAL, *players):
        return budget
    if len(players) == 1:
        return Budget(budget.amount, budget.unit, players[0])
    if budget.player == "discriminator" and "critic" in players:
        return Budget(budget.amount, budget.unit, "critic")
    return budget


def build(model: str | type[Model], settings: Mapping[str, Any], seed: int, data: Data) -> Model:
    """An untrained model of the catalogue, or of your own class.

    Raises:
        OptionError, DataError: a setting that is not valid, or data that the model cannot be made for.
    """
    if isinstance(model, str):
        return catalogue.create(model, spec=data.spec, seed=seed, **settings)
    resolved = resolve(model, settings, owner=model.__qualname__)
    with forked_randomness(seed):
        built: Model = model(data.spec, **resolved)
    return built.eval()


def failure(error: BaseException) -> str:
    """An exception in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def now() -> str:
    """The time, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _train(job: Job) -> Run:
    data = _data(job.data.name, json.dumps(job.data.options))
    model = build(job.model, job.settings, job.seed, data)
    budget = budget_for(parse_budget(job.budget), list(model.players()))
    prepare(job.folder, resume=True)
    _wait_for(job.folder)
    return train(
        model, data, budget=budget, out=job.folder, seed=job.seed, resume=True, device=job.device,
        precision=job.precision, compile="off", checkpoint_seconds=job.checkpoint_seconds, until=job.until,
        pictures=1,
    )  # fmt: skip


def _score(job: Job, run: Run) -> tuple[dict[str, Any], dict[str, str]]:
    evaluator = _evaluator(
        job.data.name,
        json.dumps(job.data.options),
        job.split,
        job.n,
        job.embedding,
        job.score_seed,
        job.device,
    )
    model = load(run.folder, model=None if isinstance(job.model, str) else job.model, device=job.device)
    found = evaluator.evaluate(model, job.metrics)
    scores = {
        name: {"value": score.value, "error": score.error, "protocol": score.protocol}
        for name, score in found.scores.items()
    }
    return scores, dict(found.unavailable)


# What a process has loaded serves all its trials.


@lru_cache(maxsize=2)
def _data(name: str, options: str) -> Data:
    return load_data(name, **json.loads(options))


@lru_cache(maxsize=4)
def _evaluator(
    name: str, options: str, split: SplitName, n: int, embedding: str, seed: int, device: str
) -> Evaluator:
    return Evaluator(_data(name, options), n=n, split=split, embedding=embedding, seed=seed, device=device)


def _wait_for(folder: Path) -> None:
    """Wait until nobody holds a run's lock.

    Raises:
        MachineError: somebody does, and goes on doing so.
    """
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            with locked(folder):
                return
        except RunError as error:
            if time.monotonic() > deadline:
                raise MachineError(str(error)) from None
            time.sleep(0.1)
