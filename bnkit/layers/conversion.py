"""Ours in a model that exists already, and back: ``convert``, ``restore``, and what became of whom.

In place, by the class alone: a layer stays the object it was, with its parameters, buffers, hooks
and mode. So an optimiser made before goes on working, and a shared layer stays shared.
"""

import functools
import types
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.ao.quantization import fuser_method_mappings, quantization_mappings
from torch.nn.modules.batchnorm import _BatchNorm, _LazyNormBase
from torch.nn.utils.parametrize import is_parametrized
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from bnkit.layers.batch_norm import batch_norm
from bnkit.layers.modules import (
    BatchNorm,
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    SyncBatchNorm,
    is_taken_apart,
    refuse,
    refuse_to_lose,
)

OURS = {  # torch's class: ours of the same name
    nn.BatchNorm1d: BatchNorm1d,
    nn.BatchNorm2d: BatchNorm2d,
    nn.BatchNorm3d: BatchNorm3d,
    nn.SyncBatchNorm: SyncBatchNorm,
    _BatchNorm: BatchNorm,
}
OPTIONS = ("activation", "process_group")

# ---- What is told --------------------------------------------------------------------------------


class Entry(NamedTuple):
    """One batch normalization of a model."""

    name: str
    """Where it is in the model, like "layer1.0.bn1"."""
    kind: str
    """Its class."""
    outcome: str
    """"converted"; "ours" already; or "left"."""
    why: str
    """Of a layer that is left, and of one that is converted in an unusual way."""


class Conversion(NamedTuple):
    """Every batch normalization of a model, and what became of it; prints as a table."""

    entries: tuple[Entry, ...]

    def named(self, outcome: str) -> list[str]:
        """The names of those that are "converted", "ours" or "left"."""
        return [entry.name for entry in self.entries if entry.outcome == outcome]

    def __str__(self) -> str:
        if not self.entries:
            return "no batch normalization in this model"
        head = ("layer", "class", "outcome", "why")
        rows = [tuple(entry._replace(name=entry.name or "(itself)")) for entry in self.entries]
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        lines = [head, tuple("-" * width for width in widths), *rows]
        return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def examine(module: nn.Module) -> Conversion:
    """What ``convert`` would do with every batch normalization in `module`; nothing is changed.

    After a conversion it says what is ours, and what was left and why.
    """
    return Conversion(tuple(entry for _, entry in _plan(module)))


def _plan(module: nn.Module) -> list[tuple[nn.Module, Entry]]:
    """Each batch normalization once, by its first name, with what is to be done."""
    normal = (_BatchNorm, _LazyNormBase)
    named = _named(module, normal)
    return [(layer, Entry(name, type(layer).__name__, *_fate(layer))) for name, layer in named]


def _named(module: nn.Module, kinds: type | tuple[type, ...]) -> list[tuple[str, nn.Module]]:
    """Those of `kinds` in `module`, itself included, each once, with its first name."""
    if not isinstance(module, nn.Module):
        raise TypeError(f"{module!r} is a {type(module).__name__}; a torch.nn.Module is wanted.")
    return [(name, each) for name, each in module.named_modules() if isinstance(each, kinds)]


def _fate(layer: nn.Module) -> tuple[str, str]:
    """Outcome and reason for a layer: both kinds of batch normalization come in here."""
    kind = type(layer)
    if isinstance(layer, _LazyNormBase):
        return "left", "lazy: it has no shape yet; run a batch through it first"
    if isinstance(layer, BatchNorm):
        return "ours", f"its own {kind.forward.__qualname__}" if _served(kind) else ""
    if is_parametrized(layer):
        return "left", "parametrized: convert before parametrizing"
    if "forward" in vars(layer):
        return "left", "patched: forward is set on the object"
    if hasattr(layer, "process_group") and not _is_torchs_sync(kind):
        return "left", "it has a process_group of its own"
    try:
        ours = our_class(kind)
    except Exception as error:  # whatever the class does when it is inherited from
        return "left", f"its class cannot be inherited from: {error}"
    own_eps = [vars(base)["eps"] for base in kind.__mro__ if "eps" in vars(base)]
    if own_eps or "eps" not in vars(layer):
        return "left", "its class computes eps by itself"
    if _own_forward(kind) and not _calls_batch_norm(kind):
        return "left", "own forward, which calls neither F.batch_norm nor the forward above it"
    return "converted", "its own forward, with our batch_norm inside" if _served(ours) else ""


def _is_torchs_sync(kind: type) -> bool:
    return issubclass(kind, nn.SyncBatchNorm)


