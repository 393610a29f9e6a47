"""Sentences and numbers reach the page in the form that the book's builder reads."""

import nbformat
import numpy as np
import pytest
from markdown_it import MarkdownIt
from myst_nb.ext import glue as builder

from bnkit.page import prose


@pytest.fixture
def shown(shown, monkeypatch):
    """The same of the builder's own glue."""
    monkeypatch.setattr(builder, "ipy_display", prose.display)
    return shown


def test_a_sentence_is_markdown(shown):
    prose.report(f"The error falls to {1 / 3:.2f}.")
    assert shown[0].data["text/markdown"] == "The error falls to 0.33."


def rendered(outputs) -> list[list[tuple[str, str]]]:
    """The cells of the table shown, text and alignment, as another Markdown reader sees them."""
    tokens = MarkdownIt().enable("table").parse(outputs[0].data["text/markdown"])
    texts = [token.content for token in tokens if token.type == "inline"]
    styles = [
        token.attrs.get("style", "") for token in tokens if token.type in ("th_open", "td_open")
    ]
    columns = sum(token.type == "th_open" for token in tokens)
    cells = list(zip(texts, styles, strict=True))
    return [cells[start : start + columns] for start in range(0, len(cells), columns)]


def test_a_table_is_read_as_one_and_numbers_stand_to_the_right(shown):
    prose.table(
        ["kind", "growth", "$|x|$"],
        [["ReLU", "1.46 (1.47)", 3], ["tanh", "−1.2e-3", "**0.5**"], ["a\nb", "×2", 0]],
    )
    table = rendered(shown)
    assert [[text for text, _ in row] for row in table] == [
        ["kind", "growth", "$|x|$"],
        ["ReLU", "1.46 (1.47)", "3"],
        ["tanh", "−1.2e-3", "**0.5**"],
        ["a b", "×2", "0"],
    ]
    assert [["right" in style for _, style in row] for row in table] == [[False, True, True]] * 4


def test_a_column_with_one_word_stands_to_the_left_unless_told_otherwise(shown):
    prose.table(["a", "b"], [[1, 2], ["none", 3]])
    assert [["right" in style for _, style in row] for row in rendered(shown)] == [
        [False, True]
    ] * 3
    shown.clear()
    prose.table(["a", "b"], [[1, 2], ["none", 3]], align="rl")
    assert [["right" in style for _, style in row] for row in rendered(shown)] == [
        [True, False]
    ] * 3


@pytest.mark.parametrize(
    ("rows", "align", "said"),
    [
        ([[1, 2], [3]], None, "row 2 of the table has 1 cells"),
        ([[1, 2]], "l", "each of the 2 columns"),
        ([], "lx", "'lx'"),
    ],
)
def test_a_crooked_table_is_refused(rows, align, said):
    with pytest.raises(ValueError, match=said):
        prose.table(["a", "b"], rows, align)


@pytest.mark.parametrize("value", [0.25, 3, -1e-9, "with BN", True])
def test_a_glued_value_is_stored_as_the_builder_itself_stores_it(shown, value):
    prose.glue("name", value)
    builder.glue("name", value, display=False)
    assert shown[0] == shown[1]


@pytest.mark.parametrize("value", [np.float64(0.25), np.float32(0.25), np.array(0.25), np.int64(3)])
def test_a_glued_numpy_number_is_a_number_to_the_builder(shown, value):
    prose.glue("name", value)
    cell = nbformat.v4.new_code_cell(outputs=shown)
    ((name, output),) = builder.extract_glue_data_cell(cell)
    assert name == "name"
    assert float(output["data"]["text/plain"]) == value
    assert cell.outputs == []  # nothing to see where it was glued


def test_quoted_source_is_the_source_itself(shown):
    prose.show_source(prose.quote)
    text = shown[0].data["text/markdown"]
    assert text.startswith("```python\ndef quote(chapter: str, name: str, spec: str) -> str:\n")
    assert text.endswith('::{name}:{spec}`"\n```')


def test_a_report_with_two_faces_keeps_both(shown):
    prose.report("a number", site=f"a {prose.quote('08-mnist', 'final', '.2f')}")
    assert shown[0].data == {
        "text/markdown": "a number",
        prose.SITE: "a {glue:text}`/chapters/08-mnist.ipynb::final:.2f`",
    }
