"""Bits of rounded values and their gradients in mpmath, to any precision: what float32 should say.

Each distribution is its survival function and its density at scale 1, for x >= 0.
"""

import mpmath as mp
import numpy as np

mp.mp.dps = 60


def _student_t(degrees):
    norm = mp.gamma((degrees + 1) / 2) / mp.sqrt(degrees * mp.pi) / mp.gamma(degrees / 2)
    return (
        lambda x: (
            mp.betainc(degrees / 2, 0.5, 0, degrees / (degrees + x * x), regularized=True) / 2
        ),
        lambda x: norm * (1 + x * x / degrees) ** (-(degrees + 1) / 2),
    )


def _generalised_gaussian(shape):
    return (
        lambda x: mp.gammainc(1 / shape, x**shape, mp.inf, regularized=True) / 2,
        lambda x: shape / 2 / mp.gamma(1 / shape) * mp.exp(-(x**shape)),
    )


DISTRIBUTIONS = {
    "gaussian": (lambda x: mp.erfc(x / mp.sqrt(2)) / 2, mp.npdf),
    "laplace": (lambda x: mp.exp(-x) / 2, lambda x: mp.exp(-x) / 2),
    "logistic": (lambda x: 1 / (1 + mp.exp(x)), lambda x: mp.exp(-x) / (1 + mp.exp(-x)) ** 2),
    "student_t": _student_t(mp.mpf(4)),
    "generalised_gaussian": _generalised_gaussian(mp.mpf(0.75)),
}


def bits_and_gradients(distribution, value, scale):
    """(bits, their derivative by the value, by the scale) of one float32 value and scale."""
    survival, density = distribution
    value, scale = (mp.mpf(float(np.float32(x))) for x in (value, scale))
    magnitude = abs(value)
    lower, upper = (magnitude - 0.5) / scale, (magnitude + 0.5) / scale
    low, high = survival(abs(lower)), survival(upper)
    probability = low - high if lower >= 0 else 1 - low - high
    density_lower, density_upper = density(abs(lower)), density(upper)
    by_value = (density_upper - density_lower) / scale * mp.sign(value)
    by_scale = (lower * density_lower - upper * density_upper) / scale
    to_bits = -1 / (probability * mp.log(2))
    return -mp.log(probability, 2), by_value * to_bits, by_scale * to_bits
