"""What chapter 09 reads off records and networks: the right runs, the right numbers, and never one
for the other.
"""

import json
import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import registered
import torch
from claim_cells import broken, handed_over
from conftest import assert_close
from hypothesis import given
from hypothesis import strategies as st
from synthetic_inception import RECIPE, RECIPES, X5, ensemble, networks, run
from torch import nn

from bnkit import paths
from bnkit.claims import ledger
from bnkit.networks import inception
from bnkit.runs import experiments, records
from bnkit.runs.records import Record, RecordError
from bnkit.studies import inception as study
from bnkit.studies.recorded import printed, show


def flat(variant: str, seed: int, accuracies: dict[int, float], **recipe) -> Record:
    """A record with the accuracies given and nothing else."""
    curve = {"steps": list(accuracies), "values": list(accuracies.values())}
    recipe = RECIPE | {"steps": max(accuracies), "seed": seed} | recipe
    manifest = {"diverged_at": None}
    return Record("inception", variant, seed, recipe, manifest, {"test_accuracy": curve})


# Which runs


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """A folder with three runs of each of the five networks, and what else the book records."""
    monkeypatch.setenv("BNKIT_RUNS", str(tmp_path))
    registered.take_for_the_book_s(monkeypatch)
    for net in RECIPES:
        for seed in range(3):
            records.save(run(net, seed), tmp_path)
    records.save(ensemble(), tmp_path)
    return tmp_path


def refuse(recipes):
    raise AssertionError("nothing should be trained")


def make(recipes):
    runs = (run("inception", speed=100, **recipe) for recipe in recipes)
    return [replace(one, experiment="live", variant="run") for one in runs]


def choose(source="recorded", steps=4000, seeds=3, train=refuse, live_seeds=1):
    return study.choose(RECIPES, source, "digits", steps, seeds, live_seeds, train)


def test_recorded_runs_of_the_very_recipes_are_shown(recorded):
    shown = choose()
    assert {net: [one.name for one in runs] for net, runs in shown.runs.items()} == {
        net: [f"inception/{net}/seed-{seed}" for seed in range(3)] for net in RECIPES
    }
    assert shown.full
    assert shown.title == "Imagenette, recorded, 3 seeds"
    assert "recorded runs on Imagenette" in shown.says
    assert "BN-x5 2,000" in shown.says
    assert "Abacus" in shown.says
    assert choose(seeds=1).title == "Imagenette, recorded, 1 seed"


