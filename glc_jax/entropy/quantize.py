"""Rounding and its differentiable stand-ins.

Every function maps values to values of the same shape, so that each can be the `quantize` argument
of the context model; those that need randomness or a temperature take it as a further argument
(bind it with functools.partial). Only `round_half_even` is used when a file is written.
"""

import jax
import jax.numpy as jnp


def round_half_even(x: jax.Array) -> jax.Array:
    """The nearest integer, halves to the even one. Its gradient is 0."""
    return jnp.round(x)


def straight_through(x: jax.Array) -> jax.Array:
    """Rounds forward, passes the gradient unchanged (Theis et al. 2017, arXiv 1703.00395)."""
    return x + jax.lax.stop_gradient(jnp.round(x) - x)


def additive_noise(x: jax.Array, rng: jax.Array) -> jax.Array:
    """x + U(-1/2, 1/2), rounding's stand-in in training (Ballé et al. 2017, arXiv 1611.01704)."""
    return x + jax.random.uniform(rng, x.shape, x.dtype, -0.5, 0.5)


def universal(x: jax.Array, rng: jax.Array) -> jax.Array:
    """Rounding to a lattice with a random shift, one per sample (first axis).

    Forward: round(x - u) + u with u ~ U(-1/2, 1/2); backward: the identity. Its error has the
    distribution of `additive_noise` given x (Choi et al. 2019, arXiv 1909.07829).
    """
    shape = (x.shape[0],) + (1,) * (x.ndim - 1)
    shift = jax.random.uniform(rng, shape, x.dtype, -0.5, 0.5)
    return straight_through(x - shift) + shift


def soft_round(x: jax.Array, alpha: float | jax.Array) -> jax.Array:
    """A differentiable function between the identity (alpha -> 0) and rounding (alpha -> inf).

    s(x) = floor(x) + 1/2 + tanh(alpha r) / (2 tanh(alpha / 2)), r = x - floor(x) - 1/2
    (Agustsson and Theis 2020, arXiv 2006.09952, section 4.1). alpha is at least 1e-3 here.
    """
    alpha = jnp.maximum(alpha, 1e-3)
    centre = jnp.floor(x) + 0.5
    return centre + jnp.tanh(alpha * (x - centre)) / (2 * jnp.tanh(alpha / 2))


def soft_round_with_noise(x: jax.Array, rng: jax.Array, alpha: float | jax.Array) -> jax.Array:
    """`soft_round` and uniform noise in turn: soft_round(soft_round(x) + U(-1/2, 1/2)).

    The training-time quantiser of Agustsson and Theis 2020, section 4.1, with the second soft
    rounding in place of their conditional expectation.
    """
    return soft_round(additive_noise(soft_round(x, alpha), rng), alpha)
