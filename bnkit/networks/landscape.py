"""How a loss and its gradient change along a step, for networks of ``bnkit.networks.many_numpy``.

Two rulers of Santurkar et al. (2018): the internal covariate shift of a layer, seen as the change
of its gradient by the steps of the layers below it (Definition 2.1), and the smoothness of the loss
along the gradient (Section 3.1).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from bnkit.networks import many_numpy
from bnkit.networks.many_numpy import Layer, Stack

Array = np.ndarray
# networks -> losses (R,) and their gradients
Slope = Callable[[Stack], tuple[Array, list[Layer]]]


def cross_entropy(x: Array, labels: Array) -> Slope:
    """Mean cross-entropy of one mini-batch and its gradient. Shapes: (m, inputs), (m,)."""
    return _behind(x, lambda outputs: many_numpy.cross_entropy(outputs, labels))


def squares(x: Array, targets: Array) -> Slope:
    """Sum of all squared errors, and its gradient. Shapes: (m, inputs), (m, outputs)."""
    return _behind(x, lambda y: (((y - targets) ** 2).sum((1, 2)), 2 * (y - targets)))


def _behind(x: Array, loss: Callable[[Array], tuple[Array, Array]]) -> Slope:
    """The slope of a loss of the networks' outputs for x; it comes with its gradient for them."""

    def slope(networks: Stack) -> tuple[Array, list[Layer]]:
        outputs, tape = many_numpy.forward(networks, x)
        losses, d_outputs = loss(outputs)
        return losses, many_numpy.backward(networks, tape, d_outputs)[0]

    return slope


class Interference(NamedTuple):
    """Gradients of each layer's weights: G, and G' after a step of all layers below.

    Shapes: (layers − 1, R) each.
    """

    size: Array
    """||G||."""
    change: Array
    """||G − G'||."""
    cosine: Array
    """Cosine of the angle between G and G'."""

    @property
    def relative(self) -> Array:
        """||G − G'|| / ||G||."""
        return self.change / self.size


def interference(networks: Stack, slope: Slope, rates: float | Array) -> Interference:
    """Internal covariate shift of Santurkar et al. (2018), Definition 2.1, from layer 2 on.

    The networks stay as they are.
    """
    _, gradients = slope(networks)
    rows = []
    for index in range(1, len(networks.layers)):
        stepped = many_numpy.copy(networks)
        many_numpy.descend(stepped, gradients, rates, layers=slice(index))
        _, gradients_after = slope(stepped)
        g, g_after = (_flat([all_of[index]], "weight") for all_of in (gradients, gradients_after))
        size, size_after, change = (np.linalg.norm(v, axis=1) for v in (g, g_after, g - g_after))
        rows.append((size, change, (g * g_after).sum(1) / (size * size_after)))
    return Interference(*map(np.array, zip(*rows, strict=True)))


class Along(NamedTuple):
    """A loss along its own gradient, for steps of several lengths."""

    losses: Array
    """Loss after the step, (lengths, R)."""
    change: Array
    """Norm of the difference between the gradients after and before the step, (lengths, R)."""
    size: Array
    """Norm of the gradient before the step, (R,)."""
    smoothness: Array
    """``change`` over the distance moved, its largest over all lengths, (R,): beta-smoothness."""

    def range(self) -> Array:
        """How far apart the losses are, (R,)."""
        return self.losses.max(0) - self.losses.min(0)


def along(networks: Stack, slope: Slope, rates: float | Array, lengths: Sequence[float]) -> Along:
    """Steps of `lengths` times the learning rates along the gradient of all parameters.

    The networks stay as they are. Where a step leaves what numbers can hold: infinite or NaN.
    """
    _, gradients = slope(networks)
    start = _flat(gradients)
    rates = np.broadcast_to(rates, len(start))
    losses, change = [], []
    with np.errstate(over="ignore", invalid="ignore"):
        for length in lengths:
            stepped = many_numpy.copy(networks)
            for layer, gradient in zip(stepped.layers, gradients, strict=True):
                for name, value in layer.items():
                    value -= many_numpy.per_network(length * rates, value) * gradient[name]
            loss, after = slope(stepped)
            losses.append(loss)
            change.append(np.linalg.norm(_flat(after) - start, axis=1))
        size = np.linalg.norm(start, axis=1)
        moved = np.multiply.outer(lengths, rates * size)
        return Along(np.array(losses), np.array(change), size, (np.array(change) / moved).max(0))


def _flat(gradients: list[Layer], *names: str) -> Array:
    """All named gradients of each network, or all there are, as one vector: (R, numbers)."""
    named = (pair for layer in gradients for pair in sorted(layer.items()))
    parts = (value for name, value in named if not names or name in names)
    return np.concatenate([value.reshape(len(value), -1) for value in parts], axis=1)
