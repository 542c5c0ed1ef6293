"""The command line: what each command answers, on which stream, with which exit code."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from bestiary import __version__
from bestiary.catalogue import ALIASES, CATALOGUE
from bestiary.cli.main import main
from bestiary.cli.output import duration
from bestiary.cli.progress import Reporter
from bestiary.data.datasets import DATASETS
from bestiary.scores import EMBEDDINGS, FEATURE_METRICS, METRICS

TINY = ["--set", "hidden=[8]", "--set", "latent_dim=2", "--set", "batch_size=20"]
SMALL = ["train", "vae", "--data", "digits", *TINY]


@pytest.fixture
def bestiary(capsys, monkeypatch, tmp_path):
    """Runs a command line within this process, in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        capsys.readouterr()
        code = main([str(a) for a in arguments])
        return code, *capsys.readouterr()

    return run


def process(code, *arguments, **environment):
    """Runs Python code in another process: (its processor seconds, stdout)."""
    before = os.times()
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        check=True, capture_output=True, text=True, env={**os.environ, **environment},
    )  # fmt: skip
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return spent, done.stdout


def weights(folder):
    newest = max(Path(folder, "checkpoints").iterdir())
    return load_file(newest / "model.safetensors")


def same_weights(a, b):
    a, b = weights(a), weights(b)
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# Answers that need no torch


@pytest.mark.parametrize(
    "command",
    [["--help"], ["models"], ["data"], ["data", "--json"], ["train", "--help"], ["evaluate", "--help"]],
)
def test_help_and_lists_are_quick_and_import_no_torch(command):
    """0.15 to 0.3 s on a quiet machine; processor time, so that a busy one does not matter."""
    code = (
        "import sys; from bestiary.cli.main import main\n"
        "assert main(sys.argv[1:]) == 0\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    assert min(process(code, *command)[0] for _ in range(2)) < 0.8


@pytest.mark.parametrize("command", ["evaluate", "score", "compare"])
def test_help_names_every_metric_and_embedding(bestiary, command):
    text = re.sub(r"-\s+", "-", bestiary(command, "--help")[1])  # lines may break behind a hyphen
    words = set(re.findall(r"[\w-]+", text))
    assert words >= {*EMBEDDINGS, *FEATURE_METRICS, "fid", "kid"}
    assert words >= set(METRICS) or command == "score"


def test_importing_the_package_imports_no_torch():
    process("import bestiary, sys; assert 'torch' not in sys.modules; assert 'train' in dir(bestiary)")


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("bestiary train ga", {name for name in [*CATALOGUE, *ALIASES] if name.startswith("ga")}),
        ("bestiary train vae --data fashion-mnist-", {"fashion-mnist-fixed", "fashion-mnist-dynamic"}),
        ("bestiary compare --models ppca,pp", {"ppca,ppca"}),
        ("bestiary evaluate r --metrics fid,m", {"fid,manifold", "fid,modes", "fid,memorisation"}),
        ("bestiary score --metrics m", {"manifold"}),
        ("bestiary compare --embedding pi", {"pixels"}),
        ("bestiary train vae --preset l", {"laptop"}),
    ],
)
def test_the_shell_completes_names_without_torch(words, wanted):
    code = (
        "import sys; from bestiary.cli.main import main\n"
        "try:\n    main([])\n"
        "finally:\n    assert 'torch' not in sys.modules"
    )
    _, out = process(
        code,
        _BESTIARY_COMPLETE="complete_bash",
        COMP_WORDS=words,
        COMP_CWORD=str(len(words.split()) - 1),
    )
    assert set(out.split()) == wanted


def test_shell_completion_can_be_shown(bestiary, monkeypatch, capsys):
    monkeypatch.setattr("typer.completion._get_shell_name", lambda: "bash")
    with pytest.raises(SystemExit) as end:
        bestiary("--show-completion")
    assert end.value.code == 0
    assert "_bestiary_completion" in capsys.readouterr().out


def test_version_and_bare_command(bestiary):
    assert bestiary("--version") == (0, f"bestiary {__version__}\n", "")
    code, out, err = bestiary()
    assert (code, err) == (0, "")
    assert all(name in out for name in ("models", "data", "train", "sample", "evaluate", "compare"))


# models and data


