"""Is a likelihood a test of what is odd? Fashion-MNIST against MNIST, after Ren et al. and Serrà et al.

    python benchmarks/likelihood_ratio.py --folder runs/ratio --out benchmarks/likelihood_ratio.json

`pixelcnn++` is trained on Fashion-MNIST (the foreground), and again on images of which each pixel is
replaced by a uniform level with probability μ (the backgrounds). Scores of test images, higher for what is
less odd: log p, the ratio log p − log p₀ (*Likelihood Ratios for Out-of-Distribution Detection*, Ren et al.,
2019, arXiv 1906.02845) and the complexity score log₂ p + L, with L the bits of the image as PNG (*Input
Complexity and Out-of-distribution Detection with Likelihood-based Generative Models*, Serrà et al., 2020,
arXiv 1909.11480). AUROC is the probability that a Fashion-MNIST image scores higher than one of MNIST; AUPRC
has Fashion-MNIST as its positives; the false positive rate is that at 80 % true positives.

Settings are those of the authors' code: one resolution, 5 blocks, 32 filters, one logistic, no dropout,
weight norm or averaging, Adam with 1e-4, batches of 32, 50,000 updates, which is 32 epochs here. Differences:
pixels are scaled to [−1, 1] and log s is bounded below by −7, where the code bounds s of raw pixels. They
choose μ and the weight of the penalty λ Σ w² on NotMNIST, which is not at hand: every pair that is asked for
is reported. Their released training never adds the penalty to its cost. `--resnets`, `--optimizer` and so on
reduce the setting, and the result names them. Models and scores that are in the folder already are not
computed again; a training that was interrupted goes on.
"""

import argparse
import dataclasses
import json
import math
import os
import platform
import sys
from datetime import date
from pathlib import Path

import numpy as np
import torch
from finished_run import finished_run
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

import bestiary
from bestiary.data.specs import ImageSpec
from bestiary.data.splits import Batch, Split
from bestiary.models.autoregressive.pixelcnn_pp import PixelCNNPlusPlus
from bestiary.networks.shifted import ShiftedConv2d
from bestiary.randomness import forked_randomness
from bestiary.tasks import png_bits

SETS = {"in": "fashion-mnist", "out": "mnist"}
SETTINGS = ("filters", "resnets", "optimizer", "learning_rate", "batch_size")


class Penalised(PixelCNNPlusPlus):
    """PixelCNN++ with λ Σ w², summed over the weights of convolutions, added to the nats per image."""

    def __init__(
        self,
        spec: ImageSpec,
        *,
        l2: float = 0.0,
        filters: int = 32,
        resnets: int = 5,
        optimizer: str = "adam",
        learning_rate: float = 1e-4,
        batch_size: int = 32,
    ) -> None:
        super().__init__(
            spec,
            filters=filters,
            resnets=resnets,
            resolutions=1,
            mixtures=1,
            dropout=0.0,
            weight_norm=False,
            optimizer=optimizer,
            learning_rate=learning_rate,
            polyak=0.0,
            batch_size=batch_size,
        )
        self.l2 = l2

    def cost(self, step):
        terms = dict(super().cost(step))
        if self.l2:
            weights = [m.direction for m in self.modules() if isinstance(m, ShiftedConv2d)]
            terms["penalty"] = self.l2 * sum(w.square().sum() for w in weights)
            terms["loss"] = terms["loss"] + terms["penalty"]
        return terms


class Mutated(Split):
    """Images of another split, each pixel replaced by a uniform level with probability `rate`, anew."""

    endless = False

    def __init__(self, split, rate, levels):
        self.split, self.rate, self.levels, self.labels = split, rate, levels, split.labels

    def __len__(self):
        return len(self.split)

    def take(self, indices, *, generator=None):
        batch = self.split.take(indices, generator=generator)
        draw = torch.Generator().manual_seed(0) if generator is None else generator
        chosen = torch.rand(batch.x.shape, generator=draw) < self.rate
        levels = torch.randint(self.levels, batch.x.shape, generator=draw) / (self.levels - 1)
        return Batch(torch.where(chosen, levels, batch.x), batch.condition)


