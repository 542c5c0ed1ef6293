"""PixelRNN: what its two recurrences see, their gradient, their parameters, and a cost that falls."""

import math

import pytest
import torch

from bestiary.catalogue import create
from bestiary.data.specs import Classes, ImageSpec
from bestiary.data.splits import Batch
from bestiary.errors import OptionError
from bestiary.models.autoregressive.pixelrnn import PixelRNN
from bestiary.models.base import Clock, Step
from bestiary.networks.lstm_scan import diagonal_sweep, lstm_scan, row_sweep
from bestiary.networks.pixelrnn_cache import PixelRNNCache
from bestiary.networks.pixelrnn_stack import PixelRNNStack
from bestiary.testing import check_model

RECURRENCES = ["row", "diagonal"]
both = pytest.mark.parametrize("recurrence", RECURRENCES)


def build(recurrence, spec, *, seed=0, **settings):
    small = {"layers": 2, "channels": 6, "head_channels": 12}
    return create(f"pixelrnn-{recurrence}", spec=spec, seed=seed, **{**small, **settings})


def drawn(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# The recurrence


SWEEPS = {
    # The sources of a state as (rows, columns) away from it, for each direction, and which one gives c.
    "row": (row_sweep, [[(-1, -1), (-1, 0), (-1, 1)]], 1),
    "diagonal": (diagonal_sweep, [[(0, -1), (-1, 0)], [(0, 1), (-1, 0)]], 0),
}


def inputs(kind, height, width, maps=2, channels=3, batch=2):
    _, sources, _ = SWEEPS[kind]
    directions, gates = len(sources), 4 * maps
    return [
        drawn(channels, height * width, batch, seed=1),
        drawn(directions, gates, channels + len(sources[0]) * maps, seed=2),
        drawn(directions, gates, batch, seed=3),
        drawn(directions, maps, seed=4),
        drawn(directions, maps, seed=5),
    ]


def pixel_by_pixel(kind, height, width, x, weight, bias, hidden, memory):
    """The equations of the paper, one pixel after the other."""
    _, sources, handing_on = SWEEPS[kind]
    batch, found = x.shape[2], []
    for d, offsets in enumerate(sources):
        outside = [value[d][:, None].expand(-1, batch) for value in (hidden, memory)]
        states = {}
        columns = range(width) if d == 0 else reversed(range(width))
        for i, j in [(i, j) for j in columns for i in range(height)] if kind == "diagonal" else [
            (i, j) for i in range(height) for j in columns
        ]:  # fmt: skip
            before = [states.get((i + a, j + b), outside) for a, b in offsets]
            right = torch.cat([x[:, i * width + j], *(h for h, _ in before)])
            o, f, g_in, g = (weight[d] @ right + bias[d]).chunk(4)
            c = f.sigmoid() * before[handing_on][1] + g_in.sigmoid() * g.tanh()
            states[i, j] = [o.sigmoid() * c.tanh(), c]
        found.append(torch.stack([states[i, j][0] for i in range(height) for j in range(width)], dim=1))
    return torch.stack(found)


@pytest.mark.parametrize("kind", SWEEPS)
@pytest.mark.parametrize(("height", "width"), [(3, 4), (4, 2), (1, 3), (3, 1)])
def test_the_scan_is_the_paper_s_recurrence(kind, height, width):
    values = inputs(kind, height, width)
    found = lstm_scan(*values, SWEEPS[kind][0](height, width))
    torch.testing.assert_close(found, pixel_by_pixel(kind, height, width, *values))


@pytest.mark.parametrize("kind", SWEEPS)
def test_the_gradient_is_that_of_the_recurrence(kind):
    values = [value.requires_grad_() for value in inputs(kind, 3, 2, maps=1, channels=1)]
    sweep = SWEEPS[kind][0](3, 2)
    assert torch.autograd.gradcheck(lambda *values: lstm_scan(*values, sweep), values)


@pytest.mark.parametrize("kind", SWEEPS)
def test_the_gradient_in_float32_is_that_in_float64_and_repeats(kind):
    sweep, given = SWEEPS[kind][0](6, 5), drawn(len(SWEEPS[kind][1]), 8, 30, 4)

    def gradients(dtype):
        values = [
            value.to(dtype).requires_grad_() for value in inputs(kind, 6, 5, maps=8, channels=5, batch=4)
        ]
        return torch.autograd.grad(lstm_scan(*values, sweep), values, given.to(dtype))

    single, again, exact = gradients(torch.float32), gradients(torch.float32), gradients(torch.float64)
    for a, b, c in zip(single, again, exact, strict=True):
        assert torch.equal(a, b)
        torch.testing.assert_close(a.double(), c, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", SWEEPS)
@pytest.mark.parametrize(("height", "width"), [(3, 5), (5, 3), (1, 4), (4, 1)])
def test_a_sweep_meets_every_pixel_once_and_its_sources_before_it(kind, height, width):
    make, sources, memory = SWEEPS[kind]
    sweep = make(height, width)
    assert sweep.memory == memory
    assert sum(sweep.sizes) == height * width
    assert len(sweep.sizes) == (height if kind == "row" else height + width - 1)
    inside = torch.arange(height * width).expand(len(sources), -1)
    assert torch.equal(sweep.pixels.sort(dim=1).values, inside)
    # To the order of the sweep and back.
    assert torch.equal(sweep.raster.gather(1, sweep.pixels), sweep.places.expand(len(sources), -1))
    assert sorted([*sweep.places.tolist(), *sweep.outside.tolist()]) == list(range(sweep.states))
    step = torch.full((sweep.states,), -1)  # of each state; those outside come first
    step[sweep.places] = torch.arange(len(sweep.sizes)).repeat_interleave(torch.tensor(sweep.sizes))
    assert (step[sweep.sources] < step[sweep.places]).all()
    for d, offsets in enumerate(sources):
        pixel = dict(zip(sweep.places.tolist(), sweep.pixels[d].tolist(), strict=True))
        for (a, b), places in zip(offsets, sweep.sources.tolist(), strict=True):
            for at, place in zip(sweep.pixels[d].tolist(), places, strict=True):
                i, j = at // width + a, at % width + b
                assert pixel.get(place) == (i * width + j if i >= 0 and 0 <= j < width else None)


# What a pixel sees


def seen(model, row, column):
    """Pixels of a 28 × 28 image that the logits of one depend on."""
    x = torch.rand(1, 1, 28, 28, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x.requires_grad_()
    logits = model.logits(x)[0, :, 0, row, column]
    return sum(torch.autograd.grad(value, x, retain_graph=True)[0][0, 0].abs() for value in logits) != 0


def saturated(model):
    """Weights without signs, so that no path cancels another and no ReLU is off."""
    model.double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.abs_()
    return model


@pytest.mark.parametrize("column", [0, 14, 27])
def test_one_diagonal_layer_sees_all_earlier_pixels(column):
    model = saturated(build("diagonal", ImageSpec(1, 28, 28, 2), layers=1, channels=2, head_channels=2))
    found = seen(model, 14, column).flatten()
    assert found[: 14 * 28 + column].all()  # of column 14: 406
    assert not found[14 * 28 + column :].any()


def row_lstm_field(row, column, size):
    """By geometry: what one Row LSTM layer after the first convolution sees, as a set of pixels."""

    def first(i, j):  # mask A of 7 × 7
        above = {(i - a, j + b) for a in (1, 2, 3) for b in range(-3, 4)}
        return above | {(i, j - b) for b in (1, 2, 3)}

    triangle = {(row - d, column + b) for d in range(row + 1) for b in range(-d, d + 1)}
    states = {(i, j) for i, j in triangle if 0 <= j < size}
    window = {(i, j - b) for i, j in states for b in (0, 1)}  # the part of 3 × 1 that mask B leaves open
    maps = {(i, j) for i, j in window if j >= 0}
    return {(i, j) for at in maps for i, j in first(*at) if i >= 0 and 0 <= j < size}


@pytest.mark.parametrize("column", [0, 14, 27])
def test_one_row_layer_sees_a_triangle(column):
    model = saturated(build("row", ImageSpec(1, 28, 28, 2), layers=1, channels=2, head_channels=2))
    found = {(i, j) for i, j in seen(model, 14, column).nonzero().tolist()}
    expected = row_lstm_field(14, column, 28)
    assert found == expected
    assert len(expected) < 14 * 28 + column


# Parameters


@both
@pytest.mark.parametrize("colours", [1, 3])
def test_the_parameters_of_a_block(recurrence, colours):
    h, d, m = 6, 5, 4

    def count(layers, **conditions):
        stack = PixelRNNStack(
            colours, 2, recurrence=recurrence, layers=layers, channels=h, head_channels=6, skip=False,
            **conditions,
        )  # fmt: skip
        return sum(p.numel() for p in stack.parameters())

    directions, window, sources = {"row": (1, 2, 3), "diagonal": (2, 1, 2)}[recurrence]
    gates = 4 * h
    block = directions * (gates * (2 * h * window + 1 + sources * h) + 2 * h) + h * 2 * h
    assert count(3) - count(2) == block
    assert count(1, condition_dim=d, map_channels=m) - count(1) == directions * gates * (d + m)


# Conditions


@both
@pytest.mark.parametrize("colours", [1, 3])
def test_maps_condition_every_pixel_and_the_cache_too(recurrence, colours):
    torch.manual_seed(0)
    stack = PixelRNNStack(
        colours, 4, recurrence=recurrence, layers=2, channels=6, head_channels=12, condition_dim=2,
        map_channels=3,
    ).double()  # fmt: skip
    x, condition, maps = torch.rand(2, colours, 4, 5).double(), drawn(2, 2), drawn(2, 3, 4, 5)
    with torch.no_grad():
        whole = stack(x, condition, maps)
        cache = PixelRNNCache(stack, 2, 5, condition, maps)
        for i, j, c in [(i, j, c) for i in range(4) for j in range(5) for c in range(colours)]:
            torch.testing.assert_close(cache.logits(i, j, c), whole[:, :, c, i, j])
            cache.put(i, j, c, x[:, c, i, j])
        for i, j in [(0, 0), (1, 4), (3, 2)]:
            changed = maps.clone()
            changed[0, :, i, j] += 1
            difference = stack(x, condition, changed) - whole
            assert difference[0, :, 0, i, j].abs().min() > 0  # of the pixel itself
            assert not difference[1].any()


# Training


def step(x, condition=None):
    return Step(len(x), Clock(), torch.Generator(), {}, Batch(x, condition))


@both
@pytest.mark.parametrize("skip", [True, False])
def test_the_cost_reaches_every_parameter(recurrence, skip):
    spec = ImageSpec(1, 5, 4, levels=4, condition=Classes(3))
    model = build(recurrence, spec, skip=skip)
    x = torch.randint(4, (4, 1, 5, 4), generator=torch.Generator().manual_seed(0)) / 3
    model.cost(step(x, torch.tensor([0, 1, 2, 0])))["loss"].backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@both
def test_training_finds_what_only_a_state_can_carry(recurrence):
    """The last row repeats the first, which is out of the first convolution's reach."""
    spec = ImageSpec(1, 5, 2, levels=2)
    model = build(recurrence, spec, seed=1, layers=1, optimizer="adam", learning_rate=1e-2, max_grad_norm=1.0)
    player = model.players()["model"]
    optimiser = player.optimizer(player.parameters)
    generator = torch.Generator().manual_seed(0)
    for _ in range(120):
        rows = torch.zeros(32, 1, 5, 2)
        rows[:, :, 0] = rows[:, :, -1] = torch.randint(2, (32, 1, 2), generator=generator).float()
        loss = model.cost(step(rows))["loss"]
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), model.max_grad_norm)
        optimiser.step()
    assert loss.item() < 2.8 * math.log(2)  # two random bits of the first row; without memory four


def test_options():
    spec = ImageSpec(1, 4, 4, levels=2)
    player = build("row", spec, anneal=0.5).players()["model"]
    assert [player.schedule(Clock(progress=p)) for p in (0, 0.5, 0.75, 1)] == [1, 1, 0.5, 0]
    assert isinstance(player.optimizer(player.parameters), torch.optim.RMSprop)
    assert build("row", spec).max_grad_norm is None
    assert build("row", spec, max_grad_norm=1.0).max_grad_norm == 1
    with pytest.raises(OptionError, match="wanted at least one map for each of the image's 3 channels"):
        build("diagonal", ImageSpec(3, 4, 4), channels=2)
    with pytest.raises(OptionError, match="recurrence"):
        create("pixelrnn-row", spec=spec, recurrence="column")


def test_paper_sizes():
    paper = create("pixelrnn-diagonal", spec=ImageSpec(3, 32, 32)).settings
    assert (paper["layers"], paper["channels"], paper["head_channels"], paper["batch_size"]) == (
        12,
        128,
        1024,
        16,
    )


def test_the_row_model_keeps_every_promise_too():
    """`check_model` of a catalogue's name tries the class's own `tiny`, which is diagonal."""

    class Rows(PixelRNN):
        @classmethod
        def tiny(cls, spec):
            return cls(spec, **{**PixelRNN.tiny(spec).settings, "recurrence": "row"})

    check_model(Rows, ImageSpec(1, 4, 4, levels=4, condition=Classes(3)))
