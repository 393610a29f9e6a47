"""Networks side by side are the same as one by one, whatever the norm, and do not disturb each
other.
"""

import numpy as np
import pytest
import torch
from conftest import assert_close
from torch import nn

from bnkit.networks import many_torch

torch.set_num_threads(1)
NORMS = {
    "none": (None, None),
    "batch": (nn.BatchNorm1d, nn.BatchNorm1d),
    "group": (
        lambda features: nn.GroupNorm(3 * 2, features),
        lambda features: nn.GroupNorm(2, features),
    ),
    "layer": (lambda features: nn.GroupNorm(3, features), nn.LayerNorm),
}


def data(m=7):
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.normal(size=(m, 5)).astype(np.float32)), torch.from_numpy(
        rng.integers(0, 3, m)
    )


def batches(steps):
    return (data(7) for _ in range(steps))


@pytest.mark.parametrize("name", NORMS)
def test_three_networks_are_three_times_one(name):
    """Groups have four features or more: two can lie so close together that what divides by their
    deviation, four times, shows the rounding of sums in another order. Else it stays below 2e-6."""
    together, alone = NORMS[name]
    crowded = many_torch.mlp(5, (8, 12), 3, [0, 1, 2], together)
    x, labels = data()
    rates = [0.1, 0.5, 0.02]
    for _ in many_torch.train(crowded, batches(4), rates):
        pass
    outputs = crowded(x.expand(3, *x.shape))
    for which, rate in enumerate(rates):
        single = many_torch.mlp(5, (8, 12), 3, [which], alone)
        optimiser = torch.optim.SGD(single.parameters(), lr=rate)
        for a, b in batches(4):
            optimiser.zero_grad()
            nn.functional.cross_entropy(single(a[None])[0], b).backward()
            optimiser.step()
        assert_close(outputs[which], single(x[None])[0], 1e-5)
        expected = nn.functional.cross_entropy(single(x[None])[0], labels)
        assert_close(many_torch.losses(crowded, x, labels, 3)[which], expected, 1e-5)


def test_a_diverged_network_leaves_the_others_alone():
    x, _ = data()
    calm, wild = (many_torch.mlp(5, (4,), 3, [0, 1], nn.BatchNorm1d) for _ in range(2))
    for net, rates in ((calm, [0.1, 0.1]), (wild, [0.1, 1e30])):
        for _ in many_torch.train(net, batches(3), rates):
            pass
    found, expected = (net(x.expand(2, *x.shape)) for net in (wild, calm))
    assert torch.equal(found[0], expected[0])
    assert not torch.isfinite(found[1]).all()


def test_weights_have_the_deviation_asked_for_and_seeds_mean_weights():
    linear = many_torch.Linear(
        400, 300, [np.random.default_rng(s) for s in (0, 1)], gain=np.array([1.0, 3.0])
    )
    assert_close(linear.weight.std((1, 2)).detach(), [1 / 20, 3 / 20], 0.02)
    with_bn, without = (
        many_torch.mlp(5, (4, 6), 3, [0, 1], norm) for norm in (nn.BatchNorm1d, None)
    )
    assert torch.equal(with_bn[3].weight, without[2].weight)
    assert with_bn[3].bias is None
    assert without[2].bias is not None


def test_inference_takes_the_population_from_one_batch():
    net = many_torch.mlp(5, (4,), 3, [0, 1], nn.BatchNorm1d)
    x, labels = data(50)
    for _ in many_torch.train(net, batches(3), [0.1, 0.1]):
        pass
    assert not many_torch.inference(net, x, 2).training
    inputs = x @ net[0].weight[1].detach()
    assert_close(net[1].norm.running_mean[4:], inputs.mean(0))
    assert_close(net[1].norm.running_var[4:], inputs.var(0))
    hand = [(net(x.expand(2, *x.shape))[k].argmax(1) == labels).double().mean() for k in range(2)]
    assert_close(many_torch.accuracy(net, x, labels, 2), np.array(hand))


def test_only_the_chosen_parameters_learn():
    net = many_torch.mlp(5, (4,), 3, [0], nn.BatchNorm1d)
    before = [value.clone() for value in net.parameters()]
    for _ in many_torch.train(net, batches(2), [0.1], parameters=net[1].parameters()):
        pass
    moved = [not torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True)]
    assert moved == [False, True, True, False, False]
