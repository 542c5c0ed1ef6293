"""What these experiments share: a command line, results as JSON, the figures of docs/adversarial.md."""

import argparse
import importlib.metadata
import json
import platform
import shlex
import sys
import time
from datetime import date
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))  # the look of all figures of the documentation
from figure_style import standalone

FIGURES = Path(__file__).parents[2] / "docs" / "_static" / "adversarial"
PACKAGES = ("bestiary", "torch", "numpy", "scipy")


def command_line(script, doc, measure, figures, *, arguments=()):
    """Measure, keep and draw.

    Arguments:
        script: its path; results go to a .json beside it.
        doc: what it does; its first line is the help.
        measure: of (options, found, keep): puts results into `found`, which holds what was kept before, and
            calls `keep()` whenever something is worth keeping, `keep(whole=True)` if all of it is new.
        figures: {function of what was found: what a reader who does not see its figure is told}.
        arguments: of the command line, beside those that all have: (name, settings of argparse).
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(script).with_suffix(".json"), help="the results")
    parser.add_argument("--figures", type=Path, default=FIGURES, help="folder of the figures")
    parser.add_argument("--draw", action="store_true", help="only draw what is kept")
    parser.add_argument("--seed", type=int, default=0)
    for name, about in arguments:
        parser.add_argument(name, **about)
    options = parser.parse_args()
    found = json.loads(options.out.read_text()) if options.out.exists() else {}
    if not options.draw:
        start, before = time.process_time(), found.get("about", {})
        command = shlex.join(["python", *sys.argv])

        def keep(*, whole=False):
            earlier = {} if whole else before
            commands = [each for each in earlier.get("commands", []) if each != command]
            found["about"] = {
                "commands": [*commands, command],
                "seed": options.seed,
                "cpu_seconds": round(time.process_time() - start + earlier.get("cpu_seconds", 0)),
                "threads": torch.get_num_threads(),
                "machine": platform.machine(),
                "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
                "date": str(date.today()),
            }
            options.out.write_text(json.dumps(found, ensure_ascii=False) + "\n")

        measure(options, found, keep)
        found = json.loads(options.out.read_text())  # as it is read when it is only drawn
    options.figures.mkdir(parents=True, exist_ok=True)
    for figure, label in figures.items():
        path = options.figures / f"{figure.__name__}.svg"
        path.write_text(standalone(figure, found, label))
        print(path)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def plain(x, digits=4):
    """Nested lists of rounded numbers."""
    if isinstance(x, torch.Tensor):
        x = x.tolist()
    return [plain(each, digits) for each in x] if isinstance(x, list) else round(x, digits)
