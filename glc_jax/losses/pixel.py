"""Distances between images, per image."""

import chex
import jax
import jax.numpy as jnp


def l1(x: jax.Array, y: jax.Array) -> jax.Array:
    """Mean absolute difference of each image, over height, width and channels: float32 [B].

    x, y: [B, H, W, C].
    """
    return jnp.mean(jnp.abs(_difference(x, y)), axis=(1, 2, 3))


def l2(x: jax.Array, y: jax.Array) -> jax.Array:
    """Mean squared difference of each image, over height, width and channels: float32 [B].

    x, y: [B, H, W, C].
    """
    return jnp.mean(_difference(x, y) ** 2, axis=(1, 2, 3))


def multiscale_l1(x: jax.Array, y: jax.Array, scales: int = 3) -> jax.Array:
    """L1 of the pictures at 1/2, 1/4 and 1/8 of their size, averaged: [B, H, W, C] -> [B].

    H and W must be multiples of 2^scales.
    """
    total = jnp.zeros(x.shape[0], jnp.float32)
    for _ in range(scales):
        x, y = _halved(x), _halved(y)
        total = total + l1(x, y)
    return total / scales


def _difference(x: jax.Array, y: jax.Array) -> jax.Array:
    """x - y in float32, of pictures of one shape: one that is broadcast would be a mistake."""
    chex.assert_rank(x, 4)
    chex.assert_equal_shape((x, y))
    return x.astype(jnp.float32) - y.astype(jnp.float32)


def _halved(x: jax.Array) -> jax.Array:
    """Means of 2x2 pixels: [B, H, W, C] -> [B, H/2, W/2, C]."""
    chex.assert_rank(x, 4)
    b, h, w, c = x.shape
    return jnp.mean(x.reshape(b, h // 2, 2, w // 2, 2, c), axis=(2, 4))
