"""Section 4.2 in numbers: which runs a page shows, and what is read off them.

Runs are told apart by variant, ``bn-x5``. Accuracies are shares of 1, differences points.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from bnkit import paths
from bnkit.page.prose import as_table
from bnkit.runs import experiments, records
from bnkit.runs.records import Record
from bnkit.studies import recorded
from bnkit.studies.recorded import Curve, Shown, diverged, printed, show, show_reached, signed

Array = np.ndarray
NETWORKS = {  # variant -> its name in Section 4.2.2
    "inception": "Inception",
    "bn-baseline": "BN-Baseline",
    "bn-x5": "BN-x5",
    "bn-x30": "BN-x30",
    "bn-x5-sigmoid": "BN-x5-Sigmoid",
}
BRIEF = 150  # steps of new runs for which none are asked: less than a minute
LIVE = ("inception", "bn-baseline", "bn-x5")  # enough to see the point, and quickly trained
CHANGES = {  # the seven of Section 4.2.1, in its order: name -> field of the recipe, what is done
    "rate": ("learning_rate", "learning rate raised"),
    "dropout": ("dropout", "Dropout removed"),
    "weight-decay": ("weight_decay", "weight decay reduced"),
    "decay": ("decay_steps", "learning rate lowered faster"),
    "lrn": ("lrn", "Local Response Normalization removed"),
    "shuffle": ("shuffle", "examples shuffled more thoroughly"),
    "light": ("light", "photometric distortions reduced"),
}
FIELDS = {  # of a recipe, in words
    "norm": "batch normalization",
    "activation": "nonlinearity",
    "learning_rate": "initial learning rate",
    "dropout": "Dropout",
    "weight_decay": "weight decay",
    "decay_steps": "rate falls by the factor e in … steps",
    "lrn": "Local Response Normalization",
    "shuffle": "mini-batches composed anew each epoch",
    "light": "contrast and brightness off by up to",
}
LEARNED = 0.2  # twice the accuracy of guessing among ten classes

Rates = Mapping[float, list[Record]]  # the runs of one network by learning rate
Train = Callable[[list[dict]], list[Record]]  # trains the network of each recipe


class Family(Shown):
    """Runs of the networks of Section 4.2.2, by variant.

    Where their recipes shuffle alike, the runs of a seed see the same examples: paired by seed.
    """

    @property
    def full(self) -> bool:
        """Whether these are the recorded runs of all five networks, which the claims are about."""
        return self.recorded and self.runs.keys() == NETWORKS.keys()

    @property
    def says(self) -> str:
        """What the page shows, in Markdown: on which data, made how and when, and why these."""
        recipe = self.first.recipe
        steps = {net: runs[0].recipe["steps"] for net, runs in self.runs.items()}
        lengths = (f"{NETWORKS[net]} {count:,}" for net, count in steps.items())
        how = (
            f"{recorded.count(self.seeds, 'seed')} of each network, mini-batches of "
            f"{recipe['batch_size']} pictures of {recipe['size']} × {recipe['size']} pixels. "
            f"Steps: {', '.join(lengths)}"
        )
        return self.describe("Imagenette", "ten classes of ImageNet", how)


# Which runs


def family(size: str = "") -> Family:
    """The recorded runs of the five networks, for the seeds that all of them have, with the usual
    pictures or those of `size` "64px". Raises RecordError without any."""
    ending = f"-{size}" if size else ""
    runs = {net: experiments.load_all(f"inception/{net}{ending}") for net in NETWORKS}
    return Family(recorded.shared(runs))


def choose(
    recipes: Mapping[str, dict], source: str, dataset: str, steps: int, seeds: int, live_seeds: int,
    train: Train,
) -> Family:  # fmt: skip
    """The runs that a page with these parameters shows: recorded if asked for and there, else new.

    `recipes` are those of the book by variant, as dictionaries. `steps` are Inception's; the other
    networks keep their share of it. 0 are those of the recorded runs, for new ones ``BRIEF``.
    Recorded runs are taken for the very recipes only, `seeds` of each network. New ones,
    `live_seeds` of each network of ``LIVE``, are made by ``train(recipes)`` on `dataset`.
    ``Family.says`` tells which they are.
    """
    wanted = cut(recipes, steps or recipes["inception"]["steps"])
    runs, why = recorded.look_up(source, "inception", wanted, seeds, by_variant=True)
    if runs:
        return Family(runs)
    wanted = cut(recipes, steps or BRIEF)
    return live({net: wanted[net] for net in LIVE}, dataset, live_seeds, train, why)


def cut(recipes: Mapping[str, dict], steps: int) -> dict[str, dict]:
    """The recipes with so many steps for Inception, and their share of them for the others."""
    share = steps / recipes["inception"]["steps"]
    lengths = {net: max(1, round(share * recipe["steps"])) for net, recipe in recipes.items()}
    return {net: {**recipe, "steps": lengths[net]} for net, recipe in recipes.items()}


def cost(main: Family) -> str:
    """What the recorded runs took, and what a live run takes that nobody gives a length, in words."""
    short = cut({net: runs[0].recipe for net, runs in main.runs.items()}, BRIEF)
    return recorded.cost(main.runs, {net: short[net]["steps"] for net in LIVE}, seeds=1)


def live(recipes: Mapping[str, dict], dataset: str, seeds: int, train: Train, why: str) -> Family:
    """Runs of `recipes`, by variant, made now on `dataset`; fewer mini-batches in Algorithm 2."""
    own = {"dataset": dataset, "population_batches": 3}
    pairs = [(net, seed) for net in recipes for seed in range(seeds)]
    made = train([{**recipes[net], **own, "seed": seed} for net, seed in pairs])
    runs: dict[str, list[Record]] = {net: [] for net in recipes}
    for (net, _), record in zip(pairs, made, strict=True):
        runs[net].append(replace(record, variant=net))
    return Family(runs, recorded=False, why=why)


def sweep(net: str) -> dict[float, list[Record]]:
    """The recorded runs of a network by learning rate, from low to high, where there are any."""
    pattern = re.compile(rf"{re.escape(net)}-lr-(\S+)")
    matches = [match for variant in _variants() if (match := pattern.fullmatch(variant))]
    matches.sort(key=lambda match: float(match[1]))
    return {float(match[1]): experiments.load_all(f"inception/{match[0]}") for match in matches}


def taken_back() -> dict[str, list[Record]]:
    """The recorded runs of BN-x5 without one of its changes, by the change, where there are any."""
    there = [name for name in CHANGES if f"bn-x5-but-{name}" in _variants()]
    return {name: experiments.load_all(f"inception/bn-x5-but-{name}") for name in there}


def _variants() -> set[str]:
    return {name.removeprefix("inception/") for name, _ in experiments.recorded("inception/")}


# What is read off them


def best(runs: list[Record], until: float = np.inf) -> Array:
    """Highest validation accuracy of each run, in its first `until` steps. Shapes: (seeds,)."""
    curves = [run.curve("test_accuracy") for run in runs]
    return np.array([values[steps <= until].max() for steps, values in curves])


def final(runs: list[Record]) -> Array:
    """Validation accuracy of each run at its end. Shapes: (seeds,)."""
    return after(runs, np.inf)


def after(runs: list[Record], step: float) -> Array:
    """Validation accuracy of each run at its last evaluation up to `step`. Shapes: (seeds,)."""
    curves = [run.curve("test_accuracy") for run in runs]
    return np.array([values[steps <= step][-1] for steps, values in curves])


def reach(steps: Array, values: Array, levels: Array | float) -> Array:
    """When a curve first reaches each of `levels`, along its straight lines; infinity where it
    never does, NaN for NaN. Shapes: `steps` and `values` (t,), `levels` any, as is the result."""
    levels = np.asarray(levels, float)
    # a curve that falls again has still been there
    highest = np.maximum.accumulate(np.asarray(values, float))
    place = np.searchsorted(highest, levels)
    inside = np.clip(place, 1, len(steps) - 1)
    # where a level is first crossed, `above` is a new highest value
    below, above = values[inside - 1], values[inside]
    rise = np.where(above > below, above - below, 1)
    crossed = steps[inside - 1] + (levels - below) / rise * (steps[inside] - steps[inside - 1])
    crossed = np.where(place == 0, steps[0], np.where(place == len(steps), np.inf, crossed))
    return np.where(np.isnan(levels), np.nan, crossed)


def matching(shown: Family, net: str) -> Array:
    """Steps that each run of `net` needs for the best accuracy of Inception with its seed; inf:
    never. At least one: an untrained network that guesses well has not learned. (seeds,)"""
    levels = best(shown.runs["inception"])
    pairs = zip(shown.runs[net], levels, strict=True)
    return np.array([max(1.0, reach(*run.curve("test_accuracy"), level)) for run, level in pairs])


def reached(shown: Family, net: str) -> list[float | None]:
    """``matching`` with None for never, as results have it."""
    return [step if np.isfinite(step) else None for step in matching(shown, net).tolist()]


def ratio(shown: Family, net: str) -> Array:
    """How many times fewer steps `net` needs than Inception for that; 0: never. (seeds,)"""
    return matching(shown, "inception") / matching(shown, net)


def speedup(shown: Family, net: str, shares: Array) -> Array:
    """The same for every share of Inception's best: `shares` (k,) -> (seeds, k); 0: never."""
    runs = zip(shown.runs["inception"], shown.runs[net], strict=True)
    curves = [[run.curve("test_accuracy") for run in pair] for pair in runs]
    levels = best(shown.runs["inception"])[:, None] * shares
    steps = zip(curves, levels, strict=True)
    return np.array([reach(*a, level) / reach(*b, level) for (a, b), level in steps])


