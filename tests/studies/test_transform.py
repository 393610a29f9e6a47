"""The experiments of chapter 4: against formulas, against plain torch, and side by side against one
by one.
"""

from itertools import islice

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from bnkit import gradcheck, reference
from bnkit.networks import many_numpy
from bnkit.networks.digits import Digits
from bnkit.studies import transform as studies


def rng():
    return np.random.default_rng(0)


def close(actual, expected, tolerance=1e-10):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance, equal_nan=False)


@pytest.fixture(scope="module")
def digits():
    return Digits.load("unit")


# Statistics


def test_line_by_line_is_algorithm_1():
    """By hand: 1, 5 has mean 3, variance 4; eps = 5 makes the root 3, so x_hat is -2/3, 2/3."""
    found = studies.line_by_line(np.array([1.0, 5.0]), gamma=3.0, beta=1.0, eps=5.0)
    expected = {"mean": [3], "variance": [4], "normalised": [-2 / 3, 2 / 3], "output": [-1, 3]}
    assert found.keys() == expected.keys()
    for name, each in expected.items():
        close(found[name], each)


def test_statistics_error_is_that_of_the_textbook():
    x = rng().normal(size=(100_000, 3))
    of_mean, of_variance = studies.statistics_error(x, [4, 25], 2_000, rng())
    np.testing.assert_allclose(of_mean, 1 / np.sqrt([4, 25]), rtol=0.03, equal_nan=False)
    np.testing.assert_allclose(
        of_variance, np.sqrt(2 / np.array([3, 24])), rtol=0.05, equal_nan=False
    )


@pytest.mark.parametrize("a", [0.0, 1.0, -2.0])
def test_the_noise_of_company(a):
    """The formula for large batches; and the very numbers, for one batch, in plain NumPy."""
    assert studies.in_company(a, 500, 4_000, rng()).std() == pytest.approx(
        studies.expected_noise(a, 500), rel=0.06
    )
    x = rng().normal(size=(7, 1))
    x[0] = a
    close(studies.in_company(a, 7, 1, rng()), (a - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-5))


# One unit


@pytest.mark.parametrize("learn", [True, False])
def test_one_unit_descends_the_loss_that_its_best_line_leaves(learn):
    u, target = np.linspace(-1, 1, 9), rng().normal(size=9)

    def loss(pair):
        z = 1 / (1 + np.exp(-reference.forward(u[:, None], pair[:1], pair[1:])[0]))
        design = np.column_stack([z, np.ones(9)])
        return np.mean((design @ np.linalg.lstsq(design, target)[0] - target) ** 2) / 2

    pair, losses = np.array([1.0, 0.0]), []
    for _ in range(3):
        losses.append(loss(pair))
        pair = pair - (2.0 * gradcheck.numerical_gradient(loss, pair) if learn else 0)
    found = studies.fit_unit(u, target, learn, steps=3, rate=2.0)
    close(found.losses, losses, 1e-8)
    assert np.mean((found.output - target) ** 2) / 2 == pytest.approx(losses[-1], abs=1e-8)
    assert (found.losses[2] < found.losses[0]) == learn


# Networks


@pytest.mark.parametrize("place", ["before", "after", "none"])
def test_networks_learn_at_rates_of_their_own_as_torch_does(place, digits):
    """Three networks side by side against three plain torch networks: losses, norms, population
    statistics, answers."""
    rates = [
        studies.Rates(*of_parts) for of_parts in ((0.1, 0.2, 0.3), (0.5, 0.0, 0.1), (0.0, 1.0, 0.5))
    ]
    batches = list(islice(studies.shuffled(1500, 20, [3, 4, 5]), 4))
    networks = build(place, [3, 4, 5])
    plain = [plain_copy(networks, index, place) for index in range(3)]
    losses, norms = studies.train(networks, digits, iter(batches), rates, steps=4)
    for index, (network, rate) in enumerate(zip(plain, rates, strict=True)):
        optimiser = torch.optim.SGD(groups(network, rate))
        for step, indices in enumerate(batches):
            x = torch.tensor(digits.x[indices[index]])
            loss = cross_entropy(network(x), torch.tensor(digits.labels[indices[index]]))
            assert losses[index, step] == pytest.approx(loss.item(), rel=1e-4)
            assert norms[index, step] == pytest.approx(network[0].weight.norm().item(), rel=1e-4)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    populations = studies.collect(networks, digits.x, iter(batches), 4) if place != "none" else None
    outputs, _ = many_numpy.forward(networks, digits.x_test, populations=populations)
    for index, network in enumerate(plain):
        with torch.no_grad():
            for module in network:
                if isinstance(module, nn.BatchNorm1d):
                    module.reset_running_stats()
                    module.momentum = None  # the plain average of Algorithm 2
            for indices in batches:
                network(torch.tensor(digits.x[indices[index]]))
            expected = network.eval()(torch.tensor(digits.x_test)).numpy()
        np.testing.assert_allclose(outputs[index], expected, atol=2e-3, equal_nan=False)  # float32


