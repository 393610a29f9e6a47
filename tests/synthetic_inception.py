"""Runs of Inception networks that never were, of known numbers, for tests of what reads them."""

import numpy as np

from bnkit.runs.records import Record

STEPS = [0, 50, 100, 500, 1000, 2000, 3000, 4000]
PROBES = [0, 1, 50, 1000]
MODULES = 6
RECIPE = {
    "weight_decay": 5e-4,
    "dataset": "imagenette",
    "norm": None,
    "eps": 1e-5,
    "batch_size": 32,
    "learning_rate": 0.01,
    "momentum": 0.9,
    "steps": 4000,
    "population_batches": 30,
    "seed": 0,
    "model": "small-inception",
    "size": 32,
    "activation": "relu",
    "decay_steps": 2000,
    "dropout": 0.4,
    "lrn": True,
    "shuffle": False,
    "light": 0.4,
}
X5 = {
    "norm": "batch",
    "learning_rate": 0.05,
    "dropout": 0.0,
    "weight_decay": 1e-4,
    "decay_steps": 333,
    "lrn": False,
    "shuffle": True,
    "light": 0.1,
    "steps": 2000,
}
RECIPES = {
    "inception": RECIPE,
    "bn-baseline": {**RECIPE, "norm": "batch"},
    "bn-x5": {**RECIPE, **X5},
    "bn-x30": {**RECIPE, **X5, "learning_rate": 0.3},
    "bn-x5-sigmoid": {**RECIPE, **X5, "activation": "sigmoid"},
}
SPEEDS = {"inception": 1000, "bn-baseline": 500, "bn-x5": 100, "bn-x30": 150, "bn-x5-sigmoid": 4000}


def run(
    variant: str,
    seed: int = 0,
    *,
    speed: float | None = None,
    diverged_at: int | None = None,
    **recipe,
) -> Record:
    """Accuracy 0.1 + 0.6 step / (step + speed), 0.01 less each seed; spreads grow by module."""
    recipe = RECIPES.get(variant, RECIPE) | recipe | {"seed": seed}
    last = recipe["steps"] if diverged_at is None else diverged_at
    steps = np.array([step for step in STEPS if step < last] + [last])
    accuracy = 0.1 + (0.6 - 0.01 * seed) * steps / (steps + (speed or SPEEDS.get(variant, 500)))
    probed = np.array([step for step in PROBES if step < last] + [last])
    growth = 0.1 if recipe["norm"] else 1
    half = np.linspace(1, 2, MODULES) * (1 + growth * probed[:, None] / 1000)
    inputs = np.stack([-half, 0 * half, half], axis=-1)  # (t, modules, 3)
    norms = np.linspace(3, 1, MODULES + 1) * np.ones((len(probed) - 1, 1))
    curves = {
        "test_accuracy": {"steps": steps, "values": accuracy},
        "inputs": {"steps": probed, "values": inputs},
        "gradient_norm": {"steps": probed[1:], "values": norms},
    }
    manifest = {
        "versions": {"torch": "2.13.0"},
        "platform": {"cpu": "Abacus"},
        "device": "cpu",
        "diverged_at": diverged_at,
        "wall_seconds": recipe["steps"] * (0.1 + 0.02 * seed),
    }
    return Record("inception", variant, seed, recipe, manifest, curves)


def networks(
    seeds: int = 2, only: tuple[str, ...] = tuple(RECIPES), **options
) -> dict[str, list[Record]]:
    return {net: [run(net, seed, **options) for seed in range(seeds)] for net in only}


def ensemble() -> Record:
    curve = {"steps": [1, 2, 3], "values": [0.6, 0.62, 0.625]}
    recipe = {"members": "inception/bn-x30", "seeds": [0, 1, 2], "recipe": RECIPES["bn-x30"]}
    return Record("inception", "bn-x30-ensemble", 0, recipe, {}, {"test_accuracy": curve})
