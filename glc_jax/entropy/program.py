"""Programs over integers: what decides the probabilities in a file, as data.

A program is a list of operations (`operations.OPERATIONS`) in JSON, and the integer arrays that
they use. It is stored in a weights file and depends on nothing else: not on the Flax module or
the JAX release that it was compiled from (`exact.compile`), nor on the size of the picture. Three
arithmetics run it (`integer`), and agree bit for bit.

    {"version": 1,
     "inputs": [{"shape": ["b", "h", "w"], "limit": 16777215}, ...],
     "operations": [{"op": "rows", "in": [0], "arrays": {"table": 0}}, ...],
     "outputs": {"scale": {"value": 17, "exponent": 9}, ...}}

Values are numbered: first the inputs, then the result of each operation. Arrays are numbered too.
An input or output x with the exponent e stands for x 2^-e; exponents are arrays like the others,
one number or one for each channel (the last axis).

Programs come with weights files, which are untrusted: before one runs on a new size, every shape,
index and bound in it is checked, and its cost is bounded by the size of its inputs.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from glc_jax.entropy import later
from glc_jax.entropy import sizes as sizes_of
from glc_jax.entropy.integer import Arithmetic, Array, arithmetic_for, wide_enough
from glc_jax.entropy.operations import BOUND, MAX_RANK, OPERATIONS, Kind, require
from glc_jax.errors import WeightsError

jax = later.module("jax")

VERSION = 1
MAX_OPERATIONS = 4096
MAX_JSON_BYTES = 4_000_000
MAX_GROWTH = 1 << 17
"""A value has at most this many times the elements of all inputs, and as many more as the
program's own arrays and MAX_CONSTANT."""

MAX_CONSTANT = 1 << 20

MAX_VALUES = 64
"""All values together have at most so many times the elements that one may have. The full-size
GLC's have 8 times: 2^20 for each element of z."""

MAX_WORK = 1 << 31
"""Products for each element of the inputs, over all operations. The full-size GLC has 2^27."""

MAX_EXPONENT = 60
INDEX_LIMIT = (1 << 24) - 1
"""The largest index that an input may hold."""


