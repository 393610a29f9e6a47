"""Batch Normalization as the paper writes it, in NumPy.

Pure functions on arrays. The feature axis is 1, so that ``(m, d)``, ``(N, C, L)``, ``(N, C, H, W)``
and ``(N, C, D, H, W)`` are one case: statistics are taken over all other axes.

Letters: d features; m values of each feature in the batch, which in a convolution is N·H·W (Sec.
3.2); N examples, C channels, D, H, W places. "As x" is the shape of x, any of the four; ``(d,)`` is
one number per feature.

Numbers: float16, float32 and float64 come back as they came (float16 is computed in float32).
Statistics are float64 arrays; in float32 they are good to 1e-4 even where the mean is a million
times the spread, or the sums are long. NaN or infinity in a training batch is refused, since one
such value spoils its feature for every example; ``infer`` passes it on, one value in, one value
out. No function changes its arguments.

"The paper" is Ioffe and Szegedy (2015), arXiv 1502.03167v3.
"""

import functools
import math
from typing import NamedTuple

import numpy as np

FLOATS = (np.float16, np.float32, np.float64)
# Values of a feature that are added one after the other; longer sums lose digits in float32.
LONG = 4096
# Values of a block, so that the few arrays one works on stay in the processor's cache.
BLOCK = 2**17
# For einsum, by the number of factors and of axes: sums over every axis but c.
SUMS = {
    (k, len(axes)): ",".join([axes] * k) + "->c"
    for axes in ("nc", "ncl", "nchw", "ncdhw")
    for k in (1, 2)
}


class Cache(NamedTuple):
    """What ``forward`` computed on its way: for ``backward``, and for the curious."""

    x_hat: np.ndarray
    """x̂, as x; float32 where x is float16."""
    inv_std: np.ndarray
    """1 / √(σ²_B + ε), shape (d,), float64."""
    gamma: np.ndarray
    """γ as it was then, shape (d,)."""
    mean: np.ndarray
    """μ_B, shape (d,), float64."""
    var: np.ndarray
    """σ²_B, biased: divided by m; shape (d,), float64."""


class Population(NamedTuple):
    """What inference uses in place of batch statistics. A value: observing returns a new one."""

    mean: np.ndarray
    """E[x], shape (d,), float64."""
    var: np.ndarray
    """Var[x], unbiased: m / (m − 1) times the batch variance; shape (d,), float64."""
    batches: int
    """How many mini-batches it has seen."""


def forward(x, gamma, beta, eps=1e-5):
    """Normalise a mini-batch by its own statistics: Algorithm 1. Returns ``(y, cache)``.

    Shapes: x is 2-D to 5-D with features on axis 1, y as x; gamma and beta ``(d,)``. `eps` is
    finite and at least 0.

    Raises TypeError for integers and other dtypes; ValueError for wrong shapes, one value per
    feature (it has no variance), NaN or infinity, and a constant feature at ``eps=0`` (0/0).
    """
    x, dtype = _batch(x, eps, gamma=gamma, beta=beta)
    mean, var, x_mu = _moments(x)  #                lines 1 and 2; x_mu holds x_i − μ_B
    inv_std = _inverse_root(var, eps, x.dtype)
    x_hat, y = x_mu, np.empty_like(x)
    s, g, b = _columns(x, inv_std, gamma, beta)
    for x_hat_i, y_i in _blocks(x_hat, y):
        x_hat_i *= s  #                             line 3:  x̂_i ← (x_i − μ_B) / √(σ²_B + ε)
        np.multiply(x_hat_i, g, out=y_i)
        y_i += b  #                                 line 4:  y_i ← γ x̂_i + β
    return y.astype(dtype, copy=False), Cache(x_hat, inv_std, np.array(gamma), mean, var)


