"""The layer among torch's own tools: each tool takes ours as it takes torch's, or refuses aloud.

A grid: tool x variant. What a tool makes of our network is held against what the same tool makes of
torch's, or against torch's network itself; a ReLU inside is kept or refused.
"""

import copy
import io
import os
import pickle
import warnings
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from conftest import assert_close
from torch import distributed, nn
from torch.utils import checkpoint

from bnkit import layers
from bnkit.layers import BatchNorm2d, convert, restore

QUIET = (
    "ignore:.*torch.jit",
    "ignore:.*torch.ao.quantization",
    "ignore:Converting a tensor to a Python",
)
pytestmark = [pytest.mark.filterwarnings(message) for message in QUIET]


class Scaled(nn.BatchNorm2d):
    """A subclass with a method of its own."""

    def scale(self):
        return self.weight


class Behind(nn.BatchNorm2d):
    """A norm-plus-activation layer, as model zoos write it."""

    def forward(self, input):
        if self.training and self.track_running_stats:
            self.num_batches_tracked.add_(1)
        mean, var = self.running_mean, self.running_var
        momentum = 0.1 if self.momentum is None else self.momentum
        known = (mean, var, self.weight, self.bias, self.training, momentum, self.eps)
        return F.leaky_relu(F.batch_norm(input, *known))


def network(norm, relu=False, channels=4):
    """Convolution, normalization (and ReLU), convolution; no two channels alike."""
    torch.manual_seed(0)
    between = [norm, nn.ReLU()] if relu else [norm]
    net = nn.Sequential(nn.Conv2d(2, channels, 3), *between, nn.Conv2d(channels, 2, 1))
    with torch.no_grad():
        norm.weight.copy_(torch.rand(channels) + 0.5)
        norm.bias.copy_(torch.rand(channels) - 0.5)
        norm.running_mean.copy_(torch.randn(channels))
        norm.running_var.copy_(torch.rand(channels) + 0.5)
    return net


class Variant:
    """Torch's network and ours, which must be the same."""

    def __init__(self, kind=nn.BatchNorm2d, relu=False, process_group=None, **options):
        self.theirs = network(kind(4, **options), relu)
        if relu:
            ours = network(BatchNorm2d(4, activation="relu", **options))
            ours.insert(2, nn.Identity())  # so that both have the same names
        else:
            ours = convert(copy.deepcopy(self.theirs), process_group=process_group)
        ours.load_state_dict(self.theirs.state_dict())
        self.ours, self.relu, self.group, self.kind = ours, relu, process_group, kind

    def both(self, training):
        return self.ours.train(training), self.theirs.train(training)


VARIANTS = {
    "plain": Variant,
    "with ReLU": partial(Variant, relu=True),
    "with a process group": partial(Variant, process_group="world"),
    "subclass": partial(Variant, kind=Scaled),
    "norm and activation": partial(Variant, kind=Behind),
    "momentum None": partial(Variant, momentum=None),
}
modes = pytest.mark.parametrize("training", [True, False])


