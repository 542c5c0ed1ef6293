"""Sprites: what each factor does to the image, which images are the same, and in which split they are."""

import hashlib
import math
import time

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d

from bestiary.data import ImageSpec, load_data, sprites
from bestiary.data.datasets import DATASETS
from bestiary.errors import DataError, OptionError

STEPS = torch.arange(64.0) + 0.5  # centres of pixels
SQUARE, ELLIPSE, HEART = range(3)


@pytest.fixture(scope="module")
def data():
    return load_data("sprites")


def values(**chosen):
    """Rows of factor values: those that are lists vary together, the others stay; x = y = 16, scale 1."""
    n = max(len(v) for v in chosen.values() if isinstance(v, list))
    row = {"shape": HEART, "scale": 5, "angle": 0, "x": 16, "y": 16} | chosen
    return torch.tensor([v if isinstance(v, list) else [v] * n for v in row.values()]).T


def centroids(x):
    """Of images (n, 1, 64, 64), in pixels: columns and rows, (n,) each."""
    area = x.sum((1, 2, 3))
    return (x.sum((1, 2)) @ STEPS) / area, (x.sum((1, 3)) @ STEPS) / area


def test_every_combination_is_there_once(data):
    row = DATASETS["sprites"]
    parts = [data.factors.train, data.factors.validation, data.factors.test]
    assert data.spec == ImageSpec(1, 64, 64, levels=2)
    assert data.spec.shape == row.shape
    assert tuple(map(len, (data.train, data.validation, data.test))) == tuple(map(len, parts)) == row.sizes
    times = torch.zeros(data.factors.sizes, dtype=torch.int64)
    times.index_put_(torch.cat(parts).unbind(1), torch.tensor(1), accumulate=True)
    assert (times == 1).all()
    assert times.numel() == 737_280


def test_images_are_those_of_their_factors(data):
    generator = torch.Generator().manual_seed(0)
    for name in ("train", "validation", "test"):
        split, own = getattr(data, name), getattr(data.factors, name)
        chosen = torch.randint(len(split), (50,), generator=generator)
        assert torch.equal(split.take(chosen).x, data.factors.draw(own[chosen]))
        assert torch.equal(split.labels, own[:, 0])
    assert data.classes == ("square", "ellipse", "heart")


def test_images_that_are_the_same_lie_in_one_split(data):
    splits = torch.zeros(data.factors.sizes, dtype=torch.int64)  # that have an image of these values
    for own in (data.factors.train, data.factors.validation, data.factors.test):
        shape, scale, angle, x, y = own.T
        here = torch.zeros(data.factors.sizes, dtype=torch.bool)
        here[shape, scale, angle % torch.tensor([10, 20, 40])[shape], x, y] = True
        splits += here
    assert splits.max() == 1
    assert splits.sum() == 6 * (10 + 20 + 40) * 32 * 32


