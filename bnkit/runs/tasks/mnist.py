"""Section 4.1: black-and-white digits, fully connected layers; the last hidden one is watched."""

from collections.abc import Iterable, Iterator
from copy import copy
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from bnkit import datasets
from bnkit.datasets import binary
from bnkit.networks.mlp import MLP
from bnkit.runs import probes, records
from bnkit.runs.tasks import LOSS, Descent, norm_of, population_indices, until
from bnkit.runs.training import ADDED, Recipe, Watch

MEANING = {
    "test_accuracy": "share of test examples classified correctly, by the inference network of "
    "Algorithm 2",
    "test_accuracy_threshold": "the same on test pictures whose pixels are 1 above half of white, of "
    "a network whose pixels are drawn at every use",
    "loss": LOSS,
    "quantiles": "15th, 50th and 85th percentile of the input to each unit's nonlinearity in the "
    "last hidden layer: test set, inference network; step x unit x percentile",
    "gamma": "gamma of each unit in the last hidden layer; step x unit",
}


@dataclass(frozen=True, kw_only=True)
class MLPRecipe(Recipe):
    """A run of Section 4.1: the network is fully connected, the pictures are binary.

    Raises ValueError for a way to make them so that nobody knows.
    """

    model: str = "mlp"
    hidden: tuple[int, ...] = (100, 100, 100)  # units of each hidden layer
    activation: str = "sigmoid"
    init_sigma: float = 0.1  # standard deviation of the initial weights
    bias_sigma: float = field(default=0.0, metadata=ADDED)  # the same of the initial biases
    pixels: str = field(default="threshold", metadata=ADDED)  # a name of datasets.binary.WAYS

    def __post_init__(self):
        if self.pixels not in binary.WAYS:
            known = ", ".join(binary.WAYS)
            raise ValueError(f"pixels={self.pixels!r} is no way to make pixels binary: {known}")


def build(recipe: MLPRecipe, inputs: int, classes: int) -> nn.Module:
    """The network of `recipe`, freshly initialised from its seed."""
    return MLP(
        inputs,
        recipe.hidden,
        classes,
        norm=norm_of(recipe),
        activation=recipe.activation,
        init_sigma=recipe.init_sigma,
        bias_sigma=recipe.bias_sigma,
        generator=torch.Generator().manual_seed(recipe.seed),
    )


class Task(Descent):
    """A network and its data on the device: the pictures are binary, as Section 4.1 has them."""

    MEANING = MEANING

    def prepare(self, source: None) -> None:
        data = self.load(self.recipe)
        self.digest, self.classes = data.digest, len(data.classes)
        self.pixels = binary.Pixels(self.recipe.pixels, data.white, self.recipe.seed)
        self.train_images, self.test_images = data.train_images, data.test_images
        self.labels, self.test_labels = map(self._place, (data.train_labels, data.test_labels))
        self._look()
        self._build()

    def beside(self, recipe: MLPRecipe) -> "Task":
        """The task of `recipe`, which is for the same data; what both need is held once."""
        task = copy(self)
        task.recipe = recipe
        same = recipe.seed == self.recipe.seed or recipe.pixels not in binary.DRAWN
        if recipe.pixels != self.recipe.pixels or not same:
            task.pixels = self.pixels._replace(way=recipe.pixels, seed=recipe.seed)
            task._look()
        task._build()
        return task

    def _look(self) -> None:
        """Make the pictures what the recipe asks for."""
        kept = self.pixels.kept
        self.x = kept(self.train_images, binary.TRAINING)  # (n, pixels) uint8
        test = self.pixels.used(kept(self.test_images, binary.TEST), 0, binary.TEST)
        self.test = self._place(test)
        self.thresholded = None
        if self.pixels.way == "drawn":  # the paper does not say whether its test pictures were, too
            plain = self.pixels._replace(way="threshold")
            kept = plain.kept(self.test_images, binary.TEST)
            self.thresholded = self._place(plain.used(kept, 0, binary.TEST))

    def _build(self) -> None:
        self.model = build(self.recipe, self.test.shape[1], self.classes).to(self.device)

    def _place(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.device)

    def batches(self, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """(x, labels) of every step from `start` on."""
        recipe = self.recipe
        order = datasets.batches(len(self.x), recipe.batch_size, recipe.seed, start)
        for step, index in enumerate(order, start):
            x = self.pixels.used(self.x.take(index, 0), step, binary.TRAINING)
            yield self._place(x), self.labels.index_select(0, self._place(index))

    def population(self) -> Iterator[Tensor]:
        """The mini-batches of Algorithm 2."""
        for number, index in enumerate(population_indices(self.recipe, len(self.x))):
            yield self._place(self.pixels.used(self.x.take(index, 0), number, binary.POPULATION))

    def watches(self, checksums: dict[str, str]) -> list[Watch]:
        """What Figure 1 shows, and what explains it: of the inference network, on test data."""
        steps = self.recipe.steps
        # dense where curves bend
        often = [*range(0, 500, 100), *range(500, 10_000, 500), *range(10_000, steps, 1000)]
        # fewer: of whole layers a record keeps three numbers for each of 100 units
        rare = [0, *range(500, 3000, 500), *range(3000, 10_000, 1000), *range(10_000, steps, 2500)]
        return [self.figure_1(until(steps, often), until(steps, [100, *rare]), checksums)]

    def figure_1(
        self, often: Iterable[int], sparse: Iterable[int], checksums: dict[str, str]
    ) -> Watch:
        """Test accuracy at the steps `often`; at those of them that are `sparse`, whole layers."""
        sparse = frozenset(sparse)

        def measure(step: int, model: nn.Module, _) -> dict:
            last = model.hidden[-1]
            watched = [last.activation] if step in sparse else []
            with probes.inference(model, self.population()):
                with probes.received(watched) as inputs:
                    right = probes.accuracy(model, self.test, self.test_labels)
                seen = {"test_accuracy": round(right, 6)}
                if self.thresholded is not None:
                    right = probes.accuracy(model, self.thresholded, self.test_labels)
                    seen["test_accuracy_threshold"] = round(right, 6)
            if step in sparse:
                seen["quantiles"] = records.round_to(probes.percentiles(*inputs).cpu(), 3)
                checksums[str(step)] = probes.checksum(model)
                if self.recipe.norm:
                    seen["gamma"] = records.round_to(last.norm.weight.detach().cpu(), 3)
            return seen

        return Watch(frozenset(often), measure)
