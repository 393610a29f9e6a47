"""Runs in processes of their own, which must find their work by the name of a module: this one."""

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing import connection, get_context, parent_process

import torch
from filelock import FileLock, Timeout

from bnkit import paths
from bnkit.runs import experiments
from bnkit.runs.records import Record
from bnkit.runs.training import AnyRecipe

WORTHWHILE = 150  # steps of a small Inception; fewer take less time than starting processes


_steps = None  # in a process of a pool: the number of steps that all of them have done


def processes(jobs: int, steps: object = None) -> ProcessPoolExecutor:
    """So many processes, started afresh: a fork of this one may hang in the threads of torch.

    They end when this one does, however it ends. `steps` is a number that all of them share.
    """
    spawn = get_context("spawn")
    return ProcessPoolExecutor(jobs, mp_context=spawn, initializer=_begin, initargs=(steps,))


def _begin(steps: object) -> None:
    """Make a process of a pool end with the one that started it: a killed parent calls nobody."""
    global _steps
    _steps = steps

    def end_with_it() -> None:
        connection.wait([parent_process().sentinel])
        os._exit(1)

    threading.Thread(target=end_with_it, daemon=True).start()


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


def several(
    recipes: Sequence[AnyRecipe], advance: Callable[[int], object] = lambda steps: None,
    keep: Callable[[Record], object] = lambda run: None,
) -> list[Record]:  # fmt: skip
    """Train each recipe, side by side on the cores that torch may use; nothing is stored.

    Each run is, bit for bit, the one that it would be alone. `advance` is told, now and then, how
    many steps have been done since it was told last, and `keep` each run as soon as it is there.
    """
    runs: dict[int, Record] = {}
    jobs = min(torch.get_num_threads(), len(recipes))
    if jobs < 2 or sum(recipe.steps for recipe in recipes) < WORTHWHILE:
        for place, recipe in enumerate(recipes):
            keep(run := trained(recipe, advance))
            runs[place] = run
        return list(runs.values())
    steps, told = get_context("spawn").Value("q", 0), 0
    with processes(jobs, steps) as pool:
        running = {pool.submit(trained, recipe): place for place, recipe in enumerate(recipes)}
        while running:
            for future in wait(running, timeout=0.5, return_when=FIRST_COMPLETED).done:
                keep(run := future.result())
                runs[running.pop(future)] = run
            done = steps.value
            advance(done - told)
            told = done
    return [runs[place] for place in range(len(recipes))]


def name_of(recipe: AnyRecipe) -> str:
    """How a run that nobody has named is called; recipes that differ only in the seed share it."""
    plain = {**recipe.as_dict(), "seed": None}
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
    return f"live/run-{digest[:12]}"


def _count(steps: int) -> None:
    with _steps.get_lock():
        _steps.value += steps


def trained(recipe: AnyRecipe, advance: Callable[[int], object] | None = None) -> Record:
    """Train one recipe on one thread; nothing is stored."""
    told, advance = 0, advance or _count

    def on_step(step: int) -> None:
        nonlocal told
        advance(step - told)
        told = step

    with one_thread():
        record = experiments.train(recipe, name=name_of(recipe), on_step=on_step)
    on_step(recipe.steps)
    return record


@contextmanager
def one_thread() -> Iterator[None]:
    """Small networks gain nothing by several cores, and by one thread a run can be repeated."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
