"""The alarm of a posterior collapse: it rings where it should, once, and changes nothing."""

import json
import signal
import warnings

import pytest
import torch

import bestiary
from bestiary.data.specs import Classes, ImageSpec, PointSpec
from bestiary.data.splits import Batch
from bestiary.distributions.gaussian import gaussian_kl
from bestiary.models.base import Clock
from bestiary.models.latent.conditional_vae import ConditionalVAE
from bestiary.models.latent.spherical_vae import SphericalVAE
from bestiary.models.latent.vae import VAE
from bestiary.runs.collapse import CodesInUse, kl_by_unit

SMALL = {
    "network": "mlp", "hidden": [32], "latent_dim": 5, "optimizer": "adam", "learning_rate": 3e-3,
    "batch_size": 50,
}  # fmt: skip
ROUNDS = "600 rounds"


@pytest.fixture(scope="module")
def digits():
    return bestiary.load_data("digits")


def train(data, out, *, beta, budget=ROUNDS, **options):
    model = bestiary.create("beta-vae", spec=data.spec, seed=0, beta=beta, **SMALL)
    return bestiary.train(model, data, budget=budget, out=out, **options)


def counts(run):
    return [line for line in run.scores() if line["metric"] == "active_units"]


@pytest.fixture(scope="module")
def collapsed(digits, tmp_path_factory):
    """A run whose codes fell out of use, and what was said about it."""
    with pytest.warns(UserWarning, match="posterior collapse") as told:
        run = train(digits, tmp_path_factory.mktemp("collapsed") / "r", beta=1000.0)
    return run, [str(one.message) for one in told]


def test_a_collapse_is_told_once_and_noted_in_the_run(collapsed):
    run, told = collapsed
    assert len(told) == 1
    assert told[0].startswith("posterior collapse: 0 of 5 units of the code are in use, with ")
    assert "lower beta (now 1000)" in told[0]
    assert "\n" not in told[0]
    assert run.state["warnings"] == told
    lines = counts(run)
    assert [line["examples"] for line in lines] == [15_000, 18_000, 21_000, 24_000, 27_000, 30_000]
    assert lines[-1]["value"] == 0
    assert (lines[-1]["split"], lines[-1]["n_real"]) == ("train", 256)
    assert lines[-1]["protocol"] == "active-units[variance>0.01, of 5, n=256, train]"
    assert len(lines[-1]["variances"]) == len(lines[-1]["kl"]) == 5
    assert sum(lines[-1]["kl"]) < 0.25


