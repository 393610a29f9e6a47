"""The static pictures of the explorables: what a page shows where scripts do not run.

Each takes what its setting in ``bnkit.studies.explorables`` gives.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from bnkit.plots import Array, ByName, Drawing, figure, styled
from bnkit.plots.colours import BOTH, HIGHLIGHT, NEUTRAL, SERIES, THEORY

WITH_BN, WITHOUT_BN = BOTH.values()
HEIGHT = 2.8  # inches


def save(drawing: Drawing, path: Path) -> None:
    """Write a picture as SVG; two builds give the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(drawing.svg(), encoding="utf-8")


@styled
def batch(rows: ByName) -> Drawing:
    """A batch in rows, each (m,): every value is joined to itself from row to row."""
    drawing, axes = figure(height=HEIGHT)
    lines = np.stack(list(rows.values()))  # (rows, m)
    for value, colour in zip(lines.T, SERIES, strict=False):
        axes.plot(value, range(len(rows)), "o-", color=colour)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set(xlabel="value", ylim=(len(rows) - 0.6, -0.4))
    return drawing


@styled
def company(found: tuple[Array, Array]) -> Drawing:
    """Companies, (k, m), and the outputs of one example, x = 1.5, among them, (k,)."""
    companies, outputs = found
    drawing, axes = figure(height=HEIGHT)
    places = np.arange(1, len(outputs) + 1)
    many = np.repeat(places, companies.shape[1])
    axes.plot(many, companies.ravel(), ".", color=NEUTRAL, markersize=3)
    axes.axhline(1.5, color=HIGHLIGHT, linestyle="--", linewidth=1)
    axes.plot(places, outputs, "o", color=WITH_BN)
    axes.set(xlabel="companies of the same example", ylabel="inputs, and its output")
    return drawing


@styled
def running(found: tuple[Array, Array, Array]) -> Drawing:
    """Mean of the data, of each batch, and the running one, all (batches,)."""
    truth, means, running_means = found
    drawing, axes = figure(height=HEIGHT)
    axes.plot(means, ".", color=NEUTRAL, label="mean of the batch")
    axes.plot(truth, "--", color=THEORY, label="mean of the data")
    axes.plot(running_means, color=WITH_BN, label="running mean")
    axes.set(xlabel="mini-batches", ylabel="mean")
    axes.legend(loc="lower right")
    return drawing


@styled
def jitter(found: tuple[Sequence[int], Array]) -> Drawing:
    """Batch sizes, and what an example at one deviation is normalised to: (sizes, companies)."""
    sizes, values = found
    drawing, axes = figure(height=HEIGHT)
    rng, places = np.random.default_rng(0), np.arange(len(sizes))
    aside = places[:, None] + rng.uniform(-0.25, 0.25, values.shape)
    axes.plot(aside.ravel(), values.ravel(), ".", color=WITH_BN, markersize=2)
    for sign in (-1, 0, 1):
        expected = 1 + sign * np.sqrt(1.5 / np.array(sizes))
        axes.plot(places, expected, "--", color=THEORY, linewidth=1)
    axes.set_xticks(places, [str(m) for m in sizes])
    axes.set(xlabel="batch size", ylabel="its normalized value x̂")
    return drawing


@styled
def depth(both: Sequence[Array]) -> Drawing:
    """Norm of the gradient at each layer over that at the top, (layers,): with BN, without."""
    drawing, axes = figure(height=HEIGHT)
    for norms, (name, colour) in zip(both, BOTH.items(), strict=True):
        axes.semilogy(range(1, len(norms) + 1), norms, color=colour, label=name)
    axes.set(xlabel="layer, counted from the input", ylabel="gradient, over that at the top")
    axes.legend()
    return drawing


@styled
def training(both: Sequence[Array]) -> Drawing:
    """Training losses, (steps,): with BN, without."""
    drawing, axes = figure(height=HEIGHT)
    for losses, (name, colour) in zip(both, BOTH.items(), strict=True):
        axes.plot(losses, color=colour, label=name, linewidth=1)
    axes.axhline(np.log(2), color=THEORY, linestyle="--", linewidth=1, label="guessing")
    axes.set(xlabel="steps of gradient descent", ylabel="training loss", ylim=(0, None))
    axes.legend()
    return drawing


@styled
def layers(data: Mapping) -> Drawing:
    """What each module's nonlinearity receives before training: 15th to 85th percentile."""
    run = next(iter(data["runs"].values()))
    drawing, axes = figure(height=HEIGHT)
    ways = zip(("with", "without"), (0.16, -0.16), BOTH.items(), strict=True)
    for key, aside, (name, colour) in ways:
        low, middle, high = np.array(run[key][0]).T
        places = np.arange(1, len(low) + 1) + aside
        axes.bar(places, high - low, 0.26, bottom=low, color=colour, alpha=0.4, label=name)
        axes.plot(places, middle, "o", color=colour)
    axes.set(xlabel="module, from the picture on", ylabel="input of its nonlinearity")
    axes.legend()
    return drawing


DRAWN = (batch, company, running, jitter, depth, training, layers)
PICTURES: dict[str, Callable[..., Drawing]] = {draw.__name__: draw for draw in DRAWN}
