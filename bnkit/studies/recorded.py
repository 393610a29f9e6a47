"""What chapters on recorded runs share: runs to show, the paper's numbers, numbers in words."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bnkit import paths
from bnkit.runs import experiments
from bnkit.runs.records import Record

Array = np.ndarray
DATA_SETS = {"mnist": "MNIST", "imagenette": "Imagenette"}  # as they are written
READING = 40  # steps: how well the ends of a curve could be read off (data/paper/curves.json)

Curve = tuple[Array, Array]  # steps and values, both (t,)

# Which runs


@dataclass(frozen=True)
class Shown:
    """Runs that a page shows, by network; all networks for the same seeds in the same order."""

    runs: dict[str, list[Record]]
    recorded: bool = True
    why: str = ""  # why they were trained and not taken from the records, in words for the page

    @property
    def first(self) -> Record:
        """The first run of the first network."""
        return next(iter(self.runs.values()))[0]

    @property
    def seeds(self) -> int:
        """How many runs there are of each network."""
        return len(next(iter(self.runs.values())))

    @property
    def title(self) -> str:
        """Data set, origin and number of seeds, for the title of a figure."""
        dataset = self.first.recipe["dataset"]
        origin = "recorded" if self.recorded else "trained now"
        return f"{DATA_SETS.get(dataset, dataset)}, {origin}, {count(self.seeds, 'seed')}"

    @property
    def lost(self) -> str:
        """Which of the runs diverged, as a sentence for the page; "" if none did."""
        names = ", ".join(run.name for runs in self.runs.values() for run in runs if diverged(run))
        return f"Diverged, and ended there: {names}. " if names else ""

    def aside(self, whose: str) -> str:
        """What a page says first of runs that are not those which its text is about, in Markdown.

        `whose` are these, in words.
        """
        return (
            f"**These are not the runs that the text speaks of.** {self.lost}Where it says what can "
            f"be seen in a figure, it means that of {whose}, and its claims hold for these."
        )

    def describe(self, data: str, which: str, how: str) -> str:
        """What the page shows, in Markdown, and why these runs.

        `data` is the data set of the book's own runs, `which` they are, and `how` these were made.
        """
        made = self.first.manifest
        if self.recorded:
            return (
                f"**This page shows recorded runs on {data}**, {which}: {how}. They were made with "
                f"torch {made['versions'].get('torch', '?').split('+')[0]} "
                f"on the {made.get('device', '?')} "
                f"({made['platform'].get('cpu', 'processor unknown')}); `python -m bnkit verify` "
                f"trains them again and compares. {arithmetic(f'{self.first.experiment}/')}"
            )
        return (
            "**This page shows runs trained just now, on the data set "
            f"`{self.first.recipe['dataset']}`**: {how}. {self.why} {self.lost}"
            f"Where the text speaks of *the recorded runs*, it means those on {data} that the book "
            "carries; its claims are asserted for them only."
        )


def look_up(
    source: str, experiment: str, recipes: Mapping[str, dict], seeds: int, by_variant: bool = False
) -> tuple[dict[str, list[Record]], str]:
    """The recorded runs that a page asks for, by network; or none, and why, in words for the page.

    They are taken for the very `recipes` only, `seeds` of each network, 0: all there are, where
    `source` is "recorded". With `by_variant` the name of a network is the variant that it is recorded under.
    """
    if source != "recorded":
        return {}, 'They were asked for, with `source` set to "live".'
    variants = {net: net if by_variant else None for net in recipes}
    stored = {net: _stored(experiment, recipes[net], variants[net]) for net in recipes}
    runs = shared(stored, seeds or None)
    there = len(next(iter(runs.values())))
    if there == (seeds or there) > 0:
        return runs, ""
    which = "these recipes" if by_variant else "this recipe"
    lacking = f"but of {which} there are {f'only {there}' if there else 'none'}"
    asked = f", {seeds} of each network" if seeds else ""
    return {}, f"Recorded runs were asked for{asked}, {lacking}."


def shared(runs: Mapping[str, list[Record]], most: int | None = None) -> dict[str, list[Record]]:
    """The runs of those seeds that all networks have, of the first `most` of these, in order."""
    by_seed = {net: {run.seed: run for run in of_net} for net, of_net in runs.items()}
    seeds = sorted(set.intersection(*map(set, by_seed.values())))[:most]
    return {net: [of_net[seed] for seed in seeds] for net, of_net in by_seed.items()}


def diverged(run: Record) -> bool:
    """Whether a run ended before its last step, with a loss that is no number."""
    return run.manifest.get("diverged_at") is not None


def arithmetic(beginning: str) -> str:
    """How many of the book's runs whose names begin so the code of today made, in Markdown."""
    runs = [experiments.load(*name) for name in experiments.recorded(beginning)]
    earlier = sum(not experiments.is_of_today(run) for run in runs)
    if not earlier:
        return f"Today's arithmetic made all {len(runs)} recorded runs of `{beginning}`."
    of_all = f"{earlier} of {len(runs)}" if earlier < len(runs) else f"All {earlier}"
    return (
        f"{of_all} recorded runs of `{beginning}` were made by earlier code, which may round "
        "differently: `verify` compares them within bounds, and not bit by bit."
    )


