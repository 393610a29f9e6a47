"""Statistics across processes: two and three of them, joined by gloo, against one process with the
whole mini-batch.
"""

import itertools
import os
from datetime import timedelta

import pytest
import torch
from conftest import assert_close
from torch import distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from bnkit.layers import BatchNorm, BatchNorm2d, aten, batch_norm, convert, plain

WORLD = 3
EPS = 1e-3
PLACES = {"vectors": (), "images": (3, 4), "images, channels last": (3, 4)}
SIZES = {  # how many of the examples each process has
    "two, unequal": (3, 5),
    "two, one example each": (1, 1),
    "two, one of them with none": (0, 4),
    "three, unequal": (4, 1, 2),
    "three, one of them with none": (2, 0, 3),
}
CASES = [
    (path, layout, sizes, relu)
    for path, layout, sizes, relu in itertools.product(
        ("plain", "aten"), PLACES, SIZES, (False, True)
    )
    if (relu, sizes) != (True, "two, one example each")  # a ReLU on ±1 has nothing to decide
]
MUTANTS = {  # what is replaced, by what
    "backward sums of one process": ("sums_of_all", lambda group, *sums: sums),
    "statistics of one process": ("moments_of_all", lambda path, group, x: path.moments(x)),
    "processes all counted alike": ("moments_of_all", lambda *a: alike(*a)),
    "the variance between processes forgotten": (
        "moments_of_all",
        lambda *a: without_distances(*a),
    ),
    "unbiased by the count of one process": (
        "observe",
        lambda *a: plain_observe(*a[:4], torch.tensor(3.0), a[5]),
    ),
}
plain_observe, all_moments, aten_pool = plain.observe, batch_norm.moments_of_all, aten.pool


def alike(path, group, x):
    aten.pool = lambda means, variances, counts: aten_pool(
        means, variances, torch.ones_like(counts)
    )
    try:
        return all_moments(path, group, x)
    finally:
        aten.pool = aten_pool


def without_distances(path, group, x):
    mean, _, m = all_moments(path, group, x)
    aten.pool = lambda means, variances, counts: aten_pool(means * 0, variances, counts)
    try:
        return mean, all_moments(path, group, x)[1], m
    finally:
        aten.pool = aten_pool


def whole_batches(layout, total):
    """Two mini-batches and upstream gradients, float64; no two examples have the same mean."""
    generator = torch.Generator().manual_seed(total)
    for _ in range(2):
        x, dy = torch.randn(2, total, 3, *PLACES[layout], generator=generator, dtype=torch.float64)
        x = x + torch.arange(float(total)).view(-1, *[1] * (x.ndim - 1))
        yield x.contiguous(memory_format=torch.channels_last) if "last" in layout else x, dy


def make_layer(relu=False, process_group=None):
    layer = BatchNorm(
        3,
        eps=EPS,
        momentum=0.3,
        dtype=torch.float64,
        activation="relu" if relu else None,
        process_group=process_group,
    )
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.5, -0.7, 0.3]))
        layer.bias.copy_(torch.tensor([0.3, -0.4, 0.1]))
    return layer


def train(layer, batches):
    """Outputs and gradients of two steps, and the buffers after them."""
    found = {}
    for step, (x, dy) in enumerate(batches):
        leaf = x.detach().requires_grad_()
        y = layer(leaf)
        layer.zero_grad()
        y.backward(dy)
        found |= {f"y {step}": y.detach(), f"dx {step}": leaf.grad}
        found |= {f"d{name} {step}": p.grad.clone() for name, p in layer.named_parameters()}
    return found | {name: b.clone() for name, b in layer.named_buffers()}


def part_of(layout, sizes, rank):
    ends = list(itertools.accumulate(sizes, initial=0))
    for x, dy in whole_batches(layout, ends[-1]):
        yield x[ends[rank] : ends[rank + 1]], dy[ends[rank] : ends[rank + 1]]


def network(process_group=None):
    torch.manual_seed(0)
    norm = make_layer(relu=True, process_group=process_group)
    return nn.Sequential(
        nn.Conv2d(2, 3, 2, dtype=torch.float64), norm, nn.Flatten(), nn.Linear(18, 2).double()
    )


