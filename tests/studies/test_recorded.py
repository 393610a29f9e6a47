"""What the chapters on recorded runs share: the runs of common seeds, the paper's curves, words."""

import json
from dataclasses import replace

import numpy as np
import pytest
from synthetic_runs import run

from bnkit import paths
from bnkit.studies import recorded


def test_networks_are_shown_for_the_seeds_that_all_have():
    runs = {"a": [run("batch", seed) for seed in (3, 0, 2)], "b": [run(None, s) for s in (2, 1, 3)]}
    seeds = {net: [one.seed for one in group] for net, group in recorded.shared(runs).items()}
    assert seeds == {"a": [2, 3], "b": [2, 3]}
    assert [one.seed for one in recorded.shared(runs, 1)["a"]] == [2]
    assert recorded.Shown(recorded.shared(runs)).seeds == 2


def test_a_run_diverged_if_its_manifest_says_when():
    one = run("batch", 0)
    assert not recorded.diverged(one)
    assert not recorded.diverged(replace(one, manifest={}))
    assert recorded.diverged(replace(one, manifest={"diverged_at": 0}))


def test_a_page_of_other_runs_says_so_first_and_which_diverged():
    well, lost = run("batch", 0), replace(run("batch", 1), manifest={"diverged_at": 0})
    assert recorded.Shown({"a": [well]}).lost == ""
    said = recorded.Shown({"a": [well, lost]}, recorded=False).aside("the runs of the book")
    assert "Diverged, and ended there: mnist/made-up/seed-1." in said
    assert "it means that of the runs of the book" in said


def test_the_papers_curves_are_those_of_the_file():
    curves = recorded.digitized()
    content = json.loads((paths.paper() / "curves.json").read_text())
    steps, values = curves["figure1a/with_bn"]
    assert [[x, y] for x, y in zip(steps, values, strict=True)] == content["figure1a/with_bn"]
    assert set(curves) == set(content) - {"about"}


def test_a_digitized_curve_is_read_along_its_lines_and_not_beyond_them():
    curve = (np.array([1000.0, 2000.0]), np.array([0.5, 0.7]))
    assert recorded.at(curve, 1500) == pytest.approx(0.6)
    assert recorded.at(curve, 980) == 0.5  # within the error of its end
    assert np.isnan(recorded.at(curve, 900))
    assert np.isnan(recorded.at(curve, 2100))


def test_numbers_come_with_their_deviation_over_seeds():
    assert recorded.show([0.97, 0.99], 1, 100) == "98.0 ± 1.4"
    assert recorded.show([0.5, 0.7], 1, 100) == "60.0 ± 14.1"
    assert recorded.show([0.5], 3) == "0.500"
    assert recorded.show([-0.5], 2) == "−0.50"
    assert recorded.show([-2]) == "−2.0"


def test_seeds_that_never_got_there_are_counted():
    assert recorded.show_reached([np.inf, 1200], 0) == "1,200 (1 of 2)"
    assert recorded.show_reached([np.inf]) == recorded.show_reached([0]) == "never"


def test_numbers_in_words():
    assert recorded.signed(-0.25) == "−0.2"
    assert recorded.signed(1) == "+1.0"
    assert recorded.count(1, "seed") == "1 seed"
    assert recorded.count(2, "seed") == "2 seeds"
