"""The torch layer against torch's own, the paper's properties, and mutants of itself."""

import contextlib
import copy
import inspect
import itertools
import os
import pickle
import shutil
import subprocess
import sys
from contextvars import ContextVar
from pathlib import Path

import pytest
import torch
from checks import CHECKS
from conftest import assert_close
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from bnkit import layers
from bnkit.layers import BatchNorm, aten, batch_norm, convert, plain, triton

# by the number of axes
PEERS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
LAYOUTS = {  # (N, C) plus places -> how a batch lies in memory
    "vectors": ((), lambda x: x),
    "vectors, transposed": ((), lambda x: x.t().contiguous().t()),  # not contiguous
    "sequences": ((6,), lambda x: x),
    "images": ((3, 4), lambda x: x),
    "images, channels last": ((3, 4), lambda x: x.contiguous(memory_format=torch.channels_last)),
    # With gaps, and in no format.
    "images, every second row": ((3, 4), lambda x: x.repeat_interleave(2, dim=2)[:, :, ::2]),
    "images, batch innermost": ((3, 4), lambda x: lying(x, (1, 2, 3, 0))),
    "volumes": ((2, 3, 2), lambda x: x),
    "volumes, channels last": ((2, 3, 2), lambda x: lying(x, (0, 2, 3, 4, 1))),
}
EPS = 1e-3  # large enough that its place shows
PATHS = ["plain", "one call", "blocks"]  # of a CPU; tests/layers/test_triton.py has that of a GPU


def lying(x, order):
    """x with its axes in memory in this order, outermost first."""
    inverse = [order.index(axis) for axis in range(x.ndim)]
    return x.permute(order).contiguous().permute(inverse)


@pytest.fixture(params=PATHS)
def path(request, monkeypatch):
    """Which code the layers of a test run."""
    choose(request.param, monkeypatch)
    return request.param


@pytest.fixture
def plain_path(monkeypatch):
    choose("plain", monkeypatch)


def choose(path, monkeypatch):
    monkeypatch.setenv("BNKIT_KERNELS", "off" if path == "plain" else "on")
    # Blocks of two or a few examples, the last block shorter.
    limits = aten.Limits(small=0 if path == "blocks" else 10**9, block=80)
    monkeypatch.setattr(aten, "LIMITS", ContextVar("limits", default=limits))


on_every_path = pytest.mark.usefixtures("path")


def batches(layout, count=1, batch=4, channels=3, dtype=torch.float64):
    """Inputs and upstream gradients of `count` steps; each channel with a mean and spread of its
    own."""
    places, arrange = LAYOUTS[layout]
    generator = torch.Generator().manual_seed(count + batch)
    along = (channels, *[1] * len(places))
    mean, spread = (
        torch.randn(along, generator=generator),
        torch.rand(along, generator=generator) + 0.1,
    )
    for _ in range(count):
        x, dy = torch.randn(2, batch, channels, *places, generator=generator, dtype=torch.float64)
        yield arrange((spread * x + mean).to(dtype)), dy.to(dtype)


def pair(axes=4, channels=3, make=BatchNorm, **options):
    """Our layer and torch's, with the same random parameters (one weight is negative) and running
    values."""
    options = {"eps": EPS, "dtype": torch.float64, **options}
    ours, theirs = make(channels, **options), PEERS[axes](channels, **options)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in (*theirs.parameters(), *theirs.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(channels, generator=generator) + 0.5)
        if theirs.weight is not None:
            theirs.weight[0] *= -1
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def assert_same_steps(ours, theirs, steps, looks=(1, 2, 100), tolerance=None):
    """Train both side by side by SGD: outputs, gradients, parameters and buffers are equal at every
    step in `looks`."""
    optimisers = [
        torch.optim.SGD(m.parameters(), 0.1) if list(m.parameters()) else None
        for m in (ours, theirs)
    ]
    for step, (x, dy) in enumerate(steps, start=1):
        found = []
        for module, optimiser in zip((ours, theirs), optimisers, strict=True):
            leaf = x.detach().requires_grad_()
            y = module(leaf)
            module.zero_grad()
            y.backward(dy)
            found.append(
                {"y": y, "dx": leaf.grad}
                | {f"d{n}": p.grad.clone() for n, p in module.named_parameters()}
            )
            if optimiser:
                optimiser.step()
            found[-1] |= module.state_dict()
        if step in looks:
            assert found[0].keys() == found[1].keys()
            for name, expected in found[1].items():
                assert found[0][name].dtype is expected.dtype, name
                assert_close(found[0][name], expected, tolerance)


# ---- Grids against torch.nn ----------------------------------------------------------------------


@on_every_path
@pytest.mark.parametrize(
    "mode", ["training", "evaluation"]
)  # batch statistics and running values; both with gradients
@pytest.mark.parametrize(
    "batch", [2, 5, 64]
)  # 2: x̂ is ±1; 5: biased and unbiased differ; 64: as in use
@pytest.mark.parametrize("layout", LAYOUTS)
def test_equals_torch_over_sgd_steps(layout, batch, mode):
    # at 0.5 old and new would be alike
    ours, theirs = pair(2 + len(LAYOUTS[layout][0]), momentum=0.3)
    ours.train(mode == "training")
    theirs.train(mode == "training")
    assert_same_steps(ours, theirs, batches(layout, 2, batch))


@on_every_path
@pytest.mark.parametrize(
    ("layout", "momentum"),
    [
        ("vectors", 0.1),
        ("images", 0.1),
        ("images", None),
        ("vectors", 0.0),
        ("images", 1.0),
    ],  # None: the plain average
)
def test_buffers_equal_torch_after_a_hundred_batches(layout, momentum):
    ours, theirs = pair(2 + len(LAYOUTS[layout][0]), momentum=momentum)
    assert_same_steps(ours, theirs, batches(layout, 100, batch=3))
    assert ours.num_batches_tracked == 100


@on_every_path
@pytest.mark.parametrize("mode", ["training", "evaluation"])
@pytest.mark.parametrize(
    "options",
    [
        {"affine": False},
        {"bias": False},
        {"track_running_stats": False},  # batch statistics in evaluation too
        {"affine": False, "track_running_stats": False},  # no state at all
    ],
    ids=str,
)
@pytest.mark.parametrize("layout", ["vectors", "images, channels last"])
def test_options_equal_torch(layout, options, mode):
    ours, theirs = pair(2 + len(LAYOUTS[layout][0]), **options)
    ours.train(mode == "training")
    theirs.train(mode == "training")
    assert_same_steps(ours, theirs, batches(layout, 2))


@on_every_path
@pytest.mark.parametrize("layout", LAYOUTS)
def test_float32_equals_torch(layout):
    ours, theirs = pair(2 + len(LAYOUTS[layout][0]), dtype=torch.float32)
    assert_same_steps(ours, theirs, batches(layout, 2, dtype=torch.float32))


@on_every_path
@pytest.mark.parametrize("mode", ["training", "evaluation"])
@pytest.mark.parametrize(
    "parameters", ["float32", "the same"]
)  # as autocast has it, and as .half() has it
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layout", ["vectors", "images", "images, channels last"])
def test_sixteen_bits_are_float64_rounded_once(layout, dtype, parameters, mode):
    """Against torch.nn in float64 on the same numbers: torch's own 16-bit layer is further off, up
    to a whole step."""
    ours, theirs = pair(
        2 + len(LAYOUTS[layout][0]), dtype=torch.float32 if parameters == "float32" else dtype
    )
    (x, dy), *_ = batches(layout, batch=16, dtype=dtype)
    found = []
    for layer, wide in ((ours, torch.Tensor.clone), (theirs.double(), torch.Tensor.double)):
        layer.train(mode == "training")
        leaf = wide(x.detach()).requires_grad_()
        y = layer(leaf)
        y.backward(wide(dy))
        found.append(
            [
                y,
                leaf.grad,
                layer.weight.grad,
                layer.bias.grad,
                layer.running_mean,
                layer.running_var,
            ]
        )
    for actual, expected in zip(*found, strict=True):
        # half a step, and float32 beneath
        assert_close(actual, expected, tolerance=0.51 * torch.finfo(dtype).eps)