def test_after_an_interruption_it_is_not_told_again_and_all_is_the_same(collapsed, digits, tmp_path):
    def interrupt(training):
        if training.clock.rounds == 390:
            signal.raise_signal(signal.SIGINT)

    with pytest.warns(UserWarning, match="posterior collapse"):
        stopped = train(digits, tmp_path / "r", beta=1000.0, observers=[interrupt])
    assert stopped.status == "stopped"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resumed = train(digits, tmp_path / "r", beta=1000.0, resume=True)
    through, _ = collapsed
    assert resumed.state["warnings"] == through.state["warnings"]
    assert resumed.scores() == through.scores()
    for ours, theirs in zip(resumed.model.parameters(), through.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_healthy_model_is_left_alone_and_watching_changes_no_weight(digits, tmp_path, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        watched = train(digits, tmp_path / "watched", beta=1.0)
    assert counts(watched)[-1]["value"] >= 2
    assert "warnings" not in watched.state
    line = counts(watched)[-1]
    active = [kl for kl, variance in zip(line["kl"], line["variances"], strict=True) if variance > 0.01]
    assert len(active) == line["value"]
    assert sum(active) > 0.9 * sum(line["kl"])
    monkeypatch.setattr(CodesInUse, "__call__", lambda self, training: None)
    alone = train(digits, tmp_path / "alone", beta=1.0)
    assert counts(alone) == []
    for ours, theirs in zip(watched.model.parameters(), alone.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_other_models_and_short_trainings_say_nothing(digits, tmp_path):
    short = train(digits, tmp_path / "short", beta=1000.0, budget="50 rounds")
    assert counts(short) == []
    plain = bestiary.create("autoencoder", spec=digits.spec, network="mlp", hidden=[4], latent_dim=2)
    run = bestiary.train(plain, digits, budget="400 rounds", out=tmp_path / "plain")
    assert run.scores() == []


class Watched:
    """A training at some point of its budget, of a model whose codes and divergence are given."""

    def __init__(self, model, source, progress, kl):
        self.model, self.source, self._kl = model, source, kl
        self.clock = Clock(rounds=1000, progress=progress)

    def latest_terms(self):
        return {} if self._kl is None else {"model/kl": self._kl}


@pytest.mark.parametrize(
    ("scale", "kl", "progress", "rings"),
    [
        (1.0, 3.0, 0.5, False),
        (0.01, 3.0, 0.5, True),  # no unit is active
        (0.01, 3.0, 0.2, False),  # too early
        (1.0, 0.1, 0.5, True),  # all are, but to no avail
        (1.0, None, 0.5, False),
    ],
)
def test_when_it_rings(tmp_path, monkeypatch, scale, kl, progress, rings):
    model = VAE.tiny(PointSpec(2))
    monkeypatch.setattr(VAE, "encode", lambda self, x, condition=None: scale * x)
    alarm = CodesInUse(tmp_path / "s.jsonl", Clock())
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        alarm(Watched(model, bestiary.load_data("ring").train, progress, kl))
    assert len(told) == len(alarm.warned) == rings
    line = json.loads((tmp_path / "s.jsonl").read_text())
    assert line["value"] == (2 if scale == 1 else 0)


def test_directions_of_many_dimensions_vary_little_and_are_in_use(tmp_path, monkeypatch):
    """Uniform on the sphere in R^300 each number has a variance of 1/300, below Burda's threshold."""
    model = SphericalVAE(PointSpec(2), hidden=[4], latent_dim=299)
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(256, 300, generator=generator))
    monkeypatch.setattr(SphericalVAE, "encode", lambda self, x, condition=None: directions)
    alarm = CodesInUse(tmp_path / "s.jsonl", Clock())
    alarm(Watched(model, bestiary.load_data("ring").train, 0.5, 5.0))
    assert alarm.warned == []
    assert json.loads((tmp_path / "s.jsonl").read_text())["value"] == 300


def test_the_divergence_of_each_unit_adds_up_to_the_whole():
    x = torch.rand(30, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    model = VAE(ImageSpec(1, 4, 4), hidden=[6], latent_dim=3)
    q = model.posterior(x)
    found = kl_by_unit(model, Batch(x))
    assert found.shape == (3,)
    assert found.sum().item() == pytest.approx(gaussian_kl(q.mean, q.log_sigma).mean().item(), rel=1e-5)
    assert kl_by_unit(VAE(ImageSpec(1, 4, 4), hidden=[6], latent_dim=3, posterior="full"), Batch(x)) is None
    assert kl_by_unit(VAE(ImageSpec(1, 4, 4), hidden=[6], latent_dim=3, prior="mixture"), Batch(x)) is None
    assert kl_by_unit(SphericalVAE.tiny(PointSpec(2)), Batch(torch.rand(3, 2))) is None
    labels = torch.arange(30) % 3
    conditional = ConditionalVAE(
        ImageSpec(1, 4, 4, condition=Classes(3)), glimpses=False, hidden=[6], latent_dim=3
    )
    with torch.no_grad():
        context = conditional.context(labels, 30)
        whole = conditional.posterior(x, context).kl_to(conditional.code_prior(context)).mean()
    assert kl_by_unit(conditional, Batch(x, labels)).sum().item() == pytest.approx(whole.item(), rel=1e-5)
