"""Dynamically binarised MNIST, test nats, beside the published numbers: one row at a time.

    OMP_NUM_THREADS=1 python benchmarks/mnist_likelihood.py vae --runs runs/mnist

Each ROW names a model, its settings and its budget. Interrupted, the same command goes on in the middle of
the training. Autoregressive models have exact likelihoods; the others the importance-weighted bound of 5,000
codes for each of the 10,000 test images, the number of the papers, with their ELBO and active units. One JSON
file a row: command, seed, versions, time, the training's curve and the result. `--table` prints them all.
`vampprior --picture FILE` draws the pseudo-images of a finished training, above samples.
"""

import argparse
import importlib.metadata
import json
import sys
import time
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import torch
from finished_run import finished_run

import bestiary
from bestiary.runs.pictures import image_grid

_BURDA = {
    "hidden": [200, 200],
    "latent_dim": 50,
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "schedule": "burda",
}
_SOAP_VAE = {
    "hidden": [200, 200],
    "latent_dim": 50,
    "optimizer": "soap",
    "learning_rate": 6e-3,
    "anneal": 1.0,
    "warmup": 20.0,
    "batch_size": 200,
}
_VAMP = {
    "hidden": [300, 300],
    "activation": "gated",
    "latent_dim": 40,
    "optimizer": "adam",
    "learning_rate": 5e-4,
    "warmup": 10.0,
    "kl": "sampled",
    "batch_size": 100,
}
_PIXELS = {"channels": 16, "head_channels": 32}
_ADAM = {"optimizer": "adam", "learning_rate": 5e-3, "anneal": 1.0, "batch_size": 16}
_SOAP = {"optimizer": "soap", "learning_rate": 4e-3, "anneal": 1.0, "batch_size": 16}
_GATED = {**_PIXELS, "layers": 10, "kernel_size": 3}
_RNN = {"layers": 7, "optimizer": "adam", "learning_rate": 1.5e-3, "anneal": 0.6, "batch_size": 32}

_PIXELCNN = "81.45, 457 epochs of a reproduction of the same size (81.30 on fixed binarisation)"
_GATED_PIXELCNN = "81.50, 457 epochs with 10 layers of 128 maps"


@dataclass(frozen=True)
class Row:
    """A model, its settings and budget, and what is published: test nats, and of what."""

    model: str
    budget: str
    published: str
    settings: dict = field(default_factory=dict)
    seed: int = 0


ROWS = {
    "pixelcnn": Row(
        "pixelcnn", "28 epochs", _PIXELCNN, {**_PIXELS, **_SOAP, "learning_rate": 2e-3, "weight_decay": 0.01}
    ),
    "pixelcnn-no-decay": Row("pixelcnn", "36 epochs", _PIXELCNN, {**_PIXELS, **_SOAP}),
    "pixelcnn-adam": Row("pixelcnn", "12 epochs", _PIXELCNN, {**_PIXELS, **_ADAM}),
    "gated-pixelcnn": Row("gated-pixelcnn", "18 epochs", _GATED_PIXELCNN, {**_GATED, **_SOAP}),
    "gated-pixelcnn-adam": Row("gated-pixelcnn", "8 epochs", _GATED_PIXELCNN, {**_GATED, **_ADAM}),
    "pixelrnn-diagonal": Row(
        "pixelrnn-diagonal",
        "7 epochs",
        "79.20 on fixed binarisation; 82.12 of 2 layers of 64 maps",
        {**_PIXELS, **_RNN},
    ),
    "pixelrnn-row": Row("pixelrnn-row", "4 epochs", "80.54 on fixed binarisation", {**_PIXELS, **_RNN}),
    "vae": Row("vae", "300 epochs", "86.76 after 3,280 epochs", _SOAP_VAE),
    "vae-adam": Row("vae", "364 epochs", "86.76 after 3,280 epochs", {**_BURDA, "batch_size": 100}),
    "iwae-1": Row("iwae", "40 epochs", "86.76 after 3,280 epochs, as vae", {"particles": 1}),
    "iwae-5": Row("iwae", "40 epochs", "85.54 after 3,280 epochs", {"particles": 5}),
    "iwae-50": Row("iwae", "40 epochs", "84.78 after 3,280 epochs", {"particles": 50}),
    "ladder-vae": Row("ladder-vae", "100 epochs", "82.12 after 2,000 epochs", {"warmup": 50.0}),
    "standard-prior": Row("vae", "100 epochs", "84.50, trained until it stops to improve", _VAMP),
    "vampprior": Row(
        "vae", "100 epochs", "82.38, trained until it stops to improve", {**_VAMP, "prior": "vampprior"}
    ),
}


