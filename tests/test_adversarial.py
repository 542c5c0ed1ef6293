"""The adversarial models: penalties, projections, controllers and unrolling against what papers say."""

import copy
import math
from types import MappingProxyType

import pytest
import torch
from scipy.integrate import quad
from torch import nn
from torch.optim import Adam

from bestiary import catalogue
from bestiary.catalogue import create
from bestiary.data.specs import Classes, ImageSpec, PointSpec, Vector
from bestiary.errors import DataError, OptionError
from bestiary.models import Clock, Step
from bestiary.models.adversarial.gan import GAN
from bestiary.objectives import games, penalties
from bestiary.testing import check_model, random_data
from bestiary.training.budget import Budget
from bestiary.training.loop import Training
from bestiary.training.runtime import choose_runtime

POINTS = PointSpec(2)
GREY = ImageSpec(1, 8, 8, levels=4)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def step(model, batch, optimizers=None, seed=0):
    return Step(
        size=len(batch),
        clock=Clock(),
        generator=generator(seed),
        optimizers=MappingProxyType(optimizers or {}),
        batch=batch,
    )


def training(model, data, rounds=3):
    runtime = choose_runtime(model, device="cpu", precision="float32")
    return Training(model, data.train, budget=Budget(rounds, "rounds"), seed=0, runtime=runtime)


class TestPenalties:
    def test_of_a_linear_function_it_is_the_papers_to_the_digit(self):
        a = torch.tensor([3.0, -4.0, 12.0], dtype=torch.float64)  # ‖a‖ = 13
        x = torch.randn(5, 3, generator=generator(), dtype=torch.float64).requires_grad_()
        slope = penalties.slopes((x @ a)[:, None], x)
        torch.testing.assert_close(slope, torch.full((5,), 13.0, dtype=torch.float64))
        assert float(penalties.unit_slope_penalty(slope).detach()) == pytest.approx(144)

    def test_the_norm_is_of_each_example_not_of_the_batch(self):
        x = torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=torch.float64, requires_grad=True)
        slope = penalties.slopes(x.square().sum(1, keepdim=True) / 2, x)  # ∇ = x
        torch.testing.assert_close(slope, torch.tensor([1.0, 2.0], dtype=torch.float64))
        assert float(penalties.unit_slope_penalty(slope).detach()) == pytest.approx(
            (0 + 1) / 2
        )  # √5 − 1 of a batch

    def test_its_gradient_is_that_of_a_derivation_by_hand(self):
        a = torch.tensor([0.6, 1.1], dtype=torch.float64, requires_grad=True)
        x = torch.randn(4, 2, dtype=torch.float64, generator=generator()).requires_grad_()
        penalties.unit_slope_penalty(penalties.slopes((x @ a)[:, None], x)).backward()
        norm = a.detach().norm()
        torch.testing.assert_close(a.grad, 2 * (norm - 1) * a.detach() / norm)

    def test_a_flat_critic_has_a_finite_gradient(self):
        weight = torch.zeros(2, 1, dtype=torch.float64, requires_grad=True)
        x = torch.ones(3, 2, dtype=torch.float64, requires_grad=True)
        slope = penalties.slopes(x @ weight, x)
        penalties.unit_slope_penalty(slope).backward()
        assert slope.tolist() == [0, 0, 0]
        assert weight.grad.isfinite().all()

    def test_where_the_slope_is_taken(self):
        real, fake = torch.ones(3, 2), torch.full((3, 2), 5.0)
        u = torch.tensor([[1.0], [0.0], [0.25]])
        assert penalties.between(real, fake, u)[:, 0].tolist() == [1, 5, 4]
        real = torch.tensor([[0.0, 2.0], [2.0, 0.0]])  # deviation of the four numbers: √(4/3)
        x = penalties.around(real, torch.tensor([[1.0, 0.0], [0.5, 1.0]]), torch.tensor([[1.0], [0.5]]))
        half = math.sqrt(4 / 3) / 2
        torch.testing.assert_close(x, real + half * torch.tensor([[1.0, 0.0], [0.25, 0.5]]))

    @pytest.mark.parametrize("packing", [1, 4])
    @pytest.mark.parametrize("name", ["wgan-gp", "dragan"])
    def test_costs_hold_the_penalty(self, name, packing):
        """J_D of the game plus λ times the mean over packs of (‖∇D(x̂)‖ − 1)², x̂ from the step's own draws."""
        settings = {"hidden": [8], "batch_size": 16, "penalty_weight": 3.0, "packing": packing}
        model = create(name, spec=POINTS, **settings)
        batch = random_data(POINTS).train[:16]
        terms = model.discriminator_cost(step(model, batch))
        drawn = step(model, batch)
        with torch.no_grad():
            fake = model.generate(model.codes(drawn))
            game = model.game.discriminator_cost(
                real=model.discriminate(batch.x), fake=model.discriminate(fake)
            )
        u = drawn.uniform(1)[::packing].repeat_interleave(packing, 0)  # one for all of a pack
        if name == "wgan-gp":
            x = u * batch.x + (1 - u) * fake
        else:
            x = batch.x + 0.5 * u * batch.x.std() * drawn.uniform(2)
        norms = []
        for pack in x.split(packing):
            pack = pack.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(model.discriminate(pack).sum(), pack)
            norms.append(gradient.norm())
        penalty = (torch.stack(norms) - 1).square().mean()
        assert float(terms["loss"].detach()) == pytest.approx(float(game + 3 * penalty), rel=1e-5)
        assert float(terms["slope"].detach()) == pytest.approx(float(torch.stack(norms).mean()), rel=1e-5)


