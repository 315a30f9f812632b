"""What a JAX function computes, as a small graph of known nodes: the first half of `exact.compile`.

`trace` follows a function of arrays whose sizes are symbols ("b, 4*h, 4*w, 64"), and writes each
primitive that JAX met as one of the nodes below; constants (the trained weights) are folded.
`evaluate` computes the nodes in floats again, which is how ranges are measured and tables made.

What cannot become integers is refused here, with the primitive's name and the line of the user's
code that led to it.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import flax
import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
from jax import lax

from glc_jax import jaxprs
from glc_jax.entropy import affine
from glc_jax.entropy import sizes as sizes_of
from glc_jax.errors import ConfigError

Shape = tuple[int | str, ...]

MAX_IOTA = 1 << 12
"""Counting up to a known size of at most this becomes a constant."""


@dataclass(frozen=True, eq=False)
class Node:
    """One value of the graph.

    Attributes:
      kind: "input", "constant", "elementwise", "conv", "dot", "rows", "reduce", "size", "iota",
        or the name of a movement: "reshape", "transpose", "slice", "pad", "concatenate",
        "broadcast".
      inputs: the nodes that it reads.
      fields: what else decides its value; sizes in the notation of `sizes`.
      shape: sizes in the same notation.
      dtype: of the float function.
      source: the line of the user's code.
    """

    kind: str
    inputs: tuple[Node, ...]
    fields: Mapping[str, Any]
    shape: Shape
    dtype: np.dtype
    source: str = ""

    @property
    def scalar(self) -> bool:
        """Whether it is a constant of one element."""
        return self.kind == "constant" and self.fields["value"].size == 1

    @property
    def value(self) -> np.ndarray:
        """A constant's value."""
        return self.fields["value"]


@dataclass(frozen=True)
class Graph:
    """A function's nodes, each after those that it reads; its inputs and outputs among them."""

    nodes: tuple[Node, ...]
    inputs: tuple[Node, ...]
    outputs: Mapping[str, Node] = field(default_factory=dict)

    @property
    def constants(self) -> list[Node]:
        """The constant nodes."""
        return [node for node in self.nodes if node.kind == "constant"]


def trace(
    function: Callable[..., Mapping[str, jax.Array]],
    shapes: Sequence[str],
    dtypes: Sequence[Any],
) -> Graph:
    """The graph of a function: arrays -> dict of arrays.

    Args:
      function: what `jax.make_jaxpr` can follow; it closes over its weights.
      shapes: one string an argument, in jax.export's notation.
      dtypes: of the arguments.

    Raises:
      ConfigError: it uses a primitive that has no integer form.
    """
    split = [sizes_of.split(text) for text in shapes]
    scope = jax.export.SymbolicScope()
    arguments = [
        jax.ShapeDtypeStruct(jax.export.symbolic_shape(", ".join(parts), scope=scope), dtype)
        if parts
        else jax.ShapeDtypeStruct((), dtype)
        for parts, dtype in zip(split, dtypes, strict=True)
    ]
    closed, out = jax.make_jaxpr(function, return_shape=True)(*arguments)
    if not isinstance(out, Mapping):
        raise ConfigError("A function that becomes exact must return a dict of arrays.")
    tracer = _Tracer()
    inputs = tuple(
        tracer.add("input", (), {"number": number}, _dims(argument.shape), argument.dtype)
        for number, argument in enumerate(arguments)
    )
    constants = [tracer.constant(np.asarray(value)) for value in closed.consts]
    found = tracer.follow(closed.jaxpr, constants, inputs)
    names, _ = jax.tree.flatten({name: name for name in out})
    return Graph(
        _used(tracer.nodes, (*inputs, *found)), inputs, dict(zip(names, found, strict=True))
    )


def _used(nodes: Sequence[Node], wanted: Sequence[Node]) -> tuple[Node, ...]:
    """The nodes that the wanted ones need, in their order."""
    needed = set(wanted)
    for node in reversed(nodes):
        if node in needed:
            needed.update(node.inputs)
    return tuple(node for node in nodes if node in needed)


