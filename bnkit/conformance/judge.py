"""The judge: batch normalization by any convention, in more digits than what is judged.

``bnkit.reference`` is one convention, the paper's, on one page. Here are the others: variance by m
or m − 1, ε inside the root, outside, or as a floor, running values that begin in five ways, and the
gradients of inference. Plain formulas with no thought of speed. Features are on axis 1.
"""

from typing import NamedTuple

import numpy as np

from bnkit.conformance.step import Step

INSIDE, OUTSIDE, FLOOR = "inside the root", "outside the root", "a floor under the variance"


class Rule(NamedTuple):
    """By which of the usual rules a batch is normalised."""

    epsilon: float = 1e-5
    place: str = INSIDE
    """√(σ² + ε), σ + ε, or √max(σ², ε)."""
    unbiased: bool = False
    """Whether the batch is normalised by the variance with m − 1."""


PAPER = Rule()


def wide(x) -> np.ndarray:
    """x with digits to spare: float64 for 16 and 32 bits, long double for float64.

    Where a long double is no longer than a double, float64 is judged by float64.
    """
    x = np.asarray(x)
    return x.astype(np.longdouble if x.dtype.itemsize >= 8 else np.float64)


def column(vector, x):
    """A vector (d,) shaped to broadcast along axis 1 of x."""
    return np.reshape(vector, (-1, *[1] * (x.ndim - 2)))


def _sum(x):
    return x.sum(axis=(0, *range(2, x.ndim)))


def moments(x):
    """Mean and biased variance of each feature, (d,). Sec. 3, Algorithm 1, lines 1 and 2."""
    x = wide(x)
    m = x.size // x.shape[1]
    # Taking the first value away costs nothing and keeps the digits of a large mean.
    origin = x.reshape(x.shape[0], x.shape[1], -1)[0, :, 0]
    shifted = x - column(origin, x)
    mean = _sum(shifted) / m
    return origin + mean, _sum((shifted - column(mean, x)) ** 2) / m


def inverse_root(var, rule: Rule):
    """What x − μ is multiplied with, and its derivative by the variance; both (d,)."""
    if rule.place == OUTSIDE:
        root = np.sqrt(var)
        s = 1 / (root + rule.epsilon)
        # √ has no slope at 0; there x − μ is 0, and so is whatever it would be multiplied with.
        return s, np.divide(-(s**2), 2 * root, out=np.zeros_like(s), where=root > 0)
    if rule.place == FLOOR:
        s = 1 / np.sqrt(np.maximum(var, rule.epsilon))
        return s, np.where(var > rule.epsilon, -(s**3) / 2, 0)
    s = 1 / np.sqrt(var + rule.epsilon)
    return s, -(s**3) / 2


def train(x, gamma, beta, dy=None, rule: Rule = PAPER) -> Step:
    """One training step, without running values. Shapes: x, dy as in a Step; gamma, beta (d,).

    The gradients are those of Sec. 3 for any divisor n of the variance and any s(σ²):
    ∂ℓ/∂x = γ s (∂ℓ/∂y − mean of ∂ℓ/∂y) + γ s′ · 2 (x − μ)/n · Σ ∂ℓ/∂y (x − μ).
    """
    x = wide(x)
    gamma, beta = (np.asarray(v).astype(x.dtype) for v in (gamma, beta))
    m = x.size // x.shape[1]
    divisor = m - 1 if rule.unbiased else m
    mean, var = moments(x)
    x_mu = x - column(mean, x)
    s, slope = inverse_root(var * m / divisor, rule)
    y = column(gamma * s, x) * x_mu + column(beta, x)
    if dy is None:
        return Step(y)
    dy = wide(dy).astype(x.dtype)
    dbeta, along = _sum(dy), _sum(dy * x_mu)
    dx = column(gamma * s, x) * (dy - column(dbeta / m, x))
    dx += column(gamma * slope * 2 / divisor * along, x) * x_mu
    return Step(y, dx, s * along, dbeta)


def infer(x, gamma, beta, mean, var, dy=None, rule: Rule = PAPER) -> Step:
    """Inference by running values, (d,) each: Algorithm 2, line 11, with its gradients."""
    x = wide(x)
    gamma, beta, mean, var = (np.asarray(v).astype(x.dtype) for v in (gamma, beta, mean, var))
    s, _ = inverse_root(var, rule)
    x_hat = (x - column(mean, x)) * column(s, x)
    y = column(gamma, x) * x_hat + column(beta, x)
    if dy is None:
        return Step(y)
    dy = wide(dy).astype(x.dtype)
    return Step(y, column(gamma * s, x) * dy, _sum(dy * x_hat), _sum(dy))


class Running(NamedTuple):
    """A rule for running values."""

    new_weight: float | None = 0.1
    """The share of a new batch; None: every batch counts the same."""
    start: str = "values"
    """Either "values", or "first batch" (it stands alone), or "debiased"."""
    mean: float = 0.0
    var: float = 1.0
    """What is there before the first batch, where that counts."""
    unbiased: bool = True
    """Whether variances are kept with m − 1."""

    def shares(self, batches: int) -> list[float]:
        """The share of each new batch in the running value that it makes."""
        if self.new_weight is None:
            return [1 / (i + 1) for i in range(batches)]
        if self.start == "debiased":
            # A sum that starts at 0, divided by the sum of its weights, 1 − (1 − w)ᵗ.
            keep = 1 - self.new_weight
            return [(1 - keep) / (1 - keep ** (i + 1)) for i in range(batches)]
        first = 1.0 if self.start == "first batch" else self.new_weight
        return [first, *[self.new_weight] * (batches - 1)]


def observe(batches, running: Running):
    """Running mean and variance after a list of batches; (d,) each. Algorithm 2, line 10."""
    mean, var = wide(running.mean), wide(running.var)
    for x, share in zip(batches, running.shares(len(batches)), strict=True):
        m = x.size // x.shape[1]
        new_mean, new_var = moments(x)
        new_var = new_var * (m / (m - 1) if running.unbiased else 1)
        mean, var = mean + share * (new_mean - mean), var + share * (new_var - var)
    return mean, var


def to_bfloat16(x) -> np.ndarray:
    """The nearest bfloat16 of each number, as float32: ties to even, as hardware does."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    rounded = bits + 0x7FFF + ((bits >> 16) & 1)
    return (rounded & 0xFFFF0000).astype(np.uint32).view(np.float32).reshape(np.shape(x))
