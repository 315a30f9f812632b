"""The spectral loss against a slow one written out, and what it is for: telling hatching apart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glc_jax.losses.spectrum import spectral_excess

FLOOR = 3 * (2 / 255) ** 2


def _plain(x, y):
    """The loss of one pair in NumPy, window by window."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(32) / 32)
    weights = np.outer(hann, hann) / np.sqrt(np.sum(np.outer(hann, hann) ** 2))

    def power(image, top, left):
        window = image[top : top + 32, left : left + 32]
        window = (window - window.mean((0, 1))) * weights[..., None]
        return np.sum(np.abs(np.fft.fft2(window, axes=(0, 1))) ** 2, axis=-1)

    total = []
    for top in range(0, x.shape[0] - 47, 16):
        for left in range(0, x.shape[1] - 47, 16):
            corners = [(top + i, left + j) for i in (0, 16) for j in (0, 16)]
            a, b = (np.mean([power(image, *c) for c in corners], 0) + FLOOR for image in (x, y))
            for v in range(32):
                for u in range(17):
                    if min(v, 32 - v) ** 2 + u**2 >= 4**2:
                        total.append(max(0, np.log(a[v, u] / b[v, u])))
    return np.mean(total)


def _waves(period):
    """Diagonal waves of a deviation of 0.1: [1, 96, 96, 3]."""
    along = (np.arange(96)[:, None] + np.arange(96)) / np.sqrt(2)
    waves = 0.1 * np.sqrt(2) * np.cos(2 * np.pi * along / period)
    return jnp.broadcast_to(waves[None, :, :, None], (1, 96, 96, 3))


def test_it_is_the_excess_of_the_spectra_of_neighbourhoods():
    x, y = np.random.default_rng(0).uniform(-1, 1, (2, 2, 70, 96, 3)).astype(np.float32)
    y[1] *= 0.1
    found = spectral_excess(jnp.asarray(x), jnp.asarray(y))
    expected = [_plain(*pair) for pair in zip(x, y, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_hatching_costs_and_coarse_waves_and_blur_do_not():
    texture = 0.1 * jax.random.normal(jax.random.key(1), (1, 96, 96, 3))
    plain = jnp.zeros_like(texture)
    assert float(spectral_excess(_waves(5), plain)[0]) > 0.2
    assert float(spectral_excess(_waves(5), texture)[0]) > 0.05
    assert float(spectral_excess(_waves(24), plain)[0]) < 0.01
    assert float(spectral_excess(texture / 10, texture)[0]) == 0


def test_only_the_reconstruction_has_a_gradient_and_it_is_finite_without_any_texture():
    x = jnp.zeros((1, 48, 48, 3))
    y = 0.3 * jax.random.normal(jax.random.key(0), x.shape)
    for pair in ((x, x), (y, x), (x, y), (y, y / 2)):
        of_x, of_y = jax.grad(lambda *a: spectral_excess(*a).sum(), (0, 1))(*pair)
        assert jnp.all(jnp.isfinite(of_x))
        assert not jnp.any(of_y)
    assert float(spectral_excess(x, x)[0]) == 0
    assert jnp.any(jax.grad(lambda a: spectral_excess(a, x).sum())(y))


def test_a_smaller_image_is_refused():
    with pytest.raises(ValueError, match="48"):
        spectral_excess(jnp.zeros((1, 47, 64, 3)), jnp.zeros((1, 47, 64, 3)))
