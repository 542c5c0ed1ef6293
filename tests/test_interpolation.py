"""Between two codes, along an attribute, and with few labels: models whose codes are known."""

import math

import numpy as np
import pytest
import torch

from bestiary.catalogue import create
from bestiary.data.specs import Classes, ImageSpec, PointSpec, Vector
from bestiary.data.splits import ArraySplit, Batch, EndlessSplit
from bestiary.errors import BestiaryError, DataError, OptionError
from bestiary.models.base import ClosedForm, Encoder
from bestiary.models.baseline.gaussian_mixture import GaussianMixture
from bestiary.tasks import (
    add_attribute,
    attribute_direction,
    code_path,
    codes_of,
    example_pairs,
    few_label_accuracy,
    interpolate,
    interpolate_codes,
    interpolation_picture,
    natural_path,
)

Z = 4
SPEC = ImageSpec(1, 2, 2)


class Linear(ClosedForm, Encoder):
    """z = 2x + c, and back: images of four pixels, codes of four numbers, conditions of one."""

    def __init__(self, spec):
        super().__init__(spec, batch_size=1)

    def fit(self, data, *, generator=None):
        raise NotImplementedError

    def encode(self, x, *, condition=None):
        assert len(x) <= 256
        return 2 * x.flatten(1) + self._own(condition)

    def decode(self, z, *, condition=None):
        assert len(z) <= 256
        return ((z - self._own(condition)) / 2).view(-1, *SPEC.shape)

    def _own(self, condition):
        assert (condition is None) == (self.spec.condition is None)
        return 0 if condition is None else condition.view(len(condition), -1)[:, :1].float()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def images(n, seed=0):
    return torch.rand(n, *SPEC.shape, generator=seeded(seed))


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed))


# Paths


@pytest.mark.parametrize("prior", ["normal", "uniform"])
def test_between_the_codes_of_a_generator(prior):
    """The ends are what the generator makes of two draws of codes, and the middle is that of their path."""
    spec = ImageSpec(1, 4, 4, condition=Classes(3))
    settings = {"prior": prior, "latent_dim": 6, "network": "mlp", "hidden": [8]}
    model = create("ns-gan", spec=spec, seed=0, **settings)
    classes = torch.tensor([2, 0, 1])
    images = interpolate_codes(model, 3, steps=5, condition=classes, generator=seeded())
    assert images.shape == (3, 5, 1, 4, 4)
    draws = seeded()
    a, b = (torch.randn(3, 6, generator=draws) if prior == "normal" else
            2 * torch.rand(3, 6, generator=draws) - 1 for _ in range(2))  # fmt: skip
    path = "spherical" if prior == "normal" else "linear"
    assert natural_path(model) == path
    z = code_path(a, b, steps=5, path=path)
    with torch.no_grad():
        wanted = [model.generate(z[:, t], torch.eye(3)[classes]) for t in range(5)]
    torch.testing.assert_close(images, torch.stack(wanted, dim=1))
    assert (images[:, 0] - images[:, -1]).abs().max() > 1e-3


def test_only_a_generators_codes_can_be_drawn():
    with pytest.raises(BestiaryError, match="model: found Linear, wanted an adversarial model"):
        interpolate_codes(Linear(SPEC), 2, steps=3)


@pytest.mark.parametrize("path", ["linear", "spherical"])
def test_paths_begin_and_end_at_the_codes(path):
    a, b = normal(50, 6), 3 * normal(50, 6, seed=1)
    z = code_path(a, b, steps=5, path=path)
    assert z.shape == (50, 5, 6)
    assert z.dtype == a.dtype
    torch.testing.assert_close(z[:, 0], a)
    torch.testing.assert_close(z[:, -1], b)
    back = code_path(b, a, steps=5, path=path)
    torch.testing.assert_close(back, z.flip(1))


