"""What only the order-agnostic model has: masks of its own for each location, orders, exact completion.

What it shares with all autoregressive models of images is in test_autoregressive.py.
"""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from scipy.stats import chisquare

from bestiary.data.specs import Classes, ImageSpec
from bestiary.data.splits import Batch
from bestiary.errors import DataError, OptionError
from bestiary.models.autoregressive.order_agnostic import OrderAgnostic
from bestiary.models.base import Clock, Step
from bestiary.networks.locally_masked import LocallyMaskedConv2d, LocallyMaskedStack, neighbours
from bestiary.networks.masked import channel_groups
from bestiary.networks.orders import an_order, named_orders, ranks, shuffled
from bestiary.testing.naive_sampling import naive_sample

pytestmark = pytest.mark.filterwarnings("error")


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def build(spec, *, scale=2.0, **settings):
    """A random model whose weights are large enough for its distributions to be far from uniform."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = OrderAgnostic(spec, **{"blocks": 0, "channels": 16, **settings}).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    return model


def images(spec, n, seed=6):
    x = torch.randint(spec.levels, (n, *spec.shape), generator=seeded(seed))
    return x.double() / (spec.levels - 1)


def every_image(spec):
    levels = torch.arange(spec.levels, dtype=torch.float64)
    return torch.cartesian_prod(*[levels] * spec.dimensions).view(-1, *spec.shape) / (spec.levels - 1)


# Masks


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("kind", ["A", "B"])
@pytest.mark.parametrize("own", [False, True])
def test_a_convolution_has_the_mask_of_each_location(dilation, kind, own):
    """Against every tap of every location of every image by itself; orders shared or of each image's own."""
    height, width, batch = 4, 5, 3
    orders = [shuffled(height, width, seed) for seed in range(batch if own else 1)]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        inward, outward = channel_groups(5, 2), channel_groups(4, 2)
        layer = LocallyMaskedConv2d(inward, outward, kind=kind, dilation=dilation).double()
    x = torch.randn(batch, 5, height, width, dtype=torch.float64, generator=seeded(2))
    kernel, expected = layer.kernel.weight, layer.bias.view(1, -1, 1, 1).repeat(batch, 1, height, width)
    for image, (i, j) in itertools.product(range(batch), itertools.product(range(height), range(width))):
        order = orders[image if own else 0]
        for r, c in itertools.product((-1, 0, 1), repeat=2):
            place = i + dilation * r, j + dilation * c
            tap = kernel[:, :, r + 1, c + 1]
            if (r, c) == (0, 0):
                open_ = inward[None] < outward[:, None] if kind == "A" else inward[None] <= outward[:, None]
                tap = tap * open_
            elif place not in order or order.index(place) > order.index((i, j)):
                continue
            expected[image, :, i, j] += tap @ x[image, :, *place]
    maps = x.permute(2, 3, 0, 1).reshape(height * width * len(orders), -1, 5)
    grid = torch.stack([ranks(order, height, width) for order in orders], dim=2)
    found = layer(maps, neighbours(grid, dilation)).view(height, width, batch, 4).permute(2, 3, 0, 1)
    torch.testing.assert_close(found, expected)
    weights = tuple(layer.parameters())
    gradients = (
        torch.autograd.grad((found**2).sum(), weights),
        torch.autograd.grad((expected**2).sum(), weights),
    )
    torch.testing.assert_close(*gradients)


def test_the_gradients_of_a_convolution_are_those_of_differences():
    layer = LocallyMaskedConv2d(torch.zeros(2).long(), torch.zeros(3).long(), kind="B").double()
    near = neighbours(ranks(shuffled(3, 3), 3, 3)[..., None], 1)
    x = torch.randn(9, 2, 2, dtype=torch.float64, generator=seeded(0), requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: layer(x, near), x)


def test_in_raster_order_it_is_a_masked_convolution_of_torch():
    layer = LocallyMaskedConv2d(torch.zeros(2).long(), torch.zeros(3).long(), kind="A").double()
    x = torch.randn(2, 2, 4, 5, dtype=torch.float64, generator=seeded(0))
    near = neighbours(ranks(an_order("raster", 4, 5), 4, 5)[..., None], 1)
    found = layer(x.permute(2, 3, 0, 1).flatten(0, 1), near).view(4, 5, 2, 3).permute(2, 3, 0, 1)
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 0, 0]])
    torch.testing.assert_close(found, F.conv2d(x, layer.kernel.weight * mask, layer.bias, padding=1))


