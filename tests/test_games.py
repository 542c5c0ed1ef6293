"""Costs of the adversarial games: value and gradient against hand derivations in float64."""

import math

import pytest
import torch

from bestiary.objectives import games

LOGITS = torch.tensor([-100.0, -30.0, -2.0, -0.1, 0.0, 0.5, 3.0, 30.0, 100.0], dtype=torch.float64)


def sigmoid(t):
    return 1 / (1 + math.exp(-t)) if t > -700 else 0.0


def log_one_minus_sigmoid(t):  # log(1 − σ(t)) = −t − log(1 + e^{−t}) for t > 0
    return -t - math.log1p(math.exp(-t)) if t > 0 else -math.log1p(math.exp(t))


# per element: (cost, derivative), written out by hand
GENERATOR = {
    "minimax": lambda t: (log_one_minus_sigmoid(t), -sigmoid(t)),
    "non_saturating": lambda t: (-log_one_minus_sigmoid(-t), -sigmoid(-t)),
    "maximum_likelihood": lambda t: (-0.5 * math.exp(t), -0.5 * math.exp(t)),
    "least_squares": lambda t: (0.5 * (t - 1) ** 2, t - 1),
    "wasserstein": lambda t: (-t, -1.0),
}


def cross_entropy_parts(t):
    return (
        (-log_one_minus_sigmoid(-t), -sigmoid(-t)),  # real: −log σ(t)
        (-log_one_minus_sigmoid(t), sigmoid(t)),  # fake: −log(1 − σ(t))
    )


DISCRIMINATOR = {
    "minimax": cross_entropy_parts,
    "non_saturating": cross_entropy_parts,
    "maximum_likelihood": cross_entropy_parts,
    "least_squares": lambda t: ((0.5 * (t - 1) ** 2, t - 1), (0.5 * t**2, t)),
    "wasserstein": lambda t: ((-t, -1.0), (t, 1.0)),
}


@pytest.mark.parametrize("name", games.GAMES)
def test_generator_cost_and_gradient(name):
    fake = LOGITS.clone().requires_grad_()
    cost = games.GAMES[name].generator_cost(fake=fake)
    cost.backward()
    values, slopes = zip(*(GENERATOR[name](float(t)) for t in LOGITS), strict=True)
    assert float(cost.detach()) == pytest.approx(sum(values) / len(LOGITS), rel=1e-12)
    expected = torch.tensor(slopes, dtype=torch.float64) / len(LOGITS)
    torch.testing.assert_close(fake.grad, expected, rtol=1e-10, atol=1e-40)


@pytest.mark.parametrize("name", games.GAMES)
def test_discriminator_cost_and_gradient(name):
    real, fake = LOGITS.clone().requires_grad_(), LOGITS.flip(0).clone().requires_grad_()
    cost = games.GAMES[name].discriminator_cost(real=real, fake=fake)
    cost.backward()
    parts = [DISCRIMINATOR[name](float(t)) for t in LOGITS]
    value = sum(real_part[0] + fake_part[0] for real_part, fake_part in parts) / len(LOGITS)
    assert float(cost.detach()) == pytest.approx(value, rel=1e-12)
    slope = lambda i: torch.tensor([part[i][1] for part in parts], dtype=torch.float64) / len(LOGITS)  # noqa: E731
    torch.testing.assert_close(real.grad, slope(0), rtol=1e-10, atol=1e-40)
    torch.testing.assert_close(fake.grad.flip(0), slope(1), rtol=1e-10, atol=1e-40)


def test_optimum_of_equal_laws():
    undecided = torch.zeros(7, dtype=torch.float64)
    assert float(games.minimax.discriminator_cost(real=undecided, fake=undecided)) == pytest.approx(
        math.log(4)
    )
    half = undecided + 0.5
    assert float(games.least_squares.discriminator_cost(real=half, fake=half)) == pytest.approx(0.25)


def test_minimax_is_the_saturating_game():
    """Where the discriminator is sure, the minimax gradient vanishes and the non-saturating one does not."""
    sure = torch.full((3,), -50.0, dtype=torch.float64, requires_grad=True)
    (saturated,) = torch.autograd.grad(games.minimax.generator_cost(fake=sure), sure)
    (alive,) = torch.autograd.grad(games.non_saturating.generator_cost(fake=sure), sure)
    assert saturated.abs().max() < 1e-20
    assert alive.abs().min() > 0.3


def test_two_gaussians_at_the_optimal_discriminator():
    """V = 2·JSD − log 4 for N(0, 1) against N(2, 1) with D*'s logit log p/q = 2 − 2x, by quadrature."""
    x = torch.linspace(-12, 14, 20001, dtype=torch.float64)
    step = x[1] - x[0]
    p = torch.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    q = torch.exp(-((x - 2) ** 2) / 2) / math.sqrt(2 * math.pi)
    mixture = (p + q) / 2
    jsd = 0.5 * ((p * (p / mixture).log() + q * (q / mixture).log()).sum() * step)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2, 400_000, dtype=torch.float64, generator=generator)
    cost = games.minimax.discriminator_cost(real=2 - 2 * noise[0], fake=2 - 2 * (noise[1] + 2))
    assert -float(cost) == pytest.approx(float(2 * jsd) - math.log(4), abs=0.005)
    assert -float(cost) == pytest.approx(-0.7126, abs=0.005)
