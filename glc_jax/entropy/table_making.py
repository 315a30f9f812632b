"""How integer tables are made, once, at export. What a file is coded with is the result: data.

The Gaussian tables that ship with the package were made in decimal arithmetic of 60 digits, the
same wherever it is done; those of other families are made in float64 from the family's own
survival function and kept in the weights file.
"""

from __future__ import annotations

import decimal
from collections.abc import Callable
from decimal import Decimal

import numpy as np

from glc_jax.entropy.tables import (
    DEFAULT_MAGNITUDES,
    MAGNITUDES,
    PRECISION,
    STEPS_PER_OCTAVE,
    THRESHOLD_EXPONENT,
    ChannelTables,
    ScaleTables,
)

ESCAPE_FREQUENCY = 128
FLOOR_FREQUENCY = 160
MIN_RADIUS = 4
MAX_RADIUS = 1023
SMALLEST_SCALE = -3.25
LARGEST_SCALE = 6.0

LogSurvival = Callable[[np.ndarray], np.ndarray]

# Where a family's smallest scale lies: all but so many residuals are 0 there.
_CERTAIN = 2e-6
_SMALLEST_POSSIBLE = -9.0
_ESCAPED = 2.0**-10  # share of residuals outside a table, unless that makes it too wide


def tables_of_scales(log_survivals: list[LogSurvival], shapes: np.ndarray | None = None):
    """The tables of a symmetric family, from its log survival function for each shape.

    Args:
      log_survivals: x >= 0 float64 -> log P(X > x) at scale 1, one for each shape.
      shapes: increasing, where the family has a shape: a shape is coded as the nearest of them
        in the logarithm.
    """
    grid = np.arange(_SMALLEST_POSSIBLE, LARGEST_SCALE + 1e-9, 1 / STEPS_PER_OCTAVE)
    edges = np.log2(0.5) - grid
    first, frequencies, magnitudes = [], [], []
    for log_survival in log_survivals:
        certain = 2 * np.exp(log_survival(2.0**edges)) < _CERTAIN
        begin = int(certain.sum())
        first.append(begin)
        frequencies.append(_certain_zeros())
        magnitudes.append(DEFAULT_MAGNITUDES)
        for scale in 2.0 ** grid[begin:]:
            tails = _tails(log_survival, scale)
            radius = tails.size - 1
            frequencies.append(_body(tails))
            magnitudes.append(_magnitudes(log_survival, scale, radius))
    steps = np.diff(np.log2(shapes))[0] if shapes is not None and len(shapes) > 1 else 0
    between = [] if shapes is None else np.log2(shapes[1:]) - steps / 2
    return ScaleTables(
        thresholds=_units(grid - 0.5 / STEPS_PER_OCTAVE),
        frequencies=tuple(frequencies),
        magnitudes=np.array(magnitudes),
        first=np.array(first),
        shape_thresholds=_units(np.asarray(between)),
    )


def tables_of_channels(probabilities: np.ndarray, low: int) -> ChannelTables:
    """One table a channel.

    Args:
      probabilities: float64 [C, n] of the values low .. low + n - 1; what they lack of 1 lies
        outside. Each table keeps the part of them outside which few enough values lie.
    """
    lows, frequencies, magnitudes = [], [], []
    for channel in probabilities:
        below, above = np.cumsum(channel), np.cumsum(channel[::-1])[::-1]
        begin = min(int(np.searchsorted(below, _ESCAPED / 2)), channel.size - 1)
        end = max(int((above >= _ESCAPED / 2).sum()), begin + 1)
        body = channel[begin:end]
        shares = np.append(body, max(0.0, 1 - body.sum()))
        frequencies.append(_proportional(shares))
        lows.append(low + begin)
        outside = np.zeros(MAGNITUDES)
        for side in (channel[:begin][::-1], channel[end:]):
            magnitude = np.frexp(np.arange(side.size) + 1)[1] - 1
            outside += np.bincount(magnitude, side, MAGNITUDES)
        last = np.frexp(max(begin, channel.size - end) + 1)[1] - 1
        outside[min(last, MAGNITUDES - 1)] += max(0.0, 1 - channel.sum())
        known = outside.sum() > 0
        magnitudes.append(_proportional(outside) if known else DEFAULT_MAGNITUDES)
    return ChannelTables(np.array(lows), tuple(frequencies), np.array(magnitudes))


def _proportional(shares: np.ndarray) -> np.ndarray:
    """Integers, each at least 1, with the sum 2^24, in proportion to `shares`."""
    free = (1 << PRECISION) - shares.size
    frequencies = 1 + np.floor(shares / shares.sum() * free).astype(np.int64)
    frequencies[np.argmax(frequencies)] += (1 << PRECISION) - frequencies.sum()
    return frequencies


def smallest_scale(log_survival: LogSurvival) -> float:
    """The scale of the first table after that of certain zeros."""
    grid = np.arange(_SMALLEST_POSSIBLE, LARGEST_SCALE, 1 / STEPS_PER_OCTAVE)
    certain = 2 * np.exp(log_survival(0.5 / 2.0**grid)) < _CERTAIN
    return float(2.0 ** grid[int(certain.sum())])


def _units(log2: np.ndarray) -> np.ndarray:
    return np.floor(2.0 ** (log2 + THRESHOLD_EXPONENT)).astype(np.int64)


def _certain_zeros() -> np.ndarray:
    """The table of scales below the first: 1 for every other residual and the escape."""
    body = np.ones(2 * MIN_RADIUS + 2, np.int64)
    body[MIN_RADIUS] = (1 << PRECISION) - 2 * MIN_RADIUS - 1
    return body


def _tails(log_survival: LogSurvival, scale: float) -> np.ndarray:
    """P(X > k + 1/2) for k = 0 .. radius, where few enough values are outside the radius."""
    for largest in (63, MAX_RADIUS):
        tails = np.exp(log_survival((np.arange(largest + 1) + 0.5) / scale))
        enough = np.flatnonzero(2 * tails < _ESCAPED)
        if enough.size:
            return tails[: max(MIN_RADIUS, enough[0]) + 1]
    return tails


def _body(tails: np.ndarray) -> np.ndarray:
    """The frequencies of -radius .. radius and of the escape, from tails [radius + 1]."""
    shares = np.append(tails[:-1] - tails[1:], 2 * tails[-1])
    free = (1 << PRECISION) - 2 * len(tails)
    *half, escape = 1 + np.rint(shares * free).astype(np.int64)
    centre = (1 << PRECISION) - 2 * sum(half) - escape
    return np.array([*half[::-1], centre, *half, escape], np.int64)


def _magnitudes(log_survival: LogSurvival, scale: float, radius: int) -> np.ndarray:
    """The frequencies of the magnitudes of escaped residuals: excess 2^m .. 2^(m + 1) - 1."""
    starts = log_survival((radius + 2.0 ** np.arange(MAGNITUDES + 1) - 0.5) / scale)
    return _proportional(np.exp(starts[:-1] - starts[0]) - np.exp(starts[1:] - starts[0]))


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
