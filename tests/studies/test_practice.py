"""The studies of chapter 11: each use by another way, and what is frozen stays as it was."""

import numpy as np
import pytest
import torch
from conftest import assert_close

from bnkit.networks import many_torch
from bnkit.networks.digits import Digits
from bnkit.studies import practice
from bnkit.studies.practice import METHODS, Frozen

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def digits():
    return Digits.load("unit")


def some(n: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(n, 64, generator=generator), torch.arange(n) % 5


def normalisations(net):
    state = net.state_dict()
    pick = lambda *ends: {name: state[name].clone() for name in state if name.endswith(ends)}  # noqa: E731
    return pick("running_mean", "running_var"), pick("norm.weight", "norm.bias")


def unchanged(before: dict, after: dict) -> bool:
    return all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("name", METHODS)
def test_what_is_frozen_stays_and_all_else_moves(name):
    frozen, net = METHODS[name], practice._networks([0, 1], 5)
    many_torch.inference(net, *some()[:1], 2)  # statistics that are no longer 0 and 1
    before, weights = normalisations(net), net[0].weight.clone()
    assert all(map(len, before))
    practice._train(net, some()[0] + 1, some()[1], [0.1, 0.1], 3, 8, frozen)
    after = normalisations(net)
    still = frozen.statistics and not frozen.renewed
    assert [unchanged(*pair) for pair in zip(before, after, strict=True)] == [still, frozen.affine]
    assert not torch.equal(net[0].weight, weights)


def test_renewed_statistics_are_those_of_the_new_examples_before_training():
    x, labels = some()
    net, expected = practice._networks([0, 1], 5), practice._networks([0, 1], 5)
    many_torch.inference(expected, x, 2)
    practice._train(net, x, labels, [0.1, 0.1], 3, 8, METHODS["statistics renewed, then frozen"])
    assert unchanged(normalisations(expected)[0], normalisations(net)[0])


def test_a_new_head_leaves_the_rest_as_it_was():
    x, labels = some()
    start = practice._train(practice._networks([0, 1], 5), x, labels, [0.1, 0.2], 5, 8)
    net = practice._with_a_new_head(start, [0, 1, 0, 1, 0, 1], 2)
    hidden = lambda net, networks: net[:-1].eval()(x.expand(networks, *x.shape)).detach()  # noqa: E731
    assert torch.allclose(hidden(net, 6), hidden(start, 2).repeat(3, 1, 1), atol=1e-6)
    assert torch.equal(net[-1].weight[:2], net[-1].weight[2:4])
    assert not torch.equal(net[-1].weight[:2], start[-1].weight)


def test_groups_are_normalised_by_themselves_and_leave_no_trace():
    x, labels = some()
    net = practice._train(practice._networks([0, 1], 5), x, labels, [0.1, 0.2], 20, 8)
    before = normalisations(net)[0]
    groups = torch.arange(40).split(8)
    found = practice._in_groups(net, x, labels, groups, 2)
    named = [net.train()(x[k].expand(2, *x[k].shape)).argmax(-1) == labels[k] for k in groups]
    net.load_state_dict(before, strict=False)
    assert_close(found, torch.cat(named, 1).double().mean(1).numpy())


def test_the_uses_differ_in_nothing_but_the_statistics(digits):
    found = practice.uses(digits, seeds=2, steps=60)
    assert tuple(found) == practice.USES
    right, mixed, pairs, by_class, _ = (found[use].mean() for use in practice.USES)
    assert right > 0.9
    assert mixed > 0.9
    assert by_class < pairs < 0.7  # two digits hide each other, one class hides itself
    again = practice.uses(digits, seeds=2, steps=60)
    assert all(np.array_equal(found[use], again[use]) for use in practice.USES)


def test_fine_tuning_has_a_place_for_each_size_rate_and_seed(digits):
    found = practice.fine_tune(digits, (8, 16), (0.03, 0.3, 0.1), seeds=2, steps=30, epochs=1)
    assert list(found) == list(practice.CAMERAS)
    for methods in found.values():
        assert list(methods) == list(METHODS)
        assert {each.shape for each in methods.values()} == {(2, 3, 2)}
    same = found["the same camera"]
    assert not np.array_equal(same["nothing frozen"], same["statistics frozen"])


def test_the_best_rate_is_chosen_for_each_size_by_its_mean():
    accuracy = np.array([[[0.5, 0.7], [0.9, 0.1]], [[0.2, 0.2], [0.3, 0.2]]])
    assert_close(practice.at_best(accuracy), np.array([[0.5, 0.3], [0.7, 0.2]]))


def test_the_other_camera_keeps_pixels_between_0_and_1():
    pixels = practice.another_camera(torch.tensor([0.0, 0.5, 1.0]))
    assert_close(pixels.numpy(), np.array([0.9, 0.7, 0.5], np.float32))
    assert Frozen() == METHODS["nothing frozen"]
