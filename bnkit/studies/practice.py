"""Chapter 11: one network in several uses, and what to freeze when a network is tuned to new data.

Half of the digits, 0 to 4, is what a network was trained on; the others, 5 to 9, are what it shall
learn from few examples, as pictures of the same camera or of another one.
"""

import copy
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from bnkit import datasets
from bnkit.networks import many_torch

Array = np.ndarray
HIDDEN = (64, 64)
RATE = 0.3  # of the networks that are trained from the start

USES = (
    "eval(), running statistics",
    "train(), 100 mixed digits at a time",
    "train(), two digits at a time",
    "train(), one class at a time",
    "eval(), five steps after a reset",
)


def another_camera(x: Tensor) -> Tensor:
    """The pictures, pixels from 0 to 1, inverted, with two fifths of the contrast: 0.5 to 0.9."""
    return 0.5 + 0.4 * (1 - x)


CAMERAS = {"the same camera": lambda x: x, "another camera": another_camera}


# One network, several uses


def uses(digits, *, seeds: int, steps: int) -> dict[str, Array]:
    """Test accuracy of the same trained networks in each of the USES, (seeds,) each."""
    x, labels, x_test, labels_test = many_torch.tensors(digits)
    net = _train(_networks(range(seeds), 10), x, labels, [RATE] * seeds, steps, 50)
    order = torch.randperm(len(x_test), generator=torch.Generator().manual_seed(0))
    by_class = [(labels_test == label).nonzero()[:, 0] for label in range(10)]
    found = [many_torch.accuracy(net.eval(), x_test, labels_test, seeds)]
    for groups in (order.split(100), order[: len(order) // 2 * 2].split(2), by_class):
        found.append(_in_groups(net, x_test, labels_test, groups, seeds))
    young = copy.deepcopy(net).train()
    for module in _norms(young):
        module.reset_running_stats()
    with torch.no_grad():
        for batch, _ in _batches(x, labels, 50, 5):
            young(batch.expand(seeds, *batch.shape))
    found.append(many_torch.accuracy(young.eval(), x_test, labels_test, seeds))
    return dict(zip(USES, found, strict=True))


def _in_groups(net, x: Tensor, labels: Tensor, groups: Sequence[Tensor], seeds: int) -> Array:
    """Accuracy in training mode, each group normalised by itself, (seeds,)."""
    net = copy.deepcopy(net).train()  # it will move its running statistics
    right = [len(k) * many_torch.accuracy(net, x[k], labels[k], seeds) for k in groups]
    return np.sum(right, 0) / sum(map(len, groups))


# Fine-tuning


class Frozen(NamedTuple):
    """What stays as it is while a network is tuned."""

    statistics: bool = False
    """Mean and variance of BN: its modules are in inference mode."""
    affine: bool = False
    """Gamma and beta of BN."""
    renewed: bool = False
    """The statistics are taken from the new examples first, in one pass."""


METHODS = {
    "nothing frozen": Frozen(),
    "γ and β frozen": Frozen(affine=True),
    "statistics frozen": Frozen(statistics=True),
    "statistics renewed, then frozen": Frozen(statistics=True, renewed=True),
}


def fine_tune(
    digits, sizes: Sequence[int], rates: Sequence[float], *, seeds: int, steps: int,
    examples: int = 96, epochs: int = 4,
) -> dict[str, dict[str, Array]]:  # fmt: skip
    """Test accuracy on the digits 5 to 9 by camera and method, (sizes, rates, seeds) each.

    Networks learn 0 to 4 in `steps` steps; then, with a new output layer, 5 to 9 from `examples` of
    them. `rates` are those for mini-batches of 16 and more; smaller ones take smaller steps in
    proportion. `digits` has pixels from 0 to 1.
    """
    x, labels, x_test, labels_test = many_torch.tensors(digits)
    old, new, tested = labels < 5, (labels >= 5).nonzero()[:, 0], labels_test >= 5
    networks, every_rate = len(rates) * seeds, np.repeat(rates, seeds)
    every_seed = list(range(seeds)) * len(rates)
    start = _networks(range(seeds), 5)
    start = _train(start, x[old], labels[old], [RATE] * seeds, steps, 50)
    few = new[torch.randperm(len(new), generator=torch.Generator().manual_seed(0))[:examples]]
    found = {}
    for camera, seen in CAMERAS.items():
        train = seen(x[few]), labels[few] - 5
        test = seen(x_test[tested]), labels_test[tested] - 5, networks
        of_camera = {name: [] for name in METHODS}
        for name, frozen in METHODS.items():
            for size in sizes:
                net = _with_a_new_head(start, every_seed, seeds)
                pace = every_rate * min(1, size / 16)
                _train(net, *train, pace, epochs * examples // size, size, frozen)
                of_camera[name].append(many_torch.accuracy(net.eval(), *test))
        shape = (len(sizes), len(rates), seeds)
        found[camera] = {name: np.reshape(each, shape) for name, each in of_camera.items()}
    return found


def at_best(accuracy: Array) -> Array:
    """For each size that of the rate with the best mean: (sizes, rates, seeds) -> (seeds, sizes)."""
    best = accuracy.mean(2).argmax(1)
    return np.array([rows[k] for rows, k in zip(accuracy, best, strict=True)]).T


def _with_a_new_head(start: nn.Sequential, every_seed: list[int], seeds: int) -> nn.Sequential:
    """Copies of the networks `start`, seeds in turn, as often as `every_seed` has them."""
    net, times = _networks(every_seed, 5), len(every_seed) // seeds
    old, head = start.state_dict(), f"{len(net) - 1}."
    for name, tensor in net.state_dict().items():
        if tensor.ndim and not name.startswith(head):
            tensor.copy_(old[name].repeat(times, *[1] * (tensor.ndim - 1)))
    generators = [np.random.default_rng(1_000 + seed) for seed in every_seed]
    net[-1] = many_torch.Linear(HIDDEN[-1], 5, generators, gain=1.0)
    return net


def _networks(every_seed: Sequence[int], classes: int) -> nn.Sequential:
    return many_torch.mlp(64, HIDDEN, classes, every_seed, nn.BatchNorm1d)


def _train(
    net: nn.Sequential, x: Tensor, labels: Tensor, rates: Sequence[float], steps: int, size: int,
    frozen: Frozen = METHODS["nothing frozen"],
) -> nn.Sequential:  # fmt: skip
    """Train in place, in mini-batches of `size`, with what is `frozen` frozen; return it."""
    if frozen.renewed:
        many_torch.inference(net, x, len(rates))
    net.train()
    for module in _norms(net):
        module.train(not frozen.statistics)
        for parameter in module.parameters():
            parameter.requires_grad_(not frozen.affine)
    learn = [parameter for parameter in net.parameters() if parameter.requires_grad]
    for _ in many_torch.train(net, _batches(x, labels, size, steps), rates, learn):
        pass
    return net


def _batches(x: Tensor, labels: Tensor, size: int, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    order = datasets.batches(len(x), size, 0)
    for _ in range(steps):
        k = torch.from_numpy(next(order))
        yield x[k], labels[k]


def _norms(net: nn.Module) -> list[nn.BatchNorm1d]:
    return [module for module in net.modules() if isinstance(module, nn.BatchNorm1d)]
