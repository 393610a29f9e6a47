"""Chapter 2's picture: an Euler column under load, with lateral supports, by finite differences.

A slender column of length L and bending stiffness EI, hinged at both ends, obeys EI w'''' + P w'' =
0 for its lateral deflection w under the axial load P. Supports hold w = 0 at their heights and may
push sideways. Lengths are in units of L and loads in units of EI / L², so that the unsupported
column buckles at P = pi² (Euler 1744).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

Array = np.ndarray


class Column(NamedTuple):
    """A column at its lowest critical load."""

    load: float
    """Critical load in units of EI / L²."""
    height: Array
    """Places along the column, 0 to 1, both hinges included; shape (points + 1,)."""
    shape: Array
    """Lateral deflection in the buckled mode, largest value 1; shape (points + 1,)."""
    supports: tuple[float, ...]
    """Heights of the lateral supports."""


def evenly(supports: int) -> tuple[float, ...]:
    """Heights of `supports` evenly spaced supports: 1/2; 1/3 and 2/3; ..."""
    return tuple((k + 1) / (supports + 1) for k in range(supports))


def critical(supports: int) -> float:
    """Critical load in closed form, (n + 1)² pi²: n even supports make n + 1 short columns."""
    return (supports + 1) ** 2 * np.pi**2


def buckle(supports: Sequence[float] = (), points: int = 120) -> Column:
    """The lowest buckling mode of a column supported at the heights `supports`.

    Raises ValueError for a support that is not one of the grid's `points` - 1 inner points.
    """
    free, stiffness, softening = _grid(supports, points)
    # With K = C Cᵀ, K w = P S w turns into C⁻¹ S C⁻ᵀ v = v / P: its largest eigenvalue is accurate
    root = np.linalg.cholesky(stiffness)
    values, vectors = np.linalg.eigh(np.linalg.solve(root, np.linalg.solve(root, softening).T))
    mode = np.linalg.solve(root.T, vectors[:, -1])
    shape = np.zeros(points + 1)
    shape[free] = mode / mode[np.abs(mode).argmax()]
    return Column(1 / values[-1], np.linspace(0, 1, points + 1), shape, tuple(supports))


def bend(crooked: Array, load: float, supports: Sequence[float] = ()) -> Array:
    """Total deflection in equilibrium under `load` of a column that was a little `crooked` before.

    Solves K (w − w₀) = P S w. Shapes: crooked (points + 1,), 0 at hinges and supports -> the same.
    Above the critical load the solution is no equilibrium that a column could keep.
    """
    free, stiffness, softening = _grid(supports, len(crooked) - 1)
    deflection = np.zeros(len(crooked))
    deflection[free] = np.linalg.solve(stiffness - load * softening, stiffness @ crooked[free])
    return deflection


def enlarge(column: Column, loads: Array) -> Array:
    """Factor by which each load enlarges a crookedness of the mode's shape, NaN from 0.98 P_c."""
    bent = [np.abs(bend(column.shape, load, column.supports)).max() for load in loads]
    return np.where(loads < 0.98 * column.load, bent, np.nan)


def amplification(load: float | Array, critical_load: float) -> Array:
    """The same factor for a load P < P_c in closed form: 1 / (1 − P / P_c)."""
    return 1 / (1 - np.asarray(load) / critical_load)


def _grid(supports: Sequence[float], points: int) -> tuple[Array, Array, Array]:
    """Grid points that can move; stiffness K = w'''' and softening S = −w'' on them, symmetric."""
    heights = np.asarray(supports, dtype=float) * points
    held = np.rint(heights).astype(int)
    if not np.allclose(held, heights) or not ((held > 0) & (held < points)).all():
        raise ValueError(
            f"supports {tuple(supports)} are not all grid points between 0 and 1; "
            f"multiples of 1/{points} are"
        )
    inner = points - 1
    sides = np.eye(inner, k=1) + np.eye(inner, k=-1)
    second = (2 * np.eye(inner) - sides) * points**2
    # A hinge has w = 0 and w'' = 0: the fourth difference is the square of the second, 0 outside
    fourth = second @ second
    free = np.setdiff1d(np.arange(1, points), held)
    inside = np.ix_(free - 1, free - 1)  # a point that cannot move has no equation and no unknown
    return free, fourth[inside], second[inside]
