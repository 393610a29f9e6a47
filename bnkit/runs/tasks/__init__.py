"""The families of experiments: from a recipe to a network, its data, and what is watched while it
trains.

A task is made from a recipe and a device; ``bnkit.runs.experiments`` trains it without knowing what
it is. It uses ``model`` and ``trained`` (the same, or a wrapper around it), ``digest`` of the data,
``batches(start)``, ``watches(checksums)``, ``loss``, ``PAUSE_EVERY`` (steps) and ``MEANING``, what
each curve means. Here is what the families share.
"""

from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
from torch import nn

from bnkit import datasets
from bnkit.layers import BatchNorm
from bnkit.runs.training import Recipe


def norm_of(recipe: Recipe, **options: object) -> Callable[[int], nn.Module] | None:
    """What stands before each hidden nonlinearity: a maker of it, given the number of features, or
    None.

    `options` are passed on to ``BatchNorm``. Raises KeyError for a norm that nobody knows.
    """
    return {None: None, "batch": lambda features: BatchNorm(features, eps=recipe.eps, **options)}[
        recipe.norm
    ]


def population_indices(recipe: Recipe, n: int) -> Iterator[np.ndarray]:
    """The mini-batches of Algorithm 2, as indices of `n` examples: from a stream of their own,
    always the same.

    No example twice: a small data set has fewer of them than the recipe allows.
    """
    order = datasets.batches(n, recipe.batch_size, seed=1_000_003 + recipe.seed)
    return islice(order, min(recipe.population_batches, n // recipe.batch_size))
