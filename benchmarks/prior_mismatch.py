"""Prior and aggregate posterior of VAEs: how far they are apart, and what the samples between them look like.

    OMP_NUM_THREADS=1 python benchmarks/prior_mismatch.py
    python benchmarks/prior_mismatch.py --draw

Trains `vae` (laptop) with 2 and with 10 numbers of code under each prior and the same budget, and fits
densities to the codes of those with the standard prior. Of each: ELBO surgery over the codes of the test
split, Fréchet distance and PRD; of samples from the third of the prior's draws where the aggregate posterior
of the training split is emptiest, and of those where it is fullest, their precision, and how sure a
classifier of real images is of them. Interrupted, the same command goes on.
Numbers go to prior_mismatch.json beside this file, figures to docs/_static/latent; the second command only
draws what is stored.
"""

import argparse
import importlib.metadata
import json
import platform
import sys
import time
from pathlib import Path

import torch
from figure_style import standalone
from finished_run import finished_run
from prior_mismatch_drawing import FIGURES, SHOWN

import bestiary
from bestiary import tasks
from bestiary.metrics import embedding, manifold_precision_recall
from bestiary.models.latent.fitted_prior import FittedPrior
from bestiary.runs.pictures import image_grid

STORED = Path(__file__).with_suffix(".json")
FOLDER = Path(__file__).parent.parent / "docs" / "_static" / "latent"
PACKAGES = ("bestiary", "torch", "numpy", "scikit-learn", "zuko", "matplotlib")
PLANE, MANY = 2, 10  # numbers of a code: of the picture, and of the scores that count
PRIORS = ("standard", "mixture", "vampprior", "flow")
DENSITIES = ("gaussian", "mixture", "flow")
ARMS = (*PRIORS, *(f"standard, then {density}" for density in DENSITIES))
SETTINGS = {"components": 100}
SIDE = 61  # of the grid on which a prior is drawn
IMAGES = 16


class Subject:
    """The data, the models, and the real features."""

    def __init__(self, options):
        self.options = options
        self.data = bestiary.load_data(options.data)
        self.network = embedding("efficientnet-lite0")
        self.classifier = embedding("classifier", data=self.data)
        self.real = self.network.features(self.data.test[: options.n].x)

    def folder(self, dim, arm):
        """The run of an arm, trained or fitted if it is not yet."""
        options, (prior, *fitted) = self.options, arm.split(", then ")
        out, seed = options.runs / f"{dim}-{prior}", options.seed
        about = {"preset": "laptop", "latent_dim": dim, "prior": prior, **SETTINGS}
        model = bestiary.create("vae", spec=self.data.spec, seed=seed, **about)
        run = finished_run(model, self.data, budget=options.budget, out=out, seed=seed)
        for density in fitted:
            out = options.runs / f"{dim}-{prior}-{density}"
            about = {"density": density, "budget": options.budget}
            tasks.fit_prior(run.model, self.data, out=out, seed=seed, resume=True, **about)
        return out


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def pair(score, digits=4):
    """A value with its error."""
    return [round(score.value, digits), None if score.error is None else round(score.error, digits)]


def plain(x, digits=3):
    """Nested lists of rounded numbers."""
    return [round(value, digits) for value in x.tolist()] if x.ndim == 1 else [plain(y, digits) for y in x]


