"""What is gained where freed memory is kept: rates with and without, in alternating processes.

    OMP_NUM_THREADS=1 python benchmarks/allocator.py --out benchmarks/allocator.json

Each process trains a model on Fashion-MNIST for some seconds, or turns images into features, as it is or
without `keep_freed_memory`. The rate is in examples a second; page faults are those of the whole process; the
ratio is the median over the pairs, with the lowest and the highest.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from unittest.mock import patch

import torch

import bestiary
from bestiary.metrics import embedding

ROWS = [
    "ns-gan",
    "ns-gan:paper",
    "vae",
    "gated-pixelcnn",
    "pixelrnn-diagonal",
    "embedding:efficientnet-lite0",
]
CALLERS = ["training.loop", "runs.folder", "metrics.embeddings.base"]


def trained(data, name, preset, seconds):
    """Examples a second of a training."""
    model = bestiary.create(name, spec=data.spec, preset=preset or "laptop", seed=0)
    with tempfile.TemporaryDirectory() as folder:
        run = bestiary.train(
            model, data, budget=f"{seconds} seconds", out=Path(folder) / "run", seed=0, device="cpu"
        )
        return run.state["clock"]["examples"] / run.state["clock"]["seconds"]


def embedded(data, name, seconds):
    """Images a second that become features."""
    network, images, done = embedding(name), data.test[:200].x, 0
    network.features(images)
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds:
        network.features(images)
        done += len(images)
    return done / (time.perf_counter() - begin)


def one(row, keeps, seconds):
    """Measure a row in this process, and print what it came to."""
    name, _, what = row.partition(":")
    data = bestiary.load_data("fashion-mnist")
    with ExitStack() as stack:
        for caller in [] if keeps else CALLERS:
            stack.enter_context(patch(f"bestiary.{caller}.keep_freed_memory"))
        rate = embedded(data, what, seconds) if name == "embedding" else trained(data, name, what, seconds)
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"rate": rate, "faults": used.ru_minflt, "peak_mib": used.ru_maxrss / 1024}))


def child(name, keeps, seconds):
    options = ["--rows", name, "--seconds", str(seconds), "--one", str(int(keeps))]
    command = [sys.executable, __file__, *options]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])


def compared(name, pairs, seconds):
    """Medians of both sides, and of the ratio of neighbours with its lowest and highest."""
    rows = [(child(name, False, seconds), child(name, True, seconds)) for _ in range(pairs)]
    ratios = [with_["rate"] / without["rate"] for without, with_ in rows]
    found = {"ratio": [round(r, 3) for r in (statistics.median(ratios), min(ratios), max(ratios))]}
    for side, key in enumerate(("given back", "kept")):
        found[key] = {k: round(statistics.median(row[side][k] for row in rows), 1) for k in rows[0][0]}
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", nargs="+", default=ROWS, help="MODEL, MODEL:PRESET or embedding:NAME")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.one is not None:
        one(options.rows[0], bool(options.one), options.seconds)
        return
    found = {}
    for name in options.rows:
        found[name] = compared(name, options.pairs, options.seconds)
        print(name, json.dumps(found[name]), flush=True)
    kept = {
        "command": f"python {' '.join(sys.argv)}",
        "threads": os.environ.get("OMP_NUM_THREADS", torch.get_num_threads()),
        "libc": " ".join(platform.libc_ver()),
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "date": str(date.today()),
        "results": found,
    }
    if options.out:
        options.out.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
