"""The only training loop in the house. It has guests, not features: probes watch what one wants.

The loop knows no model, data set or probe by name. ``Recipe`` is everything that determines a run;
a treatment is the baseline with one field replaced.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Optimizer

Batch = tuple[Tensor, Tensor]  # x and labels

# Of a field that came later: where it has its default, a recipe does not name it, as the recipes of
# older records do not.
ADDED = {"added": True}


class AnyRecipe:
    """What determines a run, a frozen dataclass; equal ones give equal runs on one platform."""

    dataset: str
    seed: int
    steps: int

    def as_dict(self) -> dict[str, Any]:
        """The recipe as plain JSON values."""
        plain = asdict(self)
        for one in fields(self):
            if one.metadata == ADDED and plain[one.name] == one.default:
                del plain[one.name]
        return {name: list(v) if isinstance(v, tuple) else v for name, v in plain.items()}


@dataclass(frozen=True, kw_only=True)
class Recipe(AnyRecipe):
    """What determines a run of gradient descent by mini-batches, each field with its unit.

    A family of experiments (``bnkit.runs.tasks``) adds the fields of its networks and its data.
    """

    weight_decay: ClassVar[float] = 0.0  # a family that has it makes it a field

    dataset: str  # a name of bnkit.datasets or bnkit.datasets.pictures
    norm: str | None = None  # what stands before each hidden nonlinearity: "batch" or nothing
    eps: float = 1e-5  # added to the variance; the paper gives no value
    batch_size: int = 60  # examples per mini-batch
    learning_rate: float = 0.1  # of stochastic gradient descent
    momentum: float = 0.0  # of the optimiser, not of any running average
    steps: int = 50_000  # optimisation steps
    population_batches: int = 100  # mini-batches averaged by Algorithm 2 at each evaluation
    seed: int = 0  # of the initial weights and of the order of the examples

    def rate(self, step: int) -> float:
        """The learning rate of the step after `step` steps; a family that lowers it says how."""
        return self.learning_rate


@dataclass(frozen=True)
class Watch:
    """A probe: ``measure(step, model, batch)`` returns numbers, or nested lists of them, by name.

    It is asked after each of `steps`; 0 is the untrained network, whose `batch` is None.
    """

    steps: frozenset[int]
    measure: Callable[[int, nn.Module, Batch | None], dict[str, Any]]


@dataclass
class Progress:
    """How far a run has come: what a checkpoint keeps beside weights and optimiser."""

    step: int = 0
    curves: dict[str, dict[str, list]] = field(default_factory=dict)
    loss_sum: float = 0.0  # of the steps since the last entry of the loss curve
    loss_count: int = 0
    diverged_at: int | None = None  # step at which the loss was not finite; training ends there
    checksums: dict[str, str] = field(default_factory=dict)  # step -> that of the weights

    def add(self, name: str, value: Any) -> None:
        curve = self.curves.setdefault(name, {"steps": [], "values": []})
        curve["steps"].append(self.step)
        curve["values"].append(value)


def fit(
    model: nn.Module, batches: Iterator[Batch], recipe: Recipe, watches: Iterable[Watch] = (), *,
    optimiser: Optimizer | None = None, progress: Progress | None = None,
    loss_of: Callable[[Any, Tensor], Tensor] = cross_entropy,
    average: Callable[[Tensor], Tensor] = lambda loss: loss, pause_every: int = 1000,
    on_pause: Callable[[Progress], None] = lambda progress: None,
) -> Progress:  # fmt: skip
    """Train `model` in place for ``recipe.steps`` steps and return its curves.

    ``loss_of(outputs, labels)`` is what is made small. `batches` yields (x, labels), continuing at
    ``progress.step`` where a run is taken up again. ``curves["loss"]`` is the mean training loss
    since its previous entry; the other curves come from `watches`. A loss that is not finite ends
    the run with ``diverged_at`` set; it is looked for where curves are written, so the step named
    is the first such place. `average` is what several processes make of their losses. `on_pause` is
    called every `pause_every` steps, for progress bars and checkpoints; it changes nothing.
    """
    watches = list(watches)
    optimiser = optimiser or sgd(model, recipe)
    progress = progress or Progress()
    landmarks = frozenset().union(*(watch.steps for watch in watches), {recipe.steps})
    if progress.step == 0:
        _ask(watches, progress, model, None)
    model.train()
    pending = torch.zeros(())  # summed on the device: reading each loss would wait for it
    while progress.step < recipe.steps and progress.diverged_at is None:
        x, labels = next(batches)
        for group in optimiser.param_groups:
            group["lr"] = recipe.rate(progress.step)
        loss = loss_of(model(x), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        progress.step += 1
        pending = pending + loss.detach()
        progress.loss_count += 1
        landmark, pause = progress.step in landmarks, progress.step % pause_every == 0
        if landmark or pause:
            progress.loss_sum += average(pending).item()
            pending = torch.zeros(())
        if landmark:
            if math.isfinite(progress.loss_sum):
                progress.add("loss", progress.loss_sum / progress.loss_count)
                progress.loss_sum, progress.loss_count = 0.0, 0
                _ask(watches, progress, model, (x, labels))
            else:
                progress.diverged_at = progress.step
        if pause:
            on_pause(progress)
    return progress


def _ask(watches: list[Watch], progress: Progress, model: nn.Module, batch: Batch | None) -> None:
    for watch in watches:
        if progress.step in watch.steps:
            for name, value in watch.measure(progress.step, model, batch).items():
                progress.add(name, value)


def sgd(model: nn.Module, recipe: Recipe) -> SGD:
    """Stochastic gradient descent as the recipe asks for it.

    Weight decay is for weights: biases, gamma and beta, which are vectors, are left alone.
    """
    groups: list[dict] = [{"params": list(model.parameters())}]
    if recipe.weight_decay:
        matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
        vectors = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors}]
    # one fused call for all parameters: else it takes a third of a small network's step
    return SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum, fused=True)


def state_arrays(model: nn.Module, optimiser: Optimizer) -> dict[str, np.ndarray]:
    """Weights, buffers and the optimiser's memory as named arrays, for a checkpoint."""
    tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
    for index, memory in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{index}/{name}": value for name, value in memory.items()}
    return {name: t.detach().cpu().numpy() for name, t in tensors.items() if t is not None}


def restore(model: nn.Module, optimiser: Optimizer, arrays: dict[str, np.ndarray]) -> None:
    """Put ``state_arrays`` back in place."""
    parameters = [weight.detach() for group in optimiser.param_groups for weight in group["params"]]
    weights: dict[str, Tensor] = {}
    memory: dict[int, dict[str, Tensor]] = {}
    for place, array in arrays.items():
        owner, name = place.split("/", 1)
        if owner == "model":
            weights[name] = torch.from_numpy(array)
        else:
            index, name = name.split("/")
            # in the layout of its weight: the fused optimiser reads both as they lie in memory
            value = torch.empty_like(parameters[int(index)]).copy_(torch.from_numpy(array))
            memory.setdefault(int(index), {})[name] = value
    model.load_state_dict(weights)
    optimiser.load_state_dict({**optimiser.state_dict(), "state": memory})
