"""The Triton kernels against the NumPy reference in float64 and torch's own: in Triton's
interpreter, and on a GPU.

The interpreter must be chosen before Triton is imported, and then for the whole process; so
`test_in_the_interpreter` runs this file once more, in a process of its own, where the device is
"cpu". On a GPU the same tests run on "cuda" (`pytest -m gpu`).
"""

import numpy as np
import pytest
import torch
from conftest import assert_close, run_in_interpreter
from hypothesis import given
from hypothesis import strategies as st

from bnkit import reference
from bnkit.layers import triton

try:
    from triton import language as tl
except ImportError:
    tl = None

INTERPRETED = triton.interpreted()
GPU = pytest.param(
    "cuda",
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    ],
)
devices = pytest.mark.parametrize("device", [*(["cpu"] if INTERPRETED else []), GPU])
interpreter_only = pytest.mark.skipif(not INTERPRETED, reason="runs inside test_in_the_interpreter")

EPS = 1e-3  # large enough that its place shows
TOLERANCE = {
    torch.float32: 2e-5,  # as in conftest
    torch.float16: 2e-3,  # the same
    torch.bfloat16: 2**-7,  # 8 bits, and the interpreter cuts off the rest where a GPU rounds
}
LAYOUTS = {  # shape, memory format
    "vectors": ((5, 3), torch.contiguous_format),
    "many vectors": ((19, 20), torch.contiguous_format),
    "sequences": ((4, 3, 7), torch.contiguous_format),
    "images": ((3, 2, 5, 6), torch.contiguous_format),
    "images, channels last": ((3, 4, 5, 6), torch.channels_last),
    "images, aligned": ((3, 2, 4, 8), torch.contiguous_format),  # rows of a multiple of 16 numbers
    "volumes": ((2, 3, 3, 2, 4), torch.contiguous_format),
    "volumes, channels last": ((2, 3, 3, 2, 4), torch.channels_last_3d),
    "one channel": ((6, 1, 3, 5), torch.contiguous_format),
    "many channels": ((2, 70), torch.contiguous_format),
    "long rows": ((2, 1, 150), torch.contiguous_format),
}
# several tiles and splits of small inputs
SMALL = {"WHOLE": 16, "TILE": 64, "SEGMENT": 16, "SECTOR": 4, "PER_WARP": 32}

if INTERPRETED:
    # For each call of a function inside a kernel the interpreter looks through all of Triton for
    # what to replace, and replaces it again: once is enough. It looks for overflow in each index
    # too, and these are small. Most of the time of these tests would go into that.
    from triton.runtime import interpreter

    interpreter.interpreter_builder.options = interpreter.InterpreterOptions(
        sanitize_overflow=False
    )
    seen = set()

    def call(self, *args, **kwargs):
        if self.fn not in seen:
            seen.add(self.fn)
            interpreter._patch_lang(self.fn)
        return self.rewrite()(*args, **kwargs)

    interpreter.InterpretedFunction.__call__ = call


@pytest.fixture(params=["whole", "split"])
def cut(request, monkeypatch):
    """Whether a channel fits into one program, as small inputs do, or is split among several."""
    if request.param == "split":
        small(monkeypatch)
    yield request.param
    triton.make_plan.cache_clear()


def small(monkeypatch):
    for name, value in SMALL.items():
        monkeypatch.setattr(triton, name, value)
    triton.make_plan.cache_clear()


# ---- One training step ---------------------------------------------------------------------------


