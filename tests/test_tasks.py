"""What is looked at in a model: likelihood maps, bit planes, drift, probes, receptive fields."""

import math
from statistics import NormalDist

import numpy as np
import pytest
import torch

from bestiary import catalogue
from bestiary.catalogue import create, entry
from bestiary.data.specs import Classes, ImageSpec
from bestiary.errors import DataError, OptionError
from bestiary.models.autoregressive.base import Autoregressive
from bestiary.models.base import Model
from bestiary.tasks import (
    bit_plane_map,
    bit_planes,
    conditional_bits,
    free_running,
    likelihood_maps,
    linear_probe,
    log_prob_map,
    pooled_activations,
    receptive_field,
)

SMALL = {"layers": 3, "channels": 12, "kernel_size": 3, "first_kernel_size": 3, "head_channels": 24}
BINARY = ImageSpec(1, 3, 3, levels=2)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def build(spec, *, scale=2.0, seed=0, **settings):
    """A random gated PixelCNN in float64 whose distributions are far from uniform."""
    model = catalogue.create("gated-pixelcnn", spec=spec, seed=seed, **{**SMALL, **settings}).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    return model


def images(spec, n, seed=6, dtype=torch.float64):
    x = torch.randint(spec.levels, (n, *spec.shape), generator=seeded(seed))
    return x.to(dtype) / (spec.levels - 1)


class Independent(Autoregressive):
    """Every sub-pixel by itself, by the same masses of its levels."""

    def __init__(self, spec, masses):
        super().__init__(spec, batch_size=1)
        self.log_mass = torch.nn.Parameter(torch.as_tensor(masses, dtype=torch.float64).log())

    def __new__(cls, *_):
        return Model.__new__(cls)

    def players(self):
        return {}

    def logits(self, x, condition=None):
        self.check_images(x)
        shape = (len(x), -1, *self.spec.shape)
        return self.log_mass[:, None, None, None].expand(shape)

    def cache(self, batch, condition=None):
        logits = self.log_mass.expand(batch, -1)

        class Cache:
            def logits(self, row, column, channel):
                return logits

            def put(self, row, column, channel, values): ...

            def select(self, indices): ...

        return Cache()


# Likelihood by position and by bit


IMAGE_MODELS = [
    name
    for name, entry in catalogue.CATALOGUE.items()
    if entry.family == "autoregressive" and issubclass(entry.load(), Autoregressive)
]


@pytest.mark.parametrize("name", IMAGE_MODELS)
@pytest.mark.parametrize("condition", [None, torch.tensor([2, 0, 1, 1, 0])], ids=["plain", "labelled"])
def test_the_map_sums_to_the_log_likelihood_of_every_model(name, condition, monkeypatch):
    spec = ImageSpec(3, 4, 4, levels=8, condition=None if condition is None else Classes(3))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = catalogue.entry(name).load().tiny(spec).double().eval()
    x = images(spec, 5)
    monkeypatch.setattr(likelihood_maps, "SCORE_CHUNK", 2)
    found = log_prob_map(model, x, condition)
    assert found.shape == x.shape
    assert not found.requires_grad
    with torch.no_grad():
        torch.testing.assert_close(found.flatten(1).sum(dim=1), model.log_prob(x, condition=condition))


def test_the_map_is_of_each_sub_pixel_given_the_earlier_ones():
    spec = ImageSpec(3, 3, 4, levels=4)
    model, x = build(spec), images(spec, 2)
    changed = x.clone()
    changed[:, 1, 1, 2] = 1 - changed[:, 1, 1, 2]
    order = torch.arange(spec.dimensions).view(3, 4, 3).permute(2, 0, 1)
    same = (log_prob_map(model, x) == log_prob_map(model, changed)).all(dim=0)
    assert torch.equal(same, order < order[1, 1, 2])
    masses = model.logits(x).log_softmax(dim=1)
    level = round(x[1, 2, 0, 3].item() * 3)
    assert log_prob_map(model, x)[1, 2, 0, 3].item() == pytest.approx(masses[1, level, 2, 0, 3].item())