@pytest.mark.parametrize(
    ("source", "steps", "seeds", "live_seeds", "why"),
    [
        ("live", 4000, 3, 2, 'with `source` set to "live"'),
        ("recorded", 4000, 4, 1, "there are only 3"),
        ("recorded", 200, 1, 1, "there are none"),
    ],
)
def test_anything_else_is_trained_on_the_data_set_asked_for_and_the_page_says_so(
    recorded, source, steps, seeds, live_seeds, why
):
    shown = choose(source, steps, seeds, make, live_seeds)
    assert not shown.recorded
    assert not shown.full
    made = {
        net: [(one.seed, one.recipe["steps"], one.recipe["dataset"]) for one in runs]
        for net, runs in shown.runs.items()
    }
    lengths = {"inception": steps, "bn-baseline": steps, "bn-x5": steps // 2}
    assert made == {
        net: [(seed, length, "digits") for seed in range(live_seeds)]
        for net, length in lengths.items()
    }
    assert {one.variant for one in shown.runs["bn-x5"]} == {"bn-x5"}
    assert shown.title.startswith("digits, trained now, ")
    assert "trained just now, on the data set `digits`" in shown.says
    assert why in shown.says


def test_a_run_that_diverged_is_named(recorded):
    def diverge(recipes):
        ends = ({"diverged_at": 7 if recipe["norm"] is None else None} for recipe in recipes)
        return [replace(one, manifest=end) for one, end in zip(make(recipes), ends, strict=True)]

    says = choose("live", 200, 1, diverge).says
    assert "Diverged, and ended there: live/inception/seed-0." in says


def test_a_damaged_record_stops_the_page_instead_of_being_passed_over(recorded):
    path = recorded / "inception" / "bn-x30" / "seed-1.json"
    path.write_text(path.read_text().replace("diverged_at", "diverged", 1))
    with pytest.raises(RecordError, match="seed-1"):
        choose(seeds=1)
    with pytest.raises(RecordError, match="seed-1"):
        study.family()


def test_networks_are_compared_for_the_seeds_that_all_have(recorded):
    (recorded / "inception" / "bn-x30" / "seed-1.json").unlink()
    assert {tuple(one.seed for one in runs) for runs in study.family().runs.values()} == {(0, 2)}
    assert {tuple(one.seed for one in runs) for runs in choose(seeds=2).runs.values()} == {(0, 2)}


def test_sweeps_and_single_changes_are_found_as_far_as_they_are_recorded(recorded):
    assert study.sweep("inception") == {}
    assert study.taken_back() == {}
    for rate in ("0.003", "0.1", "1e-05"):
        records.save(replace(run("inception"), variant=f"inception-lr-{rate}"), recorded)
    for name in ("light", "rate"):
        records.save(replace(run("bn-x5"), variant=f"bn-x5-but-{name}"), recorded)
    assert list(study.sweep("inception")) == [1e-05, 0.003, 0.1]
    assert study.sweep("bn-baseline") == {}
    assert list(study.taken_back()) == ["rate", "light"], "in the paper's order"


# What is read off them

UP = flat("bn-x5", 0, {0: 0.1, 100: 0.5, 200: 0.4, 300: 0.8})


def test_a_level_is_reached_along_the_straight_lines():
    steps, values = UP.curve("test_accuracy")
    reached = study.reach(steps, values, np.array([0.05, 0.1, 0.3, 0.5, 0.6, 0.8, 0.81]))
    assert reached.tolist() == pytest.approx([0, 0, 50, 100, 250, 300, np.inf])
    assert study.reach(steps, values, 0.5) == 100


@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=12),
    st.floats(0, 1),
)
def test_reach_is_the_first_time_on_the_curve(values, level):
    """Against the definition, on a fine grid: nothing before is as high, and the curve is there."""
    steps, values = 10 * np.arange(len(values)), np.array(values)
    reached = float(study.reach(steps, values, level))
    if math.isinf(reached):
        assert values.max() < level
    else:
        assert np.interp(reached, steps, values) >= level - 1e-9
        before = np.linspace(0, max(0, reached - 1e-6), 50)
        assert (np.interp(before, steps, values) <= level + 1e-6).all() or reached == 0


def test_steps_are_compared_seed_by_seed():
    slow = [
        flat("inception", 0, {0: 0.1, 400: 0.5}),
        flat("inception", 1, {0: 0.1, 200: 0.3, 400: 0.25}),
    ]
    fast = [flat("bn-baseline", 0, {0: 0.1, 100: 0.5}), flat("bn-baseline", 1, {0: 0.1, 100: 0.2})]
    shown = study.Family({"inception": slow, "bn-baseline": fast})
    assert study.matching(shown, "inception").tolist() == [400, 200]
    assert study.matching(shown, "bn-baseline").tolist() == [100, np.inf]
    assert study.ratio(shown, "bn-baseline").tolist() == [4, 0]
    assert study.speedup(shown, "bn-baseline", np.array([0.6, 1.0])) == pytest.approx(
        np.array([[4, 4], [1, 0]]), rel=0.3
    )
    assert study.gain(shown, "bn-baseline", "inception") == pytest.approx([0, -10])
    row = study.figure_3(shown).splitlines()[3]
    assert row.endswith("| 100 (1 of 2) | 4.0 (1 of 2) | 35.0 ± 21.2 |")


def test_a_network_that_never_gets_there_says_so():
    shown = study.Family(
        {
            "inception": [flat("inception", 0, {0: 0.1, 9: 0.5})],
            "bn-x30": [flat("bn-x30", 0, {0: 0.1})],
        }
    )
    assert "| never | – | 10.0 |" in study.figure_3(shown)


def test_noise_is_pooled_over_networks():
    ends = {"inception": (0.5, 0.52), "bn-x5": (0.6, 0.66)}
    shown = study.Family(
        {
            net: [flat(net, seed, {0: 0.1, 9: end}) for seed, end in enumerate(of_net)]
            for net, of_net in ends.items()
        }
    )
    assert study.noise(shown) == pytest.approx(100 * math.sqrt((0.0002 + 0.0018) / 2))
    one = study.Family({net: runs[:1] for net, runs in shown.runs.items()})
    assert math.isnan(study.noise(one))


