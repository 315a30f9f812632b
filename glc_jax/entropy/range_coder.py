"""Symbols <-> bytes: a range coder over exact integer frequencies.

    encoder = RangeEncoder()
    encoder.encode(symbols, alphabet)
    payload = encoder.finish()

    decoder = RangeDecoder(payload)
    symbols = decoder.decode(count, alphabet)

One stream holds the groups of symbols one after the other; how a group becomes symbols of
alphabets is the business of `group_coders`.

constriction (`stream.queue`, 32-bit words, 64-bit state, 24-bit probabilities) takes its
probabilities as floats. It gives each symbol a frequency of 1 and shares out the rest in
proportion, so frequencies less 1 as float64 come out as the integers they were: the proportion is
exactly 1 and every partial sum is an integer below 2^24. docs/format.md describes the coder, and
the tests check every table against a coder in plain Python integers.
"""

from __future__ import annotations

import constriction
import numpy as np

from glc_jax.entropy.tables import PRECISION
from glc_jax.errors import BitstreamError

WORD_BITS = 32
STATE_BITS = 64

_DAMAGED = "The file is damaged: its symbols cannot be decoded."
_ROWS = constriction.stream.model.Categorical(perfect=False)
_PIECE = 1 << 20  # frequencies of rows that are handed over at once: 8 MB of float64


def uniform_frequencies(size: int) -> np.ndarray:
    """Frequencies of `size` equally likely symbols, with the sum 2^24: int64 [size].

    Symbol i has floor((i + 1) 2^24 / size) - floor(i 2^24 / size), which is exactly log2(size)
    bits where size is a power of two.
    """
    if not 1 <= size <= 1 << (PRECISION - 1):
        raise ValueError(f"cannot code an alphabet of {size} symbols with {PRECISION} bits")
    return np.diff((np.arange(size + 1, dtype=np.int64) << PRECISION) // size)


def counted_frequencies(counts: np.ndarray) -> np.ndarray:
    """Integer frequencies of sum 2^24 in proportion to `counts` + 1/2, each at least 1.

    counts: [K], how often each symbol occurred. Returns int64 [K]. The half (Krichevsky and
    Trofimov 1981) keeps symbols that did not occur codable.
    """
    shares = (counts + 0.5) / (counts + 0.5).sum()
    total = 1 << PRECISION
    frequencies = np.maximum(np.floor(shares * (total - len(counts))).astype(np.int64), 0) + 1
    frequencies[np.argmax(frequencies)] += total - frequencies.sum()
    return frequencies


class Alphabet:
    """Symbols 0 .. n - 1 of given frequencies (int64 [n], sum 2^24, each at least 1)."""

    def __init__(self, frequencies: np.ndarray) -> None:
        self.frequencies = frequencies
        self.model = None  # an alphabet of one symbol needs no coding
        if frequencies.size > 1:
            weights = (frequencies - 1).astype(np.float64)
            self.model = constriction.stream.model.Categorical(weights, perfect=False)

    def bits(self, symbols: np.ndarray) -> np.ndarray:
        """What coding each of `symbols` costs: float64."""
        return PRECISION - np.log2(self.frequencies[symbols])

    def fewest_bits(self) -> float:
        """What the cheapest symbol costs."""
        return PRECISION - float(np.log2(self.frequencies.max()))


class RangeEncoder:
    """Writes one stream."""

    def __init__(self) -> None:
        self._encoder = constriction.stream.queue.RangeEncoder()

    def encode(self, symbols: np.ndarray, alphabet: Alphabet) -> None:
        """Appends symbols (integers [n]) of one alphabet."""
        if alphabet.model is not None and symbols.size:
            self._encoder.encode(np.ascontiguousarray(symbols, np.int32), alphabet.model)

    def encode_rows(self, symbols: np.ndarray, frequencies: np.ndarray) -> None:
        """Appends symbols [n], each of its own alphabet: frequencies int [n, size], sums 2^24."""
        if frequencies.shape[1] == 1:
            return
        symbols = np.ascontiguousarray(symbols, np.int32)
        for rows in _pieces(frequencies):
            weights = (frequencies[rows] - 1).astype(np.float64)
            self._encoder.encode(symbols[rows], _ROWS, weights)

    def finish(self) -> bytes:
        """The stream: the fewest bytes that, followed by zeros, decode to what was encoded.

        The coder's interval is [low, low + range) in a fraction whose digits are the words
        written so far and the 64 bits of its state. The number in it that ends in the most zero
        bytes needs at most four bytes of the state, and costs less than one byte over the
        interval's own length.
        """
        words = self._encoder.get_compressed()
        position, (low, width) = self._encoder.pos()
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


class RangeDecoder:
    """Reads one stream, in the order in which it was written."""

    def __init__(self, payload: bytes) -> None:
        self._bits = 8 * len(payload)
        # The stream goes on with zeros for ever; no more than these can matter.
        padded = payload + bytes(16 + -len(payload) % 4)
        words = np.frombuffer(padded, ">u4").astype(np.uint32)
        self._decoder = constriction.stream.queue.RangeDecoder(words)

    def require(self, bits: float, what: str) -> None:
        """Raises BitstreamError where the payload cannot hold `bits`, what `what` takes at least.

        So a size that lies costs neither time nor memory.
        """
        if bits > self._bits + STATE_BITS:
            raise BitstreamError(f"The file is damaged: its payload is too short for {what}.")

    def decode(self, count: int, alphabet: Alphabet) -> np.ndarray:
        """The next `count` symbols, of one alphabet: int32 [count].

        Raises:
          BitstreamError: these are bytes that no encoder writes.
        """
        if alphabet.model is None or count == 0:
            return np.zeros(count, np.int32)
        try:
            return self._decoder.decode(alphabet.model, count)
        except AssertionError:  # constriction's word for it
            raise BitstreamError(_DAMAGED) from None

    def decode_rows(self, frequencies: np.ndarray) -> np.ndarray:
        """The next symbols, each of its own alphabet: int [n, size] -> int32 [n].

        Raises:
          BitstreamError: these are bytes that no encoder writes.
        """
        symbols = np.zeros(len(frequencies), np.int32)
        if frequencies.shape[1] == 1:
            return symbols
        for rows in _pieces(frequencies):
            weights = (frequencies[rows] - 1).astype(np.float64)
            try:
                symbols[rows] = self._decoder.decode(_ROWS, weights)
            except AssertionError:
                raise BitstreamError(_DAMAGED) from None
        return symbols


def _pieces(frequencies: np.ndarray) -> list[slice]:
    count, size = frequencies.shape
    piece = max(1, _PIECE // size)
    return [slice(start, start + piece) for start in range(0, count, piece)]
