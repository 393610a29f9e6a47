"""Trains what the points of a sweep will ask for, all of it together, before they run.

The points of a sweep ask for many networks that differ in seed, rate or initial weights alone; as
one bank they train in a fraction of the time. A chapter that has such networks names the function
that lists them in its metadata, ``"bnkit": {"ahead": "bnkit.studies.mnist:ahead"}``: from the
parameters of a run to the recipes that it trains. The runs are laid into the folder of each point,
where ``bnkit.runs.live`` takes them up; a point for which none is there trains for itself.

``python -m bnkit.studies.ahead FUNCTION`` reads a list of [folder, parameters] as JSON.
"""

import json
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import torch
from tqdm import tqdm

from bnkit import engines
from bnkit.datasets import DataError
from bnkit.runs import live, pool, records
from bnkit.runs.records import Record
from bnkit.runs.training import AnyRecipe

Points = Sequence[tuple[str, dict]]  # folders, and the parameters of the run that looks there


def train(function: str, points: Points) -> int:
    """Train what `points` ask for and do not have, each recipe once; return how many those were."""
    module, _, name = function.partition(":")
    recipes_of = getattr(import_module(module), name)
    wanted: dict[str, tuple[AnyRecipe, list[Path]]] = {}
    for folder, parameters in points:
        for recipe in recipes_of(parameters):
            if not _is_there(recipe, folder):
                key = f"{pool.name_of(recipe)}/{recipe.seed}"
                wanted.setdefault(key, (recipe, []))[1].append(Path(folder))
    recipes = [recipe for recipe, _ in wanted.values()]

    def keep(run: Record) -> None:
        for folder in wanted[f"{run.experiment}/{run.variant}/{run.seed}"][1]:
            records.save(run, folder)

    steps = sum(recipe.steps for recipe in recipes)
    with tqdm(total=steps, unit="step", desc="together", disable=None) as bar:
        pool.several(recipes, bar.update, keep)
    return len(recipes)


def _is_there(recipe: AnyRecipe, folder: str) -> bool:
    os.environ[live.FOLDER] = folder
    return live.kept(recipe) is not None


def main() -> None:
    """Train for the points that stand on stdin."""
    engines.end_with_parent()
    torch.set_num_threads(engines.cores())  # as many processes, of one thread each
    try:
        count = train(sys.argv[1], json.load(sys.stdin))
    except DataError as error:
        sys.exit(str(error))
    except (ImportError, AttributeError) as error:
        sys.exit(f"{sys.argv[1]} is no function that lists recipes: {error}")
    print(f"{count} networks trained together" if count else "every network is there")


if __name__ == "__main__":
    main()
