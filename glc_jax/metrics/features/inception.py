"""Inception v3 as FID and KID use it: the network of 2015-12-05 with its TensorFlow 1 resize.

Szegedy et al., "Rethinking the Inception architecture", CVPR 2016 (arXiv 1512.00567), with what
the FID literature's network does differently from torchvision's: average pooling leaves the
padding out of the mean, the last block pools by maximum, and pictures are resized by TensorFlow
1's bilinear rule and scaled by (x - 128) / 128. Names of the weights are those of the published
PyTorch file (see `inception_weights`).
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from glc_jax.metrics.features.layers import conv, max_pool

FEATURES = 2048
INPUT_SIZE = 299
BATCH_NORM_EPSILON = 1e-3

# Every convolution, all followed by batch normalisation and ReLU: name, (kernel height, width),
# input and output channels.
Spec = tuple[str, tuple[int, int], int, int]


def _block_a(name: str, channels: int, pool: int) -> list[Spec]:
    return [
        (f"{name}.branch1x1", (1, 1), channels, 64),
        (f"{name}.branch5x5_1", (1, 1), channels, 48),
        (f"{name}.branch5x5_2", (5, 5), 48, 64),
        (f"{name}.branch3x3dbl_1", (1, 1), channels, 64),
        (f"{name}.branch3x3dbl_2", (3, 3), 64, 96),
        (f"{name}.branch3x3dbl_3", (3, 3), 96, 96),
        (f"{name}.branch_pool", (1, 1), channels, pool),
    ]


def _block_c(name: str, width: int) -> list[Spec]:
    return [
        (f"{name}.branch1x1", (1, 1), 768, 192),
        (f"{name}.branch7x7_1", (1, 1), 768, width),
        (f"{name}.branch7x7_2", (1, 7), width, width),
        (f"{name}.branch7x7_3", (7, 1), width, 192),
        (f"{name}.branch7x7dbl_1", (1, 1), 768, width),
        (f"{name}.branch7x7dbl_2", (7, 1), width, width),
        (f"{name}.branch7x7dbl_3", (1, 7), width, width),
        (f"{name}.branch7x7dbl_4", (7, 1), width, width),
        (f"{name}.branch7x7dbl_5", (1, 7), width, 192),
        (f"{name}.branch_pool", (1, 1), 768, 192),
    ]


def _block_e(name: str, channels: int) -> list[Spec]:
    return [
        (f"{name}.branch1x1", (1, 1), channels, 320),
        (f"{name}.branch3x3_1", (1, 1), channels, 384),
        (f"{name}.branch3x3_2a", (1, 3), 384, 384),
        (f"{name}.branch3x3_2b", (3, 1), 384, 384),
        (f"{name}.branch3x3dbl_1", (1, 1), channels, 448),
        (f"{name}.branch3x3dbl_2", (3, 3), 448, 384),
        (f"{name}.branch3x3dbl_3a", (1, 3), 384, 384),
        (f"{name}.branch3x3dbl_3b", (3, 1), 384, 384),
        (f"{name}.branch_pool", (1, 1), channels, 192),
    ]


CONVOLUTIONS: tuple[Spec, ...] = (
    ("Conv2d_1a_3x3", (3, 3), 3, 32),
    ("Conv2d_2a_3x3", (3, 3), 32, 32),
    ("Conv2d_2b_3x3", (3, 3), 32, 64),
    ("Conv2d_3b_1x1", (1, 1), 64, 80),
    ("Conv2d_4a_3x3", (3, 3), 80, 192),
    *_block_a("Mixed_5b", 192, 32),
    *_block_a("Mixed_5c", 256, 64),
    *_block_a("Mixed_5d", 288, 64),
    ("Mixed_6a.branch3x3", (3, 3), 288, 384),
    ("Mixed_6a.branch3x3dbl_1", (1, 1), 288, 64),
    ("Mixed_6a.branch3x3dbl_2", (3, 3), 64, 96),
    ("Mixed_6a.branch3x3dbl_3", (3, 3), 96, 96),
    *_block_c("Mixed_6b", 128),
    *_block_c("Mixed_6c", 160),
    *_block_c("Mixed_6d", 160),
    *_block_c("Mixed_6e", 192),
    ("Mixed_7a.branch3x3_1", (1, 1), 768, 192),
    ("Mixed_7a.branch3x3_2", (3, 3), 192, 320),
    ("Mixed_7a.branch7x7x3_1", (1, 1), 768, 192),
    ("Mixed_7a.branch7x7x3_2", (1, 7), 192, 192),
    ("Mixed_7a.branch7x7x3_3", (7, 1), 192, 192),
    ("Mixed_7a.branch7x7x3_4", (3, 3), 192, 192),
    *_block_e("Mixed_7b", 1280),
    *_block_e("Mixed_7c", 2048),
)


def features(params: Mapping, images: jax.Array) -> jax.Array:
    """The 2048 pooled features of each picture: float32 [B, 2048].

    `params` comes from `inception_weights.load`: for every name in CONVOLUTIONS a `kernel` and
    a `bias`, into which batch normalisation is folded. `images`: [B, H, W, 3] with values
    0..255, of any size, which is resized to 299 x 299.
    """
    net = _Network(params)
    x = (resize(images.astype(jnp.float32), INPUT_SIZE) - 128) / 128
    x = net.chain(x, "Conv2d_1a_3x3", stride=2)
    x = net.chain(x, "Conv2d_2a_3x3")
    x = max_pool(net.chain(x, "Conv2d_2b_3x3", same=True), 3, 2)
    x = net.chain(x, "Conv2d_3b_1x1", "Conv2d_4a_3x3")
    x = max_pool(x, 3, 2)
    for name in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
        x = net.block_a(name, x)
    x = net.block_b("Mixed_6a", x)
    for name in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
        x = net.block_c(name, x)
    x = net.block_d("Mixed_7a", x)
    x = net.block_e("Mixed_7b", x, _average_pool)
    x = net.block_e("Mixed_7c", x, _max_pool_same)
    return jnp.mean(x, axis=(1, 2))


class _Network:
    """The blocks, over one tree of weights."""

    def __init__(self, params: Mapping) -> None:
        self.params = params

    def chain(self, x: jax.Array, *names: str, stride: int = 1, same: bool = False) -> jax.Array:
        """Convolution and ReLU, one after the other; `same` pads each to keep the size."""
        for name in names:
            height, width = self.params[name]["kernel"].shape[:2]
            padding = ((height // 2,) * 2, (width // 2,) * 2) if same else 0
            x = jax.nn.relu(conv(self.params[name], x, stride, padding))
        return x

    def branch(self, x: jax.Array, block: str, *names: str) -> jax.Array:
        return self.chain(x, *(f"{block}.{name}" for name in names), same=True)

    def block_a(self, name: str, x: jax.Array) -> jax.Array:
        return _concatenate(
            self.branch(x, name, "branch1x1"),
            self.branch(x, name, "branch5x5_1", "branch5x5_2"),
            self.branch(x, name, "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"),
            self.branch(_average_pool(x), name, "branch_pool"),
        )

    def block_b(self, name: str, x: jax.Array) -> jax.Array:
        double = self.branch(x, name, "branch3x3dbl_1", "branch3x3dbl_2")
        return _concatenate(
            self.chain(x, f"{name}.branch3x3", stride=2),
            self.chain(double, f"{name}.branch3x3dbl_3", stride=2),
            max_pool(x, 3, 2),
        )

    def block_c(self, name: str, x: jax.Array) -> jax.Array:
        return _concatenate(
            self.branch(x, name, "branch1x1"),
            self.branch(x, name, *(f"branch7x7_{i}" for i in range(1, 4))),
            self.branch(x, name, *(f"branch7x7dbl_{i}" for i in range(1, 6))),
            self.branch(_average_pool(x), name, "branch_pool"),
        )

    def block_d(self, name: str, x: jax.Array) -> jax.Array:
        short = self.branch(x, name, "branch3x3_1")
        long = self.branch(x, name, *(f"branch7x7x3_{i}" for i in range(1, 4)))
        return _concatenate(
            self.chain(short, f"{name}.branch3x3_2", stride=2),
            self.chain(long, f"{name}.branch7x7x3_4", stride=2),
            max_pool(x, 3, 2),
        )

    def block_e(self, name: str, x: jax.Array, pool) -> jax.Array:
        single = self.branch(x, name, "branch3x3_1")
        double = self.branch(x, name, "branch3x3dbl_1", "branch3x3dbl_2")
        return _concatenate(
            self.branch(x, name, "branch1x1"),
            self.branch(single, name, "branch3x3_2a"),
            self.branch(single, name, "branch3x3_2b"),
            self.branch(double, name, "branch3x3dbl_3a"),
            self.branch(double, name, "branch3x3dbl_3b"),
            self.branch(pool(x), name, "branch_pool"),
        )


def _concatenate(*parts: jax.Array) -> jax.Array:
    return jnp.concatenate(parts, axis=-1)


def _average_pool(x: jax.Array) -> jax.Array:
    """Mean of the 3x3 neighbours that exist."""
    ones = jnp.ones((1, *x.shape[1:3], 1), x.dtype)
    return _window_sum(x) / _window_sum(ones)


def _window_sum(x: jax.Array) -> jax.Array:
    return jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 3, 3, 1), (1, 1, 1, 1), "SAME")


def _max_pool_same(x: jax.Array) -> jax.Array:
    """Maximum of the 3x3 neighbours; after a ReLU, padding by zero is padding by -infinity."""
    return max_pool(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), 3, 1)


def resize(x: jax.Array, size: int) -> jax.Array:
    """TensorFlow 1's bilinear resize without aligned corners: [B, H, W, C] -> [B, size, size, C].

    Output i samples the input at i * (H / size), not at the centres of pixels.
    """
    for axis in (1, 2):
        length = x.shape[axis]
        position = np.arange(size, dtype=np.float32) * np.float32(length / size)
        low = np.floor(position).astype(np.int32)
        high = np.minimum(low + 1, length - 1)
        shape = [1, 1, 1, 1]
        shape[axis] = size
        weight = (position - low).reshape(shape)
        below, above = jnp.take(x, low, axis), jnp.take(x, high, axis)
        x = below + (above - below) * weight
    return x
