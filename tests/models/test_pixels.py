"""Pixels come back from the models' range, and what lies between is the nearest one."""

import jax.numpy as jnp
import numpy as np

from glc_jax.models.pixels import to_model_range, to_pixels


def test_every_pixel_comes_back():
    pixels = np.arange(256, dtype=np.uint8)
    x = to_model_range(jnp.asarray(pixels))
    np.testing.assert_allclose(x, np.linspace(-1, 1, 256), atol=1e-6)
    assert x.dtype == jnp.float32
    for offset in (-0.49, 0.0, 0.49):
        found = to_pixels(x + np.float32(offset * 2 / 255))
        assert found.dtype == jnp.uint8
        np.testing.assert_array_equal(found, pixels)
    np.testing.assert_array_equal(to_pixels(jnp.asarray([-3.0, 3.0])), [0, 255])
