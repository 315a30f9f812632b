"""A group of symbols <-> the stream: what a family of distributions brings to the range coder.

A group is a flat array of symbols with one distribution each. Its coder turns the family's
integer parameters into tables of integer frequencies; nothing here sees a float that could differ
from machine to machine.

`CategoricalCoder` codes indices with one table, `TableCoder` residuals with a table each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from glc_jax.entropy.range_coder import Alphabet, RangeDecoder, RangeEncoder, uniform_frequencies
from glc_jax.entropy.tables import (
    MAGNITUDES,
    PRECISION,
    RESIDUAL_LIMIT,
    ChannelTables,
    ScaleTables,
)
from glc_jax.errors import BitstreamError, WeightsError

Array = Any  # np.ndarray or jax.Array
Exponents = Mapping[str, int | np.ndarray]


class GroupCoder(Protocol):
    """Codes one group after the other, each a flat array in the order of its elements.

    The parameters are integers; parameter p stands for integer * 2^-exponents[p], the exponent a
    number or one per channel (broadcast against the last axis). `parameters` and `exponents` of
    `encode`, `decode` and `bits` are for coders that make their tables on the fly, each parameter
    [n] or [n, k]; the others ignore them.

    `option` is one bit of a file that holds for all groups of a latent. What it means is the
    coder's business; `wants_option` says whether it is possible for a group and saves bytes. A
    file has it where every group wants it.

    Attributes:
      parameters: the names of the integer parameters that `index` reads.
      on_the_fly: the names of those that `encode`, `decode` and `bits` read.
    """

    parameters: tuple[str, ...]
    on_the_fly: tuple[str, ...]

    def index(self, xp: ModuleType, exponents: Exponents, **integers: Array) -> Array:
        """The table of each element: unsigned integers of the parameters' shape.

        xp is numpy or jax.numpy; the integers may be carried by any integer type or by float64.
        """

    def wants_option(
        self, symbols: np.ndarray, index: np.ndarray, parameters: Any, exponents: Exponents
    ) -> bool:
        """Whether this group may and should be coded with the option."""

    def encode(
        self,
        encoder: RangeEncoder,
        symbols: np.ndarray,
        index: np.ndarray,
        parameters: Mapping[str, np.ndarray],
        exponents: Exponents,
        option: bool = False,
    ) -> None:
        """Appends a group [n]. Raises ValueError where a symbol is out of range."""

    def decode(
        self,
        decoder: RangeDecoder,
        index: np.ndarray,
        parameters: Mapping[str, np.ndarray],
        exponents: Exponents,
        option: bool = False,
    ) -> np.ndarray:
        """The next group: int32 [n]. Raises BitstreamError where the payload is damaged."""

    def bits(
        self,
        symbols: np.ndarray,
        index: np.ndarray,
        parameters: Mapping[str, np.ndarray],
        exponents: Exponents,
        option: bool = False,
    ) -> np.ndarray:
        """What each symbol costs, from the integer frequencies: float64 [n]."""

    def fewest_bits(self, option: bool = False) -> float:
        """What a symbol costs at least, whatever its parameters."""


class CategoricalCoder:
    """Indices 0 .. size - 1: uniform or, with the option, of frequencies counted at export.

    Args:
      size: of the alphabet.
      frequencies: integers [size], each at least 1, with the sum 2^24, or None. Raises
        WeightsError where they are not.
    """

    parameters: tuple[str, ...] = ()
    on_the_fly: tuple[str, ...] = ()

    def __init__(self, size: int, frequencies: np.ndarray | None = None) -> None:
        self.size = size
        self._uniform = Alphabet(uniform_frequencies(size))
        self._counted = None
        if frequencies is not None:
            frequencies = np.asarray(frequencies, np.int64)
            total = 1 << PRECISION
            if frequencies.shape != (size,) or frequencies.min() < 1 or frequencies.sum() != total:
                raise WeightsError(
                    f"A prior of z must be {size} positive integers with the sum {total}."
                )
            self._counted = Alphabet(frequencies)

    def index(self, xp: ModuleType, exponents: Exponents, **integers: Array) -> Array:
        """There is one table, and nothing to choose it by: 0."""
        return xp.zeros((), xp.uint8)

    def wants_option(
        self,
        symbols: np.ndarray,
        index: np.ndarray | None = None,
        parameters: Any = None,
        exponents: Any = None,
    ) -> bool:
        """Whether the counted frequencies are there and give fewer bits."""
        if self._counted is None:
            return False
        return bool(self._counted.bits(symbols).sum() < self._uniform.bits(symbols).sum())

    def encode(self, encoder, symbols, index=None, parameters=None, exponents=None, option=False):
        """See `GroupCoder.encode`."""
        if symbols.size and not 0 <= symbols.min() <= symbols.max() < self.size:
            raise ValueError(f"indices must lie in 0 .. {self.size - 1}")
        encoder.encode(symbols.reshape(-1), self._alphabet(option))

    def decode(self, decoder, index, parameters=None, exponents=None, option=False):
        """See `GroupCoder.decode`. `index` is any array with as many elements as the group."""
        return decoder.decode(index.size, self._alphabet(option))

    def bits(self, symbols, index=None, parameters=None, exponents=None, option=False):
        """See `GroupCoder.bits`."""
        return self._alphabet(option).bits(symbols)

    def fewest_bits(self, option: bool = False) -> float:
        """See `GroupCoder.fewest_bits`."""
        return self._alphabet(option).fewest_bits()

    def _alphabet(self, counted: bool) -> Alphabet:
        if not counted:
            return self._uniform
        if self._counted is None:
            raise BitstreamError("The file codes z with a prior that its weights do not have.")
        return self._counted


class TableCoder:
    """Rounded values, each with one of some tables; those outside their table as escapes.

    The values are grouped by table, tables in increasing order, each group in the order of the
    array, so that a group is one call of constriction's coder. The escaped values of a group
    follow it: the magnitudes by which they exceed the table, then signs and remaining bits,
    smaller magnitudes first.

    With the option, the values of table 0 are all 0 and not in the stream.

    Args:
      tables: `ScaleTables`, picked by the parameters "scale" and perhaps "shape", or
        `ChannelTables`, one for each channel.
    """

    on_the_fly: tuple[str, ...] = ()

    def __init__(self, tables: ScaleTables | ChannelTables) -> None:
        self.tables = tables
        self.parameters: tuple[str, ...] = ()
        if isinstance(tables, ScaleTables):
            self.parameters = ("scale", "shape") if tables.shape_thresholds.size else ("scale",)
        self._alphabets = [Alphabet(f) for f in tables.frequencies]
        self._magnitudes = _cached_alphabets(tables.magnitudes)
        fewest = [alphabet.fewest_bits() for alphabet in self._alphabets]
        self._fewest = {False: min(fewest), True: 0.0}

    @property
    def made_of(self) -> ScaleTables | ChannelTables:
        """All that there is to it; see `program_store`."""
        return self.tables

    def index(self, xp: ModuleType, exponents: Exponents, **integers: Array) -> Array:
        """See `GroupCoder.index`: the table of a scale and shape, or the channel's number."""
        if self.parameters:
            picked = {name: integers[name] for name in self.parameters}
            return self.tables.indices(xp, exponents, **picked)
        return xp.arange(self.tables.count, dtype=xp.uint16)

    def wants_option(
        self,
        symbols: np.ndarray,
        index: np.ndarray,
        parameters: Any = None,
        exponents: Any = None,
    ) -> bool:
        """Whether all the values of table 0 are 0; a channel's own table is never left out."""
        return bool(self.parameters) and not symbols[index == 0].any()

    def encode(self, encoder, symbols, index, parameters=None, exponents=None, option=False):
        """See `GroupCoder.encode`; symbols and index of one shape."""
        symbols = symbols.reshape(-1)
        check_range(symbols)
        for table, where in _by_table(index, option):
            low, high = self.tables.range(table)
            values = symbols[where].astype(np.int32)
            escaped = (values < low) | (values > high)
            encoder.encode(np.where(escaped, high - low + 1, values - low), self._alphabets[table])
            if escaped.any():
                encode_escaped(encoder, values[escaped], low, high, self._magnitudes[table])

    def decode(self, decoder, index, parameters=None, exponents=None, option=False):
        """See `GroupCoder.decode`."""
        symbols = np.zeros(index.size, np.int32)
        for table, where in _by_table(index, option):
            low, high = self.tables.range(table)
            values = decoder.decode(where.size, self._alphabets[table]) + low
            escaped = values > high
            if escaped.any():
                count = int(escaped.sum())
                values[escaped] = decode_escaped(decoder, count, low, high, self._magnitudes[table])
            symbols[where] = values
        return symbols

    def bits(self, symbols, index, parameters=None, exponents=None, option=False):
        """See `GroupCoder.bits`."""
        bits = self.tables.bits(symbols, index)
        return np.where(index == 0, 0.0, bits) if option else bits

    def fewest_bits(self, option: bool = False) -> float:
        """See `GroupCoder.fewest_bits`."""
        return self._fewest[option]


