"""The directive ``room``: a room of the package on the page on the code, with its modules."""

from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective


class Room(SphinxDirective):
    """``.. room:: bnkit.layers``: the folder's docstring, and each module with its members.

    A folder inside that ``:without:`` names is left to a page of its own.
    """

    required_arguments = 1
    option_spec = {"without": str}  # noqa: RUF012

    def run(self) -> list[nodes.Node]:
        room, apart = self.arguments[0], self.options.get("without")
        names = [name for name in modules(room) if not f"{name}.".startswith(f"{room}.{apart}.")]
        lines = [line for name in names for line in documented(name)]
        section = nodes.Element()
        self.state.nested_parse(StringList(lines, self.arguments[0]), self.content_offset, section)
        return section.children


def modules(name: str) -> Iterator[str]:
    """The module or folder called `name`, and what is inside, in alphabetical order."""
    yield name
    for inside in iter_modules(getattr(import_module(name), "__path__", ()), f"{name}."):
        yield from modules(inside.name)


def documented(name: str) -> list[str]:
    """Lines of reStructuredText; what a folder hands on is documented where it is defined."""
    hands_on = hasattr(import_module(name), "__all__")
    options = [] if hands_on else ["   :members:", "   :exclude-members: set"]
    return [f".. automodule:: {name}", *options, ""]
