"""A whole study in this process: every draw once, equal budgets, honest rows, nothing lost by stopping."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from torch import Tensor

from bestiary.catalogue import create
from bestiary.config import plain
from bestiary.data import load_data
from bestiary.data.specs import Spec
from bestiary.errors import DataError, OptionError, RunError, StoppedError
from bestiary.models.base import Clock, Move, Step
from bestiary.models.latent.vae import VAE
from bestiary.runs import train
from bestiary.runs.folder import load, open_run
from bestiary.study import read_study, run_study
from bestiary.study.analysis.trials import StudyResults
from bestiary.study.execution.journal import JOURNAL, State, read_events
from bestiary.study.execution.schedule import Ask, following
from bestiary.study.execution.watching import progress
from bestiary.study.execution.work import budget_for
from bestiary.study.search import draws
from bestiary.training.budget import Budget, parse_budget
from bestiary.training.checkpoint import newest

STUDY: dict[str, Any] = {
    "data": "digits",
    "budget": "12 rounds",
    "draws": 3,
    "preset": "paper",
    "common": {"network": "mlp", "hidden": [8], "latent_dim": 2, "batch_size": 8},
    "arms": ["vae", "ns-gan"],
    "selection": {"score": "frechet", "n": 80, "embedding": "pixels"},
    "report": {"metrics": ["frechet"], "n": 80, "embedding": "pixels"},
    "retrain_seeds": 0,
}


def run(
    out: Path, *, resume: bool = False, say: Callable[[str], None] = print, **changes: Any
) -> StudyResults:
    return run_study({**STUDY, **changes}, out=out, engine="inline", resume=resume, say=say)


def found(results: StudyResults) -> dict[tuple[str, int], Any]:
    return {(t.arm, t.number): (t.settings, t.seed, t.status, t.score) for t in results.trials}


def test_a_study_from_draws_to_winners(tmp_path: Path) -> None:
    study = tmp_path / "study"
    results = run(study, retrain_seeds=2, elsewhere=["digits-fixed"])
    assert Counter(t.arm for t in results.trials) == {"vae": 3, "ns-gan": 3}
    for trial in results.trials:
        assert trial.status == "finished"
        assert trial.spent["examples"] == 12 * 8
        assert (study / trial.folder / "result.json").exists()
        # The model stays, its optimiser does not.
        newest_one = newest(study / trial.folder / "checkpoints")
        assert newest_one is not None
        assert not (newest_one[0] / "training.safetensors").exists()
        assert load(study / trial.folder).sample(2).shape == (2, 1, 8, 8)
        assert open_run(study / trial.folder).status == "finished"
        assert len(list((study / trial.folder / "samples").iterdir())) == 1
    for arm in results.arms:
        default, *others = results.of(arm)
        assert all(default.settings[name] == results.settings[arm][name] for name in results.spaces[arm])
        assert all(t.settings["learning_rate"] != default.settings["learning_rate"] for t in others)
        best = results.best(arm)
        assert best is not None
        assert best.score == min(t.score for t in results.of(arm) if t.score is not None)
        for rows, data in ((results.retrained, "digits"), (results.elsewhere, "digits-fixed")):
            mine = [row for row in rows if row.arm == arm]
            assert [row.seed for row in mine] == [0, 1]
            assert {row.data for row in mine} == {data}
            assert all(row.settings == best.settings for row in mine)
            assert all("test" in row.scores["frechet"]["protocol"] for row in mine)
    assert results.selection == "frechet[pixels, validation, n=80]"
    assert "validation" in results.trials[0].scores["frechet"]["protocol"]
    assert StudyResults.load(study) == results
    shown = progress(study)
    assert [(arm.done, arm.running, arm.spent, arm.retrained) for arm in shown.arms] == [(3, 0, 3.0, 4)] * 2


def test_what_fails_is_a_row_with_its_reason(tmp_path: Path) -> None:
    arms = {"moody": {"model": Moody, "settings": {"mood": "fine"}, "space": {"mood": ["raise", "nan"]}}}
    results = run(tmp_path / "study", arms=arms, draws=8)
    default, *others = results.trials
    assert default.status == "finished"
    assert {t.settings["mood"]: t.status for t in others} == {"raise": "failed", "nan": "diverged"}
    for trial in others:
        raised = trial.settings["mood"] == "raise"
        assert trial.reason == "ValueError: no more" if raised else "is nan in round" in trial.reason
        assert trial.score is None
        assert trial.spent["examples"] > 0  # counted, though it came to nothing
    assert results.best("moody") == default


def test_stopped_at_any_trial_it_goes_on_as_if_it_never_was(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", retrain_seeds=1)
    told = 0

    def stop_after(n: int) -> Callable[[str], None]:
        def say(line: str) -> None:
            nonlocal told
            told += line.startswith(("trials/", "retrained/"))
            if told == n:
                raise KeyboardInterrupt

        return say

    study = tmp_path / "parts"
    with pytest.raises(StoppedError, match="--resume goes on"):
        run(study, retrain_seeds=1, say=stop_after(2))
    assert len(StudyResults.load(study).trials) == 2
    with pytest.raises(RunError, match="--resume"):
        run(study, retrain_seeds=1)
    told = 0
    with (study / JOURNAL).open("a") as file:
        file.write('{"event": "tell", "key": "tri')  # the line that was being written
    with pytest.raises(StoppedError):
        run(study, retrain_seeds=1, resume=True, say=stop_after(5))
    parts = run(study, retrain_seeds=1, resume=True)
    assert found(parts) == found(whole)
    assert [r.scores for r in parts.retrained] == [r.scores for r in whole.retrained]
    events = Counter((e["event"], e.get("key")) for e in read_events(study)[0])
    assert all(n == 1 for (event, _), n in events.items() if event in ("tell", "start"))


def test_another_study_or_a_damaged_journal_is_refused(tmp_path: Path) -> None:
    study = tmp_path / "study"
    run(study, draws=1)
    with pytest.raises(RunError, match=r"study\.draws: found 2, but the study in .* was started with 1"):
        run(study, draws=2, resume=True)
    lines = (study / JOURNAL).read_bytes().splitlines(keepends=True)
    (study / JOURNAL).write_bytes(b"".join([lines[0], b"{]\n", *lines[1:]]))
    with pytest.raises(RunError, match="damaged in line 2"):
        run(study, draws=1, resume=True)
    for event in ('{"event": "ask"}', '{"event": "tell", "key": "x", "result": 5}'):
        (study / JOURNAL).write_bytes(b"".join([lines[0], f"{event}\n".encode(), *lines[1:]]))
        with pytest.raises(RunError, match="damaged in line 2"):
            run(study, draws=1, resume=True)
    (study / "study.yaml").write_text("a: [")
    with pytest.raises(RunError, match=r"put study\.yaml back, or start anew"):
        run(study, draws=1, resume=True)


def test_what_is_no_study_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="is not empty and holds no study"):
        run(tmp_path, resume=True)
    assert {path.name for path in tmp_path.iterdir()} <= {"notes.txt", ".lock"}


def test_halving_gives_up_the_worse_and_the_rest_are_as_without_it(tmp_path: Path) -> None:
    changes = {"arms": ["ns-gan", "ppca"], "draws": 4, "budget": "27 rounds"}
    halved = run(tmp_path / "halved", halving={"factor": 3, "rungs": 3}, **changes)
    full = found(run(tmp_path / "full", **changes))
    statuses = [t.status for t in halved.of("ns-gan")]
    assert Counter(statuses) == {"halted": 3, "finished": 1}
    spent = sorted(t.spent["examples"] / 8 for t in halved.of("ns-gan"))
    assert spent == [3, 3, 9, 27]  # rounds: two at 1/9, one at 1/3, one at the whole
    assert halved.saved["ns-gan"] == pytest.approx(1 - (3 + 3 + 9 + 27) / (4 * 27))
    finished = next(t for t in halved.of("ns-gan") if t.status == "finished")
    assert found(halved)["ns-gan", finished.number] == full["ns-gan", finished.number]
    assert halved.best("ns-gan") == finished
    for trial in halved.of("ns-gan"):
        kept = newest(tmp_path / "halved" / trial.folder / "checkpoints")
        assert kept is not None
        assert not (kept[0] / "training.safetensors").exists()
    trial = next(t for t in halved.of("ns-gan") if t.status == "halted")
    data = load_data("digits")
    model = create("ns-gan", spec=data.spec, seed=trial.seed, **trial.settings)
    with pytest.raises(RunError, match="no optimisers any more: the training cannot go on"):
        train(
            model,
            data,
            budget="27 rounds",
            out=tmp_path / "halved" / trial.folder,
            seed=trial.seed,
            resume=True,
        )
    # What is solved at once is not halted: there is nothing that it could spend.
    assert [t.status for t in halved.of("ppca")] == ["finished"] * 4


def test_without_stopping_every_rung_of_every_trial_is_scored(tmp_path: Path) -> None:
    changes = {"arms": ["ns-gan", "ppca"], "draws": 3, "budget": "9 rounds"}
    full = run(tmp_path / "full", **changes)
    watched = run(tmp_path / "watched", halving={"factor": 3, "rungs": 2, "stop": False}, **changes)
    assert found(watched) == found(full)  # a look at a third of the budget changes nothing
    halved = run(tmp_path / "halved", halving={"factor": 3, "rungs": 2}, **changes)
    for trial in watched.of("ns-gan"):
        early, late = trial.rungs
        assert (early["share"], late["share"]) == (1 / 3, 1)
        assert early["spent"]["examples"] * 3 == late["spent"]["examples"] == trial.spent["examples"]
        assert early["score"] == halved.of("ns-gan")[trial.number].rungs[0]["score"] != trial.score
        assert late["score"] == trial.score
    assert watched.saved["ns-gan"] == 0
    assert all(not trial.rungs for trial in full.trials)


@pytest.mark.parametrize("halving", [False, {"saved": "draws"}])
def test_a_journal_replays_its_asks(tmp_path: Path, halving: bool | Mapping[str, Any]) -> None:
    study = tmp_path / "study"
    changes = {"arms": ["ns-gan"], "draws": 6, "budget": "9 rounds", "search": "tpe", "halving": halving}
    results = run(study, **changes)
    design = read_study({**STUDY, **changes})
    state, asked = State(design), 0
    for event in read_events(study)[0]:
        if event["event"] == "ask":
            arm = design.arm(event["arm"])
            drawn = draws.ask(design, arm, event["number"], *state.history(arm.name))
            assert plain(drawn) == event["drawn"]
            proposed = following(state)
            assert isinstance(proposed, Ask)
            assert (proposed.number, proposed.seed) == (event["number"], event["seed"])
            asked += 1
        state.apply(event)
    assert asked == len(results.trials) == (6 if halving is False else 21)
    rungs = Counter(e["result"]["until"] for e in read_events(study)[0] if e["event"] == "tell")
    assert rungs == ({1: 6} if halving is False else {1 / 9: 21, 1 / 3: 7, 1: 3})
    spent = sum(t.spent["examples"] for t in results.trials) / 8 / 9
    assert spent == 6 if halving is False else 5 < spent <= 6  # whole budgets


def test_what_cannot_be_is_told_before_anything_is_trained(tmp_path: Path) -> None:
    out = tmp_path / "study"
    with pytest.raises(OptionError, match="budget: found updates of 'critic', wanted a player"):
        run(out, budget="5 critic updates")
    with pytest.raises(DataError):
        run(out, elsewhere=["no-such-folder/"], resume=True)
    with pytest.raises(OptionError, match="workers: found 0"):
        run_study(STUDY, out=out, workers=0)
    with pytest.raises(OptionError, match="unknown engine 'locla': did you mean 'local'"):
        run_study(STUDY, out=out, engine="locla")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="selection: found 'modes_found', which digits has not"):
        run(out, selection={"score": "modes_found", "n": 80, "embedding": "pixels"}, resume=True)
    assert not list(out.glob("trials/*"))


def test_updates_are_those_of_whoever_sees_the_data() -> None:
    wanted = parse_budget("40 discriminator updates")
    assert budget_for(wanted, ["discriminator", "generator"]) == wanted
    assert budget_for(wanted, ["model"]) == Budget(40, "updates", "model")
    assert budget_for(wanted, ["critic", "generator"]) == Budget(40, "updates", "critic")
    assert budget_for(parse_budget("40 examples"), ["model"]) == parse_budget("40 examples")
    total = parse_budget("40 total updates")
    assert budget_for(total, ["a", "b"]) == total
    assert total.reading(Clock(updates={"a": 5, "b": 1})) == 6
    total.check(endless=True, players=["a", "b"])


def test_the_budget_is_counted_in_the_unit_that_is_made_equal(tmp_path: Path) -> None:
    arms = {"ns-gan": {"settings": {"discriminator_updates": 5}, "space": {"discriminator_updates": [1, 5]}}}
    results = run(tmp_path / "study", arms=arms, draws=4, budget="20 discriminator updates")
    assert {t.settings["discriminator_updates"] for t in results.trials} == {1, 5}
    assert {t.spent["updates"] for t in results.trials} == {20}
    flops = run(tmp_path / "flops", arms=arms, draws=2, budget="2e6 flops")
    rounds = [
        json.loads((tmp_path / "flops" / t.folder / "result.json").read_text())["rounds"]
        for t in flops.trials
    ]
    for trial, n in zip(flops.trials, rounds, strict=True):
        assert 0 <= trial.spent["flops"] - 2e6 < trial.spent["flops"] / n  # within a round


class Moody(VAE):
    def __init__(
        self, spec: Spec, *, mood: Literal["fine", "raise", "nan"] = "fine", **settings: Any
    ) -> None:
        super().__init__(spec, **settings)
        self.mood = mood

    def moves(self, clock: Clock) -> Sequence[Move]:
        def cost(step: Step) -> dict[str, Tensor]:
            terms = dict(move.cost(step))
            if self.mood == "raise" and clock.rounds == 5:
                raise ValueError("no more")
            return {**terms, "loss": terms["loss"] * (float("nan") if self.mood == "nan" else 1)}

        (move,) = super().moves(clock)
        return [Move(move.player, cost)]


def test_the_study_file_is_kept(tmp_path: Path) -> None:
    run(tmp_path / "study", draws=1)
    stored = yaml.safe_load((tmp_path / "study" / "study.yaml").read_text())
    assert read_study(stored) == read_study({**STUDY, "draws": 1})
