"""Where data, runs and style live. Never relative to the working directory.

JupyterLab starts a chapter in ``chapters/``, papermill where it is called; both find the same.
"""

import os
import tempfile
from pathlib import Path

STYLE = Path(__file__).with_name("house.mplstyle")


def root() -> Path:
    """The project folder: ``$BNKIT_ROOT``, else the folder that holds this package.

    Raises FileNotFoundError where neither is a checkout of the book (``bnkit.reference`` and
    ``bnkit.layers`` work without one; chapters, runs and data do not).
    """
    folder = Path(os.environ.get("BNKIT_ROOT") or Path(__file__).parent.parent).resolve()
    if not (folder / "chapters").is_dir():
        raise FileNotFoundError(
            f"{folder} is not a checkout of the book: it has no folder 'chapters'. "
            "Set BNKIT_ROOT to the checkout, or install bnkit from inside it (make setup)."
        )
    return folder


def runs() -> Path:
    """Recorded runs: ``$BNKIT_RUNS``, else ``data/runs`` of the project.

    Raises NotADirectoryError where that is a file, or lies below one.
    """
    given = os.environ.get("BNKIT_RUNS")
    folder = Path(given).expanduser().resolve() if given else root() / "data" / "runs"
    for place in (folder, *folder.parents):
        if place.is_file():
            raise NotADirectoryError(
                f"{place} is a file; BNKIT_RUNS must name a folder of records."
            )
    return folder


def paper() -> Path:
    """The paper's own numbers and digitized curves."""
    return root() / "data" / "paper"


def cache() -> Path:
    """Downloads and checkpoints; ignored by git, safe to delete."""
    return root() / "data" / "cache"


def data_folders(name: str) -> list[Path]:
    """Where the files of data set `name` are looked for, best first; no folder need exist."""
    given = os.environ.get("BNKIT_DATA")
    first = [Path(given).expanduser().resolve() / name] if given else []
    return [*first, cache() / name]


def write_atomically(path: Path, content: str | bytes) -> Path:
    """Write so that a reader, or a kill at any moment, meets the old file or the new one whole."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp makes it private; a published file is not
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path