@pytest.fixture(scope="module", autouse=True)
def a_group_of_one(tmp_path_factory):
    """So that a layer with a process group has one; alone it exchanges nothing."""
    meeting = tmp_path_factory.mktemp("group") / "meeting"
    distributed.init_process_group("gloo", f"file://{meeting}", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.fixture(params=VARIANTS)
def variant(request):
    return VARIANTS[request.param]()


@pytest.fixture
def x():
    return torch.randn(5, 2, 6, 6, generator=torch.Generator().manual_seed(1))


def assert_same_state(ours, theirs):
    mine, right = ours.state_dict(), theirs.state_dict()
    mine = {name.removeprefix("_orig_mod."): value for name, value in mine.items()}
    assert mine.keys() == right.keys()
    for name, value in right.items():
        assert_close(mine[name].double(), value.double(), 2e-5)


def assert_same_step(ours, theirs, x):
    """Outputs, gradients of everything, buffers."""
    results = []
    for net in (ours, theirs):
        leaf = x.clone().requires_grad_()
        y = net(leaf)
        y.pow(2).sum().backward()
        results.append([y, leaf.grad, *[p.grad for p in net.parameters()]])
    for mine, right in zip(*results, strict=True):
        # a bias before the normalization has no gradient but rounding
        assert_close(mine, right, max(2e-5, 1e-4 / max(1e-9, right.detach().abs().max().item())))
    assert_same_state(ours, theirs)


def operators(graph):
    """The names of the operators in an fx graph."""
    return [str(n.target) for n in graph.nodes if n.op in ("call_function", "call_module")]


# ---- Folding -------------------------------------------------------------------------------------


def test_folding_into_a_convolution(variant, x):
    ours, theirs = variant.both(False)
    fold = nn.utils.fusion.fuse_conv_bn_eval
    if variant.relu or variant.kind is Behind:  # torch's tool loses an activation without a word
        with pytest.raises(RuntimeError, match=r"(a ReLU inside|a forward of its own).*lost"):
            fold(ours[0], ours[1])
        return
    folded, right = fold(ours[0], ours[1]), fold(theirs[0], theirs[1])
    assert_close(folded(x), right(x))
    assert_close(folded(x), theirs[:2](x))


@pytest.mark.parametrize("relu", [None, "relu"])
def test_folding_into_a_linear_layer(relu):
    torch.manual_seed(0)
    linear, norm = nn.Linear(3, 4).eval(), layers.BatchNorm1d(4, activation=relu).eval()
    norm.running_mean.normal_()
    if relu:
        with pytest.raises(RuntimeError, match="has a ReLU inside"):
            nn.utils.fusion.fuse_linear_bn_eval(linear, norm)
        return
    x = torch.randn(5, 3)
    assert_close(nn.utils.fusion.fuse_linear_bn_eval(linear, norm)(x), norm(linear(x)))


def test_those_who_fold_by_hand_are_refused_as_well():
    """Away from torch, whatever is computed with eps; looking at it is allowed."""
    norm = BatchNorm2d(3, eps=1e-3, activation="relu")
    assert norm.eps == 1e-3
    for fold in (
        lambda: norm.weight / torch.sqrt(norm.running_var + norm.eps),
        lambda: (norm.eps + norm.running_var).rsqrt(),
        lambda: norm.running_var.clone().add_(norm.eps),
    ):
        with pytest.raises(RuntimeError, match="has a ReLU inside"):
            fold()
    plain = BatchNorm2d(3)
    assert_close(plain.running_var + plain.eps, torch.full((3,), 1 + 1e-5))
    plain.eps = 0.5
    assert plain.eps == 0.5
    assert "eps=0.5" in repr(plain)


def test_mkldnn_layers_keep_the_relu_or_are_refused(x):
    from torch.utils.mkldnn import to_mkldnn

    with pytest.raises(RuntimeError, match="has a ReLU inside"):
        to_mkldnn(VARIANTS["with ReLU"]().ours.eval())
    if torch.backends.mkldnn.is_available():
        ours, theirs = Variant().both(False)
        assert_close(to_mkldnn(ours)(x.to_mkldnn()).to_dense(), theirs(x), 1e-4)


def test_sync_batch_norm_keeps_the_group_or_refuses():
    convert_sync = nn.SyncBatchNorm.convert_sync_batchnorm
    with pytest.raises(RuntimeError, match="has a ReLU inside"):
        convert_sync(VARIANTS["with ReLU"]().ours)
    with pytest.raises(RuntimeError, match="has a process_group of its own"):
        convert_sync(BatchNorm2d(3, process_group=distributed.group.WORLD))
    for name in ("plain", "with a process group", "subclass"):  # "world" is what None is there
        net = convert_sync(VARIANTS[name]().ours)
        assert type(net[1]) is nn.SyncBatchNorm


@pytest.mark.parametrize("group", ["wrld", 7, False])
def test_what_is_no_process_group_is_refused_and_nothing_has_changed(group):
    layer = BatchNorm2d(3, process_group=group)
    with pytest.raises(RuntimeError, match=f"process_group is {group!r}; a group of torch"):
        layer(torch.ones(2, 3, 4, 4))
    assert layer.num_batches_tracked == 0


@pytest.mark.parametrize("qat", [False, True])
def test_fuse_modules(variant, x, qat):
    from torch.ao import quantization

    ours, theirs = variant.both(qat)
    names = ["0", "1", "2"] if variant.relu else ["0", "1"]
    fuse = quantization.fuse_modules_qat if qat else quantization.fuse_modules
    if variant.kind is not nn.BatchNorm2d:  # torch looks for exact classes
        for net in (ours, theirs):
            with pytest.raises(AssertionError, match="did not find fuser method"):
                fuse(net, [names])
        return
    mine = fuse(ours, [names[:2]])
    right = fuse(theirs, [names])
    assert type(mine[0]) is type(right[0])
    assert_close(mine(x), right(x))
    assert_same_state(mine, right)


@pytest.mark.parametrize("training", [(True, True), (True, False)])
def test_what_fuse_modules_refuses_is_what_it_was(variant, x, training):
    from torch.ao.quantization import fuse_modules

    net = variant.both(False)[0][:2]
    for layer, mode in zip(net, training, strict=True):
        layer.train(mode)
    kinds, wanted = list(map(type, net)), copy.deepcopy(net)(x)
    with pytest.raises(AssertionError):
        fuse_modules(net, [["0", "1"]], inplace=True)
    assert list(map(type, net)) == kinds
    assert_close(net(x), wanted)


@pytest.mark.filterwarnings("ignore")  # torch's own, of its observers
@pytest.mark.parametrize("order", ["conv bn relu", "bn relu", "bn", "conv relu bn"])
def test_static_quantization_of_a_layer_that_is_not_folded(order, x):
    """Torch has a quantized layer for it, and looks it up by the exact class."""
    from torch.ao import quantization

    def quantized(norm):
        parts = {"conv": nn.Conv2d(4, 4, 1), "bn": norm, "relu": nn.ReLU()}
        chosen = [parts[name] for name in order.split()]
        net = nn.Sequential(quantization.QuantStub(), *chosen, quantization.DeQuantStub())
        net.qconfig = quantization.get_default_qconfig("x86")
        ready = quantization.prepare(net.eval())
        ready(batch)
        return quantization.convert(ready)(batch)

    batch, results = torch.cat([x, x], 1).float(), []
    for kind in (nn.BatchNorm2d, BatchNorm2d):
        torch.manual_seed(0)
        results.append(quantized(kind(4)))
    assert torch.equal(*results)


def test_fuse_modules_of_a_layer_for_any_shape_with_a_relu(x):
    from torch.ao.quantization import fuse_modules

    net = nn.Sequential(nn.Conv2d(2, 4, 1), layers.BatchNorm(4, activation="relu"), nn.ReLU())
    net.eval()[1].running_mean.normal_()
    for names in (["0", "1"], ["0", "1", "2"]):
        fused = fuse_modules(net, [names])
        assert type(fused[0]) is torch.ao.nn.intrinsic.ConvReLU2d
        assert_close(fused(x), net(x))


def prepared_by_fx(net, x, training):
    """In training without the rounding, whose ranges one step cannot learn."""
    from torch.ao import quantization
    from torch.ao.quantization import quantize_fx

    if "x86" not in torch.backends.quantized.supported_engines:
        pytest.skip("torch was built without quantized operators for this machine")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own mappings
        if training:
            mapping = quantization.get_default_qat_qconfig_mapping("x86")
            net = quantize_fx.prepare_qat_fx(copy.deepcopy(net), mapping, (x,))
            net.apply(quantization.disable_fake_quant)
        else:
            mapping = quantization.get_default_qconfig_mapping("x86")
            net = quantize_fx.prepare_fx(copy.deepcopy(net), mapping, (x,))
        net(x)
        return net.eval() if training else quantize_fx.convert_fx(net)


@modes
def test_fx_graph_mode_quantization(variant, x, training):
    """Ours is left unfolded, and a ReLU inside it where it is; restored, all is as torch has it."""
    ours, theirs = variant.both(training)
    right = copy.deepcopy(theirs)
    right(x)  # in training the running values move, as they do in what is prepared
    wanted = right.eval()(x)
    if training and variant.kind is Behind:  # traced inside, where training stays as it was then
        wanted = prepared_by_fx(theirs, x, training)(x)
    y = prepared_by_fx(ours, x, training)(x)
    bound = 1e-4 if training else 0.1
    assert (y - wanted).abs().max() < bound * wanted.abs().max()
    if variant.kind is nn.BatchNorm2d and not variant.relu and variant.group is None:
        again, torchs = (prepared_by_fx(n, x, training) for n in (restore(ours), theirs))
        assert operators(again.graph) == operators(torchs.graph)
        assert_close(again(x), torchs(x))


def test_fx_graph_mode_quantization_keeps_the_relu(x):
    """The mutant: without the ReLU inside, the bound above is broken."""
    ours, theirs = Variant(relu=True).both(False)
    wanted = theirs(x)
    ours[1].activation = None
    y = prepared_by_fx(ours, x, False)(x)
    assert (y - wanted).abs().max() > 0.2 * wanted.abs().max()


# ---- Tracing, exporting, scripting ---------------------------------------------------------------


@modes
def test_fx_traces_it_as_one_node(variant, x, training):
    ours, theirs = variant.both(training)
    if variant.kind is Behind:  # not a leaf: torch looks inside
        for net in (ours, theirs):
            traced = torch.fx.symbolic_trace(net)
            assert sum("batch_norm" in name for name in operators(traced.graph)) == 1
        return
    traced = torch.fx.symbolic_trace(ours)
    if variant.kind is nn.BatchNorm2d:
        assert operators(traced.graph) == operators(torch.fx.symbolic_trace(theirs).graph)
    assert_same_step(traced, theirs, x)


def test_features_can_be_taken_by_the_name_of_the_layer(x):
    """As feature extraction does: by the nodes of a traced network."""
    for name, make in VARIANTS.items():
        if name == "norm and activation":
            continue
        ours, theirs = make().both(False)
        graph = torch.fx.symbolic_trace(ours).graph
        node = next(node for node in graph.nodes if node.target == "1")
        graph.output(node)
        for other in list(graph.nodes)[::-1]:
            if other.op == "output" and other.args[0] is not node:
                graph.erase_node(other)
        graph.eliminate_dead_code()
        extracted = torch.fx.GraphModule(ours, graph)
        assert_close(extracted(x), theirs[: 3 if make().relu else 2](x))


def test_fx_folding_leaves_it_right(x):
    from torch.fx.experimental import optimization

    for name in ("plain", "with ReLU"):
        ours, theirs = VARIANTS[name]().both(False)
        assert_close(optimization.fuse(ours)(x), theirs(x))
    folded = optimization.fuse(restore(Variant().ours.eval()))
    assert not [m for m in folded.modules() if isinstance(m, nn.BatchNorm2d)]


@modes
def test_export_holds_the_operators_that_torchs_has(variant, x, training):
    ours, theirs = variant.both(training)
    if training and variant.kind is nn.BatchNorm2d and ours[1].momentum is None:
        return  # a share that is read from the count: neither can be exported as one graph
    graphs = [torch.export.export(net, (x,)) for net in (ours, theirs)]
    assert operators(graphs[0].graph) == operators(graphs[1].graph)
    assert operators(graphs[0].graph).count("aten.batch_norm.default") == 1
    assert_close(graphs[0].module()(x), theirs(x))


@pytest.mark.parametrize("dynamo", [True, False])
def test_onnx(variant, x, dynamo):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    if dynamo:
        pytest.importorskip("onnxscript")
        if (variant.kind is not nn.BatchNorm2d or variant.group) and "BNKIT_SLOW" not in os.environ:
            pytest.skip("both exporters see the same operators: BNKIT_SLOW=1 asks this one, too")
    ours, theirs = variant.both(False)
    kinds = []
    for net in (ours, theirs):
        file = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if dynamo:
                torch.onnx.export(net, (x,), dynamo=True, verbose=False).save(file)
            else:
                torch.onnx.export(net, (x,), file, dynamo=False)
        session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
        [y] = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        assert_close(y, theirs(x), 1e-4)
        import onnx

        kinds.append([node.op_type for node in onnx.load_from_string(file.getvalue()).graph.node])
    assert kinds[0] == kinds[1]


@modes
def test_jit_trace(variant, x, training):
    """With gradients enabled: one operator, as torch's."""
    ours, theirs = variant.both(training)
    traced = torch.jit.trace(copy.deepcopy(ours), x, check_trace=False)
    right = torch.jit.trace(copy.deepcopy(theirs), x, check_trace=False)
    kinds = [
        [n.kind() for n in t.inlined_graph.nodes() if "aten" in n.kind()] for t in (traced, right)
    ]
    assert kinds[0] == kinds[1]
    assert_same_step(traced, right, x)


@modes
def test_jit_script(variant, x, training):
    ours, theirs = variant.both(training)
    scripted = torch.jit.script(copy.deepcopy(ours))
    right = torch.jit.script(copy.deepcopy(theirs))
    assert_same_step(scripted, right, x)
    file = io.BytesIO()
    torch.jit.save(scripted, file)
    file.seek(0)
    assert_close(torch.jit.load(file).eval()(x), right.eval()(x))
    assert isinstance(ours[1], layers.BatchNorm)


@modes
def test_compile_without_a_graph_break(variant, x, training):
    torch._dynamo.reset()
    ours, theirs = variant.both(training)
    compiled = torch.compile(ours, backend="aot_eager", fullgraph=True)
    assert_same_step(compiled, theirs, x)


def test_make_fx_and_fake_tensors_see_one_operator(variant, x):
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx

    ours, theirs = variant.both(False)
    graphs = [make_fx(copy.deepcopy(net))(x).graph for net in (ours, theirs)]
    assert operators(graphs[0]) == operators(graphs[1])
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        y = ours(mode.from_tensor(x))
    assert y.shape == theirs(x).shape


# ---- Training ------------------------------------------------------------------------------------


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpoints(variant, x, reentrant):
    """What is computed twice is observed twice, by both, and counted twice."""

    def run(net, x):
        return checkpoint.checkpoint(net[:2], x, use_reentrant=reentrant)

    found = []
    for net in variant.both(True):
        for seed in range(3):
            leaf = (x + seed).requires_grad_()
            y = run(net, leaf)
            y.pow(3).mean().backward()
        found.append([leaf.grad, net[1].running_mean, net[1].running_var])
        found[-1].append(net[1].num_batches_tracked.double())
    if variant.relu:
        found[0].pop(0), found[1].pop(0)  # the segment ends before torch's ReLU
    for mine, right in zip(*found, strict=True):
        assert_close(mine, right, 1e-4)


def test_a_plain_average_under_a_checkpoint_that_ends_with_the_layer():
    """Batch means 1, 2 and 6, each seen twice, are 3 on average."""
    for last in (layers.BatchNorm1d(1, momentum=None), nn.BatchNorm1d(1, momentum=None)):
        for mean in (1.0, 2.0, 6.0):
            x = torch.tensor([[mean - 1], [mean + 1]], requires_grad=True)
            checkpoint.checkpoint(last, x, use_reentrant=False).sum().backward()
        assert_close(last.running_mean, torch.tensor([3.0]))
        assert last.num_batches_tracked == 6


def test_functional_call_vmap_and_forward_mode(variant, x):
    results = []
    for net in variant.both(False):
        state = {name: value.detach() for name, value in net.named_parameters()}
        doubled = {name: torch.stack([value, 2 * value]) for name, value in state.items()}
        call = partial(torch.func.functional_call, net)
        tangent = torch.func.jvp(lambda x, c=call, s=state: c(s, (x,)), (x,), (x.cos(),))[1]
        many = torch.func.vmap(lambda s, c=call: c(s, (x,)))(doubled)
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(x, x.cos())
            by_dual = torch.autograd.forward_ad.unpack_dual(net(dual)).tangent
        results.append([call(state, (x,)), many, tangent, by_dual])
    for mine, right in zip(*results, strict=True):
        assert_close(mine, right)


def test_replace_all_batch_norm_modules(variant, x):
    from torch.func import replace_all_batch_norm_modules_

    results = []
    for net in variant.both(True):
        replace_all_batch_norm_modules_(net)
        if variant.kind is Behind:  # whose forward knows no layer without running values
            assert net[1].running_mean is None
            return
        state = {name: value.detach() for name, value in net.named_parameters()}
        call = partial(torch.func.functional_call, net)
        results.append(
            torch.func.vmap(lambda x, c=call, s=state: c(s, (x,)))(torch.stack([x, x * 2]))
        )
    assert_close(*results)


def test_update_bn(variant, x):
    found = []
    for net in variant.both(True):
        torch.optim.swa_utils.update_bn([x, x + 1, 2 * x], net)
        found.append(net.state_dict())
    for name, value in found[1].items():
        assert_close(found[0][name].double(), value.double(), 2e-5)


# ---- Copies --------------------------------------------------------------------------------------


def saved_and_loaded(net):
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    kinds = {type(m) for m in net.modules()}
    with torch.serialization.safe_globals([*list(kinds), torch.Size]):
        return torch.load(file, weights_only=not hasattr(type(net[1]), "converted_from"))


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda net: pickle.loads(pickle.dumps(net)),
    "torch.save": saved_and_loaded,
}