def _stored(experiment: str, recipe: dict, variant: str | None) -> list[Record]:
    """Recorded runs of `recipe`, whatever its seed says, under this variant or (None) any."""
    wanted, name = {**recipe, "seed": None}, f"{experiment}/{variant}"
    runs = [
        run for run in experiments.recorded(f"{experiment}/") if variant is None or run[0] == name
    ]
    same = (run for run in runs if {**experiments.registered(*run), "seed": None} == wanted)
    return [experiments.load(*run) for run in same]


def cost(runs: Mapping[str, list[Record]], brief: Mapping[str, int], seeds: int) -> str:
    """What recorded `runs` took, and what `seeds` of each network with `brief` steps take, in words.

    The times are those of the records, on one core; other processors differ.
    """
    each = {net: [run.manifest["wall_seconds"] for run in of_net] for net, of_net in runs.items()}
    whole = sum(map(sum, each.values()))
    paces = {net: np.mean(each[net]) / runs[net][0].recipe["steps"] for net in brief}
    short = seeds * sum(steps * paces[net] for net, steps in brief.items())
    return (
        f"*What live training costs.* The recorded runs took {whole / 60:,.0f} minutes of one "
        f"processor core. Where neither steps nor seeds are given, live runs are cut to "
        f"{max(brief.values()):,} steps and {count(seeds, 'seed')}: about {short:.0f} seconds. "
        "With a bar on the way, any other length can be asked for."
    )


def minutes(*prefixes: str) -> float:
    """What the recorded runs took whose names begin so, in minutes of one core."""
    names = [name for name in experiments.EXPERIMENTS if name.startswith(prefixes)]
    runs = (run for name in names for run in experiments.load_all(name))
    return sum(run.manifest["wall_seconds"] for run in runs) / 60


# The paper


def digitized() -> dict[str, Curve]:
    """The paper's digitized curves by name, "figure1a/with_bn" and so on."""
    content = json.loads((paths.paper() / "curves.json").read_text(encoding="utf-8"))
    return {name: tuple(np.asarray(content[name], float).T) for name in content["about"]["curves"]}


def at(curve: Curve, step: int) -> float:
    """A digitized curve at `step`, along its straight lines; NaN where the paper draws none."""
    steps, values = curve
    drawn = steps[0] - READING <= step <= steps[-1] + READING
    return float(np.interp(step, steps, values)) if drawn else np.nan


def printed() -> dict:
    """The printed numbers of Section 4.2 and the Appendix (data/paper/imagenet.json)."""
    return json.loads((paths.paper() / "imagenet.json").read_text(encoding="utf-8"))


# Numbers in words


def show(values: Sequence[float] | Array, digits: int = 1, scale: float = 1) -> str:
    """Mean ± standard deviation over seeds of `scale` times `values`; one seed has no deviation."""
    values = scale * np.asarray(values, float)
    mean = f"{values.mean():,.{digits}f}".replace("-", "−")
    return mean if len(values) < 2 else f"{mean} ± {values.std(ddof=1):,.{digits}f}"


def show_reached(values: Sequence[float] | Array, digits: int = 1) -> str:
    """``show`` of those seeds that got there, values neither infinite nor 0, and their number."""
    values = np.asarray(values, float)
    there = values[np.isfinite(values) & (values > 0)]
    if not len(there):
        return "never"
    some = "" if len(there) == len(values) else f" ({len(there)} of {len(values)})"
    return show(there, digits) + some


def signed(points: float) -> str:
    """A difference with its sign."""
    return f"{points:+.1f}".replace("-", "−")


def count(number: int, thing: str) -> str:
    """How many of them, as "1 seed" or "3 seeds"."""
    return f"{number} {thing}{'s' * (number != 1)}"
