"""Networks of the adversarial models: parameters and shapes by hand, what sees what, layers by formula."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bestiary.data.specs import ImageSpec
from bestiary.errors import DataError
from bestiary.networks import dcgan, infogan, metz, resnet_gan
from bestiary.networks.layers import Flatten, FoldedConvTranspose2d, Unflatten
from bestiary.networks.maxout import Maxout, pacgan_discriminator, pacgan_generator
from bestiary.networks.minibatch_discrimination import MinibatchDiscrimination

SIZES = [(7, 9), (8, 8), (28, 28), (30, 50), (32, 32), (48, 48), (64, 64)]
NETWORKS = {  # wide enough that no pixel's units are all dead at the start
    "dcgan": (dcgan, {"channels": 4}),
    "resnet": (resnet_gan, {"channels": 8}),
    "metz": (metz, {}),
}


def mean_and_deviation(weight):
    return float(weight.detach().mean()), float(weight.detach().std())


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def pair(name, spec, **settings):
    """Generator of an 8-dimensional z and discriminator in float64, batch norm by its first averages."""
    module, narrow = NETWORKS[name]
    generator = module.generator(spec, latent_dim=8, **narrow, **settings)
    discriminator = module.discriminator(spec, **narrow, **settings)
    return generator.double().eval(), discriminator.double().eval()


def test_parameters_of_dcgan_at_the_size_of_the_paper():
    spec = ImageSpec(3, 64, 64)
    up = 100 * 512 * 4 * 4 + 512 * 256 * 16 + 256 * 128 * 16 + 128 * 64 * 16 + 64 * 3 * 16
    assert count(dcgan.generator(spec, latent_dim=100)) == up + 2 * (512 + 256 + 128 + 64) + 3
    down = 3 * 64 * 16 + 64 * 128 * 16 + 128 * 256 * 16 + 256 * 512 * 16 + 512 * 4 * 4
    assert count(dcgan.discriminator(spec)) == down + 2 * (128 + 256 + 512) + 64 + 1
    unnormed = dcgan.discriminator(spec, batch_norm=False)
    assert count(unnormed) == down + (64 + 128 + 256 + 512) + 1


def test_parameters_of_the_residual_networks_at_the_size_of_the_paper():
    spec = ImageSpec(3, 32, 32)
    three, one = 128 * 128 * 9, 128 * 128
    block = 2 * 256 + three + (three + 128) + (one + 128)
    generator = (128 + 1) * 128 * 4 * 4 + 3 * block + 256 + (128 * 9 + 1) * 3
    assert count(resnet_gan.generator(spec, latent_dim=128)) == generator
    first = (3 * 9 + 1) * 128 + (three + 128) + (3 + 1) * 128
    plain = 2 * (three + 128)
    assert count(resnet_gan.discriminator(spec)) == first + (plain + one + 128) + 2 * plain + 129


@pytest.mark.parametrize(("size", "maps"), [("quarter", (2, 4, 8)), ("half", (4, 8, 16))])
def test_parameters_of_the_networks_for_stacked_mnist(size, maps):
    spec = ImageSpec(3, 28, 28)
    generator = 256 * 64 * 4 * 4 + 9 * (64 * 32 + 32 * 16 + 16 * 8) + 2 * (64 + 32 + 16 + 8) + 8 * 3 * 9 + 3
    assert count(metz.generator(spec)) == generator == 286_795
    a, b, c = maps
    discriminator = 9 * (3 * a + a * b + b * c) + 2 * (a + b + c) + c * 4 * 4 + 1
    assert count(metz.discriminator(spec, size=size)) == discriminator


@pytest.mark.parametrize("packing", [1, 3])
def test_parameters_of_the_networks_for_the_ring(packing):
    assert count(pacgan_generator(2, 2)) == 2 * 400 + 3 * 400 * 400 + 4 * 2 * 400 + 400 * 2 + 2
    hidden = (2 * packing + 1) * 1000 + 2 * (200 + 1) * 1000
    assert count(pacgan_discriminator(2 * packing)) == hidden + 201


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_pixel_counts_at_every_size(name, size, channels):
    """A directional derivative by z reaches every output pixel; every input pixel has a gradient."""
    generator, discriminator = pair(name, ImageSpec(channels, *size))
    z, along = torch.randn(2, 16, 8, dtype=torch.float64)
    raw, slope = torch.autograd.functional.jvp(generator, z, along)
    assert raw.shape == slope.shape == (16, channels, *size)
    assert slope.abs().amax(0).min() > 0
    x = torch.rand(16, channels, *size, dtype=torch.float64, requires_grad=True)
    output = discriminator(x)
    assert output.shape == (16, 1)
    (gradient,) = torch.autograd.grad(output.sum(), x)
    assert gradient.abs().amax(0).min() > 0


@pytest.mark.parametrize("name", NETWORKS)
def test_the_last_layer_of_a_discriminator_is_linear(name):
    spec = ImageSpec(1, 12, 10)
    module, narrow = NETWORKS[name]
    network = module.discriminator(spec, **narrow, outputs=5)
    assert isinstance(network[-1], nn.Linear)
    features = network[:-1](torch.rand(4, 1, 12, 10))
    assert features.shape == (4, network[-1].in_features)
    assert network(torch.rand(4, 1, 12, 10)).shape == (4, 5)
    assert module.generator(spec, latent_dim=3, **narrow, outputs=7)(torch.rand(4, 3)).shape == (4, 7, 12, 10)


@pytest.mark.parametrize("name", ["dcgan", "metz"])
def test_sides_are_halved_and_rounded_up(name):
    """28 → 14 → 7 → 4 and back."""
    generator, discriminator = pair(name, ImageSpec(1, 28, 28))

    def sides(network, x):
        found = []
        for layer in network:
            x = layer(x)
            if x.ndim == 4 and x.shape[-1] not in found:
                found.append(x.shape[-1])
        return found

    assert sides(discriminator, torch.rand(2, 1, 28, 28, dtype=torch.float64)) == [28, 14, 7, 4]
    assert sides(generator, torch.rand(2, 8, dtype=torch.float64)) == [4, 7, 14, 28]


@pytest.mark.parametrize("name", ["dcgan", "resnet"])
def test_too_small_images_are_refused_in_one_line(name):
    module, narrow = NETWORKS[name]
    for make in (module.discriminator, lambda spec, **s: module.generator(spec, latent_dim=2, **s)):
        with pytest.raises(DataError, match=r"found 6x28.*at least 7 pixels") as refused:
            make(ImageSpec(1, 6, 28), **narrow)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", NETWORKS)
def test_batch_norm_can_be_left_out(name):
    """Then an example's output does not depend on the rest of its batch, also in training mode."""
    for network, x in zip(
        pair(name, ImageSpec(1, 8, 8), batch_norm=False),
        (torch.rand(4, 8), torch.rand(4, 1, 8, 8)),
        strict=True,
    ):
        network.train()
        assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
        torch.testing.assert_close(network(x.double())[:2], network(x[:2].double()))


