"""What each rank of tests/test_ranks.py runs: trainings in float64 whose weights rank 0 saves.

python rank_training.py FOLDER
"""

import os
import sys
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.optim import Adam

from bestiary.catalogue import create
from bestiary.data.specs import ImageSpec, PointSpec
from bestiary.data.splits import Batch
from bestiary.models import Model, Move, Player
from bestiary.testing import random_data
from bestiary.training.budget import parse_budget
from bestiary.training.loop import Training
from bestiary.training.ranks import join_ranks
from bestiary.training.runtime import choose_runtime


class PenaltyOnly(Model):
    """A critic whose every step is a gradient penalty and nothing else; batch norm couples the examples."""

    def __init__(self, spec, *, batch_size: int = 16):
        super().__init__(spec, batch_size=batch_size)
        self.critic = nn.Sequential(
            nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1)
        )

    def players(self):
        return {"critic": Player(list(self.critic.parameters()), partial(Adam, lr=1e-2))}

    def moves(self, clock):
        return [Move("critic", self.cost)]

    def cost(self, step):
        between = (step.x + step.uniform(1) * (step.normal(2) - step.x)).requires_grad_()
        (slope,) = torch.autograd.grad(self.critic(between).sum(), between, create_graph=True)
        penalty = (slope.norm(dim=1) - 1).square().mean()
        return {"loss": penalty, "slope": slope.norm(dim=1).mean()}


class Doubles:
    """A training split in float64."""

    endless = False

    def __init__(self, split):
        self.split = split

    def __len__(self):
        return len(self.split)

    def take(self, indices, *, generator=None):
        batch = self.split.take(indices, generator=generator)
        return Batch(batch.x.double(), batch.condition)


CASES = {"ns-gan": 1, "vae": 1, "vae in parts": 2, "penalty": 1}  # name → accumulate


def build(name):
    torch.manual_seed(0)
    images = ImageSpec(1, 8, 8, levels=4)
    if name == "penalty":
        return PenaltyOnly(PointSpec(2))
    if name.startswith("vae"):
        return create(
            "vae", spec=images, hidden=[16], latent_dim=3, batch_size=16, optimizer="adam", learning_rate=1e-3
        )
    return create("ns-gan", spec=images, channels=4, latent_dim=4, batch_size=16, learning_rate=1e-3)


def train(name, file):
    model = build(name).double()
    runtime = choose_runtime(model, device="cpu")
    if not runtime.ranks.leads:  # rank 0's weights must win
        nn.init.zeros_(next(model.parameters()))
    training = Training(
        model,
        Doubles(random_data(model.spec, n=64).train),
        budget=parse_budget("20 rounds"),
        seed=3,
        runtime=runtime,
        accumulate=CASES[name],
    )
    assert training.run().status == "finished"
    if runtime.ranks.leads:
        terms = {f"term {name}": torch.tensor(value) for name, value in training.take_terms().items()}
        terms["flops"] = torch.tensor(training.clock.flops)
        save_file({name: t.contiguous() for name, t in {**model.state_dict(), **terms}.items()}, file)


def main(folder):
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    for name in CASES:
        train(name, Path(folder) / name)


if __name__ == "__main__":
    main(*sys.argv[1:])
    join_ranks().largest(0.0)  # all are done
    os._exit(0)  # gloo's threads now and then abort the interpreter's own end, when all is written
