"""The alarm of a mode collapse: it rings where it should, once, and changes nothing."""

import json
import math
import signal
import warnings
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD

import bestiary
from bestiary.data.points import ring_centres
from bestiary.data.specs import PointSpec
from bestiary.data.splits import ArraySplit, Batch
from bestiary.errors import DataError, OptionError
from bestiary.metrics.diversity import DataCells, relative_spread
from bestiary.models import Clock, Critic, Model, Move, Player, Sampler
from bestiary.runs import load, mode_collapse
from bestiary.runs.mode_collapse import SampleDiversity
from bestiary.runs.observers import Samples

KINDS = 8


def points(kinds, n=512, seed=0, sigma=0.02):
    """Points of the ring around the centres that are named, in turn."""
    noise = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))
    return ring_centres()[torch.tensor(kinds)[torch.arange(n) % len(kinds)]] + sigma * noise


class Drawing(Model, Sampler, Critic):
    """Draws what it is told to, whatever one trains."""

    def __init__(self, spec, *, kinds: list[int], learning_rate: float = 0.1, batch_size: int = 10):
        super().__init__(spec, batch_size=batch_size)
        self.kinds = kinds
        self.weight = nn.Parameter(torch.zeros(2))

    def players(self):
        return {"generator": Player([self.weight], partial(SGD, lr=0.1))}

    def moves(self, clock):
        return [Move("generator", self.cost)]

    def cost(self, step):
        noise = step.normal(2) + torch.rand(
            2
        )  # of the step, and of the global state that the loop has forked
        return {"loss": (self.weight - step.x - noise).square().mean()}

    def sample(self, n, *, condition=None, generator=None):
        return points(self.kinds, n, seed=1)

    def score(self, x, *, condition=None):
        return x[:, 0]


@pytest.fixture(scope="module")
def ring():
    return bestiary.load_data("ring")


@pytest.fixture(scope="module", autouse=True)
def few_rounds_and_no_pictures():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mode_collapse, "_FIRST_ROUNDS", 15)
        patch.setattr(Samples, "__call__", lambda self, training: None)
        yield


def train(data, out, kinds=(3,), budget="40 rounds", **options):
    model = Drawing(data.spec, kinds=list(kinds))
    return bestiary.train(model, data, budget=budget, out=out, **options)


