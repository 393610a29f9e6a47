"""``BNKIT_TEST_SEED``: what a test draws changes with it, what bnkit draws does not."""

import numpy as np
import pytest
import seeds
import torch
from seeds import Fixed

DRAWS = """
torch.manual_seed(seed)
drawn = [
    np.random.default_rng(seed).bytes(8),
    np.random.default_rng([seed, 1]).bytes(8),
    torch.randint(10**9, ()).item(),
    torch.randint(10**9, (), generator=torch.Generator().manual_seed(seed)).item(),
]
"""


@pytest.fixture
def shifted(monkeypatch):
    """This process, its generators replaced as by a number other than 0; undone afterwards."""
    for module, name in ((np.random, "default_rng"), (torch, "manual_seed"), (torch, "Generator")):
        monkeypatch.setattr(module, name, getattr(module, name))
    monkeypatch.setattr(seeds, "SEED", 7)
    seeds.shift()


def draws(file: str, seed: int = 0) -> list:
    """What code that stands in `file` draws."""
    names = {"np": np, "torch": torch, "seed": seed}
    exec(compile(DRAWS, file, "exec"), names)
    return names["drawn"]


def test_a_test_draws_otherwise_and_bnkit_does_not(shifted, monkeypatch):
    by_bnkit, by_a_test = draws("/elsewhere/bnkit/a.py"), draws(f"{seeds.TESTS}a.py")
    assert all(one != other for one, other in zip(by_a_test, by_bnkit, strict=True))
    assert draws(f"{seeds.TESTS}a.py") == by_a_test
    assert draws(f"{seeds.TESTS}a.py", Fixed(0)) == by_bnkit
    monkeypatch.setattr(seeds, "SEED", 0)
    assert draws(f"{seeds.TESTS}a.py") == by_bnkit


def test_a_test_begins_alike_whatever_ran_before():
    drawn = []
    for _ in range(2):
        seeds.begin()
        drawn.append(torch.rand(3).tolist())
    assert drawn[0] == drawn[1]
