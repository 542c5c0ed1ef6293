"""The figures of docs/autoregressive.md: what is inside a trained autoregressive model.

    OMP_NUM_THREADS=1 python benchmarks/inside.py
    python benchmarks/inside.py drift probe
    python benchmarks/inside.py --draw

The first command trains what is not trained yet, measures what is not measured yet, and draws all; the second
measures two figures again; the third only draws what is stored. Runs go to runs/inside and are resumed,
numbers to inside.json beside this file, figures to docs/_static/autoregressive.
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
from inside_drawing import FIGURES

import bestiary
from bestiary import tasks
from bestiary.data.specs import ImageSpec
from bestiary.models.baseline.ppca import PPCA
from bestiary.runs import open_run

STORED = Path(__file__).with_suffix(".json")
FOLDER = Path(__file__).parent.parent / "docs" / "_static" / "autoregressive"
PACKAGES = ("torch", "numpy", "scikit-learn", "matplotlib")
MODEL, BLIND, CODES = "gated-pixelcnn", "pixelcnn", "vae"
TRAINED = (MODEL, BLIND, CODES)  # laptop presets
IMAGES = 1000  # of the test split
PLACE = {"row": 14, "column": 14}  # whose receptive field is drawn
# Nets as deep as their papers', and narrow: what can be seen depends on the depth alone.
DEEP = {
    BLIND: {"blocks": 15, "channels": 16, "head_channels": 32},
    MODEL: {"layers": 20, "channels": 16, "head_channels": 32},
}


class Subject:
    """The data, and the models trained on them."""

    def __init__(self, folder, budget):
        self.data = bestiary.load_data("fashion-mnist")
        self.x = self.data.test[:IMAGES].x
        self._folder, self._budget = folder, budget

    def model(self, name):
        out = self._folder / name
        if not out.exists() or open_run(out).status != "finished":
            model = bestiary.create(name, spec=self.data.spec, seed=0, preset="laptop")
            finished_run(model, self.data, budget=self._budget, out=out, seed=0)
        return bestiary.load(out)

    def budgets(self):
        folders = [self._folder / name for name in TRAINED]
        return {folder.name: open_run(folder).config.budget for folder in folders if folder.exists()}


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def plain(x, digits=3):
    """Nested lists of rounded numbers."""
    return [round(value, digits) for value in x.tolist()] if x.ndim == 1 else [plain(y, digits) for y in x]


def maps(subject):
    bits = -tasks.log_prob_map(subject.model(MODEL), subject.x)[:, 0] / torch.log(torch.tensor(2.0))
    total = bits.mean(dim=(1, 2))
    chosen = [subject.data.test.labels[:IMAGES].tolist().index(label) for label in (9, 1, 0, 8)]
    return {
        "images": {
            subject.data.classes[subject.data.test.labels[i]]: {
                "image": plain(255 * subject.x[i, 0], 0),
                "bits": plain(bits[i], 2),
                "bits_per_dim": round(float(total[i]), 2),
            }
            for i in chosen
        },
        "mean": {
            "image": plain(255 * subject.x[:, 0].mean(dim=0), 0),
            "bits": plain(bits.mean(dim=0), 2),
            "bits_per_dim": round(float(total.mean()), 3),
        },
        "standard_error": round(float(total.std() / IMAGES**0.5), 4),
        "dearest_tenth": share_of_dearest(bits, 0.1),
    }


def share_of_dearest(bits, share):
    """Which part of all bits this share of the pixels takes."""
    dearest = bits.flatten().sort(descending=True).values
    return round(float(dearest[: int(share * len(dearest))].sum() / dearest.sum()), 3)


def drift(subject, images=256):
    model, width, height = subject.model(MODEL), subject.data.spec.width, subject.data.spec.height
    found = {"images": images, "own": {}, "excess": {}}
    for rows in range(0, height, 4):
        one = tasks.free_running(model, subject.x[:images], given=rows * width, generator=seeded(rows))
        nats = torch.stack([one.true, one.own])[:, :, 0].mean(dim=(1, 3)) / torch.log(torch.tensor(2.0))
        found["true"] = plain(nats[0])  # bits a pixel, by row
        found["own"][rows] = plain(nats[1])
        found["excess"][rows] = [round(value, 4) for value in one.excess_entropy]
    return found


def bits(subject):
    planes = tasks.bit_plane_map(subject.model(MODEL), subject.x).mean(dim=(0, 2, 3, 4))
    levels = (255 * subject.x).round().long()
    log_mass = histogram(subject.data.train, subject.data.spec)
    alone = [
        tasks.bit_planes(log_mass.expand(len(part), *log_mass.shape), part) for part in levels.split(100)
    ]
    example = levels[subject.data.test.labels[:IMAGES].tolist().index(9), 0]
    return {
        "model": plain(planes),
        "each pixel alone": plain(torch.cat(alone).mean(dim=(0, 2, 3, 4))),
        "planes": [plain((example >> bit) & 1) for bit in range(7, -1, -1)],
    }


def histogram(split, spec):
    """Log masses of the levels of every pixel by itself, one added to every count, (K, 1, H, W)."""
    counts = torch.ones(spec.dimensions, spec.levels)
    pixels = torch.arange(spec.dimensions)
    for batch in split.batches(1000):
        index = pixels * spec.levels + (255 * batch.x).round().long().flatten(1)
        counts += torch.bincount(index.flatten(), minlength=counts.numel()).view_as(counts)
    return (counts / counts.sum(dim=1, keepdim=True)).log().T.reshape(spec.levels, *spec.shape)


def probe(subject, done, save, train=1000, test=2000):
    data, model, codes = subject.data, subject.model(MODEL), subject.model(CODES)
    x, x_test = data.train[:train].x, data.test[:test].x
    layers = [name for name, _ in model.named_modules() if name.rpartition(".")[0] == "network.layers"]
    untrained = bestiary.create(MODEL, spec=data.spec, seed=1, preset="laptop")
    features = {"pixels": [part.flatten(1) for part in (x, x_test)]}
    for dim in (10, 64):
        pca = PPCA(data.spec, latent_dim=dim)
        pca.fit(data.train)
        features[f"PCA codes, {dim}"] = [pca.encode(part) for part in (x, x_test)]
    features[f"VAE codes, {codes.latent_dim}"] = [codes.encode(part) for part in (x, x_test)]
    for kind, network in (("whole", model), ("untrained", untrained)):
        pooled = [tasks.pooled_activations(network, layers, part, cells=2) for part in (x, x_test)]
        for number, layer in enumerate(layers, 1):
            quarters = [part[layer] for part in pooled]
            if kind == "whole":
                features[f"quarters {number}"] = quarters
            features[f"{kind} {number}"] = [part.unflatten(1, (-1, 4)).mean(dim=2) for part in quarters]
    labels = data.train.labels[:train], data.test.labels[:test]
    for name, (a, b) in features.items():
        if name not in done:
            scores = [tasks.linear_probe(a, labels[0], b, labels[1], labels=n) for n in (None, 100)]
            accuracies = [[round(one.value, 4), round(one.error, 4)] for one in scores]
            done[name] = {"dimensions": a.shape[1], "all": accuracies[0], "100": accuracies[1]}
            save()
    return {"train": train, "test": test, "layers": len(layers), "features": done}


def seen(subject, done, save):
    grey, laptop = ImageSpec(1, 28, 28, levels=4), {"spec": subject.data.spec, "preset": "laptop"}
    noise = torch.rand(4, 1, 28, 28, generator=seeded(0))
    for name in (BLIND, MODEL):
        cases = {
            "deep": lambda name=name: (bestiary.create(name, spec=grey, **DEEP[name]), noise),
            "start": lambda name=name: (bestiary.create(name, **laptop), subject.x[:2]),
            "trained": lambda name=name: (subject.model(name), subject.x[:2]),
        }
        for kind, case in cases.items():
            if kind not in done.setdefault(name, {}):
                done[name][kind] = field(*case())
                save()
    return done


def field(model, x):
    """log₁₀ of the strength beside the strongest, None where nothing is seen; and how much is seen."""
    one = tasks.receptive_field(model, x, **PLACE)
    strength = one.strength[0] / one.strength.max()
    return {
        "map": [[round(v, 2) if v > -99 else None for v in row] for row in strength.log10().tolist()],
        "seen": int(one.seen.sum()),
        "earlier": int(one.earlier.sum()),
        "blind": one.unseen.int().tolist(),
    }


def completions(subject, done, save, images=3, particles=64):
    model, x = subject.model(MODEL), subject.x[:images]
    for mask in ("lower", "upper", "centre"):
        if mask in done:
            continue
        observed = tasks.observed_pixels(mask, subject.data.spec, images)
        one = tasks.complete(model, x, observed, n=4, particles=particles, generator=seeded(0))
        path = FOLDER / f"completions-{mask}.png"
        tasks.completion_picture(x, observed, one.images).save(path, optimize=True)
        print(path)
        size = one.truth.effective_sample_size
        done[mask] = {
            "bits_per_dim": plain(one.truth.bits_per_dim),
            "effective_sample_size": None if size is None else plain(size, 1),
            "particles": particles,
        }
        save()
    return done


MEASURED = (maps, drift, bits, probe, seen, completions)
PIECEWISE = (probe, seen, completions)  # what is done of these is kept, and not done again


def main():
    names = [function.__name__ for function in MEASURED]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"what to measure again, of: {', '.join(names)}")
    parser.add_argument("--draw", action="store_true", help="only draw what is stored")
    parser.add_argument("--budget", default="10 minutes", help="of each training")
    parser.add_argument("--runs", type=Path, default=Path("runs/inside"))
    options = parser.parse_args()
    if set(options.names) - set(names):
        parser.error(f"names: found {' '.join(options.names)}, wanted some of: {', '.join(names)}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    found = json.loads(STORED.read_text()) if STORED.exists() else {}
    subject = None

    def save():
        STORED.write_text(json.dumps(found, ensure_ascii=False) + "\n")

    for function in () if options.draw else MEASURED:
        name = function.__name__
        if name not in options.names and (options.names or name in found):
            continue
        subject = subject or Subject(options.runs, options.budget)
        start = time.process_time()
        if function in PIECEWISE:
            pieces = found.setdefault("unfinished", {}).setdefault(name, {})
            found[name] = function(subject, pieces, save)
            del found["unfinished"][name]
        else:
            found[name] = function(subject)
        found["about"] = found.get("about", {}) | {
            "data": subject.data.name,
            "test_images": IMAGES,
            "budgets": subject.budgets(),
            "threads": torch.get_num_threads(),
            "machine": platform.machine(),
            "versions": {p: importlib.metadata.version(p) for p in PACKAGES},
            "date": time.strftime("%Y-%m-%d"),
        }
        save()
        print(f"{name}: {time.process_time() - start:.0f} s", file=sys.stderr, flush=True)
    found = json.loads(json.dumps(found))  # as it is read when it is only drawn
    for figure, label in FIGURES.items():
        if figure.__name__ in found:
            path = FOLDER / f"{figure.__name__}.svg"
            path.write_text(standalone(figure, found, label))
            print(path)


if __name__ == "__main__":
    main()
