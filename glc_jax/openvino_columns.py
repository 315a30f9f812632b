"""Maps kept as their columns in turns: 3x3 convolutions with two thirds or half of the products.

Three taps along a row take 3n products for n neighbouring outputs; Winograd's F(n, 3) (Lavin and
Gray, "Fast algorithms for convolutional neural networks", 2016, arXiv 1509.09308) takes n + 2, of
sums and differences of columns. With every n-th column in a map of its own those are sums of whole
maps, and what stands between convolutions (norms, activations, sums, 1x1 convolutions) acts on each
of them as on a map. So a level of a network is kept in columns from where it begins until something
needs them in another way.

It is the same sum in another order, in float32 with an error of the order of a convolution's own.
In bfloat16 the error of a convolution grows by half with two maps, and doubles with four.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

LEAST_CHANNELS = 128
"""From so many on the products saved are worth more than the passes over the maps."""

LEAST_COLUMNS = 32

SQUARES = {2: (1.0,), 4: (0.5, 2.0)}
"""Of the points at which polynomials are evaluated, beside 0 and infinity, for so many maps.

F(4, 3) is usually given with 1 and 4; with these, whose product is 1, its error is two thirds.
"""


class Columns(NamedTuple):
    """A map [B, H, W, C] in n nodes [B, C, H, W / n]: node i has columns i, i + n, ..."""

    maps: tuple[Any, ...]


def count(width: int, channels: int, most: int) -> int:
    """In how many maps a level of this size is to be kept; 1 is the whole map."""
    if channels < LEAST_CHANNELS or width < LEAST_COLUMNS:
        return 1
    return next(n for n in (most, 2, 1) if n <= most and width % n == 0)


def apart(op: Any, x: Columns | Any, number: int) -> Columns:
    """A node [B, C, H, W], or columns in fewer maps, in so many maps."""
    maps = x.maps if isinstance(x, Columns) else (x,)
    width, each = maps[0].get_output_shape(0)[3], number // len(maps)
    if each == 1:
        return Columns(maps)
    return Columns(
        tuple(op.slice(one, *_along(3, i, width, each)) for i in range(each) for one in maps)
    )


def together(op: Any, x: Columns) -> Any:
    """The node [B, H, W, C] of columns."""
    batch, channels, height, width = x.maps[0].get_output_shape(0)
    # Channels lie last in memory, so that this puts each column's behind those of the one before.
    every = op.transpose(op.concat(list(x.maps), 1), np.array([0, 2, 3, 1], np.int64))
    size = np.array([batch, height, len(x.maps) * width, channels], np.int64)
    return op.reshape(every, size, False)


def conv3x3(op: Any, x: Columns, kernel: Any) -> Columns:
    """A convolution of stride 1, zero-padded by one; kernel: a node [out, C, 3, 3].

    The n outputs y_0 ... y_(n-1) of n + 2 columns d_0 ... d_(n+1), with the kernel's columns k_0,
    k_1, k_2 and the points 0, infinity and +-p:

        f(s) = prod (s - p^2) = sum f_j s^j                g_p(s) = f(s) / (s - p^2)
        m_0 = (sum f_j d_2j) k_0 / f_0                     m_inf = (sum f_j d_(2j+1)) k_2
        m_p = (sum g_pj d_(2j+2) + p sum g_pj d_(2j+1)) (k_0 + p k_1 + p^2 k_2) / (2 p^2 g_p(p^2))
        y_i = sum p^i m_p  (+ m_0 where i = 0, + m_inf where i = n - 1)
    """
    maps, squares = x.maps, SQUARES[len(x.maps)]
    k0, k1, k2 = _columns(op, kernel)
    f = np.poly(squares)[::-1]

    def convolved(map_: Any, taps: Any) -> Any:
        return op.convolution(map_, taps, [1, 1], [1, 0], [1, 0], [1, 1])

    # d_0 is left of the last map's columns, d_(n+1) right of the first's.
    left = _scaled_sum(op, f[1:-1], maps[1:-1:2], _neighbours(op, maps[-1], f, 1, 0))
    right = _scaled_sum(op, f[1:-1], maps[2::2], _neighbours(op, maps[0], f, 0, 1))
    first, last = convolved(left, _scaled(op, k0, 1 / f[0])), convolved(right, k2)
    sums, differences = [], []
    for square in squares:
        others = [one for one in squares if one != square]
        g, point = np.atleast_1d(np.poly(others))[::-1], math.sqrt(square)
        weight = 1 / (2 * square * np.prod([square - one for one in others]))
        even = _scaled_sum(op, g, maps[1::2])
        odd = _scaled(op, _scaled_sum(op, g, maps[0::2]), point)
        outer = _scaled_sum(op, (weight, weight * square), (k0, k2))
        inner = _scaled(op, k1, weight * point)
        plus = convolved(op.add(even, odd), op.add(outer, inner))
        minus = convolved(op.subtract(even, odd), op.subtract(outer, inner))
        sums.append(op.add(plus, minus))
        differences.append(op.subtract(plus, minus))
    found = []
    for i in range(len(maps)):
        powers = [math.sqrt(square) ** i for square in squares]
        ends = [first] * (i == 0) + [last] * (i == len(maps) - 1)
        found.append(_scaled_sum(op, powers, differences if i % 2 else sums, *ends))
    return Columns(tuple(found))


def few3x3(op: Any, x: Columns, kernel: Any) -> Columns:
    """`conv3x3` by the plain sum: for few outputs, whose products cost less than passes do."""
    return Columns(tuple(_taps(op, x, kernel, i - 1, (1, 1)) for i in range(len(x.maps))))


def halved3x3(op: Any, x: Columns, kernel: Any) -> Columns:
    """A convolution of stride 2, zero-padded by a row below and a column right, in half the maps.

    Output i reads columns 2i, 2i + 1 and 2i + 2.
    """
    found = (_taps(op, x, kernel, i, (2, 0)) for i in range(0, len(x.maps), 2))
    return Columns(tuple(found))


def begin3x3(op: Any, node: Any, kernel: Any, number: int) -> Columns:
    """A convolution of stride 1, zero-padded by one, of a node [B, C, H, W], in so many maps."""
    none = op.multiply(_columns(op, kernel)[0], np.float32(0))

    def convolved(i: int) -> Any:
        # Padding is not negative: from the third map on, columns are passed over by zeros.
        taps = op.concat([none] * max(0, i - 1) + [kernel], 3)
        begin, end = [1, int(i == 0)], [1, int(i == number - 1)]
        return op.convolution(node, taps, [1, number], begin, end, [1, 1])

    return Columns(tuple(convolved(i) for i in range(number)))


def doubled3x3(op: Any, node: Any, rows: Any, phases: np.ndarray) -> Columns:
    """Doubled by the nearest neighbour, then convolved: a node [B, C, H, W] -> two maps of 2H, 2W.

    rows: the kernel [C, out, 4, 3] of a transposed convolution that doubles rows. phases: which of
    the kernel's columns add up to a tap of an even and of an odd column, [phase, tap, column]: an
    even one reads the column to the left and its own, an odd one its own and that to the right.
    """

    def phase(i: int) -> Any:
        # A transposed convolution spreads each column from its first tap on, so taps are reversed.
        taps = op.matmul(rows, op.constant(phases[i, ::-1].copy()), False, True)
        begin, end = ((1, 0), (1, 1)) if i == 0 else ((1, 1), (1, 0))
        return op.convolution_backprop_data(
            node, taps, [2, 1], pads_begin=list(begin), pads_end=list(end)
        )

    return Columns((phase(0), phase(1)))


def _taps(op: Any, x: Columns, kernel: Any, first: int, rows: tuple[int, int]) -> Any:
    """The outputs that read columns first, first + 1 and first + 2, and those n, 2n, ... further.

    rows: the stride along them and the rows of zeros above; there is one below.
    """
    number, (stride, above) = len(x.maps), rows
    columns = _columns(op, kernel)
    none = op.multiply(columns[0], np.float32(0))
    of_map: dict[int, dict[int, Any]] = {}
    for i, column in enumerate(columns, first):
        of_map.setdefault(i % number, {})[i // number] = column
    parts = []
    for i, taps in of_map.items():
        low, high = min(0, *taps), max(0, *taps)
        row = op.concat([taps.get(j, none) for j in range(low, high + 1)], 3)
        pads = [above, -low], [1, high]
        parts.append(op.convolution(x.maps[i], row, [stride, 1], *pads, [1, 1]))
    return functools.reduce(op.add, parts)


def _columns(op: Any, kernel: Any) -> list[Any]:
    return [op.slice(kernel, *_along(3, i, i + 1, 1)) for i in (0, 1, 2)]


def _along(axis: int, start: int, stop: int, step: int) -> Sequence[np.ndarray]:
    return [np.array([value], np.int64) for value in (start, stop, step, axis)]


def _scaled(op: Any, node: Any, factor: float) -> Any:
    return node if factor == 1 else op.multiply(node, np.float32(factor))


def _scaled_sum(op: Any, factors: Sequence[float], nodes: Sequence[Any], *others: Any) -> Any:
    """The sum of nodes times factors, and of others."""
    scaled = [_scaled(op, node, each) for node, each in zip(nodes, factors, strict=True)]
    return functools.reduce(op.add, [*others, *scaled])


def _neighbours(op: Any, x: Any, taps: Sequence[float], left: int, right: int) -> Any:
    """Each column times the first tap and the next times the last; zeros lie beside the map."""
    channels = x.get_output_shape(0)[1]
    ends = np.array([taps[0], taps[-1]], np.float32)
    row = np.ascontiguousarray(np.broadcast_to(ends, (channels, 1, 1, 1, 2)))
    return op.group_convolution(x, op.constant(row), [1, 1], [0, left], [0, right], [1, 1])
