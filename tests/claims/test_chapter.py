"""The ledger of claims: its fields, its relations, what chapters do with it, what the press makes
of it.

The last but one section proves the point of it all: one measured value or one verdict changed, and
the claim is named.
"""

import copy
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tiny_books import code, make_book, markdown, notebook, press

from bnkit import claims
from bnkit.book import claim_cells, evidence, pages, stale
from bnkit.book.compose import normalise
from bnkit.book.gate import Chapter
from bnkit.book.layout import LEDGER, Book, PressError
from bnkit.claims import ledger, page
from bnkit.claims.ledger import LedgerError
from bnkit.page import parameters, prose
from bnkit.page.notebook import cells_of

ROOT = Path(__file__).parents[2]


def entries() -> list[dict]:
    """A ledger of 75 claims: one that is measured, an analogy, one that cannot be tested, and the
    rest pending."""
    always = {"note": 1, "statement": "The note says so.", "verdict": "agrees", "paper": "Sec. 3"}
    always["kind"] = "report"
    rest = {"chapter": "99-later", "evidence": "pending", "why": "not written yet"}
    found = {name: {"id": name, **always, **rest} for name in ledger.IDS}
    found["C27"] = {
        "id": "C27",
        **always,
        "verdict": "wrong",
        "correction": "It is learned",
        "chapter": "01-good",
        "evidence": "measured",
        "cell": "c27-learned",
        "measured": {"off": "< 1e-9", "kept": "= 2", "moved": "> 10 * off"},
        "finding": "One step is off by {off:.0e} and moves it by {moved:.1%}",
        "test": "tests/test_a.py::test_b",
    }
    here = {"chapter": "01-good", "cell": "c31-name", "why": "a matter of naming"}
    found["C31"] = {**found["C31"], **here, "evidence": "not testable here"}
    found["C09"] = {
        **found["C09"],
        **here,
        "evidence": "analogy",
        "cell": "c09-column",
        "why": "a picture",
    }
    return list(found.values())


def entry(spoilt: list[dict], name: str) -> dict:
    return next(each for each in spoilt if each["id"] == name)


def written(folder: Path, content: list[dict]) -> Path:
    path = folder / "claims.yml"
    path.write_text(yaml.safe_dump(content, allow_unicode=True, sort_keys=False))
    return path


VALUES = {"off": 1e-12, "kept": 2, "moved": 0.125}


# --- the ledger itself ----------------------------------------------------------------------------


def test_the_ledger_of_the_book_is_whole():
    assert tuple(ledger.read()) == ledger.IDS


def test_what_is_read_is_what_is_written(tmp_path):
    claim = ledger.read(written(tmp_path, entries()))["C27"]
    assert (claim.verdict, claim.note, claim.cell) == ("wrong", "1", "c27-learned")
    assert claim.measured["off"].text == "< 1e-9"
    assert claim.badge == "[C27 · wrong](claims.ipynb#cell-id=c27)"
    assert claim.name("off") == "c27_off"


