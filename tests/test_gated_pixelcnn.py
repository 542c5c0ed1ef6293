"""Gated PixelCNN beyond what `test_autoregressive` holds every model to; and what all of them inherit."""

import itertools
import math

import pytest
import torch

from bestiary.data.specs import Classes, ImageSpec, PointSpec, Vector
from bestiary.data.splits import Batch
from bestiary.errors import DataError, OptionError
from bestiary.models.autoregressive import base
from bestiary.models.autoregressive.drawing import inverse_cdf
from bestiary.models.autoregressive.gated_pixelcnn import GatedPixelCNN
from bestiary.models.base import Clock, Step
from bestiary.networks.masked import causal_mask, channel_groups, group_spans
from bestiary.testing.naive_sampling import naive_sample

SPECS = {
    "binary": ImageSpec(1, 5, 6, levels=2),
    "grey": ImageSpec(1, 6, 5, levels=16),
    "colour": ImageSpec(3, 4, 5, levels=8),
    "labelled": ImageSpec(3, 4, 3, levels=4, condition=Classes(4)),
    "vectors": ImageSpec(1, 4, 5, levels=8, condition=Vector(3)),
}


def build(spec, *, scale=3.0, seed=0, **settings):
    """A random model whose weights are large enough for its distributions to be far from uniform."""
    small = {"layers": 3, "channels": 7, "kernel_size": 3, "first_kernel_size": 5, "head_channels": 8}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = GatedPixelCNN(spec, **{**small, **settings})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    return model


def conditions(spec, n):
    generator = torch.Generator().manual_seed(5)
    if isinstance(spec.condition, Classes):
        return torch.randint(spec.condition.n, (n,), generator=generator)
    if isinstance(spec.condition, Vector):
        return torch.randn(n, spec.condition.d, generator=generator)
    return None


def images(spec, n, dtype=torch.float32):
    generator = torch.Generator().manual_seed(6)
    x = torch.randint(spec.levels, (n, *spec.shape), generator=generator)
    return x.to(dtype) / (spec.levels - 1)


def step(x, condition=None):
    return Step(len(x), Clock(), torch.Generator(), {}, Batch(x, condition))


def every_image(spec):
    values = itertools.product(range(spec.levels), repeat=spec.dimensions)
    return torch.tensor(list(values)).view(-1, *spec.shape) / (spec.levels - 1)


def gradient(model, x, channel, row, column):
    """|∂ logits / ∂ x| of one sub-pixel, summed over its levels, shape (C, H, W)."""
    jacobian = torch.autograd.functional.jacobian(lambda x: model.logits(x)[0, :, channel, row, column], x)
    return jacobian.abs().sum(dim=(0, 1))


# Masks and causality


def test_masks_of_colour_groups():
    groups = channel_groups(3, 3)
    lower = torch.tensor([[1, 0, 0], [1, 1, 0], [1, 1, 1]]).bool()
    assert torch.equal(causal_mask(groups, groups, (1, 1), "B", (0, 0))[:, :, 0, 0], lower)
    assert torch.equal(causal_mask(groups, groups, (1, 1), "A", (0, 0))[:, :, 0, 0], lower.tril(-1))
    square = causal_mask(groups[:1], groups[:1], (3, 3), "A", (1, 1))[0, 0]
    assert torch.equal(square, torch.tensor([[1, 1, 1], [1, 0, 0], [0, 0, 0]]).bool())


@pytest.mark.parametrize(("maps", "channels"), [(7, 3), (6, 3), (3, 3), (5, 1), (8, 2)])
def test_spans_are_where_the_groups_lie(maps, channels):
    groups = channel_groups(maps, channels)
    for group, span in enumerate(group_spans(maps, channels)):
        assert torch.equal(torch.arange(maps)[span], torch.nonzero(groups == group)[:, 0])


