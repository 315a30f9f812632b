"""Convolution and pooling as the feature networks use them (NHWC)."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from jax import lax


def conv(
    params: Mapping[str, jax.Array],
    x: jax.Array,
    stride: int = 1,
    padding: Sequence[tuple[int, int]] | int = 0,
) -> jax.Array:
    """2-D convolution with zero padding: [B, H, W, Cin] -> [B, H', W', Cout].

    `params` holds `kernel` [kh, kw, Cin, Cout] and may hold `bias` [Cout]. `padding` is one
    number for all four sides, or ((top, bottom), (left, right)).
    """
    if isinstance(padding, int):
        padding = ((padding, padding), (padding, padding))
    y = lax.conv_general_dilated(
        x,
        jnp.asarray(params["kernel"], x.dtype),
        window_strides=(stride, stride),
        padding=padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    if "bias" in params:
        y = y + jnp.asarray(params["bias"], x.dtype)
    return y


def max_pool(x: jax.Array, window: int, stride: int) -> jax.Array:
    """Max pooling without padding: [B, H, W, C] -> [B, (H-window)//stride + 1, ..., C].

    Written as maxima of shifted slices, along rows and then along columns: the gradient of
    `lax.reduce_window` is ten to fifty times slower on a CPU.
    """

    def along(x: jax.Array, axis: int) -> jax.Array:
        size = (x.shape[axis] - window) // stride + 1
        stop = (size - 1) * stride + 1
        pooled = lax.slice_in_dim(x, 0, stop, stride, axis)
        for start in range(1, window):
            pooled = jnp.maximum(pooled, lax.slice_in_dim(x, start, start + stop, stride, axis))
        return pooled

    return along(along(x, 1), 2)
