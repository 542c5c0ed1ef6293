"""What is behind a trained generator's codes: nearest training images, interpolation, arithmetic.

    OMP_NUM_THREADS=1 python benchmarks/games/codes.py runs/face-gans/wgan-gp --name faces
    OMP_NUM_THREADS=1 python benchmarks/games/codes.py runs/fashion-gans/wgan-gp --name fashion

Takes the run of any adversarial model of images. Below ten samples stand the nearest training images, by the
distance of pixels and by that of EfficientNet-Lite0's features; the score of memorisation says whether
samples are nearer to training images than to others that the model never saw. Then what lies between two
codes. Of unconditional cartoon faces, a classifier of real ones looks for glasses in 2,000 samples: the mean
code of those with glasses less that of those without, by hair colour, is the direction of glasses, which new
samples without any are moved along (Unsupervised Representation Learning with Deep Convolutional Generative
Adversarial Networks, Radford et al., 2016, arXiv 1511.06434, Figure 7, where a mean is that of three codes).
Minutes.
"""

import sys
from pathlib import Path

import torch
from experiment import command_line, seeded
from torch.nn import functional as F

import bestiary
from bestiary import tasks
from bestiary.metrics import embedding, memorisation, nearest_neighbours
from bestiary.models.noise import Draws
from bestiary.runs import open_run
from bestiary.runs.pictures import image_grid
from bestiary.scores import DEFAULT_EMBEDDING

SHOWN, STEPS = 10, 10
DRAWN = 2000
JUDGED = 1000  # of these, whether they were learnt by heart
MEAN_OF = 3  # samples of a mean that is drawn, as in the paper


def measure(options, found, keep):
    opened = open_run(options.run)
    model, data = bestiary.load(options.run), opened.data
    kept = found[options.name] = {"run": opened.config.model, "budget": opened.config.budget}
    options.figures.mkdir(parents=True, exist_ok=True)

    def picture(rows, what):
        path = options.figures / f"codes-{options.name}-{what}.png"
        image_grid(torch.cat(list(rows)), columns=len(rows[0])).save(path, optimize=True)
        print(path)

    rows, kept["memorisation"] = neighbours(model, data, options.training)
    picture(rows, "neighbours")
    condition = None if model.spec.condition is None else data.test.spread(4).condition
    about = {"steps": STEPS, "condition": condition, "generator": seeded(1)}
    picture(tasks.interpolate_codes(model, 4, **about), "between")
    keep()
    if data.name.startswith("faces") and model.spec.condition is None:
        rows, kept["arithmetic"] = arithmetic(model, options)
        picture(rows, "arithmetic")
        keep()


def neighbours(model, data, most):
    """Samples, the nearest training images by pixels and by features, and the score of memorisation."""
    condition = None if model.spec.condition is None else data.test.spread(JUDGED).condition
    fake = model.sample(JUDGED, condition=condition, generator=seeded(0))
    train, held_out = data.train.spread(most).x, data.validation.spread(most // 2).x
    rows, found = [fake[:SHOWN]], {}
    for name in ("pixels", DEFAULT_EMBEDDING):
        network = embedding(name)
        images = {"train": train, "held_out": held_out, "fake": fake}
        sets = {which: network.features(x) for which, x in images.items()}
        _, nearest = nearest_neighbours(queries=sets["fake"][:SHOWN], references=sets["train"])
        rows.append(train[nearest[:, 0]])
        score = memorisation(**sets, embedding=name)
        found[score.protocol] = {
            "value": round(score.value, 4),
            "error": round(score.error, 4),
            "p_value": float(f"{score.p_value:.3g}"),
        }
        print(found, flush=True)
    return rows, found


def arithmetic(model, options):
    """Mean codes, their sum, and how many of new samples get glasses and keep their hair colour."""
    from attributes import judge  # of benchmarks/attributes.py, for faces alone

    critic, accuracy = judge(bestiary.load_data("faces", size=32), options.seed)

    def answers(x):
        return critic.answers(F.adaptive_avg_pool2d(x, 32))

    def images(z):
        with model.evaluation():
            return torch.cat([model.generate(part) for part in z.split(200)])

    z, new = (model.codes(Draws(model, DRAWN, seeded(seed))) for seed in (2, 3))
    glasses, hair = answers(images(z))
    groups = [h for h in hair.unique() if all(((hair == h) & (glasses == g)).sum() >= 5 for g in (0, 1))]
    if len(groups) < 2:
        sys.exit(
            f"{options.run}: found faces with and without glasses for {len(groups)} hair colours, wanted 2"
        )
    means = {(g, int(h)): z[(hair == h) & (glasses == g)].mean(0) for h in groups for g in (0, 1)}
    direction = torch.stack([means[1, int(h)] - means[0, int(h)] for h in groups]).mean(0)
    before, colour = answers(images(new))
    bare = new[before == 0]
    after, colour_after = answers(images(bare + options.strength * direction))
    rows = []
    for h, other in zip(groups, groups[1:] + groups[:1], strict=True):
        few = [z[(hair == h) & (glasses == g)][:MEAN_OF].mean(0) for g in (1, 0)]
        few.append(z[(hair == other) & (glasses == 0)][:MEAN_OF].mean(0))
        rows.append(torch.stack([*few, few[0] - few[1] + few[2]]))
    columns = images(torch.stack(rows[:8]).transpose(0, 1).flatten(0, 1)).unflatten(0, (4, -1))
    return list(columns), {
        "the judge on real test faces": accuracy,
        "hair colours": len(groups),
        "strength": options.strength,
        "without glasses": len(bare),
        "that have glasses after": round(float(after.float().mean()), 4),
        "that keep their hair colour": round(float((colour_after == colour[before == 0]).float().mean()), 4),
    }


ARGUMENTS = [
    ("--training", {"type": int, "default": 8000, "help": "training images that are looked through"}),
    ("run", {"type": Path, "help": "a run's folder"}),
    ("--name", {"required": True, "help": "of the figures, and of what is kept"}),
    ("--strength", {"type": float, "default": 1.5, "help": "how much of the direction is added"}),
]

if __name__ == "__main__":
    command_line(__file__, __doc__, measure, {}, arguments=ARGUMENTS)
