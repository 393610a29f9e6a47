"""Many small networks at once, in torch, for autograd and torch's own normalisations.

R networks of d units are R * d features to a normalisation, so that any module of torch for (m,
features) serves them all: ``BatchNorm1d(R * d)`` is R networks with batch normalization,
``GroupNorm(R * 8, R * d)`` R networks with eight groups each. What happens in one network,
divergence too, leaves the others alone.

Letters: R networks, m examples, d units.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

Norm = Callable[[int], nn.Module]  # makes a normalisation of that many features


class Linear(nn.Module):
    """R linear maps, each for its own network, weights from N(0, gain² / inputs), biases 0.

    Shapes: (R, m, inputs) -> (R, m, units). `generators` has one NumPy generator for each network;
    `gain` is one number or one for each.
    """

    def __init__(
        self, inputs: int, units: int, generators: Sequence[np.random.Generator],
        gain: float | np.ndarray = 2**0.5, bias: bool = True,
    ):  # fmt: skip
        super().__init__()
        drawn = np.stack([generator.standard_normal((inputs, units)) for generator in generators])
        scale = np.broadcast_to(gain, len(generators))[:, None, None] / inputs**0.5
        self.weight = nn.Parameter(torch.from_numpy(scale * drawn).float())
        self.bias = nn.Parameter(torch.zeros(len(generators), 1, units)) if bias else None

    def forward(self, u: Tensor) -> Tensor:
        if self.bias is None:
            return torch.bmm(u, self.weight)
        return torch.baddbmm(self.bias, u, self.weight)


class Normalised(nn.Module):
    """A module of torch for (m, features) as the normalisation of R networks of `units` units.

    Shapes: (R, m, units) -> the same.
    """

    def __init__(self, networks: int, units: int, norm: Norm):
        super().__init__()
        self.norm = norm(networks * units)

    def forward(self, x: Tensor) -> Tensor:
        networks, m, units = x.shape
        y = self.norm(x.transpose(0, 1).reshape(m, networks * units))
        return y.view(m, networks, units).transpose(0, 1)


def mlp(
    inputs: int, hidden: Sequence[int], classes: int, seeds: Sequence[int], norm: Norm | None
) -> nn.Sequential:
    """A ReLU network for each of `seeds`: hidden layers z = relu(norm(Wu)), then a linear one.

    Shapes: (R, m, inputs) -> (R, m, classes). Equal seeds are equal weights, whatever the norm.
    """
    generators = [np.random.default_rng(seed) for seed in seeds]
    layers = []
    for below, units in pairwise([inputs, *hidden]):
        layers.append(Linear(below, units, generators, bias=norm is None))
        layers += [Normalised(len(seeds), units, norm)] if norm else []
        layers.append(nn.ReLU())
    return nn.Sequential(*layers, Linear([inputs, *hidden][-1], classes, generators, gain=1.0))


def tensors(digits) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images and labels, test images and labels of a ``digits.Digits``."""
    arrays = (digits.x, digits.labels, digits.x_test, digits.test_labels)
    return tuple(map(torch.from_numpy, arrays))


def losses(network: nn.Module, x: Tensor, labels: Tensor, networks: int) -> Tensor:
    """Mean cross-entropy of each network for one mini-batch: (m, inputs), (m,) -> (R,)."""
    outputs = network(x.expand(networks, *x.shape))
    single = cross_entropy(outputs.flatten(0, 1), labels.repeat(networks), reduction="none")
    return single.view(networks, -1).mean(1)


def accuracy(network: nn.Module, x: Tensor, labels: Tensor, networks: int) -> np.ndarray:
    """Share of the examples that each network names correctly, (R,)."""
    with torch.no_grad():
        right = network(x.expand(networks, *x.shape)).argmax(-1) == labels
    return right.double().mean(1).numpy()


def inference(network: nn.Module, x: Tensor, networks: int) -> nn.Module:
    """Put `network` into inference mode, its populations taken from `x`; return it.

    One large mini-batch, as in Algorithm 2 with a single one. Shapes: x (m, inputs).
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.reset_running_stats()
            module.momentum = None  # PyTorch's word for the plain average
    with torch.no_grad():
        network.train()(x.expand(networks, *x.shape))
    return network.eval()


def train(
    network: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    rates: Sequence[float],
    parameters: Iterable[nn.Parameter] | None = None,
) -> Iterator[int]:
    """Train in place by plain gradient descent on `batches`; yield the number of steps done.

    `rates` has the learning rate of each network, (R,). What is watched or changed is up to the
    caller, between two steps; `parameters` are those that learn, all of them if left out.
    """
    rates = torch.as_tensor(rates, dtype=torch.float32)
    optimiser = torch.optim.SGD(parameters or network.parameters(), lr=1.0, fused=True)
    for step, (x, labels) in enumerate(batches, start=1):
        # a network's rate scales its gradient and no other's
        loss = losses(network, x, labels, len(rates)) @ rates
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        yield step
