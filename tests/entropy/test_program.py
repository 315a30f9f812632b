"""Random programs agree in every arithmetic and stay in their bounds; damaged ones are refused."""

import json
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glc_jax.entropy import integer
from glc_jax.entropy.integer import LIMIT, HostFloat64, NumPy
from glc_jax.entropy.operations import OPERATIONS
from glc_jax.entropy.program import Builder, Program, execute
from glc_jax.errors import WeightsError
from tests.entropy.changes import changed

B, H, W, C = 2, 3, 4, 4
SIZES = {"b": B, "h": H, "w": W}
SHAPE = ("b", "h", "w", C)


class Draw:
    """Appends random operations to a program; remembers the shapes as text."""

    def __init__(self, data) -> None:
        self.data, self.builder = data, Builder()
        limit = self.number(1, LIMIT)
        self.shapes = [SHAPE, SHAPE]
        for shape in self.shapes:
            self.builder.input(shape, limit, 0)

    def number(self, low, high):
        return self.data.draw(st.integers(low, high))

    def array(self, shape, low, high):
        rng = np.random.default_rng(self.number(0, 1 << 30))
        return rng.integers(low, high, shape, endpoint=True)

    def pick(self, where=lambda shape: True):
        fits = [i for i, shape in enumerate(self.shapes) if where(shape)]
        return self.data.draw(st.sampled_from(fits)) if fits else None

    def add(self, operation, values, shape, arrays=None, /, **fields):
        self.builder.add(operation, values, arrays, **fields)
        self.shapes.append(tuple(shape))
        return len(self.shapes) - 1

    def rounded(self, value, limit=LIMIT):
        shift = self.array((), 0, 20)
        bias = self.array((), -3, 1 << 10)
        arrays = {"shift": shift, "bias": bias}
        return self.add("round", [value], self.shapes[value], arrays, limit=limit)

    def step(self):
        name = self.data.draw(st.sampled_from(sorted(OPERATIONS)))
        getattr(self, f"_{name}")()

    def _rows(self):
        value = self.pick(lambda s: len(s) < 5)
        self.add("rows", [value], (*self.shapes[value], 2), {"table": self.array((5, 2), -99, 99)})

    def _dense(self):
        value = self.rounded(self.pick(lambda s: s and s[-1] == C))
        kernel = self.array((C, C), -LIMIT, LIMIT)
        self.add("dense", [value], self.shapes[value], {"kernel": kernel})

    def _conv(self):
        value = self.rounded(self.pick(lambda s: s == SHAPE))
        groups = self.data.draw(st.sampled_from([1, 2, 4]))
        kernel = self.array((3, 2, C // groups, C), -999, 999)
        fields = {"window": [3, 2], "strides": [1, 1], "dilations": [1, 2]}
        padding = [[2, 0], [1, 1]]
        self.add(
            "conv", [value], SHAPE, {"kernel": kernel}, padding=padding, groups=groups, **fields
        )

    def _product(self):
        a = self.rounded(self.pick(lambda s: s == SHAPE))
        b = self.add("transpose", [a], ("b", "h", C, "w"), axes=[0, 1, 3, 2])
        self.add("product", [a, b], ("b", "h", "w", "w"))

    def _multiply(self):
        a = self.pick()
        b = self.pick(lambda s: s == self.shapes[a])
        limits = [self.rounded(x, 1 << 20) for x in (a, b)]
        self.add("multiply", limits, self.shapes[a])

    def _sum(self):
        a = self.pick()
        shape = self.shapes[a]
        b = self.pick(lambda s: s == shape)
        arrays = {"shift_0": self.array(shape[-1:] if shape[-1:] == (C,) else (), 0, 9)}
        arrays |= {"shift_1": self.array((), 0, 9), "bias": self.array((), -9999, 9999)}
        signs = [self.data.draw(st.sampled_from([-1, 1])) for _ in range(2)]
        values = [self.rounded(x, 1 << 30) for x in (a, b)]
        self.add("sum", values, shape, arrays, signs=signs)

    def _round(self):
        self.rounded(self.pick(), self.number(1, 1 << 40))

    def _divide(self):
        a = self.rounded(self.pick(), 1 << 24)
        b = self.pick(lambda s: s == self.shapes[a])
        self.add("divide", [a, b], self.shapes[a], shift=self.number(0, 27))

    def _root(self):
        a = self.rounded(self.pick(), 1 << 24)
        self.add("root", [a], self.shapes[a], shift=self.number(0, 27))

    def _modulo(self):
        a = self.pick()
        self.add("modulo", [a], self.shapes[a], modulus=self.number(1, 1 << 24))

    def _lookup(self):
        a = self.rounded(self.pick())
        table = self.array((2 * LIMIT + 1,), -LIMIT, LIMIT)
        self.add("lookup", [a], self.shapes[a], {"table": table})

    def _leaky(self):
        a = self.rounded(self.pick(), 1 << 30)
        self.add("leaky", [a], self.shapes[a], slope=self.number(0, 1 << 16))

    def _compare(self):
        a = self.pick()
        b = self.pick(lambda s: s == self.shapes[a])
        kind = self.data.draw(st.sampled_from(["lt", "le", "gt", "ge", "eq", "ne"]))
        self.add("compare", [a, b], self.shapes[a], kind=kind)

    def _extreme(self):
        a = self.pick()
        b = self.pick(lambda s: s == self.shapes[a])
        kind = self.data.draw(st.sampled_from(["max", "min"]))
        self.add("extreme", [a, b], self.shapes[a], kind=kind)

    def _select(self):
        a = self.pick()
        b, c = (self.pick(lambda s: s == self.shapes[a]) for _ in range(2))
        self.add("select", [c, a, b], self.shapes[a])

    def _reduce(self):
        a = self.rounded(self.pick(lambda s: len(s) > 1), 1 << 30)
        axis = self.number(0, len(self.shapes[a]) - 1)
        shape = tuple(s for i, s in enumerate(self.shapes[a]) if i != axis)
        kind = self.data.draw(st.sampled_from(["sum", "max"]))
        self.add("reduce", [a], shape, kind=kind, axes=[axis])

    def _reshape(self):
        a = self.pick(lambda s: s == SHAPE)
        self.add("reshape", [a], ("b", "h*w", C), shape=["b", "h*w", C])

    def _transpose(self):
        a = self.pick()
        axes = self.data.draw(st.permutations(range(len(self.shapes[a]))))
        self.add("transpose", [a], [self.shapes[a][i] for i in axes], axes=list(axes))

    def _slice(self):
        a = self.pick(lambda s: len(s) > 1)
        shape = self.shapes[a]
        zeros, ones = [0] * len(shape), [1] * len(shape)
        self.add("slice", [a], (1, *shape[1:]), starts=zeros, stops=[1, *shape[1:]], strides=ones)

    def _pad(self):
        a = self.pick(lambda s: s == SHAPE)
        sides = {"before": [0, 1, 0, 0], "after": [0, "h", 2, 0], "between": [0, 0, 1, 0]}
        self.add("pad", [a], ("b", "2*h + 1", "2*w + 1", C), **sides)

    def _concatenate(self):
        a = self.pick(lambda s: s == SHAPE)
        self.add("concatenate", [a, a, a], ("b", "3*h", "w", C), axis=1)

    def _broadcast(self):
        a = self.pick(lambda s: len(s) < 5)
        shape = (*self.shapes[a][:1], 3, *self.shapes[a][1:])
        axes = [0, *range(2, len(shape))]
        self.add("broadcast", [a], shape, shape=list(shape), axes=axes)

    def _constant(self):
        self.add("constant", [], (1, 1, 1, C), {"values": self.array((1, 1, 1, C), -99, 99)})

    def _iota(self):
        self.add("iota", [], SHAPE, shape=list(SHAPE), axis=self.number(0, 3))

    def _size(self):
        self.add("size", [], (), size="h*w")

    def program(self):
        for number in range(len(self.shapes)):
            self.builder.output(str(number), number, 0)
        return self.builder.program()


def draw_program(data, most=8):
    draw = Draw(data)
    for _ in range(draw.number(1, most)):
        draw.step()
    return draw.program()


def inputs_of(program, seed):
    """Two inputs, with both ends of what they may hold among them."""
    limit = program.structure.inputs[0]["limit"]
    rng = np.random.default_rng(seed)
    found = [rng.integers(-limit, limit, (B, H, W, C), endpoint=True) for _ in range(2)]
    found[0].flat[:2] = limit, -limit
    return found


def bounds_of(program, shapes):
    """The bound that the checker gives every value."""
    kinds = program.kinds(shapes)
    return [kind.bound for kind in kinds], [kind.shape for kind in kinds]


SLOWLY = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@SLOWLY
@given(st.data(), st.integers(0, 1 << 30))
def test_random_programs_stay_in_their_bounds(data, seed):
    program = draw_program(data)
    inputs = inputs_of(program, seed)
    try:
        bounds, shapes = bounds_of(program, [x.shape for x in inputs])
    except WeightsError:
        return
    outputs = program(*inputs, arithmetic=NumPy())
    floats = Program.from_arrays(program.to_arrays())(*inputs, arithmetic=HostFloat64())
    for number, (bound, shape) in enumerate(zip(bounds, shapes, strict=True)):
        value = outputs[str(number)]
        assert value.shape == shape
        assert np.abs(value).max(initial=0) <= bound
        assert np.array_equal(value, floats[str(number)])


@pytest.mark.slow
@settings(SLOWLY, max_examples=40)
@given(st.data(), st.integers(0, 1 << 30))
def test_random_programs_agree_in_what_xla_compiles(data, seed):
    program = draw_program(data, most=15)
    inputs = inputs_of(program, seed)
    try:
        program.check([x.shape for x in inputs])
    except WeightsError:
        return
    outputs = program(*inputs, arithmetic=NumPy())
    for arithmetic in (integer.Float64(), integer.ByteLimbs()):
        again = program(*inputs, arithmetic=arithmetic)
        assert all(np.array_equal(outputs[name], again[name]) for name in outputs)


def test_values_are_let_go_when_nothing_reads_them_any_more():
    builder = Builder()
    x = builder.input(("n",), 9, 0)
    for _ in range(5):
        x = builder.add("sum", [x, x], signs=[1, 1])
    builder.output("y", x, 0)
    program = builder.program()
    found = execute(
        NumPy(), program.structure, (("n", 2),), program.prepared(NumPy()), [np.ones(2)], (2,)
    )
    assert found["y"].tolist() == [32, 32]
    assert found[2].tolist() == [4, 4]


# Programs that nobody made in good faith.


def whole_program():
    """A program with most operations in it."""
    builder = Builder()
    x = builder.input(SHAPE, LIMIT, 3)
    y = builder.add(
        "conv",
        [x],
        {"kernel": np.ones((3, 3, C, C), int)},
        window=[3, 3],
        strides=[1, 1],
        dilations=[1, 1],
        padding=[[1, 1], [1, 1]],
        groups=1,
    )
    y = builder.add("round", [y], {"shift": np.full(C, 5), "bias": np.zeros((), int)}, limit=LIMIT)
    y = builder.add("lookup", [y], {"table": np.arange(-LIMIT, LIMIT + 1)})
    y = builder.add("sum", [y, x], {"shift_0": np.ones((), int)}, signs=[1, -1])
    y = builder.add("pad", [y], before=[0, 1, 0, 0], after=[0, 0, "w", 0], between=[0, 1, 0, 0])
    y = builder.add("slice", [y], starts=[0] * 4, stops=["b", "h", "w", C], strides=[1, 1, 1, 2])
    y = builder.add("reshape", [y], shape=["b", "h*w", 2])
    y = builder.add("reduce", [y], kind="max", axes=[1])
    y = builder.add("broadcast", [y], shape=["b", "h", 2], axes=[0, 2])
    y = builder.add("compare", [y, y], kind="le")
    z = builder.add("iota", [], shape=["b", "h", 2], axis=1)
    y = builder.add("concatenate", [y, z], axis=0)
    y = builder.add("transpose", [y], axes=[2, 0, 1])
    y = builder.add("leaky", [y], slope=77)
    builder.output("y", y, np.zeros((), int))
    return builder.program()


def runs_or_is_refused(arrays):
    start, problem = time.monotonic(), ""
    try:
        program = Program.from_arrays(arrays)
        program(*[np.ones((B, H, W, C), int)] * len(program.structure.inputs), arithmetic=NumPy())
    except WeightsError as error:
        problem = str(error)
    assert len(problem) < 9000
    assert time.monotonic() - start < 20


ODD = st.one_of(
    st.integers(-3, 70),
    st.sampled_from([1 << 20, 1 << 53, 1 << 80, -(1 << 63), 10**30]),
    st.sampled_from(
        [True, False, None, 1.0, 1e308, float("nan"), float("inf"), "", "h", "9*h", "x"]
    ),
    st.sampled_from([[], {}, [[]], [1], ["h", "w"], {"a": 1}, "h**4*w**4", "le", "sum", [0] * 50]),
)


def places(content, path=()):
    """The path of every value in a JSON content."""
    entries = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in entries:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


PROGRAM = whole_program()
CONTENT = json.loads(PROGRAM.structure.text)
PLACES = list(places(CONTENT))


def test_the_program_that_is_mutated_runs():
    outputs = PROGRAM(np.ones((B, H, W, C), int), arithmetic=NumPy())
    assert outputs["y"].shape == (2, 2 * B, H)


@settings(SLOWLY, max_examples=250)
@given(st.lists(st.tuples(st.sampled_from(PLACES), ODD), min_size=1, max_size=3), st.booleans())
def test_mutated_programs_run_or_are_refused(changes, remove):
    content = changed(CONTENT, changes, remove)
    text = np.frombuffer(json.dumps(content).encode(), np.uint8)
    runs_or_is_refused({**PROGRAM.to_arrays(), "program": text})


@settings(SLOWLY, max_examples=80)
@given(
    st.integers(0, len(PROGRAM.arrays) - 1),
    st.sampled_from([np.int8, np.int64, np.uint64, np.float32, bool, "U3"]),
    st.lists(st.integers(0, 4), max_size=9),
    st.sampled_from([0, 1, -1, 7, 53, 127]),
)
def test_mutated_arrays_run_or_are_refused(number, dtype, shape, value):
    array = np.full(shape, value).astype(dtype)
    runs_or_is_refused({**PROGRAM.to_arrays(), str(number): array})


@pytest.mark.parametrize("operation", ["sum", "round"])
@pytest.mark.parametrize("shift", [-1, 53])
def test_a_shift_that_no_integer_has_is_refused(operation, shift):
    builder = Builder()
    x = builder.input(("n", C), LIMIT, 0)
    shifts = np.zeros(C, int)
    shifts[-1] = shift
    if operation == "sum":
        y = builder.add("sum", [x], {"shift_0": shifts}, signs=[1])
    else:
        bias = np.zeros((), int)
        y = builder.add("round", [x], {"shift": shifts, "bias": bias}, limit=LIMIT)
    builder.output("y", y, 0)
    with pytest.raises(WeightsError, match="a shift"):
        builder.program().check([(2, C)])


@settings(SLOWLY, max_examples=80)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused(text):
    runs_or_is_refused({"program": np.frombuffer(text, np.uint8)})


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, "{}", "[]", "1", "null", '{"version":true}', '{"version":' + "9" * 5000 + "}"],
)
def test_odd_json_is_refused(text):
    with pytest.raises(WeightsError):
        Program.from_arrays({"program": np.frombuffer(text.encode(), np.uint8)})


