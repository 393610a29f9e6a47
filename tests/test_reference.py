"""The NumPy reference against the paper, torch, central differences and paper and pencil."""

import inspect
import subprocess
import sys

import numpy as np
import pytest
import torch
from checks import CHECKS, HAND, example, per_feature
from conftest import assert_close
from hypothesis import example as case
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bnkit import reference
from bnkit.reference import Population, backward, fold, forward, infer, observe

# without the batch axis
LAYOUTS = {"vectors": (4,), "sequences": (4, 6), "images": (4, 3, 2), "volumes": (4, 2, 3, 2)}


@pytest.mark.parametrize("name", CHECKS)
def test_named_checks(name):
    CHECKS[name](reference)


# ---- Hand-worked: the intermediates of the table in checks.HAND ----------------------------------


def test_cache_holds_the_intermediates_of_the_hand_worked_batch():
    cache = forward(HAND.x, HAND.gamma, HAND.beta, HAND.eps)[1]
    assert_close(cache.mean, HAND.mean)
    assert_close(cache.var, HAND.var)
    assert_close(cache.inv_std, HAND.inv_std)
    assert_close(cache.x_hat, HAND.x_hat)
    assert_close(cache.gamma, HAND.gamma)


# ---- Oracle: torch, over whole steps -------------------------------------------------------------


@pytest.mark.parametrize("momentum", [0.3, None])
@pytest.mark.parametrize(
    ("layer", "places"),
    [
        (torch.nn.BatchNorm1d, ()),
        (torch.nn.BatchNorm1d, (3,)),
        (torch.nn.BatchNorm2d, (2, 3)),
        (torch.nn.BatchNorm3d, (2, 1, 3)),
    ],
)
def test_two_steps_of_sgd_end_in_the_weights_of_torch(layer, places, momentum):
    """u → Wu → BN → loss: outputs, weights, γ, β and running statistics after each of two steps,
    then inference."""
    rng = np.random.default_rng([1, len(places)])
    weight, gamma, beta = (
        rng.normal(size=(4, 6)),
        np.array([1.5, -0.7, 0.3, -2.0]),
        rng.normal(size=4),
    )
    population = Population(np.zeros(4), np.ones(4), 0)  # as torch starts

    linear = torch.tensor(weight, requires_grad=True)
    norm = layer(4, eps=1e-3, momentum=momentum, dtype=torch.float64)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor(gamma))
        norm.bias.copy_(torch.tensor(beta))
    optimiser = torch.optim.SGD([linear, *norm.parameters()], lr=0.1)

    for _ in range(2):
        u, upstream = rng.normal(size=(5, 6, *places)), rng.normal(size=(5, 4, *places))

        optimiser.zero_grad()
        theirs = norm(torch.einsum("ni...,oi->no...", torch.tensor(u), linear))
        (theirs * torch.tensor(upstream)).sum().backward()
        optimiser.step()

        x = np.einsum("ni...,oi->no...", u, weight)
        y, cache = forward(x, gamma, beta, eps=1e-3)
        dx, dgamma, dbeta = backward(upstream, cache)
        population = observe(population, x, new_weight=momentum)
        weight = weight - 0.1 * per_feature(dx).T @ per_feature(u)
        gamma, beta = gamma - 0.1 * dgamma, beta - 0.1 * dbeta

        assert_close(y, theirs)
        assert_close(weight, linear)
        assert_close(gamma, norm.weight)
        assert_close(beta, norm.bias)
        assert_close(population.mean, norm.running_mean)
        assert_close(population.var, norm.running_var)

    assert population.batches == norm.num_batches_tracked == 2
    assert_close(infer(x, gamma, beta, population, eps=1e-3), norm.eval()(torch.tensor(x)))


# ---- Grid: layout × dtype × batch size -----------------------------------------------------------


