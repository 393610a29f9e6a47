"""A bank is its networks, each trained alone: by autograd in float64, and whatever the others do."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bnkit.layers import BatchNorm
from bnkit.networks.bank import ACTIVATIONS, Bank
from bnkit.networks.mlp import MLP

INPUTS, M = 12, 7
HIDDEN = (6, 6, 5)  # rooms of two widths


def network(seed: int, norm=None, dtype=torch.float64, activation="sigmoid") -> MLP:
    made = MLP(
        INPUTS, HIDDEN, 4, norm=norm, activation=activation, init_sigma=0.7,
        generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    made = made.to(dtype)
    generator = torch.Generator().manual_seed(100 + seed)
    with torch.no_grad():  # gamma 1 and biases 0 would hide where they enter
        for vector in (one for one in made.parameters() if one.ndim == 1):
            vector += 0.3 * torch.randn(vector.shape, generator=generator, dtype=dtype)
    return made


def batch(step: int, group: int, dtype=torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1000 * group + step)
    x = torch.randn(M, INPUTS, generator=generator, dtype=dtype)
    return x, torch.randint(0, 4, (M,), generator=generator)


def train(bank: Bank, steps: int, dtype=torch.float64) -> Tensor:
    for step in range(steps):
        xs, labels = zip(*(batch(step, g, dtype) for g in range(len(bank.groups))), strict=True)
        losses = bank.step(xs, labels)
    return losses


def alone(model: MLP, rate: float, momentum: float, group: int, steps: int) -> Tensor:
    """The same by autograd and torch's optimiser; the last loss."""
    optimiser = torch.optim.SGD(model.parameters(), lr=rate, momentum=momentum)
    for step in range(steps):
        x, labels = batch(step, group)
        loss = cross_entropy(model(x), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return loss.detach()


def written(bank: Bank, place: int, like: MLP) -> list[Tensor]:
    bank.write(place, like)
    return [parameter.detach().clone() for parameter in like.parameters()]


@pytest.mark.parametrize("activation", [name.lower() for name in ACTIVATIONS])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("norm", [None, BatchNorm, nn.BatchNorm1d])
def test_every_network_is_the_one_that_autograd_trains_alone(norm, momentum, activation):
    groups, rates = (2, 1, 3), (0.1, 0.5, 0.03, 0.2, 0.2, 1.0)
    models = [network(seed, norm, activation=activation) for seed in range(6)]
    bank = Bank(models, groups, rates, M, momentum)
    losses = train(bank, 6)
    of_group = [0, 0, 1, 2, 2, 2]
    for place, (model, rate, group) in enumerate(zip(models, rates, of_group, strict=True)):
        loss = alone(model, rate, momentum, group, 6)
        torch.testing.assert_close(losses[place], loss, rtol=1e-11, atol=1e-12, equal_nan=False)
        for mine, theirs in zip(
            written(bank, place, network(9, norm, activation=activation)),
            model.parameters(),
            strict=True,
        ):
            torch.testing.assert_close(
                mine, theirs.detach(), rtol=1e-10, atol=1e-11, equal_nan=False
            )


@pytest.mark.parametrize("norm", [None, BatchNorm])
def test_single_steps_agree_to_the_rounding_of_float32(norm):
    """What a longer run amplifies is there from the first step, and no more than that."""
    model = network(0, norm, torch.float32)
    exact = network(0, norm, torch.float32).double()
    bank = Bank([model], [1], [0.5], M)
    x, labels = batch(0, 0)
    bank.step([x.float()], [labels])
    loss = cross_entropy(exact(x.float().double()), labels)
    loss.backward()
    for mine, theirs in zip(written(bank, 0, model), exact.parameters(), strict=True):
        wanted = theirs.detach() - 0.5 * theirs.grad
        spacing = torch.finfo(torch.float32).eps * wanted.abs().max()
        assert (mine.double() - wanted).abs().max() <= 16 * spacing


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 3), min_size=1, max_size=4), st.booleans(), st.integers(0, 5))
def test_a_network_does_not_see_its_neighbours(groups, normalised, chosen):
    """Whatever the division into groups: another company, the same network, to rounding."""
    norm = BatchNorm if normalised else None
    networks = sum(groups)
    place = chosen % networks
    models = [network(seed, norm) for seed in range(networks)]
    company = Bank(models, groups, [0.3] * networks, M)
    train(company, 3)
    ends = [sum(groups[: n + 1]) for n in range(len(groups))]
    group = next(n for n, end in enumerate(ends) if place < end)
    hermit = Bank([models[place]], [1], [0.3], M)
    for step in range(3):
        x, labels = batch(step, group)
        hermit.step([x], [labels])
    like = network(0, norm)
    for mine, theirs in zip(written(company, place, like), written(hermit, 0, like), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-13, equal_nan=False)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("norm", [None, BatchNorm])
