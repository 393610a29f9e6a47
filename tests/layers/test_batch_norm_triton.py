"""The layer on the Triton kernels: in Triton's interpreter, and on a GPU; the kernels themselves:
test_triton.py.

As there, `test_in_the_interpreter` runs this file once more in a process of its own, where the
device is "cpu".
"""

import pytest
import torch
from conftest import assert_close, run_in_interpreter
from torch import nn

from bnkit import layers
from bnkit.layers import BatchNorm, batch_norm, modules, plain, triton

INTERPRETED = triton.interpreted()
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
GPU = pytest.param("cuda", marks=[pytest.mark.gpu, needs_gpu])
devices = pytest.mark.parametrize("device", [*(["cpu"] if INTERPRETED else []), GPU])

EPS = 1e-3
LAYOUTS = {
    "vectors": ((6, 3), torch.contiguous_format),
    "vectors, transposed": ((6, 3), None),
    "sequences": ((4, 3, 5), torch.contiguous_format),
    "images": ((3, 3, 4, 2), torch.contiguous_format),
    "images, channels last": ((3, 3, 4, 2), torch.channels_last),
    "volumes, channels last": ((2, 3, 2, 3, 2), torch.channels_last_3d),
}
# as in test_triton.py
TOLERANCE = {torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 2**-7}


def batch(layout, dtype, device):
    shape, memory = LAYOUTS[layout]
    x, dy = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    x = x.t().contiguous().t() if memory is None else x.contiguous(memory_format=memory)
    return (x + 0.5).to(device, dtype), dy.to(device, dtype)


def pair(relu, device, **options):
    """Our layer in float32 on the device, torch's in float64 on the CPU, and the same numbers in
    both."""
    ours = BatchNorm(
        3, eps=EPS, momentum=0.3, device=device, activation="relu" if relu else None, **options
    )
    theirs = nn.BatchNorm1d(3, eps=EPS, momentum=0.3, dtype=torch.float64, **options)
    theirs._check_input_dim = lambda input: None  # for any number of axes
    with torch.no_grad():
        if theirs.weight is not None:
            theirs.weight.copy_(torch.tensor([1.5, -0.7, 0.3]))
            theirs.bias.copy_(torch.tensor([0.3, -0.4, 0.1]))
        theirs.running_var.mul_(1.25)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def step(layer, x, dy, relu=False):
    leaf = x.detach().requires_grad_()
    y = layer(leaf)
    y = y.relu() if relu else y
    y.backward(dy)
    return {
        "y": y,
        "dx": leaf.grad,
        **{name: p.grad for name, p in layer.named_parameters()},
        **layer.state_dict(),
    }


def assert_same(found, expected, tolerance):
    for name, value in expected.items():
        near = (
            tolerance
            if name in ("y", "dx")
            else max(tolerance if name in ("weight", "bias") else 0, 2e-5)
        )
        assert_close(found[name].cpu().double(), value.double(), near)


@devices
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_float32_equals_torch_in_float64(layout, relu, training, device):
    x, dy = batch(layout, torch.float32, device)
    assert layers.backend(x) == f"Triton kernels: the tensor is on {device}"
    ours, theirs = pair(relu, device)
    found = step(ours.train(training), x, dy)
    assert found["y"].stride() == x.contiguous(memory_format=plain.layout(x)).stride()
    assert_same(
        found, step(theirs.train(training), x.cpu().double(), dy.cpu().double(), relu), 2e-5
    )


@devices
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bits(dtype, training, device):
    x, dy = batch("images, channels last", dtype, device)
    ours, theirs = pair(False, device)
    found = step(ours.train(training), x, dy)
    assert found["y"].dtype is dtype
    expected = step(theirs.train(training), x.cpu().double(), dy.cpu().double())
    assert_same(found, expected, TOLERANCE[dtype])


@devices
def test_options(device):
    x, dy = batch("images", torch.float32, device)
    ours, theirs = pair(False, device, affine=False)
    assert_same(step(ours, x, dy), step(theirs, x.cpu().double(), dy.cpu().double()), 2e-5)


@devices
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("wanted", range(3))
def test_each_gradient_can_be_had_alone(wanted, training, device):
    x, dy = batch("images", torch.float32, device)
    found = []
    for layer, wide in zip(
        pair(True, device), (torch.Tensor.clone, lambda t: t.cpu().double()), strict=True
    ):
        leaf = wide(x)
        for place, tensor in enumerate((leaf, layer.weight, layer.bias)):
            tensor.requires_grad_(place == wanted)
        y = layer.train(training)(leaf)
        (y if isinstance(layer, BatchNorm) else y.relu()).backward(wide(dy))
        grads = [leaf.grad, layer.weight.grad, layer.bias.grad]
        assert [grad is not None for grad in grads] == [place == wanted for place in range(3)]
        found.append(grads[wanted].cpu().double())
    assert_close(*found, 2e-5)


