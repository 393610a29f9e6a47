"""Which numbers may be typed into text: settings, what is asserted, what others found and is said
to be theirs.
"""

import json

import pytest

from bnkit.book import typed_numbers
from bnkit.book.layout import Book, PressError
from bnkit.paths import root

CODE = typed_numbers.Code(
    asserted=frozenset({0.25, 14.0}), anywhere=frozenset({0.25, 14.0, 0.1, 3.5})
)
FACTS = {98.2, 31.0}


def found(text: str) -> list[str]:
    return list(typed_numbers.typed(text, CODE, FACTS))


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("We reach 97.1 % in the end.", "97.1 %"),
        ("It is 15 times as fast.", "15 times"),
        ("a 12-fold gain", "12-fold"),
        ("The error falls ×7.", "×7"),
        ("The gradient grows × 1.9 a layer.", "× 1.9"),
        ("about 3x faster", "3x"),
        ("a gap of 4 points", "4 points"),
        ("the slope is 0.73", "0.73"),
        ("off by 3e-7", "3e-7"),
        ("so it is $\\approx 1.83$ there", "\\approx 1.83"),
        ("so it is ≈ 40", "≈ 40"),
        ("1,234.5 seconds", "1,234.5"),
        ("35 % of them", "35 %"),  # 3.5 stands in the code, but a share has to be asserted
        ("10 % of them", "10 %"),  # so does 0.1, which is a setting
        ("We reach 98.2 %.", "98.2 %"),  # a fact, but nobody's
        ("In the paper it is 98.3 %.", "98.3 %"),  # said to be the paper's, and is not
        ("The paper is right.\n\nWe reach 98.2 %.", "98.2 %"),  # the source is another paragraph's
        ("- Figure 1 rises\n- by 2.5", "2.5"),
    ],
)
def test_what_looks_measured_is_refused(text, number):
    assert found(text) == [number]


@pytest.mark.parametrize(
    "text",
    [
        "8 × 8 pixels, 28×28×3 values, 1,797 digits in 10 classes",
        "In the paper it is 98.2 %.",
        "Figure 3 has 31.0 million steps.",
        "less than 25 %, or a quarter: 0.25",
        "14 times as many",
        "a learning rate of 0.1",
        "$x = 2.5$ and `rate = 2.5`",
        "see Section 3.3, Figure 8.2 and Theorems 3.9 and 3.10",
        "[a link](page-2.5.html) to https://example.org/1.23",
        "{glue:text}`/chapters/a.ipynb::b:.1f` %",
        "version 1.0.4, arXiv 1502.03167",
    ],
)
def test_what_is_no_finding_of_ours_may_be_typed(text):
    assert found(text) == []


@pytest.fixture
def book(tmp_path, monkeypatch) -> Book:
    """A book of one page and one chapter, whose captions and reports are text, too; without
    exceptions."""
    monkeypatch.setattr(typed_numbers, "ALLOWED", tmp_path / "typed_numbers.yml")
    figure = {
        "figure": {"caption": "A rise by 41 %."},
        "image": {"alt": "A line that ends at 4.2."},
    }
    cells = [
        {
            "cell_type": "markdown",
            "id": "title",
            "metadata": {},
            "source": "# T\n\nAt a rate of 0.5 it is 4.3.",
        },
        {
            "cell_type": "code",
            "id": "draw",
            "metadata": {"mystnb": figure},
            "source": 'prose.report(f"It is {x:.2f}, {0.5} of 4.4.")\nassert x < 4.4\nnote("It is 4.5")',
            "outputs": [],
        },
    ]
    (tmp_path / "chapters").mkdir()
    (tmp_path / "chapters" / "01-a.ipynb").write_text(json.dumps({"cells": cells}))
    (tmp_path / "chapters" / "index.md").write_text(
        "# T\n\n```python\nx = 4.6\n```\n\n```{note}\nIt is 4.7\n```\n"
    )
    (tmp_path / "_toc.yml").write_text("root: chapters/index\nchapters:\n- file: chapters/01-a\n")
    return Book(tmp_path)


def test_every_text_of_a_book_is_read(book):
    found = [
        (each.document, each.cell, each.problem.split(";")[0]) for each in typed_numbers.check(book)
    ]
    assert found == [
        ("chapters/index", "", "types '4.7'"),
        ("chapters/01-a", "title", "types '4.3'"),
        ("chapters/01-a", "draw", "types '41 %'"),
        ("chapters/01-a", "draw", "types '4.2'"),
    ]


def test_an_exception_needs_a_reason_and_goes_when_it_is_not_used(book):
    allowed = typed_numbers.ALLOWED
    allowed.write_text('- {document: chapters/index, values: ["4.7", "4.8"], why: a test}\n')
    assert [
        str(each) for each in typed_numbers.check(book) if each.document == "chapters/index"
    ] == [
        "chapters/index: does not type '4.8' any more: take it out of bnkit/book/typed_numbers.yml"
    ]
    allowed.write_text('- {document: chapters/index, values: ["4.7"]}\n')
    with pytest.raises(
        PressError, match=r"typed_numbers.yml, entry 1: must have document, why, values"
    ):
        list(typed_numbers.check(book))


def test_each_fact_is_the_finding_of_a_work_in_the_bibliography():
    works = (root() / "chapters" / "references.bib").read_text()
    facts = typed_numbers.facts(root() / "data" / "paper" / "facts.yml")
    assert [fact.work for fact in facts if f"{{{fact.work}," not in works] == []
    assert all(fact.values for fact in facts)
