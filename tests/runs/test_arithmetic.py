"""The digest of the code that a run's numbers depend on: what changes it, and what must not."""

import shutil

import pytest

from bnkit.runs import arithmetic, experiments
from bnkit.runs.tasks import inception, linear, mnist, small_batches

MNIST = (mnist.Task, mnist.MLPRecipe)


@pytest.fixture
def changed(tmp_path, monkeypatch):
    """The digest of a family where one line of the package reads otherwise."""
    package = tmp_path / "bnkit"
    shutil.copytree(arithmetic.PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(arithmetic, "PACKAGE", package)

    def clear():
        for cached in (arithmetic._file, arithmetic._top, arithmetic._digest):  # not what is parsed
            cached.cache_clear()

    def digest(module: str, old: str, new: str, things=MNIST, device="cpu") -> str:
        path = package / f"{module}.py"
        text = path.read_text()
        assert old in text, f"{module} has no line {old!r} any more"
        path.write_text(text.replace(old, new, 1))
        clear()
        result = arithmetic.digest(*things, device=device)
        path.write_text(text)
        clear()
        return result

    yield digest
    clear()


COUNTS = [  # what a number may hang on, wherever it stands
    ("runs/training", "optimiser.zero_grad()", "pass"),
    ("runs/training", "momentum=recipe.momentum", "momentum=0.9"),
    ("runs/tasks/__init__", "seed=1_000_003", "seed=1_000_004"),
    ("runs/tasks/mnist", "range(0, 500, 100)", "range(0, 500, 50)"),
    ("runs/probes", "module.training = mode", "pass"),
    ("runs/records", "{value:.{digits}g}", "{value:.3g}"),
    ("networks/mlp", "class MLP(nn.Module):", "class MLP(nn.Sequential):"),
    ("datasets/binary", "white // 2", "white // 3"),
    ("datasets/arrays", "np.random.default_rng([seed, epoch])", "np.random.default_rng(seed)"),
    ("layers/plain", "import math", "import math\ntorch.set_flush_denormal(True)"),
]


@pytest.mark.parametrize(("module", "old", "new"), COUNTS)
def test_code_that_a_number_depends_on_changes_the_digest(changed, module, old, new):
    assert changed(module, old, new) != arithmetic.digest(*MNIST)


IDLE = [  # and what none does
    ("runs/training", '"""Train `model` in place', '"""Make `model` better in place'),
    ("runs/training", "# summed on the device", "# together"),
    ("runs/training", "recipe: Recipe, watches", "recipe: object, watches"),
    ("runs/tasks/mnist", "share of test examples", "part of the examples"),
    ("runs/records", "is damaged: {error}", "is broken: {error}"),
    ("runs/records", "def _text(content: dict)", "def _spelling(content: dict)"),
    ("runs/checkpoints", "EVERY = 60", "EVERY = 61"),
    ("datasets/arrays", 'raise ValueError(f"batch_size', 'raise ValueError(f"size'),
    ("networks/inception", "import math", "import math, cmath"),
    ("paths", '"data" / "cache"', '"cache"'),
    ("layers/triton", "import math", "import math, cmath"),
]


@pytest.mark.parametrize(("module", "old", "new"), IDLE)
def test_text_and_what_other_runs_use_do_not(changed, module, old, new):
    assert changed(module, old, new) == arithmetic.digest(*MNIST)


def test_a_line_more_or_less_moves_nothing(changed):
    lines = "\n# one\n\n# two\nimport math\n"
    assert changed("layers/plain", "import math\n", lines) == arithmetic.digest(*MNIST)


def test_a_family_rests_on_what_it_uses_and_on_nothing_else():
    names = {thing: set(arithmetic.definitions(thing)) for thing in experiments.TASKS.values()}
    assert {"runs.training.fit", "layers.batch_norm.batch_norm"} <= names[mnist.Task]
    assert {"datasets.pictures.distort", "networks.inception.Block"} <= names[inception.Task]
    assert not any(name.startswith("networks.inception") for name in names[mnist.Task])
    assert "reference.backward" in names[linear.Task]
    assert not any(name.startswith("layers.") for name in names[linear.Task])
    # its batch normalization is torch's
    assert not any(name.startswith("layers.") for name in names[small_batches.Task])
    for all_of_it in names.values():
        rooms = {name.split(".")[0] for name in all_of_it}
        assert not rooms & {"book", "page", "plots", "studies", "front", "paths", "claims"}


def test_another_device_takes_another_path():
    on_cpu, on_gpu = (arithmetic.definitions(*MNIST, device=name) for name in ("cpu", "cuda"))
    assert not any(name.startswith("layers.triton") for name in on_cpu)
    assert "layers.triton.forward" in on_gpu
    assert arithmetic.digest(*MNIST) != arithmetic.digest(*MNIST, device="cuda")


def test_every_version_of_python_spells_a_module_alike():
    """Fields that a version adds are empty where a program does not use them."""
    source = (
        'def f(x, *, y=1.5):\n    """Text."""\n    # why\n    return f"{x:.{y}f}" + "a" + -1e-5\n'
    )
    (spelt,) = map(arithmetic._spelt, arithmetic._Top(source).statements["f"])
    (later,) = arithmetic._Top(source).statements["f"]
    later._fields = (*later._fields, "parameters_of_types")
    later.parameters_of_types = []
    assert arithmetic._spelt(later) == spelt
    assert "Text." not in str(spelt)
    assert "1.5" in str(spelt)


def test_a_record_says_who_made_it():
    made = arithmetic.made("bank", mnist.Task)
    assert made == {"made_by": "bank", "digest": arithmetic.digest(mnist.Task)}
    assert len(made["digest"]) == 12