SPOILT = {
    "not a list": (lambda all_: {"C01": {}}, "must be a list of claims, not dict"),
    "no id": (
        lambda all_: [{}, *all_],
        "entry 1: must be a claim with an id from C01 to C75, not None",
    ),
    "a foreign id": (lambda all_: [{**all_[0], "id": "C76"}, *all_], "from C01 to C75, not 'C76'"),
    "an id twice": (lambda all_: [*all_, all_[0]], "C01: is in the ledger twice"),
    "a claim left out": (lambda all_: all_[:-1], "C75: is missing"),
    "an unknown field": (
        lambda all_: entry(all_, "C27").update(proof="x"),
        "C27: has an unknown field 'proof'",
    ),
    "a field left out": (
        lambda all_: entry(all_, "C27").pop("paper"),
        "C27: says nothing under 'paper'",
    ),
    "a field of another type": (
        lambda all_: entry(all_, "C27").update(cell=3),
        "C27: 'cell' must be text, not 3",
    ),
    "another verdict": (
        lambda all_: entry(all_, "C27").update(verdict="false"),
        "C27: 'false' is none of agrees",
    ),
    "other evidence": (
        lambda all_: entry(all_, "C27").update(evidence="seen"),
        "C27: 'seen' is none of measured",
    ),
    "a kind that is none": (
        lambda all_: entry(all_, "C27").update(kind="rumour"),
        "C27: 'rumour' is none of report, assertion",
    ),
    "no kind": (lambda all_: entry(all_, "C27").pop("kind"), "C27: says nothing under 'kind'"),
    "no correction": (
        lambda all_: entry(all_, "C27").pop("correction"),
        "C27: needs a correction unless",
    ),
    "a correction of nothing": (
        lambda all_: entry(all_, "C01").update(correction="x"),
        "C01: needs a correction",
    ),
    "no cell": (
        lambda all_: entry(all_, "C27").pop("cell"),
        "C27: has evidence 'measured' and so needs 'cell'",
    ),
    "no relation": (lambda all_: entry(all_, "C27").update(measured={}), "needs 'measured'"),
    "no test": (
        lambda all_: entry(all_, "C27").pop("test"),
        "C27: has evidence 'measured' and so needs 'test'",
    ),
    "no reason": (lambda all_: entry(all_, "C31").pop("why"), "and so needs 'why'"),
    "values that cannot be": (
        lambda all_: entry(all_, "C31").update(measured={"x": "< 1"}, finding="x", test="y"),
        "C31: has measured values although",
    ),
    "a bad relation": (
        lambda all_: entry(all_, "C27")["measured"].update(off="about 3"),
        "'about 3' is no relation",
    ),
    "a number for a relation": (
        lambda all_: entry(all_, "C27")["measured"].update(off=3),
        "3 is no relation",
    ),
    "a relation to nothing": (
        lambda all_: entry(all_, "C27")["measured"].update(off="< other"),
        "C27: off: its relation names 'other', which is not measured",
    ),
    "a bad key": (
        lambda all_: entry(all_, "C27")["measured"].update({"Off-by": "< 1"}),
        "'Off-by' cannot name",
    ),
    "no dictionary": (
        lambda all_: entry(all_, "C27").update(measured=["off"]),
        "'measured' must name the values",
    ),
    "a finding of nothing": (
        lambda all_: entry(all_, "C27").update(finding="{on:.1f}"),
        "the finding quotes 'on'",
    ),
    "a finding cut short": (
        lambda all_: entry(all_, "C27").update(finding="{off"),
        "the finding cannot be read",
    ),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_ledger_is_refused(name, tmp_path):
    spoil, said = SPOILT[name]
    all_ = entries()
    changed = spoil(all_)
    with pytest.raises(LedgerError, match=re.escape(said)):
        ledger.read(
            written(
                tmp_path,
                changed
                if isinstance(changed, list | dict) and name != "a field left out"
                else all_,
            )
        )


def test_every_problem_is_told_at_once(tmp_path):
    all_ = entries()[1:]
    entry(all_, "C27").update(verdict="false", proof="x")
    entry(all_, "C31").pop("why")
    with pytest.raises(LedgerError) as refusal:
        ledger.read(written(tmp_path, all_))
    assert len(str(refusal.value).splitlines()) == 1 + 3
    (tmp_path / "claims.yml").write_text("- id: [")
    with pytest.raises(LedgerError, match=r"claims.yml cannot be read"):
        ledger.read(tmp_path / "claims.yml")


# --- relations ------------------------------------------------------------------------------------

OTHERS = {"other": 4.0, "more_2": -1.0}


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("< 0.25", [0.2, -7, -math.inf], [0.25, 0.3]),
        ("<= 0.25", [0.25], [0.2500001]),
        ("> -1e-3", [0.0, -9e-4], [-1e-3, -1]),
        (">= 3", [3, 4], [2.999]),
        ("= 31", [31, 31.0], [30, 31.0000001]),
        ("= 1.467 +- 0.03", [1.44, 1.49], [1.43, 1.5]),
        ("between 3 and 5", [3, 4.5, 5], [2.9, 5.1]),
        ("> other", [4.1], [4.0, 3]),
        ("< 0.5 * other", [1.9], [2.0, 3.9]),
        ("between more_2 and 2 * other", [-1, 8], [-1.1, 8.1]),
        ("= other +- 1", [3, 5], [2.9, 5.1]),
    ],
)
def test_a_relation_holds_inside_and_not_outside(text, inside, outside):
    relation = ledger.relation(text)
    assert all(relation.holds(value, OTHERS) for value in inside)
    assert not any(relation.holds(value, OTHERS) for value in [*outside, math.nan])


