"""The search reads its own records: distances by hand, profiles, and figures that hold them."""

from collections import Counter
from itertools import product

import numpy as np
import pytest
from drawn import fits_a_phone, follows_the_page
from matplotlib.colors import to_hex

from bnkit.datasets.binary import WAYS
from bnkit.plots import colours
from bnkit.plots import search as figures
from bnkit.runs import experiments
from bnkit.runs.records import Record
from bnkit.studies import search as study
from bnkit.studies.mnist import RATES as RATES_OF_THE_BOOK
from bnkit.studies.mnist import Pair, by_rate
from bnkit.studies.recorded import digitized

STEPS = [250, 4000, 8000, 12_000]
RATES, SIGMAS = [0.1, 0.1, 0.2, 0.2], [0.05, 0.1, 0.05, 0.1]
# straight lines, so that every value is seen at a glance
PAPER = {
    "figure1a/with_bn": (np.array([4000.0, 12_000]), np.array([0.90, 0.98])),
    "figure1a/without_bn": (np.array([4000.0, 8000]), np.array([0.70, 0.90])),  # ends before
} | {
    f"figure1{panel}/p{percent}": (np.array([250.0, 12_000]), np.array([value, value]))
    for panel, low in (("b/without_bn", -2.0), ("c/with_bn", -1.0))
    for percent, value in ((15, low), (50, 0.5), (85, -low))
}


def unit(median: float, spread: float) -> list:
    """The four numbers of a unit, each with its percentiles over units: ± 0.5 about it."""
    numbers = [median - spread / 2, median, median + spread / 2, spread]
    return [[number - 0.5, number, number + 0.5] for number in numbers]


def record(more_accurate: float = 0.0, moved: float = 0.0, momentum: float = 0.0) -> Record:
    """A grid that is the paper's, but the last setting, whose curves are farther up."""
    with_bn = np.interp(STEPS, *PAPER["figure1a/with_bn"])
    without_bn = np.interp(STEPS, *PAPER["figure1a/without_bn"])
    accuracy = np.stack([with_bn, without_bn], 1)[..., None].repeat(4, -1)
    accuracy[..., 3] += more_accurate
    inputs = [[[unit(0.5, spread)] * 3 + [unit(0.5 + moved, spread)] for spread in (2, 4)]] * 4
    recipe = {
        "learning_rates": [rate * (1 - momentum) for rate in RATES], "init_sigmas": SIGMAS,
        "momentum": momentum, "pixels": "drawn",
    }  # fmt: skip
    curves = {
        "test_accuracy": {"steps": STEPS, "values": accuracy},
        "inputs": {"steps": STEPS, "values": inputs},
    }
    return Record("mnist", "figure-1-drawn", 0, recipe, {}, curves)


def run(accuracy: float, seed: int) -> Record:
    values = {"steps": STEPS, "values": [accuracy] * 4}
    return Record("mnist", "with-bn", seed, {}, {}, {"test_accuracy": values})


# of two seeds a hundredth apart the deviation is 0.01 / √2, that of their difference 0.01
PAIR = Pair({net: [run(0.90, 0), run(0.91, 1)] for net in ("with BN", "without BN")})
DIFFERENCE = np.sqrt(0.01**2 + study.READ_OFF**2)


def test_momentum_is_counted_into_the_rate_and_into_the_name():
    plain, moving = study.grid(record()), study.grid(record(momentum=0.9))
    np.testing.assert_allclose(moving.rates, plain.rates)
    assert (plain.label, moving.label) == ("drawn", "drawn, momentum 0.9")


def test_what_is_the_papers_own_curve_has_nothing_against_it():
    one = study.grid(record())
    assert study.points(one).tolist() == [4000, 8000, 12_000]  # 250 is not one of (a)
    found = study.deviance(one, PAPER, PAIR)
    assert tuple(found) == study.PANELS
    for values in found.values():
        np.testing.assert_allclose(values, 0, atol=1e-20)


