"""The loop, budgets, averages, checkpoints: exact counts, exact resume, honest ends."""

import errno
import json
import math
import os
import platform
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.optim import SGD

from bestiary.catalogue import create
from bestiary.data.specs import ImageSpec, PointSpec
from bestiary.errors import DataError, OptionError, RunError
from bestiary.metrics.results import Score
from bestiary.models import Clock, Model, Move, Player
from bestiary.randomness import forked_randomness
from bestiary.runs import load, open_run, train
from bestiary.testing import random_data
from bestiary.training.budget import Budget, parse_budget
from bestiary.training.checkpoint import newest
from bestiary.training.compilation import choose_compilation
from bestiary.training.ema import Averages
from bestiary.training.loop import DivergedError, Training, _Cost
from bestiary.training.ranks import Ranks
from bestiary.training.runtime import Runtime, choose_runtime

ASSETS = Path(__file__).parent / "assets"
POINTS = PointSpec(2)
SPEC = ImageSpec(1, 8, 8, levels=4)


class Counter(Model):
    """Two players on one number each; every move records what it saw."""

    def __init__(self, spec, *, ema: float | None = None, decay: bool = False, batch_size: int = 4):
        super().__init__(spec, batch_size=batch_size)
        self.a = nn.Parameter(torch.zeros(2))
        self.b = nn.Parameter(torch.zeros(2))
        self.seen = []
        self.projected = 0
        self.ema, self.decay = ema, decay

    def players(self):
        schedule = (lambda clock: 1 - clock.progress) if self.decay else (lambda clock: 1.0)
        return {
            "a": Player([self.a], partial(SGD, lr=0.1), schedule, ema=self.ema),
            "b": Player([self.b], partial(SGD, lr=0.1)),
        }

    def moves(self, clock):
        return [
            Move("a", partial(self.cost, "a"), times=3, after=self.project),
            Move("b", partial(self.cost, "b"), every=2, batch="same"),
            Move("b", partial(self.cost, "b"), batch="none"),
        ]

    def project(self):
        self.projected += 1

    def cost(self, player, step):
        self.seen.append((player, None if step.batch is None else step.x.clone(), step.normal(2)))
        parameter = getattr(self, player)
        target = torch.ones(2) if step.batch is None else step.x.mean(0)
        return {"loss": (parameter - target).square().sum(), "distance": (parameter - target).norm()}


def training(model, data, budget="10 rounds", **options):
    return Training(
        model,
        data.train,
        budget=parse_budget(budget),
        seed=0,
        runtime=choose_runtime(model, device="cpu", precision="float32"),
        **options,
    )


@pytest.mark.parametrize(
    ("text", "amount", "unit", "player"),
    [
        ("2 epochs", 2, "epochs", None),
        ("1 epoch", 1, "epochs", None),
        ("500k examples", 500_000, "examples", None),
        ("1.5M examples", 1_500_000, "examples", None),
        ("10 minutes", 600, "seconds", None),
        ("90 seconds", 90, "seconds", None),
        ("2 hours", 7200, "seconds", None),
        ("15625 discriminator updates", 15625, "updates", "discriminator"),
        ("100 updates", 100, "updates", None),
        ("300 rounds", 300, "rounds", None),
        ("2e15 flops", 2e15, "flops", None),
        ("10_000 examples", 10_000, "examples", None),
    ],
)
def test_budgets_are_read_as_people_write_them(text, amount, unit, player):
    budget = parse_budget(text)
    assert (budget.amount, budget.unit, budget.player) == (amount, unit, player)
    assert parse_budget(str(budget)) == budget


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 epochs", "wanted an amount above zero"),
        ("-3 minutes", "wanted an amount above zero"),
        ("soon", "cannot read 'soon'"),
        ("", "cannot read"),
        ("10 epoks", "did you mean 'epochs'"),
        ("10", "cannot read '10'"),
        ("1e999 rounds", "wanted an amount above zero"),
        ("1.2.3 rounds", "cannot read"),
    ],
)
def test_budgets_that_cannot_be_say_why(text, message):
    with pytest.raises(OptionError, match=message):
        parse_budget(text)


def test_budget_of_an_unknown_player_or_of_epochs_without_end():
    with pytest.raises(OptionError, match="did you mean 'discriminator'"):
        Budget(3, "updates", "discriminater").check(endless=False, players=["discriminator", "generator"])
    with pytest.raises(OptionError, match="have no epochs"):
        Budget(3, "epochs").check(endless=True, players=["model"])


