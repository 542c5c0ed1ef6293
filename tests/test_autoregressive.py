"""What every autoregressive model of images is held to: causality, exact masses, cached sampling, completion.

A model joins by a row of `CASES`. What only one model has is tested in a file of its own.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import pytest
import torch

from bestiary import catalogue
from bestiary.data.specs import Classes, ImageSpec, Vector
from bestiary.errors import DataError, OptionError
from bestiary.models.autoregressive import base
from bestiary.testing.naive_sampling import naive_sample


@dataclass(frozen=True)
class Case:
    """A model small enough that all of its images can be listed, and random enough to be no uniform law.

    Attributes:
        settings: of the constructor.
        scale: factor on all weights, so that the distributions are far from uniform.
        side: smallest side of an image that the model can have; 4 where it halves the image.
        sees_all: whether a sub-pixel sees all earlier ones of a small image; a blind spot makes this false.
        joint: log p(x) as completion of images of which some sub-pixels are observed means it.
    """

    settings: dict = field(default_factory=dict)
    scale: float = 2.0
    side: int = 1
    sees_all: bool = True
    joint: Callable = lambda model, x, seen: model.log_prob(x)


CASES = {
    "pixelrnn-row": Case({"layers": 2, "channels": 12, "head_channels": 48}),
    "pixelrnn-diagonal": Case({"layers": 2, "channels": 12, "head_channels": 48}),
    # Of the small image a pixel sees what the deconvolution brings to it and to those before it.
    "multiscale-pixelrnn": Case(
        {"layers": 2, "channels": 12, "map_channels": 12, "head_channels": 48}, sees_all=False
    ),
    "pixelcnn": Case({"blocks": 3, "channels": 24, "head_channels": 48, "skip": True}),
    "gated-pixelcnn": Case(
        {"layers": 4, "channels": 24, "kernel_size": 3, "first_kernel_size": 3, "head_channels": 48}
    ),
    "pixelcnn++": Case({"filters": 4, "resnets": 1, "mixtures": 3, "dropout": 0.0}, scale=1.5, side=4),
    "order-agnostic": Case(
        {"blocks": 0, "channels": 24},
        joint=lambda model, x, seen: model.log_prob(x, order=model.completion_order(seen[0])),
    ),
}

SPECS = {
    "binary": ImageSpec(1, 4, 8, levels=2),
    "grey": ImageSpec(1, 8, 4, levels=16),
    "colour": ImageSpec(3, 4, 4, levels=8),
    "labelled": ImageSpec(3, 4, 4, levels=4, condition=Classes(4)),
    "vectors": ImageSpec(1, 4, 4, levels=8, condition=Vector(3)),
}


def build(name, spec, seed=0):
    model = catalogue.create(name, spec=spec, seed=seed, **CASES[name].settings).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(CASES[name].scale)
    return model


def conditions(spec, n):
    generator = torch.Generator().manual_seed(5)
    if isinstance(spec.condition, Classes):
        return torch.randint(spec.condition.n, (n,), generator=generator)
    if isinstance(spec.condition, Vector):
        return torch.randn(n, spec.condition.d, generator=generator)
    return None


def images(spec, n, seed=6):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(spec.levels, (n, *spec.shape), generator=generator)
    return x.double() / (spec.levels - 1)


def every_image(spec):
    levels = torch.arange(spec.levels, dtype=torch.float64)
    return torch.cartesian_prod(*[levels] * spec.dimensions).view(-1, *spec.shape) / (spec.levels - 1)


@cache
def listed(name, spec, label=None):
    """The log masses of all images of a small spec; in float32 and many at once, since there may be 2^16."""
    x = every_image(spec).float()
    condition = None if label is None else torch.full((len(x),), label)
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "SCORE_CHUNK", 2048)
        return build(name, spec).float().log_prob(x, condition=condition).double()


def ranks(model):
    """When each sub-pixel is drawn, (C, H, W)."""
    spec = model.spec
    found = torch.zeros(spec.shape, dtype=torch.int64)
    for count, (row, column) in enumerate(model.order):
        found[:, row, column] = count * spec.channels + torch.arange(spec.channels)
    return found


pytestmark = pytest.mark.filterwarnings("error")
every_model = pytest.mark.parametrize("name", CASES)
every_spec = pytest.mark.parametrize("kind", SPECS)


def test_every_autoregressive_model_of_images_is_here():
    family = {n for n, e in catalogue.CATALOGUE.items() if e.family == "autoregressive"}
    assert family - set(CASES) <= {"transformer"}


@every_model
@pytest.mark.parametrize("channels", [1, 3])
def test_a_sub_pixel_sees_earlier_ones_and_no_other(name, channels):
    model = build(name, ImageSpec(channels, 4, 4, levels=2))
    x = torch.rand(1, *model.spec.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    jacobian = torch.autograd.functional.jacobian(lambda x: model.logits(x)[0].sum(0), x)
    seen = jacobian[:, :, :, 0] != 0  # (C, H, W) of the logits, then (C, H, W) of the image
    when = ranks(model)
    earlier = when < when[..., None, None, None]
    assert not (seen & ~earlier).any()
    if CASES[name].sees_all:
        # The sum over two levels of a softmax's logits may cancel; the difference shows the rest.
        other = torch.autograd.functional.jacobian(lambda x: model.logits(x)[0, 0], x)
        assert torch.equal(seen | (other[:, :, :, 0] != 0), earlier)


@every_model
@pytest.mark.parametrize("kind", ["binary", "colour", "labelled"])
def test_masses_of_all_images_sum_to_one(name, kind):
    side = CASES[name].side
    shapes = {
        "binary": ImageSpec(1, max(3, side), max(3, side), levels=2),
        "colour": ImageSpec(3, 2, 1, levels=3),
        "labelled": ImageSpec(3, 1, 2, levels=2, condition=Classes(2)),
    }
    if kind != "binary" and side > 1:
        pytest.skip("too many colour images of this side to list")
    spec = shapes[kind]
    for label in [None] if spec.condition is None else range(2):
        log_mass = listed(name, spec, label)
        assert log_mass.exp().sum().item() == pytest.approx(1, abs=1e-5)
        assert log_mass.std() > 0.1  # not the uniform law, for which any order of pixels sums to one


@every_model
@every_spec
def test_cached_samples_are_the_naive_ones(name, kind):
    spec = SPECS[kind]
    model, condition = build(name, spec), conditions(spec, 6)
    noise = model.uniform(6, *spec.shape, generator=torch.Generator().manual_seed(2))
    naive = naive_sample(model, noise, condition=condition)
    told = []
    cached = model.sample(
        6, condition=condition, generator=torch.Generator().manual_seed(2), progress=told.append
    )
    assert torch.equal(cached, naive)
    assert len(cached.unique()) > min(spec.levels, 4) - 1
    assert told == [(i + 1) / (spec.height * spec.width) for i in range(spec.height * spec.width)]


@every_model
@every_spec
def test_cached_logits_in_float32_are_those_of_the_whole_image(name, kind):
    spec = SPECS[kind]
    model, x, condition = build(name, spec).float(), images(spec, 5).float(), conditions(spec, 5)
    with model.evaluation():
        whole = model.logits(x, condition)
        cache = model.cache(5, condition)
        for (i, j), c in itertools.product(model.order, range(spec.channels)):
            torch.testing.assert_close(cache.logits(i, j, c), whole[:, :, c, i, j], rtol=0, atol=1e-4)
            cache.put(i, j, c, x[:, c, i, j])
    assert whole.std() > 0.1


@every_model
@every_spec
def test_images_can_be_exchanged_in_the_middle_of_drawing(name, kind):
    spec = SPECS[kind]
    model, x = build(name, spec), images(spec, 4)
    condition = conditions(spec, 1)
    condition = None if condition is None else condition.repeat_interleave(4, 0)
    chosen = torch.tensor([2, 2, 0, 1])
    places = list(itertools.product(model.order, range(spec.channels)))
    for cut in (1, len(places) // 2, len(places) // 2 + 1):
        with model.evaluation():
            cache, expected = model.cache(4, condition), model.logits(x[chosen], condition)
            for count, ((i, j), c) in enumerate(places):
                if count == cut:
                    cache.select(chosen)
                logits = cache.logits(i, j, c)
                if count >= cut:
                    torch.testing.assert_close(logits, expected[:, :, c, i, j])
                cache.put(i, j, c, x[:, c, i, j] if count < cut else x[chosen, c, i, j])


@every_model
def test_samples_have_the_likelihood_that_their_entropy_says(name):
    """E[−log p(samples)] is the entropy, here of all images; and the same from the masses themselves."""
    side = CASES[name].side
    spec = ImageSpec(1, max(2, side), max(3, side), levels=2)
    model, log_mass = build(name, spec), listed(name, spec, None)
    entropy = -(log_mass.exp() * log_mass).sum().item()
    with torch.no_grad():
        found = -model.log_prob(model.sample(4000, generator=torch.Generator().manual_seed(0)))
    assert found.mean().item() == pytest.approx(entropy, abs=4 * found.std().item() / math.sqrt(4000))


@every_model
def test_completions_follow_the_exact_conditional_law(name):
    """Of a small binary image whose last drawn pixels are observed, against all its completions listed."""
    side = CASES[name].side
    spec = ImageSpec(1, max(2, side), max(2, side), levels=2)
    model = build(name, spec)
    order = list(model.order)
    missing = order[:2]
    observed = torch.ones(spec.shape, dtype=torch.bool)
    for row, column in missing:
        observed[0, row, column] = False
    truth = model.sample(1, generator=torch.Generator().manual_seed(1))[0]
    everything = truth.repeat(4, 1, 1, 1)
    everything[:, ~observed] = torch.cartesian_prod(*[torch.arange(2).double()] * 2)
    with torch.no_grad():
        log_mass = CASES[name].joint(model, everything, observed)
    exact = log_mass.softmax(0)
    n = 1000 if side == 1 else 250  # a larger image takes longer
    found = model.completion(
        truth[None], observed, n=n, particles=64, generator=torch.Generator().manual_seed(0)
    )
    assert torch.equal(found.images[:, 0][:, observed], truth[observed].expand(n, -1))
    shares = torch.stack(
        [(found.images[:, 0] == image).flatten(1).all(1).double().mean() for image in everything]
    )
    assert shares.sum().item() == pytest.approx(1)
    assert (shares - exact).abs().max().item() < 4 * math.sqrt(0.25 / n) + 0.02
    estimate = found.log_observed.logsumexp(0).item() - math.log(n)
    assert estimate == pytest.approx(log_mass.logsumexp(0).item(), abs=0.02)
    first = model.completion(truth[None], torch.zeros_like(observed), particles=8)
    assert first.effective_sample_size.item() == 1  # nothing observed: one particle is exact
    assert first.log_observed.item() == 0


@every_model
def test_mistakes_in_completions_are_one_line(name):
    spec = SPECS["grey"]
    model, x = build(name, spec), images(spec, 2)
    seen = torch.zeros(spec.shape, dtype=torch.bool)
    for change, error, message in [
        ({"observed": seen.float()}, DataError, "observed: found torch.float32 of shape"),
        ({"observed": seen[:, :1, :3]}, DataError, "wanted bool of the images' shape"),
        ({"n": 0}, OptionError, "n: found 0, wanted a whole number ≥ 1"),
        ({"particles": 0}, OptionError, "particles: found 0"),
        ({"x": x[:, :, :2]}, DataError, "x: found"),
        ({"x": x + 1, "observed": ~seen}, DataError, "x: found observed values outside"),
    ]:
        with pytest.raises(error, match=message):
            model.completion(**{"x": x, "observed": seen, **change})