@devices
def test_second_derivatives_are_plain_torch(device):
    x, _ = batch("images", torch.float32, device)
    found = []
    for layer, wide in zip(
        pair(True, device), (torch.Tensor.clone, lambda t: t.cpu().double()), strict=True
    ):
        leaf = wide(x).requires_grad_()
        y = layer(leaf)
        y = y if isinstance(layer, BatchNorm) else y.relu()
        [first] = torch.autograd.grad((y**3).sum(), leaf, create_graph=True)
        found.append(torch.autograd.grad((first**2).sum(), leaf)[0].cpu().double())
    assert_close(*found, 1e-4)


@devices
def test_what_lies_between_the_steps_may_be_an_exchange(device, monkeypatch):
    """Two processes with the same part of the batch: the statistics of one, twice the sums, twice
    the count."""
    x, dy = batch("images", torch.float32, device)
    ours, theirs = pair(True, device)
    ours.process_group = "two"

    def exchange(path, group, x):
        assert path is triton
        mean, var, m = path.moments(x)
        return mean, var, torch.tensor(2.0 * m, device=device)

    for module in (batch_norm, modules):
        monkeypatch.setattr(module, "partners", lambda group: "two")
    monkeypatch.setattr(batch_norm, "moments_of_all", exchange)
    monkeypatch.setattr(batch_norm, "sums_of_all", lambda group, *sums: [2 * each for each in sums])
    found = step(ours, x, dy)
    twice = step(theirs, *(torch.cat([each, each]).cpu().double() for each in (x, dy)), relu=True)
    for name, expected in twice.items():
        half = 0.5 if name in ("weight", "bias") else 1
        if name in ("y", "dx"):
            expected = expected[: len(x)]
        if name in ("running_mean", "running_var", "y", "dx"):
            assert_close(found[name].cpu().double(), expected * half, 2e-5)


@pytest.mark.skipif(INTERPRETED, reason="this is it")
def test_in_the_interpreter():
    assert run_in_interpreter(__file__, "THE LAYER IS NOT TESTED ON THE KERNELS") > 30


# ---- On a GPU alone ------------------------------------------------------------------------------


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("relu", [False, True])
def test_a_cuda_graph_captures_training_steps(relu):
    """Replayed, it does what the steps did that it was made of, running values included."""
    x, dy = batch("images", torch.float32, "cuda")
    (ours, _), (twin, _) = pair(relu, "cuda"), pair(relu, "cuda")
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for layer in (ours, twin):  # compiles, and makes the gradients
            step(layer, x, dy)
    torch.cuda.current_stream().wait_stream(stream)
    leaf = x.clone().requires_grad_()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = ours(leaf)
        [dx] = torch.autograd.grad(y, leaf, dy)
    for seed in range(3):
        with torch.no_grad():
            leaf.copy_(torch.randn(leaf.shape, generator=torch.Generator().manual_seed(seed)))
        graph.replay()
        expected = step(twin, leaf, dy)
        assert_close(y, expected["y"])
        assert_close(dx, expected["dx"])
        assert_close(ours.running_var, twin.running_var)
    assert ours.num_batches_tracked == twin.num_batches_tracked


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_more_than_two_to_the_31_elements(memory, relu):
    """Where an index of 32 bits would run over; the last example would not be reached, or another
    one overwritten."""
    shape = (2**15 + 3, 4, 128, 128)
    if torch.cuda.mem_get_info()[0] < 5 * 2 * torch.Size(shape).numel():
        pytest.skip("too little memory on this GPU")
    x = torch.empty(shape, dtype=torch.bfloat16, device="cuda", memory_format=memory).normal_()
    x[-1] = 3.0
    x.requires_grad_()
    layer = BatchNorm(4, device="cuda", momentum=1.0, activation="relu" if relu else None)
    y = layer(x)
    assert_close(layer.running_var, torch.ones(4), 1e-3)
    assert (y[-1] - (3.0 - layer.running_mean.max())).abs().max() < 0.05
    y.backward(torch.ones((), dtype=x.dtype, device="cuda").expand_as(y))
    assert x.grad[-1].isfinite().all()
    assert layer.bias.grad.min() > 0


@pytest.mark.gpu
@needs_gpu
def test_autocast_and_other_devices():
    layer = BatchNorm(3, device="cuda")
    with torch.autocast("cuda", torch.float16):
        y = layer(nn.Conv2d(2, 3, 1, device="cuda")(torch.randn(4, 2, 5, 5, device="cuda")))
    assert y.dtype is torch.float16
    assert layer.running_var.dtype is torch.float32
    with pytest.raises(RuntimeError, match=r"on cpu, the layer .* on cuda.*Use .to\(\)"):
        layer(torch.ones(4, 3))


@pytest.mark.gpu
@needs_gpu
def test_compiled():
    x, dy = batch("images", torch.float32, "cuda")
    ours, theirs = pair(True, "cuda")
    compiled = torch.compile(ours, fullgraph=True)
    leaf = x.detach().requires_grad_()
    y = compiled(leaf)
    y.backward(dy)
    expected = step(theirs, x.cpu().double(), dy.cpu().double(), relu=True)
    assert_close(y.cpu().double(), expected["y"])
    assert_close(leaf.grad.cpu().double(), expected["dx"])
