"""Programs run window by window give the same integers as at once, whatever the windows."""

import functools
import math

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glc_jax.entropy import integer, locality, windows
from glc_jax.entropy.exact_model import ExactModel
from glc_jax.entropy.integer import LIMIT, Float64, HostFloat64, NumPy
from glc_jax.entropy.operations import OPERATIONS, Kind
from glc_jax.entropy.program import Builder
from glc_jax.errors import WeightsError
from tests import small_model

C = 4
NOTHING = {"shift": np.zeros((), int), "bias": np.zeros((), int)}


class Draw:
    """A random network over a picture; every value is [b, scale * h, scale * w, C]."""

    def __init__(self, data) -> None:
        self.data, self.builder = data, Builder()
        self.scales = [1, 2]
        for scale in self.scales:
            shape = ("b", times(scale, "h"), times(scale, "w"), C)
            self.builder.input(shape, LIMIT, 0)

    def number(self, low, high):
        return self.data.draw(st.integers(low, high))

    def array(self, shape, low, high):
        rng = np.random.default_rng(self.number(0, 1 << 30))
        return rng.integers(low, high, shape, endpoint=True)

    def add(self, operation, values, arrays=None, /, **fields):
        return self.builder.add(operation, values, arrays, **fields)

    def rounded(self, value, shift=0):
        return self.add("round", [value], {**NOTHING, "shift": np.full((), shift)}, limit=LIMIT)

    def step(self):
        names = [name.removeprefix("of_") for name in dir(self) if name.startswith("of_")]
        value = self.values[self.number(max(0, len(self.values) - 3), len(self.values) - 1)]
        made = getattr(self, f"of_{self.data.draw(st.sampled_from(names))}")(*value)
        if made is not None:
            self.values.append((self.rounded(made[0], made[2]), made[1]))

    def conv(self, value, window, padding, stride=(1, 1), dilation=(1, 1), groups=1):
        kernel = self.array((*window, C // groups, C), -99, 99)
        fields = {"window": window, "strides": stride, "dilations": dilation, "padding": padding}
        fields = {name: [*map(list_of, given)] for name, given in fields.items()}
        return self.add("conv", [value], {"kernel": kernel}, groups=groups, **fields)

    # Each: (value, scale) -> (value, scale, how far it is to be shifted right), or None.

    def of_conv(self, x, scale):
        rows, columns = self.number(1, 3), self.number(1, 3)
        dilation = self.number(1, 2), self.number(1, 2)
        reach = (rows - 1) * dilation[0], (columns - 1) * dilation[1]
        before = [self.number(0, r) for r in reach]
        padding = [(b, r - b) for b, r in zip(before, reach, strict=True)]
        groups = self.data.draw(st.sampled_from([1, 2, 4]))
        return self.conv(x, (rows, columns), padding, (1, 1), dilation, groups), scale, 7

    def of_smaller(self, x, scale):
        if scale == 1:
            return None
        return self.conv(x, (3, 2), [(1, 1), (0, 0)], (2, 2)), scale // 2, 7

    def of_larger(self, x, scale):
        if scale > 2:
            return None
        shape = ["b", times(scale, "h"), 2, times(scale, "w"), 2, C]
        x = self.add("broadcast", [x], shape=shape, axes=[0, 1, 3, 5])
        shape = ["b", times(2 * scale, "h"), times(2 * scale, "w"), C]
        return self.add("reshape", [x], shape=shape), 2 * scale, 0

    def of_dense_over_positions(self, x, scale):
        shape = ["b", f"{scale**2}*h*w", C]
        x = self.add("reshape", [x], shape=shape)
        x = self.add("dense", [x], {"kernel": self.array((C, C), -99, 99)})
        shape = ["b", times(scale, "h"), times(scale, "w"), C]
        return self.add("reshape", [x], shape=shape), scale, 7

    def of_taps(self, x, scale):
        """As depthwise convolutions are written down: a pad, and slices of it."""
        x = self.add("pad", [x], before=[0, 1, 2, 0], after=[0, 2, 1, 0], between=[0] * 4)
        parts = []
        for row, column in ((0, 3), (3, 0), (1, 1)):
            stops = ["b", f"{scale}*h + {row}", f"{scale}*w + {column}", C]
            parts.append(
                self.add("slice", [x], starts=[0, row, column, 0], stops=stops, strides=[1] * 4)
            )
        return self.add("sum", parts, signs=[1, -1, 1]), scale, 1

    def of_zeros_between(self, x, scale):
        x = self.add("pad", [x], before=[0, 1, 0, 0], after=[0, 1, 2, 0], between=[0, 1, 1, 0])
        stops = ["b", f"{2 * scale}*h", f"{2 * scale}*w", C]
        x = self.add("slice", [x], starts=[0] * 4, stops=stops, strides=[1, 2, 2, 1])
        return x, scale, 0

    def of_other(self, x, scale):
        others = [value for value, other in self.values if other == scale]
        other = self.data.draw(st.sampled_from(others))
        kind = self.data.draw(st.sampled_from(["sum", "multiply", "extreme", "compare", "divide"]))
        fields = {
            "sum": {"signs": [1, -1]},
            "extreme": {"kind": "max"},
            "compare": {"kind": "lt"},
            "divide": {"shift": 8},
        }
        return self.add(kind, [x, other], **fields.get(kind, {})), scale, 12 * (kind == "multiply")

    def of_function(self, x, scale):
        table = self.array((2 * LIMIT + 1,), -LIMIT, LIMIT)
        return self.add("lookup", [x], {"table": table}), scale, 0

    def of_position(self, x, scale):
        shape = ["b", times(scale, "h"), times(scale, "w"), C]
        place = self.add("iota", [], shape=shape, axis=self.number(0, 3))
        place = self.add("modulo", [place], modulus=self.number(2, 9))
        return self.add("multiply", [x, place]), scale, 3

    def of_channels(self, x, scale):
        total = self.add("reduce", [x], kind="sum", axes=[3])
        shape = ["b", times(scale, "h"), times(scale, "w"), C]
        total = self.add("broadcast", [total], shape=shape, axes=[0, 1, 2])
        return self.add("sum", [x, total], signs=[1, -1]), scale, 1

    def of_outer_product(self, x, scale):
        shape = ["b", times(scale, "h"), times(scale, "w"), 2, 2]
        x = self.add("reshape", [x], shape=shape)
        turned = self.add("transpose", [x], axes=[0, 1, 2, 4, 3])
        x = self.add("product", [x, turned])
        shape = ["b", times(scale, "h"), times(scale, "w"), C]
        return self.add("reshape", [x], shape=shape), scale, 14

    def of_columns_first(self, x, scale):
        x = self.add("transpose", [x], axes=[0, 2, 1, 3])
        x = self.conv(x, (2, 3), [(1, 0), (2, 0)])
        return self.add("transpose", [x], axes=[0, 2, 1, 3]), scale, 7

    def program(self, steps):
        self.values = list(enumerate(self.scales))
        for _ in range(steps):
            self.step()
        for value, _ in self.values[2:] or self.values:
            self.builder.output(str(value), value, 0)
        return self.builder.program()


def times(scale, name):
    return name if scale == 1 else f"{scale}*{name}"


def list_of(x):
    return list(x) if isinstance(x, tuple) else x


def inputs_for(height, width, batch=1, seed=0):
    rng = np.random.default_rng(seed)
    return [
        rng.integers(-LIMIT, LIMIT, (batch, n * height, n * width, C), endpoint=True)
        for n in (1, 2)
    ]


def in_windows(program, inputs, arithmetic, share, few_shapes=False):
    """The outputs, and the plan: windows may take this share of what the whole takes."""
    shapes = [x.shape for x in inputs]
    whole = windows.plan(program, shapes, True, 1 << 60).bytes
    plan = windows.plan(program, shapes, few_shapes, round(share * whole))
    outputs, _ = windows.run(program, plan, arithmetic, inputs, sorted(program.exponents))
    return outputs, plan


def assert_same(found, wanted):
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], np.asarray(value), err_msg=name)