@pytest.mark.parametrize(("shape", "turn"), [(SQUARE, 10), (ELLIPSE, 20), (HEART, 40)])
def test_angles_that_look_the_same_are_those_of_the_symmetry(data, shape, turn):
    for scale in range(6):
        x = data.factors.draw(values(shape=shape, scale=scale, angle=list(range(40))))
        assert len(x.flatten(1).unique(dim=0)) == turn
        assert torch.equal(x[:turn].repeat(40 // turn, 1, 1, 1), x)


def test_held_out_images_are_a_fair_part(data):
    for own in (data.factors.validation, data.factors.test):
        assert own[:, 0].bincount().tolist() == [4000] * 3
        for part in (own, own[:2000]):  # the first ones too: they are what a quick score takes
            for k, size in enumerate(data.factors.sizes):
                expected = len(part) / size
                # 4 images of a square lie together, so that counts spread up to twice as much.
                assert (part[:, k].bincount(minlength=size) - expected).abs().max() < 9 * expected**0.5


@pytest.mark.parametrize("shape", [SQUARE, ELLIPSE, HEART])
def test_position_moves_the_centroid_by_a_pixel_a_step(data, shape):
    steps = list(range(32))
    for factor in ("x", "y"):
        moved = data.factors.draw(values(shape=shape, angle=3, **{factor: steps}))
        columns, rows = centroids(moved)
        along, across = (columns, rows) if factor == "x" else (rows, columns)
        assert (along - (torch.arange(32) + 16.5)).abs().max() < 0.2
        assert across.std() < 1e-4
        assert moved.sum((1, 2, 3)).unique().numel() == 1  # nothing is cut off at the borders


@pytest.mark.parametrize(
    ("shape", "area"),
    [
        (SQUARE, (2 * sprites.HALF_SIDE) ** 2),
        (ELLIPSE, math.pi * math.prod(sprites.SEMI_AXES)),
        (HEART, 3.6610 * sprites.HEART_UNIT**2),  # the area of the curve, by quadrature
    ],
)
def test_scale_changes_the_area(data, shape, area):
    for scale in range(6):
        pixels = data.factors.draw(values(shape=shape, scale=scale, angle=list(range(40)))).sum((1, 2, 3))
        assert pixels.mean() == pytest.approx(area * (0.5 + scale / 10) ** 2, rel=0.03)


@pytest.mark.parametrize("shape", [SQUARE, ELLIPSE, HEART])
def test_ten_steps_of_the_angle_are_a_quarter_turn_counterclockwise(data, shape):
    first = data.factors.draw(values(shape=shape, angle=list(range(40)), x=20, y=7))
    turned = data.factors.draw(values(shape=shape, angle=[(k + 10) % 40 for k in range(40)], x=7, y=31 - 20))
    assert torch.equal(torch.rot90(first, 1, (2, 3)), turned)


def test_a_step_of_the_angle_is_nine_degrees(data):
    x = data.factors.draw(values(shape=ELLIPSE, angle=list(range(20))))[:, 0]
    u, v = STEPS - 32.5, 32.5 - STEPS[:, None]  # to the right and up, from the middle
    covariance = (x * u * v).sum((1, 2))
    angle = 0.5 * torch.atan2(2 * covariance, (x * (u**2 - v**2)).sum((1, 2)))
    error = (angle - torch.arange(20) * math.radians(9) + math.pi / 2) % math.pi - math.pi / 2
    assert error.abs().max() < math.radians(1.5)


def test_a_heart_points_down(data):
    heart = data.factors.draw(values(angle=[0]))[0, 0]
    assert torch.equal(heart, heart.flip(1).roll(1, 1))  # left is right, about column 32
    widths = heart.sum(1)
    top, *_, bottom = widths.nonzero().squeeze(1).tolist()
    assert widths[bottom] <= 3 < widths[top]
    assert widths.argmax() < 32


def test_no_pixels_centre_is_near_an_outline(data, monkeypatch):
    """So that the last bit of a sine, which differs between machines, changes no image."""
    drawings = sprites._drawings()
    for size in (1 + 1e-6, 1 - 1e-6):
        with monkeypatch.context() as patch:
            patch.setattr(sprites, "HALF_SIDE", sprites.HALF_SIDE * size)
            patch.setattr(sprites, "SEMI_AXES", tuple(a * size for a in sprites.SEMI_AXES))
            patch.setattr(sprites, "HEART_UNIT", sprites.HEART_UNIT * size)
            assert np.array_equal(sprites._drawings(), drawings)


def test_half_the_size_is_the_mean_of_four_pixels(data):
    small = load_data("sprites", size=32)
    assert small.spec == ImageSpec(1, 32, 32, levels=5)
    assert torch.equal(small.test[:100].x, avg_pool2d(data.test[:100].x, 2))
    assert small.test[:100].x.unique().tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert torch.equal(small.factors.train, data.factors.train)
    assert small.fingerprint != data.fingerprint
    assert load_data(small.source, **small.options).fingerprint == small.fingerprint


def test_they_are_the_same_sprites_for_ever(data):
    digest = hashlib.sha256()
    for split in (data.train, data.validation, data.test):
        digest.update(split[:1000].x.to(torch.uint8).numpy())
    # The splits are part of what published numbers mean.
    assert digest.hexdigest()[:16] == "07a9f88783886073"


def test_a_batch_is_cheap(data):
    chosen = torch.randint(len(data.train), (64,), generator=torch.Generator().manual_seed(0))
    seconds = []
    for _ in range(50):
        start = time.perf_counter()
        data.train.take(chosen)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) / 64 < 1e-4


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.zeros(3, 4, dtype=torch.int64), r"found torch.int64 of shape \(3, 4\), wanted whole numbers"),
        (torch.zeros(5, dtype=torch.int64), r"of shape \(n, 5\): shape, scale, angle, x, y"),
        (torch.zeros(3, 5), "found torch.float32"),
        (torch.tensor([[0, 6, 0, 0, 0]]), "values: found scale = 6, wanted 0 to 5"),
        (torch.tensor([[0, 0, 0, 0, 0], [0, 0, 0, -1, 0]]), "values: found x = -1, wanted 0 to 31"),
    ],
)
def test_values_that_no_factor_has_are_refused(data, wrong, message):
    with pytest.raises(DataError, match=message) as error:
        data.factors.draw(wrong)
    assert "\n" not in str(error.value)


def test_other_sizes_and_indices_are_refused(data):
    with pytest.raises(OptionError, match="size: found 48, wanted one of 64, 32"):
        load_data("sprites", size=48)
    with pytest.raises(IndexError):
        data.test[12_000]
    assert data.factors.draw(torch.zeros(0, 5, dtype=torch.int64)).shape == (0, 1, 64, 64)