@pytest.mark.parametrize(
    "batch_size", [2, 3, 5, 64]
)  # 2: x̂ is ±1; 3 and 5: biased differs from unbiased; 64: long sums
@pytest.mark.parametrize(
    "dtype", [np.float16, np.float32, np.float64]
)  # accuracy, and that the dtype comes back
@pytest.mark.parametrize("layout", LAYOUTS)  # each has its own einsum recipe and broadcast
def test_every_shape_and_dtype_equals_the_plain_formula_in_float64(layout, dtype, batch_size):
    x, gamma, beta, dy = (array.astype(dtype) for array in example(batch_size, *LAYOUTS[layout]))
    y, cache = forward(x, gamma, beta, eps=1e-3)
    dx, dgamma, dbeta = backward(dy, cache)
    population = observe(None, x)
    inferred = infer(x, gamma, beta, population, eps=1e-3)
    assert {array.dtype for array in (y, dx, dgamma, dbeta, inferred)} == {np.dtype(dtype)}
    assert y.shape == dx.shape == inferred.shape == x.shape

    # The same rounded numbers, unfolded, in float64, by the formulas as they are written; dx by
    # their compact form.
    x, dy = per_feature(x).astype(np.float64), per_feature(dy).astype(np.float64)
    gamma, beta, m = gamma.astype(np.float64), beta.astype(np.float64), len(x)
    root = np.sqrt(x.var(axis=0) + 1e-3)
    x_hat = (x - x.mean(axis=0)) / root
    # of two examples dx is what is left of a cancellation, and carries the rounding of its terms
    two = batch_size == 2 and layout == "vectors"
    tolerance = {np.float16: 5e-3, np.float32: 2e-4}.get(dtype) if two else None
    assert_close(per_feature(y), gamma * x_hat + beta)
    assert_close(dgamma, (dy * x_hat).sum(axis=0))
    assert_close(dbeta, dy.sum(axis=0))
    expected = gamma / root * (dy - dy.mean(axis=0) - x_hat * (dy * x_hat).mean(axis=0))
    assert_close(per_feature(dx), expected, tolerance=tolerance)
    # Statistics are float64, and as good as x's own dtype; float16 is computed in float32.
    assert population.mean.dtype == population.var.dtype == np.float64
    of_x = 1e-6 if dtype != np.float64 else 1e-10
    assert_close(population.mean, x.mean(axis=0), tolerance=of_x)
    assert_close(population.var, x.var(axis=0) * m / (m - 1), tolerance=of_x)
    at_inference = gamma * (x - population.mean) / np.sqrt(population.var + 1e-3) + beta
    assert_close(per_feature(inferred), at_inference)


ARRANGEMENTS = {
    "fortran order": np.asfortranarray,
    "channels last": lambda x: np.ascontiguousarray(np.moveaxis(x, 1, -1)).transpose(0, 3, 1, 2),
    "every second value": lambda x: np.repeat(x, 2, axis=2)[:, :, ::2],
    "backwards": lambda x: x[::-1].copy()[::-1],
    "read only": lambda x: np.lib.stride_tricks.as_strided(x, x.shape, x.strides, writeable=False),
    "big endian": lambda x: x.astype(">f8"),
}


@pytest.mark.parametrize("arrange", ARRANGEMENTS.values(), ids=ARRANGEMENTS)
def test_memory_order_does_not_matter(arrange):
    x, gamma, beta, dy = example(5, 4, 3, 2)
    population = observe(None, x)
    y, cache = forward(arrange(x), gamma, beta)
    assert_close(y, forward(x, gamma, beta)[0])
    assert_close(backward(arrange(dy), cache)[0], backward(dy, forward(x, gamma, beta)[1])[0])
    assert_close(observe(None, arrange(x)).var, population.var)
    assert_close(infer(arrange(x), gamma, beta, population), infer(x, gamma, beta, population))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_arguments_stay_as_they_are(dtype):
    x, gamma, beta, dy = (array.astype(dtype) for array in example(5, 4, 3, 2))
    weight, bias = example(4, 3)[0].astype(dtype), example(2, 4)[0][0].astype(dtype)
    population = observe(None, x)
    _, cache = forward(x, gamma, beta)
    arguments = [x, gamma, beta, dy, weight, bias, *population[:2], *cache]
    before = [array.tobytes() for array in arguments]
    forward(x, gamma, beta)
    backward(dy, cache)
    observe(population, x)
    observe(population, x, new_weight=0.1)
    infer(x, gamma, beta, population)
    fold(weight, bias, gamma, beta, population)
    assert [array.tobytes() for array in arguments] == before


