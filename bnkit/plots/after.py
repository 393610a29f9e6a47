"""The figures of the chapter on what came after the paper."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from bnkit.plots import (
    FASTER,
    HIGHLIGHT,
    NEUTRAL,
    SERIES,
    THEORY,
    WITH_BN,
    WITHOUT_BN,
    WRONG,
    Drawing,
    band,
    figure,
    powers,
    styled,
    ticks,
)

COLOUR = {"with BN": WITH_BN, "without BN": WITHOUT_BN}
NORMS = {"batch": WITH_BN, "group": FASTER, "layer": HIGHLIGHT}


def _percent(axes: Axes, top: float = 1.02) -> None:
    axes.set_ylim(0, top)
    axes.yaxis.set_major_formatter(PercentFormatter(1))


@styled
def noise(strengths: Sequence[float], panels: Mapping[str, Mapping[str, np.ndarray]]) -> Drawing:
    """Test accuracy of ReLU networks against the strength of the noise, a panel for each learning
    rate.

    Shapes: strengths (n,), each array (n, seeds).
    """
    drawing, row = figure(1, len(panels), width=9, height=3.7, sharey=True)
    for axes, (title, networks) in zip(row, panels.items(), strict=True):
        for name, accuracy in networks.items():
            band(axes, strengths, accuracy.T, COLOUR[name], marker="o", markersize=4, label=name)
        axes.axvline(1, color=THEORY, linestyle="dotted")
        axes.set(title=title, xlabel="strength of the noise")
        axes.set_xticks(strengths, [f"× {k:g}" for k in strengths])
        _percent(axes)
    row[0].set_ylabel("test accuracy")
    row[0].legend(loc="center right", bbox_to_anchor=(1, 0.35), labelcolor="linecolor")
    return drawing


@styled
def linear(runs: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]) -> Drawing:
    """The recorded linear networks: loss, cosine of G and G', relative change of G, against steps.

    `runs` holds steps (t,), loss (seeds, t), cosine and relative change (seeds, t, layers) by name.
    """
    drawing, (loss, cosine, change) = figure(1, 3, width=9.6, height=3.6)
    for name, (steps, losses, cosines, changes) in runs.items():
        steps = steps + 1  # step 0 has its place on a logarithmic axis
        band(loss, steps, losses, COLOUR[name], label=name)
        band(cosine, steps, cosines.mean(-1), COLOUR[name])
        band(change, steps, np.median(changes, -1), COLOUR[name])
    loss.set(title="loss", yscale="log", ylabel="sum of squared errors")
    cosine.set(title="direction kept", ylabel="cosine of G and G'", ylim=(-1.02, 1.02))
    cosine.axhline(0, color=NEUTRAL, linewidth=1)
    change.set(title="gradient changed", ylabel="‖G − G'‖ / ‖G‖", yscale="log")
    for axes in (loss, cosine, change):
        axes.set(xscale="log", xlabel="step (from 1)")
        powers(axes.xaxis)
    powers(loss.yaxis)
    powers(change.yaxis)
    loss.legend(loc="lower left", labelcolor="linecolor")
    return drawing


@styled
def paths(rates: Sequence[float], followed: Mapping) -> Drawing:
    """The landscape along the gradient: a row for each learning rate, a column for each of three
    measures.

    `followed` holds a ``smoothness.Path`` for networks "with BN" and "without BN".
    """
    titles = ("loss range", "gradient change", "effective smoothness")
    drawing, grid = figure(len(rates), 3, width=9.6, height=2.6 * len(rates) + 0.5, sharex=True)
    for row, (line, rate) in enumerate(zip(grid, rates, strict=True)):
        for name, path in followed.items():
            for axes, values in zip(line, (path.range, path.change, path.smoothness), strict=True):
                band(axes, path.steps + 1, values[:, row].T, COLOUR[name], label=name)
        for axes, title in zip(line, titles, strict=True):
            axes.set(xscale="log", yscale="log")
            powers(axes.xaxis)
            powers(axes.yaxis)
            if row == 0:
                axes.set_title(title)
        ticks(line[2].yaxis, (1, 2, 5, 10, 20, 50, 100))  # not even a decade
        line[0].set_ylabel(f"learning rate {rate:g}")
    for axes in grid[-1]:
        axes.set_xlabel("step (from 1)")
    drawing.legend(
        *grid[0][0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=2,
        labelcolor="linecolor",
    )
    return drawing


@styled
def rates(places: Sequence[float], accuracies: Mapping[str, np.ndarray]) -> Drawing:
    """Test accuracy against the learning rate. Shapes: places (n,), each array (n, seeds)."""
    drawing, axes = figure(width=7.2, height=3.6)
    for name, accuracy in accuracies.items():
        band(axes, places, accuracy.T, COLOUR[name], marker="o", markersize=4, label=name)
    axes.set(xscale="log", xlabel="learning rate", ylabel="test accuracy")
    ticks(axes.xaxis, places)
    _percent(axes)
    axes.set_title("ReLU, ten layers")
    axes.legend(loc="lower center", labelcolor="linecolor")
    return drawing


@styled
def depths(layers: Sequence[int], accuracies: Mapping[str, np.ndarray]) -> Drawing:
    """Test accuracy against depth, left for chains of layers, right for residual networks.

    Shapes: layers (n,), each array (n, seeds); a name says which panel and which colour.
    """
    drawing, (left, right) = figure(1, 2, width=9.2, height=3.8, sharey=True)
    colours = {"BN": WITH_BN, "SkipInit": FASTER, "Fixup": HIGHLIGHT}
    for name, accuracy in accuracies.items():
        axes = right if name.startswith("residual") else left
        how = name.split(", ")[-1]
        label = f"with {how}" if how == "BN" else how if how in colours else "no normalisation"
        band(
            axes,
            layers,
            accuracy.T,
            colours.get(how, WITHOUT_BN),
            marker="o",
            markersize=4,
            label=label,
        )
    for axes, title in ((left, "chains of layers"), (right, "residual networks")):
        axes.set(title=title, xlabel="layers", xscale="log")
        axes.axhline(0.1, color=NEUTRAL, linewidth=1)
        ticks(axes.xaxis, layers)
        _percent(axes)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 0.1), labelcolor="linecolor")
    left.set_ylabel("test accuracy")
    return drawing


@styled
def decay(
    course, names: Sequence[str], predicted: Sequence[float], measured: np.ndarray
) -> Drawing:
    """Left: squared length of the weights during training. Right: angle per step, measured against
    predicted.

    `course` is a ``decay.Course``. Shapes: names and predicted (settings,), measured (settings,
    seeds).
    """
    drawing, (left, right) = figure(1, 2, width=9.4, height=4.2)
    steps = np.arange(len(course.norm)) + 1
    for index, (name, colour) in enumerate(zip(names, SERIES, strict=False)):
        band(left, steps, course.norm[:, index].T, colour, label=name)
        if predicted[index] > 0:
            # settings of one product lie on one place: rings of all sizes
            place = np.full(measured.shape[1], predicted[index])
            right.plot(
                place,
                measured[index],
                "o",
                color=colour,
                markersize=14 - 2 * index,
                fillstyle="none",
            )
    left.set(
        yscale="log",
        xscale="log",
        title="length of the weights",
        xlabel="step",
        ylabel="‖w‖², mean over units",
    )
    ends = np.array([0.8 * min(filter(None, predicted)), 1.25 * max(predicted)])
    right.plot(ends, ends, color=THEORY, linestyle="dotted")
    right.set(
        title="turn in each step",
        xscale="log",
        yscale="log",
        xlabel="predicted angle √(2ηλ), radians",
        ylabel="measured angle, radians",
    )
    powers(left.xaxis)
    powers(left.yaxis)
    for axis in (right.xaxis, right.yaxis):
        ticks(axis, sorted({round(each, 3) for each in predicted if each}))
    drawing.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return drawing


@styled
def small_batches(
    sizes: Sequence[int], accuracies: Mapping[str, np.ndarray], by_batch: np.ndarray
) -> Drawing:
    """Test accuracy of recorded convolutional networks against the size of the mini-batch, one line
    for each norm.

    Shapes: each array (sizes, seeds); `by_batch` are networks with BN tested with batch statistics.
    """
    drawing, axes = figure(width=7.4, height=3.8)
    for name, accuracy in accuracies.items():
        band(axes, sizes, accuracy.T, NORMS[name], marker="o", markersize=4, label=f"{name} norm")
    band(
        axes,
        sizes,
        by_batch.T,
        WITH_BN,
        marker="x",
        linestyle="dashed",
        label="batch norm, batch statistics in the test",
    )
    axes.set(
        title="Fashion-MNIST",
        xscale="log",
        xlabel="examples in a mini-batch",
        ylabel="test accuracy",
    )
    ticks(axes.xaxis, sizes)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend(loc="lower right", labelcolor="linecolor")
    return drawing


@styled
def populations(panels: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]]) -> Drawing:
    """Test accuracy while networks train, by the source of their statistics; a panel for each
    learning rate.

    Each curve is steps (t,) and accuracy (seeds, t).
    """
    drawing, row = figure(1, len(panels), width=9.2, height=3.8, sharey=True)
    colours = (HIGHLIGHT, WRONG, WITH_BN, FASTER)
    for axes, (title, curves) in zip(row, panels.items(), strict=True):
        for (name, (steps, accuracy)), colour in zip(curves.items(), colours, strict=False):
            band(axes, steps, accuracy, colour, label=name)
        axes.set(title=title, xscale="log", xlabel="training steps")
        powers(axes.xaxis)
        _percent(axes)
    row[0].set_ylabel("test accuracy")
    row[-1].legend(loc="lower right", labelcolor="linecolor")
    return drawing


@styled
def few_classes(classes: Sequence[int], tested: Mapping) -> Drawing:
    """Test accuracy against the number of classes in a training batch, with BN and with Batch
    Renormalization.

    `tested` holds a ``few_classes.Tested`` by name; solid by population statistics, dashed by those
    of like batches.
    """
    drawing, axes = figure(width=7.4, height=3.9)
    for (name, each), colour in zip(tested.items(), (WITH_BN, FASTER), strict=True):
        band(axes, classes, each.population.T, colour, marker="o", markersize=4, label=name)
        band(
            axes,
            classes,
            each.batch.T,
            colour,
            linestyle="dashed",
            marker="x",
            label=f"{name}, batch statistics",
        )
    axes.set(
        title="digits",
        xscale="log",
        xlabel="classes in a training batch of 30",
        ylabel="test accuracy",
    )
    ticks(axes.xaxis, classes)
    _percent(axes)
    axes.legend(loc="lower right", labelcolor="linecolor")
    return drawing


@styled
def features(widths: Sequence[int], trained: Mapping) -> Drawing:
    """Test accuracy against the width, for what is trained. `trained` holds a ``features.Trained``
    by kind."""
    drawing, axes = figure(width=7.4, height=3.7)
    for (name, each), colour in zip(trained.items(), (WITH_BN, WRONG, THEORY), strict=True):
        band(
            axes,
            widths,
            each.accuracy.T,
            colour,
            marker="o",
            markersize=4,
            label=f"trained: {name}",
        )
    axes.set(
        title="digits",
        xscale="log",
        xlabel="units in each of three hidden layers",
        ylabel="test accuracy",
    )
    ticks(axes.xaxis, widths)
    _percent(axes)
    axes.legend(loc="lower right", labelcolor="linecolor")
    return drawing


@styled
def advantage(groups: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]]) -> Drawing:
    """Test accuracy with BN and with what stands in its place, a line for each setting, under the
    title of its group.

    Each setting holds two arrays (seeds,): with BN, and without it or with the alternative that its
    name tells.
    """
    lines = sum(1 + len(settings) for settings in groups.values())
    drawing, axes = figure(width=9, height=0.6 + 0.36 * lines)
    row, names = 0, {}
    for title, settings in groups.items():
        axes.text(
            -0.012,
            row,
            title,
            transform=axes.get_yaxis_transform(),
            ha="right",
            va="center",
            weight="bold",
        )
        for name, (ours, others) in settings.items():
            row += 1
            names[row] = name
            axes.plot(
                [ours.mean(), others.mean()], [row, row], color=NEUTRAL, linewidth=1, zorder=1
            )
            for values, colour in ((others, WITHOUT_BN), (ours, WITH_BN)):
                axes.plot(
                    values,
                    [row] * len(values),
                    "o",
                    color=colour,
                    markersize=3.5,
                    alpha=0.5,
                    zorder=3,
                )
                axes.plot(values.mean(), row, "D", color=colour, markersize=7)
        row += 1
    axes.set(
        title="small networks", ylim=(row - 0.5, -0.5), xlim=(-0.02, 1.02), xlabel="test accuracy"
    )
    axes.set_yticks(list(names), list(names.values()))
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(axis="y", visible=False)
    for label, colour in (
        ("with BN", WITH_BN),
        ("without BN, or with what it is set against", WITHOUT_BN),
    ):
        axes.plot([], [], "D", color=colour, markersize=7, label=label)
    drawing.legend(loc="outside lower center", ncols=2, labelcolor="linecolor")
    return drawing
