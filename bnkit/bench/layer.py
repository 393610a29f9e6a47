"""How fast: ours beside its peers, taken in turns in one process.

Absolute times depend on the machine and on what else it does; a ratio of two things measured
alternately much less. So every row times ours, its peers and a plain copy of the same tensor, round
after round, and keeps the quartiles over the rounds. On a CPU it is the processor time of one
thread: waiting for the processor is not counted. On a GPU it is the time until the device has
finished; where several cores are at work, the time on the wall.

The limit is memory. A forward and a backward pass must at least read x and write y, then read x and
dy and write dx: five times the tensor, where a copy moves it twice.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bnkit import layers, paths, reference
from bnkit.layers import BatchNorm, triton
from bnkit.networks.mlp import MLP
from bnkit.runs import records
from bnkit.runs.training import Recipe, fit

# Every distinct normalised map of BN-Inception (the paper's Figure 5): side of the map -> channels.
# The convolutions inside 3c and 4e that have stride 2 write maps of the next smaller side.
INCEPTION = {
    112: (64,),
    56: (64, 192),
    28: (32, 64, 96, 128),
    14: (64, 96, 128, 160, 192, 224, 256),
    7: (128, 160, 192, 224, 256, 320, 352),
}
BATCH = 32  # the paper's mini-batch (Section 4.2)
INCEPTION_SHAPES = [
    (BATCH, channels, side, side) for side, row in INCEPTION.items() for channels in row
]
MNIST_SHAPE = (60, 100)  # of the network of Section 4.1
# Compiling takes a minute for each of them.
COMPILED = [MNIST_SHAPE, (BATCH, 64, 56, 56), (BATCH, 192, 14, 14)]
REFERENCE_SHAPES = [MNIST_SHAPE, (256, 1024), (4096, 1024), (BATCH, 64, 56, 56)]
QUICK = {MNIST_SHAPE, (BATCH, 64, 28, 28), (BATCH, 192, 14, 14)}
LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
SMALLEST_COPIED = 2**20  # bytes; below, a copy is all overhead and says nothing about memory


class Row(NamedTuple):
    """One thing measured beside its peers."""

    what: str
    """What was timed: "layer", "layer with ReLU", "training", "reference", ..."""
    shape: list[int]
    """Of the batch."""
    layout: str
    """"contiguous" or "channels last"."""
    dtype: str
    path: str
    """What ``layers.backend`` said, for the layer; "2 cores", say, where it is not one; else empty.
    """
    times: dict[str, list[float]]
    """Name -> seconds: quartile, median, quartile over rounds. One of them is "ours"."""
    ratios: dict[str, list[float]]
    """Peer -> its time over that of ours, the same round's, likewise: above 1, ours is faster."""
    memory: dict[str, float] | None = None
    """Name -> MiB, the most that a process of its own held; where that was measured."""

    def __str__(self) -> str:
        ratios = [
            f"{m:5.2f} ({a:.2f} to {b:.2f}) {peer}" for peer, (a, m, b) in self.ratios.items()
        ]
        shape = "x".join(map(str, self.shape))
        about = f"{self.what:16} {shape:14} {self.layout:13} {self.dtype:8}"
        return f"{about} {'  '.join(ratios)}"


# ---- Measuring -----------------------------------------------------------------------------------


def measure(
    calls: dict[str, Callable], rounds: int, device: str = "cpu", seconds: float = 0.02
) -> dict[str, np.ndarray]:
    """Seconds for each call, (rounds,): all in turns, each turn about `seconds` long.

    A turn begins with a call that is not counted, as the one before has left other numbers in the
    cache, and the order is another in each round. `device` says what counts: "cpu" this thread's
    time, "cuda" a GPU's, "cores" that on the wall.
    """
    counts, times = {}, {name: [] for name in calls}
    for name, call in calls.items():
        call()  # what is built on the first call is not counted
        counts[name] = max(1, round(seconds / max(_time(call, 1, device), 1e-6)))
    generator = np.random.default_rng(0)
    for _ in range(rounds):
        for name in generator.permutation(list(calls)):
            if device != "cores":  # whole trainings, which leave nothing in a cache
                calls[name]()
            times[name].append(_time(calls[name], counts[name], device))
    return {name: np.array(times[name]) for name in calls}


