"""What anomaly scores are worth on Fashion-MNIST: one class against nine, and the likelihood's failure.

    OMP_NUM_THREADS=1 python benchmarks/anomalies.py one-class --runs runs/anomalies
    OMP_NUM_THREADS=1 python benchmarks/anomalies.py failure --runs runs/anomalies

`one-class` trains each model on one class alone (`only=`), ten times, and scores the whole test split: AUROC
of the other nine classes against that one, after the protocol of *Deep One-Class Classification* (Ruff et
al., 2018). `failure` trains on all of Fashion-MNIST and scores the test images of MNIST against its own: less
than 0.5 is a model to which digits are less odd than clothes, after *Do Deep Generative Models Know What They
Don't Know?* (Nalisnick et al., 2019, arXiv 1810.09136). "png" is the length of the image as PNG alone,
shorter being odder: the part of the complexity score that knows no model, and what it has to be better than.
Errors are DeLong's, over test images; of several seeds, over these. Interrupted, the same command goes on
where it stopped. A table in markdown is printed and written beside the JSON file.
"""

import argparse
import importlib.metadata
import json
import math
import sys
import time
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
import torch
from finished_run import finished_run

import bestiary
from bestiary.metrics import auroc
from bestiary.tasks import anomaly_score_names, anomaly_scores, png_bits

DATA, OTHER = "fashion-mnist", "mnist"
LIKELIHOODS = ("likelihood", "bound")


@dataclass(frozen=True)
class Row:
    """A model at its laptop settings, changed by `settings`, and its budget on one class and on all."""

    model: str
    one_class: str = "10 epochs"
    all_classes: str = "3 epochs"
    treatment: str = ""
    settings: dict = field(default_factory=dict)


ROWS = {
    "vae": Row("vae"),
    "autoencoder": Row("autoencoder"),
    "ppca": Row("ppca", settings={"latent_dim": 10}),
    "vae-bernoulli": Row("vae", treatment="-dynamic"),
    "vae-gaussian": Row("vae", settings={"likelihood": "gaussian"}),
    "pixelcnn": Row("pixelcnn", all_classes="1 epochs"),
}
DEFAULT_ROWS = {
    "one-class": ["vae", "autoencoder", "ppca"],
    "failure": ["vae", "vae-bernoulli", "vae-gaussian", "autoencoder", "ppca", "pixelcnn"],
}


def trained(row, data, budget, folder, seed):
    """The model of a run folder, trained, or trained further, where it is not finished."""
    model = bestiary.create(row.model, spec=data.spec, seed=seed, preset="laptop", **row.settings)
    return bestiary.load(finished_run(model, data, budget=budget, out=folder, seed=seed).folder)


def scores_of(model, split, images):
    """Every score that the model has of the first test images, each with a generator of its own."""
    found = {}
    for name in anomaly_score_names(model):
        generator = torch.Generator().manual_seed(0)
        found[name] = torch.cat(
            [
                anomaly_scores(model, batch.x, score=name, generator=generator)
                for batch in split.batches(250, limit=images)
            ]
        )
    return found


def area(normal, anomalous):
    found = auroc(normal=normal, anomalous=anomalous)
    return {"auroc": found.value, "error": found.error}


def one_class(options, keep):
    """A cell for each model, class and seed: AUROC of all other classes, and of each, by score."""
    whole = bestiary.load_data(DATA)
    labels = whole.test.labels[: options.images]
    for seed, name, label in (
        (seed, name, label) for seed in options.seeds for name in options.rows for label in options.classes
    ):
        row, key = ROWS[name], f"{name} | {whole.classes[label]} | {seed}"
        if keep.has(key):
            continue
        folder = options.runs / f"one-class-{name}-{label}-{seed}"
        data, budget = bestiary.load_data(DATA, only=label), options.budget or row.one_class
        model = trained(row, data, budget, folder, seed)
        cell = {"budget": budget, "scores": {}}
        for score, values in scores_of(model, whole.test, options.images).items():
            normal = values[labels == label]
            cell["scores"][score] = {
                **area(normal, values[labels != label]),
                "classes": {
                    other: area(normal, values[labels == k])
                    for k, other in enumerate(whole.classes)
                    if k != label and (labels == k).any()
                },
            }
        keep.add(key, cell)


def failure(options, keep):
    """A cell for each model and seed: AUROC of MNIST against Fashion-MNIST by score, and bits/dim of both."""
    for seed, name in ((seed, name) for seed in options.seeds for name in options.rows):
        row, key = ROWS[name], f"{name} | {seed}"
        if keep.has(key):
            continue
        own, other = (bestiary.load_data(data + row.treatment) for data in (DATA, OTHER))
        budget = options.budget or row.all_classes
        model = trained(row, own, budget, options.runs / f"failure-{name}-{seed}", seed)
        normal, odd = (scores_of(model, data.test, options.images) for data in (own, other))
        cell = {
            "budget": budget,
            "scores": {score: area(normal[score], odd[score]) for score in normal},
            "bits_per_dim": {},
        }
        lengths = [-png_bits(data.test[: options.images].x, levels=own.spec.levels) for data in (own, other)]
        cell["scores"]["png"] = area(*lengths)
        for score in LIKELIHOODS:
            if score in normal:
                cell["bits_per_dim"] = {
                    data.name: float(nats[score].mean()) / math.log(2) / own.spec.dimensions
                    for data, nats in ((own, normal), (other, odd))
                }
        keep.add(key, cell)


