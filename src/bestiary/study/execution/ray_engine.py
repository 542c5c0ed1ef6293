"""Ray tasks as a study's engine: the same pieces of work on many machines, which share a file system."""

import logging
import os
from collections.abc import Sequence
from typing import Any

from bestiary.errors import OptionError
from bestiary.study.execution.engines import THREAD_VARIABLES, Ended, Engine
from bestiary.study.execution.work import InterruptedWorkError, Job, MachineError, perform


class RayEngine(Engine):
    """Does every piece as a Ray task; placement is Ray's, what is lost the driver does again.

    The study's folder must be at the same path on all machines. RAY_ADDRESS names a cluster that is there
    already; without it, or a `ray.init` before, this machine alone is used.

    Arguments:
        workers: pieces at a time.
        threads: cores that each takes.

    Raises:
        OptionError: ray is not installed.
    """

    def __init__(self, workers: int, *, threads: int) -> None:
        try:
            import ray
        except ImportError as error:
            raise OptionError(
                "engine: found 'ray', which is not installed: pip install 'bestiary[ray]', or use local"
            ) from error
        self._ray, self._workers = ray, workers
        if not ray.is_initialized():
            here = None if os.environ.get("RAY_ADDRESS") else workers * threads
            ray.init(num_cpus=here, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        variables = dict.fromkeys(THREAD_VARIABLES, str(threads))
        self._task = ray.remote(_perform).options(
            num_cpus=threads, max_retries=0, runtime_env={"env_vars": variables}
        )
        self._jobs: dict[Any, Job] = {}

    def idle(self) -> bool:
        """See `Engine.idle`."""
        return len(self._jobs) < self._workers

    def submit(self, job: Job) -> None:
        """See `Engine.submit`."""
        self._jobs[self._task.remote(job)] = job

    def wait(self, seconds: float) -> Sequence[Ended]:
        """See `Engine.wait`."""
        done, _ = self._ray.wait(list(self._jobs), num_returns=1, timeout=seconds)
        return [self._ended(reference, self._jobs.pop(reference)) for reference in done]

    def stop(self) -> None:
        """Ask what runs to save and stop, as Ctrl-C would."""
        for reference in self._jobs:
            self._ray.cancel(reference)
        self._ray.wait(list(self._jobs), num_returns=len(self._jobs), timeout=60) if self._jobs else None
        self._jobs.clear()

    def _ended(self, reference: Any, job: Job) -> Ended:
        try:
            kind, content = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            return Ended(job, None, " ".join(f"{type(error).__name__}: {error}".split())[:200])
        if kind == "machine":
            raise MachineError(content)
        return Ended(job, content) if kind == "result" else Ended(job, None, content)


def _perform(job: Job) -> tuple[str, Any]:
    try:
        return "result", perform(job)
    except MachineError as error:
        return "machine", str(error)
    except InterruptedWorkError as error:
        return "interrupted", str(error)
