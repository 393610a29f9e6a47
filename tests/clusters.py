"""A scheduler of Dask and its workers, started by hand as a reader would, for tests that need one.

Import it as ``from clusters import workers``; where Dask is not installed the test is skipped.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


@contextmanager
def workers(
    folder: Path, environment: Mapping[str, str], count: int = 2
) -> Iterator[tuple[str, list[subprocess.Popen]]]:
    """The address of a scheduler, and its workers: `count` processes with one thread each."""
    need_dask()
    file = folder / "scheduler.json"
    where = ("--scheduler-file", str(file), "--no-dashboard", "--host", "127.0.0.1")
    one = ("--no-nanny", "--nthreads", "1")
    modules = [("dask_scheduler", "--port", "0"), *[("dask_worker", *one)] * count]
    processes = []
    try:
        for module, *options in modules:
            command = [sys.executable, "-m", f"distributed.cli.{module}", *where, *options]
            processes.append(subprocess.Popen(command, cwd=folder, env=environment, **QUIET))
        wait_for(file.exists)
        yield json.loads(file.read_text())["address"], processes[1:]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def need_dask() -> None:
    """Skip the test where Dask is missing."""
    if not find_spec("distributed"):
        pytest.skip("Dask is not installed: pip install '.[cluster]'")


def wait_for(condition, seconds: float = 120) -> None:
    """Wait until `condition()` is true; AssertionError after so many seconds."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "it never happened"
        time.sleep(0.1)
