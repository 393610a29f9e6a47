"""Experiments on BN in convolutions (Section 3.2): one pair per feature map, or one per place.

NumPy on top of ``bnkit.reference``. The small convolutional network on the digits is written out by
hand, as those of ``bnkit.networks.many_numpy`` have no convolutions. Its images have no edge: what
leaves on one side comes in on the other, so that a shift loses nothing.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from bnkit import datasets, reference
from bnkit.networks import many_numpy
from bnkit.networks.digits import Digits, maps
from bnkit.page import progress
from bnkit.reference import Population
from bnkit.studies.common import step

Array = np.ndarray
Way = Callable[[Array], Array]  # to normalise

# Layouts


def unfold(x: Array) -> Array:
    """Every place of every example becomes a row. Shapes: (N, C, ...) -> (N * places, C)."""
    return np.moveaxis(x, 1, -1).reshape(-1, x.shape[1])


def restore(rows: Array, shape: tuple[int, ...]) -> Array:
    """Undo ``unfold``. Shapes: (N * places, C) -> `shape`, (N, C, ...)."""
    return np.moveaxis(rows.reshape(shape[0], *shape[2:], shape[1]), -1, 1)


def layouts(x: Array) -> dict[str, Array]:
    """The same values in the same shape (N, C, H, W), differently arranged in memory."""
    wide = np.zeros((*x.shape[:3], 2 * x.shape[3]), x.dtype)
    wide[..., ::2] = x
    return {
        "channels first": np.ascontiguousarray(x),
        "channels last": np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1),
        "every second column of a larger array": wide[..., ::2],
    }


# One pair per feature map, or one per activation


def per_map(x: Array, gamma: Array, beta: Array) -> Array:
    """Convolutional Batch Normalization. Shapes: x (N, C, H, W), gamma and beta (C,)."""
    return reference.forward(x, gamma, beta)[0]


def per_activation(x: Array, gamma: Array, beta: Array) -> Array:
    """Each place of a map a feature of its own: x (N, C, H, W), gamma and beta (C, H, W)."""
    rows = x.reshape(len(x), -1)
    return reference.forward(rows, gamma.ravel(), beta.ravel())[0].reshape(x.shape)


def infer_per_activation(x: Array, gamma: Array, beta: Array, population: Population) -> Array:
    """The same at inference; `population` has C * H * W features."""
    rows = x.reshape(len(x), -1)
    return reference.infer(rows, gamma.ravel(), beta.ravel(), population).reshape(x.shape)


def shift(x: Array, down: int, right: int) -> Array:
    """Move images around the edge, as on a torus. Shapes: (..., H, W)."""
    return np.roll(x, (down, right), axis=(-2, -1))


def equivariance_error(f: Way, x: Array) -> float:
    """Largest difference of f(shifted x) and f(x) shifted, in standard deviations of f(x)."""
    y = f(x)
    return float(np.abs(f(shift(x, 1, 2)) - shift(y, 1, 2)).max() / y.std())


def ways_to_normalise(x: Array, rng: Generator) -> dict[str, Way]:
    """Per map and per activation, training and inference (statistics of x), x (N, 1, H, W)."""
    pair, (gamma, beta) = rng.normal(1, 0.3, (2, 1)), rng.normal(1, 0.3, (2, *x.shape[1:]))
    one = np.ones_like(gamma)
    of_map, of_places = reference.observe(None, x), reference.observe(None, x.reshape(len(x), -1))
    as_places = infer_per_activation
    return {
        "per map, training": lambda x: per_map(x, *pair),
        "per map, inference": lambda x: reference.infer(x, *pair, of_map),
        "per activation, training, all γ, β equal": lambda x: per_activation(x, one, one),
        "per activation, training": lambda x: per_activation(x, gamma, beta),
        "per activation, inference, all γ, β equal": lambda x: as_places(x, one, one, of_places),
    }


def there_and_back(x: Array) -> dict[str, tuple[Array, Array]]:
    """The first image of `x`, normalised by the statistics of x; and shifted before, back after.

    Statistics per map, and per activation with 1 added to the variances, as pixels at the edge
    hardly vary. Shapes: x (N, 1, H, W) -> (H, W) each.
    """
    one, ones = np.ones(1), np.ones(x.shape[1:])
    of_map, of_places = reference.observe(None, x), reference.observe(None, x.reshape(len(x), -1))
    of_places = of_places._replace(var=of_places.var + 1)
    ways = {
        "per map": lambda x: reference.infer(x, one, 0 * one, of_map),
        "per activation": lambda x: infer_per_activation(x, ones, 0 * ones, of_places),
    }
    moved = shift(x, 1, 2)
    return {name: (f(x)[0, 0], shift(f(moved), -1, -2)[0, 0]) for name, f in ways.items()}


# What depends on what


def touched(f: Way, x: Array, value: tuple[int, ...]) -> Array:
    """Which outputs of f change when one value of x moves by 1; of bool, as x."""
    changed = x.copy()
    changed[value] += 1.0
    return np.abs(f(changed) - f(x)) > 1e-9


# Correlated pixels


def effective_size(m: int, places: int, rho: float) -> float:
    """How many independent values have a mean as uncertain as m images of correlated places."""
    return m * places / (1 + (places - 1) * rho)


def measured_size(x: Array) -> float:
    """The same, from maps of variance 1, mean 0: one over their means' variance; (N, maps, ...)."""
    mean = reference.observe(None, x).mean
    return float(1 / np.mean(mean**2))


