"""Section 4.2 at full size: the whole network on any tree of pictures, by one process or many."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from bnkit.datasets import DataError, pictures
from bnkit.networks.inception import bn_inception
from bnkit.runs import probes, records
from bnkit.runs.tasks import inception, population_indices, until
from bnkit.runs.tasks.inception import InceptionRecipe
from bnkit.runs.training import Watch

MEANING = {name: inception.MEANING[name] for name in ("test_accuracy", "test_loss", "loss")}
SIDE_WEIGHT = 0.4  # of the side tower's loss: the supplement of the conference version
DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.float32}  # weights
AHEAD = 4  # mini-batches made ready while others are trained on
SAMPLE = 2000  # pictures from which the mean colour is taken


@dataclass(frozen=True, kw_only=True)
class ImagenetRecipe(InceptionRecipe):
    """A run of the full network; `batch_size` is that of all processes together.

    Learning rates are the paper's. The constants of both decays, which it does not give, are ours.
    """

    dataset: str = "imagenet"  # a name for the record; the tree itself is given with --data
    model: str = "bn-inception"
    size: int = 224
    learning_rate: float = 0.0015
    decay_steps: int = 10_000_000
    side_tower: bool = False
    projection: tuple[int, int] = (128, 128)  # 4c and 4d of the printed table
    precision: str = "float32"  # "bfloat16": autocast, weights and statistics stay float32
    population_batches: int = 100


class _Bfloat16(nn.Module):
    """A network whose products are computed in bfloat16: torch's autocast."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        with torch.autocast(x.device.type, torch.bfloat16):
            return self.network(x)


class Task(inception.Task):
    """A network and its pictures, spread over processes.

    A step's joint mini-batch depends on the seed and the step alone, and batch normalization sees
    all of it: K processes train the network that one would train.
    """

    MEANING = MEANING
    PAUSE_EVERY = 10
    TAKES_SOURCE = True

    def prepare(self, source: str | Path | None) -> None:
        recipe, processes = self.recipe, self.processes
        data = self.load(recipe, source)
        if recipe.precision not in DTYPES:
            raise ValueError(f"precision {recipe.precision!r} is not one of {', '.join(DTYPES)}")
        if recipe.batch_size % processes.size:
            raise DataError(
                f"a mini-batch of {recipe.batch_size} pictures cannot be shared evenly by "
                f"{processes.size} processes; take a number of processes that divides it"
            )
        images = data.train_images  # on disk, mapped
        sample = np.random.default_rng(0).permutation(len(images))[:SAMPLE]
        self._take(data, images, np.sort(sample))
        self.dtype = DTYPES[recipe.precision]
        options = inception.style_of(recipe, process_group="world" if processes.size > 1 else None)
        options |= {"projection": recipe.projection, "side_tower": recipe.side_tower}
        model = bn_inception(len(data.classes), **options)
        self.model = model.to(self.device, self.dtype, memory_format=torch.channels_last)
        network = _Bfloat16(self.model) if recipe.precision == "bfloat16" else self.model
        self._together = network if processes.size == 1 else DistributedDataParallel(network)

    @property
    def trained(self) -> nn.Module:
        return self._together

    @staticmethod
    def load(recipe: ImagenetRecipe, source: str | Path | None = None) -> pictures.Pictures:
        """The tree `source`; raises DataError where none is given."""
        if source is None:
            raise DataError(
                f"{recipe.dataset} is nothing that comes with the book. Give --data a folder, "
                ".zip or .tgz with train/<class>/* and val/<class>/*"
            )
        return pictures.load(source, recipe.size)

    def loss(self, outputs: Tensor | tuple[Tensor, Tensor], labels: Tensor) -> Tensor:
        """Cross-entropy; with a side tower, 0.4 of its own besides."""
        if isinstance(outputs, tuple):
            return self.loss(outputs[0], labels) + SIDE_WEIGHT * self.loss(outputs[1], labels)
        return cross_entropy(outputs.to(torch.promote_types(outputs.dtype, torch.float32)), labels)

    def _tensor(self, images: np.ndarray) -> Tensor:
        return super()._tensor(images).to(self.dtype)

    def batches(self, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's part of every mini-batch from `start` on; the next are made meanwhile."""
        size, rank = self.recipe.batch_size, self.processes.rank
        places = self.processes.share(np.arange(size))

        def random(step: int, place: int) -> np.random.Generator:
            return np.random.default_rng([self.recipe.seed, step, place])

        def part(step: int, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            # a generator of its own for each picture: distorted alike, whichever process gets it
            moved = [self._distort(self.images[index[k]][None], random(step, k)) for k in places]
            return np.concatenate(moved), self.labels[index[places]]

        for step, (images, labels) in enumerate(_ahead(part, self._order(start)), start):
            nobodys = random(step, size + rank)
            torch.manual_seed(int(nobodys.integers(2**62)))  # of Dropout
            yield self._tensor(images), torch.from_numpy(labels).to(self.device)

    def population(self) -> Iterator[Tensor]:
        """This process's part of the mini-batches of Algorithm 2, undistorted."""
        for index in population_indices(self.recipe, len(self.images)):
            yield self._tensor(self.images[self.processes.share(index)])

    def watches(self, checksums: dict[str, str]) -> list[Watch]:
        """What Figure 2 shows, at steps that grow further apart."""
        steps = self.recipe.steps
        grid = {round(10**e) for e in np.arange(1, np.log10(max(steps, 2)), 0.25)}

        def figure_2(step: int, model: nn.Module, _) -> dict:
            checksums[str(step)] = probes.checksum(self.model)
            right, loss = torch.zeros(2, dtype=torch.float64, device=self.device)
            with probes.inference(self.model, self.population()), torch.no_grad():
                mine = self.processes.share(np.arange(len(self.test)))
                for chosen in np.array_split(mine, max(1, len(mine) // 100)):
                    outputs = self.model(self._tensor(self.test[chosen])).double()
                    labels = self.test_labels[chosen]
                    right += (outputs.argmax(1) == labels).sum()
                    loss += cross_entropy(outputs, labels, reduction="sum")
            right, loss = self.processes.total(torch.stack([right, loss])).cpu() / len(self.test)
            return {"test_accuracy": round(right.item(), 6), "test_loss": records.round_to(loss, 5)}

        return [Watch(until(steps, {0, *grid}), figure_2)]


def _ahead(work, jobs) -> Iterator:
    """Results of ``work(*job)`` in order, the next few made in a thread while one is used."""
    with ThreadPoolExecutor(1) as pool:
        waiting = deque(pool.submit(work, *job) for job in islice(jobs, AHEAD))
        while waiting:
            done = waiting.popleft().result()
            waiting.extend(pool.submit(work, *job) for job in islice(jobs, 1))
            yield done
