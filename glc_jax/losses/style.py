"""Style and content of pictures as VGG16 sees them.

Gatys, Ecker, Bethge, "Image style transfer using convolutional neural networks", CVPR 2016: style
is which features come together, wherever they are (Gram matrices); content is which are where. The
layers are those of Johnson et al., "Perceptual losses for real-time style transfer" (arXiv
1603.08155). Both are shares of what the pictures have, so that no layer and no pale or dark picture
counts for more than another.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from glc_jax.metrics.features import vgg16
from glc_jax.metrics.lpips import normalised

STYLE_LAYERS = 4
"""relu1_2, relu2_2, relu3_3 and relu4_3; the colours themselves come before them."""

CONTENT_LAYER = 2
"""relu3_3."""


def style(params: Mapping, x: jax.Array, y: jax.Array) -> jax.Array:
    """How far the Gram matrices of x are from those of y: float32 [B].

    Of each layer |G_x - G_y|^2 / (|G_x|^2 + |G_y|^2), and their mean: 0 to 1. x [B, H, W, 3] and
    y [B, H', W', 3], in [-1, 1], may differ in size; x alone receives a gradient, and none through
    the denominator. `params`: `lpips_weights.load("vgg")`.
    """
    return apart(grams(params, x), jax.lax.stop_gradient(grams(params, y)))


def apart(x: list[jax.Array], y: list[jax.Array]) -> jax.Array:
    """`style` of the pictures whose Gram matrices these are."""
    distances = []
    for a, b in zip(x, y, strict=True):
        distances.append(_share(a, b))
    return sum(distances) / len(distances)


def grams(params: Mapping, x: jax.Array) -> list[jax.Array]:
    """Means of products of two features over x [B, H, W, 3]: float32 [B, C, C] of each layer.

    Of the colours, beside whose products are their means, and of VGG16's layers.
    """
    found = []
    colours = jnp.concatenate([x, jnp.ones_like(x[..., :1])], axis=-1)
    for layer in [colours, *features(params, x)[:STYLE_LAYERS]]:
        flat = layer.reshape(layer.shape[0], -1, layer.shape[-1])
        product = jnp.einsum("bic,bid->bcd", flat, flat, preferred_element_type=jnp.float32)
        found.append(product / flat.shape[1])
    return found


def content(params: Mapping, x: jax.Array, y: jax.Array) -> jax.Array:
    """The squared distance of x's features F from y's, as a share of both: float32 [B].

    |F_x - F_y|^2 / (|F_x|^2 + |F_y|^2), 0 to 1. x, y [B, H, W, 3] in [-1, 1]; x alone receives a
    gradient, and none through the denominator.
    """
    a, b = (features(params, picture)[CONTENT_LAYER] for picture in (x, y))
    return _share(a, jax.lax.stop_gradient(b))


def _share(a: jax.Array, b: jax.Array) -> jax.Array:
    """|a - b|^2 / (|a|^2 + |b|^2) of each row."""
    axes = tuple(range(1, a.ndim))
    whole = jnp.sum(a**2, axes) + jnp.sum(b**2, axes)
    return jnp.sum((a - b) ** 2, axes) / (jax.lax.stop_gradient(whole) + 1e-6)


def features(params: Mapping, x: jax.Array) -> list[jax.Array]:
    """VGG16's, of pictures [B, H, W, 3] in [-1, 1]; x alone receives a gradient."""
    return vgg16.features(jax.lax.stop_gradient(params["features"]), normalised(x))