def test_a_straight_path_is_linear_in_time():
    a, b = normal(3, 6), normal(3, 6, seed=1)
    t = torch.tensor([0, 0.25, 0.5, 0.75, 1])[:, None]
    torch.testing.assert_close(code_path(a, b, steps=5), a[:, None] + t * (b - a)[:, None])


def test_a_spherical_path_is_shoemakes_formula_for_codes_of_one_length():
    a, b = (3 * torch.nn.functional.normalize(normal(40, 6, seed=seed).double()) for seed in (0, 1))
    theta = ((a * b).sum(1, keepdim=True) / 9).acos()[:, None]
    t = torch.linspace(0, 1, 7, dtype=torch.float64)[:, None]
    wanted = ((1 - t) * theta).sin() / theta.sin() * a[:, None] + (t * theta).sin() / theta.sin() * b[:, None]
    torch.testing.assert_close(code_path(a, b, steps=7, path="spherical"), wanted)


def test_a_spherical_path_turns_at_a_constant_speed_while_its_length_goes_in_a_line():
    a, b = normal(40, 6).double(), 5 * normal(40, 6, seed=1).double()
    z = code_path(a, b, steps=9, path="spherical")
    lengths = z.norm(dim=2)
    torch.testing.assert_close(
        lengths.diff(dim=1), (b.norm(dim=1) - a.norm(dim=1))[:, None].expand(-1, 8) / 8
    )
    cosines = torch.cosine_similarity(z[:, 1:], z[:, :-1], dim=2).acos()
    theta = torch.cosine_similarity(a, b, dim=1).acos()
    torch.testing.assert_close(cosines, theta[:, None].expand(-1, 8) / 8)


def test_halfway_between_draws_of_the_prior_a_spherical_path_is_where_the_prior_is():
    a, b = normal(200, 100), normal(200, 100, seed=1)
    straight, around = (
        code_path(a, b, steps=3, path=path)[:, 1].norm(dim=1) for path in ("linear", "spherical")
    )
    assert around.mean() == pytest.approx(10, abs=0.1)
    assert straight.mean() == pytest.approx(math.sqrt(50), abs=0.1)


