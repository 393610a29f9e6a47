"""Converting a model and leading it back: who is converted, who is left and why, and what stays."""

import copy
import pickle
import threading
import warnings

import pytest
import torch
import torch.nn.functional as F
from conftest import assert_close
from torch import nn

from bnkit import layers
from bnkit.layers import batch_norm, conversion, convert, examine, modules, restore

TORCHS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
SHAPES = {"BatchNorm1d": (6, 3), "BatchNorm2d": (4, 3, 2, 2), "BatchNorm3d": (2, 3, 2, 2, 2)}


def batch(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---- Subclasses as users write them --------------------------------------------------------------


class Frozen(nn.BatchNorm2d):
    """Never trains its statistics; has a check, a loading hook and a method of its own."""

    def train(self, mode=True):
        return super().train(False)

    def _check_input_dim(self, input):
        if input.shape[-1] == 1:
            raise ValueError("no single columns, please")
        super()._check_input_dim(input)

    def _load_from_state_dict(self, state, prefix, *arguments):
        state[prefix + "weight"] = state[prefix + "weight"] * 2
        super()._load_from_state_dict(state, prefix, *arguments)

    def scale(self):
        return self.weight / (self.running_var + self.eps).sqrt()


class Called(nn.BatchNorm2d):
    def __call__(self, *arguments, **options):
        return super().__call__(*arguments, **options) + 1


class Activated(nn.BatchNorm2d):
    """Something behind the forward above it."""

    def forward(self, input):
        return super().forward(input).tanh()


class Zoo(nn.BatchNorm2d):
    """As model zoos have it: torch's forward pasted, then an activation."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.activation = nn.Tanh()

    def forward(self, x):
        momentum = 0.0 if self.momentum is None else self.momentum
        if self.training and self.track_running_stats:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                momentum = 1.0 / float(self.num_batches_tracked)
        mean, var = self.running_mean, self.running_var
        y = F.batch_norm(x, mean, var, self.weight, self.bias, self.training, momentum, self.eps)
        return self.activation(y)


class Named(nn.BatchNorm2d):
    """Has a word of ours for something else."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.activation = "relu"  # of a layer behind it


class ByHand(nn.BatchNorm2d):
    """Computes everything itself."""

    def forward(self, input):
        scale = self.weight / (self.running_var + self.eps).sqrt()
        return (input - self.running_mean[:, None, None]) * scale[:, None, None]


class Sealed(nn.BatchNorm2d):
    def __init_subclass__(cls, **options):
        raise TypeError("no heirs")


class Grouped(nn.BatchNorm2d):
    process_group = "mine"


KEPT = [Frozen, Called, Activated, Zoo, Named]


def step(layer, x):
    leaf = x.clone().requires_grad_()
    y = layer(leaf)
    y.pow(3).sum().backward()
    return [y, leaf.grad, layer.weight.grad, layer.running_mean, layer.running_var]


@pytest.mark.parametrize("momentum", [0.3, None])
@pytest.mark.parametrize("kind", KEPT)
def test_subclasses_keep_everything_they_override(kind, momentum, monkeypatch):
    theirs = kind(3, momentum=momentum, dtype=torch.float64)
    with torch.no_grad():
        theirs.running_mean.add_(0.5)
    ours = convert(copy.deepcopy(theirs))
    used = []
    for module in (modules, conversion):
        monkeypatch.setattr(module, "batch_norm", lambda *a: (used.append(1), counted(*a))[1])
    for training in (True, False):
        for each in (ours, theirs):
            each.train(training)
            each.zero_grad()
        assert ours.training == theirs.training
        for seed in (1, 2):
            results = [step(layer, batch(4, 3, 2, 2, seed=seed)) for layer in (ours, theirs)]
            for mine, right in zip(*results, strict=True):
                assert_close(mine, right)
    assert len(used) == 4, "ours did not run"
    assert ours.num_batches_tracked == theirs.num_batches_tracked
    assert isinstance(ours, kind)
    assert isinstance(ours, layers.BatchNorm2d)
    assert repr(ours) == repr(theirs)


counted = batch_norm.batch_norm


def test_a_frozen_layer_stays_frozen_checks_and_loads_in_its_own_way():
    ours = convert(Frozen(3).train())
    assert not ours.train().training
    ours(torch.ones(2, 3, 2, 2))
    assert not ours.running_mean.any()
    with pytest.raises(ValueError, match="no single columns"):
        ours(torch.ones(2, 3, 2, 1))
    with pytest.raises(ValueError, match="takes 4 axes"):
        ours(torch.ones(2, 3, 2))
    ours.load_state_dict(Frozen(3).state_dict())
    assert_close(ours.weight, torch.full((3,), 2.0))
    assert ours.scale().shape == (3,)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
@pytest.mark.parametrize("kind", [nn.BatchNorm2d, *KEPT])
def test_converted_layers_can_be_copied(kind, copied):
    ours = convert(kind(3, dtype=torch.float64))
    twin, x = copied(ours), batch(4, 3, 2, 2)
    assert type(twin) is type(ours)
    assert_close(twin(x), ours(x))
    assert twin.num_batches_tracked == ours.num_batches_tracked
    assert type(restore(twin)) is kind


# ---- Who is left, and why ------------------------------------------------------------------------


def patched():
    layer = nn.BatchNorm2d(3)
    layer.forward = lambda input: input
    return layer


def parametrized():
    layer = nn.BatchNorm2d(3)
    nn.utils.parametrize.register_parametrization(layer, "weight", nn.Softplus())
    return layer


LEFT = {
    "parametrized": (parametrized, "convert before parametrizing"),
    "patched": (patched, "forward is set on the object"),
    "by hand": (lambda: ByHand(3), "own forward, which calls neither"),
    "sealed": (lambda: Sealed(3), "cannot be inherited from: no heirs"),
    "grouped": (lambda: Grouped(3), "a process_group of its own"),
    "quantized": (lambda: torch.ao.nn.quantized.BatchNorm2d(3), "own forward"),
}


@pytest.mark.parametrize("case", LEFT)
def test_what_is_left_is_named_and_told(case):
    make, why = LEFT[case]
    net = nn.Sequential(nn.Conv2d(2, 3, 1), make())
    kind, told = type(net[1]), []
    with pytest.warns(UserWarning, match=f"nothing was converted:(.|\n)*1 .*{why}"):
        convert(net, report=told.append)
    assert type(net[1]) is kind
    [conversion] = told
    assert conversion.named("left") == ["1"]
    assert why in conversion.entries[0].why
    net.append(nn.BatchNorm2d(3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        convert(net)
    assert (examine(net).named("left"), examine(net).named("ours")) == (["1"], ["2"])


def test_a_lazy_layer_is_refused_and_named_and_a_model_without_any_warns():
    net = nn.Sequential(nn.BatchNorm1d(3), nn.LazyBatchNorm1d())
    with pytest.raises(ValueError, match=r"^1 is a LazyBatchNorm1d without a shape.*Run a batch"):
        convert(net)
    assert type(net[0]) is nn.BatchNorm1d
    assert examine(net).entries[1].why.startswith("lazy")
    with pytest.warns(UserWarning, match="no batch normalization in this model"):
        convert(nn.Sequential(nn.Linear(2, 3), nn.InstanceNorm1d(3)))


def test_the_report_prints_as_a_table():
    net = nn.Sequential(nn.BatchNorm2d(3), layers.BatchNorm(3), Zoo(3), patched())
    lines = []
    assert convert(net, report=lambda report: lines.extend(str(report).splitlines())) is net
    head, rule, *rows = [line.split(maxsplit=3) for line in lines]
    assert head == ["layer", "class", "outcome", "why"]
    assert len(rule) == 4
    assert [row[:3] for row in rows] == [
        ["0", "BatchNorm2d", "converted"],
        ["1", "BatchNorm", "ours"],
        ["2", "Zoo", "converted"],
        ["3", "BatchNorm2d", "left"],
    ]
    assert "batch_norm inside" in rows[2][3]
    assert str(examine(nn.BatchNorm1d(3))).splitlines()[2].startswith("(itself)  BatchNorm1d")


# ---- There and back ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*TORCHS, *KEPT])
def test_restore_leads_back(kind):
    layer = kind(3)
    net = nn.Sequential(layer, nn.Identity(), layer).eval()
    called = []
    layer.register_forward_hook(lambda *_: called.append(True))
    before, everything = dict(vars(layer)), [*net.parameters(), *net.buffers()]
    optimiser = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    state = copy.deepcopy(net.state_dict())
    for group in (None, "world"):
        convert(net, process_group=group)
        assert isinstance(layer, kind)
        assert isinstance(layer, layers.BatchNorm)
        assert layer.process_group == group
        assert restore(net) is net
        assert type(layer) is kind
        assert net[0] is net[2] is layer
        assert vars(layer) == before
    for mine, old in zip([*net.parameters(), *net.buffers()], everything, strict=True):
        assert mine is old
    assert optimiser.param_groups[0]["params"][0] is layer.weight
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    if kind is not nn.SyncBatchNorm:  # which wants a GPU
        layer(torch.ones(SHAPES.get(kind.__name__, (4, 3, 2, 2))))
        assert called == [True]


def test_layers_made_as_ours_are_restored_to_torchs():
    for name in ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm"):
        layer = getattr(layers, name)(3)
        theirs = getattr(nn, name)(3)
        assert type(restore(layer)) is type(theirs)
        assert vars(layer).keys() == vars(theirs).keys()


def ours_parametrized():
    layer = layers.BatchNorm2d(3)
    nn.utils.parametrize.register_parametrization(layer, "weight", nn.Softplus())
    return layer


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.BatchNorm2d(3, activation="relu"), "1 is a BatchNorm2d with a ReLU inside"),
        (lambda: layers.BatchNorm2d(3, process_group="world"), "with a process_group"),
        (lambda: layers.BatchNorm(3), "of no class of torch.nn: make it BatchNorm1d, 2d or 3d"),
        (ours_parametrized, "with a parametrization"),
    ],
)
def test_restore_refuses_what_would_be_lost_having_restored_nothing(make, message):
    net = nn.Sequential(convert(nn.BatchNorm2d(3)), make())
    with pytest.raises(ValueError, match=message):
        restore(net)
    assert type(net[0]) is layers.BatchNorm2d


