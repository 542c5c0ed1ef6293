"""Train a model into a run folder, or go on where an interrupted training stopped."""

import json
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from bestiary.config import check_seed, plain, resolve
from bestiary.data.splits import Data
from bestiary.errors import BestiaryError, OptionError, RunError, is_out_of_memory
from bestiary.metrics.results import Score
from bestiary.models.base import Clock, ClosedForm, Model
from bestiary.runs.collapse import CodesInUse
from bestiary.runs.folder import (
    LOCK,
    Run,
    RunConfig,
    check_same_data,
    locked,
    model_name,
    next_folder,
    read_config,
    write_config,
)  # fmt: skip
from bestiary.runs.json_lines import read_lines
from bestiary.runs.mode_collapse import SampleDiversity
from bestiary.runs.observers import Checkpoints, Log, Samples, Scores
from bestiary.training.budget import Budget, parse_budget
from bestiary.training.checkpoint import load_training, newest, save_model
from bestiary.training.compilation import Compile, choose_compilation
from bestiary.training.files import forget_asides, told_in_one_line, write_text
from bestiary.training.loop import Observer, Training
from bestiary.training.runtime import Precision, Runtime, choose_runtime


def train(
    model: Model,
    data: Data,
    *,
    budget: str | Budget,
    out: str | Path | None = None,
    seed: int = 0,
    resume: bool = False,
    device: str = "auto",
    precision: Precision = "auto",
    compile: Compile = "auto",
    accumulate: int = 1,
    observers: Sequence[Observer] = (),
    score: Callable[[Model], Mapping[str, Score]] | None = None,
    checkpoint_seconds: float = 60.0,
    until: float = 1.0,
    pictures: int = 10,
) -> Run:
    """Train `model` on `data` until the budget is spent, into a run folder.

    A training that was interrupted goes on with `resume=True`, bit-equal to one that never was (same
    machine and thread count, a budget that is not a time). A cost that is not finite or runs away stops
    the run as a result: its status is "diverged", with the reason. Ctrl-C and SIGTERM save and stop.

    Arguments:
        model: freshly created; the trained weights end up in it, and in the run.
        data: what to train on; only `data.train` is touched.
        budget: "2 epochs", "500k examples", "10 minutes", "300 rounds", "2e15 flops",
            "15625 discriminator updates".
        out: the folder; by default the next free runs/NAME-001.
        seed: of batch order and of everything random inside moves.
        resume: go on with the run in `out`; start over where it has no checkpoint yet.
        device: "auto", "cpu", "cuda", "mps".
        precision: "auto" is that of the run to go on with, else bfloat16 where the hardware has it and the
            model allows it.
        compile: "on" and "off" say whether `torch.compile` is used, for the parts of models that it was
            measured to make faster; "auto" uses it where that pays within the budget.
        accumulate: compute each batch in so many parts, to save memory.
        observers: called between rounds with the `Training`: a progress bar, your own.
        score: called a few times over the budget; its scores go to scores.jsonl. For the package's own on
            the validation split: `bestiary.runs.evaluation.score_while_training(data, ["frechet"])`.
        checkpoint_seconds: how often to save.
        until: stop after the round in which this share of the budget is spent; the run can be resumed to a
            larger share, bit-equal to one that never stopped. A model in closed form is solved at once.
        pictures: how many times over the budget samples are drawn as a picture, at its end the last.

    Raises:
        OptionError: a budget, device or setting that cannot be.
        RunError: the folder exists, cannot be written, is locked, or holds another configuration.
        DataError: the model was made for other data.
    """
    check_same_data(model.spec, data, "model")
    check_seed(seed)
    amount = parse_budget(budget)
    if not isinstance(model, ClosedForm):
        amount.check(endless=data.train.endless, players=model.players())
    if accumulate < 1:
        raise OptionError(f"accumulate: found {accumulate}, wanted a whole number ≥ 1")
    runtime = choose_runtime(model, device=device, precision=precision)
    with ExitStack() as held:

        def begin() -> tuple[Path, RunConfig | None]:
            folder = next_folder(model_name(model)) if out is None else Path(out)
            prepare(folder, resume)
            held.enter_context(locked(folder))
            return folder, _started(folder, model) if resume else None

        folder, started = runtime.ranks.first(begin)
        run = Run(folder)
        if started is not None and precision == "auto":  # of another machine, maybe
            runtime = replace(runtime, precision=started.training["precision"])
        if started is not None and compile == "auto":
            compiled = started.training["compiled"]
        else:
            compiled = choose_compilation(model, data.train, amount, runtime, compile)
        runtime = replace(runtime, compiled=compiled)
        config = RunConfig.of(model, data, budget=amount, seed=seed, runtime=runtime, accumulate=accumulate)
        if started is not None:
            _check_unchanged(started, config, folder)
            if runtime.ranks.first(lambda: _ended(run)):
                return run
        with told_in_one_line(str(folder)):
            if isinstance(model, ClosedForm):
                _check_solvable(data, config, runtime)
                write_config(folder, config)
                _solve(model, data, run, seed, runtime)
            else:
                training = Training(
                    model, data.train, budget=amount, seed=seed, runtime=runtime, accumulate=accumulate
                )
                if started is None and runtime.ranks.leads:
                    write_config(folder, config)
                _train(training, run, observers, score, checkpoint_seconds, until, pictures)
        return runtime.ranks.first(lambda: run)  # the others wait until rank 0 has written its end


