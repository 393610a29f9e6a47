"""What any Batch Normalization of the house must satisfy: named checks, in one place.

Each takes an implementation ``bn`` with the face of ``bnkit.reference`` (the module itself, or a
class with the same functions) and raises AssertionError where it is wrong. Inputs are chosen so
that mistakes show: three to five examples (biased and unbiased variance differ), ε = 1e-3 (its
place matters), random γ with a negative entry, random upstream gradients (``y.sum()`` has input
gradient zero whatever the implementation).
"""

import signal
import subprocess
import sys
import time

import numpy as np
import torch
from conftest import assert_close

from bnkit.gradcheck import numerical_gradient
from bnkit.reference import Population

EPS = 1e-3
CHECKS = {}


def check(function):
    CHECKS[function.__name__] = function
    return function


def example(*shape, seed=0):
    """x, gamma, beta, dy in float64; x with its own mean and spread in each feature."""
    rng = np.random.default_rng([seed, *shape])
    features = shape[1]
    column = (-1, *[1] * (len(shape) - 2))
    x = rng.normal(size=shape) * rng.uniform(0.05, 2, features).reshape(column)
    x += rng.normal(size=features).reshape(column)
    gamma = rng.uniform(0.5, 2, features) * np.where(np.arange(features) % 2, 1, -1)
    return x, gamma, rng.normal(size=features), rng.normal(size=shape)


def per_feature(x):
    """All values of each feature as one column: (N, C, H, W) unfolded to (N·H·W, C)."""
    return np.moveaxis(x, 1, -1).reshape(-1, x.shape[1])


def torch_step(x, gamma, beta, dy):
    """y, dx, dgamma, dbeta by torch's own batch_norm and autograd."""
    leaves = [torch.tensor(array, requires_grad=True) for array in (x, gamma, beta)]
    y = torch.nn.functional.batch_norm(
        leaves[0], None, None, leaves[1], leaves[2], training=True, eps=EPS
    )
    y.backward(torch.tensor(dy))
    return [y, *[leaf.grad for leaf in leaves]]


# ---- Training ------------------------------------------------------------------------------------


@check
def output_mean_is_beta(bn):
    x, gamma, beta, _ = example(4, 3)
    assert_close(bn.forward(x, gamma, beta, EPS)[0].mean(axis=0), beta)


@check
def output_variance_is_exact(bn):
    """γ²σ²/(σ² + ε), not "about γ²"."""
    x, gamma, beta, _ = example(4, 3)
    var = x.var(axis=0)
    assert_close(bn.forward(x, gamma, beta, EPS)[0].var(axis=0), gamma**2 * var / (var + EPS))


@check
def output_equals_torch(bn):
    x, gamma, beta, dy = example(4, 3)
    assert_close(bn.forward(x, gamma, beta, EPS)[0], torch_step(x, gamma, beta, dy)[0])


@check
def input_gradient_equals_torch(bn):
    x, gamma, beta, dy = example(4, 3)
    assert_close(
        bn.backward(dy, bn.forward(x, gamma, beta, EPS)[1])[0], torch_step(x, gamma, beta, dy)[1]
    )


@check
def parameter_gradients_equal_torch(bn):
    x, gamma, beta, dy = example(4, 3)
    _, dgamma, dbeta = bn.backward(dy, bn.forward(x, gamma, beta, EPS)[1])
    expected = torch_step(x, gamma, beta, dy)
    assert_close(dgamma, expected[2])
    assert_close(dbeta, expected[3])


@check
def input_gradient_equals_differences(bn):
    x, gamma, beta, dy = example(4, 3)
    dx = bn.backward(dy, bn.forward(x, gamma, beta, EPS)[1])[0]
    expected = numerical_gradient(
        lambda moved: np.sum(dy * bn.forward(moved, gamma, beta, EPS)[0]), x
    )
    # what central differences can do, see bnkit.gradcheck
    assert_close(dx, expected, tolerance=1e-7)


