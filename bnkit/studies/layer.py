"""How right the torch layer is, on every path, against the reference in float64; and what was
recorded of its speed.
"""

import itertools
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, distributed, multiprocessing, nn

from bnkit import layers, paths, reference
from bnkit.layers import aten, plain

EPS = 1e-5
DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
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

# ---- Which path ----------------------------------------------------------------------------------

OURS = ("plain torch", "ATen, one call", "ATen, blocks")
IMPLEMENTATIONS = (*OURS, "torch.nn")


@contextmanager
def path(name: str, block: int = 2**12) -> Iterator[None]:
    """Make the layer take one of `OURS` inside of the ``with``, whatever it would take; torch.nn
    has no choice.

    Blocks of `block` elements, here so few that there are several even in a small batch.
    """
    environment = {"BNKIT_KERNELS": "off" if name == "plain torch" else "on"}
    small = 0 if name == "ATen, blocks" else 2**62
    with (
        patch.dict("os.environ", environment),
        patch.multiple(aten, SMALL=small, SHORT=small, BLOCK=block),
    ):
        yield


def make(
    implementation: str,
    channels: int,
    axes: int,
    dtype: torch.dtype,
    relu: bool = False,
    process_group: object = None,
) -> nn.Module:
    """A layer that keeps the statistics of the last batch alone; float32 parameters for 16 bits, as
    autocast has it.
    """
    wide = torch.float32 if dtype.itemsize == 2 else dtype
    options = {"eps": EPS, "momentum": 1.0, "dtype": wide}
    if implementation == "torch.nn":
        norm = PEERS[axes](channels, **options)
        return nn.Sequential(norm, nn.ReLU()) if relu else norm
    return layers.BatchNorm(
        channels, **options, activation="relu" if relu else None, process_group=process_group
    )


# ---- Parity --------------------------------------------------------------------------------------


class Step(NamedTuple):
    """What a forward and a backward pass leave behind, as float64 arrays."""

    y: np.ndarray
    dx: np.ndarray
    dweight: np.ndarray
    dbias: np.ndarray
    mean: np.ndarray
    var: np.ndarray


def batch(
    layout: str,
    dtype: torch.dtype,
    shape: tuple[int, ...] | None = None,
    mean: float = 0.0,
    seed: int = 0,
) -> list[Tensor]:
    """x, dy, weight and bias: numbers that `dtype` can hold, each channel with a mean and a spread
    of its own.
    """
    shape = shape or LAYOUTS[layout]
    generator = torch.Generator().manual_seed(seed)
    along = (shape[1], *[1] * (len(shape) - 2))
    centre, spread = (
        torch.randn(along, generator=generator) + mean,
        torch.rand(along, generator=generator) + 0.5,
    )
    x, dy = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    weight, bias = torch.randn(2, shape[1], generator=generator)
    x, dy = (spread * x + centre).to(dtype), dy.to(dtype)
    if "channels last" in layout:
        x, dy = (each.movedim(1, -1).contiguous().movedim(-1, 1) for each in (x, dy))
    return [x, dy, weight, bias]


def expected(x: Tensor, dy: Tensor, weight: Tensor, bias: Tensor, mode: str) -> Step:
    """The step by ``bnkit.reference`` in float64. In evaluation the running values are 0 and 1, and
    stay.
    """
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


def step(
    implementation: str, arguments: list[Tensor], mode: str, process_group: object = None
) -> tuple[Step, list[float]]:
    """The same by a layer, and the unit of each result: the spacing of its dtype at 1."""
    x, dy, weight, bias = arguments
    layer = make(implementation, x.shape[1], x.ndim, x.dtype, process_group=process_group).train(
        mode == "training"
    )
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    leaf = x.detach().requires_grad_()
    y = layer(leaf)
    y.backward(dy)
    found = [
        y.detach(),
        leaf.grad,
        layer.weight.grad,
        layer.bias.grad,
        layer.running_mean,
        layer.running_var,
    ]
    return Step(*(each.double().numpy() for each in found)), [
        torch.finfo(each.dtype).eps for each in found
    ]


def error(
    implementation: str,
    arguments: list[Tensor],
    mode: str,
    right: Step | None = None,
    block: int = 2**12,
) -> Step:
    """The largest error in each result, relative to its largest value, in units of its dtype's
    spacing at 1.
    """
    right = right or expected(*arguments, mode)
    with path(implementation, block):
        found, units = step(implementation, arguments, mode)
    return distance(found, right, units)


