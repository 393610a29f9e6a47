"""Section 4.2: Inception on photographs, with the changes to its training of Section 4.2.1."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from bnkit import datasets
from bnkit.datasets import pictures
from bnkit.networks.inception import Inception, small_inception
from bnkit.runs import probes, records
from bnkit.runs.tasks import LOSS, Descent, norm_of, population_indices, until
from bnkit.runs.training import Recipe, Watch

MEANING = {
    "test_accuracy": "share of validation pictures classified correctly, by the inference "
    "network of Algorithm 2",
    "loss": LOSS,
    "test_loss": "mean cross-entropy of the validation pictures, in nats, by the inference network",
    "gradient_norm": "Euclidean norm of the gradient of each stage's convolutions (stem, then "
    "modules), one mini-batch",
    "inputs": "15th, 50th and 85th percentile of what the last nonlinearity of each module's 3x3 "
    "branch receives: 256 validation pictures, inference network; step x module x percentile",
}
PROBED = 256  # validation pictures whose activations are described
Data = pictures.Pictures | datasets.Dataset


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
    shuffle: bool = False  # whether each epoch composes its mini-batches anew, of other examples
    light: float = 0.4  # photometric distortion: contrast and brightness off by up to this share
    steps: int = 4000
    population_batches: int = 30

    def rate(self, step: int) -> float:
        """The learning rate after `step` steps: exponential decay, as in the paper."""
        return self.learning_rate * math.exp(-step / self.decay_steps)


def style_of(recipe: InceptionRecipe, **options: object) -> dict[str, object]:
    """What the small network and the whole one are made with; `options` go to ``norm_of``."""
    return {
        "norm": norm_of(recipe, **options),
        "activation": recipe.activation,
        "lrn": recipe.lrn,
        "dropout": recipe.dropout,
        "generator": torch.Generator().manual_seed(recipe.seed),
    }


class Task(Descent):
    """A network and its pictures. A step's mini-batch depends on the seed and the step alone."""

    MEANING = MEANING
    PAUSE_EVERY = 50  # steps

    @staticmethod
    def load(recipe: InceptionRecipe) -> Data:
        """Photographs, or the small `digits` enlarged to the same size and given three colours."""
        if recipe.dataset in datasets.names():
            return datasets.coloured(datasets.load(recipe.dataset), recipe.size)
        return pictures.load(recipe.dataset, recipe.size)

    def prepare(self, source: None) -> None:
        data = self.load(self.recipe)
        self._take(data, np.ascontiguousarray(data.train_images), slice(None))
        model = small_inception(len(data.classes), **style_of(self.recipe))
        # channels last: convolutions on a CPU are several times faster
        self.model = model.to(self.device, memory_format=torch.channels_last)

    def _take(self, data: Data, images: np.ndarray, sample: np.ndarray | slice) -> None:
        """Keep the data, with `images` to train on; those of `sample` give the mean colour."""
        self.digest, self.images, self.labels = data.digest, images, data.train_labels
        self.test = data.test_images
        self.test_labels = torch.from_numpy(np.array(data.test_labels)).to(self.device)
        pixels = images[sample].reshape(-1, 3) / data.white
        # mean and deviation of each colour
        self.white, self.mean, self.std = data.white, pixels.mean(0), pixels.std(0)

    def _tensor(self, images: np.ndarray) -> Tensor:
        """Pictures (m, h, w, 3) as standardised input (m, 3, h, w), channels last in memory."""
        x = (images / np.float32(self.white) - self.mean) / self.std
        return torch.from_numpy(x.astype(np.float32)).to(self.device).permute(0, 3, 1, 2)

    def batches(self, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """(x, labels) of every step from `start` on, distorted; sets the generator of Dropout."""
        for step, index in self._order(start):
            rng = np.random.default_rng([self.recipe.seed, step, 1])
            torch.manual_seed(int(rng.integers(2**62)))
            moved = self._distort(self.images[index], rng)
            yield self._tensor(moved), torch.from_numpy(self.labels[index]).to(self.device)

    def _order(self, start: int) -> Iterator[tuple[int, np.ndarray]]:
        """Each step from `start` on, and the indices of its mini-batch, (batch_size,)."""
        recipe = self.recipe
        orders = datasets.batches if recipe.shuffle else datasets.fixed_batches
        return enumerate(orders(len(self.images), recipe.batch_size, recipe.seed, start), start)

    def _distort(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        shift, light = self.recipe.size // 8, self.recipe.light
        return pictures.distort(images, rng, shift=shift, flip=True, light=light)

    def population(self) -> Iterator[Tensor]:
        """The mini-batches of Algorithm 2, undistorted."""
        for index in population_indices(self.recipe, len(self.images)):
            yield self._tensor(self.images[index])

    def probabilities(self, model: nn.Module) -> Tensor:
        """Class probabilities of the validation pictures, (t, classes), float64."""
        starts = range(0, len(self.test), 250)
        with torch.no_grad():
            outputs = [model(self._tensor(self.test[i : i + 250])) for i in starts]
            return torch.cat(outputs).double().softmax(1)

    def watches(self, checksums: dict[str, str]) -> list[Watch]:
        """What Figure 2 shows, dense at first, and the gradients and activations behind it."""
        steps = self.recipe.steps
        often = until(steps, [0, 50, 100, *range(150, 1200, 150), *range(1200, steps, 300)])
        sparse = until(steps, [0, 1, 50, 150, 600, *range(1200, steps, 1200)])

        def measure(step: int, model: nn.Module, batch: tuple | None) -> dict:
            seen = {}
            if step in sparse:
                checksums[str(step)] = probes.checksum(model)
                if batch is not None:
                    seen["gradient_norm"] = records.round_to(gradient_norms(model), 3)
            with probes.inference(model, self.population()):
                if step in often:
                    seen |= self._figure_2(model)
                if step in sparse:
                    seen["inputs"] = self._inputs(model)
            return seen

        return [Watch(often | sparse, measure)]

    def _figure_2(self, model: nn.Module) -> dict:
        p = self.probabilities(model)
        right = p[torch.arange(len(p)), self.test_labels]
        return {
            "test_accuracy": round((p.argmax(1) == self.test_labels).double().mean().item(), 6),
            "test_loss": records.round_to(-right.clamp_min(1e-30).log().mean().cpu(), 5),
        }

    def _inputs(self, model: nn.Module) -> object:
        nonlinearities = [block.three.activation for block in model.blocks.values()]
        inputs = probes.inputs_of(nonlinearities, model, self._tensor(self.test[:PROBED]))
        spreads = [probes.percentiles(maps.flatten()[:, None])[0] for maps in inputs]
        return records.round_to(torch.stack(spreads).cpu(), 3)


def gradient_norms(model: Inception) -> list[float]:
    """Norm of the last step's gradient in the convolutions of the stem and of each module."""
    norms = []
    for part in (model.stem, *model.blocks.values()):
        weights = [module.weight for module in part.modules() if isinstance(module, nn.Conv2d)]
        norms.append(math.sqrt(sum(w.grad.double().pow(2).sum().item() for w in weights)))
    return norms
