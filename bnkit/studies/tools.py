"""The layer among torch's own tools: what each makes of torch's norm, of ours, and of a ReLU inside.

A tool is given a convolution and a normalization, in one of its variants, and what it makes of them
is run on a batch: the result is what the network itself gives, or it is not, or the tool refuses.
"""

import copy
import io
import pickle
import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import checkpoint

from bnkit.layers import BatchNorm2d, convert, restore

CHANNELS = 4


def network(kind: str, seed: int = 0) -> nn.Sequential:
    """A convolution and a norm that has seen data: "torch.nn", "ours", "ours with a ReLU inside",
    or "a subclass, converted".
    """
    generator = torch.Generator().manual_seed(seed)
    norm = {
        "torch.nn": lambda: nn.BatchNorm2d(CHANNELS),
        "ours": lambda: convert(nn.BatchNorm2d(CHANNELS)),
        "ours with a ReLU inside": lambda: BatchNorm2d(CHANNELS, activation="relu"),
        "a subclass, converted": lambda: convert(_Subclass(CHANNELS)),
    }[kind]()
    net = nn.Sequential(nn.Conv2d(3, CHANNELS, 3), norm)
    with torch.no_grad():
        for tensor in (*net.parameters(), norm.running_mean):
            tensor.copy_(torch.randn(tensor.shape, generator=generator))
        norm.running_var.copy_(torch.rand(CHANNELS, generator=generator) + 0.5)
    return net.eval()


class _Subclass(nn.BatchNorm2d):
    """Somebody's own, with something behind torch's forward."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) * 2


KINDS = ("torch.nn", "ours", "ours with a ReLU inside", "a subclass, converted")


def _onnx(net: nn.Sequential, x: Tensor) -> Tensor:
    import onnxruntime

    file = io.BytesIO()
    torch.onnx.export(net, (x,), file, dynamo=False)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])


def _fused(net: nn.Sequential, x: Tensor) -> Tensor:
    return torch.ao.quantization.fuse_modules(net, [["0", "1"]])(x)


def _qat(net: nn.Sequential, x: Tensor) -> Tensor:
    return torch.ao.quantization.fuse_modules_qat(net.train(), [["0", "1"]]).eval()(x)


def _prepared(net: nn.Sequential, x: Tensor) -> Tensor:
    """What FX graph mode quantization observes, before it rounds anything."""
    from torch.ao.quantization import get_default_qconfig_mapping, quantize_fx

    return quantize_fx.prepare_fx(net, get_default_qconfig_mapping(), (x,))(x)


def _vmapped(net: nn.Sequential, x: Tensor) -> Tensor:
    state = {name: value.detach()[None] for name, value in net.named_parameters()}
    return torch.func.vmap(lambda s: torch.func.functional_call(net, s, (x,)))(state)[0]


def _dual(net: nn.Sequential, x: Tensor) -> Tensor:
    return torch.func.jvp(net, (x,), (torch.ones_like(x),))[0]


TOOLS: dict[str, Callable[[nn.Sequential, Tensor], Tensor]] = {
    "`fuse_conv_bn_eval`": lambda net, x: nn.utils.fusion.fuse_conv_bn_eval(*net)(x),
    "`fuse_modules`": _fused,
    "`fuse_modules_qat`": _qat,
    "`prepare_fx`": _prepared,
    "`SyncBatchNorm.convert_sync_batchnorm`": lambda net, x: (
        nn.SyncBatchNorm.convert_sync_batchnorm(net)(x)
    ),
    "`fx.symbolic_trace`": lambda net, x: torch.fx.symbolic_trace(net)(x),
    "`torch.export`": lambda net, x: torch.export.export(net, (x,)).module()(x),
    "ONNX, by its runtime": _onnx,
    "`jit.trace`": lambda net, x: torch.jit.trace(net, x)(x),
    "`jit.script`": lambda net, x: torch.jit.script(net)(x),
    "`torch.compile`": lambda net, x: torch.compile(net, backend="aot_eager", fullgraph=True)(x),
    "`checkpoint`": lambda net, x: checkpoint.checkpoint(net, x, use_reentrant=False),
    "`functional_call` and `vmap`": _vmapped,
    "forward mode": _dual,
    "`deepcopy`": lambda net, x: copy.deepcopy(net)(x),
    "`pickle`": lambda net, x: pickle.loads(pickle.dumps(net))(x),
    "`restore`": lambda net, x: restore(net)(x),
}


class Outcome(NamedTuple):
    """What became of a network in a tool."""

    word: str
    """"the same", "refused", "WRONG", or "not installed"."""
    error: str = ""
    """Of a refusal: the class and its message."""


def outcome(tool: str, kind: str, seed: int = 0) -> Outcome:
    """One cell of the table: a tool's result against that of the network in evaluation."""
    net = network(kind, seed)
    x = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    expected = copy.deepcopy(net)(x).detach()
    torch.compiler.reset()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            y = TOOLS[tool](net, x).detach()
    except ImportError:
        return Outcome("not installed")
    except Exception as error:  # whatever a tool says when it cannot
        return Outcome("refused", f"{type(error).__name__}: {error}")
    near = torch.allclose(y, expected, rtol=1e-4, atol=1e-4)
    return Outcome("the same" if near else "WRONG")


def grid(seed: int = 0) -> dict[str, list[Outcome]]:
    """Tool -> outcomes, one for each of `KINDS`."""
    return {tool: [outcome(tool, kind, seed) for kind in KINDS] for tool in TOOLS}
