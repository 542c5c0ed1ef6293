"""Convex polygons: the data, and precision and recall against their known manifold."""

import math
import re

import numpy as np
import pytest
import torch
from matplotlib.path import Path
from scipy.ndimage import convolve
from torch.nn import functional as F

from bestiary.data import ImageSpec, load_data
from bestiary.data.polygons import RADIUS, area_range, corners, draw
from bestiary.errors import DataError, OptionError
from bestiary.metrics import polygon_distance, precision_recall_f1
from bestiary.metrics.polygons import _Portions, render


def numbers(n, vertices=3, seed=0):
    return np.random.default_rng(seed).random((n, vertices + 1))


def polygons(n, vertices=3, seed=0):
    """Images as the data have them, float (n, 1, 28, 28), and their corners."""
    where = corners(numbers(n, vertices, seed), faithful=False)
    return torch.from_numpy(draw(where)).float() / 64, torch.from_numpy(where)


def published(u, *, faithful=True):
    """One image as the published procedure makes it, by matplotlib's point test and scipy's convolution."""
    part = 360 / (len(u) - 1)
    angle = np.radians(part * np.arange(len(u) - 1) + 10 + u[:-1] * (part - 10))
    unit = (np.column_stack([np.cos(angle), np.sin(angle)]) + 1) / 2
    turn = np.radians(u[-1] * 2 * np.pi) if faithful else u[-1] * 2 * np.pi
    cosine, sine = np.cos(turn), np.sin(turn)
    pixels = unit @ np.array([[cosine, -sine], [sine, cosine]]) * 28 * 0.75
    pixels += 14 - pixels.mean(axis=0)
    points = np.mgrid[:224, :224].reshape(2, -1).T
    outside = ~Path(8 * pixels).contains_points(points).reshape(224, 224)
    box = convolve(outside.astype(float), np.ones((8, 8)), mode="constant", cval=1.0)
    return box[::8, ::8] / 64


@pytest.fixture(scope="module")
def data():
    return load_data("triangles")


class TestData:
    def test_the_first_images_are_the_published_ones_bit_for_bit(self, data):
        numbers = np.random.RandomState(0)
        u = numbers.random_sample((80_000, 4))
        order = numbers.permutation(80_000)
        for split, first in ((data.train, 0), (data.test, 60_000), (data.validation, 70_000)):
            for i in (0, 1, 9_999):
                assert np.array_equal(split[[i]].x[0, 0].numpy(), published(u[order[first + i]]))

    @pytest.mark.parametrize("vertices", [3, 4, 7])
    @pytest.mark.parametrize("faithful", [True, False])
    def test_images_are_those_of_the_published_procedure(self, vertices, faithful):
        u = numbers(20, vertices)
        images = draw(corners(u, faithful=faithful))
        for row, image in zip(u, images, strict=True):
            assert np.array_equal(image[0], 64 * published(row, faithful=faithful))

    def test_shape_splits_and_grey_levels(self, data):
        assert data.spec == ImageSpec(1, 28, 28, levels=65)
        assert [len(s) for s in (data.train, data.validation, data.test)] == [60_000, 10_000, 10_000]
        levels = torch.bincount((64 * data.test[:].x).round().long().flatten(), minlength=65)
        assert (levels > 0).all()
        assert levels[[0, 64]].sum() > 0.9 * levels.sum()

    def test_mean_deviation_and_area_have_their_closed_forms(self, data):
        """E of the area is ½ R² Σ sin 120° (E cos of a difference of two angles), uniform on 110°."""
        x = data.test[:].x.double()
        a = math.radians(110)
        expected = 1.5 * RADIUS**2 * math.sin(2 * math.pi / 3) * (math.sin(a / 2) / (a / 2)) ** 2
        area = (1 - x).sum(dim=(1, 2, 3))
        assert area.mean().item() == pytest.approx(expected, abs=3 * area.std().item() / 100)
        smallest, largest = area_range(3)
        assert smallest - 5 < area.min() < smallest + 10
        assert largest - 1 < area.max() < largest + 1
        # Pixels are nearly black or white, so their variance is little below m(1 − m).
        m = 1 - expected / 784
        assert x.mean().item() == pytest.approx(m, abs=1e-3)
        assert 0.9 * m * (1 - m) < x.var().item() < m * (1 - m)

    def test_the_areas_are_those_of_the_law(self, data):
        """Against polygons drawn by another way: Kolmogorov–Smirnov at n = 10,000."""
        area = np.sort((1 - data.test[:].x.double()).sum(dim=(1, 2, 3)).numpy())
        u = np.random.default_rng(1).random((10_000, 3))
        gaps = np.diff(np.radians(10 + 120 * np.arange(3) + 110 * u), axis=1)
        exact = np.sort(RADIUS**2 / 2 * (np.sin(gaps).sum(axis=1) + np.sin(-gaps.sum(axis=1))))
        at = np.concatenate([area, exact])
        distance = np.abs(np.searchsorted(area, at) - np.searchsorted(exact, at)).max() / 10_000
        assert distance < 1.95 * math.sqrt(2 / 10_000)  # p = 0.001

    def test_the_corrected_mode_differs_in_rotation_only(self):
        u = numbers(50)
        sides = []
        for faithful in (True, False):
            where = corners(u, faithful=faithful)
            assert np.allclose(where.mean(axis=1), 14)
            sides.append(np.linalg.norm(where - np.roll(where, 1, axis=1), axis=2))
        assert np.allclose(*sides)
        still = corners(u * [1, 1, 1, 0], faithful=True)
        turned = [corners(u, faithful=f)[:, 0] - 14 for f in (True, False)]
        angles = [
            np.degrees(np.arctan2(*(t.T))) - np.degrees(np.arctan2(*(still[:, 0] - 14).T)) for t in turned
        ]
        assert np.allclose(angles[0] % 360, np.degrees(np.radians(u[:, 3] * 2 * np.pi)))
        assert np.allclose(angles[1] % 360, 360 * u[:, 3])

    def test_the_same_options_give_the_same_data(self, monkeypatch):
        for name, size in (("TRAIN", 60), ("TEST", 20), ("HELD_OUT", 20)):
            monkeypatch.setattr(f"bestiary.data.polygons.{name}", size)
        first, again = load_data("triangles"), load_data("triangles")
        assert torch.equal(again.validation[:].x, first.validation[:].x)
        assert again.fingerprint == first.fingerprint
        for other in ({"faithful": False}, {"vertices": 4}):
            made = load_data("triangles", **other)
            assert made.fingerprint != first.fingerprint
            assert not torch.equal(made.train[:].x, first.train[:].x)


