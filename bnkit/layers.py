"""Batch Normalization for torch: a drop-in for ``torch.nn.BatchNorm1d``, ``2d`` and ``3d``.

``BatchNorm`` is the layer, ``convert`` gives it to a model that exists already. The mathematics comes first, as
functions of tensors: ``moments`` and ``normalise`` are Algorithm 1 of the paper, the two gradients its Section 3,
``observe`` the moving averages of Section 3.1. The constructor, parameters, buffers and ``state_dict`` are torch's,
inherited, so that they cannot differ; torch's own normalization is called nowhere.
"""

# PyTorch's names stay: γ is `weight`, β is `bias`, and what bnkit.reference calls `new_weight`, the share of the new
# batch in the running value, is `momentum` (nothing to do with the optimiser's).

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules.batchnorm import _BatchNorm, _LazyNormBase
from torch.nn.utils.parametrize import is_parametrized

AXES = {2: (0,), 3: (0, 2), 4: (0, 2, 3), 5: (0, 2, 3, 4)}  # all but the channels: a map is one feature (Section 3.2)
HALF = (torch.float16, torch.bfloat16)  # too short for sums: computed in float32
BLOCK = 2**18  # elements; a block of float32 is 1 MiB, which a cache holds

# ---- Mathematics ----------------------------------------------------------------------------------------------------
# A large temporary costs a CPU more than the arithmetic: a function makes one array of x's size, and goes on in place.


def moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance of each channel over the mini-batch, and x − mean: Algorithm 1, lines 1 and 2.

    The variance is that of the centred values, for E[x²] − E[x]² loses its digits where the mean is large.

    Shapes: x and x − mean (N, C, ...), mean and var (C,).
    """
    mean = x.mean(AXES[x.ndim])
    centred = x - _along_channels(mean, x)
    var = _sum_of_products(centred, centred).mul_(x.shape[1] / x.numel())
    return mean, var, centred


def inverse_std(var: Tensor, eps: float) -> Tensor:
    """1 / √(var + eps), (C,): eps stands inside the root."""
    return (var + eps).rsqrt_()


def normalise(centred: Tensor, inv_std: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """γ · (x − mean) / √(var + eps) + β, from x − mean, which is used up: Algorithm 1, lines 3 and 4.

    With the running values in place of the batch's this is Algorithm 2, line 11.

    Shapes: centred and the result (N, C, ...), all others (C,).
    """
    y = _times(centred, _along_channels(_scale(inv_std, weight), centred))
    return y if bias is None else y.add_(_along_channels(bias.to(y.dtype), y))


def parameter_gradients(dy: Tensor, centred: Tensor, inv_std: Tensor) -> tuple[Tensor, Tensor]:
    """∂ℓ/∂γ = Σ dy · x̂ and ∂ℓ/∂β = Σ dy, with x̂ = (x − mean) / √(var + eps): Section 3.

    Shapes: dy and centred (N, C, ...), all others (C,).
    """
    dweight = _sum_of_products(centred, dy).mul_(inv_std)
    return dweight, dy.sum(AXES[dy.ndim])


def input_gradient(
    dy: Tensor, centred: Tensor, inv_std: Tensor, weight: Tensor | None, dweight: Tensor, dbias: Tensor
) -> Tensor:
    """∂ℓ/∂x = γ/√(var + eps) · (dy − x̂ · mean(dy · x̂) − mean(dy)), from x − mean, which is used up: Section 3.

    The paper's chain rule with ∂ℓ/∂σ² and ∂ℓ/∂μ inserted: the second term is the way through the variance, the third
    the way through the mean. Their two sums are dweight and dbias.

    Shapes: dy, centred and the result (N, C, ...), all others (C,).
    """
    m = dy.numel() // dy.shape[1]  # values per channel: N, and N·H·W of a map
    slope = (dweight * inv_std).mul_(-1 / m)  # so that slope · (x − mean) = −x̂ · mean(dy · x̂)
    dx = _times(centred, _along_channels(slope, dy)).add_(dy).sub_(_along_channels(dbias, dy), alpha=1 / m)
    return dx.mul_(_along_channels(_scale(inv_std, weight), dy))


def observe(running_mean: Tensor, running_var: Tensor, mean: Tensor, var: Tensor, m: int, momentum: float) -> None:
    """Move the running values, in place, by the share `momentum` towards those of the mini-batch: Section 3.1.

    The variance is stored unbiased: m/(m − 1) times that of a batch of m values per channel, as Algorithm 2, line 10.

    Shapes: all (C,).
    """
    if torch.is_grad_enabled():  # the running values are no part of what is differentiated
        mean, var = mean.detach(), var.detach()
    _move(running_mean, mean, momentum)
    _move(running_var, var * (m / (m - 1)), momentum)


def _move(running: Tensor, new: Tensor, share: float) -> None:
    if running.dtype is new.dtype:
        running.lerp_(new, share)
    else:  # 16 bits: rounded once, at the end
        running.copy_(running.to(new.dtype).lerp_(new, share))


def _sum_of_products(a: Tensor, b: Tensor) -> Tensor:
    """Σ a · b of each channel, (C,); a block of examples at a time, so that the products stay in the cache."""
    axes = AXES[a.ndim]
    if a.numel() <= BLOCK or not a.is_cpu or torch.compiler.is_compiling():
        return (a * b).sum(axes)
    rows = max(1, BLOCK * len(a) // a.numel())
    return torch.stack([(p * q).sum(axes) for p, q in zip(a.split(rows), b.split(rows), strict=True)]).sum(0)


def _scale(inv_std: Tensor, weight: Tensor | None) -> Tensor:
    """γ / √(var + eps), (C,)."""
    return inv_std if weight is None else inv_std * weight


def _times(a: Tensor, b: Tensor) -> Tensor:
    """a · b, in place of a unless somebody is watching who may need a again."""
    return a * b if torch.is_grad_enabled() or _others_differentiate() else a.mul_(b)


def _along_channels(vector: Tensor, x: Tensor) -> Tensor:
    """(C,) in the shape that broadcasts against x, (N, C, ...)."""
    return vector if x.ndim == 2 else vector.view(-1, *[1] * (x.ndim - 2))


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
    """Normalise by the mini-batch, and observe it, where `training`; else by the running values.

    Takes what ``torch.nn.functional.batch_norm`` takes. Shapes: x and the result (N, C, ...), all others (C,).
    """
    if not x.numel():  # nothing to normalise and nothing to observe: any constants do
        running_mean, running_var, training = x.new_zeros(x.shape[1]), x.new_ones(x.shape[1]), False
    arguments = (x, running_mean, running_var, weight, bias, training, momentum, eps)
    if torch.is_grad_enabled() and not _others_differentiate():
        return _BatchNormFunction.apply(*arguments)
    return _forward(*arguments)[0]


def _forward(x, running_mean, running_var, weight, bias, training, momentum, eps) -> tuple[Tensor, Tensor, Tensor]:
    """The result, and the mean and 1/√(var + eps) it was made with."""
    dtype, x = x.dtype, _wide(x, _layout(x))
    if training:
        mean, var, centred = moments(x)
        if running_mean is not None:
            observe(running_mean, running_var, mean, var, x.numel() // x.shape[1], momentum)
    else:
        # A copy of the mean: before the gradient is asked for, a training step may move the running one.
        mean, var = running_mean.to(x.dtype, copy=True), running_var.to(x.dtype)
        centred = x - _along_channels(mean, x)
    inv_std = inverse_std(var, eps)
    return normalise(centred, inv_std, weight, bias).to(dtype), mean, inv_std


class _BatchNormFunction(torch.autograd.Function):
    """Keeps x and three vectors, no more than torch's own; x̂ is made again."""

    @staticmethod
    def forward(ctx, x, running_mean, running_var, weight, bias, training, momentum, eps):
        y, mean, inv_std = _forward(x, running_mean, running_var, weight, bias, training, momentum, eps)
        ctx.save_for_backward(x, mean, inv_std, weight)
        ctx.training, ctx.eps = training, eps
        return y

    @staticmethod
    def backward(ctx, dy):
        x, mean, inv_std, weight = ctx.saved_tensors
        wants_x, _, _, wants_weight, wants_bias, *_ = ctx.needs_input_grad
        dtype, layout = x.dtype, _layout(x)
        x, dy = _wide(x, layout), _wide(dy, layout)
        dx = dweight = dbias = None
        if ctx.training:
            if torch.is_grad_enabled():  # second derivatives must see how the statistics depend on x
                mean, var, centred = moments(x)
                inv_std = inverse_std(var, ctx.eps)
            else:
                centred = x - _along_channels(mean, x)
            dweight, dbias = parameter_gradients(dy, centred, inv_std)
            if wants_x:
                dx = input_gradient(dy, centred, inv_std, weight, dweight, dbias).to(dtype)
        else:  # the statistics are constants
            if wants_weight or wants_bias:
                dweight, dbias = parameter_gradients(dy, x - _along_channels(mean, x), inv_std)
            if wants_x:
                dx = (dy * _along_channels(_scale(inv_std, weight), x)).to(dtype)
        return dx, None, None, dweight if wants_weight else None, dbias if wants_bias else None, None, None, None


def _layout(x: Tensor) -> torch.memory_format:
    """The memory format of the result: channels last where x is, else contiguous."""
    if x.ndim < 4 or x.stride(1) != 1 or x.is_contiguous():
        return torch.contiguous_format
    return torch.channels_last if x.ndim == 4 else torch.channels_last_3d


