"""What is examined by name: a function of a module, an adapter's file, a program.

An adapter is a short file outside the package that calls one library. It has ``INSTALL``, what pip
installs; ``PACKAGES``, whose versions go onto the card; ``CARDS``, a name for each card and a
function that makes the arguments of ``examine``.
"""

import datetime
import difflib
import importlib
import importlib.metadata
import importlib.util
import platform
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

from bnkit.conformance.card import Card
from bnkit.conformance.examine import examine
from bnkit.conformance.step import named

LIMIT = 60.0  # seconds for a probe: some libraries compile for every new shape


class Missing(Exception):
    """What was to be examined is not there. The message says what to do."""


def function(name: str) -> Callable:
    """``module:function``, found from the working directory. Raises Missing."""
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise Missing(f"{name!r}: name it module:function, as in mylayer:step")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except ImportError as error:
        raise Missing(f"{name}: {error}; run this where {module} can be imported") from None
    except (Exception, SystemExit) as error:  # whatever a module does while it is imported
        raise Missing(f"{name}: {named(error)}") from None
    if not callable(found):
        raise Missing(f"{name} is {type(found).__name__}; name a function, as in mylayer:step")
    return found


def adapter(path: Path) -> ModuleType:
    """The module of an adapter's file, under a name that hides no library. Raises Missing."""
    path = Path(path)
    if not path.is_file():
        others = ", ".join(sorted(p.stem for p in path.parent.glob("*.py"))) or "none"
        raise Missing(f"there is no adapter {path.stem}; there are {others}")
    spec = importlib.util.spec_from_file_location(f"adapter_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        raise Missing(f"{path.stem} is missing here: {error}; make conformance LIBRARY={path.stem} "
                      "installs it in an environment of its own") from None  # fmt: skip
    except (Exception, SystemExit) as error:
        raise Missing(f"{path}: {named(error)}") from None
    if not hasattr(module, "CARDS"):
        raise Missing(f"{path} has no CARDS, so it is no adapter; a function in it is examined by "
                      f"name: {path.stem}:step")  # fmt: skip
    return module


def cards(module: ModuleType, only: str = ""):
    """The cards of an adapter, one after the other: (name, card, why there is none).

    `only` chooses the card of that name; where there is none, all whose name holds it. Raises
    Missing where that is none, either.
    """
    for name in _chosen(module, only):
        try:
            given = {"limit": LIMIT} | module.CARDS[name]()
            yield name, examine(**given, name=name, made=made(module.PACKAGES)), ""
        except ImportError as error:
            yield name, None, f"not examined, {named(error)}"


def _chosen(module, only) -> list[str]:
    chosen = [only] if only in module.CARDS else [name for name in module.CARDS if only in name]
    if not chosen:
        near = difflib.get_close_matches(only, module.CARDS, n=1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        there = "; ".join(map(repr, module.CARDS))
        raise Missing(f"no card has {only!r} in its name; there are {there}{meant}")
    return chosen


def made(packages: Sequence[str]) -> dict[str, str]:
    """With what and when a card is made."""
    versions = {name: importlib.metadata.version(name) for name in (*packages, "numpy")}
    return versions | {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "day": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def file_name(card: str) -> str:
    """flax nnx, use_fast_variance=False -> flax-nnx-use-fast-variance-false.json"""
    return re.sub(r"[^a-z0-9.]+", "-", card.lower()).strip("-") + ".json"


def record(card: Card, folder: Path) -> Path:
    """Store a card in a folder under its name."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / file_name(card.name)
    path.write_text(card.json(), encoding="utf-8")
    return path
