import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glc_jax.entropy import codebooks
from glc_jax.errors import ConfigError

KEY = jax.random.key(0)
CODEBOOK = jax.random.normal(KEY, (7, 4))
Z = jax.random.normal(jax.random.key(1), (50, 4))
ROWS = CODEBOOK[codebooks.nearest(Z, CODEBOOK)]


def test_the_nearest_row_is_the_nearest():
    distances = jnp.linalg.norm(Z[:, None] - CODEBOOK, axis=-1)
    np.testing.assert_array_equal(codebooks.nearest(Z, CODEBOOK), distances.argmin(axis=1))


@pytest.mark.parametrize("name", codebooks.GRADIENTS)
def test_what_comes_out_are_the_rows(name):
    np.testing.assert_allclose(codebooks.GRADIENTS[name](Z, ROWS), ROWS, atol=1e-6)


def test_straight_through_passes_the_gradient():
    slopes = jax.grad(lambda z: (codebooks.straight_through(z, ROWS) * ROWS).sum())(Z)
    np.testing.assert_allclose(slopes, ROWS)


def test_the_rotation_trick_has_the_gradient_of_the_rotation():
    """R rotates z onto its row within their plane and leaves the rest, by Rodrigues' formula."""
    upstream = jax.random.normal(jax.random.key(2), Z.shape)
    slopes = jax.grad(lambda z: (codebooks.rotation(z, ROWS) * upstream).sum())(Z)
    for z, row, g, found in np.stack([Z, ROWS, upstream, slopes], 1).astype(float):
        e, q = z / np.linalg.norm(z), row / np.linalg.norm(row)
        cosine = e @ q
        side = (q - cosine * e) / np.linalg.norm(q - cosine * e)
        sine = side @ q
        plane = np.stack([e, side])
        rotation = np.eye(4) - plane.T @ plane
        rotation += plane.T @ np.array([[cosine, -sine], [sine, cosine]]) @ plane
        np.testing.assert_allclose(rotation @ e, q, atol=1e-6)
        stretch = np.linalg.norm(row) / np.linalg.norm(z)
        np.testing.assert_allclose(found, stretch * rotation.T @ g, rtol=1e-3, atol=1e-4)


def test_the_rotation_trick_survives_zeros_and_opposites():
    z = jnp.array([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    rows = jnp.array([[1.0, 1.0], [-2.0, 0.0], [0.0, 0.0]])
    value, pull = jax.vjp(lambda z: codebooks.rotation(z, rows), z)
    np.testing.assert_allclose(value, rows, atol=1e-6)
    assert np.isfinite(pull(jnp.ones_like(z))[0]).all()


def test_a_moved_codebook_is_the_average_of_what_it_stands_for():
    """Against counts and sums kept in a plain loop; a row out of use stays where it is."""
    counts = np.full(7, 50 / 7)
    counts[6] = 0
    sums = counts[:, None] * np.asarray(CODEBOOK, float)
    codebook, use = CODEBOOK, jnp.asarray(counts / 50, jnp.float32)
    indices = np.where(np.arange(50) % 7 == 6, 0, np.arange(50) % 7)  # row 6 is never used
    for _ in range(100):
        share = np.bincount(indices, minlength=7) / 50
        batch = np.stack([np.asarray(Z)[indices == row].sum(axis=0) for row in range(7)])
        codebook = codebooks.moved(codebook, use, share, batch / 50, 0.9)
        use = 0.9 * use + 0.1 * share
        counts, sums = 0.9 * counts + 0.1 * 50 * share, 0.9 * sums + 0.1 * batch
    np.testing.assert_allclose(50 * use, counts, rtol=1e-4)
    np.testing.assert_allclose(codebook[:6], (sums[:6].T / counts[:6]).T, rtol=1e-4, atol=1e-5)
    means = np.stack([np.asarray(Z)[indices == row].mean(axis=0) for row in range(6)])
    np.testing.assert_allclose(codebook[:6], means, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(codebook[6], CODEBOOK[6])


@pytest.mark.parametrize("levels", [(8, 5, 5, 5), (3,), (4, 7, 3)])
def test_finite_scalars_reach_every_code_and_number_it(levels):
    scalar = codebooks.FiniteScalar(levels)
    every = jnp.arange(scalar.size)
    codes = scalar.codes(every)
    assert codes.shape == (scalar.size, len(levels))
    assert len(np.unique(np.asarray(codes), axis=0)) == scalar.size
    assert jnp.abs(codes).max() <= 1
    np.testing.assert_array_equal(scalar.indices(codes), every)
    z = 10 * jax.random.normal(KEY, (20_000, len(levels)))
    for channel, count in enumerate(levels):
        assert len(np.unique(np.asarray(scalar(z))[:, channel])) == count
    np.testing.assert_array_equal(scalar.codes(scalar.indices(scalar(z))), scalar(z))


def test_finite_scalars_pass_the_gradient_of_their_bound():
    scalar = codebooks.FiniteScalar((8, 5, 4, 3))
    slopes = jax.grad(lambda z: scalar(z).sum())(Z)
    half = (np.array([8, 5, 4, 3]) - 1) * 0.999 / 2
    offset = np.array([0.5, 0, 0.5, 0])
    expected = half / np.cosh(np.asarray(Z) + np.arctanh(offset / half)) ** 2 / [4, 2, 2, 1]
    np.testing.assert_allclose(slopes, expected, rtol=1e-4)
    np.testing.assert_allclose(scalar.bound(jnp.zeros(4)), np.zeros(4), atol=1e-6)


@pytest.mark.parametrize("levels", [(), (5, 2)])
def test_too_few_levels_are_refused(levels):
    with pytest.raises(ConfigError, match="levels"):
        codebooks.FiniteScalar(levels)
