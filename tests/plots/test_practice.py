"""The figures of chapter 11: the data given, on a wide page and on a phone."""

import numpy as np
import pytest
from drawn import fits_a_phone, follows_the_page
from matplotlib.colors import to_hex

from bnkit.plots import colours, practice
from bnkit.studies.practice import CAMERAS, METHODS, USES

RNG, SEEDS, SIZES = np.random.default_rng(0), 3, (2, 4, 8, 16)
IN_USE = {use: RNG.random(SEEDS) for use in USES}
TUNED = {camera: {name: RNG.random((SEEDS, 4)) for name in METHODS} for camera in CAMERAS}
FIGURES = {
    "uses": lambda: practice.uses(IN_USE),
    "fine_tuning": lambda: practice.fine_tuning(SIZES, TUNED),
}


@pytest.mark.parametrize("name", FIGURES)
def test_it_follows_the_page_and_fits_a_phone(name):
    follows_the_page(FIGURES[name])
    fits_a_phone(FIGURES[name])


def test_the_right_use_is_blue_and_no_other():
    (axes,) = practice.uses(IN_USE).axes
    means = [line for line in axes.lines if len(line.get_xdata()) == 1]
    assert [line.get_xdata()[0] for line in means] == [each.mean() for each in IN_USE.values()]
    blue = [to_hex(line.get_color()) == to_hex(colours.WITH_BN) for line in means]
    assert blue == [True, False, False, False, False]


def test_each_method_has_its_curve_and_the_spread_of_its_seeds():
    panels = practice.fine_tuning(SIZES, TUNED).axes
    for axes, methods in zip(panels, TUNED.values(), strict=True):
        for line, band, (name, values) in zip(
            axes.lines, axes.collections, methods.items(), strict=True
        ):
            assert line.get_label() == name
            assert np.array_equal(line.get_ydata(), values.mean(0))
            assert np.isclose(band.get_paths()[0].vertices[:, 1].max(), values.max())
