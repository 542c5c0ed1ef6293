"""Does a β-VAE disentangle? `vae` and `beta-vae` on sprites of 32 × 32, five metrics, some seeds.

    OMP_NUM_THREADS=1 python benchmarks/disentanglement.py --out benchmarks/disentanglement --seeds 0 1 2

The same networks, data and number of updates (20,000 of 64 sprites); β = 1, β = 4 and a capacity rising to
25 nats (γ = 100) differ in the weight of the divergence alone. p(x|z) is Bernoulli on grey levels, as in the
literature, so no likelihood is reported. Metrics see every sprite's posterior mean: beta-VAE and FactorVAE
with their full numbers of votes; MIG, DCI and SAP of 15,000, with scale, angle and position as ordered
factors. Interrupted, the same command goes on. One JSON file a training, a table and, with `--figure`,
traversals of seed 0.
"""

import argparse
import importlib.metadata
import json
import sys
from datetime import date
from pathlib import Path

import numpy as np
import torch
from finished_run import finished_run

import bestiary
from bestiary.metrics import beta_vae_metric, dci, factor_vae_metric, mig, sap
from bestiary.runs.pictures import image_grid
from bestiary.tasks import latent_traversals

COMMON = {
    "network": "infogan",
    "channels": 32,
    "latent_dim": 10,
    "learning_rate": 5e-4,
    "optimizer": "adam",
    "batch_size": 64,
}
ARMS = {
    "vae": ("vae", {}),
    "beta-vae": ("beta-vae", {"beta": 4.0}),
    "beta-vae-capacity": ("beta-vae", {"capacity": 25.0, "gamma": 100.0, "rise": 0.8}),
}
ORDERED = (False, True, True, True, True)  # shape is a kind; scale, angle, x and y are amounts
EXAMPLES = 15_000


def all_codes(model, factors):
    """Posterior means of every combination of factors, in the order of their index."""
    sizes, codes = factors.sizes, []
    total = int(np.prod(sizes))
    for start in range(0, total, 4096):
        index = np.arange(start, min(start + 4096, total))
        values = torch.from_numpy(np.stack(np.unravel_index(index, sizes), 1))
        codes.append(model.encode(factors.draw(values)))
    return torch.cat(codes)


def measured(model, factors, seed):
    """Every metric's value and error."""
    codes, sizes = all_codes(model, factors), factors.sizes
    weights = torch.tensor([int(np.prod(sizes[k + 1 :])) for k in range(len(sizes))])

    def represent(values):
        return codes[(values * weights).sum(1)]

    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(codes), generator=generator)[:EXAMPLES]
    values = torch.from_numpy(np.stack(np.unravel_index(chosen.numpy(), sizes), 1))
    some = {"codes": codes[chosen], "factors": values}
    found = {
        "beta-vae metric": beta_vae_metric(represent=represent, sizes=sizes, generator=generator),
        "factor-vae metric": factor_vae_metric(represent=represent, sizes=sizes, generator=generator),
        "mig": mig(**some),
        "sap": sap(**some, ordered=ORDERED),
    }
    both = dci(**some, ordered=ORDERED, generator=generator)
    found |= {"disentanglement": both.disentanglement, "completeness": both.completeness}
    found |= {"informativeness": both.informativeness}
    kept = {
        name: [round(score.value, 4), score.error and round(score.error, 4)] for name, score in found.items()
    }
    return kept | {"code variances": [round(v, 4) for v in codes.var(0).tolist()]}


def one(options, data, arm, seed):
    """Train, or go on, and measure."""
    name, settings = ARMS[arm]
    model = bestiary.create(name, spec=data.spec, seed=seed, likelihood="bernoulli", **COMMON, **settings)
    folder = options.runs / f"{arm}-{seed}"
    run = finished_run(model, data, budget=options.budget, out=folder, seed=seed)
    model = bestiary.load(run.folder)
    if options.figure and seed == 0:
        moved = latent_traversals(model, data.test[:1].x)
        image_grid(moved.flatten(0, 1), columns=moved.shape[1]).save(options.figure / f"traversals-{arm}.png")
    terms = run.log()[-1]
    return {
        "command": f"python {' '.join(sys.argv)}",
        "arm": arm,
        "seed": seed,
        "settings": COMMON | settings,
        "budget": options.budget,
        "terms": {key: round(value, 2) for key, value in terms.items() if key.startswith("model/")},
        "minutes": round(run.state["clock"]["seconds"] / 60, 1),
        "metrics": measured(model, data.factors, seed),
        "versions": {package: importlib.metadata.version(package) for package in ("bestiary", "torch")},
        "date": str(date.today()),
    }


def table(out):
    """Markdown: mean and deviation over seeds."""
    kept = [json.loads(path.read_text()) for path in sorted(out.glob("*.json"))]
    names = [name for name in kept[0]["metrics"] if name != "code variances"]
    lines = ["| | seeds | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
    for arm in ARMS:
        rows = np.array([[k["metrics"][name][0] for name in names] for k in kept if k["arm"] == arm])
        if len(rows):
            deviation = rows.std(0, ddof=1) if len(rows) > 1 else np.full(len(names), np.nan)
            cells = [f"{m:.3f} ± {d:.3f}" for m, d in zip(rows.mean(0), deviation, strict=True)]
            lines.append(f"| `{arm}` | {len(rows)} | " + " | ".join(cells) + " |")
    (out / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--budget", default="20000 rounds")
    parser.add_argument("--runs", type=Path, default=Path("runs/disentanglement"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/disentanglement"))
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    for folder in filter(None, (options.out, options.figure)):
        folder.mkdir(parents=True, exist_ok=True)
    data = bestiary.load_data("sprites", size=32)
    for seed in options.seeds:
        for arm in options.arms:
            path = options.out / f"{arm}-{seed}.json"
            if not path.exists():
                path.write_text(json.dumps(one(options, data, arm, seed), indent=1) + "\n")
    table(options.out)


if __name__ == "__main__":
    main()