def prepare(folder: Path, resume: bool) -> None:
    """Make the folder of a run that is about to start, and refuse one that holds something else.

    Raises:
        RunError: the folder cannot be written, or is not empty and nothing is to be resumed.
    """
    if not resume:
        check_free(folder)
    with told_in_one_line("out"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / LOCK).touch()


def check_free(folder: Path) -> None:
    """Refuse a folder that holds something already; nothing is written.

    Raises:
        RunError: it is not empty, or a file.
    """
    with told_in_one_line("out"):
        empty = is_empty(folder)
    if not empty:
        raise RunError(
            f"out: {folder} exists already and is not empty: go on with --resume, or choose another --out"
        )


def is_empty(folder: Path) -> bool:
    """Whether there is no such folder, or it holds nothing but, perhaps, a lock."""
    return not folder.exists() or all(path.name == LOCK for path in folder.iterdir())


def _started(folder: Path, model: Model) -> RunConfig | None:
    """The configuration that the run in a folder was started with, or None where there is none yet."""
    forget_asides(folder)
    forget_asides(folder / "checkpoints")
    if not (folder / "config.yaml").exists():
        if not is_empty(folder):
            raise RunError(f"out: {folder} is not empty and is no run folder: choose another --out")
        return None
    stored = read_config(folder)
    try:  # an option that is younger than the run had its default
        settings = plain(resolve(type(model), stored.model["settings"], owner=stored.model["name"]))
    except OptionError:  # another model's: the comparison will say so
        return stored
    return replace(stored, model={**stored.model, "settings": settings})


def _ended(run: Run) -> bool:
    """Whether there is nothing to go on with.

    Raises:
        RunError: the training is finished, but what it learned is gone.
    """
    if run.status == "finished" and newest(run.folder / "checkpoints") is None:
        raise RunError(
            f"{run.folder}: is finished, but its checkpoints are gone: put them back, or train anew in"
            " another --out"
        )
    return run.status in ("finished", "diverged")


def _check_unchanged(started: RunConfig, config: RunConfig, folder: Path) -> None:
    difference = started.first_difference(config)
    if difference is not None:
        name, stored, asked = difference
        raise RunError(
            f"{name}: found {asked!r}, but the run in {folder} was started with {stored!r}:"
            " resume it unchanged, or start a new run in another --out"
        )


def _check_solvable(data: Data, config: RunConfig, runtime: Runtime) -> None:
    name = config.model["name"]
    if data.train.endless:
        raise OptionError(f"data: {data.name} is made on demand, but {name} wants a fixed set: size=…")
    if runtime.ranks.size > 1:
        raise OptionError(f"ranks: found {runtime.ranks.size}, but {name} is solved by one process, wanted 1")


