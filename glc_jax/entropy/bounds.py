"""Bounds whose gradient does not die."""

from typing import Any

import jax
import jax.numpy as jnp


def lower_bound(x: jax.Array, bound: float | jax.Array) -> jax.Array:
    """max(x, bound), whose gradient still passes where it would move x up to the bound.

    Ballé et al. 2018 (arXiv 1802.01436), section 6.1.
    """
    return _lower_bound(x, jnp.broadcast_to(jnp.asarray(bound, x.dtype), x.shape))


def upper_bound(x: jax.Array, bound: float) -> jax.Array:
    """min(x, bound), whose gradient still passes where it would move x down to the bound."""
    return -lower_bound(-x, -bound)


@jax.custom_vjp
def _lower_bound(x: jax.Array, bound: jax.Array) -> jax.Array:
    return jnp.maximum(x, bound)


def _lower_bound_forward(x: jax.Array, bound: jax.Array) -> tuple[jax.Array, Any]:
    return jnp.maximum(x, bound), (x, bound)


def _lower_bound_backward(residuals: Any, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, bound = residuals
    passes = (x >= bound) | (gradient < 0)
    return jnp.where(passes, gradient, 0), jnp.zeros_like(bound)


_lower_bound.defvjp(_lower_bound_forward, _lower_bound_backward)
