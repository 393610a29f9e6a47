"""The figures of chapter 08: Figure 1 of the paper beside runs of ours, and what it leaves out.

A pair, as ``bnkit.studies.mnist`` makes it, holds lists of records ``with_bn`` and ``without_bn``
and a ``title`` that says on which data and by how many seeds. The paper's digitized curves are a
dictionary of (steps, values) by name.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from statistics import NormalDist
from typing import Protocol

import numpy as np
from matplotlib.axes import Axes

from bnkit.plots import WIDTH, Array, Drawing, band, figure, styled
from bnkit.plots.colours import NEUTRAL, PAPER, THEORY, WITH_BN, WITHOUT_BN, ramp
from bnkit.plots.labels import room_above, write
from bnkit.plots.scales import NUMBER, numbers
from bnkit.runs.records import Record, stack

# 85th minus 15th percentile of N(0, 1)
NORMAL_SPREAD = NormalDist().inv_cdf(0.85) - NormalDist().inv_cdf(0.15)
PRINTED = {"color": PAPER, "linestyle": "--", "linewidth": 1.1}  # what the paper drew
EVERY = {
    "color": NEUTRAL,
    "linewidth": 0.4,
    "alpha": 0.5,
    "rasterized": True,
}  # one of a hundred units

Curves = Mapping[str, tuple[Array, Array]]


class Pair(Protocol):
    """What a figure draws: runs with and without batch normalization, and a title for both."""

    with_bn: list[Record]
    without_bn: list[Record]
    title: str


# Figure 1(a)


@styled
def accuracy(pair: Pair, paper: Curves | None = None) -> Drawing:
    """Test accuracy against steps: above on the paper's axes, below as error, logarithmic."""
    drawing, (whole, errors) = figure(2, width=WIDTH, height=7)
    _shares(whole, pair, paper, 70)  # percent: where the paper's axis starts
    whole.set_title(f"Figure 1(a): {pair.title}")
    _errors(errors, pair, paper)
    errors.set_title("The same as test error, logarithmic axes")
    return drawing


@styled
def learning(pair: Pair) -> Drawing:
    """Test accuracy against steps, from nothing to everything."""
    drawing, axes = figure(width=WIDTH, height=3.2)
    _shares(axes, pair, None, 0)
    axes.set_title(pair.title)
    return drawing


@styled
def hero(pair: Pair, tuned: Pair, paper: Curves) -> Drawing:
    """The finding at a glance: test error of a pair and the paper's; right, at a tuned rate."""
    drawing, panels = figure(1, 2, width=8.4, height=4, sharey=True)
    for axes, shown, printed in zip(panels, (pair, tuned), (paper, None), strict=True):
        _errors(axes, shown, printed)
        points = 100 * (_accuracy(shown.with_bn).mean() - _accuracy(shown.without_bn).mean())
        axes.set_title(f"Learning rate {_rate(shown):g}: final gap {points:.1f} points")
        axes.label_outer()
    return drawing


def _shares(axes: Axes, pair: Pair, paper: Curves | None, lowest: float) -> None:
    """Test accuracy in percent against steps; the axis starts at `lowest`, or below."""
    last = 0
    for net, label, colour, runs in _nets(pair):
        steps, values = stack(runs, "test_accuracy")
        band(axes, steps, 100 * values, colour, label=label)
        last, lowest = max(last, steps[-1]), max(0, min(lowest, 100 * values[:, -1].min() - 5))
        name = "paper" if net == "without_bn" else None
        if drawn := _until(steps[-1], paper, f"figure1a/{net}"):
            axes.plot(drawn[0], 100 * drawn[1], label=name, **PRINTED)
    axes.set(xlabel="steps", ylabel="test accuracy (%)")
    axes.set(xlim=(0, 1.02 * max(1, last)), ylim=(lowest, 101))
    axes.xaxis.set_major_formatter(NUMBER)
    axes.legend(loc="best", labelcolor="linecolor")


