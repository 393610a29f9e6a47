"""The judge against its own witnesses: the reference, torch, differences, cases worked by hand."""

import itertools

import numpy as np
import pytest
import torch
from conftest import assert_close

from bnkit import reference
from bnkit.conformance import judge
from bnkit.conformance.judge import FLOOR, INSIDE, OUTSIDE, Rule, Running
from bnkit.gradcheck import numerical_gradient

RULES = [Rule(1e-2, *rest) for rest in itertools.product((INSIDE, OUTSIDE, FLOOR), (False, True))]
SHAPES = [(6, 3), (3, 4, 2, 5)]


def arrays(*shape):
    rng = np.random.default_rng(list(shape))
    d = shape[1]
    spread = np.array([1e-2, 1.0, 2.0, 0.5])[:d].reshape(-1, *[1] * (len(shape) - 2))
    x = rng.normal(size=shape) * spread + 1  # the first channel is below the floor of σ² = 1e-2
    return x, rng.uniform(0.5, 2, d), rng.normal(size=d), rng.normal(size=shape)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_papers_rule_is_the_references(shape):
    x, gamma, beta, dy = arrays(*shape)
    y, cache = reference.forward(x, gamma, beta, 1e-3)
    right = (y, *reference.backward(dy, cache))
    for found, expected in zip(judge.train(x, gamma, beta, dy, Rule(1e-3)), right, strict=False):
        assert_close(found.astype(np.float64), expected, tolerance=1e-13)


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_of_every_rule_are_the_differences(rule, shape):
    x, gamma, beta, dy = arrays(*shape)
    step = judge.train(x, gamma, beta, dy, rule)
    for name, index in (("dx", 0), ("dgamma", 1), ("dbeta", 2)):

        def loss(moved, index=index):
            given = [x, gamma, beta]
            given[index] = moved
            return float(np.sum(dy * judge.train(*given, rule=rule).y))

        expected = numerical_gradient(loss, (x, gamma, beta)[index])
        # central differences in float64; a divisor of 1e-2 costs two digits
        assert_close(getattr(step, name).astype(np.float64), expected, tolerance=1e-6)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_gradients_of_inference_are_the_differences(rule):
    x, gamma, beta, dy = arrays(6, 3)
    mean, var = np.array([0.5, -1.0, 3.0]), np.array([1e-3, 2.0, 0.5])
    step = judge.infer(x, gamma, beta, mean, var, dy, rule)
    for name, index in (("dx", 0), ("dgamma", 1), ("dbeta", 2)):

        def loss(moved, index=index):
            given = [x, gamma, beta]
            given[index] = moved
            return float(np.sum(dy * judge.infer(*given, mean, var, rule=rule).y))

        expected = numerical_gradient(loss, (x, gamma, beta)[index])
        assert_close(getattr(step, name).astype(np.float64), expected, tolerance=1e-6)


def test_inference_is_the_references():
    x, gamma, beta, _ = arrays(6, 3)
    population = reference.Population(np.array([0.5, -1.0, 3.0]), np.array([0.01, 2.0, 0.5]), 7)
    found = judge.infer(x, gamma, beta, population.mean, population.var).y
    expected = reference.infer(x, gamma, beta, population)
    assert_close(found.astype(np.float64), expected, tolerance=1e-13)


def test_every_divisor_by_hand():
    """Two values, 0 and 4: μ = 2, σ² = 4, with m − 1 it is 8; x̂ of the second is 2 over the
    divisor."""
    x, one, zero = np.array([[0.0], [4.0]]), np.ones(1), np.zeros(1)
    divisors = {
        Rule(12.0): 4,  # √(4 + 12)
        Rule(1.0, unbiased=True): 3,  # √(8 + 1)
        Rule(2.0, OUTSIDE): 4,  # √4 + 2
        Rule(25.0, FLOOR): 5,  # √max(4, 25)
        Rule(1.0, FLOOR): 2,  # √max(4, 1)
    }
    for rule, divisor in divisors.items():
        assert_close(
            judge.train(x, one, zero, rule=rule).y.ravel().astype(float),
            np.array([-2, 2]) / divisor,
            tolerance=1e-15,
        )


# ---- Running values ------------------------------------------------------------------------------


def batches():
    return [np.random.default_rng(i).normal(i, 2, size=(5, 3)) for i in range(3)]


@pytest.mark.parametrize("new_weight", [0.3, None])
def test_observe_is_torchs(new_weight):
    layer = torch.nn.BatchNorm1d(3, momentum=new_weight, dtype=torch.float64)
    for x in batches():
        layer(torch.tensor(x))
    begins = "first batch" if new_weight is None else "values"
    mean, var = judge.observe(batches(), Running(new_weight, begins))
    assert_close(np.asarray(mean, float), layer.running_mean, tolerance=1e-13)
    assert_close(np.asarray(var, float), layer.running_var, tolerance=1e-13)


def test_observe_begins_with_the_first_batch_as_the_reference():
    population = None
    for x in batches():
        population = reference.observe(population, x, 0.3)
    mean, var = judge.observe(batches(), Running(0.3, "first batch"))
    assert_close(np.asarray(mean, float), population.mean, tolerance=1e-13)
    assert_close(np.asarray(var, float), population.var, tolerance=1e-13)


def test_debiasing_by_hand():
    """One feature, batches of means 1, 3, 5, share 1/2: hidden 1/2, 7/4, 27/8 over 1/2, 3/4, 7/8."""
    xs = [np.array([[mean - 1.0], [mean + 1.0]]) for mean in (1, 3, 5)]
    for count, right in enumerate((1, 7 / 3, 27 / 7), start=1):
        mean, var = judge.observe(xs[:count], Running(0.5, "debiased", unbiased=False))
        assert_close(np.asarray(mean, float), np.array([right]), tolerance=1e-15)
        assert_close(np.asarray(var, float), np.array([1.0]), tolerance=1e-15)


def test_bfloat16_is_torchs():
    x = np.random.default_rng(0).normal(size=1000).astype(np.float32) * 10.0 ** np.arange(
        -10, 10, 0.02
    )
    x = np.append(x, [0, 1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8]).astype(np.float32)  # ties
    expected = torch.tensor(x).bfloat16().float().numpy()
    assert np.array_equal(judge.to_bfloat16(x), expected)
    assert (judge.to_bfloat16(x) != x).any()
