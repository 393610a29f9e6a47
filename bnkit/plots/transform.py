"""The figures of the chapter on the transform."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FormatStrFormatter, LogLocator, PercentFormatter

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
    styled,
)


@styled
def bounds(values: np.ndarray, sizes: np.ndarray, one_hot: np.ndarray, gaussian: np.ndarray) -> Drawing:
    """Left: normalised values (n,) and the range of ±1. Right: largest normalised value against the batch size.

    Shapes: sizes, one_hot (a batch with a single value that differs) and gaussian (typical maximum), all (s,).
    """
    drawing, (left, right) = figure(1, 2, width=8.6, height=3.5)
    left.hist(values, bins=np.linspace(-4.5, 4.5, 91), density=True, color=WITH_BN, alpha=0.8)
    left.axvspan(-1, 1, color=WRONG, alpha=0.18, linewidth=0)
    left.text(0, 0.43, "−1 to 1", color=WRONG, ha="center")
    left.set(title="normalised Gaussian batches", xlabel=r"$\hat x$", ylabel="density", ylim=(0, 0.47))
    right.loglog(sizes, np.sqrt(sizes - 1), color=THEORY, linestyle=":", label=r"bound $\sqrt{m-1}$")
    right.loglog(sizes, one_hot, "o", color=HIGHLIGHT, markersize=5, label="one value differs")
    right.loglog(sizes, gaussian, "o-", color=WITH_BN, markersize=4, label="Gaussian, typical")
    right.axhline(1, color=WRONG, linewidth=1)
    right.minorticks_off()
    right.set(title="largest value in a batch", xlabel="examples $m$", ylabel=r"max $|\hat x|$")
    right.legend(loc="upper left")
    return drawing


@styled
def stages(lines: Mapping[str, np.ndarray]) -> Drawing:
    """A batch after each line of Algorithm 1, top to bottom, every example joined to itself. Shapes: (m,) each.

    The broad bars span one standard deviation to either side of the mean.
    """
    drawing, axes = figure(width=7.2, height=3.9)
    rows = np.arange(len(lines))
    values = np.stack(list(lines.values()))  # (rows, m)
    axes.plot(values, rows, color=NEUTRAL, linewidth=0.8, zorder=1)
    for row, each in zip(rows, values, strict=True):
        mean, deviation = each.mean(), each.std()
        axes.plot([mean - deviation, mean + deviation], [row, row], color=WITH_BN, linewidth=7, alpha=0.3, zorder=2)
        axes.plot(each, np.full(len(each), row), "o", color=WITH_BN, markersize=5, zorder=3)
        axes.plot(mean, row, "|", color=WITHOUT_BN, markersize=16, markeredgewidth=2.2, zorder=4)
    axes.axvline(0, color=THEORY, linestyle=":", linewidth=1, zorder=0)
    axes.set_yticks(rows, list(lines))
    axes.set(xlabel="value", ylim=(len(lines) - 0.6, -0.5))
    axes.grid(False, axis="y")
    return drawing


@styled
def company(
    sizes: Sequence[int], errors: Mapping[str, np.ndarray], examples: Mapping[float, tuple[np.ndarray, np.ndarray]]
) -> Drawing:
    """Left: error of a mini-batch's statistics against its size. Right: one example's normalised value in company.

    Shapes: errors (sizes,) per statistic; per example, the values it got, (sizes, batches), and the deviation expected
    of them, (sizes,).
    """
    drawing, (left, right) = figure(1, 2, width=8.8, height=3.7)
    sizes = np.asarray(sizes)
    for colour, (name, each) in zip((WITH_BN, HIGHLIGHT), errors.items(), strict=True):
        left.loglog(sizes, each, "o", color=colour, markersize=5)
        left.loglog(sizes, each[0] * (sizes / sizes[0]) ** -0.5, color=colour, linewidth=0.9)
        left.text(sizes[1], each[1] * 1.12, name, color=colour)
    left.set(title="pixels of real digits", ylabel="error, relative to the whole set")
    _plain(left)
    shades = (WITH_BN, FASTER, WRONG)
    for colour, (value, (found, expected)) in zip(shades, examples.items(), strict=False):
        places = np.repeat(sizes, found.shape[1]) * np.tile(np.linspace(0.87, 1.15, found.shape[1]), len(sizes))
        right.plot(places, found.ravel(), ".", color=colour, markersize=2.5, alpha=0.45)
        for sign in (-1, 1):
            right.plot(sizes, value + sign * expected, color=colour, linewidth=1.2)
    right.set_xscale("log")
    right.set(title="three examples, each in many batches", ylabel=r"normalised value $\hat x$")
    for axes in (left, right):
        axes.set_xticks(sizes, map(str, sizes))
        axes.set_xlabel("examples in the batch $m$")
        axes.minorticks_off()
    return drawing


@styled
def sorted_batches(
    variances: Mapping[str, np.ndarray], truth: float, classes: Sequence[int], accuracies: Mapping[str, np.ndarray]
) -> Drawing:
    """Left: variances of single mini-batches (n,), per way to choose them. Right: accuracy against classes per batch.

    Shapes: accuracies (seeds, classes) for each way to train and test.
    """
    drawing, (left, right) = figure(1, 2, width=9.2, height=3.9, gridspec_kw={"width_ratios": [1, 1.1]})
    bins = np.linspace(0, 1.8 * truth, 60)
    for colour, (name, each) in zip((WRONG, WITH_BN), variances.items(), strict=True):
        left.hist(each, bins=bins, density=True, color=colour, alpha=0.75, label=name)
    left.axvline(truth, color=THEORY, linestyle=":")
    left.text(truth, left.get_ylim()[1] * 0.9, " whole set", color=THEORY)
    left.set(title="one synthetic feature", xlabel="variance of a mini-batch", ylabel="density", yticks=[])
    left.legend(loc="center right")
    for colour, (name, each) in zip((WRONG, WITH_BN, WITHOUT_BN), accuracies.items(), strict=True):
        band(right, range(len(classes)), each, colour, label=name, marker="o", markersize=4)
    right.set_xticks(range(len(classes)), map(str, classes))
    right.set(title="digits", xlabel="classes per mini-batch", ylabel="test accuracy", ylim=(0, 1.02))
    right.yaxis.set_major_formatter(PercentFormatter(1))
    right.legend(loc="lower right")
    return drawing


@styled
def unit(u: np.ndarray, target: np.ndarray, fits: Mapping[str, np.ndarray]) -> Drawing:
    """A curve and what one unit made of it, without and with learned gamma and beta. Shapes: (m,) all."""
    drawing, axes = figure(height=3.3)
    axes.plot(u, target, color=THEORY, linestyle=":", linewidth=3)
    axes.text(u[0], target[0] + 0.05, "target", color=THEORY)
    for colour, (name, fit) in zip((NEUTRAL, WITH_BN), fits.items(), strict=True):
        axes.plot(u, fit, color=colour)
        label_end(axes, u, fit, name, colour)
    axes.set(xlabel="input $u$", ylabel="output")
    return drawing


def _plain(axes: Axes) -> None:
    """Few and plain numbers on a logarithmic vertical axis that spans little."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.minorticks_off()


