"""Runs side by side: differences are marked where they exceed their spreads, and only there."""

from dataclasses import replace

import numpy as np
import pytest
from drawn import fits_a_phone, follows_the_page

from bnkit.page.quantities import as_curve, as_result
from bnkit.page.reruns import Rerun
from bnkit.plots import compared as figures
from bnkit.studies import compared as study
from bnkit.studies import swept


def run(rate: float, accuracies: list[float], **more) -> Rerun:
    made = {
        "accuracy": as_result("accuracy", accuracies, "%", "at the end"),
        "rank": as_result("rank", 59),
    }
    curve = as_curve("accuracy", [0, 100, 1000], [[10, 20, a] for a in accuracies], "%")
    parameters = {"rate": rate, "seeds": len(accuracies)}
    return Rerun("08-mnist", parameters, ("rate",), made, (curve,), **more)


BOTH = {"the book": run(0.1, [90.0, 92.0, 94.0]), "rate=0.5": run(0.5, [96.0, 97.0, 98.0])}


def test_only_parameters_that_differ_are_listed():
    assert study.differing(BOTH) == {"rate": [0.1, 0.5]}
    assert "| `rate` | `0.1` | `0.5` |" in study.parameters_table(BOTH)
    assert "The same in all of them: `seeds`." in study.parameters_table(BOTH)
    same = {"a": BOTH["the book"], "b": BOTH["the book"]}
    assert study.parameters_table(same) == "All parameters are equal."


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([90, 92, 94], [96, 97, 98], True),  # 92 ± 2 and 97 ± 1
        ([90, 92, 94], [94, 95, 96], False),  # 92 ± 2 and 95 ± 1: they touch
        ([90, 92, 94], [86, 87, 88], True),
        ([90], [95], None),
        ([90, 91], [95], None),
        ([None, None], [95, 96], None),
        (3, 3 + 1e-12, False),
        (3, 4, True),
        (3, [4.0, 4.5], True),
    ],
)
def test_a_difference_counts_where_it_exceeds_both_spreads(one, other, expected):
    one, other = as_result("a", one), as_result("a", other)
    assert study.beyond(one, other) is expected
    assert study.beyond(other, one) is expected


def test_how_often_chance_alone_breaks_the_rule_is_as_the_page_says():
    rng = np.random.default_rng(0)
    for seeds, said in ((2, 5), (3, 12), (5, 60)):
        one, other = rng.normal(size=(2, 100_000, seeds))
        apart = abs(one.mean(1) - other.mean(1))
        share = (apart > one.std(1, ddof=1) + other.std(1, ddof=1)).mean()
        assert 0.8 * said < 1 / share < 1.2 * said


def test_the_table_marks_what_differs_and_says_by_how_much():
    table = study.results_table(BOTH).splitlines()
    assert table[0] == "| result | unit | the book | rate=0.5 | difference |"
    assert "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}" in table[2], "no line breaks there"
    told = "| `accuracy` at the end | % | 92.0 ± 2.0 | 97.0 ± 1.0 ▲ | +5 |"
    assert table[2].replace("\N{NO-BREAK SPACE}", " ") == told
    assert table[3] == "| `rank` |  | 59 | 59 | 0 |"
    assert "1 of 2 results differ by more than their spreads: `accuracy`." in study.summary(BOTH)


def test_a_result_that_only_one_run_has_is_no_difference():
    lacking = replace(BOTH["rate=0.5"], results={"accuracy": BOTH["rate=0.5"].results["accuracy"]})
    runs = {"a": BOTH["the book"], "b": lacking}
    assert "| `rank` |  | 59 | – |  |" in study.results_table(runs)
    assert "1 of 1 results" in study.summary(runs)


def test_what_else_is_not_alike_is_said():
    other = as_result("accuracy", [1.0], "%", "of another thing")
    odd = replace(
        BOTH["rate=0.5"], source="b", versions={"torch": "2"}, results={"accuracy": other}
    )
    notes = study.notes({"a": replace(BOTH["the book"], versions={"torch": "1"}), "b": odd})
    assert "`accuracy` is not the same quantity: a: at the end; b: of another thing." in notes
    assert "The chapter or its code has changed" in notes
    assert "torch differs: a: 1; b: 2." in notes
    assert study.notes(BOTH) == ""


