"""What a run of a chapter found, as values that programs read: ``page.result``, ``page.curve``.

A chapter hands over two kinds of numbers. What other pages quote is glued, and is the book's own
whatever the parameters are. What the run shown found, with its spread over seeds, is handed over
here::

    page.result("final_with_bn", 100 * study.accuracy(runs), "%")  # one value for each seed
    page.result("steps_to_95", [1500, None, 2000], "steps")  # None: the second never got there
    page.curve("test accuracy with BN", steps, values, "%")
    page.results()  # the table of what this run handed over so far

Both are stored in the executed notebook under MIME types of our own, which no page shows.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import fmean, stdev

from bnkit.page.notebook import source_of

RESULT = "application/vnd.bnkit.result+json"
CURVE = "application/vnd.bnkit.curve+json"
DIGITS = 6  # significant ones that curves are stored with
LARGEST = 1e300  # of a value: its mean and spread over seeds are numbers as well
_handed: dict[str, tuple["Result", int | None]] = {}  # results of this kernel, and their cells


class ResultError(ValueError):
    """What a chapter hands over is no result, or not this one; the message says what is allowed."""


@dataclass(frozen=True)
class Result:
    """One quantity: a value for each seed, or a single one where nothing was drawn by chance.

    A value that is None is missing, say a number of steps to what was never reached.
    """

    name: str  # of the form final_with_bn: a column of a table
    unit: str  # "%", "steps"; "" for a pure number
    values: tuple[float | None, ...]
    seeded: bool  # whether they are repetitions with other seeds
    what: str = ""  # a few words on it

    @property
    def there(self) -> list[float]:
        """The values that are not missing."""
        return [value for value in self.values if value is not None]

    @property
    def mean(self) -> float | None:
        """The mean of the values there; None where there is none."""
        return fmean(self.there) if self.there else None

    @property
    def spread(self) -> float | None:
        """Standard deviation over seeds; None where it cannot be known, 0 of what is not seeded."""
        if not self.seeded:
            return 0.0 if self.there else None
        return stdev(self.there) if len(self.there) > 1 else None

    def __str__(self) -> str:
        return words(self.mean, self.spread if self.seeded else None) + self.lacking

    @property
    def unbroken(self) -> str:
        """The same for a narrow column: mean and spread stay on one line."""
        return str(self).replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}")

    @property
    def lacking(self) -> str:
        """How many values are missing, in words; "" for none."""
        lost = len(self.values) - len(self.there)
        return f" ({len(self.there)} of {len(self.values)})" if lost and self.there else ""

    def as_dict(self) -> dict:
        """The result in JSON's own types, with what programs would compute from its values."""
        derived = {"mean": self.mean, "spread": self.spread, "seeds": len(self.values)}
        return {**asdict(self), "values": list(self.values), **derived}


@dataclass(frozen=True)
class Curve:
    """Values along an axis, a row for each seed."""

    name: str
    unit: str
    along: str  # what the axis counts
    x: tuple[float, ...]  # (t,), rising
    values: tuple[tuple[float, ...], ...]  # (seeds, t)

    def as_dict(self) -> dict:
        """The curve in JSON's own types."""
        return {**asdict(self), "x": list(self.x), "values": list(map(list, self.values))}


# What chapters call


def result(name: str, value: object, unit: str = "", what: str = "") -> None:
    """Hand over what this run found as `name`: a number, or a sequence of them, one for each seed.

    None, alone or in a sequence, is a value that is missing. A name stands for one quantity in a
    chapter. Raises ResultError for another name, for what is no number, not finite, or beyond
    ``LARGEST`` in magnitude.
    """
    made = as_result(name, value, unit, what)
    here = _cell()
    if name in _handed and _handed[name][1] == here:
        raise ResultError(f"{name} is handed over twice; a name stands for one quantity")
    _handed[name] = made, here  # a cell that runs again, as in JupyterLab, says it anew
    _hand(RESULT, made.as_dict())


