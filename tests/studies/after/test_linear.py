"""The 25-layer linear network: as Santurkar et al. (2018) describe it, and with curves that fit
steps made by hand.
"""

from dataclasses import replace

import numpy as np
import pytest
from conftest import assert_close

from bnkit.networks import landscape
from bnkit.runs.tasks import linear

SMALL = linear.LinearRecipe(norm=True, depth=6, examples=50, learning_rate=1e-5, steps=8)


def test_the_network_is_the_one_described():
    recipe = linear.LinearRecipe(norm=True)
    net, (x, targets) = linear.network(recipe), linear.task(recipe)
    assert len(net.layers) == 25
    assert {layer["weight"].shape for layer in net.layers} == {(1, 10, 10)}
    # Glorot: 2 / (10 + 10)
    assert abs(np.mean([layer["weight"].std() for layer in net.layers]) - 0.1**0.5) < 0.02
    assert x.shape == targets.shape == (1000, 10)
    # the targets are a linear map of the inputs
    assert np.linalg.matrix_rank(np.hstack([x, targets])) == 10
    assert (recipe.learning_rate, recipe.steps) == (1e-6, 3_000)
    without = linear.network(replace(recipe, norm=False))
    for a, b in zip(net.layers, without.layers, strict=True):
        assert np.array_equal(a["weight"], b["weight"])


def test_looks():
    assert linear.looks(0) == [0]
    assert linear.looks(10_000)[:5] == [0, 1, 2, 3, 4]
    assert linear.looks(10_000)[-1] == 10_000


@pytest.mark.parametrize("norm", [True, False])
def test_curves_are_those_of_gradient_descent(norm):
    recipe = replace(SMALL, norm=norm)
    curves = linear.train(recipe)
    net, slope = linear.network(recipe), landscape.squares(*linear.task(recipe))
    for step in range(recipe.steps + 1):
        loss, gradients = slope(net)
        if step in curves["loss"]["steps"]:
            at = curves["loss"]["steps"].index(step)
            assert_close(curves["loss"]["values"][at], loss[0], 1e-3)  # rounded to four digits
            shift = landscape.interference(net, slope, recipe.learning_rate)
            assert_close(curves["layer_cosine"]["values"][at], shift.cosine[:, 0], 1e-3)
            assert_close(curves["layer_change"]["values"][at], shift.change[:, 0], 1e-3)
        for layer, gradient in zip(net.layers, gradients, strict=True):
            for name, value in layer.items():
                value -= recipe.learning_rate * gradient[name]
    assert np.shape(curves["losses_along"]["values"][0]) == (len(linear.LENGTHS),)
    assert curves["loss"]["values"][-1] < curves["loss"]["values"][0]


def test_divergence_is_an_error():
    with pytest.raises(FloatingPointError, match="diverged at step"), np.errstate(all="ignore"):
        linear.train(replace(SMALL, norm=False, learning_rate=10.0))
