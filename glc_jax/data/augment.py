"""Random scale, crop and flip of one picture, from one random generator."""

import numpy as np
from PIL import Image

from glc_jax.errors import InputError


def random_crop(
    image: np.ndarray,
    crop: int,
    scale: tuple[float, float],
    flip: bool,
    rng: np.random.Generator,
) -> np.ndarray:
    """A crop x crop piece of uint8 `image` [H, W, 3], scaled by a random factor.

    The factor is log-uniform in `scale`, and never so small that the scaled picture would be
    smaller than the crop. Only the piece is resampled (Lanczos), so the cost does not depend on
    the picture's size. With `flip`, half of the pieces are mirrored.

    Raises `InputError` when no factor in `scale` makes the picture as large as the crop.
    """
    height, width = image.shape[:2]
    smallest = crop / min(height, width)
    low, high = max(scale[0], smallest), scale[1]
    if low > high:
        raise InputError(f"is {width}x{height}, too small for a crop of {crop}")
    factor = np.exp(rng.uniform(np.log(low), np.log(high)))
    side = min(crop / factor, height, width)
    top = rng.uniform(0, height - side)
    left = rng.uniform(0, width - side)
    mirrored = flip and rng.random() < 0.5
    if factor == 1:
        y, x = int(top), int(left)
        piece = image[y : y + crop, x : x + crop]
    else:
        # Resample from a copy of the piece and a margin for the filter, not the whole picture.
        margin = int(np.ceil(3 * max(side / crop, 1))) + 1
        y0, x0 = max(int(top) - margin, 0), max(int(left) - margin, 0)
        y1, x1 = int(top + side) + margin + 1, int(left + side) + margin + 1
        region = Image.fromarray(np.ascontiguousarray(image[y0:y1, x0:x1]))
        box = (left - x0, top - y0, left - x0 + side, top - y0 + side)
        box = (box[0], box[1], min(box[2], region.width), min(box[3], region.height))
        piece = np.asarray(region.resize((crop, crop), Image.Resampling.LANCZOS, box=box))
    return np.ascontiguousarray(piece[:, ::-1] if mirrored else piece)


def centre_crop(image: np.ndarray, crop: int) -> np.ndarray:
    """The middle crop x crop piece of `image`; `InputError` where the picture is smaller."""
    height, width = image.shape[:2]
    if min(height, width) < crop:
        raise InputError(f"is {width}x{height}, too small for a crop of {crop}")
    y, x = (height - crop) // 2, (width - crop) // 2
    return np.ascontiguousarray(image[y : y + crop, x : x + crop])
