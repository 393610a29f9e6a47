"""What git says of a chapter: as it is committed, and where the file that lies there differs.

JupyterLab saves what is edited, and papermill is asked for other values: only git knows what the
book's own are. Outside a checkout of the book under git, an unpacked archive say, nothing is known.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

from bnkit import paths
from bnkit.page.notebook import source_of

OF_A_RUN = ("papermill", "execution", "collapsed", "scrolled")  # metadata that change nothing


def known(root: Path) -> bool:
    """Whether `root` is the top of a checkout under git, with at least one commit."""
    try:
        return _git(root, "rev-parse", "--verify", "--show-prefix", "HEAD").splitlines()[0] == b""
    except (OSError, subprocess.CalledProcessError):
        return False


def content(root: Path, file: str) -> bytes | None:
    """The committed content of `file`, "chapters/08-mnist.ipynb"; None where none is known."""
    try:
        return _git(root, "show", f"HEAD:{file}")
    except (OSError, subprocess.CalledProcessError):
        return None


def chapter(name: str) -> dict | None:
    """The committed notebook of the chapter called `name`, "08-mnist"; None where none is known."""
    try:
        found = content(paths.root(), f"chapters/{name}.ipynb")
        return None if found is None else json.loads(found)
    except (OSError, ValueError):
        return None


def differs(root: Path, file: str) -> str | None:
    """In what the `file` of a checkout under git differs from what is committed, in words.

    Outputs, counts of execution and how the text is laid out do not count; None where it does not.
    """
    here, there = (root / file).read_bytes(), content(root, file)
    if there is None:
        return "is not committed"
    if here == there:
        return None
    if not file.endswith(".ipynb"):
        return "differs from what is committed"
    before, now = (dict(_cells(json.loads(text))) for text in (there, here))
    edited = [name for name in now if before.get(name, now[name]) != now[name]]
    added, gone = now.keys() - before.keys(), before.keys() - now.keys()
    parts = ("edited", edited), ("new", sorted(added)), ("gone", sorted(gone))
    told = [f"{what}: {', '.join(cells)}" for what, cells in parts if cells]
    if not told and list(before) == list(now):
        return None
    return f"differs from what is committed ({'; '.join(told) or 'its cells are in another order'})"


def _cells(notebook: dict) -> Iterator[tuple[str, tuple]]:
    """Each cell's id, and what of it counts."""
    for number, cell in enumerate(notebook["cells"]):
        metadata = {key: cell["metadata"][key] for key in cell["metadata"] if key not in OF_A_RUN}
        yield cell.get("id", str(number)), (cell["cell_type"], source_of(cell), metadata)


def _git(root: Path, *command: str) -> bytes:
    git = ("git", "-C", str(root), *command)
    return subprocess.run(git, capture_output=True, check=True).stdout
