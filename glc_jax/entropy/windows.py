"""Runs a program over a picture in windows: the same integers, in little memory, whatever its size.

A window is run as a picture of its own, with zeros wherever the whole one has zeros beyond its
edges (`locality` says where, and how much of a window's result is that of the whole). A plan has
one shape of window, from a handful, so that many sizes of picture share what is compiled. What
looks at a whole picture, such as a mean over it, is run at once, or in bands of full width.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from glc_jax.entropy import later
from glc_jax.entropy import program as programs
from glc_jax.entropy import sizes as sizes_of
from glc_jax.entropy.integer import Arithmetic, Array, wide_enough
from glc_jax.entropy.locality import Extent, NotLocal, extents, padded
from glc_jax.entropy.operations import Kind, require
from glc_jax.entropy.program import Program
from glc_jax.errors import WeightsError

jax = later.module("jax")
xla_programs = later.module("glc_jax.xla_programs")

SIDES = ("h", "w")
"""The names of a picture's sides among a program's sizes."""

WINDOW_BYTES = 3 * 2**27
"""What the values of one window may take, about."""

NUMBER_BYTES = 8
"""An integer as an arithmetic carries it."""

SCRATCH = 1.6
"""What XLA takes for a window over the values that live together, operation after operation."""

_TRIAL = 16


class Side(NamedTuple):
    """How a side is cut. start of window i: i * tile - before; its length: before + tile + after.

    length: of the picture's side. tile: what one window gives of it. before, after: what it sees
    beyond that.
    """

    length: int
    tile: int
    before: int = 0
    after: int = 0

    @property
    def window(self) -> int:
        """The length of a window."""
        return self.before + self.tile + self.after

    @property
    def count(self) -> int:
        """How many windows there are."""
        return -(-self.length // self.tile)


class Edge(NamedTuple):
    """Which positions of a value's axis lie in the picture: 0 .. scale * length + more - 1."""

    side: int
    axis: int
    scale: Fraction
    more: int


class Layout(NamedTuple):
    """What a compiled program knows of windows: all but where they lie.

    padded: by operation, the edges beyond which what it reads is 0. counted: by operation the edge
    along which it counts positions. cuts: by output, along which axes it loses how many positions
    at either end.
    """

    padded: tuple[tuple[int, tuple[Edge, ...]], ...] = ()
    counted: tuple[tuple[int, Edge], ...] = ()
    cuts: tuple[tuple[str, tuple[tuple[int, int, int], ...]], ...] = ()


class Plan(NamedTuple):
    """How a program runs over pictures of one size.

    Attributes:
      sides: how the sides in `SIDES` are cut; none: everything at once.
      layout: for the compiled program.
      sizes: of the window, by name.
      inputs, outputs: along which axis each lies by side, and at which scale. outputs: by name.
      kinds: of the whole picture's outputs, by name.
      bytes: what the values of one window take at most.
    """

    sides: tuple[Side, ...]
    layout: Layout
    sizes: tuple[tuple[str, int], ...]
    inputs: tuple[tuple[Extent | None, ...], ...]
    outputs: dict[str, tuple[Extent | None, ...]]
    kinds: dict[str, Kind]
    bytes: int

    def corners(self) -> Iterator[tuple[int, ...]]:
        """Where the windows' tiles begin, by side."""
        return itertools.product(
            *(range(0, side.count * side.tile, side.tile) for side in self.sides)
        )

    def like(self, names: Sequence[str]) -> str | None:
        """The output in whose place lies what is computed of these, element by element.

        Raises WeightsError where they do not lie alike; None where there are none.
        """
        if not names:
            return None
        most = max(names, key=lambda name: self.kinds[name].size)
        for name in names:
            places = zip(self._places(name), self._places(most), strict=True)
            alike = all(own is None or own == other for own, other in places)
            require(alike, "parameters that do not lie alike")
        return most

    def _places(self, name: str) -> list[tuple[int, Fraction] | None]:
        """By side the axis, counted from the last, and the scale."""
        rank = len(self.kinds[name].shape)
        return [e and (e.axis - rank, e.scale) for e in self.outputs[name]]


class Form(NamedTuple):
    """The shape and dtype of an array."""

    shape: tuple[int, ...]
    dtype: np.dtype


