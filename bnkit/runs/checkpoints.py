"""A stopped run, kept so that it goes on exactly where it was: named arrays and a few plain facts
in one file.

NumPy's ``.npz`` without pickle: loading one can run no code. Checkpoints are working files in the
cache; what lasts is a record (``bnkit.runs.records``).
"""

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bnkit import paths

_FACTS = "facts.json"


def save(path: Path, arrays: Mapping[str, np.ndarray], facts: Mapping) -> Path:
    """Write `arrays` and the JSON-able `facts` to `path`, whole or not at all."""
    if _FACTS in arrays:
        raise ValueError(f"an array may not be called {_FACTS!r}: that name holds the facts")
    buffer = io.BytesIO()
    text = np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8)
    np.savez(buffer, allow_pickle=False, **{_FACTS: text}, **arrays)
    return paths.write_atomically(path, buffer.getvalue())


def load(path: Path) -> tuple[dict[str, np.ndarray], dict] | None:
    """Arrays and facts of the checkpoint at `path`; None where there is none or it cannot be read.

    An unreadable checkpoint is worth no error: the run starts again and loses one piece of work.
    """
    try:
        content = io.BytesIO(Path(path).read_bytes())  # np.load would leave a broken file open
        with np.load(content, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        facts = json.loads(arrays.pop(_FACTS).tobytes())
    except (FileNotFoundError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
        return None
    return arrays, facts