def noise(shown: Family, until: float = np.inf) -> float:
    """Deviation of the best accuracy over seeds, pooled over networks, in points; NaN for one."""
    if shown.seeds < 2:
        return math.nan
    return 100 * math.sqrt(np.mean([best(runs, until).var(ddof=1) for runs in shown.runs.values()]))


def gain(shown: Family, net: str, than: str) -> Array:
    """By how many points `net` is better at best than the network `than`, seed by seed. (seeds,)"""
    return 100 * (best(shown.runs[net]) - best(shown.runs[than]))


class Worth(NamedTuple):
    """What one change of Section 4.2.1 is worth to BN-x5."""

    points: float  # mean best accuracy of BN-x5 minus that without it, over the steps of both
    error: float  # standard error of it, from the pooled deviation over seeds
    reach: Array  # steps to Inception's mean best accuracy without it, by run; inf: never

    @property
    def clear(self) -> bool:
        """Whether it is more than twice its standard error from nothing."""
        return abs(self.points) > 2 * self.error


def worth(shown: Family, without: list[Record]) -> Worth:
    """What the change is worth that the runs `without` lack; they may be shorter than BN-x5's."""
    until = without[0].recipe["steps"]
    whole, less = best(shown.runs["bn-x5"], until), best(without, until)
    error = noise(shown, until) * math.sqrt(1 / len(whole) + 1 / len(less))
    return Worth(100 * (whole.mean() - less.mean()), error, _reaching(shown, without))


