"""Batch Normalization on the CPU by the fused operators of ATen, the library below torch.

Why it is there: the plain torch of ``bnkit.layers`` goes over the batch once for every operation,
and reaches a sixth to a half of the speed of ``torch.nn``. A fused operator does the work of
several in one go. A small batch is left to one such operator altogether, for there each call from
Python costs more than the arithmetic. But its statistics are not what one would wish for: channels
last are summed one after the other in float32, which costs two digits where a channel has 100,000
values, and contiguous maps are summed slowly. So a large batch is taken block by block, each of
them while it is in the cache, and the statistics of the blocks are pooled.

The price is independence: where torch does the arithmetic it is no witness. The plain path of
``bnkit.layers`` is one, and ``BNKIT_KERNELS=off`` leaves nothing else. The steps have the names and
arguments of those in ``bnkit.layers.triton``.
"""

import torch
from torch import Tensor

SMALL = (
    2**21
)  # elements, twice as many channels last; up to here many operators, called from Python, cost more than one
SHORT = 2**15  # values of a channel; from here on one operator loses digits that matter
BLOCK = 2**18  # elements; with a copy in float32 2 MiB, a share of the cache
LONGEST = (
    2**13
)  # rows that are summed one after the other: in float32 that costs about ten units in the last place

# Shapes: x, y, dy and dx (N, C, ...), contiguous or channels last; means and variances to be pooled
# (parts, C), counts (parts, 1); all others (C,), float64 where x is, else float32, but for weight
# and bias, which may be of any dtype.


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    relu: bool = False,
) -> Tensor:
    """The whole layer in one operator, which has derivatives of its own: for batches that are
    ``small``.
    """
    if (
        not training and torch.is_grad_enabled()
    ):  # the gradient needs them as they are now; a later step may move them
        running_mean, running_var = running_mean.clone(), running_var.clone()
    y = torch.native_batch_norm(
        x, weight, bias, running_mean, running_var, training, momentum, eps
    )[0]
    return y.relu_() if relu else y


