"""Every mistake of a person gives one line on standard error and exit code 2; never a traceback."""

import errno
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bestiary.cli.main import main

SMALL = "train vae --data digits --set hidden=[8] --set latent_dim=2 --preset laptop --budget '3 rounds'"
BESTIARY = [sys.executable, "-m", "bestiary"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a run, an empty folder and files to trip over."""
    folder = tmp_path_factory.mktemp("mistakes")
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert main(shlex.split(f"{SMALL} --out run")) == 0
        Path("empty").mkdir()
        Path("file").write_text("in the way")
        Path("other").mkdir()
        Path("other/report.html").write_text("somebody's")
        shutil.copytree("run", "emptied")
        shutil.rmtree("emptied/checkpoints")
        files = {
            "field": "model: vae\nbugdet: 3 epochs\n",
            "setting": "model: {name: vae, settings: {latnt_dim: 3}}\n",
            "section": "model: vae\ntraining: {precison: float32}\n",
            "number": "model: vae\nseed: soon\n",
            "list": "- vae\n",
            "broken": "model: [vae\n",
            "nothing": "seed: 1\n",
            "training": "model: vae\ntraining: 7\n",
            "twice": "model: vae\nseed: 1\nseed: 2\n",
            "large": f"model: vae\nseed: {2**63}\n",
        }
        for name, text in files.items():
            Path(f"{name}.yaml").write_text(text)
        yield folder
    finally:
        os.chdir(before)


def line_of(command, place, capsys, monkeypatch):
    """The one line that a command with a mistake in it gives."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("BESTIARY_CACHE", str(place / "cache"))
    capsys.readouterr()
    code = main(shlex.split(command))
    out, err = capsys.readouterr()
    assert (code, out) == (2, ""), err
    assert err.startswith("bestiary: ")
    assert err.count("\n") == 1, err
    return err


MISTAKES = {
    # names
    "train vea --data digits": "unknown model 'vea': did you mean 'vae'?",
    "models gated-pixelcn": "unknown model 'gated-pixelcn': did you mean 'gated-pixelcnn'?",
    "compare --models ppca,vea": "unknown model 'vea': did you mean 'vae'?",
    "train vae --data digit": "unknown data 'digit': did you mean 'digits'?",
    "data mnits": "unknown data 'mnits': did you mean 'mnist'?",
    "trian vae": "unknown command 'trian': did you mean 'train'?",
    "study rnu": "unknown command 'rnu': did you mean 'run'?",
    "study": "bestiary study: found no command, wanted one of run, show, report",
    "train vae --budgte '2 epochs'": "unknown option '--budgte': did you mean '--budget'?",
    "--verzion": "unknown option '--verzion': did you mean '--version'?",
    "train vae --data digits --set latnt_dim=3": "'latnt_dim': did you mean 'latent_dim'?",
    "train vae --data digits --set seed=3": "unknown option of vae 'seed'",
    "train vae --data digits --data-set binarize=fixed": "did you mean 'binarise'?",
    "train vae --data digits --data-set name=x": "unknown option of digits 'name'",
    "train vae --preset labtop": "--preset: found 'labtop', did you mean 'laptop'?",
    "train vae --precision float16": "--precision: found 'float16', did you mean 'bfloat16'?",
    "train vae --data digits --device cdua": "device: found 'cdua'",
    "evaluate run --metrics frechett": "unknown metric 'frechett': did you mean 'frechet'?",
    "evaluate run --embedding pixel": "unknown embedding 'pixel': did you mean 'pixels'?",
    "compare --models ppca --metrics frechett": "unknown metric 'frechett': did you mean 'frechet'?",
    "compare --models ppca --embedding pixel": "unknown embedding 'pixel': did you mean 'pixels'?",
    "evaluate run --split tset": "--split: found 'tset', did you mean 'test'?",
    "compare --models ppca,vae --set vae.latnt_dim=3": "did you mean 'latent_dim'?",
    # config files
    "train --config field.yaml": "unknown option of field.yaml 'bugdet': did you mean 'budget'?",
    "train --config setting.yaml": "unknown option of vae 'latnt_dim': did you mean 'latent_dim'?",
    "train --config section.yaml": "'precison': did you mean 'precision'?",
    "train --config number.yaml": "seed: found 'soon', wanted a whole number",
    "train --config list.yaml": "wanted fields, as in 'model: vae'",
    "train --config broken.yaml": "broken.yaml is no YAML",
    "train --config nothing.yaml": "MODEL: found nothing, wanted a name",
    "train --config training.yaml": "training: found 7",
    "train --config twice.yaml": "twice.yaml is no YAML: found 'seed' twice",
    "train --config large.yaml": "seed: found 9223372036854775808",
    "train --config missing.yaml": "cannot read 'missing.yaml' (No such file or directory)",
    "train --config empty": "cannot read 'empty' (Is a directory)",
    "train ppca --config run/config.yaml": "MODEL: found 'ppca', but the config file has settings of 'vae'",
    "train --config run/config.yaml --preset laptop": "leave --preset out",
    # values
    "train vae --data digits --set learning_rate=fast": "learning_rate: found 'fast', wanted a number > 0",
    "train vae --data digits --set learning_rate=-1": "learning_rate: found -1, wanted a number > 0",
    "train vae --data digits --set learning_rate": "--set: found 'learning_rate', wanted key=value",
    "train vae --data digits --set network=mpl": "unknown network of vae 'mpl': did you mean 'mlp'?",
    "train vae --seed few": "--seed: found 'few', wanted a whole number ≥ 0",
    "train vae --seed -1": "--seed: found '-1', wanted a whole number ≥ 0",
    "train vae --seed 9223372036854775808": "wanted a whole number ≥ 0 and below 2**63",
    "train vae --data digits --set latent_dim=": "latent_dim: found nothing after '=', wanted a value",
    "train vae --data digits --set latent_dim=true": "latent_dim: found True, wanted a whole number ≥ 1",
    "train vae --data digits --set learning_rate=.inf": "learning_rate: found inf, wanted a number > 0",
    "train vae --data digits --set latent_dim=100000000000": "memory: found too little for this",
    "sample run -n 1.5": "-n: found '1.5', wanted a whole number ≥ 1",
    "sample run -n": "'-n' requires an argument",
    "train vae --data digits --accumulate 0": "--accumulate: found '0', wanted a whole number ≥ 1",
    "train vae --data digits --budget 0": "budget: cannot read '0', wanted for example '2 epochs'",
    "train vae --data digits --budget '0 epochs'": "budget: found '0 epochs', wanted an amount above zero",
    "train vae --data digits --budget soon": "budget: cannot read 'soon', wanted for example",
    "train vae --data digits --budget '3 epocs'": "did you mean 'epochs'?",
    "train vae --data digits --budget ''": "budget: cannot read ''",
    "train vae --data digits --budget '3 discriminator updates'": "found updates of 'discriminator'",
    "compare --models ppca --budget '-1 epochs'": "wanted an amount above zero",
    "compare --models ppca,ppca": "models: found 'ppca' twice",
    "compare --models ,": "--models: found ',', wanted names between commas",
    "compare --models vae --set latent_dim=3": "--set: found 'latent_dim', wanted model.key=value",
    "compare --models vae --set ppca.latent_dim=3": "found some for ppca, which is not among the models",
    # what is missing
    "train": "MODEL: found nothing, wanted a name",
    "sample": "RUN: found nothing",
    "compare": "--models: found nothing",
    "train vae extra": "unexpected extra argument",
    "train --resume": "--resume: found no --out",
    "compare --models ppca --resume": "--resume: found no --out",
    "evaluate run --data-set size=3": "--data-set: found without --data",
    # data
    "train vae --data ''": "data: found '', wanted a name of `bestiary data`, or the path of a folder",
    "score --real '' --fake empty": "real: found nothing at ''",
    "train vae --data empty": "found no images in",
    "data ./empty": "found no images in",
    "train vae --data ./nowhere": "found nothing at",
    "evaluate run --data ring": "was made for 1x8x8 images of 17 levels, but ring has points of R^2",
    "evaluate run --data digits-fixed": "was made for 1x8x8 images of 17 levels",
    "train vae --data ring --set network=infogan": "found 'infogan' for PointSpec, wanted network=mlp",
    # folders
    "train vae --data digits --out run": "run exists already and is not empty",
    f"{SMALL} --out run": "run exists already and is not empty: go on with --resume, or choose another --out",
    f"{SMALL} --out file": "a file is in the way",
    f"{SMALL} --out file/below": "a file is in the way",
    f"{SMALL} --out /proc/below": "cannot write /proc/below",
    "compare --models ppca --out run": "run exists already",
    "compare --models ppca --out other --resume": "other is not empty and holds no comparison",
    "sample emptied": "emptied: its checkpoints are gone: put them back, or train anew",
    "train --resume --out emptied": "emptied: is finished, but its checkpoints are gone",
    "sample empty": "is no run folder",
    "sample nowhere": "found no folder 'nowhere'",
    "evaluate empty": "is no run folder",
    "evaluate file": "found no folder 'file'",
    "train --resume --out empty": "empty is no run folder to go on with",
    "sample run --out grid.jpg": "--out: found 'grid.jpg', wanted a file that ends in .png or .npz",
    "sample run --out file/grid.png": "a file is in the way",
    "sample run --classes 1": "--classes: the model of this run is not conditional",
    # resuming something else
    "train --resume --out run --set learning_rate=0.5": "learning_rate: found 0.5, but the run in run was",
    "train --resume --out run --budget '4 rounds'": "found '4 rounds', but the run in run was",
    "train --resume --out run --data digits-fixed": "data.name: found 'digits-fixed'",
    "train --resume --out run --preset paper": "model.settings.",
    f"{SMALL} --out run --resume --seed 1": "seed: found 1, but the run in run was started with 0",
}  # fmt: skip


@pytest.mark.parametrize("command", MISTAKES)
def test_a_mistake_gives_one_line_and_exit_code_2(command, place, capsys, monkeypatch):
    assert MISTAKES[command] in line_of(command, place, capsys, monkeypatch)


@pytest.mark.parametrize("mistake", ["--set latnt_dim=3", "--budget '3 critic updates'", "--scores nope"])
def test_a_mistake_leaves_nothing_behind(mistake, place, capsys, monkeypatch):
    line_of(f"train vae --data digits --preset laptop {mistake} --out made", place, capsys, monkeypatch)
    assert not (place / "made").exists()
    assert (place / "other" / "report.html").read_text() == "somebody's"


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.yaml", "model: {name: [1], settings: {}}\nformat: 2\n"),
        ("config.yaml", None),
        ("state.json", '{"status": "finished", "clock": null}'),
        ("state.json", '{"status": "finished", "clock": {"examples": "x"}}'),
    ],
)
def test_a_damaged_run_is_a_line_and_no_crash(file, content, place, capsys, monkeypatch):
    shutil.rmtree(place / "damaged", ignore_errors=True)
    shutil.copytree(place / "run", place / "damaged")
    if content is None:  # an image of a height that is none
        (place / "damaged" / "state.json").unlink()
        text = (place / "damaged" / file).read_text()
        assert "height: 8" in text
        content = text.replace("height: 8", "height: -8")
    (place / "damaged" / file).write_text(content)
    if file == "state.json":  # it is written anew from the checkpoint
        monkeypatch.chdir(place)
        assert main(["train", "--resume", "--out", "damaged"]) == 0
    else:
        assert "damaged" in line_of("sample damaged", place, capsys, monkeypatch)


