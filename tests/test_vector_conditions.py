"""A model that is conditional on vectors, through every command that needs conditions."""

import json
import os
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bestiary.cli.main import main

TRAIN = (
    "train conditional-vae --data faces --data-set size=32 --data-set examples=200"
    " --data-set condition=attributes --set network=mlp --set hidden=[8] --set latent_dim=2"
    " --budget '2 rounds' --out run"
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vectors")
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert main(shlex.split(TRAIN)) == 0
        yield folder
    finally:
        os.chdir(before)


@pytest.fixture(autouse=True)
def in_place(place, monkeypatch):
    monkeypatch.chdir(place)


def test_the_run_is_finished_and_has_pictures(place):
    assert json.loads(Path("run/state.json").read_text())["status"] == "finished"
    pictures = sorted(Path("run/samples").glob("*.png"))
    assert pictures
    with Image.open(pictures[-1]) as grid:
        assert grid.size == (8 * (64 + 2) + 2,) * 2


def test_samples_are_of_the_attributes_of_test_images(place):
    from bestiary.runs import open_run

    assert main(shlex.split("sample run -n 7 --out samples.npz")) == 0
    stored = np.load("samples.npz")
    assert stored["samples"].shape == (7, 3, 32, 32)
    test = open_run("run").data.test
    np.testing.assert_array_equal(stored["conditions"], test.spread(7).condition)
    assert len(np.unique(stored["conditions"], axis=0)) > 1


@pytest.mark.parametrize(
    "command", ["complete run --mask lower -n 2", "interpolate run -n 2", "evaluate run"]
)
def test_other_commands_find_the_conditions(command, capsys):
    extra = " --metrics likelihood -n 20" if command.startswith("evaluate") else " --out picture.png"
    assert main(shlex.split(command + extra)) == 0, capsys.readouterr().err


def test_comparing_finds_the_conditions(capsys):
    command = (
        "compare --data faces --data-set size=32 --data-set examples=200 --data-set condition=attributes"
        " --models conditional-vae --budget '2 rounds' --out compared --metrics likelihood -n 20"
    )
    assert main(shlex.split(command)) == 0, capsys.readouterr().err
    assert Path("compared/report.html").exists()
