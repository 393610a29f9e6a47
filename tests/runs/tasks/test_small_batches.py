"""The recorded runs of chapter 10: what their names say, all there, made by today's recipes, and
repeatable.
"""

from dataclasses import replace

import pytest
import torch

from bnkit import __main__ as cli
from bnkit import datasets
from bnkit.networks import convnet
from bnkit.runs import experiments, records
from bnkit.runs.tasks import small_batches

torch.set_num_threads(1)  # networks this small gain nothing from more

TINY = small_batches.SmallBatchRecipe(
    norm="batch", batch_size=8, dataset="digits", examples=480, channels=(8, 8)
)
RUNS = {
    name.removeprefix("after/"): each
    for name, each in experiments.EXPERIMENTS.items()
    if name.startswith("after/")
}


def test_the_rate_is_in_proportion_to_the_batch_and_every_run_sees_the_same_images():
    runs = [each.recipe for name, each in RUNS.items() if name.startswith("conv-")]
    assert len(runs) == 15
    for recipe in runs:
        assert recipe.learning_rate / recipe.batch_size == pytest.approx(0.1 / 32)
        assert recipe.steps * recipe.batch_size == 60_000
        assert (recipe.rate(0), recipe.rate(recipe.steps)) == (recipe.learning_rate, 0)
        assert recipe.rate(recipe.steps // 5) == pytest.approx(0.8 * recipe.learning_rate)
        assert replace(recipe, norm="batch", batch_size=2) == RUNS["conv-batch-2"].recipe


def test_names_say_what_the_recipes_hold():
    for name, each in RUNS.items():
        kind, *rest = name.split("-")
        if kind == "linear":
            assert each.recipe.norm == (rest[0] == "with")
        elif kind == "parts":
            recipe = each.recipe
            says = f"{recipe.activation}-{recipe.depth}-start-{recipe.start:g}"
            assert "-".join(rest) == says
        else:
            assert (each.recipe.norm, str(each.recipe.batch_size)) == tuple(rest)


def test_a_run_learns_and_can_be_repeated():
    first, second = experiments.train(TINY), experiments.train(TINY)
    assert first.curves == second.curves
    assert first.recipe == TINY.as_dict()
    steps, accuracy = first.curve("test_accuracy")
    assert steps.tolist() == [60]
    assert accuracy[-1] > 0.3
    assert 0.1 < first.curve("test_accuracy_batch")[1][-1] != accuracy[-1]
    assert "test_accuracy_batch" not in experiments.train(replace(TINY, norm="group")).curves, (
        "it has no batch statistics"
    )


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """One small run of this family, and nothing else, in a folder of its own."""
    monkeypatch.setattr(records.paths, "runs", lambda: tmp_path)
    monkeypatch.setattr(records.paths, "cache", lambda: tmp_path / "cache")
    monkeypatch.setattr(
        experiments,
        "EXPERIMENTS",
        {"after/conv-batch-8": experiments.Experiment("after/conv-batch-8", TINY, 1, "-")},
    )


def test_a_run_is_listed_stored_and_verified_like_any_other(tiny, monkeypatch, capsys):
    assert experiments.missing() == [("after/conv-batch-8", 0)]
    assert cli.main(["run", "after/conv-batch-8"]) == 0
    assert "after/conv-batch-8/seed-0: test accuracy 0." in capsys.readouterr().out
    assert experiments.missing() == []
    assert records.load("after", "conv-batch-8", 0).recipe == TINY.as_dict()
    assert cli.main(["list"]) == 0
    assert "1/1 recorded" in capsys.readouterr().out
    assert cli.main(["verify", "after/conv-batch-8", "--steps", "5"]) == 0
    assert "verified, bit for bit: all of it is equal" in capsys.readouterr().out
    changed = experiments.Experiment("after/conv-batch-8", replace(TINY, momentum=0), 1, "-")
    monkeypatch.setitem(experiments.EXPERIMENTS, changed.name, changed)
    assert experiments.missing() == [("after/conv-batch-8", 0)], "another recipe is another run"


@pytest.mark.parametrize(
    "options", [["--steps", "5"], ["--data", "somewhere"], ["--device", "cuda"]]
)
def test_part_of_a_run_is_refused(tiny, options, capsys):
    assert cli.main(["run", "after/conv-batch-8", *options]) == 1
    assert (
        "after/conv-batch-8 is made whole and on the CPU: leave out the options"
        in capsys.readouterr().err
    )


def test_the_command_that_an_error_names_makes_the_run(tiny):
    with pytest.raises(records.RecordError) as error:
        records.load("after", "conv-batch-8", 0)
    command = str(error.value).partition("python -m bnkit ")[2].split()
    assert cli.main(command) == 0
    assert records.load("after", "conv-batch-8", 0).recipe["seed"] == 0


def test_pictures_are_standardised():
    data = datasets.load("digits")
    x = small_batches.pictures(data.train_images, data)
    assert x.shape == (1500, 1, 8, 8)
    assert abs(x.mean()) < 1e-5
    assert abs(x.std() - 1) < 1e-3


# The network


def test_networks_differ_in_the_norm_alone():
    nets = {
        norm: convnet.convnet(norm, generator=torch.Generator().manual_seed(1))
        for norm in (*convnet.NORMS, None)
    }
    x = torch.randn(5, 1, 12, 12, generator=torch.Generator().manual_seed(2))
    first = nets["batch"][0].weight
    assert all(torch.equal(net[0].weight, first) for net in nets.values())
    assert all(net(x).shape == (5, 10) for net in nets.values())
    assert nets[None][0].bias is not None
    assert nets["group"][0].bias is None
    alone = nets["layer"](x[:1])
    assert torch.allclose(alone, nets["layer"](x)[:1], atol=1e-5), "no other example matters"
    assert not torch.allclose(nets["batch"](x[:2])[:1], nets["batch"](x)[:1], atol=1e-3)


def test_an_unknown_norm_is_refused():
    with pytest.raises(
        ValueError, match="there is no norm 'instance'; there are: batch, group, layer"
    ):
        convnet.convnet("instance")
