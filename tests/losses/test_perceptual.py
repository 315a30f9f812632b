"""DISTS as a training loss; LPIPS's gradient is tested with the metric (tests/metrics)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glc_jax.losses import perceptual
from glc_jax.metrics import dists

WINDOW = 32

_loss = jax.jit(perceptual.dists, static_argnums=(3, 4))
_metric = jax.jit(dists.dists)


def _pair():
    return jax.random.uniform(jax.random.key(5), (2, 1, 48, 48, 3), minval=-1)


@jax.jit
def _of_params(params, x, y):
    return jax.grad(lambda x, y: perceptual.dists(params, x, y, WINDOW).sum(), (0, 1))(x, y)


def _gradients(x, y):
    return _of_params(dists.load(), x, y)


def test_it_is_the_metric_of_the_centres():
    x, y = _pair()
    params = dists.load()
    centres = [(image[:, 8:40, 8:40] + 1) / 2 for image in (x, y)]
    found = _loss(params, x, y, WINDOW, 1)
    np.testing.assert_allclose(found, _metric(params, *centres), rtol=1e-5)
    assert float(found[0]) > 0.01
    whole = _loss(params, x, y, 200, 1)
    np.testing.assert_allclose(whole, _metric(params, (x + 1) / 2, (y + 1) / 2), rtol=1e-5)


def test_centres_stand_side_by_side():
    x, y = jax.random.uniform(jax.random.key(6), (2, 4, 32, 32, 3), minval=-1)
    params = dists.load()
    found = _loss(params, x, y, WINDOW, 2)
    rows = [jnp.stack([jnp.hstack(image[:2]), jnp.hstack(image[2:])]) for image in (x, y)]
    np.testing.assert_allclose(found, _metric(params, *((r + 1) / 2 for r in rows)), rtol=1e-5)
    with pytest.raises(ValueError, match="groups of 3"):
        perceptual.dists(params, x, y, WINDOW, group=3)


def test_only_the_centre_of_the_reconstruction_gets_a_gradient():
    to_x, to_y = _gradients(*_pair())
    np.testing.assert_array_equal(to_y, 0)
    inside = np.zeros(to_x.shape, bool)
    inside[:, 8:40, 8:40] = True
    assert jnp.abs(to_x[inside]).max() > 0
    np.testing.assert_array_equal(to_x[~inside], 0)


@pytest.mark.parametrize("level", [-1.0, 0.0])
def test_gradient_is_finite_on_flat_images(level):
    """A flat window has features without variance."""
    _, y = _pair()
    to_x, _ = _gradients(jnp.full_like(y, level), y)
    assert jnp.isfinite(to_x).all()
    assert jnp.abs(to_x).max() > 0