def test_each_move_steps_its_player_as_often_as_it_says():
    model, data = Counter(POINTS), random_data(POINTS)
    t = training(model, data)
    assert t.run().status == "finished"
    assert t.clock.updates == {"a": 30, "b": 15}
    assert t.clock.rounds == 10
    assert t.clock.examples == 10 * 3 * 4  # only moves that draw count; "same" and "none" do not
    assert model.projected == 30


def test_same_reuses_the_batch_and_none_draws_none():
    model = Counter(POINTS)
    training(model, random_data(POINTS), "1 rounds").run()
    players, batches, noise = zip(*model.seen, strict=True)
    assert players == ("a", "a", "a", "b", "b")
    assert torch.equal(batches[3], batches[2])
    assert not torch.equal(batches[1], batches[2])
    assert batches[4] is None
    assert len({tuple(n.flatten().tolist()) for n in noise}) == 5  # fresh noise in every update


def test_two_epochs_are_every_example_exactly_twice():
    data, model = random_data(POINTS, n=30), Counter(POINTS)  # 30 is no multiple of the batch of 4
    training(model, data, "2 epochs").run()
    drawn = torch.cat([x for p, x, _ in model.seen if p == "a"])
    assert len(drawn) == 60
    counts = (drawn[:, None] == data.train[:].x[None]).all(2).sum(0)
    assert counts.tolist() == [2] * 30


def test_schedules_scale_the_learning_rate_from_the_clock():
    model = Counter(POINTS, decay=True)
    t = training(model, random_data(POINTS), "4 rounds")
    rates = []
    t.run([lambda t: rates.append(t.optimizers["a"].param_groups[0]["lr"])])
    assert rates == pytest.approx([0.1, 0.075, 0.05, 0.025])


def test_accumulation_equals_the_whole_batch():
    results = []
    for parts in (1, 2, 4):
        model = create(
            "vae", spec=SPEC, hidden=[8], latent_dim=2, batch_size=16, optimizer="adam", learning_rate=1e-2
        )
        t = training(model, random_data(SPEC), "3 rounds", accumulate=parts)

        # noise is drawn part by part, so equality needs a cost without any
        def bound_at_the_mean(step, model=model):
            codes = model.posterior(step.x).mean
            return {"loss": -model.observation.log_prob(model.decoder(codes), step.x).mean()}

        model.cost = bound_at_the_mean
        t.run()
        results.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(results[2], results[0], rtol=0, atol=1e-5)
    with pytest.raises(OptionError, match="accumulate: found 3, wanted a divisor of the batch size 16"):
        training(model, random_data(SPEC), accumulate=3)


def test_average_has_its_half_life():
    model = Counter(POINTS, ema=40.0)
    averages = Averages(model, model.players())
    with torch.no_grad():
        model.a.fill_(1.0)
    for _ in range(10):  # 10 updates of 4 examples: one half-life
        averages.update("a", 4)
    assert averages.state()["a"].tolist() == pytest.approx([0.5, 0.5])
    assert "b" not in averages.state()


def test_loaded_models_have_the_averaged_weights(tmp_path):
    data = random_data(POINTS)
    train(Counter(POINTS, ema=40.0), data, budget="5 rounds", out=tmp_path / "run")
    averaged = load(tmp_path / "run", model=Counter)
    last = load(tmp_path / "run", model=Counter, averaged=False)
    assert not torch.equal(averaged.a, last.a)
    assert torch.equal(averaged.b, last.b)


def test_scores_and_pictures_while_training_are_of_the_model_that_would_be_loaded(tmp_path):
    data, seen = random_data(POINTS), []

    def score(model):
        seen.append((model.training, torch.is_grad_enabled(), model.a.clone()))
        return {}

    whole = train(Counter(POINTS, ema=40.0), data, budget="5 rounds", out=tmp_path / "whole")
    run = train(Counter(POINTS, ema=40.0), data, budget="5 rounds", out=tmp_path / "run", score=score)
    assert [(training, grad) for training, grad, _ in seen] == [(False, False)] * 5
    assert torch.equal(seen[-1][2], load(run.folder, model=Counter).a)
    last = [load(r.folder, model=Counter, averaged=False).a for r in (whole, run)]
    assert torch.equal(*last)  # the training went on from its own weights


