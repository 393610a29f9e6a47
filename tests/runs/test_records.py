"""A record comes back as it was saved, or not at all."""

import getpass
import hashlib
import json
import os
import platform
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnkit.runs import records

RECORD = records.Record(
    experiment="mnist",
    variant="with-bn-sigma-0.01-lr-2",
    seed=3,
    recipe={"learning_rate": 0.1, "hidden": (100, 100, 100)},
    manifest={"date": "2026-01-01T00:00:00+00:00", "versions": {"numpy": "2.0"}, "dirty": None},
    curves={
        "test_accuracy": {
            "steps": [0, 10, 500],
            "values": np.array([0.1, 0.5, 0.98]),
            "unit": "share",
        },
        "quantiles": {"steps": np.arange(2), "values": np.arange(12.0).reshape(2, 2, 3)},
    },
)
NAME = (RECORD.experiment, RECORD.variant, RECORD.seed)


def with_curve(**changes):
    return replace(RECORD, curves={"test_accuracy": RECORD.curves["test_accuracy"] | changes})


# Save and load


def test_a_record_comes_back_equal(tmp_path):
    path = records.save(RECORD, tmp_path)
    assert path == tmp_path / "mnist" / "with-bn-sigma-0.01-lr-2" / "seed-3.json"
    loaded = records.load(*NAME, tmp_path)
    assert loaded == RECORD
    assert loaded.recipe["hidden"] == [100, 100, 100]
    steps, values = loaded.curve("quantiles")
    assert (steps.dtype, values.dtype) == (np.int64, np.float64)
    assert values.tolist() == np.arange(12.0).reshape(2, 2, 3).tolist()


def test_saving_again_is_byte_for_byte_the_same_and_one_step_is_one_line(tmp_path):
    text = records.save(RECORD, tmp_path).read_text()
    assert records.save(records.load(*NAME, tmp_path), tmp_path).read_text() == text
    assert "[[0.0,1.0,2.0],[3.0,4.0,5.0]],\n" in text
    assert json.loads(text)["curves"]["test_accuracy"]["values"] == [0.1, 0.5, 0.98]


def test_the_digest_is_that_of_the_canonical_json(tmp_path):
    content = json.loads(records.save(RECORD, tmp_path).read_text())
    digest = content.pop("sha256")
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    assert digest == hashlib.sha256(canonical.encode()).hexdigest()


def test_the_default_folder_is_that_of_the_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("BNKIT_RUNS", str(tmp_path))
    records.save(RECORD)
    assert records.load(*NAME) == RECORD
    assert records.index() == [NAME]


def test_an_unknown_curve_is_refused_with_those_there_are():
    with pytest.raises(
        records.RecordError, match=r"no curve 'loss'; it has: quantiles, test_accuracy"
    ):
        RECORD.curve("loss")


def test_many_runs_are_found_by_rising_seed_and_what_is_called_otherwise_is_told(tmp_path):
    for seed in (10, 2, 1):
        records.save(replace(RECORD, seed=seed), tmp_path)
    records.save(replace(RECORD, variant="without-bn"), tmp_path)
    folder = tmp_path / "mnist" / "without-bn"
    others = [folder / name for name in (".seed-4.json.x.part", "seed-x.json", "seed-٣.json")]
    # copies of seed 3, which would count it once more
    others += [folder / name for name in ("seed-03.json", "Seed-3.json", "seed-3.json.bak")]
    others += [tmp_path / "mnist" / "Without-BN" / "seed-3.json", tmp_path / "README.md"]
    for path in others:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes((folder / "seed-3.json").read_bytes())
    mine = ("mnist", RECORD.variant)
    assert records.index(tmp_path) == [
        (*mine, 1),
        (*mine, 2),
        (*mine, 10),
        ("mnist", "without-bn", 3),
    ]
    assert records.strangers(tmp_path) == sorted(others)


# Damage


def signed(text):
    """`text` with a digest that is right for its content: the damage is not one that the digest
    shows."""
    content = json.loads(text)
    del content["sha256"]
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return json.dumps(content | {"sha256": hashlib.sha256(canonical.encode()).hexdigest()})