@on_every_path
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bit_statistics_are_float32(dtype):
    """4,096 values around 8 sum to 32,768, where float16 has steps of 32 and bfloat16 of 256."""
    x = (torch.randn(4096, 3, generator=torch.Generator().manual_seed(0)) + 8).to(dtype)
    layer = BatchNorm(3, momentum=1.0)
    layer(x)
    assert_close(layer.running_mean, x.double().mean(0), tolerance=1e-6)
    assert_close(layer.running_var, x.double().var(0), tolerance=1e-5)


@on_every_path
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_leaves_parameters_and_statistics_float32(dtype):
    found = []
    for norm in pair(dtype=torch.float32):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(2, 3, 1, bias=False), norm)
        with torch.autocast("cpu", dtype):
            y = net(torch.randn(4, 2, 5, 5))
        assert y.dtype is dtype
        y.backward(torch.randn(4, 3, 5, 5).to(dtype))
        found.append([y, *[p.grad for p in net.parameters()], *norm.state_dict().values()])
        assert norm.weight.grad.dtype is norm.running_var.dtype is torch.float32
    for ours, theirs in zip(*found, strict=True):
        assert_close(ours, theirs, tolerance=2 * torch.finfo(dtype).eps)


@on_every_path
@pytest.mark.parametrize("mode", ["training", "evaluation"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_result_and_gradient_keep_the_memory_format(layout, mode):
    """An optimised convolution before or after would else have to rearrange."""
    (x, dy), *_ = batches(layout)
    leaves = [x.detach().requires_grad_() for _ in range(2)]
    y, expected = [
        m.train(mode == "training")(leaf) for m, leaf in zip(pair(x.ndim), leaves, strict=True)
    ]
    assert y.stride() == expected.stride()
    [gradient] = torch.autograd.grad(y, leaves[0], dy.contiguous())
    assert gradient.stride() == y.stride()


SHAPES = st.lists(st.integers(1, 5), min_size=2, max_size=5)


@on_every_path
@given(
    shape=SHAPES.filter(lambda s: torch.Size(s).numel() > s[1]),
    training=st.booleans(),
    permuted=st.booleans(),
)
@example(shape=[1, 2, 1, 2], training=False, permuted=True)  # torch's own gradients are wrong
def test_any_shape_equals_torch(shape, training, permuted):
    """Of a contiguous copy: torch's fused operator misreads strides of axes of size 1."""
    generator = torch.Generator().manual_seed(0)
    x, dy = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    ours, theirs = (layer.train(training) for layer in pair(len(shape), shape[1]))
    leaves = [(x.transpose(0, -1).contiguous().transpose(0, -1) if permuted else x), x.contiguous()]
    results = [step_of(layer, leaf, dy) for layer, leaf in zip((ours, theirs), leaves, strict=True)]
    for mine, right in zip(*results, strict=True):
        assert_close(mine, right)


def step_of(layer, x, dy):
    """y, the three gradients and the buffers after a step."""
    leaf = x.detach().requires_grad_()
    y = layer(leaf)
    y.backward(dy)
    return [y, leaf.grad, layer.weight.grad, layer.bias.grad, *layer.buffers()]


AMBIGUOUS = [
    (1, 2, 1, 2),
    (2, 3, 1, 1),
    (1, 3, 2, 1),
    (3, 1, 2, 2),
    (1, 2, 1, 2, 2),
    (2, 2, 1, 1, 3),
]


@on_every_path
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("relu", [None, "relu"])
@pytest.mark.parametrize("shape", AMBIGUOUS)
def test_strides_of_axes_of_size_one_mean_nothing(shape, relu, training):
    """However x and dy lie in memory, separately, results are those of contiguous ones.

    With an axis of size 1 a tensor can be channels last and have the strides of no format.
    """
    generator = torch.Generator().manual_seed(0)
    x, dy = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    some = [*itertools.permutations(range(4))][::3] if len(shape) == 4 else CUBES
    layer = BatchNorm(shape[1], dtype=torch.float64, activation=relu).train(training)
    with torch.no_grad():
        layer.weight.copy_(torch.arange(1.0, shape[1] + 1))
        layer.bias.fill_(0.1)
    with layers.using("plain"):
        expected = step_of(copy.deepcopy(layer), x, dy)
    for order, order_of_dy in itertools.product([None, *some], repeat=2):
        layer.zero_grad()
        layer.reset_running_stats()
        laid = [t if o is None else lying(t, o) for t, o in ((x, order), (dy, order_of_dy))]
        for mine, wanted in zip(step_of(layer, *laid), expected, strict=True):
            assert_close(mine, wanted)


CUBES = [(0, 2, 3, 4, 1), (4, 1, 2, 3, 0), (0, 4, 2, 3, 1), (2, 0, 3, 4, 1), (1, 0, 2, 3, 4)]


@on_every_path
@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 2), (2, 3, 2, 2), (2, 1, 1, 3), (2, 3, 1, 2, 1)])
def test_expanded_inputs_and_gradients(shape):
    """One value many times over, in training; and a gradient that is, as ``sum`` has it."""
    generator = torch.Generator().manual_seed(0)
    x, dy = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    ones = torch.ones((), dtype=torch.float64).expand(shape)
    for training, leaf, gradient in (
        (True, x[..., :1].expand(shape), dy[..., :1].expand(shape)),
        (False, x, ones),
    ):
        ours, theirs = (layer.train(training) for layer in pair(len(shape), shape[1]))
        expected = step_of(theirs, leaf.contiguous(), gradient.contiguous())
        for mine, wanted in zip(step_of(ours, leaf, gradient), expected, strict=True):
            assert_close(mine, wanted)


@on_every_path
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(0, 3), (2, 3, 0)])
def test_an_empty_batch_is_no_batch(shape, training):
    for layer in pair(len(shape)):
        x = torch.ones(shape, dtype=torch.float64, requires_grad=True)
        before = copy.deepcopy(layer.train(training).state_dict())
        y = layer(x)
        y.sum().backward()
        assert y.shape == x.grad.shape == shape
        assert not layer.weight.grad.any()
        assert not layer.bias.grad.any()
        for name in ("running_mean", "running_var"):
            assert_close(layer.state_dict()[name], before[name], tolerance=0)
        assert layer.num_batches_tracked == int(training)  # as torch counts


@on_every_path
@pytest.mark.parametrize("layout", ["vectors", "images", "images, channels last"])
def test_a_channel_without_variance_is_beta_with_a_gradient_of_zero(layout):
    """Whatever the constant: 0.1 is no binary number, and 100 times 0.1 is not 10."""
    for dtype, constant in itertools.product((torch.float32, torch.float64), (0.1, -7e5)):
        x, dy = next(batches(layout, batch=100, dtype=dtype))
        x[:, 1] = constant
        ours, _ = pair(x.ndim, dtype=dtype, momentum=1.0)
        leaf = x.detach().requires_grad_()
        y = ours(leaf)
        y.backward(dy)
        # rounding of the mean, over √eps
        slack = 20 * torch.finfo(dtype).eps * max(1, abs(constant)) / EPS**0.5
        assert (y[:, 1] - ours.bias[1]).abs().max() <= slack
        assert 0 <= ours.running_var[1] <= slack**2
        assert leaf.grad.isfinite().all()