def build(place, seeds):
    where = "after" if place == "after" else "before"
    deviation = lambda *_: 0.1  # noqa: E731 - of every weight
    return many_numpy.build(
        64, 7, 2, 10, "sigmoid", place != "none", deviation, seeds, place=where, dtype=np.float32
    )


def plain_copy(networks, index, place):
    modules = []
    for layer in networks.layers:
        weight = torch.tensor(layer["weight"][index])
        linear = nn.Linear(*weight.shape)
        linear.weight.data[:], linear.bias.data[:] = weight.T, 0.0
        modules.append(linear)
        if len(modules) < 5:
            norm = [nn.BatchNorm1d(weight.shape[1])] if place != "none" else []
            modules += [*norm, nn.Sigmoid()] if place == "before" else [nn.Sigmoid(), *norm]
    return nn.Sequential(*modules)


def groups(network, rate):
    last = network[-1]
    kinds = {nn.Linear: rate.weights, nn.BatchNorm1d: rate.gamma_beta}
    parts = [
        {"params": m.parameters(), "lr": kinds[type(m)]}
        for m in network
        if type(m) in kinds and m is not last
    ]
    return [*parts, {"params": last.parameters(), "lr": rate.output}]


def test_a_rate_of_zero_freezes(digits):
    networks = build("before", [0])
    before = many_numpy.copy(networks)
    studies.train(networks, digits, studies.shuffled(1500, 20, [0]), [studies.Rates(0, 0.5, 0)], 3)
    moved = [
        (index, name)
        for index, (old, new) in enumerate(zip(before.layers, networks.layers, strict=True))
        for name in new
        if not np.array_equal(old[name], new[name])
    ]
    assert sorted(moved) == [(0, "beta"), (0, "gamma"), (1, "beta"), (1, "gamma")]


def test_compare_pairs_seeds_and_repeats_itself(digits):
    settings = [studies.Rates.equal(0.1), studies.Rates.equal(0.5), studies.Rates.equal(0.1)]
    one, two = (
        studies.compare(
            digits, "relu", "before", settings, seeds=2, steps=6, batch_size=20, width=16
        )
        for _ in "ab"
    )
    np.testing.assert_array_equal(one.losses, two.losses)
    assert one.losses.shape == one.weight_norms.shape == (3, 2, 6)
    assert one.accuracies.shape == one.final_losses.shape == (3, 2)
    close(one.losses[:, :, 0], np.repeat(one.losses[:1, :, 0], 3, axis=0), 1e-5)  # equal starts
    close(one.losses[0], one.losses[2], 1e-5)
    assert np.abs(one.losses[0, 0] - one.losses[0, 1]).min() > 1e-4  # other seeds, other networks
    close(one.final_losses, one.losses[..., -1:].mean(-1))