def test_models_lists_the_catalogue_one_a_line(bestiary):
    code, out, err = bestiary("models")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()[1:]] == list(CATALOGUE)
    assert [row["name"] for row in json.loads(bestiary("models", "--json")[1])] == list(CATALOGUE)


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_model_shows_its_game_and_its_options(bestiary, name):
    code, out, err = bestiary("models", name, "--json")
    assert (code, err) == (0, "")
    about = json.loads(out)
    assert about["paper"] == CATALOGUE[name].paper
    assert {m["player"] for m in about["moves"]} == {p["name"] for p in about["players"]}
    assert bool(about["moves"]) == ("ClosedForm" not in about["capabilities"])
    assert all(p["parameters"] > 0 for p in about["players"])
    assert [o["name"] for o in about["options"] if not (o["valid"] and o["meaning"])] == []
    laptop = {o["name"]: o["laptop"] for o in about["options"]}
    assert {key: laptop[key] for key in CATALOGUE[name].laptop} == json.loads(
        json.dumps(CATALOGUE[name].laptop)
    )
    text = bestiary("models", name)[1]
    assert all(o["name"] in text for o in about["options"])


def test_a_model_says_what_is_valid_and_what_is_searched(bestiary):
    about = json.loads(bestiary("models", "GAN", "--json")[1])
    assert about["name"] == "ns-gan"
    rate = next(o for o in about["options"] if o["name"] == "learning_rate")
    assert (rate["paper"], rate["laptop"], rate["valid"]) == (5e-5, 1e-3, "a number > 0")
    assert rate["search"] == {"low": 1e-5, "high": 1e-2, "log": True}
    assert about["players"][0]["optimizer"] == "Adam(lr=5e-05, betas=(0.0, 0.999))"
    assert about["moves"][1] == {
        "player": "generator", "cost": "generator_cost", "times": 1, "every": 1, "batch": "none",
    }  # fmt: skip


@pytest.mark.parametrize("name", DATASETS)
def test_every_data_set_shows_where_it_comes_from(bestiary, name):
    about = json.loads(bestiary("data", name, "--json")[1])
    row = DATASETS[name]
    assert (about["licence"], about["origin"]) == (row.licence, row.origin)
    assert all(o["valid"] and o["meaning"] for o in about["options"])
    text = bestiary("data", name)[1]
    assert row.origin in text
    assert row.ways[0] in text


def test_the_treatment_in_a_data_name_is_shown_as_its_option(bestiary):
    options = json.loads(bestiary("data", "mnist-dynamic", "--json")[1])["options"]
    assert next(o["default"] for o in options if o["name"] == "binarise") == "dynamic"


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """A folder of 12 different images, and one that is broken."""
    monkeypatch.setenv("BESTIARY_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "pictures"
    folder.mkdir()
    draw = np.random.default_rng(0)
    for i in range(12):
        Image.fromarray(draw.integers(0, 256, (8, 8), dtype=np.uint8)).save(folder / f"{i:02}.png")
    (folder / "broken.png").write_bytes((folder / "00.png").read_bytes()[:60])
    return folder


def test_a_broken_image_is_named_and_the_rest_used(bestiary, pictures):
    code, out, err = bestiary("data", pictures, "--json")
    assert code == 0
    assert "left out 'broken.png'" in err
    assert json.loads(out)["sizes"] == {"train": 10, "validation": 1, "test": 1}
    code, out, err = bestiary(
        "train", "ppca", "--data", pictures, "--set", "latent_dim=2", "--budget", "1 epochs"
    )
    assert (code, out) == (0, "runs/ppca-001\n")
    assert "left out 'broken.png'" in err


# train


def test_train_prints_the_run_folder_alone_on_stdout(bestiary):
    code, out, err = bestiary(*SMALL, "--budget", "20 rounds")
    assert (code, out) == (0, "runs/vae-001\n")
    assert "finished: 400 examples" in err
    assert "next: bestiary sample runs/vae-001" in err
    assert bestiary(*SMALL, "--budget", "2 rounds")[1] == "runs/vae-002\n"
    code, out, _ = bestiary(*SMALL, "--budget", "2 rounds", "--json", "--out", "elsewhere")
    state = json.loads(out)
    assert (code, state["run"], state["status"], state["clock"]["examples"]) == (
        0,
        "elsewhere",
        "finished",
        40,
    )


def test_progress_is_a_line_a_tenth_and_leaves_the_log_alone(bestiary, monkeypatch):
    err = bestiary(*SMALL, "--budget", "20 rounds", "--out", "watched")[2]
    lines = [line for line in err.splitlines() if line.startswith("vae: ") and "%" in line]
    assert [line.split()[1] for line in lines] == [f"{tenth}0%," for tenth in range(1, 11)]
    assert all("examples/s" in line and "kl " in line for line in lines)
    assert all(" left" in line for line in lines[:-1])
    monkeypatch.setattr(Reporter, "watch", lambda self, name: [])
    bestiary(*SMALL, "--budget", "20 rounds", "--out", "alone")
    terms = [
        [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in text.splitlines()]
        for text in (Path(run, "log.jsonl").read_text() for run in ("watched", "alone"))
    ]
    assert terms[0] == terms[1]
    assert "model/loss" in terms[0][-1]


def test_the_estimate_of_the_whole_comes_once(bestiary, monkeypatch):
    monkeypatch.setattr("bestiary.cli.progress._SETTLED", 0.0)
    err = bestiary(*SMALL, "--budget", "20 rounds")[2]
    assert sum("in all; Ctrl-C saves" in line for line in err.splitlines()) == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.25, "250 ms"), (44.6, "45 s"), (59.7, "1 min 0 s"), (440, "7 min 20 s"), (7500, "2 h 5 min")],
)
def test_durations_read_well(seconds, text):
    assert duration(seconds) == text


