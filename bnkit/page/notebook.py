"""The one place that reads the cells of a notebook; JSON alone, for it has to be quick."""

import json
from collections.abc import Iterable
from pathlib import Path


def cells_of(notebook: Path | dict) -> list[dict]:
    """The cells of a notebook, a file or its content; ValueError where it is no JSON."""
    content = notebook if isinstance(notebook, dict) else json.loads(Path(notebook).read_bytes())
    return content["cells"]


def source_of(cell: dict) -> str:
    """What stands in a cell; a notebook stores it as one text or as lines."""
    return "".join(cell["source"])


def code_of(cells: Iterable[dict]) -> list[str]:
    """The sources of the code cells."""
    return [source_of(cell) for cell in cells if cell["cell_type"] == "code"]