def test_what_a_change_is_worth_is_measured_over_the_steps_that_both_have():
    shown = study.Family(
        {
            "inception": [flat("inception", s, {0: 0.1, 400: 0.5 + 0.02 * s}) for s in range(2)],
            "bn-x5": [flat("bn-x5", s, {0: 0.1, 100: 0.6 + 0.02 * s, 200: 0.9}) for s in range(2)],
        }
    )
    change = study.worth(shown, [flat("bn-x5-but-rate", 0, {0: 0.1, 100: 0.5})])
    assert change.points == pytest.approx(11)  # 0.61 minus 0.5 at step 100, not 0.9 minus 0.5
    spread = 100 * math.sqrt((0 + 0.0002) / 2)  # Inception has learned nothing by then
    assert change.error == pytest.approx(spread * math.sqrt(1 / 2 + 1))
    assert change.clear
    assert change.reach.tolist() == [np.inf]


def test_usable_rates_are_those_at_which_every_run_learns():
    good, bad = run("inception"), flat("inception", 0, {0: 0.1, 100: 0.15})
    lost = run("inception", diverged_at=2000)
    assert study.learns(good)
    assert not study.learns(bad)
    assert not study.learns(lost)
    assert study.largest_usable({0.1: [good], 0.3: [good, bad], 1.0: [bad]}) == 0.1
    assert study.largest_usable({1.0: [lost]}) == 0
    table = study.rates({"inception": {0.1: [good], 1.0: [lost]}, "bn-baseline": {0.1: [good]}})
    assert "diverged at step 2,000" in table
    # 0.1 + 0.6 * 1000 / 2000
    assert study.after([good, lost], 1500).tolist() == pytest.approx([0.4, 0.4])
    assert study.common_step({"inception": {0.1: [good], 1.0: [lost, bad]}}) == 100
    assert table.splitlines()[-1].endswith("|  |  |")


def test_spreads_inside_are_compared_over_time_and_over_modules():
    runs = networks(2)["inception"]
    steps, spread = study.spreads(runs)
    assert spread.shape == (2, 5, 6)
    assert study.uneven(runs) == pytest.approx(2)
    assert study.stretch(runs) == pytest.approx(1 + steps[-1] / 1000)


# The networks themselves


def test_stages_are_counted_as_by_hand():
    with torch.device("meta"):
        net = inception.small_inception(norm=nn.BatchNorm2d)
    rows = {row.name: row for row in study.stages(net, 32)}
    weights, products = 24 * 27 + 48 + 48 * 216 + 96, 16 * 16 * 24 * 27 + 8 * 8 * 48 * 216
    assert rows["stem"][1:] == (48, 8, weights, products)
    assert (rows["3c"].maps, rows["3c"].height) == (176, 4)
    assert rows["softmax"][1:] == (10, 1, 1930, 1920)
    assert sum(row.parameters for row in rows.values()) == study.parameters(net)
    assert net.training, "left as it was"
    assert not net.stem._forward_hooks


def test_a_real_network_has_the_shapes_of_its_shadow():
    net = inception.small_inception()
    with torch.device("meta"):
        shadow = inception.small_inception()
    assert study.stages(net, 48) == study.stages(shadow, 48)


# Settings in words


def test_the_book_s_recipes_differ_as_the_paper_says():
    recipes = {
        net: experiments.experiment(f"inception/{net}").recipe.as_dict() for net in study.NETWORKS
    }
    assert study.differing(recipes["inception"], recipes["bn-baseline"]) == ["norm"]
    assert len(study.differing(recipes["bn-baseline"], recipes["bn-x5"])) == 7
    text = study.differences(recipes)
    assert "| batch normalization | no | **yes** |" in text
    assert "| initial learning rate | 0.01 | 0.01 | **0.05** | **0.3** | **0.05** |" in text
    assert len(study.changes(recipes["inception"], recipes["bn-x5"]).splitlines()) == 2 + 7
    for name, (field, _) in study.CHANGES.items():
        but = experiments.experiment(f"inception/bn-x5-but-{name}").recipe.as_dict()
        assert study.differing(recipes["bn-x5"], but) == [field]


def test_the_chapter_asks_for_the_recorded_number_of_steps_and_seeds():
    cells = json.loads((paths.root() / "chapters" / "09-inception.ipynb").read_text())["cells"]
    (source,) = ["".join(cell["source"]) for cell in cells if cell["id"] == "parameters"]
    book = experiments.experiment("inception/inception")
    assert "steps: int = 0 " in source  # those of the recorded runs, see below
    assert f"seeds: int = {book.seeds} " in source


