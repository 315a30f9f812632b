"""The generative VQ-VAE: encoder E, generator G and the vector quantiser.

The latent l has 1/16 of the image's size (1/32 for the face model) and is what GLC codes; the
codebook is used in stage I and as the target of code prediction. Layer list: GLC's public
implementation; the architecture is VQGAN's (Esser et al. 2021, arXiv 2012.09841).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from glc_jax.entropy import codebooks
from glc_jax.models.blocks import Part, Parts, run_parts
from glc_jax.models.given import Given


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

    def parts(self) -> list[Part]:
        """The chain of modules that makes E."""
        make = Parts(self.norm_groups, self.window, self.dtype)
        last = len(self.multipliers) - 1
        parts = [make.conv3x3("conv_in", self.base_channels)]
        for level, multiplier in enumerate(self.multipliers):
            features = self.base_channels * multiplier
            for i in range(self.blocks[level]):
                parts.append(make.residual(f"level_{level}_block_{i}", features))
                if level == last:
                    parts.append(make.attention(f"level_{level}_attention_{i}"))
            if level != last:
                parts.append(make.down(f"down_{level}"))
        parts.append(make.residual("middle_block_0", features))
        parts.append(make.attention("middle_attention"))
        parts.append(make.residual("middle_block_1", features))
        parts.append(make.norm("norm_out", self.output_swish))
        parts.append(make.conv3x3("conv_out", self.latent_channels))
        if self.latent_conv:
            parts.append(make.conv1x1("latent_conv", self.latent_channels))
        return parts

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        return run_parts(self.parts(), x, train, self.remat)


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

    def parts(self) -> list[Part]:
        """The chain of modules that makes G."""
        make = Parts(self.norm_groups, self.window, self.dtype)
        last = len(self.multipliers) - 1
        features = self.base_channels * self.multipliers[-1]
        parts = [make.conv1x1("latent_conv", self.latent_channels)] if self.latent_conv else []
        parts.append(make.conv3x3("conv_in", features))
        parts.append(make.residual("middle_block_0", features))
        parts.append(make.attention("middle_attention"))
        parts.append(make.residual("middle_block_1", features))
        for level in reversed(range(last + 1)):
            features = self.base_channels * self.multipliers[level]
            for i in range(self.blocks[level]):
                parts.append(make.residual(f"level_{level}_block_{i}", features))
                if level == last:
                    parts.append(make.attention(f"level_{level}_attention_{i}"))
            if level != 0:
                parts.append(make.up(f"up_{level}"))
        parts.append(make.norm("norm_out", self.output_swish))
        parts.append(make.conv3x3("conv_out", 3))
        return parts

    @nn.compact
    def __call__(self, latent: jax.Array, train: bool = False) -> jax.Array:
        return run_parts(self.parts(), latent, train, self.remat)


class VectorQuantized(NamedTuple):
    """What the quantiser gives for z [B, h, w, C].

    quantized [B, h, w, C] carries its gradient to z; indices [B, h, w] int32; loss
    and perplexity are scalars.
    """

    quantized: jax.Array
    indices: jax.Array
    loss: jax.Array
    perplexity: jax.Array


class VectorQuantizer(Given, nn.Module):
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
        return codebooks.nearest(z, self.codebook)

    def __call__(self, z: jax.Array) -> VectorQuantized:
        indices = self.nearest(jax.lax.stop_gradient(z))
        rows = self.embed(indices)
        commitment = jnp.mean((jax.lax.stop_gradient(rows) - z) ** 2)
        loss = commitment + self.codebook_weight * jnp.mean((rows - jax.lax.stop_gradient(z)) ** 2)
        share = jnp.bincount(indices.reshape(-1), length=self.codebook_size) / indices.size
        perplexity = jnp.exp(-jnp.sum(share * jnp.log(share + 1e-10)))
        return VectorQuantized(codebooks.straight_through(z, rows), indices, loss, perplexity)


class VQVAE(nn.Module):
    """E, G and the codebook of stage I, put side by side; GLC calls them one by one."""

    encoder: Encoder
    generator: Generator
    quantizer: VectorQuantizer
