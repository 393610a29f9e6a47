"""How fast: a bank of networks of Section 4.1, beside a plain loop and its own matrix products.

Times are of a network and a step. The peer "its matrix products" does nothing but the products of a
step, in the same shapes: its time over ours is the share of what this machine can do at most.
"""

import os
from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn

from bnkit.bench.layer import Row, descend, row
from bnkit.layers import BatchNorm
from bnkit.networks.bank import Bank
from bnkit.networks.mlp import MLP
from bnkit.runs import pool
from bnkit.runs.bank import TOGETHER
from bnkit.runs.tasks.mnist import MLPRecipe

SHAPE = (60, 784)  # a mini-batch of Section 4.1
STEPS = 10  # a turn
WALL_STEPS = 5000  # of each network, where several cores are at work: fewer are left to one
SEEDS = 5  # of Figure 1 in the book


def rows(rounds: int, device: str = "cpu", quick: bool = False) -> Iterator[Row]:
    """A bank without and with BN; unless `quick`, Figure 1 on several cores."""
    if device == "cpu":
        yield one_core(None, None, rounds)
        yield one_core(BatchNorm, nn.BatchNorm1d, rounds)
        if not quick:
            yield several_cores(max(3, rounds // 5))


def one_core(norm: Callable | None, peer: Callable | None, rounds: int) -> Row:
    """Steps of as many networks as one bank has, on the mini-batches of one seed."""
    x, labels = _batch()
    bank = Bank([_network(norm) for _ in range(TOGETHER)], [TOGETHER], [0.1] * TOGETHER, len(x))
    model = _network(peer)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    products = Products(TOGETHER)
    what = "bank" if norm is None else "bank with BN"
    calls = {
        "ours": lambda: [bank.step([x], [labels]) for _ in range(STEPS)],
        "a plain torch loop": lambda: [
            descend(model, optimiser, x, labels) for _ in range(STEPS * TOGETHER)
        ],
        "its matrix products": lambda: [products.step(x) for _ in range(STEPS)],
    }
    turns = row(calls, rounds, "cpu", what=what, shape=SHAPE)
    return _of_a_step(turns, STEPS * TOGETHER)


def several_cores(rounds: int) -> Row:
    """Figure 1, both networks and all seeds, by the clock on the wall.

    Ours as chapter 8 makes it live, data, evaluations and the start of processes included. The
    plain loop trains alone, a run of one thread on each core, and looks at nothing.
    """
    cores = min(os.cpu_count() or 1, 2 * SEEDS)
    recipes = [
        MLPRecipe(dataset="digits", norm=norm, seed=seed, steps=WALL_STEPS)
        for norm in ("batch", None)
        for seed in range(SEEDS)
    ]
    with pool.processes(cores) as workers:

        def by_hand() -> None:
            each = [nn.BatchNorm1d, None] * SEEDS
            list(workers.map(_plain_run, each, [WALL_STEPS] * len(each)))

        threads = torch.get_num_threads()
        torch.set_num_threads(cores)
        try:
            calls = {"ours": lambda: pool.several(recipes), "a plain torch loop": by_hand}
            path = "1 core" if cores == 1 else f"{cores} cores"
            about = {"what": "Figure 1, several cores", "shape": (60, 64), "path": path}
            turns = row(calls, rounds, "cores", **about)
        finally:
            torch.set_num_threads(threads)
    return _of_a_step(turns, 2 * SEEDS * WALL_STEPS)


def _of_a_step(turns: Row, steps: int) -> Row:
    """Times of one network and one step, where a turn makes so many."""
    times = {name: [time / steps for time in times] for name, times in turns.times.items()}
    return turns._replace(times=times)


class Products:
    """The matrix products of a step of `networks` networks without BN, and nothing else."""

    def __init__(self, networks: int):
        units = (100, 100, 100, 10)
        self.first = torch.zeros(SHAPE[1], networks * units[0])
        self.joint = torch.zeros(SHAPE[0], networks * units[0])
        self.later = [torch.zeros(networks, *size) for size in pairwise(units)]
        self.h = [torch.zeros(networks, SHAPE[0], width) for width in units]

    def step(self, x: Tensor) -> None:
        """Forward, the gradients of all inputs but the first, and the steps of the weights."""
        torch.mm(x, self.first, out=self.joint)
        for weight, below, above in zip(self.later, self.h, self.h[1:], strict=False):
            torch.bmm(below, weight, out=above)
        for weight, below, above in zip(self.later, self.h, self.h[1:], strict=False):
            torch.bmm(above, weight.transpose(1, 2), out=below)
            weight.baddbmm_(below.transpose(1, 2), above, alpha=-1)
        self.first.addmm_(x.T, self.joint, alpha=-1)


def _network(norm: Callable | None) -> MLP:
    return MLP(SHAPE[1], norm=norm, generator=torch.Generator().manual_seed(0))


def _batch(pixels: int = SHAPE[1]) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 2, (SHAPE[0], pixels), generator=generator).float()
    return x, torch.randint(0, 10, SHAPE[:1], generator=generator)


def _plain_run(norm: Callable | None, steps: int) -> None:
    torch.set_num_threads(1)
    x, labels = _batch(64)
    model = MLP(64, norm=norm)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        descend(model, optimiser, x, labels)
