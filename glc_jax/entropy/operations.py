"""The operations of programs over integers: what each computes, and what it may be asked.

`OPERATIONS` is the whole list; docs/format.md says the same in formulas. An operation has two
faces. `check` sees shapes, bounds and the integers of the weights, before anything is computed:
it gives the shape and the bound of the result, and refuses what does not fit, so that a program
from a weights file is as harmless as it is exact. `run` computes, with whatever arithmetic
carries the integers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from glc_jax.entropy import sizes as sizes_of
from glc_jax.entropy.integer import ACCUMULATOR_BITS, LIMIT, Arithmetic, Array
from glc_jax.entropy.sizes import Sizes
from glc_jax.errors import WeightsError

SLOPE_BITS = 16
"""The slope of a leaky ReLU is an integer in units of 2^-16."""

BOUND = 1 << ACCUMULATOR_BITS
MAX_RANK = 8

Fields = Mapping[str, Any]
Arrays = Mapping[str, Any]


class Kind(NamedTuple):
    """What is known of a value before it is computed: its shape, and that |value| <= bound.

    held: how many elements its computation holds on the way, where that is more than its own.
    terms: how many products are added up for each element; 1 where none are.
    """

    shape: tuple[int, ...]
    bound: int
    held: int = 0
    terms: int = 1

    @property
    def size(self) -> int:
        """How many elements are in memory, at least while it is computed."""
        return max(math.prod(self.shape), self.held)

    @property
    def work(self) -> int:
        """How many products or elements its computation takes."""
        return max(math.prod(self.shape) * self.terms, self.held)


@dataclass(frozen=True)
class Operation:
    """One operation.

    inputs: how many values it reads; None: any number, at least one. arrays: the names of its
    integers from the weights; those that end in "?" may be missing, and "shift_*?" stands for one
    of each input. fields: the names of its settings. check(kinds, arrays, fields, sizes) -> Kind.
    prepare(arithmetic, arrays, fields) -> what run wants of the arrays.
    run(arithmetic, values, prepared, fields, sizes) -> the result.
    """

    inputs: int | None
    arrays: tuple[str, ...]
    fields: tuple[str, ...]
    check: Callable[[Sequence[Kind], Arrays, Fields, Sizes], Kind]
    run: Callable[[Arithmetic, Sequence[Array], Arrays, Fields, Sizes], Array]
    prepare: Callable[[Arithmetic, Arrays, Fields], Any]


OPERATIONS: dict[str, Operation] = {}


def require(fits: Any, problem: str) -> None:
    """Raises WeightsError unless `fits`."""
    if not fits:
        raise WeightsError(f"A program of the weights is malformed: {problem}.")


def _integers(arithmetic: Arithmetic, arrays: Arrays, fields: Fields) -> dict[str, Array]:
    return {name: arithmetic.integers(values) for name, values in arrays.items()}


def _shifts(arithmetic: Arithmetic, arrays: Arrays, fields: Fields) -> dict[str, Array]:
    """The left shifts of `sum`, and the constant that it adds."""
    return {
        name: arithmetic.integers(values) if name == "bias" else arithmetic.left_shift(values)
        for name, values in arrays.items()
    }


def _operation(
    inputs: int | None,
    arrays: tuple[str, ...] = (),
    fields: tuple[str, ...] = (),
    prepare: Callable[[Arithmetic, Arrays, Fields], Any] = _integers,
) -> Callable[[type], type]:
    """Enters a class with `check` and `run` as the operation of its name in lower case."""

    def enter(cls: type) -> type:
        OPERATIONS[cls.__name__.lower()] = Operation(
            inputs, arrays, fields, cls.check, cls.run, prepare
        )
        return cls

    return enter


def _largest(values: np.ndarray) -> int:
    return max(int(values.max()), -int(values.min())) if values.size else 0


def _broadcast(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise WeightsError(
            f"A program of the weights is malformed: shapes {shapes} do not go together."
        ) from None


def _ints(fields: Fields, name: str, low: int, high: int) -> tuple[int, ...]:
    values = fields[name]
    require(isinstance(values, list | tuple), f"{name} is no list")
    require(all(type(v) is int and low <= v <= high for v in values), f"{name} is out of range")
    return tuple(values)


def _int(fields: Fields, name: str, low: int, high: int) -> int:
    value = fields[name]
    require(type(value) is int and low <= value <= high, f"{name} is out of range")
    return value


def _axes(fields: Fields, rank: int) -> tuple[int, ...]:
    axes = _ints(fields, "axes", 0, rank - 1)
    require(len(set(axes)) == len(axes), "an axis is named twice")
    return axes


# Products with the integers of the weights.


@_operation(1, ("table",))
class Rows:
    """table[clamp(x, 0, rows - 1)]: [...] -> [..., *table.shape[1:]]."""

    @staticmethod
    def check(kinds, arrays, fields, sizes):
        table = arrays["table"]
        require(table.ndim >= 1 and len(table), "a table has no rows")
        return Kind(kinds[0].shape + table.shape[1:], _largest(table))

    @staticmethod
    def run(arithmetic, values, arrays, fields, sizes):
        index = arithmetic.xp.clip(values[0], 0, arrays["table"].shape[0] - 1)
        return arrays["table"][index.astype(np.int32)]


def _reach(kernel: np.ndarray, bound: int) -> int:
    """The largest sum of products with integers up to `bound`, over all but the last axis."""
    require(_largest(kernel) <= LIMIT and bound <= LIMIT, "a factor of a product exceeds 16 bits")
    reach = np.abs(kernel).reshape(-1, kernel.shape[-1]).sum(axis=0)
    return _largest(reach) * bound


def _kernel(arithmetic: Arithmetic, arrays: Arrays, fields: Fields) -> dict[str, Any]:
    return {"kernel": arithmetic.kernel(arrays["kernel"])}


@_operation(1, ("kernel",), prepare=_kernel)
class Dense:
    """sum_i x[..., i] kernel[i, o]: [..., I] -> [..., O]."""

    @staticmethod
    def check(kinds, arrays, fields, sizes):
        (x,), kernel = kinds, arrays["kernel"]
        require(kernel.ndim == 2 and kernel.size, "a kernel's shape")
        require(x.shape and x.shape[-1] == len(kernel), "a kernel's shape")
        shape = (*x.shape[:-1], kernel.shape[1])
        return Kind(shape, _reach(kernel, x.bound), terms=len(kernel))

    @staticmethod
    def run(arithmetic, values, arrays, fields, sizes):
        return arithmetic.matmul(values[0], arrays["kernel"])


def _depthwise(kernel: np.ndarray, groups: int) -> bool:
    return kernel.shape[-2] == 1 and kernel.shape[-1] == groups


def _conv_kernel(arithmetic: Arithmetic, arrays: Arrays, fields: Fields) -> dict[str, Any]:
    """Of each group the matrix [taps * inputs, outputs]; of a depthwise one the taps [taps, C]."""
    kernel, groups = arrays["kernel"], fields["groups"]
    if _depthwise(kernel, groups):
        return {"taps": arithmetic.integers(kernel.reshape(-1, groups))}
    parts = np.split(kernel, groups, axis=-1)
    return {
        "groups": [arithmetic.kernel(part.reshape(-1, part.shape[-1])) for part in parts],
    }


_CONV_FIELDS = ("window", "strides", "dilations", "padding", "groups")


@_operation(1, ("kernel",), _CONV_FIELDS, prepare=_conv_kernel)
class Conv:
    """A convolution (correlation) over the middle axes: [B, s.., I] -> [B, t.., O].

    kernel [k.., I / groups, O]; output group g reads input group g. Padded by zeros, `padding`
    (before, after) on each middle axis.
    """

    @staticmethod
    def check(kinds, arrays, fields, sizes):
        (x,), kernel = kinds, arrays["kernel"]
        rank = len(x.shape) - 2
        groups = _int(fields, "groups", 1, 1 << 20)
        strides = _ints(fields, "strides", 1, 64)
        dilations = _ints(fields, "dilations", 1, 64)
        require(rank >= 1 and kernel.ndim == rank + 2 and kernel.size, "a kernel's shape")
        require(len(strides) == len(dilations) == rank, "strides and dilations of a convolution")
        window = _ints(fields, "window", 1, 64)
        require(window == kernel.shape[:rank], "the window of a convolution")
        padding = fields["padding"]
        require(isinstance(padding, list | tuple) and len(padding) == rank, "padding")
        require(all(len(_ints({"p": p}, "p", 0, 4096)) == 2 for p in padding), "padding")
        channels, outputs = kernel.shape[-2:]
        require(x.shape[-1] == channels * groups and outputs % groups == 0, "a group's channels")
        shape = []
        for size, width, stride, dilation, (before, after) in zip(
            x.shape[1:-1], window, strides, dilations, padding, strict=True
        ):
            space = size + before + after - (width - 1) * dilation - 1
            require(space >= 0, "a convolution is larger than what it is for")
            shape.append(space // stride + 1)
        windows = x.shape[0] * math.prod(shape) * math.prod(window) * x.shape[-1]
        terms = math.prod(window) * channels
        return Kind((x.shape[0], *shape, outputs), _reach(kernel, x.bound), windows, terms)

    @staticmethod
    def run(arithmetic, values, arrays, fields, sizes):
        windows = _windows(arithmetic, values[0], fields)
        if "taps" in arrays:
            return sum(w * tap for w, tap in zip(windows, arrays["taps"], strict=True))
        xp, groups = arithmetic.xp, len(arrays["groups"])
        if groups == 1:
            return arithmetic.matmul(xp.concatenate(windows, axis=-1), arrays["groups"][0])
        split = [xp.split(w, groups, axis=-1) for w in windows]
        parts = [
            arithmetic.matmul(xp.concatenate([w[g] for w in split], axis=-1), kernel)
            for g, kernel in enumerate(arrays["groups"])
        ]
        return xp.concatenate(parts, axis=-1)


def _windows(arithmetic: Arithmetic, x: Array, fields: Fields) -> list[Array]:
    """x as each position of a window sees it, row by row."""
    padding = [tuple(p) for p in fields["padding"]]
    x = arithmetic.xp.pad(x, ((0, 0), *padding, (0, 0)))
    axes = []
    for size, width, stride, dilation in zip(
        x.shape[1:-1], fields["window"], fields["strides"], fields["dilations"], strict=True
    ):
        count = (size - (width - 1) * dilation - 1) // stride + 1
        starts = (tap * dilation for tap in range(width))
        axes.append([slice(s, s + (count - 1) * stride + 1, stride) for s in starts])
    return [x[(slice(None), *position)] for position in itertools.product(*axes)]


# Products, sums and quotients of values.


@_operation(2)
class Product:
    """The matrix product a [..., M, K] b [..., K, N], batched over the leading axes."""

    @staticmethod
    def check(kinds, arrays, fields, sizes):
        a, b = kinds
        require(len(a.shape) == len(b.shape) >= 2, "ranks of a product")
        require(a.shape[:-2] == b.shape[:-2] and a.shape[-1] == b.shape[-2], "shapes of a product")
        require(max(a.bound, b.bound) <= LIMIT, "a factor of a product exceeds 16 bits")
        bound = a.shape[-1] * a.bound * b.bound
        return Kind((*a.shape[:-1], b.shape[-1]), bound, terms=a.shape[-1])

    @staticmethod
    def run(arithmetic, values, arrays, fields, sizes):
        return arithmetic.product(*values)


@_operation(2)
class Multiply:
    """a b, element by element."""

    @staticmethod
    def check(kinds, arrays, fields, sizes):
        a, b = kinds
        return Kind(_broadcast(a.shape, b.shape), a.bound * b.bound)

    @staticmethod
    def run(arithmetic, values, arrays, fields, sizes):
        return values[0] * values[1]


@_operation(None, ("shift_*?", "bias?"), ("signs",), prepare=_shifts)
class Sum:
    """sum_i signs_i (x_i << shift_i) + bias. A shift or a bias may be one for each channel."""

    @staticmethod
    def check(kinds, arrays, fields, sizes):
        signs = _ints(fields, "signs", -1, 1)
        require(len(signs) == len(kinds) and all(signs), "signs of a sum")
        names = {f"shift_{number}" for number in range(len(kinds))}
        require(arrays.keys() <= names | {"bias"}, "a shift of nothing")
        shape, total = _broadcast(*(kind.shape for kind in kinds)), 0
        for number, kind in enumerate(kinds):
            shift = arrays.get(f"shift_{number}", np.zeros((), np.int64))
            _check_shift(shift, shape)
            total += kind.bound << int(shift.max())
        bias = arrays.get("bias", np.zeros((), np.int64))
        require(_broadcast(shape, bias.shape) == shape, "a bias is larger than its sum")
        return Kind(shape, total + _largest(bias))

    @staticmethod
    def run(arithmetic, values, arrays, fields, sizes):
        total = None
        for number, (x, sign) in enumerate(zip(values, fields["signs"], strict=True)):
            if f"shift_{number}" in arrays:
                x = arithmetic.shift_left(x, arrays[f"shift_{number}"])
            if total is None:
                total = x if sign > 0 else -x
            else:
                total = total + x if sign > 0 else total - x
        return total + arrays["bias"] if "bias" in arrays else total


def _check_shift(shift: np.ndarray, shape: tuple[int, ...]) -> None:
    require(shift.size and 0 <= shift.min() <= shift.max() <= ACCUMULATOR_BITS, "a shift")
    require(_broadcast(shape, shift.shape) == shape, "a shift is larger than what it is for")


def _rounding(arithmetic: Arithmetic, arrays: Arrays, fields: Fields) -> dict[str, Array]:
    return {
        "shift": arithmetic.right_shift(arrays["shift"]),
        "bias": arithmetic.integers(arrays["bias"]),
    }


@_operation(1, ("shift", "bias"), ("limit",), prepare=_rounding)
class Round:
    """clamp((x + bias) >> shift, -limit, limit). A bias of half of 2^shift makes it a rounding."""

    @staticmethod
    def check(kinds, arrays, fields, sizes):
        (x,), shift, bias = kinds, arrays["shift"], arrays["bias"]
        _check_shift(shift, x.shape)
        require(_broadcast(x.shape, bias.shape) == x.shape, "a bias is larger than its input")
        reach = x.bound + _largest(bias)
        require(reach < BOUND, "a sum exceeds 52 bits")
        limit = _int(fields, "limit", 1, BOUND - 1)
        return Kind(x.shape, min(limit, (reach >> int(shift.min())) + 1))

    @staticmethod
    def run(arithmetic, values, arrays, fields, sizes):
        shifted = arithmetic.shift_right(values[0] + arrays["bias"], arrays["shift"])
        return arithmetic.xp.clip(shifted, -fields["limit"], fields["limit"])


@_operation(2, (), ("shift",))
class Divide:
    """floor((a << shift) / b); where b < 0 of -a and -b, and b = 0 counts as 1."""

    @staticmethod
    def check(kinds, arrays, fields, sizes):
        a, b = kinds
        reach = a.bound << _int(fields, "shift", 0, ACCUMULATOR_BITS)
        require(reach < BOUND, "a dividend exceeds 52 bits")
        return Kind(_broadcast(a.shape, b.shape), reach + 1)

    @staticmethod
    def run(arithmetic, values, arrays, fields, sizes):
        xp, (a, b) = arithmetic.xp, values
        a = a * (1 << fields["shift"])
        a, b = xp.where(b < 0, -a, a), xp.maximum(xp.abs(b), 1)
        return arithmetic.divide(a, b)


@_operation(1, (), ("shift",))
class Root:
    """floor(sqrt(max(x, 0) << shift))."""

    @staticmethod
    def check(kinds, arrays, fields, sizes):
        reach = kinds[0].bound << _int(fields, "shift", 0, ACCUMULATOR_BITS)
        require(reach < BOUND, "a radicand exceeds 52 bits")
        return Kind(kinds[0].shape, math.isqrt(reach))

    @staticmethod
    def run(arithmetic, values, arrays, fields, sizes):
        return arithmetic.square_root(arithmetic.xp.maximum(values[0], 0) * (1 << fields["shift"]))


@_operation(1, (), ("modulus",))
class Modulo:
    """x - modulus floor(x / modulus)."""

    @staticmethod
    def check(kinds, arrays, fields, sizes):
        return Kind(kinds[0].shape, _int(fields, "modulus", 1, 1 << 24) - 1)

    @staticmethod
    def run(arithmetic, values, arrays, fields, sizes):
        modulus = arithmetic.xp.asarray(fields["modulus"], dtype=values[0].dtype)
        return values[0] - modulus * arithmetic.divide(values[0], modulus)


# Functions of one value, element by element.


@_operation(1, ("table",))
class Lookup:
    """table[x + 32639], for any function of a 16-bit value."""

    @staticmethod
    def check(kinds, arrays, fields, sizes):
        require(kinds[0].bound <= LIMIT, "what is looked up exceeds 16 bits")
        require(arrays["table"].shape == (2 * LIMIT + 1,), "the length of a table")
        return Kind(kinds[0].shape, _largest(arrays["table"]))

    @staticmethod
    def run(arithmetic, values, arrays, fields, sizes):
        return arrays["table"][(values[0] + LIMIT).astype(np.int32)]


def _half_of_slope(arithmetic: Arithmetic, arrays: Arrays, fields: Fields) -> dict[str, Array]:
    return {"shift": arithmetic.right_shift(np.int8(SLOPE_BITS))}


@_operation(1, (), ("slope",), prepare=_half_of_slope)
class Leaky:
    """max(x, (x slope + 2^15) >> 16): a leaky ReLU, whose slope has the unit 2^-16."""

    @staticmethod
    def check(kinds, arrays, fields, sizes):
        slope = _int(fields, "slope", 0, 1 << SLOPE_BITS)
        require((kinds[0].bound + 1) * (slope + 1) < BOUND, "a product exceeds 52 bits")
        return kinds[0]

    @staticmethod
    def run(arithmetic, values, arrays, fields, sizes):
        (x,) = values
        scaled = x * fields["slope"] + (1 << (SLOPE_BITS - 1))
        return arithmetic.xp.maximum(x, arithmetic.shift_right(scaled, arrays["shift"]))


_COMPARISONS: dict[str, Callable[[Array, Array], Array]] = {
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
}


@_operation(2, (), ("kind",))
class Compare:
    """1 where a kind b, else 0; kind is lt, le, gt, ge, eq or ne."""

    @staticmethod
    def check(kinds, arrays, fields, sizes):
        require(fields["kind"] in list(_COMPARISONS), "a comparison is not known")
        return Kind(_broadcast(*(kind.shape for kind in kinds)), 1)

    @staticmethod
    def run(arithmetic, values, arrays, fields, sizes):
        return _COMPARISONS[fields["kind"]](*values).astype(values[0].dtype)


@_operation(2, (), ("kind",))
class Extreme:
    """max(a, b) or min(a, b)."""

    @staticmethod
    def check(kinds, arrays, fields, sizes):
        require(fields["kind"] in ("max", "min"), "an extreme is not known")
        return Kind(_broadcast(*(k.shape for k in kinds)), max(k.bound for k in kinds))

    @staticmethod
    def run(arithmetic, values, arrays, fields, sizes):
        xp = arithmetic.xp
        return (xp.maximum if fields["kind"] == "max" else xp.minimum)(*values)


@_operation(3)
class Select:
    """a where c is not 0, else b."""

    @staticmethod
    def check(kinds, arrays, fields, sizes):
        return Kind(_broadcast(*(k.shape for k in kinds)), max(k.bound for k in kinds[1:]))

    @staticmethod
    def run(arithmetic, values, arrays, fields, sizes):
        return arithmetic.xp.where(values[0] != 0, values[1], values[2])


@_operation(1, (), ("kind", "axes"))
class Reduce:
    """The sum or the max over axes, which fall away."""

    @staticmethod
    def check(kinds, arrays, fields, sizes):
        (x,) = kinds
        require(fields["kind"] in ("sum", "max"), "a reduction is not known")
        axes = _axes(fields, len(x.shape))
        count = math.prod(x.shape[axis] for axis in axes)
        require(count, "a reduction of nothing")
        shape = tuple(n for axis, n in enumerate(x.shape) if axis not in axes)
        return Kind(shape, x.bound * count if fields["kind"] == "sum" else x.bound)

    @staticmethod
    def run(arithmetic, values, arrays, fields, sizes):
        xp, axes = arithmetic.xp, tuple(fields["axes"])
        return (xp.sum if fields["kind"] == "sum" else xp.max)(values[0], axis=axes)


# Shapes.


@_operation(1, (), ("shape",))
class Reshape:
    """The same integers, row-major, in another shape."""

    @staticmethod
    def check(kinds, arrays, fields, sizes):
        shape = sizes_of.shape(fields["shape"], sizes)
        require(math.prod(shape) == math.prod(kinds[0].shape), "a reshape changes the size")
        return Kind(shape, kinds[0].bound)

    @staticmethod
    def run(arithmetic, values, arrays, fields, sizes):
        return values[0].reshape(sizes_of.shape(fields["shape"], sizes))


@_operation(1, (), ("axes",))
class Transpose:
    """Axis i of the result is axis axes[i]."""

    @staticmethod
    def check(kinds, arrays, fields, sizes):
        axes = _axes(fields, len(kinds[0].shape))
        require(len(axes) == len(kinds[0].shape), "axes of a transposition")
        return Kind(tuple(kinds[0].shape[axis] for axis in axes), kinds[0].bound)

    @staticmethod
    def run(arithmetic, values, arrays, fields, sizes):
        return values[0].transpose(tuple(fields["axes"]))


def _slices(fields: Fields, shape: tuple[int, ...], sizes: Sizes) -> list[tuple[int, int, int]]:
    starts, stops = (sizes_of.shape(fields[name], sizes) for name in ("starts", "stops"))
    strides = _ints(fields, "strides", 1, 1 << 20)
    require(len(starts) == len(stops) == len(strides) == len(shape), "ranks of a slice")
    for start, stop, size in zip(starts, stops, shape, strict=True):
        require(start <= stop <= size, "a slice is out of range")
    return list(zip(starts, stops, strides, strict=True))


@_operation(1, (), ("starts", "stops", "strides"))
class Slice:
    """x[starts : stops : strides] on every axis."""

    @staticmethod
    def check(kinds, arrays, fields, sizes):
        slices = _slices(fields, kinds[0].shape, sizes)
        shape = tuple(-(-(stop - start) // stride) for start, stop, stride in slices)
        return Kind(shape, kinds[0].bound)

    @staticmethod
    def run(arithmetic, values, arrays, fields, sizes):
        slices = _slices(fields, values[0].shape, sizes)
        return values[0][tuple(slice(*one) for one in slices)]


@_operation(1, (), ("before", "after", "between"))
class Pad:
    """Zeros before and after on every axis, and so many between neighbours."""

    @staticmethod
    def check(kinds, arrays, fields, sizes):
        before, after = (sizes_of.shape(fields[name], sizes) for name in ("before", "after"))
        between = _ints(fields, "between", 0, 64)
        require(len(before) == len(after) == len(between) == len(kinds[0].shape), "ranks of a pad")
        shape = tuple(
            b + a + n + max(n - 1, 0) * gap
            for b, a, n, gap in zip(before, after, kinds[0].shape, between, strict=True)
        )
        return Kind(shape, kinds[0].bound)

    @staticmethod
    def run(arithmetic, values, arrays, fields, sizes):
        xp, (x,) = arithmetic.xp, values
        for axis, gap in enumerate(fields["between"]):
            if gap and x.shape[axis]:
                spread = xp.stack([x] + [xp.zeros_like(x)] * gap, axis=axis + 1)
                merged = (*x.shape[:axis], x.shape[axis] * (gap + 1), *x.shape[axis + 1 :])
                keep = [slice(None)] * x.ndim
                keep[axis] = slice(0, merged[axis] - gap)
                x = spread.reshape(merged)[tuple(keep)]
        before, after = (sizes_of.shape(fields[name], sizes) for name in ("before", "after"))
        return xp.pad(x, tuple(zip(before, after, strict=True)))


@_operation(None, (), ("axis",))
class Concatenate:
    """The values one after the other along an axis."""

    @staticmethod
    def check(kinds, arrays, fields, sizes):
        axis = _int(fields, "axis", 0, len(kinds[0].shape) - 1)
        rest = {(*k.shape[:axis], *k.shape[axis + 1 :]) for k in kinds}
        require(len(rest) == 1 and len({len(k.shape) for k in kinds}) == 1, "what is concatenated")
        shape = list(kinds[0].shape)
        shape[axis] = sum(kind.shape[axis] for kind in kinds)
        return Kind(tuple(shape), max(kind.bound for kind in kinds))

    @staticmethod
    def run(arithmetic, values, arrays, fields, sizes):
        return arithmetic.xp.concatenate(list(values), axis=fields["axis"])


def _placed(fields: Fields, shape: tuple[int, ...]) -> tuple[int, ...]:
    """`shape` with an axis of size 1 wherever `axes` has none of its own."""
    axes = tuple(fields["axes"])
    placed = [1] * len(fields["shape"])
    for axis, size in zip(axes, shape, strict=True):
        placed[axis] = size
    return tuple(placed)


@_operation(1, (), ("shape", "axes"))
class Broadcast:
    """Axis i of x becomes axis axes[i] of `shape`; x is repeated along the others and where it
    has size 1."""

    @staticmethod
    def check(kinds, arrays, fields, sizes):
        shape = sizes_of.shape(fields["shape"], sizes)
        axes = _axes(fields, len(shape))
        require(len(axes) == len(kinds[0].shape) and sorted(axes) == list(axes), "axes")
        require(_broadcast(_placed(fields, kinds[0].shape), shape) == shape, "a broadcast")
        return Kind(shape, kinds[0].bound)

    @staticmethod
    def run(arithmetic, values, arrays, fields, sizes):
        placed = values[0].reshape(_placed(fields, values[0].shape))
        return arithmetic.xp.broadcast_to(placed, sizes_of.shape(fields["shape"], sizes))


# Values that no input has.


@_operation(0, ("values",))
class Constant:
    """Integers of the weights."""

    @staticmethod
    def check(kinds, arrays, fields, sizes):
        return Kind(arrays["values"].shape, _largest(arrays["values"]))

    @staticmethod
    def run(arithmetic, values, arrays, fields, sizes):
        return arrays["values"]


@_operation(0, (), ("shape", "axis"))
class Iota:
    """The position along an axis: 0, 1, 2, ..."""

    @staticmethod
    def check(kinds, arrays, fields, sizes):
        shape = sizes_of.shape(fields["shape"], sizes)
        axis = _int(fields, "axis", 0, len(shape) - 1)
        return Kind(shape, max(shape[axis] - 1, 0))

    @staticmethod
    def run(arithmetic, values, arrays, fields, sizes):
        shape, axis = sizes_of.shape(fields["shape"], sizes), fields["axis"]
        positions = arithmetic.integers(np.arange(shape[axis]))
        column = positions.reshape([-1 if i == axis else 1 for i in range(len(shape))])
        return arithmetic.xp.broadcast_to(column, shape)


@_operation(0, (), ("size",))
class Size:
    """A size of the picture, as a value."""

    @staticmethod
    def check(kinds, arrays, fields, sizes):
        value = sizes_of.evaluate(fields["size"], sizes)
        return Kind((), abs(value))

    @staticmethod
    def run(arithmetic, values, arrays, fields, sizes):
        return arithmetic.integers(np.asarray(sizes_of.evaluate(fields["size"], sizes)))
