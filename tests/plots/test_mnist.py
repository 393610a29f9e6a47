"""Figures: the data given and no other, in one look, legible, the same bytes each time, and nothing
changed outside.
"""

import subprocess
import sys
from dataclasses import replace
from itertools import combinations

import matplotlib
import numpy as np
import pytest
from drawn import fits_a_phone, follows_the_page
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex, to_rgb
from synthetic_runs import STEPS, UNITS, pair, run

from bnkit import plots
from bnkit.plots import colours, labels, mnist, scales

PAPER = {
    f"figure1{panel}": (np.array([3000.0, 20_000, 45_000]), np.array(values))
    for panel, values in {
        "a/with_bn": [0.95, 0.97, 0.98],
        "a/without_bn": [0.7, 0.96, 0.97],
        "b/without_bn/p15": [-1, -1.5, -1.8],
        "b/without_bn/p50": [0.5, 0, 0],
        "b/without_bn/p85": [1, 1.5, 1.7],
        "c/with_bn/p15": [-1.2, -1.6, -1.9],
        "c/with_bn/p50": [0, 0, 0],
        "c/with_bn/p85": [1.2, 1.6, 1.9],
    }.items()
}
RATES = {rate: pair(learning_rate=rate) for rate in (0.1, 0.5, 2.0, 5.0)}
INITS = {
    rate: {sigma: pair(init_sigma=sigma, last=10_000) for sigma in (0.01, 0.1, 1.0)}
    for rate in (0.1, 2.0)
}
SHORT = pair(1, last=300, dataset="digits")
FIGURES = {
    "accuracy": lambda: mnist.accuracy(pair(), PAPER),
    "learning": lambda: mnist.learning(pair()),
    "bands": lambda: mnist.bands(pair(), PAPER),
    "gamma": lambda: mnist.gamma(pair()),
    "accuracy of short runs": lambda: mnist.accuracy(SHORT),
    "bands of short runs": lambda: mnist.bands(SHORT),
    "gamma of short runs": lambda: mnist.gamma(SHORT),
    "rates": lambda: mnist.rates(RATES, early=1000),
    "initialisation": lambda: mnist.initialisation(INITS),
    "hero": lambda: mnist.hero(pair(), RATES[2.0], PAPER),
}
MEANINGS = ["WITH_BN", "WITHOUT_BN", "PAPER", "FASTER", "WRONG", "HIGHLIGHT"]


def lines(axes, colour):
    return [line for line in axes.get_lines() if to_hex(line.get_color()) == to_hex(colour)]


# What all figures share


@pytest.mark.parametrize("draw", [draw for name, draw in FIGURES.items() if "short" not in name])
def test_a_figure_leaves_nothing_behind_and_is_the_same_bytes_each_time(draw):
    before = dict(matplotlib.rcParams)
    first = draw().png()
    assert dict(matplotlib.rcParams) == before
    assert first.startswith(b"\x89PNG")
    settings = {"font.size": 30, "axes.titlelocation": "right", "legend.frameon": True}
    with matplotlib.rc_context(settings):
        assert draw().png() == first, "the look must not depend on the reader's own settings"


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
def test_a_figure_says_what_its_axes_are(draw):
    for axes in draw().axes:
        position = axes.get_subplotspec()
        assert axes.get_title(loc="left") or axes.figure.get_suptitle()
        assert axes.get_xlabel() or not position.is_last_row()
        assert axes.get_ylabel() or not position.is_first_col()


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
def test_words_stay_on_the_figure_and_off_each_other(draw):
    drawing = draw()
    drawing.draw_without_rendering()
    words = drawing.findobj(matplotlib.text.Text)
    words = [word for word in words if word.get_text() and word.get_visible()]
    axes = [axis for axes in drawing.axes for axis in (axes.xaxis, axes.yaxis)]
    ticks = {text for axis in axes for text in axis.get_ticklabels()}
    boxes = [(text.get_text(), text.get_window_extent()) for text in words if text not in ticks]
    assert len(boxes) >= 3
    width, height = drawing.bbox.width, drawing.bbox.height
    for text, box in boxes:
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= width, text
        assert box.y1 <= height, text
    for (a, box_a), (b, box_b) in combinations(boxes, 2):
        assert not box_a.overlaps(box_b), f"{a!r} lies on {b!r}"


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
def test_a_figure_follows_the_page_and_fits_a_phone(draw):
    follows_the_page(draw)
    fits_a_phone(draw)


def test_drawing_needs_neither_torch_nor_a_window():
    hide = "import sys; sys.modules['torch'] = sys.modules['tkinter'] = None"
    code = f"{hide}; import bnkit.plots.mnist as figures"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_spread_is_mean_and_range_over_seeds():
    middle, low, high = plots.spread([[1, 10], [2, 10], [6, 40]])
    assert (middle.tolist(), low.tolist(), high.tolist()) == ([3, 20], [1, 10], [6, 40])


