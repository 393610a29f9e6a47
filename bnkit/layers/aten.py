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

from contextvars import ContextVar
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from bnkit.layers import plain
from bnkit.layers.plain import Vector

# Rows that are summed one after the other: in float32 about ten units in the last place.
LONGEST = 2**13
FEW = 2**6  # channels: from here on the operator is fast, channels last
WIDEST = 2**9  # channels of a folded row, see `_fold`: a block then has some hundred rows


class Limits(NamedTuple):
    """Which batches one operator takes, and how large the blocks of the others are."""

    small: int = 2**21
    """Elements, twice as many channels last or with a ReLU: up to here many calls cost more."""
    short: int = 2**15
    """Values of a channel: from here on one operator loses digits that matter."""
    block: int = 2**18
    """Elements: with a copy in float32 2 MiB, a share of the cache."""


EVERYDAY = Limits()
LIMITS = ContextVar("limits", default=EVERYDAY)  # ``layers.using`` sets others
# The operators compute γ·inv_std·x + (β − γ·inv_std·mean), in which the means cancel. From so many
# standard deviations on, x is measured from its mean first, which costs one more way through it.
FAR = 16
# 1/√var up to which m/(m − 1) · var may be infinite, in float32; in float64 it is no harm.
HUGE = 2 * torch.finfo(torch.float32).max ** -0.5
CONSTANT = 0.998  # eps / (var + eps) of a channel that may be one

# Shapes: x, y, dy and dx (N, C, ...), contiguous or channels last; means and variances to be pooled
# (parts, C), counts (parts, 1); all others (C,), float64 where x is, else float32, but for weight
# and bias, which may be of any dtype, and for means, which may be (2, C), as in ``plain``.


def batch_norm(
    x: Tensor, running_mean: Vector, running_var: Vector, weight: Vector, bias: Vector,
    training: bool, momentum: float, eps: float, relu: bool = False,
) -> Tensor:  # fmt: skip
    """The whole layer in one operator, which has derivatives of its own, for ``small`` batches."""
    if thin := x.ndim > 3 and 1 in x.shape:
        x = plain.laid(x, x)
    if training:
        y = _by_batch(x, weight, bias, running_mean, running_var, momentum, eps)
    else:
        y = _by_running(x, weight, bias, running_mean, running_var, eps)
    if thin and y.requires_grad:
        y.register_hook(lambda dy: plain.laid(dy, x))
    return y.relu_() if relu else y


def _by_running(x, weight, bias, running_mean, running_var, eps) -> Tensor:
    if type(x) in PLAIN and far(running_mean, running_var + eps):
        x, running_mean = _from(running_mean, x), torch.zeros_like(running_mean)
    if torch.is_grad_enabled():
        # The gradient needs them as they are now; a later step may move them.
        running_mean, running_var = running_mean.clone(), running_var.clone()
    known = (x, weight, bias, running_mean, running_var)
    return torch.native_batch_norm(*known, False, 0.0, eps)[0]


PLAIN = (Tensor, nn.Parameter)  # of others, DTensors say, one does not look at single numbers


def _by_batch(x, weight, bias, running_mean, running_var, momentum, eps) -> Tensor:
    running = before = ()
    if running_mean is not None:
        running = running_mean, running_var
        before = torch.stack(running)
    known = (x, weight, bias, running_mean, running_var, True, momentum, eps)
    try:
        y, mean, inv_std = torch.native_batch_norm(*known)
    except BaseException:  # a checkpoint that has seen enough: the running values have moved
        _keep_finite(running, before)
        raise
    if type(x) not in PLAIN or _good_enough(mean, inv_std, eps):
        return y
    for value, old in zip(running, before, strict=True):
        value.copy_(old)
    return _from_the_mean(x, weight, bias, running, momentum, eps)


def _good_enough(mean: Tensor, inv_std: Tensor, eps: float) -> bool:
    """Whether no channel is `FAR` from 0, none a constant but 0, and no variance infinite.

    First by the extremes of all channels, in calls of NumPy that touch little, for beside a small
    batch each costs as much as the arithmetic. One by one where that is not enough. NaN is an
    extreme, and compares with nothing.
    """
    mean, inv_std = mean.numpy(), inv_std.numpy()  # the same memory
    if not inv_std.item(inv_std.argmin()) > HUGE:
        return False
    most = inv_std.item(inv_std.argmax())
    farthest = max(mean.item(mean.argmax()), -mean.item(mean.argmin()))
    if farthest * most < FAR and eps * most * most < CONSTANT:
        return True
    with np.errstate(all="ignore"):
        if not abs(mean * inv_std).max() < FAR:
            return False
        return not ((eps * inv_std**2 >= CONSTANT) & (mean != 0)).any()