class TestDistance:
    def test_rendered_polygons_are_the_images_but_for_their_grain(self):
        images, where = polygons(50)
        assert (render(where) - images).square().sum(dim=(1, 2, 3)).max() < 0.05

    def test_derivatives_are_those_of_the_image(self):
        where = polygons(3, vertices=4)[1]
        exact = torch.autograd.functional.jacobian(lambda p: 1 - render(p).sum(dim=0).flatten(), where)
        found = _Portions(where).jacobian()
        assert torch.allclose(found, exact.permute(1, 2, 3, 0).flatten(1, 2), atol=1e-12)
        assert found.abs().amax(dim=2).min() > 0.1
        shift = torch.zeros_like(where)
        shift[:, 1, 0] = 1e-5
        slope = ((render(where - shift) - render(where + shift)) / 2e-5).flatten(1)
        assert torch.allclose(slope, found[:, 2], atol=1e-4)

    @pytest.mark.parametrize("vertices", [3, 4])
    def test_real_polygons_lie_on_the_manifold(self, vertices):
        distance = polygon_distance(polygons(24, vertices, seed=1)[0], vertices=vertices)
        assert distance.max() < 0.1

    def test_noise_and_blank_images_do_not(self):
        noise = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
        assert polygon_distance(noise).min() > 100
        blank = torch.stack([torch.ones(1, 28, 28), torch.zeros(1, 28, 28)])
        assert polygon_distance(blank).tolist() == [math.inf, math.inf]

    def test_moved_and_stretched_triangles_are_triangles(self):
        where = polygons(8)[1]
        moved = torch.from_numpy(draw((where * 0.8 + torch.tensor([4.0, 1.0])).numpy())).double() / 64
        assert polygon_distance(moved).max() < 0.1

    def test_a_distance_that_is_known(self):
        """Black pixels far from a triangle cannot be part of one: n of them are at squared distance n."""
        images = polygons(4)[0]
        images[1, 0, 0, 0] = 0
        images[2, 0, 0, ::27] = 0
        distance = polygon_distance(images)
        assert distance[0] < 0.1
        assert distance[1].item() == pytest.approx(1, abs=0.1)
        assert distance[2].item() == pytest.approx(2, abs=0.1)

    def test_distance_grows_with_blur(self):
        images = polygons(8)[0]
        widths = [F.avg_pool2d(F.pad(images, [w] * 4, value=1), 2 * w + 1, 1) for w in (0, 1, 2)]
        sharp, blurred, more = (polygon_distance(x).mean() for x in widths)
        assert sharp < 0.75 < blurred < more

    @pytest.mark.parametrize(
        ("images", "message"),
        [
            (torch.zeros(2, 784), "images: found shape (2, 784), wanted images (n, 1, 28, 28)"),
            (
                torch.full((2, 1, 28, 28), 255.0),
                "images: found values from 255 to 255, wanted floats in [0, 1]",
            ),
            (torch.full((2, 1, 28, 28), math.nan), "images: found values from nan to nan"),
            (torch.zeros(2, 1, 28, 28, dtype=torch.uint8), "images: found values of type torch.uint8"),
            (torch.zeros(0, 1, 28, 28), "images: found shape (0, 1, 28, 28)"),
        ],
    )
    def test_other_images_are_refused(self, images, message):
        with pytest.raises(DataError, match=re.escape(message)):
            polygon_distance(images)


