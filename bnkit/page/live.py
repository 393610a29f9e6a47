"""Runs the cells of a page in the reader's browser as a notebook would: one namespace, the value of
the last line shown, errors as Python prints them.

The page's script calls ``Session.run`` inside Pyodide; nothing here knows the browser, so that the
tests run it in any Python. What a cell gives goes to ``send(kind, text)`` while it runs: "out" and
"err" are text, "value" is the last line's, "error" a traceback, "note" what to do about it, and
"figure" an SVG picture.
"""

import ast
import contextlib
import io
import linecache
import sys
import traceback
from collections.abc import Callable

LIMIT = 100_000  # characters of output that a page shows of one cell
PIECE = 4_000  # characters that are sent at once, or many small messages would stop the page
HERE = {"numpy": "NumPy", "matplotlib": "matplotlib"}  # installed on request, or always
OURS = "bnkit.reference, bnkit.whitening and bnkit.gradcheck"

Send = Callable[[str, str], object]


class Output(io.TextIOBase):
    """What a cell prints, sent in pieces; past the limit it is counted and dropped."""

    def __init__(self, send: Send, limit: int = LIMIT):
        self._send, self._limit = send, limit
        self._waiting: list[tuple[str, str]] = []
        self._held = self.length = 0

    def put(self, kind: str, text: str) -> int:
        """Add text to what is printed, "out" or "err"."""
        room = max(0, self._limit - self.length)
        self.length += len(text)
        if shown := text[:room]:
            self._waiting.append((kind, shown))
            self._held += len(shown)
        if self._held >= PIECE:
            self.flush()
        return len(text)

    def flush(self) -> None:
        """Send what waits, neighbours of a kind together."""
        together: list[tuple[str, str]] = []
        for kind, text in self._waiting:
            if together and together[-1][0] == kind:
                together[-1] = kind, together[-1][1] + text
            else:
                together.append((kind, text))
        self._waiting, self._held = [], 0
        for kind, text in together:
            self._send(kind, text)

    def end(self) -> None:
        """Send the rest, and say what was cut."""
        self.flush()
        if self.length > self._limit:
            shown = f"the first {self._limit:,} are shown"
            self._send("note", f"The cell printed {self.length:,} characters; {shown}.")


class _Stream(io.TextIOBase):
    """``sys.stdout`` or ``sys.stderr`` of a cell."""

    def __init__(self, output: Output, kind: str):
        self._output, self._kind = output, kind

    def write(self, text: str) -> int:
        return self._output.put(self._kind, text)

    def flush(self) -> None:
        self._output.flush()


class Session:
    """One page's Python: its names live from cell to cell."""

    def __init__(self, send: Send):
        self._send = send
        self.names: dict = {"__name__": "__main__", "__builtins__": __builtins__}

    def run(self, source: str, name: str) -> bool:
        """Run one cell, called `name` in tracebacks; whether it came to its end."""
        file = f"<{name}>"
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
        output = Output(self._send)
        streams = _Stream(output, "out"), _Stream(output, "err")
        with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
            problem = self._execute(source, file, output)
        output.end()
        if problem is not None:
            self._send("error", _as_printed(problem, file))
            if note := _advice(problem):
                self._send("note", note)
        for picture in _figures():
            self._send("figure", picture)
        return problem is None

    def _execute(self, source: str, file: str, output: Output) -> BaseException | None:
        try:
            *before, last = ast.parse(source, file).body or [ast.Pass(lineno=1, col_offset=0)]
            shown = last.value if isinstance(last, ast.Expr) and not source.endswith(";") else None
            body = ast.Module(before if shown else [*before, last], type_ignores=[])
            exec(compile(body, file, "exec", dont_inherit=True), self.names)
            if shown is not None:
                line = compile(ast.Expression(shown), file, "eval", dont_inherit=True)
                self._show(eval(line, self.names), output)
        except BaseException as problem:  # SystemExit and KeyboardInterrupt end the cell alone
            return problem
        return None

    def _show(self, value: object, output: Output) -> None:
        if value is not None:
            self.names["_"] = value
            if not _is_figure(value):
                output.flush()
                output.put("value", f"{value!r}\n")


def needs(source: str) -> list[str]:
    """The packages of ``HERE`` that a cell imports; none of a cell that is no Python."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError):
        return []
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    return sorted({name.partition(".")[0] for name in names} & set(HERE))


def _as_printed(problem: BaseException, file: str) -> str:
    """The traceback from the cell's first line on, without this module's own."""
    place = problem.__traceback__
    while place and place.tb_frame.f_code.co_filename != file:
        place = place.tb_next
    return "".join(traceback.format_exception(type(problem), problem, place))


def _advice(problem: BaseException) -> str:
    """What to do where a cell uses what no cell has made, or imports what is not here."""
    if type(problem) is NameError:  # one unbound in a function is the cell's own mistake
        return "Has the cell that makes it run? Run all above runs the cells before this one."
    if not isinstance(problem, ModuleNotFoundError) or not problem.name:
        return ""
    version = sys.version.split()[0]
    present = f"Python {version} with {' and '.join(HERE.values())}, and {OURS}"
    local = "On your own machine `make lab` opens this chapter with all that it uses."
    return f"{problem.name} is not in this page: what runs here is {present}. {local}"


def _is_figure(value: object) -> bool:
    figure = sys.modules.get("matplotlib.figure")
    return figure is not None and isinstance(value, figure.Figure)


def _figures() -> list[str]:
    """The figures that the cell has drawn, as SVG; they are closed, as a notebook does."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    pictures = []
    for number in pyplot.get_fignums() if pyplot else []:
        buffer = io.StringIO()
        pyplot.figure(number).savefig(buffer, format="svg", bbox_inches="tight")
        pictures.append(buffer.getvalue())
        pyplot.close(number)
    return pictures
