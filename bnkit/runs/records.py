"""A run as a value: its recipe, where and with what it was made, its curves. Save, load, compare.

One run is one JSON file, ``data/runs/<experiment>/<variant>/seed-<n>.json``, that people can read
and git can diff. It carries its own SHA-256: a damaged or edited record is refused, not drawn.
"""

import hashlib
import json
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bnkit import paths


class RecordError(ValueError):
    """A recorded run is missing, damaged or not a record; the message says how to make it again."""


@dataclass(frozen=True)
class Record:
    """One run of one variant of an experiment with one seed.

    ``curves`` maps a name to ``{"steps": [...], "values": [...]}``, optionally with ``"unit"`` and
    ``"what"``. Steps count optimisation steps and increase; values has one entry per step, a number
    or a nested list, say step x unit x percentile. Arrays and tuples become lists, as in JSON.
    """

    experiment: str
    variant: str
    seed: int
    recipe: dict
    manifest: dict
    curves: dict

    def __post_init__(self):
        for field in FIELDS:
            object.__setattr__(self, field, _plain(getattr(self, field)))

    @property
    def name(self) -> str:
        """How the run is called everywhere, for example ``mnist/with-bn/seed-0``."""
        return f"{self.experiment}/{self.variant}/seed-{self.seed}"

    def curve(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps and values of a curve: arrays of shapes (T,), int64, and (T, ...), float64."""
        if name not in self.curves:
            known = ", ".join(sorted(self.curves))
            raise RecordError(f"{self.name} has no curve {name!r}; it has: {known}")
        curve = self.curves[name]
        return np.asarray(curve["steps"], np.int64), np.asarray(curve["values"], np.float64)


FIELDS = {field.name: field.type for field in fields(Record)}
NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")  # an experiment or a variant
SEED = re.compile(r"seed-(0|[1-9]\d*)\.json", re.ASCII)  # the name of a record's file


# Save and load


def save(record: Record, folder: Path | None = None) -> Path:
    """Write `record` into `folder` (default: the book's), whole or not at all; return its path.

    Values are stored as given: round them first (``round_to``). Raises RecordError for curves of
    unequal length, steps that do not increase, and numbers that are not finite.
    """
    content = {field: getattr(record, field) for field in FIELDS}
    try:
        _check(content)
        text = _text({**content, "sha256": _digest(content)})
    except ValueError as error:
        raise RecordError(f"{record.name} cannot be saved: {error}") from error
    path = _path(record.experiment, record.variant, record.seed, folder)
    return paths.write_atomically(path, text)


def make_room(folder: Path | None = None) -> None:
    """Make `folder` (default: the book's); RecordError where nothing can be written to it."""
    folder = Path(folder or paths.runs())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        remedy = "Set BNKIT_RUNS to a folder of your own, or make this one writable."
        raise RecordError(f"{folder} cannot hold records: {error.strerror}. {remedy}") from error


def load(experiment: str, variant: str, seed: int, folder: Path | None = None) -> Record:
    """Read a run; digest, fields and curves are checked. Raises RecordError, with the file's name.

    The message says which command makes the run again.
    """
    path = _path(experiment, variant, seed, folder)
    try:
        content = json.loads(path.read_bytes())
        if not isinstance(content, dict):
            raise ValueError("not a JSON object")
        saved, digest = content.pop("sha256", None), _digest(content)
        if digest != saved:
            raise ValueError(f"its content has the SHA-256 {digest}, but it was saved with {saved}")
        _check(content)
        record = Record(**content)
        if record.name != f"{experiment}/{variant}/seed-{seed}":
            raise ValueError(f"it holds {record.name}")
        return record
    except FileNotFoundError:
        problem = "is missing"
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    except ValueError as error:  # broken UTF-8 and broken JSON are ValueErrors too
        problem = f"is damaged: {error}"
    remedy = f"python -m bnkit run {experiment}/{variant} --seed {seed}"
    raise RecordError(f"{path} {problem}. Make it again: {remedy}")


def index(folder: Path | None = None) -> list[tuple[str, str, int]]:
    """What is recorded, as sorted (experiment, variant, seed), by the names of the files alone.

    One name a run: of "seed-00.json" or "Seed-0.json" nothing is read, see ``strangers``.
    """
    names = (path.parts[-3:] for path in Path(folder or paths.runs()).glob("*/*/*"))
    runs = ((*parts, SEED.fullmatch(file)) for *parts, file in names)
    return sorted((*run, int(seed[1])) for *run, seed in runs if seed and all(map(_names, run)))


def strangers(folder: Path | None = None) -> list[Path]:
    """The files in `folder` (default: the book's) that are not called as ``save`` calls a record."""
    folder = Path(folder or paths.runs())
    own = {_path(*name, folder) for name in index(folder)}
    return sorted(path for path in folder.rglob("*") if path.is_file() and path not in own)


def stack(runs: list[Record], name: str) -> tuple[np.ndarray, np.ndarray]:
    """One curve of several runs as arrays, over the steps that all have (a run may end early).

    Shapes: steps (T,), values (runs, T, ...).
    """
    curves = [run.curve(name) for run in runs]
    steps = curves[0][0]
    for other, _ in curves[1:]:
        steps = np.intersect1d(steps, other)
    return steps, np.stack([values[np.isin(own, steps)] for own, values in curves])


# Compare


class Comparison(NamedTuple):
    """How far a fresh run is from a recorded one, over the steps that both have."""

    steps_compared: int  # how many different steps
    largest_difference: dict[str, float]  # of each curve, absolute; inf where only one has it
    ok: bool  # something was compared, and all of it is equal, as on one platform it has to be


def compare(recorded: Record, fresh: Record) -> Comparison:
    """Compare the curves of two runs of one recipe over the steps both have, few or many."""
    compared, differences = set(), {}
    for name in sorted(recorded.curves.keys() | fresh.curves.keys()):
        if name not in recorded.curves or name not in fresh.curves:
            differences[name] = np.inf
            continue
        (steps_a, a), (steps_b, b) = recorded.curve(name), fresh.curve(name)
        steps, in_a, in_b = np.intersect1d(steps_a, steps_b, return_indices=True)
        if len(steps):
            same_shape = a.shape[1:] == b.shape[1:]
            differences[name] = float(np.abs(a[in_a] - b[in_b]).max()) if same_shape else np.inf
            compared.update(steps.tolist())
    equal = bool(compared) and max(differences.values()) == 0
    return Comparison(len(compared), differences, equal)


def round_to(x: object, digits: int = 4) -> object:
    """`x`, a number or an array, rounded to significant digits, as nested lists of floats."""
    array = np.asarray(x, np.float64)
    rounded = [float(f"{value:.{digits}g}") for value in array.ravel().tolist()]
    return np.reshape(rounded, array.shape).tolist()


# Where and with what a run was made


def manifest(**extra: object) -> dict:
    """Date, code, versions and platform of this process, plus `extra` (device, wall time, ...).

    Says nothing of users, hosts or folders. torch is described if imported, and not imported here.
    """
    torch = sys.modules.get("torch")
    versions = {"python": platform.python_version(), "numpy": np.__version__}
    described = {"system": platform.system(), "machine": platform.machine(), "cpu": _cpu()}
    if torch:
        versions["torch"] = str(torch.__version__)
        described["threads"] = torch.get_num_threads()
        described["capability"] = torch.backends.cpu.get_cpu_capability()
    revision, dirty = _revision()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "revision": revision,
        "dirty": dirty,
        "versions": versions,
        "platform": described,
        **extra,
    }


def platform_key(manifest: dict) -> tuple:
    """What runs must share to agree bit for bit: machine, threads, device, NumPy and torch."""
    versions = manifest.get("versions", {})
    libraries = (versions.get(name) for name in ("numpy", "torch"))
    return *sorted(manifest.get("platform", {}).items()), *libraries, manifest.get("device")


def _revision() -> tuple[str, bool | None]:
    """The commit of the checkout, if it is one, and whether package or lock differ from it."""
    try:
        git = ("git", "-C", str(paths.root()))
        head, *inside = _output(*git, "rev-parse", "HEAD", "--show-prefix").split("\n")
        if not any(inside):  # else the checkout lies inside somebody else's repository
            status = _output(*git, "status", "--porcelain", "--", "bnkit", "requirements.lock")
            return head, bool(status)
    except (OSError, subprocess.CalledProcessError):
        pass
    return "unknown", None


def _cpu() -> str:
    """The processor's model name, as far as the system tells it."""
    try:
        if platform.system() == "Darwin":
            return _output("sysctl", "-n", "machdep.cpu.brand_string")
        model = re.search(r"(?m)^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text())
    except (OSError, subprocess.CalledProcessError):
        model = None
    return model[1] if model else platform.processor() or "unknown"


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


# The file


def _path(experiment: str, variant: str, seed: int, folder: Path | None) -> Path:
    for name in (experiment, variant):
        if not _names(name):
            allowed = "lower-case letters, digits, '-' and '.' only"
            raise RecordError(f"{name!r} cannot name a run: {allowed}")
    return Path(folder or paths.runs()) / experiment / variant / f"seed-{seed}.json"


def _names(word: str) -> bool:
    return NAME.fullmatch(word) is not None


def _plain(thing: object) -> object:
    """The same in JSON's own types: NumPy arrays and numbers unpacked, tuples as lists."""
    if isinstance(thing, dict):
        return {key: _plain(value) for key, value in thing.items()}
    if isinstance(thing, list | tuple):
        return [_plain(value) for value in thing]
    return thing.tolist() if isinstance(thing, np.ndarray | np.generic) else thing


def _digest(content: dict) -> str:
    """SHA-256 of `content` in its canonical spelling; ValueError for NaN and infinity."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _check(content: dict) -> None:
    """Raise ValueError where `content` does not have the form of a record."""
    if content.keys() != FIELDS.keys():
        known, wrong = ", ".join(FIELDS), ", ".join(sorted(content.keys() ^ FIELDS.keys()))
        raise ValueError(f"a record has the fields {known}; missing or unknown here: {wrong}")
    for field, kind in FIELDS.items():
        given = type(content[field])
        if given is not kind:
            raise ValueError(f"{field} must be {kind.__name__}, not {given.__name__}")
    for name, curve in content["curves"].items():
        if not isinstance(curve, dict) or not {"steps", "values"} <= curve.keys():
            raise ValueError(f"curve {name!r} needs 'steps' and 'values'")
        steps = np.asarray(curve["steps"])
        values = np.asarray(curve["values"], np.float64)  # ValueError where ragged or no numbers
        integers = steps.ndim == 1 and len(steps) > 0 and steps.dtype.kind == "i"
        if not integers or (np.diff(steps) <= 0).any():
            raise ValueError(f"curve {name!r} needs steps: increasing integers, at least one")
        if values.ndim == 0 or len(values) != len(steps):
            counts = f"{len(steps)} steps, {values.shape} values"
            raise ValueError(f"curve {name!r} needs one value per step: {counts}")
        if not np.isfinite(values).all():
            raise ValueError(f"curve {name!r} holds numbers that are not finite")


def _text(content: dict) -> str:
    """JSON with a line per entry, in nested values per step: small, and git shows what changed."""

    def compact(thing: object) -> str:
        return json.dumps(thing, separators=(",", ":"), allow_nan=False)

    def lines(parts: Iterable[str], brackets: str) -> str:
        return brackets[0] + "\n" + ",\n".join(parts) + "\n" + brackets[1]

    def spell(key: str, value: object) -> str:
        if isinstance(value, dict):  # a field, or a curve inside of the field "curves"
            text = lines((spell(*entry) for entry in value.items()), "{}")
        elif key == "values" and isinstance(value[0], list):
            text = lines(map(compact, value), "[]")
        else:
            text = compact(value)
        return f"{compact(key)}:{text}"

    return lines((spell(*entry) for entry in content.items()), "{}") + "\n"
