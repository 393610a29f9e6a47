"""The experiments of chapter 6: the NumPy network against torch, estimates against plain sums,
mutants against the layer.
"""

import numpy as np
import pytest
import torch
from conftest import assert_close

from bnkit import gradcheck, reference
from bnkit.networks.digits import Digits
from bnkit.studies import common
from bnkit.studies import inference as studies

SIZES = (5, 4, 3, 3)


def rng():
    return np.random.default_rng(0)


def network():
    """Small, and with gamma and beta that are not 1 and 0."""
    draw, fresh = rng(), studies.start(SIZES, rng())
    hidden = (
        layer._replace(
            gamma=draw.normal(size=len(layer.gamma)), beta=draw.normal(size=len(layer.beta))
        )
        for layer in fresh.hidden
    )
    return fresh._replace(hidden=tuple(hidden))


def data(m=7):
    return rng().normal(1, 2, size=(m, SIZES[0])), rng().integers(0, SIZES[-1], size=m)


def twin(net):
    """The same network of torch's own parts."""
    parts = []
    for layer in net.hidden:
        linear = torch.nn.Linear(*layer.weight.shape[::-1], bias=False)
        norm = torch.nn.BatchNorm1d(len(layer.gamma), momentum=None)
        linear.weight.data = torch.tensor(layer.weight)
        norm.weight.data, norm.bias.data = torch.tensor(layer.gamma), torch.tensor(layer.beta)
        parts += [linear, norm, torch.nn.Sigmoid()]
    last = torch.nn.Linear(*net.weight.shape[::-1])
    last.weight.data, last.bias.data = torch.tensor(net.weight), torch.tensor(net.bias)
    return torch.nn.Sequential(*parts, last).double()


def test_gradients_and_one_step_are_those_of_torch():
    net, (u, labels) = network(), data()
    theirs = twin(net)
    torch.nn.functional.cross_entropy(theirs(torch.tensor(u)), torch.tensor(labels)).backward()
    ours, xs = studies.gradients(net, u, labels)
    assert_close(
        studies.loss(net, u, labels),
        torch.nn.functional.cross_entropy(theirs(torch.tensor(u)), torch.tensor(labels)),
    )
    flat = [each for layer in ours.hidden for each in layer] + [ours.weight, ours.bias]
    for found, expected in zip(flat, theirs.parameters(), strict=True):
        assert_close(found, expected.grad, 1e-8)
    assert_close(xs[0], u @ net.hidden[0].weight.T)
    torch.optim.SGD(theirs.parameters(), lr=0.3).step()
    after = studies.step(net, ours, 0.3)
    flat = [each for layer in after.hidden for each in layer] + [after.weight, after.bias]
    for found, expected in zip(flat, theirs.parameters(), strict=True):
        assert_close(found, expected, 1e-8)


def test_gradients_in_groups_are_differences():
    """Six examples normalised in groups of three: every gradient against differences of the loss in
    such groups."""
    net, (u, labels) = network(), data(6)
    ours, _ = studies.gradients(net, u, labels, group=3)

    def loss(weight, gamma, beta):
        changed = net._replace(hidden=(studies.Layer(weight, gamma, beta), *net.hidden[1:]))
        logits = torch.tensor(studies.run(changed, u, studies.by_group(3)))
        return torch.nn.functional.cross_entropy(logits, torch.tensor(labels)).item()

    first = list(net.hidden[0])
    for index, found in enumerate(ours.hidden[0]):
        moved = lambda value, index=index: loss(*first[:index], value, *first[index + 1 :])  # noqa: E731
        assert_close(found, gradcheck.numerical_gradient(moved, first[index]), 1e-6)


def test_groups_and_back():
    x = np.arange(24.0).reshape(6, 4)
    side_by_side = studies.grouped(x, 2)
    assert side_by_side.shape == (2, 12)
    assert side_by_side[1, 4:8].tolist() == x[3].tolist()  # the second example of the second group
    assert np.array_equal(studies.ungrouped(side_by_side, x.shape), x)
    layer = network().hidden[0]
    parts = [studies.by_batch(0, x[k : k + 2], layer) for k in (0, 2, 4)]
    assert_close(studies.by_group(2)(0, x, layer), np.concatenate(parts))


