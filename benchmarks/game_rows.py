"""What the tables of adversarial models share: a row's training, its JSON file, and a markdown table.

A row is a frozen dataclass with at least `model`, `settings` and `budget`. Every training is resumed where it
stopped, so a benchmark that was killed goes on by the same command.
"""

import importlib.metadata
import math
import platform
import statistics
import sys
from datetime import date
from pathlib import Path

import bestiary
from bestiary.training.files import write_json


def trained(row, data, folder, *, seed, precision, until=1.0):
    """The run of a row, trained up to a share of its budget; exits where it was asked to stop earlier.

    `precision` is the caller's: of points it is float32, whose rounding is far below the σ of a mode, where
    bfloat16's is as large.
    """
    model = bestiary.create(row.model, spec=data.spec, seed=seed, **row.settings)
    run = bestiary.train(
        model,
        data,
        budget=row.budget,
        out=folder,
        seed=seed,
        resume=True,
        device="cpu",
        precision=precision,
        until=until,
        pictures=2,
    )
    if run.status == "stopped" and run.state["clock"]["progress"] < until:
        sys.exit(f"{folder}: {run.state['reason']}; the same command goes on")
    return run


def processor():
    """The name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def about(row, run, seed):
    """How a row came about, for its JSON file."""
    state = run.state
    return {
        "command": f"python {' '.join(sys.argv)}",
        "model": row.model,
        "settings": row.settings,
        "budget": row.budget,
        "seed": seed,
        "status": state["status"],
        **({"reason": state["reason"]} if state["status"] == "diverged" else {}),
        "warnings": state.get("warnings", []),
        "rounds": state["clock"]["rounds"],
        "updates": state["clock"]["updates"],
        "seconds": round(state["clock"]["seconds"], 1),
        "parameters": state["parameters"],
        "hardware": {**state["hardware"], "processor": processor()},
        "versions": {name: importlib.metadata.version(name) for name in ("bestiary", "torch", "numpy")},
        "date": str(date.today()),
    }


def write(path, kept):
    """The JSON file of a row, replaced at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, kept)


def number(value, digits=4):
    """A number for JSON, or None where it is not finite."""
    return round(value, digits) if math.isfinite(value) else None


def scored(score, digits=4):
    """Value and error of a score."""
    error = None if score.error is None else number(score.error, digits)
    return {"value": number(score.value, digits), "error": error}


def check_names(parser, names, known):
    """Refuse a name that is no row."""
    for name in names:
        if name not in known:
            parser.error(f"rows: found {name!r}, wanted one of {', '.join(known)}")


def mean_and_error(values, digits=1):
    """ "mean ± standard error (lowest–highest)" of a number for each seed."""
    if not values:
        return ""
    text = f"{statistics.fmean(values):.{digits}f}"
    if len(values) > 1:
        error = statistics.stdev(values) / math.sqrt(len(values))
        text += f" ± {error:.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"
    return text


def print_table(columns, rows):
    """Markdown."""
    print("| " + " | ".join(columns) + " |")
    print("|---" * len(columns) + "|")
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")
