"""Standards with a shape: Student's t and the generalised Gaussian.

Their survival functions are one form near 0 and another in the tail, both of few plain terms, so
that gradients (the one by the shape too) need no rules of their own.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln

from glc_jax.entropy.distributions import Standard

_LOG_HALF = math.log(0.5)
_LARGEST_EXPONENT = 60.0  # |x|^shape stays below e^60, and its gradients within float32


@functools.cache
def student_t(degrees: float) -> Standard:
    """Student's t with `degrees` of freedom, 1 to 16: its tails fall like x^-degrees.

    P(X > x) = I_z(degrees / 2, 1/2) / 2, z = degrees / (degrees + x^2), I the regularised
    incomplete beta function (Abramowitz and Stegun 26.7.1, fraction 26.5.8).
    """
    if not 1 <= degrees <= 16:
        raise ValueError(f"degrees of freedom must lie in 1 .. 16, not {degrees}")
    half = degrees / 2
    log_beta = math.lgamma(half) + math.lgamma(0.5) - math.lgamma(half + 0.5)
    split = math.sqrt(degrees * 1.5 / (half + 1))  # where both continued fractions are good

    def log_density(x: jax.Array) -> jax.Array:
        constant = -log_beta - 0.5 * math.log(degrees)
        return constant - (half + 0.5) * jnp.log1p(x * x / degrees)

    def parts(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """(whether x is in the tail, P(-x < X < x) if not, log P(X > x) if so)."""
        far = x > split
        large, small = jnp.where(far, x, 2 * split), jnp.where(far, 0.5 * split, x)
        log_z, log_1mz = -jnp.log1p(large**2 / degrees), -jnp.log1p(degrees / large**2)
        tail = half * log_z + 0.5 * log_1mz - jnp.log(_beta_fraction(jnp.exp(log_z), half, 0.5))
        tail += _LOG_HALF - log_beta - math.log(half)
        norm = degrees + small * small
        near = small * jax.lax.rsqrt(norm) * jnp.exp(half * jnp.log(degrees / norm) - log_beta)
        return far, near * 2 / _beta_fraction(small**2 / norm, 0.5, half), tail

    def log_survival(x: jax.Array) -> jax.Array:
        far, near, tail = parts(x)
        return jnp.where(far, tail, _LOG_HALF + jnp.log1p(-near))

    def central(x: jax.Array) -> jax.Array:
        far, near, tail = parts(x)
        return jnp.where(far, 1 - 2 * jnp.exp(tail), near)

    return Standard(log_survival, log_density, central)


def _beta_fraction(x: jax.Array, a: float, b: float, terms: int = 6) -> jax.Array:
    """The continued fraction F of I_x(a, b) = x^a (1 - x)^b / (a B(a, b) F)."""
    fraction = jnp.ones_like(x)
    for m in range(terms, -1, -1):
        even = (m + 1) * (b - m - 1) / ((a + 2 * m + 1) * (a + 2 * m + 2))
        odd = -(a + m) * (a + b + m) / ((a + 2 * m) * (a + 2 * m + 1))
        fraction = 1 + odd * x / (1 + even * x / fraction)
    return fraction


def _gg_log_density(x: jax.Array, shape: jax.Array) -> jax.Array:
    _, z = _gg_log_and_power(x, shape)
    return jnp.log(0.5 * shape) - gammaln(1 / shape) - z


def _gg_log_and_power(x: jax.Array, shape: jax.Array) -> tuple[jax.Array, jax.Array]:
    """log x and x^shape."""
    log_x = jnp.log(jnp.where(x > 1e-30, x, 1e-30))
    return log_x, jnp.exp(jnp.minimum(shape * log_x, _LARGEST_EXPONENT))


def _gg_parts(x: jax.Array, shape: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(whether x is in the tail, P(-x < X < x) if not, log P(X > x) if so)."""
    a = 1 / shape
    log_x, z = _gg_log_and_power(x, shape)
    log_gamma = gammaln(a)
    far = z > 1
    small, z_small = jnp.where(far, 0.5, x), jnp.where(far, 0.5, z)
    series = jnp.ones_like(z)
    for n in reversed(range(11)):
        series = 1 + z_small / (a + 1 + n) * series
    near = shape * small * jnp.exp(-z_small - log_gamma) * series

    z = jnp.where(far, z, 2.0)
    fraction = z + 33 - a
    for n in range(16, 0, -1):
        fraction = z + (2 * n - 1) - a - n * (n - a) / fraction
    tail = _LOG_HALF + jnp.where(far, log_x, 1.0) - z - log_gamma - jnp.log(fraction)
    return far, near, tail


def _gg_log_survival(x: jax.Array, shape: jax.Array) -> jax.Array:
    far, near, tail = _gg_parts(x, shape)
    return jnp.where(far, tail, _LOG_HALF + jnp.log1p(-near))


def _gg_central(x: jax.Array, shape: jax.Array) -> jax.Array:
    far, near, tail = _gg_parts(x, shape)
    return jnp.where(far, 1 - 2 * jnp.exp(tail), near)


GENERALISED_GAUSSIAN = Standard(_gg_log_survival, _gg_log_density, _gg_central)
"""Density shape / (2 Gamma(1 / shape)) exp(-|x|^shape), shapes 0.5 to 4; takes the shape.

Shape 2 is a Gaussian of variance 1/2, shape 1 a Laplace distribution. P(X > x) =
Q(1 / shape, x^shape) / 2, Q the regularised incomplete gamma function (Abramowitz and Stegun
6.5.29, 6.5.31). x^shape is held below e^60, beyond which there is no gradient.
"""