class Kept:
    """The JSON file: what was measured, added to what it holds."""

    def __init__(self, path, about):
        self.path, self.start = path, time.monotonic()
        self.content = json.loads(path.read_text()) if path.exists() else {"about": about, "cells": {}}
        for name in ("part", "images", "budget"):
            if self.content["about"][name] != about[name]:
                sys.exit(f"{path}: holds another {name}: give another --out")

    def has(self, key):
        self.start = time.monotonic()
        return key in self.content["cells"]

    def add(self, key, cell):
        cell = {**cell, "minutes": round((time.monotonic() - self.start) / 60, 1)}
        self.content["cells"][key] = {**cell, "date": date.today().isoformat()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.content, indent=1) + "\n")
        told = {score: round(found["auroc"], 4) for score, found in cell["scores"].items()}
        print(key, told, file=sys.stderr, flush=True)


def over_seeds(found):
    """One number of cells that differ in their seed alone, with its error."""
    values = [cell["auroc"] for cell in found]
    if len(values) == 1:
        return values[0], found[0]["error"]
    return float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(len(values))


def shown(value, error):
    return f"{value:.3f}" if error is None else f"{value:.3f} ± {error:.3f}"


def grouped(cells):
    """(name, …) → cells of all seeds."""
    groups = {}
    for key, cell in cells.items():
        groups.setdefault(tuple(key.split(" | ")[:-1]), []).append(cell)
    return groups


def one_class_table(cells):
    groups = grouped(cells)
    columns = list(
        dict.fromkeys((name, score) for (name, _), group in groups.items() for score in group[0]["scores"])
    )
    classes = list(dict.fromkeys(kind for _, kind in groups))
    found = {
        (*column, kind): over_seeds([cell["scores"][column[1]] for cell in groups[column[0], kind]])
        for column in columns
        for kind in classes
        if (column[0], kind) in groups
    }
    yield f"| trained on | {' | '.join(f'`{name}`, {score}' for name, score in columns)} |"
    yield f"|{'---|' * (1 + len(columns))}"
    for kind in classes:
        texts = [shown(*found[*column, kind]) if (*column, kind) in found else "" for column in columns]
        yield f"| {kind} | {' | '.join(texts)} |"
    means = [[value for key, (value, _) in found.items() if key[:2] == column] for column in columns]
    texts = [f"{np.mean(values):.3f} ({np.std(values):.3f})" for values in means]
    yield f"| mean (deviation over classes) | {' | '.join(texts)} |"


def failure_table(cells):
    scores = ("likelihood or bound", "reconstruction", "complexity", "png")
    yield f"| model | budget | bits/dim of Fashion-MNIST | of MNIST | {' | '.join(scores)} |"
    yield f"|{'---|' * (4 + len(scores))}"
    for (name,), group in grouped(cells).items():
        bits = [np.mean(pair) for pair in zip(*(c["bits_per_dim"].values() for c in group), strict=True)]
        texts = [f"{value:.3f}" for value in bits] or ["", ""]
        for score in scores:
            known = [s for s in (LIKELIHOODS if score == scores[0] else (score,)) if s in group[0]["scores"]]
            texts.append(shown(*over_seeds([cell["scores"][known[0]] for cell in group])) if known else "")
        yield f"| `{name}` | {group[0]['budget']} | {' | '.join(texts)} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=DEFAULT_ROWS)
    parser.add_argument("--runs", type=Path, required=True, help="folder of the trainings")
    parser.add_argument("--out", type=Path, help="JSON file, by default benchmarks/anomalies-PART.json")
    parser.add_argument("--rows", nargs="+", choices=ROWS, help="models, by default those of the part")
    parser.add_argument("--classes", type=int, nargs="+", default=list(range(10)), help="of one-class")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--budget", help="of every training, instead of each model's own")
    parser.add_argument("--images", type=int, default=10_000, help="test images of each set")
    options = parser.parse_args()
    options.rows = options.rows or DEFAULT_ROWS[options.part]
    about = {
        "command": f"python {' '.join(sys.argv)}",
        "part": options.part,
        "images": options.images,
        "budget": options.budget,
        "rows": {name: asdict(ROWS[name]) for name in options.rows},
        "preset": "laptop",
        "threads": torch.get_num_threads(),
        "versions": {package: importlib.metadata.version(package) for package in ("bestiary", "torch")},
    }
    keep = Kept(options.out or Path(f"benchmarks/anomalies-{options.part}.json"), about)
    {"one-class": one_class, "failure": failure}[options.part](options, keep)
    lines = {"one-class": one_class_table, "failure": failure_table}[options.part](keep.content["cells"])
    text = "\n".join(lines) + "\n"
    keep.path.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
