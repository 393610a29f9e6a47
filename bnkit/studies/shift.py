"""Chapter 2: small changes on their way through a network, covariate shift, and the internal one.

Internal covariate shift has two definitions, and both can be measured: the change of the
distribution of a layer's inputs (Section 2 of the paper), and the change of a layer's gradient by
the steps of the layers below it (Santurkar et al. 2018, Definition 2.1).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from bnkit.networks import landscape, many_numpy
from bnkit.networks.digits import GAINS, Digits, deviation

Array = np.ndarray

# Small changes


def respond(
    activation: str, change: float, *, where: str, norm: bool, depth: int, width: int = 100,
    batch: int = 128, seeds: int = 5, eps: float = 1e-5,
) -> Array:  # fmt: skip
    """How far a small change of the weights moves each y: ||y' − y|| / ||y||, (seeds, depth).

    `where` "first" turns the first layer's weights by the relative size `change` in a random
    direction; "scale" multiplies all weights by 1 + `change`. Networks are untrained, inputs
    Gaussian.
    """
    form = (width, width, depth, None, activation, norm, deviation(GAINS[activation]))
    networks = many_numpy.build(*form, range(seeds), eps=eps)
    generator = np.random.default_rng([depth, width, batch, seeds])
    x = generator.standard_normal((seeds, batch, width))
    changed = many_numpy.copy(networks)
    if where == "first":
        weight = changed.layers[0]["weight"]
        direction = generator.standard_normal(weight.shape)
        weight += change * direction * (_norm(weight) / _norm(direction))[:, None, None]
    elif where == "scale":
        for layer in changed.layers:
            layer["weight"] *= 1 + change
    else:
        raise ValueError(f"where={where!r}; it is 'first' or 'scale'")
    _, before = many_numpy.forward(networks, x)
    _, after = many_numpy.forward(changed, x)
    passes = zip(before, after, strict=True)
    return np.stack([_norm(b.y - a.y) / _norm(a.y) for a, b in passes], axis=1)


def growth(changes: Array) -> Array:
    """Factor by which squared `changes` grow per layer, from layer 2: (seeds, depth) -> (seeds,).

    Layers count while the change is proportional (below 0.03) and larger than rounding errors.
    """
    middle = changes.mean(0)
    last = 1
    while last + 1 < len(middle) and 1e-12 < middle[last + 1] < 0.03:
        last += 1
    return (changes[:, last] / changes[:, 1]) ** (2 / (last - 1))


def _norm(values: Array) -> Array:
    return np.sqrt((values**2).sum((1, 2)))


# Where training works


def trainable(
    activation: str, norm: bool, gains: Sequence[float], rates: Sequence[float], *, seeds: int,
    steps: int, depth: int = 3, width: int = 30,
) -> Array:  # fmt: skip
    """Test accuracy on digits for each initial scale, learning rate and seed; NaN: diverged.

    Shape: (gains, rates, seeds).
    """
    digits = Digits.load()
    grids = np.meshgrid(gains, rates, range(seeds), indexing="ij")
    gain, rate, seed = (grid.ravel() for grid in grids)
    networks = digits.build(activation, norm, gain, seed, depth, width)
    digits.train(networks, rate, steps, batch=32)
    return digits.test(networks).reshape(grids[0].shape)


# Covariate shift: the inputs change


def rotate(images: Array, degrees: float) -> Array:
    """Images (n, h, w) turned counter-clockwise about their centre, interpolated, empty outside."""
    pictures = (Image.fromarray(image) for image in images.astype(np.float32))
    turned = (picture.rotate(degrees, Image.Resampling.BILINEAR) for picture in pictures)
    return np.stack([np.asarray(picture) for picture in turned])


def turned_seven(angles: Sequence[float]) -> Array:
    """The first seven of the test digits, turned by each angle, (angles, 8, 8)."""
    digits = Digits.load()
    seven = digits.data.test_images[digits.test_labels == 7][:1]
    return np.concatenate([rotate(seven, angle) for angle in angles])


class Rotated(NamedTuple):
    """What turning the test images does to trained networks."""

    accuracy: Array
    """Test accuracy, (angles, seeds)."""
    accuracy_with_batch_statistics: Array
    """The same, if BN stays in training mode while testing; equal to `accuracy` without BN."""
    input_shift: Array
    """``distance`` between turned and upright test images, (angles,)."""
    hidden_shift: Array
    """The same for the input of the last hidden layer's nonlinearity, (angles, seeds)."""


def covariate_shift(norm: bool, angles: Sequence[float], *, seeds: int, steps: int) -> Rotated:
    """Train ReLU networks with three hidden layers on upright digits; test them on turned ones."""
    digits = Digits.load()
    networks = digits.build("relu", norm, GAINS["relu"], range(seeds), 3, 50)
    digits.train(networks, 0.1, steps, 50)
    populations = many_numpy.observe(networks, digits.x[:500]) if norm else None

    def last_input(x: Array) -> Array:
        return many_numpy.forward(networks, x, populations=populations)[1][2].y

    rows = []
    for angle in angles:
        x = many_numpy.inputs(rotate(digits.data.test_images, angle), digits.data)
        accuracy = many_numpy.accuracy(networks, x, digits.test_labels, populations)
        in_training_mode = many_numpy.accuracy(networks, x, digits.test_labels)
        of_inputs = distance(digits.x_test[None], x[None])[0]
        of_hidden = distance(last_input(digits.x_test), last_input(x))
        rows.append((accuracy, in_training_mode, of_inputs, of_hidden))
    return Rotated(*map(np.array, zip(*rows, strict=True)))