def _reaching(shown: Family, runs: list[Record]) -> Array:
    """Steps of each of `runs` to Inception's mean best accuracy; inf: never. Shapes: (runs,)."""
    level = best(shown.runs["inception"]).mean()
    return np.array([float(reach(*run.curve("test_accuracy"), level)) for run in runs])


def by_recipe(shown: Family) -> dict[str, tuple[Array, Array]]:
    """Best accuracies without BN and with it, (seeds,), by recipe, in the steps of the shortest."""
    names = ("bn-x5-but-bn-and-rate", "bn-x5-but-rate", "bn-x5-but-bn")
    six, six_bn, seven = (experiments.load_all(f"inception/{name}") for name in names)
    pairs = {
        "that of Inception": (shown.runs["inception"], shown.runs["bn-baseline"]),
        "six changes, the old learning rate": (six, six_bn),
        "all seven changes": (seven, shown.runs["bn-x5"]),
    }
    until = min(runs[0].recipe["steps"] for pair in pairs.values() for runs in pair)
    return {name: (best(bare, until), best(bn, until)) for name, (bare, bn) in pairs.items()}


def learns(run: Record) -> bool:
    """Whether a run ended, undiverged, above twice the accuracy of guessing."""
    return not diverged(run) and final([run])[0] > LEARNED


def largest_usable(runs: Rates) -> float:
    """The highest learning rate at which every run learned; 0 if there is none."""
    return max((rate for rate in runs if all(map(learns, runs[rate]))), default=0.0)


