"""Every named run of the book, with its place in the paper, and what one does with it.

``train`` makes a run from a recipe, ``run`` makes and stores a recorded one, ``load`` and
``load_all`` read those that the book has, ``missing`` lists what is not recorded yet, ``verify``
trains the first steps of a recorded run again and compares.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import combinations, product
from pathlib import Path

import numpy as np
import torch

from bnkit import datasets, paths
from bnkit.datasets import binary
from bnkit.runs import DeviceError, arithmetic, bank, checkpoints, probes, records, tasks
from bnkit.runs.checkpoints import Checkpoint
from bnkit.runs.distributed import first, joined
from bnkit.runs.records import Record, RecordError
from bnkit.runs.tasks import (
    OnStep,
    centre_scale,
    imagenet,
    inception,
    linear,
    mnist,
    search,
    small_batches,
)
from bnkit.runs.tasks.inception import InceptionRecipe
from bnkit.runs.training import AnyRecipe, Progress
from bnkit.runs.verification import Verdict, judge

TASKS: dict[type[AnyRecipe], type[tasks.Task]] = {
    mnist.MLPRecipe: mnist.Task,
    search.SearchRecipe: search.Task,
    inception.InceptionRecipe: inception.Task,
    imagenet.ImagenetRecipe: imagenet.Task,
    linear.LinearRecipe: linear.Task,
    small_batches.SmallBatchRecipe: small_batches.Task,
    centre_scale.CentreScaleRecipe: centre_scale.Task,
}


@dataclass(frozen=True)
class Experiment:
    """A named run of the book: what it is for, and how often it is repeated."""

    name: str  # "mnist/with-bn": experiment and variant
    recipe: AnyRecipe
    seeds: int  # recorded repetitions, seeds 0 to seeds - 1; 0 where nothing is recorded
    purpose: str  # one line, with the place in the paper


# Of the main pair of Section 4.1, for which the paper gives nothing: what ``_search`` found.
FOUND = {"learning_rate": 0.13, "init_sigma": 0.05, "pixels": "drawn"}


def _mnist() -> Iterator[Experiment]:
    """Section 4.1: the settings that give the paper's Figure 1, and controls."""
    base = mnist.MLPRecipe(dataset="mnist", **FOUND)
    for label, norm in (("with-bn", "batch"), ("without-bn", None)):
        net = replace(base, norm=norm)
        yield Experiment(f"mnist/{label}", net, 5, "Section 4.1, Figure 1: the main pair")
        purpose = "control for Figure 1: round numbers, and what a first guess would be"
        recipe = replace(net, learning_rate=0.1, init_sigma=0.1, pixels="threshold")
        yield Experiment(f"mnist/{label}-sigma-0.1-lr-0.1-threshold", recipe, 5, purpose)
        for rate in (0.5, 2.0, 5.0):
            purpose = "control for Figure 1: another learning rate"
            recipe = replace(net, learning_rate=rate)
            yield Experiment(f"mnist/{label}-lr-{rate:g}", recipe, 3, purpose)
        purpose = "control for the abstract's 'less careful about initialization'"
        for sigma, rate in product((0.005, 0.05, 0.5), (base.learning_rate, 2.0)):
            recipe = replace(net, init_sigma=sigma, learning_rate=rate, steps=10_000)
            yield Experiment(f"mnist/{label}-sigma-{sigma:g}-lr-{rate:g}", recipe, 3, purpose)


RATES, SIGMAS = (0.05, 0.08, 0.12, 0.15, 0.2, 0.3), (0.025, 0.05, 0.07, 0.1)
# where initial biases are drawn, too: the rates and sizes about which all grids agree, and larger
# weights, for biases of which a sigmoid is flatter make the plateau longer
WITH_BIASES = tuple(product((0.08, 0.12, 0.15), (0.05, 0.07, 0.085, 0.1), (0.5, 1.0, 2.0)))