def test_what_nobody_said_is_said(bestiary, monkeypatch):
    monkeypatch.setattr("bestiary.cli.job.DEFAULT_BUDGET", "2 rounds")
    err = bestiary("train", "vae", *TINY)[2]
    assert "data: digits, the default" in err
    assert "budget: 2 rounds, the default" in err
    assert "--preset laptop is the reduced one" in err
    quiet = bestiary(*SMALL, "--preset", "laptop", "--budget", "1 rounds")[2]
    assert "default" not in quiet
    assert "--preset" not in quiet


def test_a_dry_run_writes_nothing_and_is_a_config_file(bestiary):
    asked = [*SMALL, "--preset", "laptop", "--seed", "3", "--budget", "5 rounds"]
    code, out, err = bestiary(*asked, "--dry-run")
    assert (code, err) == (0, "")
    assert list(Path().iterdir()) == []
    Path("my.yaml").write_text(out)
    assert bestiary("train", "--config", "my.yaml", "--out", "from-file")[0] == 0
    assert bestiary(*asked, "--out", "typed")[0] == 0
    assert Path("from-file/config.yaml").read_text() == Path("typed/config.yaml").read_text()
    assert same_weights("from-file", "typed")


def test_a_dry_run_says_what_the_budget_comes_to(bestiary):
    plan = json.loads(bestiary(*SMALL, "--budget", "2 epochs", "--dry-run", "--json")[1])
    assert plan["rounds"] == plan["updates"]["model"] == 120  # 2 · 1197 / 20, rounded up
    assert plan["examples"] == 2400
    assert plan["parameters"] == plan["players"]["model"]
    assert plan["bytes"] == 3 * 4 * plan["parameters"] + 4 * 8  # weights, gradients, Adagrad's sums; 8 steps
    assert plan["out"] == "runs/vae-001"
    game = ["train", "ns-gan", "--data", "ring", "--set", "discriminator_updates=3", "--budget"]
    plan = json.loads(bestiary(*game, "30 discriminator updates", "--dry-run", "--json")[1])
    assert (plan["rounds"], plan["updates"]) == (10, {"discriminator": 30, "generator": 10})
    assert (plan["examples"], plan["epochs"]) == (10 * 3 * 64, None)
    solved = bestiary("train", "ppca", "--data", "digits", "--dry-run")[1]
    assert "solved in closed form" in solved


