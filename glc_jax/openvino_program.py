"""A function of JAX as a program of OpenVINO, which is quicker on a CPU and less exact.

`trace` follows the function as JAX traces it, so that there is one description of each network.
Every value keeps the order of axes in which OpenVINO likes it: what comes out of a convolution is
kept channels first, whatever the order is in JAX, and is only turned where an operation needs it.

Wide maps may be kept as their columns in turns (`openvino_columns`).

A few functions are known by their names and become one operation of OpenVINO's each (`KNOWN`):
jitted functions of this package that OpenVINO would not recognise by their parts.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from glc_jax import jaxprs, openvino_columns
from glc_jax.errors import ConfigError, InputError
from glc_jax.models.blocks import NORM_EPSILON
from glc_jax.models.layers import PHASE_TAPS
from glc_jax.openvino_columns import Columns

MISSING = "OpenVINO is not installed: pip install 'glc-jax[fast]'."


@functools.cache
def _openvino() -> tuple[Any, Any]:
    """(openvino, its operations)."""
    # This part of it sends news of the import to its makers; without it nothing is sent.
    unwanted = "openvino.tools.ovc"
    absent = unwanted not in sys.modules
    if absent:
        sys.modules[unwanted] = None  # type: ignore[assignment]
    try:
        import openvino
        from openvino import opset13
    except ImportError as error:
        raise InputError(MISSING) from error
    finally:
        if absent:
            del sys.modules[unwanted]
    return openvino, opset13


def require() -> None:
    """Raises InputError where OpenVINO is not installed."""
    _openvino()


CODE_BYTES = 30_000
"""Of a program for each operation before it is compiled: mostly machine code, by the growth of a
process that compiled E and G of the packaged model and their tiles, on AVX-512."""

WEIGHT_COPIES = 2
"""Of a program's weights, as they are given and as its convolutions read them."""

_HELD = 8  # bytes of a stored program that say what it takes


def held_by(operations: int, weight_bytes: int) -> int:
    """What a program takes while it rests, about."""
    return CODE_BYTES * operations + WEIGHT_COPIES * weight_bytes


class Program:
    """A compiled function: `program(*arrays)` gives its results as NumPy arrays, in a list."""

    def __init__(self, compiled: Any, bytes_held: int) -> None:
        self._compiled, self._request, self._held = compiled, None, bytes_held

    def __call__(self, *arrays: np.ndarray) -> list[np.ndarray]:
        if self._request is None:
            self._request = self._compiled.create_infer_request()
        found = self._request.infer([np.ascontiguousarray(a) for a in arrays], share_inputs=True)
        return [found[i] for i in range(len(self._compiled.outputs))]

    def rest(self) -> None:
        """Lets go of the memory in which it computes."""
        if self._request is not None:
            self._request = None
            self._compiled.release_memory()

    def stored(self) -> bytes:
        """What `restored` makes it of, its weights among it."""
        exported = self._compiled.export_model()
        exported = exported if isinstance(exported, bytes) else exported.getvalue()
        return self._held.to_bytes(_HELD, "little") + exported


class Traced(NamedTuple):
    """A function in OpenVINO's operations.

    Attributes:
      model: an openvino.Model.
      results: the tree of what the function returns.
      weight_bytes: of the constants in the model.
      bytes_held: what the program takes while it rests, about.
    """

    model: Any
    results: Any
    weight_bytes: int

    @property
    def bytes_held(self) -> int:
        return held_by(len(self.model.get_ops()), self.weight_bytes)

    def compile(self, fast: bool) -> Program:
        """The program, in bfloat16 where it is to be fast and the processor can; else float32."""
        core, hints = _core(fast)
        return Program(core.compile_model(self.model, "CPU", hints), self.bytes_held)


def _core(fast: bool) -> tuple[Any, dict[str, Any]]:
    """OpenVINO's core, and how it is to compile."""
    openvino, _ = _openvino()
    core = openvino.Core()
    reduced = fast and "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return core, {
        "INFERENCE_PRECISION_HINT": "bf16" if reduced else "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,  # another process may be busy on some of the processors
    }


