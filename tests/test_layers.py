"""The torch layer against torch's own, the paper's properties, and mutants of itself."""

import copy
import inspect
import pickle

import pytest
import torch
from checks import CHECKS
from conftest import assert_close
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from bnkit import layers
from bnkit.layers import BatchNorm, convert

PEERS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}  # by the number of axes
LAYOUTS = {  # (N, C) plus places -> how a batch lies in memory
    "vectors": ((), lambda x: x),
    "vectors, transposed": ((), lambda x: x.t().contiguous().t()),  # not contiguous
    "sequences": ((6,), lambda x: x),
    "images": ((3, 4), lambda x: x),
    "images, channels last": ((3, 4), lambda x: x.contiguous(memory_format=torch.channels_last)),
    "images, every second row": ((3, 4), lambda x: x.repeat_interleave(2, dim=2)[:, :, ::2]),  # with gaps
    "images, batch innermost": ((3, 4), lambda x: x.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2)),  # no format
    "volumes": ((2, 3, 2), lambda x: x),
    "volumes, channels last": ((2, 3, 2), lambda x: x.contiguous(memory_format=torch.channels_last_3d)),
}
EPS = 1e-3  # large enough that its place shows


def batches(layout, count=1, batch=4, channels=3, dtype=torch.float64):
    """Inputs and upstream gradients of `count` steps; each channel with a mean and spread of its own."""
    places, arrange = LAYOUTS[layout]
    generator = torch.Generator().manual_seed(count + batch)
    along = (channels, *[1] * len(places))
    mean, spread = torch.randn(along, generator=generator), torch.rand(along, generator=generator) + 0.1
    for _ in range(count):
        x, dy = torch.randn(2, batch, channels, *places, generator=generator, dtype=torch.float64)
        yield arrange((spread * x + mean).to(dtype)), dy.to(dtype)


def pair(axes=4, channels=3, make=BatchNorm, **options):
    """Our layer and torch's, with the same random parameters (one weight is negative) and running values."""
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
    """Train both side by side by SGD: outputs, gradients, parameters and buffers are equal at every step in `looks`."""
    optimisers = [torch.optim.SGD(m.parameters(), 0.1) if list(m.parameters()) else None for m in (ours, theirs)]
    for step, (x, dy) in enumerate(steps, start=1):
        found = []
        for module, optimiser in zip((ours, theirs), optimisers, strict=True):
            leaf = x.detach().requires_grad_()
            y = module(leaf)
            module.zero_grad()
            y.backward(dy)
            found.append({"y": y, "dx": leaf.grad} | {f"d{n}": p.grad.clone() for n, p in module.named_parameters()})
            if optimiser:
                optimiser.step()
            found[-1] |= module.state_dict()
        if step in looks:
            assert found[0].keys() == found[1].keys()
            for name, expected in found[1].items():
                assert found[0][name].dtype is expected.dtype, name
                assert_close(found[0][name], expected, tolerance)


# ---- Grids against torch.nn ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["training", "evaluation"])  # batch statistics and running values; both with gradients
@pytest.mark.parametrize("batch", [2, 3, 5, 64])  # 2: x̂ is ±1; 3 and 5: biased and unbiased differ; 64: as in use
@pytest.mark.parametrize("layout", LAYOUTS)
def test_equals_torch_over_sgd_steps(layout, batch, mode):
    ours, theirs = pair(2 + len(LAYOUTS[layout][0]), momentum=0.3)  # at 0.5 old and new would be alike
    ours.train(mode == "training")
    theirs.train(mode == "training")
    assert_same_steps(ours, theirs, batches(layout, 2, batch))


@pytest.mark.parametrize("momentum", [0.1, None, 0.0, 1.0])  # None: the plain average
@pytest.mark.parametrize("layout", ["vectors", "images"])
def test_buffers_equal_torch_after_a_hundred_batches(layout, momentum):
    ours, theirs = pair(2 + len(LAYOUTS[layout][0]), momentum=momentum)
    assert_same_steps(ours, theirs, batches(layout, 100, batch=3))
    assert ours.num_batches_tracked == 100


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


@pytest.mark.parametrize("layout", LAYOUTS)
def test_float32_equals_torch(layout):
    ours, theirs = pair(2 + len(LAYOUTS[layout][0]), dtype=torch.float32)
    assert_same_steps(ours, theirs, batches(layout, 2, dtype=torch.float32))


