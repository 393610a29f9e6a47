"""Which settings did the paper use for Figure 1? The recorded search, held against its curves.

The paper's numbers are one run of each network and one unit of each, with settings that it does not
print. So a setting is judged by how far its curves are from the paper's *in units of what differs
anyway*: between two seeds for the accuracies of (a), between two units for the percentiles of (b)
and (c). The sum of squares is a deviance, which is as good a likelihood as curves allow.

Letters: T steps, S settings; of two networks the first is the one with batch normalization.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bnkit.page.prose import as_table
from bnkit.runs import experiments, records
from bnkit.runs.records import Record
from bnkit.studies.mnist import Pair, nets
from bnkit.studies.recorded import Curve, at, show

Array = np.ndarray
GRIDS = "mnist/figure-1-"  # how the experiments of the search begin
ENDS = f"{GRIDS}end-"  # and those of the setting that was found, with other pixels
LATE = 32_000  # steps: from here on a curve is at its end
APART = 4000  # steps between the points that the paper's curves of (a) are drawn through
NETS = ("with_bn", "without_bn")  # the order of every array here
READ_OFF = 0.0005  # of an accuracy: how well the paper's curve could be read
FLOOR = 0.0005  # of an accuracy: five of the 10,000 test digits; two runs differ by more
READ_OFF_INPUT = 0.006 * 2**0.5  # of a difference of two percentiles, likewise
PANELS = ("(a) with BN", "(a) without BN", "(b)", "(c)")
MEDIAN, WIDTH = 1, 3  # of the four numbers that are kept of a unit: what is compared
PLAUSIBLE = 4  # more deviance than the best: two standard deviations, were all of it normal


class Setting(NamedTuple):
    """What differs within a grid, but for the seed."""

    rate: float  # learning rate over 1 - momentum
    sigma: float  # standard deviation of the initial weights
    bias: float  # the same of the initial biases


class Grid(NamedTuple):
    """Settings that were trained at one way to make pixels and one momentum."""

    record: Record
    rates: Array
    """Learning rates, over 1 - momentum: what a step comes to in the long run. Shape: (S,)."""
    sigmas: Array
    """Standard deviations of the initial weights. Shape: (S,)."""
    biases: Array
    """The same of the initial biases. Shape: (S,)."""

    @property
    def settings(self) -> list[Setting]:
        """What each place of ``rates`` stands for; equal ones differ in the seed."""
        values = (self.rates.round(6), self.sigmas, self.biases)
        return [Setting(*map(float, one)) for one in zip(*values, strict=True)]

    @property
    def label(self) -> str:
        """How it differs from other grids: pixels, momentum, and whether biases were drawn."""
        return self.way + (", biases" if self.biases.any() else "")

    @property
    def way(self) -> str:
        """How the pixels were made, and the momentum where there was some."""
        return self.pixels + (f", momentum {self.momentum:g}" if self.momentum else "")

    @property
    def pixels(self) -> str:
        return self.record.recipe["pixels"]

    @property
    def momentum(self) -> float:
        return self.record.recipe["momentum"]


def grid(record: Record) -> Grid:
    """A recorded search of many settings."""
    recipe = record.recipe
    rates = np.asarray(recipe["learning_rates"]) / (1 - recipe["momentum"])
    sigmas = np.asarray(recipe["init_sigmas"])
    biases = np.asarray(recipe.get("bias_sigmas") or np.zeros(len(sigmas)))
    return Grid(record, rates, sigmas, biases)


def grids() -> dict[str, Grid]:
    """The recorded grids by ``Grid.label``; RecordError where one is damaged."""
    names = [name for name, _ in experiments.recorded(GRIDS) if not name.startswith(ENDS)]
    made = [grid(experiments.load(name, 0)) for name in names]
    return {one.label: one for one in made}


def ends() -> dict[str, Grid]:
    """The settings that were trained to the end, several seeds of each, by ``Grid.way``."""
    made = [grid(experiments.load(name, 0)) for name, _ in experiments.recorded(ENDS)]
    return {one.way: one for one in made}


# How far from the paper


def paper_accuracy(paper: Mapping[str, Curve], steps: Sequence[int]) -> Array:
    """The paper's two curves of (a) at `steps`; NaN where it draws none. Shape: (T, 2)."""
    curves = [paper[f"figure1a/{net}"] for net in NETS]
    return np.array([[at(curve, step) for curve in curves] for step in steps])