def distance(found: Step, right: Step, units: Sequence[float]) -> Step:
    """The largest difference in each result, relative to its largest value, in its unit."""
    relative = (
        np.abs(a - b).max() / (np.abs(b).max() or 1.0) for a, b in zip(found, right, strict=True)
    )
    return Step(*(float(each / unit) for each, unit in zip(relative, units, strict=True)))


def parity(
    dtypes: tuple[str, ...] = tuple(DTYPES),
    layouts: tuple[str, ...] = tuple(LAYOUTS),
    seed: int = 0,
) -> np.ndarray:
    """The worst of the six results of every step. Shapes: (layouts, modes, dtypes,
    implementations).
    """
    worst = np.empty((len(layouts), len(MODES), len(dtypes), len(IMPLEMENTATIONS)))
    for (i, layout), (j, mode), (k, dtype) in (
        (a, b, c) for a in enumerate(layouts) for b in enumerate(MODES) for c in enumerate(dtypes)
    ):
        arguments = batch(layout, DTYPES[dtype], seed=seed)
        right = expected(*arguments, mode)
        worst[i, j, k] = [max(error(each, arguments, mode, right)) for each in IMPLEMENTATIONS]
    return worst


# ---- Wrong layers --------------------------------------------------------------------------------


def _moments_with(var: Callable[[Tensor], Tensor]) -> Callable:
    """The first step, but for the variance, which is `var` of (C, values)."""

    def moments(x: Tensor) -> tuple[Tensor, Tensor, int]:
        mean, _, m = _RIGHT["moments"](x)
        return mean, var(x.transpose(0, 1).flatten(1)), m

    return moments


def _input_gradient_with(through_var: float, through_mean: float) -> Callable:
    """The gradient of the input, with a multiple of what comes by the variance and by the mean."""

    def input_gradient(dy, x, mean, inv_std, weight, bias, dweight, dbias, m, relu) -> Tensor:
        sums = (None, None) if dweight is None else (through_var * dweight, through_mean * dbias)
        return _RIGHT["input_gradient"](dy, x, mean, inv_std, weight, bias, *sums, m, relu)

    return input_gradient


_RIGHT = {name: getattr(plain, name) for name in ("moments", "observe", "input_gradient")}
MUTANTS = {  # what is wrong -> the step of bnkit.layers.plain that is replaced, and by what
    "divided by m − 1 to normalise": ("moments", _moments_with(lambda x: x.var(1))),
    "the variance as E[x²] − E[x]²": (
        "moments",
        _moments_with(lambda x: x.square().mean(1) - x.mean(1).square()),
    ),
    "ε outside of the root": ("inverse_std", lambda var, eps: 1 / (var.sqrt() + eps)),
    "the biased variance stored": ("observe", lambda *a: _RIGHT["observe"](*a[:4], 10**12, a[5])),
    "no gradient through the variance": ("input_gradient", _input_gradient_with(0, 1)),
    "no gradient through the mean": ("input_gradient", _input_gradient_with(1, 0)),
}


def wrong(name: str, mean: float = 0.0, seed: int = 0) -> float:
    """The worst error of a training step in float64, on the plain path, with one step replaced by
    one of `MUTANTS`.
    """
    step_of_layer, replacement = MUTANTS[name]
    with patch.object(plain, step_of_layer, replacement):
        return max(
            error("plain torch", batch("images", torch.float64, mean=mean, seed=seed), "training")
        )


# ---- What long sums cost -------------------------------------------------------------------------


