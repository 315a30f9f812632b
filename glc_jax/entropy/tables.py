"""Integer probability tables of rounded values, the same on every machine.

The entropy networks give each residual a scale (and perhaps a shape); they pick one of a few
hundred tables by comparison of integers, and the range coder works on the table's integer
frequencies, which sum to 2^24. No float of a run ever reaches a probability. `table_making` is how
tables come about.

The Gaussian tables are stored as data (gaussian_tables.npz). Their table 0 is for residuals that
are certainly 0 (scales under 0.103, negative ones included). Table t from 1 on is for scales near
2^((t - 1) / 16 - 3.25), from 0.105 to 64. Every residual of size up to 4 keeps a probability of
about 1e-5, as in the published estimate of bits (`distributions.gaussian_bits`): a surprise costs
17 bits, never a hundred.

A value outside its table is coded as the escape symbol, followed by how far outside it is.
"""

from __future__ import annotations

import functools
import importlib.resources
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from glc_jax.errors import WeightsError

PRECISION = 24
"""log2 of the sum of every table's frequencies."""

THRESHOLD_EXPONENT = 16
"""Thresholds between tables are integers in units of 2^-16."""

STEPS_PER_OCTAVE = 16
"""Tables an octave of scales."""

MAX_TABLES = 1 << 16

RESIDUAL_LIMIT = 1 << 15
"""Residuals lie in -RESIDUAL_LIMIT .. RESIDUAL_LIMIT - 1: they fit int16."""

MAX_INTEGER = RESIDUAL_LIMIT - 1
"""The largest integer that stands for a scale."""

MAGNITUDES = 16
"""A value outside its table by e = 2^m + r, r < 2^m, has one of 16 magnitudes m."""

DEFAULT_MAGNITUDES = np.array(
    [1 << (PRECISION - 1 - min(m, MAGNITUDES - 2)) for m in range(MAGNITUDES)], np.int64
)
"""Frequencies of magnitudes that halve from one to the next: an Elias gamma code."""

Array = Any  # np.ndarray or jax.Array


class Tables:
    """Tables over ranges of integers: what `ScaleTables` and `ChannelTables` have in common.

    Attributes:
      frequencies: T int64 arrays [n_t + 1]: the frequencies of n_t values in a row, then that of
        the escape symbol; each at least 1, together 2^24.
      lows: int64 [T], the least value of each table.
      magnitudes: int64 [T, 16], the frequencies of escaped values' magnitudes.
    """

    frequencies: tuple[np.ndarray, ...]
    lows: np.ndarray
    magnitudes: np.ndarray

    @property
    def count(self) -> int:
        """The number of tables, T."""
        return len(self.frequencies)

    def range(self, table: int) -> tuple[int, int]:
        """The least and the largest value that `table` codes without an escape."""
        low = int(self.lows[table])
        return low, low + self.frequencies[table].size - 2

    def bits(self, values: np.ndarray, index: np.ndarray) -> np.ndarray:
        """What the coder spends on each value, in bits: float64 of the arguments' shape."""
        index = np.broadcast_to(index, values.shape)
        bits = np.empty(values.shape, np.float64)
        for table in np.unique(index):
            where = index == table
            low, high = self.range(table)
            found = values[where].astype(np.int64)
            outside = np.maximum(found - high, low - found)
            symbols = np.where(outside > 0, high - low + 1, found - low)
            magnitude = np.frexp(np.maximum(outside, 1))[1] - 1
            escape = PRECISION - np.log2(self.magnitudes[table])[magnitude] + magnitude + 1
            cost = PRECISION - np.log2(self.frequencies[table])
            bits[where] = cost[symbols] + np.where(outside > 0, escape, 0)
        return bits

    def _check(self) -> None:
        if not 1 <= self.count <= MAX_TABLES or self.lows.shape != (self.count,):
            raise WeightsError(f"The probability tables are malformed: {self.count} tables.")
        for table, frequencies in enumerate(self.frequencies):
            if not 2 <= frequencies.size <= 2**16 + 1:
                raise WeightsError(f"Table {table} has {frequencies.size} symbols.")
            if frequencies.min() < 1 or frequencies.sum() != 1 << PRECISION:
                raise WeightsError(
                    f"The frequencies of table {table} are not positive integers "
                    f"with the sum 2^{PRECISION}."
                )
            if max(-self.range(table)[0], self.range(table)[1] + 1) > RESIDUAL_LIMIT:
                raise WeightsError(f"Table {table} reaches beyond 16 bits.")
        sums = self.magnitudes.sum(axis=-1)
        malformed = self.magnitudes.shape != (self.count, MAGNITUDES)
        if malformed or self.magnitudes.min() < 1 or (sums != 1 << PRECISION).any():
            raise WeightsError("The magnitudes of escaped values are malformed.")


