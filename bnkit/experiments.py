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

import numpy as np
import torch
from torch import Tensor, nn

from bnkit import checkpoints, datasets, paths, probes, records
from bnkit.layers import BatchNorm
from bnkit.mlp import MLP
from bnkit.training import Progress, Recipe, Watch, fit, restore, sgd, state_arrays

CHECKPOINT_EVERY = 5000  # steps: what a kill costs at most
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
    base = Recipe(dataset="mnist")
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


EXPERIMENTS: dict[str, Experiment] = {experiment.name: experiment for experiment in _mnist()}


def experiment(name: str) -> Experiment:
    """The experiment called `name`; KeyError with the list of names where there is none."""
    try:
        return EXPERIMENTS[name]
    except KeyError:
        raise KeyError(f"no experiment {name!r}; there are: {', '.join(EXPERIMENTS)}") from None


# From a recipe to a network, its data and its probes


def build(recipe: Recipe, inputs: int, classes: int) -> nn.Module:
    """The network of `recipe`, freshly initialised from its seed."""
    norms: dict[str | None, Callable[[int], nn.Module] | None] = {
        None: None,
        "batch": lambda features: BatchNorm(features, eps=recipe.eps),
    }
    return MLP(
        inputs,
        recipe.hidden,
        classes,
        norm=norms[recipe.norm],
        activation=recipe.activation,
        init_sigma=recipe.init_sigma,
        generator=torch.Generator().manual_seed(recipe.seed),
    )


def landmarks(steps: int) -> frozenset[int]:
    """Steps at which accuracy and loss are taken: dense where curves bend, every 1,000 later; always first and last."""
    grid = [*range(0, 500, 100), *range(500, 10_000, 500), *range(10_000, steps, 1000)]
    return frozenset(step for step in grid if step < steps) | {steps}


def sparse_landmarks(steps: int) -> frozenset[int]:
    """Steps at which whole layers are described: fewer, as a record keeps three numbers for each of 100 units."""
    grid = [0, 100, 500, 1000, 1500, 2000, 2500, *range(3000, 10_000, 1000), *range(10_000, steps, 2500)]
    return frozenset(step for step in grid if step < steps) | {steps}


class _Data:
    """A data set on the device: pictures binary, as Section 4.1 has them, and indexed in the recipe's order."""

    def __init__(self, recipe: Recipe, device: torch.device):
        self.set = datasets.load(recipe.dataset)
        self.classes = len(self.set.classes)
        self.train, self.train_labels = self._tensors(self.set.train_images, self.set.train_labels, device)
        self.test, self.test_labels = self._tensors(self.set.test_images, self.set.test_labels, device)
        self.test = self.test.float()
        self.recipe = recipe

    def _tensors(self, images: np.ndarray, labels: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
        pixels = datasets.binarise(images, self.set.white)
        return torch.from_numpy(pixels).to(device), torch.from_numpy(labels).to(device)

    def batches(self, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        recipe = self.recipe
        for index in datasets.batches(len(self.train), recipe.batch_size, recipe.seed, start):
            chosen = torch.from_numpy(index).to(self.train.device)
            # index_select copies rows whole, several times faster than self.train[chosen]
            yield self.train.index_select(0, chosen).float(), self.train_labels.index_select(0, chosen)

    def population(self) -> Iterator[Tensor]:
        """The mini-batches of Algorithm 2: drawn like training batches, from a stream of their own, always the same."""
        order = datasets.batches(len(self.train), self.recipe.batch_size, seed=1_000_003 + self.recipe.seed)
        for _, index in zip(range(self.recipe.population_batches), order, strict=False):
            yield self.train.index_select(0, torch.from_numpy(index).to(self.train.device)).float()


def _watches(recipe: Recipe, data: _Data, checksums: dict[str, str]) -> list[Watch]:
    """What Figure 1 shows, and what explains it; all of it in the inference network of Algorithm 2, on test data."""
    sparse = sparse_landmarks(recipe.steps)

    def figure_1(step: int, model: nn.Module, _) -> dict:
        last = model.hidden[-1]
        with probes.inference(model, data.population()):
            found = {"test_accuracy": round(probes.accuracy(model, data.test, data.test_labels), 6)}
            if step in sparse:
                inputs = probes.input_of(last.activation, model, data.test)
                found["quantiles"] = records.round_to(probes.percentiles(inputs).cpu(), 3)
        if step in sparse:
            checksums[str(step)] = probes.checksum(model)
            if recipe.norm:
                found["gamma"] = records.round_to(last.norm.weight.detach().cpu(), 3)
        return found

    return [Watch(landmarks(recipe.steps), figure_1)]


_MEANING = {
    "test_accuracy": "share of test examples classified correctly, by the inference network of Algorithm 2",
    "loss": "mean training cross-entropy since the previous entry, in nats",
    "quantiles": "15th, 50th and 85th percentile of the input to each unit's nonlinearity in the last hidden layer: "
    "test set, inference network; step x unit x percentile",
    "gamma": "gamma of each unit in the last hidden layer; step x unit",
}


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
    where that file left it and kept there every 5,000 steps; the file is removed at the end. `on_step` is told the
    number of steps done, now and then. A run that diverges ends early and says so in ``manifest["diverged_at"]``.
    """
    began = time.perf_counter()
    place = torch.device(device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu")
    data = _Data(recipe, place)
    model = build(recipe, data.test.shape[1], data.classes).to(place)
    optimiser = sgd(model, recipe)
    progress, checksums = Progress(), {}
    key = _digest(recipe)
    if checkpoint and (found := checkpoints.load(checkpoint)) and found[1]["recipe"] == key:
        restore(model, optimiser, found[0])
        progress, checksums = Progress(**found[1]["progress"]), found[1]["checksums"]

    def pause(progress: Progress) -> None:
        on_step(progress.step)
        if checkpoint and progress.step % CHECKPOINT_EVERY == 0 and progress.step < recipe.steps:
            facts = {"recipe": key, "progress": vars(progress), "checksums": checksums}
            checkpoints.save(checkpoint, state_arrays(model, optimiser), facts)

    fit(
        model,
        data.batches(progress.step),
        recipe,
        _watches(recipe, data, checksums),
        optimiser=optimiser,
        progress=progress,
        on_pause=pause,
    )
    for name, curve in progress.curves.items():
        curve["what"] = _MEANING[name]
    progress.curves["loss"]["values"] = records.round_to(progress.curves["loss"]["values"], 6)
    if checkpoint:
        checkpoint.unlink(missing_ok=True)
    manifest = records.manifest(
        device=torch.cuda.get_device_name(place) if place.type == "cuda" else "cpu",
        data_digest=data.set.digest,
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
