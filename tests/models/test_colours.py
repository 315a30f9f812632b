"""The map of colours: it gives one picture the other's moments, and moves colours the least."""

import jax
import jax.numpy as jnp
import numpy as np

from glc_jax.models import colours


def _mapped(x: jax.Array, y: jax.Array) -> jax.Array:
    affine = colours.mapping(colours.moments(x), colours.moments(y))
    return jnp.einsum("bhwc,bcd->bhwd", x, affine.matrix) + affine.offset[:, None, None]


def _pictures() -> tuple[jax.Array, jax.Array]:
    keys = jax.random.split(jax.random.key(0), 4)
    mixing = jax.random.normal(keys[0], (2, 1, 1, 3, 3))
    x, y = (jax.random.uniform(key, (2, 20, 30, 3), minval=-1) for key in keys[1:3])
    return 0.5 * x, jnp.einsum("bhwc,bhwcd->bhwd", y, jnp.broadcast_to(mixing, (2, 1, 1, 3, 3)))


def test_the_mapped_picture_has_the_wanted_moments():
    x, y = _pictures()
    y = jnp.concatenate([y, y[:, :5]], axis=1)  # of another size
    found, wanted = (colours.moments(picture) for picture in (_mapped(x, y), y))
    np.testing.assert_allclose(found.mean, wanted.mean, atol=1e-5)
    matrix = colours.mapping(colours.moments(x), wanted).matrix
    floor = colours.FLOOR * (np.eye(3) - matrix @ matrix)  # what the floor keeps from it
    np.testing.assert_allclose(found.covariance, wanted.covariance + floor, atol=1e-4)
    assert np.abs(floor).max() < 0.1 * np.abs(wanted.covariance).max()


def test_equal_moments_are_left_alone_and_the_map_turns_nothing():
    x, y = _pictures()
    np.testing.assert_allclose(_mapped(x, x), x, atol=1e-5)
    matrix = colours.mapping(colours.moments(x), colours.moments(y)).matrix
    np.testing.assert_allclose(matrix, np.swapaxes(matrix, 1, 2), atol=1e-5)
    assert np.linalg.eigvalsh(matrix).min() > 0


def test_a_picture_of_one_colour_stays_finite_and_so_does_its_gradient():
    flat = jnp.full((1, 4, 4, 3), 0.3)
    y = _pictures()[1][:1]
    found = _mapped(flat, y)
    np.testing.assert_allclose(found, jnp.broadcast_to(y.mean((1, 2)), found.shape), atol=1e-5)
    gradient = jax.grad(lambda x: (_mapped(x, y) ** 2).sum())(flat)
    assert jnp.isfinite(gradient).all()