@pytest.mark.parametrize("copied", COPIES)
def test_copies(variant, x, copied):
    ours, theirs = variant.both(True)
    twin = COPIES[copied](ours)
    assert type(twin[1]) is type(ours[1])
    assert_same_step(twin, theirs, x)


def test_state_dicts_load_with_weights_only(variant):
    file = io.BytesIO()
    torch.save(variant.ours.state_dict(), file)
    file.seek(0)
    variant.theirs.load_state_dict(torch.load(file, weights_only=True))


def test_inside_a_parametrization(x):
    """Tools see the parametrized numbers, of ours as of torch's."""
    results = []
    for norm in (BatchNorm2d(4), nn.BatchNorm2d(4)):
        nn.utils.parametrize.register_parametrization(norm, "weight", nn.Softplus())
        net = nn.Sequential(nn.Conv2d(2, 4, 1), norm)
        net[0].weight.data.fill_(0.3)
        net[0].bias.data.fill_(0.1)
        norm.running_mean.fill_(0.2)
        net.eval()
        folded = nn.utils.fusion.fuse_conv_bn_eval(net[0], norm)
        traced = torch.fx.symbolic_trace(net)
        results.append([net(x), folded(x), traced(x)])
    for mine, right in zip(*results, strict=True):
        assert_close(mine, right)
