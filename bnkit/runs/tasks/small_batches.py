"""The recorded runs of the chapter on what came after the paper, each made whole, on the CPU.

Two experiments are too long for a page that trains while it is built: the 25-layer linear network
of Santurkar et al. (2018), as they describe it, and normalisation with small batches in a
convolutional network (Wu and He 2018).
"""

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bnkit import datasets
from bnkit.networks.convnet import convnet
from bnkit.runs import probes, records
from bnkit.runs.tasks import linear, population_indices
from bnkit.runs.training import Watch, fit

POPULATION = 6_400  # training examples whose mini-batches Algorithm 2 averages, whatever their size
IN_BATCHES = 2_000  # test examples that are tested in mini-batches, too


@dataclass(frozen=True, kw_only=True)
class SmallBatches:
    """Everything that determines a run of the convolutional network: one pass through the training
    images.
    """

    norm: str  # a name of bnkit.networks.convnet.NORMS
    batch_size: int  # examples per mini-batch, over which batch normalization takes its statistics
    dataset: str = "fashion-mnist"
    channels: tuple[int, ...] = (16, 32, 32)  # maps of each convolution
    rate_at_32: float = 0.1  # learning rate at the first step for batches of 32; for others in proportion to their size
    end: float = 0.0  # share of the learning rate that is left after the last step; it falls in a straight line
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

    def as_dict(self) -> dict[str, Any]:
        """The recipe as plain JSON values."""
        return {**asdict(self), "channels": list(self.channels)}


Recipe = linear.Recipe | SmallBatches


def load(recipe: Recipe) -> datasets.Dataset | None:
    """The images of `recipe`; None for the linear network, whose data are random numbers."""
    return datasets.load(recipe.dataset) if isinstance(recipe, SmallBatches) else None


def train(recipe: Recipe, on_step: Callable[[int], None] = lambda step: None) -> records.Record:
    """Make the run of `recipe` and return it as a record that is called live/run; nothing is
    stored.
    """
    began = time.perf_counter()
    if isinstance(recipe, linear.Recipe):
        curves, digest = linear.train(recipe, on_step), "none: random numbers"
    else:
        curves, digest = _train_conv(recipe, on_step)
    manifest = records.manifest(
        device="cpu", data_digest=digest, wall_seconds=round(time.perf_counter() - began, 1)
    )
    return records.Record("live", "run", recipe.seed, recipe.as_dict(), manifest, curves)


def pictures(images: np.ndarray, data: datasets.Dataset) -> Tensor:
    """Images as input of a convolution: less the mean of all training pixels, over their standard
    deviation.

    Shapes: (n, h, w) -> (n, 1, h, w) float32.
    """
    pixels = torch.from_numpy(images[:, None]).float()
    return (pixels - float(data.train_images.mean())) / float(data.train_images.std())


def _train_conv(
    recipe: SmallBatches, on_step: Callable[[int], None]
) -> tuple[dict[str, dict], str]:
    data = load(recipe)
    x, labels = (
        pictures(data.train_images[: recipe.examples], data),
        torch.from_numpy(data.train_labels),
    )
    x_test, labels_test = pictures(data.test_images, data), torch.from_numpy(data.test_labels)
    net = convnet(
        recipe.norm, recipe.channels, len(data.classes), torch.Generator().manual_seed(recipe.seed)
    )

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for index in map(
            torch.from_numpy, datasets.batches(len(x), recipe.batch_size, recipe.seed)
        ):
            yield x.index_select(0, index), labels.index_select(0, index)

    def measure(step: int, model: torch.nn.Module, _) -> dict[str, float]:
        population = (
            x.index_select(0, torch.from_numpy(index))
            for index in population_indices(recipe, len(x))
        )
        with probes.inference(model, population):
            found = {"test_accuracy": probes.accuracy(model, x_test, labels_test)}
        if recipe.norm == "batch":
            part = x_test[:IN_BATCHES], labels_test[:IN_BATCHES]
            found["test_accuracy_batch"] = _by_batch(model, *part, recipe.batch_size)
        return {name: round(value, 6) for name, value in found.items()}

    optimiser = torch.optim.SGD(
        net.parameters(), lr=recipe.learning_rate, momentum=recipe.momentum, fused=True
    )
    watch = Watch(frozenset({recipe.steps}), measure)
    progress = fit(
        net, batches(), recipe, [watch], optimiser=optimiser, on_pause=lambda p: on_step(p.step)
    )
    meaning = {
        "loss": "mean training cross-entropy since the previous entry, in nats",
        "test_accuracy": "share of test images named correctly, population statistics of Algorithm 2",
        "test_accuracy_batch": "the same for 2,000 test images, by statistics of mini-batches as in training",
    }
    progress.curves["loss"]["values"] = records.round_to(progress.curves["loss"]["values"], 6)
    return {
        name: {**curve, "what": meaning[name]} for name, curve in progress.curves.items()
    }, data.digest


def _by_batch(model: torch.nn.Module, x: Tensor, labels: Tensor, size: int) -> float:
    """Accuracy in training mode; of a copy, as the running averages of the model itself shall not
    move.
    """
    model = copy.deepcopy(model).train()
    with torch.no_grad():
        parts = zip(x.split(size), labels.split(size), strict=True)
        return sum((model(part).argmax(1) == right).sum().item() for part, right in parts) / len(x)
