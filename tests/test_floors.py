"""The floors of the house: imports point down, siblings do not know each other, some need
no torch.
"""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from bnkit import paths

PACKAGE = paths.root() / "bnkit"

# Lowest first. A room is a module or a folder at the top of bnkit; inside a folder imports may go
# anywhere but round.
FLOORS = [
    ["paths", "engines"],
    ["reference", "whitening", "gradcheck", "layers", "datasets", "page"],
    ["mutants", "conformance", "networks", "claims"],
    ["runs"],
    ["studies", "plots", "bench"],
    ["front", "book", "__main__"],
]
PRESS_MAY_IMPORT = {"paths", "engines", "page", "claims", "book"}
NEED_NO_TORCH = [
    "reference",
    "whitening",
    "gradcheck",
    "conformance",
    "datasets",
    "datasets.pictures",
    "runs.records",
    "page.parameters",
    "page.prose",
    "networks.many_numpy",
    "plots",
    "claims",
    "claims.ledger",
]


def modules() -> list[str]:
    """Every module below bnkit by its dotted name, packages as `name.`."""
    names = [
        path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", ".")
        for path in PACKAGE.rglob("*.py")
    ]
    return sorted(name.removesuffix("__init__") for name in names if name != "__init__")


def imported(module: str) -> set[str]:
    """Modules of bnkit that `module` imports, in either spelling, at the top or inside a
    function."""
    place = PACKAGE.joinpath(*module.rstrip(".").split("."))
    return imports_of(
        (place / "__init__.py" if place.is_dir() else place.with_suffix(".py")).read_text()
    )


def imports_of(source: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            if node.module == "bnkit":
                found |= {alias.name for alias in node.names}
            elif node.module and node.module.startswith("bnkit."):
                inside = node.module.removeprefix("bnkit.")
                found |= {inside, *(f"{inside}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {
                alias.name.removeprefix("bnkit.")
                for alias in node.names
                if alias.name.startswith("bnkit.")
            }
    return found


def room(module: str) -> str:
    return module.split(".")[0]


def floor_of(module: str) -> int:
    for height, rooms in enumerate(FLOORS):
        if room(module) in rooms:
            return height
    raise AssertionError(
        f"bnkit.{module} stands on no floor: add it to FLOORS, as low as its imports allow"
    )


def test_the_walker_sees_every_spelling():
    source = "from bnkit import reference\nfrom bnkit.layers import BatchNorm\ndef f():\n    import bnkit.mlp"
    assert imports_of(source) == {"reference", "layers", "layers.BatchNorm", "mlp"}


def test_every_floor_has_its_rooms_and_there_are_few():
    rooms = {room(module) for module in modules()}
    assert sorted(rooms) == sorted(name for floor in FLOORS for name in floor)
    assert len(rooms) <= 19
    assert len(FLOORS) <= 6


@pytest.mark.parametrize("module", modules())
def test_imports_point_down(module):
    for other in imported(module):
        if room(other) != room(module):
            assert floor_of(other) < floor_of(module), (
                f"bnkit.{module} imports bnkit.{other}, not below it"
            )


def test_no_imports_go_round():
    """Not inside a folder either: ``graphlib`` raises CycleError and names the round."""
    known = {module.removesuffix(".") for module in modules()}
    graph = {module: {name for name in imported(module) if name in known} for module in known}
    packages = {module.removesuffix(".") for module in modules() if module.endswith(".")}
    # what a folder hands on it imports from its own modules; these may import each other, never the
    # folder
    for module, others in graph.items():
        if module in packages:
            others.clear()
    assert len(list(TopologicalSorter(graph).static_order())) == len(known)


@pytest.mark.parametrize("module", [name for name in modules() if room(name) == "book"])
def test_the_press_knows_chapters_and_claims_but_no_mathematics(module):
    assert {room(name) for name in imported(module)} <= PRESS_MAY_IMPORT


def test_the_loop_knows_no_model_data_set_or_probe():
    assert imported("runs.training") == set()


@pytest.mark.parametrize("module", NEED_NO_TORCH)
def test_imports_without_torch(module):
    """In a process in which importing torch is an error."""
    code = f"import sys; sys.modules['torch'] = None; import bnkit.{module}"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("module", ["reference", "conformance.__main__"])
def test_the_reference_and_the_kit_need_numpy_alone(module):
    code = (
        f"import sys; import bnkit.{module}\n"
        "heavy = {'torch', 'matplotlib', 'pandas', 'scipy', 'sklearn'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_module_says_what_it_is():
    for path in PACKAGE.rglob("*.py"):
        assert ast.get_docstring(ast.parse(Path(path).read_text())), f"{path.name} has no docstring"
