"""Discriminators, for training only: of patches of a picture, or of what VGG16 sees in it."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

LEAKY_SLOPE = 0.2

FINE_LEVELS = 2
"""Maps of features that are looked at with a stride of 2."""

FEATURE_EPSILON = 1e-3
"""Added to a position's root mean square, which may be 0."""


class PatchDiscriminator(nn.Module):
    """Image [B, H, W, 3] in [-1, 1] -> realness logits [B, H', W', 1], one a patch.

    PatchGAN: Isola et al., "Image-to-image translation with conditional adversarial networks", 2017
    (arXiv 1611.07004).

    BatchNorm's running averages live in the collection `batch_stats`. Under pmap `axis_name`
    names the axis over which batch statistics are averaged; under jit the batch is global.
    """

    base_channels: int = 64
    layers: int = 3
    max_multiplier: int = 8
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        def conv(features: int, stride: int, use_bias: bool, name: str) -> nn.Conv:
            return nn.Conv(
                features,
                (4, 4),
                strides=stride,
                padding=((1, 1), (1, 1)),
                use_bias=use_bias,
                kernel_init=nn.initializers.normal(0.02),
                dtype=self.dtype,
                name=name,
            )

        h = nn.leaky_relu(conv(self.base_channels, 2, True, "conv_in")(x), LEAKY_SLOPE)
        for i in range(1, self.layers + 2):
            features = self.base_channels * min(2**i, self.max_multiplier)
            stride = 2 if i <= self.layers else 1
            h = conv(features, stride, False, f"conv_{i}")(h)
            h = nn.BatchNorm(
                use_running_average=not train,
                momentum=0.9,
                epsilon=1e-5,
                scale_init=lambda key, shape, dtype: (
                    1 + nn.initializers.normal(0.02)(key, shape, dtype)
                ),
                axis_name=self.axis_name,
                dtype=self.dtype,
                name=f"norm_{i}",
            )(h)
            h = nn.leaky_relu(h, LEAKY_SLOPE)
        return conv(1, 1, True, "conv_out")(h)


class FeatureDiscriminator(nn.Module):
    """Maps of features [B, h_i, w_i, C_i] -> realness logits [B, h'_i, w'_i, 1] of each map.

    Small heads on a network that already tells textures apart, and is not trained, learn within
    hundreds of steps: Sauer et al., "Projected GANs converge faster", 2021 (arXiv 2111.01007).
    The features of a position are brought to a mean square of 1; there is no normalisation else.
    """

    base_channels: int = 64
    dtype: Any = None

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array], train: bool = False) -> list[jax.Array]:
        def conv(features: int, side: int, stride: int, name: str) -> nn.Conv:
            return nn.Conv(features, (side, side), strides=stride, dtype=self.dtype, name=name)

        logits = []
        for level, x in enumerate(maps):
            x = x / (jnp.sqrt(jnp.mean(x**2, axis=-1, keepdims=True)) + FEATURE_EPSILON)
            h = nn.leaky_relu(conv(self.base_channels, 1, 1, f"in_{level}")(x), LEAKY_SLOPE)
            stride = 2 if level < FINE_LEVELS else 1
            h = conv(self.base_channels, 3, stride, f"middle_{level}")(h)
            logits.append(conv(1, 1, 1, f"out_{level}")(nn.leaky_relu(h, LEAKY_SLOPE)))
        return logits