def test_curves_are_gathered_by_name():
    curves = study.curves(BOTH)
    assert {name: list(of_runs) for name, of_runs in curves.items()} == {"accuracy": list(BOTH)}


# The figures


def test_curves_lie_over_each_other_on_every_screen():
    def draw():
        return figures.curves(study.curves(BOTH))

    follows_the_page(draw)
    fits_a_phone(draw)
    (axes,) = draw().axes
    assert len(axes.lines) == 2


def test_runs_of_unlike_lengths_share_a_logarithmic_axis():
    long = as_curve("accuracy", [0, 10_000], [[10, 20]])
    short = as_curve("accuracy", [0, 50, 100], [[10, 15, 20]])
    (axes,) = figures.curves({"accuracy": {"a": long, "b": short}}).axes
    assert axes.get_xscale() == "log"
    assert min(line.get_xdata().min() for line in axes.lines) > 0


def grid(rates=(0.1, 0.5, 2.0), sizes=(10, 20)) -> swept.Sweep:
    """A sweep in two parameters in which one point failed."""
    points = [
        ({"rate": r, "size": s}, run(r, [90 + r + s / 10, 91 + r, 92 + r]), "")
        for r in rates
        for s in sizes
    ]
    points[1] = (points[1][0], None, "ZeroDivisionError")
    return swept.Sweep("08-mnist", {"rate": list(rates), "size": list(sizes)}, points)


def test_what_is_there_at_one_point_alone_has_a_panel():
    """As a number of steps to an accuracy that other rates never reach."""
    reached = {0.1: [None, None], 0.5: [None, None], 2.0: [1000, 2000]}
    runs = {
        r: {"steps": as_result("steps", v), "same": as_result("same", 1)}
        for r, v in reached.items()
    }
    points = [({"rate": r}, replace(run(r, [1.0]), results=found), "") for r, found in runs.items()]
    axis, values, found = swept.Sweep("08-mnist", {"rate": list(reached)}, points).along
    assert (axis, values, list(found)) == ("rate", [0.1, 0.5, 2.0], ["steps"])
    assert [one.mean for one in found["steps"][""]] == [None, None, 1500]
    never = [
        (values, replace(made, results={"steps": as_result("steps", [None])}), "")
        for values, made, _ in points
    ]
    assert swept.Sweep("08-mnist", {"rate": list(reached)}, never).along[2] == {}


def test_results_stand_along_the_longer_axis_by_setting_of_the_other():
    axis, values, found = grid().along
    assert (axis, values) == ("rate", [0.1, 0.5, 2.0])
    assert list(found["accuracy"]) == ["size=10", "size=20"]
    assert found["accuracy"]["size=20"][0] is None, "it failed"
    assert found["accuracy"]["size=10"][2].values == (93, 93, 94)


def test_points_that_failed_are_named_and_the_rest_is_in_the_table():
    sweep = grid()
    assert "**1 of them failed:**" in sweep.says
    assert "- rate=0.1, size=20: `ZeroDivisionError`" in sweep.says
    rows = sweep.table.splitlines()
    assert rows[0].startswith("| result | unit | rate=0.1, size=10 | rate=0.1, size=20 |")
    assert "–" in rows[2]
    many = grid(sizes=(10, 20, 30)).table.splitlines()  # too many to stand beside each other
    assert many[0] == "| `rate` | `size` | `accuracy` (%) | `rank` |"
    assert many[3] == "| 0.1 | 20 | – | – |"
    assert len(many) == 2 + 9 + 1 + 1


def test_a_sweep_is_drawn_on_every_screen():
    def draw():
        return figures.along(*grid().along)

    follows_the_page(draw)
    fits_a_phone(draw)


def test_words_stand_along_an_axis_too():
    found = {"relu": [1.0, 2.0], "tanh": [3.0, 4.0]}
    points = [({"kind": kind}, run(1.0, values), "") for kind, values in found.items()]
    sweep = swept.Sweep("a", {"kind": list(found)}, points)
    assert sweep.table.splitlines()[0] == "| result, by `kind` | unit | relu | tanh |"
    assert list(sweep.along[2]) == ["accuracy"], "the rank is the same everywhere"
    drawing = figures.along(*sweep.along)
    drawing.draw_without_rendering()
    assert [label.get_text() for label in drawing.axes[0].get_xticklabels()] == ["relu", "tanh"]
