"""Bjøntegaard's delta rate: how much more one codec spends for the same quality.

Bjøntegaard, VCEG-M33, 2001, with piecewise-cubic (PCHIP) interpolation of log rate over quality
as later standards do; computed by the package `bjontegaard`.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

MIN_POINTS = 2


class BDRate(NamedTuple):
    """`percent`: mean difference in rate, negative where the tested codec spends less.

    `overlap`: the share of the two curves' joint range of quality in which both have points.
    Below 0.5 the mean speaks of a small part of the curves.
    """

    percent: float
    overlap: float


def bd_rate(
    anchor_rates: Sequence[float],
    anchor_quality: Sequence[float],
    rates: Sequence[float],
    quality: Sequence[float],
    higher_is_better: bool = True,
) -> BDRate | None:
    """The rate of (rates, quality) against the anchor's, in percent over the common quality.

    Rates in any one unit (bpp), in any order; a point given twice counts once. `higher_is_better`
    is False for distances such as LPIPS or FID. None where it is not defined: fewer than two
    points of a curve, a curve whose quality does not rise with its rate, no common range of
    quality, or a value that is not finite.
    """
    import bjontegaard

    sign = 1 if higher_is_better else -1
    curves = []
    for curve in ((anchor_rates, anchor_quality), (rates, quality)):
        points = sorted({(float(r), sign * float(q)) for r, q in zip(*curve, strict=True)})
        rising = all(a[0] < b[0] and a[1] < b[1] for a, b in itertools.pairwise(points))
        usable = all(math.isfinite(q) and math.isfinite(r) and r > 0 for r, q in points)
        if len(points) < MIN_POINTS or not rising or not usable:
            return None
        curves.append(points)
    (anchor_low, anchor_high), (low, high) = ((c[0][1], c[-1][1]) for c in curves)
    common = min(anchor_high, high) - max(anchor_low, low)
    if common <= 0:
        return None
    columns = [list(column) for curve in curves for column in zip(*curve, strict=True)]
    percent = bjontegaard.bd_rate(
        *columns, method="pchip", require_matching_points=False, min_overlap=0
    )
    return BDRate(float(percent), common / (max(anchor_high, high) - min(anchor_low, low)))
