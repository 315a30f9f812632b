"""How far painted pictures are from the style and from what they show, and a sheet of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageOps

from glc_jax import painting
from glc_jax.losses import style as distances
from glc_jax.metrics import lpips_weights
from glc_jax.models.pixels import to_model_range

if TYPE_CHECKING:
    from glc_jax.codec import Codec

GAP = 4
"""Pixels between the pictures of a sheet."""


class Pair(NamedTuple):
    """One content in one style; each distance of the ordinary picture and of the painted one.

    style: as `losses.style.style`. grams: the mean over VGG16's layers of the squared distance of
    Gram matrices, each as a share of the ordinary picture's, so that this one has 1. content: of
    the original, as `losses.style.content`; another: that of another photograph instead.
    """

    style: tuple[float, float]
    grams: tuple[float, float]
    content: tuple[float, float]
    another: float


def squares(pictures: Sequence[np.ndarray], side: int) -> list[np.ndarray]:
    """The middle of each, uint8 [side, side, 3]."""
    sized = (ImageOps.fit(Image.fromarray(picture), (side, side)) for picture in pictures)
    return [np.asarray(picture) for picture in sized]


def painted(
    codec: Codec, contents: Sequence[np.ndarray], styles: Sequence[np.ndarray], strength: float
) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """Of each content, coded at the highest rate: as it is decoded, and in each style."""
    for content in contents:
        data = codec.compress(content, codec.highest_rate)
        yield (
            codec.decompress(data),
            [codec.decompress(data, style=style, strength=strength) for style in styles],
        )


def measure(
    contents: Sequence[np.ndarray],
    styles: Sequence[np.ndarray],
    drawn: Sequence[tuple[np.ndarray, Sequence[np.ndarray]]],
) -> Iterator[tuple[int, int, Pair]]:
    """(number of the content, of the style, what was measured) of `painted`'s pictures.

    Contents of one size. Raises WeightsError where VGG16's weights are not installed.
    """
    vgg = lpips_weights.load("vgg")
    content = jax.jit(distances.content)
    grams = jax.jit(distances.grams)
    wanted = [grams(vgg, _batch(painting.sized(style))) for style in styles]
    for i, (plain, in_styles) in enumerate(drawn):
        original = _batch(contents[i])
        another = float(content(vgg, _batch(contents[i - 1]), original)[0])
        shown = [float(content(vgg, _batch(plain), original)[0]), 0.0]
        begun = grams(vgg, _batch(plain))
        for j, picture in enumerate(in_styles):
            found = grams(vgg, _batch(picture))
            shown[1] = float(content(vgg, _batch(picture), original)[0])
            style = [float(distances.apart(g, wanted[j])[0]) for g in (begun, found)]
            shares = [
                jnp.sum((a - c) ** 2) / jnp.sum((b - c) ** 2)
                for a, b, c in zip(found[1:], begun[1:], wanted[j][1:], strict=True)
            ]
            share = float(jnp.exp(jnp.mean(jnp.log(jnp.stack(shares)))))
            yield i, j, Pair(tuple(style), (1.0, share), tuple(shown), another)


def sheet(
    styles: Sequence[np.ndarray],
    drawn: Sequence[tuple[np.ndarray, Sequence[np.ndarray]]],
    side: int,
) -> Image.Image:
    """Styles across, contents down, and each content in each style."""
    cell = side + GAP
    size = ((len(styles) + 1) * cell - GAP, (len(drawn) + 1) * cell - GAP)
    found = Image.new("RGB", size, "white")
    rows = [[None, *styles], *([plain, *in_styles] for plain, in_styles in drawn)]
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            if picture is not None:
                square = ImageOps.fit(Image.fromarray(picture), (side, side))
                found.paste(square, (x * cell, y * cell))
    return found


def _batch(picture: np.ndarray) -> jax.Array:
    return to_model_range(picture[None])
