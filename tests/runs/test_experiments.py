"""Named runs: the recipes are the paper's, runs resume after a kill, records match today's
recipes.
"""

import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from checks import killed_at
from clusters import workers

from bnkit import paths
from bnkit.__main__ import main
from bnkit.runs import experiments, pool, records
from bnkit.runs.checkpoints import Checkpoint
from bnkit.runs.tasks.linear import LinearRecipe
from bnkit.runs.tasks.mnist import MLPRecipe, Task

LIVE = MLPRecipe(dataset="digits", norm="batch", steps=200, learning_rate=0.5)


def test_the_main_pair_is_section_4_1():
    with_bn = experiments.experiment("mnist/with-bn").recipe
    assert (with_bn.dataset, with_bn.hidden, with_bn.activation) == (
        "mnist",
        (100, 100, 100),
        "sigmoid",
    )
    assert (with_bn.batch_size, with_bn.steps, with_bn.momentum) == (60, 50_000, 0.0)
    assert experiments.experiment("mnist/without-bn").recipe == replace(with_bn, norm=None)


def test_every_control_changes_what_its_name_says_and_nothing_else():
    mnist = [one for one in experiments.EXPERIMENTS.values() if one.name.startswith("mnist/with")]
    assert mnist
    for one in mnist:
        label, changes = re.fullmatch(r"(mnist/with(?:out)?-bn)(.*)", one.name).groups()
        expected = experiments.experiment(label).recipe
        for key, value in re.findall(r"-(lr|sigma)-([\d.]+)", changes):
            expected = replace(
                expected, **{{"lr": "learning_rate", "sigma": "init_sigma"}[key]: float(value)}
            )
        if "threshold" in changes:
            expected = replace(expected, pixels="threshold")
        elif "sigma" in changes:
            expected = replace(expected, steps=10_000)
        assert one.recipe == expected, one.name


def test_every_recorded_run_was_made_by_committed_code():
    for name, seed in experiments.recorded():
        record = experiments.load(name, seed)  # refuses another recipe than today's
        assert record.manifest["dirty"] is False, record.name
    runs = sum(one.seeds for one in experiments.EXPERIMENTS.values())
    assert len(experiments.recorded()) == runs + len(experiments.ENSEMBLES) == len(records.index())


def test_nothing_is_missing():
    assert experiments.missing() == []


def test_same_seed_same_curves_and_another_seed_others():
    first, second = experiments.train(LIVE, device="cpu"), experiments.train(LIVE, device="cpu")
    assert first.curves == second.curves
    assert first.manifest["checksums"] == second.manifest["checksums"]
    other = experiments.train(replace(LIVE, seed=1), device="cpu")
    assert other.curves["loss"] != first.curves["loss"]


def test_a_live_run_learns_and_describes_every_unit():
    record = experiments.train(LIVE, device="cpu")
    steps, accuracy = record.curve("test_accuracy")
    assert steps[[0, -1]].tolist() == [0, 200]
    assert accuracy[-1] > 0.8 > 0.3 > accuracy[0]
    _, quantiles = record.curve("quantiles")
    assert quantiles.shape[1:] == (100, 3)
    assert (quantiles[..., 0] <= quantiles[..., 1]).all()
    assert (quantiles[..., 1] <= quantiles[..., 2]).all()
    # gamma starts at one and the inputs are normalised: near the +-1.04 of a standard normal
    # distribution
    assert quantiles[0, :, 2].mean() - quantiles[0, :, 0].mean() == pytest.approx(2.07, abs=0.15)
    _, gamma = record.curve("gamma")
    assert (gamma[0] == 1).all()
    assert (gamma[-1] != 1).any()


def test_the_batches_of_treatment_and_control_are_the_same():
    data = Task(LIVE, torch.device("cpu"))
    control = Task(replace(LIVE, norm=None), torch.device("cpu"))
    for _, (a, b) in zip(
        range(30), zip(data.batches(), control.batches(), strict=False), strict=False
    ):
        assert torch.equal(a[0], b[0])
        assert torch.equal(a[1], b[1])
    assert set(a[0].unique().tolist()) == {0.0, 1.0}


