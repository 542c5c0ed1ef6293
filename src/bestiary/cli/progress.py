"""Training seen from outside: a bar on a terminal, a line for every tenth of the budget elsewhere."""

import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Column

from bestiary.cli.output import duration, say
from bestiary.training.loop import Observer, Training

_REDRAW = 0.25  # seconds
_SETTLED = 3.0  # seconds after the first round, from which an estimate is worth something
_LINES = 10
_COSTS = 4


class Reporter:
    """Reports on trainings, one after the other, on standard error.

    with Reporter() as reporter:
        train(…, observers=reporter.watch("vae"))
    """

    def __init__(self) -> None:
        self._watched: _Watched | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def watch(self, name: str) -> list[Observer]:
        """The observers for the next training."""
        self._close()
        self._watched = _Watched(name)
        return [self._watched]

    def say(self, line: str) -> None:
        """A line between trainings."""
        self._close()
        say(line)

    def _close(self) -> None:
        if self._watched is not None:
            self._watched.close()
            self._watched = None


class _Watched:
    """The observer of one training. It reads what the loop has counted, and takes nothing away."""

    def __init__(self, name: str) -> None:
        console = Console(stderr=True, markup=False, highlight=False)
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=20),
                TaskProgressColumn(),
                TextColumn("{task.fields[words]}", table_column=Column(no_wrap=True)),
                console=console,
                auto_refresh=False,  # no thread beside the training's
                transient=True,
            )
            self._task = self._bar.add_task(name, total=1.0, words="")
        self._name = name
        self._first: tuple[float, float, int] | None = None
        self._drawn = 0.0
        self._estimated = False

    def __call__(self, training: Training) -> None:
        clock, now = training.clock, time.monotonic()
        if self._first is None:
            # The first round is slower than the others: nothing is estimated from it.
            self._first = (now, clock.progress, clock.examples)
            self._tenths = int(clock.progress * _LINES)
            if self._bar is not None:
                self._bar.start()
            return
        tenths = int(clock.progress * _LINES)
        if now - self._drawn < _REDRAW and tenths == self._tenths and clock.progress < 1:
            return
        self._drawn = now
        start, progress, examples = self._first
        elapsed, share = now - start, clock.progress - progress
        left = elapsed / share * (1 - clock.progress) if share else 0.0
        rate = f"{(clock.examples - examples) / max(elapsed, 1e-9):,.0f} examples/s"
        words = f"{rate}, {duration(left)} left" if clock.progress < 1 else rate
        words += f"  {costs(training)}"
        if not self._estimated and elapsed >= _SETTLED and clock.progress < 1:
            self._estimated = True
            self._say(f"{self._name}: about {duration(elapsed + left)} in all; Ctrl-C saves")
        if self._bar is not None:
            self._bar.update(self._task, completed=clock.progress, words=words, refresh=True)
        elif tenths > self._tenths:
            say(f"{self._name}: {clock.progress:.0%}, {clock.examples:,} examples, {words}")
        self._tenths = tenths

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()

    def _say(self, line: str) -> None:
        if self._bar is None:
            say(line)
        else:
            self._bar.console.print(line)


def costs(training: Training) -> str:
    """The latest costs: each player's, or a lone player's with its terms."""
    terms = [(*name.split("/", 1), value) for name, value in training.latest_terms().items()]
    if len(training.players) == 1:
        shown = [(term, value) for _, term, value in terms]
    else:
        shown = [(player, value) for player, term, value in terms if term == "loss"]
    return "  ".join(f"{name} {value:.4g}" for name, value in shown[:_COSTS])