def test_a_training_step_in_place_does_not_reach_into_the_cache():
    x, gamma, beta, dy = example(5, 4)
    _, cache = forward(x, gamma, beta)
    before = backward(dy, cache)
    for array in (x, gamma, beta):
        array *= 3.0
    for ours, expected in zip(backward(dy, cache), before, strict=True):
        assert_close(ours, expected, tolerance=0)


# ---- Accuracy ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "shape", [(100_000, 2), (3, 2, 200, 150), (1, 2, 2000, 2000)]
)  # blocks; long sums inside one
def test_long_sums_keep_their_digits(shape, dtype):
    """±0.1 around 0.3: every square is alike, so rounding errors add up instead of cancelling."""
    x = (0.3 + 0.1 * np.random.default_rng(0).choice([-1, 1], size=shape)).astype(dtype)
    exact = per_feature(x).astype(np.longdouble)
    cache = forward(x, np.ones(2), np.zeros(2), eps=0.0)[1]
    tolerance = 1e-4 if dtype == np.float32 else 1e-12
    assert_close(cache.mean, exact.mean(axis=0), tolerance)
    assert_close(cache.var, exact.var(axis=0), tolerance)


def test_a_plain_float32_sum_would_lose_them():
    """So that the test above is known to be able to fail."""
    x = (0.3 + 0.1 * np.random.default_rng(0).choice([-1, 1], size=(100_000, 2))).astype(np.float32)
    assert np.abs(x.var(axis=0) / x.astype(np.float64).var(axis=0) - 1).max() > 2e-4


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_large_mean_leaves_inference_its_digits(dtype):
    """Mean 1e4, spread 1e-2, where scale·x + shift would cancel: 1e6 − 1e6 in float32 is good to
    0.06."""
    x = (1e4 + 1e-2 * np.random.default_rng(1).normal(size=(50, 3))).astype(dtype)
    population = observe(None, x)
    expected = (x.astype(np.float64) - population.mean) / np.sqrt(population.var + 1e-12)
    assert_close(infer(x, np.ones(3), np.zeros(3), population, eps=1e-12), expected, tolerance=1e-6)


def test_an_outlier_does_not_spoil_the_variance():
    x = np.random.default_rng(2).normal(size=(1000, 2)).astype(np.float32)
    x[0] = 1e8
    assert_close(observe(None, x).var, x.astype(np.float64).var(axis=0, ddof=1), tolerance=1e-4)


# ---- Properties ----------------------------------------------------------------------------------

batches = hnp.array_shapes(min_dims=2, max_dims=5, min_side=1, max_side=4).filter(
    lambda s: np.prod(s) // s[1] > 1
)
numbers = st.floats(-100, 100, width=32)


@st.composite
def problems(draw, shapes=batches):
    """A batch of any shape, ties and constant features included; γ of either sign or zero; an
    upstream gradient."""
    shape = draw(shapes)
    x, dy = (
        draw(hnp.arrays(np.float64, shape, elements=numbers)),
        draw(hnp.arrays(np.float64, shape, elements=numbers)),
    )
    gamma, beta = (
        draw(hnp.arrays(np.float64, shape[1], elements=st.floats(-3, 3, width=32))) for _ in "γβ"
    )
    return x, gamma, beta, dy


def terms_of(dy, cache):
    """Size of the terms that dx is the difference of, one number per feature: its rounding is
    relative to them."""
    return np.abs(cache.gamma * cache.inv_std) * np.abs(per_feature(dy)).sum(axis=0) + 1