def test_dcgan_keeps_batch_norm_from_the_ends():
    spec = ImageSpec(1, 28, 28)
    kinds = [type(layer) for layer in dcgan.discriminator(spec, channels=2)]
    assert kinds.index(nn.BatchNorm2d) > kinds.index(nn.LeakyReLU)
    assert kinds.count(nn.BatchNorm2d) == 2
    kinds = [type(layer) for layer in dcgan.generator(spec, latent_dim=2, channels=2)]
    assert kinds.count(nn.BatchNorm2d) == 3
    assert kinds[-1] is nn.ConvTranspose2d


def test_dcgan_starts_with_normal_weights():
    network = dcgan.discriminator(ImageSpec(3, 32, 32), channels=32)
    for module in network:
        if isinstance(module, nn.Conv2d):
            mean, deviation = mean_and_deviation(module.weight)
            assert deviation == pytest.approx(0.02, rel=0.1)
            assert mean == pytest.approx(0, abs=0.002)
        if isinstance(module, nn.BatchNorm2d):
            mean, deviation = mean_and_deviation(module.weight)
            assert mean == pytest.approx(1, abs=0.01)
            assert deviation == pytest.approx(0.02, rel=0.4)
            assert module.momentum == pytest.approx(0.1)


def test_the_residual_critic_is_the_formula_of_the_paper():
    """Written out with every shortcut at the larger size, as the authors have it: the pool after it."""
    spec = ImageSpec(2, 32, 32)
    network = resnet_gan.discriminator(spec, channels=4).double()
    x = torch.rand(3, 2, 32, 32, dtype=torch.float64)

    def block(h, first, second, shortcut, *, first_of_all=False):
        r = first(h if first_of_all else F.relu(h))
        r = second(F.relu(r))
        return F.avg_pool2d(r, 2) + F.avg_pool2d(shortcut(h), 2) if shortcut else r + h

    by_kernel = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    (s1, s2), threes = (
        [m for m in by_kernel if m.kernel_size == (1, 1)],
        [m for m in by_kernel if m.padding == (1, 1)],
    )
    h = block(2 * x - 1, threes[0], threes[1], s1, first_of_all=True)
    h = block(h, threes[2], threes[3], s2)
    h = block(h, threes[4], threes[5], None)
    h = block(h, threes[6], threes[7], None)
    torch.testing.assert_close(network(x), network[-1](F.relu(h).mean((2, 3))))


