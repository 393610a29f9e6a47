"""The experiments of chapter 7: layouts and statistics against torch and plain NumPy; mutants must
be caught.
"""

import numpy as np
import pytest
import torch
from conftest import assert_close

from bnkit import reference
from bnkit.networks.digits import Digits
from bnkit.studies import common
from bnkit.studies import convolution as studies


def rng():
    return np.random.default_rng(0)


def maps(*shape):
    return rng().normal(2, 3, size=shape or (5, 3, 4, 6))


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 5), (4, 3, 5, 2), (4, 3, 2, 3, 2)])
def test_unfolding_and_back(shape):
    x = maps(*shape)
    rows = studies.unfold(x)
    assert rows.shape == (x.size // 3, 3)
    # the first place of the first example
    assert np.array_equal(rows[0], x[(0, slice(None), *[0] * (len(shape) - 2))])
    assert np.array_equal(np.sort(rows[:, 1]), np.sort(x[:, 1].ravel()))
    assert np.array_equal(studies.restore(rows, shape), x)


def test_per_map_and_per_activation_are_torch_layers():
    x, draw = maps(), rng()
    gamma, beta = draw.normal(size=(2, 3))
    expected = torch.nn.functional.batch_norm(
        torch.tensor(x), None, None, torch.tensor(gamma), torch.tensor(beta), training=True
    )
    assert_close(studies.per_map(x, gamma, beta), expected)
    gammas, betas = draw.normal(size=(2, 3, 4, 6))
    y = studies.per_activation(x, gammas, betas)
    assert_close(y, gammas * (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-5) + betas)
    population = reference.observe(None, x.reshape(5, -1))
    found = studies.infer_per_activation(x, gammas, betas, population)
    assert_close(
        found, gammas * (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0, ddof=1) + 1e-5) + betas
    )


def test_equivariance_is_kept_and_lost():
    x, draw = maps(), rng()
    corner = np.zeros((1, 1, 3, 4))
    corner[0, 0, 2, 3] = 1
    assert studies.shift(corner, 1, 2)[0, 0, 0, 1] == 1
    pair, places = draw.normal(size=(2, 3)), draw.normal(size=(2, 3, 4, 6))
    assert studies.equivariance_error(lambda x: studies.per_map(x, *pair), x) < 1e-12
    assert (
        studies.equivariance_error(lambda x: studies.per_activation(x, *np.ones_like(places)), x)
        < 1e-12
    )
    assert studies.equivariance_error(lambda x: studies.per_activation(x, *places), x) > 0.5
    # by hand: y = x with 1 added to one place; the shift leaves that 1 behind
    bump = np.zeros((4, 6))
    bump[0, 0] = 1
    assert studies.equivariance_error(lambda x: x + bump, x) == pytest.approx(1 / (x + bump).std())


def test_effective_size():
    assert studies.effective_size(4, 64, 0.8) == pytest.approx(4.98, abs=5e-3)
    assert studies.effective_size(7, 64, 0) == 7 * 64
    assert studies.effective_size(7, 64, 1) == 7
    # the variance of a mean is the mean of all entries of the covariance matrix
    covariance = np.kron(np.eye(3), np.full((4, 4), 0.3)) + 0.7 * np.eye(12)
    assert_close(studies.effective_size(3, 4, 0.3), 1 / covariance.mean())
    found = studies.measured_size(common.correlated_maps(3, 2, 0.3, 20_000, rng()))
    assert found == pytest.approx(1 / covariance.mean(), rel=0.05)


def test_correlated_maps():
    pixels = common.correlated_maps(2, 2, 0.8, 20_000, rng()).transpose(1, 0, 2, 3).reshape(-1, 8)
    expected = np.kron(np.eye(2), np.full((4, 4), 0.8)) + 0.2 * np.eye(8)
    assert np.abs(np.cov(pixels.T) - expected).max() < 0.05


@pytest.mark.parametrize("norm", studies.NORMS)
def test_gradients_and_one_step_are_those_of_torch(norm):
    """Loss, every gradient, outputs, population and inference of the NumPy network, against torch's
    own layers."""
    draw = rng()
    net = studies.start(norm, 3, maps=4, side=6)
    layers = (  # gamma and beta that are not 1 and 0
        layer._replace(
            gamma=draw.normal(1, 0.5, layer.gamma.shape), beta=draw.normal(0, 0.5, layer.beta.shape)
        )
        for layer in net.layers
    )
    net = net._replace(layers=tuple(layers), bias=draw.normal(size=10))
    u, labels = draw.normal(size=(5, 1, 6, 6)), draw.integers(0, 10, 5)
    theirs = twin(net)
    expected = torch.nn.functional.cross_entropy(theirs(torch.tensor(u)), torch.tensor(labels))
    expected.backward()
    loss, ours, tape = studies.gradients(net, u, labels)
    assert_close(loss, expected)
    for found, parameter in zip(flat(ours), theirs.parameters(), strict=True):
        assert_close(found, parameter.grad.reshape(found.shape), 1e-8)
    torch.optim.SGD(theirs.parameters(), lr=0.3).step()
    after = studies.step(net, ours, 0.3)
    for found, parameter in zip(flat(after), theirs.parameters(), strict=True):
        assert_close(found, parameter.reshape(found.shape), 1e-8)
    populations = [
        reference.observe(None, tape[0].x if norm == "per map" else tape[0].x.reshape(5, -1))
    ]
    assert_close(populations[0].mean, theirs[0].norm.running_mean)
    assert_close(populations[0].var, theirs[0].norm.running_var)


