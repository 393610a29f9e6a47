"""What a chapter weighs, and what of a built page is in sight, and has to be loaded.

How much prose leads how much code is a wish to steer by; that evidence is folded, that no sentence
stands twice, and what a browser sees (``browser``) is held by ``.ci/run``.
"""

import re
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path
from statistics import median
from typing import NamedTuple
from urllib.parse import unquote

from bnkit.book.layout import text_in
from bnkit.page.notebook import TEACHING, cells_of, code_of, kind_of, source_of, tags_of, text_of

# what a text asks without a box that hides the answer
OPEN_QUESTION = re.compile(r"\*\*(?:Before you read on|A question to take along|Guess first)\b")
# where this stands, batch normalization is defined
FORMULA = re.compile(r"\\hat x[^$]*=[^$]*\\sqrt")
DRAWING = re.compile(r'<div class="drawing.*?</svg></div>', re.DOTALL)


class Measure(NamedTuple):
    """What a chapter weighs."""

    words: int  # of Markdown cells
    code_lines: int  # not empty, folded solutions left out
    median_cell: float  # lines of the median code cell
    longest_cell: int
    teaching: int  # cells
    by_torch: int  # of these, cells that show torch's own layer
    unhidden: int  # questions whose answer stands in sight

    def __str__(self) -> str:
        ratio = self.words / max(1, self.code_lines)
        return (
            f"{self.words:6,} words {self.code_lines:5,} lines of code {ratio:6.1f} words a line   "
            f"median cell {self.median_cell:g}, longest {self.longest_cell:2}   {self.teaching:2} cells teach, "
            f"{self.by_torch} by nn.BatchNorm; {self.unhidden} open questions"
        )


def measure(notebook: Path) -> Measure:
    """Weigh the committed notebook at path `notebook`."""
    cells = cells_of(notebook)
    words = len(re.findall(r"\w+", text_of(cells)))
    shown = code_of(cell for cell in cells if "hide-cell" not in tags_of(cell))
    lengths = [sum(bool(line.strip()) for line in source.splitlines()) for source in shown]
    teaching = [source_of(cell) for cell in cells if kind_of(cell) == TEACHING]
    by_torch = sum("nn.BatchNorm" in source for source in teaching)
    unhidden = len(OPEN_QUESTION.findall(text_of(cells)))
    house = sum(lengths), median(lengths), max(lengths)
    return Measure(words, *house, len(teaching), by_torch, unhidden)


def words_before_the_formula(pages: Iterable[Path]) -> int:
    """Words on the pages before the first one that defines batch normalization, in this order.

    `pages` are notebooks and Markdown files.
    """
    before = 0
    for page in pages:
        markdown = page.suffix == ".md"
        text = text_in(page) if markdown else text_of(cells_of(page))
        if FORMULA.search(text):
            break
        before += len(re.findall(r"\w+", text))
    return before


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


class InSight(NamedTuple):
    """The cells of a built page whose code a reader sees without opening a fold."""

    teaching: int
    other: int
    twice: int  # cells with the f-string of a sentence above the sentence


def in_sight(page: Path) -> InSight:
    """Count on the built page at path `page`; no browser is needed."""
    reader = _Cells()
    reader.feed(page.read_text(encoding="utf-8"))
    twice = sum("prose.report(" in source for source in reader.sources)
    return InSight(reader.teaching, len(reader.sources) - reader.teaching, twice)


class _Cells(HTMLParser):
    """Collects the sources of cells that are in no fold."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.teaching = 0
        self._folds = 0
        self._teaches = self._reading = False

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        classes = (dict(attributes).get("class") or "").split()
        self._folds += name == "details"
        if name == "div" and "cell" in classes:
            self._teaches = "tag_teaching" in classes
        if name == "div" and "cell_input" in classes and not self._folds:
            self._reading = True
            self.sources.append("")
            self.teaching += self._teaches

    def handle_endtag(self, name: str) -> None:
        self._folds -= name == "details"
        if name == "pre":
            self._reading = False

    def handle_data(self, data: str) -> None:
        if self._reading:
            self.sources[-1] += data


def bytes_under(folder: Path) -> int:
    """The size of all files under `folder`; 0 where it is missing."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