def test_a_killed_run_goes_on_from_its_checkpoint_and_ends_the_same(tmp_path, monkeypatch):
    """A real kill -9 after the first checkpoint; the run that goes on equals one that was never
    stopped."""
    monkeypatch.setattr(Checkpoint, "EVERY", 0)
    monkeypatch.setattr(Task, "PAUSE_EVERY", 100)
    recipe = replace(LIVE, steps=600)
    checkpoint = tmp_path / "run.npz"
    code = (
        "import sys, time, torch; from pathlib import Path; from bnkit.runs import experiments\n"
        "from bnkit.runs.tasks.mnist import MLPRecipe, Task\n"
        "from bnkit.runs.checkpoints import Checkpoint\n"
        "torch.set_num_threads(1); Checkpoint.EVERY = 0; Task.PAUSE_EVERY = 100\n"
        "recipe = MLPRecipe(dataset='digits', norm='batch', steps=600, learning_rate=0.5)\n"
        "slowly = lambda step: time.sleep(0.01)  # it is to be killed before it ends\n"
        "place = Path(sys.argv[1])\n"
        "experiments.train(recipe, device='cpu', checkpoint=place, on_step=slowly)"
    )
    killed_at(checkpoint, code)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        told = []
        resumed = experiments.train(
            recipe, device="cpu", checkpoint=checkpoint, on_step=told.append
        )
        whole = experiments.train(recipe, device="cpu")
    finally:
        torch.set_num_threads(threads)
    assert told[0] > 100, "it started from the beginning"
    assert resumed.manifest["checksums"] == whole.manifest["checksums"]
    assert resumed.curves == whole.curves


