"""Where to start in an image? One small network, trained in one order of the pixels at a time.

    OMP_NUM_THREADS=1 python benchmarks/orders.py --runs runs/orders --out benchmarks/orders.json

For every order and seed the same `order-agnostic` network learns Fashion-MNIST with the same initial weights,
the same images in the same sequence and the same budget; only the order differs. The table has test bits/dim
in that order: the mean over seeds, the deviation between seeds, and the difference from the first order in
pairs of one seed and one image, with its standard error over images. Interrupted, it goes on where it
stopped, in the middle of a training too; a table in markdown is printed and written beside the JSON.
"""

import argparse
import importlib.metadata
import json
import math
import shlex
import sys
from datetime import date
from pathlib import Path

import numpy as np
from finished_run import finished_run

import bestiary

ORDERS = ["raster", "reverse", "snake", "spiral", "hilbert", "random"]


def trained(options, data, order, seed):
    """The run of one order and seed: new, gone on with, or finished already."""
    model = bestiary.create(
        "order-agnostic",
        spec=data.spec,
        preset="laptop",
        seed=seed,
        orders=[order],
        hidden=0.0,
        blocks=options.blocks,
        channels=options.channels,
    )
    folder = options.runs / f"{order}-{seed}"
    return finished_run(model, data, budget=options.budget, out=folder, seed=seed)


def cell(run, data, images):
    """What is kept of a run: test bits/dim of each image, the training's curve, and what it cost."""
    model = bestiary.load(run.folder)
    with model.evaluation():
        nats = -model.log_prob(data.test[:images].x).double()
    bits = nats / (math.log(2) * data.spec.dimensions)
    clock = {key: run.state["clock"][key] for key in ("examples", "rounds", "seconds")}
    curve = [
        [line["examples"], round(line["bits_per_dim"], 4)] for line in run.log() if "bits_per_dim" in line
    ]
    return {"bits": [round(value, 5) for value in bits.tolist()], "clock": clock, "curve": curve}


def table(cells, orders, seeds, about):
    """Markdown: a row for each order of which there are all seeds."""
    lines = [
        f"Test bits/dim, {about['data']}, {about['images']} images, {about['budget']}, seeds {seeds}.",
        "",
        f"| order | bits/dim | deviation between seeds | less that of {orders[0]} | seconds |",
        "|---|---|---|---|---|",
    ]
    first = bits_of(cells, orders[0], seeds)
    for order in orders:
        bits = bits_of(cells, order, seeds)
        if bits is None or first is None:
            continue
        means, paired = bits.mean(axis=1), (bits - first).mean(axis=0)
        deviation = f"{means.std(ddof=1):.4f}" if len(seeds) > 1 else ""
        error = paired.std(ddof=1) / math.sqrt(len(paired))
        seconds = np.mean([cells[f"{order} | {seed}"]["clock"]["seconds"] for seed in seeds])
        less = f"{paired.mean():+.4f} ± {error:.4f}" if order != orders[0] else ""
        lines.append(f"| {order} | {means.mean():.4f} | {deviation} | {less} | {seconds:.0f} |")
    return "\n".join(lines) + "\n"


def bits_of(cells, order, seeds):
    """Bits/dim by seed and image, or None where a seed is not there yet."""
    names = [f"{order} | {seed}" for seed in seeds]
    return np.array([cells[name]["bits"] for name in names]) if all(name in cells for name in names) else None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--orders", nargs="+", default=ORDERS, help="names; the first is compared to")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--budget", default="50k examples", help="of each training")
    parser.add_argument("--images", type=int, default=2000, help="of the test split, the first ones")
    parser.add_argument("--binarise", choices=["none", "fixed", "dynamic"], default="none")
    parser.add_argument("--blocks", type=int, default=0)
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--runs", type=Path, default=Path("runs/orders"), help="folder of the trainings")
    parser.add_argument("--out", type=Path, required=True, help="JSON file, added to what it holds")
    options = parser.parse_args()
    data = bestiary.load_data("fashion-mnist", binarise=options.binarise)
    about = {
        "data": f"{data.name}, {data.spec.levels} levels",
        "binarise": options.binarise,
        "images": options.images,
        "budget": options.budget,
        "network": {"blocks": options.blocks, "channels": options.channels},
    }
    stored = json.loads(options.out.read_text()) if options.out.exists() else {"about": about, "cells": {}}
    if stored["about"] != about:
        sys.exit(f"{options.out}: holds another network, budget or data: give another --out")
    stored |= {"command": f"python {shlex.join(sys.argv)}", "date": str(date.today())}
    stored["versions"] = {p: importlib.metadata.version(p) for p in ("bestiary", "torch")}
    for seed in options.seeds:
        for order in options.orders:
            name = f"{order} | {seed}"
            if name not in stored["cells"]:
                stored["cells"][name] = cell(trained(options, data, order, seed), data, options.images)
                options.out.write_text(json.dumps(stored) + "\n")  # each, for interruptions
            print(f"{name}: {np.mean(stored['cells'][name]['bits']):.4f}", file=sys.stderr, flush=True)
    options.out.write_text(json.dumps(stored) + "\n")
    text = table(stored["cells"], options.orders, options.seeds, about)
    options.out.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
