"""Assertions say what they found, and say it only where they fail."""

import ast
from types import SimpleNamespace

import numpy as np
import pytest

from bnkit.page import assertions


def run(source: str, **names) -> str:
    """The message of the assertion that fails in `source`; empty if none does."""
    tree = ast.fix_missing_locations(assertions.Telling().visit(ast.parse(source)))
    names |= {"np": np, assertions.CALLED: assertions.found}
    try:
        exec(compile(tree, "cell", "exec"), names)
    except AssertionError as error:
        return str(error)
    return ""


FAILING = {
    "assert a < b < 3": ("a < b < 3", "a = 2.5", "b = 1"),
    "assert min(a, b) > 2 > 0": ("min(a, b) = 1",),
    "assert not a > b": ("a = 2.5", "b = 1"),
    "assert a < 3 and b > 2": ("a = 2.5", "b = 1"),
    "assert all(v > 2 for v in values)": ("[v for v in values] = [1.5, 3]",),
    "assert all(v > w for v, w in zip(values, more))": ("= [[1.5, 2], [3, 1]]",),
    "assert (array > 1).all()": ("array = [0. 2.]",),
    "assert np.allclose(array, 1)": ("array = [0. 2.]",),
    "assert np.array_equal(array, more)": ("array = [0. 2.]", "more = [2, 1]"),
    "assert empty": ("empty = []",),
}


@pytest.mark.parametrize("source", FAILING)
def test_what_was_found(source):
    message = run(
        source, a=2.5, b=1, values=[1.5, 3], more=[2, 1], array=np.array([0.0, 2]), empty=[]
    )
    assert message.startswith(f"this does not hold: {source.removeprefix('assert ')}")
    for part in FAILING[source]:
        assert part in message


def test_an_assertion_that_holds_costs_nothing():
    """What it compares is computed once."""
    calls = []
    assert run("assert count() == 1", count=lambda: calls.append(0) or len(calls)) == ""
    assert calls == [0]


def test_a_message_of_its_own_stays():
    assert run("assert a, 'mine'", a=0) == "mine"


def test_a_value_that_cannot_be_had_again_hides_nothing():
    once = iter([5])
    message = run("assert next(once) < 3", once=once)
    assert "next(once) < 3" in message
    assert "cannot be had again (StopIteration)" in message


def test_inside_functions_and_loops():
    assert "each = 3" in run("def f():\n    for each in (1, 3):\n        assert each < 2\nf()")


def test_long_values_are_cut():
    assert len(run("assert a is None", a=np.arange(10_000) ** 5)) < 3 * assertions.LONGEST


def test_a_shell_is_told_once():
    shell = SimpleNamespace(ast_transformers=[], user_ns={})
    for _ in range(2):
        assertions.tell(shell)
    assert len(shell.ast_transformers) == 1
    assert shell.user_ns[assertions.CALLED] is assertions.found
    assertions.tell(None)