# ---- The class of a converted layer --------------------------------------------------------------


@functools.cache
def our_class(kind: type[_BatchNorm]) -> type[BatchNorm]:
    """What a layer of torch's class `kind` becomes: ours of the same name.

    A subclass of torch's becomes one of both, in which everything that it defines comes first, then
    ours, then torch's: so it keeps all it overrides, and its ``super()`` finds ours. A ``forward``
    of its own runs with our ``batch_norm`` in the place of ``torch.nn.functional.batch_norm``.
    """
    if kind in OURS:
        return OURS[kind]
    base = next(ours for torchs, ours in OURS.items() if issubclass(kind, torchs))
    members = {
        "__doc__": kind.__doc__,
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__init__": _beginning(kind.__init__),
        "__reduce_ex__": _reduce,
        "converted_from": kind,
        "takes_activation": False,  # what it calls so is its own
    }
    if _own_forward(kind):
        members["forward"] = _serving(kind.forward)
    return types.new_class(kind.__name__, (kind, base), exec_body=lambda body: body.update(members))


def _beginning(init: Callable) -> Callable:
    """For a subclass made anew, ``type(layer)(3)``: it may call torch's ``__init__`` by name."""

    @functools.wraps(init)
    def begun(self, *arguments, **options):
        init(self, *arguments, **options)
        _add_options(self)

    return begun


def _reduce(layer: BatchNorm, protocol: int) -> tuple:
    """For pickle and copy: such a class has no place where it could be looked up."""
    kind = type(layer).converted_from
    if kind.__reduce__ is not object.__reduce__ or kind.__reduce_ex__ is not object.__reduce_ex__:
        make, arguments, *rest = kind.__reduce_ex__(layer, protocol)
        return _made_ours, (kind if make is type(layer) else make, arguments), *rest
    state = layer.__getstate__() if hasattr(layer, "__getstate__") else vars(layer)
    return _remake, (kind,), state


def _remake(kind: type[_BatchNorm]) -> BatchNorm:
    ours = our_class(kind)
    return ours.__new__(ours)


def _made_ours(make: Callable, arguments: tuple) -> nn.Module:
    """A layer as its subclass makes it out of a pickle, and then converted."""
    layer = make(*arguments)
    return layer if isinstance(layer, BatchNorm) else _become(layer, our_class(type(layer)))


def _own_forward(kind: type) -> bool:
    return kind.forward not in (_BatchNorm.forward, nn.SyncBatchNorm.forward)


def _served(kind: type) -> bool:
    """Whether a class of ours runs another one's forward."""
    return hasattr(kind, "converted_from") and "forward" in vars(kind)


def _calls_batch_norm(kind: type) -> bool:
    """Whether anything that the subclass defines calls ``batch_norm`` or the forward above it."""
    own = [base for base in kind.__mro__ if base.__module__ != _BatchNorm.__module__]
    own = [base for base in own if base not in (nn.Module, object)]
    functions = (getattr(value, "__func__", value) for base in own for value in vars(base).values())
    names = [set(f.__code__.co_names) for f in functions if hasattr(f, "__code__")]
    names = [said for said in names if "aten" not in said]  # torch.ops.aten: no function of torch's
    above = {"super", *(base.__name__ for base in kind.__mro__[1:])}
    return any("batch_norm" in said or ("forward" in said and above & said) for said in names)


class _OurBatchNorm(TorchFunctionMode):
    """Inside, ``torch.nn.functional.batch_norm`` is ours: the same function, computed our way."""

    def __init__(self, layer: BatchNorm) -> None:
        super().__init__()
        self.layer = layer

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is F.batch_norm:
            return _functional(self.layer, *args, **(kwargs or {}))
        if function is torch.batch_norm:  # the same by another name, in another order
            return _by_another_name(self.layer, *args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))