def compiled_for(fast: bool) -> tuple[str, ...]:
    """What a compiled program holds for: the release, the processor, how it computes."""
    openvino, _ = _openvino()
    core, hints = _core(fast)
    names = ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")
    processor = [str(core.get_property("CPU", name)) for name in names]
    return (openvino.get_version(), *processor, str(hints))


def restored(stored: bytes, fast: bool) -> Program:
    """A program of `Program.stored`; raises RuntimeError where OpenVINO cannot read it."""
    core, hints = _core(fast)
    return Program(core.import_model(stored[_HELD:], "CPU", hints), bytes_held(stored))


def bytes_held(stored: bytes) -> int:
    """What a program of `Program.stored` takes while it rests."""
    return int.from_bytes(stored[:_HELD], "little")


def trace(
    function: Callable[..., Any], shapes: Sequence[jax.ShapeDtypeStruct], columns: int = 1
) -> Traced:
    """A function of arrays of these shapes.

    Args:
      function: arrays -> array or tree of arrays; it closes over its weights.
      shapes: of the arrays, with dtypes.
      columns: in how many maps at most the columns of wide levels are kept: 1, 2 or 4.

    Raises:
      InputError: OpenVINO is not installed.
      ConfigError: the function uses a primitive of JAX that has no counterpart here.
    """
    openvino, op = _openvino()
    closed, results = jax.make_jaxpr(function, return_shape=True)(*shapes)
    translator = _Translator(op, columns)
    parameters = [op.parameter(list(one.shape), np.dtype(one.dtype)) for one in shapes]
    inputs = [
        _Value(node, tuple(range(len(one.shape))))
        for node, one in zip(parameters, shapes, strict=True)
    ]
    constants = [np.asarray(value) for value in closed.consts]
    found = translator.follow(closed.jaxpr, [translator.constant(c) for c in constants], inputs)
    outputs = [
        translator.plain(translator.joined(value), variable.aval.shape)
        for value, variable in zip(found, closed.jaxpr.outvars, strict=True)
    ]
    model = openvino.Model(outputs, parameters)
    return Traced(model, jax.tree.structure(results), sum(c.nbytes for c in constants))


class _Value(NamedTuple):
    """node: with axis i of the array's axes[i]; it may have 1 where it is to be repeated."""

    node: Any
    axes: tuple[int, ...]


_BINARY = {
    "add": "add",
    "add_any": "add",
    "sub": "subtract",
    "mul": "multiply",
    "rem": "mod",
    "max": "maximum",
    "min": "minimum",
    "pow": "power",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
    "eq": "equal",
    "ne": "not_equal",
    "and": "logical_and",
    "or": "logical_or",
}
_UNARY = {
    "neg": "negative",
    "sign": "sign",
    "abs": "absolute",
    "exp": "exp",
    "log": "log",
    "sqrt": "sqrt",
    "tanh": "tanh",
    "logistic": "sigmoid",
    "erf": "erf",
    "floor": "floor",
    "ceil": "ceiling",
    "not": "logical_not",
}
_SAME = ("stop_gradient", "copy", "copy_p", "optimization_barrier")
_BY_ELEMENT = {
    *_BINARY,
    *_UNARY,
    *("div", "integer_pow", "square", "rsqrt", "round", "clamp", "select_n"),
    "convert_element_type",
}
CHANNELS_FIRST = (0, 3, 1, 2)


