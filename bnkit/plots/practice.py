"""The figures of the chapter on practice."""

from collections.abc import Sequence

import numpy as np

from bnkit.plots import DOTS, ByName, Drawing, band, figure, styled
from bnkit.plots.colours import SERIES, WITH_BN, WRONG
from bnkit.plots.labels import legend_below
from bnkit.plots.narrow import Layout
from bnkit.plots.scales import percent, shares, ticks


@styled
def uses(accuracies: ByName) -> Drawing:
    """Test accuracy of the same networks, (seeds,), by how they are used; the first use is right."""
    height = 0.9 + 0.42 * len(accuracies)
    drawing, axes = figure(width=8, height=height, phone=Layout(1, 1, 1.2 * height))
    for row, values in enumerate(accuracies.values()):
        colour = WRONG if row else WITH_BN
        axes.plot(values, [row] * len(values), "o", color=colour, markersize=4, alpha=0.5)
        axes.plot(values.mean(), row, "D", color=colour, markersize=8)
    axes.set_yticks(range(len(accuracies)), list(accuracies))
    axes.set(ylim=(len(accuracies) - 0.5, -0.5), xlim=(0, 1.02), xlabel="right on test digits")
    percent(axes.xaxis)
    axes.grid(axis="y", visible=False)
    return drawing


@styled
def fine_tuning(sizes: Sequence[int], cameras: dict[str, ByName]) -> Drawing:
    """Test accuracy after fine-tuning by the size of its mini-batches; a panel for each camera.

    Each method of a camera has an array (seeds, sizes).
    """
    drawing, panels = figure(1, len(cameras), width=9.2, height=4.2, sharey=True)
    for axes, (camera, methods) in zip(np.atleast_1d(panels), cameras.items(), strict=True):
        for colour, (name, values) in zip(SERIES, methods.items(), strict=False):
            band(axes, sizes, values, colour, label=name, **DOTS)
        axes.set(title=camera, xscale="log", xlabel="examples in a mini-batch")
        ticks(axes.xaxis, sizes)
        shares(axes)
    panels[0].set_ylabel("right on test digits")
    legend_below(drawing, panels[0], 2)
    return drawing
