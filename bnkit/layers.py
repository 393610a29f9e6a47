"""Batch Normalization for torch: a drop-in for ``torch.nn.BatchNorm1d``, ``2d`` and ``3d``.

``BatchNorm`` is the layer, ``convert`` gives it to a model that exists already. The mathematics comes first, as functions
of tensors: ``moments`` and ``normalise`` are Algorithm 1 of the paper, ``gradients`` is its Section 3, ``observe`` the
moving averages of Section 3.1. Constructor, parameters, buffers and ``state_dict`` are inherited from torch, so that they
cannot differ; of torch's own normalization nothing is called.
"""

# The torch names stay: γ is `weight`, β is `bias`, and what bnkit.reference calls `new_weight`, the share of the new
# batch in the running value, is `momentum` (nothing to do with the optimiser's).

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules.batchnorm import _BatchNorm, _LazyNormBase

AXES = {2: (0,), 3: (0, 2), 4: (0, 2, 3), 5: (0, 2, 3, 4)}  # all but the channels: a map is one feature (Section 3.2)
HALF = (torch.float16, torch.bfloat16)  # too short for sums: their statistics are float32

# ---- Mathematics ----------------------------------------------------------------------------------------------------
# Operations in place touch nothing but what the same line has made: large temporaries cost more than the arithmetic.


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel over the mini-batch: Algorithm 1, lines 1 and 2.

    The variance takes a second pass over the centred values, for E[x²] − E[x]² loses it where the mean is large.

    Shapes: x (N, C, ...); mean and var (C,), float32 where x is shorter.
    """
    axes = AXES[x.ndim]
    mean = x.mean(axes, dtype=_accurate(x.dtype))
    var = (x - _along_channels(mean, x)).square_().mean(axes)
    return mean, var


def normalise(x: Tensor, mean: Tensor, inv_std: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """γ · (x − mean) / √(var + eps) + β, with inv_std = 1/√(var + eps): Algorithm 1, lines 3 and 4.

    With the statistics of the population it is Algorithm 2, line 11.

    Shapes: x (N, C, ...), all others (C,); the result as x, in its dtype.
    """
    scale = inv_std if weight is None else inv_std * weight
    y = (x - _along_channels(mean, x)).mul_(_along_channels(scale, x))
    if bias is not None:
        y.add_(_along_channels(bias, x))
    return y.to(x.dtype)


def gradients(
    dy: Tensor, x: Tensor, mean: Tensor, inv_std: Tensor, weight: Tensor | None, training: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients with respect to x, weight and bias: Section 3, its ∂ℓ/∂σ² and ∂ℓ/∂μ inserted into ∂ℓ/∂x.

    In training the statistics depend on x, which makes three terms,
    ∂ℓ/∂x = γ/√(var + eps) · (dy − mean(dy) − x̂ · mean(dy · x̂)); else they are constants, and only dy is left of these.

    Shapes: dy and x (N, C, ...), all others (C,); dx as x, dweight and dbias (C,).
    """
    axes = AXES[x.ndim]
    scale = _along_channels(inv_std if weight is None else inv_std * weight, x)
    dbias = dy.sum(axes, dtype=mean.dtype)
    dweight = (x - _along_channels(mean, x)).mul_(dy).sum(axes).mul_(inv_std)  # Σ dy · x̂
    if training:
        m = x.numel() // x.shape[1]  # values per channel: N, and in a map N·H·W
        slope = (dweight * inv_std).mul_(-1 / m)  # so that slope · (x − mean) = −x̂ · mean(dy · x̂)
        dx = (x - _along_channels(mean, x)).mul_(_along_channels(slope, x))
        dx = dx.add_(dy).sub_(_along_channels(dbias, x), alpha=1 / m).mul_(scale)
    else:
        dx = dy * scale
    return dx.to(x.dtype), dweight, dbias