def silently(function, *arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return function(*arguments, **options)


def values(run, metric):
    return [line["value"] for line in run.scores() if line["metric"] == metric]


# The metrics


def test_missed_mass_is_the_share_of_the_modes_that_are_not_drawn():
    cells = DataCells(points(range(KINDS), 1000), embedding="points")
    for kinds in ([0], [0, 4], [1, 2, 3, 5, 7], range(KINDS)):
        found = cells.missed(points(list(kinds), seed=2))
        assert found.value == pytest.approx(1 - len(kinds) / KINDS, abs=0.01)
        assert found.missed == KINDS - len(kinds)
        assert sum(found.real) == pytest.approx(1)
        assert sum(found.fake) == pytest.approx(1)
    assert found.protocol == "missed-mass[points, 8 cells, n_real=1000, n_fake=512]"


def test_tight_modes_are_one_cell_and_a_continuum_is_not():
    assert len(DataCells(points(range(KINDS), 1000), cells=25).missed(points([0])).real) == KINDS
    uniform = torch.rand(1000, 2, generator=torch.Generator().manual_seed(0))
    assert len(DataCells(uniform, cells=25).missed(uniform).real) > 15


def test_a_rare_visit_counts_as_none_and_a_fifth_does():
    cells = DataCells(points(range(KINDS), 1000))
    for per_mode, missed in ((10, 7 / 8), (20, 0.0)):  # of 625 they would be 78 each
        rare = torch.cat([points(range(1, KINDS), 7 * per_mode), points([0], 625 - 7 * per_mode)])
        assert cells.missed(rare).value == pytest.approx(missed, abs=0.01)


def test_other_examples_miss_nothing_and_swapped_sets_say_the_contrary():
    real = points(range(KINDS), 1000)
    assert DataCells(real).missed(points(range(KINDS), seed=5)).value == 0
    assert DataCells(points([0, 4])).missed(real).value == 0


def test_the_error_of_missed_mass_is_that_of_repeated_draws():
    draw = torch.Generator().manual_seed(0)

    def some(n, weights):
        kinds = torch.multinomial(torch.tensor(weights), n, replacement=True, generator=draw)
        return ring_centres()[kinds] + 0.02 * torch.randn(n, 2, generator=draw)

    found = [DataCells(some(400, [1.0] * 8)).missed(some(200, [1.0] * 3 + [0.0] * 5)) for _ in range(25)]
    spread = np.std([score.value for score in found])
    assert np.mean([score.error for score in found]) == pytest.approx(spread, rel=0.4)


def test_relative_spread_is_the_ratio_of_distances():
    real, fake = torch.randn(2, 300, 5, generator=torch.Generator().manual_seed(0)).double()
    found = relative_spread(real=real, fake=0.3 * fake + 7)
    distances = [torch.pdist(x).square().mean().sqrt() for x in (real, 0.3 * fake)]
    assert found.value == pytest.approx((distances[1] / distances[0]).item(), rel=1e-9)
    assert found.value == pytest.approx(0.3, abs=4 * found.error)
    assert relative_spread(real=real, fake=real).value == 1
    assert relative_spread(real=fake, fake=torch.ones(9, 5)).value == 0
    assert math.isnan(relative_spread(real=torch.ones(9, 5), fake=fake).value)


def test_the_error_of_relative_spread_is_that_of_repeated_draws():
    draw = torch.Generator().manual_seed(0)
    groups = torch.arange(60) % 3
    found = [
        relative_spread(
            real=torch.randn(60, 2, generator=draw), fake=torch.rand(60, 2, generator=draw), groups=groups
        )
        for _ in range(300)
    ]
    spread = np.std([score.value for score in found])
    assert np.mean([score.error for score in found]) == pytest.approx(spread, rel=0.15)


def test_within_groups_only_what_varies_there_counts():
    groups = torch.arange(512) % KINDS
    real = points(range(KINDS))
    one_each = points(range(KINDS), sigma=0.0)
    assert relative_spread(real=real, fake=one_each).value == pytest.approx(1, abs=0.01)
    assert relative_spread(real=real, fake=one_each, groups=groups).value < 1e-5
    other = points(range(KINDS), seed=9)
    assert relative_spread(real=real, fake=other, groups=groups).value == pytest.approx(1, abs=0.1)


def test_mistakes_are_told():
    x = points([0])
    with pytest.raises(OptionError, match="cells: found 1, wanted at least 2"):
        DataCells(x, cells=1)
    with pytest.raises(DataError, match="fake: found NaN"):
        DataCells(x).missed(x * math.nan)
    with pytest.raises(DataError, match="fake: found 3 features an example, wanted 2 as in real"):
        DataCells(x).missed(torch.rand(5, 3))
    with pytest.raises(DataError, match="groups: found 3 for 512 and 512 examples"):
        relative_spread(real=x, fake=x, groups=torch.arange(3))


def test_fewer_distinct_examples_than_cells_are_no_trouble():
    few = torch.tensor([[0.0, 0.0], [1.0, 0.0]]).repeat(20, 1)
    assert silently(DataCells, few).missed(few[:1].repeat(9, 1)).value == 0.5


# The alarm


@pytest.fixture(scope="module")
def collapsed(ring, tmp_path_factory):
    """A run that draws one mode of eight, and what was said about it."""
    with pytest.warns(UserWarning, match="mode collapse") as told:
        run = train(ring, tmp_path_factory.mktemp("collapsed") / "r")
    return run, [str(one.message) for one in told]


def test_a_collapse_is_told_once_and_noted_in_the_run(collapsed):
    run, told = collapsed
    expected = (
        "mode collapse: samples miss 87 % of the data, and lie 0.01 times as far apart as data do, after 50 %"
        " of the budget: try learning_rate below 0.1, wgan-gp or unrolled-gan"
    )
    assert told == run.state["warnings"] == [expected]
    missed, spread = (
        [line for line in run.scores() if line["metric"] == name]
        for name in ("missed_mass", "relative_spread")
    )
    assert [line["examples"] for line in missed] == [160, 200, 240, 280, 320, 360, 400]
    assert [line["examples"] for line in spread] == [160, 200, 240, 280, 320, 360, 400]
    assert missed[0]["value"] == pytest.approx(7 / 8, abs=0.04)
    assert missed[0]["protocol"] == "missed-mass[points, 8 cells, n_real=1000, n_fake=512, train]"
    assert sum(p for p, q in zip(missed[0]["real"], missed[0]["fake"], strict=True) if q == 0) == (
        pytest.approx(missed[0]["value"])
    )
    assert spread[0]["value"] == pytest.approx(0.02 * math.sqrt(2) / 2, rel=0.1)  # σ√2 over the radius
    assert spread[0]["protocol"] == "relative-spread[points, n=512, train]"
    assert {(line["split"], line["n_fake"]) for line in run.scores()} == {("train", 512)}


@pytest.mark.parametrize("at", [18, 30])  # between the two looks that it takes, and after it was told
def test_after_an_interruption_it_is_not_told_again_and_all_is_the_same(collapsed, ring, tmp_path, at):
    def interrupt(training):
        if training.clock.rounds == at:
            signal.raise_signal(signal.SIGINT)

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert train(ring, tmp_path / "r", observers=[interrupt]).status == "stopped"
        resumed = train(ring, tmp_path / "r", resume=True)
    through, _ = collapsed
    assert len(told) == 1
    assert resumed.state["warnings"] == through.state["warnings"]
    assert resumed.scores() == through.scores()


def test_watching_changes_no_weight_and_all_modes_are_no_collapse(ring, tmp_path, monkeypatch):
    watched = silently(train, ring, tmp_path / "watched", range(KINDS))
    assert "warnings" not in watched.state
    assert values(watched, "missed_mass") == [0.0] * 7
    assert values(watched, "relative_spread") == pytest.approx([1.0] * 7, abs=0.05)
    monkeypatch.setattr(SampleDiversity, "__call__", lambda self, training: None)
    alone = train(ring, tmp_path / "alone", range(KINDS))
    assert alone.scores() == []
    weights = [load(run.folder, model=Drawing).weight for run in (watched, alone)]
    assert torch.equal(*weights)


def test_samples_that_are_not_finite_are_passed_over(ring, tmp_path, monkeypatch):
    monkeypatch.setattr(Drawing, "sample", lambda self, n, **_: torch.full((n, 2), math.nan))
    run = silently(train, ring, tmp_path / "r")
    assert run.scores() == []
    assert run.status == "finished"


def test_other_models_and_short_trainings_say_nothing(ring, tmp_path):
    assert silently(train, ring, tmp_path / "short", budget="14 rounds").scores() == []
    vae = bestiary.create("vae", spec=ring.spec, hidden=[4], latent_dim=2)
    run = silently(bestiary.train, vae, ring, budget="40 rounds", out=tmp_path / "vae")
    assert run.scores() == []


def looks(tmp_path, source, *kinds_at, model=None, rate=1e-3):
    """What is told when a model draws these kinds at these shares of the budget."""
    alarm = SampleDiversity(tmp_path / "s.jsonl", Clock())
    model = model or Drawing(PointSpec(2), kinds=[0])
    optimizers = {"generator": SGD(model.parameters(), lr=rate)}
    for progress, kinds in kinds_at:
        model.kinds = list(kinds)
        clock = Clock(rounds=5000, progress=progress, updates={"generator": 5000})
        alarm(SimpleNamespace(model=model, source=source, clock=clock, optimizers=optimizers))
    return alarm.warned


@pytest.mark.parametrize(
    ("drawn", "rings"),
    [
        ([(0.4, [0]), (0.5, [0])], True),
        ([(0.4, [0]), (0.5, [3])], True),  # modes that hop
        ([(0.4, [0, 4]), (0.5, [0, 4])], True),  # far apart, and yet only two
        ([(0.5, [0])], False),  # one look is none
        ([(0.3, [0]), (0.4, [0])], False),  # too early
        ([(0.5, [0]), (0.6, range(KINDS)), (0.7, [0])], False),
        ([(0.4, [0, 2, 4, 6]), (0.5, [0, 2, 4, 6])], False),  # half of the data
    ],
)
def test_when_it_rings(ring, tmp_path, drawn, rings):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        warned = looks(tmp_path, ring.train, *drawn)
    assert len(told) == len(warned) == rings


def test_at_a_small_learning_rate_it_waits_until_something_can_be_learned(ring, tmp_path):
    assert silently(looks, tmp_path, ring.train, (0.5, [0]), (0.6, [0]), rate=5e-5) == []
    assert len((tmp_path / "s.jsonl").read_text().splitlines()) == 4


def conditional(values):
    split = ArraySplit(points(range(KINDS)), levels=None)
    split.take = lambda indices, generator=None: Batch(points(range(KINDS))[indices], values[indices])
    return split


@pytest.mark.parametrize("shared", [True, False])
def test_one_sample_for_each_condition_is_a_collapse_where_conditions_repeat(tmp_path, shared, monkeypatch):
    """Where they do not, nobody knows how data with one condition vary."""
    vectors = torch.eye(KINDS)[torch.arange(512) % KINDS]
    if not shared:
        vectors = vectors + torch.rand(512, 1)
    monkeypatch.setattr(Drawing, "sample", lambda self, n, condition, **_: condition @ ring_centres())
    model = Drawing(PointSpec(2), kinds=[0])
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        looks(tmp_path, conditional(vectors), (0.5, [0]), (0.6, [0]), model=model)
    assert len(told) == shared
    lines = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    assert lines[0]["value"] == 0
    assert ("within 8 groups" in lines[1]["protocol"]) == shared


def test_data_that_are_all_alike_or_too_few_are_not_watched(tmp_path):
    for n in (1, 30):
        silently(looks, tmp_path, ArraySplit(torch.ones(n, 2), levels=None), (0.5, [0]), (0.6, [0]))
    assert not (tmp_path / "s.jsonl").exists()


def test_remedies_are_those_of_the_model(ring):
    gan = bestiary.create("minimax-gan", spec=ring.spec, hidden=[4], learning_rate=0.003)
    assert mode_collapse._remedies(gan) == (
        "packing=2, minibatch_discrimination=100, learning_rate below 0.003, wgan-gp or unrolled-gan"
    )
    packed = bestiary.create("wgan-gp", spec=ring.spec, hidden=[4], packing=2, generator_learning_rate=0.02)
    assert mode_collapse._remedies(packed) == (
        "minibatch_discrimination=100, generator_learning_rate below 0.02 or unrolled-gan"
    )


SMALL = {"network": "mlp", "hidden": [32], "latent_dim": 4, "batch_size": 64}


def test_a_real_game_that_collapses_and_one_that_does_not(tmp_path, monkeypatch):
    monkeypatch.setattr(mode_collapse, "_FIRST_ROUNDS", 100)
    digits, grid = bestiary.load_data("digits"), bestiary.load_data("grid", side=2, sigma=0.5)
    lost = bestiary.create("minimax-gan", spec=digits.spec, seed=1, learning_rate=1e-2, beta1=0.9, **SMALL)
    with pytest.warns(UserWarning, match="mode collapse: samples miss .. % of the data"):
        bestiary.train(lost, digits, budget="150 rounds", out=tmp_path / "lost", precision="float32")
    sound = bestiary.create("ns-gan", spec=grid.spec, seed=1, learning_rate=1e-2, beta1=0.5, **SMALL)
    exact = {"out": tmp_path / "sound", "precision": "float32"}
    run = silently(bestiary.train, sound, grid, budget="500 rounds", **exact)
    assert values(run, "missed_mass")[-1] < 0.3


# Where it is shown


def test_what_training_warned_of_is_in_the_report_and_told_before_scores(ring, tmp_path):
    with pytest.warns(UserWarning, match="mode collapse"):
        found = bestiary.compare(
            ring, [Drawing(ring.spec, kinds=[3])], budget="40 rounds", out=tmp_path / "c", n=50,
            metrics=["modes"],
        )  # fmt: skip
    assert len(found.entries[0].warnings) == 1
    page = (tmp_path / "c" / "report.html").read_text()
    assert "The training of Drawing warned of mode collapse: samples miss 87 % of the data" in page
    stored = type(found).load(tmp_path / "c")
    assert stored.entries[0].warnings == found.entries[0].warnings
    nasty = replace(found, entries=[replace(found.entries[0], warnings=["<b>"])])
    from bestiary.report.comparison import render

    assert "warned of &lt;b&gt;." in render(nasty)
    said = []
    folder = tmp_path / "c" / "runs" / "Drawing"
    bestiary.evaluate(folder, ring, metrics=["modes"], n=50, model=Drawing, say=said.append)
    assert any(line.startswith("note: mode collapse: samples miss 87 %") for line in said)