def test_a_newer_version_says_so():
    text = json.dumps({**CONTENT, "version": 2}).encode()
    with pytest.raises(WeightsError, match="Install a newer"):
        Program.from_arrays({"program": np.frombuffer(text, np.uint8)})


def test_what_grows_without_end_is_refused():
    builder = Builder()
    x = builder.input(("n",), 9, 0)
    for _ in range(60):
        x = builder.add("concatenate", [x, x], axis=0)
    builder.output("y", x, 0)
    with pytest.raises(WeightsError, match="too large"):
        builder.program().check([(1,)])


def test_windows_count_as_what_they_hold():
    """A window of 64 x 64 over a large picture would be four thousand pictures."""
    builder = Builder()
    x = builder.input(("n", "h", "w", 1), 1, 0)
    big = builder.add("broadcast", [x], shape=["n", "h", "w", 1 << 14], axes=[0, 1, 2, 3])
    big = builder.add("reshape", [big], shape=["n", "128*h", "128*w", 1])
    kernel = np.ones((64, 64, 1, 1), int)
    y = builder.add(
        "conv",
        [big],
        {"kernel": kernel},
        window=[64, 64],
        strides=[1, 1],
        dilations=[1, 1],
        padding=[[32, 31], [32, 31]],
        groups=1,
    )
    builder.output("y", y, 0)
    with pytest.raises(WeightsError, match="too large"):
        builder.program().check([(1, 64, 64, 1)])


