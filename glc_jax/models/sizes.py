"""The sizes of pictures, y and z, from a config's `model` section."""

import math
from collections.abc import Mapping
from typing import Any

HYPER_DOWNSAMPLING = 4  # z has 1/4 of the size of y


def downsampling(model: Mapping[str, Any]) -> int:
    """f: how many image pixels a latent position spans in each direction."""
    return 2 ** (len(model["vqvae"]["multipliers"]) - 1)


def size_multiple(model: Mapping[str, Any]) -> int:
    """Height and width of what the model sees are multiples of this: f times that of z."""
    return downsampling(model) * HYPER_DOWNSAMPLING


def initial_side(model: Mapping[str, Any]) -> int:
    """The side of a square image that `GLC.init` can take: a code predictor fixes it."""
    if not model["code_predictor"]:
        return size_multiple(model)
    return downsampling(model) * math.isqrt(model["code_predictor"]["positions"])
