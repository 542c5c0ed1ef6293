"""The log-density of a mixture of normal laws as a prior: by products of matrices, and pair by pair.

    OMP_NUM_THREADS=1 python benchmarks/mixture_priors.py --out benchmarks/mixture_priors.json

500 laws of 40 dimensions, as of the VampPrior's paper: log Σ_k N(z; μ_k, σ_k²) of N codes with its gradient
by the codes and the laws, as while training, and without one, as while scoring. Both forms take turns;
medians, and the largest difference in nats.
"""

import argparse
import importlib.metadata
import json
import statistics
import sys
import time
from datetime import date
from pathlib import Path

import torch

from bestiary.distributions.gaussian import gaussian_log_prob, gaussian_log_prob_pairs

COMPONENTS, DIMENSIONS = 500, 40


def by_pairs(z, mu, log_sigma):
    """K·N·Z numbers."""
    return gaussian_log_prob(z, mu[:, None], log_sigma[:, None])


def seconds(form, laws, z, gradient):
    """Of one call, and what it returned."""
    start = time.perf_counter()
    found = form(z, *laws).logsumexp(0)
    if gradient:
        torch.autograd.grad(found.sum(), (z, *laws))
    return time.perf_counter() - start, found.detach()


def row(n, gradient, rounds):
    """Both forms on the same numbers."""
    generator = torch.Generator().manual_seed(0)
    mu, log_sigma = (torch.randn(COMPONENTS, DIMENSIONS, generator=generator) for _ in range(2))
    drawn = (torch.randn(n, DIMENSIONS, generator=generator), mu, 0.5 * log_sigma)
    z, *laws = (t.requires_grad_(gradient) for t in drawn)
    times, values = {"pairs": [], "products": []}, {}
    for _ in range(rounds):
        for name, form in (("pairs", by_pairs), ("products", gaussian_log_prob_pairs)):
            taken, values[name] = seconds(form, laws, z, gradient)
            times[name].append(taken)
    ratios = [a / b for a, b in zip(times["pairs"], times["products"], strict=True)]
    return {
        "codes": n,
        "gradient": gradient,
        **{f"{name}, ms": round(1000 * statistics.median(kept), 2) for name, kept in times.items()},
        "ratio": [round(r, 2) for r in (statistics.median(ratios), min(ratios), max(ratios))],
        "largest difference, nats": float((values["pairs"] - values["products"]).abs().max()),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    rows = [row(n, gradient, options.rounds) for n, gradient in ((100, True), (1000, True), (5000, False))]
    about = {
        "command": f"python {' '.join(sys.argv)}",
        "versions": {name: importlib.metadata.version(name) for name in ("bestiary", "torch")},
        "date": str(date.today()),
    }
    options.out.write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n")
    for found in rows:
        print(found)


if __name__ == "__main__":
    main()
