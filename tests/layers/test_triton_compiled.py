"""The kernels compiled for an H100, which needs no GPU: what the interpreter cannot see.

The compiler is stricter about types than the interpreter, and it tells what decides the speed of a
kernel that is bound by memory: whether it reads 16 bytes at once, and whether its numbers fit into
the registers. Each step is called as ever, on tensors that lie on the CPU; Triton believes in a
GPU, compiles, and is stopped before it launches.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bnkit import paths
from bnkit.layers import triton

KERNELS = {
    "whole": ["_whole_forward", "_whole_backward"],
    "split": ["_partial_moments", "_merge_and_normalise", "_partial_sums",
              "_merge_and_input_gradient"],
    "steps": ["_partial_moments", "_merge_moments", "_normalise", "_partial_sums", "_merge_sums",
              "_input_gradient", "_input_gradient", "_normalise_by_running"],
}  # fmt: skip
CASES = {  # shape, memory format, dtype, ReLU, and the kernels that a step must have used
    "small": ((60, 100), torch.contiguous_format, torch.float32, False, "whole"),
    "8192 values a channel": (
        (32, 576, 14, 14),
        torch.contiguous_format,
        torch.float32,
        True,
        "whole",
    ),
    "images": ((32, 64, 56, 56), torch.contiguous_format, torch.float32, True, "split"),
    "images, channels last": (
        (32, 64, 56, 56),
        torch.channels_last,
        torch.bfloat16,
        False,
        "split",
    ),
    "images, step by step": (
        (32, 64, 56, 56),
        torch.contiguous_format,
        torch.float16,
        True,
        "steps",
    ),
    "wide": ((32, 64, 56, 56), torch.channels_last, torch.float32, False, "split"),
    "odd rows": ((32, 64, 57, 57), torch.contiguous_format, torch.float32, False, "split"),
}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """What became of each case, made in a process where Triton is imported to compile, whatever
    torch was built for."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip(
            "THE KERNELS ARE NOT COMPILED: triton is not installed; "
            "on Linux: pip install -e '.[kernels]'"
        )
    environment = os.environ | {
        "TRITON_INTERPRET": "0",
        "TRITON_CACHE_DIR": str(tmp_path_factory.mktemp("cache")),
    }
    command = [sys.executable, "-W", "error", __file__]
    run = subprocess.run(
        command, cwd=paths.root(), env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-5_000:]
    return json.loads(run.stdout)


@pytest.mark.parametrize("case", CASES)
def test_a_step_compiles(case, compiled):
    assert [kernel["name"] for kernel in compiled[case]] == KERNELS[CASES[case][-1]]


@pytest.mark.parametrize("case", CASES)
def test_numbers_stay_in_registers(case, compiled):
    """Of 65,536 a multiprocessor has, two programs of 512 threads can have 64 a thread."""
    for kernel in compiled[case]:
        assert kernel["spilled"] == 0, kernel
        assert kernel["registers"] <= 64, kernel


@pytest.mark.parametrize("case", [case for case in CASES if case != "odd rows"])
def test_sixteen_bytes_are_read_at_once(case, compiled):
    """Of x, and of dy where there is one."""
    for kernel in compiled[case]:
        if kernel["name"] not in ("_merge_moments", "_merge_sums"):
            tensors = 1 + any(word in kernel["name"] for word in ("backward", "sums", "gradient"))
            assert kernel["wide loads"] >= tensors, kernel


def test_rows_of_odd_length_are_read_one_by_one(compiled):
    """So the number above can be zero: only one row in four starts at a multiple of 16 bytes."""
    assert [kernel["wide loads"] for kernel in compiled["odd rows"]] == [0, 0, 0, 0]


def test_another_batch_size_is_not_compiled_again(compiled):
    """The last batch of an epoch is shorter: as long as its tile is the same, so is the kernel."""
    assert compiled["kernels for 60 and for 57 vectors"] == [1, 1]


# ---- In a process of its own ---------------------------------------------------------------------


def main():
    """Print, for each case, the name of each kernel in turn and what its machine code says."""
    from triton.backends.compiler import GPUTarget
    from triton.runtime import JITFunction, driver

    made = []

    def compile_only(kernel, grid):
        return lambda *args, **flags: made.append(
            kernel.run(*args, grid=grid, warmup=True, **flags)
        )

    JITFunction.__getitem__ = compile_only
    driver.set_active(
        SimpleNamespace(
            get_current_target=lambda: GPUTarget("cuda", 90, 32),
            get_current_device=lambda: 0,
            get_current_stream=lambda device: 0,
        )
    )
    report = {}
    for case, (shape, memory_format, dtype, relu, kind) in CASES.items():
        triton.wide = lambda numel, answer=case == "wide": answer
        triton.make_plan.cache_clear()
        made.clear()
        launch(torch.empty(shape, dtype=dtype).contiguous(memory_format=memory_format), relu, kind)
        report[case] = [said(kernel) for kernel in made]
    made.clear()
    for n in (60, 57):
        launch(torch.empty(n, 100), False, "whole")
    report["kernels for 60 and for 57 vectors"] = [
        len({id(kernel) for kernel in made[i::2]}) for i in (0, 1)
    ]
    print(json.dumps(report))


def launch(x, relu, kind):
    weight, bias, running_mean, running_var = torch.empty(4, x.shape[1])
    if kind == "steps":
        mean, var, m = triton.moments(x)
        triton.normalise(x, mean, var, None, None, relu)
        dweight, dbias = triton.gradient_sums(x, x, mean, var, weight, bias, relu)
        triton.input_gradient(x, x, mean, var, weight, bias, dweight, dbias, m, relu)
        triton.input_gradient(x, x, mean, var, weight, bias, None, None, relu=relu)
        triton.forward_running(x, running_mean, running_var, weight, bias, 1e-5, relu)
    else:
        _, mean, _, inv_std = triton.forward(
            x, weight, bias, 1e-5, relu, running_mean, running_var, 0.1
        )
        triton.backward(x, x, mean, inv_std, weight, bias, relu)


def said(kernel):
    import triton

    cubin = Path(os.environ["TRITON_CACHE_DIR"]) / "kernel.cubin"
    cubin.write_bytes(kernel.asm["cubin"])
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    usage = subprocess.run([tool, "-res-usage", cubin], capture_output=True, text=True, check=True)
    registers, stack = re.search(r"REG:(\d+) STACK:(\d+)", usage.stdout).groups()
    return {
        "name": kernel.name,
        "registers": int(registers),
        "spilled": int(stack),  # bytes
        "wide loads": len(re.findall(r"ld\.global\.v4\.b32", kernel.asm["ptx"])),
    }


if __name__ == "__main__":
    main()