@given(value=st.floats(-1e6, 1e6), bound=st.floats(-1e6, 1e6), factor=st.floats(-100, 100))
def test_a_relation_is_pythons_comparison(value, bound, factor):
    said = {"other": bound}
    factor = float(f"{factor:.6f}")
    for sign, compare in (
        ("<", float.__lt__),
        ("<=", float.__le__),
        (">", float.__gt__),
        (">=", float.__ge__),
    ):
        assert ledger.relation(f"{sign} {bound!r}").holds(value, {}) == compare(value, bound)
        assert ledger.relation(f"{sign} {factor:.6f} * other").holds(value, said) == compare(
            value, factor * bound
        )


@pytest.mark.parametrize(
    "text",
    ["", "0.25", "<0.25", "< 0,25", "!= 3", "== 3", "< a.b", "< __import__", "< f(x)", "< other * 2", "between 3 and",
     "about 3", "< 1 and > 0", "= 3 +- other", "< 0.25 ", 3, None],
)  # fmt: skip
def test_nothing_else_is_a_relation(text):
    with pytest.raises(LedgerError, match="is no relation; write, for example"):
        ledger.relation(text)


# --- a chapter's part -----------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A checkout with this ledger."""
    (tmp_path / "chapters").mkdir()
    (tmp_path / "data").mkdir()
    written(tmp_path / "data", entries())
    monkeypatch.setenv("BNKIT_ROOT", str(tmp_path))
    return tmp_path


def changed(**given) -> parameters.Parameters:
    cell = "seed: int = 0  # a seed"
    namespace = {
        "seed": 0,
        **given,
        "In": ["", cell, f"{parameters.INJECTED}\nseed = 1" if given else "", "check"],
    }
    return parameters.check(namespace, seed=parameters.integer(0, 9))


def test_what_was_measured_is_stored_and_shown(project, shown):
    claims.of("01-good", changed()).measured("C27", **VALUES)
    assert evidence._stored({"outputs": shown}) == {
        f"c27_{key}": value for key, value in VALUES.items()
    }
    assert shown[-1].data["text/markdown"] == (
        "[C27 · wrong](claims.ipynb#cell-id=c27): `off` = 1e-12 (`< 1e-9`); `kept` = 2 (`= 2`); `moved` "
        "= 12.5\N{NO-BREAK SPACE}% (`> 10 * off`)."
    )


def test_numbers_of_numpy_are_numbers(project, shown):
    claims.of("01-good").measured("C27", off=np.float32(0), kept=np.int64(2), moved=np.array(0.5))
    assert evidence._stored({"outputs": shown}) == {"c27_off": 0.0, "c27_kept": 2, "c27_moved": 0.5}


def test_a_relation_that_does_not_hold_stops_the_chapter_and_names_the_claim(project, shown):
    note = claims.of("01-good", changed())
    said = "C27 (wrong: The note says so.) no longer stands on what was measured: off is 0.5, and must be < 1e-9"
    with pytest.raises(AssertionError, match=re.escape(said)):
        note.measured("C27", **VALUES | {"off": 0.5, "moved": 9})
    assert shown == []


def test_with_other_parameters_it_is_told(project, shown):
    note = claims.of("01-good", changed(seed=1))
    note.measured("C27", **VALUES | {"kept": 3})
    assert (
        "[C27 · wrong](claims.ipynb#cell-id=c27) **does not hold** with seed changed: "
        in shown[-1].data["text/markdown"]
    )


