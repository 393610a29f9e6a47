"""The one place that reads the cells of a notebook; JSON alone, for it has to be quick."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

CLAIM = "claim:"  # what the tag of a cell begins with that measures a claim, as claim:C27
INJECTED = "injected-parameters"  # papermill's tag of the cell that it writes
# What a cell of code is for: what a reader would type, or what proves the sentences around it.
TEACHING, EVIDENCE = "teaching", "evidence"
SOLUTION = "hide-cell"  # the tag of evidence that answers an exercise: what it prints folds, too
FOLDED_OUTPUT = "hide-output"  # the tag of evidence whose output is of no use to a reader
WRITTEN = "written"  # the tag of text that the press writes, and nobody else
TAB = "tab:"  # what the tag of a teaching cell begins with that is a tab beside its neighbours


class Figure(NamedTuple):
    """What a cell says of the figure that it shows; "" for what it does not say."""

    name: str = ""
    caption: str = ""
    alt: str = ""


class NotebookError(ValueError):
    """A file that should be a notebook is none; the message names it."""


def cells_of(notebook: Path | dict) -> list[dict]:
    """The cells of a notebook, a file or its content; NotebookError where it is none."""
    if isinstance(notebook, dict):
        return _checked(notebook)
    try:
        return _checked(json.loads(Path(notebook).read_bytes()))
    except (ValueError, RecursionError) as error:  # no JSON, or brackets without end
        why = " ".join(str(error).split())
        remedy = "put back a good one, by git restore for example"
        raise NotebookError(f"{notebook} is not a notebook: {why}; {remedy}") from None


def _checked(content: object) -> list[dict]:
    """The cells in the content of a notebook; NotebookError where they are not such as are read."""
    cells = content.get("cells") if isinstance(content, dict) else None
    if not isinstance(cells, list):
        raise NotebookError("it has no list of cells")
    for number, cell in enumerate(cells, start=1):
        fields = cell if isinstance(cell, dict) else {}
        source, about = fields.get("source"), fields.get("metadata")
        lines = source if isinstance(source, list) else [source]
        text = all(isinstance(line, str) for line in lines)
        if not text or not isinstance(about, dict) or not isinstance(fields.get("cell_type"), str):
            raise NotebookError(f"cell {number} lacks its type, its text or its metadata")
    return cells


def source_of(cell: dict) -> str:
    """What stands in a cell; a notebook stores it as one text or as lines."""
    return "".join(cell["source"])


def code_of(cells: Iterable[dict]) -> list[str]:
    """The sources of the code cells."""
    return [source_of(cell) for cell in cells if cell["cell_type"] == "code"]


def text_of(cells: Iterable[dict]) -> str:
    """The text of the Markdown cells."""
    return "\n\n".join(source_of(cell) for cell in cells if cell["cell_type"] == "markdown")


def headings_of(cell: dict) -> list[tuple[int, str]]:
    """The headings in a Markdown cell, level and text; what is inside a fence is none."""
    prose = re.sub(r"(?ms)^(`{3,}|~{3,}|:{3,}).*?^\1", "", source_of(cell))
    return [(len(marks), text) for marks, text in re.findall(r"(?m)^(#+) +(.+)$", prose)]


def tags_of(cell: dict) -> list[str]:
    """The tags of a cell."""
    return cell["metadata"].get("tags", [])


def kind_of(cell: dict) -> str | None:
    """ "teaching" or "evidence"; None where a cell of code says neither, or both."""
    kinds = {TEACHING, EVIDENCE} & set(tags_of(cell))
    return kinds.pop() if len(kinds) == 1 else None


def tab_of(cell: dict) -> str | None:
    """The label of a cell that is a tab, "NumPy" of ``tab:NumPy``; None of any other."""
    return next((tag.removeprefix(TAB) for tag in tags_of(cell) if tag.startswith(TAB)), None)


def claims_of(cell: dict) -> list[str]:
    """The claims that a cell measures, as "C27"."""
    return [tag.removeprefix(CLAIM) for tag in tags_of(cell) if tag.startswith(CLAIM)]


def is_injected(cell: dict) -> bool:
    """Whether papermill, and not the author, wrote this cell."""
    return INJECTED in tags_of(cell)


def parameters_in(cells: Iterable[dict]) -> str:
    """The source of the cell that declares the parameters; "" where there is none."""
    return next((source_of(cell) for cell in cells if "parameters" in tags_of(cell)), "")


def figure_of(cell: dict) -> Figure | None:
    """The figure that a cell names for the book's builder; None where it names none."""
    if not (about := cell["metadata"].get("mystnb")):
        return None
    said = {**about.get("figure", {}), "alt": about.get("image", {}).get("alt")}
    return Figure(*(said.get(field) or "" for field in Figure._fields))
