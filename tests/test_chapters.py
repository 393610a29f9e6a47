"""Every chapter is clean as committed, and runs with its small settings and with others, from any folder."""

import json

import pytest

from bnkit import parameters, paths
from bnkit.book import gate, pins, structure
from bnkit.book.chapter import workshop
from bnkit.book.layout import Book

BOOK = Book(paths.root())
CHAPTERS = [document for document in BOOK.notebooks() if BOOK.file(document).suffix == ".ipynb"]


def metadata(document: str) -> dict:
    return json.loads(BOOK.file(document).read_bytes())["metadata"].get("bnkit", {})


def test_the_committed_notebooks_and_the_reading_order_are_in_form():
    assert [str(finding) for finding in structure.check(BOOK)] == []


def test_the_lock_is_plain_and_is_what_is_installed():
    assert list(pins.check(BOOK.lock)) == []


@pytest.mark.parametrize("document", CHAPTERS)
def test_a_chapter_runs_with_its_small_settings(document, tmp_path, monkeypatch):
    """In a kernel, from a folder that is none of ours, and what it puts out passes the gate."""
    monkeypatch.chdir(tmp_path)
    small = metadata(document)["small"]
    executed = tmp_path / "out.ipynb"
    with workshop(BOOK) as shop:
        problem = shop.run(BOOK.file(document), executed, small, seconds=120, live=False)
    assert problem is None, problem
    chapter = gate.read(document, BOOK.file(document), executed)
    found = [str(finding) for finding in gate.check([chapter], {})]
    assert [each for each in found if "other parameters" not in each and "ran as number" not in each] == []


@pytest.mark.parametrize("document", CHAPTERS)
def test_a_chapter_refuses_what_it_does_not_know(document):
    with pytest.raises(parameters.ParameterError, match="stepz: unknown"):
        parameters.dry_run(BOOK.file(document), {"stepz": 3})