class _Translator:
    """Writes the nodes of a jaxpr."""

    def __init__(self, op: Any, columns: int) -> None:
        self.op, self._most = op, columns

    def constant(self, value: np.ndarray) -> _Value:
        value = np.asarray(value)
        if value.dtype.kind == "V" or value.dtype.name == "bfloat16":
            value = value.astype(np.float32)
        return _Value(self.op.constant(value), tuple(range(value.ndim)))

    def follow(
        self, jaxpr: Any, constants: Sequence[_Value], inputs: Sequence[_Value]
    ) -> list[_Value | Columns]:
        """The values of the outputs."""
        return jaxprs.walk(jaxpr, constants, inputs, self.constant, self.equation)

    def equation(self, equation: Any, inputs: list[_Value | Columns]) -> Sequence[_Value | Columns]:
        name = equation.primitive.name
        if name in _SAME:
            return inputs
        known = None
        if inner := jaxprs.called(equation):
            known = KNOWN.get(equation.params.get("name"))
            if known is None:
                jaxpr, constants = inner
                return self.follow(jaxpr, [self.constant(c) for c in constants], inputs)
        shapes = [tuple(atom.aval.shape) for atom in equation.invars]
        if any(isinstance(x, Columns) for x in inputs):
            found = self._of_columns(equation, known, inputs, shapes)
            if found is not None:
                return [found]
        values = [self.joined(x) for x in inputs]
        if known is not None:
            return [known(self, values, shapes)]
        if name == "split":
            return self._split(values[0], equation.params)
        return [self._written(equation, values, shapes)]

    def _written(self, equation: Any, inputs: list[_Value], shapes) -> _Value | Columns:
        """The result of an equation that calls nothing and has one."""
        name = equation.primitive.name
        if name in _BINARY:
            (a, b), axes = self._alike(inputs)
            return _Value(getattr(self.op, _BINARY[name])(a, b), axes)
        if name in _UNARY:
            (x,) = inputs
            return x._replace(node=getattr(self.op, _UNARY[name])(x.node))
        write = getattr(self, f"_{name}", None)
        if write is None:
            raise ConfigError(f"OpenVINO has no counterpart here of JAX's primitive {name}.")
        return write(inputs, shapes, equation.params, equation.outvars[0].aval)

    # Maps in columns.

    def joined(self, x: _Value | Columns) -> _Value:
        """A value in one node."""
        if not isinstance(x, Columns):
            return x
        if len(x.maps) == 1:
            return _Value(x.maps[0], CHANNELS_FIRST)
        return _Value(openvino_columns.together(self.op, x), (0, 1, 2, 3))

    def count(self, width: int, channels: int) -> int:
        """In how many maps a level of this size is kept."""
        return openvino_columns.count(width, channels, self._most)

    def begun(self, x: Columns) -> _Value | Columns:
        """A map in the columns in which its level is kept; it has as many or fewer."""
        _, channels, _, width = x.maps[0].get_output_shape(0)
        number = self.count(width * len(x.maps), channels)
        if number > 1:
            return openvino_columns.apart(self.op, x, number)
        return self.joined(x)

    def _of_columns(self, equation: Any, known: Any, inputs, shapes) -> _Value | Columns | None:
        """The result of an equation of which some inputs are columns; None: it takes them whole."""
        name, params = equation.primitive.name, equation.params
        if known is _group_norm:
            return known(self, inputs, shapes)
        if known is _silu or name in _BY_ELEMENT:
            return self._by_columns(equation, known, inputs, shapes)
        if name == "dot_general" and _is_conv1x1(params, shapes):
            return self._by_columns(equation, known, inputs, shapes)
        if name == "conv_general_dilated":
            return self._convolved_columns(inputs, shapes, params)
        return None

    def _by_columns(self, equation: Any, known: Any, inputs, shapes) -> Columns:
        """The same of each of the maps."""
        number = max(len(x.maps) for x in inputs if isinstance(x, Columns))
        every = [self._each(x, s, number) for x, s in zip(inputs, shapes, strict=True)]
        sizes = [
            shape if each is None else (*shape[:2], shape[2] // number, shape[3])
            for each, shape in zip(every, shapes, strict=True)
        ]
        found = []
        for i in range(number):
            values = [
                x if each is None else _Value(each[i], CHANNELS_FIRST)
                for x, each in zip(inputs, every, strict=True)
            ]
            if known is not None:
                result = known(self, values, sizes)
            else:
                result = self._written(equation, values, sizes)
            found.append(self.turned(result, CHANNELS_FIRST))
        return Columns(tuple(found))

    def _each(self, x: _Value | Columns, shape, number: int) -> tuple[Any, ...] | None:
        """What an input has for each of so many maps; None: the same for all."""
        if not isinstance(x, Columns):
            if len(shape) < 4 or x.node.get_output_shape(0)[x.axes.index(2)] == 1:
                return None
            x = self.whole(x, shape, CHANNELS_FIRST)
        return openvino_columns.apart(self.op, x, number).maps

    def _convolved_columns(self, inputs, shapes, params) -> _Value | Columns | None:
        x, kernel = inputs
        how = _of_conv3x3(params, shapes)
        if how is None or not isinstance(x, Columns):
            return None
        kernel = self.whole(kernel, shapes[1], params["dimension_numbers"][1])
        if how == (2, 2):
            return self.begun(openvino_columns.halved3x3(self.op, x, kernel))
        few = kernel.get_output_shape(0)[0] < openvino_columns.LEAST_CHANNELS
        convolve = openvino_columns.few3x3 if few else openvino_columns.conv3x3
        return convolve(self.op, x, kernel)

    # Orders of axes.

    def turned(self, x: _Value, axes: tuple[int, ...]) -> Any:
        """The node with its axes in this order."""
        if x.axes == axes:
            return x.node
        order = [x.axes.index(axis) for axis in axes]
        return self.op.transpose(x.node, np.array(order, np.int64))

    def whole(self, x: _Value, shape: Sequence[int], axes: Sequence[int] | None = None) -> Any:
        """The node of an array of this shape, nothing left to repeat.

        axes: its order; None: that in which it is kept.
        """
        axes = x.axes if axes is None else tuple(axes)
        node, size = self.turned(x, axes), [shape[axis] for axis in axes]
        if list(node.get_output_shape(0)) == size:
            return node
        return self.op.broadcast(node, np.array(size, np.int64))

    def plain(self, x: _Value, shape: Sequence[int]) -> Any:
        """`whole` in JAX's order."""
        return self.whole(x, shape, range(len(shape)))

    def _alike(self, inputs: Sequence[_Value]) -> tuple[list[Any], tuple[int, ...]]:
        """Nodes with one order of axes: that of the largest."""
        largest = max(inputs, key=lambda x: (len(x.axes), math.prod(x.node.get_output_shape(0))))
        nodes = [self.turned(x, largest.axes) if x.axes else x.node for x in inputs]
        return nodes, largest.axes

    # Primitives: (inputs, their shapes, params, the output's aval) -> value.

    def _div(self, inputs, shapes, params, out) -> _Value:
        (a, b), axes = self._alike(inputs)
        if np.dtype(out.dtype).kind in "iu":  # JAX rounds towards zero, OpenVINO down
            a = self.op.subtract(a, self.op.mod(a, b))
        return _Value(self.op.divide(a, b), axes)

    def _integer_pow(self, inputs, shapes, params, out) -> _Value:
        (x,) = inputs
        if params["y"] == 2:
            return x._replace(node=self.op.multiply(x.node, x.node))
        power = np.array(params["y"], out.dtype)
        return x._replace(node=self.op.power(x.node, power))

    def _square(self, inputs, shapes, params, out) -> _Value:
        (x,) = inputs
        return x._replace(node=self.op.multiply(x.node, x.node))

    def _rsqrt(self, inputs, shapes, params, out) -> _Value:
        (x,) = inputs
        return x._replace(node=self.op.power(x.node, np.array(-0.5, out.dtype)))

    def _round(self, inputs, shapes, params, out) -> _Value:
        (x,) = inputs
        even = int(params["rounding_method"]) == 1
        mode = "half_to_even" if even else "half_away_from_zero"
        return x._replace(node=self.op.round(x.node, mode))

    def _clamp(self, inputs, shapes, params, out) -> _Value:
        (low, x, high), axes = self._alike(inputs)
        return _Value(self.op.minimum(self.op.maximum(x, low), high), axes)

    def _select_n(self, inputs, shapes, params, out) -> _Value:
        if len(inputs) != 3:
            raise ConfigError("OpenVINO has no counterpart here of select_n of three cases.")
        (which, no, yes), axes = self._alike(inputs)
        return _Value(self.op.select(which, yes, no), axes)

    def _convert_element_type(self, inputs, shapes, params, out) -> _Value:
        (x,) = inputs
        dtype = np.dtype(np.float32) if out.dtype.name == "bfloat16" else np.dtype(out.dtype)
        if x.node.get_output_element_type(0).to_dtype() == dtype:
            return x
        name = "boolean" if dtype.kind == "b" else dtype.type
        return x._replace(node=self.op.convert(x.node, name))

    def _broadcast_in_dim(self, inputs, shapes, params, out) -> _Value:
        node = self.turned(inputs[0], tuple(range(len(shapes[0]))))
        have = node.get_output_shape(0)
        size = [1] * len(out.shape)
        for i, axis in enumerate(params["broadcast_dimensions"]):
            size[axis] = have[i]
        return _Value(self.shaped(node, size), tuple(range(len(size))))

    def shaped(self, node: Any, shape: Sequence[int]) -> Any:
        """The node in this shape, which has as many values; one of them may be -1."""
        if tuple(node.get_output_shape(0)) == tuple(shape):
            return node
        return self.op.reshape(node, np.array(shape, np.int64), False)

    def _reshape(self, inputs, shapes, params, out) -> _Value:
        (x,) = inputs[:1]
        node = self.plain(x, shapes[0])
        return _Value(self.shaped(node, out.shape), tuple(range(len(out.shape))))

    _squeeze = _expand_dims = _reshape

    def _transpose(self, inputs, shapes, params, out) -> _Value:
        (x,) = inputs
        to = {axis: i for i, axis in enumerate(params["permutation"])}
        return x._replace(axes=tuple(to[axis] for axis in x.axes))

    def _concatenate(self, inputs, shapes, params, out) -> _Value:
        axes = max(inputs, key=lambda x: x.axes != tuple(range(len(x.axes)))).axes
        nodes = [self.whole(x, shape, axes) for x, shape in zip(inputs, shapes, strict=True)]
        return _Value(self.op.concat(nodes, axes.index(params["dimension"])), axes)

    def _stack(self, inputs, shapes, params, out) -> _Value:
        axis = params["axis"]
        one = (*out.shape[:axis], 1, *out.shape[axis + 1 :])
        nodes = [
            self.shaped(self.plain(x, shape), one) for x, shape in zip(inputs, shapes, strict=True)
        ]
        return _Value(self.op.concat(nodes, axis), tuple(range(len(one))))

    def _slice(self, inputs, shapes, params, out) -> _Value:
        (x,) = inputs
        strides = params["strides"] or (1,) * len(out.shape)
        bounds = (
            np.array([one[axis] for axis in x.axes], np.int64)
            for one in (params["start_indices"], params["limit_indices"], strides)
        )
        return x._replace(node=self.op.slice(self.whole(x, shapes[0]), *bounds))

    def _split(self, x: _Value, params) -> list[_Value]:
        axis = x.axes.index(params["axis"])
        sizes = np.array(params["sizes"], np.int64)
        parts = self.op.variadic_split(x.node, np.array(axis, np.int64), sizes)
        return [x._replace(node=parts.output(i)) for i in range(len(sizes))]

    def _pad(self, inputs, shapes, params, out) -> _Value:
        x, value = inputs
        if any(inner for _, _, inner in params["padding_config"]):
            raise ConfigError("OpenVINO has no counterpart here of padding between values.")
        low, high = (
            np.array([params["padding_config"][axis][i] for axis in x.axes], np.int64)
            for i in (0, 1)
        )
        node = self.op.pad(self.whole(x, shapes[0]), low, high, "constant", value.node)
        return x._replace(node=node)

    def _iota(self, inputs, shapes, params, out) -> _Value:
        axis = params["dimension"]
        shape = [1] * len(out.shape)
        shape[axis] = out.shape[axis]
        return self.constant(np.arange(out.shape[axis], dtype=out.dtype).reshape(shape))

    def _reduced(self, how: str, inputs, shapes, params) -> _Value:
        (x,) = inputs
        places = [x.axes.index(axis) for axis in params["axes"]]
        node = getattr(self.op, how)(self.whole(x, shapes[0]), np.array(places, np.int64), False)
        kept = [axis for axis in x.axes if axis not in params["axes"]]
        return _Value(node, tuple(sorted(kept).index(axis) for axis in kept))

    def _reduce_sum(self, inputs, shapes, params, out) -> _Value:
        return self._reduced("reduce_sum", inputs, shapes, params)

    def _reduce_max(self, inputs, shapes, params, out) -> _Value:
        return self._reduced("reduce_max", inputs, shapes, params)

    def _reduce_min(self, inputs, shapes, params, out) -> _Value:
        return self._reduced("reduce_min", inputs, shapes, params)

    def _dot_general(self, inputs, shapes, params, out) -> _Value:
        (a, b), (a_shape, b_shape) = inputs, shapes
        (a_sum, b_sum), (a_batch, b_batch) = params["dimension_numbers"]
        if _is_conv1x1(params, shapes):
            kernel = self.turned(b, (1, 0))
            kernel = self.shaped(kernel, (b_shape[1], b_shape[0], 1, 1))
            x = self.whole(a, a_shape, CHANNELS_FIRST)
            return _Value(self._convolved(x, kernel, (1, 1), ((0, 0), (0, 0))), CHANNELS_FIRST)

        def matrices(x: _Value, shape, batch, summed) -> tuple[Any, list[int], list[int]]:
            free = [axis for axis in range(len(shape)) if axis not in (*batch, *summed)]
            node = self.whole(x, shape, (*batch, *free, *summed))
            sizes = [[shape[axis] for axis in group] for group in (batch, free, summed)]
            return self.shaped(node, [math.prod(one) for one in sizes]), sizes[0], sizes[1]

        left, batch, rows = matrices(a, a_shape, a_batch, a_sum)
        right, _, columns = matrices(b, b_shape, b_batch, b_sum)
        node = self.op.matmul(left, right, False, True)
        return _Value(self.shaped(node, [*batch, *rows, *columns]), tuple(range(len(out.shape))))

    def _conv_general_dilated(self, inputs, shapes, params, out) -> _Value:
        (x, kernel), (x_shape, kernel_shape) = inputs, shapes
        numbers = params["dimension_numbers"]
        plain = params["feature_group_count"] == params["batch_group_count"] == 1
        if not plain or any(one != 1 for one in params["lhs_dilation"]):
            raise ConfigError("OpenVINO has no counterpart here of such convolutions.")
        lhs, rhs, result = numbers
        x, kernel = self.whole(x, x_shape, lhs), self.whole(kernel, kernel_shape, rhs)
        how, number = _of_conv3x3(params, shapes), self.count(x_shape[2], kernel_shape[3])
        if how == (1, 1) and number > 1:
            if kernel_shape[2] < openvino_columns.LEAST_CHANNELS:
                return openvino_columns.begin3x3(self.op, x, kernel, number)
            return openvino_columns.conv3x3(
                self.op, openvino_columns.apart(self.op, x, number), kernel
            )
        node = self._convolved(
            *(x, kernel, params["window_strides"], params["padding"], params["rhs_dilation"])
        )
        return self.begun(Columns((node,))) if how == (2, 2) else _Value(node, tuple(result))

    def _convolved(self, x, kernel, strides, padding, dilation=(1, 1)) -> Any:
        low, high = ([pair[i] for pair in padding] for i in (0, 1))
        return self.op.convolution(x, kernel, list(strides), low, high, list(dilation))


def _is_conv1x1(params: Mapping[str, Any], shapes) -> bool:
    """Whether a dot_general is a 1x1 convolution of a map, with a kernel [C, features]."""
    (a_sum, b_sum), (a_batch, _) = params["dimension_numbers"]
    ranks = [len(shape) for shape in shapes]
    return (a_sum, b_sum, ranks) == ((3,), (0,), [4, 2]) and not a_batch


_NHWC = ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))
_PADDING_OF = {(1, 1): ((1, 1), (1, 1)), (2, 2): ((0, 1), (0, 1))}