@pytest.mark.parametrize(
    ("claim", "values", "said"),
    [
        ("C01", {}, "C01 is no claim of 01-good; its claims are C09, C27, C31"),
        ("C27", {"off": 1}, "C27: the ledger asks for off, kept, moved; the chapter measured off"),
        ("C31", {"off": 1}, "C31: the ledger asks for no values; the chapter measured off"),
        (
            "C27",
            VALUES | {"off": math.nan},
            "C27: what was measured must be finite numbers, not {'off': nan}",
        ),
        ("C27", VALUES | {"kept": True}, "must be finite numbers, not {'kept': True}"),
        ("C27", VALUES | {"kept": "2"}, "must be finite numbers, not {'kept': '2'}"),
    ],
)
def test_what_the_ledger_does_not_ask_for_is_refused(project, shown, claim, values, said):
    with pytest.raises(LedgerError, match=re.escape(said)):
        claims.of("01-good").measured(claim, **values)


def test_the_closing_table_is_the_ledger_with_the_numbers(project, shown):
    note = claims.of("01-good")
    note.measured("C27", **VALUES)
    with pytest.raises(LedgerError, match="01-good has measured nothing for C09, C31"):
        note.verdicts()
    note.measured("C09")
    note.measured("C31")
    assert (
        shown[-1].data["text/markdown"]
        == "[C31 · agrees](claims.ipynb#cell-id=c31): a matter of naming."
    )
    note.verdicts()
    assert shown[-1].data["text/markdown"].splitlines() == [
        "| claim | the note said | we measured |",
        "| --- | --- | --- |",
        "| [C09 · agrees](claims.ipynb#cell-id=c09) | The note says so. | *analogy:* a picture. |",
        "| [C27 · wrong](claims.ipynb#cell-id=c27) | The note says so. | It is learned. "
        "One step is off by 1e-12 and moves it by 12.5\N{NO-BREAK SPACE}%. |",
        "| [C31 · agrees](claims.ipynb#cell-id=c31) | The note says so. | *not testable here:* a matter "
        "of naming. |",
    ]


def test_a_chapter_without_claims_has_no_part(project):
    with pytest.raises(LedgerError, match="no claim names '02-bad'"):
        claims.of("02-bad")


# --- the press: changed in one place only, it does not pass, and the claim is named ---------------

CHECK = """\
from bnkit import claims
from bnkit.page import parameters

p = parameters.check(globals(), chapter="01-good", seed=parameters.integer(0, 9))
note = claims.of("01-good", p)
p"""


def chapter() -> dict:
    badges = (
        "[C27 · wrong](claims.ipynb#cell-id=c27)",
        "[C31 · agrees](claims.ipynb#cell-id=c31)",
        "[C09 · agrees](claims.ipynb#cell-id=c09)",
    )
    return notebook(
        markdown("title", f"# A chapter\n\n{', '.join(badges)}"),
        code("parameters", "seed: int = 0  # a seed", tags=["parameters"]),
        code("check", CHECK),
        code("c27-learned", f'note.measured("C27", **{VALUES})', tags=["claim:C27"]),
        code("c31-name", 'note.measured("C31")', tags=["claim:C31"]),
        code("c09-column", 'note.measured("C09")', tags=["claim:C09"]),
        code("the-note-said", "note.verdicts()"),
    )


INDEX = (
    "# A book\n\nSee [C27 · wrong](claims.ipynb#cell-id=c27): {glue:text}`/chapters/claims.ipynb::wrong:d` "
    "is.\n"
)


def small_book(root: Path) -> Book:
    """A book of a chapter with three claims, and of the page of all claims."""
    table = json.loads((ROOT / "chapters" / "claims.ipynb").read_text())
    book = make_book(root / "book", {"01-good": chapter(), "claims": table}, index=INDEX)
    written(book.root / "data", entries())
    claim_cells.write(book, evidence.ledger(book))
    (book.root / "tests").mkdir()
    (book.root / "tests" / "test_a.py").write_text("def test_b():\n    assert True\n")
    return book


