"""Chapter 1: the theory against other ways to get it, the measurements against what is known
exactly.
"""

import numpy as np
import pytest
import torch
from conftest import assert_close
from scipy import integrate, stats

from bnkit import reference
from bnkit.networks import many_numpy
from bnkit.studies import gradients


def measured(activation, init, **options):
    passed = gradients.backpropagate(
        activation, init, **({"depth": 20, "width": 100, "seeds": 3} | options)
    )
    return gradients.growth(passed.sizes).mean()


def test_growth_by_hand():
    #               layer 1  layer 2  layer 3    (8 / 2) ** (1 / 2) = 2, (9 / 1) ** (1 / 2) = 3
    sizes = np.array([[8.0, 100.0, 2.0], [9.0, 3.0, 1.0]])
    assert gradients.growth(sizes).tolist() == [2, 3]


# Theory


@pytest.mark.parametrize(
    ("activation", "expected"), [("relu", np.pi / (np.pi - 1)), ("linear", 1.0)]
)
def test_growth_with_bn_in_closed_form(activation, expected):
    # the quadrature at the kink of a ReLU
    assert abs(gradients.with_bn(activation) - expected) < 1e-5


@pytest.mark.parametrize(("activation", "expected"), [("sigmoid", 1.034), ("tanh", 1.178)])
def test_growth_with_bn_by_adaptive_quadrature(activation, expected):
    g = many_numpy.ACTIVATIONS[activation]

    def mean(f):
        return integrate.quad(lambda z: f(np.array(z)) * stats.norm.pdf(z), -10, 10)[0]

    by_quad = mean(lambda z: g.slope(z) ** 2) / (
        mean(lambda z: g.value(z) ** 2) - mean(g.value) ** 2
    )
    assert abs(gradients.with_bn(activation) - by_quad) < 1e-7
    assert abs(by_quad - expected) < 1e-3


@pytest.mark.parametrize("gain", [0.5, 2**0.5, 3.0])
def test_mean_field_of_relu_and_linear_is_exact(gain):
    assert abs(gradients.mean_field("relu", gain, depth=7) / (gain**2 / 2) - 1) < 1e-6
    assert abs(gradients.mean_field("linear", gain, depth=7) / gain**2 - 1) < 1e-9
    assert abs(gradients.mean_field("relu", gain, depth=7, keep=0.5) / gain**2 - 1) < 1e-6


def test_mean_field_of_the_sigmoid_at_its_fixed_point():
    """Deep down q = E[g(sqrt(q) z)²]: iterate that with another quadrature."""
    z, weight = np.polynomial.hermite_e.hermegauss(60)
    weight = weight / weight.sum()
    sigmoid, q = (lambda s: 1 / (1 + np.exp(-s))), 0.3
    for _ in range(50):
        q = weight @ sigmoid(np.sqrt(q) * z) ** 2
    slope = sigmoid(np.sqrt(q) * z) * (1 - sigmoid(np.sqrt(q) * z))
    assert (
        abs(gradients.mean_field("sigmoid", "Xavier", depth=400) / (weight @ slope**2) - 1) < 1e-3
    )


def test_mean_field_of_a_biased_tanh():
    """Both signs of the bias, drawn at random, in place of the integral."""
    generator = np.random.default_rng(0)
    bias = 2 * generator.choice([-1, 1], 400_000)
    first = np.tanh(generator.standard_normal(400_000) + bias)  # layer 1: variance 1
    s = np.sqrt((first**2).mean()) * generator.standard_normal(400_000) + bias
    assert (
        abs(
            gradients.mean_field("tanh", 1.0, depth=2, offset=2.0)
            / ((1 - np.tanh(s) ** 2) ** 2).mean()
            - 1
        )
        < 0.02
    )


# Measurements


@pytest.mark.parametrize(
    ("activation", "init", "options"),
    [
        ("sigmoid", "small", {}),
        ("sigmoid", "Xavier", {}),
        ("tanh", "He", {}),
        ("relu", "He", {}),
        ("relu", 3.0, {}),
        ("relu", "framework", {}),
        ("linear", 0.5, {}),
        ("tanh", 1.0, {"offset": 1.0}),
        ("relu", "He", {"keep": 0.5}),
        ("sigmoid", "Xavier", {"keep": 0.8}),
    ],
)
def test_networks_follow_the_mean_field(activation, init, options):
    expected = gradients.mean_field(activation, init, depth=20, **options)
    assert (
        abs(np.log(measured(activation, init, **options) / expected))
        < gradients.sampling_error(100, 20, 3) + 0.03
    )


def test_the_sigmoid_of_the_fact_sheet():
    assert abs(measured("sigmoid", "Xavier", depth=40, seeds=5) - 0.055) < 0.003


@pytest.mark.parametrize("batch", [5, 8, 32])
def test_linear_networks_with_bn(batch):
    found = measured("linear", 1.0, norm=True, batch=batch, depth=40, seeds=5)
    assert abs(np.log(found / gradients.linear_with_bn(batch))) < 60 / 100 / batch + 0.05


def test_theory_tells_a_wrong_backward_pass(monkeypatch):
    """Negative control: statistics taken as constants, the classic mistake, does not follow (B − 2)
    / (B − 3)."""

    def detached(dy, cache):
        _, d_gamma, d_beta = right(dy, cache)
        return dy * cache.gamma * cache.inv_std, d_gamma, d_beta

    right = reference.backward
    monkeypatch.setattr(reference, "backward", detached)
    found = measured("linear", 1.0, norm=True, batch=5, depth=40, seeds=5)
    # more than the 0.17 that the test above allows
    assert abs(np.log(found / gradients.linear_with_bn(5))) > 0.2


