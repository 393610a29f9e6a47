"""Local Response Normalization against torch's, to the last bit; and by hand."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bnkit.layers.local_response_norm import LocalResponseNorm


def outputs_and_gradients(
    layer: nn.Module, u: torch.Tensor, upstream: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    leaf = u.detach().requires_grad_()
    y = layer(leaf)
    return y.detach(), *torch.autograd.grad(y, leaf, upstream)


@given(
    # whole vectors of the processor: torch rounds powers differently in what is left over at the
    # end of a tensor
    shape=st.tuples(st.just(32), *(st.integers(1, high) for high in (9, 3, 3))),
    size=st.integers(1, 8),
    constants=st.tuples(
        st.sampled_from([1e-4, 0.5]), st.sampled_from([0.5, 0.75, 1.0]), st.sampled_from([1.0, 2.0])
    ),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    layout=st.sampled_from([torch.contiguous_format, torch.channels_last]),
    seed=st.integers(0, 2**32),
)
def test_it_is_torchs_bit_for_bit(shape, size, constants, dtype, layout, seed):
    generator = torch.Generator().manual_seed(seed)
    u, upstream = (10 * torch.randn(shape, generator=generator, dtype=dtype) for _ in range(2))
    u, upstream = (each.contiguous(memory_format=layout) for each in (u, upstream))
    ours, theirs = (
        outputs_and_gradients(kind(size, *constants), u, upstream)
        for kind in (LocalResponseNorm, nn.LocalResponseNorm)
    )
    for got, expected in zip(ours, theirs, strict=True):
        assert torch.equal(got, expected)


@given(shape=st.tuples(*(st.integers(1, high) for high in (3, 9, 4, 4))), size=st.integers(1, 8))
def test_other_shapes_differ_by_rounding_at_most(shape, size):
    u, upstream = torch.randn(
        2, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    layers = (kind(size, 0.5) for kind in (LocalResponseNorm, nn.LocalResponseNorm))
    ours, theirs = (outputs_and_gradients(layer, u, upstream) for layer in layers)
    torch.testing.assert_close(ours, theirs, rtol=1e-14, atol=1e-14, equal_nan=False)


def test_it_keeps_the_layout():
    u = torch.randn(2, 8, 5, 5).contiguous(memory_format=torch.channels_last)
    assert LocalResponseNorm(5)(u).is_contiguous(memory_format=torch.channels_last)


def test_three_maps_by_hand():
    u = torch.tensor([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1)
    # 1 + 4, 1 + 4 + 9, 4 + 9
    expected = torch.tensor([1 / (1 + 5 / 3), 2 / (1 + 14 / 3), 3 / (1 + 13 / 3)])
    torch.testing.assert_close(LocalResponseNorm(3, alpha=1, beta=1)(u).flatten(), expected)


def test_gradients_of_gradients():
    u = torch.randn(2, 4, 2, 2, dtype=torch.float64, requires_grad=True)
    for size in (2, 5):  # the first looks further down than up
        assert torch.autograd.gradcheck(LocalResponseNorm(size, alpha=1), u)
        assert torch.autograd.gradgradcheck(LocalResponseNorm(size, alpha=1), u)
