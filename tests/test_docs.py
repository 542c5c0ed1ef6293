"""What the README and the documentation say is done here: their Python, their commands, their names."""

import itertools
import re
import runpy
import shlex
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
import typer.main
from PIL import Image

from bestiary.catalogue import CATALOGUE
from bestiary.cli.main import app
from bestiary.data.datasets import DATASETS
from bestiary.data.specs import ImageSpec

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
# The README shows what takes minutes; here the same is done in seconds.
SMALLER = {
    '"fashion-mnist"': '"digits"',
    '"2 epochs"': '"2 rounds"',
    '"5 minutes"': '"2 rounds", metrics=["frechet"]',
}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)


def run(page: Path) -> dict[str, object]:
    """Execute a page's Python blocks in order, in the current folder."""
    namespace: dict[str, object] = {"__name__": page.stem}
    for number, block in enumerate(blocks(page, "python")):
        code = block
        if page.name == "README.md":
            for long, short in SMALLER.items():
                assert long in code, f"nothing to make smaller: {long}"
                code = code.replace(long, short)
        exec(compile(code, f"{page.name}, block {number}", "exec"), namespace)
    return namespace


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder to work in, but for the photos that some pages speak of."""
    draw = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(10):
            pixels = draw.integers(256, size=(40, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BESTIARY_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if blocks(page, "python") and page.name != "own-model.md"],
    ids=lambda page: page.name,
)
def test_python_blocks_run(page, folder):
    run(page)


def test_own_model(folder):
    page = run(ROOT / "docs" / "own-model.md")  # holds MADE to check_model, trains, loads and compares it
    assert "check_model" in page
    assert page["run"].status == "finished"
    data = page["data"]
    x = data.validation[:].x
    pixels = data.train[:].x.flatten(1)
    levels = (pixels * 16).round().long()
    masses = torch.stack([(levels == k).double().mean(0) for k in range(17)]).clamp(min=1e-3)  # (17, D)
    independent = -masses.log().gather(0, (x.flatten(1) * 16).round().long()).sum(1).mean()
    assert page["nats"] == pytest.approx(93, abs=5)  # as the page says
    assert independent == pytest.approx(107, abs=1)
    assert (folder / "comparisons" / "made" / "report.html").stat().st_size > 10_000


def test_own_models_likelihood_sums_to_one(folder):
    made = {}
    exec(blocks(ROOT / "docs" / "own-model.md", "python")[0], made)
    images = torch.tensor(list(itertools.product([0.0, 1.0], repeat=9))).view(-1, 1, 3, 3)
    model = made["MADE"](ImageSpec(1, 3, 3, levels=2), hidden=30)
    assert model.log_prob(images).double().exp().sum().item() == pytest.approx(1, abs=1e-5)


def commands() -> list[tuple[str, str]]:
    """Every `bestiary …` line of every page, with the page's name."""
    shell = [(page.name, block) for page in PAGES for block in blocks(page, "sh")]
    return [
        (name, line)
        for name, block in shell
        for line in block.replace("\\\n", " ").splitlines()
        if line.startswith("bestiary ")
    ]


@pytest.mark.parametrize(("page", "line"), commands())
def test_shell_commands_have_options_that_exist(page, line):
    _, name, *words = shlex.split(line, comments=True)
    known = typer.main.get_command(app).commands
    assert name in known
    command = known[name]
    if hasattr(command, "commands"):  # `bestiary study run`: a group of commands
        assert words[0] in command.commands
        command = command.commands[words[0]]
    options = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= options


def test_make_targets_that_are_named_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = {name for page in PAGES for name in re.findall(r"`make ([a-z-]+)", page.read_text())}
    assert {"demo", "test", "docs"} <= named <= targets


def test_names_in_the_readme_are_those_of_the_package():
    rows = dict(re.findall(r"^\| (\w+) \| (.*) \|$", (ROOT / "README.md").read_text(), re.M))
    assert re.findall(r"`([^`]+)`", rows["models"]) == list(CATALOGUE)
    assert set(re.findall(r"`([^`]+)`", rows["data"])) == set(DATASETS) - {"folder"}
    documented = set(re.findall(r"^\| `([\w-]+)` \|", (ROOT / "docs" / "data.md").read_text(), re.M))
    assert set(DATASETS) <= documented
    listed = [name.split()[-1] for name in re.findall(r"`([^`]+)`", rows["commands"])]
    assert listed == list(typer.main.get_command(app).commands)


@pytest.mark.parametrize(
    "page", [*PAGES, *ROOT.glob("benchmarks/**/README.md")], ids=lambda page: str(page.relative_to(ROOT))
)
def test_links_between_files_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_example_ring(folder, capsys):
    matplotlib.use("Agg")
    example = runpy.run_path(str(ROOT / "examples" / "ring.py"))
    example["main"](budget="20 rounds", picture=folder / "ring.png")
    assert (folder / "ring.png").read_bytes().startswith(b"\x89PNG")
    assert "of 8 modes found" in capsys.readouterr().out
