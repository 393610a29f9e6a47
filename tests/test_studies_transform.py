"""The experiments of chapter 4: against formulas, against plain torch, and side by side against one by one."""

from itertools import islice

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from bnkit import reference
from bnkit.studies import transform as studies


def rng():
    return np.random.default_rng(0)


def close(actual, expected, tolerance=1e-10):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance, equal_nan=False)


@pytest.fixture(scope="module")
def digits():
    return studies.load_digits()


# Statistics


def test_largest_values():
    one_differs, gaussian = studies.largest_values([2, 10, 60], rng())
    close(one_differs, np.sqrt([1, 9, 59]))
    assert gaussian[0] == pytest.approx(1)
    assert (gaussian[1:] < one_differs[1:]).all()


def test_statistics_error_is_that_of_the_textbook():
    x = rng().normal(size=(100_000, 3))
    of_mean, of_variance = studies.statistics_error(x, [4, 25], 2_000, rng())
    np.testing.assert_allclose(of_mean, 1 / np.sqrt([4, 25]), rtol=0.03, equal_nan=False)
    np.testing.assert_allclose(of_variance, np.sqrt(2 / np.array([3, 24])), rtol=0.05, equal_nan=False)


def test_classes_on_a_line():
    x, labels = studies.classes_on_a_line(300, rng())
    assert x.shape == (3000, 1)
    assert x.var() == pytest.approx(4.36)
    assert [x[labels == label].var() for label in range(10)] == pytest.approx([1] * 10)
    shuffled = x[rng().permutation(len(x))]
    assert studies.averaged(x, 30).var[0] == pytest.approx(1, abs=0.02)  # of single classes: 300 is a multiple of 30
    assert studies.averaged(shuffled, 30).var[0] == pytest.approx(4.36, rel=0.03)


def test_averaged_is_algorithm_2():
    x = rng().normal(size=(12, 2))
    found = studies.averaged(x, 4)
    close(found.mean, x.mean(axis=0))
    close(found.var, np.mean([each.var(axis=0, ddof=1) for each in (x[:4], x[4:8], x[8:])], axis=0))
    assert found.batches == 3


# One unit


@pytest.mark.parametrize("learn", [True, False])
def test_one_unit_learns_as_torch_does(learn):
    u, target = np.linspace(-1, 1, 9), rng().normal(size=9)
    found = studies.fit_unit(u, target, learn, steps=3, rate=0.5)
    norm = nn.BatchNorm1d(1, dtype=torch.double)
    a, c = (torch.tensor(each, dtype=torch.double, requires_grad=True) for each in (1.0, 0.0))
    optimiser = torch.optim.SGD([a, c, *(norm.parameters() if learn else [])], lr=0.5)
    losses = []
    for _ in range(3):
        output = a * torch.sigmoid(norm(torch.tensor(u)[:, None]))[:, 0] + c
        loss = ((output - torch.tensor(target)) ** 2).mean() / 2
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    close(found.losses, losses)
    close(found.output, output.detach())


# Networks


@pytest.mark.parametrize("place", ["before", "after", "none"])
@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
def test_side_by_side_is_one_by_one_is_torch(place, activation, digits):
    """Three networks side by side learn what three plain torch networks learn, each at its own rates."""
    rates = [studies.Rates(0.1, 0.2, 0.3), studies.Rates(0.5, 0.0, 0.1), studies.Rates(0.0, 1.0, 0.5)]
    together = studies.Networks([3, 4, 5], 64, (7, 6), 10, activation, place)
    plain = [_plain_copy(together, index, place, activation) for index in range(3)]
    batches = list(islice(studies.shuffled(1500, 20, [3, 4, 5]), 4))
    course = studies.train(together, digits.images, digits.labels, iter(batches), rates, steps=4)
    for index, (network, rate) in enumerate(zip(plain, rates, strict=True)):
        optimiser = torch.optim.SGD(_groups(network, rate))
        for step, indices in enumerate(batches):
            x, labels = digits.images[indices[index]], digits.labels[indices[index]]
            loss = cross_entropy(network(x), labels)
            assert course.losses[index, step] == pytest.approx(loss.item(), rel=1e-4)
            assert course.weight_norms[index, step] == pytest.approx(network[0].weight.norm().item(), rel=1e-4)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    studies.collect_population(together, digits.images, iter(batches), 4)
    found = studies.accuracy(together, digits.test_images, digits.test_labels)
    for index, network in enumerate(plain):
        for module in network:
            if isinstance(module, nn.BatchNorm1d):
                module.reset_running_stats()
                module.momentum = None
        with torch.no_grad():
            for indices in batches:
                network(digits.images[indices[index]])
            network.eval()
            right = (network(digits.test_images).argmax(1) == digits.test_labels).double().mean().item()
        assert found[index] == pytest.approx(right, abs=0.011)  # float32 may turn two or three of 297 answers


