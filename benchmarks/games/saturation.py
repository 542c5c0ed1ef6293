"""The generator's gradient against a discriminator that is ever more sure: minimax and non-saturating.

    OMP_NUM_THREADS=1 python benchmarks/games/saturation.py

A generator is trained by the non-saturating game and then stays as it is. A discriminator is trained against
it from the start, and every few steps the norm of the gradient of J_G for the generator's weights is measured
for both costs (Towards Principled Methods for Training Generative Adversarial Networks, Arjovsky & Bottou,
2017, arXiv 1701.04862, Figures 2 and 3). Fashion-MNIST, the networks of Lucic et al. (2018) with a quarter of
the channels and no batch norm in the discriminator, which sees samples by themselves here, Adam 2e-4 with
β₁ = .5, batches of 64. Two minutes on one core.
"""

import numpy as np
import torch
from experiment import command_line, seeded
from figure_style import BLUE, GREEN, ORANGE, PINK, two
from torch import nn

import bestiary
from bestiary.models.adversarial.gan import GAN
from bestiary.objectives import games
from bestiary.randomness import forked_randomness
from bestiary.training.budget import parse_budget
from bestiary.training.loop import Training
from bestiary.training.runtime import choose_runtime

SETTINGS = {"channels": 16, "learning_rate": 2e-4, "beta1": 0.5, "batch_norm": False}
MEASURED = sorted({0, 1, 2, 3, 5, 8, *(round(10 * 10 ** (i / 8)) for i in range(40))})
CODES = 256
COSTS = {"minimax": ORANGE, "non_saturating": BLUE}


class Fixed(GAN):
    """A game in which only the discriminator moves."""

    def moves(self, clock):
        return super().moves(clock)[:1]


def train(model, data, rounds, seed, observers=()):
    runtime = choose_runtime(model, device="cpu", precision="float32")
    Training(model, data.train, budget=parse_budget(f"{rounds} rounds"), seed=seed, runtime=runtime).run(
        observers
    )
    return model


def slopes(model):
    """‖∇J_G‖ for the generator's weights by cost, and the discriminator's mean output on samples."""
    weights = list(model.generator.parameters())
    frozen = [weight.requires_grad for weight in weights]
    model.generator.requires_grad_(True)
    z = 2 * torch.rand(CODES, model.latent_dim, generator=seeded(0)) - 1
    logits = model.discriminate(model.generate(z))
    found = {"D": float(logits.detach().sigmoid().mean()), "logit": float(logits.detach().mean())}
    for name in COSTS:
        cost = games.GAMES[name].generator_cost(fake=logits)
        gradients = torch.autograd.grad(cost, weights, retain_graph=True)
        found[name] = float(nn.utils.get_total_norm(gradients))
    for weight, moves in zip(weights, frozen, strict=True):
        weight.requires_grad_(moves)
    return {name: float(f"{value:.4g}") for name, value in found.items()}


def measure(options, found, keep):
    data = bestiary.load_data("fashion-mnist")
    steps = [step for step in MEASURED if step <= options.steps]
    trained = bestiary.create("ns-gan", spec=data.spec, seed=options.seed, **SETTINGS)
    train(trained, data, options.rounds, options.seed)
    with forked_randomness(options.seed + 1):
        model = Fixed(data.spec, **SETTINGS)
    model.generator.load_state_dict(trained.generator.state_dict())
    model.train()
    found |= {"rounds": options.rounds, "steps": {"0": slopes(model)}}

    def look(training):
        if training.clock.rounds in steps:
            found["steps"][str(training.clock.rounds)] = slopes(model)

    train(model, data, options.steps, options.seed, [look])
    print(found["steps"][str(steps[-1])], flush=True)
    keep(whole=True)


def saturation(found):
    """Costs by logit, and gradients over the discriminator's steps."""
    titles = ("cost of a sample, by the logit of D", "‖∇J_G‖, with G as it is, while D gets better")
    figure, left, right = two(*titles, height=2.7)
    logits = torch.linspace(-6, 4, 201)
    shown = {"minimax": ORANGE, "non_saturating": BLUE, "maximum_likelihood": GREEN, "least_squares": PINK}
    places = {
        "minimax": (-5.8, -1.2),
        "non_saturating": (-5.8, 2.3),
        "maximum_likelihood": (-2.6, -4.5),
        "least_squares": (-5.8, 7),
    }
    for name, colour in shown.items():
        costs = [float(games.GAMES[name].generator_cost(fake=logit)) for logit in logits]
        left.plot(logits, costs, color=colour)
        words = name.replace("_", "-" if name.startswith("non") else " ")
        left.text(*places[name], words, color=colour, fontsize=7.5)
    left.set(xlim=(-6, 4), ylim=(-6, 8), xlabel="logit of D(G(z)): sure of a fake … fooled", ylabel="J_G")
    steps = np.array([int(step) for step in found["steps"]])
    for cost, colour in COSTS.items():
        slope = [one[cost] for one in found["steps"].values()]
        right.plot(steps[1:], slope[1:], color=colour, marker="o", markersize=2.5)
    right.set(xscale="log", yscale="log", xlabel="steps of the discriminator")
    return figure


FIGURES = {
    saturation: "Costs of four generators by logit, and gradients against a better and better discriminator"
}
ARGUMENTS = [
    ("--rounds", {"type": int, "default": 500, "help": "of training the generator"}),
    ("--steps", {"type": int, "default": 2000, "help": "of the discriminator"}),
]

if __name__ == "__main__":
    command_line(__file__, __doc__, measure, FIGURES, arguments=ARGUMENTS)