def test_batches_of_few_classes():
    labels = np.repeat(np.arange(10), 30)
    for indices in islice(studies.of_few_classes(labels, 20, [1, 2, 10], [0, 1, 2]), 5):
        assert indices.shape == (3, 20)
        for row, count in zip(labels[indices], [1, 2, 10], strict=True):
            assert np.unique(row, return_counts=True)[1].tolist() == [20 // count] * count
    many = np.concatenate(
        list(islice(studies.of_few_classes(labels, 20, [10], [0]), 300)), axis=None
    )
    assert set(many) == set(range(300))  # every example has its turn


def test_batch_statistics_let_neighbours_in(digits):
    """The same networks: with all classes in a test batch nothing happens, with a single one
    nothing works."""
    outcome = studies.compare(
        digits, "relu", "before", [studies.Rates.equal(0.5)], seeds=2, steps=80
    )
    found = studies.answer_among_few_classes(digits, outcome, [1, 10])
    assert found.shape == (2, 2)
    assert outcome.accuracies.min() > 0.9
    assert found[:, 1].min() > 0.9
    assert found[:, 0].max() < 0.4


def test_around_the_nonlinearity(digits):
    networks = build("before", [0, 1])
    outcome = studies.Outcome(networks, *np.zeros((3, 1, 2)))
    before, after = studies.around_the_nonlinearity(outcome, digits.x[:50])
    assert before.shape == (50 * 2 * 7,)
    assert before.mean() == pytest.approx(0, abs=1e-9)
    assert before.var() == pytest.approx(1)
    first, second = (layer["weight"][0] for layer in networks.layers[:2])
    below = studies.normalised(digits.x[:50] @ first)
    wu = (1 / (1 + np.exp(-below))) @ second
    close(before.reshape(50, 14)[:, 0], (wu[:, 0] - wu[:, 0].mean()) / wu[:, 0].std(), 1e-3)
    z = 1 / (1 + np.exp(-studies.normalised(wu)))[:, 0]
    close(after.reshape(50, 14)[:, 0], (z - z.mean()) / z.std(), 1e-3)


# Scale


def test_layer_and_gradients_against_torch():
    weight, u, upstream = (rng().normal(size=shape) for shape in ((4, 3), (6, 4), (6, 3)))
    y, du, dw = studies.layer_and_gradients(weight, u, upstream, eps=1e-3)
    w, v = torch.tensor(weight, requires_grad=True), torch.tensor(u, requires_grad=True)
    theirs = torch.nn.functional.batch_norm(v @ w, None, None, training=True, eps=1e-3)
    expected = torch.autograd.grad((theirs * torch.tensor(upstream)).sum(), (v, w))
    close(y, theirs.detach())
    close(du, expected[0])
    close(dw, expected[1])


def test_scaled():
    x = rng().normal(size=(60, 1)) + 3
    measured, formula = studies.scaled(np.array([1e-3, 1.0]), x, 1e-5)
    close(measured, formula, 1e-9)
    assert measured[0] < 0.5 < 0.99 < measured[1]


# Failure gallery


def test_every_mutant_is_caught_by_the_exact_variance():
    """The inputs of the chapter: four values of spread 0.003, and float32 with a large mean for the
    fourth mutant."""
    x = 0.003 * rng().normal(size=(4, 50))
    expected = x.var(axis=0) / (x.var(axis=0) + 1e-5)
    close(studies.normalised(x).var(axis=0), expected)
    for name in studies.MUTANTS:
        wrong = studies.normalised_wrongly(name, x, 1e-5)
        close(wrong.mean(axis=0), 0, 1e-9)  # which is why a test of the mean alone sees none
        if name == studies.ONE_PASS:
            close(wrong.var(axis=0), expected, 1e-6)  # right, but for this:
            wrong = studies.normalised_wrongly(name, (x + 10).astype(np.float32), 1e-5)
        assert not np.allclose(wrong.var(axis=0), expected, atol=0.01), name


def test_output_spreads():
    right, wrong = studies.output_spreads(np.array([1e-4, 10.0]))
    close(right, [1e-4 / np.sqrt(1e-8 + 1e-5), 10 / np.sqrt(100 + 1e-5)], 1e-9)
    assert len(wrong) == 3
    close(wrong["divides by the variance"][1], 0.1, 1e-6)
    close(wrong["ε outside the root"], [1e-4 / (1e-4 + 1e-5), 10 / (10 + 1e-5)], 1e-9)
    close(wrong["unbiased variance"][1], np.sqrt(3 / 4), 1e-6)


def test_one_pass_damage():
    assert studies.one_pass_damage(0.0, 0.01, 256, 500, rng())[:2] == (0, 0)
    negative, nan, error = studies.one_pass_damage(100.0, 0.01, 256, 500, rng())
    assert negative > 0.3
    assert nan > 0.3
    assert error > 1


def test_normalised_is_the_reference():
    x = rng().normal(size=(7, 3))
    close(studies.normalised(x, 1e-3), reference.forward(x, np.ones(3), np.zeros(3), 1e-3)[0])
