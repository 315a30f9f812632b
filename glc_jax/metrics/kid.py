"""Kernel inception distance.

Bińkowski, Sutherland, Arbel, Gretton, "Demystifying MMD GANs", ICLR 2018 (arXiv 1801.01401).
"""

from typing import NamedTuple

import numpy as np

SUBSETS = 100
SUBSET_SIZE = 1000


class KID(NamedTuple):
    """Mean and standard deviation (divisor N) over the subsets."""

    mean: float
    std: float


def kid(
    a: np.ndarray,
    b: np.ndarray,
    subsets: int = SUBSETS,
    subset_size: int = SUBSET_SIZE,
    seed: int = 0,
) -> KID:
    """The unbiased squared MMD between features a [N, D] and b [M, D], over random subsets.

    Kernel (x.y / D + 1)^3. Each of the `subsets` draws `subset_size` features of either set
    without replacement; `seed` makes the draw repeatable. Raises ValueError when a set is
    smaller than a subset.
    """
    if min(len(a), len(b)) < subset_size:
        raise ValueError(f"KID needs {subset_size} features, not {len(a)} and {len(b)}")
    rng = np.random.default_rng(seed)
    values = [
        squared_mmd(
            a[rng.choice(len(a), subset_size, replace=False)],
            b[rng.choice(len(b), subset_size, replace=False)],
        )
        for _ in range(subsets)
    ]
    return KID(float(np.mean(values)), float(np.std(values)))


def squared_mmd(a: np.ndarray, b: np.ndarray) -> float:
    """The unbiased estimate for two sets of the same size m: [m, D] and [m, D]."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    m, dimension = a.shape
    k_aa, k_bb, k_ab = ((x @ y.T / dimension + 1) ** 3 for x, y in ((a, a), (b, b), (a, b)))
    within = (k_aa.sum() - np.trace(k_aa) + k_bb.sum() - np.trace(k_bb)) / (m * (m - 1))
    return float(within - 2 * k_ab.sum() / m**2)
