"""What compiling tells of the GPU kernels, where no GPU is: registers, widths, bytes, occupancy.

Triton's compiler and ptxas, which it brings along, translate each kernel for an architecture
without owning one. What they say is measured; the share of a copy's speed that follows from it is
reckoned, with the numbers of the device that its maker publishes, and was never timed.

The layer's speed is bound by memory, so the reckoning is of bytes alone. A launch takes as long as
its bytes at the bandwidth of the device, or longer where too few of them are under way at a time:
by Little's law, bandwidth times the time that one read takes. Caches help nobody, and what a launch
costs by itself is left out; on small maps it decides, hence the number of launches beside it.
"""

import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import torch

from bnkit import paths
from bnkit.bench.layer import INCEPTION_SHAPES, LAYOUTS, MNIST_SHAPE
from bnkit.layers import triton
from bnkit.runs import records

LATENCY = 0.7e-6  # seconds until a number arrives from memory, as reckoned in layers.triton
REGISTERS = 2**16  # of a multiprocessor, on all three; given out 256 at a time to a warp
WARPS, PROGRAMS = 64, 32  # at most at a time on a multiprocessor, on all three


class Device(NamedTuple):
    """What NVIDIA publishes of one GPU of an architecture."""

    name: str
    multiprocessors: int
    shared: int
    """KiB of shared memory of each."""
    bandwidth: float
    """Bytes a second."""


DEVICES = {  # compute capability: data sheets of A100 80 GB, H100 and B200, all SXM
    80: Device("A100", 108, 164, 2.039e12),
    90: Device("H100", 132, 228, 3.35e12),
    100: Device("B200", 148, 228, 8e12),
}
DTYPES = (torch.float32, torch.bfloat16)
# How many tensors of the batch's size a kernel reads and writes, and how many it has in its
# registers at a time.
READS = {
    "_whole_forward": 1, "_partial_moments": 1, "_merge_and_normalise": 1,
    "_whole_backward": 2, "_partial_sums": 2, "_merge_and_input_gradient": 2,
}  # fmt: skip
WRITES = dict.fromkeys(READS, 1) | {"_partial_moments": 0, "_partial_sums": 0}
PARTS = {"_partial_moments": 3, "_merge_and_normalise": 3}  # numbers of each program and channel
PARTS |= {"_partial_sums": 2, "_merge_and_input_gradient": 2}
LEAST = 5  # tensors that a forward and a backward pass must move: x, y; x, dy, dx


class Unavailable(RuntimeError):
    """Triton, or the tools of NVIDIA's that it brings along, are not there."""