def _whole(dtype: Any) -> np.dtype:
    """The dtype, float32 in place of bfloat16, which NumPy does not take for a float."""
    small = jnp.issubdtype(dtype, jnp.floating) and np.dtype(dtype).kind != "f"
    return np.dtype(np.float32) if small else np.dtype(dtype)


def _dims(shape: Sequence[Any]) -> Shape:
    return tuple(_dim(size) for size in shape)


def _dim(size: Any) -> int | str:
    return int(size) if isinstance(size, int | np.integer) else str(size).replace("^", "**")


# How each primitive of JAX is computed in floats, element by element.
ELEMENTWISE: dict[str, Callable[..., jax.Array]] = {
    "add": jnp.add,
    "sub": jnp.subtract,
    "mul": jnp.multiply,
    "div": lambda a, b: jnp.divide(a, b) if a.dtype.kind == "f" else lax.div(a, b),
    "rem": lax.rem,
    "neg": jnp.negative,
    "max": jnp.maximum,
    "min": jnp.minimum,
    "abs": jnp.abs,
    "sign": jnp.sign,
    "square": jnp.square,
    "sqrt": jnp.sqrt,
    "rsqrt": lax.rsqrt,
    "cbrt": jnp.cbrt,
    "exp": jnp.exp,
    "exp2": jnp.exp2,
    "expm1": jnp.expm1,
    "log": jnp.log,
    "log1p": jnp.log1p,
    "tanh": jnp.tanh,
    "sinh": jnp.sinh,
    "cosh": jnp.cosh,
    "sin": jnp.sin,
    "cos": jnp.cos,
    "tan": jnp.tan,
    "asin": jnp.arcsin,
    "acos": jnp.arccos,
    "atan": jnp.arctan,
    "asinh": jnp.arcsinh,
    "acosh": jnp.arccosh,
    "atanh": jnp.arctanh,
    "logistic": jax.nn.sigmoid,
    "erf": lax.erf,
    "erfc": lax.erfc,
    "erf_inv": lax.erf_inv,
    "lgamma": lax.lgamma,
    "digamma": lax.digamma,
    "floor": jnp.floor,
    "ceil": jnp.ceil,
    "round": jnp.round,
    "pow": jnp.power,
    "atan2": jnp.arctan2,
    "lt": jnp.less,
    "le": jnp.less_equal,
    "gt": jnp.greater,
    "ge": jnp.greater_equal,
    "eq": jnp.equal,
    "ne": jnp.not_equal,
    "and": jnp.logical_and,
    "or": jnp.logical_or,
    "not": jnp.logical_not,
    "is_finite": jnp.isfinite,
    "select_n": lambda c, a, b: jnp.where(c, b, a),
    "clamp": lambda low, x, high: jnp.clip(x, low, high),
}

_SAME = ("stop_gradient", "copy", "copy_p", "reduce_precision", "optimization_barrier")


