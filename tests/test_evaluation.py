"""Scores of runs: right names, right units, right splits; and comparisons that go on where they stopped."""

import json
import math
import os
import re
import signal
from dataclasses import replace

import pytest
import torch
from torch import nn

import bestiary
from bestiary import metrics
from bestiary.catalogue import create
from bestiary.data import ImageSpec, StackedSplit
from bestiary.distributions.observation import Treatment
from bestiary.errors import BestiaryError, OptionError, RunError, StoppedError
from bestiary.metrics.embeddings import NAMES, NetworkEmbedding, Pixels
from bestiary.models.base import Likelihood, Model, Sampler
from bestiary.runs import model_scores, sample_scores
from bestiary.runs.evaluation import Evaluator, default_metrics
from bestiary.scores import EMBEDDINGS, FID_NETWORK, METRICS, SCORES
from bestiary.study.results import Comparison, is_bound

FAST = ["likelihood", "frechet", "prd", "memorisation"]


@pytest.fixture(scope="module")
def digits():
    return bestiary.load_data("digits")


def evaluate(data, model, names, **options):
    return Evaluator(data, embedding="pixels", **{"n": 200, **options}).evaluate(model, names)


def test_bits_per_dim_are_nats_over_dimensions_and_exact_says_so(digits):
    model = create("gated-pixelcnn", spec=digits.spec, layers=1, channels=2, head_channels=2, kernel_size=3)
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()  # every logit equal: the uniform model over 17 levels
    scores = evaluate(digits, model, ["likelihood"]).scores
    assert scores["bits_per_dim"].value == pytest.approx(math.log2(17), rel=1e-6)
    assert scores["nats"].value == pytest.approx(64 * math.log(17), rel=1e-6)
    assert scores["nats"].protocol == "likelihood[exact, log mass of 17 levels, n=200, test]"
    assert scores["nats"].error == pytest.approx(0, abs=1e-4)
    assert "elbo_nats" not in scores


@pytest.mark.parametrize("name", ["ns-gan", "vae"])
def test_polygons_asks_the_generator_itself(name, monkeypatch):
    monkeypatch.setattr(model_scores, "SOUGHT", 6)
    data = bestiary.load_data("triangles", vertices=4)
    small = {"network": "infogan", "channels": 4} if name == "ns-gan" else {"hidden": [8]}
    model = create(name, spec=data.spec, latent_dim=3, seed=0, **small)
    before = model.training
    found = evaluate(data, model, ["polygons"], n=8)
    assert model.training == before
    assert set(found.scores) == {"polygon_f1", "polygon_precision", "polygon_recall"}
    # an untrained network draws no polygons at all, and reaches none
    assert [score.value for score in found.scores.values()] == [0, 0, 0]
    wanted = "polygon-precision-recall[pixels, vertices=4, delta=0.75, n_real=6, n_fake=8, test]"
    assert {score.protocol for score in found.scores.values()} == {wanted}


def test_polygons_of_a_generator_that_draws_one_triangle(monkeypatch):
    monkeypatch.setattr(model_scores, "SOUGHT", 6)
    data = bestiary.load_data("triangles")
    model = create("vae", spec=data.spec, latent_dim=3, hidden=[8], likelihood="gaussian", sigma=0.1)
    one = data.test[2].x[0]
    monkeypatch.setattr(type(model.observation), "mean", lambda _, raw: one + 0 * raw[:, :1])
    found = evaluate(data, model, ["polygons"], n=8).scores
    near = (data.test[:6].x - one).square().flatten(1).sum(1) <= 0.75
    assert found["polygon_precision"].value == 1
    assert found["polygon_recall"].value == pytest.approx(near.double().mean().item())
    assert 0 < found["polygon_recall"].value < 1


def test_polygons_says_why_it_cannot(digits):
    found = evaluate(digits, create("vae", spec=digits.spec, hidden=[8]), ["polygons"])
    assert found.unavailable["polygons"] == "digits has no known polygons: it is for triangles"
    triangles = bestiary.load_data("triangles")
    found = evaluate(triangles, create("ppca", spec=triangles.spec, latent_dim=2), ["polygons"])
    assert found.unavailable["polygons"] == "PPCA has no generator of images from codes"
    diverged = create("ns-gan", spec=triangles.spec, network="infogan", channels=4)
    with torch.no_grad():
        next(diverged.generator.parameters()).fill_(math.nan)
    found = evaluate(triangles, diverged, ["polygons"], n=8)
    assert found.unavailable["polygons"] == "its samples are not finite"


