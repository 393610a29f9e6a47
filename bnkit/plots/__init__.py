"""One function per figure, from records and arrays only; one module per chapter.

A drawing function takes what it draws, returns a Figure, reads no file, trains nothing and never
calls ``show``. This module holds what all of them share: the house style, the band that shows the
spread over seeds. What a colour means says ``bnkit.plots.colours``; ``labels`` has labels at the
ends of curves, instead of a legend where there is room, and ``scales`` what the axes say.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from functools import partial, wraps

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from bnkit import paths
from bnkit.page.figures import NARROW, PALETTE
from bnkit.plots import narrow
from bnkit.plots.svg import themed

Array = np.ndarray
ByName = Mapping[str, Array]

WIDTH = 5.8  # inches: of a figure that needs no more
NAMES = {"linear": "linear", "sigmoid": "sigmoid", "tanh": "tanh", "relu": "ReLU"}
DOTS = {"marker": "o", "markersize": 4}  # on a line: where something was measured
DENSE = 250  # more markers than these are drawn as a picture: a page has to load
AS_WORDS = {tone.light: tone.light_text for tone in PALETTE.values()}
_for_a_phone = ContextVar("_for_a_phone", default=False)  # whether ``figure`` makes narrow ones


class Drawing(Figure):
    """A Figure in the house style that a notebook shows as a cell's value, always alike.

    It is an SVG, a narrow one beside it for phones, and a PNG for viewers that trust no SVG.
    """

    again: Callable[[], "Drawing"] | None = None  # what draws it once more, see ``styled``

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict, dict]:
        data = {"image/svg+xml": self.svg(), "image/png": self.png()}
        if phone := self.narrow():
            data[NARROW] = phone.svg()
        return data, {}

    def narrow(self) -> "Drawing | None":
        """The same figure for a phone; None where no ``styled`` function has drawn it."""
        if self.again is None:
            return None
        token = _for_a_phone.set(True)
        try:
            return self.again()
        finally:
            _for_a_phone.reset(token)

    def svg(self) -> str:
        """The figure as the text of an SVG file that follows the theme of the page around it."""
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        self._print(200, lambda: FigureCanvasSVG(self).print_svg(buffer, metadata=nothing))
        width, height = (round(100 * inches) for inches in self.get_size_inches())
        return themed(buffer.getvalue(), width, height)

    def png(self) -> bytes:
        """The figure as the bytes of a PNG file."""
        buffer = io.BytesIO()
        nothing = {"Software": None}  # without its version two builds agree
        self._print(100, lambda: FigureCanvasAgg(self).print_png(buffer, metadata=nothing))
        return buffer.getvalue()

    def _print(self, density: int, write: Callable[[], None]) -> None:
        """Draw once: ``savefig`` would do so twice, for layouts that are not found before."""
        dpi, self.dpi = self.dpi, density
        for text in self.findobj(Text):
            colour = to_hex(text.get_color())
            text.set_color(AS_WORDS.get(colour, colour))
        for axes in self.axes:
            for marks in (*axes.lines, *axes.collections):
                if _is_dense(marks):
                    marks.set_rasterized(True)
        with style.context(paths.STYLE):
            write()
        self.dpi = dpi


def _is_dense(marks) -> bool:
    """Whether these are so many markers that an element for each would weigh too much."""
    if hasattr(marks, "get_offsets"):
        return len(marks.get_offsets()) > DENSE
    without = (None, "None", "none", "", " ")
    return marks.get_marker() not in without and len(marks.get_xdata()) > DENSE


def figure(
    rows: int = 1,
    columns: int = 1,
    *,
    width: float = 7.2,
    height: float = 4.0,
    phone: narrow.Layout | None = None,
    **subplots,
) -> tuple[Drawing, Axes | Array]:
    """A figure in the house style, `width` x `height` inches, without touching global state.

    Returns the figure and its axes, one Axes or an array of them, as ``Figure.subplots`` does. On a
    phone its panels stand below each other, unless `phone` says how they do.
    """
    with style.context(paths.STYLE):
        if _for_a_phone.get():
            size = (width / columns, height / rows)
            return narrow.subplots(Drawing, (rows, columns), size, phone, **subplots)
        drawing = Drawing(figsize=(width, height), layout="constrained")
        axes = drawing.subplots(rows, columns, **subplots)
    return drawing, axes


def styled(draw: Callable) -> Callable:
    """Decorator of a drawing function: what it adds after ``figure`` gets the style too.

    And the figure can be drawn again, for a phone.
    """

    @wraps(draw)
    def inside(*arguments, **options):
        with style.context(paths.STYLE):
            drawing = draw(*arguments, **options)
            if _for_a_phone.get():
                narrow.fit(drawing)
        drawing.again = partial(inside, *arguments, **options)
        return drawing

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
