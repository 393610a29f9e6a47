"""The figures of the chapter on back-propagation. Orange is a gradient on its way back."""

from collections.abc import Iterable, Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from bnkit.plots import Array, ByName, Drawing, figure, styled
from bnkit.plots.colours import GROUND, HIGHLIGHT, INK, NEUTRAL, SERIES, THEORY
from bnkit.plots.labels import write
from bnkit.plots.narrow import Layout
from bnkit.plots.scales import logarithmic

FORWARD = SERIES[0]  # what is computed; HIGHLIGHT is its gradient
FLOOR = 1e-17  # zeros are drawn here, for a logarithmic axis has no place for them

# Per quantity: column and row, what it is, and its gradient, d for the derivative of the loss by it
BOXES = {
    "x": (0, 0.0, r"$x_i$", r"$dx_i = dc_i + \frac{1}{m}\,d\mu$"),
    "mean": (1, 0.65, r"$\mu = \frac{1}{m}\Sigma\,x_i$", r"$d\mu = -\Sigma\,dc_i$"),
    "centred": (0, 1.5, r"$c_i = x_i - \mu$", r"$dc_i = r\,d\hat{x}_i + 2c_i\,dq_i$"),
    "squared": (1, 2.0, r"$q_i = c_i^2$", r"$dq_i = \frac{1}{m}\,d\sigma^2$"),
    "var": (1, 3.0, r"$\sigma^2 = \frac{1}{m}\Sigma\,q_i$", r"$d\sigma^2 = ds\,/\,2s$"),
    "std": (1, 4.0, r"$s = (\sigma^2 + \epsilon)^{1/2}$", r"$ds = -dr\,/\,s^2$"),
    "inv_std": (1, 5.0, r"$r = 1\,/\,s$", r"$dr = \Sigma\,c_i\,d\hat{x}_i$"),
    "x_hat": (0, 5.5, r"$\hat{x}_i = c_i\,r$", r"$d\hat{x}_i = \gamma\,dz_i$"),
    "gamma": (1, 6.1, r"$\gamma$", r"$d\gamma = \Sigma\,\hat{x}_i\,dz_i$"),
    "scaled": (0, 6.6, r"$z_i = \gamma\,\hat{x}_i$", r"$dz_i = dy_i$"),
    "beta": (1, 7.2, r"$\beta$", r"$d\beta = \Sigma\,dy_i$"),
    "y": (0, 7.7, r"$y_i = z_i + \beta$", r"$dy_i$, from the loss"),
}
COLUMN, WIDTH, HEIGHT = 2.75, 2.1, 0.8  # distance of the columns, size of a box, in units of a row


@styled
def ways(parts: ByName) -> Drawing:
    """A panel per part of the input gradient, and their sum last: one bar per example, (m,) each."""
    drawing, panels = figure(1, len(parts), width=8.6, height=2.6, phone=Layout(2, 2, 4.4))
    reach = 1.3 * max(np.abs(values).max() for values in parts.values())
    for axes, (name, values) in zip(panels, parts.items(), strict=True):
        places = np.arange(1, len(values) + 1)
        axes.bar(places, values, color=HIGHLIGHT, width=0.6)
        axes.axhline(0, color=NEUTRAL, linewidth=0.8)
        for place, value in zip(places, values, strict=True):
            up = value >= 0
            words = f"{value:g}".replace("-", "−")
            where = {"ha": "center", "va": "bottom" if up else "top"}
            write(axes, words, (place, value), INK, (0, 3 if up else -3), **where)
        axes.set(title=name, xlabel="example", ylim=(-reach, reach), xticks=places, yticks=[])
    panels[0].set_ylabel("input gradient")
    return drawing


