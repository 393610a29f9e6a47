"""Every named run of the book, with its place in the paper, and the four things one does with it.

``train`` makes a run from a recipe, ``run`` makes and stores a recorded one, ``missing`` lists what
is not recorded yet, ``verify`` trains the first steps of a recorded run again and compares.
"""

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations, product
from pathlib import Path

import numpy as np
import torch

from bnkit import datasets, paths
from bnkit.runs import DeviceError, checkpoints, probes, records, tasks
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
    small_batches,
)
from bnkit.runs.tasks.inception import InceptionRecipe
from bnkit.runs.training import AnyRecipe
from bnkit.runs.verification import Verdict, judge

TASKS: dict[type[AnyRecipe], type[tasks.Task]] = {
    mnist.MLPRecipe: mnist.Task,
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


def _mnist() -> Iterator[Experiment]:
    """Section 4.1. The paper gives neither learning rate nor size of the initial weights."""
    base = mnist.MLPRecipe(dataset="mnist")
    for label, norm in (("with-bn", "batch"), ("without-bn", None)):
        net = replace(base, norm=norm)
        yield Experiment(f"mnist/{label}", net, 5, "Section 4.1, Figure 1: the main pair")
        for rate in (0.5, 2.0, 5.0):
            purpose = "control for Figure 1: another learning rate"
            recipe = replace(net, learning_rate=rate)
            yield Experiment(f"mnist/{label}-lr-{rate:g}", recipe, 3, purpose)
        purpose = "control for the abstract's 'less careful about initialization'"
        for sigma, rate in product((0.01, 0.1, 1.0), (0.1, 2.0)):
            recipe = replace(net, init_sigma=sigma, learning_rate=rate, steps=10_000)
            yield Experiment(f"mnist/{label}-sigma-{sigma:g}-lr-{rate:g}", recipe, 3, purpose)


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


FAMILIES = (_mnist, _inception, _imagenet, _after)
EXPERIMENTS: dict[str, Experiment] = {one.name: one for family in FAMILIES for one in family()}
ENSEMBLES = {"inception/bn-x30-ensemble": ("inception/bn-x30", 3)}  # members, how many seeds


def experiment(name: str) -> Experiment:
    """The experiment called `name`; KeyError with the list of names where there is none."""
    return _named("experiment", name, EXPERIMENTS)


def _named(what: str, name: str, known: dict) -> object:
    if name not in known:
        raise KeyError(f"no {what} {name!r}; there are: {', '.join(known)}")
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


# The four things one does with a run


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
        manifest = records.manifest(
            device=torch.cuda.get_device_name(place) if place.type == "cuda" else "cpu",
            data_digest=task.digest,
            wall_seconds=round(seconds, 1),
            diverged_at=progress.diverged_at,
            checksums=progress.checksums,
            **({"processes": processes.size} if processes.size > 1 else {}),
        )
    curves = {what: {**c, "what": task.MEANING[what]} for what, c in progress.curves.items()}
    if "loss" in curves:  # a run may diverge before the first entry
        curves["loss"]["values"] = records.round_to(curves["loss"]["values"], 6)
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


def missing() -> list[tuple[str, int]]:
    """Name and seed of every run of the book that is not recorded, or for another recipe."""
    wanted = [(one.name, seed) for one in EXPERIMENTS.values() for seed in range(one.seeds)]
    return [(name, seed) for name, seed in wanted if not _recorded(name, seed)]


def _recorded(name: str, seed: int) -> bool:
    try:
        recorded = records.load(*name.split("/"), seed)
    except RecordError:
        return False
    return recorded.recipe == recipe_of(name, seed).as_dict()


def verify(name: str, seed: int, steps: int, on_step: OnStep = lambda step: None) -> Verdict:
    """Train the first `steps` steps of a recorded run again, on the CPU; compare with the record.

    Runs that are only made whole are made whole. Raises RecordError where there is no such record.
    """
    if seed >= (seeds := experiment(name).seeds) > 0:
        raise RecordError(f"{name} is recorded with the seeds 0 to {seeds - 1}, not with {seed}")
    recorded, recipe = records.load(*name.split("/"), seed), recipe_of(name, seed)
    torch.set_num_threads(recorded.manifest["platform"].get("threads", 1))
    if recorded.recipe != recipe.as_dict():
        problem = "was recorded for another recipe than today's; run it again"
        raise RecordError(f"{name} seed {seed} {problem}")
    return judge(recorded, train(cut(recipe, steps), device="cpu", on_step=on_step))


def outcome(record: Record) -> str:
    """How a run ended, in words."""
    name = "test_accuracy" if "test_accuracy" in record.curves else "loss"
    steps, values = record.curve(name)
    lost, what = record.manifest.get("diverged_at"), name.replace("_", " ")
    ended = f"diverged at step {lost:,}; " if lost else ""
    return f"{record.name}: {ended}{what} {values[-1]:.4f} after {steps[-1]:,} steps"


def _digest(recipe: AnyRecipe) -> str:
    return hashlib.sha256(json.dumps(recipe.as_dict(), sort_keys=True).encode()).hexdigest()[:12]


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
    manifest, curves = records.manifest(), {"test_accuracy": curve}
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