@pytest.mark.parametrize("error", [0, 1e-12, 1e-7, 1e-5])
def test_parallel_codes_of_any_lengths(error):
    a = normal(20, 5).double()
    b = 4 * a * (1 + error * normal(20, 5, seed=1))
    t = torch.linspace(0, 1, 6, dtype=torch.float64)[:, None]
    z = code_path(a, b, steps=6, path="spherical")
    torch.testing.assert_close(z, (1 - t) * a[:, None] + t * b[:, None], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("error", [0, 1e-12, 1e-7, 1e-5])
def test_opposite_codes_go_around_the_origin(error):
    a = normal(20, 5)
    b = -2 * a * (1 + error * normal(20, 5, seed=1))
    z = code_path(a, b, steps=6, path="spherical")
    torch.testing.assert_close(z[:, -1], b, rtol=1e-4, atol=1e-4)
    lengths = (b.norm(dim=1) - a.norm(dim=1))[:, None] * torch.linspace(0, 1, 6) + a.norm(dim=1)[:, None]
    torch.testing.assert_close(z.norm(dim=2), lengths, rtol=1e-4, atol=1e-4)
    turns = torch.cosine_similarity(z[:, 1:], z[:, :-1], dim=2)
    torch.testing.assert_close(turns, torch.full_like(turns, math.cos(math.pi / 5)), rtol=1e-4, atol=1e-4)


def test_where_there_is_no_way_around_the_path_is_straight():
    zero, b = torch.zeros(3, 5), normal(3, 5)
    for a, z in ((zero, b), (b, zero), (zero, zero)):
        torch.testing.assert_close(code_path(a, z, steps=4, path="spherical"), code_path(a, z, steps=4))
    one = torch.tensor([[1.0], [2.0]])
    torch.testing.assert_close(code_path(one, -one, steps=4, path="spherical"), code_path(one, -one, steps=4))


# Interpolation of examples


def test_interpolations_decode_the_path():
    model, a, b = Linear(SPEC), images(80), images(80, 1)
    for path in ("linear", "spherical"):
        found = interpolate(model, a, b, steps=5, path=path)
        wanted = code_path(a.flatten(1), b.flatten(1), steps=5, path=path).view(80, 5, *SPEC.shape)
        torch.testing.assert_close(found, wanted)  # more codes than are decoded at once
    torch.testing.assert_close(
        interpolate(model, a, b, steps=5), interpolate(model, a, b, steps=5, path="linear")
    )


def test_conditions_are_given_to_both_or_mixed():
    a, b = images(3), images(3, 1)
    labelled = Linear(ImageSpec(1, 2, 2, condition=Classes(9)))
    label = torch.tensor([1, 5, 2])
    straight = interpolate(Linear(SPEC), a, b, steps=4)
    torch.testing.assert_close(interpolate(labelled, a, b, steps=4, condition=label), straight)
    torch.testing.assert_close(interpolate(labelled, a, b, steps=4, condition=(label, label)), straight)
    with pytest.raises(DataError, match="condition: found pairs of different classes"):
        interpolate(labelled, a, b, steps=4, condition=(label, label.flip(0)))
    told = Linear(ImageSpec(1, 2, 2, condition=Vector(2)))
    vectors = normal(3, 2), normal(3, 2, seed=1)  # a path of codes and one of conditions: both in a line
    torch.testing.assert_close(interpolate(told, a, b, steps=4, condition=vectors), straight)


def test_codes_on_a_sphere_stay_on_it():
    model = create("spherical-vae", spec=SPEC, seed=0, hidden=[8], activation="tanh", latent_dim=2)
    assert natural_path(model) == "spherical"
    assert natural_path(Linear(SPEC)) == "linear"
    a, b = images(5), images(5, 1)
    codes = [codes_of(model, x) for x in (a, b)]
    z = code_path(*codes, steps=6, path=natural_path(model))
    torch.testing.assert_close(z.norm(dim=2), torch.ones(5, 6))
    torch.testing.assert_close(interpolate(model, a, b, steps=6)[:, 2], model.decode(z[:, 2]))


def test_a_row_of_the_picture_has_the_examples_at_its_ends():
    a, b, between = images(2), images(2, 1), images(6, 2).view(2, 3, *SPEC.shape)
    picture = np.asarray(interpolation_picture(a, b, between))
    side, scale = 56 + 2, 28
    assert picture.shape == (2 * side + 2, 5 * side + 2)
    for row in range(2):
        for column, image in enumerate([a[row], *between[row], b[row]]):
            shown = picture[2 + row * side :: scale, 2 + column * side :: scale][:2, :2]
            assert np.array_equal(shown, (image[0] * 255).round().byte().numpy())


def test_pairs_of_examples():
    levels = torch.arange(40, dtype=torch.uint8)[:, None, None, None].expand(40, *SPEC.shape)
    labels = torch.arange(40) % 3
    labelled = ArraySplit(levels, levels=256, labels=labels, conditional=True)
    plain = ArraySplit(levels, levels=256)
    spec = ImageSpec(1, 2, 2, condition=Classes(3))
    a, b = example_pairs(labelled, spec, 10, generator=seeded())
    assert len(a) == len(b) == 10
    assert torch.equal(a.condition, b.condition)
    assert len(a.condition.unique()) > 1
    for split, kind in ((labelled, spec), (plain, SPEC)):
        sides = example_pairs(split, kind, 10, generator=seeded())
        which = torch.cat([255 * side.x[:, 0, 0, 0] for side in sides])
        assert len(which.unique()) == 20  # nobody twice
        again = example_pairs(split, kind, 10, generator=seeded(1))
        assert not torch.equal(sides[0].x, again[0].x)
    assert len(example_pairs(plain, SPEC, 100)[0]) == 20
    endless = EndlessSplit(lambda n, g: Batch(torch.rand(n, 2, generator=g)))
    assert len(example_pairs(endless, PointSpec(2), 7, generator=seeded())[1]) == 7
    with pytest.raises(DataError, match="split: found 1 examples and no pair"):
        example_pairs(ArraySplit(levels[:1], levels=256), SPEC, 1)


def test_mistakes_in_interpolations_are_one_line():
    model, x = Linear(SPEC), images(2)
    with pytest.raises(BestiaryError, match="model: found GaussianMixture, wanted one that has codes"):
        interpolate(GaussianMixture(PointSpec(2), components=1), torch.rand(1, 2), torch.rand(1, 2), steps=3)
    with pytest.raises(OptionError, match="steps: found 1, wanted at least 2"):
        interpolate(model, x, x, steps=1)
    with pytest.raises(OptionError, match="unknown path 'sperical': did you mean 'spherical'"):
        interpolate(model, x, x, steps=3, path="sperical")
    with pytest.raises(DataError, match="b: found 1 examples, wanted 2"):
        interpolate(model, x, x[:1], steps=3)
    with pytest.raises(DataError, match=r"b: found codes of shape \(2, 3\) for a of \(2, 4\)"):
        code_path(torch.ones(2, 4), torch.ones(2, 3), steps=3)


# Arithmetic


def test_the_direction_of_an_attribute_is_the_difference_of_mean_codes():
    model, x, shift = Linear(SPEC), images(300), torch.tensor([0.5, 0, -1, 0]).view(SPEC.shape)
    direction = attribute_direction(model, x[:200] + shift, x[:200])
    torch.testing.assert_close(direction, 2 * shift.flatten(), atol=1e-5, rtol=0)
    other = attribute_direction(model, x[:200], x[200:])  # of different numbers of examples
    torch.testing.assert_close(other, 2 * (x[:200].mean(0) - x[200:].mean(0)).flatten())


def test_adding_an_attribute_moves_the_code():
    model, x, direction = Linear(SPEC), images(5), torch.tensor([1.0, 0, -2, 0])
    torch.testing.assert_close(add_attribute(model, x, direction), x + direction.view(SPEC.shape) / 2)
    torch.testing.assert_close(add_attribute(model, x, direction, -3.0), x - 1.5 * direction.view(SPEC.shape))
    torch.testing.assert_close(add_attribute(model, x, direction, 0.0), x)
    with pytest.raises(DataError, match=r"direction: found shape \(3,\), wanted \(4,\), that of a code"):
        add_attribute(model, x, direction[:3])


def test_groups_keep_a_correlated_attribute_out():
    """Of those with the first attribute nine in ten have the second, of the others one in ten."""
    glasses, grey = (torch.eye(4)[i].view(SPEC.shape) for i in (0, 1))
    second = [torch.arange(100) % 10 != 0, torch.arange(100) % 10 == 0]
    first = [torch.ones(100), torch.zeros(100)]
    x = [
        one[:, None, None, None] * glasses + other[:, None, None, None] * grey
        for one, other in zip(first, second, strict=True)
    ]
    model = Linear(SPEC)
    torch.testing.assert_close(attribute_direction(model, *x), torch.tensor([2, 1.6, 0, 0]))
    groups = tuple(other.long() for other in second)
    torch.testing.assert_close(
        attribute_direction(model, *x, groups=groups), torch.tensor([2.0, 0, 0, 0]), atol=1e-6, rtol=0
    )
    lacking = (groups[0], torch.zeros(100, dtype=torch.int64))  # the second side has group 0 alone
    found = attribute_direction(model, *x, groups=lacking)
    torch.testing.assert_close(found, torch.tensor([2, -0.2, 0, 0]))


def test_attributes_of_conditional_models():
    model, label = Linear(ImageSpec(1, 2, 2, condition=Classes(9))), torch.tensor([4, 7])
    direction = attribute_direction(model, images(2), images(2), condition=(label, label - 1))
    torch.testing.assert_close(direction, torch.ones(4))
    changed = add_attribute(model, images(2), direction, condition=label)
    torch.testing.assert_close(changed, images(2) + 0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x_with": images(0)}, "x_with: found no examples"),
        ({"x_without": images(0)}, "x_without: found no examples"),
        (
            {"groups": (torch.zeros(3), torch.zeros(2))},
            r"groups: found shapes \(3,\) and \(2,\), wanted \(2,\)",
        ),
        ({"groups": (torch.zeros(2), torch.ones(2))}, "groups: found none that examples with and without"),
    ],
)
def test_mistakes_in_attributes_are_one_line(change, message):
    with pytest.raises(DataError, match=message):
        attribute_direction(Linear(SPEC), **{"x_with": images(2), "x_without": images(2), **change})