class _Tracer:
    """Writes the nodes of a jaxpr."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._caller = ""

    def add(
        self,
        kind: str,
        inputs: Sequence[Node],
        fields: Mapping[str, Any],
        shape: Shape,
        dtype: Any,
        source: str = "",
    ) -> Node:
        node = Node(kind, tuple(inputs), dict(fields), shape, _whole(dtype), source)
        self.nodes.append(node)
        return node

    def constant(self, value: np.ndarray) -> Node:
        value = np.asarray(value)
        value = value.astype(_whole(value.dtype), copy=False)
        return self.add("constant", (), {"value": value}, value.shape, value.dtype)

    def follow(self, jaxpr: Any, constants: Sequence[Node], inputs: Sequence[Node]) -> list[Node]:
        """The nodes of the outputs."""
        return jaxprs.walk(jaxpr, constants, inputs, self.constant, self.equation)

    def equation(self, equation: Any, inputs: list[Node]) -> Sequence[Node]:
        name, params = equation.primitive.name, equation.params
        source = self._caller or _line(equation)
        if inner := jaxprs.called(equation):
            return self._call(*inner, inputs, source)
        if name in _SAME:
            return inputs
        shape, dtype = _dims(equation.outvars[0].aval.shape), equation.outvars[0].aval.dtype
        if (
            all(node.kind == "constant" for node in inputs)
            and all(isinstance(size, int) for size in shape)
            and (inputs or (name == "iota" and math.prod(shape) <= MAX_IOTA))
        ):
            values = equation.primitive.bind(*(node.value for node in inputs), **params)
            values = values if equation.primitive.multiple_results else [values]
            return [self.constant(np.asarray(value)) for value in values]
        if name == "select_n" and inputs[0].kind == "constant" and inputs[0].value.size == 1:
            chosen = inputs[1 + int(inputs[0].value.reshape(()))]
            if chosen.shape == shape:
                return [chosen]
        if name == "split":
            return self._split(inputs[0], params, source)
        if name in ELEMENTWISE or name in ("integer_pow", "convert_element_type", "dim_as_value"):
            return [self._elementwise(name, inputs, params, shape, dtype, source)]
        write = getattr(self, f"_{name}", None)
        if write is None:
            raise _refused(name, source)
        return [write(inputs, params, shape, dtype, source)]

    def _call(
        self, jaxpr: Any, arrays: Sequence[np.ndarray], inputs: Sequence[Node], source: str
    ) -> list[Node]:
        """The nodes of a function within the function. What JAX's own functions do counts as the
        line that calls them: JAX keeps what it traced, with the line of whoever called first."""
        constants, caller = [self.constant(array) for array in arrays], self._caller
        if _is_library(jaxpr.debug_info.func_src_info or ""):
            self._caller = source
        found = self.follow(jaxpr, constants, inputs)
        self._caller = caller
        return found

    def _elementwise(self, name, inputs, params, shape, dtype, source) -> Node:
        if name == "dim_as_value":
            return self.add("size", (), {"size": _dim(params["dim"])}, (), dtype, source)
        fields: dict[str, Any] = {"function": name}
        if name == "integer_pow":
            fields["power"] = params["y"]
        if name == "convert_element_type":
            fields["function"] = "convert"
            fields["dtype"] = _whole(dtype)
            narrows = inputs[0].dtype.kind == "f" and np.dtype(dtype).kind in "iu"
            if narrows and inputs[0].fields.get("function") not in ("floor", "ceil", "round"):
                raise _refused("convert_element_type from float to integer", source)
        if name == "select_n" and len(inputs) != 3:
            raise _refused("select_n of more than two cases", source)
        numbers = [self._unbroadcast(x) for x in inputs]
        if all(x.kind == "constant" and x.scalar for x in numbers):
            node = Node("elementwise", tuple(numbers), fields, (), _whole(dtype), source)
            number = elementwise(node, [x.value.reshape(()) for x in numbers])
            constant = self.constant(np.asarray(number).astype(dtype))
            return self.add("broadcast", (constant,), {"axes": ()}, shape, dtype, source)
        if any(x.shape == shape for x in numbers):
            inputs = numbers
        return self.add("elementwise", inputs, fields, shape, dtype, source)

    def _unbroadcast(self, x: Node) -> Node:
        """A number that is broadcast, as jnp.where does it, as the number again."""
        if x.kind != "broadcast" or not x.inputs[0].scalar:
            return x
        return self.constant(x.inputs[0].value.reshape(()))

    def _split(self, x: Node, params, source) -> list[Node]:
        axis, start, parts = params["axis"], 0, []
        axes = {one: one for one in range(len(x.shape))}
        for size in _dims(params["sizes"]):
            starts, stops, shape = [0] * len(x.shape), list(x.shape), list(x.shape)
            stop = affine.plus(start, size)
            starts[axis], stops[axis], shape[axis] = start, stop, size
            parts.append(
                self._sliced(x, starts, stops, [1] * len(x.shape), source, axes, tuple(shape))
            )
            start = stop
        return parts

    def _slice(self, inputs, params, shape, dtype, source) -> Node:
        strides = params["strides"] or (1,) * len(shape)
        fields = {
            "starts": _dims(params["start_indices"]),
            "stops": _dims(params["limit_indices"]),
            "strides": tuple(int(stride) for stride in strides),
        }
        return self.add("slice", inputs, fields, shape, dtype, source)

    def _reshape(self, inputs, params, shape, dtype, source) -> Node:
        return self.add("reshape", inputs[:1], {}, shape, dtype, source)

    _squeeze = _expand_dims = _reshape

    def _transpose(self, inputs, params, shape, dtype, source) -> Node:
        fields = {"axes": tuple(params["permutation"])}
        return self.add("transpose", inputs, fields, shape, dtype, source)

    def _broadcast_in_dim(self, inputs, params, shape, dtype, source) -> Node:
        fields = {"axes": tuple(params["broadcast_dimensions"])}
        return self.add("broadcast", inputs[:1], fields, shape, dtype, source)

    def _concatenate(self, inputs, params, shape, dtype, source) -> Node:
        return self.add("concatenate", inputs, {"axis": params["dimension"]}, shape, dtype, source)

    def _stack(self, inputs, params, shape, dtype, source) -> Node:
        axis = params["axis"]
        one = (*shape[:axis], 1, *shape[axis + 1 :])
        parts = [self.add("reshape", (x,), {}, one, dtype, source) for x in inputs]
        return self.add("concatenate", parts, {"axis": axis}, shape, dtype, source)

    def _tile(self, inputs, params, shape, dtype, source) -> Node:
        (x,) = inputs
        for axis, times in enumerate(_dims(params["reps"])):
            if not isinstance(times, int):
                raise _refused("tile so often as the picture says", source)
            if times != 1:
                longer = (*x.shape[:axis], shape[axis], *x.shape[axis + 1 :])
                x = self.add("concatenate", [x] * times, {"axis": axis}, longer, dtype, source)
        return x

    def _pad(self, inputs, params, shape, dtype, source) -> Node:
        x, value = inputs
        if not (value.scalar and value.value == 0):
            return self._pad_with(x, value, params, shape, dtype, source)
        config = [tuple(_dim(size) for size in one) for one in params["padding_config"]]
        if any(isinstance(size, int) and size < 0 for one in config for size in one):
            raise _refused("pad by a negative size", source)
        before, after, between = zip(*config, strict=True)
        fields = {"before": before, "after": after, "between": between}
        return self.add("pad", (x,), fields, shape, dtype, source)

    def _pad_with(self, x, value, params, shape, dtype, source) -> Node:
        """(x - value), padded with 0, + value."""
        if not (value.scalar and dtype.kind == "f" and np.isfinite(value.value).all()):
            raise _refused("pad with what is not a number", source)

        def moved(function: str, one: Node) -> Node:
            fields = {"function": function}
            return self.add("elementwise", (one, value), fields, one.shape, dtype, source)

        zero = self.constant(np.zeros((), dtype))
        inner = self._pad([moved("sub", x), zero], params, shape, dtype, source)
        return moved("add", inner)

    def _iota(self, inputs, params, shape, dtype, source) -> Node:
        return self.add("iota", (), {"axis": params["dimension"]}, shape, dtype, source)

    def _reduce(self, kind, inputs, params, shape, dtype, source) -> Node:
        fields = {"kind": kind, "axes": tuple(params["axes"])}
        return self.add("reduce", inputs, fields, shape, dtype, source)

    def _reduce_sum(self, *arguments) -> Node:
        return self._reduce("sum", *arguments)

    def _reduce_max(self, *arguments) -> Node:
        return self._reduce("max", *arguments)

    def _reduce_min(self, inputs, params, shape, dtype, source) -> Node:
        negative = functools.partial(
            self.add, "elementwise", fields={"function": "neg"}, dtype=dtype, source=source
        )
        flipped = negative((inputs[0],), shape=inputs[0].shape)
        largest = self._reduce("max", (flipped,), params, shape, dtype, source)
        return negative((largest,), shape=shape)

    def _reduce_or(self, *arguments) -> Node:
        return self._reduce("max", *arguments)

    def _reduce_and(self, inputs, params, shape, dtype, source) -> Node:
        def opposite(x: Node) -> Node:
            return self.add("elementwise", (x,), {"function": "not"}, x.shape, dtype, source)

        return opposite(self._reduce("max", (opposite(inputs[0]),), params, shape, dtype, source))

    def _reduce_window_sum(self, *arguments) -> Node:
        return self._windows("add", *arguments)

    def _reduce_window_max(self, inputs, params, shape, dtype, source) -> Node:
        if any(_dim(size) != 0 for one in params["padding"] for size in one):
            raise _refused("reduce_window_max with padding", source)
        return self._windows("max", inputs, params, shape, dtype, source)

    def _windows(self, function, inputs, params, shape, dtype, source) -> Node:
        """Sums or maxima over windows: each position of the window is a slice."""
        if any(size != 1 for size in params["base_dilation"]):
            raise _refused("a window with base_dilation", source)
        x, strides = self._padded(inputs[0], params["padding"], source), params["window_strides"]
        axes, total = {axis: axis for axis in range(len(shape))}, None
        for position in itertools.product(*(range(size) for size in params["window_dimensions"])):
            starts = [i * d for i, d in zip(position, params["window_dilation"], strict=True)]
            stops = [
                affine.plus(start + 1, affine.times(affine.plus(size, -1), stride))
                for start, size, stride in zip(starts, shape, strides, strict=True)
            ]
            part = self._sliced(x, starts, stops, strides, source, axes, shape)
            if total is None:
                total = part
            else:
                fields = {"function": function}
                total = self.add("elementwise", (total, part), fields, shape, dtype, source)
        return total

    def _padded(self, x: Node, padding: Sequence[Any], source: str) -> Node:
        """x with zeros around it; `padding` gives (before, after) for each axis."""
        before, after = zip(*[[_dim(side) for side in one] for one in padding], strict=True)
        if all(side == 0 for side in (*before, *after)):
            return x
        if any(isinstance(side, int) and side < 0 for side in (*before, *after)):
            raise _refused("padding by a negative size", source)
        shape = tuple(
            affine.plus(affine.plus(size, b), a)
            for size, b, a in zip(x.shape, before, after, strict=True)
        )
        fields = {"before": before, "after": after, "between": (0,) * len(shape)}
        return self.add("pad", (x,), fields, shape, x.dtype, source)

    def _rev(self, inputs, params, shape, dtype, source) -> Node:
        (x,) = inputs
        for axis in params["dimensions"]:
            if not isinstance(shape[axis], int):
                raise _refused("rev along a size that depends on the picture", source)
            x = self._picked(x, axis, range(shape[axis] - 1, -1, -1), source)
        return x

    def _picked(self, x: Node, axis: int, positions: Sequence[int], source: str) -> Node:
        """The parts of x at these positions of an axis, one after the other."""
        axes = {one: one for one in range(len(x.shape))}
        shape = tuple(1 if one == axis else size for one, size in enumerate(x.shape))
        parts = []
        for position in positions:
            starts, stops = [0] * len(shape), list(x.shape)
            starts[axis], stops[axis] = position, position + 1
            parts.append(self._sliced(x, starts, stops, [1] * len(shape), source, axes, shape))
        if len(parts) == 1:
            return parts[0]
        shape = tuple(len(parts) if one == axis else size for one, size in enumerate(x.shape))
        return self.add("concatenate", parts, {"axis": axis}, shape, x.dtype, source)

    def _dot_general(self, inputs, params, shape, dtype, source) -> Node:
        fields = {"dimensions": params["dimension_numbers"]}
        return self.add("dot", inputs, fields, shape, dtype, source)

    def _conv_general_dilated(self, inputs, params, shape, dtype, source) -> Node:
        if params["batch_group_count"] != 1:
            raise _refused("a convolution with batch groups", source)
        fields = {
            name: params[name]
            for name in (
                "dimension_numbers",
                "feature_group_count",
                "lhs_dilation",
                "rhs_dilation",
                "window_strides",
            )
        }
        if inputs[1].kind != "constant":
            raise _refused("a convolution with a kernel that is computed", source)
        padding = tuple(tuple(_dim(side) for side in one) for one in params["padding"])
        x, sides = inputs[0], [side for one in padding for side in one]
        if any(isinstance(side, int) and side < 0 for side in sides):
            raise _refused("a convolution with negative padding", source)
        if any(isinstance(side, str) for side in sides):  # "SAME" with a stride
            if any(size != 1 for size in params["lhs_dilation"]):
                raise _refused("a dilated input whose padding depends on the picture", source)
            around = [(0, 0)] * len(x.shape)
            for axis, one in zip(params["dimension_numbers"].lhs_spec[2:], padding, strict=True):
                around[axis] = one
            x, padding = self._padded(x, around, source), ((0, 0),) * len(padding)
        fields["padding"] = padding
        return self.add("conv", (x, inputs[1]), fields, shape, dtype, source)

    def _gather(self, inputs, params, shape, dtype, source) -> Node:
        """Rows of a constant table (`codebook[indices]`), or an indexing like x[:, 1:, ::2]."""
        numbers, (table, index) = params["dimension_numbers"], inputs
        rest = table.shape[1:]
        whole_rows = (
            tuple(numbers.start_index_map) == tuple(numbers.collapsed_slice_dims) == (0,)
            and tuple(params["slice_sizes"]) == (1, *rest)
            and tuple(numbers.offset_dims) == tuple(range(len(shape) - len(rest), len(shape)))
            and not numbers.operand_batching_dims
        )
        if table.kind == "constant" and whole_rows:
            return self.add("rows", (index,), {"table": table.value}, shape, dtype, source)
        picked = self._picked_by(table, index, numbers, params, shape, source)
        if picked is not None:
            return picked
        positions = affine.components(index, len(numbers.start_index_map))
        if positions is None or numbers.operand_batching_dims:
            raise _refused("gather at positions that depend on values", source)
        return self._indexed(table, index, positions, params, shape, source)

    def _picked_by(self, x, index, numbers, params, shape, source) -> Node | None:
        """A gather like x[..., [3, 1, 1]], of constant positions along one axis."""
        (axis, *more), sizes = numbers.start_index_map, _dims(params["slice_sizes"])
        if (
            more
            or index.kind != "constant"
            or index.value.ndim != 2
            or tuple(numbers.collapsed_slice_dims) != (axis,)
            or tuple(numbers.offset_dims) != tuple(i for i in range(len(shape)) if i != axis)
            or any(
                size != whole
                for i, (size, whole) in enumerate(zip(sizes, x.shape, strict=True))
                if i != axis
            )
            or not isinstance(x.shape[axis], int)
        ):
            return None
        positions = index.value.reshape(-1)
        if not len(positions) or positions.min() < 0 or positions.max() >= x.shape[axis]:
            raise _refused("gather out of range", source)
        return self._picked(x, axis, positions.tolist(), source)

    def _indexed(self, x, index, positions, params, shape, source) -> Node:
        """A gather whose positions are start + stride * i, as a slice and a change of shape."""
        numbers, rank = params["dimension_numbers"], len(x.shape)
        starts, stops, strides = [0] * rank, list(_dims(params["slice_sizes"])), [1] * rank
        batch = [axis for axis in range(len(shape)) if axis not in numbers.offset_dims]
        target: dict[int, int] = {}  # axis of x -> axis of the result
        for axis, position in zip(numbers.start_index_map, positions, strict=True):
            starts[axis] = position.start
            if axis not in numbers.collapsed_slice_dims:
                stops[axis] = affine.plus(position.start, stops[axis])
                if position.strides:
                    raise _refused("gather of overlapping parts", source)
                continue
            stops[axis] = affine.plus(position.start, 1)
            if position.strides:
                ((along, stride),) = position.strides.items()
                if stride < 1 or len(position.strides) > 1:
                    raise _refused("an index that does not go forward", source)
                steps = affine.times(affine.plus(index.shape[along], -1), stride)
                stops[axis], strides[axis] = affine.plus(stops[axis], steps), stride
                target[axis] = batch[along]
        kept = [axis for axis in range(rank) if axis not in numbers.collapsed_slice_dims]
        target |= dict(zip(kept, numbers.offset_dims, strict=True))
        if sorted(target.values()) != list(range(len(shape))):
            raise _refused("gather that repeats what it reads", source)
        sliced = self._sliced(x, starts, stops, strides, source, target, shape)
        left = sorted(target)
        between = tuple(shape[target[axis]] for axis in left)
        if len(left) != rank:
            sliced = self.add("reshape", (sliced,), {}, between, x.dtype, source)
        axes = tuple(left.index(axis) for axis in sorted(target, key=target.get))
        if axes == tuple(range(len(axes))):
            return sliced
        return self.add("transpose", (sliced,), {"axes": axes}, shape, x.dtype, source)

    def _sliced(self, x, starts, stops, strides, source, target, shape) -> Node:
        fields = {"starts": _dims(starts), "stops": _dims(stops), "strides": tuple(strides)}
        cut = tuple(shape[target[axis]] if axis in target else 1 for axis in range(len(x.shape)))
        return self.add("slice", (x,), fields, cut, x.dtype, source)

    def _dynamic_slice(self, inputs, params, shape, dtype, source) -> Node:
        x, *positions = inputs
        found = [affine.scalar(position) for position in positions]
        if any(start is None for start in found):
            raise _refused("dynamic_slice at positions that depend on values", source)
        axes = {axis: axis for axis in range(len(shape))}
        stops = [affine.plus(start, size) for start, size in zip(found, shape, strict=True)]
        return self._sliced(x, found, stops, [1] * len(shape), source, axes, shape)


def _refused(what: str, source: str) -> ConfigError:
    return ConfigError(
        f"{source}: {what} has no exact integer form. docs/format.md lists the operations that "
        "have; write it with those."
    )


_LIBRARIES = tuple(
    os.path.join(os.path.dirname(os.path.abspath(module.__file__)), "")
    for module in (jax, jaxlib, flax)
)
_OWN = (os.path.abspath(__file__), os.path.join(os.path.dirname(__file__), "exact.py"))


def _is_library(where: str) -> bool:
    """Whether "name at file:line", or a file, is of JAX or Flax."""
    return where.rpartition(" at ")[2].startswith(_LIBRARIES)


def _line(equation: Any) -> str:
    """The innermost line outside JAX and Flax that led to an equation: "file.py:12 (name)"."""
    traceback = equation.source_info.traceback
    frames = traceback.frames if traceback else []
    for frame in frames:
        if not (_is_library(frame.file_name) or frame.file_name in _OWN):
            return f"{frame.file_name}:{frame.line_num} ({frame.function_name})"
    return "the function"


# The nodes in floats.


def evaluate(
    graph: Graph,
    inputs: Sequence[jax.Array],
    sizes: Mapping[str, int],
    constants: Sequence[jax.Array] | None = None,
) -> dict[Node, jax.Array]:
    """The value of every node, in the dtypes of the function.

    `constants` are the values of the constant nodes in their order, for a caller that compiles
    this and does not want them in the program.
    """
    values: dict[Node, jax.Array] = {}
    if constants is not None:
        values |= dict(zip(graph.constants, constants, strict=True))
    for node in graph.nodes:
        if node in values:
            continue
        if node.kind == "input":
            values[node] = jnp.asarray(inputs[node.fields["number"]], node.dtype)
        else:
            values[node] = compute(node, [values[read] for read in node.inputs], sizes)
    return values


def compute(node: Node, inputs: Sequence[jax.Array], sizes: Mapping[str, int]) -> jax.Array:
    """One node's value from those that it reads."""
    return _COMPUTE[node.kind](node, inputs, sizes)