def test_costs_that_are_looked_at_late_are_judged_by_when_they_were_met(monkeypatch):
    """On devices that run ahead of Python many costs are looked at together, the first ones among them."""
    work = training(Counter(POINTS), random_data(POINTS))
    look = Training._look_at_costs
    monkeypatch.setattr(Training, "_look_at_costs", lambda self: None)
    for _ in range(20):
        work.round()
    work._in_flight = [each._replace(value=each.value * 0 + 5e6) for each in work._in_flight]
    look(work)
    assert work.largest_first_cost["a"] == 5e6
    work._in_flight = [_Cost("a", 100, 3, 12, torch.tensor(torch.nan))]
    with pytest.raises(DivergedError, match="is nan in round 3, after 12 examples"):
        look(work)


def test_dropout_and_steps_draw_other_numbers():
    seen = []

    class Draws(Counter):
        def cost(self, player, step):
            seen.append((torch.rand(3), step.uniform(3)[0]))
            return super().cost(player, step)

    training(Draws(POINTS), random_data(POINTS)).round()
    assert not any(torch.equal(a, b) for a, b in seen)


def test_data_without_a_fingerprint_cannot_change_under_a_run(tmp_path):
    data = replace(random_data(POINTS), fingerprint="", source="", name="mine")
    train(Counter(POINTS), data, budget="4 rounds", out=tmp_path / "r", until=0.5)
    other = replace(random_data(POINTS, seed=5), fingerprint="", source="", name="mine")
    with pytest.raises(RunError, match=r"data\.fingerprint"):
        train(Counter(POINTS), other, budget="4 rounds", out=tmp_path / "r", resume=True)
    assert (
        train(Counter(POINTS), data, budget="4 rounds", out=tmp_path / "r", resume=True).status == "finished"
    )
    with pytest.raises(
        DataError, match="data: those of this run, 'mine', came from code, wanted them as `data=`"
    ):
        open_run(tmp_path / "r").data  # noqa: B018


def test_a_score_that_is_not_finite_is_null_and_loses_nothing(tmp_path):
    bad = Score(math.nan, math.inf, 3, 0, "bad[n=3]")
    run = train(
        Counter(POINTS),
        random_data(POINTS),
        budget="5 rounds",
        out=tmp_path / "r",
        score=lambda _: {"bad": bad},
    )
    assert run.status == "finished"
    assert {(line["value"], line["error"]) for line in run.scores()} == {(None, None)}


def test_memory_that_runs_out_between_rounds_is_not_blamed_on_the_batch(tmp_path):
    def score(model):
        raise MemoryError

    with pytest.raises(
        RunError, match="out of memory while samples were drawn or scored; what was learned is"
    ):
        train(Counter(POINTS), random_data(POINTS), budget="5 rounds", out=tmp_path / "r", score=score)
    assert open_run(tmp_path / "r").state["clock"]["rounds"] == 1
    assert _newest(tmp_path / "r").exists()


def test_a_checkpoint_that_was_moved_aside_comes_back_and_leftovers_go(tmp_path):
    run = train(Counter(POINTS), random_data(POINTS), budget="4 rounds", out=tmp_path / "r", until=0.5)
    newest = _newest(run.folder)
    for folder in newest.parent.iterdir():
        if folder != newest:
            shutil.rmtree(folder)
    aside = newest.rename(newest.with_name(f".{newest.name}.old"))
    (newest.parent / ".00000099.12345").mkdir()
    train(Counter(POINTS), random_data(POINTS), budget="4 rounds", out=tmp_path / "r", resume=True)
    assert not aside.exists()
    assert not list(newest.parent.glob(".*"))
    assert load(tmp_path / "r", model=Counter).a.isfinite().all()


class Explodes(Counter):
    def cost(self, player, step):
        terms = super().cost(player, step)
        late = step.clock.rounds >= 3
        return {**terms, "loss": terms["loss"] * (self.factor if late else 1.0)}

    factor = math.nan


class RunsAway(Explodes):
    factor = 1e15

    def moves(self, clock):
        return [
            Move("a", partial(self.cost, "a"), times=10),
            Move("b", partial(self.cost, "b"), batch="none"),
        ]


@pytest.mark.parametrize(("kind", "reason"), [(Explodes, "is nan"), (RunsAway, "has run away to")])
def test_a_diverging_cost_is_a_result_with_its_reason(tmp_path, kind, reason):
    run = train(kind(POINTS), random_data(POINTS), budget="10 rounds", out=tmp_path / "run")
    assert run.status == "diverged"
    assert reason in run.state["reason"]
    assert "in round 3" in run.state["reason"]
    with pytest.raises(RunError, match="no checkpoint was written yet"):
        load(tmp_path / "run", model=kind)


