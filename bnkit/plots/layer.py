"""The figures of the page on the layer: how right it is, and how fast."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import LogNorm

from bnkit.plots import HIGHLIGHT, NEUTRAL, THEORY, WITH_BN, WITHOUT_BN, Drawing, figure, styled

COLOURS = {"plain torch": WITH_BN, "ATen, one call": HIGHLIGHT, "ATen, blocks": "#56B4E9", "torch.nn": WITHOUT_BN}


@styled
def parity(
    worst: np.ndarray, layouts: Sequence[str], modes: Sequence[str], dtypes: Sequence[str], names: Sequence[str]
) -> Drawing:
    """A number for every step: its worst error. Shapes: worst (layouts, modes, dtypes, names)."""
    drawing, panels = figure(1, len(dtypes), width=9.4, height=5.4, sharey=True)
    values = worst.reshape(-1, *worst.shape[2:])
    scale = LogNorm(max(0.1, values.min()), max(values.max(), 20.0))
    for axes, title, block in zip(panels, dtypes, values.transpose(1, 0, 2), strict=True):
        axes.imshow(block, norm=scale, cmap="cividis", aspect="auto")
        for (row, column), value in np.ndenumerate(block):
            dark = scale(value) < 0.55
            axes.text(column, row, f"{value:.2g}", ha="center", va="center", fontsize=8, color="w" if dark else "k")
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_title(title)
        axes.grid(False)
    rows = [f"{layout}, {mode}" for layout in layouts for mode in modes]
    panels[0].set_yticks(range(len(rows)), rows)
    return drawing


@styled
def by_length(counts: Sequence[int], panels: Mapping[str, Mapping[str, Sequence[float]]]) -> Drawing:
    """Errors against the number of values of a channel: title -> implementation -> errors, (counts,)."""
    drawing, row = figure(1, len(panels), width=9.4, height=3.5, sharey=True)
    for axes, (title, curves) in zip(row, panels.items(), strict=True):
        for implementation, errors in curves.items():
            dashed = {"linestyle": "--"} if implementation == "torch.nn" else {}  # where it lies on another one
            axes.loglog(
                counts, errors, marker="o", markersize=4, color=COLOURS[implementation], label=implementation, **dashed
            )
        axes.set(title=title, xlabel="values of a channel")
    row[0].set_ylabel("largest error, in spacings")
    row[0].legend(loc="upper left", fontsize=9)
    return drawing


@styled
def ratios(groups: Mapping[str, Mapping[str, Sequence[Sequence[float]]]], names: Sequence[str], peer: str) -> Drawing:
    """Time of a peer over ours for every shape: a dot for the median, a bar from quartile to quartile.

    Shapes: group (a panel) -> label -> (names, 3), quartile, median and quartile.
    """
    drawing, panels = figure(1, len(groups), width=9.2, height=0.24 * len(names) + 1.5, sharey=True, sharex=True)
    places = np.arange(len(names))[::-1]
    for axes, (title, series) in zip(np.atleast_1d(panels), groups.items(), strict=True):
        axes.axvline(1, color=NEUTRAL, linewidth=1)
        axes.axvline(0.8, color=THEORY, linestyle=":", linewidth=1)
        offsets = np.linspace(0.15, -0.15, len(series)) if len(series) > 1 else [0.0]
        for offset, colour, (label, values) in zip(offsets, (WITH_BN, WITHOUT_BN), series.items(), strict=False):
            low, middle, high = np.transpose(values)
            axes.hlines(places + offset, low, high, color=colour, alpha=0.5, linewidth=2.5)
            axes.plot(middle, places + offset, "o", color=colour, markersize=4.5, label=label)
        axes.set(title=title, xlabel=f"time of {peer} over ours", xscale="log")
        ticks = [0.5, 0.7, 1, 1.4, 2]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
    np.atleast_1d(panels)[0].set_yticks(places, names, fontsize=8.5)
    np.atleast_1d(panels)[-1].legend(loc="lower right", fontsize=8.5)
    return drawing
