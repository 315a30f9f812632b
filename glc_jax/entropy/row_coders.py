"""Group coders that make a table for every element on the fly, from integers alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import numpy as np

from glc_jax.entropy.group_coders import (
    Array,
    Exponents,
    check_range,
    decode_escaped,
    encode_escaped,
)
from glc_jax.entropy.integer_functions import rescaled, softmax, topped_up
from glc_jax.entropy.range_coder import Alphabet, RangeDecoder, RangeEncoder
from glc_jax.entropy.tables import DEFAULT_MAGNITUDES, MAGNITUDES, PRECISION, RESIDUAL_LIMIT

Parameters = Mapping[str, np.ndarray]

_PIECE = 1 << 18  # frequencies made at once


class _RowCoder:
    """What both have in common: no index, no option, rows in pieces of bounded memory."""

    parameters: tuple[str, ...] = ()

    def index(self, xp: ModuleType, exponents: Exponents, **integers: Array) -> Array:
        """There are no tables to choose from: 0."""
        return xp.zeros((), xp.uint8)

    def wants_option(
        self, symbols: np.ndarray, index: Any = None, parameters: Any = None, exponents: Any = None
    ) -> bool:
        """No: there is none. Where others of its latent have one, it changes nothing."""
        return True

    def fewest_bits(self, option: bool = False) -> float:
        """A certain symbol costs next to nothing."""
        return 0.0


class LogitsCoder(_RowCoder):
    """Indices 0 .. size - 1, each with probabilities softmax(logits).

    Parameters: logits, integers [n, size].
    """

    on_the_fly: tuple[str, ...] = ("logits",)

    def __init__(self, size: int) -> None:
        if not 1 <= size <= 1 << 16:
            raise ValueError(f"cannot code an alphabet of {size} symbols by logits")
        self.size = size

    def encode(self, encoder: RangeEncoder, symbols, index, parameters, exponents, option=False):
        """See `GroupCoder.encode`."""
        symbols = symbols.reshape(-1)
        if symbols.size and not 0 <= symbols.min() <= symbols.max() < self.size:
            raise ValueError(f"indices must lie in 0 .. {self.size - 1}")
        for rows, frequencies in self._pieces(parameters, exponents):
            encoder.encode_rows(symbols[rows], frequencies)

    def decode(self, decoder: RangeDecoder, index, parameters, exponents, option=False):
        """See `GroupCoder.decode`."""
        pieces = self._pieces(parameters, exponents)
        symbols = [decoder.decode_rows(frequencies) for _, frequencies in pieces]
        return np.concatenate([np.zeros(0, np.int32), *symbols])

    def bits(self, symbols, index, parameters, exponents, option=False):
        """See `GroupCoder.bits`."""
        flat = symbols.reshape(-1)
        bits = np.empty(flat.size, np.float64)
        for rows, frequencies in self._pieces(parameters, exponents):
            picked = np.take_along_axis(frequencies, flat[rows, None].astype(np.int64), axis=1)
            bits[rows] = PRECISION - np.log2(picked[:, 0])
        return bits.reshape(symbols.shape)

    def _pieces(
        self, parameters: Parameters, exponents: Exponents
    ) -> Iterator[tuple[slice, np.ndarray]]:
        logits = parameters["logits"].reshape(-1, self.size)
        exponent = np.broadcast_to(exponents["logits"], logits.shape)
        step = max(1, _PIECE // self.size)
        for start in range(0, len(logits), step):
            rows = slice(start, start + step)
            yield rows, softmax(logits[rows], exponent[rows], PRECISION)


class MixtureCoder(_RowCoder):
    """Rounded values, each with a mixture of K symmetric distributions.

    Parameters: weight (logits), mean and scale, integers [n, K] each. The table of an element
    reaches from its leftmost component's lower quantile to its rightmost one's upper quantile,
    lengthened to a power of two. Elements are coded in the order of these lengths, then of the
    array, each piece of equal lengths followed by its escaped values.

    Args:
      survival: integers [G + 1], P(X > i / 256) 2^30 of a component at scale 1, not increasing.
      reach: a component's table reaches this many scales, in units of 1 / 256, to either side.
      smallest: what scales are held above, in units of 2^-16.
    """

    on_the_fly: tuple[str, ...] = ("weight", "mean", "scale")

    def __init__(self, survival: np.ndarray, reach: int, smallest: int) -> None:
        self._survival = survival
        self._reach = reach
        self._smallest = smallest
        self._magnitudes = Alphabet(DEFAULT_MAGNITUDES)

    def encode(self, encoder: RangeEncoder, symbols, index, parameters, exponents, option=False):
        """See `GroupCoder.encode`."""
        symbols = symbols.reshape(-1).astype(np.int64)
        check_range(symbols)
        for where, low, frequencies in self._pieces(parameters, exponents):
            values, high = symbols[where], low + frequencies.shape[1] - 2
            escaped = (values < low) | (values > high)
            encoder.encode_rows(np.where(escaped, high - low + 1, values - low), frequencies)
            if escaped.any():
                encode_escaped(
                    encoder, values[escaped], low[escaped], high[escaped], self._magnitudes
                )

    def decode(self, decoder: RangeDecoder, index, parameters, exponents, option=False):
        """See `GroupCoder.decode`."""
        symbols = np.zeros(len(_rows(parameters["mean"])), np.int32)
        for where, low, frequencies in self._pieces(parameters, exponents):
            high = low + frequencies.shape[1] - 2
            values = low + decoder.decode_rows(frequencies)
            escaped = values > high
            if escaped.any():
                values[escaped] = decode_escaped(
                    decoder, int(escaped.sum()), low[escaped], high[escaped], self._magnitudes
                )
            symbols[where] = values
        return symbols

    def bits(self, symbols, index, parameters, exponents, option=False):
        """See `GroupCoder.bits`."""
        flat = symbols.reshape(-1).astype(np.int64)
        bits = np.empty(flat.size, np.float64)
        magnitude_bits = PRECISION - np.log2(DEFAULT_MAGNITUDES) + np.arange(MAGNITUDES) + 1
        for where, low, frequencies in self._pieces(parameters, exponents):
            values, high = flat[where], low + frequencies.shape[1] - 2
            outside = np.maximum(values - high, low - values)
            picked = np.where(outside > 0, high - low + 1, values - low)[:, None]
            cost = PRECISION - np.log2(np.take_along_axis(frequencies, picked, axis=1)[:, 0])
            magnitude = np.frexp(np.maximum(outside, 1))[1] - 1
            bits[where] = cost + np.where(outside > 0, magnitude_bits[magnitude], 0)
        return bits.reshape(symbols.shape)

    def _pieces(
        self, parameters: Parameters, exponents: Exponents
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """(flat positions, their least values, frequencies [n, length + 1]) of each piece."""
        rows = {name: _rows(parameters[name]) for name in ("weight", "mean", "scale")}
        exponent = {name: np.broadcast_to(exponents[name], rows[name].shape) for name in rows}
        mean = rescaled(rows["mean"], exponent["mean"], 16)
        mean = np.clip(mean, -(RESIDUAL_LIMIT << 16), RESIDUAL_LIMIT << 16)
        scale = rescaled(rows["scale"], exponent["scale"], 16)
        scale = np.clip(scale, self._smallest, 1 << 26)
        weight = softmax(rows["weight"], exponent["weight"], 20)
        low, length = self._windows(weight, mean, scale)
        for size in np.unique(length):
            every = np.flatnonzero(length == size)
            step = max(1, _PIECE // int(size * mean.shape[1]))
            for start in range(0, every.size, step):
                where = every[start : start + step]
                yield (
                    where,
                    low[where],
                    self._frequencies(
                        weight[where], mean[where], scale[where], low[where], int(size)
                    ),
                )

    def _windows(
        self, weight: np.ndarray, mean: np.ndarray, scale: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """(least value, length, a power of two 8 .. 1024) of each element's table."""
        spread = scale * self._reach >> 8
        counts = weight >= 1 << 8  # components of less than 1 / 4096 are left to escapes
        left = np.where(counts, mean - spread, np.int64(1) << 50).min(axis=1) >> 16
        right = np.where(counts, mean + spread, -(np.int64(1) << 50)).max(axis=1) + 65535 >> 16
        heaviest = np.take_along_axis(mean, weight.argmax(axis=1)[:, None], axis=1)[:, 0]
        left = np.where(right - left >= 1024, (heaviest >> 16) - 512, left)
        needed = np.clip(right - left + 1, 8, 1024)
        length = np.int64(1) << np.frexp(needed - 1)[1]
        return np.clip(left, -RESIDUAL_LIMIT, RESIDUAL_LIMIT - length), length

    def _frequencies(
        self, weight: np.ndarray, mean: np.ndarray, scale: np.ndarray, low: np.ndarray, size: int
    ) -> np.ndarray:
        """Frequencies of low .. low + size - 1 and of the escape: int64 [n, size + 1]."""
        edges = (2 * (low[:, None] + np.arange(size + 1)) - 1) << 15  # in units of 2^-16
        total = np.zeros(edges.shape, np.int64)
        last = self._survival.size - 1
        for k in range(mean.shape[1]):
            x = (edges - mean[:, k, None] << 12) // scale[:, k, None]  # in units of 2^-12
            size_of = np.minimum(np.abs(x), (last << 4) - 1)
            entry, rest = size_of >> 4, size_of & 15
            above = self._survival[entry]
            above = above + ((self._survival[entry + 1] - above) * rest >> 4)
            total += weight[:, k, None] * np.where(x < 0, above, (1 << 30) - above)
        total >>= 12  # 2^38 stands for 1
        inside = np.diff(total, axis=1)
        outside = (1 << 38) - inside.sum(axis=1, keepdims=True)
        free = (1 << PRECISION) - (size + 1)
        shares = np.concatenate([inside, outside], axis=1)
        return topped_up(1 + (shares * free >> 38), PRECISION)


def _rows(parameter: np.ndarray) -> np.ndarray:
    """[n, K]; a parameter of one component may be flat."""
    return parameter.reshape(-1, 1) if parameter.ndim == 1 else parameter
