"""Several processes that train one network: who they are, and what they say to each other."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed


@dataclass(frozen=True)
class Processes:
    """This process among `size` of them; alone it is number 0 of 1."""

    rank: int = 0
    size: int = 1

    def share(self, things):
        """This process's part of a mini-batch (or any sequence): every `size`-th entry."""
        return things[self.rank :: self.size]

    def total(self, values: Tensor) -> Tensor:
        """The sum over all processes, which all of them get."""
        if self.size > 1:
            values = values.clone()
            distributed.all_reduce(values)
        return values

    def average(self, values: Tensor) -> Tensor:
        """The mean over all processes, which all of them get."""
        return self.total(values) / self.size


ALONE = Processes()


def first() -> bool:
    """Whether this process speaks and stores for all that ``torchrun`` started, or is alone."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def joined(device: torch.device) -> Iterator[tuple[Processes, torch.device]]:
    """Inside, this process is joined with the others of ``torchrun``; yields them and the device.

    On CUDA each takes a GPU of its own and they speak by NCCL, on the CPU by Gloo. Processes that
    are joined already stay so; without ``torchrun`` this one is alone.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE, device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    ours = not distributed.is_initialized()
    if ours:
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(distributed.get_rank(), size), device
    finally:
        if ours:
            distributed.destroy_process_group()