def _wide(x: Tensor, layout: torch.memory_format) -> Tensor:
    """x in that memory format, and in float32 if it is shorter; x itself where nothing is to be done."""
    x = x.contiguous(memory_format=layout)
    return x.float() if x.dtype in HALF else x


def _others_differentiate() -> bool:
    """Whether a compiler, ``torch.func`` or forward mode is at work: they want the plain operations of ``_forward``."""
    return (
        torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0
    )


# ---- Bookkeeping ----------------------------------------------------------------------------------------------------


class BatchNorm(_BatchNorm):
    """Batch Normalization of (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W): a drop-in for ``torch.nn.BatchNorm*``.

    In training, and always where ``track_running_stats=False``, a channel is normalised by its mean and biased variance
    over the mini-batch (Algorithm 1), in evaluation by its running values (Algorithm 2, line 11), of which the variance
    is unbiased. `momentum` is the share of a new batch in the running values; None makes them a plain average.

    The statistics of float16 and bfloat16 are float32, the parameters of the input's dtype or, as under autocast,
    float32. The result is channels last where the input is, else contiguous. First and second derivatives,
    ``torch.func`` and forward mode work; the running values take no part in them. To torch this is one of its own
    layers (``isinstance``), so what looks for those, such as ``torch.optim.swa_utils.update_bn``, finds it.

    Raises, before anything has changed: ValueError for another number of axes, for one value per channel in training,
    and for an `eps` that is not positive in training or negative in evaluation; RuntimeError for a number of channels,
    a dtype or a device that is not the layer's; NotImplementedError for an input that is not floating. NaN and
    infinity are no error, as in torch: they spoil their channel of the result and, in training, of the running values.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise `input`; in training, observe it. Shapes: input and result (N, C, ...)."""
        training = self.training or (self.running_mean is None and self.running_var is None)
        self._refuse(input, training)
        tracking = self.training and self.track_running_stats
        momentum = 0.0 if self.momentum is None else self.momentum
        count = self.num_batches_tracked if tracking else None
        if count is not None:
            count.add_(1)
            if self.momentum is None:  # the plain average
                momentum = 1.0 / float(count)
        running = (self.running_mean, self.running_var) if tracking or not training else (None, None)
        return batch_norm(input, *running, self.weight, self.bias, training, momentum, self.eps)

    def _refuse(self, input: Tensor, training: bool) -> None:
        if input.ndim not in AXES:
            raise ValueError(
                f"the input has shape {tuple(input.shape)}; 2 to 5 axes are allowed, (N, C) to (N, C, D, H, W). "
                "Give a single example a batch axis with unsqueeze(0)."
            )
        if input.shape[1] != self.num_features:
            raise RuntimeError(
                f"the input has shape {tuple(input.shape)}, so {input.shape[1]} channels on axis 1, but the layer has "
                f"{self.num_features}. Move the channels to axis 1, or make the layer for that number."
            )
        if not input.is_floating_point():
            raise NotImplementedError(
                f"the input is {input.dtype}; float16, bfloat16, float32 and float64 are allowed. Use input.float()."
            )
        state = self.running_mean if self.weight is None else self.weight
        if state is not None:
            same = input.dtype is state.dtype or (input.dtype in HALF and state.dtype is torch.float32)
            if not same or input.device != state.device:
                raise RuntimeError(
                    f"the input is {input.dtype} on {input.device}, the layer {state.dtype} on {state.device}; allowed "
                    "are one device and one dtype, or a 16-bit input and a float32 layer. Use .to() on one of them."
                )
        if training and input.numel() == self.num_features:
            raise ValueError(
                f"the input has shape {tuple(input.shape)}: one value per channel has no variance to train with. "
                "Use at least two, or eval()."
            )
        if self.eps < 0 or (training and self.eps == 0):
            raise ValueError(
                f"eps is {self.eps}; it must be above 0 in training, where a constant channel would divide by zero, "
                "and at least 0 in evaluation. 1e-5 is usual."
            )


def convert(module: nn.Module) -> nn.Module:
    """Make every ``torch.nn.BatchNorm1d/2d/3d`` in `module`, itself included, a ``BatchNorm``; returns `module`.

    In place: a layer stays the object it was, with its parameters, buffers, hooks and mode. So an optimiser made before
    goes on working, and a shared layer stays shared. Subclasses are converted too, but for those with a ``forward`` of
    their own or a parametrization, which would be lost: like ``SyncBatchNorm`` they stay what they are.

    Raises ValueError, having converted nothing, for a lazy layer that has not seen a batch yet.
    """
    layers = dict(module.named_modules())
    for name, layer in layers.items():
        if isinstance(layer, _LazyNormBase):
            raise ValueError(
                f"{name or 'the module'} is a {type(layer).__name__} without a shape. Run a batch through it first."
            )
    for layer in layers.values():
        torchs = isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d))
        if torchs and type(layer).forward is _BatchNorm.forward and not is_parametrized(layer):
            layer.__class__ = BatchNorm
    return module
