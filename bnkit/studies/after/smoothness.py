"""Chapter 10: noise behind BN, the landscape along the gradient, and the norm of a gradient.

All three follow Santurkar et al. (2018): Section 2.1, Section 3.1 and Theorem 4.1.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bnkit import reference
from bnkit.networks import landscape, many_numpy
from bnkit.networks.digits import GAINS
from bnkit.networks.many_numpy import Disturbance, Stack

Array = np.ndarray
BATCH = 50  # examples in a mini-batch


def build(digits, activation: str, norm: bool, seeds, depth: int, width: int = 50) -> Stack:
    """Untrained networks for `digits`, a ``digits.Digits``: Xavier's weights, or He's for ReLU."""
    return digits.build(activation, norm, GAINS[activation], seeds, depth, width)


# Noise


def amplified(noise: Disturbance, strengths: Array) -> Disturbance:
    """`noise` with its distance from doing nothing times a strength for each network, (R,)."""
    k = np.asarray(strengths, np.float32)[:, None, None]

    def disturb(layer: int, shape: tuple[int, int, int]) -> tuple[Array, Array]:
        scale, shift = noise(layer, shape)
        return 1 + k * (scale - 1), k * shift

    return disturb


def with_noise(
    digits, activation: str, norm: bool, strengths: Sequence[float], noise: Disturbance, *,
    rate: float, depth: int, seeds: int, steps: int,
) -> Array:  # fmt: skip
    """Test accuracy after training with `noise`, (strengths, seeds); 0 for a diverged network.

    The noise acts in training only, on the input of each hidden nonlinearity: behind BN, if any.
    """
    networks = build(digits, activation, norm, list(range(seeds)) * len(strengths), depth)
    louder = amplified(noise, np.repeat(strengths, seeds))
    digits.train(networks, rate, steps, BATCH, noise=louder)
    return np.nan_to_num(digits.test(networks)).reshape(len(strengths), seeds)


# The landscape along the gradient


# of the learning rate: the range of Santurkar et al. for their VGG network
LENGTHS = (0.5, 1.0, 2.0, 4.0)


class Path(NamedTuple):
    """The landscape along the gradient of the mini-batch that networks in training use next."""

    steps: Array
    """Optimisation steps at which was looked, (looks,)."""
    loss: Array
    """Loss of the mini-batch, (looks, rates, seeds)."""
    range: Array
    """Highest less lowest loss over all step lengths, same shape."""
    change: Array
    """Largest change of the gradient over all step lengths, its norm, same shape."""
    smoothness: Array
    """Largest change of the gradient over the distance: effective beta-smoothness, same shape."""
    accuracy: Array
    """Test accuracy at the end, (rates, seeds)."""


def follow(
    digits, activation: str, norm: bool, rates: Sequence[float], *, depth: int, seeds: int,
    steps: int, looks: int = 12, width: int = 50,
) -> Path:  # fmt: skip
    """Train networks on digits; look along the gradient at `looks` steps, denser early."""
    networks = build(digits, activation, norm, list(range(seeds)) * len(rates), depth, width)
    every_rate = np.repeat(rates, seeds)
    at = {0, *np.geomspace(1, steps, looks - 1).round().astype(int).tolist()}
    seen, x, labels = [], digits.x, digits.labels
    for step, chosen in many_numpy.train(networks, x, labels, every_rate, steps, BATCH):
        if step in at:
            slope = landscape.cross_entropy(x[chosen], labels[chosen])
            way = landscape.along(networks, slope, every_rate, LENGTHS)
            seen.append((step, slope(networks)[0], way.range(), way.change.max(0), way.smoothness))
    found_at, *columns = (np.array(column) for column in zip(*seen, strict=True))
    shape = (len(found_at), len(rates), seeds)
    accuracy = np.nan_to_num(digits.test(networks)).reshape(shape[1:])
    return Path(found_at, *(column.reshape(shape) for column in columns), accuracy)


# The norm of a gradient that passes through BN


def theorem(x: Array, gamma: Array, dy: Array, c: float) -> tuple[Array, Array]:
    """Both sides of Theorem 4.1 of Santurkar et al. (2018) by feature, epsilon 0: (m, d) -> (d,).

    Left the squared norm of the gradient that BN passes to its input x; right gamma²/sigma² times
    the squared norm of the gradient `dy` that came in, less what is removed along (1, ..., 1) and,
    with the factor `c`, along x_hat. The theorem prints c = 1/sqrt(m); its proof, in which x_hat
    has the length sqrt(m), gives 1/m.
    """
    _, cache = reference.forward(x, gamma, np.zeros_like(gamma), eps=0.0)
    left = (reference.backward(dy, cache)[0] ** 2).sum(0)
    x_hat = (x - x.mean(0)) / x.std(0)
    kept = (dy**2).sum(0) - dy.sum(0) ** 2 / len(x) - c * (dy * x_hat).sum(0) ** 2
    return left, gamma**2 / x.var(0) * kept


class Passage(NamedTuple):
    """A gradient's way through each BN: two factors whose product is exact for each unit."""

    scale: Array
    """gamma² / (sigma² + epsilon), median over units, (layers, R)."""
    kept: Array
    """Share of the squared norm that the projection keeps, over all units, (layers, R)."""


def passage(networks: Stack, x: Array, labels: Array) -> Passage:
    """Take the gradient of one mini-batch apart at every BN. Shapes: x (m, inputs)."""
    outputs, tape = many_numpy.forward(networks, x)
    _, d_inputs = many_numpy.backward(networks, tape, many_numpy.cross_entropy(outputs, labels)[1])
    slope = many_numpy.ACTIVATIONS[networks.activation].slope
    scales, kept = [], []
    hidden = zip(networks.layers[: networks.depth], tape, strict=False)
    for index, (layer, passed) in enumerate(hidden):
        dy = d_inputs[index + 1] * slope(passed.y)  # (R, m, units)
        var = passed.x.var(1, keepdims=True) + networks.eps
        x_hat = (passed.x - passed.x.mean(1, keepdims=True)) / np.sqrt(var)
        rest = dy - dy.mean(1, keepdims=True) - x_hat * (dy * x_hat).mean(1, keepdims=True)
        scales.append(np.median(layer["gamma"] ** 2 / var[:, 0], axis=1))
        kept.append((rest**2).sum((1, 2)) / (dy**2).sum((1, 2)))
    return Passage(np.array(scales), np.array(kept))


def passages(digits, *, depth: int, seeds: int, steps: int) -> dict[str, Passage]:
    """``passage`` of one mini-batch through ReLU networks: untrained, trained, untrained with a
    tenth."""
    networks = build(digits, "relu", True, range(seeds), depth)
    x, labels = digits.x[:BATCH], digits.labels[:BATCH]
    small = many_numpy.copy(networks)
    for layer in small.layers[:depth]:
        layer["weight"] *= 0.1
    untrained = passage(networks, x, labels)
    digits.train(networks, 0.1, steps, BATCH)
    return {
        "untrained": untrained,
        "trained": passage(networks, x, labels),
        "untrained, weights a tenth as large": passage(small, x, labels),
    }
