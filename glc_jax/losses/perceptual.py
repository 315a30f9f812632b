"""LPIPS as a training loss."""

from collections.abc import Mapping

import jax

from glc_jax.metrics import lpips as metric


def lpips(params: Mapping, x: jax.Array, y: jax.Array) -> jax.Array:
    """LPIPS v0.1 of the reconstructions `x` against the images `y`, per image: float32 [B].

    x, y: [B, H, W, 3] in [-1, 1]. `params` comes from `glc_jax.metrics.lpips_weights.load`.
    Only x receives a gradient; the pass over y is never differentiated.
    """
    return metric.lpips(jax.lax.stop_gradient(params), x, jax.lax.stop_gradient(y))
