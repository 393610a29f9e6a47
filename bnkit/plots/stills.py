"""The static pictures of the explorables: what a page shows where scripts do not run.

Each is one setting of its explorable, computed by ``bnkit.reference``. The press runs this module
as a program, ``main(folder, names)``, when it builds the pages that show explorables.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib import style

from bnkit import paths, reference
from bnkit.plots import Drawing, figure, styled
from bnkit.plots.colours import BOTH, HIGHLIGHT, NEUTRAL, SERIES, THEORY

WITH_BN, WITHOUT_BN = BOTH.values()


def main(folder: str, names: Sequence[str]) -> None:
    """Draw the pictures called `names` into `folder`, as NAME.svg."""
    for name in names:
        with style.context([paths.STYLE, {"svg.fonttype": "path"}]):
            target = Path(folder, f"{name}.svg")
            target.parent.mkdir(parents=True, exist_ok=True)
            # without a date two builds agree
            PICTURES[name]().savefig(target, metadata={"Date": None, "Creator": None})


def _normalised(x: np.ndarray, eps: float = 1e-5) -> np.ndarray:
    """The normalised values of one feature, (m,) -> (m,)."""
    return reference.forward(x[:, None], np.ones(1), np.zeros(1), eps)[1].x_hat[:, 0]


@styled
def batch() -> Drawing:
    """The batch 0, 2, 2, 8 on its way through Algorithm 1, γ = 1 and β = 0."""
    x = np.array([0.0, 2, 2, 8])
    rows = {"x": x, "x − μ": x - x.mean(), "x̂": _normalised(x), "y": _normalised(x)}
    drawing, axes = figure(height=2.8)
    lines = np.stack(list(rows.values()))  # (rows, m)
    for value, colour in zip(lines.T, SERIES, strict=False):
        axes.plot(value, range(len(rows)), "o-", color=colour)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set(xlabel="value", ylim=(len(rows) - 0.6, -0.4))
    return drawing


@styled
def company() -> Drawing:
    """One example, x = 1.5, among 24 companies of seven: its outputs in training."""
    companies = np.random.default_rng(0).normal(size=(24, 7))
    outputs = [_normalised(np.r_[1.5, company])[0] for company in companies]
    drawing, axes = figure(height=2.8)
    places = np.arange(1, 25)
    axes.plot(np.repeat(places, 7), companies.ravel(), ".", color=NEUTRAL, markersize=3)
    axes.axhline(1.5, color=HIGHLIGHT, linestyle="--", linewidth=1)
    axes.plot(places, outputs, "o", color=WITH_BN)
    axes.set(xlabel="24 companies of the same example", ylabel="inputs, and its output")
    return drawing


@styled
def running() -> Drawing:
    """A running mean, a tenth of each new batch of 16, through a shift of the data by 3."""
    rng, population, means, running_means = np.random.default_rng(0), None, [], []
    truth = np.repeat([2.0, 5.0], 60)
    population = reference.Population(np.zeros(1), np.ones(1), 0)
    for mean in truth:
        x = rng.normal(mean, 1, (16, 1))
        population = reference.observe(population, x, 0.1)
        means.append(x.mean())
        running_means.append(population.mean[0])
    drawing, axes = figure(height=2.8)
    axes.plot(means, ".", color=NEUTRAL, label="mean of the batch")
    axes.plot(truth, "--", color=THEORY, label="mean of the data")
    axes.plot(running_means, color=WITH_BN, label="running mean")
    axes.set(xlabel="mini-batches", ylabel="mean")
    axes.legend(loc="lower right")
    return drawing


PICTURES: dict[str, Callable[[], Drawing]] = {
    "batch": batch,
    "company": company,
    "running": running,
}