def test_a_runs_own_config_repeats_it_and_what_is_typed_wins(bestiary):
    bestiary(*SMALL, "--seed", "5", "--budget", "3 rounds", "--out", "first")
    bestiary("train", "--config", "first/config.yaml", "--out", "again")
    assert same_weights("first", "again")
    bestiary(
        "train", "--config", "first/config.yaml", "--out", "other",
        "--set", "latent_dim=3", "--seed", "6", "--budget", "4 rounds", "--data", "digits-fixed",
    )  # fmt: skip
    other = yaml.safe_load(Path("other/config.yaml").read_text())
    assert other["model"]["settings"]["latent_dim"] == 3
    assert other["model"]["settings"]["hidden"] == [8]
    assert (other["seed"], other["budget"], other["data"]["name"]) == (6, "4 rounds", "digits-fixed")


def test_a_hand_written_config_needs_a_model_alone(bestiary, monkeypatch):
    monkeypatch.setattr("bestiary.cli.job.DEFAULT_BUDGET", "2 rounds")
    Path("a.yaml").write_text("model: {name: vae, preset: laptop, settings: {channels: 4, latent_dim: 2}}\n")
    assert bestiary("train", "--config", "a.yaml", "--out", "a")[0] == 0
    settings = yaml.safe_load(Path("a/config.yaml").read_text())["model"]["settings"]
    assert (settings["network"], settings["channels"]) == ("infogan", 4)
    Path("b.yaml").write_text("model: ppca\ndata: {source: digits, options: {binarise: fixed}}\nseed: 4\n")
    assert bestiary("train", "--config", "b.yaml", "--out", "b")[0] == 0
    config = yaml.safe_load(Path("b/config.yaml").read_text())
    assert (config["data"]["name"], config["seed"]) == ("digits-fixed", 4)


def test_changed_data_under_a_config_are_told(bestiary, pictures):
    asked = ["--set", "latent_dim=2", "--budget", "1 epochs"]
    bestiary("train", "ppca", "--data", pictures, *asked, "--out", "first")
    (pictures / "11.png").unlink()
    err = bestiary("train", "--config", "first/config.yaml", "--out", "again")[2]
    assert "no longer what they were" in err


def test_ctrl_c_saves_and_the_printed_command_goes_on_bit_by_bit(bestiary, monkeypatch):
    asked = [*SMALL, "--budget", "6 rounds"]
    bestiary(*asked, "--out", "through")

    def interrupt(training):
        if training.clock.rounds == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(Reporter, "watch", lambda self, name: [interrupt])
        code, out, err = bestiary(
            *asked, "--out", "r", "--device", "cpu", "--scores", "likelihood,active-units"
        )
    assert (code, out) == (1, "r\n")
    assert "stopped by Ctrl-C after 60 examples" in err
    command = next(line.partition("bestiary ")[2] for line in err.splitlines() if "go on with" in line)
    assert command == "train --resume --out r --device cpu --scores likelihood,active-units"
    code, out, _ = bestiary(*command.split())
    assert (code, out) == (0, "r\n")
    assert same_weights("through", "r")
    assert bestiary(*asked, "--out", "r", "--resume")[0] == 0  # finished already: nothing to do


def test_a_diverged_run_is_no_success(bestiary):
    code, out, err = bestiary(*SMALL, "--set", "learning_rate=1e30", "--budget", "200 rounds")
    assert (code, out) == (1, "runs/vae-001\n")
    assert "diverged: the cost of the model" in err


# sample


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A trained run."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    assert main([*SMALL, "--budget", "20 rounds", "--out", str(folder)]) == 0
    return folder


def test_samples_are_a_grid_or_numbers_and_repeat(bestiary, run):
    code, out, _ = bestiary("sample", run)
    assert (code, out) == (0, "run-samples.png\n")
    with Image.open("run-samples.png") as grid:
        assert grid.size == (8 * 58 + 2, 8 * 58 + 2)
    about = json.loads(bestiary("sample", run, "-n", "5", "--seed", "2", "--out", "a/b.npz", "--json")[1])
    assert (about["out"], about["n"], about["shape"]) == ("a/b.npz", 5, [5, 1, 8, 8])
    bestiary("sample", run, "-n", "5", "--seed", "2", "--out", "c.npz")
    bestiary("sample", run, "-n", "5", "--seed", "3", "--out", "d.npz")
    first, same, other = (np.load(name)["samples"] for name in ("a/b.npz", "c.npz", "d.npz"))
    assert (first.dtype, first.shape) == (np.uint8, (5, 1, 8, 8))
    assert (first == same).all()
    assert (first != other).any()


