"""The layout of a figure on a phone: panels below each other, words broken where they must be.

A drawing function is not told. It asks ``bnkit.plots.figure`` for its panels as always and gets
them in another arrangement, as wide as a phone's screen; what it writes is fitted afterwards.
"""

import textwrap
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH = 4.5  # inches; on a screen of 390 pixels a point of text is about 1.1 pixels high
TALLEST = 3.1  # inches of a panel
LETTER = 0.56  # mean width of a letter, as a share of the size of its font


class Layout(NamedTuple):
    """How panels stand on a phone; `height` is that of the whole figure in inches."""

    rows: int
    columns: int
    height: float | None = None


def subplots(
    kind: type[Figure],
    shape: tuple[int, int],
    size: tuple[float, float],
    layout: Layout | None,
    *,
    sharex: bool | str = False,
    sharey: bool | str = False,
    squeeze: bool = True,
    **others,
) -> tuple[Figure, Axes | np.ndarray]:
    """A narrow figure and its panels, in an array of the `shape` that was asked for.

    `size` is that of a panel in inches where there is room. A table of panels is read column by
    column, for a column has a title.
    """
    rows, columns = shape
    layout = layout or Layout(rows * columns, 1)
    panel = min(
        size[1] * (1 if columns == 1 else max(1, WIDTH / layout.columns / size[0])), TALLEST
    )
    drawing = kind(figsize=(WIDTH, layout.height or panel * layout.rows), layout="constrained")
    shared = {"sharex": sharex, "sharey": sharey} if tuple(layout[:2]) == shape else {}
    panels = drawing.subplots(layout.rows, layout.columns, squeeze=False, **shared, **others)
    count = rows * columns
    for unused in panels.ravel()[count:]:
        unused.remove()
    if tuple(layout[:2]) != shape:
        panels = panels.ravel()[:count].reshape(columns, rows).T
        _share(panels, sharex, sharey)
        drawing.told_once = _told_once(panels, sharex, sharey)
    return drawing, np.squeeze(panels)[()] if squeeze else panels


def _share(panels: np.ndarray, sharex: bool | str, sharey: bool | str) -> None:
    """Share scales as ``Figure.subplots`` would; each panel keeps the numbers on its axes."""
    for row, column in np.ndindex(*panels.shape):
        for along, share in ((sharex, "sharex"), (sharey, "sharey")):
            first = {"row": (row, 0), "col": (0, column)}.get(along, (0, 0))
            if along and along != "none" and first != (row, column):
                getattr(panels[row, column], share)(panels[first])


def _told_once(panels: np.ndarray, sharex: bool | str, sharey: bool | str) -> list[tuple]:
    """Where a panel left its label to a neighbour: (axis that lacks one, axis that has it)."""
    pairs = []
    for row, column in np.ndindex(*panels.shape):
        axes = panels[row, column]
        if sharex:
            pairs.append((axes.xaxis, panels[-1, column].xaxis))
        if sharey:
            pairs.append((axes.yaxis, panels[row, 0].yaxis))
    return pairs


def fit(drawing: Figure) -> None:
    """Give every panel the labels that it shared, and break what is too long for a phone."""
    for axis, neighbour in getattr(drawing, "told_once", ()):
        if not axis.get_label_text():
            axis.set_label_text(neighbour.get_label_text())
    for axes in drawing.axes:
        place = axes.get_subplotspec()
        if place is None:  # of a colour bar
            continue
        rows, columns = place.get_gridspec().get_geometry()
        width, height = (72 * inches for inches in drawing.get_size_inches())
        for title in (axes.title, axes._left_title, axes._right_title):
            _break(title, 0.88 * width / columns)
        _break(axes.xaxis.label, 0.84 * width / columns)
        _break(axes.yaxis.label, 0.8 * height / rows)
    if drawing.get_suptitle():
        _break(drawing._suptitle, 0.98 * 72 * WIDTH)
    for legend in drawing.legends:
        longest = max(len(text.get_text()) for text in legend.get_texts())
        room = 72 * WIDTH / (LETTER * 10 * longest + 40)
        legend.set_ncols(max(1, min(legend._ncols, int(room))))


def _break(text, room: float) -> None:
    """Break `text` into lines of at most `room` points."""
    if (words := text.get_text()) and "$" not in words:
        wide = LETTER * text.get_fontsize() * (1.08 if text.get_weight() == "bold" else 1)
        lines = words.split("\n")
        if max(map(len, lines)) * wide > room:
            text.set_text(textwrap.fill(" ".join(lines), max(8, int(room / wide))))
