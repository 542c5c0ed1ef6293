"""Orders of pixels: each pixel once, each from the pixel beside it where that is promised."""

import itertools

import pytest
import torch

from bestiary.errors import OptionError
from bestiary.networks.orders import (
    ORDERS,
    SYMMETRIES,
    an_order,
    hilbert,
    named_orders,
    observed_first,
    ranks,
    raster,
    shuffled,
)

SIZES = [(1, 1), (1, 7), (6, 1), (2, 3), (5, 4), (4, 5), (7, 7), (9, 4), (8, 8), (28, 28)]
NAMES = [f"{base}{turn and '-' + turn}" for base in ORDERS if base != "random" for turn in SYMMETRIES]


def steps(order):
    """How far each pixel is from the one before it, in rows and in columns."""
    return [(abs(a - c), abs(b - d)) for (a, b), (c, d) in itertools.pairwise(order)]


@pytest.mark.parametrize("name", [*NAMES, "random", "random-7"])
def test_an_order_is_every_pixel_once(name):
    for size in SIZES:
        (order,) = named_orders(name, *size)
        assert sorted(order) == raster(*size)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith(("snake", "spiral"))])
def test_snakes_and_spirals_go_from_pixel_to_neighbour(name):
    for size in SIZES:
        assert all(sum(step) == 1 for step in steps(an_order(name, *size)))


def test_hilbert_curves_go_from_pixel_to_neighbour_with_one_corner_at_most():
    for height in range(1, 17):
        for width in range(1, 17):
            order = hilbert(height, width)
            assert sorted(order) == raster(height, width)
            assert all(max(step) == 1 for step in steps(order))
            corners = sum(step == (1, 1) for step in steps(order))
            longer, shorter = max(height, width), min(height, width)
            assert corners <= (longer % 2 == 1 and shorter % 2 == 0)


def test_a_hilbert_curve_fills_one_quarter_after_the_other():
    order = hilbert(16, 16)
    for size in (4, 16, 64):
        for start in range(0, 256, size):
            rows, columns = zip(*order[start : start + size], strict=True)
            assert (max(rows) - min(rows) + 1) * (max(columns) - min(columns) + 1) == size


def test_small_orders_are_what_they_are_called():
    assert an_order("raster", 2, 2) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert an_order("reverse", 2, 2) == an_order("raster-rc", 2, 2) == [(1, 1), (1, 0), (0, 1), (0, 0)]
    assert an_order("snake", 2, 3) == [(0, 0), (0, 1), (0, 2), (1, 2), (1, 1), (1, 0)]
    assert an_order("snake-tc", 2, 3)[:4] == [(0, 2), (1, 2), (1, 1), (0, 1)]  # at the top right, down first
    assert an_order("spiral", 3, 3)[:4] == [(1, 1), (1, 0), (2, 0), (2, 1)]
    assert ranks(an_order("snake", 2, 3), 2, 3).tolist() == [[0, 1, 2], [5, 4, 3]]


def test_the_eight_snakes_are_the_symmetric_ones_of_one():
    snakes = named_orders("snake-all", 3, 4)
    assert len({tuple(order) for order in snakes}) == 8
    corners = [(row, column) for row in (0, 2) for column in (0, 3)]
    assert sorted(order[0] for order in snakes) == sorted(2 * corners)


def test_a_seed_is_a_random_order():
    assert shuffled(5, 6, 3) == shuffled(5, 6, 3) == an_order("random-3", 5, 6)
    assert an_order("random", 5, 6) == shuffled(5, 6, 0) != shuffled(5, 6, 1)


def test_observed_pixels_come_first_and_all_keep_their_sequence():
    order = ranks(shuffled(4, 5), 4, 5)[..., None].expand(-1, -1, 3)
    observed = torch.rand(4, 5, 3, generator=torch.Generator().manual_seed(1)) < 0.5
    observed[..., 2] = True
    found = observed_first(order, observed)
    for image in range(3):
        expected = [p for p in shuffled(4, 5) if observed[(*p, image)]]
        expected += [p for p in shuffled(4, 5) if not observed[(*p, image)]]
        assert torch.equal(found[..., image], ranks(expected, 4, 5))


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ("snakes", "unknown order 'snakes': did you mean 'snake'"),
        ("snake-x", "unknown order 'snake-x': did you mean 'snake'"),
        ("random-all", "unknown order 'random-all'"),
        ("snake-all", "order: found 'snake-all', which are 8 orders, wanted one, as 'snake'"),
        ([(0, 0), (0, 1)], r"order: found 2 places, wanted each \(row, column\) of 2 × 2 once"),
        ([(0, 0), (0, 1), (1, 0), (1, 0)], "order: found 4 places"),
    ],
)
def test_mistakes_are_one_line(order, message):
    with pytest.raises(OptionError, match=message) as error:
        an_order(order, 2, 2)
    assert "\n" not in str(error.value)