@on_every_path
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_spoil_their_channel_and_no_other(value):
    """As in torch, but that an infinite running value becomes NaN with the next batch, where
    torch's stays infinite."""
    (x, _), *_ = batches("images")
    x[0, 1, 0, 0] = value
    ours, theirs = pair()
    for _ in range(2):  # the second with running values that are spoilt already
        y = ours(x)
        torch.testing.assert_close(y, theirs(x), equal_nan=True)
        assert y.isfinite().all((0, 2, 3)).tolist() == [True, False, True]
    for name in ("running_mean", "running_var"):
        mine, peer = ours.get_buffer(name), theirs.get_buffer(name)
        assert mine.isfinite().tolist() == [True, False, True]
        assert_close(mine[[0, 2]], peer[[0, 2]])


# ---- The ReLU on the way -------------------------------------------------------------------------


class TwoLayers(nn.Sequential):
    """torch's way: a normalization and a ReLU, under the names of one layer."""

    def __init__(self, norm):
        super().__init__(norm, nn.ReLU())
        self.__dict__["norm"] = norm

    def named_parameters(self, *arguments, **options):
        return self.norm.named_parameters(*arguments, **options)

    def state_dict(self, *arguments, **options):
        return self.norm.state_dict(*arguments, **options)


def relu_pair(axes=4, make=BatchNorm, training=True, **options):
    theirs = pair(axes, **options)[1]
    with torch.no_grad():
        if theirs.bias is not None:
            theirs.bias.copy_(torch.tensor([0.3, -0.4, 0.1]))
        if theirs.running_mean is not None:
            theirs.running_mean.zero_()
    ours = make(3, **{"eps": EPS, "dtype": torch.float64, **options}, activation="relu")
    ours.load_state_dict(theirs.state_dict())
    return ours.train(training), TwoLayers(theirs).train(training)


@on_every_path
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_relu_equals_a_relu_behind_torchs_layer(layout, training):
    for options in ({}, {"affine": False}, {"bias": False}):
        ours, theirs = relu_pair(2 + len(LAYOUTS[layout][0]), training=training, **options)
        steps = list(batches(layout, 2, 5))
        first = steps[0][0]
        for norm in (ours, theirs.norm):
            norm.running_mean.copy_(first.transpose(0, 1).flatten(1).mean(1))
        with torch.no_grad():
            y = copy.deepcopy(ours)(first)
        assert 0.05 < (y == 0).double().mean() < 0.95  # or there would be nothing to see
        assert_same_steps(ours, theirs, steps)


@on_every_path
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layout", ["vectors", "images", "images, channels last"])
def test_relu_in_sixteen_bits(layout, dtype, training):
    """Against float64, with the gradient of those values that have not become 0 by rounding."""
    ours, theirs = relu_pair(2 + len(LAYOUTS[layout][0]), training=training, dtype=torch.float32)
    (x, dy), *_ = batches(layout, batch=16, dtype=dtype)
    found = []
    for layer, wide in ((ours, torch.Tensor.clone), (theirs.double(), torch.Tensor.double)):
        leaf = wide(x.detach()).requires_grad_()
        y = layer(leaf)
        y.backward(wide(dy))
        found.append([y, leaf.grad, *[p.grad for _, p in layer.named_parameters()]])
    for actual, expected in zip(*found, strict=True):
        assert_close(actual, expected, tolerance=0.51 * torch.finfo(dtype).eps)


@on_every_path
@pytest.mark.parametrize("training", [True, False])
def test_relu_passes_on_nan_and_stops_at_zero_as_torch_does(training):
    ours, theirs = relu_pair(2, training=training)
    with torch.no_grad():
        for layer in (ours, theirs.norm):
            layer.bias.zero_()
    x, dy = next(batches("vectors"))
    # a constant channel: the ReLU meets exactly 0 in training
    x[:, 0], x[0, 1] = (0.25, float("nan"))
    found = []
    for layer in (ours, theirs):
        leaf = x.clone().requires_grad_()
        y = layer(leaf)
        y.backward(dy)
        found.append((y, leaf.grad))
    for mine, peer in zip(*found, strict=True):
        torch.testing.assert_close(mine, peer, equal_nan=True)
    assert found[0][0][0, 1].isnan()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("layout", ["vectors", "images, channels last"])
@pytest.mark.usefixtures("path")
def test_relu_has_first_and_second_derivatives(layout, training):
    x = next(batches(layout, batch=3, channels=2))[0][..., :2].requires_grad_()
    weight, bias, mean = torch.tensor(
        [[1.5, -0.7], [0.3, 0.2], [0.1, -0.2]], dtype=torch.float64
    ).requires_grad_()
    running = (None, None) if training else (mean.detach(), torch.ones_like(mean))

    def function(x, weight, bias):
        return batch_norm.batch_norm(x, *running, weight, bias, training, 0, EPS, relu=True)

    leaves = (x, weight.detach().requires_grad_(), bias.detach().requires_grad_())
    before = batch_norm.batch_norm(leaves[0], *running, *leaves[1:], training, 0, EPS)
    assert before.abs().min() > 1e-4, "differences would step over the kink"
    assert torch.autograd.gradcheck(function, leaves)
    assert torch.autograd.gradgradcheck(function, leaves)


@pytest.mark.parametrize("path", ["plain", "blocks"], indirect=True)
@pytest.mark.parametrize("training", [True, False])
def test_relu_keeps_no_more_than_x_and_vectors(training, path):
    """torch keeps the result of the ReLU as well."""
    x = next(batches("images", batch=64))[0].requires_grad_()
    ours, theirs = relu_pair(training=training)
    assert saved_bytes(ours, x) < x.nbytes + 1024 < 2 * x.nbytes <= saved_bytes(theirs, x)


def test_relu_leaves_the_state_dict_alone():
    _, theirs = pair(dtype=torch.float32)
    layer = BatchNorm(3, activation="relu")
    layer.load_state_dict(theirs.state_dict(), strict=True)
    assert list(layer.state_dict()) == list(theirs.state_dict())
    assert convert(nn.BatchNorm2d(3)).activation is None
    assert convert(layer).activation == "relu"
    assert copy.deepcopy(layer).activation == "relu"


@pytest.mark.parametrize("activation", ["gelu", "ReLU", True, nn.ReLU()])
def test_other_activations_are_refused(activation):
    with pytest.raises(
        ValueError,
        match=r'activation is .*; "relu" and None are allowed. Put others after the layer',
    ):
        BatchNorm(3, activation=activation)


# ---- Which path ----------------------------------------------------------------------------------


def test_backend_says_which_path_runs_and_why(monkeypatch):
    x = torch.ones(4, 3)
    assert layers.backend(x) == "ATen operators: the tensor is on the CPU"
    assert layers.backend(torch.ones(0, 3)) == "plain torch: the tensor is empty"
    assert layers.backend(torch.ones(4, 3, device="meta")) == "plain torch: the tensor is on meta"
    with torch.autograd.forward_ad.dual_level():
        assert (
            layers.backend(x) == "plain torch: torch.compile, torch.func or forward mode is at work"
        )
    monkeypatch.setattr(triton, "unavailable", lambda x: None)
    assert layers.backend(x) == "Triton kernels: the tensor is on cpu"
    monkeypatch.undo()
    monkeypatch.setenv("BNKIT_KERNELS", "off")
    assert layers.backend(x) == "plain torch: BNKIT_KERNELS=off"
    monkeypatch.setenv("BNKIT_KERNELS", "no")
    with pytest.raises(ValueError, match="BNKIT_KERNELS is 'no'; it must be 'on' or 'off'"):
        layers.backend(x)
    with pytest.raises(ValueError, match="BNKIT_KERNELS"):
        BatchNorm(3)(x)


def test_the_switch_is_that_of_the_environment_of_the_moment(monkeypatch):
    """Also where another mapping stands in its place, with the switch or without it."""
    x = torch.ones(4, 3)
    monkeypatch.setenv("BNKIT_KERNELS", "off")
    monkeypatch.setattr(os, "environ", {})
    assert "plain torch" not in layers.backend(x)
    monkeypatch.undo()
    monkeypatch.delenv("BNKIT_KERNELS", raising=False)
    assert "plain torch" not in layers.backend(x)
    monkeypatch.setattr(os, "environ", {"BNKIT_KERNELS": "off"})
    assert layers.backend(x) == "plain torch: BNKIT_KERNELS=off"


