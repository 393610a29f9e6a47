"""What lies in the book's folder: every fault is one sentence, and a changed arithmetic is noted."""

import json
from dataclasses import replace

import pytest

from bnkit import paths
from bnkit.__main__ import main
from bnkit.runs import experiments, inventory, pool, records
from bnkit.runs.tasks.mnist import MLPRecipe

TINY = MLPRecipe(dataset="digits", norm="batch", steps=20)


@pytest.fixture(scope="module")
def made():
    """Two runs of one small experiment."""
    with pool.one_thread():
        return [experiments.train(replace(TINY, seed=seed), name="digits/tiny") for seed in (0, 1)]


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    """They are the book's, recorded just now; CHANGELOG says nothing of them."""
    monkeypatch.setenv("BNKIT_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("BNKIT_ROOT", str(tmp_path))
    (tmp_path / "chapters").mkdir()
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n")
    tiny = experiments.Experiment("digits/tiny", TINY, 2, "a test")
    monkeypatch.setattr(experiments, "EXPERIMENTS", {tiny.name: tiny})
    monkeypatch.setattr(experiments, "ENSEMBLES", {})
    for record in made:
        records.save(record)
    return tmp_path / "runs"


def aged(folder):
    """A record as it was before records said which arithmetic made them."""
    record = records.load("digits", "tiny", 1)
    del record.manifest["arithmetic"]
    records.save(record)


def test_fresh_records_have_nothing_against_them(folder, capsys):
    assert inventory.problems() == []
    assert main(["check"]) == 0
    assert main(["list"]) == 0
    assert "2/2 recorded  " in capsys.readouterr().out


def test_an_earlier_arithmetic_is_listed_and_must_be_noted(folder, capsys):
    aged(folder)
    assert main(["list"]) == 0
    assert "2/2 recorded, 1 earlier" in capsys.readouterr().out
    assert main(["check"]) == 1
    digest = experiments.arithmetic_of(TINY, "bank")["digest"]
    told = capsys.readouterr().err
    assert f"the arithmetic of mnist is {digest} today, and 1 of 2 records" in told
    note = paths.root() / "CHANGELOG.md"
    note.write_text(f"- `mnist {digest}`: the sums go block by block.\n")
    assert main(["check"]) == 0
    note.write_text("- `mnist 000000000000`: of an earlier change.\n")
    assert main(["check"]) == 1


def test_another_digest_another_maker_and_another_device_are_not_of_today(folder):
    record = records.load("digits", "tiny", 0)
    assert experiments.is_of_today(record)
    made = record.manifest["arithmetic"]
    for other in (
        {"arithmetic": made | {"digest": "0" * 12}},
        {"arithmetic": made | {"made_by": "hand"}},
        {"arithmetic": None},
        {"device": "Some GPU"},
    ):
        assert not experiments.is_of_today(replace(record, manifest=record.manifest | other))


def spoil_recipe(folder):
    record = records.load("digits", "tiny", 1)
    record.recipe["learning_rate"] = 0.3
    records.save(record)  # its digest is right


def copy(name):
    def do(folder):
        path = folder / "digits" / "tiny" / "seed-0.json"
        path.with_name(name).write_bytes(path.read_bytes())

    return do


def other_seed(folder):
    record = records.load("digits", "tiny", 0)
    records.save(replace(record, seed=9, recipe=record.recipe | {"seed": 9}))


FAULTS = {
    "a wrong recipe with a right digest": (spoil_recipe, "which differs in learning_rate"),
    "a copy that counts a seed twice": (copy("seed-00.json"), "seed-00.json is no record"),
    "a copy under another seed": (copy("seed-1.json"), "it holds digits/tiny/seed-0"),
    "a seed that is not registered": (other_seed, "digits/tiny/seed-9.json is no run of the book"),
    "a missing run": (
        lambda folder: (folder / "digits/tiny/seed-1.json").unlink(), "seed-1.json is missing"
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_belong_there_is_named_and_does_not_enter(folder, fault, capsys):
    spoil, said = FAULTS[fault]
    spoil(folder)
    assert main(["check"]) == 1
    (told,) = capsys.readouterr().err.splitlines()
    assert said in told
    if fault in ("a wrong recipe with a right digest", "a copy under another seed"):
        with pytest.raises(records.RecordError, match=r"seed-1"):
            experiments.load_all("digits/tiny")
    else:
        seeds = [0] if "missing" in fault else [0, 1]
        assert [run.seed for run in experiments.load_all("digits/tiny")] == seeds


def test_the_book_has_no_other_runs(folder):
    other_seed(folder)
    for name, seed in (("digits/tiny", 9), ("digits/tiny", 2), ("mnist/with-bn", 0)):
        with pytest.raises(records.RecordError, match=f"no run {name} with seed {seed}"):
            experiments.load(name, seed)
    with pytest.raises(records.RecordError, match="no run digits/nothing"):
        experiments.load_all("digits/nothing")


def test_the_records_of_the_book_are_in_order():
    assert inventory.problems() == []


def test_the_page_counts_those_of_an_earlier_arithmetic(folder):
    from bnkit.studies.recorded import arithmetic

    assert "made all 2 recorded runs of `digits/`" in arithmetic("digits/")
    aged(folder)
    assert "1 of 2 recorded runs of `digits/`" in arithmetic("digits/")
    assert json.loads((folder / "digits/tiny/seed-0.json").read_bytes())["manifest"]["arithmetic"]
