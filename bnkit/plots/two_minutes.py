"""The figure of chapter 0: which values share a mean and a variance."""

from collections.abc import Mapping

import numpy as np
from matplotlib.colors import to_rgba

from bnkit.plots import PIXELS, Array, Drawing, figure, styled
from bnkit.plots.colours import HIGHLIGHT, NEUTRAL, SERIES, WITH_BN

Named = tuple[Array, str, str]  # what changes, and what its rows and columns are called


@styled
def together(panels: Mapping[str, Named], value: tuple[int, int]) -> Drawing:
    """A panel for each way to normalize: a batch as a table, examples down, features across.

    Coloured are the outputs that change, (N, C, H, W) of bool, when the one orange value moves, at
    place 0, 0 of the example and the feature `value`: blue by BN, violet by another way.
    """
    drawing, row = figure(1, len(panels), width=9.4, height=2.7)
    for axes, (title, (changed, down, across)) in zip(row, panels.items(), strict=True):
        n, channels, height, width = changed.shape
        colour = WITH_BN if "BN" in title else SERIES[0]
        # a gap below and beside each cell of the table, through which the page is seen
        table = np.zeros((n, height + 1, channels, width + 1, 4))
        marked = np.where(
            changed.transpose(0, 2, 1, 3)[..., None], to_rgba(colour), to_rgba(NEUTRAL, 0.35)
        )
        if height == 1:  # one number in each cell, as wide as a map of three
            table = np.zeros((n, 4, channels, 4, 4))
            height, width = 3, 3
        table[:, :height, :, :width] = marked
        one = (slice(None),) * 2 if changed.shape[2] == 1 else (0, 0)
        table[value[0], :height, value[1], :width][one] = to_rgba(HIGHLIGHT)
        picture = table.reshape(n * (height + 1), channels * (width + 1), 4)[:-1, :-1]
        axes.imshow(picture, **PIXELS)
        axes.set_title(title)
        columns = np.arange(channels) * (width + 1) + (width - 1) / 2
        rows = np.arange(n) * (height + 1) + (height - 1) / 2
        axes.set_xticks(columns, [str(k + 1) for k in range(channels)])
        axes.set_yticks(rows, [str(k + 1) for k in range(n)])
        axes.set(xlabel=across, ylabel=down)
        axes.tick_params(length=0)
        axes.grid(False)
        axes.spines[:].set_visible(False)
    return drawing
