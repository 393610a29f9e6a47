"""The families of experiments: from a recipe to a network, its data, and what is watched.

``Task`` says what a run needs to know of a family: ``bnkit.runs.experiments`` trains any without
knowing which it is. ``Descent`` is what all tasks on torch share.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bnkit import datasets
from bnkit.layers import BatchNorm
from bnkit.runs import records
from bnkit.runs.checkpoints import Checkpoint
from bnkit.runs.distributed import ALONE, Processes
from bnkit.runs.training import AnyRecipe, Progress, Recipe, Watch, fit, restore, sgd, state_arrays

OnStep = Callable[[int], None]

LOSS = "mean training cross-entropy since the previous entry, in nats"


class Task(Protocol):
    """A network and its data, made from a recipe; trains itself, once.

    Made as ``Task(recipe, device, source, processes)``; `source` is the place of the data and None
    where ``TAKES_SOURCE`` is false, `processes` are those that train the one network together.
    """

    MEANING: ClassVar[Mapping[str, str]]
    """What each curve means."""
    WHOLE: ClassVar[bool]
    """Whether a run is only made whole and on the CPU."""
    TAKES_SOURCE: ClassVar[bool]
    """Whether it trains on data that the caller names."""

    digest: str
    """Of the data."""

    @staticmethod
    def load(recipe: AnyRecipe) -> object:
        """The verified data; DataError where they cannot be had."""

    def train(self, checkpoint: Checkpoint | None, on_step: OnStep) -> Progress:
        """Train, from `checkpoint` on where it holds something; tell `on_step` the step."""


class Answers(Protocol):
    """What an ensemble asks of a trained task besides."""

    model: nn.Module
    test_labels: Tensor
    """(t,)."""

    def population(self) -> Iterator[Tensor]:
        """The mini-batches of Algorithm 2."""

    def probabilities(self, model: nn.Module) -> Tensor:
        """Class probabilities of the test examples, (t, classes), by a network in evaluation."""


class Descent:
    """Stochastic gradient descent on a network of torch: what all tasks share but the one in NumPy.

    A task makes `digest` and `model` in ``prepare``, and gives ``watches``; ``batches`` and
    ``population`` too, unless ``prepare`` keeps training examples `x` (n, ...) and `labels` (n,).
    """

    MEANING: ClassVar[Mapping[str, str]]
    WHOLE: ClassVar[bool] = False
    TAKES_SOURCE: ClassVar[bool] = False
    PAUSE_EVERY: ClassVar[int] = 1000
    """Steps between two looks at the clock, for progress bars and checkpoints."""

    digest: str
    model: nn.Module

    def __init__(
        self, recipe: Recipe, device: torch.device, source: str | Path | None = None,
        processes: Processes = ALONE,
    ):  # fmt: skip
        self.recipe, self.device, self.processes = recipe, device, processes
        self.prepare(source)

    @staticmethod
    def load(recipe: Recipe) -> datasets.Dataset:
        """The verified data of `recipe`."""
        return datasets.load(recipe.dataset)

    def prepare(self, source: str | Path | None) -> None:
        """Load the data and build the network; `source` is None where ``TAKES_SOURCE`` is false."""
        raise NotImplementedError

    @property
    def trained(self) -> nn.Module:
        """What is called on a mini-batch: the model, or a wrapper around it."""
        return self.model

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy, in nats. Shapes: outputs (m, classes), labels (m,)."""
        return cross_entropy(outputs, labels)

    def batches(self, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """(x, labels) of every step from `start` on."""
        recipe = self.recipe
        for index in datasets.batches(len(self.x), recipe.batch_size, recipe.seed, start):
            yield _rows(self.x, index).float(), _rows(self.labels, index)

    def population(self) -> Iterator[Tensor]:
        """The mini-batches of Algorithm 2."""
        for index in population_indices(self.recipe, len(self.x)):
            yield _rows(self.x, index).float()

    def watches(self, checksums: dict[str, str]) -> list[Watch]:
        """What is looked at on the way; `checksums` collects step -> checksum of the weights."""
        raise NotImplementedError

    def train(self, checkpoint: Checkpoint | None, on_step: OnStep) -> Progress:
        """See ``Task``. Of several processes the first keeps the checkpoint."""
        optimiser, progress = sgd(self.model, self.recipe), Progress()
        if checkpoint and (kept := checkpoint.load()):
            restore(self.model, optimiser, kept[0])
            progress = Progress(**kept[1])

        def pause(progress: Progress) -> None:
            on_step(progress.step)
            ended = progress.step >= self.recipe.steps
            if checkpoint and self.processes.rank == 0 and not ended and checkpoint.is_due():
                checkpoint.save(state_arrays(self.model, optimiser), vars(progress))

        return fit(
            self.trained,
            self.batches(progress.step),
            self.recipe,
            self.watches(progress.checksums),
            optimiser=optimiser,
            progress=progress,
            loss_of=self.loss,
            average=self.processes.average,
            pause_every=self.PAUSE_EVERY,
            on_pause=pause,
        )


def _rows(x: Tensor, index: np.ndarray) -> Tensor:
    """Those rows of `x`: whole rows are copied several times faster than by ``x[index]``."""
    return x.index_select(0, torch.from_numpy(index).to(x.device))


def norm_of(recipe: Recipe, **options: object) -> Callable[[int], nn.Module] | None:
    """What stands before each hidden nonlinearity: its maker, from the number of features, or None.

    `options` are passed on to ``BatchNorm``. Raises KeyError for a norm that nobody knows.
    """
    return {None: None, "batch": partial(BatchNorm, eps=recipe.eps, **options)}[recipe.norm]


def population_indices(recipe: Recipe, n: int) -> Iterator[np.ndarray]:
    """The mini-batches of Algorithm 2, always the same, as indices of `n` examples.

    No example twice: a small data set has fewer of them than the recipe allows.
    """
    order = datasets.batches(n, recipe.batch_size, seed=1_000_003 + recipe.seed)
    return islice(order, min(recipe.population_batches, n // recipe.batch_size))


def until(steps: int, grid: Iterable[int]) -> frozenset[int]:
    """The steps of `grid` that a run of so many `steps` comes to, and its last."""
    return frozenset(step for step in grid if step < steps) | {steps}


def curves_of(progress: Progress, meaning: Mapping[str, str]) -> dict[str, dict]:
    """The curves of a run as a record has them: each with its meaning, the loss rounded."""
    curves = {name: {**curve, "what": meaning[name]} for name, curve in progress.curves.items()}
    if "loss" in curves:  # a run may diverge before the first entry
        curves["loss"]["values"] = records.round_to(curves["loss"]["values"], 6)
    return curves
