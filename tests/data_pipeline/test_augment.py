"""Crops come from where they should, at the scale they should."""

import numpy as np
import pytest

from glc_jax.data.augment import centre_crop, random_crop
from glc_jax.errors import InputError


def ramp(height: int, width: int) -> np.ndarray:
    """Red is the row, green the column."""
    y, x = np.mgrid[:height, :width]
    return np.stack([y, x, np.zeros_like(x)], -1).astype(np.uint8)


def test_at_scale_one_a_crop_is_a_piece_of_the_picture():
    image = ramp(60, 80)
    for seed in range(20):
        piece = random_crop(image, 32, (1.0, 1.0), False, np.random.default_rng(seed))
        y, x = piece[0, 0, :2]
        np.testing.assert_array_equal(piece, image[y : y + 32, x : x + 32])


def test_every_position_is_reached():
    tops = {
        int(random_crop(ramp(36, 32), 32, (1.0, 1.0), False, np.random.default_rng(s))[0, 0, 0])
        for s in range(60)
    }
    assert tops == {0, 1, 2, 3}


@pytest.mark.parametrize("scale", [0.4, 0.5, 2.0])
def test_a_scaled_crop_spans_the_inverse_of_the_scale(scale):
    image = ramp(200, 220)
    piece = random_crop(image, 32, (scale, scale), False, np.random.default_rng(3)).astype(float)
    slope_y = (piece[24, 16, 0] - piece[8, 16, 0]) / 16
    slope_x = (piece[16, 24, 1] - piece[16, 8, 1]) / 16
    assert slope_y == pytest.approx(1 / scale, abs=0.1)
    assert slope_x == pytest.approx(1 / scale, abs=0.1)


def test_the_scale_is_raised_until_the_crop_fits():
    image = ramp(40, 100)
    piece = random_crop(image, 32, (0.1, 1.0), False, np.random.default_rng(0)).astype(float)
    assert piece[-1, 0, 0] - piece[0, 0, 0] <= 40


def test_as_many_crops_are_made_smaller_as_larger():
    """Between 1/4 and 4 half of the factors are below 1: their logarithms are drawn evenly."""
    image, smaller = ramp(200, 200), 0
    for seed in range(60):
        piece = random_crop(image, 32, (0.25, 4.0), False, np.random.default_rng(seed))
        smaller += int(piece[-1, 0, 0]) - int(piece[0, 0, 0]) > 31
    assert 20 < smaller < 40


def test_half_of_the_crops_are_mirrored():
    image = ramp(40, 40)
    mirrored = sum(
        random_crop(image, 32, (1.0, 1.0), True, np.random.default_rng(seed))[0, 0, 1]
        > random_crop(image, 32, (1.0, 1.0), True, np.random.default_rng(seed))[0, -1, 1]
        for seed in range(200)
    )
    assert 70 < mirrored < 130


def test_too_small_pictures_are_refused():
    with pytest.raises(InputError, match="30x40, too small for a crop of 32"):
        random_crop(ramp(40, 30), 32, (0.5, 1.0), True, np.random.default_rng(0))
    with pytest.raises(InputError, match="too small"):
        centre_crop(ramp(40, 30), 32)


def test_the_centre_crop_is_in_the_centre():
    assert centre_crop(ramp(40, 50), 32)[0, 0].tolist() == [4, 9, 0]
