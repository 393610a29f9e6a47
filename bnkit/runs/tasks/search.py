"""Which settings did the paper use? Figure 1 asked of many of them: a bank of pairs, small records.

The paper prints neither the learning rate nor the size of the initial weights and biases, nor how
the pixels became binary, nor whether there was momentum. A run here trains both networks of Section
4.1 at many rates and sizes, at one way to make pixels and one momentum, and keeps what the paper
draws.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from bnkit import datasets
from bnkit.runs import bank, records
from bnkit.runs.checkpoints import Checkpoint
from bnkit.runs.distributed import ALONE, Processes
from bnkit.runs.tasks import LOSS, until
from bnkit.runs.tasks.mnist import MLPRecipe
from bnkit.runs.tasks.mnist import Task as OneTask
from bnkit.runs.training import ADDED, AnyRecipe, Progress, Watch

NORMS = ("batch", None)  # the two networks, in the order of every curve
APART = 4000  # steps between two points that the paper's curves of Figure 1(a) are drawn through
# where panels (b) and (c) are compared: they bend early
EARLY = (250, 1000, 2000)

MEANING = {
    "test_accuracy": "share of test examples classified correctly, by the inference network of "
    "Algorithm 2; step x network (with BN, without) x setting; -1 where it diverged",
    "inputs": "15th, 50th and 85th percentile, over the units of the last hidden layer, of four "
    "numbers of a unit: the 15th, 50th and 85th percentile of its input, and the last minus the "
    "first; step x network x setting x number x percentile",
    "loss": f"{LOSS}; step x network x setting",
}


@dataclass(frozen=True, kw_only=True)
class SearchRecipe(AnyRecipe):
    """Pairs of networks of Section 4.1 that differ in learning rate and start alone: settings.

    Each setting has its own rate, its own standard deviation of the initial weights, and where they
    are given its own of the initial biases, else 0, and its own seed, else that of all.
    """

    dataset: str = "mnist"
    pixels: str = "threshold"  # a name of datasets.binary.WAYS
    momentum: float = 0.0  # of the optimiser
    learning_rates: tuple[float, ...] = (0.1,)
    init_sigmas: tuple[float, ...] = (0.1,)
    bias_sigmas: tuple[float, ...] = field(default=(), metadata=ADDED)
    seeds: tuple[int, ...] = field(default=(), metadata=ADDED)
    steps: int = 16_000  # optimisation steps
    seed: int = 0  # of the initial weights and of the order of the examples, where there is one

    def recipes(self) -> list[MLPRecipe]:
        """The recipe of each network: those with BN in the order of the settings, then the rest."""
        about = {name: getattr(self, name) for name in ("dataset", "pixels", "momentum", "steps")}
        names = ("learning_rate", "init_sigma", "bias_sigma", "seed")
        settings = [dict(zip(names, one, strict=True)) for one in self.settings()]
        return [MLPRecipe(norm=norm, **one, **about) for norm in NORMS for one in settings]

    def settings(self) -> list[tuple[float, float, float, int]]:
        """Learning rate, deviations of the initial weights and biases, and seed of each setting."""
        count = len(self.learning_rates)
        biases, seeds = self.bias_sigmas or (0.0,) * count, self.seeds or (self.seed,) * count
        return list(zip(self.learning_rates, self.init_sigmas, biases, seeds, strict=True))


class Task:
    """All the networks of a search, trained side by side (``bnkit.runs.tasks.Task``)."""

    MEANING: ClassVar[Mapping[str, str]] = MEANING
    WHOLE: ClassVar[bool] = False
    TAKES_SOURCE: ClassVar[bool] = False

    def __init__(
        self, recipe: SearchRecipe, device: torch.device, source: str | Path | None = None,
        processes: Processes = ALONE,
    ):  # fmt: skip
        self.recipe = recipe
        self.runs = bank.Runs(recipe.recipes())
        self.digest = self.runs.tasks[0].digest

    @staticmethod
    def load(recipe: SearchRecipe) -> datasets.Dataset:
        """The verified data of `recipe`."""
        return datasets.load(recipe.dataset)

    def train(self, checkpoint: Checkpoint | None, on_step: Callable[[int], None]) -> Progress:
        """See ``bnkit.runs.tasks.Task``."""
        each = self.runs.train(watches, checkpoint, on_step)
        together = Progress(step=self.runs.step, checksums=self._checksums(each))
        for name in ("test_accuracy", "inputs", "loss"):
            together.curves[name] = self._gather(each, name)
        return together

    def _gather(self, each: list[Progress], name: str) -> dict[str, list]:
        """One curve of all networks: step x network x setting; -1 where one ended before."""
        longest = max((one.curves.get(name, {"steps": []}) for one in each), key=_length)
        steps, shape = longest["steps"], np.shape(longest["values"])[1:]
        table = np.full((len(steps), len(each), *shape), -1.0)
        for place, one in enumerate(each):
            values = one.curves.get(name, {"values": []})["values"]
            if values:
                table[: len(values), place] = values
        table = table.reshape(len(steps), len(NORMS), -1, *shape)
        digits = {"test_accuracy": 5, "inputs": 3, "loss": 4}[name]
        return {"steps": steps, "values": records.round_to(table, digits)}

    @staticmethod
    def _checksums(each: list[Progress]) -> dict[str, str]:
        """Of the first network, which stands for all: they are steps of the same arithmetic."""
        return each[0].checksums


def watches(task: OneTask, checksums: dict[str, str]) -> list[Watch]:
    """What the paper's figure shows, of one network, where the paper has points."""
    steps = until(task.recipe.steps, [*EARLY, *range(APART, task.recipe.steps, APART)])
    figure_1 = task.figure_1(steps, steps, checksums)

    def measure(step: int, model: torch.nn.Module, batch: object) -> dict:
        seen = figure_1.measure(step, model, batch)
        units = np.asarray(seen["quantiles"])  # (units, 3)
        numbers = np.column_stack([units, units[:, 2] - units[:, 0]])
        over = np.percentile(numbers, (15, 50, 85), axis=0).T  # (4, 3)
        return {"test_accuracy": seen["test_accuracy"], "inputs": over.tolist()}

    return [Watch(steps, measure)]


def _length(curve: dict) -> int:
    return len(curve["steps"])