# What is trained to the end, by way and momentum: rate over 1 - momentum, deviations of weights and
# biases. Of each grid without momentum the setting of the least deviance (``studies.search``), of
# that with biases one for each size of them, and of momentum one grid, as it makes no difference.
SURVIVORS = {
    "grey": ((0.08, 0.07, 0.0),),
    "ink": ((0.12, 0.05, 0.0),),
    "threshold": ((0.12, 0.05, 0.0),),
    "once": ((0.2, 0.05, 0.0),),
    "drawn": ((0.15, 0.05, 0.0), (0.15, 0.05, 0.5), (0.12, 0.07, 1.0), (0.15, 0.07, 2.0)),
    "drawn-momentum-0.9": ((0.15, 0.05, 0.0),),
}


def _search() -> Iterator[Experiment]:
    """Which settings the paper used: what it leaves open, held against its Figure 1.

    All rates and sizes at every way to make pixels binary, with momentum and without.
    """
    for momentum, pixels in product((0.0, 0.9), binary.WAYS):
        grid = list(product(RATES, SIGMAS))
        recipe = search.SearchRecipe(
            pixels=pixels,
            momentum=momentum,
            # with momentum a step goes on: equal in the long run are equal rate / (1 - momentum)
            learning_rates=tuple(round(rate * (1 - momentum), 4) for rate, _ in grid),
            init_sigmas=tuple(sigma for _, sigma in grid),
        )
        label = f"{pixels}{f'-momentum-{momentum:g}' if momentum else ''}"
        purpose = "Section 4.1, Figure 1: which settings? A grid of them, at first"
        yield Experiment(f"mnist/figure-1-{label}", recipe, 1, purpose)
        if label == "drawn":
            rates, sigmas, biases = zip(*WITH_BIASES, strict=True)
            drawn = {"learning_rates": rates, "init_sigmas": sigmas, "bias_sigmas": biases}
            purpose = "Section 4.1, Figure 1(b): does its start ask for biases that are not zero?"
            yield Experiment("mnist/figure-1-drawn-biases", replace(recipe, **drawn), 1, purpose)
        if settings := SURVIVORS.get(label):
            purpose = (
                "Section 4.1, Figure 1: what the pixels, momentum and biases are worth, seeds 0-4"
            )
            repeated = [(*setting, seed) for setting in settings for seed in range(5)]
            rates, sigmas, biases, seeds = zip(*repeated, strict=True)
            ended = replace(
                recipe,
                learning_rates=tuple(round(rate * (1 - momentum), 4) for rate in rates),
                init_sigmas=sigmas,
                bias_sigmas=biases,
                seeds=seeds,
                steps=50_000,
            )
            yield Experiment(f"mnist/figure-1-end-{label}", ended, 1, purpose)


SHORT = 1050  # steps; as long as tells the changes of Section 4.2.1 apart

# For the network without batch normalization, chosen after seeing seed 0 of the sweep below:
# highest accuracy on the way at 0.01, at the end at 0.03, chance at 0.1. The means over three
# seeds, two of them trained later, are highest at 0.01 by either.
BASE_RATE = 0.01


