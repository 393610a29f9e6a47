"""Assertions of a chapter that say what they found.

``assert a < b < 3`` that fails says nothing but that it failed. In a notebook whose second cell is
``parameters.check`` every such line gets a message: the assertion itself and the values of what it
compares. Python evaluates a message only where the assertion fails, so it costs nothing.
"""

import ast
import re
import sys
from collections.abc import Callable, Mapping
from types import CodeType

import numpy as np

LONGEST = 160  # letters of one value
CALLED = "_what_was_found"  # the name of ``found`` in the notebook


class Telling(ast.NodeTransformer):
    """Gives each assertion without a message one that ``found`` writes."""

    def visit_Assert(self, node: ast.Assert) -> ast.Assert:
        if node.msg is None:
            parts = {ast.unparse(part): part for part in compared(node.test)}
            nothing = ast.arguments([], [], None, [], [], None, [])
            asked = [ast.Lambda(nothing, part) for part in parts.values()]
            names = [ast.Constant(name) for name in parts]
            # unparse gives a generator brackets of its own inside those of the call
            claim = re.sub(r"\(\((.* for .*)\)\)", r"(\1)", ast.unparse(node.test))
            told = [ast.Constant(claim), ast.Dict(names, asked)]
            node.msg = ast.Call(ast.Name(CALLED, ast.Load()), told, [])
            ast.fix_missing_locations(node)
        return node


def compared(test: ast.expr) -> list[ast.expr]:
    """The parts of an assertion whose values tell why it fails."""
    match test:
        case ast.BoolOp(values=values):
            return [part for value in values for part in compared(value)]
        case ast.UnaryOp(operand=operand):
            return compared(operand)
        case ast.Compare(left=left, comparators=others):
            return [part for part in (left, *others) if not isinstance(part, ast.Constant)]
        case ast.Call(args=[ast.GeneratorExp(elt, generators)]):  # all(a < b for a, b in pairs)
            parts = compared(elt)
            each = parts[0] if len(parts) == 1 else ast.Tuple(parts, ast.Load())
            return [ast.ListComp(each, generators)]
        case ast.Call(args=args) if args:
            receiver = [test.func.value] if isinstance(test.func, ast.Attribute) else []
            wholes = [part for part in args if not isinstance(part, ast.Constant | ast.Starred)]
            values = [part for part in receiver if isinstance(part, ast.Compare)]
            return [*(side for part in values for side in compared(part)), *wholes]
        case ast.Call(func=ast.Attribute(value=value)):  # (a < b).all()
            return compared(value)
    return [] if isinstance(test, ast.Constant) else [test]


def found(claim: str, values: Mapping[str, Callable[[], object]]) -> str:
    """The message of a failed assertion: itself, and each value that it looked at."""
    lines = [f"this does not hold: {claim}"]
    for name, value in values.items():
        try:
            said = _short(value())
        except Exception as error:  # a message must not hide the failure by one of its own
            said = f"cannot be had again ({type(error).__name__})"
        lines.append(f"  {name} = {said}")
    return "\n".join(lines)


def compiled(source: str, name: str) -> CodeType:
    """`source` as a notebook would compile it; where it runs, ``CALLED`` must be ``found``."""
    tree = Telling().visit(ast.parse(source))
    return compile(ast.fix_missing_locations(tree), name, "exec")


def tell(shell: object | None) -> None:
    """Let a notebook's `shell` (IPython's, or None outside of one) say what assertions found."""
    transformers = getattr(shell, "ast_transformers", None)
    if transformers is None:
        return
    shell.user_ns[CALLED] = found
    if not any(isinstance(each, Telling) for each in transformers):
        transformers.append(Telling())


def _short(value: object) -> str:
    options = {"precision": 5, "threshold": 20, "edgeitems": 4, "linewidth": sys.maxsize}
    with np.printoptions(**options):
        if isinstance(value, float | np.floating):
            text = f"{value:.6g}"
        elif isinstance(value, list | tuple) and len(value) > 1:
            text = f"[{', '.join(_short(item) for item in value)}]"
        else:
            text = str(value)
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"
