"""Probabilities of rounded values and what they cost in bits: differentiable, finite everywhere.

A `Standard` is a distribution at location 0 and scale 1, symmetric about 0, given by functions of
x >= 0. `bin_log_prob` makes the log probability of the bin values -/+ 1/2 of it, at any scale:
finite, with a finite gradient, to float32's relative precision for scales from 1e-6 to 1e6 and
values up to 1e6.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf, erfc

Function = Callable[[jax.Array], jax.Array]

ESTIMATE_FLOOR = 1e-5
"""What the published estimate adds to every probability."""

ESTIMATE_MIN_SCALE, ESTIMATE_MAX_SCALE = 1e-5, 1e10
"""Where the published estimate clamps scales, negative ones included."""

_LOG2_E = 1.4426950408889634
_LOG_HALF = math.log(0.5)
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(5)


class Standard(NamedTuple):
    """A distribution that is symmetric about 0, at scale 1, in nats, for x >= 0.

    log_survival: log P(X > x). log_density: log of the density. central: P(-x < X < x); None
    where it has no form that is accurate near 0, if the density is smooth there.
    """

    log_survival: Function
    log_density: Function
    central: Function | None = None


def bin_log_prob(values: jax.Array, scale: jax.Array, standard: Standard) -> jax.Array:
    """log of P(values - 1/2 < scale * X < values + 1/2), in nats, of the broadcast shape.

    By symmetry the bin is moved to the right half. Away from 0 it is the difference of two
    survival functions, taken in the log domain, so that a bin whose probability underflows still
    has a finite log and gradient. Where the two are nearly equal, which is where scales are
    large, it is an integral of the density by Gauss and Legendre's rule instead. The bin around 0
    is one less both tails.
    """
    width = 1 / scale
    magnitude = jnp.abs(values)
    centred = magnitude < 0.5
    lower = standard.log_survival(jnp.abs(magnitude - 0.5) * width)
    upper = standard.log_survival((magnitude + 0.5) * width)
    integral = _integral(magnitude, width, standard)

    fall = lower - upper
    falls = fall > 0.5
    by_difference = lower + log1mexp(jnp.where(falls, fall, 1.0))
    outside = jnp.where(falls, by_difference, integral)

    tails = jnp.exp(lower) + jnp.exp(upper)
    narrow = tails < 0.5
    by_tails = jnp.log1p(-jnp.where(narrow, tails, 0.25))
    near = integral if standard.central is None else _central(magnitude, width, standard.central)
    inside = jnp.where(narrow, by_tails, near)
    return jnp.where(centred, inside, outside)


def bin_bits(values: jax.Array, scale: jax.Array, standard: Standard) -> jax.Array:
    """Bits of an ideal coder for each value: -log2 of `bin_log_prob`."""
    return -_LOG2_E * bin_log_prob(values, scale, standard)


def _integral(magnitude: jax.Array, width: jax.Array, standard: Standard) -> jax.Array:
    """log of the density's integral over the bin, in five points."""
    logs = [
        standard.log_density(jnp.abs(magnitude + 0.5 * node) * width) + math.log(0.5 * weight)
        for node, weight in zip(_NODES, _WEIGHTS, strict=True)
    ]
    largest = jax.lax.stop_gradient(jnp.max(jnp.stack(jnp.broadcast_arrays(*logs)), axis=0))
    return largest + jnp.log(sum(jnp.exp(log - largest) for log in logs)) + jnp.log(width)


def _central(magnitude: jax.Array, width: jax.Array, central: Function) -> jax.Array:
    """log of the probability of a bin that contains 0: half of either side's, added."""
    left = central(jnp.maximum(0.5 - magnitude, 0) * width)
    right = central((magnitude + 0.5) * width)
    return jnp.log(0.5 * (left + right))


@jax.custom_jvp
def log1mexp(x: jax.Array) -> jax.Array:
    """log(1 - exp(-x)) for x > 0, accurate at both ends (Mächler 2012)."""
    small = x < 0.6931472
    return jnp.where(
        small,
        jnp.log(-jnp.expm1(-jnp.where(small, x, 0.5))),
        jnp.log1p(-jnp.exp(-jnp.where(small, 1.0, x))),
    )


@log1mexp.defjvp
def _log1mexp_jvp(primals, tangents):
    (x,), (tangent,) = primals, tangents
    return log1mexp(x), tangent / jnp.expm1(jnp.minimum(x, 80.0))


def _gaussian_log_survival(x: jax.Array) -> jax.Array:
    """log Q(x): by erfc up to 4, beyond by the continued fraction of Mills' ratio (Laplace)."""
    far = x > 4
    by_erfc = jnp.log(0.5 * erfc(jnp.where(far, 4.0, x) * math.sqrt(0.5)))
    large = jnp.where(far, x, 4.0)
    tail = large
    for k in range(16, 0, -1):
        tail = large + k / tail
    by_fraction = _gaussian_log_density(large) - jnp.log(tail)
    return jnp.where(far, by_fraction, by_erfc)


def _gaussian_log_density(x: jax.Array) -> jax.Array:
    return -0.5 * x * x - 0.5 * math.log(2 * math.pi)


GAUSSIAN = Standard(
    log_survival=_gaussian_log_survival,
    log_density=_gaussian_log_density,
    central=lambda x: erf(x * math.sqrt(0.5)),
)

LAPLACE = Standard(
    log_survival=lambda x: _LOG_HALF - x,
    log_density=lambda x: _LOG_HALF - x,
    central=lambda x: -jnp.expm1(-x),
)

LOGISTIC = Standard(
    log_survival=lambda x: -jax.nn.softplus(x),
    log_density=lambda x: -x - 2 * jnp.log1p(jnp.exp(-x)),
    central=lambda x: jnp.tanh(0.5 * x),
)


def gaussian_bits(values: jax.Array, scale: jax.Array) -> jax.Array:
    """The published estimate: max(0, -log2(P + 1e-5)) bits for each value, P of N(0, scale).

    Args:
      values: residuals y_q (integers as floats, or their noisy stand-ins), any shape.
      scale: of the same shape, clamped to 1e-5 .. 1e10 here.
    """
    scale = jnp.clip(scale, ESTIMATE_MIN_SCALE, ESTIMATE_MAX_SCALE)
    # In the left tail the CDF is accurate, in the right one it is not.
    magnitude = jnp.abs(values)
    probability = jax.scipy.special.ndtr((0.5 - magnitude) / scale) - jax.scipy.special.ndtr(
        (-0.5 - magnitude) / scale
    )
    return jnp.maximum(0.0, -_LOG2_E * jnp.log(probability + ESTIMATE_FLOOR))
