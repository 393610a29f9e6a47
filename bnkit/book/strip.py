"""How a notebook is made clean for a commit: the one place that says so, for the hook, ``make
check`` and the tests.
"""

import subprocess
from pathlib import Path

from bnkit.book.python import program

# Ids, tags and figure metadata stay; outputs, counts and whatever one machine left behind goes.
EXTRA_KEYS = (
    "metadata.papermill",
    "metadata.widgets",
    "metadata.language_info.version",
    "cell.metadata.papermill",
    "cell.metadata.execution",
)
OPTIONS = ["--keep-id", "--extra-keys", " ".join(EXTRA_KEYS)]


def strip(notebooks: list[Path], verify: bool = False) -> subprocess.CompletedProcess:
    """Remove outputs in place; with `verify` change nothing, and exit with 1 where there is
    something to remove."""
    options = [*OPTIONS, "--verify"] if verify else OPTIONS
    command = program(
        "from nbstripout._nbstripout import main; main()", *options, *map(str, notebooks)
    )
    return subprocess.run(command, capture_output=True, text=True, check=False)
