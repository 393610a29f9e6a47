"""One run of a chapter as a value: its parameters, what it found, and what it was made with.

It lies as ``results.json`` beside the executed notebook; sweeps and comparisons read nothing else.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bnkit import paths
from bnkit.page.quantities import Curve, Result, ResultError, read_curve, read_result

FILE = "results.json"
_TYPES = {
    "chapter": str, "parameters": dict, "changed": list, "results": list, "curves": list,
    "versions": dict, "seconds": (int, float), "date": str, "source": str,
}  # fmt: skip


class RerunError(ValueError):
    """There is no run of a chapter there, or not a whole one; the message says what to do."""


@dataclass(frozen=True)
class Rerun:
    """What one run of a chapter found."""

    chapter: str  # 08-mnist
    parameters: dict  # all of them, by name
    changed: tuple[str, ...]  # those that are not at the chapter's defaults
    results: dict[str, Result]
    curves: tuple[Curve, ...]
    versions: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0  # that it took
    date: str = ""
    source: str = ""  # digest of the notebook and of the code that it ran

    def as_text(self) -> str:
        """The content of ``results.json``."""
        content = {
            **{name: getattr(self, name) for name in _TYPES},
            "changed": list(self.changed),
            "results": [result.as_dict() for result in self.results.values()],
            "curves": [curve.as_dict() for curve in self.curves],
        }
        spelt = (f"{json.dumps(name)}: {_spelt(value)}" for name, value in content.items())
        return "{\n" + ",\n".join(spelt) + "\n}\n"

    def save(self, folder: Path) -> Path:
        """Write it into `folder`, whole or not at all; return the file."""
        return paths.write_atomically(Path(folder) / FILE, self.as_text())


def load(folder: Path) -> Rerun:
    """The run that lies in `folder`. Raises RerunError, with one sentence, where there is none."""
    file = Path(folder) / FILE
    try:
        content = json.loads(file.read_bytes())
    except FileNotFoundError:
        made = "make rerun CHAPTER=... PARAMS=... makes one and says where"
        what = "is no folder of a re-run" if Path(folder).is_dir() else "does not exist"
        raise RerunError(f"{folder} {what}; {made}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise RerunError(f"{file} cannot be read: {_first(error)}; run it again") from None
    try:
        return _read(content)
    except (ResultError, ValueError, TypeError) as error:
        raise RerunError(f"{file} is damaged: {_first(error)}; run it again") from None


def _read(content: object) -> Rerun:
    if not isinstance(content, Mapping) or (lacking := _TYPES.keys() - content.keys()):
        lacking = sorted(lacking) if isinstance(content, Mapping) else ["an object"]
        raise ValueError(f"it lacks {', '.join(lacking)}")
    for name, kind in _TYPES.items():
        if not isinstance(content[name], kind):
            raise ValueError(f"{name} is {type(content[name]).__name__}")
    results = [read_result(data) for data in content["results"]]
    if len(named := {result.name: result for result in results}) < len(results):
        raise ValueError("a name stands for two results")
    own = {name: content[name] for name in _TYPES}
    curves = tuple(map(read_curve, content["curves"]))
    return Rerun(**own | {"changed": tuple(own["changed"]), "results": named, "curves": curves})


def _spelt(value: object) -> str:
    """A line for each result and each curve: small, and readable."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(map(json.dumps, value)) + "\n]"
    return json.dumps(value)


def _first(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
