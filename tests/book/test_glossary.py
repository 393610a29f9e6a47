"""Words of the glossary: the first use of each on a page leads to its entry, and no other does."""

from types import SimpleNamespace

import pytest
from docutils import nodes
from docutils.utils import new_document

from bnkit.book import folds, glossary
from bnkit.book.layout import Book
from bnkit.paths import root


def term(*words: str, told: str) -> nodes.definition_list_item:
    terms = [nodes.term("", word, ids=[f"term-{words[0]}"]) for word in words]
    return nodes.definition_list_item("", *terms, nodes.definition("", nodes.paragraph("", told)))


def app() -> SimpleNamespace:
    page = new_document("glossary")
    page += nodes.definition_list(
        "",
        term("variance", told="A mean of squares."),
        term("biased variance", told="With 1/m."),
        term("ε", "epsilon", told="A small one."),
    )
    env = SimpleNamespace(found_docs={glossary.PAGE}, get_doctree=lambda _: page)
    builder = SimpleNamespace(get_relative_uri=lambda _, page: f"{page}.html")
    return SimpleNamespace(env=env, builder=builder)


def linked(*elements: nodes.Element, page: str = "chapters/04-a") -> list[tuple[str, str]]:
    document = new_document("page")
    document.extend(elements)
    before = document.astext()
    glossary.link(app(), document, page)
    assert document.astext() == before, "not a letter changes"
    return [(link.astext(), link["refuri"]) for link in document.findall(nodes.reference)]


def test_the_first_use_of_each_word_leads_to_its_entry():
    one = nodes.paragraph("", "Variances, the biased variance, and the variance; ε.")
    two = nodes.paragraph("", "A variance, and Epsilon.")
    entry = "chapters/glossary.html#term-"
    assert linked(one, two) == [
        ("Variances", f"{entry}variance"),
        ("biased variance", f"{entry}biased variance"),
        ("ε", f"{entry}ε"),  # and epsilon is the same
    ]


@pytest.mark.parametrize(
    "element",
    [
        nodes.title("", "variance"),
        nodes.literal_block("", "variance"),
        nodes.paragraph("", "", nodes.literal("", "variance")),
        nodes.paragraph("", "", nodes.reference("", "variance", refuri="elsewhere")),
        nodes.paragraph("", "covariance, variance_of, variance-free"),
        folds.fold("", nodes.paragraph("", "variance"), label="Evidence"),
    ],
)
def test_code_headings_links_and_parts_of_words_lead_nowhere(element):
    assert not [address for _, address in linked(element) if "glossary" in address]


@pytest.mark.parametrize("page", ["chapters/api/layers", "chapters/claims", glossary.PAGE])
def test_reference_pages_are_left_alone(page):
    assert linked(nodes.paragraph("", "variance"), page=page) == []


def test_the_book_has_the_page():
    assert glossary.PAGE in Book(root()).documents()
