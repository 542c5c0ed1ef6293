"""Do the error bars of the metrics cover at their stated rate? Many repetitions on Gaussian features.

    python benchmarks/error_bars.py --out benchmarks/error_bars.json

Each repetition draws new features from known laws and computes every metric with its error bar. A bar of one
standard error should hold the estimator's expectation at this sample size (the mean over all repetitions)
in 68.3 % of them, two in 95.4 %. `length` is the mean bar over the true deviation: 1 where it is right. The
binomial deviation of a coverage of 68 % over 200 repetitions is 3.3 points.
"""

import argparse
import importlib.metadata
import json
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from bestiary import metrics

# What is compared: fake = shift + scale · N(0, I) against real = N(0, I).
LAWS = {"equal": (0.0, 1.0), "shifted": (0.3, 1.0), "narrow": (0.0, 0.7), "shifted and wide": (0.1, 1.3)}


def scores(real: Tensor, fake: Tensor, generator: torch.Generator) -> dict[str, tuple[float, float]]:
    """Every metric that has an error bar: value and bar."""
    curve = metrics.precision_recall_curve(real=real, fake=fake, runs=3, angles=201, generator=generator)
    # A classifier whose logits are the first features: what the Inception Score needs.
    found = {
        "frechet": metrics.frechet_distance(real=real, fake=fake),
        "frechet, extrapolated": metrics.frechet_distance(
            real=real, fake=fake, extrapolate=True, generator=generator
        ),
        "kernel": metrics.kernel_distance(real=real, fake=fake, subsets=10, generator=generator),
        "kernel, subsets of n/4": metrics.kernel_distance(
            real=real, fake=fake, subsets=20, subset_size=len(real) // 4, generator=generator
        ),
        "inception score": metrics.inception_score(probabilities=(2 * fake[:, :10]).softmax(dim=1)),
        "prd F8": curve.score(8),
        "prd F1/8": curve.score(1 / 8),
    }
    values = {name: (score.value, score.error) for name, score in found.items()}
    manifold, counted = metrics.precision_recall_density_coverage(real=real, fake=fake)
    values["manifold precision"] = (manifold.precision, manifold.precision_error)
    values["manifold recall"] = (manifold.recall, manifold.recall_error)
    values["density"] = (counted.density, counted.density_error)
    values["coverage"] = (counted.coverage, counted.coverage_error)
    return values


def summary(pairs: list[tuple[float, float]]) -> dict[str, float]:
    values, errors = torch.tensor(pairs, dtype=torch.float64).T
    off = (values - values.mean()).abs()
    return {
        "mean": values.mean().item(),
        "deviation": values.std().item(),
        "length": (errors.square().mean().sqrt() / values.std()).item(),
        "within_1": (off <= errors).double().mean().item(),
        "within_2": (off <= 2 * errors).double().mean().item(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=500, help="real examples; fake ones are as many")
    parser.add_argument("--n-fake", type=int, help="fake examples, where they are not as many")
    parser.add_argument("--dim", type=int, default=16, help="features an example, at least 10")
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--laws", nargs="+", choices=list(LAWS), default=list(LAWS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for the result; it is printed in any case")
    options = parser.parse_args()
    sizes = {name: getattr(options, name) for name in ("n", "n_fake", "dim", "repetitions", "seed")}
    stored = json.loads(options.out.read_text()) if options.out and options.out.exists() else {}
    same = all(stored.get(name) == value for name, value in sizes.items())
    table: dict[str, dict[str, dict[str, float]]] = stored["table"] if stored and same else {}
    for law in options.laws:
        if law in table:  # goes on where it was stopped; remove the file to start over
            continue
        shift, scale = LAWS[law]
        generator = torch.Generator().manual_seed(options.seed)
        drawn: dict[str, list[tuple[float, float]]] = {}
        for _ in range(options.repetitions):
            real = torch.randn(options.n, options.dim, generator=generator)
            fake = shift + scale * torch.randn(options.n_fake or options.n, options.dim, generator=generator)
            for name, pair in scores(real, fake, generator).items():
                drawn.setdefault(name, []).append(pair)
        table[law] = {name: summary(pairs) for name, pairs in drawn.items()}
        for name, row in table[law].items():
            print(
                f"{law:18}{name:24}{row['mean']:9.4f} ± {row['deviation']:.4f}  length {row['length']:.2f}"
                f"  within 1: {row['within_1']:.1%}  2: {row['within_2']:.1%}",
                flush=True,
            )
        if options.out:  # after every law: nothing is lost when it is stopped
            about = {
                "command": " ".join(["python", *sys.argv]),
                "date": time.strftime("%Y-%m-%d"),
                "versions": {name: importlib.metadata.version(name) for name in ("torch", "scikit-learn")},
                **sizes,
            }
            options.out.write_text(json.dumps({**about, "table": table}, indent=1) + "\n")


if __name__ == "__main__":
    main()