def _solve(model: ClosedForm, data: Data, run: Run, seed: int, runtime: Runtime) -> None:
    runtime.place(model)
    start = time.perf_counter()
    model.fit(data.train, generator=torch.Generator().manual_seed(seed))
    model.eval()
    clock = Clock(
        examples=len(data.train), rounds=1, seconds=time.perf_counter() - start,
        epoch_size=len(data.train), progress=1.0,
    )  # fmt: skip
    save_model(model, run.folder / "checkpoints", asdict(clock))
    Samples(run.folder / "samples", clock).draw(model, data.train, clock)
    run.write_state("finished", "solved in closed form", **_facts(model, clock, runtime))


def _train(
    training: Training,
    run: Run,
    observers: Sequence[Observer],
    score: Callable[[Model], Mapping[str, Score]] | None,
    checkpoint_seconds: float,
    until: float,
    pictures: int,
) -> None:
    clock, model = training.clock, training.model

    def reached() -> str:
        return f"reached {until:.3g} of the budget" if clock.progress >= until else ""

    load_training(training, run.folder / "checkpoints")
    if not training.runtime.ranks.leads:
        with _stop_on_signals() as asked_to_stop:
            training.run(stop=lambda: asked_to_stop() or reached())
        return
    for name in ("log.jsonl", "scores.jsonl"):
        _forget_after(run.folder / name, clock.examples)

    alarms = [
        alarm(run.folder / "scores.jsonl", clock, run.state.get("warnings", ()))
        for alarm in (CodesInUse, SampleDiversity)
    ]

    def note(status: str, reason: str = "") -> None:
        warned = [line for alarm in alarms for line in alarm.warned]
        more = {"warnings": warned} if warned else {}
        run.write_state(status, reason, **_facts(model, clock, training.runtime), **more)

    checkpoints = Checkpoints(run.folder / "checkpoints", lambda: note("running"), checkpoint_seconds)
    watching: list[Observer] = [
        Log(run.folder / "log.jsonl", clock), Samples(run.folder / "samples", clock, pictures), *alarms,
        checkpoints, *observers,
    ]  # fmt: skip
    if score is not None:
        watching.insert(2, Scores(run.folder / "scores.jsonl", clock, score))
    note("running")
    try:
        with _stop_on_signals() as asked_to_stop:
            outcome = training.run(watching, lambda: asked_to_stop() or reached())
        if outcome.status != "diverged":
            checkpoints.save(training)
        note(outcome.status, outcome.reason)
    except OSError as error:
        with suppress(OSError):  # the disk that is full may not take this either
            note("stopped", f"cannot write: {error.strerror}")
        raise
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        if training.between_rounds:
            checkpoints.save(training)
            note("stopped", "out of memory while it was looked at")
            raise RunError(
                f"{run.folder}: out of memory while samples were drawn or scored; what was learned is"
                " kept, and --resume goes on"
            ) from error
        note("stopped", "out of memory")
        parts = 2 * training.accumulate
        raise RunError(
            f"batch_size: {model.batch_size} examples do not fit into memory: compute each in parts with"
            f" --accumulate {parts}, or --set a smaller batch_size, in another --out"
        ) from error
    except BestiaryError as error:
        if training.between_rounds:  # the mistake is an observer's: what was learned is kept
            checkpoints.save(training)
        note("stopped", str(error))
        raise


def _facts(model: Model, clock: Clock, runtime: Runtime) -> dict[str, Any]:
    return {
        "clock": asdict(clock),
        "parameters": model.parameter_count,
        "versions": {
            "bestiary": version("bestiary"), "torch": torch.__version__, "python": platform.python_version()
        },
        "hardware": {
            "device": str(runtime.device),
            "precision": runtime.precision,
            "threads": torch.get_num_threads(),
            "ranks": runtime.ranks.size,
            "machine": f"{platform.system()} {platform.machine()}",
        },
    }  # fmt: skip


def _forget_after(path: Path, examples: int) -> None:
    """Drop lines that an interrupted training wrote after the checkpoint it goes on from."""
    if path.exists():
        kept = [line for line in read_lines(path) if examples and line["examples"] <= examples]
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))


@contextmanager
def _stop_on_signals() -> Iterator[Callable[[], str]]:
    """Between rounds, tell of the first Ctrl-C or SIGTERM; the second one interrupts at once."""
    reason = ""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: ""
        return

    def handle(number: int, _frame: object) -> None:
        nonlocal reason
        if reason:
            raise KeyboardInterrupt
        reason = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: reason
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