def curve(name: str, x: object, values: object, unit: str = "", along: str = "steps") -> None:
    """Hand over `values` along `x`, for pages that lay runs over each other.

    Shapes: `x` (t,), rising; `values` (t,) or (seeds, t). Raises ResultError where they are not of
    these shapes, not finite, or beyond ``LARGEST`` in magnitude.
    """
    _hand(CURVE, as_curve(name, x, values, unit, along).as_dict())


def results() -> None:
    """Show a table of what this run has handed over so far."""
    from bnkit.page import prose

    rows = [
        (f"`{made.name}`", made.what, str(made), made.unit, len(made.values) if made.seeded else "")
        for made, _ in _handed.values()
    ]
    prose.table(("result", "what it is", "this run", "unit", "seeds"), rows, align="llrlr")


# Making them


def as_result(name: str, value: object, unit: str = "", what: str = "") -> Result:
    """The result that these arguments of ``result`` describe. Raises ResultError."""
    if not (isinstance(name, str) and name.isidentifier() and name == name.lower()):
        wanted = "a name like final_with_bn: small letters, digits and _"
        raise ResultError(f"{name!r} cannot name a result; it takes {wanted}")
    if not (isinstance(unit, str) and isinstance(what, str)):
        raise ResultError(f"{name}: unit and description are text")
    value = _plain(value)
    seeded = isinstance(value, list | tuple)
    values = tuple(_number(name, one) for one in (value if seeded else [value]))
    if not values:
        raise ResultError(f"{name} has no value; None says that one is missing")
    return Result(name, unit, values, seeded, what)


def as_curve(name: str, x: object, values: object, unit: str = "", along: str = "steps") -> Curve:
    """The curve that these arguments of ``curve`` describe. Raises ResultError."""
    if not (isinstance(name, str) and name.strip() and "\n" not in name):
        raise ResultError(f"{name!r} cannot name a curve; it takes a line of text")
    places, rows = _plain(x), _plain(values)
    lists = isinstance(places, list | tuple) and isinstance(rows, list | tuple)
    if not (lists and places and rows):
        raise ResultError(f"{name}: a curve takes lists of places and of values")
    if not (isinstance(unit, str) and isinstance(along, str)):
        raise ResultError(f"{name}: unit and what the axis counts are text")
    rows = [_plain(row) for row in rows]
    if not isinstance(rows[0], list | tuple):
        rows = [rows]
    if stray := [row for row in rows if not isinstance(row, list | tuple)]:
        raise ResultError(f"{name}: {_shown(stray[0])} is no list of values, as other rows are")
    along_x = tuple(_finite(name, place, hint="") for place in places)
    table = tuple(tuple(_rounded(_finite(name, one, hint="")) for one in row) for row in rows)
    if any(after <= before for before, after in pairwise(along_x)):
        raise ResultError(f"{name}: the places along a curve rise")
    if any(len(row) != len(along_x) for row in table):
        lengths = ", ".join(str(len(row)) for row in table)
        raise ResultError(f"{name} has {len(along_x)} places, but rows of {lengths} values")
    return Curve(name, unit, along, along_x, table)


def words(mean: float | None, spread: float | None = None) -> str:
    """A mean, and its spread if it is known, with as many digits as the spread allows."""
    if mean is None:
        return "missing"
    if spread is None or spread == 0:
        return _figures(mean, 4) + (" ± 0" if spread == 0 else "")
    digits = max(0, 1 - math.floor(math.log10(spread)))
    if digits > 8 or max(abs(mean), spread) >= 1e9:
        return f"{_figures(mean, 3)} ± {_figures(spread, 2)}"
    return f"{mean:,.{digits}f} ± {spread:,.{digits}f}".replace("-", "−")


def _figures(value: float, digits: int) -> str:
    """A number with so many significant figures, plain where that is readable."""
    if value and not 1e-4 <= abs(value) < 1e9:
        return f"{value:.{digits - 1}e}".replace("-", "−")
    places = digits - 1 - math.floor(math.log10(abs(value))) if value else 0
    text = f"{value:,.{max(0, places)}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", "−")