def test_bounds_are_named_and_the_importance_weighted_one_is_tighter(digits):
    scores = evaluate(
        digits, create("vae", spec=digits.spec, hidden=[16], latent_dim=4), ["likelihood"]
    ).scores
    assert "importance-weighted bound, 32 particles" in scores["nats"].protocol
    assert "elbo" in scores["elbo_nats"].protocol
    assert scores["nats"].value < scores["elbo_nats"].value


def test_bernoulli_on_grey_levels_has_no_bits_per_dim_and_says_why(digits):
    model = create("vae", spec=digits.spec, hidden=[4], latent_dim=2, likelihood="bernoulli")
    found = evaluate(digits, model, ["likelihood"])
    assert "bits_per_dim" not in found.scores
    assert "the likelihood of nothing has no bits/dim" in found.unavailable["bits_per_dim"]


def test_a_gan_has_no_likelihood_and_the_reason_is_kept(digits):
    found = evaluate(digits, create("ns-gan", spec=digits.spec, channels=2), ["likelihood", "prd"])
    assert found.unavailable == {"likelihood": "GAN has no likelihood"}
    assert set(found.scores) == {"prd_f8", "prd_f1_8"}
    assert found.sampling_seconds > 0
    assert found.samples.shape == (200, 1, 8, 8)


def test_real_data_come_closest_and_n_is_what_the_split_has(digits):
    evaluator = Evaluator(digits, n=10_000, embedding="pixels")
    assert evaluator.n == 300
    floor = evaluator.floor(["frechet", "prd", "memorisation"])
    noise = evaluate(digits, create("ns-gan", spec=digits.spec, channels=2), ["frechet"], n=10_000)
    assert floor.scores["frechet"].value < noise.scores["frechet"].value / 3
    assert "n=300" in floor.scores["frechet"].protocol
    assert "test" in floor.scores["frechet"].protocol
    assert floor.scores["prd_f8"].value > 0.8
    assert abs(floor.scores["memorisation"].value) < 4 * floor.scores["memorisation"].error


def test_same_seed_same_scores_another_split_other_scores(digits):
    model = create("vae", spec=digits.spec, hidden=[16], latent_dim=4)
    a, b = (evaluate(digits, model, FAST).scores for _ in range(2))
    assert a == b
    other = evaluate(digits, model, FAST, split="validation").scores
    assert all(other[name].value != a[name].value for name in ("nats", "frechet"))


class Replay(Model, Sampler, Likelihood):
    """Gives the samples, and the log-likelihoods, that it is told to give."""

    def __init__(self, spec, **settings):
        super().__init__(spec, batch_size=1)

    def players(self):
        return {}

    def moves(self, clock):
        return []

    @property
    def treatment(self) -> Treatment:
        return "mass"

    def sample(self, n, *, condition=None, generator=None):
        return self.told[torch.arange(n) % len(self.told)]

    def log_prob(self, x, *, condition=None):
        return self.nats.expand(len(x))


def replay(spec, told=None, nats=0.0):
    model = Replay(spec)
    model.told, model.nats = told, torch.tensor(nats)
    return model


def test_a_metric_gives_scores_that_the_table_explains(digits):
    assert {info.metric for info in SCORES.values()} == set(METRICS)
    assert set(EMBEDDINGS) == set(NAMES)
    vae = create("vae", spec=digits.spec, hidden=[8], latent_dim=2)
    found = evaluate(digits, vae, None, n=40)
    asked = default_metrics(digits)
    assert asked == [
        *("likelihood", "frechet", "prd", "manifold", "classes", "memorisation"),
        *("active-units", "reconstruction"),
    ]
    assert {SCORES[name].metric for name in found.scores} == set(asked)
    assert {SCORES[name].metric for name in evaluate(digits, vae, asked[1:3]).scores} == {"frechet", "prd"}


