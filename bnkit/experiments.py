"""Every named run of the book, with its place in the paper, and the four things one does with it.

``train`` makes a run from a recipe, ``run`` makes and stores a recorded one, ``missing`` lists what is not recorded
yet, ``verify`` trains the first steps of a recorded run again and compares.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import torch

from bnkit import checkpoints, paths, probes, records
from bnkit.tasks import inception, mnist
from bnkit.tasks.inception import InceptionRecipe
from bnkit.tasks.mnist import MLPRecipe
from bnkit.training import Progress, Recipe, fit, restore, sgd, state_arrays

TASKS = {MLPRecipe: mnist.Task, InceptionRecipe: inception.Task}
CHECKPOINT_SECONDS = 60  # what a kill costs at most
OTHER_PLATFORM = 0.02  # see verify


@dataclass(frozen=True)
class Experiment:
    """A named run of the book: what it is for, and how often it is repeated."""

    name: str  # "mnist/with-bn": experiment and variant
    recipe: Recipe
    seeds: int  # recorded repetitions, seeds 0 to seeds - 1
    purpose: str  # one line, with the place in the paper


def _mnist() -> Iterator[Experiment]:
    """Section 4.1. The paper gives neither learning rate nor standard deviation of the initial weights."""
    base = MLPRecipe(dataset="mnist")
    for label, norm in (("with-bn", "batch"), ("without-bn", None)):
        net = replace(base, norm=norm)
        yield Experiment(f"mnist/{label}", net, 5, "Section 4.1, Figure 1: the main pair")
        for rate in (0.5, 2.0, 5.0):
            name = f"mnist/{label}-lr-{rate:g}"
            yield Experiment(name, replace(net, learning_rate=rate), 3, "control for Figure 1: another learning rate")
        for sigma in (0.01, 0.1, 1.0):
            for rate in (0.1, 2.0):
                name = f"mnist/{label}-sigma-{sigma:g}-lr-{rate:g}"
                recipe = replace(net, init_sigma=sigma, learning_rate=rate, steps=10_000)
                yield Experiment(name, recipe, 3, "control for the abstract's 'less careful about initialization'")


BASE_RATE = 0.01  # the best of the sweep below for the network without batch normalization


def _inception() -> Iterator[Experiment]:
    """Section 4.2: the five networks of Section 4.2.2, the two it mentions in passing, and what explains them."""
    base = InceptionRecipe(learning_rate=BASE_RATE)
    baseline = replace(base, norm="batch")
    changes = {  # the seven of Section 4.2.1, in its order
        "rate": {"learning_rate": 5 * BASE_RATE},
        "dropout": {"dropout": 0.0},
        "weight-decay": {"weight_decay": base.weight_decay / 5},
        "decay": {"decay_steps": base.decay_steps // 6},
        "lrn": {"lrn": False},
        "shuffle": {"shuffle": True},
        "light": {"light": base.light / 4},
    }
    shorter = {"steps": base.steps // 2}
    x5 = replace(baseline, **{name: value for change in changes.values() for name, value in change.items()}, **shorter)
    yield Experiment("inception/inception", base, 3, "Section 4.2.2: the network without batch normalization")
    yield Experiment("inception/bn-baseline", baseline, 3, "Section 4.2.2: the same with it, and nothing else changed")
    yield Experiment("inception/bn-x5", x5, 3, "Section 4.2.2: all changes of Section 4.2.1, learning rate times 5")
    x30 = replace(x5, learning_rate=30 * BASE_RATE)
    yield Experiment("inception/bn-x30", x30, 3, "Section 4.2.2: the same, learning rate times 30")
    sigmoid = {"activation": "sigmoid"}
    yield Experiment("inception/bn-x5-sigmoid", replace(x5, **sigmoid), 3, "Section 4.2.2: sigmoid instead of ReLU")
    plain_x5 = replace(base, learning_rate=5 * BASE_RATE, **shorter)
    yield Experiment("inception/inception-x5", plain_x5, 3, "Section 4.2.2, in passing: Inception at 5 times its rate")
    plain_sigmoid = replace(base, **sigmoid, **shorter)
    yield Experiment("inception/inception-sigmoid", plain_sigmoid, 3, "Section 4.2.2, in passing: Inception, sigmoid")
    for name, change in changes.items():
        recipe = replace(x5, **{field: getattr(base, field) for field in change})
        yield Experiment(f"inception/bn-x5-but-{name}", recipe, 1, "Section 4.2.1: BN-x5 with this change taken back")
    for label, net, rates in (
        ("inception", base, (0.003, 0.01, 0.03, 0.1)),
        ("bn-baseline", baseline, (0.1, 0.3, 1, 3)),
    ):
        for rate in rates:
            recipe = replace(net, learning_rate=rate, decay_steps=3000, steps=1500)
            yield Experiment(f"inception/{label}-lr-{rate:g}", recipe, 1, "which base rate is fair, which still trains")


EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment for family in (_mnist, _inception) for experiment in family()
}


ENSEMBLES = {"inception/bn-x30-ensemble": ("inception/bn-x30", 3)}  # name -> members, and how many seeds of them


def experiment(name: str) -> Experiment:
    """The experiment called `name`; KeyError with the list of names where there is none."""
    try:
        return EXPERIMENTS[name]
    except KeyError:
        raise KeyError(f"no experiment {name!r}; there are: {', '.join(EXPERIMENTS)}") from None


def find_data(name: str) -> None:
    """Find or download the data of the experiment `name`; raises ``datasets.DataError`` where it cannot be had."""
    recipe = experiment(name).recipe
    TASKS[type(recipe)].load(recipe)


# The four things one does with a run


def train(
    recipe: Recipe,
    *,
    experiment: str = "live",
    variant: str = "run",
    device: str = "auto",
    checkpoint: Path | None = None,
    answers: Path | None = None,
    on_step: Callable[[int], None] = lambda step: None,
) -> records.Record:
    """Train the network of `recipe` and return the run as a record; nothing is stored.

    `device` is "auto" (a GPU where there is one), "cpu" or "cuda". With `checkpoint`, a file name, the run is taken up
    where that file left it and kept there every minute; the file is removed at the end. `answers` is a file for the
    class probabilities that the trained network gives the test examples, for ``ensemble``. `on_step` is told the number
    of steps done, now and then. A run that diverges ends early and says so in ``manifest["diverged_at"]``.
    """
    began = time.perf_counter()
    place = torch.device(device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu")
    task = TASKS[type(recipe)](recipe, place)
    optimiser = sgd(task.model, recipe)
    progress, checksums, earlier = Progress(), {}, 0.0
    key = _digest(recipe)
    if checkpoint and (found := checkpoints.load(checkpoint)) and found[1]["recipe"] == key:
        restore(task.model, optimiser, found[0])
        progress, checksums = Progress(**found[1]["progress"]), found[1]["checksums"]
        earlier = found[1]["seconds"]

    saved = time.monotonic()

    def pause(progress: Progress) -> None:
        nonlocal saved
        on_step(progress.step)
        if checkpoint and time.monotonic() - saved >= CHECKPOINT_SECONDS and progress.step < recipe.steps:
            seconds = earlier + time.perf_counter() - began
            facts = {"recipe": key, "progress": vars(progress), "checksums": checksums, "seconds": seconds}
            checkpoints.save(checkpoint, state_arrays(task.model, optimiser), facts)
            saved = time.monotonic()

    fit(
        task.model,
        task.batches(progress.step),
        recipe,
        task.watches(checksums),
        optimiser=optimiser,
        progress=progress,
        loss_of=task.loss,
        pause_every=task.PAUSE_EVERY,
        on_pause=pause,
    )
    for name, curve in progress.curves.items():
        curve["what"] = task.MEANING[name]
    if loss := progress.curves.get("loss"):  # a run may diverge before the first entry
        loss["values"] = records.round_to(loss["values"], 6)
    if answers and progress.diverged_at is None:
        _keep(answers, task)
    if checkpoint:
        checkpoint.unlink(missing_ok=True)
    manifest = records.manifest(
        device=torch.cuda.get_device_name(place) if place.type == "cuda" else "cpu",
        data_digest=task.digest,
        wall_seconds=round(earlier + time.perf_counter() - began, 1),
        diverged_at=progress.diverged_at,
        checksums=checksums,
    )
    return records.Record(experiment, variant, recipe.seed, recipe.as_dict(), manifest, progress.curves)


def run(
    name: str,
    seed: int,
    *,
    steps: int | None = None,
    device: str = "auto",
    on_step: Callable[[int], None] = lambda step: None,
) -> tuple[records.Record, Path]:
    """Make one recorded run and store it; return it and where it lies.

    With `steps` other than the experiment's own the run is another one: it is stored in the cache, beside nothing.
    """
    recipe = replace(experiment(name).recipe, seed=seed)
    folder = None
    if steps is not None and steps != recipe.steps:
        recipe = replace(recipe, steps=steps)
        folder = paths.cache() / "runs" / f"{steps}-steps"
    group, variant = name.split("/")
    asked = any(name == of for of, _ in ENSEMBLES.values())
    record = train(
        recipe,
        experiment=group,
        variant=variant,
        device=device,
        checkpoint=paths.cache() / "checkpoints" / group / variant / f"seed-{seed}-{_digest(recipe)}.npz",
        answers=_answers(name, recipe) if asked else None,
        on_step=on_step,
    )
    return record, records.save(record, folder)


def ensemble(name: str) -> tuple[records.Record, Path]:
    """Record how accurate the averaged class probabilities of the members of an ensemble are (Section 4.2.3).

    The members' answers are in the cache since they were trained; raises ``records.RecordError`` where one is not. The
    curve `test_accuracy` counts members, not steps: the mean over all choices of so many of them.
    """
    try:
        of, seeds = ENSEMBLES[name]
    except KeyError:
        raise KeyError(f"no ensemble {name!r}; there are: {', '.join(ENSEMBLES)}") from None
    members, labels = [], None
    for seed in range(seeds):
        kept = checkpoints.load(_answers(of, replace(experiment(of).recipe, seed=seed)))
        if kept is None:
            again = f"python -m bnkit run {of} --seed {seed}"
            raise records.RecordError(f"the answers of {of} seed {seed} are not in the cache. Train it again: {again}")
        members.append(kept[0]["probabilities"])
        labels = kept[0]["labels"]
    means = []
    for count in range(1, seeds + 1):
        chosen = [np.mean(choice, axis=0) for choice in combinations(members, count)]
        means.append(float(np.mean([(p.argmax(1) == labels).mean() for p in chosen])))
    group, variant = name.split("/")
    curve = {
        "steps": list(range(1, seeds + 1)),
        "values": records.round_to(means, 6),
        "what": "share of validation pictures that the averaged probabilities classify correctly, by number of members",
    }
    record = records.Record(group, variant, 0, _of(name), records.manifest(), {"test_accuracy": curve})
    return record, records.save(record)


def _of(name: str) -> dict:
    """What an ensemble is made of: its recipe."""
    of, seeds = ENSEMBLES[name]
    return {"members": of, "seeds": list(range(seeds)), "recipe": experiment(of).recipe.as_dict()}


def _answers(name: str, recipe: Recipe) -> Path:
    return paths.cache() / "answers" / name / f"seed-{recipe.seed}-{_digest(recipe)}.npz"


def _keep(path: Path, task: object) -> None:
    with probes.inference(task.model, task.population()):
        probabilities = task.probabilities(task.model).cpu().numpy()
    checkpoints.save(path, {"probabilities": probabilities, "labels": task.test_labels.cpu().numpy()}, {})


def missing() -> list[tuple[str, int]]:
    """Name and seed of every run that belongs to the book and is not recorded, or recorded for another recipe."""
    wanted = [(one.name, seed) for one in EXPERIMENTS.values() for seed in range(one.seeds)]
    return [(name, seed) for name, seed in wanted if not _recorded(name, seed)]


def _recorded(name: str, seed: int) -> bool:
    try:
        recorded = records.load(*name.split("/"), seed)
    except records.RecordError:
        return False
    return recorded.recipe == replace(experiment(name).recipe, seed=seed).as_dict()


def verify(
    name: str, seed: int, steps: int, *, on_step: Callable[[int], None] = lambda step: None
) -> tuple[records.Comparison, bool, float]:
    """Train the first `steps` steps of a recorded run again, on the CPU, and compare with the record.

    Returns the comparison, whether this is the platform of the record, and the tolerance applied. On the same platform
    (``records.platform_key``) every number must be equal and the weights equal bit for bit. Elsewhere rounding differs
    and training amplifies it: accuracies and percentiles may differ by 0.02 in their own units.
    """
    recorded = records.load(*name.split("/"), seed)
    torch.set_num_threads(recorded.manifest["platform"].get("threads", 1))
    recipe = replace(experiment(name).recipe, seed=seed)
    if recorded.recipe != recipe.as_dict():
        raise records.RecordError(f"{name} seed {seed} was recorded for another recipe than today's; run it again")
    fresh = train(replace(recipe, steps=min(steps, recipe.steps)), device="cpu", on_step=on_step)
    # the last entries of a shorter run fall where the recorded one may have none: compare what both have
    same = records.platform_key(recorded.manifest) == records.platform_key(fresh.manifest)
    tolerance = 0.0 if same else OTHER_PLATFORM
    comparison = records.compare(recorded, fresh, tolerance)
    if same:
        ours, theirs = fresh.manifest["checksums"], recorded.manifest["checksums"]
        equal = all(ours[step] == theirs[step] for step in ours.keys() & theirs.keys())
        comparison = comparison._replace(ok=comparison.ok and equal)
    return comparison, same, tolerance


def _digest(recipe: Recipe) -> str:
    return hashlib.sha256(json.dumps(recipe.as_dict(), sort_keys=True).encode()).hexdigest()[:12]
