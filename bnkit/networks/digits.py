"""scikit-learn's digits as inputs of small networks, and the networks that learn them."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from bnkit import datasets
from bnkit.networks import many_numpy

# Standard deviation of the weights times sqrt(fan_in): Xavier for square layers, He for ReLU.
GAINS = {"linear": 1.0, "sigmoid": 1.0, "tanh": 1.0, "relu": 2**0.5}


def deviation(gain: float | np.ndarray) -> Callable[[int, int], float | np.ndarray]:
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
    x: np.ndarray  # (1500, 64)
    x_test: np.ndarray  # (297, 64)

    @classmethod
    def load(
        cls,
        pixels: Literal["standardised", "unit", "grey"] = "standardised",
        dtype: type = np.float32,
    ) -> "Digits":
        """The digits with `pixels` "standardised" (``many_numpy.inputs``, which rounds to float32),
        from 0 to 1 ("unit"), or as they are ("grey")."""
        data = datasets.load("digits")
        rows = {
            "standardised": lambda images: many_numpy.inputs(images, data),
            "unit": lambda images: images.reshape(len(images), -1) / data.white,
            "grey": lambda images: images.reshape(len(images), -1),
        }[pixels]
        return cls(data, *(rows(x).astype(dtype) for x in (data.train_images, data.test_images)))

    @property
    def labels(self) -> np.ndarray:
        """Of the training images, (1500,)."""
        return self.data.train_labels

    @property
    def test_labels(self) -> np.ndarray:
        """Of the test images, (297,)."""
        return self.data.test_labels

    def build(
        self, activation: str, norm: bool, gain, seeds: Sequence[int], depth: int, width: int
    ) -> many_numpy.Stack:
        """Networks for these images, in float32."""
        return many_numpy.build(
            64, width, depth, 10, activation, norm, deviation(gain), seeds, dtype=np.float32
        )

    def train(
        self, networks: many_numpy.Stack, rates: float | np.ndarray, steps: int, batch: int
    ) -> None:
        """Train in place by ``many_numpy.train``, without a look on the way."""
        for _ in many_numpy.train(networks, self.x, self.labels, rates, steps, batch):
            pass

    def test(self, networks: many_numpy.Stack) -> np.ndarray:
        """Test accuracy in inference mode, the population taken from 256 training images, (R,)."""
        normalised = "gamma" in networks.layers[0]
        populations = many_numpy.observe(networks, self.x[:256]) if normalised else None
        return many_numpy.accuracy(networks, self.x_test, self.test_labels, populations)


def maps(rows: np.ndarray) -> np.ndarray:
    """Rows as images with one map: (n, 64) -> (n, 1, 8, 8)."""
    return rows.reshape(-1, 1, 8, 8)
