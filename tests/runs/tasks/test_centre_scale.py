"""Centre x scale: the networks are what the kinds say, learn what they say, and share their start."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from bnkit import datasets
from bnkit.networks.digits import Digits
from bnkit.runs import experiments, records
from bnkit.runs.tasks import centre_scale
from bnkit.runs.tasks.centre_scale import KINDS, PLAIN, CentreScaleRecipe, Kind

SMALL = CentreScaleRecipe(activation="relu", depth=2, width=8, steps=6)
RATES = (0.1, 0.5)


@pytest.fixture(scope="module")
def digits():
    return Digits.load()


def test_the_grid():
    assert len(KINDS) == len(set(KINDS)) == 11
    assert KINDS.count(PLAIN) == 1
    assert max(centre_scale.RATES) == 1_000 * min(centre_scale.RATES)
    names = [name for name in experiments.EXPERIMENTS if name.startswith("after/parts-")]
    assert len(names) == 8
    assert all(experiments.experiment(name).seeds >= 1 for name in names)


def test_all_start_from_the_same_weights(digits):
    networks = centre_scale.build(SMALL, RATES, digits)
    for layer in networks.layers:
        assert (layer["weight"] == layer["weight"][:1]).all()
    tenth = centre_scale.build(replace(SMALL, start=0.1), RATES, digits)
    ratio = tenth.layers[1]["weight"] / networks.layers[1]["weight"]
    assert np.allclose(ratio, 0.1)
    assert abs(networks.layers[0]["weight"].std() * 32**0.5 - 1) < 0.1  # He: sqrt(2 / 64)


def torchs(kind: Kind, digits, rate: float) -> float:
    """Test accuracy of one network of SMALL in torch, with BatchNorm1d or without."""
    networks = centre_scale.build(SMALL, RATES, digits)
    weights = [torch.from_numpy(layer["weight"][0].T.copy()) for layer in networks.layers]
    layers = []
    for weight in weights[:-1]:
        linear = nn.Linear(*weight.shape[::-1], bias=kind == PLAIN)
        linear.weight.data = weight
        norm = nn.BatchNorm1d(len(weight), affine=kind.gamma, momentum=None)
        layers += [linear] + [norm] * (kind.part == "both") + [nn.ReLU()]
        if kind == PLAIN:
            nn.init.zeros_(linear.bias)
    last = nn.Linear(8, 10)
    last.weight.data = weights[-1]
    nn.init.zeros_(last.bias)
    net = nn.Sequential(*layers, last)
    order, optimiser = datasets.batches(1500, 32, 0), torch.optim.SGD(net.parameters(), rate)
    x, labels = torch.from_numpy(digits.x), torch.from_numpy(digits.labels)
    for _ in range(SMALL.steps):
        batch = torch.from_numpy(next(order))
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(x[batch]), labels[batch]).backward()
        optimiser.step()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.reset_running_stats()
    with torch.no_grad():
        net.train()(x[:256])
        right = net.eval()(torch.from_numpy(digits.x_test)).argmax(1).numpy()
    return float((right == digits.test_labels).mean())


@pytest.mark.parametrize("kind", [PLAIN, Kind("both", True, True), Kind("both", False, False)])
def test_what_torch_has_too_goes_the_same_way(kind, digits):
    *_, (step, tested) = centre_scale.train(SMALL, RATES)
    assert step == SMALL.steps
    for rate, accuracy in zip(RATES, tested[KINDS.index(kind)], strict=True):
        # an example or two may lie on the border
        assert abs(accuracy - torchs(kind, digits, rate)) < 3 / 297


def test_gamma_and_beta_learn_where_they_should(digits):
    rates = (0.01,)  # none diverges
    networks, of_all = centre_scale.build(SMALL, rates, digits), centre_scale.columns(rates)
    learned = {name: np.array([getattr(k, name) for k, _ in of_all]) for name in ("gamma", "beta")}
    every = np.full(len(of_all), 0.01)
    centre_scale._step(
        networks, digits.x[:32], digits.labels[:32], every, learned, np.arange(len(of_all))
    )
    for index, (kind, _) in enumerate(of_all):
        for layer in networks.layers[: SMALL.depth]:
            assert (layer["gamma"][index] != 1).any() == kind.gamma
            assert (layer["beta"][index] != 0).any() == kind.beta
        assert (networks.layers[-1]["bias"][index] != 0).all()


def test_one_that_diverges_leaves_the_others_alone(digits):
    wild = [(kind, rate) for kind, rate in centre_scale.columns((0.1, 1e6))]
    assert len(wild) == 2 * len(KINDS)
    *_, (_, both) = centre_scale.train(SMALL, (0.1, 1e6))
    *_, (_, calm) = centre_scale.train(SMALL, (0.1,))
    assert both[KINDS.index(PLAIN), 1] == 0
    assert np.array_equal(both[:, 0], calm[:, 0])


def test_a_run_tests_at_its_looks_and_counts_the_diverged_as_zero():
    task = centre_scale.Task(replace(SMALL, steps=30))
    curves = task.train(None, lambda step: None).curves
    assert curves["accuracies"]["steps"] == [1, 25, 30]
    accuracies = np.array(curves["accuracies"]["values"])
    assert accuracies.shape == (3, len(KINDS), len(centre_scale.RATES))
    assert np.allclose(accuracies.mean((1, 2)), curves["test_accuracy"]["values"], atol=1e-3)
    assert np.isfinite(accuracies).all()
    assert accuracies[-1, :, -1].min() == 0  # at a rate of 10 something diverges
    assert records.round_to(0.123456) == 0.1235
