"""The page on the layer: errors are measured in the right unit against the right thing, and a wrong layer shows."""

import numpy as np
import pytest
import torch
from conftest import assert_close

from bnkit import aten, layers, paths
from bnkit.plots import layer as plots
from bnkit.studies import layer as studies


@pytest.mark.parametrize("name", studies.OURS)
def test_the_path_is_the_one_that_runs(name, monkeypatch):
    called = set()
    for module, function in ((layers, "moments"), (aten, "moments"), (aten, "batch_norm")):
        step = getattr(module, function)
        monkeypatch.setattr(module, function, lambda *a, s=step, n=(module, function): (called.add(n), s(*a))[1])
    before = (aten.SMALL, aten.BLOCK)
    with studies.path(name):
        layers.BatchNorm(3)(torch.ones(4, 3))
    wanted = dict(zip(studies.OURS, [(layers, "moments"), (aten, "batch_norm"), (aten, "moments")], strict=True))
    assert called == {wanted[name]}
    assert before == (aten.SMALL, aten.BLOCK)


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
    assert studies.error("plain torch", arguments, "training", right) == pytest.approx([3] * 6, rel=1e-6)


def test_a_wrong_layer_shows_in_the_table(monkeypatch):
    """Half a percent of the gradient, in one path alone."""
    assert studies.parity(("float32",), ("images",)).max() < 50
    right = layers.input_gradient
    monkeypatch.setattr(layers, "input_gradient", lambda *a: 1.005 * right(*a))
    worst = studies.parity(("float32",), ("images",))
    assert worst.shape == (1, 2, 1, 4)
    assert (worst[..., 0] > 1000).all()
    assert (worst[..., 1:] < 50).all()


def test_errors_by_length_are_those_of_everyday_blocks(monkeypatch):
    seen = set()
    split = aten._blocks
    monkeypatch.setattr(aten, "_blocks", lambda x: seen.add(aten.BLOCK) or split(x))
    found = studies.by_length([256, 512], channels=2)
    assert seen == {aten.BLOCK}
    assert {len(errors) for each in found.values() for errors in each.values()} == {2}
    assert found["ATen, one call"] == found["torch.nn"]  # the same operator


def test_what_is_kept():
    x = torch.ones(4, 3, 8, 8, requires_grad=True)
    assert studies.kept(torch.nn.ReLU(), x) == x.nbytes
    assert studies.kept(torch.nn.Identity(), x) == 0
    found = studies.relu_memory((4, 3, 8, 8))
    assert found["torch.nn"] > 2 > 1.2 > found["plain torch"] >= 1


def test_pooling_parts_gives_the_whole():
    x = studies.batch("images", torch.float64, (9, 3, 2, 2), mean=50.0)[0]
    for found, right in zip(studies.pooled(x, [4, 0, 5]), layers.moments(x)[:2], strict=True):
        assert_close(found, right)


def test_recorded_results_are_read_and_a_missing_one_is_none(monkeypatch, tmp_path):
    assert studies.recorded("cpu")["device"] == "cpu"
    monkeypatch.setattr(paths, "root", lambda: tmp_path)
    assert studies.recorded("cuda") is None


def test_rows_are_chosen_by_what_layout_and_dtype():
    row = {"what": "layer", "layout": "contiguous", "dtype": "float32", "shape": [32, 64, 7, 7]}
    found = {"rows": [row, row | {"layout": "channels last"}, row | {"dtype": "bfloat16"}, row | {"what": "training"}]}
    assert studies.rows(found, "layer", "contiguous") == [row]
    assert len(studies.rows(found, "layer")) == 2
    assert studies.name_of(row["shape"]) == "64 × 7²"
    assert studies.name_of([60, 100]) == "60 × 100"


def test_figures_show_what_they_are_given():
    worst = np.arange(1.0, 17).reshape(2, 2, 2, 2)
    drawing = plots.parity(worst, ["a", "b"], studies.MODES, ["x", "y"], ["p", "q"])
    assert [[text.get_text() for text in axes.texts] for axes in drawing.axes] == [
        ["1", "2", "5", "6", "9", "10", "13", "14"],
        ["3", "4", "7", "8", "11", "12", "15", "16"],
    ]
    assert [label.get_text() for label in drawing.axes[0].get_yticklabels()][:2] == ["a, training", "a, evaluation"]

    curves = {name: [1.0, 2.0] for name in studies.IMPLEMENTATIONS}
    drawing = plots.by_length([10, 100], {"one": curves, "two": curves})
    for axes in drawing.axes:
        assert [line.get_ydata().tolist() for line in axes.get_lines()] == [[1.0, 2.0]] * 4

    quartiles = [[0.8, 0.9, 1.0], [1.1, 1.2, 1.3]]
    drawing = plots.ratios({"left": {"layer": quartiles}, "right": {"layer": quartiles}}, ["a", "b"], "it")
    for axes in drawing.axes:
        dots = [line for line in axes.get_lines() if line.get_marker() == "o"]
        assert [(dot.get_xdata().tolist(), dot.get_ydata().tolist()) for dot in dots] == [([0.9, 1.2], [1, 0])]
    assert drawing.png() == drawing.png()
