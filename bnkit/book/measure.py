"""How much prose leads how much code in a chapter, and how much a built page has to load.

A wish to steer by, not a limit to enforce.
"""

import re
from pathlib import Path
from statistics import median
from typing import NamedTuple
from urllib.parse import unquote

from bnkit.page.notebook import cells_of, code_of, tags_of, text_of

DRAWING = re.compile(r'<div class="drawing.*?</svg></div>', re.DOTALL)


class Measure(NamedTuple):
    """What a chapter weighs."""

    words: int  # of Markdown cells
    code_lines: int  # not empty, folded solutions left out
    median_cell: float  # lines of the median code cell
    longest_cell: int

    def __str__(self) -> str:
        ratio = self.words / max(1, self.code_lines)
        return (
            f"{self.words:6,} words {self.code_lines:5,} lines of code {ratio:6.1f} words a line   "
            f"median cell {self.median_cell:g}, longest {self.longest_cell}"
        )


def measure(notebook: Path) -> Measure:
    """Weigh the committed notebook at path `notebook`."""
    cells = cells_of(notebook)
    words = len(re.findall(r"\w+", text_of(cells)))
    shown = code_of(cell for cell in cells if "hide-cell" not in tags_of(cell))
    lengths = [sum(bool(line.strip()) for line in source.splitlines()) for source in shown]
    return Measure(words, sum(lengths), median(lengths), max(lengths))


class Weight(NamedTuple):
    """What a reader's browser loads for one page, in bytes, beside what all pages share."""

    page: int
    figures: int  # the part of `page` that is drawings, in both layouts
    pictures: int  # files

    def __str__(self) -> str:
        shown = (f"{name} {size / 1000:6,.0f} kB" for name, size in self._asdict().items())
        return "   ".join(shown)


def weigh(page: Path) -> Weight:
    """Weigh a built page."""
    text = page.read_text(encoding="utf-8")
    drawings = sum(len(found[0].encode()) for found in DRAWING.finditer(text))
    names = {unquote(name) for name in re.findall(r'<img[^>]* src="([^":]+)"', text)}
    files = [page.parent / name for name in names]
    sizes = [path.stat().st_size for path in files if path.is_file() and "_images" in path.parts]
    return Weight(len(text.encode()), drawings, sum(sizes))