def _of_conv3x3(params: Mapping[str, Any], shapes) -> tuple[int, int] | None:
    """The strides of a 3x3 convolution as `blocks` has them: (1, 1), or (2, 2) of an even map."""
    strides = tuple(params["window_strides"])
    plain = params["feature_group_count"] == params["batch_group_count"] == 1
    plain &= (*params["lhs_dilation"], *params["rhs_dilation"]) == (1, 1, 1, 1)
    plain &= tuple(map(tuple, params["dimension_numbers"])) == _NHWC
    plain &= _PADDING_OF.get(strides) == tuple(params["padding"])
    even = shapes[0][1] % 2 == shapes[0][2] % 2 == 0
    return strides if plain and even and tuple(shapes[1][:2]) == (3, 3) else None


def _group_norm(to: _Translator, inputs: Sequence[_Value | Columns], shapes) -> _Value | Columns:
    """`blocks.group_norm`: from each channel's mean and length, with which channels may stay last.

    OpenVINO's own GroupNormalization turns the map to channels first and back, which takes a tenth
    of the time of the full-size model.
    """
    op, (x, scale, bias), (_, height, width, channels) = to.op, inputs, shapes[0]
    groups, size = shapes[1]
    whole = not isinstance(x, Columns)
    maps = (to.whole(x, shapes[0], CHANNELS_FIRST),) if whole else x.maps
    places = np.array([2, 3], np.int64)

    def over_maps(values: list[Any]) -> Any:
        return functools.reduce(op.add, values)

    squares = over_maps([op.power(op.reduce_l2(x, places, True), np.float32(2)) for x in maps])
    means = over_maps([op.reduce_mean(x, places, True) for x in maps])

    def of_groups(channels: Any) -> Any:
        return op.reduce_mean(to.shaped(channels, [-1, groups, size, 1]), places, True)

    mean = of_groups(means if whole else op.multiply(means, np.float32(1 / len(maps))))
    square = op.divide(of_groups(squares), np.float32(height * width))
    variance = op.relu(op.subtract(square, op.multiply(mean, mean)))
    factor = op.power(op.add(variance, np.float32(NORM_EPSILON)), np.float32(-0.5))

    # What all maps read is made before it is reshaped: OpenVINO joins operations element by
    # element up to there, and slows down where a map and its factor come out of one of those.
    def of_channels(of_group: Any) -> Any:
        each = op.broadcast(of_group, np.array([shapes[0][0], groups, size, 1], np.int64))
        return to.shaped(each, [-1, channels, 1, 1])

    factor = op.multiply(factor, to.shaped(scale.node, [1, groups, size, 1]))
    bias = to.shaped(bias.node, [1, channels, 1, 1])
    mean, factor = of_channels(mean), of_channels(factor)
    found = [op.add(op.multiply(op.subtract(x, mean), factor), bias) for x in maps]
    return _Value(found[0], CHANNELS_FIRST) if whole else Columns(tuple(found))


