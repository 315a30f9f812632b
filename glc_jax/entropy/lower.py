"""From a graph of floats and the ranges of its values to a program over integers.

A value is carried as integers x that stand for x 2^-e. Two forms of it occur:

  wide    what an operation gives: sums of products, up to 2^52, nothing rounded yet; e is one
          number, or one for each channel (the last axis);
  narrow  rounded to the 16 bits that a factor of a matrix product may have, at the largest e at
          which twice the largest value of the calibration still fits.

A value becomes narrow only where something needs it so: a chain like product + bias + skip is
rounded once, at its end. Between those, factors of elementwise products have up to 22 bits.

A function of one value, element by element, becomes a table over all 16-bit integers, except for
what integers do exactly: sums, products, maxima, leaky ReLUs, quotients and roots.

After Ballé, Johnston and Minnen 2019 (integer networks) and He et al. 2022 (arXiv 2202.07513).
"""

from __future__ import annotations

import collections
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from glc_jax.entropy import graph as graphs
from glc_jax.entropy import sizes as sizes_of
from glc_jax.entropy.graph import Graph, Node
from glc_jax.entropy.integer import LIMIT, x64
from glc_jax.entropy.operations import BOUND, SLOPE_BITS
from glc_jax.entropy.program import INDEX_LIMIT, MAX_EXPONENT, Builder, Program
from glc_jax.errors import ConfigError, WeightsError

HEADROOM = 2.0
"""The integers reach this many times the largest magnitude seen in calibration."""

NOMINAL_SIZE = 256
"""Sums over sizes that depend on the picture are planned for this value of each symbol."""

FACTOR_BITS = 22
CONSTANT_BITS = 22
SPREAD = 10
"""Bits by which the finest channel of a product may be finer than the coarsest."""

MASK = 1e4
"""What `where` puts in may be this many times what it is put beside."""

OUTPUT_BITS = 24
STATE_LIMIT = (1 << 31) - 1
_SAFE = BOUND >> 1

Exponent = int | np.ndarray


class OutputForm(NamedTuple):
    """How an output comes: its exponent (None: by its range) and its largest magnitude."""

    exponent: int | None = None
    limit: int = (1 << OUTPUT_BITS) - 1


class Value(NamedTuple):
    """A value of the program: number's integers plus `bias`, in units of 2^-exponent.

    bound: of their sum. exponent and bias: one number, or one for each channel.
    """

    number: int
    exponent: Exponent
    bound: int
    bias: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Place:
    """Where a node's rounded value is found in the program, for a report."""

    node: Node
    number: int
    exponent: Exponent
    limit: int


def lower(
    graph: Graph,
    ranges: Mapping[Node, float],
    input_exponents: Sequence[Exponent | None],
    forms: Mapping[str, OutputForm],
    kernel_limit: int = LIMIT,
) -> tuple[Program, list[Place]]:
    """The program of a graph, and where its rounded values are.

    Args:
      ranges: the largest magnitude of every node over the calibration data.
      input_exponents: of the inputs that come as integers already; None: chosen by the range.
      forms: of the outputs that need a certain one.
      kernel_limit: the largest integer in kernels of products, other than depthwise ones.

    Raises:
      WeightsError: a range is not finite, or a sum does not fit 52 bits.
      ConfigError: a node has no integer form.
    """
    lowering = _Lowering(graph, ranges, input_exponents, kernel_limit)
    for name, node in graph.outputs.items():
        value = lowering.output(node, forms.get(name, OutputForm()))
        lowering.builder.output(name, value.number, value.exponent)
    return lowering.builder.program(), lowering.places


