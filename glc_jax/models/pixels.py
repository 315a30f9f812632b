"""Between 8-bit pictures and what the models see."""

import jax
import jax.numpy as jnp


def to_model_range(pixels: jax.Array, dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """uint8 -> float in [-1, 1]."""
    return (pixels.astype(dtype) / 255 - 0.5) * 2


def to_pixels(x: jax.Array) -> jax.Array:
    """float in [-1, 1], clipped -> uint8."""
    return jnp.clip(jnp.rint((x / 2 + 0.5) * 255), 0, 255).astype(jnp.uint8)