@pytest.fixture
def small(tmp_path) -> Book:
    return small_book(tmp_path)


def told(book: Book) -> list[str]:
    return list(map(str, evidence.committed(book, evidence.ledger(book))))


def in_ledger(change) -> None:
    def spoil(book: Book) -> None:
        content = entries()
        change(content)
        written(book.root / "data", content)

    return spoil


def in_chapter(old: str, new: str) -> None:
    def spoil(book: Book) -> None:
        path = book.root / "chapters" / "01-good.ipynb"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return spoil


APART = {
    "a verdict changed in the ledger": (
        in_ledger(lambda all_: entry(all_, "C27").update(verdict="imprecise")),
        ["C27 is 'imprecise', but 01-good does not say so", "chapters/01-good: calls C27 'wrong'"],
    ),
    "a verdict changed in a chapter": (
        in_chapter("C27 \\u00b7 wrong", "C27 \\u00b7 agrees"),
        ["C27 is 'wrong', but 01-good does not say so", "chapters/01-good: calls C27 'agrees'"],
    ),
    "a badge that leads elsewhere": (
        in_chapter("claims.ipynb#cell-id=c31", "claims.ipynb#cell-id=c32"),
        ["calls C31 'agrees' and"],
    ),
    "an unknown claim": (
        in_chapter("[C31", "[C99"),
        ["speaks of C99, which is no claim of the ledger"],
    ),
    "an unknown tag": (
        in_chapter("claim:C31", "claim:C99"),
        ["'c31-name': is tagged claim:C99", "not tagged"],
    ),
    "a cell that is gone": (
        in_chapter("c27-learned", "c27-taught"),
        ["C27 has its evidence in the cell"],
    ),
    "a chapter that is not there": (
        in_ledger(lambda all_: entry(all_, "C27").update(chapter="02-bad")),
        ["C27 has its evidence in 02-bad, which is no chapter in _toc.yml"],
    ),
    "a chapter that came": (
        in_ledger(lambda all_: entry(all_, "C01").update(chapter="01-good")),
        ["C01 is pending, but 01-good is in the book by now"],
    ),
    "a link that JupyterLab does not follow": (
        in_chapter("A chapter", "A [C27](claims.ipynb#c27) chapter"),
        [
            "links to claims.ipynb#c27, which JupyterLab does not follow; write claims.ipynb#cell-id=c27"
        ],
    ),
    "a link to no claim": (
        in_chapter("A chapter", "A [C99](claims.ipynb#cell-id=c99) chapter"),
        ["links to claims.ipynb#cell-id=c99, which is no claim of the ledger"],
    ),
    "a link to no cell": (
        in_chapter("A chapter", "A [chapter](01-good.ipynb#cell-id=c27-taught)"),
        ["links to 01-good.ipynb#cell-id=c27-taught; 01-good has no such cell"],
    ),
    "a link to a cell without a place on the site": (
        in_chapter("A chapter", "A [chapter](01-good.ipynb#cell-id=check)"),
        ["links to 01-good.ipynb#cell-id=check, a cell that measures no claim"],
    ),
    "claims that changed in the ledger alone": (
        in_ledger(lambda all_: entry(all_, "C02").update(statement="Another.")),
        [
            "chapters/claims: has other claims in its cells than data/claims.yml; write them: make fix"
        ],
    ),
    "a test that is not there": (
        in_ledger(lambda all_: entry(all_, "C27").update(test="tests/test_a.py::test_c")),
        ["C27 is enforced by tests/test_a.py::test_c, which is no test"],
    ),
    "a file of tests that is not there": (
        in_ledger(lambda all_: entry(all_, "C27").update(test="tests/test_b.py::test_b")),
        ["C27 is enforced by tests/test_b.py::test_b, which is no test"],
    ),
}


