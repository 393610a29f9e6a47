"""What the explorables of the pages compute, once more in NumPy: one setting of each for the
static picture, a small network by ``bnkit.reference``, and the recorded runs that a page scrubs.

The scripts in ``bnkit/book/_static/explorables/`` do the same in the reader's browser; the tests
compare them with this.
"""

import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from bnkit import reference
from bnkit.runs import experiments

Array = np.ndarray


def _normalised(x: Array, eps: float = 1e-5) -> Array:
    """The normalised values of one feature, (m,) -> (m,)."""
    return reference.forward(x[:, None], np.ones(1), np.zeros(1), eps)[1].x_hat[:, 0]


# One feature


def batch() -> dict[str, Array]:
    """The batch 0, 2, 2, 8 on its way through Algorithm 1, γ = 1, β = 0: rows by name, (m,)."""
    x = np.array([0.0, 2, 2, 8])
    return {"x": x, "x − μ": x - x.mean(), "x̂": _normalised(x), "y": _normalised(x)}


def company() -> tuple[Array, Array]:
    """Twenty-four companies of seven, (24, 7), and the outputs of x = 1.5 among them, (24,)."""
    companies = np.random.default_rng(0).normal(size=(24, 7))
    return companies, np.array([_normalised(np.r_[1.5, others])[0] for others in companies])


def running() -> tuple[Array, Array, Array]:
    """The data's mean, which shifts half way, each batch's, and the running one: all (120,)."""
    rng, truth, rows = np.random.default_rng(0), np.repeat([2.0, 5.0], 60), []
    population = reference.Population(np.zeros(1), np.ones(1), 0)
    for mean in truth:
        x = rng.normal(mean, 1, (16, 1))
        population = reference.observe(population, x, 0.1)
        rows.append((mean, x.mean(), population.mean[0]))
    return tuple(np.array(rows).T)


def jitter() -> tuple[Sequence[int], Array]:
    """Batch sizes, and what an example at one deviation becomes in 60 companies: (sizes, 60)."""
    rng, sizes = np.random.default_rng(0), (2, 3, 4, 8, 16, 32, 64, 128, 256)
    companies = [[np.r_[1.0, rng.normal(size=m - 1)] for _ in range(60)] for m in sizes]
    return sizes, np.array([[_normalised(x, 0.0)[0] for x in of_size] for of_size in companies])


# A small network


class Layer(NamedTuple):
    """Weights (out, in); gamma and beta (out,) with BN, else a bias (out,). The others are None."""

    weight: Array
    bias: Array | None
    gamma: Array | None
    beta: Array | None


NONLINEARITIES: dict[str, tuple[Callable, Callable]] = {  # its value of x, its slope of (x, value)
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), lambda x, y: y * (1 - y)),
    "tanh": (np.tanh, lambda x, y: 1 - y**2),
    "ReLU": (lambda x: np.maximum(x, 0), lambda x, y: (x > 0).astype(float)),
    "linear": (lambda x: x, lambda x, y: np.ones_like(x)),
}


def initial(sizes: Sequence[int], scale: float, normalised: bool, seed: int) -> list[Layer]:
    """Layers of sizes[k] -> sizes[k + 1], weights normal with deviation scale / √inputs."""
    rng, layers = np.random.default_rng(seed), []
    for place, (inputs, out) in enumerate(pairwise(sizes)):
        weight = rng.normal(0, scale / np.sqrt(inputs), (out, inputs))
        with_bn = normalised and place < len(sizes) - 2
        pair = (np.ones(out), np.zeros(out)) if with_bn else (None, None)
        layers.append(Layer(weight, None if with_bn else np.zeros(out), *pair))
    return layers


