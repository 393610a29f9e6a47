"""Batch Normalization for torch as a function, with its gradients, on the path that suits a tensor.

``batch_norm`` is what the layers of ``bnkit.layers.modules`` call, ``backend`` says which code a
tensor meets, and why. Three modules have the mathematics, under the same names: ``plain``, ``aten``
and ``triton``; with ``BNKIT_KERNELS=off`` in the environment it is the plain one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import ModuleType

import torch
from torch import Tensor, distributed
from torch.autograd import forward_ad

from bnkit.layers import aten, plain, triton
from bnkit.layers.plain import Vector

# ---- Which path ----------------------------------------------------------------------------------

NAMES = {plain: "plain torch", aten: "ATen operators", triton: "Triton kernels"}
PATHS = {"plain": plain, "aten": aten, "triton": triton}
_chosen = ContextVar("the path that ``using`` asks for", default=None)


@contextmanager
def using(path: str, **limits: int) -> Iterator[None]:
    """Inside the ``with`` every layer of this thread takes this path: "plain", "aten" or "triton".

    `limits`, for "aten" alone, are fields of ``aten.Limits``: which batches one operator takes, and
    how large the blocks of the others are. ``BNKIT_KERNELS`` has no say; where the tensor is empty
    or others differentiate it stays plain torch. An error names what is allowed: ValueError for
    another path or a limit that is no size, TypeError for a limit that does not exist, and
    RuntimeError, from the layer, for a tensor that the path cannot take.
    """
    if not isinstance(path, str) or path not in PATHS:
        raise ValueError(f"the path is {path!r}; {', '.join(map(repr, PATHS))} are allowed.")
    allowed = aten.Limits._fields if path == "aten" else ()
    if unknown := [name for name in limits if name not in allowed]:
        raise TypeError(f"limits of {path!r}: {unknown} given, {list(allowed)} allowed.")
    for name, limit in limits.items():
        least = 1 if name == "block" else 0
        if type(limit) is not int or limit < least:
            wanted = f"it must be a whole number from {least} up, of elements or values."
            raise ValueError(f"the limit {name} is {limit!r}; {wanted}")
    chosen, limited = _chosen.set(path), aten.LIMITS.set(aten.LIMITS.get()._replace(**limits))
    try:
        yield
    finally:
        _chosen.reset(chosen)
        aten.LIMITS.reset(limited)


def backend(x: Tensor) -> str:
    """Which code runs for x in a layer, and why, in words: "plain torch: the tensor is on meta",
    say.

    It holds in training and in evaluation. Second derivatives always are plain torch, and on a CPU
    so are large batches of a subclass of Tensor, a DTensor say, and batches of gradients.

    Raises ValueError where ``BNKIT_KERNELS`` is neither "on" nor "off".
    """
    path, why = _path(x)
    return f"{NAMES[path]}: {why}"


def _path(x: Tensor) -> tuple[ModuleType, str]:
    if _others_differentiate():
        return plain, "torch.compile, torch.func or forward mode is at work"
    if not x.numel():
        return plain, "the tensor is empty"
    if (name := _chosen.get()) is not None:
        return _asked_for(name, x)
    problem = triton.unavailable(x)
    if problem is None:
        return triton, f"the tensor is on {x.device.type}"
    if not x.is_cpu or problem == triton.OFF:
        return plain, problem
    return aten, problem


def _asked_for(name: str, x: Tensor) -> tuple[ModuleType, str]:
    where = "the CPU" if x.is_cpu else x.device.type
    problem = {
        "plain": None,
        "aten": None if x.is_cpu else f"the tensor is on {where}; it must be on the CPU",
        "triton": triton.cannot_take(x),
    }[name]
    if problem is not None:
        raise RuntimeError(f"using({name!r}) is not possible: {problem}.")
    return PATHS[name], f"using({name!r})"


def _others_differentiate() -> bool:
    """Whether a compiler, ``torch.func`` or forward mode is at work: they want plain torch."""
    return (
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
    )


# ---- Autograd ------------------------------------------------------------------------------------


def batch_norm(
    x: Tensor, running_mean: Vector, running_var: Vector, weight: Vector, bias: Vector,
    training: bool, momentum: float, eps: float, relu: bool = False, process_group: object = None,
) -> Tensor:  # fmt: skip
    """Normalise by the mini-batch, and observe it, where `training`; else by the running values.

    Takes what ``torch.nn.functional.batch_norm`` takes; `relu` and `process_group` are explained at
    ``BatchNorm``. Shapes: x and the result (N, C, ...), all others (C,).
    """
    group = partners(process_group) if training and process_group is not None else None
    if group is None and not x.numel():  # nothing to normalise, nothing to observe: any constants
        running_mean, running_var, training = x.new_zeros(x.shape[1]), x.new_ones(x.shape[1]), False
    path, _ = _path(x)
    rest = (running_mean, running_var, weight, bias, training, momentum, eps, relu)
    if path is aten and group is None and aten.small(x, training, relu):
        return aten.batch_norm(x, *rest)
    if path is aten and type(x) not in aten.PLAIN:  # DTensors say, which do not mix with others
        path = plain
    if torch.is_grad_enabled() and not _others_differentiate():
        return _BatchNormFunction.apply(path, group, x, *rest)
    return _forward(path, group, x, *rest)[0]


def _forward(
    path, group, x, running_mean, running_var, weight, bias, training, momentum, eps, relu
):
    """The result, the mean, (C,) or (2, C), and 1/√(var + eps) behind it, and how many values these
    stand for.
    """
    x, m = plain.laid(x, x), plain.count(x)
    if path is triton and not training:
        return *triton.forward_running(x, running_mean, running_var, weight, bias, eps, relu), m
    if path is triton and group is None:
        running = (running_mean, running_var, momentum)
        y, mean, _, inv_std = triton.forward(x, weight, bias, eps, relu, *running)
        return y, mean, inv_std, m
    if training:
        mean, var, m = path.moments(x) if group is None else moments_of_all(path, group, x)
        if running_mean is not None:
            plain.observe(running_mean, running_var, mean, var, m, momentum)
    else:
        wide = torch.float32 if x.dtype in plain.HALF else x.dtype
        # A copy of the mean: a training step may move the running one before the gradient is made.
        mean, var = running_mean.detach().to(wide, copy=True), running_var.detach().to(wide)
    if path is aten and training and not aten.far(mean, var):
        mean = plain.whole(mean)
    inv_std = plain.inverse_std(var, eps)
    exact = mean if path is not aten or training else _exact(mean, inv_std)
    return path.normalise(x, exact, inv_std, weight, bias, relu), mean, inv_std, m


def _exact(mean: Tensor, inv_std: Tensor) -> Tensor:
    """A running mean as (2, C) where it is far, for ``aten``. It is not kept like that: it may have
    moved when a checkpoint looks whether the second pass has kept what the first had.
    """
    if aten.far(mean, inv_std.square().reciprocal()):
        return torch.stack([mean, torch.zeros_like(mean)])
    return mean


class _BatchNormFunction(torch.autograd.Function):
    """Keeps x and vectors, as torch's own does; x̂, and what a ReLU let through, are made again."""

    @staticmethod
    def forward(ctx, path, group, x, *rest):
        _, _, weight, bias, ctx.training, _, ctx.eps, ctx.relu = rest
        ctx.path, ctx.group = path, group
        y, mean, inv_std, ctx.m = _forward(path, group, x, *rest)
        ctx.save_for_backward(x, mean, inv_std, weight, bias if ctx.relu else None)
        return y

    @staticmethod
    def backward(ctx, dy):
        x, mean, inv_std, weight, bias = ctx.saved_tensors
        wants_x, _, _, wants_weight, wants_bias = ctx.needs_input_grad[2:7]
        path, x = ctx.path, plain.laid(x, x)
        if plain.is_batched(dy):  # the operators with a place for the result do not know ``vmap``
            path = plain
        if torch.is_grad_enabled():  # second derivatives must see how the statistics depend on x
            path = plain
            if ctx.training:
                _refuse_across_processes(ctx.group, "second derivatives")
                mean, var, _ = plain.moments(x)
                inv_std = plain.inverse_std(var, ctx.eps)
        # aten lays it out itself, and wants to know in which layout it came.
        dy = dy if path is aten else plain.laid(dy, x)
        if path is aten and not ctx.training:
            mean = _exact(mean, inv_std)
        known = (dy, x, mean, inv_std, weight, bias)
        dx = dweight = dbias = None
        if ctx.training and wants_x and ctx.group is None and path is not plain:
            dx, dweight, dbias = path.backward(*known, ctx.relu)
        else:
            if wants_weight or wants_bias or (ctx.training and wants_x):
                dweight, dbias = path.gradient_sums(*known, ctx.relu)
            if wants_x:  # in evaluation the statistics are constants
                sums = (dweight, dbias) if ctx.training else (None, None)
                if ctx.group is not None:
                    sums = sums_of_all(ctx.group, *sums)
                dx = path.input_gradient(*known, *sums, ctx.m, ctx.relu)
        dweight, dbias = dweight if wants_weight else None, dbias if wants_bias else None
        return None, None, dx, None, None, dweight, dbias, None, None, None, None