SLOWLY = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
SIDES = st.integers(1, 40)


@SLOWLY
@given(st.data(), SIDES, SIDES, st.floats(0.05, 1), st.booleans())
def test_random_networks(data, height, width, share, few_shapes):
    program = Draw(data).program(data.draw(st.integers(1, 6)))
    inputs = inputs_for(height, width, batch=data.draw(st.integers(1, 2)))
    wanted = program(*inputs, arithmetic=NumPy())
    for arithmetic in (NumPy(), HostFloat64()):
        assert_same(in_windows(program, inputs, arithmetic, share, few_shapes)[0], wanted)


@pytest.mark.slow
@settings(SLOWLY, max_examples=15)
@given(st.data(), SIDES, SIDES, st.floats(0.05, 1))
def test_random_networks_in_what_xla_compiles(data, height, width, share):
    program = Draw(data).program(data.draw(st.integers(1, 5)))
    inputs = inputs_for(height, width)
    wanted = program(*inputs, arithmetic=NumPy())
    for arithmetic in (Float64(), integer.FloatLimbs(), integer.ByteLimbs()):
        assert_same(in_windows(program, inputs, arithmetic, share, True)[0], wanted)


# What windows there are.


def network(*steps):
    """A program of steps (builder, value) -> value over one input [b, h, w, C]."""
    builder = Builder()
    value = builder.input(("b", "h", "w", C), LIMIT, 0)
    for step in steps:
        value = step(builder, value)
    builder.output("y", value, 0)
    return builder.program()


