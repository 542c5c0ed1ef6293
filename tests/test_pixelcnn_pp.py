"""PixelCNN++: the published network to the last weight, causality through the strides, and its settings."""

import math

import pytest
import torch
import torch.nn.functional as F

from bestiary.data.specs import Classes, ImageSpec, PointSpec, Vector
from bestiary.data.splits import Batch
from bestiary.errors import DataError, OptionError
from bestiary.models.autoregressive.pixelcnn_pp import PixelCNNPlusPlus
from bestiary.models.base import Clock, Step
from bestiary.networks.shifted import (
    GatedResnet,
    ShiftedConv2d,
    ShiftedUpsampling2d,
    concat_elu,
    down_right_shifted,
    down_shifted,
)
from bestiary.tasks import conditional_bits, log_prob_map
from bestiary.testing.naive_sampling import naive_sample

GREY = ImageSpec(1, 8, 8, levels=16)
COLOUR = ImageSpec(3, 8, 4, levels=256)


def build(spec, *, scale=1.0, seed=0, **settings):
    small = {"filters": 5, "resnets": 1, "mixtures": 3, "dropout": 0.0}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = PixelCNNPlusPlus(spec, **{**small, **settings}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    return model


def images(spec, n, seed=0):
    levels = torch.randint(spec.levels, (n, *spec.shape), generator=torch.Generator().manual_seed(seed))
    return levels / (spec.levels - 1)


def conditions(spec, n):
    generator = torch.Generator().manual_seed(5)
    if isinstance(spec.condition, Classes):
        return torch.randint(spec.condition.n, (n,), generator=generator)
    return torch.randn(n, spec.condition.d, generator=generator) if spec.condition else None


def step(x, condition=None):
    return Step(len(x), Clock(), torch.Generator(), {}, Batch(x, condition))


# The published network


def test_the_default_model_has_the_published_number_of_weights():
    assert PixelCNNPlusPlus(ImageSpec(3, 32, 32)).parameter_count == 53_659_080


def test_blocks_and_outputs_are_counted_as_published():
    model = build(ImageSpec(1, 8, 8), resnets=2, resolutions=3, mixtures=4)
    counts = [(len(s.u_down), len(s.ul_down), len(s.u_up), len(s.ul_up)) for s in model.network.stages]
    assert counts == [(2, 2, 3, 3), (2, 2, 3, 3), (2, 2, 2, 2)]
    assert model.network.output.direction.shape[0] == 12
    plain = build(ImageSpec(1, 8, 8), weight_norm=False)
    normed = build(ImageSpec(1, 8, 8))
    gains = sum(m.gain.numel() for m in normed.modules() if isinstance(m, ShiftedConv2d))
    assert normed.parameter_count - plain.parameter_count == gains


def test_shifted_convolutions_are_masked_ones():
    """The same numbers as a square kernel whose taps below, and to the right, are zero."""
    x = torch.randn(2, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    for kernel, padding, corner in (((2, 3), down_shifted(), (0, 0)), ((2, 2), down_right_shifted(), (0, 0))):
        conv = ShiftedConv2d(3, 4, kernel, padding=padding)
        square = torch.zeros(4, 3, 3, 3)
        square[:, :, corner[0] : corner[0] + 2, : kernel[1]] = conv.weight.detach()
        torch.testing.assert_close(conv(x), F.conv2d(x, square, conv.bias, padding=1))
        half = ShiftedConv2d(3, 4, kernel, padding=padding, stride=2)
        half.load_state_dict(conv.state_dict())
        torch.testing.assert_close(half(x), conv(x)[:, :, ::2, ::2])


@pytest.mark.parametrize(("kernel", "padding"), [((2, 3), down_shifted()), ((2, 2), down_right_shifted())])
def test_upsampling_is_the_transpose_of_halving(kernel, padding):
    """⟨halve(x), y⟩ = ⟨x, double(y)⟩ with the kernel moved from the rows above to the rows below."""
    double = ShiftedUpsampling2d(3, 2, kernel, padding=padding).double()
    y = torch.randn(1, 3, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = double(y)
    assert found.shape == (1, 2, 6, 8)
    left = (kernel[1] - 1) // 2
    expected = torch.zeros(1, 2, 8, 12, dtype=torch.float64)
    for i in range(3):
        for j in range(4):
            patch = torch.einsum("c,ochw->ohw", y[0, :, i, j], double.weight)
            expected[0, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + kernel[1]] += patch
    expected = expected[:, :, :6, left : left + 8] + double.bias[:, None, None]
    torch.testing.assert_close(found, expected)


def test_weights_are_normalised():
    conv = ShiftedConv2d(3, 4, (2, 3), padding=down_shifted())
    with torch.no_grad():
        conv.gain.copy_(torch.tensor([1.0, -2.0, 3.0, 0.5]))
        before = conv.weight.clone()
        conv.direction.mul_(7)
    torch.testing.assert_close(conv.weight, before)
    torch.testing.assert_close(conv.weight.flatten(1).norm(dim=1), conv.gain.abs())


@pytest.mark.parametrize("spec", [GREY, ImageSpec(3, 8, 8, condition=Classes(3))], ids=["grey", "labelled"])
def test_the_first_batch_standardises_every_layer(spec):
    model = build(spec, filters=6, resnets=2)
    batch = Batch(images(spec, 16), conditions(spec, 16))
    model.initialise(batch)
    seen = []
    for layer in model.modules():
        if isinstance(layer, ShiftedConv2d):
            layer.register_forward_hook(lambda layer, _, outputs: seen.append((layer, outputs)))
    model.logits(batch.x, batch.condition)
    assert len(seen) == sum(isinstance(m, ShiftedConv2d) for m in model.modules())
    for layer, outputs in seen:
        variance, mean = torch.var_mean(outputs, dim=(0, 2, 3), correction=0)
        torch.testing.assert_close(mean, torch.zeros_like(mean), rtol=0, atol=1e-4)
        torch.testing.assert_close(variance.sqrt(), torch.full_like(mean, layer.scale), rtol=1e-3, atol=0)
    scales = sorted({layer.scale for layer, _ in seen})
    assert scales == [0.1, 1.0]


def test_maps_that_are_the_same_everywhere_keep_their_scale():
    """At a resolution of one pixel nothing of the image is to be seen yet."""
    model = build(ImageSpec(1, 4, 4, levels=16), resolutions=3)
    model.initialise(Batch(images(model.spec, 16)))
    gains = torch.cat([m.gain for m in model.modules() if isinstance(m, ShiftedConv2d)])
    assert gains.abs().max() < 100


def test_a_model_without_weight_norm_keeps_its_weights_at_the_start():
    model = build(GREY, weight_norm=False)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.initialise(Batch(images(GREY, 4)))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_gated_block_is_the_papers():
    """x + a ⊙ σ(b), with (a, b) = conv(drop(concat_elu(conv(concat_elu(x)) + nin(concat_elu(s))))) + Vᵀh."""
    block = GatedResnet(4, (2, 2), down_right_shifted(), shortcut=4, condition_dim=3, dropout=0.5).eval()
    g = torch.Generator().manual_seed(0)
    x, shortcut = torch.randn(2, 2, 4, 5, 6, generator=g)
    h = torch.randn(2, 3, generator=g)

    def activation(x):
        return torch.cat([F.elu(x), F.elu(-x)], dim=1)

    hidden = block.first(activation(x)) + F.conv2d(activation(shortcut), block.link.weight, block.link.bias)
    gates = block.second(activation(hidden)) + (h @ block.condition.weight.T)[:, :, None, None]
    expected = x + gates[:, :4] * gates[:, 4:].sigmoid()
    torch.testing.assert_close(block(x, concat_elu(x), concat_elu(shortcut), h), expected)
    assert block.dropout.p == 0.5


# Causality and likelihood


@pytest.mark.parametrize("resolutions", [1, 2, 3])
def test_every_pixel_sees_all_earlier_ones_and_no_other(resolutions):
    model = build(ImageSpec(1, 8, 8, levels=4), resolutions=resolutions, resnets=4).double()
    x = torch.rand(1, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def mixtures(x):
        law = model.law(x)
        return (law.logits + law.means[..., 0, :] + law.log_scales[..., 0, :]).sum(-1).flatten()

    seen = torch.autograd.functional.jacobian(mixtures, x, vectorize=True).flatten(1) != 0
    assert torch.equal(seen, torch.ones(64, 64).tril(-1).bool())


def test_colours_of_a_pixel_see_each_other_in_their_order_through_the_mixture_alone():
    model = build(ImageSpec(3, 4, 4, levels=8)).double()
    x = torch.rand(1, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    seen = torch.autograd.functional.jacobian(lambda x: model.logits(x)[0, 0, :, 2, 1], x)[:, 0, :, 2, 1] != 0
    assert torch.equal(seen, torch.ones(3, 3).tril(-1).bool())
    raw = torch.autograd.functional.jacobian(lambda x: model.network(2 * x - 1)[0, :, 2, 1], x)
    assert not raw[:, 0, :, 2, 1].any()


def test_log_prob_is_the_sum_of_the_log_masses():
    for spec in (ImageSpec(3, 4, 8, levels=17), ImageSpec(1, 8, 4, levels=2)):
        model, x = build(spec, scale=2.0).double(), images(spec, 5).double()
        masses = model.logits(x)
        assert (masses.exp().sum(1) - 1).abs().max() < 1e-9
        chosen = masses.gather(1, (x * (spec.levels - 1)).round().long()[:, None])
        torch.testing.assert_close(model.log_prob(x), chosen.flatten(1).sum(1))
        noisy = x + 0.3 / (spec.levels - 1) * (0.5 - x)  # rounded to the nearest level
        torch.testing.assert_close(model.log_prob(noisy), model.log_prob(x))


def test_faithful_changes_small_masses_only():
    spec, x = COLOUR, images(COLOUR, 6)
    exact, published = build(spec, scale=2.0), build(spec, scale=2.0, faithful=True)
    difference = exact.log_prob(x) - published.log_prob(x)
    assert difference.abs().max() > 0
    torch.testing.assert_close(exact.logits(x), published.logits(x))
    assert torch.equal(*(m.sample(2, generator=torch.Generator().manual_seed(0)) for m in (exact, published)))
    assert torch.equal(*(log_prob_map(m, x) for m in (exact, published)))
    observed = torch.zeros_like(x, dtype=torch.bool)
    observed[..., 2:, :] = True
    paid = [
        conditional_bits(m, x, observed, particles=3, generator=torch.Generator().manual_seed(0)).bits_per_dim
        for m in (exact, published)
    ]
    assert torch.equal(*paid)


def test_log_masses_are_float32_under_bfloat16_autocast():
    spec = ImageSpec(3, 8, 8)
    model, x = build(spec), images(spec, 4)
    exact = model.cost(step(x))["loss"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model.cost(step(x))["loss"]
        assert model.network(x).dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=1e-2)


# Sampling


@pytest.mark.parametrize(
    ("spec", "settings"),
    [
        (ImageSpec(1, 5, 3, levels=4), {"resolutions": 1, "resnets": 2}),
        (ImageSpec(3, 2, 6, levels=17), {"resolutions": 2, "weight_norm": False}),
        (ImageSpec(1, 8, 8, levels=2, condition=Vector(2)), {"resolutions": 4}),
    ],
    ids=["one", "two", "four"],
)
def test_cached_samples_are_the_naive_ones_at_any_number_of_resolutions(spec, settings):
    model, condition = build(spec, scale=2.0, **settings).double(), conditions(spec, 5)
    noise = model.uniform(5, *spec.shape, generator=torch.Generator().manual_seed(2))
    naive = naive_sample(model, noise, condition=condition)
    cached = model.sample(5, condition=condition, generator=torch.Generator().manual_seed(2))
    assert torch.equal(cached, naive)
    assert len(cached.unique()) > 1


def test_sampling_needs_no_gradient_mode_and_ignores_dropout():
    model = build(GREY, dropout=0.5).train()
    draws = [model.sample(2, generator=torch.Generator().manual_seed(0)) for _ in range(2)]
    assert torch.equal(*draws)
    assert model.training
    cache = model.cache(2)
    assert not cache.logits(0, 0, 0).requires_grad


# Training


@pytest.mark.parametrize("spec", [GREY, ImageSpec(3, 4, 4, condition=Vector(2))], ids=["grey", "colour"])
def test_the_cost_reaches_every_parameter(spec):
    model = build(spec, resnets=2)
    model.cost(step(images(spec, 4), conditions(spec, 4)))["loss"].backward()
    dead = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []


def test_dropout_is_on_while_training_alone():
    model, x = build(GREY, dropout=0.5), images(GREY, 4)
    assert torch.equal(*(model.cost(step(x))["loss"] for _ in range(2)))
    model.train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        a, b = (model.cost(step(x))["loss"] for _ in range(2))
    assert a != b
    assert torch.equal(*(model.log_prob(x) for _ in range(2)))
    assert not model.log_prob(x).requires_grad


def test_the_papers_optimiser():
    player = PixelCNNPlusPlus(GREY, filters=2, resnets=1).players()["model"]
    optimizer = player.optimizer(player.parameters)
    assert optimizer.defaults["lr"] == 1e-3
    assert optimizer.defaults["betas"] == (0.95, 0.9995)
    assert 0.5 ** (16 / player.ema) == pytest.approx(0.9995, rel=1e-12)
    assert player.schedule(Clock(updates={"model": 1000})) == pytest.approx(0.999995**1000)
    assert build(GREY, polyak=0.0).players()["model"].ema is None


def test_training_finds_that_rows_repeat():
    spec = ImageSpec(1, 4, 4, levels=2)
    model = build(spec, filters=8, resolutions=2, learning_rate=1e-2)
    player = model.players()["model"]
    generator = torch.Generator().manual_seed(0)

    def batch():
        return torch.randint(2, (32, 1, 1, 4), generator=generator).float().expand(-1, -1, 4, -1)

    model.initialise(Batch(batch()))
    optimizer = player.optimizer(player.parameters)
    for _ in range(60):
        loss = model.cost(step(batch()))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1.1 * 4 * math.log(2)  # 4 random bits of 16; pixels alone would cost 16


# Mistakes


@pytest.mark.parametrize(
    ("height", "width", "resolutions", "most"), [(6, 8, 3, 2), (8, 7, 2, 1), (28, 28, 4, 3)]
)
def test_sides_that_cannot_be_halved_are_one_line(height, width, resolutions, most):
    wanted = (
        f"found images of {height} × {width}, wanted sides divisible by {2 ** (resolutions - 1)} for "
        f"{resolutions} resolutions: pad them, or choose at most resolutions={most}"
    )
    with pytest.raises(DataError, match=wanted) as error:
        build(ImageSpec(1, height, width), resolutions=resolutions)
    assert "\n" not in str(error.value)
    assert build(ImageSpec(1, height, width), resolutions=most).log_prob(torch.zeros(1, 1, height, width)) < 0


def test_other_mistakes_are_one_line():
    with pytest.raises(DataError, match="PixelCNNPlusPlus is a model of images, found PointSpec"):
        build(PointSpec(2))
    with pytest.raises(DataError, match="PixelCNNPlusPlus is a model of images, found PointSpec"):
        PixelCNNPlusPlus.tiny(PointSpec(2))
    with pytest.raises(OptionError, match=r"polyak: found 1\.0, wanted a number ≥ 0 and < 1"):
        build(GREY, polyak=1.0)
    with pytest.raises(DataError, match="x: found"):
        build(GREY).logits(torch.zeros(1, 1, 8, 4))
    with pytest.raises(DataError, match="condition: found None"):
        build(ImageSpec(1, 8, 8, condition=Classes(2))).log_prob(torch.zeros(1, 1, 8, 8))