def _cached_alphabets(rows: np.ndarray) -> list[Alphabet]:
    """An alphabet for each row of frequencies, equal rows sharing one."""
    distinct, which = np.unique(rows, axis=0, return_inverse=True)
    alphabets = [Alphabet(frequencies) for frequencies in distinct]
    return [alphabets[i] for i in which.reshape(-1)]


def _by_table(index: np.ndarray, skip_first: bool) -> Iterator[tuple[int, np.ndarray]]:
    """(table, flat positions that it codes) of every table in use, in increasing order."""
    flat = index.reshape(-1)
    order = np.argsort(flat, kind="stable")
    counts = np.bincount(flat, minlength=1)
    ends = np.cumsum(counts)
    for table in np.flatnonzero(counts):
        if table == 0 and skip_first:
            continue
        yield int(table), order[ends[table] - counts[table] : ends[table]]


def check_range(symbols: np.ndarray) -> None:
    """Raises ValueError where a residual does not fit 16 bits."""
    if symbols.size and not -RESIDUAL_LIMIT <= symbols.min() <= symbols.max() < RESIDUAL_LIMIT:
        raise ValueError(f"residuals must lie in -{RESIDUAL_LIMIT} .. {RESIDUAL_LIMIT - 1}")


# A value that is outside its table by e = 2^m + r >= 1 is coded as the magnitude m, then its side
# and r together, in m + 1 bits.
_SIDE_AND_REST = [Alphabet(uniform_frequencies(2 << m)) for m in range(MAGNITUDES)]


