"""Experiments on Batch Normalization in convolutions (Section 3.2): one pair per feature map, or one per place.

What needs no training is NumPy, on top of ``bnkit.reference``; the small network on the digits is torch.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bnkit import datasets, reference
from bnkit.layers import BatchNorm
from bnkit.reference import Population

# Layouts


def unfold(x: np.ndarray) -> np.ndarray:
    """Every place of every example becomes a row. Shapes: (N, C, ...) -> (N * places, C)."""
    return np.moveaxis(x, 1, -1).reshape(-1, x.shape[1])


def restore(rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Undo ``unfold``. Shapes: (N * places, C) -> `shape`, (N, C, ...)."""
    return np.moveaxis(rows.reshape(shape[0], *shape[2:], shape[1]), -1, 1)


# One pair per feature map, or one per activation


def per_map(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Convolutional Batch Normalization. Shapes: x and the result (N, C, H, W), gamma and beta (C,)."""
    return reference.forward(x, gamma, beta)[0]


def per_activation(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Every place of every map is a feature of its own. Shapes: x (N, C, H, W), gamma and beta (C, H, W)."""
    rows = x.reshape(len(x), -1)
    return reference.forward(rows, gamma.ravel(), beta.ravel())[0].reshape(x.shape)


def infer_per_activation(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, population: Population) -> np.ndarray:
    """The same at inference; `population` has C * H * W features."""
    return reference.infer(x.reshape(len(x), -1), gamma.ravel(), beta.ravel(), population).reshape(x.shape)


def shift(x: np.ndarray, down: int, right: int) -> np.ndarray:
    """Move images around the edge, as on a torus. Shapes: (..., H, W)."""
    return np.roll(x, (down, right), axis=(-2, -1))


def equivariance_error(f: Callable[[np.ndarray], np.ndarray], x: np.ndarray, down: int = 1, right: int = 2) -> float:
    """How far f(shifted x) is from f(x) shifted: the largest difference, in standard deviations of f(x)."""
    y = f(x)
    return float(np.abs(f(shift(x, down, right)) - shift(y, down, right)).max() / y.std())


# Correlated pixels


def correlated_maps(m: int, side: int, rho: float, maps: int, rng: np.random.Generator) -> np.ndarray:
    """Feature maps of mean 0, variance 1; two pixels of one image have the correlation rho. (m, maps, side, side)."""
    of_image = rng.normal(size=(m, maps, 1, 1))
    return np.sqrt(rho) * of_image + np.sqrt(1 - rho) * rng.normal(size=(m, maps, side, side))


def effective_size(m: int, places: int, rho: float) -> float:
    """How many independent values have a mean as uncertain as that of m images with so many correlated places."""
    return m * places / (1 + (places - 1) * rho)


def measured_size(x: np.ndarray) -> float:
    """The same, from many maps of variance 1 and mean 0: one over the variance of the batch mean. x (N, maps, ...)."""
    mean = reference.observe(None, x).mean
    return float(1 / np.mean(mean**2))


# A small network on the digits


class PerActivation(BatchNorm):
    """``BatchNorm`` with every place of every map as a channel of its own. Shapes: (N, C, H, W), num_features C*H*W."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.flatten(1)).view_as(input)


NORMS = {
    "per map": lambda maps, side: BatchNorm(maps),
    "per activation": lambda maps, side: PerActivation(maps * side**2),
}


def network(norm: str, generator: torch.Generator, maps: int = 8, side: int = 8) -> nn.Sequential:
    """Two convolutions z = relu(BN(Wu)), the mean of each map, and a linear layer with ten outputs.

    The images have no edge (the padding is circular) and no map has a fixed place in the output, so without Batch
    Normalization a shifted image gives the same output. Shapes: (N, 1, side, side) -> (N, 10).
    """
    parts = []
    for below in (1, maps):
        convolution = nn.Conv2d(below, maps, 3, padding=1, padding_mode="circular", bias=False)
        parts += [convolution, NORMS[norm](maps, side), nn.ReLU()]
    model = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(maps, 10))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                inputs = parameter[0].numel()
                parameter.normal_(0, (2 / inputs) ** 0.5, generator=generator)
            elif name.startswith("8"):
                parameter.zero_()
    return model


class Outcome(NamedTuple):
    """What a trained network scores on the test set."""

    accuracy: float
    shifted: float  # the images moved around the edge, by one place down and two to the right
    moved: float  # largest change of an output by that shift, in standard deviations of the outputs
    parameters: int  # gamma and beta together


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for torch: the network is too small for more, and results do not depend on how sums are divided."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@one_thread()
def train(norm: str, seed: int, steps: int, batch_size: int, rate: float = 1.0) -> Outcome:
    """Train on scikit-learn's digits by plain gradient descent, collect the population (Algorithm 2), and test.

    A seed means the same weights and mini-batches for both kinds of `norm`.
    """
    digits = datasets.load("digits")
    images, test = (
        torch.from_numpy(each).float()[:, None] / digits.white for each in (digits.train_images, digits.test_images)
    )
    labels, test_labels = torch.from_numpy(digits.train_labels), torch.from_numpy(digits.test_labels)
    model = network(norm, torch.Generator().manual_seed(seed))
    batches = datasets.batches(len(images), batch_size, seed)
    for _ in range(steps):
        indices = torch.from_numpy(next(batches))
        loss = cross_entropy(model(images[indices]), labels[indices])
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter -= rate * gradient
    norms = [each for each in model if isinstance(each, BatchNorm)]
    with torch.no_grad():
        for each in norms:
            each.reset_running_stats()
            each.momentum = None  # a plain average
        for _ in range(max(1, len(images) // batch_size)):
            model(images[torch.from_numpy(next(batches))])
        model.eval()
        outputs, moved = model(test), model(torch.roll(test, (1, 2), (2, 3)))
    right = [(each.argmax(1) == test_labels).double().mean().item() for each in (outputs, moved)]
    change = ((moved - outputs).abs().max() / outputs.std()).item()
    return Outcome(*right, change, sum(each.weight.numel() + each.bias.numel() for each in norms))


# Statistics over the wrong axes


def standardise(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Mean 0 and variance 1 over any axes: (0, 2, 3) is Algorithm 1 in a convolution, the others are mutants."""
    mean, var = x.mean(axis=axes, keepdims=True), x.var(axis=axes, keepdims=True)
    return (x - mean) / np.sqrt(var + 1e-5)


WRONG_AXES = {
    "the examples only, (0,)": (0,),
    "the channels too, (0, 1, 2, 3)": (0, 1, 2, 3),
    "the channels, (1,)": (1,),
}
"""Axes that mutants take the statistics over, in (N, C, H, W)."""


def check_unfolding(f: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> bool:
    """Whether f normalises (N, C, H, W) as Algorithm 1 does the rows of its unfolding."""
    channels = x.shape[1]
    rows = reference.forward(unfold(x), np.ones(channels), np.zeros(channels))[0]
    return bool(np.allclose(f(x), restore(rows, x.shape)))


def check_moments(f: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> bool:
    """Whether the outcome as a whole has mean 0 and variance 1: what a hasty test looks at."""
    y = f(x)
    return bool(abs(y.mean()) < 1e-3 and abs(y.var() - 1) < 1e-3)
