"""One function per figure, from records and arrays only; one module per chapter.

A drawing function takes what it draws, returns a Figure, reads no file, trains nothing and never
calls ``show``. This module holds what all of them share: the house style, one colour per meaning
through the whole book, the band that shows the spread over seeds, and labels at the ends of curves
instead of a legend where there is room.
"""

import io
from collections.abc import Callable, Sequence
from functools import wraps

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, Formatter, LogLocator, NullLocator, StrMethodFormatter

from bnkit import paths

# Okabe and Ito's palette, told apart with every common colour blindness; one colour per meaning.
WITH_BN = "#0072B2"  # blue: the treatment
WITHOUT_BN = "#D55E00"  # vermilion: the control
PAPER = "#000000"  # black, dashed: what the paper printed
THEORY = "#555555"  # grey, dotted: a formula
FASTER = "#009E73"  # green: a higher learning rate
WRONG = "#CC79A7"  # purple: a mutant, or the note's version
HIGHLIGHT = "#E69F00"  # orange: the one thing to look at
NEUTRAL = "#8a8a8a"  # the rest
# categories without a meaning of their own
SERIES = (WITH_BN, WITHOUT_BN, FASTER, HIGHLIGHT, WRONG, "#56B4E9", THEORY)


class Drawing(Figure):
    """A Figure in the house style that shows itself as the value of a cell, in any notebook, always
    the same bytes."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        width, height = self.get_size_inches()
        # drawn at twice the density it is shown at; without software version, so that two builds
        # agree
        return self.png(), {"width": round(100 * width), "height": round(100 * height)}

    def png(self) -> bytes:
        """The figure as the bytes of a PNG file."""
        buffer, dpi = io.BytesIO(), self.dpi
        self.dpi = 200
        with style.context(paths.STYLE):
            # ``savefig`` would draw twice, for layouts that need it; this one is found before
            # anything is drawn.
            FigureCanvasAgg(self).print_png(buffer, metadata={"Software": None})
        self.dpi = dpi
        return buffer.getvalue()


def figure(
    rows: int = 1, columns: int = 1, *, width: float = 7.2, height: float = 4.0, **subplots
) -> tuple[Drawing, Axes | np.ndarray]:
    """A figure in the house style, `width` x `height` inches, without touching global state.

    Returns the figure and its axes, one Axes or an array of them, as ``Figure.subplots`` does.
    """
    with style.context(paths.STYLE):
        drawing = Drawing(figsize=(width, height), layout="constrained")
        axes = drawing.subplots(rows, columns, **subplots)
    return drawing, axes


def styled(draw: Callable) -> Callable:
    """Decorator of a drawing function: titles, texts and legends made after ``figure`` returned get
    the style too."""

    @wraps(draw)
    def inside(*arguments, **options):
        with style.context(paths.STYLE):
            return draw(*arguments, **options)

    return inside


def spread(
    values: Sequence | np.ndarray, axis: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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


def label_end(axes: Axes, x, y, text: str, colour: str, *, dx: float = 5, dy: float = 0) -> None:
    """Write `text` beside the last point of a curve, shifted by `dx`, `dy` points."""
    axes.annotate(
        text,
        (float(np.asarray(x)[-1]), float(np.asarray(y)[-1])),
        xytext=(dx, dy),
        textcoords="offset points",
        color=colour,
        va="center",
        annotation_clip=False,
        fontsize=10,
    )


class Powers(Formatter):
    """Tick labels in plain text: 0.01 or 100 where the axis spans no more than 0.001 to 10,000,
    else 10⁻² or 10²."""

    def __call__(self, value: float, pos: int | None = None) -> str:
        low, high = sorted(self.axis.get_view_interval())
        exponent = round(float(np.log10(value))) if value > 0 else 0
        plain = (low >= 1e-3 and high <= 1e4) or exponent in (0, 1)
        if plain or not np.isclose(value, 10.0**exponent, atol=0):
            return f"{value:g}"
        return "10" + str(exponent).translate(_RAISED)


class Decades(LogLocator):
    """At most seven ticks at powers of ten, one, two, five, ten, twenty or fifty decades apart."""

    def tick_values(self, vmin: float, vmax: float) -> np.ndarray:
        decades = abs(float(np.log10(vmax / vmin)))
        step = next(step for step in (1, 2, 5, 10, 20, 50) if decades / step < 7 or step == 50)
        self.set_params(base=10.0**step)
        return super().tick_values(vmin, vmax)


def powers(axis: Axis) -> None:
    """Ticks of a logarithmic axis at ``Decades`` only, labelled in the manner of ``Powers``.

    Without mathematical typesetting and a tick at 2, 3, ... 9 a figure takes half the time to draw.
    """
    axis.set_major_locator(Decades())
    axis.set_major_formatter(Powers())
    axis.set_minor_locator(NullLocator())


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def ticks(axis: Axis, places: Sequence[float]) -> None:
    """Ticks at `places` only, as plain numbers: a logarithmic axis over two octaves has no good
    ones itself."""
    axis.set_major_locator(FixedLocator(list(places)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
