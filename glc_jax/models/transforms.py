"""g_a and g_s: between the latent l and what is coded, y, scaled by the rate.

Source: GLC (arXiv 2512.20194), section 3.2. The trained rate points are rows of a table; between
them the rows are interpolated linearly, so that the rate is a continuous control.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from glc_jax.models.given import Given
from glc_jax.models.layers import GatedDepthConvBlock

BLOCKS_PER_SIDE = 2


def interpolate_rate_scale(table: jax.Array, rate: jax.Array) -> jax.Array:
    """Row `rate` of table [P, C], linear between rows: rate [B] in [0, P - 1] -> [B, C].

    Rates outside the range take the nearest end.
    """
    last = table.shape[0] - 1
    rate = jnp.clip(rate.astype(jnp.float32), 0, last)
    low = jnp.minimum(jnp.floor(rate).astype(jnp.int32), max(last - 1, 0))
    weight = (rate - low)[:, None].astype(table.dtype)
    high = jnp.minimum(low + 1, last)
    return table[low] * (1 - weight) + table[high] * weight


def rate_scale_init(first: float, last: float):
    """Rows that run geometrically from `first` to `last`, the same for every channel."""

    def init(key, shape, dtype=jnp.float32):
        del key
        return jnp.broadcast_to(jnp.geomspace(first, last, shape[0], dtype=dtype)[:, None], shape)

    return init


class RateScaledTransform(Given, nn.Module):
    """Two blocks, a multiplication by the rate's row, two blocks.

    Shapes: x [B, H, W, C], rate [B] -> [B, H, W, C]. `first_scale` and `last_scale` initialise
    the rows of the lowest and of the highest rate.
    """

    rate_points: int
    first_scale: float
    last_scale: float
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, rate: jax.Array) -> jax.Array:
        table = self.param(
            "rate_scale",
            rate_scale_init(self.first_scale, self.last_scale),
            (self.rate_points, x.shape[-1]),
        )
        for i in range(BLOCKS_PER_SIDE):
            x = GatedDepthConvBlock(self.dtype, name=f"before_{i}")(x)
        scale = interpolate_rate_scale(table, rate)[:, None, None, :]
        x = x * scale.astype(x.dtype)
        for i in range(BLOCKS_PER_SIDE):
            x = GatedDepthConvBlock(self.dtype, name=f"after_{i}")(x)
        return x