def test_flops_are_counted_once_and_multiplied():
    model = create("vae", spec=SPEC, hidden=[8], latent_dim=2, batch_size=16)
    t = training(model, random_data(SPEC), "5 rounds")
    t.run()
    inputs, z, hidden, outputs = 64, 2, 8, 128
    forward = 2 * 16 * (inputs * hidden + hidden * 2 * z + z * hidden + hidden * outputs)
    # backward: weights of every layer, inputs of every layer but the first
    backward = 2 * forward - 2 * 16 * inputs * hidden
    assert t.clock.flops == 5 * (forward + backward)


def test_budget_in_flops_and_updates_stop_in_time():
    model = create("ns-gan", spec=SPEC, channels=2, latent_dim=2, batch_size=8, discriminator_updates=3)
    t = training(model, random_data(SPEC), "7 discriminator updates")
    t.run()
    assert t.clock.updates == {
        "discriminator": 9,
        "generator": 3,
    }  # the round in which it is spent is finished


def test_moves_that_ask_for_what_is_not_there():
    from bestiary.errors import BestiaryError

    class Wrong(Counter):
        def moves(self, clock):
            return [Move("b", partial(self.cost, "b"), batch="same")]

    with pytest.raises(BestiaryError, match="'same' before any batch"):
        training(Wrong(POINTS), random_data(POINTS)).run()


def test_training_ignores_and_leaves_the_global_state(tmp_path):
    states = []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        before = torch.random.get_rng_state()
        model = create("vae", spec=SPEC, hidden=[8], latent_dim=2, seed=3)
        train(model, random_data(SPEC), budget="3 rounds", out=tmp_path / str(global_seed))
        assert torch.equal(before, torch.random.get_rng_state())
        states.append(model.state_dict())
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])


def test_observers_do_not_change_the_training(tmp_path):
    weights = []
    for observers in ([], [lambda t: t.model.sample(3)], [lambda t: torch.rand(5)]):
        model = create("ns-gan", spec=SPEC, channels=2, latent_dim=2, batch_size=8)
        folder = tmp_path / str(len(weights))
        train(model, random_data(SPEC), budget="4 rounds", out=folder, observers=observers)
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0], weights[2])


def test_run_folder_holds_what_it_should_and_nothing_executable(tmp_path):
    run = train(
        create("vae", spec=SPEC, hidden=[8], latent_dim=2),
        random_data(SPEC),
        budget="5 rounds",
        out=tmp_path / "r",
    )
    names = {str(p.relative_to(run.folder)) for p in run.folder.rglob("*") if p.is_file()}
    assert {"config.yaml", "state.json", "log.jsonl"} <= names
    assert {p.split(".")[-1] for p in names} <= {"yaml", "json", "jsonl", "safetensors", "png", "lock"}
    state = json.loads((run.folder / "state.json").read_text())
    assert state["status"] == "finished"
    assert state["clock"]["rounds"] == 5
    assert run.log()[-1]["rounds"] == 5
    assert run.log()[0]["model/loss"] > 0
    assert len(list((run.folder / "checkpoints").iterdir())) <= 2


def test_folders_in_the_way_are_refused(tmp_path):
    model, data = create("vae", spec=SPEC, hidden=[8], latent_dim=2), random_data(SPEC)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="exists already and is not empty"):
        train(model, data, budget="1 rounds", out=tmp_path)
    with pytest.raises(RunError, match="is no run folder"):
        train(model, data, budget="1 rounds", out=tmp_path, resume=True)
    with pytest.raises(RunError, match="a file is in the way"):
        train(model, data, budget="1 rounds", out=tmp_path / "notes.txt" / "run")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_resuming_with_a_changed_setting_names_the_field(tmp_path):
    data = random_data(SPEC)
    make = partial(create, "vae", spec=SPEC, hidden=[8], latent_dim=2)
    train(make(), data, budget="2 rounds", out=tmp_path / "r")
    with pytest.raises(
        RunError, match=r"model.settings.learning_rate: found 0.5, but .* was started with 0.02"
    ):
        train(make(learning_rate=0.5), data, budget="2 rounds", out=tmp_path / "r", resume=True)
    with pytest.raises(RunError, match=r"budget: found '3 rounds'"):
        train(make(), data, budget="3 rounds", out=tmp_path / "r", resume=True)
    with pytest.raises(RunError, match=r"data.fingerprint"):
        train(make(), random_data(SPEC, seed=1), budget="2 rounds", out=tmp_path / "r", resume=True)


