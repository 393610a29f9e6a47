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

    x_hat: Array  # (x − c μ) / r
    away: Array  # (x − k μ) / r
    root: Array  # r, (R, 1, d)
    gamma: Array  # (R, 1, d)
    switches: tuple[Array, Array, Array]  # c, whether there is a scale, k; (R, 1, 1) each


def switches(parts: list[Part], dtype: type) -> tuple[Array, Array, Array]:
    """The three columns of `parts`, one for each network, as 0 or 1: (R, 1, 1) each."""
    return tuple(np.array(column, dtype)[:, None, None] for column in zip(*parts, strict=True))


def forward(
    x: Array, gamma: Array, beta: Array, on: tuple[Array, Array, Array], eps: float,
    moments: tuple[Array, Array] | None = None,
) -> tuple[Array, Cache]:  # fmt: skip
    """gamma (x − c μ) / r + beta, and its cache.

    Shapes: x (R, m, d), gamma and beta (R, d) -> (R, m, d). `moments` are mean and variance (R, d)
    to use in the place of the mini-batch's, as at inference.
    """
    centre, scale, about_mean = on
    gamma, beta = gamma[:, None], beta[:, None]
    mean = x.mean(1, keepdims=True) if moments is None else moments[0][:, None]
    away = x - about_mean * mean
    if moments is None:
        square = np.einsum("rmd,rmd->rd", away, away)[:, None] / x.shape[1]
    else:
        square = moments[1][:, None] + ((1 - about_mean) * mean) ** 2  # E[x²] = Var[x] + E[x]²
    root = 1 + scale * (np.sqrt(square + eps) - 1)
    x_hat = x - centre * mean
    x_hat /= root
    away /= root
    y = gamma * x_hat
    y += beta
    return y, Cache(x_hat, away, root, gamma, on)


def backward(dy: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """Gradients for x, gamma and beta from that for the output, through mean and scale.

    dμ/dx = 1/m and dr/dx = (x − k μ) / (m r), hence, with s = 1 where there is a scale,
    dx = γ/r (dy − c Σdy / m − s (x − k μ)/r Σ(dy x̂) / m). Shapes: (R, m, d) -> (R, m, d), (R, d)
    twice.
    """
    centre, scale, _ = cache.switches
    dgamma, dbeta = np.einsum("rmd,rmd->rd", dy, cache.x_hat), dy.sum(1)
    m = dy.shape[1]
    dx = dy - centre * dbeta[:, None] / m
    dx -= (scale * dgamma[:, None] / m) * cache.away
    dx *= cache.gamma / cache.root
    return dx, dgamma, dbeta