def small(x: Tensor, training: bool) -> bool:
    """Whether one operator is the way for x: its sums, in training, are short, and calls from
    Python would cost more.

    In 16 bits it is not: there it rounds more than once.
    """
    if x.dtype.itemsize == 2 or (training and x.numel() // x.shape[1] > SHORT):
        return False
    return x.numel() <= (2 * SMALL if training and x.stride(1) == 1 else SMALL)


def pool(means: Tensor, variances: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of everything from those of its parts: Chan, Golub and LeVeque
    (1979), for many parts.

    With μ the mean of all, each x_ij − μ = (x_ij − μ_i) + (μ_i − μ), and the first term sums to
    zero in part i, so μ = Σ n_i μ_i / n and σ² = Σ n_i (σ²_i + (μ_i − μ)²) / n. A part may be
    empty, if its mean and variance are numbers.
    """
    shares = counts / counts.sum()
    origin = means[0]  # as near to μ as any: the digits go into the distance
    mean = origin + (shares * (means - origin)).sum(0)
    return mean, (shares * (variances + (means - mean).square())).sum(0)


def moments(x: Tensor) -> tuple[Tensor, Tensor, int]:
    """Mean and biased variance of each channel, and how many values it has: Algorithm 1, lines 1
    and 2.

    x is measured from the mean of its first block, so that a large mean costs no digits. It need
    not be near the mean of the others: where it is not, the variance of the whole is as large as
    the square of that distance.
    """
    m, rows = x.numel() // x.shape[1], x.stride(1) == 1
    if rows:  # channels last: every place is a row, (m, C)
        x = x.movedim(1, -1).flatten(0, -2)
    axes, blocks = (0, *range(2, x.ndim)), _blocks(x)
    origin = blocks[0].to(torch.promote_types(x.dtype, torch.float32)).mean(axes, keepdim=True)
    room = torch.empty_like(blocks[0], dtype=origin.dtype)
    found = []
    for block in blocks:
        shifted = torch.sub(block, origin, out=room[: len(block)])
        if rows:
            found.append(torch.batch_norm_update_stats(shifted, None, None, 0.0))
        else:
            mean = shifted.mean(axes)
            found.append((mean, shifted.square_().mean(axes).sub_(mean.square()).clamp_(min=0)))
    means, variances = map(torch.stack, zip(*found, strict=True))
    counts = torch.tensor([[len(block)] for block in blocks], dtype=origin.dtype)
    mean, var = pool(means, variances, counts)
    return mean.add_(origin.flatten()), var, m


def _blocks(x: Tensor) -> tuple[Tensor, ...]:
    """x, some examples at a time, or some rows."""
    examples = max(1, BLOCK * len(x) // x.numel())
    return x.split(examples if x.ndim > 2 else min(examples, LONGEST))


def normalise(
    x: Tensor,
    mean: Tensor,
    inv_std: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    relu: bool = False,
) -> Tensor:
    """γ · (x − mean) · inv_std + β, and the larger of that and 0 where `relu`: Algorithm 1, lines 3
    and 4.
    """
    scale, bias = _scale(inv_std, weight), None if bias is None else bias.to(mean.dtype)
    affine = (
        scale,
        bias,
        mean,
        torch.ones_like(mean),
        False,
        0.0,
        0.0,
    )  # weight, bias, mean, var, training, _, eps
    if not relu:
        return torch.native_batch_norm(x, *affine)[0]
    y, unused = torch.empty_like(x), torch.empty_like(mean)
    for block, out in zip(_blocks(x), _blocks(y), strict=True):
        torch.native_batch_norm(block, *affine, out=(out, unused, unused))
        out.relu_()
    return y


def gradient_sums(
    dy: Tensor,
    x: Tensor,
    mean: Tensor,
    inv_std: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    relu: bool = False,
) -> tuple[Tensor, Tensor]:
    """∂ℓ/∂γ = Σ dy · x̂ and ∂ℓ/∂β = Σ dy: Section 3."""
    return _backward(dy, x, mean, inv_std, weight, bias, relu, (False, True, True))[1:]


def input_gradient(
    dy: Tensor,
    x: Tensor,
    mean: Tensor,
    inv_std: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    dweight: Tensor | None,
    dbias: Tensor | None,
    m: int | Tensor,
    relu: bool = False,
) -> Tensor:
    """∂ℓ/∂x = γ · inv_std · (dy − x̂ · dweight/m − dbias/m), or, without the sums, γ · inv_std ·
    dy: Section 3.
    """
    dy, scale = _behind_relu(dy, x, mean, inv_std, weight, bias, relu), _scale(inv_std, weight)
    if dweight is None:
        return normalise(dy, torch.zeros_like(mean), scale, None, None)
    # In 16 bits, not rounded before the two parts are added.
    dx = normalise(dy.to(mean.dtype), dbias / m, scale, None, None)
    dx += normalise(x.to(mean.dtype), mean, -scale * inv_std * dweight / m, None, None)
    return dx.to(x.dtype)


def backward(
    dy: Tensor,
    x: Tensor,
    mean: Tensor,
    inv_std: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    relu: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of Algorithm 1, all at once: (dx, dweight, dbias)."""
    return _backward(dy, x, mean, inv_std, weight, bias, relu, (True, True, True))


def _backward(dy, x, mean, inv_std, weight, bias, relu, wanted) -> tuple:
    dy = _behind_relu(dy, x, mean, inv_std, weight, bias, relu)
    weight = None if weight is None else weight.to(mean.dtype)
    return torch.ops.aten.native_batch_norm_backward(
        dy, x, weight, None, None, mean, inv_std, True, 0.0, wanted
    )


def _behind_relu(dy, x, mean, inv_std, weight, bias, relu: bool) -> Tensor:
    """dy, but 0 where the ReLU was shut. What went into it is made again from x, and never leaves
    the cache.
    """
    if not relu:
        return dy
    result = torch.empty_like(dy)
    for upper, lower, out in zip(*map(_blocks, (dy, x, result)), strict=True):
        torch.ops.aten.threshold_backward(
            upper, normalise(lower, mean, inv_std, weight, bias), 0, grad_input=out
        )
    return result


def _scale(inv_std: Tensor, weight: Tensor | None) -> Tensor:
    return inv_std if weight is None else inv_std * weight.to(inv_std.dtype)
