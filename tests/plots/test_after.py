"""The figures of chapter 10: the data given, axes that say what they are, words that stay on the
figure.
"""

from types import SimpleNamespace

import numpy as np
import pytest
from drawn import fits_a_phone, follows_the_page
from matplotlib.colors import to_hex
from matplotlib.text import Text

from bnkit.plots import after, colours

RNG = np.random.default_rng(0)
SEEDS, SIZES = 3, (2, 4, 8, 16, 32)
BOTH = ("without BN", "with BN")


def accuracy(n: int) -> np.ndarray:
    return np.sort(RNG.random((n, SEEDS)), axis=0)


def path(rates: int) -> SimpleNamespace:
    values = {
        name: np.exp(RNG.normal(size=(9, rates, SEEDS)))
        for name in ("range", "change", "smoothness")
    }
    return SimpleNamespace(steps=np.array([0, 1, 2, 5, 10, 20, 50, 100, 200]), **values)


def run() -> tuple:
    shape = (SEEDS, 8, 5)
    return (
        np.arange(8) ** 3,
        np.exp(RNG.normal(9, 1, shape[:2])),
        RNG.uniform(-1, 1, shape),
        RNG.uniform(0.1, 2, shape),
    )


COURSE = SimpleNamespace(norm=np.exp(RNG.normal(size=(200, 4, SEEDS)).cumsum(0) / 10))
PREDICTED = (0.24, 0.14, 0.14, 0.0)
TESTED = {
    name: SimpleNamespace(population=accuracy(4), batch=accuracy(4))
    for name in ("BN", "Batch Renormalization")
}
KINDS = ("chain", "chain, BN", "residual", "residual, BN", "residual, SkipInit", "residual, Fixup")
USABLE = {"deep": dict(zip(after.PARTS, (0, 1, 2, 3, 7), strict=True))}
GAINS = {
    "over none": {"rate": {"off": np.array([70.0, 80, 90]), "right": np.zeros(SEEDS)}},
    "over others": {"batch": {"off": np.full(SEEDS, -50.0)}},
}
FIGURES = {
    "noise": lambda: after.noise(
        (0, 1, 2, 4, 8), {t: {n: accuracy(5) for n in BOTH} for t in ("ReLU", "sigmoid")}
    ),
    "linear": lambda: after.linear({name: run() for name in BOTH}),
    "paths": lambda: after.paths((0.03, 0.3), {name: path(2) for name in BOTH}),
    "rates": lambda: after.rates((0.01, 0.1, 1.0), {name: accuracy(3) for name in BOTH}),
    "parts": lambda: after.parts(
        (0.01, 0.1, 1.0), {t: {n: accuracy(3) for n in after.PARTS} for t in ("He", "a tenth")}
    ),
    "signal": lambda: after.signal(*[{n: accuracy(9) + 1 for n in after.PARTS}] * 2),
    "shared": lambda: after.shared(
        {name: RNG.random((4, 6)) < 0.5 for name in "abcd"}, np.eye(4, 6) == 1
    ),
    "ghosts": lambda: after.ghosts(SIZES, accuracy(6)),
    "depths": lambda: after.depths((6, 18, 50), {name: accuracy(3) for name in KINDS}),
    "decay": lambda: after.decay(COURSE, list("abcd"), PREDICTED, np.full((4, SEEDS), 0.2)),
    "small batches": lambda: after.small_batches(
        SIZES, {n: accuracy(5) for n in after.NORMS}, accuracy(5)
    ),
    "populations": lambda: after.populations(
        {f"learning rate {r}": {n: ((1, 10, 100), accuracy(3).T) for n in "abcd"} for r in (0.1, 1)}
    ),
    "few classes": lambda: after.few_classes((1, 2, 5, 10), TESTED),
    "advantage": lambda: after.advantage(
        {t: {f"{t}, {k}": tuple(accuracy(2)) for k in "ab"} for t in ("well", "off")}
    ),
    "reasons": lambda: after.reasons(USABLE, GAINS),
    "features": lambda: after.features(
        (12, 24, 48), {n: SimpleNamespace(accuracy=accuracy(3)) for n in "abcd"}
    ),
}


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
def test_a_figure_says_what_its_axes_are_and_keeps_its_words(draw):
    drawing = draw()
    drawing.draw_without_rendering()
    for axes in drawing.axes:
        place = axes.get_subplotspec()
        assert axes.get_title(loc="left") or not place.is_first_row()
        assert axes.get_xlabel() or not place.is_last_row()
        # each line by its own name
        named = all(label.get_text()[:1].isalpha() for label in axes.get_yticklabels())
        assert axes.get_ylabel() or named or not place.is_first_col()
    axes_of = [axis for axes in drawing.axes for axis in (axes.xaxis, axes.yaxis)]
    ticks = {text for axis in axes_of for text in axis.get_ticklabels(which="both")}
    for text in drawing.findobj(Text):
        if text.get_text() and text.get_visible() and text not in ticks:
            box = text.get_window_extent()
            assert box.x0 >= 0, text
            assert box.y0 >= 0, text
            assert box.x1 <= drawing.bbox.width, text
            assert box.y1 <= drawing.bbox.height, text


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
def test_a_figure_follows_the_page_and_fits_a_phone(draw):
    follows_the_page(draw)
    fits_a_phone(draw)


def lines(axes, colour: str) -> list:
    return [line for line in axes.get_lines() if to_hex(line.get_color()) == to_hex(colour)]


def test_lines_are_means_over_seeds_in_the_colour_of_their_meaning():
    given = {name: accuracy(3) for name in BOTH}
    axes = after.rates((0.01, 0.1, 1.0), given).axes[0]
    for name, colour in zip(BOTH, (colours.WITHOUT_BN, colours.WITH_BN), strict=True):
        (line,) = lines(axes, colour)
        assert np.allclose(line.get_ydata(), given[name].mean(1))


def test_chains_and_residual_networks_have_panels_of_their_own():
    given = {name: np.full((3, SEEDS), k / 10) for k, name in enumerate(KINDS)}
    left, right = after.depths((6, 18, 50), given).axes
    drawn = [
        [line.get_ydata()[0] for line in axes.get_lines() if len(line.get_xdata()) == 3]
        for axes in (left, right)
    ]
    assert np.allclose(drawn[0], [0.0, 0.1])
    assert np.allclose(drawn[1], [0.2, 0.3, 0.4, 0.5])


def test_a_setting_without_decay_has_no_place_on_the_right():
    _, right = after.decay(COURSE, list("abcd"), PREDICTED, np.full((4, SEEDS), 0.2)).axes
    rings = [line for line in right.get_lines() if line.get_marker() == "o"]
    assert [line.get_xdata()[0] for line in rings] == [0.24, 0.14, 0.14]


def test_what_is_off_is_full_and_what_is_right_is_hollow():
    above, below = after.reasons(USABLE, GAINS).axes
    assert [bar.get_width() for bar in above.patches] == [0, 1, 2, 3, 7]
    marks = [
        line for line in below.get_lines() if line.get_marker() == "D" and len(line.get_xdata())
    ]
    places = [(line.get_xdata()[0], line.get_ydata()[0]) for line in marks]
    assert places == [(80, 1), (0, 1), (-50, 3)]
    full = [line.get_markerfacecolor() == colours.WITH_BN for line in marks]
    assert full == [True, False, True]