@styled
def graph(arrows: Iterable[tuple[str, str]]) -> Drawing:
    """The computational graph, top to bottom: a box per quantity of ``BOXES``, arrows both ways.

    An arrow (from, to) of `arrows` is the way back; its twin, the way forward, is drawn beside it.
    """
    drawing, axes = figure(width=5.0, height=8.4, phone=Layout(1, 1, 7.6))
    low, high = -WIDTH / 2 - 0.08, COLUMN + WIDTH / 2 + 0.08
    axes.set(xlim=(low, high), ylim=(8.2, -0.85), xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set_visible(False)
    for later, earlier in arrows:
        _pair(axes, earlier, later)
    for name, (column, row, forward, back) in BOXES.items():
        corner = (column * COLUMN - WIDTH / 2, row - HEIGHT / 2)
        look = {"boxstyle": "round,pad=0,rounding_size=0.08", "fc": GROUND, "ec": NEUTRAL}
        axes.add_patch(FancyBboxPatch(corner, WIDTH, HEIGHT, zorder=3, **look))
        where = {"x": column * COLUMN, "ha": "center", "va": "center", "zorder": 4}
        axes.text(y=row - 0.27, s=name, family="monospace", fontsize=9.5, color=THEORY, **where)
        axes.text(y=row - 0.02, s=forward, fontsize=11.5, color=FORWARD, **where)
        axes.text(y=row + 0.26, s=back, fontsize=11.5, color=HIGHLIGHT, **where)
    left, right = (low + high) / 2 - 0.1, (low + high) / 2 + 0.1
    axes.text(left, -0.65, "▼ forward: the quantity", color=FORWARD, ha="right", fontsize=10)
    axes.text(right, -0.65, "▲ back: its gradient", color=HIGHLIGHT, fontsize=10)
    return drawing


def _pair(axes: Axes, earlier: str, later: str) -> None:
    """Both arrows between two boxes: vertical within a column, else from side to side."""
    (column, row, *_), (other, below, *_) = BOXES[earlier], BOXES[later]
    if column == other:
        start, end = (column * COLUMN, row + HEIGHT / 2), (column * COLUMN, below - HEIGHT / 2)
        aside = np.array([0.07, 0])
    else:
        side, tilt = np.sign(other - column) * WIDTH / 2, np.sign(below - row) * HEIGHT / 4
        start, end = (column * COLUMN + side, row + tilt), (other * COLUMN - side, below - tilt)
        aside = np.array([0, -0.07])
    style = {"arrowstyle": "-|>", "mutation_scale": 10, "linewidth": 1.4, "zorder": 5}
    style |= {"shrinkA": 0, "shrinkB": 1}
    axes.add_patch(FancyArrowPatch(start - aside, end - aside, color=FORWARD, **style))
    axes.add_patch(FancyArrowPatch(end + aside, start + aside, color=HIGHLIGHT, **style))


@styled
def removed(panels: Mapping[str, tuple[Array, Array, Array]]) -> Drawing:
    """One panel per loss: upstream gradient over x̂, the line that is removed, and what is left.

    Each panel is (x_hat, g, line), all of shape (m,).
    """
    drawing, rows = figure(len(panels), 1, width=5.2, height=2.05 * len(panels), sharex=True)
    for axes, (name, (x_hat, g, line)) in zip(np.atleast_1d(rows), panels.items(), strict=True):
        order = np.argsort(x_hat)
        axes.plot(x_hat[order], line[order], color=THEORY, linestyle=":", linewidth=1.6)
        axes.vlines(x_hat, line, g, color=HIGHLIGHT, linewidth=3)
        axes.scatter(x_hat, g, color=INK, s=34, zorder=3)
        left = np.sum((g - line) ** 2) / np.sum(g**2)
        axes.set_title(f"{name}: {left:.0%} of |g|² is left")
        axes.set_ylabel("gradient g")
        axes.margins(0.08, 0.25)
        if np.ptp(g) < 1e-6:  # a constant needs a frame of its own
            axes.set_ylim(0, 2 * g.mean())
    np.atleast_1d(rows)[-1].set_xlabel("normalized input x̂")
    return drawing


@styled
def sizes(eps: Array, curves: ByName) -> Drawing:
    """Largest input gradient over ε for three losses: a sound one, one that rises, a zero one.

    Shapes: `eps` (k,), each curve (k,). Zeros are drawn at ``FLOOR``.
    """
    drawing, axes = figure(width=5.2, height=3.8)
    looks = [(FORWARD, FORWARD, (0, 8))]
    looks += [(HIGHLIGHT, HIGHLIGHT, (14, -4)), (NEUTRAL, THEORY, (0, 10))]
    for (name, values), (colour, of_text, offset) in zip(curves.items(), looks, strict=True):
        drawn = np.maximum(values, FLOOR)
        axes.plot(eps, drawn, color=colour)
        # beside the slope, above the level curves
        height = drawn[1] if colour == HIGHLIGHT else drawn.max()
        write(axes, name, (eps[1], height), of_text, offset)
    axes.axvline(1e-5, color=NEUTRAL, linewidth=0.8, linestyle="--")
    write(axes, "ε = 1e-5,\nthe usual value", (1e-5, 1e-10), THEORY, (5, 0))
    logarithmic(axes)
    axes.set(xlabel="ε", ylabel="largest |∂ℓ/∂x|", ylim=(FLOOR / 3, 300))
    return drawing
