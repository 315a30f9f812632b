"""What of a program's values a window of its input decides: the ground of running it in windows.

A program (see `program`) is the same for every size of picture, so it can be run on a window of
its input as if the window were the picture. Position i of a value along a side of the window is
then position i + scale * start of the whole one's, where the window begins at `start`, wherever

- every operation on the way takes positions alike, as a convolution does and a mean over the side
  does not (`NotLocal` says so),
- positions beyond the picture are zeros wherever an operation pads with zeros (`Padded`), and
- what lies beyond the window is not seen: `Extent.before` and `after` count the positions at the
  window's ends where it is.

Nothing is proved for all sizes: a program is looked at with one size of the picture and one of the
window, where every shape and every field is a number. All this is about one side; `windows` puts
the two of a picture together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from glc_jax.entropy import sizes as sizes_of
from glc_jax.entropy.operations import Kind
from glc_jax.entropy.sizes import Sizes


class NotLocal(Exception):
    """A program whose values a window does not decide."""


class Extent(NamedTuple):
    """How a value lies along a side of the picture.

    axis: of the value. scale: positions for each of the side's. more: how many its axis has
    beyond scale * side. before, after: positions at the ends that a window does not decide.
    """

    axis: int
    scale: Fraction
    more: int
    before: int = 0
    after: int = 0


class Run(NamedTuple):
    """One operation in the whole program and in the window's.

    fields: of the operation. extents: of what it reads; None: of a value that the side does not
    reach. read, seen: kinds of what it reads, in the whole and in the window. made: its result's
    extent, nothing spoiled yet. whole, window: its result's shapes. sizes: in the whole and in the
    window.
    """

    fields: Mapping[str, Any]
    extents: Sequence[Extent | None]
    read: Sequence[Kind]
    seen: Sequence[Kind]
    made: Extent
    whole: tuple[int, ...]
    window: tuple[int, ...]
    sizes: tuple[Sizes, Sizes]

    @property
    def only(self) -> Extent:
        """The extent of the one value that it reads."""
        return _required(self.extents[0])

    @property
    def length(self) -> int:
        """Of the one value that it reads, along the side, in the window."""
        return self.seen[0].shape[self.only.axis]

    def spoiled(self, axis: int, scale: Fraction, before: int, after: int) -> Extent:
        """The result's extent, if it lies along this axis at this scale."""
        _require(axis == self.made.axis and scale == self.made.scale)
        length = self.window[axis]
        before, after = (min(max(count, 0), length) for count in (before, after))
        return self.made._replace(before=before, after=after)


def extents(
    operations: Sequence[Mapping[str, Any]],
    whole: Sequence[Kind],
    window: Sequence[Kind],
    sizes: tuple[Sizes, Sizes],
    lengths: tuple[int, int],
) -> list[Extent | None]:
    """Of every value, the inputs first; None: the side does not reach it.

    Args:
      operations: of a program.
      whole, window: its `kinds` for the picture and for a window that differs from it in the
        length of one side only.
      sizes: by name, of the picture and of the window.
      lengths: of the side, in the picture and in the window; not equal.

    Raises:
      NotLocal: a window does not decide what it gives.
    """
    inputs = len(whole) - len(operations)
    found: list[Extent | None] = []
    for number, (kind, seen) in enumerate(zip(whole, window, strict=True)):
        made = _extent(kind.shape, seen.shape, lengths)
        if number < inputs:
            _require(made is None or made.more == 0)
            found.append(made)
            continue
        operation = operations[number - inputs]
        name, fields, read = operation["op"], operation["fields"], operation["in"]
        _require_equal_fields(name, fields, made, sizes)
        given = [found[i] for i in read]
        if made is None:
            _require(not any(given))
            found.append(None)
            continue
        _require(name in _RULES)
        kinds = [whole[i] for i in read], [window[i] for i in read]
        run = Run(fields, given, *kinds, made, kind.shape, seen.shape, sizes)
        found.append(_RULES[name](run))
    return found


def padded(name: str, fields: Mapping[str, Any], extent: Extent | None, sizes: Sizes) -> bool:
    """Whether an operation puts zeros beside what it reads, along the side of the extent."""
    if extent is None:
        return False
    if name == "conv":
        return extent.axis > 0 and any(fields["padding"][extent.axis - 1])
    if name != "pad":
        return False
    ends = (sizes_of.evaluate(fields[end][extent.axis], sizes) for end in ("before", "after"))
    return any(ends)


def _require(fits: Any) -> None:
    if not fits:
        raise NotLocal


def _required(extent: Extent | None) -> Extent:
    if extent is None:
        raise NotLocal
    return extent


def _extent(
    whole: tuple[int, ...], window: tuple[int, ...], lengths: tuple[int, int]
) -> Extent | None:
    """Along the one axis whose length depends on the side's."""
    _require(len(whole) == len(window))
    axes = [axis for axis, pair in enumerate(zip(whole, window, strict=True)) if pair[0] != pair[1]]
    if not axes:
        return None
    _require(len(axes) == 1)
    (axis,) = axes
    scale = Fraction(whole[axis] - window[axis], lengths[0] - lengths[1])
    more = window[axis] - scale * lengths[1]
    _require(scale > 0 and more.denominator == 1)
    return Extent(axis, scale, int(more))


_SHAPES = {"slice": ("starts", "stops"), "pad": ("before", "after")}


def _require_equal_fields(
    name: str, fields: Mapping[str, Any], made: Extent | None, sizes: tuple[Sizes, Sizes]
) -> None:
    """What an operation says in sizes is the same for picture and window, but where its own axis
    ends."""
    if name == "size":
        whole, window = (sizes_of.evaluate(fields["size"], each) for each in sizes)
        _require(whole == window)
    for field in _SHAPES.get(name, ()):
        whole, window = (sizes_of.shape(fields[field], each) for each in sizes)
        free = made.axis if made is not None and field == "stops" else None
        differing = {i for i, (a, b) in enumerate(zip(whole, window, strict=True)) if a != b}
        _require(differing <= {free})