@pytest.fixture
def workshop(tmp_path, monkeypatch):
    """Runs and cache in a folder of their own, and one small experiment on `digits`."""
    monkeypatch.setenv("BNKIT_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(paths, "cache", lambda: tmp_path / "cache")
    small = experiments.Experiment("digits/with-bn", LIVE, 1, "a test")
    monkeypatch.setattr(experiments, "EXPERIMENTS", {small.name: small})
    return tmp_path


def test_run_verify_and_the_ways_a_record_fails(workshop, capsys):
    assert experiments.missing() == [("digits/with-bn", 0)]
    assert main(["run", "digits/with-bn", "--seed", "0"]) == 0
    assert experiments.missing() == []
    assert main(["verify", "digits/with-bn", "--steps", "150"]) == 0
    told = capsys.readouterr().out
    assert "platform: that of the record; arithmetic: that of the record" in told
    assert "verified, bit for bit" in told

    path = workshop / "runs" / "digits" / "with-bn" / "seed-0.json"
    path.write_text(path.read_text().replace('"seed":0', '"seed":1', 1))
    assert main(["verify", "digits/with-bn"]) == 1
    assert str(path) in capsys.readouterr().err
    assert experiments.missing() == [("digits/with-bn", 0)]


@pytest.fixture
def outside(tmp_path) -> dict[str, str]:
    """The environment of processes that know one experiment, of two small runs."""
    code = (
        "import sys; from dataclasses import replace; from bnkit.runs import experiments\n"
        "from bnkit.runs.tasks.mnist import MLPRecipe\n"
        "recipe = MLPRecipe(dataset='digits', norm='batch', steps=20)\n"
        "experiments.EXPERIMENTS = {'digits/tiny': experiments.Experiment('digits/tiny', recipe, 2, 'a test')}\n"
    )
    (tmp_path / "sitecustomize.py").write_text(code)
    found = f"{tmp_path}:{paths.root()}"
    return {**os.environ, "BNKIT_RUNS": str(tmp_path / "runs"), "PYTHONPATH": found}


def made_by(environment: dict[str, str], *options: str) -> str:
    """What the command says, started as users start it."""
    command = [sys.executable, "-m", "bnkit", "runs", *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_missing_runs_are_made_in_processes_of_their_own(tmp_path, outside):
    """They are new processes that must find their work."""
    made_by(outside, "--jobs", "2")
    assert records.index(tmp_path / "runs") == [("digits", "tiny", 0), ("digits", "tiny", 1)]
    assert "nothing to do" in made_by(outside, "--jobs", "2")


def test_missing_runs_are_made_by_the_workers_of_a_scheduler(tmp_path, outside):
    """They store where they are, and one of the two is gone when the work begins."""
    here = outside | {"BNKIT_RUNS": str(tmp_path / "here")}
    with workers(tmp_path, outside) as (address, (lost, other)):
        lost.kill()
        made_by(here, "--jobs", "2", "--scheduler", address)
        assert other.poll() is None, "the workers are not ours to end"
    assert not records.index(tmp_path / "here")
    assert records.index(tmp_path / "runs") == [("digits", "tiny", 0), ("digits", "tiny", 1)]


def test_verify_rejects_a_record_that_training_does_not_give(workshop, capsys):
    record, _ = experiments.run("digits/with-bn", 0)
    record.curves["test_accuracy"]["values"][1] += 0.05
    records.save(record)
    assert main(["verify", "digits/with-bn", "--steps", "150"]) == 1
    assert "NOT verified: the record and this run differ" in capsys.readouterr().out


def test_verify_says_when_there_was_nothing_to_compare(workshop, capsys):
    record, _ = experiments.run("digits/with-bn", 0)
    for curve in record.curves.values():
        late = [i for i, step in enumerate(curve["steps"]) if step > 20]
        curve |= {part: [curve[part][i] for i in late] for part in ("steps", "values")}
    records.save(record)
    assert main(["verify", "digits/with-bn", "--steps", "10"]) == 1
    assert "the record has no entry so early; ask for more" in capsys.readouterr().out


def test_a_record_of_another_arithmetic_is_held_to_bounds(workshop, capsys):
    record, _ = experiments.run("digits/with-bn", 0)
    record.manifest["arithmetic"]["digest"] = "0" * 12
    record.curves["test_accuracy"]["values"][1] += 0.05
    records.save(record)
    assert main(["verify", "digits/with-bn", "--steps", "150"]) == 0
    told = capsys.readouterr().out
    assert "platform: that of the record; arithmetic: another than the record's" in told
    assert "verified, within bounds" in told
    record.curves["test_accuracy"]["values"][1] += 0.1
    records.save(record)
    assert main(["verify", "digits/with-bn", "--steps", "150"]) == 1


def test_runs_side_by_side_are_those_that_each_would_be_alone():
    """But networks of a bank, which are so to rounding: ``test_bank`` holds them to it."""
    recipes = [LinearRecipe(norm=True, depth=3, steps=60, seed=seed) for seed in range(3)]
    assert sum(recipe.steps for recipe in recipes) > pool.WORTHWHILE
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        together = pool.several(recipes)
    finally:
        torch.set_num_threads(threads)
    assert [run.seed for run in together] == [0, 1, 2]
    for run, recipe in zip(together, recipes, strict=True):
        with pool.one_thread():
            alone = experiments.train(recipe)
        assert run.curves == alone.curves


def test_runs_that_see_the_same_pictures_go_to_one_process():
    recipes = [
        MLPRecipe(dataset="digits", norm=norm, seed=s) for norm in ("batch", None) for s in range(5)
    ]
    two = pool.pieces(recipes, 2)
    assert sorted(place for piece in two for place in piece) == list(range(10))
    assert [len(piece) for piece in two] == [5, 5]
    first, second = ({recipes[place].seed for place in piece} for piece in two)
    assert (first, second) == ({0, 1, 2}, {2, 3, 4})  # pictures are drawn once, but for a seed
    norms = [recipes[place].norm for place in two[0]]
    assert norms.count("batch") == 3  # a step with BN takes longer: neither has all of them


def test_a_run_of_another_length_does_not_replace_the_record(workshop):
    experiments.run("digits/with-bn", 0)
    _, path = experiments.run("digits/with-bn", 0, steps=100)
    assert os.fspath(path).startswith(os.fspath(workshop / "cache"))
    assert records.load("digits", "with-bn", 0).recipe["steps"] == 200


@pytest.mark.parametrize("arguments", [["run", "mnist/bn"], ["verify", "mnist/bn"]])
def test_an_unknown_experiment_is_refused_with_a_suggestion(arguments, capsys):
    assert main(arguments) == 1
    told = capsys.readouterr().err
    assert "no experiment 'mnist/bn'; did you mean mnist/with-bn" in told
    assert "list` shows all names" in told


@pytest.mark.parametrize("steps", ["-1", "0", "many"])
def test_a_senseless_number_of_steps_is_refused(steps, capsys):
    with pytest.raises(SystemExit):
        main(["run", "mnist/with-bn", "--steps", steps])
    assert "argument --steps" in capsys.readouterr().err


def test_a_seed_that_the_experiment_does_not_have_changes_no_page(workshop, capsys):
    assert main(["run", "digits/with-bn", "--seed", "7"]) == 0
    told = capsys.readouterr()
    assert "the book has seeds 0 to 0 of digits/with-bn" in told.err
    assert str(workshop / "cache" / "runs" / "other-seeds") in told.out
    assert main(["verify", "digits/with-bn", "--seed", "7"]) == 1
    assert (
        "no run digits/with-bn with seed 7; it is recorded with the seeds 0 to 0"
        in capsys.readouterr().err
    )
    assert not (workshop / "runs").exists() or not records.index(workshop / "runs")


def test_a_record_that_cannot_be_stored_loses_nothing(workshop, monkeypatch, capsys):
    """Its folder is tried before it trains; what fails after that leaves the checkpoint."""
    monkeypatch.setenv("BNKIT_RUNS", "/dev/null/runs")
    trained = []
    monkeypatch.setattr(experiments, "train", lambda *_, **__: trained.append(1))
    assert main(["run", "digits/with-bn"]) == 1
    assert "cannot hold records" in capsys.readouterr().err
    assert not trained

    monkeypatch.undo()
    monkeypatch.setenv("BNKIT_RUNS", str(workshop / "runs"))
    monkeypatch.setattr(paths, "cache", lambda: workshop / "cache")
    small = experiments.Experiment("digits/with-bn", replace(LIVE, steps=1000), 1, "a test")
    monkeypatch.setattr(experiments, "EXPERIMENTS", {small.name: small})
    monkeypatch.setattr(Checkpoint, "EVERY", 0)
    monkeypatch.setattr(Task, "PAUSE_EVERY", 300)

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(records, "save", full_disk)
        assert main(["run", "digits/with-bn"]) == 1
    (kept,) = (workshop / "cache" / "checkpoints").rglob("*.npz")
    assert main(["run", "digits/with-bn"]) == 0
    assert not kept.exists()
    assert experiments.missing() == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "digits/with-bn", "--device", "cuda"], "torch sees no GPU here"),
        (["runs", "--only", "zzz"], "no experiment begins with 'zzz'"),
    ],
)
def test_bad_input_is_one_sentence(workshop, capsys, monkeypatch, arguments, said):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(arguments) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--seed", str(2**63)], ["--seed", "-1"], ["--steps", "0"]])
def test_numbers_out_of_range_are_named(arguments, capsys):
    with pytest.raises(SystemExit):
        main(["run", "mnist/with-bn", *arguments])
    assert f"{arguments[1]!r} is not a whole number from" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["verify", "mnist/with-bn"], ["list"], ["check"]])
