"""Cartoon faces of 64 × 64 by `wgan-gp` and `ns-gan`, without and with conditions.

    OMP_NUM_THREADS=1 python benchmarks/face_gans.py wgan-gp --budget '180 minutes' --runs runs/face-gans
    python benchmarks/face_gans.py --table

DCGAN networks of width 32. The kernel distance on EfficientNet-Lite0's features of 2,000 samples to the 2,000
test faces stands beside that of as many validation faces, and of samples of a histogram for each sub-pixel,
which knows nothing of how pixels go together. The `…-attributes` rows are told glasses, beard, and the
colours of hair, skin and clothes (33 numbers); a classifier of these, trained on real training faces, says in
which share of samples, drawn for the attributes of the test faces, it finds each of them and all at once,
beside its own accuracy on the real test faces. One JSON file a row, with a grid of samples; in those of the
conditional rows each two lines have one code each, without and with glasses, a column for each hair colour.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from game_rows import about, check_names, print_table, scored, trained, write
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

import bestiary
from bestiary.data.faces import ATTRIBUTES, attributes
from bestiary.metrics import embedding, kernel_distance
from bestiary.metrics.embeddings import cached_features
from bestiary.runs.pictures import image_grid

N, LEVELS = 2000, 256
JUDGE_EPOCHS, JUDGE_SEED = 6, 0
COLOURS = ("hair_colour", "skin", "clothes_colour")
GLASSES = ATTRIBUTES.index("glasses")

_NETWORKS = {
    "network": "dcgan",
    "channels": 32,
    "latent_dim": 100,
    "batch_norm_decay": 0.9,
    "batch_size": 64,
    "ema_half_life": 5000.0,
}
_NS = {**_NETWORKS, "learning_rate": 2e-4, "beta1": 0.5}
# of Gulrajani et al., but two updates of the critic, not five, half the batch and a higher learning rate:
# so three hours of one core hold thousands of updates of the generator
_GP = {
    **_NETWORKS,
    "batch_size": 32,
    "learning_rate": 5e-4,
    "beta1": 0.0,
    "beta2": 0.9,
    "discriminator_updates": 2,
}


@dataclass(frozen=True)
class Row:
    """A model, its settings, and whether it is told the attributes."""

    model: str
    settings: dict
    conditional: bool
    budget: str = "180 minutes"


def _rows(budget):
    told = {"conditioning": "projection"}
    return {
        "ns-gan": Row("ns-gan", _NS, False, budget),
        "wgan-gp": Row("wgan-gp", _GP, False, budget),
        "ns-gan-attributes": Row("ns-gan", {**_NS, **told}, True, budget),
        "wgan-gp-attributes": Row("wgan-gp", {**_GP, **told}, True, budget),
    }


def columns_of(name):
    """Which numbers of a condition vector one attribute has."""
    return [i for i, attribute in enumerate(ATTRIBUTES) if attribute.split("=")[0] == name]


class Judge(nn.Module):
    """Logits of the 33 attributes of faces (B, 3, 64, 64): two yes-or-no, and three choices of a colour."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * 8 * 8, 128),
            nn.ReLU(),
            nn.Linear(128, len(ATTRIBUTES)),
        )

    def forward(self, x):
        return self.layers(2 * x - 1)

    def loss(self, x, vectors):
        """Cross-entropy of all attributes."""
        logits = self(x)
        yes_or_no = F.binary_cross_entropy_with_logits(logits[:, :2], vectors[:, :2]) * 2
        colours = [
            F.cross_entropy(logits[:, columns_of(name)], vectors[:, columns_of(name)].argmax(1))
            for name in COLOURS
        ]
        return yes_or_no + sum(colours)

    @torch.no_grad()
    def found(self, x, vectors):
        """Shares of images in which each attribute of their vectors is found, and all of them at once."""
        logits = torch.cat([self(part) for part in x.split(500)])
        right = {name: (logits[:, i] > 0) == (vectors[:, i] > 0) for i, name in enumerate(ATTRIBUTES[:2])}
        for name in COLOURS:
            own = columns_of(name)
            right[name] = logits[:, own].argmax(1) == vectors[:, own].argmax(1)
        right["all"] = torch.stack(list(right.values())).all(0)
        return {name: round(float(each.float().mean()), 4) for name, each in right.items()}


def judge(data, path):
    """A judge trained on the real training faces, once."""
    with torch.random.fork_rng():
        torch.manual_seed(JUDGE_SEED)
        model = Judge()
    if path.exists():
        model.load_state_dict(load_file(path))
        return model
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    generator = torch.Generator().manual_seed(JUDGE_SEED)
    vectors = attributes(data.factors.train)
    for _ in range(JUDGE_EPOCHS):
        for rows in torch.randperm(len(vectors), generator=generator).split(100):
            optimizer.zero_grad()
            model.loss(data.train.take(rows).x, vectors[rows]).backward()
            optimizer.step()
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), path)
    return model


def histogram_samples(data, n):
    """Samples whose sub-pixels are drawn by themselves, each from its levels in the training faces."""
    counts = torch.ones(data.spec.dimensions, LEVELS, dtype=torch.float64)
    for batch in data.train.batches(500):
        levels = (batch.x * (LEVELS - 1)).round().long().flatten(1).T
        counts.scatter_add_(1, levels, torch.ones(levels.shape, dtype=torch.float64))
    generator = torch.Generator().manual_seed(0)
    drawn = torch.multinomial(counts.float(), n, replacement=True, generator=generator)
    return (drawn.T.float() / (LEVELS - 1)).unflatten(1, data.spec.shape)


