"""Chapter 10: frozen random weights, trained gamma and beta; as many trained weights to compare.

After Frankle, Schwab and Morcos (2021), with fully connected networks in place of residual ones.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bnkit import datasets
from bnkit.networks import landscape, many_numpy
from bnkit.networks.many_numpy import Layer
from bnkit.page import progress

Array = np.ndarray
# what is trained; all else, the output too, is random
KINDS = ("gamma and beta", "two weights a unit", "the readout", "everything")


class Trained(NamedTuple):
    """Networks trained at the rate that is best, for each kind and width, on training images."""

    accuracy: Array
    """Test accuracy, (widths, seeds)."""
    numbers: Array
    """How many numbers were trained, (widths,)."""
    off: Array
    """Share of units that switched themselves off, gamma within 0.01 of 0, (widths, seeds)."""


def mask(kind: str, layer: Layer, hidden: bool, generator: np.random.Generator) -> Layer:
    """What of a layer is trained: 1 for what is, 0 for what stays as it was drawn.

    "two weights a unit": two weights of each hidden unit at random, as many as gamma and beta;
    "the readout": the output layer, the control, as it stands on random features without them.
    """
    if kind not in KINDS:
        raise ValueError(f"there is no kind {kind!r}; there are: {', '.join(KINDS)}")
    chosen = {name: np.full_like(value, kind == "everything") for name, value in layer.items()}
    if kind == "the readout" and not hidden:
        chosen = {name: np.ones_like(value) for name, value in layer.items()}
    if hidden and kind == "gamma and beta":
        chosen |= {name: np.ones_like(layer[name]) for name in ("gamma", "beta")}
    if hidden and kind == "two weights a unit":
        draw = generator.random(layer["weight"].shape)  # (R, inputs, units)
        chosen["weight"] = (draw <= np.sort(draw, axis=1)[:, 1:2]).astype(layer["weight"].dtype)
    return chosen


def train(
    digits, kind: str, widths: Sequence[int], *, seeds: int, steps: int, depth: int = 3,
    rates: Sequence[float] = (1.0, 3.0),
) -> Trained:  # fmt: skip
    """Train ReLU networks with BN on `digits`, a ``digits.Digits``, at each width."""
    trained = []
    for width in widths:
        networks = digits.build("relu", True, 2**0.5, list(range(seeds)) * len(rates), depth, width)
        generator = np.random.default_rng([width, seeds])
        layers = enumerate(networks.layers)
        masks = [mask(kind, layer, index < depth, generator) for index, layer in layers]
        order, every_rate = datasets.batches(len(digits.x), 50, 0), np.repeat(rates, seeds)
        for _ in progress.steps(steps):
            chosen = next(order)
            slope = landscape.cross_entropy(digits.x[chosen], digits.labels[chosen])
            _, gradients = slope(networks)
            kept = [{k: m[k] * g[k] for k in g} for g, m in zip(gradients, masks, strict=True)]
            many_numpy.descend(networks, kept, every_rate)
        x, labels = digits.x[:500], digits.labels[:500]
        populations = many_numpy.observe(networks, x)
        seen = many_numpy.accuracy(networks, x, labels, populations).reshape(-1, seeds)
        best = np.nan_to_num(seen).mean(1).argmax()
        gammas = [np.abs(layer["gamma"]) for layer in networks.layers[:depth]]
        off = (np.concatenate(gammas, axis=1) < 0.01).mean(1)
        numbers = sum(value[0].sum() for of_layer in masks for value in of_layer.values())
        tested = (values.reshape(-1, seeds)[best] for values in (digits.test(networks), off))
        trained.append((*tested, numbers))
    accuracy, off, numbers = map(np.array, zip(*trained, strict=True))
    return Trained(accuracy, numbers, off)
