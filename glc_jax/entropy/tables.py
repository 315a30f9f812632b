"""Integer probability tables of the residual y_q, the same on every machine.

The entropy networks give each residual a scale; the scale picks one of 150 tables by comparison of
integers, and the range coder works on the table's integer frequencies, which sum to 2^24. The
Gaussian tables are stored as data (gaussian_tables.npz); `compute_gaussian_tables` is how they
were made, in decimal arithmetic of 60 digits, and a test compares the two. No float of a run ever
reaches a probability.

Table 0 is for residuals that are certainly 0 (scales under 0.103, negative ones included). Table t
from 1 on is for scales near 2^((t - 1) / 16 - 3.25), from 0.105 to 64. A residual outside a
table's radius is coded as the escape symbol, followed by what `escape_bits` counts.

Every residual of size up to 4 keeps a probability of about 1e-5, as in the published estimate of
bits (`distributions.gaussian_bits`): a surprise costs 17 bits, never a hundred.
"""

from __future__ import annotations

import decimal
import functools
import importlib.resources
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import ModuleType
from typing import Any

import numpy as np

from glc_jax.errors import WeightsError

PRECISION = 24
"""log2 of the sum of every table's frequencies."""

THRESHOLD_EXPONENT = 16
"""Thresholds between tables are integers in units of 2^-16 of a scale."""

ESCAPE_FREQUENCY = 128
FLOOR_FREQUENCY = 160
MIN_RADIUS = 4
STEPS_PER_OCTAVE = 16
SMALLEST_SCALE = -3.25
LARGEST_SCALE = 6.0
MAX_TABLES = 256

RESIDUAL_LIMIT = 1 << 15
"""Residuals lie in -RESIDUAL_LIMIT .. RESIDUAL_LIMIT - 1: they fit int16."""

MAX_INTEGER = RESIDUAL_LIMIT - 1
"""The largest integer that stands for a scale."""