def test_small_batches_differ_in_their_groups_only():
    digits = Digits.load("unit", np.float64)
    options = {"seed": 0, "steps": 60, "batch_size": 24, "rate": 1.0}
    found = studies.small_batches(digits, [2, 24], **options)
    assert found.shape == (2, 2)
    course = studies.train(digits, new_weights={}, frozen=1, checks=1, **options)
    truth = studies.truth(course.network, digits.x)
    # the group of all is the mini-batch
    assert found[0, 1] == studies.tested(course.network, digits, truth)
    assert found[0, 0] < found[0, 1] - 0.05
    assert found[1, 0] < found[0, 0]


def test_blend_is_observe():
    batches = rng().normal(size=(3, 5, 2))
    for weight in (None, 0.3):
        one = other = None
        for batch in batches:
            one = reference.observe(one, batch, weight)
            other = studies.blend(other, reference.observe(None, batch), weight)
        assert_close(other.mean, one.mean)
        assert_close(other.var, one.var)
        assert other.batches == one.batches == 3


def test_algorithm_2_is_torch_with_a_cumulative_average():
    net, batches = network(), rng().normal(size=(6, 5, SIZES[0]))
    theirs = twin(net)
    for batch in batches:
        theirs(torch.tensor(batch))
    populations = studies.algorithm_2(net, batches)
    for population, norm in zip(populations, (theirs[1], theirs[4]), strict=True):
        assert_close(population.mean, norm.running_mean)
        assert_close(population.var, norm.running_var)
        assert population.batches == 6
    u = data()[0]
    expected = theirs.eval()(torch.tensor(u))
    assert_close(studies.run(net, u, studies.by_population(populations)), expected)
    assert_close(studies.run_folded(studies.folded(net, populations), u), expected)


def test_by_batch_is_training_and_forgets_a_lone_example():
    net, (u, _) = network(), data()
    assert_close(studies.run(net, u, studies.by_batch), twin(net)(torch.tensor(u)), 1e-8)
    alone = [studies.run(net, each[None], studies.by_batch) for each in u[:2]]
    assert np.array_equal(*alone)


def test_the_truth_is_that_of_the_inference_network():
    net, (u, _) = network(), data(50)
    first, second = studies.truth(net, u)
    x = u @ net.hidden[0].weight.T
    assert_close(first.mean, x.mean(axis=0))
    assert_close(first.var, x.var(axis=0))
    below = studies.sigmoid(reference.infer(x, *net.hidden[0][1:], first))
    assert_close(second.mean, (below @ net.hidden[1].weight.T).mean(axis=0))
    assert studies.errors([first, second], [first, second]) == (0, 0)
    doubled = second._replace(var=2 * second.var)
    assert_close(studies.errors_by_layer([first, doubled], [first, second]), [0, 1])
    doubled = first._replace(mean=first.mean + 3 * np.sqrt(first.var), var=2 * first.var)
    assert_close(studies.errors([doubled], [first]), (3, 1))


def test_training_learns_and_keeps_its_estimates():
    digits = Digits.load("unit", np.float64)
    weights = {"moving": 0.1, "all": None}
    course = studies.train(digits, steps=60, seed=0, new_weights=weights, frozen=25, checks=4)
    assert course.steps.tolist() == [1, 4, 15, 60]
    assert {name: each.shape for name, each in course.checks.items()} == dict.fromkeys(
        ["moving", "all", "Algorithm 2"], (4, 3)
    )
    assert course.checks["Algorithm 2"][-1, 2] > 0.85
    assert course.populations["all"][0].batches == 60
    # after the first step, which both have seen before it was taken, all moving averages are that
    # one batch
    assert np.array_equal(course.checks["moving"][0], course.checks["all"][0])
    again = studies.train(digits, steps=60, seed=0, new_weights=weights, frozen=25, checks=4)
    assert np.array_equal(again.network.weight, course.network.weight)
    short = studies.train(digits, steps=2, seed=0, new_weights={}, frozen=1, checks=1)
    first_gamma = short.averaged.hidden[0].gamma
    # mean of two different values
    assert np.abs(first_gamma - short.network.hidden[0].gamma).max() > 0


