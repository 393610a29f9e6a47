"""Digits: large means, constants, variances beyond the range; every path against float64."""

import warnings

import pytest
import torch
from conftest import assert_close
from torch import nn
from torch.utils import checkpoint

from bnkit import layers
from bnkit.layers import BatchNorm2d, aten, plain

PATHS = {
    "plain": ("plain", {}),
    "one call": ("aten", {"small": 10**9, "short": 10**9}),
    "blocks": ("aten", {"small": 0, "block": 2**14}),
}
FORMATS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
SHAPE = (16, 3, 64, 64)


@pytest.fixture(params=PATHS)
def path(request):
    name, limits = PATHS[request.param]
    with layers.using(name, **limits):
        yield request.param


def batch(mean, spread, memory_format, dtype=torch.float32, shape=SHAPE):
    generator = torch.Generator().manual_seed(0)
    x, dy = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    x = (mean + spread * x).to(dtype).contiguous(memory_format=memory_format)
    return x, dy.to(dtype)


def step(layer, x, dy):
    leaf = x.detach().requires_grad_()
    y = layer(leaf)
    y.backward(dy)
    return [y, leaf.grad, layer.weight.grad, layer.running_mean, layer.running_var]


def far_batch_is_right(memory_format, relu=None):
    """Mean 1e4, spread 1e-2: y within 1e-5 of float64, where torch.nn is 7e-3 off."""
    x, dy = batch(1e4, 1e-2, memory_format)
    ours = BatchNorm2d(3, activation=relu)
    right = nn.BatchNorm2d(3).double()
    leaf = x.double().requires_grad_()
    y = right(leaf).relu() if relu else right(leaf)
    y.backward(dy.double())
    expected = [y, leaf.grad, right.weight.grad, right.running_mean, right.running_var]
    found = step(ours, x, dy)
    assert (found[0].double() - expected[0]).abs().max() < 1e-5
    for mine, wanted in zip(found[1:], expected[1:], strict=True):
        assert_close(mine.double(), wanted, 2e-5)


@pytest.mark.parametrize("relu", [None, "relu"])
@pytest.mark.parametrize("memory_format", FORMATS)
def test_a_mean_of_a_million_deviations_costs_no_digits(memory_format, relu, path):
    far_batch_is_right(FORMATS[memory_format], relu)


@pytest.mark.parametrize("memory_format", FORMATS)
def test_in_evaluation_as_well(memory_format, path):
    x, _ = batch(1e4, 1e-2, FORMATS[memory_format])
    ours = BatchNorm2d(3).eval()
    ours.running_mean.fill_(1e4)
    ours.running_var.fill_(1e-4)
    wanted = (x.double() - 1e4) / (ours.running_var[0].double() + ours.eps).sqrt()
    assert (ours(x).double() - wanted).abs().max() < 1e-5
    assert ours(x).stride() == x.stride()


def test_torch_is_further_off_or_these_tests_would_prove_nothing():
    x, _ = batch(1e4, 1e-2, torch.contiguous_format)
    wanted = nn.BatchNorm2d(3).double()(x.double())
    assert (nn.BatchNorm2d(3)(x).double() - wanted).abs().max() > 1e-3


@pytest.mark.parametrize("path", ["plain", "blocks"], indirect=True)
def test_a_mean_that_is_rounded_is_rejected(path, monkeypatch):
    """The mutant: what rounding has left is forgotten."""
    forget = lambda x, keep: (torch.stack([keep[0].sum(0), keep[0][0] * 0]), *keep[1:])  # noqa: E731
    for module in (plain, aten):
        right = module.moments
        monkeypatch.setattr(module, "moments", lambda x, right=right: forget(x, right(x)))
    with pytest.raises(AssertionError):
        far_batch_is_right(torch.contiguous_format)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bits_with_a_large_mean(dtype, training, path):
    """Half a spacing of the result: computed in float32, rounded once."""
    mean = 512 if dtype is torch.float16 else 64
    x, _ = batch(mean, 1.0, torch.contiguous_format, dtype, (8, 3, 16, 16))
    ours, right = BatchNorm2d(3), nn.BatchNorm2d(3).double()
    for layer in (ours.train(training), right.train(training)):
        layer.running_mean.fill_(mean)
    wanted = right(x.double())
    assert_close(ours(x).double(), wanted, 0.51 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("constant", [-7e5, 0.1, 1e-3, 1.0, 1e20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("memory_format", FORMATS)
def test_a_constant_channel_is_beta_exactly(memory_format, dtype, constant, path):
    x, _ = batch(0.3, 1.0, FORMATS[memory_format], dtype, (8, 3, 9, 7))
    x[:, 1] = constant
    ours = BatchNorm2d(3, dtype=dtype, momentum=1.0)
    with torch.no_grad():
        ours.bias.copy_(torch.tensor([0.5, 0.3, -0.7]))
    assert (ours(x)[:, 1] == ours.bias[1]).all()
    assert ours.running_var[1] == 0
    assert_close(ours.running_mean[1], torch.tensor(constant, dtype=dtype))


@pytest.mark.parametrize("memory_format", FORMATS)
def test_a_variance_beyond_the_range_leaves_its_running_values_alone(memory_format, path):
    """And no others; the next batch that fits is observed. torch.nn's are infinite for good."""
    x, dy = batch(0.0, 1.0, FORMATS[memory_format], shape=(8, 3, 8, 8))
    huge = x.clone()
    huge[:, 1] *= 1e25
    ours, twin = BatchNorm2d(3), BatchNorm2d(3)
    found = step(ours, huge, dy)
    assert found[0].isfinite().all()
    twin(x)
    assert (ours.running_mean[1], ours.running_var[1]) == (0, 1)
    assert_close(ours.running_var[[0, 2]], twin.running_var[[0, 2]])
    ours(x)
    assert_close(ours.running_var[1], twin.running_var[1])
    theirs = nn.BatchNorm2d(3)
    theirs(huge)
    assert theirs.running_var[1].isinf()


def test_a_running_variance_too_large_for_sixteen_bits(path):
    ours = BatchNorm2d(3, dtype=torch.float16)
    x = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    ours((3000 * x).half())
    assert ours.running_var.tolist() == [1, 1, 1]


def test_the_policy_holds_under_a_checkpoint(path):
    """Whose second pass stops before the layer has finished."""
    x, dy = batch(1e4, 1e-2, torch.contiguous_format, shape=(4, 3, 4, 4))
    x[:, 1] = 1e25 * torch.randn(4, 4, 4, generator=torch.Generator().manual_seed(1))
    ours = BatchNorm2d(3, momentum=None)
    leaf = x.requires_grad_()
    checkpoint.checkpoint(ours, leaf, use_reentrant=False).backward(dy)
    assert ours.num_batches_tracked == 2
    assert (ours.running_mean[1], ours.running_var[1]) == (0, 1)
    assert_close(ours.running_mean[0], x[:, 0].detach().double().mean(), 1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_no_channels_at_all(training, path):
    layer = BatchNorm2d(0).train(training)
    assert layer(torch.ones(4, 0, 3, 3)).shape == (4, 0, 3, 3)


def test_numpy_says_nothing(path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        BatchNorm2d(3)(1e30 * torch.ones(4, 3, 2, 2).cumsum(0))
