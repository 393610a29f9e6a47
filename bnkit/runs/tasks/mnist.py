"""Section 4.1: black-and-white digits, fully connected layers; the last hidden one is watched."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from bnkit import datasets
from bnkit.networks.mlp import MLP
from bnkit.runs import probes, records
from bnkit.runs.tasks import LOSS, Descent, norm_of, until
from bnkit.runs.training import Recipe, Watch

MEANING = {
    "test_accuracy": "share of test examples classified correctly, by the inference network of "
    "Algorithm 2",
    "loss": LOSS,
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


class Task(Descent):
    """A network and its data on the device: the pictures are binary, as Section 4.1 has them."""

    MEANING = MEANING

    def prepare(self, source: None) -> None:
        data, recipe = self.load(self.recipe), self.recipe
        self.digest, self.white = data.digest, data.white
        self.x, self.labels = self._tensors(data.train_images, data.train_labels)
        self.test, self.test_labels = self._tensors(data.test_images, data.test_labels)
        self.test = self.test.float()
        self.model = build(recipe, self.test.shape[1], len(data.classes)).to(self.device)

    def _tensors(self, images: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
        pixels = torch.from_numpy(datasets.binarise(images, self.white))
        return pixels.to(self.device), torch.from_numpy(labels).to(self.device)

    def watches(self, checksums: dict[str, str]) -> list[Watch]:
        """What Figure 1 shows, and what explains it: of the inference network, on test data."""
        steps = self.recipe.steps
        # dense where curves bend
        often = [*range(0, 500, 100), *range(500, 10_000, 500), *range(10_000, steps, 1000)]
        # fewer: of whole layers a record keeps three numbers for each of 100 units
        rare = [0, *range(500, 3000, 500), *range(3000, 10_000, 1000), *range(10_000, steps, 2500)]
        sparse = until(steps, [100, *rare])

        def figure_1(step: int, model: nn.Module, _) -> dict:
            last = model.hidden[-1]
            with probes.inference(model, self.population()):
                right = probes.accuracy(model, self.test, self.test_labels)
                seen = {"test_accuracy": round(right, 6)}
                if step in sparse:
                    (inputs,) = probes.inputs_of([last.activation], model, self.test)
                    seen["quantiles"] = records.round_to(probes.percentiles(inputs).cpu(), 3)
            if step in sparse:
                checksums[str(step)] = probes.checksum(model)
                if self.recipe.norm:
                    seen["gamma"] = records.round_to(last.norm.weight.detach().cpu(), 3)
            return seen

        return [Watch(until(steps, often), figure_1)]
