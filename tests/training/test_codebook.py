"""K-means finds clusters, revival replaces exactly the dead codes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glc_jax.training.codebook import Codebooks, code_share, kmeans, perplexity, revive


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


def test_codes_below_the_threshold_of_an_even_share_take_vectors_of_the_batch():
    codebook = jnp.arange(8.0).reshape(4, 2)
    use = jnp.asarray([0.62, 0.02, 0.35, 0.05])  # the threshold is 0.1 / 4
    vectors = 100 + jnp.arange(6.0).reshape(3, 2)
    revived, fresh, dead = revive(codebook, use, vectors, 0.1, jax.random.key(0))
    assert dead.tolist() == [False, True, False, False]
    np.testing.assert_array_equal(revived[jnp.array([0, 2, 3])], codebook[jnp.array([0, 2, 3])])
    assert tuple(np.asarray(revived[1])) in {tuple(row) for row in np.asarray(vectors)}
    np.testing.assert_allclose(fresh, [0.62, 0.25, 0.35, 0.05])


@pytest.mark.parametrize(("step", "due"), [(0, False), (2, True), (3, False), (5, True)])
def test_dead_codes_are_revived_every_so_many_steps_with_their_average(step, due):
    books = Codebooks(("a/codebook",), decay=0.5, dead_below=0.1, revive_every=3)
    trained = {"a/codebook": jnp.arange(8.0).reshape(4, 2), "a/kernel": jnp.ones(3)}
    ema = {name: leaf + 0.5 for name, leaf in trained.items()}
    use = {"a/codebook": jnp.asarray([0.5, 0.02, 0.44, 0.04])}
    share = {"a/codebook": jnp.asarray([0.6, 0.0, 0.4, 0.0])}
    vectors = {"a/codebook": jnp.full((2, 3, 2), 100.0)}
    kept = books.keep_in_use(step, trained, ema, use, share, vectors, jax.random.key(0))
    dead = [False, due, False, due]  # running shares 0.01 and 0.02, below 0.1 / 4
    for found, before in ((kept.trained, trained), (kept.ema, ema)):
        expected = np.where(np.array(dead)[:, None], 100.0, before["a/codebook"])
        np.testing.assert_array_equal(found["a/codebook"], expected)
        np.testing.assert_array_equal(found["a/kernel"], before["a/kernel"])
    expected = np.where(dead, 0.25, [0.55, 0.01, 0.42, 0.02])
    np.testing.assert_allclose(kept.code_use["a/codebook"], expected, rtol=1e-6)
    np.testing.assert_allclose(kept.metrics["codes/a/alive"], 0.5)


def test_a_codebook_that_does_not_train_is_followed_and_left_alone():
    books = Codebooks(("a/codebook",), decay=0.5, dead_below=0.9, revive_every=1)
    use = {"a/codebook": jnp.asarray([1.0, 0.0])}
    share = {"a/codebook": jnp.asarray([0.5, 0.5])}
    kept = books.keep_in_use(0, {}, {}, use, share, {}, jax.random.key(0))
    assert (kept.trained, kept.ema) == ({}, {})
    np.testing.assert_allclose(kept.code_use["a/codebook"], [0.75, 0.25])


def test_perplexity_counts_the_codes_in_even_use():
    share = code_share(jnp.asarray([[0, 1], [2, 2], [0, 1]]), 5)
    np.testing.assert_allclose(share, np.array([2, 2, 2, 0, 0]) / 6, rtol=1e-6)
    np.testing.assert_allclose(perplexity(share), 3.0, rtol=1e-5)
