"""The figures of the chapter on inference."""

from collections.abc import Mapping, Sequence

import numpy as np

from bnkit.plots import DOTS, Array, ByName, Drawing, band, figure, styled
from bnkit.plots.colours import FASTER, HIGHLIGHT, NEUTRAL, THEORY, WITH_BN, WRONG, ramp
from bnkit.plots.labels import apart, label_end
from bnkit.plots.scales import logarithmic, powers, shares, ticks

# moving averages, in the order given; Algorithm 2 is blue
ESTIMATES = (HIGHLIGHT, FASTER, NEUTRAL, WRONG)


@styled
def following(steps: Array, checks: ByName) -> Drawing:
    """Errors of mean and variance against training steps by estimate, and what they cost.

    Shapes: steps (t,), each of `checks` (seeds, t, 3), the third test accuracy, which is drawn as
    the difference from that of Algorithm 2 in the same run.
    """
    drawing, panels = figure(1, 3, width=9.6, height=3.7)
    colours = dict(zip([name for name in checks if name != "Algorithm 2"], ESTIMATES, strict=False))
    titles = ("error of E[x]", "error of Var[x]", "test accuracy")
    best = checks["Algorithm 2"][:, :, 2]
    for index, (axes, title) in enumerate(zip(panels, titles, strict=True)):
        for name, values in checks.items():
            shown = values[:, :, index] if index < 2 else 100 * (values[:, :, 2] - best)
            band(axes, steps, shown, colours.get(name, WITH_BN))
        axes.set(title=title, xlabel="training steps", xscale="log")
        powers(axes.xaxis)
    units = ("in standard deviations", "relative", "points from Algorithm 2's")
    for index, (axes, unit) in enumerate(zip(panels, units, strict=True)):
        axes.set_ylabel(unit)
        if index < 2:
            logarithmic(axes)
            ends = {name: values[:, -1, index].mean() for name, values in checks.items()}
            low, high = axes.get_ylim()
            for name, place in apart(ends, (high / low) ** 0.06).items():
                short = name.removeprefix("new_weight = ").removesuffix(" since the start")
                label_end(axes, steps, [place], short, colours.get(name, WITH_BN))
    return drawing


@styled
def neighbours(
    probabilities: Array, alone: Array, sizes: Sequence[int], accuracies: ByName
) -> Drawing:
    """Left: probability of the right class by company. Right: accuracy by size of a test batch.

    Shapes: probabilities (examples, companies), alone (examples,) by population statistics; each of
    `accuracies` (seeds, sizes), blue what uses population statistics.
    """
    drawing, (left, right) = figure(1, 2, width=9.2, height=3.9)
    places = np.arange(len(alone))
    jitter = np.linspace(-0.25, 0.25, probabilities.shape[1])
    left.plot(probabilities.T, places + jitter[:, None], ".", color=WRONG, markersize=3, alpha=0.5)
    left.plot(alone, places, "|", color=WITH_BN, markersize=24, markeredgewidth=2.5)
    left.set_yticks(places, [f"example {place + 1}" for place in places])
    left.set(title="one example, many companies", xlabel="probability of its true class")
    left.set_xlim(-0.03, 1.03)
    left.grid(False, axis="y")
    for name, values in accuracies.items():
        colour = WITH_BN if "population" in name else NEUTRAL if "class" in name else WRONG
        band(right, sizes, values, colour, label=name, **DOTS)
    right.set(title="accuracy on the test set", xlabel="examples in a test batch", xscale="log")
    ticks(right.xaxis, sizes)
    shares(right)
    right.legend(loc="center right")
    return drawing


@styled
def small_batches(groups: Sequence[int], accuracies: ByName) -> Drawing:
    """Test accuracy, (seeds, groups), by the size of what was normalised together in training."""
    drawing, axes = figure(height=3.4)
    for colour, (name, values) in zip((WITH_BN, WRONG), accuracies.items(), strict=True):
        band(axes, groups, values, colour, label=name, **DOTS)
    axes.set(xscale="log", xlabel="examples normalized together in training, m")
    ticks(axes.xaxis, groups)
    shares(axes, "test accuracy")
    axes.legend(loc="lower right", title="tested with", alignment="left")
    return drawing


@styled
def resolution(sizes: Sequence[int], accuracies: ByName) -> Drawing:
    """Test accuracy by the side of the test pictures; `accuracies` by source, (sizes, seeds)."""
    drawing, axes = figure(height=3.4)
    for colour, (name, values) in zip((WRONG, WITH_BN), accuracies.items(), strict=True):
        band(axes, sizes, values.T, colour, label=name, **DOTS)
    axes.set(title="trained at 8 × 8", xlabel="side of the test pictures, pixels")
    ticks(axes.xaxis, sizes)
    shares(axes, "test accuracy")
    axes.legend(loc="lower left")
    return drawing


@styled
def correction(
    sizes: Sequence[int], variances: Array, true: float, rhos: Sequence[float],
    maps: Mapping[int, tuple],
) -> Drawing:  # fmt: skip
    """Averaged batch variances: left of independent values, right of maps of correlated pixels.

    Shapes: variances (2, sizes), biased and corrected; `maps` holds measured and expected corrected
    ones, (rhos,), for each number of images.
    """
    drawing, (left, right) = figure(1, 2, width=9.2, height=3.6)
    sizes = np.asarray(sizes)
    left.axhline(true, color=THEORY, linestyle=":")
    left.plot(sizes, true * (sizes - 1) / sizes, color=THEORY, linestyle=":")
    left.plot(sizes, variances[0], "o", color=WRONG, label="averaged batch variance")
    left.plot(sizes, variances[1], "o", color=WITH_BN, label="times m / (m − 1)")
    left.set_xscale("log")
    ticks(left.xaxis, sizes)
    left.set(title="independent values", xlabel="values in a batch, m")
    left.set(ylabel="variance", ylim=(0, 1.2 * true))
    left.legend(loc="lower right")
    looks = zip(ramp(len(maps)), maps.items(), strict=True)
    for colour, (m, (measured, expected)) in looks:
        right.plot(rhos, expected, color=THEORY, linestyle=":")
        right.plot(rhos, measured, "o", color=colour)
        label_end(right, rhos, expected, f"{m} images", colour)
    right.set(title="pixels of one image correlated", xlabel="correlation of two pixels")
    right.set(ylabel="Var[x] / true", ylim=(0, 1.1))
    return drawing
