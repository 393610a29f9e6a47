"""Whatever is read raises its documented exceptions and no others: odd values, broken bytes.

A fixed budget of inputs, the same in every run: values and texts that somebody may pass, and files
with bytes changed, cut or put in anywhere.
"""

import contextlib
import io
import json
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnkit.page import parameters
from bnkit.page.notebook import NotebookError, cells_of
from bnkit.page.parameters import ParameterError
from bnkit.runs import checkpoints, records
from bnkit.runs.records import Record, RecordError

RULES = {
    "steps": parameters.integer(1, 200_000),
    "rate": parameters.number(0, 10, low_open=True),
    "name": parameters.choice("digits", "mnist"),
    "quick": parameters.flag(),
}
CELL = "steps: int = 5\nrate: float = 0.1\nname: str = 'digits'\nquick: bool = False"
HUGE = [10**400, -(10**400), 10**5000, float("nan"), float("inf"), 2**63, -0.0, None]
plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
nested = st.lists(plain, max_size=2) | st.dictionaries(st.text(), plain, max_size=2)
values = st.sampled_from(HUGE) | plain | nested
# what may stand in a cell: Python, and what only looks like it
lines = st.sampled_from([
    "import math", "steps = 7", "rate: float = 1e400", "steps: int = {[]: 1}", "x, y = 1, 2", "#",
    "# Parameters", "steps: int = " + "(" * 300, "steps: int = " + "9" * 5000, "\0", "if 1:", "'''",
    "steps += 1", "name: str = 'a' 'b'", "rate: float = -+1", "del steps", "steps: int", "\\",
    "steps.x: int = 1", "  steps = 1", "for steps in []: pass", "quick: bool = not 1",
    "steps: int = " + "-" * 3000 + "1",
])  # fmt: skip
cells = st.lists(lines | st.text(max_size=8), max_size=5).map("\n".join)


@settings(max_examples=200)
@given(st.fixed_dictionaries(dict.fromkeys(RULES, values)))
def test_values_of_any_kind_are_taken_or_refused(passed):
    try:
        checked = parameters.check(passed, **RULES)
    except ParameterError:
        return
    assert 1 <= checked.steps <= 200_000
    assert 0 < checked.rate <= 10


@settings(max_examples=150)
@given(st.lists(cells, max_size=4))
def test_cells_of_any_text_are_read_or_refused(sources):
    namespace = {"steps": 5, "rate": 0.1, "name": "digits", "quick": False}
    namespace["In"] = ["", CELL, *sources, "parameters.check(...)"]
    with contextlib.suppress(ParameterError):
        parameters.check(namespace, **RULES)
    for source in sources:
        with contextlib.suppress(ParameterError):
            parameters.read_cell(source)


def mutated(whole: bytes):
    """`whole` with up to three places changed, cut out or filled."""
    odd = [b"[" * 20_000, b"1e999", b"null", b"{}", b"-1", b'"']
    places, lengths = st.integers(0, len(whole)), st.sampled_from([0, 1, 2, 8, len(whole)])

    def spoil(edits) -> bytes:
        content = whole
        for start, length, new in edits:
            content = content[:start] + new + content[start + length :]
        return content

    edit = st.tuples(places, lengths, st.binary(max_size=6) | st.sampled_from(odd))
    return st.lists(edit, min_size=1, max_size=3).map(spoil)


CURVES = {"loss": {"steps": [1, 2], "values": [[0.5, 1.0], [0.25, 2.0]], "what": "made up"}}
RECORD = Record("mnist", "made-up", 0, {"steps": 2}, {"versions": {}, "platform": {}}, CURVES)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """The file of a record, and what is in it as long as nobody spoils it."""
    path = records.save(RECORD, tmp_path_factory.mktemp("runs"))
    return path, path.read_bytes()


def signed(content: bytes) -> bytes:
    """With a digest that is right, where it is an object: the damage is left to other checks."""
    try:
        thing = json.loads(content)
        thing.pop("sha256", None)
        return json.dumps(thing | {"sha256": records._digest(thing)}).encode()
    except (ValueError, TypeError, AttributeError, RecursionError):
        return content


@settings(max_examples=200)
@given(st.data())
def test_broken_records_are_refused(stored, data):
    path, whole = stored
    content = data.draw(mutated(whole))
    for text in (content, signed(content)):
        path.write_bytes(text)
        try:
            loaded = records.load("mnist", "made-up", 0, path.parents[2])
        except RecordError:
            continue
        records.platform_key(loaded.manifest)
        assert all(len(loaded.curve(name)[0]) for name in loaded.curves)


ODD = [  # things in the place of what a record has, with a right digest
    {"curves": {"loss": None}}, {"curves": {"loss": {"steps": None, "values": None}}},
    {"curves": {"loss": {"steps": [10**30], "values": [1]}}}, {"manifest": {"platform": [1]}},
    {"curves": {"loss": {"steps": [1], "values": [{}]}}}, {"manifest": {"versions": "2"}},
    {"curves": {"loss": {"steps": [1], "values": [10**400]}}}, {"manifest": {"arithmetic": [1]}},
    {"curves": {"loss": {"steps": [[1]], "values": [1]}}}, {"manifest": {"checksums": 3}},
    {"curves": {"loss": {"steps": [1], "values": ["x"]}}}, {"seed": True},
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD, ids=str)
def test_odd_fields_with_a_right_digest_are_refused(stored, odd):
    path, whole = stored
    path.write_bytes(signed(json.dumps(json.loads(whole) | odd).encode()))
    with pytest.raises(RecordError, match="is damaged"):
        records.load("mnist", "made-up", 0, path.parents[2])


def archive() -> bytes:
    buffer = io.BytesIO()
    facts = np.frombuffer(b'{"recipe": "x"}', dtype=np.uint8)
    np.savez(buffer, **{"facts.json": facts, "weights": np.arange(4.0)})
    return buffer.getvalue()


@settings(max_examples=200)
@given(mutated(archive()))
def test_broken_checkpoints_are_none(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "checkpoint.npz"
    path.write_bytes(content)
    found = checkpoints.load(path)
    assert found is None or isinstance(found[1], dict)


@pytest.mark.parametrize(("flag", "place"), [(1, 6), (99, 8)], ids=["locked", "packed otherwise"])
def test_an_archive_of_another_kind_is_none(tmp_path, flag, place):
    path = tmp_path / "checkpoint.npz"
    content = bytearray(archive())
    content[content.index(b"PK\x01\x02") + place + 2] = content[place] = flag
    path.write_bytes(content)
    with pytest.raises((RuntimeError, NotImplementedError)):
        zipfile.ZipFile(path).read("facts.json.npy")
    assert checkpoints.load(path) is None


NOTEBOOK = {"cells": [{"cell_type": "code", "source": ["1"], "metadata": {}}]}


@settings(max_examples=200)
@given(mutated(json.dumps(NOTEBOOK).encode()))
def test_broken_notebooks_are_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "notebook.ipynb"
    path.write_bytes(content)
    with contextlib.suppress(NotebookError):
        assert isinstance(cells_of(path), list)
