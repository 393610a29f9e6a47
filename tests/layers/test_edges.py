"""Found by trying to break it, side by side with torch.nn: digits, tools, refusals."""

from functools import partial

import pytest
import torch
from conftest import assert_close
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d
from torch.utils import checkpoint
from torch.utils.checkpoint import CheckpointPolicy

from bnkit import layers
from bnkit.layers import BatchNorm, BatchNorm2d

PATHS = {
    "plain": ("plain", {}),
    "one call": ("aten", {"small": 10**9, "short": 10**9}),
    "blocks": ("aten", {"small": 0, "block": 2**14}),
}
FORMATS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}


@pytest.fixture(params=PATHS)
def path(request):
    name, limits = PATHS[request.param]
    with layers.using(name, **limits):
        yield request.param


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def gradients(layer, x, loss):
    leaf = x.detach().requires_grad_()
    loss(layer(leaf)).backward()
    return leaf.grad, layer.bias.grad


@pytest.mark.parametrize("relu", [None, "relu"])
@pytest.mark.parametrize("memory_format", FORMATS)
def test_many_gradients_of_one_sign_keep_their_digits(memory_format, relu):
    """Those of global average pooling: row by row in float32, the bias's was 1e-3 off."""
    x = normal(64, 8, 40, 41).contiguous(memory_format=FORMATS[memory_format])
    weight = 1 + normal(64, 8, seed=1).abs()
    right = nn.Sequential(nn.BatchNorm2d(8).double(), nn.ReLU() if relu else nn.Identity())
    loss = lambda y: (adaptive_avg_pool2d(y, 1).flatten(1) * weight.to(y.dtype)).sum()  # noqa: E731
    leaf = x.double().requires_grad_()
    loss(right(leaf)).backward()
    expected = leaf.grad, right[0].bias.grad
    found = gradients(BatchNorm2d(8, activation=relu), x, loss)
    for mine, wanted in zip(found, expected, strict=True):
        assert_close(mine.double(), wanted, 5e-6)


@pytest.mark.parametrize("memory_format", FORMATS)
def test_a_mean_whose_sum_is_beyond_the_range(memory_format, path):
    """The values are finite, and so is their mean; their variance is not, so nothing moves."""
    x = 1e38 * normal(16, 3, 64, 64).sign().contiguous(memory_format=FORMATS[memory_format])
    ours, twin = BatchNorm2d(3), BatchNorm2d(3)
    assert ours(x).isfinite().all()
    assert ours.running_mean.tolist() == [0, 0, 0]
    assert ours.running_var.tolist() == [1, 1, 1]
    for layer in (ours, twin):
        layer(normal(4, 3, 5, 5))
    assert_close(ours.running_var, twin.running_var)


@pytest.mark.parametrize("shape", [(70_000, 3, 1, 1), (64, 3, 80, 80)])
def test_one_value_far_from_all_others_costs_no_digits(shape):
    """Its square is the variance; beside it, in one sum, those of the others were rounded away."""
    x = normal(*shape).contiguous(memory_format=torch.channels_last)
    x[0, :, 0, 0] = 1e5
    ours = BatchNorm2d(3, momentum=1.0)
    ours(x)
    assert_close(ours.running_var.double(), x.double().var((0, 2, 3)), 3e-6)
    assert_close(ours.running_mean.double(), x.double().mean((0, 2, 3)), 3e-6)


# ---- Among torch's tools -------------------------------------------------------------------------


class AnyNumberOfAxes(BatchNorm):
    def _check_input_dim(self, input):
        pass


@pytest.mark.parametrize("mean", [0, 1e4])
def test_six_axes_where_a_subclass_takes_them(mean, path):
    x = mean + normal(4, 3, 2, 3, 2, 5)
    leaf, flat = x.clone().requires_grad_(), x.flatten(2).requires_grad_()
    y, wanted = AnyNumberOfAxes(3)(leaf), BatchNorm(3)(flat)
    assert_close(y.flatten(2), wanted, 1e-5)
    dy = normal(*x.shape, seed=1)
    found, wanted = (
        torch.autograd.grad(y, leaf, dy),
        torch.autograd.grad(wanted, flat, dy.flatten(2)),
    )
    assert_close(found[0].flatten(2), wanted[0], 1e-4)


def test_a_default_device_is_not_the_layers(path):
    x = normal(8, 3, 16, 16)
    wanted = BatchNorm2d(3)(x)
    with torch.device("meta"):
        y = BatchNorm2d(3, device="cpu")(x)
    assert_close(y, wanted)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("relu", [None, "relu"])
@pytest.mark.parametrize("training", [True, False])
def test_a_batch_of_gradients(training, relu, memory_format, path):
    """``vmap`` over the backward pass, as ``jacobian(vectorize=True)`` does it."""
    x = normal(5, 3, 1, 4).contiguous(memory_format=FORMATS[memory_format]).requires_grad_()
    ours = BatchNorm2d(3, activation=relu).train(training)
    y, dy = ours(x), normal(2, 5, 3, 1, 4, seed=1)
    known = [x, ours.weight, ours.bias]
    found = torch.autograd.grad(y, known, dy, is_grads_batched=True, retain_graph=True)
    wanted = [torch.autograd.grad(y, known, each, retain_graph=True) for each in dy]
    for mine, each in zip(found, zip(*wanted, strict=True), strict=True):
        assert_close(mine, torch.stack(each), 1e-4)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # torch.func.jvp calls it