def backward(dy, cache):
    """Gradients of a loss through ``forward``, as in Sec. 3. Returns ``(dx, dgamma, dbeta)``.

    Shapes: `dy` = ∂ℓ/∂y as y; dx likewise, in dy's dtype; dgamma and dbeta ``(d,)``, in gamma's
    dtype.

    Raises TypeError for a dtype that is not floating or a cache that ``forward`` did not make;
    ValueError for a shape that is not y's, and for NaN or infinity.
    """
    dy, dtype = _gradient(dy, cache)
    x_hat, inv_std, gamma, *_ = cache
    m, dx, dgamma, dbeta = x_hat.size // len(gamma), np.empty_like(x_hat), None, None
    blocks = _blocks(dy, x_hat, dx)
    for dy_i, x_hat_i, _ in blocks:
        dgamma = _plus(dgamma, _sum(dy_i, x_hat_i))  #   ∂ℓ/∂γ = Σ ∂ℓ/∂y_i · x̂_i
        dbeta = _plus(dbeta, _sum(dy_i))  #              ∂ℓ/∂β = Σ ∂ℓ/∂y_i
    _finite(dgamma, dy)
    _finite(dbeta, dy)

    # With s = 1/√(σ²_B + ε), so that x_i − μ_B = x̂_i / s, the paper's
    #     ∂ℓ/∂x̂_i  = ∂ℓ/∂y_i · γ
    #     ∂ℓ/∂σ²_B = Σ ∂ℓ/∂x̂_i (x_i − μ_B) · (−1/2) s³ = −γ s²/2 · ∂ℓ/∂γ
    #     ∂ℓ/∂μ_B  = Σ ∂ℓ/∂x̂_i · (−s) + ∂ℓ/∂σ²_B · Σ −2 (x_i − μ_B) / m
    #              = −γ s · ∂ℓ/∂β, as Σ (x_i − μ_B) = 0
    #     ∂ℓ/∂x_i  = ∂ℓ/∂x̂_i · s + ∂ℓ/∂σ²_B · 2 (x_i − μ_B) / m + ∂ℓ/∂μ_B / m
    # gather into ∂ℓ/∂x_i = γ s · (∂ℓ/∂y_i − x̂_i · ∂ℓ/∂γ / m − ∂ℓ/∂β / m): exact, for every ε.
    a, b, c = _columns(x_hat, dgamma / m, dbeta / m, gamma * inv_std)
    for dy_i, x_hat_i, dx_i in blocks:
        np.multiply(x_hat_i, a, out=dx_i)  #         through σ²_B
        dx_i += b  #                                 through μ_B
        np.subtract(dy_i, dx_i, out=dx_i)  #         through x̂_i itself
        dx_i *= c  #                                 γ from line 4 and s from line 3
    return dx.astype(dtype, copy=False), dgamma.astype(gamma.dtype), dbeta.astype(gamma.dtype)


def observe(population, x, new_weight=None):
    """The population after one more mini-batch: Algorithm 2, line 10. With None it begins.

    ``new_weight=None`` is the algorithm's plain average: every mini-batch counts the same, E[x] =
    E_B[μ_B] and Var[x] = m/(m − 1) · E_B[σ²_B]. A number in (0, 1] makes it the moving average of
    Sec. 3.1, and is the share of the *new* batch in the running value: PyTorch calls this
    ``momentum``, flax calls one minus this ``momentum``; neither is the optimiser's. The batch that
    starts a population stands alone, whatever its weight; to start as PyTorch does, pass
    ``Population(np.zeros(d), np.ones(d), 0)``.

    Shapes: x as in ``forward``. Raises what ``forward`` raises, TypeError for what is no
    population, and ValueError for another number of features or a weight outside (0, 1].
    """
    x, _ = _batch(x)
    if new_weight is not None and not 0 < _number("new_weight", new_weight) <= 1:
        wanted = "it is the share of the new batch, above 0 and at most 1."
        raise ValueError(f"new_weight is {new_weight}; {wanted}")
    m = x.size // x.shape[1]
    mean, var, _ = _moments(x)
    var *= m / (m - 1)
    if population is None:
        return Population(mean, var, 1)
    old_mean, old_var = _statistics(population, x.shape[1])
    batches = population.batches + 1
    share = 1 / batches if new_weight is None else float(new_weight)
    mean, var = (1 - share) * old_mean + share * mean, (1 - share) * old_var + share * var
    return Population(mean, var, batches)


def infer(x, gamma, beta, population, eps=1e-5):
    """Normalise by the population, each example on its own: Algorithm 2, line 11. Returns y, as x.

    Shapes: as in ``forward``, with any number of examples, also none. Raises likewise.
    """
    x, dtype = _batch(x, eps, least=0, gamma=gamma, beta=beta)
    mean, var = _statistics(population, x.shape[1])
    scale = gamma * _inverse_root(var, eps, x.dtype)  #     γ / √(Var[x] + ε)
    # Line 11: y = scale · x + (β − scale · E[x]). Where E[x] is large these two cancel and float32
    # loses its digits, so x is measured from `origin`, the number of x's dtype nearest to E[x].
    origin = mean.astype(x.dtype)
    o, a, b = _columns(x, origin, scale, beta - scale * (mean - origin))
    y = x - o
    y *= a
    y += b
    return y.astype(dtype, copy=False)


