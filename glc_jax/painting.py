"""A style put on what is decoded: the style's latent, and G and l_hat changed by it.

All of it happens at the latent's resolution, whatever the size of the picture; G then runs as it
does otherwise, whole or tile by tile.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from glc_jax.models import colours, manner, stylist
from glc_jax.models.pixels import to_model_range
from glc_jax.models.stylist import Stylist
from glc_jax.models.vqvae import Generator

LARGEST = 512 * 512
"""Pixels of a style; larger ones are made smaller, which bounds what they cost."""

SHORTEST, LONGEST = 64, 1024
"""Pixels of a style's sides; where its shape allows no such size it is squeezed into one."""


DRAFT = 16
"""Latent positions a side of the small drawing whose colours are looked at."""


class Style(NamedTuple):
    """The style's latent [1, h, w, C] and colours, and how much the picture takes on: 0 to 1."""

    latent: jax.Array
    colours: colours.Moments
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


def style_of(latent: jax.Array, picture: np.ndarray, strength: float) -> Style:
    """A style from its latent [1, h, w, C] and its pixels uint8 [H, W, 3]."""
    return Style(latent, colours.moments(to_model_range(picture[None])), np.float32(strength))


@functools.partial(jax.jit, static_argnums=0)
def paint(
    network: Generator,
    params: Mapping[str, Any],
    own: Mapping[str, Any],
    latent: jax.Array,
    style: Style,
) -> Painted:
    """l_hat [1, h, w, C] in a style. network, params: G and its own; own: a stylist's."""
    painted = Stylist().apply({"params": own["network"]}, latent, style.latent)
    moved = stylist.own_generator(params, own)
    shape = (1, *(min(side, DRAFT) for side in latent.shape[1:3]), latent.shape[3])
    small = jax.image.resize(painted, shape, "linear")
    draft = manner.drawn(network, moved, small, manner.seen(network, params, style.latent))
    affine = colours.mapping(colours.moments(jnp.clip(draft.picture, -1, 1)), style.colours)
    moved = stylist.recoloured(manner.with_norms(moved, draft.norms), affine)
    between = latent + style.strength * (painted - latent)
    return Painted(between, stylist.between(params, moved, style.strength))
