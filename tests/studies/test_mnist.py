"""What chapter 08 reads off records: the right runs, the right numbers, and never the one kind for
the other.
"""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import registered
from claim_cells import broken, handed_over
from synthetic_runs import UNITS, pair, run

from bnkit.claims import ledger
from bnkit.runs import experiments, records
from bnkit.runs.records import Record, RecordError, stack
from bnkit.studies import mnist as study
from bnkit.studies.recorded import digitized

PAIR = pair(2)
RECIPE = {**PAIR.with_bn[0].recipe, "dataset": "digits"}


def paired(with_bn: list[Record], without_bn: list[Record]) -> study.Pair:
    return study.Pair({"with BN": with_bn, "without BN": without_bn})


def flat(variant: str, seed: int, accuracies: dict[int, float], percentiles=None) -> Record:
    """A record with the numbers given and nothing else."""
    curves = {"test_accuracy": {"steps": list(accuracies), "values": list(accuracies.values())}}
    if percentiles:
        curves["quantiles"] = {"steps": list(accuracies), "values": percentiles}
    recipe = {"steps": max(accuracies), "dataset": "mnist", "learning_rate": 0.1}
    recipe |= {"batch_size": 60, "init_sigma": 0.1}
    return Record("mnist", variant, seed, recipe, {}, curves)


# Which runs


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """Three recorded pairs of the main recipe and one pair at another learning rate."""
    monkeypatch.setenv("BNKIT_RUNS", str(tmp_path))
    registered.take_for_the_book_s(monkeypatch)
    for net, norm in (("with-bn", "batch"), ("without-bn", None)):
        for seed in range(3):
            records.save(run(norm, seed, variant=net), tmp_path)
        records.save(run(norm, 0, variant=f"{net}-lr-2", learning_rate=2.0), tmp_path)
    return tmp_path


def refuse(recipe):
    raise AssertionError("nothing should be trained")


def make(recipes):
    return [
        run(recipe["norm"], recipe["seed"], last=300, dataset=recipe["dataset"], variant="run")
        for recipe in recipes
    ]


def test_recorded_runs_of_the_very_recipe_are_shown(recorded):
    shown = study.choose(RECIPE, "recorded", 3, refuse)
    for runs, net in zip(study.nets(shown), ("with-bn", "without-bn"), strict=True):
        assert [one.name for one in runs] == [f"mnist/{net}/seed-{seed}" for seed in range(3)]
    assert shown.full
    assert shown.title == "MNIST, recorded, 3 seeds"
    assert "recorded runs on MNIST" in shown.says
    assert "seeds 0 to 2" in shown.says
    assert "Abacus" in shown.says


def test_fewer_seeds_than_recorded_are_the_first_of_them(recorded):
    assert [one.seed for one in study.choose(RECIPE, "recorded", 2, refuse).without_bn] == [0, 1]
    assert study.choose(RECIPE, "recorded", 1, refuse).title == "MNIST, recorded, 1 seed"


def test_the_whole_length_is_that_of_the_experiment():
    assert experiments.experiment("mnist/with-bn").recipe.steps == study.WHOLE


def test_without_a_number_of_seeds_all_recorded_ones_are_shown(recorded):
    assert study.choose(RECIPE, "recorded", 0, refuse).seeds == 3
    assert study.choose({**RECIPE, "learning_rate": 2.0}, "recorded", 0, refuse).seeds == 1


def test_new_runs_of_no_given_length_are_short(recorded):
    asked = []

    def note(recipes):
        asked.extend(recipes)
        return make(recipes)

    shown = study.choose({**RECIPE, "steps": 0, "learning_rate": 0.3}, "recorded", 0, note)
    assert not shown.recorded
    assert shown.seeds == study.BRIEF["seeds"]
    assert {recipe["steps"] for recipe in asked} == {study.BRIEF["steps"]}


def test_a_level_that_is_never_reached_is_missing():
    runs = [flat("with-bn", 0, {0: 0.1, 100: 0.95}), flat("with-bn", 1, {0: 0.1, 100: 0.5})]
    assert study.reached(runs, 0.9) == [100, None]