def test_the_stack_has_the_paper_s_layers():
    stack = LocallyMaskedStack(3, 256, blocks=5, channels=6)
    assert len(stack.convolutions()) == 69
    assert [len(stack.layers), sum(layer.dilation == 2 for layer in stack.layers)] == [36, 4]
    # The way down takes what the way up left: 0 … 16, the last first.
    assert [skip for skip in stack.skips if skip is not None] == list(range(16, -1, -1))


# What a sub-pixel sees


@pytest.mark.parametrize("name", ["snake-trc", "spiral", "hilbert-t", "random-1", "random-2", "raster"])
def test_a_pixel_sees_what_is_earlier_and_never_what_is_later(name):
    spec = ImageSpec(1, 4, 4, levels=2)
    model, order = build(spec, blocks=1), an_order(name, 4, 4)
    x = torch.rand(1, *spec.shape, dtype=torch.float64, generator=seeded(0))
    jacobian = torch.autograd.functional.jacobian(
        lambda x: model.logits(x, order=order)[0, 0, 0], x, vectorize=True
    )[:, :, 0, 0]  # (H, W) of the logits, then (H, W) of the image
    must = {}
    for i, j in order:  # what is seen through neighbours at distance 1
        near = [p for p in must if max(abs(p[0] - i), abs(p[1] - j)) == 1]
        must[i, j] = {seen for p in near for seen in (p, *must[p])}
    for count, place in enumerate(order):
        seen = {(i, j) for i, j in order if jacobian[(*place, i, j)] != 0}
        assert must[place] <= seen <= set(order[:count])
        if not name.startswith(("random", "raster")):  # each pixel touches the one before: no blind spot
            assert seen == set(order[:count])


@pytest.mark.parametrize("order", ["random-1", "random-2", "spiral", "snake-tr"])
def test_masses_of_all_images_sum_to_one_in_any_order(order):
    spec = ImageSpec(1, 3, 3, levels=2)
    model, x = build(spec), every_image(spec)
    with torch.no_grad():
        log_mass = model.log_prob(x, order=order)
        assert not torch.allclose(log_mass, model.log_prob(x))  # each order is a law of its own
    assert log_mass.exp().sum().item() == pytest.approx(1, abs=1e-9)
    assert log_mass.std() > 0.1


def test_the_mixture_of_orders_is_the_mean_of_their_masses():
    spec = ImageSpec(1, 2, 3, levels=2)
    model, x = build(spec, orders=["snake", "random-4", "hilbert"]), every_image(spec)
    with torch.no_grad():
        masses = [model.log_prob(x, order=o).exp() for o in ("snake", "random-4", "hilbert")]
        torch.testing.assert_close(model.mixture_log_prob(x).exp(), sum(masses) / 3)


# Orders


@pytest.mark.parametrize("spec", [ImageSpec(1, 4, 5, levels=4), ImageSpec(3, 3, 3, 4, condition=Classes(2))])
def test_an_order_is_chosen_when_the_model_is_used(spec):
    model = build(spec)
    order = shuffled(spec.height, spec.width, 5)
    labels = None if spec.condition is None else torch.tensor([0, 1, 1, 0])
    x, noise = images(spec, 4), model.uniform(4, *spec.shape, generator=seeded(3))
    other = model.in_order(order)
    assert other.order == order
    assert model.order == an_order("snake", spec.height, spec.width)
    with torch.no_grad():
        assert torch.equal(other.logits(x, labels), model.logits(x, labels, order=order))
        assert torch.equal(
            other.log_prob(x, condition=labels), model.log_prob(x, condition=labels, order="random-5")
        )
    drawn = model.sample(4, condition=labels, generator=seeded(3), order=order, temperature=0.8)
    assert torch.equal(drawn, naive_sample(other, noise, condition=labels, temperature=0.8))
    assert not torch.equal(drawn, model.sample(4, condition=labels, generator=seeded(3), temperature=0.8))


