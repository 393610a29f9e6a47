"""Every named run of the book, with its place in the paper, and the four things one does with it.

``train`` makes a run from a recipe, ``run`` makes and stores a recorded one, ``missing`` lists what is not recorded
yet, ``verify`` trains the first steps of a recorded run again and compares.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from bnkit import checkpoints, paths, records
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


BASE_RATE = 0.01  # the best of _sweep for the network without batch normalization


def _inception() -> Iterator[Experiment]:
    """Section 4.2: the five networks of Section 4.2.2 and the two that it mentions in passing."""
    base = InceptionRecipe(learning_rate=BASE_RATE)
    baseline = replace(base, norm="batch")
    x5 = replace(
        baseline,
        learning_rate=5 * BASE_RATE,
        dropout=0.0,
        weight_decay=base.weight_decay / 5,
        decay_steps=base.decay_steps // 6,
        lrn=False,
        shuffle=True,
        light=base.light / 4,
        steps=base.steps // 2,
    )
    yield Experiment("inception/inception", base, 3, "Section 4.2.2: the network without batch normalization")
    yield Experiment("inception/bn-baseline", baseline, 3, "Section 4.2.2: the same with it, and nothing else changed")
    yield Experiment("inception/bn-x5", x5, 3, "Section 4.2.2: all changes of Section 4.2.1, learning rate times 5")
    x30 = replace(x5, learning_rate=30 * BASE_RATE)
    yield Experiment("inception/bn-x30", x30, 3, "Section 4.2.2: the same, learning rate times 30")
    sigmoid = replace(x5, activation="sigmoid")
    yield Experiment("inception/bn-x5-sigmoid", sigmoid, 3, "Section 4.2.2: sigmoid instead of ReLU")


def _sweep() -> Iterator[Experiment]:
    """The learning rate that is fair to the network without batch normalization."""
    for rate in (0.003, 0.01, 0.03, 0.1):
        recipe = InceptionRecipe(learning_rate=rate, steps=1500)
        yield Experiment(f"inception/inception-lr-{rate:g}", recipe, 1, "which base learning rate is fair")


EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment for family in (_mnist, _inception, _sweep) for experiment in family()
}


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
    on_step: Callable[[int], None] = lambda step: None,
) -> records.Record:
    """Train the network of `recipe` and return the run as a record; nothing is stored.

    `device` is "auto" (a GPU where there is one), "cpu" or "cuda". With `checkpoint`, a file name, the run is taken up
    where that file left it and kept there every minute; the file is removed at the end. `on_step` is told the
    number of steps done, now and then. A run that diverges ends early and says so in ``manifest["diverged_at"]``.
    """
    began = time.perf_counter()
    place = torch.device(device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu")
    task = TASKS[type(recipe)](recipe, place)
    optimiser = sgd(task.model, recipe)
    progress, checksums = Progress(), {}
    key = _digest(recipe)
    if checkpoint and (found := checkpoints.load(checkpoint)) and found[1]["recipe"] == key:
        restore(task.model, optimiser, found[0])
        progress, checksums = Progress(**found[1]["progress"]), found[1]["checksums"]

    saved = time.monotonic()

    def pause(progress: Progress) -> None:
        nonlocal saved
        on_step(progress.step)
        if checkpoint and time.monotonic() - saved >= CHECKPOINT_SECONDS and progress.step < recipe.steps:
            facts = {"recipe": key, "progress": vars(progress), "checksums": checksums}
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
    progress.curves["loss"]["values"] = records.round_to(progress.curves["loss"]["values"], 6)
    if checkpoint:
        checkpoint.unlink(missing_ok=True)
    manifest = records.manifest(
        device=torch.cuda.get_device_name(place) if place.type == "cuda" else "cpu",
        data_digest=task.digest,
        wall_seconds=round(time.perf_counter() - began, 1),
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
    record = train(
        recipe,
        experiment=group,
        variant=variant,
        device=device,
        checkpoint=paths.cache() / "checkpoints" / group / variant / f"seed-{seed}-{_digest(recipe)}.npz",
        on_step=on_step,
    )
    return record, records.save(record, folder)


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