def by_length(
    counts: list[int], mean: float = 0.0, channels: int = 4, seed: int = 0
) -> dict[str, dict[str, list[float]]]:
    """Errors in float32, channels last, against the number of values of a channel: implementation
    -> result -> errors.

    Blocks are of the size that they have in everyday use.
    """
    found = {each: {name: [] for name in Step._fields} for each in IMPLEMENTATIONS}
    for count in counts:
        arguments = batch(
            "images, channels last", torch.float32, (count // 64, channels, 8, 8), mean, seed
        )
        right = expected(*arguments, "training")
        for implementation in IMPLEMENTATIONS:
            for name, value in (
                error(implementation, arguments, "training", right, aten.BLOCK)._asdict().items()
            ):
                found[implementation][name].append(value)
    return found


# ---- What is kept for the gradient ---------------------------------------------------------------


def kept(layer: nn.Module, x: Tensor) -> int:
    """Bytes that a forward pass keeps for the backward pass; what several tensors share counts
    once.
    """
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
            found[implementation] = (
                kept(make(implementation, shape[1], len(shape), x.dtype, relu=True), x) / x.nbytes
            )
    return found


# ---- Refusals ------------------------------------------------------------------------------------

REFUSED = {  # what is wrong -> options of the layer of 3 channels, training, input
    "another number of channels": ({}, True, torch.ones(5, 4)),
    "one axis": ({}, False, torch.ones(3)),
    "whole numbers": ({}, True, torch.ones(5, 3, dtype=torch.long)),
    "float64 into a float32 layer": ({}, True, torch.ones(5, 3, dtype=torch.float64)),
    "another device": ({}, True, torch.ones(5, 3, device="meta")),
    "one value per channel, in training": ({}, True, torch.ones(1, 3)),
    "ε of 0, in training": ({"eps": 0.0}, True, torch.ones(5, 3)),
}


class Refusal(NamedTuple):
    """What two layers say to the same mistake."""

    theirs: str
    """The class of torch.nn's error."""
    ours: str
    message: str
    """Of our error."""
    untouched: bool
    """Whether our layer's state is what it was before."""


def refusals() -> dict[str, Refusal]:
    """`REFUSED`, each tried on torch.nn's layer and on ours. Raises AssertionError where one of
    them takes it.
    """
    found = {}
    for what, (options, training, x) in REFUSED.items():
        errors = []
        for layer in (nn.BatchNorm1d(3, **options), layers.BatchNorm(3, **options)):
            before = {
                name: value.clone() for name, value in layer.train(training).state_dict().items()
            }
            try:
                layer(x)
            except (ValueError, RuntimeError) as raised:  # NotImplementedError is a RuntimeError
                errors.append(raised)
            else:
                raise AssertionError(f"{what}: {layer} takes it")
        untouched = all(
            torch.equal(before[name], value) for name, value in layer.state_dict().items()
        )
        found[what] = Refusal(*(type(each).__name__ for each in errors), str(errors[1]), untouched)
    return found


# ---- Several processes ---------------------------------------------------------------------------


def across(sizes: Sequence[int], seed: int = 0) -> dict[str, Step]:
    """As many processes as there are `sizes`, joined by gloo, each with so many examples, against
    one that has all.

    Errors of a training step in float64, in spacings: of layers that were given the process group,
    and of layers that were not. Raises AssertionError where the processes of a group do not agree
    on the statistics to the last bit.
    """
    right = expected(*_shared(sizes, seed), "training")
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(_one_process, (tuple(sizes), seed, folder), nprocs=len(sizes))
        each = [
            torch.load(Path(folder) / f"{rank}.pt", weights_only=False)
            for rank in range(len(sizes))
        ]
    found = {}
    for name in ("together", "each on its own"):
        parts = [one[name] for one in each]
        y, dx = (np.concatenate(arrays) for arrays in list(zip(*parts, strict=True))[:2])
        dweight, dbias = (sum(arrays) for arrays in list(zip(*parts, strict=True))[2:4])
        first = parts[0]
        if name == "together":
            for part in parts:
                agrees = np.array_equal(part.mean, first.mean) and np.array_equal(
                    part.var, first.var
                )
                assert agrees, "the processes have different statistics"
        whole = Step(y, dx, dweight, dbias, first.mean, first.var)
        found[name] = distance(whole, right, [torch.finfo(torch.float64).eps] * 6)
    return found


def _shared(sizes: Sequence[int], seed: int) -> list[Tensor]:
    return batch("images", torch.float64, (sum(sizes), 3, 5, 4), seed=seed)


def _one_process(rank: int, sizes: tuple[int, ...], seed: int, folder: str) -> None:
    silence = os.open(os.devnull, os.O_WRONLY)
    for stream in (
        1,
        2,
    ):  # gloo greets everybody; what goes wrong is raised in the process that waits for this one
        os.dup2(silence, stream)
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", f"file://{folder}/meeting", rank=rank, world_size=len(sizes)
    )
    x, dy, *parameters = _shared(sizes, seed)
    ends = list(itertools.accumulate(sizes, initial=0))
    mine = slice(ends[rank], ends[rank + 1])
    arguments = [x[mine], dy[mine], *parameters]
    groups = {"together": "world", "each on its own": None}
    steps = {
        name: step("ours", arguments, "training", process_group=group)[0]
        for name, group in groups.items()
    }
    torch.save(steps, f"{folder}/{rank}.pt")
    distributed.barrier()
    distributed.destroy_process_group()


def pooled(x: Tensor, sizes: list[int]) -> tuple[Tensor, Tensor]:
    """Mean and variance of a batch from those of its parts, of so many examples each, as processes
    would have them.
    """
    parts = x.split(sizes)
    zeros = x.new_zeros(x.shape[1])
    found = [plain.moments(part)[:2] if len(part) else (zeros, zeros) for part in parts]
    means, variances = map(torch.stack, zip(*found, strict=True))
    return aten.pool(means, variances, x.new_tensor(sizes).unsqueeze(1))