class Structure:
    """What a program says apart from its arrays; equal texts are equal, so that they share what
    was compiled."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.inputs, self.operations, self.outputs = _parsed(text)
        self.last_use = _last_use(len(self.inputs), self.operations, self.outputs.values())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Structure) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    @property
    def made_of(self) -> str:
        """All that there is to it; see `program_store`."""
        return self.text


class Program:
    """A program and its arrays, ready to run.

    Attributes:
      structure: what is in its JSON.
      arrays: the integers, each in the smallest signed type that holds them.
      exponents: of each output, int or int64 [channels].
      input_exponents: of each input, the same; None for an index.
    """

    def __init__(self, text: str, arrays: Sequence[np.ndarray]) -> None:
        self.structure = Structure(text)
        self.arrays = tuple(_checked_array(array) for array in arrays)
        self.exponents = {
            name: self._exponent(output["exponent"])
            for name, output in self.structure.outputs.items()
        }
        self.input_exponents = [
            None if entry["exponent"] is None else self._exponent(entry["exponent"])
            for entry in self.structure.inputs
        ]
        for operation in self.structure.operations:
            for number in operation["arrays"].values():
                require(number < len(self.arrays), "an array is missing")
        self._checked: dict[tuple, dict[str, int]] = {}
        self._prepared: dict[Arithmetic, list[Any]] = {}
        self._shared: dict[Any, Any] = {}

    def share(self, prepared: dict[Any, Any]) -> Program:
        """Itself, holding what it makes of its arrays in a dict that is common to programs which
        share arrays: a layer of several of them is then in memory once."""
        self._shared = prepared
        return self

    def _exponent(self, number: int) -> int | np.ndarray:
        require(number < len(self.arrays), "an exponent is missing")
        values = self.arrays[number].astype(np.int64)
        require(
            values.ndim <= 1 and values.size and np.abs(values).max() <= MAX_EXPONENT, "exponent"
        )
        return int(values) if values.ndim == 0 else values

    def __call__(
        self, *inputs: Array, arithmetic: Arithmetic | None = None
    ) -> dict[str, np.ndarray]:
        """The outputs: int64 arrays by name.

        Args:
          inputs: of the declared shapes. Integers are taken as they are (an index, or x 2^e for
            a value x); floats are rounded to the input's grid.
          arithmetic: what carries the integers, without a say in the result; None: what suits
            JAX's default device.

        Raises:
          WeightsError: the shapes do not fit, or the program is malformed.
        """
        arithmetic = arithmetic or arithmetic_for(jax.default_backend())
        integers = [self.integers_of(number, x) for number, x in enumerate(inputs)]
        outputs = self.run(arithmetic, integers)
        return {name: np.asarray(value).astype(np.int64) for name, value in outputs.items()}

    def integers_of(self, number: int, x: Array) -> np.ndarray:
        """An input as the program takes it: int64."""
        require(number < len(self.structure.inputs), "there are more inputs than it takes")
        x, limit = np.asarray(x), self.structure.inputs[number]["limit"]
        if not np.issubdtype(x.dtype, np.integer) and x.dtype != bool:
            exponent = self.input_exponents[number]
            x = np.rint(np.ldexp(x.astype(np.float64), 0 if exponent is None else exponent))
            x = np.clip(np.nan_to_num(x), -limit, limit)
        return np.clip(x.astype(np.int64), -limit, limit)

    def run(self, arithmetic: Arithmetic, inputs: Sequence[Array]) -> dict[str, Array]:
        """The outputs of integer inputs, as the arithmetic carries them. Compiles once a shape."""
        sizes = self.check([tuple(np.shape(x)) for x in inputs])
        with wide_enough(arithmetic):
            prepared = self.prepared(arithmetic)
            carried = [arithmetic.integers(x) for x in inputs]
            run = execute if arithmetic.xp is np else _compiled()
            return run(arithmetic, self.structure, tuple(sorted(sizes.items())), prepared, carried)

    def prepared(self, arithmetic: Arithmetic) -> list[Any]:
        """The arrays as the operations want them, operation by operation. Within `x64`."""
        if arithmetic not in self._prepared:
            self._prepared[arithmetic] = [
                self._prepared_for(arithmetic, operation) for operation in self.structure.operations
            ]
        return self._prepared[arithmetic]

    def _prepared_for(self, arithmetic: Arithmetic, operation: Mapping[str, Any]) -> Any:
        numbers = sorted(operation["arrays"].items())
        own = tuple((name, id(self.arrays[number])) for name, number in numbers)
        key = (arithmetic, operation["op"], json.dumps(operation["fields"], sort_keys=True), own)
        if key not in self._shared:
            prepare = OPERATIONS[operation["op"]].prepare
            made = prepare(arithmetic, self._arrays_of(operation), operation["fields"])
            self._shared[key] = made
        return self._shared[key]

    def _arrays_of(self, operation: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """By name, int64."""
        return {
            name: self.arrays[number].astype(np.int64)
            for name, number in operation["arrays"].items()
        }

    def check(self, shapes: Sequence[tuple[int, ...]]) -> dict[str, int]:
        """The sizes that these shapes of the inputs give, once everything in it is checked.

        Raises WeightsError for shapes that do not fit, and for what a program may not do.
        """
        key = tuple(shapes)
        if key not in self._checked:
            sizes = self.sizes(key)
            self._kinds(key, sizes)
            self._checked[key] = sizes
        return self._checked[key]

    def kinds(self, shapes: Sequence[tuple[int, ...]]) -> list[Kind]:
        """The shape and the bound of every value: the inputs, then each operation's.

        Raises WeightsError for shapes that do not fit, and for what a program may not do.
        """
        return self._kinds(shapes, self.sizes(shapes))

    def sizes(self, shapes: Sequence[tuple[int, ...]]) -> dict[str, int]:
        """The sizes by name that these shapes of the inputs give.

        Raises WeightsError for shapes that do not fit.
        """
        declared = self.structure.inputs
        require(len(shapes) == len(declared), f"it takes {len(declared)} inputs")
        return sizes_of.bind([entry["shape"] for entry in declared], shapes)

    def _kinds(self, shapes: Sequence[tuple[int, ...]], sizes: Mapping[str, int]) -> list[Kind]:
        declared = self.structure.inputs
        given = sum(math.prod(shape) for shape in shapes)
        most = MAX_GROWTH * given + MAX_CONSTANT + sum(array.size for array in self.arrays)
        size = work = 0
        kinds = [Kind(s, e["limit"]) for s, e in zip(shapes, declared, strict=True)]
        for operation in self.structure.operations:
            known = [kinds[number] for number in operation["in"]]
            kind = OPERATIONS[operation["op"]].check(
                known, self._arrays_of(operation), operation["fields"], sizes
            )
            require(len(kind.shape) <= MAX_RANK, "a value has too many axes")
            size, work = size + kind.size, work + kind.work
            require(kind.size <= most, "a value is too large for its inputs")
            require(size <= MAX_VALUES * most, "its values are too many for its inputs")
            require(work <= MAX_WORK * max(given, 1), "it takes too long for its inputs")
            require(kind.bound < BOUND, "a value exceeds 52 bits")
            kinds.append(kind)
        return kinds

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The program for a weights file: "program", its JSON as uint8, and "0", "1", ..."""
        text = np.frombuffer(self.structure.text.encode(), np.uint8)
        return {"program": text, **{str(i): array for i, array in enumerate(self.arrays)}}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Program:
        """The inverse of `to_arrays`, for arrays that nobody has to trust.

        Raises WeightsError where they make no program.
        """
        try:
            text = np.asarray(arrays["program"])
            require(text.dtype == np.uint8 and text.size <= MAX_JSON_BYTES, "its text")
            count = len(arrays) - 1
            return cls(text.tobytes().decode(), [arrays[str(i)] for i in range(count)])
        except (KeyError, AttributeError, UnicodeDecodeError) as error:
            raise WeightsError(f"A program of the weights is incomplete: {error}.") from error