@check
def parameter_gradients_equal_differences(bn):
    x, gamma, beta, dy = example(4, 3)
    _, dgamma, dbeta = bn.backward(dy, bn.forward(x, gamma, beta, EPS)[1])
    expected = numerical_gradient(
        lambda moved: np.sum(dy * bn.forward(x, moved, beta, EPS)[0]), gamma
    )
    assert_close(dgamma, expected, tolerance=1e-7)  # central differences
    expected = numerical_gradient(
        lambda moved: np.sum(dy * bn.forward(x, gamma, moved, EPS)[0]), beta
    )
    assert_close(dbeta, expected, tolerance=1e-7)  # central differences


@check
def input_gradient_sums_to_zero(bn):
    """A constant added to a feature changes nothing: no part of the gradient points there."""
    x, gamma, beta, dy = example(4, 3)
    assert_close(bn.backward(dy, bn.forward(x, gamma, beta, EPS)[1])[0].sum(axis=0), np.zeros(3))


@check
def maps_equal_their_unfolding(bn):
    """Sec. 3.2: the batch of a feature map is all its values, N·H·W of them."""
    x, gamma, beta, dy = example(3, 4, 2, 5)
    y, cache = bn.forward(x, gamma, beta, EPS)
    dx, dgamma, dbeta = bn.backward(dy, cache)
    flat_y, flat_cache = bn.forward(per_feature(x), gamma, beta, EPS)
    flat_dx, flat_dgamma, flat_dbeta = bn.backward(per_feature(dy), flat_cache)
    assert_close(per_feature(y), flat_y)
    assert_close(per_feature(dx), flat_dx)
    assert_close(dgamma, flat_dgamma)
    assert_close(dbeta, flat_dbeta)


@check
def maps_equal_torch(bn):
    x, gamma, beta, dy = example(3, 4, 2, 5)
    y, cache = bn.forward(x, gamma, beta, EPS)
    for ours, theirs in zip(
        [y, *bn.backward(dy, cache)], torch_step(x, gamma, beta, dy), strict=True
    ):
        assert_close(ours, theirs)


@check
def weights_scale_out(bn):
    """Sec. 3.3, at ε = 0: BN((aW)u) = BN(Wu) and ∂/∂(aW) = 1/a · ∂/∂W for a > 0; for a < 0, x̂
    changes sign."""
    _, gamma, beta, dy = example(5, 3)
    rng = np.random.default_rng(1)
    u, weight = rng.normal(size=(5, 6)), rng.normal(size=(3, 6))

    def step(a):
        y, cache = bn.forward(u @ (a * weight).T, gamma, beta, 0.0)
        return y, bn.backward(dy, cache)[0].T @ u

    y, gradient = step(1.0)
    for a in (0.1, 7.0):
        assert_close(step(a)[0], y)
        assert_close(step(a)[1], gradient / a)
    assert_close(step(-2.0)[0] - beta, beta - y)


@check
def large_mean_in_float32_keeps_the_variance(bn):
    """Mean 1e4, spread 1e-2: a float32 there has a step of 1e-3, and E[x²] − E[x]² nothing left."""
    x = (1e4 + 1e-2 * np.random.default_rng(2).normal(size=(500, 3))).astype(np.float32)
    truth = x.astype(np.float64).var(axis=0)
    y, _ = bn.forward(x, np.ones(3), np.zeros(3), 0.0)
    # the accuracy that is promised
    assert_close(y.astype(np.float64).var(axis=0), np.ones(3), tolerance=1e-3)
    assert_close(y.astype(np.float64).mean(axis=0), np.zeros(3), tolerance=1e-3)
    assert_close(bn.observe(None, x).var, truth * 500 / 499, tolerance=1e-3)


@check
def hand_worked_batch(bn):
    """The 3×2 batch of ``HAND``, worked out on paper."""
    y, cache = bn.forward(HAND.x, HAND.gamma, HAND.beta, HAND.eps)
    dx, dgamma, dbeta = bn.backward(HAND.dy, cache)
    assert_close(y, HAND.y)
    assert_close(dx, HAND.dx)
    assert_close(dgamma, HAND.dgamma)
    assert_close(dbeta, HAND.dbeta)


# ---- The population, and inference ---------------------------------------------------------------