def test_using_says_which_path_runs(monkeypatch):
    """Whatever the environment says; outside of it nothing has changed, also after an error."""
    x, before = torch.ones(4, 3), layers.backend(torch.ones(4, 3))
    monkeypatch.setenv("BNKIT_KERNELS", "off")
    with layers.using("aten", small=7):
        assert layers.backend(x) == "ATen operators: using('aten')"
        assert aten.LIMITS.get() == aten.EVERYDAY._replace(small=7)
        with contextlib.suppress(KeyError), layers.using("plain"):
            assert layers.backend(x) == "plain torch: using('plain')"
            raise KeyError
        assert layers.backend(x) == "ATen operators: using('aten')"
        assert layers.backend(x[:0]) == "plain torch: the tensor is empty"
    assert layers.backend(x) == "plain torch: BNKIT_KERNELS=off"
    monkeypatch.undo()
    assert layers.backend(x) == before
    assert aten.LIMITS.get() == aten.EVERYDAY


@pytest.mark.parametrize(
    ("path", "limits", "module", "name"),
    [
        ("plain", {}, plain, "moments"),
        ("aten", {}, aten, "batch_norm"),
        ("aten", {"small": 0}, aten, "moments"),
    ],
)
def test_using_takes_the_path(path, limits, module, name, monkeypatch):
    called, step = [], getattr(module, name)
    monkeypatch.setattr(module, name, lambda *a: (called.append(name), step(*a))[1])
    with layers.using(path, **limits):
        BatchNorm(3)(torch.ones(4, 3))
    assert called == [name]


def test_using_refuses_what_it_cannot_do():
    with (
        pytest.raises(ValueError, match=r"'cuda'; 'plain', 'aten', 'triton' are allowed"),
        layers.using("cuda"),
    ):
        pass
    with pytest.raises(
        TypeError, match=r"\['large'\] given, \['small', 'short', 'block'\] allowed"
    ):
        layers.using("aten", large=1).__enter__()
    with pytest.raises(TypeError, match=r"'plain': \['small'\] given, \[\] allowed"):
        layers.using("plain", small=1).__enter__()
    for path in (["plain"], None, {}):
        with pytest.raises(
            ValueError, match=r"the path is .*'plain', 'aten', 'triton' are allowed"
        ):
            layers.using(path).__enter__()
    for limit in ({"block": -5}, {"block": 0}, {"small": -1}, {"short": 1.5}, {"small": True}):
        [(name, value)] = limit.items()
        with pytest.raises(ValueError, match=rf"the limit {name} is {value}; it must be a whole"):
            layers.using("aten", **limit).__enter__()
    assert aten.LIMITS.get() == aten.EVERYDAY
    meta = BatchNorm(3, device="meta")
    with layers.using("aten"), pytest.raises(RuntimeError, match="tensor is on meta; it must be"):
        meta(torch.ones(4, 3, device="meta"))
    with layers.using("triton"), pytest.raises(RuntimeError, match=r"using\('triton'\) is not"):
        meta(torch.ones(4, 3, device="meta"))


STEPS = {"moments", "normalise", "gradient_sums", "backward"}


@pytest.mark.parametrize(
    ("path", "used"),
    [
        ("plain", {plain: STEPS - {"backward"}}),
        ("one call", {aten: {"batch_norm"}}),
        ("blocks", {aten: STEPS - {"gradient_sums"}}),
    ],
    indirect=["path"],
)
@pytest.mark.parametrize("size", [(4, 3), (2, 3, 4, 4)])
def test_what_backend_names_is_what_runs(path, used, size, monkeypatch):
    """No path is skipped silently: each step is spied on."""
    called = {plain: set(), aten: set()}

    def spy_on(module, name):
        step = getattr(module, name)

        def spy(*arguments):
            called[module].add(name)
            return step(*arguments)

        monkeypatch.setattr(module, name, spy)

    for name in STEPS:
        spy_on(aten, name)
    spy_on(aten, "batch_norm")
    for name in STEPS - {"backward"}:
        spy_on(plain, name)
    layer = BatchNorm(3)
    x = torch.ones(size, requires_grad=True)
    assert layers.backend(x).startswith({plain: "plain torch", aten: "ATen"}[next(iter(used))])
    layer(x).sum().backward()
    assert {module: names for module, names in called.items() if names} == used


@pytest.mark.parametrize(
    ("shape", "memory_format", "dtype", "training", "one_call"),
    [
        ((60, 100), torch.contiguous_format, torch.float32, True, True),
        (
            (32, 64, 32, 32),
            torch.contiguous_format,
            torch.float32,
            True,
            True,
        ),  # both limits, just reached
        ((32, 65, 32, 32), torch.contiguous_format, torch.float32, True, False),
        ((32, 128, 32, 32), torch.channels_last, torch.float32, True, True),
        ((32, 129, 32, 32), torch.channels_last, torch.float32, True, False),
        ((33, 2, 32, 32), torch.channels_last, torch.float32, True, False),  # long sums
        ((33, 2, 32, 32), torch.channels_last, torch.float32, False, True),  # none in evaluation
        ((60, 100), torch.contiguous_format, torch.bfloat16, True, False),
    ],
)
def test_one_call_is_for_short_sums_and_batches_that_are_not_large(
    shape, memory_format, dtype, training, one_call
):
    x = torch.empty(shape, dtype=dtype).contiguous(memory_format=memory_format)
    assert aten.small(x, training) is one_call