class Layer(torch.nn.Module):
    """z = relu(BN(Wu)) in torch's own parts."""

    def __init__(self, layer):
        super().__init__()
        out, below = layer.weight.shape[:2]
        self.convolution = torch.nn.Conv2d(
            below, out, 3, padding=1, padding_mode="circular", bias=False
        )
        self.norm = torch.nn.BatchNorm1d(len(layer.gamma), momentum=None)
        for parameter, value in zip(self.parameters(), layer, strict=True):
            parameter.data = torch.tensor(value)

    def forward(self, u):
        x = self.convolution(u)
        per_map = len(self.norm.weight) == x.shape[1]
        return torch.relu(self.norm(x.flatten(2) if per_map else x.flatten(1)).view_as(x))


def twin(net):
    last = torch.nn.Linear(*net.weight.shape[::-1])
    last.weight.data, last.bias.data = torch.tensor(net.weight), torch.tensor(net.bias)
    parts = [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), last]
    return torch.nn.Sequential(*map(Layer, net.layers), *parts).double()


def flat(net):
    return [each for layer in net.layers for each in layer] + [net.weight, net.bias]


def test_inference_is_torch_in_evaluation():
    net, u = studies.start("per map", 0, maps=3, side=5), maps(6, 1, 5, 5)
    theirs = twin(net)
    theirs(torch.tensor(u))
    statistics = [
        (each.norm.running_mean.numpy(), each.norm.running_var.numpy()) for each in theirs[:2]
    ]
    populations = [reference.Population(*pair, 1) for pair in statistics]
    assert_close(studies.infer(net, u, populations), theirs.eval()(torch.tensor(u)))


def test_networks_differ_in_their_normalisation_only():
    one, other = (studies.start(norm, 3) for norm in studies.NORMS)
    assert all(
        np.array_equal(a.weight, b.weight) for a, b in zip(one.layers, other.layers, strict=True)
    )
    assert np.array_equal(one.weight, other.weight)
    assert [len(each.gamma) for each in (one.layers[0], other.layers[0])] == [8, 512]


@pytest.mark.parametrize(("norm", "numbers"), [("per map", 32), ("per activation", 2048)])
def test_training_learns_and_what_a_shift_does(norm, numbers):
    data = Digits.load("unit", np.float64)
    outcome = studies.train(data, norm, seed=0, steps=30, batch_size=60)
    assert outcome == studies.train(data, norm, seed=0, steps=30, batch_size=60)
    assert outcome.parameters == numbers
    assert outcome.accuracy > 0.25
    if norm == "per map":
        assert outcome.moved < 1e-10
        assert outcome.shifted == outcome.accuracy
    else:
        assert outcome.moved > 0.5


def test_layouts_hold_the_same_values_differently():
    x = maps()
    found = studies.layouts(x)
    assert all(np.array_equal(each, x) for each in found.values())
    assert len({each.strides for each in found.values()}) == 3


def test_touched_marks_what_changes():
    x = maps(2, 3, 2, 2)
    found = studies.touched(lambda x: x - x.mean(axis=1, keepdims=True), x, (0, 1, 0, 1))
    assert found[0, :, 0, 1].all()
    assert found.sum() == 3


def test_ways_to_normalise_at_training_and_inference():
    x = maps(20, 1, 4, 4)
    kept = [
        studies.equivariance_error(way, x) < 1e-10
        for way in studies.ways_to_normalise(x, rng()).values()
    ]
    assert kept == [True, True, True, False, False]
    (a, b), (c, d) = studies.there_and_back(x).values()
    assert_close(a, b)
    assert_close(a, (x[0, 0] - x.mean()) / np.sqrt(x.var(ddof=1) + 1e-5))
    assert np.abs(c - d).max() > 0.1


def test_worth_by_hand():
    """Two images of two places: values 0, 2 and 4, 6. All values have variance 5, the image means
    1, 5 variance 4."""
    assert_close(studies.worth(np.array([0.0, 2, 4, 6]).reshape(2, 1, 1, 2)), [5 / 4])


def test_wrong_axes_are_caught_by_the_unfolding_only():
    x = maps(6, 4, 5, 5) * np.arange(1, 5)[:, None, None]
    right = lambda x: studies.standardise(x, (0, 2, 3))  # noqa: E731 - beside the mutants below
    assert studies.check_unfolding(right, x)
    assert studies.check_moments(right, x)
    assert not studies.check_moments(lambda x: x, x)
    for axes in studies.WRONG_AXES.values():
        assert not studies.check_unfolding(lambda x, axes=axes: studies.standardise(x, axes), x)
        assert studies.check_moments(lambda x, axes=axes: studies.standardise(x, axes), x)
