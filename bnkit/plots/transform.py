"""The figures of the chapter on the transform."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FormatStrFormatter, LogLocator, PercentFormatter

from bnkit.plots import (
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
def batch_error(sizes: Sequence[int], errors: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Drawing:
    """Error of the mean and of the variance of a mini-batch against its size, per data set. Shapes: (sizes,) each."""
    drawing, panels = figure(1, 2, width=8.6, height=3.6, sharey=True)
    sizes = np.asarray(sizes)
    for axes, title, which in zip(panels, ("error of the mean", "error of the variance"), (0, 1), strict=True):
        for colour, (name, pair) in zip(SERIES[:1] + SERIES[3:], errors.items(), strict=False):
            axes.loglog(sizes, pair[which], "o", color=colour, markersize=5, label=name)
            axes.loglog(sizes, pair[which][0] * (sizes / sizes[0]) ** -0.5, color=colour, linewidth=0.9)
        axes.set(title=title, xlabel="examples $m$")
        axes.set_xticks(sizes, map(str, sizes))
        _plain(axes)
    panels[0].set_ylabel("relative to the whole set")
    panels[0].legend(loc="lower left", title="points: measured, lines: $m^{-1/2}$", title_fontsize=9)
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
def placement(results: Mapping[str, Mapping[str, Mapping[float, tuple[np.ndarray, np.ndarray]]]]) -> Drawing:
    """Training loss and test accuracy against the rate: ``results[activation][place][rate]``, pairs of (seeds,)."""
    drawing, panels = figure(2, len(results), width=8.6, height=5.2, sharex=True, sharey="row")
    for column, (activation, places) in zip(panels.T, results.items(), strict=True):
        for offset, colour, (place, by_rate) in zip((-0.16, 0.16), (WITH_BN, HIGHLIGHT), places.items(), strict=True):
            for index, pair in enumerate(by_rate.values()):
                for axes, values in zip(column, pair, strict=True):
                    _dots(axes, index + offset, values, colour)
            column[0].plot([], [], "o", color=colour, label=f"{place} the nonlinearity")
        column[0].set_title(activation)
        _plain(column[0])
        column[1].set_xticks(range(len(by_rate)), [f"{rate:g}" for rate in by_rate])
        column[1].set_xlabel("learning rate")
        column[1].yaxis.set_major_formatter(PercentFormatter(1))
    panels[0, 0].set_ylabel("training loss at the end")
    panels[1, 0].set_ylabel("test accuracy")
    panels[0, -1].legend(loc="upper right")
    return drawing


@styled
def shapes(taps: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Drawing:
    """Values before and after the nonlinearity of a hidden layer, all units standardised. Shapes: (n,) each."""
    drawing, panels = figure(1, 2 * len(taps), width=9.2, height=2.6)
    for pair, (name, values) in zip(panels.reshape(-1, 2), taps.items(), strict=True):
        for axes, title, colour, each in zip(
            pair, ("$Wu$, before", "$g(\\cdot)$, after"), (WITH_BN, HIGHLIGHT), values, strict=True
        ):
            axes.hist(each, bins=np.linspace(-4, 4, 61), density=True, color=colour)
            axes.set(title=f"{name}: {title}", yticks=[], xlim=(-4, 4))
    return drawing


@styled
def scale(
    factors: np.ndarray,
    deviations: Mapping[str, tuple[np.ndarray, np.ndarray]],
    rates: Sequence[float],
    losses: Mapping[str, np.ndarray],
) -> Drawing:
    """Left: output deviation against the factor on the weights, per eps. Right: loss against the weights' rate.

    Shapes: deviations, measured and by formula, (factors,); losses (seeds, rates), NaN where the training failed.
    """
    drawing, (left, right) = figure(1, 2, width=8.8, height=3.8)
    for colour, (name, (measured, formula)) in zip((NEUTRAL, WITH_BN, HIGHLIGHT), deviations.items(), strict=True):
        left.semilogx(factors, formula, color=colour, linewidth=1)
        left.semilogx(factors, measured, "o", color=colour, markersize=4, label=name)
    left.set(
        title=r"$\mathrm{BN}((aW)u)$", xlabel="factor $a$", ylabel=r"standard deviation of $\hat x$", ylim=(0, 1.05)
    )
    left.legend(loc="lower right", title="points: measured\nlines: formula", title_fontsize=9)
    for colour, (name, each) in zip((WITH_BN, WITHOUT_BN), losses.items(), strict=True):
        trained = np.isfinite(each).all(axis=0)
        band(right, np.asarray(rates)[trained], each[:, trained], colour, marker="o", markersize=4)
        label_end(right, np.asarray(rates)[trained], each[:, trained].mean(0), f"{name}", colour, dy=8)
        right.plot(np.asarray(rates)[~trained], [2.3] * (~trained).sum(), "x", color=colour)
        if not trained.all():
            right.text(max(rates), 1.55, "untrained", color=colour, ha="right", fontsize=9)
    right.set(xscale="log", yscale="log", title="ReLU networks on the digits", xlabel="learning rate of the weights")
    right.set(ylabel="training loss at the end")
    for axes in (left, right):
        axes.minorticks_off()
    return drawing


@styled
def growth(norms: Mapping[float, np.ndarray]) -> Drawing:
    """Left: norm of the weights (seeds, steps) while training, per learning rate. Right: rate over squared norm."""
    drawing, (left, right) = figure(1, 2, width=8.8, height=3.7)
    shades = np.linspace(0.35, 1, len(norms))
    curves = {rate: (each.mean(axis=0), rate / each.mean(axis=0) ** 2) for rate, each in norms.items()}
    for axes, which in ((left, 0), (right, 1)):
        for shade, pair in zip(shades, curves.values(), strict=True):
            axes.loglog(np.arange(len(pair[which])) + 1, pair[which], color=WITH_BN, alpha=shade)
        axes.minorticks_off()
        _name_ends(axes, {f"{rate:g}": pair[which][-1] for rate, pair in curves.items()}, len(pair[which]))
    left.set(title="norm of the weights", xlabel="step", ylabel=r"$\|W\|$")
    right.set(title="effective learning rate", xlabel="step", ylabel=r"$\eta\,/\,\|W\|^2$")
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
