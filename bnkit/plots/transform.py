"""The figures of the chapter on the transform."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from bnkit.plots import (
    FASTER,
    HIGHLIGHT,
    NEUTRAL,
    THEORY,
    WITH_BN,
    WITHOUT_BN,
    WRONG,
    Drawing,
    band,
    figure,
    label_end,
    powers,
    styled,
    ticks,
)

LOSSES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2)  # ticks of a training loss on its logarithmic axis


@styled
def bounds(values: np.ndarray, m: int) -> Drawing:
    """Normalised values (n,) of Gaussian batches of m, the range of ±1, and the batch in which one
    value differs."""
    drawing, axes = figure(height=3.3)
    axes.hist(
        values,
        bins=np.linspace(-4.5, 4.5, 91),
        density=True,
        color=WITH_BN,
        alpha=0.8,
        histtype="stepfilled",
    )
    axes.text(1.35, 0.25, f"Gaussian batches of {m}", color=WITH_BN)
    axes.axvspan(-1, 1, color=WRONG, alpha=0.18, linewidth=0)
    axes.text(0, 0.425, "−1 to 1", color=WRONG, ha="center")
    bound = np.sqrt(m - 1)
    axes.axvline(bound, color=THEORY, linestyle=":")
    axes.text(bound - 0.12, 0.3, f"the bound, √{m - 1}", color=THEORY, ha="right")
    axes.plot([-1 / bound, bound], [0.012, 0.012], "o", color=HIGHLIGHT, markersize=7)
    axes.annotate(
        f"one value of {m}\ndiffers",
        (bound, 0.012),
        (-14, 14),
        textcoords="offset points",
        ha="right",
    )
    axes.set(xlabel="normalised value x̂", ylabel="density", ylim=(0, 0.47))
    return drawing


@styled
def stages(lines: Mapping[str, np.ndarray]) -> Drawing:
    """A batch after each line of Algorithm 1, top to bottom, every example joined to itself.
    Shapes: (m,) each.

    The broad bars span one standard deviation to either side of the mean.
    """
    drawing, axes = figure(width=7.2, height=3.9)
    rows = np.arange(len(lines))
    values = np.stack(list(lines.values()))  # (rows, m)
    axes.plot(values, rows, color=NEUTRAL, linewidth=0.8, zorder=1)
    for row, each in zip(rows, values, strict=True):
        mean, deviation = each.mean(), each.std()
        axes.plot(
            [mean - deviation, mean + deviation],
            [row, row],
            color=WITH_BN,
            linewidth=7,
            alpha=0.3,
            zorder=2,
        )
        axes.plot(each, np.full(len(each), row), "o", color=WITH_BN, markersize=5, zorder=3)
        axes.plot(mean, row, "|", color=WITHOUT_BN, markersize=16, markeredgewidth=2.2, zorder=4)
    axes.axvline(0, color=THEORY, linestyle=":", linewidth=1, zorder=0)
    axes.set_yticks(rows, list(lines))
    axes.set(xlabel="value", ylim=(len(lines) - 0.6, -0.5))
    axes.grid(False, axis="y")
    return drawing


@styled
def company(
    sizes: Sequence[int], examples: Mapping[float, tuple[np.ndarray, np.ndarray]]
) -> Drawing:
    """What single examples are normalised to in many batches, against the size of the batch.

    For each example, by its value: the values it got, (sizes, batches), and the deviation expected
    of them, (sizes,).
    """
    drawing, axes = figure(height=3.6)
    sizes = np.asarray(sizes)
    for colour, (value, (found, expected)) in zip(
        (WITH_BN, FASTER, WRONG), examples.items(), strict=False
    ):
        places = np.repeat(sizes, found.shape[1]) * np.tile(
            np.linspace(0.87, 1.15, found.shape[1]), len(sizes)
        )
        axes.plot(places, found.ravel(), ".", color=colour, markersize=3, alpha=0.5)
        for sign in (-1, 1):
            axes.plot(sizes, value + sign * expected, color=colour, linewidth=1.4)
        label_end(axes, sizes * 1.15, [value], f"x = {value:g}", colour)
    axes.set_xscale("log")
    ticks(axes.xaxis, sizes)
    axes.set(xlabel="examples in the batch, m", ylabel="normalised value x̂")
    return drawing


@styled
def sorted_batches(classes: Sequence[int], accuracies: Mapping[str, np.ndarray]) -> Drawing:
    """Test accuracy against the number of classes in a mini-batch, (seeds, classes) for each way to
    train and test."""
    drawing, axes = figure(height=3.7)
    places = np.arange(len(classes))
    for colour, (name, each) in zip((WRONG, WITH_BN, WITHOUT_BN), accuracies.items(), strict=True):
        band(axes, places, each, colour, label=name, marker="o", markersize=4)
    axes.axhline(0.1, color=THEORY, linestyle=":")
    axes.text(places[-1], 0.12, "guessing", color=THEORY, ha="right")
    axes.set_xticks(places, map(str, classes))
    axes.set(xlabel="classes in a mini-batch", ylabel="test accuracy", ylim=(0, 1.02))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend(loc="upper left", bbox_to_anchor=(0, 1.22), ncols=1)
    return drawing


@styled
def unit(u: np.ndarray, target: np.ndarray, fits: Mapping[str, np.ndarray]) -> Drawing:
    """A curve and what one unit made of it, without and with learned gamma and beta. Shapes: (m,)
    all."""
    drawing, axes = figure(height=3.3)
    axes.plot(u, target, color=THEORY, linestyle=":", linewidth=3)
    axes.text(u[0], target[0] + 0.05, "target", color=THEORY)
    for colour, (name, fit) in zip((NEUTRAL, WITH_BN), fits.items(), strict=True):
        axes.plot(u, fit, color=colour)
        label_end(axes, u, fit, name, colour)
    axes.set(xlabel="input u", ylabel="output of the unit")
    return drawing


def _dots(axes: Axes, position: float, values: np.ndarray, colour: str) -> None:
    """One dot per seed and a short line at their mean."""
    jitter = np.linspace(-0.06, 0.06, len(values)) if len(values) > 1 else np.zeros(1)
    axes.plot(
        position + jitter, values, "o", color=colour, markersize=5, alpha=0.75, markeredgewidth=0
    )
    axes.plot([position - 0.13, position + 0.13], [np.mean(values)] * 2, color=colour)


@styled
def ablation(accuracies: Mapping[str, np.ndarray]) -> Drawing:
    """Test accuracy by what was trained, one value for each seed, (seeds,)."""
    drawing, axes = figure(height=3.3)
    for index, (name, values) in enumerate(accuracies.items()):
        _dots(axes, index, values, WITH_BN if "γ" in name or name == "all" else NEUTRAL)
    axes.axhline(0.1, color=THEORY, linestyle=":")
    axes.text(-0.45, 0.12, "guessing", color=THEORY)
    axes.set_xticks(range(len(accuracies)), accuracies)
    axes.set(
        xlabel="trained, all else as it was at the start", ylabel="test accuracy", ylim=(0, 1.02)
    )
    axes.set_xlim(-0.5, len(accuracies) - 0.5)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    return drawing


@styled
def placement(
    values: tuple[np.ndarray, np.ndarray],
    results: Mapping[str, Mapping[str, Mapping[float, np.ndarray]]],
) -> Drawing:
    """Left: values before and after ReLU, (n,) both. Then training loss against the rate, for each
    place.

    Shapes: ``results[activation][place][rate]`` (seeds,).
    """
    drawing, (first, *others) = figure(1, 1 + len(results), width=9.4, height=3.4)
    looks = {"before": (WITH_BN, "stepfilled", 0.45), "after": (HIGHLIGHT, "step", 1.0)}
    for (place, (colour, kind, alpha)), each in zip(looks.items(), values, strict=True):
        options = {
            "histtype": kind,
            "color": colour,
            "alpha": alpha,
            "linewidth": 1.8,
            "label": f"{place} it",
        }
        first.hist(each, bins=np.linspace(-3, 4, 57), density=True, **options)
    first.set(title="values around ReLU", xlabel="standard deviations", ylabel="density", yticks=[])
    first.legend(loc="upper right")
    for axes, (activation, places) in zip(others, results.items(), strict=True):
        for offset, (place, by_rate) in zip((-0.16, 0.16), places.items(), strict=True):
            for index, each in enumerate(by_rate.values()):
                _dots(axes, index + offset, each, looks[place][0])
        axes.set_yscale("log")
        ticks(axes.yaxis, LOSSES)
        axes.set_xticks(range(len(by_rate)), [f"{rate:g}" for rate in by_rate])
        axes.set(title=f"{activation}, BN before or after", xlabel="learning rate")
    others[0].set_ylabel("training loss at the end")
    return drawing


@styled
def rates(
    rates: Sequence[float],
    losses: Mapping[str, np.ndarray],
    norms: Sequence[np.ndarray],
    guessing: float,
) -> Drawing:
    """Left: loss at the end against the weights' learning rate. Right: the effective rate while
    training with BN.

    Shapes: losses (seeds, rates), NaN where the training failed, which is drawn at the loss of
    `guessing`; the norm of the weights (seeds, steps) for each rate.
    """
    drawing, (left, right) = figure(1, 2, width=8.8, height=3.8)
    rates = np.asarray(rates)
    for colour, (name, each) in zip((WITH_BN, WITHOUT_BN), losses.items(), strict=True):
        trained = np.isfinite(each).all(axis=0)
        band(left, rates[trained], each[:, trained], colour, marker="o", markersize=4)
        left.plot(rates[~trained], np.full((~trained).sum(), guessing), "x", color=colour)
        last = np.flatnonzero(trained)[-1]
        side = {"ha": "right"} if last == len(rates) - 1 else {}
        left.annotate(
            name,
            (rates[last], np.nanmean(each[:, last])),
            xytext=(0, 9),
            textcoords="offset points",
            color=colour,
            **side,
        )
    left.text(rates[-1], guessing * 0.72, "× did not train", color=THEORY, ha="right", fontsize=9)
    left.set(
        xscale="log",
        yscale="log",
        xlabel="learning rate η of the weights",
        ylabel="training loss at the end",
    )
    shades, ends = np.linspace(0.35, 1, len(rates)), {}
    for shade, rate, each in zip(shades, rates, norms, strict=True):
        effective = rate / each.mean(axis=0) ** 2
        right.loglog(np.arange(len(effective)) + 1, effective, color=WITH_BN, alpha=shade)
        ends[f"{rate:,g}"] = effective[-1]
    _name_ends(right, ends, each.shape[1])
    right.set(xlabel="training step", ylabel="effective rate η / ‖W‖²")
    for axis in (left.xaxis, left.yaxis, right.xaxis, right.yaxis):
        powers(axis)
    return drawing


def _name_ends(axes: Axes, ends: Mapping[str, float], at: float) -> None:
    """Write each name beside its end, on a logarithmic axis, pushed up where it would lie on the
    one below."""
    low, high = np.log(axes.get_ylim())
    last = -np.inf
    for name, end in sorted(ends.items(), key=lambda item: item[1]):
        height = 230 * (np.log(end) - low) / (high - low)  # the axes are about 230 points high
        place = max(height, last + 11)
        label_end(axes, [at], [end], name, WITH_BN, dy=place - height)
        last = place
