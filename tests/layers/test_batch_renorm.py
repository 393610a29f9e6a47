"""Batch Renormalization: BN at one end of its bounds, the moving averages at the other, constants
to the gradient.
"""

import numpy as np
import pytest
import torch
from conftest import assert_close
from torch import nn

from bnkit.layers.batch_renorm import BatchRenorm

SHAPES = [(6, 3), (4, 3, 5), (3, 3, 2, 4)]


def layer(**options) -> BatchRenorm:
    """With gamma, beta and moving averages that are not 1 and 0."""
    generator = torch.Generator().manual_seed(0)
    made = BatchRenorm(3, **options).double()
    made.weight.data = torch.randn(3, generator=generator, dtype=torch.float64)
    made.bias.data = torch.randn(3, generator=generator, dtype=torch.float64)
    made.running_mean.copy_(torch.tensor([0.5, -1.0, 2.0]))
    made.running_std.copy_(torch.tensor([0.5, 1.5, 3.0]))
    return made


def batch(shape=(6, 3)) -> torch.Tensor:
    return 1 + 2 * torch.randn(
        shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_with_r_1_and_d_0_it_is_batch_normalization(shape):
    ours, theirs = (
        layer(),
        {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}[len(shape)](3).double(),
    )
    theirs.load_state_dict({"weight": ours.weight, "bias": ours.bias}, strict=False)
    x = [batch(shape).requires_grad_() for _ in range(2)]
    upstream = batch(shape).flip(0)
    found, expected = ours(x[0]), theirs(x[1])
    assert_close(found.detach(), expected.detach())
    found.backward(upstream)
    expected.backward(upstream)
    assert_close(x[0].grad, x[1].grad)
    assert_close(ours.weight.grad, theirs.weight.grad)
    assert_close(ours.bias.grad, theirs.bias.grad)


@pytest.mark.parametrize("shape", SHAPES)
def test_without_bounds_it_is_the_moving_averages(shape):
    training, x = layer(r_max=1e9, d_max=1e9), batch(shape)
    expected = layer().eval()(x)
    assert_close(training(x).detach(), expected.detach())


def test_within_bounds_by_hand():
    """One feature, values 0 and 4: mean 2, deviation 2. Moving averages 1 and 0.5: r = 4, clipped
    to 3; d = 2."""
    made = BatchRenorm(1, r_max=3.0, d_max=1.5, new_weight=0.25, eps=0.0).double()
    made.running_mean.fill_(1.0)
    made.running_std.fill_(0.5)
    found = made(torch.tensor([[0.0], [4.0]], dtype=torch.float64))
    assert found.ravel().tolist() == [-1 * 3 + 1.5, 1 * 3 + 1.5]
    assert made.running_mean.item() == 1.25  # 1 + (2 − 1) / 4
    assert made.running_std.item() == 0.875  # 0.5 + (2 − 0.5) / 4
    # deviation 0.01: r is clipped from below
    small = torch.tensor([[0.99], [1.01]], dtype=torch.float64)
    made.running_mean.fill_(1.0)
    made.running_std.fill_(0.5)
    assert_close(made(small).detach().ravel(), [-1 / 3, 1 / 3])


def test_the_gradient_takes_r_and_d_for_constants():
    """Against autograd of a copy in which r and d are numbers; and different from one in which they
    are not."""
    # bounds that do not bind: what is clipped is a constant anyway
    made, x, upstream = layer(r_max=1e3, d_max=1e3), batch().requires_grad_(), batch().flip(0)
    var, mean = torch.var_mean(x, 0, correction=0)
    std = torch.sqrt(var + made.eps)
    results = {}
    for name, (r, d) in {
        "constants": made.correction(mean.detach(), std.detach()),
        "followed": made.correction(mean, std),
    }.items():
        y = made.weight * ((x - mean) / std * r + d) + made.bias
        results[name] = torch.autograd.grad(y, x, upstream, retain_graph=True)[0]
    made(x).backward(upstream)
    assert_close(x.grad, results["constants"])
    assert (x.grad - results["followed"]).abs().max() > 0.01


def test_gradients_in_float64():
    """torch's own check; with loose bounds r and d follow x in the forward pass only, so they are
    held fixed here."""
    made = layer(r_max=1.0 + 1e-12, d_max=0.0)
    x = batch().requires_grad_()
    fixed = torch.ones(3, dtype=torch.float64), torch.full((3,), 0.7, dtype=torch.float64)
    made.correction = lambda mean, std: fixed
    assert torch.autograd.gradcheck(made, x)


def test_inference_changes_nothing_and_ignores_the_company():
    made = layer().eval()
    before = [buffer.clone() for buffer in made.buffers()]
    x = batch()
    assert_close(made(x)[:1].detach(), made(x[:1]).detach())
    assert all(torch.equal(a, b) for a, b in zip(before, made.buffers(), strict=True))


@pytest.mark.parametrize("options", [{"r_max": 0.5}, {"d_max": -1.0}, {"r_max": float("nan")}])
def test_bounds_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="must be at least"):
        layer(**options)(batch())


def test_one_value_per_feature_is_refused_in_training_only():
    with pytest.raises(ValueError, match="has no variance"):
        layer()(batch((1, 3)))
    assert np.isfinite(layer().eval()(batch((1, 3))).detach().numpy()).all()
