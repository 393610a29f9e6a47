"""The house measure of a chapter: how much prose leads how much code. A wish to steer by, not a
limit to enforce.
"""

import re
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bnkit.page.notebook import cells_of, source_of


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
    prose = " ".join(source_of(cell) for cell in cells if cell["cell_type"] == "markdown")
    shown = [
        cell
        for cell in cells
        if cell["cell_type"] == "code" and "hide-cell" not in cell["metadata"].get("tags", [])
    ]
    lengths = [sum(bool(line.strip()) for line in source_of(cell).splitlines()) for cell in shown]
    return Measure(len(re.findall(r"\w+", prose)), sum(lengths), median(lengths), max(lengths))