DAMAGES = {
    "one digit": (lambda text: text.replace("0.98", "0.99"), "SHA-256"),
    "the seed": (lambda text: text.replace('"seed":3', '"seed":4'), "SHA-256"),
    "no digest": (lambda text: text.replace('"sha256"', '"sha"'), "SHA-256"),
    "cut off": (lambda text: text[: len(text) // 2], "Expecting|Unterminated|delimiter"),
    "empty": (lambda _: "", "Expecting value"),
    "no object": (lambda _: "[1, 2]", "not a JSON object"),
    "no text": (lambda text: text.replace("with", "w\udcffth"), "utf-8"),
    "NaN": (lambda text: text.replace("0.98", "NaN"), "not JSON compliant"),
    "infinity": (lambda text: text.replace("0.98", "1e999"), "not JSON compliant"),
    "another place": (
        lambda text: signed(text.replace('"seed":3', '"seed":4')),
        "it holds mnist/with-bn.*/seed-4",
    ),
    "a missing field": (
        lambda text: signed(text.replace('"manifest"', '"manifesto"')),
        "manifest, manifesto",
    ),
    "a wrong type": (
        lambda text: signed(text.replace('"seed":3', '"seed":3.0')),
        "seed must be int, not float",
    ),
    "unequal lengths": (
        lambda text: signed(text.replace("[0,10,500]", "[0,10]")),
        "one value per step",
    ),
    "steps out of order": (
        lambda text: signed(text.replace("[0,10,500]", "[0,10,10]")),
        "increasing",
    ),
    "ragged values": (
        lambda text: signed(text.replace("[0.1,0.5,0.98]", "[0.1,0.5,[1]]")),
        "inhomogeneous|sequence",
    ),
    "no values": (
        lambda text: signed(text.replace('"unit"', '"x"').replace('"values":[0.1', '"y":[0.1')),
        "needs 'steps'",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_record_is_refused_with_its_path_and_the_remedy(tmp_path, damage):
    spoil, complaint = DAMAGES[damage]
    path = records.save(RECORD, tmp_path)
    before = path.read_text()
    spoilt = spoil(before)
    assert spoilt != before
    path.write_bytes(spoilt.encode(errors="surrogateescape"))
    with pytest.raises(records.RecordError, match=complaint) as error:
        records.load(*NAME, tmp_path)
    assert str(path) in str(error.value)
    assert f"python -m bnkit run mnist/{RECORD.variant} --seed 3" in str(error.value)


def test_a_record_that_cannot_be_opened_is_refused(tmp_path):
    (tmp_path / "mnist" / "with-bn" / "seed-0.json").mkdir(parents=True)
    with pytest.raises(records.RecordError, match=r"seed-0\.json cannot be read"):
        records.load("mnist", "with-bn", 0, tmp_path)


@pytest.mark.parametrize(
    ("record", "complaint"),
    [
        (with_curve(values=[0.1, np.nan, 0.3]), "not finite"),
        (with_curve(values=[0.1, 0.2]), "one value per step"),
        (with_curve(values=[0.1, 0.2, "x"]), "could not convert"),
        (with_curve(steps=[0, 2, 1]), "increasing"),
        (with_curve(steps=[0, 0.5, 1]), "integers"),
        (with_curve(steps=[], values=[]), "at least one"),
        (replace(RECORD, recipe={"learning_rate": np.inf}), "not JSON compliant"),
        (replace(RECORD, seed=True), "seed must be int"),
        (replace(RECORD, variant="../elsewhere"), "cannot name a run"),
        (replace(RECORD, variant="With BN"), "cannot name a run"),
    ],
)
def test_what_could_not_be_loaded_is_not_saved(tmp_path, record, complaint):
    with pytest.raises(records.RecordError, match=complaint):
        records.save(record, tmp_path)
    assert list(tmp_path.iterdir()) == []


# Compare


def test_equal_runs_compare_equal_over_the_steps_both_have():
    short = with_curve(steps=[0, 10], values=[0.1, 0.5])
    assert records.compare(with_curve(), short) == (2, {"test_accuracy": 0.0}, True)
    # 0, 1, 10, 500
    assert records.compare(RECORD, RECORD) == (4, {"quantiles": 0.0, "test_accuracy": 0.0}, True)


def test_the_largest_difference_decides():
    fresh = with_curve(values=[0.1, 0.4, 1.0])
    compared, differences, ok = records.compare(with_curve(), fresh)
    assert (compared, ok) == (3, False)
    assert differences["test_accuracy"] == pytest.approx(0.1)
    last_bit = with_curve(values=[0.1, 0.5, np.nextafter(0.98, 1)])
    assert not records.compare(with_curve(), last_bit).ok


def test_nothing_in_common_is_not_equal():
    assert records.compare(with_curve(), with_curve(steps=[1, 11, 501])) == (0, {}, False)
    one_less = records.compare(RECORD, with_curve())
    assert (one_less.largest_difference["quantiles"], one_less.ok) == (np.inf, False)
    other_shape = records.compare(with_curve(), with_curve(values=np.zeros((3, 2))))
    assert (other_shape.largest_difference["test_accuracy"], other_shape.ok) == (np.inf, False)


# Numbers


def test_round_to_keeps_the_shape_and_the_digits_that_count():
    assert records.round_to(np.array([[0.123456, -98765.4], [0.0, 1e-9]])) == [
        [0.1235, -98770.0],
        [0.0, 1e-9],
    ]
    assert records.round_to(np.float32(0.1)) == 0.1
    assert records.round_to([2 / 3], digits=2) == [0.67]
    assert records.round_to(np.zeros((2, 0))) == [[], []]


@given(st.floats(allow_nan=False, allow_infinity=False, width=32), st.integers(1, 8))
def test_round_to_is_near_and_short(value, digits):
    rounded = records.round_to(value, digits)
    assert abs(rounded - value) <= 0.5001 * 10.0 ** (1 - digits) * abs(value)
    assert len(Decimal(repr(rounded)).normalize().as_tuple().digits) <= digits


# The manifest


@pytest.fixture
def git(tmp_path, monkeypatch):
    """A checkout of its own under git, with one commit; runs git in it."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)  # set while a hook runs the tests: they would lead git elsewhere
    monkeypatch.setenv("BNKIT_ROOT", str(tmp_path))

    def run(*arguments):
        who = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
        command = ["git", "-C", str(tmp_path), *who, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    for name in ("chapters", "bnkit", "data"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file.py").write_text("1")
    run("init", "--quiet")
    run("add", ".")
    run("commit", "--quiet", "--message", "first")
    return run


def test_the_manifest_names_the_revision_and_whether_the_package_differs(git, tmp_path):
    made = records.manifest()
    assert (made["revision"], made["dirty"]) == (git("rev-parse", "HEAD"), False)
    (tmp_path / "data" / "file.py").write_text("a new run is no other code")
    assert records.manifest()["dirty"] is False
    (tmp_path / "bnkit" / "new.py").write_text("untracked code is")
    assert records.manifest()["dirty"] is True


def test_without_a_repository_of_its_own_the_revision_is_unknown(git, tmp_path, monkeypatch):
    inside = tmp_path / "vendored" / "chapters"
    inside.mkdir(parents=True)
    monkeypatch.setenv("BNKIT_ROOT", str(inside.parent))
    assert (records.manifest()["revision"], records.manifest()["dirty"]) == ("unknown", None)
    monkeypatch.setenv("BNKIT_ROOT", str(tmp_path / "bnkit"))  # no checkout at all
    assert (records.manifest()["revision"], records.manifest()["dirty"]) == ("unknown", None)
    monkeypatch.setenv("PATH", "")  # no git at all
    monkeypatch.setenv("BNKIT_ROOT", str(tmp_path))
    assert (records.manifest()["revision"], records.manifest()["dirty"]) == ("unknown", None)


def test_the_manifest_tells_of_the_platform_and_not_of_its_owner():
    made = records.manifest(device="cpu")
    assert made["versions"]["numpy"] == np.__version__
    assert made["device"] == "cpu"
    assert made["platform"]["cpu"]
    words = set(json.dumps(made).replace('"', " ").replace(",", " ").split())
    assert not words & {platform.node(), getpass.getuser(), os.getcwd(), os.path.expanduser("~")}
    assert "/" not in json.dumps({**made, "platform": ""})  # model names of processors may hold one


def test_torch_is_described_when_imported_and_not_imported_for_it():
    code = (
        "import sys, json; from bnkit.runs import records; a = records.manifest(); assert 'torch' not in sys.modules; "
        "import torch; torch.set_num_threads(1); print(json.dumps([a, records.manifest()]))"
    )
    without, with_torch = json.loads(
        subprocess.check_output([sys.executable, "-c", code], text=True)
    )
    assert "torch" not in without["versions"]
    assert with_torch["versions"]["torch"].startswith("2.")
    assert with_torch["platform"]["threads"] == 1


def test_only_what_changes_bits_makes_another_platform():
    here = records.manifest(device="cpu")
    assert records.platform_key(here) == records.platform_key(
        here | {"date": "another", "revision": "another"}
    )
    for other in (
        here | {"device": "cuda"},
        here | {"platform": here["platform"] | {"threads": 64}},
        here | {"versions": here["versions"] | {"torch": "1.0"}},
    ):
        assert records.platform_key(here) != records.platform_key(other)
    loaded = json.loads(json.dumps(here))
    assert records.platform_key(loaded) == records.platform_key(here)