def convolved(builder, value):
    kernel = np.random.default_rng(0).integers(-9, 9, (3, 3, C, C))
    fields = {"window": [3, 3], "strides": [1, 1], "dilations": [1, 1], "groups": 1}
    padding = [[1, 1], [1, 1]]
    value = builder.add("round", [value], NOTHING, limit=LIMIT)
    value = builder.add("conv", [value], {"kernel": kernel}, padding=padding, **fields)
    return builder.add("round", [value], {**NOTHING, "shift": np.full((), 4)}, limit=LIMIT)


def test_a_window_sees_what_its_convolutions_reach():
    program = network(convolved, convolved, convolved)
    inputs = inputs_for(30, 50)[:1]
    outputs, plan = in_windows(program, inputs, NumPy(), 0.2)
    assert [(side.before, side.after) for side in plan.sides] == [(3, 3), (3, 3)]
    assert math.prod(side.count for side in plan.sides) > 4
    assert_same(outputs, program(*inputs, arithmetic=NumPy()))


def over_rows(kind):
    def step(builder, value):
        total = builder.add("reduce", [value], kind=kind, axes=[1])
        total = builder.add("broadcast", [total], shape=["b", "h", "w", C], axes=[0, 2, 3])
        return builder.add("sum", [value, total], signs=[1, 1])

    return step


def over_columns(builder, value):
    total = builder.add("reduce", [value], kind="max", axes=[2])
    total = builder.add("broadcast", [total], shape=["b", "h", "w", C], axes=[0, 1, 3])
    return builder.add("sum", [value, total], signs=[1, 1])


def attended(builder, value):
    turned = builder.add("transpose", [value], axes=[0, 2, 3, 1])
    value = builder.add("transpose", [value], axes=[0, 2, 1, 3])
    value = builder.add("product", [value, turned])
    return builder.add("transpose", [value], axes=[0, 2, 1, 3])


def rolled(builder, value):
    stops = ["b", "h", "w", C]
    last = builder.add("slice", [value], starts=[0, "h - 1", 0, 0], stops=stops, strides=[1] * 4)
    stops = ["b", "h - 1", "w", C]
    rest = builder.add("slice", [value], starts=[0] * 4, stops=stops, strides=[1] * 4)
    return builder.add("concatenate", [last, rest], axis=1)


def by_size(builder, value):
    size = builder.add("size", size="h")
    return builder.add("divide", [value, size], shift=3)


def longer(builder, value):
    return builder.add("pad", [value], before=[0, 1, 0, 0], after=[0] * 4, between=[0] * 4)


def swapped(builder, value):
    value = builder.add("reshape", [value], shape=["b", "w", "h", C])
    return builder.add("transpose", [value], axes=[0, 2, 1, 3])


def taken_by_both(builder, value):
    """Rows of the picture with every column's number of rows."""
    return builder.add("reshape", [value], shape=["b", "h*w", C])


def below(builder, value):
    """Zeros below and to the right alone."""
    kernel = np.random.default_rng(1).integers(-9, 9, (3, 3, C, C))
    fields = {"window": [3, 3], "strides": [1, 1], "dilations": [1, 1], "groups": 1}
    padding = [[0, 2], [0, 2]]
    return builder.add("conv", [value], {"kernel": kernel}, padding=padding, **fields)


def dilated(builder, value):
    """A convolution that leaves out every second position."""
    kernel = np.random.default_rng(3).integers(-9, 9, (3, 3, C, C))
    fields = {"window": [3, 3], "strides": [1, 1], "dilations": [2, 2], "groups": 1}
    return builder.add("conv", [value], {"kernel": kernel}, padding=[[2, 2], [2, 2]], **fields)


def with_itself(builder, value):
    """A value and what is convolved of it."""
    return builder.add("sum", [value, convolved(builder, value)], signs=[1, -1])


def halved(builder, value):
    """Every second position of a convolution."""
    kernel = np.random.default_rng(2).integers(-9, 9, (2, 2, C, C))
    fields = {"window": [2, 2], "strides": [2, 2], "dilations": [1, 1], "groups": 1}
    return builder.add("conv", [value], {"kernel": kernel}, padding=[[0, 0], [0, 0]], **fields)