class Step:
    """Inputs, and what the reference makes of them in float64. One weight is negative."""

    def __init__(self, layout, device, dtype=torch.float32, affine=True, relu=False):
        self.layout = layout
        shape, memory_format = LAYOUTS[layout] if isinstance(layout, str) else layout
        generator = torch.Generator().manual_seed(len(shape))
        along = (shape[1], *[1] * (len(shape) - 2))
        mean, spread = (
            torch.randn(along, generator=generator),
            torch.rand(along, generator=generator) + 0.1,
        )
        x, dy = torch.randn(2, *shape, generator=generator)
        parameters = torch.rand(4, shape[1], generator=generator) + 0.5
        parameters[0, 0] *= -1
        self.x, self.dy = (
            (v.to(device, dtype)).contiguous(memory_format=memory_format)
            for v in (spread * x + mean, dy)
        )
        self.weight, self.bias = (v.to(device, dtype) if affine else None for v in parameters[:2])
        self.running = [v.to(device) for v in parameters[2:]]
        self.relu = relu
        self.expect(shape[1])

    def expect(self, channels):
        x, dy = exact(self.x), exact(self.dy)
        gamma = np.ones(channels) if self.weight is None else exact(self.weight)
        beta = np.zeros(channels) if self.bias is None else exact(self.bias)
        y, cache = reference.forward(x, gamma, beta, EPS)
        dy = np.where(y > 0, dy, 0) if self.relu else dy
        self.dx, self.dweight, self.dbias = reference.backward(dy, cache)
        self.y = np.maximum(y, 0) if self.relu else y
        self.mean, self.var, self.inv_std = cache.mean, cache.var, cache.inv_std
        self.m = x.size // channels
        along = (-1, *[1] * (x.ndim - 2))
        self.dx_constant = dy * (gamma * cache.inv_std).reshape(along)

    def close(self, actual, expected):
        """x-shaped results as its dtype allows; all others are float32."""
        tolerance = TOLERANCE[self.x.dtype if actual.shape == self.x.shape else torch.float32]
        if actual.shape == self.x.shape:
            assert actual.dtype is self.x.dtype
            assert actual.stride() == self.x.stride()
        else:
            assert actual.dtype is torch.float32
        assert_close(actual, expected, tolerance)


def exact(tensor):
    return tensor.detach().cpu().double().numpy()


def fused(step):
    """``forward`` and ``backward``."""
    running = [v.clone() for v in step.running]
    y, mean, var, inv_std = triton.forward(
        step.x, step.weight, step.bias, EPS, step.relu, *running, momentum=0.3
    )
    dx, dweight, dbias = triton.backward(
        step.dy, step.x, mean, inv_std, step.weight, step.bias, step.relu
    )
    results = {
        "y": y,
        "mean": mean.sum(0),
        "var": var,
        "inv_std": inv_std,
        "dx": dx,
        "dweight": dweight,
        "dbias": dbias,
    }
    for name, value in results.items():
        step.close(value, getattr(step, name))
    new = step.mean, step.var * step.m / (step.m - 1)
    for value, old, batch in zip(running, step.running, new, strict=True):
        step.close(value, 0.7 * exact(old) + 0.3 * batch)


def by_steps(step):
    """The functions between which a caller may put something."""
    x, dy, weight, bias, relu = step.x, step.dy, step.weight, step.bias, step.relu
    mean, var, m = triton.moments(x)
    assert m == step.m
    inv_std = (var + EPS).rsqrt()
    y = triton.normalise(x, mean, inv_std, weight, bias, relu)
    dweight, dbias = triton.gradient_sums(dy, x, mean, inv_std, weight, bias, relu)
    known = dy, x, mean, inv_std, weight, bias
    results = {"mean": mean.sum(0), "var": var, "y": y, "dweight": dweight, "dbias": dbias}
    results["dx"] = triton.input_gradient(*known, dweight, dbias, m, relu)
    results["dx_constant"] = triton.input_gradient(*known, None, None, relu=relu)
    for name, value in results.items():
        step.close(value, getattr(step, name))
    on_device = triton.input_gradient(
        *known, dweight, dbias, torch.tensor(float(m), device=x.device), relu
    )
    step.close(on_device, step.dx)
    y, kept, inv_std = triton.forward_running(x, mean.sum(0), var, weight, bias, EPS, relu)
    for value, name in ((y, "y"), (kept.sum(0), "mean"), (inv_std, "inv_std")):
        step.close(value, getattr(step, name))


@devices
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_training_step_equals_the_reference(layout, cut, device):
    fused(Step(layout, device))


@devices
@pytest.mark.parametrize("layout", ["images", "volumes, channels last"])
def test_the_relu_is_part_of_the_step(layout, cut, device):
    step = Step(layout, device, relu=True)
    assert 0 < (step.y > 0).mean() < 1  # it opens and shuts
    fused(step)


