"""The figures of the chapter on convolution: blue is one pair per map, purple per activation."""

from collections.abc import Mapping, Sequence

import numpy as np

from bnkit.plots import PIXELS, Array, ByName, Drawing, figure, styled
from bnkit.plots.colours import SERIES, THEORY, WITH_BN, WRONG, ramp
from bnkit.plots.labels import guessing, label_end
from bnkit.plots.narrow import Layout
from bnkit.plots.scales import powers, shares
from bnkit.plots.tables import changes

COLOURS = {"per map": WITH_BN, "per activation": WRONG}


@styled
def touched(panels: ByName, value: tuple[int, ...]) -> Drawing:
    """A panel for each way to normalise: a batch as a table of maps, images down, channels across.

    Violet are the outputs that change, (N, C, H, W) of bool, when the one orange `value` moves.
    """
    drawing, row = figure(1, len(panels), width=9.4, height=2.7, phone=Layout(2, 2, 4.8))
    drawing.get_layout_engine().set(wspace=0.12)
    for axes, (name, changed) in zip(row, panels.items(), strict=True):
        changes(axes, changed, value, SERIES[0])
        axes.set_title(name)
        images, channels = changed.shape[:2]
        axes.set_xticklabels([f"map {k + 1}" for k in range(channels)])
        axes.set_yticklabels([f"image {k + 1}" for k in range(images)])
        axes.tick_params(labelleft=axes is row[0])
    return drawing


@styled
def equivariance(rows: Mapping[str, tuple[Array, Array]]) -> Drawing:
    """A row for each way to normalise: an image treated; shifted, treated, back; the difference.

    Shapes: (h, w). One grey scale for all images, one scale for all differences.
    """
    drawing, panels = figure(len(rows), 3, width=7.2, height=4.6, phone=Layout(len(rows), 3, 3.6))
    reach = max(np.abs(back - first).max() for first, back in rows.values()) or 1.0
    for line, (name, (first, back)) in zip(panels, rows.items(), strict=True):
        # in standard deviations; what lies outside is black or white
        scale = {"vmin": -2, "vmax": 3, "cmap": "gray"} | PIXELS
        line[0].imshow(first, **scale)
        line[1].imshow(back, **scale)
        look = {"cmap": "RdBu_r", "vmin": -reach, "vmax": reach} | PIXELS
        picture = line[2].imshow(back - first, **look)
        line[0].set_ylabel(name)
    titles = ("normalized", "moved, normalized,\nmoved back", "difference")
    for axes, title in zip(panels[0], titles, strict=True):
        axes.set_title(title)
    for axes in panels.flat:
        axes.set(xticks=[], yticks=[])
        axes.grid(False)
    drawing.colorbar(picture, ax=list(panels[:, 2]), shrink=0.8, label="standard deviations")
    return drawing


@styled
def accuracies(plain: ByName, shifted: ByName) -> Drawing:
    """Test accuracy on the images as they are and shifted, a dot for each seed, (seeds,)."""
    drawing, axes = figure(width=5.6, height=3.4)
    for offset, (name, colour) in zip((-0.08, 0.08), COLOURS.items(), strict=True):
        for place, values in enumerate((plain[name], shifted[name])):
            places, label = np.full(len(values), place + offset), None if place else name
            axes.plot(places, values, "o", color=colour, label=label)
        axes.plot((offset, 1 + offset), (plain[name].mean(), shifted[name].mean()), color=colour)
    axes.set_xticks((0, 1), ("as they are", "shifted around the edge"))
    axes.set(xlabel="test images", xlim=(-0.4, 1.4))
    shares(axes, "accuracy")
    guessing(axes, -0.38)
    axes.legend(loc="center left", title="one γ, β")
    return drawing


@styled
def effective_sizes(
    rhos: Sequence[float], measured: Mapping[int, Array], fine: Array, expected: Mapping[int, Array]
) -> Drawing:
    """Effective size of a batch of correlated maps against the correlation, by number of images.

    Shapes: measured (rhos,) and expected (fine,) for each number m of images.
    """
    drawing, axes = figure(width=6.6, height=3.8)
    for colour, (m, values) in zip(ramp(len(measured)), measured.items(), strict=True):
        axes.plot(fine, expected[m], color=THEORY, linestyle=":")
        axes.plot(rhos, values, "o", color=colour)
        label_end(axes, fine, expected[m], f"{m} images", colour)
    axes.set(xlabel="correlation of two pixels of one image", ylabel="independent values")
    axes.set_yscale("log")
    powers(axes.yaxis)
    return drawing
