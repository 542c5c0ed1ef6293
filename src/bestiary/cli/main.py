"""`bestiary`: the commands, and the one place where what went wrong becomes a line and an exit code."""

import logging
import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from bestiary import __version__
from bestiary.cli.commands.anomalies import anomalies
from bestiary.cli.commands.compare import compare
from bestiary.cli.commands.complete import complete
from bestiary.cli.commands.data import data
from bestiary.cli.commands.evaluate import evaluate
from bestiary.cli.commands.interpolate import interpolate
from bestiary.cli.commands.models import models
from bestiary.cli.commands.sample import sample
from bestiary.cli.commands.score import score
from bestiary.cli.commands.study import study
from bestiary.cli.commands.train import train
from bestiary.cli.mistakes import line_of
from bestiary.cli.output import leads, say
from bestiary.errors import OptionError, StoppedError

INTERRUPTED = 130

app = typer.Typer(
    # Plain help: rich would take longer to import than the whole answer may take.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (models, data, train, sample, evaluate, score, compare, complete, interpolate, anomalies):
    app.command()(command)
app.add_typer(study, name="study")


@dataclass
class _Debug:
    on: bool


def _version(wanted: bool) -> None:
    if wanted:
        print(f"bestiary {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _bestiary(
    context: typer.Context,
    debug: Annotated[
        bool, typer.Option("--debug", envvar="BESTIARY_DEBUG", help="Show tracebacks of internal errors.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Classic deep generative models: train them, judge them, compare them fairly on your own data.

    Results go to standard output, progress to standard error. Exit codes: 0 done, 2 your mistake (one
    line says which), 1 anything else, a training that diverged or was stopped too, 130 Ctrl-C elsewhere.
    """
    context.obj.on = debug
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if ranks > 1 and context.invoked_subcommand not in (None, "train"):
        raise OptionError(
            f"torchrun: found {ranks} processes, but `bestiary {context.invoked_subcommand}` is one:"
            " start it without torchrun"
        )
    if context.invoked_subcommand is None:
        print(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code.

    Arguments:
        arguments: what follows `bestiary`; by default what this process was started with.
    """
    debug = _Debug(on=False)
    with _messages_on_stderr(), _results_of_one_rank():
        try:
            code = app(args=arguments, prog_name="bestiary", standalone_mode=False, obj=debug)
            _flush()
        except BrokenPipeError:  # whoever read the output has left, and needs no telling
            return 1
        except Exception as error:
            return _report(error, debug.on)
    if code == INTERRUPTED:
        say("bestiary: interrupted")
    return code if isinstance(code, int) else 0


@contextmanager
def _results_of_one_rank() -> Iterator[None]:
    """Of the processes that torchrun starts, the first alone prints its result."""
    if leads():
        yield
    else:
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            yield


def _flush() -> None:
    try:
        sys.stdout.flush()
    except OSError:
        # What is still buffered goes nowhere, or Python would try again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def _report(error: Exception, debug: bool) -> int:
    line = line_of(error)
    if line is not None:
        say(f"bestiary: {line}")
        return 1 if isinstance(error, StoppedError) else 2
    if debug:
        traceback.print_exception(error)
        return 1
    text = " ".join(str(error).split())
    say(
        f"bestiary: internal error ({type(error).__name__}: {text}), please report it:"
        " BESTIARY_DEBUG=1 shows where"
    )
    return 1


@contextmanager
def _messages_on_stderr() -> Iterator[None]:
    """Warnings and log lines of the package as lines like all others."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        say(f"bestiary: warning: {message}")

    logger, handler = logging.getLogger("bestiary"), logging.StreamHandler()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = show
            yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