def common_step(sweeps: Mapping[str, Rates]) -> int:
    """The number of steps that all runs of the sweeps were meant to have."""
    groups = (runs for by_rate in sweeps.values() for runs in by_rate.values())
    return min(run.recipe["steps"] for runs in groups for run in runs)


# Inside of the network


def spreads(runs: list[Record]) -> tuple[Array, Array]:
    """85th minus 15th percentile of each nonlinearity's input: (t,), (seeds, t, modules)."""
    steps, percentiles = records.stack(runs, "inputs")
    return steps, percentiles[..., 2] - percentiles[..., 0]


def stretch(runs: list[Record]) -> float:
    """By which factor a module's spread varies over training: largest by smallest, median."""
    _, spread = spreads(runs)
    return float(np.median(spread.max(1) / spread.min(1)))


def uneven(runs: list[Record]) -> float:
    """By which factor modules' spreads differ at one time: largest by smallest, median."""
    _, spread = spreads(runs)
    return float(np.median(spread.max(2) / spread.min(2)))


# The networks themselves


class Stage(NamedTuple):
    """A part of a network and what comes out of it."""

    name: str
    maps: int
    height: int
    parameters: int
    multiply_adds: int  # for one picture


def stages(network: nn.Module, pixels: int) -> list[Stage]:
    """Stem, modules and softmax layer (height 1) of an Inception network for square pictures."""
    parts = {"stem": network.stem, **network.blocks, "softmax": network.output}
    shapes, counts, hooks = {}, dict.fromkeys(parts, 0), []

    def note(name: str) -> Callable:
        return lambda module, inputs, output: shapes.update({name: output.shape})

    def tally(name: str) -> Callable:
        def hook(module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
            counts[name] += output[0].numel() * module.weight[0].numel()

        return hook

    for name, part in parts.items():
        hooks.append(part.register_forward_hook(note(name)))
        layers = [layer for layer in part.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
        hooks += [layer.register_forward_hook(tally(name)) for layer in layers]
    training = network.training
    try:
        with torch.no_grad():
            network.eval()(torch.empty(1, 3, pixels, pixels, device=network.output.weight.device))
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    made = []
    for name, part in parts.items():
        _, maps, height, *_ = (*shapes[name], 1)
        made.append(Stage(name, maps, height, parameters(part), counts[name]))
    return made


def parameters(network: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(weights.numel() for weights in network.parameters())


# How long


def bench(what: str) -> dict:
    """What ``python -m bnkit bench`` recorded of `what`; ``times`` are medians, seconds a step."""
    content = json.loads((paths.root() / "data" / "bench" / "cpu.json").read_text(encoding="utf-8"))
    row = next(row for row in content["rows"] if row["what"] == what)
    return row | {"times": {name: middle for name, (_, middle, _) in row["times"].items()}}


def pace() -> dict[str, float]:
    """Seconds of a step on one core, by variant and for three parts of the work alone."""
    times = bench("small Inception")["times"]
    return {"bn-baseline": times.pop("ours"), **times}


# The paper


def figure_2() -> dict[str, Curve]:
    """The digitized curves of Figure 2 by variant: steps and validation accuracy, both (t,)."""
    curves = recorded.digitized()
    drawn = {net: curves[f"figure2/{net.replace('-', '_')}"] for net in NETWORKS}
    return {net: (1e6 * millions, values) for net, (millions, values) in drawn.items()}


def paper_speedup(curves: Mapping[str, Curve], net: str, shares: Array) -> Array:
    """``speedup`` of the digitized curves; NaN below the lower edge of their panel. (k,)"""
    ours, theirs = curves[net], curves["inception"]
    levels = shares * theirs[1].max()
    levels = np.where(levels <= max(theirs[1][0], ours[1][0]), np.nan, levels)
    return reach(*theirs, levels) / reach(*ours, levels)


def paper_ratio(net: str) -> float:
    """``ratio`` of the paper's Figure 3; 0 where the network never gets there."""
    whole, steps = (printed()["figure3"][name][1] for name in ("inception", net))
    return whole / steps if steps else 0.0


# Recipes in words and tables


def setting(field: str, value: object) -> str:
    """What a recipe says under `field`, in words."""
    if isinstance(value, bool) or value is None or value == "batch":
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def differing(a: Mapping[str, object], b: Mapping[str, object]) -> list[str]:
    """The fields of ``FIELDS``, in its order, in which two recipes differ: all but length, seed."""
    return [field for field in FIELDS if a[field] != b[field]]


def differences(recipes: Mapping[str, dict]) -> str:
    """What the networks' recipes differ in, field by field; a change from Inception in bold."""
    first, rows = recipes["inception"], []
    for field, what in FIELDS.items():
        values = [recipe[field] for recipe in recipes.values()]
        if set(values) != {first[field]}:
            cells = ((setting(field, value), value == first[field]) for value in values)
            rows.append((what, *(text if same else f"**{text}**" for text, same in cells)))
    return _table(("setting", *(NETWORKS[net] for net in recipes)), rows)


def changes(before: dict, after: dict) -> str:
    """The seven changes of Section 4.2.1 as the two recipes have them."""
    rows = []
    for name, (field, what) in CHANGES.items():
        values = (setting(field, recipe[field]) for recipe in (before, after))
        rows.append((name, what, FIELDS[field], *values))
    return _table(("name", "change", "setting", "before", "after"), rows, words=3)


# Tables, in Markdown


def _table(head: Sequence[str], rows: Sequence[Sequence[object]], words: int = 1) -> str:
    """A Markdown table; the first columns are `words`, the others numbers, to the right."""
    return as_table(head, rows, "l" * words + "r" * (len(head) - words))


def printed_stages(appendix: Sequence[Sequence], *computed: Sequence[Stage]) -> str:
    """The Appendix's outputs beside networks', bold where they differ; cost of the first one."""
    rows = []
    for (name, height, maps), first, *others in zip(appendix, *computed, strict=True):
        theirs = f"{height}² × {maps}"
        ours = (f"{stage.height}² × {stage.maps}" for stage in (first, *others))
        ours = (output if output == theirs else f"**{output}**" for output in ours)
        cost = f"{first.parameters:,}", f"{first.multiply_adds / 1e6:,.0f}"
        rows.append((name, theirs, *ours, *cost))
    filters = ("computed, 128 and 128", "computed, 96 and 96")[: len(computed)]
    head = ("module", "printed output", *filters, "parameters", "million multiply-adds")
    return _table(head, rows)


def figure_3(shown: Family) -> str:
    """The paper's Figure 3 beside the runs `shown`; accuracies in percent, ± is over seeds."""
    rows = []
    for net, runs in shown.runs.items():
        _, steps, highest = printed()["figure3"][net]
        fewer = f"{paper_ratio(net):.1f}".removesuffix(".0")
        theirs = (f"{steps:.1f} million", fewer) if steps else ("never", "–")
        here = show_reached(ratio(shown, net)) if ratio(shown, net).any() else "–"
        ours = show_reached(matching(shown, net), 0), "1" if net == "inception" else here
        rows.append((NETWORKS[net], *theirs, f"{highest:.1f}", *ours, show(best(runs), 1, 100)))
    columns = ("steps", "times fewer", "best, %")
    head = (f"{where}: {what}" for where in ("paper", "here") for what in columns)
    return _table(("network", *head), rows)


def scales(families: Mapping[str, Family]) -> str:
    """Times fewer steps to Inception's best, and best accuracies, printed and at each scale.

    The networks are those that all of `families` have.
    """
    rows = []
    for net in (net for net in NETWORKS if all(net in one.runs for one in families.values())):
        theirs = f"{paper_ratio(net):.1f}" if paper_ratio(net) else "never"
        ours = [show_reached(ratio(shown, net)) for shown in families.values()]
        highest = [show(best(shown.runs[net]), 1, 100) for shown in families.values()]
        printed_best = f"{printed()['figure3'][net][2]:.1f}"
        rows.append((NETWORKS[net], theirs, *ours, printed_best, *highest))
    places = ("paper", *families)
    head = (f"{what}, {where}" for what in ("times fewer", "best, %") for where in places)
    return _table(("network", *head), rows)


def what_each_is_worth(shown: Family, without: Mapping[str, list[Record]]) -> str:
    """The changes, each taken back from BN-x5 alone, over the steps of the shorter runs."""
    x5 = shown.runs["bn-x5"]
    until = min((runs[0].recipe["steps"] for runs in without.values()), default=np.inf)
    steps = show_reached(_reaching(shown, x5), 0)
    rows = [("nothing: BN-x5", "", show(best(x5, until), 1, 100), "", steps)]
    for name, runs in without.items():
        (field, what), change = CHANGES[name], worth(shown, runs)
        back = " → ".join(setting(field, run.recipe[field]) for run in (x5[0], runs[0]))
        points = f"{signed(change.points)} ± {change.error:.1f}"
        points = f"**{points}**" if change.clear else points
        rows.append((what, back, show(best(runs), 1, 100), points, show_reached(change.reach, 0)))
    measures = ("best, %", "the change is worth, points", "steps to Inception's best")
    return _table(("taken back", "setting", *measures), rows, words=2)


def rates(sweeps: Mapping[str, Rates]) -> str:
    """Accuracy by learning rate and network, after as many steps as all runs have and at best."""
    step = common_step(sweeps)

    def cells(runs: list[Record]) -> tuple[str, str]:
        if not runs:
            return "", ""
        lost = [run.manifest["diverged_at"] for run in runs if diverged(run)]
        highest = f"diverged at step {lost[0]:,}" if lost else show(best(runs), 1, 100)
        return show(after(runs, step), 1, 100), highest

    rows = []
    for rate in sorted(set().union(*sweeps.values())):
        measured = (cells(by_rate.get(rate, [])) for by_rate in sweeps.values())
        rows.append((f"{rate:g}", *(cell for pair in measured for cell in pair)))
    measures = (f"after {step:,} steps, %", "best, %")
    head = (f"{NETWORKS[net]}: {what}" for net in sweeps for what in measures)
    return _table(("learning rate", *head), rows)


def exposure(shown: Family, examples: int) -> str:
    """How often each of so many `examples` is seen until Inception's best, and in the paper."""
    pictures = printed()["training_images"]["count"]
    batch_size = printed()["in_words"]["batch_size"]
    rows = []
    for net, runs in shown.runs.items():
        steps = printed()["figure3"][net][1]
        theirs = f"{1e6 * steps * batch_size / pictures:,.0f}" if steps else "never"
        steps, size = runs[0].recipe["steps"], runs[0].recipe["batch_size"]
        ours = show_reached(matching(shown, net) * size / examples)
        rows.append((NETWORKS[net], theirs, ours, f"{steps * size / examples:.1f}"))
    here = ("here: epochs to Inception's best", "here: whole run")
    return _table(("network", "paper: epochs to 72.2 %", *here), rows)


def clock(shown: Family, pace: Mapping[str, float]) -> str:
    """Milliseconds a step, and how much sooner by the clock Inception's best is reached.

    `pace` holds seconds a step by variant; BN-x30 does the work of BN-x5.
    """
    rows = []
    for net in LIVE:
        sooner = show_reached(ratio(shown, net) * pace["inception"] / pace[net])
        times = f"{1000 * pace[net]:.0f}", f"{pace[net] / pace['inception']:.2f}"
        rows.append((NETWORKS[net], *times, "1" if net == "inception" else sooner))
    return _table(("network", "ms a step", "times Inception's", "times sooner by the clock"), rows)


def ensemble_table(record: Record) -> str:
    """Error by number of averaged networks beside the paper's Figure 4, in percent."""
    rows = []
    for model, _, crops, models, top1, top5 in printed()["figure4"]["rows"]:
        first = "–" if top1 is None else f"{top1:.1f}"
        rows.append((f"paper: {model}", models or "–", crops or "–", first, f"{top5:.1f}"))
    for members, accuracy in zip(*record.curve("test_accuracy"), strict=True):
        error = f"{100 * (1 - accuracy):.1f}"
        rows.append((f"here: {recorded.count(int(members), 'network')}", members, 1, error, "–"))
    return _table(("model", "networks", "crops", "top-1 error, %", "top-5 error, %"), rows)


def inside(nets: Mapping[str, list[Record]]) -> str:
    """How inputs of nonlinearities spread and vary, with BN and without."""
    rows = []
    for net, runs in nets.items():
        _, spread = spreads(runs)
        ends = (f"{spread[:, end].min():.2f} to {spread[:, end].max():.2f}" for end in (0, -1))
        rows.append((NETWORKS[net], *ends, f"{uneven(runs):.2f}", f"{stretch(runs):.2f}"))
    factors = ("modules differ by the factor", "a module varies by the factor")
    return _table(("network", "spread at the start", "at the end", *factors), rows)
