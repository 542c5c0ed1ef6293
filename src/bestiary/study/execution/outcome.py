"""What a study has found so far, as its results file has it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bestiary.config import plain
from bestiary.errors import RunError
from bestiary.study.analysis.trials import Retrained, StudyResults
from bestiary.study.execution.journal import JOURNAL, State, read_events, replay, working_seconds
from bestiary.study.execution.schedule import pieces, rows_of, status_of, trial_rows
from bestiary.study.execution.study_folder import read_design


def read_results(folder: Path) -> StudyResults:
    """What the study in a folder has found so far, while somebody works on it or after.

    The journal knows it at any time; where only the results were kept, these are read.

    Raises:
        RunError: the folder holds no study, a damaged one, or one that has not begun.
    """
    if not (folder / JOURNAL).exists():
        return StudyResults.load(folder)
    state = replay(folder, read_design(folder))
    if not state.told:
        raise RunError(
            f"{folder}: no trial has ended yet, wanted at least one: `bestiary study show {folder}`"
        )
    return results_of(state, read_events(folder)[0])


def results_of(state: State, events: Sequence[Mapping[str, Any]]) -> StudyResults:
    """All that a study has found so far."""
    study = state.study
    trials = trial_rows(state)
    retrained, elsewhere = retrained_rows(state)
    score = study.selection.score
    protocols = (t.scores[score]["protocol"] for t in trials if score in t.scores)
    begin = state.begin
    return StudyResults(
        name=study.name,
        data=begin["data"],
        budget=study.budget,
        selection=next(protocols, score),
        score=score,
        maximise=study.selection.maximise,
        draws=study.draws,
        arms=tuple(arm.name for arm in study.arms),
        trials=trials,
        retrained=retrained,
        elsewhere=elsewhere,
        models={arm.name: arm.model_name for arm in study.arms},
        settings={arm.name: dict(arm.settings) for arm in study.arms},
        spaces={
            arm.name: {k: _plain_dimension(d.to_plain()) for k, d in arm.space.items()} for arm in study.arms
        },
        saved={arm.name: saved(state, arm.name) for arm in study.arms},
        search=study.search.method,
        seed=study.seed,
        versions=begin["versions"],
        hardware=begin["hardware"],
        command=begin["command"],
        date=events[-1]["at"][:10],
        seconds_total=working_seconds(events),
    )


def saved(state: State, arm: str) -> float:
    """Share of an arm's draws × budget that halving did not spend; what failed has spent all it had."""
    rows = [state.told[row.folder] for row in rows_of(state, state.study.arm(arm))]
    if state.study.halving is None:
        return 0.0
    return 1.0 - float(sum(result["until"] for result in rows)) / state.study.draws


def retrained_rows(state: State) -> tuple[tuple[Retrained, ...], tuple[Retrained, ...]]:
    """The winners over seeds, and elsewhere."""
    here: list[Retrained] = []
    elsewhere: list[Retrained] = []
    for piece in pieces(state):
        if not piece.is_trial and piece.key in state.told:
            result = state.told[piece.key]
            at_home = piece.key.startswith("retrained/")
            data = state.begin["data"] if at_home else piece.data.name
            row = Retrained(
                piece.arm, piece.seed, data, plain(piece.settings), status_of(result),
                result["reason"], result["scores"], result["spent"], piece.key,
            )  # fmt: skip
            (here if at_home else elsewhere).append(row)
    return tuple(here), tuple(elsewhere)


def _plain_dimension(plain: Any) -> dict[str, Any]:
    return plain if isinstance(plain, dict) else {"choices": plain}