class Adaptation(Protocol):
    """Changes to a run; operations are numbered as their results are."""

    def read(self, number: int, values: Sequence[Array]) -> Sequence[Array]:
        """What an operation reads, instead of these values."""

    def made(self, number: int, value: Array) -> Array:
        """What an operation gives, instead of this value."""


def execute(
    arithmetic: Arithmetic,
    structure: Structure,
    sizes: Sequence[tuple[str, int]],
    prepared: Sequence[Any],
    inputs: Sequence[Array],
    watch: Sequence[int] = (),
    adapt: Adaptation | None = None,
) -> dict[str, Array]:
    """The outputs by name, and the values numbered in `watch` by their number.

    Everything is taken as checked; `adapt` may change what operations see. Within `x64`.
    """
    known = dict(sizes)
    values: dict[int, Array] = dict(enumerate(inputs))
    kept = {*structure.last_use, *watch}
    for number, (operation, arrays) in enumerate(
        zip(structure.operations, prepared, strict=True), start=len(inputs)
    ):
        read: Sequence[Array] = [values[index] for index in operation["in"]]
        if adapt is not None:
            read = adapt.read(number, read)
        run = OPERATIONS[operation["op"]].run
        result = run(arithmetic, read, arrays, operation["fields"], known)
        if adapt is not None:
            result = adapt.made(number, result)
        if number in kept:
            values[number] = result
        for index in operation["in"]:  # so that a large picture's values do not pile up
            if structure.last_use.get(index) == number and index not in watch:
                values.pop(index, None)
    outputs = {name: values[output["value"]] for name, output in structure.outputs.items()}
    return {**outputs, **{index: values[index] for index in watch}}


@functools.cache
def _compiled() -> Callable[..., dict[str, Array]]:
    return jax.jit(execute, static_argnums=(0, 1, 2))


def _last_use(
    inputs: int, operations: Sequence[Mapping[str, Any]], outputs: Any
) -> dict[int, float]:
    """The operation that reads each value last; infinity for what is an output."""
    last: dict[int, float] = {}
    for number, operation in enumerate(operations, start=inputs):
        last.update(dict.fromkeys(operation["in"], number))
    last.update({output["value"]: math.inf for output in outputs})
    return last


def _parsed(text: str) -> tuple[list[dict], list[dict], dict[str, dict]]:
    """The inputs, operations and outputs of a program's JSON, their forms checked."""
    try:
        content = json.loads(text)
        version = content["version"]
        require(type(version) is int, "its version")
        if version > VERSION:
            raise WeightsError(
                f"The weights hold a program of version {version}; this glc_jax reads up to "
                f"{VERSION}. Install a newer one."
            )
        inputs = [
            {
                "shape": tuple(_dimension(d) for d in entry["shape"]),
                "limit": _number(entry["limit"], BOUND - 1),
                "exponent": None if entry.get("exponent") is None else _number(entry["exponent"]),
            }
            for entry in content["inputs"]
        ]
        require(len(content["operations"]) <= MAX_OPERATIONS, "it has too many operations")
        operations = [
            _operation(entry, len(inputs) + number)
            for number, entry in enumerate(content["operations"])
        ]
        outputs = {
            str(name): {"value": _number(value["value"]), "exponent": _number(value["exponent"])}
            for name, value in content["outputs"].items()
        }
        for output in outputs.values():
            require(output["value"] < len(inputs) + len(operations), "an output is not computed")
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise WeightsError(f"A program of the weights cannot be read: {error}.") from error
    return inputs, operations, outputs