def _dots(axes: Axes, position: float, values: np.ndarray, colour: str) -> None:
    """One dot per seed and a short line at their mean."""
    jitter = np.linspace(-0.06, 0.06, len(values)) if len(values) > 1 else np.zeros(1)
    axes.plot(position + jitter, values, "o", color=colour, markersize=5, alpha=0.75, markeredgewidth=0)
    axes.plot([position - 0.13, position + 0.13], [np.mean(values)] * 2, color=colour)


@styled
def ablation(losses: Mapping[str, Mapping[float, np.ndarray]], accuracies: Mapping[str, np.ndarray]) -> Drawing:
    """Left: training loss at the end against the learning rate, per treatment. Right: accuracy by what was trained.

    Each array holds one value per seed.
    """
    drawing, (left, right) = figure(1, 2, width=8.6, height=3.7)
    for offset, colour, (name, by_rate) in zip((-0.16, 0.16), (NEUTRAL, WITH_BN), losses.items(), strict=True):
        for index, values in enumerate(by_rate.values()):
            _dots(left, index + offset, values, colour)
        left.plot([], [], "o", color=colour, label=name)
    _plain(left)
    left.set_xticks(range(len(by_rate)), [f"{rate:g}" for rate in by_rate])
    left.set(title="all weights trained", xlabel="learning rate", ylabel="training loss at the end")
    left.legend(loc="upper right")
    for index, values in enumerate(accuracies.values()):
        _dots(right, index, values, WITH_BN if index in (0, 1) else NEUTRAL)
    right.set_xticks(range(len(accuracies)), accuracies, fontsize=9)
    right.set(title="trained, all else frozen at random", ylabel="test accuracy", xlim=(-0.5, len(accuracies) - 0.5))
    right.yaxis.set_major_formatter(PercentFormatter(1))
    return drawing


