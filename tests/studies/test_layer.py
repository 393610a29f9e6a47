"""The page on the layer: errors are measured in the right unit against the right thing, and a wrong
layer shows.
"""

import numpy as np
import pytest
import torch
from conftest import assert_close

from bnkit import layers, paths
from bnkit.layers import aten, plain
from bnkit.plots import layer as plots
from bnkit.studies import layer as studies


@pytest.mark.parametrize("name", studies.OURS)
def test_the_path_is_the_one_that_runs(name, monkeypatch):
    called = set()
    for module, function in ((plain, "moments"), (aten, "moments"), (aten, "batch_norm")):
        step = getattr(module, function)
        monkeypatch.setattr(
            module, function, lambda *a, s=step, n=(module, function): (called.add(n), s(*a))[1]
        )
    before = aten.LIMITS.get()
    with studies.path(name):
        layers.BatchNorm(3)(torch.ones(4, 3))
    wanted = dict(
        zip(
            studies.OURS, [(plain, "moments"), (aten, "batch_norm"), (aten, "moments")], strict=True
        )
    )
    assert called == {wanted[name]}
    assert aten.LIMITS.get() is before


@pytest.mark.parametrize("layout", studies.LAYOUTS)
@pytest.mark.parametrize("mode", studies.MODES)
def test_expected_is_torch_in_float64(layout, mode):
    arguments = studies.batch(layout, torch.float64)
    found, units = studies.step("torch.nn", arguments, mode)
    assert units == [np.finfo(np.float64).eps] * 6
    for each, right in zip(found, studies.expected(*arguments, mode), strict=True):
        assert_close(each, right, 1e-12)


def test_batches_lie_as_their_layout_says():
    for layout, shape in studies.LAYOUTS.items():
        x, dy, *_ = studies.batch(layout, torch.float32)
        assert x.shape == dy.shape == shape
        assert (x.stride(1) == 1) == ("channels last" in layout or len(shape) == 2)


def test_an_error_is_counted_in_spacings(monkeypatch):
    arguments = studies.batch("vectors", torch.float32)
    right = studies.expected(*arguments, "training")
    off = studies.Step(*(each + 3 * 2.0**-23 * np.abs(each).max() for each in right))
    monkeypatch.setattr(studies, "step", lambda *a: (off, [2.0**-23] * 6))
    assert studies.error("plain torch", arguments, "training", right) == pytest.approx(
        [3] * 6, rel=1e-6
    )


def test_a_wrong_layer_shows_in_the_table(monkeypatch):
    """Half a percent of the gradient, in one path alone."""
    assert studies.parity(("float32",), ("images",)).max() < 50
    right = plain.input_gradient
    monkeypatch.setattr(plain, "input_gradient", lambda *a: 1.005 * right(*a))
    worst = studies.parity(("float32",), ("images",))
    assert worst.shape == (1, 2, 1, 4)
    assert (worst[..., 0] > 1000).all()
    assert (worst[..., 1:] < 50).all()


def test_errors_by_length_are_those_of_everyday_blocks(monkeypatch):
    seen = set()
    split = aten._blocks
    monkeypatch.setattr(aten, "_blocks", lambda x: seen.add(aten.LIMITS.get().block) or split(x))
    found = studies.by_length([256, 512], channels=2, seed=1)
    assert seen == {aten.EVERYDAY.block}
    assert {len(errors) for each in found.values() for errors in each.values()} == {2}
    assert found["ATen, one call"] == found["torch.nn"]  # the same operator


def test_far_from_zero_torch_is_off_and_no_path_of_ours_is():
    for name in studies.OURS:
        assert studies.far_from_zero(name).error < 1e-5
        assert studies.far_from_zero(name).constant == 0
    assert studies.far_from_zero("torch.nn").error > 1e-3
    assert studies.far_from_zero("torch.nn", mean=0.0, spread=1.0).error < 1e-5


def test_what_is_kept():
    x = torch.ones(4, 3, 8, 8, requires_grad=True)
    assert studies.kept(torch.nn.ReLU(), x) == x.nbytes
    assert studies.kept(torch.nn.Identity(), x) == 0
    found = studies.relu_memory((4, 3, 8, 8))
    assert found["torch.nn"] > 2 > 1.2 > found["plain torch"] >= 1