def test_distances_by_hand():
    one = study.grid(record(more_accurate=0.02, moved=1.0))
    away = study.residuals(one, PAPER)
    np.testing.assert_allclose(away[:, 0, 3], 2)
    # the paper's other curve is not drawn at 12,000
    np.testing.assert_allclose(away[:, 1, 3], [2, 2, np.nan], equal_nan=True)
    found = study.deviance(one, PAPER, PAIR)
    assert found["(a) with BN"][3] == pytest.approx(3 * (0.02 / DIFFERENCE) ** 2)
    assert found["(a) without BN"][3] == pytest.approx(2 * (0.02 / DIFFERENCE) ** 2)
    # the median is off by 1, two deviations of units; the spread is as it should
    expected = 1 / (0.5**2 + study.READ_OFF_INPUT**2)
    assert found["(b)"][3] == pytest.approx(expected)
    assert found["(c)"][3] == pytest.approx(expected)
    assert study.total(one, PAPER, PAIR).argmax() == 3


def test_two_equal_seeds_do_not_make_the_smallest_distance_infinite():
    pair = Pair({net: [run(0.9, 0), run(0.9, 1)] for net in ("with BN", "without BN")})
    least = np.sqrt(2 * study.FLOOR**2 + study.READ_OFF**2)
    np.testing.assert_allclose(study.noise(pair, [4000, 8000]), least)


def test_a_profile_is_the_least_over_the_other_dimension():
    values = np.array([5.0, 3, 9, 20])
    by_rate = study.profile(values, np.asarray(RATES))
    assert by_rate == {0.1: 3, 0.2: 9}
    assert study.profile(values, np.asarray(SIGMAS)) == {0.05: 5, 0.1: 3}
    assert study.plausible(by_rate) == [0.1]
    assert study.plausible(by_rate, within=6) == [0.1, 0.2]


def test_the_best_of_every_grid_stands_in_the_table_the_best_first():
    found = {"worse": study.grid(record(0.02)), "exact": study.grid(record())}
    found["worse"] = found["worse"]._replace(rates=np.array([9.0, 9, 9, 9]))
    spoilt = study.grid(record())
    values = np.asarray(spoilt.record.curves["test_accuracy"]["values"]) + 0.01
    spoilt.record.curves["test_accuracy"]["values"] = values.tolist()
    found["worse"] = spoilt
    first, second = study.best(found, PAPER, PAIR)
    assert (first.label, first.setting) == ("exact", (0.1, 0.05, 0))
    assert first.sum == pytest.approx(0, abs=1e-20)
    assert second.sum == pytest.approx(sum(second.panels.values()))
    lines = study.table([first, second]).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["exact", "worse"]


def test_a_pair_is_held_against_the_paper_where_it_has_points():
    steps, away = study.away(PAIR, PAPER)
    assert steps.tolist() == [4000, 8000, 12_000]
    np.testing.assert_allclose(away["with BN"][0], [0, -4, -8])
    np.testing.assert_allclose(away["without BN"][1], [21, 1, np.nan], equal_nan=True)


def test_the_end_is_the_mean_of_its_late_points(monkeypatch):
    monkeypatch.setattr(study, "LATE", 8000)
    made = study.at_the_end(study.grid(record(more_accurate=0.02)), PAPER)
    np.testing.assert_allclose(made, [[0, 0, 0, 2]] * 2, atol=1e-12)


def test_equal_settings_are_one_survivor_whose_runs_differ_in_the_seed(monkeypatch):
    monkeypatch.setattr(study, "LATE", 8000)
    made = record(more_accurate=0.02)
    made.recipe["learning_rates"], made.recipe["init_sigmas"] = [0.2, 0.1, 0.1, 0.2], [0.05] * 4
    ended = study.grid(made)
    first, second = study.survivors({"drawn": ended}, PAPER, PAIR)
    assert (first.way, first.setting) == ("drawn", (0.1, 0.05, 0))
    np.testing.assert_allclose(first.sums, [0, 0], atol=1e-20)
    assert second.setting == (0.2, 0.05, 0)
    assert second.sums[0] == pytest.approx(0, abs=1e-20)
    assert second.sums[1] == pytest.approx(study.total(ended, PAPER, PAIR)[3])
    np.testing.assert_allclose(second.end, [[0, 0], [2, 2]], atol=1e-12)


