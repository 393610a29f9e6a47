"""The kernels compiled for an H100, which needs no GPU: what the interpreter cannot see.

The compiler is stricter about types than the interpreter, and it tells what decides the speed of a kernel that is bound
by memory: whether it reads 16 bytes at once, and whether its numbers fit into the registers.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bnkit import paths

IMAGES, ROWS, SMALL = (32, 64, 56 * 56), (32 * 56 * 56, 64, 1), (60, 100, 1)  # (N, C, L) as they lie in memory
CASES = {  # kernel, shape, what differs from float32 with weight and bias and a ReLU
    "whole forward": ("_whole_forward", SMALL, {}),
    "whole forward of 8192 values": ("_whole_forward", (32, 576, 14 * 14), {}),
    "whole backward": ("_whole_backward", SMALL, {}),
    "whole backward of 8192 values": ("_whole_backward", (32, 576, 14 * 14), {}),
    "statistics": ("_partial_moments", IMAGES, {}),
    "statistics, channels last, bfloat16": ("_partial_moments", ROWS, {"dtype": "bf16"}),
    "statistics, wide": ("_partial_moments", (2**20, 2**12, 1), {}),
    "statistics, odd rows": ("_partial_moments", (32, 64, 57 * 57), {}),
    "statistics merged": ("_merge_moments", IMAGES, {}),
    "forward": ("_merge_and_normalise", IMAGES, {"none": ["running_mean_ptr", "running_var_ptr"]}),
    "forward, channels last, bfloat16": ("_merge_and_normalise", ROWS, {"dtype": "bf16"}),
    "normalise": ("_normalise", IMAGES, {"none": ["weight_ptr", "bias_ptr"], "relu": False}),
    "by running values": ("_normalise_by_running", IMAGES, {}),
    "sums": ("_partial_sums", IMAGES, {"dtype": "fp16"}),
    "sums, channels last": ("_partial_sums", ROWS, {}),
    "sums merged": ("_merge_sums", IMAGES, {}),
    "backward": ("_merge_and_input_gradient", IMAGES, {}),
    "backward, channels last": ("_merge_and_input_gradient", ROWS, {}),
    "input gradient": ("_input_gradient", IMAGES, {"relu": False}),
    "input gradient, constants": ("_input_gradient", IMAGES, {"none": ["dweight_ptr", "dbias_ptr"]}),
}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """What became of each case, made in a process where Triton is imported to compile, whatever torch was built for."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip("THE KERNELS ARE NOT COMPILED: triton is not installed; on Linux: pip install -e '.[kernels]'")
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path_factory.mktemp("cache"))}
    run = subprocess.run(
        [sys.executable, __file__], cwd=paths.root(), env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-5_000:]
    return json.loads(run.stdout)


@pytest.mark.parametrize("name", CASES)
def test_numbers_stay_in_registers(name, compiled):
    assert compiled[name]["stack"] == 0


@pytest.mark.parametrize("name", [name for name in CASES if "merged" not in name and "odd" not in name])
def test_sixteen_bytes_are_read_at_once(name, compiled):
    """Of x, and of dy where there is one."""
    kernel, *_ = CASES[name]
    assert compiled[name]["wide loads"] >= 1 + any(word in kernel for word in ("backward", "sums", "gradient"))


def test_rows_of_odd_length_are_read_one_by_one(compiled):
    """So the number above can be zero: only one row in four starts at a multiple of 16 bytes."""
    assert compiled["statistics, odd rows"]["wide loads"] == 0


# ---- In a process of its own ----------------------------------------------------------------------------------------


def compile_case(kernel, shape, dtype="fp32", none=(), relu=True):
    """Compile as a launch would, with pointers that torch has aligned; return what the machine code says."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from bnkit import kernels

    kernel, plan = getattr(kernels, kernel), kernels.make_plan(*shape)
    constants = dict(plan.parts if "ALIGN" not in kernel.arg_names else plan.sizes)
    warps = constants.pop("num_warps")
    constants |= {"RELU": relu, "BLOCK_S": plan.parts["BLOCK_S"]} | dict.fromkeys(none)
    signature, aligned = {}, {}
    for position, name in enumerate(kernel.arg_names):
        if name in constants:
            signature[name] = "constexpr"
        elif name.endswith("_ptr"):
            signature[name] = f"*{dtype if name in ('x_ptr', 'y_ptr', 'dy_ptr', 'dx_ptr') else 'fp32'}"
        else:
            signature[name] = "i32" if name in (*kernels.SIZES, "C") else "fp32"
        if name in ("x_ptr", "y_ptr", "dy_ptr", "dx_ptr", "parts_ptr") or (name == "C" and shape[1] % 16 == 0):
            aligned[(position,)] = [["tt.divisibility", 16]]
    constants = {name: value for name, value in constants.items() if name in signature}
    source = ASTSource(kernel, signature, constants, aligned)
    result = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": warps})
    tools = Path(triton.__file__).parent / "backends/nvidia/bin"
    cubin = Path(os.environ["TRITON_CACHE_DIR"]) / "kernel.cubin"
    cubin.write_bytes(result.asm["cubin"])
    usage = subprocess.run([tools / "cuobjdump", "-res-usage", cubin], capture_output=True, text=True, check=True)
    registers, stack = re.search(r"REG:(\d+) STACK:(\d+)", usage.stdout).groups()
    return {
        "registers": int(registers),
        "stack": int(stack),  # bytes of numbers that found no register
        "wide loads": len(re.findall(r"ld\.global\.v4\.b32", result.asm["ptx"])),
    }


if __name__ == "__main__":
    print(json.dumps({name: compile_case(*case[:2], **case[2]) for name, case in CASES.items()}))
