"""What docs/format.md says of each operation is what the library computes, at its edges too."""

import numpy as np
import pytest

from glc_jax.entropy import sizes as sizes_of
from glc_jax.entropy.integer import LIMIT, HostFloat64, NumPy
from glc_jax.entropy.operations import OPERATIONS
from glc_jax.entropy.program import Builder
from tests import independent_programs

SIZES = {"b": 2, "h": 5, "w": 3}
SHAPE = ("b", "h", "w", 4)  # of x and y; `matrix` is the product's right-hand side

# (operation, values read, arrays, fields); arrays are given by their shape and largest magnitude.
CASES = [
    ("rows", "x", {"table": ((6, 3), LIMIT)}, {}),
    ("dense", "x", {"kernel": ((4, 3), LIMIT)}, {}),
    (
        "conv",
        "x",
        {"kernel": ((3, 2, 2, 6), LIMIT)},
        {
            "window": [3, 2],
            "strides": [2, 1],
            "dilations": [1, 2],
            "padding": [[1, 2], [0, 1]],
            "groups": 2,
        },
    ),
    (
        "conv",
        "x",
        {"kernel": ((3, 3, 1, 4), LIMIT)},
        {
            "window": [3, 3],
            "strides": [1, 1],
            "dilations": [1, 1],
            "padding": [[1, 1], [1, 1]],
            "groups": 4,
        },
    ),
    ("product", "x matrix", {}, {}),
    ("multiply", "x y", {}, {}),
    ("sum", "x y x", {"shift_0": ((4,), 8), "bias": ((4,), 9999)}, {"signs": [1, -1, 1]}),
    ("sum", "x y", {"shift_1": ((), 8)}, {"signs": [-1, 1]}),
    ("round", "x", {"shift": ((4,), 12), "bias": ((4,), 2048)}, {"limit": 50}),
    ("divide", "x y", {}, {"shift": 9}),
    ("root", "x", {}, {"shift": 11}),
    ("modulo", "x", {}, {"modulus": 7}),
    ("lookup", "x", {"table": ((2 * LIMIT + 1,), 1 << 20)}, {}),
    ("leaky", "x", {}, {"slope": 655}),
    *(("compare", "x small", {}, {"kind": kind}) for kind in ("lt", "le", "gt", "ge", "eq", "ne")),
    *(("extreme", "x y", {}, {"kind": kind}) for kind in ("max", "min")),
    ("select", "small x y", {}, {}),
    ("reduce", "x", {}, {"kind": "sum", "axes": [1, 2]}),
    ("reduce", "x", {}, {"kind": "max", "axes": [3]}),
    ("reshape", "x", {}, {"shape": ["b", "h*w", 2, 2]}),
    ("transpose", "x", {}, {"axes": [3, 1, 0, 2]}),
    (
        "slice",
        "x",
        {},
        {"starts": [0, "mod(h, 2)", 0, 1], "stops": ["b", "h", "w", 4], "strides": [1, 2, 1, 2]},
    ),
    (
        "pad",
        "x",
        {},
        {"before": [0, 1, "w - 3", 0], "after": [0, 0, "max(h, w)", 2], "between": [0, 1, 2, 0]},
    ),
    ("concatenate", "x y x", {}, {"axis": 3}),
    ("broadcast", "x", {}, {"shape": ["b", "h", 2, "w", 4], "axes": [0, 1, 3, 4]}),
    ("constant", "", {"values": ((2, 3), 1 << 30)}, {}),
    ("iota", "", {}, {"shape": ["b", "2*h", "w"], "axis": 1}),
    ("size", "", {}, {"size": "floordiv(h + w, 3) - 2*h**2"}),
]


def drawn(rng: np.random.Generator, name: str, shape: tuple[int, ...], largest: int) -> np.ndarray:
    low = 0 if name.startswith("shift") else -largest
    return rng.integers(low, largest, shape, endpoint=True)


def program_of(rng, operation, reads, arrays, fields):
    """A program of one operation, and inputs for it, extreme values among them."""
    builder, values, inputs = Builder(), [], []
    for name in reads.split():
        shape = ("b", "h", 4, 3) if name == "matrix" else SHAPE
        largest = 2 if name == "small" else LIMIT
        values.append(builder.input(shape, largest, 0))
        x = rng.integers(-largest, largest, sizes_of.shape(shape, SIZES), endpoint=True)
        x.reshape(-1)[:3] = [largest, -largest, 0]
        inputs.append(rng.permuted(x, axis=1))
    if not values:  # an input gives the sizes their names
        builder.input(SHAPE, 0)
        inputs.append(np.zeros(sizes_of.shape(SHAPE, SIZES), np.int64))
    made = {name: drawn(rng, name, *form) for name, form in arrays.items()}
    builder.output("found", builder.add(operation, values, made, **fields), 0)
    return builder.program(), inputs


def test_every_operation_is_tried():
    assert {case[0] for case in CASES} == set(OPERATIONS) == set(independent_programs.OPERATIONS)


@pytest.mark.parametrize("case", CASES, ids=[f"{i}-{case[0]}" for i, case in enumerate(CASES)])
def test_the_page_and_the_library_say_the_same(case):
    rng = np.random.default_rng(len(str(case)))
    for _ in range(5):
        program, inputs = program_of(rng, *case)
        text = program.structure.text
        wanted = independent_programs.run(text, program.arrays, inputs, SIZES)["found"]
        for arithmetic in (NumPy(), HostFloat64()):
            found = program(*inputs, arithmetic=arithmetic)["found"]
            np.testing.assert_array_equal(found, wanted)


EXPRESSIONS = [
    "4*h",
    "-h + 7",
    "-2**2",
    "2*h**2 - 3*w",
    "floordiv(-h, 2)",
    "mod(-h, 3)",
    "max(0, min(h, w) - 4)",
    "(h + 1)*(w - 1)",
    "h - w - 1",
    "-1*h",
]


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_both_read_sizes_alike(text):
    assert independent_programs.size_of(text, SIZES) == sizes_of.evaluate(text, SIZES)