# ---- Across processes ----------------------------------------------------------------------------
# Each process has a part of the mini-batch, or none. They exchange a few numbers per channel.


def partners(process_group: object) -> object:
    """The group to exchange with, or None where there is nobody else.

    Raises RuntimeError where torch.distributed is not started, or this process not in the group.
    """
    if process_group is None:
        return None
    if not (distributed.is_available() and distributed.is_initialized()):
        raise RuntimeError(
            f"process_group is {process_group!r}, but no processes are joined. Call "
            "torch.distributed.init_process_group first, use eval(), or make the layer with "
            "process_group=None."
        )
    group = distributed.group.WORLD if process_group == "world" else process_group
    stranger = distributed.GroupMember.NON_GROUP_MEMBER  # what those outside of a group are given
    if not isinstance(group, distributed.ProcessGroup) and group != stranger:
        raise RuntimeError(
            f'process_group is {process_group!r}; a group of torch.distributed, "world" and None '
            "are allowed."
        )
    size = distributed.get_world_size(group)
    if size < 1:
        raise RuntimeError(
            "this process is not in the layer's process_group. "
            "Use the layer only in those that are."
        )
    if size == 1:
        return None
    if _others_differentiate():
        _refuse_across_processes(group, "torch.compile, torch.func and forward mode")
    return group