def test_a_control_is_shown_for_its_own_recipe_and_is_not_the_main_pair(recorded):
    shown = study.choose({**RECIPE, "learning_rate": 2.0}, "recorded", 1, refuse)
    assert shown.with_bn[0].variant == "with-bn-lr-2"
    assert not shown.full


@pytest.mark.parametrize(
    ("changes", "source", "seeds", "why"),
    [
        ({}, "live", 2, 'with `source` set to "live"'),
        ({}, "recorded", 4, "there are only 3"),
        ({"steps": 300}, "recorded", 2, "there are none"),
        ({"batch_size": 61}, "recorded", 2, "there are none"),
        ({"learning_rate": 0.11}, "recorded", 2, "there are none"),
    ],
)
def test_anything_else_is_trained_on_the_data_set_asked_for_and_the_page_says_so(
    recorded, changes, source, seeds, why
):
    shown = study.choose({**RECIPE, **changes}, source, seeds, make)
    assert not shown.recorded
    assert not shown.full
    for runs, norm in zip(study.nets(shown), ("batch", None), strict=True):
        made = [(one.recipe["norm"], one.seed) for one in runs]
        assert made == [(norm, seed) for seed in range(seeds)]
    assert shown.title == f"digits, trained now, {seeds} seeds"
    assert "trained just now, on the data set `digits`" in shown.says
    assert why in shown.says


def test_a_run_that_diverged_is_named(recorded):
    def diverge(recipes):
        return [
            replace(made, experiment="live", manifest={**made.manifest, "diverged_at": ended})
            for made in make(recipes)
            for ended in [None if made.recipe["norm"] else 200]
        ]

    says = study.choose(RECIPE, "live", 2, diverge).says
    assert "Diverged, and ended there: live/without-bn/seed-0, live/without-bn/seed-1." in says


def test_a_damaged_record_stops_the_page_instead_of_being_passed_over(recorded):
    path = recorded / "mnist" / "with-bn" / "seed-1.json"
    path.write_text(path.read_text().replace("diverged_at", "diverged", 1))
    with pytest.raises(RecordError, match="seed-1"):
        study.choose(RECIPE, "recorded", 1, make)
    with pytest.raises(RecordError, match="seed-1"):
        study.pair()


def test_a_pair_holds_the_seeds_that_both_have(recorded):
    (recorded / "mnist" / "without-bn" / "seed-1.json").unlink()
    assert [[one.seed for one in runs] for runs in study.nets(study.pair())] == [[0, 2], [0, 2]]
    assert [one.seed for one in study.choose(RECIPE, "recorded", 2, refuse).with_bn] == [0, 2]


def test_no_record_at_all_is_an_error(recorded):
    with pytest.raises(RecordError, match="with-bn-lr-5"):
        study.pair("-lr-5")


# What is read off them

UP = flat(
    "with-bn",
    0,
    {0: 0.1, 100: 0.6, 200: 0.9},
    [[[-1, 0, 1], [-1, 0, 2]], [[-3, -1, 1], [0, 0, 0]], [[-2, 1, 3]] * 2],
)
DOWN = flat(
    "with-bn",
    1,
    {0: 0.2, 100: 0.5, 200: 0.8},
    [[[0, 0, 0], [0, 1, 2]], [[0, 0, 0]] * 2, [[0, 4, 9], [1, 2, 3]]],
)


def test_accuracy_and_gap_are_read_seed_by_seed():
    assert study.accuracy([UP, DOWN]).tolist() == [0.9, 0.8]
    assert study.accuracy([UP, DOWN], 100).tolist() == [0.6, 0.5]
    both = paired([UP, DOWN], [DOWN, UP])
    np.testing.assert_allclose(study.gap(both), [10, -10])
    np.testing.assert_allclose(study.gap(both, 100), [10, -10])


def test_a_step_without_evaluation_is_an_error_that_says_where_there_is_one():
    with pytest.raises(ValueError, match="not taken at step 150, but at 0, 100, 200"):
        study.accuracy([UP], 150)


