"""Codes on a sphere against codes in the plane: `spherical-vae` and `vae` on dynamically binarised MNIST.

    OMP_NUM_THREADS=1 python benchmarks/spherical.py --dims 2 5 10 20 --seeds 0 1 2

The protocol of Hyperspherical Variational Auto-Encoders (Davidson et al., 2018, arXiv 1804.00891, Table 1):
784-256-128, ReLU, minibatches of 64, Adam 1e-3, 500 codes for each of the 10,000 test images; d is the
dimension of the plane, or of the sphere. Reduced: 100 epochs with the divergence warmed up over the first 20,
where the paper has 100 of warm-up and stops when 50 epochs brought nothing. Interrupted, the same command
goes on. The table has means and deviations over seeds, the difference of the bounds by one code, and what is
published.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from mnist_likelihood import Row, run_row

PUBLISHED = {
    2: (-135.73, -132.50),
    5: (-110.21, -108.43),
    10: (-93.84, -93.16),
    20: (-88.90, -89.02),
    40: (-88.93, -90.87),
}
BOUNDS = {
    2: (-137.08, -133.72),
    5: (-112.98, -111.19),
    10: (-98.36, -97.70),
    20: (-94.79, -96.15),
    40: (-94.91, -101.26),
}
SETTINGS = {
    "hidden": [256, 128],
    "activation": "relu",
    "learning_rate": 1e-3,
    "batch_size": 64,
}


def row(model, dim, seed, budget, warmup):
    """One training."""
    adam = {"optimizer": "adam"} if model == "vae" else {}
    published = f"{PUBLISHED[dim][model != 'vae']} at the end of a longer training"
    return Row(model, budget, published, {**SETTINGS, **adam, "warmup": warmup, "latent_dim": dim}, seed)


def table(out):
    """Markdown: a row for each dimension of which there is anything."""
    print("| d | `vae` | `spherical-vae` | difference | published | of bounds | published |")
    print("|---|---|---|---|---|---|---|")
    for dim, (plane, sphere) in PUBLISHED.items():
        found, bounds = {}, {}
        for model in ("vae", "spherical-vae"):
            files = sorted(out.glob(f"{model}-{dim}-*.json"))
            results = [json.loads(f.read_text())["result"] for f in files]
            found[model] = np.array([-result["nats"] for result in results])
            bounds[model] = np.array([-result["elbo"] for result in results])
        if all(map(len, found.values())):
            cells = [
                f"{v.mean():.2f} ± {v.std(ddof=1) if len(v) > 1 else np.nan:.2f}" for v in found.values()
            ]
            gain = found["spherical-vae"].mean() - found["vae"].mean()
            of_bounds = bounds["spherical-vae"].mean() - bounds["vae"].mean()
            published = f"{sphere - plane:+.2f} | {of_bounds:+.2f} | {BOUNDS[dim][1] - BOUNDS[dim][0]:+.2f}"
            print(f"| {dim} | {cells[0]} | {cells[1]} | {gain:+.2f} | {published} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dims", type=int, nargs="+", default=[2, 5, 10, 20], choices=PUBLISHED)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--budget", default="100 epochs", help="of each training")
    parser.add_argument("--warmup", type=float, default=20.0, help="epochs")
    parser.add_argument("--runs", type=Path, default=Path("runs/spherical"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/spherical"))
    options = parser.parse_args()
    for seed in options.seeds:
        for dim in options.dims:
            for model in ("vae", "spherical-vae"):
                name = f"{model}-{dim}-{seed}"
                if not (options.out / f"{name}.json").exists():
                    one = row(model, dim, seed, options.budget, options.warmup)
                    run_row(name, one, options.runs, options.out, particles=500)
    table(options.out)


if __name__ == "__main__":
    main()
