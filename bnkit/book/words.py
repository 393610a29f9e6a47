"""Parameters on a command line: "steps=5000 rates=[0.1, 0.5]", and grids, "learning_rate=0.1,0.5"."""

import ast
import shlex
from collections.abc import Callable, Iterator

from bnkit.book.layout import PressError

CLOSING = {"[": "]", "(": ")"}


def as_words(given: str) -> Iterator[tuple[str, str]]:
    """Name and text of each NAME=VALUE, quotes as they are. Raises PressError for anything else."""
    for word in split(given, str.isspace):
        name, equals, text = word.partition("=")
        if not equals or not name:
            example = "write NAME=VALUE, for example steps=5000"
            raise PressError(f"{word!r} is no parameter; {example}")
        yield name, text


def split(text: str, is_between: Callable[[str], bool]) -> list[str]:
    """The parts of `text` between characters of which ``is_between`` is true.

    What stands in quotes or brackets is one part. Raises PressError where one is not closed.
    """
    return list(filter(None, _parts(text, is_between)))


def _parts(text: str, is_between: Callable[[str], bool]) -> list[str]:
    parts, open_ones, start = [""], [], 0
    for place, letter in enumerate(text):
        if open_ones and open_ones[-1] in "'\"":
            if letter == open_ones[-1]:
                open_ones.pop()
        elif letter in "'\"" or letter in CLOSING:
            open_ones.append(letter)
            start = place
        elif open_ones and letter == CLOSING[open_ones[-1]]:
            open_ones.pop()
        elif not open_ones and is_between(letter):
            parts.append("")
            continue
        parts[-1] += letter
    if open_ones:
        raise PressError(f"PARAMS {text!r} cannot be read: {text[start:]!r} is not closed")
    return parts


def read_value(text: str, kind: str) -> object:
    """The value that `text` stands for in a parameter of type `kind`; the text, if for none."""
    bare = _unquoted(text)
    try:
        if kind == "bool":
            return {"true": True, "false": False}[bare.lower()]
        if kind.startswith(("list", "tuple")):
            value = ast.literal_eval(text)
            return list(value) if isinstance(value, tuple) and kind.startswith("list") else value
        return {"int": int, "float": float}.get(kind, str)(bare)
    except (KeyError, ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return bare


def read_values(text: str, kind: str) -> list[object]:
    """The values of a grid, "0.1,0.5,2"; in a list, commas are its own: "[1,2],[3]" are two."""
    parts = [part.strip() for part in _parts(text, lambda letter: letter == ",")]
    if len(parts) > 1 and not all(parts):
        raise PressError(f"{text!r} has a comma too many: nothing stands on one side of it")
    return [read_value(part, kind) for part in parts if part]


def _unquoted(text: str) -> str:
    try:
        return "".join(shlex.split(text)) if text[:1] in "'\"" else text
    except ValueError:
        return text
