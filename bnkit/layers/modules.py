"""The layers: ``BatchNorm`` for any shape, and one under each name that torch has.

``BatchNorm1d``, ``2d``, ``3d`` and ``SyncBatchNorm`` are subclasses of torch's classes of these
names, so that what looks for those finds them. Constructor, parameters, buffers and ``state_dict``
are torch's, inherited, so that they cannot differ. Where one of torch's tools takes a network
apart, to trace, export or script it, a layer shows itself as the one operator that torch's is.
"""

import sys
from collections.abc import Sequence
from types import FrameType

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, fx, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.modules.batchnorm import _BatchNorm

from bnkit.layers import plain
from bnkit.layers.batch_norm import batch_norm, partners, refuse_one_value, refuse_state


class BatchNorm(_BatchNorm):
    """Batch Normalization of (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W): a drop-in for
    ``torch.nn.BatchNorm*``.

    In training, and always where ``track_running_stats=False``, a channel is normalised by its mean
    and biased variance over the mini-batch (Algorithm 1), in evaluation by its running values
    (Algorithm 2, line 11), of which the variance is unbiased. `momentum` is the share of a new
    batch in the running values; None makes them a plain average.

    Two options are not torch's. ``activation="relu"`` applies the ReLU on the way, where a
    ``torch.nn.ReLU`` after the layer would go over the batch again, and keep it. `process_group`
    makes the mini-batch that of several processes, each with a part of it, of any size: a group of
    ``torch.distributed``, or ``"world"`` for all there are. Its processes must call the layer
    together, and the backward pass as well. The gradients of weight and bias stay those of each
    process's own part, for ``DistributedDataParallel`` to put together. None is the layer on its
    own.

    The statistics of float16 and bfloat16 are float32, the parameters of the input's dtype or, as
    under autocast, float32. The result is channels last where the input is, else contiguous. First
    and second derivatives, ``torch.func`` and forward mode work; the running values take no part in
    them. To torch this is one of its own layers (``isinstance``), so what looks for those, such as
    ``torch.optim.swa_utils.update_bn``, finds it. Tools that build another layer from the numbers
    of this one would lose a ReLU inside, and are refused.

    Raises, before anything has changed: ValueError for an unknown activation, for another number of
    axes, for one value per channel in training, and for an `eps` that is not positive in training
    or negative in evaluation; RuntimeError for a number of channels, a dtype or a device that is
    not the layer's, and for a `process_group` that is not there; NotImplementedError for an input
    that is not floating, and across processes for second derivatives, ``torch.func`` and tracing.
    NaN and infinity are no error, as in torch: they spoil their channel of the result and, in
    training, of the running values, which from then on are NaN. A variance too large for its dtype
    is another matter: the running values of that channel do not move.
    """

    takes_activation = True
    """Whether `activation` is ours: a subclass of torch's, converted, may mean its own by it."""

    __constants__ = [*_BatchNorm.__constants__, "takes_activation"]  # noqa: RUF012
    __jit_unused_properties__ = ["eps"]  # noqa: RUF012

    def __init__(
        self,
        num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
        track_running_stats: bool = True, device=None, dtype=None, *, bias: bool = True,
        activation: str | None = None, process_group: object = None,
    ) -> None:  # fmt: skip
        known = (num_features, eps, momentum, affine, track_running_stats)
        super().__init__(*known, device=device, dtype=dtype, bias=bias)
        if activation is not None:
            _refuse_other(activation)
        self.activation, self.process_group = activation, process_group

    @property
    def eps(self) -> float:
        """What is added to the variance.

        Raises RuntimeError for those of torch's tools that build a layer from the numbers of this
        one, which all need this one, where something would be lost on the way.
        """
        whole = type(self).forward is BatchNorm.forward
        whole = whole and self.activation is None and self.process_group is None
        if whole or torch.compiler.is_compiling():
            return self.__dict__["eps"]
        return _eps_for(sys._getframe(1), self)

    @eps.setter
    def eps(self, eps: float) -> None:
        self.__dict__["eps"] = eps

    def extra_repr(self) -> str:
        options = {"process_group": self.process_group}
        if self.takes_activation:
            options = {"activation": self.activation, **options}
        shown = [f", {name}={value}" for name, value in options.items() if value]
        return "".join([super().extra_repr(), *shown])

    def forward(self, input: Tensor) -> Tensor:
        """Normalise `input`; in training, observe it. Shapes: input and result (N, C, ...)."""
        if torch.jit.is_scripting():
            y = self._bn_by_torch(input)
            if self.takes_activation and self.activation is not None:
                y = torch.relu(y)
        else:
            y = self._bn_forward(input)
        return y

    def _bn_by_torch(self, input: Tensor) -> Tensor:
        """What ``torch.jit.script`` compiles, as it cannot read the rest: torch's own steps."""
        self._check_input_dim(input)
        momentum = 0.0 if self.momentum is None else self.momentum
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                momentum = 1.0 / float(self.num_batches_tracked)
        training = self.training or (self.running_mean is None and self.running_var is None)
        known = not self.training or self.track_running_stats
        mean, var = self.running_mean if known else None, self.running_var if known else None
        state = (self.weight, self.bias)
        return F.batch_norm(input, mean, var, state[0], state[1], training, momentum, self.eps)

    def _bn_forward(self, input: Tensor) -> Tensor:
        if isinstance(input, fx.Proxy):
            return _as_a_node(self, input)
        self._check_input_dim(input)
        *state, count = _tensors(self)
        weight, bias, running_mean, running_var = state
        training = self.training or (running_mean is None and running_var is None)
        eps, group = self.__dict__["eps"], self._bn_group() if training else None
        relu = self.takes_activation and self.activation is not None
        if relu:
            _refuse_other(self.activation)
        taken_apart = is_taken_apart(input)
        if taken_apart:
            refuse_to_lose(group)
        else:
            refuse(input, self.num_features, state, training, eps, group)
        tracking = self.training and self.track_running_stats
        momentum = 0.0 if self.momentum is None else self.momentum
        if tracking and count is not None:
            # Before the statistics move, as in torch: a checkpoint that computes them once more
            # stops when it has what the gradient needs, and both must have happened by then.
            count.add_(1)
            if self.momentum is None:  # the plain average
                momentum = 1.0 / float(count)
        if training and not tracking:
            running_mean = running_var = None
        known = (input, running_mean, running_var, weight, bias, training, momentum, eps)
        if taken_apart:
            y = F.batch_norm(*known)
            return y.relu() if relu else y
        try:
            return batch_norm(*known, relu, group)
        except (
            RuntimeError,
            TypeError,
            ValueError,
        ):  # such as too few values in all processes together
            if tracking and count is not None:
                count.sub_(1)
            raise

    def _bn_group(self) -> object:
        """The group whose mini-batch this is, in training."""
        return self.process_group

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2 or input.dim() > 5:
            raise ValueError(
                f"the input has shape {_shape(input)}; 2 to 5 axes are allowed, (N, C) to "
                "(N, C, D, H, W). Give a single example a batch axis with unsqueeze(0)."
            )

    def __prepare_scriptable__(self) -> nn.Module:
        refuse_to_lose(self._bn_group())
        if self.takes_activation and self.activation is not None:
            _refuse_other(self.activation)
        return self


