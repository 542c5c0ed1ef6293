"""Studies whose workers and driver are killed at random instants; what a driver costs, a second worker gains.

    python benchmarks/study_accidents.py kills --engine local --out benchmarks/study_accidents.json
    python benchmarks/study_accidents.py kills --engine ray --out benchmarks/study_accidents.json
    python benchmarks/study_accidents.py speed --out benchmarks/study_accidents.json

Kills: two arms of 40 draws on the digits, by 3 workers; one of them is killed by SIGKILL every few seconds,
and from time to time the driver, which is started again with --resume. At the end every arm must have each of
its draws once, none of them over its budget, with the scores of a study that nobody disturbed.
Speed: the same study by one worker and by two, a thread each; the driver's share is the processor time that
it took beside the seconds of its trials. It wants a machine that does nothing else.
"""

import argparse
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import date, datetime
from pathlib import Path

import torch
import yaml

from bestiary.study.analysis.trials import StudyResults
from bestiary.study.execution.journal import read_events

ROUNDS, BATCH, DRAWS, WORKERS = 60, 8, 40, 3
STUDY = {
    "name": "accidents",
    "data": "digits",
    "budget": f"{ROUNDS} rounds",
    "draws": DRAWS,
    "preset": "paper",
    "common": {"network": "mlp", "hidden": [16], "latent_dim": 2, "batch_size": BATCH},
    "arms": ["vae", "ns-gan"],
    "selection": {"score": "frechet", "n": 100, "embedding": "pixels"},
    "report": {"metrics": ["frechet"], "n": 100, "embedding": "pixels"},
    "retrain_seeds": 1,
    "retries": 50,
}


def command(file, folder, engine, workers):
    resume = ["--resume"] if folder.exists() else []
    return [
        sys.executable, "-m", "bestiary", "study", "run", str(file), "--out", str(folder), "--engine", engine,
        "--workers", str(workers), *resume,
    ]  # fmt: skip


def workers_of(driver, engine):
    """Process ids of those that train: spawned children of the driver, or Ray's."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode()
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
        spawned = parent == driver and "spawn_main" in words
        if spawned if engine == "local" else words.startswith("ray::_perform"):
            found.append(int(folder.name))
    return found


def kills(args):
    dice, deaths = random.Random(args.seed), Counter()
    with tempfile.TemporaryDirectory() as place:
        file, calm, folder = Path(place) / "study.yaml", Path(place) / "calm", Path(place) / "wild"
        file.write_text(yaml.safe_dump(STUDY, sort_keys=False))
        subprocess.run(command(file, calm, "inline", 1), check=True, stdout=subprocess.DEVNULL)
        start, done = time.monotonic(), False
        while not done:
            with subprocess.Popen(
                command(file, folder, args.engine, WORKERS), stdout=subprocess.DEVNULL
            ) as driver:
                end = time.monotonic() + dice.uniform(*args.driver_lives)
                while driver.poll() is None and time.monotonic() < end:
                    time.sleep(dice.uniform(*args.worker_lives))
                    victims = workers_of(driver.pid, args.engine)
                    if victims and driver.poll() is None:
                        os.kill(dice.choice(victims), signal.SIGKILL)
                        deaths["worker"] += 1
                done = driver.poll() is not None
                if not done:
                    driver.kill()
                    deaths["driver"] += 1
            if done and driver.returncode:
                raise SystemExit(f"the study ended with exit code {driver.returncode}")
        seconds = time.monotonic() - start
        return {
            "engine": args.engine,
            "workers": WORKERS,
            "killed": dict(deaths),
            "seconds": round(seconds, 1),
        } | (verdict(StudyResults.load(folder), StudyResults.load(calm), read_events(folder)[0]))


def verdict(wild, calm, events):
    told = Counter(event["key"] for event in events if event["event"] == "tell")
    spent = {arm: sum(t.spent["examples"] for t in wild.of(arm)) / BATCH for arm in wild.arms}
    rows = [[(t.arm, t.number, t.settings, t.status, t.score) for t in r.trials] for r in (wild, calm)]
    return {
        "draws": {arm: len(wild.of(arm)) for arm in wild.arms},
        "told twice": sum(n > 1 for n in told.values()),
        "missing": sum(len({t.number for t in wild.of(arm)}) != DRAWS for arm in wild.arms),
        "rounds spent": spent,
        "rounds planned": DRAWS * ROUNDS,
        "deaths in the journal": sum(event["event"] == "died" for event in events),
        "statuses": dict(Counter(t.status for t in wild.trials)),
        "equal to the undisturbed study": rows[0] == rows[1]
        and [r.scores for r in wild.retrained] == [r.scores for r in calm.retrained],
    }


def speed(args):
    found = {}
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "study.yaml"
        small = {**STUDY, "budget": "600 rounds", "draws": 8, "retrain_seeds": 0}
        file.write_text(yaml.safe_dump(small, sort_keys=False))
        for workers in (1, 2):
            folder = Path(place) / str(workers)
            with subprocess.Popen(
                command(file, folder, "local", workers), stdout=subprocess.DEVNULL
            ) as driver:
                working, own = None, 0.0
                while driver.poll() is None:
                    now = own_seconds(driver.pid)
                    if now is not None and list(folder.glob("trials/*/*")):
                        working = now if working is None else working  # what it took until then is its start
                        own = now - working
                    time.sleep(0.05)
            assert driver.returncode == 0
            events, _ = read_events(folder)
            told = [event for event in events if event["event"] == "tell"]
            starts = [event["at"] for event in events if event["event"] == "start"]
            wall = seconds_between(min(starts), max(event["at"] for event in told))
            trials = sum(event["result"]["wall_seconds"] for event in told)
            at_start = seconds_between(events[0]["at"], min(starts))
            found[workers] = {
                "seconds": round(wall, 2),
                "seconds of trials": round(trials, 2),
                "idle share of workers": round(1 - trials / wall / workers, 4),
                "driver's processor seconds, as a share of the trials'": round(own / trials, 4),
                "seconds until the first start": round(at_start, 2),
            }
    gain = found[1]["seconds"] / found[2]["seconds"]
    return {"one worker": found[1], "two workers": found[2], "gain": round(gain, 3)}


def seconds_between(first, last):
    return (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds()


def own_seconds(pid):
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("part", choices=["kills", "speed"])
    parser.add_argument("--engine", choices=["local", "ray"], default="local")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worker-lives", type=float, nargs=2, default=[4.0, 12.0], metavar="SECONDS")
    parser.add_argument("--driver-lives", type=float, nargs=2, default=[20.0, 60.0], metavar="SECONDS")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/study_accidents.json"))
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    found = kills(args) if args.part == "kills" else speed(args)
    written = json.loads(args.out.read_text()) if args.out.exists() else {}
    name = args.part if args.part == "speed" else f"kills, {args.engine}"
    written[name] = found | {
        "command": f"python benchmarks/study_accidents.py {' '.join(sys.argv[1:])}",
        "date": date.today().isoformat(),
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
    }
    args.out.write_text(json.dumps(written, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