def density(x, mean):
    return math.exp(-((x - mean) ** 2) / 2) / math.sqrt(2 * math.pi)


def integral(f):
    return quad(f, -14, 16, limit=400, points=[0, 1, 2])[0]


class TestOptimum:
    """Data N(0, 1), model N(m, 1): at the best discriminator costs are divergences, gradients are known."""

    quantiles = torch.distributions.Normal(0.0, 1.0).icdf(
        (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    )  # means over them are integrals

    def logit(self, x, m):
        return m**2 / 2 - m * x  # log p_data(x)/p_model(x)

    def costs(self, game, m, best):
        real = best(self.logit(self.quantiles, m))
        return float(game.discriminator_cost(real=real, fake=best(self.logit(self.quantiles + m, m))))

    @pytest.mark.parametrize("m", [0.0, 0.5, 2.0])
    def test_cross_entropy_is_log_4_less_twice_jensen_shannon(self, m):
        def pointwise(x):
            p, q = density(x, 0), density(x, m)
            return (p * math.log(2 * p / (p + q)) + q * math.log(2 * q / (p + q))) / 2

        divergence = integral(pointwise)
        cost = self.costs(games.minimax, m, lambda t: t)
        assert cost == pytest.approx(math.log(4) - 2 * divergence, abs=2e-4)
        assert float(games.minimax.divergence(torch.tensor(cost))) == pytest.approx(divergence, abs=1e-4)

    @pytest.mark.parametrize("m", [0.0, 0.5, 2.0])
    def test_least_squares_is_a_quarter_less_the_triangular_divergence(self, m):
        def pointwise(x):
            p, q = density(x, 0), density(x, m)
            return (p - q) ** 2 / (p + q) / 8

        divergence = integral(pointwise)
        cost = self.costs(games.least_squares, m, torch.sigmoid)
        assert cost == pytest.approx(0.25 - divergence, abs=1e-4)
        assert float(games.least_squares.divergence(torch.tensor(cost))) == pytest.approx(
            divergence, abs=1e-4
        )

    @pytest.mark.parametrize(("name", "known"), [("maximum_likelihood", 0.5), ("wasserstein", None)])
    @pytest.mark.parametrize("m", [0.5, 1.5])
    def test_the_generators_gradient(self, name, known, m):
        """Maximum likelihood: half of ∂KL/∂m = m. A critic f(x) = −x, of slope 1: ∂W/∂m = 1."""
        mean = torch.tensor(m, dtype=torch.float64, requires_grad=True)
        fake = self.quantiles + mean
        output = self.logit(fake, m) if known else -fake
        games.GAMES[name].generator_cost(fake=output).backward()
        wanted = known * m if known else 1.0
        assert float(mean.grad) == pytest.approx(wanted, rel=0.02)

    def test_the_minimax_gradient_vanishes_where_the_other_does_not(self):
        gradients = {}
        for name in ("minimax", "non_saturating"):
            mean = torch.tensor(8.0, dtype=torch.float64, requires_grad=True)
            games.GAMES[name].generator_cost(fake=self.logit(self.quantiles + mean, 8.0)).backward()
            gradients[name] = abs(float(mean.grad))
        assert gradients["minimax"] < 1e-2 * gradients["non_saturating"]
        assert gradients["non_saturating"] == pytest.approx(8, rel=0.01)


class TestGAN:
    def test_a_smoothed_label_is_the_cross_entropy_of_its_target(self):
        data = random_data(POINTS)
        model = create("ns-gan", spec=POINTS, hidden=[8], label_smoothing=0.1, batch_size=16)
        found = step(model, data.train[:16])
        terms = model.discriminator_cost(found)
        again = step(model, data.train[:16])
        fake = model.discriminate(model.generate(model.codes(again)))
        bce = nn.functional.binary_cross_entropy_with_logits
        real = model.discriminate(data.train[:16].x)
        expected = bce(real, torch.full_like(real, 0.9)) + bce(fake, torch.zeros_like(fake))
        assert float(terms["loss"].detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
        for game in ("least_squares", "wasserstein"):
            with pytest.raises(OptionError, match="label_smoothing"):
                create("ns-gan", spec=POINTS, game=game, label_smoothing=0.1)

    def test_clipping_bounds_every_weight_after_every_step_of_the_critic(self):
        model = create("wgan", spec=GREY, channels=4, clip=0.005)
        run = training(model, random_data(GREY))
        run.round()
        largest = max(float(p.detach().abs().max()) for p in model.discriminator.parameters())
        assert largest == pytest.approx(0.005)
        assert run.clock.updates == {"discriminator": 5, "generator": 1}
        assert max(float(p.detach().abs().max()) for p in model.generator.parameters()) > 0.005

    def test_rows_of_the_catalogue_are_their_papers(self):
        def facts(name):
            model = create(name, spec=GREY)
            player = model.players()["discriminator"].optimizer
            settings = model.settings
            return (
                settings["game"], settings["penalty"], settings["clip"], settings["discriminator_updates"],
                player.func.__name__, player.keywords["lr"], player.keywords.get("betas"),
            )  # fmt: skip

        assert facts("wgan") == ("wasserstein", "none", 0.01, 5, "RMSprop", 5e-5, None)
        assert facts("wgan-gp") == ("wasserstein", "gradient", None, 5, "Adam", 1e-4, (0.0, 0.9))
        assert facts("dragan") == ("non_saturating", "dragan", None, 1, "Adam", 1e-4, (0.5, 0.9))
        assert facts("lsgan") == ("least_squares", "none", None, 1, "Adam", 2e-4, (0.5, 0.999))
        assert facts("ml-gan")[0] == "maximum_likelihood"
        critic = create("wgan-gp", spec=GREY).discriminator
        assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in critic.modules())

    @pytest.mark.parametrize("name", [n for n, e in catalogue.CATALOGUE.items() if e.family == "adversarial"])
    def test_a_model_keeps_its_name_when_its_settings_change(self, name):
        entry = catalogue.entry(name)
        model = create(name, spec=POINTS, hidden=[8], learning_rate=0.123, discriminator_updates=7)
        assert catalogue.name_of(model) == name
        assert catalogue.name_of(create(name, spec=POINTS, preset="laptop")) == name
        assert set(entry.identity) <= set(model.settings)

    def test_the_generator_may_have_a_rate_of_its_own(self):
        model = create("ns-gan", spec=POINTS, generator_learning_rate=1e-2, learning_rate=1e-3)
        rates = {name: player.optimizer.keywords["lr"] for name, player in model.players().items()}
        assert rates == {"discriminator": 1e-3, "generator": 1e-2}

    def test_the_prior_is_what_it_says(self):
        noise = step(None, random_data(POINTS, n=64).train[:64])
        uniform = create("ns-gan", spec=POINTS, latent_dim=100).codes(noise)
        assert -1 <= float(uniform.min()) < -0.99
        assert 0.99 < float(uniform.max()) <= 1
        normal = create("ns-gan", spec=POINTS, latent_dim=100, prior="normal").codes(noise)
        assert float(normal.std()) == pytest.approx(1, abs=0.05)
        assert float(normal.max()) > 2


class TestArguments:
    @pytest.mark.parametrize(
        "settings",
        [
            {"packing": 2},
            {"minibatch_discrimination": 3},
            {"feature_matching": True},
            {"spectral_norm": True},
            {"conditioning": "projection"},
            {"network": "mlp", "penalty": "gradient", "game": "wasserstein", "packing": 2},
            {"minibatch_discrimination": 3, "penalty": "gradient", "game": "wasserstein"},
        ],
        ids=lambda settings: "-".join(settings),
    )
    @pytest.mark.parametrize("condition", [None, Classes(3)], ids=["plain", "labelled"])
    def test_each_keeps_the_promises_of_a_model(self, settings, condition):
        if condition is None and "conditioning" in settings:
            pytest.skip("a projection of no condition is refused")

        class Changed(GAN):
            @classmethod
            def tiny(cls, spec):
                tiny = GAN.tiny(spec).settings
                return cls(spec, **{**tiny, **settings})

            def __init__(self, spec, **changed):
                super().__init__(spec, **changed)

        check_model(Changed, ImageSpec(1, 8, 8, levels=4, condition=condition))

    @pytest.mark.parametrize("network", ["infogan", "dcgan"])
    def test_kernels_compare_images_from_the_first_batch_on(self, network):
        """Scaled by features as they are in training: nearest at distance 2, o at zero, a gradient for T."""
        settings = {"network": network, "channels": 8, "batch_size": 32, "minibatch_discrimination": 20}
        model = create("ns-gan", spec=GREY, **settings)
        averages = {name: value.clone() for name, value in model.discriminator.named_buffers()}
        work = training(model, random_data(GREY, n=64), rounds=1)
        for name, value in model.discriminator.named_buffers():
            assert torch.equal(value, averages[name])
        batch = work.source[:32]
        model.train()
        kernels = model.discriminator.kernels
        features = model.discriminator.features(batch.x)
        nearest = kernels._distances(features).amin(1).mean(0).detach()
        assert 1 < float(nearest.median()) < 4
        output = kernels(features)[:, -20:]
        assert 0.05 < float(output.detach().std()) < 2
        output.square().mean().backward()
        assert float(kernels.direction.grad.abs().max()) > 1e-6

    def test_what_would_do_nothing_is_refused(self):
        for name, settings, message in (
            ("ns-gan", {"penalty_weight": 3.0}, "penalty_weight: found 3 without a penalty"),
            ("ns-gan", {"departures": "lucic"}, "departures: found 'lucic' for game=non_saturating"),
            ("wgan", {"departures": "lucic"}, "departures: found 'lucic' for game=wasserstein"),
            ("ns-gan", {"conditioning": "projection"}, "conditioning: found 'projection' for data without"),
            (
                "ns-gan",
                {"packing": 64},
                "packing: found 64, wanted a divisor of the batch size 64 that leaves",
            ),
        ):
            with pytest.raises(OptionError, match=message):
                create(name, spec=POINTS, **settings)

    def test_a_generator_that_looks_ahead_wants_whole_batches(self):
        assert create("unrolled-gan", spec=POINTS).batch_coupled
        assert not create("unrolled-gan", spec=POINTS, unrolling_steps=0).batch_coupled

    def test_packs_are_judged_together(self):
        model = create("ns-gan", spec=POINTS, hidden=[8], packing=2, batch_size=8)
        x = torch.randn(8, 2, generator=generator())
        assert model.discriminate(x).shape == (4, 1)
        x.requires_grad_()
        (gradient,) = torch.autograd.grad(model.discriminate(x)[1], x)
        assert gradient.abs().sum(1).nonzero().flatten().tolist() == [2, 3]
        scores = model.score(x.detach())
        assert scores.shape == (8,)
        torch.testing.assert_close(scores[0], model.discriminate(x)[0, 0].detach())
        with pytest.raises(OptionError, match="packing: found 3, wanted a divisor of the batch size 8"):
            create("ns-gan", spec=POINTS, packing=3, batch_size=8)

    def test_packs_of_images_keep_whole_images_together(self):
        model = create("ns-gan", spec=GREY, channels=4, packing=2, batch_size=8, batch_norm=False)
        x = torch.rand(4, 1, 8, 8, generator=generator()).requires_grad_()
        (gradient,) = torch.autograd.grad(model.discriminate(x)[0], x)
        assert gradient.flatten(1).abs().sum(1).nonzero().flatten().tolist() == [0, 1]

    def test_matched_features_cost_nothing_where_means_agree(self):
        model = create("ns-gan", spec=POINTS, hidden=[8], feature_matching=True, batch_size=16)
        assert [move.batch for move in model.moves(Clock())] == ["new", "same"]
        batch = random_data(POINTS).train[:16]
        found = step(model, batch)
        same = model.generate(model.codes(step(model, batch))).detach()
        assert float(model.generator_cost(step(model, type(batch)(same)))["loss"].detach()) < 1e-12
        features = model.discriminator.features
        gap = features(same).mean(0) - features(batch.x).mean(0)
        loss = model.generator_cost(found)["loss"]
        assert float(loss.detach()) == pytest.approx(float(gap.square().sum().detach()), rel=1e-5)

    def test_spectral_norm_makes_every_layer_at_most_one(self):
        model = create("ns-gan", spec=POINTS, hidden=[8], spectral_norm=True, batch_size=16)
        run = training(model, random_data(POINTS), rounds=30)
        run.run()
        layers = [m for m in model.discriminator.modules() if isinstance(m, nn.Linear)]
        assert len(layers) == 2
        for layer in layers:
            assert float(torch.linalg.matrix_norm(layer.weight.detach(), ord=2)) == pytest.approx(1, abs=0.02)

    def test_a_projection_adds_the_product_of_condition_and_features(self):
        spec = PointSpec(2, condition=Classes(3))
        model = create("ns-gan", spec=spec, hidden=[8], conditioning="projection")
        x, c = torch.randn(5, 2, generator=generator()), torch.tensor([0, 1, 2, 1, 0])
        d = model.discriminator
        features = d.features(x, model.vectors(c, 5))
        expected = d.head(features).squeeze(1) + (d.projection.weight.T[c] * features).sum(1)
        torch.testing.assert_close(model.score(x, condition=c), expected.detach())

    @pytest.mark.parametrize("conditioning", ["concatenation", "projection"])
    @pytest.mark.parametrize("condition", [Classes(3), Vector(4)])
    def test_both_players_see_the_condition(self, conditioning, condition):
        spec = ImageSpec(1, 8, 8, condition=condition)
        model = create("ns-gan", spec=spec, channels=4, conditioning=conditioning)
        if isinstance(condition, Classes):
            a, b = torch.tensor([0, 0]), torch.tensor([1, 2])
        else:
            a, b = torch.zeros(2, 4), torch.ones(2, 4)
        first = model.sample(2, condition=a, generator=generator())
        assert not torch.equal(first, model.sample(2, condition=b, generator=generator()))
        assert not torch.equal(model.score(first, condition=a), model.score(first, condition=b))
        with pytest.raises(DataError, match="condition: found None"):
            model.sample(2)


class TestDepartures:
    """Those of the code of "Are GANs Created Equal?", for who repeats it."""

    def pair(self, name, **settings):
        models = [
            create(name, spec=POINTS, hidden=[8], batch_size=16, departures=kind, seed=3, **settings)
            for kind in ("none", "lucic")
        ]
        return *models, random_data(POINTS).train[:16]

    def test_least_squares_of_the_sigmoid(self):
        paper, code, batch = self.pair("lsgan")
        terms = code.discriminator_cost(step(code, batch))
        with torch.no_grad():
            fake = paper.generate(paper.codes(step(paper, batch)))
            d_real, d_fake = (paper.discriminate(x).sigmoid() for x in (batch.x, fake))
        expected = ((d_real - 1) ** 2).mean() / 2 + (d_fake**2).mean() / 2
        assert float(terms["loss"].detach()) == pytest.approx(float(expected))

    def test_dragan_penalises_the_slope_of_the_sigmoid(self):
        paper, code, batch = self.pair("dragan")
        fake = paper.generate(paper.codes(step(paper, batch))).detach()
        drawn = step(code, batch)
        u, noise = drawn.uniform(1), drawn.uniform(2)
        x = penalties.around(batch.x, noise, u).requires_grad_()
        (gradient,) = torch.autograd.grad(paper.discriminate(x).sigmoid().sum(), x)
        expected = (1e-4 + gradient.square().sum(1)).sqrt()
        torch.testing.assert_close(code.slope(step(code, batch), fake, None).detach(), expected)
        assert not torch.allclose(paper.slope(step(paper, batch), fake, None).detach(), expected)

    def test_the_slope_of_wgan_gp_is_never_zero(self):
        paper, code, batch = self.pair("wgan-gp")
        fake = torch.zeros_like(batch.x)
        slopes = [model.slope(step(model, batch), fake, None).detach() for model in (paper, code)]
        torch.testing.assert_close(slopes[1], (slopes[0].square() + 1e-4).sqrt())

    def test_begans_k_moves_with_every_step_of_its_autoencoder(self):
        """By both losses anew, on the batch of that step; with the last of a round after the generator's."""
        settings = {"balance_rate": 0.5, "discriminator_updates": 3, "learning_rate": 1e-2}
        paper, code, _ = self.pair("began", **settings)
        data, moved = random_data(POINTS), []
        for model in (paper, code):
            balance = model.balance

            def counted(model=model, balance=balance):
                moved.append(model)
                balance()

            model.balance = counted
            training(model, data, rounds=4).run()
        assert (moved.count(paper), moved.count(code)) == (4, 12)
        code._judged = (data.train[:16].x, torch.zeros(16, 2), None)
        code._discriminator_steps, k = 0, float(code.k)
        with torch.no_grad():
            code.balance_anew()
            real, fake = (code.copying_loss(x).mean() for x in code._judged[:2])
        assert float(code.k) - k == pytest.approx(0.5 * float(0.5 * real - fake), rel=1e-5)

    def test_begans_autoencoder_has_as_many_weights_as_theirs(self):
        model = create("began", spec=ImageSpec(1, 28, 28))
        coder = [*model.encoder.parameters(), *model.decoder.parameters()]
        assert sum(p.numel() for p in coder) == 1_073_601

    def test_begans_k_without_bounds(self):
        paper, code, _ = self.pair("began", balance_rate=1.0)
        for model, k in ((paper, 1.0), (code, 7.0)):
            model._real, model._fake = torch.tensor(14.0), torch.tensor(0.0)
            model.balance()
            assert float(model.k) == k


class TestBEGAN:
    def test_the_controller_follows_its_formula(self):
        model = create("began", spec=POINTS, hidden=[8], diversity_ratio=0.7, balance_rate=0.1)
        model._real, model._fake = torch.tensor(2.0), torch.tensor(0.4)
        model.balance()
        assert float(model.k) == pytest.approx(0.1 * (0.7 * 2 - 0.4))
        model._fake = torch.tensor(100.0)
        model.balance()
        assert float(model.k) == 0
        model._real, model._fake = torch.tensor(50.0), torch.tensor(0.0)
        model.balance()
        assert float(model.k) == 1

    def test_costs_are_the_papers(self):
        model = create("began", spec=GREY, channels=4)
        model.k.fill_(0.25)
        batch = random_data(GREY).train[:8]
        terms = model.discriminator_cost(step(model, batch))
        with torch.no_grad():
            fake = model.generate(model.codes(step(model, batch)))
        real_loss, fake_loss = model.copying_loss(batch.x).mean(), model.copying_loss(fake).mean()
        assert float(terms["loss"].detach()) == pytest.approx(float((real_loss - fake_loss / 4).detach()))
        copied = torch.sigmoid(model.decoder(model.encoder(batch.x)))
        expected = (batch.x - copied).abs().flatten(1).mean(1)
        torch.testing.assert_close(model.copying_loss(batch.x).detach(), expected.detach())
        torch.testing.assert_close(model.score(batch.x), -expected.detach())

    def test_k_is_kept_with_the_weights(self):
        model = create("began", spec=GREY, channels=4)
        assert "k" in model.state_dict()
        training(model, random_data(GREY), rounds=5).run()
        assert float(model.k) > 0


class TestUnrolling:
    """In float64, against the optimiser of torch itself stepping k times."""

    def prepared(self, **settings):
        model = create(
            "unrolled-gan",
            spec=POINTS,
            hidden=[5],
            latent_dim=3,
            batch_size=6,
            learning_rate=0.05,
            **settings,
        ).double()
        with torch.no_grad():
            for i, p in enumerate(model.parameters()):  # away from kinks and zeros
                p.copy_(torch.randn(p.shape, generator=generator(i), dtype=torch.float64))
        optimizer = Adam(model.discriminator.parameters(), lr=0.05, betas=(0.5, 0.999))
        x = torch.randn(6, 2, generator=generator(9), dtype=torch.float64)
        z = 2 * torch.rand(6, 3, generator=generator(8), dtype=torch.float64) - 1
        model.codes = lambda _: z
        model.game.discriminator_cost(
            real=model.discriminate(x), fake=model.discriminate(model.generate(z).detach())
        ).backward()
        optimizer.step()  # so that there are moments to start from
        model.zero_grad()
        batch = random_data(POINTS).train[:6]
        return model, optimizer, type(batch)(x), z

    def brute(self, model, optimizer, batch, z, k):
        discriminator = copy.deepcopy(model.discriminator)
        steps = Adam(discriminator.parameters(), lr=0.05, betas=(0.5, 0.999))
        steps.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        with torch.no_grad():
            fake = model.generate(z)
        for _ in range(k):
            steps.zero_grad()
            model.game.discriminator_cost(real=discriminator(batch.x), fake=discriminator(fake)).backward()
            steps.step()
        with torch.no_grad():
            if model.game.name == "minimax":
                cost = -model.game.discriminator_cost(real=discriminator(batch.x), fake=discriminator(fake))
            else:
                cost = model.game.generator_cost(fake=discriminator(fake))
        return float(cost)

    @pytest.mark.parametrize("game", ["minimax", "non_saturating"])
    @pytest.mark.parametrize("k", [0, 1, 3])
    def test_its_cost_is_that_after_k_steps_of_adam(self, k, game):
        model, optimizer, batch, z = self.prepared(unrolling_steps=k, game=game)
        before = copy.deepcopy(model.discriminator.state_dict())
        moments = copy.deepcopy(optimizer.state_dict()["state"][0])
        cost = model.generator_cost(step(model, batch, {"discriminator": optimizer}))["loss"]
        assert float(cost.detach()) == pytest.approx(self.brute(model, optimizer, batch, z, k), rel=1e-9)
        assert all(torch.equal(before[name], v) for name, v in model.discriminator.state_dict().items())
        after = optimizer.state_dict()["state"][0]
        assert all(torch.equal(moments[name], after[name]) for name in moments)

    def test_its_gradient_goes_through_the_steps(self):
        k, e = 3, 1e-6
        model, optimizer, batch, z = self.prepared(unrolling_steps=k)
        shortcut, *_ = self.prepared(unrolling_steps=k, first_order=True)

        def gradient(of):
            of.zero_grad()
            cost = of.generator_cost(step(of, batch, {"discriminator": self.moments(of, optimizer)}))["loss"]
            cost.backward()
            return torch.cat([p.grad.flatten() for p in of.generator.parameters()])

        numeric = []
        for p in model.generator.parameters():
            flat = p.data.view(-1)
            for i in range(len(flat)):
                value = flat[i].item()
                flat[i] = value + e
                above = self.brute(model, optimizer, batch, z, k)
                flat[i] = value - e
                below = self.brute(model, optimizer, batch, z, k)
                flat[i] = value
                numeric.append((above - below) / (2 * e))
        numeric = torch.tensor(numeric, dtype=torch.float64)
        torch.testing.assert_close(gradient(model), numeric, rtol=1e-5, atol=1e-7)
        assert (gradient(shortcut) - numeric).norm() > 0.05 * numeric.norm()

    def moments(self, model, optimizer):
        """The same moments, of another model's parameters."""
        same = Adam(model.discriminator.parameters(), lr=0.05, betas=(0.5, 0.999))
        same.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        return same

    def test_what_cannot_be_unrolled_says_so(self):
        for name, value in (("feature_matching", True), ("optimizer", "rmsprop"), ("penalty", "gradient")):
            with pytest.raises(OptionError, match=f"{name}: found {value!r}, which cannot be unrolled"):
                create("unrolled-gan", spec=POINTS, **{name: value})

    def test_batch_norms_averages_are_moved_by_the_discriminator_alone(self):
        model = create("unrolled-gan", spec=GREY, channels=4, unrolling_steps=2)
        run = training(model, random_data(GREY))
        run.round()
        counts = [
            b for name, b in model.discriminator.named_buffers() if name.endswith("num_batches_tracked")
        ]
        assert [int(c) for c in counts] == [2] * len(counts)  # data and samples, once each


@pytest.mark.parametrize("network", ["infogan", "dcgan", "resnet", "mlp", "metz-quarter", "metz-half"])
@pytest.mark.parametrize("name", ["ns-gan", "wgan-gp", "began"])
def test_every_network_plays_every_kind_of_game(name, network):
    spec = ImageSpec(3, 28, 28, condition=Classes(3))
    model = create(name, spec=spec, network=network, channels=4, hidden=[8], latent_dim=4, batch_size=4)
    data = random_data(spec, n=16)
    training(model, data, rounds=1).run()
    c = torch.tensor([0, 1, 2])
    assert model.score(model.sample(3, condition=c, generator=generator()), condition=c).shape == (3,)


def test_networks_of_the_other_kind_of_data_are_refused_in_one_line():
    with pytest.raises(DataError, match="network: found 'dcgan' for PointSpec, wanted network=mlp"):
        create("ns-gan", spec=POINTS, network="dcgan")
    with pytest.raises(DataError, match="network: found 'maxout' for ImageSpec"):
        create("ns-gan", spec=GREY, network="maxout")
    assert create("ns-gan", spec=POINTS, network="maxout", packing=2).score(torch.zeros(3, 2)).shape == (3,)


def test_dcgan_is_the_non_saturating_game_with_its_networks():
    model = create("dcgan", spec=ImageSpec(3, 32, 32), channels=4)
    assert catalogue.name_of(model) == "ns-gan"
    assert model.settings["network"] == "dcgan"
    assert [layer for layer in model.discriminator.body if isinstance(layer, nn.Conv2d)]
    assert catalogue.entry("ns-gan").defaults.get("network") is None