def test_without_a_choice_what_the_data_cannot_have_is_left_out():
    assert {"modes", "active-units"} <= set(default_metrics(bestiary.load_data("ring")))
    assert not {"classes", "memorisation", "reconstruction"} & set(
        default_metrics(bestiary.load_data("grid"))
    )
    assert "memorisation" in default_metrics(bestiary.load_data("ring", size=100))


def test_scores_are_those_of_the_metrics(digits):
    told = 0.9 * digits.validation[:200].x
    found = evaluate(
        digits, replay(digits.spec, told), ["kernel", "manifold", "memorisation", "inception-score"]
    )
    real, fake = digits.test[:200].x.flatten(1), told.flatten(1)
    pr, dc = metrics.precision_recall_density_coverage(real=real, fake=fake)
    values = {name: score.value for name, score in found.scores.items()}
    assert values["kernel"] == pytest.approx(metrics.kernel_distance(real=real, fake=fake).value)
    assert [values[n] for n in ("precision", "recall", "density", "coverage")] == [
        *(pr.precision, pr.recall, dc.density, dc.coverage)
    ]
    assert "ImageNet's classes" in found.unavailable["inception-score"]
    assert "kernel: unbiased, but noisy at 200 examples" in " ".join(found.notes)


def test_samples_are_embedded_once_for_all_metrics(digits, monkeypatch):
    seen = []

    class Counting(Pixels):
        def embed(self, images):
            seen.append(len(images))
            return super().embed(images)

    monkeypatch.setattr(sample_scores, "embedding", lambda name, data: Counting())
    evaluate(digits, replay(digits.spec, digits.train[:50].x), ["frechet", "kernel", "prd", "manifold"], n=50)
    assert sum(seen) == 100  # real and sampled


def test_fid_and_kid_are_on_their_own_network_whatever_the_embedding(digits, monkeypatch):
    def stand_in(name, data):
        return NetworkEmbedding(name, name, network=nn.Flatten())

    monkeypatch.setattr(sample_scores, "embedding", stand_in)
    model = replay(digits.spec, digits.train[:50].x)
    found = evaluate(digits, model, ["frechet", "kid", "fid"]).scores
    assert list(found) == ["frechet", "fid", "kid"]
    assert found["frechet"].protocol.startswith("frechet[pixels, test")
    assert found["fid"].protocol.startswith(f"frechet[{FID_NETWORK}, test")
    alone = Evaluator(digits, n=200, embedding=FID_NETWORK).evaluate(model, ["frechet", "kid"]).scores
    assert list(alone) == ["fid", "kid"]
    assert alone["fid"] == found["fid"]
    ring = bestiary.load_data("ring")
    points = Evaluator(ring, n=50).evaluate(replay(ring.spec, ring.test[:50].x), ["fid", "frechet"])
    assert list(points.scores) == ["frechet", "frechet_extrapolated"]
    assert points.unavailable == {"fid": "ring has no images"}


@pytest.mark.parametrize(
    ("source", "options", "modes"),
    [
        ("ring", {}, 8), ("ring", {"modes": 5, "radius": 1.0, "sigma": 0.1}, 5),
        ("grid", {"side": 4, "spacing": 1.5}, 16), ("mixture-1200d", {}, 10),
    ],
)  # fmt: skip
def test_modes_are_found_around_the_centres_of_the_data(source, options, modes):
    data = bestiary.load_data(source, **options)
    scores = Evaluator(data, n=2000).floor(["modes"]).scores
    assert scores["modes_found"].value == modes
    assert scores["mode_quality"].value == pytest.approx(0.9889, abs=4 * scores["mode_quality"].error)
    assert 0 < scores["mode_forward_kl"].value < 0.02
    far = Evaluator(data, n=50).evaluate(replay(data.spec, data.test[:9].x + 50), ["modes"])
    assert {name: score.value for name, score in far.scores.items()} == {"modes_found": 0, "mode_quality": 0}
    assert far.unavailable["mode_reverse_kl"] == "no sample is near a mode"


def test_a_missed_mode_leaves_a_reason_in_place_of_an_infinite_divergence(tmp_path):
    ring = bestiary.load_data("ring")
    x = ring.test[:200].x
    found = Evaluator(ring, n=100).evaluate(replay(ring.spec, x[x[:, 0] > 1]), ["modes"])
    assert found.scores["modes_found"].value == 3
    assert found.scores["mode_reverse_kl"].value == pytest.approx(math.log(8 / 3), abs=0.02)
    assert found.unavailable == {"mode_forward_kl": "it is infinite, for 5 of 8 modes are missed"}