def magnitude_exponent(largest: float, limit: float) -> int:
    """The largest exponent at which HEADROOM * largest stays within limit."""
    if not np.isfinite(largest):
        raise WeightsError("A value of the entropy networks is not finite; nothing can code it.")
    if largest == 0:
        return 0
    return min(MAX_EXPONENT // 2, math.floor(math.log2(limit / (HEADROOM * largest))))


def _half(shift: Exponent) -> np.ndarray:
    """What turns the floor of a right shift into a rounding: half of 2^shift."""
    return (np.int64(1) << np.asarray(shift, np.int64)) >> 1


def _largest(values: Any) -> int:
    return int(np.abs(values).max()) if np.size(values) else 0


def _source(node: Node) -> str:
    return node.source or "the function"


class _Lowering:
    def __init__(
        self,
        graph: Graph,
        ranges: Mapping[Node, float],
        input_exponents: Sequence[Exponent | None],
        kernel_limit: int,
    ) -> None:
        self.ranges, self.kernel_limit = ranges, kernel_limit
        self.builder = Builder()
        self.places: list[Place] = []
        self._wide: dict[Node, Value] = {}
        self._rounded: dict[tuple[Node, int, bool], Value] = {}
        self._roots: dict[Node, Node] = {}
        self.readers = collections.Counter(part for node in graph.nodes for part in node.inputs)
        names = {s for node in graph.nodes for d in node.shape for s in _names(d)}
        self.sizes = dict.fromkeys(names, NOMINAL_SIZE)
        for node, exponent in zip(graph.inputs, input_exponents, strict=True):
            self._wide[node] = self._input(node, exponent)
        for node in graph.inputs:  # what other programs give may be far beyond what was seen
            if self._wide[node].bound == STATE_LIMIT:
                limit = (1 << FACTOR_BITS) - 1
                self._wide[node] = self._round(node, self._wide[node], limit, scalar=False)

    def _input(self, node: Node, exponent: Exponent | None) -> Value:
        if node.dtype.kind != "f":
            number = self.builder.input(node.shape, INDEX_LIMIT)
            return Value(number, 0, INDEX_LIMIT)
        limit = STATE_LIMIT
        if exponent is None:
            exponent, limit = magnitude_exponent(self.ranges[node], LIMIT), LIMIT
        return Value(self.builder.input(node.shape, limit, exponent), exponent, limit)

    # Emitting.

    def _emit(
        self,
        operation: str,
        values: Sequence[Value],
        exponent: Exponent,
        bound: int,
        arrays: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> Value:
        number = self.builder.add(operation, [v.number for v in values], arrays, **fields)
        if bound >= BOUND:
            raise WeightsError("A sum in the entropy networks does not fit 52 bits.")
        return Value(number, exponent, int(bound))

    def _settled(self, value: Value) -> Value:
        """The same with its bias added."""
        if value.bias is None:
            return value
        return self._emit(
            "sum", [value], value.exponent, value.bound, {"bias": value.bias}, signs=[1]
        )

    def _shifted_left(self, value: Value, shift: Exponent) -> Value:
        if not np.any(shift):
            return value
        value = self._settled(value)
        bound = value.bound << int(np.max(shift))
        return self._emit(
            "sum", [value], value.exponent + shift, bound, {"shift_0": shift}, signs=[1]
        )

    def _shifted_right(self, value: Value, shift: Exponent, limit: int = BOUND - 1) -> Value:
        """Rounded to exponent - shift, clamped to the limit; the bias is added on the way."""
        bias = _half(shift) + (0 if value.bias is None else value.bias)
        bound = min(limit, (value.bound >> int(np.min(shift))) + 1)
        return self._emit(
            "round",
            [value],
            value.exponent - shift,
            bound,
            {"shift": shift, "bias": bias},
            limit=limit,
        )

    # Forms of a value.

    def rounded(self, node: Node, limit: int, scalar: bool = False) -> Value:
        """At most `limit` in magnitude; with `scalar` of one exponent for all channels."""
        key = (node, limit, scalar)
        if key not in self._rounded:
            self._rounded[key] = self._round(node, self.wide(node), limit, scalar)
        return self._rounded[key]

    def _round(self, node: Node, value: Value, limit: int, scalar: bool = True) -> Value:
        # Where nothing but 0 comes in, layer after layer is within the limit: exponents would grow.
        fine = np.max(value.exponent) > MAX_EXPONENT // 2
        if value.bound <= limit and not fine and (np.ndim(value.exponent) == 0 or not scalar):
            return self._settled(value)
        exponent: Exponent = magnitude_exponent(self.ranges[node], limit)
        exponent = np.minimum(exponent, value.exponent)
        if scalar or node.kind != "input" or np.all(exponent == np.min(exponent)):
            exponent = int(np.min(exponent))
        result = self._shifted_right(value, np.asarray(value.exponent) - exponent, limit)
        self.places.append(Place(node, result.number, exponent, limit))
        return result._replace(exponent=exponent)

    def narrow(self, node: Node, scalar: bool = False) -> Value:
        """Rounded to 16 bits."""
        return self.rounded(node, LIMIT, scalar)

    def uniform(self, node: Node) -> Value:
        """Settled, with one exponent for all channels."""
        value = self.wide(node)
        if np.ndim(value.exponent) == 0:
            return self._settled(value)
        return self.narrow(node, scalar=True)

    def output(self, node: Node, form: OutputForm) -> Value:
        """An output's value in the wanted form, of one exponent for all channels."""
        if form.exponent is None:
            return self.rounded(node, form.limit, scalar=True)
        value, wanted = self.wide(node), form.exponent
        left = np.maximum(wanted - np.asarray(value.exponent), 0)
        room = _SAFE.bit_length() - max(value.bound, 1).bit_length() - 1
        if np.max(left) > room:
            value = self.rounded(node, (1 << FACTOR_BITS) - 1)
            left = np.maximum(wanted - np.asarray(value.exponent), 0)
        value = self._shifted_left(value, left)
        shift = np.asarray(value.exponent) - wanted
        result = self._shifted_right(value, shift, form.limit)
        self.places.append(Place(node, result.number, wanted, form.limit))
        return result._replace(exponent=wanted)

    def aligned(self, nodes: Sequence[Node]) -> tuple[list[Value], list[Exponent], Exponent]:
        """Values, the left shift that each still needs, and the exponent that they then share."""
        values = [self._summand(node) for node in nodes]
        target = functools.reduce(np.maximum, [np.asarray(v.exponent) for v in values])
        most = _SAFE // len(values)
        for value in values:
            room = most.bit_length() - max(value.bound, 1).bit_length() - 1
            target = np.minimum(target, np.asarray(value.exponent) + room)
        if np.ndim(target) == 0:
            target = int(target)
        shifts = []
        for position, value in enumerate(values):
            right = np.maximum(value.exponent - np.asarray(target), 0)
            if np.any(right):
                values[position] = self._shifted_right(value, right)
            left = target - np.asarray(values[position].exponent)
            shifts.append(left)
        return values, shifts, target

    def _summand(self, node: Node) -> Value:
        """What goes into a sum. A value that others read as well, as the skip of a residual
        block is, comes rounded: sums would otherwise grow from block to block."""
        value = self.wide(node)
        if self.readers[node] > 1 and node.dtype.kind == "f" and value.bound > 1 << FACTOR_BITS:
            return self.narrow(node)
        return value

    def _brought_together(self, nodes: Sequence[Node]) -> tuple[list[Value], Exponent]:
        values, shifts, exponent = self.aligned(nodes)
        moved = [
            self._shifted_left(self._settled(v), s) for v, s in zip(values, shifts, strict=True)
        ]
        return moved, exponent

    # The nodes.

    def wide(self, node: Node) -> Value:
        """The node's value, nothing rounded that need not be."""
        if node not in self._wide:
            value = getattr(self, f"_{node.kind}")(node)
            if np.size(value.exponent) == 1:  # one channel: it may be broadcast to several
                value = value._replace(exponent=int(np.asarray(value.exponent).reshape(())))
            self._wide[node] = value
        return self._wide[node]

    def _constant(self, node: Node) -> Value:
        value = np.asarray(node.value)
        if value.dtype.kind != "f":
            return self._emit("constant", [], 0, _largest(value), {"values": value})
        largest = float(np.abs(value).max()) if value.size else 0.0
        exponent = magnitude_exponent(largest, 2.0**FACTOR_BITS)
        integers = np.rint(np.ldexp(value.astype(np.float64), exponent)).astype(np.int64)
        return self._emit("constant", [], exponent, _largest(integers), {"values": integers})

    def _size(self, node: Node) -> Value:
        size = node.fields["size"]
        bound = abs(sizes_of.evaluate(size, self.sizes))
        return self._emit("size", [], 0, bound, size=size)

    def _iota(self, node: Node) -> Value:
        axis = node.fields["axis"]
        bound = sizes_of.evaluate(node.shape[axis], self.sizes)
        return self._emit("iota", [], 0, bound, shape=list(node.shape), axis=axis)

    def _rows(self, node: Node) -> Value:
        table = node.fields["table"].astype(np.float64)
        exponent = magnitude_exponent(float(np.abs(table).max()) / HEADROOM, LIMIT)
        integers = np.rint(np.ldexp(table, exponent)).astype(np.int64)
        (index,) = node.inputs
        position = self._emit(
            "reshape",
            [self.uniform(index)],
            0,
            self.wide(index).bound,
            shape=list(index.shape[:-1]),
        )
        return self._emit("rows", [position], exponent, _largest(integers), {"table": integers})

    # Products.

    def _kernel(
        self, weights: np.ndarray, exponent: Exponent, limit: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Integers of weights [.., I, O] for inputs of this exponent, and the outputs' exponent."""
        if not np.isfinite(weights).all():
            raise WeightsError("A weight of the entropy networks is not finite.")
        base = int(np.min(exponent))
        scaled = weights.astype(np.float64)
        if np.ndim(exponent):
            scaled = scaled * np.ldexp(1.0, base - np.asarray(exponent))[:, None]
        largest = np.abs(scaled).reshape(-1, scaled.shape[-1]).max(axis=0)
        with np.errstate(divide="ignore"):
            fit = np.floor(np.log2(limit / largest))
        fit = np.minimum(np.where(np.isfinite(fit), fit, 15), MAX_EXPONENT // 2).astype(np.int64)
        fit = np.minimum(fit, fit.min() + SPREAD)
        integers = np.rint(np.ldexp(scaled, fit)).astype(np.int64)
        return np.clip(integers, -limit, limit), fit + base

    def _product_with(self, x: Value, weights: np.ndarray, operation: str, **fields) -> Value:
        # A depthwise kernel is not multiplied as a matrix, and is small.
        limit = LIMIT if weights.shape[-2] == 1 else self.kernel_limit
        kernel, exponent = self._kernel(weights, x.exponent, limit)
        reach = np.abs(kernel).reshape(-1, kernel.shape[-1]).sum(axis=0)
        bound = _largest(reach) * x.bound
        return self._emit(operation, [x], exponent, bound, {"kernel": kernel}, **fields)

    def _conv(self, node: Node) -> Value:
        x_node, kernel_node = node.inputs
        numbers, groups = node.fields["dimension_numbers"], node.fields["feature_group_count"]
        x = self.narrow(x_node, scalar=groups > 1 or numbers.lhs_spec[1] != len(node.shape) - 1)
        lhs = (numbers.lhs_spec[0], *numbers.lhs_spec[2:], numbers.lhs_spec[1])
        x = self._transposed(x, lhs)
        gaps = [size - 1 for size in node.fields["lhs_dilation"]]
        if any(gaps):
            zeros = [0] * len(node.shape)
            x = self._emit(
                "pad", [x], x.exponent, x.bound, before=zeros, after=zeros, between=[0, *gaps, 0]
            )
        spec = numbers.rhs_spec
        weights = kernel_node.value.transpose((*spec[2:], spec[1], spec[0]))
        value = self._product_with(
            x,
            weights,
            "conv",
            window=[int(size) for size in weights.shape[:-2]],
            strides=[int(stride) for stride in node.fields["window_strides"]],
            dilations=[int(size) for size in node.fields["rhs_dilation"]],
            padding=[[int(side) for side in one] for one in node.fields["padding"]],
            groups=int(groups),
        )
        out = (numbers.out_spec[0], *numbers.out_spec[2:], numbers.out_spec[1])
        back = tuple(int(axis) for axis in np.argsort(out))
        if back != tuple(range(len(back))):
            value = self._round(node, value, LIMIT)
        return self._transposed(value, back)

    def _transposed(self, value: Value, axes: Sequence[int]) -> Value:
        if list(axes) == list(range(len(axes))):
            return value
        value = self._settled(value)
        return self._emit("transpose", [value], value.exponent, value.bound, axes=list(axes))

    def _reshaped(self, value: Value, shape: Sequence[int | str]) -> Value:
        value = self._settled(value)
        return self._emit("reshape", [value], value.exponent, value.bound, shape=list(shape))

    def _dot(self, node: Node) -> Value:
        (contract, batch), (a, b) = node.fields["dimensions"], node.inputs
        if b.kind == "constant" and not batch[0]:
            return self._dense(node, a, b.value, contract[0], contract[1], swapped=False)
        if a.kind == "constant" and not batch[0]:
            return self._dense(node, b, a.value, contract[1], contract[0], swapped=True)
        return self._product_of_values(node)

    def _dense(self, node, x_node, weights, x_axes, w_axes, swapped) -> Value:
        rank = len(x_node.shape)
        x_rest = [axis for axis in range(rank) if axis not in x_axes]
        w_rest = [axis for axis in range(weights.ndim) if axis not in w_axes]
        plain = tuple(x_axes) == (rank - 1,)
        x = self.narrow(x_node, scalar=not plain)
        order = [*x_rest, *x_axes]
        x = self._transposed(x, order)
        rest = [x_node.shape[axis] for axis in x_rest]
        if len(x_axes) != 1:
            x = self._reshaped(x, [*rest, math.prod(x_node.shape[axis] for axis in x_axes)])
        matrix = weights.transpose((*w_axes, *w_rest))
        outputs = [weights.shape[axis] for axis in w_rest]
        matrix = matrix.reshape(-1, math.prod(outputs))
        value = self._product_with(x, matrix, "dense")
        if len(outputs) == 1 and not (swapped and rest):
            return value
        value = self._round(node, value, LIMIT)
        value = self._reshaped(value, [*rest, *outputs])
        if swapped:
            axes = list(range(len(rest), len(rest) + len(outputs))) + list(range(len(rest)))
            value = self._transposed(value, axes)
        return value

    def _product_of_values(self, node: Node) -> Value:
        ((a_sum, b_sum), (a_batch, b_batch)), (a, b) = node.fields["dimensions"], node.inputs
        a_rest = [i for i in range(len(a.shape)) if i not in (*a_sum, *a_batch)]
        b_rest = [i for i in range(len(b.shape)) if i not in (*b_sum, *b_batch)]
        batch = [a.shape[i] for i in a_batch]
        rows = _times(a.shape[i] for i in a_rest)
        columns = _times(b.shape[i] for i in b_rest)
        terms = _times(a.shape[i] for i in a_sum)
        left = self._transposed(self.narrow(a, scalar=True), [*a_batch, *a_rest, *a_sum])
        right = self._transposed(self.narrow(b, scalar=True), [*b_batch, *b_sum, *b_rest])
        left = self._reshaped(left, [*batch, rows, terms])
        right = self._reshaped(right, [*batch, terms, columns])
        count = sizes_of.evaluate(terms, self.sizes)
        value = self._emit(
            "product",
            [left, right],
            left.exponent + right.exponent,
            count * left.bound * right.bound,
        )
        return self._reshaped(value, node.shape)

    # Movements.

    def _moved(self, node: Node, keeps_channels: bool) -> Value:
        """The input's value, with one exponent unless the channels stay where they are."""
        value = self.wide(node.inputs[0])
        if keeps_channels or (np.ndim(value.exponent) == 0 and np.ndim(value.bias) == 0):
            return value
        return self.uniform(node.inputs[0])

    def _reshape(self, node: Node) -> Value:
        before = node.inputs[0].shape
        keeps = bool(before and node.shape and before[-1] == node.shape[-1])
        value = self._moved(node, keeps)
        return self._emit(
            "reshape", [value], value.exponent, value.bound, shape=list(node.shape)
        )._replace(bias=value.bias)

    def _transpose(self, node: Node) -> Value:
        axes = node.fields["axes"]
        value = self._settled(self._moved(node, axes[-1] == len(axes) - 1))
        return self._transposed(value, axes)

    def _slice(self, node: Node) -> Value:
        fields = {name: list(node.fields[name]) for name in ("starts", "stops", "strides")}
        last = [fields[name][-1] for name in ("starts", "stops", "strides")]
        known = all(isinstance(number, int) for number in last)
        value = self._moved(node, known)
        picked = slice(*last) if known else slice(None)
        channels = [
            part[picked] if np.ndim(part) else part for part in (value.exponent, value.bias)
        ]
        result = self._emit("slice", [value], channels[0], value.bound, **fields)
        return result._replace(bias=channels[1])

    def _pad(self, node: Node) -> Value:
        sides = {name: list(node.fields[name]) for name in ("before", "after", "between")}
        on_channels = any(sides[name][-1] for name in sides)
        value = self._settled(self._moved(node, not on_channels))
        return self._emit("pad", [value], value.exponent, value.bound, **sides)

    def _broadcast(self, node: Node) -> Value:
        axes, before = node.fields["axes"], node.inputs[0].shape
        keeps = bool(axes) and axes[-1] == len(node.shape) - 1 and before[-1] == node.shape[-1]
        value = self._settled(self._moved(node, keeps))
        return self._emit(
            "broadcast",
            [value],
            value.exponent,
            value.bound,
            shape=list(node.shape),
            axes=list(axes),
        )

    def _concatenate(self, node: Node) -> Value:
        axis = node.fields["axis"]
        if axis == len(node.shape) - 1:
            values = [self._settled(self.wide(part)) for part in node.inputs]
            exponents = [v.exponent for v in values]
            if all(np.ndim(e) == 0 for e in exponents) and len(set(exponents)) == 1:
                exponent: Exponent = exponents[0]
            else:
                exponent = np.concatenate(
                    [
                        np.broadcast_to(e, part.shape[-1])
                        for e, part in zip(exponents, node.inputs, strict=True)
                    ]
                )
        else:
            values, exponent = self._brought_together(node.inputs)
        bound = max(value.bound for value in values)
        return self._emit("concatenate", values, exponent, bound, axis=axis)

    def _reduce(self, node: Node) -> Value:
        (x,), axes = node.inputs, node.fields["axes"]
        last = len(x.shape) - 1
        whole = last in axes
        value = self.uniform(x) if whole else self._settled(self.wide(x))
        exponent = value.exponent
        if node.fields["kind"] == "sum":
            count = sizes_of.evaluate(_times(x.shape[axis] for axis in axes), self.sizes)
            room = _SAFE.bit_length() - 1
            if (value.bound * count).bit_length() > room:
                # By its range, not by its bound, which is that of the finest channel.
                limit = (1 << max(room - count.bit_length(), 1)) - 1
                value = self.rounded(x, limit, scalar=whole)
                exponent = value.exponent
            bound = value.bound * count
        else:
            bound = value.bound
        keeps = np.ndim(exponent) == 0 or not whole
        if not keeps:
            raise AssertionError("a reduction over channels of several exponents")
        return self._emit(
            "reduce", [value], exponent, bound, kind=node.fields["kind"], axes=list(axes)
        )

    # Functions, element by element.

    def root(self, node: Node) -> Node:
        """The value that this one is a function of, element by element; itself if of several."""
        if node not in self._roots:
            root = node
            if node.kind == "elementwise":
                read = [part for part in node.inputs if not part.scalar]
                if read and all(part.shape == node.shape for part in read):
                    found = {self.root(part) for part in read}
                    root = found.pop() if len(found) == 1 else node
            self._roots[node] = root
        return self._roots[node]

    def _chain(self, node: Node) -> list[Node]:
        """The nodes between a node and its root, itself included."""
        found: list[Node] = []
        pending, root = [node], self.root(node)
        while pending:
            one = pending.pop()
            if one is root or one.scalar or one in found:
                continue
            found.append(one)
            pending.extend(one.inputs)
        return found

    def along(self, node: Node, x: np.ndarray) -> np.ndarray:
        """The function from the root to the node at values x, in float64."""
        with x64():
            known: dict[Node, jax.Array] = {}
            root = self.root(node)
            dtype = np.float64 if root.dtype.kind == "f" else root.dtype
            known[root] = jnp.asarray(x, dtype)

            def value(part: Node) -> jax.Array:
                if part not in known:
                    if part.scalar:
                        constant = np.asarray(part.value).reshape(())
                        wide = np.float64 if constant.dtype.kind == "f" else constant.dtype
                        known[part] = jnp.asarray(constant, wide)
                    else:
                        known[part] = graphs.elementwise(part, [value(i) for i in part.inputs])
                return known[part]

            return np.asarray(value(node))

    def _elementwise(self, node: Node) -> Value:
        root = self.root(node)
        if root is not node:
            functions = {part.fields["function"] for part in self._chain(node)}
            if functions & {"select_n", "max", "min", "clamp", "abs"} and root.dtype.kind == "f":
                slope = self._leaky_slope(node)
                if slope is not None:
                    return self._leaky(root, slope)
            if self._is_plain_index(node, root):
                return self.wide(root)
            if not functions <= _DIRECT or self._only_table(node):
                return self._table(node, root)
        write = _FUNCTIONS.get(node.fields["function"])
        if write is None:
            raise ConfigError(
                f"{_source(node)}: {node.fields['function']} of several values has no exact "
                "integer form."
            )
        return write(self, node)

    def _only_table(self, node: Node) -> bool:
        """Whether a chain compares with infinity, or has a remainder of floats."""
        chain = self._chain(node)
        scalars = [part.value for one in chain for part in one.inputs if part.scalar]
        rests = [one for one in chain if one.fields["function"] == "rem"]
        return bool(
            any(one.dtype.kind == "f" for one in rests)
            or any(v.dtype.kind == "f" and not np.isfinite(v).all() for v in scalars)
        )

    def _is_plain_index(self, node: Node, root: Node) -> bool:
        """Whether a chain only wraps negative indices, which a file has none of."""
        if root.kind != "input" or root.dtype.kind not in "iu" or node.dtype.kind not in "iu":
            return False
        grid = np.concatenate(
            [np.arange(1 << 12), np.geomspace(1 << 12, INDEX_LIMIT, 99, dtype=int)]
        )
        return bool((self.along(node, grid) == grid).all())

    def _leaky_slope(self, node: Node) -> float | None:
        """s where the function from the root is max(x, s x), 0 <= s <= 1; else None."""
        largest = 2 * HEADROOM * max(self.ranges[self.root(node)], 1e-6)
        positive = np.geomspace(2.0**-24 * largest, largest, 50)
        x = np.concatenate([-positive[::-1], [0.0], positive])
        values = self.along(node, x).astype(np.float64)
        slope = values[0] / x[0]
        expected = np.where(x >= 0, x, slope * x)
        exact = 0 <= slope <= 1 and np.allclose(values, expected, rtol=1e-6, atol=1e-12 * largest)
        return float(slope) if exact else None

    def _leaky(self, root: Node, slope: float) -> Value:
        value = self.rounded(root, (1 << FACTOR_BITS) - 1)
        return self._emit(
            "leaky", [value], value.exponent, value.bound, slope=round(slope * 2**SLOPE_BITS)
        )

    def _table(self, node: Node, root: Node) -> Value:
        x = self.narrow(root, scalar=True)
        grid = np.arange(-LIMIT, LIMIT + 1)
        with np.errstate(all="ignore"):
            values = self.along(node, np.ldexp(grid.astype(np.float64), -int(x.exponent)))
        if node.dtype.kind == "b":
            return self._emit("lookup", [x], 0, 1, {"table": values.astype(np.int64)})
        values = np.nan_to_num(values.astype(np.float64), nan=0.0)
        reach = min(HEADROOM * self.ranges[node], float(np.abs(values).max()))
        exponent = 0
        if node.dtype.kind == "f":
            exponent = magnitude_exponent(reach / HEADROOM, LIMIT)
        with np.errstate(over="ignore"):  # far beyond the range: clipped
            scaled = np.rint(np.ldexp(values, exponent))
        integers = np.clip(scaled, -LIMIT, LIMIT).astype(np.int64)
        value = self._emit("lookup", [x], exponent, _largest(integers), {"table": integers})
        self.places.append(Place(node, value.number, exponent, LIMIT))
        return value

    def _convert(self, node: Node) -> Value:
        value = self.wide(node.inputs[0])
        if node.dtype.kind == "b" and node.inputs[0].dtype.kind != "b":
            zero = self._emit("constant", [], 0, 0, {"values": np.zeros((), np.int64)})
            return self._emit("compare", [self._settled(value), zero], 0, 1, kind="ne")
        return value

    def _add(self, node: Node, signs: tuple[int, int] = (1, 1)) -> Value:
        for position in (1, 0):
            constant, other = node.inputs[position], node.inputs[1 - position]
            per_channel = _channels(constant, node) if constant.kind == "constant" else None
            if per_channel is not None and (per_channel.ndim == 0 or other.shape == node.shape):
                value = self.wide(other)
                if signs[1 - position] < 0:
                    value = self._negative(value)
                return self._plus(value, signs[position] * per_channel)
        values, shifts, exponent = self.aligned(node.inputs)
        # Shifts of 0 are written down too where their form says that they might not be.
        arrays = {f"shift_{i}": s for i, s in enumerate(shifts) if np.ndim(s) or s}
        bound, bias = 0, None
        for value, shift, sign in zip(values, shifts, signs, strict=True):
            bound += value.bound << int(np.max(shift))
            if value.bias is not None:
                moved = sign * (np.asarray(value.bias) << np.asarray(shift, np.int64))
                bias = moved if bias is None else bias + moved
        result = self._emit("sum", values, exponent, bound, arrays, signs=list(signs))
        return result._replace(bias=bias)

    def _subtract(self, node: Node) -> Value:
        return self._add(node, (1, -1))

    def _negative(self, value: Value) -> Value:
        value = self._settled(value)
        return self._emit("sum", [value], value.exponent, value.bound, signs=[-1])

    def _plus(self, value: Value, constant: np.ndarray) -> Value:
        """A constant more, one for all or one for each channel."""
        constant = constant.astype(np.float64)
        scaled = np.ldexp(constant, value.exponent)
        room = (_SAFE // max(value.bound, 1)).bit_length() - 1
        if np.any(scaled != np.rint(scaled)) and np.min(value.exponent) < 16 and room > 0:
            value = self._shifted_left(
                value, np.full_like(np.asarray(value.exponent), min(room, 16))
            )
            if np.ndim(value.exponent) == 0:
                value = value._replace(exponent=int(value.exponent))
            scaled = np.ldexp(constant, value.exponent)
        scaled = np.rint(np.clip(scaled, -_SAFE // 2, _SAFE // 2)).astype(np.int64)
        bias = scaled + (0 if value.bias is None else value.bias)
        if value.bound + _largest(scaled) >= BOUND:
            raise WeightsError("A constant in the entropy networks does not fit 52 bits.")
        return value._replace(bias=bias, bound=value.bound + _largest(scaled))

    def _multiply(self, node: Node) -> Value:
        for constant, other in (node.inputs, node.inputs[::-1]):
            if constant.kind == "constant" and _channels(constant, node) is not None:
                return self._scaled(other, _channels(constant, node).astype(np.float64))
        return self._times(*node.inputs)

    def _square(self, node: Node) -> Value:
        if node.fields["function"] == "integer_pow" and node.fields["power"] != 2:
            return self._table(node, self.root(node))
        return self._times(node.inputs[0], node.inputs[0])

    def _times(self, a: Node, b: Node) -> Value:
        left, right = self._settled(self.wide(a)), self._settled(self.wide(b))
        if left.bound * right.bound >= _SAFE:
            limit = (1 << FACTOR_BITS) - 1
            left, right = self.rounded(a, limit), self.rounded(b, limit)
        return self._emit(
            "multiply", [left, right], left.exponent + right.exponent, left.bound * right.bound
        )

    def _scaled(self, node: Node, factor: np.ndarray) -> Value:
        """Times a constant, one for all or one for each channel."""
        value = self.wide(node)
        largest = float(np.abs(factor).max())
        if not np.isfinite(largest):
            raise WeightsError(f"{_source(node)}: a factor is not finite.")
        mantissa, power = math.frexp(largest)
        if factor.ndim == 0 and mantissa == 0.5:  # a power of two
            value = value._replace(exponent=value.exponent - (power - 1))
            return value if factor > 0 else self._negative(value)
        value = self.rounded(node, (1 << FACTOR_BITS) - 1)
        # Factors of a like size get one exponent, so that their products add up without shifts.
        power = power if power < -SPREAD else max(power, 0)
        shift: Exponent = CONSTANT_BITS - power
        smallest = float(np.abs(factor[factor != 0]).min()) if np.any(factor) else largest
        if smallest < largest * 2.0 ** (2 - CONSTANT_BITS):  # or hardly a bit of it would be left
            own = CONSTANT_BITS - np.frexp(np.where(factor, factor, largest))[1].astype(np.int64)
            shift = np.minimum(own, shift + SPREAD)
        integers = np.rint(np.ldexp(factor, shift)).astype(np.int64)
        constant = self._emit("constant", [], 0, _largest(integers), {"values": integers})
        exponent = value.exponent + shift
        return self._emit("multiply", [value, constant], exponent, value.bound * constant.bound)

    def _divide(self, node: Node) -> Value:
        a, b = node.inputs
        if node.dtype.kind != "f":
            return self._whole_quotient(self.uniform(a), self.uniform(b))
        if b.kind == "constant" and _channels(b, node) is not None:
            return self._scaled(a, 1 / _channels(b, node).astype(np.float64))
        limit = (1 << FACTOR_BITS) - 1
        return self._quotient(self.rounded(a, limit), self.rounded(b, limit))

    def _whole_quotient(self, a: Value, b: Value) -> Value:
        """a / b of integers, towards zero as in C; `divide` has floors."""
        size = self._magnitude(a)
        quotient = self._emit("divide", [size, self._magnitude(b)], 0, size.bound + 1, shift=0)
        signs = [self._is_negative(a), self._is_negative(b)]
        differ = self._emit("compare", signs, 0, 1, kind="ne")
        chosen = [differ, self._negative(quotient), quotient]
        return self._emit("select", chosen, 0, quotient.bound)

    def _is_negative(self, value: Value) -> Value:
        zero = self._emit("constant", [], 0, 0, {"values": np.zeros((), np.int64)})
        return self._emit("compare", [value, zero], 0, 1, kind="lt")

    def _magnitude(self, value: Value) -> Value:
        values = [value, self._negative(value)]
        return self._emit("extreme", values, value.exponent, value.bound, kind="max")

    def _quotient(self, left: Value, right: Value) -> Value:
        shift = BOUND.bit_length() - 2 - left.bound.bit_length()
        bound = (left.bound << shift) + 1
        return self._emit(
            "divide", [left, right], left.exponent + shift - right.exponent, bound, shift=shift
        )

    def _root(self, node: Node) -> Value:
        value = self.uniform(node.inputs[0])
        shift = BOUND.bit_length() - 2 - value.bound.bit_length()
        shift -= (value.exponent + shift) % 2
        if shift < 0:
            value = self.rounded(node.inputs[0], 1 << 48, scalar=True)
            shift = (value.exponent) % 2
        return self._emit(
            "root",
            [value],
            (value.exponent + shift) // 2,
            math.isqrt(value.bound << shift),
            shift=shift,
        )

    def _reciprocal_root(self, node: Node) -> Value:
        one = self._emit("constant", [], 0, 1, {"values": np.ones((), np.int64)})
        return self._quotient(one, self._root(node))

    def _extreme(self, node: Node) -> Value:
        kind = node.fields["function"]
        kept = [part for part in node.inputs if not (part.scalar and np.isinf(part.value).all())]
        if len(kept) == 1:
            return self.wide(kept[0])
        for constant, other in (node.inputs, node.inputs[::-1]):
            if constant.kind == "constant" and _channels(constant, node) is not None:
                return self._bounded(self.wide(other), _channels(constant, node), kind)
        values, exponent = self._brought_together(node.inputs)
        return self._emit("extreme", values, exponent, max(v.bound for v in values), kind=kind)

    def _bounded(self, value: Value, constant: np.ndarray, kind: str) -> Value:
        value = self._settled(value)
        limit = np.ldexp(constant.astype(np.float64), value.exponent)
        integers = np.rint(np.clip(limit, -_SAFE, _SAFE)).astype(np.int64)
        bound = self._emit("constant", [], 0, _largest(integers), {"values": integers})
        return self._emit(
            "extreme", [value, bound], value.exponent, max(value.bound, bound.bound), kind=kind
        )

    def _clamp(self, node: Node) -> Value:
        low, x, high = node.inputs
        if not (low.scalar and high.scalar):
            raise ConfigError(f"{_source(node)}: clamp to computed limits has no integer form.")
        value = self.wide(x)
        for limit, kind in ((low, "max"), (high, "min")):
            value = self._bounded(value, np.asarray(limit.value).reshape(()), kind)
        return value

    def _absolute(self, node: Node) -> Value:
        return self._magnitude(self._settled(self.wide(node.inputs[0])))

    def _compare(self, node: Node) -> Value:
        values, _ = self._brought_together(node.inputs)
        return self._emit("compare", values, 0, 1, kind=node.fields["function"])

    def _select(self, node: Node) -> Value:
        condition, otherwise, where = node.inputs
        for branch, other in ((where, otherwise), (otherwise, where)):
            fill = _fill(branch)
            if fill is not None and np.isnan(fill):  # what is not defined is in no file
                return self.wide(other)
            if fill is not None and abs(fill) > MASK * max(self.ranges[other], 1.0):
                raise ConfigError(
                    f"{_source(node)}: select_n (where) puts {fill:.3g} beside values of at most "
                    f"{self.ranges[other]:.3g}, which leaves these no precision. Take a number "
                    "closer to them, such as -30 before a softmax."
                )
        values, exponent = self._brought_together([where, otherwise])
        bound = max(value.bound for value in values)
        chosen = [self.uniform(condition), *values]
        return self._emit("select", chosen, exponent, bound)

    def _both(self, node: Node) -> Value:
        self._only_bools(node)
        values = [self.uniform(part) for part in node.inputs]
        return self._emit("multiply", values, 0, 1)

    def _either(self, node: Node) -> Value:
        self._only_bools(node)
        values = [self.uniform(part) for part in node.inputs]
        return self._emit("extreme", values, 0, 1, kind="max")

    def _not(self, node: Node) -> Value:
        self._only_bools(node)
        value = self.uniform(node.inputs[0])
        return self._emit("sum", [value], 0, 1, {"bias": np.ones((), np.int64)}, signs=[-1])

    def _only_bools(self, node: Node) -> None:
        if node.dtype.kind != "b":
            raise ConfigError(
                f"{_source(node)}: {node.fields['function']} of integers has no exact form."
            )

    def _remainder(self, node: Node) -> Value:
        modulus = node.inputs[1]
        whole = node.dtype.kind in "iu" and modulus.scalar and int(modulus.value.item()) > 0
        if not whole:
            raise ConfigError(f"{_source(node)}: rem by anything but a positive integer.")
        size, value = int(modulus.value.item()), self.uniform(node.inputs[0])
        rest = self._emit("modulo", [self._magnitude(value)], 0, size - 1, modulus=size)
        chosen = [self._is_negative(value), self._negative(rest), rest]  # the dividend's sign
        return self._emit("select", chosen, 0, size - 1)


# Functions that integers compute without a table.
_FUNCTIONS = {
    "add": _Lowering._add,
    "sub": _Lowering._subtract,
    "neg": lambda self, node: self._negative(self.wide(node.inputs[0])),
    "mul": _Lowering._multiply,
    "square": _Lowering._square,
    "integer_pow": _Lowering._square,
    "div": _Lowering._divide,
    "sqrt": _Lowering._root,
    "rsqrt": _Lowering._reciprocal_root,
    "max": _Lowering._extreme,
    "min": _Lowering._extreme,
    "clamp": _Lowering._clamp,
    "abs": _Lowering._absolute,
    "select_n": _Lowering._select,
    "and": _Lowering._both,
    "or": _Lowering._either,
    "not": _Lowering._not,
    "rem": _Lowering._remainder,
    "convert": _Lowering._convert,
    **dict.fromkeys(("lt", "le", "gt", "ge", "eq", "ne"), _Lowering._compare),
}
_DIRECT = set(_FUNCTIONS)


def _channels(constant: Node, node: Node) -> np.ndarray | None:
    """A constant as one number or one for each channel of `node`; None if it is neither."""
    value = np.asarray(constant.value)
    if value.size == 1:
        return value.reshape(())
    squeezed = value.reshape(value.shape[-1:]) if value.size == value.shape[-1] else None
    return squeezed if squeezed is not None and value.shape[-1] == node.shape[-1] else None


def _fill(node: Node) -> float | None:
    """The number that a value has everywhere; None if it has several or is computed."""
    while node.kind in ("broadcast", "reshape"):
        (node,) = node.inputs
    return float(np.asarray(node.value).reshape(())) if node.scalar else None


def _times(shape: Any) -> int | str:
    """The product of sizes, as a number where they are numbers."""
    number, names = 1, []
    for size in shape:
        if isinstance(size, int):
            number *= size
        else:
            names.append(f"({size})")
    return number if not names else "*".join([str(number), *names])


def _names(size: int | str) -> set[str]:
    if isinstance(size, int):
        return set()
    reserved = {"floordiv", "mod", "max", "min"}
    cleaned = "".join(c if c.isalnum() or c == "_" else " " for c in size)
    return {word for word in cleaned.split() if not word.isdigit()} - reserved
