"""The floors of the house: imports point down, siblings do not know each other, some need no torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from bnkit import paths

PACKAGE = paths.root() / "bnkit"

# Lowest first; a name with a dot is a package whose modules all stand on that floor.
FLOORS = [
    ["paths"],
    ["kernels", "aten", "lrn"],
    [
        "reference",
        "whitening",
        "gradcheck",
        "layers",
        "renorm",
        "datasets",
        "records",
        "parameters",
        "prose",
        "checkpoints",
        "ledger",
        "processes",
    ],
    ["trees", "verification"],
    ["stack", "crowd", "pictures", "claims"],
    ["landscape"],
    ["mlp", "convnet", "inception", "probes", "mutants", "plots.", "studies."],
    ["training"],
    ["tasks.mnist", "tasks.inception", "tasks.after"],
    ["tasks.imagenet"],
    ["tasks."],
    ["experiments", "bench"],
    ["bench_networks"],
    ["workers"],
    ["__main__"],
]
PRESS_MAY_IMPORT = {"paths", "records", "parameters", "prose", "plots", "ledger", "book"}
NEED_NO_TORCH = [
    "reference",
    "whitening",
    "gradcheck",
    "datasets",
    "records",
    "parameters",
    "stack",
    "plots",
    "prose",
    "ledger",
    "claims",
    "pictures",
]


def modules() -> list[str]:
    """Every module below bnkit by its dotted name, packages as `name.`."""
    names = [path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", ".") for path in PACKAGE.rglob("*.py")]
    return sorted(name.removesuffix("__init__") for name in names if name != "__init__")


def imported(module: str) -> set[str]:
    """Modules of bnkit that `module` imports, in either spelling, at the top or inside a function."""
    path = PACKAGE / (
        module.replace(".", "/") + "__init__.py" if module.endswith(".") else module.replace(".", "/") + ".py"
    )
    return imports_of(path.read_text())


def imports_of(source: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            if node.module == "bnkit":
                found |= {alias.name for alias in node.names}
            elif node.module and node.module.startswith("bnkit."):
                found.add(node.module.removeprefix("bnkit."))
        elif isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("bnkit.") for alias in node.names if alias.name.startswith("bnkit.")}
    return found


def floor_of(module: str) -> int:
    for height, names in enumerate(FLOORS):
        if any(module == name or (name.endswith(".") and (module + ".").startswith(name)) for name in names):
            return height
    raise AssertionError(f"bnkit.{module} stands on no floor: add it to FLOORS, as low as its imports allow")


def test_the_walker_sees_every_spelling():
    source = "from bnkit import reference\nfrom bnkit.layers import BatchNorm\ndef f():\n    import bnkit.mlp"
    assert imports_of(source) == {"reference", "layers", "mlp"}


@pytest.mark.parametrize("module", [name for name in modules() if not name.startswith("book.")])
def test_imports_point_down(module):
    here = floor_of(module)
    package = module.split(".")[0]
    for other in imported(module):
        inside_package = "." in module and other.split(".")[0] == package and other == package
        assert inside_package or floor_of(other) < here, f"bnkit.{module} imports bnkit.{other}, not below it"


@pytest.mark.parametrize("module", [name for name in modules() if name.startswith("book.")])
def test_the_press_knows_records_and_parameters_but_no_mathematics(module):
    also = {"studies"} if module == "book.readme" else set()  # its table says what chapters say, in their words
    assert {name.split(".")[0] for name in imported(module)} <= PRESS_MAY_IMPORT | also


def test_the_loop_knows_no_model_data_set_or_probe():
    assert imported("training") == set()


@pytest.mark.parametrize("module", NEED_NO_TORCH)
def test_imports_without_torch(module):
    """In a process in which importing torch is an error."""
    code = f"import sys; sys.modules['torch'] = None; import bnkit.{module}"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_reference_needs_numpy_alone():
    code = (
        "import sys; import bnkit.reference\n"
        "heavy = {'torch', 'matplotlib', 'pandas', 'scipy', 'sklearn'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_module_says_what_it_is():
    for path in PACKAGE.rglob("*.py"):
        assert ast.get_docstring(ast.parse(Path(path).read_text())), f"{path.name} has no docstring"
