"""Python for the reader's browser: Pyodide's files, every byte of them verified.

A data set like the others, found in ``$BNKIT_DATA/pyodide/`` or ``data/cache/pyodide/``, else
downloaded into the latter from the project's own release. The digests of its core stand here; the
core's lock file holds those of the packages. ``data/README.md`` has licences and sizes.
"""

import hashlib
import json
from typing import NamedTuple

from bnkit.datasets import published
from bnkit.datasets.files import DataError, digest_of

NAME = "pyodide"
VERSION = "0.27.7"
LOCK = "pyodide-lock.json"
CORE = {  # name: (bytes, SHA-256)
    LOCK: (112_205, "9c45b916001a750f4102fc287494f3eab215909c7535c626a20db80fd6333e2c"),
    "pyodide.js": (14_913, "b4cb23a53aba19c221659b9fb40a2f18281d685691dc06647fb0afd0681baf98"),
    "pyodide.asm.js": (
        1_255_688,
        "6b4c90de5b7172873f04f21884d0e9d2274e305fe32116558fe3e4fbe3618d51",
    ),
    "pyodide.asm.wasm": (
        10_105_545,
        "a50dd1843f805a0b7c45b61037ee0d7b26dfe85efe0e18ef95a34ad24e401f5f",
    ),
    "python_stdlib.zip": (
        2_360_737,
        "16611534726e5d8ac2bd8f926410b2dcb8d6f49aa24913463533b457a2115c16",
    ),
}
PACKAGES = ("numpy", "matplotlib")  # what cells may import, each with all that it needs
MIRRORS = (f"https://cdn.jsdelivr.net/pyodide/v{VERSION}/full/",)
OTHERWISE = "build the book without it: its pages are complete, and have no Run buttons"


class Runtime(NamedTuple):
    """The verified files of a runtime."""

    files: dict[str, bytes]
    """By name: the core's, then the packages'."""
    packages: dict[str, list[str]]
    """The files of each of ``PACKAGES``: its own and those of all that it needs."""

    @property
    def digest(self) -> str:
        """SHA-256 over all of its files."""
        return digest_of(hashlib.sha256(content).hexdigest() for content in self.files.values())


def load() -> Runtime:
    """The runtime, verified; downloads the files that are nowhere.

    Raises DataError for an altered file, and without both file and network.
    """
    source = published.Source(NAME, MIRRORS, (*CORE, "the wheels that it names"), OTHERWISE)
    files = {
        name: published.content(source, name, digest, size) for name, (size, digest) in CORE.items()
    }
    known = json.loads(files[LOCK])["packages"]
    packages = {}
    for package in PACKAGES:
        wheels = [known[name] for name in _needed(package, known)]
        packages[package] = [wheel["file_name"] for wheel in wheels]
        for wheel in wheels:
            if (name := wheel["file_name"]) not in files:
                files[name] = published.content(source, name, wheel["sha256"])
    return Runtime(files, packages)


def at_hand() -> bool:
    """Whether any of it is here: then a book is built with it, or the error says what is wrong."""
    return any(published.find(NAME, name) for name in CORE)


def found() -> Runtime | None:
    """The runtime if it is here, None if nothing of it is; downloads nothing.

    Raises DataError for an altered file, and where some of its files are missing.
    """
    if not at_hand():
        return None
    if missing := _missing():
        raise DataError(
            f"{NAME} is here in part: {', '.join(missing)} missing. Complete it, python -m bnkit "
            f"data {NAME}, or move it away: the book is complete without, but has no Run buttons."
        )
    return load()


def _missing() -> list[str]:
    if missing := [name for name in CORE if not published.find(NAME, name)]:
        return missing
    try:
        known = json.loads(published.find(NAME, LOCK).read_bytes())["packages"]
        wheels = {known[n]["file_name"] for one in PACKAGES for n in _needed(one, known)}
    except (OSError, ValueError, KeyError, TypeError):
        return []  # damaged: its digest will say so
    return sorted(wheel for wheel in wheels if not published.find(NAME, wheel))


def _needed(package: str, known: dict) -> list[str]:
    """The names of a package and of all that it needs, itself first."""
    names = [package]
    for name in names:
        names += [other for other in known[name]["depends"] if other not in names]
    return names