def test_bit_planes_of_independent_bits():
    """Bit j is 1 with probability q_j whatever the others are: it costs −log₂ q_j or −log₂ (1 − q_j)."""
    q = torch.tensor([0.9, 0.5, 0.2], dtype=torch.float64)
    levels = torch.arange(8)
    bits = (levels[:, None] >> torch.tensor([2, 1, 0])) & 1  # (8, 3), the most significant first
    each = torch.where(bits == 1, q, 1 - q)
    log_mass = each.log().sum(dim=1).expand(8, -1)
    torch.testing.assert_close(bit_planes(log_mass, levels), -each.log2())
    mixed = torch.randn(8, 8, dtype=torch.float64, generator=seeded()).log_softmax(dim=1)
    found = bit_planes(mixed, levels)
    torch.testing.assert_close(found.sum(dim=1), -mixed.diagonal() / math.log(2))
    first = mixed[5, 4:].exp().sum()  # levels 4 to 7 begin with a 1
    torch.testing.assert_close(found[5, 0], -first.log2())
    torch.testing.assert_close(found[5, 1], -(mixed[5, 4:6].exp().sum() / first).log2())


def test_bit_planes_of_a_model_sum_to_its_bits():
    spec = ImageSpec(3, 3, 4, levels=16)
    model, x = build(spec), images(spec, 3)
    found = bit_plane_map(model, x)
    assert found.shape == (3, 4, *spec.shape)
    with torch.no_grad():
        torch.testing.assert_close(found.flatten(1).sum(dim=1), -model.log_prob(x) / math.log(2))
    uniform = bit_plane_map(Independent(spec, torch.full((16,), 1 / 16)), x)
    torch.testing.assert_close(uniform, torch.ones_like(uniform))
    with pytest.raises(OptionError, match="levels: found 17, wanted a power of two"):
        bit_plane_map(build(ImageSpec(1, 3, 3, levels=17)), images(ImageSpec(1, 3, 3, levels=17), 1))


def test_maps_refuse_what_is_no_image():
    with pytest.raises(DataError, match=r"x: found values from 0 to 2, wanted images in \[0, 1\]"):
        log_prob_map(build(BINARY), 2 * images(BINARY, 4))


# Free running


def test_free_running_against_the_entropy_of_independent_pixels():
    spec, masses = ImageSpec(1, 4, 5, levels=4), torch.tensor([0.6, 0.25, 0.1, 0.05])
    model, n = Independent(spec, masses), 2000
    x = torch.zeros(n, *spec.shape, dtype=torch.float64)
    drift = free_running(model, x, given=7, generator=seeded())
    entropy = -(masses * masses.log()).sum().item()
    deviation = ((masses * masses.log() ** 2).sum() - entropy**2).sqrt().item()
    torch.testing.assert_close(drift.true, torch.full_like(drift.true, -math.log(0.6)))
    assert drift.missing.flatten().tolist() == 7 * [False] + 13 * [True]
    own = drift.own.mean(dim=0)[:, drift.missing]
    assert (own - entropy).abs().max() < 4.5 * deviation / math.sqrt(n)
    assert not drift.by_position[:, ~drift.missing].any()
    value, error = drift.excess_entropy
    assert error == pytest.approx(deviation / math.log(2) / math.sqrt(13 * n), rel=0.1)
    assert value == pytest.approx((entropy + math.log(0.6)) / math.log(2), abs=4 * error)


@pytest.mark.parametrize("given", [0, 5])
def test_a_model_that_goes_on_with_its_own_samples_does_not_drift(given):
    spec = ImageSpec(1, 4, 4, levels=4)
    model = build(spec)
    samples = model.sample(1500, generator=seeded(1))
    value, error = free_running(model, samples, given=given, generator=seeded(2)).excess_entropy
    assert abs(value) < 4 * error < 0.1


def test_given_pixels_leave_some_to_draw():
    for given in (-1, 9):
        with pytest.raises(
            OptionError, match=f"given: found {given}, wanted at least 0 and fewer than the 9"
        ):
            free_running(build(BINARY), images(BINARY, 1), given=given)


# Probes


def two_gaussians(n, seed):
    """Classes at −1 and 1 with unit noise: the best possible accuracy is Φ(1) = 0.841."""
    draw = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    return np.stack([2.0 * labels - 1 + draw.standard_normal(n), draw.standard_normal(n)], axis=1), labels


def test_linear_probe_reaches_the_best_accuracy_and_knows_its_error():
    x, y = two_gaussians(2000, 0)
    x_test, y_test = two_gaussians(4000, 1)
    found = linear_probe(x, y, torch.tensor(x_test), torch.tensor(y_test))
    best = NormalDist().cdf(1)
    assert found.error == pytest.approx(math.sqrt(best * (1 - best) / 4000), rel=0.03)
    assert found.value == pytest.approx(best, abs=4 * found.error)
    assert found.n_real == 4000
    scaled = linear_probe(1e4 * x + 7, y, 1e4 * x_test + 7, y_test)
    assert scaled.value == pytest.approx(found.value, abs=1e-3)


