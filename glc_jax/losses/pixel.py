"""Distances between images, per image."""

import math

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


def colour(x: jax.Array, y: jax.Array, block: int = 32) -> jax.Array:
    """L1 of the means over blocks of `block` pixels a side: [B, H, W, C] -> float32 [B].

    A shift of colour or brightness by one level of 255 costs PSNR more than it shows in L1 beside
    what detail has. Where a side is no multiple of `block`, blocks are as large as divides both.
    """
    batch, height, width, channels = x.shape
    rows, columns = (math.gcd(side, block) for side in (height, width))
    blocks = (batch, height // rows, rows, width // columns, columns, channels)
    return jnp.mean(jnp.abs(_difference(x, y).reshape(blocks).mean((2, 4))), axis=(1, 2, 3))


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
