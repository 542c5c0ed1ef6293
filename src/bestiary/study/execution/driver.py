"""The loop that drives a study: ask, start, tell; every step is in the journal before the next one."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bestiary.scores import SCORES
from bestiary.study.execution.engines import Ended, Engine
from bestiary.study.execution.journal import Journal
from bestiary.study.execution.schedule import Ask, Piece, following, is_done, rows_of
from bestiary.study.execution.work import Job, now, read_result, spent_by
from bestiary.training.checkpoint import forget_optimizers

_POLL_SECONDS = 1.0


class Driver:
    """The one process that decides what is done.

    Arguments:
        folder: of the study.
        journal: open for writing.
        device, checkpoint_seconds: of all trainings, see `train`.
        say: told in a line what has happened.
    """

    def __init__(
        self,
        folder: Path,
        journal: Journal,
        device: str,
        checkpoint_seconds: float,
        say: Callable[[str], None],
    ) -> None:
        self._folder, self._journal, self._state = folder, journal, journal.state
        self._device, self._checkpoint_seconds, self._say = device, checkpoint_seconds, say

    def drive(self, engine: Engine) -> None:
        """Until nothing is left to do."""
        for arm in self._state.study.arms:
            self._tidy(arm.name)
        while not is_done(self._state):
            self._begin_what_fits(engine)
            for ended in engine.wait(_POLL_SECONDS):
                self._take(ended)

    def _begin_what_fits(self, engine: Engine) -> None:
        while engine.idle() and (todo := following(self._state)) is not None:
            if isinstance(todo, Ask):
                self._journal.write("ask", **vars(todo))
                continue
            job = self._job(todo)
            done = read_result(job.folder, job.until)
            if done is not None:  # it ended while there was no driver to hear of it
                self._tell(job, done)
            else:
                self._journal.write("start", key=job.key)
                engine.submit(job)

    def _take(self, ended: Ended) -> None:
        job = ended.job
        if ended.result is not None:
            self._tell(job, ended.result)
            return
        spent = spent_by(job.folder, job.budget)
        self._journal.write("died", key=job.key, why=ended.death, rounds=spent["rounds"])
        deaths = self._state.deaths[job.key]
        if deaths[-self._state.study.retries - 1 :].count(deaths[-1]) > self._state.study.retries:
            reason = f"{ended.death}, {len(deaths)} times (too little memory?)"
            self._tell(job, {**spent, **_FAILED, "reason": reason, "until": job.until, "ended": now()})
            forget_optimizers(job.folder / "checkpoints")
        else:
            self._say(f"{job.key}: {ended.death}, going on from its last checkpoint")

    def _tell(self, job: Job, result: Mapping[str, Any]) -> None:
        self._journal.write("tell", key=job.key, result=dict(result))
        name = self._state.study.selection.score
        found = result["scores"].get(name)
        words = f"{name} {found['value']:.4g}" if found else result["reason"] or "no score"
        self._say(f"{job.key}: {result['status']}, {words}")
        self._tidy(job.key.split("/")[-2])

    def _tidy(self, arm: str) -> None:
        """Whatever halving gave up needs its optimisers no more."""
        if self._state.study.halving is not None and self._state.searched(arm):
            for row in rows_of(self._state, self._state.study.arm(arm)):
                if row.status == "halted":
                    forget_optimizers(self._folder / row.folder / "checkpoints")

    def _job(self, piece: Piece) -> Job:
        study = self._state.study
        chosen, report = study.selection, study.report
        guides = tuple(dict.fromkeys(SCORES[name].metric for name in (chosen.score, *study.search.scores)))
        return Job(
            key=piece.key,
            study=str(self._folder.absolute()),
            model=study.arm(piece.arm).model,
            settings=piece.settings,
            seed=piece.seed,
            data=piece.data,
            budget=study.budget,
            until=piece.until,
            split="validation" if piece.is_trial else "test",
            metrics=guides if piece.is_trial else report.metrics,
            n=chosen.n if piece.is_trial else report.n,
            embedding=chosen.embedding if piece.is_trial else report.embedding,
            score_seed=study.seed,
            device=self._device,
            precision=study.precision,
            checkpoint_seconds=self._checkpoint_seconds,
        )


_FAILED: Mapping[str, Any] = {
    "status": "failed", "scores": {}, "unavailable": {}, "started": "", "wall_seconds": 0.0, "peak_bytes": 0.0
}  # fmt: skip
