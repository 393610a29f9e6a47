"""Runs in processes of their own, which must find their work by the name of a module: this one."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context

import torch
from filelock import FileLock, Timeout

from bnkit import paths
from bnkit.runs import experiments
from bnkit.runs.records import Record
from bnkit.runs.training import Recipe

WORTHWHILE = 150  # steps of a small Inception; fewer take less time than starting processes


def processes(jobs: int) -> ProcessPoolExecutor:
    """So many processes, started afresh: a fork of this one may hang in the threads of torch."""
    return ProcessPoolExecutor(jobs, mp_context=get_context("spawn"))


def one_run(name: str, seed: int) -> str:
    """Make and store one run, unless another process is at it; what became of it, in words."""
    lock = paths.cache() / "checkpoints" / f"{name.replace('/', '-')}-seed-{seed}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lock, timeout=0), one_thread():
            if (name, seed) not in experiments.missing():
                return f"{name} seed {seed}: recorded meanwhile"
            return experiments.outcome(experiments.run(name, seed)[0])
    except Timeout:
        return f"{name} seed {seed}: another process is at it; left to that one"


def several(recipes: Sequence[Recipe]) -> list[Record]:
    """Train each recipe, side by side on the cores that torch may use; nothing is stored.

    Each run is, bit for bit, the one that it would be alone.
    """
    jobs = min(torch.get_num_threads(), len(recipes))
    if jobs < 2 or sum(recipe.steps for recipe in recipes) < WORTHWHILE:
        return [_unstored(recipe) for recipe in recipes]
    with processes(jobs) as pool:
        return list(pool.map(_unstored, recipes))


def _unstored(recipe: Recipe) -> Record:
    with one_thread():
        return experiments.train(recipe)


@contextmanager
def one_thread() -> Iterator[None]:
    """Small networks gain nothing by several cores, and by one thread a run can be repeated."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
