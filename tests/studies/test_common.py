"""Data of the theory chapters have the statistics that they promise; a step goes downhill."""

from typing import NamedTuple

import numpy as np
import pytest

from bnkit.studies import common


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, equal_nan=False)


def test_classes_have_the_variances_they_should():
    values = common.classes_apart(60, rng())
    assert values.shape == (10, 60)
    close(values.var(axis=1), np.ones(10))
    close(values.var(), 4.36)


def test_averages_hear_only_the_order_of_the_examples():
    x = common.classes_apart(300, rng()).reshape(-1, 1)
    shuffled = x[rng().permutation(len(x))]
    # of single classes: 300 is a multiple of 30
    assert common.averaged(x, 30).var[0] == pytest.approx(1, abs=0.02)
    assert common.averaged(shuffled, 30).var[0] == pytest.approx(4.36, rel=0.03)


def test_averaged_is_algorithm_2():
    x = rng().normal(size=(14, 2))  # the last two fill no batch
    population = common.averaged(x, 4)
    close(population.mean, x[:12].mean(axis=0))
    close(population.var, x[:12].reshape(3, 4, 2).var(axis=1, ddof=1).mean(axis=0))
    assert population.batches == 3


def test_correlated_maps():
    maps = common.correlated_maps(2, 3, 0.8, 20_000, rng())
    assert maps.shape == (2, 20_000, 3, 3)
    pixels = maps.transpose(1, 0, 2, 3).reshape(20_000, 18)
    expected = np.kron(np.eye(2), np.full((9, 9), 0.8)) + 0.2 * np.eye(18)
    assert np.abs(np.cov(pixels.T) - expected).max() < 0.05


class Layer(NamedTuple):
    weight: np.ndarray
    gamma: np.ndarray


class Network(NamedTuple):
    layers: tuple[Layer, ...]
    bias: np.ndarray


def test_a_step_moves_every_array_against_its_gradient_and_keeps_the_form():
    one, two = np.ones((2, 3)), np.full(2, 2.0)
    network = Network((Layer(one, two), Layer(3 * one, two)), two)
    gradient = Network((Layer(one, two), Layer(one, one[:, 0])), 2 * two)
    after = common.step(network, gradient, 0.5)
    expected = Network((Layer(one / 2, two / 2), Layer(2.5 * one, two - 0.5)), np.zeros(2))
    assert [type(part) for part in after.layers] == [Layer, Layer]
    assert type(after) is Network
    for ours, theirs in zip(after.layers, expected.layers, strict=True):
        close(ours.weight, theirs.weight)
        close(ours.gamma, theirs.gamma)
    close(after.bias, expected.bias)
    assert network.bias is two  # the old one stays


def test_a_gradient_of_another_form_is_no_step():
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        common.step((np.ones(2), np.ones(2)), (np.ones(2),), 0.1)
