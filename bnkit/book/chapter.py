"""Runs one notebook in a process of its own, and says in words what went wrong with it."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType

from filelock import FileLock, Timeout

from bnkit import engines
from bnkit.book.layout import Book
from bnkit.page.notebook import cells_of, claims_of, source_of

# Whoever imports jsonschema, as all of Jupyter does, waits two seconds while this module compiles a
# grammar of internationalised addresses. It does without where the module is missing, and no
# notebook has anything to check by it.
QUICK = "import sys; sys.modules['rfc3987_syntax'] = None; "
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def program(statement: str, *arguments: str) -> list[str]:
    """The command by which this very Python runs `statement`, "from a import main; main()"."""
    return [sys.executable, "-c", QUICK + statement, *arguments]


class Workshop:
    """Runs notebooks until it is closed; closing it stops those that still run."""

    def __init__(self, book: Book, scratch: Path):
        self.folder = scratch  # goes when it is closed, or, of one that was killed, by the next
        self._running: set[subprocess.Popen] = set()
        self._environment = {
            **os.environ,
            # the bytes of a result must not depend on how many chapters run beside it
            **dict.fromkeys(THREADS, "1"),
            "BNKIT_ROOT": str(book.root),
            "BNKIT_LIVE": "",  # no runs that somebody keeps, unless a re-run names its own
            "PYTHONHASHSEED": "0",
            engines.PARENT: str(os.getpid()),
            # No settings of the user's, which could change a page.
            "MPLCONFIGDIR": str(book.build / "cache" / "matplotlib"),
            "IPYTHONDIR": str(scratch / "ipython"),
            "JUPYTER_CONFIG_DIR": str(scratch / "jupyter"),
            "JUPYTER_RUNTIME_DIR": str(scratch),
        }
        # matplotlib looks for fonts when it is first imported, and says so on stderr: do it now
        self._start("import matplotlib.font_manager").communicate()

    def run(
        self, clean: Path, executed: Path, given: Mapping[str, object], seconds: int, live: bool,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> str | None:  # fmt: skip
        """Execute `clean` into `executed` with parameters `given`; return what went wrong, if it did.

        No cell may take longer than `seconds`. With `live`, the terminal shows progress and prints.
        `environment` is added to that of the chapter.
        """
        worker = "from bnkit.book import worker; sys.exit(worker.main())"
        options = ["--seconds", str(seconds), "--parameters", json.dumps(dict(given))]
        options += ["--live"] if live else []
        arguments = (worker, str(clean), str(executed), *options)
        process = self._start(*arguments, live=live, environment=environment)
        complaints = process.communicate()[1]
        return None if process.returncode == 0 else explain(executed, complaints or "")

    def close(self) -> None:
        """Stop what still runs; kernels notice that their parent is gone and end, too."""
        for process in list(self._running):
            process.terminate()

    def _start(
        self, statement: str, *arguments: str, live: bool = False,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> subprocess.Popen:  # fmt: skip
        # A progress bar would be stored in the page as stderr: only where somebody watches.
        quiet = {} if live else {"TQDM_DISABLE": "1"}
        pipe = None if live else subprocess.PIPE
        process = subprocess.Popen(
            program(statement, *arguments),
            cwd=self.folder,  # a chapter must not depend on where it is run
            env={**self._environment, **quiet, **environment},
            stdout=pipe,
            stderr=pipe,
            text=True,
            errors="replace",
        )
        self._running.add(process)
        return process


SCRATCH, LOCK = "bnkit-workshop-", ".lock"
_OPEN: set[Workshop] = set()


@contextmanager
def workshop(book: Book) -> Iterator[Workshop]:
    """A workshop with a short-lived folder."""
    short = "/tmp" if os.access("/tmp", os.W_OK) else tempfile.gettempdir()  # for kernels' sockets
    (book.build / "cache").mkdir(parents=True, exist_ok=True)
    sweep_up(Path(short))
    folder = tempfile.TemporaryDirectory(prefix=SCRATCH, dir=short, ignore_cleanup_errors=True)
    with folder as scratch, FileLock(Path(scratch, LOCK)):
        open_workshop = Workshop(book, Path(scratch))
        _OPEN.add(open_workshop)
        try:
            yield open_workshop
        finally:
            _OPEN.discard(open_workshop)
            open_workshop.close()


def sweep_up(folder: Path) -> None:
    """Remove what workshops that were killed have left in `folder`: nobody holds their locks."""
    for scratch in folder.glob(f"{SCRATCH}*"):
        with suppress(OSError, Timeout):
            about = scratch.stat()
            old = time.time() - about.st_mtime > 60  # a young one may be about to be locked
            if old and about.st_uid == os.getuid() and (scratch / LOCK).is_file():
                with FileLock(scratch / LOCK, timeout=0):
                    shutil.rmtree(scratch, ignore_errors=True)


def close_all() -> None:
    """Stop what runs in the workshops of all threads of this process."""
    for open_workshop in list(_OPEN):
        open_workshop.close()


def explain(executed: Path, complaints: str) -> str:
    """What went wrong in a notebook that did not run to its end: cell, source and error."""
    try:
        cells = cells_of(executed)
    except (OSError, ValueError):
        cells = []
    for cell in cells:
        errors = [output for output in cell.get("outputs", []) if output["output_type"] == "error"]
        if errors or cell["metadata"].get("papermill", {}).get("status") == "running":
            lines = [line for error in errors for line in error["traceback"]]
            told = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join([*lines, complaints]))
            claims = ", ".join(claims_of(cell))
            where = f"cell {cell['id']!r}{f', which bears out {claims}' if claims else ''}"
            return f"{where}:\n{_indented(source_of(cell), '  | ')}\n{_indented(told, '  ')}"
    return _indented(complaints.strip() or "it could not be started", "  ")


def _indented(text: str, by: str) -> str:
    return "\n".join(f"{by}{line}".rstrip() for line in text.strip().splitlines())