@dataclass(frozen=True)
class Pick:
    """Something computed of outputs, element by element, and compiled with the program.

    function: (numpy or jax.numpy, exponents, **outputs) -> an array. by: the outputs that it
    takes. exponents: of these, as numbers or tuples of them. Equal where all three are.
    """

    function: Callable[..., Array]
    by: tuple[str, ...]
    exponents: tuple[tuple[str, tuple[int, ...]], ...]

    def __call__(self, xp: ModuleType, outputs: Mapping[str, Array]) -> Array:
        """Of outputs by name."""
        known = {n: one[0] if len(one) == 1 else np.asarray(one) for n, one in self.exponents}
        return self.function(xp, known, **{name: outputs[name] for name in self.by})


def plan(
    program: Program, shapes: Sequence[tuple[int, ...]], few_shapes: bool, at_most: int
) -> Plan:
    """The plan for inputs of these shapes.

    Args:
      program: is checked.
      shapes: of its inputs.
      few_shapes: make windows of one of a few shapes, though they cover a little more.
      at_most: bytes that the values of a window may take, where the program can be cut so far.

    Raises WeightsError as `Program.check` does.
    """
    return _Planner(program, shapes, few_shapes, at_most).plan()


def adopted(found: Plan | None, program: Program, shapes: Sequence[tuple[int, ...]]) -> Plan | None:
    """The plan of a program that differs in the values of its arrays alone; None where it has none.

    Raises WeightsError as `Program.check` does.
    """
    if found is None:
        return None
    kinds = program.kinds(shapes)
    sizes = dict(found.sizes)
    if sizes != program.sizes(shapes):
        try:
            program.kinds([sizes_of.shape(e["shape"], sizes) for e in program.structure.inputs])
        except WeightsError:  # only a window is more than it may do
            return None
    return found._replace(
        kinds={name: kinds[o["value"]] for name, o in program.structure.outputs.items()}
    )


