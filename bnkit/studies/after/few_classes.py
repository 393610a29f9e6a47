"""Chapter 10: mini-batches of few classes, where BN leans on the company; Batch Renormalization.

After Ioffe (2017), Section 4.3: there 16 of a thousand classes, two images each, make a batch.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from bnkit.layers.batch_renorm import BatchRenorm
from bnkit.networks import many_torch
from bnkit.page import progress

Array = np.ndarray
SIZE = 30  # of a training batch


def batches(labels: Array, classes: int, size: int, seed: int) -> Iterator[Array]:
    """Endless batches of `size` examples from `classes` classes drawn anew: indices (size,).

    Raises ValueError where the classes do not share the batch evenly.
    """
    names = np.unique(labels)
    if not 1 <= classes <= len(names) or size % classes:
        shared = f"a batch of {size} of {len(names)} classes"
        raise ValueError(f"{classes} classes cannot share {shared} evenly")
    generator, share = np.random.default_rng([seed, classes]), size // classes
    members = [np.flatnonzero(labels == name) for name in names]
    while True:
        chosen = generator.choice(len(names), classes, replace=False)
        yield np.concatenate([generator.choice(members[k], share, replace=False) for k in chosen])


class Schedule(NamedTuple):
    """Bounds of r and d: BN's at first, then loosened straight to `r_max` and `d_max`."""

    start: int  # step at which they begin to loosen
    end: int  # step at which they are loose
    r_max: float = 3.0
    d_max: float = 5.0

    def at(self, step: int) -> tuple[float, float]:
        share = min(1.0, max(0.0, (step - self.start) / (self.end - self.start)))
        return 1 + share * (self.r_max - 1), share * self.d_max


def schedules(steps: int) -> dict[str, Schedule | None]:
    """The networks that are compared: BN, and Batch Renormalization, loosened by half-way."""
    return {"BN": None, "Batch Renormalization": Schedule(steps // 4, steps // 2)}


class Tested(NamedTuple):
    """Test accuracy of the trained networks, (classes, seeds)."""

    population: Array
    """By moving averages, as at inference."""
    batch: Array
    """By the statistics of test batches put together like the training batches."""


def train(
    digits, classes: Sequence[int], schedule: Schedule | None, *, seeds: int, steps: int,
    rate: float = 0.1, hidden: Sequence[int] = (50, 50), new_weight: float = 0.02,
) -> Tested:  # fmt: skip
    """Train on batches of so many classes, with Batch Renormalization or, schedule None, BN.

    BN is Batch Renormalization with r = 1 and d = 0 throughout. `digits` is a ``digits.Digits``.
    """
    x, labels, x_test, labels_test = many_torch.tensors(digits)
    population, by_batch = [], []
    for count in classes:
        norm = partial(BatchRenorm, new_weight=new_weight)
        net = many_torch.mlp(x.shape[1], hidden, 10, range(seeds), norm)
        layers = [module for module in net.modules() if isinstance(module, BatchRenorm)]
        order = map(torch.from_numpy, progress.first(batches(digits.labels, count, SIZE, 0), steps))
        for step in many_torch.train(net, ((x[k], labels[k]) for k in order), [rate] * seeds):
            for layer in layers if schedule else ():
                layer.r_max, layer.d_max = schedule.at(step)
        population.append(many_torch.accuracy(net.eval(), x_test, labels_test, seeds))
        by_batch.append(_by_batch(net, x_test, labels_test, count, seeds))
    return Tested(np.array(population), np.array(by_batch))


def _by_batch(net: nn.Module, x: Tensor, labels: Tensor, classes: int, seeds: int) -> Array:
    """Accuracy with batch statistics, (seeds,); changes the network, which is done with."""
    for layer in net.modules():
        if isinstance(layer, BatchRenorm):
            layer.r_max, layer.d_max = 1.0, 0.0
    net.train()
    # the rarest test class has to fill its share
    size = min(SIZE, classes * (int(labels.bincount().min())))
    size -= size % classes
    order = map(torch.from_numpy, islice(batches(labels.numpy(), classes, size, 1), 20))
    return np.mean([many_torch.accuracy(net, x[k], labels[k], seeds) for k in order], axis=0)
