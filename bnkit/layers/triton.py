"""Batch Normalization on a GPU: Triton kernels, and the functions that launch them.

``bnkit.layers`` calls ``forward`` and ``backward`` where ``unavailable(x)`` is None; the smaller
steps, ``moments``, ``normalise``, ``gradient_sums`` and ``input_gradient``, are for those who put
something between them, such as the sums over processes. All numbers are computed in float32,
whatever the dtype of x; results of x's shape have x's dtype, all others are float32.

Memory: every x is seen as (N, C, L), L places of C channels of N examples. A contiguous image has L
= H·W. Channels last, like plain (N, C), is L = 1 with N·H·W examples. Nothing is copied for that.

The work of a channel is bounded by memory, not arithmetic, so what counts is how often x is read,
and how often a kernel is launched. Where all values of a channel fit into one program, it reads
them once, keeps them in registers and does the whole step: one launch. Else two: the first leaves
partial sums of each program in memory, and each program of the second merges those of its channels,
always in the same order, before it goes on. No atomics: the same input gives the same bits. No
result is looked at by the host and no launch depends on one: CUDA graphs can capture all of it.
"""

from __future__ import annotations  # `tl` in annotations is not looked up where there is no Triton

import contextlib
import functools
import math
import os
from typing import NamedTuple

import torch
from torch import Tensor

from bnkit.layers.plain import Vector

triton = tl = None
# Elsewhere a second would be spent for nothing.
if torch.version.cuda or torch.version.hip or os.environ.get("TRITON_INTERPRET"):
    with contextlib.suppress(ImportError):
        import triton
        import triton.language as tl

# A kernel is compiled anew for each dtype, tile and alignment of x, not for each size or place of a
# vector.
SIZES = ("N", "L", "tiles", "tiles_each", "splits")
VECTORS = ["mean", "var", "inv_std", "running_mean", "running_var", "weight", "bias"]
POINTERS = [f"{name}_ptr" for name in (*VECTORS, "dweight", "dbias")]
if triton:  # noqa: SIM108 - a line for each case
    jit = triton.jit(do_not_specialize=SIZES, do_not_specialize_on_alignment=POINTERS)
else:
    jit = lambda kernel: kernel  # noqa: E731 - a kernel that nobody can launch

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
OFF = "BNKIT_KERNELS=off"  # why nothing but plain torch may run
CAPABILITY = (8, 0)  # the oldest NVIDIA architecture that Triton supports

# ---- One channel, or a few, in one program -------------------------------------------------------
# Letters: BLOCK_N, BLOCK_C, BLOCK_L are the sides of the tile that a program holds at a time.
# `channels` (BLOCK_C,) are those of this program. A value per channel has shape (BLOCK_C,), a tile
# (BLOCK_N, BLOCK_C, BLOCK_L).


@jit
def _channels(WIDE: tl.constexpr, BLOCK_C: tl.constexpr):
    """The channels of this program, (BLOCK_C,)."""
    index = tl.program_id(0)
    if WIDE:
        index = index.to(tl.int64)
    return index * BLOCK_C + tl.arange(0, BLOCK_C)


