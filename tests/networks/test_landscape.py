"""The rulers of a landscape against steps made by hand, and on a bowl whose answers are known."""

import numpy as np
import pytest
from conftest import assert_close

from bnkit.networks import landscape, many_numpy
from bnkit.networks.digits import Digits, deviation

LABELS = np.array([0, 1, 2, 0, 1, 2, 2])


def networks(norm=True, dtype=np.float64):
    return many_numpy.build(5, 4, 3, 3, "tanh", norm, lambda i, o: i**-0.5, [0, 1], dtype=dtype)


def inputs():
    return np.random.default_rng(0).normal(size=(7, 5))


def flat(gradients):
    return np.concatenate(
        [value.reshape(2, -1) for layer in gradients for _, value in sorted(layer.items())], axis=1
    )


def moved(nets, slope, rates):
    """All parameters a step further down, by hand."""
    gradients, after = slope(nets)[1], many_numpy.copy(nets)
    for layer, gradient in zip(after.layers, gradients, strict=True):
        for name, value in layer.items():
            value -= rates.reshape(-1, *[1] * (value.ndim - 1)) * gradient[name]
    return after


def test_interference_is_definition_2_1():
    """Layer 2 by hand: only the first layer has moved when G' is taken."""
    nets, slope, rates = networks(), landscape.cross_entropy(inputs(), LABELS), np.array([0.5, 2.0])
    found = landscape.interference(nets, slope, rates)
    before = slope(nets)[1]
    for name, value in nets.layers[0].items():
        value -= rates.reshape(-1, *[1] * (value.ndim - 1)) * before[0][name]
    g, after = (each[1]["weight"].reshape(2, -1) for each in (before, slope(nets)[1]))
    assert_close(found.size[0], np.linalg.norm(g, axis=1))
    assert_close(found.change[0], np.linalg.norm(g - after, axis=1))
    assert_close(found.relative[0], found.change[0] / np.linalg.norm(g, axis=1))
    angle = (g * after).sum(1) / np.linalg.norm(g, axis=1) / np.linalg.norm(after, axis=1)
    assert_close(found.cosine[0], angle)
    assert found.cosine.shape == (3, 2)


@pytest.mark.parametrize("norm", [False, True])
def test_interference_is_proportional_to_small_rates_and_leaves_no_trace(norm):
    """On digits; with rates of zero the two gradients are one."""
    digits = Digits.load(dtype=np.float64)
    nets = many_numpy.build(64, 12, 3, 10, "sigmoid", norm, deviation(1.0), [0, 1])
    slope, before = (
        landscape.cross_entropy(digits.x[:20], digits.labels[:20]),
        many_numpy.copy(nets),
    )
    none, one, ten = (
        landscape.interference(nets, slope, np.full(2, rate)) for rate in (0, 1e-4, 1e-3)
    )
    assert none.relative.max() < 1e-12
    assert_close(none.cosine, np.ones((3, 2)))
    # up to the second order in the rate
    assert_close(ten.relative, 10 * one.relative, tolerance=0.05)
    for a, b in zip(nets.layers, before.layers, strict=True):
        assert all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("norm", [False, True])
def test_along_the_gradient_by_hand(norm):
    nets, slope, rates = (
        networks(norm),
        landscape.cross_entropy(inputs(), LABELS),
        np.array([0.1, 3.0]),
    )
    before = many_numpy.copy(nets)
    way = landscape.along(nets, slope, rates, (0.5, 2))
    for index, length in enumerate((0.5, 2)):
        loss, gradients = slope(moved(nets, slope, length * rates))
        assert_close(way.losses[index], loss)
        assert_close(
            way.change[index], np.linalg.norm(flat(gradients) - flat(slope(nets)[1]), axis=1)
        )
    assert_close(way.size, np.linalg.norm(flat(slope(nets)[1]), axis=1))
    expected = np.max(
        [way.change[k] / (length * rates * way.size) for k, length in enumerate((0.5, 2))], axis=0
    )
    assert_close(way.smoothness, expected)
    assert_close(way.range(), np.abs(way.losses[0] - way.losses[1]))
    for a, b in zip(nets.layers, before.layers, strict=True):
        assert all(np.array_equal(a[name], b[name]) for name in a)


def test_the_smoothness_of_a_bowl_is_its_curvature():
    """One linear layer without bias: the Hessian of the sum of squares is 2xᵀx, with orthonormal
    columns twice 1."""
    nets = many_numpy.build(3, 1, 0, 2, "linear", False, lambda i, o: 1.0, [0])
    x = np.linalg.qr(np.random.default_rng(0).normal(size=(8, 3)))[0]
    del nets.layers[0]["bias"]

    def slope(networks):
        error = x @ networks.layers[0]["weight"] - 1.0
        return (error**2).sum((1, 2)), [{"weight": 2 * x.T @ error}]

    assert_close(landscape.along(nets, slope, 0.1, (0.5, 4)).smoothness, [2.0])


def test_slopes_are_gradients():
    """By central differences of the fourth order, in one direction: a channel with a small spread
    bends the loss so much that those of the second are 1e-7 off."""
    x, rng = inputs(), np.random.default_rng(1)
    for slope in (
        landscape.cross_entropy(x, LABELS),
        landscape.squares(x, rng.normal(size=(7, 3))),
    ):
        nets = networks()
        gradients = slope(nets)[1]
        direction = [
            {name: rng.normal(size=value.shape) for name, value in layer.items()}
            for layer in nets.layers
        ]

        def loss(steps, nets=nets, slope=slope, direction=direction):
            there = many_numpy.copy(nets)
            for layer, step in zip(there.layers, direction, strict=True):
                for name, value in layer.items():
                    value += steps * 1e-5 * step[name]
            return slope(there)[0]

        rise = (8 * (loss(1) - loss(-1)) - (loss(2) - loss(-2))) / 12e-5
        assert_close(rise, (flat(gradients) * flat(direction)).sum(1), 1e-8)


def test_too_long_a_step_is_told_and_not_raised():
    way = landscape.along(
        networks(False), landscape.squares(inputs(), np.ones((7, 3))), 1e300, (1.0,)
    )
    assert not np.isfinite(way.losses).all()