def test_percentiles_of_every_unit_and_seed():
    assert study.spread([UP, DOWN]).tolist() == [[5, 5], [9, 2]]
    assert study.spread([UP, DOWN], 0).tolist() == [[2, 3], [0, 2]]
    assert study.middle([UP, DOWN], 0).tolist() == [[0, 0], [0, 1]]
    assert study.drift([UP, DOWN]).tolist() == [[1, 1], [4, 1]]
    assert study.wandering([UP, DOWN], 0, 200).tolist() == [[2, 1], [4, 2]]
    assert study.wandering([UP, DOWN], 0, 100).tolist() == [[1, 0], [0, 1]]
    assert study.typical(study.drift([UP, DOWN])) == 1


def test_first_reaching_and_lead_from():
    assert study.first_reaching([UP, DOWN], 0.6).tolist() == [100, 200]
    assert study.first_reaching([UP, DOWN], 0.95).tolist() == [np.inf, np.inf]
    assert study.lead_from([UP], [DOWN]) == 100
    assert study.lead_from([DOWN], [UP]) == np.inf
    assert study.lead_from([UP, UP], [DOWN]) == 100
    always = flat("with-bn", 2, {0: 0.3, 100: 0.9, 200: 0.95})
    assert study.lead_from([always], [UP]) == 0


def test_best_is_the_rate_of_the_highest_mean():
    pairs = {0.1: paired([UP], [DOWN]), 2.0: paired([DOWN], [UP])}
    rate, values = study.best(pairs, "with_bn")
    assert (rate, values.tolist()) == (0.1, [0.9])
    assert study.best(pairs, "without_bn")[0] == 2.0


def test_stack_keeps_the_steps_that_all_runs_have():
    short = flat("with-bn", 2, {0: 0.3, 200: 0.4})
    steps, values = stack([UP, short, DOWN], "test_accuracy")
    assert steps.tolist() == [0, 200]
    assert values.tolist() == [[0.1, 0.9], [0.3, 0.4], [0.2, 0.8]]
    steps, values = stack(PAIR.with_bn, "quantiles")
    assert values.shape == (2, len(steps), UNITS, 3)


def test_the_distance_to_the_papers_unit_is_that_of_the_typical_one():
    curves = {
        f"figure1c/with_bn/p{percent}": (np.array([100.0, 200]), np.array([0.0, 0]))
        for percent in (15, 50, 85)
    }
    away = study.beside_paper([UP], curves, "1c/with_bn")  # step 0 is not drawn
    assert away.tolist() == [[1.5, 0.5, 0.5], [2, 1, 3]]


# Words


def test_accuracies_are_said_in_percent():
    assert study.percent([UP, DOWN], 100) == "55.0 ± 7.1"


def test_figure_1_sets_paper_and_runs_side_by_side():
    lines = study.figure_1(paired(PAIR.with_bn, PAIR.without_bn), digitized()).splitlines()
    ends = map(study.accuracy, study.nets(PAIR))
    gap = 100 * np.mean([a - b for a, b in zip(*ends, strict=True)])
    (end,) = [line for line in lines if line.startswith("| gap at the end")]
    assert "| 0.9 |" in end  # README of the paper's numbers: about 0.9 points
    assert f"| {gap:.2f} ± 0.00 |" in end
    (start,) = [line for line in lines if "percentile at the start, with BN" in line]
    assert "| 2.30 | 2.00 ± 0.00 |" in start
    assert sum("after 10,000 steps" in line for line in lines) == 3


def test_tables_end_where_a_run_diverged():
    both = paired([run("batch", 0), run("batch", 1, last=4500)], PAIR.without_bn)
    assert (both.end, both.early) == (4000, 1000)
    rows = study.figure_1(both, digitized())
    assert "after 10,000" not in rows
    assert "first 4,000 steps" in study.movement(both)
    assert study.movement(both).splitlines()[-1].endswith("| – |")  # nothing was seen after that
    assert both.whole.startswith("After 4,000 steps, the last that all runs reached")
    assert paired(PAIR.with_bn, PAIR.without_bn).whole == "After all 50,000 steps"
    assert paired([run("batch", 0, last=0)], [run(None, 0)]).early == 0


