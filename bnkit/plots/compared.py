"""Figures of runs side by side: their curves laid over each other, their results along an axis."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes

from bnkit.page.quantities import Curve, Result
from bnkit.plots import DOTS, WIDTH, Drawing, band, figure, styled
from bnkit.plots.colours import SERIES
from bnkit.plots.labels import legend_below
from bnkit.plots.scales import NUMBER, ticks

MOST = 12  # panels of a figure
WIDE = 30  # a range from which on an axis is logarithmic


@styled
def curves(by_name: Mapping[str, Mapping[str, Curve]]) -> Drawing:
    """A panel for each curve, in it one line for each run: mean over seeds, and their range."""
    shown = dict(list(by_name.items())[:MOST])
    drawing, panels = figure(len(shown), width=WIDTH, height=0.6 + 2.6 * len(shown), squeeze=False)
    runs = list(dict.fromkeys(label for of_runs in shown.values() for label in of_runs))
    for axes, (name, of_runs) in zip(panels[:, 0], shown.items(), strict=True):
        logarithmic = wide([curve.x[-1] for curve in of_runs.values()])
        for label, curve in of_runs.items():
            x, values = np.array(curve.x), np.array(curve.values)
            there = x > 0 if logarithmic else np.full(len(x), True)
            colour = SERIES[runs.index(label) % len(SERIES)]
            band(axes, x[there], values[:, there], colour, label=label)
        one = next(iter(of_runs.values()))
        axes.set(title=name, xlabel=one.along, ylabel=one.unit)
        if logarithmic or wide(one.x):
            axes.set_xscale("log")
        axes.xaxis.set_major_formatter(NUMBER)
    _legend(drawing, panels[:, 0], runs)
    return drawing


@styled
def along(
    axis: str,
    values: Sequence[object],
    results: Mapping[str, Mapping[str, Sequence[Result | None]]],
) -> Drawing:
    """Results along a parameter: a panel for each, in it a line for each setting of the others.

    ``results[name][setting]`` has one for each of `values`, None where a point failed. Bars are
    standard deviations over seeds.
    """
    shown = dict(list(results.items())[:MOST])
    rows = -(-len(shown) // 2)
    columns = min(2, len(shown))
    size = {"width": WIDTH, "height": 0.8 + 2.1 * rows}
    drawing, panels = figure(rows, columns, **size, squeeze=False)
    numeric = all(type(value) in (int, float) for value in values)
    places = list(values) if numeric else list(range(len(values)))
    settings = list(next(iter(shown.values())))
    for axes, (name, by_setting) in zip(panels.flat, shown.items(), strict=False):
        for colour, (setting, points) in zip(_colours(settings), by_setting.items(), strict=True):
            _points(axes, places, points, colour, setting)
        known = [p for points in by_setting.values() for p in points if p]
        unit = f" ({known[0].unit})" if known and known[0].unit else ""
        title = re.sub(r"\bbn\b", "BN", name.replace("_", " "))
        axes.set(title=f"{title}{unit}", xlabel=axis.replace("_", " "))
        _scale(axes, places, None if numeric else list(map(str, values)))
    for axes in list(panels.flat)[len(shown) :]:
        axes.set_visible(False)
    if settings != [""]:
        _legend(drawing, list(panels.flat)[: len(shown)], settings)
    return drawing


def wide(places: Sequence[float]) -> bool:
    """Whether these want a logarithmic axis."""
    return min(places) > 0 and max(places) / min(places) >= WIDE


def _points(axes: Axes, places: Sequence[float], points: Sequence, colour: str, label: str) -> None:
    kept = [(x, p) for x, p in zip(places, points, strict=True) if p and p.mean is not None]
    if kept:
        x, there = zip(*kept, strict=True)
        means, bars = [p.mean for p in there], [p.spread or 0 for p in there]
        axes.errorbar(x, means, bars, color=colour, label=label, capsize=3, **DOTS)


def _scale(axes: Axes, places: Sequence[float], names: list[str] | None) -> None:
    if names:
        axes.set_xticks(places, names)
    elif wide(places) or _even(places):
        axes.set_xscale("log")
        ticks(axes.xaxis, places)
    else:
        axes.xaxis.set_major_locator(ticker.MaxNLocator(5))
        axes.xaxis.set_major_formatter(NUMBER)


def _even(places: Sequence[float]) -> bool:
    """Whether three or more stand in nearly equal ratios, as 0.1, 0.3, 1 do."""
    if len(places) < 3 or min(places) <= 0:
        return False
    apart = np.diff(np.log(sorted(places)))
    return apart.min() > 0.5 * apart.max()


def _colours(settings: Sequence[str]) -> list[str]:
    return [SERIES[number % len(SERIES)] for number in range(len(settings))]


def _legend(drawing: Drawing, panels: Sequence[Axes], labels: Sequence[str]) -> None:
    fullest = max(panels, key=lambda axes: len(axes.get_legend_handles_labels()[1]))
    longest = max(map(len, labels))
    legend_below(drawing, fullest, 1 if longest > 30 else 2)
