"""Moving weights: a trained layer's answers stay what they were, between any two conventions."""

import itertools

import numpy as np
import pytest
import torch
from conftest import assert_close

from bnkit.conformance import examine, judge, recipe
from bnkit.conformance.judge import FLOOR, INSIDE, OUTSIDE, Rule, Running
from bnkit.conformance.recipe import Weights
from bnkit.conformance.variants import Variant

RULES = [Rule(e, place) for e, place in itertools.product((1e-3, 1e-5), (INSIDE, OUTSIDE, FLOOR))]
WEIGHTS = Weights(
    np.array([1.0, -2.0, 0.5, 0.0, 3.0]), np.array([0.0, 1.0, -1.0, 2.0, 0.5]),
    np.array([0.5, 0.0, -3.0, 1.0, 2.0]), np.array([0.0, 1e-6, 1e-3, 1.0, 40.0]),
)  # fmt: skip


def answers(weights, rule):
    x = np.random.default_rng(0).normal(size=(6, 5))
    return judge.infer(x, *weights, rule=rule).y.astype(np.float64)


@pytest.mark.parametrize("source", RULES, ids=str)
@pytest.mark.parametrize("target", RULES, ids=str)
def test_answers_stay_between_any_two_rules(source, target):
    moved = recipe.move(WEIGHTS, source, target)
    # σ² + ε may cancel to the last digits of 1e-5 beside 40, and no further
    assert_close(answers(moved, target), answers(WEIGHTS, source), tolerance=1e-9)
    assert (moved.var >= 0).all()


def test_nothing_changes_where_the_rule_is_the_same():
    for moved, kept in zip(recipe.move(WEIGHTS, RULES[0], RULES[0]), WEIGHTS, strict=True):
        assert_close(moved, kept, tolerance=1e-13)


def test_copying_alone_would_not_do():
    difference = answers(WEIGHTS, Rule(1e-3)) - answers(WEIGHTS, Rule(1e-5))
    assert np.abs(difference).max() > 1


def trained(variant, batches=30):
    state = None
    for seed in range(batches):
        x = np.random.default_rng(seed).normal([1, 2, 3], [0.05, 1, 5], size=(20, 3))
        state = variant.step(x, np.ones(3), np.zeros(3), np.zeros_like(x), state).state
    return state


def test_weights_of_torch_go_to_a_layer_with_the_conventions_of_keras_and_back():
    """By cards alone: ε, and what momentum means, are what was inferred."""
    keras = Variant(Rule(1e-3), Running(0.01, unbiased=False), -1)
    torchs = Variant(Rule(1e-5), Running(0.1))
    cards = [
        examine(v.step, v.infer, momentum=m).conventions for v, m in ((torchs, 0.1), (keras, 0.99))
    ]
    mean, var, _ = trained(torchs)
    gamma, beta = np.array([1.0, 2.0, -1.0]), np.array([0.0, 1.0, 2.0])
    layer = torch.nn.BatchNorm1d(3, dtype=torch.float64).eval()
    weights = Weights(gamma, beta, mean, var)
    names = ("weight", "bias", "running_mean", "running_var")
    values = {k: torch.tensor(np.asarray(v, float)) for k, v in zip(names, weights, strict=True)}
    layer.load_state_dict(values, strict=False)
    x = np.random.default_rng(1).normal(size=(7, 3))
    expected = layer(torch.tensor(x))

    there = recipe.between(weights, *cards)
    y = keras.infer(x, *there[:2], np.ones_like(x), keras.load(*there[2:])).y
    assert_close(y, expected)
    back = recipe.between(there, *cards[::-1])
    assert_close(torchs.infer(x, *back[:2], np.ones_like(x), torchs.load(*back[2:])).y, expected)

    assert recipe.momentum(*cards) == pytest.approx(0.9)
    assert recipe.momentum(*cards[::-1]) == pytest.approx(0.01)
    assert recipe.variance_factor(*cards, m=20) == pytest.approx(19 / 20)


def test_momentum_and_factor_make_running_values_alike():
    """Training goes on in the other layer: the mean is the same, the variance by the factor."""
    one, other = Variant(running=Running(0.2)), Variant(running=Running(0.2, unbiased=False))
    mean = [trained(v)[0] for v in (one, other)]
    assert_close(*(np.asarray(m, float) for m in mean))
    var = [np.asarray(trained(v)[1] - 0.8**30, float) for v in (one, other)]
    assert_close(var[1], var[0] * 19 / 20)


def test_what_is_not_known_is_not_made_up():
    nothing = {"new_weight": "not reported", "running_variance": "not reported"}
    known = {"new_weight": 0.1, "momentum": "not given", "running_variance": "biased"}
    assert recipe.momentum(nothing, known) is None
    assert recipe.momentum(known, known) is None
    assert recipe.variance_factor(known, nothing, 20) is None


def test_the_epsilon_of_inference_counts():
    conventions = {"epsilon": 1e-5, "inference_epsilon": 1e-3, "epsilon_place": INSIDE}
    assert recipe.at_inference(conventions) == Rule(1e-3)
    assert recipe.at_inference(conventions | {"inference_epsilon": "as in training"}) == Rule(1e-5)