@devices
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layout", ["images", "images, channels last"])
def test_sixteen_bits_are_computed_in_float32(layout, dtype, cut, device):
    fused(Step(layout, device, dtype, relu=True))


@devices
def test_without_weight_and_bias(cut, device):
    fused(Step("images", device, affine=False, relu=True))


@devices
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("layout", ["images", "images, channels last"])
def test_step_by_step(layout, relu, cut, device):
    by_steps(Step(layout, device, relu=relu))


@devices
@pytest.mark.parametrize(
    "layout", [((3, 2, 65, 67), torch.contiguous_format), ((3, 3, 65, 67), torch.channels_last)]
)
def test_tiles_of_their_real_size(layout, device):
    step = Step(layout, device)
    plan = triton.make_plan(*triton._in_memory(step.x))
    assert not plan.whole
    assert min(plan.tiles, plan.grid[1]) > 1
    fused(step)


@devices
def test_running_values_equal_those_of_torch(device):
    step = Step("images", device)
    theirs = torch.nn.BatchNorm2d(2, eps=EPS, momentum=0.3)
    theirs.running_mean, theirs.running_var = (v.cpu().clone() for v in step.running)
    theirs(step.x.cpu())
    running = [v.half() for v in step.running]  # of a model in 16 bits
    triton.forward(step.x, step.weight, step.bias, EPS, False, *step.running, momentum=0.3)
    triton.forward(step.x, step.weight, step.bias, EPS, False, *running, momentum=0.3)
    for ours, half, expected in zip(
        step.running, running, (theirs.running_mean, theirs.running_var), strict=True
    ):
        assert_close(ours, expected)
        assert half.dtype is torch.float16
        assert_close(half, expected)


@devices
def test_sums_count_what_the_relu_let_through(cut, device):
    """The backward opens the ReLU for exactly the values for which the forward did."""
    step = Step("images", device, relu=True)
    y, mean, _, inv_std = triton.forward(step.x, step.weight, step.bias, EPS, True)
    _, opened = triton.gradient_sums(
        torch.ones_like(y), step.x, mean, inv_std, step.weight, step.bias, True
    )
    assert torch.equal(opened, (y > 0).sum((0, 2, 3)).float())


@devices
def test_the_same_input_gives_the_same_bits(cut, device):
    step = Step("images", device)

    def bits():
        y, mean, var, inv_std = triton.forward(step.x, step.weight, step.bias, EPS)
        return (
            y,
            mean,
            var,
            *triton.backward(step.dy, step.x, mean, inv_std, step.weight, step.bias),
        )

    assert all(torch.equal(first, second) for first, second in zip(bits(), bits(), strict=True))


@devices
def test_wide_indices_give_the_same_bits(cut, device, monkeypatch):
    """What tensors of 2³¹ elements run, on a small one."""

    def bits():
        return triton.forward(step.x, step.weight, step.bias, EPS)[0]

    step = Step("images", device)
    narrow = bits()
    monkeypatch.setattr(triton, "wide", lambda numel: True)
    triton.make_plan.cache_clear()
    assert torch.equal(bits(), narrow)
    fused(step)


@devices
@pytest.mark.filterwarnings(
    "ignore:invalid value:RuntimeWarning"
)  # NumPy's, at work in the interpreter
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_and_infinity_spoil_their_channel_alone(bad, cut, device):
    step = Step("images", device)
    step.x[1, 1, 3, 4] = bad
    for relu in (False, True):
        y, _, var, _ = triton.forward(step.x, step.weight, step.bias, EPS, relu)
        assert var.isnan().tolist() == [False, True]
        assert y[:, 1].isnan().all()
        assert y[:, 0].isfinite().all()


# ---- The digits of the statistics, and mutants ---------------------------------------------------


def trap(device, mean):
    """Float32 of spread 1e-2 around a large mean, and the mean and variance of exactly these
    numbers."""
    generator = torch.Generator().manual_seed(1)
    x = (mean + 1e-2 * torch.randn(5, 1, 11, 13, generator=generator, dtype=torch.float64)).float()
    return x.to(device), x.double().mean((0, 2, 3)), x.double().var((0, 2, 3), correction=0)


