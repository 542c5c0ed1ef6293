"""Colour: `pixelcnn++` and `gated-pixelcnn` on cartoon faces of 32 × 32, beside a histogram for each pixel.

    OMP_NUM_THREADS=1 python benchmarks/faces.py --budget '60 minutes' --out benchmarks/faces.json

Each model learns the 20,000 training faces for the budget. The table has exact test bits/dim (2,000
faces, 256 levels) and the kernel distance of as many samples to the test faces on EfficientNet-Lite0's
features. The histogram model counts the levels of every sub-pixel in the training faces, plus one each, and
takes them for independent: what a model gains over it is what it knows of how pixels go together. `--figure`
saves samples, and completions of test faces of which a half is hidden. Interrupted, the same command goes on
where it stopped.
"""

import argparse
import importlib.metadata
import json
import math
import sys
from datetime import date
from pathlib import Path

import torch
from finished_run import finished_run

import bestiary
from bestiary.metrics import embedding, kernel_distance
from bestiary.runs.pictures import image_grid
from bestiary.tasks import complete, completion_picture, observed_pixels

MODELS = {
    "pixelcnn++": {
        "filters": 32,
        "resnets": 1,
        "mixtures": 5,
        "dropout": 0.0,
        "polyak": 0.998,
        "optimizer": "soap",
        "learning_rate": 4e-3,
        "learning_rate_decay": 0.9998,
        "batch_size": 4,
    },
    "gated-pixelcnn": {"layers": 10, "channels": 24, "kernel_size": 5, "head_channels": 96, "batch_size": 8},
}
LEVELS = 256
SHOWN = 36  # samples in the picture


def histogram(data, n, seed):
    """Bits/dim of each test image under independent sub-pixels, and n samples."""
    levels = (data.train[:].x * (LEVELS - 1)).round().long().flatten(1)
    counts = torch.ones(levels.shape[1], LEVELS, dtype=torch.float64)
    for part in levels.split(1000):
        counts.scatter_add_(1, part.T, torch.ones(part.T.shape, dtype=torch.float64))
    mass = counts / counts.sum(1, keepdim=True)
    test = (data.test[:n].x * (LEVELS - 1)).round().long().flatten(1)
    bits = -mass.log2().gather(1, test.T).mean(0)
    generator = torch.Generator().manual_seed(seed)
    samples = torch.multinomial(mass, n, replacement=True, generator=generator).T.float() / (LEVELS - 1)
    return bits, samples.unflatten(1, data.spec.shape)


def scored(model, data, n):
    """Exact nats of each test image."""
    with torch.no_grad():
        return torch.cat([-model.log_prob(batch.x) for batch in data.test.batches(50, limit=n)]).double()


def learned(options, data, name):
    """Bits/dim of each test image, samples, and what the training cost."""
    model = bestiary.create(name, spec=data.spec, preset="laptop", seed=options.seed, **MODELS[name])
    run = finished_run(model, data, budget=options.budget, out=options.runs / name, seed=options.seed)
    model = bestiary.load(run.folder)
    nats = scored(model, data, options.n)
    generator = torch.Generator().manual_seed(options.seed)
    samples = torch.cat([model.sample(100, generator=generator) for _ in range(options.n // 100)])
    if options.figure:
        file = name.replace("++", "-pp")
        image_grid(samples[:SHOWN], columns=12).save(options.figure / f"faces-{file}.png")
        x = data.test[:6].x
        for mask in ("lower", "right"):
            observed = observed_pixels(mask, data.spec)
            images = complete(model, x, observed, n=4, generator=generator).images
            completion_picture(x, observed, images).save(options.figure / f"faces-{file}-{mask}.png")
    clock = {key: run.state["clock"][key] for key in ("examples", "rounds", "seconds")}
    cost = {"budget": options.budget, "settings": model.settings, "parameters": model.parameter_count} | clock
    return nats / (math.log(2) * data.spec.dimensions), samples, cost


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--budget", default="60 minutes")
    parser.add_argument("--runs", type=Path, default=Path("runs/faces"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=MODELS)
    parser.add_argument("--n", type=int, default=2000, help="test faces, and samples of each model")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    data = bestiary.load_data("faces", size=32)
    network = embedding("efficientnet-lite0", data=data)
    real = network.features(data.test[: options.n].x)
    kept = json.loads(options.out.read_text())["models"] if options.out.exists() else {}
    for name in ["histogram of each pixel", *options.models]:
        if name in kept:
            continue
        cost = {}
        if name in MODELS:
            bits, samples, cost = learned(options, data, name)
        else:
            bits, samples = histogram(data, options.n, options.seed)
        distance = kernel_distance(real=real, fake=network.features(samples), embedding=network.protocol)
        kept[name] = {
            "bits_per_dim": round(float(bits.mean()), 4),
            "bits_error": round(float(bits.std()) / math.sqrt(len(bits)), 4),
            "kernel_distance": distance.value,
            "kernel_error": distance.error,
            **cost,
        }
        about = {
            "command": f"python {' '.join(sys.argv)}",
            "seed": options.seed,
            "protocol": distance.protocol,
            "threads": torch.get_num_threads(),
            "versions": {name: importlib.metadata.version(name) for name in ("bestiary", "torch")},
            "date": str(date.today()),
        }
        options.out.write_text(json.dumps({**about, "models": kept}, indent=1) + "\n")
        print(name, kept[name], flush=True)


if __name__ == "__main__":
    main()