def test_sync_batch_norm_in_and_out():
    """On the CPU, too, where torch's cannot run with others; alone it is the layer itself."""
    sync = nn.SyncBatchNorm(3, momentum=0.3)
    ours = convert(sync, process_group=None)
    assert type(ours) is layers.SyncBatchNorm
    x = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    theirs = nn.BatchNorm2d(3, momentum=0.3)
    assert_close(ours(x), theirs(x))
    assert_close(ours.running_var, theirs.running_var)
    assert type(nn.SyncBatchNorm.convert_sync_batchnorm(ours)) is nn.SyncBatchNorm
    assert type(restore(ours)) is nn.SyncBatchNorm
    assert type(convert(nn.SyncBatchNorm.convert_sync_batchnorm(theirs))) is layers.SyncBatchNorm


class Block(nn.Module):
    """Of a residual network."""

    def __init__(self, channels):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(x + self.bn2(self.conv2(y)))


def residual_network():
    torch.manual_seed(0)
    blocks = [Block(4) for _ in range(9)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, 2)]
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), *blocks, *head).double()


def test_a_newcomers_script():
    """Twenty norms: convert, freeze by isinstance, train three steps as torch does, export, fold,
    restore.
    """
    theirs, ours = residual_network(), convert(residual_network())
    x, labels = batch(5, 2, 8, 8), torch.tensor([0, 1, 1, 0, 1])
    for net in (theirs, ours):
        norms = [m for m in net.modules() if isinstance(m, TORCHS)]
        assert len(norms) == 20
        for norm in norms[:3]:
            norm.eval().requires_grad_(False)
        decayed = {id(p) for norm in norms for p in norm.parameters()}
        groups = [
            {"params": [p for p in net.parameters() if id(p) not in decayed], "weight_decay": 0.1},
            {"params": [p for p in net.parameters() if id(p) in decayed], "weight_decay": 0.0},
        ]
        optimiser = torch.optim.SGD(groups, 0.05, momentum=0.9)
        for _ in range(3):
            optimiser.zero_grad()
            F.cross_entropy(net(x), labels).backward()
            optimiser.step()
    for mine, right in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        # three steps through 20 layers multiply what rounding does
        assert_close(mine.double(), right.double(), 1e-8)
    ours.eval()
    y = ours(x)
    graph = torch.export.export(ours, (x,))
    operators = [str(n.target) for n in graph.graph.nodes if n.op == "call_function"]
    assert operators.count("aten.batch_norm.default") == 20
    assert_close(graph.module()(x), y)
    folded = nn.utils.fusion.fuse_conv_bn_eval(ours[0], ours[1])
    assert_close(nn.Sequential(folded, *ours[2:])(x), y)
    assert_close(restore(ours)(x), y)
    assert examine(ours).named("ours") == []


