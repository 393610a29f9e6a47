"""Many networks at once: against torch, one by one, and what happens when one of them diverges."""

import numpy as np
import pytest
import torch
from conftest import assert_close

from bnkit import datasets, reference
from bnkit.gradcheck import numerical_gradient
from bnkit.networks import many_numpy


def some(activation="tanh", norm=True, seeds=(0, 1), depth=3, classes=4, **options):
    return many_numpy.build(
        5, 6, depth, classes, activation, norm, lambda a, b: a**-0.5, seeds, **options
    )


def batch(examples=7, seed=0):
    generator = np.random.default_rng(seed)
    return generator.standard_normal((examples, 5)), generator.integers(0, 4, examples)


def shake(networks, seed=3):
    """Give every parameter a value that is not its initial one, a negative gamma included."""
    generator = np.random.default_rng(seed)
    for layer in networks.layers:
        for name, value in layer.items():
            value += generator.normal(0, 0.5 if name != "gamma" else 1.5, value.shape)
    return networks


def loss_and_gradients(networks, x, labels, **options):
    outputs, tape = many_numpy.forward(networks, x, **options)
    loss, d_outputs = many_numpy.cross_entropy(outputs, labels)
    return loss, *many_numpy.backward(networks, tape, d_outputs)


# Against torch


class Torch(torch.nn.Module):
    """One network of a stack, in torch's own layers."""

    def __init__(self, networks, which):
        super().__init__()
        self.parts = torch.nn.ModuleList()
        for index, layer in enumerate(networks.layers):
            weight = layer["weight"][which]
            linear = torch.nn.Linear(*weight.shape, bias="bias" in layer, dtype=torch.double)
            linear.weight.data[:] = torch.tensor(weight.T)
            self.parts.append(linear)
            if "bias" in layer:
                linear.bias.data[:] = torch.tensor(layer["bias"][which])
            if index < networks.depth:
                activations = {
                    "sigmoid": torch.nn.Sigmoid,
                    "tanh": torch.nn.Tanh,
                    "relu": torch.nn.ReLU,
                }
                self.parts.append(activations.get(networks.activation, torch.nn.Identity)())
            if "gamma" in layer:
                norm = torch.nn.BatchNorm1d(
                    weight.shape[1], eps=networks.eps, momentum=None, dtype=torch.double
                )
                norm.weight.data[:] = torch.tensor(layer["gamma"][which])
                norm.bias.data[:] = torch.tensor(layer["beta"][which])
                self.parts.insert(len(self.parts) - (networks.place == "before"), norm)

    def forward(self, x):
        for part in self.parts:
            x = part(x)
        return x

    def named(self):
        """Gradients in the order and the layout of the stack's parameters."""
        for part in self.parts:
            if isinstance(part, torch.nn.Linear):
                yield part.weight.grad.T
                if part.bias is not None:
                    yield part.bias.grad
            elif isinstance(part, torch.nn.BatchNorm1d):
                yield part.weight.grad
                yield part.bias.grad


PLACES = [(False, "before"), (True, "before"), (True, "after")]


@pytest.mark.parametrize(("norm", "place"), PLACES)
@pytest.mark.parametrize("activation", ["linear", "sigmoid", "tanh", "relu"])
def test_agrees_with_torch(activation, norm, place):
    networks = shake(some(activation, norm, eps=1e-3, place=place))
    x, labels = batch()
    loss, gradients, d_inputs = loss_and_gradients(networks, x, labels)
    for which in range(2):
        theirs, inputs = Torch(networks, which), torch.tensor(x, requires_grad=True)
        expected = torch.nn.functional.cross_entropy(theirs(inputs), torch.tensor(labels))
        expected.backward()
        assert_close(loss[which], expected)
        assert_close(d_inputs[0][which], inputs.grad)
        names = ("weight", "bias", "gamma", "beta")
        ours = [
            layer[name][which].ravel() for layer in gradients for name in names if name in layer
        ]
        assert [sorted(layer) for layer in gradients] == [
            sorted(layer) for layer in networks.layers
        ]
        # together: below a linear layer with BN, the gradient of gamma is zero but for rounding
        assert_close(
            np.concatenate(ours), np.concatenate([each.ravel() for each in theirs.named()])
        )


