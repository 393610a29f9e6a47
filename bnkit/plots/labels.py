"""Words beside curves: labels at their ends, and legends where there is no room for them."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bnkit.plots.colours import THEORY
from bnkit.plots.narrow import columns_of


def write(axes: Axes, text: str, place: tuple, colour: str, shift=(0.0, 0.0), **options) -> None:
    """Write `text` at `place` on the axes, shifted by so many points of the page."""
    axes.annotate(text, place, xytext=shift, textcoords="offset points", color=colour, **options)


def label_end(axes: Axes, x, y, text: str, colour: str, *, dx: float = 5, dy: float = 0) -> None:
    """Write `text` beside the last point of a curve, shifted by `dx`, `dy` points."""
    last = (float(np.asarray(x)[-1]), float(np.asarray(y)[-1]))
    write(axes, text, last, colour, (dx, dy), va="center", annotation_clip=False, fontsize=10)


def apart(ends: Mapping, factor: float) -> dict:
    """Places of labels for ends of curves, from low to high: there, or by `factor` above the last.

    The axis is logarithmic; `ends` and what comes back are heights by name.
    """
    places, last = {}, 0.0
    for name in sorted(ends, key=ends.get):
        places[name] = last = max(ends[name], last * factor)
    return places


def legend_below(drawing: Figure, axes: Axes, columns: int, **options) -> None:
    """One legend for all panels, below them, of what `axes` shows; fewer columns on a phone."""
    handles, names = axes.get_legend_handles_labels()
    columns = min(columns, columns_of(names, drawing.get_figwidth()))
    options = {"loc": "outside lower center"} | options
    drawing.legend(handles, names, ncols=columns, **options)


def room_above(axes: Axes, share: float) -> None:
    """Leave this share of the axis's height free above the curves, for a legend."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + share * (high - low))


def guessing(axes: Axes, x: float, **options) -> None:
    """A line at one in ten, named at `x`: the share that guessing among ten classes gets right."""
    axes.axhline(0.1, color=THEORY, linestyle=":")
    axes.text(x, 0.12, "guessing", color=THEORY, **options)
