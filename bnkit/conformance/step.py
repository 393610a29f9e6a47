"""What is examined: one function for a training step, perhaps one for inference, in NumPy.

Features are on axis 1 for every probe. Whoever has them elsewhere gets his batches turned.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

SPACING = {
    "float64": 2.0**-52,
    "float32": 2.0**-23,
    "float16": 2.0**-10,
    "bfloat16": 2.0**-7,
}
"""The distance from 1 to the next number of each dtype: what errors are counted in."""


class Step(NamedTuple):
    """What one step gives back. All but y may be None: what is None is not examined."""

    y: np.ndarray
    """The output, as x."""
    dx: np.ndarray | None = None
    """∂ℓ/∂x, as x."""
    dgamma: np.ndarray | None = None
    """∂ℓ/∂γ, one number per feature."""
    dbeta: np.ndarray | None = None
    """∂ℓ/∂β, one number per feature."""
    mean: np.ndarray | None = None
    """The running mean after this step, as inference uses it."""
    var: np.ndarray | None = None
    """The running variance after this step, as inference uses it."""
    state: Any = None
    """Whatever the next step needs; the kit never looks inside."""


# (x, gamma, beta, dy, state) -> Step. gamma and beta may be None; state is None at first.
Function = Callable[..., Step]


class Trouble(Exception):
    """A step that raised, or whose result is no result. The message is for the card."""


class Subject:
    """The functions under examination, and what is known of how to call them."""

    def __init__(
        self, train: Function, infer: Function | None = None, bfloat16: Function | None = None
    ) -> None:
        self._train, self._infer, self._bfloat16 = train, infer, bfloat16
        self.axis = 1
        self.flat = True
        """Whether it takes batches of two axes; else (m, d) becomes (m, d, 1, 1)."""
        self.mutated: set[str] = set()
        """Names of arguments that a call has changed."""

    @property
    def infers(self) -> bool:
        return self._infer is not None

    def train(self, x, gamma, beta, dy=None, state=None) -> Step:
        """A training step. Shapes: x and dy with features on axis 1; gamma and beta (d,)."""
        return self._call(self._train, x, gamma, beta, dy, state)

    def in_bfloat16(self, x, gamma, beta, dy=None, state=None) -> Step:
        """A training step in bfloat16, from and to float32."""
        return self._call(self._bfloat16, x, gamma, beta, dy, state)

    def infer(self, x, gamma, beta, state, dy=None) -> Step:
        """A step of inference: nothing learned, the running values used."""
        if self._infer is None:
            raise Trouble("no function for inference was given")
        return self._call(self._infer, x, gamma, beta, dy, state)

    def _call(self, function, x, gamma, beta, dy, state) -> Step:
        dy = np.ones_like(x) if dy is None else dy
        flat = x.ndim == 2 and not self.flat
        given = {"x": self._turned(x, flat), "dy": self._turned(dy, flat)}
        given |= {"gamma": gamma, "beta": beta}
        before = {k: np.array(v) for k, v in given.items() if v is not None}
        try:
            # Results are copied before arguments are restored: they may share their memory.
            return self._checked(_called(function, given, state), given["x"], flat)
        finally:
            self._restore(given, before)

    def _restore(self, given, before) -> None:
        """Undo what a call has done to its arguments, and note to which."""
        for name, value in before.items():
            if np.shape(given[name]) != value.shape:
                self.mutated.add(name)
                raise Trouble(f"changed the shape of its argument {name}")
            if not np.array_equal(given[name], value, equal_nan=True):
                self.mutated.add(name)
                np.copyto(given[name], value)

    def _turned(self, x, flat):
        x = x[:, :, None, None] if flat else x
        return x if self.axis == 1 else np.moveaxis(x, 1, self.axis)

    def _back(self, x, flat):
        x = x if self.axis == 1 else np.moveaxis(x, self.axis, 1)
        return x[:, :, 0, 0] if flat else x

    def _checked(self, result, x, flat) -> Step:
        if not hasattr(result, "y"):
            raise Trouble(f"returned {type(result).__name__}, where a Step was expected")
        features = (x.shape[self.axis],)
        arrays = {}
        for name in ("y", "dx", "dgamma", "dbeta", "mean", "var"):
            value = getattr(result, name, None)
            if value is None and name != "y":
                arrays[name] = None
                continue
            value = np.array(value)  # a copy: it may be the step's own memory
            wanted = x.shape if name in ("y", "dx") else features
            if value.shape != wanted:
                raise Trouble(f"returned {name} of shape {value.shape}, where {wanted} was due")
            if value.dtype.kind != "f":
                raise Trouble(f"returned {name} of dtype {value.dtype}, which is not floating")
            arrays[name] = self._back(value, flat) if name in ("y", "dx") else value
        return Step(**arrays, state=getattr(result, "state", None))


def _called(function, given, state):
    try:
        return function(given["x"], given["gamma"], given["beta"], given["dy"], state)
    except BaseException as error:  # KeyboardInterrupt, too: the user's own never comes here
        raise Trouble(f"raised {named(error)}") from error


def named(error: BaseException) -> str:
    """An error in one short line: its class and the beginning of its message."""
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said[:100]}" if said else type(error).__name__


def spacings(found, expected, dtype: str, scale=None) -> float:
    """The largest error, in spacings of `dtype` at the largest value of its channel.

    Shapes: alike; from 2-D on channels are axis 1, a vector is one channel. `scale` replaces the
    largest value. Infinite where a value is missing or not finite and should be.
    """
    expected = np.asarray(expected)
    found = np.asarray(found).astype(expected.dtype)
    if not expected.size:
        return 0.0
    others = (0, *range(2, expected.ndim)) if expected.ndim > 1 else None
    if scale is None:
        scale = np.max(np.abs(expected), axis=others, keepdims=True)
    if not np.isfinite(found).all():
        return float("inf")
    error = np.abs(found - expected)
    # A channel of zeros has no spacing: there any error counts against the smallest number.
    scale = np.maximum(scale, np.finfo(np.float32).tiny)
    return float(np.max(error / scale) / SPACING[dtype])