def changes(base: InceptionRecipe) -> dict[str, dict]:
    """The seven changes of Section 4.2.1, in its order, as fields of a recipe; we named them."""
    return {
        "rate": {"learning_rate": 5 * base.learning_rate},
        "dropout": {"dropout": 0.0},
        "weight-decay": {"weight_decay": base.weight_decay / 5},
        "decay": {"decay_steps": base.decay_steps // 6},
        "lrn": {"lrn": False},
        "shuffle": {"shuffle": True},
        "light": {"light": base.light / 4},
    }


def networks(base: InceptionRecipe) -> dict[str, tuple[InceptionRecipe, str]]:
    """The networks of Section 4.2.2, each with a sentence; changed ones train half as long."""
    baseline = replace(base, norm="batch")
    fields = {field: value for change in changes(base).values() for field, value in change.items()}
    x5 = replace(baseline, **fields, steps=base.steps // 2)
    x30 = replace(x5, learning_rate=30 * base.learning_rate)
    sigmoid = replace(x5, activation="sigmoid")
    return {
        "inception": (base, "Section 4.2.2: the network without batch normalization"),
        "bn-baseline": (baseline, "Section 4.2.2: the same with it, and nothing else changed"),
        "bn-x5": (x5, "Section 4.2.2: all changes of Section 4.2.1, learning rate times 5"),
        "bn-x30": (x30, "Section 4.2.2: the same, rate times 30"),
        "bn-x5-sigmoid": (sigmoid, "Section 4.2.2: sigmoid instead of ReLU"),
    }


def _inception() -> Iterator[Experiment]:
    """Section 4.2 on small pictures: its networks, two mentioned in passing, what explains them."""
    base = InceptionRecipe(learning_rate=BASE_RATE)
    nets = networks(base)
    doubled = {field: 2 * getattr(base, field) for field in ("size", "steps", "decay_steps")}
    large = replace(base, **doubled)
    passing = {"x5": {"learning_rate": 5 * BASE_RATE}, "sigmoid": {"activation": "sigmoid"}}
    ending = f"-{large.size}px"
    for scale, suffix, note in ((base, "", ""), (large, ending, "; larger pictures, longer")):
        for label, (recipe, purpose) in networks(scale).items():
            yield Experiment(f"inception/{label}{suffix}", recipe, 3, purpose + note)
        for label, change in passing.items():
            recipe = replace(scale, **change, steps=scale.steps // 2)
            purpose = f"Section 4.2.2, in passing: without BN{note}"
            yield Experiment(f"inception/inception-{label}{suffix}", recipe, 3, purpose)
    for rate in (BASE_RATE * 0.3, BASE_RATE * 3):
        recipe = replace(large, learning_rate=rate, steps=3000)
        purpose = "whether the base rate is fair for larger pictures, too"
        yield Experiment(f"inception/inception{ending}-lr-{rate:g}", recipe, 3, purpose)
    x5, _ = nets["bn-x5"]
    for label, change in changes(base).items():
        # the rate falls with the step, not with the length, so BN-x5 passes here too
        recipe = replace(x5, **{field: getattr(base, field) for field in change}, steps=SHORT)
        purpose = "Section 4.2.1: BN-x5 with this change taken back"
        yield Experiment(f"inception/bn-x5-but-{label}", recipe, 3, purpose)
    without_bn = replace(x5, norm=None, steps=SHORT)
    controls = {
        "bn-x5-but-bn": without_bn,
        "bn-x5-but-bn-and-rate": replace(without_bn, learning_rate=base.learning_rate),
        "inception-light": replace(base, **changes(base)["light"], steps=SHORT),
    }
    for label, recipe in controls.items():
        purpose = "Section 4.2.1: what the changes are worth without BN"
        yield Experiment(f"inception/{label}", recipe, 3, purpose)
    sweeps = (("inception", (0.003, 0.01, 0.03, 0.1), 1500), ("bn-baseline", (0.1, 0.3, 1, 3), 600))
    for label, rates, steps in sweeps:
        for rate in rates:
            recipe = replace(nets[label][0], learning_rate=rate, decay_steps=3000, steps=steps)
            purpose = "which base rate is fair, which still trains"
            yield Experiment(f"inception/{label}-lr-{rate:g}", recipe, 3, purpose)


def _imagenet() -> Iterator[Experiment]:
    """Section 4.2 itself, for who has ImageNet and many GPUs; none of it is recorded here."""
    for label, (recipe, purpose) in networks(imagenet.ImagenetRecipe(steps=31_000_000)).items():
        yield Experiment(f"imagenet/{label}", recipe, 0, purpose)


def _after() -> Iterator[Experiment]:
    """What came after the paper."""
    for label, norm in (("with-bn", True), ("without-bn", False)):
        recipe = linear.LinearRecipe(norm=norm)
        purpose = "Santurkar et al. 2018: the 25-layer linear network"
        yield Experiment(f"after/linear-{label}", recipe, 3, purpose)
    for norm in ("batch", "group", "layer"):
        for size in (2, 4, 8, 16, 32):
            recipe = small_batches.SmallBatchRecipe(norm=norm, batch_size=size)
            purpose = "Wu and He 2018: accuracy against the size of the batch"
            yield Experiment(f"after/conv-{norm}-{size}", recipe, 3, purpose)
    for activation, depth, start in product(("relu", "sigmoid"), (3, 10), (1.0, 0.1)):
        recipe = centre_scale.CentreScaleRecipe(activation=activation, depth=depth, start=start)
        purpose = "Section 3: which part of it does it, the mean taken away or the scale"
        name = f"after/parts-{activation}-{depth}-start-{start:g}"
        yield Experiment(name, recipe, 3, purpose)


FAMILIES = (_mnist, _search, _inception, _imagenet, _after)
EXPERIMENTS: dict[str, Experiment] = {one.name: one for family in FAMILIES for one in family()}
ENSEMBLES = {"inception/bn-x30-ensemble": ("inception/bn-x30", 3)}  # members, how many seeds


# Who trains, by the name that a record gives: what its numbers depend on besides the recipe's class.
MAKERS: dict[str, Callable[[AnyRecipe], tuple]] = {
    "loop": lambda recipe: (task_of(recipe), tasks.curves_of),
    "bank": lambda recipe: (bank.Runs, tasks.curves_of),
}


def experiment(name: str) -> Experiment:
    """The experiment called `name`; KeyError with the list of names where there is none."""
    return _named("experiment", name, EXPERIMENTS)


def _named(what: str, name: str, known: dict) -> object:
    if name not in known:
        close = " or ".join(get_close_matches(name, known, n=3))
        meant = f"did you mean {close}? " if close else ""
        raise KeyError(f"no {what} {name!r}; {meant}`python -m bnkit list` shows all names")
    return known[name]


def recipe_of(name: str, seed: int) -> AnyRecipe:
    """The recipe of one run of the experiment `name`; KeyError as ``experiment``."""
    return replace(experiment(name).recipe, seed=seed)


def task_of(recipe: AnyRecipe) -> type[tasks.Task]:
    """The family that trains `recipe`."""
    return TASKS[type(recipe)]


def find_data(name: str) -> None:
    """Find or download the data of the experiment `name`; DataError where they cannot be had."""
    recipe = experiment(name).recipe
    task_of(recipe).load(recipe)


def cut(recipe: AnyRecipe, steps: int) -> AnyRecipe:
    """The first `steps` steps of `recipe`; all of it where a run is only made whole."""
    return recipe if task_of(recipe).WHOLE else replace(recipe, steps=min(steps, recipe.steps))


def maker_of(recipe: AnyRecipe) -> str:
    """Who makes the book's runs of such recipes: a name of ``MAKERS``."""
    return "bank" if isinstance(recipe, mnist.MLPRecipe) else "loop"


def arithmetic_of(recipe: AnyRecipe, made_by: str, device: str = "cpu") -> dict[str, str]:
    """Today's arithmetic for `recipe`, as a manifest has it (``bnkit.runs.arithmetic``)."""
    things = (*MAKERS[made_by](recipe), type(recipe))
    return arithmetic.made(made_by, *things, device=device)


# What one does with a run


def train(
    recipe: AnyRecipe, *, name: str = "live/run", device: str = "auto", source: str | None = None,
    checkpoint: Path | None = None, answers: Path | None = None,
    on_step: OnStep = lambda step: None,
) -> Record:  # fmt: skip
    """Train the network of `recipe` and return the run as a record; nothing is stored.

    `name` is that of the record; `device` "auto" (a GPU where there is one), "cpu" or "cuda";
    `source` the place of the data for recipes that name none of the book's. With `checkpoint`, a
    file name, the run is taken up where that file left it and kept there every minute; whoever has
    stored the run removes it. `answers` is a file for the class probabilities that the trained network
    gives the test examples, for ``ensemble``. `on_step` is told the number of steps done, now and
    then. A run that diverges ends early and says so in ``manifest["diverged_at"]``.

    Under ``torchrun`` all its processes train the one network together; the first of them keeps the
    checkpoint. What is only made whole is made on the CPU.
    """
    family, began = task_of(recipe), time.perf_counter()
    kept = Checkpoint(checkpoint, _digest(recipe)) if checkpoint else None
    with joined(_device("cpu" if family.WHOLE else device)) as (processes, place):
        task = family(recipe, place, source, processes)
        progress = task.train(kept, on_step)
        if answers and progress.diverged_at is None:
            _keep(answers, task)
        seconds = time.perf_counter() - began + (kept.earlier if kept else 0)
        about = {"processes": processes.size} if processes.size > 1 else {}
        about["device"] = torch.cuda.get_device_name(place) if place.type == "cuda" else "cpu"
        about["arithmetic"] = arithmetic_of(recipe, "loop", place.type)
    return _record(name, recipe, task.digest, progress, seconds, **about)


def train_together(
    recipes: Sequence[mnist.MLPRecipe], *, names: Sequence[str] = (),
    checkpoint: Path | None = None, on_step: OnStep = lambda step: None,
) -> list[Record]:  # fmt: skip
    """Train the networks of `recipes` side by side in this process, on the CPU, as ``train`` would.

    See ``bnkit.runs.bank``: the curves are those of ``train`` to rounding, and each record says in
    ``manifest["bank"]`` among how many networks it was made, and in which place; its wall time is
    its share. Raises BankError for recipes that cannot share a bank.
    """
    began = time.perf_counter()
    kept = Checkpoint(checkpoint, _digest(*recipes)) if checkpoint else None
    runs = bank.Runs(recipes)
    each = runs.train(checkpoint=kept, on_step=on_step)
    seconds = time.perf_counter() - began + (kept.earlier if kept else 0)
    about = {"device": "cpu", "arithmetic": arithmetic_of(recipes[0], "bank")}
    company = {
        place: {"networks": len(places), "place": column}
        for places, _ in runs.banks
        for column, place in enumerate(places)
    }
    names = names or ["live/run"] * len(recipes)
    return [
        _record(
            names[n], recipe, task.digest, each[n], seconds / len(recipes), **about, bank=company[n]
        )
        for n, (recipe, task) in enumerate(zip(recipes, runs.tasks, strict=True))
    ]


def _record(
    name: str, recipe: AnyRecipe, data_digest: str, progress: Progress, seconds: float,
    **about: object,
) -> Record:  # fmt: skip
    """What became of a run, and what it was made with."""
    manifest = records.manifest(
        data_digest=data_digest,
        wall_seconds=round(seconds, 1),
        diverged_at=progress.diverged_at,
        checksums=progress.checksums,
        **about,
    )
    curves = tasks.curves_of(progress, task_of(recipe).MEANING)
    return Record(*name.split("/"), recipe.seed, recipe.as_dict(), manifest, curves)


def _device(name: str) -> torch.device:
    gpu = torch.cuda.is_available()
    if name == "cuda" and not gpu:
        raise DeviceError
    return torch.device(name if name != "auto" else "cuda" if gpu else "cpu")


def run(
    name: str, seed: int, *, steps: int | None = None, device: str = "auto",
    source: str | None = None, on_step: OnStep = lambda step: None,
) -> tuple[Record, Path | None]:  # fmt: skip
    """Make one recorded run and store it; return it and where it lies.

    With `steps` or a seed that the experiment does not have the run is another one: it is stored in
    the cache, where no page reads it, and so is a run on data that are not the book's. Raises
    DataError for a `source` that would not be used, RecordError for a part of what is only made
    whole and for a folder that nothing can be written to, DeviceError where there is no such device.
    """
    recipe, cache = recipe_of(name, seed), paths.cache()
    family = task_of(recipe)
    if family.WHOLE and (steps is not None or source is not None or device == "cuda"):
        raise RecordError(f"{name} is made whole and on the CPU: leave out the options")
    if source is not None and not family.TAKES_SOURCE:
        takers = (one.name for one in EXPERIMENTS.values() if task_of(one.recipe).TAKES_SOURCE)
        groups = sorted({f"{taker.split('/')[0]}/..." for taker in takers})
        only = f"data of your own are for {', '.join(groups)} only"
        raise datasets.DataError(f"{name} trains on {recipe.dataset}; {only}")
    folder = None
    if steps is not None and steps != recipe.steps:
        recipe = replace(recipe, steps=steps)
        folder = cache / "runs" / f"{steps}-steps"
    elif source is not None:
        folder = cache / "runs" / "own-data"
    elif seed >= experiment(name).seeds:
        folder = cache / "runs" / "other-seeds"
    if first():
        records.make_room(folder)  # now, not when hours of work have nowhere to go
    asked = any(name == members for members, _ in ENSEMBLES.values())
    files = {
        "checkpoint": cache / "checkpoints" / name / f"seed-{seed}-{_digest(recipe)}.npz",
        "answers": _answers(name, recipe) if asked else None,
    }
    record = train(recipe, name=name, device=device, source=source, on_step=on_step, **files)
    if not first():
        return record, None
    path = records.save(record, folder)
    files["checkpoint"].unlink(missing_ok=True)  # only now: a record that is not stored is no loss
    return record, path


def run_together(
    members: Sequence[tuple[str, int]], on_step: OnStep = lambda step: None
) -> list[Record]:
    """Make recorded runs, by name and seed, in one bank, and store them; raises as ``run``."""
    if not members:
        return []
    recipes = [recipe_of(name, seed) for name, seed in members]
    records.make_room()
    checkpoint = paths.cache() / "checkpoints" / "banks" / f"{_digest(*recipes)}.npz"
    names = [name for name, _ in members]
    made = train_together(recipes, names=names, checkpoint=checkpoint, on_step=on_step)
    for record in made:
        records.save(record)
    checkpoint.unlink(missing_ok=True)  # only now: records that are not stored are no loss
    return made


def registered(name: str, seed: int) -> dict | None:
    """The recipe of the book's run `name` with this seed; None where the book has no such run."""
    if name in ENSEMBLES:
        return _of(name) if seed == 0 else None
    known = name in EXPERIMENTS and seed < EXPERIMENTS[name].seeds
    return recipe_of(name, seed).as_dict() if known else None


def recorded(beginning: str = "") -> list[tuple[str, int]]:
    """Name and seed of the book's runs that lie there, by the names of their files alone."""
    there = [("/".join(name), seed) for *name, seed in records.index()]
    return [run for run in there if run[0].startswith(beginning) and registered(*run) is not None]


def load(name: str, seed: int) -> Record:
    """The book's run `name` with this seed. RecordError for any other, or of another recipe."""
    if (wanted := registered(name, seed)) is None:
        raise RecordError(f"the book has no run {name} with seed {seed}{_instead(name)}")
    record = records.load(*name.split("/"), seed)
    if record.recipe != wanted:
        differs = sorted(k for k in record.recipe | wanted if record.recipe.get(k) != wanted.get(k))
        problem = "was recorded for another recipe than today's, which differs in"
        raise RecordError(
            f"{record.name} {problem} {', '.join(differs)}. Make it again: {_again(name, seed)}"
        )
    return record


def load_all(name: str) -> list[Record]:
    """The book's runs of `name` that lie there, by rising seed.

    Raises RecordError where there is none, or where one is damaged or of another recipe.
    """
    seeds = [seed for run, seed in recorded(name) if run == name]
    return [load(name, seed) for seed in seeds or [0]]  # "seed-0 is missing"


def is_of_today(record: Record) -> bool:
    """Whether a run of the book says that the arithmetic made it that would make it today."""
    name = f"{record.experiment}/{record.variant}"
    recipe = experiment(ENSEMBLES[name][0] if name in ENSEMBLES else name).recipe
    return is_made_as_today(record, recipe)


def is_made_as_today(record: Record, recipe: AnyRecipe) -> bool:
    """Whether a run of `recipe` says that the arithmetic made it that would make it today."""
    made = record.manifest.get("arithmetic") or {}
    if made.get("made_by") not in MAKERS:
        return False  # older than this note, or made by what is gone
    device = "cpu" if record.manifest.get("device", "cpu") == "cpu" else "cuda"
    return made == arithmetic_of(recipe, made["made_by"], device)


def missing() -> list[tuple[str, int]]:
    """Name and seed of every run of the book that is not recorded, or for another recipe."""
    wanted = [(one.name, seed) for one in EXPERIMENTS.values() for seed in range(one.seeds)]
    return [(name, seed) for name, seed in wanted if not _lies_there(name, seed)]


def _lies_there(name: str, seed: int) -> bool:
    try:
        load(name, seed)
    except RecordError:
        return False
    return True


def _instead(name: str) -> str:
    if name in EXPERIMENTS and (seeds := EXPERIMENTS[name].seeds):
        return f"; it is recorded with the seeds 0 to {seeds - 1}"
    return "; `list` shows what it has"


def _again(name: str, seed: int) -> str:
    command = f"ensemble {name}" if name in ENSEMBLES else f"run {name} --seed {seed}"
    return f"python -m bnkit {command}"


def verify(name: str, seed: int, steps: int, on_step: OnStep = lambda step: None) -> Verdict:
    """Train the first `steps` steps of a recorded run again, on the CPU; compare with the record.

    Runs that are only made whole are made whole. Raises KeyError where there is no such experiment,
    RecordError where the book has no such run.
    """
    recipe, made = recipe_of(name, seed), load(name, seed)
    torch.set_num_threads(made.manifest["platform"].get("threads", 1))
    if company := made.manifest.get("bank"):
        # In its old place among copies of itself: an operator that works on sixteen numbers at a
        # time has another rounding for those left over, and which these are depends on the place.
        copies = [cut(recipe, steps)] * company["networks"]
        fresh = train_together(copies, on_step=on_step)[company["place"]]
    else:
        fresh = train(cut(recipe, steps), device="cpu", on_step=on_step)
    return judge(made, fresh)


def outcome(record: Record) -> str:
    """How a run ended, in words."""
    name = "test_accuracy" if "test_accuracy" in record.curves else "loss"
    steps, values = record.curve(name)
    lost, what = record.manifest.get("diverged_at"), name.replace("_", " ")
    ended = f"diverged at step {lost:,}; " if lost else ""
    up_to = "up to " if values.ndim > 1 else ""  # of many networks
    last = f"{up_to}{np.max(values[-1]):.4f}"
    return f"{record.name}: {ended}{what} {last} after {steps[-1]:,} steps"


def _digest(*recipes: AnyRecipe) -> str:
    plain = [recipe.as_dict() for recipe in recipes]
    text = json.dumps(plain if len(plain) > 1 else plain[0], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


# Several networks that answer together


def ensemble(name: str) -> tuple[Record, Path]:
    """Record how accurate the averaged class probabilities of several networks are (Section 4.2.3).

    The members' answers are in the cache since they were trained; raises RecordError where one is
    not. The curve `test_accuracy` counts members, not steps: the mean over all choices of so many.
    """
    of, seeds = _named("ensemble", name, ENSEMBLES)
    members = [_answered(of, seed) for seed in range(seeds)]
    labels = members[0]["labels"]
    means = []
    for count in range(1, seeds + 1):
        choices = combinations([member["probabilities"] for member in members], count)
        chosen = [np.mean(choice, axis=0) for choice in choices]
        means.append(float(np.mean([(p.argmax(1) == labels).mean() for p in chosen])))
    curve = {
        "steps": list(range(1, seeds + 1)),
        "values": records.round_to(means, 6),
        "what": "share of validation pictures that the averaged probabilities classify "
        "correctly, by number of members",
    }
    made = arithmetic_of(experiment(of).recipe, "loop")  # that of the members
    manifest, curves = records.manifest(arithmetic=made), {"test_accuracy": curve}
    record = Record(*name.split("/"), 0, _of(name), manifest, curves)
    return record, records.save(record)


def _of(name: str) -> dict:
    """What an ensemble is made of: its recipe."""
    of, seeds = ENSEMBLES[name]
    return {"members": of, "seeds": list(range(seeds)), "recipe": experiment(of).recipe.as_dict()}


def _answers(name: str, recipe: AnyRecipe) -> Path:
    return paths.cache() / "answers" / name / f"seed-{recipe.seed}-{_digest(recipe)}.npz"


def _answered(name: str, seed: int) -> dict[str, np.ndarray]:
    """Probabilities (t, classes) and labels (t,) that one member of an ensemble left."""
    kept = checkpoints.load(_answers(name, recipe_of(name, seed)))
    if kept is None:
        again = f"Train it again: python -m bnkit run {name} --seed {seed}"
        raise RecordError(f"the answers of {name} seed {seed} are not in the cache. {again}")
    return kept[0]


def _keep(path: Path, task: tasks.Answers) -> None:
    with probes.inference(task.model, task.population()):
        probabilities = task.probabilities(task.model).cpu().numpy()
    labels = task.test_labels.cpu().numpy()
    checkpoints.save(path, {"probabilities": probabilities, "labels": labels}, {})