def worth(maps: Array) -> Array:
    """How many independent places one image is worth for the mean of each map: by how much more
    single values vary than the means of images. Shapes: (N, C, H, W) -> (C,)."""
    return maps.var(axis=(0, 2, 3)) / maps.mean(axis=(2, 3)).var(axis=0)


# A small network on the digits


class Layer(NamedTuple):
    """z = relu(BN(Wu)), or the gradient of one."""

    weight: Array  # (out, in, 3, 3)
    gamma: Array  # (out,) if normalised per map, (out * H * W,) if per activation
    beta: Array


class Network(NamedTuple):
    """Convolutions, the mean of every map, and a linear layer; or the gradient of one."""

    layers: tuple[Layer, ...]
    weight: Array  # (classes, maps)
    bias: Array  # (classes,)


class Pass(NamedTuple):
    """What one layer keeps of a forward pass."""

    neighbours: Array  # of its input, (in * 9, N * H * W)
    x: Array  # Wu, (N, out, H, W)
    cache: reference.Cache
    z: Array  # its output, (N, out, H, W)


NORMS = ("per map", "per activation")
PLACES = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]


def neighbours(u: Array) -> Array:
    """The 3 × 3 surroundings of each place, round the edge: (N, C, H, W) -> (C * 9, N * H * W)."""
    # (N, C, 9, H, W)
    around = np.stack([shift(u, -down, -right) for down, right in PLACES], axis=2)
    return around.transpose(1, 2, 0, 3, 4).reshape(u.shape[1] * 9, -1)


def convolve(weight: Array, u: Array) -> Array:
    """Wu: the same weights (out, in, 3, 3) at every place: (N, in, H, W) -> (N, out, H, W)."""
    return _maps(weight.reshape(len(weight), -1) @ neighbours(u), u.shape)


def _maps(rows: Array, shape: tuple[int, ...]) -> Array:
    """(out, N * H * W) -> (N, out, H, W)."""
    return rows.reshape(len(rows), shape[0], *shape[2:]).swapaxes(0, 1)


def start(norm: str, seed: int, maps: int = 8, side: int = 8) -> Network:
    """Two convolutions with weights from N(0, 2 / inputs), equal for both kinds of `norm`."""
    rng = np.random.default_rng(seed)
    features = {"per map": maps, "per activation": maps * side**2}[norm]
    layers = []
    for below in (1, maps):
        weight = rng.normal(0, (2 / (9 * below)) ** 0.5, (maps, below, 3, 3))
        layers.append(Layer(weight, np.ones(features), np.zeros(features)))
    return Network(tuple(layers), rng.normal(0, (2 / maps) ** 0.5, (10, maps)), np.zeros(10))


def layer(u: Array, weight: Array, gamma: Array, beta: Array) -> Pass:
    """One layer in training, z = relu(BN(Wu)), and what it computed on its way."""
    around = neighbours(u)  #                                                (in * 9, N * H * W)
    x = _maps(weight.reshape(len(weight), -1) @ around, u.shape)  #          (N, out, H, W)
    y, cache = reference.forward(_features(x, len(gamma)), gamma, beta)
    return Pass(around, x, cache, np.maximum(y.reshape(x.shape), 0))


def _features(x: Array, features: int) -> Array:
    """x as the normalisation sees it: as it is, or each activation a feature, (N, C * H * W)."""
    return x if features == x.shape[1] else x.reshape(len(x), -1)


def run(network: Network, u: Array) -> tuple[Array, list[Pass]]:
    """Outputs for a training batch, and a tape for ``gradients``: (N, 1, H, W) -> (N, classes)."""
    tape = []
    for parameters in network.layers:
        tape.append(layer(u, *parameters))
        u = tape[-1].z
    return u.mean(axis=(2, 3)) @ network.weight.T + network.bias, tape


def infer(network: Network, u: Array, populations: list[Population]) -> Array:
    """Outputs by Algorithm 2, line 11, a population a layer: (N, 1, H, W) -> (N, classes)."""
    for (weight, gamma, beta), population in zip(network.layers, populations, strict=True):
        x = convolve(weight, u)
        y = reference.infer(_features(x, len(gamma)), gamma, beta, population)
        u = np.maximum(y.reshape(x.shape), 0)
    return u.mean(axis=(2, 3)) @ network.weight.T + network.bias