def measure(subject, dim, arm):
    """Everything about one arm."""
    options, data, folder = subject.options, subject.data, subject.folder(dim, arm)
    model = bestiary.load(folder)
    surgery = tasks.elbo_surgery(model, data.test, draws=options.n, generator=seeded(0))
    found = {
        "divergence": pair(surgery.divergence),
        "mutual_information": pair(surgery.mutual_information),
        "mismatch": pair(surgery.mismatch),
        "log_n": round(surgery.most_information, 4),
        **elbo(model, data, options.n, surgery),
        "seconds": round(bestiary.runs.open_run(folder).state["clock"]["seconds"], 1),
    }
    scores = bestiary.evaluate(folder, data, metrics=["frechet", "prd"], n=options.n, split="test")
    found["scores"] = {name: pair(score) for name, score in scores.items()}
    about = {"n": options.n // 3, "candidates": options.n, "generator": seeded(1)}
    holes = tasks.prior_holes(model, data.train, **about)
    for name, codes in (("empty", holes.empty), ("full", holes.full)):
        score = manifold_precision_recall(real=subject.real, fake=subject.network.features(codes.x))
        precision = [round(score.precision, 4), round(score.precision_error, 4)]
        found[name] = {
            "precision": precision,
            "confidence": confidence(subject.classifier, codes.x),
            "log_ratio": plain(codes.log_ratio[[0, -1]]),
        }
    picture = torch.cat([holes.empty.x[:IMAGES], holes.full.x[:IMAGES]])
    name = f"prior-{dim}-{arm.replace(', then ', '-then-')}.png"
    image_grid(picture, columns=IMAGES).save(FOLDER / name, optimize=True)
    return found | ({"plane": plane(model, data, holes)} if dim == PLANE else {})


def confidence(classifier, x):
    """Mean probability of the class that an image is put into, and its error: low between classes."""
    probabilities = classifier.probabilities(x).amax(1)
    return [round(float(probabilities.mean()), 4), round(float(probabilities.std()) / len(x) ** 0.5, 4)]


def elbo(model, data, n, surgery):
    """Test nats; of a fitted prior, those of the VAE with this prior in place of its own."""
    vae = model.encoder if isinstance(model, FittedPrior) else model
    generator, x = seeded(2), data.test[:n]
    nats = torch.cat([vae.elbo(part, generator=generator) for part in x.x.split(500)]).double()
    gain = 0.0
    if vae is not model:  # on the same draws
        own = tasks.elbo_surgery(vae, data.test, draws=n, generator=seeded(0))
        gain = own.divergence.value - surgery.divergence.value
    return {"elbo": [round(float(nats.mean()) + gain, 3), round(float(nats.std()) / n**0.5, 3)]}


def plane(model, data, holes):
    """What the picture of two numbers shows: codes and classes, the prior, and its emptiest codes."""
    fitted = isinstance(model, FittedPrior)
    vae = model.encoder if fitted else model
    z = tasks.AggregatePosterior(vae, data.test).draw(SHOWN, seeded(3))[0]
    codes = vae.encode(data.test[:SHOWN].x)
    edge = torch.cat([z, codes]).abs().quantile(0.998).item() * 1.1
    line = torch.linspace(-edge, edge, SIDE)
    grid = torch.cartesian_prod(line, line)
    with model.evaluation():
        log_prior = model.prior.log_prob
        drawn = log_prior(model.prior.draw(4000, seeded(4)))
        density = log_prior(grid).view(SIDE, SIDE).T  # rows are the second number
    return {
        "edge": round(edge, 3),
        "codes": plain(codes, 2),
        "labels": data.test.labels[:SHOWN].tolist(),
        "log_prior": plain(density.clamp_min(-99), 2),
        "levels": plain(drawn.quantile(torch.tensor([0.05, 0.35, 0.65]))),  # around 95, 65 and 35 %
        "empty": plain(holes.empty.z[:IMAGES], 2),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--budget", default="10 epochs", help="of each training, and of each fitted flow")
    parser.add_argument("--n", type=int, default=5000, help="test images, samples, and draws of codes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs/prior-mismatch"))
    parser.add_argument("--draw", action="store_true", help="only draw what is stored")
    options = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    found = json.loads(STORED.read_text()) if STORED.exists() else {}
    subject = None
    for dim in () if options.draw else (PLANE, MANY):
        for arm in ARMS:
            arms = found.setdefault(str(dim), {})
            if arm in arms:
                continue
            subject = subject or Subject(options)
            arms[arm] = measure(subject, dim, arm)
            found["about"] = {
                "command": f"python {' '.join(sys.argv)}",
                "data": subject.data.name,
                "budget": options.budget,
                "seed": options.seed,
                "n": options.n,
                "settings": SETTINGS,
                "confidence of test images": confidence(subject.classifier, subject.data.test[: options.n].x),
                "threads": torch.get_num_threads(),
                "machine": platform.machine(),
                "versions": {p: importlib.metadata.version(p) for p in PACKAGES},
                "date": time.strftime("%Y-%m-%d"),
            }
            STORED.write_text(json.dumps(found, ensure_ascii=False) + "\n")
            print(dim, arm, {k: v for k, v in arms[arm].items() if k != "plane"}, flush=True)
    missing = [f"{dim} {arm}" for dim in (PLANE, MANY) for arm in ARMS if arm not in found.get(str(dim), {})]
    if missing:
        sys.exit(f"nothing is drawn before all is measured: {', '.join(missing)}")
    for figure, label in FIGURES.items():
        path = FOLDER / f"prior-{figure.__name__}.svg"
        path.write_text(standalone(figure, found, label))
        print(path)


if __name__ == "__main__":
    main()