def three_batches():
    return [example(4, 3, seed=seed)[0] for seed in (1, 2, 3)]


@check
def stored_variance_is_unbiased(bn):
    x = example(4, 3)[0]
    population = bn.observe(None, x)
    assert_close(population.mean, x.mean(axis=0))
    assert_close(population.var, x.var(axis=0, ddof=1))


@check
def population_is_the_plain_average(bn):
    """Algorithm 2, line 10: means of the batch means and of the batch variances, the latter times
    m/(m − 1)."""
    population = None
    for x in three_batches():
        population = bn.observe(population, x)
    assert_close(
        population.mean, np.mean([x.mean(axis=0) for x in three_batches()], axis=0), tolerance=1e-12
    )
    assert_close(
        population.var,
        np.mean([x.var(axis=0, ddof=1) for x in three_batches()], axis=0),
        tolerance=1e-12,
    )
    assert population.batches == 3


@check
def moving_average_equals_torch(bn):
    """torch's ``momentum`` is our ``new_weight``; 0.3, for at 0.5 old and new are alike."""
    layer = torch.nn.BatchNorm1d(3, momentum=0.3, dtype=torch.float64)
    population = Population(np.zeros(3), np.ones(3), 0)
    for x in three_batches():
        layer(torch.tensor(x))
        population = bn.observe(population, x, new_weight=0.3)
    assert_close(population.mean, layer.running_mean)
    assert_close(population.var, layer.running_var)


@check
def inference_equals_torch(bn):
    x, gamma, beta, _ = example(5, 3)
    population = Population(np.array([0.5, -1.0, 3.0]), np.array([0.01, 2.0, 0.5]), 7)
    statistics = [torch.tensor(array) for array in (population.mean, population.var, gamma, beta)]
    expected = torch.nn.functional.batch_norm(torch.tensor(x), *statistics, training=False, eps=EPS)
    assert_close(bn.infer(x, gamma, beta, population, EPS), expected)


@check
def inference_ignores_the_neighbours(bn):
    """The same example, alone and among others, bit by bit; Sec. 3.1: the output depends on the
    input only."""
    x, gamma, beta, _ = example(5, 3)
    population = Population(np.array([0.5, -1.0, 3.0]), np.array([0.01, 2.0, 0.5]), 7)
    together = bn.infer(x, gamma, beta, population, EPS)
    for i in range(5):
        assert_close(
            bn.infer(x[i : i + 1], gamma, beta, population, EPS), together[i : i + 1], tolerance=0
        )


@check
def folded_layer_equals_the_two(bn):
    rng = np.random.default_rng(3)
    u, weight, bias = rng.normal(size=(4, 6)), rng.normal(size=(3, 6)), rng.normal(size=3)
    _, gamma, beta, _ = example(5, 3)
    population = Population(np.array([0.5, -1.0, 3.0]), np.array([0.01, 2.0, 0.5]), 7)
    for given in (bias, None):
        x = u @ weight.T + (0.0 if given is None else given)
        folded_weight, folded_bias = bn.fold(weight, given, gamma, beta, population, EPS)
        assert_close(u @ folded_weight.T + folded_bias, bn.infer(x, gamma, beta, population, EPS))


@check
def hand_worked_inference(bn):
    population = bn.observe(None, HAND.x)
    assert_close(population.mean, HAND.mean)
    assert_close(population.var, HAND.unbiased)
    assert_close(
        bn.infer(HAND.one, HAND.gamma, HAND.beta, population, HAND.inference_eps), HAND.one_y
    )
    weight, bias = bn.fold(
        HAND.weight, HAND.bias, HAND.gamma, HAND.beta, population, HAND.inference_eps
    )
    assert_close(weight, HAND.folded_weight)
    assert_close(bias, HAND.folded_bias)


