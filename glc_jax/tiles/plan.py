"""Which maps of a network are kept whole, which are computed again, and how large tiles are.

Every map that is kept costs memory; every one that is not is computed again for each GroupNorm
behind it, whose moments need all of it. The fewest operations come from keeping what every
convolution gives; from there on the largest maps are given up one after another.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import NamedTuple

from glc_jax.tiles.maps import FLOAT_BYTES, SPARE_BYTES, STRIP_ROWS
from glc_jax.tiles.stages import Chain, Point, alignment, margin

TILE_VALUES = 2**21
"""The most values in any map of a tile, about."""

SMALLEST_TILE = 16

TILES_HELD = 12
"""Maps of a tile that are in memory at once, those of the tiles in flight together."""


class Plan(NamedTuple):
    """How a network runs over pictures of one size.

    Attributes:
      cuts: the points whose maps are kept whole, from 0 to the last.
      bytes: what maps and tiles take at most, without the picture itself.
      work: multiplications, over the fewest possible.
    """

    cuts: tuple[int, ...]
    bytes: int
    work: float


def plans(chain: Chain, height: int, width: int) -> list[Plan]:
    """Plans for an input of this size, each with less memory and more work than the one before."""

    @functools.cache
    def cost(first: int, last: int) -> tuple[int, float]:
        return _bytes(chain, first, last, height, width), _work(chain, first, last)

    def plan() -> Plan:
        costs = [cost(first, last) for first, last in itertools.pairwise(cuts)]
        size, work = max(size for size, _ in costs), sum(work for _, work in costs)
        return Plan(tuple(cuts), size, work / (found[0].work if found else 1))

    cuts = _all_cuts(chain)
    found: list[Plan] = []
    found.append(plan())
    while len(cuts) > 2:
        # The largest map goes; of a block's inside and its end, the inside first.
        cuts.remove(max(cuts[1:-1], key=lambda cut: (_size(chain.points[cut]), cut)))
        fused = plan()
        if fused.bytes < found[-1].bytes:
            found.append(fused)
    return [found[0]._replace(work=1.0), *found[1:]]


def tile_shape(chain: Chain, first: int, last: int, height: int, width: int) -> tuple[int, int]:
    """Height and width of the tiles in which stages first .. last read maps of this size.

    They come from a handful of sizes, so that many sizes of picture share a few programs.
    """
    stages = chain.stages[first:last]
    largest = max(_size(point) for point in chain.points[first : last + 1])
    side = math.sqrt(TILE_VALUES / (largest / _area(chain.points[first])))
    unit = alignment(stages)
    largest_side = max(2 ** int(math.log2(side)), unit, SMALLEST_TILE)
    border = margin(stages)

    def choose(length: int) -> int:
        """The side that computes the least, and of those within a few per cent the largest."""
        sides, side = [], largest_side
        while side >= max(unit, SMALLEST_TILE) and side % unit == 0:
            sides.append(side)
            side //= 2
        costs = [-(-length // side) * (side + 2 * border) for side in sides]
        return next(s for s, cost in zip(sides, costs, strict=True) if cost <= 1.05 * min(costs))

    return choose(height), choose(width)


def _all_cuts(chain: Chain) -> list[int]:
    """Every point worth keeping: none beside what works on each position alone."""
    steps = [stage.step for stage in chain.stages]

    def alone(i: int) -> bool:
        step = steps[i]
        return not step.halo and not step.window and step.down == step.up == 1

    inner = [
        i for i in range(1, len(steps)) if not alone(i - 1) and not (alone(i) and not steps[i].norm)
    ]
    return [0, *inner, len(steps)]


def _side(point: Point) -> float:
    """Height or width over that of the input."""
    return point.scale[0] / point.scale[1]


def _area(point: Point) -> float:
    """Positions for each of the input's."""
    return _side(point) ** 2


def _size(point: Point) -> float:
    """Values for each position of the input."""
    return _area(point) * sum(point.channels)


def _work(chain: Chain, first: int, last: int) -> float:
    """Multiplications in stages first .. last, for each position of the input."""
    total = done = 0.0
    for i in range(first, last):
        if i > first and chain.stages[i].step.norm:
            total += done  # up to here, for the moments alone
        done += chain.points[i + 1].work
    return total + done


def _bytes(chain: Chain, first: int, last: int, height: int, width: int) -> int:
    """What stages first .. last hold: the larger of what they read and write, and rows in work."""
    before, after = chain.points[first], chain.points[last]

    def kept(at: int) -> float:
        """Pixels going in are the caller's; what comes out of the end is the result."""
        inner = 0 < at < len(chain.stages)
        return _size(chain.points[at]) * height * width if inner else 0.0

    scale, grown = before.scale[0] / before.scale[1], _side(after) / _side(before)
    rows, columns = tile_shape(chain, first, last, round(height * scale), round(width * scale))
    border = margin(chain.stages[first:last])
    # A map is let go of by rows while the other grows, so the smaller one costs some rows only.
    read = (rows + 2 * border + STRIP_ROWS) * width * scale * sum(before.channels)
    written = (rows * grown + STRIP_ROWS) * width * scale * grown * sum(after.channels)
    maps = max(kept(first), kept(last))
    if min(kept(first), kept(last)):
        maps += min(read, written)
    window = (rows + 2 * border) * (columns + 2 * border) / scale**2
    tiles = TILES_HELD * window * max(_size(point) for point in chain.points[first : last + 1])
    return round(FLOAT_BYTES * (maps + tiles)) + SPARE_BYTES
