"""Section 4.2 in numbers: which runs a page shows, and what is read off them. Records and networks
in, numbers out.

Runs are told apart by their variant, as ``bn-x5``. Accuracies are shares of 1, differences of them
percentage points.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from bnkit import paths
from bnkit.runs import records
from bnkit.runs.records import Record

NETWORKS = {  # variant -> its name in Section 4.2.2
    "inception": "Inception",
    "bn-baseline": "BN-Baseline",
    "bn-x5": "BN-x5",
    "bn-x30": "BN-x30",
    "bn-x5-sigmoid": "BN-x5-Sigmoid",
}
LIVE = (
    "inception",
    "bn-baseline",
    "bn-x5",
)  # enough to see the point, and quick enough to train on a page
CHANGES = {  # the seven of Section 4.2.1, in its order: name -> field of the recipe, and what is done
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


@dataclass(frozen=True)
class Family:
    """Runs of the networks of Section 4.2.2, by variant, all for the same seeds in the same order.

    The runs of a seed see the same examples where their recipes shuffle alike, so that comparisons
    are made by seed.
    """

    runs: dict[str, list[Record]]
    recorded: bool = True
    why: str = ""  # why they were trained and not taken from the records, in words for the page

    @property
    def seeds(self) -> int:
        """How many runs there are of each network."""
        return len(self.runs["inception"])

    @property
    def full(self) -> bool:
        """Whether these are the recorded runs of all five networks, about which the chapter makes
        its claims.
        """
        return self.recorded and self.runs.keys() == NETWORKS.keys()

    @property
    def title(self) -> str:
        """Data set, origin and number of seeds, for the title of a figure."""
        dataset = self.runs["inception"][0].recipe["dataset"]
        name = {"imagenette": "Imagenette"}.get(dataset, dataset)
        return f"{name}, {'recorded' if self.recorded else 'trained now'}, {_count(self.seeds, 'seed')}"

    @property
    def says(self) -> str:
        """What the page shows, in Markdown: on which data, made how and when, and why these runs."""
        first = self.runs["inception"][0]
        recipe, made = first.recipe, first.manifest
        lengths = ", ".join(
            f"{NETWORKS[net]} {runs[0].recipe['steps']:,}" for net, runs in self.runs.items()
        )
        what = (
            f"{_count(self.seeds, 'seed')} of each network, mini-batches of {recipe['batch_size']} pictures of "
            f"{recipe['size']} × {recipe['size']} pixels. Steps: {lengths}."
        )
        if not self.recorded:
            lost = [
                run.name
                for runs in self.runs.values()
                for run in runs
                if run.manifest.get("diverged_at") is not None
            ]
            ended = f" Diverged, and ended there: {', '.join(lost)}." if lost else ""
            return (
                f"**This page shows runs trained just now, on the data set `{recipe['dataset']}`**: {what} {self.why}"
                f"{ended} Where the text speaks of *the recorded runs*, it means those on Imagenette that the book "
                "carries; its claims are asserted for them only."
            )
        return (
            f"**This page shows recorded runs on Imagenette**, ten classes of ImageNet: {what} They were made with "
            f"torch {made['versions'].get('torch', '?').split('+')[0]} on the {made.get('device', '?')} "
            f"({made['platform'].get('cpu', 'processor unknown')}); `python -m bnkit verify` trains them again and "
            "compares."
        )


# Which runs


def family(size: str = "") -> Family:
    """The recorded runs of the five networks, for the seeds that all of them have. Raises
    RecordError without any.

    `size` is "" for the pictures of most of the chapter, or "64px" for the larger ones.
    """
    ending = f"-{size}" if size else ""
    found = {
        net: {run.seed: run for run in records.load_all("inception", net + ending)}
        for net in NETWORKS
    }
    seeds = sorted(set.intersection(*(set(runs) for runs in found.values())))
    return Family({net: [runs[seed] for seed in seeds] for net, runs in found.items()})


Train = Callable[[list[dict]], list[Record]]  # trains the network of each recipe


def choose(
    recipes: Mapping[str, dict],
    source: str,
    dataset: str,
    steps: int,
    seeds: int,
    live_seeds: int,
    train: Train,
) -> Family:
    """The runs that a page with these parameters shows: recorded where they are asked for and
    exist, else new.

    `recipes` are those of the book by variant, as dictionaries. `steps` are Inception's; the other
    networks keep their share of it. Recorded runs are taken for the very recipes only, `seeds` of
    each network. New ones, `live_seeds` of each network of ``LIVE``, are made by ``train(recipes)``
    on `dataset`. ``Family.says`` tells which they are.
    """
    share = steps / recipes["inception"]["steps"]
    wanted = {
        net: {**recipe, "steps": max(1, round(share * recipe["steps"]))}
        for net, recipe in recipes.items()
    }
    if source == "recorded":
        found = {net: _recorded(net, wanted[net]) for net in NETWORKS}
        every = sorted(set.intersection(*(set(runs) for runs in found.values())))
        if len(every) >= seeds:
            return Family(
                {net: [runs[seed] for seed in every[:seeds]] for net, runs in found.items()}
            )
        there = f"only {len(every)}" if every else "none"
        why = f"Recorded runs were asked for, {seeds} of each network, but of these recipes there are {there}."
    else:
        why = 'They were asked for, with `source` set to "live".'
    return live({net: wanted[net] for net in LIVE}, dataset, live_seeds, train, why)


def live(recipes: Mapping[str, dict], dataset: str, seeds: int, train: Train, why: str) -> Family:
    """Runs of `recipes`, by variant, trained now on `dataset`, with a smaller population for
    Algorithm 2.
    """
    wanted = [
        (net, {**recipe, "dataset": dataset, "seed": seed, "population_batches": 3})
        for net, recipe in recipes.items()
        for seed in range(seeds)
    ]
    made: dict[str, list[Record]] = {net: [] for net in recipes}
    for (net, _), record in zip(wanted, train([recipe for _, recipe in wanted]), strict=True):
        made[net].append(replace(record, variant=net))
    return Family(made, recorded=False, why=why)


def _recorded(variant: str, recipe: dict) -> dict[int, Record]:
    """Recorded runs of `variant` that have this recipe, whatever its seed says, by their seeds."""
    runs = (records.load(*name) for name in records.index() if name[:2] == ("inception", variant))
    return {
        run.seed: run for run in runs if {**run.recipe, "seed": None} == {**recipe, "seed": None}
    }


def sweep(net: str) -> dict[float, list[Record]]:
    """The recorded runs of "inception" or "bn-baseline" by learning rate, from low to high, as far
    as there are any.
    """
    pattern = re.compile(rf"{re.escape(net)}-lr-(\S+)")
    found = {match[1] for _, variant, _ in _inception() if (match := pattern.fullmatch(variant))}
    return {
        float(rate): records.load_all("inception", f"{net}-lr-{rate}")
        for rate in sorted(found, key=float)
    }


def taken_back() -> dict[str, list[Record]]:
    """The recorded runs of BN-x5 without one of its seven changes, by the change, as far as there
    are any.
    """
    there = {variant for _, variant, _ in _inception()}
    return {
        name: records.load_all("inception", f"bn-x5-but-{name}")
        for name in CHANGES
        if f"bn-x5-but-{name}" in there
    }


def _inception() -> list[tuple[str, str, int]]:
    return [name for name in records.index() if name[0] == "inception"]


# What is read off them


def best(runs: list[Record], until: float = np.inf) -> np.ndarray:
    """Highest validation accuracy of each run, or of its first steps `until` some step. Shapes:
    (seeds,).
    """
    curves = [run.curve("test_accuracy") for run in runs]
    return np.array([values[steps <= until].max() for steps, values in curves])


def final(runs: list[Record]) -> np.ndarray:
    """Validation accuracy of each run at its end. Shapes: (seeds,)."""
    return np.array([run.curve("test_accuracy")[1][-1] for run in runs])


def reach(steps: np.ndarray, values: np.ndarray, levels: np.ndarray | float) -> np.ndarray:
    """When a curve first reaches each of `levels`, along its straight lines; infinity where it
    never does, NaN for NaN.

    Shapes: `steps` and `values` (t,), `levels` any; returns the shape of `levels`.
    """
    levels = np.asarray(levels, float)
    highest = np.maximum.accumulate(
        np.asarray(values, float)
    )  # a curve that falls again has still been there
    at = np.searchsorted(highest, levels)
    inside = np.clip(at, 1, len(steps) - 1)
    before, after = (
        values[inside - 1],
        values[inside],
    )  # where a level is first crossed, `after` is a new highest value
    rise = np.where(after > before, after - before, 1)
    found = steps[inside - 1] + (levels - before) / rise * (steps[inside] - steps[inside - 1])
    found = np.where(at == 0, steps[0], np.where(at == len(steps), np.inf, found))
    return np.where(np.isnan(levels), np.nan, found)


def matching(shown: Family, net: str) -> np.ndarray:
    """Steps that each run of `net` needs for the best accuracy of Inception with its seed; inf:
    never. (seeds,)

    At least one step: an untrained network that guesses well has not learned.
    """
    levels = best(shown.runs["inception"])
    pairs = zip(shown.runs[net], levels, strict=True)
    return np.array([max(1.0, reach(*run.curve("test_accuracy"), level)) for run, level in pairs])


def ratio(shown: Family, net: str) -> np.ndarray:
    """How many times fewer steps `net` needs for Inception's best accuracy, seed by seed; 0 where
    never. (seeds,)
    """
    return matching(shown, "inception") / matching(shown, net)


def speedup(shown: Family, net: str, shares: np.ndarray) -> np.ndarray:
    """The same for every share of Inception's best accuracy, and not for its whole only.

    Shapes: `shares` (k,) -> (seeds, k); 0 where `net` never gets there.
    """
    levels = best(shown.runs["inception"])[:, None] * shares
    curves = (
        [run.curve("test_accuracy") for run in shown.runs[which]] for which in ("inception", net)
    )
    return np.array(
        [reach(*a, level) / reach(*b, level) for a, b, level in zip(*curves, levels, strict=True)]
    )


def noise(shown: Family, until: float = np.inf) -> float:
    """Standard deviation of the best accuracy from seed to seed, pooled over the networks, in
    percentage points.

    NaN where there is one seed only.
    """
    if shown.seeds < 2:
        return math.nan
    return 100 * math.sqrt(np.mean([best(runs, until).var(ddof=1) for runs in shown.runs.values()]))


def gain(shown: Family, net: str, than: str) -> np.ndarray:
    """By how many points the best accuracy of `net` is above that of the network `than`, seed by
    seed. (seeds,)
    """
    return 100 * (best(shown.runs[net]) - best(shown.runs[than]))


class Worth(NamedTuple):
    """What one change of Section 4.2.1 is worth to BN-x5: positive where taking it back costs
    accuracy.
    """

    points: float  # mean best accuracy of BN-x5 minus that without the change, over the steps that both were trained
    error: float  # standard error of it, from the pooled deviation over seeds
    reach: (
        np.ndarray
    )  # steps to Inception's mean best accuracy without the change, run by run; inf: never

    @property
    def clear(self) -> bool:
        """Whether it is more than twice its standard error from nothing."""
        return abs(self.points) > 2 * self.error


def worth(shown: Family, without: list[Record]) -> Worth:
    """What the change is worth that the runs `without` lack; they may be shorter than those of
    BN-x5.
    """
    until = without[0].recipe["steps"]
    whole, less = best(shown.runs["bn-x5"], until), best(without, until)
    level = best(shown.runs["inception"]).mean()
    error = noise(shown, until) * math.sqrt(1 / len(whole) + 1 / len(less))
    steps = [float(reach(*run.curve("test_accuracy"), level)) for run in without]
    return Worth(100 * (whole.mean() - less.mean()), error, np.array(steps))


def learns(run: Record) -> bool:
    """Whether a run ended, undiverged, above twice the accuracy of guessing."""
    return run.manifest.get("diverged_at") is None and final([run])[0] > LEARNED


def largest_usable(rates: Mapping[float, list[Record]]) -> float:
    """The highest learning rate at which every run learned; 0 if there is none."""
    return max((rate for rate, runs in rates.items() if all(map(learns, runs))), default=0.0)


# Inside of the network


def spreads(runs: list[Record]) -> tuple[np.ndarray, np.ndarray]:
    """85th minus 15th percentile of what each module's nonlinearity receives. Shapes: (t,), (seeds,
    t, modules).
    """
    steps, percentiles = records.stack(runs, "inputs")
    return steps, percentiles[..., 2] - percentiles[..., 0]


def stretch(runs: list[Record]) -> float:
    """By which factor the spread of the typical module varies over training: largest by smallest,
    median.
    """
    _, spread = spreads(runs)
    return float(np.median(spread.max(1) / spread.min(1)))


def uneven(runs: list[Record]) -> float:
    """By which factor the spreads of the modules differ at one time: largest by smallest, median
    over all times.
    """
    _, spread = spreads(runs)
    return float(np.median(spread.max(2) / spread.min(2)))


def gradients(runs: list[Record]) -> tuple[np.ndarray, np.ndarray]:
    """Norm of the gradient in each stage, the stem first. Shapes: (t,), (seeds, t, stages)."""
    return records.stack(runs, "gradient_norm")


# The networks themselves


class Stage(NamedTuple):
    """A part of a network and what comes out of it."""

    name: str
    maps: int
    height: int
    parameters: int
    multiply_adds: int  # for one picture


def stages(network: nn.Module, pixels: int) -> list[Stage]:
    """Stem, modules and softmax layer of an Inception network for square pictures; it may live on
    the meta device.

    The softmax layer has no height of its own: 1.
    """
    parts = {"stem": network.stem, **network.blocks, "softmax": network.output}
    shapes, counts, hooks = {}, dict.fromkeys(parts, 0), []

    def note(name: str) -> Callable:
        return lambda module, inputs, output: shapes.update({name: output.shape})

    def count(name: str) -> Callable:
        def hook(module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
            counts[name] += output[0].numel() * module.weight[0].numel()

        return hook

    for name, part in parts.items():
        hooks.append(part.register_forward_hook(note(name)))
        layers = [layer for layer in part.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
        hooks += [layer.register_forward_hook(count(name)) for layer in layers]
    training = network.training
    try:
        with torch.no_grad():
            network.eval()(torch.empty(1, 3, pixels, pixels, device=network.output.weight.device))
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    return [
        Stage(
            name,
            shapes[name][1],
            shapes[name][2] if len(shapes[name]) > 2 else 1,
            parameters(part),
            counts[name],
        )
        for name, part in parts.items()
    ]


def parameters(network: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(weights.numel() for weights in network.parameters())


# How long


def timed() -> dict[str, dict[str, float]]:
    """Seconds of a step on one core, as ``python -m bnkit bench`` recorded them
    (data/bench/cpu.json): medians.

    "small Inception", by variant, with "a plain torch loop", "its convolutions" and "its pictures";
    "BN-Inception" for a mini-batch of ``timed_pictures()`` pictures, with "ours", "torch.nn" and
    "without BN".
    """
    found = {
        row["what"]: {name: middle for name, (_, middle, _) in row["times"].items()}
        for row in _bench()
    }
    small = found["small Inception"]
    return {
        "small Inception": {
            "bn-baseline" if name == "ours" else name: value for name, value in small.items()
        },
        "BN-Inception": found["BN-Inception"],
    }


def on_several_cores() -> tuple[str, dict[str, float]]:
    """How many cores ("2 cores"), and, with these at work, seconds of a step by name: "ours", "a
    plain torch loop".
    """
    row = next(row for row in _bench() if row["what"] == "small Inception, several cores")
    return row["path"], {name: middle for name, (_, middle, _) in row["times"].items()}


def held() -> dict[str, float]:
    """MiB that a process takes for steps of BN-Baseline beyond what it had built: "ours", "a plain
    torch loop".
    """
    memory = next(row["memory"] for row in _bench() if row["what"] == "small Inception")
    return {
        way: memory[way] - memory["built, not trained"] for way in ("ours", "a plain torch loop")
    }


def timed_pictures() -> int:
    """The mini-batch with which the whole network was timed."""
    return next(row["shape"][0] for row in _bench() if row["what"] == "BN-Inception")


def _bench() -> list[dict]:
    file = paths.root() / "data" / "bench" / "cpu.json"
    return json.loads(file.read_text(encoding="utf-8"))["rows"]


def epochs(steps: float, batch_size: int, examples: int) -> float:
    """How often each example is seen."""
    return steps * batch_size / examples


# The paper


def paper() -> dict:
    """The printed numbers of Section 4.2 and the Appendix (data/paper/imagenet.json)."""
    return json.loads((paths.paper() / "imagenet.json").read_text(encoding="utf-8"))


def figure_2() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The digitised curves of Figure 2 by variant: steps and validation accuracy, both (t,)."""
    content = json.loads((paths.paper() / "curves.json").read_text(encoding="utf-8"))
    found = {
        net: np.asarray(content[f"figure2/{net.replace('-', '_')}"], float).T for net in NETWORKS
    }
    return {net: (1e6 * steps, values) for net, (steps, values) in found.items()}


