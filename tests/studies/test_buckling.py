"""The column of chapter 2 against closed forms."""

import numpy as np
import pytest
from conftest import assert_close
from scipy.optimize import brentq

from bnkit.studies import buckling


@pytest.mark.parametrize("supports", [0, 1, 2, 3])
def test_evenly_spaced_supports(supports):
    """Sine half waves solve the differences exactly, with 4 N² sin²((n + 1) pi / 2N) in place of
    ((n + 1) pi)²."""
    column = buckling.buckle(buckling.evenly(supports), points=120)
    assert_close(
        column.load, 4 * 120**2 * np.sin((supports + 1) * np.pi / 240) ** 2, tolerance=1e-9
    )
    assert_close(
        np.abs(column.shape), np.abs(np.sin((supports + 1) * np.pi * column.height)), tolerance=1e-8
    )
    assert abs(column.load / buckling.critical(supports) - 1) < 2e-3


def test_the_error_falls_with_the_square_of_the_grid():
    errors = [abs(buckling.buckle(points=points).load / np.pi**2 - 1) for points in (30, 60, 120)]
    assert_close(np.array(errors[:2]) / errors[1:], [4.0, 4.0], tolerance=0.01)


def test_a_support_out_of_the_middle():
    """Two spans a and b = 1 − a turn by one angle at the support: (1 − ka cot ka) / a + (1 − kb cot
    kb) / b = 0."""

    def balance(k, a):
        return sum((1 - k * span / np.tan(k * span)) / span for span in (a, 1 - a))

    for a in (1 / 3, 1 / 4):
        pole = np.pi / (1 - a)
        k = brentq(balance, 1.001 * pole, 1.999 * pole, args=(a,))  # between two poles
        assert abs(buckling.buckle((a,), points=240).load / k**2 - 1) < 1e-3


def test_the_mode_is_held_where_it_is_supported():
    column = buckling.buckle((0.25, 0.5))
    assert column.shape[[0, 30, 60, 120]].tolist() == [0, 0, 0, 0]
    assert np.abs(column.shape).max() == 1


@pytest.mark.parametrize("supports", [(), (0.5,)])
def test_a_crooked_column_bends_as_the_closed_form_says(supports):
    column = buckling.buckle(supports)
    for share in (0.0, 0.3, 0.9):
        bent = buckling.bend(0.01 * column.shape, share * column.load, supports)
        assert_close(
            bent,
            0.01 * column.shape * buckling.amplification(share * column.load, column.load),
            tolerance=1e-8,
        )


@pytest.mark.parametrize("supports", [(0.501,), (0.0,), (1.0,), (0.5, -0.5)])
def test_supports_must_be_on_the_grid(supports):
    with pytest.raises(ValueError, match="multiples of 1/120"):
        buckling.buckle(supports)