def observe(running_mean: Tensor, running_var: Tensor, mean: Tensor, var: Tensor, m: int, momentum: float) -> None:
    """Move the running values, in place, by the share `momentum` towards this mini-batch: Section 3.1.

    The variance is stored unbiased, m/(m − 1) times that of the batch of m values per channel, as in Algorithm 2, line 10.

    Shapes: all (C,).
    """
    for running, new in ((running_mean, mean.detach()), (running_var, var.detach() * (m / (m - 1)))):
        if running.dtype is new.dtype:
            running.lerp_(new, momentum)
        else:
            running.copy_(running.to(new.dtype).lerp_(new, momentum))


def _along_channels(vector: Tensor, x: Tensor) -> Tensor:
    """(C,) as the shape that broadcasts against x, (N, C, ...)."""
    return vector if x.ndim == 2 else vector.view(-1, *[1] * (x.ndim - 2))


def _accurate(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in HALF else dtype


# ---- Autograd -------------------------------------------------------------------------------------------------------


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> Tensor:
    """Normalise by the mini-batch and observe it where `training`, else by the running values.

    The arguments of ``torch.nn.functional.batch_norm``. Shapes: x (N, C, ...), all others (C,); the result as x.
    """
    arguments = x, running_mean, running_var, weight, bias, training, momentum, eps
    if torch.is_grad_enabled() and not _something_else_differentiates():
        return _BatchNormFunction.apply(*arguments)
    return _forward(*arguments)[0]


def _forward(x, running_mean, running_var, weight, bias, training, momentum, eps) -> tuple[Tensor, Tensor, Tensor]:
    """The result, and the mean and 1/√(var + eps) it was made with."""
    x = x.contiguous(memory_format=_layout(x))
    if not x.numel():  # nothing to normalise: any statistics do, and the running values stay
        mean, var = x.new_zeros(x.shape[1]), x.new_ones(x.shape[1])
    elif training:
        mean, var = moments(x)
        if running_mean is not None:
            observe(running_mean, running_var, mean, var, x.numel() // x.shape[1], momentum)
    else:
        # a copy: the running values may move on before the gradient is asked for
        dtype = _accurate(x.dtype)
        mean, var = running_mean.to(dtype, copy=True), running_var.to(dtype)
    inv_std = (var + eps).rsqrt_()
    return normalise(x, mean, inv_std, weight, bias), mean, inv_std


class _BatchNormFunction(torch.autograd.Function):
    """Keeps what torch's own keeps, x and three vectors, and differentiates by ``gradients``."""

    @staticmethod
    def forward(ctx, x, running_mean, running_var, weight, bias, training, momentum, eps):
        y, mean, inv_std = _forward(x, running_mean, running_var, weight, bias, training, momentum, eps)
        ctx.save_for_backward(x, mean, inv_std, weight)
        ctx.training, ctx.eps = training and x.numel() > 0, eps
        return y

    @staticmethod
    def backward(ctx, dy):
        x, mean, inv_std, weight = ctx.saved_tensors
        layout = _layout(x)
        x, dy = x.contiguous(memory_format=layout), dy.contiguous(memory_format=layout)
        if (
            ctx.training and torch.is_grad_enabled()
        ):  # somebody will differentiate this: show how the statistics depend on x
            mean, var = moments(x)
            inv_std = (var + ctx.eps).rsqrt_()
        dx, dweight, dbias = gradients(dy, x, mean, inv_std, weight, ctx.training)
        _, _, _, wants_weight, wants_bias, *_ = ctx.needs_input_grad
        return dx, None, None, dweight if wants_weight else None, dbias if wants_bias else None, None, None, None


def _layout(x: Tensor) -> torch.memory_format:
    """The memory format of the result: channels last if x is, else contiguous."""
    if x.ndim < 4 or x.stride(1) != 1 or x.is_contiguous():
        return torch.contiguous_format
    return torch.channels_last if x.ndim == 4 else torch.channels_last_3d


def _something_else_differentiates() -> bool:
    """Whether a compiler, ``torch.func`` or forward mode is at work: they differentiate the plain operations by themselves."""
    return (
        torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0
    )


# ---- Bookkeeping ----------------------------------------------------------------------------------------------------


class BatchNorm(_BatchNorm):
    """Batch Normalization of (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W); a drop-in for ``torch.nn.BatchNorm*``.

    In training, and always with ``track_running_stats=False``, each channel is normalised by its mean and biased variance
    over the mini-batch (Algorithm 1); in evaluation by the running values (Algorithm 2, line 11). The running variance is
    the unbiased one. `momentum` is the share of the new batch in the running values; None is their plain average.

    Sums and statistics of float16 and bfloat16 are float32; parameters may be of the input's dtype, or float32 as under
    autocast. The result is channels last where the input is, else contiguous. First and second derivatives, ``torch.func``
    and forward mode work; so do ``isinstance`` checks for torch's layers, and what rests on them, such as
    ``torch.optim.swa_utils.update_bn``.

    Raises ValueError for another number of axes, one value per channel in training, or an `eps` that is not positive
    in training (negative in evaluation); RuntimeError for another number of channels, device, or dtype than the
    parameters'; NotImplementedError for an input that is not floating. NaN and infinity are passed on, to the running
    values as well.
    """

    def forward(self, input: Tensor) -> Tensor:
        training = self.training or (self.running_mean is None and self.running_var is None)
        self._refuse(input, training)
        tracking = self.training and self.track_running_stats
        momentum = 0.0 if self.momentum is None else self.momentum
        if tracking and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                momentum = 1.0 / float(self.num_batches_tracked)
        running = (self.running_mean, self.running_var) if tracking or not training else (None, None)
        return batch_norm(input, *running, self.weight, self.bias, training, momentum, self.eps)

    def _refuse(self, input: Tensor, training: bool) -> None:
        """Raise the error that torch raises, before anything has changed."""
        if input.ndim not in AXES:
            raise ValueError(
                f"the input has shape {tuple(input.shape)}; 2 to 5 axes are allowed, (N, C) to (N, C, D, H, W). "
                "Give a single example a batch axis with unsqueeze(0)."
            )
        if input.shape[1] != self.num_features:
            raise RuntimeError(
                f"the input has shape {tuple(input.shape)}, {input.shape[1]} channels on axis 1; this layer has "
                f"{self.num_features}. Move the channels to axis 1, or build the layer with that number."
            )
        if not input.is_floating_point():
            raise NotImplementedError(
                f"the input is {input.dtype}; float16, bfloat16, float32 and float64 are allowed. Use input.float()."
            )
        state = self.weight if self.weight is not None else self.running_mean
        if state is not None and (state.dtype is not input.dtype or state.device != input.device):
            half_with_float = input.dtype in HALF and state.dtype is torch.float32
            if not (half_with_float or state.dtype is input.dtype) or state.device != input.device:
                raise RuntimeError(
                    f"the input is {input.dtype} on {input.device}, the layer {state.dtype} on {state.device}; allowed are "
                    "the same device and dtype, or a 16-bit input with a float32 layer. Use .to() on one of them."
                )
        if training and input.numel() == self.num_features:
            raise ValueError(
                f"the input has shape {tuple(input.shape)}: one value per channel has no variance to train with. "
                "Use at least two, or eval()."
            )
        if self.eps < 0 or (training and self.eps == 0):
            raise ValueError(
                f"eps is {self.eps}; it must be positive in training, where a constant channel would divide by zero, "
                "and not negative in evaluation. 1e-5 is usual."
            )


def convert(module: nn.Module) -> nn.Module:
    """Make every ``torch.nn.BatchNorm1d/2d/3d`` inside `module`, itself included, a ``BatchNorm``; returns `module`.

    In place, each layer stays the very object it was, with its parameters, buffers, hooks and mode: an optimiser built
    before goes on working, a shared layer stays shared. Subclasses come along unless they have a ``forward`` of their
    own, which would be lost: they are left as they are, like ``SyncBatchNorm``.

    Raises ValueError for a lazy layer that has not seen a batch.
    """
    for name, layer in module.named_modules():
        if isinstance(layer, _LazyNormBase):
            raise ValueError(
                f"{name or 'the module'} is a {type(layer).__name__} without a shape yet: run a batch first."
            )
        torchs = isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d))
        if torchs and type(layer).forward is _BatchNorm.forward:
            layer.__class__ = BatchNorm
    return module
