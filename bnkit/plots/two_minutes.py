"""The figure of chapter 0: which values share a mean and a variance."""

from collections.abc import Mapping

from bnkit.plots import Array, Drawing, figure, styled
from bnkit.plots.colours import SERIES, WITH_BN
from bnkit.plots.tables import changes

Named = tuple[Array, str, str]  # what changes, and what its rows and columns are called


@styled
def together(panels: Mapping[str, Named], value: tuple[int, int, int, int]) -> Drawing:
    """A panel for each way to normalize: a batch as a table, examples down, features across.

    Coloured are the outputs that change, (N, C, H, W) of bool, when the one orange `value` moves:
    blue by BN, violet by another way.
    """
    drawing, row = figure(1, len(panels), width=9.4, height=2.7)
    for axes, (title, (changed, down, across)) in zip(row, panels.items(), strict=True):
        changes(axes, changed, value, WITH_BN if "BN" in title else SERIES[0])
        axes.set(title=title, xlabel=across, ylabel=down)
        rows, columns = changed.shape[:2]
        axes.set_xticklabels([str(k + 1) for k in range(columns)])
        axes.set_yticklabels([str(k + 1) for k in range(rows)])
    return drawing
