"""Latent traversals: one number of a code moves, the others stay."""

import pytest
import torch

from bestiary.data.specs import Classes, ImageSpec, PointSpec
from bestiary.errors import BestiaryError, DataError, OptionError
from bestiary.models.base import ClosedForm, Encoder
from bestiary.models.baseline.gaussian_mixture import GaussianMixture
from bestiary.tasks import latent_traversals

SPEC = ImageSpec(2, 3, 4, condition=Classes(5))
Z = 3


class Known(ClosedForm, Encoder):
    """Codes are the first three values; an image holds its code in its corner, and its condition."""

    def __init__(self, spec):
        super().__init__(spec, batch_size=1)

    def fit(self, data, *, generator=None):
        raise NotImplementedError

    def encode(self, x, *, condition=None):
        return x.flatten(1)[:, :Z] * 10 + condition[:, None]

    def decode(self, z, *, condition=None):
        assert not torch.is_grad_enabled()
        image = torch.zeros(len(z), 24)
        image[:, :Z] = z
        image[:, Z] = condition
        return image.view(-1, *self.spec.shape)


def test_one_number_moves_at_a_time():
    x = torch.rand(1, *SPEC.shape, generator=torch.Generator().manual_seed(0))
    label = torch.tensor([4])
    model = Known(SPEC)
    images = latent_traversals(model, x, condition=label, reach=2.0, steps=5)
    assert images.shape == (Z, 5, *SPEC.shape)
    code = model.encode(x, condition=label)[0]
    seen = images.flatten(2)
    for j in range(Z):
        for i, value in enumerate((-2.0, -1.0, 0.0, 1.0, 2.0)):
            expected = code.clone()
            expected[j] = value
            assert torch.equal(seen[j, i, :Z], expected)
    assert (seen[:, :, Z] == 4).all()


def test_values_follow_the_codes_of_examples():
    x = torch.rand(
        300, *SPEC.shape, generator=torch.Generator().manual_seed(0)
    )  # more than are coded at once
    label = torch.tensor([1])
    model = Known(SPEC)
    images = latent_traversals(model, x[:1], condition=label, reference=x, reach=1.5, steps=3)
    codes = model.encode(x, condition=label.expand(300))
    moved = images.flatten(2)[:, :, :Z].diagonal(dim1=0, dim2=2)  # (steps, Z)
    expected = codes.mean(dim=0) + torch.tensor([[-1.5], [0.0], [1.5]]) * codes.std(dim=0)
    assert torch.allclose(moved, expected, atol=1e-5)


def test_mistakes_in_one_line():
    x, label, model = torch.rand(2, *SPEC.shape), torch.tensor([0]), Known(SPEC)
    with pytest.raises(BestiaryError, match="found GaussianMixture, wanted one that has codes"):
        latent_traversals(GaussianMixture(PointSpec(2), components=1), torch.rand(1, 2))
    with pytest.raises(DataError, match="x: found 2 examples, wanted one"):
        latent_traversals(model, x, condition=label)
    with pytest.raises(DataError, match="reference: found 1 examples, wanted at least 2"):
        latent_traversals(model, x[:1], condition=label, reference=x[:1])
    with pytest.raises(OptionError, match="reach: found 0, wanted a number > 0"):
        latent_traversals(model, x[:1], condition=label, reach=0)
    with pytest.raises(OptionError, match="steps: found 1, wanted at least 2"):
        latent_traversals(model, x[:1], condition=label, steps=1)
