"""K-means finds clusters, revival replaces exactly the dead codes."""

import jax
import jax.numpy as jnp
import numpy as np

from glc_jax.training.codebook import code_share, kmeans, perplexity, revive


def test_kmeans_finds_separate_clusters():
    rng = np.random.default_rng(0)
    truth = np.array([[0, 0], [10, 0], [0, 10], [10, 10]], np.float32)
    vectors = np.concatenate([c + rng.normal(0, 0.1, (200, 2)) for c in truth]).astype(np.float32)
    centres = np.asarray(kmeans(jnp.asarray(vectors), 12, jax.random.key(0)))
    distance = np.linalg.norm(vectors[:, None] - centres[None], axis=-1).min(1)
    assert distance.max() < 0.5  # every vector has a centre in its own cluster


def test_kmeans_of_fewer_vectors_than_centres_keeps_the_centres_apart():
    vectors = jnp.asarray([[0.0, 0.0], [1.0, 1.0], [5.0, 5.0]])
    centres = np.asarray(kmeans(vectors, 8, jax.random.key(1)))
    assert centres.shape == (8, 2)
    assert np.isfinite(centres).all()
    assert len(np.unique(centres, axis=0)) == 8


def test_codes_below_the_threshold_take_vectors_of_the_batch():
    codebook = jnp.arange(8.0).reshape(4, 2)
    use = jnp.asarray([0.6, 0.01, 0.385, 0.005])
    vectors = 100 + jnp.arange(6.0).reshape(3, 2)
    revived, fresh, dead = revive(codebook, use, vectors, 0.1, jax.random.key(0))
    assert dead.tolist() == [False, True, False, True]
    np.testing.assert_array_equal(revived[::2], codebook[::2])
    rows = {tuple(row) for row in np.asarray(vectors)}
    assert all(tuple(row) in rows for row in np.asarray(revived[1::2]))
    np.testing.assert_allclose(fresh, [0.6, 0.25, 0.385, 0.25])


def test_perplexity_counts_the_codes_in_even_use():
    share = code_share(jnp.asarray([[0, 1], [2, 2], [0, 1]]), 5)
    np.testing.assert_allclose(share, np.array([2, 2, 2, 0, 0]) / 6, rtol=1e-6)
    np.testing.assert_allclose(perplexity(share), 3.0, rtol=1e-5)