def test_with_bn_the_scale_of_the_weights_does_not_matter():
    assert abs(measured("tanh", 0.5, norm=True) / measured("tanh", 3.0, norm=True) - 1) < 1e-3


def test_saturated_share_of_one_layer():
    """Gaussian pre-activations of standard deviation a: tanh'(s) = 1 − tanh(s)² < 0.1 where |s| >
    artanh(sqrt(0.9))."""
    passed = gradients.backpropagate("tanh", 40.0, depth=2, width=200, seeds=2)
    limit = np.arctanh(np.sqrt(1 - gradients.SATURATED))
    spread = 40 * np.sqrt(
        (np.tanh(40 * np.random.default_rng(0).standard_normal(100_000)) ** 2).mean()
    )
    assert abs(passed.saturated.mean() - 2 * stats.norm.sf(limit / spread)) < 0.005


def test_a_sum_of_normalised_outputs_has_no_gradient():
    one = {"depth": 4, "norm": True, "seeds": 1}
    for loss, low, high in (("sum", 0, 1e-20), ("squares", 1e-14, 1e-6), ("random", 0.1, 10)):
        sizes = gradients.backpropagate("linear", 1.0, loss=loss, **one).sizes[0]
        assert low <= sizes[0] / sizes[-1] < high, loss


def test_first_to_last_by_hand():
    passed = gradients.Backprop(
        sizes=None, weights=np.array([[16.0, 1.0, 4.0], [4.0, 1.0, 1.0]]), saturated=None
    )
    assert gradients.first_to_last(passed) == 2  # of the norms: 4 / 2 and 2 / 1


def test_off_is_symmetric_in_factors():
    assert_close(gradients.off(np.array([1.0, 3.0]), 4.0), np.log(2))
    assert_close(gradients.off(np.array([4.0, 12.0]), 4.0), np.log(2))


def test_dropout_of_some_networks_only():
    scale, _ = gradients.dropout(np.random.default_rng(0), np.array([1.0, 0.5]))(0, (2, 100, 100))
    assert (scale[0] == 1).all()
    assert set(np.unique(scale[1])) == {np.float32(0), np.float32(2)}


def test_dropout_keeps_the_mean():
    scale, shift = gradients.dropout(np.random.default_rng(0), 0.8)(0, (2, 300, 300))
    assert set(np.unique(scale)) == {np.float32(0), np.float32(1.25)}
    assert abs(scale.mean() - 1) < 0.01
    assert shift == 0


def test_the_framework_default_is_that_of_torch():
    torch.manual_seed(0)
    weight = torch.nn.Linear(400, 300).weight.detach()
    assert abs(float(weight.std()) / gradients.INITS["framework"](400, 300) - 1) < 0.01


# Training


def test_a_vanished_gradient_leaves_weight_decay_alone():
    decay = next(v for v in gradients.VARIANTS if v.decay)
    found = gradients.train([decay], (10,), steps=20, seeds=1, width=20)[decay.name]
    assert abs(found.weight_left[0] - (1 - found.rate[0] * decay.decay) ** 20) < 1e-4
    assert found.accuracy.shape == found.seen.shape == (1, 1)


def test_training_picks_the_best_rate():
    variant = gradients.Variant("it", "relu", "He")
    found = gradients.train([variant], (2,), steps=60, seeds=2, width=20, rates=(1e-4, 0.1, 1e6))[
        "it"
    ]
    assert found.rate.tolist() == [0.1]
    assert found.accuracy.min() > 0.7


def test_kinds_that_learn_side_by_side_learn_as_they_would_alone():
    kinds = [
        gradients.Variant("plain", "relu", "He"),
        gradients.Variant("decaying", "relu", "He", decay=0.5),
    ]
    options = {"depths": (1, 2), "steps": 20, "seeds": 2, "width": 10, "rates": (0.03, 0.1)}
    together = gradients.train(kinds, **options)
    assert list(together) == ["plain", "decaying"]
    for kind in kinds:
        alone = gradients.train([kind], **options)[kind.name]
        for one, other in zip(alone, together[kind.name], strict=True):
            assert_close(one, other)
    assert (together["decaying"].weight_left < 0.9 * together["plain"].weight_left).all()


def test_few_digits_are_learned_by_heart():
    found = gradients.train(
        gradients.OVERFITTED[:1], (1,), steps=100, seeds=1, rates=(0.2,), batch=20, examples=20
    )
    assert found["neither"].seen.min() == 1 > 0.9 > found["neither"].accuracy.max()


def test_deep_sigmoids_train_with_bn_only():
    kinds = [gradients.Variant(str(norm), "sigmoid", "Xavier", norm=norm) for norm in (True, False)]
    found = gradients.train(kinds, (8,), steps=60, seeds=1, width=20)
    assert found["True"].accuracy.mean() > 0.6 > 0.2 > found["False"].accuracy.mean()


def test_settling():
    found = gradients.settle(
        "relu", "He", depth=30, width=50, seeds=2, rate=0.1, steps=(0, 1, 3), batch=32
    )
    assert found.sizes.shape == (3, 2, 30)
    ratio = np.sqrt(found.sizes[:, :, 0] / found.sizes[:, :, -1]).mean(1)
    assert ratio[0] > 2 * ratio[1]
    assert found.weight[0].tolist() == [1, 1]
    # the gradient is orthogonal to the weights, so they can only grow
    assert (found.weight[1] > 1).all()