def test_two_processes_cannot_write_one_run(tmp_path):
    from bestiary.runs.folder import locked

    with locked(tmp_path), pytest.raises(RunError, match="another process is writing this run"):
        train(
            create("vae", spec=SPEC, hidden=[8], latent_dim=2),
            random_data(SPEC),
            budget="1 rounds",
            out=tmp_path,
        )


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "manifest"])
def test_a_damaged_checkpoint_is_found_out_and_the_one_before_used(tmp_path, damage):
    data = random_data(SPEC)
    make = partial(create, "vae", spec=SPEC, hidden=[8], latent_dim=2, batch_size=8)
    run = train(make(), data, budget="4 rounds", out=tmp_path / "r", checkpoint_seconds=0.0)
    folders = sorted((run.folder / "checkpoints").iterdir())
    assert [f.name for f in folders] == ["00000024", "00000032"]
    victim = folders[-1] / ("manifest.json" if damage == "manifest" else "model.safetensors")
    content = bytearray(victim.read_bytes())
    if damage == "delete":
        victim.unlink()
    elif damage == "truncate":
        victim.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 1
        victim.write_bytes(content)
    with pytest.warns(UserWarning, match="using the checkpoint before it"):
        folder, state = newest(run.folder / "checkpoints")
    assert folder.name == "00000024"
    assert state["clock"]["rounds"] == 3
    folders[0].joinpath("state.json").unlink()
    with (
        pytest.warns(UserWarning, match="before it"),
        pytest.raises(RunError, match="no other checkpoint is left"),
    ):
        load(run.folder)


_SCRIPT = """
import sys, torch
torch.set_num_threads(1)
from bestiary.catalogue import create
from bestiary.data.specs import ImageSpec
from bestiary.runs import train
from bestiary.testing import random_data
spec = ImageSpec(1, 8, 8, levels=4)
model = create("ns-gan", spec=spec, channels=4, latent_dim=4, batch_size=16, ema_half_life=500.0, seed=5)
print("ready", flush=True)
data = random_data(spec)
train(model, data, budget="900 rounds", out=sys.argv[1], seed=5, resume=True, checkpoint_seconds=0.1)
"""


def _start(folder):
    return subprocess.Popen([sys.executable, "-c", _SCRIPT, str(folder)], stdout=subprocess.PIPE, text=True)


def test_killed_three_times_and_resumed_is_bit_equal(tmp_path):
    through = _start(tmp_path / "through")
    killed = 0
    generator = torch.Generator().manual_seed(int(time.time()))
    delays = (0.3 + 1.2 * torch.rand(3, generator=generator)).tolist()
    for delay in delays:
        process = _start(tmp_path / "killed")
        process.stdout.readline()
        time.sleep(delay)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.wait()
        process.stdout.close()
    last = _start(tmp_path / "killed")
    for process in (last, through):
        assert process.wait() == 0
        process.stdout.close()
    assert killed == 3, f"the training was over before kills after {delays} s: make it longer"
    for name in ("model", "ema", "training"):
        a, b = (load_file(_newest(tmp_path / f) / f"{name}.safetensors") for f in ("through", "killed"))
        assert a.keys() == b.keys()
        assert all(torch.equal(a[k], b[k]) for k in a), f"{name} differs after kills at {delays} s"
    through_log, killed_log = ((tmp_path / f / "log.jsonl").read_text() for f in ("through", "killed"))
    logs = [
        [{**json.loads(line), "seconds": 0} for line in log.splitlines()] for log in (through_log, killed_log)
    ]
    assert logs[0] == logs[1]


def _newest(folder):
    return newest(folder / "checkpoints")[0]


def test_interrupt_saves_and_stops(tmp_path):
    run = None

    def interrupt(t):
        if t.clock.rounds == 3:
            os.kill(os.getpid(), signal.SIGINT)

    model, data = create("vae", spec=SPEC, hidden=[8], latent_dim=2, batch_size=8), random_data(SPEC)
    run = train(model, data, budget="10 rounds", out=tmp_path / "r", observers=[interrupt])
    assert (run.status, run.state["reason"]) == ("stopped", "Ctrl-C")
    assert run.state["clock"]["rounds"] == 3
    model = create("vae", spec=SPEC, hidden=[8], latent_dim=2, batch_size=8)
    assert train(model, data, budget="10 rounds", out=tmp_path / "r", resume=True).status == "finished"


def test_clock_counts_epochs():
    assert Clock(examples=150, epoch_size=100).epochs == 1.5


