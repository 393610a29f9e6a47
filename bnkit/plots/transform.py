"""The figures of the chapter on the transform."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from bnkit.plots import DOTS, NAMES, Array, ByName, Drawing, band, figure, styled
from bnkit.plots.colours import BOTH, HIGHLIGHT, INK, NEUTRAL, SERIES, THEORY, WRONG
from bnkit.plots.labels import apart, guessing, label_end, write
from bnkit.plots.scales import logarithmic, shares, ticks

WITH_BN, WITHOUT_BN = BOTH.values()
LOSSES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2)  # ticks of a training loss on its logarithmic axis


@styled
def bounds(values: Array, m: int) -> Drawing:
    """Normalised values (n,) of Gaussian batches of m, ±1, and the batch with one other value."""
    drawing, axes = figure(height=3.3)
    look = {"color": WITH_BN, "alpha": 0.8, "histtype": "stepfilled"}
    axes.hist(values, bins=np.linspace(-4.5, 4.5, 91), density=True, **look)
    axes.text(1.35, 0.25, f"Gaussian batches of {m}", color=WITH_BN)
    axes.axvspan(-1, 1, color=WRONG, alpha=0.18, linewidth=0)
    axes.text(0, 0.425, "−1 to 1", color=WRONG, ha="center")
    bound = np.sqrt(m - 1)
    axes.axvline(bound, color=THEORY, linestyle=":")
    axes.text(bound - 0.12, 0.3, f"the bound, √{m - 1}", color=THEORY, ha="right")
    axes.plot([-1 / bound, bound], [0.012, 0.012], "o", color=HIGHLIGHT, markersize=7)
    write(axes, f"one value of {m}\ndiffers", (bound, 0.012), INK, (-14, 14), ha="right")
    axes.set(xlabel="normalized value x̂", ylabel="density", ylim=(0, 0.47))
    return drawing


@styled
def stages(lines: ByName) -> Drawing:
    """A batch (m,) after each line of Algorithm 1, top to bottom, every example joined to itself.

    The broad bars span one standard deviation to either side of the mean.
    """
    drawing, axes = figure(width=7.2, height=3.9)
    rows = np.arange(len(lines))
    values = np.stack(list(lines.values()))  # (rows, m)
    axes.plot(values, rows, color=NEUTRAL, linewidth=0.8, zorder=1)
    bar = {"color": NEUTRAL, "linewidth": 7, "alpha": 0.4, "zorder": 2}
    for row, line in zip(rows, values, strict=True):
        mean, deviation = line.mean(), line.std()
        axes.plot([mean - deviation, mean + deviation], [row, row], **bar)
        axes.plot(line, np.full(len(line), row), "o", color=INK, markersize=5, zorder=3)
        axes.plot(mean, row, "|", color=HIGHLIGHT, markersize=16, markeredgewidth=2.2, zorder=4)
    axes.axvline(0, color=THEORY, linestyle=":", linewidth=1, zorder=0)
    axes.set_yticks(rows, list(lines))
    axes.set(xlabel="value", ylim=(len(lines) - 0.6, -0.5))
    axes.grid(False, axis="y")
    return drawing


@styled
def company(sizes: Sequence[int], examples: Mapping[float, tuple[Array, Array]]) -> Drawing:
    """What single examples are normalised to in many batches, against the size of the batch.

    For each example: the values it got, (sizes, batches), and their expected deviation, (sizes,).
    """
    drawing, axes = figure(height=3.6)
    sizes = np.asarray(sizes)
    looks = zip(SERIES, examples.items(), strict=False)
    for colour, (value, (measured, expected)) in looks:
        beside = np.linspace(0.87, 1.15, measured.shape[1])  # a place for each batch of one size
        places = np.outer(sizes, beside).ravel()
        axes.plot(places, measured.ravel(), ".", color=colour, markersize=3, alpha=0.5)
        for sign in (-1, 1):
            axes.plot(sizes, value + sign * expected, color=colour, linewidth=1.4)
        label_end(axes, sizes * 1.15, [value], f"x = {value:g}", colour)
    axes.set_xscale("log")
    ticks(axes.xaxis, sizes)
    axes.set(xlabel="examples in the batch, m", ylabel="normalized value x̂")
    return drawing


@styled
def sorted_batches(classes: Sequence[int], accuracies: ByName) -> Drawing:
    """Test accuracy, (seeds, classes), against the number of classes in a mini-batch."""
    drawing, axes = figure(height=3.7)
    places, colours = np.arange(len(classes)), (WRONG, WITH_BN, WITHOUT_BN)
    for colour, (name, values) in zip(colours, accuracies.items(), strict=True):
        band(axes, places, values, colour, label=name, **DOTS)
    guessing(axes, places[-1], ha="right")
    axes.set_xticks(places, map(str, classes))
    axes.set_xlabel("classes in a mini-batch")
    shares(axes, "test accuracy")
    drawing.legend(loc="outside upper left", ncols=1)
    return drawing


@styled
def unit(u: Array, target: Array, fits: ByName) -> Drawing:
    """A curve and what one unit made of it, without and with learned gamma and beta; (m,) each."""
    drawing, axes = figure(height=3.3)
    axes.plot(u, target, color=THEORY, linestyle=":", linewidth=3)
    axes.text(u[0], target[0] + 0.05, "target", color=THEORY)
    for colour, (name, fit) in zip((NEUTRAL, HIGHLIGHT), fits.items(), strict=True):
        axes.plot(u, fit, color=colour)
        label_end(axes, u, fit, name, colour)
    axes.set(xlabel="input u", ylabel="output of the unit")
    return drawing


def _dots(axes: Axes, position: float, values: Array, colour: str) -> None:
    """One dot per seed and a short line at their mean."""
    jitter = np.linspace(-0.06, 0.06, len(values)) if len(values) > 1 else np.zeros(1)
    look = {"color": colour, "markersize": 5, "alpha": 0.75, "markeredgewidth": 0}
    axes.plot(position + jitter, values, "o", **look)
    axes.plot([position - 0.13, position + 0.13], [np.mean(values)] * 2, color=colour)


@styled
def ablation(accuracies: ByName) -> Drawing:
    """Test accuracy by what was trained, one value for each seed, (seeds,)."""
    drawing, axes = figure(height=3.3)
    for index, (name, values) in enumerate(accuracies.items()):
        _dots(axes, index, values, HIGHLIGHT if "γ" in name or name == "all" else NEUTRAL)
    guessing(axes, -0.45)
    axes.set_xticks(range(len(accuracies)), accuracies)
    axes.set_xlabel("trained, all else as it was at the start")
    axes.set_xlim(-0.5, len(accuracies) - 0.5)
    shares(axes, "test accuracy")
    return drawing


@styled
def placement(
    values: tuple[Array, Array], results: Mapping[str, Mapping[str, Mapping[float, Array]]]
) -> Drawing:
    """Left: skew of the values before and after ReLU, (n,) both. Then losses with BN before, after.

    Shapes: ``results[activation][place][rate]`` (seeds,), training losses; a line joins the two
    networks of a seed.
    """
    drawing, (first, *others) = figure(1, 1 + len(results), width=9.4, height=3.4)
    for row, (place, drawn) in enumerate(zip(("before", "after"), values, strict=True)):
        skew = float(np.mean((drawn - drawn.mean()) ** 3) / drawn.std() ** 3)
        first.plot([0, skew], [row, row], color=NEUTRAL, linewidth=1.4, zorder=1)
        first.plot(skew, row, "o", color=HIGHLIGHT, markersize=8)
        write(first, f"{place} ReLU: {skew:.1f}", (0, row), INK, (4, 10))
    first.axvline(0, color=THEORY, linestyle=":")
    first.set(title="skew of the values", xlabel="skewness, 0 where normal")
    first.set(ylim=(1.6, -0.8), yticks=[])
    for axes, (activation, places) in zip(others, results.items(), strict=True):
        for index, pair in enumerate(zip(*(by.values() for by in places.values()), strict=True)):
            _slopes(axes, index, np.stack(pair))
        axes.set_yscale("log")
        ticks(axes.yaxis, LOSSES)
        axes.set_xticks(range(index + 1), [f"{rate:g}" for rate in places["before"]])
        axes.set(title=f"{NAMES[activation]}: BN before → after it", xlabel="learning rate")
        axes.set_ylabel("training loss at the end")
    return drawing


def _slopes(axes: Axes, place: float, pair: Array) -> None:
    """A thin line for each seed from the first of `pair`, (2, seeds), to the second; the mean."""
    sides = (place - 0.22, place + 0.22)
    axes.plot(sides, pair, "o-", color=NEUTRAL, linewidth=0.9, markersize=3)
    axes.plot(sides, pair.mean(1), "-", color=HIGHLIGHT, linewidth=3)


@styled
def rates(
    rates: Sequence[float], losses: ByName, norms: Sequence[Array], guessed: float
) -> Drawing:
    """Left: loss at the end against the weights' learning rate. Right: the effective rate with BN.

    Shapes: losses (seeds, rates), NaN where the training failed, which is drawn at the loss of
    guessing, `guessed`; the norm of the weights (seeds, steps) for each rate.
    """
    drawing, (left, right) = figure(1, 2, width=8.8, height=3.8)
    rates = np.asarray(rates)
    for name, loss in losses.items():
        trained = np.isfinite(loss).all(axis=0)
        band(left, rates[trained], loss[:, trained], BOTH[name], **DOTS)
        left.plot(rates[~trained], np.full((~trained).sum(), guessed), "x", color=BOTH[name])
        last = np.flatnonzero(trained)[-1]
        place, side = (rates[last], np.nanmean(loss[:, last])), last == len(rates) - 1
        write(left, name, place, BOTH[name], (0, 9), ha="right" if side else "left")
    left.text(rates[-1], guessed * 0.72, "× did not train", color=THEORY, ha="right", fontsize=9)
    logarithmic(left)
    left.set(xlabel="learning rate η of the weights", ylabel="training loss at the end")
    shades, ends = np.linspace(0.35, 1, len(rates)), {}
    for shade, rate, norm in zip(shades, rates, norms, strict=True):
        effective = rate / norm.mean(axis=0) ** 2
        steps = np.arange(len(effective)) + 1
        right.plot(steps, effective, color=WITH_BN, alpha=shade)
        ends[f"{rate:,g}"] = effective[-1]
    logarithmic(right)
    low, high = np.log(right.get_ylim())
    point = (high - low) / 230  # the axes are about 230 points high, a line of text 11
    for name, place in apart(ends, np.exp(11 * point)).items():
        dy = np.log(place / ends[name]) / point
        label_end(right, steps, [ends[name]], name, WITH_BN, dy=dy)
    right.set(xlabel="training step", ylabel="effective rate η / ‖W‖²")
    return drawing
