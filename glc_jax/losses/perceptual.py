"""LPIPS and DISTS as training losses.

Of both only x receives a gradient; the pass over y is never differentiated.
"""

from collections.abc import Mapping

import jax

from glc_jax.metrics import dists as dists_metric
from glc_jax.metrics import lpips as lpips_metric


def lpips(params: Mapping, x: jax.Array, y: jax.Array) -> jax.Array:
    """LPIPS v0.1 of the reconstructions `x` against the images `y`, per image: float32 [B].

    x, y: [B, H, W, 3] in [-1, 1]. `params` comes from `glc_jax.metrics.lpips_weights.load`.
    """
    return lpips_metric.lpips(jax.lax.stop_gradient(params), x, jax.lax.stop_gradient(y))


def dists(params: Mapping, x: jax.Array, y: jax.Array, window: int) -> jax.Array:
    """DISTS of the centres of the reconstructions `x` and of the images `y`: float32 [B].

    x, y: [B, H, W, 3] in [-1, 1]; the centre has at most `window` pixels a side (VGG16 costs more
    than a small model does). DISTS compares textures by their statistics over the window, so that
    a texture may lie elsewhere than in the image, where LPIPS would have it blurred. `params`
    comes from `glc_jax.metrics.dists.load`.
    """
    params, y = jax.lax.stop_gradient((params, y))
    return dists_metric.dists(params, *((_centre(image, window) + 1) / 2 for image in (x, y)))


def _centre(images: jax.Array, window: int) -> jax.Array:
    height, width = (min(size, window) for size in images.shape[1:3])
    top, left = (images.shape[1] - height) // 2, (images.shape[2] - width) // 2
    return images[:, top : top + height, left : left + width]
