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
from glc_jax.entropy.tables import PRECISION, RESIDUAL_LIMIT, ScaleTables
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
    """

    parameters: tuple[str, ...]

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
    """Residuals, each with one of some tables; those outside their table's radius as escapes.

    The residuals are grouped by table, tables in increasing order, each group in the order of
    the array, so that a group is one call of constriction's coder. The escaped residuals of a
    group follow it: the magnitudes by which they exceed the table, then signs and remaining bits,
    smaller magnitudes first.

    With the option, the residuals of table 0 are all 0 and not in the stream.
    """

    parameters: tuple[str, ...] = ("scale",)

    def __init__(self, tables: ScaleTables) -> None:
        self.tables = tables
        self._alphabets = [Alphabet(f) for f in tables.frequencies]
        fewest = [alphabet.fewest_bits() for alphabet in self._alphabets]
        self._fewest = {False: min(fewest), True: 0.0}

    def index(self, xp: ModuleType, exponents: Exponents, **integers: Array) -> Array:
        """See `GroupCoder.index`: the table of integers `scale`."""
        return self.tables.indices(xp, integers["scale"], exponents["scale"])

    def wants_option(
        self,
        symbols: np.ndarray,
        index: np.ndarray,
        parameters: Any = None,
        exponents: Any = None,
    ) -> bool:
        """Whether all the residuals of table 0 are 0."""
        return not symbols[index == 0].any()

    def encode(self, encoder, symbols, index, parameters=None, exponents=None, option=False):
        """See `GroupCoder.encode`; symbols and index of one shape."""
        symbols = symbols.reshape(-1)
        _check_range(symbols)
        for table, where in _by_table(index, option):
            radius = self.tables.radius(table)
            values = symbols[where].astype(np.int32)
            escaped = np.abs(values) > radius
            encoder.encode(
                np.where(escaped, 2 * radius + 1, values + radius), self._alphabets[table]
            )
            if escaped.any():
                encode_escaped(encoder, values[escaped], radius)

    def decode(self, decoder, index, parameters=None, exponents=None, option=False):
        """See `GroupCoder.decode`."""
        symbols = np.zeros(index.size, np.int32)
        for table, where in _by_table(index, option):
            radius = self.tables.radius(table)
            values = decoder.decode(where.size, self._alphabets[table]) - radius
            escaped = values > radius
            if escaped.any():
                values[escaped] = decode_escaped(decoder, int(escaped.sum()), radius)
            symbols[where] = values
        return symbols

    def bits(self, symbols, index, parameters=None, exponents=None, option=False):
        """See `GroupCoder.bits`."""
        bits = self.tables.bits(symbols, index)
        return np.where(index == 0, 0.0, bits) if option else bits

    def fewest_bits(self, option: bool = False) -> float:
        """See `GroupCoder.fewest_bits`."""
        return self._fewest[option]


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


def _check_range(symbols: np.ndarray) -> None:
    if symbols.size and not -RESIDUAL_LIMIT <= symbols.min() <= symbols.max() < RESIDUAL_LIMIT:
        raise ValueError(f"residuals must lie in -{RESIDUAL_LIMIT} .. {RESIDUAL_LIMIT - 1}")


# An escaped residual exceeds the radius by e = 2^m + r >= 1: the magnitude m has m + 1 bits, sign
# and r together another m + 1.
_MAGNITUDES = 16
_MAGNITUDE = Alphabet(
    np.array([1 << (PRECISION - 1 - min(m, _MAGNITUDES - 2)) for m in range(_MAGNITUDES)])
)
_SIGN_AND_REST = [Alphabet(uniform_frequencies(2 << m)) for m in range(_MAGNITUDES)]


def encode_escaped(encoder: RangeEncoder, values: np.ndarray, radius: int) -> None:
    """Appends residuals [n] whose size is above `radius`."""
    excess = np.abs(values) - radius
    magnitudes = np.frexp(excess)[1] - 1
    encoder.encode(magnitudes, _MAGNITUDE)
    for m in np.unique(magnitudes):
        of_m = magnitudes == m
        sign_and_rest = excess[of_m] - (1 << m) + ((values[of_m] < 0) << m)
        encoder.encode(sign_and_rest, _SIGN_AND_REST[m])


def decode_escaped(decoder: RangeDecoder, count: int, radius: int) -> np.ndarray:
    """The next `count` escaped residuals: int32. Raises BitstreamError where one is too large."""
    magnitudes = decoder.decode(count, _MAGNITUDE)
    values = np.empty(count, np.int32)
    for m in np.unique(magnitudes):
        of_m = magnitudes == m
        sign_and_rest = decoder.decode(int(of_m.sum()), _SIGN_AND_REST[m])
        negative, rest = sign_and_rest >> m, sign_and_rest & (1 << m) - 1
        values[of_m] = (radius + (1 << m) + rest) * (1 - 2 * negative)
    if values.min() < -RESIDUAL_LIMIT or values.max() >= RESIDUAL_LIMIT:
        raise BitstreamError("The file is damaged: a residual is out of range.")
    return values
