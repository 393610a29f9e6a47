"""The figures of the chapter on what came after the paper."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.patches import Rectangle

from bnkit.plots import DOTS, Array, ByName, Drawing, band, figure, styled
from bnkit.plots.colours import (
    BOTH,
    FASTER,
    GROUND,
    HIGHLIGHT,
    INK,
    NEUTRAL,
    SERIES,
    SHADE,
    THEORY,
    WRONG,
    ramp,
)
from bnkit.plots.labels import legend_below, write
from bnkit.plots.narrow import Layout
from bnkit.plots.scales import logarithmic, percent, powers, shares, ticks

WITH_BN, WITHOUT_BN = BOTH.values()
NORMS = {"batch": WITH_BN, "group": FASTER, "layer": HIGHLIGHT}
CROSSES = {"marker": "x", "linestyle": "dashed"}  # tested by batch statistics
RATIOS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
AS_LINES = {"labelcolor": "linecolor"}  # a legend whose words have the colours of their lines


@styled
def noise(strengths: Sequence[float], panels: Mapping[str, ByName]) -> Drawing:
    """Test accuracy of ReLU networks against the strength of the noise, a panel for each rate.

    Shapes: strengths (n,), each array (n, seeds).
    """
    drawing, row = figure(1, len(panels), width=9, height=3.7, sharey=True)
    for axes, (title, networks) in zip(row, panels.items(), strict=True):
        for name, accuracy in networks.items():
            band(axes, strengths, accuracy.T, BOTH[name], label=name, **DOTS)
        axes.axvline(1, color=THEORY, linestyle="dotted")
        axes.set(title=title, xlabel="strength of the noise")
        axes.set_xticks(strengths, [f"× {k:g}" for k in strengths])
        shares(axes)
    row[0].set_ylabel("test accuracy")
    row[0].legend(loc="center right", bbox_to_anchor=(1, 0.35), **AS_LINES)
    return drawing


@styled
def linear(runs: Mapping[str, tuple[Array, Array, Array, Array]]) -> Drawing:
    """The recorded linear networks: loss, cosine of G and G', relative change of G, against steps.

    `runs` holds steps (t,), loss (seeds, t), cosine and relative change (seeds, t, layers) by name.
    """
    drawing, (loss, cosine, change) = figure(1, 3, width=9.6, height=3.6)
    for name, (steps, losses, cosines, changes) in runs.items():
        steps = steps + 1  # step 0 has its place on a logarithmic axis
        band(loss, steps, losses, BOTH[name], label=name)
        band(cosine, steps, cosines.mean(-1), BOTH[name])
        band(change, steps, np.median(changes, -1), BOTH[name])
    loss.set(title="loss", yscale="log", ylabel="sum of squared errors")
    cosine.set(title="direction kept", ylabel="cosine of G and G'", ylim=(-1.02, 1.02))
    cosine.axhline(0, color=NEUTRAL, linewidth=1)
    change.set(title="gradient changed", ylabel="‖G − G'‖ / ‖G‖", yscale="log")
    for axes in (loss, cosine, change):
        axes.set(xscale="log", xlabel="step (from 1)")
        powers(axes.xaxis)
    powers(loss.yaxis, change.yaxis)
    loss.legend(loc="lower left", **AS_LINES)
    return drawing


@styled
def paths(rates: Sequence[float], followed: Mapping) -> Drawing:
    """The landscape along the gradient without BN over that with: a panel for each measure.

    `followed` holds a ``smoothness.Path`` for networks "with BN" and "without BN"; a line for each
    learning rate, geometric means over pairs of one seed.
    """
    titles = ("loss range", "gradient change", "effective smoothness")
    drawing, panels = figure(1, 3, width=9.6, height=3.7, sharey=True)
    normed, plain = followed["with BN"], followed["without BN"]
    for axes, title, measure in zip(panels, titles, ("range", "change", "smoothness"), strict=True):
        ratio = getattr(plain, measure) / getattr(normed, measure)  # (steps, rates, seeds)
        for row, (rate, colour) in enumerate(zip(rates, ramp(len(rates)), strict=True)):
            low, high = ratio[:, row].min(1), ratio[:, row].max(1)
            axes.fill_between(normed.steps + 1, low, high, color=colour, alpha=0.2, linewidth=0)
            middle = np.exp(np.log(ratio[:, row]).mean(1))
            axes.plot(normed.steps + 1, middle, color=colour, label=f"learning rate {rate:g}")
        axes.axhline(1, color=NEUTRAL, linewidth=1)
        logarithmic(axes)
        axes.set(title=title, xlabel="step (from 1)")
    low, high = panels[0].get_ylim()
    ticks(panels[0].yaxis, [tick for tick in RATIOS if low <= tick <= high])
    panels[0].set_ylabel("without BN / with BN")
    legend_below(drawing, panels[0], 2, **AS_LINES)
    return drawing


@styled
def rates(places: Sequence[float], accuracies: ByName) -> Drawing:
    """Test accuracy against the learning rate. Shapes: places (n,), each array (n, seeds)."""
    drawing, axes = figure(width=7.2, height=3.6)
    for name, accuracy in accuracies.items():
        band(axes, places, accuracy.T, BOTH[name], label=name, **DOTS)
    axes.set(title="ReLU, ten layers", xscale="log", xlabel="learning rate")
    ticks(axes.xaxis, places)
    shares(axes, "test accuracy")
    axes.legend(loc="lower center", **AS_LINES)
    return drawing


PARTS = {
    "nothing": WITHOUT_BN,
    "mean": FASTER,
    "deviation": WRONG,
    "root mean square": HIGHLIGHT,
    "both": WITH_BN,
}
SHORT = {"root mean square": "scale"}  # beside a bar


@styled
def parts(rates: Sequence[float], panels: Mapping[str, ByName]) -> Drawing:
    """Test accuracy against the learning rate by the part of BN that a network has.

    `panels` are titles, each with arrays (rates, seeds) by the names of ``PARTS``; two a row.
    """
    rows = -(-len(panels) // 2)
    form = {"width": 9.2, "height": 2.7 * rows + 0.6, "sharex": True, "sharey": True}
    drawing, grid = figure(rows, 2, **form, squeeze=False)
    for axes, (title, kinds) in zip(grid.ravel(), panels.items(), strict=True):
        for name, accuracy in kinds.items():
            band(axes, rates, accuracy.T, PARTS[name], label=name, **DOTS)
        axes.set(title=title, xscale="log")
        ticks(axes.xaxis, rates)
        shares(axes)
    for axes in grid[-1]:
        axes.set_xlabel("learning rate")
    for axes in grid[:, 0]:
        axes.set_ylabel("test accuracy")
    legend_below(drawing, grid[0, 0], 3, **AS_LINES)
    return drawing


@styled
def signal(alike: ByName, rank: ByName) -> Drawing:
    """Left: cosine between two examples' outputs by layer. Right: directions that outputs fill.

    Arrays (layers, seeds) by the names of ``PARTS``, of untrained networks.
    """
    drawing, (left, right) = figure(1, 2, width=9.2, height=3.8)
    for axes, columns in ((left, alike), (right, rank)):
        for name, values in columns.items():
            band(axes, np.arange(1, len(values) + 1), values.T, PARTS[name], label=name)
        axes.set_xlabel("layer")
    left.set(title="examples grow alike", ylabel="cosine between two examples", ylim=(0, 1.02))
    right.set(title="directions get lost", ylabel="directions in use", yscale="log")
    ticks(right.yaxis, (1, 2, 3, 4, 6))
    legend_below(drawing, left, 3, **AS_LINES)
    return drawing


@styled
def shared(panels: Mapping[str, Array], framed: Array) -> Drawing:
    """Which cells of an array share a mean with the framed one, a panel for each normalization.

    Shapes: each panel and `framed` (examples, channels), true or false.
    """
    form = {"width": 9.2, "height": 2.3, "phone": Layout(2, 2, 4.2)}
    drawing, row = figure(1, len(panels), **form)
    for axes, (title, share) in zip(row, panels.items(), strict=True):
        for (example, channel), coloured in np.ndenumerate(share):
            place, colour = (channel - 0.45, example - 0.45), HIGHLIGHT if coloured else SHADE
            axes.add_patch(Rectangle(place, 0.9, 0.9, facecolor=colour, linewidth=0))
            if framed[example, channel]:
                frame = {"fill": False, "edgecolor": INK, "linewidth": 2}
                axes.add_patch(Rectangle(place, 0.9, 0.9, **frame))
        examples, channels = share.shape
        axes.set(title=title, xlabel="channel", ylabel="example", aspect="equal")
        axes.set(xlim=(-0.6, channels - 0.4), ylim=(examples - 0.4, -0.6), xticks=[], yticks=[])
        axes.grid(visible=False)
    return drawing


@styled
def ghosts(sizes: Sequence[int], unseen: Array) -> Drawing:
    """Test accuracy against the size of the groups that are normalised together.

    Shapes: unseen (sizes + 1, seeds); the last row is without BN.
    """
    drawing, axes = figure(width=7.2, height=3.5)
    band(axes, sizes, unseen[:-1].T, WITH_BN, label="with BN", **DOTS)
    across = np.repeat(unseen[-1:], 2, axis=0).T
    ends = {"label": "without BN", "linestyle": "dashed"}
    band(axes, (min(sizes), max(sizes)), across, WITHOUT_BN, **ends)
    axes.set(title="learned by heart: few digits", xscale="log")
    axes.set_xlabel("examples normalized together")
    axes.set_ylabel("accuracy on other digits")
    ticks(axes.xaxis, sizes)
    percent(axes.yaxis)
    axes.legend(loc="lower right", **AS_LINES)
    return drawing


@styled
def depths(layers: Sequence[int], accuracies: ByName) -> Drawing:
    """Test accuracy against depth, left for chains of layers, right for residual networks.

    Shapes: layers (n,), each array (n, seeds); a name says which panel and which colour.
    """
    drawing, (left, right) = figure(1, 2, width=9.2, height=3.8, sharey=True)
    kinds = {"BN": (WITH_BN, "with BN"), "SkipInit": (FASTER, "SkipInit")}
    kinds["Fixup"] = (HIGHLIGHT, "Fixup")
    for name, accuracy in accuracies.items():
        axes = right if name.startswith("residual") else left
        colour, label = kinds.get(name.split(", ")[-1], (WITHOUT_BN, "no normalization"))
        band(axes, layers, accuracy.T, colour, label=label, **DOTS)
    for axes, title in ((left, "chains of layers"), (right, "residual networks")):
        axes.set(title=title, xlabel="layers", xscale="log")
        axes.axhline(0.1, color=NEUTRAL, linewidth=1)
        ticks(axes.xaxis, layers)
        shares(axes)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 0.1), **AS_LINES)
    left.set_ylabel("test accuracy")
    return drawing


@styled
def decay(course, names: Sequence[str], predicted: Sequence[float], measured: Array) -> Drawing:
    """Left: squared length of the weights in training. Right: angle per step, against predicted.

    `course` is a ``decay.Course``. Shapes: names, predicted (settings,), measured (settings,
    seeds).
    """
    drawing, (left, right) = figure(1, 2, width=9.4, height=4.2)
    steps = np.unique(np.geomspace(1, len(course.norm), 150).round()).astype(int)
    for index, (name, colour) in enumerate(zip(names, SERIES, strict=False)):
        band(left, steps, course.norm[steps - 1, index].T, colour, label=name)
        if predicted[index] > 0:
            # settings of one product lie on one place: rings of all sizes
            ring = {"color": colour, "markersize": 14 - 2 * index, "fillstyle": "none"}
            place = np.full(measured.shape[1], predicted[index])
            right.plot(place, measured[index], "o", **ring)
    logarithmic(left)
    left.set(title="length of the weights", xlabel="step", ylabel="‖w‖², mean over units")
    ends = np.array([0.8 * min(filter(None, predicted)), 1.25 * max(predicted)])
    right.plot(ends, ends, color=THEORY, linestyle="dotted")
    right.set(title="turn in each step", xscale="log", yscale="log")
    right.set(xlabel="predicted angle √(2ηλ), radians", ylabel="measured angle, radians")
    for axis in (right.xaxis, right.yaxis):
        ticks(axis, sorted({round(angle, 3) for angle in predicted if angle}))
    legend_below(drawing, left, 3)
    return drawing


@styled
def small_batches(sizes: Sequence[int], accuracies: ByName, by_batch: Array) -> Drawing:
    """Test accuracy of recorded convolutional networks against the size of the mini-batch, by norm.

    Shapes: each array (sizes, seeds); `by_batch` are networks with BN tested with batch statistics.
    """
    drawing, axes = figure(width=7.4, height=3.8)
    for name, accuracy in accuracies.items():
        band(axes, sizes, accuracy.T, NORMS[name], label=f"{name} norm", **DOTS)
    label = "batch norm, batch statistics in the test"
    band(axes, sizes, by_batch.T, WITH_BN, label=label, **CROSSES)
    axes.set(title="Fashion-MNIST", xlabel="examples in a mini-batch", xscale="log")
    axes.set_ylabel("test accuracy")
    ticks(axes.xaxis, sizes)
    percent(axes.yaxis)
    axes.legend(loc="lower right", **AS_LINES)
    return drawing


@styled
def populations(panels: Mapping[str, Mapping[str, tuple[Array, Array]]]) -> Drawing:
    """Test accuracy in training, by the source of the statistics; a panel for each learning rate.

    Each curve is steps (t,) and accuracy (seeds, t).
    """
    drawing, row = figure(1, len(panels), width=9.2, height=3.8, sharey=True)
    colours = (HIGHLIGHT, WRONG, WITH_BN, FASTER)
    for axes, (title, curves) in zip(row, panels.items(), strict=True):
        for (name, (steps, accuracy)), colour in zip(curves.items(), colours, strict=False):
            band(axes, steps, accuracy, colour, label=name)
        axes.set(title=title, xscale="log", xlabel="training steps")
        powers(axes.xaxis)
        shares(axes)
    row[0].set_ylabel("test accuracy")
    row[-1].legend(loc="lower right", **AS_LINES)
    return drawing


@styled
def few_classes(classes: Sequence[int], tested: Mapping) -> Drawing:
    """Test accuracy against the classes in a training batch, with BN and Batch Renormalization.

    `tested` has ``few_classes.Tested`` by name; dashed is by statistics of like batches.
    """
    drawing, axes = figure(width=7.4, height=3.9)
    for (name, test), colour in zip(tested.items(), (WITH_BN, FASTER), strict=True):
        band(axes, classes, test.population.T, colour, label=name, **DOTS)
        band(axes, classes, test.batch.T, colour, label=f"{name}, batch statistics", **CROSSES)
    axes.set(title="digits", xlabel="classes in a training batch of 30", xscale="log")
    ticks(axes.xaxis, classes)
    shares(axes, "test accuracy")
    legend_below(drawing, axes, 2, **AS_LINES)
    return drawing


@styled
def features(widths: Sequence[int], trained: Mapping) -> Drawing:
    """Test accuracy against the width; `trained` holds a ``features.Trained`` by what learned."""
    drawing, axes = figure(width=7.4, height=3.7)
    colours = (HIGHLIGHT, WRONG, FASTER, THEORY)
    for (name, run), colour in zip(trained.items(), colours, strict=True):
        band(axes, widths, run.accuracy.T, colour, label=f"trained: {name}", **DOTS)
    axes.set(title="digits", xlabel="units in each of three hidden layers", xscale="log")
    ticks(axes.xaxis, widths)
    shares(axes, "test accuracy")
    axes.legend(loc="lower right", **AS_LINES)
    return drawing


@styled
def advantage(groups: Mapping[str, Mapping[str, tuple[Array, Array]]]) -> Drawing:
    """Test accuracy with BN and with what stands in its place, a line for each setting of a group.

    A setting holds two arrays (seeds,): with BN, and without it or with the alternative it names.
    """
    lines = sum(1 + len(settings) for settings in groups.values())
    height = 0.6 + 0.36 * lines
    drawing, axes = figure(width=9, height=height, phone=Layout(1, 1, 1.3 * height))
    row, names, heading = 0, {}, {"ha": "right", "va": "center", "weight": "bold"}
    for title, settings in groups.items():
        axes.text(-0.012, row, title, transform=axes.get_yaxis_transform(), **heading)
        for name, pair in settings.items():
            row += 1
            names[row] = name
            means = [values.mean() for values in pair]
            axes.plot(means, [row, row], color=NEUTRAL, linewidth=1, zorder=1)
            for values, colour in zip(pair[::-1], (WITHOUT_BN, WITH_BN), strict=True):
                seeds = {"color": colour, "markersize": 3.5, "alpha": 0.5, "zorder": 3}
                axes.plot(values, [row] * len(values), "o", **seeds)
                axes.plot(values.mean(), row, "D", color=colour, markersize=7)
        row += 1
    axes.set(title="small networks", xlabel="test accuracy")
    axes.set(ylim=(row - 0.5, -0.5), xlim=(-0.02, 1.02))
    axes.set_yticks(list(names), list(names.values()))
    percent(axes.xaxis)
    axes.grid(axis="y", visible=False)
    words = ("with BN", "without BN, or with what it is set against")
    for label, colour in zip(words, (WITH_BN, WITHOUT_BN), strict=True):
        axes.plot([], [], "D", color=colour, markersize=7, label=label)
    legend_below(drawing, axes, 2, **AS_LINES)
    return drawing


@styled
def reasons(usable: Mapping[str, Mapping[str, int]], gains: Mapping[str, Mapping]) -> Drawing:
    """Above: learning rates that train, by network and part of BN. Below: points that BN gains.

    `usable` has counts by the names of ``PARTS``. A line of `gains`, in its group, has arrays
    (seeds,): "off", where something is off, drawn full, and "right", where all is, drawn hollow.
    """
    bars = sum(map(len, usable.values()))
    lines = sum(1 + len(group) for group in gains.values())
    height = 2.2 + 0.17 * bars + 0.33 * lines
    form = {"height_ratios": (0.6 + 0.17 * bars, 0.6 + 0.33 * lines)}
    phone = Layout(2, 1, 1.35 * height)
    drawing, (above, below) = figure(2, 1, width=9, height=height, phone=phone, **form)
    _counts(above, usable)
    _gains(below, gains)
    legend_below(drawing, below, 2)
    return drawing


def _counts(axes, usable: Mapping[str, Mapping[str, int]]) -> None:
    for row, counts in enumerate(usable.values()):
        for part, (name, count) in enumerate(counts.items()):
            place = row + 0.19 * (part - (len(counts) - 1) / 2)
            axes.barh(place, count, 0.17, color=PARTS[name])
            words = f"{SHORT.get(name, name)}, {count}"
            write(axes, words, (count, place), PARTS[name], (3, 0), va="center", fontsize=10)
    axes.set(title="each part of BN alone", xlabel="learning rates that train, of seven")
    axes.set(xlim=(0, 9), ylim=(len(usable) - 0.5, -0.5))
    axes.set_yticks(range(len(usable)), list(usable))
    ticks(axes.xaxis, range(8))
    axes.grid(axis="y", visible=False)


def _gains(axes, gains: Mapping[str, Mapping]) -> None:
    row, names, heading = 0, {}, {"ha": "right", "va": "center", "weight": "bold"}
    fill = {"off": WITH_BN, "right": GROUND}
    for title, group in gains.items():
        axes.text(-0.012, row, title, transform=axes.get_yaxis_transform(), **heading)
        for name, marks in group.items():
            row += 1
            names[row] = name
            for state, points in marks.items():
                seeds = {"color": WITH_BN, "markersize": 3.5, "alpha": 0.4}
                axes.plot(points, [row] * len(points), "o", **seeds)
                mark = {"color": WITH_BN, "markerfacecolor": fill[state], "markersize": 7}
                axes.plot(np.mean(points), row, "D", **mark)
        row += 1
    axes.axvline(0, color=NEUTRAL, linewidth=1)
    axes.set(title="each reason", xlabel="points of test accuracy that BN gains")
    axes.set(ylim=(row - 0.5, -0.5))
    axes.set_yticks(list(names), list(names.values()))
    axes.grid(axis="y", visible=False)
    for state, words in {"off": "something is off", "right": "nothing seems off"}.items():
        mark = {"color": WITH_BN, "markerfacecolor": fill[state], "markersize": 7}
        axes.plot([], [], "D", label=words, **mark)