# Reading them


def found_in(cells: Iterable[dict]) -> dict[str, Result]:
    """The results that executed cells handed over, by name, in their order.

    Raises ResultError for a name that stands for two, and for what is no result.
    """
    found = {}
    for cell_id, data in _stored(cells, RESULT):
        made = read_result(data)
        if made.name in found:
            raise ResultError(f"cell {cell_id!r} hands over {made.name}, which stands for another")
        found[made.name] = made
    return found


def curves_in(cells: Iterable[dict]) -> list[Curve]:
    """The curves that executed cells handed over. Raises ResultError for what is no curve."""
    return [read_curve(data) for _, data in _stored(cells, CURVE)]


def read_result(data: object) -> Result:
    """A result from JSON. Raises ResultError for what is none."""
    wanted = {"name", "unit", "values", "seeded"}
    if not isinstance(data, Mapping) or not wanted <= data.keys():
        raise ResultError(f"a result has {', '.join(sorted(wanted))}; this is {data!r:.80}")
    values, seeded = data["values"], data["seeded"]
    if not isinstance(values, list) or (not seeded and len(values) != 1):
        raise ResultError(f"{data['name']}: values are a list, of one where there are no seeds")
    value = values if seeded else values[0]
    return as_result(data["name"], value, data["unit"], data.get("what", ""))


def read_curve(data: object) -> Curve:
    """A curve from JSON. Raises ResultError for what is none."""
    wanted = {"name", "unit", "along", "x", "values"}
    if not isinstance(data, Mapping) or not wanted <= data.keys():
        raise ResultError(f"a curve has {', '.join(sorted(wanted))}; this is {data!r:.80}")
    return as_curve(data["name"], data["x"], data["values"], data["unit"], data["along"])


def is_handed_over(output: Mapping) -> bool:
    """Whether an output is for programs alone."""
    return any(kind in output.get("data", {}) for kind in (RESULT, CURVE))


def hands_over(cells: Iterable[dict]) -> bool:
    """Whether the code of a chapter hands over any result."""
    return any("page.result(" in source_of(cell) for cell in cells)


def _stored(cells: Iterable[dict], kind: str) -> Iterator[tuple[str, object]]:
    for cell in cells:
        for output in cell.get("outputs", []):
            if kind in output.get("data", {}):
                yield cell.get("id", ""), output["data"][kind]


# Values


def _plain(value: object) -> object:
    """NumPy's arrays and numbers, and torch's, as Python's own; ranges and tuples as lists."""
    if isinstance(value, str | bytes | bytearray | memoryview | type):
        return value
    if hasattr(value, "tolist"):
        try:
            return value.tolist()
        except (RuntimeError, TypeError):  # a tensor without numbers, or not in one place
            return value
    return list(value) if isinstance(value, Sequence) else value


def _shown(value: object) -> str:
    """A value in a line of an error."""
    try:
        return f"{' '.join(repr(value).split()):.60}"
    except ValueError:  # a whole number of more digits than Python writes
        return f"what holds a number too long to write ({type(value).__name__})"


def _number(name: str, value: object) -> float | None:
    return None if value is None else _finite(name, value)


def _finite(name: str, value: object, hint: str = "; None says that a value is missing") -> float:
    value = _plain(value)
    if type(value) not in (int, float):
        raise ResultError(f"{name}: {_shown(value)} is no number")
    if isinstance(value, float) and not math.isfinite(value):
        raise ResultError(f"{name}: {value} is not finite{hint}")
    if abs(value) > LARGEST:
        allowed = f"from -{LARGEST} to {LARGEST} is allowed"
        raise ResultError(f"{name}: {_shown(value)} is too large; {allowed}")
    number = float(value)
    return value if type(value) is int and abs(value) < 2**53 else number


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _cell() -> int | None:
    from IPython import get_ipython

    shell = get_ipython()
    return shell.execution_count if shell else None


def _hand(kind: str, content: dict) -> None:
    from IPython.display import display  # not for those who only read notebooks

    display({kind: content}, raw=True)
