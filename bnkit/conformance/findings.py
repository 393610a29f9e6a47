"""What a probe finds, and what a probe is: a name, a question in one line, a function."""

from collections.abc import Callable
from typing import NamedTuple

LIMIT = 64.0
"""Spacings up to which an error is rounding: a few sums of some thousand values cost that much."""


class Finding(NamedTuple):
    """The answer to one probe in one dtype."""

    probe: str
    dtype: str
    holds: bool | None
    """Whether it passed; None where it was not asked or gave no answer, and `note` says why."""
    spacings: float | None = None
    """The largest error, in spacings of the dtype; None for a question of yes and no."""
    best: float | None = None
    """The same error of ``bnkit.reference`` in that dtype."""
    note: str = ""


class Probe(NamedTuple):
    name: str
    about: str
    """The question, in one line: the first of the docstring."""
    dtypes: tuple[str, ...] | None
    """The dtypes in which it is asked; None: each that is examined."""
    ask: Callable
    """(subject, session, dtype) -> Finding."""


def into(probes: dict[str, Probe]) -> Callable:
    """A decorator that enters a probe into `probes`, to be asked in the dtypes that are named.

    In all that are examined where none is named.
    """

    def probe(*dtypes: str):
        def register(function):
            name, about = function.__name__, function.__doc__.split("\n")[0]
            probes[name] = Probe(name, about, dtypes or None, function)
            return function

        return register

    return probe


def measured(name, dtype, error: float, best=None, note: str = "", limit=LIMIT) -> Finding:
    """A finding with an error: it holds up to `limit`."""
    return Finding(name, dtype, bool(error <= limit), error, best, note)
