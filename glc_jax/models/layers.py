"""Convolution blocks that several parts of GLC share.

Everything is NHWC. A 1x1 convolution is a Dense layer over the last axis.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from glc_jax.models.given import Conv, Dense, Given

LEAKY_SLOPE_DEPTHWISE = 0.01
LEAKY_SLOPE_FFN = 0.1
LEAKY_SLOPE_UPSAMPLE = 0.1

# PyTorch's default, which published training starts from: a third of the variance that keeps the
# scale, so that residual branches begin small.
KERNEL_INIT = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")

# The last layer of a gated branch, whose input is a product: a chain of such blocks would
# otherwise grow like a power of its input.
GATED_OUT_INIT = nn.initializers.variance_scaling(1 / 30, "fan_in", "uniform")


def conv1x1(
    features: int, dtype: Any, name: str | None, init: nn.initializers.Initializer = KERNEL_INIT
) -> Dense:
    """A 1x1 convolution: [B, H, W, C] -> [B, H, W, features]."""
    return Dense(features, dtype=dtype, kernel_init=init, name=name)


def conv3x3(
    features: int,
    dtype: Any,
    name: str,
    stride: int = 1,
    init: nn.initializers.Initializer = KERNEL_INIT,
) -> Conv:
    """A 3x3 convolution, zero-padded by one: [B, H, W, C] -> [B, H/stride, W/stride, features]."""
    return Conv(
        features,
        (3, 3),
        strides=stride,
        padding=((1, 1), (1, 1)),
        kernel_init=init,
        dtype=dtype,
        name=name,
    )


def depthwise_conv3x3(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Nine shifted multiply-adds, zero-padded by one: x [B, H, W, C], kernel [3, 3, C].

    XLA's grouped convolution is many times slower than this on a CPU, and no faster elsewhere.
    """
    height, width = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return sum(
        padded[:, i : i + height, j : j + width] * kernel[i, j] for i in range(3) for j in range(3)
    )