def real_features(data, network, part):
    split = getattr(data, part)
    return cached_features(network, split, n=N, fingerprint=data.fingerprint, part=part)


def baselines(data, network, folder):
    """Kernel distances to the test faces of validation faces and of the histograms' samples, made once."""
    path = folder / "baselines.json"
    if not path.exists():
        real = real_features(data, network, "test")
        fakes = {
            "validation faces": real_features(data, network, "validation"),
            "histogram of each sub-pixel": network.features(histogram_samples(data, N)),
        }
        scores = {
            name: kernel_distance(real=real, fake=fake, embedding=network.protocol)
            for name, fake in fakes.items()
        }
        write(
            path, {name: {**scored(score, 6), "protocol": score.protocol} for name, score in scores.items()}
        )
    return json.loads(path.read_text())


@torch.no_grad()
def samples_of(model, conditions):
    """A sample for each test face, told its attributes where the model is."""
    generator = torch.Generator().manual_seed(0)
    told = model.spec.condition is not None
    return torch.cat(
        [
            model.sample(len(c), condition=c if told else None, generator=generator)
            for c in conditions.split(500)
        ]
    )


@torch.no_grad()
def asked_grid(model, conditions):
    """Two codes, without and with glasses, in every hair colour; all else as of one test face."""
    base, hair = conditions[:1].repeat(40, 1), columns_of("hair_colour")
    base[:, hair] = torch.eye(10).repeat(4, 1)
    base[:, GLASSES] = torch.tensor([0.0, 1.0]).repeat_interleave(10).repeat(2)
    z = 2 * torch.rand(2, model.latent_dim, generator=torch.Generator().manual_seed(3)) - 1
    with model.evaluation():
        return image_grid(model.generate(z.repeat_interleave(20, 0), base), columns=10)


def run_row(name, row, options):
    """Train a row, or go on with it, score it, and write its JSON file and grid."""
    name_and_seed = name if options.seed == 0 else f"{name}-{options.seed}"
    path = options.out / f"{name_and_seed}.json"
    if path.exists():
        return
    data = bestiary.load_data("faces", size=64, condition="attributes" if row.conditional else "none")
    run = trained(row, data, options.runs / name_and_seed, seed=options.seed, precision="auto")
    kept = {"row": name, **about(row, run, options.seed)}
    if run.status != "diverged":
        model, network = bestiary.load(run.folder), embedding("efficientnet-lite0")
        conditions = attributes(data.factors.test)
        samples = samples_of(model, conditions)
        options.out.mkdir(parents=True, exist_ok=True)
        if row.conditional:
            asked_grid(model, conditions).save(options.out / f"{name}.png")
            critic = judge(data, options.runs / "judge.safetensors")
            kept["recovered in samples"] = critic.found(samples, conditions)
            kept["the judge on real test faces"] = critic.found(data.test[:].x, conditions)
        else:
            image_grid(samples[:64]).save(options.out / f"{name}.png")
        distance = kernel_distance(
            real=real_features(data, network, "test"),
            fake=network.features(samples),
            embedding=network.protocol,
        )
        kept["kernel_distance"] = {**scored(distance, 6), "protocol": distance.protocol}
        bound = baselines(data, network, options.out)["histogram of each sub-pixel"]["value"]
        kept["share_of_histogram"] = round(distance.value / bound, 4)
    write(path, kept)
    shown = ("kernel_distance", "share_of_histogram", "recovered in samples", "rounds")
    print(name, {key: kept[key] for key in shown if key in kept}, flush=True)


def table(folder):
    """Markdown of every result there is."""
    rows, names = [], ["glasses", "beard", *COLOURS, "all"]

    def cell(score):
        return f"{score['value']:.4f} ± {score['error']:.4f}"

    path = folder / "baselines.json"
    if path.exists():
        rows += [
            [name, "", "", cell(score), *[""] * 7] for name, score in json.loads(path.read_text()).items()
        ]
    for name in _rows(""):
        path = folder / f"{name}.json"
        if not path.exists():
            continue
        kept = json.loads(path.read_text())
        if "kernel_distance" not in kept:
            rows.append([f"`{name}`", kept["budget"], kept["rounds"], kept["reason"], *[""] * 7])
            continue
        found = kept.get("recovered in samples", {})
        real = kept.get("the judge on real test faces", {})
        shares = [f"{100 * found[key]:.1f} ({100 * real[key]:.1f})" if found else "" for key in names]
        distance, share = cell(kept["kernel_distance"]), f"{kept['share_of_histogram']:.3f}"
        rows.append([f"`{name}`", kept["budget"], kept["rounds"], distance, share, *shares])
    columns = ["row", "budget", "rounds", "kernel distance", "share of the histogram's"]
    print_table([*columns, *(f"{name}, % (on real)" for name in names)], rows)


def main():
    names = list(_rows(""))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("rows", nargs="*", help=", ".join(names))
    parser.add_argument("--budget", default="180 minutes", help="of each row")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs/face-gans"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/face-gans"))
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if options.table or not options.rows:
        table(options.out)
        return
    check_names(parser, options.rows, names)
    for name in options.rows:
        run_row(name, _rows(options.budget)[name], options)


if __name__ == "__main__":
    main()
