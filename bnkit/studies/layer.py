"""How right the torch layer is, on every path, by the reference; and its speed as recorded."""

import itertools
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

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


def path(name: str, block: int = 2**12) -> AbstractContextManager:
    """The layer takes one of `OURS` inside of the ``with``; torch.nn has no choice.

    Blocks of `block` elements, here so few that there are several even in a small batch.
    """
    if name == "plain torch":
        return layers.using("plain")
    small = 0 if name == "ATen, blocks" else 2**62
    return layers.using("aten", small=small, short=small, block=block)


def make(
    implementation: str, channels: int, axes: int, dtype: torch.dtype, relu: bool = False,
    process_group: object = None,
) -> nn.Module:  # fmt: skip
    """A layer that keeps the last batch's statistics; for 16 bits its parameters are float32."""
    wide = torch.float32 if dtype.itemsize == 2 else dtype
    options = {"eps": EPS, "momentum": 1.0, "dtype": wide}
    if implementation == "torch.nn":
        norm = PEERS[axes](channels, **options)
        return nn.Sequential(norm, nn.ReLU()) if relu else norm
    options |= {"activation": "relu" if relu else None, "process_group": process_group}
    return layers.BatchNorm(channels, **options)


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
    layout: str, dtype: torch.dtype, shape: tuple[int, ...] | None = None, mean=0.0, seed: int = 0
) -> list[Tensor]:
    """x, dy, weight and bias in `dtype`, each channel with a mean and a spread of its own."""
    shape = shape or LAYOUTS[layout]
    generator = torch.Generator().manual_seed(seed)
    along = (shape[1], *[1] * (len(shape) - 2))
    centre = torch.randn(along, generator=generator) + mean
    spread = torch.rand(along, generator=generator) + 0.5
    x, dy = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    weight, bias = torch.randn(2, shape[1], generator=generator)
    x, dy = (spread * x + centre).to(dtype), dy.to(dtype)
    if "channels last" in layout:
        x, dy = (tensor.movedim(1, -1).contiguous().movedim(-1, 1) for tensor in (x, dy))
    return [x, dy, weight, bias]


def expected(x: Tensor, dy: Tensor, weight: Tensor, bias: Tensor, mode: str) -> Step:
    """The step by ``bnkit.reference`` in float64. In evaluation the running values stay 0 and 1."""
    x, dy, gamma, beta = (tensor.double().numpy() for tensor in (x, dy, weight, bias))
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
    layer = make(implementation, x.shape[1], x.ndim, x.dtype, process_group=process_group)
    layer.train(mode == "training")
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    leaf = x.detach().requires_grad_()
    y = layer(leaf)
    y.backward(dy)
    gradients = [leaf.grad, layer.weight.grad, layer.bias.grad]
    results = [y.detach(), *gradients, layer.running_mean, layer.running_var]
    units = [torch.finfo(result.dtype).eps for result in results]
    return Step(*(result.double().numpy() for result in results)), units


def error(
    name: str, arguments: list[Tensor], mode: str, right: Step | None = None, block: int = 2**12
) -> Step:
    """The largest errors of an implementation, relative to the largest value, in spacings at 1."""
    right = right or expected(*arguments, mode)
    with path(name, block):
        results, units = step(name, arguments, mode)
    return distance(results, right, units)


def distance(results: Step, right: Step, units: Sequence[float]) -> Step:
    """The largest difference in each result, relative to its largest value, in its unit."""
    scales = [np.abs(wanted).max() or 1.0 for wanted in right]
    gaps = [np.abs(a - b).max() for a, b in zip(results, right, strict=True)]
    return Step(*(float(gap / s / unit) for gap, s, unit in zip(gaps, scales, units, strict=True)))


def parity(dtypes: Sequence[str] = tuple(DTYPES), layouts=tuple(LAYOUTS), seed=0) -> np.ndarray:
    """The worst result of every step. Shapes: (layouts, modes, dtypes, implementations)."""
    worst = []
    for layout, mode, dtype in itertools.product(layouts, MODES, dtypes):
        arguments = batch(layout, DTYPES[dtype], seed=seed)
        right = expected(*arguments, mode)
        worst.append([max(error(name, arguments, mode, right)) for name in IMPLEMENTATIONS])
    return np.reshape(worst, (len(layouts), len(MODES), len(dtypes), len(IMPLEMENTATIONS)))


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
    "divided by m − 1 to normalize": ("moments", _moments_with(lambda x: x.var(1))),
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
    """The worst error of a training step in float64, by plain torch with one of `MUTANTS` in it."""
    step_of_layer, replacement = MUTANTS[name]
    right = getattr(plain, step_of_layer)
    setattr(plain, step_of_layer, replacement)
    try:
        arguments = batch("images", torch.float64, mean=mean, seed=seed)
        return max(error("plain torch", arguments, "training"))
    finally:
        setattr(plain, step_of_layer, right)


