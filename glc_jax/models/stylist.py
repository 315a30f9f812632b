"""The stylist: paints what a latent shows in the manner of another picture's latent.

It stands between l_hat and G and sees both pictures at the latent's resolution. What it gives is a
latent and, since a generator that was trained on photographs draws no strokes, a generator as
well: the lower levels of G trained anew, and every norm's scale and bias moved by the style, as in
conditional instance normalisation (Dumoulin et al. 2017, arXiv 1610.07629; predicted from any
style by Ghiasi et al. 2017, arXiv 1705.06830). The latent takes on the style's statistics where
attention finds the like of it (AdaAttN, Liu et al. 2021, arXiv 2108.03647), which with even
attention is AdaIN (Huang and Belongie 2017, arXiv 1703.06868).
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
    """(content [B, h, w, C], style [B, h', w', C]) -> (latent [B, h, w, C], moves).

    Latents of any two sizes. moves: for each of `norms`, paths of G's parameters and their sizes,
    [B, size], which is added to it.
    """

    norms: tuple[tuple[str, int], ...]
    width: int = 128
    blocks: int = 2
    dtype: Any = None

    @nn.compact
    def __call__(
        self, content: jax.Array, style: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
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
        total = sum(size for _, size in self.norms)
        h = nn.swish(layers.conv1x1(self.width, self.dtype, "moves_in")(nn.swish(vector)))
        moves = layers.conv1x1(total, self.dtype, "moves_out", init=_SMALL)(h)
        ends, start = {}, 0
        for path, size in self.norms:
            ends[path] = moves[:, start : start + size].astype(jnp.float32)
            start += size
        mix = self.param("mix", nn.initializers.constant(0.25), (channels,))
        return content + mix * (adapted - content) + x, ends


def _like(key: Any, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """So that attention begins with the like of a position."""
    return _SHARP * jnp.eye(*shape, dtype=dtype)


def norms_of(generator: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
    """The scales and biases of the norms among G's parameters, and their sizes."""
    return tuple(
        (path, leaf.shape[0])
        for path, leaf in weights.flatten(generator)
        if path.split("/")[-2].startswith("norm")
    )


def copied(generator: Mapping[str, Any]) -> weights.Tree:
    """The lower levels of G, of which a stylist has its own; the deepest has the most values."""
    levels = {name for name in generator if name.startswith("level_")}
    deepest = "level_" + max((name.split("_")[1] for name in levels), key=int) + "_"
    return {n: part for n, part in generator.items() if not n.startswith((deepest, *_DEEPEST))}


def first_parameters(params: Mapping[str, Any], key: jax.Array) -> weights.Tree:
    """The parameters before training: AdaIN, nearly, and G as it is."""
    generator = params["vqvae"]["generator"]
    channels = params["vqvae"]["encoder"]["conv_out"]["bias"].shape[0]
    latent = jnp.zeros((1, 4, 4, channels))
    network = of(generator).init(key, latent, latent)["params"]
    return {"network": network, "generator": copied(generator)}


def of(generator: Mapping[str, Any], dtype: Any = None) -> Stylist:
    """The stylist that fits a generator's parameters."""
    return Stylist(norms_of(generator), dtype=dtype)


def styled_generator(
    generator: Mapping[str, Any], own: Mapping[str, Any], moves: Mapping[str, jax.Array]
) -> weights.Tree:
    """G's parameters in a style.

    own: the stylist's copy. moves: those of one picture, {path: [size]}.
    """
    moved = dict(weights.flatten(generator)) | dict(weights.flatten(own))
    for path, move in moves.items():
        moved[path] = moved[path] + move
    return weights.unflatten(moved)


def recoloured(generator: Mapping[str, Any], affine: colours.Affine) -> weights.Tree:
    """G's parameters with a map of colours, of one picture, behind its last layer."""
    last, matrix = generator["conv_out"], affine.matrix[0]
    changed = {"kernel": last["kernel"] @ matrix, "bias": last["bias"] @ matrix + affine.offset[0]}
    return {**generator, "conv_out": changed}


def between(one: Mapping[str, Any], other: Mapping[str, Any], share: jax.Array) -> weights.Tree:
    """From one generator's parameters, at 0, to another's, at 1."""
    return jax.tree.map(lambda a, b: a + share * (b - a), dict(one), dict(other))
