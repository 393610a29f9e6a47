"""The figures of the chapter on inference."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.ticker import PercentFormatter

from bnkit.plots import (
    FASTER,
    HIGHLIGHT,
    NEUTRAL,
    THEORY,
    WITH_BN,
    WRONG,
    Drawing,
    band,
    figure,
    label_end,
    powers,
    styled,
    ticks,
)

# moving averages, in the order given; Algorithm 2 is blue
ESTIMATES = (HIGHLIGHT, FASTER, NEUTRAL, WRONG)


@styled
def following(steps: np.ndarray, checks: Mapping[str, np.ndarray]) -> Drawing:
    """Errors of mean and variance and the test accuracy against training steps, one curve for each
    estimate.

    Shapes: steps (t,), each of `checks` (seeds, t, 3).
    """
    drawing, panels = figure(1, 3, width=9.6, height=3.9)
    colours = dict(zip([name for name in checks if name != "Algorithm 2"], ESTIMATES, strict=False))
    titles = ("error of E[x]", "error of Var[x]", "test accuracy")
    for index, (axes, title) in enumerate(zip(panels, titles, strict=True)):
        for name, each in checks.items():
            band(axes, steps, each[:, :, index], colours.get(name, WITH_BN), label=name)
        axes.set(title=title, xlabel="training steps", xscale="log")
        powers(axes.xaxis)
    for axes, unit in zip(panels, ("in standard deviations", "relative"), strict=False):
        axes.set(yscale="log", ylabel=unit)
        powers(axes.yaxis)
    panels[2].yaxis.set_major_formatter(PercentFormatter(1))
    drawing.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return drawing


@styled
def neighbours(
    probabilities: np.ndarray,
    alone: np.ndarray,
    sizes: Sequence[int],
    accuracies: Mapping[str, np.ndarray],
) -> Drawing:
    """Left: probability of the right class in many companies. Right: accuracy against the size of a
    test batch.

    Shapes: probabilities (examples, companies), alone (examples,) by population statistics; each of
    `accuracies` (seeds, sizes), blue what uses population statistics.
    """
    drawing, (left, right) = figure(1, 2, width=9.2, height=3.9)
    places = np.arange(len(alone))
    jitter = np.linspace(-0.25, 0.25, probabilities.shape[1])
    left.plot(probabilities.T, places + jitter[:, None], ".", color=WRONG, markersize=3, alpha=0.5)
    left.plot(alone, places, "|", color=WITH_BN, markersize=24, markeredgewidth=2.5)
    left.set_yticks(places, [f"example {place + 1}" for place in places])
    left.set(
        title="one example, many companies",
        xlabel="probability of its true class",
        xlim=(-0.03, 1.03),
    )
    left.grid(False, axis="y")
    for name, values in accuracies.items():
        colour = WITH_BN if "population" in name else NEUTRAL if "class" in name else WRONG
        band(right, sizes, values, colour, marker="o", markersize=4, label=name)
    right.set(
        title="accuracy on the test set",
        xlabel="examples in a test batch",
        xscale="log",
        ylim=(0, 1.02),
    )
    ticks(right.xaxis, sizes)
    right.yaxis.set_major_formatter(PercentFormatter(1))
    right.legend(loc="center right")
    return drawing


@styled
def small_batches(groups: Sequence[int], accuracies: Mapping[str, np.ndarray]) -> Drawing:
    """Test accuracy against the size of the groups that were normalised together in training,
    (seeds, groups) each."""
    drawing, axes = figure(height=3.4)
    for colour, (name, values) in zip((WITH_BN, WRONG), accuracies.items(), strict=True):
        band(axes, groups, values, colour, marker="o", markersize=4, label=name)
    axes.set_xscale("log")
    ticks(axes.xaxis, groups)
    axes.set(
        xlabel="examples normalised together in training, m", ylabel="test accuracy", ylim=(0, 1.02)
    )
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend(loc="lower right", title="tested with", alignment="left")
    return drawing


@styled
def correction(
    sizes: Sequence[int],
    variances: np.ndarray,
    true: float,
    rhos: Sequence[float],
    maps: Mapping[int, tuple],
) -> Drawing:
    """Left: averaged batch variances of independent values. Right: corrected ones of maps with
    correlated pixels.

    Shapes: variances (2, sizes), biased and corrected; `maps` holds measured and expected values
    (rhos,) for each number of images.
    """
    drawing, (left, right) = figure(1, 2, width=9.2, height=3.6)
    sizes = np.asarray(sizes)
    left.axhline(true, color=THEORY, linestyle=":")
    left.plot(sizes, true * (sizes - 1) / sizes, color=THEORY, linestyle=":")
    left.plot(sizes, variances[0], "o", color=WRONG, label="averaged batch variance")
    left.plot(sizes, variances[1], "o", color=WITH_BN, label="times m / (m − 1)")
    left.set_xscale("log")
    ticks(left.xaxis, sizes)
    left.set(
        title="independent values",
        xlabel="values in a batch, m",
        ylabel="variance",
        ylim=(0, 1.2 * true),
    )
    left.legend(loc="lower right")
    for colour, (m, (measured, expected)) in zip(
        (WITH_BN, HIGHLIGHT, FASTER), maps.items(), strict=False
    ):
        right.plot(rhos, expected, color=THEORY, linestyle=":")
        right.plot(rhos, measured, "o", color=colour)
        label_end(right, rhos, expected, f"{m} images", colour)
    right.set(
        title="pixels of one image correlated",
        xlabel="correlation of two pixels",
        ylabel="Var[x] / true",
        ylim=(0, 1.1),
    )
    return drawing
