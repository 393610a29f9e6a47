"""Figure 1 of the paper in numbers: which runs a page shows, and what is read off them. Records in,
numbers out.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bnkit import paths
from bnkit.runs import records
from bnkit.runs.records import Record

RATES = (0.1, 0.5, 2.0, 5.0)  # learning rates recorded for 50,000 steps
SIGMAS = (0.01, 0.1, 1.0)  # standard deviations of the initial weights recorded for 10,000 steps
NORMS = {"with BN": "batch", "without BN": None}  # what a recipe calls the two networks
PANELS = ("1c/with_bn", "1b/without_bn")  # where the paper draws the two networks

Curves = dict[str, tuple[np.ndarray, np.ndarray]]  # of the paper: (steps, values) by name


@dataclass(frozen=True)
class Pair:
    """Runs of one recipe with and without batch normalization, for the same seeds in the same
    order.

    The two runs of a seed start from the same weights and see the same mini-batches, so their
    difference is paired.
    """

    with_bn: list[Record]
    without_bn: list[Record]
    recorded: bool = True
    why: str = ""  # why they were trained and not taken from the records, in words for the page

    @property
    def recipe(self) -> dict:
        """The recipe that all of them share; its ``norm`` and ``seed`` are those of the first."""
        return self.with_bn[0].recipe

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
        """A step at which there was an evaluation while learning was fast: 1,000, or 100 in a short
        run.
        """
        return 1000 if self.end > 1000 else min(100, self.end)

    @property
    def full(self) -> bool:
        """Whether these are runs of the book's main pair, about which the chapter makes its claims."""
        return self.recorded and self.with_bn[0].variant == "with-bn"

    @property
    def title(self) -> str:
        """Data set, origin and number of seeds, for the title of a figure."""
        count = len(self.with_bn)
        name = {"mnist": "MNIST"}.get(self.recipe["dataset"], self.recipe["dataset"])
        return f"{name}, {'recorded' if self.recorded else 'trained now'}, {count} seed{'s' * (count > 1)}"

    @property
    def says(self) -> str:
        """What the page shows, in Markdown: on which data, made how and when, and why these runs."""
        recipe, made = self.recipe, self.with_bn[0].manifest
        seeds = [run.seed for run in self.with_bn]
        what = (
            f"{recipe['steps']:,} steps of plain SGD at learning rate {recipe['learning_rate']:g}, mini-batches of "
            f"{recipe['batch_size']}, initial weights of standard deviation {recipe['init_sigma']:g}, "
            + (f"seeds {seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"seed {seeds[0]}")
        )
        if not self.recorded:
            lost = [
                run.name
                for run in self.with_bn + self.without_bn
                if run.manifest.get("diverged_at") is not None
            ]
            ended = f"Diverged, and ended there: {', '.join(lost)}. " if lost else ""
            return (
                f"**This page shows runs trained just now, on the data set `{recipe['dataset']}`**: {what}. {self.why} "
                f"{ended}"
                "Where the text speaks of *the recorded runs*, it means those on MNIST that the book carries; its "
                "claims are asserted for them only."
            )
        names = " and ".join(
            f"`{runs[0].experiment}/{runs[0].variant}`" for runs in (self.with_bn, self.without_bn)
        )
        return (
            f"**This page shows recorded runs on MNIST**, {names}: {what}. They were made with torch "
            f"{made['versions'].get('torch', '?').split('+')[0]} on the {made.get('device', '?')} "
            f"({made['platform'].get('cpu', 'processor unknown')}); `python -m bnkit verify` trains them again and "
            "compares."
        )


def nets(both: Pair) -> tuple[list[Record], list[Record]]:
    """The runs with batch normalization, and those without."""
    return both.with_bn, both.without_bn


# Which runs


def pair(suffix: str = "") -> Pair:
    """The recorded runs ``mnist/with-bn<suffix>`` and ``mnist/without-bn<suffix>``, for the seeds
    that both have.

    Raises RecordError where there are none, or where one is damaged.
    """
    treated, control = (
        records.load_all("mnist", net + suffix) for net in ("with-bn", "without-bn")
    )
    seeds = {run.seed for run in treated} & {run.seed for run in control}
    return Pair(*([run for run in runs if run.seed in seeds] for runs in (treated, control)))


def by_rate() -> dict[float, Pair]:
    """The recorded pairs by learning rate, 50,000 steps each; the first of them is the main pair."""
    return {rate: pair("" if rate == RATES[0] else f"-lr-{rate:g}") for rate in RATES}


def by_init(learning_rate: float) -> dict[float, Pair]:
    """The recorded pairs by standard deviation of the initial weights, 10,000 steps each."""
    return {sigma: pair(f"-sigma-{sigma:g}-lr-{learning_rate:g}") for sigma in SIGMAS}


def choose(recipe: dict, source: str, seeds: int, train: Callable[[dict], Record]) -> Pair:
    """The runs that a page with these parameters shows: recorded on MNIST where they are asked for
    and exist, else new.

    `recipe` is what the parameters say, as a dictionary; its data set is the one to train on.
    Recorded runs are taken for the very same recipe only, data set apart. ``train(recipe)`` makes a
    new run. ``Pair.says`` says which they are, so that a page never shows the one for the other in
    silence.
    """
    if source == "recorded":
        treated, control = (
            _recorded({**recipe, "dataset": "mnist", "norm": norm}) for norm in ("batch", None)
        )
        both = sorted(treated.keys() & control.keys())
        if len(both) >= seeds:
            return Pair(
                [treated[seed] for seed in both[:seeds]], [control[seed] for seed in both[:seeds]]
            )
        there = f"only {len(both)}" if both else "none"
        why = f"Recorded runs were asked for, {seeds} of each network, but of this recipe there are {there}."
    else:
        why = 'They were asked for, with `source` set to "live".'
    new = (
        [
            replace(train({**recipe, "norm": norm, "seed": seed}), variant=variant)
            for seed in range(seeds)
        ]
        for variant, norm in (("with-bn", "batch"), ("without-bn", None))
    )
    return Pair(*new, recorded=False, why=why)


def _recorded(recipe: dict) -> dict[int, Record]:
    """Recorded runs of `recipe`, whatever its seed says, by their seeds."""
    runs = (records.load(*name) for name in records.index() if name[0] == "mnist")
    return {
        run.seed: run for run in runs if {**run.recipe, "seed": None} == {**recipe, "seed": None}
    }


# What is read off them


def accuracy(runs: list[Record], step: int | None = None) -> np.ndarray:
    """Test accuracy of each run after `step` steps (default: at its end), a share of 1. Shapes:
    (seeds,).
    """
    return _at(runs, "test_accuracy", step)


def gap(both: Pair, step: int | None = None) -> np.ndarray:
    """By how many percentage points the network with BN is more accurate, seed by seed. Shapes:
    (seeds,).
    """
    return 100 * (accuracy(both.with_bn, step) - accuracy(both.without_bn, step))


def spread(runs: list[Record], step: int | None = None) -> np.ndarray:
    """85th minus 15th percentile of what each unit's sigmoid receives. Shapes: (seeds, units)."""
    percentiles = _at(runs, "quantiles", step)
    return percentiles[..., 2] - percentiles[..., 0]


def middle(runs: list[Record], step: int | None = None) -> np.ndarray:
    """Median of what each unit's sigmoid receives. Shapes: (seeds, units)."""
    return _at(runs, "quantiles", step)[..., 1]


def drift(runs: list[Record]) -> np.ndarray:
    """How far each unit's median ends from where it started, in absolute value. Shapes: (seeds,
    units).
    """
    return np.abs(middle(runs) - middle(runs, 0))


def wandering(runs: list[Record], first: int, last: int) -> np.ndarray:
    """Largest minus smallest median of each unit from step `first` to step `last`. Shapes: (seeds,
    units).
    """
    steps, percentiles = records.stack(runs, "quantiles")
    medians = percentiles[..., 1]  # (seeds, steps, units)
    return np.ptp(medians[:, (first <= steps) & (steps <= last)], axis=1)


def gamma(runs: list[Record], step: int | None = None) -> np.ndarray:
    """Gamma of each unit of the last hidden layer. Shapes: (seeds, units)."""
    return _at(runs, "gamma", step)


def first_reaching(runs: list[Record], level: float) -> np.ndarray:
    """Step of each run's first evaluation with at least this accuracy; inf where there is none.
    Shapes: (seeds,).
    """
    steps, values = records.stack(runs, "test_accuracy")
    reached = values >= level
    return np.where(reached.any(1), steps[reached.argmax(1)], np.inf)


def lead_from(ahead: list[Record], behind: list[Record]) -> float:
    """First evaluation from which the mean accuracy of the runs `ahead` stays above that of the
    runs `behind`.

    Infinity where it is not above at the last one. The runs need not share their seeds.
    """
    steps, values = records.stack([*ahead, *behind], "test_accuracy")
    lost = np.flatnonzero(values[: len(ahead)].mean(0) <= values[len(ahead) :].mean(0))
    return float(np.append(steps, np.inf)[lost[-1] + 1 if len(lost) else 0])


def best(pairs: dict[float, Pair], net: str) -> tuple[float, np.ndarray]:
    """The learning rate of the highest mean final accuracy, and the accuracies; `net` is "with_bn"
    or "without_bn".
    """
    rate = max(pairs, key=lambda rate: accuracy(getattr(pairs[rate], net)).mean())
    return rate, accuracy(getattr(pairs[rate], net))


def typical(values: np.ndarray) -> float:
    """The median over units and seeds."""
    return float(np.median(values))


def _at(runs: list[Record], name: str, step: int | None) -> np.ndarray:
    steps, values = records.stack(runs, name)
    if step is None:
        return values[:, -1]
    if step not in steps:
        raise ValueError(
            f"{name} was not taken at step {step}, but at {', '.join(map(str, steps))}"
        )
    return values[:, list(steps).index(step)]


# The paper's Figure 1


def paper() -> Curves:
    """The digitised curves of the paper by name, "figure1a/with_bn" and so on: steps and values,
    both of shape (T,).
    """
    content = json.loads((paths.paper() / "curves.json").read_text(encoding="utf-8"))
    return {name: tuple(np.asarray(content[name], float).T) for name in content["about"]["curves"]}


def paper_at(curve: tuple[np.ndarray, np.ndarray], step: int) -> float:
    """A digitised curve at `step`, along its straight lines; NaN where the paper draws none."""
    steps, values = curve
    error = 40  # steps: how well the ends of a curve could be read off the drawing (data/paper/curves.json)
    drawn = steps[0] - error <= step <= steps[-1] + error
    return float(np.interp(step, steps, values)) if drawn else np.nan


def beside_paper(runs: list[Record], printed: Curves, panel: str) -> np.ndarray:
    """How far the typical unit's percentiles are from the paper's unit, at each recorded step that
    the paper draws.

    `panel` is "1b/without_bn" or "1c/with_bn". Shapes: (steps, 3).
    """
    steps, percentiles = records.stack(runs, "quantiles")
    theirs = [
        [paper_at(printed[f"figure{panel}/p{percent}"], step) for percent in (15, 50, 85)]
        for step in steps
    ]
    away = np.abs(np.median(percentiles, axis=(0, 2)) - theirs)
    return away[~np.isnan(away).any(axis=1)]


# Numbers in words


def show(values: Sequence[float] | np.ndarray, digits: int = 2, scale: float = 1) -> str:
    """Mean ± standard deviation over seeds of `scale` times `values`, for a sentence; one seed has
    no deviation.
    """
    values = scale * np.asarray(values, float)
    mean = f"{values.mean():.{digits}f}".replace("-", "−")
    return mean if len(values) < 2 else f"{mean} ± {values.std(ddof=1):.{digits}f}"


def percent(runs: list[Record], step: int | None = None, digits: int = 1) -> str:
    """Test accuracy of `runs` after `step` steps (default: at the end) in percent, for a sentence."""
    return show(accuracy(runs, step), digits, 100)


def table(head: Sequence[str], rows: Sequence[Sequence[object]], text: int = 1) -> str:
    """A Markdown table; the first `text` columns are words, the others numbers, aligned to the
    right.
    """
    lines = [head, [":--"] * text + ["--:"] * (len(head) - text), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def figure_1(both: Pair, printed: Curves) -> str:
    """Paper and `both` side by side, as a Markdown table; the paper's column is empty for another
    data set.

    Accuracies in percent. Percentile spreads are those of one unit in the paper and of the median
    unit here; ± is over seeds.
    """
    same_data = both.recipe["dataset"] == "mnist"

    def of_paper(value: float, digits: int) -> str:
        return f"{value:.{digits}f}" if same_data and np.isfinite(value) else "–"

    rows = []
    for step in [*(step for step in (4000, 10_000, 20_000) if step < both.end), None]:
        theirs = [printed[f"figure1a/{net}"] for net in ("with_bn", "without_bn")]
        theirs = [
            100 * (curve[1][-1] if step is None else paper_at(curve, step)) for curve in theirs
        ]
        ours = [accuracy(runs, step) for runs in (both.with_bn, both.without_bn)]
        when = f"after {step:,} steps" if step else "at the end"
        for net, printed_value, values in zip(("with BN", "without BN"), theirs, ours, strict=True):
            rows.append(
                (
                    f"test accuracy {when}, {net}, %",
                    of_paper(printed_value, 1),
                    show(values, 2, 100),
                )
            )
        rows.append(
            (f"gap {when}, points", of_paper(theirs[0] - theirs[1], 1), show(gap(both, step), 2))
        )
    for panel, net, runs in zip(PANELS, NORMS, nets(both), strict=True):
        low, high = (printed[f"figure{panel}/p{percent}"][1] for percent in (15, 85))
        for when, place, step in (("start", 0, 0), ("end", -1, None)):
            values = np.median(spread(runs, step), axis=1)
            theirs = of_paper(high[place] - low[place], 2)
            rows.append((f"85th minus 15th percentile at the {when}, {net}", theirs, show(values)))
    return table(("quantity", "paper, Figure 1", "this page"), rows)


def movement(both: Pair) -> str:
    """How the input of the typical unit widens and moves in either network, early and late, as a
    Markdown table.
    """
    half = min(10_000, both.end)
    rows = [
        (
            name,
            *(f"{typical(spread(runs, step)):.2f}" for step in (0, None)),
            *(
                f"{typical(wandering(runs, *window)):.2f}"
                for window in ((0, half), (half, both.end))
            ),
        )
        for name, runs in zip(NORMS, nets(both), strict=True)
    ]
    when = f"its median wanders by, first {half:,} steps"
    return table(("typical unit", "spread at the start", "at the end", when, "afterwards"), rows)


def stability(rates: dict[float, Pair]) -> str:
    """Drift of the median and spread at the end for the typical unit, by learning rate, as a
    Markdown table.
    """
    rows = [
        (
            f"{rate:g}",
            *(f"{typical(what(runs)):.2f}" for what in (drift, spread) for runs in nets(both)),
        )
        for rate, both in rates.items()
    ]
    return table(
        ("learning rate", "drift with BN", "without BN", "spread at the end with BN", "without BN"),
        rows,
    )


# What the chapter concludes, always from the recorded runs


def evidence(
    rates: dict[float, Pair], inits: dict[float, dict[float, Pair]]
) -> dict[str, dict[str, float]]:
    """What the recorded runs say on the claims C36, C49 to C53 and C75, as the ledger asks for it.

    Accuracies are shares of 1, gaps percentage points, spreads and drifts those of the typical
    unit.
    """
    main, fast, lost = rates[0.1], rates[2.0], inits[0.1][0.01]
    with_bn, without_bn = (best(rates, net)[1] for net in ("with_bn", "without_bn"))
    low, high = (paper()[f"figure{PANELS[0]}/p{percent}"][1] for percent in (15, 85))
    narrow, wide = np.quantile(spread(main.with_bn), [0.1, 0.9])
    return {
        "C36": {
            "ahead_from": lead_from(main.with_bn, main.without_bn),
            "bad_start_with_bn": accuracy(lost.with_bn).mean(),
            "bad_start_without_bn": accuracy(lost.without_bn).mean(),
        },
        "C49": {
            "early_with_bn": accuracy(main.with_bn, 1000).mean(),
            "early_without_bn": accuracy(main.without_bn, 1000).mean(),
            "slow_with_bn": accuracy(main.with_bn, 2500).mean(),
            "fast_without_bn": accuracy(fast.without_bn, 2500).mean(),
        },
        "C50": {"gap": gap(main).mean(), "tuned_gap": 100 * (with_bn.mean() - without_bn.mean())},
        "C51": {"narrow": narrow, "wide": wide, "papers_unit": high[-1] - low[-1]},
        "C52": {
            "drift": typical(drift(main.with_bn)),
            "spread_start": typical(spread(main.with_bn, 0)),
            "spread_end": typical(spread(main.with_bn)),
            "gamma": typical(gamma(main.with_bn)),
            "fast_drift": typical(drift(fast.with_bn)),
        },
        "C53": {
            "first": typical(wandering(main.without_bn, 0, 10_000)),
            "later": typical(wandering(main.without_bn, 10_000, main.steps)),
            "first_with_bn": typical(wandering(main.with_bn, 0, 10_000)),
        },
        "C75": {
            "early": accuracy(fast.with_bn, 1000).mean(),
            "early_at_low_rate": accuracy(main.with_bn, 1000).mean(),
            "end": accuracy(fast.with_bn).mean(),
            "end_at_low_rate": accuracy(main.with_bn).mean(),
        },
    }


def headline(rates: dict[float, Pair], inits: dict[float, dict[float, Pair]]) -> dict[str, float]:
    """The numbers that other pages quote, by name: accuracies in percent, gaps in percentage
    points.
    """
    main, lost = rates[0.1], inits[0.1][0.01]
    tuned = {net: 100 * best(rates, net)[1].mean() for net in ("with_bn", "without_bn")}

    def mean(runs: list[Record], step: int | None = None) -> float:
        return 100 * accuracy(runs, step).mean()

    return {
        "final_with_bn": mean(main.with_bn),
        "final_without_bn": mean(main.without_bn),
        "final_gap_points": gap(main).mean(),
        "tuned_with_bn": tuned["with_bn"],
        "tuned_without_bn": tuned["without_bn"],
        "tuned_gap_points": tuned["with_bn"] - tuned["without_bn"],
        "early_with_bn": mean(main.with_bn, 1000),
        "early_without_bn": mean(main.without_bn, 1000),
        "gamma_end": typical(gamma(main.with_bn)),
        "spread_start": typical(spread(main.with_bn, 0)),
        "spread_end": typical(spread(main.with_bn)),
        "bad_init_with_bn": mean(lost.with_bn),
        "bad_init_without_bn": mean(lost.without_bn),
    }
