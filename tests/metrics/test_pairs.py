"""PSNR, MS-SSIM and DISTS against the PyTorch packages' values, and their laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glc_jax.metrics import dists
from glc_jax.metrics.ms_ssim import MIN_SIZE, ms_ssim
from glc_jax.metrics.psnr import psnr

from .seeded import odd_sized_images

TOLERANCE = 1e-4


@pytest.fixture(params=[0, 1])
def pair(request, golden):
    index = request.param
    images = (jnp.asarray(golden[f"{name}_{index}"])[None] for name in ("original", "distorted"))
    return *images, lambda name: golden[f"{name}_{index}"]


def test_psnr_equals_the_published_value(pair):
    x, y, expected = pair
    np.testing.assert_allclose(jax.jit(psnr)(x, y)[0], expected("psnr"), atol=TOLERANCE)


def test_ms_ssim_equals_pytorch_msssim(pair):
    x, y, expected = pair
    found = jax.jit(ms_ssim)(x / 255, y / 255)
    np.testing.assert_allclose(found[0], expected("ms_ssim"), atol=TOLERANCE)


def test_dists_equals_dists_pytorch(pair):
    x, y, expected = pair
    found = jax.jit(dists.dists)(dists.load(), x / 255, y / 255)
    np.testing.assert_allclose(found[0], expected("dists"), atol=TOLERANCE)


def test_ms_ssim_of_odd_sizes(torch_references):
    x, y = map(jnp.asarray, odd_sized_images())
    np.testing.assert_allclose(
        jax.jit(ms_ssim)(x, y), torch_references["ms_ssim_odd"], atol=TOLERANCE
    )


def test_psnr_by_hand():
    x = jnp.full((2, 4, 4, 3), 100, jnp.uint8)
    y = x.at[1].set(90)
    np.testing.assert_allclose(psnr(x, y), [np.inf, 20 * np.log10(25.5)], rtol=1e-6)
    np.testing.assert_array_equal(psnr(x, y), psnr(y, x))  # uint8 must not wrap around


def test_equal_pictures():
    x = jax.random.uniform(jax.random.key(0), (1, MIN_SIZE, 170, 3))
    np.testing.assert_allclose(jax.jit(ms_ssim)(x, x), 1, atol=1e-6)
    x = x[:, :32, :40]
    np.testing.assert_allclose(jax.jit(dists.dists)(dists.load(), x, x), 0, atol=1e-5)


def test_the_picture_itself_is_among_the_features_of_dists():
    """With weights for nothing else: means and variances of x and y in [0, 1], by hand."""
    x, y = np.random.default_rng(0).uniform(0, 1, (2, 1, 32, 40, 3)).astype(np.float32)
    y = 0.3 * y + 0.2
    only = np.float32([1, 2, 3, *np.zeros(1472)])
    params = {**dists.load(), "alpha": only, "beta": 2 * only}
    a, b = (one[0].astype(np.float64).reshape(-1, 3) for one in (x, y))
    means, variances = [one.mean(0) for one in (a, b)], [one.var(0) for one in (a, b)]
    covariance = ((a - means[0]) * (b - means[1])).mean(0)
    texture = (2 * means[0] * means[1] + 1e-6) / (means[0] ** 2 + means[1] ** 2 + 1e-6)
    structure = (2 * covariance + 1e-6) / (variances[0] + variances[1] + 1e-6)
    expected = 1 - ([1, 2, 3] @ texture + 2 * ([1, 2, 3] @ structure)) / 18
    found = jax.jit(dists.dists)(params, jnp.asarray(x), jnp.asarray(y))
    np.testing.assert_allclose(found[0], expected, rtol=1e-4)


def test_too_small_for_five_scales():
    x = jnp.zeros((1, MIN_SIZE - 1, 300, 3))
    with pytest.raises(ValueError, match="161"):
        ms_ssim(x, x)


@pytest.mark.slow
def test_dists_has_a_gradient():
    x, y = jax.random.uniform(jax.random.key(0), (2, 1, 32, 32, 3))
    gradient = jax.jit(jax.grad(lambda x: dists.dists(dists.load(), x, y).sum()))(x)
    assert jnp.isfinite(gradient).all()
    assert jnp.abs(gradient).max() > 0
