"""How fast: training steps of the networks of Section 4.2, beside the plain way of writing them.

The small network trains on the data set ``digits``, which is always there, enlarged to the size of
its pictures: what they show does not change the work. The whole one is given random numbers.
"""

import os
import re
import resource
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bnkit.bench.layer import Row, descend, row
from bnkit.layers import BatchNorm
from bnkit.layers.local_response_norm import LocalResponseNorm
from bnkit.networks.inception import Block, Inception, Style, Unit, bn_inception, small_inception
from bnkit.runs import experiments, pool
from bnkit.runs.tasks.inception import InceptionRecipe, Task
from bnkit.runs.training import fit

STEPS = 4  # a turn of the small network
TURNS = 8  # of each core, where several are at work
MOST_CORES = 8  # each takes a process, with torch in it
SMALL = [InceptionRecipe.batch_size, 3, InceptionRecipe.size, InceptionRecipe.size]
WHOLE = (8, 3, 224, 224)  # a mini-batch of the whole network that fits into any memory


def rows(rounds: int, device: str = "cpu", quick: bool = False) -> Iterator[Row]:
    """Steps of the small network, and, unless `quick`, of the whole one."""
    yield small(rounds, device)
    if not quick:
        if device == "cpu":
            yield small_on_several_cores(max(3, rounds // 3))
        yield whole(max(3, rounds // 3), device)


def small(rounds: int, device: str) -> Row:
    """A step of BN-Baseline as ``bnkit.runs.experiments`` makes it, pictures included.

    Its peers: the same step the plain way; only its convolutions, there and back; only the making
    of its pictures; and steps of the other networks.
    """
    nets = {net: _task(net, device) for net in ("bn-baseline", "inception", "bn-x5")}
    calls = {"ours" if net == "bn-baseline" else net: _ours(task) for net, task in nets.items()}
    calls["a plain torch loop"] = _by_hand(nets["bn-baseline"])
    calls["its convolutions"] = _convolutions(nets["bn-baseline"])
    pictures = nets["bn-baseline"].batches()
    calls["its pictures"] = lambda: [next(pictures) for _ in range(STEPS)]
    turns = row(calls, rounds, device, what="small Inception", shape=SMALL, layout="")
    return _of_a_step(turns, STEPS)._replace(memory=memory() if device == "cpu" else None)


def _of_a_step(turns: Row, steps: int) -> Row:
    """Times of one step, where a turn makes so many."""
    times = {name: [time / steps for time in times] for name, times in turns.times.items()}
    return turns._replace(times=times)


def small_on_several_cores(rounds: int) -> Row:
    """The same steps, by the clock on the wall, with all cores at work, or ``MOST_CORES``.

    Ours as ``python -m bnkit runs`` does it: a run of one thread for each core. The plain loop as
    torch does it: one run, with a thread for each core.
    """
    cores = min(os.cpu_count() or 1, MOST_CORES)
    with ExitStack() as stack:
        *workers, alone = (stack.enter_context(pool.processes(1)) for _ in range(cores + 1))

        def ours() -> None:
            for turn in [worker.submit(_turns, "ours", 1, TURNS) for worker in workers]:
                turn.result()

        def by_hand() -> None:
            alone.submit(_turns, "a plain torch loop", cores, TURNS * cores).result()

        about = {"what": "small Inception, several cores", "shape": SMALL, "layout": ""}
        calls = {"ours": ours, "a plain torch loop": by_hand}
        path = "1 core" if cores == 1 else f"{cores} cores"
        turns = row(calls, rounds, "cores", **about, path=path)
    return _of_a_step(turns, STEPS * TURNS * cores)


def _turns(way: str, threads: int, turns: int) -> None:
    for _ in range(turns):
        _loop(way, threads)()


@cache  # built once in every process
def _loop(way: str, threads: int) -> Callable[[], object]:
    torch.set_num_threads(threads)
    return _way(way, _task("bn-baseline", "cpu"))


def memory() -> dict[str, float]:
    """The most MiB that a process holds which builds the small network, and then trains it."""
    peaks = {}
    for way in ("built, not trained", "ours", "a plain torch loop"):
        # A process of its own, for a peak cannot be forgotten.
        with pool.processes(1) as process:
            peaks[way] = round(process.submit(_peak, way).result(), 1)
    return peaks


def _peak(way: str) -> float:
    torch.set_num_threads(1)
    task = _task("bn-baseline", "cpu")
    if way != "built, not trained":
        _way(way, task)()
    status = Path("/proc/self/status")
    if status.exists():  # Linux, where getrusage remembers the process that started this one
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="utf-8"))[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS: bytes


def _task(net: str, device: str) -> Task:
    recipe = experiments.experiment(f"inception/{net}").recipe.as_dict()
    recipe |= {"dataset": "digits", "steps": STEPS}
    return Task(InceptionRecipe(**recipe), torch.device(device))


def _way(way: str, task: Task) -> Callable[[], object]:
    return _ours(task) if way == "ours" else _by_hand(task)


def _ours(task: Task) -> Callable[[], object]:
    batches = task.batches()
    return lambda: fit(task.trained, batches, task.recipe, loss_of=task.loss)


def _by_hand(task: Task) -> Callable[[], None]:
    recipe = task.recipe
    network = small_inception(10, norm=nn.BatchNorm2d, lrn=recipe.lrn, dropout=recipe.dropout)
    model = as_drawn(network).to(task.device)
    options = {"momentum": recipe.momentum, "weight_decay": recipe.weight_decay}
    optimiser = torch.optim.SGD(model.parameters(), recipe.learning_rate, **options)
    batches = task.batches()

    def run() -> None:
        for _ in range(STEPS):
            x, labels = next(batches)
            descend(model, optimiser, x.contiguous(), labels)  # channels first

    return run


def as_drawn(network: Inception) -> Inception:
    """`network` the plain way, the same function: each branch for itself, and torch's LRN."""
    for name, block in network.blocks.items():
        network.blocks[name] = _AsDrawn(block)
    for place, lrn in enumerate(network.stem):
        if isinstance(lrn, LocalResponseNorm):
            network.stem[place] = nn.LocalResponseNorm(lrn.size, lrn.alpha, lrn.beta, lrn.k)
    return network


class _AsDrawn(nn.Module):
    """A module of Inception with four branches side by side, as in its drawing."""

    def __init__(self, block: Block):
        super().__init__()
        joint = block.reduce.conv
        maps = [width for width in block.parts if width]
        style = Style(nn.BatchNorm2d, conv_bias=False)
        self.thin = nn.ModuleList(Unit(joint.in_channels, width, 1, style) for width in maps)
        for unit, weight in zip(self.thin, joint.weight.detach().split(maps), strict=True):
            unit.conv.weight = nn.Parameter(weight.clone())
        self.three, self.pair, self.pool = block.three, block.pair, block.pool

    def forward(self, u: Tensor) -> Tensor:
        *one, reduced, pair_reduced = (unit(u) for unit in self.thin)
        return torch.cat([*one, self.three(reduced), self.pair(pair_reduced), self.pool(u)], dim=1)


def _convolutions(task: Task) -> Callable[[], None]:
    """Forward and backward passes of the convolutions alone, each on what it receives in a step."""
    received: list[tuple[nn.Conv2d, Tensor, Tensor]] = []

    def receive(conv: nn.Conv2d, inputs: tuple[Tensor], maps: Tensor) -> None:
        # The pictures want no gradient, all later inputs do.
        u = inputs[0].detach().requires_grad_(inputs[0].requires_grad)
        received.append((conv, u, torch.ones_like(maps)))

    convolutions = [module for module in task.model.modules() if isinstance(module, nn.Conv2d)]
    hooks = [conv.register_forward_hook(receive) for conv in convolutions]
    task.model(next(task.batches())[0])
    for hook in hooks:
        hook.remove()

    def run() -> None:
        for _ in range(STEPS):
            for conv, u, upstream in received:
                # Beside BN there are no biases.
                wanted = [conv.weight, u] if u.requires_grad else [conv.weight]
                torch.autograd.grad(conv(u), wanted, upstream)

    return run


def whole(rounds: int, device: str) -> Row:
    """Forward and backward pass of the whole network in training, channels last, by three norms."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(WHOLE, generator=generator).to(device)
    x = x.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 1000, WHOLE[:1], generator=generator).to(device)

    def step(norm: Callable[[int], nn.Module] | None) -> Callable[[], None]:
        network = bn_inception(1000, norm=norm).to(device, memory_format=torch.channels_last)

        def run() -> None:
            network.zero_grad()
            _loss(network, x, labels).backward()

        return run

    calls = {"ours": step(BatchNorm), "torch.nn": step(nn.BatchNorm2d), "without BN": step(None)}
    about = {"what": "BN-Inception", "shape": WHOLE, "layout": "channels last"}
    return row(calls, rounds, device, **about)


def _loss(network: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    outputs = network(x)
    return cross_entropy(outputs[0] if isinstance(outputs, tuple) else outputs, labels)