@pytest.mark.parametrize("mode", ["training", "evaluation"])
@pytest.mark.parametrize("parameters", ["float32", "the same"])  # as autocast has it, and as .half() has it
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layout", ["vectors", "images", "images, channels last"])
def test_sixteen_bits_are_float64_rounded_once(layout, dtype, parameters, mode):
    """Against torch.nn in float64 on the same numbers: torch's own 16-bit layer is further off, up to a whole step."""
    ours, theirs = pair(2 + len(LAYOUTS[layout][0]), dtype=torch.float32 if parameters == "float32" else dtype)
    (x, dy), *_ = batches(layout, batch=16, dtype=dtype)
    found = []
    for layer, wide in ((ours, torch.Tensor.clone), (theirs.double(), torch.Tensor.double)):
        layer.train(mode == "training")
        leaf = wide(x.detach()).requires_grad_()
        y = layer(leaf)
        y.backward(wide(dy))
        found.append([y, leaf.grad, layer.weight.grad, layer.bias.grad, layer.running_mean, layer.running_var])
    for actual, expected in zip(*found, strict=True):
        assert_close(actual, expected, tolerance=0.51 * torch.finfo(dtype).eps)  # half a step, and float32 beneath


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bit_statistics_are_float32(dtype):
    """4,096 values around 8 sum to 32,768, where float16 has steps of 32 and bfloat16 of 256."""
    x = (torch.randn(4096, 3, generator=torch.Generator().manual_seed(0)) + 8).to(dtype)
    layer = BatchNorm(3, momentum=1.0)
    layer(x)
    assert_close(layer.running_mean, x.double().mean(0), tolerance=1e-6)
    assert_close(layer.running_var, x.double().var(0), tolerance=1e-5)


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


