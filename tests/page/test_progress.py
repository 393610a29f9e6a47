"""A bar changes nothing, comes only where a loop takes long, and needs no library."""

import sys

import pytest

from bnkit.page import progress


def test_steps_are_those_of_a_range(capfd):
    assert list(progress.steps(3)) == [0, 1, 2]
    assert capfd.readouterr().err == "", "a short loop has no bar"


def test_a_long_loop_says_how_long_it_will_take(monkeypatch, capfd):
    monkeypatch.setattr(progress, "DELAY", 0)
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    for _ in progress.steps(3):
        pass
    bar = capfd.readouterr().err
    assert "\r" in bar, "by this the press knows it"
    assert "0/3" in bar


def test_the_first_of_many_leave_the_rest_untouched():
    numbers = iter(range(10))
    assert list(progress.first(numbers, 3)) == [0, 1, 2]
    assert next(numbers) == 3


@pytest.mark.parametrize("missing", ["tqdm"])
def test_without_the_library_there_is_no_bar(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    assert progress.steps(3) == range(3)
