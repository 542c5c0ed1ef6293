"""A user's own network as an embedding, and the cache of features."""

import pytest
import torch
from torch import nn

from bestiary.data import load_data
from bestiary.errors import DataError
from bestiary.metrics import embedding
from bestiary.metrics.embeddings import NetworkEmbedding, cached_features
from bestiary.randomness import forked_randomness
from bestiary.runs.evaluation import Evaluator


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten())

    def forward(self, x):
        return self.layers(x)


class Counting(nn.Module):
    """Flattens, and counts the images that it has seen; its one weight multiplies them."""

    def __init__(self, weight=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))
        self.seen = 0

    def forward(self, x):
        self.seen += len(x)
        return self.weight * x.flatten(1)


def tiny(seed=0):
    with forked_randomness(seed):
        return Tiny()


def test_any_module_is_an_embedding():
    module = tiny()
    own = embedding(module)
    x = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    features = own.features(x)
    assert features.shape == (5, 4 * 36)
    assert torch.equal(own.features(x), features)  # in evaluation mode: no dropout
    assert module.training  # the user's own module is left as it was
    with torch.no_grad():
        module.layers[0].weight.zero_()
    assert torch.equal(own.features(x), features)


def test_its_weights_are_in_its_protocol():
    protocol = embedding(tiny()).protocol
    assert protocol.startswith("Tiny ")
    assert len(protocol) == len("Tiny ") + 12
    assert embedding(tiny()).protocol == protocol
    assert embedding(tiny(seed=1)).protocol != protocol
    other = tiny()
    other.layers[1].running_mean[0] = 1  # a buffer counts as well
    assert embedding(other).protocol != protocol
    assert embedding(tiny().double()).protocol != protocol
    assert embedding(tiny().bfloat16()).protocol != protocol


def test_what_is_no_features_is_refused():
    with pytest.raises(DataError, match=r"Identity returned \(2, 1, 8, 8\), wanted features \(2, d\)"):
        embedding(nn.Identity()).features(torch.zeros(2, 1, 8, 8))


@pytest.fixture
def split():
    return load_data("digits").test


def counted(weight=1.0, protocol="counting"):
    return NetworkEmbedding("counting", protocol, network=Counting(weight))


def test_features_are_computed_once(split, tmp_path):
    settings = {"n": 20, "fingerprint": "abc", "part": "test", "cache": tmp_path}
    first = counted()
    features = cached_features(first, split, **settings)
    assert first.network.seen == 20
    assert torch.equal(features, split[:20].x.flatten(1))
    again = counted()
    assert torch.equal(cached_features(again, split, **settings), features)
    assert again.network.seen == 0


@pytest.mark.parametrize(
    ("changed", "embedded"),
    [
        ({"n": 21}, {}),
        ({"fingerprint": "abd"}, {}),
        ({"part": "validation"}, {}),
        ({}, {"weight": 2.0}),
        ({}, {"protocol": "counting 8px"}),
    ],
)
def test_what_determines_features_is_in_the_key(split, tmp_path, changed, embedded):
    settings = {"n": 20, "fingerprint": "abc", "part": "test", "cache": tmp_path}
    cached_features(counted(), split, **settings)
    settings |= changed
    other = counted(**embedded)
    features = cached_features(other, split, **settings)
    assert other.network.seen == settings["n"]
    assert torch.equal(features, embedded.get("weight", 1.0) * split[: settings["n"]].x.flatten(1))


def test_changed_code_is_in_the_key(split, tmp_path, monkeypatch):
    settings = {"n": 20, "fingerprint": "abc", "part": "test", "cache": tmp_path}
    cached_features(counted(), split, **settings)
    monkeypatch.setattr("torch.__version__", "another")
    other = counted()
    cached_features(other, split, **settings)
    assert other.network.seen == 20


def test_damaged_features_are_computed_anew(split, tmp_path):
    settings = {"n": 20, "fingerprint": "abc", "part": "test", "cache": tmp_path}
    features = cached_features(counted(), split, **settings)
    (file,) = tmp_path.glob("*.safetensors")
    whole = file.read_bytes()
    for damaged in (b"", whole[:30], whole[:-1]):
        file.write_bytes(damaged)
        assert torch.equal(cached_features(counted(), split, **settings), features)
        assert file.read_bytes() == whole


def test_a_cache_that_cannot_be_written_costs_only_time(split, tmp_path):
    (tmp_path / "file").write_text("in the way")
    settings = {"n": 20, "fingerprint": "abc", "part": "test", "cache": tmp_path / "file"}
    network = counted()
    for seen in (20, 40):
        assert cached_features(network, split, **settings).shape == (20, 64)
        assert network.network.seen == seen


@pytest.mark.parametrize("fingerprint", ["", "abc"])
def test_unknown_data_and_own_networks_are_not_cached(split, tmp_path, fingerprint):
    own = embedding(Counting()) if fingerprint else counted()
    for seen in (20, 40):
        cached_features(own, split, n=20, fingerprint=fingerprint, part="test", cache=tmp_path)
        assert own.network.seen == seen
    assert not list(tmp_path.iterdir())


def test_mistakes_are_told_and_nothing_is_kept(tmp_path):
    ring = load_data("ring").train
    with pytest.raises(DataError, match=r"images: found shape \(5, 2\)"):
        cached_features(counted(), ring, n=5, fingerprint="abc", part="train", cache=tmp_path)
    assert not list(tmp_path.glob("*.safetensors"))


def test_an_evaluation_computes_real_features_once(tmp_path, monkeypatch):
    monkeypatch.setenv("BESTIARY_CACHE", str(tmp_path))
    networks = []

    def counting(name, data):
        networks.append(counted())
        return networks[-1]

    monkeypatch.setattr("bestiary.runs.sample_scores.embedding", counting)
    data = load_data("digits")
    scores = [Evaluator(data, n=50).floor(["frechet"]).scores["frechet"] for _ in range(2)]
    assert scores[0] == scores[1]
    assert [network.network.seen for network in networks] == [100, 0]
