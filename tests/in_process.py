"""A notebook run in the process of its test: an IPython shell, the cells, what each has put out.

A kernel of its own takes five seconds to start and to import, for every chapter. What it computes
and shows, and what the gate says of that, is the same here.
"""

import sys
from base64 import b64encode
from copy import deepcopy
from functools import partial

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import CapturedIO, RichOutput, capture_output
from nbformat.v4 import new_code_cell
from tqdm import tqdm
from traitlets.config import Config

from bnkit.page import parameters, progress, quantities
from bnkit.page.notebook import INJECTED, source_of, tags_of
from bnkit.plots import Drawing
from bnkit.runs import live


def executed(committed: dict, given: dict) -> dict:
    """`committed`, the content of a notebook, as it is after a run with the parameters `given`.

    Raises what a cell raises, with the cell's id as a note.
    """
    notebook = deepcopy(committed)
    cells = notebook["cells"]
    if given:
        after = next(n for n, cell in enumerate(cells, 1) if "parameters" in tags_of(cell))
        lines = [parameters.INJECTED, *(f"{name} = {value!r}" for name, value in given.items())]
        cell = new_code_cell("\n".join(lines), id="injected", metadata={"tags": [INJECTED]})
        cells.insert(after, cell)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantities, "_handed", {})  # a kernel of its own has handed over nothing yet
        patch.setattr(progress, "steps", range)  # bars would be stored as stderr
        patch.setattr(live, "tqdm", partial(tqdm, disable=True))
        patch.setattr(Drawing, "png", lambda _: b"")  # the SVG is what pages show
        shell = _shell(patch)
        for cell in (cell for cell in cells if cell["cell_type"] == "code"):
            with capture_output() as captured:
                shell.display_trap.hook = sys.displayhook  # the value of a cell is shown, too
                run = shell.run_cell(source_of(cell), store_history=True)
            if error := run.error_before_exec or run.error_in_exec:
                error.add_note(f"in the cell {cell['id']!r}")
                raise error
            cell |= {"execution_count": run.execution_count, "outputs": _outputs(captured)}
        InteractiveShell.clear_instance()
    return notebook


def _shell(patch: pytest.MonkeyPatch) -> InteractiveShell:
    """The shell that ``display`` and ``get_ipython`` find; it keeps no history."""
    InteractiveShell.clear_instance()
    patch.setitem(sys.modules, "__main__", sys.modules["__main__"])  # the shell puts its own there
    return InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))


def _outputs(captured: CapturedIO) -> list[dict]:
    """What a cell has put out, as notebooks store it; what it wrote comes first."""
    written = (("stdout", captured.stdout), ("stderr", captured.stderr))
    streams = [
        {"output_type": "stream", "name": name, "text": text} for name, text in written if text
    ]
    return [*streams, *map(_output, captured.outputs)]


def _output(shown: RichOutput) -> dict:
    data = {
        kind: b64encode(value).decode() if isinstance(value, bytes) else value
        for kind, value in shown.data.items()
    }
    return {"output_type": "display_data", "data": data, "metadata": shown.metadata}
