"""Section 4.2: Inception on photographs, with the seven changes of the training recipe that Section
4.2.1 lists.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from bnkit import datasets
from bnkit.datasets import pictures
from bnkit.networks.inception import Inception, small_inception
from bnkit.runs import probes, records
from bnkit.runs.tasks import Descent, norm_of, population_indices
from bnkit.runs.training import Recipe, Watch

MEANING = {
    "test_accuracy": "share of validation pictures classified correctly, by the inference "
    "network of Algorithm 2",
    "loss": "mean training cross-entropy since the previous entry, in nats",
    "test_loss": "mean cross-entropy of the validation pictures, in nats, by the inference network",
    "gradient_norm": "Euclidean norm of the gradient of each stage's convolutions (stem, then "
    "modules), one mini-batch",
    "inputs": "15th, 50th and 85th percentile of what the last nonlinearity of each module's 3x3 "
    "branch receives: 256 "
    "validation pictures, inference network; step x module x percentile",
}
PROBED = 256  # validation pictures whose activations are described


@dataclass(frozen=True, kw_only=True)
class InceptionRecipe(Recipe):
    """A run of Section 4.2. The defaults are those of the network without batch normalization.

    The paper gives only the batch size and how the changes relate: weight decay divided by 5,
    learning rate lowered 6 times faster. The values that they relate to are ours.
    """

    dataset: str = "imagenette"
    model: str = "small-inception"
    size: int = 32  # pixels: height and width of the pictures
    activation: str = "relu"
    batch_size: int = 32  # as in the paper
    momentum: float = 0.9  # the usual value; the paper says "with momentum"
    learning_rate: float = 0.01  # see BASE_RATE in bnkit.runs.experiments
    decay_steps: int = 2000  # the learning rate falls by the factor e in so many steps
    dropout: float = 0.4  # of the inputs of the softmax layer: that of the original Inception
    weight_decay: float = 5e-4  # of the weights, not of biases, gamma or beta
    lrn: bool = True  # Local Response Normalization in the stem
    # whether every epoch composes its mini-batches anew; else the same examples always meet
    shuffle: bool = False
    light: float = 0.4  # photometric distortion: contrast and brightness off by up to this share
    steps: int = 4000
    population_batches: int = 30

    def rate(self, step: int) -> float:
        """The learning rate after `step` steps: exponential decay, as in the paper."""
        return self.learning_rate * math.exp(-step / self.decay_steps)


def build(recipe: InceptionRecipe, classes: int) -> Inception:
    """The network of `recipe`, freshly initialised from its seed."""
    return small_inception(
        classes,
        norm=norm_of(recipe),
        activation=recipe.activation,
        lrn=recipe.lrn,
        dropout=recipe.dropout,
        generator=torch.Generator().manual_seed(recipe.seed),
    )


def landmarks(steps: int) -> frozenset[int]:
    """Steps at which accuracy and loss are taken: dense at first, every 300 later; always first and
    last."""
    grid = [0, 50, 100, *range(150, 1200, 150), *range(1200, steps, 300)]
    return frozenset(step for step in grid if step < steps) | {steps}


def sparse_landmarks(steps: int) -> frozenset[int]:
    """Steps at which gradients and activations are described."""
    grid = (0, 1, 50, 150, 600, *range(1200, steps, 1200))
    return frozenset(step for step in grid if step < steps) | {steps}


class Task(Descent):
    """A network and its pictures. The mini-batch of a step depends on the seed and the step
    alone."""

    MEANING = MEANING
    PAUSE_EVERY = 50  # steps

    @staticmethod
    def load(recipe: InceptionRecipe) -> pictures.Pictures | datasets.Dataset:
        """Photographs, or the small `digits` enlarged to the same size and given three colours."""
        if recipe.dataset in datasets.names():
            return datasets.coloured(datasets.load(recipe.dataset), recipe.size)
        return pictures.load(recipe.dataset, recipe.size)

    def prepare(self, source: None) -> None:
        data = self.load(self.recipe)
        self.digest = data.digest
        self.images, self.labels = np.ascontiguousarray(data.train_images), data.train_labels
        self.test = data.test_images
        self.test_labels = torch.from_numpy(np.array(data.test_labels)).to(self.device)
        pixels = self.images.reshape(-1, 3) / data.white
        # mean and deviation of each colour
        self.white, self.mean, self.std = data.white, pixels.mean(0), pixels.std(0)
        # channels last: convolutions on a CPU are several times faster
        self.model = build(self.recipe, len(data.classes)).to(
            self.device, memory_format=torch.channels_last
        )

    def _tensor(self, images: np.ndarray) -> Tensor:
        """Pictures (m, h, w, 3) as standardised input (m, 3, h, w), channels last in memory."""
        x = (images / np.float32(self.white) - self.mean) / self.std
        return torch.from_numpy(x.astype(np.float32)).to(self.device).permute(0, 3, 1, 2)

    def batches(self, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """(x, labels) of every step from `start` on, distorted; sets torch's generator, for
        Dropout, at each step."""
        recipe, n = self.recipe, len(self.images)
        orders = datasets.batches if recipe.shuffle else datasets.fixed_batches
        order = orders(n, recipe.batch_size, recipe.seed, start)
        for step, index in enumerate(order, start):
            rng = np.random.default_rng([recipe.seed, step, 1])
            torch.manual_seed(int(rng.integers(2**62)))
            moved = pictures.distort(
                self.images[index], rng, shift=recipe.size // 8, flip=True, light=recipe.light
            )
            yield self._tensor(moved), torch.from_numpy(self.labels[index]).to(self.device)

    def population(self) -> Iterator[Tensor]:
        """The mini-batches of Algorithm 2, undistorted."""
        for index in population_indices(self.recipe, len(self.images)):
            yield self._tensor(self.images[index])

    def probabilities(self, model: nn.Module) -> Tensor:
        """Class probabilities of the validation pictures, (t, classes), float64, by a network that
        is in evaluation."""
        with torch.no_grad():
            outputs = [
                model(self._tensor(self.test[i : i + 250])) for i in range(0, len(self.test), 250)
            ]
            return torch.cat(outputs).double().softmax(1)

    def watches(self, checksums: dict[str, str]) -> list[Watch]:
        """What Figure 2 shows, and the gradients and activations behind it: one inference network
        serves both."""
        often, sparse = landmarks(self.recipe.steps), sparse_landmarks(self.recipe.steps)

        def measure(step: int, model: nn.Module, batch: tuple | None) -> dict:
            found = {}
            if step in sparse:
                checksums[str(step)] = probes.checksum(model)
                if batch is not None:
                    found["gradient_norm"] = records.round_to(gradient_norms(model), 3)
            with probes.inference(model, self.population()):
                if step in often:
                    found |= self._figure_2(model)
                if step in sparse:
                    found["inputs"] = self._inputs(model)
            return found

        return [Watch(often | sparse, measure)]

    def _figure_2(self, model: nn.Module) -> dict:
        p = self.probabilities(model)
        right = p[torch.arange(len(p)), self.test_labels]
        return {
            "test_accuracy": round((p.argmax(1) == self.test_labels).double().mean().item(), 6),
            "test_loss": records.round_to(-right.clamp_min(1e-30).log().mean().cpu(), 5),
        }

    def _inputs(self, model: nn.Module) -> object:
        with received(model) as inputs, torch.no_grad():
            model(self._tensor(self.test[:PROBED]))
        spreads = [probes.percentiles(each.flatten()[:, None])[0] for each in inputs]
        return records.round_to(torch.stack(spreads).cpu(), 3)


@contextmanager
def received(model: Inception) -> Iterator[list[Tensor]]:
    """Inside, what the last nonlinearity of each module's 3x3 branch receives is collected, module
    by module."""
    seen: list[Tensor] = []
    # a copy: the nonlinearity works in place
    hooks = [
        block.three.activation.register_forward_pre_hook(
            lambda _, inputs: seen.append(inputs[0].clone())
        )
        for block in model.blocks.values()
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def gradient_norms(model: Inception) -> list[float]:
    """Euclidean norm of the gradient that the last step left in the convolutions of the stem and of
    each module."""
    norms = []
    for part in (model.stem, *model.blocks.values()):
        convolutions = [module for module in part.modules() if isinstance(module, nn.Conv2d)]
        norms.append(
            math.sqrt(sum(conv.weight.grad.double().pow(2).sum().item() for conv in convolutions))
        )
    return norms