def spread(builder, value):
    """Zeros between."""
    return builder.add("pad", [value], before=[0, 1, 1, 0], after=[0] * 4, between=[0, 1, 1, 0])


def in_cells(builder, value):
    """Sums over 2 x 2 of what is made twice as large and convolved."""
    cells = ["b", "h", 2, "w", 2, C]
    value = builder.add("broadcast", [value], shape=cells, axes=[0, 1, 3, 5])
    value = convolved(builder, builder.add("reshape", [value], shape=["b", "2*h", "2*w", C]))
    value = builder.add("reshape", [value], shape=cells)
    return builder.add("reduce", [value], kind="sum", axes=[2, 4])


def turned(builder, value):
    """Channels before columns, and back: neither way is its own inverse."""
    value = builder.add("transpose", [value], axes=[0, 3, 1, 2])
    return builder.add("transpose", [value], axes=[0, 2, 3, 1])


CUT = {
    "nothing": ([], 2),
    "positions left out": ([convolved, dilated], 2),
    "a value and its convolution": ([with_itself], 2),
    "zeros on one side": ([convolved, below], 2),
    "zeros between": ([convolved, convolved, convolved, spread], 2),
    "half as many rows": ([convolved, halved, convolved, convolved], 2),
    "half as many rows and back": ([halved, spread, convolved], 2),
    "parts of a row": ([in_cells], 2),
    "axes in turn": ([convolved, turned], 2),
    "the sum of a column": ([over_rows("sum")], 0),
    "the largest of a column": ([convolved, over_rows("max")], 0),
    "the largest of a row": ([convolved, over_columns, convolved], 1),
    "attention along a column": ([attended], 0),
    "a shift that comes back at the other end": ([rolled], 0),
    "its size": ([by_size], 0),
    "more rows than the picture": ([longer], 0),
    "rows that become columns": ([swapped], 0),
    "one line of rows": ([taken_by_both], 1),
}


@pytest.mark.parametrize("case", CUT)
def test_what_can_be_cut_is_and_the_rest_is_not(case):
    """How many sides are cut, by what the network does; the integers are right in any case."""
    steps, sides = CUT[case]
    program, inputs = network(*steps), inputs_for(24, 24)[:1]
    outputs, plan = in_windows(program, inputs, NumPy(), 0.3)
    assert len(plan.sides) == sides
    assert_same(outputs, program(*inputs, arithmetic=NumPy()))


def test_a_convolution_holds_its_windows_beside_what_it_reads_and_gives():
    plan = windows.plan(times_array(1), [(1, 8, 6, C)], True, 1 << 40)
    values = 8 * 6 * C * (1 + 3 * 3 + 1)
    assert plan.bytes == round(windows.SCRATCH * windows.NUMBER_BYTES * values)


def test_every_operation_has_its_rule():
    assert locality._RULES.keys() == OPERATIONS.keys() - {"constant", "size"}


def test_outputs_are_as_narrow_as_they_can_be():
    program, inputs = network(convolved), inputs_for(3, 4)[:1]
    outputs, _ = in_windows(program, inputs, NumPy(), 1)
    assert outputs["y"].dtype == np.int16
    builder = Builder()
    x = builder.input(("b", "h", "w", C), 1 << 40, 0)
    builder.output("y", x, 0)
    large = np.full((1, 2, 3, C), 1 << 40)
    outputs, _ = in_windows(builder.program(), [large], NumPy(), 1)
    np.testing.assert_array_equal(outputs["y"], large)
    for bound, dtype in (((1 << 15) - 1, np.int16), (1 << 15, np.int32), (1 << 31, np.int64)):
        assert windows._narrowest(Kind((1,), bound)) == dtype


def test_parameters_must_lie_alike():
    builder = Builder()
    x = builder.input(("b", "h", "w", C), LIMIT, 0)
    builder.output("scale", x, 0)
    builder.output("shape", builder.add("transpose", [x], axes=[0, 2, 1, 3]), 0)
    plan = windows.plan(builder.program(), [(1, 8, 8, C)], True, 1 << 20)
    assert plan.like(["scale"]) == "scale"
    with pytest.raises(WeightsError, match="lie alike"):
        plan.like(["scale", "shape"])


