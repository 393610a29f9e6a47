"""How fast: ours beside its peers, taken in turns in one process, as ratios.

Absolute times depend on the machine and on what else it does; a ratio of two things measured alternately much less.
Each row is the median over rounds of (time of the peer) / (time of ours), with the quartiles: above 1, ours is faster.
"""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from bnkit import reference
from bnkit.layers import BatchNorm
from bnkit.mlp import MLP
from bnkit.training import Recipe, fit

INCEPTION_SHAPES = [(32, 64, 56, 56), (32, 192, 28, 28), (32, 576, 14, 14), (32, 1024, 7, 7)]  # of BN-Inception


class Ratio(NamedTuple):
    """Time of the peer over time of ours."""

    what: str
    peer: str
    median: float
    low: float  # first quartile over rounds
    high: float  # third quartile

    def __str__(self) -> str:
        return f"{self.what:52} {self.median:5.2f}  ({self.low:.2f} to {self.high:.2f})  against {self.peer}"


def compare(what: str, ours: Callable, peer_name: str, peer: Callable, rounds: int, seconds: float = 0.05) -> Ratio:
    """Time `ours` and `peer` in turns, `rounds` times, each turn about `seconds` long."""
    ours(), peer()  # what is built on the first call is not counted
    count = max(1, round(seconds / _time(ours, 1)))
    ratios = [_time(peer, count) / _time(ours, count) for _ in range(rounds)]
    low, median, high = np.percentile(ratios, [25, 50, 75])
    return Ratio(what, peer_name, float(median), float(low), float(high))


def _time(function: Callable, count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        function()
    return time.perf_counter() - began


def rows(rounds: int) -> Iterator[Ratio]:
    """Everything that is measured on the CPU, one row at a time, with one thread."""
    yield mnist_loop("without BN", None, None, rounds)
    yield mnist_loop("with BN", BatchNorm, nn.BatchNorm1d, rounds)
    for shape in [(60, 100), *INCEPTION_SHAPES]:
        yield layer(shape, torch.contiguous_format, rounds)
        if len(shape) == 4:
            yield layer(shape, torch.channels_last, rounds)
    for shape in [(60, 100), (256, 1024), (4096, 1024), (32, 64, 56, 56)]:
        yield numpy_reference(shape, rounds)


def mnist_loop(label: str, norm: Callable | None, peer_norm: Callable | None, rounds: int, steps: int = 50) -> Ratio:
    """Steps of the network of Section 4.1: ``training.fit`` against the loop one writes by hand."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 2, (60_000, 784), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 10, (60_000,), generator=generator)
    order = [torch.randint(0, 60_000, (60,), generator=generator) for _ in range(steps)]

    def by_hand() -> None:
        model = MLP(784, norm=peer_norm)
        optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
        for index in order:
            loss = cross_entropy(model(x[index]), labels[index])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    def ours() -> None:
        batches = ((pixels.index_select(0, i).float(), labels.index_select(0, i)) for i in order)
        fit(MLP(784, norm=norm), batches, Recipe(dataset="mnist", steps=steps))

    x = pixels.float()
    return compare(f"{steps} training steps of the MNIST network {label}", ours, "a plain torch loop", by_hand, rounds)


def layer(shape: tuple[int, ...], layout: torch.memory_format, rounds: int) -> Ratio:
    """Forward and backward pass of the layer against PyTorch's."""
    theirs = (nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d)(shape[1])
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    if len(shape) == 4:
        x = x.contiguous(memory_format=layout)
    dy = torch.randn_like(x)

    def step(module: nn.Module) -> None:
        leaf = x.detach().requires_grad_()
        module(leaf).backward(dy)

    ours = BatchNorm(shape[1])
    name = "channels last" if layout is torch.channels_last else "contiguous"
    what = f"layer, forward and backward, {shape}, {name}"
    return compare(what, lambda: step(ours), type(theirs).__name__, lambda: step(theirs), rounds)


def numpy_reference(shape: tuple[int, ...], rounds: int) -> Ratio:
    """Forward and backward pass of the reference against mean, var and broadcasting as textbooks write it."""
    generator = np.random.default_rng(0)
    x, dy = (generator.standard_normal(shape, dtype=np.float32) for _ in range(2))
    gamma, beta = np.ones(shape[1], np.float32), np.zeros(shape[1], np.float32)
    axes = (0, *range(2, len(shape)))
    wide = (1, -1) + (1,) * (len(shape) - 2)

    def textbook() -> None:
        mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
        inv_std = 1 / np.sqrt(var + 1e-5)
        x_hat = (x - mean) * inv_std
        _ = gamma.reshape(wide) * x_hat + beta.reshape(wide)
        m = x.size // shape[1]
        dgamma, dbeta = (dy * x_hat).sum(axes, keepdims=True), dy.sum(axes, keepdims=True)
        _ = gamma.reshape(wide) * inv_std / m * (m * dy - dbeta - x_hat * dgamma)

    def ours() -> None:
        _, cache = reference.forward(x, gamma, beta)
        reference.backward(dy, cache)

    return compare(f"reference, forward and backward, {shape}", ours, "textbook NumPy", textbook, rounds)
