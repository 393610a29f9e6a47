"""What several theory chapters use: data with known statistics, averages, a step of descent."""

import numpy as np
from numpy.random import Generator

from bnkit import reference

Array = np.ndarray


def classes_apart(per_class: int, rng: Generator) -> Array:
    """One feature of ten classes, variance 1 within each, 4.36 over all: (10, per_class)."""
    centres = (np.arange(10) - 4.5) * np.sqrt(3.36 / 8.25)  # 8.25 is the variance of 0 to 9
    within = reference.forward(rng.normal(size=(per_class, 10)), np.ones(10), centres, eps=0.0)[0]
    return within.T


def correlated_maps(m: int, side: int, rho: float, maps: int, rng: Generator) -> Array:
    """Maps of mean 0 and variance 1, pixels of an image correlated: (m, maps, side, side)."""
    of_image = rng.normal(size=(m, maps, 1, 1))
    return np.sqrt(rho) * of_image + np.sqrt(1 - rho) * rng.normal(size=(m, maps, side, side))


def averaged(x: Array, batch_size: int) -> reference.Population:
    """Algorithm 2's averages over mini-batches of x (n, d), taken as it stands."""
    d = x.shape[1]
    batches = x[: len(x) // batch_size * batch_size].reshape(-1, batch_size, d)
    columns = batches.transpose(1, 0, 2).reshape(batch_size, -1)  # a feature for each batch
    moments = reference.observe(None, columns)[:2]
    return reference.Population(*(of.reshape(-1, d).mean(axis=0) for of in moments), len(batches))


def step(network, gradient, rate: float):
    """A network, arrays in tuples in tuples, after one step of plain gradient descent."""
    if isinstance(network, np.ndarray):
        return network - rate * gradient
    parts = (step(*pair, rate) for pair in zip(network, gradient, strict=True))
    return network._make(parts) if hasattr(network, "_make") else tuple(parts)