def paper_inputs(paper: Mapping[str, Curve], steps: Sequence[int]) -> Array:
    """Median and spread of the paper's two units at `steps`. Shape: (T, 2, 2)."""
    of_net = []
    for letter, net in zip("cb", NETS, strict=True):
        low, middle, high = (
            np.array([at(paper[f"figure1{letter}/{net}/p{percent}"], step) for step in steps])
            for percent in (15, 50, 85)
        )
        of_net.append(np.stack([middle, high - low], axis=-1))
    return np.stack(of_net, axis=1)


def noise(both: Pair, steps: Sequence[int]) -> Array:
    """How far a run is from another of its seeds, in accuracy, at `steps`. Shape: (T, 2).

    Standard deviation of the difference: the paper's run is one more seed.
    """
    spreads = []
    for runs in nets(both):
        there, values = records.stack(runs, "test_accuracy")
        deviation = values[:, np.isin(there, steps)].std(axis=0, ddof=1)
        spreads.append(np.sqrt(2 * np.maximum(deviation, FLOOR) ** 2 + READ_OFF**2))
    return np.stack(spreads, axis=-1)


def points(one: Grid) -> Array:
    """Steps of the grid at which the curves of (a) are compared."""
    steps, _ = one.record.curve("test_accuracy")
    return steps[steps % APART == 0]


def residuals(one: Grid, paper: Mapping[str, Curve]) -> Array:
    """Accuracy minus the paper's, in points, at ``points``. Shape: (T, 2, S)."""
    steps, values = one.record.curve("test_accuracy")
    wanted = points(one)
    ours = values[np.isin(steps, wanted)]
    return 100 * (ours - paper_accuracy(paper, wanted)[..., None])


def deviance(one: Grid, paper: Mapping[str, Curve], both: Pair) -> dict[str, Array]:
    """For each of ``PANELS``, how much speaks against each setting, (S,); 0: nothing.

    Of (a) the sum over its points. Of (b) and (c), where all steps show one unit, the mean over the
    steps, of the median and of the spread each.
    """
    away = residuals(one, paper) / 100 / noise(both, points(one))[..., None]
    panel_a = np.nansum(away**2, axis=0)  # (2, S)
    steps, values = one.record.curve("inputs")  # (T, 2, S, 4, 3)
    values = values[:, :, :, (MEDIAN, WIDTH)]
    low, middle, high = np.moveaxis(values, -1, 0)
    theirs = paper_inputs(paper, steps)[:, :, None]
    # half of the range from the 15th to the 85th percentile is a deviation, nearly
    variance = (0.5 * (high - low)) ** 2 + READ_OFF_INPUT**2
    units = np.nansum(np.nanmean((theirs - middle) ** 2 / variance, axis=0), -1)
    return dict(zip(PANELS, (*panel_a, units[1], units[0]), strict=True))


def total(one: Grid, paper: Mapping[str, Curve], both: Pair) -> Array:
    """The sum of ``deviance`` over the panels. Shape: (S,)."""
    return sum(deviance(one, paper, both).values())


def profile(values: Array, dimension: Array) -> dict[float, float]:
    """The least deviance at each value of one dimension, whatever the others."""
    return {float(there): float(values[dimension == there].min()) for there in np.unique(dimension)}


def plausible(profiled: Mapping, within: float = PLAUSIBLE) -> list:
    """Values of a dimension that the best does not beat by more than `within`."""
    least = min(profiled.values())
    return [value for value, deviance in profiled.items() if deviance <= least + within]