def test_neighbours():
    net, (u, labels) = network(), data(12)
    companies = np.array([rng().permutation(12)[:3], np.arange(3)])
    odds = studies.in_company(net, u, 5, studies.by_group(4), companies)
    logits = torch.tensor(studies.run(net, u[[5, 0, 1, 2]], studies.by_batch)[0])
    assert_close(odds[1], torch.softmax(logits, 0))
    calm = studies.in_company(net, u, 5, studies.by_population(studies.truth(net, u)), companies)
    assert_close(calm[0], calm[1])
    whole = studies.accuracy(net, u, labels, studies.by_batch)
    assert studies.in_batches(net, u, labels, 12, 3, rng()) == pytest.approx(whole)
    random, of_a_class = studies.by_size(net, u, labels, [1, 12], rng())
    assert random[1] == pytest.approx(whole)
    assert np.isnan(of_a_class[1])


def test_sorted_batches():
    found = list(studies.sorted_batches(np.array([2, 0, 1, 0, 2, 0, 2, 2]), 2))
    assert [each.tolist() for each in found] == [[1, 3], [0, 4], [6, 7]]


def test_variances_of_batches():
    biased, corrected = studies.batch_variances([2, 5], 2.0, 40_000, rng())
    assert_close(corrected / biased, [2, 5 / 4])
    assert_close(corrected, [4, 4], 0.05)  # random: the standard error is 0.03 of 4 at most


def test_the_variance_of_correlated_maps_is_the_expected_one():
    maps = common.correlated_maps(2, 3, 0.8, 20_000, rng())
    variance = reference.observe(None, maps).var.mean()
    assert abs(variance - studies.expected_correction(2, 3, 0.8)) < 0.03


def test_expected_correction_by_brute_force():
    # E of the biased variance is the trace of (covariance of all values, centred), divided by their
    # number.
    covariance = np.kron(np.eye(4), np.full((9, 9), 0.3)) + 0.7 * np.eye(36)
    centring = np.eye(36) - 1 / 36
    assert_close(studies.expected_correction(4, 3, 0.3), np.trace(centring @ covariance) / 35)
    # the value of the literature
    assert studies.expected_correction(4, 8, 0.8) == pytest.approx(0.802, abs=5e-4)


def test_effective_batches():
    assert studies.effective_batches(1.0, 2, rng()) == pytest.approx(1, rel=0.2)
    assert studies.effective_batches(0.5, 30, rng()) == pytest.approx(3, rel=0.2)


def test_corrected_variances():
    measured, expected = studies.corrected_variances(2, 3, [0.0, 0.8], 20_000, rng())
    assert_close(expected, [1, studies.expected_correction(2, 3, 0.8)])
    assert np.abs(np.array(measured) - expected).max() < 0.03


def test_mutants_differ_where_they_should():
    x = rng().normal(5, 1, size=(4, 3))
    assert_close(studies.biased_stored(x).var, x.var(axis=0))
    assert list(studies.statistics_move(studies.Normalisation, x).values()) == [
        True,
        False,
        True,
        False,
    ]
    assert list(studies.statistics_move(studies.ModeFromGradients, x).values()) == [
        True,
        False,
        False,
        True,
    ]
    population, var = reference.Population(np.zeros(1), np.ones(1), 0), x.var(axis=0, ddof=1)[:1]
    for _ in range(3):
        population = reference.observe(population, x[:, :1], new_weight=0.2)
    assert_close(studies.debiased_from_one(var[0], 0.2, 3), population.var[0] / (1 - 0.8**3))


def test_a_layer_with_a_mode_is_torch_s():
    batches, layer = rng().normal(5, 2, size=(3, 4, 2)), studies.Normalisation(2, training=True)
    theirs = torch.nn.BatchNorm1d(2, dtype=torch.float64)
    for batch in batches:
        assert_close(layer(batch, gradients=False), theirs(torch.tensor(batch)))
    layer.training = False
    assert_close(layer(batches[0], gradients=True), theirs.eval()(torch.tensor(batches[0])))


def test_the_mutant_is_a_mistake_with_torch_s_own_switch_too():
    """The situations that only gradients decide: torch's layer goes by its mode."""
    x = torch.tensor(rng().normal(5, 1, size=(4, 3)))
    for situation, (training, gradients) in studies.SITUATIONS.items():
        layer = torch.nn.BatchNorm1d(3, dtype=torch.float64).train(training)
        with torch.set_grad_enabled(gradients):
            layer(x)
        moved = studies.statistics_move(studies.Normalisation, x.numpy())[situation]
        assert bool(layer.running_mean.any()) == moved
