"""PixelCNN beyond what `test_autoregressive` holds every model to: its counts, its block, its blind spot."""

import math

import pytest
import torch
import torch.nn.functional as F

from bestiary import catalogue
from bestiary.data.specs import Classes, ImageSpec, Vector
from bestiary.data.splits import Batch
from bestiary.errors import OptionError
from bestiary.models.base import Clock, Step
from bestiary.testing.naive_sampling import naive_sample

BINARY = ImageSpec(1, 28, 28, levels=2)
COLOUR = ImageSpec(3, 4, 5, levels=8, condition=Vector(3))


def build(spec, *, scale=1.0, **settings):
    small = {"blocks": 3, "channels": 7, "head_channels": 8}
    model = catalogue.create("pixelcnn", spec=spec, **{**small, **settings}).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    return model


def batch(spec, n):
    generator = torch.Generator().manual_seed(6)
    x = torch.randint(spec.levels, (n, *spec.shape), generator=generator).double() / (spec.levels - 1)
    condition = torch.randn(n, 3, generator=generator).double() if spec.condition else None
    return x, condition


# Structure


def test_parameter_counts():
    """Of the size that others have trained on MNIST: 53,569 with one logit a pixel and whole kernels."""
    settings = {"blocks": 15, "channels": 16, "head_channels": 32}
    count = build(BINARY, **settings).parameter_count
    block = (32 * 16 + 16) + (16 * 16 * 2 * 3 + 16) + (16 * 32 + 32)
    assert count == (32 * 4 * 7 + 32) + 15 * block + (32 * 32 + 32) + (32 * 2 + 2)
    rows_below_the_centre = 32 * 3 * 7 + 15 * 16 * 16 * 3
    assert count + rows_below_the_centre - (32 + 1) == 53_569
    assert build(BINARY, **settings, skip=True).parameter_count == count + 15 * 16 * 32 + 32
    labelled = ImageSpec(1, 28, 28, levels=2, condition=Classes(10))
    assert build(labelled, **settings).parameter_count == count + 15 * 10 * 16


def test_the_defaults_are_the_papers_network_for_cifar():
    settings = catalogue.entry("pixelcnn").load()(ImageSpec(3, 8, 8)).settings
    size = {"blocks": 15, "channels": 128, "head_channels": 1024, "skip": False}
    training = {"optimizer": "rmsprop", "batch_size": 16, "decay": 1, "anneal": 0, "weight_decay": 0}
    assert settings == {**size, **training, "learning_rate": 1e-4}


