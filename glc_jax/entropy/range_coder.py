"""Symbols <-> bytes: a range coder over exact integer frequencies.

One stream holds the indices of z, then the residuals y_q of the four steps:

    coder = SymbolCoder(tables.gaussian(), z_size=1024)
    coded = coder.encode(z_indices, [(y_q, table_index) for each step])

    decoder = coder.decoder(coded)
    z_indices = decoder.z(count)
    for each step: y_q = decoder.step(table_index)

Within a step the residuals are grouped by table, tables in increasing order, each group in the
order of the flattened array, so that a group is one call of constriction's coder. The escaped
residuals of a group follow it: the magnitudes by which they exceed the table, then signs and
remaining bits, smaller magnitudes first.

constriction (`stream.queue`, 32-bit words, 64-bit state, 24-bit probabilities) takes its
probabilities as floats. It gives each symbol a frequency of 1 and shares out the rest in
proportion, so frequencies less 1 as float64 come out as the integers they were: the proportion is
exactly 1 and every partial sum is an integer below 2^24. docs/format.md describes the coder, and
the tests check every table against a coder in plain Python integers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import constriction
import numpy as np

from glc_jax.entropy.tables import PRECISION, ScaleTables
from glc_jax.errors import BitstreamError, WeightsError

RESIDUAL_LIMIT = 1 << 15
"""Residuals lie in -RESIDUAL_LIMIT .. RESIDUAL_LIMIT - 1: they fit int16."""

WORD_BITS = 32
STATE_BITS = 64

_TOO_SHORT = "The file is damaged: its payload is too short for its size of {} z indices."


class CodedSymbols(NamedTuple):
    """A payload and what its reader must know beside it.

    payload: the range coder's bytes. z_prior: z is coded with the static prior rather than
    uniformly. zeros_skipped: the residuals of table 0, all 0, are not in the stream.
    """

    payload: bytes
    z_prior: bool
    zeros_skipped: bool


def uniform_frequencies(size: int) -> np.ndarray:
    """Frequencies of `size` equally likely symbols, with the sum 2^24: int64 [size].

    Symbol i has floor((i + 1) 2^24 / size) - floor(i 2^24 / size), which is exactly log2(size)
    bits where size is a power of two.
    """
    if not 1 <= size <= 1 << (PRECISION - 1):
        raise ValueError(f"cannot code an alphabet of {size} symbols with {PRECISION} bits")
    return np.diff((np.arange(size + 1, dtype=np.int64) << PRECISION) // size)


class _Alphabet:
    """Symbols 0 .. n - 1 of given frequencies (int64 [n], sum 2^24, each at least 1)."""

    def __init__(self, frequencies: np.ndarray) -> None:
        self.frequencies = frequencies
        self.model = None  # an alphabet of one symbol needs no coding
        if frequencies.size > 1:
            weights = (frequencies - 1).astype(np.float64)
            self.model = constriction.stream.model.Categorical(weights, perfect=False)

    def encode(self, encoder: constriction.stream.queue.RangeEncoder, symbols: np.ndarray) -> None:
        if self.model is not None and symbols.size:
            encoder.encode(np.ascontiguousarray(symbols, np.int32), self.model)

    def decode(self, decoder: constriction.stream.queue.RangeDecoder, count: int) -> np.ndarray:
        if self.model is None or count == 0:
            return np.zeros(count, np.int32)
        try:
            return decoder.decode(self.model, count)
        except AssertionError:  # constriction's word for bytes that no encoder writes
            raise BitstreamError("The file is damaged: its symbols cannot be decoded.") from None

    def bits(self, symbols: np.ndarray) -> float:
        """What coding `symbols` costs."""
        return float((PRECISION - np.log2(self.frequencies[symbols])).sum())

    def fewest_bits(self) -> float:
        """What the cheapest symbol costs."""
        return PRECISION - float(np.log2(self.frequencies.max()))


class SymbolCoder:
    """Codes the symbols of files whose weights share the same tables; make it once, use it often.

    Args:
      tables: of the residuals.
      z_size: the number of codebook rows that an index of z can name.
      z_prior: int frequencies [z_size] of z's indices with the sum 2^24, or None. A file uses them
        where that is shorter than log2(z_size) bits an index.
    """

    def __init__(self, tables: ScaleTables, z_size: int, z_prior: np.ndarray | None = None) -> None:
        self.tables = tables
        self._tables = [_Alphabet(f) for f in tables.frequencies]
        self._z_uniform = _Alphabet(uniform_frequencies(z_size))
        self._z_prior = None
        if z_prior is not None:
            z_prior = np.asarray(z_prior, np.int64)
            total = 1 << PRECISION
            if z_prior.shape != (z_size,) or z_prior.min() < 1 or z_prior.sum() != total:
                raise WeightsError(
                    f"The prior of z must be {z_size} positive integers with the sum {total}."
                )
            self._z_prior = _Alphabet(z_prior)

    def z_bits(self, z_indices: np.ndarray) -> tuple[float, bool]:
        """What the indices of z cost, in bits, and whether that is with the static prior."""
        uniform = self._z_uniform.bits(z_indices)
        if self._z_prior is None:
            return uniform, False
        prior = self._z_prior.bits(z_indices)
        return min(prior, uniform), prior < uniform

    def encode(
        self, z_indices: np.ndarray, steps: Sequence[tuple[np.ndarray, np.ndarray]]
    ) -> CodedSymbols:
        """Code one picture.

        Args:
          z_indices: int array, any shape, values in 0 .. z_size - 1.
          steps: (y_q, table_index) of each step: integer arrays of one shape, y_q within int16,
            table_index uint8.

        Raises:
          ValueError: a symbol is out of range.
        """
        _, z_prior = self.z_bits(z_indices)
        zeros_skipped = not any(y_q[table_index == 0].any() for y_q, table_index in steps)
        encoder = constriction.stream.queue.RangeEncoder()
        self._z_alphabet(z_prior).encode(encoder, z_indices.reshape(-1))
        for y_q, table_index in steps:
            self._encode_step(encoder, y_q, table_index, zeros_skipped)
        return CodedSymbols(_finish(encoder), z_prior, zeros_skipped)

    def decoder(self, coded: CodedSymbols) -> SymbolDecoder:
        """A reader of one payload, for calls in the order in which it was written."""
        return SymbolDecoder(self, coded)

    def _z_alphabet(self, prior: bool) -> _Alphabet:
        if not prior:
            return self._z_uniform
        if self._z_prior is None:
            raise BitstreamError("The file codes z with a prior that its weights do not have.")
        return self._z_prior

    def _encode_step(
        self,
        encoder: constriction.stream.queue.RangeEncoder,
        y_q: np.ndarray,
        table_index: np.ndarray,
        zeros_skipped: bool,
    ) -> None:
        if y_q.size and not -RESIDUAL_LIMIT <= y_q.min() <= y_q.max() < RESIDUAL_LIMIT:
            raise ValueError(f"residuals must lie in -{RESIDUAL_LIMIT} .. {RESIDUAL_LIMIT - 1}")
        y_q = y_q.reshape(-1)
        for table, where in _groups(table_index, zeros_skipped):
            radius = self.tables.radius(table)
            values = y_q[where].astype(np.int32)
            escaped = np.abs(values) > radius
            symbols = np.where(escaped, 2 * radius + 1, values + radius)
            self._tables[table].encode(encoder, symbols)
            if escaped.any():
                _encode_escaped(encoder, values[escaped], radius)


class SymbolDecoder:
    """Reads what `SymbolCoder.encode` wrote: first `z`, then `step` for each step in turn."""

    def __init__(self, coder: SymbolCoder, coded: CodedSymbols) -> None:
        self._coder = coder
        self._coded = coded
        # The stream goes on with zeros for ever; no more than these can matter.
        padded = coded.payload + bytes(16 + -len(coded.payload) % 4)
        words = np.frombuffer(padded, ">u4").astype(np.uint32)
        self._decoder = constriction.stream.queue.RangeDecoder(words)

    def z(self, count: int) -> np.ndarray:
        """The indices of z: int32 [count].

        Raises:
          BitstreamError: the payload is too short to hold so many, so that a lying size costs
            neither time nor memory; or it is damaged.
        """
        alphabet = self._coder._z_alphabet(self._coded.z_prior)
        if count * alphabet.fewest_bits() > 8 * len(self._coded.payload) + STATE_BITS:
            raise BitstreamError(_TOO_SHORT.format(count))
        return alphabet.decode(self._decoder, count)

    def step(self, table_index: np.ndarray) -> np.ndarray:
        """The residuals of one step: int16 in the shape of table_index (uint8).

        Raises:
          BitstreamError: the payload is damaged.
        """
        y_q = np.zeros(table_index.size, np.int16)
        for table, where in _groups(table_index, self._coded.zeros_skipped):
            radius = self._coder.tables.radius(table)
            symbols = self._coder._tables[table].decode(self._decoder, where.size)
            values = symbols - radius
            escaped = values > radius
            if escaped.any():
                values[escaped] = _decode_escaped(self._decoder, int(escaped.sum()), radius)
            y_q[where] = values
        return y_q.reshape(table_index.shape)


# An escaped residual exceeds the radius by e = 2^m + r >= 1: the magnitude m has m + 1 bits, sign
# and r together another m + 1.
_MAGNITUDES = 16
_MAGNITUDE = _Alphabet(
    np.array([1 << (PRECISION - 1 - min(m, _MAGNITUDES - 2)) for m in range(_MAGNITUDES)])
)
_SIGN_AND_REST = [_Alphabet(uniform_frequencies(2 << m)) for m in range(_MAGNITUDES)]


def _encode_escaped(
    encoder: constriction.stream.queue.RangeEncoder, values: np.ndarray, radius: int
) -> None:
    excess = np.abs(values) - radius
    magnitudes = np.frexp(excess)[1] - 1
    _MAGNITUDE.encode(encoder, magnitudes)
    for m in np.unique(magnitudes):
        of_m = magnitudes == m
        sign_and_rest = excess[of_m] - (1 << m) + ((values[of_m] < 0) << m)
        _SIGN_AND_REST[m].encode(encoder, sign_and_rest)


def _decode_escaped(
    decoder: constriction.stream.queue.RangeDecoder, count: int, radius: int
) -> np.ndarray:
    magnitudes = _MAGNITUDE.decode(decoder, count)
    values = np.empty(count, np.int32)
    for m in np.unique(magnitudes):
        of_m = magnitudes == m
        sign_and_rest = _SIGN_AND_REST[m].decode(decoder, int(of_m.sum()))
        negative, rest = sign_and_rest >> m, sign_and_rest & (1 << m) - 1
        values[of_m] = (radius + (1 << m) + rest) * (1 - 2 * negative)
    if values.min() < -RESIDUAL_LIMIT or values.max() >= RESIDUAL_LIMIT:
        raise BitstreamError("The file is damaged: a residual is out of range.")
    return values


def _groups(table_index: np.ndarray, skip_first: bool) -> Iterator[tuple[int, np.ndarray]]:
    """(table, flat positions that it codes) of every table in use, in increasing order."""
    flat = table_index.reshape(-1)
    order = np.argsort(flat, kind="stable")
    counts = np.bincount(flat, minlength=1)
    ends = np.cumsum(counts)
    for table in np.flatnonzero(counts):
        if table == 0 and skip_first:
            continue
        yield int(table), order[ends[table] - counts[table] : ends[table]]


def _finish(encoder: constriction.stream.queue.RangeEncoder) -> bytes:
    """The fewest bytes that, followed by zeros, decode to what was encoded.

    The coder's interval is [low, low + range) in a fraction whose digits are the words written so
    far and the 64 bits of its state. The number in it that ends in the most zero bytes needs at
    most four bytes of the state, and costs less than one byte over the interval's own length.
    """
    words = encoder.get_compressed()
    position, (low, width) = encoder.pos()
    prefix = int.from_bytes(words[:position].astype(">u4").tobytes())
    # get_compressed has already carried into the words where low + 2^32 - 1 overflows 64 bits.
    if low + (1 << (STATE_BITS - WORD_BITS)) - 1 >> STATE_BITS:
        prefix -= 1
    for kept in range(STATE_BITS // 8 + 1):
        unit = 1 << (STATE_BITS - 8 * kept)
        value = -(-low // unit) * unit
        if value < low + width:
            break
    length = WORD_BITS // 8 * position
    total = (prefix << STATE_BITS) + value
    return total.to_bytes(length + STATE_BITS // 8)[: length + kept]
