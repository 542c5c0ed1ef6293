"""Where a study's pieces of work are done: in this process, in spawned local ones, or as Ray tasks.

An engine does pieces of work and says how they ended; the driver decides what is done, and done again.
The same pieces give the same results in each of them, at the same number of threads.
"""

import multiprocessing
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal, Self

from bestiary.errors import RunError
from bestiary.study.execution.memory import available_bytes, used_bytes
from bestiary.study.execution.work import InterruptedWorkError, Job, MachineError, perform
from bestiary.study.execution.worker import serve

EngineName = Literal["local", "ray", "inline"]

# What a worker is taken to need before any has been measured.
_GUESSED_BYTES = 1.5 * 2**30
_STOPPING_SECONDS = 60.0
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Ended:
    """How a piece of work ended.

    Attributes:
        job: the piece.
        result: what `perform` returned, or None where its process has died.
        death: how it died, in words.
    """

    job: Job
    result: dict[str, Any] | None
    death: str = ""


class Engine(ABC):
    """Does pieces of work, a few at a time."""

    @abstractmethod
    def idle(self) -> bool:
        """Whether another piece could be begun now."""

    @abstractmethod
    def submit(self, job: Job) -> None:
        """Begin a piece of work; only when idle."""

    @abstractmethod
    def wait(self, seconds: float) -> Sequence[Ended]:
        """What has ended, waiting for something at most so long.

        Raises:
            MachineError: the machine refuses to go on.
        """

    @abstractmethod
    def stop(self) -> None:
        """Ask all that runs to save and stop, and wait for it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class InlineEngine(Engine):
    """Does every piece in this process, one after the other."""

    def __init__(self) -> None:
        self._job: Job | None = None

    def idle(self) -> bool:
        """See `Engine.idle`."""
        return self._job is None

    def submit(self, job: Job) -> None:
        """See `Engine.submit`."""
        self._job = job

    def wait(self, seconds: float) -> Sequence[Ended]:
        """Do the piece that was submitted."""
        job, self._job = self._job, None
        if job is None:
            return []
        try:
            return [Ended(job, perform(job))]
        except InterruptedWorkError as interrupted:
            raise KeyboardInterrupt(str(interrupted)) from None

    def stop(self) -> None:
        """Nothing runs between two calls."""


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    ready: bool = False
    job: Job | None = None


class LocalEngine(Engine):
    """Does pieces in processes of this machine, started anew (spawned), each with its share of the cores.

    A worker that dies is replaced. None is started while there is less memory than the largest has needed.

    Arguments:
        workers: how many at most; one is always started.
        threads: of each.
        log: the file that takes what workers print.
        need: bytes that a worker needs at least, if that is known.
    """

    def __init__(self, workers: int, *, threads: int, log: Path, need: float | None = None) -> None:
        self._most, self._threads, self._log = workers, threads, log
        self._need, self._measured = need or _GUESSED_BYTES, need is not None
        self._workers: list[_Worker] = []
        self._context = multiprocessing.get_context("spawn")

    def idle(self) -> bool:
        """See `Engine.idle`; starts workers while there may be more of them."""
        while len(self._workers) < self._most and (not self._workers or self._fits()):
            self._start()
        return any(worker.ready and worker.job is None for worker in self._workers)

    def submit(self, job: Job) -> None:
        """See `Engine.submit`."""
        worker = next(w for w in self._workers if w.ready and w.job is None)
        worker.job = job
        with suppress(OSError):  # it has just died, as `wait` will find out
            worker.connection.send(job)

    def wait(self, seconds: float) -> Sequence[Ended]:
        """See `Engine.wait`."""
        watched = [thing for w in self._workers for thing in (w.connection, w.process.sentinel)]
        wait(watched, seconds)
        return [ended for worker in list(self._workers) for ended in self._heard(worker)]

    def stop(self) -> None:
        """Idle workers leave when their connection closes, others save when they are told to stop."""
        for worker in self._workers:
            if not worker.ready:
                worker.process.kill()
            elif worker.job is not None:
                worker.process.terminate()
            worker.connection.close()
        for worker in self._workers:
            worker.process.join(_STOPPING_SECONDS)
            worker.process.kill()
        self._workers.clear()

    def _start(self) -> None:
        mine, theirs = self._context.Pipe()
        process = self._context.Process(
            target=serve, args=(theirs, self._threads, str(self._log)), name="bestiary-worker", daemon=False
        )
        with pinned(self._threads):
            process.start()
        theirs.close()
        self._workers.append(_Worker(process, mine))

    def _fits(self) -> bool:
        reserved = sum(max(0.0, self._need - used_bytes(w.process.pid or 0)) for w in self._workers)
        return available_bytes() - reserved >= self._need

    def _heard(self, worker: _Worker) -> Iterator[Ended]:
        try:
            while worker.connection.poll():
                kind, content = worker.connection.recv()
                if kind == "ready":
                    worker.ready = True
                elif kind == "machine":
                    raise MachineError(content)
                else:
                    job, worker.job = worker.job, None
                    assert job is not None
                    self._measure(content["peak_bytes"])
                    yield Ended(job, content)
        except (EOFError, OSError):
            worker.process.join()
        if not worker.process.is_alive():
            worker.process.join()
            code = worker.process.exitcode or 0
            self._workers.remove(worker)
            worker.connection.close()
            if not worker.ready and code >= 0:
                raise RunError(
                    f"engine: a worker could not start (exit code {code}, see {self._log}); in a script, call"
                    " run_study under `if __name__ == '__main__':`"
                )
            if worker.job is not None:
                yield Ended(
                    worker.job, None, f"killed by signal {-code}" if code < 0 else f"exit code {code}"
                )

    def _measure(self, peak: float) -> None:
        self._need = max(self._need, peak) if self._measured else peak or self._need
        self._measured = True


@contextmanager
def pinned(threads: int) -> Iterator[None]:
    """So many threads for processes that are started in the block: most libraries read it when imported."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_for(workers: int) -> int:
    """Cores ÷ workers, or what OMP_NUM_THREADS asks for."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() and int(asked) else max(1, cores() // workers)