def _operation(entry: Mapping[str, Any], number: int) -> dict[str, Any]:
    name = entry["op"]
    require(name in OPERATIONS, f"there is no operation {name!r:.40}")
    operation = OPERATIONS[name]
    read = [_number(value) for value in entry["in"]]
    wanted = operation.inputs
    require(len(read) == wanted or (wanted is None and read), f"{name} reads other values")
    require(all(value < number for value in read), "a value is read before it is computed")
    arrays = {key: _number(value) for key, value in entry.get("arrays", {}).items()}
    given = {"shift_*?" if key.startswith("shift_") else key for key in arrays}
    optional = {key for key in operation.arrays if key.endswith("?")}
    known = {key if key in operation.arrays else f"{key}?" for key in given}
    require(known <= set(operation.arrays), f"{name} has other arrays")
    require(set(operation.arrays) - optional <= known, f"{name} lacks an array")
    fields = entry.get("fields", {})
    require(
        type(fields) is dict and set(fields) == set(operation.fields), f"{name} has other fields"
    )
    return {"op": name, "in": read, "arrays": arrays, "fields": fields}


def _dimension(value: Any) -> str | int:
    require(type(value) in (int, str), "a dimension")
    return value


def _number(value: Any, most: int = 1 << 20) -> int:
    require(type(value) is int and 0 <= value <= most, "a number is out of range")
    return value


def _checked_array(array: np.ndarray) -> np.ndarray:
    array = np.asarray(array)
    require(array.dtype.kind in "iu" and array.ndim <= MAX_RANK, "an array is not of integers")
    require(array.dtype != np.uint64, "an array is not of integers")
    require(not array.size or max(-int(array.min()), int(array.max())) < BOUND, "an integer")
    return _narrowest(array)


def _narrowest(array: np.ndarray) -> np.ndarray:
    """The integers in the smallest signed type that holds them; the array itself where it is."""
    largest = max(-int(array.min()) - 1, int(array.max())) if array.size else 0
    for dtype in (np.int8, np.int16, np.int32):
        if largest <= np.iinfo(dtype).max:
            return array.astype(dtype, copy=False)
    return array.astype(np.int64, copy=False)


class Builder:
    """Writes a program operation by operation."""

    def __init__(self) -> None:
        self.inputs: list[dict[str, Any]] = []
        self.operations: list[dict[str, Any]] = []
        self.outputs: dict[str, dict[str, int]] = {}
        self.arrays: list[np.ndarray] = []
        self._tables: dict[bytes, int] = {}

    def input(
        self, shape: Sequence[str | int], limit: int, exponent: int | np.ndarray | None = None
    ) -> int:
        """Declares the next input, before the first operation."""
        if self.operations:
            raise AssertionError("inputs come before operations")
        entry: dict[str, Any] = {"shape": list(shape), "limit": int(limit)}
        if exponent is not None:
            entry["exponent"] = self.array(exponent)
        self.inputs.append(entry)
        return len(self.inputs) - 1

    def add(
        self,
        operation: str,
        values: Sequence[int] = (),
        arrays: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> int:
        """Appends an operation; returns the number of its value."""
        entry: dict[str, Any] = {"op": operation, "in": list(values)}
        if arrays:
            store = self._table if operation == "lookup" else self.array
            entry["arrays"] = {name: store(array) for name, array in arrays.items()}
        if fields:
            entry["fields"] = fields
        self.operations.append(entry)
        return len(self.inputs) + len(self.operations) - 1

    def array(self, values: Any) -> int:
        """Stores an array; returns its number."""
        self.arrays.append(np.asarray(values, np.int64))
        return len(self.arrays) - 1

    def _table(self, values: Any) -> int:
        """Stores a table once, however often it is used."""
        key = np.asarray(values, np.int64).tobytes()
        if key not in self._tables:
            self._tables[key] = self.array(values)
        return self._tables[key]

    def output(self, name: str, value: int, exponent: int | np.ndarray) -> None:
        """Names a value as an output."""
        self.outputs[name] = {"value": value, "exponent": self.array(exponent)}

    def program(self) -> Program:
        """The program."""
        content = {
            "version": VERSION,
            "inputs": self.inputs,
            "operations": self.operations,
            "outputs": self.outputs,
        }
        return Program(json.dumps(content, separators=(",", ":"), default=int), self.arrays)
