"""Batch normalization in parts: both parts are the reference, each has gradients of its own."""

import numpy as np
import pytest
from conftest import assert_close

from bnkit import reference
from bnkit.networks import many_numpy, parts

EPS = 1e-3


def inputs(m=7, d=5, networks=1, offset=2.0):
    rng = np.random.default_rng([m, d])
    return rng.normal(offset, 3, (networks, m, d)), rng.normal(size=(networks, m, d))


def on(*names):
    return parts.switches([parts.KINDS[name] for name in names], np.float64)


def run(x, *names, eps=EPS, **options):
    """The parts alone: gamma 1, beta 0."""
    pair = np.ones((len(x), x.shape[2])), np.zeros((len(x), x.shape[2]))
    return parts.forward(x, *pair, on(*names), eps, **options)


def test_both_parts_are_batch_normalization():
    x, dy = inputs()
    gamma, beta = np.random.default_rng(1).normal(size=(2, 5))
    y, cache = parts.forward(x, gamma[None], beta[None], on("both"), EPS)
    right, kept = reference.forward(x[0], gamma, beta, EPS)
    assert_close(y[0], right)
    pairs = zip(parts.backward(dy, cache), reference.backward(dy[0], kept), strict=True)
    for ours, theirs in pairs:
        assert_close(ours[0], theirs)


def test_by_hand():
    """The values 1 and 7 of one unit: mean 4, deviation 3, root mean square 5."""
    x = np.array([1.0, 7.0])[None, :, None]
    expected = {
        "nothing": (1, 7),
        "mean": (-3, 3),
        "deviation": (1 / 3, 7 / 3),
        "root mean square": (1 / 5, 7 / 5),
        "both": (-1, 1),
    }
    assert list(expected) == list(parts.KINDS)
    for name, values in expected.items():
        assert_close(run(x, name, eps=0.0)[0].ravel(), values)


@pytest.mark.parametrize("name", parts.KINDS)
def test_gradients_are_central_differences(name):
    x, dy = inputs()
    dx, *_ = parts.backward(dy, run(x, name)[1])
    for place in np.ndindex(x.shape):
        nudge = np.zeros_like(x)
        nudge[place] = 1e-5
        ends = [np.sum(dy * run(x + s * nudge, name)[0]) for s in (1, -1)]
        assert abs((ends[0] - ends[1]) / 2e-5 - dx[place]) < 1e-8


def test_networks_do_not_know_each_other():
    x, dy = inputs(networks=5)
    together, cache = run(x, *parts.KINDS)
    back, *_ = parts.backward(dy, cache)
    for k, name in enumerate(parts.KINDS):
        alone, of_one = run(x[k : k + 1], name)
        assert_close(together[k : k + 1], alone)
        assert_close(back[k : k + 1], parts.backward(dy[k : k + 1], of_one)[0])


@pytest.mark.parametrize("name", parts.KINDS)
def test_a_population_of_the_batch_itself_changes_nothing(name):
    x, _ = inputs()
    inference, _ = run(x, name, moments=(x.mean(1), x.var(1)))
    assert_close(inference, run(x, name)[0])


def test_a_whole_network_of_each_kind_has_the_gradients_of_differences():
    rng, kinds = np.random.default_rng(0), list(parts.KINDS.values())
    form = (6, 4, 2, 3, "tanh", True, lambda fan_in, _: fan_in**-0.5)
    networks = many_numpy.build(*form, [1] * len(kinds), of_norm=kinds)
    x, labels = rng.normal(1, 2, (7, 6)), rng.integers(0, 3, 7)

    def losses():
        return many_numpy.cross_entropy(many_numpy.forward(networks, x)[0], labels)[0]

    outputs, tape = many_numpy.forward(networks, x)
    gradients, _ = many_numpy.backward(networks, tape, many_numpy.cross_entropy(outputs, labels)[1])
    for layer, gradient in zip(networks.layers, gradients, strict=True):
        for name, value in layer.items():
            nudge = 1e-5 * rng.normal(size=value.shape)
            ends = []
            for sign in (1, -1):
                value += sign * nudge
                ends.append(losses())
                value -= sign * nudge
            along = (gradient[name] * nudge).reshape(len(kinds), -1).sum(1)
            assert_close((ends[0] - ends[1]) / 2, along, 1e-5)
    bn = many_numpy.build(*form, [1])
    assert_close(many_numpy.forward(bn, x)[0][0], outputs[-1])


def test_what_each_part_is_blind_to():
    """A shift of a unit changes nothing where the mean goes, a factor nothing where the scale does;
    the deviation alone lets the mean through, whole."""
    x, _ = inputs()
    blind = {name: [] for name in parts.KINDS}
    for name in parts.KINDS:
        y = run(x, name, eps=0.0)[0]
        blind[name] = [np.allclose(y, run(z, name, eps=0.0)[0]) for z in (x + 4, 3 * x)]
    assert blind == {
        "nothing": [False, False],
        "mean": [True, False],
        "deviation": [False, True],
        "root mean square": [False, True],
        "both": [True, True],
    }
