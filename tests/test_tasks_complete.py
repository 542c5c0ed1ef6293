"""Completions: masks, what the hidden pixels cost against all images listed, pictures, images from files."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from bestiary import catalogue
from bestiary.data.specs import Classes, ImageSpec, PointSpec
from bestiary.errors import BestiaryError, DataError, OptionError
from bestiary.models.base import Completer, Model
from bestiary.tasks import (
    MASKS,
    complete,
    completion_picture,
    conditional_bits,
    observed_pixels,
    read_images,
)
from bestiary.tasks.completions import MISSING_COLOUR

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


def every_image(spec):
    levels = torch.arange(spec.levels, dtype=torch.float64)
    return torch.cartesian_prod(*[levels] * spec.dimensions).view(-1, *spec.shape) / (spec.levels - 1)


# Masks


def test_masks_hide_what_they_say():
    spec = ImageSpec(3, 6, 5)
    hidden = {mask: ~observed_pixels(mask, spec, 4, generator=seeded())[:, 0] for mask in MASKS}
    assert {mask: value.shape for mask, value in hidden.items()} == dict.fromkeys(MASKS, (4, 6, 5))
    assert hidden["lower"][:, 3:].all()
    assert hidden["right"][:, :, 2:].all()
    assert torch.equal(hidden["upper"], ~hidden["lower"])
    assert torch.equal(hidden["left"], ~hidden["right"])
    assert hidden["centre"].sum().item() == 4 * 3 * 3
    assert hidden["centre"][:, 1:4, 1:4].all()
    assert not torch.equal(hidden["random"][0], hidden["random"][1])
    assert 30 < hidden["random"].sum() < 90


def test_a_mask_from_a_file(tmp_path):
    spec = ImageSpec(1, 3, 4)
    path = tmp_path / "mask.png"
    pixels = np.array([[255, 200, 128, 127], [0, 0, 0, 0], [0, 0, 0, 255]], dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    assert torch.equal(observed_pixels(str(path), spec)[0, 0], torch.from_numpy(pixels < 128))
    cases = {
        "lowr": "unknown mask 'lowr': did you mean 'lower'?",
        str(tmp_path / "none.png"): "mask: found nothing at",
        str(tmp_path / "text.png"): "is no image of a known format",
    }
    (tmp_path / "text.png").write_text("no image")
    for mask, message in cases.items():
        with pytest.raises(OptionError, match=message.replace("?", r"\?")):
            observed_pixels(mask, spec)
    with pytest.raises(
        OptionError, match=r"mask: found 4×3 pixels in '.*', wanted 5×3, the size of the images"
    ):
        observed_pixels(str(path), ImageSpec(1, 3, 5))
    with pytest.raises(OptionError, match="mask: 'upper' hides no pixel"):
        observed_pixels("upper", ImageSpec(1, 1, 5))


# Conditional likelihood and completions


def exact_bits(model, x, observed):
    """By listing all images that agree with what is observed."""
    everything = every_image(model.spec)
    with torch.no_grad():
        log_mass = model.log_prob(everything)
        log_prob = model.log_prob(x)
    found = []
    for image, seen, nats in zip(x, observed.expand(x.shape), log_prob, strict=True):
        agree = (everything == image)[:, seen].all(dim=1)
        found.append((log_mass[agree].logsumexp(0) - nats) / ((~seen).sum() * math.log(2)))
    return torch.stack(found)


@pytest.mark.parametrize("mask", MASKS)
def test_conditional_bits_against_all_images(mask):
    model, x = build(BINARY), images(BINARY, 6)
    observed = observed_pixels(mask, BINARY, 6, generator=seeded(3))
    exact = exact_bits(model, x, observed)
    found = conditional_bits(model, x, observed, n=2, particles=250, generator=seeded())
    ordered = conditional_bits(model, x, observed, ignoring_later=True)
    if mask == "lower":
        assert found.effective_sample_size is None
        torch.testing.assert_close(found.bits_per_dim, exact)
        torch.testing.assert_close(ordered.bits_per_dim, exact)
    else:
        assert ((found.effective_sample_size > 1) & (found.effective_sample_size <= 250)).all()
        torch.testing.assert_close(found.bits_per_dim, exact, rtol=0, atol=0.02)
        assert (ordered.bits_per_dim - exact).abs().max() > 0.05


def test_few_particles_flatter_the_model():
    model, x = build(BINARY, scale=4), images(BINARY, 1)
    observed = observed_pixels("upper", BINARY)
    exact = exact_bits(model, x, observed).item()

    def mean(particles):
        many = x.expand(300, -1, -1, -1)
        return conditional_bits(model, many, observed, particles=particles, generator=seeded()).bits_per_dim

    one, ten = mean(1), mean(10)
    assert one.mean() < ten.mean() < exact
    assert one.mean() + 4 * one.std() / math.sqrt(300) < exact


@pytest.mark.parametrize("particles", [2, 5])
def test_what_the_truth_costs_as_a_completion_is_how_often_it_is_drawn(particles):
    model, x = build(BINARY, scale=4), images(BINARY, 1)
    observed = observed_pixels("upper", BINARY)
    everything = every_image(BINARY)
    agree = everything[(everything == x)[:, observed[0]].all(dim=1)]
    drawn = complete(model, x, observed, n=40_000, particles=particles, generator=seeded()).images[:, 0]
    often = torch.stack([(drawn == image).flatten(1).all(dim=1).double().mean() for image in agree])
    bits = conditional_bits(
        model,
        agree,
        observed.expand(len(agree), -1, -1, -1),
        n=3000,
        particles=particles,
        of_completions=True,
        generator=seeded(1),
    ).bits_per_dim
    cost = 2 ** (-3 * bits)  # of 3 missing pixels
    exact = 2 ** (-3 * exact_bits(model, agree, observed))
    torch.testing.assert_close(often, cost, rtol=0, atol=0.02)
    assert (often - exact).abs().max() > 0.1


def test_no_particles_where_the_order_can_be_chosen():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = catalogue.entry("order-agnostic").load().tiny(BINARY).double().eval()
    x, observed = images(BINARY, 4), observed_pixels("upper", BINARY)
    found = conditional_bits(model, x, observed)
    nats = -math.log(2) * 3 * found.bits_per_dim  # of 3 missing pixels
    with torch.no_grad():
        torch.testing.assert_close(nats, model.log_prob_missing(x, observed))
    assert found.effective_sample_size is None
    assert torch.equal(complete(model, x, observed).truth.bits_per_dim, found.bits_per_dim)


def test_nothing_missing_is_one_line():
    model, x = build(BINARY), images(BINARY, 2)
    for ignoring in (False, True):
        with pytest.raises(DataError, match="observed: found an image of which nothing is missing"):
            conditional_bits(model, x, torch.ones_like(x, dtype=torch.bool), ignoring_later=ignoring)


@pytest.mark.parametrize("mask", ["lower", "upper"])
def test_completions_come_with_the_likelihood_of_the_truth(mask):
    spec = ImageSpec(1, 3, 3, levels=2, condition=Classes(3))
    model, x, labels = build(spec), images(spec, 5), torch.tensor([0, 1, 2, 0, 1])
    observed = observed_pixels(mask, spec)
    found = complete(model, x, observed, n=3, condition=labels, particles=50, generator=seeded())
    again = conditional_bits(model, x, observed, n=3, condition=labels, particles=50, generator=seeded())
    assert found.images.shape == (3, 5, 1, 3, 3)
    seen = observed.expand(x.shape)
    assert all(torch.equal(part[seen], x[seen]) for part in found.images)
    torch.testing.assert_close(found.truth.bits_per_dim, again.bits_per_dim)


class Grey(Model, Completer):
    """Completes with one half everywhere."""

    def __new__(cls, *_):
        return Model.__new__(cls)

    def __init__(self, spec):
        super().__init__(spec, batch_size=1)

    def players(self):
        return {}

    def moves(self, clock):
        return []

    def complete(self, x, observed, *, n=1, condition=None, generator=None):
        return torch.where(observed, x, 0.5).expand(n, *x.shape)


def test_any_completer_completes():
    x, observed = images(BINARY, 2), observed_pixels("upper", BINARY, 2)
    found = complete(Grey(BINARY), x, observed, n=2)
    assert found.truth is None
    assert found.images.shape == (2, 2, 1, 3, 3)
    with pytest.raises(OptionError, match="particles: Grey completes without any"):
        complete(Grey(BINARY), x, observed, particles=4)
    with pytest.raises(BestiaryError, match="model: found PPCA, wanted one that fills in missing pixels"):
        complete(catalogue.create("ppca", spec=PointSpec(3), latent_dim=1), x, observed)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_picture_has_a_row_for_each_image(channels):
    spec = ImageSpec(channels, 56, 56)
    x, observed = images(spec, 2), observed_pixels("lower", spec, 2)
    completions = torch.stack([torch.zeros_like(x), torch.ones_like(x)])
    picture = np.asarray(completion_picture(x, observed, completions))
    assert picture.shape == (2 * 58 + 2, 4 * 58 + 2, 3)
    first, masked, black, white = (picture[60:116, 2 + 58 * i : 58 + 58 * i] for i in range(4))  # second row
    assert np.array_equal(first, (x[1] * 255).round().byte().permute(1, 2, 0).expand(-1, -1, 3).numpy())
    assert np.array_equal(masked[:28], first[:28])
    assert (masked[28:] == np.round(255 * np.array(MISSING_COLOUR))).all()
    assert not black.any()
    assert (white == 255).all()


# Images from files


def test_images_are_read_as_the_model_takes_them(tmp_path):
    grey = np.arange(48, dtype=np.uint8).reshape(2, 4, 6) * 5
    np.save(tmp_path / "grey.npy", grey)
    spec = ImageSpec(1, 4, 6, levels=4)
    x = read_images(str(tmp_path / "grey.npy"), spec, 5)
    assert torch.equal(x[:, 0], torch.from_numpy(np.rint(grey / 255 * 3) / 3).float())
    assert read_images(str(tmp_path / "grey.npy"), ImageSpec(3, 4, 6), 1).shape == (1, 3, 4, 6)
    colour = np.zeros((1, 4, 6, 3), dtype=np.uint8)
    colour[..., 1] = 255
    np.savez(tmp_path / "green.npz", images=colour)
    green = read_images(str(tmp_path / "green.npz"), ImageSpec(1, 4, 6), 1)
    torch.testing.assert_close(green, torch.full((1, 1, 4, 6), round(0.587 * 255) / 255))
    (tmp_path / "photos").mkdir()
    for i in range(3):
        Image.fromarray(np.full((20, 30), 100 * i, dtype=np.uint8)).save(tmp_path / "photos" / f"{i}.png")
    assert read_images(str(tmp_path / "photos"), ImageSpec(1, 8, 8), 2).shape == (2, 1, 8, 8)
    with pytest.raises(DataError, match=r"data: found images of 30×20 in '.*', wanted 6×4"):
        read_images(str(tmp_path / "photos"), ImageSpec(1, 4, 6), 2)
    np.save(tmp_path / "features.npy", np.zeros((3, 5)))
    with pytest.raises(DataError, match="data: found features in"):
        read_images(str(tmp_path / "features.npy"), spec, 2)
