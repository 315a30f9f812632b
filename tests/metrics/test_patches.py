import numpy as np
import pytest

from glc_jax.metrics import patches

# The 24 Kodak pictures: 18 lie, 6 stand.
KODAK = [(512, 768)] * 18 + [(768, 512)] * 6


@pytest.mark.parametrize(("size", "expected"), [(256, 192), (64, 4152)])
def test_published_counts_of_kodak(size, expected):
    assert sum(patches.count(height, width, size) for height, width in KODAK) == expected


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(95, 200, 3), (96, 200, 3 + 2), (96, 96, 1 + 1), (63, 640, 0), (64, 64, 1), (128, 128, 4 + 1)],
)
def test_shifted_patches_from_one_and_a_half_sizes_on(height, width, expected):
    assert patches.count(height, width, 64) == expected


@pytest.mark.parametrize(("side", "expected"), [(7, 1), (8, 1 + 1)])
def test_one_and_a_half_odd_sizes(side, expected):
    assert patches.count(side, side, 5) == expected
    assert len(patches.cut(np.zeros((side, side, 3), np.uint8), 5)) == expected


def test_patches_are_where_they_should_be():
    rows, columns = np.mgrid[:20, :27]
    image = np.stack([rows, columns], -1)
    found = patches.cut(image, 8)
    assert len(found) == patches.count(20, 27, 8) == 2 * 3 + 2 * 2
    assert found.shape[1:] == (8, 8, 2)
    corners = [tuple(patch[0, 0]) for patch in found]
    plain = [(0, 0), (0, 8), (0, 16), (8, 0), (8, 8), (8, 16)]
    assert corners == [*plain, (4, 4), (4, 12), (12, 4), (12, 12)]
    np.testing.assert_array_equal(found[-1], image[12:20, 12:20])


def test_smaller_than_a_patch():
    assert patches.cut(np.zeros((9, 40, 3), np.uint8), 16).shape == (0, 16, 16, 3)
