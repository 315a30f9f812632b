"""Functions of integers that stand for real numbers, the same on every machine, in NumPy int64.

An integer i with the exponent e stands for i * 2^-e.
"""

from __future__ import annotations

import math

import numpy as np

_FRACTION = 20  # bits below the point of exponents of 2
_TABLE = 12  # of them, those that pick an entry of the table
_WEIGHT = 36  # log2 of what stands for 1


def _powers() -> np.ndarray:
    """2^(_WEIGHT - i / 4096), rounded, for i = 0 .. 4096, by integer square roots."""
    one = 1 << 160
    root = one >> 1
    for _ in range(_TABLE):
        root = math.isqrt(root * one)
    power, powers = one, []
    for _ in range((1 << _TABLE) + 1):
        powers.append((power >> (160 - _WEIGHT - 1)) + 1 >> 1)
        power = power * root >> 160
    return np.array(powers, np.int64)


_POWERS = _powers()
_LOG2_E = 1512775  # log2(e) * 2^20, rounded


def rescaled(values: np.ndarray, exponent: int | np.ndarray, wanted: int) -> np.ndarray:
    """Integers with `exponent` -> with the exponent `wanted`, floored: int64.

    What would not fit is held at 2^40 in size.
    """
    shift = np.asarray(wanted - np.asarray(exponent, np.int64))
    left, right = np.clip(shift, 0, 40), np.clip(-shift, 0, 62)
    limit = np.int64(1 << 40) >> left
    values = np.asarray(values).astype(np.int64)
    return (np.clip(values, -limit, limit) << left) >> right


def softmax(logits: np.ndarray, exponent: int | np.ndarray, bits: int) -> np.ndarray:
    """Integers in proportion to exp(logits), each at least 1, with the sum 2^bits.

    Args:
      logits: integers [n, size] with `exponent` (a number, or broadcast against them).
      bits: up to 24; size is below 2^bits.

    Returns:
      int64 [n, size]; what rounding down leaves is added to the first of the largest.
    """
    natural = rescaled(logits, exponent, _FRACTION)
    below = np.minimum(natural.max(axis=1, keepdims=True) - natural, np.int64(40) << _FRACTION)
    below = below * _LOG2_E >> _FRACTION
    whole, fraction = below >> _FRACTION, below & (1 << _FRACTION) - 1
    entry, rest = fraction >> _FRACTION - _TABLE, fraction & (1 << _FRACTION - _TABLE) - 1
    slope = _POWERS[entry + 1] - _POWERS[entry]
    weights = _POWERS[entry] + (slope * rest >> _FRACTION - _TABLE) >> np.minimum(whole, 62)
    size = logits.shape[1]
    shares = 1 + weights * ((1 << bits) - size) // weights.sum(axis=1, keepdims=True)
    return topped_up(shares, bits)


def topped_up(shares: np.ndarray, bits: int) -> np.ndarray:
    """Rows [n, size] whose sum is at most 2^bits, the first largest raised to make it that."""
    rows = np.arange(len(shares))
    shares[rows, shares.argmax(axis=1)] += (1 << bits) - shares.sum(axis=1)
    return shares
