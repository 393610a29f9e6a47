"""The figures of chapter 09: Figure 2 of the paper beside runs of ours, and what explains it.

Runs are given by variant, ``{"bn-x5": [...]}``; each network keeps its colour.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.ticker import LogLocator, NullLocator

from bnkit.plots import WIDTH, Array, ByName, Drawing, band, figure, styled
from bnkit.plots.colours import (
    FASTER,
    GROUND,
    HIGHLIGHT,
    NEUTRAL,
    SERIES,
    WITH_BN,
    WITHOUT_BN,
    WRONG,
    ramp,
)
from bnkit.plots.labels import room_above
from bnkit.plots.narrow import Layout
from bnkit.plots.scales import NUMBER, ticks
from bnkit.runs.records import Record, stack

NETWORKS = {
    "inception": ("Inception", WITHOUT_BN),
    "bn-baseline": ("BN-Baseline", WITH_BN),
    "bn-x5": ("BN-x5", FASTER),
    "bn-x30": ("BN-x30", HIGHLIGHT),
    "bn-x5-sigmoid": ("BN-x5-Sigmoid", WRONG),
    "inception-x5": ("Inception at 5 times its rate", NEUTRAL),
    "inception-sigmoid": ("Inception, sigmoid", NEUTRAL),
}

Runs = Mapping[str, list[Record]]
Curves = Mapping[str, tuple[Array, Array]]


@styled
def module(branches: Sequence[Sequence[str]], entering: str, leaving: str) -> Drawing:
    """An Inception module: what enters, its branches of layers from bottom to top, what leaves."""
    drawing, axes = figure(width=WIDTH, height=3.6)
    axes.set(xlim=(0, len(branches)), ylim=(-0.2, 5.2))
    axes.axis("off")
    middle = len(branches) / 2

    def box(x: float, y: float, text: str, width: float, colour: str) -> None:
        corner, size = (x - width / 2, y - 0.27), 0.54
        look = {"facecolor": colour, "edgecolor": NEUTRAL, "alpha": 0.35}
        axes.add_patch(FancyBboxPatch(corner, width, size, boxstyle="round,pad=0.03", **look))
        axes.text(x, y, text, ha="center", va="center", fontsize=9.5)

    def arrow(start: tuple[float, float], end: tuple[float, float]) -> None:
        look = {"arrowstyle": "-|>", "color": NEUTRAL, "linewidth": 0.9}
        axes.add_patch(FancyArrowPatch(start, end, mutation_scale=9, **look))

    box(middle, 0.2, entering, 1.7, GROUND)
    box(middle, 4.8, leaving, 1.7, GROUND)
    for place, layers in enumerate(branches):
        x, last = place + 0.5, (middle + (place + 0.5 - middle) * 0.4, 0.5)
        for y, text in enumerate(layers, 1):
            arrow(last, (x, y + 0.2))
            box(x, y + 0.5, text, 0.82, SERIES[0] if "×" in text else HIGHLIGHT)
            last = (x, y + 0.8)
        arrow(last, (middle + (x - middle) * 0.4, 4.5))
    return drawing


# Figure 2


@styled
def figure_2(runs: Runs, title: str, paper: Curves) -> Drawing:
    """Validation accuracy against steps: above the paper's curves, below those of `runs`.

    A dotted line marks Inception's best accuracy (a mean over seeds), diamonds where it is reached.
    """
    drawing, (above, below) = figure(2, width=WIDTH, height=7.6)
    for net, (steps, values) in paper.items():
        above.plot(steps / 1e6, 100 * values, color=NETWORKS[net][1], label=NETWORKS[net][0])
    _meet(above, {net: (steps / 1e6, 100 * values) for net, (steps, values) in paper.items()})
    above.set(xlabel="million steps", ylabel="validation accuracy (%)", xlim=(0, 31.5))
    above.set_title("The paper's Figure 2: ImageNet, 1,000 classes")
    above.legend(loc="lower right")
    _accuracies(below, runs)
    curves = {net: stack(records, "test_accuracy") for net, records in runs.items()}
    _meet(below, {net: (steps, 100 * values.mean(0)) for net, (steps, values) in curves.items()})
    below.set_title(title)
    return drawing


@styled
def learning(runs: Runs, title: str) -> Drawing:
    """Validation accuracy against steps, with the spread over seeds."""
    drawing, axes = figure(width=WIDTH, height=3.4)
    _accuracies(axes, runs)
    axes.set_title(title)
    axes.legend(loc="best", labelcolor="linecolor")
    return drawing


@styled
def speedups(shares: Array, ours: ByName, theirs: ByName) -> Drawing:
    """How many times fewer steps each network needs, for every share of Inception's best accuracy.

    Shapes: `shares` (k,), `ours` (seeds, k), 0 where a run never gets there, `theirs` (k,), dashed.
    """
    drawing, axes = figure(width=WIDTH, height=4.4)
    for net, values in ours.items():
        name, colour = NETWORKS[net]
        every = (values > 0).all(0)
        band(axes, 100 * shares[every], values[:, every], colour, label=name)
        axes.plot(100 * shares, theirs[net], color=colour, linestyle="--", linewidth=1.2)
    axes.plot([], [], color=NEUTRAL, linestyle="--", linewidth=1.2, label="the paper, digitized")
    axes.axhline(1, color=WITHOUT_BN, linewidth=0.9)
    axes.set(yscale="log", ylabel="times fewer steps than Inception")
    axes.set(xlabel="accuracy, in percent of Inception's best")
    axes.set_xlim(100 * shares[0], 100 * shares[-1])
    ticks(axes.yaxis, (0.5, 1, 2, 5, 10, 20, 50))
    axes.set_title("The factor depends on where one asks")
    axes.legend(loc="upper left", ncols=2, fontsize=9)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** 0.35)  # room for the legend
    return drawing


# What explains it


@styled
def worths(names: Sequence[str], points: Sequence[float], errors: Sequence[float]) -> Drawing:
    """What each change is worth in points, with bars of twice the standard error; a row each."""
    height = 1.2 + 0.42 * len(names)
    drawing, axes = figure(width=WIDTH, height=height, phone=Layout(1, 1, height))
    places = np.arange(len(names))[::-1]
    points, bars = np.asarray(points), 2 * np.asarray(errors)
    clear = np.abs(points) > bars
    for some, colour in ((clear, FASTER), (~clear, NEUTRAL)):
        bar = {"xerr": bars[some], "fmt": "o", "color": colour, "capsize": 3}
        axes.errorbar(points[some], places[some], **bar)
    axes.axvline(0, color=NEUTRAL, linewidth=0.9)
    axes.set_yticks(places, names)
    axes.set(xlabel="points that BN-x5 loses without it", ylim=(-0.6, len(names) - 0.4))
    axes.grid(axis="y", visible=False)
    axes.set_title("What each change is worth")
    return drawing


@styled
def rates(sweeps: Mapping[str, Mapping[float, list[Record]]], step: int, usable: float) -> Drawing:
    """Accuracy after `step` steps against the learning rate: a point for each seed, means joined.

    A run that ended earlier counts with its last evaluation. Below the dotted line, `usable` as a
    share of 1, is what does not count as learning.
    """
    drawing, axes = figure(width=WIDTH, height=3.8)
    for net, by_rate in sweeps.items():
        name, colour = NETWORKS[net]
        ends = {}
        for rate, runs in by_rate.items():
            curves = (run.curve("test_accuracy") for run in runs)
            ends[rate] = [100 * values[steps <= step][-1] for steps, values in curves]
        means = [np.mean(values) for values in ends.values()]
        axes.plot(list(ends), means, color=colour, label=name)
        dots = {"color": colour, "markersize": 5, "markeredgewidth": 0}
        for rate, values in ends.items():
            axes.plot([rate] * len(values), values, "o", **dots)
    axes.axhline(100 * usable, color=NEUTRAL, linestyle=":", label="twice guessing")
    axes.set(xscale="log", xlabel="initial learning rate")
    axes.set(ylabel="validation accuracy (%)", ylim=(0, None))
    ticks(axes.xaxis, sorted(set().union(*sweeps.values())))
    axes.set_title(f"After {step:,} steps")
    axes.legend(loc="best", labelcolor="linecolor")
    return drawing


@styled
def beside(runs: Runs, title: str) -> Drawing:
    """Validation accuracy against steps of networks that are to be compared one by one."""
    drawing, axes = figure(width=WIDTH, height=3.6)
    _accuracies(axes, runs, every=True)
    axes.set_title(title)
    room_above(axes, 0.32)
    axes.legend(loc="upper left", fontsize=9)
    return drawing


# Inside


@styled
def spreads(runs: Runs, names: Sequence[str]) -> Drawing:
    """85th minus 15th percentile of what each module's nonlinearity receives, over training.

    A panel for each network; lines are means over seeds, one a module, from faint (first) to strong.
    """
    drawing, panels = _panels(runs)
    for axes, (net, records) in zip(panels, runs.items(), strict=True):
        steps, percentiles = stack(records, "inputs")
        spread = (percentiles[..., 2] - percentiles[..., 0]).mean(0)  # (t, modules)
        for name, values, colour in zip(names, spread.T, ramp(len(names)), strict=True):
            axes.plot(steps, values, color=colour, marker="o", markersize=3, label=f"module {name}")
        axes.set(ylabel="85th − 15th percentile", ylim=(0, None))
        axes.set_title(f"{NETWORKS[net][0]}: input of each module's nonlinearity")
    panels[-1].set_xlabel("steps")
    panels[-1].xaxis.set_major_formatter(NUMBER)
    room_above(panels[0], 0.3)
    panels[0].legend(loc="upper center", ncols=3, fontsize=9, columnspacing=1.2)
    return drawing


@styled
def gradients(runs: Runs, names: Sequence[str]) -> Drawing:
    """Norm of the gradient from stage to stage at the start, half-way, and at the end.

    A panel for each network; `names` are those of the stages, lines means over seeds.
    """
    drawing, panels = _panels(runs)
    places = np.arange(len(names))
    for axes, (net, records) in zip(panels, runs.items(), strict=True):
        steps, norms = stack(records, "gradient_norm")  # (seeds, t, stages)
        shown = sorted({0, len(steps) // 2, len(steps) - 1})
        for time, shade in zip(shown, ramp(len(shown)), strict=True):
            band(axes, places, norms[:, time], shade, label=f"step {steps[time]:,}", marker="o")
        axes.set(ylabel="norm of the gradient", yscale="log")
        threes = norms.max() < 100 * norms.min()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 3) if threes else (1,)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(NUMBER)
        axes.set_title(NETWORKS[net][0])
        axes.legend(loc="best", labelcolor="linecolor", fontsize=9)
    panels[-1].set_xticks(places, names)
    panels[-1].set_xlabel("stage, from the picture to the classes")
    return drawing


# Parts


def _panels(runs: Runs) -> tuple[Drawing, Array]:
    """A figure with a panel for each network, below each other."""
    size = {"width": WIDTH, "height": 3.2 * len(runs)}
    drawing, panels = figure(len(runs), **size, sharex=True, sharey=True, squeeze=False)
    return drawing, panels[:, 0]


def _accuracies(axes: Axes, runs: Runs, every: bool = False) -> None:
    """Accuracy against steps; with `every`, grey networks get a line style of their own each."""
    styles = iter(("-", "--", ":", "-."))
    for net, records in runs.items():
        name, colour = NETWORKS[net]
        steps, values = stack(records, "test_accuracy")
        line = {"linestyle": next(styles)} if every and colour == NEUTRAL else {}
        band(axes, steps, 100 * values, colour, label=name, **line)
    axes.set(xlabel="steps", ylabel="validation accuracy (%)", xlim=(0, None))
    axes.xaxis.set_major_formatter(NUMBER)


def _meet(axes: Axes, curves: Curves) -> None:
    """Mark Inception's best accuracy, and where the mean curve of each network first reaches it."""
    level = curves["inception"][1].max()
    axes.axhline(level, color=WITHOUT_BN, linestyle=":", linewidth=1.2)
    for net, (steps, values) in curves.items():
        reached = np.flatnonzero(values >= level)
        if len(reached):
            last = reached[0]
            ends = [max(0, last - 1), last]
            step = np.interp(level, values[ends], steps[ends])
            look = {"color": NETWORKS[net][1], "markersize": 6, "markeredgecolor": GROUND}
            axes.plot(step, level, "D", zorder=5, **look)