def step(x, seed=0):
    return Step(len(x), Clock(), seeded(seed), {}, Batch(x, None))


def test_an_update_takes_one_of_the_orders():
    spec = ImageSpec(1, 3, 4, levels=2)
    model, x = build(spec, orders=["raster", "hilbert"]), images(spec, 4)
    with torch.no_grad():
        expected = [-model.log_prob(x, order=o).mean().item() for o in ("raster", "hilbert")]
        found = [model.cost(step(x, seed))["loss"].item() for seed in range(20)]
    nearest = [min(range(2), key=lambda i: abs(cost - expected[i])) for cost in found]
    assert {0, 1} == set(nearest)
    assert all(cost == pytest.approx(expected[i]) for cost, i in zip(found, nearest, strict=True))


def test_practice_for_completion_puts_any_part_of_the_image_last():
    spec = ImageSpec(1, 4, 4, levels=2)
    model = build(spec, orders=["raster"], hidden=0.5)
    draws = [model._draw_ranks(seeded(seed))[..., 0].flatten() for seed in range(200)]
    assert all(torch.equal(draw.sort().values, torch.arange(16)) for draw in draws)
    plain = sum(torch.equal(draw, torch.arange(16)) for draw in draws)
    assert 80 < plain < 160  # half of them, and those that hide nothing or the end
    assert all((draw.diff() > 0).sum() >= 1 for draw in draws)
    falls = [set((draw.argsort().diff() < 0).nonzero().flatten().tolist()) for draw in draws]
    assert all(len(fall) <= 1 for fall in falls)  # two parts, each in the sequence of raster
    firsts = torch.stack([draw.argmin() for draw in draws])
    lasts = torch.stack([draw.argmax() for draw in draws])
    assert len(firsts.unique()) > 4 < len(lasts.unique())


