"""The figures of chapter 2: small changes, covariate shift and the buckling column."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Polygon
from matplotlib.ticker import StrMethodFormatter

from bnkit.plots import (
    HIGHLIGHT,
    NEUTRAL,
    SERIES,
    THEORY,
    WITH_BN,
    WITHOUT_BN,
    Drawing,
    band,
    figure,
    label_end,
    powers,
    styled,
    ticks,
)

COLOUR = {"without BN": WITHOUT_BN, "with BN": WITH_BN, "noisy BN": HIGHLIGHT}
LINES = {"sigmoid": "dashed", "tanh": "dashdot", "relu": "solid"}
NAMES = {"sigmoid": "sigmoid", "tanh": "tanh", "relu": "ReLU"}


@styled
def responses(
    panels: Mapping[str, Mapping[tuple[str, bool], np.ndarray]], floor: float = 1e-10
) -> Drawing:
    """Relative change of each layer's pre-activation, one panel for each kind of change, one line
    for each network.

    A network is (activation, with BN?). Shapes: (seeds, depth). What is below `floor` is not drawn.
    """
    drawing, axes_list = figure(1, len(panels), width=9, height=4, sharey=True)
    for axes, (title, networks) in zip(axes_list, panels.items(), strict=True):
        for (activation, norm), changes in networks.items():
            layers = np.arange(1, changes.shape[1] + 1)
            colour = WITH_BN if norm else WITHOUT_BN
            band(axes, layers, changes, colour, linestyle=LINES[activation])
        ends = {
            network: changes.mean(0)[-1]
            for network, changes in networks.items()
            if changes.mean(0)[-1] > floor
        }
        place = 0.0
        for network in sorted(
            ends, key=ends.get
        ):  # from below, each label at least half a decade above the last
            place = max(ends[network], place * 10**0.5)
            label_end(
                axes, layers, [place], NAMES[network[0]], WITH_BN if network[1] else WITHOUT_BN
            )
        axes.set(title=title, xlabel="layer", yscale="log", ylim=(floor, 5))
        powers(axes.yaxis)
    axes_list[0].set_ylabel("relative change of the\npre-activations")
    axes_list[0].plot([], [], color=WITHOUT_BN, label="without BN")
    axes_list[0].plot([], [], color=WITH_BN, label="with BN")
    axes_list[0].legend(loc="upper left", labelcolor="linecolor")
    return drawing


@styled
def grid(
    gains: Sequence[float], rates: Sequence[float], panels: Mapping[str, np.ndarray]
) -> Drawing:
    """Test accuracy over initial scale and learning rate. Shapes: (gains, rates, seeds), NaN: this
    network diverged."""
    drawing, axes_list = figure(1, len(panels), width=9, height=4.2, sharey=True)
    for axes, (title, accuracy) in zip(axes_list, panels.items(), strict=True):
        lost = np.isnan(accuracy).any(2)
        mean = np.where(lost, 0.0, np.nan_to_num(accuracy).mean(2))
        image = axes.imshow(100 * mean, vmin=0, vmax=100, origin="lower", aspect="auto")
        for row, column in np.ndindex(*mean.shape):
            text = "div." if lost[row, column] else f"{100 * mean[row, column]:.0f}"
            axes.text(
                column,
                row,
                text,
                ha="center",
                va="center",
                fontsize=9,
                color="k" if mean[row, column] > 0.6 else "w",
            )
        axes.set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates])
        axes.set_yticks(range(len(gains)), [f"{gain:g}" for gain in gains])
        axes.set(title=title, xlabel="learning rate")
        axes.grid(False)
    axes_list[0].set_ylabel("gain of the initial weights")
    drawing.colorbar(image, ax=list(axes_list), label="test accuracy in %", shrink=0.9)
    return drawing


@styled
def rotation(angles: Sequence[float], pictures: np.ndarray, rotated: Mapping) -> Drawing:
    """Left: test accuracy against the angle of the test images. Right: how far the distributions
    have moved.

    `rotated` holds a ``shift.Rotated`` for networks "without BN" and "with BN". Shapes: angles
    (n,), pictures (n, h, w).
    """
    drawing, (left, right) = figure(1, 2, width=9, height=4)
    for name, each in rotated.items():
        band(
            left, angles, 100 * each.accuracy.T, COLOUR[name], label=name, marker="o", markersize=4
        )
        band(right, angles, each.hidden_shift.T, COLOUR[name], marker="o", markersize=4)
    pixels = each.input_shift
    right.plot(angles, pixels, color=THEORY, marker="o", markersize=4)
    label_end(right, angles, pixels, "pixels", THEORY)
    names = sorted(rotated, key=lambda name: rotated[name].hidden_shift[-1].mean())
    for name, dy in zip(names, (-7, 7), strict=True):
        label_end(
            right,
            angles,
            rotated[name].hidden_shift.mean(1),
            f"layer 3, {name}",
            COLOUR[name],
            dy=dy,
        )
    left.axhline(10, color=NEUTRAL, linewidth=1)
    left.text(angles[-1], 8, "chance", color=NEUTRAL, va="top", ha="right", fontsize=9)
    width = 0.9 * (angles[-1] - angles[0]) / len(angles)
    for angle, picture in zip(
        angles, pictures, strict=True
    ):  # above the curves, each over its angle
        left.imshow(
            picture,
            cmap="gray_r",
            extent=(angle - width / 2, angle + width / 2, 108, 127),
            aspect="auto",
            zorder=2,
        )
    left.set(
        xlabel="rotation of the test images in degrees",
        ylabel="test accuracy in %",
        xlim=(angles[0] - width / 2, angles[-1] + width / 2),
        ylim=(0, 130),
    )
    left.set_yticks(range(0, 101, 20))
    left.legend(loc="upper right", bbox_to_anchor=(1, 0.72), labelcolor="linecolor")
    right.set(xlabel="rotation in degrees", ylabel="distance from upright,\nin standard deviations")
    for axes in (left, right):
        axes.set_xticks(angles)
    return drawing


@styled
def following(followed: Mapping, rate: int) -> Drawing:
    """What happens while networks train: one panel for each measure, one line for each kind of
    network.

    `followed` holds a ``shift.Shift`` for each kind; `rate` is the index of the learning rate.
    """
    drawing, panels = _three_panels()
    for name, each in followed.items():
        band(panels[0], each.steps[1:], each.distribution[:, rate].T, COLOUR[name])
        band(panels[1], each.steps, each.gradient[:, rate].T, COLOUR[name])
        band(panels[2], each.steps, 100 * each.accuracy[:, rate].T, COLOUR[name], label=name)
    for axes in panels:
        axes.set_xlabel("training step")
    panels[2].legend(loc="lower right", labelcolor="linecolor")
    return drawing


@styled
def over_rates(rates: Sequence[float], followed: Mapping) -> Drawing:
    """The same three panels against the learning rate: both shifts averaged over the training,
    accuracy at its end."""
    drawing, panels = _three_panels()
    for name, each in followed.items():
        for axes, values in zip(
            panels,
            (each.distribution.mean(0), each.gradient.mean(0), 100 * each.accuracy[-1]),
            strict=True,
        ):
            band(axes, rates, values.T, COLOUR[name], label=name, marker="o", markersize=4)
    for axes in panels:
        axes.set(xlabel="learning rate", xscale="log")
        ticks(axes.xaxis, rates)
    panels[2].legend(loc="lower center", labelcolor="linecolor")
    return drawing


def _three_panels() -> tuple[Drawing, np.ndarray]:
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
    """Columns at their critical load; the first panel shows one below it. `loaded` are
    ``buckling.Column`` values."""
    drawing, axes = figure(width=8.4, height=4.2)
    straight = loaded[0]._replace(shape=0 * loaded[0].shape, load=0.5 * loaded[0].load)
    for place, (column, letter) in enumerate(zip([straight, *loaded], "abcdefg", strict=False)):
        _column(axes, column, 0.6 * place)
        state = "still straight" if column is straight else "buckled"
        axes.text(
            0.6 * place, 1.3, f"{letter}) P = {column.load / unit:.2f} P₀\n{state}", ha="center"
        )
    axes.set(xlim=(-0.3, 0.6 * len(loaded) + 0.3), ylim=(-0.08, 1.45))
    axes.set_axis_off()
    return drawing


def _column(axes: Axes, column, x: float) -> None:
    """One column whose hinges are at `x`."""
    wide = 0.16
    axes.plot([x, x], [0, 1], color=NEUTRAL, linewidth=1, linestyle="dotted")
    axes.plot(
        x + wide * column.shape, column.height, color=SERIES[0], linewidth=4, solid_capstyle="butt"
    )
    for (
        height
    ) in column.supports:  # a wedge from either side: the column can turn there, but not move
        for side in (-1, 1):
            tip, back = x + side * 0.025, x + side * 0.11
            wedge = [(tip, height), (back, height + 0.03), (back, height - 0.03)]
            axes.add_patch(Polygon(wedge, color=HIGHLIGHT))
    axes.add_patch(Polygon([(x, 0), (x - 0.06, -0.06), (x + 0.06, -0.06)], color=THEORY))
    axes.plot([x, x], [0, 1], "o", color=THEORY, markersize=6)
    axes.annotate(
        "",
        (x, 1.02),
        xytext=(x, 1.2),
        arrowprops={"arrowstyle": "-|>", "color": THEORY, "linewidth": 2},
    )
    axes.text(x + 0.03, 1.12, "P", color=THEORY)


@styled
def amplifications(
    loads: np.ndarray,
    computed: Mapping[int, np.ndarray],
    criticals: Mapping[int, float],
    unit: float,
) -> Drawing:
    """How much a load enlarges a small crookedness, for columns with several numbers of supports.

    Shapes: `loads` (n,), computed (n,) with NaN above the critical load. Loads are drawn in units
    of `unit`.
    """
    drawing, axes = figure(height=3.6)
    for (supports, values), colour in zip(
        computed.items(), (SERIES[0], SERIES[2], HIGHLIGHT, SERIES[4]), strict=False
    ):
        critical = criticals[supports]
        fine = np.linspace(0, 0.985 * critical, 200)
        axes.plot(fine / unit, 1 / (1 - fine / critical), color=THEORY, linestyle="dotted")
        axes.plot(loads / unit, values, "o", color=colour, markersize=4)
        axes.axvline(critical / unit, color=colour, linewidth=1, alpha=0.6)
        name = f"{supports or 'no'} support{'s' if supports > 1 else ''}"
        axes.text(critical / unit, 47, name, color=colour, ha="center", va="bottom")
    axes.set(
        yscale="log",
        ylim=(0.9, 45),
        xlabel="load P, in units of P₀ = π² EI / L²",
        ylabel="crookedness grows by",
    )
    ticks(axes.yaxis, [1, 2, 5, 10, 20, 40])
    axes.yaxis.set_major_formatter(StrMethodFormatter("× {x:g}"))
    return drawing