@pytest.mark.parametrize("skip", [False, True])
def test_logits_are_those_of_whole_kernels(skip):
    """The same network in plain convolutions of 7 × 7 and 3 × 3 whose last rows are zero."""
    model = build(COLOUR, skip=skip)
    stack, (x, condition) = model.network, batch(COLOUR, 2)

    def whole(layer, maps):
        rows, columns = layer.kernel_size
        weight = F.pad(layer.weight * layer.mask, (0, 0, 0, columns - rows))
        return F.conv2d(maps, weight, layer.bias, padding=columns // 2)

    maps, skips = whole(stack.first, 2 * x - 1), []
    for block in stack.blocks:
        inner = whole(block.square, whole(block.reduce, maps.relu()).relu())
        inner = (inner + (condition @ block.condition.weight.t())[:, :, None, None]).relu()
        maps = maps + whole(block.expand, inner)
        skips.append(inner)
    if skip:
        weights = (stack.skip.weight * stack.skip.mask).split(7, dim=1)
        maps = maps + sum(F.conv2d(inner, w) for inner, w in zip(skips, weights, strict=True))
        maps = maps + stack.skip.bias[:, None, None]
    logits = whole(stack.output, whole(stack.hidden, maps.relu()).relu())
    expected = logits.unflatten(1, (3, 8)).transpose(1, 2)
    torch.testing.assert_close(model.logits(x, condition), expected)


@pytest.mark.parametrize("blocks", [2, 15])
def test_the_blind_spot_is_the_one_of_its_geometry(blocks):
    """Pixel (14, 14) of 28 × 28: a block goes up one row at most, and to the right only where it goes up.

    The first layer reaches 3 rows up, 3 columns to the left, and 3 to the right in any row above; so r rows
    up, r + 2 columns to the right are in sight, the best way being 1 row by the first layer and the others by
    blocks. No way goes farther up, left or right than 3 + blocks.
    """
    far = 3 + blocks
    above = [min(14, far) + 1 + min(13, far, row + 2) for row in range(1, min(14, far) + 1)]
    count = sum(above) + min(14, far)
    assert count == {2: 57, 15: 351}[blocks]
    assert count < 14 * 28 + 14
    model = build(BINARY, blocks=blocks, channels=8)
    x = torch.rand(1, 1, 28, 28, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    jacobian = torch.autograd.functional.jacobian(lambda x: model.logits(x)[0, :, 0, 14, 14], x)
    seen = jacobian[:, 0, 0].abs().sum(0) != 0
    assert int(seen.sum()) == count
    assert [int(seen[14 - row].sum()) for row in range(1, len(above) + 1)] == above
    assert not seen[14, 14:].any()
    assert not seen[15:].any()


# Training


@pytest.mark.parametrize("skip", [False, True])
def test_the_cost_reaches_every_parameter(skip):
    model = build(COLOUR, skip=skip, channels=9)
    x, condition = batch(COLOUR, 8)
    model.cost(Step(8, Clock(), torch.Generator(), {}, Batch(x, condition)))["loss"].backward()
    dead = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []
    assert {id(p) for p in model.players()["model"].parameters} == {id(p) for p in model.parameters()}


def test_the_learning_rate_decays_and_falls():
    clock = Clock(updates={"model": 1000}, progress=0.75)
    factors = [
        build(BINARY, **settings).players()["model"].schedule(clock)
        for settings in ({}, {"decay": 0.999977}, {"anneal": 0.5}, {"decay": 0.999, "anneal": 0.5})
    ]
    assert factors == pytest.approx([1, 0.999977**1000, 0.5, 0.999**1000 / 2])


@pytest.mark.parametrize("optimizer", ["rmsprop", "adam"])
def test_training_finds_that_rows_repeat(optimizer):
    spec = ImageSpec(1, 3, 4, levels=2)
    model = build(spec, channels=12, optimizer=optimizer, learning_rate=1e-2)
    player = model.players()["model"]
    optimiser = player.optimizer(player.parameters)
    generator = torch.Generator().manual_seed(0)
    for _ in range(80):
        row = torch.randint(2, (32, 1, 1, 4), generator=generator).double()
        x = row.expand(-1, -1, 3, -1)
        loss = model.cost(Step(32, Clock(), torch.Generator(), {}, Batch(x, None)))["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 1.05 * 4 * math.log(2)  # 4 random bits of 12; pixels alone would cost 12


# Sampling


@pytest.mark.parametrize("settings", [{"blocks": 1}, {"skip": False}, {"skip": True}], ids=str)
def test_cached_samples_of_maps_that_divide_unevenly_are_the_naive_ones(settings):
    model, (_, condition) = build(COLOUR, scale=2.0, **settings), batch(COLOUR, 5)
    noise = model.uniform(5, *COLOUR.shape, generator=torch.Generator().manual_seed(2))
    naive = naive_sample(model, noise, condition=condition)
    cached = model.sample(5, condition=condition, generator=torch.Generator().manual_seed(2))
    assert torch.equal(cached, naive)
    assert len(cached.unique()) > 3


def test_samples_are_ordinary_tensors():
    """Drawing runs in inference mode; what comes out can take part in autograd."""
    x = build(ImageSpec(1, 2, 2, levels=2)).sample(2)
    assert not x.is_inference()
    assert not x.requires_grad


# Mistakes


def test_too_few_maps_for_the_colours_are_one_line():
    wanted = "channels, head_channels: found 2 and 8, wanted at least one map for each of the image's 3"
    with pytest.raises(OptionError, match=wanted):
        build(COLOUR, channels=2)
