"""The layout for phones: the same data, panels below each other, labels that each of them needs."""

import pytest
from drawn import example

from bnkit import plots
from bnkit.plots import narrow


def test_panels_stand_below_each_other_and_each_says_what_it_shows():
    upper, lower = example().narrow().axes
    assert upper.get_position().y0 > lower.get_position().y0
    assert upper.get_ylabel() == lower.get_ylabel() == "height"
    assert upper.get_ylim() == lower.get_ylim(), "the scale is still shared"
    assert all(tick.label1.get_visible() for tick in lower.yaxis.get_major_ticks())


def test_a_long_title_is_broken():
    upper, _ = example().narrow().axes
    lines = upper.get_title(loc="left").split("\n")
    assert len(lines) > 1
    assert " ".join(lines) == example().axes[0].get_title(loc="left")


def test_drawing_for_a_phone_is_over_afterwards():
    assert example().narrow().get_figwidth() == narrow.WIDTH
    assert example().get_figwidth() == plots.figure()[0].get_figwidth() == 7.2


def test_a_figure_that_no_function_has_drawn_has_one_layout():
    drawing, _ = plots.figure()
    assert drawing.narrow() is None


@pytest.mark.parametrize(
    ("shape", "layout", "first_column"),
    [((2, 2), None, [0, 1]), ((1, 3), (2, 2), [0]), ((2, 3), (3, 2), [0, 1])],
)
def test_a_table_is_read_column_by_column(shape, layout, first_column):
    layout = layout and narrow.Layout(*layout)
    _, panels = narrow.subplots(plots.Drawing, shape, (3, 2), layout, squeeze=False)
    assert panels.shape == shape
    numbers = [axes.get_subplotspec().num1 for axes in panels[:, 0]]
    assert numbers == first_column


@pytest.mark.parametrize(("sharex", "sharey"), [("col", "row"), (True, False), (False, "all")])
def test_scales_are_shared_as_they_would_be_where_there_is_room(sharex, sharey):
    _, panels = narrow.subplots(plots.Drawing, (2, 2), (3, 2), None, sharex=sharex, sharey=sharey)
    panels[0, 0].set(xlim=(5, 6), ylim=(7, 8))
    same_x = [[axes.get_xlim() == (5, 6) for axes in row] for row in panels]
    same_y = [[axes.get_ylim() == (7, 8) for axes in row] for row in panels]
    wanted = {"col": [[True, False]] * 2, "row": [[True] * 2, [False] * 2], True: [[True] * 2] * 2}
    wanted |= {"all": [[True] * 2] * 2, False: [[True, False], [False] * 2]}
    assert (same_x, same_y) == (wanted[sharex], wanted[sharey])
