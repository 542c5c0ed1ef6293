"""Scores of runs: right names, right units, right splits; and comparisons that go on where they stopped."""

import math
import os
import signal

import pytest
import torch

import bestiary
from bestiary.catalogue import create
from bestiary.errors import BestiaryError, OptionError, RunError, StoppedError
from bestiary.runs.evaluation import Evaluator
from bestiary.study.results import Comparison

FAST = ["likelihood", "frechet", "prd", "memorisation"]


@pytest.fixture(scope="module")
def digits():
    return bestiary.load_data("digits")


def evaluate(data, model, names, **options):
    return Evaluator(data, embedding_name="pixels", **{"n": 200, **options}).evaluate(model, names)


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
    assert found.unavailable["bits_per_dim"] == "GAN has no likelihood"
    assert set(found.scores) == {"prd_f8", "prd_f1_8"}
    assert found.sampling_seconds > 0
    assert found.samples.shape == (200, 1, 8, 8)


def test_real_data_come_closest_and_n_is_what_the_split_has(digits):
    evaluator = Evaluator(digits, n=10_000, embedding_name="pixels")
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


def test_points_are_their_own_features():
    ring = bestiary.load_data("ring")
    found = evaluate(
        ring, create("ns-gan", spec=ring.spec, hidden=[8]), ["frechet", "memorisation", "classes"]
    )
    assert found.scores["frechet"].protocol.startswith("frechet[points")
    assert "made on demand" in found.unavailable["memorisation"]
    assert "has no class labels" in found.unavailable["classes_found"]


def test_scores_are_added_to_the_run(tmp_path, digits):
    model = create("vae", spec=digits.spec, hidden=[4], latent_dim=2)
    run = bestiary.train(model, digits, budget="2 rounds", out=tmp_path / "r")
    said = []
    scores = bestiary.evaluate(run.folder, metrics=["likelihood"], n=50, say=said.append)
    lines = run.scores()
    assert [line["metric"] for line in lines] == list(scores)
    assert lines[0]["split"] == "validation"
    assert lines[0]["value"] == scores["nats"].value
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
    comparison = compare(digits, tmp_path / "c")
    assert {p.name for p in (tmp_path / "c").iterdir()} == {
        "comparison.csv", "comparison.json", "comparison.npz", "report.html", "runs",
    }  # fmt: skip
    stored = Comparison.load(tmp_path / "c")
    assert [e.model for e in stored.entries] == ["ppca", "vae"]
    assert stored.entries[1].examples == 300
    assert stored.entries[1].scores["nats"] == comparison.entries[1].scores["nats"]
    assert stored.floors["frechet"].value < stored.entries[0].scores["frechet"].value
    with pytest.raises(RunError, match="exists already and is not empty"):
        compare(digits, tmp_path / "c")
    again = compare(digits, tmp_path / "c", resume=True)
    assert again.entries[0].scores == comparison.entries[0].scores


def test_a_stopped_comparison_goes_on(tmp_path, digits):
    def interrupt(training):
        if training.clock.rounds == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(
        StoppedError, match="stopped by Ctrl-C while vae was training; what is trained is kept"
    ):
        compare(digits, tmp_path / "c", watch=lambda _: [interrupt])
    resumed = compare(digits, tmp_path / "c", resume=True)
    whole = compare(digits, tmp_path / "whole")
    assert resumed.entries[1].scores == whole.entries[1].scores


def test_what_cannot_be_compared_is_refused_before_anything_is_made(tmp_path, digits):
    for wrong, message in [
        ({"settings": {"ns-gan": {}}}, "settings: found some for ns-gan, which is not among the models"),
        ({"budget": "0 epochs"}, "wanted an amount above zero"),
        ({"metrics": ["fid2"]}, "unknown metric 'fid2'"),
        ({"settings": {"vae": {"hiden": [3]}}}, "did you mean 'hidden'"),
    ]:
        with pytest.raises(OptionError, match=message):
            compare(digits, tmp_path / "c", **wrong)
    with pytest.raises(OptionError, match="found 'ppca' twice"):
        bestiary.compare(digits, ["ppca", "pca"], budget="1 rounds", out=tmp_path / "c")
    assert not (tmp_path / "c").exists()
