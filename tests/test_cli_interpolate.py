"""`bestiary interpolate`: what it writes and says, and every mistake in one line."""

import json
import os
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import bestiary as package
from bestiary.cli.main import main

TINY = "--budget '2 rounds' --set hidden=[8] --set latent_dim=2"
SIDE = 56 + 2  # an image of 8×8 is drawn seven times as large, with a gap


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with six runs."""
    folder = tmp_path_factory.mktemp("interpolate")
    before = Path.cwd()
    os.chdir(folder)
    try:
        for command in (
            f"train vae --data digits {TINY} --out run",
            f"train vae --data digits --data-set condition=classes {TINY} --out labelled",
            f"train spherical-vae --data ring {TINY} --out ring",
            "train ns-gan --data ring --budget '2 rounds' --set hidden=[8] --out gan",
            "train ns-gan --data digits --data-set condition=classes --budget '2 rounds' --set channels=4"
            " --out drawn",
            "train gaussian-mixture --data digits --set components=2 --out mixture",
        ):
            assert main(shlex.split(command)) == 0
        yield folder
    finally:
        os.chdir(before)


@pytest.fixture
def bestiary(place, capsys, monkeypatch):
    """Runs a command line within this process: (exit code, stdout, stderr)."""
    monkeypatch.chdir(place)

    def run(command):
        capsys.readouterr()
        code = main(shlex.split(command))
        return code, *capsys.readouterr()

    return run


def test_without_an_encoder_codes_are_drawn(bestiary):
    code, out, err = bestiary("interpolate gan -n 3 --steps 5 --out points.npz --json")
    assert code == 0, err
    assert json.loads(out)["split"] is None
    stored = np.load("points.npz")
    assert stored["interpolations"].shape == (3, 5, 2)
    np.testing.assert_array_equal(stored["interpolations"][:, 0], stored["a"])
    np.testing.assert_array_equal(stored["interpolations"][:, -1], stored["b"])
    assert not np.array_equal(stored["a"], stored["b"])
    code, out, err = bestiary("interpolate drawn -n 3 --steps 4")
    assert (code, out) == (0, "drawn-interpolated.png\n"), err
    with Image.open("drawn-interpolated.png") as picture:
        assert picture.size == (4 * SIDE + 2, 3 * SIDE + 2)


def test_a_picture_of_the_runs_own_test_images(bestiary):
    code, out, _ = bestiary("interpolate run -n 3 --steps 4")
    assert (code, out) == (0, "run-interpolated.png\n")
    picture = np.asarray(Image.open("run-interpolated.png"))
    assert picture.shape == (3 * SIDE + 2, 6 * SIDE + 2)
    test = (package.load_data("digits").test[:].x[:, 0] * 255).round().byte().numpy()
    for row in range(3):
        for column in (0, 5):
            shown = picture[2 + row * SIDE :: 7, 2 + column * SIDE :: 7][:8, :8]
            assert (test == shown).all(axis=(1, 2)).any()


def test_arrays_and_json(bestiary):
    command = "interpolate run -n 5 --steps 3 --split validation --path spherical --out i/a.npz --json"
    code, out, _ = bestiary(command)
    assert code == 0
    assert json.loads(out) == {
        "out": "i/a.npz", "run": "run", "split": "validation", "n": 5, "steps": 3, "path": "spherical",
        "seed": 0,
    }  # fmt: skip
    with np.load("i/a.npz") as found:
        a, b, between = (found[name] for name in ("a", "b", "interpolations"))
    assert (a.shape, b.shape, between.shape) == ((5, 1, 8, 8), (5, 1, 8, 8), (5, 3, 1, 8, 8))
    assert between.dtype == np.uint8
    model, x = package.load("run"), package.load_data("digits").validation[:].x
    index = [(255 * x).round().byte().numpy().tolist().index(image.tolist()) for image in a]
    copies = (model.reconstruct(x[index]) * 255).round().byte().numpy()
    assert np.abs(between[:, 0].astype(int) - copies).max() <= 1
    bestiary(f"{command} --seed 1")
    assert not np.array_equal(np.load("i/a.npz")["a"], a)


def test_examples_of_a_class_are_paired(bestiary):
    code, out, _ = bestiary("interpolate labelled --out l.npz --json")
    assert (code, json.loads(out)["n"]) == (0, 8)
    test = package.load_data("digits").test
    stored = (255 * test[:].x).round().byte().numpy().tolist()
    found = np.load("l.npz")
    sides = [[int(test.labels[stored.index(image.tolist())]) for image in found[name]] for name in "ab"]
    assert sides[0] == sides[1]


def test_points_around_the_sphere(bestiary):
    code, out, _ = bestiary("interpolate ring -n 4 --steps 5 --json")
    assert code == 0
    found = json.loads(out)
    assert (found["out"], found["path"]) == ("ring-interpolated.npz", "spherical")
    between = np.load("ring-interpolated.npz")["interpolations"]
    assert (between.shape, between.dtype) == ((4, 5, 2), np.float32)


MISTAKES = {
    "interpolate mixture": "RUN: mixture is a GaussianMixture, which has no codes of examples: wanted a run",
    "interpolate nowhere": "run: found no folder 'nowhere'",
    "interpolate run --steps 1": "--steps: found '1', wanted a whole number ≥ 2",
    "interpolate run -n 0": "-n: found '0', wanted a whole number ≥ 1",
    "interpolate run --path sperical": "--path: found 'sperical', did you mean 'spherical'?",
    "interpolate run --split train": "--split: found 'train', wanted one of validation, test",
    "interpolate run --out file.jpg": "--out: found 'file.jpg', wanted a file that ends in .png or .npz",
    "interpolate ring --out file.png": "--out: found 'file.png', wanted a file that ends in .npz",
    "interpolate run --setps 3": "unknown option '--setps': did you mean '--steps'?",
}


@pytest.mark.parametrize("command", MISTAKES)
def test_mistakes_are_one_line(bestiary, command):
    code, out, err = bestiary(command)
    assert (code, out) == (2, ""), err
    assert err.startswith("bestiary: ")
    assert err.count("\n") == 1, err
    assert MISTAKES[command] in err
