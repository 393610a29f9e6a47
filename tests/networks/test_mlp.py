"""The network of Section 4.1: its counts, its initial weights, and that treatment and control
differ in BN alone.
"""

import pytest
import torch
from torch import nn

from bnkit.layers import BatchNorm
from bnkit.networks.mlp import MLP


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_parameter_counts_of_the_paper():
    assert parameters(MLP(784)) == 99_710
    # 300 biases out, 300 gammas and 300 betas in
    assert parameters(MLP(784, norm=BatchNorm)) == 100_010


def test_treatment_and_control_differ_in_the_norm_and_its_biases_alone():
    control = dict(MLP(784, generator=torch.Generator().manual_seed(1)).named_parameters())
    treatment = dict(
        MLP(784, norm=BatchNorm, generator=torch.Generator().manual_seed(1)).named_parameters()
    )
    assert {name for name in control if name not in treatment} == {
        f"hidden.{i}.linear.bias" for i in range(3)
    }
    assert {name for name in treatment if name not in control} == {
        f"hidden.{i}.norm.{which}" for i in range(3) for which in ("weight", "bias")
    }
    for name in control.keys() & treatment.keys():
        assert torch.equal(control[name], treatment[name])


def test_drawn_biases_change_no_weight_and_the_last_ones_are_those_of_both_networks():
    def made(norm, bias_sigma):
        generator = torch.Generator().manual_seed(0)
        return MLP(784, norm=norm, bias_sigma=bias_sigma, generator=generator)

    plain, drawn, normalised = made(None, 0.0), made(None, 0.5), made(BatchNorm, 0.5)
    for one, other in zip(plain.hidden, drawn.hidden, strict=True):
        assert torch.equal(one.linear.weight, other.linear.weight)
    assert torch.equal(drawn.output.bias, normalised.output.bias)
    biases = torch.cat([layer.linear.bias for layer in drawn.hidden])
    assert abs(biases.std() - 0.5) < 0.06  # 300 of them: 0.5 / sqrt(600) is a deviation
    assert not normalised.hidden[0].norm.bias.any()


def test_initial_weights_have_the_asked_spread_and_biases_are_zero():
    model = MLP(784, init_sigma=0.3, generator=torch.Generator().manual_seed(0))
    first = model.hidden[0].linear
    # 78,400 draws: relative error 0.0025
    assert first.weight.std().item() == pytest.approx(0.3, rel=0.01)
    assert first.weight.mean().item() == pytest.approx(0.0, abs=0.005)
    assert not first.bias.any()


def test_normalisation_stands_right_before_the_nonlinearity():
    model = MLP(
        5, (4,), 3, norm=BatchNorm, activation="tanh", generator=torch.Generator().manual_seed(0)
    )
    u = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
    x = u @ model.hidden[0].linear.weight.T
    x_hat = (x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt()
    expected = torch.tanh(x_hat) @ model.output.weight.T
    torch.testing.assert_close(model(u), expected, equal_nan=False)


def test_an_unknown_activation_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="'swish' is not one of sigmoid, tanh, relu"):
        MLP(784, activation="swish")
