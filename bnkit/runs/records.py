"""A run as a value: its recipe, where and with what it was made, and its curves. Save, load,
compare.

One run is one JSON file, ``data/runs/<experiment>/<variant>/seed-<n>.json``, that people can read
and git can diff. It carries the SHA-256 of its own content, so that a damaged or hand-edited record
is refused instead of drawn.
"""

import hashlib
import json
import platform
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bnkit import paths

FIELDS = {
    "experiment": str,
    "variant": str,
    "seed": int,
    "recipe": dict,
    "manifest": dict,
    "curves": dict,
}


class RecordError(ValueError):
    """A recorded run is missing, damaged or not a record; the message says how to make it again."""


@dataclass(frozen=True)
class Record:
    """One run of one variant of an experiment with one seed.

    ``curves`` maps a name to ``{"steps": [...], "values": [...]}``, optionally with ``"unit"`` and
    ``"what"``. Steps count optimisation steps and increase; values has one entry per step, a number
    or a nested list, for example step x unit x percentile. Whatever a record is made from, it holds
    JSON's own types: arrays and tuples become lists.
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
        """Steps, an int64 array of shape (T,), and values, a float64 array of shape (T, ...), of
        one curve."""
        if name not in self.curves:
            raise RecordError(
                f"{self.name} has no curve {name!r}; it has: {', '.join(sorted(self.curves))}"
            )
        curve = self.curves[name]
        return np.asarray(curve["steps"], np.int64), np.asarray(curve["values"], np.float64)


# Save and load


def save(record: Record, folder: Path | None = None) -> Path:
    """Write `record` into `folder` (default: the recorded runs of the book), whole or not at all;
    return its path.

    Values are stored as given: round them first (``round_to``). Raises RecordError for curves of
    unequal length, steps that do not increase, and numbers that are not finite.
    """
    content = {field: getattr(record, field) for field in FIELDS}
    try:
        _check(content)
        text = _text({**content, "sha256": _digest(content)})
    except ValueError as error:
        raise RecordError(f"{record.name} cannot be saved: {error}") from error
    return paths.write_atomically(
        _path(record.experiment, record.variant, record.seed, folder), text
    )


def load(experiment: str, variant: str, seed: int, folder: Path | None = None) -> Record:
    """Read one run and check it: its digest, its fields, its curves. Raises RecordError, which
    names the file."""
    path = _path(experiment, variant, seed, folder)
    try:
        content = json.loads(path.read_bytes())
        if not isinstance(content, dict):
            raise ValueError("not a JSON object")
        digest = content.pop("sha256", None)
        found = _digest(content)
        if digest != found:
            raise ValueError(f"its content has the SHA-256 {found}, but it was saved with {digest}")
        _check(content)
        if (content["experiment"], content["variant"], content["seed"]) != (
            experiment,
            variant,
            seed,
        ):
            raise ValueError(
                f"it holds {content['experiment']}/{content['variant']}/seed-{content['seed']}"
            )
    except FileNotFoundError:
        problem = "is missing"
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    except ValueError as error:  # broken UTF-8 and broken JSON are ValueErrors too
        problem = f"is damaged: {error}"
    else:
        return Record(**content)
    raise RecordError(
        f"{path} {problem}. Make it again: python -m bnkit run {experiment}/{variant} --seed {seed}"
    )


def load_all(
    experiment: str, variant: str, folder: Path | None = None, seeds: list[int] | None = None
) -> list[Record]:
    """Runs of one variant, by rising seed: those of `seeds`, which must all be there, else all
    there are.

    Raises RecordError where a run is missing or damaged, and where there is none at all.
    """
    if seeds is None:
        # 0: "seed-0 is missing"
        seeds = [seed for *name, seed in index(folder) if name == [experiment, variant]] or [0]
    return [load(experiment, variant, seed, folder) for seed in sorted(seeds)]


def index(folder: Path | None = None) -> list[tuple[str, str, int]]:
    """What is recorded, as sorted (experiment, variant, seed); goes by file names and opens
    nothing."""
    folder = paths.runs() if folder is None else Path(folder)
    found = (
        re.fullmatch(r"(.+)/(.+)/seed-(\d+)\.json", path.relative_to(folder).as_posix())
        for path in folder.glob("*/*/*")
    )
    return sorted((match[1], match[2], int(match[3])) for match in found if match)


def stack(runs: list[Record], name: str) -> tuple[np.ndarray, np.ndarray]:
    """One curve of several runs as arrays, over the steps that all of them have (a run that
    diverged ends early).

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
    # curve name -> absolute difference; inf where only one has the curve
    largest_difference: dict[str, float]
    ok: bool  # something was compared, and no difference is above the tolerance


def compare(recorded: Record, fresh: Record, tolerance: float = 0.0) -> Comparison:
    """Compare the curves of two runs of one recipe, over the steps both have; `fresh` may be the
    shorter one.

    Exact by default, which is right on one platform (``platform_key``); elsewhere give the
    tolerance that is expected.
    """
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
    ok = bool(compared) and max(differences.values()) <= tolerance
    return Comparison(len(compared), differences, ok)


