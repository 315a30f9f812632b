import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glc_jax.losses import pixel


def test_means_of_each_image():
    x = jnp.zeros((2, 2, 2, 3))
    y = x.at[1, 0, 0].set(jnp.array([1.0, -2.0, 3.0]))
    np.testing.assert_allclose(pixel.l1(x, y), [0, 6 / 12])
    np.testing.assert_allclose(pixel.l2(x, y), [0, 14 / 12])


def test_half_precision_is_summed_in_float32():
    """256 x 256 x 3 ones overflow a bfloat16 sum, which stops growing at 256."""
    x = jnp.ones((1, 256, 256, 3), jnp.bfloat16)
    for loss, expected in ((pixel.l1, 2), (pixel.l2, 4)):
        value = loss(x, -x)
        assert value.dtype == jnp.float32
        np.testing.assert_allclose(value, expected)


@pytest.mark.parametrize("loss", [pixel.l1, pixel.l2, pixel.multiscale_l1, pixel.colour])
@pytest.mark.parametrize("shape", [(1, 8, 8, 3), (2, 8, 8, 1), (8, 8, 3)])
def test_pictures_of_other_shapes_are_not_broadcast(loss, shape):
    with pytest.raises(AssertionError):
        loss(jnp.ones((2, 8, 8, 3)), jnp.ones(shape))


def test_gradients():
    x, y = jax.random.normal(jax.random.key(0), (2, 2, 4, 4, 3))
    np.testing.assert_allclose(
        jax.grad(lambda x: pixel.l1(x, y).sum())(x), jnp.sign(x - y) / 48, rtol=1e-6
    )
    np.testing.assert_allclose(
        jax.grad(lambda x: pixel.l2(x, y).sum())(x), 2 * (x - y) / 48, rtol=1e-5
    )


def test_multiscale_l1_ignores_detail_and_sees_colour():
    checker = np.indices((16, 16)).sum(0) % 2 * 2.0 - 1
    detail = np.broadcast_to(checker[None, :, :, None], (1, 16, 16, 3)).astype(np.float32)
    flat = np.zeros_like(detail)
    assert float(pixel.multiscale_l1(detail, flat)[0]) == 0
    assert float(pixel.multiscale_l1(flat + 0.25, flat)[0]) == pytest.approx(0.25)


def test_colour_is_the_difference_of_each_blocks_mean():
    x = np.random.default_rng(0).normal(size=(2, 64, 96, 3)).astype(np.float32)
    wanted = np.zeros(2)
    for row in range(0, 64, 32):
        for column in range(0, 96, 32):
            means = x[:, row : row + 32, column : column + 32].mean((1, 2))
            wanted += np.abs(means).mean(1) / 6
    found = pixel.colour(x, np.zeros_like(x))
    assert (found.shape, found.dtype) == ((2,), jnp.float32)
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
    odd = x[:, :24, :40]
    wanted = np.abs(odd.reshape(2, 3, 8, 5, 8, 3).mean((2, 4))).mean((1, 2, 3))
    np.testing.assert_allclose(pixel.colour(odd, np.zeros_like(odd)), wanted, rtol=1e-4)