def gradients(network: Network, u: Array, labels: Array) -> tuple[float, Network, list[Pass]]:
    """Mean cross-entropy of a mini-batch, in nats, its gradient, and what ``run`` kept."""
    logits, tape = run(network, u)
    loss, error = many_numpy.cross_entropy(logits, labels)
    z = tape[-1].z
    dz = np.broadcast_to((error @ network.weight)[:, :, None, None] / z[0, 0].size, z.shape)
    of_layers = []
    for unit, passed in zip(network.layers[::-1], tape[::-1], strict=True):
        dy = _features(dz * (passed.z > 0), len(unit.gamma))
        dx, *of_pair = reference.backward(dy, passed.cache)
        # (out, N * H * W)
        rows = dx.reshape(passed.x.shape).swapaxes(0, 1).reshape(len(unit.weight), -1)
        of_layers.append(Layer((rows @ passed.neighbours.T).reshape(unit.weight.shape), *of_pair))
        if unit is not network.layers[0]:
            dz = _back(unit.weight, rows, passed.x.shape)
    head = error.T @ z.mean(axis=(2, 3))
    return float(loss), Network(tuple(of_layers[::-1]), head, error.sum(axis=0)), tape


def _back(weight: Array, rows: Array, shape: tuple[int, ...]) -> Array:
    """The gradient for a convolution's input: a place collects from those it was next to."""
    of_neighbours = weight.reshape(len(weight), -1).T @ rows  # (in * 9, N * H * W)
    parts = of_neighbours.reshape(weight.shape[1], 9, shape[0], *shape[2:])
    return sum(shift(parts[:, k], *place) for k, place in enumerate(PLACES)).swapaxes(0, 1)


class Outcome(NamedTuple):
    """What a trained network scores on the test set."""

    accuracy: float
    shifted: float  # the images moved around the edge, by one place down and two to the right
    moved: float  # largest change of an output by that shift, in standard deviations of the outputs
    parameters: int  # gamma and beta together


def train(digits: Digits, norm: str, seed: int, steps: int, batch_size: int) -> Outcome:
    """Train by plain gradient descent, collect the population (Algorithm 2), and test.

    A seed means the same weights and mini-batches for both kinds of `norm`.
    """
    network, images, test = start(norm, seed), maps(digits.x), maps(digits.x_test)
    batches = datasets.batches(len(images), batch_size, seed)
    for _ in progress.steps(steps):
        chosen = next(batches)
        _, gradient, _ = gradients(network, images[chosen], digits.labels[chosen])
        network = step(network, gradient, rate=1.0)
    populations = [None] * len(network.layers)
    for _ in range(max(1, len(images) // batch_size)):
        _, tape = run(network, images[next(batches)])
        features = [_features(p.x, len(u.gamma)) for p, u in zip(tape, network.layers, strict=True)]
        populations = list(map(reference.observe, populations, features))
    outputs, moved = (infer(network, x, populations) for x in (test, shift(test, 1, 2)))
    right = [float(np.mean(y.argmax(axis=1) == digits.test_labels)) for y in (outputs, moved)]
    learned = sum(len(unit.gamma) + len(unit.beta) for unit in network.layers)
    return Outcome(*right, float(np.abs(moved - outputs).max() / outputs.std()), learned)


# Statistics over the wrong axes


def standardise(x: Array, axes: tuple[int, ...]) -> Array:
    """Mean 0 and variance 1 over any axes; right are (0, 2, 3), Algorithm 1 in a convolution."""
    mean, var = x.mean(axis=axes, keepdims=True), x.var(axis=axes, keepdims=True)
    return (x - mean) / np.sqrt(var + 1e-5)


RIGHT_AXES = (0, 2, 3)
WRONG_AXES = {
    "the examples only, (0,)": (0,),
    "the channels too, (0, 1, 2, 3)": (0, 1, 2, 3),
    "the channels, (1,)": (1,),
}
"""Axes that mutants take the statistics over, in (N, C, H, W)."""


def check_unfolding(f: Way, x: Array) -> bool:
    """Whether f normalises (N, C, H, W) as Algorithm 1 does the rows of its unfolding."""
    channels = x.shape[1]
    rows = reference.forward(unfold(x), np.ones(channels), np.zeros(channels))[0]
    return bool(np.allclose(f(x), restore(rows, x.shape)))


def check_moments(f: Way, x: Array) -> bool:
    """Whether the outcome as a whole has mean 0 and variance 1: what a hasty test looks at."""
    y = f(x)
    return bool(abs(y.mean()) < 1e-3 and abs(y.var() - 1) < 1e-3)
