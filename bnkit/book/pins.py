"""The versions that the book stands on: the lock is plain and complete, and what is installed is
what it says.
"""

import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.markers import InvalidMarker, Marker

# no addresses, no hashes, no local versions
PIN = re.compile(r"([A-Za-z0-9][\w.-]*)==([\w.!-]+)(?: ; (.+))?")
# version 2 of the first has no _config.yml and no _toc.yml
FIXED = {"jupyter-book": "1.0.4.post1", "torch": "2.13.0"}


def check(lock: Path) -> Iterator[str]:
    """Yield what is wrong with the lock, and what is installed in another version than it says."""
    pins = {}
    for number, line in enumerate(lock.read_text(encoding="utf-8").splitlines(), start=1):
        if not line or line.startswith("#"):
            continue
        try:
            match = PIN.fullmatch(line)
            here = match and (not match[3] or Marker(match[3]).evaluate())
        except InvalidMarker:
            match = None
        if not match:
            yield f"{lock.name}, line {number}: {line!r} is not NAME==VERSION, with or without ' ; MARKER'"
        elif here:
            pins[_normal(match[1])] = match[2]
    for name, wanted in FIXED.items():
        if pins.get(name) != wanted:
            yield f"{lock.name}: {name} must be {wanted}, not {pins.get(name, 'missing')}"
    for name, wanted in pins.items():
        try:
            installed = version(name).partition("+")[0]  # torch says +cpu or +cu130 behind it
        except PackageNotFoundError:
            installed = "missing"
        if installed != wanted:
            yield f"{name} is {installed} in this environment, but {lock.name} says {wanted}; run: make setup"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