def accurate(device, large):
    x, mean, var = trap(device, large)
    assert_close(triton.moments(x)[0][0], mean, tolerance=1e-7)  # half a step of float32
    assert_close(triton.moments(x)[1], var, tolerance=1e-6)


@devices
def test_a_large_mean_keeps_the_variance(cut, device):
    """To the last digits at mean 100, and also at 1e4, where a step of float32 is a tenth of the
    spread."""
    accurate(device, 100.0)
    accurate(device, 1e4)
    for large in (100.0, 1e4):
        x, mean, var = trap(device, large)
        y, our_mean, our_var, inv_std = triton.forward(x, None, None, EPS)
        assert_close(our_mean[0], mean, tolerance=1e-7)
        assert_close(our_mean.double().sum(0) - mean, torch.zeros(1), tolerance=1e-8)
        assert_close(our_var, var, tolerance=1e-6)
        expected = (x.cpu().double() - mean.view(-1, 1, 1)) / (var.view(-1, 1, 1) + EPS).sqrt()
        assert_close(y, expected, tolerance=1e-6)
        # Σ dy · x̂ with dy = x̂ − 1: a rounded mean would show in the second term
        _, dweight, _ = triton.backward(y - 1, x, our_mean, inv_std, None, None)
        wanted = (expected * (expected - 1)).sum().reshape(1)
        assert_close(dweight, wanted, tolerance=1e-6)


@devices
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")  # NumPy's, in the interpreter
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_constant_is_beta_and_an_infinite_variance_leaves_the_running_values(cut, device):
    x = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    x[:, 0], x[:, 2] = -7e5, 1e25 * x[:, 2]
    beta, running = torch.tensor([0.5, -1.0, 2.0]), (torch.zeros(3), torch.ones(3))
    beta, *running = (v.to(device) for v in (beta, *running))
    y, *_ = triton.forward(x.to(device), None, beta, EPS, False, *running, 0.1)
    assert (y[:, 0] == 0.5).all()
    assert (y[:, 2] == 2.0).all()
    assert running[0][2] == 0
    assert running[1][2] == 1
    assert running[0][0] == torch.tensor(-7e4)


if INTERPRETED:

    @triton.jit
    def mean_of_squares(mean, m2, count, value, inside, nth):
        """E[x²] − E[x]² in place of Welford's."""
        total, squares = mean * count, m2 + mean * mean * count
        total += tl.where(inside, value, 0.0)
        squares += tl.where(inside, value * value, 0.0)
        count += inside.to(tl.float32)
        mean = total / tl.maximum(count, 1.0)
        return mean, squares - mean * mean * count, count

    @triton.jit
    def no_origin(x_ptr, channels, C, L):
        """Statistics measured from zero."""
        return tl.zeros(channels.shape, tl.float32)

    @triton.jit
    def mean_of_means(mean, m2, count):
        """A merge that forgets how many values each part has."""
        parts = tl.maximum(triton._sum((count > 0).to(tl.float32)), 1.0)
        centre = triton._sum(mean) / parts
        gap = mean - centre[None, :, None]
        return centre, triton._sum(m2 + count * gap * gap)

    @triton.jit
    def variance_within(mean, m2, count):
        """A merge that forgets how far the parts lie from each other."""
        return triton._sum(count * mean) / tl.maximum(triton._sum(count), 1.0), triton._sum(m2)

    @triton.jit
    def relu_forgotten(dy, x, mean, scale, shift, RELU: tl.constexpr):
        return dy

    @triton.jit
    def constant_variance(dy, x, mean, inv_std, scale, dweight, dbias, inv_m):
        """The way through the variance forgotten."""
        return (dy - (dbias * inv_m)[None, :, None]) * scale[None, :, None]

    @triton.jit
    def whole_tiles(t, channels, N, C, L, ALIGN: tl.constexpr, WIDE: tl.constexpr,
                    BLOCK_N: tl.constexpr, BLOCK_L: tl.constexpr):  # fmt: skip
        """Ragged ends taken for data: the last row is counted again and again."""
        offsets, inside = right_tile(t, channels, N, C, L, ALIGN, WIDE, BLOCK_N, BLOCK_L)
        return tl.where(inside, offsets, 0), inside | True

    right_tile = triton._tile
    MUTANTS = {  # what is replaced, by what, and the check that must see it
        "E[x²] − E[x]²": (
            {"_observe": mean_of_squares, "_origin": no_origin},
            lambda: accurate("cpu", 100.0),
        ),
        "no origin": ({"_origin": no_origin}, lambda: accurate("cpu", 1e4)),
        "mean of means": ({"_pool": mean_of_means}, lambda: fused(Step("images", "cpu"))),
        "variance within": ({"_pool": variance_within}, lambda: fused(Step("images", "cpu"))),
        "ReLU forgotten": (
            {"_through_relu": relu_forgotten},
            lambda: fused(Step("images", "cpu", relu=True)),
        ),
        "constant variance": ({"_chain": constant_variance}, lambda: fused(Step("images", "cpu"))),
        "whole tiles": ({"_tile": whole_tiles}, lambda: fused(Step("images", "cpu"))),
    }