def encode_escaped(
    encoder: RangeEncoder,
    values: np.ndarray,
    low: int | np.ndarray,
    high: int | np.ndarray,
    magnitudes: Alphabet,
) -> None:
    """Appends values [n] outside low .. high, which are the same for all or each one's own [n]."""
    excess = np.maximum(values - high, low - values)
    below = (values < low).astype(np.int64)
    magnitude = np.frexp(excess)[1] - 1
    encoder.encode(magnitude, magnitudes)
    for m in np.unique(magnitude):
        of_m = magnitude == m
        side_and_rest = excess[of_m] - (1 << m) + (below[of_m] << m)
        encoder.encode(side_and_rest, _SIDE_AND_REST[m])


def decode_escaped(
    decoder: RangeDecoder,
    count: int,
    low: int | np.ndarray,
    high: int | np.ndarray,
    magnitudes: Alphabet,
) -> np.ndarray:
    """The next `count` escaped values: int32. Raises BitstreamError where one is too large."""
    magnitude = decoder.decode(count, magnitudes)
    low, high = np.broadcast_to(low, count), np.broadcast_to(high, count)
    values = np.empty(count, np.int64)
    for m in np.unique(magnitude):
        of_m = magnitude == m
        side_and_rest = decoder.decode(int(of_m.sum()), _SIDE_AND_REST[m])
        below, rest = side_and_rest >> m, side_and_rest & (1 << m) - 1
        excess = (1 << m) + rest
        values[of_m] = np.where(below, low[of_m] - excess, high[of_m] + excess)
    if values.min() < -RESIDUAL_LIMIT or values.max() >= RESIDUAL_LIMIT:
        raise BitstreamError("The file is damaged: a residual is out of range.")
    return values.astype(np.int32)
