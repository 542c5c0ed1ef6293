"""Multi-scale PixelRNN: what its second network sees of the small image."""

import pytest
import torch

from bestiary.data.specs import ImageSpec
from bestiary.errors import OptionError
from bestiary.models.autoregressive.multiscale_pixelrnn import MultiscalePixelRNN
from bestiary.randomness import forked_randomness


def build(spec, **settings):
    small = {"layers": 1, "channels": 12, "map_channels": 24, "head_channels": 48}
    with forked_randomness(0):
        return MultiscalePixelRNN(spec, **{**small, **settings}).double()


@pytest.mark.parametrize(("factor", "size"), [(2, (5, 6)), (4, (9, 8))])
def test_the_small_image_is_drawn_first(factor, size):
    model = build(ImageSpec(1, *size, levels=2), factor=factor)
    count = -(-size[0] // factor) * -(-size[1] // factor)
    assert all(i % factor == 0 and j % factor == 0 for i, j in model.order[:count])
    assert sorted(model.order) == [(i, j) for i in range(size[0]) for j in range(size[1])]
    assert model.upsampled(torch.zeros(2, 1, *(-(-n // factor) for n in size)).double()).shape[2:] == size


def test_other_pixels_know_the_small_image_below_them():
    model = build(ImageSpec(1, 6, 6, levels=2))
    x = torch.rand(1, 1, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    seen = torch.autograd.functional.jacobian(lambda x: model.logits(x)[0, 0, 0, 1, 1], x)[0, 0] != 0
    below = torch.zeros(6, 6, dtype=torch.bool)
    below[2, ::2] = seen[2, ::2]
    assert below[2, 2]  # diagonally below (1, 1), and of the small image
    assert not seen[1, 2:].any()  # later in the raster, and not of the small image
    assert not (seen[2:] & ~below[2:])[:, 1::2].any()


def test_the_pixels_of_the_small_image_do_not_see_the_others():
    model = build(ImageSpec(1, 6, 6, levels=2))
    x = torch.rand(1, 1, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    seen = torch.autograd.functional.jacobian(lambda x: model.logits(x)[0, 0, 0, 4, 4], x)[0, 0] != 0
    assert seen[:4:2, ::2].all()
    seen[::2, ::2] = False
    assert not seen.any()


def test_too_few_maps_are_one_line():
    with pytest.raises(OptionError, match="wanted at least one map for each of the image's 3 channels"):
        build(ImageSpec(3, 4, 4), channels=2)