def test_a_full_disk_gives_one_line_and_loses_nothing_saved(tmp_path, monkeypatch):
    """The disk fills up in round 3, within a checkpoint; freed, the run goes on and is bit-equal."""
    data = random_data(SPEC)
    make = partial(create, "vae", spec=SPEC, hidden=[8], latent_dim=2, batch_size=8)
    through = make()
    train(through, data, budget="6 rounds", out=tmp_path / "through")
    write = Path.write_bytes

    def full(path, content):
        if path.name == "training.safetensors" and ".00000024" in str(path):
            write(path, content[:100])
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(RunError, match="no space left on the disk: free some and go on with --resume"):
        train(make(), data, budget="6 rounds", out=tmp_path / "r", checkpoint_seconds=0.0)
    state = json.loads((tmp_path / "r" / "state.json").read_text())
    assert (state["status"], state["reason"]) == ("stopped", "cannot write: No space left on device")
    assert newest(tmp_path / "r" / "checkpoints")[0].name == "00000016"
    monkeypatch.undo()
    resumed = make(seed=9)
    train(resumed, data, budget="6 rounds", out=tmp_path / "r", resume=True)
    assert all(torch.equal(a, b) for a, b in zip(through.parameters(), resumed.parameters(), strict=True))


def test_a_log_line_that_was_cut_off_is_dropped_on_resume(tmp_path):
    data = random_data(SPEC)
    make = partial(create, "vae", spec=SPEC, hidden=[8], latent_dim=2, batch_size=8)

    def interrupt(t):
        if t.clock.rounds == 3:
            os.kill(os.getpid(), signal.SIGINT)

    run = train(make(), data, budget="6 rounds", out=tmp_path / "r", observers=[interrupt])
    with (run.folder / "log.jsonl").open("a") as file:
        file.write('{"examples": 24, "rou')
    train(make(), data, budget="6 rounds", out=tmp_path / "r", resume=True)
    assert [line["rounds"] for line in run.log()] == [1, 2, 3, 4, 5, 6]


def test_out_of_memory_names_the_remedy(tmp_path):
    class Huge(Counter):
        def cost(self, player, step):
            raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(RunError, match=r"batch_size: 4 examples do not fit into memory: .* --accumulate 2"):
        train(Huge(POINTS), random_data(POINTS), budget="1 rounds", out=tmp_path / "r")
    assert json.loads((tmp_path / "r" / "state.json").read_text())["reason"] == "out of memory"


def test_gradients_are_clipped_to_their_norm():
    model = Counter(POINTS)
    model.max_grad_norm = 0.5
    t = training(model, random_data(POINTS))
    norms = []
    t.optimizers["b"].register_step_pre_hook(lambda *_: norms.append(float(model.b.grad.norm())))
    t.run()
    assert norms[0] == pytest.approx(0.5, rel=1e-4)  # the first gradient, 2·√2 long, is cut
    assert max(norms) <= 0.5 + 1e-6


@pytest.mark.parametrize("name", ["vae", "ns-gan", "gated-pixelcnn"])
def test_bfloat16_trains_float32_weights_nearly_alike(tmp_path, name):
    from bestiary.catalogue import entry

    data, weights, losses = random_data(SPEC), {}, {}
    for precision in ("float32", "bfloat16"):
        torch_seed = torch.Generator().manual_seed(0)
        model = entry(name).load().tiny(SPEC)
        with torch.no_grad():
            for p in model.parameters():
                p.copy_(0.1 * torch.randn(p.shape, generator=torch_seed))
        run = train(model, data, budget="20 rounds", out=tmp_path / precision, precision=precision)
        assert run.state["hardware"]["precision"] == precision
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        losses[precision] = {key: value for key, value in run.log()[-1].items() if key.endswith("/loss")}
        weights[precision] = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert not torch.equal(weights["float32"], weights["bfloat16"])
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.01)  # vae's falls by an eighth


@pytest.mark.parametrize(("before", "after"), [(False, True), (True, False)])
def test_a_run_goes_on_in_its_own_precision_on_another_machine(tmp_path, monkeypatch, before, after):
    def go(bfloat16, **options):
        monkeypatch.setattr("bestiary.training.runtime._has_bfloat16", lambda device: bfloat16)
        model = create("vae", spec=SPEC, hidden=[8], latent_dim=2, batch_size=8)
        return train(model, random_data(SPEC), budget="4 rounds", out=tmp_path / "r", **options)

    go(before, until=0.5)
    run = go(after, resume=True)
    assert run.status == "finished"
    assert run.state["hardware"]["precision"] == ("bfloat16" if before else "float32")
    with pytest.raises(RunError, match="precision"):
        go(after, resume=True, precision="float32" if before else "bfloat16")


