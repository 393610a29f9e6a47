"""The figures of chapter 08 on the search for the paper's settings: a map, and what is left over."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from bnkit.plots import Array, Drawing, band, figure, styled
from bnkit.plots.colours import HIGHLIGHT, NEUTRAL, PAPER, WITH_BN, WITHOUT_BN, ramp
from bnkit.plots.labels import legend_below, write
from bnkit.plots.scales import NUMBER, ticks

STEEP = (20, 50, 100, 1000)  # deviances at which the map changes its colour

SIZES = (190, 140, 95, 60, 30)  # of their dots, in square points


@styled
def map_of(settings: tuple[Array, Array], panels: Mapping[str, Array]) -> Drawing:
    """A map for each title of `panels`: a dot for each setting, the stronger the less speaks
    against it; a ring about the least.

    `settings` are learning rates and standard deviations, (S,) each; the values of `panels` are
    deviances, (S,).
    """
    drawing, axes = figure(1, len(panels), width=8.4, height=3.7, sharey=True)
    rates, sigmas = settings
    shades = ramp(len(STEEP) + 1)[::-1]
    edges = (0, *STEEP, np.inf)
    for place, (title, values) in zip(axes, panels.items(), strict=True):
        looks = zip(shades, SIZES, edges, edges[1:], strict=False)
        for shade, size, low, high in looks:
            there = (low <= values) & (values < high)
            name = f"below {high:,}" if np.isfinite(high) else "more"
            look = {"color": shade, "s": size, "linewidth": 0, "label": name}
            place.scatter(rates[there], sigmas[there], **look)
        best = values.argmin()
        ring = {"facecolor": "none", "edgecolor": HIGHLIGHT, "linewidth": 2, "s": 330}
        place.scatter(rates[best : best + 1], sigmas[best : best + 1], **ring)
        place.set(xscale="log", yscale="log", xlabel="learning rate")
        place.margins(0.15)
        ticks(place.xaxis, (0.05, 0.1, 0.2, 0.3))
        ticks(place.yaxis, tuple(np.unique(sigmas)))
        place.set_title(title)
    axes[0].set_ylabel("deviation of the initial weights")
    legend_below(drawing, axes[0], 3, handletextpad=0.2)
    return drawing


@styled
def left_over(
    steps: Array, main: Mapping[str, Array], others: Mapping[str, Mapping[str, Array]]
) -> Drawing:
    """Accuracy minus the paper's against steps, a panel for each network; the paper is the line.

    `main` has the differences in points by network, (seeds, T), NaN where the paper draws nothing.
    `others` has more of them by what they are, (T,) each.
    """
    drawing, panels = figure(2, width=5.8, height=6.4, sharex=True)
    colours = {"with BN": WITH_BN, "without BN": WITHOUT_BN}
    for axes, (net, values) in zip(panels, main.items(), strict=True):
        drawn = ~np.isnan(values[0])
        band(axes, steps[drawn], values[:, drawn], colours[net], label="the main pair")
        styles = zip(others.items(), ("--", ":"), strict=False)
        for (what, by_net), line in styles:
            axes.plot(steps[drawn], by_net[net][drawn], color=NEUTRAL, linestyle=line, label=what)
        axes.axhline(0, color=PAPER, linestyle="--", linewidth=1.1)
        _close(axes, values[:, drawn].mean(0))
        axes.set(ylabel="points from the paper")
        axes.set_title(net)
    write(panels[0], "the paper", (steps[-1], 0), PAPER, (0, 4), fontsize=10, ha="right")
    panels[1].set_xlabel("steps")
    panels[1].xaxis.set_major_formatter(NUMBER)
    legend_below(drawing, panels[0], 3)
    return drawing


def _close(axes: Axes, values: Sequence) -> None:
    """An axis for `values`; what is farther away leaves it."""
    reach = 1.25 * max(1.0, float(np.abs(values).max()))
    axes.set_ylim(-reach, reach)