def steps_of_sgd(net, x, labels, share):
    """Three steps; `share` turns the mean over a process's own examples into what averages to the
    mean over all."""
    for _ in range(3):
        net.zero_grad()
        (nn.functional.cross_entropy(net(x), labels, reduction="sum") * share).backward()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter -= 0.1 * parameter.grad


def images_and_labels(total=7):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(total, 2, 3, 4, generator=generator, dtype=torch.float64)
    return x, torch.randint(0, 2, (total,), generator=generator)


def two_forwards(kind, group, x, dy):
    """Under DistributedDataParallel, two forward passes before the backward."""
    layer = kind(3, eps=EPS, momentum=0.3, dtype=torch.float64)
    net = DistributedDataParallel(layer, process_group=group)
    y = [net(x), net(x + 1)]
    (y[0] * dy + y[1].square() * dy).sum().backward()
    return [*y, layer.weight.grad, layer.bias.grad, *layer.buffers()]


def sharded(kind, group):
    """Two steps of SGD under FSDP: "fully_shard", "wrapped", or not under it, "ddp"."""
    from torch.distributed import fsdp

    def run(net):
        x = torch.arange(96.0).view(3, 2, 4, 4).sin() + distributed.get_rank()
        if kind == "fully_shard":
            mesh = distributed.DeviceMesh.from_group(group, "cpu")
            for module in (*net, net):
                fsdp.fully_shard(module, mesh=mesh)
        elif kind == "wrapped":
            net = fsdp.FullyShardedDataParallel(net, group, device_id=torch.device("cpu"))
        else:
            net = DistributedDataParallel(net, process_group=group)
        optimiser, outputs = torch.optim.SGD(net.parameters(), lr=0.1), []
        for _ in range(2):
            optimiser.zero_grad()
            outputs.append(net(x))
            outputs[-1].square().mean().backward()
            optimiser.step()
        return torch.stack(outputs).detach()

    return run


def plain_network(process_group=None, ours=True):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1))
    return convert(net, process_group=process_group) if ours else net


def among_torchs_tools(group):
    """FSDP, of both kinds, beside torch's layer; and a group under ``torch.compile``."""
    found = {}
    for kind in ("fully_shard", "wrapped"):
        run = sharded(kind, group)
        found[kind] = run(plain_network()), run(plain_network(ours=False))
    run = sharded("fully_shard", group)
    found["with a group"] = (
        run(plain_network(process_group=group)),
        sharded("ddp", group)(plain_network(process_group=group)),
    )
    net, x = plain_network(process_group=group), torch.ones(2, 2, 4, 4)
    broken = torch.compile(net, backend="aot_eager")
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    before = net[1].running_mean.clone()
    found["compiled"] = refusal(lambda: broken(x))
    found["compiled as one graph"] = refusal(lambda: compiled(x))
    found["compiled, untouched"] = torch.equal(net[1].running_mean, before)
    net.eval()
    found["compiled, in evaluation"] = compiled(x).detach(), net(x).detach()
    layer, x = convert(Pasted(3), process_group=group), torch.ones(2, 3, 4, 4)
    found["subclass"] = {
        "compile": refusal(lambda: torch.compile(layer, backend="aot_eager")(x)),
        "jit.trace": refusal(lambda: torch.jit.trace(layer, x)),
        "fx": refusal(lambda: torch.fx.symbolic_trace(nn.Sequential(layer))),
        "export": refusal(lambda: torch.export.export(layer, (x,))),
    }
    layer.eval()
    found["subclass, in evaluation"] = torch.export.export(layer, (x,)).module()(x), layer(x)
    return found


class Pasted(nn.BatchNorm2d):
    """A forward of its own, as model zoos have it."""

    def forward(self, x):
        state = self.running_mean, self.running_var, self.weight, self.bias
        return nn.functional.batch_norm(x, *state, self.training, self.momentum, self.eps)


def refusal(call):
    try:
        call()
    except (ValueError, RuntimeError) as error:  # NotImplementedError is a RuntimeError
        return f"{type(error).__name__}: {error}"
    return "nothing refused"