def test_modes_of_stacks_are_counted_by_the_classifier_of_single_images(digits, monkeypatch):
    def stacked(split):
        members = torch.arange(3 * 90).view(90, 3) % len(split)
        return StackedSplit(split, members, classes=10)

    data = replace(
        digits, name="stacked", spec=ImageSpec(3, 8, 8, 17), source="stacked-mnist", classes=None,
        train=stacked(digits.train), validation=stacked(digits.validation), test=stacked(digits.test),
    )  # fmt: skip
    monkeypatch.setattr(sample_scores, "singles_of", lambda _: digits)
    found = Evaluator(data, n=90).floor(["modes"])
    true = len(set(data.validation.labels.tolist()))
    assert found.scores["modes_found"].value == pytest.approx(true, abs=3)
    assert "10³ stacked classes" in found.scores["modes_found"].protocol
    assert "mode_quality" not in found.scores
    assert "1,000 modes are missed" in found.unavailable["mode_forward_kl"]
    assert "modes" in default_metrics(data)
    reason = Evaluator(digits, n=20).floor(["modes"]).unavailable["modes"]
    assert reason == "the modes of digits are not known"


def test_codes_and_reconstructions_are_of_unseen_images(digits):
    model = create("ppca", spec=digits.spec, latent_dim=5)
    model.fit(digits.train)
    found = evaluate(digits, model, ["active-units", "reconstruction"], n=200)
    x = digits.test[:200].x
    expected = metrics.psnr(real=x, fake=model.reconstruct(x))
    assert found.scores["active_units"].value == 5
    assert found.scores["active_units"].protocol == "active-units[variance>0.01, of 5, n=200, test]"
    assert found.scores["psnr"].value == pytest.approx(expected.value)
    assert found.scores["psnr"].protocol == "psnr[n=200, test]"
    assert found.unavailable == {
        "ssim": "real: found 8×8 pixels, ssim wants 11×11 or more",
        "lpips": "real: found 8×8 pixels, lpips vgg wants 16×16 or more",
    }
    gan = evaluate(digits, create("ns-gan", spec=digits.spec, channels=2), ["active-units", "reconstruction"])
    assert set(gan.unavailable.values()) == {"GAN has no encoder"}
    ring = bestiary.load_data("ring")
    points = evaluate(ring, create("ppca", spec=ring.spec, latent_dim=1), ["reconstruction"])
    assert points.unavailable == {"reconstruction": "ring has no images"}


def test_directions_of_many_dimensions_are_active_though_they_vary_little(digits, monkeypatch):
    """Uniform on the sphere in R^300 each number has a variance of 1/300, below Burda's threshold."""
    model = create("spherical-vae", spec=digits.spec, hidden=[4], latent_dim=299)
    directions = torch.nn.functional.normalize(torch.randn(200, 300))
    monkeypatch.setattr(model, "encode", lambda x, condition=None: directions[: len(x)])
    score = evaluate(digits, model, ["active-units"], n=200).scores["active_units"]
    assert (score.value, score.protocol) == (300, "active-units[variance>3.33333e-05, of 300, n=200, test]")


def test_annealing_agrees_with_many_particles_where_the_code_says_little(digits, monkeypatch):
    monkeypatch.setattr(model_scores, "_TEMPERATURES", 30)
    monkeypatch.setattr(model_scores, "ANNEALED", 4)
    monkeypatch.setattr(model_scores, "PARTICLES", 4000)
    torch.manual_seed(0)
    vae = create("vae", spec=digits.spec, hidden=[8], latent_dim=2, seed=0)
    annealed = evaluate(digits, vae, ["annealed"], n=200).scores["annealed_nats"]
    bound = evaluate(digits, vae, ["likelihood"], n=4).scores["nats"]
    assert annealed.n_real == 4
    assert annealed.value == pytest.approx(bound.value, abs=0.3)
    assert annealed.protocol == (
        "annealed-likelihood[log mass of 17 levels, 30 temperatures, 8 chains, HMC 10 leapfrog, n=4, test]"
    )
    assert is_bound("annealed_nats", annealed)
    assert all(parameter.grad is None for parameter in vae.parameters())
    ppca = evaluate(digits, create("ppca", spec=digits.spec, latent_dim=2), ["annealed"])
    assert ppca.unavailable == {"annealed": "PPCA has no p(x|z) that could be annealed"}


