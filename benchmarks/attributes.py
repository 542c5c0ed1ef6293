"""Faces by attribute: what `conditional-vae` does as it is told, and what vector arithmetic changes.

    OMP_NUM_THREADS=1 python benchmarks/attributes.py --budget '30 minutes' --out benchmarks/attributes.json

A classifier of glasses (yes or no) and hair colour (10), trained on real cartoon faces of 32 × 32, judges
2,000 samples of a `conditional-vae` that was asked for attributes at random: the share recovered, beside
its own accuracy on real test faces. A plain `vae`, trained under the same budget, gives faces glasses, or
takes them, by adding the difference of mean codes (Larsen et al., 2016, arXiv 1512.09300): the share of
reconstructions of test faces whose attribute changes, and of those that keep their hair colour. `--figure`
saves samples by attribute, arithmetic, and faces completed from a half (after Yan et al., 2016, arXiv
1512.00570). Interrupted, the same command goes on in the middle of a training.
"""

import argparse
import importlib.metadata
import json
import sys
from datetime import date
from pathlib import Path

import torch
from finished_run import finished_run
from torch import nn
from torch.nn import functional as F

import bestiary
from bestiary.data.faces import ATTRIBUTES, attributes
from bestiary.runs.pictures import image_grid
from bestiary.tasks import (
    add_attribute,
    attribute_direction,
    complete,
    completion_picture,
    observed_pixels,
)

# On flat colours a learned scale falls to its smallest, and spikes end the training: hence a fixed one. It is
# large, because with a small one codes carry what the condition says anyway, and samples do not obey it.
SETTINGS = {
    "likelihood": "gaussian",
    "sigma": 1.0,
    "network": "infogan",
    "channels": 48,
    "latent_dim": 64,
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "anneal": 0.5,
    "batch_size": 50,
}
GLASSES, HAIR = (
    ATTRIBUTES.index("glasses"),
    [i for i, a in enumerate(ATTRIBUTES) if a.startswith("hair_colour")],
)


class Judge(nn.Module):
    """Logits of glasses (B, 2) and hair colour (B, 10) of faces (B, 3, 32, 32)."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * 64, 128),
            nn.ReLU(),
        )
        self.glasses, self.hair = nn.Linear(128, 2), nn.Linear(128, 10)

    def forward(self, x):
        features = self.trunk(2 * x - 1)
        return self.glasses(features), self.hair(features)

    def answers(self, x):
        """Whether there are glasses, and which hair colour, (B,) each."""
        with torch.no_grad():
            parts = [[logits.argmax(1) for logits in self(part)] for part in x.split(500)]
        return tuple(torch.cat(column) for column in zip(*parts, strict=True))


def truth(vectors):
    """The same of vectors of attributes (B, 33)."""
    return vectors[:, GLASSES].long(), vectors[:, HAIR].argmax(1)


def judge(data, seed, epochs=8):
    """A judge, and its accuracy on real test faces."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Judge()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    generator = torch.Generator().manual_seed(seed)
    vectors = attributes(data.factors.train)
    for _ in range(epochs):
        for rows in torch.randperm(len(vectors), generator=generator).split(100):
            glasses, hair = model(data.train.take(rows).x)
            wanted = truth(vectors[rows])
            loss = F.cross_entropy(glasses, wanted[0]) + F.cross_entropy(hair, wanted[1])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    x, wanted = data.test[:].x, truth(attributes(data.factors.test))
    return model, share(model.answers(x), wanted)


def share(found, wanted):
    """Shares of right answers on glasses and hair colour."""
    names = ("glasses", "hair colour")
    return {n: round(float((f == w).float().mean()), 4) for n, f, w in zip(names, found, wanted, strict=True)}


def trained(options, name, data, **settings):
    """The model of a finished training."""
    model = bestiary.create(name, spec=data.spec, seed=options.seed, **SETTINGS, **settings)
    folder = options.runs / name
    run = finished_run(model, data, budget=options.budget, out=folder, seed=options.seed)
    return bestiary.load(run.folder)


def by_attribute(options, data, critic):
    """Share of samples in which the judge finds what was asked for."""
    model = trained(options, "conditional-vae", data)
    generator = torch.Generator().manual_seed(options.seed)
    asked = attributes(data.factors.test)
    samples = model.sample(len(asked), condition=asked, generator=generator)
    if options.figure:
        # a column a hair colour, rows without and with glasses, all else as of one face
        base = asked[:1].repeat(20, 1)
        base[:, HAIR] = torch.eye(10).repeat(2, 1)
        base[:, GLASSES] = torch.arange(2).repeat_interleave(10).float()
        noise = torch.Generator().manual_seed(3)
        codes = model.draw_codes(1, condition=base[:1], generator=noise).repeat(20, 1)
        image_grid(model.decode(codes, condition=base), columns=10).save(options.figure / "faces-asked.png")
        x, observed = data.test[:6].x, observed_pixels("lower", data.spec)
        filled = complete(model, x, observed, n=4, condition=asked[:6], generator=generator).images
        completion_picture(x, observed, filled).save(options.figure / "faces-completed.png")
    return share(critic.answers(samples), truth(asked))


def arithmetic(options, data, critic):
    """What adding and taking glasses does to reconstructions of test faces."""
    model = trained(options, "vae", data)
    has = attributes(data.factors.train)[:, GLASSES] > 0
    x = data.train[:].x
    direction = attribute_direction(model, x[has], x[~has])
    x, wears = data.test[:].x, attributes(data.factors.test)[:, GLASSES] > 0
    copies = model.reconstruct(x)
    before, found = critic.answers(copies), {}
    for name, rows, sign in (("given", ~wears, 1), ("taken", wears, -1)):
        moved = add_attribute(model, x[rows], direction, sign * options.strength)
        glasses, hair = critic.answers(moved)
        found[f"glasses {name}"] = round(float((glasses == (sign > 0)).float().mean()), 4)
        found[f"hair colour kept, glasses {name}"] = round(float((hair == before[1][rows]).float().mean()), 4)
        if options.figure:
            pictures = torch.stack([x[rows][:8], copies[rows][:8], moved[:8]])
            image_grid(pictures.flatten(0, 1), columns=8).save(options.figure / f"faces-glasses-{name}.png")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--budget", default="30 minutes", help="of each model")
    parser.add_argument("--strength", type=float, default=1.5, help="how many differences of means are added")
    parser.add_argument("--runs", type=Path, default=Path("runs/attributes"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--figure", type=Path, help="folder for the pictures")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.figure:
        options.figure.mkdir(parents=True, exist_ok=True)
    conditional = bestiary.load_data("faces", size=32, condition="attributes")
    plain = bestiary.load_data("faces", size=32)
    critic, accuracy = judge(plain, options.seed)
    print("judge", accuracy, flush=True)
    kept = {
        "command": f"python {' '.join(sys.argv)}",
        "budget": options.budget,
        "seed": options.seed,
        "settings": SETTINGS,
        "strength": options.strength,
        "the judge on real test faces": accuracy,
        "recovered in samples": by_attribute(options, conditional, critic),
        "arithmetic": arithmetic(options, plain, critic),
        "versions": {name: importlib.metadata.version(name) for name in ("bestiary", "torch")},
        "date": str(date.today()),
    }
    options.out.write_text(json.dumps(kept, indent=1) + "\n")
    print(json.dumps(kept, indent=1))


if __name__ == "__main__":
    main()
