"""Batch Normalization in plain torch: the mathematics of the layer, step by step, as in the paper.

``moments`` and ``normalise`` are Algorithm 1, ``gradient_sums`` and ``input_gradient`` Section 3,
``observe`` the moving averages of Section 3.1. The same steps under the same names are in
``bnkit.layers.triton``, for the GPU, and in ``bnkit.layers.aten``, for the CPU: they are faster,
and take over where they can.
"""

# PyTorch's names stay: γ is `weight`, β is `bias`, and what bnkit.reference calls `new_weight`, the
# share of the new batch in the running value, is `momentum` (nothing to do with the optimiser's).

import math

import torch
from torch import Tensor

Vector = Tensor | None  # a number per channel, (C,), where there is one
HALF = (torch.float16, torch.bfloat16)  # too short for sums: computed in float32

# Shapes: x, y, dy and dx (N, C, ...), all others (C,), but that a mean may be (2, C), for float32
# cannot hold a mean of 1e4 to better than 5e-4, which matters where the spread is 1e-2: a rounded
# mean, and what rounding has left, to be taken away one after the other. All but `observe` can be
# differentiated, again and again.


def moments(x: Tensor) -> tuple[Tensor, Tensor, int]:
    """Mean (2, C) and biased variance of each channel, and its number of values: Algorithm 1, lines
    1, 2.

    The variance is that of the centred values: E[x²] − E[x]² loses digits where the mean is large.
    """
    x = wide(x)
    rounded = _mean(x.detach())  # any number near the mean will do: a constant
    mean = torch.stack([rounded, _mean(_centred(x, rounded))])
    return mean, _centred(x, mean).square().mean(axes(x)), count(x)


def _mean(x: Tensor) -> Tensor:
    """Of each channel, also where the sum of the values is beyond the range of their dtype."""
    return (x * 2.0**-24).mean(axes(x)) * 2.0**24


def inverse_std(var: Tensor, eps: float) -> Tensor:
    """1 / √(var + eps): eps stands inside the root."""
    return (var + eps).rsqrt()


def normalise(
    x: Tensor, mean: Tensor, inv_std: Tensor, weight: Vector, bias: Vector, relu: bool = False
) -> Tensor:
    """γ · (x − mean) / √(var + eps) + β, then max(·, 0) if `relu`: Algorithm 1, lines 3, 4.

    With the running values in place of the batch's this is Algorithm 2, line 11.
    """
    y = _centred(x, mean) * _along_channels(_scale(inv_std, weight), x)
    if bias is not None:
        y = y + _along_channels(bias.to(y.dtype), x)
    return (y.relu() if relu else y).to(x.dtype)


def gradient_sums(
    dy: Tensor, x: Tensor, mean: Tensor, inv_std: Tensor, weight: Vector, bias: Vector, relu=False
) -> tuple[Tensor, Tensor]:
    """∂ℓ/∂γ = Σ dy · x̂ and ∂ℓ/∂β = Σ dy, with x̂ = (x − mean) / √(var + eps): Section 3."""
    dy = _behind_relu(dy, x, mean, inv_std, weight, bias, relu)
    return (dy * _centred(x, mean)).sum(axes(x)) * inv_std, dy.sum(axes(x))


def input_gradient(
    dy: Tensor, x: Tensor, mean: Tensor, inv_std: Tensor, weight: Vector, bias: Vector,
    dweight: Vector, dbias: Vector, m: int | Tensor, relu: bool = False,
) -> Tensor:  # fmt: skip
    """∂ℓ/∂x = γ/√(var + eps) · (dy − x̂ · dγ/m − dβ/m): Section 3. In evaluation, without the sums,
    γ/√(var + eps) · dy.

    The paper's chain rule with ∂ℓ/∂σ² and ∂ℓ/∂μ inserted: the second term is the way through the
    variance, the third the way through the mean. `dweight` and `dbias` are the sums over all `m`
    values of a channel: N, or N·H·W of maps.
    """
    dx = _behind_relu(dy, x, mean, inv_std, weight, bias, relu)
    if dweight is not None:
        slope = dweight * inv_std / m  # so that slope · (x − mean) = x̂ · dγ/m
        dx = dx - _centred(x, mean) * _along_channels(slope, x) - _along_channels(dbias / m, x)
    return (dx * _along_channels(_scale(inv_std, weight), x)).to(x.dtype)


