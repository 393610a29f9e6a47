"""Runs in processes of their own, which must find their work by the name of a module: this one."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import chain
from multiprocessing import get_context

import numpy as np
import torch
from filelock import FileLock, Timeout

from bnkit import paths
from bnkit.runs import bank, experiments
from bnkit.runs.records import Record
from bnkit.runs.tasks.mnist import MLPRecipe
from bnkit.runs.training import AnyRecipe, Recipe

WORTHWHILE = 150  # steps of a small Inception; fewer take less time than starting processes
STEPS_OF_A_BANK = 200  # steps of a network in a bank, in the time of one such
MOST = 30  # networks of a bank: its records are stored when all of them are through


def processes(jobs: int) -> ProcessPoolExecutor:
    """So many processes, started afresh: a fork of this one may hang in the threads of torch."""
    return ProcessPoolExecutor(jobs, mp_context=get_context("spawn"))


Run = tuple[str, int]  # name and seed


def pieces(recipes: Sequence[AnyRecipe], jobs: int) -> list[list[int]]:
    """Pieces of work for so many processes, as places of `recipes`.

    What can share a bank is one piece, or one for each process; any other recipe is its own.
    """
    kinds: dict[object, list[int]] = {}
    for place, recipe in enumerate(recipes):
        in_bank = isinstance(recipe, MLPRecipe)
        kinds.setdefault(str(bank.shared(recipe)) if in_bank else place, []).append(place)
    parted = []
    for places in kinds.values():
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


def several(recipes: Sequence[Recipe]) -> list[Record]:
    """Train each recipe, side by side on the cores that torch may use; nothing is stored.

    Those that can share a bank do; any other is, bit for bit, the run that it would be alone.
    """
    effort = sum(
        recipe.steps / (STEPS_OF_A_BANK if isinstance(recipe, MLPRecipe) else 1)
        for recipe in recipes
    )
    jobs = min(torch.get_num_threads(), len(recipes)) if effort >= WORTHWHILE else 1
    places = pieces(recipes, jobs)
    asked = [[recipes[place] for place in piece] for piece in places]
    if jobs > 1:
        with processes(jobs) as pool:
            done = list(pool.map(_unstored, asked))
    else:
        done = map(_unstored, asked)
    made = dict(zip(chain(*places), chain(*done), strict=True))
    return [made[place] for place in range(len(recipes))]


def _unstored(recipes: list[Recipe]) -> list[Record]:
    with one_thread():
        if isinstance(recipes[0], MLPRecipe):
            return experiments.train_together(recipes)
        return [experiments.train(recipe) for recipe in recipes]


@contextmanager
def one_thread() -> Iterator[None]:
    """Small networks gain nothing by several cores, and by one thread a run can be repeated."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