# ---- What long sums cost -------------------------------------------------------------------------


def by_length(
    counts: list[int], mean: float = 0.0, channels: int = 4, seed: int = 0
) -> dict[str, dict[str, list[float]]]:
    """Errors in float32, channels last, by values of a channel: implementation, result -> errors.

    Blocks are of the size that they have in everyday use.
    """
    errors = {name: {result: [] for result in Step._fields} for name in IMPLEMENTATIONS}
    for count in counts:
        shape = (count // 64, channels, 8, 8)
        arguments = batch("images, channels last", torch.float32, shape, mean, seed)
        right = expected(*arguments, "training")
        for name in IMPLEMENTATIONS:
            one = error(name, arguments, "training", right, aten.EVERYDAY.block)
            for result, value in one._asdict().items():
                errors[name][result].append(value)
    return errors


# ---- A mean far from zero ------------------------------------------------------------------------


class Far(NamedTuple):
    """Errors of the output of a training step in float32, in units of its own spread."""

    error: float
    """Of channels with the mean and the spread that were asked for."""
    constant: float
    """Of a channel in which nothing varies."""


def far_from_zero(name: str, mean: float = 1e4, spread: float = 1e-2, seed: int = 0) -> Far:
    """How far y is from float64, by plain formulas, where a mean is many deviations from zero."""
    generator = torch.Generator().manual_seed(seed)
    x = mean + spread * torch.randn(16, 3, 32, 32, generator=generator, dtype=torch.float64)
    x[:, 2] = -7e5
    x = x.float()
    wide = x.double()
    var, middle = torch.var_mean(wide, (0, 2, 3), correction=0, keepdim=True)
    right = (wide - middle) / (var + EPS).sqrt()
    with path(name):
        gaps = (make(name, 3, 4, torch.float32)(x).detach() - right).abs().amax((0, 2, 3))
    return Far(float(gaps[:2].max()), float(gaps[2]))


# ---- What is kept for the gradient ---------------------------------------------------------------


def kept(layer: nn.Module, x: Tensor) -> int:
    """Bytes that a forward pass keeps for the backward; what several tensors share counts once."""
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
    shares = {}
    for name in IMPLEMENTATIONS:
        with path(name):
            layer = make(name, shape[1], len(shape), x.dtype, relu=True)
            shares[name] = kept(layer, x) / x.nbytes
    return shares


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
    """`REFUSED`, tried on torch.nn's layer and on ours. AssertionError where one takes it."""
    refused = {}
    for what, (options, training, x) in REFUSED.items():
        errors = []
        for layer in (nn.BatchNorm1d(3, **options), layers.BatchNorm(3, **options)):
            state = layer.train(training).state_dict()
            before = {name: value.clone() for name, value in state.items()}
            try:
                layer(x)
            except (ValueError, RuntimeError) as raised:  # NotImplementedError is a RuntimeError
                errors.append(raised)
            else:
                raise AssertionError(f"{what}: {layer} takes it")
        after = layer.state_dict()
        untouched = all(torch.equal(before[name], value) for name, value in after.items())
        names = (type(error).__name__ for error in errors)
        refused[what] = Refusal(*names, str(errors[1]), untouched)
    return refused


# ---- Several processes ---------------------------------------------------------------------------


def across(sizes: Sequence[int], seed: int = 0) -> dict[str, Step]:
    """As many processes as `sizes`, joined by gloo, each with so many examples, against one.

    Errors of a training step in float64, in spacings: of layers that were given the process group,
    and of layers that were not. Raises AssertionError where the processes of a group do not agree
    on the statistics to the last bit.
    """
    right = expected(*_shared(sizes, seed), "training")
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(_one_process, (tuple(sizes), seed, folder), nprocs=len(sizes))
        files = [Path(folder) / f"{rank}.pt" for rank in range(len(sizes))]
        processes = [torch.load(file, weights_only=False) for file in files]
    errors = {}
    for name in ("together", "each on its own"):
        parts = [process[name] for process in processes]
        y, dx = (np.concatenate(arrays) for arrays in list(zip(*parts, strict=True))[:2])
        dweight, dbias = (sum(arrays) for arrays in list(zip(*parts, strict=True))[2:4])
        first = parts[0]
        if name == "together":
            for part in parts:
                agrees = np.array_equal(part[4:], first[4:])  # mean and variance
                assert agrees, "the processes have different statistics"
        whole = Step(y, dx, dweight, dbias, first.mean, first.var)
        errors[name] = distance(whole, right, [torch.finfo(torch.float64).eps] * 6)
    return errors


def _shared(sizes: Sequence[int], seed: int) -> list[Tensor]:
    return batch("images", torch.float64, (sum(sizes), 3, 5, 4), seed=seed)


def _one_process(rank: int, sizes: tuple[int, ...], seed: int, folder: str) -> None:
    silence = os.open(os.devnull, os.O_WRONLY)
    # gloo greets everybody; what goes wrong is raised in the process that waits for this one.
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    distributed.init_process_group("gloo", meeting, rank=rank, world_size=len(sizes))
    x, dy, *parameters = _shared(sizes, seed)
    ends = list(itertools.accumulate(sizes, initial=0))
    mine = slice(ends[rank], ends[rank + 1])
    arguments = [x[mine], dy[mine], *parameters]
    groups = {"together": "world", "each on its own": None}
    steps = {name: step("ours", arguments, "training", g)[0] for name, g in groups.items()}
    torch.save(steps, f"{folder}/{rank}.pt")
    distributed.barrier()
    distributed.destroy_process_group()


def pooled(x: Tensor, sizes: list[int]) -> tuple[Tensor, Tensor]:
    """Mean and variance of a batch from those of its parts, of so many examples each."""
    zeros = x.new_zeros(x.shape[1])
    parts = [plain.moments(p)[:2] if len(p) else (zeros, zeros) for p in x.split(sizes)]
    means, variances = map(
        torch.stack, zip(*((plain.whole(mean), var) for mean, var in parts), strict=True)
    )
    return aten.pool(means, variances, x.new_tensor(sizes).unsqueeze(1))


# ---- Speed, as recorded --------------------------------------------------------------------------


def recorded(device: str) -> dict | None:
    """What ``python -m bnkit bench --json`` has stored for "cpu" or "cuda"; None for nothing."""
    file = paths.root() / "data" / "bench" / f"{device}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def rows(
    measured: dict, what: str, layout: str | None = None, dtype: str = "float32"
) -> list[dict]:
    """The rows of a recorded measurement about one thing."""
    wanted = [row for row in measured["rows"] if (row["what"], row["dtype"]) == (what, dtype)]
    return [row for row in wanted if layout in (None, row["layout"])]