# Each with the number of axes that torch's of this name takes, and torch's error. `BatchNorm`
# comes first: what is not torch's name, ours or a subclass's, is looked up there.


class BatchNorm1d(BatchNorm, nn.BatchNorm1d):
    """``BatchNorm`` of (N, C) or (N, C, L) alone, like ``torch.nn.BatchNorm1d``, which it is."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() != 2 and input.dim() != 3:
            raise ValueError(
                f"the input has shape {_shape(input)}; BatchNorm1d takes 2 or 3 axes, (N, C) or "
                "(N, C, L). Use BatchNorm2d or 3d for maps, or BatchNorm for any of them."
            )


class BatchNorm2d(BatchNorm, nn.BatchNorm2d):
    """``BatchNorm`` of (N, C, H, W) alone, like ``torch.nn.BatchNorm2d``, which it is."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() != 4:
            raise ValueError(
                f"the input has shape {_shape(input)}; BatchNorm2d takes 4 axes, (N, C, H, W). "
                "Use BatchNorm1d or 3d for others, or BatchNorm for any of them."
            )


class BatchNorm3d(BatchNorm, nn.BatchNorm3d):
    """``BatchNorm`` of (N, C, D, H, W) alone, like ``torch.nn.BatchNorm3d``, which it is."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() != 5:
            raise ValueError(
                f"the input has shape {_shape(input)}; BatchNorm3d takes 5 axes, (N, C, D, H, W). "
                "Use BatchNorm1d or 2d for others, or BatchNorm for any of them."
            )


class SyncBatchNorm(BatchNorm, nn.SyncBatchNorm):
    """``BatchNorm`` over several processes by default, like ``torch.nn.SyncBatchNorm``, which it is.

    Its `process_group` None is all processes, where any are joined, and else the layer on its own.
    Unlike torch's it works on a CPU as well, and with parts of any size; but
    ``DistributedDataParallel`` takes a layer of this name on GPUs alone. On a CPU give it a
    ``BatchNorm`` with ``process_group="world"``.
    """

    def __init__(
        self,
        num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
        track_running_stats: bool = True, process_group: object = None, device=None, dtype=None,
        *, bias: bool = True, activation: str | None = None,
    ) -> None:  # fmt: skip
        known = (num_features, eps, momentum, affine, track_running_stats, device, dtype)
        options = {"bias": bias, "activation": activation, "process_group": process_group}
        BatchNorm.__init__(self, *known, **options)

    def _bn_group(self) -> object:
        joined = distributed.is_available() and distributed.is_initialized()
        return (self.process_group or "world") if joined else None


def _tensors(layer: BatchNorm) -> tuple[Tensor | None, ...]:
    """Its parameters and buffers. As attributes, which a parametrization has, they take longer."""
    parameters, buffers = layer.__dict__["_parameters"], layer.__dict__["_buffers"]
    try:
        return (
            parameters["weight"], parameters["bias"], buffers["running_mean"],
            buffers["running_var"], buffers["num_batches_tracked"],
        )  # fmt: skip
    except KeyError:
        state = layer.weight, layer.bias, layer.running_mean, layer.running_var
        return *state, layer.num_batches_tracked


# ---- Refusals ------------------------------------------------------------------------------------


def _shape(input: Tensor) -> str:
    shape = str(input.size()) if torch.jit.is_scripting() else str(tuple(input.shape))
    return shape


def _refuse_other(activation: object) -> None:
    """Raise ValueError for an `activation` that is given, and is not the one there is."""
    if activation != "relu":
        allowed = '"relu" and None are allowed. Put others after the layer.'
        raise ValueError(f"activation is {activation!r}; {allowed}")


def refuse(
    input: Tensor, features: int, state: Sequence[Tensor | None], training: bool, eps: float,
    group: object,
) -> None:  # fmt: skip
    """Raise what ``BatchNorm`` says it raises.

    `state` is weight, bias, running mean and variance, which say how many channels there are; and
    where there is none of them, `features` does.
    """
    channels, given = input.shape[1], None
    for tensor in state:
        if tensor is not None:
            given = tensor if given is None else given
            if tensor.numel() != channels:  # torch's operators would read and write beyond its end
                _refuse_channels(input, state)
    for value in state[2:]:  # (2, C / 2) would be taken for a mean in two parts
        if value is not None and value.ndim != 1:
            raise RuntimeError(
                f"a running value has shape {tuple(value.shape)}; ({channels},) is allowed, one "
                "number per channel. Use .flatten() on it."
            )
    if given is None and channels != features:
        _refuse_channels(input, state, features)
    if not input.is_floating_point():
        raise NotImplementedError(
            f"the input is {input.dtype}; float16, bfloat16, float32 and float64 are allowed. "
            "Use input.float()."
        )
    if given is not None:
        dtype = input.dtype
        fits = dtype is given.dtype or (dtype in plain.HALF and given.dtype is torch.float32)
        if not fits or input.device != given.device:
            raise RuntimeError(
                f"the input is {input.dtype} on {input.device}, the layer {given.dtype} on "
                f"{given.device}; allowed are one device and one dtype, or a 16-bit input and "
                "a float32 layer. Use .to() on one of them."
            )
        refuse_state(input, *state)
    alone = group is None or not training or partners(group) is None
    if training and alone and input.numel() == channels:
        refuse_one_value(input, 1 if channels else plain.count(input))
    if eps < 0 or (training and eps == 0):
        raise ValueError(
            f"eps is {eps}; it must be above 0 in training, where a constant channel "
            "would divide by zero, and at least 0 in evaluation. 1e-5 is usual."
        )


def _refuse_channels(input: Tensor, state: Sequence[Tensor | None], features: int = 0) -> None:
    """Raise RuntimeError for another number of channels than that of the layer's tensors."""
    names = ("weight", "bias", "running_mean", "running_var")
    lengths = {n: t.numel() for n, t in zip(names, state, strict=True) if t is not None}
    one = set(lengths.values()) or {features}
    has = one.pop() if len(one) == 1 else ", ".join(f"{n} of {k}" for n, k in lengths.items())
    shape = tuple(input.shape)
    raise RuntimeError(
        f"the input has shape {shape}, so {shape[1]} channels on axis 1, but the layer has {has}. "
        "Move the channels to axis 1, or make the layer for that number."
    )


