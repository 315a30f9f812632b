"""Programs over integers, run as docs/format.md, section 5, describes them: NumPy int64.

It shares no code with glc_jax. `run` gives all outputs, one picture (b = 1) or more at a time.
"""

import itertools
import json
import re
from collections.abc import Mapping, Sequence

import numpy as np

LIMIT = 32639
FUNCTIONS = {
    "floordiv": lambda a, b: a // b,
    "mod": lambda a, b: a % b,
    "max": max,
    "min": min,
}


def run(
    text: str, arrays: Sequence[np.ndarray], inputs: Sequence[np.ndarray], sizes: Mapping[str, int]
) -> dict[str, np.ndarray]:
    """The outputs by name, of a program's JSON, its arrays, its inputs, and sizes by name."""
    program = json.loads(text)
    assert program["version"] == 1
    values = []
    for entry, value in zip(program["inputs"], inputs, strict=True):
        assert value.shape == tuple(size_of(d, sizes) for d in entry["shape"])
        assert np.abs(value).max(initial=0) <= entry["limit"]
        values.append(value.astype(np.int64))
    for entry in program["operations"]:
        named = {
            name: np.asarray(arrays[number], np.int64)
            for name, number in entry.get("arrays", {}).items()
        }
        operate = OPERATIONS[entry["op"]]
        read = [values[number] for number in entry["in"]]
        fields = Fields(entry.get("fields", {}), sizes)
        values.append(np.asarray(operate(read, named, fields), np.int64))
    return {name: values[output["value"]] for name, output in program["outputs"].items()}


