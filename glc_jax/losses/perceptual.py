"""LPIPS and DISTS as training losses.

Of both only x receives a gradient; the pass over y is never differentiated.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from glc_jax.metrics import dists as dists_metric
from glc_jax.metrics import lpips as lpips_metric


def lpips(params: Mapping, x: jax.Array, y: jax.Array) -> jax.Array:
    """LPIPS v0.1 of the reconstructions `x` against the images `y`, per image: float32 [B].

    x, y: [B, H, W, 3] in [-1, 1]. `params` comes from `glc_jax.metrics.lpips_weights.load`.
    """
    return lpips_metric.lpips(jax.lax.stop_gradient(params), x, jax.lax.stop_gradient(y))


def dists(params: Mapping, x: jax.Array, y: jax.Array, window: int, group: int = 1) -> jax.Array:
    """DISTS of the centres of the reconstructions `x` and of the images `y`: float32 [B / group].

    x, y: [B, H, W, 3] in [-1, 1]. A centre has at most `window` pixels a side (VGG16 costs more
    than a small model does), and `group` of them stand side by side as one picture. DISTS compares
    the mean activations of a picture. Over a small window these vary so much that the best guess
    of each is its usual value, which for rare features is none; over several windows it is their
    mean, which is what a large picture is measured by. `params` comes from
    `glc_jax.metrics.dists.load`. Raises ValueError where `group` does not divide B.
    """
    params, y = jax.lax.stop_gradient((params, y))
    pairs = (_side_by_side((_centre(image, window) + 1) / 2, group) for image in (x, y))
    return dists_metric.dists(params, *pairs)


def _centre(images: jax.Array, window: int) -> jax.Array:
    height, width = (min(size, window) for size in images.shape[1:3])
    top, left = (images.shape[1] - height) // 2, (images.shape[2] - width) // 2
    return images[:, top : top + height, left : left + width]


def _side_by_side(images: jax.Array, group: int) -> jax.Array:
    """[B, H, W, 3] -> [B / group, H, group * W, 3]."""
    count, height, width, channels = images.shape
    if count % group:
        raise ValueError(f"{count} images cannot be divided into groups of {group}")
    rows = jnp.swapaxes(images.reshape(-1, group, height, width, channels), 1, 2)
    return rows.reshape(-1, height, group * width, channels)
