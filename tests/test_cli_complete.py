"""`bestiary complete`: what it writes and says, and every mistake in one line."""

import json
import os
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bestiary.cli.main import main

TINY = "--budget '2 rounds' " + " ".join(
    f"--set {setting}"
    for setting in ("layers=2", "channels=8", "kernel_size=3", "head_channels=8", "batch_size=20")
)
SIDE = 56 + 2  # an image of 8×8 is drawn seven times as large, with a gap


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with three runs, images and masks."""
    folder = tmp_path_factory.mktemp("complete")
    before = Path.cwd()
    os.chdir(folder)
    try:
        for command in (
            f"train gated-pixelcnn --data digits {TINY} --out run",
            f"train gated-pixelcnn --data digits --data-set condition=classes {TINY} --out labelled",
            "train vae --data digits --set hidden=[8] --set latent_dim=2 --budget '2 rounds' --out vae",
        ):
            assert main(shlex.split(command)) == 0
        Path("photos").mkdir()
        for i in range(3):
            Image.fromarray(np.full((30, 20, 3), 80 * i, dtype=np.uint8)).save(f"photos/{i}.png")
        np.save("images.npy", np.full((2, 8, 8), 0.5))
        np.save("large.npy", np.full((2, 9, 9), 0.5))
        np.save("features.npy", np.ones((2, 9)))
        Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save("diagonal.png")
        Image.fromarray(np.eye(9, dtype=np.uint8) * 255).save("large.png")
        Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save("nothing.png")
        Path("words.png").write_text("no image")
        yield folder
    finally:
        os.chdir(before)


@pytest.fixture
def bestiary(place, capsys, monkeypatch):
    """Runs a command line within this process: (exit code, stdout, stderr)."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("BESTIARY_CACHE", str(place / "cache"))

    def run(command):
        capsys.readouterr()
        code = main(shlex.split(command))
        return code, *capsys.readouterr()

    return run


def test_a_picture_of_the_runs_own_test_images(bestiary):
    code, out, err = bestiary("complete run -n 3 --images 4")
    assert (code, out) == (0, "run-completed.png\n")
    assert "completing: 4 of 4" in err
    assert "bits/dim, given the others" in err
    picture = np.asarray(Image.open("run-completed.png"))
    assert picture.shape == (4 * SIDE + 2, 5 * SIDE + 2, 3)
    upper = picture[2:30]
    first, *others = (upper[:, 2 + SIDE * i : SIDE * (i + 1)] for i in range(5))
    assert first.std() > 0
    assert all(np.array_equal(other, first) for other in others)  # what is seen is the same in all
    lower = [picture[30:58, 2 + SIDE * i : SIDE * (i + 1)] for i in range(5)]
    assert len(np.unique(lower[1].reshape(-1, 3), axis=0)) == 1  # the flat colour
    assert not np.array_equal(lower[2], lower[3])


def test_json_has_a_number_for_each_image(bestiary):
    command = "complete run --mask upper -n 2 --images 3 --particles 4 --out c/a.png --json"
    code, out, _ = bestiary(command)
    found = json.loads(out)
    assert code == 0
    assert Path("c/a.png").is_file()
    assert {key: found[key] for key in ("out", "run", "mask", "images", "n", "seed")} == {
        "out": "c/a.png", "run": "run", "mask": "upper", "images": 3, "n": 2, "seed": 0,
    }  # fmt: skip
    assert len(found["bits_per_dim"]) == len(found["effective_sample_size"]) == 3
    assert all(2 < bits < 8 for bits in found["bits_per_dim"])  # log₂ of 17 levels is 4.1
    assert all(1 <= size <= 4 for size in found["effective_sample_size"])
    assert json.loads(bestiary(command)[1]) == found
    assert json.loads(bestiary(f"{command} --seed 1")[1])["bits_per_dim"] != found["bits_per_dim"]
    lower = json.loads(bestiary("complete run -n 1 --images 2 --json")[1])
    assert lower["effective_sample_size"] is None  # every pixel that is seen comes first


@pytest.mark.parametrize("mask", ["left", "right", "centre", "random", "diagonal.png"])
def test_every_mask(bestiary, mask):
    code, out, _ = bestiary(f"complete run --mask {mask} -n 1 --images 2 --particles 2 --json")
    assert code == 0
    picture = np.asarray(Image.open(json.loads(out)["out"]))
    shown, masked = picture[2:SIDE, 2:SIDE], picture[2:SIDE, SIDE + 2 : 2 * SIDE]
    share = (shown != masked).any(axis=2).mean()
    low, high = {"centre": (0.25, 0.25), "random": (0.3, 0.7), "diagonal.png": (1 / 8, 1 / 8)}.get(
        mask, (0.5, 0.5)
    )
    assert low <= share <= high


@pytest.mark.parametrize(("data", "images"), [("photos", 3), ("images.npy", 2), ("digits", 5)])
def test_other_data(bestiary, data, images):
    code, out, _ = bestiary(f"complete run --data {data} -n 1 --images 5 --json")
    assert (code, json.loads(out)["images"]) == (0, images)


def test_a_conditional_run_is_told_the_classes(bestiary):
    code, out, _ = bestiary("complete labelled -n 1 --images 2 --json")
    assert code == 0
    assert len(json.loads(out)["bits_per_dim"]) == 2


MISTAKES = {
    "complete vae": "RUN: vae is a VAE, which fills in no images",
    "complete nowhere": "run: found no folder 'nowhere'",
    "complete run --mask lowr": "unknown mask 'lowr': did you mean 'lower'?",
    "complete run --mask nothing.png": "mask: 'nothing.png' hides no pixel of an image",
    "complete run --mask missing.png": "mask: found nothing at 'missing.png'",
    "complete run --mask words.png": "mask: 'words.png' is no image of a known format",
    "complete run --mask large.png": "mask: found 9×9 pixels in 'large.png', wanted 8×8",
    "complete run -n 0": "-n: found '0', wanted a whole number ≥ 1",
    "complete run --images none": "--images: found 'none', wanted a whole number ≥ 1",
    "complete run --particles 0": "--particles: found '0', wanted a whole number ≥ 1",
    "complete run --out file.jpg": "--out: found 'file.jpg', wanted a file that ends in .png",
    "complete run --data digit": "unknown data 'digit': did you mean 'digits'?",
    "complete run --data digits-fixed": "but digits-fixed has 1x8x8 images of 2 levels",
    "complete run --data large.npy": "data: found images of 9×9",
    "complete run --data features.npy": "data: found features in 'features.npy', wanted images",
    "complete run --data none.npy": "data: found nothing at 'none.npy'",
    "complete labelled --data photos": "--data: found 'photos', but the model of this run wants a condition",
    "complete run --maks lower": "unknown option '--maks': did you mean '--mask'?",
}


@pytest.mark.parametrize("command", MISTAKES)
def test_mistakes_are_one_line(bestiary, command):
    code, out, err = bestiary(command)
    assert (code, out) == (2, ""), err
    assert err.startswith("bestiary: ")
    assert err.count("\n") == 1, err
    assert MISTAKES[command] in err