def test_ledger_chapters_and_tests_that_fit_pass(small):
    assert told(small) == []


@pytest.mark.parametrize("name", APART)
def test_what_does_not_fit_is_named(name, small):
    spoil, said = APART[name]
    spoil(small)
    problems = told(small)
    assert all(any(each in problem for problem in problems) for each in said), problems


def test_a_page_that_calls_a_claim_otherwise_is_named(small):
    (small.root / "chapters" / "index.md").write_text(INDEX.replace("wrong]", "imprecise]"))
    assert told(small) == [
        "chapters/index: calls C27 'imprecise' and links to claims.ipynb#cell-id=c27; "
        "the ledger says [C27 · wrong](claims.ipynb#cell-id=c27)"
    ]


def test_a_ledger_that_cannot_be_read_stops_the_press(small):
    (small.root / "data" / "claims.yml").write_text("- id: C01\n")
    with pytest.raises(PressError, match=r"claims.yml:\n  C01: says nothing under 'note'"):
        evidence.ledger(small)


def executed(**values) -> Chapter:
    """The chapter as executed with these values, which a notebook that was tampered with may
    store."""
    ran = chapter()
    cell = next(each for each in ran["cells"] if each["id"] == "c27-learned")
    for key, value in (VALUES | values).items():
        about = {
            "scrapbook": {"name": f"c27_{key}", "mime_prefix": "application/papermill.record/"}
        }
        data = {"application/papermill.record/text/plain": repr(value)}
        cell["outputs"].append({"output_type": "display_data", "data": data, "metadata": about})
    return Chapter("chapters/01-good", chapter(), ran)


def test_a_stored_value_that_breaks_its_relation_is_named(small):
    book = evidence.ledger(small)
    assert list(evidence.measured(executed(), book)) == []
    (found,) = evidence.measured(executed(off=1e-3), book)
    assert found == (
        "c27-learned",
        "C27 (wrong: The note says so.) no longer stands on what was measured: off is 0.001, and "
        "must be < 1e-9",
    )


def test_a_value_that_was_not_stored_is_named(small):
    silent = executed()
    for cell in silent.executed["cells"]:
        cell["outputs"] = cell.get("outputs", [])[1:]
    (found,) = evidence.measured(silent, evidence.ledger(small))
    assert found == ("c27-learned", "stores nothing for C27: off")


def test_relations_for_the_chapters_own_parameters_are_asked_of_no_smaller_run(small):
    in_ledger(lambda all_: entry(all_, "C27").update(only_at_defaults=True))(small)
    book = evidence.ledger(small)
    assert list(evidence.measured(executed(off=1e-3), book, at_defaults=False)) == []
    assert len(list(evidence.measured(executed(off=1e-3), book))) == 1


def test_a_chapter_is_made_again_when_its_own_claims_change(small):
    def made_of() -> tuple[str, str]:
        return tuple(
            stale.execution_key(small, f"chapters/{name}") for name in ("01-good", "claims")
        )

    first, table = made_of()
    in_ledger(lambda all_: entry(all_, "C02").update(statement="Another."))(small)
    assert made_of()[0] == first
    assert made_of()[1] != table
    in_ledger(lambda all_: entry(all_, "C27").update(finding="Another."))(small)
    assert made_of()[0] != first


# --- the pages ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The small book, built, warnings as errors."""
    book = small_book(tmp_path_factory.mktemp("claims"))
    done = press(book, "build")
    assert done.returncode == 0, done.stdout + done.stderr
    return book.html / "chapters"


def tags(path: Path) -> list[pages.Tag]:
    return pages._tags(path)