PHASE_TAPS = np.array([[[1, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]], np.float32)
"""Which rows of a 3x3 kernel add up to tap t of phase p, [p, t, row]: after nearest-neighbour
doubling, two of the three rows (and columns) see the same input."""


@jax.jit
def doubled_conv3x3(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Nearest neighbour x2, then 3x3, zero-padded by one: [B, H, W, C] -> [B, 2H, 2W, features].

    kernel [3, 3, C, features]. Computed without the doubled input, as one 2x2 convolution for
    each of the four output phases: 16 products for 36.
    """
    b, h, w, _ = x.shape
    kernels = jnp.einsum("ptk,qsl,klio->pqtsio", PHASE_TAPS, PHASE_TAPS, kernel).astype(x.dtype)
    padding = ((1, 0), (0, 1))

    def phase(p: int, q: int) -> jax.Array:
        return jax.lax.conv_general_dilated(
            x,
            kernels[p, q],
            (1, 1),
            (padding[p], padding[q]),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    rows = [jnp.stack([phase(p, 0), phase(p, 1)], axis=3) for p in (0, 1)]
    return jnp.stack(rows, axis=2).reshape(b, 2 * h, 2 * w, kernel.shape[-1])


def sections_init(*values: float) -> nn.initializers.Initializer:
    """A bias [C] whose equal, contiguous sections begin at the given values."""

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        del key
        return jnp.repeat(jnp.asarray(values, dtype), shape[0] // len(values))

    return init


def pixel_shuffle(x: jax.Array) -> jax.Array:
    """[B, H, W, 4C] -> [B, 2H, 2W, C]; channel c * 4 + 2 * dy + dx goes to offset (dy, dx)."""
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, c // 4, 2, 2)
    return x.transpose(0, 1, 4, 2, 5, 3).reshape(b, 2 * h, 2 * w, c // 4)


class DoubledConv3x3(Given, nn.Module):
    """Nearest neighbour x2, then a 3x3 convolution with bias: [B, H, W, C] -> [B, 2H, 2W, C]."""

    init: nn.initializers.Initializer = KERNEL_INIT
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        kernel = self.param("kernel", self.init, (3, 3, channels, channels))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        (x, bias) = nn.dtypes.promote_dtype(x, bias, dtype=self.dtype)
        return doubled_conv3x3(x, kernel) + bias


class DepthwiseConv3x3(Given, nn.Module):
    """A depthwise 3x3 convolution with bias: [B, H, W, C] -> [B, H, W, C]."""

    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform", in_axis=(0, 1))
        kernel = self.param("kernel", init, (3, 3, channels))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        return depthwise_conv3x3(x, kernel) + bias


class GatedFeedForward(nn.Module):
    """x + W_out(a * leaky(b)), (a, b) = split(W_in x): the FFN of every transform block.

    Shapes: [B, H, W, C] -> [B, H, W, C].
    """

    expansion: int = 2
    dtype: Any = None
    bias_init: nn.initializers.Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        hidden = conv1x1(2 * self.expansion * channels, self.dtype, "conv_in")(x)
        a, b = jnp.split(hidden, 2, axis=-1)
        gated = a * nn.leaky_relu(b, LEAKY_SLOPE_FFN)
        conv_out = Dense(
            channels,
            dtype=self.dtype,
            kernel_init=GATED_OUT_INIT,
            bias_init=self.bias_init,
            name="conv_out",
        )
        return x + conv_out(gated)


class DepthConv(nn.Module):
    """1x1, leaky, depthwise 3x3, 1x1, plus the input: [B, H, W, C] -> [B, H, W, features].

    Where the channel count changes, the input is added through a 1x1 `adaptor`.
    """

    features: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        h = conv1x1(channels, self.dtype, "conv_in")(x)
        h = nn.leaky_relu(h, LEAKY_SLOPE_DEPTHWISE)
        h = DepthwiseConv3x3(self.dtype, name="depthwise")(h)
        h = conv1x1(self.features, self.dtype, "conv_out")(h)
        if channels != self.features:
            x = conv1x1(self.features, self.dtype, "adaptor")(x)
        return x + h


class DepthConvBlock(nn.Module):
    """DepthConv, then the gated FFN: the block of the hyperprior and of the context model.

    `bias_init` is that of the last layer, for blocks whose output has a meaning of its own.
    """

    features: int
    dtype: Any = None
    bias_init: nn.initializers.Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = DepthConv(self.features, self.dtype, name="depth_conv")(x)
        return GatedFeedForward(dtype=self.dtype, bias_init=self.bias_init, name="ffn")(x)


class GatedDepthConv(nn.Module):
    """x + W_out(depthwise(leaky(W_a x)) * W_b x): [B, H, W, C] -> [B, H, W, C]."""

    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        a = conv1x1(channels, self.dtype, "conv_a")(x)
        a = DepthwiseConv3x3(self.dtype, name="depthwise")(nn.leaky_relu(a, LEAKY_SLOPE_DEPTHWISE))
        b = conv1x1(channels, self.dtype, "conv_b")(x)
        return x + conv1x1(channels, self.dtype, "conv_out", GATED_OUT_INIT)(a * b)


class GatedDepthConvBlock(nn.Module):
    """GatedDepthConv, then the gated FFN: the block of g_a and g_s."""

    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = GatedDepthConv(self.dtype, name="depth_conv")(x)
        return GatedFeedForward(dtype=self.dtype, name="ffn")(x)


class ResidualUpsample(nn.Module):
    """Doubles height and width: [B, H, W, C] -> [B, 2H, 2W, features]."""

    features: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        h = pixel_shuffle(conv1x1(4 * self.features, self.dtype, "subpixel")(x))
        h = nn.leaky_relu(h, LEAKY_SLOPE_DEPTHWISE)
        h = nn.leaky_relu(conv3x3(self.features, self.dtype, "conv")(h), LEAKY_SLOPE_UPSAMPLE)
        return h + pixel_shuffle(conv1x1(4 * self.features, self.dtype, "shortcut")(x))