def test_a_band_is_drawn_from_the_lowest_to_the_highest_seed():
    _, axes = plots.figure()
    plots.band(axes, [0, 1], [[1, 10], [2, 10], [6, 40]], colours.WITH_BN, label="three seeds")
    (line,) = axes.get_lines()
    assert line.get_ydata().tolist() == [3, 20]
    corners = axes.collections[0].get_paths()[0].vertices
    assert {tuple(corner) for corner in corners.tolist()} >= {(0, 1), (0, 6), (1, 10), (1, 40)}
    assert axes.get_legend_handles_labels()[1] == ["three seeds"]


def test_a_label_stands_at_the_end_of_its_curve():
    _, axes = plots.figure()
    labels.label_end(axes, [0, 1, 2], [5, 6, 7], "here", colours.WITH_BN)
    (label,) = axes.texts
    assert (label.get_text(), label.xy) == ("here", (2, 7))


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0.001, 1000, {0.001: "0.001", 0.1: "0.1", 1: "1", 1000: "1000", 0.25: "0.25"}),
        (
            1e-80,
            10,
            {1e-80: "10⁻⁸⁰", 1e-5: "10⁻⁵", 0.01: "10⁻²", 1: "1", 10: "10", 2e-5: "2e-05", 0: "0"},
        ),
        (1, 1e12, {100: "10²", 1e12: "10¹²"}),
    ],
)
def test_powers_of_ten_are_plain_text_and_of_one_kind_on_an_axis(low, high, labels):
    _, axes = plots.figure()
    axes.set(yscale="log", ylim=(high, low))  # upside down, as some are
    scales.powers(axes.yaxis)
    assert {value: axes.yaxis.get_major_formatter()(value) for value in labels} == labels


def test_a_logarithmic_axis_is_labelled_at_powers_of_ten_only():
    drawing, axes = plots.figure()
    axes.plot([1, 2], [1e-20, 1e3])
    axes.set_yscale("log")
    scales.powers(axes.yaxis)
    drawing.draw_without_rendering()
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert set(labels) - {"10⁻²⁵", "10⁵"} == {"10⁻²⁰", "10⁻¹⁵", "10⁻¹⁰", "10⁻⁵", "1"}
    assert len(axes.yaxis.get_minorticklocs()) == 0
    scales.ticks(axes.yaxis, [0.25, 3])
    drawing.draw_without_rendering()
    assert [text.get_text() for text in axes.get_yticklabels()] == ["0.25", "3"]


# Colours