def away(
    both: Pair, paper: Mapping[str, Curve], curve: str = "test_accuracy"
) -> tuple[Array, dict[str, Array]]:
    """Accuracy of a pair minus the paper's, in points, where the paper has its points.

    Steps (T,), and by network (seeds, T), NaN where the paper draws none.
    """
    steps, _ = records.stack(both.with_bn + both.without_bn, curve)
    steps = steps[(steps > 0) & (steps % APART == 0)]
    theirs = paper_accuracy(paper, steps).T
    found = {}
    for (net, runs), paper_curve in zip(both.runs.items(), theirs, strict=True):
        there, values = records.stack(runs, curve)
        found[net] = 100 * (values[:, np.isin(there, steps)] - paper_curve)
    return steps, found


def at_the_end(one: Grid, paper: Mapping[str, Curve]) -> Array:
    """Mean distance from the paper's accuracy from ``LATE`` on, in points. Shape: (2, S)."""
    return np.nanmean(residuals(one, paper)[points(one) >= LATE], axis=0)


class Survivor(NamedTuple):
    """A setting that was trained to the end, held against all of the figure. Shape: (seeds, ...)"""

    way: str  # as of its grid
    setting: Setting
    panels: Array  # deviance of each of ``PANELS``, (seeds, 4)
    end: Array  # ``at_the_end``, (seeds, 2)

    @property
    def sums(self) -> Array:
        """Deviance from the whole figure. Shape: (seeds,)."""
        return self.panels.sum(axis=1)


def survivors(ended: Mapping[str, Grid], paper: Mapping[str, Curve], both: Pair) -> list[Survivor]:
    """The settings of ``ends``, the least deviance first."""
    made = []
    for way, one in ended.items():
        panels = np.stack(list(deviance(one, paper, both).values()), axis=1)
        end, settings = at_the_end(one, paper).T, one.settings
        for setting in dict.fromkeys(settings):
            its = [other == setting for other in settings]
            made.append(Survivor(way, setting, panels[its], end[its]))
    return sorted(made, key=lambda survivor: survivor.sums.mean())


class Best(NamedTuple):
    """The setting of a grid against which the least speaks."""

    label: str  # of the grid
    setting: Setting
    panels: dict[str, float]  # its deviance, by the names of ``PANELS``

    @property
    def sum(self) -> float:
        """Deviance from the whole figure."""
        return sum(self.panels.values())


def best(found: Mapping[str, Grid], paper: Mapping[str, Curve], both: Pair) -> list[Best]:
    """The best setting of every grid, the least deviance first."""
    made = []
    for label, one in found.items():
        parts = deviance(one, paper, both)
        place = int(sum(parts.values()).argmin())
        panels = {panel: float(values[place]) for panel, values in parts.items()}
        made.append(Best(label, one.settings[place], panels))
    return sorted(made, key=lambda one: one.sum)


SETTING = ("rate", "σ", "biases")


def table(chosen: Sequence[Best]) -> str:
    """What ``best`` has chosen, as Markdown."""
    head = ("pixels", *SETTING, *PANELS, "sum")
    rows = [
        (
            one.label,
            *_told(one.setting),
            *(f"{value:.0f}" for value in (*one.panels.values(), one.sum)),
        )
        for one in chosen
    ]
    return as_table(head, rows, "l" + "r" * (len(head) - 1))


def table_of_survivors(lasting: Sequence[Survivor]) -> str:
    """Deviances and ends, mean ± standard deviation over seeds, as Markdown."""
    head = ("pixels", *SETTING, "deviance", "end, with BN", "end, without BN")
    rows = [
        (one.way, *_told(one.setting), show(one.sums, 0), *(show(end, 2) for end in one.end.T))
        for one in lasting
    ]
    return as_table(head, rows, "l" + "r" * (len(head) - 1))


def _told(setting: Setting) -> tuple[str, ...]:
    return tuple(f"{value:g}" for value in setting)