def test_long_sums_of_a_small_batch_keep_their_digits():
    """Where torch.nn, channels last and on one thread, loses three."""
    x = 30 + torch.randn(64, 2, 64, 64, generator=torch.Generator().manual_seed(0))
    x = x.contiguous(memory_format=torch.channels_last)
    var = x.double().var((0, 2, 3), unbiased=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        errors = []
        for kind in (BatchNorm, nn.BatchNorm2d):
            layer = kind(2, momentum=1.0)
            layer(x)
            errors.append((layer.running_var / var - 1).abs().max().item())
    finally:
        torch.set_num_threads(threads)
    assert errors[0] < 1e-5 < errors[1]


# ---- The steps of ATen against the plain ones, and pooling ---------------------------------------


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize(
    "layout", ["vectors", "images", "images, channels last", "volumes, channels last"]
)
def test_steps_of_aten_equal_the_plain_ones(layout, dtype, relu, monkeypatch):
    choose("blocks", monkeypatch)
    (x, dy), *_ = batches(layout, batch=5, dtype=dtype)
    dy = dy.contiguous(memory_format=plain.layout(x))
    weight, bias = torch.tensor([[1.5, -0.7, 0.1], [0.2, 0.1, 0.0]], dtype=torch.float32).to(dtype)
    tolerance = 1e-12 if dtype is torch.float64 else 0.51 * torch.finfo(dtype).eps
    mean, var, m = plain.moments(x)
    inv_std = plain.inverse_std(var, EPS)
    for each in zip(aten.moments(x), (mean, var, m), strict=True):
        assert_close(*each, 1e-12 if dtype is torch.float64 else 1e-6)
    affine = (weight, bias)
    assert_close(
        aten.normalise(x, mean, inv_std, *affine, relu),
        plain.normalise(x, mean, inv_std, *affine, relu),
        tolerance,
    )
    known = (dy, x, mean, inv_std, *affine)
    sums = plain.gradient_sums(*known, relu)
    for each in zip(aten.gradient_sums(*known, relu), sums, strict=True):
        assert_close(*each, 1e-12 if dtype is torch.float64 else 1e-6)
    for through in (sums, (None, None)):
        expected = plain.input_gradient(*known, *through, m, relu)
        assert_close(aten.input_gradient(*known, *through, m, relu), expected, tolerance)
    for each in zip(
        aten.backward(*known, relu),
        (plain.input_gradient(*known, *sums, m, relu), *sums),
        strict=True,
    ):
        assert_close(*each, max(tolerance, 1e-6 if dtype is not torch.float64 else 0))


@given(
    st.lists(st.lists(st.floats(-3, 3), max_size=5), min_size=1, max_size=5).filter(
        lambda parts: any(parts)
    )
)
def test_pooled_moments_are_those_of_everything(parts):
    """Whatever the parts, also empty ones, around a mean of 1,000."""
    parts = [1000 + torch.tensor(part, dtype=torch.float64) for part in parts]
    counts = torch.tensor([[len(part)] for part in parts], dtype=torch.float64)
    means, variances = (
        torch.stack(
            [f(part) if len(part) else torch.tensor(0.0, dtype=torch.float64) for part in parts]
        )[:, None]
        for f in (torch.mean, lambda part: part.var(correction=0))
    )
    mean, var = aten.pool(means, variances, counts)
    everything = torch.cat(parts)
    assert_close(mean, everything.mean()[None])
    assert abs(var - everything.var(correction=0)) < 1e-9


def assert_blocks_equal_torch(make=BatchNorm):
    """Several blocks of different means, the last block shorter."""
    for layout in ("images", "images, channels last"):
        steps = [
            (x + 5 * torch.arange(5.0).view(-1, 1, 1, 1), dy)
            for x, dy in batches(layout, 2, batch=5)
        ]
        assert_same_steps(*pair(4), steps)


# ---- Properties from the paper -------------------------------------------------------------------


class Adapter:
    """Our layer behind the face of bnkit.reference, for the checks of the reference."""

    @staticmethod
    def forward(x, gamma, beta, eps):
        leaves = [torch.tensor(array, requires_grad=True) for array in (x, gamma, beta)]
        y = batch_norm.batch_norm(leaves[0], None, None, *leaves[1:], True, 0.0, eps)
        return y.detach().numpy(), (y, leaves)

    @staticmethod
    def backward(dy, cache):
        y, leaves = cache
        return [
            g.numpy() for g in torch.autograd.grad(y, leaves, torch.tensor(dy), retain_graph=True)
        ]

    @staticmethod
    def infer(x, gamma, beta, population, eps):
        arrays = [
            torch.tensor(array) for array in (x, population.mean, population.var, gamma, beta)
        ]
        return batch_norm.batch_norm(*arrays, False, 0.0, eps).numpy()


@on_every_path
@pytest.mark.parametrize(
    "name",
    [
        "output_mean_is_beta",
        "output_variance_is_exact",
        "input_gradient_equals_differences",
        "parameter_gradients_equal_differences",
        "input_gradient_sums_to_zero",
        "maps_equal_their_unfolding",
        "weights_scale_out",
        "hand_worked_batch",
        "inference_equals_torch",
        "inference_ignores_the_neighbours",
    ],
)
def test_named_checks_of_the_reference(name):
    CHECKS[name](Adapter)


@on_every_path
def test_a_bias_before_it_has_no_gradient_and_no_effect():
    """Section 3.2: mean subtraction cancels it."""
    generator = torch.Generator().manual_seed(0)
    u, dy = torch.randn(5, 3, generator=generator), torch.randn(5, 3, generator=generator)
    norm, _ = pair(2, dtype=torch.float32)
    bias = torch.tensor([0.5, -1.0, 2.0], requires_grad=True)
    y = norm(u + bias)
    y.backward(dy)
    assert_close(bias.grad, torch.zeros(3))
    assert_close(y, norm(u))


@on_every_path
@pytest.mark.parametrize("layout", ["vectors", "images"])
def test_momentum_none_is_the_plain_average_of_the_batches(layout):
    """Algorithm 2, line 10: of the batch means, and of the unbiased batch variances. Here without
    torch.nn."""
    layer = BatchNorm(3, momentum=None, dtype=torch.float64)
    xs = [x for x, _ in batches(layout, 7)]
    for x in xs:
        layer(x)
    unfolded = torch.stack([x.transpose(0, 1).flatten(1) for x in xs])  # (batch, channel, value)
    assert_close(layer.running_mean, unfolded.mean(2).mean(0))
    assert_close(layer.running_var, unfolded.var(2).mean(0))


def assert_variance_survives_a_large_mean(make=BatchNorm):
    """Mean 100, spread 0.01, float32: x² has steps of 1e-3, ten times the variance."""
    x = 100 + 0.01 * torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    layer = make(3, momentum=1.0, eps=1e-12)
    y = layer(x)
    assert_close(layer.running_var / x.double().var(0), torch.ones(3), tolerance=1e-4)
    assert_close(y.double().var(0, correction=0), torch.ones(3), tolerance=1e-4)


@on_every_path
def test_variance_survives_a_large_mean():
    assert_variance_survives_a_large_mean()


# ---- Autograd ------------------------------------------------------------------------------------


@on_every_path
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("layout", "affine"),
    [
        ("vectors", "weight and bias"),
        ("vectors", "weight"),
        ("vectors", "neither"),
        ("images, channels last", "weight and bias"),
        ("images, batch innermost", "neither"),
    ],
)
def test_first_and_second_derivatives_equal_differences(layout, affine, training):
    x = next(batches(layout, batch=3, channels=2))[0][..., :2].requires_grad_()
    weight, bias = torch.tensor([[1.5, -0.7], [0.3, 0.2]], dtype=torch.float64, requires_grad=True)
    mean, var = torch.tensor([[0.1, -0.2], [0.5, 2.0]], dtype=torch.float64)
    parameters = {"weight and bias": (weight, bias), "weight": (weight,), "neither": ()}[affine]

    def function(x, weight=None, bias=None):
        return batch_norm.batch_norm(
            x, None if training else mean, None if training else var, weight, bias, training, 0, EPS
        )

    leaves = (x, *[p.detach().requires_grad_() for p in parameters])
    assert torch.autograd.gradcheck(function, leaves)
    assert torch.autograd.gradgradcheck(function, leaves)


@on_every_path
@pytest.mark.parametrize(
    "wanted", [(True, False, False), (False, True, False), (False, False, True)], ids=str
)
@pytest.mark.parametrize("training", [True, False])
def test_each_gradient_can_be_had_alone(training, wanted):
    """Frozen parameters, or data as the input: what is not asked for costs nothing and breaks
    nothing."""
    (x, dy), *_ = batches("images")
    found = []
    for layer in pair():
        leaf = x.detach().requires_grad_(wanted[0])
        layer.train(training).weight.requires_grad_(wanted[1])
        layer.bias.requires_grad_(wanted[2])
        layer(leaf).backward(dy)
        found.append([leaf.grad, layer.weight.grad, layer.bias.grad])
    for ours, theirs, want in zip(*found, wanted, strict=True):
        assert (ours is not None) == (theirs is not None) == want
        if want:
            assert_close(ours, theirs)


@on_every_path
def test_a_broadcast_upstream_gradient():
    """What a mean over places sends back has strides of zero."""
    (x, _), *_ = batches("images, channels last")
    found = []
    for layer in pair():
        leaf = x.detach().requires_grad_()
        (layer(leaf).mean((2, 3)) ** 3).sum().backward()
        found.append(leaf.grad)
    assert_close(*found)


@on_every_path
def test_a_frozen_layer_keeps_its_statistics_for_its_gradient():
    """A training step between a frozen pass and its gradient moves the running values, but not that
    gradient."""
    (x, dy), *_ = batches("vectors")
    gradients = []
    for disturb in (False, True):
        layer, _ = pair(2)
        leaf = x.detach().requires_grad_()
        y = layer.eval()(leaf)
        if disturb:
            layer.train()(x + 1)
        gradients.append(torch.autograd.grad(y, [leaf, layer.weight, layer.bias], dy))
    for expected, gradient in zip(*gradients, strict=True):
        assert_close(gradient, expected, tolerance=0)