def _silu(to: _Translator, inputs: Sequence[_Value], shapes) -> _Value:
    (x,) = inputs
    return x._replace(node=to.op.swish(x.node))


def _doubled(to: _Translator, inputs: Sequence[_Value], shapes) -> _Value | Columns:
    """`layers.doubled_conv3x3`, as a transposed convolution of 4 x 4: each tap of a phase."""
    x, kernel = inputs
    node = to.whole(x, shapes[0], CHANNELS_FIRST)
    # An input at i reaches outputs 2i - 1 .. 2i + 2; at 2i - 1 through the kernel's last row.
    spread = np.array([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]], np.float32)
    plain = to.turned(kernel, (2, 3, 0, 1))  # [in, out, 3, 3]
    rows = to.op.matmul(to.op.constant(spread), plain, False, False)  # [in, out, 4, 3]
    if to.count(2 * shapes[0][2], shapes[1][3]) > 1:
        return to.begun(openvino_columns.doubled3x3(to.op, node, rows, PHASE_TAPS))
    both = to.op.matmul(rows, to.op.constant(spread), False, True)  # [in, out, 4, 4]
    found = to.op.convolution_backprop_data(node, both, [2, 2], pads_begin=[1, 1], pads_end=[1, 1])
    return _Value(found, CHANNELS_FIRST)


KNOWN: Mapping[str, Callable[..., _Value | Columns]] = {
    "group_norm": _group_norm,
    "silu": _silu,
    "doubled_conv3x3": _doubled,
}
