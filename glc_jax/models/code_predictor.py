"""The transformer that predicts the VQ-VAE's code index at each latent position.

Used in training only: its cross entropy makes the decoded latent keep what the codebook
distinguishes (GLC, section 3.4; the architecture is CodeFormer's, Zhou et al. 2022).
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

NORM_EPSILON = 1e-5


class TransformerLayer(nn.Module):
    """Pre-norm attention and MLP; positions are added to queries and keys, not to values.

    Shapes: tokens [B, T, D], positions [T, D] -> [B, T, D].
    """

    heads: int
    mlp_width: int
    dtype: Any = None

    @nn.compact
    def __call__(self, tokens: jax.Array, positions: jax.Array) -> jax.Array:
        batch, length, width = tokens.shape

        def dense(features: int, name: str) -> nn.Dense:
            return nn.Dense(features, dtype=self.dtype, name=name)

        def split_heads(t: jax.Array) -> jax.Array:
            return t.reshape(batch, length, self.heads, width // self.heads)

        h = nn.LayerNorm(NORM_EPSILON, dtype=self.dtype, name="norm_1")(tokens)
        located = h + positions.astype(h.dtype)
        q = split_heads(dense(width, "q")(located))
        k = split_heads(dense(width, "k")(located))
        v = split_heads(dense(width, "v")(h))
        attended = jax.nn.dot_product_attention(q, k, v).reshape(batch, length, width)
        tokens = tokens + dense(width, "out")(attended)

        h = nn.LayerNorm(NORM_EPSILON, dtype=self.dtype, name="norm_2")(tokens)
        h = nn.gelu(dense(self.mlp_width, "mlp_in")(h), approximate=False)
        return tokens + dense(width, "mlp_out")(h)


class CodePredictor(nn.Module):
    """Latent [B, h, w, C] -> logits over the VQ-VAE's codes [B, h * w, codebook_size].

    h * w must be `positions`: the position embedding fixes the crop (16x16 for 256x256 images).
    """

    codebook_size: int
    positions: int = 256
    width: int = 512
    layers: int = 9
    heads: int = 8
    mlp_width: int = 1024
    dtype: Any = None

    @nn.compact
    def __call__(self, latent: jax.Array) -> jax.Array:
        batch, height, width, channels = latent.shape
        positions = self.param(
            "positions", nn.initializers.normal(0.02), (self.positions, self.width)
        )
        tokens = latent.reshape(batch, height * width, channels)
        tokens = nn.Dense(self.width, dtype=self.dtype, name="embed")(tokens)
        for i in range(self.layers):
            layer = TransformerLayer(self.heads, self.mlp_width, self.dtype, name=f"layer_{i}")
            tokens = layer(tokens, positions)
        tokens = nn.LayerNorm(NORM_EPSILON, dtype=self.dtype, name="norm_out")(tokens)
        logits = nn.Dense(self.codebook_size, use_bias=False, dtype=self.dtype, name="predict")(
            tokens
        )
        return logits.astype(jnp.float32)
