"""scikit-learn's digits as inputs of small networks, and the networks that learn them."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from bnkit import datasets
from bnkit.networks import many_numpy
from bnkit.networks.many_numpy import Stack

Array = np.ndarray
Pixels = Literal["standardised", "unit", "grey"]

# Standard deviation of the weights times sqrt(fan_in): Xavier for square layers, He for ReLU.
GAINS = {"linear": 1.0, "sigmoid": 1.0, "tanh": 1.0, "relu": 2**0.5}


def deviation(gain: float | Array) -> Callable[[int, int], float | Array]:
    """Standard deviation of a layer's initial weights, `gain` / sqrt(fan_in)."""
    return lambda fan_in, fan_out: gain / fan_in**0.5


class Digits(NamedTuple):
    """The images as rows, 1,500 to train and 297 to test, and all else that `data` says of them.

    What the chapters ask for:

    =====================================  ==============================================
    ``Digits.load()``                      chapters 1, 2 and 10: standardised, float32
    ``Digits.load("unit")``                chapter 4: pixels from 0 to 1, float32
    ``Digits.load("unit", np.float64)``    chapter 6; chapter 7 as maps, ``maps(digits.x)``
    ``Digits.load("grey", np.float64)``    chapter 3: grey values from 0 to 16 as they are
    =====================================  ==============================================
    """

    data: datasets.Dataset
    x: Array  # (1500, 64)
    x_test: Array  # (297, 64)

    @classmethod
    def load(cls, pixels: Pixels = "standardised", dtype: type = np.float32) -> "Digits":
        """The digits, standardised by ``many_numpy.inputs``, which rounds to float32, or not."""
        data = datasets.load("digits")
        if pixels == "standardised":
            rows = [many_numpy.inputs(x, data) for x in (data.train_images, data.test_images)]
        else:
            white = {"unit": data.white, "grey": 1}[pixels]
            rows = [x.reshape(len(x), -1) / white for x in (data.train_images, data.test_images)]
        return cls(data, *(x.astype(dtype) for x in rows))

    @property
    def labels(self) -> Array:
        """Of the training images, (1500,)."""
        return self.data.train_labels

    @property
    def test_labels(self) -> Array:
        """Of the test images, (297,)."""
        return self.data.test_labels

    def build(self, activation: str, norm: bool, gain, seeds, depth: int, width: int) -> Stack:
        """Networks for these images, in float32, one for each of `seeds`."""
        form = (64, width, depth, 10, activation, norm, deviation(gain))
        return many_numpy.build(*form, seeds, dtype=np.float32)

    def train(self, networks: Stack, rates, steps: int, batch: int, **options) -> None:
        """Train in place by ``many_numpy.train``, without a look on the way."""
        for _ in many_numpy.train(networks, self.x, self.labels, rates, steps, batch, **options):
            pass

    def test(self, networks: Stack) -> Array:
        """Test accuracy in inference mode, the population taken from 256 training images, (R,)."""
        normalised = "gamma" in networks.layers[0]
        populations = many_numpy.observe(networks, self.x[:256]) if normalised else None
        return many_numpy.accuracy(networks, self.x_test, self.test_labels, populations)


def maps(rows: Array) -> Array:
    """Rows as images with one map: (n, 64) -> (n, 1, 8, 8)."""
    return rows.reshape(-1, 1, 8, 8)
