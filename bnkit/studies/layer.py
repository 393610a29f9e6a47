"""How right the torch layer is, on every path, against the reference in float64; and what was recorded of its speed."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

from bnkit import aten, layers, paths, reference

EPS = 1e-5
DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
LAYOUTS = {
    "vectors": (64, 24),
    "sequences": (16, 24, 30),
    "images": (8, 24, 10, 12),
    "images, channels last": (8, 24, 10, 12),
    "volumes": (4, 24, 5, 6, 4),
    "volumes, channels last": (4, 24, 5, 6, 4),
}
MODES = ("training", "evaluation")
PEERS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}

# ---- Which path -----------------------------------------------------------------------------------------------------

OURS = ("plain torch", "ATen, one call", "ATen, blocks")
IMPLEMENTATIONS = (*OURS, "torch.nn")


@contextmanager
def path(name: str, block: int = 2**12) -> Iterator[None]:
    """Make the layer take one of `OURS` inside of the ``with``, whatever it would take; torch.nn has no choice.

    Blocks of `block` elements, here so few that there are several even in a small batch.
    """
    environment = {"BNKIT_KERNELS": "off" if name == "plain torch" else "on"}
    small = 0 if name == "ATen, blocks" else 2**62
    with patch.dict("os.environ", environment), patch.object(aten, "SMALL", small), patch.object(aten, "BLOCK", block):
        yield


def make(implementation: str, channels: int, axes: int, dtype: torch.dtype, relu: bool = False) -> nn.Module:
    """A layer that keeps the statistics of the last batch alone; float32 parameters for 16 bits, as autocast has it."""
    wide = torch.float32 if dtype.itemsize == 2 else dtype
    options = {"eps": EPS, "momentum": 1.0, "dtype": wide}
    if implementation == "torch.nn":
        norm = PEERS[axes](channels, **options)
        return nn.Sequential(norm, nn.ReLU()) if relu else norm
    return layers.BatchNorm(channels, **options, activation="relu" if relu else None)


# ---- Parity ---------------------------------------------------------------------------------------------------------


class Step(NamedTuple):
    """What a forward and a backward pass leave behind, as float64 arrays."""

    y: np.ndarray
    dx: np.ndarray
    dweight: np.ndarray
    dbias: np.ndarray
    mean: np.ndarray
    var: np.ndarray


def batch(layout: str, dtype: torch.dtype, shape: tuple[int, ...] | None = None, mean: float = 0.0) -> list[Tensor]:
    """x, dy, weight and bias: numbers that `dtype` can hold, each channel with a mean and a spread of its own."""
    shape = shape or LAYOUTS[layout]
    generator = torch.Generator().manual_seed(0)
    along = (shape[1], *[1] * (len(shape) - 2))
    centre, spread = torch.randn(along, generator=generator) + mean, torch.rand(along, generator=generator) + 0.5
    x, dy = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    weight, bias = torch.randn(2, shape[1], generator=generator)
    x, dy = (spread * x + centre).to(dtype), dy.to(dtype)
    if "channels last" in layout:
        x, dy = (each.movedim(1, -1).contiguous().movedim(-1, 1) for each in (x, dy))
    return [x, dy, weight, bias]


def expected(x: Tensor, dy: Tensor, weight: Tensor, bias: Tensor, mode: str) -> Step:
    """The step by ``bnkit.reference`` in float64. In evaluation the running values are 0 and 1, and stay."""
    x, dy, gamma, beta = (each.double().numpy() for each in (x, dy, weight, bias))
    axes, channels = (0, *range(2, x.ndim)), x.shape[1]
    if mode == "training":
        y, cache = reference.forward(x, gamma, beta, EPS)
        population = reference.observe(None, x)
        return Step(y, *reference.backward(dy, cache), population.mean, population.var)
    population = reference.Population(np.zeros(channels), np.ones(channels), 1)
    y = reference.infer(x, gamma, beta, population, EPS)
    scale = gamma.reshape(-1, *[1] * (x.ndim - 2)) / np.sqrt(1 + EPS)
    x_hat = x / np.sqrt(1 + EPS)
    return Step(y, scale * dy, (dy * x_hat).sum(axes), dy.sum(axes), *population[:2])


def step(implementation: str, arguments: list[Tensor], mode: str) -> tuple[Step, list[float]]:
    """The same by a layer, and the unit of each result: the spacing of its dtype at 1."""
    x, dy, weight, bias = arguments
    layer = make(implementation, x.shape[1], x.ndim, x.dtype).train(mode == "training")
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    leaf = x.detach().requires_grad_()
    y = layer(leaf)
    y.backward(dy)
    found = [y.detach(), leaf.grad, layer.weight.grad, layer.bias.grad, layer.running_mean, layer.running_var]
    return Step(*(each.double().numpy() for each in found)), [torch.finfo(each.dtype).eps for each in found]


def error(
    implementation: str, arguments: list[Tensor], mode: str, right: Step | None = None, block: int = 2**12
) -> Step:
    """The largest error in each result, relative to its largest value, in units of its dtype's spacing at 1."""
    right = right or expected(*arguments, mode)
    with path(implementation, block):
        found, units = step(implementation, arguments, mode)
    distances = (np.abs(a - b).max() / (np.abs(b).max() or 1.0) for a, b in zip(found, right, strict=True))
    return Step(*(float(distance / unit) for distance, unit in zip(distances, units, strict=True)))


