"""How libraries differ: their recorded cards, and a trained network moved between any two."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from bnkit import paths
from bnkit.conformance import Card, from_json, judge, recipe
from bnkit.conformance.asked import PROBES, QUESTIONS
from bnkit.conformance.card import number, shown
from bnkit.conformance.conduct import WORK
from bnkit.conformance.findings import Finding
from bnkit.conformance.recipe import Weights
from bnkit.networks.digits import Digits

NOT_LIBRARIES = {"python", "platform", "day"}


def cards() -> dict[str, Card]:
    """The recorded cards by name, in alphabetical order, which is no order of merit."""
    files = (paths.root() / "data" / "conformance").glob("*.json")
    found = [from_json(file.read_text(encoding="utf-8")) for file in files]
    return {card.name: card for card in sorted(found, key=lambda card: card.name.lower())}


def versions(card: Card) -> str:
    """With what a card was made: "flax 0.12.8, jax 0.10.2"."""
    return ", ".join(f"{k} {v}" for k, v in card.made.items() if k not in NOT_LIBRARIES)


# ---- Tables --------------------------------------------------------------------------------------


def link(name: str) -> str:
    """A question's name, leading to where the page says what it asks."""
    return f'<a href="#probe-{name}">{name}</a>'


def asked() -> list[tuple[str, str]]:
    """Every question and probe, each an anchor, with the first line of what it asks."""
    about = {name: ask.__doc__.split("\n")[0] for name, ask in QUESTIONS.items()}
    about |= {name: probe.about for name, probe in PROBES.items()}
    return [(f'<span id="probe-{name}">`{name}`</span>', text) for name, text in about.items()]


def answers(found: Mapping[str, Card], question: str) -> dict[str, list[str]]:
    """Who answers what: answer -> names, the most frequent answer first."""
    by_answer: dict[str, list[str]] = {}
    for card in found.values():
        by_answer.setdefault(shown(card.conventions[question]), []).append(card.name)
    return dict(sorted(by_answer.items(), key=lambda item: (-len(item[1]), item[0])))


def convention_rows(found: Mapping[str, Card]) -> list[tuple[str, str, str]]:
    """Question, answer, who: a row for each answer, the question named once."""
    rows = []
    for question in QUESTIONS:
        for i, (answer, names) in enumerate(answers(found, question).items()):
            others = i == 0 and len(names) > len(found) / 2 and len(names) < len(found)
            everybody = "all" if len(names) == len(found) else "; ".join(names)
            who = "all others" if others else everybody
            rows.append(("" if i else link(question), answer, who))
    return rows


def worst(card: Card, probe: str) -> Finding | None:
    """A probe's finding where it does not hold, else its largest; None where none gave an answer."""
    given = [f for f in card.of(probe) if f.holds is not None or f.spacings is not None]
    if not given:
        return None
    return max(given, key=lambda f: (f.holds is False, f.spacings or 0.0))


def cell(card: Card, probe: str, dtype: str | None = None) -> str:
    """A finding in a cell of a table: its spacings, bold beyond the limit, a dash for no answer."""
    given = card.of(probe, dtype) if dtype else [worst(card, probe)]
    given = [f for f in given if f is not None]
    if not given or (given[0].holds is None and given[0].spacings is None):
        return "–"
    finding = given[0]
    text = number(finding.spacings) if finding.spacings is not None else "no"
    beyond_rounding = not finding.holds  # also where a simpler probe was failed already
    return f"**{text}**" if beyond_rounding else "yes" if text == "no" else text


def beyond(found: Mapping[str, Card], probe: str) -> list[str]:
    """Names, dtypes and notes of the cards on which a probe does not hold."""
    lines = []
    for card in found.values():
        failed = [f for f in card.of(probe) if f.holds is False]
        if failed:
            dtypes = ", ".join(f.dtype for f in failed)
            largest = max((f.spacings for f in failed if f.spacings is not None), default=None)
            said = failed[0].note if largest is None else number(largest)
            lines.append(f"{card.name} ({dtypes}: {said})")
    return lines


