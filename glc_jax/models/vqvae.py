"""The generative VQ-VAE: encoder E, generator G and the vector quantiser.

The latent l has 1/16 of the image's size (1/32 for the face model) and is what GLC codes; the
codebook is used in stage I and as the target of code prediction. Layer list: GLC's public
implementation; the architecture is VQGAN's (Esser et al. 2021, arXiv 2012.09841).
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from glc_jax.models import layers

NORM_EPSILON = 1e-6

# GroupNorm hides how bright and how colourful a picture is from every residual branch; only the
# path past the branches carries it. That path therefore keeps its scale at the start of training
# and the branches begin near zero: with PyTorch's default, colours take many times the steps.
PATH_INIT = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")
BRANCH_OUT_INIT = nn.initializers.variance_scaling(1 / 300, "fan_in", "truncated_normal")

conv1x1 = functools.partial(layers.conv1x1, init=PATH_INIT)
conv3x3 = functools.partial(layers.conv3x3, init=PATH_INIT)


def group_norm(groups: int, dtype: Any, name: str) -> nn.GroupNorm:
    """GroupNorm whose statistics run over the whole image, with scale and bias."""
    return nn.GroupNorm(
        num_groups=groups,
        epsilon=NORM_EPSILON,
        use_fast_variance=False,
        dtype=dtype,
        name=name,
    )


class ResidualBlock(nn.Module):
    """norm, swish, 3x3, norm, swish, 3x3, plus the input: [B, H, W, C] -> [B, H, W, features]."""

    features: int
    norm_groups: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        h = nn.swish(group_norm(self.norm_groups, self.dtype, "norm_1")(x))
        h = conv3x3(self.features, self.dtype, "conv_1")(h)
        h = nn.swish(group_norm(self.norm_groups, self.dtype, "norm_2")(h))
        h = conv3x3(self.features, self.dtype, "conv_2", init=BRANCH_OUT_INIT)(h)
        if x.shape[-1] != self.features:
            x = conv1x1(self.features, self.dtype, "shortcut")(x)
        return x + h


class Downsample(nn.Module):
    """Zero-pads one row below and one column right, then 3x3 of stride 2."""

    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        padding = ((0, 1), (0, 1))
        conv = nn.Conv(
            x.shape[-1],
            (3, 3),
            strides=2,
            padding=padding,
            kernel_init=PATH_INIT,
            dtype=self.dtype,
            name="conv",
        )
        return conv(x)


class Upsample(nn.Module):
    """Nearest neighbour x2, then 3x3."""

    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return layers.DoubledConv3x3(PATH_INIT, self.dtype, name="conv")(x)


def attend(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """softmax(q k^T * c^-0.5) v over all positions of a map: three [B, H, W, C] -> [B, H, W, C]."""
    b, h, w, c = q.shape
    q, k, v = (t.reshape(b, h * w, c) for t in (q, k, v))
    logits = jnp.einsum("bic,bjc->bij", q, k) * c**-0.5
    weights = jax.nn.softmax(logits.astype(jnp.float32), axis=-1).astype(v.dtype)
    return jnp.einsum("bij,bjc->bic", weights, v).reshape(b, h, w, c)


def attend_in_windows(q: jax.Array, k: jax.Array, v: jax.Array, window: int) -> jax.Array:
    """`attend` within non-overlapping windows, cut from the top left; the last ones are smaller."""
    b, h, w, c = q.shape
    full_h, full_w = h - h % window, w - w % window

    def tile(y0: int, y1: int, x0: int, x1: int, wh: int, ww: int) -> jax.Array:
        """Attention in the windows [wh, ww] that tile the rectangle [y0:y1, x0:x1]."""
        rows, columns = (y1 - y0) // wh, (x1 - x0) // ww

        def split(t):
            t = t[:, y0:y1, x0:x1].reshape(b, rows, wh, columns, ww, c)
            return t.transpose(0, 1, 3, 2, 4, 5).reshape(b * rows * columns, wh, ww, c)

        out = attend(split(q), split(k), split(v))
        out = out.reshape(b, rows, columns, wh, ww, c).transpose(0, 1, 3, 2, 4, 5)
        return out.reshape(b, y1 - y0, x1 - x0, c)

    y_spans = [(0, full_h, window), (full_h, h, h - full_h)]
    x_spans = [(0, full_w, window), (full_w, w, w - full_w)]
    strips = []
    for y0, y1, wh in y_spans:
        if y1 > y0:
            row = [tile(y0, y1, x0, x1, wh, ww) for x0, x1, ww in x_spans if x1 > x0]
            strips.append(jnp.concatenate(row, axis=2))
    return jnp.concatenate(strips, axis=1)


class AttentionBlock(nn.Module):
    """One-head self-attention, residual: [B, H, W, C] -> [B, H, W, C].

    With `train` it attends over the whole map; otherwise within `window` x `window` windows,
    which is what the published decoder does.
    """

    norm_groups: int
    window: int = 32
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        channels = x.shape[-1]
        h = group_norm(self.norm_groups, self.dtype, "norm")(x)
        q, k, v = (conv1x1(channels, self.dtype, name)(h) for name in ("q", "k", "v"))
        h = attend(q, k, v) if train else attend_in_windows(q, k, v, self.window)
        return x + conv1x1(channels, self.dtype, "out", init=BRANCH_OUT_INIT)(h)


class _Blocks(NamedTuple):
    residual: type[nn.Module]
    attention: type[nn.Module]
    down: type[nn.Module]
    up: type[nn.Module]


def _block_types(remat: bool) -> _Blocks:
    """The blocks of encoder and generator, plain or rematerialised; the parameters are the same."""
    if not remat:
        return _Blocks(ResidualBlock, AttentionBlock, Downsample, Upsample)
    attention = nn.remat(AttentionBlock, static_argnums=(2,))  # `train`; 0 is the module
    return _Blocks(nn.remat(ResidualBlock), attention, nn.remat(Downsample), nn.remat(Upsample))


class Encoder(nn.Module):
    """E: image [B, H, W, 3] in [-1, 1] -> latent l [B, H/f, W/f, latent_channels].

    One level for each entry of `multipliers`, `blocks` residual blocks in each (one number a
    level), f = 2 ** (levels - 1). Attention follows each residual block of the last level. With
    `remat` the gradient computes the blocks' insides again instead of keeping them.
    """

    base_channels: int
    multipliers: Sequence[int]
    blocks: Sequence[int]
    latent_channels: int
    norm_groups: int = 32
    window: int = 32
    latent_conv: bool = True
    output_swish: bool = True
    remat: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        blocks = _block_types(self.remat)

        def residual(features: int, name: str) -> ResidualBlock:
            return blocks.residual(features, self.norm_groups, self.dtype, name=name)

        def attention(name: str) -> AttentionBlock:
            return blocks.attention(self.norm_groups, self.window, self.dtype, name=name)

        last = len(self.multipliers) - 1
        h = conv3x3(self.base_channels, self.dtype, "conv_in")(x)
        for level, multiplier in enumerate(self.multipliers):
            features = self.base_channels * multiplier
            for i in range(self.blocks[level]):
                h = residual(features, f"level_{level}_block_{i}")(h)
                if level == last:
                    h = attention(f"level_{level}_attention_{i}")(h, train)
            if level != last:
                h = blocks.down(self.dtype, name=f"down_{level}")(h)
        h = residual(features, "middle_block_0")(h)
        h = attention("middle_attention")(h, train)
        h = residual(features, "middle_block_1")(h)
        h = group_norm(self.norm_groups, self.dtype, "norm_out")(h)
        if self.output_swish:
            h = nn.swish(h)
        h = conv3x3(self.latent_channels, self.dtype, "conv_out")(h)
        if self.latent_conv:
            h = conv1x1(self.latent_channels, self.dtype, "latent_conv")(h)
        return h


class Generator(nn.Module):
    """G: latent [B, h, w, latent_channels] -> image [B, f*h, f*w, 3], not clamped.

    Fields as in the encoder, levels counted from full resolution too.
    """

    base_channels: int
    multipliers: Sequence[int]
    blocks: Sequence[int]
    latent_channels: int
    norm_groups: int = 32
    window: int = 32
    latent_conv: bool = True
    output_swish: bool = True
    remat: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(self, latent: jax.Array, train: bool = False) -> jax.Array:
        blocks = _block_types(self.remat)

        def residual(features: int, name: str) -> ResidualBlock:
            return blocks.residual(features, self.norm_groups, self.dtype, name=name)

        def attention(name: str) -> AttentionBlock:
            return blocks.attention(self.norm_groups, self.window, self.dtype, name=name)

        last = len(self.multipliers) - 1
        features = self.base_channels * self.multipliers[-1]
        h = latent
        if self.latent_conv:
            h = conv1x1(self.latent_channels, self.dtype, "latent_conv")(h)
        h = conv3x3(features, self.dtype, "conv_in")(h)
        h = residual(features, "middle_block_0")(h)
        h = attention("middle_attention")(h, train)
        h = residual(features, "middle_block_1")(h)
        for level in reversed(range(last + 1)):
            features = self.base_channels * self.multipliers[level]
            for i in range(self.blocks[level]):
                h = residual(features, f"level_{level}_block_{i}")(h)
                if level == last:
                    h = attention(f"level_{level}_attention_{i}")(h, train)
            if level != 0:
                h = blocks.up(self.dtype, name=f"up_{level}")(h)
        h = group_norm(self.norm_groups, self.dtype, "norm_out")(h)
        if self.output_swish:
            h = nn.swish(h)
        return conv3x3(3, self.dtype, "conv_out")(h)


class VectorQuantized(NamedTuple):
    """What the quantiser gives for z [B, h, w, C].

    quantized [B, h, w, C] carries the straight-through gradient; indices [B, h, w] int32; loss
    and perplexity are scalars.
    """

    quantized: jax.Array
    indices: jax.Array
    loss: jax.Array
    perplexity: jax.Array


class VectorQuantizer(nn.Module):
    """Nearest codebook row by squared L2, with the VQ-VAE loss (van den Oord et al. 2017).

    loss = mean((sg(row) - z)^2) + codebook_weight * mean((row - sg(z))^2): as in the published
    code, the small weight is on the term that moves the codebook.
    """

    codebook_size: int
    channels: int
    codebook_weight: float = 0.25

    def setup(self):
        init = nn.initializers.uniform(2.0 / self.codebook_size)
        self.codebook = self.param(
            "codebook",
            lambda key, shape: init(key, shape) - 1.0 / self.codebook_size,
            (self.codebook_size, self.channels),
        )

    def embed(self, indices: jax.Array) -> jax.Array:
        """Codebook rows: [...] int -> [..., C]."""
        return self.codebook[indices]

    def nearest(self, z: jax.Array) -> jax.Array:
        """Indices of the nearest rows: [..., C] -> [...] int32."""
        z, codebook = z.astype(jnp.float32), self.codebook.astype(jnp.float32)
        # |z|^2 is the same for every row and left out.
        scores = jnp.sum(codebook**2, axis=1) - 2 * jnp.matmul(z, codebook.T, precision="highest")
        return jnp.argmin(scores, axis=-1).astype(jnp.int32)

    def __call__(self, z: jax.Array) -> VectorQuantized:
        indices = self.nearest(jax.lax.stop_gradient(z))
        rows = self.embed(indices)
        commitment = jnp.mean((jax.lax.stop_gradient(rows) - z) ** 2)
        loss = commitment + self.codebook_weight * jnp.mean((rows - jax.lax.stop_gradient(z)) ** 2)
        share = jnp.bincount(indices.reshape(-1), length=self.codebook_size) / indices.size
        perplexity = jnp.exp(-jnp.sum(share * jnp.log(share + 1e-10)))
        quantized = z + jax.lax.stop_gradient(rows - z)
        return VectorQuantized(quantized, indices, loss, perplexity)


class VQVAE(nn.Module):
    """E, G and the codebook of stage I, put side by side; GLC calls them one by one."""

    encoder: Encoder
    generator: Generator
    quantizer: VectorQuantizer
