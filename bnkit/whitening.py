"""Standardising and whitening: four linear maps to zero means and unit variances; NumPy only.

Section 2 of the paper calls inputs whitened when they have zero means, unit variances and are
decorrelated. ``standardise`` does the first two things, which is what Batch Normalization does;
``pca``, ``zca`` and, in the limit, ``newton_schulz`` do all three. Each takes a batch and returns
the map it found, a ``Whitening``, to be applied to that batch or to any other::

    whiten = whitening.zca(train)
    train, test = whiten(train), whiten(test)

Shapes throughout: a batch x is (m, d), m examples in rows, d features in columns. Variances are the
biased ones, 1/m, as in Algorithm 1.
"""

from typing import NamedTuple

import numpy as np


class Whitening(NamedTuple):
    """The map x -> (x - mean) @ matrix. Shapes: mean (d,), matrix (d, d), x (m, d) -> (m, d)."""

    mean: np.ndarray
    matrix: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return (np.asarray(x) - self.mean) @ self.matrix


# What a batch looks like


def covariance(x: np.ndarray) -> np.ndarray:
    """The covariance matrix of a batch with 1/m, not 1/(m - 1). Shapes: (m, d) -> (d, d)."""
    x = _batch(x)
    centred = x - x.mean(axis=0)
    return centred.T @ centred / len(x)


def correlation(x: np.ndarray) -> np.ndarray:
    """The correlation matrix of a batch, which standardising leaves. Shapes: (m, d) -> (d, d).

    Raises ValueError for a feature that never varies.
    """
    return covariance(standardise(x)(x))


def rank(x: np.ndarray) -> int:
    """The rank of the covariance matrix of a batch, at most m - 1: centring takes a dimension."""
    x = _batch(x)
    # Of the data, whose singular values are not squared.
    return int(np.linalg.matrix_rank(x - x.mean(axis=0)))


def condition_number(x: np.ndarray) -> float:
    """Largest over smallest eigenvalue of a batch's covariance; infinite where it is singular."""
    if rank(x) < np.shape(x)[1]:
        return float("inf")
    return float(np.linalg.cond(_batch(x) - np.mean(x, axis=0)) ** 2)


# What can be done about it


def standardise(x: np.ndarray, eps: float = 0.0) -> Whitening:
    """Divide each feature by its own standard deviation, sqrt(variance + eps); correlations stay.

    This is x_hat of Algorithm 1, not whitening. Raises ValueError for a constant one, if eps is 0.
    """
    x = _batch(x, eps)
    variance = x.var(axis=0) + eps
    if constant := np.flatnonzero(variance <= 0).tolist():
        raise ValueError(
            f"features {constant[:8]} have the same value in all {len(x)} examples, so their "
            "standard deviation is 0: leave them out, or give eps > 0"
        )
    return Whitening(x.mean(axis=0), np.diag(1 / np.sqrt(variance)))


def pca(x: np.ndarray, eps: float = 0.0) -> Whitening:
    """Rotate into the principal axes, the largest first, and divide by sqrt(eigenvalue + eps).

    The axes are the output's features. Raises ValueError for a singular covariance, if eps is 0.
    """
    mean, eigenvalues, axes = _eigen(x, eps)
    return Whitening(mean, axes / np.sqrt(eigenvalues))


def zca(x: np.ndarray, eps: float = 0.0) -> Whitening:
    """Multiply by Cov[x]^(-1/2), as Section 2 writes whitening: ``pca``, then the rotation back.

    Of all whitening maps it moves the data least. Raises ValueError as ``pca``.
    """
    mean, eigenvalues, axes = _eigen(x, eps)
    return Whitening(mean, axes / np.sqrt(eigenvalues) @ axes.T)


def newton_schulz(x: np.ndarray, iterations: int = 5, eps: float = 0.0) -> Whitening:
    """Approach ``zca`` by matrix products alone, as in Iterative Normalization (Huang et al. 2019).

    Until an axis comes near 1, each iteration multiplies its variance by 9/4, from the share that
    it has in the total. Few iterations thus whiten the large axes and leave the small ones small; a
    singular covariance is no error here.
    """
    if iterations < 0:
        raise ValueError(f"iterations={iterations}: a number of matrix updates cannot be negative")
    x = _batch(x, eps)
    identity = np.eye(x.shape[1], dtype=x.dtype)
    regularised = covariance(x) + eps * identity
    # Divided by it, all eigenvalues are at most 1 and the iteration converges.
    total = np.trace(regularised)
    if total <= 0:
        raise ValueError(f"all {len(x)} examples are equal, so there is no variance to whiten")
    root, inverse_root = regularised / total, identity
    for _ in range(iterations):
        # Coupled, for in P <- (3P - P P P S) / 2, equal on paper, rounding errors grow.
        half_step = (3 * identity - inverse_root @ root) / 2
        root, inverse_root = root @ half_step, half_step @ inverse_root
    return Whitening(x.mean(axis=0), inverse_root / np.sqrt(total))


def _eigen(x: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean (d,), eigenvalues + eps (d,) in falling order, and the axes (d, d), one to a column."""
    x = _batch(x, eps)
    if eps == 0 and rank(x) < x.shape[1]:
        raise ValueError(
            f"the covariance of {len(x)} examples with {x.shape[1]} features has rank {rank(x)} "
            "and cannot be inverted: take more examples or fewer features, or give eps > 0"
        )
    eigenvalues, axes = np.linalg.eigh(covariance(x))
    eigenvalues, axes = eigenvalues[::-1], axes[:, ::-1]
    # An axis and its opposite serve equally well, and the library has no rule: choose.
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])]
    # Rounding leaves the zeros of a singular matrix a little below zero; eps counts from zero.
    return x.mean(axis=0), np.maximum(eigenvalues, 0) + eps, axes * np.sign(largest)


def _batch(x: np.ndarray, eps: float = 0.0) -> np.ndarray:
    if not 0 <= eps < np.inf:
        raise ValueError(f"eps={eps}: what is added to a variance is finite and at least 0")
    x = np.asarray(x)
    x = x if np.issubdtype(x.dtype, np.floating) else x.astype(float)
    if x.ndim != 2:
        raise ValueError(f"a batch has two axes, examples and features; given: shape {x.shape}")
    if not x.shape[1]:
        raise ValueError(f"a batch without features has nothing to whiten; given: shape {x.shape}")
    if len(x) < 2:
        raise ValueError(f"a batch of {len(x)} has no variance: at least 2 examples are needed")
    if not np.isfinite(x).all():
        raise ValueError("a batch must be finite; given: NaN or infinity")
    return x