def test_scores_are_taken_on_validation_while_training(tmp_path):
    from bestiary.runs.evaluation import score_while_training

    data = random_data(SPEC)
    model = create("vae", spec=SPEC, hidden=[8], latent_dim=2, batch_size=8)
    score = score_while_training(data, ["likelihood", "memorisation"])
    run = train(model, data, budget="10 rounds", out=tmp_path / "r", score=score)
    lines = run.scores()
    assert {line["metric"] for line in lines} >= {"nats", "bits_per_dim", "elbo_nats", "memorisation"}
    assert {line["split"] for line in lines} == {"validation"}
    assert sorted({line["examples"] for line in lines}) == [16, 32, 48, 64, 80]
    with pytest.raises(OptionError, match="did you mean 'likelihood'"):
        score_while_training(data, ["likelyhood"])


def test_a_run_of_format_1_is_opened_and_resumed(tmp_path):
    """A file that an old release wrote: stopped at round 4 of 8."""
    shutil.copytree(ASSETS / "run-format-1", tmp_path / "r")
    checkpoint = load_file(_newest(tmp_path / "r") / "ema.safetensors")
    assert torch.equal(
        load(tmp_path / "r").state_dict()["generator.0.weight"], checkpoint["generator.0.weight"]
    )
    model = create("ns-gan", spec=SPEC, channels=1, latent_dim=2, batch_size=8, ema_half_life=50.0)
    rounds = []
    run = train(
        model,
        random_data(SPEC),
        budget="8 rounds",
        out=tmp_path / "r",
        seed=5,
        resume=True,
        observers=[lambda t: rounds.append(t.clock.rounds)],
    )
    assert (run.status, rounds) == ("finished", [5, 6, 7, 8])
    assert json.loads((_newest(tmp_path / "r") / "manifest.json").read_text())["format"] == 2


def test_a_config_that_was_edited_or_a_run_of_the_future_is_refused(tmp_path):
    data = random_data(SPEC)
    make = partial(create, "vae", spec=SPEC, hidden=[8], latent_dim=2)
    run = train(make(), data, budget="2 rounds", out=tmp_path / "r")
    config = run.folder / "config.yaml"
    original = config.read_text()
    config.write_text(original.replace("seed: 0", "seed: 1"))
    with pytest.raises(RunError, match="is not the file that the run was started with"):
        load(run.folder)
    (run.folder / "state.json").unlink()
    config.write_text(original.replace("format: 2", "format: 3"))
    with pytest.raises(RunError, match="format 3 was written by a newer bestiary: update the package"):
        load(run.folder)


def test_a_jump_of_the_wall_clock_changes_nothing(tmp_path, monkeypatch):
    data, weights = random_data(SPEC), []
    for jump in (0, -3600, 1e9):
        real = time.time
        monkeypatch.setattr(time, "time", lambda jump=jump, real=real: real() + jump)
        model = create("vae", spec=SPEC, hidden=[8], latent_dim=2, batch_size=8)
        run = train(model, data, budget="0.3 seconds", out=tmp_path / str(jump), checkpoint_seconds=0.1)
        assert 0.3 <= run.state["clock"]["seconds"] < 2
        assert len(list((run.folder / "checkpoints").iterdir())) == 2
        model = create("vae", spec=SPEC, hidden=[8], latent_dim=2, batch_size=8)
        train(model, data, budget="3 rounds", out=tmp_path / f"rounds {jump}")
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert all(torch.equal(w, weights[0]) for w in weights)


def fake_compile(calls):
    """Stands for `torch.compile`, which takes half a minute: remembers its calls and computes the same."""

    def compile(function):
        def run(*args):
            calls.append(function)
            return function(*args)

        return run

    return compile


def test_compiled_networks_serve_costs_alone(tmp_path, monkeypatch):
    """The first update counts operations, which compiled code hides; samples come in other shapes."""
    calls = []
    monkeypatch.setattr(torch, "compile", fake_compile(calls))
    make = partial(create, "gated-pixelcnn", spec=SPEC, layers=2, channels=4, head_channels=4, batch_size=8)
    model = make()
    run = train(model, random_data(SPEC), budget="5 rounds", out=tmp_path / "on", compile="on")
    assert len(calls) == 4
    assert run.config.training["compiled"] is True
    assert run.state["clock"]["flops"] > 0
    model.logits(torch.zeros(1, *SPEC.shape))
    assert len(calls) == 4
    eager = make()
    train(eager, random_data(SPEC), budget="5 rounds", out=tmp_path / "off", compile="off")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), eager.parameters(), strict=True))


