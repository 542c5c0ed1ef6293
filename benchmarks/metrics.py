"""Speed and memory of the sample metrics against the libraries they replace, both sides in one run.

    python benchmarks/metrics.py --n 10000 --dim 2048 --repetitions 3 --out benchmarks/metrics.json

Each repetition runs ours and theirs one after the other on the same features; what is printed are medians.
The features have full-rank covariances with a decaying spectrum. Peers: NumPy's covariance with
`scipy.linalg.sqrtm`; torchmetrics' Fréchet distance on the same moments (--torchmetrics: minutes at 2,048
dimensions, run once); prdc; and the published procedure of PRD, which is mini-batch k-means on the union,
20 clusters, 10 starts, 10 runs. `--peaks 50000` measures the peak memory of the manifold metrics at that
number of examples in a process of its own (a float32 file of features is written for it).
"""

import argparse
import contextlib
import importlib.metadata
import io
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bestiary import metrics

Measured = dict[str, Any]


def features(n: int, dim: int, seed: int) -> tuple[Tensor, Tensor]:
    """Real and fake, float64, (n, dim): standard deviations fall as a power law, in random directions."""
    generator = torch.Generator().manual_seed(seed)
    spectrum = torch.arange(1, dim + 1, dtype=torch.float64).pow(-0.5)
    mixing = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64)).Q
    draw = torch.randn(2 * n, dim, generator=generator, dtype=torch.float64)
    real = (draw[:n] * spectrum) @ mixing
    tilt = torch.randn(dim, dim, generator=generator, dtype=torch.float64) * 0.05 / dim**0.5
    turned = torch.linalg.qr(mixing + tilt).Q  # the covariances do not commute
    return real, (draw[n:] * spectrum * 1.01 + 0.01) @ turned


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start


def compared(ours: Callable[[], Any], theirs: Callable[[], Any], repetitions: int) -> Measured:
    """Medians of both, run in turn, and the last result of each under `results`."""
    seconds: list[tuple[float, float]] = []
    results: tuple[Any, Any] = (None, None)
    for _ in range(repetitions):
        mine, my_time = timed(ours)
        other, other_time = timed(theirs)
        results = mine, other
        seconds.append((my_time, other_time))
    mine_median, other_median = (statistics.median(side) for side in zip(*seconds, strict=True))
    return {
        "seconds": round(mine_median, 3),
        "their_seconds": round(other_median, 3),
        "times_faster": round(other_median / mine_median, 2),
        "results": results,
    }


def scipy_frechet(moments: Callable[[], list[np.ndarray]]) -> float:
    from scipy.linalg import sqrtm

    mean, covariance, other_mean, other_covariance = moments()
    root = sqrtm(covariance @ other_covariance)
    shift = mean - other_mean
    return float(shift @ shift + np.trace(covariance) + np.trace(other_covariance) - 2 * np.trace(root).real)


def frechet(real: Tensor, fake: Tensor, options: argparse.Namespace) -> Measured:
    x, y = real.numpy(), fake.numpy()

    def moments() -> list[np.ndarray]:
        return [x.mean(axis=0), np.cov(x, rowvar=False), y.mean(axis=0), np.cov(y, rowvar=False)]

    whole = compared(
        lambda: metrics.frechet_distance(real=real, fake=fake),
        lambda: scipy_frechet(moments),
        options.repetitions,
    )
    known = moments()
    streamed = [metrics.FeatureStatistics().update(side) for side in (real, fake)]
    step = compared(
        lambda: metrics.frechet_distance(real=streamed[0], fake=streamed[1]),
        lambda: scipy_frechet(lambda: known),
        options.repetitions,
    )
    score, theirs = whole.pop("results")
    step.pop("results")
    found = {
        "value": score.value,
        "error": score.error,
        "relative_difference": abs(score.value - theirs) / theirs,
        "end to end, with error bar, against numpy.cov and scipy sqrtm": whole,
        "distance step alone, against scipy sqrtm": step,
    }
    if options.torchmetrics:
        from torchmetrics.image.fid import _compute_fid

        (value, seconds) = timed(
            lambda: _compute_fid(real.mean(0), real.T.cov(), fake.mean(0), fake.T.cov()).item()
        )
        found["end to end, with error bar, against torchmetrics"] = {
            "seconds": whole["seconds"],
            "their_seconds": round(seconds, 3),
            "times_faster": round(seconds / whole["seconds"], 2),
            "relative_difference": abs(score.value - value) / value,
        }
    return found


def manifold(real: Tensor, fake: Tensor, options: argparse.Namespace) -> Measured:
    from prdc import compute_prdc

    x, y, k = real.numpy(), fake.numpy(), 5

    def theirs() -> dict[str, float]:
        with contextlib.redirect_stdout(io.StringIO()):
            return dict(compute_prdc(x, y, nearest_k=k))

    def all_four() -> dict[str, float]:
        pr, dc = metrics.precision_recall_density_coverage(real=real, fake=fake, k=k, density_k=k)
        return {
            "precision": pr.precision,
            "recall": pr.recall,
            "density": dc.density,
            "coverage": dc.coverage,
        }

    measured = compared(all_four, theirs, options.repetitions)
    mine, other = measured.pop("results")
    _, alone = timed(lambda: metrics.manifold_precision_recall(real=real, fake=fake, k=k))
    _, counted = timed(lambda: metrics.density_coverage(real=real, fake=fake, k=k))
    return {
        "values": mine,
        "greatest_difference": max(abs(mine[name] - other[name]) for name in mine),
        "precision, recall, density and coverage with error bars, against prdc": measured,
        "manifold_precision_recall alone": {"seconds": round(alone, 3)},
        "density_coverage alone": {"seconds": round(counted, 3)},
    }