@given(problems())
@case((np.array([[0.0], [1.0]]), np.ones(1), np.array([1.4e-42]), np.zeros((2, 1))))
@case((np.array([[0.0], [1.0]]), np.array([1.1e-23]), np.ones(1), np.zeros((2, 1))))
def test_output_has_mean_beta_and_variance_gamma_squared_less_the_part_of_eps(problem):
    x, gamma, beta, _ = problem
    y, var = per_feature(forward(x, gamma, beta, eps=1e-3)[0]), per_feature(x).var(axis=0)
    # Sums of up to a hundred: they round like the largest y, beside which β may be nothing.
    largest = np.maximum(np.abs(y).max(axis=0), np.finfo(np.float64).tiny)
    assert_close((y.mean(axis=0) - beta) / largest, np.zeros_like(beta), tolerance=1e-9)
    # Without β, beside which a small γ is rounded away.
    centred = per_feature(forward(x, gamma, np.zeros_like(beta), eps=1e-3)[0])
    assert_close(centred.var(axis=0), gamma**2 * var / (var + 1e-3), tolerance=1e-9)


@given(problems())
def test_gamma_equal_to_the_root_and_beta_to_the_mean_give_x_back(problem):
    x, *_ = problem
    flat = per_feature(x)
    y, _ = forward(x, np.sqrt(flat.var(axis=0) + 1e-3), flat.mean(axis=0), eps=1e-3)
    assert_close(y, x)


