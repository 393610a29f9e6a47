"""Probes measure what they say and leave no trace."""

import copy

import pytest
import torch
from torch import nn

from bnkit.layers import BatchNorm
from bnkit.networks.mlp import MLP
from bnkit.runs import probes


def net(norm=BatchNorm) -> MLP:
    return MLP(
        6, (5, 4), 3, norm=norm, init_sigma=0.5, generator=torch.Generator().manual_seed(0)
    ).double()


@pytest.fixture
def batches() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(7, 6, generator=generator, dtype=torch.float64) for _ in range(4)]


@pytest.mark.parametrize("norm", [BatchNorm, nn.BatchNorm1d])
def test_inference_is_algorithm_2_worked_out_by_hand(norm, batches):
    """First layer: plain averages of batch means and of unbiased batch variances, then one affine
    map."""
    model = net(norm)
    weight = model.hidden[0].linear.weight
    inputs = [u @ weight.T for u in batches]
    mean = torch.stack([x.mean(0) for x in inputs]).mean(0)
    var = torch.stack([x.var(0, correction=1) for x in inputs]).mean(0)
    with probes.inference(model, batches):
        (received,) = probes.inputs_of([model.hidden[0].activation], model, batches[0])
    by_hand = (inputs[0] - mean) / (var + 1e-5).sqrt()
    torch.testing.assert_close(received, by_hand, rtol=1e-12, atol=1e-12)


def test_in_inference_an_example_does_not_see_its_neighbours(batches):
    model = net()
    with probes.inference(model, batches):
        alone, together = model(batches[0][:1]), model(batches[0])[:1]
    torch.testing.assert_close(alone, together, rtol=1e-12, atol=1e-12)


def test_probes_leave_weights_buffers_and_mode_as_they_were(batches):
    model = net()
    model.train()
    model(batches[0])  # so that the running statistics are not the initial ones
    model.hidden[1].eval()  # a mixed mode must survive too
    before, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]

    def measure():
        with probes.inference(model, batches):
            probes.accuracy(model, batches[0], torch.zeros(7, dtype=torch.int64))
            probes.inputs_of([model.hidden[-1].activation], model, batches[0])
            raise ZeroDivisionError  # even when the measurement fails

    with pytest.raises(ZeroDivisionError):
        measure()
    assert [m.training for m in model.modules()] == modes
    assert model.hidden[0].norm.momentum == 0.1
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert not model.hidden[-1].activation._forward_pre_hooks


def test_accuracy_counts():
    outputs = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.2, 0.1], [0.0, 3.0]])
    assert probes.accuracy(nn.Identity(), outputs, torch.tensor([1, 0, 1, 0])) == 0.5


def test_percentiles_are_per_unit_and_interpolate():
    values = torch.stack([torch.arange(101.0), 2 * torch.arange(101.0)], dim=1)
    torch.testing.assert_close(
        probes.percentiles(values), torch.tensor([[15.0, 50.0, 85.0], [30.0, 100.0, 170.0]])
    )


def test_checksum_sees_one_bit():
    model = net()
    before = probes.checksum(model)
    assert probes.checksum(net()) == before
    with torch.no_grad():
        weight = model.output.weight.view(-1)
        weight[0] = torch.nextafter(weight[0], torch.tensor(torch.inf, dtype=torch.float64))
    assert probes.checksum(model) != before
