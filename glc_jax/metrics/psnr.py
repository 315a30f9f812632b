"""Peak signal-to-noise ratio."""

import jax
import jax.numpy as jnp


def psnr(x: jax.Array, y: jax.Array) -> jax.Array:
    """10 log10(255^2 / mean squared error) of each pair of 8-bit pictures: float32 [B], in dB.

    x, y: [B, H, W, C] with values 0..255, of any dtype; the mean is over all channels. Equal
    pictures give infinity.
    """
    difference = x.astype(jnp.float32) - y.astype(jnp.float32)
    return 10 * jnp.log10(255.0**2 / jnp.mean(difference**2, axis=(1, 2, 3)))
