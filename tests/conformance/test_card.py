"""The card as a table, as data and as a test."""

import math

import pytest

from bnkit.conformance import from_json
from bnkit.conformance.card import Card, number
from bnkit.conformance.findings import Finding

CARD = Card(
    "a layer",
    {"epsilon": 1e-3, "running_variance": "biased", "axis": -1},
    (
        Finding("forward", "float64", True, 0.84, 0.5),
        Finding("forward", "float32", False, 1234.5, 0.5, "in y"),
        Finding("dx", "float64", None, note="not reported"),
        Finding("large_mean", "float32", False, math.inf, 1.0),
        Finding("deterministic", "float64", True),
    ),
    {"numpy": "2.0", "day": "2026-01-01"},
)


def test_it_prints_every_answer_as_a_table():
    assert (
        str(CARD)
        == """a layer
  numpy 2.0
  day 2026-01-01

Conventions
  epsilon           0.001
  running_variance  biased
  axis              -1

Defects: error / error of the reference, in spacings; ! is beyond rounding
                 float64    float32
  forward        0.8 / 0.5  1.2e+03 / 0.5 !
  dx             -
  large_mean                not finite / 1.0 !
  deterministic  yes

Notes
  forward (float32): in y
  dx: not reported"""
    )


def test_data_come_back_to_four_digits():
    back = from_json(CARD.json())
    assert back.findings[1].spacings == 1234  # of 1234.5, to even
    assert back.findings[3].spacings == math.inf
    assert back._replace(findings=()) == CARD._replace(findings=())
    assert [f.holds for f in back.findings] == [f.holds for f in CARD.findings]
    assert from_json(back.json()) == back


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "{}",
        "[]",
        "3",
        "[" * 100_000,
        '{"name": "x", "findings": [{"probe": 1}]}',
        '{"name": 1, "made": {}, "conventions": {}, "findings": []}',
        '{"name": "x", "made": [], "conventions": {}, "findings": []}',
        '{"name": "x", "made": {}, "conventions": 3, "findings": []}',
        *(
            '{"name": "x", "made": {}, "conventions": {}, "findings": [{"probe": "forward",'
            f' "dtype": "float32", {rest}}}]}}'
            for rest in (
                '"holds": "yes"',
                '"holds": true, "spacings": "many"',
                '"holds": true, "spacings": NaN',
                '"holds": true, "spacings": -1',
                '"holds": true, "best": [1]',
                '"holds": true, "note": 3',
            )
        ),
    ],
)
def test_other_data_are_refused(text):
    with pytest.raises(ValueError, match="no card"):
        from_json(text)


def test_what_holds_may_be_required():
    CARD.require("deterministic", epsilon=1e-3, axis=-1, running_variance="biased")
    CARD.require(forward=2000, epsilon=0.0010004)


@pytest.mark.parametrize(
    ("probes", "wanted", "said"),
    [
        ((), {"epsilon": 1e-5}, "epsilon is 0.001, wanted was 1e-05"),
        ((), {"axis": True}, "axis is -1, wanted was True"),
        ((), {"batch_variance": "biased"}, "batch_variance is None"),
        (("forward",), {}, r"in float32: 1\.2e\+03 spacings in y, which is beyond rounding$"),
        ((), {"forward": True}, r"in float32: 1\.2e\+03 spacings in y, which is beyond rounding$"),
        ((), {"forward": 1000}, r"in float32: 1\.2e\+03 spacings in y, 1000 at most were wanted$"),
        (
            (),
            {"forward": 0.5},
            r"layer: forward in float64: 0\.8 spacings, 0\.5 at most were wanted",
        ),
        ((), {"large_mean": 1e9}, "large_mean in float32: not finite"),
        ((), {"deterministic": 3}, "deterministic in float64: it is yes or no; require it by its"),
        (("dx",), {}, r"dx has no answer \(not reported\)"),
        (("long_sums",), {}, "long_sums has no answer"),
        (("all",), {}, "forward in float32.*; large_mean in float32"),
    ],
)
def test_what_does_not_hold_is_named(probes, wanted, said):
    with pytest.raises(AssertionError, match=said):
        CARD.require(*probes, **wanted)


def test_an_unknown_name_is_refused_with_all_that_are_known():
    with pytest.raises(ValueError, match=r"frward: neither.*epsilon_place.*long_sums"):
        CARD.require("frward")


@pytest.mark.parametrize("bound", [False, "yes", None, -1, math.nan])
def test_a_bound_is_a_number_or_true(bound):
    with pytest.raises(ValueError, match=r"forward=.*: a number of spacings from 0 on, or True"):
        CARD.require(forward=bound)


def test_numbers_for_the_eye():
    assert [number(v) for v in (0, 0.04, 99.94, 100, 1e9, math.inf)] == [
        "0", "0.0", "99.9", "1.0e+02", "1.0e+09", "not finite",
    ]  # fmt: skip
