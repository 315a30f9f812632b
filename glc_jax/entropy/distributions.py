"""Probabilities of integers and what they cost in bits: differentiable, finite in both tails.

A distribution is symmetric about 0 and given by its log survival function at scale 1,
log P(X > x); `bin_log_prob` makes the probability of the bin [k - 1/2, k + 1/2] of it. Residuals
are symmetric about 0 (the means are subtracted before rounding), so one tail serves both.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.scipy.special import log_ndtr

LogSurvival = Callable[[jax.Array], jax.Array]

MIN_SCALE = 1e-5
"""Scales are clamped to this from below, as in the published code; so are negative ones."""

MAX_SCALE = 1e10
ESTIMATE_FLOOR = 1e-5
"""What the published estimate adds to every probability."""

_LOG2_E = 1.4426950408889634


def gaussian_log_survival(x: jax.Array) -> jax.Array:
    """log P(X > x), X ~ N(0, 1)."""
    return log_ndtr(-x)


def laplace_log_survival(x: jax.Array) -> jax.Array:
    """log P(X > x), X ~ Laplace(0, 1)."""
    log_half = -0.6931471805599453
    # The inner minimum keeps the branch not taken from overflowing, and its gradient finite.
    return jnp.where(x > 0, log_half - x, jnp.log1p(-0.5 * jnp.exp(jnp.minimum(x, 0.0))))


def logistic_log_survival(x: jax.Array) -> jax.Array:
    """log P(X > x), X logistic with location 0 and scale 1."""
    return -jax.nn.softplus(x)


def bin_log_prob(
    values: jax.Array, scale: jax.Array, log_survival: LogSurvival = gaussian_log_survival
) -> jax.Array:
    """log of P(values - 1/2 < scale * X < values + 1/2), in nats, of the broadcast shape.

    By symmetry the bin is moved to the right half, where it is the difference of two survival
    functions; the difference is taken in the log domain, so that a bin whose probability
    underflows still has a finite log and gradient.
    """
    scale = jnp.clip(scale, MIN_SCALE, MAX_SCALE)
    magnitude = jnp.abs(values)
    upper = log_survival((magnitude + 0.5) / scale)
    lower = log_survival((magnitude - 0.5) / scale)
    return lower + _log1mexp(lower - upper)


def bin_bits(
    values: jax.Array, scale: jax.Array, log_survival: LogSurvival = gaussian_log_survival
) -> jax.Array:
    """Bits of an ideal coder for each value: -log2 of `bin_log_prob`."""
    return -_LOG2_E * bin_log_prob(values, scale, log_survival)


def gaussian_bits(values: jax.Array, scale: jax.Array) -> jax.Array:
    """The published estimate: max(0, -log2(P + 1e-5)) bits for each value, P of N(0, scale).

    Args:
      values: residuals y_q (integers as floats, or their noisy stand-ins), any shape.
      scale: of the same shape, clamped to 1e-5 .. 1e10 here.
    """
    scale = jnp.clip(scale, MIN_SCALE, MAX_SCALE)
    # In the left tail the CDF is accurate, in the right one it is not.
    magnitude = jnp.abs(values)
    probability = jax.scipy.special.ndtr((0.5 - magnitude) / scale) - jax.scipy.special.ndtr(
        (-0.5 - magnitude) / scale
    )
    return jnp.maximum(0.0, -_LOG2_E * jnp.log(probability + ESTIMATE_FLOOR))


def _log1mexp(x: jax.Array) -> jax.Array:
    """log(1 - exp(-x)) for x > 0 (Mächler 2012)."""
    small = x < 0.6931471805599453
    near_zero = jnp.log(-jnp.expm1(-jnp.where(small, jnp.maximum(x, 1e-30), 1.0)))
    far = jnp.log1p(-jnp.exp(-jnp.where(small, 1.0, x)))
    return jnp.where(small, near_zero, far)