def elementwise(node: Node, inputs: Sequence[jax.Array]) -> jax.Array:
    """An elementwise node's value; constants take the type of what they meet."""
    function = node.fields["function"]
    if function == "integer_pow":
        return lax.integer_pow(inputs[0], node.fields["power"])
    if function == "convert":
        kind, given = node.fields["dtype"].kind, inputs[0].dtype
        if kind == "f" and given.kind == "f":  # keeps the precision that it is evaluated in
            return inputs[0]
        if kind == "b":
            return inputs[0] != 0
        return inputs[0].astype(node.fields["dtype"])
    return ELEMENTWISE[function](*inputs)


def _shape(node: Node, sizes: Mapping[str, int]) -> tuple[int, ...]:
    return sizes_of.shape(node.shape, sizes)


def _compute_slice(node, inputs, sizes):
    starts, stops = (sizes_of.shape(node.fields[n], sizes) for n in ("starts", "stops"))
    return lax.slice(inputs[0], starts, stops, node.fields["strides"])


def _compute_pad(node, inputs, sizes):
    sides = [sizes_of.shape(node.fields[name], sizes) for name in ("before", "after", "between")]
    zero = jnp.zeros((), inputs[0].dtype)
    return lax.pad(inputs[0], zero, list(zip(*sides, strict=True)))


