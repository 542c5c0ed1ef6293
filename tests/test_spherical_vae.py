"""The spherical VAE on a circle, where every integral over its codes is a sum over a fine grid."""

import math

import pytest
import torch

from bestiary.catalogue import create
from bestiary.data.specs import Classes, ImageSpec, PointSpec
from bestiary.data.splits import Batch
from bestiary.models.base import Clock, Step
from bestiary.testing import check_model

TURN = torch.arange(300, dtype=torch.float64) * 2 * math.pi / 300
CIRCLE = torch.stack([TURN.cos(), TURN.sin()], dim=1)


def circle_model(seed=0):
    """Codes on a circle, points in R³, networks that know nothing yet; float64."""
    settings = {"latent_dim": 1, "hidden": [8], "activation": "tanh", "warmup": 0.0}
    return create("spherical-vae", spec=PointSpec(3), seed=seed, **settings).double()


def points(n=6):
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def on_the_grid(model, x):
    """log p(x|z) and log of q(z|x) relative to the uniform law, of x (B, 3) and all z, each (B, grid)."""
    log_likelihood = torch.stack([model.log_likelihood(z.expand(len(x), 2), x) for z in CIRCLE], dim=1)
    q = model.posterior(x)
    log_q = torch.stack([q.log_prob(z) for z in CIRCLE], dim=1) + math.log(2 * math.pi)
    return log_likelihood, log_q


def step(x, *, generator=None, epochs=0.0, rank=0, ranks=1):
    clock = Clock(examples=int(epochs * 100), epoch_size=100)
    generator = generator or torch.Generator().manual_seed(0)
    return Step(len(x), clock, generator, {}, Batch(x), rank, ranks)


def test_labelled_points():
    check_model("spherical-vae", PointSpec(3, condition=Classes(3)))


def test_bounds_lie_below_the_exact_value_and_rise_to_it():
    model, x = circle_model(), points()
    with torch.no_grad():
        log_likelihood, log_q = on_the_grid(model, x)
    exact = log_likelihood.logsumexp(1) - math.log(len(CIRCLE))  # of the uniform prior
    many, generator = x.repeat_interleave(500, 0), torch.Generator().manual_seed(0)
    bounds = [model.log_prob_bound(many, particles=p, generator=generator).mean() for p in (1, 4, 40)]
    assert bounds[0] < bounds[1] < bounds[2] < exact.mean() + 1e-3
    found = model.log_prob_bound(x, particles=20_000, generator=generator)
    # E_q w² by the grid: the variance of a weight, relative to its mean
    spread = (2 * (log_likelihood - exact[:, None]) - log_q).exp().mean(1) - 1
    assert ((found - exact).abs() < 4 * (spread / 20_000).sqrt()).all()


def test_the_elbo_is_the_reconstruction_under_q_less_its_divergence():
    model, x = circle_model(), points()
    with torch.no_grad():
        log_likelihood, log_q = on_the_grid(model, x)
    exact = (log_q.exp() * (log_likelihood - log_q)).mean(1)
    n = 4000
    draws = model.elbo(x.repeat_interleave(n, 0), generator=torch.Generator().manual_seed(0)).view(-1, n)
    assert ((draws.mean(1) - exact).abs() < 4 * draws.std(1) / math.sqrt(n)).all()
    kl = model.cost(step(x))["kl"]
    assert float(kl.detach()) == pytest.approx(float((log_q.exp() * log_q).mean()), rel=1e-8)


def test_the_gradient_of_the_cost_is_that_of_the_exact_bound():
    """For every parameter, within the error of the mean over many draws: no bias in sight."""
    model, x = circle_model(), points(2)
    log_likelihood, log_q = on_the_grid(model, x)
    exact = -(log_q.exp() * (log_likelihood - log_q)).mean(1).mean()
    parameters = list(model.parameters())
    wanted = torch.autograd.grad(exact, parameters)
    generator = torch.Generator().manual_seed(0)
    many, repeats = x.repeat_interleave(500, 0), 40
    draws = [
        torch.cat([g.flatten() for g in torch.autograd.grad(model.cost(s)["loss"], parameters)])
        for s in (step(many, generator=generator) for _ in range(repeats))
    ]
    found, error = torch.stack(draws).mean(0), torch.stack(draws).std(0) / math.sqrt(repeats)
    wanted = torch.cat([g.flatten() for g in wanted])
    assert (wanted.abs() > 1e-3).sum() > 50
    assert ((found - wanted).abs() < 4.5 * error + 1e-9).all()


def test_the_divergence_warms_up_over_the_epochs():
    model = create("spherical-vae", spec=PointSpec(3), hidden=[8], latent_dim=2)
    x = points().float()
    for epochs, weight in ((0.0, 0.0), (25.0, 0.25), (100.0, 1.0), (300.0, 1.0)):
        cost = model.cost(step(x, epochs=epochs))
        expected = weight * cost["kl"] - cost["reconstruction"]
        torch.testing.assert_close(cost["loss"], expected)


def test_codes_are_directions():
    """Lengths do not count, so that a normal law of codes is the uniform one of directions."""
    model, x = circle_model(), points()
    codes = model.encode(x)
    torch.testing.assert_close(codes.norm(dim=1), torch.ones(6, dtype=torch.float64))
    torch.testing.assert_close(model.decode(codes), model.decode(7 * codes))
    assert not torch.allclose(model.decode(codes), model.decode(-codes))
    with torch.no_grad():
        log_likelihood, _ = on_the_grid(model, x[:1])
        z = model.draw_codes(40_000, generator=torch.Generator().manual_seed(0)).double()
        drawn = model.log_likelihood(z, x[:1].expand(len(z), 3)).exp()
        error = 4 * drawn.std() / 200
        assert (drawn.mean() - log_likelihood.exp().mean()).abs() < error
        torch.testing.assert_close(model.log_prior(z), torch.distributions.Normal(0, 1).log_prob(z).sum(1))


def test_paper_settings_are_the_papers_network():
    model = create("spherical-vae", spec=ImageSpec(1, 28, 28, levels=2))
    shapes = [tuple(p.shape) for name, p in model.named_parameters() if "weight" in name]
    assert shapes == [(256, 784), (128, 256), (12, 128), (128, 11), (256, 128), (784, 256)]
    assert (model.latent_dim, model.batch_size, model.treatment) == (11, 64, "mass")
    x = torch.rand(5, 1, 28, 28, generator=torch.Generator().manual_seed(0)).round()
    kappa = model.posterior(x).concentration
    assert (kappa > 1).all()


def test_ranks_share_out_the_codes_that_one_process_draws():
    model, x = circle_model(), points(10)
    whole = model.cost(step(x))
    shares = [model.cost(step(x[5 * rank : 5 * rank + 5], rank=rank, ranks=2)) for rank in (0, 1)]
    for name, value in whole.items():
        torch.testing.assert_close(value, (shares[0][name] + shares[1][name]) / 2)


def test_nothing_breaks_where_the_encoder_is_very_sure():
    model, x = circle_model(), points()
    with torch.no_grad():
        model.encoder[-1].bias[-1] = 1e5
    loss = model.cost(step(x))["loss"]
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    assert model.log_prob_bound(x, particles=20).isfinite().all()
