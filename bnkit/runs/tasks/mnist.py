"""Section 4.1: black-and-white digits, fully connected layers; every unit of the last hidden layer
is watched.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from bnkit import datasets
from bnkit.networks.mlp import MLP
from bnkit.runs import probes, records
from bnkit.runs.tasks import Descent, norm_of, population_indices
from bnkit.runs.training import Recipe, Watch

MEANING = {
    "test_accuracy": "share of test examples classified correctly, by the inference network of "
    "Algorithm 2",
    "loss": "mean training cross-entropy since the previous entry, in nats",
    "quantiles": "15th, 50th and 85th percentile of the input to each unit's nonlinearity in the "
    "last hidden layer: test set, inference network; step x unit x percentile",
    "gamma": "gamma of each unit in the last hidden layer; step x unit",
}


@dataclass(frozen=True, kw_only=True)
class MLPRecipe(Recipe):
    """A run of Section 4.1: the network is fully connected, the pictures are binary."""

    model: str = "mlp"
    hidden: tuple[int, ...] = (100, 100, 100)  # units of each hidden layer
    activation: str = "sigmoid"
    init_sigma: float = 0.1  # standard deviation of the initial weights


def build(recipe: MLPRecipe, inputs: int, classes: int) -> nn.Module:
    """The network of `recipe`, freshly initialised from its seed."""
    return MLP(
        inputs,
        recipe.hidden,
        classes,
        norm=norm_of(recipe),
        activation=recipe.activation,
        init_sigma=recipe.init_sigma,
        generator=torch.Generator().manual_seed(recipe.seed),
    )


def landmarks(steps: int) -> frozenset[int]:
    """Steps at which accuracy and loss are taken: dense where curves bend, every 1,000 later;
    always first and last."""
    grid = [*range(0, 500, 100), *range(500, 10_000, 500), *range(10_000, steps, 1000)]
    return frozenset(step for step in grid if step < steps) | {steps}


def sparse_landmarks(steps: int) -> frozenset[int]:
    """Steps at which whole layers are described: fewer, as a record keeps three numbers for each of
    100 units."""
    early = [0, 100, 500, 1000, 1500, 2000, 2500]
    grid = [*early, *range(3000, 10_000, 1000), *range(10_000, steps, 2500)]
    return frozenset(step for step in grid if step < steps) | {steps}


class Task(Descent):
    """A network and its data on the device: pictures binary, as Section 4.1 has them, in the
    recipe's order."""

    MEANING = MEANING

    @staticmethod
    def load(recipe: MLPRecipe) -> datasets.Dataset:
        """The verified data of `recipe`."""
        return datasets.load(recipe.dataset)

    def prepare(self, source: None) -> None:
        data, recipe = self.load(self.recipe), self.recipe
        self.digest, self.white = data.digest, data.white
        self.pixels, self.labels = self._tensors(data.train_images, data.train_labels)
        self.test, self.test_labels = self._tensors(data.test_images, data.test_labels)
        self.test = self.test.float()
        self.model = build(recipe, self.test.shape[1], len(data.classes)).to(self.device)

    def _tensors(self, images: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
        pixels = torch.from_numpy(datasets.binarise(images, self.white))
        return pixels.to(self.device), torch.from_numpy(labels).to(self.device)

    def batches(self, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """(x, labels) of every step from `start` on."""
        recipe = self.recipe
        for index in datasets.batches(len(self.pixels), recipe.batch_size, recipe.seed, start):
            yield self.rows(self.pixels, index).float(), self.rows(self.labels, index)

    def population(self) -> Iterator[Tensor]:
        """The mini-batches of Algorithm 2."""
        for index in population_indices(self.recipe, len(self.pixels)):
            yield self.rows(self.pixels, index).float()

    def watches(self, checksums: dict[str, str]) -> list[Watch]:
        """What Figure 1 shows, and what explains it; all in the inference network of Algorithm 2,
        on test data."""
        recipe, sparse = self.recipe, sparse_landmarks(self.recipe.steps)

        def figure_1(step: int, model: nn.Module, _) -> dict:
            last = model.hidden[-1]
            with probes.inference(model, self.population()):
                right = probes.accuracy(model, self.test, self.test_labels)
                seen = {"test_accuracy": round(right, 6)}
                if step in sparse:
                    inputs = probes.input_of(last.activation, model, self.test)
                    seen["quantiles"] = records.round_to(probes.percentiles(inputs).cpu(), 3)
            if step in sparse:
                checksums[str(step)] = probes.checksum(model)
                if recipe.norm:
                    seen["gamma"] = records.round_to(last.norm.weight.detach().cpu(), 3)
            return seen

        return [Watch(landmarks(recipe.steps), figure_1)]