def test_the_residual_generator_is_the_formula_of_the_paper():
    """To an odd side it doubles and leaves out the last row and column."""
    network = resnet_gan.generator(ImageSpec(1, 28, 26), latent_dim=3, channels=4).double().train()
    z = torch.randn(5, 3, dtype=torch.float64)

    def norm(h):  # scales are one and shifts zero at the start
        mean, variance = h.mean((0, 2, 3), keepdim=True), h.var((0, 2, 3), keepdim=True, correction=0)
        return (h - mean) / (variance + 1e-5).sqrt()

    def up(h, size):
        return h.repeat_interleave(2, 2).repeat_interleave(2, 3)[:, :, : size[0], : size[1]]

    convolutions = iter(m for m in network.modules() if isinstance(m, nn.Conv2d))
    h = network[0](z).unflatten(1, (4, 4, 4))
    for size in ((7, 7), (14, 13), (28, 26)):
        shortcut, first, second = (next(convolutions) for _ in range(3))
        h = shortcut(up(h, size)) + second(F.relu(norm(first(up(F.relu(norm(h)), size)))))
    torch.testing.assert_close(network(z), next(convolutions)(F.relu(norm(h))))


def test_residual_weights_start_as_in_the_code_of_the_authors():
    """Uniform with variance 4/(fan in + fan out) in the 3 × 3 ones of blocks, half of it elsewhere."""
    network = resnet_gan.generator(ImageSpec(1, 16, 16), latent_dim=64, channels=32)
    block, out = network[2], network[-1]
    for layer, numerator, fans, tolerance in (
        (block.residual[3], 4, (32 + 32) * 9, 0.03),
        (block.shortcut[0], 2, 32 + 32, 0.1),
        (out, 2, (32 + 1) * 9, 0.15),
        (network[0], 2, 64 + 32 * 16, 0.03),
    ):
        _, deviation = mean_and_deviation(layer.weight)
        assert deviation == pytest.approx((numerator / fans) ** 0.5, rel=tolerance)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_gradient_penalty_trains_the_discriminator(name):
    """Differentiated twice: finite, and not zero."""
    _, network = pair(name, ImageSpec(1, 9, 9), batch_norm=False)
    x = torch.rand(4, 1, 9, 9, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(network(x).sum(), x, create_graph=True)
    (slope.flatten(1).norm(dim=1) - 1).square().mean().backward()
    first = next(m for m in network.modules() if isinstance(m, nn.Conv2d))
    assert first.weight.grad.isfinite().all()
    assert first.weight.grad.abs().max() > 0


def test_maxout_is_the_largest_of_its_affine_maps():
    layer = Maxout(2, 3, 4).double()
    x = torch.randn(5, 2, dtype=torch.float64)
    weight, bias = layer.affine.weight, layer.affine.bias
    maps = [x @ weight[3 * j : 3 * j + 3].T + bias[3 * j : 3 * j + 3] for j in range(4)]
    expected = maps[0]
    for other in maps[1:]:
        expected = torch.where(other > expected, other, expected)
    torch.testing.assert_close(layer(x), expected)
    assert torch.autograd.gradcheck(layer, x.requires_grad_())


def test_networks_of_the_ring_start_as_in_the_code_of_the_authors():
    generator, discriminator = pacgan_generator(2, 2), pacgan_discriminator(4)
    assert isinstance(discriminator[-1], nn.Linear)
    assert mean_and_deviation(generator[3].weight)[1] == pytest.approx(0.02, rel=0.02)
    assert mean_and_deviation(discriminator[1].affine.weight)[1] == pytest.approx(0.02, rel=0.02)
    assert not discriminator[1].affine.bias.any()
    assert [layer.bias is not None for layer in generator if isinstance(layer, nn.Linear)] == [False] * 4 + [
        True
    ]
    assert (generator[1].eps, generator[1].momentum) == (1e-4, 0.05)
    assert generator(torch.randn(6, 2)).shape == (6, 2)
    assert discriminator(torch.randn(6, 4)).shape == (6, 1)


def minibatch_discrimination(features, kernels=7, kernel_dim=3):
    """In float64, with scales and biases that differ between kernels."""
    layer = MinibatchDiscrimination(features, kernels, kernel_dim).double()
    with torch.no_grad():
        layer.log_scale.normal_(std=0.3)
        layer.bias.normal_()
    return layer


def test_minibatch_discrimination_is_its_double_sum():
    layer, f = minibatch_discrimination(5), torch.randn(6, 5, dtype=torch.float64)
    out = layer(f)
    assert out.shape == (6, 5 + 7)
    assert torch.equal(out[:, :5], f)
    for b in range(7):
        matrix = (
            layer.direction[:, b] / layer.direction[:, b].square().sum(0).sqrt() * layer.log_scale[b].exp()
        )
        for i in range(6):
            total = layer.bias[b].clone()
            for j in set(range(6)) - {i}:
                total += (-(f[i] @ matrix - f[j] @ matrix).abs().sum()).exp()
            torch.testing.assert_close(out[i, 5 + b], total)


def test_minibatch_discrimination_can_be_differentiated_twice():
    layer, f = minibatch_discrimination(4, 3, 2), torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, f)
    assert torch.autograd.gradgradcheck(layer, f)
    layer(f)[:, 4:].sum().backward()
    assert all(p.grad.abs().min() > 0 for p in layer.parameters())