def test_a_file_for_the_folder_of_records_is_an_error_in_a_sentence(
    command, monkeypatch, capsys, tmp_path
):
    file = paths.write_atomically(tmp_path / "records", "")
    for given in (file, file / "below"):
        monkeypatch.setenv("BNKIT_RUNS", str(given))
        assert main(command) == 1
        wanted = f"error: {file} is a file; BNKIT_RUNS must name a folder of records.\n"
        assert capsys.readouterr().err == wanted


@pytest.mark.parametrize("command", [["run", "digits/with-bn"], ["list"]])
def test_a_switch_that_is_none_is_an_error_in_a_sentence(command, monkeypatch, capsys):
    monkeypatch.setenv("BNKIT_KERNELS", "0")
    assert main(command) == 1
    assert capsys.readouterr().err == "error: BNKIT_KERNELS is '0'; it must be 'on' or 'off'.\n"


def test_ctrl_c_while_python_imports_is_one_word(tmp_path):
    (tmp_path / "tqdm.py").write_text("raise KeyboardInterrupt")  # the first that is imported
    places = {**os.environ, "PYTHONPATH": f"{tmp_path}:{paths.root()}"}
    command = [sys.executable, "-m", "bnkit", "list"]
    done = subprocess.run(command, env=places, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "stopped\n")


def test_a_list_of_which_nobody_reads_the_end_ends_in_silence():
    """As in `list | head`."""
    nobody, end = os.pipe()
    os.close(nobody)
    command = [sys.executable, "-m", "bnkit", "list"]
    places = {**os.environ, "PYTHONPATH": str(paths.root())}
    done = subprocess.run(command, env=places, stdout=end, stderr=subprocess.PIPE, timeout=60)
    os.close(end)
    assert (done.returncode, done.stderr) == (0, b"")