@jit
def _tile(
    t, channels, N, C, L, ALIGN: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_L: tl.constexpr,
):  # fmt: skip
    """Where tile t lies: its offsets into memory, and which of them exist.

    Tiles run down the examples first, then on to the next places. `ALIGN` divides the length of
    what is contiguous, L places or, where L = 1, C channels: said twice, so that the compiler knows
    it and reads up to 16 bytes at once.
    """
    example, place = tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_L)
    if WIDE:
        example, place = example.to(tl.int64), place.to(tl.int64)
    if BLOCK_L == 1:  # there is no next place: the compiler must know that too
        L = 1
        C = C // ALIGN * ALIGN
        example += t * BLOCK_N
    else:
        L = L // ALIGN * ALIGN
        down = tl.cdiv(N, BLOCK_N)
        example += (t % down) * BLOCK_N
        place += (t // down) * BLOCK_L
    offsets = (example[:, None, None] * C + channels[None, :, None]) * L + place[None, None, :]
    inside = (example < N)[:, None, None] & (channels < C)[None, :, None]
    return offsets, inside & (place < L)[None, None, :]


@jit
def _range(tiles_each, tiles, WIDE: tl.constexpr):
    """The tiles of this program, first and last + 1: a run of those that cover its channels."""
    first = tl.program_id(1) * tiles_each
    if WIDE:
        first = first.to(tl.int64)
    return first, tl.minimum(first + tiles_each, tiles)


@jit
def _sum(tile):
    """Over all but the channels; in one go where there is one: by axes, threads swap the tile."""
    if tile.shape[1] == 1:
        return tl.full((1,), tl.sum(tile), tl.float32)
    else:
        return tl.sum(tl.sum(tile, axis=2), axis=0)


@jit
def _load(ptr, channels, C, otherwise: tl.constexpr):
    """One number per channel; `otherwise` where there is no such vector."""
    if ptr is None:
        return tl.full(channels.shape, otherwise, tl.float32)
    else:
        return tl.load(ptr + channels, mask=channels < C, other=otherwise).to(tl.float32)


@jit
def _load_mean(ptr, channels, C):
    """A mean (2, C): rounded, and what rounding has left."""
    return _load(ptr, channels, C, 0.0), _load(ptr + C, channels, C, 0.0)


@jit
def _store(ptr, value, channels, C):
    """One number per channel, by the first of its programs."""
    mask = (channels < C) & (tl.program_id(1) == 0)
    tl.store(ptr + channels, value.to(ptr.dtype.element_ty), mask=mask)


# ---- Mathematics ---------------------------------------------------------------------------------


@jit
def _origin(x_ptr, channels, C, L):
    """The first value of each channel, (BLOCK_C,), from which its statistics are measured.

    Variance does not change when all values move, but float32 does: near 1e4 its steps are 1e-3,
    and sums of numbers that large lose what a spread of 1e-2 is made of. x − origin is small, and
    exact where x is within a factor of two. As a value of the channel it is never further from the
    mean than √m standard deviations.
    """
    return tl.load(x_ptr + channels * L, mask=channels < C, other=0.0).to(tl.float32)


@jit
def _observe(mean, m2, count, value, inside, nth):
    """Each lane of the tile takes its nth value: Welford (1962), Technometrics 4, 419.

    m2 is Σ (x − mean)² so far. A lane that is outside keeps what it has. Lanes leave the data in
    order, and a lane that has left does not come back (see ``make_plan``), so a lane that is inside
    has had exactly n values.
    """
    delta = tl.where(inside, value - mean, 0.0)
    mean += delta * (1.0 / nth)
    m2 += delta * (value - mean)
    return mean, m2, count + inside.to(tl.float32)


@jit
def _pool(mean, m2, count):
    """Mean and Σ (x − mean)² of each channel, (BLOCK_C,), from those of the parts in a tile.

    With μ the mean of all, each x_ij − μ = (x_ij − μ_i) + (μ_i − μ), and the first term sums to
    zero in part i, so
        μ = Σ n_i μ_i / n,    Σ_ij (x_ij − μ)² = Σ_i [m2_i + n_i (μ_i − μ)²].
    For two parts it is the merge of Chan, Golub and LeVeque (1979), STAN-CS-79-773. Every term is
    positive: nothing cancels, as it does in E[x²] − E[x]².
    """
    values = tl.maximum(_sum(count), 1.0)  # channels beyond the last have none
    centre = _sum(count * mean) / values
    gap = mean - centre[None, :, None]
    return centre, _sum(m2 + count * gap * gap)


@jit
def _split(near, rest):
    """near + rest as one rounded number and what rounding has left, as in ``plain.split``.

    The two are taken from x one after the other: from a mean near 1e4 float32 takes up to 5e-4,
    which matters where the spread is 1e-2. Below, x is what is left after the first, and `mean` the
    second.
    """
    mean = near + rest
    added = mean - near
    return mean, (near - (mean - added)) + (rest - added)


@jit
def _affine(x, mean, scale, shift, RELU: tl.constexpr):
    """y = γ x̂ + β, from scale = γ / √(var + eps) and shift = β; then a ReLU. NaN stays NaN."""
    y = (x - mean[None, :, None]) * scale[None, :, None] + shift[None, :, None]
    if RELU:
        y = tl.where(y <= 0.0, 0.0, y)
    return y


@jit
def _through_relu(dy, x, mean, scale, shift, RELU: tl.constexpr):
    """∂ℓ/∂y before the ReLU, 0 where it was shut: y is made again, for keeping it costs memory."""
    if RELU:
        dy = tl.where(_affine(x, mean, scale, shift, False) <= 0.0, 0.0, dy)
    return dy


@jit
def _chain(dy, x, mean, inv_std, scale, dweight, dbias, inv_m):
    """∂ℓ/∂x = γ/√(var + eps) · (dy − x̂ · dγ/m − dβ/m): Section 3, as in ``bnkit.layers.plain``."""
    slope = inv_std * dweight * inv_m  # so that (x − mean) · slope = x̂ · dγ/m
    drift = dbias * inv_m
    dx = dy - (x - mean[None, :, None]) * slope[None, :, None] - drift[None, :, None]
    return dx * scale[None, :, None]


# ---- Kernels: the whole step in one launch -------------------------------------------------------


@jit
def _keep(
    mean_ptr, var_ptr, inv_std_ptr, running_mean_ptr, running_var_ptr, mean, left, var, inv_std,
    channels, C, momentum, bessel,
):  # fmt: skip
    """Write the statistics, and move the running ones towards them; bessel is m/(m − 1).

    A channel stays where its running variance would become infinite: see ``plain.observe``.
    """
    _store(mean_ptr, mean, channels, C)
    _store(mean_ptr + C, left, channels, C)
    _store(var_ptr, var, channels, C)
    _store(inv_std_ptr, inv_std, channels, C)
    if running_mean_ptr is not None:
        old_mean = _load(running_mean_ptr, channels, C, 0.0)
        old_var = _load(running_var_ptr, channels, C, 0.0)
        new_mean = old_mean + momentum * (mean - old_mean)
        new_var = old_var + momentum * (var * bessel - old_var)
        rounded = new_var.to(running_var_ptr.dtype.element_ty).to(tl.float32)
        moves = (rounded < float("inf")) | (mean - mean != 0.0)
        _store(running_mean_ptr, tl.where(moves, new_mean, old_mean), channels, C)
        _store(running_var_ptr, tl.where(moves, new_var, old_var), channels, C)


@jit
def _whole_forward(
    x_ptr, y_ptr, weight_ptr, bias_ptr, mean_ptr, var_ptr, inv_std_ptr, running_mean_ptr,
    running_var_ptr, eps, momentum, inv_m, bessel, N, C, L, tiles, tiles_each, RELU: tl.constexpr,
    ALIGN: tl.constexpr, WIDE: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr,
    BLOCK_L: tl.constexpr,
):  # fmt: skip
    """Algorithm 1 for channels whose values all fit into one tile: read once, written once."""
    channels = _channels(WIDE, BLOCK_C)
    offsets, inside = _tile(0, channels, N, C, L, ALIGN, WIDE, BLOCK_N, BLOCK_L)
    x = tl.load(x_ptr + offsets, mask=inside, other=0.0).to(tl.float32)
    origin = _origin(x_ptr, channels, C, L)
    # Each value is a part.
    mean, m2 = _pool(x - origin[None, :, None], tl.zeros_like(x), inside.to(tl.float32))
    rounded, left = _split(origin, mean)
    var = m2 * inv_m
    inv_std = tl.rsqrt(var + eps)
    _keep(mean_ptr, var_ptr, inv_std_ptr, running_mean_ptr, running_var_ptr, rounded, left, var,
          inv_std, channels, C, momentum, bessel)  # fmt: skip
    scale = inv_std * _load(weight_ptr, channels, C, 1.0)
    x -= rounded[None, :, None]
    y = _affine(x, left, scale, _load(bias_ptr, channels, C, 0.0), RELU)
    tl.store(y_ptr + offsets, y.to(y_ptr.dtype.element_ty), mask=inside)


@jit
def _whole_backward(
    dy_ptr, x_ptr, dx_ptr, mean_ptr, inv_std_ptr, weight_ptr, bias_ptr, dweight_ptr, dbias_ptr,
    inv_m, N, C, L, tiles, tiles_each, RELU: tl.constexpr, ALIGN: tl.constexpr,
    WIDE: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_L: tl.constexpr,
):  # fmt: skip
    """All three gradients for channels whose values all fit into one tile."""
    channels = _channels(WIDE, BLOCK_C)
    offsets, inside = _tile(0, channels, N, C, L, ALIGN, WIDE, BLOCK_N, BLOCK_L)
    rounded, mean = _load_mean(mean_ptr, channels, C)
    inv_std = _load(inv_std_ptr, channels, C, 0.0)
    scale, shift = inv_std * _load(weight_ptr, channels, C, 1.0), _load(bias_ptr, channels, C, 0.0)
    dy = tl.load(dy_ptr + offsets, mask=inside, other=0.0).to(tl.float32)
    x = tl.load(x_ptr + offsets, mask=inside, other=0.0).to(tl.float32) - rounded[None, :, None]
    dy = _through_relu(dy, x, mean, scale, shift, RELU)
    dweight, dbias = _sum(dy * (x - mean[None, :, None])) * inv_std, _sum(dy)  # dy is 0 outside
    _store(dweight_ptr, dweight, channels, C)
    _store(dbias_ptr, dbias, channels, C)
    dx = _chain(dy, x, mean, inv_std, scale, dweight, dbias, inv_m)
    tl.store(dx_ptr + offsets, dx.to(dx_ptr.dtype.element_ty), mask=inside)


# ---- Kernels: many programs per channel, first the sums ------------------------------------------
# Parts, (what, splits, C): what each of the programs of a channel has found.


@jit
def _part(what: tl.constexpr, channels, C):
    """Where this program's part of this sum belongs, relative to the first."""
    return (what * tl.num_programs(1) + tl.program_id(1)) * C + channels


@jit
def _parts(parts_ptr, what: tl.constexpr, splits, channels, C, BLOCK_S: tl.constexpr):
    """What all programs of each channel have found, as a tile (BLOCK_S, BLOCK_C, 1), else 0."""
    split = tl.arange(0, BLOCK_S)
    inside = (split < splits)[:, None, None] & (channels < C)[None, :, None]
    offsets = (what * splits + split)[:, None, None] * C + channels[None, :, None]
    return tl.load(parts_ptr + offsets, inside, 0.0)


@jit
def _partial_moments(
    x_ptr, parts_ptr, N, C, L, tiles, tiles_each, ALIGN: tl.constexpr,
    WIDE: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_L: tl.constexpr,
):  # fmt: skip
    """Mean from the origin, Σ (x − mean)² and count of this program's tiles."""
    channels = _channels(WIDE, BLOCK_C)
    origin = _origin(x_ptr, channels, C, L)[None, :, None]
    mean = tl.zeros((BLOCK_N, BLOCK_C, BLOCK_L), tl.float32)
    m2, count = mean, mean
    first, last = _range(tiles_each, tiles, WIDE)
    for t in range(first, last):
        offsets, inside = _tile(t, channels, N, C, L, ALIGN, WIDE, BLOCK_N, BLOCK_L)
        value = tl.load(x_ptr + offsets, mask=inside, other=0.0).to(tl.float32)
        mean, m2, count = _observe(mean, m2, count, value - origin, inside, t - first + 1)
    values = _sum(count)
    mean, m2 = _pool(mean, m2, count)
    exists = channels < C
    tl.store(parts_ptr + _part(0, channels, C), mean, mask=exists)
    tl.store(parts_ptr + _part(1, channels, C), m2, mask=exists)
    tl.store(parts_ptr + _part(2, channels, C), values, mask=exists)


@jit
def _merged_moments(x_ptr, parts_ptr, inv_m, splits, channels, C, L, BLOCK_S: tl.constexpr):
    """Mean, rounded and the rest, and biased variance of each channel."""
    mean, m2 = _pool(
        _parts(parts_ptr, 0, splits, channels, C, BLOCK_S),
        _parts(parts_ptr, 1, splits, channels, C, BLOCK_S),
        _parts(parts_ptr, 2, splits, channels, C, BLOCK_S),
    )
    rounded, left = _split(_origin(x_ptr, channels, C, L), mean)
    return rounded, left, m2 * inv_m


@jit
def _merge_moments(
    x_ptr, parts_ptr, mean_ptr, var_ptr, inv_m, splits, C, L,
    WIDE: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """The statistics alone, for those who merge further."""
    channels = _channels(WIDE, BLOCK_C)
    mean, left, var = _merged_moments(x_ptr, parts_ptr, inv_m, splits, channels, C, L, BLOCK_S)
    _store(mean_ptr, mean, channels, C)
    _store(mean_ptr + C, left, channels, C)
    _store(var_ptr, var, channels, C)


@jit
def _partial_sums(
    dy_ptr, x_ptr, parts_ptr, mean_ptr, inv_std_ptr, weight_ptr, bias_ptr,
    N, C, L, tiles, tiles_each, RELU: tl.constexpr, ALIGN: tl.constexpr,
    WIDE: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_L: tl.constexpr,
):  # fmt: skip
    """Σ dy · x̂ and Σ dy of this program's tiles."""
    channels = _channels(WIDE, BLOCK_C)
    rounded, mean = _load_mean(mean_ptr, channels, C)
    inv_std = _load(inv_std_ptr, channels, C, 0.0)
    scale, shift = inv_std * _load(weight_ptr, channels, C, 1.0), _load(bias_ptr, channels, C, 0.0)
    dweight = tl.zeros((BLOCK_N, BLOCK_C, BLOCK_L), tl.float32)
    dbias = dweight
    first, last = _range(tiles_each, tiles, WIDE)
    for t in range(first, last):
        offsets, inside = _tile(t, channels, N, C, L, ALIGN, WIDE, BLOCK_N, BLOCK_L)
        dy = tl.load(dy_ptr + offsets, mask=inside, other=0.0).to(tl.float32)
        x = tl.load(x_ptr + offsets, mask=inside, other=0.0).to(tl.float32)
        x -= rounded[None, :, None]
        dy = _through_relu(dy, x, mean, scale, shift, RELU)
        dweight += dy * (x - mean[None, :, None])
        dbias += dy
    exists = channels < C
    tl.store(parts_ptr + _part(0, channels, C), _sum(dweight) * inv_std, mask=exists)
    tl.store(parts_ptr + _part(1, channels, C), _sum(dbias), mask=exists)


@jit
def _merge_sums(
    parts_ptr, dweight_ptr, dbias_ptr, splits, C, L,
    WIDE: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """The two sums alone, for those who add further."""
    channels = _channels(WIDE, BLOCK_C)
    _store(dweight_ptr, _sum(_parts(parts_ptr, 0, splits, channels, C, BLOCK_S)), channels, C)
    _store(dbias_ptr, _sum(_parts(parts_ptr, 1, splits, channels, C, BLOCK_S)), channels, C)


# ---- Kernels: many programs per channel, then what needs the sums --------------------------------


@jit
def _write_y(
    x_ptr, y_ptr, weight_ptr, bias_ptr, rounded, mean, inv_std, channels, N, C, L, tiles,
    tiles_each, RELU: tl.constexpr, ALIGN: tl.constexpr, WIDE: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_L: tl.constexpr,
):  # fmt: skip
    """Algorithm 1, lines 3 and 4, for this program's tiles."""
    scale, shift = inv_std * _load(weight_ptr, channels, C, 1.0), _load(bias_ptr, channels, C, 0.0)
    first, last = _range(tiles_each, tiles, WIDE)
    for t in range(first, last):
        offsets, inside = _tile(t, channels, N, C, L, ALIGN, WIDE, BLOCK_N, BLOCK_L)
        x = tl.load(x_ptr + offsets, mask=inside, other=0.0).to(tl.float32)
        y = _affine(x - rounded[None, :, None], mean, scale, shift, RELU)
        tl.store(y_ptr + offsets, y.to(y_ptr.dtype.element_ty), mask=inside)


@jit
def _merge_and_normalise(
    x_ptr, y_ptr, weight_ptr, bias_ptr, parts_ptr, mean_ptr, var_ptr, inv_std_ptr, running_mean_ptr,
    running_var_ptr, eps, momentum, inv_m, bessel, splits, N, C, L, tiles, tiles_each,
    RELU: tl.constexpr, ALIGN: tl.constexpr, WIDE: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_L: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """The second half of Algorithm 1: each program merges its channels' parts, then normalises."""
    channels = _channels(WIDE, BLOCK_C)
    mean, left, var = _merged_moments(x_ptr, parts_ptr, inv_m, splits, channels, C, L, BLOCK_S)
    inv_std = tl.rsqrt(var + eps)
    _keep(mean_ptr, var_ptr, inv_std_ptr, running_mean_ptr, running_var_ptr, mean, left, var,
          inv_std, channels, C, momentum, bessel)  # fmt: skip
    _write_y(x_ptr, y_ptr, weight_ptr, bias_ptr, mean, left, inv_std, channels, N, C, L, tiles,
             tiles_each, RELU, ALIGN, WIDE, BLOCK_N, BLOCK_L)  # fmt: skip


@jit
def _normalise(
    x_ptr, y_ptr, weight_ptr, bias_ptr, mean_ptr, inv_std_ptr,
    N, C, L, tiles, tiles_each, RELU: tl.constexpr, ALIGN: tl.constexpr,
    WIDE: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_L: tl.constexpr,
):  # fmt: skip
    """Normalise by statistics that are given."""
    channels = _channels(WIDE, BLOCK_C)
    rounded, mean = _load_mean(mean_ptr, channels, C)
    inv_std = _load(inv_std_ptr, channels, C, 0.0)
    _write_y(x_ptr, y_ptr, weight_ptr, bias_ptr, rounded, mean, inv_std, channels, N, C, L, tiles,
             tiles_each, RELU, ALIGN, WIDE, BLOCK_N, BLOCK_L)  # fmt: skip


@jit
def _normalise_by_running(
    x_ptr, y_ptr, weight_ptr, bias_ptr, running_mean_ptr, running_var_ptr, mean_ptr, inv_std_ptr,
    eps, N, C, L, tiles, tiles_each, RELU: tl.constexpr, ALIGN: tl.constexpr,
    WIDE: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_L: tl.constexpr,
):  # fmt: skip
    """Algorithm 2, line 11. What it used is kept: the running values may move meanwhile."""
    channels = _channels(WIDE, BLOCK_C)
    mean = _load(running_mean_ptr, channels, C, 0.0)
    inv_std = tl.rsqrt(_load(running_var_ptr, channels, C, 1.0) + eps)
    left = tl.zeros_like(mean)
    _store(mean_ptr, mean, channels, C)
    _store(mean_ptr + C, left, channels, C)
    _store(inv_std_ptr, inv_std, channels, C)
    _write_y(x_ptr, y_ptr, weight_ptr, bias_ptr, mean, left, inv_std, channels, N, C, L, tiles,
             tiles_each, RELU, ALIGN, WIDE, BLOCK_N, BLOCK_L)  # fmt: skip


@jit
def _write_dx(
    dy_ptr, x_ptr, dx_ptr, weight_ptr, bias_ptr, rounded, mean, inv_std, dweight, dbias, inv_m,
    channels, N, C, L, tiles, tiles_each, RELU: tl.constexpr, ALIGN: tl.constexpr,
    WIDE: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_L: tl.constexpr,
):  # fmt: skip
    """∂ℓ/∂x for this program's tiles; the statistics are constants where dweight is None."""
    scale, shift = inv_std * _load(weight_ptr, channels, C, 1.0), _load(bias_ptr, channels, C, 0.0)
    first, last = _range(tiles_each, tiles, WIDE)
    for t in range(first, last):
        offsets, inside = _tile(t, channels, N, C, L, ALIGN, WIDE, BLOCK_N, BLOCK_L)
        dy = tl.load(dy_ptr + offsets, mask=inside, other=0.0).to(tl.float32)
        x = dy
        if RELU or dweight is not None:
            x = tl.load(x_ptr + offsets, mask=inside, other=0.0).to(tl.float32)
            x -= rounded[None, :, None]
        dy = _through_relu(dy, x, mean, scale, shift, RELU)
        if dweight is None:
            dx = dy * scale[None, :, None]
        else:
            dx = _chain(dy, x, mean, inv_std, scale, dweight, dbias, inv_m)
        tl.store(dx_ptr + offsets, dx.to(dx_ptr.dtype.element_ty), mask=inside)


@jit
def _merge_and_input_gradient(
    dy_ptr, x_ptr, dx_ptr, parts_ptr, mean_ptr, inv_std_ptr, weight_ptr, bias_ptr, dweight_ptr,
    dbias_ptr, inv_m, splits, N, C, L, tiles, tiles_each, RELU: tl.constexpr, ALIGN: tl.constexpr,
    WIDE: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_L: tl.constexpr,
    BLOCK_S: tl.constexpr,
):  # fmt: skip
    """Each program merges the two sums of its channels, then writes its tiles of ∂ℓ/∂x."""
    channels = _channels(WIDE, BLOCK_C)
    dweight = _sum(_parts(parts_ptr, 0, splits, channels, C, BLOCK_S))
    dbias = _sum(_parts(parts_ptr, 1, splits, channels, C, BLOCK_S))
    _store(dweight_ptr, dweight, channels, C)
    _store(dbias_ptr, dbias, channels, C)
    rounded, mean = _load_mean(mean_ptr, channels, C)
    inv_std = _load(inv_std_ptr, channels, C, 0.0)
    _write_dx(dy_ptr, x_ptr, dx_ptr, weight_ptr, bias_ptr, rounded, mean, inv_std, dweight, dbias,
              inv_m, channels, N, C, L, tiles, tiles_each, RELU, ALIGN, WIDE, BLOCK_N,
              BLOCK_L)  # fmt: skip


@jit
def _input_gradient(
    dy_ptr, x_ptr, dx_ptr, mean_ptr, inv_std_ptr, weight_ptr, bias_ptr, dweight_ptr, dbias_ptr,
    inv_m, N, C, L, tiles, tiles_each, RELU: tl.constexpr, ALIGN: tl.constexpr,
    WIDE: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_L: tl.constexpr,
):  # fmt: skip
    """∂ℓ/∂x from sums that are given, or, where they are not, through constant statistics."""
    channels = _channels(WIDE, BLOCK_C)
    rounded, mean = _load_mean(mean_ptr, channels, C)
    inv_std = _load(inv_std_ptr, channels, C, 0.0)
    if dweight_ptr is None:
        _write_dx(dy_ptr, x_ptr, dx_ptr, weight_ptr, bias_ptr, rounded, mean, inv_std, None, None,
                  inv_m, channels, N, C, L, tiles, tiles_each, RELU, ALIGN, WIDE, BLOCK_N,
                  BLOCK_L)  # fmt: skip
    else:
        dweight, dbias = _load(dweight_ptr, channels, C, 0.0), _load(dbias_ptr, channels, C, 0.0)
        _write_dx(dy_ptr, x_ptr, dx_ptr, weight_ptr, bias_ptr, rounded, mean, inv_std, dweight, dbias,
                  inv_m, channels, N, C, L, tiles, tiles_each, RELU, ALIGN, WIDE, BLOCK_N,
                  BLOCK_L)  # fmt: skip


# ---- How the work is cut -------------------------------------------------------------------------
# Not tuned by timing at run time, for then the bits would differ from run to run. Nor by the
# device: the same shape is summed in the same order on every GPU. The sizes are reckoned for an
# H100, and not yet measured on one: at 3.35 TB/s and some 0.7 µs until a number arrives, each of
# its 132 multiprocessors must have 18 KB under way. Two programs of 512 threads with 32 bytes each
# have 32 KB, and fit where a thread needs at most 64 registers, as the tests check.

# Values of a tile in the one-launch kernels: at 16 a thread, dy and x still fit registers.
WHOLE = 8192
TILE = 4096  # values of a tile in the others, at 8 a thread
PER_WARP = 256  # values of a tile for each warp of 32 threads, up to MAX_WARPS
MAX_WARPS = 16
# Neighbours in memory that a program reads, at least: 128 bytes of float32, 64 of float16, whole
# sectors; and where that would not fit a tile: 32 bytes of float32 are one transfer.
SEGMENT, SECTOR = 32, 8
PROGRAMS = 1024  # fill 100 to 150 multiprocessors a few times, so that none waits long for the last
PARTS = 8192  # values of a tile of parts


class Plan(NamedTuple):
    """How a tensor of one shape is cut into tiles, and these shared out to programs."""

    shape: tuple[int, int, int]
    """N, C, L as it lies in memory."""
    whole: bool
    """Whether all values of a channel fit into one tile."""
    grid: tuple[int, int]
    """Groups of channels, and splits: how many programs share the values of a channel."""
    tiles: int
    """Tiles that cover the values of a channel."""
    each: int
    """How many of them a program takes."""
    sizes: dict
    """ALIGN, WIDE, the sides of a tile, and its warps: what the kernels are compiled for."""
    parts: dict
    """The same for a kernel that only merges."""


def wide(numel: int) -> bool:
    """Whether indices need 64 bits: the last one is numel − 1, and int32 ends at 2³¹ − 1.

    Else lanes beyond the end may count further and wrap round: they are masked and touch nothing.
    """
    return numel > 2**31 - 1


@functools.lru_cache(maxsize=4096)
def make_plan(n: int, c: int, length: int) -> Plan:
    """The plan for a tensor that lies in memory as (n, c, length).

    The tile is as wide along what is contiguous as it can be, and covers several channels only
    where one of them alone would read less than `SEGMENT` neighbours. Where it covers several
    examples it covers all places, and where it covers only some places it is one example high: so a
    lane of it, taking tile after tile down the examples and then on to the next places, is inside
    first and outside after, never the other way round. ``_observe`` stands on that.
    """
    wanted = _power(n) * _power(length)
    channels, fewest = (
        min(_power(c), max(1, segment // _power(length))) for segment in (SEGMENT, SECTOR)
    )
    if whole := wanted * fewest <= WHOLE:
        channels = min(channels, WHOLE // wanted)
        block_n, block_l = _power(n), _power(length)
    else:
        block_l = min(_power(length), TILE // channels)
        block_n = min(_power(n), TILE // channels // block_l)
    groups, tiles = -(-c // channels), -(-n // block_n) * -(-length // block_l)
    # Each program of the second launch reads all parts of its channels. With s splits that is 3 s²
    # numbers a channel in all, which must stay small beside the m values: s ≤ √(m/8) keeps it below
    # half of them, and it comes from cache.
    most = min(tiles, -(-PROGRAMS // groups), math.isqrt(n * length // 8), PARTS // channels)
    splits = max(1, most)
    each = -(-tiles // splits)
    splits = -(-tiles // each)
    side = {"WIDE": wide(n * c * length), "BLOCK_C": channels}
    align = math.gcd(16, c if length == 1 else length)
    sizes = {**side, "ALIGN": align, "BLOCK_N": block_n, "BLOCK_L": block_l}
    merge = {**side, "BLOCK_S": _power(splits), "num_warps": _warps(_power(splits) * channels)}
    sizes["num_warps"] = _warps(block_n * channels * block_l)
    return Plan((n, c, length), whole, (groups, splits), tiles, each, sizes, merge)


def _power(number: int) -> int:
    """The smallest power of two that is not below it: the only sizes a tile can have."""
    return 1 << (number - 1).bit_length()


def _warps(values: int) -> int:
    return min(MAX_WARPS, max(1, values // PER_WARP))


def _in_memory(x: Tensor) -> tuple[int, int, int]:
    """x as it lies in memory: (N, C, L), with L = 1 where the channels are last."""
    if x.is_contiguous():
        return x.shape[0], x.shape[1], math.prod(x.shape[2:])
    if x.movedim(1, -1).is_contiguous():
        return x.numel() // x.shape[1], x.shape[1], 1
    raise ValueError(
        f"a tensor of shape {tuple(x.shape)} with strides {x.stride()} is neither contiguous nor "
        "channels last; call .contiguous() first."
    )


# ---- Launching -----------------------------------------------------------------------------------

_SWITCH = os.environ.encodekey("BNKIT_KERNELS")


def unavailable(x: Tensor) -> str | None:
    """Why the kernels cannot take x, in words for a user; None where they can.

    x must lie on a GPU, in float16, bfloat16 or float32; float64 stays with plain torch, for what
    needs it is a check, not speed. In Triton's interpreter (``TRITON_INTERPRET=1`` when this module
    is imported) tensors on the CPU are taken too. ``BNKIT_KERNELS=off`` in the environment switches
    the kernels off. Layout is no reason: one that is neither contiguous nor channels last has to be
    made so.

    Raises ValueError where ``BNKIT_KERNELS`` is neither "on" nor "off".
    """
    # For a name that is not there ``os.environ`` raises and catches twice, at every call of a layer:
    # beside a small batch a tenth of the arithmetic. So one looks first where it would look.
    inside = getattr(os.environ, "_data", None)
    if inside is not None and _SWITCH not in inside:
        return cannot_take(x)
    switch = os.environ.get("BNKIT_KERNELS", "on")
    if switch not in ("on", "off"):
        raise ValueError(f"BNKIT_KERNELS is {switch!r}; it must be 'on' or 'off'.")
    return OFF if switch == "off" else cannot_take(x)


def cannot_take(x: Tensor) -> str | None:
    """The same, whatever the environment says."""
    if x.is_cpu and not interpreted():
        return "the tensor is on the CPU"
    if not x.is_cuda and not x.is_cpu:
        return f"the tensor is on {x.device.type}"
    if triton is None:
        return "triton is not installed"
    if x.dtype not in DTYPES:
        return f"dtype {str(x.dtype).removeprefix('torch.')}"
    if x.is_cuda and _capability(x.device) < CAPABILITY:
        there, least = (".".join(map(str, pair)) for pair in (_capability(x.device), CAPABILITY))
        return f"compute capability {there}, below {least}"
    if not x.numel():
        return "the tensor is empty"
    return None


@functools.cache  # it is settled when the kernels are made
def interpreted() -> bool:
    """Whether the kernels run in Triton's interpreter: slow, on any machine, and good for tests."""
    return triton is not None and not isinstance(_normalise, triton.runtime.JITFunction)


@functools.cache
def _capability(device: torch.device) -> tuple[int, int]:
    # AMD counts otherwise.
    return torch.cuda.get_device_capability(device) if torch.version.cuda else CAPABILITY


def _launch(kernel, plan: Plan, *arguments, **flags) -> None:
    """One kernel over all tiles of a plan, on the device of the tensors."""
    with torch.cuda.device_of(arguments[0]):
        kernel[plan.grid](*arguments, *plan.shape, plan.tiles, plan.each, **flags, **plan.sizes)


def _launch_after(kernel, plan: Plan, *arguments, **flags) -> None:
    """The same for a kernel that first merges the parts of the one before."""
    _launch(kernel, plan, *arguments, plan.grid[1], BLOCK_S=plan.parts["BLOCK_S"], **flags)


def _launch_merge(kernel, plan: Plan, *arguments) -> None:
    """One kernel over all parts of a plan."""
    with torch.cuda.device_of(arguments[0]):
        kernel[plan.grid[:1]](*arguments, plan.grid[1], *plan.shape[1:], **plan.parts)


def _plan_of(*tensors: Tensor) -> Plan:
    """The plan for tensors that must lie in memory alike."""
    shape, *others = map(_in_memory, tensors)
    if any(other != shape for other in others):
        raise ValueError(
            f"x and dy lie in memory differently: as (N, C, L) = {shape} and {others[0]}. "
            "Give dy the shape and the memory format of x."
        )
    return make_plan(*shape)


def _vectors(x: Tensor, count: int) -> tuple[Tensor, ...]:
    """So many float32 vectors of one number per channel, not yet written."""
    return torch.empty((count, x.shape[1]), dtype=torch.float32, device=x.device).unbind()


def _statistics(x: Tensor, vectors: int) -> tuple[Tensor, ...]:
    """A mean (2, C) and so many vectors, in one piece, not yet written."""
    both = torch.empty((2 + vectors, x.shape[1]), dtype=torch.float32, device=x.device)
    return both[:2], *both[2:].unbind()


def _parts_of(x: Tensor, plan: Plan, count: int) -> Tensor:
    return torch.empty((count, plan.grid[1], x.shape[1]), dtype=torch.float32, device=x.device)


def _pair(x: Tensor, mean: Tensor) -> Tensor:
    """A mean as the kernels read it, (2, C): rounded, and what rounding has left."""
    if mean.ndim == 1:
        mean = torch.stack([mean, torch.zeros_like(mean)])
    _dense(x, mean[0])
    return mean.contiguous()


def _dense(x: Tensor, *vectors: Tensor | None) -> tuple[Tensor | None, ...]:
    """Vectors as the kernels read them, one number after the other; None stays None."""
    channels = x.shape[1]
    for vector in vectors:
        if vector is not None and vector.shape != (channels,):
            raise ValueError(
                f"x of shape {tuple(x.shape)} has {channels} channels; a vector of shape "
                f"{tuple(vector.shape)} does not fit: it must be ({channels},)."
            )
    return tuple(vector if vector is None else vector.contiguous() for vector in vectors)


# ---- The steps -----------------------------------------------------------------------------------
# Shapes, here and below: x, y, dy and dx (N, C, ...), contiguous or channels last; all others (C,).
# A mean may be (2, C), as in ``plain``, and those that are returned are. `weight` and `bias` may be
# None, for 1 and 0, and of any floating dtype. Raised: ValueError for
# another layout, and for vectors that do not fit. The caller has asked ``unavailable``.


def moments(x: Tensor) -> tuple[Tensor, Tensor, int]:
    """Mean (2, C) and biased variance of each channel, float32, and its count: Algorithm 1, lines 1
    and 2.

    Both are good to float32's last digits also where the mean is a million times the spread. Where
    a channel holds NaN or infinity its variance is NaN.
    """
    plan = _plan_of(x)
    parts, (mean, var), m = _parts_of(x, plan, 3), _statistics(x, 1), x.numel() // x.shape[1]
    _launch(_partial_moments, plan, x, parts)
    _launch_merge(_merge_moments, plan, x, parts, mean, var, 1 / m)
    return mean, var, m


def normalise(
    x: Tensor, mean: Tensor, inv_std: Tensor, weight: Vector, bias: Vector, relu: bool = False
) -> Tensor:
    """γ · (x − mean) · inv_std + β, 0 where negative if `relu`: Algorithm 1, lines 3 and 4."""
    plan, y = _plan_of(x), torch.empty_like(x)
    weight, bias, inv_std = _dense(x, weight, bias, inv_std)
    _launch(_normalise, plan, x, y, weight, bias, _pair(x, mean), inv_std, RELU=relu)
    return y


def gradient_sums(
    dy: Tensor, x: Tensor, mean: Tensor, inv_std: Tensor, weight: Vector = None,
    bias: Vector = None, relu: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """∂ℓ/∂γ = Σ dy · x̂ and ∂ℓ/∂β = Σ dy, float32, of what the ReLU let through: Section 3.

    `weight` and `bias` are needed only where `relu`, to know which those are.
    """
    plan = _plan_of(x, dy)
    parts, (dweight, dbias) = _parts_of(x, plan, 2), _vectors(x, 2)
    known = _pair(x, mean), *_dense(x, inv_std, weight, bias)
    _launch(_partial_sums, plan, dy, x, parts, *known, RELU=relu)
    _launch_merge(_merge_sums, plan, parts, dweight, dbias)
    return dweight, dbias


def input_gradient(
    dy: Tensor, x: Tensor, mean: Tensor, inv_std: Tensor, weight: Vector, bias: Vector,
    dweight: Vector, dbias: Vector, m: int | Tensor = 1, relu: bool = False,
) -> Tensor:  # fmt: skip
    """∂ℓ/∂x = γ · inv_std · (dy − x̂ · dweight/m − dbias/m), dy behind the ReLU: Section 3.

    `dweight` and `dbias` are the sums over all m values of each channel, also those of other
    processes; m may be a tensor of one number, which is not waited for. With None for the sums the
    statistics are constants, as in evaluation, and ∂ℓ/∂x = γ · inv_std · dy.
    """
    if isinstance(m, Tensor) and dweight is not None:
        dweight, dbias, m = dweight / m, dbias / m, 1
    plan, dx = _plan_of(x, dy), torch.empty_like(x)
    vectors = _pair(x, mean), *_dense(x, inv_std, weight, bias, dweight, dbias)
    inv_m = 1.0 if dweight is None else 1 / m
    _launch(_input_gradient, plan, dy, x, dx, *vectors, inv_m, RELU=relu)
    return dx


# ---- All steps at once ---------------------------------------------------------------------------


def forward(
    x: Tensor, weight: Vector, bias: Vector, eps: float, relu: bool = False,
    running_mean: Vector = None, running_var: Vector = None, momentum: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Algorithm 1 in one launch or two: (y, mean, var, inv_std), with inv_std = 1/√(var + eps).

    Where `running_mean` and `running_var` are given they move, in place, by the share `momentum`
    towards the mean and the unbiased variance of the batch: Section 3.1.

    Raises ValueError also for one value per channel, which has no variance, and for running values
    with gaps in memory.
    """
    plan, m = _plan_of(x), x.numel() // x.shape[1]
    if m < 2:
        problem = "one value per channel has no variance; use at least two."
        raise ValueError(f"x has shape {tuple(x.shape)}: {problem}")
    running = _dense(x, running_mean, running_var)
    if running[0] is not running_mean or running[1] is not running_var:
        raise ValueError(
            "running_mean and running_var must be contiguous: they are written in place."
        )
    y, (mean, var, inv_std) = torch.empty_like(x), _statistics(x, 2)
    affine, statistics = _dense(x, weight, bias), (mean, var, inv_std, *running)
    numbers = (float(eps), float(momentum), 1 / m, m / (m - 1))
    if plan.whole:
        _launch(_whole_forward, plan, x, y, *affine, *statistics, *numbers, RELU=relu)
    else:
        parts = _parts_of(x, plan, 3)
        _launch(_partial_moments, plan, x, parts)
        known = (x, y, *affine, parts, *statistics, *numbers)
        _launch_after(_merge_and_normalise, plan, *known, RELU=relu)
    return y, mean, var, inv_std


def forward_running(
    x: Tensor, running_mean: Tensor, running_var: Tensor, weight: Vector, bias: Vector,
    eps: float, relu: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Algorithm 2, line 11, in one launch: (y, mean, inv_std), as they were used."""
    plan, y, (mean, inv_std) = _plan_of(x), torch.empty_like(x), _statistics(x, 1)
    vectors = _dense(x, weight, bias, running_mean, running_var)
    _launch(_normalise_by_running, plan, x, y, *vectors, mean, inv_std, float(eps), RELU=relu)
    return y, mean, inv_std


def backward(
    dy: Tensor, x: Tensor, mean: Tensor, inv_std: Tensor, weight: Vector, bias: Vector, relu=False
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of ``forward`` in one launch or two: (dx, dweight, dbias), the sums float32.

    Those of ``forward_running`` are ``input_gradient`` without sums, and ``gradient_sums``.
    """
    plan, dx, sums = _plan_of(x, dy), torch.empty_like(x), _vectors(x, 2)
    inv_m = x.shape[1] / x.numel()
    known = _pair(x, mean), *_dense(x, inv_std, weight, bias)
    if plan.whole:
        _launch(_whole_backward, plan, dy, x, dx, *known, *sums, inv_m, RELU=relu)
    else:
        parts = _parts_of(x, plan, 2)
        _launch(_partial_sums, plan, dy, x, parts, *known, RELU=relu)
        arguments = (dy, x, dx, parts, *known, *sums, inv_m)
        _launch_after(_merge_and_input_gradient, plan, *arguments, RELU=relu)
    return dx, *sums
