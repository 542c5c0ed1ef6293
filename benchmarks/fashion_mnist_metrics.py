"""How every metric answers to known faults of Fashion-MNIST, with every embedding.

    python benchmarks/fashion_mnist_metrics.py efficientnet-lite0 classifier pixels --n 10000 \
        --out benchmarks/fashion-mnist-metrics

Real are the first n validation images, fake the first n training images that a treatment leaves: as they are
("real"), with normal noise, blurred, or without some classes; always n, so that rows can be compared. Each
cell (embedding and treatment) is written to metrics.json as soon as it is computed, and left alone when the
command is given again; features are kept in the cache folder, a thousand images at a time. table.md and
table.csv are made from all cells that are there.
"""

import argparse
import csv
import importlib.metadata
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bestiary.data import Data, load_data
from bestiary.data.splits import ArraySplit
from bestiary.metrics import ClassifierEmbedding, class_coverage, embedding, score_features
from bestiary.metrics.embeddings import NAMES, Embedding, cached_features

PART = 1000
NOISE_SEED = 0
COLUMNS = (
    *("frechet", "frechet_extrapolated", "kernel", "prd_f8", "prd_f1_8"),
    *("precision", "recall", "density", "coverage", "inception-score", "classes"),
)


def noisy(deviation: float) -> Callable[[Tensor], Tensor]:
    def treat(x: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(NOISE_SEED)
        return x + deviation * torch.randn(x.shape, generator=generator)

    return treat


def blurred(x: Tensor) -> Tensor:
    """By a normal law of one pixel's deviation, seven pixels wide."""
    weights = torch.arange(-3.0, 4.0).square().div(-2).exp()
    kernel = (weights[:, None] * weights / weights.sum() ** 2)[None, None]
    return F.conv2d(F.pad(x, (3, 3, 3, 3), mode="replicate"), kernel)


def unchanged(x: Tensor) -> Tensor:
    return x


# Name: (first class that is kept, what is done to the images).
TREATMENTS: dict[str, tuple[int, Callable[[Tensor], Tensor]]] = {
    "real": (0, unchanged),
    "noise .05": (0, noisy(0.05)),
    "noise .1": (0, noisy(0.1)),
    "noise .2": (0, noisy(0.2)),
    "blur": (0, blurred),
    "1 class dropped": (1, unchanged),
    "5 classes dropped": (5, unchanged),
}


def training_features(data: Data, network: Embedding, treatment: str, n: int) -> Tensor:
    """Features of n training images after a treatment, (n, d)."""
    first_class, treat = TREATMENTS[treatment]
    labels = data.train.labels
    assert labels is not None
    chosen = (labels >= first_class).nonzero().squeeze(1)[:n]
    if len(chosen) < n:
        raise SystemExit(f"--n: found {n}, wanted at most {len(chosen)} for '{treatment}'")
    # Images that are not changed go through the network once for all treatments: whole parts, in order.
    count = n if treat is not unchanged else -(-(int(chosen[-1]) + 1) // PART) * PART
    images = treat(data.train[:count].x).clamp(0, 1).mul(255).round().to(torch.uint8)
    label = "train, real" if treat is unchanged else f"train, {treatment}"
    return features_of(images, label, data, network)[chosen]


def features_of(images: Tensor, name: str, data: Data, network: Embedding) -> Tensor:
    """Features of images, a part at a time, so that what was computed is never lost."""
    parts = []
    for start in range(0, len(images), PART):
        part = ArraySplit(images[start : start + PART], levels=256)
        label = f"{name} seed={NOISE_SEED} first={start}"
        parts.append(cached_features(network, part, n=len(part), fingerprint=data.fingerprint, part=label))
    return torch.cat(parts)


def cell(data: Data, network: Embedding, real: Tensor, treatment: str, n: int) -> dict[str, Any]:
    start = time.perf_counter()
    fake = training_features(data, network, treatment, n)
    probabilities = network.classify(fake) if isinstance(network, ClassifierEmbedding) else None
    table = score_features(real=real, fake=fake, embedding=network.protocol, probabilities=probabilities)
    scores = dict(table.scores)
    if probabilities is not None and data.classes and probabilities.shape[1] == len(data.classes):
        scores["classes"] = class_coverage(probabilities=probabilities, embedding=network.protocol)
    return {
        "seconds": round(time.perf_counter() - start, 1),
        "scores": {
            name: {"value": score.value, "error": score.error, "protocol": score.protocol}
            for name, score in scores.items()
        },
    }


def write_tables(folder: Path, cells: dict[str, dict[str, Any]]) -> None:
    """table.csv, a line per score, and table.md, a table per embedding and n."""
    keys = sorted(cells, key=lambda key: (key.split(" | ")[:2], list(TREATMENTS).index(key.split(" | ")[2])))
    markdown: list[str] = []
    last = None
    with (folder / "table.csv").open("w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["embedding", "n", "treatment", "metric", "value", "error", "protocol"])
        for key in keys:
            network, n, treatment = key.split(" | ")
            scores = cells[key]["scores"]
            for name, score in scores.items():
                out.writerow([network, n, treatment, name, score["value"], score["error"], score["protocol"]])
            columns = [name for name in COLUMNS if name in scores]
            if (network, n) != last:
                markdown += ["", f"**{network}**, n = {int(n):,}", "", "| |" + "|".join(columns) + "|"]
                markdown.append("|---" * (len(columns) + 1) + "|")
                last = network, n
            markdown.append(f"|{treatment}|" + "|".join(shown(scores[name]) for name in columns) + "|")
    (folder / "table.md").write_text("\n".join(markdown[1:]) + "\n")


def shown(score: dict[str, Any]) -> str:
    value, error = score["value"], score["error"]
    return f"{value:.4g}" if error is None else f"{value:.4g} ± {error:.2g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("embeddings", nargs="+", choices=NAMES)
    parser.add_argument("--n", type=int, default=10_000, help="images of each set, at most 10,000")
    parser.add_argument("--treatments", nargs="+", choices=list(TREATMENTS), default=list(TREATMENTS))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/fashion-mnist-metrics"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "metrics.json"
    stored = json.loads(path.read_text()) if path.exists() else {"cells": {}}
    packages = ("torch", "numpy", "scipy", "scikit-learn")
    data = load_data("fashion-mnist")
    if options.n > len(data.validation):
        parser.error(f"--n: found {options.n}, wanted at most {len(data.validation)}")
    for name in options.embeddings:
        network: Embedding | None = None
        for treatment in options.treatments:
            key = f"{name} | {options.n} | {treatment}"
            if key in stored["cells"]:
                continue
            network = network or embedding(name, data=data)
            print(key, file=sys.stderr, flush=True)
            real = features_of(first_validation(data, options.n), "validation", data, network)
            stored["cells"][key] = cell(data, network, real, treatment, options.n) | {
                "command": " ".join(["python", *sys.argv]),
                "date": time.strftime("%Y-%m-%d"),
                "versions": {name: importlib.metadata.version(name) for name in packages},
            }
            path.with_suffix(".tmp").write_text(json.dumps(stored, indent=1) + "\n")
            path.with_suffix(".tmp").rename(path)
            write_tables(options.out, stored["cells"])
    print((options.out / "table.md").read_text())


def first_validation(data: Data, n: int) -> Tensor:
    return data.validation[:n].x.mul(255).round().to(torch.uint8)


if __name__ == "__main__":
    main()
