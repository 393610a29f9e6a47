"""The table of changes: each value in its place, the moved one orange, the gaps seen through."""

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from bnkit.plots import tables
from bnkit.plots.colours import HIGHLIGHT, NEUTRAL, WITH_BN

MOVED, STILL, ORANGE = to_rgba(WITH_BN), to_rgba(NEUTRAL, 0.35), to_rgba(HIGHLIGHT)


def drawn(changed, value):
    axes = Figure().subplots()
    tables.changes(axes, changed, value, WITH_BN)
    return axes, np.asarray(axes.images[0].get_array())


def test_maps_stand_beside_each_other_with_a_gap():
    changed = np.zeros((2, 2, 2, 3), bool)
    changed[1, 0] = True
    axes, picture = drawn(changed, (1, 0, 1, 2))
    assert picture.shape == (2 * 3 - 1, 2 * 4 - 1, 4)
    assert not picture[2].any()
    assert not picture[:, 3].any()
    expected = np.full((2, 3, 4), MOVED)
    expected[1, 2] = ORANGE
    np.testing.assert_array_equal(picture[3:, :3], expected)
    for rows, columns in ((slice(0, 2), slice(0, 3)), (slice(3, 5), slice(4, 7))):
        np.testing.assert_array_equal(picture[rows, columns], np.full((2, 3, 4), STILL))
    assert (axes.get_xticks().tolist(), axes.get_yticks().tolist()) == ([1, 5], [0.5, 3.5])


@pytest.mark.parametrize("value", [(0, 0, 0, 0), (1, 1, 0, 0)])
def test_one_value_is_as_large_as_a_map_and_orange_all_over(value):
    _, picture = drawn(np.ones((2, 2, 1, 1), bool), value)
    size = 2 * (tables.SIDE + 1) - 1
    assert picture.shape == (size, size, 4)
    orange = (picture == ORANGE).all(2)
    assert orange.sum() == tables.SIDE**2
    assert orange[0, 0] == (value[0] == 0)
