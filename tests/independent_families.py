"""How each family of docs/format.md, section 4, reads a group's symbols: plain Python integers.

It shares no code with glc_jax.
"""

import itertools
from collections.abc import Mapping, Sequence
from decimal import Decimal, localcontext

import numpy as np

from tests.integer_coder import IntegerReader

Tensors = Mapping[str, np.ndarray]
Scaled = Sequence[tuple[int, int]]  # integers, each with its exponent

DEFAULT_MAGNITUDES = [2 ** (23 - m) for m in range(15)] + [2**9]


def uniform(n: int) -> list[int]:
    """Frequencies of n equally likely symbols."""
    return [(s + 1) * 2**24 // n - s * 2**24 // n for s in range(n)]


def read(reader: IntegerReader, frequencies: list[int]) -> int:
    """A symbol; an alphabet of one is not coded."""
    return reader.read(frequencies) if len(frequencies) > 1 else 0


def read_escaped(
    reader: IntegerReader, ranges: list[tuple[int, int]], frequencies: list[int]
) -> list[int]:
    """Values outside ranges low .. high."""
    magnitudes = [reader.read(frequencies) for _ in ranges]
    values = [0] * len(ranges)
    for m in sorted(set(magnitudes)):
        for place in (p for p, n in enumerate(magnitudes) if n == m):
            symbol = reader.read(uniform(2 ** (m + 1)))
            excess = 2**m + symbol % 2**m
            low, high = ranges[place]
            values[place] = low - excess if symbol >> m else high + excess
    return values


class Tables:
    """Tables of scales (and shapes), or one for each channel."""

    def __init__(self, arrays: Tensors) -> None:
        rest = arrays["frequencies"].tolist()
        self.frequencies, self.lows = [], []
        if "lows" in arrays:
            self.lows = arrays["lows"].tolist()
            for size in arrays["sizes"].tolist():
                self.frequencies.append(rest[:size])
                rest = rest[size:]
        else:
            self.thresholds = arrays["thresholds"].tolist()
            self.first = arrays["first"].tolist() if "first" in arrays else [0]
            shapes = arrays.get("shape_thresholds", np.zeros(0, np.int32))
            self.shape_thresholds = shapes.tolist()
            for radius in arrays["radius"].tolist():
                half, escape, rest = rest[: radius + 1], rest[radius + 1], rest[radius + 2 :]
                self.frequencies.append([*half[:0:-1], *half, escape])
                self.lows.append(-radius)
        default = [DEFAULT_MAGNITUDES] * len(self.frequencies)
        self.magnitudes = arrays["magnitudes"].tolist() if "magnitudes" in arrays else default

    def of_scale(self, scale: tuple[int, int], shape: tuple[int, int] | None = None) -> int:
        """The table of a scale and a shape."""
        position = reached(self.thresholds, scale)
        number = reached(self.shape_thresholds, shape) if shape else 0
        before = sum(len(self.thresholds) + 1 - first for first in self.first[:number])
        return before + max(position, self.first[number]) - self.first[number]

    def read(self, reader: IntegerReader, table_of: list[int], option: bool) -> list[int]:
        """The values of elements with these tables, in order."""
        values = [0] * len(table_of)
        for table in sorted(set(table_of)):
            if table == 0 and option:
                continue
            frequencies, low = self.frequencies[table], self.lows[table]
            places = [p for p, t in enumerate(table_of) if t == table]
            escaped = []
            for place in places:
                symbol = reader.read(frequencies)
                values[place] = low + symbol
                if symbol == len(frequencies) - 1:
                    escaped.append(place)
            ranges = [(low, low + len(frequencies) - 2)] * len(escaped)
            found = read_escaped(reader, ranges, self.magnitudes[table])
            for place, value in zip(escaped, found, strict=True):
                values[place] = value
        return values


def reached(thresholds: list[int], value: tuple[int, int]) -> int:
    """How many thresholds, in units of 2^-16, a value reaches. Both sides times 2^64."""
    integer, exponent = value
    scaled = min(max(integer, 0), 32767) << 80
    return sum(t << 64 + exponent <= scaled for t in thresholds)


def rescaled(value: tuple[int, int], wanted: int) -> int:
    integer, exponent = value
    left, right = min(max(wanted - exponent, 0), 40), min(max(exponent - wanted, 0), 62)
    limit = 2**40 >> left
    return min(max(integer, -limit), limit) << left >> right


def powers() -> list[int]:
    """2^(36 - i / 4096), rounded."""
    with localcontext() as context:
        context.prec = 60
        root = Decimal(2) ** (Decimal(-1) / 4096)
        return [int((Decimal(2**36) * root**i).to_integral_value()) for i in range(4097)]


POWERS = powers()


def softmax(logits: Scaled, bits: int) -> list[int]:
    natural = [rescaled(logit, 20) for logit in logits]
    weights = []
    for n in natural:
        d = min(max(natural) - n, 40 << 20) * 1512775 >> 20
        whole, entry, rest = d >> 20, d >> 8 & 4095, d & 255
        slope = POWERS[entry + 1] - POWERS[entry]
        weights.append((POWERS[entry] + (slope * rest >> 8)) >> whole)
    free = 2**bits - len(logits)
    return topped_up([1 + w * free // sum(weights) for w in weights], bits)


def topped_up(shares: list[int], bits: int) -> list[int]:
    shares[shares.index(max(shares))] += 2**bits - sum(shares)
    return shares


class Mixture:
    """The tables of a mixture, made for each element."""

    def __init__(self, arrays: Tensors) -> None:
        self.survival = arrays["survival"].tolist()
        self.reach, self.smallest = int(arrays["reach"]), int(arrays["smallest"])

    def table(self, weight: Scaled, mean: Scaled, scale: Scaled) -> tuple[int, list[int]]:
        """(the least value, the frequencies and that of the escape) of an element."""
        weights = softmax(weight, 20)
        means = [min(max(rescaled(m, 16), -(2**31)), 2**31) for m in mean]
        scales = [min(max(rescaled(s, 16), self.smallest), 2**26) for s in scale]
        spread = [s * self.reach >> 8 for s in scales]
        used = [k for k, w in enumerate(weights) if w >= 256]
        left = min(means[k] - spread[k] for k in used) >> 16
        right = (max(means[k] + spread[k] for k in used) + 65535) >> 16
        if right - left >= 1024:
            left = (means[weights.index(max(weights))] >> 16) - 512
        needed = min(max(right - left + 1, 8), 1024)
        length = 1 << (needed - 1).bit_length()
        low = min(max(left, -(2**15)), 2**15 - length)
        below = []
        for j in range(length + 1):
            edge = (2 * (low + j) - 1) << 15
            parts = zip(weights, means, scales, strict=True)
            below.append(sum(w * self.below(edge - m, s) for w, m, s in parts) >> 12)
        inside = [b - a for a, b in itertools.pairwise(below)]
        shares = [*inside, 2**38 - sum(inside)]
        return low, topped_up([1 + (s * (2**24 - length - 1) >> 38) for s in shares], 24)

    def below(self, distance: int, scale: int) -> int:
        """The probability below a distance from the mean, in units of 2^-30."""
        x = (distance << 12) // scale
        a = min(abs(x), 16 * (len(self.survival) - 1) - 1)
        above, following = self.survival[a >> 4], self.survival[(a >> 4) + 1]
        above += (following - above) * (a & 15) >> 4
        return above if x < 0 else 2**30 - above

    def read(self, reader: IntegerReader, tables: list[tuple[int, list[int]]], components: int):
        """The values of elements with these tables, in order."""
        values = [0] * len(tables)
        lengths = [len(frequencies) - 1 for _, frequencies in tables]
        for length in sorted(set(lengths)):
            places = [p for p, n in enumerate(lengths) if n == length]
            step = max(1, 2**18 // (length * components))
            for start in range(0, len(places), step):
                escaped = []
                for place in places[start : start + step]:
                    low, frequencies = tables[place]
                    symbol = reader.read(frequencies)
                    values[place] = low + symbol
                    if symbol == length:
                        escaped.append(place)
                ranges = [(tables[p][0], tables[p][0] + length - 1) for p in escaped]
                found = read_escaped(reader, ranges, DEFAULT_MAGNITUDES)
                for place, value in zip(escaped, found, strict=True):
                    values[place] = value
        return values
