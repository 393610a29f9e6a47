"""The loop trains, watches without touching, and goes on exactly where it stopped."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from bnkit.layers import BatchNorm
from bnkit.networks.mlp import MLP
from bnkit.runs import probes
from bnkit.runs.training import Progress, Recipe, Watch, fit, restore, sgd, state_arrays

RECIPE = Recipe(dataset="none", steps=20, learning_rate=0.5, momentum=0.9)


def net(norm=BatchNorm) -> MLP:
    return MLP(8, (6,), 3, norm=norm, init_sigma=0.5, generator=torch.Generator().manual_seed(0))


def batches(start: int = 0):
    while True:
        generator = torch.Generator().manual_seed(start)
        x = torch.randn(10, 8, generator=generator)
        yield x, x[:, :3].argmax(1)
        start += 1


def test_one_step_is_plain_gradient_descent():
    model, twin = net(), net()
    x, labels = next(batches())
    fit(model, batches(), replace(RECIPE, steps=1, momentum=0.0))
    torch.nn.functional.cross_entropy(twin(x), labels).backward()
    for after, before in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(after, before.detach() - 0.5 * before.grad, equal_nan=False)


def test_a_network_learns_one_batch_by_heart():
    model = net()
    x, labels = next(batches())
    fit(model, iter([(x, labels)] * 300), replace(RECIPE, steps=300))
    model.train()
    assert probes.accuracy(model, x, labels) == 1.0


def test_watching_changes_nothing():
    def measure(step, model, batch):
        with probes.inference(model, [x for _, (x, _) in zip(range(3), batches(), strict=False)]):
            return {"accuracy": probes.accuracy(model, *next(batches()))}

    watched, alone = net(), net()
    progress = fit(watched, batches(), RECIPE, [Watch(frozenset(range(0, 21, 5)), measure)])
    fit(alone, batches(), RECIPE)
    assert progress.curves["accuracy"]["steps"] == [0, 5, 10, 15, 20]
    for (name, a), b in zip(watched.state_dict().items(), alone.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_a_run_taken_up_again_is_the_run_that_never_stopped():
    whole, first, second = net(), net(), net()
    watch = Watch(
        frozenset({0, 4, 8, 13, 20}),
        lambda step, model, batch: {"checksum": probes.checksum(model)},
    )
    expected = fit(whole, batches(), RECIPE, [watch])

    class Killed(Exception):
        pass

    kept = {}
    optimiser = sgd(first, RECIPE)

    def pause(progress):
        if progress.step == 10:
            kept.update(arrays=state_arrays(first, optimiser), facts={**vars(progress)})
            raise Killed

    with pytest.raises(Killed):
        fit(first, batches(), RECIPE, [watch], optimiser=optimiser, pause_every=5, on_pause=pause)
    optimiser = sgd(second, RECIPE)
    restore(second, optimiser, kept["arrays"])
    progress = Progress(**kept["facts"])
    found = fit(
        second, batches(10), RECIPE, [watch], optimiser=optimiser, progress=progress, pause_every=5
    )
    assert found.curves["checksum"] == expected.curves["checksum"]
    assert found.curves["loss"]["steps"] == expected.curves["loss"]["steps"]
    assert found.curves["loss"]["values"] == pytest.approx(
        expected.curves["loss"]["values"], rel=1e-6
    )
    for (name, a), b in zip(second.state_dict().items(), whole.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_a_convolutional_run_is_taken_up_exactly_in_channels_last():
    """The momentum of a weight that lies channels last must not come back in another layout."""

    def train(stop: int) -> nn.Module:
        def fresh():
            torch.manual_seed(0)
            model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Flatten(), nn.Linear(20, 3))
            model.to(memory_format=torch.channels_last)
            return model, sgd(model, recipe)

        recipe = replace(RECIPE, steps=6)
        model, optimiser = fresh()
        for step in range(recipe.steps):
            if step == stop:
                kept = {
                    name: array.copy() for name, array in state_arrays(model, optimiser).items()
                }
                model, optimiser = fresh()
                restore(model, optimiser, kept)
            x = torch.randn(4, 3, 4, 4, generator=torch.Generator().manual_seed(step))
            loss = nn.functional.cross_entropy(model(x), torch.tensor([0, 1, 2, 0]))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return model

    for a, b in zip(train(3).parameters(), train(-1).parameters(), strict=True):
        assert torch.equal(a, b)


def test_divergence_is_said_with_the_step_and_never_becomes_a_number():
    model = MLP(
        8, (6,), 3, activation="relu", init_sigma=0.5, generator=torch.Generator().manual_seed(0)
    )
    watch = Watch(frozenset(range(0, 201, 10)), lambda step, model, batch: {"asked": step})
    recipe = replace(RECIPE, steps=200, learning_rate=1e30, momentum=0.0)
    progress = fit(model, batches(), recipe, [watch])
    assert progress.diverged_at == 10
    assert progress.step == 10
    assert progress.curves["asked"]["values"] == [0]
    assert all(map(math.isfinite, progress.curves.get("loss", {}).get("values", [])))


def test_an_unknown_field_of_a_recipe_is_an_error():
    with pytest.raises(TypeError, match="stepz"):
        Recipe(dataset="digits", stepz=3)
