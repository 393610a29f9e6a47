"""Figure 1 of the paper in numbers: which runs a page shows, and what is read off them."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace

import numpy as np

from bnkit.datasets.binary import WAYS
from bnkit.page.prose import as_table
from bnkit.runs import experiments, records
from bnkit.runs.records import Record
from bnkit.runs.tasks.mnist import MLPRecipe
from bnkit.studies import recorded
from bnkit.studies.recorded import Curve, Shown, at, look_up, shared, show

Array = np.ndarray
RATES = (0.13, 0.5, 2.0, 5.0)  # learning rates recorded for 50,000 steps, the main pair's first
# standard deviations of the initial weights recorded for 10,000 steps, the main pair's in the middle
SIGMAS = (0.005, 0.05, 0.5)
GUESS = "-sigma-0.1-lr-0.1-threshold"  # the control with round numbers
NORMS = {"with BN": "batch", "without BN": None}  # what a recipe calls the two networks
VARIANTS = {"with BN": "with-bn", "without BN": "without-bn"}  # and what a record does
Train = Callable[[list[dict]], list[Record]]  # trains the network of each recipe
WHOLE = 50_000  # steps of the recorded runs
BRIEF = {"steps": 2_000, "seeds": 2}  # of new runs for which none are asked: half a minute
PANELS = ("1c/with_bn", "1b/without_bn")  # where the paper draws the two networks


class Pair(Shown):
    """Runs of one recipe with and without batch normalization.

    The two runs of a seed share initial weights and mini-batches: their difference is paired.
    """

    @property
    def with_bn(self) -> list[Record]:
        return self.runs["with BN"]

    @property
    def without_bn(self) -> list[Record]:
        return self.runs["without BN"]

    @property
    def recipe(self) -> dict:
        """The recipe that all of them share; its ``norm`` and ``seed`` are those of the first."""
        return self.first.recipe

    @property
    def steps(self) -> int:
        """Optimisation steps of each run."""
        return self.recipe["steps"]

    @property
    def end(self) -> int:
        """The last step that all of them reached: the last of the recipe, unless one diverged."""
        return int(records.stack(self.with_bn + self.without_bn, "test_accuracy")[0][-1])

    @property
    def early(self) -> int:
        """A step with an evaluation while learning was fast: 1,000, or 100 in a short run."""
        return 1000 if self.end > 1000 else min(100, self.end)

    @property
    def full(self) -> bool:
        """Whether these are runs of the main pair, about which the chapter makes its claims."""
        return self.recorded and self.first.variant == "with-bn"

    @property
    def whole(self) -> str:
        """How far the runs can be compared, as the beginning of a sentence."""
        if self.end == self.steps:
            return f"After all {self.steps:,} steps"
        return f"After {self.end:,} steps, the last that all runs reached before one diverged,"

    @property
    def says(self) -> str:
        """What the page shows, in Markdown: on which data, made how and when, and why these."""
        names = (f"`{run.experiment}/{run.variant}`" for run, *_ in self.runs.values())
        recipe, last = self.recipe, self.with_bn[-1].seed
        seeds = f"seeds {self.first.seed} to {last}" if self.seeds > 1 else f"seed {last}"
        how = (
            f"{self.steps:,} steps of plain SGD at learning rate {recipe['learning_rate']:g}, "
            f"mini-batches of {recipe['batch_size']}, initial weights of standard deviation "
            f"{recipe['init_sigma']:g}, each pixel {WAYS[recipe.get('pixels', 'threshold')]}, {seeds}"
        )
        return self.describe("MNIST", " and ".join(names), how)


def nets(both: Pair) -> tuple[list[Record], list[Record]]:
    """The runs with batch normalization, and those without."""
    return both.with_bn, both.without_bn


# Which runs


def pair(suffix: str = "") -> Pair:
    """The recorded ``mnist/with-bn<suffix>`` and ``without-bn<suffix>``, for the seeds of both.

    Raises RecordError where there are none, or where one is damaged.
    """
    runs = {net: experiments.load_all(f"mnist/{name}{suffix}") for net, name in VARIANTS.items()}
    return Pair(shared(runs))


def guess() -> Pair:
    """The recorded pair with round numbers, 0.1 for rate and weights, and thresholded pixels."""
    return pair(GUESS)


def by_rate() -> dict[float, Pair]:
    """The recorded pairs by learning rate, 50,000 steps each; the first is the main pair."""
    return {rate: pair("" if rate == RATES[0] else f"-lr-{rate:g}") for rate in RATES}


def by_init(learning_rate: float) -> dict[float, Pair]:
    """The recorded pairs by standard deviation of the initial weights, 10,000 steps each."""
    return {sigma: pair(f"-sigma-{sigma:g}-lr-{learning_rate:g}") for sigma in SIGMAS}


def choose(recipe: dict, source: str, seeds: int, train: Train) -> Pair:
    """The runs that a page with these parameters shows: recorded if asked for and there, else new.

    `recipe` is what the parameters say, as a dictionary; its data set is the one to train on. Where
    its steps or `seeds` are 0, they are those of the recorded runs, and for new ones ``BRIEF``.
    Recorded runs are taken for the very same recipe only, data set apart. ``train(recipes)`` makes
    new runs. ``Pair.says`` tells which they are: a page shows no run for another in silence.
    """
    whole = {**recipe, "dataset": "mnist", "steps": recipe["steps"] or WHOLE}
    runs, why = look_up(
        source, "mnist", {net: whole | {"norm": NORMS[net]} for net in NORMS}, seeds
    )
    if runs:
        return Pair(runs)
    recipe, seeds = recipe | {"steps": recipe["steps"] or BRIEF["steps"]}, seeds or BRIEF["seeds"]
    pairs = [(net, seed) for net in NORMS for seed in range(seeds)]
    made = train([{**recipe, "norm": NORMS[net], "seed": seed} for net, seed in pairs])
    runs = {net: [] for net in NORMS}
    for (net, _), record in zip(pairs, made, strict=True):
        runs[net].append(replace(record, variant=VARIANTS[net]))
    return Pair(runs, recorded=False, why=why)


def ahead(parameters: Mapping) -> list[MLPRecipe]:
    """The networks that the page trains with these parameters: its pair, unless it is recorded.

    The small ones of its other sections take seconds, and are the same for every point.
    """
    named = {k: v for k, v in parameters.items() if k not in ("source", "seeds")}
    asked: list[dict] = []

    def note(recipes: list[dict]) -> list[Record]:
        asked.extend(recipes)
        raise _NotedError

    with suppress(_NotedError):
        choose(MLPRecipe(**named).as_dict(), parameters["source"], parameters["seeds"], note)
    return [MLPRecipe(**recipe | {"hidden": tuple(recipe["hidden"])}) for recipe in asked]


class _NotedError(Exception):
    """Leaves ``choose`` once it has said what it would train."""


def cost(main: Pair) -> str:
    """What the recorded pair took, and what a live run takes that nobody gives a length, in words."""
    return recorded.cost(main.runs, dict.fromkeys(NORMS, BRIEF["steps"]), BRIEF["seeds"])


# What is read off them


def accuracy(runs: list[Record], step: int | None = None) -> Array:
    """Test accuracy of each run after `step` steps (default: at its end), a share of 1. (seeds,)"""
    return _at(runs, "test_accuracy", step)


def gap(both: Pair, step: int | None = None) -> Array:
    """By how many points the network with BN is more accurate, seed by seed. (seeds,)"""
    return 100 * (accuracy(both.with_bn, step) - accuracy(both.without_bn, step))


def spread(runs: list[Record], step: int | None = None) -> Array:
    """85th minus 15th percentile of what each unit's sigmoid receives. Shapes: (seeds, units)."""
    percentiles = _at(runs, "quantiles", step)
    return percentiles[..., 2] - percentiles[..., 0]