def unasked(found: Mapping[str, Card]) -> dict[str, list[str]]:
    """Probe -> names of the cards that have no row of it, since they were made before it was."""
    older: dict[str, list[str]] = {}
    for name, probe in PROBES.items():
        for card in found.values():
            taken = {f.dtype for f in card.of("forward")}
            due = probe.dtypes in (None, (WORK,)) or not taken.isdisjoint(probe.dtypes)
            if due and not card.of(name):
                older.setdefault(name, []).append(card.name)
    return older


# ---- A network that moves ------------------------------------------------------------------------


class Network(NamedTuple):
    """A trained network of two layers with batch normalization between them, in float64."""

    inputs: np.ndarray
    """What the normalization receives from the test images, (297, d)."""
    weights: Weights
    head: np.ndarray
    """The layer after it, (10, d), behind a ReLU."""
    bias: np.ndarray
    labels: np.ndarray

    def logits(self, weights: Weights, rule: judge.Rule) -> np.ndarray:
        """The network's answers, (297, 10), its normalization by these weights and this rule."""
        y = judge.infer(self.inputs, *weights, rule=rule).y.astype(np.float64)
        return np.maximum(y, 0) @ self.head.T + self.bias


def trained(steps: int, seed: int, width: int = 32) -> tuple[Network, nn.Sequential]:
    """A network for scikit-learn's digits, trained by torch, and the torch module itself.

    Pixels run from 0 to 1 and the first weights are small, so that some running variances are near
    the ε that libraries choose, as in deep networks.
    """
    digits = Digits.load("unit", np.float64)
    torch.manual_seed(seed)
    first, last = nn.Linear(64, width, bias=False), nn.Linear(width, 10)
    net = nn.Sequential(first, nn.BatchNorm1d(width), nn.ReLU(), last).double()
    with torch.no_grad():
        net[0].weight *= torch.logspace(-3, 0, width)[:, None]
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    x, labels = torch.tensor(digits.x), torch.tensor(digits.labels, dtype=torch.long)
    chance = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        batch = torch.randint(len(x), (60,), generator=chance)
        loss = nn.functional.cross_entropy(net(x[batch]), labels[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    net.eval()
    bn = net[1]
    parts = (bn.weight, bn.bias, bn.running_mean, bn.running_var)
    with torch.no_grad():
        inputs = net[0](torch.tensor(digits.x_test)).numpy()
    weights = Weights(*(part.detach().numpy().copy() for part in parts))
    head, bias = (part.detach().numpy() for part in (net[3].weight, net[3].bias))
    return Network(inputs, weights, head, bias, digits.test_labels), net


class Moved(NamedTuple):
    """What a move from one library's conventions to another's does to a network's answers."""

    by_recipe: float
    """Largest change of a logit, relative to the largest logit."""
    copied: float
    """The same when the four vectors are copied as they are."""


def move(network: Network, source: Mapping[str, Any], target: Mapping[str, Any]) -> Moved:
    """Move the network's weights between the conventions of two cards and compare its answers."""
    one, other = recipe.at_inference(source), recipe.at_inference(target)
    before = network.logits(network.weights, one)
    scale = np.abs(before).max()
    after = network.logits(recipe.between(network.weights, source, target), other)
    copied = network.logits(network.weights, other)
    return Moved(*(float(np.abs(y - before).max() / scale) for y in (after, copied)))


def into_torch(network: Network, source: Mapping[str, Any], layer: nn.Module) -> float:
    """The same into a real layer with torch's face: largest change of its output, relative."""
    target = {"epsilon": layer.eps, "epsilon_place": judge.INSIDE}
    moved = recipe.between(network.weights, source, target)
    names = ("weight", "bias", "running_mean", "running_var")
    state = {name: torch.tensor(value) for name, value in zip(names, moved, strict=True)}
    layer.double().load_state_dict(state, strict=False)
    y = layer.eval()(torch.tensor(network.inputs)).detach().numpy()
    rule = recipe.at_inference(source)
    expected = judge.infer(network.inputs, *network.weights, rule=rule).y.astype(np.float64)
    return float(np.abs(y - expected).max() / np.abs(expected).max())