def round_to(x: object, digits: int = 4) -> object:
    """`x`, a number or an array, rounded to significant digits, as nested lists of Python floats
    ready for JSON."""
    array = np.asarray(x, np.float64)
    rounded = [float(f"{value:.{digits}g}") for value in array.ravel().tolist()]
    return np.reshape(rounded, array.shape).tolist()


# Where and with what a run was made


def manifest(**extra: object) -> dict:
    """Date, code, versions and platform of this process, plus `extra` (device, data digest, wall
    time, ...).

    Says nothing of users, hosts or folders. torch is described when it is imported, and not
    imported for it.
    """
    torch = sys.modules.get("torch")
    versions = {"python": platform.python_version(), "numpy": np.__version__}
    described = {"system": platform.system(), "machine": platform.machine(), "cpu": _cpu()}
    if torch:
        versions["torch"] = str(torch.__version__)
        described |= {
            "threads": torch.get_num_threads(),
            "capability": torch.backends.cpu.get_cpu_capability(),
        }
    revision, dirty = _revision()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "revision": revision,
        "dirty": dirty,
        "source_digest": _source_digest(),
        "versions": versions,
        "platform": described,
        **extra,
    }


def platform_key(manifest: dict) -> tuple:
    """What two manifests must share for their runs to agree bit for bit: machine, threads, device,
    NumPy and torch."""
    versions = manifest.get("versions", {})
    return (
        *sorted(manifest.get("platform", {}).items()),
        *((name, versions.get(name)) for name in ("numpy", "torch")),
        ("device", manifest.get("device")),
    )


def _revision() -> tuple[str, bool | None]:
    """The commit of the checkout, and whether package or lock differ from it; ("unknown", None)
    without one."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(paths.root()), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        head, *inside = git("rev-parse", "HEAD", "--show-prefix").split("\n")
        if any(inside):  # the checkout lies inside somebody else's repository
            return "unknown", None
        return head, bool(git("status", "--porcelain", "--", "bnkit", "requirements.lock"))
    except (OSError, subprocess.CalledProcessError):
        return "unknown", None


def _source_digest() -> str:
    """SHA-256 over the names and contents of the package's modules, the press apart, which no run
    uses."""
    package, digest = Path(__file__).parents[1], hashlib.sha256()
    modules = {path.relative_to(package).as_posix(): path for path in package.rglob("*.py")}
    for name in sorted(name for name in modules if not name.startswith("book/")):
        digest.update(name.encode() + b"\0" + modules[name].read_bytes() + b"\0")
    return digest.hexdigest()


def _cpu() -> str:
    """The processor's model name, as far as the system tells it."""
    try:
        if platform.system() == "Darwin":
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(
                command, capture_output=True, text=True, check=True
            ).stdout.strip()
        found = re.search(
            r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE
        )
        return found[1] if found else platform.processor() or "unknown"
    except (OSError, subprocess.CalledProcessError):
        return platform.processor() or "unknown"


# The file


def _path(experiment: str, variant: str, seed: int, folder: Path | None) -> Path:
    folder = paths.runs() if folder is None else Path(folder)
    for name in (experiment, variant):
        if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name):
            raise RecordError(
                f"{name!r} cannot name a run: lower-case letters, digits, '-' and '.' only"
            )
    return folder / experiment / variant / f"seed-{seed}.json"


def _plain(thing: object) -> object:
    """The same in JSON's own types: NumPy arrays and numbers unpacked, tuples as lists."""
    if isinstance(thing, dict):
        return {key: _plain(value) for key, value in thing.items()}
    if isinstance(thing, list | tuple):
        return [_plain(value) for value in thing]
    return thing.tolist() if isinstance(thing, np.ndarray | np.generic) else thing


def _digest(content: dict) -> str:
    """SHA-256 of `content` in one canonical spelling, whatever the layout; ValueError for NaN and
    infinity."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _check(content: dict) -> None:
    """Raise ValueError where `content` does not have the form of a record."""
    if content.keys() != FIELDS.keys():
        wrong = ", ".join(sorted(content.keys() ^ FIELDS.keys()))
        raise ValueError(
            f"a record has the fields {', '.join(FIELDS)}; missing or unknown here: {wrong}"
        )
    for field, kind in FIELDS.items():
        if type(content[field]) is not kind:
            raise ValueError(
                f"{field} must be {kind.__name__}, not {type(content[field]).__name__}"
            )
    for name, curve in content["curves"].items():
        if not isinstance(curve, dict) or not {"steps", "values"} <= curve.keys():
            raise ValueError(f"curve {name!r} needs 'steps' and 'values'")
        steps = np.asarray(curve["steps"])
        values = np.asarray(curve["values"], np.float64)  # ValueError where ragged or no numbers
        if (
            steps.ndim != 1
            or len(steps) == 0
            or steps.dtype.kind != "i"
            or (np.diff(steps) <= 0).any()
        ):
            raise ValueError(
                f"the steps of curve {name!r} must be increasing integers, at least one"
            )
        if values.ndim == 0 or len(values) != len(steps):
            raise ValueError(
                f"curve {name!r} needs one value per step: {len(steps)} steps, {values.shape} "
                "values"
            )
        if not np.isfinite(values).all():
            raise ValueError(f"curve {name!r} holds numbers that are not finite")


def _text(content: dict) -> str:
    """JSON with one line per entry and, in nested values, per step: small, and git shows what
    changed."""

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