def published_prd(real: Tensor, fake: Tensor, seed: int) -> tuple[float, float]:
    """F8 and F1/8 as the authors' script computes them."""
    from sklearn.cluster import MiniBatchKMeans

    union, n = np.concatenate([real.numpy(), fake.numpy()]), len(real)
    slopes = np.tan(np.linspace(1e-10, np.pi / 2 - 1e-10, 1001))
    curves = []
    for run in range(10):
        labels = MiniBatchKMeans(n_clusters=20, n_init=10, random_state=10 * seed + run).fit(union).labels_
        p, q = (np.bincount(part, minlength=20) / n for part in (labels[:n], labels[n:]))
        precision = np.minimum(p * slopes[:, None], q).sum(axis=1)
        curves.append((precision, precision / slopes))
    precision, recall = np.clip(np.mean(curves, axis=0), 0, 1)
    weights = [64.0, 1 / 64]
    f8, f_eighth = (((1 + w) * precision * recall / (w * precision + recall + 1e-10)).max() for w in weights)
    return float(f8), float(f_eighth)


def prd(real: Tensor, fake: Tensor, options: argparse.Namespace) -> Measured:
    seeds = iter(range(10**6))
    values: dict[str, list[tuple[float, float]]] = {"ours": [], "published": []}

    def ours() -> None:
        generator = torch.Generator().manual_seed(next(seeds))
        curve = metrics.precision_recall_curve(real=real, fake=fake, generator=generator)
        values["ours"].append((curve.f_beta(8), curve.f_beta(1 / 8)))

    def theirs() -> None:
        values["published"].append(published_prd(real, fake, next(seeds)))

    measured = compared(ours, theirs, options.repetitions)
    measured.pop("results")
    found: Measured = {"against the published procedure": measured}
    for index, name in enumerate(("F8", "F1/8")):
        sides = {side: [pair[index] for pair in pairs] for side, pairs in values.items()}
        found[name] = {
            "difference_of_means": statistics.mean(sides["ours"]) - statistics.mean(sides["published"]),
            **{side: [round(v, 5) for v in found_values] for side, found_values in sides.items()},
        }
    return found


def peak(n: int, dim: int, seed: int) -> Measured:
    """Peak resident memory of the manifold metrics at (n, dim), in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "features.npy"
        generator = torch.Generator().manual_seed(seed)
        stored = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(2 * n, dim))
        spectrum = torch.arange(1, dim + 1).pow(-0.5)
        for start in range(0, 2 * n, 5000):
            rows = min(5000, 2 * n - start)
            stored[start : start + rows] = torch.randn(rows, dim, generator=generator) * spectrum
        stored.flush()
        command = [sys.executable, __file__, "--peak-of", str(path)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    # Three float64 matrices of n² distances, as prdc holds them.
    return {**json.loads(done.stdout), "gib_of_prdcs_three_matrices": round(3 * 8 * n**2 / 2**30, 1)}


def peak_of(path: Path) -> None:
    both = np.load(path)
    real, fake = np.split(both, 2)
    start = time.perf_counter()
    pr, dc = metrics.precision_recall_density_coverage(real=real, fake=fake)
    seconds = time.perf_counter() - start
    gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    shape = {"n": len(real), "dim": both.shape[1]}
    values = {"precision": pr.precision, "recall": pr.recall, "density": dc.density, "coverage": dc.coverage}
    print(json.dumps({**shape, "seconds": round(seconds, 1), "peak_gib": round(gib, 2), "values": values}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--metrics", nargs="*", default=["frechet", "manifold", "prd"], choices=list(METRICS))
    parser.add_argument("--n", type=int, default=3000, help="examples of each set")
    parser.add_argument("--dim", type=int, default=512, help="features an example")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--torchmetrics", action="store_true", help="time torchmetrics too, once")
    parser.add_argument("--peaks", type=int, nargs="*", default=[], help="sizes to measure the memory at")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file, written after every metric; printed in any case")
    parser.add_argument("--peak-of", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak_of:
        peak_of(options.peak_of)
        return
    warnings.simplefilter("ignore")  # torchmetrics and scipy announce deprecations
    packages = ("torch", "numpy", "scipy", "scikit-learn", "torchmetrics", "prdc")
    result: Measured = {
        "command": " ".join(["python", *sys.argv]),
        "date": time.strftime("%Y-%m-%d"),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
        **{"n": options.n, "dim": options.dim, "seed": options.seed, "repetitions": options.repetitions},
    }
    real, fake = features(options.n, options.dim, options.seed)
    steps: list[tuple[str, Callable[[], Measured]]] = [
        (name, lambda name=name: METRICS[name](real, fake, options)) for name in options.metrics
    ]
    steps += [(f"memory at {n:,}", lambda n=n: peak(n, options.dim, options.seed)) for n in options.peaks]
    for name, step in steps:
        result[name] = step()
        print(name, json.dumps(result[name], indent=1), flush=True)
        if options.out:
            options.out.write_text(json.dumps(result, indent=1) + "\n")


METRICS: dict[str, Callable[[Tensor, Tensor, argparse.Namespace], Measured]] = {
    "frechet": frechet,
    "manifold": manifold,
    "prd": prd,
}

if __name__ == "__main__":
    main()