def _time(call: Callable, count: int, device: str) -> float:
    clock = time.thread_time if device == "cpu" else time.perf_counter
    # On several cores, other processes finish within the call.
    finished = torch.cuda.synchronize if device == "cuda" else lambda: None
    finished()
    began = clock()
    for _ in range(count):
        call()
    finished()
    return (clock() - began) / count


def row(
    calls: dict[str, Callable], rounds: int, device: str, *, what: str, shape: Sequence[int],
    layout: str = "contiguous", dtype: str = "float32", path: str = "",
) -> Row:  # fmt: skip
    """Measure, and take the ratios to "ours" round by round; "copy" is no peer, but the limit."""
    times = measure(calls, rounds, device)
    peers = [name for name in times if name not in ("ours", "copy")]
    ratios = {name: quartiles(times[name] / times["ours"]) for name in peers}
    if "copy" in times:
        ratios["the limit"] = quartiles(2.5 * times["copy"] / times["ours"])
    spread = {name: quartiles(time) for name, time in times.items()}
    return Row(what, list(shape), layout, dtype, path, spread, ratios)


def quartiles(values: np.ndarray) -> list[float]:
    """First quartile, median and third quartile, to four digits."""
    return records.round_to(np.percentile(values, [25, 50, 75]))


# ---- What is measured ----------------------------------------------------------------------------


def rows(rounds: int, device: str = "cpu", quick: bool = False) -> Iterator[Row]:
    """Everything, one row at a time; `quick`: three shapes, nothing compiled."""
    small = [MNIST_SHAPE, *INCEPTION_SHAPES]
    for shape in [shape for shape in small if not quick or shape in QUICK]:
        for layout in LAYOUTS if len(shape) == 4 else ["contiguous"]:
            for dtype in [torch.float32] if device == "cpu" else [torch.float32, torch.bfloat16]:
                compiled = not quick and shape in COMPILED and can_compile(device)
                yield layer(shape, layout, dtype, rounds, device, compiled=compiled)
                yield layer(shape, layout, dtype, rounds, device, relu=True)
    if device == "cpu":
        yield training(None, None, rounds)
        yield training(BatchNorm, nn.BatchNorm1d, rounds)
        for shape in REFERENCE_SHAPES[: 2 if quick else None]:
            yield numpy_reference(shape, rounds)


def can_compile(device: str) -> bool:
    """Whether ``torch.compile`` has what it needs: a C++ compiler for the CPU, Triton for a GPU."""
    if device == "cpu":
        return shutil.which("c++") is not None or shutil.which("g++") is not None
    return triton.triton is not None


def layer(
    shape: tuple[int, ...], layout: str, dtype: torch.dtype, rounds: int, device: str,
    relu: bool = False, compiled: bool = False,
) -> Row:  # fmt: skip
    """Forward and backward pass in training, against PyTorch's layer; parameters are float32."""
    kind = nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d
    theirs = kind(shape[1], device=device)
    ours = BatchNorm(shape[1], device=device, activation="relu" if relu else None)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    if len(shape) == 4:
        x = x.contiguous(memory_format=LAYOUTS[layout])
    dy, room = torch.randn_like(x), torch.empty_like(x)

    def step(module: Callable[[Tensor], Tensor]) -> Callable[[], None]:
        def run() -> None:
            leaf = x.detach().requires_grad_()
            module(leaf).backward(dy)

        return run

    calls = {"ours": step(ours)}
    if relu:
        calls["torch.nn, then ReLU"] = step(nn.Sequential(theirs, nn.ReLU()))
        calls["torch.nn, then ReLU in place"] = step(nn.Sequential(theirs, nn.ReLU(inplace=True)))
    else:
        calls["torch.nn"] = step(theirs)
        if compiled:
            torch.compiler.reset()  # one shape, one compilation
            calls["torch.nn, compiled"] = step(torch.compile(kind(shape[1], device=device)))
            calls["ours, compiled"] = step(torch.compile(BatchNorm(shape[1], device=device)))
    if x.nbytes >= SMALLEST_COPIED:
        calls["copy"] = lambda: room.copy_(x)
    about = {"layout": layout, "dtype": str(dtype).removeprefix("torch.")}
    what = "layer with ReLU" if relu else "layer"
    return row(calls, rounds, device, what=what, shape=shape, path=layers.backend(x), **about)


