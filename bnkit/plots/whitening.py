"""The figures of the chapter on whitening: blue is Batch Normalization, orange is whitening."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Ellipse

from bnkit.plots import PIXELS, Array, ByName, Drawing, figure, styled
from bnkit.plots.colours import (
    HIGHLIGHT,
    INK,
    NEUTRAL,
    SERIES,
    THEORY,
    WITH_BN,
    WITHOUT_BN,
    WRONG,
    ramp,
)
from bnkit.plots.labels import label_end, write
from bnkit.plots.narrow import Layout
from bnkit.plots.scales import logarithmic, powers, ticks

COLOURS = {
    "raw": WITHOUT_BN,
    "standardized": WITH_BN,
    "PCA": SERIES[0],
    "ZCA": HIGHLIGHT,
    "Newton–Schulz": NEUTRAL,
}
COUNTED = ("standardized", "Newton–Schulz", "ZCA")  # whose operations ``price`` shows


@styled
def clouds(batches: ByName) -> Drawing:
    """Batches (m, 2): the examples, each in one colour throughout, and their two-sigma ellipse."""
    drawing, panels = figure(1, len(batches), width=9.2, height=2.7, phone=Layout(2, 2, 4.6))
    # a white cloud is round, so its colours are evenly spread
    angle = np.arctan2(*list(batches.values())[-1].T)
    for axes, (name, batch) in zip(panels, batches.items(), strict=True):
        axes.scatter(*batch.T, c=angle, cmap="twilight", s=5, linewidths=0, rasterized=True)
        _ellipse(axes, batch)
        axes.axhline(0, color=NEUTRAL, linewidth=0.6)
        axes.axvline(0, color=NEUTRAL, linewidth=0.6)
        axes.set_title(name)
        axes.set_aspect("equal")
        # of unit variance: to be compared
        reach = 4.4 if name != "raw" else np.abs(batch).max() * 1.05
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), xlabel="feature 1")
    panels[0].set_ylabel("feature 2")
    return drawing


def _ellipse(axes: Axes, batch: Array) -> None:
    eigenvalues, vectors = np.linalg.eigh(np.cov(batch.T, bias=True))
    width, height = 4 * np.sqrt(eigenvalues)  # two deviations to either side
    turn = np.degrees(np.arctan2(vectors[1, 0], vectors[0, 0]))
    look = {"angle": turn, "fill": False, "color": INK, "linewidth": 1.2}
    axes.add_patch(Ellipse(batch.mean(axis=0), width, height, **look))


@styled
def pictures(rows: ByName, correlations: ByName) -> Drawing:
    """A row per name: images (k, h, w) in a grey scale of their own, and correlations (d, d)."""
    images_of, edge = len(next(iter(rows.values()))), 0.92  # of a picture, where a place is 1 wide
    drawing, axes = figure(width=8.2, height=1.02 * len(rows))
    for row, (name, images) in enumerate(rows.items()):
        low, high = np.percentile(images, (1, 99))
        for place, image in enumerate(images):
            extent = (place, place + edge, -row - edge, -row)
            axes.imshow(image, cmap="gray", vmin=low, vmax=high, extent=extent, **PIXELS)
        place = images_of + 0.3
        extent = (place, place + edge, -row - edge, -row)
        look = {"cmap": "RdBu_r", "vmin": -1, "vmax": 1}
        matrix = axes.imshow(correlations[name], extent=extent, **look)
    axes.set(xlim=(0, place + edge), ylim=(-len(rows), 0.05))
    axes.set_yticks([-row - edge / 2 for row in range(len(rows))], rows)
    axes.set_xticks([images_of / 2, place + edge / 2], ["six digits", "correlations"])
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    scale = {"ticks": [-1, 0, 1], "location": "bottom", "shrink": 0.4, "aspect": 30}
    drawing.colorbar(matrix, ax=axes, label="correlation", **scale)
    return drawing


@styled
def convergence(problems: Mapping[str, ByName]) -> Drawing:
    """A panel per problem: excess loss (steps + 1,) of gradient descent on each kind of input."""
    drawing, panels = figure(1, len(problems), width=8.6, height=3.9, sharey=True)
    for axes, (title, curves) in zip(panels, problems.items(), strict=True):
        for name, excess in curves.items():
            shown = np.maximum(excess, 1e-9)
            axes.plot(np.arange(len(shown)), shown, color=COLOURS[name], label=name)
        axes.axhline(1e-2, color=THEORY, linestyle=":", linewidth=1)
        axes.set_xscale("symlog", linthresh=1)  # step 0 is there, too
        axes.set(title=title, xlabel="gradient steps", yscale="log")
        axes.set(ylim=(1e-6, 2), xlim=(0, 1.3 * len(shown)))
        ticks(axes.xaxis, [0, *(10**k for k in range(int(np.log10(len(shown) - 1)) + 1))])
        powers(axes.yaxis)
    panels[0].set_ylabel("excess training loss, start = 1")
    aside = panels[0].get_yaxis_transform()
    panels[0].text(0.12, 1.2e-2, "one percent", color=THEORY, fontsize=9, transform=aside)
    panels[0].legend(loc="lower center")
    return drawing


@styled
def runaway(bias: Mapping[str, Sequence], weight: Mapping[str, Sequence]) -> Drawing:
    """Parameter and loss against steps, without and with the gradient through the statistics.

    Each mapping: name -> (parameter, loss), both (steps + 1,); the first name is the wrong way.
    """
    drawing, panels = figure(2, 2, width=8.6, height=5.0, sharex="col")
    titles = ("a bias behind centring", "a weight behind standardizing")
    for column, title, drifts in zip(panels.T, titles, (bias, weight), strict=True):
        for colour, (name, (parameter, loss)) in zip((WRONG, WITH_BN), drifts.items(), strict=True):
            steps = np.arange(len(loss))
            column[0].plot(steps, parameter, color=colour, label=name)
            column[1].plot(steps, loss, color=colour, linewidth=3 if colour == WRONG else 1.2)
        column[0].set_title(title)
        highest = max(loss.max() for _, loss in drifts.values())
        column[1].set(xlabel="gradient steps", ylim=(0, 1.3 * highest))
    panels[0, 0].set_ylabel("bias b")
    panels[0, 1].set_ylabel("weight w")
    for axes in panels[1]:
        axes.set_ylabel("loss")
    panels[0, 0].legend(loc="upper left", bbox_to_anchor=(0, 1.04))
    return drawing


@styled
def price(
    ranks: Mapping[int, int], d: int, widths: Sequence[int], costs: Mapping[str, Sequence[float]]
) -> Drawing:
    """Left: rank of a batch's covariance against its size. Right: operations against features.

    `ranks` maps a batch size to the rank found; `costs` has a number for each of `widths`.
    """
    drawing, (left, right) = figure(1, 2, width=8.6, height=3.7)
    left.plot([1, d + 1, max(ranks)], [0, d, d], color=THEORY, linestyle=":", label="min(m − 1, d)")
    left.plot(list(ranks), list(ranks.values()), "o", color=HIGHLIGHT, label="measured")
    left.axvspan(0, d + 1, color=WRONG, alpha=0.08, linewidth=0)
    left.text(0.06 * d, 0.95 * d, "cannot be inverted", color=WRONG)
    left.set(title=f"rank, {d} features", xlabel="examples in the batch, m")
    left.set(ylabel="rank of the covariance", xlim=(0, max(ranks) + 4), ylim=(0, d * 1.1))
    left.legend(loc="lower right")
    for name, counts in costs.items():
        right.plot(widths, counts, color=COLOURS[name])
        label_end(right, widths, counts, name, COLOURS[name])
    right.set(title="operations per batch", xlabel="features, d")
    right.set_ylabel("additions and multiplications")
    logarithmic(right)
    ticks(right.xaxis, widths)
    return drawing


@styled
def derivative(gaps: Array, rates: ByName, formula: Array, errors: Mapping) -> Drawing:
    """As two eigenvalues meet: speed of the whitening matrices; error of ZCA's float32 derivative.

    Shapes: `gaps`, `formula`, each of `rates` (g,); `errors`: name -> (gaps, errors), NaN: failed.
    """
    drawing, (left, right) = figure(1, 2, width=8.6, height=3.8)
    left.plot(gaps, formula, color=THEORY, linestyle=":", linewidth=3)
    for name, rate in rates.items():
        left.plot(gaps, rate, "o-", color=COLOURS[name], markersize=4)
        write(left, name, (gaps[7], rate[7]), COLOURS[name], (-8, 9), ha="right")
    write(left, "∝ 1 / gap", (gaps[4], formula[4]), THEORY, (8, -14))
    left.set(title="speed of the whitening matrix", ylabel="change per change of covariance")
    for colour, (name, (where, error)) in zip((WRONG, HIGHLIGHT), errors.items(), strict=True):
        right.plot(where, error, "o-", color=colour, markersize=4, label=name)
        for gap in np.asarray(where)[np.isnan(error)]:
            right.annotate("NaN", (gap, 2), ha="center", color=colour, fontsize=9)
    right.axhline(1, color=NEUTRAL, linewidth=0.8)
    right.set(title="ZCA's derivative, float32", ylabel="relative error", ylim=(1e-8, 1e3))
    right.legend(loc="upper left")
    for axes in (left, right):
        logarithmic(axes)
        axes.set_xlabel("gap between eigenvalues")
        axes.invert_xaxis()
    return drawing


@styled
def newton_schulz(shares: Array, variances: Mapping[int, Array]) -> Drawing:
    """Variance along an axis after k iterations, by its share of the total variance; (d,) each."""
    drawing, axes = figure(height=3.8)
    shades = ramp(len(variances))
    for shade, (iterations, variance) in zip(shades, variances.items(), strict=True):
        axes.plot(shares, variance, "o-", color=shade, markersize=3)
        label_end(axes, shares, variance, f"{iterations} iterations", shade)
    axes.axhline(1, color=THEORY, linestyle=":", linewidth=1)
    axes.set(xlabel="share of the axis in the total variance", ylabel="its variance afterwards")
    logarithmic(axes)
    axes.invert_xaxis()
    return drawing


@styled
def disturbance(sizes: Sequence[int], curves: ByName) -> Drawing:
    """Spread of a fixed example's output over mini-batches, (sizes,), against their size."""
    drawing, axes = figure(height=3.9)
    sizes = np.asarray(sizes)
    for name, curve in curves.items():
        axes.plot(sizes, curve, "o-", color=COLOURS[name], markersize=4)
        dy = {"standardized": 6, "Newton–Schulz": -6}.get(name, 0)
        label_end(axes, sizes, curve, name, COLOURS[name], dy=dy)
    spreads = curves["standardized"]
    slope = 0.7 * spreads[0] * (sizes / sizes[0]) ** -0.5
    axes.plot(sizes, slope, color=THEORY, linestyle=":")
    axes.text(sizes[1], 0.5 * spreads[1], "slope −1/2", color=THEORY, fontsize=9)
    axes.set_xlabel("examples in the mini-batch, m")
    axes.set_ylabel("spread of one example's output,\nin standard deviations")
    logarithmic(axes)
    ticks(axes.xaxis, sizes)
    return drawing
