"""What a local worker runs: pieces of work one after the other, until its driver goes away."""

import os
import sys
import threading
from multiprocessing import parent_process
from multiprocessing.connection import Connection


def serve(connection: Connection, threads: int, log: str) -> None:
    """Do what comes through the connection, and send back ("result", …) or ("machine", why).

    Arguments:
        connection: to the driver.
        threads: of torch, set before its first operation.
        log: the file that takes what is printed.
    """
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(out, stream.fileno())
    if hasattr(os, "setsid"):
        os.setsid()  # Ctrl-C on the terminal is for the driver, which then says once to save and stop
    threading.Thread(target=_leave_with_the_driver, daemon=True).start()

    import torch

    from bestiary.study.execution.work import InterruptedWorkError, MachineError, perform

    torch.set_num_threads(threads)
    connection.send(("ready", None))
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        try:
            connection.send(("result", perform(job)))
        except MachineError as error:
            connection.send(("machine", str(error)))
        except InterruptedWorkError:
            return


def _leave_with_the_driver() -> None:
    """An orphan would hold the lock of its run; what it loses is what kill -9 would."""
    driver = parent_process()
    if driver is not None:
        driver.join()
        os._exit(1)
