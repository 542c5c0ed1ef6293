"""Accidents: trainings killed at random instants, and run folders damaged at random bytes.

    python benchmarks/accidents.py --kills 20 --damages 500 --out benchmarks/accidents.json

Kills: each trained model of the catalogue learns the digits twice, once in peace and once killed by
SIGKILL `--kills` times and resumed each time; weights, averages, optimiser states and log must be equal bit
by bit. Damages: a file of an interrupted run is flipped in one bit, cut, deleted or exchanged for another
file of the run; resumed, the training must end with the weights it would have had (going back to the
checkpoint before where it has to), or say in one line what is wrong. Anything else is a failure: another
exception, other weights, a class looked up for unpickling, a process started.
"""

import argparse
import json
import multiprocessing
import os
import platform
import random
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from datetime import date
from pathlib import Path

import torch
from safetensors.torch import load_file

import bestiary
import bestiary.runs
from bestiary.catalogue import CATALOGUE
from bestiary.errors import BestiaryError
from bestiary.models.autoregressive.transformer import Transformer
from bestiary.models.base import ClosedForm
from bestiary.training.checkpoint import newest

KINDS = ("flip", "truncate", "swap", "delete")
FORBIDDEN = ("pickle.find_class", "os.system", "subprocess.Popen")
ROUNDS, STOPPED_AT = 12, 8  # of the training whose folder is damaged


# --- kills ------------------------------------------------------------------------------------------


def learn_digits(name, rounds, folder):
    data = bestiary.load_data("digits")
    model = bestiary.create(name, spec=data.spec, preset="laptop", seed=1)
    bestiary.train(
        model, data, budget=f"{rounds} rounds", out=folder, seed=1, resume=True, checkpoint_seconds=0.2
    )


def seconds_a_round(name):
    with tempfile.TemporaryDirectory() as folder:
        learn_digits(name, 30, Path(folder) / "run")
        return bestiary.runs.open_run(Path(folder) / "run").state["clock"]["seconds"] / 30


def child(name, rounds, folder):
    """A process of its own, forked so that it has imported everything already."""
    process = multiprocessing.get_context("fork").Process(target=learn_digits, args=(name, rounds, folder))
    process.start()
    return process


def kill_and_compare(name, kills, draw):
    pace = seconds_a_round(name)
    rounds = max(100, round(0.9 * kills / pace))  # so long that no training is over before its last kill
    with tempfile.TemporaryDirectory() as folder:
        quiet, killed = Path(folder) / "quiet", Path(folder) / "killed"
        process = child(name, rounds, quiet)
        process.join()
        struck = 0
        while struck < kills:
            process = child(name, rounds, killed)
            time.sleep(draw.uniform(0.05, 1.2))
            alive = process.is_alive()
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            if not alive:
                raise SystemExit(f"{name}: over after {struck} kills, make it longer")
            struck += 1
        process = child(name, rounds, killed)
        process.join()
        return {"model": name, "rounds": rounds, "kills": struck, "bit_equal": equal_runs(quiet, killed)}


def equal_runs(a, b):
    folders = [newest(run / "checkpoints")[0] for run in (a, b)]
    for file in ("model", "ema", "training"):
        one, two = (load_file(folder / f"{file}.safetensors") for folder in folders)
        if one.keys() != two.keys() or not all(torch.equal(one[key], two[key]) for key in one):
            return False
    logs = [[{**line, "seconds": 0} for line in bestiary.runs.open_run(run).log()] for run in (a, b)]
    return logs[0] == logs[1]


# --- damages ----------------------------------------------------------------------------------------


def small_training(folder, observers=()):
    data = bestiary.load_data("digits")
    model = bestiary.create("vae", spec=data.spec, hidden=[8], latent_dim=2, batch_size=16, seed=2)
    bestiary.train(
        model,
        data,
        budget=f"{ROUNDS} rounds",
        out=folder,
        resume=True,
        checkpoint_seconds=0,
        observers=observers,
    )
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def interrupt(training):
    if training.clock.rounds == STOPPED_AT:
        os.kill(os.getpid(), signal.SIGINT)


def damage(folder, kind, draw):
    """Damage a file of the run; its name, or None where nothing has changed."""
    files = sorted(
        p for p in folder.rglob("*") if p.is_file() and p.suffix in (".json", ".yaml", ".safetensors")
    )
    file = draw.choice(files)
    content = file.read_bytes()
    if kind == "delete":
        file.unlink()
    elif kind == "truncate":
        file.write_bytes(content[: draw.randrange(len(content))])
    elif kind == "flip":
        place = draw.randrange(len(content))
        changed = bytearray(content)
        changed[place] ^= 1 << draw.randrange(8)
        file.write_bytes(changed)
    else:
        other = draw.choice([f for f in files if f != file])
        file.write_bytes(other.read_bytes())
        other.write_bytes(content)
    return str(file.relative_to(folder))


def damage_and_resume(folder, kind, draw, expected, forbidden):
    what = damage(folder, kind, draw)
    before = len(forbidden)
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            weights = small_training(folder)
    except BestiaryError as error:
        end = "one line" if "\n" not in str(error) else f"several lines: {error}"
    except Exception as error:
        end = f"exception: {type(error).__name__}: {error}"
    else:
        went_back = any("using the checkpoint before it" in str(w.message) for w in told)
        end = "previous checkpoint" if went_back else "nothing lost"
        if not torch.equal(weights, expected):
            end = "other weights"
    if len(forbidden) > before:
        end = f"forbidden: {forbidden[before:]}"
    return what, end


def damage_many(count, draw):
    forbidden = []
    sys.addaudithook(lambda event, _: forbidden.append(event) if event in FORBIDDEN else None)
    ends, failures = Counter(), []
    with tempfile.TemporaryDirectory() as top:
        expected = small_training(Path(top) / "quiet")
        small_training(Path(top) / "stopped", [interrupt])
        for number in range(count):
            kind = KINDS[number % len(KINDS)]
            folder = Path(top) / "damaged"
            shutil.copytree(Path(top) / "stopped", folder)
            what, end = damage_and_resume(folder, kind, draw, expected, forbidden)
            shutil.rmtree(folder)
            ends[f"{kind}: {end.split(':')[0]}"] += 1
            if end not in ("one line", "previous checkpoint", "nothing lost"):
                failures.append(f"{kind} {what}: {end}")
    return {"damages": count, "ends": dict(sorted(ends.items())), "failures": failures}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--damages", type=int, default=500)
    parser.add_argument("--models", nargs="*")
    parser.add_argument("--seed", type=int, default=0, help="of the instants and bytes")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)  # a forked process must not inherit a pool of threads
    draw = random.Random(options.seed)
    untrained = (ClosedForm, Transformer)  # the data here are images
    trained = [name for name, entry in CATALOGUE.items() if not issubclass(entry.load(), untrained)]
    report = {
        "command": f"python benchmarks/accidents.py --kills {options.kills} --damages {options.damages}"
        f" --seed {options.seed}",
        "date": date.today().isoformat(),
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "damaged": damage_many(options.damages, draw) if options.damages else None,
        "killed": [],
    }
    print(json.dumps(report["damaged"], indent=1), flush=True)
    for name in (trained if options.models is None else options.models) if options.kills else ():
        report["killed"].append(kill_and_compare(name, options.kills, draw))
        print(json.dumps(report["killed"][-1]), flush=True)
    if options.out:
        options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