def middle(runs: list[Record], step: int | None = None) -> Array:
    """Median of what each unit's sigmoid receives. Shapes: (seeds, units)."""
    return _at(runs, "quantiles", step)[..., 1]


def drift(runs: list[Record]) -> Array:
    """How far each unit's median ends from its start, in absolute value. Shapes: (seeds, units)."""
    return np.abs(middle(runs) - middle(runs, 0))


def wandering(runs: list[Record], first: int, last: int) -> Array:
    """Largest minus smallest median of each unit from step `first` to `last`. (seeds, units)"""
    steps, percentiles = records.stack(runs, "quantiles")
    medians = percentiles[..., 1]  # (seeds, steps, units)
    return np.ptp(medians[:, (first <= steps) & (steps <= last)], axis=1)


def gamma(runs: list[Record]) -> Array:
    """Gamma of each unit of the last hidden layer, at the end. Shapes: (seeds, units)."""
    return _at(runs, "gamma", None)


def first_reaching(runs: list[Record], level: float) -> Array:
    """Step of each run's first evaluation with at least this accuracy; inf: never. (seeds,)"""
    steps, values = records.stack(runs, "test_accuracy")
    reached = values >= level
    return np.where(reached.any(1), steps[reached.argmax(1)], np.inf)


def reached(runs: list[Record], level: float) -> list[float | None]:
    """``first_reaching`` with None for never, as results have it."""
    return [step if np.isfinite(step) else None for step in first_reaching(runs, level).tolist()]


def lead_from(ahead: list[Record], behind: list[Record]) -> float:
    """First evaluation from which the mean accuracy of the runs `ahead` stays above that of the
    runs `behind`; infinity where it is not above at the last one. They need not share seeds."""
    steps, values = records.stack([*ahead, *behind], "test_accuracy")
    lost = np.flatnonzero(values[: len(ahead)].mean(0) <= values[len(ahead) :].mean(0))
    return float(np.append(steps, np.inf)[lost[-1] + 1 if len(lost) else 0])