def test_how_autoregressive_models_draw_can_be_chosen_and_is_shown(bestiary):
    asked = [
        "train",
        "order-agnostic",
        "--data",
        "digits-fixed",
        "--preset",
        "laptop",
        "--set",
        "channels=16",
    ]
    assert bestiary(*asked, "--budget", "2 rounds", "--out", "r")[0] == 0
    code, _, err = bestiary("sample", "r", "-n", "2", "--out", "a.npz")
    assert code == 0
    assert "drawing, per cent: 50 of 100" in err
    bestiary("sample", "r", "-n", "2", "--order", "spiral", "--out", "b.npz")
    bestiary("sample", "r", "-n", "2", "--temperature", "0.1", "--out", "c.npz")
    first, spiral, cold = (np.load(f"{name}.npz")["samples"] for name in "abc")
    assert (first != spiral).any()
    assert (first != cold).any()
    mistakes = {
        ("--order", "spirall"): "unknown order 'spirall': did you mean 'spiral'?",
        ("--temperature", "0"): "temperature: found 0.0, wanted a number > 0",
    }
    for option, message in mistakes.items():
        code, _, err = bestiary("sample", "r", *option)
        assert (code, message in err) == (2, True), err


def test_a_model_that_cannot_draw_so_says_it(bestiary, run):
    code, _, err = bestiary("sample", run, "--temperature", "2")
    assert code == 2
    assert "--temperature: found 2.0, but" in err
    asked = ["train", "autoencoder", "--data", "digits", "--preset", "laptop", "--budget", "2 rounds"]
    assert bestiary(*asked, "--out", "codes")[0] == 0
    code, _, err = bestiary("sample", "codes")
    assert code == 2
    assert "draws no samples: fit a density to its codes by bestiary.tasks.fit_prior" in err


@pytest.mark.parametrize("command", ["sample", "evaluate", "interpolate", "anomalies", "complete"])
def test_a_device_that_is_not_there_is_told_of(bestiary, run, command):
    code, _, err = bestiary(command, run, "--device", "cdua")
    assert (code, "device: found 'cdua', which this machine does not have" in err) == (2, True), err


def test_points_are_sampled_as_numbers(bestiary):
    asked = ["train", "ppca", "--data", "ring", "--data-set", "size=50", "--set", "latent_dim=1"]
    bestiary(*asked, "--budget", "1 epochs", "--out", "r")
    bestiary("sample", "r", "--out", "points.npz", "-n", "7")
    points = np.load("points.npz")["samples"]
    assert (points.dtype, points.shape) == (np.float32, (7, 2))


# evaluate and compare


def test_evaluate_prints_value_error_and_protocol(bestiary, run):
    code, out, _ = bestiary("evaluate", run, "--metrics", "likelihood", "-n", "50", "--json")
    assert code == 0
    score = json.loads(out)["nats"]
    assert score["n_real"] == 50
    assert score["error"] > 0
    code, out, err = bestiary("evaluate", run, "--metrics", "likelihood", "-n", "50")
    assert code == 0
    assert f"{score['value']:.0f}" in out
    assert " ± " in out
    assert score["protocol"] in out
    assert "validation split of digits" in err


def test_compare_writes_a_report_and_prints_the_verdict(bestiary):
    asked = ["compare", "--models", "ppca,vae", "--data", "digits", "--metrics", "likelihood", "-n", "50"]
    settings = ["--preset", "paper", "--set", "vae.hidden=[8]", "--set", "ppca.latent_dim=4", "--out", "c"]
    code, out, err = bestiary(*asked, *settings, "--budget", "20 rounds")
    assert code == 0
    assert out.rstrip().endswith("c/report.html")
    assert Path("c/report.html").stat().st_size > 1000
    assert [line.split()[0] for line in out.splitlines()[1:3]] == ["ppca", "vae"]
    assert "training vae" in err
    assert "vae: 100%" in err
    again = json.loads(bestiary(*asked, *settings, "--budget", "20 rounds", "--resume", "--json")[1])
    assert again["report"] == "c/report.html"
    assert [row["model"] for row in again["table"]][:2] == ["ppca", "vae"]
    assert again["verdict"]
    config = yaml.safe_load(Path("c/runs/vae/config.yaml").read_text())
    assert config["model"]["settings"]["hidden"] == [8]
