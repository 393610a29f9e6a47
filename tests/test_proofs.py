"""Every module has its proof: a test file of its own name in the folder like its own, or a
line here.
"""

import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "bnkit"
PROVEN_BY = {  # module: the test file, below tests/, that proves it
    "__main__": "runs/test_experiments.py",
    "bench/bank": "bench/test_layer.py",
    "bench/networks": "bench/test_layer.py",
    "claims/ledger": "claims/test_chapter.py",
    "claims/page": "claims/test_chapter.py",
    "conformance/__main__": "conformance/test_library.py",
    "conformance/faces": "conformance/test_mutants.py",
    "conformance/findings": "conformance/test_mutants.py",
    "conformance/variants": "conformance/test_mutants.py",
    "conformance/conventions": "conformance/test_mutants.py",
    "conformance/defects": "conformance/test_mutants.py",
    "conformance/conduct": "conformance/test_mutants.py",
    "conformance/asked": "conformance/test_mutants.py",
    "conformance/questions": "conformance/test_mutants.py",
    "conformance/averages": "conformance/test_running.py",
    "conformance/session": "conformance/test_mutants.py",
    "datasets/files": "datasets/test_arrays.py",
    "datasets/published": "datasets/test_arrays.py",
    "datasets/trees": "datasets/test_pictures.py",
    "engines": "book/test_sweep.py",
    "layers/aten": "layers/test_batch_norm.py",
    "layers/modules": "layers/test_conversion.py",
    "layers/plain": "layers/test_batch_norm.py",
    "networks/convnet": "runs/tasks/test_small_batches.py",
    "plots/backprop": "studies/test_backprop.py",
    "plots/compared": "studies/test_compared.py",
    "plots/colours": "plots/test_mnist.py",
    "plots/labels": "plots/test_mnist.py",
    "plots/layer": "studies/test_layer.py",
    "plots/scales": "plots/test_mnist.py",
    "plots/search": "studies/test_search.py",
    "plots/stills": "browser/test_explorables.py",
    "runs/distributed": "runs/tasks/test_imagenet.py",
    "runs/pool": "runs/test_experiments.py",
    "runs/tasks/inception": "runs/tasks/test_imagenet.py",
    "runs/tasks/linear": "studies/after/test_linear.py",
    "runs/tasks/mnist": "runs/test_experiments.py",
    "runs/tasks/search": "runs/test_bank.py",
    "studies/swept": "studies/test_compared.py",
    **dict.fromkeys(
        (f"studies/after/{name}" for name in (
            "centre_scale", "decay", "features", "few_classes", "ghosts", "normfree", "populations",
            "sequences", "small_batches", "smoothness",
        )),
        "studies/after/test_after.py",
    ),
    "studies/explorables": "browser/test_explorables.py",
}  # fmt: skip
# Figures are drawn, and looked at, where the cells that draw them run: every chapter, in its small
# setting.
RUN_BY_CHAPTERS = {
    f"plots/{name}"
    for name in (
        "convolution", "gradients", "inception", "inference", "shift", "transform", "two_minutes",
        "whitening",
    )
}  # fmt: skip
# The press is one machine: its tests give it tiny books and look at what comes out.
PRESS = TESTS / "book" / "test_press.py"


def modules() -> list[str]:
    """Every module of the package but what only hands on: ``layers/aten``."""
    paths = (path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py"))
    return sorted(path.as_posix() for path in paths if path.name != "__init__")


def own(module: str) -> Path:
    folder, _, name = module.rpartition("/")
    return TESTS / folder / f"test_{name}.py"


@pytest.mark.parametrize("module", modules())
def test_every_module_has_a_proof(module):
    if own(module).exists():
        assert module not in PROVEN_BY, "it has a test file of its own: take the line out"
        return
    if module in RUN_BY_CHAPTERS:
        source = (TESTS.parent / "chapters").glob("*.ipynb")
        assert any(f"from bnkit.plots import {module[6:]} " in file.read_text() for file in source)
        return
    if module.startswith("book/"):
        assert PRESS.exists()
        assert module in reached(), "the press, which is run as a whole, never comes to it"
        return
    proof = PROVEN_BY.get(module)
    assert proof, f"nothing proves {module}: write {own(module).relative_to(TESTS)}, or a line here"
    text = (TESTS / proof).read_text()
    assert re.search(rf"\b{module.rpartition('/')[2]}\b", text), f"{proof} does not know {module}"


@cache
def reached() -> set[str]:
    """What the press imports on its way, from its command and from the settings of Sphinx on."""
    press = {path.stem: path.read_text() for path in (PACKAGE / "book").glob("*.py")}
    settings = (TESTS.parent / "_config.yml").read_text()
    todo, seen = {"__main__", *re.findall(r"bnkit\.book\.(\w+)", settings)}, set()
    while todo:
        seen.add(name := todo.pop())
        places = re.findall(r"from bnkit\.book(?:\.(\w+))? import (\([^)]+|[\w, ]+)", press[name])
        names = {word for module, rest in places for word in [module, *re.split(r"\W+", rest)]}
        todo |= names & press.keys() - seen
    return {f"book/{name}" for name in seen}


def test_every_line_is_needed():
    assert set(PROVEN_BY) | RUN_BY_CHAPTERS <= set(modules())