# ---- What a subclass may do ----------------------------------------------------------------------


class ByAnotherName(nn.BatchNorm2d):
    def forward(self, x):
        known = (self.weight, self.bias, self.running_mean, self.running_var, self.training)
        return torch.batch_norm(x, *known, self.momentum, self.eps, True)


class OwnEps(nn.BatchNorm2d):
    @property
    def eps(self):
        return max(self.__dict__["eps"], 0.1)

    @eps.setter
    def eps(self, value):
        self.__dict__["eps"] = value


class WithActivation(nn.BatchNorm2d):
    def __init__(self, channels, activation=None):
        super().__init__(channels)
        self.activation = activation

    def forward(self, x, scale=1.0):
        y = super().forward(x) * scale
        return y if self.activation is None else self.activation(y)


class OwnArithmetic(nn.BatchNorm2d):
    def __init__(self, channels):
        super().__init__(channels)
        self.act = nn.ReLU()

    def forward(self, x):
        mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True)
        return self.act.forward((x - mean) / (var + self.eps).sqrt())


def far_batch():
    return 1e4 + 1e-2 * torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_batch_norm_by_another_name_is_ours_too():
    right = nn.BatchNorm2d(3).double()(far_batch().double())
    assert (ByAnotherName(3)(far_batch()).double() - right).abs().max() > 1e-3
    assert (convert(ByAnotherName(3))(far_batch()).double() - right).abs().max() < 1e-5
    with pytest.raises(RuntimeError, match="no processes are joined"):
        convert(ByAnotherName(3), process_group="world")(far_batch())