@pytest.mark.parametrize("mode", ["training", "evaluation"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_result_and_gradient_keep_the_memory_format(layout, mode):
    """An optimised convolution before or after would else have to rearrange."""
    (x, dy), *_ = batches(layout)
    leaves = [x.detach().requires_grad_() for _ in range(2)]
    y, expected = [m.train(mode == "training")(leaf) for m, leaf in zip(pair(x.ndim), leaves, strict=True)]
    assert y.stride() == expected.stride()
    [gradient] = torch.autograd.grad(y, leaves[0], dy.contiguous())
    assert gradient.stride() == y.stride()


@given(
    shape=st.lists(st.integers(1, 5), min_size=2, max_size=5).filter(lambda s: torch.Size(s).numel() > s[1]),
    training=st.booleans(),
    permuted=st.booleans(),
)
def test_any_shape_equals_torch(shape, training, permuted):
    generator = torch.Generator().manual_seed(0)
    x, dy = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    if permuted:
        x = x.transpose(0, -1).contiguous().transpose(0, -1)
    ours, theirs = pair(len(shape), shape[1])
    assert_same_steps(ours.train(training), theirs.train(training), [(x, dy)])


def test_a_batch_of_many_blocks_equals_torch(monkeypatch):
    """Large batches are summed in blocks; here blocks of one or two examples, the last one shorter."""
    for block in (1, 80):
        monkeypatch.setattr(layers, "BLOCK", block)
        assert_same_steps(*pair(4), batches("images", 2, batch=5))


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


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_spoil_their_channel_and_no_other(value):
    """As in torch, but that an infinite running value becomes NaN with the next batch, where torch's stays infinite."""
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


# ---- Properties from the paper ---------------------------------------------------------------------------------------


class Adapter:
    """Our layer behind the face of bnkit.reference, for the checks that the reference must satisfy."""

    @staticmethod
    def forward(x, gamma, beta, eps):
        leaves = [torch.tensor(array, requires_grad=True) for array in (x, gamma, beta)]
        y = layers.batch_norm(leaves[0], None, None, *leaves[1:], True, 0.0, eps)
        return y.detach().numpy(), (y, leaves)

    @staticmethod
    def backward(dy, cache):
        y, leaves = cache
        return [g.numpy() for g in torch.autograd.grad(y, leaves, torch.tensor(dy), retain_graph=True)]

    @staticmethod
    def infer(x, gamma, beta, population, eps):
        arrays = [torch.tensor(array) for array in (x, population.mean, population.var, gamma, beta)]
        return layers.batch_norm(*arrays, False, 0.0, eps).numpy()


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


@pytest.mark.parametrize("layout", ["vectors", "images"])
def test_momentum_none_is_the_plain_average_of_the_batches(layout):
    """Algorithm 2, line 10: of the batch means, and of the unbiased batch variances. Here without torch.nn."""
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


def test_variance_survives_a_large_mean():
    assert_variance_survives_a_large_mean()


# ---- Autograd --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("affine", ["weight and bias", "weight", "neither"])
@pytest.mark.parametrize("layout", ["vectors", "images, channels last", "images, batch innermost"])
def test_first_and_second_derivatives_equal_differences(layout, affine, training):
    x = next(batches(layout, batch=3, channels=2))[0][..., :2].requires_grad_()
    weight, bias = torch.tensor([[1.5, -0.7], [0.3, 0.2]], dtype=torch.float64, requires_grad=True)
    mean, var = torch.tensor([[0.1, -0.2], [0.5, 2.0]], dtype=torch.float64)
    parameters = {"weight and bias": (weight, bias), "weight": (weight,), "neither": ()}[affine]

    def function(x, weight=None, bias=None):
        return layers.batch_norm(
            x, None if training else mean, None if training else var, weight, bias, training, 0, EPS
        )

    leaves = (x, *[p.detach().requires_grad_() for p in parameters])
    assert torch.autograd.gradcheck(function, leaves)
    assert torch.autograd.gradgradcheck(function, leaves)


@pytest.mark.parametrize("wanted", [(True, False, False), (False, True, False), (False, False, True)], ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_each_gradient_can_be_had_alone(training, wanted):
    """Frozen parameters, or data as the input: what is not asked for costs nothing and breaks nothing."""
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


def test_a_broadcast_upstream_gradient():
    """What a mean over places sends back has strides of zero."""
    (x, _), *_ = batches("images, channels last")
    found = []
    for layer in pair():
        leaf = x.detach().requires_grad_()
        (layer(leaf).mean((2, 3)) ** 3).sum().backward()
        found.append(leaf.grad)
    assert_close(*found)


def test_a_frozen_layer_keeps_its_statistics_for_its_gradient():
    """A training step between a frozen pass and its gradient moves the running values, but not that gradient."""
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


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", ["vectors, transposed", "images", "images, channels last"])
def test_keeps_no_more_memory_for_the_gradient_than_torch(layout, dtype, training):
    x = next(batches(layout, batch=64, dtype=dtype))[0].requires_grad_()
    kept = []
    for layer in pair(x.ndim, dtype=torch.float32):
        storages = {}

        def pack(tensor, storages=storages):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            y = layer.train(training)(x)
        kept.append(sum(storages.values()))
        assert y.shape == x.shape
    assert kept[0] <= kept[1]


def test_no_operation_of_torchs_own_normalization_runs():
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
    assert "mul_.Tensor" in names
    assert not [name for name in names if "norm" in name]
    with Record():
        theirs(x)
    assert [name for name in names if "batch_norm" in name]  # so the recorder would have seen it


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # torch.func.jvp calls it
def test_torch_func_and_forward_mode():
    """Per-example gradients, ensembles, Jacobians and Hessians: what needs more than reverse mode."""
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
            outputs = vmap(lambda parameters, layer=layer: functional_call(layer, parameters, (x,)))(ensemble)
        tangent = jvp(layer, (x,), (v,))[1]
        second = hessian(lambda x, loss=loss, parameters=parameters: loss(parameters, x))(x[:, :, :2, :1])
        found.append([*gradients.values(), outputs, tangent, second])
    for ours, theirs in zip(*found, strict=True):
        assert_close(ours, theirs)


def test_compiles_without_a_graph_break():
    torch._dynamo.reset()
    (x, dy), *_ = batches("images")
    found = []
    for layer in (pair()[0], torch.compile(pair()[0], backend="aot_eager", fullgraph=True)):
        leaf = x.detach().requires_grad_()
        y = layer(leaf)
        y.backward(dy)
        found.append([y, leaf.grad, *[p.grad for p in layer.parameters()], *layer.buffers()])
    for eager, compiled in zip(*found, strict=True):
        assert_close(compiled, eager)


# ---- State -----------------------------------------------------------------------------------------------------------


def test_signature_is_torchs():
    assert inspect.signature(BatchNorm) == inspect.signature(nn.BatchNorm2d)
    assert repr(BatchNorm(3, bias=False)) == repr(nn.BatchNorm2d(3, bias=False)).replace("BatchNorm2d", "BatchNorm")


@pytest.mark.parametrize(
    "options",
    [{}, {"affine": False}, {"bias": False}, {"track_running_stats": False}, {"dtype": torch.float16}],
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


# ---- convert ---------------------------------------------------------------------------------------------------------


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
        nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), shared, nn.ReLU(), nn.ModuleDict({"norm": shared})["norm"]),
        Subclass(4, eps=EPS).eval(),
        Activated(4),
        nn.Flatten(2),
        nn.BatchNorm1d(4, affine=False),
    ).double()


def test_convert_keeps_outputs_parameters_modes_hooks_and_sharing():
    theirs, ours = model(), model()
    before = list(ours.parameters()) + list(ours.buffers())
    optimiser, peer = torch.optim.SGD(ours.parameters(), 0.1), torch.optim.SGD(theirs.parameters(), 0.1)
    called = []
    ours[1].register_forward_hook(lambda *_: called.append(True))

    assert convert(ours) is ours
    assert [type(m) for m in (ours[0][1], ours[1], ours[2], ours[4])] == [BatchNorm, BatchNorm, Activated, BatchNorm]
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
    assert type(convert(layer)) is BatchNorm
    assert not layer.training
    assert layer.weight.dtype is torch.float16
    assert layer.weight.device.type == "meta"
    assert convert(layer) is layer


def test_convert_leaves_alone_what_it_would_break():
    parametrized = nn.BatchNorm1d(3)
    nn.utils.parametrize.register_parametrization(parametrized, "weight", nn.Softplus())
    for layer in (nn.SyncBatchNorm(3), nn.InstanceNorm1d(3), parametrized):
        kind = type(layer)
        assert type(convert(layer)) is kind


def test_convert_refuses_a_layer_without_a_shape():
    net = nn.Sequential(nn.BatchNorm1d(3), nn.LazyBatchNorm1d())
    with pytest.raises(ValueError, match=r"^1 is a LazyBatchNorm1d without a shape.*Run a batch"):
        convert(net)
    assert type(net[0]) is nn.BatchNorm1d


# ---- Refusals --------------------------------------------------------------------------------------------------------

REFUSED = {  # options, training, input, error as torch's, message
    "1-D": ({}, False, torch.ones(3), ValueError, r"shape \(3,\); 2 to 5 axes.*unsqueeze"),
    "6-D": ({}, False, torch.ones(2, 3, 1, 1, 1, 1), ValueError, "2 to 5 axes"),
    "channels": ({}, True, torch.ones(5, 4), RuntimeError, r"4 channels on axis 1.* has 3"),
    "channels, evaluation": ({}, False, torch.ones(5, 4), RuntimeError, "4 channels"),
    "integers": ({}, True, torch.ones(5, 3, dtype=torch.long), NotImplementedError, r"int64.*Use input.float\(\)"),
    "complex": ({}, True, torch.ones(5, 3, dtype=torch.cfloat), NotImplementedError, "complex64"),
    "float64 into float32": ({}, True, torch.ones(5, 3).double(), RuntimeError, r"float64.*float32.*Use .to\(\)"),
    "float16 into bfloat16": ({"dtype": torch.bfloat16}, True, torch.ones(5, 3).half(), RuntimeError, "bfloat16"),
    "float32 into float16": ({"dtype": torch.float16}, False, torch.ones(5, 3), RuntimeError, "float32.*float16"),
    "other device": ({}, True, torch.ones(5, 3, device="meta"), RuntimeError, "on meta.* on cpu"),
    "one value": ({}, True, torch.ones(1, 3), ValueError, r"one value per channel.*at least two, or eval\(\)"),
    "one value, map": ({}, True, torch.ones(1, 3, 1), ValueError, "one value per channel"),
    "one value, no tracking": ({"track_running_stats": False}, False, torch.ones(1, 3), ValueError, "one value"),
    "eps zero": ({"eps": 0.0}, True, torch.ones(5, 3), ValueError, "eps is 0.0; it must be above 0 in training"),
    "eps negative": ({"eps": -1.0}, False, torch.ones(5, 3), ValueError, "at least 0 in evaluation"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_are_torchs_with_a_message_that_helps(case):
    options, training, x, error, message = REFUSED[case]
    layer = BatchNorm(3, **options).train(training)
    before = copy.deepcopy(layer.state_dict())
    with pytest.raises(error, match=message):
        layer(x)
    assert all(torch.equal(before[name], value) for name, value in layer.state_dict().items()), "something has changed"
    peer = PEERS[min(max(x.ndim, 2), 5)](3, **options).train(training)
    with pytest.raises(error):
        peer(x)


def test_one_value_and_eps_zero_are_fine_in_evaluation():
    ours, theirs = pair(2, eps=0.0)
    x = torch.ones(1, 3, dtype=torch.float64)
    assert_close(ours.eval()(x), theirs.eval()(x))


# ---- Mutants: the checks above must reject these ---------------------------------------------------------------------


def steps_equal(make=BatchNorm, **options):
    assert_same_steps(*pair(make=make, momentum=0.3, **options), batches("images", 3), looks=(1, 2, 3))


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
    """`moments`, but for the variance, which is var(x, centred) of (C, values)."""

    def moments(x):
        mean, _, centred = layers_moments(x)
        return mean, var(x.transpose(0, 1).flatten(1), centred.transpose(0, 1).flatten(1)), centred

    return moments


def observe_with(change):
    return lambda *arguments: layers_observe(*change(*arguments))


def input_gradient_with(dweight, dbias):
    """`input_gradient` with a multiple of its two sums."""

    def input_gradient(dy, centred, inv_std, weight, sum_dy_x_hat, sum_dy):
        return layers_input_gradient(dy, centred, inv_std, weight, dweight * sum_dy_x_hat, dbias * sum_dy)

    return input_gradient


def columns_apart(x):
    """Statistics over axes 0 and 2 alone, their variance averaged over axis 3."""
    mean, _, centred = layers_moments(x)
    return mean, x.var((0, 2), correction=0).mean(-1), centred


layers_moments, layers_observe, layers_input_gradient = layers.moments, layers.observe, layers.input_gradient


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
            mean, var, _ = layers.moments(input.detach())
            layers.observe(self.running_mean, self.running_var, mean, var, input.numel() // 3, self.momentum)
        return y


class BatchStatisticsInEvaluation(BatchNorm):
    def forward(self, input):
        if self.training:
            return super().forward(input)
        return layers.batch_norm(input, None, None, self.weight, self.bias, True, 0.0, self.eps)


PATCHES = {  # what is replaced, by what, and the check that must turn red
    "unbiased variance to normalise": ("moments", moments_with(lambda x, c: c.var(1)), steps_equal),
    "divides by the variance": ("inverse_std", lambda var, eps: 1 / (var + eps), steps_equal),
    "eps outside the root": ("inverse_std", lambda var, eps: 1 / (var.sqrt() + eps), steps_equal),
    "statistics over the wrong axes": ("moments", columns_apart, steps_equal),
    "E[x²] − E[x]²": (
        "moments",
        moments_with(lambda x, c: (x.square().mean(1) - x.mean(1).square()).clamp(0)),
        assert_variance_survives_a_large_mean,
    ),
    "momentum reversed": ("observe", observe_with(lambda *a: (*a[:5], 1 - a[5])), steps_equal),
    "biased variance stored": ("observe", observe_with(lambda *a: (*a[:4], 10**12, a[5])), steps_equal),
    "nothing observed": ("observe", lambda *a: None, steps_equal),
    "statistics detached": ("input_gradient", input_gradient_with(0, 0), steps_equal),
    "variance detached": ("input_gradient", input_gradient_with(0, 1), steps_equal),
    "mean detached": ("input_gradient", input_gradient_with(1, 0), steps_equal),
    "γ's gradient from x − mean": (
        "parameter_gradients",
        lambda dy, centred, inv_std: ((dy * centred).sum((0, 2, 3)), dy.sum((0, 2, 3))),
        frozen_steps_equal,
    ),
}
SUBCLASSES = {
    ModeFromGradients: [frozen_steps_equal, recalibration_equals],
    Uncounted: [steps_equal],
    ObservesInEvaluation: [frozen_steps_equal],
    BatchStatisticsInEvaluation: [frozen_steps_equal],
}


@pytest.mark.parametrize("check", [steps_equal, frozen_steps_equal, recalibration_equals])
def test_the_layer_passes_the_checks_of_the_mutants(check):
    check()


@pytest.mark.parametrize("mutant", PATCHES)
def test_mutated_mathematics_is_rejected(mutant, monkeypatch):
    name, replacement, check = PATCHES[mutant]
    monkeypatch.setattr(layers, name, replacement)
    with pytest.raises(AssertionError):
        check()


@pytest.mark.parametrize(("mutant", "check"), [(m, check) for m, checks in SUBCLASSES.items() for check in checks])
def test_mutated_bookkeeping_is_rejected(mutant, check):
    with pytest.raises(AssertionError):
        check(mutant)


def test_forgetting_how_the_statistics_depend_on_x_is_rejected_by_second_differences(monkeypatch):
    """First derivatives are right; only a double backward sees it."""
    x = torch.randn(4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    monkeypatch.setattr(layers, "moments", lambda x: tuple(t.detach() for t in layers_moments(x)))

    def function(x):
        return layers.batch_norm(x, None, None, None, None, True, 0.0, EPS)

    assert torch.autograd.gradcheck(function, x)
    assert not torch.autograd.gradgradcheck(function, x, raise_exception=False)