def test_biases_make_another_setting_and_another_name():
    made = record()
    made.recipe["bias_sigmas"] = [0.0, 1.0, 1.0, 0.0]
    one = study.grid(made)
    assert one.label == "drawn, biases"
    assert one.settings[1] == (0.1, 0.1, 1.0)
    assert study.grid(record()).settings[1] == (0.1, 0.1, 0)


def test_the_experiments_of_the_search_vary_what_the_paper_leaves_open():
    names = [name for name in experiments.EXPERIMENTS if name.startswith(study.GRIDS)]
    ends = [name for name in names if name.startswith(study.ENDS)]
    recipes = {n: experiments.EXPERIMENTS[n].recipe for n in names}
    grids = [recipe for name, recipe in recipes.items() if name not in ends]
    biased = [recipe for recipe in grids if recipe.bias_sigmas]
    every_way = set(product(WAYS, (0.0, 0.9)))
    assert {(one.pixels, one.momentum) for one in grids if one not in biased} == every_way
    assert len(grids) == len(every_way) + len(biased) == 11
    for one in grids:
        if one not in biased:
            rates = np.asarray(one.learning_rates) / (1 - one.momentum)
            settings = zip(rates.round(6), one.init_sigmas, strict=True)
            assert set(settings) == set(product(experiments.RATES, experiments.SIGMAS))
    for name in ends:
        recipe = recipes[name]
        assert recipe.steps == 50_000
        repeated = Counter(setting[:3] for setting in recipe.settings())
        assert set(repeated.values()) == {5}
        assert set(recipe.seeds) == set(range(5))


def test_what_is_trained_to_the_end_is_what_its_grid_found():
    main = by_rate()[RATES_OF_THE_BOOK[0]]
    paper = digitized()
    grids, lasting = study.grids(), study.ends()
    for one in study.best(grids, paper, main):
        if one.label in lasting:
            assert one.setting in lasting[one.label].settings
    biased = grids["drawn, biases"]
    for size in np.unique(biased.biases):
        its = np.flatnonzero(biased.biases == size)
        least = its[study.total(biased, paper, main)[its].argmin()]
        assert biased.settings[least] in lasting["drawn"].settings


# The figures

PANELS = {"with BN": np.array([5.0, 50, 500, 5000]), "all": np.array([70.0, 7, 700, 20])}
LEFT = {net: np.array([[0.5, -1, np.nan], [1.5, 0, np.nan]]) for net in ("with BN", "without BN")}
OTHERS = {"round numbers": {net: np.array([9.0, 1, np.nan]) for net in LEFT}}
DRAWN = {
    "map": lambda: figures.map_of((np.array(RATES), np.array(SIGMAS)), PANELS),
    "left over": lambda: figures.left_over(np.array(STEPS[1:]), LEFT, OTHERS),
}


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_a_figure_follows_the_page_and_fits_a_phone(draw):
    follows_the_page(draw)
    fits_a_phone(draw)


def test_the_map_rings_the_least_of_each_panel():
    for axes, values in zip(DRAWN["map"]().axes, PANELS.values(), strict=True):
        ring = axes.collections[-1]
        assert to_hex(ring.get_edgecolor()[0]) == to_hex(colours.HIGHLIGHT)
        best = values.argmin()
        assert ring.get_offsets().tolist() == [[RATES[best], SIGMAS[best]]]
        dots = sum(len(dots.get_offsets()) for dots in axes.collections[:-1])
        assert dots == len(values)


def test_what_is_left_over_shows_the_mean_and_stays_where_the_paper_is():
    for axes, net in zip(DRAWN["left over"]().axes, LEFT, strict=True):
        band, other, paper = axes.get_lines()
        assert band.get_xdata().tolist() == STEPS[1:3]
        np.testing.assert_allclose(band.get_ydata(), [1.0, -0.5])
        assert other.get_ydata().tolist() == [9, 1]
        assert list(paper.get_ydata()) == [0, 0]
        assert axes.get_ylim()[1] < 9  # the control may leave the panel
        assert axes.get_title(loc="left") == net