@pytest.mark.parametrize(
    ("kind", "why"), [(OwnEps, "computes eps by itself"), (OwnArithmetic, "own forward")]
)
def test_who_computes_by_himself_is_left_and_named(kind, why):
    layer, x = kind(3), far_batch()
    y = layer(x)
    with pytest.warns(UserWarning, match=why):
        convert(layer)
    assert type(layer) is kind
    assert torch.equal(layer(x), y)


@pytest.mark.parametrize("activation", [None, torch.tanh])
def test_there_and_back_leaves_a_subclass_what_it_has(activation):
    x = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    wanted = WithActivation(3, activation)(x, scale=2.0)
    layer = convert(WithActivation(3, activation))
    torch.testing.assert_close(layer(x=x, scale=2.0), wanted)
    layer = restore(layer)
    assert type(layer) is WithActivation
    assert vars(layer).keys() == vars(WithActivation(3)).keys()
    torch.testing.assert_close(layer(x, scale=2.0), wanted)


# ---- What a layer has of its own, and what is given to it ----------------------------------------


@pytest.mark.parametrize("note", ["leaky_relu", "relu", nn.SiLU()])
def test_a_note_on_torchs_layer_is_no_activation_of_ours(note):
    """Torch's forward knows nothing of an attribute `activation`."""
    layer, x = nn.BatchNorm2d(3), torch.randn(4, 3, 5, 5)
    layer.activation = note
    wanted, attributes = layer(x), vars(layer).keys()
    assert convert(layer).activation is note
    torch.testing.assert_close(layer(x), wanted)
    torch.testing.assert_close(copy.deepcopy(layer)(x), wanted)
    assert type(restore(layer)) is nn.BatchNorm2d
    assert (layer.activation, vars(layer).keys()) == (note, attributes)


