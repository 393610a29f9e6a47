"""The digits as the chapters ask for them: scale, shape and kind of number."""

import numpy as np
import pytest
from conftest import assert_close

from bnkit import datasets
from bnkit.networks import many_numpy
from bnkit.networks.digits import GAINS, Digits, deviation, maps


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("pixels", ["standardised", "unit", "grey"])
def test_rows_labels_and_kind_of_number(pixels, dtype):
    digits = Digits.load(pixels, dtype)
    assert digits.x.shape == (1500, 64)
    assert digits.x_test.shape == (297, 64)
    assert digits.x.dtype == digits.x_test.dtype == dtype
    assert np.array_equal(digits.labels, digits.data.train_labels)
    assert np.array_equal(digits.test_labels, digits.data.test_labels)


def test_pixels_are_scaled_by_what_their_name_says():
    data = datasets.load("digits")
    grey, unit = Digits.load("grey", np.float64), Digits.load("unit")
    assert np.array_equal(grey.x.reshape(-1, 8, 8), data.train_images)
    assert np.array_equal(grey.x_test.reshape(-1, 8, 8), data.test_images)
    assert np.array_equal(unit.x * 16, grey.x)
    assert unit.x.max() == unit.x_test.max() == 1
    standardised = Digits.load(dtype=np.float64).x
    assert_close(standardised.mean(0), np.zeros(64), tolerance=1e-6)
    assert_close(standardised, (grey.x - grey.x.mean(0)) / grey.x.std(), tolerance=1e-6)


def test_pixels_of_another_name_are_refused():
    with pytest.raises(KeyError, match="white"):
        Digits.load("white")


def test_maps_are_the_images():
    digits = Digits.load("unit", np.float64)
    assert np.array_equal(maps(digits.x)[:, 0], digits.data.train_images / 16)


def test_networks_start_with_the_deviation_of_their_gain():
    assert deviation(3.0)(9, 100) == 1.0
    gains = np.array([1.0, GAINS["relu"]])
    networks = Digits.load().build("relu", True, gains, [0, 0], 2, 10)
    weights = [layer["weight"] for layer in networks.layers]
    assert [weight.shape for weight in weights] == [(2, 64, 10), (2, 10, 10), (2, 10, 10)]
    assert_close(weights[0][1], weights[0][0] * 2**0.5, tolerance=1e-6)
    assert all(weight.dtype == np.float32 for weight in weights)


@pytest.mark.parametrize("norm", [False, True])
def test_tested_by_the_population_where_there_is_one(norm):
    digits = Digits.load()
    networks = digits.build("relu", norm, 1.0, range(3), 2, 10)
    populations = many_numpy.observe(networks, digits.x[:256]) if norm else None
    outputs, _ = many_numpy.forward(networks, digits.x_test, populations=populations)
    expected = (outputs.argmax(-1) == digits.test_labels).mean(1)
    assert np.array_equal(digits.test(networks), expected)


def test_training_is_that_of_many_numpy():
    digits = Digits.load()
    one, other = (digits.build("relu", True, 1.0, [0], 1, 5) for _ in range(2))
    digits.train(one, 0.1, 3, 20)
    for _ in many_numpy.train(other, digits.x, digits.labels, 0.1, 3, 20):
        pass
    assert np.array_equal(one.layers[0]["weight"], other.layers[0]["weight"])
    assert np.abs(one.layers[1]["bias"]).min() > 0  # it has moved
