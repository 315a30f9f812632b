"""The affine map of colours that gives one picture the means and covariances of another's.

The map of Monge and Kantorovich, which moves colours the least (Pitie and Kokaram, "The linear
Monge-Kantorovitch linear colour mapping for example-based colour transfer", CVMP 2007).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

FLOOR = 0.05**2
"""Added to variances, of pixels in [-1, 1]: a picture of one colour has no colours to spread."""


class Moments(NamedTuple):
    """Of colours: mean [B, 3] and covariance [B, 3, 3]."""

    mean: jax.Array
    covariance: jax.Array


class Affine(NamedTuple):
    """colours @ matrix [B, 3, 3] + offset [B, 3]."""

    matrix: jax.Array
    offset: jax.Array


def moments(picture: jax.Array) -> Moments:
    """Those of [B, H, W, 3] in [-1, 1]."""
    flat = picture.reshape(picture.shape[0], -1, 3).astype(jnp.float32)
    mean = flat.mean(1)
    centred = flat - mean[:, None]
    return Moments(mean, jnp.einsum("bic,bid->bcd", centred, centred) / flat.shape[1])


def mapping(given: Moments, wanted: Moments) -> Affine:
    """The map from colours of `given` moments to those `wanted`.

    The matrix is taken as a constant: no gradient flows through it.
    """
    a, b = (m.covariance + FLOOR * jnp.eye(3) for m in (given, wanted))
    root, inverse = _roots(a)
    middle, _ = _roots(root @ b @ root)
    matrix = jax.lax.stop_gradient(inverse @ middle @ inverse)
    return Affine(matrix, wanted.mean - jnp.einsum("bc,bcd->bd", given.mean, matrix))


def _roots(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Square roots of a positive matrix [B, 3, 3] and of its inverse."""
    values, vectors = jnp.linalg.eigh(jax.lax.stop_gradient(matrix))
    roots = jnp.sqrt(jnp.maximum(values, 1e-8))[:, None]
    turned = jnp.swapaxes(vectors, 1, 2)
    return (vectors * roots) @ turned, (vectors / roots) @ turned
