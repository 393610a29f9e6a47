"""results.json is read as it was written; whatever else lies there is one sentence."""

import json

import pytest

from bnkit.page import reruns
from bnkit.page.quantities import as_curve, as_result
from bnkit.page.reruns import FILE, Rerun, RerunError

RUN = Rerun(
    chapter="08-mnist",
    parameters={"steps": 10, "source": "live"},
    changed=("steps",),
    results={"a": as_result("a", [1.0, None], "%"), "b": as_result("b", 3)},
    curves=(as_curve("c", [0, 1], [[1, 2], [3, 4]]),),
    versions={"numpy": "2"},
    seconds=1.5,
    date="2026-01-01",
    source="abc",
)


def test_a_run_is_read_as_it_was_saved(tmp_path):
    assert RUN.save(tmp_path) == tmp_path / FILE
    assert reruns.load(tmp_path) == RUN
    content = json.loads((tmp_path / FILE).read_text())
    assert content["results"][0]["mean"] == 1.0, "programs need not compute it"
    assert content["changed"] == ["steps"]


def spoil(tmp_path, text: str | bytes) -> str:
    (tmp_path / FILE).write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(RerunError) as refusal:
        reruns.load(tmp_path)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "cannot be read"),
        ("[]", "is damaged: it lacks an object"),
        ("{}", "is damaged: it lacks changed, chapter"),
        (b"\xff\xfe", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ('{"results": NaN', "cannot be read"),
    ],
)
def test_a_file_that_is_no_run_is_refused(tmp_path, text, said):
    assert said in spoil(tmp_path, text)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("results", [{"name": "a"}]),
        ("results", [RUN.results["a"].as_dict()] * 2),
        ("results", {"a": 1}),
        ("results", [RUN.results["a"].as_dict() | {"values": "12"}]),
        ("curves", [None]),
        ("parameters", []),
        ("chapter", 8),
        ("seconds", "long"),
    ],
)
def test_a_run_with_a_spoilt_field_is_refused(tmp_path, field, value):
    content = json.loads(RUN.as_text()) | {field: value}
    assert "is damaged" in spoil(tmp_path, json.dumps(content))


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(RerunError, match="is no folder of a re-run; make rerun"):
        reruns.load(tmp_path)
    with pytest.raises(RerunError, match="does not exist"):
        reruns.load(tmp_path / "nowhere")