@pytest.mark.parametrize(("norm", "place"), PLACES)
def test_training_agrees_with_torch(norm, place):
    """Twenty steps of gradient descent on the same mini-batches, then inference."""
    data = datasets.load("digits")
    x, labels = (
        many_numpy.inputs(data.train_images, data).astype(float)[:200],
        data.train_labels[:200],
    )
    networks = many_numpy.build(
        64, 8, 2, 10, "sigmoid", norm, lambda a, b: a**-0.5, [0, 1], place=place
    )
    theirs = [Torch(networks, which) for which in range(2)]
    rates, decay = np.array([0.5, 2.0]), 1e-2
    for step, chosen in many_numpy.train(networks, x, labels, rates, 20, 25, decay=decay):
        if step == 20:
            break
        for network, rate in zip(theirs, rates, strict=True):
            network.zero_grad()
            torch.nn.functional.cross_entropy(
                network(torch.tensor(x[chosen])), torch.tensor(labels[chosen])
            ).backward()
            for part in network.parts:
                for name, parameter in part.named_parameters():
                    penalty = decay * parameter if name == "weight" and parameter.ndim == 2 else 0
                    parameter.data -= rate * (parameter.grad + penalty)
    populations = many_numpy.observe(networks, x) if norm else None
    outputs, _ = many_numpy.forward(networks, x[:9], populations=populations)
    for which, network in enumerate(theirs):
        for part in network.parts:
            if hasattr(part, "reset_running_stats"):
                part.reset_running_stats()
        network(torch.tensor(x))
        assert_close(outputs[which], network.eval()(torch.tensor(x[:9])), tolerance=1e-9)


# Central differences, for what torch's networks have not


@pytest.mark.parametrize(("norm", "place"), PLACES)
def test_gradients_with_noise_and_dropout(norm, place):
    networks = shake(some("tanh", norm, seeds=[0], place=place))
    x, labels = batch(5)
    generator = np.random.default_rng(1)
    drawn = [
        (generator.normal(1, 0.3, (1, 5, 6)), generator.normal(0, 0.3, (1, 5, 6))) for _ in range(3)
    ]
    kept = [(generator.random((1, 5, 6)) < 0.7) / 0.7 for _ in range(3)]
    options = {"noise": lambda k, shape: drawn[k], "dropout": lambda k, shape: (kept[k], 0.0)}
    _, gradients, _ = loss_and_gradients(networks, x, labels, **options)
    for layer, gradient in zip(networks.layers, gradients, strict=True):
        for name, value in layer.items():

            def loss(changed, layer=layer, name=name, kept=value):
                layer[name] = changed
                result = many_numpy.cross_entropy(
                    many_numpy.forward(networks, x, **options)[0], labels
                )[0][0]
                layer[name] = kept
                return result

            # of differences
            assert_close(gradient[name], numerical_gradient(loss, value), tolerance=1e-6)


# One by one


@pytest.mark.parametrize("norm", [False, True])
def test_a_stack_is_its_networks_one_by_one(norm):
    x, labels = batch()
    together = some("relu", norm, seeds=(4, 5, 6))
    alone = some("relu", norm, seeds=(5,))
    rates = np.array([0.1, 0.3, 0.9])
    for _ in many_numpy.train(together, x, labels, rates, 8, 5):
        pass
    for _ in many_numpy.train(alone, x, labels, 0.3, 8, 5):
        pass
    for ours, theirs in zip(together.layers, alone.layers, strict=True):
        for name in ours:
            assert_close(ours[name][1], theirs[name][0])


def test_control_and_treatment_start_from_equal_weights():
    control, treatment = some(norm=False), some(norm=True)
    for a, b in zip(control.layers, treatment.layers, strict=True):
        assert_close(a["weight"], b["weight"], tolerance=0)
    assert [sorted(layer) for layer in treatment.layers] == [["beta", "gamma", "weight"]] * 3 + [
        ["bias", "weight"]
    ]


def test_the_deviation_may_differ_from_network_to_network():
    networks = many_numpy.build(
        50, 60, 1, None, "relu", False, lambda a, b: np.array([1.0, 2.0]) / a**0.5, [3, 3]
    )
    weight = networks.layers[0]["weight"]
    assert_close(weight[1], 2 * weight[0])
    assert abs(weight[0].std() * 50**0.5 - 1) < 0.05


def test_inputs_can_differ_from_network_to_network():
    networks = some(seeds=(0, 0))
    x, _ = batch()
    both = many_numpy.forward(networks, np.stack([x, -x]))[0]
    assert_close(both[1], many_numpy.forward(networks, -x)[0][0])


def test_inference_uses_the_population():
    networks = shake(some(seeds=[0]))
    x, _ = batch(30)
    populations = many_numpy.observe(networks, x)
    first = networks.layers[0]
    expected = reference.observe(None, x @ first["weight"][0])
    assert_close(populations[0].mean, expected.mean)
    assert_close(populations[0].var, expected.var)
    assert populations[-1] is None
    whole, _ = many_numpy.forward(networks, x[:6], populations=populations)
    one, _ = many_numpy.forward(networks, x[:1], populations=populations)
    assert_close(one[:, 0], whole[:, 0])


# Divergence


