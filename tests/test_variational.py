"""The latent-variable family: bounds against quadrature, costs against each other, conditions and codes."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from bestiary import catalogue
from bestiary.config import options
from bestiary.data.specs import Classes, ImageSpec, PointSpec, Vector
from bestiary.data.splits import Batch
from bestiary.errors import DataError, OptionError
from bestiary.models.base import Clock, Step
from bestiary.models.latent.iwae import IWAE
from bestiary.models.latent.ladder_vae import merge
from bestiary.models.schedules import burda_stages

BINARY = ImageSpec(1, 6, 6, levels=2)
SMALL = {"hidden": [8], "latent_dim": 1}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def images(n, spec=BINARY, seed=100):
    return torch.rand(n, *spec.shape, generator=generator(seed)).round()


def step(x, condition=None, seed=0, clock=None):
    return Step(len(x), clock or Clock(epoch_size=100), generator(seed), {}, Batch(x, condition))


def sharpened(model):
    """Codes that matter, and a posterior that is near, for a model that was never trained."""
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.mul_(1.5)
        if hasattr(model, "encoder"):
            model.encoder[-1].weight.mul_(0.3)  # a wide q, under which importance weights are even
    return model


def test_iwae_of_one_code_is_the_vae_with_sampled_kl():
    x = images(16)
    settings = {**SMALL, "latent_dim": 3}
    vae = catalogue.create("vae", spec=BINARY, seed=1, kl="sampled", **settings)
    iwae = catalogue.create("iwae", spec=BINARY, seed=1, particles=1, **settings)
    costs = [model.cost(step(x)) for model in (vae, iwae)]
    assert costs[0]["loss"].item() == pytest.approx(costs[1]["loss"].item(), rel=1e-5)
    gradients = [
        torch.autograd.grad(cost["loss"], list(model.parameters()))
        for cost, model in zip(costs, (vae, iwae), strict=True)
    ]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    analytic = catalogue.create("vae", spec=BINARY, seed=1, **settings).cost(step(x))
    assert analytic["loss"].item() != pytest.approx(costs[0]["loss"].item(), rel=1e-5)


def test_the_gradient_of_iwae_weights_codes_by_their_share():
    model = catalogue.create("iwae", spec=BINARY, particles=4, **SMALL)
    x = images(5)
    terms = model.terms(x, step(x), particles=4, condition=None, sampled=True)
    log_weights = terms.log_weights
    (gradient,) = torch.autograd.grad(model.cost(step(x))["loss"], model.decoder[-2].bias)
    shares = log_weights.detach().softmax(1)
    (wanted,) = torch.autograd.grad(-(shares * log_weights).sum(1).mean(), model.decoder[-2].bias)
    torch.testing.assert_close(gradient, wanted)


@pytest.mark.parametrize("prior", ["standard", "mixture", "flow", "vampprior"])
@pytest.mark.parametrize("posterior", ["diagonal", "flow"])
def test_bounds_are_below_the_likelihood_by_quadrature_and_rise_to_it(prior, posterior):
    model = catalogue.create(
        "vae", spec=BINARY, seed=3, prior=prior, posterior=posterior, components=4, **SMALL
    )
    model = sharpened(model).double()
    x = images(6).double()
    grid = torch.linspace(-12, 12, 1201, dtype=torch.float64)[:, None]
    with torch.no_grad():
        log_joint = torch.stack(
            [
                model.log_prior(grid) + model.log_likelihood(grid, row.expand(len(grid), -1, -1, -1))
                for row in x
            ]
        )
    exact = float((log_joint.logsumexp(1) + math.log(float(grid[1] - grid[0]))).mean())
    bounds = [
        float(
            torch.stack(
                [model.log_prob_bound(x, particles=p, generator=generator(s)) for s in range(r)]
            ).mean()
        )
        for p, r in ((1, 60), (8, 20), (4000, 1))
    ]
    assert bounds[0] < bounds[1] < exact + 2e-2
    assert bounds[2] == pytest.approx(exact, abs=6e-2)


def test_the_elbo_meets_the_exact_likelihood_where_the_posterior_is_exact():
    W = torch.tensor([[1.0, 0.5], [0.2, -1.0], [0.3, 0.7]], dtype=torch.float64)
    b, sigma = torch.tensor([0.1, -0.2, 0.3], dtype=torch.float64), 0.4
    model = catalogue.create(
        "vae", spec=PointSpec(3), hidden=[], latent_dim=2, posterior="full", sigma=sigma
    ).double()
    covariance = torch.linalg.inv(torch.eye(2).double() + W.T @ W / sigma**2)
    scale = torch.linalg.cholesky(covariance)
    gain = covariance @ W.T / sigma**2
    with torch.no_grad():
        model.decoder[1].weight.copy_(W)
        model.decoder[1].bias.copy_(b)
        model.encoder[1].weight.copy_(torch.cat([gain, torch.zeros(3, 3)]))
        model.encoder[1].bias.copy_(torch.cat([-gain @ b, scale.diagonal().log(), scale[1, :1]]))
    x = torch.randn(40, 3, generator=generator()).double()
    exact = MultivariateNormal(b, W @ W.T + sigma**2 * torch.eye(3).double()).log_prob(x)
    elbo = torch.stack([model.elbo(x, generator=generator(s)) for s in range(600)])
    error = elbo.mean(1).std() / math.sqrt(len(elbo))
    assert float(elbo.mean()) == pytest.approx(float(exact.mean()), abs=max(1e-3, 4 * float(error)))
    # with exact posteriors every importance weight is log p(x) itself
    bound = model.log_prob_bound(x, particles=2, generator=generator())
    torch.testing.assert_close(bound, exact, atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", ["vae", "conditional-vae", "beta-vae", "iwae"])
def test_vaes_hand_the_norm_of_their_gradients_to_training(name):
    assert catalogue.create(name, spec=BINARY, max_grad_norm=2.0, **SMALL).max_grad_norm == 2
    assert catalogue.create(name, spec=BINARY, **SMALL).max_grad_norm is None


def test_a_closed_form_is_refused_where_there_is_none():
    with pytest.raises(OptionError, match="kl: found 'analytic' with prior=vampprior"):
        catalogue.create("vae", spec=BINARY, prior="vampprior", kl="analytic")
    with pytest.raises(OptionError, match=r"sigma: found 0.1 for likelihood=bernoulli"):
        catalogue.create("vae", spec=BINARY, sigma=0.1)
    with pytest.raises(DataError, match="condition: found PointSpec without conditions"):
        catalogue.create("conditional-vae", spec=PointSpec(3))
    with pytest.raises(OptionError, match="hidden: found \\[8\\] for latent_dims=\\[2, 1\\]"):
        catalogue.create("ladder-vae", spec=BINARY, hidden=[8], latent_dims=[2, 1])


def test_the_ladder_is_below_the_likelihood_by_quadrature_and_rises_to_it():
    model = catalogue.create("ladder-vae", spec=BINARY, latent_dims=[1, 1], hidden=[6, 4], seed=2)
    model = sharpened(sharpened(model)).double()
    x = images(6).double()
    side = torch.linspace(-10, 10, 401, dtype=torch.float64)[:, None]
    with model.evaluation():
        _, mean, log_sigma = model.down[0](side)  # p(z_1|z_2) for every z_2 of the grid
        normal = torch.distributions.Normal(0, 1)
        log_top = normal.log_prob(side)  # (grid of z_2, 1)
        log_low = torch.distributions.Normal(mean, log_sigma.exp()).log_prob(side.T)  # (z_2, z_1)
        log_codes = (log_top + log_low).logsumexp(0) + 2 * math.log(float(side[1] - side[0]))
        raw = model.decoder(side)
        exact = torch.stack(
            [
                (log_codes + model.observation.log_prob(raw, row.expand(401, -1, -1, -1))).logsumexp(0)
                for row in x
            ]
        ).mean()
    bounds = [
        float(
            torch.stack(
                [model.log_prob_bound(x, particles=p, generator=generator(s)) for s in range(r)]
            ).mean()
        )
        for p, r in ((1, 60), (10, 20), (5000, 1))
    ]
    assert bounds[0] < bounds[1] < float(exact) + 2e-2
    assert bounds[2] == pytest.approx(float(exact), abs=2e-2)


def test_the_merge_of_two_normals_is_their_product():
    one, other = torch.distributions.Normal(1.0, 0.5), torch.distributions.Normal(-2.0, 2.0)
    mean, log_sigma = merge(one.loc, one.scale.log(), other.loc, other.scale.log())
    z = torch.linspace(-3, 3, 50)
    both = one.log_prob(z) + other.log_prob(z)
    merged = torch.distributions.Normal(mean, log_sigma.exp()).log_prob(z)
    torch.testing.assert_close(both - both[0], merged - merged[0], atol=1e-4, rtol=1e-4)


LABELLED = ImageSpec(1, 6, 6, levels=2, condition=Classes(3))


def conditional(spec=LABELLED, **settings):
    return sharpened(catalogue.create("conditional-vae", spec=spec, seed=4, **SMALL, **settings)).double()


def test_the_missing_part_has_the_likelihood_by_quadrature():
    model, x, labels = conditional(), images(5).double(), torch.tensor([0, 1, 2, 0, 1])
    observed = torch.zeros(1, 1, 6, 6, dtype=torch.bool)
    observed[..., :3, :] = True
    grid = torch.linspace(-10, 10, 4001, dtype=torch.float64)[:, None]
    with model.evaluation():
        context = model.context(labels, 5, x=x, observed=observed.expand(5, -1, -1, -1))
        p = model.code_prior(context)
        exact = []
        for i in range(5):
            log_prior = torch.distributions.Normal(p.mean[i], p.log_sigma[i].exp()).log_prob(grid)[:, 0]
            raw = model.decoder(grid, context[i].expand(len(grid), -1))
            hidden = model.observation.log_probs(raw, x[i].expand(len(grid), -1, -1, -1))[:, :, 3:]
            exact.append((log_prior + hidden.flatten(1).sum(1)).logsumexp(0))
        exact = torch.stack(exact) + math.log(float(grid[1] - grid[0]))
    found = model.log_prob_missing(x, observed, particles=20_000, condition=labels, generator=generator())
    torch.testing.assert_close(found, exact, atol=3e-2, rtol=0)
    # what is shown counts: other pixels there, another law of what is missing
    changed = x.clone()
    changed[:, :, :3] = 1 - changed[:, :, :3]
    other = model.log_prob_missing(
        changed, observed, particles=20_000, condition=labels, generator=generator()
    )
    assert (other - found).abs().max() > 1e-2


def test_the_loss_of_a_conditional_vae_counts_what_is_missing_alone():
    model, x, labels = conditional(), images(64).double(), torch.zeros(64, dtype=torch.long)
    observed = model._quadrants(step(x, labels))
    assert observed.shape == (64, 1, 6, 6)
    shown = observed.flatten(1).double().mean(1)
    assert set(shown.tolist()) == {0.0, 0.25, 0.5, 0.75}
    context = model.context(labels, 64, x=x, observed=observed)
    draws = step(x, labels)
    draws.uniform(1), draws.uniform(4)
    terms = model._terms(x, draws, 1, context, sampled=False, where=~observed)
    wanted = (terms.divergence - terms.reconstruction).mean()
    assert model.cost(step(x, labels))["loss"].item() == pytest.approx(wanted.item(), rel=1e-9)
    # an image of which more is shown has fewer numbers left to explain
    nats = -terms.reconstruction[:, 0].detach()
    assert nats[shown == 0.75].mean() < 0.5 * nats[shown == 0].mean()


def test_every_density_of_a_conditional_vae_hears_the_condition():
    model, x = conditional(glimpses=False), images(8).double()
    one, other = torch.zeros(8, dtype=torch.long), torch.ones(8, dtype=torch.long)
    z = torch.zeros(8, 1).double()
    assert not torch.equal(model.encode(x, condition=one), model.encode(x, condition=other))
    assert not torch.equal(model.decode(z, condition=one), model.decode(z, condition=other))
    assert not torch.equal(model.log_prior(z, one), model.log_prior(z, other))
    with pytest.raises(DataError, match="glimpses: found false"):
        model.complete(x, torch.ones(1, dtype=torch.bool), condition=one)
    with pytest.raises(DataError, match="condition: found None, wanted int64 labels from 0 to 2"):
        model.sample(4)


def test_completions_keep_what_is_shown_and_differ_elsewhere():
    spec = ImageSpec(3, 8, 8, condition=Vector(2))
    model = sharpened(
        catalogue.create("conditional-vae", spec=spec, network="infogan", channels=4, latent_dim=3)
    )
    x, condition = torch.rand(4, 3, 8, 8, generator=generator()), torch.ones(4, 2)
    observed = torch.zeros(4, 1, 8, 8, dtype=torch.bool)
    observed[..., :4] = True
    filled = model.complete(x, observed, n=3, condition=condition, generator=generator())
    assert filled.shape == (3, 4, 3, 8, 8)
    assert torch.equal(filled[:, :, :, :, :4], x[:, :, :, :4].expand(3, -1, -1, -1, -1))
    assert not torch.equal(filled[0][..., 4:], filled[1][..., 4:])
    partly = torch.zeros(4, 3, 8, 8, dtype=torch.bool)
    partly[:, 0] = True
    with pytest.raises(DataError, match="observed: found pixels with some of their colours"):
        model.complete(x, partly, condition=condition)


def test_hidden_pixels_may_be_anything_and_mistakes_are_one_line():
    model = sharpened(
        catalogue.create("conditional-vae", spec=BINARY, network="mlp", hidden=[4], latent_dim=2)
    )
    x = images(3)
    observed = torch.zeros_like(x, dtype=torch.bool)
    observed[..., 0] = True
    hidden = torch.where(observed, x, torch.nan)
    filled = model.complete(hidden, observed, n=2, generator=generator())
    assert torch.equal(filled, model.complete(x, observed, n=2, generator=generator()))
    assert filled.isfinite().all()
    for mistake, error, message in (
        (lambda: model.complete(x, observed.float()), DataError, "observed: found torch.float32"),
        (
            lambda: model.complete(x, observed[:2]),
            DataError,
            "observed: found",
        ),
        (lambda: model.complete(x[..., :1], observed[..., :1]), DataError, "x: found"),
        (lambda: model.complete(x, observed, n=0), OptionError, "n: found 0"),
        (lambda: model.log_prob_missing(x, observed, particles=0), OptionError, "particles: found 0"),
    ):
        with pytest.raises(error, match=message):
            mistake()


@pytest.mark.parametrize("name", ["vae", "spherical-vae", "ladder-vae", "iwae", "gaussian-mixture", "ppca"])
def test_bounds_refuse_what_is_no_image(name):
    spec = ImageSpec(1, 4, 4, levels=4)
    small = {"ladder-vae": {"latent_dims": [2], "hidden": [4]}, "gaussian-mixture": {"components": 2}}
    model = catalogue.create(name, spec=spec, **small.get(name, {"latent_dim": 2}))
    x = torch.rand(3, 1, 4, 4, generator=generator())
    for score in (model.elbo, lambda x: model.log_prob_bound(x, particles=2)):
        with pytest.raises(DataError, match=r"x: found values from -1 to 1, wanted images in \[0, 1\]"):
            score(torch.where(x > 0.5, 1.0, -1.0))
        with pytest.raises(DataError, match="x: found values from nan"):
            score(x / 0 * 0)
    if name in ("vae", "ladder-vae"):
        near = (x * 3).round() / 3
        elbos = [model.elbo(y, generator=generator()) for y in (near, near + 0.1 * (0.5 - near))]
        assert torch.equal(*elbos)  # rounded to the nearest level


def test_codes_of_the_wrong_length_are_one_line():
    model = catalogue.create("vae", spec=BINARY, hidden=[4], latent_dim=2)
    with pytest.raises(DataError, match=r"z: found torch.float32 of shape \(3, 5\), wanted .* \(n, 2\)"):
        model.decode(torch.zeros(3, 5))
    with pytest.raises(DataError, match=r"z: found .* \(3, 2\), wanted float codes of shape \(4, 2\)"):
        model.log_likelihood(torch.zeros(3, 2), images(4))


def test_iwae_does_what_its_options_say():
    settings = {"spec": BINARY, "hidden": [4], "latent_dim": 2, "particles": 3}
    warm = catalogue.create("iwae", warmup=10.0, **settings)
    plain = catalogue.create("iwae", **settings)
    plain.load_state_dict(warm.state_dict())
    x = images(4)
    begun, over = Clock(epoch_size=10), Clock(epoch_size=10, examples=100)
    assert torch.equal(*(m.cost(step(x, clock=over))["loss"] for m in (warm, plain)))
    assert not torch.equal(*(m.cost(step(x, clock=begun))["loss"] for m in (warm, plain)))
    optimizer = plain.players()["model"].optimizer([torch.nn.Parameter(torch.zeros(2))])
    assert isinstance(optimizer, torch.optim.Adam)
    assert optimizer.defaults["eps"] == 1e-4
    other = catalogue.create("iwae", optimizer="adagrad", **settings).players()["model"]
    assert isinstance(other.optimizer([torch.nn.Parameter(torch.zeros(2))]), torch.optim.Adagrad)
    with pytest.raises(OptionError, match="kl: found 'analytic'"):
        catalogue.create("iwae", kl="analytic", **settings)


def test_options_that_would_do_nothing_are_refused():
    for name, settings, message in (
        ("conditional-vae", {"prior": "flow"}, "prior: found 'flow', wanted 'standard'"),
        (
            "conditional-vae",
            {"posterior": "full", "kl": "analytic"},
            "kl: found 'analytic' with posterior=full",
        ),
        ("beta-vae", {"capacity": 5.0, "warmup": 3.0}, "warmup: found 3 beside a capacity"),
        ("autoencoder", {"masking": 3.0}, "masking"),
    ):
        with pytest.raises(OptionError, match=message):
            catalogue.create(name, spec=BINARY, **settings)


def test_beta_vae_is_the_papers_on_sprites():
    model = catalogue.create("beta-vae", spec=ImageSpec(1, 64, 64, levels=2))
    kinds = [type(layer).__name__ for layer in model.decoder]
    assert kinds.count("Tanh") == 3
    widths = [m.out_features for m in (*model.encoder, *model.decoder) if isinstance(m, torch.nn.Linear)]
    assert widths == [1200, 1200, 20, 1200, 1200, 1200, 4096]
    optimizer = model.players()["model"].optimizer([torch.nn.Parameter(torch.zeros(2))])
    assert (type(optimizer).__name__, optimizer.defaults["lr"]) == ("Adagrad", 1e-2)


def test_the_capacity_of_a_beta_vae_grows_over_its_rise():
    kl = torch.tensor(7.0)
    plain = catalogue.create("beta-vae", spec=BINARY, network="mlp", beta=3.0)
    assert float(plain.penalty(kl, Clock())) == 21.0
    model = catalogue.create("beta-vae", spec=BINARY, network="mlp", capacity=10.0, gamma=100.0, rise=0.5)
    found = [float(model.penalty(kl, Clock(progress=p))) for p in (0.0, 0.25, 0.5, 1.0)]
    assert found == pytest.approx([700.0, 200.0, 300.0, 300.0])


def test_warm_up_counts_epochs():
    model = catalogue.create("vae", spec=BINARY, warmup=4.0)
    found = [model.warmth(Clock(examples=n, epoch_size=50)) for n in (0, 100, 200, 400)]
    assert found == [0.0, 0.5, 1.0, 1.0]


def test_the_stages_of_burda():
    found = [
        burda_stages(Clock(examples=epochs, epoch_size=1)) for epochs in (0, 1, 3, 4, 12, 13, 3280, 9999)
    ]
    assert found == pytest.approx([10 ** (-i / 7) for i in (0, 1, 1, 2, 2, 3, 7, 7)])


def test_options_of_a_class_that_passes_settings_on_include_those_above_it():
    found = options(IWAE)
    assert found["particles"].default == 50
    assert found["latent_dim"].default == 50  # its own, not the VAE's 20
    assert found["prior"].default == "standard"  # the VAE's
    assert "settings" not in found


def test_principal_components_are_the_optimum_of_a_linear_autoencoder():
    x = (
        torch.randn(300, 6, generator=generator(), dtype=torch.float64)
        @ torch.diag(torch.arange(6) + 1.0).double()
    )
    x = x - x.mean(0)
    _, singular, directions = torch.linalg.svd(x)
    model = catalogue.create("autoencoder", spec=PointSpec(6), hidden=[], latent_dim=2).double()
    with torch.no_grad():
        model.encoder[1].weight.copy_(directions[:2])
        model.decoder[1].weight.copy_(directions[:2].T)
    loss = model.cost(step(x))["loss"]
    assert loss.item() == pytest.approx(float(singular[2:].square().sum() / 300), rel=1e-9)
    for gradient in torch.autograd.grad(loss, list(model.parameters())):
        assert gradient.abs().max() < 1e-9
    with torch.no_grad():  # less along another direction
        model.encoder[1].weight.copy_(directions[1:3])
        model.decoder[1].weight.copy_(directions[1:3].T)
    assert model.cost(step(x))["loss"] > 1.1 * loss


def test_a_denoising_autoencoder_sees_noise_and_copies_the_clean_example():
    x = images(50).double()
    clean = catalogue.create("autoencoder", spec=BINARY, hidden=[8], latent_dim=2).double()
    noisy = catalogue.create("autoencoder", spec=BINARY, hidden=[8], latent_dim=2, masking=0.5).double()
    draws = step(x)
    seen = x * (draws.uniform(*BINARY.shape) >= 0.5)
    wanted = (noisy.decode(noisy.encode(seen)) - x).square().flatten(1).sum(1).mean()
    assert noisy.cost(step(x))["loss"].item() == pytest.approx(wanted.item(), rel=1e-9)
    assert clean.cost(step(x))["loss"].item() != pytest.approx(wanted.item(), rel=1e-6)
