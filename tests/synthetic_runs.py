"""Runs of a network that never was, of known numbers, for tests of what reads and draws records."""

from dataclasses import dataclass

import numpy as np

from bnkit.runs.records import Record

STEPS = [0, 100, 500, 1000, 4000, 5000, 10_000, 20_000, 50_000]
UNITS = 7


@dataclass(frozen=True)
class Pair:
    with_bn: list[Record]
    without_bn: list[Record]
    title: str = "made up, 2 seeds"


def run(
    norm: str | None, seed: int, *, last: int = 50_000, variant: str = "made-up", **recipe
) -> Record:
    """A run to step `last`: accuracy 1 - 0.9 / (1 + step / k), gamma from 1, percentiles ±gamma."""
    steps = np.array([step for step in STEPS if step < last] + [last])
    speed = 100 if norm else 1000
    accuracy = 1 - (0.9 - 0.001 * seed) / (1 + steps / speed) - 0.02
    gamma = 1 + 0.1 * np.log1p(steps)[:, None] * np.linspace(0.5, 1.5, UNITS)  # (T, units)
    middle = (0.01 if norm else 0.2) * np.sin(np.arange(UNITS)) * np.sqrt(steps)[:, None] / 100
    percentiles = np.stack([middle - gamma, middle, middle + gamma], axis=-1)
    recipe = {
        "dataset": "mnist",
        "norm": norm,
        "steps": last,
        "learning_rate": 0.1,
        "init_sigma": 0.1,
        "batch_size": 60,
        "seed": seed,
    } | recipe
    curves = {
        "test_accuracy": {"steps": steps, "values": accuracy},
        "quantiles": {"steps": steps, "values": percentiles},
    }
    if norm:
        curves["gamma"] = {"steps": steps, "values": gamma}
    manifest = {
        "versions": {"torch": "2.13.0"},
        "platform": {"cpu": "Abacus"},
        "device": "cpu",
        "diverged_at": None,
    }
    return Record("mnist", variant, seed, recipe, manifest, curves)


def pair(seeds: int = 2, **options) -> Pair:
    norms = ("batch", None)
    return Pair(*([run(norm, seed, **options) for seed in range(seeds)] for norm in norms))
