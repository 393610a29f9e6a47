"""Chapter 10: weights before BN are turned, not stretched: decay and the effective learning rate.

A gradient behind BN is orthogonal to each unit's weights w and goes like 1/||w||. So a step of
gradient descent turns w by an angle of about rate/||w||² times the gradient at length one, and
stretches it a little; weight decay shrinks it. Where both balance, the angle per step is sqrt(2
rate decay), whatever the loss, the layer or the initial length (van Laarhoven 2017; in this form
Wan et al. 2020, Kosson et al. 2023).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bnkit import datasets
from bnkit.networks import landscape, many_numpy
from bnkit.networks.digits import deviation
from bnkit.networks.many_numpy import Layer, Stack
from bnkit.page import progress

Array = np.ndarray
DEPTH, BATCH = 2, 50  # hidden layers; examples in a mini-batch
OTHER_RATE = 0.1  # of all that is no hidden weight


class Setting(NamedTuple):
    """How the hidden weights of one network are trained."""

    # learning rate of the hidden weights; gamma, beta and the output layer have one of their own
    rate: float
    decay: float  # weight decay of the hidden weights
    gain: float = 2**0.5  # standard deviation of the initial weights times sqrt(fan_in)


class Course(NamedTuple):
    """What happens to the weights of the last hidden layer; means over units."""

    norm: Array
    """||w||² before each step, (steps, settings, seeds)."""
    turn: Array
    """Square of the angle by which a step turns w, in radians, same shape."""
    pull: Array
    """||w||² times the squared gradient: the squared gradient at length one, same shape."""
    loss: Array
    """Training loss of each mini-batch, same shape."""

    def angle(self, last: int) -> Array:
        """Angle by which a step turns w, root mean square over `last` steps, (settings, seeds)."""
        return np.sqrt(self.turn[-last:].mean(0))


def predicted_angle(setting: Setting) -> float:
    """Angle by which a step turns the weights, stretching and decay in balance, in radians."""
    return (2 * setting.rate * setting.decay) ** 0.5


def predicted_norm(setting: Setting, pull: float) -> float:
    """||w||² in balance, for a mean squared gradient `pull` at length one.

    (1 − rate decay)² n + rate² pull / n = n, solved for n = ||w||² without (rate decay)².
    """
    return (setting.rate * pull / (2 * setting.decay)) ** 0.5


def follow(
    digits, settings: Sequence[Setting], *, seeds: int, steps: int, width: int = 40
) -> Course:
    """Train ReLU networks with BN on `digits`, a ``digits.Digits``, by setting and seed."""
    rates, decays, gains = (np.repeat(column, seeds) for column in zip(*settings, strict=True))
    networks = digits.build("relu", True, gains, list(range(seeds)) * len(settings), DEPTH, width)
    order, seen = datasets.batches(len(digits.x), BATCH, 0), []
    for _ in progress.steps(steps):
        chosen = next(order)
        before = networks.layers[DEPTH - 1]["weight"].copy()
        slope = landscape.cross_entropy(digits.x[chosen], digits.labels[chosen])
        losses, gradients = slope(networks)
        pull = _squares(gradients[DEPTH - 1]["weight"]) * _squares(before)
        _step(networks, gradients, rates, decays)
        turn = _angle(before, networks.layers[DEPTH - 1]["weight"]) ** 2
        seen.append((_squares(before), turn, pull, losses[:, None]))
    columns = (np.array(column).mean(-1) for column in zip(*seen, strict=True))
    return Course(*(column.reshape(steps, len(settings), seeds) for column in columns))


class Twins(NamedTuple):
    """A network with weight decay, and its twin without whose rate is corrected each step."""

    loss: Array
    """Training loss of both, (steps, 2)."""
    norm: Array
    """Mean ||w||² of all hidden units of both, (steps, 2)."""
    apart: float
    """Largest difference between the outputs of the two at the end, over the largest output."""


def twins(digits, setting: Setting, *, steps: int, width: int = 40) -> Twins:
    """Weight decay as a schedule of the learning rate (Hoffer et al. 2018), exact for plain SGD.

    Decay turns w by the same angle as the rate' = rate ||v||² / ((1 − rate decay) ||w||²) turns
    weights v of the same direction that do not decay. In float64, at epsilon = 0: BN ignores scale.
    """
    form = (digits.x.shape[1], width, DEPTH, 10, "relu", True, deviation(setting.gain))
    decaying = many_numpy.build(*form, [0], eps=0.0)
    twin, own = many_numpy.copy(decaying), (np.array([setting.rate]), np.array([setting.decay]))
    x, order, seen = digits.x.astype(float), datasets.batches(len(digits.x), BATCH, 0), []
    for _ in progress.steps(steps):
        chosen = next(order)
        slope = landscape.cross_entropy(x[chosen], digits.labels[chosen])
        losses, gradients = zip(slope(decaying), slope(twin), strict=True)
        hidden = (decaying.layers[:DEPTH], twin.layers[:DEPTH])
        sizes = [[_squares(layer["weight"]) for layer in layers] for layers in hidden]
        shrink = 1 - setting.rate * setting.decay
        rates = [setting.rate * v / (shrink * w) for w, v in zip(*sizes, strict=True)]
        for layer, gradient, corrected in zip(twin.layers, gradients[1], rates, strict=False):
            layer["weight"] -= corrected[:, None, :] * gradient["weight"]
            gradient["weight"] = np.zeros_like(gradient["weight"])
        many_numpy.descend(twin, gradients[1], OTHER_RATE)
        _step(decaying, gradients[0], *own)
        seen.append((np.ravel(losses), [np.mean(of_layers) for of_layers in sizes]))
    loss, norm = (np.array(column) for column in zip(*seen, strict=True))
    first, second = (many_numpy.forward(network, x)[0] for network in (decaying, twin))
    return Twins(loss, norm, float(np.abs(first - second).max() / np.abs(first).max()))


def _step(networks: Stack, gradients: list[Layer], rates: Array, decays: Array) -> None:
    """One step in place: hidden weights at their own rates, decays, (R,), the rest at one."""
    for layer, gradient in zip(networks.layers[: networks.depth], gradients, strict=False):
        weight = layer["weight"]
        rate, decay = (many_numpy.per_network(values, weight) for values in (rates, decays))
        gradient["weight"] = (gradient["weight"] + decay * weight) * (rate / OTHER_RATE)
    many_numpy.descend(networks, gradients, OTHER_RATE)


def _squares(weight: Array) -> Array:
    """Squared length of each unit's weights: (R, inputs, units) -> (R, units)."""
    return (weight.astype(float) ** 2).sum(1)


def _angle(before: Array, after: Array) -> Array:
    """Angle between the weights of each unit before and after a step, (R, units).

    From the length of the chord, which keeps its digits where the cosine is 1 but for rounding.
    """
    lengths = (np.sqrt(_squares(weight))[:, None, :] for weight in (before, after))
    a, b = (w.astype(float) / of for w, of in zip((before, after), lengths, strict=True))
    return 2 * np.arcsin(np.clip(np.sqrt(((a - b) ** 2).sum(1)) / 2, 0, 1))