class Kernel(NamedTuple):
    """What one kernel became on one architecture."""

    name: str
    architecture: int
    registers: int
    """Of a thread."""
    spilled: int
    """Bytes that did not fit into registers."""
    shared: int
    """Bytes of a program."""
    warps: int
    loads: dict[str, int]
    """Width in bits -> instructions that read memory so."""
    stores: dict[str, int]

    @property
    def resident(self) -> int:
        """Programs that fit on a multiprocessor at a time."""
        registers = -(-self.registers // 8) * 8 * 32 * self.warps
        shared = DEVICES[self.architecture].shared * 1024
        room = REGISTERS // registers, shared // (self.shared + 1024)
        return min(PROGRAMS, WARPS // self.warps, *room)

    @property
    def occupancy(self) -> float:
        """Share of the warps that a multiprocessor can hold."""
        return self.resident * self.warps / WARPS


class Step(NamedTuple):
    """A forward and a backward pass on one shape, as the launches of a step are planned."""

    shape: list[int]
    layout: str
    dtype: str
    architecture: int
    kernels: list[int]
    """The launches in order, by their places in the record's list of kernels."""
    moved: float
    """Bytes moved for each element, over the least possible."""
    share: float
    """Predicted share of the speed of a copy, at most 1; launches are not counted."""


# ---- What the compiler says ----------------------------------------------------------------------


def widths(ptx: str, operation: str) -> dict[str, int]:
    """Bits at a time -> how many instructions "ld" or "st" of global memory there are."""
    found = re.findall(rf"\b{operation}\.global[\w.:]*?(?:\.v(\d))?\.[bf](\d+)\b", ptx)
    return dict(Counter(str(int(many or 1) * int(bits)) for many, bits in found))


def resources(cubin: bytes) -> tuple[int, int, int]:
    """Registers, bytes spilled and bytes of shared memory, by NVIDIA's own tool."""
    import triton as compiler

    tool = Path(compiler.__file__).parent / "backends/nvidia/bin/cuobjdump"
    if not tool.exists():
        raise Unavailable("Triton is here without cuobjdump, which says what a kernel takes.")
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(cubin)
        command = [tool, "-res-usage", file.name]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    numbers = re.search(r"REG:(\d+) STACK:(\d+) SHARED:(\d+)", said).groups()
    return tuple(map(int, numbers))


def examined(made: object, architecture: int) -> Kernel:
    """A kernel as Triton has compiled it."""
    registers, spilled, shared = resources(made.asm["cubin"])
    shared, ptx = max(shared, made.metadata.shared), made.asm["ptx"]
    about = (made.metadata.name, architecture, registers, spilled, shared, made.metadata.num_warps)
    return Kernel(*about, widths(ptx, "ld"), widths(ptx, "st"))


def compiled(architecture: int, shapes: Iterable[tuple]) -> list[tuple[tuple, list]]:
    """Each (shape, layout, dtype) with the kernels of a step, compiled and not launched.

    Only where Triton was imported to compile, in a process of its own: see ``account``.
    """
    from triton.backends.compiler import GPUTarget
    from triton.runtime import JITFunction, driver

    made = []
    JITFunction.__getitem__ = lambda kernel, grid: (
        lambda *arguments, **flags: made.append(
            kernel.run(*arguments, grid=grid, warmup=True, **flags)
        )
    )
    target = {"get_current_target": lambda: GPUTarget("cuda", architecture, 32)}
    target |= {"get_current_device": lambda: 0, "get_current_stream": lambda device: 0}
    driver.set_active(SimpleNamespace(**target))
    steps = []
    for shape, layout, dtype in shapes:
        x = torch.empty(shape, dtype=dtype)
        if len(shape) == 4:
            x = x.contiguous(memory_format=LAYOUTS[layout])
        vectors = torch.empty(4, shape[1])
        made.clear()
        y, mean, _, inv_std = triton.forward(x, *vectors[:2], 1e-5, True, *vectors[2:], 0.1)
        triton.backward(y, x, mean, inv_std, *vectors[:2], True)
        steps.append(((shape, layout, dtype), list(made)))
    return steps


# ---- What follows from it ------------------------------------------------------------------------


def seconds(kernel: Kernel, x: torch.Tensor, plan: triton.Plan) -> tuple[float, float]:
    """Bytes that a launch moves, and how long that takes on its device, as reckoned."""
    device, itemsize = DEVICES[kernel.architecture], x.dtype.itemsize
    groups, splits = plan.grid
    tensors = READS[kernel.name] + WRITES[kernel.name]
    moved = tensors * x.numel() * itemsize + 4 * PARTS.get(kernel.name, 0) * splits * x.shape[1]
    # What is under way: the tile of each program that is at work, as far as it is not beyond the
    # end of the batch.
    at_a_time = min(groups * splits, kernel.resident * device.multiprocessors)
    tile = x.numel() / (groups * splits * plan.each)
    under_way = at_a_time * tile * itemsize * READS[kernel.name]
    filled = min(1.0, under_way / (device.bandwidth * LATENCY))
    return moved, moved / (device.bandwidth * filled)


def step(about: tuple, kernels: list[Kernel], places: list[int], architecture: int) -> Step:
    """Bytes and speed of the launches together."""
    shape, layout, dtype = about
    x = torch.empty(shape, dtype=dtype, device="meta")
    if len(shape) == 4:
        x = x.contiguous(memory_format=LAYOUTS[layout])
    plan, least = triton._plan_of(x), LEAST * x.numel() * dtype.itemsize
    moved, times = zip(*(seconds(kernel, x, plan) for kernel in kernels), strict=True)
    share = least / DEVICES[architecture].bandwidth / sum(times)
    name = str(dtype).removeprefix("torch.")
    return Step(list(shape), layout, name, architecture, places, sum(moved) / least, share)


def cases(shapes: Iterable[tuple[int, ...]] = (MNIST_SHAPE, *INCEPTION_SHAPES)) -> list[tuple]:
    """Each shape in each layout and dtype."""
    pairs = [(s, name) for s in shapes for name in (LAYOUTS if len(s) == 4 else ["contiguous"])]
    return [(*pair, dtype) for pair, dtype in itertools.product(pairs, DTYPES)]


def source() -> str:
    """A digest of the kernels' code, by which a record knows whether it is of these."""
    return hashlib.sha256(Path(triton.__file__).read_bytes()).hexdigest()


def account(architectures: Iterable[int] = tuple(DEVICES), shapes: list | None = None) -> dict:
    """The whole account, each architecture in a process of its own.

    Raises Unavailable where there is no Triton, or not all of it.
    """
    kernels, steps = [], []
    for architecture in architectures:
        with tempfile.TemporaryDirectory() as cache:
            known = {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": cache}
            command = [sys.executable, "-m", "bnkit.bench.kernels", str(architecture)]
            options = {"capture_output": True, "text": True, "cwd": paths.root()}
            given = json.dumps(shapes)
            run = subprocess.run(command, input=given, env=os.environ | known, **options)
        if run.returncode:
            raise Unavailable(f"the kernels were not compiled:\n{run.stderr[-2_000:]}")
        part, before = json.loads(run.stdout), len(kernels)
        kernels += part["kernels"]
        for row in part["steps"]:
            steps.append(row | {"kernels": [before + place for place in row["kernels"]]})
    return {"source": source(), "kernels": kernels, "steps": steps}


def _account_of(architecture: int, shapes: list | None) -> dict:
    """Of one architecture, in this process; a kernel that serves several shapes stands once."""
    if triton.triton is None:
        raise Unavailable("triton is not installed; on Linux: pip install -e '.[kernels]'")
    wanted = cases() if shapes is None else cases(map(tuple, shapes))
    places, kernels, steps = {}, [], []
    for about, made in compiled(architecture, wanted):
        for kernel in made:
            if id(kernel) not in places:
                places[id(kernel)] = len(kernels)
                kernels.append(examined(kernel, architecture))
        here = [places[id(kernel)] for kernel in made]
        steps.append(step(about, [kernels[place] for place in here], here, architecture))
    described = [k._asdict() | {"resident": k.resident, "occupancy": k.occupancy} for k in kernels]
    rounded = [
        s._asdict() | {"moved": round(s.moved, 4), "share": round(s.share, 4)} for s in steps
    ]
    return {"kernels": described, "steps": rounded}


class Reckoned(NamedTuple):
    """Steps on maps of one device, layout and dtype, together."""

    device: str
    layout: str
    dtype: str
    registers: int
    """The most that a thread takes."""
    spilled: int
    """Bytes, in all kernels."""
    widths: list[int]
    """Bits at a time in which the batch is read, narrowest first, each once."""
    occupancy: float
    """The lowest."""
    launches: list[int]
    """Of a step, as few and as many as there are."""
    shares: list[float]
    """Predicted shares of the speed of a copy: the lowest, the middle, the highest."""


def reckoned(made: dict) -> list[Reckoned]:
    """The account of the maps in a row for each device, layout and dtype."""
    together = {}
    for step in made["steps"]:
        if len(step["shape"]) == 4:
            key = DEVICES[step["architecture"]].name, step["layout"], step["dtype"]
            together.setdefault(key, []).append(step)
    lines = []
    for key, steps in together.items():
        used = [
            made["kernels"][place] for place in sorted({k for s in steps for k in s["kernels"]})
        ]
        lines.append(
            Reckoned(
                *key,
                max(kernel["registers"] for kernel in used),
                sum(kernel["spilled"] for kernel in used),
                sorted({_width_of_the_batch(kernel) for kernel in used if WRITES[kernel["name"]]}),
                min(kernel["occupancy"] for kernel in used),
                sorted({len(step["kernels"]) for step in steps}),
                np.quantile([step["share"] for step in steps], [0, 0.5, 1]).tolist(),
            )
        )
    return lines


def _width_of_the_batch(kernel: dict) -> int:
    """Of a kernel that writes the batch: as it is read. Numbers of a channel take 32 bits each."""
    return int(max(set(kernel["stores"]) - {"32"}, key=int, default="32"))


def summary(made: dict) -> str:
    """The account in lines."""
    return "\n".join(
        f"{line.device} {line.layout:13} {line.dtype:8} {line.registers:3} registers, "
        f"{line.spilled} bytes spilled, reads of {line.widths} bits, occupancy at least "
        f"{line.occupancy:.2f}, {line.launches} launches, predicted share of a copy "
        + " to ".join(f"{share:.2f}" for share in line.shares)
        for line in reckoned(made)
    )


def recorded() -> dict:
    """The account that ``python -m bnkit bench --kernels --json`` has stored."""
    file = paths.root() / "data" / "bench" / "kernels.json"
    return json.loads(file.read_text(encoding="utf-8"))


def save(made: dict, path: Path) -> Path:
    """Write the account as one JSON file, a kernel or a step a line."""
    manifest = records.manifest(device="none: compiled, not run")
    head = {"source": made["source"], "manifest": manifest}
    lists = [
        f'"{name}": [\n' + ",\n".join(map(json.dumps, made[name])) + "\n]"
        for name in ("kernels", "steps")
    ]
    return paths.write_atomically(path, json.dumps(head)[:-1] + ",\n" + ",\n".join(lists) + "}\n")


if __name__ == "__main__":
    print(json.dumps(_account_of(int(sys.argv[1]), json.load(sys.stdin))))
