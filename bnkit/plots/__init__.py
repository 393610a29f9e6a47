"""One function per figure, from records and arrays only; one module per chapter.

A drawing function takes what it draws, returns a Figure, reads no file, trains nothing and never
calls ``show``. This module holds what all of them share: the house style, the band that shows the
spread over seeds. What a colour means says ``bnkit.plots.colours``; ``labels`` has labels at the
ends of curves, instead of a legend where there is room, and ``scales`` what the axes say.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from functools import wraps

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bnkit import paths

Array = np.ndarray
ByName = Mapping[str, Array]

WIDTH = 5.8  # inches: narrower than the page, so that letters stay legible on a phone
NAMES = {"linear": "linear", "sigmoid": "sigmoid", "tanh": "tanh", "relu": "ReLU"}
DOTS = {"marker": "o", "markersize": 4}  # on a line: where something was measured


class Drawing(Figure):
    """A Figure in the house style that a notebook shows as a cell's value, always alike."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        width, height = self.get_size_inches()
        # drawn at twice the density it is shown at
        return self.png(), {"width": round(100 * width), "height": round(100 * height)}

    def png(self) -> bytes:
        """The figure as the bytes of a PNG file."""
        buffer, dpi = io.BytesIO(), self.dpi
        self.dpi = 200
        with style.context(paths.STYLE):
            # ``savefig`` would draw twice, for layouts that need it; this one is found before
            # anything is drawn. Without the software's version two builds agree.
            FigureCanvasAgg(self).print_png(buffer, metadata={"Software": None})
        self.dpi = dpi
        return buffer.getvalue()


def figure(
    rows: int = 1, columns: int = 1, *, width: float = 7.2, height: float = 4.0, **subplots
) -> tuple[Drawing, Axes | Array]:
    """A figure in the house style, `width` x `height` inches, without touching global state.

    Returns the figure and its axes, one Axes or an array of them, as ``Figure.subplots`` does.
    """
    with style.context(paths.STYLE):
        drawing = Drawing(figsize=(width, height), layout="constrained")
        axes = drawing.subplots(rows, columns, **subplots)
    return drawing, axes


def styled(draw: Callable) -> Callable:
    """Decorator of a drawing function: what it adds after ``figure`` gets the style too."""

    @wraps(draw)
    def inside(*arguments, **options):
        with style.context(paths.STYLE):
            return draw(*arguments, **options)

    return inside


def spread(values: Sequence | Array, axis: int = 0) -> tuple[Array, Array, Array]:
    """Mean, minimum and maximum over seeds (`axis`): the line and the band of ``band``."""
    values = np.asarray(values, dtype=float)
    return values.mean(axis), values.min(axis), values.max(axis)


def band(axes: Axes, x, values, colour: str, *, label: str | None = None, **line) -> None:
    """Draw mean over seeds as a line and their whole range as a band.

    Shapes: `x` (t,), `values` (seeds, t).
    """
    middle, low, high = spread(values)
    axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.plot(x, middle, color=colour, label=label, **line)
