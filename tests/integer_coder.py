"""The range coder of docs/format.md once more, in plain Python integers, one symbol at a time.

It shares nothing with glc_jax: tests hold the real coder against it.
"""

from bisect import bisect_right
from itertools import accumulate

MASK = 2**64 - 1


class IntegerReader:
    """Reads symbols from a payload that is followed by zeros for ever."""

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.low, self.width = 0, MASK
        self.point, self.position = 0, 0
        for _ in range(2):
            self._shift_in()

    def _shift_in(self) -> None:
        word = self.payload[self.position : self.position + 4].ljust(4, b"\0")
        self.point = (self.point << 32 | int.from_bytes(word, "big")) & MASK
        self.position += 4

    def read(self, frequencies: list[int]) -> int:
        """One symbol; frequencies sum to 2^24. Raises ValueError where no symbol fits."""
        starts = [0, *accumulate(frequencies)]
        unit = self.width >> 24
        quantile = ((self.point - self.low) & MASK) // unit
        if quantile >= 2**24:
            raise ValueError("no symbol lies here")
        symbol = bisect_right(starts, quantile) - 1
        self.low = (self.low + unit * starts[symbol]) & MASK
        self.width = unit * frequencies[symbol]
        if self.width < 2**32:
            self.low = self.low << 32 & MASK
            self.width <<= 32
            self._shift_in()
        return symbol


class IntegerWriter:
    """Writes symbols; `low` is a fraction of arbitrary precision, so that nothing carries."""

    def __init__(self) -> None:
        self.low, self.width, self.words = 0, MASK, 0

    def write(self, symbol: int, frequencies: list[int]) -> None:
        unit = self.width >> 24
        self.low += unit * sum(frequencies[:symbol])
        self.width = unit * frequencies[symbol]
        if self.width < 2**32:
            self.low <<= 32
            self.width <<= 32
            self.words += 1

    def finish(self) -> bytes:
        """The shortest continuation of the whole words that stays inside the interval."""
        for kept in range(9):
            unit = 256 ** (8 - kept)
            value = (self.low + unit - 1) // unit * unit
            if value < self.low + self.width:
                return value.to_bytes(4 * self.words + 8, "big")[: 4 * self.words + kept]
        raise AssertionError("the interval is never empty")