@pytest.mark.parametrize("split", ["validation", "test"])
def test_the_parzen_window_is_not_chosen_on_what_it_is_judged_on(digits, split):
    told = digits.train[:100].x
    with pytest.warns(UserWarning, match="rank models wrongly"):
        found = evaluate(digits, replay(digits.spec, told), ["parzen"], n=100, split=split)
    judged, chosen_on = (
        (digits.test, digits.validation) if split == "test" else (digits.validation, digits.train)
    )
    with pytest.warns(UserWarning, match="rank models wrongly"):
        expected = metrics.parzen_window(
            real=judged[:100].x.flatten(1), fake=told.flatten(1), validation=chosen_on[:1000].x.flatten(1)
        )
    assert found.scores["parzen"].value == expected.value
    assert f"pixels, {split}" in found.scores["parzen"].protocol


def test_what_is_not_finite_becomes_a_reason_and_files_stay_json(digits, tmp_path, monkeypatch):
    found = evaluate(digits, replay(digits.spec, torch.full((1, 1, 8, 8), math.nan), math.inf), FAST)
    assert found.scores == {}
    assert found.unavailable["nats"] == "its value is infinite"
    assert found.unavailable["frechet"] == found.unavailable["memorisation"] == "its samples are not finite"
    model = create("vae", spec=digits.spec, hidden=[4], latent_dim=2)
    run = bestiary.train(model, digits, budget="2 rounds", out=tmp_path / "r")
    monkeypatch.setattr(type(model), "log_prob_bound", lambda self, x, **_: torch.full((len(x),), -math.inf))
    scores = bestiary.evaluate(run, metrics=["likelihood"], n=20)
    assert set(scores) == {"elbo_nats", "elbo_bits_per_dim"}
    lines = (run.folder / "scores.jsonl").read_text().splitlines()
    assert {json.loads(line)["metric"] for line in lines} == set(scores)


def test_scores_of_a_diverged_run_are_of_its_last_checkpoint_and_say_so(digits, tmp_path):
    model = create("vae", spec=digits.spec, hidden=[4], latent_dim=2, batch_size=50)

    def explode(training):
        if training.clock.rounds == 4:
            next(training.model.decoder.parameters()).data.fill_(math.nan)

    run = bestiary.train(
        model, digits, budget="9 rounds", out=tmp_path / "r", observers=[explode], checkpoint_seconds=0.0
    )
    assert run.status == "diverged"
    told = []
    bestiary.evaluate(run, metrics=["reconstruction"], n=20, say=told.append)
    assert any("note: the run diverged" in line and "after 200 examples" in line for line in told), told
    lines = [json.loads(line) for line in (run.folder / "scores.jsonl").read_text().splitlines()]
    assert {(line["examples"], line["data"]) for line in lines} == {(200, "digits")}


def test_an_own_network_is_an_embedding(tmp_path, digits):
    model = create("vae", spec=digits.spec, hidden=[4], latent_dim=2)
    run = bestiary.train(model, digits, budget="2 rounds", out=tmp_path / "r")
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    score = bestiary.evaluate(run, metrics=["frechet"], n=50, embedding=network)["frechet"]
    assert score.protocol.startswith("frechet[Sequential ")


def test_points_are_their_own_features():
    ring = bestiary.load_data("ring")
    found = evaluate(
        ring, create("ns-gan", spec=ring.spec, hidden=[8]), ["frechet", "memorisation", "classes"]
    )
    assert found.scores["frechet"].protocol.startswith("frechet[points")
    assert "made on demand" in found.unavailable["memorisation"]
    assert "has no images with class labels" in found.unavailable["classes"]


