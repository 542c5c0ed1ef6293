"""How odd examples are: each score is what it says, likelihoods fail as they do, both ends are found."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

from bestiary.catalogue import create
from bestiary.data import Batch, Classes, ImageSpec, PointSpec, load_data
from bestiary.errors import BestiaryError, DataError, OptionError
from bestiary.metrics import auroc
from bestiary.models.base import Model
from bestiary.tasks import (
    ANOMALY_SCORES,
    anomalies,
    anomaly_picture,
    anomaly_score_names,
    anomaly_scores,
    class_aurocs,
    count_as_odd,
    png_bits,
    rank_anomalies,
)

SPEC = ImageSpec(1, 8, 8, levels=17)
VAE = {"hidden": [8], "latent_dim": 2}
PIXELS = {"layers": 1, "channels": 2, "head_channels": 2, "kernel_size": 3}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def digits():
    return load_data("digits")


def fitted(data, latent_dim=15):
    model = create("ppca", spec=data.spec, latent_dim=latent_dim)
    model.fit(data.train)
    return model


# What each score is


def test_bound_and_reconstruction_of_a_vae(digits, monkeypatch):
    model, x = create("vae", spec=digits.spec, **VAE), digits.test[:5].x
    monkeypatch.setattr(anomalies, "_CHUNK", 3)
    generator = seeded()
    elbo = torch.cat([model.elbo(x[:3], generator=generator), model.elbo(x[3:], generator=generator)])
    found = anomaly_scores(model, x, generator=seeded())
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, -elbo.double())
    error = (x - model.reconstruct(x)).square().sum(dim=(1, 2, 3))
    torch.testing.assert_close(anomaly_scores(model, x, score="reconstruction"), error.double())
    bits = anomaly_scores(model, x, score="complexity", generator=seeded())
    torch.testing.assert_close(bits, found / math.log(2) - png_bits(x))


def test_likelihood_and_critic(digits):
    x = digits.test[:4].x
    exact = create("gated-pixelcnn", spec=digits.spec, **PIXELS)
    with torch.no_grad():
        torch.testing.assert_close(anomaly_scores(exact, x), -exact.log_prob(x).double())
    gan = create("ns-gan", spec=digits.spec, channels=4)
    gan.train()  # batch norm is that of evaluation all the same
    torch.testing.assert_close(anomaly_scores(gan, x), -gan.score(x).double())
    assert gan.training


@pytest.mark.parametrize(
    ("name", "settings", "spec", "scores"),
    [
        ("gated-pixelcnn", PIXELS, SPEC, ["likelihood", "complexity"]),
        ("vae", VAE, SPEC, ["bound", "reconstruction", "complexity"]),
        ("vae", {**VAE, "likelihood": "bernoulli"}, SPEC, ["bound", "reconstruction"]),
        ("vae", VAE, PointSpec(2), ["bound", "reconstruction"]),
        ("autoencoder", VAE, SPEC, ["reconstruction"]),
        ("ns-gan", {"channels": 4}, SPEC, ["critic"]),
    ],
)
def test_the_scores_that_models_have(name, settings, spec, scores):
    model = create(name, spec=spec, **settings)
    assert list(anomaly_score_names(model)) == scores
    x = torch.rand(3, *spec.shape, generator=seeded())
    auto = anomaly_scores(model, x, generator=seeded())
    torch.testing.assert_close(auto, anomaly_scores(model, x, score=scores[0], generator=seeded()))
    for lacking in set(ANOMALY_SCORES) - set(scores):
        with pytest.raises(OptionError, match=f"score: .* has no {lacking}, wanted one of {scores[0]}"):
            anomaly_scores(model, x, score=lacking)


def test_conditions_reach_the_model(digits):
    spec = ImageSpec(1, 8, 8, levels=17, condition=Classes(10))
    model = create("vae", spec=spec, **VAE)
    x, labels = digits.test[:4].x, digits.test.labels[:4]
    found = anomaly_scores(model, x, score="reconstruction", condition=labels)
    copies = model.reconstruct(x, condition=labels)
    torch.testing.assert_close(found, (x - copies).square().flatten(1).sum(1).double())
    with pytest.raises(DataError, match="condition: found None, wanted int64 labels"):
        anomaly_scores(model, x)


@pytest.mark.parametrize(("levels", "channels"), [(256, 1), (256, 3), (2, 1)])
def test_png_bits_are_the_length_of_the_file(levels, channels):
    x = torch.randint(levels, (3, channels, 12, 9), generator=seeded()) / (levels - 1)
    x[1] = x[1, 0, 0, 0]
    found = png_bits(x, levels=levels)
    file = io.BytesIO()
    stored = (x[0] * 255).round().byte().permute(1, 2, 0).squeeze(2).numpy()
    Image.fromarray(stored).convert("1" if levels == 2 else None).save(file, "PNG", optimize=True)
    assert found[0] == 8 * file.tell()
    # Noise cannot be packed; a file without any is what all have before their pixels, about 70 bytes.
    noise = channels * 12 * 9 * math.log2(levels)
    assert noise < found[0] < noise + 8 * (70 + 12 + 11)
    assert found[1] < 8 * 90


# What they are good for


def test_one_class_against_the_others(digits):
    data = load_data("digits", only=0)
    model, labels = fitted(data), digits.test.labels
    for score in ("bound", "reconstruction"):
        scores = anomaly_scores(model, digits.test[:].x, score=score)
        odd = labels != 0
        found = class_aurocs(
            normal=scores[~odd], anomalous=scores[odd], labels=labels[odd], classes=digits.classes
        )
        assert list(found) == ["all", *"123456789"]
        assert found["all"].value > 0.98
        alone = auroc(normal=scores[~odd], anomalous=scores[labels == 6])
        assert found["6"] == alone


def test_pale_images_are_likelier_than_those_trained_on(digits):
    """The failure of likelihoods, where it is certain: nearer to the mean is likelier under a Gaussian."""
    model, x = fitted(digits), digits.test[:].x
    pale = ((x + digits.train[:].x.mean(dim=0)) / 2 * 16).round() / 16
    found = auroc(normal=anomaly_scores(model, x), anomalous=anomaly_scores(model, pale))
    assert found.value < 0.1


# Many of them


@pytest.mark.parametrize(("n", "size"), [(3, 7), (8, 4), (100, 50)])
def test_both_ends_of_many(digits, n, size):
    model, split = fitted(digits), digits.test
    told = []
    found = rank_anomalies(model, split.batches(size, limit=60), n=n, progress=told.append)
    x = split[:60].x
    scores = anomaly_scores(model, x)
    torch.testing.assert_close(found.scores, scores)
    order, n = scores.argsort(), min(n, 60)
    assert found.ordinary.tolist() == order[:n].tolist()
    assert found.oddest.tolist() == order.flip(0)[:n].tolist()
    assert torch.equal(found.oddest_x, x[found.oddest])
    assert torch.equal(found.ordinary_x, x[found.ordinary])
    assert told[-1] == 60


def test_a_picture_has_both_ends(digits):
    found = rank_anomalies(fitted(digits), [Batch(digits.test[:40].x)], n=10)
    picture = anomaly_picture(found)
    side = 56 + 2  # 8×8 pixels, seven times as large, with a gap
    assert picture.size == (8 * side + 2, 2 * (2 * side + 2) + anomalies._GAP)
    levels = torch.from_numpy(np.array(picture))[2:58:7]
    assert torch.equal(levels[:, 2:58:7], (found.oddest_x[0, 0] * 255).round().byte())
    top = 2 * side + 2 + anomalies._GAP + 2
    levels = torch.from_numpy(np.array(picture))[top : top + 56 : 7]
    assert torch.equal(levels[:, 2:58:7], (found.ordinary_x[0, 0] * 255).round().byte())


def test_how_many_are_as_odd():
    reference = torch.tensor([3.0, 1.0, 2.0, 2.0])
    assert count_as_odd(torch.tensor([0.0, 2.0, 2.5, 9.0]), reference).tolist() == [4, 3, 1, 0]


def test_mistakes(digits):
    model, x = create("autoencoder", spec=SPEC, **VAE), digits.test[:2].x
    with pytest.raises(OptionError, match="unknown score 'recon': did you mean 'reconstruction'"):
        anomaly_scores(model, x, score="recon")
    with pytest.raises(DataError, match=r"x: found shape \(2, 1, 8, 7\), wanted \(B, 1, 8, 8\)"):
        anomaly_scores(model, x[..., :7])
    with pytest.raises(DataError, match="data: found no examples"):
        rank_anomalies(model, [], n=1)

    class Nothing(Model):
        def players(self):
            return {}

        def moves(self, clock):
            return []

    with pytest.raises(BestiaryError, match="model: found Nothing, wanted a model with a likelihood"):
        anomaly_scores(Nothing(SPEC, batch_size=1), x)
