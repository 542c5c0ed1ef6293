"""The rows of a study: what each trial and each re-trained winner was, spent and scored, in one JSON file."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from bestiary.errors import RunError
from bestiary.training.files import write_json

FORMAT = 1
RESULTS = "results.json"
UNITS = ("examples", "updates", "seconds", "flops")

Status = Literal["finished", "diverged", "failed", "halted"]


@dataclass(frozen=True)
class Trial:
    """One draw of an arm: its settings, and what became of them.

    Attributes:
        arm: its name in the study.
        number: of the draw, from 0, which is the default setting.
        settings: keyword arguments of `create`: drawn and fixed.
        seed: of initial weights, batch order and moves.
        status: "finished", or why its budget was not spent: "diverged", "failed" (an exception, too little
            memory, killed again and again) or "halted" (successive halving gave it up).
        reason: one line for a status that is not "finished".
        score: the selection score on the validation split, or None where there is none.
        scores: name to {"value", "error", "protocol"}, all on the validation split.
        spent: examples, updates (the most that any player took), seconds, flops, as the run's clock has
            them.
        folder: of the run, relative to the study's.
        rungs: of a study with halving, what the trial had come to at each share of the budget:
            {"share", "score", "spent"}.
        started, ended: ISO 8601, UTC; of the last process that worked on it.
    """

    arm: str
    number: int
    settings: Mapping[str, Any]
    seed: int
    status: Status
    reason: str
    score: float | None
    scores: Mapping[str, Mapping[str, Any]]
    spent: Mapping[str, float]
    folder: str
    started: str
    ended: str
    rungs: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Retrained:
    """An arm's chosen setting, trained anew with another seed or on other data, and scored on the test split.

    Attributes:
        arm: its name in the study.
        seed: of initial weights, batch order and moves.
        data: name of the data set.
        settings, status, reason, spent, folder: as for `Trial`.
        scores: name to {"value", "error", "protocol"}, all on the test split, read once.
    """

    arm: str
    seed: int
    data: str
    settings: Mapping[str, Any]
    status: Status
    reason: str
    scores: Mapping[str, Mapping[str, Any]]
    spent: Mapping[str, float]
    folder: str


def best_trial(trials: Iterable[Trial], maximise: bool) -> Trial | None:
    """The trial that selection chooses among those that finished: of equal scores the earlier one."""
    sign = -1 if maximise else 1
    scored = [(sign * t.score, t.number, t) for t in trials if t.score is not None and t.status == "finished"]
    return min(scored, key=lambda found: found[:2], default=(0.0, 0, None))[2]


def promoted(scores: Mapping[int, float | None], enter: int, maximise: bool) -> list[int]:
    """The best `enter` trials of a rung, of equal scores the earlier; without a score none goes on."""
    sign = -1 if maximise else 1
    ranked = sorted((sign * score, number) for number, score in scores.items() if score is not None)
    return sorted(number for _, number in ranked[:enter])


@dataclass(frozen=True, kw_only=True)
class StudyResults:
    """All that a study has found: what the statistics and the report are made from.

    Attributes:
        name: of the study.
        data: name of the data set.
        budget: of each trial.
        selection: protocol of the score that winners are chosen by.
        maximise: whether a larger score is better.
        draws: of each arm, as asked for.
        arms: names, in the study's order.
        trials: every row, in the order of arms and numbers.
        score: name of the selection score, in `bestiary.scores.SCORES`.
        retrained: the winners over seeds, on the study's data.
        elsewhere: the winners' settings on other data, without tuning.
        models: arm to the catalogue's name of its model.
        settings: arm to what is fixed.
        spaces: arm to option to {"low", "high", "log"} or {"choices"}.
        saved: arm to the share of its budget (draws × budget) that halving did not spend.
        search: how settings were drawn, "random" or "tpe".
        seed: of the study.
        versions, hardware, command, date, seconds_total: how it was computed.
    """

    name: str
    data: str
    budget: str
    selection: str
    maximise: bool
    draws: int
    arms: tuple[str, ...]
    trials: tuple[Trial, ...]
    score: str = ""
    retrained: tuple[Retrained, ...] = ()
    elsewhere: tuple[Retrained, ...] = ()
    models: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    spaces: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    saved: Mapping[str, float] = field(default_factory=dict)
    search: str = "random"
    seed: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    hardware: str = ""
    command: str = ""
    date: str = ""
    seconds_total: float = 0.0

    def of(self, arm: str) -> tuple[Trial, ...]:
        """The trials of one arm, by number."""
        return tuple(trial for trial in self.trials if trial.arm == arm)

    def best(self, arm: str) -> Trial | None:
        """The trial of an arm that selection would choose: of equal scores the earlier one."""
        return best_trial(self.of(arm), self.maximise)

    def save(self, folder: str | Path) -> None:
        """Write results.json into an existing folder."""
        write_json(Path(folder) / RESULTS, {"format": FORMAT, **asdict(self)})

    @classmethod
    def load(cls, folder: str | Path) -> "StudyResults":
        """Read what `save` wrote.

        Raises:
            RunError: the folder holds no results of a study, or damaged ones.
        """
        path = Path(folder) / RESULTS
        try:
            plain = json.loads(path.read_text(encoding="utf-8"))
            written = plain.pop("format")
            if written != FORMAT:
                raise ValueError(f"format {written} was written by another release")
            known = {f.name for f in fields(cls)}
            if set(plain) - known:
                raise ValueError(f"unknown fields {', '.join(sorted(set(plain) - known))}")
            plain["arms"] = tuple(plain["arms"])
            plain["trials"] = tuple(
                Trial(**{**row, "rungs": tuple(row.get("rungs", ()))}) for row in plain["trials"]
            )
            for name in ("retrained", "elsewhere"):
                plain[name] = tuple(Retrained(**row) for row in plain[name])
            return cls(**plain)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            wanted = "wanted a folder that `bestiary study run` has written"
            if isinstance(error, FileNotFoundError):
                raise RunError(f"{folder}: holds no study, {wanted}") from None
            raise RunError(f"{folder}: cannot read the results of a study ({error}), {wanted}") from error