@on_every_path
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", ["vectors, transposed", "images", "images, channels last"])
def test_keeps_no_more_memory_for_the_gradient_than_torch(layout, dtype, training):
    x = next(batches(layout, batch=64, dtype=dtype))[0].requires_grad_()
    ours, theirs = pair(x.ndim, dtype=torch.float32)
    assert saved_bytes(ours.train(training), x) <= saved_bytes(theirs.train(training), x)
    ours, theirs = relu_pair(x.ndim, training=training, dtype=torch.float32)
    assert saved_bytes(ours, x) <= saved_bytes(theirs, x)


def saved_bytes(layer, x):
    """What a layer keeps for the gradient; a storage that several tensors share counts once."""
    storages = {}

    def pack(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = layer(x)
    assert y.shape == x.shape
    return sum(storages.values())


@pytest.mark.usefixtures("plain_path")
def test_plain_torch_is_a_witness_no_operation_of_torchs_own_normalization_runs():
    """Or torch would be compared with itself."""
    names = set()

    class Record(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            names.add(function.__name__)
            return function(*args, **kwargs or {})

    (x, dy), *_ = batches("images")
    ours, theirs = pair()
    with Record():
        for training in (True, False):
            ours.train(training)(x.detach().requires_grad_()).backward(dy)
    assert "rsqrt.default" in names
    assert not [name for name in names if "norm" in name]
    with Record():
        theirs(x)
    assert [name for name in names if "batch_norm" in name]  # so the recorder would have seen it


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # torch.func.jvp calls it
def test_torch_func_and_forward_mode():
    """Per-example gradients, ensembles, Jacobians and Hessians: more than reverse mode."""
    from torch.func import functional_call, grad, hessian, jvp, vmap

    (x, v), *_ = batches("images", batch=2)
    found = []
    for layer in pair(track_running_stats=False):
        parameters = {name: p.detach() for name, p in layer.named_parameters()}
        ensemble = {name: torch.stack([p, 2 * p]) for name, p in parameters.items()}

        def loss(parameters, x, layer=layer):
            return (functional_call(layer, parameters, (x,)) ** 3).sum()

        gradients = vmap(grad(loss), (0, None))(ensemble, x)
        with torch.no_grad():
            outputs = vmap(
                lambda parameters, layer=layer: functional_call(layer, parameters, (x,))
            )(ensemble)
        tangent = jvp(layer, (x,), (v,))[1]
        second = hessian(lambda x, loss=loss, parameters=parameters: loss(parameters, x))(
            x[:, :, :2, :1]
        )
        found.append([*gradients.values(), outputs, tangent, second])
    for ours, theirs in zip(*found, strict=True):
        assert_close(ours, theirs)


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated")  # inductor uses it
@pytest.mark.parametrize("relu", [False, True])
def test_compiles_without_a_graph_break(relu):
    """Once to machine code, where there is a C++ compiler; else to the operations it is made of."""
    machine_code = relu and (shutil.which("c++") or shutil.which("g++"))
    torch._dynamo.reset()
    (x, dy), *_ = batches("images")
    ours, theirs = relu_pair() if relu else pair()
    found = []
    for layer in (
        torch.compile(ours, backend="inductor" if machine_code else "aot_eager", fullgraph=True),
        theirs,
    ):
        leaf = x.detach().requires_grad_()
        y = layer(leaf)
        y.backward(dy)
        found.append([y, leaf.grad, *[p.grad for _, p in layer.named_parameters()]])
    for compiled, eager in zip(*found, strict=True):
        assert_close(compiled, eager)
    for name, value in ours.state_dict().items():
        assert_close(value, theirs.state_dict()[name])


# ---- State ---------------------------------------------------------------------------------------


def test_signature_is_torchs_and_two_options_by_name():
    ours, theirs = (inspect.signature(kind).parameters for kind in (BatchNorm, nn.BatchNorm2d))
    common = [(name, p.default, p.kind) for name, p in theirs.items()]
    assert [(name, p.default, p.kind) for name, p in ours.items()][: len(theirs)] == common
    assert {name: (p.default, p.kind) for name, p in list(ours.items())[len(theirs) :]} == {
        "activation": (None, inspect.Parameter.KEYWORD_ONLY),
        "process_group": (None, inspect.Parameter.KEYWORD_ONLY),
    }
    assert repr(BatchNorm(3, bias=False)) == repr(nn.BatchNorm2d(3, bias=False)).replace(
        "BatchNorm2d", "BatchNorm"
    )
    assert repr(BatchNorm(3, activation="relu")).endswith(
        "track_running_stats=True, activation=relu)"
    )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"affine": False},
        {"bias": False},
        {"track_running_stats": False},
        {"dtype": torch.float16},
    ],
    ids=str,
)
@pytest.mark.parametrize("axes", [2, 4, 5])
def test_state_dict_goes_both_ways(axes, options):
    options = {"dtype": torch.float64, **options}
    _, theirs = pair(axes, **options)
    there = theirs.state_dict()
    ours = BatchNorm(3, **options)
    ours.load_state_dict(there, strict=True)
    back = ours.state_dict()
    assert list(back) == list(there)
    assert back._metadata == there._metadata
    for name in there:
        assert back[name].dtype is there[name].dtype
        assert torch.equal(back[name], there[name])
    PEERS[axes](3, **options).load_state_dict(back, strict=True)


def test_a_checkpoint_from_before_num_batches_tracked_loads():
    state = nn.BatchNorm2d(3).state_dict()
    del state["num_batches_tracked"]
    state._metadata[""]["version"] = 1
    layer = BatchNorm(3)
    layer.load_state_dict(state, strict=True)
    assert layer.num_batches_tracked == 0


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_carry_everything_and_stay_apart(copied):
    ours, theirs = pair(2, momentum=0.3)
    twin = copied(ours.train())
    x, _ = next(batches("vectors"))
    assert_close(twin(x), theirs(x))
    assert_close(twin.running_var, theirs.running_var)
    assert twin.num_batches_tracked == 1
    assert ours.num_batches_tracked == 0


def test_dtype_and_device_move_parameters_and_buffers():
    layer = BatchNorm(3)
    for dtype in (torch.float64, torch.float16):
        layer.to(dtype)
        assert {t.dtype for t in layer.state_dict().values()} == {dtype, torch.int64}
    layer.to("meta")
    assert {t.device.type for t in layer.state_dict().values()} == {"meta"}
    assert layer(torch.empty(2, 3, dtype=torch.float16, device="meta")).device.type == "meta"


def test_torchs_own_tools_find_it():
    model = nn.Sequential(nn.Linear(3, 3), BatchNorm(3))
    xs = [torch.randn(4, 3, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)]
    torch.optim.swa_utils.update_bn(xs, model)
    assert_close(model[1].running_mean, torch.stack([model[0](x).mean(0) for x in xs]).mean(0))


# ---- convert -------------------------------------------------------------------------------------


class Subclass(nn.BatchNorm2d):
    """A batch normalization with a name of its own."""


class Activated(nn.BatchNorm2d):
    """One that does something else as well."""

    def forward(self, input):
        return super().forward(input).relu()


def model():
    torch.manual_seed(0)
    shared = nn.BatchNorm2d(4, momentum=None)
    return nn.Sequential(
        nn.Sequential(
            nn.Conv2d(2, 4, 3, bias=False),
            shared,
            nn.ReLU(),
            nn.ModuleDict({"norm": shared})["norm"],
        ),
        Subclass(4, eps=EPS).eval(),
        Activated(4),
        nn.Flatten(2),
        nn.BatchNorm1d(4, affine=False),
    ).double()


