"""The stylist: paints what a latent shows in the manner of another picture's latent.

It stands between l_hat and G and sees both pictures at the latent's resolution. The latent takes on
the style's statistics where attention finds the like of it (AdaAttN, Liu et al. 2021, arXiv
2108.03647), which with even attention is AdaIN, and a small network goes on from there. Since a
generator of photographs draws no strokes, G's lower levels are trained anew as well; the rest of
what makes a style is its `manner` and its `colours`, which nobody has to train.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from glc_jax import weights
from glc_jax.models import colours, layers

EPSILON = 1e-5
ROWS = 4096
"""Positions of the content that attend at once: what bounds memory."""

_SMALL = nn.initializers.variance_scaling(0.01, "fan_in", "truncated_normal")
_SHARP = 0.8
_DEEPEST = ("latent_conv", "conv_in", "middle_")
"""Parts of G at the latent's resolution, beside its last level, which a stylist has no copy of."""


def _instance(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """x [B, ..., C] without each channel's mean and deviation, and these [B, 1.., C]."""
    axes = tuple(range(1, x.ndim - 1))
    mean = x.mean(axes, keepdims=True)
    deviation = jnp.sqrt(x.var(axes, keepdims=True) + EPSILON)
    return (x - mean) / deviation, mean, deviation


class StyleAttention(nn.Module):
    """The style's mean and deviation as each position of the content sees them.

    content [B, h, w, C], style [B, h', w', C] -> two of [B, h, w, C].
    """

    width: int
    dtype: Any = None

    @nn.compact
    def __call__(self, content: jax.Array, style: jax.Array) -> tuple[jax.Array, jax.Array]:
        b, h, w, c = content.shape
        q = layers.conv1x1(self.width, self.dtype, "query", init=_like)(_instance(content)[0])
        k = layers.conv1x1(self.width, self.dtype, "key", init=_like)(_instance(style)[0])
        q, k, v = (x.reshape(b, -1, x.shape[-1]) for x in (q, k, style))
        both = jnp.concatenate([v, v**2], axis=-1)

        def attend(rows: jax.Array) -> jax.Array:
            logits = jnp.einsum("bic,bjc->bij", rows, k) * self.width**-0.5
            weights = jax.nn.softmax(logits.astype(jnp.float32), axis=-1)
            return jnp.einsum("bij,bjc->bic", weights.astype(both.dtype), both)

        if h * w <= ROWS:
            seen = attend(q)
        else:
            padded = jnp.pad(q, ((0, 0), (0, -(h * w) % ROWS), (0, 0)))
            pieces = jnp.moveaxis(padded.reshape(b, -1, ROWS, self.width), 1, 0)
            seen = jnp.moveaxis(jax.lax.map(attend, pieces), 0, 1)
            seen = seen.reshape(b, -1, 2 * c)[:, : h * w]
        mean, square = jnp.split(seen.reshape(b, h, w, 2 * c), 2, axis=-1)
        return mean, jnp.sqrt(jax.nn.relu(square - mean**2) + EPSILON)


class StyleVector(nn.Module):
    """What a style is, whatever its size: latent [B, h, w, C] -> [B, width]."""

    width: int
    dtype: Any = None

    @nn.compact
    def __call__(self, style: jax.Array) -> jax.Array:
        x = nn.swish(layers.conv3x3(self.width, self.dtype, "near")(style))
        x = nn.swish(layers.conv1x1(self.width, self.dtype, "far")(x))
        pooled = []
        for maps in (style, x):
            _, mean, deviation = _instance(maps)
            pooled += [mean[:, 0, 0], deviation[:, 0, 0]]
        x = nn.swish(layers.conv1x1(self.width, self.dtype, "mixed")(jnp.concatenate(pooled, -1)))
        return layers.conv1x1(self.width, self.dtype, "vector")(x)


class StyledBlock(nn.Module):
    """Residual block whose norms have the style's scale and bias: [B, h, w, C] -> the same."""

    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, vector: jax.Array) -> jax.Array:
        channels, h = x.shape[-1], x
        for number in (1, 2):
            h = _instance(h)[0]
            moved = layers.conv1x1(2 * channels, self.dtype, f"style_{number}", init=_SMALL)(vector)
            scale, bias = jnp.split(moved[:, None, None], 2, axis=-1)
            h = nn.swish(h * (1 + scale) + bias)
            h = layers.conv3x3(channels, self.dtype, f"conv_{number}")(h)
        return x + h


class Stylist(nn.Module):
    """(content [B, h, w, C], style [B, h', w', C]) -> latent [B, h, w, C]; latents of any sizes."""

    width: int = 128
    blocks: int = 2
    dtype: Any = None

    @nn.compact
    def __call__(self, content: jax.Array, style: jax.Array) -> jax.Array:
        channels = content.shape[-1]
        vector = StyleVector(2 * self.width, self.dtype, name="vector")(style)
        mean, deviation = StyleAttention(channels, self.dtype, name="attention")(content, style)
        plain = _instance(content)[0]
        adapted = plain * deviation + mean
        x = jnp.concatenate([plain, adapted, mean], axis=-1)
        x = layers.conv3x3(self.width, self.dtype, "conv_in")(x)
        for number in range(self.blocks):
            x = StyledBlock(self.dtype, name=f"block_{number}")(x, nn.swish(vector))
        x = layers.conv1x1(channels, self.dtype, "conv_out", init=_SMALL)(x)
        mix = self.param("mix", nn.initializers.constant(0.5), (channels,))
        return content + mix * (adapted - content) + x


def _like(key: Any, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """So that attention begins with the like of a position."""
    return _SHARP * jnp.eye(*shape, dtype=dtype)


def copied(generator: Mapping[str, Any]) -> weights.Tree:
    """The lower levels of G, of which a stylist has its own; the deepest has the most values."""
    levels = {name for name in generator if name.startswith("level_")}
    deepest = "level_" + max((name.split("_")[1] for name in levels), key=int) + "_"
    return {n: part for n, part in generator.items() if not n.startswith((deepest, *_DEEPEST))}


def first_parameters(params: Mapping[str, Any], key: jax.Array) -> weights.Tree:
    """The parameters before training: half the way to AdaIN, nearly, and G as it is."""
    channels = params["vqvae"]["encoder"]["conv_out"]["bias"].shape[0]
    latent = jnp.zeros((1, 4, 4, channels))
    network = Stylist().init(key, latent, latent)["params"]
    return {"network": network, "generator": copied(params["vqvae"]["generator"])}


def own_generator(generator: Mapping[str, Any], own: Mapping[str, Any]) -> weights.Tree:
    """G's parameters with the stylist's copies."""
    copies = dict(weights.flatten(own["generator"]))
    return weights.unflatten(dict(weights.flatten(generator)) | copies)


def recoloured(generator: Mapping[str, Any], affine: colours.Affine) -> weights.Tree:
    """G's parameters with a map of colours, of one picture, behind its last layer."""
    last, matrix = generator["conv_out"], affine.matrix[0]
    changed = {"kernel": last["kernel"] @ matrix, "bias": last["bias"] @ matrix + affine.offset[0]}
    return {**generator, "conv_out": changed}


def between(one: Mapping[str, Any], other: Mapping[str, Any], share: jax.Array) -> weights.Tree:
    """From one generator's parameters, at 0, to another's, at 1."""
    return jax.tree.map(lambda a, b: a + share * (b - a), dict(one), dict(other))
