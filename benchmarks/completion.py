"""What models pay for hidden pixels, given the others: conditional bits/dim on test images.

    OMP_NUM_THREADS=1 python benchmarks/completion.py --out completion.json \\
        order-agnostic=runs/order-agnostic gated-pixelcnn=runs/gated-pixelcnn --particles 16 256

Of a model that can choose its order the number is exact. Of one with a fixed order, for each number of
particles, there are two that enclose it: the model's own conditional likelihood, estimated by resampling,
which flatters it where few particles count, and what the truth costs as one of the completions that so many
particles draw, the number that is comparable with the exact one. Beside them stands what is paid when what
comes later is ignored. Interrupted, it goes on where it stopped; a table in
markdown is printed and written beside the JSON.
"""

import argparse
import importlib.metadata
import json
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch

import bestiary
from bestiary.models.autoregressive.order_agnostic import OrderAgnostic
from bestiary.randomness import derive_seed
from bestiary.runs import open_run
from bestiary.runs.folder import check_same_data
from bestiary.tasks import MASKS, conditional_bits, observed_pixels

CHUNK = 20  # images between two savings
EXACT, ORDERED = "exact", "ignoring later pixels"


def kinds(model, particles):
    """Which numbers a model has: name → arguments of `conditional_bits`."""
    if isinstance(model, OrderAgnostic):
        return {EXACT: {}}
    found = {}
    for p in particles:
        found[f"completed by {p} particles"] = {"particles": p, "of_completions": True}
        found[f"model's own, by {p} particles"] = {"particles": p}
    return found | {ORDERED: {"ignoring_later": True}}


def measure(model, batch, observed, cell, arguments, seed, save):
    """Add what is missing of a cell, some images at a time."""
    for start in range(len(cell["bits"]), len(batch), CHUNK):
        rows = slice(start, start + CHUNK)
        found = conditional_bits(
            model,
            batch.x[rows],
            observed[rows],
            condition=None if batch.condition is None else batch.condition[rows],
            generator=torch.Generator().manual_seed(derive_seed(seed, start)),
            **arguments,
        )
        cell["bits"] += [round(value, 5) for value in found.bits_per_dim.tolist()]
        if found.effective_sample_size is not None:
            cell["effective"] += [round(value, 2) for value in found.effective_sample_size.tolist()]
        save()


def mean(values):
    return float(np.mean(values)), float(np.std(values, ddof=1) / math.sqrt(len(values)))


def table(cells, masks, about):
    """Markdown: bits/dim by mask, then the differences from the first row, image by image."""
    rows = list(dict.fromkeys(tuple(key.split(" | ")[:2]) for key in cells))
    found = {row: [cells.get(" | ".join([*row, mask]), {"bits": []}) for mask in masks] for row in rows}
    head = f"| model | likelihood | {' | '.join(masks)} |\n|{'---|' * (2 + len(masks))}"
    lines = [
        f"Conditional bits/dim of hidden pixels, {about['data']}, {about['images']} test images.",
        "",
        head,
    ]
    for (model, kind), row in found.items():
        lines.append(f"| {model} | {kind} | {' | '.join(value(cell) for cell in row)} |")
    lines += ["", f"Less that of the first row, in pairs of one image: {' · '.join(rows[0])}.", "", head]
    for (model, kind), row in list(found.items())[1:]:
        pairs = zip(row, found[rows[0]], strict=True)
        lines.append(f"| {model} | {kind} | {' | '.join(difference(*pair) for pair in pairs)} |")
    return "\n".join(lines) + "\n"


def value(cell):
    if len(cell["bits"]) < 2:
        return ""
    text = "{:.4f} ± {:.4f}".format(*mean(cell["bits"]))
    if not cell["effective"]:
        return text
    low, middle = np.quantile(cell["effective"], (0.1, 0.5))
    return f"{text} ({middle:.1f} effective, {low:.1f} in the worst tenth)"


def difference(cell, first):
    n = min(len(cell["bits"]), len(first["bits"]))
    if n < 2:
        return ""
    return "{:+.4f} ± {:.4f}".format(*mean(np.subtract(cell["bits"][:n], first["bits"][:n])))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", metavar="NAME=RUN", help="run folders, the first is compared to")
    parser.add_argument("--out", type=Path, required=True, help="JSON file, added to what it holds")
    parser.add_argument("--masks", nargs="+", choices=MASKS, default=["random", "lower", "upper", "centre"])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--particles", type=int, nargs="+", default=[16])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folders = dict(text.split("=", 1) for text in options.models)
    models = {name: bestiary.load(folder) for name, folder in folders.items()}
    source = open_run(next(iter(folders.values()))).config.data
    data = bestiary.load_data(source["source"], **source["options"])
    for name, model in models.items():
        check_same_data(model.spec, data, name)
    batch = data.test[: options.images]
    about = {
        "data": data.name,
        "images": len(batch),
        "seed": options.seed,
        "runs": {name: open_run(folder).config.model for name, folder in folders.items()},
        "budgets": {name: open_run(folder).config.budget for name, folder in folders.items()},
        "versions": {p: importlib.metadata.version(p) for p in ("bestiary", "torch")},
    }
    stored = json.loads(options.out.read_text()) if options.out.exists() else {"about": about, "cells": {}}
    if {k: v for k, v in stored["about"].items() if k != "versions"} != {
        k: v for k, v in about.items() if k != "versions"
    }:
        sys.exit(f"{options.out}: holds other runs, images or another seed: give another --out")

    def save():
        options.out.write_text(json.dumps(stored, ensure_ascii=False) + "\n")

    for name, model in models.items():
        for kind, arguments in kinds(model, options.particles).items():
            for mask in options.masks:
                generator = torch.Generator().manual_seed(options.seed)
                observed = observed_pixels(mask, data.spec, len(batch), generator=generator)
                key = f"{name} | {kind} | {mask}"
                cell = stored["cells"].setdefault(key, {"bits": [], "effective": []})
                start = time.process_time()
                measure(model, batch, observed, cell, arguments, options.seed, save)
                seconds = time.process_time() - start
                print(f"{key}: {value(cell)}, {seconds:.0f} s", file=sys.stderr, flush=True)
    text = table(stored["cells"], options.masks, about)
    options.out.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
