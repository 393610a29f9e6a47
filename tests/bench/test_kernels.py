"""What is said of kernels that were compiled and not run: parsed right, reckoned right, and still
true of the kernels there are.
"""

import importlib.util
import json

import pytest
import torch

from bnkit import paths
from bnkit.bench import kernels
from bnkit.bench.kernels import Kernel
from bnkit.layers import triton
from bnkit.studies import layer as study


def kernel(name="_partial_sums", registers=64, shared=0, warps=16, architecture=90):
    return Kernel(name, architecture, registers, 0, shared, warps, {}, {})


def test_widths_are_read_from_ptx():
    ptx = """
        @%p1 ld.global.v4.b32 { %r1, %r2, %r3, %r4 }, [ %rd1 + 0 ];
        ld.global.L1::evict_last.v2.b32 { %r1, %r2 }, [ %rd1 ];
        ld.global.b16 { %rs1 }, [ %rd2 + 0 ];
        ld.shared.b32 %r5, [ %r6 ];
        @%p2 st.global.v4.b32 [ %rd3 + 0 ], { %r1, %r2, %r3, %r4 };
        st.global.b32 [ %rd3 + 0 ], { %r1 };
    """
    assert kernels.widths(ptx, "ld") == {"128": 1, "64": 1, "16": 1}
    assert kernels.widths(ptx, "st") == {"128": 1, "32": 1}


@pytest.mark.parametrize(
    ("registers", "shared", "warps", "resident", "occupancy"),
    [
        (64, 0, 16, 2, 0.5),  # 65,536 registers are 2 x 512 threads x 64
        (65, 0, 16, 1, 0.25),  # given out by eights: 72
        (32, 0, 16, 4, 1.0),
        (16, 0, 1, 32, 0.5),  # no more than 32 programs
        (32, 100 * 1024, 4, 2, 0.125),  # of 228 KiB
    ],
)
def test_programs_that_fit_on_a_multiprocessor(registers, shared, warps, resident, occupancy):
    worked = kernel(registers=registers, shared=shared, warps=warps)
    assert (worked.resident, worked.occupancy) == (resident, occupancy)


def test_a_launch_is_reckoned_by_hand():
    """2²⁰ values of each of 64 channels: the device is full, and what counts is the bytes."""
    x = torch.empty(64, 64, 128, 128, device="meta")
    plan = triton._plan_of(x)
    moved, seconds = kernels.seconds(kernel("_merge_and_input_gradient"), x, plan)
    assert moved == 3 * x.nbytes + 2 * 4 * plan.grid[1] * 64
    assert seconds == moved / 3.35e12
    # One program alone has 4,096 values of dy and of x under way, where 3.35e12 · 0.7e-6 bytes fill
    # the device.
    alone = plan._replace(grid=(1, 1), each=x.numel() // 4096)
    moved, seconds = kernels.seconds(kernel("_partial_sums"), x, alone)
    assert seconds == pytest.approx(moved / 3.35e12 * (3.35e12 * 0.7e-6) / (4096 * 4 * 2))


@pytest.fixture(scope="module")
def recorded():
    return json.loads((paths.root() / "data/bench/kernels.json").read_text())


def test_the_record_is_of_these_kernels(recorded):
    assert recorded["source"] == kernels.source(), (
        "bnkit/layers/triton.py has changed since data/bench/kernels.json was made; "
        "python -m bnkit bench --kernels --json data/bench/kernels.json makes it again."
    )
    wanted = [(list(s), name, str(d).removeprefix("torch.")) for s, name, d in kernels.cases()]
    for architecture in kernels.DEVICES:
        steps = [s for s in recorded["steps"] if s["architecture"] == architecture]
        assert [(s["shape"], s["layout"], s["dtype"]) for s in steps] == wanted


def test_no_number_spills_and_reads_are_as_wide_as_alignment_allows(recorded):
    assert all(made["spilled"] == 0 for made in recorded["kernels"])
    for step in recorded["steps"]:
        shape, itemsize = step["shape"], study.DTYPES[step["dtype"]].itemsize
        last = step["layout"] == "channels last" or len(shape) == 2
        row = shape[1] if last else shape[2] * shape[3]
        together = next(n for n in (16, 8, 4, 2, 1) if row % n == 0)
        wanted = str(8 * min(16, together * itemsize))
        for place in step["kernels"]:
            made = recorded["kernels"][place]
            tensors = kernels.READS[made["name"]]
            assert made["loads"].get(wanted, 0) >= tensors, (step, made)
            if kernels.WRITES[made["name"]]:
                assert made["stores"].get(wanted, 0) >= 1, (step, made)


def test_a_kernel_compiled_now_is_as_recorded(recorded):
    """One shape on one architecture: registers and widths are the compiler's, not ours."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip(
            "THE KERNELS ARE NOT COMPILED: triton is not installed; "
            "on Linux: pip install -e '.[kernels]'"
        )
    [mnist, *_] = kernels.cases()
    try:
        made = kernels.account([90], [mnist[0]])
    except kernels.Unavailable as error:
        pytest.skip(f"THE KERNELS ARE NOT COMPILED: {error}")
    step = next(s for s in recorded["steps"] if s["architecture"] == 90)
    assert made["steps"][0]["shape"] == step["shape"] == [60, 100]
    expected = [recorded["kernels"][place] for place in step["kernels"]]
    assert [made["kernels"][place] for place in made["steps"][0]["kernels"]] == expected
    assert made["steps"][0]["share"] == step["share"]