@pytest.mark.parametrize("name", studies.MUTANTS)
def test_a_mutant_is_far_off_and_leaves_no_trace(name):
    mean = 100.0 if name == "the variance as E[x²] − E[x]²" else 0.0
    arguments = studies.batch("images", torch.float64, mean=mean)
    assert studies.wrong(name, mean) > 1000
    assert max(studies.error("plain torch", arguments, "training")) < 100


def test_refusals_are_those_of_both_layers_and_a_layer_that_refuses_nothing_shows(monkeypatch):
    found = studies.refusals()
    assert found.keys() == studies.REFUSED.keys()
    assert all(each.ours == each.theirs and each.untouched for each in found.values())
    assert "has 3" in found["another number of channels"].message
    monkeypatch.setattr(studies, "REFUSED", {"nothing wrong": ({}, True, torch.ones(5, 3))})
    with pytest.raises(AssertionError, match="nothing wrong"):
        studies.refusals()


def test_processes_that_share_a_batch_see_what_one_sees():
    """And those that do not, do not. Other sizes and paths: test_batch_norm_processes.py."""
    found = studies.across((2, 1), seed=1)
    assert max(found["together"]) < 60
    # Σ dy is the same sum, whoever adds it up
    assert min(found["each on its own"]._replace(dbias=1e9)) >= 1e9


def test_pooling_parts_gives_the_whole():
    x = studies.batch("images", torch.float64, (9, 3, 2, 2), mean=50.0)[0]
    mean, var, _ = plain.moments(x)
    for found, right in zip(studies.pooled(x, [4, 0, 5]), (mean.sum(0), var), strict=True):
        assert_close(found, right)


def test_recorded_results_are_read_and_a_missing_one_is_none(monkeypatch, tmp_path):
    assert studies.recorded("cpu")["device"] == "cpu"
    monkeypatch.setattr(paths, "root", lambda: tmp_path)
    assert studies.recorded("cuda") is None


def test_rows_are_chosen_by_what_layout_and_dtype():
    row = {"what": "layer", "layout": "contiguous", "dtype": "float32", "shape": [32, 64, 7, 7]}
    found = {
        "rows": [
            row,
            row | {"layout": "channels last"},
            row | {"dtype": "bfloat16"},
            row | {"what": "training"},
        ]
    }
    assert studies.rows(found, "layer", "contiguous") == [row]
    assert len(studies.rows(found, "layer")) == 2
    assert studies.name_of(row["shape"]) == "64 × 7²"
    assert studies.name_of([60, 100]) == "60 × 100"


def test_figures_show_what_they_are_given():
    worst = np.arange(1.0, 17).reshape(2, 2, 2, 2)
    names = ["plain torch", "torch.nn"]
    left, right = plots.parity(worst, ["a", "b"], studies.MODES, ["x", "y"], names).axes
    errors = [[1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15], [4, 8, 12, 16]]
    assert [line.get_xdata().tolist() for line in left.get_lines()] == errors
    ratios = [line.get_xdata() for line in right.get_lines() if line.get_marker() == "o"]
    assert np.allclose(ratios, [np.divide(*errors[:2]), np.divide(*errors[2:])])
    assert [label.get_text() for label in left.get_yticklabels()] == ["x", "y"]

    curves = {name: [1.0, 2.0] for name in studies.IMPLEMENTATIONS}
    drawing = plots.by_length([10, 100], {"one": curves, "two": curves})
    for axes in drawing.axes:
        assert [line.get_ydata().tolist() for line in axes.get_lines()] == [[1.0, 2.0]] * 4

    quartiles = [[0.8, 0.9, 1.0], [1.1, 1.2, 1.3]]
    drawing = plots.ratios(
        {"left": {"layer": quartiles}, "right": {"layer": quartiles}}, ["a", "b"], "it", goal=0.8
    )
    for axes in drawing.axes:
        dots = [line for line in axes.get_lines() if line.get_marker() == "o"]
        assert [(dot.get_xdata().tolist(), dot.get_ydata().tolist()) for dot in dots] == [
            ([0.9, 1.2], [1, 0])
        ]
        assert [line.get_xdata()[0] for line in axes.get_lines()[:2]] == [1, 0.8]

    drawing = plots.limit({"left": ([1.0, 10.0], {"ours": [0.1, 0.2], "torch.nn": [0.3, 0.4]})})
    drawn = [list(line.get_ydata()) for line in drawing.axes[0].get_lines()]
    assert drawn[1:] == [[0.1, 0.2], [0.3, 0.4]]