@torch.no_grad()
def own_samples(model, n=1000):
    """Two estimates of the model's entropy from its own samples, nats: they agree if samples are the model's.

    One is the mean of −log p(x), the other that of the entropies of the conditionals along each sample.
    """
    x = model.sample(n, generator=torch.Generator().manual_seed(0))
    nats, entropies = [], []
    with model.evaluation():
        for some in x.split(100):
            log_p = model.logits(some).log_softmax(dim=1)
            entropies.append(-(log_p.exp() * log_p).flatten(1).sum(dim=1))
            nats.append(-model.log_prob(some))
    nats, entropies = torch.cat(nats).double(), torch.cat(entropies).double()
    return {
        "n": n,
        "nats": round(float(nats.mean()), 3),
        "entropies_of_conditionals": round(float(entropies.mean()), 3),
        "error_of_difference": round(float((nats - entropies).std()) / n**0.5, 3),
    }


@torch.no_grad()
def result(run, data, particles):
    """Test nats: exact, or the bound of many codes; mean and standard error over images."""
    model, images = bestiary.load(run.folder), data.test
    found = {}
    if hasattr(model, "log_prob"):
        nats = torch.cat([-model.log_prob(batch.x) for batch in images.batches(250)]).double()
        found |= {"kind": "exact", "own_samples": own_samples(model)}
    else:
        generator, nats, elbo, means = torch.Generator().manual_seed(0), [], [], []
        for batch in images.batches(50):
            nats.append(-model.log_prob_bound(batch.x, particles=particles, generator=generator))
            elbo.append(-model.elbo(batch.x, generator=generator))
            means.append(model.encode(batch.x))
        nats, elbo = torch.cat(nats).double(), torch.cat(elbo).double()
        units = bestiary.metrics.active_units(means=torch.cat(means))
        found |= {"kind": f"bound of {particles} codes", "elbo": round(float(elbo.mean()), 3)}
        found |= {"active_units": int(units.value)}
    error = float(nats.std()) / len(nats) ** 0.5
    return {"nats": round(float(nats.mean()), 3), "error": round(error, 3), "images": len(nats), **found}


def curve(run, points=60):
    """Mean training nats along the way, at most so many points."""
    lines = [line for line in run.log() if "loss" in line or "model/loss" in line]
    step = max(1, len(lines) // points)
    return [[line["examples"], round(line.get("model/loss", line.get("loss")), 3)] for line in lines[::step]]


def table(folder):
    """Markdown of every result there is."""
    print("| row | budget | test nats | kind | ELBO | active units | minutes | published |")
    print("|---|---|---|---|---|---|---|---|")
    for name in ROWS:
        path = folder / f"{name}.json"
        if path.exists():
            kept = json.loads(path.read_text())
            found = kept["result"]
            print(
                f"| `{name}` | {kept['budget']} | {found['nats']:.2f} ± {found['error']:.2f} |"
                f" {found['kind']} | {found.get('elbo', '')} | {found.get('active_units', '')} |"
                f" {kept['minutes']} | {kept['published']} |"
            )


def picture(run, n=40):
    """The first pseudo-images of a VampPrior, clamped as the model sees them, and below them samples."""
    model = bestiary.load(run)
    samples = model.sample(n, generator=torch.Generator().manual_seed(0))
    return image_grid(torch.cat([model.prior.examples().detach()[:n], samples]), columns=n // 2)


def run_row(name, row, runs, out, particles=5000):
    """Train a row, or go on with it, measure it, and write its JSON file."""
    data = bestiary.load_data("mnist", binarise="dynamic")
    model = bestiary.create(row.model, spec=data.spec, seed=row.seed, **row.settings)
    run = finished_run(model, data, budget=row.budget, out=runs / name, seed=row.seed)
    begin = time.monotonic()
    found = result(run, data, particles)
    kept = {
        "command": f"python {' '.join(sys.argv)}",
        "model": row.model,
        "settings": row.settings,
        "budget": row.budget,
        "seed": row.seed,
        "published": row.published,
        "result": found,
        "minutes": round(run.state["clock"]["seconds"] / 60, 1),
        "evaluation_minutes": round((time.monotonic() - begin) / 60, 1),
        "parameters": model.parameter_count,
        "threads": torch.get_num_threads(),
        "precision": run.state["hardware"]["precision"],
        "versions": {package: importlib.metadata.version(package) for package in ("bestiary", "torch")},
        "date": str(date.today()),
        "curve": curve(run),
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n")
    print(name, json.dumps(found), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("row", nargs="?", choices=ROWS)
    parser.add_argument("--runs", type=Path, default=Path("runs/mnist"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/mnist-likelihood"))
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--picture", type=Path, metavar="FILE")
    options = parser.parse_args()
    if options.picture:
        picture(options.runs / options.row).save(options.picture)
    elif options.table or not options.row:
        table(options.out)
    else:
        run_row(options.row, ROWS[options.row], options.runs, options.out)


if __name__ == "__main__":
    main()