@interpreter_only
@pytest.mark.parametrize("name", MUTANTS if INTERPRETED else [])
def test_mutants_are_rejected(name, monkeypatch):
    """By the checks that the kernels themselves pass, above, in the same cut."""
    replaced, check = MUTANTS[name]
    small(monkeypatch)
    for attribute, mutant in replaced.items():
        monkeypatch.setattr(triton, attribute, mutant)
    with pytest.raises(AssertionError):
        check()
    triton.make_plan.cache_clear()


# ---- Launches ------------------------------------------------------------------------------------


@devices
def test_a_step_is_one_launch_each_way_or_two(cut, device, monkeypatch):
    launched = []
    launch = triton._launch
    monkeypatch.setattr(
        triton,
        "_launch",
        lambda kernel, *rest, **flags: [launched.append(kernel), launch(kernel, *rest, **flags)],
    )
    step = Step("images", device)
    _, mean, _, inv_std = triton.forward(step.x, step.weight, step.bias, EPS)
    assert len(launched) == {"whole": 1, "split": 2}[cut]
    triton.backward(step.dy, step.x, mean, inv_std, step.weight, step.bias)
    assert len(launched) == {"whole": 2, "split": 4}[cut]


@devices
def test_what_does_not_fit_is_refused(device):
    x = torch.randn(4, 3, 6, device=device)
    mean, inv_std = torch.zeros(3, device=device), torch.ones(3, device=device)
    with pytest.raises(
        ValueError, match=r"neither contiguous nor channels last; call \.contiguous"
    ):
        triton.moments(x[:, :, ::2])
    with pytest.raises(ValueError, match="lie in memory differently"):
        triton.backward(torch.randn(3, 4, 6, device=device), x, mean, inv_std, None, None)
    with pytest.raises(ValueError, match="one value per channel has no variance"):
        triton.forward(x[:1, :, 0].contiguous(), None, None, EPS)
    with pytest.raises(ValueError, match=r"has 3 channels; a vector of shape \(4,\) does not fit"):
        triton.normalise(x, mean, inv_std, torch.ones(4, device=device), None)
    with pytest.raises(ValueError, match="must be contiguous: they are written in place"):
        triton.forward(x, None, None, EPS, False, torch.zeros(6, device=device)[::2], inv_std)


@devices
def test_the_kernels_say_what_they_take(device, monkeypatch):
    x = torch.ones(2, 3, device=device)
    assert triton.unavailable(x) is None
    assert triton.unavailable(x.double()) == "dtype float64"
    assert triton.unavailable(x.long()) == "dtype int64"
    assert triton.unavailable(x[:0]) == "the tensor is empty"
    monkeypatch.setenv("BNKIT_KERNELS", "off")
    assert triton.unavailable(x) == "BNKIT_KERNELS=off"
    monkeypatch.setenv("BNKIT_KERNELS", "0")
    with pytest.raises(ValueError, match="it must be 'on' or 'off'"):
        triton.unavailable(x)


@pytest.mark.skipif(INTERPRETED, reason="the interpreter takes tensors on the CPU")
def test_on_the_cpu_the_kernels_say_so(monkeypatch):
    assert triton.unavailable(torch.ones(2, 3)) == "the tensor is on the CPU"
    assert triton.unavailable(torch.ones(2, 3, device="meta")) == "the tensor is on meta"


