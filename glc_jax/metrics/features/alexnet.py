"""AlexNet's five activations, as LPIPS reads them.

Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014
(arXiv 1404.5997), in torchvision's form.
"""

from collections.abc import Mapping

import jax

from glc_jax.metrics.features.layers import conv, max_pool

CHANNELS = (64, 192, 384, 256, 256)
MIN_SIZE = 31  # smaller, the third block has nothing left to pool


def features(params: Mapping, x: jax.Array) -> list[jax.Array]:
    """The ReLU outputs of the five convolutions: [B, h_i, w_i, CHANNELS[i]].

    `params` holds `conv_0` .. `conv_4`, each with `kernel` and `bias`; `x` [B, H, W, 3] is
    already normalised, H and W at least MIN_SIZE.
    """
    relu_1 = jax.nn.relu(conv(params["conv_0"], x, stride=4, padding=2))
    relu_2 = jax.nn.relu(conv(params["conv_1"], max_pool(relu_1, 3, 2), padding=2))
    relu_3 = jax.nn.relu(conv(params["conv_2"], max_pool(relu_2, 3, 2), padding=1))
    relu_4 = jax.nn.relu(conv(params["conv_3"], relu_3, padding=1))
    relu_5 = jax.nn.relu(conv(params["conv_4"], relu_4, padding=1))
    return [relu_1, relu_2, relu_3, relu_4, relu_5]
