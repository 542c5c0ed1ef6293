"""How far a study is, as anybody can see who reads its folder."""

from dataclasses import dataclass
from pathlib import Path

from bestiary.study.analysis.trials import best_trial
from bestiary.study.execution.journal import State, read_events, replay, trial_key
from bestiary.study.execution.schedule import pieces, rows_of
from bestiary.study.execution.study_folder import read_design
from bestiary.study.execution.work import spent_by
from bestiary.study.search import halving


@dataclass(frozen=True)
class ArmProgress:
    """How far one arm is.

    Attributes:
        name: of the arm.
        draws: how many it gets.
        done: trials that will not go on: finished, diverged, failed or halted.
        running: trials that are being trained now.
        failed: of those done, how many diverged or failed.
        halted: of those done, how many successive halving gave up.
        best: the best selection score so far, or None.
        best_trial: the number of that trial, or None.
        spent: budgets that are spent so far, running trials counted as far as their logs say.
        planned: budgets that the search comes to.
        retrained: runs of its winner that are done, here and elsewhere.
        retraining: how many there will be.
    """

    name: str
    draws: int
    done: int
    running: int
    failed: int
    halted: int
    best: float | None
    best_trial: int | None
    spent: float
    planned: float
    retrained: int
    retraining: int


@dataclass(frozen=True)
class StudyProgress:
    """How far a study is.

    Attributes:
        name, data, budget, score: of the study.
        arms: each one's progress.
        seconds_left: of its workers, going by what trials of each arm took; None before any has ended.
        workers: how many work at a time.
    """

    name: str
    data: str
    budget: str
    score: str
    arms: tuple[ArmProgress, ...]
    seconds_left: float | None
    workers: int


def progress(folder: Path) -> StudyProgress:
    """How far the study in a folder is, while somebody works on it or after.

    Raises:
        RunError: the folder holds no study.
    """
    study = read_design(folder)
    state = replay(folder, study)
    events, _ = read_events(folder)
    workers = next((int(e["workers"]) for e in reversed(events) if e["event"] == "begin"), 1)
    arms = tuple(_arm(state, arm.name, folder) for arm in study.arms)
    return StudyProgress(
        study.name, state.begin.get("data", study.data.name), study.budget, study.selection.score, arms,
        _seconds_left(state, arms, workers), workers,
    )  # fmt: skip


def _arm(state: State, name: str, folder: Path) -> ArmProgress:
    study, rungs = state.study, state.rungs(name)
    searched = state.searched(name)
    rows = list(rows_of(state, study.arm(name)))
    done = [row for row in rows if searched or state.result(name, row.number, rungs[row.number]) is not None]
    done = [row for row in done if row.status != "halted" or _is_given_up(state, name, row.number)]
    running = [key for key in state.running if key.startswith(f"trials/{name}/")]
    told = {row.folder: float(state.told[row.folder]["until"]) for row in rows}
    live = {key: float(spent_by(folder / key, study.budget)["progress"]) for key in running}
    best = best_trial(rows, study.selection.maximise)
    others = [key for key in state.told if key.split("/")[-2] == name and not key.startswith("trials/")]
    return ArmProgress(
        name=name,
        draws=halving.draws(study),
        done=len(done),
        running=len(running),
        failed=sum(row.status in ("diverged", "failed") for row in done),
        halted=sum(row.status == "halted" for row in done),
        best=None if best is None else best.score,
        best_trial=None if best is None else best.number,
        spent=sum({**told, **live}.values()),
        planned=halving.cost(halving.draws(study), study.halving),
        retrained=len(others),
        retraining=study.retrain_seeds * (1 + len(study.elsewhere)),
    )


def _is_given_up(state: State, arm: str, number: int) -> bool:
    """Whether the rung after a trial's last one is decided, and the trial is not in it."""
    reached = state.rungs(arm)
    return state.searched(arm) or max(reached.values()) > reached[number]


def _seconds_left(state: State, arms: tuple[ArmProgress, ...], workers: int) -> float | None:
    left = 0.0
    rates = {arm.name: _seconds_per_budget(state, arm.name) for arm in arms}
    known = [rate for rate in rates.values() if rate]
    if not known:
        return None
    for arm in arms:
        budgets = max(arm.planned - arm.spent, 0.0) * (arm.done < arm.draws) + arm.retraining - arm.retrained
        left += budgets * (rates[arm.name] or sum(known) / len(known))
    return left / workers


def _seconds_per_budget(state: State, arm: str) -> float | None:
    """What a whole budget takes with everything around it, going by the arm's trials; None before any."""
    results = [state.told[key] for n in state.asked[arm] if (key := trial_key(arm, n)) in state.told]
    others = [piece.key for piece in pieces(state) if piece.arm == arm and not piece.is_trial]
    results += [state.told[key] for key in others if key in state.told]
    spent = sum(float(r["progress"]) for r in results)
    return sum(float(r["wall_seconds"]) for r in results) / spent if spent else None
