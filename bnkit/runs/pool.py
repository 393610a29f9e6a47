"""Runs in processes of their own, which must find their work by the name of a module: this one."""

import hashlib
import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context

import numpy as np
import torch
from filelock import FileLock, Timeout

from bnkit import engines, paths
from bnkit.runs import bank, experiments
from bnkit.runs.records import Record
from bnkit.runs.tasks.mnist import MLPRecipe
from bnkit.runs.training import AnyRecipe

WORTHWHILE = 150  # steps of a small Inception; fewer take less time than starting processes
STEPS_OF_A_BANK = 200  # steps of a network in a bank, in the time of one such
MOST = 30  # networks of a bank: its records are stored when all of them are through

Run = tuple[str, int]  # name and seed

_steps = None  # in a process of a pool: the number of steps that all of them have done


def processes(jobs: int, steps: object = None) -> ProcessPoolExecutor:
    """So many processes, started afresh: a fork of this one may hang in the threads of torch.

    They end when this one does, however it ends. `steps` is a number that all of them share.
    """
    spawn = get_context("spawn")
    return ProcessPoolExecutor(jobs, mp_context=spawn, initializer=_begin, initargs=(steps,))


def _begin(steps: object) -> None:
    global _steps
    _steps = steps
    engines.end_with_parent()
    # Ctrl-C comes to all of them, too: who asked says so, and they end without a traceback each
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))


def pieces(recipes: Sequence[AnyRecipe], jobs: int) -> list[list[int]]:
    """Pieces of work for so many processes, as places of `recipes`.

    What can share a bank is one piece, or one for each process; any other recipe is its own. Those
    of a seed, which see the same pictures, are next to each other.
    """
    kinds: dict[object, list[int]] = {}
    for place, recipe in enumerate(recipes):
        in_bank = isinstance(recipe, MLPRecipe)
        kinds.setdefault(str(bank.shared(recipe)) if in_bank else place, []).append(place)
    parted = []
    for places in kinds.values():
        places.sort(key=lambda place: recipes[place].seed)
        count = min(len(places), max(jobs, -(-len(places) // MOST)))
        parted += [part.tolist() for part in np.array_split(places, count)]
    return parted


def some_runs(runs: Sequence[Run]) -> str:
    """Make and store `runs`, but those that another process is at; what became of them, in words.

    More than one are such as share a bank (``pieces``).
    """
    said, mine = [], []
    with ExitStack() as held, one_thread():
        for name, seed in runs:
            lock = paths.cache() / "checkpoints" / f"{name.replace('/', '-')}-seed-{seed}.lock"
            lock.parent.mkdir(parents=True, exist_ok=True)
            try:
                held.enter_context(FileLock(lock, timeout=0))
            except Timeout:
                said.append(f"{name} seed {seed}: another process is at it; left to that one")
                continue
            if (name, seed) in experiments.missing():
                mine.append((name, seed))
            else:
                said.append(f"{name} seed {seed}: recorded meanwhile")
        in_bank = mine and isinstance(experiments.recipe_of(*mine[0]), MLPRecipe)
        one_by_one = (experiments.run(*run)[0] for run in mine)
        made = experiments.run_together(mine) if in_bank else list(one_by_one)
        return "\n".join([*said, *map(experiments.outcome, made)])


def several(
    recipes: Sequence[AnyRecipe], advance: Callable[[int], object] = lambda steps: None,
    keep: Callable[[Record], object] = lambda run: None,
) -> list[Record]:  # fmt: skip
    """Train each recipe, side by side on the cores that torch may use; nothing is stored.

    Those that can share a bank do; any other is, bit for bit, the run that it would be alone.
    `advance` is told, now and then, how many steps have been done since it was told last, and
    `keep` each run as soon as it is there.
    """
    runs: dict[int, Record] = {}
    jobs = min(torch.get_num_threads(), len(recipes)) if _effort(recipes) >= WORTHWHILE else 1
    work = pieces(recipes, jobs)
    asked = [[recipes[place] for place in piece] for piece in work]

    def take(piece: list[int], made: list[Record]) -> None:
        for place, run in zip(piece, made, strict=True):
            keep(run)
            runs[place] = run

    if jobs > 1:
        _side_by_side(asked, jobs, advance, lambda number, made: take(work[number], made))
    else:
        for piece, its_recipes in zip(work, asked, strict=True):
            take(piece, trained(its_recipes, advance))
    return [runs[place] for place in range(len(recipes))]


def _effort(recipes: Sequence[AnyRecipe]) -> float:
    """What training takes, in steps of a small Inception."""
    return sum(
        recipe.steps / (STEPS_OF_A_BANK if isinstance(recipe, MLPRecipe) else 1)
        for recipe in recipes
    )


def _side_by_side(
    work: list[list[AnyRecipe]], jobs: int, advance: Callable[[int], object],
    take: Callable[[int, list[Record]], None],
) -> None:  # fmt: skip
    """Train pieces of work in processes; `take` is given the number of each, and its runs."""
    steps, told = get_context("spawn").Value("q", 0), 0
    with processes(jobs, steps) as pool:
        running = {pool.submit(trained, piece): number for number, piece in enumerate(work)}
        while running:
            for future in wait(running, timeout=0.5, return_when=FIRST_COMPLETED).done:
                take(running.pop(future), future.result())
            done = steps.value
            advance(done - told)
            told = done


def name_of(recipe: AnyRecipe) -> str:
    """How a run that nobody has named is called; recipes that differ only in the seed share it."""
    plain = {**recipe.as_dict(), "seed": None}
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
    return f"live/run-{digest[:12]}"


def _count(steps: int) -> None:
    with _steps.get_lock():
        _steps.value += steps


def trained(
    recipes: Sequence[AnyRecipe], advance: Callable[[int], object] | None = None
) -> list[Record]:
    """Train a piece of work (``pieces``) on one thread; nothing is stored."""
    told, advance = 0, advance or _count

    def on_step(step: int) -> None:
        nonlocal told
        advance((step - told) * len(recipes))
        told = step

    names = [name_of(recipe) for recipe in recipes]
    with one_thread():
        if isinstance(recipes[0], MLPRecipe):
            made = experiments.train_together(recipes, names=names, on_step=on_step)
        else:
            made = [experiments.train(recipes[0], name=names[0], on_step=on_step)]
    on_step(recipes[0].steps)
    return made


@contextmanager
def one_thread() -> Iterator[None]:
    """Small networks gain nothing by several cores, and by one thread a run can be repeated."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