def test_convert_keeps_outputs_parameters_modes_hooks_and_sharing():
    theirs, ours = model(), model()
    before = list(ours.parameters()) + list(ours.buffers())
    optimiser, peer = (
        torch.optim.SGD(ours.parameters(), 0.1),
        torch.optim.SGD(theirs.parameters(), 0.1),
    )
    called = []
    ours[1].register_forward_hook(lambda *_: called.append(True))

    assert convert(ours) is ours
    assert [type(m).__name__ for m in ours.modules() if isinstance(m, BatchNorm)] == [
        "BatchNorm2d", "Subclass", "Activated", "BatchNorm1d"
    ]  # fmt: skip
    assert ours[0][1] is ours[0][3]
    assert [m.training for m in ours.modules()] == [m.training for m in theirs.modules()]
    assert all(a is b for a, b in zip(before, [*ours.parameters(), *ours.buffers()], strict=True))

    x = torch.randn(3, 2, 5, 5, dtype=torch.float64)
    for _ in range(3):
        for net, step in ((ours, optimiser), (theirs, peer)):
            step.zero_grad()
            net(x)[:, :, :2].pow(2).sum().backward()
            step.step()
    assert called == [True] * 3
    assert_close(ours(x), theirs(x))
    states = [torch.cat([v.flatten() for v in net.state_dict().values()]) for net in (ours, theirs)]
    assert_close(*states)  # together, for a mean after a mean subtraction is zero but for rounding


def test_convert_takes_a_bare_layer_and_its_own_kind():
    layer = nn.BatchNorm1d(3, dtype=torch.float16, device="meta").eval()
    assert type(convert(layer)) is layers.BatchNorm1d
    assert not layer.training
    assert layer.weight.dtype is torch.float16
    assert layer.weight.device.type == "meta"
    assert convert(layer) is layer


# ---- Refusals ------------------------------------------------------------------------------------

