"""The experiments of chapter 7: layouts and statistics against torch and plain NumPy; mutants must be caught."""

import numpy as np
import pytest
import torch
from conftest import assert_close

from bnkit import reference
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
    assert np.array_equal(rows[0], x[(0, slice(None), *[0] * (len(shape) - 2))])  # the first place of the first example
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
    assert_close(found, gammas * (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0, ddof=1) + 1e-5) + betas)


def test_equivariance_is_kept_and_lost():
    x, draw = maps(), rng()
    corner = np.zeros((1, 1, 3, 4))
    corner[0, 0, 2, 3] = 1
    assert studies.shift(corner, 1, 2)[0, 0, 0, 1] == 1
    pair, places = draw.normal(size=(2, 3)), draw.normal(size=(2, 3, 4, 6))
    assert studies.equivariance_error(lambda x: studies.per_map(x, *pair), x) < 1e-12
    assert studies.equivariance_error(lambda x: studies.per_activation(x, *np.ones_like(places)), x) < 1e-12
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
    found = studies.measured_size(studies.correlated_maps(3, 2, 0.3, 20_000, rng()))
    assert found == pytest.approx(1 / covariance.mean(), rel=0.05)


def test_correlated_maps():
    pixels = studies.correlated_maps(2, 2, 0.8, 20_000, rng()).transpose(1, 0, 2, 3).reshape(-1, 8)
    expected = np.kron(np.eye(2), np.full((4, 4), 0.8)) + 0.2 * np.eye(8)
    assert np.abs(np.cov(pixels.T) - expected).max() < 0.05


def test_the_layer_per_activation_is_the_function():
    x = maps()
    layer = studies.PerActivation(72, dtype=torch.float64)
    expected = studies.per_activation(x, np.ones((3, 4, 6)), np.zeros((3, 4, 6)))
    assert_close(layer(torch.tensor(x)), expected)
    assert_close(layer.running_mean, 0.1 * x.mean(axis=0).ravel())


@pytest.mark.parametrize(("norm", "numbers"), [("per map", 32), ("per activation", 2048)])
def test_networks_differ_in_their_normalisation_only(norm, numbers):
    weights = [
        [each for each in studies.network(name, torch.Generator().manual_seed(3)).parameters() if each.ndim > 1]
        for name in ("per map", norm)
    ]
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))
    assert not studies.network(norm, torch.Generator())[-1].bias.any()
    outcome = studies.train(norm, seed=0, steps=30, batch_size=60)
    assert outcome == studies.train(norm, seed=0, steps=30, batch_size=60)
    assert outcome.parameters == numbers
    assert outcome.accuracy > 0.25
    if norm == "per map":
        assert outcome.moved < 1e-4
        assert outcome.shifted == outcome.accuracy
    else:
        assert outcome.moved > 0.5


def test_wrong_axes_are_caught_by_the_unfolding_only():
    x = maps(6, 4, 5, 5) * np.arange(1, 5)[:, None, None]
    right = lambda x: studies.standardise(x, (0, 2, 3))  # noqa: E731 - beside the mutants below
    assert studies.check_unfolding(right, x)
    assert studies.check_moments(right, x)
    assert not studies.check_moments(lambda x: x, x)
    for axes in studies.WRONG_AXES.values():
        assert not studies.check_unfolding(lambda x, axes=axes: studies.standardise(x, axes), x)
        assert studies.check_moments(lambda x, axes=axes: studies.standardise(x, axes), x)