def test_no_number_of_steps_is_that_of_the_recorded_runs_and_few_for_new_ones(recorded):
    assert choose(steps=0).full
    shown = choose("live", steps=0, train=make)
    lengths = {net: runs[0].recipe["steps"] for net, runs in shown.runs.items()}
    assert lengths == {"inception": 150, "bn-baseline": 150, "bn-x5": 75}


def test_scales_stand_side_by_side(recorded):
    for net in RECIPES:
        for seed in range(2):
            records.save(replace(run(net, seed, size=64), variant=f"{net}-64px"), recorded)
    large = study.family("64px")
    assert large.seeds == 2
    assert {one.recipe["size"] for runs in large.runs.values() for one in runs} == {64}
    text = study.scales({"small": study.family(), "large": large})
    head, _, first, _, third, *_ = text.splitlines()
    assert head.count("small") == head.count("large") == head.count("paper") == 2
    assert first.startswith("| Inception | 1.0 | 1.0")
    small, theirs = study.ratio(study.family(), "bn-x5"), 31.0 / 2.1
    assert third.startswith(
        f"| BN-x5 | {theirs:.1f} | {show(small)} | {show(study.ratio(large, 'bn-x5'))} |"
    )
    assert "| BN-x5-Sigmoid | never | " in text
    few = study.Family({net: study.family().runs[net] for net in study.LIVE})
    assert len(study.scales({"few": few, "large": large}).splitlines()) == 2 + len(study.LIVE)


def test_recipes_are_compared_with_and_without_bn_over_the_same_steps(recorded):
    short = {"bn-x5-but-bn": 0.30, "bn-x5-but-bn-and-rate": 0.35, "bn-x5-but-rate": 0.40}
    for name, accuracy in short.items():
        for seed in range(3):
            records.save(flat(name, seed, {0: 0.1, 1000: accuracy + 0.02 * seed}), recorded)
    shown = study.family()
    first, six, seven = study.by_recipe(shown).values()
    for accuracies, net in zip(first, ("inception", "bn-baseline"), strict=True):
        assert accuracies == pytest.approx(study.best(shown.runs[net], 1000))
    assert six[0] == pytest.approx([0.35, 0.37, 0.39])
    assert six[1] == pytest.approx([0.40, 0.42, 0.44])
    assert seven[0] == pytest.approx([0.30, 0.32, 0.34])
    assert seven[1] == pytest.approx(study.best(shown.runs["bn-x5"], 1000))


def test_what_a_step_costs_is_what_the_bench_recorded():
    assert study.pace().keys() >= {*study.LIVE, "a plain torch loop"}
    memory = study.bench("small Inception")["memory"]
    for way in ("ours", "a plain torch loop"):
        assert 10 < memory[way] - memory["built, not trained"] < 2000


# The paper


def test_the_paper_s_numbers_are_consistent_with_its_curves():
    rows, drawn = printed()["figure3"], study.figure_2()
    for net, (_, steps, highest) in ((net, rows[net]) for net in study.NETWORKS):
        assert 0 <= highest - 100 * drawn[net][1].max() < 0.25
        if steps and net != "inception":  # whose curve is nearly flat there
            assert study.reach(*drawn[net], 0.722 - 0.0005) == pytest.approx(1e6 * steps, rel=0.15)


def test_the_paper_s_speedup_is_that_of_its_curves():
    curves = {
        "inception": (np.array([0, 10.0]), np.array([0.4, 0.8])),
        "bn-x5": (np.array([0, 5.0]), np.array([0.4, 0.8])),
    }
    factors = study.paper_speedup(curves, "bn-x5", np.array([0.75, 1.0]))
    assert factors.tolist() == pytest.approx([2, 2])
    assert np.isnan(study.paper_speedup(curves, "bn-x5", np.array([0.4]))).all()


# Tables


