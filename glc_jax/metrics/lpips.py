"""LPIPS v0.1 with its AlexNet or VGG16 trunk.

Zhang, Isola, Efros, Shechtman, Wang, "The unreasonable effectiveness of deep features as a
perceptual metric", CVPR 2018 (arXiv 1801.03924); the released linear weights, version 0.1.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from glc_jax.metrics.features import alexnet, vgg16

# ImageNet's mean and deviation, on the scale of [-1, 1] pixels.
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)
_EPSILON = 1e-10


def lpips(params: Mapping, x: jax.Array, y: jax.Array) -> jax.Array:
    """The perceptual distance of each pair of images, differentiable: float32 [B].

    `params` is a tree of `lpips_weights.load`; its size tells which network it is. `x` and `y`
    [B, H, W, 3] in [-1, 1], H and W at least 31 (alex) or 16 (vgg); both are compared in the
    dtype that they come in.
    """
    trunk = vgg16 if "conv_12" in params["features"] else alexnet
    # Two passes and not one of a joined batch: a loss then needs no gradient of y's pass.
    features_x = trunk.features(params["features"], normalised(x))
    features_y = trunk.features(params["features"], normalised(y))
    distance = jnp.zeros(x.shape[0], jnp.float32)
    for i, (a, b) in enumerate(zip(features_x, features_y, strict=True)):
        difference = (_unit(a) - _unit(b)) ** 2 @ jnp.asarray(params["heads"][f"head_{i}"], a.dtype)
        distance += jnp.mean(difference, axis=(1, 2), dtype=jnp.float32)
    return distance


def normalised(x: jax.Array) -> jax.Array:
    """Pixels in [-1, 1] as both trunks take them."""
    return (x - jnp.asarray(_SHIFT, x.dtype)) / jnp.asarray(_SCALE, x.dtype)


def _unit(x: jax.Array) -> jax.Array:
    """Each position's feature vector at length 1; zero stays zero, with a finite gradient."""
    squares = jnp.sum(x.astype(jnp.float32) ** 2, axis=-1, keepdims=True)
    length = jnp.sqrt(squares + _EPSILON**2) + _EPSILON
    return x / length.astype(x.dtype)