def observe(
    running_mean: Tensor, running_var: Tensor, mean: Tensor, var: Tensor, m: int | Tensor,
    momentum: float,
) -> None:  # fmt: skip
    """Move the running values, in place, by the share `momentum` towards the batch's: Section 3.1.

    The variance is stored unbiased, m/(m − 1) times the batch's: Algorithm 2, line 10. A channel
    stays where it is if finite values have a variance that the running values cannot hold, or that
    nobody can: once infinite, they would be infinite for good.
    """
    if torch.is_grad_enabled():  # the running values are no part of what is differentiated
        mean, var = mean.detach(), var.detach()
    mean, var = (_from_functional(value, running_mean) for value in (whole(mean), var))
    new_mean = _moved(running_mean, mean, momentum)
    new_var = _moved(running_var, var * (m / (m - 1)), momentum)
    moves = (new_mean.isfinite() & new_var.isfinite()) | ~mean.isfinite()
    running_mean.copy_(torch.where(moves, new_mean, running_mean))
    running_var.copy_(torch.where(moves, new_var, running_var))


def _from_functional(x: Tensor, like: Tensor) -> Tensor:
    """In ``torch.func.functionalize``, what may be written to a tensor that it does not know."""
    if torch.compiler.is_compiling() or not torch._is_functional_tensor(x):
        return x
    if torch._is_functional_tensor(like):
        return x
    torch._sync(x)
    return torch._from_functional_tensor(x)


def _moved(running: Tensor, new: Tensor, share: float) -> Tensor:
    """In the dtype of the running value: 16 bits are rounded once, at the end."""
    return running.to(new.dtype).lerp(new, share).to(running.dtype)


def whole(mean: Tensor) -> Tensor:
    """A mean as one number per channel, (C,), rounded."""
    return mean if mean.ndim == 1 else mean.sum(0)


def split(near: Tensor, rest: Tensor) -> Tensor:
    """near + rest as a mean (2, C): rounded, and what rounding has left. Knuth's two-sum."""
    mean = near + rest
    added = mean - near
    return torch.stack([mean, (near - (mean - added)) + (rest - added)])


def _behind_relu(dy, x, mean, inv_std, weight, bias, relu: bool) -> Tensor:
    """dy, but 0 where the ReLU was shut. Its input is made again: kept, it would be large as x."""
    if relu:  # NaN passes, as in torch
        dy = torch.where(normalise(x, mean, inv_std, weight, bias) <= 0, 0, dy)
    return wide(dy)


def _scale(inv_std: Tensor, weight: Vector) -> Tensor:
    """γ / √(var + eps)."""
    return inv_std if weight is None else inv_std * weight


def _centred(x: Tensor, mean: Tensor) -> Tensor:
    if mean.ndim == 1:
        return wide(x) - _along_channels(mean, x)
    rounded, left = mean.unbind()
    return wide(x) - _along_channels(rounded, x) - _along_channels(left, x)


def axes(x: Tensor) -> tuple[int, ...]:
    """All but the channels: a map is one feature (Section 3.2)."""
    return 0, *range(2, x.ndim)


def _along_channels(vector: Tensor, x: Tensor) -> Tensor:
    """(C,) in the shape that broadcasts against x."""
    return vector if x.ndim == 2 else vector.view(-1, *[1] * (x.ndim - 2))


def wide(x: Tensor) -> Tensor:
    """x, in float32 if it is shorter."""
    return x.float() if x.dtype in HALF else x


def count(x: Tensor) -> int:
    """How many values a channel has, also where there are no channels."""
    return x.shape[0] * math.prod(x.shape[2:])


def layout(x: Tensor) -> torch.memory_format:
    """The memory format of the result: channels last where x is, else contiguous."""
    if x.ndim < 4 or x.stride(1) != 1 or x.is_contiguous():
        return torch.contiguous_format
    return torch.channels_last if x.ndim == 4 else torch.channels_last_3d


def is_batched(x: Tensor) -> bool:
    """Whether x stands for many tensors at once, in ``vmap`` or ``is_grads_batched``."""
    if torch.compiler.is_compiling():
        return False
    functorch = torch._C._functorch
    return functorch.is_batchedtensor(x) or functorch.is_legacy_batchedtensor(x)


def laid(x: Tensor, like: Tensor) -> Tensor:
    """x in the memory format that the result has for the batch `like`.

    The strides of axes of size 1, which mean nothing, become those that torch itself would give:
    from others its operators for the CPU guess another format, and compute wrong gradients.
    """
    if is_batched(x):  # ``vmap`` knows no layouts
        return x
    memory_format = layout(like)
    x = x.contiguous(memory_format=memory_format)
    if x.ndim < 4 or 1 not in x.shape:
        return x
    usual = torch.empty(x.shape, memory_format=memory_format, device="meta").stride()
    return x if x.stride() == usual else x.clone(memory_format=memory_format)
