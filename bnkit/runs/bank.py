"""Runs side by side in one process: recipes that share their pictures train as a bank.

The recipes are those that ``training.fit`` takes, and the curves those that it gives, to rounding:
``bnkit.networks.bank`` adds up in another order. What the loop does for one network it does here
for each: the same initial weights, the same mini-batches, the same probes at the same steps. A
network that diverges ends there, and its neighbours are what they would be alone.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from bnkit.networks.bank import Bank
from bnkit.runs.checkpoints import Checkpoint
from bnkit.runs.tasks import OnStep
from bnkit.runs.tasks.mnist import MLPRecipe, Task
from bnkit.runs.training import Progress, Watch

# what may differ from network to network
OWN = ("norm", "seed", "learning_rate", "init_sigma", "bias_sigma")
# networks whose step stays in a core's second cache; more are banks that take turns
TOGETHER = 20

Watches = Callable[[Task, dict[str, str]], list[Watch]]


class BankError(ValueError):
    """Recipes that cannot share a bank; the message says which field, and what may differ."""


def shared(recipe: MLPRecipe) -> dict:
    """What the recipes of a bank have in common: all fields but ``OWN``."""
    return {name: value for name, value in asdict(recipe).items() if name not in OWN}


def check(recipes: Sequence[MLPRecipe]) -> None:
    """Raise BankError where `recipes` are none, or of another family, or cannot share a bank."""
    strangers = {type(recipe).__name__ for recipe in recipes if not isinstance(recipe, MLPRecipe)}
    if strangers or not recipes:
        given = f"not {', '.join(sorted(strangers))}" if strangers else "and there are none"
        raise BankError(f"a bank is for one or more recipes of Section 4.1, MLPRecipe, {given}")
    first = shared(recipes[0])
    for recipe in recipes[1:]:
        for name, value in shared(recipe).items():
            if value != first[name]:
                raise BankError(
                    f"recipes with {name}={first[name]!r} and {name}={value!r} cannot share a "
                    f"bank: its networks may differ in {', '.join(OWN)} alone. Make two banks."
                )


class Runs:
    """The networks of `recipes`, trained side by side; in the order of the recipes throughout.

    Raises BankError as ``check``, DataError where the pictures cannot be had.
    """

    PAUSE_EVERY: ClassVar[int] = 1000
    """Steps between two looks at the clock, for progress bars and checkpoints."""

    def __init__(self, recipes: Sequence[MLPRecipe]):
        check(recipes)
        self.recipes = list(recipes)
        self.tasks = self._tasks()
        self.steps = recipes[0].steps
        self.banks = [(places, self._bank(places)) for places in self._divide()]
        self.progress = [Progress() for _ in recipes]

    def _tasks(self) -> list[Task]:
        """One for each recipe; those of a seed hold their pictures once."""
        tasks: list[Task] = []
        of_seed: dict[int, Task] = {}
        for recipe in self.recipes:
            known = of_seed.get(recipe.seed) or next(iter(of_seed.values()), None)
            task = known.beside(recipe) if known else Task(recipe, torch.device("cpu"))
            of_seed.setdefault(recipe.seed, task)
            tasks.append(task)
        return tasks

    def _divide(self) -> Iterator[list[int]]:
        """The places of each bank: of one norm, networks of a seed next to each other."""
        for norm in dict.fromkeys(recipe.norm for recipe in self.recipes):
            places = [n for n, recipe in enumerate(self.recipes) if recipe.norm == norm]
            places.sort(key=lambda n: self.recipes[n].seed)
            parts = -(-len(places) // TOGETHER)
            yield from (part.tolist() for part in np.array_split(places, parts))

    def _bank(self, places: list[int]) -> Bank:
        recipes = [self.recipes[place] for place in places]
        seeds = [recipe.seed for recipe in recipes]
        return Bank(
            [self.tasks[place].model for place in places],
            [seeds.count(seed) for seed in dict.fromkeys(seeds)],
            [recipe.learning_rate for recipe in recipes],
            recipes[0].batch_size,
            recipes[0].momentum,
        )

    @property
    def step(self) -> int:
        return max(progress.step for progress in self.progress)

    def nbytes(self) -> int:
        """What the runs hold in memory: the banks, the models to look at, and the pictures."""
        banks = sum(bank.nbytes() for _, bank in self.banks)
        models = sum(p.nbytes for task in self.tasks for p in task.model.parameters())
        pictures = {}
        for task in self.tasks:
            for tensor in (torch.from_numpy(task.x), task.test, task.labels):
                pictures[tensor.data_ptr()] = tensor.nbytes
        return banks + models + sum(pictures.values())

    # ---- Training ----

    def train(
        self, watches: Watches = Task.watches, checkpoint: Checkpoint | None = None,
        on_step: OnStep = lambda step: None,
    ) -> list[Progress]:  # fmt: skip
        """Train all; the progress of each, as ``training.fit`` returns it for one.

        `watches` says what is looked at, for a task and the place of its checksums. With a
        `checkpoint` the runs are taken up where it left them. `on_step` is told the step.
        """
        if checkpoint and (kept := checkpoint.load()):
            self._restore(*kept)
        looks = [
            watches(task, progress.checksums)
            for task, progress in zip(self.tasks, self.progress, strict=True)
        ]
        steps = frozenset().union(*(watch.steps for look in looks for watch in look), {self.steps})
        if self.step == 0:
            self._look(looks, range(len(self.recipes)))
        losses = self._no_losses()
        batches = self._batches(self.step)
        while self.step < self.steps and (alive := self._alive()):
            losses += self._one_step(next(batches))
            for place in alive:
                self.progress[place].step += 1
                self.progress[place].loss_count += 1
            landmark, pause = self.step in steps, self.step % self.PAUSE_EVERY == 0
            if landmark or pause:
                for place in alive:
                    self.progress[place].loss_sum += losses[place].item()
                losses.zero_()
            if landmark:
                self._look(looks, self._sound(alive))
            if pause:
                on_step(self.step)
                if checkpoint and self.step < self.steps and checkpoint.is_due():
                    checkpoint.save(*self._kept())
        return self.progress

    def _alive(self) -> list[int]:
        return [n for n, progress in enumerate(self.progress) if progress.diverged_at is None]

    def _batches(self, start: int) -> Iterator[dict[int, tuple[Tensor, Tensor]]]:
        """The mini-batch of every seed, step by step."""
        tasks = {task.recipe.seed: task for task in reversed(self.tasks)}
        each = {seed: task.batches(start) for seed, task in tasks.items()}
        while True:
            yield {seed: next(batches) for seed, batches in each.items()}

    def _one_step(self, batches: dict[int, tuple[Tensor, Tensor]]) -> Tensor:
        """One step of every network; their losses."""
        losses = self._no_losses()
        for places, bank in self.banks:
            seeds = dict.fromkeys(self.recipes[place].seed for place in places)
            xs, labels = zip(*(batches[seed] for seed in seeds), strict=True)
            losses[places] = bank.step(xs, labels)
        return losses

    def _no_losses(self) -> Tensor:
        return torch.zeros(len(self.recipes), dtype=self.banks[0][1].scale.dtype)

    def _sound(self, places: list[int]) -> list[int]:
        """Write down the losses; those of `places` whose loss is a number, the others end here."""
        for place in places:
            progress = self.progress[place]
            if math.isfinite(progress.loss_sum):
                progress.add("loss", progress.loss_sum / progress.loss_count)
                progress.loss_sum, progress.loss_count = 0.0, 0
            else:
                progress.diverged_at = progress.step
        return [place for place in places if self.progress[place].diverged_at is None]

    def _look(self, looks: list[list[Watch]], places: Sequence[int]) -> None:
        wanted = set(places)
        for bank_places, bank in self.banks:
            for column, place in enumerate(bank_places):
                if place in wanted:
                    self._look_at(place, bank, column, looks[place])

    def _look_at(self, place: int, bank: Bank, column: int, watches: list[Watch]) -> None:
        task, progress = self.tasks[place], self.progress[place]
        asked = [watch for watch in watches if progress.step in watch.steps]
        if asked:
            bank.write(column, task.model)
        for watch in asked:
            for name, value in watch.measure(progress.step, task.model, None).items():
                progress.add(name, value)

    # ---- Stopping and going on ----

    def _kept(self) -> tuple[dict[str, np.ndarray], dict]:
        arrays = {
            f"{number}/{name}": tensor.numpy()
            for number, (_, bank) in enumerate(self.banks)
            for name, tensor in bank.tensors().items()
        }
        return arrays, {"runs": [vars(progress) for progress in self.progress]}

    def _restore(self, arrays: dict[str, np.ndarray], facts: dict) -> None:
        for number, (_, bank) in enumerate(self.banks):
            for name, tensor in bank.tensors().items():
                tensor.copy_(torch.from_numpy(arrays[f"{number}/{name}"]))
        self.progress = [Progress(**one) for one in facts["runs"]]