def training(norm: Callable | None, peer: Callable | None, rounds: int, steps: int = 50) -> Row:
    """Steps of the network of Section 4.1: ``training.fit`` against the loop one writes by hand."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 2, (60_000, 784), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 10, (60_000,), generator=generator)
    order = [torch.randint(0, 60_000, (60,), generator=generator) for _ in range(steps)]
    x = pixels.float()

    def by_hand() -> None:
        model = MLP(784, norm=peer)
        optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
        for index in order:
            descend(model, optimiser, x[index], labels[index])

    def ours() -> None:
        batches = ((pixels.index_select(0, i).float(), labels.index_select(0, i)) for i in order)
        fit(MLP(784, norm=norm), batches, Recipe(dataset="mnist", steps=steps))

    what = "training" if norm is None else "training with BN"
    calls = {"ours": ours, "a plain torch loop": by_hand}
    return row(calls, rounds, "cpu", what=what, shape=[60, 784])


def descend(model: nn.Module, optimiser: torch.optim.Optimizer, x: Tensor, labels: Tensor) -> None:
    """A step of training as one writes it by hand."""
    loss = cross_entropy(model(x), labels)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def numpy_reference(shape: tuple[int, ...], rounds: int) -> Row:
    """Forward and backward pass of the reference, against broadcasting as textbooks write it."""
    generator = np.random.default_rng(0)
    x, dy = (generator.standard_normal(shape, dtype=np.float32) for _ in range(2))
    gamma, beta = np.ones(shape[1], np.float32), np.zeros(shape[1], np.float32)
    axes = (0, *range(2, len(shape)))
    wide = (1, -1) + (1,) * (len(shape) - 2)

    def textbook() -> None:
        mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
        inv_std = 1 / np.sqrt(var + 1e-5)
        x_hat = (x - mean) * inv_std
        _ = gamma.reshape(wide) * x_hat + beta.reshape(wide)
        m = x.size // shape[1]
        dgamma, dbeta = (dy * x_hat).sum(axes, keepdims=True), dy.sum(axes, keepdims=True)
        _ = gamma.reshape(wide) * inv_std / m * (m * dy - dbeta - x_hat * dgamma)

    def ours() -> None:
        _, cache = reference.forward(x, gamma, beta)
        reference.backward(dy, cache)

    calls = {"ours": ours, "textbook NumPy": textbook}
    return row(calls, rounds, "cpu", what="reference", shape=shape)


# ---- Kept ----------------------------------------------------------------------------------------


def save(rows: list[Row], path: Path, rounds: int, device: str) -> Path:
    """Write the rows as one JSON file, a row a line, with when, where and by what."""
    name = "CPU, one thread" if device == "cpu" else torch.cuda.get_device_name()
    head = {"device": device, "rounds": rounds, "batch": BATCH}
    head["manifest"] = records.manifest(device=name)
    known = ({k: v for k, v in row._asdict().items() if v is not None} for row in rows)
    lines = ",\n".join(map(json.dumps, known))
    return paths.write_atomically(path, json.dumps(head)[:-1] + ',\n"rows": [\n' + lines + "\n]}\n")