@pytest.mark.parametrize("norm", [False, True])
def test_a_network_that_diverges_is_taken_out_and_leaves_the_others_alone(norm):
    x, labels = batch(20)
    x *= 3
    rates = np.array([0.1, 1e9])
    networks, alone = some("relu", norm, seeds=(0, 1)), some("relu", norm, seeds=(0,))
    for each, rate in ((networks, rates), (alone, 0.1)):
        for _ in many_numpy.train(each, x, labels, rate, 30, 10):
            pass
    assert networks.diverged.tolist() == [False, True]
    assert not any(value[1].any() for layer in networks.layers for value in layer.values())
    found = many_numpy.accuracy(networks, x, labels)
    assert np.isnan(found[1])
    assert_close(found[:1], many_numpy.accuracy(alone, x, labels))
    for ours, theirs in zip(networks.layers, alone.layers, strict=True):
        assert_close(ours["weight"][0], theirs["weight"][0])


# Pieces


def test_populations_of_several_batches_are_their_average():
    """Algorithm 2, line 10: means of the batch means and of the corrected batch variances, of what
    is normalised."""
    for place in many_numpy.PLACES:
        networks = shake(some("tanh", place=place))
        batches = [batch(seed=seed)[0] for seed in range(3)]
        populations = None
        for x in batches:
            populations = many_numpy.observe(networks, x, populations)
        seen = [x @ networks.layers[0]["weight"][1] for x in batches]
        if place == "after":
            seen = [np.tanh(x + networks.layers[0]["bias"][1]) for x in seen]
        ours = slice(6, 12)  # the second network's units
        assert_close(populations[0].mean[ours], np.mean([x.mean(axis=0) for x in seen], axis=0))
        assert_close(
            populations[0].var[ours], np.mean([x.var(axis=0, ddof=1) for x in seen], axis=0)
        )
        assert populations[-1] is None


def test_labels_can_differ_from_network_to_network():
    outputs = np.random.default_rng(0).normal(size=(2, 5, 4))
    labels = np.random.default_rng(1).integers(0, 4, (2, 5))
    loss, d = many_numpy.cross_entropy(outputs, labels)
    for which in range(2):
        alone, d_alone = many_numpy.cross_entropy(outputs[which : which + 1], labels[which])
        assert_close(loss[which], alone[0])
        assert_close(d[which], d_alone[0])
        one, d_one = many_numpy.cross_entropy(outputs[which], labels[which])  # without their axis
        assert np.array_equal(one, alone[0])
        assert np.array_equal(d_one, d_alone[0])


def test_cross_entropy_of_huge_outputs():
    outputs = np.array([[[1000.0, 0.0], [0.0, 1000.0]]])
    loss, d = many_numpy.cross_entropy(outputs, np.array([0, 0]))
    assert_close(loss, [500.0])
    assert_close(d, [[[0, 0], [-0.5, 0.5]]])


def test_descend_moves_only_the_chosen_layers():
    networks, x, labels = some(), *batch()
    before = many_numpy.copy(networks)
    _, gradients, _ = loss_and_gradients(networks, x, labels)
    many_numpy.descend(networks, gradients, 0.1, layers=slice(2))
    moved = [
        not np.array_equal(a["weight"], b["weight"])
        for a, b in zip(networks.layers, before.layers, strict=True)
    ]
    assert moved == [True, True, False, False]


def test_inputs_have_the_mean_and_spread_of_the_training_images():
    data = datasets.load("digits")
    x = many_numpy.inputs(data.train_images, data)
    assert x.dtype == np.float32
    assert np.abs(x.mean(0)).max() < 1e-6
    seen = data.train_images.reshape(1500, 64).astype(float)
    assert_close(x[7], ((seen - seen.mean(0)) / seen.std())[7], tolerance=1e-6)


def test_the_sigmoid_of_extreme_inputs_does_not_overflow():
    g = many_numpy.ACTIVATIONS["sigmoid"]
    z = np.array([-1e4, 0.0, 1e4])
    assert g.value(z).tolist() == [0, 0.5, 1]
    assert g.slope(z).tolist() == [0, 0.25, 0]


@pytest.mark.parametrize("name", list(many_numpy.ACTIVATIONS))
def test_slopes_are_derivatives(name):
    g, z = many_numpy.ACTIVATIONS[name], np.array([-2.0, -0.3, 0.4, 1.7])
    expected = numerical_gradient(lambda at: g.value(at).sum(), z)
    assert_close(g.slope(z), expected, tolerance=1e-8)


def test_an_unknown_place_is_refused():
    with pytest.raises(ValueError, match=r"no place 'inside' .*: before, after"):
        some(place="inside")


def test_an_unknown_activation_is_refused():
    with pytest.raises(
        ValueError, match="no activation 'swish'; there are: linear, sigmoid, tanh, relu"
    ):
        some("swish")


def test_a_network_whose_outputs_overflow_is_wrong_and_warns_nobody():
    networks = many_numpy.build(
        3, 4, 6, 2, "relu", False, lambda fan_in, fan_out: 1e7, [0], dtype=np.float32
    )
    x = np.ones((5, 3), np.float32)
    assert 0 <= many_numpy.accuracy(networks, x, np.ones(5, int))[0] <= 1
