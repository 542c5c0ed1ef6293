"""What is done next, and what has come of it: pure functions of a study's state."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bestiary.config import plain
from bestiary.study.analysis.trials import Status, Trial, best_trial
from bestiary.study.execution.journal import State, trial_key
from bestiary.study.plan.design import Arm, Source, Study
from bestiary.study.search import draws, halving


@dataclass(frozen=True)
class Ask:
    """A draw to be made: what the journal's "ask" says."""

    arm: str
    number: int
    drawn: Mapping[str, Any]
    settings: Mapping[str, Any]
    seed: int


@dataclass(frozen=True)
class Piece:
    """A run to train and score.

    Attributes:
        key: its folder in the study's.
        arm: whose.
        settings: of the model.
        seed: of the run.
        data: by name.
        until: share of the budget.
    """

    key: str
    arm: str
    settings: Mapping[str, Any]
    seed: int
    data: Source
    until: float = 1.0

    @property
    def is_trial(self) -> bool:
        """Whether it is scored for selection, on the validation split."""
        return self.key.startswith("trials/")


def following(state: State) -> Ask | Piece | None:
    """What to do next; None where everything that is left waits for what is running.

    The arm that has begun the least comes first, so that all arms have about as many trials at any time.
    """
    begun = {arm.name: _begun(state, arm) for arm in state.study.arms}
    for arm in sorted(state.study.arms, key=lambda arm: begun[arm.name]):
        found = _following(state, arm)
        if found is not None:
            return found
    return None


def is_done(state: State) -> bool:
    """Whether nothing is left to do."""
    return not state.running and following(state) is None


def pieces(state: State) -> Iterator[Piece]:
    """Everything to be run as far as it is decided by now, in order of arms."""
    for arm in state.study.arms:
        yield from _trials(state, arm)
        if state.searched(arm.name):
            yield from _after_search(state, arm)


def trial_rows(state: State) -> tuple[Trial, ...]:
    """The rows of all trials that were told, halted ones as they stand."""
    return tuple(row for arm in state.study.arms for row in rows_of(state, arm))


def rows_of(state: State, arm: Arm) -> Iterator[Trial]:
    """Those of one arm, by number."""
    for number, asked in sorted(state.asked[arm.name].items()):
        result = state.told.get(trial_key(arm.name, number))
        if result is not None:
            yield _trial(state, arm.name, number, asked, result)


def _following(state: State, arm: Arm) -> Ask | Piece | None:
    waiting = [piece for piece in _trials(state, arm) if _waits(state, piece)]
    if waiting:
        return max(waiting, key=lambda piece: piece.until)
    number = len(state.asked[arm.name])
    if number < halving.draws(state.study):
        drawn = draws.ask(state.study, arm, number, *state.history(arm.name))
        settings = {**arm.settings, **drawn}
        return Ask(
            arm.name, number, plain(drawn), plain(settings), draws.trial_seed(state.study, arm, number)
        )
    if state.searched(arm.name):
        return next((piece for piece in _after_search(state, arm) if _waits(state, piece)), None)
    return None


def _waits(state: State, piece: Piece) -> bool:
    if piece.key in state.running:
        return False
    result = state.told.get(piece.key)
    return result is None or (result["status"] == "stopped" and result["until"] < piece.until)


def _begun(state: State, arm: Arm) -> float:
    """Budgets of an arm that are spent or running."""
    spent = sum(float(state.told[key]["until"]) for key in state.told if key.split("/")[-2] == arm.name)
    return spent + sum(1.0 for key in state.running if key.split("/")[-2] == arm.name)


def _trials(state: State, arm: Arm) -> Iterator[Piece]:
    shares = halving.shares(state.study.halving)
    for number, rung in state.rungs(arm.name).items():
        asked = state.asked[arm.name][number]
        yield Piece(
            trial_key(arm.name, number),
            arm.name,
            asked["settings"],
            asked["seed"],
            state.study.data,
            shares[rung],
        )


def _after_search(state: State, arm: Arm) -> Iterator[Piece]:
    study = state.study
    winner = best_trial(rows_of(state, arm), study.selection.maximise)
    if winner is None:
        return
    places = [("retrained", study.data)]
    places += [(f"elsewhere/{folder_name(source)}", source) for source in study.elsewhere]
    for place, source in places:
        for seed in retraining_seeds(study):
            yield Piece(f"{place}/{arm.name}/{seed}", arm.name, winner.settings, seed, source)


def retraining_seeds(study: Study) -> range:
    """The seeds of winners, which no trial shares."""
    return range(study.seed, study.seed + study.retrain_seeds)


def folder_name(source: Source) -> str:
    """A name of data as a folder, with those of its options that are given."""
    words = [source.name, *(f"{k}-{v}" for k, v in source.options.items())]
    return "-".join("".join(c if c.isalnum() or c in "-+._" else "-" for c in word) for word in words)


def _trial(state: State, arm: str, number: int, asked: Mapping[str, Any], result: Mapping[str, Any]) -> Trial:
    key, status, reason = trial_key(arm, number), status_of(result), result["reason"]
    score = state.score(result)
    if status == "halted":
        reason = f"successive halving: not among the best after {result['until']:.3g} of the budget"
    elif status == "finished" and score is None:
        reason = "; ".join(dict.fromkeys(result["unavailable"].values()))
    return Trial(
        arm, number, asked["settings"], asked["seed"], status, reason, score, result["scores"],
        result["spent"], key, state.started.get(key, result["started"]), result["ended"],
        tuple(_rungs(state, arm, number)),
    )  # fmt: skip


def _rungs(state: State, arm: str, number: int) -> Iterator[dict[str, Any]]:
    if state.study.halving is None:
        return
    for rung, share in enumerate(halving.shares(state.study.halving)):
        result = state.result(arm, number, rung)
        if result is not None:
            yield {"share": share, "score": state.score(result), "spent": result["spent"]}


def status_of(result: Mapping[str, Any]) -> Status:
    """A result's status as rows have it."""
    status: Status = "halted" if result["status"] == "stopped" else result["status"]
    return status
