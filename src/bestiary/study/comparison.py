"""Train several models under one equal budget, score them on the same data, write the report."""

import platform
import shlex
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bestiary import catalogue
from bestiary.data.splits import Data, flat_parts
from bestiary.errors import OptionError, RunError, StoppedError
from bestiary.metrics.neighbours import nearest_in_parts
from bestiary.models.base import ClosedForm, Model
from bestiary.report import write_report
from bestiary.runs.evaluation import Evaluator, check_metrics
from bestiary.runs.findings import Evaluation, SplitName
from bestiary.runs.folder import Run, load
from bestiary.runs.training import is_empty, prepare, train
from bestiary.scores import DEFAULT_EMBEDDING, METRICS
from bestiary.study.results import Comparison, Entry, Images, Progress
from bestiary.training.budget import parse_budget
from bestiary.training.files import told_in_one_line
from bestiary.training.loop import Observer
from bestiary.training.runtime import Precision

SHOWN = 64
NEIGHBOURS = 12
_CLOCK = {"examples", "rounds", "seconds", "flops"}

Say = Callable[[str], None]


def compare(
    data: Data,
    models: Sequence[str | Model],
    *,
    budget: str,
    out: str | Path,
    seed: int = 0,
    n: int = 10_000,
    split: SplitName = "test",
    preset: catalogue.Preset = "laptop",
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    metrics: Sequence[str] | None = None,
    embedding: str | nn.Module = DEFAULT_EMBEDDING,
    device: str = "auto",
    precision: Precision = "auto",
    resume: bool = False,
    watch: Callable[[str], Sequence[Observer]] = lambda _: (),
    say: Say = lambda _: None,
    command: str | None = None,
) -> Comparison:
    """Answer "which one is best?" for some data, models and budget.

    Every model gets the same budget, seed and data; all are scored on the same real examples; what real
    data score against other real data stands beside them. `out` gets `report.html`, the table as JSON and
    CSV, and one run folder a model under `runs/`.

    Arguments:
        data: the data set.
        models: names of the catalogue, or your own models.
        budget: for each model, see `train`.
        out: a folder that is new or empty, or holds this comparison unfinished and `resume` is true.
        seed: of initial weights, batch order, samples and metrics.
        n: number of real examples and of samples that are scored; at most what the split has.
        split: the split that is scored.
        preset: of the models that are given by name.
        settings: by model name, over the preset's.
        metrics: of `bestiary.scores.METRICS`; None for those that cost little and suit the data.
        embedding: name of the network that turns images into features, or a network of your own.
        device, precision: see `train`.
        resume: use the models that are trained already, and go on with the one that is not.
        watch: the observers for the training of a model, by its name: a progress bar.
        say: told in a line what happens next.
        command: what the report names as the way to repeat it; by default this process's command line.

    Raises:
        OptionError: an unknown model, setting, metric, embedding or budget; a model named twice.
        DataError: a metric or an embedding that these data do not have, or weights that are not installed.
        RunError: the folder is in use or cannot be written.
        StoppedError: Ctrl-C; what is trained is kept.
    """
    start = time.perf_counter()
    if metrics is not None:
        check_metrics(metrics)
    amount = parse_budget(budget)
    arms = _arms(data, models, preset, settings or {}, seed)
    for model in arms.values():
        amount.check(endless=data.train.endless, players=model.players() or [amount.player or ""])
    evaluator = Evaluator(data, n=n, split=split, embedding=embedding, seed=seed, device=device)
    folder = Path(out)
    prepare(folder, resume)
    if resume:
        _check_same_comparison(folder, arms)
    earlier = _seconds_trained(folder)
    say("scoring real data against real data")  # first, so that what cannot be scored is told before training
    floor = evaluator.floor(metrics)
    for note in floor.notes:
        say(f"note: {note}")
    runs = {}
    for name, model in arms.items():
        say(f"training {name} ({model.parameter_count:,} parameters) for {budget}")
        run = train(
            model, data, budget=amount, out=folder / "runs" / name, seed=seed, resume=True,
            device=device, precision=precision, observers=watch(name),
        )  # fmt: skip
        if run.status == "stopped":
            raise StoppedError(
                f"{folder}: stopped by {run.state['reason']} while {name} was training;"
                " what is trained is kept: the same command with --resume goes on"
            )
        runs[name] = run
    entries = []
    for name, run in runs.items():
        say(f"scoring {name}")
        entries.append(_entry(name, run, arms[name], evaluator, metrics, folder, device))
    comparison = Comparison(
        data=data.name,
        spec=data.spec,
        sizes={part: len(s) for part, s in _splits(data).items() if not s.endless},
        classes=data.classes or (),
        fingerprint=data.fingerprint,
        budget=str(budget),
        seed=seed,
        split=split,
        n=evaluator.n,
        entries=entries,
        floors=floor.scores,
        floor_precision=_curve(floor.precision),
        floor_recall=_curve(floor.recall),
        notes=tuple(floor.notes),
        real=_pictures(evaluator.real[:SHOWN]),
        command=command or shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        versions={name: version(name) for name in ("bestiary", "torch", "numpy", "scikit-learn")}
        | {"python": platform.python_version()},
        hardware=hardware(),
        date=datetime.now(UTC).strftime("%Y-%m-%d"),
        seconds_total=earlier + time.perf_counter() - start,
    )
    with told_in_one_line("out"):
        comparison.save(folder)
        write_report(comparison, folder)
    return comparison