def gradients(
    layers: Sequence[Layer], x: Array, by_output: Callable[[Array], Array], nonlinearity: str
) -> tuple[Array, list[tuple[Array, Layer]]]:
    """Output of a network, and for each layer the gradient by its Wu and by its parameters.

    Shapes: x (m, in); `by_output` takes the output, (m, out), and returns the gradient by it.
    """
    value, slope = NONLINEARITIES[nonlinearity]
    inputs, caches, received = [], [], []
    for place, layer in enumerate(layers):
        inputs.append(x)
        x, cache = x @ layer.weight.T, None
        if layer.gamma is None:
            x = x + layer.bias
        else:
            x, cache = reference.forward(x, layer.gamma, layer.beta)
        received.append(x)
        caches.append(cache)
        x = value(x) if place < len(layers) - 1 else x
    d, found = by_output(x), []
    for place in reversed(range(len(layers))):
        if place < len(layers) - 1:
            d = d * slope(received[place], value(received[place]))
        by_bias, by_gamma, by_beta = d.sum(axis=0), None, None
        if caches[place]:
            d, by_gamma, by_beta = reference.backward(d, caches[place])
            by_bias = None
        found.append((d, Layer(d.T @ inputs[place], by_bias, by_gamma, by_beta)))
        d = d @ layers[place].weight
    return x, found[::-1]


def descend(
    layers: Sequence[Layer], x: Array, labels: Array, rate: float, nonlinearity: str
) -> tuple[float, list[Layer]]:
    """One step of gradient descent: the loss before it, and the layers after.

    Shapes: x (m, in), labels (m,) of 0 and 1; the network has one output, the log-odds of a 1.
    """
    signs = 2 * labels - 1

    def by_output(output: Array) -> Array:
        return -(signs / (1 + np.exp(signs * output[:, 0])))[:, None] / len(labels)

    output, found = gradients(layers, x, by_output, nonlinearity)
    moved = [
        Layer(*(None if each is None else each - rate * d for each, d in zip(one, by, strict=True)))
        for one, (_, by) in zip(layers, found, strict=True)
    ]
    return float(np.logaddexp(0, -signs * output[:, 0]).mean()), moved


def depth() -> list[Array]:
    """Norm of the gradient at each of twenty layers of tanh over that at the top: with, without."""
    norms = []
    for normalised in (True, False):
        x, dy = np.random.default_rng(1).normal(size=(2, 24, 24))
        layers = initial([24] * 21, 1.0, normalised, 0)
        _, found = gradients(layers, x, lambda _, dy=dy: dy, "tanh")
        norms.append(np.array([np.linalg.norm(d) for d, _ in found]))
    return [each / each[-1] for each in norms]


def training() -> list[Array]:
    """Loss over 200 steps of two networks of sigmoids with small weights: with BN and without."""
    x, labels = _moons(120, np.random.default_rng(2))
    curves = []
    for normalised in (True, False):
        layers = initial([2, 8, 8, 8, 1], 0.1, normalised, 0)
        rng, losses = np.random.default_rng(3), []
        for _ in range(200):
            places = rng.integers(0, 120, 30)
            loss, layers = descend(layers, x[places], labels[places], 0.3, "sigmoid")
            losses.append(loss)
        curves.append(np.array(losses))
    return curves


def _moons(points: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Two half moons: (points, 2), and labels (points,)."""
    labels, angle = np.arange(points) % 2, np.pi * rng.uniform(size=points)
    upper = np.stack([np.cos(angle), np.sin(angle)], 1)
    places = np.where(labels[:, None], [1, 0.5] - upper, upper) - [0.5, 0.25]
    return places + 0.12 * rng.normal(size=(points, 2)), labels


# Recorded runs

SIZES = {"32 × 32 pixels": "", "64 × 64 pixels": "-64px"}  # and how the networks' names end


def layers() -> dict:
    """What each module of Inception receives, as ``layers.js`` wants it: seed 0, equal rates.

    Of each size the steps, and for both networks percentiles, (step, module, 3).
    """
    runs = {}
    for size, suffix in SIZES.items():
        steps, without = experiments.load(f"inception/inception{suffix}", 0).curve("inputs")
        also, with_bn = experiments.load(f"inception/bn-baseline{suffix}", 0).curve("inputs")
        if not np.array_equal(steps, also):
            raise ValueError(f"the two networks at {size} were looked at in other steps")
        both = {"without": without.tolist(), "with": with_bn.tolist()}
        runs[size] = {"steps": steps.tolist(), **both}
    return {"modules": [str(k + 1) for k in range(without.shape[1])], "runs": runs}


def script() -> str:
    """``layers`` as the script that puts it on a page."""
    data = json.dumps(layers(), separators=(",", ":"))
    return f"window.bnkit.explorables.layersData = {data};\n"


SETTINGS: dict[str, Callable[[], object]] = {
    setting.__name__: setting
    for setting in (batch, company, running, jitter, depth, training, layers)
}
