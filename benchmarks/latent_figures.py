"""The figures of docs/latent.md: a plane of codes, what lies between two images, codes as features.

    OMP_NUM_THREADS=1 python benchmarks/latent_figures.py --figures docs/_static/latent \\
        --out benchmarks/latent_figures.json

`plane` is the decoded grid of a two-dimensional code at the quantiles of its prior (Kingma & Welling, 2014,
figure 4); `between` has interpolations of test images by a `vae` and a `spherical-vae`, in a line and around
the origin; `pseudo-examples` the images whose posteriors are the prior of a `vae` with `prior=vampprior`
(Tomczak & Welling, 2018). The JSON file has the accuracy of a logistic regression on codes of `vae`,
`autoencoder`, `ppca` of ten numbers, by labels per class, beside pixels. All have the same budget;
interrupted, it goes on.
"""

import argparse
import importlib.metadata
import json
import sys
from datetime import date
from pathlib import Path

import torch
from finished_run import finished_run

import bestiary
from bestiary.runs.pictures import image_grid
from bestiary.tasks import codes_of, example_pairs, few_label_accuracy, interpolate, interpolation_picture

SIDE = 18
PSEUDO_EXAMPLES = 54
ARMS = {
    "plane": ("vae", {"latent_dim": 2, "network": "mlp", "hidden": [500, 300], "activation": "relu"}),
    "vae": ("vae", {}),
    "spherical-vae": ("spherical-vae", {}),
    "vampprior": ("vae", {"prior": "vampprior", "components": PSEUDO_EXAMPLES}),
    "autoencoder": ("autoencoder", {}),
    "ppca": ("ppca", {"latent_dim": 10}),
}


def trained(options, data, arm):
    """The model of a finished training."""
    name, settings = ARMS[arm]
    model = bestiary.create(name, spec=data.spec, preset="laptop", seed=options.seed, **settings)
    folder = options.runs / arm
    run = finished_run(model, data, budget=options.budget, out=folder, seed=options.seed)
    return bestiary.load(run.folder)


def plane(model):
    """Images of codes at the quantiles of N(0, I), a picture."""
    quantiles = torch.special.ndtri((torch.arange(SIDE) + 0.5) / SIDE)
    return image_grid(model.decode(torch.cartesian_prod(quantiles, quantiles)), columns=SIDE)


def accuracies(models, data, n):
    """Few-label accuracy of every model's codes, and of the pixels."""
    train, test = data.train[:n], data.test[:]
    labels, test_labels = data.train.labels[:n], data.test.labels
    features = {"pixels": (train.x.flatten(1), test.x.flatten(1))}
    features |= {arm: (codes_of(model, train.x), codes_of(model, test.x)) for arm, model in models.items()}
    kept = {}
    for arm, (codes, test_codes) in features.items():
        found = few_label_accuracy(codes, labels, test_codes, test_labels, seed=0, name=arm)
        kept[arm] = [[round(score.value, 4), round(score.error, 4), score.protocol] for score in found]
        print(arm, kept[arm], flush=True)
    return kept


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--budget", default="20 epochs")
    parser.add_argument(
        "--labels", type=int, default=10_000, help="training examples that have labels, at most"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/latent"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--figures", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.figures.mkdir(parents=True, exist_ok=True)
    data = bestiary.load_data(options.data)
    models = {arm: trained(options, data, arm) for arm in ARMS}
    plane(models.pop("plane")).save(options.figures / "plane.png")
    pseudo_examples = models.pop("vampprior").prior.examples().detach()
    image_grid(pseudo_examples, columns=SIDE).save(options.figures / "pseudo-examples.png")
    generator = torch.Generator().manual_seed(options.seed)
    a, b = (part.x for part in example_pairs(data.test, data.spec, 5, generator=generator))
    for arm in ("vae", "spherical-vae"):
        images = interpolate(models[arm], a, b, steps=9)
        interpolation_picture(a, b, images).save(options.figures / f"between-{arm}.png")
    kept = {
        "command": f"python {' '.join(sys.argv)}",
        "data": data.name,
        "budget": options.budget,
        "seed": options.seed,
        "accuracy by labels per class": accuracies(models, data, options.labels),
        "versions": {name: importlib.metadata.version(name) for name in ("bestiary", "torch")},
        "date": str(date.today()),
    }
    options.out.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