def test_many_values_count_together():
    """Each of them may be large; a thousand of them at once would be a thousand times that."""
    builder = Builder()
    x = builder.input(("n", 1), 1, 0)
    large = builder.add("broadcast", [x], shape=["n", 1 << 16], axes=[0, 1])
    for count in (100, 300):
        for _ in range(count - len(builder.operations)):
            builder.add("sum", [large, large], signs=[1, 1])
        builder.output("y", large, 0)
        if count == 100:
            builder.program().check([(1000, 1)])
    with pytest.raises(WeightsError, match="too many"):
        builder.program().check([(1000, 1)])


def test_products_count_as_what_they_take():
    """Values of a moderate size, each of whose elements is a sum of a thousand products."""
    builder = Builder()
    x = builder.input(("n", 1), 1, 0)
    x = builder.add("broadcast", [x], shape=["n", 64, 1024], axes=[0, 1])
    kernel = builder.array(np.zeros((1024, 1024)))
    for count in (16, 48):
        for _ in range(count - len(builder.operations)):
            x = builder.add("dense", [x])
            builder.operations[-1]["arrays"] = {"kernel": kernel}
        builder.output("y", x, 0)
        if count == 16:
            builder.program().check([(1000, 1)])
    with pytest.raises(WeightsError, match="too long"):
        builder.program().check([(1000, 1)])
