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

Array = np.ndarray


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

    (1 − rate decay)² ||w||² + rate² pull / ||w||² = ||w||², solved for ||w||² with (rate decay)²
    left out.
    """
    return (setting.rate * pull / (2 * setting.decay)) ** 0.5


def follow(
    digits,
    settings: Sequence[Setting],
    *,
    seeds: int,
    steps: int,
    other_rate: float = 0.1,
    depth: int = 2,
    width: int = 40,
    batch: int = 50,
) -> Course:
    """Train ReLU networks with BN on `digits`, a ``digits.Digits``, one for each setting and seed."""
    rates, decays, gains = (np.repeat(column, seeds) for column in zip(*settings, strict=True))
    networks = digits.build("relu", True, gains, list(range(seeds)) * len(settings), depth, width)
    order, seen = datasets.batches(len(digits.x), batch, 0), []
    for _ in range(steps):
        chosen = next(order)
        before = networks.layers[depth - 1]["weight"].copy()
        losses, gradients = landscape.cross_entropy(digits.x[chosen], digits.labels[chosen])(
            networks
        )
        pull = _squares(gradients[depth - 1]["weight"]) * _squares(before)
        _step(networks, gradients, rates, decays, other_rate)
        seen.append(
            (
                _squares(before),
                _angle(before, networks.layers[depth - 1]["weight"]) ** 2,
                pull,
                losses[:, None],
            )
        )
    columns = (
        np.array(column).mean(-1).reshape(steps, len(settings), seeds)
        for column in zip(*seen, strict=True)
    )
    return Course(*columns)


class Twins(NamedTuple):
    """A network with weight decay, and its twin without whose rate is corrected each step."""

    loss: Array
    """Training loss of both, (steps, 2)."""
    norm: Array
    """Mean ||w||² of all hidden units of both, (steps, 2)."""
    apart: float
    """Largest difference between the outputs of the two at the end, over the largest output."""


def twins(
    digits,
    setting: Setting,
    *,
    steps: int,
    seed: int = 0,
    other_rate: float = 0.1,
    depth: int = 2,
    width: int = 40,
) -> Twins:
    """Weight decay as a schedule of the learning rate (Hoffer et al. 2018), exact for plain SGD.

    Decay turns w by the same angle as the rate' = rate ||v||² / ((1 − rate decay) ||w||²) turns
    weights v of the same direction that do not decay. In float64 and at epsilon = 0, where BN
    ignores the scale entirely.
    """
    deviation = lambda fan_in, fan_out: setting.gain / fan_in**0.5  # noqa: E731
    decaying = many_numpy.build(
        digits.x.shape[1], width, depth, 10, "relu", True, deviation, [seed], eps=0.0
    )
    twin = many_numpy.copy(decaying)
    x, order, seen = digits.x.astype(float), datasets.batches(len(digits.x), 50, seed), []
    for _ in range(steps):
        chosen = next(order)
        slope = landscape.cross_entropy(x[chosen], digits.labels[chosen])
        losses, gradients = zip(slope(decaying), slope(twin), strict=True)
        sizes = [
            [_squares(layer["weight"]) for layer in each.layers[:depth]]
            for each in (decaying, twin)
        ]
        shrink = 1 - setting.rate * setting.decay
        rates = [setting.rate * v / (shrink * w) for w, v in zip(*sizes, strict=True)]
        for layer, gradient, rate in zip(twin.layers, gradients[1], rates, strict=False):
            layer["weight"] -= rate[:, None, :] * gradient["weight"]
            gradient["weight"] = np.zeros_like(gradient["weight"])
        many_numpy.descend(twin, gradients[1], other_rate)
        _step(
            decaying, gradients[0], np.array([setting.rate]), np.array([setting.decay]), other_rate
        )
        seen.append((np.ravel(losses), [np.mean(each) for each in sizes]))
    loss, norm = (np.array(column) for column in zip(*seen, strict=True))
    first, second = (many_numpy.forward(each, x)[0] for each in (decaying, twin))
    return Twins(loss, norm, float(np.abs(first - second).max() / np.abs(first).max()))


def _step(
    networks: many_numpy.Stack,
    gradients: list[many_numpy.Layer],
    rates: Array,
    decays: Array,
    other_rate: float,
) -> None:
    """One step in place: hidden weights at their own rates, decays, (R,), the rest at one."""
    for layer, gradient in zip(networks.layers[: networks.depth], gradients, strict=False):
        rate, decay = (
            each.astype(layer["weight"].dtype)[:, None, None] for each in (rates, decays)
        )
        gradient["weight"] = (gradient["weight"] + decay * layer["weight"]) * (rate / other_rate)
    many_numpy.descend(networks, gradients, other_rate)


def _squares(weight: Array) -> Array:
    """Squared length of each unit's weights: (R, inputs, units) -> (R, units)."""
    return (weight.astype(float) ** 2).sum(1)


def _angle(before: Array, after: Array) -> Array:
    """Angle between the weights of each unit before and after a step, (R, units).

    From the length of the chord, which keeps its digits where the cosine is 1 but for rounding.
    """
    a, b = (
        weight.astype(float) / np.sqrt(_squares(weight))[:, None, :] for weight in (before, after)
    )
    return 2 * np.arcsin(np.clip(np.sqrt(((a - b) ** 2).sum(1)) / 2, 0, 1))
