"""Engines for work side by side: anything with the face of ``concurrent.futures.Executor``.

Sweeps and runs take any. On one machine they bring their own; ``cluster`` is that of a scheduler
of Dask, whose workers may stand anywhere.
"""

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from multiprocessing import parent_process

PARENT = "BNKIT_PARENT"  # where a process finds the number of the one that it ends with
SECONDS = 20  # for a scheduler to answer
RETRIES = 3  # of work whose worker was lost


class EngineError(RuntimeError):
    """There is no such engine; the message says how to get one."""


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def end_with_parent() -> None:
    """End this process once the one that started it is gone: a killed one stops nobody itself.

    That one may be gone before this is called, while this process was still importing: a process
    of ``multiprocessing`` knows it, and any other is told its number in ``$BNKIT_PARENT``.
    """
    known, parent = parent_process(), int(os.environ.pop(PARENT, 0)) or os.getppid()

    def end_with_it() -> None:
        if known:
            known.join()
        while not known and os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=end_with_it, daemon=True).start()


@contextmanager
def cluster(address: str) -> Iterator[Executor]:
    """The workers of the Dask scheduler at `address`, "tcp://HOST:8786"; they stay when it ends.

    Work whose worker is lost is given to another. Raises EngineError where no scheduler answers, or
    where Dask is not installed.
    """
    try:
        from distributed import Client
        from distributed.comm.addressing import get_address_host_port
    except ImportError:
        wanted = "pip install distributed, or '.[cluster]' in the checkout"
        raise EngineError(f"--scheduler needs Dask, which is not installed: {wanted}") from None
    try:
        # before, for half a client says at its end, with a traceback, that it is none
        get_address_host_port(address)
        client = Client(address, timeout=SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:  # a TimeoutError is an OSError
        start = "start one with `dask scheduler`, and workers with `dask worker ADDRESS`"
        problem = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise EngineError(f"no scheduler answers at {address!r} ({problem}); {start}") from None
    try:
        # not pure: equal work asked for twice is done twice, as by any other executor
        yield client.get_executor(pure=False, retries=RETRIES)
    finally:
        client.close()
