"""Sizes that depend on the picture, as text: "4*h", "floordiv(h, 2) + 1".

A program over integers (see `program`) is the same for every picture, so the sizes in it are
expressions in a few names, in the notation of `jax.export.symbolic_shape`. They come from weights
files, which nobody has to trust: the grammar is integers, names, + - * **, floordiv, mod, max,
min, and every value is bounded.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Mapping, Sequence

from glc_jax.errors import WeightsError

MAX_TEXT = 200
MAX_POWER = 4
MAX_SIZE = 1 << 40

Sizes = Mapping[str, int]


def evaluate(expression: str | int, sizes: Sizes) -> int:
    """The value of an expression: an integer of magnitude at most 2^40.

    Raises WeightsError for what is not in the grammar, a name without a size, or a larger value.
    """
    if type(expression) is int:
        return _bounded(expression)
    if type(expression) is not str or len(expression) > MAX_TEXT:
        raise WeightsError("A program has a size that is no expression.")
    return _value(_parse(expression), sizes)


def shape(dimensions: Sequence[str | int], sizes: Sizes) -> tuple[int, ...]:
    """Every dimension's value; none may be negative."""
    if not isinstance(dimensions, list | tuple):
        raise WeightsError("A program has a shape that is no list.")
    values = tuple(evaluate(dimension, sizes) for dimension in dimensions)
    if any(value < 0 for value in values):
        raise WeightsError(f"A program has a negative size: {list(dimensions)} for {dict(sizes)}.")
    return values


def split(dimensions: str) -> tuple[str, ...]:
    """The dimensions of a shape in one string: "b, 4*h, 64" -> ("b", "4*h", "64")."""
    text = dimensions.strip().strip("()")
    parts, depth, start = [], 0, 0
    for position, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parts.append(text[start:position].strip())
            start = position + 1
    parts.append(text[start:].strip())
    return tuple(part for part in parts if part)


def bind(
    declared: Sequence[Sequence[str | int]], shapes: Sequence[tuple[int, ...]]
) -> dict[str, int]:
    """The sizes by name that make the declared shapes the given ones.

    A name is found where it stands alone or times a number. Raises WeightsError where the shapes
    do not fit.
    """
    sizes: dict[str, int] = {}
    pairs = [
        (dimension, size)
        for dimensions, given in zip(declared, shapes, strict=True)
        for dimension, size in zip(dimensions, given, strict=False)
    ]
    for dimension, size in pairs:
        found = _factor(dimension)
        if found and found[1] not in sizes and size % found[0] == 0:
            sizes[found[1]] = size // found[0]
    fits = all(
        len(dimensions) == len(given) and shape(dimensions, sizes) == tuple(given)
        for dimensions, given in zip(declared, shapes, strict=True)
    )
    if not fits:
        wanted = "; ".join(", ".join(map(str, dimensions)) for dimensions in declared)
        given = "; ".join(", ".join(map(str, one)) for one in shapes)
        raise WeightsError(f"A program for the shapes {wanted} was given {given}.")
    return sizes


def _factor(dimension: str | int) -> tuple[int, str] | None:
    """(4, "h") of "4*h", (1, "h") of "h", None of anything else."""
    if type(dimension) is not str or len(dimension) > MAX_TEXT:
        return None
    node = _parse(dimension)
    if isinstance(node, ast.Name):
        return 1, node.id
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        for number, name in ((node.left, node.right), (node.right, node.left)):
            known = isinstance(number, ast.Constant) and type(number.value) is int
            if known and number.value > 0 and isinstance(name, ast.Name):
                return number.value, name.id
    return None


@functools.lru_cache(maxsize=4096)
def _parse(text: str) -> ast.expr:
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise WeightsError(f"A program has a size that cannot be read: {text!r}.") from None


def _value(node: ast.expr, sizes: Sizes) -> int:
    if isinstance(node, ast.Constant) and type(node.value) is int and abs(node.value) <= MAX_SIZE:
        return node.value
    if isinstance(node, ast.Name):
        if node.id not in sizes:
            raise WeightsError(f"A program uses the size {node.id!r}, which no input has.")
        return sizes[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand, sizes)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        left, right = _value(node.left, sizes), _value(node.right, sizes)
        return _bounded(_OPERATORS[type(node.op)](left, right))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 2:
        function = _FUNCTIONS.get(node.func.id)
        left, right = (_value(argument, sizes) for argument in node.args)
        if function and not (node.func.id in ("floordiv", "mod") and right == 0):
            return _bounded(function(left, right))
    raise WeightsError("A program has a size with an operation that is not known.")


def _bounded(value: int) -> int:
    if abs(value) > MAX_SIZE:
        raise WeightsError("A size of a program is out of range.")
    return value


_OPERATORS = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Pow: lambda a, b: a**b if 0 <= b <= MAX_POWER else MAX_SIZE + 1,
}
_FUNCTIONS = {
    "floordiv": lambda a, b: a // b,
    "mod": lambda a, b: a % b,
    "max": max,
    "min": min,
}