def worker(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo",
        f"file://{folder}/meeting",
        rank=rank,
        world_size=WORLD,
        timeout=timedelta(seconds=300),
    )
    two = distributed.new_group([0, 1])
    alone = distributed.new_group([0]), distributed.new_group([1]), distributed.new_group([2])
    groups = {2: two, 3: "world"}
    found = {}
    for path, layout, name, relu in CASES:
        os.environ["BNKIT_KERNELS"] = "off" if path == "plain" else "on"
        sizes = SIZES[name]
        if rank < len(sizes):
            layer = make_layer(relu, groups[len(sizes)])
            found[path, layout, name, relu] = train(layer, part_of(layout, sizes, rank))
    for name, (function, replacement) in MUTANTS.items():
        module = plain if hasattr(plain, function) else batch_norm
        original = getattr(module, function)
        setattr(module, function, replacement)
        found[name] = train(
            make_layer(False, "world"), part_of("images", SIZES["three, unequal"], rank)
        )
        setattr(module, function, original)

    if rank < 2:  # importing it takes so long that a third process is spared
        x, labels = images_and_labels()
        mine = slice(0, 5) if rank == 0 else slice(5, 7)
        net = DistributedDataParallel(convert(network(), process_group=two), process_group=two)
        steps_of_sgd(net, x[mine], labels[mine], share=2 / len(x))
        found["ddp"] = {name: value.clone() for name, value in net.module.state_dict().items()}

        x, dy = next(part_of("images", SIZES["two, unequal"], rank))
        found["two forwards"] = [two_forwards(n, two, x, dy) for n in (BatchNorm2d, nn.BatchNorm2d)]
        found["tools"] = among_torchs_tools(two)
        sync = convert(nn.SyncBatchNorm(3, eps=EPS, momentum=0.3, process_group=two).double())
        sync.load_state_dict(make_layer().state_dict())
        found["sync"] = train(sync, part_of("images", SIZES["two, unequal"], rank))

    found["traced"] = refusal(
        lambda: torch.export.export(
            nn.Sequential(BatchNorm2d(3, process_group="world")), (torch.ones(2, 3, 2, 2),)
        )
    )
    layer = make_layer(False, "world")
    one = torch.ones(int(rank == 0), 3, dtype=torch.float64)
    found["one value"] = refusal(lambda: layer(one))
    found["no value"] = refusal(lambda: layer(one[:0]))
    found["untouched"] = {name: buffer.clone() for name, buffer in layer.named_buffers()}
    leaf = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    y = layer(leaf)
    found["second"] = refusal(lambda: torch.autograd.grad(y.pow(2).sum(), leaf, create_graph=True))
    found["func"] = refusal(lambda: torch.func.grad(lambda x: layer(x).sum())(leaf.detach()))
    if rank == 2:
        found["stranger"] = refusal(lambda: make_layer(False, two)(leaf))
    if rank == 0:  # a collective operation would wait for the others in vain
        x, dy = next(whole_batches("images", 4))
        found["alone"] = [
            train(make_layer(process_group=group), [(x, dy)]) for group in (alone[rank], None)
        ]
        found["evaluation"] = [
            train(make_layer(process_group=group).eval(), [(x, dy)]) for group in ("world", None)
        ]
    torch.save(found, f"{folder}/{rank}.pt")
    distributed.barrier()
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each process saw. They run everything in one go: starting them takes longer than all the
    rest."""
    folder = tmp_path_factory.mktemp("processes")
    multiprocessing.spawn(worker, (str(folder),), nprocs=WORLD)
    return [torch.load(folder / f"{rank}.pt") for rank in range(WORLD)]


def assert_as_one(parts, whole):
    """What several processes saw, put together, is what one sees; and they agree on the statistics
    bit by bit."""
    for name, expected in whole.items():
        values = [part[name] for part in parts]
        if name[0] == "y" or name.startswith("dx"):
            # of two examples dx is what is left of a cancellation
            assert_close(torch.cat(values), expected, 1e-9)
        elif name[0] == "d":
            assert_close(sum(values), expected, 1e-12)
        else:
            assert all(torch.equal(value, values[0]) for value in values), name
            assert_close(values[0], expected, 1e-12)


@pytest.mark.parametrize(("path", "layout", "sizes", "relu"), CASES)
def test_several_processes_see_what_one_sees(path, layout, sizes, relu, found, monkeypatch):
    monkeypatch.setenv("BNKIT_KERNELS", "off")  # one process, plain torch
    whole = train(make_layer(relu), whole_batches(layout, sum(SIZES[sizes])))
    assert_as_one([each[path, layout, sizes, relu] for each in found[: len(SIZES[sizes])]], whole)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_wrong_exchanges_are_rejected(mutant, found):
    whole = train(make_layer(), whole_batches("images", sum(SIZES["three, unequal"])))
    with pytest.raises(AssertionError):
        assert_as_one([each[mutant] for each in found], whole)


def test_a_network_under_ddp_ends_in_the_weights_of_one_process(found):
    x, labels = images_and_labels()
    net = network()
    steps_of_sgd(net, x, labels, share=1 / len(x))
    for each in found[:2]:
        assert each["ddp"].keys() == net.state_dict().keys()
        for name, expected in net.state_dict().items():
            if name != "0.bias":  # without a gradient, but for rounding
                assert_close(each["ddp"][name], expected, 1e-10)


def test_two_forwards_under_ddp_are_those_of_torchs_layer(found):
    for each in found[:2]:
        for mine, right in zip(*each["two forwards"], strict=True):
            assert_close(mine.detach(), right.detach())


@pytest.mark.parametrize("tool", ["fully_shard", "wrapped", "with a group"])
def test_fsdp_shards_ours_as_torchs(tool, found):
    """With a group of its own, the layer under FSDP gives what it gives under DDP."""
    for each in found[:2]:
        mine, right = each["tools"][tool]
        assert_close(mine, right)
    outputs = [each["tools"][tool][0] for each in found[:2]]
    assert not torch.equal(*outputs)  # each has examples of its own


def test_a_group_under_compile_is_refused_in_training_and_nothing_has_changed(found):
    for each in found[:2]:
        tools = each["tools"]
        assert tools["compiled"].startswith("NotImplementedError: torch.compile, torch.func")
        assert tools["compiled as one graph"] != "nothing refused"
        assert tools["compiled, untouched"]
        assert_close(*tools["compiled, in evaluation"])


@pytest.mark.parametrize("tool", ["compile", "jit.trace", "fx", "export"])
def test_a_group_of_a_subclass_is_not_lost_on_the_way(tool, found):
    for each in found[:2]:
        told = each["tools"]["subclass"][tool]
        assert "statistics that several processes share" in told, told
        assert_close(*each["tools"]["subclass, in evaluation"])


def test_a_converted_sync_batch_norm_sees_what_one_process_sees(found, monkeypatch):
    monkeypatch.setenv("BNKIT_KERNELS", "off")
    whole = train(make_layer(), whole_batches("images", sum(SIZES["two, unequal"])))
    assert_as_one([each["sync"] for each in found[:2]], whole)


def test_what_cannot_be_done_across_processes_is_refused_in_all_of_them(found):
    for each in found:
        assert "ValueError: " in each["one value"]
        assert "one value per channel has no variance to train with" in each["one value"]
        assert "no value at all per channel" in each["no value"]
        assert not each["untouched"]["running_mean"].any()
        assert each["untouched"]["num_batches_tracked"] == 0
        assert each["second"].startswith(
            "NotImplementedError: second derivatives do not go through statistics that"
        )
        assert each["traced"].startswith("NotImplementedError: torch.compile, torch.func")
        assert each["func"].startswith(
            "NotImplementedError: torch.compile, torch.func and forward mode do not go"
        )
    assert found[2]["stranger"].startswith(
        "RuntimeError: this process is not in the layer's process_group."
    )


def test_alone_and_in_evaluation_nothing_is_exchanged(found):
    for ours, expected in (found[0]["alone"], found[0]["evaluation"]):
        for name, value in expected.items():
            assert torch.equal(ours[name], value), name


def test_a_group_that_was_never_started_is_refused():
    layer = BatchNorm(3, process_group="world")
    with pytest.raises(
        RuntimeError,
        match=r"process_group is 'world', but no processes are joined.*init_process_group",
    ):
        layer(torch.ones(4, 3))
    assert layer.num_batches_tracked == 0
    assert layer.eval()(torch.ones(4, 3)).shape == (4, 3)
    assert repr(layer).endswith("process_group=world)")


def test_convert_gives_the_group_to_all_of_them():
    net = nn.Sequential(nn.BatchNorm1d(3), BatchNorm(3), nn.SyncBatchNorm(3))
    convert(net, process_group="world")
    assert [layer.process_group for layer in net] == ["world"] * 3
    convert(net)
    assert net[0].process_group == "world"
