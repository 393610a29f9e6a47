"""A stopped run, kept so that it goes on exactly where it was: named arrays and plain facts.

NumPy's ``.npz`` without pickle: loading one can run no code. Checkpoints are working files in the
cache; what lasts is a record (``bnkit.runs.records``).
"""

import io
import json
import time
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
    except Exception:  # zipfile, zlib and NumPy raise all sorts of things for broken bytes
        return None
    return (arrays, facts) if isinstance(facts, dict) else None


class Checkpoint:
    """The checkpoint of one run: where it lies, whose it is, and when it is written next."""

    EVERY = 60  # seconds: what a kill costs at most

    def __init__(self, path: Path, recipe: str):
        """`recipe` is a digest: what another recipe left at `path` is not taken up."""
        self.path, self.recipe = Path(path), recipe
        self.earlier = 0.0  # seconds that earlier processes worked on the run
        self.began = self.saved = time.monotonic()

    def load(self) -> tuple[dict[str, np.ndarray], dict] | None:
        """Arrays and facts of a run of this recipe that was stopped; None where there is none."""
        arrays, about = load(self.path) or ({}, {})
        # of another recipe, or in the form of an earlier version: the run starts again
        if about.get("recipe") != self.recipe or not {"facts", "seconds"} <= about.keys():
            return None
        self.earlier = about["seconds"]
        return arrays, about["facts"]

    def is_due(self) -> bool:
        """Whether it is time to write it again."""
        return time.monotonic() - self.saved >= self.EVERY

    def save(self, arrays: Mapping[str, np.ndarray], facts: Mapping) -> None:
        """Write it, with the time that the run has taken so far."""
        seconds = self.earlier + time.monotonic() - self.began
        save(self.path, arrays, {"recipe": self.recipe, "facts": facts, "seconds": seconds})
        self.saved = time.monotonic()
