"""What the points of a sweep will train is trained together, once, and lies where they look."""

import json

import pytest

from bnkit.runs import live, pool, records
from bnkit.runs.tasks.mnist import MLPRecipe
from bnkit.studies import ahead, mnist

POINT = {"dataset": "digits", "learning_rate": 0.1, "init_sigma": 0.1, "batch_size": 60}
POINT |= {"source": "live", "steps": 2, "seeds": 2}


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv(live.FOLDER, "")
    return [str(tmp_path / name) for name in "ab"]


def test_every_point_finds_its_runs_and_none_is_trained_twice(folders, monkeypatch):
    trained = []
    several = pool.several
    monkeypatch.setattr(pool, "several", lambda r, *more: trained.extend(r) or several(r, *more))
    points = [(folders[0], POINT), (folders[1], POINT | {"learning_rate": 0.5})]
    assert ahead.train("bnkit.studies.mnist:ahead", points) == 8
    assert {(r.norm, r.seed, r.learning_rate) for r in trained} == {
        (norm, seed, rate) for norm in ("batch", None) for seed in (0, 1) for rate in (0.1, 0.5)
    }
    assert [len(records.index(folder)) for folder in folders] == [4, 4]
    assert ahead.train("bnkit.studies.mnist:ahead", points) == 0, "all of them are there"
    same = [(folders[0], POINT | {"seeds": 3}), (folders[1], POINT | {"seeds": 3})]
    assert ahead.train("bnkit.studies.mnist:ahead", same) == 6, "the second has none of that rate"
    monkeypatch.setenv(live.FOLDER, folders[0])
    monkeypatch.setattr(pool, "several", lambda r, *_: [] if not r else pytest.fail("trained"))
    asked = [MLPRecipe(**recipe.as_dict()) for recipe in mnist.ahead(POINT)]
    assert [run.seed for run in live.several(asked)] == [0, 1, 0, 1], "as the chapter asks"


def test_a_page_that_shows_records_trains_nothing(monkeypatch):
    monkeypatch.setattr(mnist, "look_up", lambda *_: ({"with BN": [], "without BN": []}, ""))
    assert mnist.ahead(POINT | {"source": "recorded", "steps": 0, "seeds": 0}) == []


def test_parameters_come_as_text(folders, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["ahead", "bnkit.studies.mnist:ahead"])
    monkeypatch.setattr("bnkit.engines.end_with_parent", lambda: None)
    monkeypatch.setattr("torch.set_num_threads", lambda count: None)
    monkeypatch.setattr(json, "load", lambda _: [[folders[0], POINT | {"seeds": 1}]])
    ahead.main()
    assert "2 networks trained together" in capsys.readouterr().out
    for wrong in ("bnkit.studies.nosuch:ahead", "bnkit.studies.mnist:nosuch"):
        monkeypatch.setattr("sys.argv", ["ahead", wrong])
        with pytest.raises(SystemExit, match="is no function that lists recipes"):
            ahead.main()
