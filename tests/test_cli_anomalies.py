"""`bestiary anomalies`: what it prints, writes and says, and every mistake in one line."""

import csv
import json
import os
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bestiary.cli.commands.anomalies import SCORES
from bestiary.cli.main import main
from bestiary.data import load_data
from bestiary.tasks import ANOMALY_SCORES
from pictures import fill

TINY = "--set hidden=[8] --set latent_dim=2 --budget '2 rounds'"
CONDITIONAL = "--data-set condition=classes"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with runs and images."""
    folder = tmp_path_factory.mktemp("anomalies")
    before = Path.cwd()
    os.chdir(folder)
    try:
        for command in (
            "train ppca --data digits --data-set only=0 --set latent_dim=10 --out zeros",
            f"train vae --data digits {CONDITIONAL} --data-set only=[1,2] {TINY} --out labelled",
            f"train autoencoder --data digits {TINY} --out coder",
            "train ppca --data ring --data-set size=100 --set latent_dim=1 --out ring",
        ):
            assert main(shlex.split(command)) == 0
        fill(Path("noise") / "grey", 5, (8, 8))
        fill(Path("noise") / "colour", 4, (20, 16, 3), first=5)
        Path("noise/colour/broken.png").write_text("no image")
        np.save("white.npy", np.ones((3, 8, 8)))
        np.save("large.npy", np.ones((2, 9, 9)))
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


def test_the_oddest_of_all_classes_to_a_run_of_one(bestiary):
    code, out, err = bestiary("anomalies zeros -n 4")
    assert code == 0
    oddest, classes = out.split("\nAUROC against test examples of 0\n")
    head, *rows = oddest.splitlines()
    assert head.split() == ["image", "class", "score", "validation", "as", "odd"]
    assert len(rows) == 4
    labels = load_data("digits").test.labels
    validation = int((load_data("digits").validation.labels == 0).sum())
    for row in rows:
        image, label, _, count, of, n = row.split()
        assert (int(label), count, of, int(n)) == (labels[int(image)], "0", "of", validation)
        assert label != "0"
    names, values, errors = zip(*(row.split() for row in classes.splitlines()[1:]), strict=True)
    assert names == ("all", *"123456789")
    assert min(map(float, values)) > 0.9
    assert all(0 <= float(error) < 0.05 for error in errors)
    assert "score: bound, −ELBO, nats" in err
    assert "written: zeros-anomalies.png, zeros-anomalies.csv" in err
    with Image.open("zeros-anomalies.png") as picture:
        assert picture.size[0] == 4 * 58 + 2
    with Path("zeros-anomalies.csv").open(encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [int(row["class"]) for row in table] == labels.tolist()
    worst = max(table, key=lambda row: float(row["score"]))
    assert worst["image"] == rows[0].split()[0]
    ordinary = [int(row["validation_as_odd"]) for row in table if row["class"] == "0"]
    assert sum(ordinary) / len(ordinary) / validation > 0.3  # about a half: they are of one law


def test_files_of_a_folder_by_name(bestiary):
    code, out, err = bestiary("anomalies coder --data noise -n 9 --json --out a/some.csv --out a/some.png")
    found = json.loads(out)
    assert code == 0
    assert found["out"] == ["a/some.csv", "a/some.png"]
    assert all(Path(path).is_file() for path in found["out"])
    assert (found["score"], found["examples"], found["validation"]) == ("reconstruction", 9, 300)
    assert "left out 'colour/broken.png': it is no image" in err
    files = {f"grey/{i:03}.png" for i in range(5)} | {f"colour/{i:03}.png" for i in range(5, 9)}
    assert {row["image"] for row in found["oddest"]} == files
    scores = [row["score"] for row in found["oddest"]]
    assert scores == sorted(scores, reverse=True)
    assert found["ordinary"][0] == found["oddest"][-1]
    assert all(row["class"] == row["image"].partition("/")[0] for row in found["oddest"])
    assert set(found["auroc"]) == {"all", "colour", "grey"}
    assert found["auroc"]["all"]["protocol"] == "auroc[n_normal=300, n_anomalous=9]"


def test_arrays_and_other_data_sets(bestiary):
    code, out, err = bestiary("anomalies zeros --data white.npy --json")
    found = json.loads(out)
    assert code == 0
    assert [row["image"] for row in found["ordinary"]] == [0, 1, 2]
    assert "class" not in found["ordinary"][0]
    assert list(found["auroc"]) == ["all"]
    assert "--score complexity" not in err
    code, out, err = bestiary("anomalies zeros --data digits --score bound")
    assert code == 0
    assert "AUROC against the run's validation examples" in out
    assert "compare --score complexity or reconstruction" in err


def test_without_anything_known_to_be_odd_there_is_no_auroc(bestiary):
    code, out, _ = bestiary("anomalies labelled --json -n 1")
    found = json.loads(out)
    assert (code, found["auroc"], found["data"]) == (0, {}, "digits[1, 2]")
    assert found["oddest"][0]["class"] in ("1", "2")
    assert json.loads(bestiary("anomalies labelled --json -n 1")[1]) == found
    other = json.loads(bestiary("anomalies labelled --json -n 1 --seed 1")[1])
    assert other["oddest"][0]["score"] != found["oddest"][0]["score"]
    code, out, _ = bestiary("anomalies ring --json -n 2")
    assert (code, json.loads(out)["out"]) == (0, ["ring-anomalies.csv"])


def test_it_offers_the_scores_that_there_are():
    assert ("auto", *ANOMALY_SCORES) == SCORES


MISTAKES = {
    "anomalies nowhere": "run: found no folder 'nowhere'",
    "anomalies coder --score bound": "score: Autoencoder has no bound, wanted one of reconstruction",
    "anomalies coder --score boud": "--score: found 'boud', did you mean 'bound'?",
    "anomalies coder -n 0": "-n: found '0', wanted a whole number ≥ 1",
    "anomalies coder --out a.jpg": "--out: found 'a.jpg', wanted a file that ends in .png or .csv",
    "anomalies ring --out a.png": "--out: found 'a.png', wanted a file that ends in .csv",
    "anomalies coder --data digit": "unknown data 'digit': did you mean 'digits'?",
    "anomalies coder --data digits-fixed": "but digits-fixed has 1x8x8 images of 2 levels",
    "anomalies coder --data large.npy": "data: found images of 9×9",
    "anomalies ring --data noise": "--data: found 'noise', but the model of this run is of no images",
    "anomalies labelled --data noise": "--data: found 'noise', but the model of this run wants a condition",
}


@pytest.mark.parametrize("command", MISTAKES)
def test_mistakes_are_one_line(bestiary, command):
    code, out, err = bestiary(command)
    assert (code, out) == (2, ""), err
    line = err.splitlines()[-1]
    assert line.startswith("bestiary: ")
    assert MISTAKES[command] in line
    assert not [other for other in err.splitlines()[:-1] if not other.startswith(("score:", "validation"))]