def _check_same_comparison(folder: Path, arms: Collection[str]) -> None:
    """Refuse to go on in a folder whose files would be lost."""
    runs = folder / "runs"
    if not is_empty(folder) and not runs.is_dir():
        raise RunError(f"out: {folder} is not empty and holds no comparison: choose another --out")
    lost = sorted(run.name for run in runs.iterdir() if run.name not in arms) if runs.is_dir() else []
    if lost:
        raise RunError(
            f"models: found {', '.join(arms)}, but the comparison in {folder} has {', '.join(lost)} too:"
            " name all of them, or choose another --out"
        )


def _seconds_trained(folder: Path) -> float:
    """What training took before a comparison went on."""
    states = [Run(path.parent).state for path in folder.glob("runs/*/state.json")]
    return sum(float(state["clock"]["seconds"]) for state in states)


def _arms(
    data: Data,
    models: Sequence[str | Model],
    preset: catalogue.Preset,
    settings: Mapping[str, Mapping[str, Any]],
    seed: int,
) -> dict[str, Model]:
    if not models:
        raise OptionError("models: found none, wanted at least one name of the catalogue")
    arms: dict[str, Model] = {}
    wanted = {catalogue.entry(name).name: values for name, values in settings.items()}
    for model in models:
        if isinstance(model, str):
            name = catalogue.entry(model).name
            built = catalogue.create(name, spec=data.spec, seed=seed, preset=preset, **wanted.pop(name, {}))
        else:
            name, built = catalogue.name_of(model) or type(model).__qualname__, model
        if name in arms:
            raise OptionError(f"models: found {name!r} twice, wanted every model once")
        arms[name] = built
    if wanted:
        raise OptionError(f"settings: found some for {', '.join(wanted)}, which is not among the models")
    return arms


def _entry(
    name: str,
    run: Run,
    model: Model,
    evaluator: Evaluator,
    names: Sequence[str] | None,
    folder: Path,
    device: str,
) -> Entry:
    state, config = run.state, run.config
    clock = state["clock"]
    known = catalogue.CATALOGUE.get(name)
    found = Evaluation()
    if state["status"] == "diverged":
        found.lack(METRICS, "the training diverged")
    else:
        found = evaluator.evaluate(load(run.folder, model=type(model), device=device), names)
    return Entry(
        model=name,
        family=known.family if known else "your own",
        paper=known.paper if known else "",
        year=known.year if known else datetime.now(UTC).year,
        run=str(run.folder.relative_to(folder)),
        status=state["status"],
        reason=state["reason"],
        warnings=tuple(state.get("warnings", ())),
        parameters=state["parameters"],
        examples=clock["examples"],
        updates=clock["updates"],
        seconds=clock["seconds"],
        flops=clock["flops"] or None,
        arithmetic="" if isinstance(model, ClosedForm) else config.training["precision"],
        sampling_seconds=found.sampling_seconds,
        settings=config.model["settings"],
        scores=found.scores,
        unavailable=found.unavailable,
        learning=[_progress(line) for line in run.log()],
        precision=_curve(found.precision),
        recall=_curve(found.recall),
        nats=_curve(found.nats),
        samples=None if found.samples is None else _pictures(found.samples[:SHOWN]),
        neighbours=None if found.samples is None else _neighbours(found.samples[:NEIGHBOURS], evaluator.data),
    )


def _progress(line: Mapping[str, Any]) -> Progress:
    terms = {
        k: v for k, v in line.items() if k not in _CLOCK and not k.startswith("updates/") and v is not None
    }
    return Progress(examples=line["examples"], seconds=line["seconds"], terms=terms)


def _pictures(x: Tensor) -> Images | None:
    if x.ndim != 4:
        return None
    pictures: Images = (x.clamp(0, 1) * 255).round().byte().numpy()
    return pictures


def _neighbours(samples: Tensor, data: Data) -> Images | None:
    if samples.ndim != 4 or data.train.endless:
        return None
    _, indices, _ = nearest_in_parts(queries=samples.flatten(1), parts=flat_parts(data.train))
    pairs = torch.stack([samples, data.train[indices].x], dim=1)
    flat = _pictures(pairs.flatten(0, 1))
    return None if flat is None else flat.reshape(pairs.shape)


def _curve(values: Tensor | None) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    return None if values is None else values.double().numpy()


def _splits(data: Data) -> dict[str, Any]:
    return {"train": data.train, "validation": data.validation, "test": data.test}


def hardware() -> str:
    """What this machine computes with, in words."""
    processor = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
    except OSError:
        pass  # not Linux: the short name must do
    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, {processor}"
    threads = torch.get_num_threads()
    return f"{processor}, {threads} thread{'' if threads == 1 else 's'}, no GPU"
