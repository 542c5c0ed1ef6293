"""Ranks: two processes on half batches do what one process does with the whole batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from bestiary.catalogue import create
from bestiary.cli.main import main
from bestiary.data.specs import ImageSpec
from bestiary.errors import OptionError
from bestiary.testing import random_data
from bestiary.training.budget import parse_budget
from bestiary.training.loop import Training
from bestiary.training.ranks import RankBatchNorm, Ranks, synchronise_batch_norm
from bestiary.training.runtime import Runtime
from rank_training import CASES, build

# What gloo's threads say when they now and then abort the interpreter's end, after all is written.
GLOO_AT_EXIT = "terminate called without an active exception"
SCRIPT = Path(__file__).parent / "rank_training.py"
TORCHRUN = [
    sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--log-dir",
]  # fmt: skip


def torchrun(tmp_path, *arguments):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [*TORCHRUN, str(tmp_path / "logs"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


def test_two_ranks_equal_one_process_in_float64(tmp_path):
    """20 updates on half batches each: batch norm, noise, accumulation, and a step of a penalty alone."""
    for folder in ("alone", "together"):
        (tmp_path / folder).mkdir()
    subprocess.run([sys.executable, SCRIPT, tmp_path / "alone"], check=True, timeout=300)
    done = torchrun(tmp_path, str(SCRIPT), str(tmp_path / "together"))
    assert done.returncode == 0, done.stderr
    for name in CASES:
        one, two = (load_file(tmp_path / folder / name) for folder in ("alone", "together"))
        assert one.keys() == two.keys()
        start = dict(build(name).named_parameters())
        assert all((one[key] - start[key]).abs().max() > 1e-6 for key in start if "weight" in key)
        for key, value in one.items():
            where = f"{name}, {key}: "
            torch.testing.assert_close(
                two[key], value, rtol=1e-8, atol=1e-8, check_dtype=False, msg=where.__add__
            )


def test_torchrun_trains_a_run_that_one_process_can_open_and_resume(tmp_path):
    out = tmp_path / "run"
    bestiary = str(Path(sys.executable).parent / "bestiary")
    command = ["--no-python", bestiary, "train", "vae", "--data", "digits", "--preset", "laptop"]
    command += ["--budget", "4 rounds", "--set", "channels=2", "--device", "cpu"]
    done = torchrun(tmp_path, *command, "--out", str(out))
    assert done.returncode == 0 or GLOO_AT_EXIT in done.stderr, done.stderr
    assert done.stdout.strip() == str(out)  # rank 0 alone prints
    assert done.stderr.count("finished:") == 1
    state = json.loads((out / "state.json").read_text())
    assert (state["status"], state["hardware"]["ranks"]) == ("finished", 2)
    assert state["clock"]["examples"] == 200  # of all ranks together
    refused = torchrun(tmp_path, *command, "--out", str(out))
    assert refused.returncode != 0
    assert refused.stderr.count("exists already and is not empty") == 1


def test_commands_that_are_one_process_refuse_several(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["evaluate", "runs/x"]) == 2
    assert "`bestiary evaluate` is one: start it without torchrun" in capsys.readouterr().err
    monkeypatch.setenv("RANK", "1")
    assert main(["evaluate", "runs/x"]) == 2
    assert capsys.readouterr().err == ""


def test_batches_that_cannot_be_cut_are_refused():
    spec = ImageSpec(1, 8, 8, levels=4)
    model = create("vae", spec=spec, hidden=[8], latent_dim=2, batch_size=9)
    runtime = Runtime(torch.device("cpu"), "float32", ranks=Ranks(0, 2))
    options = {"budget": parse_budget("1 rounds"), "seed": 0, "runtime": runtime}
    data = random_data(spec).train
    with pytest.raises(
        OptionError, match="ranks × accumulate: found 2, wanted a divisor of the batch size 9"
    ):
        Training(model, data, **options)
    model = create("vae", spec=spec, hidden=[8], latent_dim=2, batch_size=8)
    model.batch_coupled = True
    with pytest.raises(OptionError, match="found 2, wanted 1: costs of this VAE look at a whole batch"):
        Training(model, data, **options)
    alone = {**options, "runtime": Runtime(torch.device("cpu"), "float32")}
    with pytest.raises(OptionError, match="accumulate: found 4, wanted 1: costs of this VAE"):
        Training(model, data, **alone, accumulate=4)


def test_batch_norm_over_ranks_keeps_its_parameters_and_is_the_usual_one_alone():
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.BatchNorm1d(12))
    with torch.no_grad():
        network[1].weight.uniform_()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    parameters = list(network.parameters())
    x = torch.rand(5, 1, 4, 4)
    expected = network(x)
    network.load_state_dict(before)
    synchronise_batch_norm(network)
    assert [type(m) for m in network][1::2] == [RankBatchNorm, RankBatchNorm]
    assert all(a is b for a, b in zip(parameters, network.parameters(), strict=True))
    assert network.state_dict().keys() == before.keys()
    torch.testing.assert_close(network(x), expected, rtol=0, atol=0)