def test_scores_are_added_to_the_run(tmp_path, digits):
    model = create("vae", spec=digits.spec, hidden=[4], latent_dim=2)
    run = bestiary.train(model, digits, budget="2 rounds", out=tmp_path / "r")
    said = []
    scores = bestiary.evaluate(run.folder, metrics=["likelihood"], n=50, say=said.append)
    lines = run.scores()
    assert [line["metric"] for line in lines] == list(scores)
    assert lines[0]["split"] == "validation"
    assert {line["metric"]: line["value"] for line in lines}["nats"] == scores["nats"].value
    with pytest.raises(OptionError, match="did you mean 'frechet'"):
        bestiary.evaluate(run.folder, metrics=["frechett"])
    with pytest.raises(BestiaryError, match="was made for 1x8x8 images of 17 levels, but digits-fixed has"):
        bestiary.evaluate(run.folder, bestiary.load_data("digits-fixed"), metrics=["likelihood"])


SETTINGS = {
    "vae": {"hidden": [8], "network": "mlp", "latent_dim": 2, "batch_size": 100},
    "ppca": {"latent_dim": 3},
}


def compare(data, out, **options):
    defaults = {"budget": "3 rounds", "n": 100, "metrics": FAST, "embedding": "pixels", "settings": SETTINGS}
    return bestiary.compare(data, ["ppca", "vae"], out=out, **{**defaults, **options})


def test_a_comparison_writes_its_table_and_its_page(tmp_path, digits):
    comparison = compare(digits, tmp_path / "c", precision="float32")
    assert {p.name for p in (tmp_path / "c").iterdir() if p.name != ".lock"} == {
        "comparison.csv", "comparison.json", "comparison.npz", "report.html", "runs",
    }  # fmt: skip
    stored = Comparison.load(tmp_path / "c")
    assert [e.model for e in stored.entries] == ["ppca", "vae"]
    assert stored.entries[1].examples == 300
    assert stored.entries[1].scores["nats"] == comparison.entries[1].scores["nats"]
    assert [e.arithmetic for e in stored.entries] == ["", "float32"]
    for entry in stored.entries:
        assert len(entry.nats) == entry.scores["nats"].n_real
        assert entry.nats.mean() == pytest.approx(entry.scores["nats"].value)
    assert stored.floors["frechet"].value < stored.entries[0].scores["frechet"].value
    assert any(note.startswith("frechet: its bias at 100 examples is not small") for note in stored.notes)
    with pytest.raises(RunError, match="exists already and is not empty"):
        compare(digits, tmp_path / "c")
    path = tmp_path / "c" / "runs" / "vae" / "state.json"
    path.write_text(re.sub(r'"seconds": [\d.e-]+', '"seconds": 500.0', path.read_text()))
    again = compare(digits, tmp_path / "c", resume=True, precision="float32")
    assert 500 < again.seconds_total < 1000  # with what was trained before
    assert again.entries[0].scores == comparison.entries[0].scores


def test_a_stopped_comparison_goes_on(tmp_path, digits):
    def interrupt(training):
        if training.clock.rounds == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(
        StoppedError, match="stopped by Ctrl-C while vae was training; what is trained is kept"
    ):
        compare(digits, tmp_path / "c", watch=lambda _: [interrupt], metrics=["likelihood"])
    resumed = compare(digits, tmp_path / "c", resume=True, metrics=["likelihood"])
    whole = compare(digits, tmp_path / "whole", metrics=["likelihood"])
    assert resumed.entries[1].scores == whole.entries[1].scores
    with pytest.raises(RunError, match=r"models: found vae, but the comparison in .* has ppca too"):
        bestiary.compare(digits, ["vae"], budget="3 rounds", out=tmp_path / "c", resume=True)


def test_what_cannot_be_compared_is_refused_before_anything_is_made(tmp_path, digits):
    for wrong, message in [
        ({"settings": {"ns-gan": {}}}, "settings: found some for ns-gan, which is not among the models"),
        ({"budget": "0 epochs"}, "wanted an amount above zero"),
        ({"metrics": ["fid2"]}, "unknown metric 'fid2'"),
        ({"embedding": "pixel"}, "unknown embedding 'pixel': did you mean 'pixels'?"),
        ({"settings": {"vae": {"hiden": [3]}}}, "did you mean 'hidden'"),
    ]:
        with pytest.raises(OptionError, match=message):
            compare(digits, tmp_path / "c", **wrong)
    with pytest.raises(OptionError, match="found 'ppca' twice"):
        bestiary.compare(digits, ["ppca", "pca"], budget="1 rounds", out=tmp_path / "c")
    assert not (tmp_path / "c").exists()