def run(
    program: Program,
    plan: Plan,
    arithmetic: Arithmetic,
    inputs: Sequence[np.ndarray],
    keep: Sequence[str],
    pick: Pick | None = None,
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """Outputs in the narrowest integers that hold them, and what is picked by them.

    Args:
      program: to run.
      plan: for these inputs.
      arithmetic: what carries the integers.
      inputs: integers of the planned shapes.
      keep: names of the outputs.
      pick: what is computed of the outputs as well, or None.
    """
    fixed, like = _fixed(program, plan, arithmetic, keep, pick)
    call = _run_window if arithmetic.xp is np else _compiled()
    results: dict[str | None, np.ndarray] = {}
    with wide_enough(arithmetic):
        prepared = program.prepared(arithmetic)
        for corners in plan.corners():
            starts = [c - side.before for c, side in zip(corners, plan.sides, strict=True)]
            seen = [
                _window(x, where, starts, plan.sides)
                for x, where in zip(inputs, plan.inputs, strict=True)
            ]
            lengths = [side.length for side in plan.sides]
            found, picked = call(*fixed, prepared, seen, np.array([starts, lengths], np.int32))
            parts = {**found, **({} if picked is None else {None: picked})}
            for name, part in parts.items():
                alike = like if name is None else name
                where = plan.outputs[alike] if alike is not None else ()
                if name not in results:
                    shape = plan.kinds[alike].shape if any(where) else part.shape
                    results[name] = np.empty(shape, part.dtype)
                _put(results[name], np.asarray(part), where, corners)
    picked = results.pop(None, None)
    return results, picked


def prepare(
    program: Program,
    plan: Plan,
    arithmetic: Arithmetic,
    inputs: Sequence[Form],
    keep: Sequence[str],
    pick: Pick | None = None,
) -> None:
    """Compiles what `run` will need for these arguments, of whose inputs it gets the shapes."""
    fixed, _ = _fixed(program, plan, arithmetic, keep, pick)
    place = jax.ShapeDtypeStruct((2, len(plan.sides)), np.int32)
    seen = [
        jax.ShapeDtypeStruct(_window_shape(x.shape, where, plan.sides), x.dtype)
        for x, where in zip(inputs, plan.inputs, strict=True)
    ]
    with wide_enough(arithmetic):
        _compiled().prepare(*fixed, program.prepared(arithmetic), seen, place)


def _window_shape(
    shape: Sequence[int], where: Sequence[Extent | None], sides: Sequence[Side]
) -> tuple[int, ...]:
    """Of what `_window` gives of an array of this shape."""
    found = list(shape)
    for extent, side in zip(where, sides, strict=True):
        if extent is not None:
            found[extent.axis] = int(extent.scale * side.window)
    return tuple(found)


def _fixed(
    program: Program,
    plan: Plan,
    arithmetic: Arithmetic,
    keep: Sequence[str],
    pick: Pick | None,
) -> tuple[tuple[Any, ...], str | None]:
    """What decides a window's program, and the output that is picked like."""
    dtypes = tuple((name, _narrowest(plan.kinds[name])) for name in keep)
    like = None if pick is None else plan.like(pick.by)
    return (arithmetic, program.structure, plan.sizes, plan.layout, dtypes, pick, like), like


def _put(
    result: np.ndarray, part: np.ndarray, where: Sequence[Extent | None], corners: Sequence[int]
) -> None:
    """Writes a part; what lies beyond the result is dropped."""
    target, source = [slice(None)] * result.ndim, [slice(None)] * result.ndim
    for extent, corner in zip(where, corners, strict=True):
        if extent is not None:
            start = int(extent.scale * corner)
            count = min(part.shape[extent.axis], result.shape[extent.axis] - start)
            target[extent.axis] = slice(start, start + count)
            source[extent.axis] = slice(count)
    result[tuple(target)] = part[tuple(source)]


def _window(
    x: np.ndarray, where: Sequence[Extent | None], starts: Sequence[int], sides: Sequence[Side]
) -> np.ndarray:
    """x as a window sees it: zeros beyond the picture."""
    inside, margins = [slice(None)] * x.ndim, [(0, 0)] * x.ndim
    for extent, start, side in zip(where, starts, sides, strict=True):
        if extent is None:
            continue
        first, count = int(extent.scale * int(start)), int(extent.scale * side.window)
        low, high = max(first, 0), min(first + count, x.shape[extent.axis])
        inside[extent.axis] = slice(low, high)
        margins[extent.axis] = (low - first, first + count - high)
    part = np.asarray(x)[tuple(inside)]
    return np.pad(part, margins) if any(map(any, margins)) else part


def output(plan: Plan, name: str) -> Form:
    """How `run` gives an output."""
    kind = plan.kinds[name]
    return Form(kind.shape, np.dtype(_narrowest(kind)))


def bytes_of(kind: Kind) -> int:
    """What an output takes in the integers in which `run` gives it."""
    return math.prod(kind.shape) * np.dtype(_narrowest(kind)).itemsize


def _narrowest(kind: Kind) -> type:
    for dtype in (np.int16, np.int32):
        if kind.bound <= np.iinfo(dtype).max:
            return dtype
    return np.int64


class _Inside:
    """What a window changes in a program: see `program.Adaptation`."""

    def __init__(self, arithmetic: Arithmetic, layout: Layout, place: Array) -> None:
        self._arithmetic, self._place = arithmetic, place
        self._padded, self._counted = dict(layout.padded), dict(layout.counted)

    def read(self, number: int, values: Sequence[Array]) -> Sequence[Array]:
        """Zeros beyond the picture's edges, in what is about to be padded."""
        xp = self._arithmetic.xp
        for edge in self._padded.get(number, ()):
            (x,) = values
            position, end = self._positions(edge, x.shape[edge.axis])
            inside = (position >= 0) & (position < end)
            values = [xp.where(_along(inside, edge.axis, x.ndim), x, xp.zeros_like(x))]
        return values

    def made(self, number: int, value: Array) -> Array:
        """Positions as the whole picture counts them."""
        if number not in self._counted:
            return value
        edge, xp = self._counted[number], self._arithmetic.xp
        position, end = self._positions(edge, value.shape[edge.axis])
        position = xp.clip(position, 0, end - 1).astype(value.dtype)
        return xp.broadcast_to(_along(position, edge.axis, value.ndim), value.shape)

    def _positions(self, edge: Edge, count: int) -> tuple[Array, Array]:
        """Positions in the whole picture of a window's, and how many there are."""
        up, down = edge.scale.numerator, edge.scale.denominator
        start, length = self._place[0, edge.side], self._place[1, edge.side]
        positions = self._arithmetic.xp.arange(count, dtype=np.int32) + start * up // down
        return positions, length * up // down + edge.more


def _along(x: Array, axis: int, rank: int) -> Array:
    return x.reshape([-1 if i == axis else 1 for i in range(rank)])


def _run_window(arithmetic, structure, sizes, layout, dtypes, pick, like, prepared, inputs, place):
    xp = arithmetic.xp
    carried = [xp.asarray(x).astype(arithmetic.dtype) for x in inputs]
    adapt = _Inside(arithmetic, layout, place)
    outputs = programs.execute(arithmetic, structure, sizes, prepared, carried, adapt=adapt)
    cuts = dict(layout.cuts)
    found = {n: _cut(outputs[n], cuts.get(n, ())).astype(dtype) for n, dtype in dtypes}
    picked = None if pick is None else _cut(pick(xp, outputs), cuts.get(like, ()))
    return found, picked


@functools.cache
def _compiled() -> Any:
    return xla_programs.Jitted(_run_window, statics=7)


def _cut(x: Array, cuts: Sequence[tuple[int, int, int]]) -> Array:
    index = [slice(None)] * x.ndim
    for axis, before, after in cuts:
        index[axis] = slice(before, x.shape[axis] - after)
    return x[tuple(index)]


class _Planner:
    """Finds the plan of a program for one size of picture."""

    def __init__(self, program, shapes, few_shapes, at_most) -> None:
        self._program, self._structure = program, program.structure
        self._few_shapes, self._at_most = few_shapes, at_most
        self._sizes = program.sizes(shapes)
        self._whole = program.kinds(shapes)
        self._known = {_key(self._sizes): self._whole}
        self._used = tuple(name for name in SIDES if name in self._sizes)

    def plan(self) -> Plan:
        """See `plan`."""
        if not self._few_shapes and _held(self._structure, self._whole) <= self._at_most:
            return self._at_once()
        for cut in (self._used, self._used[:1]):
            if cut:
                try:
                    return self._cut(cut)
                except NotLocal:
                    continue
        return self._at_once()

    def _at_once(self) -> Plan:
        bytes_held = _held(self._structure, self._whole)
        sizes, nowhere = _key(self._sizes), len(self._structure.inputs) * ((),)
        outputs = {name: () for name in self._structure.outputs}
        return Plan((), Layout(), sizes, nowhere, outputs, self._outputs(), bytes_held)

    def _outputs(self) -> dict[str, Kind]:
        return {name: self._whole[o["value"]] for name, o in self._structure.outputs.items()}

    def _cut(self, names: Sequence[str]) -> Plan:
        """A plan that cuts these sides. Raises NotLocal where it would decide something else."""
        lengths = [self._sizes[name] for name in names]
        windows = self._windows(lengths, None)
        margins = [(0, 0)] * len(names)
        if windows is None:
            trial = self._extents(names, [min(_TRIAL, length) for length in lengths])
            margins = [self._margin(found) for found in trial]
            windows = self._windows(lengths, margins)
        found = self._extents(names, [side.window for side in windows])
        for side, given in zip(windows, found, strict=True):
            before, after = self._margin(given)
            alone = side.count == 1 and side.before == side.after == 0
            if not alone and (before > side.before or after > side.after):
                raise NotLocal
        return self._finished(names, windows, found)

    def _windows(
        self, lengths: Sequence[int], margins: Sequence[tuple[int, int]] | None
    ) -> list[Side] | None:
        """The cuts of least work that fit; without margins, one window or None."""
        area = math.prod(lengths)
        each = _held(self._structure, self._whole) / max(area, 1)
        most = max(self._at_most / max(each, 1), 1)
        alone = [Side(n, self._rounded(n)) for n in lengths]
        if math.prod(side.window for side in alone) <= most or not area:
            return alone
        if math.prod(lengths) <= most:  # but not where it is rounded up
            return [Side(n, n) for n in lengths]
        if margins is None:
            return None
        options = []
        for only, length, (before, after) in zip(alone, lengths, margins, strict=True):
            tiles = (n - before - after for n in _lengths(only.window) if n < only.window)
            options.append(
                [only, *(Side(length, tile, before, after) for tile in tiles if tile > 0)]
            )

        def cost(sides: Sequence[Side]) -> tuple[int, float, int]:
            size = math.prod(side.window for side in sides)
            work = size * math.prod(side.count for side in sides)
            return (size > most, size if size > most else work, size)

        return list(min(itertools.product(*options), key=cost))

    def _rounded(self, length: int) -> int:
        if not self._few_shapes:
            return length
        return next(_lengths_from(length))

    def _extents(self, names: Sequence[str], windows: Sequence[int]) -> list[list[Extent | None]]:
        """Of every value by side: first the last side is cut, then the one before as well."""
        found = []
        sizes = dict(self._sizes)
        for name, window in reversed(list(zip(names, windows, strict=True))):
            if sizes[name] == window:  # any other length shows how values lie along the side
                sizes[name] = window + _TRIAL
            smaller = {**sizes, name: window}
            kinds = self._kinds(sizes), self._kinds(smaller)
            both, lengths = (sizes, smaller), (sizes[name], window)
            found.insert(0, extents(self._structure.operations, *kinds, both, lengths))
            sizes = smaller
        for sides in zip(*found, strict=True):
            axes = [extent.axis for extent in sides if extent is not None]
            if len(set(axes)) < len(axes):
                raise NotLocal
        return found

    def _kinds(self, sizes: Mapping[str, int]) -> list[Kind]:
        """Of every value, the picture having these sizes."""
        key = _key(sizes)
        if key not in self._known:
            declared = self._structure.inputs
            try:
                shapes = [sizes_of.shape(entry["shape"], sizes) for entry in declared]
                self._known[key] = self._program.kinds(shapes)
            except WeightsError as error:
                raise NotLocal from error
        return self._known[key]

    def _margin(self, found: Sequence[Extent | None]) -> tuple[int, int]:
        """What a window must see beyond its tile before and after, in the side's positions."""
        unit = math.lcm(*(extent.scale.denominator for extent in found if extent is not None))
        ends = [found[output["value"]] for output in self._structure.outputs.values()]
        if any(end is not None and end.more for end in ends):
            raise NotLocal
        need = [
            max((math.ceil(getattr(end, name) / end.scale) for end in ends if end), default=0)
            for name in ("before", "after")
        ]
        before, after = (-(-each // unit) * unit for each in need)
        return before, after

    def _finished(self, names, windows, found) -> Plan:
        inputs = len(self._structure.inputs)
        sizes = self._sizes | {n: side.window for n, side in zip(names, windows, strict=True)}
        edges: dict[int, list[Edge]] = {}
        counted: dict[int, Edge] = {}
        for number, operation in enumerate(self._structure.operations, start=inputs):
            name, fields = operation["op"], operation["fields"]
            for side, given in enumerate(found):
                for extent in (given[i] for i in operation["in"]):
                    if padded(name, fields, extent, sizes):
                        edges.setdefault(number, []).append(_edge(side, extent))
                made = given[number]
                if name == "iota" and made is not None and made.axis == fields["axis"]:
                    counted[number] = _edge(side, made)
        units = [
            math.lcm(*(e.scale.denominator for e in given if e is not None)) for given in found
        ]
        if any(
            side.tile % unit and side.count > 1 for side, unit in zip(windows, units, strict=True)
        ):
            raise NotLocal
        outputs = {
            name: tuple(given[output["value"]] for given in found)
            for name, output in self._structure.outputs.items()
        }
        cuts = {
            name: tuple(
                (e.axis, int(side.before * e.scale), int(side.after * e.scale))
                for side, e in zip(windows, where, strict=True)
                if e is not None
            )
            for name, where in outputs.items()
        }
        layout = Layout(
            tuple((number, tuple(each)) for number, each in edges.items()),
            tuple(counted.items()),
            tuple(cuts.items()),
        )
        return Plan(
            tuple(windows),
            layout,
            _key(sizes),
            tuple(tuple(given[i] for given in found) for i in range(inputs)),
            outputs,
            self._outputs(),
            _held(self._structure, self._kinds(sizes)),
        )


def _key(sizes: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(sizes.items()))


def _edge(side: int, extent: Extent) -> Edge:
    return Edge(side, extent.axis, extent.scale, extent.more)


def _lengths_from(length: int) -> Iterator[int]:
    """The lengths that windows have, from this one on: four an octave, and eight from 16 on."""
    n = max(length, 1)
    while True:
        step = max(1, 2 ** (n.bit_length() - (3 if n < 16 else 4)))
        n += -n % step
        yield n
        n += 1


def _lengths(most: int) -> Iterator[int]:
    return itertools.takewhile(lambda n: n <= most, _lengths_from(1))


def _held(structure: programs.Structure, kinds: Sequence[Kind]) -> int:
    """Bytes of the values that are in memory at one time, at most."""
    inputs = len(structure.inputs)
    live = {number: kind.size for number, kind in enumerate(kinds[:inputs])}
    most = sum(live.values())
    for number, operation in enumerate(structure.operations, start=inputs):
        live[number] = math.prod(kinds[number].shape)
        most = max(most, sum(live.values()) + kinds[number].held)
        if number not in structure.last_use:
            del live[number]
        for index in set(operation["in"]):
            if structure.last_use.get(index) == number:
                live.pop(index, None)
    return round(SCRATCH * NUMBER_BYTES * most)
