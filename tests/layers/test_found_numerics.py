"""Found by trying to break it, side by side with torch.nn: digits, tools, refusals."""

import pytest
import torch
from conftest import assert_close
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d

from bnkit.layers import BatchNorm2d

FORMATS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def gradients(layer, x, loss):
    leaf = x.detach().requires_grad_()
    loss(layer(leaf)).backward()
    return leaf.grad, layer.bias.grad


@pytest.mark.parametrize("relu", [None, "relu"])
@pytest.mark.parametrize("memory_format", FORMATS)
def test_many_gradients_of_one_sign_keep_their_digits(memory_format, relu):
    """Those of global average pooling: row by row in float32, the bias's was 1e-3 off."""
    x = normal(64, 8, 40, 41).contiguous(memory_format=FORMATS[memory_format])
    weight = 1 + normal(64, 8, seed=1).abs()
    right = nn.Sequential(nn.BatchNorm2d(8).double(), nn.ReLU() if relu else nn.Identity())
    loss = lambda y: (adaptive_avg_pool2d(y, 1).flatten(1) * weight.to(y.dtype)).sum()  # noqa: E731
    leaf = x.double().requires_grad_()
    loss(right(leaf)).backward()
    expected = leaf.grad, right[0].bias.grad
    found = gradients(BatchNorm2d(8, activation=relu), x, loss)
    for mine, wanted in zip(found, expected, strict=True):
        assert_close(mine.double(), wanted, 5e-6)
