"""The cells of a notebook, from a file and from its content, one text or lines."""

import json

import pytest

from bnkit.page.notebook import cells_of, code_of, source_of

CELLS = [
    {"cell_type": "markdown", "source": "# A title"},
    {"cell_type": "code", "source": ["a = 1\n", "b = 2"]},
]


def test_a_file_and_its_content_have_the_same_cells(tmp_path):
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps({"cells": CELLS}))
    assert cells_of(path) == cells_of({"cells": CELLS}) == CELLS


def test_sources_are_text_however_they_are_stored():
    assert [source_of(cell) for cell in CELLS] == ["# A title", "a = 1\nb = 2"]
    assert code_of(CELLS) == ["a = 1\nb = 2"]


def test_what_is_no_notebook_is_refused(tmp_path):
    path = tmp_path / "a.ipynb"
    path.write_text("no JSON")
    with pytest.raises(ValueError, match="Expecting value"):
        cells_of(path)