REFUSED = {  # options, training, input, error as torch's, message
    "1-D": ({}, False, torch.ones(3), ValueError, r"shape \(3,\); 2 to 5 axes.*unsqueeze"),
    "6-D": ({}, False, torch.ones(2, 3, 1, 1, 1, 1), ValueError, "2 to 5 axes"),
    "channels": ({}, True, torch.ones(5, 4), RuntimeError, r"4 channels on axis 1.* has 3"),
    "channels, evaluation": ({}, False, torch.ones(5, 4), RuntimeError, "4 channels"),
    "integers": (
        {},
        True,
        torch.ones(5, 3, dtype=torch.long),
        NotImplementedError,
        r"int64.*Use input.float\(\)",
    ),
    "complex": ({}, True, torch.ones(5, 3, dtype=torch.cfloat), NotImplementedError, "complex64"),
    "float64 into float32": (
        {},
        True,
        torch.ones(5, 3).double(),
        RuntimeError,
        r"float64.*float32.*Use .to\(\)",
    ),
    "float16 into bfloat16": (
        {"dtype": torch.bfloat16},
        True,
        torch.ones(5, 3).half(),
        RuntimeError,
        "bfloat16",
    ),
    "float32 into float16": (
        {"dtype": torch.float16},
        False,
        torch.ones(5, 3),
        RuntimeError,
        "float32.*float16",
    ),
    "other device": ({}, True, torch.ones(5, 3, device="meta"), RuntimeError, "on meta.* on cpu"),
    "one value": (
        {},
        True,
        torch.ones(1, 3),
        ValueError,
        r"one value per channel.*at least two, or eval\(\)",
    ),
    "one value, map": ({}, True, torch.ones(1, 3, 1), ValueError, "one value per channel"),
    "one value, no tracking": (
        {"track_running_stats": False},
        False,
        torch.ones(1, 3),
        ValueError,
        "one value",
    ),
    "eps zero": (
        {"eps": 0.0},
        True,
        torch.ones(5, 3),
        ValueError,
        "eps is 0.0; it must be above 0 in training",
    ),
    "eps negative": (
        {"eps": -1.0},
        False,
        torch.ones(5, 3),
        ValueError,
        "at least 0 in evaluation",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_are_torchs_with_a_message_that_helps(case):
    options, training, x, error, message = REFUSED[case]
    layer = BatchNorm(3, **options).train(training)
    before = copy.deepcopy(layer.state_dict())
    with pytest.raises(error, match=message):
        layer(x)
    assert all(torch.equal(before[name], value) for name, value in layer.state_dict().items()), (
        "something has changed"
    )
    peer = PEERS[min(max(x.ndim, 2), 5)](3, **options).train(training)
    with pytest.raises(error):
        peer(x)


@on_every_path
def test_one_value_and_eps_zero_are_fine_in_evaluation():
    ours, theirs = pair(2, eps=0.0)
    x = torch.ones(1, 3, dtype=torch.float64)
    assert_close(ours.eval()(x), theirs.eval()(x))


# ---- torch's own cases ---------------------------------------------------------------------------


def test_torchs_own_table_of_cases():
    """22 cases of BatchNorm1d, 2d and 3d, in training and evaluation; 6 that must be refused."""
    command = [sys.executable, "-W", "ignore", Path(__file__).with_name("torchs_cases.py")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    counts = [line.rsplit(maxsplit=1) for line in done.stdout.splitlines()]
    assert {count for _, count in counts} == {"44", "6"}
    assert len(counts) == 22


# ---- Mutants: the checks above must reject these -------------------------------------------------


def steps_equal(make=BatchNorm, **options):
    assert_same_steps(
        *pair(make=make, momentum=0.3, **options), batches("images", 3), looks=(1, 2, 3)
    )


def relu_steps_equal(make=BatchNorm):
    assert_same_steps(*relu_pair(make=make), batches("images", 2))


def frozen_steps_equal(make=BatchNorm):
    ours, theirs = pair(make=make, momentum=0.3)
    assert_same_steps(ours.eval(), theirs.eval(), batches("images", 2))


def recalibration_equals(make=BatchNorm):
    """Training statistics without gradients."""
    ours, theirs = pair(make=make, momentum=0.3)
    with torch.no_grad():
        for x, _ in batches("images", 2):
            assert_close(ours(x), theirs(x))
            assert_close(ours.running_var, theirs.running_var)


def moments_with(var):
    """`moments`, but for the variance, which is var(x) of (C, values)."""

    def moments(x):
        mean, _, m = plain_moments(x)
        return mean, var(x.transpose(0, 1).flatten(1)), m

    return moments


def observe_with(change):
    return lambda *arguments: plain_observe(*change(*arguments))


def input_gradient_with(dweight, dbias):
    """`input_gradient` with a multiple of its two sums."""

    def input_gradient(dy, x, mean, inv_std, weight, bias, sum_dy_x_hat, sum_dy, m, relu):
        sums = dweight * sum_dy_x_hat, dbias * sum_dy
        return plain_input_gradient(dy, x, mean, inv_std, weight, bias, *sums, m, relu)

    return input_gradient


def columns_apart(x):
    """Statistics over axes 0 and 2 alone, their variance averaged over axis 3."""
    mean, _, m = plain_moments(x)
    return mean, x.var((0, 2), correction=0).mean(-1), m


plain_moments, plain_observe, plain_input_gradient = (
    plain.moments,
    plain.observe,
    plain.input_gradient,
)
plain_behind_relu, aten_pool, aten_batch_norm = plain._behind_relu, aten.pool, aten.batch_norm


class ModeFromGradients(BatchNorm):
    def forward(self, input):
        self.training = torch.is_grad_enabled()
        return super().forward(input)


class Uncounted(BatchNorm):
    def forward(self, input):
        before = self.num_batches_tracked.clone()
        y = super().forward(input)
        self.num_batches_tracked.copy_(before)
        return y


class ObservesInEvaluation(BatchNorm):
    def forward(self, input):
        y = super().forward(input)
        if not self.training:
            mean, var, m = plain.moments(input.detach())
            plain.observe(self.running_mean, self.running_var, mean, var, m, self.momentum)
        return y


class BatchStatisticsInEvaluation(BatchNorm):
    def forward(self, input):
        if self.training:
            return super().forward(input)
        return batch_norm.batch_norm(input, None, None, self.weight, self.bias, True, 0.0, self.eps)


PATCHES = {  # what is replaced, by what, and the check that must turn red
    "unbiased variance to normalise": ("moments", moments_with(lambda x: x.var(1)), steps_equal),
    "divides by the variance": ("inverse_std", lambda var, eps: 1 / (var + eps), steps_equal),
    "eps outside the root": ("inverse_std", lambda var, eps: 1 / (var.sqrt() + eps), steps_equal),
    "statistics over the wrong axes": ("moments", columns_apart, steps_equal),
    "E[x²] − E[x]²": (
        "moments",
        moments_with(lambda x: (x.square().mean(1) - x.mean(1).square()).clamp(0)),
        assert_variance_survives_a_large_mean,
    ),
    "momentum reversed": ("observe", observe_with(lambda *a: (*a[:5], 1 - a[5])), steps_equal),
    "biased variance stored": (
        "observe",
        observe_with(lambda *a: (*a[:4], 10**12, a[5])),
        steps_equal,
    ),
    "nothing observed": ("observe", lambda *a: None, steps_equal),
    "statistics detached": ("input_gradient", input_gradient_with(0, 0), steps_equal),
    "variance detached": ("input_gradient", input_gradient_with(0, 1), steps_equal),
    "mean detached": ("input_gradient", input_gradient_with(1, 0), steps_equal),
    "a ReLU that lets every gradient through": (
        "_behind_relu",
        lambda dy, *_: dy,
        relu_steps_equal,
    ),
    "a ReLU that looks at x̂, not at y": (
        "_behind_relu",
        lambda dy, x, mean, inv_std, weight, bias, relu: plain_behind_relu(
            dy, x, mean, inv_std, None, None, relu
        ),
        relu_steps_equal,
    ),
    "γ's gradient from x − mean": (
        "gradient_sums",
        lambda dy, x, mean, *_: (
            (dy * (x - mean[:, None, None])).sum((0, 2, 3)),
            dy.sum((0, 2, 3)),
        ),
        frozen_steps_equal,
    ),
}
OF_ATEN = {
    "blocks pooled without their distances": (
        "blocks",
        "pool",
        lambda means, variances, counts: aten_pool(means, variances * 0, counts * 0 + 1),
        assert_blocks_equal_torch,
    ),
    "blocks all counted alike": (
        "blocks",
        "pool",
        lambda means, variances, counts: aten_pool(means, variances, counts * 0 + 1),
        assert_blocks_equal_torch,
    ),
    "a ReLU that lets every gradient through": (
        "blocks",
        "_let_through",
        lambda dy, before, out: out.copy_(dy),
        relu_steps_equal,
    ),
    "momentum reversed": (
        "one call",
        "batch_norm",
        lambda *a: aten_batch_norm(*a[:6], 1 - a[6], *a[7:]),
        steps_equal,
    ),
    "no ReLU": ("one call", "batch_norm", lambda *a: aten_batch_norm(*a[:8]), relu_steps_equal),
}
SUBCLASSES = {
    ModeFromGradients: [frozen_steps_equal, recalibration_equals],
    Uncounted: [steps_equal],
    ObservesInEvaluation: [frozen_steps_equal],
    BatchStatisticsInEvaluation: [frozen_steps_equal],
}


@on_every_path
@pytest.mark.parametrize(
    "check",
    [
        steps_equal,
        frozen_steps_equal,
        recalibration_equals,
        relu_steps_equal,
        assert_blocks_equal_torch,
    ],
)
def test_the_layer_passes_the_checks_of_the_mutants(check):
    check()


@pytest.mark.usefixtures("plain_path")
@pytest.mark.parametrize("mutant", PATCHES)
def test_mutated_mathematics_is_rejected(mutant, monkeypatch):
    name, replacement, check = PATCHES[mutant]
    monkeypatch.setattr(plain, name, replacement)
    with pytest.raises(AssertionError):
        check()


@pytest.mark.parametrize("mutant", OF_ATEN)
def test_mutated_blocks_and_calls_are_rejected(mutant, monkeypatch):
    path, name, replacement, check = OF_ATEN[mutant]
    choose(path, monkeypatch)
    monkeypatch.setattr(aten, name, replacement)
    with pytest.raises(AssertionError):
        check()


@pytest.mark.parametrize(
    ("mutant", "check"), [(m, check) for m, checks in SUBCLASSES.items() for check in checks]
)
def test_mutated_bookkeeping_is_rejected(mutant, check):
    with pytest.raises(AssertionError):
        check(mutant)


@pytest.mark.usefixtures("plain_path")
def test_forgetting_how_the_statistics_depend_on_x_is_rejected_by_second_differences(monkeypatch):
    """First derivatives are right; only a double backward sees it."""
    x = torch.randn(
        4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True
    )
    monkeypatch.setattr(
        plain, "moments", lambda x: (*(t.detach() for t in plain_moments(x)[:2]), len(x))
    )

    def function(x):
        return batch_norm.batch_norm(x, None, None, None, None, True, 0.0, EPS)

    assert torch.autograd.gradcheck(function, x)
    assert not torch.autograd.gradgradcheck(function, x, raise_exception=False)


STATE = ("weight", "bias", "running_mean", "running_var")


@on_every_path
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("length", [1, 2, 4])
@pytest.mark.parametrize("name", STATE)
@pytest.mark.parametrize("shape", [(4, 3), (8, 3, 90, 90)])
def test_state_of_another_length_is_refused_and_nothing_is_touched(name, shape, length, training):
    """Torch's operators check no lengths, and go beyond the end of what is too short."""
    layer = layers.BatchNorm(3).train(training)
    around = torch.arange(64.0)  # what lies in memory behind the one that is too short
    setattr(layer, name, around[:length] if "running" in name else nn.Parameter(around[:length]))
    before = copy.deepcopy(layer.state_dict())
    with pytest.raises(
        RuntimeError, match=f"has weight of .*{name} of {length}|{name} of {length}"
    ):
        layer(torch.ones(shape))
    assert torch.equal(around, torch.arange(64.0))
    assert all(torch.equal(before[key], value) for key, value in layer.state_dict().items())


def test_parameters_handed_in_are_measured_as_well():
    layer = layers.BatchNorm2d(4)
    given = {name: torch.ones(2) for name, _ in layer.named_parameters()}
    with pytest.raises(RuntimeError, match="weight of 2, bias of 2, running_mean of 4"):
        torch.func.functional_call(layer, given, (torch.ones(2, 4, 3, 3),))


@on_every_path
def test_channels_pruned_by_hand_count_as_torch_counts_them():
    """By the tensors, not by `num_features`, which nobody thinks of."""
    ours, theirs = pair(2)
    for layer in (ours, theirs):
        for name in STATE:
            cut = getattr(layer, name).detach()[:2].clone()
            setattr(layer, name, cut if "running" in name else nn.Parameter(cut))
    x = torch.randn(6, 2, dtype=torch.float64)
    assert_close(ours(x), theirs(x))
    assert_close(ours.running_var, theirs.running_var)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
def test_an_activation_that_is_set_later_is_checked_as_well():
    layer = layers.BatchNorm2d(3)
    layer.activation = "gelu"
    with pytest.raises(ValueError, match="activation is 'gelu'; \"relu\" and None"):
        layer(torch.ones(2, 3, 4, 4))
    assert layer.num_batches_tracked == 0
    with pytest.raises(ValueError, match="activation is 'gelu'"):
        torch.jit.script(layer)


@on_every_path
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(2, 2), (1, 4), (4, 1)])
@pytest.mark.parametrize("name", STATE[2:])
def test_running_values_have_one_axis(name, shape, dtype):
    layer = layers.BatchNorm2d(4)
    setattr(layer, name, torch.ones(shape))
    for training in (True, False):
        with pytest.raises(RuntimeError, match="a running value has shape"):
            layer.train(training)(torch.ones(2, 4, 3, 3, dtype=dtype))
    assert layer.num_batches_tracked == 0