def parity(dtypes: tuple[str, ...] = tuple(DTYPES), layouts: tuple[str, ...] = tuple(LAYOUTS)) -> np.ndarray:
    """The worst of the six results of every step. Shapes: (layouts, modes, dtypes, implementations)."""
    worst = np.empty((len(layouts), len(MODES), len(dtypes), len(IMPLEMENTATIONS)))
    for (i, layout), (j, mode), (k, dtype) in (
        (a, b, c) for a in enumerate(layouts) for b in enumerate(MODES) for c in enumerate(dtypes)
    ):
        arguments = batch(layout, DTYPES[dtype])
        right = expected(*arguments, mode)
        worst[i, j, k] = [max(error(each, arguments, mode, right)) for each in IMPLEMENTATIONS]
    return worst


# ---- What long sums cost --------------------------------------------------------------------------------------------


def by_length(counts: list[int], mean: float = 0.0, channels: int = 8) -> dict[str, dict[str, list[float]]]:
    """Errors in float32, channels last, against the number of values of a channel: implementation -> result -> errors.

    Blocks are of the size that they have in everyday use.
    """
    found = {each: {name: [] for name in Step._fields} for each in IMPLEMENTATIONS}
    for count in counts:
        arguments = batch("images, channels last", torch.float32, (count // 64, channels, 8, 8), mean)
        right = expected(*arguments, "training")
        for implementation in IMPLEMENTATIONS:
            for name, value in error(implementation, arguments, "training", right, aten.BLOCK)._asdict().items():
                found[implementation][name].append(value)
    return found


# ---- What is kept for the gradient ----------------------------------------------------------------------------------


def kept(layer: nn.Module, x: Tensor) -> int:
    """Bytes that a forward pass keeps for the backward pass; what several tensors share counts once."""
    storages = {}

    def pack(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        layer(x)
    return sum(storages.values())


def relu_memory(shape: tuple[int, ...]) -> dict[str, float]:
    """What a normalization and a ReLU keep, in units of the batch, per implementation."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
    found = {}
    for implementation in IMPLEMENTATIONS:
        with path(implementation):
            found[implementation] = kept(make(implementation, shape[1], len(shape), x.dtype, relu=True), x) / x.nbytes
    return found


# ---- Several processes, without starting any ------------------------------------------------------------------------


def pooled(x: Tensor, sizes: list[int]) -> tuple[Tensor, Tensor]:
    """Mean and variance of a batch from those of its parts, of so many examples each, as processes would have them."""
    parts = x.split(sizes)
    zeros = x.new_zeros(x.shape[1])
    found = [layers.moments(part)[:2] if len(part) else (zeros, zeros) for part in parts]
    means, variances = map(torch.stack, zip(*found, strict=True))
    return aten.pool(means, variances, x.new_tensor(sizes).unsqueeze(1))


# ---- Speed, as recorded ---------------------------------------------------------------------------------------------


def recorded(device: str) -> dict | None:
    """What ``python -m bnkit bench --json`` has stored for "cpu" or "cuda"; None where nothing was recorded."""
    file = paths.root() / "data" / "bench" / f"{device}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def rows(found: dict, what: str, layout: str | None = None, dtype: str = "float32") -> list[dict]:
    """The rows of a recorded measurement about one thing."""
    return [
        row
        for row in found["rows"]
        if row["what"] == what and row["dtype"] == dtype and layout in (None, row["layout"])
    ]


def name_of(shape: list[int]) -> str:
    """How a shape is written in figures: channels and side of a map, or the two axes of a batch of vectors."""
    return f"{shape[1]} × {shape[2]}²" if len(shape) == 4 else " × ".join(map(str, shape))