@given(problems())
def test_no_normalised_value_exceeds_the_root_of_m_less_one(problem):
    x, gamma, beta, _ = problem
    x_hat = forward(x, gamma, beta, eps=1e-3)[1].x_hat
    assert np.abs(x_hat).max() <= np.sqrt(x.size // x.shape[1] - 1) * (1 + 1e-12)


def test_the_bound_is_reached_by_a_single_outlier():
    x = np.eye(60)[:, :1]
    assert_close(np.abs(forward(x, np.ones(1), np.zeros(1), eps=0.0)[1].x_hat).max(), np.sqrt(59))


@given(problems())
def test_input_gradient_is_orthogonal_to_one_and_to_x_hat_but_for_eps(problem):
    """Σ dx = 0, and Σ dx·x̂ = γ s ε/(σ² + ε) · dγ exactly: of order ε."""
    x, gamma, beta, dy = problem
    _, cache = forward(x, gamma, beta, eps=1e-3)
    dx, dgamma, _ = backward(dy, cache)
    scale = terms_of(dy, cache)
    assert_close(per_feature(dx).sum(axis=0) / scale, np.zeros(len(gamma)))
    left = gamma * cache.inv_std * dgamma * 1e-3 / (cache.var + 1e-3)
    assert_close(((per_feature(dx * cache.x_hat)).sum(axis=0) - left) / scale, np.zeros(len(gamma)))


@given(problems(), st.randoms(use_true_random=False))
def test_permuted_examples_give_permuted_outputs_and_gradients(problem, random):
    x, gamma, beta, dy = problem
    order = random.sample(range(len(x)), len(x))
    y, cache = forward(x, gamma, beta, eps=1e-3)
    y_moved, cache_moved = forward(x[order], gamma, beta, eps=1e-3)
    assert_close(y_moved, y[order])
    difference = backward(dy[order], cache_moved)[0] - backward(dy, cache)[0][order]
    assert_close(per_feature(difference) / terms_of(dy, cache), np.zeros(per_feature(dy).shape))


@given(problems())
def test_a_map_equals_its_unfolding(problem):
    x, gamma, beta, dy = problem
    y, cache = forward(x, gamma, beta, eps=1e-3)
    flat_y, flat_cache = forward(per_feature(x), gamma, beta, eps=1e-3)
    assert_close(per_feature(y), flat_y)
    dx, flat_dx = backward(dy, cache)[0], backward(per_feature(dy), flat_cache)[0]
    assert_close((per_feature(dx) - flat_dx) / terms_of(dy, cache), np.zeros(flat_dx.shape))
    assert_close(observe(None, x).var, observe(None, per_feature(x)).var)


@given(st.integers(0, 10**6), st.floats(0.01, 100), st.sampled_from([(), (3,), (2, 2)]))
def test_scaled_weights_change_nothing_but_divide_their_gradient(seed, a, places):
    """Sec. 3.3; exact at ε = 0 alone."""
    rng = np.random.default_rng(seed)
    u, dy = rng.normal(size=(5, 6, *places)), rng.normal(size=(5, 3, *places))
    weight, gamma, beta = rng.normal(size=(3, 6)), rng.normal(size=3), rng.normal(size=3)

    def step(weight):
        y, cache = forward(np.einsum("ni...,oi->no...", u, weight), gamma, beta, eps=0.0)
        return y, cache.x_hat, per_feature(backward(dy, cache)[0]).T @ per_feature(u)

    y, x_hat, gradient = step(weight)
    y_scaled, _, gradient_scaled = step(a * weight)
    assert_close(y_scaled, y, tolerance=1e-9)  # five examples may lie close together
    assert_close(gradient_scaled, gradient / a, tolerance=1e-9)
    assert_close(step(-a * weight)[1], -x_hat, tolerance=1e-9)  # a negative factor turns x̂ over
    assert_close(
        np.sum(weight * gradient, axis=1) / np.abs(weight * gradient).sum(),
        np.zeros(3),
        tolerance=1e-9,
    )


def test_scale_invariance_ends_where_eps_weighs_as_much_as_the_variance():
    x = example(64, 3)[0]
    small = 1e-3 * x
    std = forward(small, np.ones(3), np.zeros(3), eps=1e-5)[0].std(axis=0)
    assert_close(std, 1e-3 * x.std(axis=0) / np.sqrt(1e-6 * x.var(axis=0) + 1e-5))
    assert std.max() < 0.6


@given(problems(), st.integers(0, 3))
def test_the_bias_before_is_cancelled_and_gets_no_gradient(problem, seed):
    x, gamma, beta, dy = problem
    bias = np.random.default_rng(seed).normal(size=len(gamma)).reshape(-1, *[1] * (x.ndim - 2))
    y, cache = forward(x + bias, gamma, beta, eps=1e-3)
    # x + b is rounded before it arrives, so a tiny x is lost in it: what counts is the error on the
    # scale of gamma
    unbiased = forward(x, gamma, beta, eps=1e-3)[0]
    assert np.abs(y - unbiased).max() <= 1e-8 * max(1, np.abs(gamma).max(), np.abs(unbiased).max())
    scale = np.abs(per_feature(dy)).sum(axis=0) * np.abs(gamma * cache.inv_std) + 1
    assert_close(per_feature(backward(dy, cache)[0]).sum(axis=0) / scale, np.zeros(len(gamma)))


def test_training_sees_the_neighbours():
    x, gamma, beta, _ = example(5, 3)
    moved = x.copy()
    moved[1:] += np.arange(12.0).reshape(4, 3)
    assert np.abs(forward(x, gamma, beta)[0][0] - forward(moved, gamma, beta)[0][0]).min() > 1e-6


@given(problems(), st.integers(1, 6), st.booleans())
def test_a_folded_layer_infers_as_the_two(problem, inputs, has_bias):
    x, gamma, beta, _ = problem
    rng = np.random.default_rng(inputs)
    u, weight = rng.normal(size=(7, inputs)), rng.normal(size=(len(gamma), inputs))
    bias = rng.normal(size=len(gamma)) if has_bias else None
    population = observe(None, x)
    folded_weight, folded_bias = fold(weight, bias, gamma, beta, population, eps=1e-3)
    expected = infer(u @ weight.T + (bias if has_bias else 0.0), gamma, beta, population, eps=1e-3)
    # a(b − E) is rounded once more
    assert_close(u @ folded_weight.T + folded_bias, expected, tolerance=1e-9)


def test_a_folded_convolution_equals_convolution_and_inference():
    rng = np.random.default_rng(4)
    images, weight, bias = (
        rng.normal(size=(2, 3, 6, 5)),
        rng.normal(size=(4, 3, 3, 3)),
        rng.normal(size=4),
    )
    _, gamma, beta, _ = example(5, 4)

    def convolve(weight, bias):
        return torch.nn.functional.conv2d(
            *map(torch.tensor, (images, weight, bias)), padding=1
        ).numpy()

    x = convolve(weight, bias)
    population = observe(None, x)
    assert_close(
        convolve(*fold(weight, bias, gamma, beta, population)), infer(x, gamma, beta, population)
    )


# ---- The population ------------------------------------------------------------------------------


def test_the_first_batch_stands_alone_whatever_its_weight():
    x = example(4, 3)[0]
    for ours, expected in zip(observe(None, x, new_weight=0.1), observe(None, x), strict=True):
        assert_close(ours, expected, tolerance=0)


def test_a_population_that_has_seen_nothing_is_replaced_by_the_plain_average():
    x = example(4, 3)[0]
    population = observe(Population(np.full(3, 5.0), np.full(3, 9.0), 0), x)
    assert_close(population.mean, x.mean(axis=0))
    assert population.batches == 1


def test_a_weight_of_one_forgets_the_past():
    first, second = example(4, 3, seed=1)[0], example(4, 3, seed=2)[0]
    population = observe(observe(None, first), second, new_weight=1)
    assert_close(population.mean, second.mean(axis=0))
    assert population.batches == 2


def test_thousand_batches_average_exactly():
    rng = np.random.default_rng(5)
    batches = [100 + rng.normal(size=(3, 2)) for _ in range(1000)]
    population = None
    for x in batches:
        population = observe(population, x)
    assert_close(
        population.mean, np.mean([x.mean(axis=0) for x in batches], axis=0), tolerance=1e-12
    )
    assert_close(
        population.var, np.mean([x.var(axis=0, ddof=1) for x in batches], axis=0), tolerance=1e-12
    )


def test_inference_takes_one_example_or_none():
    x, gamma, beta, _ = example(5, 4, 3, 2)
    population = observe(None, x)
    assert_close(infer(x[2:3], gamma, beta, population), infer(x, gamma, beta, population)[2:3])
    assert infer(x[:0], gamma, beta, population).shape == (0, 4, 3, 2)


# ---- What is refused, and what the message says --------------------------------------------------

X, GAMMA, BETA, DY = example(4, 3)
POPULATION = observe(None, X)
CACHE = forward(X, GAMMA, BETA)[1]
NAN = np.where(np.arange(3) == 1, np.nan, X)
INFINITE = np.where(np.arange(3) == 2, np.inf, X)
CONSTANT = np.where(np.arange(3) == 0, 0.1, X)

REFUSALS = {
    "integers": (
        lambda: forward(np.arange(6).reshape(3, 2), np.ones(2), np.zeros(2)),
        TypeError,
        "x is int64.*float32",
    ),
    "booleans": (lambda: forward(X > 0, GAMMA, BETA), TypeError, "x is bool"),
    "complex": (lambda: forward(X + 0j, GAMMA, BETA), TypeError, "x is complex128"),
    "no numbers": (lambda: forward([["a", "b"]], GAMMA, BETA), TypeError, "x is <U1"),
    "long doubles": (
        lambda: forward(X.astype(np.longdouble), GAMMA, BETA),
        TypeError,
        "x is (long|float|double)",
    ),
    "a vector": (lambda: forward(X[0], GAMMA, BETA), ValueError, r"x has shape \(3,\).*2-D to 5-D"),
    "six axes": (
        lambda: forward(X.reshape(4, 3, 1, 1, 1, 1), GAMMA, BETA),
        ValueError,
        "2-D to 5-D",
    ),
    "no feature": (
        lambda: forward(X[:, :0], GAMMA[:0], BETA[:0]),
        ValueError,
        "at least one feature",
    ),
    "a batch of one": (
        lambda: forward(X[:1], GAMMA, BETA),
        ValueError,
        "1 value.* per feature.*at least two.*infer",
    ),
    "an empty batch": (lambda: forward(X[:0], GAMMA, BETA), ValueError, "0 value.* per feature"),
    "one image of one place": (
        lambda: forward(X[:1, :, None, None], GAMMA, BETA),
        ValueError,
        "1 value",
    ),
    "gamma too short": (
        lambda: forward(X, GAMMA[:2], BETA),
        ValueError,
        r"gamma has shape \(2,\); 3 features",
    ),
    "beta a scalar": (
        lambda: forward(X, GAMMA, 0.0),
        ValueError,
        r"beta has shape \(\); 3 features",
    ),
    "gamma a column": (
        lambda: forward(X, GAMMA[:, None], BETA),
        ValueError,
        r"gamma has shape \(3, 1\)",
    ),
    "gamma of integers": (lambda: forward(X, np.ones(3, int), BETA), TypeError, "gamma is int64"),
    "eps negative": (
        lambda: forward(X, GAMMA, BETA, eps=-1e-5),
        ValueError,
        "eps is -1e-05.*at least 0",
    ),
    "eps infinite": (lambda: forward(X, GAMMA, BETA, eps=np.inf), ValueError, "eps is inf"),
    "eps NaN": (lambda: forward(X, GAMMA, BETA, eps=np.nan), ValueError, "eps is nan"),
    "eps a string": (
        lambda: forward(X, GAMMA, BETA, eps="1e-5"),
        TypeError,
        "eps is '1e-5'.*number",
    ),
    "eps a truth": (lambda: forward(X, GAMMA, BETA, eps=True), TypeError, "eps is True"),
    "NaN": (lambda: forward(NAN, GAMMA, BETA), ValueError, r"feature\(s\) \[1\].*NaN"),
    "infinity": (
        lambda: forward(INFINITE, GAMMA, BETA),
        ValueError,
        r"feature\(s\) \[2\].*infinity",
    ),
    "too large": (
        lambda: forward(np.float32(1e30) * X.astype("f4"), GAMMA, BETA),
        ValueError,
        "square in float32",
    ),
    "0/0": (
        lambda: forward(CONSTANT, GAMMA, BETA, eps=0),
        ValueError,
        r"feature\(s\) \[0\].*no variance.*eps = 0",
    ),
    "dy of another shape": (
        lambda: backward(DY[:3], CACHE),
        ValueError,
        r"dy has shape \(3, 3\).*\(4, 3\)",
    ),
    "dy of integers": (lambda: backward(np.ones((4, 3), int), CACHE), TypeError, "dy is int64"),
    "dy with NaN": (
        lambda: backward(np.where(np.isnan(NAN), NAN, DY), CACHE),
        ValueError,
        r"\[1\].*NaN",
    ),
    "no cache": (lambda: backward(DY, (X, GAMMA)), TypeError, "cache is tuple.*forward returned"),
    "observing one": (lambda: observe(None, X[:1]), ValueError, "at least two"),
    "observing NaN": (lambda: observe(POPULATION, NAN), ValueError, "NaN"),
    "observing others": (
        lambda: observe(POPULATION, X[:, :2]),
        ValueError,
        r"shape \(3,\).*2 features",
    ),
    "observing integers": (lambda: observe(None, np.ones((4, 3), int)), TypeError, "x is int64"),
    "weight 0": (
        lambda: observe(POPULATION, X, new_weight=0),
        ValueError,
        "new_weight is 0.*share of the new batch",
    ),
    "weight above 1": (
        lambda: observe(POPULATION, X, new_weight=1.1),
        ValueError,
        "new_weight is 1.1",
    ),
    "weight NaN": (lambda: observe(None, X, new_weight=np.nan), ValueError, "new_weight is nan"),
    "weight a truth": (lambda: observe(None, X, new_weight=True), TypeError, "new_weight is True"),
    "no population": (
        lambda: infer(X, GAMMA, BETA, None),
        TypeError,
        "population is NoneType.*observe",
    ),
    "inferring others": (
        lambda: infer(X[:, :2], GAMMA[:2], BETA[:2], POPULATION),
        ValueError,
        r"mean of shape \(3,\)",
    ),
    "negative variance": (
        lambda: infer(X, GAMMA, BETA, POPULATION._replace(var=-POPULATION.var)),
        ValueError,
        "not negative",
    ),
    "infinite mean": (
        lambda: infer(X, GAMMA, BETA, POPULATION._replace(mean=np.full(3, np.inf))),
        ValueError,
        "finite",
    ),
    "0/0 at inference": (
        lambda: infer(X, GAMMA, BETA, POPULATION._replace(var=np.zeros(3)), eps=0.0),
        ValueError,
        r"\[0, 1, 2\].*no variance",
    ),
    "inferring integers": (
        lambda: infer(np.ones((4, 3), int), GAMMA, BETA, POPULATION),
        TypeError,
        "x is int64",
    ),
    "folding a vector": (
        lambda: fold(GAMMA, None, GAMMA, BETA, POPULATION),
        ValueError,
        r"weight has shape \(3,\)",
    ),
    "folding the wrong axis": (
        lambda: fold(X, None, GAMMA, BETA, POPULATION),
        ValueError,
        "4 features need shape",
    ),
    "folding integers": (
        lambda: fold(np.ones((3, 2), int), None, GAMMA, BETA, POPULATION),
        TypeError,
        "weight is int64",
    ),
    "folding a wrong bias": (
        lambda: fold(X.T, BETA[:2], GAMMA, BETA, POPULATION),
        ValueError,
        r"bias has shape \(2,\)",
    ),
    "folding with eps NaN": (
        lambda: fold(X.T, None, GAMMA, BETA, POPULATION, np.nan),
        ValueError,
        "eps is nan",
    ),
}


@pytest.mark.parametrize(("call", "error", "message"), REFUSALS.values(), ids=REFUSALS)
def test_bad_input_is_refused_with_one_clear_error(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_constant_feature_is_beta_with_eps_and_refused_without():
    """Whatever the constant: 0.1 is no binary number, and ten of them do not add up to one."""
    for constant in (0.1, -7e5, 1e-30):
        for dtype in (np.float32, np.float64):
            x = np.full((10, 2), constant, dtype)
            assert_close(
                forward(x, np.ones(2), np.array([3.0, -1.0]))[0],
                np.tile(np.array([3, -1], dtype), (10, 1)),
            )
            with pytest.raises(ValueError, match="no variance"):
                forward(x, np.ones(2), np.zeros(2), eps=0.0)


def test_nan_at_inference_stays_where_it_is():
    y = infer(NAN, GAMMA, BETA, POPULATION)
    assert np.isnan(y[:, 1]).all()
    assert_close(y[:, [0, 2]], infer(X, GAMMA, BETA, POPULATION)[:, [0, 2]], tolerance=0)


# ---- The face ------------------------------------------------------------------------------------


def test_public_names_and_signatures_are_those_of_the_design():
    ours = {
        name: thing
        for name, thing in vars(reference).items()
        if getattr(thing, "__module__", "") == "bnkit.reference"
    }
    public = {name: thing for name, thing in ours.items() if name[0] != "_"}
    assert {
        name: str(inspect.signature(thing))
        for name, thing in public.items()
        if inspect.isfunction(thing)
    } == {
        "forward": "(x, gamma, beta, eps=1e-05)",
        "backward": "(dy, cache)",
        "observe": "(population, x, new_weight=None)",
        "infer": "(x, gamma, beta, population, eps=1e-05)",
        "fold": "(weight, bias, gamma, beta, population, eps=1e-05)",
    }
    assert {name for name, thing in public.items() if inspect.isclass(thing)} == {
        "Cache",
        "Population",
    }
    assert Population._fields == ("mean", "var", "batches")
    assert reference.Cache._fields == ("x_hat", "inv_std", "gamma", "mean", "var")


def test_importing_the_reference_imports_numpy_and_nothing_heavy():
    code = (
        "import sys, bnkit.reference, bnkit.gradcheck\n"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "numpy" in loaded
    assert not {"torch", "matplotlib", "pandas", "scipy", "sklearn", "IPython"} & set(loaded)
