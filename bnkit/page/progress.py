"""How far a long cell has come: a bar with the time left, on stderr, where somebody may watch.

JupyterLab and papermill's terminal show it; the press switches bars off where it executes, and
drops those of re-runs from pages. Cells of less than two seconds have none.
"""

from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
DELAY = 2  # seconds before a bar shows


def steps(count: int) -> Iterable[int]:
    """The numbers from 0 to `count` - 1, with a bar."""
    try:
        from tqdm import tqdm
    except ImportError:  # not needed to train: who installs little goes without
        return range(count)
    return tqdm(range(count), unit="step", delay=DELAY, mininterval=0.5, leave=False)


def first(items: Iterable[Item], count: int) -> Iterator[Item]:
    """The first `count` of `items`, and no further one is asked for, with a bar."""
    return (item for _, item in zip(steps(count), items, strict=False))
