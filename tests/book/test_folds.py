"""Folds: which cells go into one, and what of their outputs stays in sight."""

from docutils import nodes
from docutils.utils import new_document

from bnkit.book import folds


def cell(name: str, *outputs: nodes.Node, tags: str = "evidence") -> nodes.container:
    """A code cell as myst-nb hands it over."""
    source = nodes.container("", nodes.literal_block("", name), nb_element="cell_code_source")
    shown = [nodes.container("", *outputs, nb_element="cell_code_output")] if outputs else []
    about = {"nb_element": "cell_code", "cell_metadata": {"bnkit": {"id": name}}}
    classes = ["cell", *(f"tag_{tag}" for tag in tags.split())]
    return nodes.container("", source, *shown, **about, classes=classes)


def output(kind: str, text: str, *classes: str) -> nodes.container:
    told = nodes.container("", nodes.paragraph("", text), classes=[*classes])
    return nodes.container("", nodes.container("", told, mime_type=kind), nb_element="mime_bundle")


def folded(*elements: nodes.Node) -> nodes.document:
    document = new_document("page")
    document.extend(elements)
    folds.fold_page(document)
    return document


def labels(document: nodes.document) -> list[tuple[str, str]]:
    return [(fold["label"], fold.get("about", "")) for fold in document.findall(folds.fold)]


def test_evidence_in_a_row_is_one_fold_and_text_ends_it():
    text = nodes.paragraph("", "text")
    page = folded(cell("c21-no-bounds"), cell("figure-a"), text, cell("cells"))
    assert labels(page) == [("Evidence", "C21: no bounds · figure a"), ("Evidence", "cells")]
    assert page.astext().split() == ["c21-no-bounds", "figure-a", "text", "cells"]


def test_teaching_cells_stay_as_they_are():
    page = folded(cell("a"), cell("b", tags="teaching"), cell("c"))
    assert labels(page) == [("Evidence", "a"), ("Evidence", "c")]
    assert page[1]["nb_element"] == "cell_code"


def test_solutions_and_the_set_up_stand_alone():
    page = folded(
        cell("parameters", tags="parameters evidence"),
        cell("check", output("text/plain", "card"), tags="evidence hide-output"),
        cell("measure"),
        cell("solution-1", output("text/plain", "found"), tags="hide-cell evidence"),
        cell("solution-2", tags="hide-cell evidence"),
    )
    assert [label for label, _ in labels(page)] == [
        "Parameters and set-up", "Evidence", "Solution", "Solution",
    ]  # fmt: skip
    first, _, third, _ = page.findall(folds.fold)
    assert "card" in first.astext()
    assert "found" in third.astext()


def test_what_is_for_the_records_goes_into_the_fold():
    shown = output("text/markdown", "a finding")
    ledger = output("text/markdown", "C21: share = 0.68", "kept")
    quoted = output("application/papermill.record/text/plain", "0.68")
    page = folded(cell("c21-share", shown, ledger, quoted))
    (fold,) = page.findall(folds.fold)
    assert "share = 0.68" in fold.astext()
    assert "finding" not in fold.astext()
    assert page[0].astext().endswith("a finding")


def test_a_place_that_links_lead_to_goes_along():
    marked = cell("c21-share")
    marked["ids"].append("cell-id=c21-share")
    (fold,) = folded(marked).findall(folds.fold)
    assert fold[0]["ids"] == ["cell-id=c21-share"]


def test_a_section_for_the_curious_folds_below_its_heading():
    heading = nodes.title("", "For the curious: the proof")
    section = nodes.section("", heading, nodes.paragraph("", "by parts"), cell("a"))
    plain = nodes.section("", nodes.title("", "The curious"), nodes.paragraph("", "all"))
    page = folded(section, plain)
    assert ("Read on", "") in labels(page)
    assert [type(child).__name__ for child in page[0]] == ["title", "fold"]
    assert len(page[1]) == 2


def test_a_label_is_text():
    fold = folds.fold("", label="a < b", about="c & d", classes=["evidence"])

    class Translator:
        body = []  # noqa: RUF012

    folds._open(Translator, fold)
    assert "a &lt; b" in Translator.body[0]
    assert "c &amp; d" in Translator.body[0]
