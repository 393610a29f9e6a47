"""The page on libraries: its tables say what the cards say, and its network moves."""

import numpy as np
import pytest
import torch

from bnkit.conformance import Card
from bnkit.conformance.findings import Finding
from bnkit.conformance.judge import Rule
from bnkit.studies import across

TORCH = {"epsilon": 1e-5, "epsilon_place": "inside the root"}
KERAS = {"epsilon": 1e-3, "epsilon_place": "inside the root"}


def card(name, **conventions):
    usual = dict.fromkeys(across.QUESTIONS, "as all do") | conventions
    findings = (
        Finding("forward", "float64", False, 1e9, 0.5),
        Finding("forward", "float32", True, 2.0, 0.5),
        Finding("larger_mean", "float32", None, 1e7),
        Finding("deterministic", "float64", True),
        Finding("nan_stays", "float64", False, note="spoilt"),
        Finding("maps", "float64", None, note="not asked"),
    )
    return Card(name, usual, findings, {"lib": "1.0", "python": "3", "day": "2026-01-01"})


CARDS = {"a": card("a"), "b": card("b", epsilon=1e-3), "c": card("c")}


def test_recorded_cards_are_found_in_alphabetical_order():
    names = list(across.cards())
    assert names == sorted(names, key=str.lower)
    assert {"torch", "bnkit.reference"} <= set(names)


def test_who_answers_what():
    assert across.answers(CARDS, "epsilon") == {"as all do": ["a", "c"], "0.001": ["b"]}
    rows = across.convention_rows(CARDS)
    place = [row[0] for row in rows].index(across.link("epsilon"))
    assert [row[1:] for row in rows[place : place + 2]] == [
        ("as all do", "all others"), ("0.001", "b"),
    ]  # fmt: skip
    assert rows[0][1:] == ("as all do", "all")
    assert rows[place + 1][0] == ""


def test_cells_and_lines_of_findings():
    one = CARDS["a"]
    probes = ("forward", "larger_mean", "deterministic", "nan_stays", "maps", "dx")
    cells = [across.cell(one, probe) for probe in probes]
    assert cells == ["**1.0e+09**", "**1.0e+07**", "yes", "**no**", "–", "–"]
    assert across.cell(one, "forward", "float32") == "2.0"
    assert across.beyond({"a": one}, "forward") == ["a (float64: 1.0e+09)"]
    assert across.beyond({"a": one}, "nan_stays") == ["a (float64: spoilt)"]
    assert across.versions(one) == "lib 1.0"


def test_cards_without_a_row_that_was_due_are_named():
    rows = [Finding(p, d, True) for p in across.PROBES for d in ("float64", "float32")]
    whole = CARDS["a"]._replace(findings=tuple(rows))
    lacks = {"later_steps", "nan_stays", "float16_sum"}
    older = whole._replace(name="old", findings=tuple(f for f in rows if f.probe not in lacks))
    found = across.unasked({"a": whole, "old": older})
    assert found == {"later_steps": ["old"], "nan_stays": ["old"]}  # it takes no float16
    assert across.unasked({"a": whole}) == {}


def test_every_link_has_its_anchor():
    anchors = " ".join(name for name, _ in across.asked())
    for name in (*across.QUESTIONS, *across.PROBES):
        assert across.link(name).split('"')[1].removeprefix("#") in anchors


@pytest.fixture(scope="module")
def network():
    return across.trained(40, 0)


def test_the_network_answers_as_the_torch_module_that_it_was(network):
    ours, net = network
    x = torch.tensor(across.Digits.load("unit", np.float64).x_test)
    np.testing.assert_allclose(
        ours.logits(ours.weights, Rule()), net(x).detach().numpy(), rtol=0, atol=1e-12
    )


def test_it_moves_by_the_recipe_and_not_by_copying(network):
    moved = across.move(network[0], TORCH, KERAS)
    assert moved.by_recipe < 1e-13
    assert moved.copied > 1e-3
    assert across.move(network[0], TORCH, TORCH).copied == 0
    layer = torch.nn.BatchNorm1d(32)
    assert across.into_torch(network[0], KERAS, layer) < 1e-13