@dataclass(frozen=True)
class ScaleTables:
    """A family of symmetric distributions over the integers, one table a range of scales.

    Attributes:
      thresholds: int64 [T - 1], increasing, in units of 2^-16: table t serves the scales s with
        thresholds[t - 1] <= s < thresholds[t].
      frequencies: T int64 arrays [2 * radius_t + 2]: the frequencies of -radius_t .. radius_t,
        then that of the escape symbol; each at least 1, together 2^24.
    """

    thresholds: np.ndarray
    frequencies: tuple[np.ndarray, ...]

    def __post_init__(self) -> None:
        count = len(self.frequencies)
        if not 1 <= count <= MAX_TABLES or self.thresholds.shape != (count - 1,):
            raise WeightsError(
                f"The scale tables are malformed: {count} tables, "
                f"{self.thresholds.size} thresholds (one fewer than tables, at most {MAX_TABLES})."
            )
        if (np.diff(self.thresholds) <= 0).any():
            raise WeightsError("The scale tables are malformed: thresholds do not increase.")
        for table, frequencies in enumerate(self.frequencies):
            body = frequencies[:-1]
            if body.size % 2 == 0 or body.size > 2**16 or (body != body[::-1]).any():
                raise WeightsError(f"Scale table {table} is not symmetric about 0.")
            if frequencies.min() < 1 or frequencies.sum() != 1 << PRECISION:
                raise WeightsError(
                    f"The frequencies of scale table {table} are not positive integers "
                    f"with the sum 2^{PRECISION}."
                )

    @property
    def count(self) -> int:
        """The number of tables, T."""
        return len(self.frequencies)

    def radius(self, table: int) -> int:
        """The largest residual that `table` codes without an escape."""
        return (self.frequencies[table].size - 2) // 2

    def index(self, scales: np.ndarray, exponent: int) -> np.ndarray:
        """The table of each scale: integers in units of 2^-exponent -> uint8, any shape."""
        return np.searchsorted(self.thresholds_at(exponent), scales, side="right").astype(np.uint8)

    def indices(self, xp: ModuleType, scales: Any, exponent: int | np.ndarray) -> Any:
        """`index` of 16-bit integers with exponents of their own, in NumPy or in JAX: uint8.

        Args:
          xp: numpy or jax.numpy; under jit the tables become constants of the program.
          scales: [..., C] within -MAX_INTEGER .. MAX_INTEGER, of any integer type or float64.
          exponent: one, or one per channel [C].
        """
        exponents, row = np.unique(exponent, return_inverse=True)
        every = np.arange(MAX_INTEGER + 1)
        rows = np.concatenate([self.index(every, int(e)) for e in exponents])
        start = (row * every.size).astype(np.int32).reshape(np.shape(exponent))
        return xp.asarray(rows)[xp.clip(scales, 0, MAX_INTEGER).astype(xp.int32) + start]

    def thresholds_at(self, exponent: int) -> np.ndarray:
        """The thresholds in units of 2^-exponent, rounded up, so that >= means the same: int64."""
        shift = exponent - THRESHOLD_EXPONENT
        if shift >= 0:
            return self.thresholds << shift
        return -(-self.thresholds >> -shift)

    def bits(self, y_q: np.ndarray, table_index: np.ndarray) -> np.ndarray:
        """What the coder spends on each residual, in bits: float64 of the arguments' shape."""
        bits = np.empty(y_q.shape, np.float64)
        for table in np.unique(table_index):
            where = table_index == table
            radius = self.radius(table)
            values = y_q[where].astype(np.int64)
            inside = np.abs(values) <= radius
            cost = PRECISION - np.log2(self.frequencies[table])
            symbols = np.where(inside, values + radius, 2 * radius + 1)
            excess = np.maximum(np.abs(values) - radius, 1)
            bits[where] = cost[symbols] + np.where(inside, 0, escape_bits(excess))
        return bits

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The tables as three int32 arrays, for a weights file; `from_arrays` reads them."""
        return {
            "thresholds": self.thresholds.astype(np.int32),
            "radius": np.array([self.radius(t) for t in range(self.count)], np.int32),
            "frequencies": np.concatenate(
                [f[self.radius(t) :] for t, f in enumerate(self.frequencies)]
            ).astype(np.int32),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> ScaleTables:
        """The inverse of `to_arrays`. Raises WeightsError where the arrays make no tables."""
        try:
            radius, halves = (np.asarray(arrays[k], np.int64) for k in ("radius", "frequencies"))
            thresholds = np.asarray(arrays["thresholds"], np.int64)
        except (KeyError, ValueError) as error:
            raise WeightsError(f"The scale tables are incomplete: {error}.") from error
        if radius.ndim != 1 or (radius < 0).any() or (radius + 2).sum() != halves.size:
            raise WeightsError("The scale tables are malformed: their lengths contradict.")
        parts = np.split(halves, np.cumsum(radius + 2)[:-1])
        return cls(thresholds, tuple(np.concatenate([p[-2:0:-1], p]) for p in parts))


def escape_bits(excess: np.ndarray) -> np.ndarray:
    """Bits after an escape symbol, of residuals that exceed the radius by `excess` >= 1.

    The magnitude of excess in unary, its sign, its bits below the first: an Elias gamma code.
    """
    return 2 * np.floor(np.log2(excess)) + 2


@functools.cache
def gaussian() -> ScaleTables:
    """The tables of N(0, scale) that ship with the package: 150 of them."""
    path = importlib.resources.files(__package__) / "gaussian_tables.npz"
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return ScaleTables.from_arrays(dict(arrays))


def compute_tables(survival: Callable[[Decimal], Decimal]) -> ScaleTables:
    """The tables of a symmetric distribution, from its survival function at scale 1.

    `survival(x)` is the probability of a value above x >= 0, to 30 digits if the tables are to
    come out the same wherever they are computed; a table stored in a weights file need not.
    A frequency is that of the distribution plus a floor: 160 for residuals of size 1 to 4, less
    for larger ones. The radius is 5 scales, at least 4.
    """
    with decimal.localcontext() as context:
        context.prec = 60
        count = int((LARGEST_SCALE - SMALLEST_SCALE) * STEPS_PER_OCTAVE) + 1
        log2_scales = [SMALLEST_SCALE + t / STEPS_PER_OCTAVE for t in range(count)]
        half_step = 0.5 / STEPS_PER_OCTAVE
        tables = [_frequencies(None, survival)]
        tables += [_frequencies(Decimal(2) ** Decimal(s), survival) for s in log2_scales]
        unit = Decimal(2**THRESHOLD_EXPONENT)
        thresholds = [int(unit * Decimal(2) ** Decimal(s - half_step)) for s in log2_scales]
    return ScaleTables(np.array(thresholds, np.int64), tuple(tables))


def _frequencies(scale: Decimal | None, survival: Callable[[Decimal], Decimal]) -> np.ndarray:
    """The frequencies of one table; without a scale, of a distribution that is always 0."""
    radius = MIN_RADIUS if scale is None else max(MIN_RADIUS, int(5 * scale) + 1)
    floors = [0] + [FLOOR_FREQUENCY] * MIN_RADIUS
    floors += [max(1, 256 // radius)] * (radius - MIN_RADIUS)
    free = 2**PRECISION - 2 * sum(floors) - ESCAPE_FREQUENCY
    tails = [Decimal(0)] * (radius + 1)
    if scale is not None:
        tails = [survival((k + Decimal("0.5")) / scale) for k in range(radius + 1)]
    half = [floors[k] + round((tails[k - 1] - tails[k]) * free) for k in range(1, radius + 1)]
    centre = 2**PRECISION - 2 * sum(half) - ESCAPE_FREQUENCY
    return np.array([*half[::-1], centre, *half, ESCAPE_FREQUENCY], np.int64)


def compute_gaussian_tables() -> ScaleTables:
    """The tables that `gaussian` reads, made anew (a few seconds)."""
    return compute_tables(_gaussian_survival)


def _gaussian_survival(x: Decimal) -> Decimal:
    """1 - Phi(x) for x >= 0, by the series of Abramowitz and Stegun 26.2.11, to 30 digits."""
    if x > 11:
        return Decimal(0)  # under 2^-90
    term = total = x
    n = 1
    while term > Decimal(10) ** -50:
        n += 2
        term *= x * x / n
        total += term
    return Decimal("0.5") - total * (-x * x / 2).exp() / (2 * _PI).sqrt()


_PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494")
