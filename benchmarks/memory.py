"""Memory: flat over ten thousand rounds, and a folder of images far larger than the memory allowed.

    python benchmarks/memory.py --out benchmarks/memory.json

Flat: every trained model, on the digits at a small width, with log, pictures and checkpoints; the resident
memory after 10,000 rounds is held against that after 1,000. Large: 22,000 pictures of 256 × 256 in colour
become a memory-mapped cache of 4 GiB, in a process of its own that may use 1 GiB, page cache included
where the system has control groups and this may set them (otherwise anonymous memory alone is limited).
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import bestiary
from bestiary.catalogue import CATALOGUE
from bestiary.models.autoregressive.transformer import Transformer
from bestiary.models.base import ClosedForm

SMALL = {
    "pixelrnn-row": {"channels": 8, "head_channels": 8, "layers": 2},
    "pixelrnn-diagonal": {"channels": 8, "head_channels": 8, "layers": 2},
    "multiscale-pixelrnn": {"channels": 8, "head_channels": 8, "layers": 2},
    "pixelcnn": {"channels": 8, "head_channels": 8, "blocks": 3},
    "gated-pixelcnn": {"channels": 8, "head_channels": 8, "layers": 3},
    "pixelcnn++": {"filters": 8},
    "order-agnostic": {"channels": 8},
    "vae": {"channels": 4},
}
GROUPS = Path("/sys/fs/cgroup/memory/bestiary-benchmark")


def resident():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def flat(name, rounds):
    """Resident MiB after a tenth of the rounds and at their end."""
    readings = {}

    def read(training):
        if training.clock.rounds in (rounds // 10, rounds):
            readings[training.clock.rounds] = resident()

    data = bestiary.load_data("digits")
    settings = SMALL.get(name, {"channels": 4})
    model = bestiary.create(name, spec=data.spec, preset="laptop", **{"batch_size": 8, **settings})
    with tempfile.TemporaryDirectory() as folder:
        bestiary.train(
            model,
            data,
            budget=f"{rounds} rounds",
            out=Path(folder) / "run",
            observers=[read],
            checkpoint_seconds=5,
        )
    early, late = readings[rounds // 10], readings[rounds]
    return {"model": name, "rounds": rounds, "early_mib": round(early, 1), "late_mib": round(late, 1),
            "growth": round(late / early - 1, 4)}  # fmt: skip


def paint(folder, count, side):
    """Smooth random pictures, which JPEG stores small."""
    draw = np.random.default_rng(0)
    folder.mkdir()
    for number in range(count):
        seed = Image.fromarray(draw.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        seed.resize((side, side), Image.Resampling.BICUBIC).save(folder / f"{number:06d}.jpg", quality=80)


def limit(gib):
    """Allow this process so much memory; what it is that is limited."""
    try:
        GROUPS.mkdir(exist_ok=True)
        (GROUPS / "memory.limit_in_bytes").write_text(str(int(gib * 2**30)))
        (GROUPS / "cgroup.procs").write_text(str(os.getpid()))
        return "resident memory and page cache"
    except OSError:
        resource.setrlimit(resource.RLIMIT_DATA, (int(gib * 2**30),) * 2)
        return "anonymous memory"


def large(folder, gib, rounds):
    """Decode the folder into its cache and train on it, within the limit."""
    what = limit(gib)
    data = bestiary.load_data(str(folder))
    model = bestiary.create("vae", spec=data.spec, hidden=[16], latent_dim=8, batch_size=32)
    run = bestiary.train(model, data, budget=f"{rounds} rounds", out=folder.parent / "run")
    cache = sum(f.stat().st_size for f in (folder.parent / "cache").rglob("*.npy"))
    print(json.dumps({
        "limit_gib": gib,
        "limited": what,
        "images": sum(map(len, (data.train, data.validation, data.test))),
        "cache_gib": round(cache / 2**30, 2),
        "status": run.status,
        "rounds": run.state["clock"]["rounds"],
        "examples_a_second": round(run.state["clock"]["examples"] / run.state["clock"]["seconds"]),
        "peak_resident_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10),
    }))  # fmt: skip


def large_in_its_own_process(options):
    with tempfile.TemporaryDirectory() as top:
        folder = Path(top) / "pictures"
        paint(folder, options.images, 256)
        command = [sys.executable, __file__, "--large", str(folder), "--limit", str(options.limit)]
        environment = {**os.environ, "BESTIARY_CACHE": str(Path(top) / "cache")}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10_000)
    parser.add_argument("--images", type=int, default=22_000)
    parser.add_argument("--limit", type=float, default=1.0, help="GiB")
    parser.add_argument("--large", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.large:
        large(options.large, options.limit, 500)
        return
    report = {
        "command": f"python benchmarks/memory.py --rounds {options.rounds} --images {options.images}",
        "date": date.today().isoformat(),
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "flat": [],
    }
    for name, entry in CATALOGUE.items() if options.rounds else ():
        if not issubclass(entry.load(), (ClosedForm, Transformer)):  # the data here are images
            report["flat"].append(flat(name, options.rounds))
            print(json.dumps(report["flat"][-1]), flush=True)
    if options.images:
        report["large"] = large_in_its_own_process(options)
        print(json.dumps(report["large"]), flush=True)
    if options.out:
        options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