# ---- Speed, as recorded --------------------------------------------------------------------------


def recorded(device: str) -> dict | None:
    """What ``python -m bnkit bench --json`` has stored for "cpu" or "cuda"; None where nothing was
    recorded.
    """
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
    """How a shape is written in figures: channels and side of a map, or the two axes of a batch of
    vectors.
    """
    return f"{shape[1]} × {shape[2]}²" if len(shape) == 4 else " × ".join(map(str, shape))


REFERENCES = {
    "layer": "torch.nn",
    "layer with ReLU": "torch.nn, then ReLU in place",
}  # of two peers the faster one


def ratios(
    found: dict, dtype: str = "float32"
) -> tuple[list[str], dict[str, dict[str, list[list[float]]]]]:
    """Names of the shapes of maps, and layout -> what -> quartiles of the ratios to `REFERENCES`: a
    figure's data.
    """
    layouts = {
        layout: {
            what: [
                row["ratios"][peer]
                for row in rows(found, what, layout, dtype)
                if len(row["shape"]) == 4
            ]
            for what, peer in REFERENCES.items()
        }
        for layout in ("contiguous", "channels last")
    }
    maps = [
        row["shape"] for row in rows(found, "layer", "contiguous", dtype) if len(row["shape"]) == 4
    ]
    return [name_of(shape) for shape in maps], layouts


def shares_of_the_limit(
    found: dict, dtype: str = "float32"
) -> dict[str, tuple[list[float], dict[str, list[float]]]]:
    """How near to the speed of a copy: layout -> (sizes of the batch in MiB, who -> share), in the
    order of the sizes.

    1 is a layer that spends no more time than moving its tensors takes.
    """
    shares = {}
    for layout in ("contiguous", "channels last"):
        measured = [row for row in rows(found, "layer", layout, dtype) if "copy" in row["times"]]
        measured.sort(key=lambda row: int(np.prod(row["shape"])))
        sizes = [int(np.prod(row["shape"])) * DTYPES[dtype].itemsize / 2**20 for row in measured]
        medians = {
            who: [2.5 * row["times"]["copy"][1] / row["times"][name][1] for row in measured]
            for who, name in (("ours", "ours"), ("torch.nn", "torch.nn"))
        }
        shares[layout] = sizes, medians
    return shares


class Verdict(NamedTuple):
    """What became of a goal: a ratio that every one of some rows should reach."""

    wanted: float
    reached: int
    of: int
    middle: float
    """Median over the rows of the median over the rounds."""
    worst: float
    where: str

    def __str__(self) -> str:
        if self.reached == self.of:
            return f"reached on all {self.of}" if self.of > 1 else "reached"
        return (
            f"**missed** on {self.of - self.reached} of {self.of}" if self.of > 1 else "**missed**"
        )


def verdict(measured: list[dict], peer: str, wanted: float) -> Verdict:
    """Hold the medians of the rows that were measured against `peer` to a goal."""
    measured = [row for row in measured if peer in row["ratios"]]
    medians = [row["ratios"][peer][1] for row in measured]
    worst = int(np.argmin(medians))
    where = f"{name_of(measured[worst]['shape'])}, {measured[worst]['layout']}"
    reached = sum(each >= wanted for each in medians)
    return Verdict(wanted, reached, len(medians), float(np.median(medians)), medians[worst], where)


class Goal(NamedTuple):
    """What was to be reached before anything was measured."""

    device: str
    what: str
    peer: str
    wanted: float
    large: bool = False
    """Of batches of 16 MiB and more alone."""


GOALS = (
    Goal("cpu", "layer", "torch.nn", 0.8),
    Goal("cpu", "reference", "textbook NumPy", 2.0),
    Goal("cuda", "layer", "torch.nn", 1.0),
    Goal("cuda", "layer with ReLU", "torch.nn, then ReLU in place", 1.5),
    Goal("cuda", "layer", "the limit", 0.8, large=True),
)


def goals() -> list[tuple[Goal, Verdict | None]]:
    """Every goal with what became of it; None where nothing was recorded."""
    found = []
    for goal in GOALS:
        on_device = recorded(goal.device)
        if on_device is None:
            found.append((goal, None))
            continue
        measured = [row for dtype in DTYPES for row in rows(on_device, goal.what, dtype=dtype)]
        if goal.large:
            measured = [
                r for r in measured if np.prod(r["shape"]) * DTYPES[r["dtype"]].itemsize >= 2**24
            ]
        found.append((goal, verdict(measured, goal.peer, goal.wanted)))
    return found
