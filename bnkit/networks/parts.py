"""Batch normalization in parts: subtract the mean, divide by a scale, either alone or both.

    y = (x − c μ) / r,   r = 1  or  r = √(mean((x − k μ)²) + ε)

c = 1 takes the mean μ of the mini-batch away. With k = 1 the scale is the standard deviation,
with k = 0 the root mean square. c = k = 1 is Algorithm 1 before gamma and beta.

Many networks at once, each with parts of its own. Letters: R networks, m examples, d units.
"""

from typing import NamedTuple

import numpy as np

Array = np.ndarray


class Part(NamedTuple):
    """What is done to one network's x."""

    centre: bool  # c: subtract the mean of the mini-batch
    scale: bool  # divide by r, or leave it out
    about_mean: bool  # k: r is the deviation, and not the root mean square


KINDS = {
    "nothing": Part(False, False, False),
    "mean": Part(True, False, False),
    "deviation": Part(False, True, True),
    "root mean square": Part(False, True, False),
    "both": Part(True, True, True),
}


class Cache(NamedTuple):
    """What ``backward`` needs; shapes as in ``forward``."""

    y: Array  # (x − c μ) / r
    z: Array  # (x − k μ) / r
    root: Array  # r, (R, 1, d)
    switches: tuple[Array, Array, Array]  # c, whether there is a scale, k; (R, 1, 1) each


def switches(parts: list[Part], dtype: type) -> tuple[Array, Array, Array]:
    """The three columns of `parts`, one for each network, as 0 or 1: (R, 1, 1) each."""
    return tuple(np.array(column, dtype)[:, None, None] for column in zip(*parts, strict=True))


def forward(
    x: Array, on: tuple[Array, Array, Array], eps: float, moments: tuple | None = None
) -> tuple[Array, Cache]:
    """y and its cache, x (R, m, d) -> (R, m, d).

    `moments` are mean and variance (R, 1, d) to use in the place of the mini-batch's, as at
    inference.
    """
    centre, scale, about_mean = on
    if moments is None:
        mean = x.mean(1, keepdims=True)
        away = x - about_mean * mean
        square = np.einsum("rmd,rmd->rd", away, away)[:, None] / x.shape[1]
    else:
        mean, variance = moments
        away = x - about_mean * mean
        square = variance + ((1 - about_mean) * mean) ** 2  # E[x²] = Var[x] + E[x]²
    root = 1 + scale * (np.sqrt(square + eps) - 1)
    y, z = (x - centre * mean) / root, away / root
    return y, Cache(y, z, root, on)


def backward(dy: Array, cache: Cache) -> Array:
    """The gradient for x from that for y, through mean and scale of the mini-batch: (R, m, d).

    dμ/dx = 1/m and dr/dx = (x − k μ) / (m r), hence
    dx = (dy − c mean(dy) − s z mean(dy y)) / r.
    """
    centre, scale, _ = cache.switches
    m = dy.shape[1]
    along = np.einsum("rmd,rmd->rd", dy, cache.y)[:, None] / m
    dx = dy - centre * dy.mean(1, keepdims=True)
    dx -= scale * along * cache.z
    return dx / cache.root