def _functional(
    layer: BatchNorm, input: Tensor, running_mean, running_var, weight=None, bias=None,
    training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """``torch.nn.functional.batch_norm``, as a layer with a forward of its own calls it."""
    state = (weight, bias, running_mean, running_var)
    group = layer._bn_group() if training and layer.training else None
    refuse(input, input.shape[1], state, training, eps, group)
    known = (input, running_mean, running_var, weight, bias, training, momentum, eps)
    return batch_norm(*known, False, group)


def _by_another_name(
    layer: BatchNorm, input: Tensor, weight, bias, running_mean, running_var,
    training: bool, momentum: float, eps: float, cudnn_enabled: bool,
) -> Tensor:  # fmt: skip
    """``torch.batch_norm``: the same, in another order."""
    known = (input, running_mean, running_var, weight, bias, training, momentum, eps)
    return _functional(layer, *known)


def _serving(forward: Callable) -> Callable:
    @functools.wraps(forward)
    def served(self, *arguments, **options):
        given = tree_leaves((arguments, options))
        if torch.compiler.is_compiling() or any(map(_as_torch_sees_it, given)):
            refuse_to_lose(self._bn_group() if self.training else None)
            return forward(self, *arguments, **options)
        with _OurBatchNorm(self):
            return forward(self, *arguments, **options)

    return served


def _as_torch_sees_it(argument: object) -> bool:
    """Whether a program is being written down, in which this layer is torch's operators."""
    traced = isinstance(argument, Tensor) and is_taken_apart(argument)
    return traced or isinstance(argument, fx.Proxy)


# ---- There and back ------------------------------------------------------------------------------


def convert(
    module: nn.Module,
    process_group: object = None,
    *,
    report: Callable[[Conversion], object] | None = None,
) -> nn.Module:
    """Make every batch normalization of torch's in `module`, itself included, one of ours; returns
    `module`.

    ``torch.nn.BatchNorm1d/2d/3d`` and ``SyncBatchNorm`` become ours of the same names; ``restore``
    leads back. Subclasses become subclasses of both, and keep everything they override: methods are
    looked up in the subclass first, then in ours. Left are layers with a parametrization, with a
    ``forward`` that is set on the object or that computes everything itself, with a
    `process_group` of their own making, and those whose class refuses to be inherited from.
    `report`, ``print`` say, is called with what was done, a ``Conversion``; ``examine(module)``
    says it at any time. Every layer of ours then gets the `process_group`, if one is given; a ReLU
    behind a layer stays where it is.

    Warns where the model has batch normalization, and none of it is ours in the end, or where it
    has none. Raises, having converted nothing, ValueError for a lazy layer that has not seen a
    batch yet, and TypeError for what is no module, and for a `report` that cannot be called.
    """
    if report is not None and not callable(report):
        raise TypeError(f"report is {report!r}; give a function that is called with a Conversion.")
    plan = _plan(module)
    for layer, entry in plan:
        if isinstance(layer, _LazyNormBase):
            what = f"{entry.name or 'the module'} is a {entry.kind} without a shape."
            raise ValueError(f"{what} Run a batch through it first.")
    done = [_convert(layer, entry) for layer, entry in plan]
    for layer, _ in plan:
        if process_group is not None and isinstance(layer, BatchNorm):
            vars(layer).setdefault("_bn_group_before", layer.process_group)
            vars(layer)["process_group"] = process_group
    conversion = Conversion(tuple(done))
    if len(conversion.named("left")) == len(done):
        warnings.warn(f"nothing was converted:\n{conversion}", stacklevel=2)
    if report is not None:
        report(conversion)
    return module


def _convert(layer: nn.Module, entry: Entry) -> Entry:
    if entry.outcome == "converted":
        try:
            _become(layer, our_class(type(layer)))
        except TypeError as error:  # slots
            return entry._replace(outcome="left", why=f"its class cannot be changed: {error}")
    return entry


def _become(layer: nn.Module, ours: type[BatchNorm]) -> nn.Module:
    """The same layer, of our class, with what else ours has. Past a ``__setattr__`` of its own."""
    object.__setattr__(layer, "__class__", ours)
    if ours.takes_activation and hasattr(layer, "activation"):
        vars(layer)["takes_activation"] = False  # it is its own, and torch's forward ignores it
    vars(layer)["_bn_added"] = _add_options(layer)
    return layer


def _add_options(layer: nn.Module) -> list[str]:
    """Give a layer those of our options that it lacks, which are returned."""
    # On the object: in the class they would hide a module of this name.
    added = [name for name in OPTIONS if not hasattr(layer, name)]
    vars(layer).update(dict.fromkeys(added))
    return added


def restore(module: nn.Module) -> nn.Module:
    """Make every layer of ours in `module`, itself included, one of torch's again; returns
    `module`.

    In place, like ``convert``, which it undoes: the class that a layer had, and the process group.
    Layers that were made as ``BatchNorm1d/2d/3d`` or ``SyncBatchNorm`` become torch's of these
    names.

    Raises, having restored nothing, TypeError for what is no module, and ValueError for a layer
    that torch has no class for: with a ReLU inside, with a process group other than a
    ``SyncBatchNorm``'s, for any shape, or with a parametrization.
    """
    found = _named(module, BatchNorm)
    for name, layer in found:
        if (problem := _not_torchs(layer)) is not None:
            raise ValueError(f"{name or 'the module'} is a {type(layer).__name__} {problem}")
    for _, layer in found:
        state = vars(layer)
        if "_bn_group_before" in state:
            state["process_group"] = state.pop("_bn_group_before")
        object.__setattr__(layer, "__class__", torch_class(type(layer)))
        kept = ("process_group",) if isinstance(layer, nn.SyncBatchNorm) else ()
        state.pop("takes_activation", None)
        for name in set(state.pop("_bn_added", OPTIONS)) - set(kept):
            if state.get(name, ...) is None:
                del state[name]
    return module


def torch_class(kind: type[BatchNorm]) -> type[_BatchNorm] | None:
    """The class that a layer of ours is restored to; None where there is none."""
    if kind is BatchNorm:
        return None
    if "converted_from" in vars(kind):
        return kind.converted_from
    return next((torchs for torchs, ours in OURS.items() if kind is ours), None)


def _not_torchs(layer: BatchNorm) -> str | None:
    """What torch has no class for, in words; None where it has one."""
    if layer.takes_activation and layer.activation is not None:
        return "with a ReLU inside, which torch.nn has not. Make it without, and a ReLU behind it."
    if is_parametrized(layer):
        return "with a parametrization. Remove that first."
    if torch_class(type(layer)) is None:
        return "of no class of torch.nn: make it BatchNorm1d, 2d or 3d, for one number of axes."
    group = vars(layer).get("_bn_group_before", layer.process_group)
    if group is not None and not isinstance(layer, nn.SyncBatchNorm):
        return "with a process_group. Set it to None, or make it a SyncBatchNorm."
    return None


# ---- Eager quantization --------------------------------------------------------------------------
# ``torch.ao.quantization.fuse_modules`` looks up what to do by exact classes, so ours are entered.

FOLDED = {  # a layer, and the normalization that torch folds into it
    nn.Conv1d: nn.BatchNorm1d, nn.Conv2d: nn.BatchNorm2d, nn.Conv3d: nn.BatchNorm3d,
    nn.Linear: nn.BatchNorm1d, nn.ConvTranspose1d: nn.BatchNorm1d,
    nn.ConvTranspose2d: nn.BatchNorm2d, nn.ConvTranspose3d: nn.BatchNorm3d,
}  # fmt: skip


def _fuse(is_qat: bool, *modules: nn.Module) -> nn.Module:
    """Torch's own fusion; where torch refuses, the modules are what they were."""
    before = [(module, type(module), dict(vars(module))) for module in modules]
    try:
        parts = _as_torchs(modules)
        fuser = fuser_method_mappings.get_fuser_method(tuple(map(type, parts)))
        return fuser(is_qat, *parts)
    except Exception:
        for module, kind, state in before:
            object.__setattr__(module, "__class__", kind)
            vars(module).clear()
            vars(module).update(state)
        raise


def _as_torchs(modules: Sequence[nn.Module]) -> list[nn.Module]:
    """Layers that are torch's again, and a ReLU behind one that had it inside."""
    parts = []
    for module in modules:
        ours = isinstance(module, BatchNorm)
        relu = ours and module.takes_activation and module.activation is not None
        if relu:
            module.activation = None
        if type(module) is BatchNorm:
            module.__class__ = OURS[FOLDED[type(modules[0])]]
        parts.append(restore(module) if ours else module)
        if relu:
            parts.append(nn.ReLU().train(module.training))
    if len(parts) > len(modules) and isinstance(modules[-1], nn.ReLU):
        parts.pop()  # max(max(y, 0), 0)
    return parts


def _enter_fusions() -> None:
    table = fuser_method_mappings._DEFAULT_OP_LIST_TO_FUSER_METHOD
    for kinds in list(table):
        norms = [kind for kind in kinds if kind in OURS]
        if norms:
            for ours in (OURS[norms[0]], BatchNorm):
                if ours is not BatchNorm or kinds[0] in FOLDED:
                    table[tuple(ours if kind is norms[0] else kind for kind in kinds)] = _fuse
    # One that is not folded becomes a quantized layer of its own, by exact class as well.
    quantized = quantization_mappings.DEFAULT_STATIC_QUANT_MODULE_MAPPINGS
    quantized.update({ours: quantized[kind] for kind, ours in OURS.items() if kind in quantized})


_enter_fusions()
