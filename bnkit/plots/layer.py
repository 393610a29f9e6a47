"""The figures of the page on the layer: how right it is, and how fast."""

from collections.abc import Mapping, Sequence

import numpy as np

from bnkit.plots import DOTS, Array, Drawing, figure, styled
from bnkit.plots.colours import FASTER, HIGHLIGHT, INK, NEUTRAL, SERIES, THEORY
from bnkit.plots.labels import legend_below
from bnkit.plots.narrow import Layout
from bnkit.plots.scales import powers, ticks

Names = Sequence[str]
PEER = "torch.nn"
COLOURS = {
    "plain torch": SERIES[0],
    "ATen, one call": HIGHLIGHT,
    "ATen, blocks": FASTER,
    PEER: INK,
}


@styled
def parity(worst: Array, layouts: Names, modes: Names, dtypes: Names, names: Names) -> Drawing:
    """Left: the worst error of every step. Right: of ours, over that of PyTorch's layer.

    Shapes: worst (layouts, modes, dtypes, names); a dot for each layout and mode, a row for each
    type and implementation.
    """
    drawing, (left, right) = figure(1, 2, width=9.4, height=5.0, sharey=True)
    values = worst.reshape(-1, *worst.shape[2:])  # (layouts x modes, dtypes, names)
    paths = [index for index, name in enumerate(names) if name != PEER]
    offsets = np.linspace(-0.3, 0.3, len(names))
    dots = {"linestyle": "", "marker": "o", "markersize": 5, "alpha": 0.6, "markeredgewidth": 0}
    for row, _ in enumerate(dtypes):
        for index, name in enumerate(names):
            places = np.full(len(values), row + offsets[index])
            look = dots | {"color": COLOURS[name], "label": None if row else name}
            left.plot(values[:, row, index], places, **look)
            if index in paths:
                theirs = values[:, row, list(names).index(PEER)]
                right.plot(values[:, row, index] / theirs, places, **look)
    right.axvline(1, color=NEUTRAL, linewidth=1)
    left.set(title="worst error", xlabel="in spacings of the type", xscale="log")
    right.set(title=f"the same, over {PEER}'s", xlabel="1: as right as PyTorch's", xscale="log")
    for axes, places in ((left, (0.2, 0.5, 1, 2, 5, 10, 20, 50)), (right, (0.2, 0.5, 1, 2, 5))):
        ticks(axes.xaxis, places)
        axes.grid(axis="y", visible=False)
    left.set_yticks(range(len(dtypes)), dtypes)
    left.set_ylim(len(dtypes) - 0.5, -0.5)
    legend_below(drawing, left, len(names))
    return drawing


@styled
def by_length(
    counts: Sequence[int], panels: Mapping[str, Mapping[str, Sequence[float]]], switch=None
) -> Drawing:
    """Errors against the values of a channel: title -> implementation -> errors, (counts,).

    At `switch` values the layer goes over from one call to blocks.
    """
    drawing, row = figure(1, len(panels), width=9.4, height=3.6, sharey=True)
    for axes, (title, curves) in zip(row, panels.items(), strict=True):
        if switch is not None:
            axes.axvline(switch, color=NEUTRAL, linewidth=1)
        for implementation, errors in curves.items():
            style = DOTS | {"color": COLOURS[implementation]}
            if implementation == PEER:  # which may lie on another one
                style["linestyle"] = "--"
            axes.loglog(counts, errors, label=implementation, **style)
        axes.set(title=title, xlabel="values of a channel")
        powers(axes.xaxis, axes.yaxis)
    row[0].set_ylabel("largest error, in spacings")
    row[0].legend(loc="upper left", fontsize=9)
    return drawing


@styled
def ratios(
    groups: Mapping[str, Mapping[str, Sequence]], names: Names, peer: str, goal: float
) -> Drawing:
    """Time of a peer over ours for every shape: a dot for the median, a bar between the quartiles.

    Shapes: group (a panel) -> label -> (names, 3), quartile, median and quartile.
    """
    size = {"width": 9.2, "height": 0.27 * len(names) + 1.6}
    phone = Layout(len(groups), 1, 0.8 * size["height"] * len(groups))
    drawing, panels = figure(1, len(groups), **size, sharey=True, sharex=True, phone=phone)
    panels, places = np.atleast_1d(panels), np.arange(len(names))[::-1]
    ravelled = [np.ravel(values) for series in groups.values() for values in series.values()]
    everything = np.concatenate(ravelled)
    low, high = min(0.65, everything.min() / 1.05), max(1.6, everything.max() * 1.05)
    round_numbers = (0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.4, 2, 3, 5, 10, 20)
    shown = [tick for tick in round_numbers if low <= tick <= high]
    for axes, (title, series) in zip(panels, groups.items(), strict=True):
        axes.axvline(1, color=NEUTRAL, linewidth=1)
        axes.axvline(goal, color=THEORY, linestyle=":", linewidth=1.5)
        offsets = np.linspace(0.17, -0.17, len(series)) if len(series) > 1 else [0.0]
        looks = zip(offsets, (SERIES[0], HIGHLIGHT), "os", strict=False)
        for (offset, colour, marker), label in zip(looks, series, strict=False):
            first, middle, third = np.transpose(series[label])
            axes.hlines(places + offset, first, third, color=colour, alpha=0.5, linewidth=2.5)
            style = {"color": colour, "markersize": 4.5, "linestyle": "", "label": label}
            axes.plot(middle, places + offset, marker, **style)
        axes.set(title=title, xlabel=f"time of {peer} over ours", xscale="log", xlim=(low, high))
        ticks(axes.xaxis, shown)
    panels[0].set_yticks(places, names, fontsize=8.5)
    legend_below(drawing, panels[0], 2, loc="outside upper center", fontsize=9.5)
    return drawing


@styled
def limit(panels: Mapping[str, tuple[Sequence[float], Mapping[str, Sequence[float]]]]) -> Drawing:
    """How near each layer comes to a copy, 1: title -> (sizes in MiB, who -> shares)."""
    drawing, row = figure(1, len(panels), width=9.2, height=3.4, sharey=True, sharex=True)
    colours = {"ours": SERIES[0], PEER: INK}
    for axes, (title, (sizes, curves)) in zip(np.atleast_1d(row), panels.items(), strict=True):
        axes.axhline(1, color=NEUTRAL, linewidth=1)
        for (who, shares), marker in zip(curves.items(), "os", strict=False):
            axes.plot(sizes, shares, marker, color=colours[who], markersize=5, label=who)
        axes.set(title=title, xlabel="size of the batch, MiB", xscale="log", ylim=(0, 1.1))
        powers(axes.xaxis)
    np.atleast_1d(row)[0].set_ylabel("share of the speed of a copy")
    np.atleast_1d(row)[0].legend(loc="center left", fontsize=9.5)
    return drawing