def mutated(data, rate):
    """The data set whose training images are mutated."""
    name = f"{data.name}-mutated-{rate}"
    train = Mutated(data.train, rate, data.spec.levels)
    return dataclasses.replace(data, name=name, train=train, fingerprint=f"{data.fingerprint}-{name}")


def trained(data, folder, seed, options, l2=0.0):
    """The model of a run folder, which is trained, or trained further, where it is not finished."""
    with forked_randomness(seed):
        model = Penalised(data.spec, l2=l2, **{name: getattr(options, name) for name in SETTINGS})
    budget = f"{options.epochs} epochs"
    run = finished_run(model, data, budget=budget, out=folder, seed=seed)
    return bestiary.load(run.folder, model=Penalised)


def log_probs(make, folder, limit):
    """log p of the test images of both sets, nats, float64; kept beside the run folder."""
    kept = folder.with_name(f"{folder.name}-{limit}.npz")
    if not kept.exists():
        model, found = make(), {}
        for key, name in SETS.items():
            batches = bestiary.load_data(name).test.batches(500, limit=limit)
            with model.evaluation():
                found[key] = np.concatenate([model.log_prob(batch.x).double().numpy() for batch in batches])
        np.savez(kept, **found)
    with np.load(kept, allow_pickle=False) as found:
        return dict(found)


def png_lengths(limit):
    """Length of each test image as PNG, in bits."""
    found = {}
    for key, name in SETS.items():
        batches = bestiary.load_data(name).test.batches(500, limit=limit)
        found[key] = np.concatenate([png_bits(batch.x).numpy() for batch in batches])
    return found


def separation(score):
    """How well a score that is higher for what is less odd tells the two sets apart."""
    truth = np.repeat([1, 0], [len(score["in"]), len(score["out"])])
    scores = np.concatenate([score["in"], score["out"]])
    false, true, _ = roc_curve(truth, scores)
    return {
        "auroc": roc_auc_score(truth, scores),
        "auprc": average_precision_score(truth, scores),
        "false_positive_rate_at_80": float(false[np.searchsorted(true, 0.8)]),
    }


def one_seed(seed, options, lengths):
    data = bestiary.load_data(SETS["in"])
    folder = options.folder / f"foreground-{seed}"
    log_p = log_probs(lambda: trained(data, folder, seed, options), folder, options.images)
    bits = {key: -nats / math.log(2) for key, nats in log_p.items()}
    complexity = {key: lengths[key] - bits[key] for key in SETS}
    rows = {
        "bits_per_dim": {key: value.mean() / data.spec.dimensions for key, value in bits.items()},
        "likelihood": separation(log_p),
        "complexity": separation(complexity),
        "png_bits_alone": separation(lengths),  # what of the complexity score knows no model
        "ratio": {},
    }
    for rate in options.mutations:
        for l2 in options.l2:
            folder = options.folder / f"background-{rate}-{l2}-{seed}"
            background = log_probs(
                lambda f=folder, r=rate, w=l2: trained(mutated(data, r), f, seed, options, w),
                folder,
                options.images,
            )
            rows["ratio"][f"mutation {rate}, l2 {l2}"] = separation(
                {key: log_p[key] - background[key] for key in SETS}
            )
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="of the trainings")
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    parser.add_argument("--epochs", type=float, default=32)
    parser.add_argument("--mutations", type=float, nargs="+", default=[0.1, 0.2, 0.3])
    parser.add_argument("--l2", type=float, nargs="+", default=[0.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--images", type=int, default=10_000, help="test images of each set")
    parser.add_argument("--filters", type=int, default=32)
    parser.add_argument("--resnets", type=int, default=5)
    parser.add_argument("--optimizer", default="adam")
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--batch-size", type=int, default=32)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    lengths = png_lengths(options.images)
    result = {
        "command": " ".join(sys.argv),
        "date": date.today().isoformat(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "epochs": options.epochs,
        "settings": {name: getattr(options, name) for name in SETTINGS},
        "images": options.images,
        "seeds": {},
    }
    for seed in options.seeds:
        result["seeds"][str(seed)] = one_seed(seed, options, lengths)
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