def fold(weight, bias, gamma, beta, population, eps=1e-5):
    """BN as part of the layer before it. Returns its ``(weight, bias)``, in weight's dtype.

    At inference line 11 of Algorithm 2 is one affine map, and so is Wu + b. Together, with a = γ /
    √(Var[x] + ε), they are (aW)u + (β + a(b − E[x])).

    Shapes: `weight` has its d outputs on axis 0, ``(out, in)`` for ``u @ weight.T``, ``(out, in,
    ...)`` for a convolution; `bias` is ``(out,)``, or None for zero; gamma and beta ``(out,)``.
    Raises as ``infer``.
    """
    weight, dtype = _floats("weight", weight)
    if weight.ndim < 2:
        wanted = "it must be (out, in) or (out, in, ...)."
        raise ValueError(f"weight has shape {weight.shape}; {wanted}")
    _check_eps(eps)
    bias = np.zeros(len(weight)) if bias is None else bias
    _check_vectors(len(weight), gamma=gamma, beta=beta, bias=bias)
    mean, var = _statistics(population, len(weight))
    scale = gamma * _inverse_root(var, eps, weight.dtype)
    folded = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
    return folded.astype(dtype), (beta + scale * (bias - mean)).astype(dtype)


# ---- Sums that keep their digits, arrays that stay in the cache ----------------------------------