def paper_speedup(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]], net: str, shares: np.ndarray
) -> np.ndarray:
    """``speedup`` of the digitised curves; NaN below the panel's lower edge, where nothing is
    drawn. (k,)
    """
    levels = shares * curves["inception"][1].max()
    undrawn = levels <= max(curves[which][1][0] for which in ("inception", net))
    levels = np.where(undrawn, np.nan, levels)
    return reach(*curves["inception"], levels) / reach(*curves[net], levels)


# Numbers in words


def show(values: Sequence[float] | np.ndarray, digits: int = 1, scale: float = 1) -> str:
    """Mean ± standard deviation over seeds of `scale` times `values`, for a sentence; one seed has
    no deviation.
    """
    values = scale * np.asarray(values, float)
    text = f"{values.mean():,.{digits}f}".replace("-", "−")
    return text if len(values) < 2 else f"{text} ± {values.std(ddof=1):,.{digits}f}"


def show_reached(values: Sequence[float] | np.ndarray, digits: int = 1) -> str:
    """``show`` of those seeds that got there, and how many they are: ``matching`` is inf for
    others, ``ratio`` 0.
    """
    values = np.asarray(values, float)
    there = values[np.isfinite(values) & (values > 0)]
    if not len(there):
        return "never"
    return show(there, digits) + (
        "" if len(there) == len(values) else f" ({len(there)} of {len(values)})"
    )