def _plain_copy(together, index, place, activation):
    modules = []
    for layer, (weight, bias) in enumerate(zip(together.weights, together.biases, strict=True)):
        linear = nn.Linear(*weight.shape[1:])
        linear.weight.data, linear.bias.data = weight.data[index].T.clone(), bias.data[index, 0].clone()
        modules.append(linear)
        if layer < len(together.norms):
            norm = [nn.BatchNorm1d(weight.shape[2])] if place != "none" else []
            nonlinearity = [nn.Sigmoid() if activation == "sigmoid" else nn.ReLU()]
            modules += norm + nonlinearity if place == "before" else nonlinearity + norm
    return nn.Sequential(*modules)


def _groups(network, rate):
    last = network[-1]
    kinds = {nn.Linear: rate.weights, nn.BatchNorm1d: rate.gamma_beta}
    groups = [{"params": m.parameters(), "lr": kinds[type(m)]} for m in network if type(m) in kinds and m is not last]
    return [*groups, {"params": last.parameters(), "lr": rate.output}]


def test_a_rate_of_zero_freezes(digits):
    networks = studies.Networks([0], 64, (5,), 10, "relu", "before")
    before = {name: value.clone() for name, value in networks.named_parameters()}
    studies.train(
        networks, digits.images, digits.labels, studies.shuffled(1500, 20, [0]), [studies.Rates(0, 0.5, 0)], 3
    )
    moved = {name for name, value in networks.named_parameters() if not torch.equal(value, before[name])}
    assert moved == {"norms.0.weight", "norms.0.bias"}


def test_compare_pairs_seeds_and_repeats_itself(digits):
    settings = [studies.Rates.equal(0.1), studies.Rates.equal(0.5), studies.Rates.equal(0.1)]
    threads = torch.get_num_threads()
    one, two = (studies.compare(digits, "relu", "before", settings, seeds=2, steps=6) for _ in range(2))
    assert torch.get_num_threads() == threads
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


def test_batch_statistics_let_neighbours_in(digits):
    """The same networks: with all classes in a test batch nothing happens, with a single one nothing works."""
    outcome = studies.compare(digits, "relu", "before", [studies.Rates.equal(0.5)], seeds=2, steps=80)
    one, ten = studies.answer_among_few_classes(digits, outcome, [1, 10], count=20).T
    assert outcome.accuracies.min() > 0.9
    assert ten.min() > 0.9
    assert one.max() < 0.4


def test_around_the_nonlinearity(digits):
    networks = studies.Networks([0, 1], 64, (5, 4), 10, "relu", "before")
    before, after = studies.around_the_nonlinearity(networks, digits.images[:50])
    assert before.shape == (50 * 2 * 4,)
    assert before.mean() == pytest.approx(0, abs=1e-9)
    assert before.var() == pytest.approx(1)
    hidden = torch.relu(
        torch.nn.functional.batch_norm(digits.images[:50] @ networks.weights[0][0], None, None, training=True)
    )
    wu = (hidden @ networks.weights[1][0])[:, 0].detach().double().numpy()
    close(before.reshape(50, 8)[:, 0], (wu - wu.mean()) / wu.std(), 1e-4)
    assert after.min() > before.min()  # cut off by the nonlinearity


# Scale


def test_layer_and_gradients_against_torch():
    weight, u, upstream = rng().normal(size=(4, 3)), rng().normal(size=(6, 4)), rng().normal(size=(6, 3))
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
    """The inputs of the chapter: four values of spread 0.003, and float32 with a large mean for the fourth mutant."""
    x = 0.003 * rng().normal(size=(4, 50))
    expected = x.var(axis=0) / (x.var(axis=0) + 1e-5)
    close(studies.normalised(x).var(axis=0), expected)
    for name, mutant in studies.MUTANTS.items():
        found = mutant(x, 1e-5)
        close(found.mean(axis=0), 0, 1e-9)  # which is why a test of the mean alone sees none of them
        if name == "E[x²] − E[x]²":
            close(found.var(axis=0), expected, 1e-6)  # right, but for this:
            with np.errstate(invalid="ignore"):  # roots of negative variances
                found = mutant((x + 10).astype(np.float32), 1e-5)
        assert not np.allclose(found.var(axis=0), expected, atol=0.01), name


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