def _errors(axes: Axes, pair: Pair, paper: Curves | None) -> None:
    """Test error in percent, both axes logarithmic: early gap and last tenths of a point."""
    for net, label, colour, runs in _nets(pair):
        steps, values = stack(runs, "test_accuracy")
        if len(steps) == 1:
            continue  # diverged at once
        # a logarithm has no place for step 0, nor for an error of nothing
        steps, errors = steps[1:], np.maximum(100 * (1 - values[:, 1:]), 0.01)
        band(axes, steps, errors, colour)
        place = (steps[0], errors[:, 0].mean())
        _write(axes, label, place, colour, (0, -40) if net == "with_bn" else (0, 7))
        if drawn := _until(steps[-1], paper, f"figure1a/{net}"):
            theirs = 100 * (1 - drawn[1])
            axes.plot(drawn[0], theirs, **PRINTED)
            if net == "without_bn":
                _write(axes, "paper", (drawn[0][0], theirs[0]), PAPER, (-4, 6))
    axes.set(xscale="log", yscale="log", xlabel="steps", ylabel="test error (%)")
    axes.margins(y=0.1)
    numbers(axes.xaxis, (100, 300, 1000, 3000, 10_000, 30_000))
    numbers(axes.yaxis, (2, 3, 5, 10, 20, 50, 100))


# Figure 1(b) and (c)


@styled
def bands(pair: Pair, paper: Curves | None = None) -> Drawing:
    """What the last hidden sigmoids receive: 15th to 85th percentile, and every unit's median.

    Band and thick line are medians over all units and seeds; thin lines, units of the first seed.
    """
    drawing, panels = figure(2, width=WIDTH, height=7, sharex=True, sharey=True)
    nets = reversed(list(_nets(pair)))
    for axes, letter, (net, label, colour, runs) in zip(panels, "bc", nets, strict=True):
        steps, percentiles = stack(runs, "quantiles")  # (seeds, steps, units, 3)
        low, middle, high = np.median(percentiles, axis=(0, 2)).T
        within = {"alpha": 0.3, "linewidth": 0, "label": "typical unit, 15th to 85th"}
        axes.fill_between(steps, low, high, color=colour, **within)
        first, *_ = axes.plot(steps, percentiles[0, :, :, 1], **EVERY)
        first.set_label("median of each unit")
        axes.plot(steps, middle, color=colour, label="typical median")
        for percent in (15, 50, 85):
            name = "the paper's unit" if percent == 15 else None
            if drawn := _until(steps[-1], paper, f"figure1{letter}/{net}/p{percent}"):
                axes.plot(*drawn, label=name, **PRINTED)
        axes.set(ylabel="input to the sigmoid", xlim=(0, max(1, steps[-1])))
        axes.set_title(f"({letter}) {label}")
    room_above(panels[0], 0.3)
    panels[0].legend(loc="upper center", ncols=2, fontsize=9, columnspacing=1.2)
    panels[1].set_xlabel("steps")
    panels[1].xaxis.set_major_formatter(NUMBER)
    drawing.suptitle(f"{pair.title}, learning rate {_rate(pair):g}", fontsize=11)
    return drawing


