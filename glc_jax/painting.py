"""A style put on what is decoded: the style's latent, and G and l_hat changed by it.

All of it happens at the latent's resolution, whatever the size of the picture; G then runs as it
does otherwise, whole or tile by tile.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image

from glc_jax.models import stylist

LARGEST = 512 * 512
"""Pixels of a style; larger ones are made smaller, which bounds what they cost."""

SHORTEST, LONGEST = 64, 1024
"""Pixels of a style's sides; where its shape allows no such size it is squeezed into one."""


class Style(NamedTuple):
    """The style's latent [1, h, w, C], and how much of it the picture takes on: 0 to 1."""

    latent: jax.Array
    strength: float


class Painted(NamedTuple):
    """What is drawn instead of l_hat, and the parameters of the G that draws it."""

    latent: jax.Array
    generator: Mapping[str, Any]


def sized(picture: np.ndarray) -> np.ndarray:
    """A style of any size, uint8 [H, W, 3], at the size at which it is looked at."""
    height, width = picture.shape[:2]
    factor = min((LARGEST / (height * width)) ** 0.5, 1)
    factor = max(factor, SHORTEST / min(height, width))
    sides = [min(max(round(factor * side), SHORTEST), LONGEST) for side in (width, height)]
    if sides == [width, height]:
        return picture
    return np.asarray(Image.fromarray(picture).resize(sides, Image.Resampling.LANCZOS))


def paint(
    generator: Mapping[str, Any], own: Mapping[str, Any], latent: jax.Array, style: Style
) -> Painted:
    """l_hat [1, h, w, C] in a style. own: a stylist's parameters; generator: the model's G's."""
    return Painted(*_paint(generator, own, latent, style.latent, np.float32(style.strength)))


@jax.jit
def _paint(generator, own, latent, style, strength):
    network = stylist.of(generator)
    painted, moves = network.apply({"params": own["network"]}, latent, style)
    moves = {path: move[0] for path, move in moves.items()}
    drawn_by = stylist.styled_generator(generator, own["generator"], moves, strength)
    return latent + strength * (painted - latent), drawn_by