def test_linear_probe_of_noise_is_at_chance():
    """More features than examples fit any labels; the test examples do not care."""
    draw = np.random.default_rng(0)
    found = linear_probe(
        draw.standard_normal((60, 100)),
        np.arange(60) % 3,
        draw.standard_normal((900, 100)),
        np.arange(900) % 3,
    )
    assert found.value == pytest.approx(1 / 3, abs=5 * found.error)


def test_few_labels_are_drawn_evenly_and_by_the_seed():
    x, y = two_gaussians(600, 0)
    test = two_gaussians(1000, 1)
    few = linear_probe(x, y, *test, labels=20, name="points")
    assert few.protocol.startswith("linear probe[points, d=2, labels=20, C=")
    assert few == linear_probe(x, y, *test, labels=20, name="points")
    uneven = (y == 0) | (np.arange(600) < 30)  # 300 and 15: of 20 at random one would be of class 1
    assert linear_probe(x[uneven], y[uneven], *test, labels=20).value > 0.75
    accuracy = [linear_probe(x, y, *test, labels=4, seed=seed).value for seed in range(3)]
    assert len(set(accuracy)) > 1
    assert np.mean(accuracy) < linear_probe(x, y, *test).value


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"labels": 3}, OptionError, "labels: found 3, wanted from two for each of the 2 classes to 20"),
        ({"labels": 21}, OptionError, "labels: found 21"),
        ({"train_labels": np.zeros(20, int)}, DataError, "train_labels: found 1 classes"),
        (
            {"train_labels": np.arange(19)},
            DataError,
            r"train_labels: found torch.int64 of shape \(19,\), wanted",
        ),
        ({"test_labels": np.zeros(8)}, DataError, "test_labels: found torch.float64"),
        ({"test_features": np.zeros((8, 3))}, DataError, "test_features: found 3 features, wanted 2"),
        ({"train_features": np.full((20, 2), np.nan)}, DataError, "train_features: found NaN"),
    ],
)
def test_mistakes_in_probes_are_one_line(change, error, message):
    x, y = two_gaussians(20, 0)
    given = {"train_features": x, "train_labels": y, "test_features": x[:8], "test_labels": y[:8]}
    with pytest.raises(error, match=message):
        linear_probe(**{**given, **change})


def test_pooled_activations_are_means_of_a_layers_maps(monkeypatch):
    spec = ImageSpec(1, 4, 6, levels=4)
    model, x = build(spec).train(), images(spec, 5)
    monkeypatch.setattr("bestiary.tasks.probe.SCORE_CHUNK", 2)
    names = ["network.layers.0", "network.hidden"]
    found = pooled_activations(model, names, x)
    vertical, horizontal = model.network.layers[0](2 * x - 1, 2 * x - 1, None)
    expected = torch.cat([vertical, horizontal], dim=1).mean(dim=(2, 3))
    torch.testing.assert_close(found["network.layers.0"], expected.detach())
    assert found["network.hidden"].shape == (5, SMALL["head_channels"])
    quarters = pooled_activations(model, names[:1], x, cells=2)["network.layers.0"].view(5, -1, 2, 2)
    torch.testing.assert_close(quarters[:, 0, 1, 0], vertical[:, 0, 2:, :3].mean(dim=(1, 2)).detach())
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())
    with pytest.raises(OptionError, match=r"unknown layer 'network.hiden': did you mean 'network\.hidden'"):
        pooled_activations(model, ["network.hiden"], x)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("pixelcnn", "network.blocks.0"),
        ("pixelcnn++", "network.stages.0.u_down.0"),
        ("pixelrnn-row", "network.layers.0"),
        ("pixelrnn-diagonal", "network.layers.0"),
        ("multiscale-pixelrnn", "large.layers.0"),
        ("order-agnostic", "network.layers.0"),
    ],
)
def test_activations_of_every_model_are_of_each_image_and_each_place(name, layer):
    """The features of an image do not depend on the others; a change below leaves the upper half alone."""
    spec = ImageSpec(1, 8, 8, levels=4)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = entry(name).load().tiny(spec)
        if name == "pixelrnn-row":
            model = create(name, spec=spec, layers=2, channels=6, head_channels=24)
    model, x = model.double(), images(spec, 10)
    found = pooled_activations(model, [layer], x, cells=2)[layer]
    assert len(found) == 10
    torch.testing.assert_close(pooled_activations(model, [layer], x[3:5], cells=2)[layer], found[3:5])
    changed = x.clone()
    changed[:, :, 6:] = 1 - changed[:, :, 6:]
    others = pooled_activations(model, [layer], changed, cells=2)[layer]
    if name == "multiscale-pixelrnn":  # whose small image is of all of the large one
        return
    upper, lower = (((found - others).view(10, -1, 2, 2)[:, :, row]).abs().max() for row in (0, 1))
    assert upper < 1e-6
    assert lower > 1e-4