def test_many_sizes_share_few_programs(monkeypatch):
    program = network(convolved)
    compiled = jax.jit(windows._run_window, static_argnums=tuple(range(7)))
    compiled.clear_cache()
    monkeypatch.setattr(windows, "_compiled", lambda: compiled)
    for height, width in [(9, 9), (10, 9), (9, 10), (10, 10), (11, 10), (12, 9)]:
        inputs = inputs_for(height, width)[:1]
        assert_same(
            in_windows(program, inputs, Float64(), 2, few_shapes=True)[0],
            program(*inputs, arithmetic=NumPy()),
        )
    assert compiled._cache_size() == 2  # of 10 x 10 and of 12 x 10


def times_array(factor, width=3):
    """A program that differs from others of its width in the values of its array alone."""
    kernel = np.full((width, width, C, C), factor)
    fields = {"window": [width, width], "strides": [1, 1], "dilations": [1, 1], "groups": 1}
    return network(
        lambda builder, x: builder.add(
            "conv", [x], {"kernel": kernel}, padding=[[1, 1], [1, 1]], **fields
        )
    )


def test_a_plan_is_adopted_with_the_outputs_of_its_new_program():
    shapes, how = [(1, 30, 50, C)], (True, 1 << 17)
    found = windows.plan(times_array(1), shapes, *how)
    assert math.prod(side.count for side in found.sides) > 1
    other = times_array(99)  # whose outputs are larger
    assert windows.adopted(found, other, shapes) == windows.plan(other, shapes, *how) != found
    assert windows.adopted(None, other, shapes) is None


def test_no_plan_is_adopted_whose_window_may_not_run(monkeypatch):
    shapes, program = [(1, 30, 50, C)], times_array(1)
    found = windows.plan(program, shapes, True, 1 << 17)
    kinds = type(program).kinds

    def only_whole(self, asked):
        if [*map(tuple, asked)] != shapes:
            raise WeightsError("too much")
        return kinds(self, asked)

    monkeypatch.setattr(type(program), "kinds", only_whole)
    assert windows.adopted(found, program, shapes) is None


# The codec's own programs.


def test_groups_that_are_alike_have_the_plan_that_each_would_have():
    model = ExactModel(small_model.tree()["entropy"], Float64())
    shapes = [(1, 36, 40, small_model.CHANNELS)] * 2
    plans = [model._plan(group, shapes) for group in model.groups[2:]]
    alone = [windows.plan(g.program, shapes, True, windows.WINDOW_BYTES) for g in model.groups[2:]]
    assert plans == alone


@functools.cache
def exact_model(arithmetic):
    return ExactModel(small_model.tree()["entropy"], arithmetic)


def coded(monkeypatch, size, at_most):
    """The payload of random latents, each group in windows of so many bytes; and what it decodes
    to."""
    monkeypatch.setattr(windows, "WINDOW_BYTES", at_most)
    model = ExactModel(small_model.tree()["entropy"], HostFloat64())
    rng = np.random.default_rng(0)
    height, width = size
    targets = {
        "z": rng.integers(0, 32, (1, height, width)),
        "y": rng.normal(0, 3, (1, 4 * height, 4 * width, small_model.CHANNELS)),
    }
    payload = model.write(model.encode(targets))
    values = model.decode(*payload, height, width).values["y"]
    return payload, values, {plan.sides for plan in model._plans.values()}


def test_files_do_not_depend_on_windows(monkeypatch):
    size = (8, 9)
    payload, values, sides = coded(monkeypatch, size, 1 << 40)
    assert sides == {()}
    again, same, sides = coded(monkeypatch, size, 7 << 18)
    assert all(math.prod(side.count for side in cut) > 1 for cut in sides)
    assert again == payload
    np.testing.assert_array_equal(same, values)


@pytest.mark.parametrize("arithmetic", [Float64(), integer.FloatLimbs()])
def test_the_estimate_of_a_window_is_above_what_xla_accounts_for(arithmetic):
    model = ExactModel(small_model.tree()["entropy"], arithmetic)
    for group in model.groups[1:3]:
        shapes = [(1, 8, 8)] if group.name == "y/0" else [(1, 32, 32, small_model.CHANNELS)] * 2
        program = group.program
        plan = windows.plan(program, shapes, True, 1 << 40)
        place = np.zeros((2, 2), np.int32)
        dtypes = tuple((name, np.int32) for name in program.exponents)
        with integer.x64():
            lowered = windows._compiled().lower(
                *(model.arithmetic, program.structure, plan.sizes, plan.layout, dtypes, None, None),
                *(program.prepared(model.arithmetic), [np.zeros(s, np.int32) for s in shapes]),
                place,
            )
            taken = lowered.compile().memory_analysis().temp_size_in_bytes
        assert taken <= plan.bytes <= taken / 0.4