# ---- How the work is cut -------------------------------------------------------------------------

sizes = st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 300))


def visits(plan):
    """For each program of a channel, the (example, place) of each lane in each of its tiles; −1
    where outside."""
    n, _, length = plan.shape
    block_n, block_l = plan.sizes["BLOCK_N"], plan.sizes["BLOCK_L"]
    down = -(-n // block_n)
    for split in range(plan.grid[1]):
        tiles = np.arange(split * plan.each, min((split + 1) * plan.each, plan.tiles))
        example = (tiles % down * block_n)[:, None, None] + np.arange(block_n)[None, :, None]
        place = (tiles // down * block_l)[:, None, None] + np.arange(block_l)[None, None, :]
        yield np.where((example < n) & (place < length), example * length + place, -1).reshape(
            len(tiles), -1
        )


@given(sizes, st.booleans())
def test_tiles_cover_every_value_once_and_lanes_do_not_come_back(shape, tiny):
    with pytest.MonkeyPatch.context() as monkeypatch:
        small(monkeypatch) if tiny else triton.make_plan.cache_clear()
        plan = triton.make_plan(*shape)
        whole_limit, tile_limit = triton.WHOLE, triton.TILE
    triton.make_plan.cache_clear()
    n, c, length = shape
    programs = list(visits(plan))
    values = np.concatenate([program.ravel() for program in programs])
    assert np.array_equal(np.sort(values[values >= 0]), np.arange(n * length))
    for program in programs:
        assert len(program)  # none is idle
        inside = program >= 0
        assert (inside[:-1] | ~inside[1:]).all()  # ``_observe``: inside first, outside after
    block = [plan.sizes[name] for name in ("BLOCK_N", "BLOCK_C", "BLOCK_L")]
    assert all(side & (side - 1) == 0 for side in block)
    assert np.prod(block) <= (whole_limit if plan.whole else tile_limit)
    assert plan.grid[0] * block[1] >= c > (plan.grid[0] - 1) * block[1]
    assert plan.parts["BLOCK_S"] >= plan.grid[1]
    assert (c if length == 1 else length) % plan.sizes["ALIGN"] == 0
    assert not plan.whole or plan.tiles == plan.grid[1] == 1


def test_plans_of_shapes_that_matter():
    """Small and late layers in one launch; early layers in enough programs to fill a GPU, with room
    to spare."""
    assert triton.make_plan(60, 100, 1).whole
    assert triton.make_plan(32, 1024, 7 * 7).whole
    assert triton.make_plan(32, 576, 14 * 14).whole
    for shape in [
        (32, 64, 56 * 56),
        (32, 192, 28 * 28),
        (32 * 56 * 56, 64, 1),
        (32 * 28 * 28, 192, 1),
        (1, 1, 10**7),
    ]:
        plan = triton.make_plan(*shape)
        assert not plan.whole
        assert 200 <= plan.grid[0] * plan.grid[1] <= 2000, shape
        assert 3 * plan.grid[1] ** 2 <= shape[0] * shape[2] / 2, shape  # what the merging costs


def test_indices_are_as_wide_as_the_tensor_needs():
    assert not triton.wide(2**31 - 1)
    assert triton.wide(2**31)
    assert not triton.make_plan(2, 3, 5).sizes["WIDE"]
    assert triton.make_plan(2**11, 2**10, 2**10).sizes["WIDE"]
    assert not triton.make_plan(2**11 - 1, 2**10, 2**10).sizes["WIDE"]


# ---- On a GPU only -------------------------------------------------------------------------------

INCEPTION = [
    (32, 64, 112, 112),
    (32, 64, 56, 56),
    (32, 192, 28, 28),
    (32, 576, 14, 14),
    (32, 1024, 7, 7),
]


@pytest.mark.parametrize("device", [GPU])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", INCEPTION)
def test_the_shapes_of_inception_equal_torch_in_float64(shape, memory_format, dtype, device):
    generator = torch.Generator(device).manual_seed(0)
    x, dy = (2 * torch.randn(2, *shape, device=device, generator=generator) + 1).to(dtype)
    x, dy = x.contiguous(memory_format=memory_format), dy.contiguous(memory_format=memory_format)
    weight, bias = torch.rand(2, shape[1], device=device, generator=generator) - 0.5
    leaves = [v.double().requires_grad_() for v in (x, weight, bias)]
    expected = torch.nn.functional.batch_norm(
        leaves[0], None, None, *leaves[1:], training=True, eps=EPS
    )
    expected.backward(dy.double())
    y, mean, _, inv_std = triton.forward(x, weight, bias, EPS)
    gradients = triton.backward(dy, x, mean, inv_std, weight, bias)
    for actual, wanted in zip(
        (y, *gradients), (expected, *(leaf.grad for leaf in leaves)), strict=True
    ):
        assert_close(actual, wanted, TOLERANCE[dtype if actual.ndim == 4 else torch.float32])


@pytest.mark.parametrize("device", [GPU])
@pytest.mark.parametrize("shape", [(60, 100), (32, 64, 56, 56)])
def test_a_cuda_graph_replays_the_step_on_new_data(shape, device):
    x, dy = torch.randn(2, *shape, device=device)
    weight, bias = torch.rand(2, shape[1], device=device)
    running = torch.zeros(shape[1], device=device), torch.ones(shape[1], device=device)

    def step():
        y, mean, _, inv_std = triton.forward(x, weight, bias, EPS, True, *running, momentum=0.1)
        return y, *triton.backward(dy, x, mean, inv_std, weight, bias, True)

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        step()  # compiles
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    x.copy_(3 * torch.randn(*shape, device=device) + 1)
    dy.copy_(torch.randn(*shape, device=device))
    before = [v.clone() for v in running]
    graph.replay()
    replayed, moved = [v.clone() for v in captured], [v.clone() for v in running]
    for value, old in zip(running, before, strict=True):
        value.copy_(old)
    for ours, eager in zip((*replayed, *moved), (*step(), *running), strict=True):
        assert torch.equal(ours, eager)


@pytest.mark.parametrize("device", [GPU])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_tensor_of_2_to_the_31_elements(memory_format, device):
    """Values of a few bits, for which the sums of a channel are known: 1 and −1 by turns, but for
    the last place."""
    shape = (2, 16, 2**13, 2**13 + 1)
    needed = 2 * 4 * np.prod(shape)
    if torch.cuda.mem_get_info()[0] < needed:
        pytest.skip(f"needs {needed / 2**30:.0f} GiB of free GPU memory")
    assert np.prod(shape) > 2**31
    x = torch.empty(shape, device=device, dtype=torch.float16, memory_format=memory_format)
    x.copy_(1 - 2 * (torch.arange(shape[3], device=device) % 2).half())
    x[1, 15] += 3  # the end of memory
    y, mean, var, inv_std = triton.forward(x, None, None, EPS)
    positive = (shape[3] // 2 + 1) / shape[3]
    expected = torch.full((16,), 2 * positive - 1, dtype=torch.float64)
    expected[15] += 1.5
    assert_close(mean, expected, tolerance=1e-6)
    spread = torch.full((16,), 1 - (2 * positive - 1) ** 2, dtype=torch.float64)
    spread[15] += 1.5**2  # two halves, 3 apart
    assert_close(var, spread, tolerance=1e-6)
    for n, c in [(0, 0), (1, 0), (0, 15), (1, 15)]:
        wanted = (x[n, c, -1, -5:].double() - expected[c].to(device)) * inv_std[c]
        assert_close(y[n, c, -1, -5:], wanted, TOLERANCE[torch.float16])
    dx, _, dbias = triton.backward(torch.ones_like(x), x, mean, inv_std, None, None)
    assert_close(dbias, torch.full((16,), 2.0 * shape[2] * shape[3]), tolerance=1e-6)
    assert dx[1, 15, -1, -5:].abs().max() < 1e-3  # a constant gradient goes nowhere


# ---- In the interpreter --------------------------------------------------------------------------


@pytest.mark.skipif(INTERPRETED, reason="this is it")
def test_in_the_interpreter():
    assert run_in_interpreter(__file__, "THE KERNELS ARE NOT TESTED") > 50