def _from_the_mean(x, weight, bias, running, momentum, eps) -> Tensor:
    """The same where it matters that a mean is rounded: x is measured from a number near it.

    As contiguous maps, which the operator sums in float64.
    """
    known, axes = x.detach(), plain.axes(x)
    first = known[0].flatten(1)[:, 0] if x.ndim > 2 else known[0]
    near = known.double().mean(axes).to(x.dtype)
    near = torch.where((_from(first, known) == 0).all(axes), first, near)  # a constant, exactly
    memory_format, shifted = plain.layout(x), _from(near, x).contiguous()
    before = torch.stack(running) if running else ()
    # Not the running values themselves: what an operator has seen must not be changed afterwards.
    # Nobody but the operator moves them, for a checkpoint may have kept its result, and skip it.
    known = (running[0] - near, running[1].clone()) if running else (None, None)
    try:
        y = torch.native_batch_norm(shifted, weight, bias, *known, True, momentum, eps)[0]
    finally:
        if running:
            running[0].copy_(near + known[0])
            running[1].copy_(known[1])
            _keep_finite(running, before)
    return y.contiguous(memory_format=memory_format)


def _keep_finite(running: tuple[Tensor, ...], before: Tensor) -> None:
    """A channel whose running variance has become infinite goes back: ``plain.observe``.

    In calls of NumPy: a selective checkpoint, in its second pass, knows none that its first has not
    seen.
    """
    if running and type(running[0]) in PLAIN:
        mean, var = (value.detach().numpy() for value in running)  # the same memory
        lost = np.isfinite(mean) & ~np.isfinite(var)
        if lost.any():
            for value, old in zip((mean, var), before.detach().numpy(), strict=True):
                value[lost] = old[lost]


def far(mean: Tensor, var: Tensor) -> bool:
    """Whether a channel is so far from 0 that rounding its mean would show, or a constant."""
    return not bool((plain.whole(mean).square() <= FAR**2 * var).all())


def small(x: Tensor, training: bool, relu: bool = False) -> bool:
    """Whether one operator is the way for x: its sums are short, and many calls would cost more.

    In 16 bits it is not: there it rounds more than once.
    """
    limits, numel = LIMITS.get(), x.numel()
    if x.dtype in plain.HALF or (training and numel > limits.short * x.shape[1]):
        return False
    if numel <= limits.small:
        return True
    return training and numel <= 2 * limits.small and (relu or x.stride(1) == 1)