def test_a_compiler_that_fails_is_done_without(tmp_path, monkeypatch):
    class InductorError(RuntimeError):
        __module__ = "torch._inductor.exc"

    def broken(_):
        def run(*_):
            raise InductorError("no Python.h\n\nmore")

        return run

    monkeypatch.setattr(torch, "compile", broken)
    make = partial(create, "gated-pixelcnn", spec=SPEC, layers=2, channels=4, head_channels=4, batch_size=8)
    model, eager = make(), make()
    with pytest.warns(UserWarning, match="does not work here, going on without it: no Python.h$"):
        train(model, random_data(SPEC), budget="3 rounds", out=tmp_path / "on", compile="on")
    train(eager, random_data(SPEC), budget="3 rounds", out=tmp_path / "off", compile="off")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), eager.parameters(), strict=True))


@pytest.mark.parametrize(
    ("budget", "compiled"),
    [("10 minutes", True), ("30 seconds", False), ("1e7 rounds", True), ("3 rounds", False)],
)
def test_compiling_is_chosen_where_it_pays_within_the_budget(budget, compiled):
    data = random_data(SPEC).train
    pays = create("gated-pixelcnn", spec=SPEC, layers=2, channels=4, head_channels=4, batch_size=8)
    never = create("vae", spec=SPEC, hidden=[8], latent_dim=2)
    for model, expected in ((pays, compiled), (never, False)):
        runtime = choose_runtime(model, device="cpu")
        assert choose_compilation(model, data, parse_budget(budget), runtime) is expected
        assert choose_compilation(model, data, parse_budget(budget), runtime, "off") is False


def test_compiling_without_a_compiler(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    model, data = (
        create("gated-pixelcnn", spec=SPEC, layers=2, channels=4, head_channels=4),
        random_data(SPEC),
    )
    runtime, budget = choose_runtime(model, device="cpu"), parse_budget("1 hour")
    assert choose_compilation(model, data.train, budget, runtime) is False
    with pytest.raises(
        OptionError, match=r"compile: found 'on', but there is no C\+\+ compiler here: install g"
    ):
        choose_compilation(model, data.train, budget, runtime, "on")
    with pytest.raises(OptionError, match="compile: found 'maybe', wanted auto, on or off"):
        choose_compilation(model, data.train, budget, runtime, "maybe")


def test_dropout_on_every_rank_is_another():
    draws = []
    for rank in (0, 1):
        runtime = Runtime(torch.device("cpu"), "float32", ranks=Ranks(rank, 2))
        with forked_randomness(0):
            runtime.seed_dropout(7)
            draws.append(torch.rand(3))
    assert not torch.equal(draws[0], draws[1])


def test_a_mistake_in_an_observer_loses_no_training(tmp_path):
    def observer(training):
        if training.clock.rounds == 3:
            raise DataError("mine: found nothing, wanted something")

    data = random_data(ImageSpec(1, 8, 8, levels=2))
    model = create("vae", spec=data.spec, hidden=[8], latent_dim=2)
    with pytest.raises(DataError, match="found nothing"):
        train(model, data, budget="5 rounds", out=tmp_path / "run", observers=[observer])
    state = json.loads((tmp_path / "run/state.json").read_text())
    assert (state["status"], state["clock"]["rounds"]) == ("stopped", 3)
    assert "found nothing" in state["reason"]
    run = train(model, data, budget="5 rounds", out=tmp_path / "run", resume=True)
    assert (run.status, run.state["clock"]["rounds"]) == ("finished", 5)


def test_what_a_kill_left_half_written_does_not_stop_the_next_training(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".config.yaml.12345").write_text("model: {na")
    data = random_data(ImageSpec(1, 8, 8, levels=2))
    model = create("vae", spec=data.spec, hidden=[8], latent_dim=2)
    assert train(model, data, budget="2 rounds", out=folder, resume=True).status == "finished"
    assert not list(folder.glob(".config*"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / ".profile").write_text("mine")
    with pytest.raises(RunError, match="is no run folder"):
        train(model, data, budget="2 rounds", out=tmp_path / "mine", resume=True)
    assert (tmp_path / "mine" / ".profile").exists()


_FAULTS = """
import resource, sys, torch
from bestiary.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(20):
    torch.ones(2**22), torch.ones(2**23)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is another one")
def test_memory_of_freed_tensors_is_kept_for_the_next_ones():
    faults = {
        word: int(
            subprocess.run([sys.executable, "-c", _FAULTS, word], capture_output=True, check=True).stdout
        )
        for word in ("keep", "give back")
    }
    # Two blocks of 16 and 32 MiB, anew each time or once.
    assert faults["give back"] - faults["keep"] > 10 * 2**25 / resource.getpagesize()