def test_running_values_are_constants_of_forward_mode():
    ours, x = BatchNorm2d(3).eval(), normal(4, 3, 5, 5)

    def of_mean(running_mean):
        return torch.func.functional_call(ours, {"running_mean": running_mean}, (x,))

    _, tangent = torch.func.jvp(of_mean, (torch.zeros(3),), (torch.ones(3),))
    assert tangent.abs().max() == 0


@pytest.mark.parametrize("mean", [0, 1e4])
def test_last_in_a_selective_checkpoint(mean, path):
    """Whose second pass knows no operation that its first has not seen."""
    saved = partial(
        checkpoint.create_selective_checkpoint_contexts, [torch.ops.aten.convolution.default]
    )
    x = (mean + normal(4, 3, 5, 5)).requires_grad_()
    net = nn.Sequential(nn.Conv2d(3, 3, 1), BatchNorm2d(3))
    y = checkpoint.checkpoint(net, x, use_reentrant=False, context_fn=saved)
    dy = normal(4, 3, 5, 5, seed=1)
    (found,) = torch.autograd.grad(y, x, dy)
    (wanted,) = torch.autograd.grad(net(x), x, dy)
    assert_close(found, wanted, 1e-4)


@pytest.mark.parametrize("mean", [0, 1e4])
def test_a_checkpoint_that_keeps_the_operators_result_observes_once(mean):
    """Of a small batch: that of a large one is observed in other operations."""

    def policy(_, operator, *args, **kwargs):
        kept = operator is torch.ops.aten.native_batch_norm.default
        return (CheckpointPolicy.PREFER_RECOMPUTE, CheckpointPolicy.MUST_SAVE)[kept]

    saved = partial(checkpoint.create_selective_checkpoint_contexts, policy)
    x, ours, twin = mean + normal(4, 3, 5, 5), BatchNorm2d(3), BatchNorm2d(3)
    net = nn.Sequential(ours, nn.Tanh())
    leaf = x.clone().requires_grad_()
    checkpoint.checkpoint(net, leaf, use_reentrant=False, context_fn=saved).sum().backward()
    twin(x)
    assert_close(ours.running_mean, twin.running_mean, 1e-6)
    assert_close(ours.running_var, twin.running_var, 1e-6)


def test_running_values_may_move_behind_a_checkpoint(path):
    ours, x = BatchNorm2d(3).eval(), normal(4, 3, 5, 5)
    leaf = x.clone().requires_grad_()
    y = checkpoint.checkpoint(nn.Sequential(ours, nn.Tanh()), leaf, use_reentrant=False)
    ours.running_mean.fill_(1e4)
    y.sum().backward()
    assert leaf.grad.isfinite().all()


def test_functionalize_moves_running_values_that_it_does_not_know():
    x, ours, twin = normal(4, 3, 5, 5), BatchNorm2d(3), BatchNorm2d(3)
    assert_close(torch.func.functionalize(ours)(x), twin(x), 1e-6)
    assert_close(ours.running_mean, twin.running_mean, 1e-6)
    assert_close(ours.running_var, twin.running_var, 1e-6)


# ---- Refusals ------------------------------------------------------------------------------------

ALL = ("weight", "bias", "running_mean", "running_var")


@pytest.mark.parametrize(
    ("dtype", "changed", "message"),
    [
        (torch.float32, {"running_var": None}, "running_var is None alone"),
        (torch.float32, {"running_mean": None}, "running_mean is None alone"),
        (torch.float32, {"running_mean": torch.float64}, "running_mean torch.float64"),
        (torch.float32, {"bias": torch.bfloat16}, "bias torch.bfloat16"),
        (torch.bfloat16, {"bias": torch.float16}, "bias torch.float16"),
        (torch.float64, {}, "the input is torch.float64"),
    ],
)
def test_a_state_that_does_not_go_together_is_refused(dtype, changed, message):
    layer = layer_of(changed)
    for training in (True, False):
        with pytest.raises(RuntimeError, match=message):
            layer.train(training)(torch.ones(4, 3, dtype=dtype))
    assert layer.num_batches_tracked == 0


def layer_of(changed):
    """A layer with these dtypes in the place of float32."""
    layer = BatchNorm(3)
    for name, dtype in changed.items():
        value = dtype and torch.ones(3, dtype=dtype)
        setattr(layer, name, value if value is None or "run" in name else nn.Parameter(value))
    return layer


@pytest.mark.parametrize(
    ("dtype", "changed"),
    [
        (torch.float32, {}),
        (torch.float32, {"weight": None, "bias": None}),
        (torch.float32, {"running_mean": None, "running_var": None}),
        (torch.bfloat16, {}),
        (torch.bfloat16, {"weight": torch.bfloat16, "bias": torch.bfloat16}),
        (torch.float64, dict.fromkeys(ALL, torch.float64)),
    ],
)
def test_one_that_does_is_not(dtype, changed):
    layer_of(changed)(torch.randn(4, 3).to(dtype))