def test_one_network_learns_one_law_in_every_order():
    """Of images that are all black or all white: each order ends near the entropy of log 2 nats."""
    x = torch.tensor([0.0, 1.0] * 4).double().view(8, 1, 1, 1).expand(-1, 1, 4, 4)
    model = build(ImageSpec(1, 4, 4, levels=2), scale=1.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for seed in range(40):
        optimizer.zero_grad()
        model.cost(step(x, seed))["loss"].backward()
        optimizer.step()
    with torch.no_grad():
        for order in named_orders("snake-all", 4, 4):
            assert -model.log_prob(x, order=order).mean().item() == pytest.approx(math.log(2), abs=0.05)


def test_bfloat16_autocast_is_near():
    spec = ImageSpec(1, 6, 6, levels=4)
    model, x = build(spec, scale=1.0).float(), images(spec, 4).float()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model.cost(step(x))["loss"]
    exact = model.cost(step(x))["loss"]
    assert rounded.item() == pytest.approx(exact.item(), rel=0.02)
    near, far = (torch.autograd.grad(loss, tuple(model.parameters())) for loss in (rounded, exact))
    a, b = (torch.cat([g.flatten() for g in gradients]) for gradients in (near, far))
    assert F.cosine_similarity(a, b, dim=0) > 0.99


# Completion


def test_completions_are_exact_for_any_mask():
    """Of 3 × 3 images with a mask each, against all images listed; no particles."""
    spec = ImageSpec(1, 3, 3, levels=2)
    model, everything, n = build(spec), every_image(spec), 800
    observed = torch.rand(4, 1, 3, 3, generator=seeded(8)) < torch.tensor([0.2, 0.4, 0.6, 0.8]).view(
        4, 1, 1, 1
    )
    truth = model.sample(4, generator=seeded(9))
    hidden = torch.where(observed, truth, math.nan)
    found = model.completion(hidden, observed, n=n, generator=seeded(10))
    missing = model.log_prob_missing(truth, observed).detach()
    assert (found.effective_sample_size == 1).all()
    for image, (seen, true) in enumerate(zip(observed, truth, strict=True)):
        with torch.no_grad():
            log_mass = model.log_prob(everything, order=model.completion_order(seen[0]))
        agree = (everything == true)[:, seen].all(dim=1)
        log_observed = log_mass[agree].logsumexp(0).item()
        assert found.log_observed[:, image].tolist() == pytest.approx([log_observed] * n)
        alike = (everything == true).flatten(1).all(1)
        assert missing[image].item() == pytest.approx(log_mass[alike].item() - log_observed)
        exact = log_mass[agree].softmax(0)
        drawn = found.images[:, image]
        shares = torch.stack([(drawn == x).flatten(1).all(1).double().mean() for x in everything[agree]])
        assert shares.sum().item() == pytest.approx(1)
        likely = (n * exact >= 5).sum() - 1  # all unlikely images count as one with the least likely other
        pool = exact.argsort(descending=True).argsort().clamp(max=likely)
        counts = [n * torch.zeros_like(exact).index_add(0, pool, s)[: likely + 1] for s in (shares, exact)]
        assert chisquare(*counts).pvalue > 1e-3


@pytest.mark.parametrize("spec", [ImageSpec(3, 3, 4, levels=4), ImageSpec(1, 4, 3, 4, condition=Classes(2))])
def test_what_is_missing_and_what_is_observed_make_the_whole(spec):
    model, x = build(spec), images(spec, 5)
    labels = None if spec.condition is None else torch.tensor([0, 1, 1, 0, 1])
    observed = (torch.rand(5, 1, *spec.shape[1:], generator=seeded(8)) < 0.5).expand(x.shape)
    found = model.completion(x, observed, n=2, condition=labels, generator=seeded(1))
    assert torch.equal(found.images[:, observed], x[observed].expand(2, -1))
    assert not torch.equal(found.images[0], found.images[1])
    with torch.no_grad():
        missing = model.log_prob_missing(x, observed, condition=labels)
        for image in range(5):
            some = slice(image, image + 1)
            order = model.completion_order(observed[image, 0])
            whole = model.log_prob(x[some], condition=None if labels is None else labels[some], order=order)
            assert (missing[image] + found.log_observed[0, image]).item() == pytest.approx(whole.item())


def test_completion_takes_the_order_in_which_the_missing_part_comes_last():
    model = build(ImageSpec(1, 4, 6, levels=2))
    everything = torch.ones(4, 6, dtype=torch.bool)
    for name, hidden in [
        ("snake", (slice(2, 4), slice(None))),
        ("snake-r", (slice(0, 2), slice(None))),
        ("snake-t", (slice(None), slice(3, 6))),
        ("snake-tc", (slice(None), slice(0, 2))),
    ]:
        observed = everything.clone()
        observed[hidden] = False
        assert model.completion_order(observed) == an_order(name, 4, 6)


def test_pixels_observed_in_part_are_completed_by_particles():
    spec = ImageSpec(3, 2, 2, levels=2)
    model, x = build(spec), images(spec, 2)
    observed = torch.zeros(spec.shape, dtype=torch.bool)
    observed[0] = True  # red
    found = model.completion(x, observed, particles=8, generator=seeded(0))
    assert torch.equal(found.images[0][:, 0], x[:, 0])
    assert (found.effective_sample_size > 1).all()
    with pytest.raises(
        DataError, match="observed: found a part of a pixel's channels, wanted all of them or none"
    ):
        model.log_prob_missing(x, observed)


# Mistakes


def test_mistakes_are_one_line():
    spec = ImageSpec(1, 3, 3, levels=2)
    model, x = build(spec), images(spec, 2)
    for call, message in [
        (lambda: build(spec, orders=["snakes"]), "unknown order 'snakes'"),
        (lambda: build(spec, orders=[]), "orders: found none, wanted at least one name"),
        (
            lambda: build(ImageSpec(3, 3, 3), channels=5),
            "channels: found 5, wanted at least two maps for each",
        ),
        (lambda: model.sample(1, order="snake-all"), "order: found 'snake-all', which are 8 orders"),
        (lambda: model.log_prob(x, order=[(0, 0)]), "order: found 1 places"),
        (lambda: model.logits(x, order="zigzag"), "unknown order 'zigzag'"),
    ]:
        with pytest.raises(OptionError, match=message) as error:
            call()
        assert "\n" not in str(error.value)
