"""Engines for work side by side: anything with the face of ``concurrent.futures.Executor``.

Sweeps and runs take any. On one machine they bring their own; ``cluster`` is that of a scheduler
of Dask, whose workers may stand anywhere.
"""

import os
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager

SECONDS = 20  # for a scheduler to answer
RETRIES = 3  # of work whose worker was lost


class EngineError(RuntimeError):
    """There is no such engine; the message says how to get one."""


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def cluster(address: str) -> Iterator[Executor]:
    """The workers of the Dask scheduler at `address`, "tcp://HOST:8786"; they stay when it ends.

    Work whose worker is lost is given to another. Raises EngineError where no scheduler answers, or
    where Dask is not installed.
    """
    try:
        from distributed import Client
    except ImportError:
        wanted = "pip install distributed, or '.[cluster]' in the checkout"
        raise EngineError(f"--scheduler needs Dask, which is not installed: {wanted}") from None
    try:
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