# A rule gives the extent of an operation's result. The result does depend on the side.


def _elementwise(run: Run) -> Extent:
    """Shapes are broadcast from the last axis on."""
    rank = len(run.whole)
    reached = [(e, kind) for e, kind in zip(run.extents, run.seen, strict=True) if e]
    _require(reached)
    for extent, kind in reached:
        _require(extent.axis + rank - len(kind.shape) == run.made.axis)
        _require(extent.scale == run.made.scale)
        _require(kind.shape[extent.axis] == run.window[run.made.axis])
    before, after = (max(getattr(e, end) for e, _ in reached) for end in ("before", "after"))
    return run.spoiled(run.made.axis, run.made.scale, before, after)


def _same_axis(run: Run) -> Extent:
    """Rows of a table follow the axes that there are; a kernel takes the last axis alone."""
    x = run.only
    return run.spoiled(x.axis, x.scale, x.before, x.after)


def _dense(run: Run) -> Extent:
    _require(run.only.axis < len(run.whole) - 1)
    return _same_axis(run)


def _strided(run: Run, first: int, last: int, stride: int) -> Extent:
    """Position i of the result sees i * stride + first .. i * stride + last."""
    x, length = run.only, run.length
    before = -(-(x.before - first) // stride)
    end = (length - x.after - 1 - last) // stride  # the last position that is decided
    return run.spoiled(x.axis, x.scale / stride, before, run.window[run.made.axis] - 1 - end)


def _conv(run: Run) -> Extent:
    axis = run.only.axis
    if axis == 0:
        return _same_axis(run)
    _require(axis < len(run.whole) - 1)
    window, stride, dilation = (run.fields[n][axis - 1] for n in ("window", "strides", "dilations"))
    start = -run.fields["padding"][axis - 1][0]
    return _strided(run, start, start + (window - 1) * dilation, stride)


def _product(run: Run) -> Extent:
    a, b = run.extents
    rank = len(run.whole)
    if a and b:
        _require(a.axis == b.axis < rank - 2)
        return _elementwise(run)
    if a:
        _require(a.axis == rank - 2)
        return run.spoiled(a.axis, a.scale, a.before, a.after)
    b = _required(b)
    _require(b.axis == rank - 1)
    return run.spoiled(b.axis, b.scale, b.before, b.after)


def _reduce(run: Run) -> Extent:
    x, axes = run.only, run.fields["axes"]
    _require(x.axis not in axes)
    axis = x.axis - sum(other < x.axis for other in axes)
    return run.spoiled(axis, x.scale, x.before, x.after)


def _reshape(run: Run) -> Extent:
    """The side's axis takes in the axes behind it, or gives off some of itself, row-major."""
    x, axis = run.only, run.made.axis
    shapes = [(run.read[0].shape, run.whole), (run.seen[0].shape, run.window)]
    factors = set()
    for old, new in shapes:
        _require(math.prod(old[: x.axis]) == math.prod(new[:axis]))
        _require(old[x.axis] > 0)
        factors.add(Fraction(new[axis], old[x.axis]))
    _require(len(factors) == 1)
    (factor,) = factors
    grown, shrunk = factor.numerator, factor.denominator
    _require(1 in (grown, shrunk))
    before, after = (-(-end * grown // shrunk) for end in (x.before, x.after))
    return run.spoiled(axis, x.scale * factor, before, after)


def _transpose(run: Run) -> Extent:
    x = run.only
    return run.spoiled(run.fields["axes"].index(x.axis), x.scale, x.before, x.after)


def _slice(run: Run) -> Extent:
    axis = run.only.axis
    start = sizes_of.evaluate(run.fields["starts"][axis], run.sizes[1])
    return _strided(run, start, start, run.fields["strides"][axis])


def _pad(run: Run) -> Extent:
    x = run.only
    first, last = (
        sizes_of.evaluate(run.fields[end][x.axis], run.sizes[1]) for end in ("before", "after")
    )
    step = run.fields["between"][x.axis] + 1
    before = first + (x.before - 1) * step + 1
    after = last + (x.after - 1) * step + 1
    return run.spoiled(x.axis, x.scale * step, before, after)


def _concatenate(run: Run) -> Extent:
    _require(all(run.extents) and run.fields["axis"] != run.made.axis)
    return _elementwise(run)


def _broadcast(run: Run) -> Extent:
    (x,) = run.extents
    if x is None:
        return run.made
    axis = run.fields["axes"][x.axis]
    _require(run.length == run.window[axis])
    return run.spoiled(axis, x.scale, x.before, x.after)


def _everywhere(run: Run) -> Extent:
    return run.made


_RULES: dict[str, Callable[[Run], Extent]] = {
    "rows": _same_axis,
    "dense": _dense,
    "conv": _conv,
    "product": _product,
    "multiply": _elementwise,
    "sum": _elementwise,
    "round": _elementwise,
    "divide": _elementwise,
    "root": _elementwise,
    "modulo": _elementwise,
    "lookup": _elementwise,
    "leaky": _elementwise,
    "compare": _elementwise,
    "extreme": _elementwise,
    "select": _elementwise,
    "reduce": _reduce,
    "reshape": _reshape,
    "transpose": _transpose,
    "slice": _slice,
    "pad": _pad,
    "concatenate": _concatenate,
    "broadcast": _broadcast,
    "iota": _everywhere,
}
"""Of each operation whose result may depend on a side; `constant` and `size` have none."""
