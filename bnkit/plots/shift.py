"""The figures of chapter 2: small changes, covariate shift and the buckling column."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Polygon
from matplotlib.ticker import StrMethodFormatter

from bnkit.plots import DOTS, NAMES, PIXELS, Array, ByName, Drawing, band, figure, styled
from bnkit.plots.colours import BOTH, HIGHLIGHT, NEUTRAL, SERIES, THEORY, ramp, readable_on
from bnkit.plots.labels import label_end
from bnkit.plots.narrow import Layout
from bnkit.plots.scales import powers, ticks

COLOUR = BOTH | {"noisy BN": HIGHLIGHT}
FLOOR = 1e-10  # smaller changes are not drawn


@styled
def responses(panels: Mapping[str, Mapping[tuple[str, bool], Array]]) -> Drawing:
    """Relative change of each layer's pre-activation: a row for each change, a column each kind.

    A network, and a line, is (activation, with BN?). Shapes: (seeds, depth).
    """
    kinds = list(dict.fromkeys(kind for networks in panels.values() for kind, _ in networks))
    size = {"width": 9, "height": 2.5 * len(panels) + 0.4}
    size["phone"] = Layout(len(kinds), len(panels), 2.4 * len(kinds))
    drawing, grid = figure(len(panels), len(kinds), **size, sharex=True, sharey=True, squeeze=False)
    for line, (change, networks) in zip(grid, panels.items(), strict=True):
        for (kind, norm), changes in networks.items():
            layers = np.arange(1, changes.shape[1] + 1)
            name, colour = list(BOTH.items())[not norm]
            band(line[kinds.index(kind)], layers, changes, colour, label=name)
        for axes, kind in zip(line, kinds, strict=True):
            axes.set_title(f"{NAMES[kind]}: {change}", fontsize=10)
            axes.set(yscale="log", ylim=(FLOOR, 5))
            powers(axes.yaxis)
        line[0].set_ylabel("relative change of\nthe pre-activations")
    for axes in grid[-1]:
        axes.set_xlabel("layer")
    grid[0, -1].legend(loc="lower right", labelcolor="linecolor")
    return drawing


@styled
def grid(gains: Sequence[float], rates: Sequence[float], panels: ByName) -> Drawing:
    """Test accuracy over initial scale and learning rate, (gains, rates, seeds); NaN: diverged."""
    drawing, panels_axes = figure(1, len(panels), width=9, height=4.2, sharey=True)
    for axes, (title, accuracy) in zip(panels_axes, panels.items(), strict=True):
        lost = np.isnan(accuracy).any(2)
        mean = np.where(lost, 0.0, np.nan_to_num(accuracy).mean(2))
        image = axes.imshow(100 * mean, vmin=0, vmax=100, origin="lower", aspect="auto")
        for row, column in np.ndindex(*mean.shape):
            text = "div." if lost[row, column] else f"{100 * mean[row, column]:.0f}"
            colour = readable_on(image.cmap(image.norm(100 * mean[row, column])))
            axes.text(column, row, text, ha="center", va="center", fontsize=9, color=colour)
        axes.set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates])
        axes.set_yticks(range(len(gains)), [f"{gain:g}" for gain in gains])
        axes.set(title=title, xlabel="learning rate")
        axes.grid(False)
    panels_axes[0].set_ylabel("gain of the initial weights")
    drawing.colorbar(image, ax=list(panels_axes), label="test accuracy in %", shrink=0.9)
    return drawing


@styled
def rotation(angles: Sequence[float], pictures: Array, rotated: Mapping) -> Drawing:
    """Against the angle of the test images: accuracy; and how far the distributions have moved.

    `rotated` has ``shift.Rotated`` by "without BN", "with BN". Shapes: angles (n,), pictures (n, h,
    w).
    """
    drawing, (left, right) = figure(1, 2, width=9, height=4)
    for name, networks in rotated.items():
        band(left, angles, 100 * networks.accuracy.T, COLOUR[name], label=name, **DOTS)
        band(right, angles, networks.hidden_shift.T, COLOUR[name], **DOTS)
    pixels = networks.input_shift
    right.plot(angles, pixels, color=THEORY, **DOTS)
    label_end(right, angles, pixels, "pixels", THEORY)
    shifts = {name: networks.hidden_shift.mean(1) for name, networks in rotated.items()}
    for name, dy in zip(sorted(shifts, key=lambda name: shifts[name][-1]), (-7, 7), strict=True):
        label_end(right, angles, shifts[name], f"layer 3, {name}", COLOUR[name], dy=dy)
    left.axhline(10, color=NEUTRAL, linewidth=1)
    left.text(angles[-1], 8, "chance", color=NEUTRAL, va="top", ha="right", fontsize=9)
    width = 0.9 * (angles[-1] - angles[0]) / len(angles)
    # above the curves, each over its angle
    for angle, picture in zip(angles, pictures, strict=True):
        extent = (angle - width / 2, angle + width / 2, 108, 127)
        left.imshow(picture, cmap="gray_r", extent=extent, aspect="auto", zorder=2, **PIXELS)
    left.set(xlabel="rotation of the test images in degrees", ylabel="test accuracy in %")
    left.set(xlim=(angles[0] - width / 2, angles[-1] + width / 2), ylim=(0, 130))
    left.set_yticks(range(0, 101, 20))
    left.legend(loc="upper right", bbox_to_anchor=(1, 0.72), labelcolor="linecolor")
    right.set(xlabel="rotation in degrees", ylabel="distance from upright,\nin standard deviations")
    for axes in (left, right):
        axes.set_xticks(angles)
    return drawing


@styled
def following(followed: Mapping, rate: int) -> Drawing:
    """What happens while networks train: a panel for each measure, a line for each kind of network.

    `followed` holds a ``shift.Shift`` for each kind; `rate` is the index of the learning rate.
    """
    drawing, panels = _three_panels()
    for name, shift in followed.items():
        band(panels[0], shift.steps[1:], shift.distribution[:, rate].T, COLOUR[name])
        band(panels[1], shift.steps, shift.gradient[:, rate].T, COLOUR[name])
        band(panels[2], shift.steps, 100 * shift.accuracy[:, rate].T, COLOUR[name], label=name)
    for axes in panels:
        axes.set_xlabel("training step")
    panels[2].legend(loc="lower right", labelcolor="linecolor")
    return drawing


@styled
def over_rates(rates: Sequence[float], followed: Mapping) -> Drawing:
    """The same against the learning rate: shifts averaged over training, final accuracy."""
    drawing, panels = _three_panels()
    for name, shift in followed.items():
        shifts = (shift.distribution.mean(0), shift.gradient.mean(0))
        for axes, values in zip(panels, (*shifts, 100 * shift.accuracy[-1]), strict=True):
            band(axes, rates, values.T, COLOUR[name], label=name, **DOTS)
    for axes in panels:
        axes.set(xlabel="learning rate", xscale="log")
        ticks(axes.xaxis, rates)
    panels[2].legend(loc="lower center", labelcolor="linecolor")
    return drawing


def _three_panels() -> tuple[Drawing, Array]:
    drawing, panels = figure(1, 3, width=9.6, height=3.5)
    apart = "distance between looks,\nin standard deviations"
    panels[0].set(title="distribution moves", ylabel=apart, yscale="log")
    powers(panels[0].yaxis)
    panels[1].set(title="gradient changes", ylabel="‖G − G'‖ / ‖G‖", ylim=(0, 1))
    panels[2].set(title="result", ylabel="test accuracy in %", ylim=(0, 102))
    return drawing, panels


# The column


@styled
def columns(loaded: Sequence, unit: float) -> Drawing:
    """``buckling.Column`` values at their critical load; the first panel shows one below it."""
    drawing, axes = figure(width=8.4, height=4.2)
    straight = loaded[0]._replace(shape=0 * loaded[0].shape, load=0.5 * loaded[0].load)
    for place, (column, letter) in enumerate(zip([straight, *loaded], "abcdefg", strict=False)):
        _column(axes, column, 0.6 * place)
        state = "still straight" if column is straight else "buckled"
        text = f"{letter})\nP = {column.load / unit:.2f} P₀\n{state}"
        axes.text(0.6 * place, 1.25, text, ha="center", fontsize=10)
    axes.set(xlim=(-0.3, 0.6 * len(loaded) + 0.3), ylim=(-0.08, 1.55))
    axes.set_axis_off()
    return drawing


def _column(axes: Axes, column, x: float) -> None:
    """One column whose hinges are at `x`."""
    axes.plot([x, x], [0, 1], color=NEUTRAL, linewidth=1, linestyle="dotted")
    look = {"color": SERIES[0], "linewidth": 4, "solid_capstyle": "butt"}
    axes.plot(x + 0.16 * column.shape, column.height, **look)
    for height in column.supports:
        for side in (-1, 1):  # a wedge from either side: the column can turn there, but not move
            tip, back = x + side * 0.025, x + side * 0.11
            wedge = [(tip, height), (back, height + 0.03), (back, height - 0.03)]
            axes.add_patch(Polygon(wedge, color=HIGHLIGHT))
    axes.add_patch(Polygon([(x, 0), (x - 0.06, -0.06), (x + 0.06, -0.06)], color=THEORY))
    axes.plot([x, x], [0, 1], "o", color=THEORY, markersize=6)
    arrow = {"arrowstyle": "-|>", "color": THEORY, "linewidth": 2}
    axes.annotate("", (x, 1.02), xytext=(x, 1.2), arrowprops=arrow)
    axes.text(x + 0.03, 1.12, "P", color=THEORY)


@styled
def amplifications(
    loads: Array, computed: Mapping[int, Array], criticals: Mapping[int, float], unit: float
) -> Drawing:
    """How much a load enlarges a small crookedness, for columns with several numbers of supports.

    Shapes: `loads` (n,), in units of `unit`, computed (n,) with NaN above the critical load.
    """
    drawing, axes = figure(height=3.6)
    for (supports, values), colour in zip(computed.items(), ramp(len(computed)), strict=True):
        critical = criticals[supports]
        fine = np.linspace(0, 0.985 * critical, 200)
        axes.plot(fine / unit, 1 / (1 - fine / critical), color=THEORY, linestyle="dotted")
        axes.plot(loads / unit, values, "o", color=colour, markersize=4)
        axes.axvline(critical / unit, color=colour, linewidth=1, alpha=0.6)
        name = f"{supports or 'no'} support{'s' if supports > 1 else ''}"
        axes.text(critical / unit, 47, name, color=colour, ha="center", va="bottom")
    axes.set(yscale="log", ylim=(0.9, 45), ylabel="crookedness grows by")
    axes.set_xlabel("load P, in units of P₀ = π² EI / L²")
    ticks(axes.yaxis, [1, 2, 5, 10, 20, 40])
    axes.yaxis.set_major_formatter(StrMethodFormatter("× {x:g}"))
    return drawing