# ---- Among torch's tools -------------------------------------------------------------------------

# Modules of torch that look at a layer to run it, not to build another one.
READERS = ("torch.jit", "torch._", "torch.export", "torch.onnx")
LOST = (
    'this BatchNorm has a ReLU inside (activation="relu"), which is lost where another layer is '
    "built from its numbers. Make it with activation=None, put torch.nn.ReLU() behind it, and try "
    "again."
)


class _Guarded(float):
    """The eps of a layer with a ReLU inside: folding begins with ``running_var + eps``."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        raise RuntimeError(LOST)


def _eps_for(caller: FrameType, layer: BatchNorm) -> float:
    """The eps of a layer of which not all would go along, for who reads it: torch's tools that
    build another layer from this one's numbers are refused, others may look, not fold.
    """
    eps, module = layer.__dict__["eps"], caller.f_globals.get("__name__", "")
    by_torch = module.startswith("torch.") and not module.startswith(READERS)
    relu = layer.takes_activation and layer.activation is not None
    if by_torch and relu:
        raise RuntimeError(LOST)
    own = type(layer).forward is not BatchNorm.forward
    if by_torch and own and caller.f_code.co_name != "forward":
        raise RuntimeError(
            f"{type(layer).__name__} has a forward of its own, which is lost where another layer is "
            "built from its numbers."
        )
    group, synced = layer.process_group, caller.f_code.co_name == "convert_sync_batchnorm"
    if by_torch and synced and group not in (None, "world"):
        raise RuntimeError(
            "this BatchNorm has a process_group of its own, which convert_sync_batchnorm would "
            "replace by the one it is given. Set process_group to None first; or leave the layer "
            "as it is: it shares its statistics already."
        )
    return _Guarded(eps) if relu and not module.startswith(READERS) else eps


def refuse_to_lose(group: object) -> None:
    """Tracing, exporting and scripting keep one operator, in which nothing is exchanged."""
    if partners(group) is not None:
        raise NotImplementedError(
            "tracing, exporting and scripting do not keep statistics that several processes share. "
            "Use eval(), or process_group=None."
        )


def is_taken_apart(input: Tensor) -> bool:
    """Whether a program of torch's operators is being written down: one of them is this layer."""
    if torch.compiler.is_compiling():
        return torch.compiler.is_exporting()
    if torch.jit.is_tracing() or isinstance(input, FakeTensor):
        return True
    if not torch._C._len_torch_dispatch_stack():
        return False
    modes = torch._C._TorchDispatchModeKey
    return any(torch._C._get_dispatch_mode(mode) for mode in (modes.FAKE, modes.PROXY))


def _as_a_node(layer: BatchNorm, input: fx.Proxy) -> fx.Proxy:
    """The layer in a graph of ``torch.fx``: called as a whole, like torch's own."""
    tracer = input.tracer
    if type(layer).forward is not BatchNorm.forward or layer is getattr(tracer, "root", None):
        return _BatchNorm.forward(layer, input)  # torch's own answer, an error that explains itself
    return tracer.create_proxy("call_module", tracer.path_of_module(layer), (input,), {})
