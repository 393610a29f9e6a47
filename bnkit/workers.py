"""One recorded run in a process of its own. Not in ``__main__``: a new process must find it by its module's name."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from filelock import FileLock, Timeout

from bnkit import experiments, paths


def one_run(name: str, seed: int) -> str:
    """Make and store one run, unless another process is at it; what became of it, in words."""
    lock = paths.cache() / "checkpoints" / f"{name.replace('/', '-')}-seed-{seed}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lock, timeout=0), one_thread():
            if (name, seed) not in experiments.missing():
                return f"{name} seed {seed}: recorded meanwhile"
            record, _ = experiments.run(name, seed)
    except Timeout:
        return f"{name} seed {seed}: another process is at it; left to that one"
    return f"{record.name}: test accuracy {record.curve('test_accuracy')[1][-1]:.4f}"


@contextmanager
def one_thread() -> Iterator[None]:
    """These networks are too small to share among cores; one thread also makes a run repeatable on its platform."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
