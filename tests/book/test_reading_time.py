"""How long a page takes: what it says itself, else what its words and figures take."""

from types import SimpleNamespace

import pytest
from docutils import nodes
from docutils.utils import new_document
from sphinx.errors import SphinxError

from bnkit.book import folds, reading_time


def page(*elements: nodes.Node) -> nodes.document:
    document = new_document("page")
    document.extend(elements)
    return document


def words(count: int) -> nodes.paragraph:
    return nodes.paragraph("", "word " * count)


def test_a_page_that_says_how_long_it_takes_is_taken_at_its_word():
    said = nodes.paragraph("", "", nodes.emphasis("", "Reading time: about\n12 minutes, and more."))
    assert reading_time.count(page(said, words(180 * 30))) == 12


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ([words(180 * 3)], 3),
        ([words(180 * 3), nodes.figure(), nodes.figure()], 4),
        ([words(10)], 1),
        ([words(180), nodes.literal_block("", "x " * 900)], 1),
        ([words(180), folds.fold("", words(900), label="Read on")], 1),
    ],
)
def test_of_any_other_page_a_reader_s_words_are_counted(elements, expected):
    assert reading_time.count(page(*elements)) == expected


@pytest.mark.parametrize(("told", "right"), [(8, True), (12, True), (5, False), (20, False)])
def test_a_page_is_held_to_what_it_says(told, right):
    app = SimpleNamespace(env=SimpleNamespace(docname="chapters/a"))
    says = page(words(180 * 10 - 5), nodes.paragraph("", f"Reading time: about {told} minutes"))
    if right:
        reading_time._hold(app, says)
    else:
        with pytest.raises(SphinxError, match=f"chapters/a says that it takes {told} minutes"):
            reading_time._hold(app, says)


def test_the_role_becomes_the_number_and_a_page_that_is_not_there_is_named():
    env = SimpleNamespace(found_docs={"chapters/a"}, get_doctree=lambda _: page(words(180 * 7)))
    app = SimpleNamespace(env=env)
    told = page(nodes.paragraph("", "about ", reading_time.minutes("", page="chapters/a")))
    reading_time._fill(app, told, "chapters/index")
    assert told.astext() == "about 7"
    wrong = page(nodes.paragraph("", "", reading_time.minutes("", page="chapters/b")))
    with pytest.raises(SphinxError, match="chapters/b"):
        reading_time._fill(app, wrong, "chapters/index")
