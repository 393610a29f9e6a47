"""A bank gives each recipe the record that it asks for: the loop's, to rounding."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from checks import killed_at

from bnkit import paths
from bnkit.datasets import binary
from bnkit.networks import mlp
from bnkit.runs import bank, experiments
from bnkit.runs.bank import BankError, Runs
from bnkit.runs.checkpoints import Checkpoint
from bnkit.runs.tasks import mnist, search
from bnkit.runs.tasks.linear import LinearRecipe
from bnkit.runs.tasks.mnist import MLPRecipe

BASE = MLPRecipe(dataset="digits", steps=120, learning_rate=0.5)

MIXED = [
    replace(BASE, norm=norm, seed=seed, learning_rate=rate, init_sigma=sigma)
    for norm, seed, rate, sigma in [
        ("batch", 0, 0.5, 0.1), (None, 1, 1.0, 0.1), ("batch", 1, 0.1, 0.05),
        (None, 0, 0.5, 0.2), ("batch", 0, 1.0, 0.1),
    ]
]  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def largest(a: list, b: list) -> float:
    return float(np.abs(np.asarray(a, float) - np.asarray(b, float)).max())


@pytest.mark.parametrize("pixels", binary.WAYS)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_every_record_is_the_one_that_the_loop_makes(pixels, momentum, monkeypatch):
    """In float64: what is left of a difference is no other mini-batch, weight or probe."""
    build = mnist.build
    monkeypatch.setattr(mnist, "build", lambda *about: build(*about).double())
    used = binary.Pixels.used
    monkeypatch.setattr(binary.Pixels, "used", lambda *about: used(*about).astype(np.float64))
    recipes = [
        replace(one, pixels=pixels, momentum=momentum, learning_rate=0.1 + n / 10)
        for n, one in enumerate(MIXED[:4])
    ]
    together = experiments.train_together(recipes)
    for recipe, made in zip(recipes, together, strict=True):
        alone = experiments.train(recipe, device="cpu")
        assert made.recipe == alone.recipe
        # two with BN and two without, each two in the order of their seeds
        assert made.manifest["bank"] == {"networks": 2, "place": recipe.seed}
        assert "bank" not in alone.manifest
        assert made.manifest["checksums"]["0"] == alone.manifest["checksums"]["0"]
        assert made.curves.keys() == alone.curves.keys()
        for name, curve in alone.curves.items():
            assert made.curves[name]["steps"] == curve["steps"]
            # the loop sums its losses in float32; records round
            close = 1e-5 if name == "loss" else 0.0
            assert largest(made.curves[name]["values"], curve["values"]) <= close, name


def test_in_float32_the_record_is_the_loops_to_rounding():
    for recipe, made in zip(MIXED, experiments.train_together(MIXED), strict=True):
        alone = experiments.train(recipe, device="cpu")
        assert largest(made.curves["loss"]["values"], alone.curves["loss"]["values"]) < 1e-4
        # of 297 test pictures at most one
        off = largest(
            made.curves["test_accuracy"]["values"], alone.curves["test_accuracy"]["values"]
        )
        assert off <= 1.01 / 297


def test_a_network_is_the_same_in_every_company():
    """Another division into banks and groups, the same run: bit for bit where products are."""
    for recipe, made in zip(MIXED, experiments.train_together(MIXED), strict=True):
        (alone,) = experiments.train_together([recipe])
        assert alone.manifest["bank"] == {"networks": 1, "place": 0}
        assert largest(made.curves["loss"]["values"], alone.curves["loss"]["values"]) < 1e-4


def test_more_networks_than_a_bank_holds_take_turns(monkeypatch):
    whole = Runs(MIXED).train()
    monkeypatch.setattr(bank, "TOGETHER", 2)
    parted = Runs(MIXED)
    assert sorted(len(places) for places, _ in parted.banks) == [1, 2, 2]
    for one, other in zip(whole, parted.train(), strict=True):
        assert largest(one.curves["loss"]["values"], other.curves["loss"]["values"]) < 1e-4


def test_one_that_diverges_ends_and_its_neighbours_are_what_they_were():
    """ReLUs without BN at a rate of 1e4; the others do not change by a bit."""
    calm = [replace(one, activation="relu", learning_rate=0.1) for one in MIXED[:4]]
    wild = [*calm[:3], replace(calm[3], learning_rate=1e4)]
    expected, found = experiments.train_together(calm), experiments.train_together(wild)
    assert found[3].manifest["diverged_at"] == 100
    assert found[3].curves["test_accuracy"]["steps"] == [0]
    assert experiments.train(wild[3], device="cpu").manifest["diverged_at"] == 100
    for a, b in zip(expected[:3], found[:3], strict=True):
        assert a.curves == b.curves
        assert a.manifest["checksums"] == b.manifest["checksums"]
        assert b.manifest["diverged_at"] is None


def test_when_all_have_diverged_nothing_more_is_computed():
    wild = [replace(BASE, activation="relu", learning_rate=1e4, seed=seed) for seed in (0, 1)]
    runs = Runs(wild)
    each = runs.train()
    assert [one.diverged_at for one in each] == [100, 100]
    assert runs.step == 100


def test_a_killed_bank_goes_on_from_its_checkpoint_and_ends_the_same(tmp_path, monkeypatch):
    """A real kill -9, with pixels drawn at every use and momentum to remember."""
    change = {"pixels": "drawn", "momentum": 0.9, "steps": 600}
    recipes = [replace(one, **change, learning_rate=0.05) for one in MIXED[:3]]
    place = tmp_path / "bank.npz"
    code = (
        "import sys, torch; from pathlib import Path; from dataclasses import replace\n"
        "from bnkit.runs import bank, experiments; from bnkit.runs.checkpoints import Checkpoint\n"
        "from bnkit.runs.tasks.mnist import MLPRecipe\n"
        "torch.set_num_threads(1); Checkpoint.EVERY = 0; bank.Runs.PAUSE_EVERY = 200\n"
        f"experiments.train_together({recipes!r}, checkpoint=Path(sys.argv[1]))"
    )
    monkeypatch.setattr(Runs, "PAUSE_EVERY", 200)
    killed_at(place, code)
    told: list[int] = []
    resumed = experiments.train_together(recipes, checkpoint=place, on_step=told.append)
    assert told[0] > 200, "it started from the beginning"
    for one, other in zip(resumed, experiments.train_together(recipes), strict=True):
        assert one.curves == other.curves
        assert one.manifest["checksums"] == other.manifest["checksums"]


def test_the_checkpoint_of_other_recipes_is_not_taken_up(tmp_path, monkeypatch):
    monkeypatch.setattr(Checkpoint, "EVERY", 0)
    monkeypatch.setattr(Runs, "PAUSE_EVERY", 50)
    place = tmp_path / "bank.npz"
    experiments.train_together(MIXED[:2], checkpoint=place)
    assert place.exists()
    told: list[int] = []
    experiments.train_together(MIXED[1:3], checkpoint=place, on_step=told.append)
    assert told[0] == 50


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pixels": "drawn"}, "pixels='threshold' and pixels='drawn'"),
        ({"momentum": 0.9}, "momentum=0.0 and momentum=0.9"),
        ({"steps": 100}, "steps=120 and steps=100"),
        ({"batch_size": 30}, "batch_size=60 and batch_size=30"),
        ({"dataset": "mnist"}, "dataset='digits' and dataset='mnist'"),
        ({"hidden": (50, 50)}, "hidden="),
        ({"activation": "tanh"}, "activation="),
        ({"eps": 1e-3}, "eps="),
    ],
)
def test_recipes_that_cannot_share_a_bank_are_named(change, said):
    with pytest.raises(BankError, match="cannot share a bank") as told:
        Runs([BASE, replace(BASE, **change)])
    assert said in str(told.value)
    assert "norm, seed, learning_rate, init_sigma" in str(told.value)


@pytest.mark.parametrize("recipes", [[], [BASE, LinearRecipe(norm=True)]])
def test_what_is_no_bank_at_all_is_one_error(recipes):
    with pytest.raises(BankError, match=r"recipes of Section 4\.1"):
        Runs(recipes)


def test_runs_of_a_seed_hold_their_pictures_once():
    drawn = [
        replace(BASE, seed=seed, pixels="drawn", norm=norm)
        for seed in (0, 1)
        for norm in ("batch", None)
    ]
    tests = {task.test.data_ptr() for task in Runs(drawn).tasks}
    assert len(tests) == 2  # of each seed its own draw
    plain = [replace(one, pixels="threshold") for one in drawn]
    assert len({task.test.data_ptr() for task in Runs(plain).tasks}) == 1


def test_drawn_pixels_are_those_of_the_step_wherever_a_run_begins():
    task = mnist.Task(replace(BASE, pixels="drawn"), torch.device("cpu"))
    from_zero = [x for x, _ in (batch for batch, _ in zip(task.batches(), range(9), strict=False))]
    from_four = [x for x, _ in (batch for batch, _ in zip(task.batches(4), range(5), strict=False))]
    assert all(torch.equal(a, b) for a, b in zip(from_zero[4:], from_four, strict=True))
    population = [list(task.population()) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*population, strict=True))


def test_the_model_that_is_looked_at_is_the_networks():
    runs = Runs([MIXED[0]])
    runs.train(watches=lambda task, checksums: [])
    _, one = runs.banks[0]
    like = mlp.MLP(64, norm=mnist.norm_of(MLPRecipe(dataset="digits", norm="batch")))
    one.write(0, like)
    assert any(
        not torch.equal(a, b)
        for a, b in zip(like.parameters(), runs.tasks[0].model.parameters(), strict=True)
    )


# A search: a bank whose record is one


SEARCH = search.SearchRecipe(
    dataset="digits", pixels="drawn", learning_rates=(0.5, 1.0), init_sigmas=(0.1, 0.05), steps=300
)


def test_a_search_keeps_of_each_network_what_the_figure_shows():
    made = experiments.train(SEARCH, device="cpu")
    again = experiments.train_together(SEARCH.recipes())
    steps, accuracy = made.curve("test_accuracy")
    assert steps.tolist() == [250, 300]
    assert accuracy.shape == (2, 2, 2)  # steps, networks, settings
    for place, one in enumerate(again):
        net, setting = divmod(place, 2)
        assert accuracy[-1, net, setting] == pytest.approx(
            one.curve("test_accuracy")[1][-1], abs=1e-5
        )
        units = one.curve("quantiles")[1][-1]  # (units, 3)
        numbers = np.column_stack([units, units[:, 2] - units[:, 0]])
        kept = made.curve("inputs")[1][-1, net, setting]
        np.testing.assert_allclose(
            kept, np.percentile(numbers, (15, 50, 85), axis=0).T, rtol=6e-3, atol=2e-3
        )


def test_a_setting_of_a_search_may_have_biases_and_a_seed_of_its_own():
    own = replace(SEARCH, bias_sigmas=(0.0, 0.5), seeds=(3, 4))
    made = [(one.norm, one.bias_sigma, one.seed) for one in own.recipes()]
    assert made == [("batch", 0, 3), ("batch", 0.5, 4), (None, 0, 3), (None, 0.5, 4)]
    assert {one.seed for one in SEARCH.recipes()} == {0}
    assert not {"bias_sigmas", "seeds"} & set(SEARCH.as_dict())  # as in older records
    _, accuracy = experiments.train(own, device="cpu").curve("test_accuracy")
    alone = replace(own, learning_rates=(1.0,), init_sigmas=(0.05,), bias_sigmas=(0.5,), seeds=(4,))
    _, expected = experiments.train(alone, device="cpu").curve("test_accuracy")
    np.testing.assert_allclose(accuracy[:, :, 1:], expected, atol=3e-3)  # one digit of 360, rounded
    with pytest.raises(ValueError, match="zip"):
        replace(SEARCH, seeds=(1,)).recipes()


def test_a_network_of_a_search_that_diverges_is_marked(monkeypatch):
    monkeypatch.setattr(search, "EARLY", (100, 200))
    recipes = SEARCH.recipes()
    wild = [replace(one, activation="relu", learning_rate=0.1) for one in recipes]
    wild[3] = replace(wild[3], learning_rate=1e4)
    monkeypatch.setattr(search.SearchRecipe, "recipes", lambda self: wild)
    _, accuracy = experiments.train(SEARCH, device="cpu").curve("test_accuracy")
    assert (accuracy[:, 1, 1] == -1).all()
    assert (np.delete(accuracy.reshape(3, 4), 3, axis=1) > 0).all()


def test_the_outcome_of_a_search_is_the_best_that_it_came_to():
    record = experiments.train(replace(SEARCH, steps=250), device="cpu")
    best = np.max(record.curve("test_accuracy")[1][-1])
    assert f"test accuracy up to {best:.4f} after 250 steps" in experiments.outcome(record)


def test_a_record_of_a_bank_is_verified_in_its_old_place(tmp_path, monkeypatch):
    """Bit for bit, also the last of an odd number, whose rounding is another."""
    monkeypatch.setenv("BNKIT_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(paths, "cache", lambda: tmp_path / "cache")
    one = experiments.Experiment("digits/bank", BASE, 3, "a test")
    monkeypatch.setattr(experiments, "EXPERIMENTS", {one.name: one})
    experiments.run_together([(one.name, seed) for seed in range(3)])
    for seed in range(3):
        verdict = experiments.verify(one.name, seed, 100)
        assert verdict.ok
        assert verdict.exact