@dataclass(frozen=True)
class ScaleTables(Tables):
    """A family of symmetric distributions: one table a range of scales, for each shape.

    Attributes:
      thresholds: int64 [G], increasing, in units of 2^-16: a scale s has the position g = the
        number of thresholds <= s.
      frequencies: of all shapes' tables, one shape after the other; symmetric about 0.
      magnitudes: see `Tables`; without them, DEFAULT_MAGNITUDES for every table.
      first: int64 [S], of each shape the position up to which its first table serves; its tables
        serve the positions from there on, one each, the last one the last position.
      shape_thresholds: int64 [S - 1], increasing, in units of 2^-16: a shape has the tables of
        the number of thresholds <= it.
    """

    thresholds: np.ndarray
    frequencies: tuple[np.ndarray, ...]
    magnitudes: np.ndarray | None = None
    first: np.ndarray = field(default_factory=lambda: np.zeros(1, np.int64))
    shape_thresholds: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def __post_init__(self) -> None:
        count = len(self.frequencies)
        if self.magnitudes is None:
            object.__setattr__(self, "magnitudes", np.tile(DEFAULT_MAGNITUDES, (count, 1)))
        lows = np.array([-((f.size - 2) // 2) for f in self.frequencies], np.int64)
        object.__setattr__(self, "lows", lows)
        for thresholds in (self.thresholds, self.shape_thresholds):
            if thresholds.ndim != 1 or (np.diff(thresholds) <= 0).any():
                raise WeightsError("The scale tables are malformed: thresholds do not increase.")
        positions = self.thresholds.size + 1
        if self.first.ndim != 1 or ((self.first < 0) | (self.first >= positions)).any():
            raise WeightsError("The scale tables are malformed: their shapes begin nowhere.")
        expected = int((positions - self.first).sum())
        if count != expected or self.first.size != self.shape_thresholds.size + 1:
            raise WeightsError(
                f"The scale tables are malformed: {count} tables, where {self.thresholds.size} "
                f"thresholds and {self.first.size} shapes make {expected}."
            )
        for table, frequencies in enumerate(self.frequencies):
            body = frequencies[:-1]
            if body.size % 2 == 0 or (body != body[::-1]).any():
                raise WeightsError(f"Scale table {table} is not symmetric about 0.")
        self._check()

    def radius(self, table: int) -> int:
        """The largest residual that `table` codes without an escape."""
        return self.range(table)[1]

    def index(self, scales: np.ndarray, exponent: int, shape: np.ndarray | int = 0) -> np.ndarray:
        """The table of each scale, an integer in units of 2^-exponent, for the shape's number."""
        position = np.searchsorted(thresholds_at(self.thresholds, exponent), scales, side="right")
        return self._table(np, position, shape).astype(self._dtype)

    def indices(
        self,
        xp: ModuleType,
        exponents: Mapping[str, int | np.ndarray],
        scale: Array,
        shape: Array | None = None,
    ) -> Array:
        """`index` of 16-bit integers with exponents of their own, in NumPy or in JAX.

        Args:
          xp: numpy or jax.numpy; under jit the tables become constants of the program.
          exponents: of "scale" and "shape", each one number or one per channel [C].
          scale, shape: [..., C] within -MAX_INTEGER .. MAX_INTEGER, of any integer type or
            float64.

        Returns:
          uint8 (uint16 where there are more than 256 tables), of the parameters' shape.
        """
        position = _look_up(xp, self.thresholds, scale, exponents["scale"])
        number = 0
        if self.shape_thresholds.size:
            number = _look_up(xp, self.shape_thresholds, shape, exponents["shape"])
        return self._table(xp, position, number).astype(self._dtype)

    @property
    def _dtype(self) -> type:
        return np.uint8 if self.count <= 256 else np.uint16

    def _table(self, xp: ModuleType, position: Array, shape: Array) -> Array:
        starts = np.cumsum(self.thresholds.size + 1 - self.first)
        starts = np.concatenate([[0], starts[:-1]]) - self.first
        first, start = (xp.asarray(a.astype(np.int32))[shape] for a in (self.first, starts))
        return xp.maximum(position, first) + start

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The tables as int32 arrays, for a weights file; `from_arrays` reads them."""
        radius = np.array([self.radius(t) for t in range(self.count)], np.int32)
        halves = [f[r:] for f, r in zip(self.frequencies, radius, strict=True)]
        arrays = {
            "thresholds": self.thresholds,
            "radius": radius,
            "frequencies": np.concatenate(halves),
            "magnitudes": self.magnitudes,
            "first": self.first,
            "shape_thresholds": self.shape_thresholds,
        }
        return {name: array.astype(np.int32) for name, array in arrays.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> ScaleTables:
        """The inverse of `to_arrays`; only thresholds, radius and frequencies must be there.

        Raises WeightsError where the arrays make no tables.
        """
        thresholds, radius, halves = integers(arrays, "thresholds", "radius", "frequencies")
        more = ("magnitudes", "first", "shape_thresholds")
        rest = {name: integers(arrays, name)[0] for name in more if name in arrays}
        parts = split(halves, radius + 2, "scale")
        return cls(thresholds, tuple(np.concatenate([p[-2:0:-1], p]) for p in parts), **rest)


@dataclass(frozen=True)
class ChannelTables(Tables):
    """One table a channel, over any range of integers. For the attributes see `Tables`."""

    lows: np.ndarray
    frequencies: tuple[np.ndarray, ...]
    magnitudes: np.ndarray

    def __post_init__(self) -> None:
        self._check()

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The tables as int32 arrays, for a weights file; `from_arrays` reads them."""
        arrays = {
            "lows": self.lows,
            "sizes": np.array([f.size for f in self.frequencies]),
            "frequencies": np.concatenate(self.frequencies),
            "magnitudes": self.magnitudes,
        }
        return {name: array.astype(np.int32) for name, array in arrays.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> ChannelTables:
        """The inverse of `to_arrays`. Raises WeightsError where the arrays make no tables."""
        lows, sizes, frequencies, magnitudes = integers(
            arrays, "lows", "sizes", "frequencies", "magnitudes"
        )
        return cls(lows, tuple(split(frequencies, sizes, "channel")), magnitudes)


@functools.cache
def gaussian() -> ScaleTables:
    """The tables of N(0, scale) that ship with the package: 150 of them."""
    path = importlib.resources.files(__package__) / "gaussian_tables.npz"
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return ScaleTables.from_arrays(dict(arrays))


def integers(arrays: Mapping[str, np.ndarray], *names: str) -> list[np.ndarray]:
    """Arrays of a weights file as int64. Raises WeightsError where one is missing or not ints."""
    found = []
    for name in names:
        array = np.asarray(arrays.get(name))
        if array.dtype.kind not in "iu":
            raise WeightsError(f"The probability tables are incomplete: {name} is missing.")
        found.append(array.astype(np.int64))
    return found


def split(values: np.ndarray, sizes: np.ndarray, what: str) -> list[np.ndarray]:
    """`values` in parts of `sizes`. Raises WeightsError where they do not add up."""
    fit = sizes.ndim == values.ndim == 1 and sizes.size and (sizes >= 2).all()
    if not fit or sizes.sum() != values.size:
        raise WeightsError(f"The {what} tables are malformed: their lengths contradict.")
    return np.split(values, np.cumsum(sizes)[:-1])


def thresholds_at(thresholds: np.ndarray, exponent: int) -> np.ndarray:
    """Thresholds in units of 2^-exponent, rounded up, so that >= means the same: int64."""
    shift = exponent - THRESHOLD_EXPONENT
    return thresholds << shift if shift >= 0 else -(-thresholds >> -shift)


def _look_up(
    xp: ModuleType, thresholds: np.ndarray, values: Array, exponent: int | np.ndarray
) -> Array:
    """The number of thresholds <= value, int32, by a table over all 16-bit integers."""
    exponents, row = np.unique(exponent, return_inverse=True)
    every = np.arange(MAX_INTEGER + 1)
    rows = [
        np.searchsorted(thresholds_at(thresholds, int(e)), every, side="right") for e in exponents
    ]
    start = (row * every.size).astype(np.int32).reshape(np.shape(exponent))
    table = np.concatenate(rows).astype(np.int16)
    where = xp.clip(values, 0, MAX_INTEGER).astype(xp.int32) + start
    return xp.asarray(table)[where].astype(xp.int32)
