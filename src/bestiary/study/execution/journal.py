"""A study's memory: one process appends events, anybody replays them.

    journal.jsonl    begin · ask (arm, number, drawn, settings, seed) · start · died (why) · tell (result)

An event is on the disk before anything else happens because of it. A last line that was cut off while being
written is taken away before the next one is appended: what it said had not happened yet.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bestiary.errors import RunError
from bestiary.study.analysis.trials import promoted
from bestiary.study.execution.work import now
from bestiary.study.plan.design import Study
from bestiary.study.search import halving
from bestiary.study.search.draws import Told

JOURNAL = "journal.jsonl"


@dataclass
class State:
    """What the events so far amount to.

    Attributes:
        study: the study.
        begin: the first event: versions, hardware, data's fingerprint.
        asked: arm to number to {"drawn", "settings", "seed"}, in the order of asks.
        told: key to its latest result, in the order in which keys were first told.
        tellings: key to all its results: of several rungs there are several, and each rung is decided by its
            own.
        running: key to when it was started, of what was neither told nor died since.
        started: key to when it was started first.
        deaths: key to the rounds that its run had come to at each death.
    """

    study: Study
    begin: dict[str, Any] = field(default_factory=dict)
    asked: dict[str, dict[int, dict[str, Any]]] = field(default_factory=dict)
    told: dict[str, dict[str, Any]] = field(default_factory=dict)
    tellings: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    running: dict[str, str] = field(default_factory=dict)
    started: dict[str, str] = field(default_factory=dict)
    deaths: dict[str, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.asked = {arm.name: {} for arm in self.study.arms}

    def apply(self, event: Mapping[str, Any]) -> None:
        """Go on by one event."""
        kind, key = event["event"], event.get("key", "")
        if kind == "begin":
            self.begin = self.begin or dict(event)
            self.running = {}  # whoever worked for the driver before has gone with it
        elif kind == "ask":
            self.asked[event["arm"]][event["number"]] = dict(event)
        elif kind == "start":
            self.running[key] = event["at"]
            self.started.setdefault(key, event["at"])
        elif kind == "died":
            self.running.pop(key, None)
            self.deaths.setdefault(key, []).append(event["rounds"])
        elif kind == "tell":
            self.running.pop(key, None)
            result = event["result"]
            _ = result["status"], result["scores"]  # without them it is no result, and the line is damaged
            self.told[key] = result
            self.tellings.setdefault(key, []).append(result)

    def result(self, arm: str, number: int, rung: int) -> dict[str, Any] | None:
        """What a trial came to at a rung; what has ended for good is the same at all rungs after."""
        share = halving.shares(self.study.halving)[rung]
        results = self.tellings.get(trial_key(arm, number), ())
        return next((r for r in results if r["status"] != "stopped" or r["until"] >= share), None)

    def score(self, result: Mapping[str, Any]) -> float | None:
        """The selection score of a result, or None where there is none."""
        found = result["scores"].get(self.study.selection.score)
        return None if found is None else float(found["value"])

    def rungs(self, arm: str) -> dict[int, int]:
        """Number of each asked trial to the rung that it is to reach, as far as that is decided."""
        n, plan = halving.draws(self.study), self.study.halving
        if plan is not None and not plan.stop:
            return {number: self._next_rung(arm, number) for number in self.asked[arm]}
        entered = dict.fromkeys(self.asked[arm], 0)
        members = list(range(n))
        for rung in range(1, len(halving.shares(plan))):
            results = {number: self.result(arm, number, rung - 1) for number in members}
            found = {number: result for number, result in results.items() if result is not None}
            if len(found) < len(members):
                break
            scores = {number: self.score(result) for number, result in found.items()}
            members = promoted(scores, halving.quota(n, rung, plan), self.study.selection.maximise)
            entered |= dict.fromkeys(members, rung)
        return entered

    def _next_rung(self, arm: str, number: int) -> int:
        """The first rung that a trial has not come to; the last one where there is none."""
        last = len(halving.shares(self.study.halving)) - 1
        return next((rung for rung in range(last) if self.result(arm, number, rung) is None), last)

    def searched(self, arm: str) -> bool:
        """Whether all draws of an arm were made, and all trials have come as far as they ever will."""
        rungs = self.rungs(arm)
        return len(rungs) == halving.draws(self.study) and all(
            self.result(arm, number, rung) is not None for number, rung in rungs.items()
        )

    def history(self, arm: str) -> tuple[list[Told], list[Mapping[str, Any]]]:
        """What the search knows: draws that were told, in that order, and draws that were not."""
        names, asked = self.study.search.scores, self.asked[arm]
        numbers = {trial_key(arm, number): number for number in asked}
        told = []
        for key in self.told:
            if key in numbers:
                scores = self.told[key]["scores"]
                values = (
                    tuple(float(scores[n]["value"]) for n in names)
                    if all(n in scores for n in names)
                    else None
                )
                told.append(Told(asked[numbers[key]]["drawn"], values))
        return told, [asked[number]["drawn"] for key, number in numbers.items() if key not in self.told]


def trial_key(arm: str, number: int) -> str:
    """The folder of a trial in the study's."""
    return f"trials/{arm}/{number:03d}"


class Journal:
    """The one writer of a study's journal.

    with Journal(folder, study) as journal:
        journal.write("start", key="trials/vae/000")

    Attributes:
        state: what all events so far amount to.
        events: themselves.

    Raises:
        RunError: a line that is no event, before the last one.
    """

    def __init__(self, folder: Path, study: Study) -> None:
        self.state, self.events, length = _replayed(folder, study)
        self._file = (folder / JOURNAL).open("ab")
        self._file.truncate(length)

    def write(self, event: str, **content: Any) -> None:
        """Add an event, and wait until it is on the disk."""
        entry = {"event": event, **content, "at": now()}
        self._file.write(json.dumps(entry, allow_nan=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.events.append(entry)
        self.state.apply(entry)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def replay(folder: Path, study: Study) -> State:
    """The state of a study that somebody else may be writing."""
    return _replayed(folder, study)[0]


def working_seconds(events: Sequence[Mapping[str, Any]]) -> float:
    """How long drivers have worked on a study: from each one's first event to its last."""
    total = 0.0
    for before, event in pairwise(events):
        if event["event"] != "begin":
            total += (
                datetime.fromisoformat(event["at"]) - datetime.fromisoformat(before["at"])
            ).total_seconds()
    return total


def read_events(folder: Path) -> tuple[list[dict[str, Any]], int]:
    """The whole events of a journal, and how many bytes they take.

    Raises:
        RunError: a line that is no event, before the last one.
    """
    try:
        content = (folder / JOURNAL).read_bytes()
    except FileNotFoundError:
        return [], 0
    length = content.rfind(b"\n") + 1
    events = []
    for number, line in enumerate(content[:length].splitlines(), 1):
        try:
            event = json.loads(line)
            _ = event["event"]
        except (ValueError, KeyError, TypeError):
            raise _damaged(folder, number) from None
        events.append(event)
    return events, length


def _replayed(folder: Path, study: Study) -> tuple[State, list[dict[str, Any]], int]:
    state = State(study)
    events, length = read_events(folder)
    for number, event in enumerate(events, 1):
        try:
            state.apply(event)
        except (KeyError, TypeError, AttributeError):
            raise _damaged(folder, number) from None
    return state, events, length


def _damaged(folder: Path, line: int) -> RunError:
    return RunError(f"{folder / JOURNAL}: damaged in line {line}, the study cannot go on")
