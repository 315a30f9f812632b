"""Index arithmetic in a graph: which positions an indexing like x[:, 1:, ::2] reads.

Where sizes are symbols JAX writes such an indexing as a gather, whose positions are computed:
iota * 2 + 1. Here they are read back as start + stride * i, with starts that may be symbols.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from glc_jax.entropy.graph import Node

Size = int | str


class Affine(NamedTuple):
    """start + sum of strides[axis] * (position along axis)."""

    start: Size
    strides: Mapping[int, int]


def plus(a: Size, b: Size) -> Size:
    """a + b, as a number where both are."""
    if isinstance(a, int) and isinstance(b, int):
        return a + b
    if a == 0 or b == 0:
        return b if a == 0 else a
    return f"{a} + ({b})"


def times(a: Size, factor: int) -> Size:
    """a * factor, as a number where a is one."""
    if isinstance(a, int):
        return a * factor
    return a if factor == 1 else f"({a})*{factor}"


def components(index: Node, count: int) -> list[Affine] | None:
    """The positions in an index array [..., count], component by component; None if not affine."""
    if index.kind == "constant":
        parts = [_of_array(part) for part in np.moveaxis(np.asarray(index.value), -1, 0)]
        return None if any(part is None for part in parts) else parts
    if count == 1:
        found = _of(index)
        last = len(index.shape) - 1
        return None if found is None or last in found.strides else [found]
    if index.kind == "concatenate" and index.fields["axis"] == len(index.shape) - 1:
        found = [components(part, part.shape[-1]) for part in index.inputs]
        if any(part is None for part in found):
            return None
        return [position for part in found for position in part]
    return None


def scalar(node: Node) -> Size | None:
    """The value of a scalar index."""
    found = _of(node)
    return None if found is None or found.strides else found.start


def _of_array(values: np.ndarray) -> Affine | None:
    if not values.size:
        return None
    start, strides = int(values.flat[0]), {}
    rebuilt = np.full(values.shape, start)
    for axis, size in enumerate(values.shape):
        if size > 1:
            pair = values.take([0, 1], axis).reshape(*values.shape[:axis], 2, -1)
            step = int(pair[..., 1, :].flat[0] - pair[..., 0, :].flat[0])
            along = [-1 if i == axis else 1 for i in range(values.ndim)]
            positions = np.arange(size).reshape(along)
            rebuilt = rebuilt + step * positions
            if step:
                strides[axis] = step
    return Affine(start, strides) if (rebuilt == values).all() else None


def _of(node: Node) -> Affine | None:
    if node.dtype.kind not in "iu":
        return None
    if node.kind == "constant":
        return _of_array(np.asarray(node.value))
    if node.kind == "iota":
        return Affine(0, {node.fields["axis"]: 1})
    if node.kind == "size":
        return Affine(node.fields["size"], {})
    if node.kind == "elementwise":
        return _of_function(node)
    if node.kind in ("broadcast", "reshape"):
        return _of_movement(node)
    return None


def _of_function(node: Node) -> Affine | None:
    function = node.fields["function"]
    read = [_of(part) for part in node.inputs]
    if any(part is None for part in read):
        return None
    if function == "convert":
        return read[0]
    if function in ("add", "sub"):
        sign = 1 if function == "add" else -1
        a, b = read
        axes = a.strides.keys() | b.strides.keys()
        strides = {x: a.strides.get(x, 0) + sign * b.strides.get(x, 0) for x in axes}
        return Affine(plus(a.start, times(b.start, sign)), {x: n for x, n in strides.items() if n})
    if function == "mul":
        for factor, other in (read, read[::-1]):
            if isinstance(factor.start, int) and not factor.strides:
                strides = {axis: n * factor.start for axis, n in other.strides.items()}
                return Affine(times(other.start, factor.start), strides)
    return None


def _of_movement(node: Node) -> Affine | None:
    (inner,) = node.inputs
    found = _of(inner)
    if found is None:
        return None
    if not found.strides:
        return found
    if node.kind == "broadcast":
        axes = node.fields["axes"]
    else:
        kept = [axis for axis, size in enumerate(inner.shape) if size != 1]
        there = [axis for axis, size in enumerate(node.shape) if size != 1]
        if [inner.shape[i] for i in kept] != [node.shape[i] for i in there]:
            return None
        axes = {a: b for a, b in zip(kept, there, strict=True)}
    return Affine(found.start, {axes[axis]: stride for axis, stride in found.strides.items()})
