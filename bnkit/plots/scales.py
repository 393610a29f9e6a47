"""The scales of axes and what their ticks say: powers, numbers, shares."""

from collections.abc import Sequence

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.axis import Axis

NUMBER = ticker.FuncFormatter(lambda value, _: f"{value:,g}")  # with a comma for the thousands
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class Powers(ticker.Formatter):
    """Plain tick labels: 0.01 or 100 on an axis from 0.001 to 10,000 or less, else 10⁻² or 10²."""

    def __call__(self, value: float, pos: int | None = None) -> str:
        low, high = sorted(self.axis.get_view_interval())
        exponent = round(float(np.log10(value))) if value > 0 else 0
        plain = (low >= 1e-3 and high <= 1e4) or exponent in (0, 1)
        if plain or not np.isclose(value, 10.0**exponent, atol=0):
            return f"{value:g}"
        return "10" + str(exponent).translate(_RAISED)


class Decades(ticker.LogLocator):
    """At most seven ticks at powers of ten, one, two, five, ten, twenty or fifty decades apart."""

    def tick_values(self, vmin: float, vmax: float) -> np.ndarray:
        decades = abs(float(np.log10(vmax / vmin)))
        step = next(step for step in (1, 2, 5, 10, 20, 50) if decades / step < 7 or step == 50)
        self.set_params(base=10.0**step)
        return super().tick_values(vmin, vmax)


def powers(*axes: Axis) -> None:
    """Ticks of logarithmic axes at ``Decades`` only, labelled in the manner of ``Powers``.

    Without mathematical typesetting and a tick at 2, 3, ... 9 a figure takes half the time to draw.
    """
    for axis in axes:
        axis.set_major_locator(Decades())
        axis.set_major_formatter(Powers())
        axis.set_minor_locator(ticker.NullLocator())


def logarithmic(axes: Axes) -> None:
    """Both axes logarithmic, with ``powers``."""
    axes.set(xscale="log", yscale="log")
    powers(axes.xaxis, axes.yaxis)


def ticks(axis: Axis, places: Sequence[float]) -> None:
    """Ticks at `places` only, as plain numbers: a logarithmic axis over two octaves has none."""
    axis.set_major_locator(ticker.FixedLocator(list(places)))
    axis.set_minor_locator(ticker.NullLocator())
    axis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))


def numbers(axis: Axis, places: Sequence[float]) -> None:
    """Ticks at `places` only, with a comma for the thousands."""
    ticks(axis, places)
    axis.set_major_formatter(NUMBER)


def percent(axis: Axis) -> None:
    """Label the ticks of an axis of shares in percent."""
    axis.set_major_formatter(ticker.PercentFormatter(1))


def shares(axes: Axes, label: str = "") -> None:
    """A y axis from none to all, in percent."""
    axes.set(ylabel=label, ylim=(0, 1.02))
    percent(axes.yaxis)