def company(seeds: int, *, steps: int) -> dict[str, Array]:
    """Accuracy of networks with BN on the same test images, by the batch these stand in, (seeds,).

    "population" is Algorithm 2; the others stay in training mode, in batches of 27 or of one class.
    """
    digits = Digits.load()
    networks = digits.build("sigmoid", True, GAINS["sigmoid"], range(seeds), 3, 50)
    digits.train(networks, 1.0, steps, 50)

    def in_batches(order: Array) -> Array:
        x, labels, right = digits.x_test, digits.test_labels, 0.0
        for part in np.array_split(order, len(order) // 27):
            right += many_numpy.accuracy(networks, x[part], labels[part]) * len(part)
        return right / len(order)

    return {
        "population": digits.test(networks),
        "shuffled": in_batches(np.random.default_rng(0).permutation(len(digits.x_test))),
        "by class": in_batches(digits.test_labels.argsort(kind="stable")),
    }


# Internal covariate shift: the inputs of a layer change because the layers below it learn


def distance(before: Array, after: Array) -> Array:
    """Wasserstein-1 distance of units' distributions, their mean, in units of the spread before.

    Shapes: (R, m, d) twice -> (R,). For equal sizes: the mean difference of the sorted values.
    """
    moved = np.abs(np.sort(after, axis=1) - np.sort(before, axis=1)).mean((1, 2))
    return moved / before.std(1).mean(1)


def displacement(before: Array, after: Array) -> Array:
    """Distance of each unit's mean, mean over units, in the units of ``distance``: at most that."""
    return np.abs(after.mean(1) - before.mean(1)).mean(1) / before.std(1).mean(1)


def noisy(generator: np.random.Generator) -> many_numpy.Disturbance:
    """The noise behind BN of Santurkar et al. (2018), A.2.1: other at every step, in every unit.

    Each unit draws a mean from U(−0.5, 0.5) and a deviation from U(1, 1.25); each example then
    draws its own shift and scale around these.
    """

    def disturb(layer: int, shape: tuple[int, int, int]) -> tuple[Array, Array]:
        units = (shape[0], 1, shape[2])
        mean = generator.random(units, np.float32) - 0.5
        sigma = 1 + generator.random(units, np.float32) / 4
        # the text leaves open whether 0.1 is the deviation of the scale or its variance: deviation
        scale = sigma + np.float32(0.1) * generator.standard_normal(shape, np.float32)
        around = generator.random(shape, np.float32) - np.float32(0.5)
        return scale, mean + np.float32(0.2) * around

    return disturb


class Shift(NamedTuple):
    """Internal covariate shift while networks train, for each learning rate and seed."""

    steps: Array
    """Optimisation steps at which was looked, (looks,)."""
    distribution: Array
    """``distance`` of the last hidden y from the previous look, (looks − 1, rates, seeds)."""
    mean: Array
    """The part of it that is a shift of the mean, ``displacement``, same shape."""
    gradient: Array
    """||G − G'|| / ||G||, mean over layers, (looks, rates, seeds)."""
    cosine: Array
    """Cosine of G and G', mean over layers, (looks, rates, seeds)."""
    accuracy: Array
    """Test accuracy, (looks, rates, seeds)."""


class Variant(NamedTuple):
    """A kind of network whose internal covariate shift is followed."""

    name: str
    norm: bool
    noise: bool


VARIANTS = (
    Variant("without BN", False, False),
    Variant("with BN", True, False),
    Variant("noisy BN", True, True),
)


def follow(
    variant: Variant, rates: Sequence[float], *, seeds: int, steps: int, every: int = 10,
    width: int = 50,
) -> Shift:  # fmt: skip
    """Train sigmoid networks on digits and measure both shifts, every `every` steps.

    Distributions are those of one fixed set of 256 training images, in training mode as the next
    layer sees them, with the noise where there is any.
    """
    digits = Digits.load()
    every_rate, every_seed = np.repeat(rates, seeds), list(range(seeds)) * len(rates)
    networks = digits.build("sigmoid", variant.norm, GAINS["sigmoid"], every_seed, 3, width)
    noise, of_looks = (noisy(np.random.default_rng(k)) if variant.noise else None for k in (1, 2))
    looks, before, x, labels = [], None, digits.x, digits.labels
    for step, batch in many_numpy.train(networks, x, labels, every_rate, steps, 50, noise=noise):
        if step % every == 0:
            _, tape = many_numpy.forward(networks, x[:256], noise=of_looks)
            after = tape[2].y
            # the first look has no earlier one to compare with, and is left out at the end
            pair = (after if before is None else before, after)
            slope = landscape.cross_entropy(x[batch], labels[batch])
            change = landscape.interference(networks, slope, every_rate)
            of_gradient = change.relative.mean(0), change.cosine.mean(0)
            tested = digits.test(networks)
            looks.append((step, distance(*pair), displacement(*pair), *of_gradient, tested))
            before = after
    at, *values = (np.array(column) for column in zip(*looks, strict=True))
    moved, shifted, *at_looks = (value.reshape(len(at), len(rates), seeds) for value in values)
    return Shift(at, moved[1:], shifted[1:], *at_looks)


def over_rates(followed: dict[str, Shift]) -> tuple[dict, dict, dict]:
    """Both shifts, averaged over training and seeds, and the last accuracy, mean over seeds.

    Three dictionaries, distribution, gradient and accuracy: kind of network -> (rates,).
    """
    return (
        {name: shift.distribution.mean((0, 2)) for name, shift in followed.items()},
        {name: shift.gradient.mean((0, 2)) for name, shift in followed.items()},
        {name: shift.accuracy[-1].mean(1) for name, shift in followed.items()},
    )
