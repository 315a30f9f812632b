"""A network as a chain of stages, and how a piece of the chain acts on a window of its input.

The chain comes from the network's own parts (`models.blocks.Part`); nothing here knows E or G.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from glc_jax.models.blocks import Moments, Part, Step
from glc_jax.models.pixels import to_model_range


class Stage(NamedTuple):
    """One step of one part. Stages of equal modules are equal: their programs are shared."""

    module: nn.Module
    step: Step


class Point(NamedTuple):
    """The maps between two stages.

    Attributes:
      channels: of each map: x, or x and the branch beside it.
      scale: their height and width over those of the network's input, as (numerator, denominator).
      work: multiplications for each position of the network's input, from the point before.
    """

    channels: tuple[int, ...]
    scale: tuple[int, int]
    work: float


class Chain(NamedTuple):
    """A network in stages.

    Attributes:
      stages: in order.
      names: of each stage's part, among the parameters.
      points: one before each stage and one behind the last.
      norm_groups: of the GroupNorms.
    """

    stages: tuple[Stage, ...]
    names: tuple[str, ...]
    points: tuple[Point, ...]
    norm_groups: int

    @property
    def work(self) -> float:
        """Multiplications for each position of the input."""
        return sum(point.work for point in self.points)


def chain(parts: Sequence[Part], channels: int, norm_groups: int, params: Mapping) -> Chain:
    """The chain of a network's parts, whose input has `channels`; params: those of the network."""
    stages, names = [], []
    points = [Point((channels,), (1, 1), 0.0)]
    for part in parts:
        module = part.make(parent=None)
        kernels = sum(
            leaf.size for leaf in jax.tree.leaves(params[part.name]) if len(leaf.shape) > 1
        )
        for step in part.steps:
            before = points[-1]
            up, down = before.scale[0] * step.up, before.scale[1] * step.down
            scale = (up // math.gcd(up, down), down // math.gcd(up, down))
            given = module.features if step.features else before.channels[-1]
            beside = before.channels[:1] if step.maps > 1 else ()
            # A part's kernels are spread evenly over its steps with a halo; the doubled
            # convolution needs 16 products where its kernel has 36, and does 4 outputs.
            share = kernels / max(1, sum(bool(s.halo) for s in part.steps))
            work = (share if step.halo or len(part.steps) == 1 else 0.0) * up**2 / down**2
            points.append(
                Point(
                    (*beside, given),
                    scale,
                    work * (16 / 36 if step.up > 1 else 1),
                )
            )
            stages.append(Stage(module, step))
            names.append(part.name)
    return Chain(tuple(stages), tuple(names), tuple(points), norm_groups)


def _apply(
    stage: Stage,
    params: Mapping,
    maps: tuple[jax.Array, ...],
    moments: Moments | None,
    inside: jax.Array | None,
) -> tuple[jax.Array, ...]:
    """The maps that a stage gives."""
    step = stage.step
    more: dict[str, Any] = {}
    if step.norm:
        more["moments"] = moments
    if step.window:
        more["inside"] = inside
    method = None if step.method == "__call__" else step.method
    outputs = stage.module.apply({"params": params}, *maps, **more, method=method)
    return outputs if isinstance(outputs, tuple) else (outputs,)


def margin(stages: Sequence[Stage]) -> int:
    """How many positions around a tile of the input a window must have, for its result to be right.

    The result's outermost positions are spoiled by what the window does not show; the margin is
    what has to be cut off, in positions of the input. It is a multiple of `alignment`.
    """
    spoiled, up, down = 0, 1, 1
    for stage in stages:
        step = stage.step
        up, down = up * step.up, down * step.down
        if step.window and spoiled:
            spoiled = -(-spoiled // step.window) * step.window
        if step.down > 1:
            spoiled = -(-(spoiled + 1) // step.down)
        elif step.up > 1:
            spoiled = step.up * spoiled + step.halo
        else:
            spoiled += step.halo
    unit = alignment(stages)
    return -(-spoiled * down // (up * unit)) * unit


def alignment(stages: Sequence[Stage]) -> int:
    """Tiles begin and end at multiples of this, in positions of the input."""
    up, down, unit = 1, 1, 1
    for stage in stages:
        step = stage.step
        if step.window:
            unit = math.lcm(unit, -(-step.window * down // up))
        up, down = up * step.up, down * step.down
        unit = math.lcm(unit, -(-down // up))
    return unit


class Sums(NamedTuple):
    """Of the part of a tile that lies in the picture: mean [C] and summed squares about it [C]."""

    mean: jax.Array
    squares: jax.Array


class Piece(NamedTuple):
    """A piece of a chain, and what is wanted of it.

    Attributes:
      stages: the piece.
      measure: whether `Sums` of the last map are wanted.
      keep: whether the last map itself is.
      finish: a function that the last map still passes, or None.
    """

    stages: tuple[Stage, ...]
    measure: bool
    keep: bool
    finish: Callable[[jax.Array], jax.Array] | None


def run_window(
    piece: Piece,
    params: tuple[Mapping, ...],
    moments: tuple[Moments | None, ...],
    windows: tuple[jax.Array, ...],
    place: jax.Array,
) -> tuple[jax.Array | None, Sums | None]:
    """A piece of a chain over one window.

    Args:
      piece: what is computed.
      params: of each stage's module.
      moments: of the whole map, for each stage that normalises.
      windows: the maps before the first stage, each [1, h, w, C], with zeros beyond the picture;
        uint8 pixels are brought to [-1, 1].
      place: int32 [4]: row and column of the window in the whole map, the map's height and width.

    Returns:
      The last map behind the last stage, the margin cut off, and the sums; None what is not wanted.
    """
    stages, measure, keep, finish = piece
    border = margin(stages)
    maps = tuple(to_model_range(w) if w.dtype == jnp.uint8 else w for w in windows)
    height, width = maps[0].shape[1:3]

    def inside(up: int, down: int) -> jax.Array:
        """Which positions lie in the picture: bool [1, h, w, 1], at a scale of the input's."""
        first, last = place[:2] * up // down, place[2:] * up // down
        rows = jnp.arange(height * up // down) + first[0]
        columns = jnp.arange(width * up // down) + first[1]
        rows, columns = ((i >= 0) & (i < end) for i, end in zip((rows, columns), last, strict=True))
        return (rows[:, None] & columns[None])[None, :, :, None]

    up, down = 1, 1
    maps = (*maps[:-1], jnp.where(inside(1, 1), maps[-1], 0))
    for i, (stage, variables, known) in enumerate(zip(stages, params, moments, strict=True)):
        step = stage.step
        if i and (step.halo or step.down > 1):
            maps = (*maps[:-1], jnp.where(inside(up, down), maps[-1], 0))
        seen = inside(up, down)[..., 0] if step.window else None
        maps = _apply(stage, variables, maps, known, seen)
        up, down = up * step.up, down * step.down

    cut = border * up // down

    def crop(array: jax.Array) -> jax.Array:
        return array[:, cut : array.shape[1] - cut, cut : array.shape[2] - cut]

    last, sums = crop(maps[-1]), None
    if measure:
        counted = crop(inside(up, down))
        values = last.astype(jnp.float32)
        mean = jnp.where(counted, values, 0).sum((0, 1, 2)) / jnp.maximum(counted.sum(), 1)
        squares = jnp.where(counted, (values - mean) ** 2, 0).sum((0, 1, 2))
        sums = Sums(mean, squares)
    if finish is not None:
        last = finish(last)
    return last if keep else None, sums
