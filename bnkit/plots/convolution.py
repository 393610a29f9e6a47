"""The figures of the chapter on convolution. In all of them blue is one pair per map, vermilion one per activation."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.ticker import PercentFormatter

from bnkit.plots import HIGHLIGHT, SERIES, THEORY, WITH_BN, WITHOUT_BN, Drawing, figure, label_end, styled

COLOURS = {"per map": WITH_BN, "per activation": WITHOUT_BN}


@styled
def equivariance(columns: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Drawing:
    """One column for each map: above as it is, in the middle shifted, treated and shifted back, below the difference.

    Shapes: (h, w) each. One grey scale in each column; one scale for all differences.
    """
    drawing, rows = figure(3, len(columns), width=6.4, height=5.9)
    reach = max(np.abs(back - first).max() for first, back in columns.values()) or 1.0
    for axes, (name, (first, back)) in zip(rows.T, columns.items(), strict=True):
        low, high = min(first.min(), back.min()), max(first.max(), back.max())
        axes[0].imshow(first, cmap="gray", vmin=low, vmax=high)
        axes[1].imshow(back, cmap="gray", vmin=low, vmax=high)
        picture = axes[2].imshow(back - first, cmap="RdBu_r", vmin=-reach, vmax=reach)
        axes[0].set_title(name)
    for label, axes in zip(("treated", "shifted, treated,\nshifted back", "difference"), rows[:, 0], strict=True):
        axes.set_ylabel(label)
    for axes in rows.flat:
        axes.set(xticks=[], yticks=[])
        axes.grid(False)
    drawing.colorbar(picture, ax=list(rows[2]), shrink=0.9)
    return drawing


@styled
def accuracies(plain: Mapping[str, np.ndarray], shifted: Mapping[str, np.ndarray]) -> Drawing:
    """Test accuracy on the images as they are and shifted, a dot for each seed. Shapes: (seeds,) per kind."""
    drawing, axes = figure(width=5.6, height=3.4)
    for offset, (name, colour) in zip((-0.08, 0.08), COLOURS.items(), strict=True):
        for place, values in enumerate((plain[name], shifted[name])):
            axes.plot(np.full(len(values), place + offset), values, "o", color=colour, label=None if place else name)
        axes.plot((offset, 1 + offset), (plain[name].mean(), shifted[name].mean()), color=colour)
    axes.set_xticks((0, 1), ("as they are", "shifted around the edge"))
    axes.set(xlabel="test images", ylabel="accuracy", xlim=(-0.4, 1.4), ylim=(0, 1.02))
    axes.axhline(0.1, color=THEORY, linestyle=":")
    axes.text(-0.38, 0.12, "guessing", color=THEORY)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend(loc="center left", title="one γ, β")
    return drawing


@styled
def effective_sizes(
    rhos: Sequence[float], measured: Mapping[int, np.ndarray], fine: np.ndarray, expected: Mapping[int, np.ndarray]
) -> Drawing:
    """Effective size of a batch of correlated maps against the correlation, for several numbers of images.

    Shapes: measured (rhos,) and expected (fine,) for each number m of images.
    """
    drawing, axes = figure(width=6.6, height=3.8)
    for colour, (m, values) in zip((HIGHLIGHT, WITH_BN, SERIES[5]), measured.items(), strict=False):
        axes.plot(fine, expected[m], color=THEORY, linestyle=":")
        axes.plot(rhos, values, "o", color=colour)
        label_end(axes, fine, expected[m], f"{m} images", colour)
    axes.set(xlabel="correlation of two pixels of one image", ylabel="independent values", yscale="log")
    return drawing
