"""Probabilities of rounded values and what they cost in bits: differentiable, finite everywhere.

A `Standard` is a distribution at location 0 and scale 1, symmetric about 0, given by functions of
x >= 0. `bin_log_prob` makes the log probability of the bin values -/+ 1/2 of it, at any scale:
finite, with a finite gradient, to float32's relative precision for scales from 1e-6 to 1e6 and
values up to 1e6.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf, erfc

Function = Callable[..., jax.Array]

ESTIMATE_FLOOR = 1e-5
"""What the published estimate adds to every probability."""

ESTIMATE_MIN_SCALE, ESTIMATE_MAX_SCALE = 1e-5, 1e10
"""Where the published estimate clamps scales, negative ones included."""

_LOG2_E = 1.4426950408889634
_LOG_HALF = math.log(0.5)
_NODES, _WEIGHTS = (column.tolist() for column in np.polynomial.legendre.leggauss(5))


class Standard(NamedTuple):
    """A distribution that is symmetric about 0, at scale 1, in nats, for x >= 0.

    Each function takes x and, of distributions that have one, the shape, in arrays of equal or
    broadcastable shapes. log_survival: log P(X > x). log_density: log of the density. central:
    P(-x < X < x), accurate near 0.
    """

    log_survival: Function
    log_density: Function
    central: Function


def bin_log_prob(
    values: jax.Array, scale: jax.Array, standard: Standard, *shape: jax.Array
) -> jax.Array:
    """log of P(values - 1/2 < scale * X < values + 1/2), in nats, of the broadcast shape.

    By symmetry the bin is moved to the right half. Away from 0 it is the difference of two
    survival functions, taken in the log domain, so that a bin whose probability underflows still
    has a finite log and gradient. Where the two are nearly equal, which is where scales are
    large, it is an integral of the density by Gauss and Legendre's rule instead. A bin around 0
    is one less both tails; a wide bin around or beside 0 is a difference of `central`.
    """
    arrays = jnp.broadcast_arrays(values, scale, *shape)
    dtype = jnp.result_type(*arrays, jnp.float32)
    return _bin_log_prob(standard, *(array.astype(dtype) for array in arrays))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _bin_log_prob(
    standard: Standard, values: jax.Array, scale: jax.Array, *shape: jax.Array
) -> jax.Array:
    width = 1 / scale
    magnitude = jnp.abs(values)
    edges = jnp.stack([(magnitude - 0.5) * width, (magnitude + 0.5) * width])
    lower, upper = standard.log_survival(jnp.abs(edges), *shape)

    fall = lower - upper
    falls = fall > 0.5
    by_difference = lower + log1mexp(jnp.where(falls, fall, 1.0))
    tails = jnp.exp(lower) + jnp.exp(upper)
    narrow = tails < 0.5
    by_tails = jnp.log1p(-jnp.where(narrow, tails, 0.25))

    left, right = standard.central(jnp.abs(edges), *shape)
    probability = 0.5 * (right - jnp.sign(edges[0]) * left)
    centred = magnitude < 0.5
    beside = centred | ((magnitude < 1.5) & ~falls)
    by_central = jnp.log(jnp.where(beside, probability, 1.0))
    wide = jnp.where(beside, by_central, _integral(magnitude, width, standard, shape))
    return jnp.where(
        centred, jnp.where(narrow, by_tails, wide), jnp.where(falls, by_difference, wide)
    )


@_bin_log_prob.defjvp
def _bin_log_prob_jvp(standard: Standard, primals, tangents):
    """Each partial derivative forwards, element by element: nothing is kept for a backward pass."""
    total = 0.0
    for i, tangent in enumerate(tangents):

        def along(x, i=i):
            return _bin_log_prob.fun(standard, *primals[:i], x, *primals[i + 1 :])

        _, slope = jax.jvp(along, primals[i : i + 1], (jnp.ones_like(primals[i]),))
        total += slope * tangent
    return _bin_log_prob(standard, *primals), total


def bin_bits(
    values: jax.Array, scale: jax.Array, standard: Standard, *shape: jax.Array
) -> jax.Array:
    """Bits of an ideal coder for each value: -log2 of `bin_log_prob`."""
    return -_LOG2_E * bin_log_prob(values, scale, standard, *shape)


def _integral(
    magnitude: jax.Array, width: jax.Array, standard: Standard, shape: tuple[jax.Array, ...]
) -> jax.Array:
    """log of the density's integral over the bin, in five points."""
    logs = [
        standard.log_density(jnp.abs(magnitude + 0.5 * node) * width, *shape)
        + math.log(0.5 * weight)
        for node, weight in zip(_NODES, _WEIGHTS, strict=True)
    ]
    largest = functools.reduce(jnp.maximum, logs)
    return largest + jnp.log(sum(jnp.exp(log - largest) for log in logs)) + jnp.log(width)


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
    for k in range(8, 0, -1):
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