def test_minibatch_discrimination_sees_collapse():
    layer = minibatch_discrimination(5)
    diverse = torch.randn(32, 5, dtype=torch.float64)
    collapsed = diverse[:1] + 0.01 * diverse
    assert (layer(collapsed)[:, 5:].mean(0) > layer(diverse)[:, 5:].mean(0) + 1).all()
    identical = layer(diverse[:1].expand(32, 5))[:, 5:]
    torch.testing.assert_close(identical, (31 + layer.bias).expand(32, 7))


def test_minibatch_discrimination_lets_an_example_see_the_others():
    layer, f = minibatch_discrimination(5), torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(f)[0, 5:].sum(), f)
    assert (gradient.abs().amax(1) > 0).all()


def test_minibatch_discrimination_starts_from_data():
    """Afterwards the nearest neighbour is at distance 2 on average, and outputs have the mean zero."""
    layer, f = MinibatchDiscrimination(5).double(), 40 * torch.randn(64, 5, dtype=torch.float64)
    assert (layer(f[:1])[:, 5:] == -1).all()
    assert layer(f)[:, 5:].amax() < -0.9  # at this scale nobody sees anybody
    layer.initialise(f)
    torch.testing.assert_close(
        layer(f)[:, 5:].mean(0), torch.zeros(100, dtype=torch.float64), atol=1e-12, rtol=0
    )
    matrix = layer.direction / layer.direction.norm(dim=0) * layer.log_scale.exp()
    seen = torch.einsum("if,fbd->bid", f, matrix)
    distances = torch.cdist(seen, seen, p=1) + torch.diag(torch.full((64,), torch.inf))
    nearest = distances.amin(2).mean(1)
    torch.testing.assert_close(nearest, torch.full_like(nearest, 2))


def test_minibatch_discrimination_of_equal_examples_starts_finite():
    layer = MinibatchDiscrimination(5)
    layer.initialise(torch.ones(4, 5))
    assert all(p.isfinite().all() for p in layer.parameters())
    assert (layer.bias == -3).all()


def test_minibatch_discrimination_is_as_exact_under_bfloat16_autocast():
    layer, f = MinibatchDiscrimination(5), 100 * torch.randn(8, 5)
    layer.initialise(f)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = layer(f)
    torch.testing.assert_close(rounded, layer(f))


@pytest.mark.parametrize("size", [(5, 4), (1, 3)])
@pytest.mark.parametrize("settings", [
    {"kernel_size": 4, "stride": 2, "padding": 1},
    {"kernel_size": (3, 5), "stride": (1, 3), "padding": (0, 2), "output_padding": (0, 2), "bias": False},
])  # fmt: skip
def test_a_folded_transposed_convolution_is_a_transposed_convolution(settings, size):
    folded = FoldedConvTranspose2d(3, 2, **settings).double()
    plain = nn.ConvTranspose2d(3, 2, **settings).double()
    plain.load_state_dict(folded.state_dict())
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(folded(x), plain(x))
    weights = torch.randn(plain(x).shape, dtype=torch.float64)
    for ours, theirs in zip(gradients(folded, x, weights), gradients(plain, x, weights), strict=True):
        torch.testing.assert_close(ours, theirs)


def gradients(layer, x, weights):
    return torch.autograd.grad((layer(x) * weights).sum(), [x, *layer.parameters()])


def test_maps_and_their_gradient_stay_channels_last():
    maps = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last).requires_grad_()
    features = Flatten()(maps)
    assert torch.equal(features, maps.permute(0, 2, 3, 1).reshape(2, 60))
    assert features.data_ptr() == maps.data_ptr()  # nothing was copied
    assert torch.equal(Unflatten(3, 4, 5)(features), maps)
    assert Unflatten(3, 4, 5)(features).is_contiguous(memory_format=torch.channels_last)
    (gradient,) = torch.autograd.grad((features * torch.randn(2, 60)).sum(), maps)
    assert gradient.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("maps", [1, 3])
def test_infogan_images_by_either_transposed_convolution(maps):
    """A single map is folded, three are not: both give images of the size that was asked for."""
    generator = infogan.generator(ImageSpec(maps, 12, 8, 256), latent_dim=5, channels=4)
    assert isinstance(generator[-1], FoldedConvTranspose2d) == (maps == 1)
    assert generator(torch.randn(2, 5)).shape == (2, maps, 12, 8)
