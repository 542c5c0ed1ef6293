"""Stacked images: three single ones as channels, disjoint splits, and which mode each is."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from bestiary.data import ImageSpec, StackedSplit, idx, load_data, mixture_1200d_centres, singles_of
from bestiary.data.splits import ArraySplit
from bestiary.errors import DataError, OptionError
from bestiary.metrics import stacked_mode_coverage

needs_fashion = pytest.mark.skipif(
    not Path(idx.FASHION_MNIST.installed[0]).is_dir(), reason="needs `apt-get install dataset-fashion-mnist`"
)


@pytest.fixture
def small(tmp_path, monkeypatch):
    """MNIST in small: 50, 10 and 20 images that all differ."""
    folder = tmp_path / "mnist"
    folder.mkdir()
    draw = np.random.default_rng(0)
    files = []
    for file, n in zip(idx.MNIST.files, (60, 60, 20, 20), strict=True):
        shape = (n, 28, 28) if "images" in file.name else (n,)
        made = dataclasses.replace(file, shape=shape)
        content = made.header + draw.integers(0, 10, shape, dtype=np.uint8).tobytes()
        (folder / file.name).write_bytes(content)
        files.append(dataclasses.replace(made, sha256=hashlib.sha256(content).hexdigest()))
    made = dataclasses.replace(idx.MNIST, files=tuple(files), held_out=10, addresses=(), installed=())
    monkeypatch.setattr(idx, "MNIST", made)
    return str(folder)


def test_channels_are_single_images_of_the_same_split_and_labels_say_which(small):
    data, singles = load_data("stacked-mnist", path=small, size=300), load_data("mnist", path=small)
    assert data.spec == ImageSpec(3, 28, 28)
    assert [len(s) for s in (data.train, data.validation, data.test)] == [300, 26_000, 26_000]
    for stacked, single in (
        (data.train, singles.train),
        (data.validation, singles.validation),
        (data.test, singles.test),
    ):
        label_of = {x.numpy().tobytes(): int(y) for x, y in zip(single[:].x, single.labels, strict=True)}
        for x, label in zip(stacked[:100].x, stacked.labels, strict=False):
            red, green, blue = (label_of[channel.numpy().tobytes()] for channel in x)
            assert int(label) == 100 * red + 10 * green + blue
    assert len({x.numpy().tobytes() for x in data.train[:].x[:, 0]}) == 50  # any image may be any channel


def test_channels_are_drawn_independently(small):
    labels = load_data("stacked-mnist", path=small).test.labels
    digits = torch.stack([labels // 100, labels // 10 % 10, labels % 10])
    correlation = torch.corrcoef(digits.double())
    assert (correlation - torch.eye(3)).abs().max() < 4 / 26_000**0.5


def test_a_seed_decides_what_is_stacked(small):
    data = load_data("stacked-mnist", path=small, size=300)
    again = load_data(data.source, **data.options)
    assert torch.equal(again.train[:].x, data.train[:].x)
    assert again.fingerprint == data.fingerprint
    other = load_data("stacked-mnist", path=small, size=300, seed=1)
    assert not torch.equal(other.train.labels, data.train.labels)
    assert other.fingerprint != data.fingerprint
    longer = load_data("stacked-mnist", path=small, size=400)
    assert torch.equal(longer.test.labels, data.test.labels)
    assert longer.fingerprint != data.fingerprint != load_data("mnist", path=small).fingerprint


def test_the_single_images_are_at_hand_for_the_classifier(small):
    data = load_data("stacked-mnist", path=small, size=10)
    assert data.classes is None  # nobody should train a classifier of a thousand classes by mistake
    singles = singles_of(data)
    assert singles.fingerprint == load_data("mnist", path=small).fingerprint
    with pytest.raises(DataError, match="data: found mnist, wanted stacked-mnist or stacked-fashion-mnist"):
        singles_of(singles)


def test_mistakes(small):
    with pytest.raises(OptionError, match="size: found 0, wanted a whole number ≥ 1"):
        load_data("stacked-mnist", path=small, size=0)
    with pytest.raises(OptionError, match="unknown data 'stacked-mnist-fixed'"):
        load_data("stacked-mnist-fixed", path=small)
    with pytest.raises(IndexError):
        load_data("stacked-mnist", path=small, size=10).train[[10]]
    unlabelled = ArraySplit(np.zeros((2, 1, 4, 4), np.uint8), levels=256)
    with pytest.raises(DataError, match="singles: found images without labels"):
        StackedSplit(unlabelled, torch.zeros(1, 3, dtype=torch.int64), classes=10)


@needs_fashion
def test_the_test_split_holds_every_mode_about_evenly():
    data = load_data("stacked-fashion-mnist")
    assert len(data.train) == 128_000
    for split in (data.validation, data.test):
        digits = torch.stack([split.labels // 100, split.labels // 10 % 10, split.labels % 10], dim=1)
        found = stacked_mode_coverage(probabilities=torch.nn.functional.one_hot(digits, 10).double())
        assert found.value == 1000
        assert found.reverse_kl.value < 0.03
    assert data.train[[127_999]].x.shape == (1, 3, 28, 28)


def test_mixture_in_1200_dimensions_is_as_published():
    data = load_data("mixture-1200d", size=2000)
    assert data.spec.shape == (1200,)
    centres = mixture_1200d_centres()
    assert centres[:, 0].tolist() == [-1, -0.5, 0, 0.5, -2, -2.5, 10, 0.25, -13, -5.5]
    x = data.train[:].x
    mode = (x[:, -1:] - centres[:, -1]).abs().argmin(dim=1)
    assert torch.equal(x[:, 700:], centres[mode, 700:])
    noise = x[:, :700] - centres[mode, :700]
    assert abs(float(noise.mean())) < 4 / noise.numel() ** 0.5
    assert abs(float(noise.var()) - 1) < 4 * (2 / noise.numel()) ** 0.5
    assert (mode.bincount(minlength=10) - 200).abs().max() < 5 * 200**0.5
    assert not torch.equal(data.validation[:5].x, data.test[:5].x)
