"""Other company at test time: what is shifted, frozen and renewed is what the names say."""

import numpy as np
import pytest
import torch
from conftest import assert_close
from torch import nn

from bnkit.networks.digits import Digits
from bnkit.studies import elsewhere, inference


@pytest.fixture(scope="module")
def digits():
    return Digits.load("unit", np.float64)


def test_new_statistics_undo_a_change_of_contrast_exactly(digits):
    """γ BN(x / 3) is γ BN(x) but for ε; noise is another matter."""
    course = inference.train(digits, steps=60, seed=0, new_weights={}, checks=2)
    truth = inference.truth(course.network, digits.x)
    found = elsewhere.shifted([course.network], [truth], digits)
    names = list(elsewhere.shifts(np.random.default_rng(0)))
    assert found.kept.shape == found.anew.shape == (1, len(names))
    same = found.anew[0, names.index("as trained")]
    assert abs(found.anew[0, names.index("a third of the contrast")] - same) < 0.02
    assert found.anew[0, names.index("brighter by a half")] == pytest.approx(same, abs=1e-9)


def test_renewed_statistics_are_those_of_the_images():
    net, x = elsewhere.convnet(0), torch.randn(40, 1, 8, 8, generator=torch.manual_seed(1))
    elsewhere.renew(net, x)
    assert [m.momentum for m in net.modules() if isinstance(m, nn.BatchNorm2d)] == [0.1, 0.1]
    first = net[0](x).detach()
    assert_close(net[1].running_mean, first.mean((0, 2, 3)), 1e-4)
    assert_close(net[1].running_var, first.var((0, 2, 3)), 1e-4)
    assert not net.training


@pytest.mark.parametrize("frozen", [False, True])
def test_frozen_statistics_stay_and_weights_learn(digits, frozen):
    net, x = elsewhere.convnet(0), elsewhere.images(digits.x[:40])
    labels = torch.from_numpy(digits.labels[:40])
    layers = [module for module in net if isinstance(module, nn.BatchNorm2d)]
    before = [layer.running_mean.clone() for layer in layers]
    weight = net[0].weight.detach().clone()
    options = {"steps": 3, "batch_size": 10, "rate": 0.1}
    elsewhere.learn(net, x, labels, **options, frozen=frozen)
    stayed = [torch.equal(a, layer.running_mean) for a, layer in zip(before, layers, strict=True)]
    assert stayed == [frozen, frozen]
    assert not torch.equal(weight, net[0].weight)


def test_every_way_starts_from_the_same_network(digits):
    found, before = elsewhere.fine_tuned(digits, (20,), seeds=1, steps=30)
    assert list(found) == list(elsewhere.WAYS)
    assert all(of_way.shape == (1, 1) for of_way in found.values())
    assert before.shape == (1,)
    assert found["renewed, then frozen"][0, 0] > before[0]


def test_sizes(digits):
    found = elsewhere.at_sizes(digits, (8, 12), seeds=1, steps=60)
    assert found.shape == (2, 2, 1)
    assert abs(found[0, 0, 0] - found[1, 0, 0]) < 0.1  # at its own size little changes
    assert found[1, 1, 0] > found[0, 1, 0]