def test_tables_hold_what_was_measured():
    shown = study.Family(networks(2))
    assert "774" in study.exposure(shown, 9_469)
    assert [row.split(" | ")[1:3] for row in study.clock(shown, PACE).splitlines()[2:]] == [
        ["100", "1.00"],
        ["200", "2.00"],
        ["50", "0.50"],
    ]
    table = study.ensemble_table(ensemble())
    assert "| here: 1 network | 1 | 1 | 40.0 | – |" in table
    assert "| paper: BN-Inception ensemble | 6 | 144 | 20.1 | 4.9 |" in table
    without = {"rate": [run("bn-x5", learning_rate=0.01, speed=200)]}
    assert "| learning rate raised | 0.05 → 0.01 |" in study.what_each_is_worth(shown, without)
    assert "| Inception | 2.00 to 4.00 |" in study.inside(shown.runs)


PACE = {"inception": 0.1, "bn-baseline": 0.2, "bn-x5": 0.05}


loaded = cache(records.load)  # wanted again and again
BEFORE = ("parameters", "setup", "choose", "load", "stages")
BEFORE += ("figure-worth", "figure-rates", "figure-sigmoid")


def test_the_cells_of_claims_measure_what_is_recorded(recorded):
    """Runs that never were, with differences known beforehand, in the place of the book's."""
    for name, (field, _) in study.CHANGES.items():
        one = run("bn-x5", **{field: RECIPE[field]})
        records.save(replace(one, variant=f"bn-x5-but-{name}"), recorded)
    for net, rate in (("inception", 0.1), ("bn-baseline", 3)):
        records.save(replace(run(net), variant=f"{net}-lr-{rate}"), recorded)
    records.save(flat("inception-sigmoid", 0, {0: 0.1, 100: 0.1}), recorded)
    for runs in study.family().runs.values():
        for one in runs:  # larger pictures change nothing here
            records.save(replace(one, variant=f"{one.variant}-64px"), recorded)
    before = [cell for cell in BEFORE if cell != "choose"]
    names = {"recipes": RECIPES, "shown": study.family()}
    note = handed_over("09-inception", before, asserting=False, **names)
    assert note.keys() == {f"C{number}" for number in range(54, 73)}
    assert note["C60"] == {"raised": 5, "without_bn": 0.1, "with_bn": 3}
    assert (note["C65"]["differ"], note["C66"]["differ"], note["C68"]["differ"]) == (1, 7, 1)
    assert note["C59"]["faster"] == RECIPE["decay_steps"] / X5["decay_steps"]
    assert note["C71"]["most"] >= note["C71"]["ratio"]
    assert all(np.isfinite(list(values.values())).all() for values in note.values())


# The recorded runs of the book


def test_the_recorded_runs_bear_out_the_chapter():
    main = study.family()
    assert main.full
    assert (study.ratio(main, "bn-baseline") > 2).all()
    assert (study.ratio(main, "bn-x5") > study.ratio(main, "bn-baseline")).all()
    numbers = handed_over("09-inception", (*BEFORE, "numbers-for-other-pages")).glued
    ends = [one.curve("test_accuracy")[1].max() for one in main.runs["inception"]]
    assert_close(numbers["best_inception"], 100 * np.mean(ends))
    assert numbers["ratio_bn_x5"] == study.ratio(main, "bn-x5").mean()
    assert all(np.isfinite(value) for value in numbers.values())
    assert len(numbers) == 7


def test_the_recorded_runs_bear_out_every_claim():
    note = handed_over("09-inception", BEFORE)
    assert note.keys() == {c.id for c in ledger.read().values() if c.chapter == "09-inception"}
    assert broken(note) == []


@pytest.mark.parametrize(
    ("net", "change", "claim"),
    [
        ("bn-baseline", lambda values: values * 0.93, "C55"),
        ("bn-x5-sigmoid", lambda values: values * 0.5, "C68"),
        ("bn-x30-64px", lambda values: values * 0.9, "C72"),
    ],
)
def test_a_recorded_value_that_is_changed_breaks_a_claim(monkeypatch, net, change, claim):
    def forged(experiment: str, variant: str, seed: int, *rest) -> Record:
        one = loaded(experiment, variant, seed, *rest)
        if variant != net:
            return one
        steps, values = one.curve("test_accuracy")
        curve = {"steps": list(map(int, steps)), "values": change(np.asarray(values)).tolist()}
        return replace(one, curves=one.curves | {"test_accuracy": curve})

    monkeypatch.setattr(records, "load", forged)
    note = handed_over("09-inception", BEFORE, asserting=False)
    assert any(problem.startswith(f"{claim} (") for problem in broken(note))
    with pytest.raises(AssertionError):
        handed_over("09-inception", BEFORE)