def test_each_claim_has_a_row_and_each_row_leads_to_its_cell(site):
    table, other = tags(site / "claims.html"), tags(site / "01-good.html")
    rows = [tag.attributes["id"] for tag in table if tag.name == "tr" and "id" in tag.attributes]
    assert rows == [f"cell-id={name.lower()}" for name in ledger.IDS]
    known = [tag.attributes["id"] for tag in table if tag.name == "td" and "id" in tag.attributes]
    assert known == [name.lower() for name in ledger.IDS], "links from elsewhere still arrive"
    links = {tag.attributes["href"] for tag in table if "cell-id" in tag.attributes.get("href", "")}
    assert links == {
        f"01-good.html#cell-id={name}" for name in ("c27-learned", "c31-name", "c09-column")
    }
    ids = {tag.attributes.get("id") for tag in other if tag.name == "div"}
    assert {link.partition("#")[2] for link in links} <= ids


def test_a_verdict_beside_a_sentence_leads_to_its_row(site):
    for name in ("01-good", "index"):
        text = (site / f"{name}.html").read_text()
        assert re.search(
            r'<a [^>]*href="claims.html#cell-id=c27"[^>]*>.*?<span class="claim claim-wrong">C27 · wrong</span>',
            text,
        )


def test_the_table_shows_what_chapters_measured(site):
    text = re.sub(r"<[^>]+>", "", (site / "claims.html").read_text())
    assert "One step is off by 1e-12 and moves it by 12.5\N{NO-BREAK SPACE}%." in text
    assert "Held to off &lt; 1e-9, kept = 2, moved &gt; 10 * off by test_a.py::test_b." in text
    assert "pending: not written yet." in text
    assert "Of 75 statements: 74 agrees, 0 imprecise, 1 wrong, 0 not in the paper." in text


def test_the_script_is_on_the_page_of_the_table_alone(site):
    scripts = {
        path.stem: re.findall(r'src="([^"]*claims\.js[^"]*)"', path.read_text())
        for path in site.glob("*.html")
    }
    assert {name: len(found) for name, found in scripts.items() if found} == {"claims": 1}
    assert (site.parent / "_static" / "claims.js").is_file()


def test_what_jupyterlab_alone_shows_is_not_on_the_site(site):
    text = (site / "claims.html").read_text()
    assert "One by one" not in text
    assert text.count("The note says so.") == len(ledger.IDS)


def test_the_cell_of_a_claim_holds_all_that_the_row_does(small):
    (cell,) = (c for c in cells_of(small.file(LEDGER)) if c["id"] == "c27")
    assert "".join(cell["source"]) == (
        "### C27 · wrong\n\n**The note said:** The note says so.\n\n**In fact:** It is learned.\n\n"
        "**We measured:** One step is off by `< 1e-9` and moves it by `> 10 * off`.\n\n"
        "Where: [01-good](01-good.ipynb#cell-id=c27-learned)\n\n<small>Report. Paper: Sec. 3. "
        "Held to `off < 1e-9`, `kept = 2`, `moved > 10 * off` by `test_a.py::test_b`.</small>"
    )


def test_cells_of_claims_are_written_where_they_differ_and_only_there(small):
    book = evidence.ledger(small)
    assert claim_cells.write(small, book) is None
    in_ledger(lambda all_: entry(all_, "C02").update(statement="Another."))(small)
    before = cells_of(small.file(LEDGER))
    done = press(small, "claims")
    assert done.stdout == f"written anew: {small.file(LEDGER)}\n"
    after = cells_of(small.file(LEDGER))
    assert [a["id"] for a, b in zip(after, before, strict=True) if a != b] == ["c02"]
    assert told(small) == []


def test_in_jupyterlab_the_table_says_what_values_must_be(shown, tmp_path):
    page.show(ledger.read(written(tmp_path, entries())).values())
    plain, site = shown[0].data["text/markdown"], shown[0].data[prose.SITE]
    assert "One step is off by `< 1e-9` and moves it by `> 10 * off`." in plain
    assert "{glue" not in plain
    assert "off by {glue:text}`/chapters/01-good.ipynb::c27_off:.0e` and" in site
    ran = {"cells": [{**code("x", ""), "outputs": shown}], "metadata": {}}
    for alone, face in ((False, site), (True, plain)):
        assert normalise(copy.deepcopy(ran), alone)["cells"][0]["outputs"][0]["data"] == {
            "text/markdown": face
        }