@styled
def gamma(pair: Pair) -> Drawing:
    """Gamma of every unit over the steps; spread against gamma, with the line of a normal input."""
    drawing, (above, below) = figure(2, width=WIDTH, height=7)
    steps, values = stack(pair.with_bn, "gamma")  # (seeds, steps, units)
    above.plot(steps, values[0], **EVERY)
    above.plot(steps, np.median(values, axis=(0, 2)), color=WITH_BN)
    above.set(xlabel="steps", ylabel="γ", xlim=(0, max(1, steps[-1])))
    above.xaxis.set_major_formatter(NUMBER)
    above.set_title(f"γ of each unit: {pair.title}")
    _, percentiles = stack(pair.with_bn, "quantiles")
    spreads = percentiles[..., 2] - percentiles[..., 0]  # (seeds, steps, units)
    places = sorted({0, len(steps) // 2, len(steps) - 1})
    for place, colour in zip(places, ramp(len(places)), strict=True):
        look = {"color": colour, "alpha": 0.6, "linewidth": 0, "label": f"step {steps[place]:,}"}
        below.scatter(values[:, place], spreads[:, place], s=5, **look)
    line = np.array([0, 1.05 * values.max()])
    below.plot(line, NORMAL_SPREAD * line, color=THEORY, linestyle=":")
    _write(below, "if the input were normal", (0.5, 0.5 * NORMAL_SPREAD), THEORY, (8, -10))
    below.set(xlabel="γ", ylabel="85th − 15th percentile")
    below.legend(loc="upper left", markerscale=3, handletextpad=0.2)
    below.set_title("Spread of each unit's input against its γ")
    return drawing


# What the paper's figure leaves out


@styled
def rates(pairs: Mapping[float, Pair], early: int) -> Drawing:
    """Test accuracy against learning rate, `early` and at the end: a point for each seed, means."""
    drawing, panels = figure(2, width=WIDTH, height=7, sharex=True)
    first = next(iter(pairs.values()))
    for axes, step in zip(panels, (early, None), strict=True):
        for net, label, colour, _ in _nets(first):
            values = [100 * _accuracy(getattr(pair, net), step) for pair in pairs.values()]
            _points(axes, list(pairs), values, colour, label)
        axes.set(ylabel="test accuracy (%)")
        axes.set_title(f"After {step or _length(first):,} steps")
    panels[0].legend(loc="lower right", labelcolor="linecolor")
    panels[1].set_xlabel("learning rate")
    numbers(panels[1].xaxis, tuple(pairs))
    return drawing


@styled
def initialisation(pairs: Mapping[float, Mapping[float, Pair]]) -> Drawing:
    """Final test error against the deviation of the initial weights; a panel for each rate."""
    size = {"width": WIDTH, "height": 3.5 * len(pairs)}
    drawing, panels = figure(len(pairs), **size, sharex=True, sharey=True)
    for axes, (rate, by_sigma) in zip(panels, pairs.items(), strict=True):
        first = next(iter(by_sigma.values()))
        for net, label, colour, _ in _nets(first):
            errors = [100 * (1 - _accuracy(getattr(pair, net))) for pair in by_sigma.values()]
            _points(axes, list(by_sigma), errors, colour, label)
            extreme, shift = (np.min, -15) if net == "with_bn" else (np.max, 7)
            for sigma, values in zip(by_sigma, errors, strict=True):
                place = (sigma, extreme(values))
                _write(axes, f"{values.mean():.1f}", place, colour, (0, shift), ha="center")
        axes.set(yscale="log", ylabel="test error (%)", ylim=(1.5, 150))
        axes.set_title(f"After {_length(first):,} steps at learning rate {rate:g}")
        numbers(axes.xaxis, tuple(by_sigma))
        numbers(axes.yaxis, (2, 5, 10, 20, 50, 100))
    panels[0].legend(loc="upper right", labelcolor="linecolor")
    panels[-1].set_xlabel("standard deviation of the initial weights")
    return drawing


# Parts


def _nets(pair: Pair) -> Iterator[tuple[str, str, str, list[Record]]]:
    yield "with_bn", "with BN", WITH_BN, pair.with_bn
    yield "without_bn", "without BN", WITHOUT_BN, pair.without_bn


def _rate(pair: Pair) -> float:
    return pair.with_bn[0].recipe["learning_rate"]


def _length(pair: Pair) -> int:
    return pair.with_bn[0].recipe["steps"]


def _accuracy(runs: list[Record], step: int | None = None) -> Array:
    """Test accuracy of each run at `step`, or at its end."""
    steps, values = stack(runs, "test_accuracy")
    return values[:, -1 if step is None else list(steps).index(step)]


def _until(last: int, paper: Curves | None, name: str) -> tuple[Array, Array] | None:
    """The paper's curve `name` as far as step `last`; None where it has none."""
    if not paper:
        return None
    steps, values = paper[name]
    return (steps[steps <= last], values[steps <= last]) if steps[0] <= last else None


def _points(axes: Axes, x: list[float], y: list[Array], colour: str, label: str) -> None:
    """A point for each seed and a line through the means, on a logarithmic x axis."""
    axes.plot(x, [values.mean() for values in y], color=colour, label=label)
    dots = {"color": colour, "markersize": 4, "alpha": 0.7, "markeredgewidth": 0}
    for place, values in zip(x, y, strict=True):
        axes.plot([place] * len(values), values, "o", **dots)
    axes.set_xscale("log")


_write = partial(write, fontsize=10, va="bottom")
