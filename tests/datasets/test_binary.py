"""Five ways from grey to binary: what is 1, how often, and the same again when asked again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seeds import Fixed

from bnkit.datasets.binary import DRAWN, POPULATION, TEST, TRAINING, WAYS, Pixels

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 4, 4)  # every grey value once


def given_to_a_network(way: str, seed: int = 0, moment: int = 0, use: int = TRAINING):
    pixels = Pixels(way, 255, seed)
    return pixels.used(pixels.kept(RAMP, use), moment, use)


@pytest.mark.parametrize("way", WAYS)
def test_a_network_is_given_rows_of_numbers_from_nought_to_one(way):
    rows = given_to_a_network(way)
    assert rows.shape == (16, 16)
    assert rows.dtype == np.float32
    assert rows.min() == 0.0  # black stays black
    assert rows.max() == rows[-1, -1] == 1.0  # and white white
    if way != "grey":
        assert set(np.unique(rows)) == {0.0, 1.0}


def test_what_does_not_depend_on_chance():
    assert given_to_a_network("threshold").sum() == 128  # 128 to 255: above half of white
    assert given_to_a_network("ink").sum() == 255
    grey = given_to_a_network("grey")
    np.testing.assert_array_equal(grey.ravel(), (np.arange(256) / 255).astype(np.float32))


@pytest.mark.parametrize(
    ("white", "levels", "bits"),
    [(255, [0, 127, 128, 255], [0, 0, 1, 1]), (16, [7, 8, 9, 16], [0, 0, 1, 1])],
)
def test_the_threshold_is_above_half_of_white(white, levels, bits):
    images = np.array(levels, np.uint8).reshape(2, 1, 2)
    rows = Pixels("threshold", white).kept(images, TRAINING)
    assert rows.dtype == np.uint8
    assert rows.tolist() == [bits[:2], bits[2:]]


@pytest.mark.parametrize("white", [255, 16])
@pytest.mark.parametrize("way", DRAWN)
def test_a_pixel_is_one_with_the_probability_of_its_grey_value(way, white):
    """Four standard deviations of a count of 4,000 draws, for each grey value."""
    levels = np.linspace(0, white, 9).astype(np.uint8)
    grey = np.repeat(levels, 4000).reshape(9, 40, 100)
    pixels = Pixels(way, white, 3)
    drawn = pixels.used(pixels.kept(grey, TRAINING), 5, TRAINING).mean(1)
    p = levels / white
    assert (np.abs(drawn - p) <= 4 * np.sqrt(p * (1 - p) / 4000)).all()


@pytest.mark.parametrize("way", WAYS)
@given(seed=st.integers(0, 2**40), moment=st.integers(0, 10**6))
def test_the_same_place_and_moment_give_the_same_pixels(way, seed, moment):
    first = given_to_a_network(way, seed, moment)
    assert np.array_equal(first, given_to_a_network(way, seed, moment))


def test_what_is_drawn_depends_on_seed_moment_and_use_and_on_nothing_more_often():
    middle = np.full((60, 28, 28), 128, np.uint8)

    def look(way, **change):
        where = {"seed": 0, "moment": 3, "use": TRAINING} | change
        pixels = Pixels(way, 255, where["seed"])
        return pixels.used(pixels.kept(middle, where["use"]), where["moment"], where["use"])

    for way in DRAWN:
        for change in ({"seed": 1}, {"use": POPULATION}, {"use": TEST}):
            agree = (look(way) == look(way, **change)).mean()
            assert agree == pytest.approx(0.5, abs=0.02)  # 47,040 coins: 4 deviations are 0.01
    assert np.array_equal(look("once"), look("once", moment=4))
    assert (look("drawn") == look("drawn", moment=4)).mean() == pytest.approx(0.5, abs=0.02)


def test_no_draw_shares_its_numbers_with_the_order_of_the_examples():
    order = np.random.default_rng([Fixed(0), 7]).bytes(64)  # as datasets.batches seeds epoch 7
    for use in (TRAINING, POPULATION, TEST):
        assert np.random.SFC64([0, 7, use]).random_raw(8).tobytes() != order
        assert np.random.default_rng([Fixed(0), 7, use]).bytes(64) != order


def test_an_unknown_way_is_named():
    with pytest.raises(KeyError, match="no way 'sepia'"):
        Pixels("sepia", 255).kept(RAMP, TRAINING)
