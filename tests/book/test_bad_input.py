"""What a user can get wrong at the doors of the press: one sentence each, and no traceback."""

import json
import os
from pathlib import Path

import pytest
from filelock import FileLock
from tiny_books import good, make_book

from bnkit.book import __main__ as press
from bnkit.book import chapter, compose, typed_numbers
from bnkit.book.layout import Book, PressError

CHAPTER = "chapters/01-good.ipynb"
NO_TEXT = b"\xff\xfe\xfa"
FILES = {  # file, what is in it, what is said
    "merge markers": (CHAPTER, b"<<<<<<< HEAD\n{}\n=======\n", "01-good.ipynb is not a notebook"),
    "an empty file": (CHAPTER, b"", "01-good.ipynb is not a notebook"),
    "a list": (CHAPTER, b"[]", "it has no list of cells"),
    "brackets without end": (CHAPTER, b"[" * 100_000, "01-good.ipynb is not a notebook"),
    "no text": (CHAPTER, NO_TEXT, "01-good.ipynb is not a notebook"),
    "cells that are none": (CHAPTER, b'{"cells": [1]}', "cell 1 lacks its type"),
    "a cell without text": (
        CHAPTER, b'{"cells": [{"cell_type": "code", "metadata": {}}]}', "cell 1 lacks its type"
    ),
    "reading order, no text": ("_toc.yml", NO_TEXT, "_toc.yml cannot be read"),
    "reading order, a list of numbers": ("_toc.yml", b"root: 1\n", "files that are text"),
    "reading order, empty": ("_toc.yml", b"", "_toc.yml lists no pages"),
    "reading order, without end": ("_toc.yml", b"&a [*a]", "_toc.yml cannot be read"),
    "settings, a list": ("_config.yml", b"- 1\n", "must be a mapping of settings"),
    "settings, no text": ("_config.yml", NO_TEXT, "_config.yml cannot be read"),
    "settings, a word": ("_config.yml", b"sphinx: 1\n", "its `sphinx` must be a mapping"),
    "settings, a theme that is none": (
        "_config.yml", b"sphinx: {config: {html_theme_options: [1]}}\n", "html_theme_options"
    ),
    "settings, a repository that is none": (
        "_config.yml", b"repository: x\nsphinx: {config: {}}\n", "its `repository` must be"
    ),
    "settings, extensions that are none": (
        "_config.yml", b"sphinx: {config: {}, extra_extensions: x}\n", "must be a list"
    ),
    "claims, no text": ("data/claims.yml", NO_TEXT, "claims.yml"),
    "a page, no text": ("chapters/index.md", NO_TEXT, "index.md cannot be read"),
    "a page beside the book, no text": ("README.md", NO_TEXT, "README.md cannot be read"),
    "the lock, no text": ("requirements.lock", NO_TEXT, "requirements.lock cannot be read"),
}  # fmt: skip


@pytest.fixture
def book(tmp_path, monkeypatch) -> Book:
    made = make_book(tmp_path / "book", {"01-good": good()})
    monkeypatch.setenv("BNKIT_ROOT", str(made.root))
    return made


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_cannot_be_read_is_named(book, case, capsys):
    file, content, said = FILES[case]
    (book.root / file).parent.mkdir(parents=True, exist_ok=True)
    (book.root / file).write_bytes(content)
    if file == "_config.yml":  # read when the site is composed
        with pytest.raises(PressError, match=said):
            compose.settings(book)
        return
    assert press.main(["check"]) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (NO_TEXT, "facts.yml cannot be read"),
        (b"a: [", "facts.yml cannot be read"),
        (b"5", "facts.yml must be a list"),
        (b"- 5", "facts.yml, entry 1: must have"),
    ],
)
def test_facts_that_cannot_be_read_are_named(book, content, said):
    file = book.root / "data" / "paper" / "facts.yml"
    file.parent.mkdir()
    file.write_bytes(content)
    with pytest.raises(PressError, match=said):
        list(typed_numbers.check(book))


def test_what_is_no_notebook_is_not_stripped(book, capsys):
    odd = b'{"cells": [{"cell_type": "code", "source": 1, "metadata": {}}]}'
    (book.root / CHAPTER).write_bytes(odd)
    assert press.main(["strip"]) == 1
    assert "01-good.ipynb is not a notebook: cell 1 lacks its type" in capsys.readouterr().err
    assert (book.root / CHAPTER).read_bytes() == odd


@pytest.mark.parametrize("seconds", ["abc", "-1", "0", "1.5", "٣", "9" * 5000])
def test_a_senseless_limit_is_named(book, seconds, capsys, monkeypatch):
    monkeypatch.setenv("BNKIT_CELL_SECONDS", seconds)
    assert press.main(["build"]) == 1
    assert "BNKIT_CELL_SECONDS is" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["99999", "0", "-1", "http", "9" * 5000])
def test_a_senseless_port_is_named(book, port, capsys):
    assert press.main(["serve", "--port=" + port]) == 1
    assert "it must be a number from 1 to 65535" in capsys.readouterr().err


def test_there_must_be_a_book_to_serve(book, capsys):
    assert press.main(["serve"]) == 1
    assert "build it: make book" in capsys.readouterr().err


def test_a_mistyped_chapter_has_a_suggestion(book, capsys):
    assert press.main(["rerun", "01-goood"]) == 1
    assert "did you mean 01-good?" in capsys.readouterr().err


def test_what_killed_builds_left_is_removed_and_what_lives_is_not(tmp_path, monkeypatch):
    dead, alive, young, other = (
        tmp_path / f"{chapter.SCRATCH}{name}" for name in ("dead", "alive", "young", "other")
    )
    for folder in (dead, alive, young, other):
        folder.mkdir()
        (folder / "file").write_text("")
        if folder != other:
            (folder / chapter.LOCK).write_text("")
    now = max(folder.stat().st_mtime for folder in (dead, alive, young))
    monkeypatch.setattr(chapter.time, "time", lambda: now + 61)
    os.utime(young, (now + 30, now + 30))
    with FileLock(alive / chapter.LOCK):
        chapter.sweep_up(Path(tmp_path))
    assert sorted(tmp_path.iterdir()) == sorted([alive, young, other])


def test_odd_notebooks_are_refused_and_good_ones_are_not():
    from bnkit.page.notebook import NotebookError, cells_of

    assert len(cells_of(good())) == len(good()["cells"])
    for content in ({}, {"cells": None}, {"cells": [{}]}, json.loads('{"cells": {}}')):
        with pytest.raises(NotebookError):
            cells_of(content)