def test_models_that_are_not_autoregressive_are_refused_in_one_line():
    spec = ImageSpec(1, 8, 8, levels=4)
    model, x = entry("vae").load().tiny(spec), images(spec, 2).float()
    for task in (
        lambda: log_prob_map(model, x),
        lambda: bit_plane_map(model, x),
        lambda: free_running(model, x),
        lambda: receptive_field(model, x, row=1, column=1),
        lambda: pooled_activations(model, ["encoder"], x),
        lambda: conditional_bits(model, x, x > 0.5),
    ):
        with pytest.raises(OptionError, match="model: found VAE, wanted an autoregressive model of images"):
            task()


def test_a_layer_that_gives_no_maps_once_is_one_line():
    model = entry("gated-pixelcnn").load().tiny(ImageSpec(1, 8, 8, levels=4)).double()
    x = images(ImageSpec(1, 8, 8, levels=4), 3)
    with pytest.raises(DataError, match="layers: network gives no maps"):
        pooled_activations(model, ["network"], x)
    model.network.unused = torch.nn.Identity()
    with pytest.raises(DataError, match=r"layers: network\.unused gives no maps .* once a prediction"):
        pooled_activations(model, ["network.unused"], x)


# Receptive fields


def test_receptive_field_is_the_jacobian():
    spec = ImageSpec(3, 4, 5, levels=4)
    model, x = build(spec).float(), images(spec, 2, dtype=torch.float32)
    found = receptive_field(model, x, row=2, column=1, channel=1)
    exact = build(spec).double()
    jacobian = torch.autograd.functional.jacobian(lambda x: exact.logits(x)[:, :, 1, 2, 1].sum(0), x.double())
    torch.testing.assert_close(found.strength, jacobian.abs().sum(dim=0).mean(dim=0))
    assert found.earlier.flatten().tolist() == [True] * 11 + [False] * 9
    assert found.seen[2, 1]  # red of the same pixel
    assert not found.seen[2, 2:].any()
    assert next(model.parameters()).dtype == torch.float32
    assert all(parameter.grad is None for parameter in model.parameters())
    with pytest.raises(
        OptionError, match=r"found \(0, 4, 0\), wanted a sub-pixel of an image of shape \(3, 4, 5\)"
    ):
        receptive_field(model, x, row=4, column=0)


def test_what_is_out_of_reach_is_unseen():
    spec = ImageSpec(1, 9, 9, levels=2)
    model = build(spec, layers=2, channels=16, head_channels=32)
    found = receptive_field(model, images(spec, 8), row=5, column=4)
    # A first layer of 3 × 3 and one more: 3 rows above, ±2 columns, and 2 pixels to the left.
    assert int(found.seen.sum()) == 3 * 5 + 2
    assert torch.equal(found.unseen, found.earlier & ~found.seen)
    assert int(found.unseen.sum()) == 5 * 9 + 4 - 17


def test_the_blind_spot_of_one_stack_and_none_of_two():
    """In the row r above, one stack of 3 × 3 after a 7 × 7 sees r + 2 columns to the right, however deep."""
    spec, row, column = ImageSpec(1, 10, 12, levels=2), 8, 3
    x = images(spec, 4)
    one = catalogue.create("pixelcnn", spec=spec, blocks=8, channels=16, head_channels=32)
    two = catalogue.create("gated-pixelcnn", spec=spec, layers=8, channels=16, head_channels=32)
    above, right = row - torch.arange(10)[:, None], torch.arange(12) - column
    field = receptive_field(one, x, row=row, column=column)
    assert torch.equal(field.unseen, (above > 0) & (right > above + 2))
    assert not receptive_field(two, x, row=row, column=column).unseen.any()
