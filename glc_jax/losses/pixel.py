"""Distances between images, per image."""

import jax
import jax.numpy as jnp


def l1(x: jax.Array, y: jax.Array) -> jax.Array:
    """Mean absolute difference of each image, over height, width and channels: float32 [B].

    x, y: [B, H, W, C].
    """
    difference = x.astype(jnp.float32) - y.astype(jnp.float32)
    return jnp.mean(jnp.abs(difference), axis=(1, 2, 3))


def l2(x: jax.Array, y: jax.Array) -> jax.Array:
    """Mean squared difference of each image, over height, width and channels: float32 [B].

    x, y: [B, H, W, C].
    """
    difference = x.astype(jnp.float32) - y.astype(jnp.float32)
    return jnp.mean(difference**2, axis=(1, 2, 3))