# Machado, Oliveira, Fernandes 2009, severity 1, on linear RGB
BLINDNESS = {
    "none": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def seen(colour: str, kind: str) -> np.ndarray:
    """`colour` in CIE Lab, as somebody with this kind of colour vision sees it."""
    rgb = np.asarray(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.asarray(BLINDNESS[kind]) @ linear, 0, 1)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array(to_xyz) @ linear
    x, y, z = np.cbrt(np.maximum(xyz / [0.9505, 1, 1.089], 1e-9))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def difference(a: str, b: str, kind: str) -> float:
    return float(np.linalg.norm(seen(a, kind) - seen(b, kind)))


@pytest.mark.parametrize("kind", BLINDNESS)
def test_meanings_can_be_told_apart_with_any_colour_vision(kind):
    # the measure itself: red and green differ ...
    assert difference("#c00000", "#008000", "none") > 60
    # ... and for many people hardly do
    assert difference("#c0392b", "#6b7d0a", "deuteranopia") < 25
    for a, b in combinations(MEANINGS, 2):
        assert difference(getattr(colours, a), getattr(colours, b), kind) > 15, f"{a} and {b}"
    assert difference(colours.WITH_BN, colours.WITHOUT_BN, kind) > 50


# The figures of chapter 08


def test_accuracy_draws_the_means_of_the_runs_and_the_paper_beside_them():
    both = pair(3)
    whole, errors = mnist.accuracy(both, PAPER).axes
    (line,) = lines(whole, colours.WITH_BN)
    expected = np.mean([one.curve("test_accuracy")[1] for one in both.with_bn], axis=0)
    np.testing.assert_allclose(line.get_ydata(), 100 * expected)
    assert line.get_xdata().tolist() == STEPS
    (line,) = lines(errors, colours.WITH_BN)
    np.testing.assert_allclose(line.get_ydata(), 100 * (1 - expected[1:]))
    assert [len(lines(axes, colours.PAPER)) for axes in (whole, errors)] == [2, 2]
    assert whole.get_ylim()[0] == 70
    assert both.title in whole.get_title(loc="left")


def test_the_paper_is_drawn_no_further_than_the_runs_and_not_at_all_before_it_starts():
    whole, _ = mnist.accuracy(pair(last=20_000), PAPER).axes
    assert all(line.get_xdata().max() == 20_000 for line in lines(whole, colours.PAPER))
    whole, errors = mnist.accuracy(pair(last=1000), PAPER).axes
    assert lines(whole, colours.PAPER) == lines(errors, colours.PAPER) == []


def test_bands_are_medians_over_all_units_and_seeds_and_every_unit_is_there():
    both = pair()
    upper, lower = mnist.bands(both, PAPER).axes
    for axes, colour, runs in (
        (upper, colours.WITHOUT_BN, both.without_bn),
        (lower, colours.WITH_BN, both.with_bn),
    ):
        percentiles = np.stack([one.curve("quantiles")[1] for one in runs])
        (line,) = lines(axes, colour)
        np.testing.assert_allclose(line.get_ydata(), np.median(percentiles[..., 1], axis=(0, 2)))
        assert len(lines(axes, colours.NEUTRAL)) == UNITS
        assert len(lines(axes, colours.PAPER)) == 3
        corners = axes.collections[0].get_paths()[0].vertices[:, 1]
        assert corners.max() == pytest.approx(np.median(percentiles[..., 2], axis=(0, 2)).max())
    assert "(b) without BN" in upper.get_title(loc="left")


def test_gamma_puts_every_unit_of_every_seed_on_the_scatter():
    above, below = mnist.gamma(pair(2)).axes
    assert len(lines(above, colours.NEUTRAL)) == UNITS
    groups = [group for group in below.collections if isinstance(group, PathCollection)]
    assert [len(group.get_offsets()) for group in groups] == [2 * UNITS] * 3
    gamma, spread = groups[-1].get_offsets().T
    np.testing.assert_allclose(spread, 2 * gamma)  # as synthetic_runs makes them
    # 2 x 1.03643, from a printed table of the normal distribution
    assert 2.0728 < mnist.NORMAL_SPREAD < 2.0730


def test_rates_draws_a_point_for_each_seed_at_the_step_asked_for():
    upper, lower = mnist.rates(RATES, early=1000).axes
    for axes, step in ((upper, 1000), (lower, 50_000)):
        means, *seeds = lines(axes, colours.WITH_BN)
        assert list(means.get_xdata()) == list(RATES)
        values = [one.curve("test_accuracy")[1][STEPS.index(step)] for one in RATES[0.1].with_bn]
        np.testing.assert_allclose(seeds[0].get_ydata(), 100 * np.array(values))
        np.testing.assert_allclose(means.get_ydata()[0], 100 * np.mean(values))
    assert "1,000" in upper.get_title(loc="left")


def test_initialisation_prints_the_errors_it_draws():
    axes = mnist.initialisation(INITS).axes[0]
    ends = [one.curve("test_accuracy")[1][-1] for one in INITS[0.1][0.01].with_bn]
    error = 100 * (1 - np.mean(ends))
    assert f"{error:.1f}" in [text.get_text() for text in axes.texts]


def test_the_hero_measures_the_gap_in_its_titles():
    slow, fast = pair(), pair(learning_rate=2.0)
    same = replace(fast, without_bn=fast.with_bn)
    left, right = mnist.hero(slow, same, PAPER).axes
    ends = [
        np.mean([one.curve("test_accuracy")[1][-1] for one in runs])
        for runs in (slow.with_bn, slow.without_bn)
    ]
    gap = f"{100 * (ends[0] - ends[1]):.1f}"
    assert left.get_title(loc="left") == f"Learning rate 0.1: final gap {gap} points"
    assert right.get_title(loc="left") == "Learning rate 2: final gap 0.0 points"


@pytest.mark.parametrize("last", [1, 300])
def test_short_runs_with_one_seed_and_without_the_paper_are_drawn_too(last):
    both = pair(1, last=last, dataset="digits")
    for draw in (mnist.accuracy, mnist.bands, mnist.gamma, mnist.learning):
        assert draw(both).png()


@pytest.mark.parametrize("ended", [0, 500])
def test_a_run_that_diverged_shortens_the_curves_and_breaks_nothing(ended):
    both = pair()
    both.with_bn[1] = run("batch", 1, last=ended)
    drawing = mnist.accuracy(both)
    (line,) = lines(drawing.axes[0], colours.WITH_BN)
    assert line.get_xdata().tolist() == [step for step in STEPS if step <= ended]
    assert all(figure.png() for figure in (drawing, mnist.bands(both), mnist.gamma(both)))