def signed(points: float, digits: int = 1) -> str:
    """A difference with its sign."""
    return f"{points:+.{digits}f}".replace("-", "−")


def table(head: Sequence[str], rows: Sequence[Sequence[object]], text: int = 1) -> str:
    """A Markdown table; the first `text` columns are words, the others numbers, aligned to the
    right.
    """
    lines = [head, [":--"] * text + ["--:"] * (len(head) - text), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def setting(field: str, value: object) -> str:
    """What a recipe says under `field`, in words."""
    if isinstance(value, bool) or value is None or value == "batch":
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def differing(a: Mapping[str, object], b: Mapping[str, object]) -> list[str]:
    """The fields, in the order of ``FIELDS``, in which two recipes differ; their length and their
    seed apart.
    """
    return [field for field in FIELDS if a[field] != b[field]]


def differences(recipes: Mapping[str, dict]) -> str:
    """What the networks differ in, field by field, computed from their recipes; a change from
    Inception in bold.
    """
    first = recipes["inception"]
    fields = [
        field
        for field in FIELDS
        if any(recipe[field] != first[field] for recipe in recipes.values())
    ]

    def cell(recipe: dict, field: str) -> str:
        text = setting(field, recipe[field])
        return text if recipe[field] == first[field] else f"**{text}**"

    rows = [
        (FIELDS[field], *(cell(recipe, field) for recipe in recipes.values())) for field in fields
    ]
    return table(("setting", *(NETWORKS[net] for net in recipes)), rows)


def changes(before: dict, after: dict) -> str:
    """The seven changes of Section 4.2.1 as the two recipes have them, as a Markdown table."""
    rows = [
        (name, what, FIELDS[field], setting(field, before[field]), setting(field, after[field]))
        for name, (field, what) in CHANGES.items()
    ]
    return table(("name", "change", "setting", "before", "after"), rows, text=3)


def printed_stages(printed: Sequence[Sequence], *computed: Sequence[Stage]) -> str:
    """The Appendix's outputs beside those of networks, with parameters and cost of the first;
    differences in bold.
    """
    rows = []
    for (name, height, maps), *found in zip(printed, *computed, strict=True):
        cells = [f"{each.height}² × {each.maps}" for each in found]
        cells = [
            cell if (each.height, each.maps) == (height, maps) else f"**{cell}**"
            for cell, each in zip(cells, found, strict=True)
        ]
        rows.append(
            (
                name,
                f"{height}² × {maps}",
                *cells,
                f"{found[0].parameters:,}",
                f"{found[0].multiply_adds / 1e6:,.0f}",
            )
        )
    head = (
        "module",
        "printed output",
        *(f"computed, {each}" for each in ("128 and 128", "96 and 96")[: len(computed)]),
    )
    return table((*head, "parameters", "million multiply-adds"), rows)


def figure_3(shown: Family) -> str:
    """The paper's Figure 3 beside the runs `shown`, as a Markdown table; accuracies in percent, ±
    is over seeds.
    """
    printed = paper()["figure3"]
    baseline = printed["inception"][1]
    rows = []
    for net, runs in shown.runs.items():
        _, steps, highest = printed[net]
        theirs = (
            (f"{steps:.1f} million", f"{baseline / steps:.1f}".removesuffix(".0"))
            if steps
            else ("never", "–")
        )
        fewer = ratio(shown, net)
        here = "1" if net == "inception" else show_reached(fewer) if fewer.any() else "–"
        ours = (show_reached(matching(shown, net), 0), here)
        rows.append((NETWORKS[net], *theirs, f"{highest:.1f}", *ours, show(best(runs), 1, 100)))
    head = ("steps", "times fewer", "best, %")
    return table(
        ("network", *(f"paper: {each}" for each in head), *(f"here: {each}" for each in head)), rows
    )


def scales(families: Mapping[str, Family]) -> str:
    """How many times fewer steps to Inception's best accuracy, and the best accuracies, printed and
    at each scale.
    """
    printed = paper()["figure3"]
    rows = []
    for net in NETWORKS:
        theirs = printed["inception"][1] / printed[net][1] if printed[net][1] else None
        fewer = [
            show_reached(ratio(shown, net)) if ratio(shown, net).any() else "never"
            for shown in families.values()
        ]
        highest = [show(best(shown.runs[net]), 1, 100) for shown in families.values()]
        rows.append(
            (
                NETWORKS[net],
                f"{theirs:.1f}" if theirs else "never",
                *fewer,
                f"{printed[net][2]:.1f}",
                *highest,
            )
        )
    columns = ("paper", *families)
    head = (
        *(f"times fewer, {each}" for each in columns),
        *(f"best, %, {each}" for each in columns),
    )
    return table(("network", *head), rows)


def what_each_is_worth(shown: Family, without: Mapping[str, list[Record]]) -> str:
    """The seven changes, each taken back from BN-x5 alone, as a Markdown table; over the steps of
    the shorter runs.
    """
    x5 = shown.runs["bn-x5"]
    until = min((runs[0].recipe["steps"] for runs in without.values()), default=np.inf)
    level = best(shown.runs["inception"]).mean()
    steps = [float(reach(*run.curve("test_accuracy"), level)) for run in x5]
    rows = [("nothing: BN-x5", "", show(best(x5, until), 1, 100), "", show_reached(steps, 0))]
    for name, runs in without.items():
        field, what = CHANGES[name]
        found = worth(shown, runs)
        back = f"{setting(field, x5[0].recipe[field])} → {setting(field, runs[0].recipe[field])}"
        points = f"{signed(found.points)} ± {found.error:.1f}"
        points = f"**{points}**" if found.clear else points
        rows.append((what, back, show(best(runs), 1, 100), points, show_reached(found.reach, 0)))
    head = (
        "taken back",
        "setting",
        "best, %",
        "the change is worth, points",
        "steps to Inception's best",
    )
    return table(head, rows, text=2)


def by_recipe(shown: Family) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Best accuracies without BN and with it, (seeds,) each, by the recipe, within the steps of the
    shortest runs.
    """
    pairs = {
        "that of Inception": (shown.runs["inception"], shown.runs["bn-baseline"]),
        "six changes, the old learning rate": ("bn-x5-but-bn-and-rate", "bn-x5-but-rate"),
        "all seven changes": ("bn-x5-but-bn", shown.runs["bn-x5"]),
    }
    found = {
        name: [
            records.load_all("inception", each) if isinstance(each, str) else each for each in pair
        ]
        for name, pair in pairs.items()
    }
    until = min(runs[0].recipe["steps"] for pair in found.values() for runs in pair)
    return {
        name: (best(without, until), best(with_bn, until))
        for name, (without, with_bn) in found.items()
    }


def common_step(sweeps: Mapping[str, Mapping[float, list[Record]]]) -> int:
    """The number of steps that all runs of the sweeps were meant to have."""
    return min(
        run.recipe["steps"] for found in sweeps.values() for runs in found.values() for run in runs
    )


def after(runs: list[Record], step: int) -> np.ndarray:
    """Validation accuracy of each run at its last evaluation up to `step`. Shapes: (seeds,)."""
    return np.array(
        [
            values[steps <= step][-1]
            for steps, values in (run.curve("test_accuracy") for run in runs)
        ]
    )


def rates(sweeps: Mapping[str, Mapping[float, list[Record]]]) -> str:
    """Accuracy by learning rate and network, after as many steps as all runs have and at best, as a
    Markdown table.
    """
    every = sorted({rate for found in sweeps.values() for rate in found})
    step = common_step(sweeps)

    def cells(found: Mapping[float, list[Record]], rate: float) -> tuple[str, str]:
        if rate not in found:
            return "", ""
        lost = [run for run in found[rate] if run.manifest.get("diverged_at") is not None]
        highest = show(best(found[rate]), 1, 100)
        if lost:
            highest = f"diverged at step {lost[0].manifest['diverged_at']:,}"
        return show(after(found[rate], step), 1, 100), highest

    rows = [
        (f"{rate:g}", *(cell for found in sweeps.values() for cell in cells(found, rate)))
        for rate in every
    ]
    head = (
        f"{NETWORKS[net]}: {what}"
        for net in sweeps
        for what in (f"after {step:,} steps, %", "best, %")
    )
    return table(("learning rate", *head), rows)


def exposure(shown: Family, examples: int) -> str:
    """How often each training picture is seen until Inception's best accuracy, in the paper and
    here.
    """
    printed = paper()
    count, size = printed["training_images"]["count"], printed["in_words"]["batch_size"]
    rows = []
    for net, runs in shown.runs.items():
        steps = printed["figure3"][net][1]
        theirs = f"{epochs(1e6 * steps, size, count):,.0f}" if steps else "never"
        ours = epochs(matching(shown, net), runs[0].recipe["batch_size"], examples)
        whole = epochs(runs[0].recipe["steps"], runs[0].recipe["batch_size"], examples)
        rows.append((NETWORKS[net], theirs, show_reached(ours), f"{whole:.1f}"))
    return table(
        (
            "network",
            "paper: epochs to 72.2 %",
            "here: epochs to Inception's best",
            "here: whole run",
        ),
        rows,
    )


def clock(shown: Family, pace: Mapping[str, float]) -> str:
    """Seconds a step, and how much sooner by the clock Inception's best accuracy is reached, as a
    Markdown table.

    `pace` holds seconds a step by variant; BN-x30 does the work of BN-x5.
    """
    rows = []
    for net in LIVE:
        sooner = ratio(shown, net) * pace["inception"] / pace[net]
        cell = "1" if net == "inception" else show_reached(sooner)
        rows.append(
            (NETWORKS[net], f"{1000 * pace[net]:.0f}", f"{pace[net] / pace['inception']:.2f}", cell)
        )
    return table(("network", "ms a step", "times Inception's", "times sooner by the clock"), rows)


def ensemble_table(record: Record) -> str:
    """Error by number of averaged networks beside the paper's Figure 4, in percent, as a Markdown
    table.
    """
    rows = [
        (
            f"paper: {model}",
            f"{models or '–'}",
            f"{crops or '–'}",
            "–" if top1 is None else f"{top1:.1f}",
            f"{top5:.1f}",
        )
        for model, _, crops, models, top1, top5 in paper()["figure4"]["rows"]
    ]
    rows += [
        (f"here: {_count(int(members), 'network')}", members, 1, f"{100 * (1 - accuracy):.1f}", "–")
        for members, accuracy in zip(*record.curve("test_accuracy"), strict=True)
    ]
    return table(("model", "networks", "crops", "top-1 error, %", "top-5 error, %"), rows)


def inside(nets: Mapping[str, list[Record]]) -> str:
    """How the inputs of nonlinearities spread and vary, with and without BN, as a Markdown table."""
    rows = []
    for net, runs in nets.items():
        _, spread = spreads(runs)
        at = (f"{spread[:, place].min():.2f} to {spread[:, place].max():.2f}" for place in (0, -1))
        rows.append((NETWORKS[net], *at, f"{uneven(runs):.2f}", f"{stretch(runs):.2f}"))
    head = (
        "network",
        "spread at the start",
        "at the end",
        "modules differ by the factor",
        "a module varies by the factor",
    )
    return table(head, rows)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"


# What the chapter concludes, always from the recorded runs


def evidence(
    shown: Family,
    without: Mapping[str, list[Record]],
    sweeps: Mapping[str, Mapping[float, list[Record]]],
    sigmoid: list[Record],
    pace: Mapping[str, float],
) -> dict[str, dict[str, float]]:
    """What the recorded runs say on the claims C55 to C72, by claim and name, as the ledger asks.

    `sigmoid` are the runs of Inception with sigmoids; `pace` holds seconds a step by variant.
    Changes that are not in `without` are not in the result.
    """
    recipes = {net: runs[0].recipe for net, runs in shown.runs.items()}
    first, x5 = recipes["inception"], recipes["bn-x5"]
    printed = paper()["figure3"]
    papers_ratio = {
        net: printed["inception"][1] / printed[net][1] for net in ("bn-baseline", "bn-x5", "bn-x30")
    }
    at_best = 1e6 * printed["inception"][1] / paper()["in_words"]["steps_at_best_of_bn_x30"]
    apart = {field for recipe in recipes.values() for field in differing(first, recipe)}
    x30 = gain(shown, "bn-x30", "inception")
    fewer = {net: ratio(shown, net) for net in papers_ratio}
    trained = {recipes[net]["learning_rate"]: shown.runs[net] for net in papers_ratio}
    found = {
        "C55": {"papers_ratio": papers_ratio["bn-baseline"], "ratio": fewer["bn-baseline"].mean()},
        "C59": {"faster": first["decay_steps"] / x5["decay_steps"]},
        "C60": {
            "raised": x5["learning_rate"] / first["learning_rate"],
            "without_bn": largest_usable(sweeps["inception"]),
            "with_bn": max(largest_usable(sweeps["bn-baseline"]), largest_usable(trained)),
        },
        "C63": {"networks": len(recipes), "settings": len(apart)},
        "C65": {"differ": len(differing(first, recipes["bn-baseline"]))},
        "C66": {"differ": len(differing(recipes["bn-baseline"], x5))},
        "C67": {"times": recipes["bn-x30"]["learning_rate"] / first["learning_rate"]},
        "C68": {
            "differ": len(differing(x5, recipes["bn-x5-sigmoid"])),
            "with_bn": best(shown.runs["bn-x5-sigmoid"]).mean(),
            "without_bn": best(sigmoid).mean(),
        },
        "C69": {
            "papers_share": 1 / papers_ratio["bn-baseline"],
            "share": (1 / fewer["bn-baseline"]).mean(),
        },
        "C70": {
            "papers_ratio": papers_ratio["bn-x5"],
            "ratio": fewer["bn-x5"].mean(),
            "clock": fewer["bn-x5"].mean() * pace["inception"] / pace["bn-x5"],
        },
        "C71": {
            "papers_ratio": papers_ratio["bn-x30"],
            "papers_at_best": at_best,
            "reached": np.count_nonzero(fewer["bn-x30"]),
            "seeds": shown.seeds,
        },
        "C72": {
            "papers_gain": printed["bn-x30"][2] - printed["inception"][2],
            "gain": x30.mean(),
            "deviation": x30.std(ddof=1),
        },
    }
    for claim, name in (
        ("C56", "dropout"),
        ("C57", "shuffle"),
        ("C58", "weight-decay"),
        ("C61", "lrn"),
        ("C62", "light"),
    ):
        if name in without:
            found[claim] = {
                key: value
                for key, value in worth(shown, without[name])._asdict().items()
                if key != "reach"
            }
    return {
        claim: {key: float(value) for key, value in values.items()}
        for claim, values in found.items()
    }


def headline(shown: Family) -> dict[str, float]:
    """The numbers that other pages quote, by name: accuracies in percent."""
    numbers = {
        f"best_{net.replace('-', '_')}": 100 * best(runs).mean() for net, runs in shown.runs.items()
    }
    for net in ("bn-baseline", "bn-x5"):
        numbers[f"ratio_{net.replace('-', '_')}"] = ratio(shown, net).mean()
    return numbers
