"""A study whose workers and driver are killed has every trial once, none missing, and the same results."""

import contextlib
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from bestiary.study import run_study
from bestiary.study.analysis.trials import StudyResults
from bestiary.study.execution.engines import LocalEngine, threads_for
from bestiary.study.execution.journal import read_events

STUDY: dict[str, Any] = {
    "data": "digits",
    "budget": "40 rounds",
    "draws": 4,
    "preset": "paper",
    "common": {"network": "mlp", "hidden": [8], "latent_dim": 2, "batch_size": 8},
    "arms": ["vae", "ns-gan"],
    "selection": {"score": "frechet", "n": 80, "embedding": "pixels"},
    "report": {"metrics": ["frechet"], "n": 80, "embedding": "pixels"},
    "retrain_seeds": 1,
    "retries": 20,
}


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # results are bit-equal at the same number of threads


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> StudyResults:
    return run_study(STUDY, out=tmp_path_factory.mktemp("undisturbed") / "study", engine="inline")


def check(results: StudyResults, undisturbed: StudyResults, folder: Path) -> None:
    assert Counter((t.arm, t.number) for t in results.trials) == {
        (arm, number): 1 for arm in STUDY["arms"] for number in range(STUDY["draws"])
    }
    assert [(t.settings, t.score, t.status) for t in results.trials] == [
        (t.settings, t.score, t.status) for t in undisturbed.trials
    ]
    assert {t.spent["examples"] for t in results.trials} == {40 * 8}  # no budget twice
    assert [r.scores for r in results.retrained] == [r.scores for r in undisturbed.retrained]
    told = Counter(event["key"] for event in read_events(folder)[0] if event["event"] == "tell")
    assert set(told.values()) == {1}


def test_killed_workers_are_replaced_and_their_trials_go_on(
    tmp_path: Path, undisturbed: StudyResults
) -> None:
    dice = random.Random(0)
    killed: list[int] = []

    def kill_one(line: str) -> None:
        workers = multiprocessing.active_children()
        if line.startswith("trials/") and len(killed) < 2:
            victim = dice.choice(workers)
            assert victim.pid is not None
            killed.append(victim.pid)
            time.sleep(dice.uniform(0, 0.2))
            os.kill(victim.pid, signal.SIGKILL)

    study = tmp_path / "study"
    results = run_study(STUDY, out=study, workers=2, checkpoint_seconds=0.1, say=kill_one)
    assert len(killed) == 2
    check(results, undisturbed, study)


def test_a_killed_driver_takes_its_workers_along_and_loses_nothing(
    tmp_path: Path, undisturbed: StudyResults
) -> None:
    study, file = tmp_path / "study", tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(STUDY, sort_keys=False))
    command = [
        sys.executable,
        "-m",
        "bestiary",
        "study",
        "run",
        str(file),
        "--out",
        str(study),
        "--workers",
        "1",
    ]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as driver:
        try:
            wait_for(lambda: len(list(study.glob("trials/*/*/result.json"))) >= 2)
        finally:
            driver.kill()
    results = run_study({**STUDY, "name": "study"}, out=study, engine="inline", resume=True)
    check(results, undisturbed, study)
    assert read_events(study)[0][0]["workers"] == 1


def test_killed_again_and_again_without_progress_is_a_failed_row(tmp_path: Path) -> None:
    deaths: list[str] = []

    def kill(line: str) -> None:
        deaths.append(line)

    class Murderer(LocalEngine):
        def submit(self, job: Any) -> None:
            super().submit(job)
            for worker in multiprocessing.active_children():
                worker.kill()

    from bestiary.study.execution import running

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "LocalEngine", Murderer)
        results = run_study(
            {**STUDY, "retries": 0, "draws": 1, "arms": ["vae"]}, out=tmp_path / "s", workers=1, say=kill
        )
    (trial,) = results.trials
    assert (trial.status, trial.score) == ("failed", None)
    assert trial.reason.startswith("killed by signal 9, 1 times")
    assert results.best("vae") is None
    assert results.retrained == ()


def test_ray_gives_the_same_results_though_a_worker_is_killed(
    tmp_path: Path, undisturbed: StudyResults
) -> None:
    ray = pytest.importorskip("ray")
    killed: list[int] = []

    def kill_one(line: str) -> None:
        if line.startswith("trials/") and not killed:
            wait_for(lambda: ray_workers())
            killed.append(ray_workers()[0])
            os.kill(killed[0], signal.SIGKILL)

    study = tmp_path / "study"
    try:
        results = run_study(STUDY, out=study, engine="ray", workers=2, say=kill_one)
    finally:
        ray.shutdown()
    check(results, undisturbed, study)
    assert killed


def ray_workers() -> list[int]:
    """Process ids of Ray's workers that are doing a piece of work now."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (folder / "cmdline").read_bytes().startswith(b"ray::_perform"):
                found.append(int(folder.name))
    return found


def test_threads_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert threads_for(3) == 1
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr("bestiary.study.execution.engines.cores", lambda: 8)
    assert [threads_for(workers) for workers in (1, 3, 16)] == [8, 2, 1]


def test_no_worker_is_started_where_memory_is_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bestiary.study.execution.engines.available_bytes", lambda: 3.5 * 2**30)
    with LocalEngine(4, threads=1, log=tmp_path / "log", need=2 * 2**30) as engine:
        engine.idle()
        assert len(multiprocessing.active_children()) == 1  # it has yet to take its own


def wait_for(done: Any, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)