def best(pairs: Mapping[float, Pair], net: str) -> tuple[float, Array]:
    """The rate of the highest mean final accuracy, and that; `net`: "with_bn" or "without_bn"."""
    rate = max(pairs, key=lambda rate: accuracy(getattr(pairs[rate], net)).mean())
    return rate, accuracy(getattr(pairs[rate], net))


def typical(values: Array) -> float:
    """The median over units and seeds."""
    return float(np.median(values))


def _at(runs: list[Record], name: str, step: int | None) -> Array:
    steps, values = records.stack(runs, name)
    if step is None:
        return values[:, -1]
    if step not in steps:
        there = ", ".join(map(str, steps))
        raise ValueError(f"{name} was not taken at step {step}, but at {there}")
    return values[:, list(steps).index(step)]


def beside_paper(runs: list[Record], paper: Mapping[str, Curve], panel: str) -> Array:
    """How far the typical unit's percentiles are from the paper's unit, at each recorded step that
    the paper draws in `panel`, one of ``PANELS``. Shapes: (steps, 3)."""
    steps, percentiles = records.stack(runs, "quantiles")
    curves = [paper[f"figure{panel}/p{percent}"] for percent in (15, 50, 85)]
    theirs = [[at(curve, step) for curve in curves] for step in steps]
    away = np.abs(np.median(percentiles, axis=(0, 2)) - theirs)
    return away[~np.isnan(away).any(axis=1)]


# Numbers in words and tables


def percent(runs: list[Record], step: int | None = None, digits: int = 1) -> str:
    """Test accuracy of `runs` after `step` steps (default: at the end) in percent, in words."""
    return show(accuracy(runs, step), digits, 100)


def figure_1(both: Pair, paper: Mapping[str, Curve]) -> str:
    """Paper and `both` side by side, after as many steps; its column is empty for other data.

    Accuracies in percent. Spreads are of one unit (paper) and the median unit (here); ± over seeds.
    """
    same_data = both.recipe["dataset"] == "mnist"

    def of_paper(value: float, digits: int) -> str:
        return f"{value:.{digits}f}" if same_data and np.isfinite(value) else "–"

    rows = []
    curves = [paper[f"figure1a/{net}"] for net in ("with_bn", "without_bn")]
    for step in [*(step for step in (4000, 10_000, 20_000) if step < both.end), None]:
        theirs = [100 * _beside(curve, step or both.end) for curve in curves]
        when = f"after {step:,} steps" if step else "at the end"
        for (net, runs), value in zip(both.runs.items(), theirs, strict=True):
            what = f"test accuracy {when}, {net}, %"
            rows.append((what, of_paper(value, 1), percent(runs, step, 2)))
        theirs = of_paper(theirs[0] - theirs[1], 1)
        rows.append((f"gap {when}, points", theirs, show(gap(both, step), 2)))
    for panel, (net, runs) in zip(PANELS, both.runs.items(), strict=True):
        low, high = (paper[f"figure{panel}/p{percent}"] for percent in (15, 85))
        for when, place, step in (("start", low[0][0], 0), ("end", both.end, None)):
            theirs = of_paper(_beside(high, place) - _beside(low, place), 2)
            ours = show(np.median(spread(runs, step), axis=1), 2)
            rows.append((f"85th minus 15th percentile at the {when}, {net}", theirs, ours))
    return as_table(("quantity", "paper, Figure 1", "this page"), rows, "lrr")


def _beside(curve: Curve, step: int) -> float:
    """What the paper drew at `step`; its last value from there on, NaN before its first."""
    return at(curve, min(step, curve[0][-1]))


def movement(both: Pair) -> str:
    """How the typical unit's input widens and moves in either network, early and late."""
    seen = records.stack(both.with_bn + both.without_bn, "quantiles")[0]
    half = seen[seen <= 10_000][-1]
    rows = []
    for net, runs in both.runs.items():
        values = spread(runs, 0), spread(runs), wandering(runs, 0, half)
        later = f"{typical(wandering(runs, half, seen[-1])):.2f}" if seen[-1] > half else "–"
        rows.append((net, *(f"{typical(each):.2f}" for each in values), later))
    when = f"its median wanders by, first {half:,} steps"
    head = ("typical unit", "spread at the start", "at the end", when, "afterwards")
    return as_table(head, rows, "lrrrr")


def stability(rates: Mapping[float, Pair]) -> str:
    """Drift of the median, and spread at the end, for the typical unit, by learning rate."""
    rows = []
    for rate, both in rates.items():
        values = (read(runs) for read in (drift, spread) for runs in nets(both))
        rows.append((f"{rate:g}", *(f"{typical(value):.2f}" for value in values)))
    drifts, spreads = ("drift with BN", "without BN"), ("spread at the end with BN", "without BN")
    return as_table(("learning rate", *drifts, *spreads), rows, "lrrrr")
