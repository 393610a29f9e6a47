"""Runs of a chapter: kept beside a re-run, and taken up where they are what training would give."""

from dataclasses import replace

import pytest

from bnkit.runs import live, pool, records
from bnkit.runs.tasks.mnist import MLPRecipe

TINY = MLPRecipe(dataset="digits", norm="batch", steps=2)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(live.FOLDER, str(tmp_path))
    return tmp_path


def untrained(*_):
    raise AssertionError("it was trained")


def test_without_a_folder_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.delenv(live.FOLDER, raising=False)
    (run,) = live.several([TINY])
    assert run.recipe == TINY.as_dict()
    assert live.kept(TINY) is None


def test_runs_are_kept_and_taken_up_in_the_order_asked_for(folder, monkeypatch):
    two = [replace(TINY, seed=1), TINY]
    made = live.several(two)
    assert [run.seed for run in made] == [1, 0]
    assert len(records.index(folder)) == 2
    monkeypatch.setattr(pool, "trained", untrained)
    assert live.several(two) == made


@pytest.mark.parametrize("field", ["source_digest", "versions"])
def test_a_run_of_other_code_or_another_platform_is_not_taken_up(folder, field):
    (run,) = live.several([TINY])
    other = {"source_digest": "other", "versions": {"torch": "0", "numpy": "0"}}[field]
    records.save(replace(run, manifest={**run.manifest, field: other}), folder)
    assert live.kept(TINY) is None


def test_a_damaged_run_is_trained_again(folder):
    live.several([TINY])
    (path,) = folder.rglob("*.json")
    path.write_text(path.read_text().replace("0.1", "0.2", 1))
    assert live.kept(TINY) is None
    assert live.several([TINY])[0].recipe == TINY.as_dict()


def test_a_bar_counts_the_steps_of_all_runs(monkeypatch):
    counted = []

    class Bar:
        def __init__(self, total, **_):
            counted.append(total)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def update(self, steps):
            counted.append(steps)

    monkeypatch.setattr(live, "tqdm", Bar)
    live.several([TINY, replace(TINY, seed=1)])
    total, *steps = counted
    assert total == sum(steps) == 4