def exponents(text: str, arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Of each output: one, or one for each channel."""
    outputs = json.loads(text)["outputs"]
    return {name: np.asarray(arrays[out["exponent"]], np.int64) for name, out in outputs.items()}


class Fields(dict):
    """An operation's fields, and the sizes that they speak of."""

    def __init__(self, fields: Mapping, sizes: Mapping[str, int]) -> None:
        super().__init__(fields)
        self.sizes = sizes

    def evaluated(self, name: str) -> list[int]:
        return [size_of(size, self.sizes) for size in self[name]]


def size_of(size: int | str, sizes: Mapping[str, int]) -> int:
    """The value of a size: an integer, or an expression."""
    if isinstance(size, int):
        return size
    tokens = re.findall(r"\d+|\w+|\*\*|[-+*(),]", size)
    value = _sum(tokens, sizes)
    assert not tokens
    return value


def _sum(tokens: list[str], sizes: Mapping[str, int]) -> int:
    value = _term(tokens, sizes)
    while tokens and tokens[0] in "+-":
        sign = 1 if tokens.pop(0) == "+" else -1
        value += sign * _term(tokens, sizes)
    return value


def _term(tokens: list[str], sizes: Mapping[str, int]) -> int:
    value = _factor(tokens, sizes)
    while tokens and tokens[0] == "*":
        tokens.pop(0)
        value *= _factor(tokens, sizes)
    return value


def _factor(tokens: list[str], sizes: Mapping[str, int]) -> int:
    if tokens[0] == "-":
        tokens.pop(0)
        return -_factor(tokens, sizes)
    value = _atom(tokens, sizes)
    if tokens and tokens[0] == "**":
        tokens.pop(0)
        value **= _factor(tokens, sizes)
    return value


def _atom(tokens: list[str], sizes: Mapping[str, int]) -> int:
    token = tokens.pop(0)
    if token.isdecimal():
        return int(token)
    if token not in FUNCTIONS and token != "(":
        return sizes[token]
    if token != "(":
        assert tokens.pop(0) == "("
    values = [_sum(tokens, sizes)]
    while tokens.pop(0) == ",":
        values.append(_sum(tokens, sizes))
    return values[0] if token == "(" else FUNCTIONS[token](*values)


def conv(x: np.ndarray, kernel: np.ndarray, fields: Fields) -> np.ndarray:
    x = np.pad(x, [(0, 0), *fields["padding"], (0, 0)])
    strides, dilations, groups = fields["strides"], fields["dilations"], fields["groups"]
    lengths = [
        (size - (k - 1) * dilation - 1) // stride + 1
        for size, k, stride, dilation in zip(
            x.shape[1:-1], kernel.shape, strides, dilations, strict=False
        )
    ]
    outputs = []
    for g in range(groups):
        share_in, share_out = x.shape[-1] // groups, kernel.shape[-1] // groups
        total = np.zeros((x.shape[0], *lengths, share_out), np.int64)
        for tap in itertools.product(*(range(k) for k in kernel.shape[:-2])):
            index = [slice(None)]
            for t, dilation, stride, n in zip(tap, dilations, strides, lengths, strict=True):
                index.append(slice(t * dilation, t * dilation + (n - 1) * stride + 1, stride))
            window = x[(*index, slice(g * share_in, (g + 1) * share_in))]
            total += window @ kernel[tap][:, g * share_out : (g + 1) * share_out]
        outputs.append(total)
    return np.concatenate(outputs, axis=-1)


def sum_of(values: list[np.ndarray], arrays: Mapping[str, np.ndarray], fields: Fields):
    total = arrays.get("bias", np.int64(0))
    for number, (value, sign) in enumerate(zip(values, fields["signs"], strict=True)):
        total = total + sign * (value << arrays.get(f"shift_{number}", np.int64(0)))
    return total


def divide(a: np.ndarray, b: np.ndarray, shift: int) -> np.ndarray:
    a = a << shift
    return np.where(b < 0, -a, a) // np.maximum(np.abs(b), 1)


def root(x: np.ndarray) -> np.ndarray:
    """floor(sqrt(x)) by bisection."""
    low, high = np.zeros_like(x), np.full_like(x, 1 << 27)
    for _ in range(28):
        middle = (low + high) // 2
        fits = middle * middle <= x
        low, high = np.where(fits, middle, low), np.where(fits, high, middle)
    return low


def pad(x: np.ndarray, fields: Fields) -> np.ndarray:
    before, after = fields.evaluated("before"), fields.evaluated("after")
    spread = [
        max((n - 1) * (gap + 1) + 1, 0) if n else 0
        for n, gap in zip(x.shape, fields["between"], strict=True)
    ]
    out = np.zeros([b + n + a for b, n, a in zip(before, spread, after, strict=True)], np.int64)
    where = [
        slice(b, b + n, gap + 1)
        for b, n, gap in zip(before, spread, fields["between"], strict=True)
    ]
    out[tuple(where)] = x
    return out


def broadcast(x: np.ndarray, fields: Fields) -> np.ndarray:
    shape = fields.evaluated("shape")
    placed = [1] * len(shape)
    for axis, size in zip(fields["axes"], x.shape, strict=True):
        placed[axis] = size
    return np.broadcast_to(x.reshape(placed), shape)


def iota(fields: Fields) -> np.ndarray:
    return np.indices(fields.evaluated("shape"))[fields["axis"]]


def part(x: np.ndarray, fields: Fields) -> np.ndarray:
    starts, stops = fields.evaluated("starts"), fields.evaluated("stops")
    return x[tuple(slice(*one) for one in zip(starts, stops, fields["strides"], strict=True))]


COMPARISONS = {
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
    "ne": np.not_equal,
}

# name: (values read, arrays, fields) -> value
OPERATIONS = {
    "rows": lambda v, a, f: a["table"][np.clip(v[0], 0, len(a["table"]) - 1)],
    "dense": lambda v, a, f: v[0] @ a["kernel"],
    "conv": lambda v, a, f: conv(v[0], a["kernel"], f),
    "product": lambda v, a, f: v[0] @ v[1],
    "multiply": lambda v, a, f: v[0] * v[1],
    "sum": sum_of,
    "round": lambda v, a, f: np.clip((v[0] + a["bias"]) >> a["shift"], -f["limit"], f["limit"]),
    "divide": lambda v, a, f: divide(v[0], v[1], f["shift"]),
    "root": lambda v, a, f: root(np.maximum(v[0], 0) << f["shift"]),
    "modulo": lambda v, a, f: v[0] - f["modulus"] * (v[0] // f["modulus"]),
    "lookup": lambda v, a, f: a["table"][v[0] + LIMIT],
    "leaky": lambda v, a, f: np.maximum(v[0], (v[0] * f["slope"] + 2**15) >> 16),
    "compare": lambda v, a, f: COMPARISONS[f["kind"]](v[0], v[1]),
    "extreme": lambda v, a, f: {"max": np.maximum, "min": np.minimum}[f["kind"]](v[0], v[1]),
    "select": lambda v, a, f: np.where(v[0] != 0, v[1], v[2]),
    "reduce": lambda v, a, f: {"max": np.max, "sum": np.sum}[f["kind"]](v[0], tuple(f["axes"])),
    "reshape": lambda v, a, f: v[0].reshape(f.evaluated("shape")),
    "transpose": lambda v, a, f: v[0].transpose(f["axes"]),
    "slice": lambda v, a, f: part(v[0], f),
    "pad": lambda v, a, f: pad(v[0], f),
    "concatenate": lambda v, a, f: np.concatenate(v, f["axis"]),
    "broadcast": lambda v, a, f: broadcast(v[0], f),
    "constant": lambda v, a, f: a["values"],
    "iota": lambda v, a, f: iota(f),
    "size": lambda v, a, f: size_of(f["size"], f.sizes),
}
