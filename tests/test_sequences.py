"""Sequences through everything that a run goes through: training, samples as text, scores, comparison."""

import itertools
import json

import numpy as np
import pytest
import torch

import bestiary
from bestiary.cli.main import main
from bestiary.data.specs import SequenceSpec
from bestiary.models.autoregressive.transformer import Transformer
from bestiary.runs.evaluation import Evaluator, default_metrics
from bestiary.testing import random_data


def test_sequences_are_scored_by_likelihood_alone():
    data = random_data(SequenceSpec(6, 9), n=20)
    assert default_metrics(data) == ["likelihood"]
    model = Transformer.tiny(data.spec).eval()
    evaluator = Evaluator(data)
    found = evaluator.evaluate(model)
    assert set(found.scores) == {"nats", "bits_per_dim"}
    assert "log mass of 9 symbols" in found.scores["nats"].protocol
    with torch.no_grad():
        assert found.scores["nats"].value == pytest.approx(
            -model.log_prob(data.test[:].x).mean().item(), abs=1e-4
        )
    asked = evaluator.evaluate(model, ["frechet", "reconstruction", "likelihood"])
    assert "no metric of samples knows sequences" in asked.unavailable["frechet"]
    assert set(asked.scores) == {"nats", "bits_per_dim"}
    assert not evaluator.floor(["frechet"]).scores


SMALL = ["--set", "model_dim=16", "--set", "heads=2", "--set", "layers=1", "--set", "feedforward_dim=16"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A word list and a run that was trained on it."""
    folder = tmp_path_factory.mktemp("words")
    letters = itertools.product("bdgt", "aeiou", "lmnrs")
    (folder / "list").write_text("\n".join("".join(word) for word in letters))
    run = folder / "run"
    code = main(["train", "transformer", "--data", "words", "--data-set", f"path={folder / 'list'}", *SMALL,
                 "--set", "batch_size=20", "--budget", "10 rounds", "--out", str(run)])  # fmt: skip
    assert code == 0
    return folder


def test_samples_of_a_run_are_text(corpus, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    run = corpus / "run"
    pictures = sorted(path.name for path in (run / "samples").iterdir())
    assert pictures[-1] == "00000200.txt"
    assert len((run / "samples" / pictures[-1]).read_text().splitlines()) == 64
    capsys.readouterr()
    assert main(["sample", str(run), "-n", "5"]) == 0
    assert capsys.readouterr().out == "run-samples.txt\n"
    lines = (tmp_path / "run-samples.txt").read_text().splitlines()
    assert main(["sample", str(run), "-n", "5", "--out", "x.npz", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["shape"] == [5, 21]
    symbols = np.load("x.npz")["samples"]
    assert (symbols.dtype, symbols.shape) == (np.int64, (5, 21))
    assert bestiary.load(run).spec.texts(torch.from_numpy(symbols)) == lines
    assert main(["sample", str(run), "--out", "x.png"]) == 2
    assert "--out: found 'x.png', wanted a file that ends in .txt or .npz" in capsys.readouterr().err


def test_sequences_are_compared(corpus, tmp_path, capsys):
    small = ["--set", "transformer.model_dim=16", "--set", "transformer.layers=1"]
    code = main(["compare", "--data", "words", "--data-set", f"path={corpus / 'list'}", "--models",
                 "transformer", *small, "--budget", "5 rounds", "--out", str(tmp_path / "c")])  # fmt: skip
    assert code == 0
    report = (tmp_path / "c" / "report.html").read_text()
    assert "sequences of 21 symbols out of 27" in report
    assert "Bits per dimension" in report


def test_the_command_line_shows_the_model_and_the_data(capsys):
    assert main(["models", "transformer"]) == 0
    assert "sequences of 21 symbols out of 27" in capsys.readouterr().out
    assert main(["data", "words"]) == 0
    assert "apt-get install wamerican" in capsys.readouterr().out