def test_a_full_disk_gives_one_line_and_the_run_goes_on(place, capsys, monkeypatch):
    write = Path.write_bytes

    def full(path, content):
        if path.suffix == ".safetensors":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return write(path, content)

    monkeypatch.chdir(place)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        code = main(shlex.split(f"{SMALL} --out full"))
    last = capsys.readouterr().err.splitlines()[-1]
    assert code == 2
    assert last.startswith("bestiary: full: cannot write")
    assert last.endswith("no space left on the disk: free some and go on with --resume")
    assert main(["train", "--resume", "--out", "full"]) == 0


@pytest.mark.parametrize("command", ["train vea", "data nowhere"])
def test_a_real_process_ends_the_same_way(command, tmp_path):
    done = subprocess.run([*BESTIARY, *command.split()], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("bestiary: unknown ")
    assert done.stderr.count("\n") == 1


def test_a_reader_that_leaves_early_is_no_mistake():
    script = 'set -o pipefail; "$@" | true'
    done = subprocess.run(["bash", "-c", script, "bash", *BESTIARY, "models"], capture_output=True, text=True)
    assert done.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_output_gives_one_line():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*BESTIARY, "models"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (2, "bestiary: No space left on device\n")


def test_an_interrupt_gives_one_line(capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("bestiary.cli.commands.models.print_table", interrupted)
    assert main(["models"]) == 130
    assert capsys.readouterr().err == "bestiary: interrupted\n"


def test_a_fault_of_the_package_is_told_apart(capsys, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("a\nb")

    monkeypatch.setattr("bestiary.cli.commands.models.print_table", broken)
    monkeypatch.delenv("BESTIARY_DEBUG", raising=False)
    assert main(["models"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("bestiary: internal error (ZeroDivisionError: a b), please report it")
    assert err.count("\n") == 1
    assert main(["--debug", "models"]) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err
    monkeypatch.setenv("BESTIARY_DEBUG", "1")
    assert main(["models"]) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err