def decoder(first=1.0):
    """A perfect generator of triangles from codes in [−1, 1]³, or one that lacks some: the first corner
    keeps to a share of its part of the circle."""

    def decode(z):
        u = (z + 1) / 2 * torch.tensor([first, 1, 1])
        angle = math.radians(10) + 2 * math.pi / 3 * torch.arange(3) + u * math.radians(110)
        x = RADIUS * torch.stack([angle.cos(), angle.sin()], dim=2)
        return render(x + 14 - x.mean(dim=1, keepdim=True))

    return decode


class TestPrecisionRecall:
    latents = 2 * torch.rand(48, 3, generator=torch.Generator().manual_seed(1)) - 1
    # Without rotation, the first corner once in the first .45 and once in the last .4 of its part.
    u = numbers(16, seed=2) * np.array([[0.45, 1, 1, 0]] * 8 + [[-0.4, 1, 1, 0]] * 8) % 1
    real = torch.from_numpy(draw(corners(u, faithful=True))).float() / 64

    def test_a_perfect_generator(self):
        found = precision_recall_f1(real=self.real, latents=self.latents, decode=decoder(), steps=40)
        assert (found.precision, found.recall, found.f1) == (1, 1, 1)
        assert (found.n_real, found.n_fake) == (16, 48)
        assert found.protocol == (
            "polygon-precision-recall[pixels, vertices=3, delta=0.75, n_real=16, n_fake=48]"
        )

    def test_a_generator_that_lacks_half_of_them_is_precise(self):
        found = precision_recall_f1(real=self.real, latents=self.latents, decode=decoder(0.5), steps=40)
        assert (found.precision, found.recall) == (1, 0.5)
        assert found.f1 == pytest.approx(2 / 3)
        assert found.recall_error == pytest.approx(math.sqrt(0.25 / 16))
        assert found.f1_error == pytest.approx(2 / 1.5**2 * found.recall_error)

    def test_a_generator_that_spoils_half_of_them_is_not(self):
        perfect = decoder()

        def decode(z):
            """A black square appears in a corner where the first coordinate is above its median."""
            images = perfect(z)
            spot = F.pad(torch.ones(1, 1, 3, 3), (0, 25, 0, 25))
            return images * (1 - spot * (z[:, :1, None, None] > self.latents[:, 0].median()))

        found = precision_recall_f1(real=self.real, latents=self.latents, decode=decode, steps=40)
        assert found.precision == 0.5
        assert found.recall >= 0.5

    def test_noise_is_neither(self):
        noise = torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(3))

        def decode(z):
            return noise + 0 * z.sum(dim=1)[:, None, None, None]

        found = precision_recall_f1(real=self.real, latents=self.latents, decode=decode, steps=2)
        assert (found.precision, found.recall, found.f1, found.f1_error) == (0, 0, 0, 0)

    def test_codes_that_the_prior_does_not_draw_do_not_count(self):
        """Two in three of the triangles lie beyond the range of these codes."""
        narrow = self.latents / 8
        found = precision_recall_f1(real=self.real, latents=narrow, decode=decoder(), steps=40)
        assert found.recall < 0.5

    def test_mistakes(self):
        with pytest.raises(OptionError, match="found -1, 4 and 200, wanted numbers above zero"):
            precision_recall_f1(real=self.real, latents=self.latents, decode=decoder(), delta=-1)
        with pytest.raises(OptionError, match="decode: found images without a gradient"):
            precision_recall_f1(real=self.real, latents=self.latents, decode=torch.no_grad()(decoder()))
        with pytest.raises(DataError, match="latents: found 3 codes, wanted at least 4"):
            precision_recall_f1(real=self.real, latents=self.latents[:3], decode=decoder())
        with pytest.raises(DataError, match=re.escape("decode: found shape (48, 3)")):
            precision_recall_f1(real=self.real, latents=self.latents, decode=lambda z: z)