def test_a_process_group_that_torchs_layer_has_is_its_own():
    layer = nn.BatchNorm2d(3)
    layer.process_group = "a note"
    with pytest.warns(UserWarning, match="a process_group of its own"):
        assert type(convert(layer)) is nn.BatchNorm2d


class ByKeyword(nn.BatchNorm2d):
    def forward(self, x):
        state = {"weight": self.weight, "bias": self.bias}
        state |= {"running_mean": self.running_mean, "running_var": self.running_var}
        options = {"training": self.training, "momentum": 0.1, "eps": self.eps}
        return torch.batch_norm(x, **state, **options, cudnn_enabled=False)


class OfAList(ByKeyword):
    def forward(self, inputs):
        return super().forward(inputs[0])


class ByOperator(nn.BatchNorm2d):
    def forward(self, x):
        state = self.weight, self.bias, self.running_mean, self.running_var
        return torch.ops.aten.batch_norm(x, *state, self.training, 0.1, self.eps, False)


@pytest.mark.parametrize("kind", [ByKeyword, OfAList])
def test_torchs_function_is_ours_however_it_is_called(kind):
    given = [far_batch()] if kind is OfAList else far_batch()
    right = nn.BatchNorm2d(3).double()(far_batch().double())
    assert (kind(3)(given).double() - right).abs().max() > 1e-3
    assert (convert(kind(3))(given).double() - right).abs().max() < 1e-5


def test_who_calls_the_operator_is_left_and_named():
    with pytest.warns(UserWarning, match="own forward"):
        assert type(convert(ByOperator(3))) is ByOperator


class ByName(nn.BatchNorm2d):
    """Begins past what stands between it and torch's class, as older code does."""

    def __init__(self, features):
        nn.BatchNorm2d.__init__(self, features)


class Locked(nn.BatchNorm2d):
    """Cannot be copied as it is, and says how it is made; keeps names that nobody may set."""

    def __init__(self, features):
        super().__init__(features)
        vars(self)["lock"] = threading.Lock()

    def __setattr__(self, name, value):
        if name in ("process_group", "activation", "__class__"):
            raise AttributeError(f"{name} is not for you")
        super().__setattr__(name, value)

    def __reduce__(self):
        return type(self), (self.num_features,), {"_buffers": self._buffers}


def test_a_converted_class_makes_new_layers():
    x = torch.randn(4, 3, 5, 5)
    layer = type(convert(ByName(3)))(3)
    torch.testing.assert_close(layer(x), ByName(3)(x))
    assert type(restore(layer)) is ByName


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_a_subclass_that_says_how_it_is_made_is_copied_so(copied):
    x, layer = torch.randn(4, 3, 5, 5), Locked(3)
    layer(x)
    kept = layer.running_mean.clone()
    twin = copied(convert(layer))
    assert isinstance(twin, layers.BatchNorm)
    assert torch.equal(twin.running_mean, kept)
    assert type(restore(twin)) is type(restore(layer)) is Locked


@pytest.mark.parametrize("function", [convert, examine, restore])
@pytest.mark.parametrize("given", [None, 3, [], nn.BatchNorm2d])
def test_what_is_no_module_is_an_error_in_a_sentence(function, given):
    with pytest.raises(TypeError, match=r"a torch\.nn\.Module is wanted"):
        function(given)


def test_a_report_that_cannot_be_called_is_refused_before_anything_is_converted():
    layer = nn.BatchNorm2d(3)
    with pytest.raises(TypeError, match="report is 3; give a function"):
        convert(layer, report=3)
    assert type(layer) is nn.BatchNorm2d