def name_of(shape: list[int]) -> str:
    """How a shape is written in figures: channels and side of a map, or both axes of vectors."""
    return f"{shape[1]} × {shape[2]}²" if len(shape) == 4 else " × ".join(map(str, shape))


# Of two peers the faster one.
REFERENCES = {"layer": "torch.nn", "layer with ReLU": "torch.nn, then ReLU in place"}


def ratios(measured: dict, dtype: str = "float32") -> tuple[list[str], dict[str, dict]]:
    """A figure's data: names of the shapes of maps, and layout -> what -> quartiles, (shapes, 3).

    They are those of the ratios to `REFERENCES`.
    """

    def maps(what: str, layout: str) -> list[dict]:
        return [row for row in rows(measured, what, layout, dtype) if len(row["shape"]) == 4]

    layouts = {}
    for layout in ("contiguous", "channels last"):
        peers = REFERENCES.items()
        layouts[layout] = {w: [row["ratios"][p] for row in maps(w, layout)] for w, p in peers}
    return [name_of(row["shape"]) for row in maps("layer", "contiguous")], layouts


def bytes_of(row: dict) -> int:
    """How large the batch of a row is."""
    return int(np.prod(row["shape"])) * DTYPES[row["dtype"]].itemsize


def shares_of_the_limit(measured: dict, dtype: str = "float32") -> dict[str, tuple]:
    """How near to the speed of a copy: layout -> (sizes in MiB, rising, who -> shares).

    1 is a layer that spends no more time than moving its tensors takes.
    """
    shares = {}
    for layout in ("contiguous", "channels last"):
        copied = [row for row in rows(measured, "layer", layout, dtype) if "copy" in row["times"]]
        copied.sort(key=bytes_of)
        medians = {}
        for who in ("ours", "torch.nn"):
            times = [(row["times"]["copy"][1], row["times"][who][1]) for row in copied]
            medians[who] = [2.5 * copy / time for copy, time in times]
        shares[layout] = [bytes_of(row) / 2**20 for row in copied], medians
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
        missed = self.of - self.reached
        if self.of == 1:
            return "**missed**" if missed else "reached"
        return f"**missed** on {missed} of {self.of}" if missed else f"reached on all {self.of}"


def verdict(measured: list[dict], peer: str, wanted: float) -> Verdict:
    """Hold the medians of the rows that were measured against `peer` to a goal."""
    measured = [row for row in measured if peer in row["ratios"]]
    medians = [row["ratios"][peer][1] for row in measured]
    worst = int(np.argmin(medians))
    where = f"{name_of(measured[worst]['shape'])}, {measured[worst]['layout']}"
    reached = sum(median >= wanted for median in medians)
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
    return [(goal, _outcome(goal, recorded(goal.device))) for goal in GOALS]


def _outcome(goal: Goal, on_device: dict | None) -> Verdict | None:
    if on_device is None:
        return None
    measured = [row for dtype in DTYPES for row in rows(on_device, goal.what, dtype=dtype)]
    large = [row for row in measured if not goal.large or bytes_of(row) >= 2**24]
    return verdict(large, goal.peer, goal.wanted)
