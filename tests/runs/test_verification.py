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


def again(curve=None, at=0, by=0.0, cpu="Abacus", weights=("a", "b")) -> Record:
    """The run made again: one entry of one curve is off."""
    curves = {
        name: {**each, "values": list(each["values"])} for name, each in RECORD.curves.items()
    }
    if curve == "gradient_norm":
        curves[curve]["values"][at] = [value + by for value in curves[curve]["values"][at]]
    elif curve:
        curves[curve]["values"][at] += by
    manifest = {
        **MANIFEST,
        "platform": {"cpu": cpu},
        "checksums": dict(zip(("0", "50"), weights, strict=True)),
    }
    return replace(RECORD, curves=curves, manifest=manifest)


def test_the_same_run_is_verified_everywhere():
    assert verification.judge(RECORD, again()) == (
        True,
        True,
        4,
        dict.fromkeys(RECORD.curves, (0, 0)),
        True,
    )
    assert verification.judge(RECORD, again(cpu="Sliding rule", weights=("a", "x"))).ok


@pytest.mark.parametrize(("curve", "at"), [("loss", 2), ("test_accuracy", 0), ("gradient_norm", 1)])
def test_on_its_platform_the_smallest_difference_is_one(curve, at):
    found = verification.judge(RECORD, again(curve, at, by=1e-9))
    assert not found.ok
    assert found.differences[curve][1] == pytest.approx(1e-9)


def test_on_its_platform_other_weights_are_one():
    found = verification.judge(RECORD, again(weights=("a", "x")))
    assert (found.ok, found.same_weights) == (False, False)


ELSEWHERE = [  # curve, entry, the largest difference that is let pass
    ("loss", 0, 0.025),
    ("test_accuracy", 0, 0.003),
    ("gradient_norm", 0, 0.02),
    ("loss", 1, 0.25),
    ("test_accuracy", 1, 0.1),
    ("gradient_norm", 1, 1e9),
]


@pytest.mark.parametrize(("curve", "at", "most"), ELSEWHERE)
def test_elsewhere_the_start_must_agree_and_later_only_what_seeds_share(curve, at, most):
    assert verification.judge(
        RECORD, again(curve, at, 0.99 * most, cpu="Sliding rule", weights=("a", "x"))
    ).ok
    if most < 1:
        assert not verification.judge(
            RECORD, again(curve, at, 1.01 * most, cpu="Sliding rule", weights=("a", "x"))
        ).ok


def test_elsewhere_training_starts_from_the_same_weights():
    assert not verification.judge(RECORD, again(cpu="Sliding rule", weights=("x", "b"))).ok


def test_a_missing_curve_and_nothing_in_common_are_no_agreement():
    short = again(cpu="Sliding rule")
    del short.curves["gradient_norm"]
    assert not verification.judge(RECORD, short).ok
    none = replace(short, curves={name: {"steps": [7], "values": [0.0]} for name in RECORD.curves})
    assert verification.judge(RECORD, none)[::2] == (False, 0, True)
