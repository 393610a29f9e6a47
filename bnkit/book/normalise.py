"""Removes from an executed notebook what differs from run to run, so that two builds give the same
bytes.
"""

from bnkit.page.notebook import cells_of
from bnkit.page.prose import SITE

# what the tag of a cell begins with that measures a claim of the ledger, as claim:C27
CLAIM = "claim:"
# papermill's tag of the cell it injects; our id for it, as papermill's is random
INJECTED = "injected-parameters"


def normalise(notebook: dict, alone: bool = False) -> dict:
    """The executed notebook without times, paths and random ids; the injected cell is taken off the
    page.

    `alone`, it is a page without the others, whose numbers it cannot quote.
    """
    metadata = {
        key: value
        for key, value in notebook["metadata"].items()
        if key not in ("papermill", "widgets")
    }
    metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}  # no version
    return {
        **notebook,
        "metadata": metadata,
        "cells": [_normalise_cell(cell, alone) for cell in cells_of(notebook)],
    }


def is_injected(cell: dict) -> bool:
    """Whether papermill, and not the author, wrote this cell."""
    return INJECTED in cell["metadata"].get("tags", [])


def _normalise_cell(cell: dict, alone: bool) -> dict:
    metadata = {
        key: value
        for key, value in cell["metadata"].items()
        if key not in ("papermill", "execution")
    }
    if is_injected(cell):  # the parameter card, shown by the next cell, tells it better
        return {
            **cell,
            "id": INJECTED,
            "metadata": {**metadata, "tags": [*metadata["tags"], "remove-cell"]},
        }
    if "outputs" not in cell:
        return {**cell, "metadata": metadata}
    if any(tag.startswith(CLAIM) for tag in metadata.get("tags", [])):
        # as JupyterLab calls it; see marks
        metadata = {**metadata, "bnkit": {"place": f"cell-id={cell['id']}"}}
    outputs = [
        _for_the_site(output, alone) for output in cell["outputs"] if not _is_progress_bar(output)
    ]
    return {**cell, "metadata": metadata, "outputs": outputs}


def _for_the_site(output: dict, alone: bool) -> dict:
    """Of a report with two faces, the one that quotes other chapters' numbers, if they are
    there."""
    data = output.get("data", {})
    return (
        {**output, "data": {"text/markdown": data["text/markdown" if alone else SITE]}}
        if SITE in data
        else output
    )


def _is_progress_bar(output: dict) -> bool:
    """A bar that redraws itself on stderr; only reruns have them, where somebody watched."""
    return (
        output["output_type"] == "stream"
        and output["name"] == "stderr"
        and "\r" in "".join(output["text"])
    )