def _blocks(*arrays):
    """The same few examples of each array, then the next few: small enough to stay in the cache.

    A sum over few examples loses few digits, also in float32; those of all blocks become float64.
    """
    examples, size = len(arrays[0]), arrays[0].size
    if examples <= LONG and size <= BLOCK:
        return [arrays]
    block = max(1, min(LONG, BLOCK * examples // size))
    starts = range(0, examples, block)
    return [[array[start : start + block] for array in arrays] for start in starts]


def _sum(*factors):
    """The sum over every axis but 1, of an array or of the products of two: (d,).

    einsum needs no temporary, but adds one after the other in the arrays' own dtype: a large map
    is taken in pieces, so that no sum gets long.
    """
    shape = factors[0].shape
    if len(shape) > 2 and math.prod(shape[2:]) > LONG:
        rows = [factor.reshape(*shape[:2], -1) for factor in factors]
        starts = range(0, rows[0].shape[2], LONG)
        pieces = (_sum(*(row[..., i : i + LONG] for row in rows)) for i in starts)
        return functools.reduce(_plus, pieces)
    return np.einsum(SUMS[len(factors), len(shape)], *factors)


def _plus(total, sums):
    """The sums so far and those of one more block, (d,): float64 from the second block on."""
    return sums if total is None else np.add(total, sums, dtype=np.float64)


def _finite(sums, x):
    """The sums over x, (d,), refused where they are NaN or infinite."""
    if np.count_nonzero(np.isfinite(sums)) < len(sums):  # .all() goes through Python
        raise ValueError(
            f"feature(s) {np.flatnonzero(~np.isfinite(sums)).tolist()} of the batch hold NaN, "
            f"infinity, or numbers too large to sum or to square in {x.dtype}. Find where they "
            "come from, or scale the batch."
        )
    return sums


def _moments(x):
    """Mean and variance of each feature, (d,), and x minus the mean: Algorithm 1, lines 1 and 2.

    The mean is taken away in two steps, for float32 cannot hold a mean of 1e4 to better than 5e-4,
    which matters where the spread is 1e-2: the second step takes away what rounding the mean has
    left.
    """
    m, x_mu, total, left, square = x.size // x.shape[1], np.empty_like(x), None, None, None
    blocks = _blocks(x, x_mu)
    for x_i, _ in blocks:
        total = _plus(total, _sum(x_i))
    (rounded,) = _columns(x, _finite(total, x) / m)
    for x_i, x_mu_i in blocks:
        np.subtract(x_i, rounded, out=x_mu_i)
        left = _plus(left, _sum(x_mu_i))
    left = left.astype(np.float64) / m
    (late,) = _columns(x, left)
    for _, x_mu_i in blocks:
        x_mu_i -= late
        square = _plus(square, _sum(x_mu_i, x_mu_i))
    mean = rounded.ravel() + left  #                            line 1:  μ_B ← 1/m Σ x_i
    var = _finite(square, x).astype(np.float64) / m  #          line 2:  σ²_B ← 1/m Σ (x_i − μ_B)²
    return mean, var, x_mu


def _inverse_root(var, eps, dtype):
    """1 / √(Var + ε), (d,), refused where it is infinite in `dtype`."""
    root, tiny = np.sqrt(var + eps), np.finfo(dtype).tiny
    if eps <= tiny and (constant := np.flatnonzero(root <= tiny).tolist()):
        raise ValueError(
            f"feature(s) {constant} have no variance, and with eps = {eps} that is a division by "
            "zero. Use a larger eps, such as 1e-5, or a batch in which every feature varies."
        )
    return 1 / root


def _columns(x, *vectors):
    """Vectors of one number per feature, in x's dtype, shaped to broadcast along axis 1 of x."""
    if x.ndim == 2:
        return [np.asarray(vector, x.dtype) for vector in vectors]
    shape = (-1, *[1] * (x.ndim - 2))
    return [np.asarray(vector, x.dtype).reshape(shape) for vector in vectors]


# ---- What is refused -----------------------------------------------------------------------------


def _batch(x, eps=0.0, least=2, **vectors):
    """x to compute with, and its dtype; refuses fewer than `least` values per feature."""
    x, dtype = _floats("x", x)
    if not 2 <= x.ndim <= 5 or not x.shape[1]:
        raise ValueError(
            f"x has shape {x.shape}; it must be 2-D to 5-D, with at least one feature on axis 1."
        )
    if x.size // x.shape[1] < least:
        raise ValueError(
            f"x has shape {x.shape}: {x.size // x.shape[1]} value(s) per feature; a training batch "
            "needs at least two, or there is no variance. Use more examples, or infer with a "
            "population."
        )
    _check_eps(eps)
    _check_vectors(x.shape[1], **vectors)
    return x, dtype


def _floats(name, array):
    """The array, with float16 widened to float32, and the dtype it came in."""
    array = np.asarray(array)
    kind = array.dtype.type
    if kind not in FLOATS:
        allowed = "float16, float32 and float64 are allowed"
        repair = "Convert it, for example with .astype(np.float32)."
        raise TypeError(f"{name} is {array.dtype}; {allowed}. {repair}")
    return array.astype(np.float32) if kind is np.float16 else array, array.dtype


def _number(name, value):
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} is {value!r}; it must be a number.")
    return value


def _check_eps(eps):
    if not 0 <= _number("eps", eps) < np.inf:
        raise ValueError(f"eps is {eps}; it must be finite and at least 0, for example 1e-5.")


def _check_vectors(features, **vectors):
    for name, vector in vectors.items():
        if _floats(name, vector)[0].shape != (features,):
            wanted = f"{features} features need shape ({features},)."
            raise ValueError(f"{name} has shape {np.shape(vector)}; {wanted}")


def _gradient(dy, cache):
    """dy to compute with, and its dtype; refuses one that does not belong to the cache."""
    if not isinstance(cache, Cache):
        wanted = "pass the Cache that forward returned beside y."
        raise TypeError(f"cache is {type(cache).__name__}; {wanted}")
    dy, dtype = _floats("dy", dy)
    if dy.shape != cache.x_hat.shape:
        wanted = f"it must have the shape of y, {cache.x_hat.shape}."
        raise ValueError(f"dy has shape {dy.shape}; {wanted}")
    return dy, dtype


def _statistics(population, features):
    """Mean and variance, float64, of a population of so many features."""
    if not isinstance(population, Population):
        wanted = "make one with observe(None, x)."
        raise TypeError(f"population is {type(population).__name__}; {wanted}")
    mean, var = np.asarray(population.mean, np.float64), np.asarray(population.var, np.float64)
    if mean.shape != (features,) or var.shape != (features,):
        raise ValueError(
            f"the population has a mean of shape {mean.shape} and a var of shape {var.shape}; "
            f"{features} features need ({features},). Observe batches of the same layer."
        )
    if not (np.isfinite([mean, var]).all() and (var >= 0).all()):
        wanted = "finite means, and finite variances that are not negative"
        raise ValueError(f"the population must have {wanted}.")
    return mean, var
