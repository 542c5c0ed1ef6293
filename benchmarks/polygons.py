"""Calibration of precision, recall and F1 on the triangles, on cases whose answer is known.

    python benchmarks/polygons.py --out benchmarks/polygons.json

Precision must be 1 for held-out images of the data and 0 for noise, blank and blurred images. Recall must be
1 for a generator of all triangles and the known share for one that lacks some. L-BFGS (scipy's, 50 steps,
with the same derivatives) fits a few images too, from 8 random triangles and from the same 8 starts.
"""

import argparse
import json
import math
import platform
import time
from pathlib import Path

import numpy as np
import scipy
import torch
from scipy.optimize import minimize
from torch.nn import functional as F

from bestiary.data import load_data
from bestiary.data.polygons import MARGIN, RADIUS, corners
from bestiary.metrics import nearest_neighbours, polygon_distance, precision_recall_f1
from bestiary.metrics.polygons import _bank, _normal_equations, render

DELTA = 0.75
SEED = 0


def distances(images):
    start = time.process_time()
    found = polygon_distance(images)
    milliseconds = 1000 * (time.process_time() - start) / len(images)
    finite = found[found.isfinite()]
    return {
        "n": len(images),
        "precision": (found <= DELTA).double().mean().item(),
        "distance_mean": finite.mean().item() if len(finite) else None,
        "distance_max": finite.max().item() if len(finite) else None,
        "share_without_area": 1 - len(finite) / len(images),
        "milliseconds_per_image": milliseconds,
    }


def generator_of_triangles(share):
    """From codes in [−1, 1]⁴, three corners and the rotation: the first keeps to a share of its part."""

    def decode(z):
        u = (z + 1) / 2
        part = 2 * math.pi / 3
        where = u[:, :3] * torch.tensor([share, 1, 1]) * (part - MARGIN)
        angle = MARGIN + part * torch.arange(3) + where - math.radians(2 * math.pi) * u[:, 3:]
        x = RADIUS * torch.stack([angle.cos(), angle.sin()], dim=2)
        return render(x + 14 - x.mean(dim=1, keepdim=True))

    return decode


def recall_of(real, share):
    latents = 2 * torch.rand(1000, 4, generator=torch.Generator().manual_seed(SEED)) - 1
    start = time.process_time()
    found = precision_recall_f1(real=real, latents=latents, decode=generator_of_triangles(share))
    return {**found.__dict__, "seconds": time.process_time() - start}


def by_lbfgs(images, starts):
    """Least squared distance of each image by scipy's L-BFGS from each of its starts (n, 8, V, 2)."""

    def cost(flat, target):
        squares, _, gradient = _normal_equations(torch.from_numpy(flat).view(1, -1, 2), target)
        return squares.item(), 2 * gradient[0].numpy()

    start, evaluations, best = time.process_time(), 0, []
    for target, some in zip(images.double().flatten(1), starts, strict=True):
        runs = [
            minimize(cost, p.flatten().numpy(), (target[None],), jac=True, method="L-BFGS-B",
                     options={"maxiter": 50})
            for p in some
        ]  # fmt: skip
        best.append(min(run.fun for run in runs))
        evaluations += sum(run.nfev for run in runs)
    return {
        "n": len(images),
        "precision": float(np.mean(np.array(best) <= DELTA)),
        "distance_mean": float(np.mean(best)),
        "distance_max": float(np.max(best)),
        "evaluations_per_image": evaluations / len(images),
        "milliseconds_per_image": 1000 * (time.process_time() - start) / len(images),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=int, default=1000, help="held-out images, and of each kind of bad ones")
    parser.add_argument("--real", type=int, default=64, help="test images that recall is measured on")
    parser.add_argument("--lbfgs", type=int, default=20, help="images that L-BFGS fits too")
    parser.add_argument("--out", type=Path, help="write the result to this file too")
    options = parser.parse_args()
    start = time.process_time()
    data = load_data("triangles")
    loading = time.process_time() - start
    held_out = data.validation[: options.n].x
    generator = torch.Generator().manual_seed(SEED)
    polygon_distance(held_out[:1])  # the bank of starts is drawn once
    few = held_out[: options.lbfgs]
    bank, drawn = _bank(3)
    near = nearest_neighbours(queries=few.flatten(1), references=drawn, k=8)[1]
    u = np.random.default_rng(SEED).random((8 * len(few), 4))
    random = torch.from_numpy(corners(u, faithful=False)).view(-1, 8, 3, 2)
    result = {
        "torch": torch.__version__,
        "scipy": scipy.__version__,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "seed": SEED,
        "delta": DELTA,
        "loading_seconds": loading,
        "held_out": distances(held_out),
        "noise": distances(torch.rand(100, 1, 28, 28, generator=generator)),
        "blank": distances(torch.stack([torch.ones(1, 28, 28), torch.zeros(1, 28, 28)])),
        "blurred": distances(F.avg_pool2d(F.pad(held_out[:100], [1] * 4, value=1), 3, 1)),
        "noise_of_0.02": distances(
            (held_out[:100] + 0.02 * torch.randn(100, 1, 28, 28, generator=generator)).clamp(0, 1)
        ),
        "few_of_held_out": distances(few),
        "few_by_lbfgs_from_random_starts": by_lbfgs(few, random),
        "few_by_lbfgs_from_the_same_starts": by_lbfgs(few, bank[near]),
        "all_triangles": recall_of(data.test[: options.real].x, 1.0),
        "triangles_with_half_of_the_first_corner": recall_of(data.test[: options.real].x, 0.5),
    }
    text = json.dumps(result, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
