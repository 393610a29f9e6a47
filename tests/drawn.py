"""What every figure in the house style must be, on a wide page and on a phone; and a small one."""

from collections.abc import Callable
from itertools import combinations
from xml.etree import ElementTree

import numpy as np
from matplotlib.text import Text

from bnkit import plots
from bnkit.book.figures import fixed_colours, smallest_label
from bnkit.plots import colours, narrow
from bnkit.plots.labels import label_end

SVG = "{http://www.w3.org/2000/svg}"


@plots.styled
def example(marks: int = 10) -> plots.Drawing:
    drawing, (left, right) = plots.figure(1, 2, sharey=True)
    x = np.arange(marks)
    left.plot(x, np.sin(x), "o", color=colours.HIGHLIGHT)
    label_end(left, x, np.sin(x), "the sine", colours.HIGHLIGHT)
    left.set(title="A title that is far too long for the screen of any phone", ylabel="height")
    right.plot(x, np.cos(x), color=colours.WITH_BN, label="blue")
    right.legend()
    return drawing


def follows_the_page(draw: Callable[[], plots.Drawing]) -> None:
    """Words are text in the page's font, colours those of its theme, labels legible on a phone."""
    wide = draw()
    for drawing in (wide, wide.narrow()):
        svg = drawing.svg()
        words = {
            "".join(node.itertext()) for node in ElementTree.fromstring(svg).iter(f"{SVG}text")
        }
        for axes in drawing.axes:
            assert set(axes.get_xlabel().split("\n")) - {""} <= words
        assert fixed_colours(svg) == []
        assert "font-family: " not in svg
        assert len(svg) < 400_000
    assert smallest_label({"image/svg+xml": svg}) >= 8


def fits_a_phone(draw: Callable[[], plots.Drawing]) -> None:
    """The same data; no words off the figure, and none on each other."""
    wide = draw()
    phone = wide.narrow()
    assert phone.get_figwidth() == narrow.WIDTH
    assert _data(wide) == _data(phone)
    phone.draw_without_rendering()
    axes = [axis for axes in phone.axes for axis in (axes.xaxis, axes.yaxis)]
    ticks = {text for axis in axes for text in axis.get_ticklabels(which="both")}
    words = [text for text in phone.findobj(Text) if text.get_text() and text.get_visible()]
    boxes = [(text.get_text(), text.get_window_extent()) for text in words if text not in ticks]
    for text, box in boxes:
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= phone.bbox.width, text
        assert box.y1 <= phone.bbox.height, text
    for (a, box_a), (b, box_b) in combinations(boxes, 2):
        assert not box_a.overlaps(box_b), f"{a!r} lies on {b!r}"


def _data(drawing: plots.Drawing) -> list[bytes]:
    """What its lines show; panels of a table come in another order on a phone."""
    return sorted(line.get_xydata().tobytes() for axes in drawing.axes for line in axes.lines)
