"""Whether a run is the recorded one: equality on its platform; elsewhere the start, and what seeds
share later.
"""

from dataclasses import replace

import pytest

from bnkit.runs import verification
from bnkit.runs.records import Record

MANIFEST = {
    "platform": {"cpu": "Abacus"},
    "versions": {"numpy": "2", "torch": "2"},
    "device": "cpu",
    "arithmetic": {"made_by": "loop", "digest": "0123456789ab"},
}
RECORD = Record(
    "inception",
    "bn-x5",
    0,
    {},
    {**MANIFEST, "checksums": {"0": "a", "50": "b"}},
    {
        "loss": {"steps": [1, 50, 100], "values": [2.5, 2.0, 1.5]},
        "test_accuracy": {"steps": [0, 50, 100], "values": [0.1, 0.2, 0.3]},
        "gradient_norm": {"steps": [1, 50], "values": [[1.0, 2.0], [0.5, 1.5]]},
    },
)


LOOP = MANIFEST["arithmetic"]
# what makes a run another than the record's, bit for bit
ELSEWHERE = {
    "another platform": {"platform": {"cpu": "Sliding rule"}},
    "another arithmetic": {"arithmetic": LOOP | {"digest": "ba9876543210"}},
    "another maker": {"arithmetic": LOOP | {"made_by": "bank"}},
}


def again(curve=None, at=0, by=0.0, weights=("a", "b"), **manifest) -> Record:
    """The run made again: one entry of one curve is off."""
    curves = {
        name: {**each, "values": list(each["values"])} for name, each in RECORD.curves.items()
    }
    if curve == "gradient_norm":
        curves[curve]["values"][at] = [value + by for value in curves[curve]["values"][at]]
    elif curve:
        curves[curve]["values"][at] += by
    checksums = dict(zip(("0", "50"), weights, strict=True))
    return replace(RECORD, curves=curves, manifest=MANIFEST | {"checksums": checksums} | manifest)


def test_the_same_run_is_verified_everywhere():
    none = dict.fromkeys(RECORD.curves, (0, 0))
    assert verification.judge(RECORD, again()) == (True, True, True, 4, none, True, True)
    assert verification.judge(RECORD, again()).exact


@pytest.mark.parametrize("where", ELSEWHERE)
def test_elsewhere_bits_are_not_asked_for_and_equality_is_told(where):
    verdict = verification.judge(RECORD, again(weights=("a", "x"), **ELSEWHERE[where]))
    assert (verdict.ok, verdict.exact, verdict.equal) == (True, False, False)
    assert verdict.same_platform == (where != "another platform")
    assert verdict.same_arithmetic == (where == "another platform")
    equal = verification.judge(RECORD, again(**ELSEWHERE[where]))
    assert (equal.ok, equal.exact, equal.equal) == (True, False, True)


def test_a_record_from_before_arithmetics_were_noted_is_held_to_bounds():
    old = replace(RECORD, manifest={k: v for k, v in RECORD.manifest.items() if k != "arithmetic"})
    for fresh in (again(weights=("a", "x")), replace(old)):
        verdict = verification.judge(old, fresh)
        assert (verdict.ok, verdict.same_platform, verdict.same_arithmetic) == (True, True, False)


@pytest.mark.parametrize(("curve", "at"), [("loss", 2), ("test_accuracy", 0), ("gradient_norm", 1)])
def test_on_its_platform_the_smallest_difference_is_one(curve, at):
    found = verification.judge(RECORD, again(curve, at, by=1e-9))
    assert not found.ok
    assert found.differences[curve][1] == pytest.approx(1e-9)


def test_on_its_platform_other_weights_are_one():
    found = verification.judge(RECORD, again(weights=("a", "x")))
    assert (found.ok, found.same_weights) == (False, False)


BOUNDS = [  # curve, entry, the largest difference that is let pass
    ("loss", 0, 0.025),
    ("test_accuracy", 0, 0.003),
    ("gradient_norm", 0, 0.02),
    ("loss", 1, 0.25),
    ("test_accuracy", 1, 0.1),
    ("gradient_norm", 1, 1e9),
]


@pytest.mark.parametrize("where", ELSEWHERE)
@pytest.mark.parametrize(("curve", "at", "most"), BOUNDS)
def test_elsewhere_the_start_must_agree_and_later_only_what_seeds_share(curve, at, most, where):
    how = ELSEWHERE[where] | {"weights": ("a", "x")}
    assert verification.judge(RECORD, again(curve, at, 0.99 * most, **how)).ok
    if most < 1:
        assert not verification.judge(RECORD, again(curve, at, 1.01 * most, **how)).ok


@pytest.mark.parametrize("where", ELSEWHERE)
def test_elsewhere_training_starts_from_the_same_weights(where):
    verdict = verification.judge(RECORD, again(weights=("x", "b"), **ELSEWHERE[where]))
    assert (verdict.ok, verdict.same_weights) == (False, False)


def test_a_missing_curve_and_nothing_in_common_are_no_agreement():
    short = again(**ELSEWHERE["another platform"])
    del short.curves["gradient_norm"]
    assert not verification.judge(RECORD, short).ok
    none = replace(short, curves={name: {"steps": [7], "values": [0.0]} for name in RECORD.curves})
    verdict = verification.judge(RECORD, none)
    assert (verdict.ok, verdict.steps, verdict.same_weights) == (False, 0, True)
