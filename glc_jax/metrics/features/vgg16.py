"""VGG16's activations at the end of its five blocks, as LPIPS and DISTS read them.

Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition",
ICLR 2015 (arXiv 1409.1556), in torchvision's form (no batch normalisation).
"""

from collections.abc import Callable, Mapping

import jax

from glc_jax.metrics.features.layers import conv, max_pool

CHANNELS = (64, 128, 256, 512, 512)
BLOCKS = ((0, 1), (2, 3), (4, 5, 6), (7, 8, 9), (10, 11, 12))  # convolutions of each block
MIN_SIZE = 16


def _halve(x: jax.Array) -> jax.Array:
    return max_pool(x, 2, 2)


def features(
    params: Mapping, x: jax.Array, pool: Callable[[jax.Array], jax.Array] = _halve
) -> list[jax.Array]:
    """The last ReLU outputs of the five blocks: [B, h_i, w_i, CHANNELS[i]].

    `params` holds `conv_0` .. `conv_12`, each with `kernel` and `bias`; `x` [B, H, W, 3] is
    already normalised, H and W at least MIN_SIZE. `pool` stands between the blocks.
    """
    outputs = []
    for block in BLOCKS:
        if outputs:
            x = pool(x)
        for i in block:
            x = jax.nn.relu(conv(params[f"conv_{i}"], x, padding=1))
        outputs.append(x)
    return outputs
