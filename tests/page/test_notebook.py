"""The cells of a notebook, from a file and from its content, one text or lines."""

import json

import pytest

from bnkit.page.notebook import (
    Figure,
    cells_of,
    claims_of,
    code_of,
    figure_of,
    is_injected,
    parameters_in,
    source_of,
    tags_of,
    text_of,
)

CELLS = [
    {"cell_type": "markdown", "metadata": {}, "source": "# A title"},
    {"cell_type": "code", "metadata": {}, "source": ["a = 1\n", "b = 2"]},
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


def tagged(*tags: str, source: str = "") -> dict:
    return {"cell_type": "code", "source": source, "metadata": {"tags": list(tags)}}


def test_tags_say_what_a_cell_is_for():
    assert tags_of({"metadata": {}}) == []
    assert claims_of(tagged("hide-cell", "claim:C27", "claim:C30")) == ["C27", "C30"]
    assert is_injected(tagged("injected-parameters"))
    assert not is_injected(tagged("parameters"))
    assert parameters_in([tagged(), tagged("parameters", source="seed: int = 1  # s")]) == (
        "seed: int = 1  # s"
    )
    assert parameters_in([tagged()]) == ""


def test_text_is_that_of_the_markdown_cells():
    assert (
        text_of([*CELLS, {"cell_type": "markdown", "source": ["a\n", "b"]}]) == "# A title\n\na\nb"
    )


def test_a_figure_is_what_the_builder_is_told():
    about = {"figure": {"name": "fig-a", "caption": "c"}, "image": {"alt": "d"}}
    assert figure_of({"metadata": {"mystnb": about}}) == Figure("fig-a", "c", "d")
    assert figure_of({"metadata": {"mystnb": {"image": {"alt": "d"}}}}) == Figure(alt="d")
    assert figure_of({"metadata": {}}) is None
