"""`bestiary study run|show`: what it costs, what it found, how far it is, and one line for every mistake."""

import json
import os
import shlex
import signal
from pathlib import Path

import pytest
import yaml

from bestiary.cli.main import main
from bestiary.study.execution.driver import Driver

STUDY = {
    "data": "digits",
    "budget": "4 rounds",
    "draws": 2,
    "preset": "paper",
    "common": {"network": "mlp", "hidden": [8], "latent_dim": 2, "batch_size": 8},
    "arms": ["vae", "ppca"],
    "selection": {"score": "frechet", "n": 80, "embedding": "pixels"},
    "report": {"metrics": ["frechet"], "n": 80, "embedding": "pixels"},
    "retrain_seeds": 1,
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    return tmp_path


def run(command: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main(shlex.split(command))
    out, err = capsys.readouterr()
    return code, out, err


def test_plan_run_and_show(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run("study run small.yaml --dry-run --json", capsys)
    assert code == 0
    plan = json.loads(out)
    vae, ppca = plan["arms"]
    assert (vae["name"], vae["draws"], vae["budgets"], vae["retraining"]) == ("vae", 2, 2, 1)
    assert (vae["rounds"], vae["examples"]) == (4, 32)
    assert vae["flops"] > 0
    assert (ppca["rounds"], ppca["seconds"]) == (None, None)  # solved at once
    assert plan["seconds"] > 0
    code, out, _ = run("study run small.yaml --dry-run", capsys)
    assert "weights" in out.splitlines()[0]
    assert "small on digits" in out
    assert not Path("studies").exists()

    code, out, err = run("study run small.yaml --engine inline", capsys)
    assert code == 0
    assert out.splitlines()[0].split() == ["arm", "best", "trial", "failed", "setting"]
    assert "learning_rate=" in out
    assert "trials/vae/001: finished, frechet" in err
    assert "next: bestiary study report studies/small-001" in err
    code, out, _ = run("study show studies/small-001", capsys)
    assert out.splitlines()[1].split()[:2] == ["vae", "2/2"]
    code, out, _ = run("study show studies/small-001 --json", capsys)
    arms = json.loads(out)["arms"]
    assert [(arm["done"], arm["failed"], arm["retrained"], arm["retraining"]) for arm in arms] == [
        (2, 0, 1, 1)
    ] * 2


def test_ctrl_c_keeps_what_is_done(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tell = Driver._tell

    def tell_and_press_ctrl_c(self: Driver, *arguments: object) -> None:
        tell(self, *arguments)  # type: ignore[arg-type]
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Driver, "_tell", tell_and_press_ctrl_c)
    code, out, err = run("study run small.yaml --out study --engine inline", capsys)
    assert (code, out) == (1, "")
    assert "stopped; what is done is kept: the same command with --resume goes on" in err
    monkeypatch.undo()
    monkeypatch.chdir(place)
    code, out, _ = run("study show study --json", capsys)
    shown = json.loads(out)
    assert [arm["done"] for arm in shown["arms"]] == [1, 0]
    assert shown["seconds_left"] > 0
    (place / "study" / "results.json").unlink()  # a driver that was killed has written none
    code, out, _ = run("study report study --json", capsys)
    assert code == 0
    assert json.loads(out)["verdict"]["The study is not finished"].startswith(
        "vae has 1 of 2 draws; ppca has 0 of 2 draws."
    )
    assert run("study run small.yaml --out study --engine inline --resume", capsys)[0] == 0


MISTAKES = {
    "study run missing.yaml": "STUDY: cannot read 'missing.yaml' (No such file or directory), wanted a YAML",
    "study run lucic-wid": "wanted a YAML file or one of the presets lucic-narrow, lucic-wide",
    "study run small.yaml --resume": "--resume: found no --out",
    "study run small.yaml --engine locl": "--engine: found 'locl', did you mean 'local'?",
    "study run small.yaml --workers 0": "--workers: found '0', wanted a whole number ≥ 1",
    "study run field.yaml": "unknown option of field.yaml 'bugdet': did you mean 'budget'?",
    "study show small.yaml": "holds no study, wanted a folder that `bestiary study run` has written",
    "study report nowhere": "nowhere: holds no study, wanted a folder that `bestiary study run` has written",
    "study shwo x": "unknown command 'shwo': did you mean 'show'?",
}


@pytest.mark.parametrize("command", MISTAKES)
def test_mistakes_are_one_line(command: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("field.yaml").write_text("bugdet: 3\n")
    code, out, err = run(command, capsys)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert MISTAKES[command] in err