def test_a_short_run_stands_beside_the_paper_at_its_own_last_step():
    drawn = digitized()
    for last in (300, 6000):
        short = pair(1, last=last)
        (row,) = [
            line
            for line in study.figure_1(paired(short.with_bn, short.without_bn), drawn).splitlines()
            if "at the end, with BN, %" in line
        ]
        theirs = {300: "–", 6000: f"{100 * np.interp(6000, *drawn['figure1a/with_bn']):.1f}"}[last]
        assert row.split("|")[2].strip() == theirs


def test_the_paper_is_not_compared_with_another_data_set():
    digits = pair(2, last=300, dataset="digits")
    lines = study.figure_1(paired(digits.with_bn, digits.without_bn), digitized()).splitlines()[2:]
    assert all("| – |" in line for line in lines)
    assert not any("after" in line for line in lines)


# The recorded runs of the book


@pytest.fixture(scope="module")
def book():
    return study.by_rate(), {rate: study.by_init(rate) for rate in (study.RATES[0], 2.0)}


def test_the_pairs_are_the_experiments_of_the_book(book):
    rates, inits = book
    pairs = [
        study.guess(),
        *rates.values(),
        *(both for by_sigma in inits.values() for both in by_sigma.values()),
    ]
    names = {f"mnist/{runs[0].variant}" for both in pairs for runs in study.nets(both)}
    assert names == {name for name in experiments.EXPERIMENTS if name.startswith("mnist/with")}
    for rate, both in rates.items():
        assert {one.recipe["learning_rate"] for runs in study.nets(both) for one in runs} == {rate}
    for rate, by_sigma in inits.items():
        for sigma, both in by_sigma.items():
            assert (both.recipe["learning_rate"], both.recipe["init_sigma"]) == (rate, sigma)


loaded = cache(records.load)  # a hundred files, wanted again and again
BEFORE = ("parameters", "setup", "choose", "load", "gamma-numbers")


def test_the_recorded_runs_bear_out_every_claim():
    note = handed_over("08-mnist", BEFORE)
    assert note.keys() == {c.id for c in ledger.read().values() if c.chapter == "08-mnist"}
    assert broken(note) == []


@pytest.mark.parametrize(
    ("net", "curve", "change", "claim"),
    [
        ("with-bn", "test_accuracy", lambda values: values - 0.02, "C36"),
        ("without-bn-lr-2", "test_accuracy", lambda values: values * 0.9, "C49"),
        ("without-bn", "test_accuracy", lambda values: values - 0.01, "C50"),
        ("with-bn", "gamma", lambda values: np.ones_like(values), "C52"),
    ],
)
def test_a_recorded_value_that_is_changed_breaks_a_claim(monkeypatch, net, curve, change, claim):
    def forged(experiment: str, variant: str, seed: int, *rest) -> Record:
        one = loaded(experiment, variant, seed, *rest)
        if variant != net:
            return one
        steps, values = one.curve(curve)
        spoilt = {"steps": list(steps), "values": change(np.asarray(values)).tolist()}
        return replace(one, curves=one.curves | {curve: spoilt})

    monkeypatch.setattr(records, "load", forged)
    note = handed_over("08-mnist", BEFORE, asserting=False)
    assert any(problem.startswith(f"{claim} (") for problem in broken(note))
    with pytest.raises(AssertionError):
        handed_over("08-mnist", BEFORE)


def test_other_pages_get_their_numbers_from_the_records():
    numbers = handed_over("08-mnist", (*BEFORE, "numbers-for-other-pages")).glued
    gap = numbers["final_with_bn"] - numbers["final_without_bn"]
    assert numbers["final_gap_points"] == pytest.approx(gap)
    runs = experiments.load_all("mnist/with-bn")
    final = np.mean([one.curve("test_accuracy")[1][-1] for one in runs])
    assert numbers["final_with_bn"] == pytest.approx(100 * final)
    gap = numbers["tuned_with_bn"] - numbers["tuned_without_bn"]
    assert numbers["tuned_gap_points"] == pytest.approx(gap)
    assert all(np.isfinite(value) for value in numbers.values())
    assert len(numbers) == 13