def result(what, shape, layout="contiguous", times=None, dtype="float32", **ratios):
    """A row of a recorded measurement."""
    return {
        "what": what,
        "shape": list(shape),
        "layout": layout,
        "dtype": dtype,
        "times": times or {"ours": [1.0] * 3},
        "ratios": {
            peer.replace("_", "."): [0.9 * middle, middle, 1.1 * middle]
            for peer, middle in ratios.items()
        },
    }


def test_ratios_are_of_maps_by_layout_and_against_the_faster_peer():
    in_place = {"torch.nn, then ReLU": 9.0, "torch.nn, then ReLU in place": 1.5}
    found = [result("layer", (60, 100), torch_nn=7.0)]
    for layout, middle in (("contiguous", 1.0), ("channels last", 2.0)):
        found += [
            result("layer", (32, 64, 7, 7), layout, torch_nn=middle),
            result("layer with ReLU", (32, 64, 7, 7), layout, **in_place),
        ]
    names, layouts = studies.ratios({"rows": found})
    assert names == ["64 × 7²"]
    assert {layout: each["layer"][0][1] for layout, each in layouts.items()} == {
        "contiguous": 1.0,
        "channels last": 2.0,
    }
    assert all(each["layer with ReLU"][0][1] == 1.5 for each in layouts.values())


def test_the_limit_is_two_and_a_half_copies():
    times = {"ours": [0, 5.0, 0], "torch.nn": [0, 10.0, 0], "copy": [0, 1.0, 0]}
    large, small = (
        result("layer", (32, 64, 64, 64), times=times),
        result("layer", (32, 64, 32, 32), times=times),
    )
    sizes, shares = studies.shares_of_the_limit(
        {"rows": [large, small, result("layer", (60, 100))]}
    )["contiguous"]
    assert sizes == [8.0, 32.0]
    assert shares == {"ours": [0.5, 0.5], "torch.nn": [0.25, 0.25]}


def test_a_goal_is_reached_when_every_row_reaches_it(monkeypatch):
    measured = [
        result("layer", (60, 100), torch_nn=0.9),
        result("layer", (32, 64, 7, 7), torch_nn=0.7),
        result("layer", (2, 3)),
    ]
    missed = studies.verdict(measured, "torch.nn", 0.8)
    assert missed == (0.8, 1, 2, 0.8, 0.7, "64 × 7², contiguous")
    assert str(missed) == "**missed** on 1 of 2"
    assert str(studies.verdict(measured, "torch.nn", 0.7)) == "reached on all 2"
    assert str(studies.verdict(measured[:1], "torch.nn", 0.8)) == "reached"
    assert str(studies.verdict(measured[:1], "torch.nn", 1.0)) == "**missed**"

    slow, fast = ({"the limit": value} for value in (0.1, 0.9))
    rows = [
        *measured,
        result("reference", (60, 100), **{"textbook NumPy": 3.0}),
        result(
            "layer with ReLU", (60, 100), dtype="bfloat16", **{"torch.nn, then ReLU in place": 2.0}
        ),
        result("layer", (32, 64, 56, 56), **fast),
        result("layer", (32, 64, 7, 7), **slow),  # too small to count
    ]
    monkeypatch.setattr(studies, "recorded", lambda device: {"rows": rows})
    assert [str(verdict) for _, verdict in studies.goals()] == [
        "**missed** on 1 of 2",
        "reached",
        "**missed** on 2 of 2",
        "reached",
        "reached",
    ]
    monkeypatch.setattr(
        studies, "recorded", lambda device: {"rows": rows} if device == "cpu" else None
    )
    assert [verdict is None for _, verdict in studies.goals()] == [False, False, True, True, True]