@pytest.mark.parametrize(
    ("layers", "kernel_size", "count"),
    # Two layers: 4 + 1 rows above, ±(3 + 1) columns, and 3 + 1 pixels to the left. Enough: 14·28 + 14.
    [(2, 3, 5 * 9 + 4), (7, 5, 406), (14, 3, 406)],
)
def test_receptive_field_has_no_blind_spot(layers, kernel_size, count):
    model = build(
        ImageSpec(1, 28, 28, 4),
        layers=layers,
        channels=4,
        kernel_size=kernel_size,
        first_kernel_size=7,
        scale=1,
    ).double()
    x = torch.rand(1, 1, 28, 28, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    seen = gradient(model, x, 0, 14, 14)[0] != 0
    assert int(seen.sum()) == count
    assert not seen[14, 14:].any()
    assert not seen[15:].any()


# Likelihood


@pytest.mark.parametrize("spec", [ImageSpec(1, 2, 2, levels=2), ImageSpec(3, 1, 1, levels=2)])
def test_samples_follow_the_law_that_log_prob_states(spec):
    model, n = build(spec), 20_000
    probabilities = model.log_prob(every_image(spec)).detach().exp().double()
    samples = model.sample(n, generator=torch.Generator().manual_seed(1)).flatten(1)
    place = 2 ** torch.arange(spec.dimensions - 1, -1, -1)
    counts = torch.bincount((samples * place).sum(1).long(), minlength=len(probabilities))
    deviation = (counts - n * probabilities) / (n * probabilities * (1 - probabilities)).sqrt()
    assert deviation.abs().max() < 4.5


def test_cost_is_the_mean_of_minus_log_prob(monkeypatch):
    spec = SPECS["labelled"]
    model, x, condition = build(spec), images(spec, 7), conditions(spec, 7)
    terms = model.cost(step(x, condition))
    monkeypatch.setattr(base, "SCORE_CHUNK", 3)
    torch.testing.assert_close(terms["loss"], -model.log_prob(x, condition=condition).mean())
    assert terms["bits_per_dim"].item() == pytest.approx(terms["loss"].item() / (36 * math.log(2)), rel=1e-5)
    with torch.no_grad():
        model.network.output.weight.zero_()
        model.network.output.bias.zero_()
    assert model.cost(step(x, condition))["bits_per_dim"].item() == pytest.approx(2)  # log2 of 4 levels


def test_log_prob_is_the_sum_of_the_conditionals():
    spec = SPECS["colour"]
    model, x = build(spec), images(spec, 3)
    masses = model.logits(x).log_softmax(dim=1)
    total = torch.zeros(3)
    for b, c, i, j in itertools.product(range(3), range(3), range(4), range(5)):
        total[b] += masses[b, round(x[b, c, i, j].item() * 7), c, i, j].item()
    torch.testing.assert_close(model.log_prob(x).detach(), total)


def test_cross_entropy_is_float32_under_bfloat16_autocast():
    spec = ImageSpec(1, 8, 8, levels=256)
    model, x = build(spec, scale=1), images(spec, 4)
    exact = model.cost(step(x))["loss"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model.logits(x).dtype == torch.bfloat16
        loss = model.cost(step(x))["loss"]
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=2e-3)


# Gradients and training


@pytest.mark.parametrize("name", ["grey", "labelled", "vectors"])
@pytest.mark.parametrize("layers", [1, 3])
def test_the_cost_reaches_every_parameter(name, layers):
    spec = SPECS[name]
    model = build(spec, layers=layers, scale=1)
    model.cost(step(images(spec, 4), conditions(spec, 4)))["loss"].backward()
    dead = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []
    moved = {id(p) for p in model.players()["model"].parameters}
    assert moved == {id(p) for p in model.parameters()}


@pytest.mark.parametrize("optimizer", ["rmsprop", "adam"])
def test_training_finds_that_rows_repeat(optimizer):
    spec = ImageSpec(1, 3, 4, levels=2)
    model = build(spec, scale=1, channels=12, optimizer=optimizer, learning_rate=1e-2)
    player = model.players()["model"]
    optimiser = player.optimizer(player.parameters)
    generator = torch.Generator().manual_seed(0)
    for _ in range(80):
        row = torch.randint(2, (32, 1, 1, 4), generator=generator).float()
        loss = model.cost(step(row.expand(-1, -1, 3, -1)))["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 1.05 * 4 * math.log(2)  # 4 random bits of 12; pixels alone would cost 12


def test_the_learning_rate_falls_at_the_end_of_the_budget():
    player = build(SPECS["grey"], anneal=0.5).players()["model"]
    factors = [player.schedule(Clock(progress=progress)) for progress in (0, 0.5, 0.75, 1)]
    assert factors == [1, 1, 0.5, 0]
    assert build(SPECS["grey"]).players()["model"].schedule(Clock(progress=1)) == 1


@pytest.mark.parametrize("scale", [1.0, 50.0])
def test_finite_at_large_inputs_and_weights(scale):
    spec = SPECS["colour"]
    model = build(spec, scale=scale)
    assert model.logits(1e4 * images(spec, 2)).isfinite().all()
    assert model.log_prob(images(spec, 2)).isfinite().all()
    model.cost(step(images(spec, 2)))["loss"].backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


# Sampling


@pytest.mark.parametrize("settings", [{"layers": 1}, {"kernel_size": 5, "first_kernel_size": 3}], ids=str)
@pytest.mark.parametrize("name", ["labelled", "vectors"])
def test_cached_samples_of_other_depths_and_kernels_are_the_naive_ones(name, settings):
    spec = SPECS[name]
    model, condition = build(spec, **settings).double(), conditions(spec, 6)
    noise = model.uniform(6, *spec.shape, generator=torch.Generator().manual_seed(2))
    naive = naive_sample(model, noise, condition=condition)
    cached = model.sample(6, condition=condition, generator=torch.Generator().manual_seed(2))
    assert torch.equal(cached, naive)
    assert len(cached.unique()) > min(spec.levels, 4) - 1


def test_samples_depend_on_the_seed_alone(monkeypatch):
    spec = SPECS["labelled"]
    model, condition = build(spec).double(), conditions(spec, 7)

    def draw(seed):
        return model.sample(7, condition=condition, generator=torch.Generator().manual_seed(seed))

    first = draw(0)
    monkeypatch.setattr(base, "SAMPLE_CHUNK", 3)
    assert torch.equal(first, draw(0))
    assert not torch.equal(first, draw(1))
    generator = torch.Generator().manual_seed(0)
    parts = [model.sample(len(part), condition=part, generator=generator) for part in condition.split(4)]
    assert torch.equal(first, torch.cat(parts))
    assert model.sample(0, condition=condition[:0]).shape == (0, 3, 4, 3)


def test_sampling_restores_the_mode_and_needs_no_gradient():
    model = build(SPECS["grey"]).train()
    assert not model.sample(2).requires_grad
    assert model.training


def test_temperature():
    spec = SPECS["grey"]
    model = build(spec).double()
    noise = model.uniform(4, *spec.shape, generator=torch.Generator().manual_seed(3))
    cold = model.sample(4, generator=torch.Generator().manual_seed(3), temperature=0.5)
    assert torch.equal(cold, naive_sample(model, noise, temperature=0.5))
    coldest = model.sample(2, temperature=1e-6)
    assert torch.equal(coldest[0], coldest[1])  # the likeliest level everywhere, whatever the noise


def test_inverse_cdf():
    masses = torch.tensor([[0.0, 0.25, 0.25, 0.5, 0.0]]).double()
    for uniform, level in [(0.0, 1), (0.2, 1), (0.3, 2), (0.5 + 1e-9, 3), (1 - 1e-16, 3)]:
        drawn = inverse_cdf(masses.log(), torch.tensor([uniform], dtype=torch.float64))
        assert drawn.item() == level


# Mistakes


@pytest.mark.parametrize(
    ("kind", "condition", "message"),
    [
        (None, torch.zeros(2, dtype=torch.int64), "wanted None, because the model is unconditional"),
        (Classes(3), None, r"found None, wanted int64 labels from 0 to 2 of shape \(2,\)"),
        (Classes(3), torch.tensor([0, 3]), "found labels from 0 to 3"),
        (Classes(3), torch.tensor([0, -1]), "found labels from -1 to 0"),
        (Classes(3), torch.zeros(2), "found torch.float32 of shape"),
        (Classes(3), torch.tensor([0]), r"of shape \(1,\), wanted"),
        (Vector(3), None, r"found None, wanted float vectors of shape \(2, 3\)"),
        (Vector(3), torch.zeros(2, 4), r"shape \(2, 4\), wanted float vectors of shape \(2, 3\)"),
    ],
)
def test_wrong_conditions_are_one_line(kind, condition, message):
    spec = ImageSpec(1, 3, 3, levels=4, condition=kind)
    model, x = build(spec), images(spec, 2)
    uses = [
        lambda: model.logits(x, condition),
        lambda: model.log_prob(x, condition=condition),
        lambda: model.sample(2, condition=condition),
    ]
    for use in uses:
        with pytest.raises(DataError, match=message) as error:
            use()
        assert "\n" not in str(error.value)


def test_other_mistakes_are_one_line():
    model = build(SPECS["grey"])
    with pytest.raises(
        DataError, match=r"x: found torch.float32 of shape \(2, 3, 6, 5\), wanted float images"
    ):
        model.log_prob(torch.rand(2, 3, 6, 5))
    with pytest.raises(DataError, match="x: found values from -1 to 1, wanted images in"):
        model.log_prob(torch.linspace(-1, 1, 60).view(2, 1, 6, 5))
    with pytest.raises(OptionError, match="temperature: found 0, wanted a number > 0"):
        model.sample(1, temperature=0)
    with pytest.raises(OptionError, match="wanted at least one map for each of the image's 3 channels"):
        build(SPECS["colour"], channels=2)
    with pytest.raises(OptionError, match="kernel_size: found 4, wanted one of 3, 5"):
        build(SPECS["grey"], kernel_size=4)
    with pytest.raises(DataError, match="GatedPixelCNN is a model of images, found PointSpec"):
        build(PointSpec(2))
