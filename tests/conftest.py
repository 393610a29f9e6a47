"""What several files of tests share: how arrays are compared, what a cell shows, Triton's
interpreter.
"""

import importlib.util
import os
import re
import subprocess
import sys

# Before NumPy and torch are there: tests run on all cores already, and threads of one that wait
# for those of another do so busily.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import seeds
from hypothesis import settings

from bnkit import paths

seeds.shift()
# The same examples in every run, as with every other seed of the house; no deadline, for a busy
# machine is no bug.
ALIKE = {"derandomize": seeds.SEED == 0, "database": None}
settings.register_profile("house", **ALIKE, deadline=None, max_examples=50)
settings.load_profile("house")


@pytest.hookimpl(tryfirst=True)  # before Hypothesis reads it
def pytest_configure(config):
    if seeds.SEED:
        config.option.hypothesis_seed = str(seeds.SEED)


@pytest.fixture(autouse=True)
def _begin_alike():
    seeds.begin()


# Relative to the largest magnitude of the expected array, since sums carry the rounding of their
# largest terms.
TOLERANCE = {
    np.dtype(
        np.float64
    ): 1e-10,  # 2e-16 per operation, sums of up to 1e5 terms, and division by small spreads
    np.dtype(np.float32): 2e-5,  # 6e-8 per operation, the same sums
    np.dtype(np.float16): 2e-3,  # 5e-4: the result itself is rounded to 11 bits, twice
}


def assert_close(actual, expected, tolerance=None):
    """Raise AssertionError unless both are finite, of one shape, and equal to within the coarser
    dtype's tolerance.

    NumPy arrays, numbers or torch tensors. `tolerance` replaces the dtype's: say why where it is
    given.
    """
    actual, expected = _array(actual), _array(expected)
    assert actual.shape == expected.shape, f"shape {actual.shape}, expected {expected.shape}"
    assert actual.size, "nothing to compare: the arrays are empty"
    assert np.isfinite(actual).all(), "the result holds NaN or infinity"
    assert np.isfinite(expected).all(), "the expectation holds NaN or infinity"
    if tolerance is None:
        tolerance = max(
            TOLERANCE.get(array.dtype, TOLERANCE[np.dtype(np.float64)])
            for array in (actual, expected)
        )
    actual, expected = actual.astype(np.float64), expected.astype(np.float64)
    # zeros have no scale: they are compared with one
    near = tolerance * (np.abs(expected).max() or 1.0)
    if np.abs(actual - expected).max() > near:  # NumPy's own comparison takes long, and tells more
        np.testing.assert_allclose(actual, expected, rtol=0, atol=near, equal_nan=False)


def _array(value):
    if hasattr(value, "detach"):  # a torch tensor, without importing torch
        value = value.detach().cpu()
        # NumPy has no bfloat16
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
        value = value.numpy()
    return np.asarray(value)


@pytest.fixture
def shown(monkeypatch):
    """The outputs of a cell, as a notebook would store them."""
    import nbformat  # not at the top: few tests need these
    from IPython.core.formatters import format_display_data

    from bnkit.page import prose

    outputs = []

    def display(thing, raw=False, metadata=None):
        data, own = (thing, {}) if raw else format_display_data(thing)
        outputs.append(
            nbformat.v4.new_output("display_data", data=data, metadata=own | (metadata or {}))
        )

    monkeypatch.setattr(prose, "display", display)
    return outputs


def run_in_interpreter(file, what):
    """Run a file of tests once more in a process of its own, on the CPU by Triton's interpreter;
    how many passed.

    `what` goes untested where Triton is missing: the test is skipped, and says so.
    """
    if importlib.util.find_spec("triton") is None:
        pytest.skip(f"{what}: triton is not installed; on Linux: pip install -e '.[kernels]'")
    command = [
        sys.executable,
        "-m",
        "pytest",
        file,
        "-n",
        "0",
        "-p",
        "no:cacheprovider",
        "-m",
        "not gpu",
    ]
    environment = os.environ | {"TRITON_INTERPRET": "1", "BNKIT_KERNELS": "on"}
    run = subprocess.run(command, cwd=paths.root(), env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-10_000:] + run.stderr[-2_000:]
    passed = re.search(r"(\d+) passed", run.stdout)
    assert passed, run.stdout
    return int(passed[1])


@pytest.fixture(scope="session")
def chromium():
    """One headless Chromium for all tests of a process: Playwright cannot be started twice in it."""
    from bnkit.book import browser

    if browser.executable() is None:
        pytest.skip("needs Playwright and an installed Chromium")
    with browser.opened() as program:
        yield program