# Few labels


def clusters(n, seed, *, spread, empty=0):
    """Three classes around three corners, and dimensions that are almost empty: (codes, labels)."""
    draw = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    codes = np.eye(3)[labels] + spread * draw.standard_normal((n, 3))
    return np.concatenate([codes, 1e-3 * draw.standard_normal((n, empty))], axis=1), labels


def test_one_label_of_a_class_is_enough_where_classes_are_far_apart():
    found = few_label_accuracy(
        *clusters(60, 0, spread=0.02), *clusters(90, 1, spread=0.02), per_class=(1, None), draws=3
    )
    assert [(one.per_class, one.value, one.error) for one in found] == [(1, 1.0, 0.0), (None, 1.0, 0.0)]
    assert found[0].deviation == 0
    assert found[1].deviation is None
    assert found[0].protocol == "few labels[codes, d=3, 1 of a class, 3 draws, n=90]"
    assert found[1].protocol == "few labels[codes, d=3, all labels, n=90]"


def test_more_labels_are_better_and_the_deviation_is_that_of_the_draws():
    train, test = clusters(300, 0, spread=0.7), clusters(600, 1, spread=0.7)
    few = few_label_accuracy(*train, *test, per_class=(1, 20), draws=4)
    assert few[0].value + 2 * few[0].error < few[1].value
    for one in few:
        assert len(set(one.accuracies)) > 1
        assert one.value == pytest.approx(np.mean(one.accuracies))
        assert one.deviation == pytest.approx(np.std(one.accuracies, ddof=1))
        assert one.error == pytest.approx(math.sqrt(one.deviation**2 / 4 + one.value * (1 - one.value) / 600))
    assert few[:1] == few_label_accuracy(*train, *test, per_class=(1,), draws=4)
    assert few[:1] != few_label_accuracy(*train, *test, per_class=(1,), draws=4, seed=1)


def test_dimensions_that_a_model_leaves_empty_cost_nothing():
    train, test = clusters(60, 0, spread=0.02, empty=50), clusters(90, 1, spread=0.02, empty=50)
    (found,) = few_label_accuracy(*train, *test, per_class=(1,), draws=3)
    assert found.value == 1


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"per_class": (0,)}, OptionError, "per_class: found 0, wanted from 1 to 3"),
        ({"per_class": (1, 4)}, OptionError, "per_class: found 4, wanted from 1 to 3"),
        ({"draws": 1}, OptionError, "draws: found 1, wanted at least 2"),
        ({"train_labels": np.zeros(9, int)}, DataError, "train_labels: found 1 classes"),
        (
            {"test_codes": np.zeros((9, 2))},
            DataError,
            "test_codes: found 2 features, wanted 3 as in train_codes",
        ),
    ],
)
def test_mistakes_with_few_labels_are_one_line(change, error, message):
    x, y = clusters(9, 0, spread=0.1)
    given = {"train_codes": x, "train_labels": y, "test_codes": x, "test_labels": y}
    with pytest.raises(error, match=message):
        few_label_accuracy(**{**given, **change})