def pool(means: Tensor, variances: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of all from those of its parts: Chan, Golub and LeVeque (1979).

    With μ the mean of all, each x_ij − μ = (x_ij − μ_i) + (μ_i − μ), and the first term sums to
    zero in part i, so μ = Σ n_i μ_i / n and σ² = Σ n_i (σ²_i + (μ_i − μ)²) / n. A part may be
    empty, if its mean and variance are numbers.
    """
    shares = counts / counts.sum()
    origin = (shares * means).sum(0)  # near μ: the digits go into the distance
    mean = origin + (shares * (means - origin)).sum(0)
    return mean, (shares * (variances + (means - mean).square())).sum(0)


def moments(x: Tensor) -> tuple[Tensor, Tensor, int]:
    """Mean (2, C) and biased variance of each channel, and its number of values: Algorithm 1, lines
    1, 2.

    x is measured from the mean of its first block, so that a large mean costs no digits. It need
    not be near the mean of the others: where it is not, the variance of the whole is as large as
    the square of that distance.
    """
    whole, fold = x, 1
    if rows := x.stride(1) == 1:
        fold = _fold(x)
        x = _as_rows(x, fold)
    axes, blocks, dtype = plain.axes(x), _blocks(x), torch.promote_types(x.dtype, torch.float32)
    origin = blocks[0].mean(axes, dtype=dtype)
    if not origin.isfinite().all():  # a sum that is beyond the range, of values that are not
        origin = blocks[0].double().mean(axes).to(dtype)
    origin = origin.view(fold, -1).mul(1 / fold).sum(0)
    room, near = torch.empty_like(blocks[0], dtype=dtype), _along(origin.repeat(fold), x)
    parts = []
    for block in blocks:
        shifted = torch.sub(block, near, out=room[: len(block)])
        if rows:
            parts.append(torch.batch_norm_update_stats(shifted, None, None, 0.0))
        else:
            mean = shifted.mean(axes)
            parts.append((mean, shifted.square_().mean(axes).sub_(mean.square()).clamp_(min=0)))
    means, variances = (
        torch.cat(part).view(len(part) * fold, -1) for part in zip(*parts, strict=True)
    )
    lengths = torch.tensor([len(block) for block in blocks], dtype=dtype, device=x.device)
    counts = lengths.repeat_interleave(fold)[:, None]
    rest, var = pool(means, variances, counts)
    mean = plain.split(origin, rest)
    if far(mean, var):  # the last digits of the variance are worth one more way through it
        rounded, left = mean.repeat(1, fold)
        squares = [_from(left, _from(rounded, b)).square_().mean(axes) for b in blocks]
        var = (torch.cat(squares).view(len(counts), -1) * (counts / counts.sum())).sum(0)
        if not rest.isfinite().all():  # but the values may be, and so is then their mean
            mean = plain.split(
                whole.double().mean(plain.axes(whole)).to(dtype), torch.zeros_like(rest)
            )
    # Squares of finite values that are infinite: what has become ∞ − ∞ is as well.
    var = torch.where(mean[0].isfinite() & var.isnan(), torch.inf, var)
    return mean, var, plain.count(whole)


def _blocks(x: Tensor) -> tuple[Tensor, ...]:
    """x, some examples at a time, or some rows."""
    examples = max(1, LIMITS.get().block * len(x) // x.numel())
    return x.split(examples if x.ndim > 2 else min(examples, LONGEST))


def normalise(
    x: Tensor, mean: Tensor, inv_std: Tensor, weight: Vector, bias: Vector, relu: bool = False
) -> Tensor:
    """γ · (x − mean) · inv_std + β, or 0 if `relu` and 0 is larger: Algorithm 1, lines 3, 4."""
    scale, bias = _scale(inv_std, weight), None if bias is None else bias.to(inv_std.dtype)
    rounded, left = (None, mean) if mean.ndim == 1 else mean.unbind()
    # weight, bias, mean, var, training, momentum, eps
    affine = (scale, bias, left, torch.ones_like(left), False, 0.0, 0.0)
    if not relu and rounded is None:
        return torch.native_batch_norm(x, *affine)[0]
    y, unused = torch.empty_like(x), torch.empty_like(left)
    for block, out in zip(_blocks(x), _blocks(y), strict=True):
        if rounded is None:
            torch.native_batch_norm(block, *affine, out=(out, unused, unused))
        else:
            out.copy_(torch.native_batch_norm(_from(rounded, block), *affine)[0])
        if relu:
            out.relu_()
    return y


def _from(rounded: Tensor, x: Tensor) -> Tensor:
    """x − rounded, exact where x is within a factor of two; no shorter than float32."""
    return x - _along(rounded, x)


def _along(vector: Tensor, x: Tensor) -> Tensor:
    """(C,) in the shape that broadcasts against x."""
    return vector.view(-1, *[1] * (x.ndim - 2))


def gradient_sums(
    dy: Tensor, x: Tensor, mean: Tensor, inv_std: Tensor, weight: Vector, bias: Vector, relu=False
) -> tuple[Tensor, Tensor]:
    """∂ℓ/∂γ = Σ dy · x̂ and ∂ℓ/∂β = Σ dy: Section 3."""
    return _backward(dy, x, mean, inv_std, weight, bias, relu, (False, True, True))[1:]


def input_gradient(
    dy: Tensor, x: Tensor, mean: Tensor, inv_std: Tensor, weight: Vector, bias: Vector,
    dweight: Vector, dbias: Vector, m: int | Tensor, relu: bool = False,
) -> Tensor:  # fmt: skip
    """∂ℓ/∂x = γ · inv_std · (dy − x̂ · dweight/m − dbias/m): Section 3. Without the sums, in
    evaluation, γ · inv_std · dy."""
    dy, scale = plain.laid(dy, x), _scale(inv_std, weight)
    dy = _behind_relu(dy, x, mean, inv_std, weight, bias, relu)
    if dweight is None:
        return normalise(dy, torch.zeros_like(inv_std), scale, None, None)
    # In 16 bits, not rounded before the two parts are added.
    dx = normalise(dy.to(mean.dtype), dbias / m, scale, None, None)
    dx += normalise(x.to(mean.dtype), mean, -scale * inv_std * dweight / m, None, None)
    return dx.to(x.dtype)


def backward(
    dy: Tensor, x: Tensor, mean: Tensor, inv_std: Tensor, weight: Vector, bias: Vector, relu=False
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of Algorithm 1, all at once: (dx, dweight, dbias)."""
    return _backward(dy, x, mean, inv_std, weight, bias, relu, (True, True, True))


def _backward(dy, x, mean, inv_std, weight, bias, relu, wanted) -> tuple:
    given, dy = dy, plain.laid(dy, x)
    # One row after the other, as the operator sums them, costs digits where many are of one sign:
    # those of a pooling layer, say, which come in another layout. Few channels it is slow with.
    long = x.stride(1) == 1 and plain.count(x) > LONGEST
    long, half = long and (dy is not given or x.shape[1] < FEW), x.dtype in plain.HALF
    if mean.ndim == 1 and not half and (relu or long):
        return _backward_by_blocks(dy, x, mean, inv_std, weight, bias, relu, wanted[0])
    dy = _behind_relu(dy, x, mean, inv_std, weight, bias, relu)
    dtype = x.dtype
    if mean.ndim == 2:
        rounded, mean = mean.unbind()
        x, dy = _from(rounded, x), dy.to(mean.dtype)
        if long:
            dx, *sums = _backward_by_blocks(dy, x, mean, inv_std, weight, bias, False, wanted[0])
            return dx if dx is None else dx.to(dtype), *sums
    weight = None if weight is None else weight.to(mean.dtype)
    dx, *sums = torch.ops.aten.native_batch_norm_backward(
        dy, x, weight, None, None, mean, inv_std, True, 0.0, wanted
    )
    if long:  # what the operator has summed is good enough for a result in 16 bits, and only there
        _, *sums = _backward_by_blocks(dy, x, mean, inv_std, weight, bias, False, False)
    return dx if dx is None else dx.to(dtype), *sums


def _behind_relu(dy, x, mean, inv_std, weight, bias, relu: bool) -> Tensor:
    """dy, but 0 where the ReLU was shut. Its input is made again, and never leaves the cache."""
    if not relu:
        return dy
    result = torch.empty_like(dy)
    for upper, lower, out in zip(*map(_blocks, (dy, x, result)), strict=True):
        before_relu = normalise(lower, mean, inv_std, weight, bias)
        _let_through(upper, before_relu, out)
    return result


def _let_through(dy: Tensor, before_relu: Tensor, out: Tensor) -> None:
    """dy where the ReLU was open, else 0, written to `out`."""
    torch.ops.aten.threshold_backward(dy, before_relu, 0, grad_input=out)


def _backward_by_blocks(dy, x, mean, inv_std, weight, bias, relu, wants_x: bool) -> tuple:
    """Twice through the batch, block by block: first the sums, of what a ReLU let through, which
    stands where the gradient will; then the gradient.
    """
    scale, m, result = _scale(inv_std, weight), plain.count(x), torch.empty_like(x)
    bias = torch.zeros_like(mean) if bias is None else bias.to(mean.dtype)
    tensors, vectors, channels = (dy, x, result), (scale, bias, mean, inv_std), len(mean)
    if x.stride(1) == 1:
        fold = _fold(x)
        tensors = [_as_rows(t, fold) for t in tensors]
        vectors = [vector.repeat(fold) for vector in vectors]
    scale, bias, mean, inv_std = vectors
    one, unused, sums = torch.ones_like(mean), torch.empty_like(mean), []
    blocks = list(zip(*map(_blocks, tensors), strict=True))
    room = torch.empty_like(blocks[0][1])

    def affine(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        out = room[: len(x)]
        known = (scale, shift, mean, one, False, 0.0, 0.0)
        torch.native_batch_norm(x, *known, out=(out, unused, unused))
        return out

    for upper, lower, out in blocks:
        if relu:
            _let_through(upper, affine(lower, scale, bias), out)
        known = (out if relu else upper, lower, None, None, None, mean, inv_std, True, 0.0)
        _, *both = torch.ops.aten.native_batch_norm_backward(*known, (False, True, True))
        sums.append(torch.stack(both))
    # In float64: thousands of them may have one sign.
    dweight, dbias = torch.stack(sums).view(len(sums), 2, -1, channels).double().sum((0, 2))
    dweight, dbias = dweight.to(mean.dtype), dbias.to(mean.dtype)
    if wants_x:  # γ · inv_std · (dy − x̂ · dweight/m − dbias/m)
        repeat = len(mean) // channels
        slope = -scale * inv_std * dweight.repeat(repeat) / m
        drift = -scale * dbias.repeat(repeat) / m
        along, shift = _along(scale, tensors[1]), drift - slope * mean
        for upper, lower, out in reversed(blocks):  # the last ones may still be in the cache
            if relu:
                torch.addcmul(affine(lower, slope, drift), out, along, out=out)
            else:  # rows: faster here than the operator
                torch.addcmul(shift, lower, slope, out=out).addcmul_(upper, along)
    return result if wants_x else None, dweight, dbias


def _as_rows(x: Tensor, fold: int) -> Tensor:
    """Channels last: the same numbers, `fold` places a row, (m / fold, fold · C)."""
    return x.movedim(1, -1).flatten().view(-1, fold * x.shape[1])


def _fold(x: Tensor) -> int:
    """How many rows, channels last, are taken as one of as many more channels.

    So fewer are summed one after the other in float32, and a few channels are no slower than many.
    """
    most, rows = max(1, WIDEST // x.shape[1]), plain.count(x)
    return next(k for k in range(most, 0, -1) if rows % k == 0)


def _scale(inv_std: Tensor, weight: Vector) -> Tensor:
    return inv_std if weight is None else inv_std * weight.to(inv_std.dtype)
