"""Runs a chain of stages over a picture by tiles, as a `Plan` says."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from glc_jax.engines import Engine, OnXLA
from glc_jax.models.blocks import Moments
from glc_jax.tiles.maps import Memory, Readable, Strips
from glc_jax.tiles.plan import Plan, tile_shape
from glc_jax.tiles.stages import Chain, Piece, margin, run_window

IN_FLIGHT = 2
"""Tiles that are computed while others are read and written."""


class Writable(Protocol):
    """What a pass writes."""

    def write(self, row: int, column: int, tile: np.ndarray) -> None:
        """A tile [h, w, C] whose first row and column these are; what lies outside is dropped."""


def run(
    chain: Chain,
    plan: Plan,
    params: Mapping[str, Any],
    source: Readable,
    target: Writable,
    memory: Memory,
    finish: Callable[[jax.Array], jax.Array] | None = None,
    engine: Engine | None = None,
) -> None:
    """Runs a network.

    Args:
      chain: the network.
      plan: for a picture of the source's size.
      params: the network's parameters.
      source: its input.
      memory: for the maps between.
      target: where its output goes, each tile having passed `finish`.
      finish: a function of each position by itself, compiled with the last stages.
      engine: what runs it; None: XLA.
    """
    sweep = _Sweep(chain, [params[name] for name in chain.names], engine or OnXLA())
    maps: list[Readable] = [source]
    known: Moments | None = None  # of the last map, where the next stage normalises it
    for first, last in itertools.pairwise(plan.cuts):
        moments = [known] + [None] * (last - first - 1)
        for i in range(first + 1, last):
            if chain.stages[i].step.norm:
                moments[i - first] = sweep(first, i, maps, moments[: i - first], measure=True)
        final = last == len(chain.stages)
        point, before = chain.points[last], chain.points[first]
        opens = len(point.channels) > len(before.channels)
        if final:
            output: Any = target
        else:
            up, down = point.scale[0] * before.scale[1], point.scale[1] * before.scale[0]
            size = maps[0].height * up // down, maps[0].width * up // down
            output = Strips(*size, point.channels[-1], memory)
        known = sweep(
            first,
            last,
            maps,
            moments,
            measure=not final and chain.stages[last].step.norm,
            output=output,
            release=not opens,
            finish=finish if final else None,
        )
        if not opens:
            for each in maps:
                each.release_above(each.height)
        maps = [*maps, output] if opens else [output]


class _Sweep:
    """One pass over all tiles of the maps before a piece of the chain."""

    def __init__(self, chain: Chain, params: Sequence[Mapping], engine: Engine) -> None:
        self.chain, self.params, self.engine = chain, params, engine

    def __call__(
        self,
        first: int,
        last: int,
        maps: Sequence[Readable],
        moments: Sequence[Moments | None],
        *,
        measure: bool = False,
        output: Writable | None = None,
        release: bool = False,
        finish: Callable[[jax.Array], jax.Array] | None = None,
    ) -> Moments | None:
        """Writes what stages first .. last make of the maps, and gives its moments if asked."""
        stages = self.chain.stages[first:last]
        piece = Piece(stages, measure, output is not None, finish)
        before, after = self.chain.points[first].scale, self.chain.points[last].scale
        up, down = after[0] * before[1], after[1] * before[0]
        height, width = maps[0].height, maps[0].width
        rows, columns = tile_shape(self.chain, first, last, height, width)
        border = margin(stages)
        params = tuple(self.params[first:last])
        merged = _Merged()

        def collect(row: int, column: int, result: tuple) -> None:
            tile, sums = result
            if measure:
                seen = min(rows, height - row) * min(columns, width - column)
                merged.add(seen * up**2 // down**2, *map(np.asarray, sums))
            if output is not None:
                output.write(row * up // down, column * up // down, np.asarray(tile)[0])

        waiting: deque[tuple] = deque()
        for row in range(0, height, rows):
            if release:
                for each in maps:
                    each.release_above(row - border)
            for column in range(0, width, columns):
                corner = row - border, column - border
                windows = tuple(
                    each.window(*corner, rows + 2 * border, columns + 2 * border) for each in maps
                )
                place = np.array([*corner, height, width], np.int32)
                result = self.engine.run(run_window, piece, params, tuple(moments), windows, place)
                waiting.append((row, column, result))
                if len(waiting) > IN_FLIGHT:
                    collect(*waiting.popleft())
        while waiting:
            collect(*waiting.popleft())
        self.engine.rest()
        return merged.moments(self.chain.norm_groups) if measure else None


class _Merged:
    """Moments of a whole map from those of its tiles (Chan, Golub and LeVeque 1979)."""

    def __init__(self) -> None:
        self._parts: list[tuple[int, Any, Any]] = []

    def add(self, count: int, mean: Any, squares: Any) -> None:
        self._parts.append((count, mean, squares))

    def moments(self, groups: int) -> Moments:
        counts = np.array([count for count, _, _ in self._parts], np.float64)[:, None, None]
        means, squares = (
            np.stack([np.asarray(part[i], np.float64).reshape(groups, -1) for part in self._parts])
            for i in (1, 2)
        )
        channels = means.shape[-1]
        total = counts.sum() * channels
        mean = (counts * means).sum((0, 2)) / total
        about = squares + counts * (means - mean[:, None]) ** 2
        variance = about.sum((0, 2)) / total
        return Moments(*(jnp.asarray(m[None], jnp.float32) for m in (mean, variance)))
