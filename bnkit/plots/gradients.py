"""The figures of chapter 1: gradients through many layers."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from bnkit.plots import DOTS, NAMES, Array, ByName, Drawing, band, figure, styled
from bnkit.plots.colours import (
    BOTH,
    FASTER,
    HIGHLIGHT,
    NEUTRAL,
    SERIES,
    THEORY,
    WITHOUT_BN,
    ramp,
)
from bnkit.plots.labels import apart, label_end, legend_below, write
from bnkit.plots.scales import logarithmic, powers, ticks

ACTIVATION = {"linear": NEUTRAL, "sigmoid": HIGHLIGHT, "tanh": SERIES[0], "relu": FASTER}
LINES = ("solid", "dashed", "dashdot")
GROWTH = "growth per layer of the\nsquared gradient norm"
LAYER = "layer (loss: on the right)"


@styled
def slopes(x: Array, curves: ByName, share: float) -> Drawing:
    """Slope of each nonlinearity, thin below `share` of its maximum. Shapes: x and curves (n,)."""
    drawing, axes = figure(height=3.2)
    # beside the curve, in data units
    places = {"sigmoid": (2.0, 0.15), "tanh": (0.95, 0.62), "relu": (3.2, 0.93)}
    for name, slope in curves.items():
        low = slope < share * slope.max()
        axes.plot(x, slope, color=ACTIVATION[name], linewidth=1, alpha=0.6)
        axes.plot(x, np.where(low, np.nan, slope), color=ACTIVATION[name], linewidth=3)
        axes.text(*places[name], NAMES[name], color=ACTIVATION[name])
    axes.set(xlabel="input x of the nonlinearity", ylabel="slope g'(x)", ylim=(-0.03, 1.08))
    return drawing


@styled
def profiles(kinds: Mapping[str, ByName]) -> Drawing:
    """Gradient norm at each layer over that at the last; a panel for each activation.

    Shapes: squared norms, (seeds, depth), a line for each initialization.
    """
    drawing, panels = figure(1, len(kinds), width=9, height=3.6, sharey=True)
    for axes, (activation, inits) in zip(panels, kinds.items(), strict=True):
        for line, (init, sizes) in zip(LINES, inits.items(), strict=True):
            band(axes, _layers(sizes), _relative(sizes), WITHOUT_BN, linestyle=line, label=init)
        axes.set(title=NAMES[activation], xlabel=LAYER, yscale="log")
    powers(panels[0].yaxis)
    panels[0].set_ylabel("gradient norm,\nlast layer = 1")
    panels[-1].legend(loc="lower right", title="initialization", title_fontsize=10, handlelength=3)
    return drawing


@styled
def cure_and_cost(
    without: Mapping[str, ByName], with_bn: Mapping[str, ByName], steady: Array
) -> Drawing:
    """Left: growth per layer of every kind of network, without BN and with it. Right: its price.

    Shapes: squared norms, (seeds, depth), for each activation and initialization. `steady` is the
    network without BN that the right panel shows for comparison, ReLU with He's initialization.
    """
    drawing, (left, right) = figure(1, 2, width=9, height=4)
    _dumbbells(left, without, with_bn)
    ends, colours = {}, {"ReLU, no BN": WITHOUT_BN}
    for activation, inits in with_bn.items():
        name, colour = f"{NAMES[activation]}, BN", ACTIVATION[activation]
        for sizes in inits.values():
            band(right, _layers(sizes), _relative(sizes), colour)
        ends[name], colours[name] = _relative(sizes)[:, 0].mean(), colour
    band(right, _layers(steady), _relative(steady), WITHOUT_BN, linestyle="dashed")
    ends["ReLU, no BN"] = _relative(steady)[:, 0].mean()
    factor = (max(ends.values()) / min(ends.values())) ** 0.08
    for name, place in apart(ends, factor).items():
        write(right, name, (1, place), colours[name], (-6, 0), ha="right", va="center")
    right.set(title="what it costs", xlabel=LAYER, yscale="log")
    right.set_ylabel("gradient norm, last layer = 1")
    powers(right.yaxis)
    _room_for_labels(right, steady.shape[1], 0.5)
    return drawing


def _dumbbells(axes: Axes, without: Mapping[str, ByName], with_bn: Mapping[str, ByName]) -> None:
    """A row for each kind of network: from its growth per layer without BN to that with it."""
    kinds = [(activation, init) for activation, inits in without.items() for init in inits]
    axes.axvline(1, color=NEUTRAL, linewidth=1)
    for row, (activation, init) in enumerate(kinds):
        pair = (_growth(without[activation][init]), _growth(with_bn[activation][init]))
        axes.plot(pair, [row, row], color=NEUTRAL, linewidth=1.4, zorder=1)
        for growth, (name, colour) in zip(pair, reversed(BOTH.items()), strict=True):
            axes.plot(growth, row, "o", color=colour, markersize=6)
            if row == 0:
                side = "left" if growth == min(pair) else "right"
                write(axes, name, (growth, 0), colour, (0, 7), ha=side)
    axes.set_yticks(range(len(kinds)), [f"{NAMES[kind]}, {init}" for kind, init in kinds])
    axes.set(title="what BN cures", xlabel=GROWTH.replace("\n", " "), xscale="log")
    axes.set_ylim(len(kinds) - 0.5, -1)
    powers(axes.xaxis)
    axes.grid(axis="y", visible=False)


def _growth(sizes: Array) -> float:
    """Growth per layer, on the way back, of squared norms (seeds, depth); the geometric mean."""
    return float(np.exp(np.log(sizes[:, 0] / sizes[:, -1]).mean() / (sizes.shape[1] - 1)))


def _relative(sizes: Array) -> Array:
    return np.sqrt(sizes / sizes[:, -1:])


def _layers(sizes: Array) -> Array:
    return np.arange(1, sizes.shape[1] + 1)


def _room_for_labels(axes: Axes, layers: int, share: float) -> None:
    """Leave `share` of the width of all layers free on the left, without ticks, for labels."""
    axes.set_xlim(1 - share * layers, None)
    axes.set_xticks([1, *range(10, layers + 1, 10 if layers > 10 else 5)])


@styled
def edge(gains: Array, measured: ByName, fine: Array, theory: Mapping[str, Sequence]) -> Drawing:
    """Growth per layer against the gain of the weights.

    Shapes: gains (n,), measured (n, seeds), fine and theory (k,).
    """
    drawing, axes = figure(height=3.8)
    axes.axhline(1, color=NEUTRAL, linewidth=1)
    axes.axhspan(1, 60, color=HIGHLIGHT, alpha=0.08, linewidth=0)
    for name, growths in measured.items():
        axes.plot(fine, theory[name], color=THEORY, linestyle="dotted", linewidth=1.4)
        axes.plot(gains, growths, "o", color=ACTIVATION[name], markersize=4)
        label_end(axes, gains, growths.mean(1), NAMES[name], ACTIVATION[name], dx=8)
    logarithmic(axes)
    axes.set(xlabel="gain a of the weights, drawn from N(0, a²/n)", ylabel=GROWTH, ylim=(2e-3, 60))
    ticks(axes.xaxis, [0.25, 0.5, 1, 2, 4])
    axes.text(fine[0], 1.25, "explodes", color=NEUTRAL, va="bottom")
    axes.text(fine[0], 0.8, "vanishes", color=NEUTRAL, va="top")
    return drawing


@styled
def saturation(
    routes: Mapping[str, Mapping[str, tuple[Array, Array]]], ends: Sequence[str]
) -> Drawing:
    """Growth per layer against the share of saturated units, a colour for each nonlinearity.

    Shapes: a route, which has a line style of its own, is (share, growth), (n, seeds) each: points
    for seeds, a line for the mean. `ends` says what the last point of each route is.
    """
    drawing, axes = figure(height=4.2)
    axes.axhline(1, color=NEUTRAL, linewidth=1)
    for activation, lines in routes.items():
        colour = ACTIVATION[activation]
        for (share, growth), line, end in zip(lines.values(), LINES, ends, strict=False):
            axes.plot(100 * share.mean(1), growth.mean(1), color=colour, linestyle=line)
            axes.plot(100 * share, growth, "o", color=colour, markersize=4)
            last = (100 * share[-1].mean(), growth[-1].mean())
            write(axes, f"{NAMES[activation]}, {end}", last, colour, (7, 0), va="center")
    for name, line in zip(lines, LINES, strict=False):
        axes.plot([], [], color=THEORY, linestyle=line, label=name)
    axes.set(xlabel="saturated, in %", ylabel=GROWTH, yscale="log", xlim=(-4, 128))
    axes.set_xticks(range(0, 101, 20))
    powers(axes.yaxis)
    axes.legend(loc="lower left", handlelength=3)
    return drawing


@styled
def batch_sizes(
    batches: Sequence[int], measured: ByName, linear: Array, large: Mapping[str, float]
) -> Drawing:
    """Growth per layer with BN against the batch size.

    Shapes: batches and `linear`, its theory, (n,), measured (n, seeds); `large`: of large batches.
    """
    drawing, axes = figure(height=4.0)
    end = 2.2 * batches[-1]
    for name, growths in measured.items():
        colour, limit = ACTIVATION[name], large[name]
        band(axes, batches, growths.T, colour, **DOTS)
        axes.plot([batches[-1], end], [limit] * 2, color=THEORY, linestyle="dotted")
        dy = {"sigmoid": 5, "linear": -5}.get(name, 0)  # their limits are close
        label_end(axes, [end], [limit], f"{NAMES[name]}, limit {limit:.3f}", colour, dy=dy)
    axes.plot(batches, linear, color=THEORY, linestyle="dotted")
    axes.set(xlabel="examples in a mini-batch, B", xscale="log", ylabel=GROWTH, yscale="log")
    ticks(axes.xaxis, batches)
    ticks(axes.yaxis, [1, 1.2, 1.5, 2, 2.5])
    return drawing


@styled
def depths(depths: Sequence[int], without: ByName, with_bn: ByName) -> Drawing:
    """Test accuracy against depth, without and with BN. Shapes: depths (n,), others (n, seeds)."""
    drawing, panels = figure(1, 2, width=9, height=3.8, sharey=True)
    groups = zip(panels, (without, with_bn), ("without BN", "with BN"), strict=True)
    for axes, group, title in groups:
        for name, accuracy in group.items():
            colour = ACTIVATION["relu" if name.startswith("ReLU") else "sigmoid"]
            line = "dashed" if "Dropout" in name else "dotted" if "decay" in name else "solid"
            band(axes, depths, 100 * accuracy.T, colour, label=name, linestyle=line, **DOTS)
        axes.axhline(10, color=NEUTRAL, linewidth=1)
        axes.set(title=title, xscale="log", xlabel="hidden layers", ylim=(-1, 102))
        ticks(axes.xaxis, depths)
    panels[0].text(depths[0], 8, "chance", color=NEUTRAL, va="top", fontsize=9)
    panels[0].set_ylabel("test accuracy in %")
    # the same colours mean the same on the right
    legend_below(drawing, panels[0], len(without), handlelength=3)
    return drawing


@styled
def settling(steps: Sequence[int], sizes: Array) -> Drawing:
    """Gradient norm at each layer in training, after each of `steps`: (n, seeds, depth)."""
    drawing, axes = figure(height=3.6)
    layers = _layers(sizes[0])
    for step, size, colour in zip(steps, sizes, ramp(len(steps)), strict=True):
        band(axes, layers, np.sqrt(size), colour)
        text = "untrained" if step == 0 else f"after {step} step{'s' if step > 1 else ''}"
        first = (1, np.sqrt(size[:, 0]).mean())
        write(axes, text, first, colour, (-6, 0), ha="right", va="center")
    axes.set(yscale="log", xlabel=LAYER, ylabel="gradient norm")
    powers(axes.yaxis)
    words = 100 / 72  # inches
    _room_for_labels(axes, len(layers), words / (drawing.get_figwidth() - 0.8 - words))
    return drawing
