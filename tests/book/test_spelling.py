"""One spelling in text and captions; what is quoted, and Python's names, are left alone."""

import pytest

from bnkit.book.spelling import in_output, in_text, spelling


def found(source="", kind="markdown", **about):
    cell = {"cell_type": kind, "id": "here", "source": source, "metadata": about}
    return [problem for _, problem in spelling({"cells": [cell]})]


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("We normalise it.", "normalize"),
        ("Normalised values", "normalized"),
        ("initialisation", "initialization"),
        ("An optimiser", "optimizer"),
        ("unregularised", "unregularized"),
        ("This is Batch Normalization.", "batch normalization"),
    ],
)
def test_another_spelling_is_named_with_ours(wrong, right):
    (problem,) = found(wrong)
    assert problem.endswith(f"the book writes {right!r}")


@pytest.mark.parametrize(
    "good",
    [
        "Normalize, precise, revise, otherwise, raises, realistic, an exercise, colour.",
        "`studies.normalised`, [text](x/normalise.html), “we normalise”",
        "```python\nnormalise(x)\n```",
        "Batch Normalization begins a sentence.",
    ],
)
def test_the_rest_is_right(good):
    assert not found(good)


def test_a_caption_is_text_and_code_is_not():
    caption = {"figure": {"name": "fig-a", "caption": "A normalised feature."}}
    assert len(found("x = normalised", "code", mystnb=caption)) == 1
    assert not found("x = normalised", "code")


def test_pages_and_what_cells_show_are_text_too():
    assert list(in_text("We `normalise` and normalise.")) == [
        "writes 'normalise'; the book writes 'normalize'"
    ]
    assert len(list(in_output({"text/markdown": "normalised", "text/html": "normalised"}))) == 1
    html = "<p class='normalised'>A normalised <code>normalised</code> <b>one</b></p>"
    assert len(list(in_output({"text/html": html}))) == 1
    assert not list(in_output({"text/plain": "normalised(1)", "image/svg+xml": "normalised"}))