def moments_of_all(path: ModuleType, group: object, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (2, C) and biased variance (C,) over the parts of all processes, and their count ().

    One exchange; everybody pools the same numbers in the same order, and gets the same bits.

    Raises ValueError, in every process, where a channel has fewer than two values in all.
    """
    channels, m = x.shape[1], plain.count(x)
    if m:
        mean, var, _ = path.moments(x)
    else:
        var = torch.zeros(channels, dtype=plain.wide(x).dtype, device=x.device)
        mean = torch.stack([var, var])
    own = torch.cat([mean.flatten(), var, var.new_full((1,), m)])
    parts = [torch.empty_like(own) for _ in range(distributed.get_world_size(group))]
    distributed.all_gather(parts, own, group=group)
    *means, variances, counts = torch.stack(parts).split((channels, channels, channels, 1), dim=1)
    if m < 2:  # only then can it be too few, and only then is it worth waiting for the number
        refuse_one_value(x, int(counts.sum()))
    near = means[0][counts.argmax()]  # of one that has values
    rest = torch.where(counts > 0, (means[0] - near) + means[1], 0)
    rest, var = aten.pool(rest, variances, counts)
    return plain.split(near, rest), var, counts.sum()


def sums_of_all(group: object, dweight: Tensor, dbias: Tensor) -> tuple[Tensor, Tensor]:
    """The two sums of Section 3 over all processes, as the statistics were everybody's."""
    both = torch.stack([dweight, dbias])
    distributed.all_reduce(both, group=group)
    return both.unbind()


def _refuse_across_processes(group: object, what: str) -> None:
    if group is not None:
        raise NotImplementedError(
            f"{what} do not go through statistics that several processes share. "
            "Use eval(), or process_group=None."
        )


def refuse_one_value(input: Tensor, count: int) -> None:
    """Raise ValueError where a channel has fewer than two values in all."""
    if count < 2:
        values = "one value" if count else "no value at all"
        raise ValueError(
            f"the input has shape {tuple(input.shape)}: {values} per channel has no variance to "
            "train with. Use at least two, or eval()."
        )


def refuse_state(
    x: Tensor, weight: Vector, bias: Vector, running_mean: Vector, running_var: Vector
) -> None:
    """Raise RuntimeError where one running value is missing, or a dtype does not go with that of x.

    To be called before anything has changed.
    """
    if (running_mean is None) is not (running_var is None):
        missing = "running_mean" if running_mean is None else "running_var"
        raise RuntimeError(f"{missing} is None alone; set both running values, or neither.")
    dtype, half = x.dtype, x.dtype in plain.HALF
    state = weight, bias, running_mean, running_var
    for vector in state:
        if vector is None or vector.dtype is dtype or (half and vector.dtype is torch.float32):
            continue
        named = zip(("weight", "bias", "running_mean", "running_var"), state, strict=True)
        given = ", ".join(f"{name} {each.dtype}" for name, each in named if each is not None)
        raise RuntimeError(
            f"the input is {dtype}, but the layer has {given}; allowed is the input's dtype or, "
            "for 16 bits, float32 as well, so use .to() on the layer."
        )