class HAND:
    """Three examples of two features, small enough for paper: ε = 1/3 and 3 make every root a whole
    number.

    |              | feature 1              | feature 2                  |                    |
    | ------------ | ---------------------- | -------------------------- | ------------------ |
    | x            | 1, 2, 3                | 11, 13, 6                  |                    |
    | μ            | 6/3 = 2                | 30/3 = 10                  |                    |
    | x − μ        | −1, 0, 1               | 1, 3, −4                   |                    |
    | σ²           | 2/3                    | 26/3                       | biased: /m         |
    | σ² + 1/3     | 1                      | 9                          | so s = 1, 1/3      |
    | x̂            | −1, 0, 1               | 1/3, 1, −4/3               |                    |
    | γ, β         | 2, 1                   | −3, 5                      | given              |
    | y            | −1, 1, 3               | 4, 2, 9                    |                    |
    | ∂ℓ/∂y        | 2, 1, 3                | 3, 0, 3                    | given              |
    | ∂ℓ/∂β        | 6                      | 6                          |                    |
    | ∂ℓ/∂γ        | −2 + 0 + 3 = 1         | 1 + 0 − 4 = −3             |                    |
    | ∂ℓ/∂x̂        | 4, 2, 6                | −9, 0, −9                  |                    |
    | ∂ℓ/∂σ²       | (−4 + 6) · (−1/2) = −1 | (−9 + 36) · (−1/54) = −1/2 |                    |
    | ∂ℓ/∂μ        | −12                    | 18/3 = 6                   |                    |
    | ∂ℓ/∂x        | 4 + 2/3 − 4 = 2/3      | −3 − 1/3 + 2 = −4/3        | example 1          |
    |              | 2 + 0 − 4 = −2         | 0 − 1 + 2 = 1              | example 2          |
    |              | 6 − 2/3 − 4 = 4/3      | −3 + 4/3 + 2 = 1/3         | example 3          |
    | σ² · 3/2     | 1                      | 13                         | population: /(m−1) |
    | √(… + 3)     | 2                      | 4                          | inference, ε = 3   |
    | x            | 4                      | 2                          | another example    |
    | y            | 2·(4 − 2)/2 + 1 = 3    | −3·(2 − 10)/4 + 5 = 11     |                    |
    | a            | 2/2 = 1                | −3/4                       | γ / √(Var + ε)     |
    | W            | 1, 2                   | 4, 0                       | the layer before   |
    | b            | 1                      | −2                         |                    |
    | aW           | 1, 2                   | −3, 0                      | folded             |
    | β + a(b − μ) | 1 + 1·(1 − 2) = 0      | 5 − 3/4·(−2 − 10) = 14     | folded             |
    """

    x = np.array([[1.0, 11.0], [2.0, 13.0], [3.0, 6.0]])
    eps = 1 / 3
    mean = np.array([2.0, 10.0])
    var = np.array([2 / 3, 26 / 3])
    inv_std = np.array([1.0, 1 / 3])
    x_hat = np.array([[-1.0, 1 / 3], [0.0, 1.0], [1.0, -4 / 3]])
    gamma = np.array([2.0, -3.0])
    beta = np.array([1.0, 5.0])
    y = np.array([[-1.0, 4.0], [1.0, 2.0], [3.0, 9.0]])
    dy = np.array([[2.0, 3.0], [1.0, 0.0], [3.0, 3.0]])
    dx = np.array([[2 / 3, -4 / 3], [-2.0, 1.0], [4 / 3, 1 / 3]])
    dgamma = np.array([1.0, -3.0])
    dbeta = np.array([6.0, 6.0])
    unbiased = np.array([1.0, 13.0])
    inference_eps = 3.0
    one = np.array([[4.0, 2.0]])
    one_y = np.array([[3.0, 11.0]])
    weight = np.array([[1.0, 2.0], [4.0, 0.0]])
    bias = np.array([1.0, -2.0])
    folded_weight = np.array([[1.0, 2.0], [-3.0, 0.0]])
    folded_bias = np.array([0.0, 14.0])


# ---- A real kill -9 ------------------------------------------------------------------------------


def killed_at(place, code):
    """Run Python `code`, whose argument is the file `place`, and kill it once that file is there."""
    process = subprocess.Popen([sys.executable, "-c", code, str(place)])
    while not place.exists():
        assert process.poll() is None, "it ended before its first checkpoint"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
