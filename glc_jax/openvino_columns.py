"""Maps kept as their even and odd columns: 3x3 convolutions with two thirds of the products.

Three taps along a row take six products for two neighbouring outputs; Winograd's F(2, 3) (Lavin and
Gray, "Fast algorithms for convolutional neural networks", 2016, arXiv 1509.09308) takes four, of
sums and differences of columns. With even and odd columns apart those are sums of whole maps, and
what stands between convolutions (norms, activations, sums, 1x1 convolutions) acts on either half as
on a map. So a level of a network is kept in halves from where it begins until something needs its
columns in another way.

It is the same sum in another order: in float32 the error is of the order of a convolution's own. In
bfloat16 it would not be, and the passes over the maps would cost as much as they save.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

LEAST_CHANNELS = 128
"""From so many on the products saved are worth more than the passes over the maps."""

LEAST_COLUMNS = 64


class Columns(NamedTuple):
    """A map [B, H, W, C] in two nodes [B, C, H, W / 2]: columns 0, 2, ... and 1, 3, ..."""

    even: Any
    odd: Any


def worth(width: int, channels: int) -> bool:
    """Whether a level of this size is to be kept in columns."""
    return channels >= LEAST_CHANNELS and width >= LEAST_COLUMNS and width % 2 == 0


def apart(op: Any, node: Any) -> Columns:
    """A node [B, C, H, W] as its columns."""
    width = node.get_output_shape(0)[3]
    return Columns(*(op.slice(node, *_along(3, i, width, 2)) for i in (0, 1)))


def together(op: Any, x: Columns) -> Any:
    """The node [B, H, W, C] of columns."""
    batch, channels, height, half = x.even.get_output_shape(0)
    # Channels lie last in memory, so that this puts each odd column's behind the even one's.
    both = op.transpose(op.concat(list(x), 1), np.array([0, 2, 3, 1], np.int64))
    return op.reshape(both, np.array([batch, height, 2 * half, channels], np.int64), False)


def conv3x3(op: Any, x: Columns, kernel: Any) -> Columns:
    """A convolution of stride 1, zero-padded by one; kernel: a node [out, C, 3, 3].

    With columns a, b, c, d, of which b and c are those of two outputs, and the kernel's columns
    k0, k1, k2:

        p = (a - c) k0                    y_b = p + q + r
        q = (b + c) (k0 + k1 + k2) / 2    y_c = q - r - s
        r = (c - b) (k0 - k1 + k2) / 2
        s = (b - d) k2
    """
    k0, k1, k2 = _columns(op, kernel)
    half = np.float32(0.5)
    outer, inner = op.multiply(op.add(k0, k2), half), op.multiply(k1, half)

    def convolved(map_: Any, taps: Any) -> Any:
        return op.convolution(map_, taps, [1, 1], [1, 0], [1, 0], [1, 1])

    p = convolved(_difference(op, x.odd, 1, 0), k0)
    q = convolved(op.add(x.even, x.odd), op.add(outer, inner))
    r = convolved(op.subtract(x.odd, x.even), op.subtract(outer, inner))
    s = convolved(_difference(op, x.even, 0, 1), k2)
    return Columns(op.add(p, op.add(q, r)), op.subtract(op.subtract(q, r), s))


def few3x3(op: Any, x: Columns, kernel: Any) -> Columns:
    """`conv3x3` by the plain sum: for few outputs, whose products cost less than passes do."""
    k0, k1, k2 = _columns(op, kernel)
    outer = op.concat([k0, k2], 3)

    def convolved(map_: Any, taps: Any, left: int, right: int) -> Any:
        return op.convolution(map_, taps, [1, 1], [1, left], [1, right], [1, 1])

    even = op.add(convolved(x.odd, outer, 1, 0), convolved(x.even, k1, 0, 0))
    odd = op.add(convolved(x.even, outer, 0, 1), convolved(x.odd, k1, 0, 0))
    return Columns(even, odd)


def begin3x3(op: Any, node: Any, kernel: Any) -> Columns:
    """A convolution of stride 1, zero-padded by one, of a node [B, C, H, W]."""

    def convolved(left: int, right: int) -> Any:
        return op.convolution(node, kernel, [1, 2], [1, left], [1, right], [1, 1])

    return Columns(convolved(1, 0), convolved(0, 1))


def halved3x3(op: Any, x: Columns, kernel: Any) -> Any:
    """A convolution of stride 2, zero-padded by a row below and a column right: [B, out, H/2, W/2].

    Output i reads columns 2i, 2i + 1 and 2i + 2.
    """
    k0, k1, k2 = _columns(op, kernel)
    even = op.convolution(x.even, op.concat([k0, k2], 3), [2, 1], [0, 0], [1, 1], [1, 1])
    return op.add(even, op.convolution(x.odd, k1, [2, 1], [0, 0], [1, 0], [1, 1]))


def doubled3x3(op: Any, node: Any, rows: Any, phases: np.ndarray) -> Columns:
    """Doubled by the nearest neighbour, then convolved: a node [B, C, H, W] -> columns of 2H, 2W.

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

    return Columns(phase(0), phase(1))


def _columns(op: Any, kernel: Any) -> list[Any]:
    return [op.slice(kernel, *_along(3, i, i + 1, 1)) for i in (0, 1, 2)]


def _along(axis: int, start: int, stop: int, step: int) -> Sequence[np.ndarray]:
    return [np.array([value], np.int64) for value in (start, stop, step, axis)]


def _difference(op: Any, x: Any, left: int, right: int) -> Any:
    """Each column less the next; there are so many columns of zeros beside the map."""
    channels = x.get_output_shape(0)[1]
    taps = np.ascontiguousarray(np.broadcast_to(np.float32([1, -1]), (channels, 1, 1, 1, 2)))
    return op.group_convolution(x, op.constant(taps), [1, 1], [0, left], [0, right], [1, 1])