def _compute_reduce(node, inputs, sizes):
    reduce = jnp.sum if node.fields["kind"] == "sum" else jnp.max
    return reduce(inputs[0], axis=node.fields["axes"]).astype(inputs[0].dtype)


def _compute_conv(node, inputs, sizes):
    fields = dict(node.fields)
    return lax.conv_general_dilated(
        inputs[0],
        inputs[1].astype(inputs[0].dtype),
        fields.pop("window_strides"),
        fields.pop("padding"),
        **fields,
        precision=lax.Precision.HIGHEST,
    )


def _compute_dot(node, inputs, sizes):
    a, b = inputs
    return lax.dot_general(
        a, b.astype(a.dtype), node.fields["dimensions"], precision=lax.Precision.HIGHEST
    )


def _compute_iota(node, inputs, sizes):
    return lax.broadcasted_iota(node.dtype, _shape(node, sizes), node.fields["axis"])


def _compute_rows(node, inputs, sizes):
    table = node.fields["table"]
    return jnp.asarray(table)[jnp.clip(inputs[0][..., 0], 0, len(table) - 1)]


_COMPUTE: dict[str, Callable[[Node, Sequence[jax.Array], Mapping[str, int]], jax.Array]] = {
    "constant": lambda node, inputs, sizes: jnp.asarray(node.value),
    "elementwise": lambda node, inputs, sizes: elementwise(node, inputs),
    "size": lambda node, inputs, sizes: jnp.asarray(
        sizes_of.evaluate(node.fields["size"], sizes), node.dtype
    ),
    "iota": _compute_iota,
    "rows": _compute_rows,
    "reduce": _compute_reduce,
    "conv": _compute_conv,
    "dot": _compute_dot,
    "reshape": lambda node, inputs, sizes: inputs[0].reshape(_shape(node, sizes)),
    "transpose": lambda node, inputs, sizes: inputs[0].transpose(node.fields["axes"]),
    "slice": _compute_slice,
    "pad": _compute_pad,
    "concatenate": lambda node, inputs, sizes: jnp.concatenate(inputs, node.fields["axis"]),
    "broadcast": lambda node, inputs, sizes: lax.broadcast_in_dim(
        inputs[0], _shape(node, sizes), node.fields["axes"]
    ),
}
