"""How far work in several parts is: a bar on a terminal, a line for every quarter elsewhere."""

from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from bestiary.cli.output import say


class Counting:
    """Shows progress on standard error.

    with Counting() as counting:
        work(progress=counting)  # which calls counting("embedding real", 250, 1000)
    """

    def __init__(self) -> None:
        console = Console(stderr=True, markup=False, highlight=False)
        self._bar = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=20),
                TaskProgressColumn(),
                console=console,
                transient=True,
            )
            self._task = self._bar.add_task("", total=None)
        self._told = ("", -1)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Tell that `done` of the `total` pieces of the part `what` are done."""
        if self._bar is not None:
            self._bar.update(self._task, description=what, completed=done, total=total)
            return
        quarter = 4 * done // total
        if (what, quarter) != self._told:
            self._told = (what, quarter)
            say(f"{what}: {done:,} of {total:,}")