def test_what_diverges_leaves_the_others_alone(norm, momentum):
    """Its weights are not even numbers; theirs are, bit for bit, what a sound neighbour leaves."""
    rates = (0.1, 0.1, 0.1)
    ends = []
    for ruined in (False, True):
        models = [network(seed, norm) for seed in range(3)]
        if ruined:
            with torch.no_grad():
                for weight, bad in zip(models[1].parameters(), (torch.nan, torch.inf) * 9):  # noqa: B905
                    weight.fill_(bad)
        bank = Bank(models, [2, 1], rates, M, momentum)
        losses = train(bank, 4)
        assert torch.isfinite(losses[[0, 2]]).all()
        assert bool(torch.isfinite(losses[1])) is not ruined
        like = network(0, norm)
        ends.append([written(bank, place, like) for place in (0, 2)])
    for sound, beside in zip(*ends, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(sound, beside, strict=True))


@pytest.mark.parametrize("shift", [0.0, 1e3])
def test_a_large_mean_costs_the_variance_nothing(shift):
    """In float32 E[z²] - E[z]² would have lost it all: 1,000 squared leaves steps of 0.06."""
    model = network(0, BatchNorm, torch.float32)
    x, labels = batch(0, 0, torch.float32)
    losses = []
    for moved in (0.0, shift):
        bank = Bank([network(0, BatchNorm, torch.float32)], [1], [0.5], M)
        with torch.no_grad():
            # one input is a constant, which moves all that the first layer receives
            bank.first[0].value[0] = 1.0
        there = x.clone()
        there[:, 0] = moved
        losses.append(bank.step([there], [labels]).item())
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    del model


def test_a_checkpoint_keeps_all_that_matters():
    def fresh():
        return Bank([network(seed, BatchNorm) for seed in range(3)], [2, 1], [0.1] * 3, M, 0.9)

    whole, first, second = fresh(), fresh(), fresh()
    train(whole, 5)
    train(first, 2)
    for mine, theirs in zip(second.tensors().values(), first.tensors().values(), strict=True):
        mine.copy_(theirs)
    for step in range(2, 5):
        second.step(*zip(*(batch(step, group) for group in range(2)), strict=True))
    for name, tensor in whole.tensors().items():
        assert torch.equal(tensor, second.tensors()[name]), name


def test_two_hundred_networks_of_the_paper_take_the_memory_that_is_said(capsys):
    """Weights and room for one step, and neither a copy nor a graph: some 0.6 MiB a network."""
    model = MLP(784, norm=BatchNorm)
    parameters = sum(one.nbytes for one in model.parameters())
    bank = Bank([model] * 200, [200], [0.1] * 200, 60)
    layers = 2 * 3 + 2 + 1  # activations and what is centred; two rooms; the joint product
    assert bank.nbytes() == 200 * (parameters + layers * 60 * 100 * 4)
    with capsys.disabled():
        print(f" [200 networks: {bank.nbytes() / 2**20:.0f} MiB]", end="")


@pytest.mark.parametrize(
    ("groups", "rates"), [((2,), (0.1,)), ((1, 1), (0.1,)), ((), ()), ((1,), (0.1, 0.2))]
)
def test_a_bank_without_a_place_for_each_is_refused(groups, rates):
    with pytest.raises(ValueError, match="a rate and a place in a group for each"):
        Bank([network(0)], groups, rates, M)


# Wrong variants, which the checks above must reject


def gradient_mutants() -> dict[str, object]:
    def through(dgamma_share: float, dbeta_share: float):
        def wrong(self, layer, dy, spread):
            centred, (inverse, scale) = self.centred[layer], spread
            dgamma = torch.bmm(self.sum, dy * centred) * inverse
            dbeta = torch.bmm(self.sum, dy)
            xhat, m = centred * inverse, self.m
            dz = scale * (dy - dbeta_share * dbeta / m - dgamma_share * xhat * dgamma / m)
            self.gains[layer].move(dgamma)
            self.biases[layer].move(dbeta)
            room = self._room(dy, but=dy)
            (room if layer else self.beside).copy_(dz)
            return room

        return wrong

    return {"none": through(1, 1), "no variance": through(0, 1), "no mean": through(1, 0)}


@pytest.mark.parametrize("mutant", gradient_mutants())
def test_a_wrong_gradient_is_caught(mutant, monkeypatch):
    monkeypatch.setattr(Bank, "_through_norm", gradient_mutants()[mutant])
    try:
        test_every_network_is_the_one_that_autograd_trains_alone(BatchNorm, 0.0, "sigmoid")
        caught = False
    except AssertionError:
        caught = True
    assert caught is (mutant != "none")


def test_the_widths_of_these_tests_differ():
    assert any(a == b for a, b in pairwise(HIDDEN))
    assert any(a != b for a, b in pairwise(HIDDEN))
