"""Cells as the page runs them, in this very Python: what they show, and how they fail."""

import subprocess
import sys

import pytest

from bnkit.page import live


@pytest.fixture
def run():
    """Runs cells in one session; gives what the last one sent, and whether it came to its end."""
    sent = []
    session = live.Session(lambda kind, text: sent.append((kind, text)))

    def go(source, name="cell 1"):
        sent.clear()
        return session.run(source, name), list(sent)

    return go


def test_the_last_line_is_shown_as_python_writes_it(run):
    assert run("x = [1, 2]\nx") == (True, [("value", "[1, 2]\n")])
    assert run("x = 3") == (True, [])
    assert run("None") == (True, [])
    assert run("x;") == (True, [])
    assert run("") == (True, [])
    assert run("# nothing but a comment") == (True, [])


def test_names_live_from_cell_to_cell(run):
    run("def double(x):\n    return 2 * x\nscale = 3")
    assert run("double(scale)") == (True, [("value", "6\n")])
    assert run("_ + 1") == (True, [("value", "7\n")])


def test_prints_come_in_order_with_errors_among_them(run):
    _, sent = run("import sys\nprint('a')\nprint('b', file=sys.stderr)\nprint('c')\n'd'")
    assert sent == [("out", "a\n"), ("err", "b\n"), ("out", "c\n"), ("value", "'d'\n")]


def test_a_traceback_is_pythons_own_and_shows_the_cells_lines(run):
    source = "def f(x):\n    return 1 / x\n\nf(0)\n"
    ended, [(kind, text)] = run(source, "cell 3")
    assert (ended, kind) == (False, "error")
    plain = subprocess.run([sys.executable, "-"], input=source, capture_output=True, text=True)
    last = plain.stderr.splitlines()[-1]
    assert text.splitlines()[0] == "Traceback (most recent call last):"
    assert text.splitlines()[-1] == last == "ZeroDivisionError: division by zero"
    assert 'File "<cell 3>", line 4, in <module>' in text
    assert "return 1 / x" in text
    assert "live.py" not in text


def test_an_error_in_an_earlier_cells_function_shows_that_cell(run):
    run("def f():\n    raise KeyError('lost')", "cell 1")
    _, [(_, text)] = run("f()", "cell 2")
    assert text.index('"<cell 2>", line 1') < text.index('"<cell 1>", line 2')
    assert "raise KeyError('lost')" in text


def test_a_syntax_error_points_at_its_place_and_runs_nothing(run):
    ended, [(kind, text)] = run("print('never')\nx = = 2")
    assert (ended, kind) == (False, "error")
    assert text.startswith('  File "<cell 1>", line 2\n')
    assert text.rstrip().endswith("SyntaxError: invalid syntax")
    assert "    ^" in text


@pytest.mark.parametrize("source", ["raise SystemExit(3)", "exit = 1; raise KeyboardInterrupt"])
def test_a_cell_that_quits_ends_alone(run, source):
    ended, sent = run(source)
    assert not ended
    assert sent[-1][0] == "error"
    assert run("1 + 1") == (True, [("value", "2\n")])


def test_what_is_not_there_is_said_with_what_is(run):
    ended, sent = run("import bnkit.no_such_module")
    assert not ended
    assert [kind for kind, _ in sent] == ["error", "note"]
    for word in ("bnkit.no_such_module is not in this page", "NumPy", "reference", "make lab"):
        assert word in sent[1][1]
    assert "Run all above" in dict(run("of_another_cell + 1")[1])["note"]
    for other in ("int('x')", "def f():\n    x += 1\nf()"):
        assert [kind for kind, _ in run(other)[1]] == ["error"]  # no advice on other errors


def test_ten_megabytes_are_cut_and_counted(run):
    ended, sent = run("for _ in range(10_000):\n    print('x' * 999)\nprint('end')")
    assert ended
    printed = "".join(text for kind, text in sent if kind == "out")
    assert len(printed) == live.LIMIT
    assert sent[-1] == (
        "note",
        "The cell printed 10,000,004 characters; the first 100,000 are shown.",
    )
    assert len(sent) < 2 * live.LIMIT / live.PIECE
    assert run("print('x')") == (True, [("out", "x\n")])  # the next cell has room again


def test_a_figure_is_handed_over_and_closed(run):
    source = (
        "import matplotlib\nmatplotlib.use('agg')\nfrom matplotlib import pyplot\npyplot.plot([1])"
    )
    ended, sent = run(source)
    assert ended
    assert sent[-1][0] == "figure"
    assert "<svg" in sent[-1][1]
    assert run("1")[1] == [("value", "1\n")]


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("import numpy as np, os", ["numpy"]),
        ("if True:\n    from matplotlib.pyplot import plot", ["matplotlib"]),
        ("import torch", []),
        ("x = = 2", []),
        ("s = 'import matplotlib'", []),
    ],
)
def test_what_a_cell_needs_is_read_from_it(source, wanted):
    assert live.needs(source) == wanted
