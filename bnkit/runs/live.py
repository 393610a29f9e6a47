"""Runs that a chapter trains while it is read: a bar with the time left, and kept beside a re-run.

``make rerun`` and ``make sweep`` name a folder in ``$BNKIT_LIVE``. Runs that are trained go there
as records, and a run that lies there already, of the same recipe and made by the same code on the
same platform, is taken up instead of trained: what was stopped goes on, and who trains many runs
together may put them there beforehand.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from bnkit.runs import experiments, pool, records
from bnkit.runs.records import Record, RecordError
from bnkit.runs.training import AnyRecipe

FOLDER = "BNKIT_LIVE"


def several(recipes: Sequence[AnyRecipe]) -> list[Record]:
    """The runs of `recipes`: those that lie there, the others trained side by side, and kept.

    Those that can share a bank do (``pool.several``). A bar on stderr shows the time left where
    that takes longer than a second; the press drops it.
    """
    runs = list(map(kept, recipes))
    todo = [recipe for recipe, run in zip(recipes, runs, strict=True) if run is None]
    steps = sum(recipe.steps for recipe in todo)
    with tqdm(total=steps, unit="step", delay=1, mininterval=0.5, leave=False) as bar:
        made = iter(pool.several(todo, bar.update, keep))
    return [run or next(made) for run in runs]


# Beside a re-run


def kept(recipe: AnyRecipe) -> Record | None:
    """The run of `recipe` that lies in the folder, if it is what training would give here."""
    if not (folder := os.environ.get(FOLDER)):
        return None
    try:
        record = records.load(*pool.name_of(recipe).split("/"), recipe.seed, Path(folder))
    except RecordError:
        return None
    with pool.one_thread():  # as it was made
        here = records.manifest(device=record.manifest.get("device"))
    same = records.platform_key(here) == records.platform_key(record.manifest)
    same = same and record.recipe == recipe.as_dict()
    return record if same and experiments.is_made_as_today(record, recipe) else None


def keep(record: Record) -> None:
    """Store a run in the folder, if one is named."""
    if folder := os.environ.get(FOLDER):
        records.save(record, Path(folder))
