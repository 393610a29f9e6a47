"""Normalisation with small mini-batches in a convolutional network, after Wu and He (2018)."""

import copy
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from bnkit import datasets
from bnkit.networks.convnet import convnet
from bnkit.runs import probes
from bnkit.runs.tasks import LOSS, Descent
from bnkit.runs.training import AnyRecipe, Watch

POPULATION = 6_400  # training examples whose mini-batches Algorithm 2 averages, whatever their size
IN_BATCHES = 2_000  # test examples that are tested in mini-batches, too


@dataclass(frozen=True, kw_only=True)
class SmallBatchRecipe(AnyRecipe):
    """A run: one pass through the training images."""

    weight_decay: ClassVar[float] = 0.0

    norm: str  # a name of bnkit.networks.convnet.NORMS
    batch_size: int  # examples per mini-batch, over which batch normalization takes its statistics
    dataset: str = "fashion-mnist"
    channels: tuple[int, ...] = (16, 32, 32)  # maps of each convolution
    rate_at_32: float = 0.1  # first learning rate for batches of 32; others in proportion
    end: float = 0.0  # share of the rate that is left after the last step, in a straight line
    momentum: float = 0.9  # of the optimiser
    examples: int = 60_000  # training images, the first so many, each seen once
    seed: int = 0  # of the initial weights and of the order of the images

    @property
    def learning_rate(self) -> float:
        return self.rate_at_32 * self.batch_size / 32

    @property
    def steps(self) -> int:
        return self.examples // self.batch_size

    @property
    def population_batches(self) -> int:
        return min(POPULATION, self.examples) // self.batch_size

    def rate(self, step: int) -> float:
        """The learning rate of the step after `step` steps."""
        return self.learning_rate * (1 - (1 - self.end) * step / self.steps)


MEANING = {
    "loss": LOSS,
    "test_accuracy": "share of test images named correctly, population statistics of Algorithm 2",
    "test_accuracy_batch": "the same for 2,000 test images, by statistics of mini-batches as in "
    "training",
}


def pictures(images: np.ndarray, data: datasets.Dataset) -> Tensor:
    """Images as input of a convolution: less the mean of all training pixels, over their deviation.

    Shapes: (n, h, w) -> (n, 1, h, w) float32.
    """
    pixels = torch.from_numpy(images[:, None]).float()
    return (pixels - float(data.train_images.mean())) / float(data.train_images.std())


class Task(Descent):
    """The network and its images; looked at once, at the end."""

    MEANING = MEANING
    WHOLE = True

    def prepare(self, source: None) -> None:
        recipe, data = self.recipe, self.load(self.recipe)
        self.digest = data.digest
        self.x = pictures(data.train_images[: recipe.examples], data).to(self.device)
        self.labels = torch.from_numpy(data.train_labels).to(self.device)
        self.test = pictures(data.test_images, data).to(self.device)
        self.test_labels = torch.from_numpy(data.test_labels).to(self.device)
        weights = torch.Generator().manual_seed(recipe.seed)
        net = convnet(recipe.norm, recipe.channels, len(data.classes), weights)
        self.model = net.to(self.device)

    def watches(self, checksums: dict[str, str]) -> list[Watch]:
        """Accuracy at the end: by the inference network, and by statistics of mini-batches."""
        return [Watch(frozenset({self.recipe.steps}), self._measure)]

    def _measure(self, step: int, model: nn.Module, _: object) -> dict[str, float]:
        with probes.inference(model, self.population()):
            accuracy = {"test_accuracy": probes.accuracy(model, self.test, self.test_labels)}
        if self.recipe.norm == "batch":
            part = self.test[:IN_BATCHES], self.test_labels[:IN_BATCHES]
            accuracy["test_accuracy_batch"] = _by_batch(model, *part, self.recipe.batch_size)
        return {name: round(value, 6) for name, value in accuracy.items()}


def _by_batch(model: torch.nn.Module, x: Tensor, labels: Tensor, size: int) -> float:
    """Accuracy in training mode, of a copy: the model's own running averages shall not move."""
    model = copy.deepcopy(model).train()
    with torch.no_grad():
        parts = zip(x.split(size), labels.split(size), strict=True)
        return sum((model(part).argmax(1) == right).sum().item() for part, right in parts) / len(x)
