"""Results are typed values: read back as they were handed over, or refused in a sentence."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bnkit import page
from bnkit.page import quantities as results
from bnkit.page.quantities import CURVE, RESULT, ResultError, as_curve, as_result

NUMBERS = st.none() | st.floats(-results.LARGEST, results.LARGEST) | st.integers(-(10**9), 10**9)


@pytest.fixture
def shown(monkeypatch):
    """What cells show, and a kernel that has handed over nothing yet."""
    outputs = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: outputs.append(data))
    monkeypatch.setattr(results, "_handed", {})
    return outputs


def executed(*outputs: dict, cell: str = "results") -> list[dict]:
    """Executed cells that showed these."""
    shown = [{"output_type": "display_data", "data": data, "metadata": {}} for data in outputs]
    return [{"cell_type": "code", "id": cell, "source": "", "outputs": shown}]


def test_a_result_over_seeds_has_mean_spread_and_seeds(shown):
    page.result("final_with_bn", np.array([97.0, 98.0, 99.0]), "%", "test accuracy")
    (read,) = results.found_in(executed(*shown)).values()
    assert (read.name, read.unit, read.what) == ("final_with_bn", "%", "test accuracy")
    assert (read.mean, read.spread, read.values) == (98.0, 1.0, (97.0, 98.0, 99.0))
    assert str(read) == "98.0 ± 1.0"


def test_a_single_number_is_not_one_seed():
    assert as_result("rank", np.int64(59)).spread == 0.0
    assert as_result("rank", [59]).spread is None


def test_what_was_never_reached_is_missing_and_not_a_number():
    some, none = as_result("steps", [100, None, 300]), as_result("steps", [None, None])
    assert (some.mean, len(some.values), str(some)) == (200, 3, "200 ± 141 (2 of 3)")
    assert (none.mean, none.spread, str(none)) == (None, None, "missing")
    assert as_result("steps", None).mean is None


@given(st.lists(NUMBERS, min_size=1, max_size=6) | NUMBERS)
def test_a_result_is_read_back_as_it_was_handed_over(value):
    made = as_result("name", value, "steps", "what")
    assert results.read_result(made.as_dict()) == made


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("Final accuracy", 1.0), "cannot name a result"),
        (("", 1.0), "cannot name a result"),
        ((3, 1.0), "cannot name a result"),
        (("a", "97"), "'97' is no number"),
        (("a", True), "True is no number"),
        (("a", [1.0, "x"]), "'x' is no number"),
        (("a", [[1.0], [2.0]]), "[1.0] is no number"),
        (("a", []), "has no value; None says that one is missing"),
        (("a", math.nan), "is not finite; None says that a value is missing"),
        (("a", [1.0, math.inf]), "is not finite"),
        (("a", 10**400), "is too large; from -1e+300"),
        (("a", -(10**400)), "a: -1000"),
        (("a", [[10**5000]]), "too long to write (list) is no number"),
        (("a", torch.empty(2, device="meta")), "is no number"),
        (("a", torch.Tensor), "is no number"),
        (("a", bytearray(b"ab")), "is no number"),
        (("a", [9e307, 9e307]), "9e+307 is too large; from -1e+300 to 1e+300 is allowed"),
        (("a", {"mean": 1}), "is no number"),
        (("a", 1.0, None), "unit and description are text"),
    ],
)
def test_what_is_no_result_is_refused_in_a_sentence(arguments, said):
    with pytest.raises(ResultError) as refusal:
        as_result(*arguments)
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_name_stands_for_one_quantity(shown):
    page.result("a", 1.0)
    with pytest.raises(ResultError, match="a is handed over twice"):
        page.result("a", 2.0)
    twice = executed(*shown, cell="one") + executed(*shown, cell="two")
    with pytest.raises(ResultError, match="cell 'two' hands over a, which stands for another"):
        results.found_in(twice)


@pytest.mark.parametrize("data", [None, [], {}, {"name": "a"}, "text"])
def test_what_lies_in_a_notebook_and_is_no_result_is_refused(data):
    with pytest.raises(ResultError):
        results.found_in(executed({RESULT: data}))
    with pytest.raises(ResultError):
        results.curves_in(executed({CURVE: data}))


def test_a_curve_has_a_row_for_each_seed(shown):
    page.curve("accuracy", [0, 100], np.array([[0.1, 0.9], [0.2, 0.8]]), "%")
    (read,) = results.curves_in(executed(*shown))
    assert (read.x, read.values, read.along) == ((0, 100), ((0.1, 0.9), (0.2, 0.8)), "steps")
    assert as_curve("a", [0, 1], [5, 6]).values == ((5, 6),)


@pytest.mark.parametrize(
    ("x", "values", "said"),
    [
        ([0, 0], [1, 2], "the places along a curve rise"),
        ([0, 1], [1, 2, 3], "has 2 places, but rows of 3 values"),
        ([0, 1], [[1, 2], [1]], "rows of 2, 1 values"),
        ([0, 1], [1, math.nan], "not finite"),
        ([0, 1], [[1, 2], 3], "3 is no list of values"),
        ([0, 1], [[1, 2], None], "None is no list of values"),
        ([0, 1], [[1, 2], {1, 2}], "is no list of values"),
        ([], [], "lists of places and of values"),
        ([], [[]], "lists of places and of values"),
        (3, 4, "lists of places and of values"),
    ],
)
def test_what_is_no_curve_is_refused(x, values, said):
    with pytest.raises(ResultError, match=said):
        as_curve("a", x, values)


@pytest.mark.parametrize(
    ("mean", "spread", "said"),
    [
        (97.416, 0.1414, "97.42 ± 0.14"),
        (-0.5, None, "−0.5"),
        (12345.678, None, "12,346"),
        (0.0, None, "0"),
        (1e-12, None, "1.000e−12"),
        (150.0, 70.71, "150 ± 71"),
        (1.09, 0.0, "1.09 ± 0"),
        (None, None, "missing"),
    ],
)
def test_a_mean_has_as_many_digits_as_its_spread_allows(mean, spread, said):
    assert results.words(mean, spread) == said


def test_the_table_shows_what_was_handed_over(shown, monkeypatch):
    tables = []
    monkeypatch.setattr("bnkit.page.prose.report", tables.append)
    page.result("a", [1.0, 2.0], "%", "an accuracy")
    page.results()
    assert "| `a` | an accuracy | 1.50 ± 0.71 | % | 2 |" in tables[0]
