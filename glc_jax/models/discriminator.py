"""The PatchGAN discriminator (Isola et al. 2017, arXiv 1611.07004), for training only."""

from typing import Any

import flax.linen as nn
import jax

LEAKY_SLOPE = 0.2


class PatchDiscriminator(nn.Module):
    """Image [B, H, W, 3] in [-1, 1] -> realness logits [B, H', W', 1], one a patch.

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