@styled
def placement(
    taps: Mapping[str, tuple[np.ndarray, np.ndarray]],
    results: Mapping[str, Mapping[str, Mapping[float, np.ndarray]]],
) -> Drawing:
    """Top: values on either side of the nonlinearity. Below: training loss against the rate, per place.

    Shapes: ``taps[activation]``, before and after, (n,) each; ``results[activation][place][rate]`` (seeds,).
    """
    drawing, (top, bottom) = figure(2, len(taps), width=8.6, height=5.4)
    looks = {"before": (WITH_BN, "stepfilled", 0.45), "after": (HIGHLIGHT, "step", 1.0)}
    for axes, (activation, pair) in zip(top, taps.items(), strict=True):
        for (place, (colour, kind, alpha)), values in zip(looks.items(), pair, strict=True):
            options = {"histtype": kind, "color": colour, "alpha": alpha, "linewidth": 1.8}
            axes.hist(values, bins=np.linspace(-3, 4, 57), density=True, label=f"{place} it", **options)
        axes.set(title=f"{activation}: values around the nonlinearity", xlabel="standard deviations", yticks=[])
    top[0].set_ylabel("density")
    top[-1].legend(loc="upper right")
    for axes, (activation, places) in zip(bottom, results.items(), strict=True):
        for offset, (place, by_rate) in zip((-0.16, 0.16), places.items(), strict=True):
            for index, values in enumerate(by_rate.values()):
                _dots(axes, index + offset, values, looks[place][0])
        _plain(axes)
        axes.set_xticks(range(len(by_rate)), [f"{rate:g}" for rate in by_rate])
        axes.set(title=f"{activation}: normalised before or after it", xlabel="learning rate")
    bottom[0].set_ylabel("training loss at the end")
    return drawing


@styled
def scale(factors: np.ndarray, deviations: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Drawing:
    """Spread of x̂ against the factor on the weights: for each eps measured and by formula, (factors,) both."""
    drawing, axes = figure(width=6.2, height=3.3)
    for colour, (name, (measured, formula)) in zip((NEUTRAL, WITH_BN, HIGHLIGHT), deviations.items(), strict=True):
        axes.semilogx(factors, formula, color=colour, linewidth=1)
        axes.semilogx(factors, measured, "o", color=colour, markersize=4, label=name)
    axes.set(xlabel="factor $a$ on the weights", ylabel=r"standard deviation of $\hat x$", ylim=(0, 1.05))
    axes.legend(loc="lower right", title="points: measured\nlines: formula", title_fontsize=9)
    axes.minorticks_off()
    return drawing


@styled
def rates(
    rates: Sequence[float], losses: Mapping[str, np.ndarray], norms: Sequence[np.ndarray], guessing: float
) -> Drawing:
    """Left: loss at the end against the weights' learning rate. Right: the effective rate while training with BN.

    Shapes: losses (seeds, rates), NaN where the training failed, which is drawn at the loss of `guessing`; the norm of
    the weights (seeds, steps) for each rate.
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
        xscale="log", yscale="log", xlabel=r"learning rate $\eta$ of the weights", ylabel="training loss at the end"
    )
    shades, ends = np.linspace(0.35, 1, len(rates)), {}
    for shade, rate, each in zip(shades, rates, norms, strict=True):
        effective = rate / each.mean(axis=0) ** 2
        right.loglog(np.arange(len(effective)) + 1, effective, color=WITH_BN, alpha=shade)
        ends[f"{rate:,g}"] = effective[-1]
    _name_ends(right, ends, each.shape[1])
    right.set(xlabel="training step", ylabel=r"effective rate $\eta\,/\,\|W\|^2$")
    for axes in (left, right):
        axes.minorticks_off()
    return drawing


def _name_ends(axes: Axes, ends: Mapping[str, float], at: float) -> None:
    """Write each name beside its end, on a logarithmic axis, pushed up where it would lie on the one below."""
    low, high = np.log(axes.get_ylim())
    last = -np.inf
    for name, end in sorted(ends.items(), key=lambda item: item[1]):
        height = 230 * (np.log(end) - low) / (high - low)  # the axes are about 230 points high
        place = max(height, last + 11)
        label_end(axes, [at], [end], name, WITH_BN, dy=place - height)
        last = place


@styled
def gallery(spreads: np.ndarray, found: Mapping[str, np.ndarray], right_one: np.ndarray) -> Drawing:
    """Deviation of the output against the deviation of the input, for the wrong ways and the right one. (s,) each."""
    drawing, axes = figure(height=3.9)
    axes.loglog(spreads, right_one, color=WITH_BN, linewidth=4, alpha=0.5, label="Algorithm 1")
    for colour, (name, each) in zip((WRONG, HIGHLIGHT, WITHOUT_BN, THEORY), found.items(), strict=False):
        axes.loglog(spreads, each, color=colour, label=name)
    axes.set(xlabel="standard deviation of the input", ylabel="standard deviation of the output")
    axes.minorticks_off()
    axes.legend(loc="upper right")
    return drawing
